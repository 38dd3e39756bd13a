"""Kernels with one fault each. A comment `# finds: KIND` marks the line where the checks must find it."""

import numpy as np
from numba import cuda, float32, int32

N = 64
HUGE = 20_000


@cuda.jit
def no_guard(a, out):
    out[cuda.grid(1)] = a[cuda.grid(1)]  # finds: out-of-bounds


@cuda.jit
def guard_off_by_one(a, out):
    i = cuda.grid(1)
    if i <= a.size:
        out[i] = a[i]  # finds: out-of-bounds


@cuda.jit
def negative_beyond_start(a, out):
    i = cuda.grid(1)
    if i < a.size:
        out[i] = a[i - 65]  # finds: out-of-bounds


@cuda.jit
def wrong_axis(a, out):
    x, y = cuda.grid(2)
    out[x, y] = a[x, y]  # finds: out-of-bounds


@cuda.jit
def halo_too_small(a, out):
    s = cuda.shared.array(N, float32)
    t = cuda.threadIdx.x
    s[t] = a[t]
    cuda.syncthreads()
    out[t] = s[t] + s[t + 1]  # finds: out-of-bounds


@cuda.jit
def missing_barrier(a, out):
    s = cuda.shared.array(N, float32)
    t = cuda.threadIdx.x
    s[t] = a[t]
    out[t] = s[N - 1 - t]  # finds: race


@cuda.jit
def barrier_missing_in_loop(a, out):
    s = cuda.shared.array(N, float32)
    t = cuda.threadIdx.x
    s[t] = a[t]
    cuda.syncthreads()
    n = N // 2
    while n > 0:
        if t < n:
            s[t] += s[t + n]  # finds: race
        n //= 2
    if t == 0:
        out[0] = s[0]


@cuda.jit
def second_barrier_missing(a, b, out):
    s = cuda.shared.array(N, float32)
    t = cuda.threadIdx.x
    total = float32(0)
    for start in range(0, a.size, N):
        s[t] = a[start + t]  # finds: race
        cuda.syncthreads()
        total += s[N - 1 - t] * b[start + t]
    out[t] = total


@cuda.jit
def in_place_shift(a):
    s = cuda.shared.array(N, float32)
    t = cuda.threadIdx.x
    s[t] = a[t]
    cuda.syncthreads()
    if t > 0:
        s[t] = s[t - 1]  # finds: race
    cuda.syncthreads()
    a[t] = s[t]


@cuda.jit
def warp_without_syncwarp(a, out):
    s = cuda.shared.array(32, float32)
    lane = cuda.threadIdx.x
    s[lane] = a[lane]
    cuda.syncthreads()
    n = 16
    while n > 0:
        if lane < n:
            s[lane] += s[lane + n]  # finds: race
        n //= 2
    out[0] = s[0]  # finds: race


@cuda.jit
def syncwarp_for_a_block(a, out):
    s = cuda.shared.array(N, float32)
    t = cuda.threadIdx.x
    s[t] = a[t]
    cuda.syncwarp()
    out[t] = s[N - 1 - t]  # finds: race


@cuda.jit
def histogram_without_atomic(a, bins):
    i = cuda.grid(1)
    if i < a.size:
        bins[int32(a[i] * 8)] += 1  # finds: race


@cuda.jit
def everybody_writes_the_sum(a, out):
    i = cuda.grid(1)
    if i < a.size:
        out[0] += a[i]  # finds: race


