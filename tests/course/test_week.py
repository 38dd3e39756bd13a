"""A week.toml is read as written, and every mistake in it is named with file and field."""

import pytest

from studylib import course
from studylib.course import week

GOOD = """
number = 3
title = "Nets & <paths>"
topics = ["FractalNet"]
hours = [
    { title = "One", minutes = 60, parts = [{ minutes = 50, what = "Talk", section = "1.1 Paths", who = "Ada" },
                                            { minutes = 10, what = "Break" }] },
    { title = "Two", minutes = 70, parts = [{ minutes = 70, what = "More" }] },
    { title = "Three", minutes = 50, parts = [{ minutes = 50, what = "Kernels" }] },
]
readings = [{ title = "FractalNet", link = "https://arxiv.org/abs/1605.07648" }]
"""


@pytest.fixture
def load(tmp_path):
    def load(text):
        (tmp_path / "week.toml").write_text(text, encoding="utf-8")
        return week.load(tmp_path)

    return load


def test_the_run_sheet_counts_from_the_beginning_over_the_hours(load):
    rows = load(GOOD).rows()
    assert [row[:2] for row in rows] == [("0:00", 50), ("0:50", 10), ("1:00", 70), ("2:10", 50)]
    assert rows[0][2:] == ("Talk", "1.1 Paths", "Ada")


def test_as_text_and_as_html_it_shows_every_part_once(load):
    sheet = load(GOOD)
    for shown in (str(sheet), sheet._repr_html_()):
        for what in ("Talk", "Break", "More", "Kernels", "1.1 Paths", "Ada", "0:50", "2:10"):
            assert shown.count(what) == 1, what
    assert "Nets &amp; &lt;paths&gt;" in sheet._repr_html_() and "Nets & <paths>" in str(sheet)


def test_the_notebook_asks_for_the_sheet_of_its_own_folder(load, tmp_path, monkeypatch):
    expected = load(GOOD)
    monkeypatch.chdir(tmp_path)
    assert course.sheet() == expected


def test_the_participants_notebook_finds_the_sheet_of_its_week(load, tmp_path, monkeypatch):
    load(GOOD)
    for folder in ("weeks/03_paths", "exercises/03_paths"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "week.toml").rename(tmp_path / "weeks/03_paths/week.toml")
    monkeypatch.chdir(tmp_path / "exercises" / "03_paths")
    assert course.sheet(".").name == "03_paths" == course.sheet().folder.name
    monkeypatch.chdir(tmp_path / "exercises")
    with pytest.raises(FileNotFoundError, match="there is no week.toml: give the folder of a meeting"):
        course.sheet(".")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('title = "Nets & <paths>"\n', "", "field 'title' is missing"),
        ("number = 3", 'number = "3"', "number is '3', expected a whole number"),
        ("number = 3", "number = true", "number is True, expected a whole number"),
        ('topics = ["FractalNet"]', 'topics = "FractalNet"', "topics is 'FractalNet', expected a list"),
        ('topics = ["FractalNet"]', "topics = [1]", r"topics\[1\] is 1, expected a text"),
        ("number = 3", "number = 3\ntopic = []", "unknown field 'topic'; known are number, title"),
        (', link = "https://arxiv.org/abs/1605.07648"', "", r"field 'link' is missing in readings\[1\]"),
        (', what = "Break"', "", r"field 'what' is missing in hours\[1\].parts\[2\]"),
        ('{ minutes = 50, what = "Kernels" }', '"Kernels"', r"hours\[3\].parts\[1\] is 'Kernels', expected a table"),
        ("minutes = 10,", "minutes = 15,", r"hours\[1\] \(One\) says minutes = 60, its parts add up to 65"),
        ("minutes = 10,", "minutes = 0,", r"hours\[1\].parts\[2\].minutes is 0, expected above 0"),
        ("minutes = 70", "minutes = 60", "the hours add up to 170 minutes, a meeting has 180"),
        ("number = 3", "number = ", "is not valid TOML: "),
    ],
)
def test_a_mistake_is_named_with_file_and_field(load, old, new, message):
    assert old in GOOD
    with pytest.raises(ValueError, match=rf"week\.toml.*{message}"):
        load(GOOD.replace(old, new))


def test_without_the_file_it_says_which_folder_it_wants(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"week\.toml: give the folder of a meeting"):
        week.load(tmp_path)


def test_what_a_notebook_stores_beside_the_table_has_no_path_and_no_date(load, tmp_path):
    assert repr(load(GOOD)) == "<Week 3: Nets & <paths>>"
    assert str(tmp_path) not in repr(load(GOOD.replace("number = 3", "number = 3\ndate = 2026-11-02")))
