"""`study update` with real repositories: a facilitator and a participant, and between them the one that both know."""

import os
import shutil
import signal
import subprocess

import pytest
from typer.testing import CliRunner

from studylib import files
from studylib.cli import app
from studylib.cli import group as commands
from studylib.course import update
from tests.course.conftest import on

BOOK, SOURCE = "weeks/01_small/01_small.ipynb", "weeks/01_small/01_small.py"
STUB, OTHER = "exercises/01_small/add.py", "exercises/01_small/scale.py"
FIRST = {
    BOOK: "book\n",
    SOURCE: "source\n",
    STUB: "stub\n",
    OTHER: "stub\n",
    "weeks/01_small/topic/topic.toml": 'title = "T"\nhour = 1\n',
    "constraints.txt": "numpy==1\n",
    ".gitignore": "mine/\nbuild/\n",
}
TODAY = "mine/2026-11-03"


class Clone:
    """A clone of somebody with a name."""

    def __init__(self, root, name):
        self.root, self.name = root, name

    def git(self, *arguments):
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.root.parent), "GIT_CONFIG_NOSYSTEM": "1"}
        command = ["git", "-c", f"user.name={self.name}", "-c", f"user.email={self.name}@example.org", *arguments]
        done = subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def write(self, **texts):
        for path, text in texts.items():
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_text(text)

    def commit(self, texts, push=True):
        self.write(**texts)
        self.git("add", "--all")
        self.git("commit", "-q", "-m", "A change")
        if push:
            self.git("push", "-q", "origin", "HEAD")

    def read(self, path):
        return (self.root / path).read_text()

    def state(self):
        """All that a failure must leave as it was: the files, the index and the commit."""
        paths = [path for path in self.root.rglob("*") if path.is_file() and ".git" not in path.parts]
        contents = {path.relative_to(self.root).as_posix(): path.read_bytes() for path in paths}
        return contents, self.git("status", "--porcelain"), self.git("rev-parse", "HEAD"), self.git("worktree", "list")


@pytest.fixture
def facilitator(tmp_path):
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(tmp_path / "course.git")], check=True)
    (tmp_path / "facilitator").mkdir()
    clone = Clone(tmp_path / "facilitator", "Ada")
    clone.git("init", "-q", "-b", "main")
    clone.git("remote", "add", "origin", str(tmp_path / "course.git"))
    clone.commit(FIRST)
    return clone


@pytest.fixture
def bob(facilitator, tmp_path, monkeypatch):
    """The participant, whose clone `study update` is run in."""
    facilitator.git("clone", "-q", str(tmp_path / "course.git"), str(tmp_path / "bob"))
    clone = Clone(tmp_path / "bob", "Bob")
    clone.git("config", "user.name", "Bob")
    clone.git("config", "user.email", "bob@example.org")
    monkeypatch.setattr(files, "ROOT", clone.root)
    monkeypatch.setattr(commands, "now", lambda: on(3))
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    return clone


def study_update():
    return CliRunner().invoke(app, ["update"])


def test_nothing_new_is_up_to_date_and_leaves_what_is_changed(bob):
    bob.write(**{BOOK: "mine\n"})
    assert study_update().output == "up to date with origin/main\n"
    assert bob.read(BOOK) == "mine\n"


def test_a_notebook_that_both_changed_is_put_away_with_its_twin_and_the_courses_is_there(facilitator, bob):
    bob.write(**{BOOK: "my run\n", SOURCE: "my source\n"})
    facilitator.commit({BOOK: "new book\n"})
    shown = study_update()
    assert shown.exit_code == 0
    assert f"put away: your {BOOK} is now {TODAY}/{BOOK}\n" in shown.output
    assert bob.read(f"{TODAY}/{BOOK}") == "my run\n" and bob.read(f"{TODAY}/{SOURCE}") == "my source\n"
    assert bob.read(BOOK) == "new book\n" and bob.read(SOURCE) == "source\n"
    assert bob.git("status", "--porcelain") == ""
    assert "updated from origin/main; changed files: 1\n" in shown.output and "Reload Notebook" in shown.output
    assert study_update().output == "up to date with origin/main\n"


def test_a_second_time_on_the_same_day_overwrites_nothing(facilitator, bob):
    for run in ("one", "two"):
        bob.write(**{BOOK: f"my {run}\n"})
        facilitator.commit({BOOK: f"new {run}\n"})
        assert study_update().exit_code == 0
    assert bob.read(f"{TODAY}/{BOOK}") == "my one\n" and bob.read(f"{TODAY}-2/{BOOK}") == "my two\n"


