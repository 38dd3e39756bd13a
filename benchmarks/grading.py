"""How long it takes to grade a group, and how that compares with nbgrader and otter-grader.

`python -m benchmarks.grading` hands in all exercises for 5, 10 and 20 participants (solutions, wrong versions and
untouched stubs, mixed) and times `study grade`; then it lets nbgrader, otter-grader and `study grade` grade one
exercise, `vector_add`, of the same few participants, all in one run. The other two graders run the kernel as plain
Python, thread by thread, and compare with NumPy; ours also looks for races and out-of-bounds accesses, counts memory
traffic and asks NVIDIA's compiler. They are installed for it, each in an environment of its own under build/: that
needs the network once.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import typer
from tqdm import tqdm

from benchmarks import machine
from studylib import kernels
from studylib.kernels.stubs import GRADER, mutated, stub

ROOT = Path(__file__).parents[1]
GRADERS = {"nbgrader": "nbgrader==0.9.6", "otter": "otter-grader==7.0.0"}
GROUPS = (5, 10, 20)
FEW = 5  # participants whose one exercise all three graders grade
GOAL = 120  # seconds for the largest group on two cores

OTHERS = (
    "The others run the kernel as plain Python and compare with NumPy, and do not check for races, memory traffic or "
    "the compiler."
)
KERNEL = """\
def vector_add(i, a, b, out):
    if i < len(out):
        out[i] = a[i] + b[i]
