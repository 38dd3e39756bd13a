"""What a net costs: parameters, multiply-adds and activation bytes of every layer, and its receptive field.

Conventions, the same for every net:

- A MAC is one multiply-add. Counted are convolutions, matrix products and scaled dot product attention, as they really
  run, at batch 1; products with the zeros of padding are counted too.
- Not counted as MACs, by convention: adding a bias, batch norm (it folds into the convolution before it) and any other
  normalisation, pooling, resizing, activations, sums and whatever else has no sum of products.
- An operation that is in neither list is unknown: it is named, and never counted as zero.
- `params` has every parameter once, shared ones too; `params_no_bn` leaves out batch norm's scale and shift (MobileNet,
  arXiv 1704.04861); `weights` leaves out everything of less than two dimensions, so norms and biases. Batch norm's
  running statistics are `buffers`.
- `macs_no_fc` leaves out `nn.Linear` (ShuffleNet, arXiv 1707.01083, prints the convolutions' part alone).
- `activation_bytes` is 4 bytes (float32) for each output element of each row: what leaves a layer, once. Sums and
  concatenations between layers have no row and are not in it.
"""

import copy
import html
import math
import operator
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode

from studylib.receptive import ReceptiveField, receptive_field

__all__ = ["Costs", "ReceptiveField", "Row", "Unknown", "count", "receptive_field"]


