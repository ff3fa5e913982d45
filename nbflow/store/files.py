"""Files that are either whole or not there, for the store and what stands above it."""

from __future__ import annotations

# They stand below, because notebooks are written in the same way; may go when nobody looks for them here any more.
from ..files import sync_folder, write_atomically

__all__ = ["sync_folder", "write_atomically"]
