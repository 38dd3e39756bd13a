"""`study update`: takes over what is new in the course, and puts what a participant has changed away, or leaves it.

Nothing of the working folder changes before all that is to be put away lies in mine/, and what fails after that is undone.
A file of exercises/ is never touched: only git's index learns the course's new version, and git then leaves the file alone.
"""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path, PurePosixPath

from studylib.course import meeting
from studylib.errors import StudyError

AWAY = "mine"  # beside weeks/ and exercises/; git ignores it
VERSIONS = {"pyproject.toml", "constraints.txt"}  # as bootstrap.py, which installs by them
SAME = "nothing is changed"


def update(root: Path, today: date, say: Callable[[str], None]) -> None:
    """Bring the clone at `root` to the course's newest state; `say` gets each line of what is done.

    Where both have changed a file, one's own version is put away in mine/TODAY/ and the course's taken, except for
    exercises that the course still has, where one's own stays. One's own commits are merged. Raises StudyError, and
    leaves everything as it was, where there is no git, no branch or no remote, where it can't be reached, and where
    commits contradict.
    """
    source = _source(root)
    old, target = _git(root, "rev-parse", "HEAD"), _git(root, "rev-parse", source)
    if _is_ancestor(root, target, old):
        ahead = int(_git(root, "rev-list", "--count", f"{target}..{old}"))
        unpushed = f"; of your own commits it does not have {ahead}: git push" if ahead else ""
        say(f"up to date with {source}{unpushed}")
        return
    if not _is_ancestor(root, old, target):
        target = _merged(root, target, source)
    changed = _paths(root, "diff", "--name-only", "--no-renames", "-z", old, target)
    tracked, coming = (_paths(root, "ls-tree", "-r", "-z", "--name-only", commit) for commit in (old, target))
    mine = _mine(root, changed, tracked)
    kept = sorted(path for path in mine & coming if is_exercise(path) and _is_there(root / path))
    away = sorted(mine - set(kept))
    folder = _put_away(root, away, today, say)
    with _undisturbed():
        _take_over(root, target, away, kept, tracked, folder)
    for path in kept:
        say(f"kept: {path} is as you left it; the course's own has changed: git diff {path}")
    say(f"updated from {source}; changed files: {len(changed)}")
    if any(path.endswith(".ipynb") for path in changed):
        say("a notebook that is open in JupyterLab: File, Reload Notebook from Disk")
    if changed & VERSIONS:
        say("the versions have changed: stop JupyterLab and run make lab again (or: python bootstrap.py lab)")


def is_exercise(path: str) -> bool:
    """Whether a path, from the course's root, is a participant's own to write: exercises/WEEK/NAME.py or meeting.ipynb."""
    parts = PurePosixPath(path).parts
    return len(parts) == 3 and parts[0] == "exercises" and (parts[2].endswith(".py") or parts[2] == meeting.NAME)


def _source(root: Path) -> str:
    """The remote branch that has the course, such as origin/main, fetched. Raises StudyError if no remote has it."""
    top = _ask(root, "rev-parse", "--show-toplevel")
    if not top:
        raise StudyError(f"{root} is no git repository: get the course with git clone, then study update works")
    if not os.path.samefile(top, root):
        raise StudyError(f"{root} lies inside another git repository, {top}: get the course with git clone")
    for mark, what in {"MERGE_HEAD": "merge", "rebase-merge": "rebase", "rebase-apply": "rebase"}.items():
        if (root / _git(root, "rev-parse", "--git-path", mark)).exists():
            raise StudyError(f"a {what} is unfinished here: git status says how to end it; then study update again")
    branch = _ask(root, "symbolic-ref", "--quiet", "--short", "HEAD")
    if not branch:
        raise StudyError("this clone is on no branch but on a single commit: git switch main, then study update again")
    remotes = _git(root, "remote").splitlines()
    own = _ask(root, "config", f"branch.{branch}.remote")
    remote = own if own in remotes else "origin" if "origin" in remotes else next(iter(remotes), "")
    if not remote:
        raise StudyError(
            "this clone has no remote to update from: git remote add origin ADDRESS with the address of the course, "
            "then study update again"
        )
    done = _run(root, "fetch", "--quiet", remote)
    if done.returncode:
        raise StudyError(f"{remote} can't be reached ({_reason(done)}): is the network up? {SAME.capitalize()}")
    for name in (f"refs/remotes/{remote}/HEAD", "@{upstream}", f"refs/remotes/{remote}/{branch}"):
        if found := _ask(root, "rev-parse", "--quiet", "--verify", "--abbrev-ref", name):
            return found
    raise StudyError(f"{remote} does not say which branch has the course: git remote set-head {remote} --auto")


