"""Random notebooks whose steps tangle their names: aliases, parts of each other, changes in place; and what they mean.

What they mean is what plain Python prints that runs setup, the steps that a step waits for, and the step.
"""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from random import Random
from typing import Any

import nbformat

NAMES = "abc"

SHAPE = '''
def shape(**names):
    """Tell values, and which of their parts are one object."""
    seen = {}
    def told(value):
        if not isinstance(value, (list, dict)):
            return repr(value)
        if id(value) in seen:
            return f"<{seen[id(value)]}>"
        seen[id(value)] = len(seen)
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        return f"{seen[id(value)]}:{type(value).__name__}({', '.join(told(part) for _, part in parts)})"
    return ", ".join(f"{name} = {told(value)}" for name, value in names.items())
'''

NEW = (
    "{x} = [{k}]",
    "{x} = {y}",
    "{x} = [{y}]",
    '{x} = [{k}, {{"in": {y}}}]',
    "{x} = list({y})",
    "{x} = {y} + [{k}]",
    "{x} = {y}[-1] if isinstance({y}[-1], list) else [{k}]",
)
"""Statements that bind a name; all values of names are lists that are not empty."""
CHANGES = (
    "{x}.append({k})",
    "{x}[0] = {k}",
    "{x}[0] = {y}",
    "{x}.append({y})",
    "{x} += [{k}]",
    "{x} = {x} + [{k}]",
    "if isinstance({x}[0], list): {x}[0].append({k})",
    "if len({y}) > 2: {x} = [{k}]",
    "if len({y}) > 2: {x}.append({k})",
    "def add():\n    {x}.append({k})\nadd()",
)
"""Those that change what a name is, or perhaps bind it."""


@dataclass(frozen=True)
class Part:
    """A step: what it does, and what names it shows behind that."""

    id: str
    lines: tuple[str, ...]
    shows: tuple[str, ...]
    needs: tuple[str, ...] | None = None

    @property
    def code(self) -> str:
        """Its cell."""
        return "\n".join([*self.lines, f"print(shape({', '.join(f'{name}={name}' for name in self.shows)}))"])


@dataclass(frozen=True)
class Tangle:
    """A notebook of steps."""

    setup: str
    parts: tuple[Part, ...]

    def notebook(self) -> nbformat.NotebookNode:
        """Give the notebook."""
        new = nbformat.v4.new_code_cell
        cells = [new(SHAPE + self.setup, metadata={"tags": ["setup"]}, id="setup")]
        for part in self.parts:
            tags = [f"step:{part.id}", *(f"needs:{other}" for other in part.needs or ())]
            cells.append(new(part.code, metadata={"tags": tags}, id=part.id))
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})

    def behind(self, place: int) -> list[int]:
        """Give the places of the steps that have ended when one starts."""
        part = self.parts[place]
        at = {other.id: index for index, other in enumerate(self.parts)}
        first = [at[other] for other in part.needs] if part.needs is not None else range(max(place - 1, 0), place)
        return sorted({*first, *(earlier for other in first for earlier in self.behind(other))})

    @cached_property
    def meant(self) -> dict[str, frozenset[str]]:
        """For each step what it may print: one text in each order in which the steps before it may have run."""
        return {
            part.id: frozenset(self._printed([*order, place]) for order in self._orders(place))
            for place, part in enumerate(self.parts)
        }

    def is_torn(self, place: int) -> bool:
        """Whether steps before one do not wait for each other: nobody may be able to say whose values it means."""
        before = self.behind(place)
        return any(one not in self.behind(other) for at, other in enumerate(before) for one in before[:at])

    def _orders(self, place: int) -> Iterator[Sequence[int]]:
        before = self.behind(place)
        for order in itertools.permutations(before):
            if all(order.index(first) < order.index(at) for at in before for first in self.behind(at)):
                yield order

    def _printed(self, places: Sequence[int]) -> str:
        world: dict[str, Any] = {}
        exec(SHAPE + self.setup, world)
        shown = io.StringIO()
        for place in places:
            shown = io.StringIO()
            with contextlib.redirect_stdout(shown):
                exec(self.parts[place].code, world)
        return shown.getvalue().strip()

    @property
    def runs(self) -> bool:
        """Whether plain Python runs it: no name is missing, and nothing is empty."""
        try:
            return bool(self.meant)
        except (NameError, IndexError, KeyError, AttributeError, TypeError):
            return False

    def __str__(self) -> str:
        cells = [f"# {part.id} needs:{part.needs}\n{part.code}" for part in self.parts]
        return "\n".join([f"# setup\n{self.setup}", *cells])


@dataclass
class Tangler:
    """Makes notebooks from a source of random numbers."""

    random: Random
    branches: bool = False
    """Whether steps may wait for others than the one above them."""
    deletes: bool = True
    """Whether names may be taken away."""
    _count: int = 0

    def tangle(self) -> Tangle:
        """Give a notebook that plain Python runs."""
        while True:
            names = self.random.sample(NAMES, self.random.randint(0, 2))
            setup = "\n".join(f"{name} = [{self._number()}]" for name in sorted(names))
            parts = [self._part(place) for place in range(self.random.randint(3, 5))]
            made = Tangle(setup, tuple(parts))
            if made.runs:
                return made

    def edited(self, tangle: Tangle) -> Tangle:
        """Give it with one step changed, as plain Python still runs it."""
        while True:
            parts = list(tangle.parts)
            place = self.random.randrange(len(parts))
            lines = list(parts[place].lines)
            match self.random.randint(0, 3):
                case 0 if len(lines) > 1:
                    lines.pop(self.random.randrange(len(lines)))
                case 1:
                    lines[self.random.randrange(len(lines))] = self._line()
                case _:
                    lines.insert(self.random.randint(0, len(lines)), self._line())
            parts[place] = replace(parts[place], lines=tuple(lines))
            made = Tangle(tangle.setup, tuple(parts))
            if made.runs:
                return made

    def _part(self, place: int) -> Part:
        lines = tuple(self._line() for _ in range(self.random.randint(1, 3)))
        shows = tuple(sorted(self.random.sample(NAMES, self.random.randint(1, 2))))
        needs = None
        if self.branches and place and self.random.randint(0, 2):
            needs = tuple(f"s{other}" for other in range(place) if self.random.randint(0, 1)) or None
        return Part(f"s{place}", lines, shows, needs)

    def _line(self) -> str:
        x, y = self.random.choice(NAMES), self.random.choice(NAMES)
        if self.deletes and not self.random.randint(0, 40):
            return f"del {x}"
        kind = NEW if self.random.randint(0, 1) else CHANGES
        return self.random.choice(kind).format(x=x, y=y, k=self._number())

    def _number(self) -> int:
        self._count += 1
        return self._count
