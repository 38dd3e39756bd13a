"""The command `study`: runs the notebooks, counts what a net costs, checks the papers' numbers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

app = typer.Typer(
    help=__doc__,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Shows what the user can mend as a message; anything else is our mistake and keeps its traceback."""
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        typer.echo(f"study: {error}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo("\nstudy: stopped", err=True)
        raise typer.Exit(130) from None


@app.command()
def run(
    weeks: Annotated[
        list[str] | None,
        typer.Argument(metavar="WEEK", help="A folder of weeks/, or how its name begins; none means all."),
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "-p",
            metavar="NAME=VALUE",
            help="A value for the notebook's `parameters` cell, such as FAST=False; may be repeated.",
        ),
    ] = None,
    save: Annotated[
        bool,
        typer.Option(
            "--save", help="Rewrite the .ipynb beside the .py, with the default parameters, instead of build/weeks/."
        ),
    ] = False,
) -> None:
    """Execute notebooks; the pages go to build/weeks/.

    Takes some minutes a week. What runs is the .py source. If a cell fails, its place, its code and the error come last.
    """
    from studylib.course import notebooks

    with _plain_errors():
        if save and parameter:
            raise ValueError("--save stores the outputs of the default parameters: leave out -p")
        chosen = [notebooks.find(week).stem for week in weeks] if weeks else list(notebooks.weeks())
        if not chosen:
            raise ValueError(f"there is no week under {notebooks.ROOT / 'weeks'}")
        given = {
            week: notebooks.parse_parameters(parameter or [], notebooks.read(notebooks.find(week)), week)
            for week in chosen
        }
        failed = []
        for week in chosen:
            try:
                if save:
                    changed = notebooks.save(week)
                    typer.echo(f"weeks/{week}/{week}.ipynb: {'written' if changed else 'unchanged'}")
                else:
                    typer.echo(f"wrote {notebooks.run(week, given[week])}")
            except notebooks.CellError as error:
                failed.append(str(error))
        for message in failed:
            typer.echo(f"\n{message}", err=True)
        if failed:
            raise typer.Exit(1)


@app.command()
def costs(
    net: Annotated[str, typer.Argument(metavar="NET", help="A constructor of studylib.nets, such as mobilenet_v1.")],
    size: Annotated[
        str, typer.Option("--input", metavar="C,H,W", help="Shape of the input: channels, height, width.")
    ] = "3,224,224",
) -> None:
    """Count parameters and multiply-adds of a net."""
    import torch

    from studylib import costs as counting
    from studylib import nets

    with _plain_errors():
        known = sorted(name for name in nets.__all__ if callable(getattr(nets, name)))
        if net not in known:
            raise ValueError(f"there is no net {net!r}; nets: {', '.join(known)}")
        shape = tuple(int(side) if side.strip().isdigit() else 0 for side in size.split(","))
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"--input is {size!r}, expected channels,height,width such as 3,224,224")
        with torch.device("meta"):
            module = getattr(nets, net)()
        typer.echo(str(counting.count(module, shape)))


@app.command()
def ledger(
    paper: Annotated[
        str | None, typer.Argument(metavar="[PAPER]", help="A paper of the ledger; none means all.")
    ] = None,
) -> None:
    """Check the numbers that a paper prints.

    Shows each beside the computed one, with a verdict.
    """
    from studylib import ledger as papers

    with _plain_errors():
        for name in [paper] if paper else papers.papers():
            typer.echo(f"{papers.check(name)}\n")


exercises = typer.Typer(help="Make and prove the GPU exercises; for those who change them.", no_args_is_help=True)
app.add_typer(exercises, name="exercises")


@exercises.command("build")
def exercises_build() -> None:
    """Write the stubs and cards in exercises/ from the solved sources.

    A file that a participant has changed stays as it is.
    """
    from studylib.kernels import stubs

    with _plain_errors():
        written, refused = stubs.build()
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
def exercises_check(
    which: Annotated[
        list[str] | None, typer.Argument(metavar="[WEEK|NAME]", help="Weeks or exercises; none means all.")
    ] = None,
) -> None:
    """Prove that the exercises are sound.

    Each stub is up to date and not solved, each solution passes, each mutant is rejected for the right reason.
    """
    from tqdm import tqdm

    from studylib import kernels
    from studylib.grading import proof

    with _plain_errors():
        chosen = kernels.find(which or [])
        if not chosen:
            raise ValueError("there are no exercises to check")
        wrong = 0
        for name in tqdm(chosen, unit="exercise", leave=False):
            for message in proof.prove(kernels.load(name)):
                wrong += 1
                tqdm.write(f"{name}: {message}\n")
        mutants = sum(len(kernels.load(name).mutants) + 1 for name in chosen)
        typer.echo(
            f"{len(chosen)} exercises, {mutants} mutants: {f'{wrong} wrong' if wrong else 'all as they must be'}"
        )
        if wrong:
            raise typer.Exit(1)
