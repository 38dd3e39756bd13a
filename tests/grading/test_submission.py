"""A kernel is taken out of its file without running the file, or refused with a reason."""

import numpy as np
import pytest

from studylib import gpu
from studylib.grading.submission import Refused, read_file, take

HEAD = "from numba import cuda, float32\nimport numpy as np\nimport math\n"
BODY = "@cuda.jit\ndef k(a, out):\n    i = cuda.grid(1)\n    if i < out.size:\n        out[i] = {}\n"


def kernel(text, tmp_path):
    return take(text, "k", tmp_path / "k.py").kernel


def run(text, tmp_path):
    out = np.zeros(4, np.float32)
    gpu.check(kernel(text, tmp_path), 1, 4, np.arange(4, dtype=np.float32), out)
    return out.tolist()


def test_nothing_of_the_file_is_executed(tmp_path):
    mark = tmp_path / "ran"
    text = f"open({str(mark)!r}, 'w')\nimport os\nos._exit(1)\n{HEAD}{BODY.format('a[i]')}while True:\n    pass\n"
    assert run(text, tmp_path) == [0, 1, 2, 3]
    assert not mark.exists()


MARK = "__import__('pathlib').Path('ran').touch()"


@pytest.mark.parametrize(
    "definition",
    [
        f"@cuda.jit\ndef f(x, *more: {MARK}):\n    return x\n",
        f"@cuda.jit\ndef f(x, **more: {MARK}):\n    return x\n",
        f'@cuda.jit("{MARK}")\ndef f(x):\n    return x\n',
        f'from numba import cfunc\nf = max(("{MARK}", 1), key=cfunc)\n',
        f'from numba import cfunc\n@cuda.jit(device=True, inline=cfunc("{MARK}"))\ndef f(x):\n    return x\n',
        f"f: {MARK} = 3\n",
        f"def f(x={MARK}):\n    return x\n",
        f"f = lambda x={MARK}: x\n",
    ],
)
def test_no_definition_is_evaluated(definition, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    take(HEAD + definition + BODY.format("a[i]"), "k", tmp_path / "k.py")
    assert not (tmp_path / "ran").exists()


def test_a_signature_is_left_out(tmp_path):
    text = HEAD + BODY.format("a[i]").replace("@cuda.jit", '@cuda.jit("void(float32[:], float32[:])")')
    assert run(text, tmp_path) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "constants, value",
    [
        ("N = 3\n", "float32(N)"),
        ("N: int = 2 + 1\n", "float32(N)"),
        ("M = 2\nN = M * 2 - 1\n", "float32(N)"),
        ("N = int(math.sqrt(9))\n", "float32(N)"),
        ("N = np.float32(3)\n", "N"),
        ("T = (1, 3)\n", "float32(T[1])"),
        ("W = np.array([1, 3], dtype=np.float32)\n", "W[1]"),
        ("@cuda.jit(device=True)\ndef f(x):\n    return x + float32(3)\n", "f(float32(0))"),
        ("def helper():\n    return 1\nN = 3\n", "float32(N)"),
        ("from numba import float32 as real\nN = 3\n", "real(N)"),
    ],
)
def test_constants_and_device_functions(constants, value, tmp_path):
    assert run(HEAD + constants + BODY.format(value), tmp_path) == [3] * 4


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "no function k with @cuda.jit"),
        ("k = 3\n", "expected a function with @cuda.jit"),
        ("def k(a, out):\n    pass\n", "a function without @cuda.jit"),
        (HEAD + "def wrap(f):\n    return f\n\n@wrap\ndef k(a, out):\n    pass\n", "decorator is not cuda.jit"),
        (HEAD + "@cuda.jit(link=['evil.ptx'])\ndef k(a, out):\n    pass\n", "cuda.jit with link"),
        (HEAD + "@cuda.jit\ndef k(a, out=open('x')):\n    pass\n", "no default values"),
        (HEAD + "class K:\n    pass\n\nk = K()\n", "not a constant expression"),
        (HEAD + "from studylib.kernels import load\nk = load('transpose').kernel\n", "not a constant expression"),
        ("def k(:\n", "is not Python: line 1"),
        ("\0", "is not Python"),
        ("(" * 5000 + ")" * 5000, "is not Python"),
        (HEAD + "N = open('x')\n" + BODY.format("N"), "uses N, and line 4 is not run"),
        (HEAD + "N = 9 ** 9 ** 9\n" + BODY.format("N"), "may be very large"),
        (HEAD + "import os\nN = os.getpid()\n" + BODY.format("N"), "uses N, and line 5"),
        (HEAD + "for N in (1, 2):\n    pass\n" + BODY.format("N"), "uses N, and line 4"),
        (
            HEAD + "import os\n@cuda.jit(device=True)\ndef f(x):\n    return x + os.getpid()\n" + BODY.format("f(1)"),
            "uses os, and line 4",
        ),
    ],
)
def test_refused_with_a_reason(text, words, tmp_path):
    with pytest.raises(Refused, match=words):
        take(text, "k", tmp_path / "k.py")


