"""What the code of cells plainly does with names, where it stands: changes and imports."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator

from ..source import Cell
from .names import Place
from .names.cells import UnreadableError, tree_of
from .names.tables import words

__all__ = ["SET_ALONG", "changes", "imports", "says", "set_in"]

CHANGING = words(
    "add append appendleft clear discard extend extendleft insert pop popitem popleft remove reverse setdefault sort "
    "update write writelines writerow writerows"
)
"""Methods of containers and files that change them."""
SET_ALONG = words("decimal matplotlib numpy os pandas random sys warnings")
"""Modules in which a step may set what comes along to other kernels."""
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


def changes(cells: Iterable[Cell]) -> dict[str, Place]:
    """Give the names that cells change where they run, and where first; what functions do is not looked at.

    That is by an assignment, in one of their parts, or by a method that does.

    Parameters
    ----------
    cells : iterable of Cell
        Cells that Python can read, but for those that do not run.

    Examples
    --------
    >>> cell = Cell(3, 0, "rows.append(1)\\nn += 1\\ntable['a'] = len(rows)", frozenset(), "")
    >>> sorted(changes([cell]))
    ['n', 'rows', 'table']
    """
    found: dict[str, Place] = {}
    for cell, node in _outside_functions(cells):
        for name in filter(None, _changed(node)):
            found.setdefault(name, Place(cell.number, getattr(node, "lineno", 1)))
    return found


def imports(cells: Iterable[Cell]) -> dict[str, str]:
    """Give the names that cells bind by nothing but one import, with what that imports.

    Parameters
    ----------
    cells : iterable of Cell
        Cells that Python can read, but for those that do not run.

    Examples
    --------
    >>> cell = Cell(3, 0, "import numpy as np\\nfrom math import sqrt, pi\\npi = 3", frozenset(), "")
    >>> imports([cell])
    {'np': 'numpy', 'sqrt': 'math:sqrt'}
    """
    found: dict[str, set[str]] = {}
    for _, node in _outside_functions(cells):
        for name, what in _bound(node):
            found.setdefault(name, set()).add(what)
    return {name: what for name, (what, *more) in found.items() if what and not more}


def set_in(cells: Iterable[Cell]) -> dict[str, tuple[str, Place]]:
    """Give what cells assign to attributes of names, or in these, each with the name and the place.

    Parameters
    ----------
    cells : iterable of Cell
        Cells that Python can read, but for those that do not run.

    Examples
    --------
    >>> cell = Cell(3, 0, "helper.RATE = 10\\nhelper.rows[0].n = 2", frozenset(), "")
    >>> sorted(set_in([cell]))
    ['helper.RATE', 'helper.rows']
    """
    found: dict[str, tuple[str, Place]] = {}
    for cell, node in _outside_functions(cells):
        if isinstance(node, (ast.Attribute, ast.Subscript)) and isinstance(node.ctx, ast.Store):
            attribute: ast.expr = node
            while isinstance(attribute, (ast.Attribute, ast.Subscript)):
                inner = attribute.value
                if isinstance(attribute, ast.Attribute) and isinstance(inner, ast.Name):
                    found[f"{inner.id}.{attribute.attr}"] = inner.id, Place(cell.number, node.lineno)
                attribute = inner
    return found


def says(cell: Cell, name: str) -> bool:
    """Whether a name stands in a cell, be it in a text.

    Examples
    --------
    >>> cell = Cell(3, 0, "%time fit(rows)", frozenset(), "")
    >>> says(cell, "rows"), says(cell, "row")
    (True, False)
    """
    return re.search(rf"\b{re.escape(name)}\b", cell.source) is not None


def _trees(cells: Iterable[Cell]) -> Iterator[tuple[Cell, ast.Module]]:
    for cell in cells:
        if "skip-execution" in cell.tags:
            continue
        try:
            yield cell, tree_of(cell.source)
        except UnreadableError:
            if "raises-exception" not in cell.tags:
                raise


def _outside_functions(cells: Iterable[Cell]) -> Iterator[tuple[Cell, ast.AST]]:
    """Give what runs with the cells themselves, in order."""
    return ((cell, node) for cell, tree in _trees(cells) for node in _outside(tree))


def _outside(node: ast.AST) -> Iterator[ast.AST]:
    """Give what runs with the cell itself, in order, but for what comprehensions have of their own."""
    own = node.target if isinstance(node, ast.comprehension) else None
    for inner in ast.iter_child_nodes(node):
        if inner is not own:
            yield inner
            if not isinstance(inner, _SCOPES):
                yield from _outside(inner)


def _bound(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Give the names that one piece of code binds, each with what it imports, if it does."""
    if isinstance(node, ast.Import):
        yield from ((one.asname or one.name.split(".")[0], one.name) for one in node.names)
    elif isinstance(node, ast.ImportFrom):
        where = "." * node.level + (node.module or "")
        yield from ((one.asname or one.name, f"{where}:{one.name}") for one in node.names)
    elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        yield node.id, ""
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield node.name, ""


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
