"""`make check` finds the tests of what is named or has changed, and fails where a part of it fails."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests import check

MODULES = sorted(path.relative_to(check.ROOT) for path in (check.ROOT / "studylib").rglob("*.py"))


def test_every_module_of_the_package_has_tests():
    assert len(MODULES) > 50
    assert [path for path in MODULES if path != Path("studylib/__init__.py") and not check.tests_of(path)] == []


@pytest.mark.parametrize(
    ("path", "tests"),
    [
        ("studylib/grading", ["tests/grading"]),
        ("studylib/grading/verdict.py", ["tests/grading"]),
        ("studylib/mec.py", ["tests/test_mec.py"]),
        ("studylib/kernels/01_intro_depthwise/vector_add.py", ["tests/kernels"]),
        ("tests/test_mec.py", ["tests/test_mec.py"]),
        ("tests/nets", ["tests/nets"]),
        ("tests/nets/conftest.py", ["tests/nets"]),
        ("tests/stages.py", ["tests/test_stages.py"]),
        ("bootstrap.py", ["tests/test_bootstrap.py"]),
        (".github/workflows/ci.yml", ["tests/test_workflows.py"]),
        ("LICENSE", []),
        ("tests/gone/test_gone.py", []),
    ],
)
def test_where_the_tests_of_a_path_are(path, tests):
    assert [test.as_posix() for test in check.tests_of(Path(path))] == tests


def test_every_place_that_is_listed_is_there():
    for path, tests in check.ELSEWHERE.items():
        assert (check.ROOT / path).exists() and (check.ROOT / tests).exists(), path


def test_no_test_is_run_twice():
    assert check.all_tests_of([Path("tests/nets/test_vgg.py"), Path("studylib/nets/vgg.py")]) == ["tests/nets"]


@pytest.mark.parametrize(
    ("name", "path"), [("grading", "studylib/grading"), ("mec", "studylib/mec.py"), ("tests/nets/", "tests/nets")]
)
def test_a_package_a_file_or_a_folder_is_named(name, path):
    assert check.named(name).as_posix() == path


@pytest.mark.parametrize("name", ["gradings", "../other"])
def test_a_name_that_is_nothing_is_an_error_that_lists_the_packages(name, capsys):
    assert check.main([name]) == 2
    error = capsys.readouterr().err
    assert f"{name!r} is no file or folder here" in error and "gpu, grading" in error


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A small repository with one commit on main; git() runs in it."""

    def git(*arguments):
        identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
        return subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)

    monkeypatch.setattr(check, "ROOT", tmp_path)
    for name in ("kept.py", "studylib/mec.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('"""A module."""\n')
    (tmp_path / "pyproject.toml").write_text('[tool.mypy]\nfiles = ["studylib"]\n[tool.pytest.ini_options]\n')
    git("init", "-q", "-b", "main")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    return git


def test_what_changed_is_committed_or_not_and_main_may_have_gone_on(clone):
    root = check.ROOT
    clone("checkout", "-q", "-b", "branch")
    (root / "studylib/mec.py").write_text('"""Another."""\n')
    clone("commit", "-q", "-a", "-m", "two")
    clone("checkout", "-q", "main")
    (root / "theirs.py").write_text("")
    clone("add", ".")
    clone("commit", "-q", "-m", "three")
    clone("checkout", "-q", "branch")
    (root / "new.py").write_text("")
    assert [path.as_posix() for path in check.changed()] == ["new.py", "studylib/mec.py"]


def test_where_git_knows_nothing_it_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(check, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert check.main([]) == 2
    assert "name a package or files" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "test", "last"),
    [
        ("one: int = 1\n", "def test():\n    assert True\n", "all passed"),
        ('import os\none: int="1"\n', "def test():\n    assert False\n", "failed: format, lint, tests, types"),
    ],
)
def test_each_part_can_fail(clone, capfd, module, test, last):
    root = check.ROOT
    (root / "studylib/mec.py").write_text(module)
    (root / "tests").mkdir()
    (root / "tests/test_mec.py").write_text(test)
    assert check.main([]) == (last != "all passed")
    out = capfd.readouterr().out.splitlines()
    assert "tests: tests/test_mec.py" in out and out[-1] == last


HOOKS = yaml.safe_load((check.ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))


def test_the_hooks_are_local_and_are_the_commands_of_check():
    assert [entry["repo"] for entry in HOOKS["repos"]] == ["local"]
    hooks = HOOKS["repos"][0]["hooks"]
    assert [hook["id"] for hook in hooks] == ["format", "lint", "types"]
    for hook in hooks:
        assert hook["language"] == "system" and hook["pass_filenames"] is False
        python, *command = hook["entry"].split()
        assert python == ".venv/bin/python"
        assert subprocess.run([sys.executable, *command, "--help"], check=False).returncode == 0
