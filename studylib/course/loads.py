"""Computes how many minutes each part of a meeting takes as its notebook is written; the sheet says how many it has."""

import re
from dataclasses import dataclass
from functools import cached_property

from nbformat import NotebookNode
from rich.console import Group
from rich.table import Table
from rich.text import Text

from studylib import kernels
from studylib.course import meeting, notebooks
from studylib.course.week import Part, Week

WORDS_A_MINUTE = 150
LINES_A_MINUTE = 10
FORMULA = " x" * 10  # a displayed formula is read as slowly as ten words, one in the line as one
OVER = 1.25  # of a part's minutes
NOT_SHOWN = {"remove-cell", "remove-input", "hide-input", "hide-cell"}
HEADING = re.compile(r"^(#+) +(.+?) *$")


@dataclass(frozen=True)
class Load:
    """What one part of the run sheet asks for. hour: 1, 2 or 3; words, lines: in sight; gaps: minutes of each."""

    part: Part
    hour: int
    words: int
    lines: int
    gaps: tuple[int, ...]

    @cached_property
    def exercises(self) -> int:
        """The minutes of the exercises that are done in this part."""
        return sum(kernels.load(name).minutes for name in self.part.exercises)

    @property
    def own(self) -> int:
        """The minutes of the participants' own work."""
        return sum(self.gaps) + self.exercises

    @property
    def minutes(self) -> float:
        return self.words / WORDS_A_MINUTE + self.lines / LINES_A_MINUTE + self.own

    @property
    def is_over(self) -> bool:
        """Whether it asks for more than a quarter above what the sheet gives."""
        return self.minutes > OVER * self.part.minutes


def loads(week: Week, notebook: NotebookNode) -> list[Load]:
    """The load of each part of the run sheet, in order.

    A part has what stands in the notebook (as notebooks.read gives it) from its section's heading to that of another
    part, or to the next heading of the first level; what stands between such a heading and the first section below it
    goes to that section's part. So a part of the notebook under a heading of its own that no part names, such as
    `# Appendix`, is in no load.
    """
    parts = [(hour, part) for hour, each in enumerate(week.hours, 1) for part in each.parts]
    sections: dict[str, int] = {}
    for number, (_, part) in enumerate(parts):
        if part.section:
            sections.setdefault(part.section, number)
    found = _by_section(notebook, sections)
    return [Load(part, hour, *found.get(number, _Count()).given()) for number, (hour, part) in enumerate(parts)]


@dataclass
class _Count:
    words: int = 0
    lines: int = 0
    gaps: tuple[int, ...] = ()

    def given(self) -> tuple[int, int, tuple[int, ...]]:
        return self.words, self.lines, self.gaps

    def __add__(self, other: "_Count") -> "_Count":
        return _Count(self.words + other.words, self.lines + other.lines, self.gaps + other.gaps)


def _by_section(notebook: NotebookNode, sections: dict[str, int]) -> dict[int, _Count]:
    """By a part's number, what is counted under its section."""
    waiting = -1  # the number of what belongs to the next section
    found, here = {waiting: _Count()}, waiting
    opened = {gap.cell: gap for gap in meeting.gaps(notebook)}
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            for level, heading, text in _headed(cell.source):
                if heading in sections:
                    here = sections[heading]
                    found[here] = found.get(here, _Count()) + found[waiting]
                    found[waiting] = _Count()
                elif level == 1:
                    here, found[waiting] = waiting, _Count()
                found[here] += _Count(words=count_words(text))
        elif cell.cell_type == "code":
            gap = opened.get(index)
            lines = count_lines(gap.open if gap else cell.source) if in_sight(cell) else 0
            found[here] += _Count(lines=lines, gaps=(gap.minutes,) if gap else ())
    return found


def _headed(text: str) -> list[tuple[int, str, str]]:
    """A text cell cut at its headings: (level, heading, the text with it); 0 and "" before the first one."""
    found, fenced = [(0, "", "")], False
    for line in text.split("\n"):
        fenced ^= line.startswith("```")
        if (match := HEADING.match(line)) and not fenced:
            found.append((len(match[1]), match[2], ""))
        level, heading, so_far = found[-1]
        found[-1] = (level, heading, f"{so_far}{line}\n")
    return found


def count_words(text: str) -> int:
    """The words of Markdown that are in sight: without folded answers, addresses and marks; a formula is one word."""
    text = re.sub(r"<details>.*?</details>", " ", text, flags=re.DOTALL)
    text = re.sub(r"\$\$.*?\$\$", FORMULA, text, flags=re.DOTALL)
    text = re.sub(r"\$[^$]+\$", "x", text)
    text = re.sub(r"!\[[^]]*\]\([^)]*\)", " ", text)
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"<[^>]+>", " ", text)
    return sum(any(letter.isalnum() for letter in word) for word in text.split())


def in_sight(cell: NotebookNode) -> bool:
    """Whether a cell's code is read in the meeting: it is neither folded nor left out."""
    return not notebooks.is_folded(cell) and not NOT_SHOWN & set(cell.metadata.get("tags", []))


def count_lines(code: str) -> int:
    return sum(bool(line.strip()) for line in code.splitlines())


def of_week(week: Week) -> list[Load]:
    """The loads of a meeting, by the notebook in its folder; as if it were empty where there is none yet."""
    source = week.folder / f"{week.name}.py"
    return loads(week, notebooks.read(source) if source.is_file() else NotebookNode(cells=[]))


def own_work(found: list[Load]) -> int:
    """The minutes in which participants work themselves."""
    return sum(load.own for load in found)


def gaps_by_hour(found: list[Load]) -> dict[int, int]:
    return {hour: sum(len(load.gaps) for load in found if load.hour == hour) for hour in {load.hour for load in found}}


def table(week: Week, found: list[Load], remarks: list[str]) -> Group:
    """What `study sheet WEEK --load` shows; remarks: what is said below."""
    shown = Table(title=f"Week {week.number}: {week.title}")
    for column in ("start", "min", "load", "prose", "code", "gaps", "exercises", "what"):
        shown.add_column(column, justify="left" if column in ("start", "what") else "right")
    hour = 0
    for load, (start, *_) in zip(found, week.rows(), strict=True):
        if load.hour != hour:
            hour = load.hour
            shown.add_section()
        numbers = [load.words / WORDS_A_MINUTE, load.lines / LINES_A_MINUTE, sum(load.gaps), load.exercises]
        cells = [start, str(load.part.minutes), _minutes(load.minutes), *map(_minutes, numbers), load.part.what]
        shown.add_row(*map(Text, cells), style="red" if load.is_over else "")
    gaps = gaps_by_hour(found)
    lines = [
        f"The participants' own work: {own_work(found)} of {sum(load.part.minutes for load in found)} minutes.",
        f"Gaps: {', '.join(f'{gaps[hour]} in hour {hour}' for hour in sorted(gaps))}.",
        *remarks,
    ]
    return Group(shown, *map(Text, lines))


def _minutes(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0") if value else ""
