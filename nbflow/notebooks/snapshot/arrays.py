"""Arrays of numpy, as ``.npy`` files and as views of each other's memory."""

from __future__ import annotations

import hashlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any

from .files import CHUNK, Budget, Files, digest_of, hashing
from .natures import Gone, Ref


def is_plain_array(value: Any) -> bool:
    """Whether an array has a type that ``.npy`` keeps."""
    np = sys.modules["numpy"]
    if value.dtype.hasobject or value.dtype.kind not in "biufcmMSUV" or value.dtype.metadata:
        return False
    return bool(np.lib.format.descr_to_dtype(np.lib.format.dtype_to_descr(value.dtype)) == value.dtype)


def memory_of(value: Any) -> Any:
    """Give the bytes of a contiguous array as they are in memory."""
    np = sys.modules["numpy"]
    value = np.asarray(value)
    flat = (value if value.flags.c_contiguous else value.T).reshape(-1)
    return flat.view(np.uint8) if flat.nbytes else flat[:0].view(np.dtype("V1")) if flat.itemsize else np.empty(0, "u1")


def npy(value: Any) -> Iterator[Any]:
    """Give an ``.npy`` file of the array in chunks, without a copy where the array is contiguous."""
    np = sys.modules["numpy"]
    head = io.BytesIO()
    described = np.lib.format.header_data_from_array_1_0(value)
    try:
        np.lib.format.write_array_header_1_0(head, described)
    except ValueError:  # a structure with very many fields
        np.lib.format.write_array_header_2_0(head, described)
    yield head.getvalue()
    if not value.nbytes:
        return
    if value.flags.c_contiguous or value.flags.f_contiguous:
        flat = memory_of(value)
        yield from (flat[start : start + CHUNK] for start in range(0, flat.nbytes, CHUNK))
        return
    flags = ["external_loop", "buffered", "zerosize_ok"]
    rows = np.nditer(value, flags=flags, buffersize=max(CHUNK // value.itemsize, 1), order="C")
    yield from (row.tobytes("C") for row in rows)


def read_npy(files: Files, part: Ref, *, apart: bool = True) -> Any:
    """Give the array of an ``.npy`` file; it is hashed while it is read, in a thread apart or by and by."""
    np = sys.modules.get("numpy") or __import__("numpy")
    digest = hashlib.sha256()
    try:
        with files.path(part["path"]).open("rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size != part["size"]:
                raise Gone(part["path"])
            value, at = _header(np, file)
            file.seek(0)
            digest.update(file.read(at))
            flat = memory_of(value)
            with hashing(digest, apart=apart and flat.nbytes > CHUNK) as update:
                for start in range(0, flat.nbytes, CHUNK):
                    _fill(file, flat[start : start + CHUNK], part)
                    update(flat[start : start + CHUNK])
    except (FileNotFoundError, ValueError):  # a header that is none
        raise Gone(part["path"]) from None
    if digest.hexdigest() != part["sha256"]:
        raise Gone(part["path"])
    return value


def _header(np: Any, file: Any) -> tuple[Any, int]:
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, fortran, dtype = read[np.lib.format.read_magic(file)](file, max_header_size=1 << 20)
    return np.empty(shape, dtype, "F" if fortran else "C"), file.tell()


def _fill(file: Any, chunk: Any, part: Ref) -> None:
    view = memoryview(chunk)
    while view:
        count = file.readinto(view)
        if not count:
            raise Gone(part["path"])
        view = view[count:]


def array_digest(value: Any, budget: Budget) -> str:
    """Give the digest of an array: that of its file."""
    return digest_of(npy(value), budget)


def _base_of(value: Any) -> Any:
    """Give what an array was made from; ``as_strided`` and ``sliding_window_view`` put a thing of theirs between."""
    return value.base.base if type(value.base).__name__ == "DummyArray" else value.base


def owner_of(value: Any) -> Any:
    """Give what owns the memory of an array, or of a row of one."""
    np = sys.modules["numpy"]
    while isinstance(value, (np.ndarray, np.void)) and _base_of(value) is not None:
        base = _base_of(value)
        value = base.obj if isinstance(base, memoryview) else base
    return value


def is_other_look(value: Any) -> bool:
    """Whether an array shows memory that is no array's, or, in an order of its own or more than once, memory that is no
    larger than it is."""
    owner = owner_of(value)
    if value.nbytes and isinstance(owner, (bytearray, getattr(sys.modules.get("array"), "array", bytearray))):
        return True
    if owner is value or not isinstance(owner, sys.modules["numpy"].ndarray) or value.dtype.hasobject:
        return False
    return bool(owner.nbytes <= value.nbytes and not (value.flags.c_contiguous or value.flags.f_contiguous))


def map_of(value: Any) -> Any:
    """Give what maps a file into the memory that an array looks at, an array or an ``mmap``; None if nothing does."""
    np = sys.modules["numpy"]
    while isinstance(_base_of(value), np.ndarray):
        value = _base_of(value)
    owner = value.base.obj if isinstance(value.base, memoryview) else value.base
    maps = getattr(sys.modules.get("mmap"), "mmap", ())
    return None if not isinstance(owner, maps) else value if isinstance(value, np.memmap) else owner


def is_written_through(value: Any) -> bool:
    """Whether what is written to an array is written to a file: the file can be saved by no other."""
    found = map_of(value)
    if isinstance(found, sys.modules["numpy"].memmap):
        return bool(found.flags.writeable and found.mode != "c")
    return found is not None and not memoryview(found).readonly


def address_of(value: Any) -> int:
    """Give the address where a thing's memory begins."""
    np = sys.modules["numpy"]
    array = value if isinstance(value, (np.ndarray, np.void)) else np.frombuffer(value, "u1")
    return int(array.__array_interface__["data"][0])
