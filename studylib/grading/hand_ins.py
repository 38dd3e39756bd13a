"""Finds what each participant handed in, in folders that strangers filled or on git branches, and names what it can't take.

A file is taken where nobody can doubt that it is meant; what only looks like an exercise is named, so that the facilitator
sees why it was not graded. The search looks at a limited number of files. A link to a folder is followed only as a
participant's, and only where it stays among the submissions.
"""

from __future__ import annotations

import fnmatch
import os
import re
import subprocess
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import count, islice
from pathlib import Path

from studylib import kernels
from studylib.errors import StudyError
from studylib.files import EXERCISES
from studylib.grading.submission import MAX_BYTES, Refused, read_file
from studylib.kernels.stubs import stub

DEEPEST, MOST = 8, 20_000  # folders within each other, and files and folders, that are looked at for each participant
MOST_READ = 20  # files that may be one exercise
SHOWN = 3  # names in a message
MARKER = "grading.json"  # lies in every folder that `study grade` writes to
OLDER = ("report.html", "grades.csv", "junit.xml")  # lay there before there was a marker
NOBODYS = {"__macosx", "__pycache__", "thumbs.db", "desktop.ini"}  # the system or Python made them
SOLVED = "studylib"  # the repository's own sources, with the solutions, which come along with a whole clone
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")


@dataclass(frozen=True)
class Job:
    """One exercise of one participant.

    folder: the participant's; path: of the file, None if there is none. instead: what lay there that is not taken, and
    what to do.
    """

    participant: str
    exercise: str
    folder: Path
    path: Path | None
    instead: str = ""


@dataclass(frozen=True)
class _Found:
    """What lies in a participant's folder: files and what else is not a folder, linked folders, folders with a file's name,
    whether all was seen."""

    files: tuple[Path, ...]
    links: tuple[Path, ...] = ()
    misnamed: tuple[Path, ...] = ()
    complete: bool = True


@dataclass(frozen=True)
class _Person:
    """A participant: a folder, and if others share it the files in it that have this participant's name."""

    name: str
    folder: Path
    files: tuple[Path, ...] | None = None


def jobs_in(folder: Path, chosen: list[str], out: Path) -> list[Job]:
    """All exercises of all participants.

    A participant is each folder in `folder` but `out`, or a link to one; whoever's name stands before an exercise's in a
    file beside them (anna_vector_add.py); or `folder` itself, where the exercises lie in it. Raises StudyError if there is
    none.
    """
    if not folder.is_dir():
        raise StudyError(f"{folder} is not a folder; expected one with a folder for each participant")
    people, left = _people(folder, out)
    if not people:
        there = f"; {'; '.join(left)}" if left else ""
        raise StudyError(f"{folder} has no folders; expected one for each participant{there}")
    return [job for person in people for job in _jobs(person, chosen)]


def left_out(folder: Path, out: Path) -> list[str]:
    """What lies in `folder` and is nobody's, each with what to do about it."""
    return _people(folder, out)[1]


def _people(folder: Path, out: Path) -> tuple[list[_Person], list[str]]:
    there = [path for path in sorted(folder.iterdir()) if not _is_nobodys(path.name)]
    links = [path for path in there if path.is_symlink()]
    folders = [path for path in there if path not in links and path.is_dir() and not _is_only(path, out)]
    files = [path for path in there if path not in links and not path.is_dir()]
    alone = not folders and not links and not any(_owner(path) for path in files)
    if _is_clone(folder) or (alone and any(_is_exercise(path) for path in files)):
        return [_Person(folder.resolve().name, folder)], []
    gradings = [path for path in folders if _is_grading(path)]
    people = [_Person(path.name, path) for path in folders if path not in gradings]
    left = {path: "is what an earlier `study grade` wrote, and not a participant" for path in gradings}
    for link in links:
        target, why = _followed(link, folder, [person.folder for person in people], out)
        if target is None:
            left[link] = why
        else:
            people.append(_Person(link.name, target))
    taken = {person.name.casefold() for person in people}
    owned: dict[str, list[Path]] = {}
    for path in files:
        owner = _owner(path)
        if owner and owner.casefold() not in taken:
            owned.setdefault(owner.casefold(), []).append(path)
        elif path.suffix.lower() in ARCHIVES:
            left[path] = "is not a folder: unpack it"
        elif owner:
            left[path] = f"lies next to the folder of {_printable(owner)}: put it in there"
        elif any(_resembles(path, exercise) for exercise in kernels.names()):
            left[path] = "is nobody's: put it into a folder with its participant's name"
    people += [_Person(_owner(own[0]), folder, tuple(own)) for own in owned.values()]
    return sorted(people, key=lambda person: person.name), [
        f"{_printable(path.name)} {why}" for path, why in sorted(left.items())
    ]


