"""How much of the input one output position sees: the receptive field, derived from the net's graph.

Every map is described per axis by three integers: the first and the last input position that its position 0 sees, and
the input positions between two neighbours. A sliding window of kernel k, stride s, padding p and dilation d takes
(first, last, stride) to (first - p * stride, last + ((k - 1) * d - p) * stride, s * stride). Branches that meet see
what any of them sees.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import fx, nn

from studylib.errors import StudyError

_WINDOWS = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
)
_SAME_POSITION = (nn.Identity, nn.LocalResponseNorm, nn.ChannelShuffle)
_SAME_POSITION_FAMILIES = ("torch.nn.modules.activation", "torch.nn.modules.batchnorm", "torch.nn.modules.dropout")
_SAME_POSITION_CALLS = frozenset(
    ["add", "cat", "chunk", "clamp", "concat", "contiguous", "div", "dropout", "gelu", "hardsigmoid", "hardswish"]
    + ["iadd", "imul", "leaky_relu", "mul", "neg", "relu", "sigmoid", "silu", "split", "sub", "tanh", "truediv"]
)
_WHOLE = (
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
    *(nn.Flatten, nn.Linear, nn.GroupNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
)
_WHOLE_CALLS = frozenset(
    ["adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "flatten", "linear", "mean", "reshape"]
    + ["squeeze", "view"]
)
_SHAPE_CALLS = frozenset(["dim", "getattr", "size"])


@dataclass(frozen=True)
class ReceptiveField:
    """What one output position sees, in input pixels, one number per axis (height, width).

    size: extent, through sliding windows alone (convolutions and pooling).
    stride: from what one output position sees to what its neighbour sees (the jump).
    start: the first input position that output position 0 sees; negative where it lies in the padding.
    whole_input_from: the first layer through which an output sees the whole input, however large (global or adaptive
    pooling, flattening, a linear layer, a norm over the map); `size` then is that of the map before it. None if none.
    """

    size: tuple[int, ...]
    stride: tuple[int, ...]
    start: tuple[int, ...]
    whole_input_from: str | None


class _Seen(NamedTuple):
    first: tuple[int, ...]
    last: tuple[int, ...]
    stride: tuple[int, ...]
    whole: str | None


def _per_axis(value: Any, axes: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple) else (value,) * axes


def _slide(seen: _Seen, window: Any) -> _Seen:
    """The map after a convolution or a pooling."""
    axes = len(seen.stride)
    kernel, stride = _per_axis(window.kernel_size, axes), _per_axis(window.stride, axes)
    dilation = _per_axis(getattr(window, "dilation", 1), axes)
    if window.padding == "same":
        padding = tuple(d * (k - 1) // 2 for d, k in zip(dilation, kernel, strict=True))
    else:
        padding = _per_axis(0 if window.padding == "valid" else window.padding, axes)
    each = list(zip(seen.first, seen.last, seen.stride, kernel, padding, dilation, stride, strict=True))
    return _Seen(
        first=tuple(first - p * jump for first, _, jump, _, p, _, _ in each),
        last=tuple(last + ((k - 1) * d - p) * jump for _, last, jump, k, p, d, _ in each),
        stride=tuple(jump * s for _, _, jump, _, _, _, s in each),
        whole=seen.whole,
    )


def _join(maps: list[_Seen], name: str) -> _Seen:
    """The map where branches meet. A branch that sees the whole input has one value for all positions (such as
    squeeze-and-excitation's), so that the others say what else a position sees."""
    whole = next((seen.whole for seen in maps if seen.whole), None)
    maps = [seen for seen in maps if not seen.whole] or maps
    if len({seen.stride for seen in maps}) > 1:
        strides = " and ".join(str(seen.stride) for seen in maps)
        raise StudyError(f"branches with different strides {strides} meet in {name}: no single receptive field")
    return _Seen(
        first=tuple(map(min, zip(*(seen.first for seen in maps), strict=True))),
        last=tuple(map(max, zip(*(seen.last for seen in maps), strict=True))),
        stride=maps[0].stride,
        whole=whole,
    )


def _after(node: fx.Node, module: nn.Module | None, maps: list[_Seen]) -> _Seen | None:
    """What a graph node's output sees, or None where it is no map (such as a size)."""
    if module is not None:
        name, kind = str(node.target), type(module).__name__
        if isinstance(module, _WINDOWS):
            return _slide(maps[0], module)
        by_position = isinstance(module, _SAME_POSITION) or type(module).__module__ in _SAME_POSITION_FAMILIES
        by_position = by_position and not isinstance(module, nn.MultiheadAttention)
        whole = isinstance(module, _WHOLE)
    else:
        kind = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
        name, kind = node.name, kind.strip("_")
        if kind in _SHAPE_CALLS:
            return None
        by_position = kind in _SAME_POSITION_CALLS or (kind == "getitem" and isinstance(node.args[1], int))
        whole = kind in _WHOLE_CALLS
    if not by_position and not whole:
        raise StudyError(
            f"receptive_field has no rule for {name} ({kind}). It knows convolutions, pooling, layers that work "
            f"position by position, and layers that see the whole map; give it the part of the net without this one"
        )
    seen = _join(maps, name)
    return seen._replace(whole=seen.whole or name) if whole else seen


def receptive_field(module: nn.Module) -> ReceptiveField:
    """The receptive field of one position of the module's output, along the largest of its branches.

    Weights and values play no part: a position counts as seen where some path leads to it.
    Raises TypeError where `module` is no module; StudyError for a layer without a rule (by its name), branches of
    different strides, layers of different dimensions, and a forward pass that torch.fx cannot trace.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"receptive_field() takes a torch.nn.Module, got {module!r}")
    # A layer on its own goes into a container: torch.fx looks for layers within what it is given.
    net = module if list(module.children()) else nn.Sequential(module)
    try:
        graph = fx.Tracer().trace(net)
    except Exception as error:
        raise StudyError(
            f"the forward pass of {type(module).__name__} depends on the values or sizes of its data, which "
            f"receptive_field cannot follow. torch.fx says: {error}"
        ) from error
    axes = _axes(net)
    maps: dict[fx.Node, _Seen | None] = {}
    for node in graph.nodes:
        inputs = [seen for source in node.all_input_nodes if (seen := maps.get(source)) is not None]
        if node.op == "placeholder":
            maps[node] = _Seen((0,) * axes, (0,) * axes, (1,) * axes, None)
        elif node.op == "output":
            if not inputs:
                raise StudyError(f"{type(module).__name__} has no output that depends on its input")
            end = _join(inputs, "the output")
        elif inputs:
            maps[node] = _after(node, net.get_submodule(str(node.target)) if node.op == "call_module" else None, inputs)
    size = tuple(last - first + 1 for first, last in zip(end.first, end.last, strict=True))
    return ReceptiveField(size, end.stride, end.first, end.whole)


def _axes(net: nn.Module) -> int:
    """1, 2 or 3: the dimensions of the net's windows, read off their names (Conv2d); 2 where there is none."""
    axes = {int(kind.__name__[-2]) for kind in _WINDOWS if any(isinstance(part, kind) for part in net.modules())}
    if len(axes) > 1:
        raise StudyError(f"{type(net).__name__} mixes layers of {sorted(axes)} dimensions")
    return axes.pop() if axes else 2
