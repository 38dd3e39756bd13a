"""How many warps of a kernel fit on one multiprocessor of a GPU, and which resource sets the limit.

Occupancy is resident warps over the warps that a streaming multiprocessor (SM) can hold. It says how much latency
can be hidden, not how fast a kernel is: a kernel with half the occupancy may well be the faster one.

Sources. The limits per SM: CUDA Programming Guide, appendix "Compute Capabilities", technical specifications per
compute capability (the same figures as NVIDIA's libcu++, `cuda/__device/arch_traits.h`). How registers and shared
memory are rounded up: `cuda_occupancy.h` of CUDA 13.0, with whose answers tests/gpu/compiler/test_occupancy.py compares.
The result is exact for a block that asks for no more than the default 48 KB of shared memory and for the driver's
default choice of the split between shared memory and L1; Numba-CUDA changes neither.
"""

import math
from operator import index
from typing import NamedTuple

from studylib.gpu.hardware import MAX_THREADS_PER_BLOCK, SHARED_PER_BLOCK, WARP, warps_in

REGISTERS = 65536  # 32-bit, per SM and at most per block, on every compute capability listed here
REGISTER_UNIT = 256  # a warp's registers are rounded up to this
PARTITIONS = 4  # a warp lives in one of four quarters of the SM, each with a quarter of the registers


class Limits(NamedTuple):
    """What one SM holds. Shared memory in bytes: per SM, taken by the system per block, rounding unit."""

    warps: int
    blocks: int
    shared: int
    reserved_shared: int
    shared_unit: int


LIMITS = {
    (7, 5): Limits(32, 16, 64 * 1024, 0, 256),
    (8, 0): Limits(64, 32, 164 * 1024, 1024, 128),
    (8, 6): Limits(48, 16, 100 * 1024, 1024, 128),
    (8, 9): Limits(48, 24, 100 * 1024, 1024, 128),
    (9, 0): Limits(64, 32, 228 * 1024, 1024, 128),
    (12, 0): Limits(48, 24, 100 * 1024, 1024, 128),
}


class Occupancy(NamedTuple):
    """fraction: resident warps over the most the SM holds (0..1); blocks: resident blocks per SM.

    limited_by: "warps", "blocks", "registers", "shared memory", several joined by " and ", or "nothing" at 1.0.
    """

    fraction: float
    blocks: int
    limited_by: str


def limits(cc: tuple[int, int]) -> Limits:
    """The limits of compute capability `cc`, such as (8, 0). Raises ValueError for one that is not listed."""
    if cc not in LIMITS:
        known = ", ".join(map(str, LIMITS))
        raise ValueError(f"compute capability cc={cc!r} is not known here; take one of {known}")
    return LIMITS[cc]


def threads_per_block(block: int | tuple[int, ...]) -> int:
    """Threads in `block` (an int or a tuple of up to three). Raises ValueError unless 1 to 1024."""
    shape = [index(n) for n in (block if isinstance(block, tuple | list) else (block,))]
    threads = math.prod(shape)
    if not (1 <= len(shape) <= 3 and all(n >= 1 for n in shape) and threads <= MAX_THREADS_PER_BLOCK):
        raise ValueError(
            f"block={block!r}: a block has one to three dimensions and 1 to {MAX_THREADS_PER_BLOCK} threads"
        )
    return threads


def occupancy(cc: tuple[int, int], registers: int, shared_bytes: int, block: int | tuple[int, ...]) -> Occupancy:
    """Occupancy of a kernel.

    registers: per thread, 1 to 255. shared_bytes: static and dynamic shared memory per block. block: threads per
    block, an int or a tuple. An occupancy of 0.0 means that the launch fails: one block alone asks for too much.
    Raises ValueError for an unknown compute capability or an impossible block.
    """
    sm = limits(cc)
    warps = warps_in(threads_per_block(block))
    fits = {
        "warps": sm.warps // warps,
        "blocks": sm.blocks,
        "registers": _blocks_by_registers(registers, warps),
        "shared memory": _blocks_by_shared(sm, shared_bytes),
    }
    blocks = int(min(fits.values()))
    fraction = blocks * warps / sm.warps
    tight = [name for name, most in fits.items() if most == blocks]
    return Occupancy(fraction, blocks, "nothing" if fraction == 1 else " and ".join(tight))


def _blocks_by_registers(registers: int, warps: int) -> int:
    per_warp = _round_up(registers * WARP, REGISTER_UNIT)
    # The launch check counts the block's warps as if they filled all four partitions evenly.
    if per_warp * _round_up(warps, PARTITIONS) > REGISTERS:
        return 0
    return REGISTERS // PARTITIONS // per_warp * PARTITIONS // warps


def _blocks_by_shared(sm: Limits, shared_bytes: int) -> float:
    per_block = _round_up(shared_bytes + sm.reserved_shared, sm.shared_unit)
    if per_block > SHARED_PER_BLOCK + sm.reserved_shared:
        return 0
    return sm.shared // per_block if per_block else math.inf


def _round_up(n: int, unit: int) -> int:
    return -(-n // unit) * unit
