"""Arrays as .npy files: what np.save writes for bools, numbers and text, and nothing else; whole, in parts, or left on disk."""

from __future__ import annotations

import hashlib
import io
import math
import mmap
import os
import re
import weakref
from collections.abc import Callable, Iterator
from functools import cache
from typing import BinaryIO

import numpy as np

PIECE = 2**24  # bytes in memory at a time
STORED = "bool, integers, floats and text"
NPY = re.compile(  # what np.save writes for those, and nothing else
    rb"\x93NUMPY\x01\x00..\{'descr': '([<|][biufU]\d{1,4})', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,18}, )*(?:\d{1,18},?)?)\), \} *\n",
    re.DOTALL,
)


def array(blob: bytearray | mmap.mmap) -> np.ndarray:
    """The array in a .npy file, over the same memory; ValueError if the file is no such thing."""
    head = NPY.match(blob)
    if head is None or int.from_bytes(blob[8:10], "little") != head.end() - 10:
        raise ValueError(f"it does not begin as an array of {STORED} does")
    descr, fortran, dims = (part.decode() for part in head.groups())
    shape = tuple(int(n) for n in dims.replace(",", " ").split())
    try:
        dtype = np.dtype(descr)
        if not dtype.itemsize or math.prod(shape) * dtype.itemsize != len(blob) - head.end():
            raise ValueError(f"{len(blob) - head.end():,} bytes follow")
        values = np.ndarray(shape, dtype, blob, head.end(), order="F" if fortran == "True" else "C")
        if dtype.kind == "b" and any(
            part.max(initial=0) > 1 for part in pieces(values.ravel("K").view(np.uint8))
        ):
            raise ValueError("a bool is neither 0 nor 1")
        if dtype.kind == "U":
            "".join(values.ravel().tolist()).encode()
    except (ValueError, TypeError) as error:
        raise ValueError(f"it cannot be an array {shape} of {descr}: {error}") from None
    return values


def stored(name: str, array: np.ndarray) -> bytes:
    """The .npy file of an array of bools, numbers or text; ValueError for others."""
    if array.dtype.kind not in "biufU":
        raise ValueError(f"{name}: dtype {array.dtype} cannot be stored; artefacts hold {STORED}.")
    buffer = io.BytesIO()
    np.save(buffer, array.astype(array.dtype.newbyteorder("<"), copy=False), allow_pickle=False)
    return buffer.getvalue()


def head(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """What a .npy file of it begins with: as long, whatever the number of rows."""
    buffer = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(dtype.newbyteorder("<"))
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": descr, "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue()


class Disk(mmap.mmap):
    """A file's bytes, left where they are. Blocks are read by `pread`: mapped pages of a large file would pile up in memory."""

    file: int
    address: int

    @classmethod
    def of(cls, source: BinaryIO) -> tuple[Disk, str]:
        """And their sha256."""
        digest = hashlib.sha256()
        while piece := source.read(PIECE):
            digest.update(piece)
        there = cls(source.fileno(), 0, access=mmap.ACCESS_READ)
        there.file = os.dup(source.fileno())
        weakref.finalize(there, os.close, there.file)
        there.address = np.frombuffer(there, np.uint8).__array_interface__["data"][0]
        return there, digest.hexdigest()


def blocks(array: np.ndarray, row: np.ndarray, start: np.ndarray, count: int) -> np.ndarray:
    """(B, count, ...) `array[row[b], start[b] : start[b] + count]`, wherever the array lies."""
    disk = _disk(array)
    if disk is None or not array.flags.c_contiguous or not hasattr(os, "pread"):
        return array[row[:, None], start[:, None] + np.arange(count)]
    out = np.empty((len(row), count, *array.shape[2:]), array.dtype)
    at = (
        array.__array_interface__["data"][0]
        - disk.address
        + (row.astype(np.int64) * array.shape[1] + start) * array.strides[1]
    )
    _read_blocks(disk.file, at, out.reshape(len(out), -1).view(np.uint8))
    return out


def _read_blocks(file: int, at: np.ndarray, out: np.ndarray) -> None:
    if _compiled_read()(file, at, out) != out.size:
        raise OSError("a mapped file was cut short; load it again.")


@cache
def _compiled_read() -> Callable:
    from numba import njit, types

    pread = types.ExternalFunction(
        "pread", types.intp(types.intc, types.intp, types.uintp, types.int64)
    )

    @njit(nogil=True)
    def read(file, at, out):
        done, place, size = 0, out.ctypes.data, out.shape[1]
        for i in range(len(out)):
            done += pread(file, place + i * size, size, at[i])
        return done

    return read


def pieces(array: np.ndarray, size: int = PIECE) -> Iterator[np.ndarray]:
    """An array's rows, some at a time, of about `size` bytes. Of a map, what has been read is let go: it need not fit in memory."""
    rows = max(1, size * len(array) // max(1, array.nbytes))
    for i in range(0, len(array), rows):
        yield array[i : i + rows]
        let_go(array)


def let_go(array: np.ndarray) -> None:
    """Give back the memory that pages of an array on disk took; reading them again costs little while the system has them."""
    if (disk := _disk(array)) is not None and hasattr(mmap, "MADV_DONTNEED"):
        disk.madvise(mmap.MADV_DONTNEED)


def _disk(array: np.ndarray) -> Disk | None:
    base = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, Disk) else None
