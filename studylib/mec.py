"""Convolution as a matrix product with a small buffer: MEC, beside im2col that it saves memory against.

Source: Cho and Brand, "MEC: memory-efficient convolution for deep neural network" (arXiv 1706.06873), Algorithms 1 and
2. Arrays are as in the paper: images (batch, height, width, channels), the paper's I, i_n x i_h x i_w x
i_c; kernels (kernel_height, kernel_width, channels, out_channels), K; no padding (pad the images first); no bias.

im2col writes every window out, so that the convolution is one product. MEC writes out only the windows' columns, over
the whole height of the image: an output row's windows then lie in the lowered matrix already, as overlapping parts of
its rows, and each output row is a product of such a view, without a further copy.
"""

from typing import NamedTuple

import numba
import numpy as np
from numpy.lib.stride_tricks import as_strided, sliding_window_view

T = 100
"""Output width up to which Algorithm 2 takes Solution A: about 100 on GPUs, as a secondary source has it."""


class Layer(NamedTuple):
    """A convolution's sizes: height, width and channels of the input, the kernel, the stride (both directions)."""

    name: str
    height: int
    width: int
    channels: int
    kernel_height: int
    kernel_width: int
    out_channels: int
    stride: int

    @property
    def image(self) -> tuple[int, int, int, int]:
        """Shape of one image, as a batch: (1, height, width, channels)."""
        return (1, self.height, self.width, self.channels)

    @property
    def kernel(self) -> tuple[int, int, int, int]:
        """Shape of the kernel: (kernel_height, kernel_width, channels, out_channels)."""
        return (self.kernel_height, self.kernel_width, self.channels, self.out_channels)


LAYERS = tuple(
    Layer(f"cv{i}", side, side, channels, k, k, out_channels, stride)
    for i, (side, channels, k, out_channels, stride) in enumerate(
        [
            (227, 3, 11, 96, 4),
            (231, 3, 11, 96, 4),
            (227, 3, 7, 64, 2),
            (224, 64, 7, 64, 2),
            (24, 96, 5, 256, 1),
            (12, 256, 3, 512, 1),
            (224, 3, 3, 64, 1),
            (112, 64, 3, 128, 1),
            (56, 64, 3, 64, 1),
            (28, 128, 3, 128, 1),
            (14, 256, 3, 256, 1),
            (7, 512, 3, 512, 1),
        ],
        start=1,
    )
)
"""The paper's benchmark cv1 to cv12. Recalled, NOT VERIFIED against the paper: layers worth a measurement, no more."""


def output_size(image: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the output: (i_h - k_h) // s_h + 1 and the same across.

    image, kernel: shapes as above; stride: (s_h, s_w). Raises ValueError where they do not fit.
    """
    if len(image) != 4 or len(kernel) != 4 or image[3] != kernel[2]:
        raise ValueError(
            "expected images (batch, height, width, channels) and a kernel (kernel_height, kernel_width, channels, "
            f"out_channels) of as many channels, got {tuple(image)} and {tuple(kernel)}"
        )
    if min(stride) < 1 or kernel[0] > image[1] or kernel[1] > image[2]:
        raise ValueError(
            f"expected strides of at least 1 and a kernel within the image, got strides {tuple(stride)}, a kernel of "
            f"{kernel[0]}x{kernel[1]} and an image of {image[1]}x{image[2]}"
        )
    return (image[1] - kernel[0]) // stride[0] + 1, (image[2] - kernel[1]) // stride[1] + 1


def im2col_elements(image: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, int]) -> int:
    """Numbers in im2col's matrix: i_n o_h o_w k_h k_w i_c. Arguments and errors as `output_size`."""
    height, width = output_size(image, kernel, stride)
    return image[0] * height * width * kernel[0] * kernel[1] * image[3]


def mec_elements(image: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, int]) -> int:
    """Numbers in MEC's lowered matrix: i_n o_w i_h k_w i_c. Arguments and errors as `output_size`.

    Where s_h divides i_h - k_h, im2col's has i_n i_c o_w k_w (i_h - k_h) (k_h / s_h - 1) more: MEC saves if k_h > s_h.
    """
    _, width = output_size(image, kernel, stride)
    return image[0] * width * image[1] * kernel[1] * image[3]


