"""What was tried on the judge is tried again: nothing runs, each attempt gets the verdict that it should, nobody else suffers."""

import csv
import os
import unicodedata
from xml.etree import ElementTree

import hunted

from studylib.grading import hand_ins, judge_apart, report
from studylib.grading.grade import grade
from studylib.grading.hand_ins import Job
from studylib.grading.isolation import Limits

RIGHT = hunted.TOP + hunted.HEAD + hunted.RIGHT + hunted.TAIL
NAMES = [attempt.name for attempt in hunted.ATTEMPTS + hunted.ENDED_BY_TIME]


def graded(attempts, folder):
    """By attempt its grade; each is a participant, and all are judged by one grading."""
    jobs = []
    for attempt in attempts:
        path = folder / "group" / attempt.name / f"{attempt.exercise}.py"
        path.parent.mkdir(parents=True)
        text = attempt.text
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
        jobs.append(Job(attempt.name, attempt.exercise, path.parent, path))
    return {found.participant: found for found in grade(jobs, folder / "out")}


def unexpected(attempts, grades):
    """A line for each attempt of which something else came."""
    lines = []
    for attempt in attempts:
        verdict = grades[attempt.name].verdict
        stage, text = next(((s.name, s.text) for s in verdict.stages if s.status == "failed"), ("passed", ""))
        if (
            stage not in attempt.stage.split(" or ")
            or attempt.says not in text
            or (stage == "passed") != verdict.passed
        ):
            lines.append(f"{attempt.name}: expected {attempt.stage}: {attempt.says}\n    got {stage}: {text[:200]}")
    return lines


def test_each_attempt_gets_the_verdict_that_it_should(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    grades = graded(hunted.ATTEMPTS, tmp_path)
    assert unexpected(hunted.ATTEMPTS, grades) == []
    assert {path.name for path in tmp_path.iterdir()} == {"group", "out"}, "something has run"
    report.write(list(grades.values()), tmp_path / "out", tmp_path / "group")
    pages = [path for path in (tmp_path / "out").rglob("*") if path.suffix in (".html", ".csv", ".xml")]
    assert len(pages) == len(grades) + 3
    for page in pages:
        shown = page.read_text(encoding="utf-8")
        assert str(tmp_path) not in shown and "studylib/" not in shown, page
        if page.suffix != ".csv":  # a table's text is data, not markup
            assert "<script" not in shown and "<b>x" not in shown, page


def test_what_does_not_end_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(judge_apart, "JUDGE", Limits(seconds=2))
    grades = graded(hunted.ENDED_BY_TIME, tmp_path)
    assert unexpected(hunted.ENDED_BY_TIME, grades) == []


def test_every_attempt_has_a_name_of_its_own_and_an_aim():
    assert len(set(NAMES)) == len(NAMES) >= 60
    assert all(attempt.tries and attempt.text for attempt in hunted.ATTEMPTS + hunted.ENDED_BY_TIME)


STRANGE = (
    "<img src=x onerror=alert(1)>",
    "=cmd|'C calc'!A0",
    "+1+1",
    "@SUM(1)",
    "-2+3",
    "\t=1",
    "new\nline",
    "back\rwards",
    "esc\x1b[31m",
    "bidi\u202egpj",
    "report.html",
    "--out",
    "a..b",
    "%2e%2e",
    "a?b#c",
    "Anna",
    "anna",
    "caf\u00e9",
    "cafe\u0301",
    "n" * 255,
    "bad\udcff",
)


def test_strange_names_harm_nothing(tmp_path):
    """Names of participants, of which a file system takes more than a page, a table or a terminal."""
    for name in STRANGE:
        (tmp_path / "group" / name).mkdir(parents=True)
        (tmp_path / "group" / name / "vector_add.py").write_text(
            RIGHT if name == "Anna" else RIGHT.replace("+ b", "- b")
        )
    jobs = hand_ins.jobs_in(tmp_path / "group", ["vector_add"], tmp_path / "out")
    assert len(jobs) == len(STRANGE)
    grades = list(grade(jobs, tmp_path / "out"))
    assert {found.participant: found.state for found in grades} == dict.fromkeys(STRANGE, "failed") | {"Anna": "passed"}
    report.write(grades, tmp_path / "out", tmp_path / "group")
    pages = list((tmp_path / "out" / "participants").iterdir())
    assert len({unicodedata.normalize("NFC", page.name).casefold() for page in pages}) == len(STRANGE)
    assert "<img src=x" not in (tmp_path / "out" / "report.html").read_text(errors="surrogateescape")
    with (tmp_path / "out" / "grades.csv").open(errors="surrogateescape", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(STRANGE)
    for row in rows:
        assert row["participant"].lstrip()[:1] not in ("=", "+", "-", "@") and "\x1b" not in row["participant"]
    assert len(ElementTree.parse(tmp_path / "out" / "junit.xml").getroot()) == len(STRANGE)


def _pipe(path):
    os.mkfifo(path)


def _huge(path):
    with path.open("wb") as file:
        file.truncate(2 << 30)


def _deep(path):
    for _ in range(60):
        path = path.parent / "d" / path.name
    path.parent.mkdir(parents=True)
    path.write_text(RIGHT)


def _many(path):
    for number in range(300):
        path.with_stem(f"vector_add ({number})").write_text(f"# {number}\n")


def _modules(path):
    path.write_text(RIGHT)
    for name in ("numba", "numpy", "json", "sitecustomize", "conftest"):
        path.with_stem(name).write_text("open('MARK', 'w')\n")
        (path.parents[1] / f"{name}.py").write_text("open('MARK', 'w')\n")


# What lies where a participant's vector_add.py should, how it comes there, and what is said of it.
FILES = {
    "pipe": (_pipe, "failed", "is not a file"),
    "huge": (_huge, "failed", "a submission has at most 200,000"),
    "loop": (lambda path: path.symlink_to(path.name), "failed", "cannot be read"),
    "zero": (lambda path: path.symlink_to("/dev/zero"), "failed", "a link to a file outside of its folder"),
    "another": (lambda path: path.symlink_to("../right/vector_add.py"), "failed", "outside of its folder"),
    "folder": (lambda path: path.mkdir(), "not handed in", "which is a folder"),
    "deep": (_deep, "not handed in", "folders deeper than 8"),
    "many": (_many, "not handed in", "found 20 that differ"),
    "modules": (_modules, "passed", ""),
    "right": (lambda path: path.write_text(RIGHT), "passed", ""),
}


def test_what_lies_in_a_files_place_harms_nothing(tmp_path, monkeypatch):
    for name, (make, _, _) in FILES.items():
        (tmp_path / "group" / name).mkdir(parents=True)
        make(tmp_path / "group" / name / "vector_add.py")
    monkeypatch.chdir(tmp_path / "group")
    jobs = hand_ins.jobs_in(tmp_path / "group", ["vector_add"], tmp_path / "out")
    grades = {found.participant: found for found in grade(jobs, tmp_path / "out")}
    for name, (_, state, says) in FILES.items():
        verdict = grades[name].verdict
        text = "\n".join([*verdict.notes, *(stage.text for stage in verdict.stages if stage.status == "failed")])
        assert grades[name].state == state and says in text, (name, text)
    assert not list(tmp_path.rglob("MARK"))
