"""A file is read strictly and edited with its comments kept."""

import datetime
from dataclasses import dataclass
from pathlib import Path

import pytest

from studylib.course import toml_files


@dataclass
class Box:
    number: int
    day: datetime.date | None = None
    folder: Path = Path()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "box.toml"


def test_what_follows_from_the_place_is_given_and_not_read(path):
    path.write_text("number = 3\nday = 2018-01-06")
    assert toml_files.read(Box, path, folder=path.parent) == Box(3, datetime.date(2018, 1, 6), path.parent)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('number = 3\nfolder = "x"', "unknown field 'folder'; known are number, day"),
        ('number = 3\nday = "2018-01-06"', "day is '2018-01-06', expected a date such as 2018-01-06, without quotes"),
        ("number = 3\nday = 2018-01-06T10:00:00", "day is 2018-01-06 10:00:00, expected a date such as"),
        ("number = 3\nday = 2018-02-30", "not valid TOML"),
        ("number = true", "number is True, expected a whole number"),
        ("day = 2018-01-06", "field 'number' is missing"),
        ("<<<<<<< HEAD", "a merge conflict, two branches changed it: keep one side"),
    ],
)
def test_a_mistake_is_named_with_file_and_field(path, text, message):
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"box\.toml.*{message}"):
        toml_files.read(Box, path, folder=path.parent)


def test_bytes_that_are_no_text_are_an_error_of_the_file(path):
    path.write_bytes(b"number = 3 # \xff")
    for reading in (lambda: toml_files.read(Box, path), lambda: toml_files.document(path)):
        with pytest.raises(ValueError, match=r"box\.toml is not valid TOML"):
            reading()


def test_a_merge_conflict_is_called_by_its_name(path):
    """Claims of one topic on two branches end in one, so that it is a participant who reads this."""
    path.write_text("number = 3\n<<<<<<< HEAD\nday = 2018-01-06\n=======\nday = 2018-01-07\n>>>>>>> other\n")
    for reading in (lambda: toml_files.read(Box, path), lambda: toml_files.document(path)):
        with pytest.raises(ValueError, match=r"box\.toml is not valid TOML: line 2 .* two branches changed it"):
            reading()


def test_an_edited_file_keeps_its_comments_and_order(path):
    path.write_text("# why\nnumber = 3  # three\n\nday = 2018-01-06\n")
    document = toml_files.document(path)
    document["number"] = 4
    assert document.as_string() == "# why\nnumber = 4  # three\n\nday = 2018-01-06\n"
