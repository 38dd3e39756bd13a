"""A submission's inputs come from a key that only the grader has; a kernel for the known sizes alone fails."""

import os

import numpy as np
import pytest

from studylib.grading import seed
from studylib.grading.judge import judge
from studylib.kernels import load, names
from studylib.kernels.stubs import mutated


@pytest.fixture(autouse=True)
def kept(tmp_path):
    seed.keep_in(tmp_path / "seed")
    yield tmp_path / "seed"
    seed.keep_in()


def test_the_key_stays_and_nobody_else_reads_it(kept):
    first = seed.key()
    assert seed.key() == first and len(first) == seed.BYTES
    assert [path.name for path in kept.parent.iterdir()] == ["seed"]
    if os.name == "posix":
        assert kept.stat().st_mode & 0o777 == 0o600


def test_another_key_or_text_draws_otherwise(kept):
    def drawn(digest):
        return seed.draws(digest).integers(1 << 40)

    assert drawn("a") == drawn("a") != drawn("b")
    before = drawn("a")
    kept.unlink()
    assert drawn("a") != before


def test_a_key_that_is_none(kept):
    kept.write_text("1234")
    with pytest.raises(ValueError, match="64 hexadecimal digits: delete it"):
        seed.key()


@pytest.mark.parametrize("name", names())
def test_some_sizes_are_drawn_and_the_others_stay(name):
    exercise = load(name)
    titles = [[case.title for case in exercise.cases(np.random.default_rng(n))] for n in range(3)]
    fixed = len(titles[0]) - exercise.module.DRAWN
    assert titles[0][:fixed] == titles[1][:fixed] and exercise.budget.case in titles[0][:fixed]
    assert all(title.endswith(", drawn") for title in titles[0][fixed:])
    assert not any(title.endswith("drawn") for title in titles[0][:fixed])
    assert len({tuple(found[fixed:]) for found in titles}) == 3


# Each does nothing for sizes that are not among the fixed ones.
HARD_CODED = {
    "vector_add": (
        "if i < out.size:",
        "if i < out.size and (out.size == 1 or out.size == 256 or out.size == 1000 or out.size == 1024):",
    ),
    "transpose": (
        "if left + y < out.shape[0]",
        "if (a.shape[0] == 1 or a.shape[0] == 64 or a.shape[0] == 33 or a.shape[0] == 5) and (a.shape[1] == 1 or a.shape[1] == 96 or a.shape[1] == 70 or a.shape[1] == 100) and left + y < out.shape[0]",
    ),
    "gaussian_blur": (
        "if first + t < out.size:",
        "if first + t < out.size and (x.size == 1 or x.size == 5 or x.size == 1024 or x.size == 1000 or x.size == 257):",
    ),
    "matmul_tiled": (
        "if row < out.shape[0] and",
        "if (a.shape[1] == 1 or a.shape[1] == 32 or a.shape[1] == 37 or a.shape[1] == 50) and (b.shape[1] == 1 or b.shape[1] == 48 or b.shape[1] == 9 or b.shape[1] == 33) and row < out.shape[0] and",
    ),
    "mec_lower": (
        "if h < x.shape[0]:",
        "if h < x.shape[0] and (x.shape[0] == 1 or x.shape[0] == 8 or x.shape[0] == 7 or x.shape[0] == 9) and (x.shape[2] == 1 or x.shape[2] == 32 or x.shape[2] == 5):",
    ),
    "tvm_matmul": (
        "if i < out.shape[0] and j < out.shape[1]:",
        "if (a.shape[1] == 1 or a.shape[1] == 32 or a.shape[1] == 21 or a.shape[1] == 20 or a.shape[1] == 50) and i < out.shape[0] and j < out.shape[1]:",
    ),
}


@pytest.mark.parametrize("name", HARD_CODED)
def test_a_kernel_for_the_known_sizes_does_not_pass(name, tmp_path):
    path = tmp_path / f"{name}.py"
    text = mutated(load(name), *HARD_CODED[name])
    for number in range(3):
        path.write_text(f"{text}# {number}\n")
        right = judge(name, path=path, compile_wrong=False).stage("right")
        assert right.status == "failed" and ", drawn: out is wrong" in right.text.replace("lowered", "out")
