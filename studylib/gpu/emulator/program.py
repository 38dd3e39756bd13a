"""A kernel with its types, kept from one launch to the next: what depends only on types is found once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from types import CodeType
from typing import Any

import numpy as np

from studylib.gpu.emulator.frame import Typed, Variables
from studylib.gpu.emulator.inference import Inference, Lookup, TypedArray
from studylib.gpu.emulator.machine import Grid
from studylib.gpu.language.source import Source

KEPT = 256  # kernels


@dataclass(frozen=True, eq=False)
class Program:
    """A kernel with its types, and the names of the arrays among its arguments that it loads from and stores to.

    lookups: what the names that are not local stood for; where one stands for something else it is another program.
    """

    typed: Typed
    loaded: frozenset[str]
    stored: frozenset[str]
    lookups: list[Lookup]

    def holds_for(self, source: Source) -> bool:
        """Whether all names still stand for the same in this kernel, which has the same code."""
        return all(lookup.is_unchanged(self.typed.source, source) for lookup in self.lookups)


_known: OrderedDict[tuple[CodeType, Hashable], list[Program]] = OrderedDict()


def program(source: Source, grid: Grid, arguments: Variables, plain_calls: bool) -> Program:
    """The program of a launch with these arguments, typed as the inference sees them.

    plain_calls: whether a kernel may call functions without a decorator. Raises KernelError for what cannot be compiled.
    """
    key = source.function.__code__, (grid.shared_bytes, plain_calls, _signature(arguments))
    programs = _known.get(key, [])
    found = next((program for program in programs if program.holds_for(source)), None)
    if found is None:
        found = _infer(source, grid, arguments, plain_calls)
        _known[key] = [*programs[-3:], found]  # a constant that changes from launch to launch is not kept for ever
    _known.move_to_end(key)
    if len(_known) > KEPT:
        _known.popitem(last=False)
    return found


def _signature(arguments: Variables) -> Hashable:
    """What the inference sees of the arguments, comparable: types, and which arrays are one and the same."""
    first: dict[int, int] = {}

    def of(value: Any, place: int) -> Hashable:
        if isinstance(value, TypedArray):
            return value.dtype, value.ndim, value.writable, first.setdefault(id(value.memory), place)
        return tuple(of(part, place) for part in value) if isinstance(value, tuple) else value.dtype

    return tuple(of(value, place) for place, value in enumerate(arguments.values()))


def _infer(source: Source, grid: Grid, arguments: Variables, plain_calls: bool) -> Program:
    inference = Inference(grid, source, dict(arguments), plain_calls)
    with np.errstate(all="ignore"):
        inference.run()
    loaded, stored = (
        frozenset(n for n, a in arguments.items() if isinstance(a, TypedArray) and not a.memories.isdisjoint(memories))
        for memories in (inference.uses.loaded, inference.uses.stored)
    )
    return Program(inference.frame.typed, loaded, stored, inference.lookups)
