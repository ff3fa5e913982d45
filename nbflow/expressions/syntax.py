"""Syntax: text becomes a checked tree, and what it refers to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from jinja2 import TemplateSyntaxError, nodes
from jinja2.lexer import string_re
from jinja2.parser import Parser

from .evaluation import Evaluation
from .filters import ENVIRONMENT, FILTERS, NESTED, check_call
from .limits import ExpressionError, Located, number_fits
from .operations import plain, step, written

LONGEST: Final = 10_000
"""Characters of an expression."""
DEEPEST: Final = 100
"""Levels of a syntax tree."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A name, and the constant keys behind it, that an expression reads."""

    root: str
    """The name: ``inputs``, ``steps``, ``item``, ..."""
    path: tuple[str | int, ...]
    """The keys and indexes that follow, as far as they are constant."""
    text: str
    """Root and path as a person writes them: ``steps['load-data'].output``."""
    dynamic: bool
    """Whether a subscript follows that is not constant: ``steps[item]``."""
    optional: bool
    """Whether it may be missing: ``default`` or a test of being defined is applied to it."""
    expression: str
    """The text of the whole expression."""


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """An expression that was read and checked."""

    text: str
    node: nodes.Node
    references: tuple[Reference, ...]


# Text with blocks


def split(text: str) -> list[str]:
    """Give text and expressions in turns: those in odd places stood between ``{{`` and ``}}``.

    Raises
    ------
    ExpressionError
        For a block without an end, and for statements.

    Examples
    --------
    >>> split("{{ city }}-{{ '}}' }}.csv")
    ['', 'city', '-', "'}}'", '.csv']
    """
    pieces = []
    at = 0
    while (start := text.find("{{", at)) >= 0:
        end = _end(text, start + 2)
        pieces += [text[at:start], _inside(text[start + 2 : end])]
        at = end + 2
    pieces.append(text[at:])
    with Located(text):
        if any("{%" in piece for piece in pieces[::2]):
            raise ExpressionError(
                "statements ({% ... %}) are not part of it; only {{ expressions }} are.",
                "If {% stands for itself, write {{ '{%' }}.",
            )
    return pieces


_SIGNS: Final = re.compile(rf"{string_re.pattern}|[()\[\]{{}}'\"]", re.DOTALL)
"""A whole string, a bracket, or a quote that no string begins with."""


def _end(text: str, start: int) -> int:
    """Give the place of the ``}}`` of a block, outside of quotes and brackets."""
    depth = 0
    for sign in _SIGNS.finditer(text, start, start + LONGEST + 2):
        match sign[0]:
            case "(" | "[" | "{":
                depth += 1
            case ")" | "]" | "}" if depth:
                depth -= 1
            case "}" if text.startswith("}}", sign.start()):
                return sign.start()
            case "'" | '"':
                break
    with Located(text[start:]):
        raise ExpressionError(
            f"the block has no end within {LONGEST:,} characters.",
            "It ends with }}, outside of quotes and brackets. If {{ stands for itself, write {{ '{{' }}.",
        )


_QUOTED_BLOCK: Final = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)


def without_quoted_blocks(text: str) -> str:
    """Give an expression in which the blocks that stand in quotes stand for themselves.

    Examples
    --------
    >>> without_quoted_blocks("'{{ item.city }}' == 'Oslo'")
    "item.city == 'Oslo'"
    >>> without_quoted_blocks("item.name == '{{ item.city }}-{{ index }}'")
    "item.name == item.city ~ '-' ~ index"
    """

    def unquoted(sign: re.Match[str]) -> str:
        quote, inner = sign[0][0], sign[0][1:-1]
        if len(sign[0]) < 2 or not _QUOTED_BLOCK.search(inner):
            return sign[0]
        pieces = _QUOTED_BLOCK.split(inner)
        parts = [piece.strip() if at % 2 else f"{quote}{piece}{quote}" for at, piece in enumerate(pieces)]
        return " ~ ".join(part for at, part in enumerate(parts) if at % 2 or pieces[at])

    return _SIGNS.sub(unquoted, text)


def _inside(block: str) -> str:
    """Give the expression of a block."""
    with Located(block):
        if block.startswith("-") or block.endswith("-"):
            raise ExpressionError(
                "{{- and -}} are not part of it: white space around a block stays.",
                "A minus has a blank before it: {{ -1 }}.",
            )
    return block.strip()


# One expression


@lru_cache(maxsize=1024)
def parse(text: str) -> Tree:
    """Give the tree of an expression.

    Raises
    ------
    ExpressionError
        For whatever is wrong with it and does not depend on the values of names.

    Examples
    --------
    >>> [reference.text for reference in parse("steps['load-data'].output.n > inputs.least").references]
    ["steps['load-data'].output.n", 'inputs.least']
    """
    with Located(text):
        node = _parsed(text)
        for part, depth in _walked(node):
            if depth > DEEPEST:
                raise ExpressionError(f"it is nested more than {DEEPEST} deep.")
            _check(part, text)
        run = Evaluation({})
        for constant in _constants(node):
            value = run.value(constant)
            if constant is node:
                plain(value)
        return Tree(text, node, tuple(dict.fromkeys(_references(node, text))))


def _parsed(text: str) -> nodes.Node:
    if not text:
        raise ExpressionError("there is no expression.")
    if len(text) > LONGEST:
        raise ExpressionError(f"it has more than {LONGEST:,} characters.")
    _check_escapes(text)
    try:
        parser = Parser(ENVIRONMENT, text, state="variable")
        node = parser.parse_tuple()
        if not parser.stream.eos:
            parser.fail(f"unexpected {parser.stream.current.value!r}")
    except TemplateSyntaxError as problem:
        raise ExpressionError(f"{_plain_words(problem.message or '')}.") from problem
    return node


