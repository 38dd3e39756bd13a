"""Kernels that are right, each with a launch and the result that it must have: the checks find nothing in them."""

import math

import numpy as np
from numba import cuda, float32, int32

T = 8
PADDED = T + 1
BLOCK = 64
HALO = 2
SPAN = BLOCK + 2 * HALO
BLUR = np.array([0.0625, 0.25, 0.375, 0.25, 0.0625], np.float32)
SCAN = 128


@cuda.jit
def vector_add(a, b, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = a[i] + b[i]


@cuda.jit
def grid_stride(a, out):
    for i in range(cuda.grid(1), a.size, cuda.gridsize(1)):
        out[i] = math.sqrt(a[i])


@cuda.jit
def depthwise(x, w, y):
    j, i = cuda.grid(2)
    c = cuda.blockIdx.z
    if i >= x.shape[1] or j >= x.shape[2]:
        return
    s = float32(0)
    for di in range(3):
        for dj in range(3):
            ii, jj = i + di - 1, j + dj - 1
            if 0 <= ii < x.shape[1] and 0 <= jj < x.shape[2]:
                s += x[c, ii, jj] * w[c, di, dj]
    y[c, i, j] = s


@cuda.jit
def decode(codes, codebook, out):
    i = cuda.grid(1)
    if i < codes.size:
        out[i] = codebook[codes[i]]


@cuda.jit
def blur(a, out):
    tile = cuda.shared.array(SPAN, float32)
    i = cuda.grid(1)
    t = cuda.threadIdx.x
    start = cuda.blockIdx.x * BLOCK - HALO
    for k in range(t, SPAN, BLOCK):
        at = start + k
        tile[k] = a[at] if at >= 0 and at < a.size else float32(0)
    cuda.syncthreads()
    if i < a.size:
        s = float32(0)
        for k in range(5):
            s += BLUR[k] * tile[t + k]
        out[i] = s


@cuda.jit
def transpose(a, out):
    tile = cuda.shared.array((T, PADDED), float32)
    x, y = cuda.grid(2)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    if x < a.shape[1] and y < a.shape[0]:
        tile[ty, tx] = a[y, x]
    cuda.syncthreads()
    x = cuda.blockIdx.y * T + tx
    y = cuda.blockIdx.x * T + ty
    if x < a.shape[0] and y < a.shape[1]:
        out[y, x] = tile[tx, ty]


@cuda.jit
def tree_sum(a, out):
    s = cuda.shared.array(BLOCK, float32)
    t = cuda.threadIdx.x
    i = cuda.grid(1)
    s[t] = a[i] if i < a.size else float32(0)
    cuda.syncthreads()
    n = BLOCK // 2
    while n > 0:
        if t < n:
            s[t] += s[t + n]
        cuda.syncthreads()
        n //= 2
    if t == 0:
        cuda.atomic.add(out, 0, s[0])


@cuda.jit(device=True)
def warp_sum(v):
    for shift in (16, 8, 4, 2, 1):
        v += cuda.shfl_down_sync(0xFFFFFFFF, v, shift)
    return v


@cuda.jit
def shuffle_sum(a, out):
    partial = cuda.shared.array(32, float32)
    t = cuda.threadIdx.x
    v = float32(0)
    for i in range(cuda.grid(1), a.size, cuda.gridsize(1)):
        v += a[i]
    v = warp_sum(v)
    if cuda.laneid == 0:
        partial[t // 32] = v
    cuda.syncthreads()
    if t < 32:
        v = partial[t] if t < cuda.blockDim.x // 32 else float32(0)
        v = warp_sum(v)
        if t == 0:
            cuda.atomic.add(out, 0, v)


@cuda.jit
def warp_tree(a, out):
    s = cuda.shared.array(32, float32)
    lane = cuda.threadIdx.x
    s[lane] = a[lane]
    cuda.syncwarp()
    n = 16
    while n > 0:
        if lane < n:
            s[lane] += s[lane + n]
        cuda.syncwarp()
        n //= 2
    if lane == 0:
        out[0] = s[0]


@cuda.jit
def matmul(a, b, c):
    left = cuda.shared.array((T, T), float32)
    right = cuda.shared.array((T, T), float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    col, row = cuda.grid(2)
    s = float32(0)
    for start in range(0, a.shape[1], T):
        inside = row < a.shape[0] and start + tx < a.shape[1]
        left[ty, tx] = a[row, start + tx] if inside else float32(0)
        inside = start + ty < b.shape[0] and col < b.shape[1]
        right[ty, tx] = b[start + ty, col] if inside else float32(0)
        cuda.syncthreads()
        for k in range(T):
            s += left[ty, k] * right[k, tx]
        cuda.syncthreads()
    if row < c.shape[0] and col < c.shape[1]:
        c[row, col] = s


@cuda.jit
def im2col(x, out, size):
    i = cuda.grid(1)
    width = x.shape[2] - size + 1
    height = x.shape[1] - size + 1
    if i < height * width:
        y0, x0 = i // width, i % width
        for c in range(x.shape[0]):
            for dy in range(size):
                for dx in range(size):
                    out[(c * size + dy) * size + dx, i] = x[c, y0 + dy, x0 + dx]


@cuda.jit
def histogram(a, out):
    bins = cuda.shared.array(16, int32)
    t = cuda.threadIdx.x
    if t < 16:
        bins[t] = 0
    cuda.syncthreads()
    i = cuda.grid(1)
    if i < a.size:
        cuda.atomic.add(bins, a[i] % 16, 1)
    cuda.syncthreads()
    if t < 16:
        cuda.atomic.add(out, t, bins[t])


@cuda.jit
def inclusive_scan(a, out):
    one = cuda.shared.array(SCAN, int32)
    two = cuda.shared.array(SCAN, int32)
    t = cuda.threadIdx.x
    source, target = one, two
    source[t] = a[t]
    cuda.syncthreads()
    step = 1
    while step < SCAN:
        target[t] = source[t] + source[t - step] if t >= step else source[t]
        source, target = target, source
        cuda.syncthreads()
        step *= 2
    out[t] = source[t]


@cuda.jit
def last_block(a, parts, counter, out):
    s = cuda.shared.array(BLOCK, float32)
    is_last = cuda.shared.array(1, int32)
    t = cuda.threadIdx.x
    s[t] = a[cuda.grid(1)]
    cuda.syncthreads()
    if t == 0:
        v = float32(0)
        for k in range(BLOCK):
            v += s[k]
        parts[cuda.blockIdx.x] = v
        cuda.threadfence()
        is_last[0] = 1 if cuda.atomic.add(counter, 0, 1) == cuda.gridDim.x - 1 else 0
    cuda.syncthreads()
    if is_last[0] == 1 and t == 0:
        v = float32(0)
        for k in range(cuda.gridDim.x):
            v += parts[k]
        out[0] = v


@cuda.jit
def softmax_rows(x, out):
    s = cuda.shared.array(0, float32)  # dynamic
    t = cuda.threadIdx.x
    row = x[cuda.blockIdx.x]
    s[t] = row[t]
    cuda.syncthreads()
    top = s[0]
    for k in range(1, cuda.blockDim.x):
        top = max(top, s[k])
    cuda.syncthreads()
    s[t] = math.exp(row[t] - top)
    cuda.syncthreads()
    total = float32(0)
    for k in range(cuda.blockDim.x):
        total += s[k]
    out[cuda.blockIdx.x, t] = s[t] / total


@cuda.jit
def sign_product(a, b, out):
    i, j = cuda.grid(2)
    if i < a.shape[0] and j < b.shape[0]:
        equal = 0
        for k in range(a.shape[1]):
            equal += cuda.popc(int32(~(a[i, k] ^ b[j, k])))  # Numba widens integers to 64 bits
        out[i, j] = 2 * equal - 32 * a.shape[1]


@cuda.jit
def lock_of_blocks(a, lock, out):
    i = cuda.grid(1)
    if cuda.threadIdx.x == 0:
        while cuda.atomic.cas(lock, 0, 0, 1) != 0:
            pass
        cuda.threadfence()
        out[0] += a[i]
        cuda.threadfence()
        cuda.atomic.exch(lock, 0, 0)


@cuda.jit
def lock_of_threads(a, lock, out):
    i = cuda.grid(1)
    waits = True
    while waits:
        if cuda.atomic.cas(lock, 0, 0, 1) == 0:
            cuda.threadfence()
            out[0] += a[i]
            cuda.threadfence()
            cuda.atomic.exch(lock, 0, 0)
            waits = False


@cuda.jit
def block_after_block(a, turn, out):
    i = cuda.grid(1)
    if cuda.threadIdx.x == 0:
        while cuda.atomic.add(turn, 0, 0) != cuda.blockIdx.x:
            pass
        cuda.threadfence()
        out[0] = 2 * out[0] + a[i]
        cuda.threadfence()
        cuda.atomic.add(turn, 0, 1)


@cuda.jit
def half_warps(a, out):
    i = cuda.grid(1)
    members = 0xFFFF << (cuda.laneid // 16 * 16)
    v = a[i]
    n = 8
    while n > 0:
        v += cuda.shfl_xor_sync(members, v, n)
        n //= 2
    out[i] = v if cuda.any_sync(members, cuda.laneid < 16) else -v


def launches() -> dict[str, tuple]:
    """(kernel, grid, block, dynamic shared bytes, arguments, {argument number: expected}) by name."""
    rng = np.random.default_rng(0)

    def floats(*shape):
        return rng.random(shape).astype(np.float32)

    def zeros(*shape, dtype=np.float32):
        return np.zeros(shape, dtype)

    def one():
        return zeros(1, dtype=np.int32)

    a, b = floats(300), floats(300)
    image, weights = floats(3, 10, 13), floats(3, 3, 3)
    wide, left, right = floats(20, 27), floats(11, 19), floats(19, 13)
    codes, codebook = rng.integers(0, 16, 300).astype(np.uint8), floats(16)
    whole = rng.integers(0, 1000, 300).astype(np.int32)
    rows = floats(4, 40)
    bits = rng.integers(-(2**31), 2**31, (2, 6, 3)).astype(np.int32)
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)))
    same = [padded[:, i : i + 10, j : j + 13] * weights[:, i, j, None, None] for i in range(3) for j in range(3)]
    lowered = np.stack([image[c, i : i + 8, j : j + 11].ravel() for c in range(3) for i in range(3) for j in range(3)])
    exponents = np.exp(rows - rows.max(axis=1, keepdims=True))
    signs = 1 - 2 * np.unpackbits(bits.view(np.uint8), axis=2).astype(np.int64)
    total = a[:256].sum(keepdims=True)
    blurred = np.convolve(np.pad(a, 2), BLUR, "valid")
    return {
        "vector_add": (vector_add, 5, 64, 0, (a, b, zeros(300)), {2: a + b}),
        "grid_stride": (grid_stride, 2, 64, 0, (a, zeros(300)), {1: np.sqrt(a)}),
        "depthwise": (depthwise, (2, 2, 3), (8, 8), 0, (image, weights, zeros(3, 10, 13)), {2: sum(same)}),
        "decode": (decode, 3, 128, 0, (codes, codebook, zeros(300)), {2: codebook[codes]}),
        "blur": (blur, 5, BLOCK, 0, (a, zeros(300)), {1: blurred}),
        "transpose": (transpose, (4, 3), (T, T), 0, (wide, zeros(27, 20)), {1: wide.T}),
        "tree_sum": (tree_sum, 5, BLOCK, 0, (a, zeros(1)), {1: a.sum(keepdims=True)}),
        "shuffle_sum": (shuffle_sum, 2, 96, 0, (a, zeros(1)), {1: a.sum(keepdims=True)}),
        "warp_tree": (warp_tree, 1, 32, 0, (a, zeros(1)), {1: a[:32].sum(keepdims=True)}),
        "matmul": (matmul, (2, 2), (T, T), 0, (left, right, zeros(11, 13)), {2: left @ right}),
        "im2col": (im2col, 2, 64, 0, (image, zeros(27, 88), 3), {1: lowered}),
        "histogram": (histogram, 5, 64, 0, (whole, zeros(16, dtype=np.int32)), {1: np.bincount(whole % 16)}),
        "inclusive_scan": (
            inclusive_scan,
            1,
            SCAN,
            0,
            (whole, zeros(SCAN, dtype=np.int32)),
            {1: whole[:SCAN].cumsum()},
        ),
        "last_block": (last_block, 4, BLOCK, 0, (a, zeros(4), zeros(1, dtype=np.int32), zeros(1)), {3: total}),
        "lock_of_blocks": (lock_of_blocks, 6, 32, 0, (a, one(), zeros(1)), {2: a[:192:32].sum(keepdims=True)}),
        "lock_of_threads": (lock_of_threads, 2, 40, 0, (a, one(), zeros(1)), {2: a[:80].sum(keepdims=True)}),
        "block_after_block": (
            block_after_block,
            4,
            32,
            0,
            (a, one(), zeros(1)),
            {2: a[:128:32] @ np.array([[8], [4], [2], [1]], np.float32)},
        ),
        "half_warps": (
            half_warps,
            2,
            32,
            0,
            (a, zeros(64)),
            {1: (a[:64].reshape(4, 16).sum(1) * [1, -1, 1, -1]).repeat(16)},
        ),
        "softmax_rows": (
            softmax_rows,
            4,
            40,
            160,
            (rows, zeros(4, 40)),
            {1: exponents / exponents.sum(1, keepdims=True)},
        ),
        "sign_product": (
            sign_product,
            (1, 1),
            (8, 8),
            0,
            (bits[0], bits[1], zeros(6, 6, dtype=np.int32)),
            {2: signs[0] @ signs[1].T},
        ),
    }
