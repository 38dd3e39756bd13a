"""What a walk over a kernel carries: a function with its types, and one call of it with its variables."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from studylib.gpu.emulator.mask import Mask
from studylib.gpu.emulator.memory import Array
from studylib.gpu.language.source import Source

Variables = dict[str, Any]
Arm = tuple[Mask, Variables]


@dataclass(eq=False)
class Typed:
    """A function with the types that one combination of argument types gives it; what the inference found.

    casts: where paths meet, the types of the variables that differ between them. values: the type of an
    expression. calls, arrays: what a call runs or declares. All by the id of the syntax node.
    """

    source: Source
    casts: dict[tuple[int, str], Variables] = field(default_factory=dict)
    values: dict[int, Any] = field(default_factory=dict)
    calls: dict[int, Typed] = field(default_factory=dict)
    arrays: dict[int, tuple[tuple[int, ...], np.dtype, str]] = field(default_factory=dict)
    paths: dict[int, str | None] = field(default_factory=dict)
    result: Any = None
    result_value: Any = None


@dataclass(eq=False)
class Frame:
    """One call of a function: its variables, the loops it is in, and the values it has returned so far."""

    typed: Typed
    variables: Variables
    is_kernel: bool = False
    loops: list[tuple[list[Arm], list[Arm]]] = field(default_factory=list)  # (breaks, continues) of each
    returns: list[tuple[Mask, Any]] = field(default_factory=list)
    locals: dict[Hashable, Array] = field(default_factory=dict)

    @property
    def source(self) -> Source:
        return self.typed.source
