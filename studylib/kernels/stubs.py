"""Makes the stubs in exercises/ from the solved sources, and never writes over what a participant has changed."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from textwrap import indent

from studylib import files
from studylib.errors import StudyError
from studylib.files import EXERCISES
from studylib.kernels.exercise import Exercise, load, names, weeks
from studylib.words import counted

SOLUTION = re.compile(r"^( *)# BEGIN SOLUTION\n(.*?)^ *# END SOLUTION\n", re.MULTILINE | re.DOTALL)
GRADER = "\n\n# BEGIN GRADER\n"
HINTS = re.compile(r"^Hints:\n.*?(?=^Budget:)", re.MULTILINE | re.DOTALL)
MADE = re.compile(r"^# made from the solved exercise: ([0-9a-f]{12})\n\Z", re.MULTILINE)


def stub(exercise: Exercise) -> str:
    """The participant's file: the source with the solution, the hints and the grader's part taken out.

    Raises StudyError if the source does not have each mark once.
    """
    text, grader, _ = exercise.text.partition(GRADER)
    if len(SOLUTION.findall(text)) != 1 or not grader or not HINTS.search(text):
        raise StudyError(
            f"{exercise.path.name} must have BEGIN SOLUTION, END SOLUTION, BEGIN GRADER and Hints: once each"
        )
    todo = f'raise NotImplementedError("week {exercise.number}, {exercise.name}: write the kernel here")'
    body = SOLUTION.sub(lambda found: f"{found[1]}{todo}\n", text)
    pointer = f"Hints:\n`study hint {exercise.name}` shows {len(exercise.hints)}, one at a time.\n\n"
    body = HINTS.sub(lambda _: pointer, body).rstrip("\n")
    return f"{body}\n\n\n# made from the solved exercise: {_digest(body)}\n"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def is_untouched(text: str) -> bool:
    """Whether a stub, of this or of an older version, is as it was made."""
    found = MADE.search(text)
    return found is not None and _digest(text[: found.start()].rstrip("\n")) == found[1]


def readme(week: str) -> str:
    """The page of a week's folder: its cards."""
    exercises = [load(name) for name in names(week)]
    total = sum(exercise.minutes for exercise in exercises)
    lines = [
        f"# Week {int(week[:2])}: exercises",
        "",
        (
            f"{counted(len(exercises), 'kernel')}, {total} minutes in all. Write in the file; "
            "`study check NAME` judges it without a GPU."
        ),
        "",
        "| exercise | what | difficulty | minutes |",
        "|---|---|---|---|",
    ]
    for e in exercises:
        lines.append(f"| [`{e.name}`]({e.name}.py) | {e.title} | {e.difficulty} of 5 | {e.minutes} |")
    for e in exercises:
        plan = "\n".join(f"{i}. {step}" for i, step in enumerate(e.plan, 1))
        budget = f"**Budget.** {' '.join(e.budget_text.split())}"
        hardware = f"**What the hardware does.** {' '.join(e.hardware.split())}"
        lines += ["", f"## {e.name}", "", f"{e.title}.", "", _code_blocks(e.task), "", plan, "", budget, "", hardware]
    return "\n".join(lines) + "\n"


def _code_blocks(text: str) -> str:
    """A docstring's text as Markdown, where code stands between blank lines and fences."""
    parts = re.split(r"((?:^ {4}.*\n?)+)", text, flags=re.MULTILINE)
    blocks = (f"```\n{part.strip()}\n```" if part.startswith("    ") else part.strip() for part in parts)
    return "\n\n".join(block for block in blocks if block)


def build(folder: Path = EXERCISES) -> tuple[list[Path], list[Path]]:
    """Writes what is missing or out of date. Returns (written, refused because a participant has changed them)."""
    written, refused = [], []
    for week in weeks():
        (folder / week).mkdir(parents=True, exist_ok=True)
        wanted = {folder / week / f"{name}.py": stub(load(name)) for name in names(week)}
        wanted[folder / week / "README.md"] = readme(week)
        for path, text in wanted.items():
            now = path.read_text(encoding="utf-8", errors="replace") if path.exists() else None
            if now == text:
                continue
            if now is not None and path.suffix == ".py" and not is_untouched(now):
                refused.append(path)
                continue
            files.replace(path, text)
            written.append(path)
    return written, refused


def mutated(exercise: Exercise, old: str | None, new: str) -> str:
    """The source with something in its solution replaced; raises StudyError if `old` is not in it."""
    found = SOLUTION.search(exercise.text)
    assert found is not None
    solution = found[2]
    if old is None:
        changed = indent(new.strip("\n") + "\n", found[1])
    elif old in solution:
        changed = solution.replace(old, new)
    else:
        raise StudyError(f"{exercise.name}: the mutant's {old!r} is not in the solution")
    return exercise.text[: found.start(2)] + changed + exercise.text[found.end(2) :].partition(GRADER)[0] + "\n"
