"""The part of the command `study` that is about exercises: check, hint, solution, progress, grade, bench."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from studylib.cli.terminal import plain_errors, show
from studylib.errors import StudyError

app = typer.Typer()
exercises = typer.Typer(help="Make and prove the GPU exercises; for those who change them.", no_args_is_help=True)
app.add_typer(exercises, name="exercises")

Name = Annotated[str, typer.Argument(metavar="NAME", help="An exercise, such as transpose.")]
Which = Annotated[
    list[str] | None,
    typer.Argument(metavar="WEEK|NAME", help="Exercises, or weeks by number or folder; none means all."),
]


@app.command()
def check(which: Which = None) -> None:
    """Judge your own exercises.

    Shows for each whether it compiles for a real GPU, is right, safe and within its budget of memory accesses. Needs no
    GPU. The exit status is 0 if nothing that was attempted fails.
    """
    from tqdm import tqdm

    from studylib import kernels
    from studylib.files import EXERCISES
    from studylib.grading import progress
    from studylib.grading.local import check_file
    from studylib.grading.verdict import FAILED

    with plain_errors():
        chosen = kernels.find(which or [])
        failed, states = 0, []
        for name in tqdm(chosen, unit="kernel", leave=False, disable=None if len(chosen) > 1 else True):
            path = EXERCISES / kernels.load(name).week / f"{name}.py"
            verdict = check_file(name, path)
            failed += verdict.state == FAILED
            states.append(verdict.state)
            progress.remember(verdict, path)
            tqdm.write(f"{verdict}\n")
        if len(chosen) > 1:
            counts = ", ".join(f"{states.count(s)} {w}" for s, w in COUNTED if s in states)
            typer.echo(counts)
        if failed:
            raise typer.Exit(1)


COUNTED = (("passed", "passed"), ("failed", "not yet right"), ("not attempted", "not attempted"))


@app.command()
def hint(name: Name) -> None:
    """Show the next hint for an exercise, after those that you have seen."""
    from studylib.grading import record

    with plain_errors():
        hints, total = record.next_hint(name)
        for number, text in enumerate(hints, 1):
            typer.echo(f"{number} of {total}: {text}")
        if len(hints) == total:
            typer.echo(f"That was the last one; `study solution {name}` shows the solution.")


@app.command()
def solution(name: Name) -> None:
    """Show the solution of an exercise, and note that it is borrowed."""
    from studylib.grading import record

    with plain_errors():
        typer.echo(record.borrow(name))
        typer.echo(f"# {name} is now marked as borrowed in `study progress`", err=True)


@app.command()
def progress(
    grades: Annotated[
        Path | None,
        typer.Option("--grades", metavar="FILE", help="A grades.csv of `study grade`: everybody's progress."),
    ] = None,
) -> None:
    """Show who stands where: weeks by exercises, yours or everybody's; of yours the gaps of the meetings too."""
    from studylib.course import meeting
    from studylib.files import EXERCISES
    from studylib.grading import progress as standing
    from studylib.grading import record

    with plain_errors():
        if grades is not None:
            shown = standing.table(standing.graded(grades))
        else:
            gaps = meeting.progress(EXERCISES.parent)
            shown = standing.table({"you": standing.own()}, record.read()["borrowed"], gaps)
        show(shown)


