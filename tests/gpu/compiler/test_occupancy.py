"""Occupancy against the answers of NVIDIA's own calculator."""

import pytest

from studylib.gpu.compiler.occupancy import LIMITS, occupancy, threads_per_block

# Compute capability, registers, shared bytes, threads per block; blocks per SM and limiting factors as
# cudaOccMaxActiveBlocksPerMultiprocessor of cuda_occupancy.h (CUDA 13.0) gives them, with one barrier a block.
# The rows are a sample of 200,000 random ones, on which the two agree.
NVIDIA = [
    ((7, 5), 93, 0, 32, 16, "blocks"),
    ((7, 5), 114, 1969, 16, 16, "blocks and registers"),
    ((7, 5), 127, 3911, 32, 16, "blocks and registers and shared memory"),
    ((7, 5), 80, 3991, 5, 16, "blocks and shared memory"),
    ((7, 5), 96, 0, 128, 5, "registers"),
    ((7, 5), 132, 49151, 384, 1, "registers and shared memory"),
    ((7, 5), 20, 6500, 32, 9, "shared memory"),
    ((7, 5), 65, 0, 1024, 0, "registers"),
    ((8, 0), 29, 0, 32, 32, "blocks"),
    ((8, 0), 64, 0, 32, 32, "blocks and registers"),
    ((8, 0), 57, 4157, 32, 32, "blocks and registers and shared memory"),
    ((8, 0), 49, 1893, 745, 1, "registers"),
    ((8, 0), 48, 0, 256, 5, "registers"),
    ((8, 0), 50, 48000, 311, 3, "registers and shared memory"),
    ((8, 0), 115, 48000, 64, 3, "shared memory"),
    ((8, 0), 23, 306, 169, 10, "warps"),
    ((8, 6), 27, 1292, 41, 16, "blocks"),
    ((8, 6), 59, 5193, 64, 16, "blocks and registers and shared memory"),
    ((8, 6), 98, 25772, 192, 2, "registers"),
    ((8, 6), 35, 48000, 128, 2, "shared memory"),
    ((8, 9), 75, 1310, 17, 24, "blocks and registers"),
    ((8, 9), 36, 3113, 32, 24, "blocks and shared memory"),
    ((8, 9), 245, 13622, 256, 1, "registers"),
    ((8, 9), 22, 0, 96, 16, "nothing"),
    ((9, 0), 15, 2065, 32, 32, "blocks"),
    ((9, 0), 33, 0, 337, 4, "registers"),
    ((9, 0), 85, 49152, 157, 4, "registers and shared memory"),
    ((9, 0), 37, 48000, 96, 4, "shared memory"),
    ((9, 0), 8, 0, 1024, 2, "nothing"),
    ((12, 0), 79, 3183, 32, 24, "blocks and registers and shared memory"),
    ((12, 0), 142, 3299, 215, 1, "registers"),
    ((12, 0), 44, 0, 64, 20, "registers"),
    ((12, 0), 104, 38894, 32, 2, "shared memory"),
]


@pytest.mark.parametrize(("cc", "registers", "shared", "block", "blocks", "limited_by"), NVIDIA)
def test_agrees_with_nvidias_calculator(cc, registers, shared, block, blocks, limited_by):
    got = occupancy(cc, registers, shared, block)
    assert (got.blocks, got.limited_by) == (blocks, limited_by)
    assert got.fraction == blocks * -(-block // 32) / LIMITS[cc].warps


def test_every_compute_capability_is_compared():
    assert {row[0] for row in NVIDIA} == set(LIMITS)


def test_more_than_48_kb_of_shared_memory_does_not_launch():
    assert occupancy((8, 0), 32, 48 * 1024, 128).blocks == 3
    assert occupancy((8, 0), 32, 48 * 1024 + 1, 128) == (0.0, 0, "shared memory")


def test_block_shapes():
    assert threads_per_block(256) == threads_per_block((16, 16)) == threads_per_block((8, 8, 4)) == 256
    assert occupancy((9, 0), 40, 0, (32, 8)) == occupancy((9, 0), 40, 0, 256)


@pytest.mark.parametrize("block", [0, -1, 1025, (32, 33), (), (1, 1, 1, 1), (0, 5)])
def test_impossible_blocks(block):
    with pytest.raises(ValueError, match="1 to 1024 threads"):
        occupancy((8, 0), 32, 0, block)


def test_a_block_of_half_threads_is_no_block():
    with pytest.raises(TypeError):
        occupancy((8, 0), 32, 0, 12.5)


@pytest.mark.parametrize("cc", [(6, 1), (8, 7), 8.0, "8.0", 80])
def test_unknown_compute_capability(cc):
    with pytest.raises(ValueError, match=r"\(8, 0\)"):
        occupancy(cc, 32, 0, 128)
