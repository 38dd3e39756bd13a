"""What a function of `cuda` needs of the walk that calls it, be it the type inference or a run."""

from __future__ import annotations

import ast
from abc import ABC, abstractmethod
from typing import NoReturn

from studylib.gpu.emulator.machine import Machine
from studylib.gpu.emulator.memory import Array
from studylib.gpu.findings import Site, stop


class Run(ABC):
    """Where a function of `cuda` is called."""

    __slots__ = ()
    machine: Machine

    @abstractmethod
    def site(self, node: ast.AST) -> Site:
        """Where a node stands."""

    def fail(self, kind: str, message: str, node: ast.AST) -> NoReturn:
        """Ends the run with a finding of this kind."""
        raise stop(kind, message, self.site(node))

    def reject(self, message: str, node: ast.AST) -> NoReturn:
        """Ends the run because the kernel uses something that is not supported."""
        self.fail("unsupported", message, node)

    @abstractmethod
    def declare(self, space: str, node: ast.Call) -> Array:
        """The array of a `cuda.shared.array` or `cuda.local.array`."""
