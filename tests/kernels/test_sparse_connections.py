"""What week 7's cards say of traffic, against the dense product by tiles: the block is what the memory wants."""

import numpy as np
import pytest

from studylib.grading.runs import run
from studylib.kernels import Case, load


def sectors(name, *inputs):
    """The 32-byte sectors that an exercise's solution loads, all together, by array."""
    exercise = load(name)
    found = run(exercise, exercise.kernel, Case("counted", inputs))
    assert not found.findings
    loads = [access for report in found.reports for access in report.accesses]
    loads = [access for access in loads if access.space == "global" and access.op == "load"]
    return {access.array: round(access.requests * access.sectors_per_request) for access in loads}


def numbers(*shape):
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("degree", [2, 4, 16])
def test_gathered_numbers_are_used_once_and_those_of_a_tile_16_times(degree):
    channels, outputs, pixels = 64, 32, 128
    rng = np.random.default_rng(0)
    index = np.stack([rng.permutation(channels)[:degree] for _ in range(outputs)]).astype(np.int32)
    gathered = sectors("gather_matmul", numbers(channels, pixels), index, numbers(outputs, degree))["x"]
    dense = sectors("matmul_tiled", numbers(outputs, channels), numbers(channels, pixels))["b"]
    assert gathered * channels == dense * 16 * degree


@pytest.mark.parametrize("each", [1, 3, 6])
def test_traffic_of_blocks_goes_with_their_density(each):
    rows, columns = 6, 4
    rng = np.random.default_rng(0)
    row = np.concatenate([rng.permutation(rows)[:each] for _ in range(columns)]).astype(np.int32)
    start = np.arange(0, each * columns + 1, each, dtype=np.int32)
    x = numbers(32, 16 * rows)
    sparse = sectors("block_sparse_matmul", x, numbers(each * columns, 16, 16), row, start)
    dense = sectors("matmul_tiled", x, numbers(16 * rows, 16 * columns))
    assert sparse["x"] * rows == dense["a"] * each and sparse["block"] * rows == dense["b"] * each


def test_a_shift_costs_at_most_a_quarter_more_sectors():
    """Nine channels of one wide row of pixels: three of them lie one place off to the left, three to the right."""
    x = numbers(9, 3, 96)
    shifted = sectors("shift_conv", x, numbers(8, 9))["x"]
    aligned = 9 * x[0].size // 8
    # Two of three rows exist for a shift up or down, and what a shift brings in from outside is zero and not read.
    assert aligned * 7 / 9 < shifted < aligned * 7 / 9 * 5 / 4
