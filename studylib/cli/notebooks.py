"""The part of `study` that is about notebooks and pages: executed, dressed, shown in JupyterLab and on the web."""

from typing import Annotated

import typer

from studylib.cli.terminal import now, plain_errors
from studylib.errors import StudyError

app = typer.Typer()


@app.command()
def run(
    weeks: Annotated[
        list[str] | None,
        typer.Argument(metavar="WEEK", help="Weeks by number or folder; none means all."),
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
            "--save", help="Rewrite the .ipynb next to the .py, with the default parameters, instead of build/weeks/."
        ),
    ] = False,
) -> None:
    """Execute notebooks; the pages go to build/weeks/.

    Takes some minutes a week. What runs is the .py source. If a cell fails, its place, its code and the error come
    last.
    """
    from studylib.course import notebooks

    with plain_errors():
        if save and parameter:
            raise StudyError("--save stores the outputs of the default parameters: leave out -p")
        chosen = [notebooks.find(week).stem for week in weeks] if weeks else list(notebooks.weeks())
        if not chosen:
            raise StudyError(f"there is no week under {notebooks.ROOT / 'weeks'}")
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
def site() -> None:
    """Build the website in build/site from what is stored.

    Nothing is executed, and no network is needed. Takes about a minute.
    """
    from studylib.course.site import build

    with plain_errors():
        typer.echo(f"wrote {build(now())}")


@app.command()
def address(
    url: Annotated[
        str | None,
        typer.Argument(metavar="URL", help='Such as https://github.com/OWNER/NAME; "" takes it away; none keeps it.'),
    ] = None,
) -> None:
    """Say where the course lies on the web.

    Writes the address into group.toml, and into the badges and set-up cells of all notebooks; without one they have
    no badges.
    """
    from studylib.course import address as addresses
    from studylib.course import meeting, notebooks

    with plain_errors():
        if url is not None:
            addresses.write(url)
        found = addresses.repository()
        for name, source in notebooks.weeks().items():
            if addresses.dress_week(source, found):
                typer.echo(f"weeks/{name}: brought up to date")
        written, refused = meeting.build()
        for path in written:
            typer.echo(f"exercises/{path.parent.name}/{path.name}: brought up to date")
        for path in refused:
            typer.echo(f"exercises/{path.parent.name}/{path.name}: kept, for it has been changed", err=True)
        typer.echo(found or "no address: the notebooks show no badges")


@app.command(hidden=True)
def front() -> None:
    """Write the page that JupyterLab opens on; `make lab` calls it."""
    from contextlib import suppress

    from studylib.course import claims
    from studylib.course import front as pages
    from studylib.course.course import load
    from studylib.grading import record

    with plain_errors():
        course, person = load(), ""
        with suppress(StudyError):  # without git or a name, nobody's topics are shown
            person = claims.git_name(course.root)
        verdicts = {name: verdict["state"] for name, verdict in record.read()["verdicts"].items()}
        typer.echo(pages.write(course, person, verdicts, now()))
