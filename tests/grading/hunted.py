"""Attempts on the judge, each with what must come of it, from hunts by people who wanted to cheat it, break it or trick it.

The first half was written before the judge's code was read, the second after. `test_hunted` judges all. In a text MARK is
the name of a file that does not exist: what makes it has run. `stage` is the one that fails, or "passed" for what does no
harm and is right; `says` is a part of the reason.
"""

from __future__ import annotations

from typing import NamedTuple


class Attempt(NamedTuple):
    """One submission. tries: what its author hopes that it does."""

    name: str
    tries: str
    exercise: str
    text: str | bytes
    stage: str
    says: str


ATTEMPTS: list[Attempt] = []
ENDED_BY_TIME: list[Attempt] = []  # judged with less time than the others
TOP = "from math import ceil\n\nfrom numba import cuda\n\nBLOCK = 256\n\n\n"
HEAD = "@cuda.jit\ndef vector_add(a, b, out):\n"
RIGHT = "    i = cuda.grid(1)\n    if i < out.size:\n        out[i] = a[i] + b[i]\n"
TAIL = "\n\ndef launch(kernel, a, b, out):\n    kernel[ceil(out.size / BLOCK), BLOCK](a, b, out)\n"
RUN = "open('MARK', 'w')"
QUOTED = RUN.replace("'", "\\'")
SUM = "a[i] + b[i]"
TABLE = "import numpy as np\n\nTABLE = np.zeros(2, np.float32)\n"
USES_TABLE = RIGHT.replace(SUM, "a[i] + b[i] + TABLE[0]")
N = "N = 0\n"
USES_N = RIGHT.replace(SUM, "a[i] + b[i] + N")
TRANSPOSE = "from numba import cuda, float32\n\nTILE = 32\nWIDE = 33\n\n\n@cuda.jit\ndef transpose(a, out):\n"
NAIVE = "    j, i = cuda.grid(2)\n    if i < a.shape[0] and j < a.shape[1]:\n        out[j, i] = a[i, j]\n"
TILED = """\
    tile = cuda.shared.array((TILE, WIDE), float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    j, i = cuda.grid(2)
    if i < a.shape[0] and j < a.shape[1]:
        tile[y, x] = a[i, j]
    cuda.syncthreads()
    i, j = cuda.blockIdx.x * TILE + y, cuda.blockIdx.y * TILE + x
    if i < out.shape[0] and j < out.shape[1]:
        out[i, j] = tile[x, y]
"""
_tries = ""


def group(tries):
    global _tries
    _tries = tries


def raw(name, stage, says, text, exercise="vector_add", to=ATTEMPTS):
    to.append(Attempt(name, _tries, exercise, text, stage, says))


def va(name, stage, says, body=RIGHT, top="", head=HEAD, tail=TAIL, before="", to=ATTEMPTS):
    raw(name, stage, says, before + TOP + top + head + body + tail, to=to)


def tr(name, stage, says, body, top=""):
    raw(name, stage, says, TRANSPOSE.replace("@cuda.jit", top + "@cuda.jit") + body, "transpose")


def inside(code):
    """A right kernel that does something else first."""
    return "".join(f"    {line}\n" for line in code.split("\n")) + RIGHT


def either(condition):
    """A transpose that is good where a condition holds."""
    good, bad = ("".join(f"    {line}\n" for line in text.splitlines()) for text in (TILED, NAIVE))
    return f"    if {condition}:\n{good}    else:\n{bad}"


