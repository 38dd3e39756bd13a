"""What all commands share: the clock, the width of the terminal, and how an error is shown."""

import datetime
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from studylib.errors import StudyError


@contextmanager
def plain_errors() -> Iterator[None]:
    """Around a command's body: ends it with a message and exit status 1, or 130 for Ctrl-C.

    This holds for what the user can mend and for what the system refuses; anything else is our mistake and keeps its
    traceback.
    """
    try:
        yield
    except (StudyError, OSError) as error:
        typer.echo(f"study: {error}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo("\nstudy: stopped", err=True)
        raise typer.Exit(130) from None


def now() -> datetime.datetime:
    """The one place where the clock is read; everything else is given the time."""
    return datetime.datetime.now().astimezone()


def show(shown: object) -> None:
    """Print what rich can draw, as wide as the terminal, or in 160 columns if the output is not a terminal."""
    from rich.console import Console

    width = shutil.get_terminal_size((160, 24)).columns if sys.stdout.isatty() else 160
    Console(width=width, highlight=False).print(shown)
