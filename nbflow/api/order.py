"""Order: where nodes stand in the order of one worker, and what the items are called in which they stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from ..model import Block, NodeId, Step
from ..steps import FanOut
from ..values import Value

__all__ = ["Token", "item_of", "place_of", "tokens"]

Token: TypeAlias = tuple[str, str | None]
"""The id of a step on the way to a node, and the item or turn in which it stands."""


def tokens(node: NodeId) -> list[Token]:
    """Give the steps on the way to a node.

    Examples
    --------
    >>> tokens(("train:fit:3", "score"))
    [('train', None), ('fit', '3'), ('score', None)]
    """
    found: list[Token] = []
    for part in node:
        first, *rest = part.split(":")
        found.append((first, None))
        found += [(step, index) for step, index in zip(rest[::2], rest[1::2], strict=False) if step != "*"]
    return found


def place_of(node: NodeId, block: Block) -> tuple[int, ...]:
    """Give what nodes are sorted by: the places of the steps on the way, each behind its item or turn.

    Examples
    --------
    >>> from nbflow.testing import FakeStep, fan_out
    >>> flow = Block([FakeStep(id="load"), fan_out([5, 6], id="train", step=FakeStep(id="fit"))])
    >>> place_of(("load",), flow), place_of(("train",), flow), place_of(("train:fit:1",), flow)
    ((0,), (1,), (1, 1, 0))
    """
    found: list[int] = []
    for turn, place, _ in _way(node, block):
        found += [place] if turn is None else [int(turn), place]
    return tuple(found)


def item_of(node: NodeId, items: Sequence[Value], block: Block) -> dict[str, Value]:
    """Give the values of the items in which a node stands, by name; an item that is a mapping has names of its own.

    Examples
    --------
    >>> from nbflow.testing import FakeStep, fan_out
    >>> flow = Block([fan_out([], id="train", step=FakeStep(id="fit"), item_name="city")])
    >>> item_of(("train:fit:1",), ("Oslo",), flow)
    {'city': 'Oslo'}
    """
    if not items:
        return {}
    above = [step for _, _, step in _way(node, block)]
    names = [step.item_name for step in above if isinstance(step, FanOut)]
    found: dict[str, Value] = {}
    for name, value in zip(names, items, strict=False):
        found.update(value if isinstance(value, Mapping) else {name: value})
    return found


def _way(node: NodeId, block: Block) -> Iterator[tuple[str | None, int, Step]]:
    """Give the steps on the way to a node: the item or turn of each, its place in the lists of its owner, itself."""
    blocks: tuple[Block, ...] = (block,)
    for step_id, turn in tokens(node):
        before = 0
        for one in blocks:
            if step_id in one.at:
                break
            before += len(one.steps)
        else:
            return
        step = one.steps[one.at[step_id]]
        yield turn, before + one.at[step_id], step
        blocks = step.blocks