def im2col(x: np.ndarray, kernel_size: tuple[int, int], stride: tuple[int, int]) -> np.ndarray:
    """Every window as a row: (batch, o_h, o_w, k_h * k_w * channels), always a copy. x: (batch, i_h, i_w, channels)."""
    size = output_size(x.shape, (*kernel_size, x.shape[-1], 1), stride)
    windows = sliding_window_view(x, kernel_size, axis=(1, 2))[:, :: stride[0], :: stride[1]]
    windows = windows.transpose(0, 1, 2, 4, 5, 3)
    out = np.empty(windows.shape, x.dtype)
    out[:] = windows
    return out.reshape(len(x), *size, -1)


def lower(x: np.ndarray, kernel_width: int, stride: int) -> np.ndarray:
    """MEC's lowered matrix L (Algorithm 1): (batch, o_w, i_h * k_w * channels), always a copy.

    L[n, w] is the strip x[n, :, s_w w : s_w w + k_w] as one row, so L is im2col for a kernel as high as the image.
    stride: s_w. x: (batch, i_h, i_w, channels).
    """
    return im2col(x, (x.shape[1], kernel_width), (1, stride))[:, 0]


def overlapping_rows(lowered: np.ndarray, kernel: tuple[int, ...], height: int, stride: int) -> np.ndarray:
    """The o_h overlapping views of L, (o_h, batch * o_w, k_h * k_w * channels): no copy, and read-only.

    Output row h reads the columns [h s_h k_w i_c, (h s_h + k_h) k_w i_c) of L, a matrix of the leading dimension
    i_h k_w i_c. lowered: contiguous, as `lower` makes it; kernel: its shape; height: o_h; stride: s_h.
    """
    n, width, row = lowered.shape
    step = stride * kernel[1] * kernel[2]
    shape = (height, n * width, kernel[0] * kernel[1] * kernel[2])
    return as_strided(lowered, shape, tuple(lowered.itemsize * size for size in (step, row, 1)), writeable=False)


def solution_a(x: np.ndarray, kernel: np.ndarray, stride: tuple[int, int]) -> np.ndarray:
    """Algorithm 2, Solution A: o_h products, each over the whole batch, give h-n-w-c, which becomes n-h-w-c.

    Nobody needs the lowered matrix by then, so it is the buffer of that change where it is large enough.
    x: (batch, i_h, i_w, channels), kernel: (k_h, k_w, channels, out_channels), stride: (s_h, s_w).
    Returns (batch, o_h, o_w, out_channels); raises ValueError as `output_size`.
    """
    x, kernel = _same_type(x, kernel)
    height, width = output_size(x.shape, kernel.shape, stride)
    lowered = lower(x, kernel.shape[1], stride[1])
    rows, weights = overlapping_rows(lowered, kernel.shape, height, stride[0]), _as_matrix(kernel)
    out = np.empty((height, len(x) * width, kernel.shape[3]), x.dtype)
    for h in range(height):
        np.matmul(rows[h], weights, out=out[h])
    free = lowered.reshape(-1) if lowered.size >= out.size else np.empty(out.size, x.dtype)
    by_row = free[: out.size].reshape(height, len(x), width, -1)
    by_row[:] = out.reshape(by_row.shape)
    by_image = out.reshape(len(x), height, width, -1)  # the same memory
    by_image[:] = by_row.swapaxes(0, 1)
    return by_image


