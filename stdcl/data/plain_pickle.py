"""Pickles that hold NumPy arrays and plain containers, read without running anything that they name.

A pickle is a program: it can name any function and call it. Here every name it uses is looked up in one table of
stand-ins, written here, that build arrays from bytes after checking them; any other name ends the reading. NumPy's own
``__setstate__`` is never given what the file holds.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from stdcl.errors import UserError

_KINDS = "biufSU"
"""Kinds of element that an array may have: numbers and texts of a fixed width, never objects."""


class _StandIn:
    """What a name in a pickle stands for here: it can be called, and neither changed nor given a state."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a function is given a state")


class _DType:
    """A NumPy data type of numbers or texts; pickle gives it its byte order afterwards."""

    __slots__ = ("_order", "_text")

    def __init__(self, text: Any, align: Any = False, copy: Any = False) -> None:
        if isinstance(text, bytes):
            text = text.decode("ascii")
        if not isinstance(text, str) or len(text) > 8:
            raise pickle.UnpicklingError("not the name of a data type")
        dtype = np.dtype(text)
        if dtype.kind not in _KINDS:
            raise pickle.UnpicklingError(f"an array of {dtype}; numbers are read, objects are not")
        self._text, self._order = text, "="

    def __setstate__(self, state: Any) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        order = order.decode("ascii") if isinstance(order, bytes) else order
        if order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError("a data type without a byte order")
        self._order = order

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype = np.dtype(self._text)
        return dtype.newbyteorder(">") if self._order == ">" else dtype


class _Array:
    """An array that pickle fills after it was made."""

    __slots__ = ("array",)

    def __init__(self) -> None:
        self.array: NDArray[Any] = np.zeros(0)

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise pickle.UnpicklingError("an array without its state")
        _, shape, dtype, fortran, data = state
        self.array = _from_bytes(data, dtype, shape, "F" if fortran is True else "C")


def _from_bytes(data: Any, dtype: Any, shape: Any, order: Any) -> NDArray[Any]:
    if isinstance(data, str):  # written by Python 2
        data = data.encode("latin1")
    if not isinstance(data, bytes | bytearray | pickle.PickleBuffer) or not isinstance(dtype, _DType):
        raise pickle.UnpicklingError("an array that is not made of bytes")
    if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape) or len(shape) > 8:
        raise pickle.UnpicklingError("an array without a shape")
    flat: NDArray[Any] = np.frombuffer(memoryview(data), dtype=dtype.dtype)
    if len(flat) != math.prod(shape):
        raise pickle.UnpicklingError("an array whose bytes do not fit its shape")
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
    return _Array()


def _scalar(dtype: Any, data: Any = None) -> Any:
    return _from_bytes(data, dtype, (), "C").item()


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("bytes in another encoding than pickle's own")
    return text.encode("latin1")


def _no_bytes(*arguments: Any) -> bytes:
    if arguments:
        raise pickle.UnpicklingError("bytes that are made of something else")
    return b""


def _container(kind: Callable[..., Any]) -> Callable[..., Any]:
    def make(items: Any = ()) -> Any:
        if not isinstance(items, list | tuple | dict):
            raise pickle.UnpicklingError("a container of something else than a list")
        return kind(items)

    return make


def _names() -> dict[tuple[str, str], Any]:
    array, bytes_of = _StandIn(_reconstruct), _StandIn(_from_bytes)
    out = {
        ("numpy", "ndarray"): _StandIn(_reconstruct),
        ("numpy", "dtype"): _StandIn(_DType),
        ("_codecs", "encode"): _StandIn(_encode),
        ("collections", "OrderedDict"): _StandIn(_container(dict)),
    }
    for builtins in ("builtins", "__builtin__"):
        out |= {(builtins, kind.__name__): _StandIn(_container(kind)) for kind in (set, frozenset)}
        out[builtins, "bytes"] = _StandIn(_no_bytes)
    for core in ("numpy.core", "numpy._core"):
        out |= {
            (f"{core}.multiarray", "_reconstruct"): array,
            (f"{core}.multiarray", "scalar"): _StandIn(_scalar),
            (f"{core}.numeric", "_frombuffer"): bytes_of,
        }
    return out


class _Reader(pickle.Unpickler):
    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream, encoding="latin1")
        self._names = _names()

    def find_class(self, module: str, name: str) -> Any:
        found = self._names.get((module, name))
        if found is None:
            raise _ForbiddenError(f"{module}.{name}")
        return found


class _ForbiddenError(pickle.UnpicklingError):
    """A name that is not among the stand-ins."""


def read_plain_pickle(stream: BinaryIO, where: str) -> Any:
    """Return what a pickle holds: None, truth values, numbers, texts, bytes, containers of them, and arrays.

    Arrays share the memory of the bytes that were read, so the file is held in memory about once.

    Args:
        stream: the open file.
        where: its name, for errors.

    Raises:
        UserError: it names anything else (nothing of it has run then), or it is damaged.
    """
    try:
        return _plain(_Reader(stream).load(), {})
    except _ForbiddenError as error:
        raise UserError(
            f"{where}: refused: beside arrays and containers it names '{error}', and reading that would run code that"
            " the file chooses. Nothing was run."
        ) from None
    except RecursionError:
        raise UserError(f"{where}: refused: nested too deeply") from None
    except MemoryError:
        raise UserError(f"{where}: not enough memory to read it, or damaged") from None
    except Exception as error:  # a damaged or hostile pickle can raise anything inside the reader
        raise UserError(f"{where}: not a readable pickle of arrays and containers ({error})") from None


def _plain(value: Any, known: dict[int, Any]) -> Any:
    """Return ``value`` with its arrays in place of what was filled; refuse anything that is not plain.

    Args:
        value: as it was read.
        known: results by the identity of what they were made of, so that what is shared is done once.
    """
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | np.ndarray):
        return value
    if isinstance(value, _Array):
        return value.array
    if id(value) in known:
        if known[id(value)] is _UNFINISHED:
            raise pickle.UnpicklingError("a container that holds itself")
        return known[id(value)]
    known[id(value)] = _UNFINISHED
    out: Any
    if type(value) is dict:
        out = {_plain(key, known): _plain(item, known) for key, item in value.items()}
    elif type(value) is list:
        out = [_plain(item, known) for item in value]
    elif type(value) is tuple:
        out = tuple(_plain(item, known) for item in value)
    elif type(value) in (set, frozenset, bytearray):
        out = value
    else:
        raise pickle.UnpicklingError("a value that is neither an array nor a container")
    known[id(value)] = out
    return out


_UNFINISHED = object()
