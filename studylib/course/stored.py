"""Reads a stored notebook, the week's own or a participant's, and says of a damaged one what to do."""

from pathlib import Path

import nbformat
from nbformat import NotebookNode

from studylib.errors import StudyError


def read(path: Path, mend: str) -> NotebookNode:
    """The notebook of an .ipynb. Raises StudyError where the file is damaged; mend: how its message ends."""
    content = path.read_bytes()
    try:
        notebook = nbformat.reads(content.decode(), as_version=4)
        nbformat.validate(notebook)
    except Exception as error:  # noqa: BLE001 - nbformat raises whatever its converters stumble over
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
        raise StudyError(f"{path} is damaged ({reason}){mend}") from None
    return notebook
