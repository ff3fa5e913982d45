"""Names of steps: which global names each step of a notebook reads and assigns, told from the syntax tree.

A cell is walked in the order in which it runs, and joined where it forks. A function's body is walked where the
function may run, so what it reads counts for the step that calls it. For that a name is said to *hold* functions,
classes, instances and containers of the notebook; plain data is nothing here. Who holds what is a set of things that
only grows, so it may say too much, and says too little only where Python code is not to be seen (:class:`Unknown`).
A body is walked again only if such a set grew that it looked at, and not for each call.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from ...source import Cell
from .cells import UnreadableError, not_python, tree_of
from .scopes import last_name
from .statements import Statements
from .things import NOTHING, Holds
from .told import LAMBDA, Place, Unknown, Use
from .units import ANY, Book, use_of
from .walk import EntangledError

__all__ = ["LAMBDA", "Place", "Unknown", "Use", "uses"]


def uses(
    setup: Sequence[Cell], steps: Sequence[Sequence[Cell]], before: Sequence[Collection[int]] | None = None
) -> tuple[Use, list[Use]]:
    """Tell which global names the setup cells and each step read and assign.

    Parameters
    ----------
    setup : sequence of Cell
        The cells that run first in every kernel.
    steps : sequence of sequences of Cell
        The cells of each step, in the order of the notebook.
    before : sequence of collections of int, optional
        For each step the indexes of those that ended before it; without it, all steps above.

    Returns
    -------
    tuple of Use and list of Use
        Of the setup cells together, and of each step. A name that the setup cells assign is among the reads too, and
        so is one that the step is given otherwise: a caller takes those away.

    Raises
    ------
    DefinitionError
        If Python cannot read a cell.

    Examples
    --------
    >>> cells = [Cell(1, 0, "x = 1", frozenset(), ""), Cell(2, 1, "y = x + 1", frozenset(), "")]
    >>> _, (first, second) = uses([], [[cells[0]], [cells[1]]])
    >>> sorted(first.certain), sorted(second.reads)
    (['x'], ['x'])
    """
    book = Book()
    base: Holds = {}
    of_setup, left = _used(book, setup, base)
    left.onto(base)
    future = book.future
    found: list[tuple[Use, _Left]] = []
    for at, cells in enumerate(steps):
        holds = dict(base)
        for earlier in range(at) if before is None else sorted(before[at]):
            found[earlier][1].onto(holds)
        book.future = future
        found.append(_used(book, cells, holds))
    return of_setup, [use for use, _ in found]


@dataclass(frozen=True)
class _Left:
    """What a step leaves behind."""

    holds: Holds
    certain: frozenset[str]

    def onto(self, holds: Holds) -> None:
        """Put it over what was there before."""
        for name, things in self.holds.items():
            holds[name] = things if name in self.certain else things | holds.get(name, NOTHING)


def _used(book: Book, cells: Sequence[Cell], holds: Holds) -> tuple[Use, _Left]:
    """Tell what the cells of a step do, and what they leave behind."""
    unit = book.step(holds)
    book.looks = 0
    trees = {cell: None for cell in cells if "skip-execution" not in cell.tags and cell.source.strip()}
    entangled: tuple[Unknown, ...] = ()
    try:
        while not unit.valid:
            unit.begin()
            walk = Statements(book, unit)
            for cell in trees:
                _walk_cell(walk, cell)
            walk.settle()
            unit.certain = walk.certain()
    except EntangledError:
        place = Place(next(iter(trees)).number, 1)
        entangled = (Unknown(place, "its functions are too entangled: it", reads=True, assigns=True),)
    use = use_of(unit)
    use = replace(use, unknown=(*use.unknown, *entangled))
    left = {name: book.world.own[name].things for name in use.assigns}
    if any(one.assigns for one in use.unknown):
        left[ANY] = NOTHING
    return use, _Left(left, unit.certain)


def _shows(tree: ast.Module) -> bool:
    """Whether a cell has a value, which the next one finds as ``_``."""
    match tree.body:
        case [*_, ast.Expr(value=value)]:
            return last_name(value) not in ("print", "display")
    return False


def _walk_cell(walk: Statements, cell: Cell) -> None:
    walk.cell = cell.number
    try:
        source = walk.spelled(cell.source)
        tree = walk.book.the((cell, source), lambda: tree_of(source))
        if "raises-exception" in cell.tags:
            walk.guarded(tree.body)
        else:
            walk.block(tree.body)
        walk.shown = walk.shown or _shows(tree)
    except UnreadableError as problem:
        if "raises-exception" in cell.tags:
            return  # what Python does not compile does nothing
        raise not_python(cell, problem.line, problem.message) from None
    except RecursionError:
        raise not_python(cell, 1, "it is nested too deep to be read") from None
