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
    put("folder/vector_add.py/x.md")
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
        "folder": "found vector_add.py, which is a folder: hand in a file",
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
    put("vector_add.py")
    put("cem.zip")
    put("list.txt")
    assert found("group/build/grades") == {"anna": "vector_add.py"}
    assert hand_ins.left_out(tmp_path / "group", tmp_path / "group/build/grades") == [
        "cem.zip is not a folder: unpack it",
        "old is what an earlier `study grade` wrote, and not a participant",
        "older is what an earlier `study grade` wrote, and not a participant",
        "vector_add.py is nobody's: put it into a folder with its participant's name",
    ]


def test_files_that_lie_beside_the_folders_are_theirs_whose_name_they_have(found, put, tmp_path):
    put("anna/vector_add.py")
    for name in ("Ben_vector_add (1).py", "ben-Transpose.py", "cem lee_vector_add.py", "Anna_vector_add.py"):
        put(name)
    for name in ("dora_vector_add.py", "Dora_vector_add (2).py"):
        put(name, name)
    for name in ("_vector_add.py", "test_vector_add.py", "eva_vector_add.ipynb", "notes.txt"):
        put(name)
    assert found() == {
        "anna": "vector_add.py",
        "Ben": "Ben_vector_add (1).py",
        "cem lee": "cem lee_vector_add.py",
        "Dora": "found 2 that differ, Dora_vector_add (2).py, dora_vector_add.py: hand in one vector_add.py",
    }
    jobs = hand_ins.jobs_in(tmp_path / "group", ["transpose"], tmp_path / "out")
    assert {job.participant: job.path.name for job in jobs if job.path} == {"Ben": "ben-Transpose.py"}
    assert hand_ins.left_out(tmp_path / "group", tmp_path / "out") == [
        "Anna_vector_add.py lies next to the folder of Anna: put it in there",
        "_vector_add.py is nobody's: put it into a folder with its participant's name",
        "eva_vector_add.ipynb is nobody's: put it into a folder with its participant's name",
        "test_vector_add.py is nobody's: put it into a folder with its participant's name",
    ]


@pytest.mark.parametrize("place", ["vector_add.py", f"{WEEK}/vector_add.py", f"exercises/{WEEK}/vector_add.py"])
def test_one_participants_exercises_are_one_participant(found, put, place):
    put(place)
    put("transpose.txt")
    assert found() == {"group": place}


def test_a_link_is_followed_only_among_the_submissions(found, put, tmp_path):
    put("anna/vector_add.py")
    put(".clones/ben/exercises/vector_add.py")
    put("anna/old/vector_add.py")
    put("out/grading.json", "{}")
    put("../elsewhere/vector_add.py")
    group = tmp_path / "group"
    for name, target in (
        ("again", group / "anna"),
        ("ben", ".clones/ben"),
        ("file_vector_add.py", "anna/vector_add.py"),
        ("grades", group / "out"),
        ("itself", group / "itself"),
        ("outside", tmp_path / "elsewhere"),
        ("root", "/"),
        ("up", group),
    ):
        (group / name).symlink_to(target)
    assert found("group/out") == {"anna": "vector_add.py", "ben": "exercises/vector_add.py"}
    assert hand_ins.left_out(group, group / "out") == [
        "again is a link to anna, whose work is judged already",
        "file_vector_add.py is a link to a file, and such links are not followed: put a copy in its place",
        "grades is a link to what `study grade` writes, and not a participant",
        "itself is a link that leads nowhere",
        "outside is a link to a folder elsewhere, and is not followed: put a copy in its place",
        "root is a link to a folder elsewhere, and is not followed: put a copy in its place",
        "up is a link to a folder elsewhere, and is not followed: put a copy in its place",
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
    assert (
        said["anna"]
        == said["cem"]
        == "more than 50 files, or folders deeper than 8: hand in the exercises' files alone"
    )
    assert said["dora"] == "found x/up, a link to a folder: hand in the folder itself"


def test_exercises_are_told_apart(put, tmp_path):
    for name in names():
        put(f"anna/me_{name}.py", name)
    jobs = hand_ins.jobs_in(tmp_path / "group", names(), tmp_path / "out")
    assert {job.exercise: job.path.name for job in jobs} == {name: f"me_{name}.py" for name in names()}


def test_folders_that_are_none(tmp_path):
    with pytest.raises(ValueError, match="is not a folder"):
        hand_ins.jobs_in(tmp_path / "absent", NAMES, tmp_path / "out")
    (tmp_path / "vector_add.ipynb").touch()
    with pytest.raises(ValueError, match="has no folders.*vector_add.ipynb is nobody's"):
        hand_ins.jobs_in(tmp_path, NAMES, tmp_path / "out")
