"""The command `study`: notebooks, costs, the papers' numbers, the GPU exercises, and the group."""

from typing import Annotated

import typer

from studylib.course import commands as course_commands
from studylib.course import publish
from studylib.grading import commands
from studylib.plain_errors import plain_errors

app = typer.Typer(
    help=__doc__,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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

    with plain_errors():
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

    with plain_errors():
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
    paper: Annotated[str | None, typer.Argument(metavar="PAPER", help="A paper of the ledger; none means all.")] = None,
) -> None:
    """Check the numbers that a paper prints.

    Shows each beside the computed one, with a verdict.
    """
    from studylib import ledger as papers

    with plain_errors():
        for name in [paper] if paper else papers.papers():
            typer.echo(f"{papers.check(name)}\n")


app.add_typer(commands.app)
app.add_typer(course_commands.app)
app.add_typer(publish.app)