def _is_clone(folder: Path) -> bool:
    """Whether a folder is somebody's exercises, or a whole clone of the course, and not one with a folder for each."""
    return any((folder / above / week).is_dir() for above in (".", "exercises") for week in kernels.weeks())


def _is_exercise(path: Path) -> bool:
    return any(_is_nearly_named(path, name) for name in kernels.names())


def _owner(path: Path) -> str:
    """'Anna' of Anna_vector_add (1).py; empty where nothing, or no name, stands before an exercise's."""
    for name in kernels.names():
        if _ends_with(path, name):
            words = name.replace("_", r"[\s_-]+")
            return re.sub(rf"[\s_-]+{words}$", "", _original(path.stem), flags=re.IGNORECASE).strip()
    return ""


def _followed(link: Path, folder: Path, people: list[Path], out: Path) -> tuple[Path | None, str]:
    """The folder that a link in `folder` leads to, or None and why not: a link may lead out of it, or to another's work."""
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):
        return None, "is a link that leads nowhere"
    if not target.is_dir():
        return None, "is a link to a file, and such links are not followed: put a copy in its place"
    root, grades = folder.resolve(), out.resolve()
    if target == root or not target.is_relative_to(root):
        return None, "is a link to a folder elsewhere, and is not followed: put a copy in its place"
    if target.is_relative_to(grades) or grades.is_relative_to(target) or _is_grading(target):
        return None, "is a link to what `study grade` writes, and not a participant"
    for person in people:
        if target == person.resolve():
            return None, f"is a link to {_printable(person.name)}, whose work is judged already"
    return target, ""


def _is_nobodys(name: str) -> bool:
    return name.startswith(".") or name.lower() in NOBODYS


def _is_grading(path: Path) -> bool:
    return (path / MARKER).is_file() or all((path / name).is_file() for name in OLDER)


def _is_only(path: Path, out: Path) -> bool:
    """Whether a folder is `out`, or holds nothing but it."""
    path, out = path.resolve(), out.resolve()
    while path != out:
        if not out.is_relative_to(path):
            return False
        within = [child for child in path.iterdir() if not _is_nobodys(child.name)]
        step = path / out.relative_to(path).parts[0]
        if within and within != [step]:
            return False
        path = step
    return True


def _jobs(person: _Person, chosen: list[str]) -> Iterator[Job]:
    folder = person.folder
    found = _look(folder) if person.files is None else _Found(person.files)
    jobs = [Job(person.name, name, folder, *_choose(folder, name, found)) for name in chosen]
    if found.files and not any(job.path or job.instead for job in jobs):
        hint = _nothing_of_use(folder, found.files)
        jobs = [Job(job.participant, job.exercise, job.folder, None, hint) for job in jobs]
    return iter(jobs)


