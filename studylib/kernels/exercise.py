"""Reads an exercise's source: its card, kernel, launch, reference, cases, budget and mutants.

A source is `studylib/kernels/WEEK/NAME.py`, plain Numba-CUDA from top to bottom. Its docstring is the card. The lines
between BEGIN SOLUTION and END SOLUTION are what a participant writes; what follows BEGIN GRADER is not in the stub.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from studylib import words
from studylib.errors import StudyError

FOLDER = Path(__file__).parent
SECTIONS = ("Difficulty", "Minutes", "Plan", "Hints", "Budget", "Hardware")


@dataclass(frozen=True)
class Case:
    """One input of an exercise: what it tries, and the kernel's arguments before the outputs."""

    title: str
    inputs: tuple


@dataclass(frozen=True)
class Budget:
    """What the kernel may use, counted in one case by the emulator.

    reads, writes: elements of global memory, of the busiest thread. sectors: 32-byte sectors a warp request of
    global memory, on average at the worst place of the source. passes: the same for shared memory, None where the
    exercise needs none. drawn: whether the last case, whose sizes are drawn anew and such that no block is filled in
    part, is counted as well, against what the solution uses there.
    """

    case: str
    reads: float
    writes: float
    sectors: float
    passes: float | None = None
    drawn: bool = False


@dataclass(frozen=True)
class Mutant:
    """A wrong solution that the grader must reject at `stage`, with a finding of the kind `finds` if it is 'safe'.

    old, new: what is replaced in the solution; an old of None replaces all of it.
    """

    title: str
    new: str
    stage: str
    old: str | None = None
    finds: str | None = None


