"""What a function of `cuda` needs of the walk that calls it, be it the type inference or a run."""

from __future__ import annotations

import ast
from typing import NoReturn, Protocol

from studylib.gpu.emulator.machine import Machine
from studylib.gpu.emulator.memory import Array
from studylib.gpu.findings import Site


class Run(Protocol):
    """Where a function of `cuda` is called."""

    machine: Machine

    def site(self, node: ast.AST) -> Site:
        """Where a node stands."""

    def fail(self, kind: str, message: str, node: ast.AST) -> NoReturn:
        """Ends the run with a finding of this kind."""

    def reject(self, message: str, node: ast.AST) -> NoReturn:
        """Ends it with an `unsupported` one."""

    def declare(self, space: str, node: ast.Call) -> Array:
        """The array of a `cuda.shared.array` or `cuda.local.array`."""
