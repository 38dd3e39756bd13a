"""The one error that is shown without a traceback, and what helps its message: the name that was probably meant."""

from collections.abc import Iterable
from difflib import get_close_matches


class StudyError(ValueError):
    """Something that the user can mend: the message says what was got, what was expected and what to do.

    Whatever else is raised is our mistake, and keeps its traceback.
    """


def near(name: str, known: Iterable[str], most: int = 1) -> str:
    """What a message about an unknown name ends with: those that were probably meant, if any."""
    found = get_close_matches(name, list(known), n=most, cutoff=0.5)
    return f"; did you mean {' or '.join(found)}?" if found else ""
