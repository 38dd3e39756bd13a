"""The first wall: what Numba would evaluate, or does not share with the emulator, is refused by name before anything reads it."""

import pytest

from studylib.grading.judge import judge

MARK = "__import__('pathlib').Path('ran').touch()"
KERNEL = """
from math import ceil
import math

import numba
import numpy as np
from numba import cuda, float32, objmode

BLOCK = 256
FLAG = 0
{above}

@cuda.jit
def vector_add(a, b, out):
    i = cuda.grid(1)
    flag = 1
    if i < out.size:
        flag = 0
        {inside}
        out[i] = a[i] + b[i]
"""


def judged(tmp_path, inside="pass", above=""):
    path = tmp_path / "vector_add.py"
    path.write_text(KERNEL.format(inside=inside, above=above), encoding="utf-8")
    return judge("vector_add", path=path)


REFUSED = {
    f'f = lambda p, q="{MARK}": p': "a lambda",
    f'if flag:\n            f = lambda p, q="{MARK}": p': "a lambda",
    f'if FLAG:\n            f = lambda p, q="{MARK}": p': "a lambda",
    f'if flag:\n            with objmode(y="{MARK}"):\n                y = 1': "with (objmode",
    f'def f(p, q="{MARK}"):\n            return p': "a function inside a kernel",
    "class C:\n            pass": "a class",
    "v = [q for q in range(3)]": "a comprehension",
    "v = max(q for q in range(3))": "a comprehension",
    f'v = [(lambda p, q="{MARK}": p) for q in range(3)]': "a comprehension",
    "v = {}": "a dict",
    "v = {1}": "a set",
    "v = [1, 2]": "a list",
    "v = a[0:2]": "a slice",
    "try:\n            pass\n        finally:\n            pass": "try",
    "raise ValueError": "raise",
    "assert flag": "assert",
    "import os": "import",
    "from os import path": "import",
    "global FLAG": "global",
    "del flag": "del",
    "v: int = 3": "an annotated assignment",
    "v = (w := 3)": ":=",
    "v = f'{i}'": "an f-string",
    "v = 'text'": "'text'",
    "v = b'text'": "b'text'",
    "v = 3j": "3j",
    "v = ...": "Ellipsis",
    "v = max(*(1, 2))": "*",
    "v = max(1, 2, key=abs)": "key=",
    "v = max(1, 2, **{})": "**",
    "v = yes if (yield) else 3": "Yield",
    "v = a @ b": "@",
    "v = a.__class__": "a.__class__",
    "v = a.T": "a.T",
    "v = cuda.jit": "cuda.jit",
    "v = np.load": "np.load",
    "v = numba.core": "numba.core",
    "v = math.__dict__": "math.__dict__",
    "v = eval('1')": "eval",
    "v = exec": "exec",
    "v = open": "open",
    "v = getattr(a, i)": "getattr",
    "v = globals()": "globals",
    "v = __import__": "__import__",
    "v = __builtins__": "__builtins__",
    "v = type(a)": "type",
    "v = vars": "vars",
    "v = objmode": "objmode",
    "v = (print)(print)(3)": "with a name",
    "v = -" + "-" * 150 + "i": "levels within each other",
}


@pytest.mark.parametrize("inside", REFUSED)
def test_refused_by_name(inside, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    verdict = judged(tmp_path, inside)
    assert not verdict.passed and verdict.stage("right").status == "skipped", str(verdict)
    text = next(stage.text for stage in verdict.stages if stage.status == "failed")
    assert REFUSED[inside] in text and "line " in text
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("inside", [text for text in REFUSED if "yield" not in text and "global" not in text])
def test_refused_in_a_function_that_it_calls(inside, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = inside.replace("\n        ", "\n    ")
    above = f"@cuda.jit(device=True)\ndef helper(a, b, i, flag):\n    {lines}\n    return i\n"
    for call in ("helper(a, b, i, flag)", "other(a, b, i, flag)"):
        other = "@cuda.jit(device=True)\ndef other(a, b, i, flag):\n    return helper(a, b, i, flag)\n"
        verdict = judged(tmp_path, f"if FLAG:\n            v = {call}", above + other)
        text = next((stage.text for stage in verdict.stages if stage.status == "failed"), "passes")
        assert REFUSED[inside] in text, text
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "inside",
    [
        "'''A text that nobody reads.'''",
        "for _ in range(3):\n            continue",
        "while flag > 0:\n            flag -= 1",
        "v = math.sqrt(float32(3)) if i > 2 and not flag else abs(-i)",
        "v, (w, u) = i, (1, 2)",
        "v = np.float32(math.pi) + numba.int32(3)",
        "c = cuda.local.array(shape=(2, 3), dtype=float32)\n        c[0, 1] = 3",
        "v = a.shape[0] + len(a)",
        "pass",
    ],
)
def test_what_the_emulator_and_the_compiler_share_is_judged(inside, tmp_path):
    verdict = judged(tmp_path, inside)
    assert verdict.passed, str(verdict)


@pytest.mark.parametrize("name", ["__name__", "__builtins__"])
def test_pythons_own_names_stay(name, tmp_path):
    assert judged(tmp_path, above=f"{name} = 3").passed


@pytest.mark.parametrize(
    "constant",
    [
        "(0,) * 10**9",
        "np.zeros(10**12)",
        "np.zeros((10**6, 10**6))",
        "np.full(shape=10**12, fill_value=1)",
        "np.arange(0, 1, 1e-15)",
        "np.linspace(0, 1, 10**10)",
        "math.factorial(10**7)",
        "math.comb(10**6, 10**5)",
        "2 ** 10 ** 10",
        "'x' * 10**10",
        "'%1000000000d' % 1",
        "float('1' * 10**9)",
        "max((1, 2), key=exec)",
        "[].append",
        "().__class__.__bases__",
        "np.lib",
        "np.array(1, dtype='O')",
        "(lambda: 1)()",
        "__import__('os')",
        "__builtins__",
        "exec",
    ],
)
def test_a_constant_that_cannot_be_had_is_refused(constant, tmp_path):
    verdict = judged(tmp_path, "v = N", f"N = {constant}")
    assert not verdict.passed and verdict.stages[-1].status != "passed", str(verdict)
