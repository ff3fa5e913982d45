"""Cells as syntax trees: what only IPython understands is what IPython makes of it, and lines keep their numbers."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Sequence
from difflib import SequenceMatcher

from ...errors import DefinitionError
from ...source import Cell, syntax_tree

__all__ = ["UnreadableError", "not_python", "tree_of"]


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
