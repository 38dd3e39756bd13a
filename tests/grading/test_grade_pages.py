"""The report says what became of everybody's work, and nothing of those who left or of the grader's own folders."""

import csv
import sys
from pathlib import Path

from studylib.grading import report
from studylib.grading.results import Grade
from studylib.grading.verdict import Stage, Verdict


def made(person, *stages, path="", notes=()):
    return Grade(person, Verdict("transpose", "02_resnext_gpu1", path, 1, "", False, list(stages), list(notes)))


def test_pages_of_those_who_left_are_removed_and_only_they(tmp_path):
    out = tmp_path / "out"
    report.write([made("anna"), made("ben")], out, tmp_path)
    (out / "participants" / "mine.html").touch()
    report.write([made("anna"), made("cem")], out, tmp_path)
    assert {path.name for path in (out / "participants").iterdir()} == {"anna.html", "cem.html", "mine.html"}


def test_kept_results_of_those_who_left_are_removed_and_only_they(tmp_path):
    results = tmp_path / "out" / "results"
    for place in ("anna/transpose.json", "ben/transpose.json", "cem/transpose.json", "cem/mine.txt"):
        (results / place).parent.mkdir(parents=True, exist_ok=True)
        (results / place).touch()
    (results / "linked").symlink_to(results / "anna")
    report.write([made("anna")], tmp_path / "out", tmp_path)
    kept = {path.relative_to(results).as_posix() for path in results.rglob("*") if not path.is_dir()}
    assert kept == {"anna/transpose.json", "cem/mine.txt"} and not (results / "ben").exists()


def test_what_a_terminal_would_obey_is_in_no_file(tmp_path):
    failed = Stage("right", "failed", "wrong\x1b[2J\x00\r\x9b\u202e\nhere")
    report.write([made("an\x1bna\n", failed)], tmp_path / "out", tmp_path)
    for name in ("grades.csv", "junit.xml"):
        shown = (tmp_path / "out" / name).read_text()
        assert not [c for c in shown if not c.isprintable() and c != "\n"], name


def test_an_edited_list_of_pages_removes_nothing_else(tmp_path):
    out = tmp_path / "out"
    (tmp_path / "mine.html").touch()
    for text in ('{"pages": ["../../mine.html", "notes.txt", "..", 3]}', '{"pages": 3}', "[]", "nonsense"):
        (out / "participants").mkdir(parents=True, exist_ok=True)
        (out / "participants" / "notes.txt").touch()
        (out / report.MARKER).write_text(text)
        report.write([made("anna")], out, tmp_path)
        assert (tmp_path / "mine.html").exists() and (out / "participants" / "notes.txt").exists()


def test_the_graders_folders_are_not_shown(tmp_path):
    folder, out = tmp_path / "branches-x1", tmp_path / "out"
    person = folder / "anna"
    text = f"cannot read '{person}/data.txt' or {sys.prefix}/lib/x.py or {Path.home()}/secret or {folder}"
    failed = Stage("imports", "failed", text)
    report.write([made("anna", failed, path=f"{person}/a/transpose.py", notes=[f"see {person}/b"])], out, folder)
    for path in (out / "grades.csv", out / "report.html", out / "junit.xml", out / "participants" / "anna.html"):
        shown = path.read_text()
        assert str(tmp_path) not in shown and sys.prefix not in shown and f"{Path.home()}/" not in shown, path
    page = (out / "participants" / "anna.html").read_text()
    assert "judged: a/transpose.py" in page and "&#x27;data.txt&#x27;" in page and "see b" in page


def test_what_lay_there_instead_is_in_every_form(tmp_path):
    why = "found transpose.ipynb: hand in transpose.py"
    grades = [made("anna", notes=[why])]
    assert report.not_taken(grades) == [f"anna: transpose not handed in; {why}"]
    report.write(grades, tmp_path / "out", tmp_path)
    with (tmp_path / "out" / "grades.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["state"] == "not handed in" and row["reason"] == why
    for name in ("report.html", "junit.xml", "participants/anna.html"):
        assert why in (tmp_path / "out" / name).read_text(), name
