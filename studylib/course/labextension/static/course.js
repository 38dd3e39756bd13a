// What JupyterLab lacks for the course. Written by hand in the form in which it loads a built extension, so that nothing
// has to be built.
(() => {
  // JupyterLab chooses a viewer by a file's name alone. overrides.json says that Python files open as notebooks; this
  // takes those out that are no week (weeks/NN_name/NN_name.py): exercises and the package's modules open as text.
  const pythonText = {
    id: "study-course:python-text",
    autoStart: true,
    activate: (app) => {
      const python = app.docRegistry.getFileType("python");
      app.docRegistry.addFileType({ ...python, name: "python-text", extensions: [], pattern: "^(?!\\d\\d_).*\\.py$" });
    },
  };
  // A figure's text alternative is in its output's metadata (studylib.plots), where JupyterLab does not look for it.
  const alternatives = ({ IRenderMimeRegistry, RenderedImage }) => ({
    id: "study-course:alternatives",
    autoStart: true,
    requires: [IRenderMimeRegistry],
    activate: (app, registry) => {
      const createRenderer = (options) => {
        const image = new RenderedImage(options);
        const renderModel = image.renderModel.bind(image);
        image.renderModel = async (model) => {
          await renderModel(model);
          const { alt } = model.metadata[options.mimeType] ?? {};
          if (alt) image.node.querySelector("img").alt = alt;
        };
        return image;
      };
      registry.addFactory({ safe: true, mimeTypes: ["image/png"], defaultRank: 90, createRenderer });
    },
  });
  let shared; // JupyterLab's own packages: name, version, how to get it
  const get = async () => {
    const rendermime = (await Object.values(shared["@jupyterlab/rendermime"])[0].get())();
    return () => ({ __esModule: true, default: [pythonText, alternatives(rendermime)] });
  };
  window._JUPYTERLAB = window._JUPYTERLAB || {};
  window._JUPYTERLAB["study-course"] = { init: (scope) => void (shared = scope), get };
})();
