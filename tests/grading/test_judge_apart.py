"""Judging ends: with a finding at its line for an endless loop, with a verdict where memory, time or the stack run out."""

import pytest

from studylib.grading import isolation, judge_apart, local
from studylib.grading.local import check_file
from studylib.kernels import load
from studylib.kernels.stubs import GRADER


def judged(tmp_path, old, new, name="transpose"):
    text = load(name).text.partition(GRADER)[0]
    assert old in text
    path = tmp_path / f"{name}.py"
    path.write_text(text.replace(old, new) + "\n")
    return check_file(name, path)


def test_an_axis_that_does_not_exist(tmp_path):
    verdict = judged(tmp_path, "left + x < a.shape[1]", "left + x < a.shape[2]")
    assert "a has 2 dimensions: a.shape[2] does not exist" in verdict.stage("safe").text
    assert "transpose.py:" in verdict.stage("safe").text and not verdict.passed


@pytest.mark.parametrize(
    "value",
    ["a.shape[2]", "a.shape[-3]", "(1, 2)[5]", "cuda.grid(2)[2]", "a.size[0]", "a.strides[0]", "len(out.shape[0])"],
)
def test_what_does_not_exist_is_a_finding(value, tmp_path):
    verdict = judged(tmp_path, "cuda.syncthreads()", f"v = {value}\n    cuda.syncthreads()")
    assert verdict.state == "failed" and "fault of the judge" not in str(verdict), str(verdict)
    assert any("transpose.py:" in s.text or "line " in s.text for s in verdict.stages), str(verdict)


@pytest.mark.parametrize("step", ["half //= 1", "half += 0", "half = half", "half = 2 * half // 2"])
def test_a_loop_that_never_ends_has_its_line(step, tmp_path):
    verdict = judged(tmp_path, "half //= 2", step, "reduce_sum")
    assert verdict.stage("right").finds == ("endless-loop",) and "while half" in verdict.stage("right").text


@pytest.mark.skipif(not hasattr(judge_apart.signal, "SIGXCPU"), reason="Windows limits no time of computing")
def test_time_that_is_over_names_the_loop(tmp_path, monkeypatch):
    monkeypatch.setattr(judge_apart, "JUDGE", isolation.Limits(seconds=1))
    verdict = judged(
        tmp_path, "cuda.syncthreads()", "for i in range(1 << 60):\n        v = a[0, 0]\n    cuda.syncthreads()"
    )
    assert "1 s of computing" in str(verdict) and "endless-loop" in str(verdict) and "for i in range" in str(verdict)


@pytest.mark.parametrize(
    "error, words", [(MemoryError, "memory"), (RecursionError, "deeper"), (IndexError, "fault of the")]
)
def test_what_the_judge_runs_into_is_a_verdict(error, words, tmp_path, monkeypatch):
    def judge(*a, **k):
        raise error

    monkeypatch.setattr(judge_apart, "judge", judge)
    verdict = judged(tmp_path, "x", "x")
    assert verdict.state == "failed" and words in verdict.stage("right").text


@pytest.mark.parametrize("deep", ["-" * 3000 + "1", "1" + " + 1" * 3000])
def test_deep_nesting_is_a_verdict(deep, tmp_path):
    verdict = judged(tmp_path, "cuda.syncthreads()", f"v = {deep}\n    cuda.syncthreads()")
    assert verdict.state == "failed", str(verdict)


def test_it_says_that_it_works_after_a_second(monkeypatch, capsys):
    meanwhile = local._working("transpose")
    meanwhile()
    assert not capsys.readouterr().err
    now = local.time.monotonic()
    monkeypatch.setattr(local.time, "monotonic", lambda: now + 2)
    meanwhile()
    meanwhile()
    assert capsys.readouterr().err == "judging transpose ...\n"


def test_a_new_python_judges_alike(tmp_path, solved):
    path = tmp_path / "transpose.py"
    path.write_text(solved.replace("    # END SOLUTION", "    print('words')"))
    there, _ = judge_apart.judge_in_a_new_python("transpose", path, pictures=False, meanwhile=lambda: None)
    assert there.as_dict() == check_file("transpose", path).as_dict() and there.passed
