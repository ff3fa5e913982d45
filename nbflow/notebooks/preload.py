"""What a kernel may have imported before it gets its notebook: modules that the cells import anyway."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from ..libraries import KNOWN, LEARNED
from ..source import Cell, cell_tree

__all__ = ["automatic", "imported"]

_INSTALLS = r"\b(pip3?|conda|mamba|micromamba|uv|install)\b"
_MAGICS = ("env", "set_env", "dotenv", "cd", "pushd", "popd", "run", "pip", "conda", "mamba", "micromamba", "uv")
_MAGIC = re.compile(rf"\s*([\w, ]+=)?\s*(%{{1,2}}({'|'.join(_MAGICS)})\b|!.*{_INSTALLS})")
_SHELL = re.compile(r"\s*%%(bash|sh|script|system|!|cmd)\b|\s*!!")
_INSTALL = re.compile(_INSTALLS)
_ORDERS = re.compile(rf"{_INSTALLS}|^%?({'|'.join(_MAGICS)})\b")
_WORTH_READING = re.compile(
    r"import|environ|env\b|path|chdir|sys|use\(|reload|[%!]|exec|run_|attr\(|patch|sched_|magic|site|install"
)
"""A cell without any of this neither imports nor changes anything here, and need not be parsed."""

_CHANGES = frozenset(
    {
        "putenv",
        "unsetenv",
        "setenv",
        "delenv",
        "load_dotenv",
        "chdir",
        "fchdir",
        "syspath_prepend",
        "addsitedir",
        "setdlopenflags",
        "sched_setaffinity",
        "reload",
        "exec",
        "run_path",
        "run_module",
        "patch",
    }
)
_PLACES = frozenset({"path", "modules", "meta_path", "path_hooks"})
"""Where ``sys`` keeps what imports depend on."""
_READS = frozenset({"get", "copy", "items", "keys", "values", "index", "count"})
_READERS = frozenset(
    {
        "dict",
        "list",
        "sorted",
        "set",
        "tuple",
        "len",
        "print",
        "str",
        "repr",
        "isinstance",
        "type",
        "enumerate",
        "pprint",
    }
)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def imported(cells: Iterable[Cell]) -> tuple[str, ...]:
    """Give the known modules that cells import, in order, up to where they change what imports depend on.

    That is the environment, the directory, where modules are found, and what is installed. Nobody knows when a function
    is called: what it imports does not count, and what it changes does.

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
    return _imported(tuple(cells))[0]


def automatic(cells: Iterable[Cell]) -> tuple[str, ...]:
    """Give what is preloaded where nobody says it: the above, and what kernels turn out to import besides.

    Not where the cells change what imports depend on: a library must not be there before that.
    """
    names, whole = _imported(tuple(cells))
    return (LEARNED, *names) if whole else names


@lru_cache(maxsize=64)  # every attempt asks
def _imported(cells: tuple[Cell, ...]) -> tuple[tuple[str, ...], bool]:
    """Give the modules, and whether they are those of all cells."""
    found: dict[str, None] = {}
    for cell in cells:
        if "skip-execution" in cell.tags or not _WORTH_READING.search(cell.source):
            continue
        try:
            nodes = list(ast.walk(cell_tree(cell.source)))
        except (SyntaxError, ValueError, RecursionError):  # it fails, and what stands behind it never runs
            return tuple(found), False
        end = min([*_magics(cell.source), *_changes(nodes), *_orders(nodes, cell.source)], default=None)
        for node in _imports(nodes):
            if end is None or node.lineno < end:
                found.update(dict.fromkeys(name for name in _names(node) if name.partition(".")[0] in KNOWN))
        if end is not None:
            return tuple(found), False
    return tuple(found), True


def _magics(source: str) -> Iterator[int]:
    """Give the lines of IPython's own that change something."""
    if _SHELL.match(source) and _INSTALL.search(source):
        yield 1
    for number, line in enumerate(source.splitlines(), 1):
        if _MAGIC.match(line):
            yield number


def _imports(nodes: list[ast.AST]) -> list[ast.Import | ast.ImportFrom]:
    found = [node for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom))]
    if not found:
        return []
    later = {inner for node in nodes if isinstance(node, _FUNCTIONS) for inner in ast.walk(node)}
    return sorted((node for node in found if node not in later), key=lambda node: node.lineno)


def _names(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif not node.level and node.module:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names if alias.name != "*")


def _changes(nodes: list[ast.AST]) -> Iterator[int]:
    """Give the lines that change the environment, the directory, or where modules are found.

    What is not known to only look at the environment or the path changes it.
    """
    looks = {expression for node in nodes for expression in _looked_at(node)}
    for node in nodes:
        match node:
            case ast.Attribute(attr="environ" | "environb") | ast.Name(id="environ" | "environb"):
                if node not in looks:
                    yield node.lineno
            case ast.Attribute(attr=name, value=ast.Name(id="sys")):
                if name in _PLACES and node not in looks:
                    yield node.lineno
            case ast.ImportFrom(module="sys", names=names):
                if _PLACES & {alias.name for alias in names}:
                    yield node.lineno
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in _CHANGES:
                yield node.lineno
            case ast.Call(func=ast.Attribute(attr="use", value=ast.Name())):  # matplotlib
                yield node.lineno
            case ast.Call(func=ast.Name(id="setattr" | "delattr"), args=[ast.Name(id="os" | "sys"), *_]):
                yield node.lineno
            case ast.Attribute(value=ast.Name(id="patch") | ast.Attribute(attr="patch")):  # of a mock
                yield node.lineno


def _orders(nodes: list[ast.AST], source: str) -> Iterator[int]:
    """Give the lines where a function is told to install something or to run a magic."""
    if "magic" not in source and not _INSTALL.search(source):
        return
    for node in nodes:
        if isinstance(node, ast.Call):
            texts = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
            if any(_ORDERS.search(text) for text in texts if isinstance(text, str)):
                yield node.lineno


def _looked_at(node: ast.AST) -> Iterator[ast.expr]:
    """Give the parts of this that are read here and no more."""
    match node:
        case ast.Subscript(value=place, ctx=ast.Load()):
            yield place
        case ast.Attribute(value=place, attr=name) if name in _READS:
            yield place
        case ast.Compare(left=left, comparators=others):
            yield from (left, *others)
        case ast.Call(func=ast.Name(id=name), args=arguments) if name in _READERS:
            yield from arguments
        case ast.Dict(keys=keys, values=values):
            yield from (value for key, value in zip(keys, values, strict=True) if key is None)
        case ast.keyword(arg=None, value=place) | ast.For(iter=place) | ast.comprehension(iter=place):
            yield place
