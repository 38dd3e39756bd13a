"""Makes the participants' notebook of a meeting, exercises/WEEK/meeting.ipynb: the week's own with gaps to be filled.

A gap is a marked region of a code cell in the notebook's .py; the next code cell checks it:

    # BEGIN SOLUTION, 3 minutes: exchange group and place
    dealt = x.reshape(batch, groups, -1, height, width).transpose(1, 2)
    # END SOLUTION

In the participants' notebook the region is `...  # your turn, 3 minutes: exchange group and place`.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbformat import NotebookNode

from studylib import files
from studylib.course import stored
from studylib.errors import StudyError

NAME = "meeting.ipynb"
MINUTES = range(2, 6)  # what a gap may take
REGION = re.compile(
    r"^(?P<indent> *)# BEGIN SOLUTION, (?P<minutes>\d+) minutes: (?P<what>\S[^\n]*)\n"
    r"(?P<solution>.*?)^(?P=indent)# END SOLUTION$",
    re.MULTILINE | re.DOTALL,
)
MARK = re.compile(r"^ *# *(BEGIN|END) SOLUTION", re.MULTILINE)
MARK_LINE = "# BEGIN SOLUTION, 3 minutes: WHAT ... # END SOLUTION, both at the same indentation"
UNFILLED = re.compile(r"^ *\.\.\.  # your turn, \d+ minutes: ", re.MULTILINE)


class Gap(NamedTuple):
    """A gap of a notebook. cell, check: indices of its cell and of the code cell that checks it.

    solved, open: its cell's code with the solution, and as a participant gets it.
    """

    cell: int
    check: int
    minutes: int
    what: str
    solved: str
    open: str

    @property
    def solution(self) -> str:
        found = REGION.search(self.solved)
        assert found is not None
        return found["solution"]


def gaps(notebook: NotebookNode) -> list[Gap]:
    """The gaps of a week's notebook, in order. Raises StudyError where a mark is wrong or a gap has no check."""
    found = []
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type != "code" or not (marks := MARK.findall(cell.source)):
            continue
        first = next(line for line in cell.source.splitlines() if MARK.match(line)).strip()
        match = REGION.search(cell.source)
        if match is None or marks != ["BEGIN", "END"]:
            raise StudyError(f"a cell with {first!r}: expected one region a cell, {MARK_LINE}")
        minutes, what = int(match["minutes"]), match["what"].strip()
        if minutes not in MINUTES:
            raise StudyError(f"{first!r}: a gap has {MINUTES[0]} to {MINUTES[-1]} minutes")
        if not match["solution"].strip():
            raise StudyError(f"{first!r}: the region is empty, expected the solution in it")
        check = _next_code(notebook.cells, index)
        if check is None or MARK.search(notebook.cells[check].source):
            raise StudyError(f"{first!r}: the next code cell must check it")
        line = f"{match['indent']}...  # your turn, {minutes} minutes: {what}"
        left = cell.source[: match.start()] + line + cell.source[match.end() :]
        found.append(Gap(index, check, minutes, what, cell.source, left))
    return found


def _next_code(cells: Sequence[NotebookNode], index: int) -> int | None:
    return next((n for n in range(index + 1, len(cells)) if cells[n].cell_type == "code"), None)


def participants(notebook: NotebookNode) -> NotebookNode:
    """The notebook with its gaps open and without outputs; a gap's cell names its check, and `made` tells changes."""
    cells = []
    opened = {gap.cell: gap for gap in gaps(notebook)}
    for index, cell in enumerate(notebook.cells):
        new = nbformat.from_dict(
            {key: value for key, value in cell.items() if key not in ("outputs", "execution_count")}
        )
        if cell.cell_type == "code":
            new |= {"outputs": [], "execution_count": None}
        if gap := opened.get(index):
            new.source = gap.open
            new.metadata = nbformat.from_dict({**cell.metadata, "gap": {"check": notebook.cells[gap.check].id}})
        cells.append(new)
    # Named here, or JupyterLab would pair it with a .py, as it pairs the weeks' own.
    metadata = {"jupytext": {"formats": "ipynb"}, "kernelspec": dict(notebook.metadata.kernelspec)}
    made = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    made.nbformat_minor = 5
    made.metadata["made"] = _digest(made)
    return made