def _look(person: Path) -> _Found:
    """Looks into folder after folder, those near the top first."""
    files: list[Path] = []
    links: list[Path] = []
    misnamed: list[Path] = []
    left, waiting, complete = MOST, [(person, 1)], True
    for folder, depth in waiting:
        try:
            with os.scandir(folder) as entries:
                seen = sorted(islice(entries, left + 1), key=lambda entry: entry.name)
        except OSError:
            complete = False
            continue
        if any(entry.name == "pyvenv.cfg" for entry in seen) or (depth > 1 and _is_grading(folder)):
            continue
        complete &= len(seen) <= left
        left -= min(len(seen), left)
        for entry in seen:
            path = Path(entry.path)
            if _is_nobodys(entry.name) or entry.name == SOLVED:
                continue
            if entry.is_dir(follow_symlinks=False):
                misnamed += [path] if path.suffix.lower() == ".py" else []
                complete &= depth < DEEPEST
                if depth < DEEPEST:
                    waiting.append((path, depth + 1))
            elif entry.is_symlink() and _leads_to_folder(path):
                links.append(path)
            else:
                files.append(path)
        if not left:
            break
    return _Found(tuple(files), tuple(links), tuple(misnamed), complete)


def _leads_to_folder(link: Path) -> bool:
    try:
        return link.is_dir()
    except (OSError, RuntimeError):  # a link to itself
        return False


def _choose(person: Path, name: str, found: _Found) -> tuple[Path | None, str]:
    """The file of an exercise, or None and what lay there instead."""
    alike = [path for path in found.files if _resembles(path, name)]
    for rank in (_is_named, _is_nearly_named, _ends_with):
        fitting = [path for path in alike if rank(path, name)]
        fitting = _different(person, name, fitting)
        if len(fitting) == 1:
            return fitting[0], ""
        if fitting:
            shown = _listed(person, fitting)
            return None, f"found {len(fitting)} that differ, {shown}: hand in one {name}.py"
    if alike:
        return None, f"found {_listed(person, alike)}: hand in {name}.py"
    if misnamed := [path for path in found.misnamed if _resembles(path, name)]:
        return None, f"found {_listed(person, misnamed)}, which is a folder: hand in a file"
    if found.links:
        return None, f"found {_listed(person, found.links)}, a link to a folder: hand in the folder itself"
    if not found.complete:
        return None, f"more than {MOST:,} files, or folders deeper than {DEEPEST}: hand in the exercises' files alone"
    return None, ""


def _different(person: Path, name: str, paths: list[Path]) -> list[Path]:
    """Of files that may be meant the one in the best place, or all that differ; untouched stubs count for nothing."""
    texts: dict[str, Path] = {}
    for path in sorted(paths, key=lambda path: _place(person, name, path))[:MOST_READ]:
        try:
            text = read_file(path, person)
        except Refused:
            text = f"\0{path}"
        texts.setdefault(text, path)
    if len(texts) > 1:
        texts.pop(_stub(name), None)
    best = list(texts.values())
    return best[:1] if best and best[0] in _places(person, name) else best


@cache
def _stub(name: str) -> str:
    return stub(kernels.load(name))


def _places(person: Path, name: str) -> list[Path]:
    week = kernels.load(name).week
    return [person / "exercises" / week / f"{name}.py", person / week / f"{name}.py", person / f"{name}.py"]


def _place(person: Path, name: str, path: Path) -> int:
    """How far from where an exercise belongs a file lies: the first of the known places is 0."""
    places = _places(person, name)
    return places.index(path) if path in places else len(places) + len(path.relative_to(person).parts)


def _is_named(path: Path, name: str) -> bool:
    return path.name == f"{name}.py"


def _is_nearly_named(path: Path, name: str) -> bool:
    return path.suffix.lower() == ".py" and _plain(path.stem) == name


def _ends_with(path: Path, name: str) -> bool:
    """anna_vector_add.py"""
    plain = _plain(path.stem)
    return path.suffix.lower() == ".py" and plain.endswith(f"_{name}") and not plain.startswith("test_")


def _plain(stem: str) -> str:
    """A file's name with an exercise's spelling."""
    return re.sub(r"[\s-]+", "_", _original(stem).casefold())