"""
STUB = 'def vector_add(i, a, b, out):\n    raise NotImplementedError("vector_add")\n'
TEST = """\
import numpy as np
for n in (1, 128, 1000):
    a, b = np.random.default_rng(n).standard_normal((2, n)).astype(np.float32)
    out = np.full(n, np.nan, np.float32)
    for i in range(-(-n // 128) * 128):
        vector_add(i, a, b, out)
    assert np.array_equal(out, a + b)
"""


class Row(NamedTuple):
    """Seconds that a grader took for `submissions` of one exercise; right: how many it passed, of those it should."""

    grader: str
    submissions: int
    seconds: float
    right: int


def main() -> None:
    """Time `study grade`, nbgrader and otter-grader, and write benchmarks/results/."""
    described = machine.describe("numpy", "numba")
    groups, rows = {}, []
    with tempfile.TemporaryDirectory() as scratch, tqdm(total=len(GROUPS) + 3, file=sys.stdout) as bar:
        for participants in GROUPS:
            bar.set_description(f"study grade, {participants} participants")
            groups[participants] = time_group(Path(scratch) / f"group{participants}", participants)
            bar.update()
        for name, timed in (("study grade", time_ours), ("nbgrader", time_nbgrader), ("otter", time_otter)):
            bar.set_description(name)
            rows.append(timed(Path(scratch) / name.replace(" ", "-")))
            bar.update()
    text = report(described, groups, rows)
    print(text)
    print(f"written: benchmarks/results/{machine.write('grading', text).name}")


def time_group(folder: Path, participants: int) -> float:
    """Seconds of `study grade` for all exercises of `participants`, into a new folder of grades."""
    for person in range(participants):
        for number, name in enumerate(kernels.names()):
            exercise = kernels.load(name)
            path = folder / "group" / f"participant{person:02d}" / exercise.week / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_handed_in(exercise, person + number), encoding="utf-8")
    return _study_grade(folder)


def _handed_in(exercise: kernels.Exercise, turn: int) -> str:
    """In turn the solution, one of the wrong versions, and the stub; no two participants' texts are the same."""
    comment = f"# {turn}\n"
    if turn % 5 == 4:
        return stub(exercise) + comment
    if turn % 5 in (1, 3):
        mutant = exercise.mutants[turn % len(exercise.mutants)]
        return mutated(exercise, mutant.old, mutant.new) + comment
    return exercise.text.partition(GRADER)[0] + comment


def _study_grade(folder: Path) -> float:
    return _timed(
        [Path(sys.executable).with_name("study"), "grade", folder / "group", "--out", folder / "grades"], folder
    )


def _timed(command: list, folder: Path) -> float:
    """Seconds that a program takes; it finds the programs beside itself first. Raises RuntimeError where it fails."""
    path = os.pathsep.join([str(Path(command[0]).parent), os.environ.get("PATH", "")])
    start = time.perf_counter()
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return time.perf_counter() - start


def _is_solved(person: int) -> bool:
    return person % 2 == 0


def time_ours(folder: Path) -> Row:
    """`study grade` on vector_add alone; what the others' participants hand in is counted as not handed in."""
    exercise = kernels.load("vector_add")
    for person in range(FEW):
        path = folder / "group" / f"participant{person:02d}" / exercise.week / "vector_add.py"
        path.parent.mkdir(parents=True)
        text = exercise.text.partition(GRADER)[0] if _is_solved(person) else stub(exercise)
        path.write_text(f"{text}# {person}\n", encoding="utf-8")
    seconds = _study_grade(folder)
    return Row("study grade", FEW, seconds, (folder / "grades" / "grades.csv").read_text().count(",passed,"))


def environment(grader: str) -> Path:
    """The folder of programs of a grader's own environment, made where it is missing."""
    folder = ROOT / "build" / "graders" / grader
    programs = folder / ("Scripts" if sys.platform == "win32" else "bin")
    if not (folder / "installed").exists():
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "--quiet", "--clear", folder], check=True)
        install = [*uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", folder]
        subprocess.run([*install, GRADERS[grader], "ipykernel", "numpy"], check=True)
        (folder / "installed").touch()
    return programs


def notebook(*cells: tuple[str, dict]) -> str:
    """A notebook of code cells, each a text and its metadata."""
    found = [
        {
            "cell_type": "code",
            "id": f"cell{i}",
            "metadata": data,
            "source": text,
            "outputs": [],
            "execution_count": None,
        }
        for i, (text, data) in enumerate(cells)
    ]
    spec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return json.dumps({"cells": found, "metadata": {"kernelspec": spec}, "nbformat": 4, "nbformat_minor": 5})


def time_nbgrader(folder: Path) -> Row:
    """nbgrader's autograde of one notebook with a solution cell and a test cell."""
    programs = environment("nbgrader")
    base = {"schema_version": 3, "task": False}
    solution = base | {"grade": False, "locked": False, "solution": True, "grade_id": "kernel"}
    test = base | {"grade": True, "locked": True, "solution": False, "grade_id": "test", "points": 1}

    def page(text: str) -> str:
        return notebook((text, {"nbgrader": solution}), (TEST, {"nbgrader": test}))

    (folder / "source" / "ps1").mkdir(parents=True)
    (folder / "source" / "ps1" / "vector_add.ipynb").write_text(page(KERNEL))
    (folder / "nbgrader_config.py").write_text('c = get_config()\nc.CourseDirectory.course_id = "course"\n')
    _timed([programs / "nbgrader", "generate_assignment", "ps1"], folder)
    for person in range(FEW):
        path = folder / "submitted" / f"participant{person:02d}" / "ps1" / "vector_add.ipynb"
        path.parent.mkdir(parents=True)
        path.write_text(page(KERNEL if _is_solved(person) else STUB))
    seconds = _timed([programs / "nbgrader", "autograde", "ps1"], folder)
    graded = sorted((folder / "autograded").glob("*/ps1/vector_add.ipynb"))
    passed = sum('"output_type": "error"' not in path.read_text() for path in graded)
    return Row("nbgrader 0.9.6", len(graded), seconds, passed)


def time_otter(folder: Path) -> Row:
    """otter-grader's `run`, outside of containers, one submission after another."""
    programs = environment("otter")
    (folder / "tests").mkdir(parents=True)
    case = {"code": "".join(_doctest(TEST)), "hidden": False, "locked": False}
    suite = {
        "name": "q1",
        "points": 1,
        "suites": [{"cases": [case], "scored": True, "setup": "", "teardown": "", "type": "doctest"}],
    }
    (folder / "tests" / "q1.py").write_text(f"OK_FORMAT = True\ntest = {suite!r}\n")
    _timed([programs / "otter", "generate", "-t", "tests", "--no-environment", "--no-requirements"], folder)
    seconds, passed = 0.0, 0
    for person in range(FEW):
        path = folder / f"participant{person:02d}.ipynb"
        path.write_text(notebook((KERNEL if _is_solved(person) else STUB, {})))
        out = folder / "out" / path.stem
        out.mkdir(parents=True)
        seconds += _timed([programs / "otter", "run", "-a", "autograder.zip", "-o", out, path.name], folder)
        results = json.loads((out / "results.json").read_text())["tests"]
        passed += all(test["score"] == test["max_score"] for test in results if test.get("max_score"))
    return Row("otter-grader 7.0.0", FEW, seconds, passed)


def _doctest(text: str) -> list[str]:
    return [f"{'...' if line[0] == ' ' else '>>>'} {line}\n" for line in text.splitlines()]


def report(described: str, groups: dict[int, float], rows: list[Row]) -> str:
    """The timings as a Markdown page."""
    wanted = sum(map(_is_solved, range(FEW)))
    if wrong := [row.grader for row in rows if row.right != wanted]:
        raise RuntimeError(f"{', '.join(wrong)}: not {wanted} of {FEW} passed; the comparison means nothing")
    exercises = len(kernels.names())
    ours = rows[0].seconds / rows[0].submissions
    lines = [
        "# Grading a group",
        "",
        described,
        "",
        f"`study grade` on all {exercises} exercises, every submission another text: solutions, wrong versions, stubs.",
        "",
        "| participants | submissions | seconds | seconds a participant |",
        "|---:|---:|---:|---:|",
        *(f"| {n} | {n * exercises} | {s:.1f} | {s / n:.2f} |" for n, s in groups.items()),
        "",
        f"To reach: {max(GROUPS)} participants in {GOAL} s on two cores"
        + ("." if groups[max(GROUPS)] <= GOAL else f"; missed: {groups[max(GROUPS)]:.0f} s."),
        "",
        f"One exercise, `vector_add`, of {FEW} participants ({wanted} right), start of the program included. {OTHERS}",
        "",
        "| grader | seconds | seconds a submission | times ours |",
        "|---|---:|---:|---:|",
        *(
            f"| {r.grader} | {r.seconds:.1f} | {r.seconds / r.submissions:.2f} "
            f"| {r.seconds / r.submissions / ours:.1f} |"
            for r in rows
        ),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
