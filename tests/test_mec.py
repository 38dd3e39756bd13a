"""MEC's lowering and both of its solutions against conv2d, and its memory as formula, as size and as measured."""

import tracemalloc

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from studylib import mec

CONVOLUTIONS = [mec.solution_a, mec.solution_b, mec.mec_conv2d, mec.im2col_conv2d]


@st.composite
def cases(draw):
    """Shapes of images and kernel, and strides: those that divide nothing, and kernels as large as the image."""
    size = st.integers(1, 9)
    k_h, k_w = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    image = (draw(st.integers(1, 3)), k_h - 1 + draw(size), k_w - 1 + draw(size), draw(st.integers(1, 3)))
    kernel = (k_h, k_w, image[3], draw(st.integers(1, 4)))
    return image, kernel, (draw(st.integers(1, 4)), draw(st.integers(1, 4)))


def arrays(image, kernel, dtype=np.float64):
    rng = np.random.default_rng(0)
    return rng.standard_normal(image).astype(dtype), rng.standard_normal(kernel).astype(dtype)


def torchs(x, kernel, stride):
    x, kernel = torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(kernel).permute(3, 2, 0, 1)
    return F.conv2d(x, kernel, stride=stride).permute(0, 2, 3, 1).numpy()


@given(cases())
@settings(max_examples=150, deadline=None)
def test_all_forms_are_conv2d(case):
    x, kernel = arrays(*case[:2])
    before = x.copy()
    expected = torchs(x, kernel, case[2])
    for convolution in CONVOLUTIONS:
        computed = convolution(x, kernel, case[2])
        assert computed.shape == expected.shape and computed.flags.c_contiguous
        assert np.abs(computed - expected).max() < 1e-12, convolution.__name__
        assert np.array_equal(x, before), convolution.__name__


@given(cases())
@settings(max_examples=150, deadline=None)
def test_formulas_are_the_arrays_sizes(case):
    image, kernel, stride = case
    x, _ = arrays(image, kernel)
    lowered = mec.lower(x, kernel[1], stride[1])
    o_h, o_w = mec.output_size(image, kernel, stride)
    assert lowered.shape == (image[0], o_w, image[1] * kernel[1] * image[3])
    assert lowered.size == mec.mec_elements(*case)
    windows = mec.im2col(x, kernel[:2], stride)
    assert windows.shape == (image[0], o_h, o_w, kernel[0] * kernel[1] * image[3])
    assert windows.size == mec.im2col_elements(*case)
    saved = mec.im2col_elements(*case) - mec.mec_elements(*case)
    assert saved == image[0] * image[3] * o_w * kernel[1] * (o_h * kernel[0] - image[1])
    rest = image[1] - kernel[0]
    if rest % stride[0] == 0:
        assert saved * stride[0] == image[0] * image[3] * o_w * kernel[1] * rest * (kernel[0] - stride[0])
    if kernel[0] <= stride[0]:
        assert saved <= 0


def test_the_papers_example():
    """A 7x7 image and a 3x3 kernel: 25 x 9 = 225 numbers against 5 x 21 = 105."""
    image, kernel = (1, 7, 7, 1), (3, 3, 1, 1)
    assert mec.im2col_elements(image, kernel, (1, 1)) == 225
    assert mec.mec_elements(image, kernel, (1, 1)) == 105
    x = np.arange(49.0).reshape(image)
    lowered = mec.lower(x, 3, 1)
    assert np.array_equal(lowered[0, 2], x[0, :, 2:5, 0].reshape(-1))
    rows = mec.overlapping_rows(lowered, kernel, 5, 1)
    assert rows.shape == (5, 5, 9) and np.shares_memory(rows, lowered) and not rows.flags.writeable
    assert np.array_equal(rows[3, 2], x[0, 3:6, 2:5, 0].reshape(-1))
    assert np.array_equal(rows, mec.im2col(x, (3, 3), (1, 1))[0])


@pytest.mark.parametrize("stride", [3, 4])
def test_nothing_is_saved_where_the_kernel_is_no_higher_than_the_stride(stride):
    image, kernel = (2, 19, 19, 4), (3, 3, 4, 8)
    assert mec.mec_elements(image, kernel, (stride, stride)) >= mec.im2col_elements(image, kernel, (stride, stride))


