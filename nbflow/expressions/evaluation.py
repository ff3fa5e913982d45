"""Evaluation: walks the tree of an expression. Nothing is compiled, and every step is counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from jinja2 import nodes

from ..errors import did_you_mean
from ..model import Names
from .filters import Run
from .limits import ExpressionError, Size, joined
from .operations import (
    Missing,
    arithmetic,
    contains,
    described,
    lookup,
    measured_text,
    number,
    ordered,
    present,
    same,
)


class Evaluation(Run):
    """The evaluation of one expression, or of all expressions of one text.

    Parameters
    ----------
    names : Names
        The names that it may see.
    """

    def __init__(self, names: Names) -> None:
        super().__init__()
        self.names = names

    def value(self, node: nodes.Node) -> object:
        """Give the value of a node, which may be :class:`~nbflow.expressions.operations.Missing`."""
        self.spend()
        return _NODES[type(node)](self, node)

    def used(self, node: nodes.Node) -> object:
        """Give the value of a node, or raise if it is not there."""
        return present(self.value(node))


# One function for each kind of node


def _const(run: Evaluation, node: nodes.Const) -> object:  # noqa: ARG001
    return node.value


def _name(run: Evaluation, node: nodes.Name) -> object:
    try:
        return run.names[node.name]
    except KeyError:
        return Missing(lambda: f"{node.name} is not there.{did_you_mean(node.name, _known(run.names))}")


def _known(names: Names) -> list[str]:
    """Give the names, where they can be listed."""
    return list(names) if isinstance(names, Mapping) else []


def _getattr(run: Evaluation, node: nodes.Getattr) -> object:
    return lookup(run.value(node.node), node.attr, node.node)


def _getitem(run: Evaluation, node: nodes.Getitem) -> object:
    owner, key = run.value(node.node), run.value(node.arg)
    if not isinstance(key, slice) or isinstance(owner, Missing):
        return lookup(owner, key, node.node)
    if not isinstance(owner, Sequence):
        raise ExpressionError(f"{described(owner)} has no slices.")
    part = owner[key]
    run.touch(part)
    return part if isinstance(part, str) else list(part)


def _slice(run: Evaluation, node: nodes.Slice) -> object:
    return slice(*(None if part is None else run.used(part) for part in (node.start, node.stop, node.step)))


def _list(run: Evaluation, node: nodes.List | nodes.Tuple) -> object:
    items = [run.used(item) for item in node.items]
    Size(run).add(items)
    return items


def _dict(run: Evaluation, node: nodes.Dict) -> object:
    mapping: dict[str, object] = {}
    for pair in node.items:
        key = run.used(pair.key)
        if not isinstance(key, str):
            raise ExpressionError(f"the key {described(key)} of a mapping is no text.")
        mapping[key] = run.used(pair.value)
    Size(run).add(mapping)
    return mapping


def _condition(run: Evaluation, node: nodes.CondExpr) -> object:
    if run.used(node.test):
        return run.value(node.expr1)
    if node.expr2 is None:
        return Missing("there is no `else`, and the condition behind `if` is false.")
    return run.value(node.expr2)


def _and(run: Evaluation, node: nodes.And) -> object:
    left = run.used(node.left)
    return run.value(node.right) if left else left


def _or(run: Evaluation, node: nodes.Or) -> object:
    left = run.used(node.left)
    return left or run.value(node.right)


def _not(run: Evaluation, node: nodes.Not) -> object:
    return not run.used(node.node)


def _compare(run: Evaluation, node: nodes.Compare) -> object:
    left = run.used(node.expr)
    for operand in node.ops:
        right = run.used(operand.expr)
        if not _COMPARISONS[operand.op](run, left, right):
            return False
        left = right
    return True


_COMPARISONS: Final[dict[str, Callable[[Evaluation, object, object], bool]]] = {
    "eq": same,
    "ne": lambda run, left, right: not same(run, left, right),
    "lt": lambda run, left, right: ordered("<", left, right),  # noqa: ARG005
    "lteq": lambda run, left, right: ordered("<=", left, right),  # noqa: ARG005
    "gt": lambda run, left, right: ordered(">", left, right),  # noqa: ARG005
    "gteq": lambda run, left, right: ordered(">=", left, right),  # noqa: ARG005
    "in": lambda run, left, right: contains(run, right, left),
    "notin": lambda run, left, right: not contains(run, right, left),
}


def _arithmetic(run: Evaluation, node: nodes.BinExpr) -> object:
    return arithmetic(run, node.operator, run.used(node.left), run.used(node.right))


def _negative(run: Evaluation, node: nodes.Neg) -> object:
    return -number(run.used(node.node))


def _positive(run: Evaluation, node: nodes.Pos) -> object:
    return number(run.used(node.node))


def _concat(run: Evaluation, node: nodes.Concat) -> object:
    return joined("", (measured_text(run, run.used(part)) for part in node.nodes))


def _filter(run: Evaluation, node: nodes.Filter) -> object:
    return run.filter(node.name, *_arguments(run, node))


def _test(run: Evaluation, node: nodes.Test) -> object:
    return run.test(node.name, *_arguments(run, node))


def _arguments(run: Evaluation, node: nodes.Filter | nodes.Test) -> tuple[object, list[object], dict[str, object]]:
    assert node.node is not None, "only blocks of statements have filters of nothing"
    return (
        run.value(node.node),
        [run.value(argument) for argument in node.args],
        {str(argument.key): run.value(argument.value) for argument in node.kwargs},
    )


_NODES: Final[dict[type[nodes.Node], Callable[..., object]]] = {
    nodes.Add: _arithmetic,
    nodes.And: _and,
    nodes.Compare: _compare,
    nodes.Concat: _concat,
    nodes.CondExpr: _condition,
    nodes.Const: _const,
    nodes.Dict: _dict,
    nodes.Div: _arithmetic,
    nodes.Filter: _filter,
    nodes.FloorDiv: _arithmetic,
    nodes.Getattr: _getattr,
    nodes.Getitem: _getitem,
    nodes.List: _list,
    nodes.Mod: _arithmetic,
    nodes.Mul: _arithmetic,
    nodes.Name: _name,
    nodes.Neg: _negative,
    nodes.Not: _not,
    nodes.Or: _or,
    nodes.Pos: _positive,
    nodes.Pow: _arithmetic,
    nodes.Slice: _slice,
    nodes.Sub: _arithmetic,
    nodes.Test: _test,
    nodes.Tuple: _list,
}
"""What evaluates each kind of node; there are no others in an expression that was read."""
