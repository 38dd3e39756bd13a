"""The sequence behind `make test` runs every stage, fails when one fails, and counts honestly."""

import sys

import pytest

from studylib import kernels
from tests import another_machine, stages
from tests.stages import Result, Stage


def python(name, code, **variables):
    return Stage(name, (sys.executable, "-c", code), tuple(variables.items()))


FAILS = """
print('FAILED tests/test_x.py::test_y - assert 1 == 2')
print('2 failed, 5 passed in 1s')
raise SystemExit(1)
"""


def test_all_stages_run_although_one_fails_and_the_failure_is_named_last(monkeypatch, capsys):
    rows = [
        [python("first", FAILS), python("beside", "print('ok')")],
        [python("last", "import os; print(os.environ['KIND'], '\\n7 passed, 1 skipped in 2s')", KIND="other")],
    ]
    monkeypatch.setattr(stages, "ROWS", rows)
    assert stages.main(3.0) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "last | other " in lines and "beside | ok" in lines
    assert lines[-3:-1] == ["failed stages: first", "first | FAILED tests/test_x.py::test_y - assert 1 == 2"]
    assert lines[-1].startswith("===== 2 failed, 13 passed, 1 skipped in ")
    assert "      3 s  set-up" in lines


def test_without_a_failure_it_ends_with_status_0(monkeypatch, capsys):
    monkeypatch.setattr(stages, "ROWS", [[python("only", "print('3 passed in 1s')")]])
    assert stages.main(0.0) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("===== 3 passed in ")


@pytest.mark.parametrize(
    ("status", "last", "expected"),
    [
        (0, "All checks passed!", "1 passed"),
        (1, "Found 3 errors.", "3 error"),
        (5, "no tests ran in 0.1s", "1 failed"),
        (-9, "12 passed in 3s", "1 failed, 12 passed"),
        (1, "1 failed, 2 errors in 3s", "1 failed, 2 error"),
    ],
)
def test_a_stage_counts_as_its_tests_or_as_one(status, last, expected):
    assert stages.count([Result("stage", status, 1.0, last, [], [])]) == expected


def test_the_stages_are_those_that_the_course_promises():
    names = [stage.name for row in stages.ROWS for stage in row]
    assert names == [
        "format",
        "lint",
        "unit tests",
        "another machine",
        "other Pythons",
        "notebooks",
        "browser",
        "exercises",
        "types",
    ]


def test_two_stages_execute_the_notebooks_the_second_with_another_seed_and_rounding():
    commands = {stage.name: (" ".join(stage.command), stage.variables) for row in stages.ROWS for stage in row}
    assert "--nbval" in commands["notebooks"][0]
    command, variables = commands["another machine"]
    assert command.endswith("tests/another_machine.py") and ("ATEN_CPU_CAPABILITY", "default") in variables
    assert another_machine.SEED == 3
    # Nothing else does: the exercises are named, for a week would be executed for its gaps.
    assert commands["exercises"][0].split(" check ")[1].split() == sorted(kernels.names())


def test_the_slowest_tests_of_all_stages_are_listed(monkeypatch, capsys):
    lists = "print('59.79s call     tests/a.py::test[x y]'); print('2.50s setup    tests/b.py::test')"
    rows = [[python("first", lists), python("second", "print('  71.00s call     weeks/w.ipynb::Cell 3')")]]
    monkeypatch.setattr(stages, "ROWS", rows)
    assert stages.main(0.0) == 0
    out = capsys.readouterr().out.splitlines()
    first = out.index("the slowest tests and cells") + 1
    assert out[first : first + 3] == [
        "     71 s  weeks/w.ipynb::Cell 3",
        "     60 s  tests/a.py::test[x y]",
        "      2 s  tests/b.py::test (setup)",
    ]