def peak(call) -> int:
    """Most bytes that NumPy had allocated at a time during `call`, over what it had before."""
    call()  # what is compiled and cached at the first call is not of interest
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("stride", [1, 2])
def test_measured_memory_is_the_lowered_matrix_and_the_output(stride):
    image, kernel, strides = (2, 41, 43, 8), (5, 5, 8, 4), (stride, stride)
    x, weights = arrays(image, kernel)
    output = 8 * 2 * np.prod(mec.output_size(image, kernel, strides)) * 4
    lowered, windows = 8 * mec.mec_elements(image, kernel, strides), 8 * mec.im2col_elements(image, kernel, strides)
    assert windows > 2 * lowered
    for convolution in (mec.solution_a, mec.solution_b, mec.mec_conv2d):
        assert lowered + output <= peak(lambda f=convolution: f(x, weights, strides)) < lowered + output + 20_000
    assert windows + output <= peak(lambda: mec.im2col_conv2d(x, weights, strides)) < windows + output + 20_000


def test_solution_a_takes_a_buffer_where_the_output_does_not_fit():
    image, kernel = (2, 41, 43, 2), (3, 3, 2, 16)
    x, weights = arrays(image, kernel)
    assert mec.solution(image, kernel, (1, 1)) == "B"
    output = 8 * 2 * 39 * 41 * 16
    found = peak(lambda: mec.solution_a(x, weights, (1, 1)))
    assert 2 * output + 8 * mec.mec_elements(image, kernel, (1, 1)) <= found
    assert np.abs(mec.solution_a(x, weights, (1, 1)) - torchs(x, weights, (1, 1))).max() < 1e-12


@pytest.mark.parametrize(
    ("image", "out_channels", "limit", "expected"),
    [((1, 9, 9, 8), 8, 100, "A"), ((1, 9, 9, 8), 8, 7, "A"), ((1, 9, 9, 8), 8, 6, "B"), ((1, 9, 9, 8), 999, 100, "B")],
)
def test_which_solution(image, out_channels, limit, expected):
    assert mec.solution(image, (3, 3, 8, out_channels), (1, 1), limit) == expected


@pytest.mark.parametrize("layer", mec.LAYERS, ids=lambda layer: layer.name)
def test_mec_saves_on_each_layer(layer):
    stride = (layer.stride, layer.stride)
    ratio = mec.im2col_elements(layer.image, layer.kernel, stride) / mec.mec_elements(layer.image, layer.kernel, stride)
    assert ratio > 1.9


@pytest.mark.parametrize("convolution", CONVOLUTIONS)
def test_types_and_views(convolution):
    x, kernel = arrays((2, 9, 8, 3), (3, 2, 3, 4), np.float32)
    assert convolution(x, kernel, (1, 1)).dtype == np.float32
    mixed = convolution(x, kernel.astype(np.float64), (1, 1))
    assert mixed.dtype == np.float64
    turned = x.transpose(0, 2, 1, 3)  # not contiguous
    expected = torchs(np.ascontiguousarray(turned), kernel, (2, 1))
    assert np.abs(convolution(turned, kernel, (2, 1)) - expected).max() < 1e-5


@pytest.mark.parametrize("convolution", CONVOLUTIONS)
@pytest.mark.parametrize(
    ("image", "kernel", "stride", "message"),
    [
        ((1, 5, 5, 2), (3, 3, 3, 1), (1, 1), "of as many channels"),
        ((5, 5, 2), (3, 3, 2, 1), (1, 1), "of as many channels"),
        ((1, 5, 5, 2), (6, 3, 2, 1), (1, 1), "a kernel of 6x3 and an image of 5x5"),
        ((1, 5, 5, 2), (3, 3, 2, 1), (0, 1), r"strides \(0, 1\)"),
    ],
)
def test_what_does_not_fit_is_refused(convolution, image, kernel, stride, message):
    with pytest.raises(ValueError, match=message):
        convolution(np.zeros(image), np.zeros(kernel), stride)