def test_a_name_is_what_it_is_last(tmp_path):
    text = f"{HEAD}N = open('x')\nN = 3\n{BODY.format('float32(N)')}"
    assert run(text, tmp_path) == [3] * 4
    with pytest.raises(Refused, match="uses N"):
        take(f"{HEAD}N = 3\nN = open('x')\n{BODY.format('float32(N)')}", "k", tmp_path / "k.py")


def test_a_patched_module_is_not_reached(tmp_path):
    before = np.float32
    text = f"{HEAD}np.float32 = None\nmath.pi = 3\nnp.pi = 3\n{BODY.format('float32(3)')}"
    assert run(text, tmp_path) == [3] * 4
    assert np.float32 is before


@pytest.mark.parametrize(
    "line",
    ["import torch", "import matplotlib.pyplot as plt", "import there_is_no_such_module", "from os import *"],
)
def test_an_import_that_is_not_needed_is_left_out_with_a_word(line, tmp_path):
    submission = take(f"{line}\n{HEAD}{BODY.format('a[i]')}", "k", tmp_path / "k.py")
    assert submission.notes == (f"line 1 is left out, because the kernel does not need it: {line}",)


def test_lone_carriage_returns_end_lines(tmp_path):
    path = tmp_path / "k.py"
    path.write_bytes((HEAD + BODY.format("a[i]")).replace("\n", "\r").encode())
    assert run(read_file(path), tmp_path) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "head, value",
    [
        ("from numba import *\nfrom numba import cuda\n", "float32(3)"),
        ("from numba import *\nfrom numba import cuda\nfrom math import *\n", "float32(sqrt(9.0))"),
        ("from numpy import *\nfrom numba import cuda\n", "float32(3)"),
    ],
)
def test_a_star_imports_what_it_says(head, value, tmp_path):
    assert run(head + BODY.format(value), tmp_path) == [3] * 4


def notes(text, tmp_path):
    return take(text, "k", tmp_path / "k.py").notes


def test_what_is_left_out_is_said(tmp_path):
    text = f'"""A file."""\n{HEAD}print("hello")\n{BODY.format("a[i]")}'
    own = "def mine():\n    pass\nif __name__ == '__main__':\n    print(k)\n"
    assert notes(text + own, tmp_path) == ('line 5 is left out, because it is not run: print("hello")',)
    signed = notes(HEAD + BODY.format("a[i]").replace("@cuda.jit", '@cuda.jit("void(int32[:], int32[:])")'), tmp_path)
    assert signed == ('line 4 is left out, because the launch says the types: @cuda.jit("void(int32[:], int32[:])")',)
    many = notes(HEAD + "print(1)\n" * 15 + BODY.format("a[i]"), tmp_path)
    assert len(many) == 11 and many[-1] == "5 more lines are left out"


def test_a_block_that_an_import_does_not_run_changes_nothing(tmp_path):
    block = "if __name__ == '__main__':\n    N = 5\n    k = 3\n"
    assert run(HEAD + "N = 3\n" + BODY.format("float32(N)") + block, tmp_path) == [3] * 4
    with pytest.raises(Refused, match="k in line 10 is no kernel"):
        run(HEAD + "N = 3\n" + BODY.format("float32(N)") + block + "else:\n    N = 4\n", tmp_path)


@pytest.mark.parametrize("change", ["L.append(4)", "L[0] = 4", "M[0].append(4)", "f()", "del L[0]", "L += [4]"])
def test_an_array_of_a_list_that_may_have_changed_is_none(change, tmp_path):
    constants = f"L = [3]\nM = [L]\ndef f():\n    L[0] = 4\n{change}\nN = np.array(L, np.float32)\n"
    with pytest.raises(Refused, match="the kernel uses N"):
        run(HEAD + constants + BODY.format("N[0]"), tmp_path)
