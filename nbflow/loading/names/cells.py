"""Cells as syntax trees: what only IPython understands is what IPython makes of it, and lines keep their numbers."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Sequence
from difflib import SequenceMatcher

from ...errors import DefinitionError
from ...source import Cell, syntax_tree
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
        return syntax_tree(source)
    except (SyntaxError, ValueError, RecursionError):
        # Most cells need no IPython, and loading it takes a third of a second.
        manager = importlib.import_module("IPython.core.inputtransformer2").TransformerManager()
    text: str = manager.transform_cell(source)
    lines = _lines(source.splitlines(), text.splitlines())
    try:
        tree = syntax_tree(text)
    except (SyntaxError, ValueError, RecursionError) as problem:
        magic = as_magic(source)
        if magic is not None:
            return tree_of(magic[1], above)
        line = getattr(problem, "lineno", None) or 1
        message = getattr(problem, "msg", None) or str(problem)
        raise UnreadableError(lines.get(line, line) + above - 1, message) from None
    for node in ast.walk(tree):
        if hasattr(node, "lineno"):
            node.lineno = lines.get(node.lineno, node.lineno)
    return tree


def _lines(old: Sequence[str], new: Sequence[str]) -> dict[int, int]:
    """Give for lines that IPython moved where they stood."""
    if len(old) == len(new):
        return {}
    found: dict[int, int] = {}
    matcher = SequenceMatcher(None, [one.strip() for one in old], [one.strip() for one in new], autojunk=False)
    for _, start, _, first, last in matcher.get_opcodes():
        found.update({line + 1: start + line - first + 1 for line in range(first, last)})
    return found
