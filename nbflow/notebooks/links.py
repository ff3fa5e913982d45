"""Executed notebooks, to be opened and read: a link for who looks, the content for who counts."""

from __future__ import annotations

import os
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

__all__ = ["Link", "content"]


class Link(os.PathLike[str]):
    """The path of a file; in a notebook a link to it.

    Examples
    --------
    >>> Link(Path("nbflow-runs/fit.ipynb/20261128/0_Oslo.ipynb"))
    Link('nbflow-runs/fit.ipynb/20261128/0_Oslo.ipynb')
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        """Give the path."""
        return str(self.path)

    def __repr__(self) -> str:
        """Give the path as it is written."""
        return f"Link({str(self.path)!r})"

    def _repr_html_(self) -> str:
        try:
            near = os.path.relpath(self.path)
        except OSError:  # the working directory was deleted
            near = str(self.path)
        return f'<a href="{escape(quote(near), quote=True)}">{escape(near)}</a>'


def content(path: Path) -> Any:
    """Give a notebook as nbformat reads it."""
    import nbformat

    return nbformat.read(path, as_version=4)