@cuda.jit
def several_writers(out):
    out[cuda.grid(1) // 2] = cuda.grid(1)  # finds: race


@cuda.jit
def reads_another_block(a, out):
    i = cuda.grid(1)
    a[i] = i
    cuda.syncthreads()
    out[i] = a[a.size - 1 - i]  # finds: race


@cuda.jit
def last_block_without_fence(a, parts, counter, out):
    flag = cuda.shared.array(1, int32)
    t = cuda.threadIdx.x
    if t == 0:
        parts[cuda.blockIdx.x] = a[cuda.grid(1)]
        flag[0] = 1 if cuda.atomic.add(counter, 0, 1) == cuda.gridDim.x - 1 else 0
    cuda.syncthreads()
    if flag[0] == 1 and t < cuda.gridDim.x:
        cuda.atomic.add(out, 0, parts[t])  # finds: race


@cuda.jit
def last_block_without_ticket(a, parts, out):
    t = cuda.threadIdx.x
    if t == 0:
        parts[cuda.blockIdx.x] = a[cuda.grid(1)]
        cuda.threadfence()
    cuda.syncthreads()
    if cuda.blockIdx.x == cuda.gridDim.x - 1 and t < cuda.gridDim.x:
        cuda.atomic.add(out, 0, parts[t])  # finds: race


@cuda.jit
def atomic_beside_plain(a, out):
    i = cuda.grid(1)
    if i % 2:
        cuda.atomic.add(out, 0, a[i])
    else:
        out[0] = a[i]  # finds: race


@cuda.jit
def barrier_in_branch(a, out):
    s = cuda.shared.array(N, float32)
    t = cuda.threadIdx.x
    s[t] = a[t]
    if t < 32:
        cuda.syncthreads()  # finds: barrier-divergence
    out[t] = s[t]


@cuda.jit
def early_return_before_barrier(a, out):
    s = cuda.shared.array(N, float32)
    t = cuda.threadIdx.x
    i = cuda.grid(1)
    if i >= a.size - 5:
        return
    s[t] = a[i]
    cuda.syncthreads()  # finds: barrier-divergence
    out[i] = s[t]


@cuda.jit
def barrier_in_uneven_loop(out):
    t = cuda.threadIdx.x
    for _ in range(t % 3):
        cuda.syncthreads()  # finds: barrier-divergence
    out[t] = t


@cuda.jit
def half_warp_at_syncwarp(out):
    t = cuda.threadIdx.x
    if t < 16:
        cuda.syncwarp()  # finds: barrier-divergence
    out[t] = t


@cuda.jit
def shared_not_written(out):
    s = cuda.shared.array(N, float32)
    t = cuda.threadIdx.x
    if t < 32:
        s[t] = t
    cuda.syncthreads()
    out[t] = s[t]  # finds: uninitialised-read


@cuda.jit
def local_not_written(out):
    best = cuda.local.array(4, float32)
    t = cuda.grid(1)
    for k in range(3):
        best[k] = k * t
    out[t] = best[t % 4]  # finds: uninitialised-read


@cuda.jit
def sum_not_started(a, out):
    i = cuda.grid(1)
    if i > 3:
        s = float32(0)
    s += a[i]  # finds: uninitialised-read
    out[i] = s


@cuda.jit
def shuffle_in_branch(a, out):
    t = cuda.threadIdx.x
    v = a[t]
    if t < 16:
        v += cuda.shfl_down_sync(0xFFFFFFFF, v, 8)  # finds: shuffle
    out[t] = v


@cuda.jit
def shuffle_after_return(a, out):
    t = cuda.threadIdx.x
    if t >= 20:
        return
    v = a[t]
    out[t] = v + cuda.shfl_down_sync(0xFFFFFFFF, v, 8)  # finds: shuffle


@cuda.jit
def shuffle_outside_its_mask(a, out):
    t = cuda.threadIdx.x
    out[t] = cuda.shfl_xor_sync(0xFFFF, a[t], 1)  # finds: shuffle


@cuda.jit
def float_index(a, out):
    i = cuda.grid(1)
    out[i] = a[i / 2]  # finds: index-type


@cuda.jit
def too_much_shared_memory(out):
    s = cuda.shared.array(HUGE, float32)  # finds: shared-memory-limit
    s[cuda.threadIdx.x] = 1
    out[0] = s[0]


@cuda.jit
def counter_not_moved(a, out):
    i = cuda.grid(1)
    while i < a.size:  # finds: endless-loop
        out[i] = a[i]


@cuda.jit
def waits_for_another_block(flag, out):
    if cuda.blockIdx.x == 0:
        while flag[0] == 0:  # finds: endless-loop
            pass
    else:
        flag[0] = 1
    out[cuda.blockIdx.x] = 1


@cuda.jit
def makes_a_list(out):
    seen = [1, 2, 3]  # finds: unsupported
    out[0] = seen[0]


def launches() -> dict[str, tuple]:
    """(kernel, grid, block, arguments) by name."""

    def a(*shape):
        return (np.arange(np.prod(shape)) % 7 / 8).astype(np.float32).reshape(shape)

    def out(*shape, dtype=np.float32):
        return np.zeros(shape, dtype)

    whole = np.int32
    return {
        "no_guard": (no_guard, 2, N, (a(100), out(100))),
        "guard_off_by_one": (guard_off_by_one, 2, N, (a(100), out(100))),
        "negative_beyond_start": (negative_beyond_start, 1, N, (a(64), out(64))),
        "wrong_axis": (wrong_axis, (2, 1), (8, 8), (a(8, 16), out(8, 16))),
        "halo_too_small": (halo_too_small, 1, N, (a(64), out(64))),
        "missing_barrier": (missing_barrier, 1, N, (a(64), out(64))),
        "barrier_missing_in_loop": (barrier_missing_in_loop, 1, N, (a(64), out(1))),
        "second_barrier_missing": (second_barrier_missing, 1, N, (a(256), a(256), out(64))),
        "in_place_shift": (in_place_shift, 1, N, (a(64),)),
        "warp_without_syncwarp": (warp_without_syncwarp, 1, 32, (a(32), out(1))),
        "syncwarp_for_a_block": (syncwarp_for_a_block, 1, N, (a(64), out(64))),
        "histogram_without_atomic": (histogram_without_atomic, 2, N, (a(100), out(8, dtype=whole))),
        "everybody_writes_the_sum": (everybody_writes_the_sum, 2, N, (a(100), out(1))),
        "several_writers": (several_writers, 1, N, (out(32),)),
        "reads_another_block": (reads_another_block, 2, 32, (a(64), out(64))),
        "last_block_without_fence": (last_block_without_fence, 4, 32, (a(128), out(4), out(1, dtype=whole), out(1))),
        "last_block_without_ticket": (last_block_without_ticket, 4, 32, (a(128), out(4), out(1))),
        "atomic_beside_plain": (atomic_beside_plain, 1, 32, (a(32), out(1))),
        "barrier_in_branch": (barrier_in_branch, 1, N, (a(64), out(64))),
        "early_return_before_barrier": (early_return_before_barrier, 1, N, (a(64), out(64))),
        "barrier_in_uneven_loop": (barrier_in_uneven_loop, 1, N, (out(64),)),
        "half_warp_at_syncwarp": (half_warp_at_syncwarp, 1, 32, (out(32),)),
        "shared_not_written": (shared_not_written, 1, N, (out(64),)),
        "local_not_written": (local_not_written, 1, N, (out(64),)),
        "sum_not_started": (sum_not_started, 1, N, (a(64), out(64))),
        "shuffle_in_branch": (shuffle_in_branch, 1, 32, (a(32), out(32))),
        "shuffle_after_return": (shuffle_after_return, 1, 32, (a(32), out(32))),
        "shuffle_outside_its_mask": (shuffle_outside_its_mask, 1, 32, (a(32), out(32))),
        "float_index": (float_index, 1, N, (a(64), out(64))),
        "too_much_shared_memory": (too_much_shared_memory, 1, N, (out(64),)),
        "counter_not_moved": (counter_not_moved, 1, N, (a(32), out(32))),
        "waits_for_another_block": (waits_for_another_block, 2, 1, (out(1, dtype=whole), out(2))),
        "makes_a_list": (makes_a_list, 1, N, (out(64),)),
    }