@app.command()
def grade(
    submissions: Annotated[
        Path | None, typer.Argument(metavar="SUBMISSIONS", help="A folder with a folder for each participant.")
    ] = None,
    branches: Annotated[
        str | None, typer.Option("--branches", metavar="PATTERN", help="Git branches instead, such as 'group/*'.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the grades go.")] = Path("build/grades"),
) -> None:
    """Judge everybody's exercises.

    Each kernel is judged in a process of its own with limits on time, memory and files. Interrupted, it goes on where
    it stopped. Writes report.html, a page a participant, grades.csv and junit.xml.
    """
    from studylib import kernels
    from studylib.grading import grade as grading
    from studylib.grading import hand_ins, report
    from studylib.grading.results import Grade
    from studylib.grading.verdict import FAILED, MISSING, NOT_ATTEMPTED, PASSED

    with plain_errors(), tempfile.TemporaryDirectory(prefix="branches-") as scratch:
        if (submissions is None) == (branches is None):
            raise StudyError("give a folder with a folder for each participant, or --branches, and not both")
        folder = submissions or hand_ins.check_out(branches or "", Path(scratch))
        jobs = hand_ins.jobs_in(folder, kernels.names(), out)
        for message in hand_ins.left_out(folder, out):
            typer.echo(f"study: {message}", err=True)
        report.begin(out)
        done: list[Grade] = []
        try:
            done.extend(grading.grade(jobs, out))
        except KeyboardInterrupt:
            typer.echo("\nstudy: stopped; the same command goes on from there", err=True)
            raise typer.Exit(130) from None
        for message in report.not_taken(done):
            typer.echo(f"study: {message}", err=True)
        for path in report.write(done, out, folder):
            typer.echo(f"wrote {path}")
        for state in (PASSED, FAILED, NOT_ATTEMPTED, MISSING):
            typer.echo(f"{sum(found.state == state for found in done):5d} {state}")


@app.command()
def bench(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Exercises; none means all.")] = None,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the measured figures go.")] = Path(
        "benchmarks/results"
    ),
) -> None:
    """Measure the solved kernels on a GPU, against torch's operators and the card's own bandwidth.

    Without a GPU it shows what was measured before.
    """
    from studylib.grading import bench as measuring

    with plain_errors():
        typer.echo(measuring.main(names or [], out))


@exercises.command("build")
def build() -> None:
    """Write the stubs and cards in exercises/, and the meetings' notebooks with their gaps, from the solved sources.

    A file that a participant has changed stays as it is.
    """
    from studylib.course import meeting
    from studylib.kernels import stubs

    with plain_errors():
        written, refused = (kernels + gaps for kernels, gaps in zip(stubs.build(), meeting.build(), strict=True))
        for path in written:
            typer.echo(f"wrote {path.relative_to(stubs.EXERCISES.parent)}")
        for path in refused:
            name = path.relative_to(stubs.EXERCISES.parent)
            typer.echo(
                f"kept {name}, which has been changed; for the new version, move it away and build again", err=True
            )
        if not written and not refused:
            typer.echo("everything is up to date")
        if refused:
            raise typer.Exit(1)


@exercises.command("check")
def prove(which: Which = None) -> None:
    """Prove that the exercises are sound.

    Each stub is up to date and not solved, each solution passes, each mutant is rejected for the right reason. A week's
    notebook with gaps is executed once: each fails its check unfilled and passes it with the solution.
    """
    from tqdm import tqdm

    from studylib import kernels, words
    from studylib.course import form, gap_proof, notebooks
    from studylib.course import week as weeks
    from studylib.grading import proof
    from studylib.words import counted

    with plain_errors():
        chosen = kernels.find(which or [])
        if not chosen:
            raise StudyError("there are no exercises to check")
        wrong = 0
        for name in tqdm(chosen, unit="exercise", leave=False, disable=None):
            for message in proof.prove(kernels.load(name)):
                wrong += 1
                tqdm.write(f"{name}: {message}\n")
        known = list(notebooks.weeks())
        for week in sorted({week for word in which or known for week in words.weeks(word, known)}):
            for message in gap_proof.prove(week) + form.faults(weeks.load(notebooks.find(week).parent)):
                wrong += 1
                typer.echo(f"{week}: {message}\n")
        mutants = sum(len(kernels.load(name).mutants) + 1 for name in chosen)
        proved = f"{counted(len(chosen), 'exercise')}, {counted(mutants, 'mutant')}"
        typer.echo(f"{proved}: {f'{wrong} wrong' if wrong else 'all as they must be'}")
        if wrong:
            raise typer.Exit(1)
