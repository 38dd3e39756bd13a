"""Words of messages and of the command line: a number with its noun, and the weeks that a word means."""

from collections.abc import Iterable
from pathlib import PurePath


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun: "1 element", "1,024 elements", "2 indices" for counted(2, "index", "indices")."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def weeks(word: str, known: Iterable[str]) -> list[str]:
    """Those of the known weeks (02_resnext_gpu1, ...) that a word means, in order: one where the word is clear.

    A word is a week's number (2), its folder, a file of its name in it, or how the name begins.
    """
    name = PurePath(word.strip()).name.removesuffix(".py").removesuffix(".ipynb")
    number = int(name) if name.isdecimal() else None
    known = list(known)
    exact = [w for w in known if w == name or (number is not None and w[:2].isdecimal() and number == int(w[:2]))]
    return exact or [w for w in known if name and w.startswith(name)]
