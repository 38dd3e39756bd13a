"""What the inference finds and a run uses: a function with its types, and one call of the function."""

from __future__ import annotations

import ast
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from studylib.gpu.emulator.machine import Machine
from studylib.gpu.emulator.mask import Mask
from studylib.gpu.emulator.memory import Array, LocalMemory, SharedMemory
from studylib.gpu.emulator.run import Run
from studylib.gpu.findings import Site
from studylib.gpu.language.source import Source

Variables = dict[str, Any]
Arm = tuple[Mask, Variables]


@dataclass(eq=False)
class Typed:
    """A function with the types that one combination of argument types gives it; what the inference found.

    casts: where paths meet, the types of the variables that differ between them. values: the type of an
    expression, None for what is neither a number nor a tuple; an expression that is missing is never evaluated.
    reached: the statements that can be reached. calls, arrays: what a call runs or declares. All by the id of the
    syntax node.
    result, result_value: of the function, None if it returns nothing. body: the lowered function, once there is one.
    """

    source: Source
    casts: dict[tuple[int, str], Variables] = field(default_factory=dict)
    values: dict[int, Any] = field(default_factory=dict)
    reached: set[int] = field(default_factory=set)
    calls: dict[int, Typed] = field(default_factory=dict)
    arrays: dict[int, tuple[tuple[int, ...], np.dtype, str]] = field(default_factory=dict)
    paths: dict[int, str | None] = field(default_factory=dict)
    result: Any = None
    result_value: Any = None
    body: Callable[[Frame, Mask], Mask] | None = None


@dataclass(eq=False, slots=True)
class Frame(Run):
    """One call of a function: its variables, the loops it is in, and the values it has returned so far."""

    typed: Typed
    machine: Machine
    variables: Variables
    is_kernel: bool = False
    loops: list[tuple[list[Arm], list[Arm]]] = field(default_factory=list)  # (breaks, continues) of each
    returns: list[tuple[Mask, Any]] = field(default_factory=list)
    locals: dict[Hashable, Array] = field(default_factory=dict)

    @property
    def source(self) -> Source:
        return self.typed.source

    def site(self, node: ast.AST) -> Site:
        return self.typed.source.site(node)

    def declare(self, space: str, node: ast.Call) -> Array:
        """The array of a `cuda.shared.array` or `cuda.local.array`: one a block, or one a thread and call."""
        shape, dtype, name = self.typed.arrays[id(node)]
        known = self.locals if space == "local" else self.machine.memories
        key: Hashable = id(self.typed), id(node)
        if space == "shared" and shape == (0,):  # all dynamic shared arrays begin at the same address
            key, shape = "dynamic", (self.machine.grid.shared_bytes // dtype.itemsize,)
        if key not in known:
            make = LocalMemory if space == "local" else SharedMemory
            known[key] = make(name, dtype, shape, self.machine).array()
        return known[key]