def solution_b(x: np.ndarray, kernel: np.ndarray, stride: tuple[int, int]) -> np.ndarray:
    """Algorithm 2, Solution B: i_n o_h smaller products, each written to its place in n-h-w-c. As `solution_a`."""
    x, kernel = _same_type(x, kernel)
    height, width = output_size(x.shape, kernel.shape, stride)
    lowered = lower(x, kernel.shape[1], stride[1])
    weights = _as_matrix(kernel)
    out = np.empty((len(x), height, width, kernel.shape[3]), x.dtype)
    for n in range(len(x)):
        for h, row in enumerate(overlapping_rows(lowered[n : n + 1], kernel.shape, height, stride[0])):
            np.matmul(row, weights, out=out[n, h])
    return out


def solution(image: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, int], limit: int = T) -> str:
    """Which of the two Algorithm 2 takes: "A" where o_w <= limit and the output fits into L, else "B".

    The condition on the output's size is recalled, not verified. Arguments and errors as `output_size`.
    """
    height, width = output_size(image, kernel, stride)
    fits = image[0] * height * width * kernel[3] <= mec_elements(image, kernel, stride)
    return "A" if width <= limit and fits else "B"


def mec_conv2d(x: np.ndarray, kernel: np.ndarray, stride: tuple[int, int]) -> np.ndarray:
    """MEC made to be fast: lowered on all cores, then one batched product of the overlapping views (Solution B).

    Arguments and result as `solution_a`. NumPy hands every view to BLAS as it lies there.
    """
    x, kernel = _same_type(x, kernel)
    height, width = output_size(x.shape, kernel.shape, stride)
    lowered = np.empty((len(x), width, x.shape[1] * kernel.shape[1] * x.shape[3]), x.dtype)
    _gather(x, x.shape[1], kernel.shape[1], 1, stride[1], 1, width, lowered.reshape(len(x) * width, -1))
    rows = overlapping_rows(lowered, kernel.shape, height, stride[0])
    by_image = rows.reshape(height, len(x), width, -1).swapaxes(0, 1)  # still views: an axis is split, two swapped
    return np.matmul(by_image, _as_matrix(kernel))


def im2col_conv2d(x: np.ndarray, kernel: np.ndarray, stride: tuple[int, int]) -> np.ndarray:
    """im2col on all cores with the same code as `mec_conv2d`, then one product: what MEC is measured against."""
    x, kernel = _same_type(x, kernel)
    height, width = output_size(x.shape, kernel.shape, stride)
    weights = _as_matrix(kernel)
    windows = np.empty((len(x) * height * width, len(weights)), x.dtype)
    rows, columns = kernel.shape[:2]
    _gather(x, rows, columns, stride[0], stride[1], height, width, windows)
    return (windows @ weights).reshape(len(x), height, width, -1)


@numba.njit(parallel=True)
def _gather(
    x: np.ndarray,
    kernel_height: int,
    kernel_width: int,
    stride_h: int,
    stride_w: int,
    height: int,
    width: int,
    out: np.ndarray,
) -> None:
    """Writes window i of all batch * height * width into row i of `out`; the rows are shared out over the cores."""
    n, i_h, i_w, channels = x.shape
    run = kernel_width * channels  # neighbours in memory
    flat = x.reshape(n, i_h, i_w * channels)
    for index in numba.prange(n * height * width):
        i = np.int64(index)  # prange counts in uint64, and Numba makes uint64 and int64 together a float
        image, rest = divmod(i, height * width)
        top, left = rest // width * stride_h, rest % width * stride_w * channels
        for row in range(kernel_height):
            for j in range(run):
                out[i, row * run + j] = flat[image, top + row, left + j]


def _as_matrix(kernel: np.ndarray) -> np.ndarray:
    """(k_h, k_w, channels, out_channels) as (k_h * k_w * channels, out_channels)."""
    return kernel.reshape(-1, kernel.shape[3])


def _same_type(x: np.ndarray, kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both contiguous and of the type of their product; copied only where they are not."""
    dtype = np.result_type(x, kernel)
    return np.ascontiguousarray(x, dtype), np.ascontiguousarray(kernel, dtype)
