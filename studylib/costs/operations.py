"""Which of torch's operations count as multiply-adds, and which are free by convention (`studylib.costs` says why)."""

from collections.abc import Callable
from typing import Any

from torch import Tensor


def _convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    *others: Any,
    out: Tensor,
) -> int:
    """Each output element sums over one kernel; transposed, each input element spreads one kernel."""
    return (x if transposed else out).numel() * (weight.numel() // weight.shape[0])


def _matmul(a: Tensor, b: Tensor, *, out: Tensor) -> int:
    return a.numel() * (b.shape[-1] if b.dim() > 1 else 1)


def _matmul_onto(c: Tensor, a: Tensor, b: Tensor, *, out: Tensor, **scales: Any) -> int:
    return _matmul(a, b, out=out)


def _attention(query: Tensor, key: Tensor, value: Tensor, *rest: Any, out: Tensor, **options: Any) -> int:
    """Query times key for every pair of positions, and those weights times value."""
    return query[..., 0].numel() * key.shape[-2] * (query.shape[-1] + value.shape[-1])


COUNTED: dict[str, Callable[..., int]] = {
    "convolution": _convolution,
    **dict.fromkeys(("mm", "bmm", "mv", "dot"), _matmul),
    **dict.fromkeys(("addmm", "baddbmm", "addbmm", "addmv"), _matmul_onto),
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_scaled_dot_product_flash_attention": _attention,
    "_scaled_dot_product_efficient_attention": _attention,
}
"""Operations of torch's aten library that are sums of products, and their multiply-adds: called with the operation's
arguments and with `out`, its result."""

_FREE_NAMES = """
    alias as_strided cat channel_shuffle clone col2im constant_pad_nd copy detach diagonal embedding expand flip gather
    im2col index index_put index_select lift_fresh masked_fill permute pixel_shuffle pixel_unshuffle reflection_pad1d
    reflection_pad2d repeat replication_pad1d replication_pad2d roll rot90 scatter select slice split split_with_sizes
    squeeze stack t _to_copy transpose tril triu unbind unfold unsafe_split unsqueeze _unsafe_view view
    view_as_complex view_as_real where

    arange bernoulli empty empty_like empty_strided eye fill full full_like linspace new_empty new_full new_ones
    new_zeros ones ones_like rand rand_like randn randn_like scalar_tensor zero zeros zeros_like

    abs add addcdiv addcmul ceil celu clamp clamp_max clamp_min cos div elu eq erf exp floor floor_divide ge gelu glu
    gt hardsigmoid hardswish hardtanh index_add isnan le leaky_relu lerp log log1p log_sigmoid_forward logical_and
    logical_not logical_or lt maximum minimum mish mul native_dropout ne neg pow _prelu_kernel reciprocal relu remainder
    round rsqrt rsub sigmoid sign silu sin softplus softshrink sqrt sub tanh threshold

    native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training native_group_norm
    native_layer_norm _fused_rms_norm linalg_vector_norm norm _weight_norm_interface
    _log_softmax _safe_softmax _softmax logsumexp

    _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d avg_pool2d avg_pool3d
    max_pool2d_with_indices max_pool3d_with_indices upsample_bicubic2d upsample_bilinear2d upsample_linear1d
    upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d

    all amax amin any argmax argmin cumsum max mean min prod sort std sum topk var var_mean
"""
FREE = frozenset(_FREE_NAMES.split())
"""Operations of aten that are free by the conventions above (the in-place variants go by the same names): values that
are moved, made, taken one by one, normalised, pooled or resized, reduced."""
