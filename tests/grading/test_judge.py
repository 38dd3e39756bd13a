"""Each stage of a verdict says what is wrong, and where."""

import numpy as np
import pytest
from numba import cuda, float32

import studylib
from studylib.grading.judge import judge
from studylib.grading.verdict import Verdict
from studylib.kernels import load, names
from studylib.kernels.stubs import GRADER

SOURCE = "tile[x, y]\n"


@cuda.jit
def naive(a, out):
    x, y = cuda.grid(2)
    if y < a.shape[0] and x < a.shape[1]:
        out[x, y] = a[y, x]


def judged(text, tmp_path, name="transpose"):
    path = tmp_path / f"{name}.py"
    path.write_text(text)
    return judge(name, path=path)


def statuses(verdict):
    return {stage.name: stage.status for stage in verdict.stages}


def test_the_solution_passes(solved, tmp_path):
    verdict = judged(solved, tmp_path)
    assert verdict.passed and verdict.is_reference
    expected = dict.fromkeys(("imports", "attempted", "compiles", "right", "safe", "budget"), "passed")
    assert statuses(verdict) == expected | {"measured": "skipped"}
    assert "registers" in verdict.stage("compiles").text
    assert "Word for word the exercise's solution" in str(verdict)
    line = next(n for n, text in enumerate(solved.splitlines(), 1) if text.startswith("def transpose"))
    assert verdict.line == line and f"line {line}" in str(verdict) and verdict.digest in str(verdict)


def test_of_a_solution_that_everybody_writes_alike_nothing_is_said(tmp_path):
    verdict = judged(load("vector_add").text.partition(GRADER)[0], tmp_path, "vector_add")
    assert verdict.passed and verdict.is_reference and "Word for word" not in str(verdict)


def test_every_stub_is_not_attempted():
    for name in names():
        verdict = judge(name)
        assert verdict.state == "not attempted" and not verdict.passed, name


def test_mismatches_name_index_values_and_writer(solved, tmp_path):
    verdict = judged(solved.replace(SOURCE, "tile[x, y] + 1\n"), tmp_path)
    text = verdict.stage("right").text
    assert verdict.stage("right").status == "failed" and verdict.stage("budget").status == "skipped"
    assert "case 1 x 1: out is wrong in 1 of 1 element\n" in text
    line = next(n for n, t in enumerate(solved.splitlines(), 1) if SOURCE.strip() in t)
    assert "out[0, 0]: got" in text and f"written by block (0, 0), thread (0, 0), line {line}" in text


def test_an_element_that_nobody_writes(solved, tmp_path):
    verdict = judged(solved.replace("if left + y < out", "if left + y < 32 and left + y < out"), tmp_path)
    assert "got nan" in verdict.stage("right").text and "no thread wrote it" in verdict.stage("right").text
    assert verdict.stage("right").text.count("no thread wrote it") == 5


def vector_add(body, tmp_path):
    """What *right* says of a vector_add with this body."""
    text = "from numba import cuda, float32\n\n\n@cuda.jit\ndef vector_add(a, b, out):\n    i = cuda.grid(1)\n"
    body = "".join(f"    {line}\n" for line in body.splitlines())
    return judged(text + body, tmp_path, "vector_add").stage("right")


STOPS = {
    "out[i] = a[i] + b[i]": "case 1 element: a[1] is outside its shape (1,), in thread 1 of block 0 and 254 more: "
    "the launch has 256 threads, a has 1 element\n  vector_add.py:7: out[i] = a[i] + b[i]\n",
    "if i <= out.size:\n    out[i] = a[i] + b[i]": "case 1 element: a[1] is outside its shape (1,), in thread 1 of block 0:",
    "if i < out.size:\n    out[i] = a[i] + b[i]\n    out[i - 2 * i - 2] = 1": "case 1 element: out[-2] is outside its shape",
    "k = 64\nwhile k > 0:\n    k //= 1": "case 1 element: the loop does not end",
    "out[i] = a[i] + b[i] + nothing": "case 1 element: ",
}


