"""What messages and commands share: a number with its noun, and the week that a word means."""

import pytest
from typer.testing import CliRunner

from studylib import course, kernels, words
from studylib.cli import app
from studylib.course import notebooks
from studylib.words import counted

WEEKS = ["01_intro", "02_resnext_gpu1", "02b", "10_last", "same"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((0, "element"), "0 elements"),
        ((1, "element"), "1 element"),
        ((1024, "element"), "1,024 elements"),
        ((1, "index", "indices"), "1 index"),
        ((2, "index", "indices"), "2 indices"),
    ],
)
def test_a_number_with_its_noun(arguments, said):
    assert counted(*arguments) == said


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("1", ["01_intro"]),
        ("01", ["01_intro"]),
        ("10", ["10_last"]),
        ("02_resnext_gpu1", ["02_resnext_gpu1"]),
        ("weeks/02_resnext_gpu1/", ["02_resnext_gpu1"]),
        ("weeks/02_resnext_gpu1/02_resnext_gpu1.ipynb", ["02_resnext_gpu1"]),
        ("02_res", ["02_resnext_gpu1"]),
        ("2", ["02_resnext_gpu1", "02b"]),
        ("0", ["01_intro", "02_resnext_gpu1", "02b"]),
        ("sam", ["same"]),
        ("3", []),
        ("-1", []),
        ("²", []),  # a digit for str.isdigit, and no number for int
        ("", []),
        ("/", []),
    ],
)
def test_the_weeks_that_a_word_means(word, meant):
    assert words.weeks(word, WEEKS) == meant


def test_every_command_takes_a_week_in_the_same_way():
    for word in ("2", "02", "02_resnext_gpu1", "02_res", "weeks/02_resnext_gpu1"):
        assert notebooks.find(word).stem == course.load().week(word).name == "02_resnext_gpu1"
        assert kernels.find([word]) == kernels.names("02_resnext_gpu1")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["check", "²"], "there is no exercise or week '²'"),
        (["run", "²"], "there is no week '²'"),
        (["sheet", "²"], "there is no week '²'"),
        (["costs", "mobilenet_v1", "--input", "3,224,²"], "--input is '3,224,²', expected channels,height,width"),
    ],
)
def test_a_superscript_is_no_number(command, said):
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 1 and said in done.stderr
