"""Cells as syntax trees: what only IPython understands is what IPython makes of it, and lines keep their numbers."""

from __future__ import annotations

import ast
import re

from ...errors import DefinitionError
from ...source import Cell, ipython_tree, syntax_tree
from .tables import AUTOMAGIC, HARMLESS

__all__ = ["UnreadableError", "as_magic", "not_python", "tree_of"]


LINE = re.compile(r"(\w+)(?P<rest>[ \t]+[^\s=!].*)?")
"""A cell of one line that begins with a word, and assigns nothing to it."""


class UnreadableError(Exception):
    """Code that Python cannot read."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(line, message)
        self.line = line
        self.message = message


def not_python(cell: Cell, line: int, message: str) -> DefinitionError:
    """Give the error for a cell that Python cannot read."""
    place = f"cell {cell.number}, line {line}"
    remedy = f"nbflow reads the names in that cell without running it. Mend line {line} in Jupyter."
    return DefinitionError(f"{place}: {message}.", remedy, place)


def as_magic(source: str) -> tuple[str, str] | None:
    """Give the magic that a cell of one line may call without a sign, and the cell with the sign."""
    found = LINE.fullmatch(source.strip())
    if found is None or found[1] not in (AUTOMAGIC if found["rest"] else HARMLESS):
        return None
    return found[1], source.replace(found[1], f"%{found[1]}", 1)


def tree_of(source: str, above: int = 1) -> ast.Module:
    """Give the syntax tree of a cell, or of code that begins in a line of it.

    Raises
    ------
    UnreadableError
        If Python cannot read what IPython makes of it.
    """
    try:
        try:
            return syntax_tree(source)
        except (SyntaxError, ValueError, RecursionError):
            return ipython_tree(source)
    except (SyntaxError, ValueError, RecursionError) as problem:
        magic = as_magic(source)
        if magic is not None:
            return tree_of(magic[1], above)
        line = getattr(problem, "lineno", None) or 1
        raise UnreadableError(line + above - 1, getattr(problem, "msg", None) or str(problem)) from None