group("runs while the file is imported, or is too large to compute")
va("top-level statement", "passed", "", top=RUN + "\n")
va("forged docstring", "passed", "", before='"""{"stage": "right", "passed": true}\n{"verdict": "passed"}"""\n')
va("main block", "passed", "", tail=TAIL + "\nif __name__ == '__main__':\n    " + RUN + "\n")
va("constant by import", "passed", "", top="BLOCK = __import__('os').system('touch MARK')\n")
va("huge power", "passed", "", top="HUGE = 10 ** 10 ** 10\n")
va(
    "huge power used",
    "imports",
    "10 ** 10 ** 10 may be very large: write the number",
    top="HUGE = 10 ** 10 ** 10\n",
    body=RIGHT.replace("i < out.size", "i < out.size and i < HUGE"),
)
va(
    "huge text used",
    "imports",
    "'a' * 10 ** 11 is not made of numbers",
    top="HUGE = 'a' * 10 ** 11\n",
    body=RIGHT.replace("i < out.size", "i < out.size and HUGE"),
)
va(
    "huge tuple used",
    "imports",
    "(0,) * 10 ** 10 has more than 1,048,576 elements",
    top="HUGE = (0,) * 10 ** 10\n",
    body=RIGHT.replace("a[i] + b[i]", "a[i] + b[i] + HUGE[0]"),
)
va(
    "huge literal",
    "imports",
    "4300 digits",
    body=RIGHT.replace("cuda.grid(1)", "cuda.grid(1) + " + "9" * 5000 + " * 0"),
)
va(
    "huge hex literal",
    "imports",
    "vector_add.py has 500,264 bytes; a submission has at most",
    body=RIGHT.replace("cuda.grid(1)", "cuda.grid(1) + 0x" + "f" * 500000 + " * 0"),
)
va(
    "power at run time",
    "passed",
    "",
    body=RIGHT.replace("    if", "    k = i + 9\n    for _ in range(9):\n        k = k ** k\n    if").replace(
        "a[i] + b[i]", "a[i] + b[i] + 0 * k"
    ),
)
va(
    "tuple in the kernel",
    "right",
    "a number is needed here, and (0,) is a tuple",
    body=RIGHT.replace("cuda.grid(1)", "cuda.grid(1) + 0 * ((0,) * 10 ** 10)[0]"),
)
va(
    "text in the kernel",
    "compiles",
    "line 10: the constant 'a' is not supported in a kernel",
    body="    'a' * 10 ** 11\n" + RIGHT,
)
group("is evaluated where a function is defined")
va(
    "lambda default",
    "compiles",
    "line 11: a lambda is not supported in a kernel",
    body='    if False:\n        f = lambda x="' + QUOTED + '": x\n' + RIGHT,
)
va(
    "default runs",
    "imports",
    "a kernel has no default values",
    head="@cuda.jit\ndef vector_add(a, b, out=" + RUN + "):\n",
)
va(
    "default string",
    "imports",
    "a kernel has no default values",
    head='@cuda.jit\ndef vector_add(a, b, out="' + QUOTED + '"):\n',
)
va("annotation runs", "passed", "", head="@cuda.jit\ndef vector_add(a: " + RUN + ", b, out):\n")
va(
    "annotation string",
    "passed",
    "",
    head='@cuda.jit\ndef vector_add(a: "' + QUOTED + '", b, out) -> "exec(\'1/0\')":\n',
)
va(
    "annotated variable",
    "compiles",
    "line 10: an annotated assignment is not supported in a kernel",
    body=RIGHT.replace("i = ", "i: " + RUN + " = "),
)
va(
    "decorator link",
    "imports",
    "cuda.jit with link is not judged; possible: debug, device,",
    head="@cuda.jit(link=['MARK.cu'])\ndef vector_add(a, b, out):\n",
)
va(
    "decorator extensions",
    "imports",
    "cuda.jit with extensions is not judged; possible: debug,",
    head="@cuda.jit(extensions=[" + RUN + "])\ndef vector_add(a, b, out):\n",
)
va(
    "decorator signature",
    "passed",
    "",
    head="@cuda.jit('void(float32[:], float32[:], float32[:])')\ndef vector_add(a, b, out):\n",
)
va("decorator signature runs", "passed", "", head='@cuda.jit("void(' + QUOTED + ')")\ndef vector_add(a, b, out):\n')
va(
    "decorator lambda",
    "imports",
    "its decorator is not cuda.jit",
    head="@(lambda f: " + RUN + ")\ndef vector_add(a, b, out):\n",
)
va(
    "decorator subscript",
    "imports",
    "its decorator is not cuda.jit",
    head="@[cuda.jit, " + RUN + "][0]\ndef vector_add(a, b, out):\n",
)
va(
    "two decorators",
    "imports",
    "it is a function without @cuda.jit, or with more than that",
    head="@print\n@cuda.jit\ndef vector_add(a, b, out):\n",
)
va(
    "decorator cache",
    "imports",
    "cuda.jit with cache is not judged; possible: debug, device,",
    head="@cuda.jit(cache=True)\ndef vector_add(a, b, out):\n",
)
va(
    "decorator device",
    "imports",
    "vector_add is a device function, which cannot be launched:",
    head="@cuda.jit(device=True)\ndef vector_add(a, b, out):\n",
)
va(
    "jit by call",
    "imports",
    "cuda.jit(f) is not a constant expression: write the number",
    head="def f(a, b, out):\n",
    tail="\n\nvector_add = cuda.jit(f)\n" + TAIL,
)
va(
    "async kernel",
    "imports",
    "it is not an import, a constant or a kernel",
    head="@cuda.jit\nasync def vector_add(a, b, out):\n",
)
va(
    "star kernel",
    "imports",
    "vector_add (vector_add.py, line 8) takes *args, **kwargs or",
    head="@cuda.jit\ndef vector_add(*all):\n    a, b, out = all\n",
)
va("keyword kernel", "imports", "a kernel has no default values", head="@cuda.jit\ndef vector_add(a, b, *, out):\n")
va(
    "more parameters",
    "imports",
    "vector_add takes 4 arguments, expected 3: (a, b, out)",
    head="@cuda.jit\ndef vector_add(a, b, c, out):\n",
)
va("type parameters", "imports", "", head="@cuda.jit\ndef vector_add[T: " + RUN + "](a, b, out):\n")
va(
    "class with getitem",
    "imports",
    "it is not an import, a constant or a kernel",
    top="class vector_add:\n    def __class_getitem__(cls, n):\n        " + RUN + "\n        return print\n\n\n",
    head="def other(a, b, out):\n",
)
va(
    "kernel twice, right first",
    "right",
    "out[1] is outside its shape (1,), in thread 1 of block 0 and",
    tail="\n\n" + HEAD + "    i = cuda.grid(1)\n    out[i] = 0\n" + TAIL,
)
va(
    "kernel under if",
    "imports",
    "it is not an import, a constant or a kernel",
    head="if True:\n    @cuda.jit\n    def vector_add(a, b, out):\n",
    body=RIGHT.replace("    ", "        ").replace("            out", "            out"),
)
va("kernel deleted", "imports", "it is not an import, a constant or a kernel", tail=TAIL + "\ndel vector_add\n")
va("kernel rebound", "imports", "expected a function with @cuda.jit", tail=TAIL + "\nvector_add = 3\n")
va(
    "launch does the work",
    "right",
    "out is wrong",
    body="    i = cuda.grid(1)\n",
    tail="\n\ndef launch(kernel, a, b, out):\n    out[:] = a + b\n",
)
va(
    "graders part",
    "right",
    "out is wrong",
    body="    out[0] = 1\n",
    tail=TAIL
    + "\n# BEGIN GRADER\ndef reference(a, b):\n    return 0 * a\n\n\ndef cases(rng):\n    return iter(())\n\n\nBUDGET = {}\nMUTANTS = []\n",
)
group("calls what is no part of a kernel")
va(
    "objmode",
    "compiles",
    "line 13: with (objmode()) is not supported in a kernel",
    top="from numba import objmode\n\n\n",
    body=inside("with objmode():\n    " + RUN),
)
va(
    "dead objmode",
    "compiles",
    "line 14: with (objmode()) is not supported in a kernel",
    top="from numba import objmode\n\n\n",
    body=inside("if False:\n    with objmode():\n        " + RUN),
)
va("open in the kernel", "compiles", "line 10: open is not supported in a kernel", body=inside(RUN))
va("dead open", "compiles", "line 11: open is not supported in a kernel", body=inside("if False:\n    " + RUN))
va(
    "import in the kernel",
    "compiles",
    "line 10: import is not supported in a kernel",
    body=inside("import os\nos.system('touch MARK')"),
)
va(
    "global",
    "compiles",
    "line 13: global is not supported in a kernel",
    top="count = 0\n\n\n",
    body=inside("global count\ncount += 1"),
)
va(
    "nonlocal",
    "imports",
    "no binding for nonlocal 'count' found (vector_add.py, line 10)",
    body=inside("nonlocal count\ncount = 1"),
)
va(
    "inner function",
    "compiles",
    "line 10: a function inside a kernel is not supported in a kernel",
    body=inside("def f(x='1'):\n    return x\nf()"),
)
va(
    "match",
    "compiles",
    "line 10: match is not supported in a kernel",
    body=inside("match a.size:\n    case 1:\n        pass"),
)
va("type statement", "imports or compiles", "", body=inside("type X = int"))
va(
    "except star",
    "compiles",
    "line 10: try is not supported in a kernel",
    body=inside("try:\n    pass\nexcept* ValueError:\n    pass"),
)
va("f-string in the kernel", "compiles", "line 10: an f-string is not supported in a kernel", body=inside("f'{a!r}'"))
va(
    "walrus in the kernel",
    "compiles",
    "line 10: an assignment in an expression (:=) is not supported",
    body="    if (i := cuda.grid(1)) < out.size:\n        out[i] = a[i] + b[i]\n",
)
va(
    "raise",
    "compiles",
    "line 11: raise is not supported in a kernel",
    body=inside("if a.size < 0:\n    raise ValueError"),
)
va("delete element", "compiles", "line 10: del is not supported in a kernel", body=inside("del a[0]"))
va("print", "passed", "", body=RIGHT + "    print('passed')\n")
va(
    "getattr",
    "compiles",
    "line 10: only a function with a name can be called in a kernel",
    body=inside("getattr(a, 'tofile')('MARK')"),
)
va(
    "tofile",
    "compiles",
    "line 10: the attribute a.tofile is not supported in a kernel",
    body=inside("a.tofile('MARK')"),
)
va(
    "class attribute",
    "compiles",
    "line 10: the attribute a.__class__.__base__.__subclasses__ is",
    body=inside("k = a.__class__.__base__.__subclasses__()"),
)
va(
    "dunder of a number",
    "compiles",
    "line 10: the attribute 1 .__class__ is not supported in a kernel",
    body=inside("k = (1).__class__"),
)
va(
    "text format",
    "compiles",
    "line 10: the attribute '{0.__class__}'.format is not supported",
    body=inside("'{0.__class__}'.format(a)"),
)
va("ctypes", "compiles", "line 10: the attribute a.ctypes.data is not supported in a", body=inside("k = a.ctypes.data"))
va("fill", "compiles", "line 10: the attribute out.fill is not supported in a kernel", body="    out.fill(0)\n")
va("whole array", "compiles", "line 10: a slice is not supported in a kernel", body="    out[:] = a + b\n")
va(
    "slice",
    "compiles",
    "line 11: a slice is not supported in a kernel",
    body="    i = cuda.grid(1)\n    out[i:i + 1] = a[i:i + 1] + b[i:i + 1]\n",
)
va(
    "strides",
    "compiles",
    "line 11: the attribute out.strides is not supported in a kernel",
    body=RIGHT.replace("out.size", "out.shape[0] * out.strides[0] // 4"),
)
va(
    "np.frombuffer",
    "compiles",
    "line 13: the attribute np.frombuffer is not supported in a",
    top="import numpy as np\n\n\n",
    body=inside("np.frombuffer(a)"),
)
va(
    "np.memmap",
    "compiles",
    "line 13: the attribute np.memmap is not supported in a kernel",
    top="import numpy as np\n\n\n",
    body=inside("np.memmap('MARK', mode='w+', shape=3)"),
)
va(
    "literally",
    "compiles",
    "line 13: literally is not supported in a kernel",
    top="from numba import literally\n\n\n",
    body=inside("literally(a.size)"),
)
va(
    "overload",
    "passed",
    "",
    top="from numba.extending import overload\n\n\n@overload(len)\ndef f(x):\n    " + RUN + "\n\n\n",
)
va(
    "generated_jit",
    "imports",
    "its decorator is not cuda.jit",
    top="from numba import generated_jit\n\n\n@generated_jit\ndef f(x):\n    " + RUN + "\n\n\n",
    body=inside("f(3)"),
)
va(
    "njit device",
    "imports",
    "its decorator is not cuda.jit",
    top="from numba import njit\n\n\n@njit\ndef f(x, y):\n    return x + y\n\n\n",
    body=RIGHT.replace("a[i] + b[i]", "f(a[i], b[i])"),
)
va(
    "device function",
    "passed",
    "",
    top="@cuda.jit(device=True)\ndef f(x, y):\n    return x + y\n\n\n",
    body=RIGHT.replace("a[i] + b[i]", "f(a[i], b[i])"),
)
va(
    "device default",
    "imports",
    "a kernel has no default values",
    top='@cuda.jit(device=True)\ndef f(x, y="' + QUOTED + '"):\n    return x\n\n\n',
    body=RIGHT.replace("a[i] + b[i]", "f(a[i]) + b[i]"),
)
va(
    "device recursion",
    "right",
    "f calls itself, which is not supported",
    top="@cuda.jit(device=True)\ndef f(x):\n    return f(x + 1)\n\n\n",
    body=RIGHT.replace("a[i] + b[i]", "a[i] + b[i] + f(0)"),
)
va(
    "mutual recursion",
    "right",
    "g calls itself, which is not supported",
    top="@cuda.jit(device=True)\ndef f(x):\n    return g(x + 1)\n\n\n@cuda.jit(device=True)\ndef g(x):\n    return f(x + 1)\n\n\n",
    body=RIGHT.replace("a[i] + b[i]", "a[i] + b[i] + f(0)"),
)
va(
    "declare_device",
    "imports",
    "cuda.declare_device('f', 'int32(int32)') is not a constant",
    top="f = cuda.declare_device('f', 'int32(int32)')\n\n\n",
    body=inside("f(3)"),
)
va(
    "device array",
    "compiles",
    "line 10: the attribute cuda.device_array is not supported in a",
    body=inside("cuda.device_array(10)"),
)
va(
    "synchronize",
    "compiles",
    "line 10: the attribute cuda.synchronize is not supported in a",
    body=inside("cuda.synchronize()"),
)
va(
    "is_available",
    "compiles",
    "line 10: the attribute cuda.is_available is not supported in a",
    body=inside("if cuda.is_available():\n    return"),
)
va(
    "hasattr",
    "compiles",
    "line 10: hasattr is not supported in a kernel",
    body=inside("if hasattr(a, 'copy_to_host'):\n    return"),
)
va(
    "const table",
    "passed",
    "",
    top="import numpy as np\n\nTABLE = np.array([1.0, 2.0], np.float32)\n\n\n",
    body=RIGHT.replace("    if", "    t = cuda.const.array_like(TABLE)\n    if").replace(
        "a[i] + b[i]", "a[i] * t[0] + b[i]"
    ),
)
group("takes what another module has")
raw(
    "solution imported",
    "imports",
    "exercise.solution('vector_add') is not a constant expression:",
    "import importlib\nfrom studylib.kernels import exercise\nvector_add = exercise.solution('vector_add')\n",
)
raw(
    "solution loaded",
    "imports",
    "vector_add.py has no function vector_add with @cuda.jit",
    "import pathlib, studylib\nexec(pathlib.Path(studylib.__file__).parent.joinpath('kernels/01_intro_depthwise/vector_add.py').read_text())\n",
)
va(
    "star os",
    "compiles",
    "line 13: the constant 'touch ",
    top="from os import *\n\n\n",
    body=inside("system('touch MARK')"),
)
va(
    "os as cuda",
    "compiles",
    "line 11: the attribute cuda.system is not supported in a kernel",
    before="import os as cuda\n",
    body=inside("cuda.system('touch MARK')"),
)
va(
    "cuda rebound after",
    "imports",
    "only math, numba, numba.cuda, numba.types, numpy are imported,",
    tail=TAIL + "\nimport os as cuda\n",
    body=inside("cuda.system('touch MARK')"),
)
va("cuda a number after", "right", "the attribute cuda.grid is not supported in a kernel", tail=TAIL + "\ncuda = 3\n")
va(
    "reference called",
    "right",
    "the name reference is not defined",
    body=RIGHT.replace("a[i] + b[i]", "reference(a, b)[i]"),
)
va(
    "cuda's os",
    "compiles",
    "line 10: the attribute cuda.cudadrv.os.system is not supported",
    body=inside("cuda.cudadrv.os.system('touch MARK')"),
)
va(
    "math's loader",
    "compiles",
    "line 13: the attribute math.__loader__.load_module('os').system",
    top="import math\n\n\n",
    body=inside("math.__loader__.load_module('os').system('touch MARK')"),
)
va("star cuda", "passed", "", before="from numba.cuda import *\n", body=RIGHT.replace("cuda.grid", "grid"))
va(
    "libdevice",
    "compiles",
    "line 15: the attribute libdevice.fadd_rn is not supported in a",
    top="from numba.cuda import libdevice\n\n\n",
    body=RIGHT.replace("a[i] + b[i]", "libdevice.fadd_rn(a[i], b[i])"),
)
va(
    "min shadowed",
    "right",
    "a for loop runs over range(...) or over a tuple",
    top="@cuda.jit(device=True)\ndef range(n):\n    return n\n\n\n",
    body=RIGHT + "    for k in range(3):\n        pass\n",
)
va(
    "float32 a number",
    "right",
    "a kernel cannot call float32 here; a function of your own needs",
    top="float32 = 3\n\n\n",
    body=RIGHT.replace("a[i] + b[i]", "float32(a[i]) + b[i]"),
)
group("reads otherwise than it looks")
va("wide name of the kernel", "passed", "", head="@cuda.jit\ndef \uff56ector_add(a, b, out):\n")
va(
    "wide open",
    "compiles",
    "line 10: open is not supported in a kernel",
    body=inside(RUN.replace("open", "\uff4f\uff50\uff45\uff4e")),
)
va(
    "wide dunder",
    "imports",
    "line 10: invalid character '＿' (U+FF3F)",
    body=inside("k = a.\uff3f\uff3fclass\uff3f\uff3f"),
)
va(
    "ligature",
    "compiles",
    "line 11: the attribute out.fill is not supported in a kernel",
    body=inside("\ufb01ll = 1\nout.\ufb01ll(0)"),
)
va("bidi text", "passed", "", body="    '\u202e)tuo ,b ,a('\n" + RIGHT)
va("form feed", "passed", "", body=RIGHT.replace("    i =", "\f    i ="))
va("null byte", "imports", "null bytes", body=RIGHT + "    # \0\n")
raw("bom", "passed", "", b"\xef\xbb\xbf" + (TOP + HEAD + RIGHT + TAIL).encode())
raw("utf-16", "imports", "vector_add.py is not UTF-8: byte 0 is 0xff", (TOP + HEAD + RIGHT + TAIL).encode("utf-16"))
raw("latin-1", "passed", "", ("# -*- coding: latin-1 -*-\n# \xe9\n" + TOP + HEAD + RIGHT + TAIL).encode("latin-1"))
raw(
    "rot13",
    "imports",
    "vector_add.py declares the encoding rot13: save it as UTF-8,",
    "# coding: rot13\n" + TOP + HEAD + RIGHT + TAIL,
)
raw(
    "unknown coding",
    "imports",
    "vector_add.py declares the encoding nothing: save it as UTF-8,",
    "# coding: nothing\n" + TOP + HEAD + RIGHT + TAIL,
)
raw(
    "surrogates",
    "imports",
    "vector_add.py is not UTF-8: byte 2 is 0xed",
    b"# \xed\xa0\x80\n" + (TOP + HEAD + RIGHT + TAIL).encode(),
)
raw("escape characters", "passed", "", TOP + HEAD + RIGHT + "    # \x1b]0;passed\x07\x1b[2J\n" + TAIL)
va(
    "escape in the finding",
    "right",
    "a[1] is outside its shape (1,), in thread 1 of block 0 and 254",
    body=RIGHT.replace("if i < out.size:", "if True:  # \x1b[2J\x1b[32mpassed"),
)
va(
    "html in the finding",
    "right",
    "a[1] is outside its shape (1,), in thread 1 of block 0 and 254",
    body=RIGHT.replace("if i < out.size:", "if True:").replace(
        "a[i] + b[i]", "a[i] + b[i]  # </pre><script>alert(1)</script>"
    ),
)
va("html in a syntax error", "imports", "line 10: invalid syntax", body="    <script>alert(1)</script>\n")
va(
    "workflow command",
    "compiles",
    "line 10: the constant '\\n::error::forged' is not supported in a",
    body="    out[0] = '\\n::error::forged'\n",
)
va(
    "vertical tab",
    "imports",
    "line 10: invalid non-printable character U+000B",
    body=RIGHT.replace("i = cuda", "i =\x0bcuda"),
)
raw("ctrl-z", "imports", "line 17: invalid non-printable character U+001A", TOP + HEAD + RIGHT + TAIL + "\x1a")
raw("carriage returns", "passed", "", (TOP + HEAD + RIGHT + TAIL).replace("\n", "\r"))
group("uses up time, memory or the parser")
va(
    "parentheses",
    "imports",
    "line 12: too many nested parentheses",
    body=RIGHT.replace("a[i] +", "(" * 5000 + "a[i]" + ")" * 5000 + " +"),
)
va("minus signs", "imports", "", body=RIGHT.replace("a[i] +", "-" * 100000 + "a[i] +"))
va(
    "long sum",
    "imports",
    "vector_add.py has 400,255 bytes; a submission has at most",
    body=RIGHT.replace("a[i] + b[i]", "a[i] + b[i]" + " + 0" * 100000),
)
va("minus signs in a constant", "imports", "", top="K = " + "-" * 100000 + "1\n")
va(
    "endless",
    "right",
    "the loop does not end: nothing in the loop changes its",
    body=RIGHT + "    while True:\n        pass\n",
)
va(
    "endless for one",
    "right",
    "the loop does not end: what its end depends on does not change",
    body=RIGHT + "    while i == 0:\n        i *= 1\n",
)
va(
    "a long range in a function",
    "right",
    "the loop does not end: nothing in the loop changes its",
    top="@cuda.jit(device=True)\ndef f(x):\n    while True:\n        x += 1\n    return x\n\n\n",
    body=RIGHT + "    f(3)\n",
)
va(
    "large shared",
    "right",
    "40,000,000,000 bytes of shared memory per block; the limit is",
    top="from numba import float32\n\n\n",
    body="    s = cuda.shared.array(10 ** 10, float32)\n" + RIGHT,
)
va(
    "negative shared",
    "right",
    "an array of shape (-4,) is not possible here",
    top="from numba import float32\n\n\n",
    body="    s = cuda.shared.array(-4, float32)\n" + RIGHT,
)
va(
    "shared of text",
    "compiles",
    "line 10: the constant \"open('",
    body='    s = cuda.shared.array("' + QUOTED + "\", 'float32')\n" + RIGHT,
)
va(
    "dtype of text",
    "compiles",
    "line 10: the constant \"open('",
    body='    s = cuda.shared.array(32, "' + QUOTED + '")\n' + RIGHT,
)
va(
    "shared of many dimensions",
    "right",
    "an array of shape (1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,",
    top="from numba import float32\n\n\n",
    body="    s = cuda.shared.array((" + "1, " * 200 + "), float32)\n" + RIGHT,
)
va(
    "long sleep",
    "compiles",
    "line 10: the attribute cuda.nanosleep is not supported in a",
    body=inside("cuda.nanosleep(10 ** 9)"),
)
group("remembers what an earlier run did")
va(
    "counter in a list",
    "compiles",
    "line 13: COUNT is not supported in a kernel",
    top="COUNT = [0]\n\n\n",
    body=inside("COUNT[0] += 1"),
)
va(
    "counter in an array",
    "right",
    "COUNT is constant or read-only: nothing is stored",
    top="import numpy as np\n\nCOUNT = np.zeros(1)\n\n\n",
    body=inside("COUNT[0] += 1"),
)
va(
    "counter in a function",
    "compiles",
    "line 15: the attribute f.count is not supported in a kernel",
    top="@cuda.jit(device=True)\ndef f(x):\n    return x\n\n\n",
    body=inside("f.count = 1"),
)
va(
    "right once: shared memory left",
    "safe",
    "uninitialised-read",
    top="from numba import float32\n\n\n",
    body="    s = cuda.shared.array(32, float32)\n    if s[0] == 7:\n        return\n    s[0] = 7\n" + RIGHT,
)
va("parameter rebound", "right", "out is wrong in 1 of 1 element", body=inside("a = b"))
group("is right only where it is checked")
va(
    "known sizes",
    "right",
    "drawn: out is wrong",
    body="    i = cuda.grid(1)\n    n = out.size\n    if n == 1 or n == 256 or n == 1000 or n == 1024:\n        if i < n:\n            out[i] = a[i] + b[i]\n    elif i < n:\n        out[i] = a[i]\n",
)
va(
    "wraps",
    "right",
    "the constant 18446744073709551616 is not supported in a kernel",
    body=RIGHT.replace("i < out.size:", "i < out.size and (1 << 62) * 4 * (i + 1) == 0:"),
)
va(
    "sequential blocks",
    "budget",
    "global writes a thread: 2 of 1 TOO MANY",
    body="    i = cuda.grid(1)\n    if i < out.size:\n        out[i] = a[i] + b[i]\n    if i > 256:\n        out[i - 256] = a[i - 256] + b[i - 256]\n",
)
va(
    "reads out",
    "right",
    "out is wrong in 1 of 1 element",
    body=RIGHT.replace("a[i] + b[i]", "a[i] + b[i] + 0 * out[i]"),
)
va(
    "writes an input",
    "right",
    "the kernel changes its input a",
    body=RIGHT + "    if i < out.size:\n        a[i] = 0\n",
)
va(
    "nan",
    "right",
    "out is wrong in 1 of 1 element",
    top="import math\n\n\n",
    body=RIGHT.replace("a[i] + b[i]", "math.nan"),
)
va("nothing", "attempted", "not attempted yet: the kernel is as it was given", body="    pass\n")
va(
    "one thread does it all",
    "budget",
    "global writes a thread: 1024 of 1 TOO MANY",
    body="    if cuda.grid(1) == 0:\n        for i in range(out.size):\n            out[i] = a[i] + b[i]\n",
)
va(
    "float index",
    "right",
    "an index must be an integer, and this is a float64; divide with",
    body=RIGHT.replace("out[i] =", "out[i * 1.0] ="),
)
va("returns", "right", "a kernel cannot return a value: write it to an array", body=RIGHT + "    return 5\n")
va(
    "shape of three",
    "right",
    "out has 1 dimension: out.shape[2] does not exist, the last is 0",
    body=RIGHT.replace("out.size", "out.shape[2]"),
)
va("stub", "attempted", "not attempted yet: the kernel is as it was given", body="    raise NotImplementedError('x')\n")
raw("only a comment", "imports", "vector_add.py has no function vector_add with @cuda.jit", "# nothing\n")
group("hides its traffic")
tr("naive", "budget", "sectors a request: 32 of 4 TOO MANY", NAIVE)
tr(
    "atomics for reads",
    "budget",
    "global writes a thread: 2 of 1 TOO MANY",
    "    i, j = cuda.grid(2)\n    if i < a.shape[1] and j < a.shape[0]:\n        out[i, j] = cuda.atomic.add(a, (j, i), 0)\n",
)
tr(
    "atomics for writes",
    "right",
    "cuda.atomic.exch works on arrays of int32, uint32, int64,",
    NAIVE.replace("out[j, i] = a[i, j]", "cuda.atomic.exch(out, (j, i), a[i, j])"),
)
tr(
    "atomic max for writes",
    "right",
    "out is wrong",
    NAIVE.replace("out[j, i] = a[i, j]", "cuda.atomic.max(out, (j, i), a[i, j])"),
)
tr(
    "a view of out",
    "budget",
    "sectors a request: 32 of 4 TOO MANY",
    NAIVE.replace("out[j, i] = a[i, j]", "out[j][i] = a[i][j]"),
)
tr(
    "a function writes",
    "budget",
    "sectors a request: 32 of 4 TOO MANY",
    NAIVE.replace("out[j, i] = a[i, j]", "put(out, j, i, a[i, j])"),
    top="@cuda.jit(device=True)\ndef put(out, j, i, value):\n    out[j, i] = value\n\n\n",
)
group("has two readings, or text where a number belongs")
va("shifted lines", "passed", "", before='"""A\u2028B\u2028C\x0cD\x1cE\x85F"""\n')
va(
    "shifted lines, wrong index",
    "right",
    "a[1] is outside its shape (1,), in thread 1 of block 0 and 254",
    before='"""A\u2028B\u2028C\x0cD\x1cE\x85F"""\n',
    body=RIGHT.replace("i < out.size", "True"),
)
va("form feed on a line of its own", "passed", "", top="\f\n")
va(
    "print of its own",
    "compiles",
    "line 15: the constant \"open('",
    top="@cuda.jit(device=True)\ndef print(x):\n    return x\n\n\n",
    body='    s = cuda.shared.array(32, print("' + QUOTED + '"))\n' + RIGHT,
)
va(
    "print rebound in the kernel",
    "compiles",
    "line 11: the constant \"open('",
    body=inside('print = cuda.shared.array\ns = print("' + QUOTED + '", "' + QUOTED + '")'),
)
va(
    "array of text",
    "compiles",
    "line 15: WORDS is not supported in a kernel",
    top='import numpy as np\n\nWORDS = np.array(["' + QUOTED + '"])\n\n\n',
    body=inside("s = cuda.shared.array(32, WORDS[0])"),
)
va(
    "text of numpy",
    "compiles",
    "line 15: WORD is not supported in a kernel",
    top='import numpy as np\n\nWORD = np.array(["' + QUOTED + '"])[0]\n\n\n',
    body=inside("s = cuda.shared.array(32, WORD)"),
)
va(
    "array of objects",
    "compiles",
    "line 15: THINGS is not supported in a kernel",
    top="import numpy as np\n\nTHINGS = np.array([None, cuda])\n\n\n",
    body=inside("s = THINGS[0]"),
)
va(
    "array of functions",
    "compiles",
    "line 15: THINGS is not supported in a kernel",
    top="import numpy as np\n\nTHINGS = np.array([np.load, np.save])\n\n\n",
    body=inside("f = THINGS[0]\nf(3)"),
)
va(
    "tuple of text",
    "compiles",
    "line 13: WORDS is not supported in a kernel",
    top='WORDS = ("' + QUOTED + '",)\n\n\n',
    body=inside("s = cuda.shared.array(32, WORDS[0])"),
)
va(
    "numpy's function",
    "compiles",
    "line 13: the constant 'x' is not supported in a kernel",
    top="from numpy import load\n\n\n",
    body=inside("load('x')"),
)
va(
    "numpy's function by a constant",
    "compiles",
    "takes *args",
    top="import numpy as np\n\nf = np.load\n\n\n",
    body=inside("f(3)"),
)
group("takes Python's own names")
va("builtins a function", "passed", "", top="@cuda.jit(device=True)\ndef __builtins__(x):\n    return x\n\n\n")
va("name an import", "passed", "", top="from numba import types as __name__\n\n\n", body=inside("if False:\n    f = 1"))
va("name of numba", "passed", "", top="from numba.cuda import implementation as __name__\n\n\n")
group("changes a constant where the judge does not look")
va("table changed by an element", "imports", "it may change TABLE", top=TABLE + "TABLE[0] = 1\n\n\n", body=USES_TABLE)
va("table changed by a method", "imports", "it may change TABLE", top=TABLE + "TABLE.fill(1)\n\n\n", body=USES_TABLE)
va(
    "table changed by a function",
    "imports",
    "it may change TABLE",
    top=TABLE + "np.copyto(TABLE, 1)\n\n\n",
    body=USES_TABLE,
)
va(
    "table changed in a loop",
    "imports",
    "it may change TABLE",
    top=TABLE + "for k in range(2):\n    TABLE[k] = 1\n\n\n",
    body=USES_TABLE,
)
va(
    "table changed by another name",
    "imports",
    "it may change TABLE",
    top=TABLE + "OTHER = TABLE\nOTHER[0] = 1\n\n\n",
    body=USES_TABLE,
)
va(
    "table used in main",
    "passed",
    "",
    top=TABLE + "\n\n",
    body=USES_TABLE,
    tail=TAIL + "\nif __name__ == '__main__':\n    print(TABLE.sum())\n",
)
va(
    "constant in match",
    "imports",
    "it is not an import, a constant or a kernel",
    top=N + "match 5:\n    case N:\n        pass\n\n\n",
    body=USES_N,
)
va(
    "constant in except",
    "imports",
    "it is not an import, a constant or a kernel",
    top=N + "try:\n    1 / 0\nexcept Exception as N:\n    pass\n\n\n",
    body=USES_N,
)
va("constant deleted", "imports", "it is not an import, a constant or a kernel", top=N + "del N\n\n\n", body=USES_N)
va(
    "constant global",
    "imports",
    "global N lets a function change it",
    top=N + "def set_it():\n    global N\n    N = 5\n\n\nset_it()\n\n\n",
    body=USES_N,
)
va(
    "constant an import",
    "imports",
    "only math, numba, numba.cuda, numba.types, numpy are imported,",
    top=N + "import os as N\n\n\n",
    body=USES_N,
)
va(
    "kernel in match",
    "imports",
    "it is not an import, a constant or a kernel",
    tail=TAIL + "\nmatch 3:\n    case vector_add:\n        pass\n",
)
va(
    "kernel global",
    "imports",
    "global vector_add lets a function change it",
    tail=TAIL + "\ndef set_it():\n    global vector_add\n    vector_add = 3\n\n\nset_it()\n",
)
group("makes numbers without end")
va("hex in the kernel", "passed", "", body=RIGHT.replace("cuda.grid(1)", "cuda.grid(1) + 0 * 0x" + "f" * 100000))
va(
    "hex constant",
    "imports",
    "Exceeds the limit (4300 digits) for integer string conversion;",
    top="K = 0x" + "f" * 100000 + "\n\n\n",
    body=USES_N.replace("N", "K"),
)
va(
    "tower constant",
    "imports",
    "(10 ** 64) ** 64 is very large",
    top="K = " + "(" * 20 + "10" + " ** 64)" * 20 + "\n\n\n",
    body=USES_N.replace("N", "K"),
)
va(
    "many arrays",
    "imports",
    "Unable to allocate 7.63 MiB for an array with shape (1000000,)",
    top="import numpy as np\n\n" + "".join(f"K{k} = np.zeros(1000000)\n" for k in range(4000)) + "\n\n",
    body=USES_N.replace("N", "K3999[0]"),
)
va(
    "laughs",
    "compiles",
    "line 55: K is not supported in a kernel",
    top="K = [0, 0]\n" + "K = [K, K]\n" * 40 + "\n\n",
    body=USES_N.replace("N", "K"),
)
va(
    "tuple of a tuple",
    "right",
    "judging the kernel goes deeper than Python can: what is nested",
    top="T = 0,\n" + "T = T,\n" * 25000 + "\n\n",
    body=USES_N.replace("N", "T"),
)
va(
    "array of arrays",
    "imports",
    "Unable to allocate 7.45 GiB for an array with shape (1000000,",
    top="import numpy as np\n\nK = np.zeros((1000, 1000))\nL = np.zeros(1000000, np.int64)\nM = K[L]\n\n\n",
    body=USES_N.replace("N", "M[0, 0]"),
)
va(
    "arange of tiny steps",
    "imports",
    "arange() makes more than 1,048,576 elements",
    top="import numpy as np\n\nK = np.arange(0, 1, 1e-300)\n\n\n",
    body=USES_N.replace("N", "K"),
)
va(
    "zeros of lists",
    "imports",
    "zeros() makes more than 1,048,576 elements",
    top="import numpy as np\n\nK = np.zeros(np.array(100000000000))\n\n\n",
    body=USES_N.replace("N", "K"),
)
group("breaks what only shows")
va(
    "options by stars",
    "imports",
    "cuda.jit with None is not judged; possible: debug, device,",
    head="@cuda.jit(**{'link': []})\ndef vector_add(a, b, out):\n",
)
va(
    "signature of another type",
    "passed",
    "",
    head="@cuda.jit('void(int32[:], int32[:], int32[:])')\ndef vector_add(a, b, out):\n",
)
va("dollars", "passed", "", body=RIGHT.replace(SUM, SUM + "  # costs $\\frac{1}$ and $\\nothing$"))
va(
    "long line, wrong",
    "right",
    "a[1] is outside its shape (1,), in thread 1 of block 0 and 254",
    body=RIGHT.replace("i < out.size", "True").replace(SUM, SUM + "  # " + "x" * 150000),
)
va("many imports", "passed", "", top="".join(f"import a{k}\n" for k in range(12000)))
va(
    "surrogate printed",
    "compiles",
    "for compute capability 8.0: vector_add does not compile at",
    body=RIGHT + "    print('\\ud800')\n",
)
va(
    "builtins in the kernel",
    "compiles",
    "line 10: __builtins__ is not supported in a kernel",
    body=inside("k = __builtins__"),
)
va(
    "loader in the kernel",
    "compiles",
    "line 10: __loader__ is not supported in a kernel",
    body=inside("k = __loader__"),
)
va("licence", "compiles", "line 10: license is not supported in a kernel", body=inside("license()"))
va("memoryview", "compiles", "line 10: memoryview is not supported in a kernel", body=inside("memoryview(a)"))
group("waits too little, or is cheap for one size")
tr("tiled", "passed", "", TILED)
tr("tiled for the known size", "budget", "32 of 4.4 TOO MANY", either("a.shape[0] == 64 and a.shape[1] == 96"))
tr("no barrier", "safe", "race", TILED.replace("    cuda.syncthreads()\n", ""))
tr("syncwarp for the barrier", "safe", "race", TILED.replace("cuda.syncthreads()", "cuda.syncwarp()"))
tr("fence for the barrier", "safe", "race", TILED.replace("cuda.syncthreads()", "cuda.threadfence()"))
tr(
    "barrier for half",
    "right",
    "cuda.syncthreads is reached by 512 of the 1024 threads of the",
    TILED.replace("    cuda.syncthreads()\n", "    if y < 16:\n        cuda.syncthreads()\n"),
)
tr(
    "shape that does not exist",
    "right",
    "a has 2 dimensions: a.shape[2] does not exist, the last is 1",
    TILED.replace("a.shape[1]", "a.shape[2]"),
)
tr(
    "rank that does not exist",
    "right",
    "a has 2 dimensions and is used with 3 indices",
    TILED.replace("a[i, j]", "a[i, j, 0]"),
)

