"""The one place that writes a file over another one, in one step: a reader sees the old one or the new one."""

import os
from pathlib import Path

from studylib.errors import StudyError

ROOT = Path(__file__).resolve().parents[1]  # of the repository
EXERCISES = ROOT / "exercises"  # what participants edit


def text(path: Path) -> str:
    """The file at `path`. Raises StudyError naming it if it is not text, OSError if it can't be read."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise StudyError(f"{path} is not text in UTF-8: {error}") from None


def replace(path: Path, content: str | bytes) -> None:
    """Write a file so that an interruption leaves the old one or the new one, never a part.

    What UTF-8 cannot hold, such as half a character in a name or in an error's text, is written as an escape.
    """
    beside = _beside(path)
    try:
        beside.write_bytes(content if isinstance(content, bytes) else content.encode(errors="backslashreplace"))
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def create(path: Path, content: str) -> None:
    """Write a file that only its owner reads, unless there is one; if two begin at once, the first one's stays."""
    beside = _beside(path)
    try:
        beside.write_bytes(content.encode())
        beside.chmod(0o600)
        os.link(beside, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}")
