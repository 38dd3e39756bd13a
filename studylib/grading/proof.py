"""Proves that every exercise is sound: its stub is not solved, its solution passes, its mutants are rejected."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from studylib.files import EXERCISES
from studylib.grading.bench import exact
from studylib.grading.judge import judge
from studylib.grading.mismatches import close
from studylib.grading.verdict import FAILED, SKIPPED, Verdict
from studylib.kernels import Exercise, Mutant
from studylib.kernels.stubs import GRADER, mutated, readme, stub
from studylib.words import counted

CCS = ((7, 5), (8, 0), (9, 0), (12, 0))
FEWEST_MUTANTS = 3
# Rejected for every exercise: Python that has the answer, in the kernel's place.
IMPOSTOR = Mutant(
    "returns the reference's answer without computing",
    """
class Impostor:
    def __getitem__(self, configuration):
        from studylib.kernels import load
        def start(*arguments):
            exercise = load("{name}")
            n = len(arguments) - len(exercise.outputs(*exercise.cases(None)[0].inputs))
            for out, answer in zip(arguments[n:], exercise.outputs(*arguments[:n])):
                out[...] = answer
        return start

{name} = Impostor()
""",
    "imports",
)


def prove(exercise: Exercise, folder: Path = EXERCISES) -> list[str]:
    """What is wrong with an exercise; an empty list if nothing is."""
    wrong = _stub(exercise, folder)
    verdict = judge(exercise, exercise.kernel, ccs=CCS)
    if not verdict.passed or verdict.stage("budget").status == SKIPPED:
        wrong.append(f"the solution does not pass every stage:\n{verdict}")
    if not verdict.is_reference:
        wrong.append("the solution is not recognised as the reference")
    if len(exercise.mutants) < FEWEST_MUTANTS:
        wrong.append(f"{counted(len(exercise.mutants), 'mutant')}, expected at least {FEWEST_MUTANTS}")
    for mutant in exercise.mutants:
        try:
            wrong += _rejected(exercise, mutant, mutated(exercise, mutant.old, mutant.new))
        except ValueError as error:
            wrong.append(str(error))
    text = exercise.text.partition(GRADER)[0] + IMPOSTOR.new.format(name=exercise.name)
    return wrong + _rejected(exercise, IMPOSTOR, text) + _torch(exercise)


def _stub(exercise: Exercise, folder: Path) -> list[str]:
    path = folder / exercise.week / f"{exercise.name}.py"
    again = "run `study exercises build`"
    if not path.exists():
        return [f"there is no stub {path.name}: {again}"]
    if path.read_text(encoding="utf-8") != stub(exercise):
        return [f"the stub {path.name} is not what is made from the source: {again}"]
    page = path.with_name("README.md")
    if not page.exists() or page.read_text(encoding="utf-8") != readme(exercise.week):
        return [f"the README of {exercise.week} is out of date: {again}"]
    verdict = judge(exercise, path=path)
    return [] if verdict.state == "not attempted" else [f"the stub is not judged 'not attempted':\n{verdict}"]


def _rejected(exercise: Exercise, mutant: Mutant, text: str) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{exercise.name}.py"
        path.write_text(text, encoding="utf-8")
        verdict = judge(exercise, path=path, compile_wrong=False)
    first = next((stage for stage in verdict.stages if stage.status == FAILED), None)
    if first is None:
        return [f"the mutant '{mutant.title}' passes"]
    if first.name != mutant.stage and not (mutant.stage == "safe" and _is_found(verdict, mutant)):
        return [f"the mutant '{mutant.title}' is rejected as not {first.title}, expected: {mutant.stage}\n{verdict}"]
    if mutant.finds and not _is_found(verdict, mutant):
        return [f"the mutant '{mutant.title}' is rejected without the finding {mutant.finds}\n{verdict}"]
    return []


def _is_found(verdict: Verdict, mutant: Mutant) -> bool:
    return mutant.finds in verdict.stage("safe").finds


def _torch(exercise: Exercise) -> list[str]:
    """torch's own operator, in double precision, must say what the reference says."""
    import torch

    for case in exercise.cases(np.random.default_rng(0)):
        inputs = [torch.from_numpy(v) if isinstance(v, np.ndarray) else v for v in case.inputs]
        found = exact(exercise, inputs)
        for got, expected, bound in zip(
            found, exercise.outputs(*case.inputs), exercise.bounds(*case.inputs), strict=True
        ):
            if tuple(got.shape) != expected.shape or not close(got.numpy(), expected, bound).all():
                return [f"case {case.title}: torch's operator and the reference differ"]
    return []
