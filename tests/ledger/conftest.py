"""A ledger folder of its own, so that tests write files without touching the real ones."""

import pytest
from toy import HEAD

from studylib.ledger import files


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a file into an otherwise empty ledger."""
    monkeypatch.setattr(files, "FOLDER", tmp_path)

    def toy(*entries: str, head: str = HEAD, name: str = "toy.toml") -> None:
        (tmp_path / name).write_text("\n".join([head, *entries]), encoding="utf-8")

    return toy
