"""Cells as steps: what the steps of one notebook are to each other, by the names that they read and assign."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

from .. import definition as d
from ..model import NOTHING, Names
from ..namespace import Piece
from ..source import SETUP, Notebook, selected
from ..values import Value
from .names import Place, Use, uses
from .order import Order
from .sight import ListSight, Sight

__all__ = ["Left", "Links", "cells_of", "links", "path_of"]

Tags: TypeAlias = tuple[str, ...]
"""What selects the cells of a step."""


@dataclass(frozen=True)
class Left:
    """What the steps have left that a step of their notebook waits for, by id."""

    ids: tuple[str, ...]

    def resolve(self, names: Names) -> Value:
        """Give what each left; of one that was skipped there is nothing."""
        seen = names["steps"]
        assert isinstance(seen, Mapping), "every scope has its steps"
        return {step_id: seen[step_id]["names"] for step_id in self.ids if step_id in seen and "names" in seen[step_id]}


@dataclass(frozen=True)
class Links:
    """The steps of one notebook, with the names that they read and assign."""

    path: str
    """Of the notebook, as the outermost workflow says it."""
    text: str
    """What names it in the definitions."""
    setup: Use
    """Of the cells that prepare each kernel."""
    rest: Use
    """Of those among them that come behind the parameters."""
    steps: Mapping[Tags, Use]
    """Of each selection of cells, by its tags."""
    readers: tuple[d.Cells, ...]
    """The steps."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """Names of the environment variables that any of the steps hides: all do, for values go from one to another,
        and one may be repeated in the kernel of another."""
        return tuple(dict.fromkeys(name for one in self.readers for name in one.secrets))

    def of(self, one: d.Cells, sight: Sight) -> dict[str, Any]:
        """Give what a step is told of the others, for the constructor of its class."""
        earlier = tuple(self._earlier(sight))
        prepares, wanted = _prepares(one), self.wanted(one, earlier)
        leaves = frozenset[str]() if prepares else self.leaves(one, earlier, wanted)
        piece = self.piece(one, one.id)
        return {
            "piece": piece,
            "earlier": earlier,
            "given": Left(tuple(piece.id for piece in earlier)) if earlier else NOTHING,
            "named": frozenset(one.needs or ()),
            "leaves": leaves,
            "offers": frozenset() if prepares or leaves is None else (piece.assigns or frozenset()) - leaves,
            "wanted": wanted,
            "prepares": prepares,
            "notebook_secrets": self.secrets,
            "passes": frozenset(other.id for other in self.readers if _prepares(other)),
            "assigned": tuple(one.names),
            "counts": None if prepares else self._counts(one),
            "prepared": frozenset(self.setup.assigns),
            "goes_on": _above(one, sight.lists[0]),
            "goes_on_in": _below(one, sight.lists[0]),
        }

    def missing(self, one: d.Cells, sight: Sight) -> Iterator[tuple[str, Place, str]]:
        """Give the names that a step reads and that no step gives it, each with its place, and a step that has it."""
        use, earlier = self.steps[tuple(one.tags)], tuple(self._earlier(sight))
        unknown = any(unknown.assigns for unknown in (*self.setup.unknown, *use.unknown))
        if unknown or _prepares(one) or any(piece.assigns is None for piece in earlier):
            return
        there = {*one.names, *one.parameters, *use.assigns, *self.setup.assigns}
        there.update(*(piece.assigns or () for piece in earlier))
        for name, place in use.needs.items():
            if name not in there and not place.through:
                others = (other.id for other in self.readers if name in self.steps[tuple(other.tags)].assigns)
                yield name, place, next(others, "")

    def piece(self, one: d.Cells, step_id: str, behind: frozenset[str] = frozenset()) -> Piece:
        """Give what a step is to others; values that it is given itself it does not read.

        What it assigns in one branch only, and setup in each kernel, it reads: else setup's might count as its own.
        """
        use = self.steps[tuple(one.tags)]
        perhaps = self._perhaps(use)
        own = frozenset(one.names) | {name for name in one.parameters if self._differ(name)}
        reads = None if any(unknown.reads for unknown in use.unknown) else (perhaps | use.reads.keys()) - own
        assigns = None if any(unknown.assigns for unknown in use.unknown) else frozenset(use.assigns)
        return Piece(step_id, path_of(self.path, one), reads, assigns, behind, use.certain)

    def _perhaps(self, use: Use) -> frozenset[str]:
        """Give the names of setup that a step assigns in one branch only: else they are what they were."""
        return frozenset(use.assigns.keys() - use.certain) & self.setup.assigns.keys()

    def prepares(self, name: str) -> bool:
        """Whether cells that prepare each kernel may read or assign a name behind the parameters."""
        unknown = any(one.reads or one.assigns for one in self.rest.unknown)
        return unknown or name in self.rest.reads or name in self.rest.assigns

    def _counts(self, one: d.Cells) -> frozenset[str] | None:
        """Give the parameters whose values count for a step: those that it, or a cell which prepares it, may read."""
        use = self.steps[tuple(one.tags)]
        if any(unknown.reads for unknown in (*use.unknown, *self.rest.unknown)):
            return None
        return frozenset(one.names) | use.reads.keys() | self._perhaps(use) | self.rest.reads.keys()

    def _differ(self, name: str) -> bool:
        """Whether steps are given different values of a parameter: each has its own then, whatever others left."""
        given = [one.parameters.get(name, ...) for one in self.readers]
        return any(value != given[0] for value in given)

    def leaves(self, me: d.Cells, earlier: Sequence[Piece], wanted: frozenset[str] | None) -> frozenset[str] | None:
        """Give the names that a step leaves as they are then; ``None``: all.

        They are those that are wanted, for later steps may read them, and those that were there before and that it may
        have changed: what was saved before would be taken for what they are, as soon as somebody reads them.
        """
        piece = self.piece(me, me.id)
        if wanted is None or piece.reads is None or piece.assigns is None:
            return None
        there = {*self.setup.assigns}.union(*(piece.assigns if one.assigns is None else one.assigns for one in earlier))
        return wanted | piece.reads | (piece.assigns & there)

    def wanted(self, me: d.Cells, earlier: Sequence[Piece]) -> frozenset[str] | None:
        """Give the names that steps may read which do not stand before one; ``None``: any."""
        before = {piece.path for piece in earlier}
        found: set[str] = set()
        for other in self.readers:
            piece = self.piece(other, other.id)
            if other is me or piece.path in before:
                continue
            if piece.reads is None:
                return None
            found |= piece.reads
        return frozenset(found)

    @cached_property
    def _ids(self) -> frozenset[int]:
        return frozenset(map(id, self.readers))

    def has(self, step: d.Step) -> bool:
        """Whether a step is one of them."""
        return id(step) in self._ids

    def _earlier(self, sight: Sight) -> Iterator[Piece]:
        """Give those that have ended when a step starts, in the order of one worker, those of outer lists first."""
        outer: frozenset[str] = frozenset()
        for each in reversed(sight.lists):
            place = {step_id: at for at, step_id in enumerate(each.steps)}
            pieces = []
            for step_id in sorted(each.seen, key=lambda one: (len(each.behind.get(one, ())), place[one])):
                step = each.steps[step_id]
                inner = step.step if isinstance(step, d.FanOut) else step
                if isinstance(inner, d.Cells) and self.has(inner):
                    piece = self.piece(inner, step_id, outer | each.behind.get(step_id, frozenset()))
                    if _prepares(inner):  # it leaves no name
                        piece = replace(piece, reads=frozenset(), assigns=frozenset())
                    pieces.append(piece)
            yield from pieces
            outer |= {piece.id for piece in pieces}


def links(notebook: Notebook, path: str, text: str, given: Sequence[d.Step]) -> Links:
    """Look at the steps of a notebook among those of a list, however deep.

    Raises
    ------
    DefinitionError
        If Python cannot read one of their cells.
    """
    turns = list(_turns(given, text, frozenset()))
    before: dict[Tags, set[Tags]] = {tuple(one.tags): set() for one, _ in turns}
    for one, ended in turns:
        before[tuple(one.tags)] |= ended
    prepare = selected(notebook, ()).cells
    parts = [selected(notebook, tags) for tags in before]
    own = [[cell for cell in part.cells if cell.number not in part.preparing] for part in parts]
    ids = list(before)
    setup, found = uses(
        prepare, own, [[at for at in range(me) if ids[at] in before[ids[me]]] for me in range(len(ids))]
    )
    first = [cell for cell in prepare if "parameters" in cell.tags]
    _, (rest,) = uses(first, [[cell for cell in prepare if cell not in first]])
    return Links(path, text, setup, rest, dict(zip(ids, found, strict=True)), tuple(one for one, _ in turns))


def _turns(given: Sequence[d.Step], text: str, outer: frozenset[Tags]) -> Iterator[tuple[d.Cells, frozenset[Tags]]]:
    """Give the steps of a notebook, none before one that it waits for, each with those that have ended then."""
    order = Order.of(given)
    inside: dict[str, set[Tags]] = {step.id: set() for step in given}
    for step in sorted(given, key=lambda step: len(order.ended(step.id))):
        ended = outer.union(*(inside[one] for one in order.ended(step.id)))
        found = [(step, ended)] if isinstance(step, d.Cells) and step.cells == text else []
        for one, before in (*found, *(turn for _, inner in step.lists() for turn in _turns(inner, text, ended))):
            inside[step.id].add(tuple(one.tags))
            yield one, before


def _prepares(one: d.Cells) -> bool:
    """Whether a step only runs the cells that run in every kernel: it leaves no name to others."""
    return list(one.tags) == [SETUP]


def cells_of(step: d.Step) -> d.Cells:
    """Give the cells of a step of a notebook, which a fan-out has inside."""
    inner = step.step if isinstance(step, d.FanOut) else step
    assert isinstance(inner, d.Cells), "the steps of a notebook are cells, or fan-outs of cells"
    return inner


def path_of(path: str, one: d.Cells) -> str:
    """Give what a selection of cells is called among notebooks."""
    return f"{path}#{'+'.join(one.tags)}"


# -- whose kernel it is -------------------------------------------------------------------------------------------


def _above(one: d.Cells, here: ListSight) -> str:
    """Give the id of the step in whose kernel one goes on; empty: it has one of its own."""
    before = list(here.steps.items())[: _place(one, here)]
    return before[-1][0] if before and _goes_on(one, before[-1][1]) else ""


def _below(one: d.Cells, here: ListSight) -> str:
    """Give the id of the step that goes on in the kernel of one; empty: there is none."""
    behind = list(here.steps.items())[_place(one, here) + 1 :]
    return behind[0][0] if behind and _goes_on(behind[0][1], one) else ""


def _place(one: d.Cells, here: ListSight) -> int:
    return list(here.steps).index(one.id)


def _goes_on(one: d.Step, above: d.Step) -> bool:
    """Whether a step goes on in the kernel of the one above it: nothing but that is what it waits for."""
    if not isinstance(one, d.Cells) or not isinstance(above, d.Cells) or one.needs is not None:
        return False
    return _kernel(one) == _kernel(above)


def _kernel(one: d.Cells) -> tuple[object, ...]:
    """Give what must be equal for two steps to share a kernel."""
    return one.cells, one.kernel, one.cwd, one.env, tuple(one.secrets), one.parameters
