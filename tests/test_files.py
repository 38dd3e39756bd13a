"""A file is replaced as a whole or not at all, and a key that is there already stays."""

import os
from pathlib import Path

import pytest

from studylib import files


@pytest.fixture
def path(tmp_path):
    return tmp_path / "some.txt"


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_replacement_that_is_cut_off_leaves_the_old_file_and_nothing_else(path, monkeypatch, error):
    path.write_text("old")
    written = Path.write_bytes

    def half(self, content):
        written(self, content[:3])
        raise error

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(error):
        files.replace(path, "new and longer")
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]


def test_a_replaced_file_is_the_new_one(path):
    files.replace(path, "naïve")
    files.replace(path, b"later")
    assert path.read_bytes() == b"later" and list(path.parent.iterdir()) == [path]


def test_what_utf8_cannot_hold_is_written_as_an_escape(path):
    files.replace(path, "half \ud83d of a letter")
    assert path.read_text() == "half \\ud83d of a letter"


@pytest.mark.parametrize("has_links", [True, False])
def test_a_created_file_is_its_owners_alone(path, monkeypatch, has_links):
    if not has_links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError("no links here")))
    files.create(path, "key")
    assert path.read_text() == "key" and list(path.parent.iterdir()) == [path]
    assert os.name == "nt" or path.stat().st_mode & 0o777 == 0o600


def test_where_two_create_at_once_the_first_stays(path):
    files.create(path, "first")
    files.create(path, "second")
    assert path.read_text() == "first" and list(path.parent.iterdir()) == [path]


def test_bytes_that_are_no_text_are_refused_with_the_files_name(path):
    path.write_bytes(b"\xff")
    with pytest.raises(ValueError, match="some.txt is not text in UTF-8"):
        files.text(path)
