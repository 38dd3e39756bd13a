"""Evaluates the formulas of the ledger: the published networks, `costs` and plain arithmetic, and nothing else.

A formula may use
- the constructors of `studylib.nets`, e.g. `mobilenet_v1(width=0.75)`; no weight is allocated;
- `costs(net, (3, 224, 224))`, which is `studylib.costs.count`, and its figures: `.params`, `.weights`, `.macs`, ...;
- numbers, text in quotes, tuples, `+ - * / // % **`;
- `sum`, `min`, `max`, `round`, `ceil`, `floor`, `log2`, `sqrt`, and `fmean(values, weights)`.
"""

import ast
import math
import pkgutil
from collections.abc import Callable
from dataclasses import fields
from functools import cache
from importlib import import_module
from statistics import fmean
from typing import Any

import torch

from studylib import nets
from studylib.costs import Costs, count
from studylib.errors import StudyError, near

GRAMMAR = (
    ast.Expression, ast.Constant, ast.Name, ast.Load, ast.Tuple, ast.Call, ast.keyword, ast.Attribute,
    ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.UnaryOp, ast.USub,
)  # fmt: skip
FIGURES = tuple(field.name for field in fields(Costs) if field.type is int)


def evaluate(formula: str) -> Any:
    """The value of `formula`: a number, or a network on the meta device.

    Raises StudyError for what is not allowed, for an unknown name and for a computation that fails.
    """
    names = namespace()
    try:
        tree = ast.parse(formula.strip(), mode="eval")
    except SyntaxError as error:
        raise StudyError(f"{formula!r} is not a formula: {error.msg}") from None
    for node in ast.walk(tree):
        if type(node) not in GRAMMAR:
            raise StudyError(
                f"{type(node).__name__} is not allowed in {formula!r}: only calls of networks, costs and functions, "
                "their figures, numbers and arithmetic are"
            )
        if isinstance(node, ast.Attribute) and node.attr not in FIGURES:
            raise StudyError(f"unknown figure .{node.attr} in {formula!r}{near(node.attr, FIGURES, 3)}")
        if isinstance(node, ast.Name) and node.id not in names:
            raise StudyError(f"unknown name {node.id!r} in {formula!r}{near(node.id, names, 3)}")
    try:
        return eval(compile(tree, "<ledger>", "eval"), {"__builtins__": {}}, names)
    except Exception as error:  # whatever a constructor or a division raises is an error in the formula
        raise StudyError(f"{formula!r} fails: {type(error).__name__}: {error}") from error


def number(formula: str) -> float:
    """The value of `formula`, which must be a finite number."""
    value = evaluate(formula)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise StudyError(f"{formula!r} gives {type(value).__name__} {str(value)[:60]!r}, expected a finite number")
    return value


@cache
def namespace() -> dict[str, Any]:
    """What a formula may name. Networks and their counts are kept, as many rows ask for the same ones."""
    functions = [sum, min, max, round, math.ceil, math.floor, math.log2, math.sqrt, fmean]
    return _networks() | {function.__name__: function for function in functions} | {"costs": costs}


@cache
def costs(net: torch.nn.Module, input_shape: tuple[int, ...] = (3, 224, 224)) -> Costs:
    """`studylib.costs.count`, once a net and size. Raises StudyError where it does not know all of the net."""
    found = count(net, input_shape)
    if found.unknown:
        raise StudyError(f"costs does not know {found.unknown[0].operator!r} in {found.unknown[0].name!r}")
    return found


def _networks() -> dict[str, Callable]:
    """Every public function and module class of the files of `studylib.nets` whose name only one file has."""
    found: dict[str, list[Callable]] = {}
    for file in pkgutil.iter_modules(nets.__path__, "studylib.nets."):
        for name, thing in vars(import_module(file.name)).items():
            if callable(thing) and not name.startswith("_") and thing.__module__ == file.name:
                found.setdefault(name, []).append(thing)
    return {name: _on_meta(things[0]) for name, things in found.items() if len(things) == 1}


def _on_meta(constructor: Callable) -> Callable:
    @cache
    def build(*args: Any, **kwargs: Any) -> Any:
        with torch.device("meta"):
            return constructor(*args, **kwargs)

    return build
