"""The signature of this user: what was saved as code or objects of Python is loaded only where it is theirs."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import sys
from contextlib import suppress
from functools import cached_property
from pathlib import Path

__all__ = ["Signer", "key_file"]


def key_file() -> Path:
    """Give where this user's key stands; it is made when something is signed for the first time."""
    base = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not base.is_absolute():
        base = Path("~/Library/Application Support" if sys.platform == "darwin" else "~/.local/state").expanduser()
    return base / "nbflow" / "key"


class Signer:
    """Signs what this user saved, and knows it again.

    Parameters
    ----------
    path : Path
        The file of the key, which only its user can read. Where it can neither be read nor written, the key lives as
        long as this object: what was signed before is not known again then, and :attr:`problem` says why.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or key_file()

    def sign(self, text: str) -> str:
        """Give the signature of a text, in hexadecimal digits."""
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()

    def knows(self, text: str, signature: object) -> bool:
        """Whether this user has signed a text so."""
        return isinstance(signature, str) and hmac.compare_digest(self.sign(text), signature)

    @property
    def problem(self) -> str:
        """Why what is signed now will not be known again, with the remedy; empty where it will."""
        if self._key == self._read():  # in this order: the key may have to be made
            return ""
        return (
            f"{self._path}: is no key of yours that only you can read, so objects of Python that are saved now are not "
            f"loaded when this is resumed, and their steps are repeated. Delete it: nbflow makes another one"
        )

    @cached_property
    def _key(self) -> bytes:
        fresh = secrets.token_bytes(32)
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            temporary = self._path.with_name(f"key.{secrets.token_hex(4)}")
            try:
                with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    file.write(fresh)
                    os.fsync(file.fileno())
                with suppress(FileExistsError):  # another process was first: its key is the one
                    os.link(temporary, self._path)
            finally:
                temporary.unlink(missing_ok=True)
        return self._read() or fresh

    def _read(self) -> bytes | None:
        """Give the key; nothing if others can read it, or it is none."""
        try:
            found = self._path.stat()
            key = self._path.read_bytes()
        except OSError:
            return None
        return key if found.st_uid == os.getuid() and not found.st_mode & 0o077 and len(key) == 32 else None
