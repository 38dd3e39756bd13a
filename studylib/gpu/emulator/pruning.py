"""What Numba knows of a condition before it finds types: the arm that it prunes, and its types, do not count.

`x if 3 > 1 else y` has the type of x. So it has where a name stands for the 3 that one assignment of a constant gave it,
and in `(x or y) and z` on Python 3.11 the type of x does not count, for where x is true, z is the value. A result of
the wrong type would differ from the GPU's in the last digits, or by 2**32. All of this was found by comparing with Numba.
"""

from __future__ import annotations

import ast
import sys
from itertools import pairwise
from typing import Any

import numpy as np

from studylib.gpu.emulator.frame import Frame
from studylib.gpu.emulator.machine import Machine
from studylib.gpu.emulator.mask import Mask
from studylib.gpu.emulator.statements import Statements
from studylib.gpu.language.values import is_number

# In `(x or y) and z` Python 3.11 jumps from a true x straight to z; from 3.12 on it has the value of `x or y` first,
# and Numba, which reads the bytecode, gives that value one type for both.
JUMPS_PAST = sys.version_info < (3, 12)


class Pruning(Statements):
    """The part of the type inference that leaves out what cannot be reached."""

    def __init__(self, machine: Machine, frame: Frame):
        super().__init__(machine, frame)
        self._assigned: dict[tuple[int, int], Any] = {}  # what each assignment of a constant gives its name

    def do_Assign(self, node: ast.Assign, mask: Mask) -> Mask:
        mask = super().do_Assign(node, mask)
        # For Numba a name is a constant where one assignment of a constant alone reaches it. An object of its own stands
        # for the assignment: where paths meet it stays the same only if no other came in.
        is_constant = self._is_constant(node.value)
        for target in node.targets:
            if isinstance(target, ast.Name) and is_number(value := self.frame.variables[target.id]):
                self._assign_apart(target, value, is_constant)
        return mask

    def _assign_apart(self, target: ast.Name, value, is_constant: bool = False) -> None:
        if value.ndim == 0:
            value = type(value)(value)
            if is_constant:
                known = self._assigned.setdefault((id(self.frame.typed), id(target)), value)
                value = known if type(known) is type(value) and known == value else value
        self.frame.variables[target.id] = value

    def do_If(self, node: ast.If, mask: Mask) -> Mask:
        mask = super().do_If(node, mask)
        if self._truth(node.test) is not None and not self._is_pruned_first(node.test):
            # A pruned arm leaves one trace: for Numba the names assigned in it or in the other arm are no constants.
            arms = [*node.body, *node.orelse]
            for name in {n.id: n for arm in arms for n in ast.walk(arm) if isinstance(n, ast.Name)}.values():
                value = self.frame.variables.get(name.id)
                if isinstance(value, np.generic):
                    self._assign_apart(name, value)
        return mask

    def _is_pruned_first(self, test: ast.expr) -> bool:
        # Numba prunes twice, the second time with the assignments told apart of a name that has several.
        names = {n.id for n in ast.walk(test) if isinstance(n, ast.Name)} & set(self.frame.source.locals)
        stored = [
            n.id for n in ast.walk(self.frame.source.tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
        ]
        return all(stored.count(name) == 1 for name in names)

    def branch(self, mask: Mask, test: ast.AST) -> tuple[Mask, Mask]:
        # Numba prunes the dead arm of a condition that it knows.
        if isinstance(test, ast.expr) and (truth := self._truth(test)) is not None:
            return (mask, self.nobody) if truth else (self.nobody, mask)
        return mask, mask

    def eval_BoolOp(self, node: ast.BoolOp, mask: Mask):
        return self._united(node, self._outcomes(node, mask))

    def _outcomes(self, node: ast.expr, mask: Mask) -> list[tuple[Any, set[bool]]]:
        """The values of which the expression's may be one, each with the truths that it can have then.

        Python or Numba drops the others, and with them their types: `x` in `3 or x`, 0 in `0 or x`, and in
        `(x or y) and z` the x, which is true where it is the value of `x or y`, and then z is that of the whole.
        """
        if not isinstance(node, ast.BoolOp):
            value, truth = self.number(node, mask), self._known(node)
            return [(value, {True, False} if truth is None else {truth})]
        decisive, found = isinstance(node.op, ast.Or), []
        for operand in node.values:
            truth = self._known(operand)
            ends = operand is node.values[-1] or truth == decisive
            if truth is not None and not ends:
                continue
            own = self._outcomes(operand, mask)
            if isinstance(operand, ast.BoolOp):
                united = self._united(operand, own)
                if not JUMPS_PAST and len(own) > 1:
                    own = [(united, {True, False})]
            found += own if ends else [(value, {decisive}) for value, truths in own if decisive in truths]
            if ends:
                break
        return found

    def _united(self, node: ast.BoolOp, outcomes: list[tuple[Any, set[bool]]]):
        result, *others = (value for value, _ in outcomes)
        for value in others:
            result = self.choose(value, result)
        return self.settle(node, result)

    def _truth(self, test: ast.expr) -> bool | None:
        """What Numba knows of a condition while compiling, or None: Python makes a jump of each of its parts."""
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            truth = self._truth(test.operand)
            return None if truth is None else not truth
        if isinstance(test, ast.BoolOp):
            parts, decisive = [self._truth(part) for part in test.values], isinstance(test.op, ast.Or)
        elif isinstance(test, ast.Compare) and len(test.ops) > 1:
            sides = pairwise([test.left, *test.comparators])
            pairs = [ast.Compare(a, [op], [b]) for op, (a, b) in zip(test.ops, sides, strict=True)]
            parts, decisive = [self._known(ast.copy_location(pair, test)) for pair in pairs], False
        else:
            return self._known(test)
        if decisive in parts:
            return decisive
        return None if None in parts else not decisive

    def _known(self, node: ast.expr) -> bool | None:
        """The truth of a constant or of a comparison of two, or None; Numba looks no deeper."""
        parts = [node]
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            parts = [node.left, *node.comparators]
        return bool(self.number(node, self.everyone)) if all(self._is_constant(part) for part in parts) else None

    def _is_constant(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Name) and node.id in self.frame.source.locals:
            value = self.frame.variables.get(node.id)
            return any(value is known for known in self._assigned.values())
        return isinstance(node, ast.Name) or self._is_literal(node)

    def _is_literal(self, node: ast.expr) -> bool:
        """Whether Python makes one constant of the expression before Numba sees it."""
        if isinstance(node, ast.UnaryOp):
            return self._is_literal(node.operand)
        if isinstance(node, ast.BinOp):
            return self._is_literal(node.left) and self._is_literal(node.right)
        if isinstance(node, ast.BoolOp):  # the first that decides, if only constants come before it
            for operand in node.values[:-1]:
                if not self._is_literal(operand):
                    return False
                if bool(self.number(operand, self.everyone)) == isinstance(node.op, ast.Or):
                    return True
            return self._is_literal(node.values[-1])
        return isinstance(node, ast.Constant)
