"""The stage that runs the other Pythons: each promised one is run or said to be absent, and a failure fails it."""

import sys
from pathlib import Path

import pytest

import bootstrap
from tests import pythons


@pytest.fixture
def course(tmp_path, monkeypatch):
    """Two Pythons are promised beside this one, of which one is found; commands are noted and succeed."""
    asked = []
    monkeypatch.setattr(pythons, "ROOT", tmp_path)
    monkeypatch.setattr(pythons, "others", lambda: [(3, 12), (3, 13)])
    monkeypatch.setattr(pythons, "find", lambda version: "a-python" if version == (3, 12) else None)

    def run(command):
        asked.append(" ".join(command))
        if "venv" in command:
            Path(command[-1]).mkdir(parents=True)
        return True

    monkeypatch.setattr(pythons, "run", run)
    return asked


def test_each_promised_python_but_this_one_is_looked_for():
    minors = range(bootstrap.LOW[1], bootstrap.HIGH[1] + 1)
    assert {*pythons.others(), sys.version_info[:2]} == {(3, minor) for minor in minors}


def test_a_python_is_found_on_path_or_with_pyenv_or_not_at_all(tmp_path, monkeypatch):
    assert bootstrap.version_of([pythons.find(sys.version_info[:2])]) == sys.version_info[:2]
    assert pythons.find((3, 99)) is None
    program = tmp_path / "versions" / "3.99.1" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho 3 99\n")
    program.chmod(0o755)
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert pythons.find((3, 99)) == str(program)


def test_an_absent_python_is_said_and_the_others_run(course, capsys):
    assert pythons.main() == 0
    out = capsys.readouterr().out
    assert "SKIPPED Python 3.13: it is not on this machine" in out
    assert out.splitlines()[-1] == "3 passed, 1 skipped"
    assert ["tests/gpu" in course[2], "exercises check" in course[3], "--nbval" in course[4]] == [True] * 3
    assert course[5].endswith("--ran")  # the line for the lock's head


def test_a_failing_step_fails_the_stage_and_the_others_still_run(course, monkeypatch, capsys):
    fine = pythons.run
    monkeypatch.setattr(pythons, "run", lambda command: fine(command) and "tests/gpu" not in command)
    assert pythons.main() == 1
    out = capsys.readouterr().out
    assert "FAILED Python 3.12: python -m pytest" in out and "--ran" not in course[-1]
    assert out.splitlines()[-1] == "2 passed, 1 failed, 1 skipped" and "--nbval" in course[-1]


def test_an_environment_is_made_once_and_anew_when_the_lock_changes(course, monkeypatch):
    pythons.main()
    assert sum("venv" in command.split() for command in course) == 1
    pythons.main()
    assert sum("venv" in command.split() for command in course) == 1
    monkeypatch.setattr(bootstrap, "wanted", lambda: "another lock")
    pythons.main()
    assert sum("venv" in command.split() for command in course) == 2


def test_an_environment_that_cannot_be_made_fails_the_stage_and_leaves_no_stamp(course, monkeypatch, tmp_path, capsys):
    fine = pythons.run
    monkeypatch.setattr(pythons, "run", lambda command: fine(command) and "install" not in command)
    assert pythons.main() == 1
    assert "can't be made from constraints.txt" in capsys.readouterr().out
    assert not list(tmp_path.rglob("installed-for"))
