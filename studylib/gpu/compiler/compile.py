"""What NVIDIA's own compiler makes of a Numba-CUDA kernel, on a machine that needs neither a GPU nor a driver.

Numba types the kernel and hands it to NVVM, which writes PTX (NVIDIA's portable assembly); ptxas turns the PTX into
machine code for one compute capability and reports registers, shared memory and spills. All three come as Python
packages for Linux and Windows. Exact: the figures are those of this compiler release. A launch through Numba may
link with link-time optimisation, and another driver or release may allocate a few registers more or less.
"""

import inspect
import linecache
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from studylib.gpu.compiler import occupancy as _occupancy
from studylib.gpu.compiler import ptxas
from studylib.gpu.compiler.compiled import Compiled, source_line
from studylib.gpu.compiler.ptxas import NotAvailable
from studylib.gpu.device import DeviceArray
from studylib.words import counted

_patching = threading.Lock()


class CompileError(Exception):
    """The compiler rejects the kernel. `file` and `line` are the place in the kernel, the message is the compiler's."""

    def __init__(self, message: str, file: str, line: int):
        super().__init__(message)
        self.file, self.line = file, line

    def _render_traceback_(self) -> list[str]:
        """IPython shows these lines in place of a traceback, whose frames would all be the compiler's own."""
        return [f"CompileError: {self}"]


def compile(
    kernel: Any,
    *args: Any,
    cc: tuple[int, int] = (8, 0),
    block: int | tuple[int, ...] | None = None,
    dynamic_shared_bytes: int = 0,
) -> Compiled:
    """Compile `kernel` for compute capability `cc` as a launch with `args` would, and report what it needs.

    kernel: a `@cuda.jit` kernel or a plain function. args: what one would launch with (NumPy arrays, numbers, torch
    tensors); only their types matter. block: threads per block, an int or a tuple; with it the result has an
    occupancy. dynamic_shared_bytes: the fourth launch parameter.
    Raises CompileError if the compiler rejects the kernel, NotAvailable if there is no compiler or its parts do not
    match, TypeError for an argument that no kernel takes, ValueError for an unknown cc or an impossible block.
    """
    _occupancy.limits(cc)
    if block is not None:
        _occupancy.threads_per_block(block)
    try:
        ptx = to_ptx(kernel, *args, cc=cc)
        return assembled(kernel, ptx, cc=cc, block=block, dynamic_shared_bytes=dynamic_shared_bytes)
    except CompileError as error:
        raise error.with_traceback(None) from None


def to_ptx(kernel: Any, *args: Any, cc: tuple[int, int]) -> str:
    """The PTX of a kernel: what Numba and NVVM make of it; raises as `compile` does."""
    ptxas.find()
    dispatcher = _dispatcher(kernel)
    try:
        return _to_ptx(dispatcher, _argument_types(dispatcher, args), cc)
    except CompileError as error:
        raise error.with_traceback(None) from None


def assembled(
    kernel: Any,
    ptx: str,
    *,
    cc: tuple[int, int],
    block: int | tuple[int, ...] | None,
    dynamic_shared_bytes: int,
    run_ptxas: Callable[[list[str], Path], tuple[int, str]] = ptxas.run,
) -> Compiled:
    """What a kernel needs according to ptxas, given its PTX; of the kernel only name and options matter here.

    run_ptxas: runs a command in a folder and gives its exit status and its report. Raises as `compile` does.
    """
    dispatcher = _dispatcher(kernel)
    try:
        usage = ptxas.assemble(ptx, cc, dispatcher.targetoptions.get("max_registers"), run_ptxas)
    except ptxas.Refused as refusal:
        raise _refused(dispatcher.py_func, ptx, str(refusal)) from None
    shared = usage.shared_bytes + dynamic_shared_bytes
    fit = None if block is None else _occupancy.occupancy(cc, usage.registers, shared, block)
    return Compiled(
        kernel=dispatcher.py_func.__name__,
        cc=cc,
        release=ptxas.release(),
        registers=usage.registers,
        shared_bytes=shared,
        spill_bytes=usage.spill_bytes,
        local_bytes=usage.local_bytes,
        float64_lines=ptxas.float64_lines(ptx),
        ptx=ptx,
        block=block,
        occupancy=fit.fraction if fit else None,
        blocks_per_sm=fit.blocks if fit else None,
        limited_by=fit.limited_by if fit else None,
    )


def _dispatcher(kernel: Any) -> Any:
    from numba import config, cuda

    if getattr(config, "ENABLE_CUDASIM", 0):
        raise NotAvailable("Numba's simulator is on; unset NUMBA_ENABLE_CUDASIM and start Python anew")
    if hasattr(kernel, "typeof_pyval") and hasattr(kernel, "targetoptions"):
        return kernel
    if inspect.isfunction(kernel):
        return cuda.jit(kernel)
    raise TypeError(f"gpu.compile got {kernel!r}; it takes a @cuda.jit kernel or a Python function")


