"""The folder of saved values, and what one save may take."""

from __future__ import annotations

import hashlib
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .natures import Gone, Ref, Refused

CHUNK = 256 * 1024
"""Bytes that are written, read and hashed at once: what was just written is still in the processor's cache."""


def _amount(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.3g} {unit}"
        size /= 1000
    raise AssertionError


class Budget:
    """What one save may take.

    Parameters
    ----------
    most : int
        Bytes that may be written, in all.
    seconds : float
        How long it may take, in all.
    """

    def __init__(self, most: float, seconds: float) -> None:
        self.most = most
        self.seconds = seconds
        self.start = time.monotonic()
        self.written = 0
        self.lock = threading.Lock()

    def look(self) -> None:
        """Look at the clock."""
        if time.monotonic() - self.start > self.seconds:
            raise Refused(f"was not saved within the {self.seconds:g} s that saving may take")

    def take(self, size: int) -> None:
        """Take so many bytes, before they are written."""
        self.look()
        if size > self.most:
            raise Refused(f"is {_amount(size)}, and at most {_amount(self.most)} are saved")
        with self.lock:
            if self.written + size > self.most:
                beside = f"is {_amount(size)}, beside {_amount(self.written)} of other names"
                raise Refused(f"{beside}, and at most {_amount(self.most)} are saved in all")
            self.written += size


class Files:
    """The folder of saved values: a file is called by the digest of what it holds, and is there whole or not at all.

    Parameters
    ----------
    folder : str
        The run folder; the files are in ``names`` in it.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def path(self, relative: str) -> Path:
        """Give where a file is."""
        return self.folder / relative

    def there(self, relative: str) -> bool:
        """Whether there is such a file."""
        return self.path(relative).exists()

    def make(self, relative: str | Callable[[], str], write: Callable[[Path], None], budget: Budget) -> None:
        """Make a file under another name, and give it its own once it is whole, and that is known."""
        self.path("names").mkdir(parents=True, exist_ok=True)
        temporary = self.path(f"names/.{uuid.uuid4().hex}.tmp")
        try:
            write(temporary)
            budget.look()
            temporary.replace(self.path(relative if isinstance(relative, str) else relative()))
        finally:
            if temporary.exists():
                temporary.unlink()

    def sizes(self) -> set[int]:
        """Give the sizes of the arrays that are there: one of another size is certainly new."""
        names = self.path("names")
        return {one.stat().st_size for one in names.glob("*.npy")} if names.is_dir() else set()

    def has(self, relative: str, sha256: str) -> bool:
        """Whether there is such a file, and in it what was written."""
        return self.there(relative) and self.seen(relative)["sha256"] == sha256

    def seen(self, relative: str) -> Ref:
        """Give size and SHA-256 of a file that is there."""
        digest, size = hashlib.sha256(), 0
        with self.path(relative).open("rb", buffering=0) as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                size += len(chunk)
        return {"size": size, "sha256": digest.hexdigest()}

    def read(self, part: Ref) -> bytes:
        """Give what is in a file, once it is certain that it is what was written.

        Raises
        ------
        Gone
            If it is not.
        """
        try:
            with self.path(part["path"]).open("rb") as file:
                data = file.read()
        except FileNotFoundError:
            raise Gone(part["path"]) from None
        if hashlib.sha256(data).hexdigest() != part["sha256"]:
            raise Gone(part["path"])
        return data


def digest_of(chunks: Iterable[Any], budget: Budget) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        budget.look()
        digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def hashing(digest: Any, *, apart: bool) -> Iterator[Callable[[Any], object]]:
    """Give what puts chunks into a digest: at once, or in a thread of its own while the next one is got."""
    if not apart:
        yield digest.update
        return
    with ThreadPoolExecutor(1) as pool:  # one worker: the chunks stay in order
        hashed: list[Future[None]] = []
        yield lambda chunk: hashed.append(pool.submit(digest.update, chunk))
        for one in hashed:
            one.result()


def write_chunks(path: Path, chunks: Iterable[Any], budget: Budget, digest: Any = None, *, apart: bool = False) -> None:
    with path.open("wb", buffering=0) as file, hashing(digest or hashlib.sha256(), apart=apart) as update:
        for chunk in chunks:
            budget.look()
            if digest is not None:
                update(chunk)
            view = memoryview(chunk).cast("B")
            while view:  # a write of the system may be a partial one
                view = view[file.write(view) :]
