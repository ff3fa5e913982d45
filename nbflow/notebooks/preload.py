"""What a kernel may have imported before it gets its notebook: modules that the cells import anyway."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator

from ..errors import ParameterError
from ..libraries import KNOWN
from ..source import Cell, syntax_tree

__all__ = ["imported"]

_MAGIC = re.compile(r"\s*%{1,2}(env|set_env|cd|dotenv)\b")
_CHANGES = frozenset({"putenv", "unsetenv", "load_dotenv", "chdir"})
_OF_MAPPING = frozenset({"update", "setdefault", "pop", "clear", "insert", "append", "extend", "remove"})


def imported(cells: Iterable[Cell]) -> tuple[str, ...]:
    """Give the known modules that cells import, in order, up to where they change what imports depend on.

    Parameters
    ----------
    cells : iterable of Cell
        Code cells of a notebook in Python.

    Examples
    --------
    >>> cell = Cell(1, 0, "import os, pandas as pd\\nos.environ['A'] = '1'\\nimport scipy", frozenset(), "", None)
    >>> imported([cell])
    ('pandas',)
    """
    found: dict[str, None] = {}
    for cell in cells:
        try:
            tree = syntax_tree(cell.source)
        except (SyntaxError, ValueError, ParameterError):  # it fails, and what stands behind it never runs
            break
        lines = [number for number, line in enumerate(cell.source.splitlines(), 1) if _MAGIC.match(line)]
        lines += [node.lineno for node in ast.walk(tree) if isinstance(node, ast.expr) and _changes(node)]
        end = min(lines, default=None)
        nodes = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
        for node in sorted(nodes, key=lambda node: node.lineno):
            if end is None or node.lineno < end:
                found.update(dict.fromkeys(name for name in _names(node) if name.partition(".")[0] in KNOWN))
        if end is not None:
            break
    return tuple(found)


def _names(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif not node.level and node.module:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names if alias.name != "*")


def _changes(node: ast.expr) -> bool:
    """Whether this changes the environment, the directory, or where modules are found."""
    match node:
        case (
            ast.Subscript(value=place, ctx=ast.Store() | ast.Del())
            | ast.Attribute(value=place, attr="path" | "environ", ctx=ast.Store())
        ):
            return _named(place) in {"environ", "path", "sys", "os"}
        case ast.Call(func=ast.Name(id=name)):
            return name in _CHANGES
        case ast.Call(func=ast.Attribute(attr=name, value=place)):
            return name in _CHANGES or (name in _OF_MAPPING and _named(place) in {"environ", "path"})
    return False


def _named(place: ast.expr) -> str:
    match place:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""