def test_an_exercise_of_mine_stays_and_an_untouched_one_is_renewed(facilitator, bob):
    bob.write(**{STUB: "my kernel\n"})
    inode = (bob.root / STUB).stat()
    facilitator.commit({STUB: "new stub\n", OTHER: "new stub\n", "constraints.txt": "numpy==2\n"})
    shown = study_update()
    assert f"kept: {STUB} is as you left it" in shown.output
    assert bob.read(STUB) == "my kernel\n" and (bob.root / STUB).stat().st_mtime_ns == inode.st_mtime_ns
    assert bob.read(OTHER) == "new stub\n" and not (bob.root / "mine").exists()
    assert bob.git("status", "--porcelain") == f" M {STUB}\n"
    assert "-new stub" in bob.git("diff", STUB)
    assert "run make lab again" in shown.output


def test_a_meetings_notebook_of_mine_stays(facilitator, bob):
    mine = "exercises/01_small/meeting.ipynb"
    facilitator.commit({mine: "gaps\n"})
    assert study_update().exit_code == 0 and bob.read(mine) == "gaps\n"
    bob.write(**{mine: "my lines\n"})
    facilitator.commit({mine: "new gaps\n"})
    assert f"kept: {mine} is as you left it" in study_update().output and bob.read(mine) == "my lines\n"


@pytest.mark.parametrize("staged", [False, True])
def test_an_exercise_of_mine_stays_where_the_course_adds_it_and_is_put_away_where_it_goes(facilitator, bob, staged):
    bob.write(**{STUB: "my kernel\n", "exercises/01_small/new.py": "my own\n"})
    if staged:
        bob.git("add", "--all")
    (facilitator.root / STUB).unlink()
    facilitator.commit({"exercises/01_small/new.py": "new stub\n"})
    shown = study_update()
    assert shown.exit_code == 0, shown.output
    assert bob.read(f"{TODAY}/{STUB}") == "my kernel\n" and not (bob.root / STUB).exists()
    assert bob.read("exercises/01_small/new.py") == "my own\n"


@pytest.mark.parametrize("path", ["weeks/02_more/02_more.ipynb", "build/list.txt"])
@pytest.mark.parametrize("staged", [False, True])
def test_a_file_of_mine_that_the_course_adds_is_put_away(facilitator, bob, path, staged):
    """Git would overwrite an ignored one without a word."""
    bob.write(**{path: "my own\n"})
    if staged:
        bob.git("add", "--force", path)
    facilitator.write(**{path: "the course's\n"})
    facilitator.git("add", "--force", path)
    facilitator.commit({})
    assert study_update().exit_code == 0
    assert bob.read(path) == "the course's\n" and bob.read(f"{TODAY}/{path}") == "my own\n"


def test_a_file_that_i_deleted_comes_back_where_the_course_changes_it(facilitator, bob):
    (bob.root / BOOK).unlink()
    facilitator.commit({BOOK: "new book\n"})
    assert study_update().exit_code == 0
    assert bob.read(BOOK) == "new book\n" and not (bob.root / "mine").exists()


def test_my_commits_are_merged_beside_changes_that_are_not_committed(facilitator, bob):
    bob.commit({"weeks/01_small/topic/topic.toml": 'title = "T"\nhour = 1\n[claim]\nowner = "Bob"\n'}, push=False)
    bob.write(**{STUB: "my kernel\n", BOOK: "my run\n"})
    facilitator.commit({STUB: "new stub\n", BOOK: "new book\n"})
    shown = study_update()
    assert shown.exit_code == 0, shown.output
    assert 'owner = "Bob"' in bob.read("weeks/01_small/topic/topic.toml")
    assert bob.read(STUB) == "my kernel\n" and bob.read(BOOK) == "new book\n"
    assert bob.read(f"{TODAY}/{BOOK}") == "my run\n"
    assert bob.git("rev-parse", "--abbrev-ref", "HEAD") == "main\n"
    assert "of your own commits it does not have 2: git push" in study_update().output


def test_a_committed_exercise_that_both_changed_stays_mine(facilitator, bob):
    bob.commit({STUB: "my kernel\n"}, push=False)
    facilitator.commit({STUB: "new stub\n", BOOK: "new book\n"})
    assert study_update().exit_code == 0
    assert bob.read(STUB) == "my kernel\n" and bob.read(BOOK) == "new book\n"
    assert bob.git("status", "--porcelain") == ""


def fails(bob, *parts):
    """The command ends with a message that has `parts`, and leaves everything as it was."""
    before = bob.state()
    shown = study_update()
    assert shown.exit_code == 1 and shown.output.startswith("study: ") and "Traceback" not in shown.output
    assert all(part in shown.output for part in parts), shown.output
    assert bob.state() == before
    return shown