def _check_escapes(text: str) -> None:
    """Refuse a backslash that means nothing: Python is about to, and warns until then."""
    for sign in _SIGNS.finditer(text):
        if sign[0] in ("'", '"'):
            return
        for escape in re.finditer(r"\\(.)", sign[0], re.DOTALL):
            if escape[1] not in "\n\\'\"abfnrtv01234567xuUN":
                raise ExpressionError(f"{escape[0]} in {sign[0]} means nothing.", "Write a backslash twice.")


def _plain_words(message: str) -> str:
    for theirs in ("end of template", "end of print statement"):
        message = message.replace(f"'{theirs}'", "the end").replace(theirs, "the end")
    return message.rstrip(".")


def _walked(root: nodes.Node) -> Iterator[tuple[nodes.Node, int]]:
    """Give all nodes in the order of the text, with their level; without recursion, as they may be deep."""
    stack = [(root, 1)]
    while stack:
        node, depth = stack.pop()
        yield node, depth
        stack += [(child, depth + 1) for child in reversed(list(node.iter_child_nodes()))]


def _check(node: nodes.Node, text: str) -> None:
    """Refuse a node that Jinja's grammar has and expressions have not."""
    match node:
        case nodes.Name(name=name) | nodes.Getattr(attr=name) if name.startswith("_"):
            raise ExpressionError(f"{name} begins with _.", f"A key is written so: [{name!r}]")
        case nodes.Const(value=int(value)):
            number_fits(value.bit_length())
        case nodes.Sub():
            _check_difference(node, text)
        case nodes.Filter() | nodes.Test():
            _check_call(node)
        case nodes.Call():
            match node.node:
                case nodes.Getattr(node=owner, attr=name) if name in FILTERS:
                    remedy = f"There is a filter: {written(owner)} | {name}"
                case _:
                    remedy = "There are filters: x | upper"
            raise ExpressionError(f"calls are not part of expressions: {written(node.node)}(...).", remedy)


def _check_call(node: nodes.Filter | nodes.Test) -> None:
    if node.dyn_args is not None or node.dyn_kwargs is not None:
        raise ExpressionError(f"* and ** before the arguments of {node.name!r} are not part of expressions.")
    named = {str(argument.key): argument.value for argument in node.kwargs}
    check_call("filter" if isinstance(node, nodes.Filter) else "test", node.name, node.args, named)
    what, place = NESTED.get(node.name, ("filter", len(node.args)))
    match node.args[place : place + 1]:
        case [nodes.Const(value=name)]:
            check_call(what, name, node.args[place + 1 :], named)


def _check_difference(node: nodes.Sub, text: str) -> None:
    """Refuse ``steps.load-data``: to the grammar it is a difference of ``steps.load`` and ``data``."""
    begin: nodes.Node = node.right
    while isinstance(begin, (nodes.BinExpr, nodes.Getattr, nodes.Getitem, nodes.Filter, nodes.Test)):
        begin = next(begin.iter_child_nodes())
    match node.left, begin:
        case nodes.Getattr(node=nodes.Name(name="steps" | "inputs" as root), attr=key), nodes.Name(name=name):
            close = re.search(rf"\b{root}\.({re.escape(key)}(?:-\w+)*-{re.escape(name)}(?:-\w+)*)", text)
            if close or root == "steps":
                meant = close[1] if close else f"{key}-{name}"
                raise ExpressionError(
                    f"{root}.{meant} is the difference of {root}.{key} and {name}.",
                    f"If it is a name, write {root}[{meant!r}]; a difference of inputs has blanks around its minus.",
                )


def _constants(node: nodes.Node) -> Iterator[nodes.Node]:
    """Give the largest parts without names."""
    if isinstance(node, nodes.Expr) and _is_constant(node):
        yield node
    else:
        for child in node.iter_child_nodes():
            yield from _constants(child)


def _is_constant(node: nodes.Node) -> bool:
    return not isinstance(node, nodes.Name) and node.find(nodes.Name) is None


# References


def _references(node: nodes.Node, text: str, *, optional: bool = False) -> Iterator[Reference]:
    """Give the references in a part, in the order of the text."""
    links: list[nodes.Getattr | nodes.Getitem] = []
    root = node
    while isinstance(root, (nodes.Getattr, nodes.Getitem)):
        links.insert(0, root)
        root = root.node
    children = node.iter_child_nodes()
    if isinstance(root, nodes.Name):
        yield _reference(root.name, links, text, optional=optional)
        children = iter([link.arg for link in links if isinstance(link, nodes.Getitem)])
    for child in children:
        spared = isinstance(node, (nodes.Filter, nodes.Test)) and node.name in _SPARING and child is node.node
        yield from _references(child, text, optional=spared)


_SPARING: Final = frozenset(("d", "default", "defined", "undefined"))


def _reference(root: str, links: list[nodes.Getattr | nodes.Getitem], text: str, *, optional: bool) -> Reference:
    path: list[str | int] = []
    dynamic = False
    for link in links:
        key = link.attr if isinstance(link, nodes.Getattr) else _key(link.arg)
        if key is None:
            dynamic = isinstance(link, nodes.Getitem) and not isinstance(link.arg, nodes.Slice)
            break
        path.append(key)
    return Reference(root, tuple(path), root + "".join(map(step, path)), dynamic, optional, text)


def _key(node: nodes.Expr) -> str | int | None:
    """Give the key of a subscript, if it is constant."""
    value = Evaluation({}).value(node) if _is_constant(node) else None
    return value if isinstance(value, (str, int)) and not isinstance(value, bool) else None
