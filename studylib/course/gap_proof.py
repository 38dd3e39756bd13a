"""Proves the gaps of a week's notebook in one execution of it; `study exercises check` and CI call it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from studylib.course import meeting, notebooks, trial
from studylib.errors import StudyError

TRIAL = "trial"  # the tag of a cell that is inserted


def prove(week: str, parameters: Mapping[str, Any] | None = None) -> list[str]:
    """What is wrong with the gaps of a week, in words; nothing where it has none. parameters: instead of the defaults.

    The participants' notebook equals the source outside the marks and has no output; each check fails with its gap
    unfilled, by an assertion that says what was got and expected; and it passes with the solution. Raises StudyError on
    Windows, which cannot copy a process.
    """
    source = notebooks.find(week)
    notebook = notebooks.read(source)
    found = meeting.gaps(notebook)
    if not found:
        return []
    if not hasattr(os, "fork"):
        raise StudyError("this system cannot copy a process, in which gaps are tried: check them on Linux or macOS")
    try:
        return differences(week) + _tried(notebook, found, source, parameters or {})
    except notebooks.CellError as error:
        return [*differences(week), str(error)]


def differences(week: str) -> list[str]:
    """Where the participants' notebook of a week is not the source with its gaps open; nothing is executed."""
    source = notebooks.find(week)
    notebook, path = notebooks.read(source), meeting.place(notebooks.ROOT, source.stem)
    if not (found := meeting.gaps(notebook)):
        return [f"{path.parent.name}/{path.name}: the week has no gaps"] if path.exists() else []
    built = meeting.own(path)
    if built is None:
        return [f"{path.parent.name}/{path.name} is missing: study exercises build"]
    opened = {gap.cell: gap for gap in found}
    wrong = []
    if len(built.cells) != len(notebook.cells):
        wrong.append(f"{len(built.cells)} cells, the source has {len(notebook.cells)}")
    for number, (mine, theirs) in enumerate(zip(built.cells, notebook.cells, strict=False)):
        expected = theirs.source
        if gap := opened.get(number):
            before, _, rest = expected.partition("# BEGIN SOLUTION")
            after = rest.partition("# END SOLUTION")[2]
            if not (mine.source.startswith(before) and mine.source.endswith(after)):
                wrong.append(f"cell {number + 1} differs outside the gap {gap.what!r}")
            inside = mine.source.removeprefix(before).removesuffix(after)
            if inside != f"...  # your turn, {gap.minutes} minutes: {gap.what}":
                wrong.append(f"cell {number + 1} has {inside!r} in place of the gap {gap.what!r}")
        elif (mine.cell_type, mine.source) != (theirs.cell_type, expected):
            wrong.append(f"cell {number + 1} differs from the source: {mine.source[:60]!r}")
        if mine.get("outputs") or mine.get("execution_count"):
            wrong.append(f"cell {number + 1} has been run")
    again = " (study exercises build; a notebook that you have changed, move away first)"
    return [f"{path.parent.name}/{path.name}: {what}{again}" for what in wrong]


def _tried(notebook: NotebookNode, found: list[meeting.Gap], source: Path, parameters: Mapping[str, Any]) -> list[str]:
    """Execute the notebook, each gap tried before it is solved."""
    cells: list[NotebookNode] = []
    before = {gap.cell: gap for gap in found}
    for index, cell in enumerate(notebook.cells):
        if gap := before.get(index):
            code = trial.cell(gap.open, notebook.cells[gap.check].source)
            cells.append(nbformat.v4.new_code_cell(code, metadata={"tags": [TRIAL]}))
        cells.append(cell)
    executed = notebooks.execute(nbformat.from_dict({**notebook, "cells": cells}), source, parameters)
    printed = [cell.outputs[0].text for cell in executed.cells if TRIAL in cell.metadata.get("tags", [])]
    wrong = []
    for gap, text in zip(found, printed, strict=True):
        wrong += [f"the gap {gap.what!r}: {what}" for what in _faults(trial.outcome(text))]
    return wrong


def _faults(tried: trial.Outcome) -> list[str]:
    if tried.cell == trial.HANGS:
        return [f"unfilled, it ends the kernel or does not come back within {trial.SECONDS} s"]
    if tried.cell:
        return [f"unfilled, its own cell fails ({tried.cell}): move what needs the solution into the check"]
    if not tried.check:
        return ["its check passes with the gap unfilled"]
    if not (tried.check.startswith("AssertionError: ") and "got" in tried.check and "expected" in tried.check):
        return [
            f"unfilled, its check ends with {tried.check!r}, expected an assertion that says what it got and expected"
        ]
    return []