def test_commits_that_contradict_are_named_and_everything_is_as_it_was(facilitator, bob):
    topic = "weeks/01_small/topic/topic.toml"
    bob.commit({topic: 'title = "Bob"\nhour = 1\n'}, push=False)
    bob.write(**{BOOK: "my run\n"})
    facilitator.commit({topic: 'title = "Ada"\nhour = 1\n', BOOK: "new book\n"})
    fails(bob, f"change the same lines of {topic}", "nothing is changed")


def test_without_a_network_nothing_is_changed(facilitator, bob, tmp_path):
    bob.write(**{BOOK: "my run\n"})
    shutil.move(tmp_path / "course.git", tmp_path / "elsewhere.git")
    fails(bob, "origin can't be reached", "is the network up? Nothing is changed")


def test_without_a_remote_it_says_how_to_name_one(bob):
    bob.git("remote", "remove", "origin")
    fails(bob, "no remote", "git remote add origin ADDRESS")


def test_on_no_branch_it_says_how_to_get_back(bob):
    bob.git("checkout", "-q", "--detach")
    fails(bob, "on no branch", "git switch main")


def test_in_an_unfinished_merge_it_waits_for_its_end(bob):
    bob.git("update-ref", "MERGE_HEAD", "HEAD")
    shown = study_update()
    assert shown.exit_code == 1 and "a merge is unfinished" in shown.output


def test_a_folder_that_is_no_repository_is_said(bob):
    shutil.rmtree(bob.root / ".git")
    shown = study_update()
    assert shown.exit_code == 1 and "is no git repository" in shown.output


def test_without_git_it_says_so(bob, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    shown = study_update()
    assert shown.exit_code == 1 and "there is no program git" in shown.output


def test_from_a_branch_of_my_own_the_course_comes_from_its_main_branch(facilitator, bob):
    bob.git("switch", "-q", "-c", "group/bob")
    bob.commit({OTHER: "my kernel\n"})
    bob.git("branch", "-q", "--set-upstream-to=origin/group/bob")
    facilitator.commit({BOOK: "new book\n"})
    assert "updated from origin/main" in study_update().output
    assert bob.read(BOOK) == "new book\n" and bob.read(OTHER) == "my kernel\n"


def test_what_git_refuses_is_undone_and_goes_through_once_it_is_out_of_the_way(facilitator, bob):
    """In the way is a folder of the participant's where the course adds a file."""
    bob.write(**{BOOK: "my run\n", STUB: "my kernel\n"})
    (bob.root / SOURCE).unlink()
    facilitator.commit({BOOK: "new\n", SOURCE: "new\n", STUB: "new\n", "weeks/other.txt": "x\n"})
    bob.write(**{"weeks/other.txt/inside.txt": "my own\n"})
    before = bob.state()
    shown = study_update()
    assert shown.exit_code == 1 and "nothing is changed" in shown.output
    assert bob.state() == before
    shutil.rmtree(bob.root / "weeks" / "other.txt")
    assert study_update().exit_code == 0
    assert bob.read(BOOK) == bob.read(SOURCE) == "new\n" and bob.read(STUB) == "my kernel\n"


@pytest.mark.parametrize("step", ["_put_away", "_merged", "_mine"])
def test_ctrl_c_leaves_everything_as_it_was_and_a_second_run_goes_on(facilitator, bob, monkeypatch, step):
    bob.commit({"notes.txt": "mine\n"}, push=False)
    bob.write(**{BOOK: "my run\n"})
    facilitator.commit({BOOK: "new book\n"})
    before = bob.state()

    def stopped(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(update, step, stopped)
        assert study_update().exit_code == 130
    assert bob.state() == before
    assert study_update().exit_code == 0
    assert bob.read(BOOK) == "new book\n" and bob.read(f"{TODAY}/{BOOK}") == "my run\n"


def test_ctrl_c_in_the_last_step_waits_for_its_end(facilitator, bob, monkeypatch):
    bob.write(**{BOOK: "my run\n"})
    facilitator.commit({BOOK: "new book\n"})
    run = update._run

    def interrupted(root, *arguments):
        if arguments[0] == "merge":
            os.kill(os.getpid(), signal.SIGINT)
        return run(root, *arguments)

    monkeypatch.setattr(update, "_run", interrupted)
    assert study_update().exit_code == 0
    assert bob.read(BOOK) == "new book\n" and bob.read(f"{TODAY}/{BOOK}") == "my run\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
