"""Shows what the user of the command line can mend as a message; anything else is our mistake and keeps its traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer


@contextmanager
def plain_errors() -> Iterator[None]:
    """Around a command's body: ends it with a message and exit status 1, or 130 for Ctrl-C."""
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        typer.echo(f"study: {error}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo("\nstudy: stopped", err=True)
        raise typer.Exit(130) from None
