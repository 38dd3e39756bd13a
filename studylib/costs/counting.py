"""Counts what one forward pass of a net costs, on shapes alone: torch's meta device computes no numbers."""

import copy
import math
import operator
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode

from studylib.costs.operations import COUNTED, FREE
from studylib.costs.table import Costs, Row, Unknown
from studylib.errors import StudyError


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
            return _twin(args[0]), torch.empty(0, device="meta"), torch.empty(0, device="meta")
        out = func(*args, **(kwargs or {}))
        # Other libraries' operations may have names of aten's, and mean something else.
        plain = operator.removesuffix("_") if func.namespace == "aten" else ""
        if plain in FREE:
            return out
        name, module, row = self.inside[-1]
        macs = None
        if plain in COUNTED:
            macs = COUNTED[plain](*args, **(kwargs or {}), out=out)
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


def _twin(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of the same shape and type, without data."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")


_HOOKS = frozenset(name for name in vars(nn.Module()) if name.endswith("_hooks"))


def _on_meta(module: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose tensors have shapes but no data, and which has none of the original's hooks."""
    memo: dict[int, Any] = {}
    for part in module.modules():
        for name, value in [*part._parameters.items(), *part._buffers.items(), *vars(part).items()]:
            if name in _HOOKS:
                memo[id(value)] = type(value)()
            elif isinstance(value, torch.Tensor) and id(value) not in memo:
                if is_lazy(value):
                    raise StudyError(f"{type(part).__name__} has no shape yet: call the net on real input, then count")
                memo[id(value)] = nn.Parameter(_twin(value), False) if isinstance(value, nn.Parameter) else _twin(value)
    return copy.deepcopy(module, memo).eval()


def _checked_shape(input_shape: Sequence[int]) -> tuple[int, ...]:
    try:
        shape = tuple(operator.index(size) for size in input_shape)
    except TypeError:
        shape = ()
    if not shape or min(shape) < 1:
        raise StudyError(
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
        name, part, _ = counter.inside[-1] if counter.inside else (type(net).__name__, net, None)
        at = f"{name} ({type(part).__name__})" if name != type(part).__name__ else name
        raise StudyError(_explained(str(error), type(net).__name__, at, shape)) from error


def _explained(error: str, net: str, at: str, shape: tuple[int, ...]) -> str:
    says = "torch says: " + textwrap.shorten(error, 300)
    if "expected device" in error or "same device" in error:
        return (
            f"{net} cannot be counted: {at} uses a tensor that the net does not know of. Register it with "
            f"register_buffer (a layer in a plain list belongs in an nn.ModuleList). {says}"
        )
    if "meta" in error.lower():
        return (
            f"{net} cannot be counted as a whole: {at} looks at the values of its data, and costs computes shapes "
            f"only. Count its parts one by one. {says}"
        )
    return (
        f"an input of shape {shape} (without the batch) does not go through {net}: it fails in {at}. "
        f"Give count() the input_shape that the net is made for. {says}"
    )


def count(module: nn.Module, input_shape: Sequence[int] = (3, 224, 224)) -> Costs:
    """Count what one forward pass of `module` costs, in evaluation mode, at batch 1.

    The pass runs on a copy without data (torch's meta device), so that size does not matter; the module itself, its
    mode and its hooks are left alone. input_shape: (channels, height, width), or what the module takes, without batch.

    Raises TypeError where `module` is no module, StudyError where the input does not fit the net or its forward pass
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
        places = "; ".join(f"{operation} in {name}" for name, operation in unknown)
        warnings.warn(f"costs has no rule for {places}: {type(module).__name__} costs at least this", stacklevel=2)
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
