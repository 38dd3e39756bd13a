"""The walk over a kernel's syntax tree: every statement runs in all threads of a chunk of blocks at once.

Each statement method takes the mask of the lanes that reach it and returns the mask of those that fall through
it; `if`, loops, `break`, `continue` and `return` all follow from that. A branch works on its own dictionary of
variables, and where branches meet `join` merges them lane by lane, in the types that the type inference found.
"""

from __future__ import annotations

import ast
from collections.abc import Hashable
from typing import NoReturn

import numpy as np

from studylib.gpu.emulator.endless import LoopGuard
from studylib.gpu.emulator.expressions import Expressions, methods
from studylib.gpu.emulator.frame import Arm, Frame
from studylib.gpu.emulator.machine import Machine
from studylib.gpu.emulator.mask import Mask
from studylib.gpu.emulator.memory import Array, LocalMemory, SharedMemory
from studylib.gpu.findings import Site, counted, stop
from studylib.gpu.language import typing_rules as types
from studylib.gpu.language.source import MISSING
from studylib.gpu.language.values import CONFLICT, Partial, convert, is_number


class Interpreter(Expressions):
    """Runs a kernel on a machine."""

    def __init__(self, machine: Machine, frame: Frame):
        self.machine, self.frame = machine, frame
        self.everyone, self.nobody = machine.everyone, machine.everyone.none()
        self.printed: list[str] = []
        self._do = methods(type(self), "do_")
        super().__init__()

    def run(self) -> None:
        self.block(self.frame.source.tree.body, self.everyone)

    def site(self, node: ast.AST) -> Site:
        return self.frame.source.site(node)

    def fail(self, kind: str, message: str, node: ast.AST) -> NoReturn:
        raise stop(kind, message, self.site(node))

    def reject(self, message: str, node: ast.AST) -> NoReturn:
        self.fail("unsupported", message, node)

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
            self.reject(
                f"{counted(len(value), 'value')} cannot be unpacked into {counted(len(target.elts), 'name')}", target
            )
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
        yes, no = self.branch(self.number(node.test, mask), mask, node.test)
        before = self.frame.variables
        self.frame.variables = dict(before)
        then = self.block(node.body, yes), self.frame.variables
        self.frame.variables = before
        otherwise = self.block(node.orelse, no), self.frame.variables
        mask, self.frame.variables = self.join(node, "end", [then, otherwise])
        return mask

    def branch(self, condition, mask: Mask, test: ast.AST) -> tuple[Mask, Mask]:
        """The lanes of the mask where the condition is true, and where it is not."""
        if condition.ndim == 0:
            return (mask, self.nobody) if condition else (self.nobody, mask)
        return mask.split(types.truth(condition))

    def do_Break(self, node: ast.Break, mask: Mask) -> Mask:
        self.frame.loops[-1][0].append((mask, dict(self.frame.variables)))
        return self.nobody

    def do_Continue(self, node: ast.Continue, mask: Mask) -> Mask:
        self.frame.loops[-1][1].append((mask, dict(self.frame.variables)))
        return self.nobody

    def do_Return(self, node: ast.Return, mask: Mask) -> Mask:
        value = None if node.value is None else self.eval(node.value, mask)
        if self.frame.is_kernel:
            if value is not None:
                self.reject("a kernel cannot return a value: write it to an array", node)
            self.machine.returned |= mask.lanes
        self.frame.returns.append((mask, value))
        return self.nobody

    def do_While(self, node: ast.While, mask: Mask) -> Mask:
        guard = LoopGuard(node, self.machine)

        def step(count: int, live: Mask):
            guard.round(count, live, self.frame.variables, self.site(node))
            return self.number(node.test, live), None

        return self.loop(node, mask, step)

    def do_For(self, node: ast.For, mask: Mask) -> Mask:
        if isinstance(node.iter, ast.Call) and self.is_builtin(node.iter.func, "range"):
            return self._for_range(node, mask)
        items = self.eval(node.iter, mask)
        if not isinstance(items, tuple):
            self.reject("a for loop runs over range(...) or over a tuple", node.iter)
        self.check_homogeneous(items, node.iter)

        def step(count: int, live: Mask):
            inside = count < len(items)
            return np.bool_(inside), items[count] if inside else None

        return self.loop(node, mask, step)

    def _for_range(self, node: ast.For, mask: Mask) -> Mask:
        start, stop_at, stride = self.range_arguments(node.iter, mask)
        if (stride == 0) if stride.ndim == 0 else (mask.take(stride) == 0).any():
            self.fail("endless-loop", "range() with a step of 0", node.iter)
        rising = stride > 0

        def step(count: int, live: Mask):
            item = start + stride * stride.dtype.type(count)
            if rising.ndim:
                return np.where(rising, item < stop_at, item > stop_at), item
            return (item < stop_at if rising else item > stop_at), item

        return self.loop(node, mask, step)

    def range_arguments(self, call: ast.expr, mask: Mask):
        """(start, stop, step) of a call of range, in the type of its variable."""
        assert isinstance(call, ast.Call)
        if call.keywords or not 1 <= len(call.args) <= 3:
            self.reject("range() takes 1 to 3 arguments", call)
        given = [self.number(argument, mask) for argument in call.args]
        try:
            dtype = types.range_dtype([v.dtype for v in given])
        except TypeError as error:
            self.reject(str(error), call)
        given = [types.cast(v, dtype) for v in given]
        zero, one = dtype.type(0), dtype.type(1)
        return (zero, given[0], one) if len(given) == 1 else (*given, one)[:3]

    def loop(self, node: ast.While | ast.For, mask: Mask, step) -> Mask:
        """Rounds of the body; step(count, live) gives the condition and the item of each round."""
        self.check_loop(node)
        frame, count = self.frame, 0
        exits: list[Arm] = []
        _, frame.variables = self.join(node, "head", [(mask, frame.variables)])
        while mask.any:
            condition, item = step(count, mask)
            mask, leaving = self.branch(condition, mask, node)
            if leaving.any:
                exits = [self.join(node, "exit", [*exits, (leaving, dict(frame.variables))])]
            if not mask.any:
                break
            if isinstance(node, ast.For):
                self.assign(node.target, item, mask)
            frame.loops.append(([], []))
            through = self.block(node.body, mask), frame.variables
            breaks, continues = frame.loops.pop()
            if breaks:
                exits = [self.join(node, "exit", exits + breaks)]
            mask, frame.variables = self.join(node, "head", [through, *continues])
            count += 1
        mask, frame.variables = self.join(node, "exit", exits)
        return mask

    def check_loop(self, node: ast.While | ast.For) -> None:
        if node.orelse:
            self.reject("else after a loop is not supported in a kernel", node.orelse[0])

    # -- where paths meet

    def join(self, node: ast.AST, where: str, arms: list[Arm]) -> Arm:
        """The lanes of all arms, and their variables merged lane by lane."""
        arms = [arm for arm in arms if arm[0].any]
        if not arms:
            return self.nobody, {}
        casts = self.frame.typed.casts.get((id(node), where), {})
        mask, variables = arms[0]
        for other_mask, other in arms[1:]:
            merged = {}
            for name in variables.keys() | other.keys():
                if casts.get(name) is not CONFLICT:
                    a, b = variables.get(name, MISSING), other.get(name, MISSING)
                    merged[name] = a if a is b else self.choose(mask, a, other_mask, b, node)
            mask, variables = mask.union(other_mask), merged
        for name, dtype in casts.items():
            if name in variables and dtype is not CONFLICT:
                variables[name] = convert(variables[name], dtype)
        return mask, variables

    def choose(self, mask_a: Mask, a, mask_b: Mask, b, node: ast.AST):
        """`a` in the lanes of one mask, `b` in those of the other."""
        if a is MISSING or b is MISSING or isinstance(a, Partial) or isinstance(b, Partial):
            return self._choose_partial(mask_a, a, mask_b, b, node)
        if is_number(a) and is_number(b):
            if a.ndim == b.ndim == 0 and a.dtype == b.dtype and a == b:
                return a
            return np.where(mask_a.lanes, a, b)
        if isinstance(a, tuple):
            return tuple(self.choose(mask_a, x, mask_b, y, node) for x, y in zip(a, b, strict=True))
        if isinstance(a, Array) and isinstance(b, Array):
            if a.memory is b.memory and a.shape == b.shape and a.strides == b.strides:
                offset = a.offset if a.offset is b.offset else np.where(mask_a.lanes, a.offset, b.offset)
                return Array(a.memory, a.shape, a.strides, offset)
            self.reject("a name that stands for different arrays in different threads is not supported", node)
        return a

    def _choose_partial(self, mask_a: Mask, a, mask_b: Mask, b, node: ast.AST):
        # Set on one path only: reading it in a lane that came the other way is an error, reading it elsewhere not.
        set_a = self.nobody.lanes if a is MISSING else mask_a.lanes & getattr(a, "lanes", True)
        set_b = self.nobody.lanes if b is MISSING else mask_b.lanes & getattr(b, "lanes", True)
        a, b = (v.value if isinstance(v, Partial) else v for v in (a, b))
        if a is MISSING or b is MISSING or a is b:
            return Partial(b if a is MISSING else a, set_a | set_b)
        return Partial(self.choose(mask_a, a, mask_b, b, node), set_a | set_b)

    # -- device functions and declared arrays

    def declare(self, space: str, node: ast.Call, mask: Mask) -> Array:
        """The array of a `cuda.shared.array` or `cuda.local.array`: one a block, or one a thread and call."""
        shape, dtype, name = self.frame.typed.arrays[id(node)]
        known = self.frame.locals if space == "local" else self.machine.memories
        key: Hashable = id(self.frame.typed), id(node)
        if space == "shared" and shape == (0,):  # all dynamic shared arrays begin at the same address
            key, shape = "dynamic", (self.machine.grid.shared_bytes // dtype.itemsize,)
        if key not in known:
            make = LocalMemory if space == "local" else SharedMemory
            known[key] = make(name, dtype, shape, self.machine).array()
        return known[key]

    def call(self, node: ast.Call, function, arguments: list, mask: Mask):
        """Runs a device function; its result, merged over its return statements."""
        typed = self.frame.typed.calls[id(node)]
        caller = self.frame
        self.frame = Frame(typed, dict(zip(typed.source.parameters, arguments, strict=True)))
        self.block(typed.source.tree.body, mask)
        returns, self.frame = self.frame.returns, caller
        if typed.result is None:
            return None
        done, value = returns[0]
        for mask_b, b in returns[1:]:
            value = value if value is b else self.choose(done, value, mask_b, b, node)
            done = done.union(mask_b)
        return convert(value, typed.result)


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
