"""Functions that calls name: found and read without importing anything of the user's."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..errors import DefinitionError, did_you_mean

__all__ = ["Arguments", "Module", "function_arguments", "function_module"]

_CALL = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


class Module(NamedTuple):
    """The module in which a function stands."""

    source: str
    """Digest of its source."""
    folder: str = ""
    """The real path of the workflow's folder, where it was found there; else it is where Python finds modules."""


def function_module(text: str, folder: Path) -> Module:
    """Give the module in which a function stands.

    Parameters
    ----------
    text : str
        ``package.module:function``.
    folder : Path
        The workflow's folder: its modules are found, as if it was the directory that Python was started in.

    Raises
    ------
    DefinitionError
        If there is no such module, or no such function in it.

    Examples
    --------
    >>> len(function_module("json:dumps", Path(".")).source)
    12
    """
    if not _CALL.fullmatch(text):
        raise DefinitionError(f"is {text!r:.60}", "A function is named like this: package.module:function")
    module, _, name = text.partition(":")
    if module in sys.builtin_module_names:
        return Module(_digest(sys.version.encode()))
    beside = _file(module, [folder])
    there = os.path.realpath(folder) if beside is not None else ""
    file = beside or _file(module, _places(folder)[1:])
    if file is None:
        raise DefinitionError(
            f"there is no module {module!r}", f"It is looked for in {folder} and where Python finds modules."
        )
    if file.suffix != ".py":
        return Module(_digest(file.read_bytes()), there)  # compiled: what it has is not known
    source = file.read_bytes()
    names, open_ended = _names(source, file)
    if not open_ended and name.partition(".")[0] not in names:
        raise DefinitionError(f"{file.name} has no {name!r}.{did_you_mean(name, sorted(names))}")
    return Module(_digest(source), there)


@dataclass(frozen=True)
class Arguments:
    """The names that a function takes."""

    taken: tuple[str, ...]
    needed: tuple[str, ...]
    """Those without a default."""


def function_arguments(text: str, folder: Path) -> Arguments | None:
    """Give the arguments of a function; nothing where its source does not tell them for certain.

    Parameters
    ----------
    text : str
        ``package.module:function``, which was found.
    folder : Path
        The workflow's folder.

    Examples
    --------
    >>> function_arguments("textwrap:shorten", Path("."))  # it has **kwargs
    >>> function_arguments("colorsys:rgb_to_hsv", Path("."))
    Arguments(taken=('r', 'g', 'b'), needed=('r', 'g', 'b'))
    """
    module, _, name = text.partition(":")
    file = None if module in sys.builtin_module_names else _file(module, _places(folder))
    if file is None or file.suffix != ".py":
        return None
    source = file.read_bytes()
    tree = ast.parse(source)
    made = [node for node in ast.walk(tree) if getattr(node, "name", getattr(node, "id", "")) == name]
    written = [node for node in made if not (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load))]
    open_ended = _names(source, file)[1]
    match written:
        case [ast.FunctionDef(decorator_list=[], args=ast.arguments(kwarg=None, posonlyargs=[]) as a) as node]:
            if open_ended or node not in tree.body:
                return None
            taken = [one.arg for one in (*a.args, *a.kwonlyargs)]
            given = [one.arg for one, default in zip(a.kwonlyargs, a.kw_defaults, strict=True) if default is not None]
            given += [one.arg for one in a.args[len(a.args) - len(a.defaults) :]]
            return Arguments(tuple(taken), tuple(one for one in taken if one not in given))
        case _:
            return None


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=6).hexdigest()


def _places(folder: Path) -> list[Path]:
    """Give where modules are looked for."""
    return [folder, *(Path(entry) for entry in sys.path if entry)]


def _file(module: str, places: list[Path]) -> Path | None:
    parts = module.split(".")
    for place in places:
        base = place.joinpath(*parts)
        for file in (base / "__init__.py", base.with_name(f"{parts[-1]}.py")):
            if file.is_file():
                return file
        compiled = sorted(base.parent.glob(f"{parts[-1]}.*.so")) if base.parent.is_dir() else []
        if compiled:
            return compiled[0]
    return None


def _names(source: bytes, file: Path) -> tuple[set[str], bool]:
    """Give the names that a module has, and whether it may have others."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError) as problem:
        raise DefinitionError(f"{file.name} is no Python: {problem}") from problem
    names: set[str] = set()
    open_ended = False
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names.update((alias.asname or alias.name).partition(".")[0] for alias in node.names)
            open_ended |= any(alias.name == "*" for alias in node.names)
    return names, open_ended or "__getattr__" in names or bool({"globals", "exec"} & _called(tree))


def _called(tree: ast.AST) -> set[str]:
    return {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
