"""Scopes: which names belong to a function or class, told from its syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from ...source import names_given

__all__ = [
    "Code",
    "Definition",
    "Scope",
    "annotations_of",
    "inside",
    "last_name",
    "parameters",
    "stored",
]

Definition: TypeAlias = "ast.FunctionDef | ast.AsyncFunctionDef"
Code: TypeAlias = "Definition | ast.Lambda | ast.GeneratorExp"
"""What has a body that runs later."""


@dataclass(frozen=True)
class Scope:
    """The names that belong to a function or class."""

    names: frozenset[str] = frozenset()
    globals: frozenset[str] = frozenset()
    generator: bool = False
    """Whether a call runs nothing yet: of a generator or coroutine."""

    @staticmethod
    def of(node: Code | ast.ClassDef) -> Scope:
        """Give those of a function, lambda, generator expression or class."""
        if isinstance(node, ast.GeneratorExp):
            return Scope(frozenset(stored(one.target for one in node.generators)), generator=True)
        nodes = list(inside([node.body] if isinstance(node, ast.Lambda) else node.body))
        outer = {name for one in nodes if isinstance(one, ast.Global) for name in one.names}
        free = {name for one in nodes if isinstance(one, ast.Nonlocal) for name in one.names}
        given = set(names_given(nodes))
        if not isinstance(node, ast.ClassDef):
            given.update(parameters(node.args))
        lazy = isinstance(node, ast.AsyncFunctionDef) or any(isinstance(o, ast.Yield | ast.YieldFrom) for o in nodes)
        return Scope(frozenset(given - outer - free), frozenset(outer), lazy)


def inside(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Give all nodes of a scope, without those of scopes inside of it; comprehensions belong to it."""
    left = list(body)
    while left:
        node = left.pop()
        yield node
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                left += [*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)]
            case ast.ClassDef():
                left += [*node.decorator_list, *node.bases, *node.keywords]
            case ast.Lambda():
                left += [*node.args.defaults, *filter(None, node.args.kw_defaults)]
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                left += [one for one in ast.walk(node) if isinstance(one, ast.NamedExpr)]
            case _:
                left += ast.iter_child_nodes(node)


def stored(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Give the names that targets bind."""
    return names_given(one for node in nodes for one in ast.walk(node))


def _every(args: ast.arguments) -> list[ast.arg]:
    return [*args.posonlyargs, *args.args, *args.kwonlyargs, *filter(None, (args.vararg, args.kwarg))]


def parameters(args: ast.arguments) -> list[str]:
    """Give the names of all parameters."""
    return [one.arg for one in _every(args)]


def annotations_of(node: Definition) -> list[ast.expr]:
    """Give the annotations of a function."""
    return [note for note in (*(one.annotation for one in _every(node.args)), node.returns) if note is not None]


def last_name(node: ast.AST) -> str:
    """Give the name behind the last dot of what is called or subscribed."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Call(func=inner) | ast.Subscript(value=inner):
            return last_name(inner)
    return ""