def _merged(root: Path, target: str, source: str) -> str:
    """The commit that joins one's own commits with the course's, made in a folder aside. Raises StudyError where
    they contradict, except for exercises, where one's own count."""
    with tempfile.TemporaryDirectory(prefix="study-update-", ignore_cleanup_errors=True) as aside:
        folder = Path(aside, "course")
        try:
            _git(root, "worktree", "add", "--quiet", "--detach", str(folder), "HEAD")
            done = _run(folder, "merge", "--quiet", "--no-edit", "-m", f"Merge {source}", target)
            if done.returncode:
                conflicts = sorted(_paths(folder, "diff", "--name-only", "--diff-filter=U", "-z"))
                if not conflicts:
                    raise StudyError(f"your commits can't be merged with {source} ({_reason(done)}); {SAME}")
                if others := [path for path in conflicts if not is_exercise(path)]:
                    raise StudyError(
                        f"a commit of yours and {source} change the same lines of {', '.join(others)}; {SAME}. "
                        "git pull --no-rebase shows both in the file: keep what is right, then git add it and git commit"
                    )
                _git(folder, "checkout", "--quiet", "--ours", "--", *conflicts)
                _git(folder, "add", "--", *conflicts)
                _git(folder, "commit", "--quiet", "--no-edit")
            return _git(folder, "rev-parse", "HEAD")
        finally:
            _run(root, "worktree", "remove", "--force", str(folder))


def _mine(root: Path, changed: set[str], tracked: set[str]) -> set[str]:
    """The files with changes of one's own, not committed, that would be in the way; a notebook with its twin."""
    edited = _paths(root, "diff", "--name-only", "--no-renames", "-z", "HEAD")
    touched = changed | {twin for path in changed if (twin := _twin(path))}
    made = {path for path in changed - tracked if _is_there(root / path)}
    return (edited & touched) | made


def _is_there(path: Path) -> bool:
    """Whether there is a file, or a link to whatever; a folder where the course has a file is for git to refuse."""
    return path.is_symlink() or path.is_file()


def _twin(path: str) -> str:
    """The other file of a week's notebook; empty for any other file."""
    pure = PurePosixPath(path)
    other = {".ipynb": ".py", ".py": ".ipynb"}.get(pure.suffix)
    return str(pure.with_suffix(other)) if other and pure.parts[0] == "weeks" else ""


def _put_away(root: Path, paths: list[str], today: date, say: Callable[[str], None]) -> Path | None:
    """Copy the files to a new folder, mine/TODAY or mine/TODAY-2, and return it; None where there are none."""
    paths = [path for path in paths if _is_there(root / path)]
    if not paths:
        return None
    number = 1
    while (folder := root / AWAY / (f"{today}-{number}" if number > 1 else str(today))).exists():
        number += 1
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        for path in paths:
            (beside / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / path, beside / path, follow_symlinks=False)
        beside.rename(folder)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    for path in paths:
        say(f"put away: your {path} is now {(folder / path).relative_to(root).as_posix()}")
    return folder


def _take_over(
    root: Path, target: str, away: list[str], kept: list[str], tracked: set[str], folder: Path | None
) -> None:
    """Move the branch to `target`. Raises StudyError where git refuses; then files and index are as they were."""
    try:
        for path in away:
            if path in tracked:
                _git(root, "checkout", "--quiet", "HEAD", "--", path)
            else:
                _git(root, "update-index", "--force-remove", "--", path)
                (root / path).unlink()
        for path in kept:
            # With its entry in the index as in `target`, git has nothing to do for a file and does not look at it.
            mode, _, blob = _git(root, "ls-tree", target, "--", path).partition("\t")[0].split()
            _git(root, "update-index", "--add", "--cacheinfo", f"{mode},{blob},{path}")
        _git(root, "merge", "--quiet", "--ff-only", target)
    except BaseException:
        if away or kept:
            _run(root, "reset", "--quiet", "--", *away, *kept)
        for path in away:
            if folder and _is_there(folder / path):
                shutil.copy2(folder / path, root / path, follow_symlinks=False)
            else:
                (root / path).unlink(missing_ok=True)  # it was deleted
        if folder:
            shutil.rmtree(folder)
        raise


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C waits for the second that a change takes; the programs started inside do not hear it either."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _is_ancestor(root: Path, older: str, newer: str) -> bool:
    return _run(root, "merge-base", "--is-ancestor", older, newer).returncode == 0


def _paths(root: Path, *arguments: str) -> set[str]:
    return {path for path in _git(root, *arguments).split("\0") if path}


def _ask(root: Path, *arguments: str) -> str:
    """What git answers; nothing where it has no answer."""
    done = _run(root, *arguments)
    return done.stdout.strip() if done.returncode == 0 else ""


def _git(root: Path, *arguments: str) -> str:
    """What git answers. Raises StudyError with its reason where it refuses."""
    done = _run(root, *arguments)
    if done.returncode:
        raise StudyError(f"git {arguments[0]}: {_reason(done)}; {SAME}")
    return done.stdout.strip()


def _run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            env=os.environ | {"LC_ALL": "C"},
            check=False,
        )
    except FileNotFoundError:
        raise StudyError("there is no program git on this machine: install it, the course is updated with it") from None


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """Why git failed: its line that begins with fatal or error, else the first one."""
    lines = [line.strip() for line in (done.stderr + "\n" + done.stdout).splitlines() if line.strip()]
    worst = next(
        (line for line in lines if line.startswith(("fatal:", "error:"))), lines[0] if lines else "it gave no reason"
    )
    return worst.removeprefix("fatal: ").removeprefix("error: ").rstrip(":.")
