"""What host code does on a GPU besides launching kernels: device arrays, streams and events, on the emulator."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np


class DeviceArray:
    """An array that only kernels read and write; the host copies it with copy_to_host and copy_to_device."""

    def __init__(self, data: np.ndarray):
        self._data = data

    @property
    def shape(self) -> tuple[int, ...]:
        return self._data.shape

    @property
    def dtype(self) -> np.dtype:
        return self._data.dtype

    @property
    def ndim(self) -> int:
        return self._data.ndim

    @property
    def size(self) -> int:
        return self._data.size

    @property
    def nbytes(self) -> int:
        return self._data.nbytes

    @property
    def strides(self) -> tuple[int, ...]:
        """Bytes along each axis."""
        return self._data.strides

    @property
    def T(self) -> DeviceArray:
        return DeviceArray(self._data.T)

    def __len__(self) -> int:
        return len(self._data)

    def __repr__(self) -> str:
        return f"DeviceArray(shape={self.shape}, dtype={self.dtype})"

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self._data.astype(dtype or self.dtype, copy=True)

    def __getitem__(self, key):
        found = self._data[key]
        return DeviceArray(found) if isinstance(found, np.ndarray) and found.ndim else found

    def __setitem__(self, key, value) -> None:
        self._data[key] = _host(value)

    def reshape(self, *shape, order="C") -> DeviceArray:
        return DeviceArray(self._data.reshape(*shape, order=order))

    def ravel(self, order="C") -> DeviceArray:
        return DeviceArray(self._data.ravel(order))

    def view(self, dtype) -> DeviceArray:
        return DeviceArray(self._data.view(dtype))

    def copy_to_host(self, ary: np.ndarray | None = None, stream=0) -> np.ndarray:
        """A NumPy copy; into `ary` if given, of the same shape and type."""
        if ary is None:
            return self._data.copy()
        _same(self._data, ary)
        ary[...] = self._data
        return ary

    def copy_to_device(self, ary, stream=0) -> None:
        """Overwrites the array with `ary`, of the same shape and type."""
        data = _host(ary)
        _same(self._data, data)
        self._data[...] = data

    def cells(self) -> tuple[np.ndarray, tuple[int, ...], tuple[int, ...], int]:
        """(the memory as a flat vector that shares it, shape, strides in elements, first byte in the allocation)."""
        data, itemsize = self._data, self._data.itemsize
        if any(s < 0 or s % itemsize for s in data.strides):
            raise ValueError("a device array with negative or odd strides cannot be used: copy it first")
        strides = tuple(s // itemsize for s in data.strides)
        length = 1 + sum((n - 1) * s for n, s in zip(data.shape, strides, strict=True)) if data.size else 0
        contiguous = data.flags.c_contiguous
        flat = data.reshape(-1) if contiguous else np.lib.stride_tricks.as_strided(data, (length,), (itemsize,))
        return flat, data.shape, strides, self._allocation()[1]

    @property
    def owner(self) -> int:
        """The same number for all views of one device array."""
        return id(self._allocation()[0])

    def _allocation(self) -> tuple[np.ndarray, int]:
        """(the array that owns the memory, the byte in it at which this one starts)."""
        owner = self._data
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        return owner, self._data.__array_interface__["data"][0] - owner.__array_interface__["data"][0]

    def clone(self, known: dict) -> DeviceArray:
        """A copy that lies in a copy of the allocation as this one in it; `known` holds what is cloned already."""
        if id(self) not in known:
            owner, first = self._allocation()
            if id(owner) not in known:
                known[id(owner)] = owner.ravel(order="K").copy().view(np.uint8)
            data = self._data
            known[id(self)] = DeviceArray(np.ndarray(data.shape, data.dtype, known[id(owner)], first, data.strides))
        return known[id(self)]


def _host(value) -> np.ndarray:
    return value.copy_to_host() if isinstance(value, DeviceArray) else np.asarray(value)


def _same(a: np.ndarray, b: np.ndarray) -> None:
    if a.shape != b.shape or a.dtype != b.dtype:
        raise ValueError(f"the arrays differ: {a.shape} {a.dtype} and {b.shape} {b.dtype}")


def to_device(obj, stream=0, copy=True, to=None) -> DeviceArray:
    """A device array with a copy of an array's content."""
    if isinstance(obj, DeviceArray) and to is None:
        return obj
    data = _host(obj)
    if not (data.flags.c_contiguous or data.flags.f_contiguous):
        raise ValueError("an array that is not contiguous cannot be copied to the GPU: use np.ascontiguousarray(...)")
    if to is None:
        return DeviceArray(data.copy(order="K"))
    to.copy_to_device(data)
    return to


def device_array(shape, dtype=np.float64, strides=None, order="C", stream=0) -> DeviceArray:
    """A device array with undefined content (NaN, or 77 for integers)."""
    if strides is not None:
        raise ValueError("device_array with strides is not supported by the emulator: leave strides out")
    data = np.empty(shape, dtype, order=order)
    data.fill(np.nan if data.dtype.kind == "f" else 77)
    return DeviceArray(data)


def device_array_like(ary, stream=0) -> DeviceArray:
    """A device array of the shape, type and order of another array."""
    data = ary._data if isinstance(ary, DeviceArray) else ary
    order = "F" if data.flags.f_contiguous and not data.flags.c_contiguous else "C"
    return device_array(data.shape, data.dtype, order=order)


def pinned_array(shape, dtype=np.float64, strides=None, order="C") -> np.ndarray:
    """A NumPy array: the emulator copies nothing that pages could slow down."""
    return np.empty(shape, dtype, order=order)


class Stream:
    """A queue of work; on the emulator everything has been done when a call returns."""

    def synchronize(self) -> None:
        pass

    @contextlib.contextmanager
    def auto_synchronize(self) -> Iterator[Stream]:
        yield self


class Event:
    """A mark in a stream. The emulator measures no time: elapsed_time is NaN."""

    def record(self, stream=0) -> None:
        pass

    def synchronize(self) -> None:
        pass

    def wait(self, stream=0) -> None:
        pass

    def query(self) -> bool:
        return True

    def elapsed_time(self, evtend: Event) -> float:
        """NaN: time is measured on a GPU and nowhere else."""
        return float("nan")


def stream() -> Stream:
    return Stream()


def event(timing: bool = True) -> Event:
    return Event()


def event_elapsed_time(evtstart: Event, evtend: Event) -> float:
    return evtstart.elapsed_time(evtend)


def synchronize() -> None:
    """Waits for nothing: a launch on the emulator has ended when it returns."""


default_stream = stream
