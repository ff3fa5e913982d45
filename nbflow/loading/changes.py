"""Which names the code of cells plainly changes: by an assignment, in one of their parts, or by a method that does."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from ..source import Cell
from .names import Place
from .names.cells import tree_of
from .names.tables import words

__all__ = ["changes"]

CHANGING = words(
    "add append appendleft clear discard extend extendleft insert pop popitem popleft remove reverse setdefault sort "
    "update write writelines writerow writerows"
)
"""Methods of containers and files that change them."""
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


def changes(cells: Iterable[Cell]) -> dict[str, Place]:
    """Give the names that cells change where they run, and where first; what functions do is not looked at.

    Parameters
    ----------
    cells : iterable of Cell
        Cells that Python can read.

    Examples
    --------
    >>> cell = Cell(3, 0, "rows.append(1)\\nn += 1\\ntable['a'] = len(rows)", frozenset(), "")
    >>> sorted(changes([cell]))
    ['n', 'rows', 'table']
    """
    found: dict[str, Place] = {}
    for cell in cells:
        for node in _outside(tree_of(cell.source)):
            for name in filter(None, _changed(node)):
                found.setdefault(name, Place(cell.number, getattr(node, "lineno", 1)))
    return found


def _outside(node: ast.AST) -> Iterator[ast.AST]:
    """Give what runs with the cell itself, in order."""
    for inner in ast.iter_child_nodes(node):
        if not isinstance(inner, _SCOPES):
            yield inner
            yield from _outside(inner)


def _changed(node: ast.AST) -> Iterator[str | None]:
    """Give the names that one piece of code changes."""
    if isinstance(node, (ast.Name, ast.Subscript, ast.Attribute)) and isinstance(node.ctx, ast.Store):
        yield _base(node)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        inplace = any(
            one.arg == "inplace" and isinstance(one.value, ast.Constant) and one.value.value is True
            for one in node.keywords
        )
        if inplace or node.func.attr in CHANGING:
            yield _base(node.func.value)


def _base(node: ast.AST) -> str | None:
    """Give the name of which something is a part: of ``model.rows[0]`` it is ``model``."""
    while isinstance(node, (ast.Subscript, ast.Attribute)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None