@pytest.mark.parametrize("body", STOPS)
def test_a_launch_that_stops_says_what_for_and_nothing_of_a_result(body, tmp_path):
    stage = vector_add(body, tmp_path)
    assert stage.status == "failed" and stage.text.startswith(STOPS[body])
    assert "vector_add.py:" in stage.text and stage.text.endswith("The launch stopped there, so there is no result")
    assert "nan" not in stage.text and "no thread" not in stage.text


def test_a_finding_comes_before_the_wrong_numbers_that_it_may_explain(solved, tmp_path):
    text = vector_add("if i < out.size:\n    out[i // 2] = a[i] + b[i]", tmp_path).text
    cause, _, rest = text.partition("\n")
    assert cause.startswith("case 256 elements: global out[0]: thread 0 of block 0 writes it")
    assert "vector_add.py:8" in rest and "\nand out is wrong in 256 of 256 elements" in rest


def test_a_kernel_that_changes_its_input(solved, tmp_path):
    verdict = judged(solved.replace(SOURCE, "tile[x, y]\n        a[0, 0] = float32(7)\n"), tmp_path)
    assert "changes its input a" in verdict.stage("right").text


def test_a_kernel_of_a_cell():
    verdict = judge("transpose", naive)
    assert statuses(verdict)["right"] == statuses(verdict)["safe"] == "passed"
    assert verdict.stage("budget").status == "failed" and "out[x, y] = a[y, x]" in verdict.stage("budget").text
    assert "sectors a request: 32 of 4 TOO MANY" in verdict.stage("budget").text
    assert not verdict.is_reference and verdict.path == "test_judge.py"


def test_the_card_has_a_picture_and_escapes():
    card = studylib.check("transpose", naive)
    page = card._repr_html_()
    assert "data:image/png;base64," in page and "within budget" in page and not card.passed
    card.verdict.stages[0] = card.verdict.stages[0].__class__("imports", "failed", "<script>")
    assert "<script>" not in card._repr_html_()


class Pretender:
    py_func = 3


@pytest.mark.parametrize("kernel", [3, None.__class__, lambda a, out: None, print, Pretender()])
def test_what_is_no_kernel(kernel):
    verdict = judge("transpose", kernel)
    assert verdict.state == "failed" and "expected transpose as a function with @cuda.jit" in str(verdict)


def test_what_cannot_be_launched(solved, tmp_path):
    verdict = judged(solved.replace("@cuda.jit\n", "@cuda.jit(device=True)\n"), tmp_path)
    assert not verdict.passed and "is a device function" in verdict.stage("imports").text


def test_wrong_number_of_arguments():
    @cuda.jit
    def short(a):
        a[0, 0] = float32(1)

    verdict = judge("transpose", short)
    assert "takes 1 argument, expected 2: (a, out)" in verdict.stage("imports").text


def test_no_such_exercise():
    with pytest.raises(ValueError, match="there is no exercise 'transposed'; exercises: .*transpose"):
        judge("transposed")


def test_a_table_of_answers_does_not_pass(solved, tmp_path):
    # The inputs are drawn from the file's own hash, so a file cannot hold the answers to its own inputs.
    exercise = load("transpose")
    case = exercise.cases(np.random.default_rng(0))[0]
    answer = float(exercise.outputs(*case.inputs)[0][0, 0])
    assert judged(solved.replace(SOURCE, f"float32({answer})\n"), tmp_path).stage("right").status == "failed"


def test_the_same_file_meets_the_same_inputs(solved, tmp_path):
    wrong = solved.replace(SOURCE, "tile[x, y] * 2\n")
    first, second = judged(wrong, tmp_path), judged(wrong, tmp_path)
    assert first.as_dict() == second.as_dict()
    assert judged(wrong + "# other\n", tmp_path).stage("right").text != first.stage("right").text


def test_another_launch_is_noted_and_not_used(solved, tmp_path):
    verdict = judged(solved.replace("(TILE, TILE)](a, out)", "(1, 1)](a, out)"), tmp_path)
    assert verdict.passed and "launch() in the file is not the exercise's" in str(verdict)


def test_a_missing_file(tmp_path):
    verdict = judge("transpose", path=tmp_path / "transpose.py")
    assert verdict.state == "failed" and "No such file" in verdict.stage("imports").text


def test_json_and_back(solved, tmp_path):
    verdict = judged(solved, tmp_path)
    assert str(Verdict.from_dict(verdict.as_dict())) == str(verdict)
