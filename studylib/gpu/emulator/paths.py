"""Where the paths of a run part and meet: lanes are split by a condition, and variables merged lane by lane."""

from __future__ import annotations

import ast
from collections.abc import Callable

import numpy as np

from studylib.gpu.emulator.frame import Arm, Frame, Typed, Variables
from studylib.gpu.emulator.machine import Index
from studylib.gpu.emulator.mask import Mask
from studylib.gpu.emulator.memory import Array
from studylib.gpu.language import typing_rules as types
from studylib.gpu.language.source import MISSING
from studylib.gpu.language.values import CONFLICT, Partial, convert, is_number

Join = Callable[[Frame, list[Arm]], Variables]


def branch(condition, mask: Mask) -> tuple[Mask, Mask]:
    """The lanes of the mask where the condition is true, and where it is not."""
    if condition.ndim == 0:
        return (mask, mask.none) if condition else (mask.none, mask)
    return mask.split(types.truth(condition))


def joining(typed: Typed, node: ast.AST, where: str) -> Join:
    """What merges the variables of the arms that meet at a place of a statement, in the types that the inference found.

    All arms have lanes. Only what the statement assigns can differ between them.
    """
    casts = typed.casts.get((id(node), where), {})
    assigned = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    merged = [name for name in assigned if casts.get(name) is not CONFLICT]
    dropped = assigned.difference(merged)
    casts = {name: dtype for name, dtype in casts.items() if dtype is not CONFLICT and dtype is not None}

    def join(frame: Frame, arms: list[Arm]) -> Variables:
        mask, variables = arms[0]
        for other_mask, other in arms[1:]:
            for name in merged:
                a, b = variables.get(name, MISSING), other.get(name, MISSING)
                if a is not b:
                    variables[name] = choose(frame, mask, a, other_mask, b, node)
            for name in dropped:
                variables.pop(name, None)
            if len(arms) > 2:
                mask = mask.union(other_mask)
        for name, dtype in casts.items():
            if name in variables:
                variables[name] = convert(variables[name], dtype)
        return variables

    return join


def choose(frame: Frame, mask_a: Mask, a, mask_b: Mask, b, node: ast.AST):
    """`a` in the lanes of one mask, `b` in those of the other."""
    if a is MISSING or b is MISSING or isinstance(a, Partial) or isinstance(b, Partial):
        return _choose_partial(frame, mask_a, a, mask_b, b, node)
    if is_number(a) and is_number(b):
        if a.ndim == b.ndim == 0 and a.dtype == b.dtype and a == b:
            return a
        return np.where(mask_a.lanes, a, b)
    if isinstance(a, tuple):
        return tuple(choose(frame, mask_a, x, mask_b, y, node) for x, y in zip(a, b, strict=True))
    if isinstance(a, Array) and isinstance(b, Array):
        if a.memory is b.memory and a.shape == b.shape and a.strides == b.strides:
            if a.offset is b.offset:
                return a
            here, there = (v.offset if isinstance(v.offset, int) else v.offset.vector for v in (a, b))
            return Array(a.memory, a.shape, a.strides, Index(np.where(mask_a.lanes, here, there)))
        frame.reject("a name that stands for different arrays in different threads is not supported", node)
    return a


def _choose_partial(frame: Frame, mask_a: Mask, a, mask_b: Mask, b, node: ast.AST):
    # Set on one path only: reading it in a lane that came the other way is an error, reading it elsewhere not.
    set_a = np.zeros_like(mask_a.lanes) if a is MISSING else mask_a.lanes & getattr(a, "lanes", True)
    set_b = np.zeros_like(mask_b.lanes) if b is MISSING else mask_b.lanes & getattr(b, "lanes", True)
    a, b = (v.value if isinstance(v, Partial) else v for v in (a, b))
    if a is MISSING or b is MISSING or a is b:
        return Partial(b if a is MISSING else a, set_a | set_b)
    return Partial(choose(frame, mask_a, a, mask_b, b, node), set_a | set_b)
