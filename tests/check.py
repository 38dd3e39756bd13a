"""The quick loop: format, lint, types, and the tests of what changed since main, or of what is named.

make check                                  what changed since main, committed or not
make check grading                          a package of studylib
make check studylib/plots.py tests/nets      files and folders
"""

import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHON = sys.executable
# nbval is for notebooks, and takes a second to import.
PYTEST = (PYTHON, "-m", "pytest", "-q", "-rfE", "-p", "no:nbval", "-m", "not slow and not browser")
NO_TESTS = 5  # pytest's status where all tests of a file are slow
# Whose tests are not where the path says.
ELSEWHERE = {
    "studylib/pytest_exercises.py": "tests/grading/test_pytest_exercises.py",
    "studylib/__main__.py": "tests/cli",
    "weeks": "tests/weeks/test_stored_notebooks.py",
    "exercises": "tests/kernels",
    ".github": "tests/test_workflows.py",
    ".ci": "tests/test_workflows.py",
    "conftest.py": "tests/weeks/test_nbval.py",
    "nbval-sanitize.cfg": "tests/weeks/test_nbval.py",
    "pyproject.toml": "tests/test_environment.py",
    "constraints.txt": "tests/test_environment.py",
    "environment.yml": "tests/test_environment.py",
    "Makefile": "tests/test_check.py",
    ".pre-commit-config.yaml": "tests/test_check.py",
    "group.toml": "tests/course/test_the_course.py",
    "readings.toml": "tests/course/test_the_course.py",
}


def changed() -> list[Path]:
    """What differs from the commit at which this branch left main, and what git does not know yet."""
    for base in ("main", "origin/main", "HEAD"):
        try:
            found = _git("diff", "--name-only", "--merge-base", base)
        except subprocess.CalledProcessError:
            continue
        return [Path(name) for name in sorted({*found, *_git("ls-files", "--others", "--exclude-standard")})]
    raise ValueError("what changed is known by git, and this is not a clone with a commit: name a package or files")


def _git(*arguments: str) -> list[str]:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    return done.stdout.splitlines()


def named(name: str) -> Path:
    """A path from the root for a file, a folder, or a package of studylib. Raises ValueError."""
    for path in (Path(name), Path("studylib") / name, Path("studylib") / f"{name}.py"):
        if (ROOT / path).exists() and (found := (ROOT / path).resolve()).is_relative_to(ROOT) and found != ROOT:
            return found.relative_to(ROOT)
    packages = sorted(path.parent.name for path in (ROOT / "studylib").glob("*/__init__.py"))
    raise ValueError(f"{name!r} is no file or folder here, and no package: {', '.join(packages)}")


def tests_of(path: Path) -> list[Path]:
    """The tests that belong to a file or folder: tests/ mirrors studylib/. None for what no test reads."""
    top, *inner = path.parts
    if listed := ELSEWHERE.get(path.as_posix(), ELSEWHERE.get(top)):
        return [Path(listed)]
    if top == "tests":
        return _of_tests(path)
    if top == "studylib":
        return _mirrored(Path(*inner).with_suffix(""))
    place = Path("tests", f"test_{Path(top).stem}.py")
    return [place] if (ROOT / place).exists() else []


def _of_tests(path: Path) -> list[Path]:
    if (ROOT / path).is_dir() or (path.name.startswith("test_") and (ROOT / path).exists()):
        return [path]
    of_module = path.with_name(f"test_{path.stem}.py")  # of tests/stages.py, which is no test
    if path.parent == Path("tests"):
        return [of_module] if (ROOT / of_module).exists() else []
    return [path.parent] if (ROOT / path.parent).is_dir() else []


def _mirrored(module: Path) -> list[Path]:
    """The nearest folder of tests/ on the way up, and at its top the files that begin with the module's name."""
    for folder in (module, *module.parents):
        if folder != Path(".") and (ROOT / "tests" / folder).is_dir():
            return [Path("tests") / folder]
    name = module.parts[0] if module.parts else ""
    files = sorted((ROOT / "tests").glob(f"test_{name}*.py"))
    return [file.relative_to(ROOT) for file in files]


def all_tests_of(paths: Iterable[Path]) -> list[str]:
    """The tests of several, none within another."""
    found = {test for path in paths for test in tests_of(path)}
    return sorted(test.as_posix() for test in found if not found & set(test.parents))


def say(name: str, status: int, began: float, output: str = "") -> bool:
    """Print how a part of the check ended; whether it failed."""
    print(f"{name}: {'FAILED' if status else 'passed'} after {time.monotonic() - began:.0f} s", flush=True)
    if status:
        print(output, flush=True)
    return bool(status)


def ruff(began: float) -> list[str]:
    """The parts that failed, of format and lint: of everything, as that takes a second."""
    failed = []
    for name, *arguments in (("format", "format", "--check"), ("lint", "check")):
        command = [PYTHON, "-m", "ruff", *arguments, "."]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if say(name, done.returncode, began, done.stdout + done.stderr):
            failed.append(name)
    return failed


def types_and_tests(tests: list[str], began: float) -> list[str]:
    """The same of these two, which run at the same time."""
    failed = []
    command, pipe = [PYTHON, "-m", "mypy"], subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=subprocess.STDOUT, text=True) as types:
        if tests:
            print(f"tests: {' '.join(tests)}", flush=True)
            one_file = len(tests) == 1 and tests[0].endswith(".py")
            workers = ["-n", "0"] if one_file else ["-n", "2", "--dist", "worksteal"]
            status = subprocess.run([*PYTEST, *workers, *tests], cwd=ROOT, check=False).returncode
            if say("tests", 0 if status == NO_TESTS else status, began):
                failed.append("tests")
        output = types.communicate()[0]
    if say("types", types.returncode, began, output):
        failed.append("types")
    return failed


def main(names: list[str]) -> int:
    began = time.monotonic()
    try:
        paths = [named(name) for name in names] if names else changed()
    except ValueError as error:
        print(f"check: {error}", file=sys.stderr)
        return 2
    for path in paths:
        if not tests_of(path):
            print(f"no tests belong to {path.as_posix()}")
    failed = ruff(began) + types_and_tests(all_tests_of(paths), began)
    print("what is slow, the browser and the notebooks are left to `make test`")
    print(f"failed: {', '.join(failed)}" if failed else "all passed")
    return bool(failed)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        sys.exit(130)
