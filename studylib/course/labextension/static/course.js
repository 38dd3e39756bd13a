// JupyterLab chooses a viewer by a file's name alone. overrides.json says that Python files open as notebooks; this
// takes those out that are no week (weeks/NN_name/NN_name.py): exercises and the package's modules open as text.
// Written by hand in the form in which JupyterLab loads a built extension, so that nothing has to be built.
(() => {
  const plugin = {
    id: "study-course:python-text",
    autoStart: true,
    activate: (app) => {
      const python = app.docRegistry.getFileType("python");
      app.docRegistry.addFileType({ ...python, name: "python-text", extensions: [], pattern: "^(?!\\d\\d_).*\\.py$" });
    },
  };
  const extension = { __esModule: true, default: plugin };
  window._JUPYTERLAB = window._JUPYTERLAB || {};
  window._JUPYTERLAB["study-course"] = { init: () => {}, get: () => Promise.resolve(() => extension) };
})();
