"""Makes wrong kernels out of a solution, one small change each, and asks the emulator whether one of them passes.

The changes, chosen for what people get wrong: an operator; a comparison's edge; an integer one more or less; another axis of
threadIdx, blockIdx or blockDim, one of them for another, or forgotten; two indices exchanged; a condition negated, taken
for true, or one clause dropped; a statement left out, each barrier among them; min for max; a function left out; and a
variable for another of its kind. All exercises together have some 9,600 of them. The tests try a sample of each, drawn by
the exercise's text, so that one who changes the exercise meets others. Who writes or changes an exercise tries all:

    python tests/grading/mutation.py NAME       names those that pass and are not in equivalent_mutants.toml
"""

from __future__ import annotations

import ast
import copy
import linecache
import random
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from studylib.grading.budget import judge_budget
from studylib.grading.mismatches import close
from studylib.grading.runs import run
from studylib.kernels import Case, Exercise, load
from studylib.kernels.stubs import GRADER

OPERATORS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mod,
    ast.Mod: ast.FloorDiv,
}
EDGES = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
SAMPLE = (
    40,
    20,
)  # of an exercise's changes: those of its variables, whose number grows with their square, are the second
EQUIVALENT = tomllib.loads(Path(__file__).with_name("equivalent_mutants.toml").read_text(encoding="utf-8"))[
    "equivalent"
]
PLACES = ("threadIdx", "blockIdx", "blockDim")
OTHER = {"min": "max", "max": "min"}


@dataclass(frozen=True)
class Change:
    """A wrong kernel: what was changed, its source, and whether a variable stands for another."""

    text: str
    code: str
    of_variables: bool


def sample(exercise: Exercise) -> list[Change]:
    """The changes that each run of the tests tries, the same ones as long as the exercise stays as it is."""
    chosen, rng = [], random.Random(exercise.text)
    for of_variables, most in zip((False, True), SAMPLE, strict=True):
        found = [change for change in changes(exercise) if change.of_variables == of_variables]
        chosen += rng.sample(found, min(most, len(found)))
    return chosen


def equivalent(name: str) -> set[str]:
    """The texts of an exercise's changes that are no change of what the kernel computes."""
    return {text for entry in EQUIVALENT if entry["exercise"] == name for text in entry["changes"]}


@cache
def changes(exercise: Exercise) -> list[Change]:
    """All that is made of an exercise's solution; the texts differ, and so do the sources."""
    module = ast.parse(exercise.text.partition(GRADER)[0])
    kernel = next(n for n in module.body if isinstance(n, ast.FunctionDef) and n.name == exercise.name)
    before, seen, times, found = ast.unparse(kernel), set(), Counter(), []
    kinds = _kinds(kernel)
    for path, node in list(_walk(kernel)):
        for new in _instead(node, _at(kernel, path[:-1]), path, kinds):
            changed = copy.deepcopy(kernel)
            _put(changed, path, new)
            code = ast.unparse(ast.fix_missing_locations(changed))
            if code in seen or code == before:
                continue
            seen.add(code)
            text = _text(kernel, path, node, new)
            times[text] += 1
            of_variables = isinstance(node, ast.Name) and isinstance(new, ast.Name)
            found.append(Change(text if times[text] == 1 else f"{text} ({times[text]})", code, of_variables))
    return found


def _walk(node: ast.AST, path: tuple = ()) -> Iterator[tuple[tuple, ast.AST]]:
    """(the way from the kernel, the node) for all below the kernel's body."""
    for name, value in ast.iter_fields(node):
        if isinstance(node, ast.FunctionDef) and name != "body":
            continue
        for i, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST):
                here = (*path, (name, i))
                yield here, child
                yield from _walk(child, here)


def _at(node, path):
    for name, i in path:
        node = getattr(node, name) if i is None else getattr(node, name)[i]
    return node


def _put(kernel: ast.AST, path: tuple, new: ast.AST) -> None:
    name, i = path[-1]
    owner = _at(kernel, path[:-1])
    if i is None:
        setattr(owner, name, copy.deepcopy(new))
    else:
        getattr(owner, name)[i] = copy.deepcopy(new)