@dataclass(frozen=True, eq=False)
class Exercise:
    """A solved exercise.

    launch(kernel, *inputs, *outputs) starts a kernel as the grader does. reference(*inputs) gives the outputs: an array
    or a tuple of them; allowed(*inputs) says for each how far a float32 result may lie from it by rounding, 0 where it
    must be the same. cases(rng) gives the inputs, drawn anew for each `rng`, and so are the sizes of the last ones.
    torch_op(*inputs) is torch's operator for the same work, work(*inputs) the (bytes, operations) that the work cannot
    do without, and bench(rng) inputs that fill a card.
    """

    name: str
    week: str
    path: Path
    text: str
    title: str
    task: str
    difficulty: int
    minutes: int
    plan: tuple[str, ...]
    hints: tuple[str, ...]
    budget_text: str
    hardware: str
    kernel: Any
    launch: Callable
    reference: Callable
    allowed: Callable
    cases: Callable[[np.random.Generator], list[Case]]
    budget: Budget
    mutants: tuple[Mutant, ...]
    bench: Callable[[np.random.Generator], tuple]
    torch_op: Callable
    work: Callable[..., tuple[int, int]]
    module: Any = field(repr=False, default=None)

    @property
    def number(self) -> int:
        """Of the week."""
        return int(self.week[:2])

    def outputs(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        """What the reference computes, always as a tuple."""
        found = self.reference(*inputs)
        return found if isinstance(found, tuple) else (found,)

    def bounds(self, *inputs: Any) -> tuple:
        """How far each output may lie from the reference's, always as a tuple: arrays of its shape, or 0."""
        found = self.allowed(*inputs)
        return found if isinstance(found, tuple) else (found,)


def weeks() -> list[str]:
    """The weeks that have exercises."""
    return sorted({path.parent.name for path in FOLDER.glob("[0-9]*/*.py")})


def names(week: str | None = None) -> list[str]:
    """The names of the exercises in the order in which they are meant to be done."""
    paths = sorted(FOLDER.glob(f"{week or '[0-9]*'}/*.py"), key=lambda path: (path.parent.name, _place(path)))
    return [path.stem for path in paths]


def _place(path: Path) -> tuple[int, int, str]:
    card = parse_card(path)
    return int(card["Difficulty"][:1]), int(card["Minutes"]), path.stem


def find(given: Sequence[str]) -> list[str]:
    """The exercises that are meant by their names or by weeks, as `words.weeks` reads them; none means all.

    Raises StudyError for a word that means nothing.
    """
    found: list[str] = []
    for word in given:
        meant = words.weeks(word, weeks())
        if word in names():
            found.append(word)
        elif len(meant) == 1:
            found += names(meant[0])
        else:
            raise StudyError(f"there is no exercise or week {word!r}; exercises: {', '.join(names())}")
    return list(dict.fromkeys(found)) if given else names()


@cache
def load(name: str) -> Exercise:
    """The exercise of that name; raises StudyError if there is none or its source is not complete."""
    paths = list(FOLDER.glob(f"[0-9]*/{name}.py")) if name.isidentifier() else []
    if not paths:
        raise StudyError(f"there is no exercise {name!r}; exercises: {', '.join(names())}")
    return read(paths[0])


def read(path: Path) -> Exercise:
    """The exercise of a source file; raises StudyError if something is missing."""
    card = parse_card(path)
    spec = importlib.util.spec_from_file_location(f"studylib.kernels.solved_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    wanted = (
        path.stem,
        "launch",
        "reference",
        "allowed",
        "DRAWN",
        "cases",
        "BUDGET",
        "MUTANTS",
        "bench",
        "torch_op",
        "work",
    )
    if missing := [name for name in wanted if not hasattr(module, name)]:
        raise StudyError(f"{path.name} has no {', '.join(missing)}")
    return Exercise(
        name=path.stem,
        week=path.parent.name,
        path=path,
        text=path.read_text(encoding="utf-8"),
        title=card["title"],
        task=card["task"],
        difficulty=int(card["Difficulty"][:1]),
        minutes=int(card["Minutes"]),
        plan=_numbered(card["Plan"]),
        hints=_numbered(card["Hints"]),
        budget_text=card["Budget"],
        hardware=card["Hardware"],
        kernel=getattr(module, path.stem),
        launch=module.launch,
        reference=module.reference,
        allowed=module.allowed,
        cases=lambda rng: _cases(module, rng),
        budget=Budget(**module.BUDGET),
        mutants=tuple(Mutant(**mutant) for mutant in module.MUTANTS),
        bench=module.bench,
        torch_op=module.torch_op,
        work=module.work,
        module=module,
    )


def _cases(module: Any, rng: np.random.Generator) -> list[Case]:
    """A source's cases; the titles of the last ones, whose sizes are drawn, say so."""
    found = [Case(title, tuple(inputs)) for title, *inputs in module.cases(rng)]
    fixed = len(found) - module.DRAWN
    return found[:fixed] + [Case(f"{case.title}, drawn", case.inputs) for case in found[fixed:]]


def parse_card(path: Path) -> dict[str, str]:
    """A source's docstring by its sections, with 'title' and 'task'; raises StudyError if one is missing."""
    found = re.match(r'"""(.*?)"""', path.read_text(encoding="utf-8"), re.DOTALL)
    if found is None:
        raise StudyError(f"{path.name} does not begin with a docstring, which is its card")
    parts = re.split(rf"^({'|'.join(SECTIONS)}):", found[1], flags=re.MULTILINE)
    title, _, task = parts[0].strip().partition("\n")
    card = {"title": title.rstrip("."), "task": task.strip("\n").rstrip()}
    card |= {key: text.strip() for key, text in zip(parts[1::2], parts[2::2], strict=True)}
    if missing := [name for name in SECTIONS if not card.get(name)]:
        raise StudyError(f"the card of {path.name} has no {', '.join(missing)}")
    return card


def _numbered(text: str) -> tuple[str, ...]:
    steps = re.split(r"^\d+\. ", text, flags=re.MULTILINE)
    return tuple(" ".join(step.split()) for step in steps if step.strip())