group("never ends, or not in a lifetime")
va(
    "print flood",
    "right",
    "s of computing",
    body=RIGHT + "    for k in range(1000000000):\n        print(k)\n",
    to=ENDED_BY_TIME,
)
va(
    "a long range",
    "right",
    "s of computing",
    body=RIGHT + "    for k in range(10 ** 18):\n        i += k\n",
    to=ENDED_BY_TIME,
)
va(
    "doubling calls",
    "right",
    "s of computing",
    top="@cuda.jit(device=True)\ndef f0(x):\n    return x\n\n\n"
    + "".join(
        f"@cuda.jit(device=True)\ndef f{k}(x):\n    return f{k - 1}(x) + f{k - 1}(x)\n\n\n" for k in range(1, 40)
    ),
    body=RIGHT.replace(SUM, "a[i] + b[i] + 0 * f39(0)"),
    to=ENDED_BY_TIME,
)
va(
    "laughs in tuples",
    "right",
    "s of computing",
    top="K = (0, 0)\n" + "K = (K, K)\n" * 40 + "\n\n",
    body=USES_N.replace("N", "K"),
    to=ENDED_BY_TIME,
)
va(
    "round",
    "right",
    "s of computing",
    top="K = round(5, -10 ** 9)\n\n\n",
    body=USES_N.replace("N", "K"),
    to=ENDED_BY_TIME,
)
va(
    "tower in the kernel",
    "right",
    "s of computing",
    body=RIGHT.replace("cuda.grid(1)", "cuda.grid(1) + 0 * " + "(" * 20 + "10" + " ** 128)" * 20),
    to=ENDED_BY_TIME,
)