def _convolution(x, weight, bias, stride, padding, dilation, transposed, output_padding, groups, *, out) -> int:
    """Each output element sums over one kernel; transposed, each input element spreads one kernel."""
    return (x if transposed else out).numel() * (weight.numel() // weight.shape[0])


def _matmul(a, b, *, out) -> int:
    return a.numel() * (b.shape[-1] if b.dim() > 1 else 1)


def _matmul_onto(c, a, b, *, out, **scales) -> int:
    return _matmul(a, b, out=out)


def _attention(query, key, value, *rest, out, **options) -> int:
    """Query times key for every pair of positions, and those weights times value."""
    return query[..., 0].numel() * key.shape[-2] * (query.shape[-1] + value.shape[-1])


_COUNTED: dict[str, Callable[..., int]] = {
    "convolution": _convolution,
    **dict.fromkeys(("mm", "bmm", "mv", "dot"), _matmul),
    **dict.fromkeys(("addmm", "baddbmm", "addbmm", "addmv"), _matmul_onto),
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_scaled_dot_product_flash_attention": _attention,
    "_scaled_dot_product_efficient_attention": _attention,
}
"""Operations of torch's aten library that are sums of products, and their multiply-adds."""

_FREE_NAMES = """
    alias as_strided cat channel_shuffle clone col2im constant_pad_nd copy detach diagonal embedding expand flip gather
    im2col index index_put index_select lift_fresh masked_fill permute pixel_shuffle pixel_unshuffle reflection_pad1d
    reflection_pad2d repeat replication_pad1d replication_pad2d roll scatter select slice split split_with_sizes
    squeeze stack t _to_copy transpose tril triu unbind unfold unsqueeze _unsafe_view view where

    arange bernoulli empty empty_like empty_strided eye fill full full_like linspace new_empty new_full new_ones
    new_zeros ones ones_like rand rand_like randn randn_like scalar_tensor zero zeros zeros_like

    abs add addcdiv addcmul ceil celu clamp clamp_max clamp_min cos div elu eq erf exp floor floor_divide ge gelu glu
    gt hardsigmoid hardswish hardtanh isnan le leaky_relu lerp log log1p log_sigmoid_forward logical_and logical_not
    logical_or lt maximum minimum mish mul native_dropout ne neg pow _prelu_kernel reciprocal relu remainder round
    rsqrt rsub sigmoid sign silu sin softplus softshrink sqrt sub tanh threshold

    native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training native_group_norm
    native_layer_norm _fused_rms_norm linalg_vector_norm norm _log_softmax _safe_softmax _softmax logsumexp

    _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d avg_pool2d avg_pool3d
    max_pool2d_with_indices max_pool3d_with_indices upsample_bicubic2d upsample_bilinear2d upsample_linear1d
    upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d

    all amax amin any argmax argmin cumsum max mean min prod sort std sum topk var var_mean
"""
_FREE = frozenset(_FREE_NAMES.split())
"""Operations of aten that are free by the conventions above (the in-place variants go by the same names): values that
are moved, made, taken one by one, normalised, pooled or resized, reduced."""


class Unknown(NamedTuple):
    """An operation that has no rule: the module that ran it, and its name."""

    name: str
    operator: str


@dataclass(frozen=True)
class Row:
    """One call of a layer, or one operation that a container ran itself (then `type` is the operation's name).

    output_shape: of the (first) output, without the leading 1 of the batch; () where the layer was never called.
    params, weights: the layer's own, at its first call. macs: None where the layer ran an unknown operation.
    """

    name: str
    type: str
    output_shape: tuple[int, ...]
    params: int
    weights: int
    macs: int | None


@dataclass(frozen=True, repr=False)
class Costs:
    """What `count` found; every total is the sum of the rows. With operations in `unknown`, `macs`, `macs_no_fc` and
    their row in the table are lower bounds."""

    net: str
    input_shape: tuple[int, ...]
    params: int
    params_no_bn: int
    weights: int
    buffers: int
    macs: int
    macs_no_fc: int
    activation_bytes: int
    rows: tuple[Row, ...]
    unknown: tuple[Unknown, ...]

    def _cells(self) -> Iterator[tuple[str, str, str, str, str]]:
        """The table's texts: header, rows, total."""
        yield "layer", "type", "output", "params", "multiply-adds"
        for row in self.rows:
            macs = "unknown" if row.macs is None else f"{row.macs:,}"
            yield row.name, row.type, _times(row.output_shape), f"{row.params:,}", macs
        yield "total", "", _times(self.input_shape) + " in", f"{self.params:,}", self._at_least() + f"{self.macs:,}"

    def _at_least(self) -> str:
        return "at least " if self.unknown else ""

    def _notes(self) -> list[str]:
        totals = (
            f"{self.net}: {self.params_no_bn:,} params without batch norm, {self.weights:,} of them weights; "
            f"{self._at_least()}{self.macs_no_fc:,} multiply-adds without linear layers; "
            f"{self.activation_bytes:,} bytes of activations"
        )
        return [totals, *(f"unknown, not counted: {operator} in {name}" for name, operator in self.unknown)]

    def __str__(self) -> str:
        cells = list(self._cells())
        widths = [max(len(line[column]) for line in cells) for column in range(5)]
        lines = [
            "  ".join(
                text.ljust(width) if column < 3 else text.rjust(width)
                for column, (text, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in cells
        ]
        rule = "-" * (sum(widths) + 8)
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1], *self._notes()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        header, *rows, total = self._cells()

        def line(texts: Sequence[str], tag: str, style: str = "") -> str:
            cells = (
                f'<{tag} style="text-align:{"left" if column < 3 else "right"};{style}">{html.escape(text)}</{tag}>'
                for column, text in enumerate(texts)
            )
            return f"<tr>{''.join(cells)}</tr>"

        # The header and the total stay in sight while a long net scrolls between them.
        sticky = "position:sticky;background:var(--jp-layout-color0,#fff);"
        notes = "<br>".join(html.escape(note) for note in self._notes())
        return (
            '<div style="max-height:28em;max-width:100%;overflow:auto"><table style="margin:0">'
            f"<thead>{line(header, 'th', sticky + 'top:0')}</thead>"
            f"<tbody>{''.join(line(row, 'td') for row in rows)}</tbody>"
            f"<tfoot>{line(total, 'th', sticky + 'bottom:0')}</tfoot></table></div><div>{notes}</div>"
        )


def _times(shape: Sequence[int]) -> str:
    return " x ".join(str(size) for size in shape)


class _Counter(TorchDispatchMode):
    """Runs beside a forward pass, sees every aten operation, and books it on the innermost module."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.rows: list[Row] = []
        self.unknown: dict[Unknown, None] = {}
        self.macs_no_fc = 0
        self.inside: list[tuple[str, nn.Module, int | None]] = []
        self.names = {module: name or type(net).__name__ for name, module in net.named_modules()}
        self._held: set[int] = set()
        for module in self.names:
            module.register_forward_pre_hook(self._enter)
            module.register_forward_hook(self._leave)

    def book(self, name: str, kind: str, shape: tuple[int, ...], module: nn.Module, macs: int | None) -> None:
        """Append a row, with those parameters of the module that no row has yet."""
        new = [p for p in module.parameters(recurse=False) if id(p) not in self._held]
        self._held.update(id(p) for p in new)
        weights = sum(p.numel() for p in new if p.dim() > 1)
        self.rows.append(Row(name, kind, shape, sum(p.numel() for p in new), weights, macs))

    def _enter(self, module: nn.Module, args: Any) -> None:
        row = None
        if next(module.children(), None) is None:
            row = len(self.rows)
            self.book(self.names[module], type(module).__name__, (), module, 0)
        self.inside.append((self.names[module], module, row))

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        _, _, row = self.inside.pop()
        if row is not None:
            self.rows[row] = replace(self.rows[row], output_shape=_shape(output))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        operator = func.overloadpacket.__name__
        if operator == "native_batch_norm":
            # The shape is the input's. torch would find it in Python, in more time than all other operations take.
            return torch.empty_like(args[0]), *torch.empty(2, 0, device="meta").unbind()
        out = func(*args, **(kwargs or {}))
        plain = operator.removesuffix("_")
        if plain in _FREE and func.namespace in ("aten", "prim"):
            return out
        name, module, row = self.inside[-1]
        macs = None
        if plain in _COUNTED and func.namespace == "aten":
            macs = _COUNTED[plain](*args, **(kwargs or {}), out=out)
            if not isinstance(module, nn.Linear):
                self.macs_no_fc += macs
        else:
            self.unknown[Unknown(name, str(func))] = None
        if row is None:
            self.book(name, operator, _shape(out), module, macs)
        else:
            before = self.rows[row].macs
            self.rows[row] = replace(self.rows[row], macs=None if macs is None or before is None else before + macs)
        return out


def _shape(output: Any) -> tuple[int, ...]:
    """Shape of the first tensor in a layer's output, without a leading 1 (the batch); () where there is none."""
    while isinstance(output, (tuple, list, dict)) and output:
        output = next(iter(output.values() if isinstance(output, dict) else output))
    shape = tuple(output.shape) if isinstance(output, torch.Tensor) else ()
    return shape[1:] if shape[:1] == (1,) else shape


def _on_meta(module: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose tensors have shapes but no data, and which has none of the original's hooks."""
    memo: dict[int, Any] = {}
    for part in module.modules():
        tensors = {**part._parameters, **part._buffers, **vars(part)}
        for tensor in tensors.values():
            if is_lazy(tensor):
                raise ValueError(f"{type(part).__name__} has no shape yet: call the net once on real input, then count")
            if isinstance(tensor, torch.Tensor) and id(tensor) not in memo:
                twin = torch.empty_like(tensor, device="meta", requires_grad=False)
                memo[id(tensor)] = nn.Parameter(twin, False) if isinstance(tensor, nn.Parameter) else twin
        for attribute, hooks in vars(part).items():
            if attribute.endswith("_hooks") and isinstance(hooks, dict):
                memo[id(hooks)] = type(hooks)()
    return copy.deepcopy(module, memo).eval()


def _checked_shape(input_shape: Sequence[int]) -> tuple[int, ...]:
    try:
        shape = tuple(operator.index(size) for size in input_shape)
    except TypeError:
        shape = ()
    if not shape or min(shape) < 1:
        raise ValueError(
            f"input_shape must be a tuple of positive integers without the batch, such as (3, 224, 224), "
            f"got {input_shape!r}"
        )
    return shape


def _run(counter: _Counter, net: nn.Module, shape: tuple[int, ...]) -> None:
    """One forward pass without data; what goes wrong is reported with the place in the net."""
    dtype = next((p.dtype for p in net.parameters() if p.is_floating_point()), torch.float32)
    try:
        with torch.inference_mode(False), torch.no_grad(), torch.device("meta"):
            x = torch.empty(1, *shape, dtype=dtype)
            with counter:
                net(x)
    except Exception as error:
        name, part, _ = counter.inside[-1] if counter.inside else ("", net, None)
        at = f"{name} ({type(part).__name__})"
        if "meta tensor" in str(error).lower():
            raise ValueError(
                f"{type(net).__name__} cannot be counted as a whole: {at} looks at the values of its data, and "
                f"costs computes shapes only. Count its parts one by one. torch says: {error}"
            ) from error
        raise ValueError(
            f"an input of shape {shape} (without the batch) does not go through {type(net).__name__}: it fails in "
            f"{at}. Give count() the input_shape that the net is made for. torch says: {error}"
        ) from error


def count(module: nn.Module, input_shape: Sequence[int] = (3, 224, 224)) -> Costs:
    """Count what one forward pass of `module` costs, in evaluation mode, at batch 1.

    The pass runs on a copy without data (torch's meta device), so that size does not matter; the module itself, its
    mode and its hooks are left alone. input_shape: (channels, height, width), or what the module takes, without batch.

    Raises TypeError where `module` is no module, ValueError where the input does not fit the net or its forward pass
    depends on the values of data. Warns where an operation is unknown: the multiply-adds are then a lower bound.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"count() takes a torch.nn.Module (such as resnet50(), with its brackets), got {module!r}")
    shape = _checked_shape(input_shape)
    net = _on_meta(module)
    counter = _Counter(net)
    _run(counter, net, shape)
    called = len(counter.rows)
    for part, name in counter.names.items():
        counter.book(name, type(part).__name__, (), part, 0)
    rows = counter.rows[:called] + [row for row in counter.rows[called:] if row.params]
    unknown = tuple(counter.unknown)
    if unknown:
        warnings.warn(f"{type(module).__name__} runs operations that costs has no rule for: {unknown}", stacklevel=2)
    params = {id(p): p.numel() for p in net.parameters()}
    norm = {id(p) for part in net.modules() if isinstance(part, _BatchNorm) for p in part.parameters()}
    buffers = {id(b): b.numel() for name, b in net.named_buffers() if not name.endswith("num_batches_tracked")}
    return Costs(
        net=type(module).__name__,
        input_shape=shape,
        params=sum(params.values()),
        params_no_bn=sum(size for key, size in params.items() if key not in norm),
        weights=sum(row.weights for row in rows),
        buffers=sum(buffers.values()),
        macs=sum(row.macs or 0 for row in rows),
        macs_no_fc=counter.macs_no_fc,
        activation_bytes=sum(4 * math.prod(row.output_shape) for row in rows if row.output_shape),
        rows=tuple(rows),
        unknown=unknown,
    )
