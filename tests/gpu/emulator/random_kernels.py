"""Random kernels as source text, for the property tests: control flow over integers, and typing over six types."""

import linecache
from itertools import count

from hypothesis import strategies as st

_numbers = count()


def define(source: str, names: dict) -> dict:
    """Executes source whose lines the emulator can read; returns what it defines."""
    filename = f"<random kernel {next(_numbers)}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    namespace = dict(names)
    exec(compile(source, filename, "exec"), namespace)  # noqa: S102  the source is drawn here
    return namespace


class Writer:
    """Draws the parts of a kernel's source and writes them down."""

    def __init__(self, draw, variables: list[str]):
        self.draw, self.variables = draw, list(variables)
        self.lines: list[str] = []
        self.counters = count()

    def pick(self, options):
        return self.draw(st.sampled_from(options))

    def chance(self, percent: int) -> bool:
        return self.draw(st.integers(0, 99)) < percent

    def put(self, depth: int, text: str) -> None:
        self.lines.append("    " * depth + text)


class ControlFlow(Writer):
    """Nested ifs, loops, break, continue and return over small integers."""

    def __init__(self, draw, variables: list[str], functions: list[str], has_local: bool):
        super().__init__(draw, variables)
        self.functions, self.has_local = functions, has_local

    def expression(self, depth: int = 2) -> str:
        kind = self.draw(st.integers(0, 11 if depth else 3))
        if kind <= 2:
            return self.pick(self.variables)
        if kind == 3:
            return str(self.draw(st.integers(-9, 9)))
        a, b = self.expression(depth - 1), self.expression(depth - 1)
        if kind <= 6:
            return f"({a} {self.pick(['+', '-', '*'])} {b})"
        if kind == 7:
            return f"({a} {self.pick(['//', '%'])} ({b} % 7 + 1))"
        if kind == 8:
            return f"({a} if {self.condition(depth - 1)} else {b})"
        if kind == 9 and self.functions:
            return f"{self.pick(self.functions)}({a}, {b})"
        if kind == 10 and self.has_local:
            return f"scratch[{a} % 4]"
        return f"{self.pick(['min', 'max'])}({a}, {b})"

    def condition(self, depth: int = 2) -> str:
        kind = self.draw(st.integers(0, 6 if depth else 2))
        a, b = self.expression(max(depth - 1, 0)), self.expression(max(depth - 1, 0))
        if kind <= 2:
            return f"({a} {self.pick(['<', '<=', '>', '>=', '==', '!='])} {b})"
        if kind == 3:
            return f"({a} < {b} <= {self.expression(0)})"
        if kind == 4:
            return f"(not {self.condition(depth - 1)})"
        if kind == 5 and self.has_local:  # the right side must not be read where the left side fails
            v = self.pick(self.variables)
            return f"(0 <= {v} and {v} < 4 and scratch[{v}] > {a})"
        return f"({self.condition(depth - 1)} {self.pick(['and', 'or'])} {self.condition(depth - 1)})"

    def block(self, indent: int, depth: int, in_loop: bool, result: str) -> None:
        for _ in range(self.draw(st.integers(1, 4))):
            self.statement(indent, depth, in_loop, result)

    def statement(self, indent: int, depth: int, in_loop: bool, result: str) -> None:
        kind = self.draw(st.integers(0, 12 if depth else 3))
        if kind <= 2:
            operator = self.pick(["=", "=", "+=", "-="])
            self.put(indent, f"{self.pick(self.variables)} {operator} {self.expression()} % 101")
        elif kind == 3:
            if self.has_local:
                self.put(
                    indent, f"scratch[{self.expression(1)} % 4] {self.pick(['=', '+='])} {self.expression(1)} % 53"
                )
            else:
                a, b = self.pick(self.variables), self.pick(self.variables)
                self.put(indent, f"{a}, {b} = {b}, {a}")
        elif kind <= 6:
            self.put(indent, f"if {self.condition()}:")
            self.block(indent + 1, depth - 1, in_loop, result)
            if self.chance(30):
                self.put(indent, f"elif {self.condition()}:")
                self.block(indent + 1, depth - 1, in_loop, result)
            if self.chance(50):
                self.put(indent, "else:")
                self.block(indent + 1, depth - 1, in_loop, result)
        elif kind <= 8:
            self.put(indent, f"for i{depth} in {self.range()}:")
            if self.chance(50):
                self.put(indent + 1, f"{self.pick(self.variables)} += i{depth}")
            self.block(indent + 1, depth - 1, True, result)
        elif kind <= 10:
            name = f"n{next(self.counters)}"
            self.put(indent, f"{name} = {self.expression(1)} % 5")
            self.put(indent, f"while {name} > 0{self.pick(['', f' and {self.condition(1)}'])}:")
            self.put(indent + 1, f"{name} -= 1")
            self.block(indent + 1, depth - 1, True, result)
        elif in_loop:
            self.put(indent, f"if {self.condition()}:")
            self.put(indent + 1, self.pick(["break", "continue"]))
        else:
            self.put(indent, f"if {self.condition()}:")
            self.put(indent + 1, f"return {result}".rstrip())

    def range(self) -> str:
        kind = self.draw(st.integers(0, 4))
        if kind == 0:
            return f"({self.pick(['1, 5, 2', '-1, 0, 1', '7,'])})"
        if kind == 1:
            return f"range({self.expression(1)} % 6)"
        if kind == 2:
            return f"range({self.expression(0)} % 4, {self.expression(0)} % 7)"
        if kind == 3:
            return f"range({self.expression(0)} % 6, {self.expression(0)} % 3, -1)"
        return f"range({self.draw(st.integers(0, 4))})"


