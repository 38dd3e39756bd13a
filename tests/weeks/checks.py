"""What must be true of a stored notebook, as functions that return the problems they find."""

import base64
import difflib
import itertools
import re
from pathlib import Path

from nbformat import NotebookNode

from studylib.course import notebooks, week

MEGABYTES = 2
# An absolute path of any system, or of a package: /a/b, C:\a, site-packages. Addresses of the net are none.
MACHINE_PATH = re.compile(r"(?<![\w./:<~-])~?/(?:[\w.@+-]+/)+[\w.@+-]*|\b[A-Za-z]:\\\w|site-packages|file://")
NOT_COMPARED = {"nbval-ignore-output", "nbval-skip"}


def load(source: Path) -> tuple[NotebookNode, NotebookNode]:
    """(what the .py says, what the .ipynb beside it stores)"""
    return notebooks.read(source), notebooks.read_twin(source.with_suffix(".ipynb"))


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell: NotebookNode) -> set[str]:
    return set(cell.metadata.get("tags", []))


def texts(cell: NotebookNode) -> list[str]:
    """Everything a cell shows but its pictures."""
    shown = []
    for output in cell.outputs:
        shown += [output.get("text", ""), *output.get("traceback", [])]
        shown += [str(value) for kind, value in output.get("data", {}).items() if not kind.startswith("image/")]
    return shown


def differences(source: Path) -> list[str]:
    """Cells that are not those of the .py: their order, kind, tags or text; the first lines that differ."""
    sides = []
    for notebook in load(source):
        cells = [
            f"{cell.cell_type} {sorted(tags(cell))} {cell.id} {cell.metadata.get('jupyter')}\n{cell.source}"
            for cell in notebook.cells
        ]
        sides.append("\n".join(cells).splitlines())
    found = difflib.unified_diff(sides[0], sides[1], source.name, source.with_suffix(".ipynb").name, lineterm="", n=0)
    return list(itertools.islice(found, 12))


def as_jupyterlab_saves(source: Path) -> list[str]:
    """The .py is to the letter what JupyterLab writes when the notebook is saved, so that saving changes nothing."""
    saved = notebooks.as_source(load(source)[1])
    found = difflib.unified_diff(source.read_text(encoding="utf-8").splitlines(), saved.splitlines(), lineterm="", n=0)
    return list(itertools.islice(found, 12))


def never_executed(source: Path) -> list[str]:
    """Code cells that were not run from top to bottom: nbval does not compare a cell without a number."""
    cells = code_cells(load(source)[1])
    return [
        f"cell [{cell.execution_count}] should be [{n}]: {cell.source[:60]!r}"
        for n, cell in enumerate(cells, 1)
        if cell.execution_count != n
    ]


def errors_and_warnings(source: Path) -> list[str]:
    return [
        f"{output.get('ename', 'stderr')} in [{cell.execution_count}]: "
        f"{str(output.get('evalue', output.get('text')))[:200]}"
        for cell in code_cells(load(source)[1])
        for output in cell.outputs
        if output.output_type == "error" or output.get("name") == "stderr"
    ]


def machine_paths(source: Path) -> list[str]:
    """Paths of somebody's machine, in an output or in the code."""
    return [
        f"[{cell.execution_count}] {match[0]!r}"
        for cell in code_cells(load(source)[1])
        for text in [cell.source, *texts(cell)]
        for match in MACHINE_PATH.finditer(text)
    ]


def noise(source: Path) -> list[str]:
    """What changes from run to run or machine to machine: times, versions, widgets, redrawn progress bars."""
    stored = load(source)[1]
    found = [
        f"notebook metadata {key!r}" for key in stored.metadata.keys() - {"jupytext", "kernelspec", "language_info"}
    ]
    own = notebooks.metadata(stored.metadata.get("language_info", {}).get("version", ""))
    found += [
        f"{key} {stored.metadata.get(key)}, expected {own[key]}" for key in own if stored.metadata.get(key) != own[key]
    ]
    for number, cell in enumerate(stored.cells, 1):
        found += [f"cell {number}: metadata {key!r}" for key in cell.metadata.keys() - {"tags", "jupyter"}]
        for output in cell.get("outputs", []):
            found += [f"cell {number}: a widget" for kind in output.get("data", {}) if "widget" in kind]
            if b"Software" in base64.b64decode(output.get("data", {}).get("image/png", "")):
                found.append(f"cell {number}: a picture with the version of what drew it: call plots.use_style()")
            if "\r" in output.get("text", ""):
                found.append(f"cell {number}: a progress bar in several states")
    return found


def litter(source: Path) -> list[str]:
    """What nobody wanted to see: a figure twice (returned by a cell that also draws it), an object's address."""
    found = []
    for cell in code_cells(load(source)[1]):
        pictures = [output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})]
        if len(set(pictures)) < len(pictures):
            found.append(f"[{cell.execution_count}] shows a figure twice: end it with a semicolon or plt.close()")
        addresses = [match[0] for text in texts(cell) for match in re.finditer(r"<[\w.]+[^<>\n]* at 0x\w+>", text)]
        found += [f"[{cell.execution_count}] shows {address}" for address in addresses]
    return found


def parameters(source: Path) -> list[str]:
    """One cell is tagged `parameters` and sets FAST = True, SEED = 0 and a relative DATA."""
    stored = load(source)[1]
    if (tagged := sum("parameters" in tags(cell) for cell in stored.cells)) != 1:
        return [f"{tagged} cells are tagged parameters"]
    values = notebooks.defaults(stored)
    if (values.get("FAST"), values.get("SEED")) != (True, 0) or not str(values.get("DATA", "/")).startswith(".."):
        return [f"the parameters are {values}, expected FAST = True, SEED = 0 and DATA, a path from the notebook"]
    return []


def too_little_compared(source: Path) -> list[str]:
    """nbval must compare at least half of the cells that show something."""
    shown = [cell for cell in code_cells(load(source)[1]) if cell.outputs]
    compared = [cell for cell in shown if not tags(cell) & NOT_COMPARED]
    return [] if 2 * len(compared) >= len(shown) > 0 else [f"{len(compared)} of {len(shown)} outputs are compared"]


def too_large(source: Path) -> list[str]:
    size = source.with_suffix(".ipynb").stat().st_size / 1e6
    return [] if size <= MEGABYTES else [f"{size:.1f} MB, at most {MEGABYTES}"]


def figures(source: Path) -> list[str]:
    """The picture files that README and site show are those of the stored notebook."""
    named = notebooks.figures(load(source)[1])
    files = {path.stem: path.read_bytes() for path in source.parent.glob("*.png")}
    return [f"{name}.png" for name in named.keys() | files.keys() if named.get(name) != files.get(name)]


def run_sheet(source: Path) -> list[str]:
    """week.toml is right, and every section that it names is a heading of the notebook."""
    text = "\n".join(cell.source for cell in load(source)[0].cells if cell.cell_type == "markdown")
    headings = set(re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE))
    parts = [part for hour in week.load(source.parent).hours for part in hour.parts]
    return [f"no heading {part.section!r}" for part in parts if part.section and part.section not in headings]


ALL = [
    differences,
    as_jupyterlab_saves,
    never_executed,
    errors_and_warnings,
    machine_paths,
    noise,
    litter,
    parameters,
    too_little_compared,
    too_large,
    figures,
    run_sheet,
]