def _text(kernel, path, node, new) -> str:
    """`old -> new in: the line`, from the statement that holds the node."""
    depth = max(i for i in range(1, len(path) + 1) if isinstance(_at(kernel, path[:i]), ast.stmt))
    line = ast.unparse(_at(kernel, path[:depth])).splitlines()[0]
    old = node.__class__.__name__ if isinstance(node, ast.operator | ast.cmpop | ast.boolop) else ast.unparse(node)
    instead = new.__class__.__name__ if isinstance(new, ast.operator | ast.cmpop | ast.boolop) else ast.unparse(new)
    old, instead = (text.splitlines()[0] for text in (old, instead))
    return f"{old} -> {instead}" + ("" if depth == len(path) else f" in: {line}")


def _kinds(kernel: ast.FunctionDef) -> dict[str, str]:
    """By name of each variable: 'array', 'float' or 'index', as far as the source tells."""
    found: dict[str, str] = {}
    arrays = {n.value.id for n in ast.walk(kernel) if isinstance(n, ast.Subscript) and isinstance(n.value, ast.Name)}
    for node in ast.walk(kernel):
        if isinstance(node, ast.Assign):
            for target, value in _pairs(node.targets[0], node.value):
                if isinstance(target, ast.Name):
                    found.setdefault(target.id, "float" if _is_float(value, arrays) else "index")
        elif isinstance(node, ast.For) and isinstance(node.target, ast.Name):
            found.setdefault(node.target.id, "index")
    whole = {n.value.id for n in ast.walk(kernel) if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)}
    for argument in kernel.args.args:
        found[argument.arg] = "array" if argument.arg in arrays | whole else "index"
    return found | dict.fromkeys(arrays & set(found), "array")


def _pairs(target, value):
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        return zip(target.elts, value.elts, strict=True)
    if isinstance(target, ast.Tuple):
        return [(t, value) for t in target.elts]
    return [(target, value)]


def _is_float(value, arrays) -> bool:
    """Whether an assigned value is a number of an array, a float32(...) or a function of math."""
    if isinstance(value, ast.Subscript) and isinstance(value.value, ast.Name):
        return value.value.id in arrays
    names = {n.id for n in ast.walk(value) if isinstance(n, ast.Name)}
    return "float32" in names and not isinstance(value, ast.Attribute) or "math" in names


def _instead(node: ast.AST, owner: ast.AST, path: tuple, kinds: dict[str, str]) -> Iterator[ast.AST]:
    """What takes a node's place, one after the other."""
    name = path[-1][0]
    if isinstance(node, ast.operator) and type(node) in OPERATORS:
        yield OPERATORS[type(node)]()
    elif isinstance(node, ast.cmpop) and type(node) in EDGES:
        yield EDGES[type(node)]()
    elif isinstance(node, ast.BoolOp):
        for i in range(len(node.values)):
            rest = node.values[:i] + node.values[i + 1 :]
            yield rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.stmt):
        if isinstance(node, ast.AugAssign | ast.Expr) or isinstance(node, ast.Assign) and _is_store(node):
            yield ast.Pass()
    elif isinstance(node, ast.Constant) and type(node.value) is int and not _is_shape(owner):
        yield from (ast.Constant(node.value + step) for step in (1, -1) if node.value != 0xFFFFFFFF)
    elif isinstance(node, ast.Tuple) and name == "slice" and isinstance(node.ctx, ast.Load):
        for i in range(len(node.elts) - 1):
            yield ast.Tuple([*node.elts[:i], node.elts[i + 1], node.elts[i], *node.elts[i + 2 :]], ast.Load())
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr in PLACES:
        yield ast.Constant(0)
        yield from (ast.Attribute(node.value, axis, ast.Load()) for axis in "xyz" if axis != node.attr)
        for place in PLACES:
            if place != node.value.attr:
                yield ast.Attribute(ast.Attribute(node.value.value, place, ast.Load()), node.attr, ast.Load())
    elif isinstance(node, ast.Call):
        yield from _other_call(node)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        if node.id.isupper() and not _is_shape(owner):
            yield from (ast.BinOp(node, op(), ast.Constant(1)) for op in (ast.Add, ast.Sub))
        elif node.id in kinds and not (isinstance(owner, ast.Attribute)):
            for other, kind in kinds.items():
                if other != node.id and kind == kinds[node.id]:
                    yield ast.Name(other, ast.Load())
    if name == "test" and isinstance(owner, ast.If):
        yield ast.Constant(True)
        yield ast.UnaryOp(ast.Not(), node)


