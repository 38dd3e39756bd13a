"""Finds `while` loops that never end, where possible before anybody has waited for them."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from studylib.gpu.emulator.frame import Typed
from studylib.gpu.emulator.machine import Machine
from studylib.gpu.emulator.mask import Mask
from studylib.gpu.findings import Finding, Site, stop

LIMIT = 1_000_000  # rounds, after which a loop is given up even if its state still changes
EVERY = 64  # rounds between two looks at the state


@dataclass(frozen=True)
class Running:
    """Marks a run of a loop: it is there as the variable `running_loop`, where `still_running` finds it."""

    node: ast.While | ast.For
    site: Site


def still_running(error: BaseException) -> Finding | None:
    """The loop that ran when a launch was ended from outside: the outermost `while`, else the outermost `for`."""
    loops: list[Running] = []
    trace = error.__traceback__
    while trace is not None:
        if isinstance(found := trace.tb_frame.f_locals.get("running_loop"), Running):
            loops.append(found)
        trace = trace.tb_next
    if not loops:
        return None
    site = min(loops, key=lambda loop: not isinstance(loop.node, ast.While)).site
    return stop("endless-loop", "the loop was still running", site).finding


class LoopGuard:
    """Watches the rounds of one run of a `while` loop.

    A loop is endless for certain if nothing in the body changes what its condition reads, or if what decides about its
    end repeats: the same live lanes, the same variables, and, if the end depends on memory, no memory changed in between.
    """

    def __init__(self, node: ast.While, machine: Machine):
        self._fixed, self._assigned = _analyse(node)
        deciding = _deciding(node)
        self._reads_memory = deciding is None
        if deciding is not None:
            self._assigned = deciding
        self._machine = machine
        self._seen: tuple[int, np.ndarray, dict] | None = None

    def round(self, count: int, live: Mask, variables: dict, site: Site) -> None:
        """Called before round `count` with its live lanes; raises KernelError for an endless loop."""
        if count == 1 and self._fixed:
            raise self._endless("nothing in the loop changes its condition", live, site)
        if count == LIMIT:
            raise self._endless(f"still running after {LIMIT:,} rounds", live, site)
        if not count or count % EVERY:
            return
        state = {name: variables.get(name) for name in self._assigned}
        if self._seen is not None and self._same(live, state):
            if not self._reads_memory:
                raise self._endless("what its end depends on does not change any more", live, site)
            raise self._endless(
                "nothing changes any more (blocks run in order and threads in lock step here: "
                "a thread that waits for another one's write may wait for ever)",
                live,
                site,
            )
        if (count // EVERY) & (count // EVERY - 1) == 0:  # a power of two: cycles of any length are met in time
            self._seen = (self._machine.changes, live.lanes, state)

    def _same(self, live: Mask, state: dict) -> bool:
        assert self._seen is not None
        changes, lanes, before = self._seen
        return (
            (changes == self._machine.changes or not self._reads_memory)
            and np.array_equal(lanes, live.lanes)
            and all(_equal(before[name], value, live) for name, value in state.items())
        )

    def _endless(self, why: str, live: Mask, site: Site):
        lane = live.indices[0]
        more = f" and {live.count - 1:,} more" if live.count > 1 else ""
        return stop("endless-loop", f"the loop does not end: {why}, in {self._machine.name(lane)}{more}", site)


def waits(typed: Typed) -> bool:
    """Whether a loop waits for an atomic: blocks must then run one by one, or one waits for another in lock step."""
    return _spins(typed.source.tree) or any(waits(called) for called in typed.calls.values())


@lru_cache(maxsize=256)
def _spins(function: ast.FunctionDef) -> bool:
    tests = [node.test for node in ast.walk(function) if isinstance(node, ast.While)]
    names = [node for test in tests for node in ast.walk(test) if isinstance(node, ast.Attribute)]
    return any(node.attr == "atomic" for node in names)


def _equal(before, now, live: Mask) -> bool:
    if before is now:
        return True
    if isinstance(now, np.generic | np.ndarray) and isinstance(before, np.generic | np.ndarray):
        return np.array_equal(live.take(before), live.take(now))
    return False


@lru_cache(maxsize=256)
def _analyse(loop: ast.While) -> tuple[bool, frozenset[str]]:
    """(whether the condition is the same in every round, the names that the body assigns)."""
    body = [node for statement in loop.body for node in ast.walk(statement)]
    assigned = frozenset(n.id for n in body if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
    test = list(ast.walk(loop.test))
    leaves = any(isinstance(node, ast.Break | ast.Return) for node in body)
    reads_memory = any(isinstance(node, ast.Call | ast.Subscript) for node in test)
    reads = {node.id for node in test if isinstance(node, ast.Name)}
    return not (leaves or reads_memory or reads & assigned), assigned


@lru_cache(maxsize=256)
def _deciding(loop: ast.While) -> frozenset[str] | None:
    """The names of which alone it depends when the loop ends, None if it depends on memory or on a call as well."""
    steps = list(_steps(loop.body, ()))
    reads = [loop.test]
    ends = [tests for node, tests in steps if isinstance(node, ast.Break | ast.Continue | ast.Return)]
    reads += [test for tests in ends for test in tests]
    while True:
        names = {name for read in reads for name in _names(read)}
        found = [loop.test, *(test for tests in ends for test in tests)]
        for node, tests in steps:
            if isinstance(node, ast.Assign | ast.AugAssign | ast.For) and names & _stored(node):
                found += [node.iter if isinstance(node, ast.For) else node.value, *tests]
        if {id(node) for node in found} == {id(node) for node in reads}:
            break
        reads = found
    pure = all(_is_pure(node) for read in reads for node in ast.walk(read))
    return frozenset(names) if pure else None


def _steps(statements: list[ast.stmt], tests: tuple[ast.expr, ...]):
    """Each statement with the conditions and ranges that decide whether, and how often, it is reached."""
    for node in statements:
        yield node, tests
        if isinstance(node, ast.If | ast.While):
            yield from _steps([*node.body, *node.orelse], (*tests, node.test))
        elif isinstance(node, ast.For):
            yield from _steps(node.body, (*tests, node.iter))


def _stored(node: ast.Assign | ast.AugAssign | ast.For) -> set[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return {n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)}


def _names(expression: ast.expr) -> set[str]:
    return {node.id for node in ast.walk(expression) if isinstance(node, ast.Name)}


def _is_pure(node: ast.AST) -> bool:
    if isinstance(node, ast.Subscript):
        return isinstance(node.value, ast.Attribute) and node.value.attr == "shape"
    return not isinstance(node, ast.Call) or (
        isinstance(node.func, ast.Name) and node.func.id in ("range", "min", "max")
    )
