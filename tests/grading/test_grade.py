"""Whatever one participant hands in, it is his failure with a reason, and nobody else's grade changes."""

import csv
import os
import signal
import subprocess
import sys
import time
from xml.etree import ElementTree

import pytest
from hostile import HOSTILE

from studylib.grading import grade, report
from studylib.kernels import load
from studylib.kernels.stubs import stub

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="study grade needs fork, which Windows lacks")
NAMES = ["transpose"]


def graded(folder, out):
    return {found.participant: found for found in grade.grade(grade.jobs_in(folder, NAMES), out)}


def reason(found):
    return next((s.text for s in found.verdict.stages if s.status == "failed"), "")


def test_hostile_submissions_fail_alone(hand_in, solved, tmp_path):
    folder = hand_in("good", solved)
    hand_in("zealous", solved)
    for person, (text, _) in HOSTILE.items():
        hand_in(person, solved + text)
    hand_in("latin", solved.encode() + b"# \xe9\n")
    hand_in("large", solved + "#" * 300_000)
    (folder / "linked").mkdir()
    (folder / "linked" / "transpose.py").symlink_to(folder / "good" / "02_resnext_gpu1" / "transpose.py")
    (folder / "pipe").mkdir()
    os.mkfifo(folder / "pipe" / "transpose.py")
    (folder / "empty").mkdir()
    found = graded(folder, tmp_path / "out")
    assert found["good"].state == found["zealous"].state == "passed"
    assert found["good"].picture.startswith(b"\x89PNG")
    expected = {person: words for person, (_, words) in HOSTILE.items()} | {
        "latin": "not UTF-8",
        "large": "at most 200,000",
        "linked": "link to a file outside",
        "pipe": "not a file",
    }
    for person, words in expected.items():
        assert found[person].state == "failed", person
        assert words in reason(found[person]), (person, reason(found[person]))
    assert found["empty"].state == grade.MISSING
    assert (folder / "deletes" / "02_resnext_gpu1" / "transpose.py").exists()
    for path in report.write(list(found.values()), tmp_path / "out"):
        assert path.stat().st_size
    with (tmp_path / "out" / "grades.csv").open() as file:
        rows = {row["participant"]: row for row in csv.DictReader(file)}
    assert rows["good"]["state"] == "passed" and rows["good"]["is_reference"] == "True"
    assert rows["endless"]["stage"] == "imports"
    suites = ElementTree.parse(tmp_path / "out" / "junit.xml").getroot()
    assert len(suites) == len(found)
    assert sum(int(suite.get("failures")) for suite in suites) == len(expected)


KERNELS = {
    "loops": ("while True:\n        pass", "safe"),
    "loops_long": ("for i in range(1 << 60):\n        out[0, 0] = a[0, 0]", "safe"),
    "prints": ("for i in range(1 << 40):\n        print(i)", "safe"),
    "holds": ("b = cuda.local.array(1 << 40, float32)\n    out[0, 0] = b[0]", "right"),
    "recurses": ("transpose[1, 1](a, out)", "right"),
    "reads_files": ("out[0, 0] = float32(len(open('/etc/passwd').read()))", "right"),
    "imports": ("import os\n    os._exit(0)", "right"),
}


def test_hostile_kernels_fail_alone(hand_in, solved, tmp_path):
    folder = hand_in("good", solved)
    head, _, rest = solved.partition("    # BEGIN SOLUTION\n")
    tail = rest.partition("    # END SOLUTION\n")[2]
    for person, (body, _) in KERNELS.items():
        hand_in(person, f"{head}    {body}\n{tail}")
    found = graded(folder, tmp_path / "out")
    assert found["good"].state == "passed"
    for person in KERNELS:
        assert found[person].state == "failed", person
        assert reason(found[person]), person


