"""The command says what the user can do: help, results, and every wrong input as a message without a traceback."""

import pytest
from typer.testing import CliRunner

from studylib.cli import app
from studylib.course import notebooks

WEEK = """# %% [markdown]
# # Small

# %% tags=["parameters"]
FAST = True
SEED = 0
DATA = "../../data"

# %%
1 / SEED
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Runs the command on a course of two weeks; the second fails with the default parameters."""
    for name, text in {"01_good": WEEK.replace("1 / SEED", "6 * 7"), "02_bad": WEEK}.items():
        (tmp_path / "weeks" / name).mkdir(parents=True)
        (tmp_path / "weeks" / name / f"{name}.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    return lambda *arguments: CliRunner().invoke(app, arguments)


def test_help_lists_the_commands_and_each_has_its_own(study):
    shown = study("--help")
    assert shown.exit_code == 0
    for command in ("run", "costs", "ledger"):
        assert f"\n  {command} " in shown.output
        assert "Usage: " in study(command, "--help").output


def test_run_goes_on_after_a_failing_week_and_shows_it_last(study, tmp_path):
    result = study("run")
    assert result.exit_code == 1
    assert (tmp_path / "build" / "weeks" / "01_good.html").exists()
    assert result.output.rstrip().endswith("ZeroDivisionError: division by zero")
    assert "02_bad.py: code cell 2 failed, under “Small”:\n\n    1 / SEED\n" in result.output


def test_run_takes_parameters_and_writes_nothing_beside_the_source(study, tmp_path):
    result = study("run", "02", "-p", "SEED=4")
    assert result.exit_code == 0 and "0.25" in (tmp_path / "build" / "weeks" / "02_bad.html").read_text()
    assert [p.name for p in (tmp_path / "weeks" / "02_bad").iterdir()] == ["02_bad.py"]


def test_save_says_whether_the_twin_changed(study):
    assert "weeks/01_good/01_good.ipynb: written" in study("run", "--save", "01").output
    assert "weeks/01_good/01_good.ipynb: unchanged" in study("run", "--save", "01").output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "03"], "there is no week '03'"),
        (["run", "01_god"], "did you mean 01_good?"),
        (["run", "01", "-p", "SPEED=1"], "01_good has no parameter 'SPEED'"),
        (["run", "01", "-p", "FAST=perhaps"], "parameter FAST is 'perhaps'"),
        (["run", "--save", "01", "-p", "SEED=1"], "leave out -p"),
        (["costs", "mobilnet"], "there is no net 'mobilnet'; nets: alexnet, "),
        (["costs", "lenet5", "--input", "28"], "--input is '28', expected channels,height,width"),
        (["costs", "lenet5", "--input", "1,x,28"], "--input is '1,x,28', expected channels,height,width"),
        (["costs", "lenet5", "--input", "3,224,224"], "Conv2d"),
        (["ledger", "mobilnet"], "mobilenet"),
    ],
)
def test_wrong_input_is_one_message_without_a_traceback(study, arguments, message):
    result = study(*arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("study: ") and message in result.stderr
    assert "Traceback" not in result.output


def test_a_damaged_notebook_is_one_message(study, tmp_path):
    (tmp_path / "weeks" / "01_good" / "01_good.ipynb").write_text("{")
    result = study("run", "01")
    assert result.exit_code == 1 and "01_good.ipynb is damaged" in result.stderr


def test_a_course_without_weeks_says_so(study, tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks, "ROOT", tmp_path / "elsewhere")
    result = study("run")
    assert result.exit_code == 1 and "there is no week under" in result.stderr


def test_costs_prints_the_count(study):
    result = study("costs", "lenet5", "--input", "1,28,28")
    assert result.exit_code == 0 and "431,080" in result.output  # Caffe's LeNet-5, as Deep Compression counts it


def test_ledger_prints_a_paper_or_all(study, monkeypatch):
    from studylib import ledger

    two = ["mec", "mobilenet"]
    tables = [str(ledger.check(paper)) for paper in two]
    assert study("ledger", "mec").output == f"{tables[0]}\n\n"
    monkeypatch.setattr(ledger, "papers", lambda: two)
    assert study("ledger").output == "".join(f"{table}\n\n" for table in tables)


@pytest.mark.parametrize("mistake", [TypeError, ValueError, KeyError])
def test_our_own_mistake_keeps_its_traceback(study, monkeypatch, mistake):
    def wrong():
        raise mistake("ours")

    monkeypatch.setattr(notebooks, "weeks", wrong)
    assert type(study("run").exception) is mistake