@st.composite
def control_flow(draw) -> str:
    """The source of a kernel(a, out): a (threads,) and out (threads, 4), int64; it may call two device functions."""
    lines = []
    functions: list[str] = []
    for name in ["first", "second"][: draw(st.integers(0, 2))]:
        body = ControlFlow(draw, ["x", "y"], list(functions), has_local=False)
        body.block(1, 2, False, "x - y")
        lines += [f"def {name}(x, y):", *body.lines, f"    return ({body.expression()}) % 89", ""]
        functions.append(name)
    body = ControlFlow(draw, ["u", "v", "w"], functions, has_local=draw(st.booleans()))
    if body.has_local:
        body.put(1, "scratch = cuda.local.array(4, int64)")
        body.put(1, "for k in range(4):")
        body.put(2, "scratch[k] = k * u")
    body.block(1, 3, False, "")
    start = ["def kernel(a, out):", "    t = cuda.grid(1)", "    u = a[t]", "    v = t % 5", "    w = 3"]
    end = ["    out[t, 0] = u", "    out[t, 1] = v", "    out[t, 2] = w", "    out[t, 3] = u + v - w"]
    return "\n".join([*lines, *start, *body.lines, *end]) + "\n"


class Typing(Writer):
    """Arithmetic over numbers of different types, whose types meet in branches and loops."""

    def expression(self, depth: int = 3) -> str:
        kind = self.draw(st.integers(0, 17 if depth else 4))
        if kind <= 3:
            return self.pick(self.variables)
        if kind == 4:
            return self.pick(["2", "-3", "7", "0.5", "-1.25", "3.0"])
        a, b = self.expression(depth - 1), self.expression(depth - 1)
        if kind <= 9:
            return f"({a} {self.pick(['+', '-', '*', '/'])} {b})"
        if kind == 10:
            return f"({a} {self.pick(['//', '%'])} {b})"
        if kind == 11:
            return f"({a} {self.pick(['<', '>=', '=='])} {b})"
        if kind == 12:
            return f"{self.pick(['min', 'max'])}({self.number(a)}, {self.number(b)})"
        if kind == 13:
            return f"({a} if {b} > 1 else {self.expression(depth - 1)})"
        if kind == 14:
            return self.pick([f"(-{a})", f"abs({self.number(a)})", f"math.sqrt(abs({self.number(a)}))", f"(not {a})"])
        if kind == 15:
            return f"({a} {self.pick(['and', 'or'])} {b})"
        if kind == 16:
            return f"{self.pick(['float32', 'float64'])}({a})"
        return self.pick(
            [f"({self.number(a)} ** 2)", f"({self.integer()} {self.pick(['&', '|', '^'])} {self.integer()})"]
        )

    def number(self, text: str) -> str:
        # min, max and abs take no bool
        return f"({text} + {self.pick(['0', 'x0', 'x4'])})"

    def integer(self) -> str:
        name = self.pick([v for v in self.variables if v in ("x2", "x3", "x4", "x5")])
        return self.pick([name, f"({name} >> 2)", f"({name} << 1)", f"(~{name})", f"int32({name})", f"uint8({name})"])

    def statement(self, indent: int, depth: int) -> None:
        kind = self.draw(st.integers(0, 7 if depth else 3))
        if kind <= 3:
            name = self.pick(["y0", "y1", "y2"])
            self.put(indent, f"{name} {self.pick(['=', '=', '+=', '*='])} {self.expression()}")
        elif kind <= 5:
            self.put(indent, f"if {self.expression(2)} > {self.expression(1)}:")
            self.statements(indent + 1, depth - 1)
            if self.chance(60):
                self.put(indent, "else:")
                self.statements(indent + 1, depth - 1)
        else:
            self.put(indent, f"for i{depth} in range({self.pick(['2', '3', 'x4 % 4'])}):")
            self.statements(indent + 1, depth - 1)

    def statements(self, indent: int, depth: int) -> None:
        for _ in range(self.draw(st.integers(1, 3))):
            self.statement(indent, depth)


ARGUMENTS = {"x0": "float32", "x1": "float64", "x2": "int32", "x3": "int64", "x4": "uint8", "x5": "uint32"}


@st.composite
def typing_body(draw) -> list[str]:
    """Statements, not indented, that compute y0, y1, y2 from x0 .. x5 (ARGUMENTS gives their types)."""
    body = Typing(draw, [*ARGUMENTS, "y0", "y1", "y2"])
    for name in ("y0", "y1", "y2"):
        body.put(0, f"{name} = {body.pick([*ARGUMENTS, '0', '1.5', 'float32(0)'])}")
    body.statements(0, 2)
    return body.lines
