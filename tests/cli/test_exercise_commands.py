"""What a participant and a facilitator type: study check, hint, solution, progress, exercises, bench."""

import json

import pytest
from typer.testing import CliRunner

from studylib import files, kernels
from studylib.cli import app
from studylib.course import form, gap_proof, meeting, notebooks
from studylib.grading import bench, local, progress, proof, record
from studylib.kernels import load, stubs


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Runs `study` with a participant's own exercises/ and nothing written to this clone."""
    folder = tmp_path / "exercises"
    for module in (files, stubs, progress, local):
        monkeypatch.setattr(module, "EXERCISES", folder)
    for module in (kernels, kernels.exercise):  # one exercise is enough
        monkeypatch.setattr(module, "names", lambda week=None: ["transpose"])
        monkeypatch.setattr(module, "weeks", lambda: ["02_resnext_gpu1"])
    (folder / "02_resnext_gpu1").mkdir(parents=True)
    (folder / "02_resnext_gpu1" / "transpose.py").write_text(stubs.stub(load("transpose")))
    for function in (record.read, record.write, record.next_hint, record.borrow, progress.own, progress.remember):
        defaults = list(function.__defaults__)
        defaults[-1] = folder / ".study.json"
        if function is progress.own:
            defaults[0] = folder
        monkeypatch.setattr(function, "__defaults__", tuple(defaults))

    def run(*arguments):
        return CliRunner().invoke(app, arguments)

    run.file = folder / "02_resnext_gpu1" / "transpose.py"
    return run


def test_check(study, solved):
    done = study("check", "transpose")
    assert done.exit_code == 0 and "not attempted" in done.output
    study.file.write_text(solved.replace("cuda.syncthreads()", "pass"))
    done = study("check", "2")
    assert done.exit_code == 1 and "✗ safe" in done.output and "race" in done.output
    study.file.write_text(solved)
    done = study("check", "02_resnext_gpu1")
    assert done.exit_code == 0 and "✓ within budget" in done.output, done.output
    study.file.write_text(solved + "import os\nos._exit(0)\n")
    done = study("check", "transpose")
    assert done.exit_code == 0 and "✓ right" in done.output  # what stands beside the kernel is not run
    done = study("check", "transposed")
    assert done.exit_code == 1 and "there is no exercise or week 'transposed'" in done.output


def test_hints_come_one_at_a_time_and_a_solution_is_borrowed(study):
    hints = load("transpose").hints
    for seen in (1, 2, 3, 3):
        output = study("hint", "transpose").output
        assert [text in output for text in hints] == [n < seen for n in range(len(hints))]
    done = study("solution", "transpose")
    assert "cuda.syncthreads()" in done.output and "borrowed" in done.output
    assert "transpose (borrowed)" in study("progress").output
    assert list(record.read()["borrowed"]) == ["transpose"]


def test_progress_counts_the_gaps_of_the_meetings_too(study, monkeypatch):
    monkeypatch.setattr(meeting, "progress", lambda root: {"02_resnext_gpu1": (1, 3)})
    lines = study("progress").stdout.splitlines()
    assert "  gaps  " in lines[0] and any("1 of 3" in line and "transpose" in line for line in lines)


def test_exercises_build_and_check_take_the_gaps_of_the_meetings_too(study, monkeypatch):
    monkeypatch.setattr(meeting, "build", lambda: ([study.file.with_name("meeting.ipynb")], []))
    asked = []
    monkeypatch.setattr(form, "faults", lambda week: [])
    monkeypatch.setattr(gap_proof, "prove", lambda week: asked.append(week) or [f"a gap of {week}"])
    monkeypatch.setattr(proof, "prove", lambda exercise: [])
    assert "wrote exercises/02_resnext_gpu1/meeting.ipynb" in study("exercises", "build").stdout
    done = study("exercises", "check", "2")
    assert done.exit_code == 1 and "02_resnext_gpu1: a gap of 02_resnext_gpu1" in done.stdout
    assert asked == ["02_resnext_gpu1"]
    assert study("exercises", "check", "transpose").exit_code == 0 and len(asked) == 1
    assert study("exercises", "check").exit_code == 1 and asked[1:] == list(notebooks.weeks())


def test_progress(study, solved, tmp_path):
    assert "0 of 1" in study("progress").output and "· transpose" in study("progress").output
    study.file.write_text(solved)
    assert "1 of 1" in study("progress").output and "✓ transpose" in study("progress").output
    study.file.write_text(solved.replace("tile[x, y]\n", "tile[y, x]\n"))
    assert "✗ transpose" in study("progress").output
    study.file.unlink()
    assert "? transpose" in study("progress").output
    grades = tmp_path / "grades.csv"
    grades.write_text("participant,exercise,state\nanna,transpose,passed\nben,transpose,failed\n")
    output = study("progress", "--grades", str(grades)).output
    assert "anna" in output and "✓ transpose" in output and "✗ transpose" in output
    grades.write_text("participant,exercise,state\n[/bold]\x1b[2J,transpose,passed\n")
    assert "[/bold]?[2J" in study("progress", "--grades", str(grades)).output
    grades.write_text("a,b\n")
    assert "is not a grades.csv" in study("progress", "--grades", str(grades)).output


def test_a_record_that_was_edited(study):
    path = study.file.parents[1] / ".study.json"
    for text in ("nonsense", "[]", '{"hints": 3}'):
        path.write_text(text)
        done = study("hint", "transpose")
        assert done.exit_code == 1 and "delete it" in done.output
        assert path.read_text() == text


def test_grade_needs_one_place(study):
    for arguments in ((), ("here", "--branches", "x")):
        done = study("grade", *arguments)
        assert done.exit_code == 1 and "and not both" in done.output


MEASURED = {
    "exercise": "transpose",
    "code": "0",
    "seconds": 1e-3,
    "torch_seconds": 2e-3,
    "bytes": 10**9,
    "operations": 2 * 10**9,
    "copy": 2e12,
    "peak": 2e13,
}


def test_bench_without_a_gpu_shows_what_was_measured(study, tmp_path):
    assert "Nothing was measured before" in study("bench", "--out", str(tmp_path)).output
    data = {"card": "Some card", "kernels": {"transpose": MEASURED}}
    (tmp_path / "kernels-some.json").write_text(json.dumps(data))
    output = study("bench", "--out", str(tmp_path)).output
    assert "Some card" in output and "(an older version)" in output
    assert all(figure in output for figure in ("1,000.0", "2,000.0", "2.00", "50%", "2,000"))
    (tmp_path / "kernels-some.json").write_text("[]")
    assert "is not a file of `study bench`" in study("bench", "--out", str(tmp_path)).output


def test_measuring_needs_a_gpu():
    with pytest.raises(ValueError, match="no GPU here"):
        bench.measure(load("transpose"))
