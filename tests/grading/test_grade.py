"""Whatever one participant hands in, it is his failure with a reason, and nobody else's grade changes."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from xml.etree import ElementTree

import pytest
from hostile import HOSTILE, UNHOOKED

from studylib.grading import grade, hand_ins, isolation, judge_apart, report
from studylib.grading.child import Child, write_all
from studylib.grading.identity import digest_of
from studylib.grading.isolation import Limits
from studylib.grading.submission import take
from studylib.grading.verdict import MISSING
from studylib.kernels import load
from studylib.kernels.stubs import stub

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="study grade needs fork, which Windows lacks"),
    pytest.mark.slow,
]
NAMES = ["transpose"]


def graded(folder, out):
    return {found.participant: found for found in grade.grade(hand_ins.jobs_in(folder, NAMES, out), out)}


def reason(found):
    return next((s.text for s in found.verdict.stages if s.status == "failed"), "")


def test_hostile_submissions_fail_alone(hand_in, solved, tmp_path):
    folder = hand_in("good", solved)
    hand_in("zealous", solved)
    for person in ("syntax", *LOUD):
        hand_in(person, solved + HOSTILE[person][0])
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
    expected = {
        "syntax": "is not Python",
        "latin": "not UTF-8",
        "large": "at most 200,000",
        "linked": "link to a file outside",
        "pipe": "not a file",
    }
    for person, words in expected.items():
        assert found[person].state == "failed", person
        assert words in reason(found[person]), (person, reason(found[person]))
    # What stands beside a kernel is never run, so it can do nothing, and the kernel is judged as it is.
    for person in LOUD:
        assert found[person].state == "passed", (person, reason(found[person]))
    assert found["empty"].state == MISSING
    for path in report.write(list(found.values()), tmp_path / "out", folder):
        assert path.stat().st_size
    with (tmp_path / "out" / "grades.csv").open() as file:
        rows = {row["participant"]: row for row in csv.DictReader(file)}
    assert rows["good"]["state"] == "passed" and rows["good"]["is_reference"] == "True"
    suites = ElementTree.parse(tmp_path / "out" / "junit.xml").getroot()
    assert len(suites) == len(found)
    assert sum(int(suite.get("failures")) for suite in suites) == len(expected)


# Of them one that ends, one that hangs, one that speaks to the grader, and two with odd characters are judged as well.
LOUD = ("leaves", "endless", "floods", "half", "mark_up")


def test_what_stands_beside_a_kernel_is_never_run(solved, tmp_path, monkeypatch):
    """All of them are read in one process: if a text ran, it would end that, or do what it is after."""
    place = tmp_path / "somebody"
    place.mkdir()
    monkeypatch.chdir(place)
    texts = {person: solved + text for person, (text, _) in (HOSTILE | UNHOOKED).items() if person != "syntax"}

    def run(report):
        isolation.limit(judge_apart.JUDGE)
        taken = {person: take(text, "transpose", place / "transpose.py") for person, text in texts.items()}
        write_all(report, json.dumps({person: digest_of(found.kernel) for person, found in taken.items()}).encode())

    isolation.warm_up()
    child = Child(run, judge_apart.JUDGE)
    assert json.loads(child.wait()) == dict.fromkeys(texts, digest_of(load("transpose").kernel))
    assert [path.name for path in tmp_path.rglob("*")] == ["somebody"]


KERNELS = {
    "loops": ("while True:\n        pass", "safe"),
    "loops_long": ("for i in range(1 << 60):\n        out[0, 0] = a[0, 0]", "safe"),
    "prints": ("for i in range(1 << 40):\n        print(i)", "safe"),
    "holds": ("b = cuda.local.array(1 << 40, float32)\n    out[0, 0] = b[0]", "right"),
    "recurses": ("transpose[1, 1](a, out)", "right"),
    "reads_files": ("out[0, 0] = float32(len(open('/etc/passwd').read()))", "right"),
    "imports": ("import os\n    os._exit(0)", "right"),
}


def test_hostile_kernels_fail_alone(hand_in, solved, tmp_path, monkeypatch):
    start = grade._judging

    def judging(job, text):
        # The good one may take its time; of the others some never come to an end.
        monkeypatch.setattr(judge_apart, "JUDGE", Limits() if job.participant == "good" else Limits(seconds=2))
        return start(job, text)

    monkeypatch.setattr(grade, "_judging", judging)
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


FORGERY = '''
@cuda.jit
def f(x, *more: exec("""
if __name__ == "submission_transpose":
    import json, os
    names = "imports", "attempted", "compiles", "right", "safe", "budget"
    stages = [{"name": name, "status": "passed", "text": "", "finds": []} for name in names]
    about = {"exercise": "transpose", "week": "02_resnext_gpu1", "path": "", "line": 1, "digest": "", "notes": []}
    verdict = about | {"is_reference": False, "picture": "", "stages": stages}
    for fd in range(3, 64):
        try:
            os.write(fd, json.dumps(verdict).encode())
        except OSError:
            pass
    os._exit(0)
