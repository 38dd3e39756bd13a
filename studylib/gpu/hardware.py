"""What every GPU here has in common, said once: the warp, the limits of a launch, sectors and banks."""

WARP = 32  # threads
MAX_THREADS_PER_BLOCK = 1024
MAX_BLOCK = (1024, 1024, 64)  # threads along x, y, z
MAX_GRID = (2**31 - 1, 65535, 65535)  # blocks along x, y, z
SHARED_PER_BLOCK = 48 * 1024  # bytes; what every GPU grants without being asked, and Numba-CUDA does not ask
SECTOR = 32  # bytes; the least that global memory moves
BANKS, WORD = 32, 4  # shared memory: banks, and the bytes that one serves in a pass


def warps_in(threads: int) -> int:
    """The warps of a block of so many threads; the last one may lack some."""
    return -(-threads // WARP)