def _original(stem: str) -> str:
    """A file's name as it was before a browser or a file manager made a copy of it."""
    stem = re.sub(r"^copy of ", "", unicodedata.normalize("NFKC", stem).strip(), flags=re.IGNORECASE)
    return re.sub(r"(\s*\(\d{1,3}\)|\s+-\s+(copy|kopie|copie|copia)|[ _]copy)+$", "", stem, flags=re.IGNORECASE)


def _resembles(path: Path, name: str) -> bool:
    """Whether the file's name has that of the exercise in it, as words of their own: transpose.ipynb, transpose_v2.py."""
    words = re.sub(r"[\s.()-]+", "_", unicodedata.normalize("NFKC", path.name).casefold())
    return f"_{name}_" in f"_{words}_"


def _nothing_of_use(person: Path, files: tuple[Path, ...]) -> str:
    archives = [path for path in files if path.suffix.lower() in ARCHIVES]
    if archives:
        return f"found {_listed(person, archives)}: unpack it"
    python = [path for path in files if path.suffix.lower() in (".py", ".ipynb")]
    if python:
        return f"no file has an exercise's name; found {_listed(person, python)}"
    return ""


def _listed(person: Path, paths: Iterable[Path]) -> str:
    names = [_printable(path.relative_to(person).as_posix()) for path in paths]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _printable(name: str, longest: int = 80) -> str:
    shown = "".join(c if c.isprintable() else "?" for c in name)
    return shown if len(shown) <= longest else f"{shown[: longest - 3]}..."


def check_out(pattern: str, folder: Path) -> Path:
    """Writes the exercises of every git branch that fits the pattern to a folder each; raises StudyError if none does.

    Only they are asked for, one by one: a branch may hold a tree that never ends, or gigabytes that pack well.
    """
    listed = _git("for-each-ref", "--format=%(refname)", "refs/heads", "refs/remotes").decode().splitlines()
    branches: dict[str, str] = {}
    for reference in listed:
        _, kind, short = reference.split("/", 2)
        # origin/group/anna fits group/* too
        for name in (short, short.partition("/")[2]) if kind == "remotes" else (short,):
            if fnmatch.fnmatch(name, pattern):
                branches.setdefault(name, reference)
    if not branches:
        raise StudyError(f"no git branch fits {pattern!r}")
    wanted = [f"exercises/{kernels.load(name).week}/{name}.py" for name in kernels.names()]
    names = file_names(branches)
    for name, reference in branches.items():
        target = folder / names[name]
        target.mkdir(parents=True, exist_ok=True)
        for entry in _git("ls-tree", "-l", "-z", reference, "--", *wanted).decode().split("\0")[:-1]:
            facts, _, path = entry.partition("\t")
            mode, _, blob, size = facts.split()
            if mode.startswith("100"):  # a file, neither a link nor a folder
                _write_blob(target / path, blob, int(size))
    return folder


def _write_blob(path: Path, blob: str, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if size <= MAX_BYTES:
        path.write_bytes(_git("cat-file", "blob", blob))
    else:
        with path.open("wb") as file:
            file.truncate(min(size, 1 << 30))  # takes no room, and is refused for its size


def file_names(names: Iterable[str]) -> dict[str, str]:
    """For each name another that any file system takes, and no two the same, also where case does not count."""
    found: dict[str, str] = {}
    for name in sorted(names):
        short = unicodedata.normalize("NFC", re.sub(r"[^\w.=-]", "_", name))[:40]
        numbered = (f"{short}-{n}" if n > 1 else short for n in count(1))
        taken = {other.casefold() for other in found.values()}
        found[name] = next(new for new in numbered if new.casefold() not in taken)
    return found


def _git(*arguments: str) -> bytes:
    try:
        return subprocess.run(["git", "-C", EXERCISES.parent, *arguments], check=True, capture_output=True).stdout
    except FileNotFoundError:
        raise StudyError("git is not installed, and --branches needs it") from None
    except subprocess.CalledProcessError as error:
        raise StudyError(f"git {arguments[0]}: {error.stderr.decode(errors='replace').strip()}") from None