def _is_store(node: ast.Assign) -> bool:
    """Whether it writes to an array, or a variable again: without it the kernel still has all its names."""
    return isinstance(node.targets[0], ast.Subscript)


def _is_shape(owner: ast.AST) -> bool:
    """Whether a number is a size of an array that the kernel makes: one more is only more room."""
    return (isinstance(owner, ast.Call) and ast.unparse(owner.func).endswith(".array")) or (
        isinstance(owner, ast.Tuple)
        and all(isinstance(e, ast.Constant) or ast.unparse(e).isupper() for e in owner.elts)
    )


def _other_call(node: ast.Call) -> Iterator[ast.AST]:
    function = ast.unparse(node.func)
    if function in OTHER:
        yield ast.Call(ast.Name(OTHER[function], ast.Load()), node.args, [])
    elif function.startswith("math."):
        yield node.args[0]
    elif function == "cuda.gridsize":
        yield ast.parse("cuda.blockDim.x", mode="eval").body
    elif function == "cuda.grid":
        axes = "xyz"[: node.args[0].value]
        whole = {axis: f"cuda.blockIdx.{axis} * cuda.blockDim.{axis} + cuda.threadIdx.{axis}" for axis in axes}
        for axis in axes:
            for place in ("threadIdx", "blockIdx"):
                parts = ", ".join((whole | {axis: f"cuda.{place}.{axis}"}).values())
                yield ast.parse(parts, mode="eval").body
        if len(axes) > 1:
            yield ast.parse(", ".join([whole["y"], whole["x"], *map(whole.get, axes[2:])]), mode="eval").body


def kernel_of(exercise: Exercise, change: Change):
    """The changed kernel, in the names of the exercise's source."""
    namespace, file = dict(vars(exercise.module)), f"{exercise.name}_changed.py"
    text = f"@cuda.jit\n{change.code.partition('@cuda.jit')[2].lstrip()}\n"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    exec(compile(text, file, "exec", dont_inherit=True), namespace)  # noqa: S102  our own solution, one place changed
    return namespace[exercise.name]


@cache
def cases(name: str) -> tuple[Case, ...]:
    """An exercise's cases, the same each time, small ones first."""
    found = load(name).cases(np.random.default_rng(7))
    return tuple(sorted(found, key=lambda case: sum(np.size(v) for v in case.inputs)))


def passes(exercise: Exercise, kernel) -> bool:
    """Whether a kernel is right, safe and within budget, by the emulator alone."""
    for case in cases(exercise.name):
        try:
            found = run(exercise, kernel, case)
        except Exception:  # noqa: BLE001  a kernel that the emulator cannot run does not pass
            return False
        bounds = exercise.bounds(*case.inputs)
        if found.findings or not all(
            close(got, expected, bound).all()
            for got, expected, bound in zip(found.outputs, found.expected, bounds, strict=True)
        ):
            return False
        if not all(np.array_equal(a, b) for a, b in zip(case.inputs, found.inputs, strict=True)):
            return False
        if case.title == exercise.budget.case and not judge_budget(exercise.budget, found.reports)[0]:
            return False
    return True


if __name__ == "__main__":
    for name in sys.argv[1:]:
        for change in changes(load(name)):
            if change.text not in equivalent(name) and passes(load(name), kernel_of(load(name), change)):
                print(f"{name}: {change.text}", flush=True)
