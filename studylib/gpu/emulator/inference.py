"""Type inference: a walk over the kernel without any lanes finds every type before the first thread runs.

Numba compiles a kernel before it runs it: a variable has one type wherever paths meet, and code that no thread
reaches must be correct too. A walk over vectors of length 0, in which every branch is taken, every loop goes one round,
and the whole is repeated until its types stand, gives exactly that, and finds what is not supported before anything
is written. What it leaves behind, `Typed`, is lowered to what runs.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from studylib.gpu.emulator.frame import Arm, Frame, Typed, Variables
from studylib.gpu.emulator.machine import Grid, Machine
from studylib.gpu.emulator.mask import Mask
from studylib.gpu.emulator.memory import Array, Memory
from studylib.gpu.emulator.observer import Observer
from studylib.gpu.emulator.pruning import Pruning
from studylib.gpu.findings import KernelError, stop
from studylib.gpu.hardware import SHARED_PER_BLOCK
from studylib.gpu.language import typing_rules as types
from studylib.gpu.language.source import MISSING, Source
from studylib.gpu.language.values import CONFLICT, is_number
from studylib.words import counted


class Reach(Mask):
    """A mask without lanes, which only knows whether a statement can be reached."""

    def __init__(self, reached: bool):
        super().__init__(np.zeros(0, bool))
        self.any, self.full = reached, False


class TypedArray(Array):
    """An array of which only the type is known, and which memories it may be."""

    def __init__(self, memories: frozenset[Memory], ndim: int, writable: bool):
        self.memories, self.writable = memories, writable
        super().__init__(next(iter(memories)), (1,) * ndim, (0,) * ndim)

    def load(self, machine, indices, mask, site):
        left = self._left(indices, site)
        if not left:
            for memory in self.memories:
                machine.observer.load(machine, memory, 0, mask, site)
        return TypedArray(self.memories, left, self.writable) if left else varying(self.dtype)

    def store(self, machine, indices, value, mask, site):
        if self._left(indices, site) or not is_number(value):
            raise stop("unsupported", "only a number can be stored, in one element", site)
        self._check_writable(site)
        for memory in self.memories:
            machine.observer.store(machine, memory, 0, value, mask, site)

    def atomic(self, machine, operation, indices, operands, mask, site, needs_old):
        self._check_writable(site)
        for memory in self.memories:
            machine.observer.atomic(machine, memory, 0, mask, site, needs_old)
        return varying(self.dtype)

    def _left(self, indices, site) -> int:
        left = self.ndim - len(indices)
        if left < 0:
            used = counted(len(indices), "index", "indices")
            message = f"{self.memory.name} has {counted(self.ndim, 'dimension')} and is used with {used}"
            raise stop("unsupported", message, site)
        return left

    def _check_writable(self, site) -> None:
        if not self.writable:
            raise stop(
                "unsupported", f"{self.memory.name} is {self.memory.space} or read-only: nothing is stored", site
            )


class Uses(Observer):
    """The memories that any statement of the kernel loads from, or stores to."""

    def __init__(self) -> None:
        self.loaded: set[Memory] = set()
        self.stored: set[Memory] = set()

    def load(self, machine, memory, cells, mask, site) -> None:
        self.loaded.add(memory)

    def store(self, machine, memory, cells, value, mask, site) -> None:
        self.stored.add(memory)

    def atomic(self, machine, memory, cells, mask, site, needs_old) -> None:
        self.loaded.add(memory)
        self.stored.add(memory)


class Lookup(NamedTuple):
    """What a name stood for: one that is not local to its function, or one in a module."""

    place: Source | ModuleType
    name: str
    value: Any

    def is_unchanged(self, kernel: Source, now: Source) -> bool:
        """Whether it still stands for the same, where `now` has taken the place of the kernel."""
        place = now if self.place is kernel else self.place
        found = place.lookup(self.name) if isinstance(place, Source) else getattr(place, self.name, MISSING)
        return found is self.value or _is_same_number(found, self.value)


def _is_same_number(a, b) -> bool:
    # The text tells apart what compares equal: 0.0 and -0.0, and 1 and True in a tuple.
    return type(a) is type(b) and isinstance(a, bool | int | float | tuple | np.generic) and repr(a) == repr(b)


def varying(dtype: np.dtype) -> np.ndarray:
    """A number that may differ between threads, of which only the type is known."""
    return np.empty(0, dtype)


def type_of(value) -> Any:
    """The type of a value, comparable; a literal and an array are types of their own."""
    if isinstance(value, types.Literal):
        return "literal", int(value)
    if is_number(value):
        return value.dtype
    if isinstance(value, tuple):
        return tuple(type_of(v) for v in value)
    if isinstance(value, TypedArray):
        return value.memories, value.ndim
    return "object", id(value)


def _plain(value) -> Any:
    """What `convert` needs to bring a value to this type."""
    if is_number(value):
        return value.dtype
    return tuple(_plain(v) for v in value) if isinstance(value, tuple) else None


class Inference(Pruning):
    """The walk that finds types; `known` holds the functions already typed, `shared` the shared bytes of each array."""

    def __init__(self, grid: Grid, source: Source, arguments: Variables, plain_calls: bool):
        self.uses = Uses()
        machine = Machine(grid, 0, 0, self.uses)
        super().__init__(machine, Frame(Typed(source), machine, arguments, is_kernel=True))
        self.everyone, self.nobody = Reach(True), Reach(False)
        self.plain_calls = plain_calls
        self.known: dict[Any, Typed | None] = {}
        self.shared: dict[tuple[int, int], int] = {}
        self.lookups: list[Lookup] = []
        self._dynamic: np.dtype | None = None
        self._array_names: dict[int, str] = {}
        # What comes back to the head of each loop, as the last walk over the function found it; whether that has changed
        # in this one; how many loops are around a statement; and a name that is read before it has a value.
        self._back: dict[tuple[int, int], list[Arm]] = {}
        self._changed = False
        self._loops = 0
        self._unset: KernelError | None = None

    def run(self) -> None:
        self._walk()

    def _walk(self) -> Mask:
        """Walks over the function until no type changes: all of it each time, as Numba does, which forgets no type."""
        arguments = dict(self.frame.variables)
        while True:
            self._changed, self._unset = False, None
            self.frame.variables = dict(arguments)
            self.frame.returns.clear()
            through = self.block(self.frame.source.tree.body, self.everyone)
            if not self._changed:
                break
        if self._unset:
            raise self._unset
        return through

    def do_Assign(self, node: ast.Assign, mask: Mask) -> Mask:
        if isinstance(node.targets[0], ast.Name):
            self._array_names[id(node.value)] = node.targets[0].id
        return super().do_Assign(node, mask)

    # -- paths

    def block(self, statements: list[ast.stmt], mask: Mask) -> Mask:
        loops = self._loops
        for statement in statements:
            if not mask.any:
                break
            self.frame.typed.reached.add(id(statement))
            try:
                mask = super().block([statement], mask)
            except KernelError as error:
                # In a loop, or after one, the name may get its value in a round whose types are not known yet.
                if error.finding.kind != "uninitialised-read" or not (loops or self._changed):
                    raise
                self._unset, self._loops = self._unset or error, loops
        return mask

    def loop(self, node: ast.While | ast.For, mask: Mask, head: Callable[[Mask], Any]) -> Mask:
        self.check_loop(node)
        frame, entry, key = self.frame, (mask, self.frame.variables), (id(self.frame.typed), id(node))
        _, frame.variables = self.join(node, "head", [entry, *self._back.get(key, [])])
        before = {name: type_of(value) for name, value in frame.variables.items()}
        self._loops += 1
        item = head(mask)
        inside, outside = self.branch(mask, node.test if isinstance(node, ast.While) else node)
        exits: list[Arm] = [(outside, dict(frame.variables))]
        if isinstance(node, ast.For):
            self.assign(node.target, _varied(item), inside)
        frame.loops.append(([], []))
        through = self.block(node.body, inside), frame.variables
        breaks, continues = frame.loops.pop()
        self._loops -= 1
        self._back[key] = [through, *continues]
        _, new = self.join(node, "head", [entry, *self._back[key]])
        self._changed = self._changed or before != {name: type_of(value) for name, value in new.items()}
        reached, frame.variables = self.join(node, "exit", exits + breaks)
        return reached

    def join(self, node: ast.AST, where: str, arms: list[Arm]) -> Arm:
        arms = [arm for arm in arms if arm[0].any]
        if not arms:
            return self.nobody, {}
        mask, merged = arms[0][0], dict(arms[0][1])
        for _, other in arms[1:]:
            for name, value in other.items():
                merged[name] = self.choose(merged.get(name, MISSING), value)
        casts: Variables = {}
        for name, value in merged.items():
            wanted = CONFLICT if value is CONFLICT else _plain(value)
            for _, arm in arms:
                if name in arm and (wanted is CONFLICT or _plain(arm[name]) != wanted):
                    casts[name] = wanted
        self.frame.typed.casts[id(node), where] = casts
        return mask, merged

    def choose(self, a, b):
        if a is MISSING or b is MISSING:
            return b if a is MISSING else a
        if a is b or (not is_number(a) and type_of(a) == type_of(b)):
            return a
        if is_number(a) and is_number(b):
            same_literal = isinstance(a, types.Literal) and isinstance(b, types.Literal) and a == b
            return types.Literal(a) if same_literal else varying(types.unify(a.dtype, b.dtype))
        if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
            parts = tuple(self.choose(x, y) for x, y in zip(a, b, strict=True))
            return CONFLICT if any(part is CONFLICT for part in parts) else parts
        if isinstance(a, TypedArray) and isinstance(b, TypedArray) and (a.dtype, a.ndim) == (b.dtype, b.ndim):
            return TypedArray(a.memories | b.memories, a.ndim, a.writable and b.writable)
        return CONFLICT

    def settle(self, node: ast.AST, value):
        if value is CONFLICT:
            self.reject("the two sides of this expression are of different kinds", node)
        seen = self.frame.typed.values.get(id(node))
        # Numba forgets no type that an earlier round gave: uint64 first and int64 then make a float64.
        if is_number(value) and isinstance(seen, np.dtype) and seen != value.dtype:
            value = varying(types.unify(seen, value.dtype))
        self.frame.typed.values[id(node)] = _plain(value)
        return value

    # -- values

    def eval(self, node: ast.expr, mask: Mask) -> Any:
        value = super().eval(node, mask)
        self.frame.typed.values[id(node)] = _plain(value)
        return value

    def look_up(self, name: str):
        value = super().look_up(name)
        self.lookups.append(Lookup(self.frame.source, name, value))
        return value

    def member(self, module: ModuleType, name: str):
        value = super().member(module, name)
        self.lookups.append(Lookup(module, name, value))
        return value

    def imported(self, value, name: str, node: ast.AST):
        if not isinstance(value, np.ndarray):
            return super().imported(value, name, node)
        if value.dtype not in types.DTYPES:
            self.reject(f"the constant array {name} has the type {value.dtype}", node)
        memory = Memory(name, "constant", np.empty(0, value.dtype), (), ())
        return TypedArray(frozenset([memory]), value.ndim, writable=False)

    def declare(self, space: str, node: ast.Call) -> Array:
        mask = self.everyone
        given: dict[str, ast.expr] = dict(zip(("shape", "dtype"), node.args, strict=False))
        given |= {k.arg: k.value for k in node.keywords if k.arg in ("shape", "dtype")}
        name = self._array_names.get(id(node), f"cuda.{space}.array")
        if set(given) != {"shape", "dtype"} or len(node.args) + len(node.keywords) != 2:
            self.reject(f"{ast.unparse(node.func)} takes a shape and a dtype", node)
        shape = self.eval(given["shape"], mask)
        shape = shape if isinstance(shape, tuple) else (shape,)
        for part in shape:
            if not isinstance(part, types.Literal):
                text = ast.unparse(given["shape"])
                hint = "a number, or the name of one at module level; give T + 1 a name of its own"
                self.reject(f"the shape {text} is not a constant for the compiler: write {hint}", node)
        dtype = self._declared_dtype(given["dtype"], mask)
        sizes = tuple(int(part) for part in shape)
        dynamic = space == "shared" and sizes == (0,)
        if not 1 <= len(sizes) <= 4 or (min(sizes) < 1 and not dynamic):
            self.reject(f"an array of shape {sizes} is not possible here", node)
        self.frame.typed.arrays[id(node)] = sizes, dtype, name
        known, key = self.machine.memories, (id(self.frame.typed), id(node))
        if key not in known:
            known[key] = Memory(name, space, np.empty(0, dtype), (), ())
        if dynamic:
            self._check_dynamic(dtype, node)
        elif space == "shared":
            self.shared[key] = int(np.prod(sizes)) * dtype.itemsize
        self._check_shared(node)
        return TypedArray(frozenset([known[key]]), len(sizes), writable=True)

    def _declared_dtype(self, node: ast.expr, mask: Mask) -> np.dtype:
        is_attribute = isinstance(node, ast.Attribute) and node.attr == "dtype"
        value = self.array(node.value, mask) if is_attribute else self.eval(node, mask)  # type: ignore[attr-defined]
        dtype = value.dtype if is_attribute else types.as_dtype(value)
        if dtype is None:
            self.reject(f"{ast.unparse(node)} is no type that an array can have", node)
        return dtype

    def _check_dynamic(self, dtype: np.dtype, node: ast.Call) -> None:
        if self._dynamic not in (None, dtype):
            self.reject("dynamic shared arrays of different types share their bytes, which is not supported", node)
        self._dynamic = dtype

    def _check_shared(self, node: ast.AST) -> None:
        total = sum(self.shared.values()) + self.machine.grid.shared_bytes
        if total > SHARED_PER_BLOCK:
            message = f"{total:,} bytes of shared memory per block; the limit is {SHARED_PER_BLOCK:,}"
            self.fail("shared-memory-limit", message, node)

    # -- device functions

    def call(self, node: ast.Call, function, arguments: list):
        given = getattr(function, "py_func", function)
        if given is function and not self.plain_calls:
            message = f"{ast.unparse(node.func)} is a plain function; a kernel can call it with @cuda.jit(device=True)"
            self.reject(message, node)
        try:
            source = Source(given)
        except (ValueError, TypeError) as error:
            self.reject(str(error), node)
        variables = self._bound(node, source, arguments)
        key = id(given), tuple(type_of(v) for v in variables.values())
        if key in self.known and self.known[key] is None:
            self.reject(f"{source.name} calls itself, which is not supported", node)
        typed = self.known.get(key)
        if typed is None:
            self.known[key] = None
            try:
                typed = self.known[key] = self._infer(node, source, variables)
            finally:
                if typed is None:
                    del self.known[key]
        self.frame.typed.calls[id(node)] = typed
        return typed.result_value

    def _bound(self, node: ast.Call, source: Source, arguments: list) -> Variables:
        names = source.parameters
        if node.keywords or len(arguments) != len(names):
            wanted = f"{counted(len(names), 'argument')} ({', '.join(names)})"
            self.reject(f"{source.name} takes {wanted} in order, got {len(node.args) + len(node.keywords)}", node)
        for argument, value in zip(node.args, arguments, strict=True):
            if not (is_number(value) or isinstance(value, tuple | Array)):
                self.not_a(value, "a number, a tuple or an array", argument)
        return {name: abstract(value) for name, value in zip(names, arguments, strict=True)}

    def _infer(self, node: ast.Call, source: Source, variables: Variables) -> Typed:
        caller = self.frame, self._changed, self._loops, self._unset
        typed, given = Typed(source), list(variables.values())
        self.frame, self._loops = frame, _ = Frame(typed, self.machine, variables), 0
        try:
            through = self._walk()
        finally:
            self.frame, self._changed, self._loops, self._unset = caller
        results = [value for _, value in frame.returns]
        if any(value is None for value in results) or (results and through.any):
            if any(value is not None for value in results):
                self.reject(f"{source.name} returns a value on some paths only", node)
            results = []
        result = results[0] if results else None
        for value in results[1:]:
            result = self.choose(result, value)
        if result is CONFLICT:
            self.reject(f"{source.name} returns values of different kinds", node)
        if isinstance(result, Array) and not any(result is value for value in given):
            self.reject(f"{source.name} returns an array that is not one of its arguments", node)
        typed.result, typed.result_value = _plain(result), result
        return typed


def _varied(value):
    # What a for loop takes from a tuple is no literal.
    return tuple(_varied(v) for v in value) if isinstance(value, tuple) else varying(value.dtype)


def abstract(value):
    """An argument of a function as it is seen inside: only its type is known, unless it is a literal."""
    if isinstance(value, tuple):
        return tuple(abstract(v) for v in value)
    return varying(value.dtype) if is_number(value) and not isinstance(value, types.Literal) else value
