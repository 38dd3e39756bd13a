"""The part of the command `study` that counts: the costs of a net, and the numbers that a paper prints."""

from typing import Annotated

import typer

from studylib.cli.terminal import plain_errors
from studylib.errors import StudyError

app = typer.Typer()


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
            raise StudyError(f"there is no net {net!r}; nets: {', '.join(known)}")
        shape = tuple(int(side) if side.strip().isdecimal() else 0 for side in size.split(","))
        if len(shape) != 3 or min(shape) < 1:
            raise StudyError(f"--input is {size!r}, expected channels,height,width such as 3,224,224")
        with torch.device("meta"):
            module = getattr(nets, net)()
        typer.echo(str(counting.count(module, shape)))


@app.command()
def ledger(
    paper: Annotated[str | None, typer.Argument(metavar="PAPER", help="A paper of the ledger; none means all.")] = None,
) -> None:
    """Check the numbers that a paper prints.

    Shows each next to the computed one, with a verdict.
    """
    from studylib import ledger as papers

    with plain_errors():
        for name in [paper] if paper else papers.papers():
            typer.echo(f"{papers.check(name)}\n")