def _digest(notebook: NotebookNode) -> str:
    text = "\0".join(f"{cell.cell_type}\n{cell.source}" for cell in notebook.cells)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def is_untouched(notebook: NotebookNode) -> bool:
    """Whether nobody has changed a cell of a participants' notebook; having run it is no change."""
    return notebook.metadata.get("made") == _digest(notebook)


def place(root: Path, week: str) -> Path:
    """Where the participants' notebook of a week lies in the course under `root`."""
    return root / "exercises" / week / NAME


def build() -> tuple[list[Path], list[Path]]:
    """Write the participants' notebook of each week that has gaps, where it is missing or out of date.

    Returns (written, refused because a participant has changed them). Raises StudyError naming the week whose marks are
    wrong.
    """
    from studylib.course import notebooks

    written, refused = [], []
    for week, source in notebooks.weeks().items():
        path = place(notebooks.ROOT, week)
        now, wanted = own(path), _wanted(source)
        if wanted is None or (now and nbformat.writes(_unrun(now)) == nbformat.writes(wanted)):
            continue
        if now and not is_untouched(now):
            refused.append(path)
            continue
        write(path, wanted)
        written.append(path)
    return written, refused


def _wanted(source: Path) -> NotebookNode | None:
    """The participants' notebook of a week, by the .py of its own; None where that has no gaps."""
    from studylib.course import notebooks

    try:
        notebook = participants(notebooks.read(source))
    except ValueError as error:
        raise StudyError(f"{source.name}: {error}") from None
    return notebook if any("gap" in cell.metadata for cell in notebook.cells) else None


def write(path: Path, notebook: NotebookNode) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    files.replace(path, nbformat.writes(notebook) + "\n")


def own(path: Path) -> NotebookNode | None:
    """A participants' notebook, or None if the file does not exist. Raises StudyError where the file is damaged."""
    return stored.read(path, ": move it away, then study exercises build") if path.exists() else None


def _unrun(notebook: NotebookNode) -> NotebookNode:
    """A notebook as it was before it was run and saved by JupyterLab, which adds metadata of its own."""
    known = {"jupytext", "kernelspec", "made"}
    metadata = {key: value for key, value in notebook.metadata.items() if key in known}
    cells = []
    for cell in notebook.cells:
        kept = {key: value for key, value in cell.metadata.items() if key in ("tags", "jupyter", "gap")}
        new = nbformat.from_dict({**cell, "metadata": kept})
        if cell.cell_type == "code":
            new |= {"outputs": [], "execution_count": None}
        cells.append(new)
    made = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    made.nbformat_minor = notebook.nbformat_minor
    return made


def states(notebook: NotebookNode) -> list[str]:
    """Where each gap of a participant's own notebook stands, as it was saved.

    "passed": it is filled, and its check has run without an error; "failed": filled, and it has not; else "not attempted".
    """
    cells, found = {cell.get("id"): cell for cell in notebook.cells}, []
    for cell in notebook.cells:
        if not (mark := cell.metadata.get("gap")):
            continue
        check = cells.get(mark.get("check"))
        if UNFILLED.search(cell.source):
            found.append("not attempted")
        elif check is None or not check.get("execution_count"):
            found.append("failed")
        else:
            wrong = any(output.output_type == "error" for output in check.outputs)
            found.append("failed" if wrong else "passed")
    return found


def progress(root: Path) -> dict[str, tuple[int, int]]:
    """By week, how many gaps of one's own notebook are passed, and of how many. A damaged notebook has none passed."""
    found = {}
    for path in sorted((root / "exercises").glob(f"*/{NAME}")):
        try:
            here = states(own(path) or nbformat.v4.new_notebook())
        except ValueError:
            here = []
        found[path.parent.name] = (here.count("passed"), len(here))
    return found


def opened(root: Path, week: str) -> str:
    """The notebook to open in the meeting, from the course's root: the participants', or the week's own if it has none."""
    return f"exercises/{week}/{NAME}" if place(root, week).is_file() else f"weeks/{week}/{week}.ipynb"
