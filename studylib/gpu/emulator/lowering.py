"""Statements lowered: a kernel with its types becomes functions that every launch with these types runs.

A step takes the frame and the mask of the lanes that reach it, and returns the mask of those that fall through; `if`,
loops, `break`, `continue` and `return` all follow from that. All threads of a chunk of blocks run a step at once.
A branch works on its own dictionary of variables, and where branches meet they are joined.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from studylib.gpu.emulator.endless import LoopGuard, Running
from studylib.gpu.emulator.expressions import methods
from studylib.gpu.emulator.frame import Arm, Frame, Typed
from studylib.gpu.emulator.mask import Mask
from studylib.gpu.emulator.operations import Constant, Operation, Operations, as_type
from studylib.gpu.emulator.paths import Join, branch, joining
from studylib.gpu.language import typing_rules as types

Step = Callable[[Frame, Mask], Mask]
Bind = Callable[[Frame, Any, Mask], None]
Head = Callable[[int, Mask], tuple[Any, Any]]  # of a round with its live lanes: whether it is run, and its item


class Round(NamedTuple):
    """What a loop does in each round, lowered once for all the ways in which the loop may run.

    bind: what assigns the item, of a `for`. at_head, at_exit: what merges the variables before a round and behind the
    loop. here: what says that the loop runs.
    """

    body: Step
    bind: Bind | None
    at_head: Join
    at_exit: Join
    here: Running


def lowered(typed: Typed) -> Step:
    """The body of a function as one step, lowered at the first call, with those of the functions that it calls."""
    if typed.body is None:
        for called in typed.calls.values():
            lowered(called)
        typed.body = Lowering(typed).block(typed.source.tree.body)
    return typed.body


class Lowering:
    """Lowers the statements of one function."""

    def __init__(self, typed: Typed):
        self.typed, self.operations = typed, Operations(typed)
        self._lower = methods(Lowering, "lower_")

    def block(self, statements: list[ast.stmt]) -> Step:
        reached = [statement for statement in statements if id(statement) in self.typed.reached]
        steps = [self._lower[type(statement)](self, statement) for statement in reached]
        if len(steps) == 1:
            return steps[0]

        def run(frame: Frame, mask: Mask) -> Mask:
            for step in steps:
                mask = step(frame, mask)
                if not mask.any:
                    break
            return mask

        return run

    def lower_Pass(self, node: ast.Pass) -> Step:
        return lambda frame, mask: mask

    def lower_Expr(self, node: ast.Expr) -> Step:
        if isinstance(node.value, ast.Constant):
            return lambda frame, mask: mask
        if isinstance(node.value, ast.Call):
            value = self.operations.call(node.value, used=False)
        else:
            value = self.operations.lower(node.value)

        def run(frame: Frame, mask: Mask) -> Mask:
            value(frame, mask)
            return mask

        return run

    # -- assignments

    def lower_Assign(self, node: ast.Assign) -> Step:
        value, targets = self.operations.lower(node.value), node.targets
        if len(targets) == 1 and isinstance(targets[0], ast.Name):
            name = targets[0].id

            def assign(frame: Frame, mask: Mask) -> Mask:
                frame.variables[name] = value(frame, mask)
                return mask

            return assign
        binds = [self.bind(target) for target in targets]

        def run(frame: Frame, mask: Mask) -> Mask:
            result = value(frame, mask)
            for bind in binds:
                bind(frame, result, mask)
            return mask

        return run

    def bind(self, target: ast.expr) -> Bind:
        """What assigns a value to a target."""
        if isinstance(target, ast.Name):
            name = target.id

            def bind(frame: Frame, value, mask: Mask) -> None:
                frame.variables[name] = value

            return bind
        if isinstance(target, ast.Tuple | ast.List):
            binds = [self.bind(element) for element in target.elts]

            def unpack(frame: Frame, value, mask: Mask) -> None:
                for bind, part in zip(binds, value, strict=True):
                    bind(frame, part, mask)

            return unpack
        assert isinstance(target, ast.Subscript)
        array, indices = self.operations.lower(target.value), self.operations.indices(target.slice)
        site = self.typed.source.site(target)

        def store(frame: Frame, value, mask: Mask) -> None:
            array(frame, mask).store(frame.machine, indices(frame, mask), value, mask, site)

        return store

    def lower_AugAssign(self, node: ast.AugAssign) -> Step:
        target = node.target
        if isinstance(target, ast.Name):
            value = as_type(*self.operations.binary(type(node.op), target, node.value), self.typed.values[id(node)])
            name = target.id

            def assign(frame: Frame, mask: Mask) -> Mask:
                frame.variables[name] = value(frame, mask)
                return mask

            return assign
        assert isinstance(target, ast.Subscript)
        array, indices = self.operations.lower(target.value), self.operations.indices(target.slice)
        operand, kind, site = self.operations.lower(node.value), type(node.op), self.typed.source.site(target)

        def run(frame: Frame, mask: Mask) -> Mask:
            machine, where, at = frame.machine, array(frame, mask), indices(frame, mask)
            old = where.load(machine, at, mask, site)
            where.store(machine, at, types.binary(kind, old, operand(frame, mask)), mask, site)
            return mask

        return run

    # -- branches

    def lower_If(self, node: ast.If) -> Step:
        test, body, orelse = self.operations.lower(node.test), self.block(node.body), self.block(node.orelse)
        join = joining(self.typed, node, "end")

        def run(frame: Frame, mask: Mask) -> Mask:
            yes, no = branch(test(frame, mask), mask)
            before = frame.variables
            if no.any and yes.any:
                frame.variables = dict(before)
                then = body(frame, yes), frame.variables
                frame.variables = before
                otherwise = orelse(frame, no), frame.variables
                if then[0] is yes and otherwise[0] is no:
                    frame.variables = join(frame, [then, otherwise])
                    return mask
                return _meet(frame, [then, otherwise], join)
            through = orelse(frame, no) if no.any else body(frame, yes)
            return _meet(frame, [(through, frame.variables)], join)

        return run

    def lower_Break(self, node: ast.Break) -> Step:
        return _leave(0)

    def lower_Continue(self, node: ast.Continue) -> Step:
        return _leave(1)

    def lower_Return(self, node: ast.Return) -> Step:
        value = Constant(None) if node.value is None else self.operations.lower(node.value)

        def run(frame: Frame, mask: Mask) -> Mask:
            result = value(frame, mask)
            if frame.is_kernel:
                frame.machine.returned |= mask.lanes
            frame.returns.append((mask, result))
            return mask.none

        return run

    # -- loops

    def lower_While(self, node: ast.While) -> Step:
        test, site = self.operations.lower(node.test), self.typed.source.site(node)
        loop = _loop(self._round(node))

        def run(frame: Frame, mask: Mask) -> Mask:
            guard = LoopGuard(node, frame.machine)

            def head(count: int, live: Mask):
                guard.round(count, live, frame.variables, site)
                return test(frame, live), None

            return loop(frame, mask, head)

        return run

    def lower_For(self, node: ast.For) -> Step:
        if id(node.iter) not in self.typed.values:  # a call of range is no expression
            assert isinstance(node.iter, ast.Call)
            return self._for_range(node, node.iter)
        items, rounds = self.operations.lower(node.iter), _rounds(self._round(node), _leaves(node))
        return lambda frame, mask: rounds(frame, mask, items(frame, mask))

    def _for_range(self, node: ast.For, call: ast.Call) -> Step:
        given = [self.typed.values[id(argument)] for argument in call.args]
        dtype = types.range_dtype(given)
        parts = [self.operations.lower(argument) for argument in call.args]
        parts = [as_type(part, own, dtype) for part, own in zip(parts, given, strict=True)]
        zero, one = Constant(dtype.type(0)), Constant(dtype.type(1))
        bounds: list[Operation] = [zero, *parts, one] if len(parts) == 1 else [*parts, one]
        first, last, by, *_ = bounds
        each = self._round(node)
        rounds, loop = _rounds(each, _leaves(node)), _loop(each)

        def run(frame: Frame, mask: Mask) -> Mask:
            start, end, step = first(frame, mask), last(frame, mask), by(frame, mask)
            if (step == 0) if step.ndim == 0 else (mask.take(step) == 0).any():
                frame.fail("endless-loop", "range() with a step of 0", call)
            if start.ndim == end.ndim == step.ndim == 0:
                return rounds(frame, mask, map(dtype.type, range(int(start), int(end), int(step))))
            rising = step > 0

            def head(count: int, live: Mask):
                item = start + step * dtype.type(count)
                if rising.ndim:
                    return np.where(rising, item < end, item > end), item
                return (item < end if rising else item > end), item

            return loop(frame, mask, head)

        return run

    def _round(self, node: ast.While | ast.For) -> Round:
        bind = self.bind(node.target) if isinstance(node, ast.For) else None
        at_head, at_exit = joining(self.typed, node, "head"), joining(self.typed, node, "exit")
        return Round(self.block(node.body), bind, at_head, at_exit, Running(node, self.typed.source.site(node)))


def _rounds(each: Round, leaves: bool) -> Callable[[Frame, Mask, Iterable], Mask]:
    """A loop over items that all threads share: they leave it together, or at a break or return if it has one."""
    body, bind, at_head, at_exit, here = each
    assert bind is not None

    def run(frame: Frame, mask: Mask, items: Iterable, running_loop: Running = here) -> Mask:
        exits: list[Arm] = []
        at_head(frame, [(mask, frame.variables)])
        for item in items:
            bind(frame, item, mask)
            if not leaves:
                mask = body(frame, mask)
                at_head(frame, [(mask, frame.variables)])
                continue
            frame.loops.append(([], []))
            through = body(frame, mask), frame.variables
            breaks, continues = frame.loops.pop()
            if breaks:
                exits = [_merged(frame, exits + breaks, at_exit)]
            mask = _meet(frame, [through, *continues], at_head)
            if not mask.any:
                break
        return _meet(frame, [*exits, (mask, frame.variables)], at_exit)

    return run


def _loop(each: Round) -> Callable[[Frame, Mask, Head], Mask]:
    """Rounds of the body."""
    body, bind, at_head, at_exit, here = each

    def run(frame: Frame, mask: Mask, head: Head, running_loop: Running = here) -> Mask:
        count = 0
        exits: list[Arm] = []
        at_head(frame, [(mask, frame.variables)])
        while True:
            condition, item = head(count, mask)
            mask, leaving = branch(condition, mask)
            if leaving.any:
                exits = [_merged(frame, [*exits, (leaving, dict(frame.variables))], at_exit)]
            if not mask.any:
                break
            if bind is not None:
                bind(frame, item, mask)
            frame.loops.append(([], []))
            through = body(frame, mask), frame.variables
            breaks, continues = frame.loops.pop()
            if breaks:
                exits = [_merged(frame, exits + breaks, at_exit)]
            mask = _meet(frame, [through, *continues], at_head)
            if not mask.any:
                break
            count += 1
        return _meet(frame, [*exits, (mask, frame.variables)], at_exit)

    return run


def _merged(frame: Frame, arms: list[Arm], join: Join) -> Arm:
    """The lanes of arms that all have some, and their variables joined."""
    variables = join(frame, arms)
    mask = arms[0][0]
    for other, _ in arms[1:]:
        mask = mask.union(other)
    return mask, variables


def _meet(frame: Frame, arms: list[Arm], join: Join) -> Mask:
    """The lanes of the arms, of which there is at least one; the frame goes on with the arms' variables."""
    live = [arm for arm in arms if arm[0].any]
    if not live:
        return arms[0][0]
    mask, frame.variables = _merged(frame, live, join)
    return mask


def _leaves(node: ast.For) -> bool:
    """Whether a thread can leave a round before its end."""
    return any(isinstance(inner, ast.Break | ast.Continue | ast.Return) for inner in ast.walk(node))


def _leave(which: int) -> Step:
    def run(frame: Frame, mask: Mask) -> Mask:
        frame.loops[-1][which].append((mask, dict(frame.variables)))
        return mask.none

    return run
