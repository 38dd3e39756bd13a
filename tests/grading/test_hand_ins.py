"""Work that can only be meant one way is found wherever it lies; the rest is named, and strangers' folders can do no harm."""

import os

import pytest

from studylib.grading import hand_ins
from studylib.kernels import load, names
from studylib.kernels.stubs import stub

NAMES = ["vector_add", "transpose"]
WEEK = "01_intro_depthwise"


@pytest.fixture
def found(tmp_path):
    """By participant, where the vector_add is that would be judged, or what is said instead."""

    def find(out="out"):
        jobs = hand_ins.jobs_in(tmp_path / "group", NAMES, tmp_path / out)
        jobs = [job for job in jobs if job.exercise == "vector_add"]
        return {
            job.participant: job.path.relative_to(job.folder).as_posix() if job.path else job.instead for job in jobs
        }

    return find


@pytest.fixture
def put(tmp_path):
    """Writes a file below the folder of all submissions."""

    def write(place, text="mine"):
        path = tmp_path / "group" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize(
    "place",
    [
        f"exercises/{WEEK}/vector_add.py",
        f"{WEEK}/vector_add.py",
        "vector_add.py",
        f"clone-main/exercises/{WEEK}/vector_add.py",
        "a/b/c/vector_add.py",
        "Vector_Add.py",
        "VECTOR-ADD.PY",
        "vector add.py",
        "vector_add (1).py",
        "vector_add - Copy (2).py",
        "Kopie/vector_add - Kopie.py",
        "Copy of vector_add.py",
        "anna_vector_add.py",
    ],
)
def test_what_can_only_be_meant_one_way_is_found(found, put, place):
    put(f"anna/{place}")
    put("anna/__MACOSX/vector_add.py", "x")
    put("anna/.git/vector_add.py", "x")
    put("anna/.DS_Store", "x")
    put("anna/__pycache__/vector_add.py", "x")
    put(f"anna/studylib/kernels/{WEEK}/vector_add.py", "the solution")
    put("anna/venv/pyvenv.cfg")
    put("anna/venv/vector_add.py", "x")
    assert found() == {"anna": place}


def test_the_best_of_several(found, put):
    put(f"copies/clone/exercises/{WEEK}/vector_add.py")
    put("copies/vector_add.py")
    put("known/vector_add.py", "one")
    put(f"known/exercises/{WEEK}/vector_add.py", "another")
    put("near/vector_add.py", "one")
    put("near/vector_add (1).py", "another")
    put(f"stub/exercises/{WEEK}/vector_add.py", stub(load("vector_add")))
    put("stub/vector_add (1).py")
    put("stub/vector_add.py")
    assert found() == {
        "copies": "vector_add.py",
        "known": f"exercises/{WEEK}/vector_add.py",
        "near": "vector_add.py",
        "stub": "vector_add.py",
    }


def test_what_is_not_taken_is_named(found, put):
    put("notebook/week 1/vector_add.ipynb")
    put("text/vector_add.py.txt")
    put("two/a/vector_add.py", "one")
    put("two/b/vector_add.py", "another")
    put("zipped/all.zip")
    put("other/main.py")
    put("letter/letter.pdf")
    put("test/test_vector_add.py")
    (put("linked/x").parent / "exercises").symlink_to(put("away/here/letter").parent)
    os.mkdir(put("odd/x").parent / "vector_add\n.ipynb")
    put("odd/y\n.ipynb")
    assert found() == {
        "notebook": "found week 1/vector_add.ipynb: hand in vector_add.py",
        "text": "found vector_add.py.txt: hand in vector_add.py",
        "two": "found 2 that differ, a/vector_add.py, b/vector_add.py: hand in one vector_add.py",
        "zipped": "found all.zip: unpack it",
        "other": "no file has an exercise's name; found main.py",
        "letter": "",
        "test": "found test_vector_add.py: hand in vector_add.py",
        "linked": "found exercises, a link to a folder: hand in the folder itself",
        "away": "",
        "odd": "no file has an exercise's name; found y?.ipynb",
    }


def test_who_is_no_participant(found, put, tmp_path):
    put("anna/vector_add.py")
    put("__MACOSX/anna/vector_add.py")
    put(".git/vector_add.py")
    put("__pycache__/vector_add.py")
    put(".DS_Store")
    put("build/grades/results/anna/vector_add.json")
    put("old/grading.json", "{}")
    for name in hand_ins.OLDER:
        put(f"older/{name}")
    put("ben_vector_add.py")
    put("vector_add.py")
    put("cem.zip")
    put("list.txt")
    (tmp_path / "group" / "dora").symlink_to(tmp_path / "group" / "anna")
    assert found("group/build/grades") == {"anna": "vector_add.py"}
    assert hand_ins.left_out(tmp_path / "group", tmp_path / "group/build/grades") == [
        "ben_vector_add.py is nobody's: put it into a folder with its participant's name",
        "cem.zip is not a folder: unpack it",
        "dora is a link, and links are not followed: put a copy in its place",
        "old is what an earlier `study grade` wrote, and not a participant",
        "older is what an earlier `study grade` wrote, and not a participant",
        "vector_add.py is nobody's: put it into a folder with its participant's name",
    ]


def test_a_participant_with_the_grades_in_his_folder_stays_one(found, put):
    put("anna/vector_add.py")
    put("anna/grades/grading.json", "{}")
    put("anna/grades/vector_add.json")
    assert found("group/anna/grades") == {"anna": "vector_add.py"}


def test_a_folder_without_end_is_left(found, put, monkeypatch, tmp_path):
    monkeypatch.setattr(hand_ins, "MOST", 50)
    put("anna/" + "d/" * 20 + "vector_add.py")
    put("ben/vector_add.py")
    for n in range(60):
        put(f"ben/many/{n}")
        put(f"cem/{n}")
    (tmp_path / "group" / "cem" / "itself").symlink_to(tmp_path / "group" / "cem" / "itself")
    (put("dora/x/y").parent / "up").symlink_to(tmp_path / "group" / "dora")
    said = found()
    assert said["ben"] == "vector_add.py"
    assert said["anna"] == said["cem"] == "more than 50 files, or folders deeper than 8: hand in vector_add.py alone"
    assert said["dora"] == "found x/up, a link to a folder: hand in the folder itself"


def test_exercises_are_told_apart(put, tmp_path):
    for name in names():
        put(f"anna/me_{name}.py", name)
    jobs = hand_ins.jobs_in(tmp_path / "group", names(), tmp_path / "out")
    assert {job.exercise: job.path.name for job in jobs} == {name: f"me_{name}.py" for name in names()}


def test_folders_that_are_none(tmp_path):
    with pytest.raises(ValueError, match="is not a folder"):
        hand_ins.jobs_in(tmp_path / "absent", NAMES, tmp_path / "out")
    (tmp_path / "a_vector_add.py").touch()
    with pytest.raises(ValueError, match="has no folders.*a_vector_add.py is nobody's"):
        hand_ins.jobs_in(tmp_path, NAMES, tmp_path / "out")