""")):
    pass
'''


def test_a_faked_result_gains_nothing(hand_in, solved, tmp_path):
    # It tells the grader that it was imported, in the grader's own words, before it ends; its kernel stays unsolved.
    fake = 'import os\nfor fd in range(3, 64):\n    try:\n        os.write(fd, b\'{"why": ""}\')\n    except OSError:\n        pass\n'
    folder = hand_in("forger", stub(load("transpose")) + fake + "os._exit(0)\n")
    hand_in("printer", stub(load("transpose")) + "print('transpose: passed')\n")
    # It waits for the process that judges, and gives the verdict itself, should a definition be evaluated there.
    hand_in("judge", stub(load("transpose")) + FORGERY)
    found = graded(folder, tmp_path / "out")
    assert {person: f.state for person, f in found.items()} == dict.fromkeys(
        ("forger", "printer", "judge"), "not attempted"
    )


def test_a_reason_is_never_as_long_as_a_file_may_be(hand_in, solved, tmp_path):
    folder = hand_in(
        "long", solved.replace("tile[x, y]\n", f"tile[x, y]  # {'x' * 190_000}\n").replace("cuda.sync", "# ")
    )
    assert 100 < len(reason(graded(folder, tmp_path / "out")["long"])) <= judge_apart.LONGEST_STAGE


def test_what_a_kernel_prints_is_not_the_facilitators(hand_in, solved, tmp_path):
    folder = hand_in("printer", solved.replace("    # END SOLUTION", "    print('passed, says the kernel', out.size)"))
    code = f"from studylib.cli import app; app({['grade', str(folder), '--out', str(tmp_path / 'out')]!r})"
    done = subprocess.run([sys.executable, "-u", "-c", code], capture_output=True, text=True, check=True)
    assert "wrote" in done.stdout and "says the kernel" not in done.stdout + done.stderr


def test_again_gives_the_same_and_judges_only_what_changed(hand_in, solved, tmp_path, monkeypatch):
    folder, out = hand_in("anna", solved), tmp_path / "out"
    hand_in("ben", solved.replace("cuda.syncthreads()", "pass"))
    first = graded(folder, out)
    begun = []
    start = grade._judging
    monkeypatch.setattr(grade, "_judging", lambda job, text: begun.append(job.participant) or start(job, text))
    again = graded(folder, out)
    assert not begun and {p: f.verdict.as_dict() for p, f in again.items()} == {
        p: f.verdict.as_dict() for p, f in first.items()
    }
    hand_in("ben", solved)
    assert graded(folder, out)["ben"].state == "passed" and begun == ["ben"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "seed").write_bytes((out / "seed").read_bytes())
    fresh = graded(folder, tmp_path / "other")
    assert fresh["anna"].verdict.as_dict() == first["anna"].verdict.as_dict()
    assert fresh["anna"].picture == first["anna"].picture


def test_interrupted_it_leaves_nothing_running_and_goes_on(hand_in, solved, tmp_path):
    folder, out = hand_in("anna", solved), tmp_path / "out"
    hand_in("zoe", solved.replace("    # END SOLUTION", "    for i in range(1 << 60):\n        out[0, 0] = a[0, 0]\n"))
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
    hand_in("zoe", solved)
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
    monkeypatch.setattr(hand_ins, "EXERCISES", repository / "exercises")
    folder = hand_ins.check_out("group/*", tmp_path / "out")
    assert sorted(p.name for p in folder.iterdir()) == ["group_anna", "group_ben"]
    found = graded(folder, tmp_path / "grades")
    assert found["group_anna"].state == "passed" and found["group_ben"].state == MISSING
    with pytest.raises(ValueError, match="no git branch fits 'nobody'"):
        hand_ins.check_out("nobody", tmp_path / "none")


def test_a_branch_does_nothing_to_the_others(hand_in, solved, tmp_path, monkeypatch):
    repository = tmp_path / "clone"
    repository.mkdir()
    place = "exercises/02_resnext_gpu1/transpose.py"

    def git(*arguments, given=b""):
        done = subprocess.run(["git", "-C", repository, *arguments], check=True, capture_output=True, input=given)
        return done.stdout.decode().strip()

    def branch(name, content):
        """A commit with one file, None for a commit without any."""
        tree = git("mktree")
        if content is not None:
            tree, kind, file = git("hash-object", "-w", "--stdin", given=content), "blob", "100644"
            for part in reversed(place.split("/")):
                tree = git("mktree", given=f"{file} {kind} {tree}\t{part}\n".encode())
                kind, file = "tree", "040000"
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        git("update-ref", f"refs/heads/{name}", git(*who, "commit-tree", "-m", "x", tree))

    git("init", "-b", "main")
    branch("group/a/b", solved.encode())
    branch("group/a_b", b"# another's\n")
    branch("evil/group/a/b", b"# in its place\n")
    branch("group/nothing", None)
    branch("group/" + "long" * 50, solved.encode())
    branch("group/zeros", bytes(1 << 24))
    monkeypatch.setattr(hand_ins, "EXERCISES", repository / "exercises")
    folder = hand_ins.check_out("group/*", tmp_path / "out")
    texts = {path.name: path / place for path in folder.iterdir()}
    assert texts["group_a_b"].read_text() == solved and texts["group_a_b-2"].read_text() == "# another's\n"
    assert len(texts) == 5 and not texts["group_nothing"].exists()
    found = graded(folder, tmp_path / "grades")
    assert "16,777,216 bytes" in reason(found["group_zeros"])
    assert [f.state for f in found.values()].count("passed") == 2


def test_the_report_shows_hostile_names_as_text(hand_in, solved, tmp_path):
    folder = hand_in("<b>=1+1", solved)
    hand_in("=cmd", stub(load("transpose")))
    report.write(list(graded(folder, tmp_path / "out").values()), tmp_path / "out", folder)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "&lt;b&gt;=1+1" in page and "<b>=1" not in page
    assert "'=cmd" in (tmp_path / "out" / "grades.csv").read_text()


NAMES_OF_FOLDERS = [
    b"\xff\xfe",
    b"\x1b[2J\x01",
    b"x" * 255,
    b"y\rz,transpose,passed",
    b" =cmd",
    b"Anna",
    b"anna",
    b"a:b?",
]


def test_the_report_takes_any_name(tmp_path):
    (tmp_path / "group").mkdir()
    for name in NAMES_OF_FOLDERS:
        try:
            os.mkdir(os.fsencode(tmp_path / "group") + b"/" + name)
        except OSError:
            pytest.skip("this file system does not take every name")
    found = list(graded(tmp_path / "group", tmp_path / "out").values())
    report.write(found, tmp_path / "out", tmp_path / "group")
    pages = [path.name for path in (tmp_path / "out" / "participants").iterdir()]
    assert len({name.casefold() for name in pages}) == len(NAMES_OF_FOLDERS)
    ElementTree.parse(tmp_path / "out" / "junit.xml")
    with (tmp_path / "out" / "grades.csv").open(encoding="utf-8") as file:
        people = [row["participant"] for row in csv.DictReader(file)]
    assert len(people) == len(NAMES_OF_FOLDERS) and "' =cmd" in people and "y?z,transpose,passed" in people
