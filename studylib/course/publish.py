"""The part of the command `study` that shows the course: the website, the notebooks' badges, JupyterLab's first page."""

from typing import Annotated

import typer

from studylib.course.commands import _now
from studylib.plain_errors import plain_errors

app = typer.Typer()


@app.command()
def site() -> None:
    """Build the website in build/site from what is stored.

    Nothing is executed, and no network is needed. Takes about a minute.
    """
    from studylib.course.site import build

    with plain_errors():
        typer.echo(f"wrote {build(_now())}")


@app.command()
def address(
    url: Annotated[
        str | None, typer.Argument(metavar="URL", help="Such as https://github.com/OWNER/NAME; none keeps it.")
    ] = None,
) -> None:
    """Say where the course lies on the web.

    Writes the address into group.toml, and into the badges and set-up cells of all notebooks.
    """
    from studylib.course import address as addresses
    from studylib.course import notebooks

    with plain_errors():
        if url:
            addresses.write(url)
        found = addresses.repository()
        for name, source in notebooks.weeks().items():
            if addresses.dress_week(source, found):
                typer.echo(f"weeks/{name}: brought up to date")
        typer.echo(found)


@app.command(hidden=True)
def front() -> None:
    """Write the page that JupyterLab opens on; `make lab` calls it."""
    from contextlib import suppress

    from studylib.course import claims
    from studylib.course import front as pages
    from studylib.course.group import load
    from studylib.grading import record

    with plain_errors():
        course, person = load(), ""
        with suppress(ValueError):  # without git or a name, nobody's topics are shown
            person = claims.git_name(course.root)
        verdicts = {name: verdict["state"] for name, verdict in record.read()["verdicts"].items()}
        typer.echo(pages.write(course, person, verdicts, _now()))