def _argument_types(dispatcher: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    names = list(inspect.signature(dispatcher.py_func).parameters)
    if len(names) != len(args):
        raise TypeError(
            f"{dispatcher.py_func.__name__} takes {counted(len(names), 'argument')} ({', '.join(names)}), {len(args)} given"
        )
    return tuple(_argument_type(dispatcher, name, arg) for name, arg in zip(names, args, strict=True))


def _argument_type(dispatcher: Any, name: str, arg: Any) -> Any:
    if not isinstance(arg, list | str | dict | set | None):
        # Numba answers a type that it does not know with one of four kinds of exception.
        with suppress(Exception):
            if isinstance(arg, DeviceArray):
                arg = arg._data
            elif hasattr(arg, "detach") and arg.device.type == "cpu":
                arg = arg.detach().numpy()
            return dispatcher.typeof_pyval(arg)
    raise TypeError(
        f"argument {name} is of type {type(arg).__name__}, which no kernel takes; pass a NumPy array or a number, "
        "such as np.asarray(...) of it"
    )


@contextmanager
def _pretend_device(cc: tuple[int, int]) -> Iterator[None]:
    """Answer this thread with `cc` where Numba asks the current device, as it does for device functions."""
    from numba.cuda import dispatcher

    real: Callable[[], Any] = dispatcher.get_current_device
    this = threading.get_ident()

    def current_device() -> Any:
        return SimpleNamespace(compute_capability=cc) if threading.get_ident() == this else real()

    with _patching:
        dispatcher.get_current_device = current_device
        try:
            yield
        finally:
            dispatcher.get_current_device = real


def _to_ptx(dispatcher: Any, types: tuple[Any, ...], cc: tuple[int, int]) -> str:
    from numba import cuda

    options = {name: dispatcher.targetoptions.get(name) for name in ("fastmath", "opt", "debug", "launch_bounds")}
    try:
        with _pretend_device(cc):
            ptx, _ = cuda.compile_ptx(dispatcher.py_func, types, cc=cc, lineinfo=not options["debug"], **options)
    except Exception as error:  # noqa: BLE001  Numba answers a faulty kernel with any kind of exception
        raise _rejected(dispatcher.py_func, error) from None
    return ptx


def _rejected(function: Any, error: Exception) -> CompileError:
    """Numba's error as ours, with the place and what to do about the commonest one."""
    message = str(error).strip()
    if re.search(r"function (shared|local)\.array\b", message):
        message += (
            "\nThe shape of a shared or local array has to be constant: a number, or a name at module level. "
            "An expression such as T + 1 is not; write TILE_COLUMNS = T + 1 above the kernel."
        )
    return _compile_error(function, *_place(function, error), f"{type(error).__name__}: {message}")


def _refused(function: Any, ptx: str, report: str) -> CompileError:
    """ptxas's report as our error, without the mangled names."""
    file, line = _start(function)
    errors = [text for text in report.splitlines() if re.match(r"ptxas.*(error|fatal)", text)]
    reason = re.sub(r"'_Z\w+'", f"'{function.__name__}'", "\n".join(errors) or report)
    if extern := re.search(r"Unresolved extern function '(\w+)'", report):
        file, line = next(iter(ptxas.positions(ptx, rf"\s*{extern[1]},")), (file, line))
        reason = (
            f"It calls {extern[1]}, which Numba links in only at a launch, as arithmetic on float16 does. A GPU runs "
            "it, but gpu.compile cannot tell its registers. Load float16 and compute in float32: float32(a[i])."
        )
    return _compile_error(function, file, line, reason)


def _compile_error(function: Any, file: str, line: int, reason: str) -> CompileError:
    message = f"{function.__name__} does not compile at {source_line(file, line)}\n{reason}"
    return CompileError(message, file, line)


def _place(function: Any, error: Exception) -> tuple[str, int]:
    """File and line of the statement that the compiler was at.

    Numba's message often lacks it, but the frames of its passes hold the statement, whose `loc` knows.
    """
    start = place = _start(function)
    trace = error.__traceback__
    while trace is not None:
        for name in ("constraint", "inst"):
            loc: Any = getattr(trace.tb_frame.f_locals.get(name), "loc", None)
            if getattr(loc, "line", None) and not ptxas.is_numba(loc.filename):
                place = loc.filename, loc.line
        trace = trace.tb_next
    named = re.search(r'(?:File "[^"]*", line (\d+)|\((\d+)\)\s*$)', str(error), re.MULTILINE)
    if named and place == start:
        place = place[0], int(named[1] or named[2])
    return place


def _start(function: Any) -> tuple[str, int]:
    """File and line of the kernel's `def`; its code object counts from the decorator."""
    file, line = function.__code__.co_filename, function.__code__.co_firstlineno
    while linecache.getline(file, line).lstrip().startswith("@"):
        line += 1
    return file, line
