"""Makes `pytest --nbval weeks/` right without further options, and keeps what differed in build/nbval/.

Our patterns, this Python's kernel, a time limit, and MNIST, of which the stored outputs are, before the first cell.
"""

import shutil
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent
DIFFERED = ROOT / "build" / "nbval"


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """In the process that starts the workers, if there are any."""
    if not getattr(config.option, "nbval", False):
        return
    # The cells of a notebook share a kernel, so they stay on one worker.
    if getattr(config.option, "numprocesses", None) and config.option.dist in ("no", "load"):
        config.option.dist = "loadfile"
    if config.option.collectonly:
        return
    for path in chosen(config):
        shutil.rmtree(DIFFERED / path.stem, ignore_errors=True)
        fetch_data(path)


def pytest_configure(config: pytest.Config) -> None:
    option = config.option
    if not getattr(option, "nbval", False):
        return
    option.nbval_sanitize_with = option.nbval_sanitize_with or str(ROOT / "nbval-sanitize.cfg")
    option.nbval_current_env = option.nbval_current_env or not option.nbval_kernel_name
    # A dead kernel is only noticed at this limit, and nbval's own is 2000 s.
    option.nbval_cell_timeout = min(option.nbval_cell_timeout, 300)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: Any, call: pytest.CallInfo) -> Generator[None, Any, Any]:
    report = yield
    if call.when == "call" and report.failed and getattr(item, "test_outputs", None) is not None:
        folder = DIFFERED / item.path.stem / f"cell-{item.cell_num:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cell.py").write_text(item.cell.source + "\n", encoding="utf-8")
        for name, outputs in {"stored": item.cell.outputs, "new": item.test_outputs}.items():
            (folder / f"{name}.txt").write_text(as_compared(item, outputs), encoding="utf-8")
        report.sections.append(("kept", f"{folder.relative_to(ROOT).as_posix()}: cell.py, stored.txt, new.txt"))
    return report


def as_compared(cell: Any, outputs: "list[NotebookNode]") -> str:
    """Outputs as text, after nbval-sanitize.cfg; pictures are not compared and only named."""
    parts = []
    for output in outputs:
        if output.output_type == "stream":
            parts.append(f"--- {output.name}\n{output.text}")
        elif output.output_type == "error":
            parts.append("\n".join(["--- error", *output.traceback]))
        for kind, value in output.get("data", {}).items():
            parts.append(f"--- {kind}\n{'' if kind.startswith('image/') else value}")
    return "".join(cell.sanitize(part.rstrip("\n")) + "\n" for part in parts)


def chosen(config: pytest.Config) -> list[Path]:
    """The notebooks below the paths of the command line."""
    paths = [Path(config.invocation_params.dir, argument.partition("::")[0]) for argument in config.args]
    found = [[path] if path.suffix == ".ipynb" else path.rglob("*.ipynb") for path in paths]
    return sorted({path.resolve() for group in found for path in group if ".ipynb_checkpoints" not in path.parts})


def fetch_data(path: Path) -> None:
    """What a notebook reads is there before it runs: a cell that fetches says so, and its output is compared."""
    import nbformat

    from studylib.course import notebooks
    from studylib.data import DataUnavailable

    try:
        notebooks.fetch_data(nbformat.read(path, as_version=4), path.parent)
    except DataUnavailable as error:
        raise pytest.UsageError(
            f"the outputs stored in {path.name} are made from data that is not here: run the set-up first, with a "
            f"network (python3 bootstrap.py setup). {error}"
        ) from None
