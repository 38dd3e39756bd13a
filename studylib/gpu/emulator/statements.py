"""The statement half of the type inference: one walk over a kernel's syntax tree.

Each statement method takes the mask that reaches it and returns the mask that falls through it; `if`, loops, `break`,
`continue` and `return` all follow from that. A branch works on its own dictionary of variables.
"""

from __future__ import annotations

import ast
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from studylib.gpu.emulator.expressions import Expressions, methods
from studylib.gpu.emulator.frame import Arm, Frame
from studylib.gpu.emulator.machine import Machine
from studylib.gpu.emulator.mask import Mask
from studylib.gpu.language import typing_rules as types
from studylib.words import counted


class Statements(Expressions):
    """The statements of a kernel; where paths part and meet the other parts of the inference say what happens."""

    everyone: Mask
    nobody: Mask

    def __init__(self, machine: Machine, frame: Frame):
        super().__init__(machine, frame)
        self._do = methods(type(self), "do_")

    @abstractmethod
    def loop(self, node: ast.While | ast.For, mask: Mask, head: Callable[[Mask], Any]) -> Mask:
        """A loop; head gives what the loop's own line evaluates to in a round: the test, or the item."""

    @abstractmethod
    def join(self, node: ast.AST, where: str, arms: list[Arm]) -> Arm:
        """What reaches the place where paths meet, and the variables there."""

    # -- statements: the lanes that fall through

    def block(self, statements: list[ast.stmt], mask: Mask) -> Mask:
        for statement in statements:
            if not mask.any:
                break
            do = self._do.get(type(statement))
            if do is None:
                self.reject(f"{_construct(statement)} is not supported in a kernel", statement)
            mask = do(self, statement, mask)
        return mask

    def do_Pass(self, node: ast.Pass, mask: Mask) -> Mask:
        return mask

    def do_Expr(self, node: ast.Expr, mask: Mask) -> Mask:
        if isinstance(node.value, ast.Call):
            self.eval_Call(node.value, mask, used=False)
        elif not isinstance(node.value, ast.Constant):
            self.eval(node.value, mask)
        return mask

    def do_Assign(self, node: ast.Assign, mask: Mask) -> Mask:
        value = self.eval(node.value, mask)
        for target in node.targets:
            self.assign(target, value, mask)
        return mask

    def assign(self, target: ast.expr, value, mask: Mask) -> None:
        if isinstance(target, ast.Name):
            if value is None:
                self.reject(f"{target.id} would be None", target)
            self.frame.variables[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            self._unpack(target, value, mask)
        elif isinstance(target, ast.Subscript):
            array = self.array(target.value, mask)
            indices = self.indices(target, mask)
            self.store(array, indices, value, mask, target)
        else:
            self.reject(f"assignment to {_construct(target)} is not supported in a kernel", target)

    def _unpack(self, target: ast.Tuple | ast.List, value, mask: Mask) -> None:
        if not isinstance(value, tuple):
            self.reject("only a tuple can be unpacked", target)
        if len(value) != len(target.elts):
            values, names = counted(len(value), "value"), counted(len(target.elts), "name")
            self.reject(f"{values} cannot be unpacked into {names}", target)
        for element, part in zip(target.elts, value, strict=True):
            self.assign(element, part, mask)

    def do_AugAssign(self, node: ast.AugAssign, mask: Mask) -> Mask:
        target, operator = node.target, type(node.op)
        if isinstance(target, ast.Subscript):
            array = self.array(target.value, mask)
            indices = self.indices(target, mask)
            old = self.load(array, indices, mask, target)
            value = self.operate(operator, old, self.number(node.value, mask), node)
            self.store(array, indices, value, mask, target)
        elif isinstance(target, ast.Name):
            old = self.number(target, mask)
            value = self.operate(operator, old, self.number(node.value, mask), node)
            self.frame.variables[target.id] = self.settle(node, value)
        else:
            self.reject(f"assignment to {_construct(target)} is not supported in a kernel", target)
        return mask

    def do_If(self, node: ast.If, mask: Mask) -> Mask:
        self.number(node.test, mask)
        yes, no = self.branch(mask, node.test)
        before = self.frame.variables
        self.frame.variables = dict(before)
        then = self.block(node.body, yes), self.frame.variables
        self.frame.variables = before
        otherwise = self.block(node.orelse, no), self.frame.variables
        mask, self.frame.variables = self.join(node, "end", [then, otherwise])
        return mask

    def do_Break(self, node: ast.Break, mask: Mask) -> Mask:
        self.frame.loops[-1][0].append((mask, dict(self.frame.variables)))
        return self.nobody

    def do_Continue(self, node: ast.Continue, mask: Mask) -> Mask:
        self.frame.loops[-1][1].append((mask, dict(self.frame.variables)))
        return self.nobody

    def do_Return(self, node: ast.Return, mask: Mask) -> Mask:
        value = None if node.value is None else self.eval(node.value, mask)
        if self.frame.is_kernel and value is not None:
            self.reject("a kernel cannot return a value: write it to an array", node)
        self.frame.returns.append((mask, value))
        return self.nobody

    def do_While(self, node: ast.While, mask: Mask) -> Mask:
        return self.loop(node, mask, lambda reached: self.number(node.test, reached))

    def do_For(self, node: ast.For, mask: Mask) -> Mask:
        if isinstance(node.iter, ast.Call) and self.is_builtin(node.iter.func, "range"):
            item = self.range_item(node.iter, mask)
            return self.loop(node, mask, lambda reached: item)
        items = self.eval(node.iter, mask)
        if not isinstance(items, tuple):
            self.reject("a for loop runs over range(...) or over a tuple", node.iter)
        self.check_homogeneous(items, node.iter)
        if not items:
            self.reject("a for loop over an empty tuple has no type", node.iter)
        return self.loop(node, mask, lambda reached: items[0])

    def range_item(self, call: ast.Call, mask: Mask):
        """What a call of range gives to its variable."""
        if call.keywords or not 1 <= len(call.args) <= 3:
            self.reject("range() takes 1 to 3 arguments", call)
        given = [self.number(argument, mask) for argument in call.args]
        try:
            return np.empty(0, types.range_dtype([v.dtype for v in given]))
        except TypeError as error:
            self.reject(str(error), call)

    def check_loop(self, node: ast.While | ast.For) -> None:
        if node.orelse:
            self.reject("else after a loop is not supported in a kernel", node.orelse[0])


_WORDS = {
    "FunctionDef": "a function inside a kernel",
    "ClassDef": "a class",
    "AsyncFunctionDef": "async def",
    "AnnAssign": "an annotated assignment",
    "With": "with",
    "Try": "try",
    "Raise": "raise",
    "Assert": "assert",
    "Delete": "del",
    "Global": "global",
    "Nonlocal": "nonlocal",
    "Import": "import",
    "ImportFrom": "import",
    "Match": "match",
    "Attribute": "an attribute",
    "Starred": "*",
}


def _construct(node: ast.AST) -> str:
    name = type(node).__name__
    return _WORDS.get(name, name)