def test_a_faked_result_gains_nothing(hand_in, solved, tmp_path):
    # It tells the grader that it was imported, in the grader's own words, before it ends; its kernel stays unsolved.
    fake = 'import os\nfor fd in range(3, 64):\n    try:\n        os.write(fd, b\'{"why": ""}\')\n    except OSError:\n        pass\n'
    folder = hand_in("forger", stub(load("transpose")) + fake + "os._exit(0)\n")
    hand_in("printer", stub(load("transpose")) + "print('transpose: passed')\n")
    found = graded(folder, tmp_path / "out")
    assert {person: f.state for person, f in found.items()} == {"forger": "not attempted", "printer": "not attempted"}


def test_again_gives_the_same_and_judges_only_what_changed(hand_in, solved, tmp_path, monkeypatch):
    folder, out = hand_in("anna", solved), tmp_path / "out"
    hand_in("ben", solved.replace("cuda.syncthreads()", "pass"))
    first = graded(folder, out)
    begun = []
    importing = grade._importing
    monkeypatch.setattr(grade, "_importing", lambda job: begun.append(job.participant) or importing(job))
    again = graded(folder, out)
    assert not begun and {p: f.verdict.as_dict() for p, f in again.items()} == {
        p: f.verdict.as_dict() for p, f in first.items()
    }
    hand_in("ben", solved)
    assert graded(folder, out)["ben"].state == "passed" and begun == ["ben"]
    fresh = graded(folder, tmp_path / "other")
    assert fresh["anna"].verdict.as_dict() == first["anna"].verdict.as_dict()
    assert fresh["anna"].picture == first["anna"].picture


def test_interrupted_it_leaves_nothing_running_and_goes_on(hand_in, solved, tmp_path):
    folder, out = hand_in("anna", solved), tmp_path / "out"
    hand_in("zoe", solved + "import time\nwhile True:\n    time.sleep(1)\n")
    code = f"from studylib.cli import app; app({['grade', str(folder), '--out', str(out)]!r})"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, start_new_session=True)
    kept = out / "results" / "anna" / "transpose.json"
    until = time.monotonic() + 100
    while not kept.exists() and time.monotonic() < until:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=30)[1].decode()
    assert process.returncode == 130 and "goes on from there" in said
    assert not (out / "results" / "zoe").exists()
    assert graded(folder, out)["anna"].state == "passed"


def test_branches(hand_in, solved, tmp_path, monkeypatch):
    repository = tmp_path / "clone"
    path = repository / "exercises" / "02_resnext_gpu1" / "transpose.py"
    path.parent.mkdir(parents=True)
    path.write_text(solved)

    def git(*arguments):
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", "-C", repository, *who, *arguments], check=True, capture_output=True)

    git("init", "-b", "group/anna")
    git("add", ".")
    git("commit", "-m", "solved")
    git("checkout", "-b", "group/ben")
    path.unlink()
    path.symlink_to("/etc/passwd")
    git("commit", "-am", "a link")
    git("checkout", "-b", "other")
    monkeypatch.setattr(grade, "EXERCISES", repository / "exercises")
    folder = grade.check_out("group/*", tmp_path / "out")
    assert sorted(p.name for p in folder.iterdir()) == ["group_anna", "group_ben"]
    found = graded(folder, tmp_path / "grades")
    assert found["group_anna"].state == "passed" and found["group_ben"].state == grade.MISSING
    with pytest.raises(ValueError, match="no git branch fits 'nobody'"):
        grade.check_out("nobody", tmp_path / "none")


def test_folders_that_are_none(tmp_path):
    with pytest.raises(ValueError, match="is not a folder"):
        grade.jobs_in(tmp_path / "absent", NAMES)
    with pytest.raises(ValueError, match="has no folders"):
        grade.jobs_in(tmp_path, NAMES)


def test_the_report_shows_hostile_names_as_text(hand_in, solved, tmp_path):
    folder = hand_in("<b>=1+1", solved)
    hand_in("=cmd", stub(load("transpose")))
    report.write(list(graded(folder, tmp_path / "out").values()), tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "&lt;b&gt;=1+1" in page and "<b>=1" not in page
    assert "'=cmd" in (tmp_path / "out" / "grades.csv").read_text()
