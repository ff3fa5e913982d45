"""Random notebooks whose steps tangle their names: aliases, parts of each other, changes in place; and what they mean.

What they mean is what plain Python prints that runs setup, the steps that a step waits for, and the step.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from random import Random
from typing import Any

import nbformat

NAMES = "abc"


@dataclass(frozen=True)
class Language:
    """What the steps of a notebook may do with names."""

    setup: str
    """Defines ``shape``, which tells values and what they share."""
    value: str
    """An expression for a value; all names have such values, of which the statements below make no others."""
    binds: tuple[str, ...]
    """Statements that bind a name."""
    changes: tuple[str, ...]
    """Those that change what a name is, or perhaps bind it."""


LISTS = Language(
    setup='''
def shape(**names):
    """Tell values, and which of their parts are one object."""
    seen = {}
    def told(value):
        if not isinstance(value, (list, dict)):
            return repr(value)
        if id(value) in seen:
            return f"<{seen[id(value)]}>"
        seen[id(value)] = len(seen)
        parts = value.values() if isinstance(value, dict) else value
        return f"{seen[id(value)]}:{type(value).__name__}({', '.join(map(told, parts))})"
    return ", ".join(f"{name} = {told(value)}" for name, value in names.items())
''',
    value="[{k}]",
    binds=(
        "{x} = [{k}]",
        "{x} = {y}",
        "{x} = [{y}]",
        '{x} = [{k}, {{"in": {y}}}]',
        "{x} = list({y})",
        "{x} = {y} + [{k}]",
        "{x} = {y}[-1] if isinstance({y}[-1], list) else [{k}]",
    ),
    changes=(
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
    ),
)
"""Lists that are not empty, in each other and in dicts."""

OBJECTS = Language(
    setup='''
import copy
class Box:
    """Holds a number, another box, or a function that has one."""
    def __init__(self, v):
        self.v = v
    def put(self, v):
        self.v = v
def shape(**names):
    """Tell values, and which of their parts are one object."""
    seen = {}
    def told(value):
        if id(value) in seen:
            return f"<{seen[id(value)]}>"
        if isinstance(value, Box):
            seen[id(value)] = len(seen)
            return f"{seen[id(value)]}:Box({told(value.v)})"
        if callable(value):
            seen[id(value)] = len(seen)
            return f"{seen[id(value)]}:f({told(value())})"
        return repr(value)
    return ", ".join(f"{name} = {told(value)}" for name, value in names.items())
''',
    value="Box({k})",
    binds=(
        "{x} = Box({k})",
        "{x} = {y}",
        "{x} = Box({y})",
        "{x} = copy.copy({y})",
        "{x} = copy.deepcopy({y})",
        "{x} = {y}.v if isinstance({y}.v, Box) else Box({k})",
        "{x} = Box(lambda one={y}: one)",
        "def get(one):\n    return lambda: one\n{x} = Box(get({y}))",
    ),
    changes=(
        "{x}.v = {k}",
        "{x}.v = {y}",
        "{x}.put({k})",
        "{x}.put({y})",
        "if isinstance({x}.v, Box): {x}.v.v = {k}",
        "if callable({x}.v): {x}.v().put({k})",
        "if isinstance({y}.v, Box): {x} = Box({k})",
        "def put():\n    {x}.v = {k}\nput()",
    ),
)
"""Instances of a class of setup, and closures."""

ARRAYS = Language(
    setup='''
import numpy as np
def shape(**names):
    """Tell values, and which look at one memory."""
    alike = [f"{a}~{b}" for a in names for b in names if a < b and np.shares_memory(names[a], names[b])]
    return ", ".join([*(f"{name} = {value.tolist()}" for name, value in names.items()), *alike])
''',
    value="np.array([{k}, {k}, 0])",
    binds=(
        "{x} = np.array([{k}, 0, {k}])",
        "{x} = {y}",
        "{x} = {y}[::-1]",
        "{x} = {y}.reshape(3)",
        "{x} = {y}.copy()",
        "{x} = {y} + {k}",
    ),
    changes=(
        "{x}[0] = {k}",
        "{x} += {k}",
        "{x} = {x} * 2",
        "{x}[:] = {y}.copy()",
        "{x}.sort()",
        "np.add({x}, {k}, out={x})",
        "if {y}[0] > {y}[1]: {x} = np.array([0, 0, {k}])",
        "if {y}[0] > {y}[1]: {x}[2] = {k}",
        "def add():\n    {x}[1] = {k}\nadd()",
    ),
)
"""Arrays and views of them."""


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
    """The cell that runs in every kernel."""
    parts: tuple[Part, ...]

    def notebook(self) -> nbformat.NotebookNode:
        """Give the notebook."""
        new = nbformat.v4.new_code_cell
        cells = [new(self.setup, metadata={"tags": ["setup"]}, id="setup")]
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
        exec(self.setup, world)
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
            return self._is_clear() and bool(self.meant)
        except (NameError, IndexError, KeyError, AttributeError, TypeError):
            return False

    def _is_clear(self) -> bool:
        """Whether each name is bound above where it stands, also where a condition does not hold."""
        there: dict[int, set[str]] = {}
        for place, part in enumerate(self.parts):
            above = [there[other] for other in self.behind(place)]
            bound = set(re.findall(r"^(\w) = ", self.setup, re.MULTILINE)).union(*above)
            for line in (*part.lines, *part.shows):
                target = re.match(r"(\w) = ", line)
                if not bound.issuperset(re.findall(rf"\b[{NAMES}]\b", line[target.end() :] if target else line)):
                    return False
                bound.update(target[1] if target else ())
            there[place] = bound
        return True

    def __str__(self) -> str:
        cells = [f"# {part.id} needs:{part.needs}\n{part.code}" for part in self.parts]
        made = self.setup.rpartition("\n\n")[2]
        return "\n".join([f"# setup\n{made}", *cells])


@dataclass
class Tangler:
    """Makes notebooks from a source of random numbers."""

    random: Random
    language: Language = LISTS
    branches: bool = False
    """Whether steps may wait for others than the one above them."""
    deletes: bool = True
    """Whether names may be taken away."""
    _count: int = 0

    def tangle(self) -> Tangle:
        """Give a notebook that plain Python runs."""
        while True:
            names = self.random.sample(NAMES, self.random.randint(0, 2))
            made = [f"{name} = {self.language.value.format(k=self._number())}" for name in sorted(names)]
            setup = "\n".join([self.language.setup, *made])
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
        kind = self.language.binds if self.random.randint(0, 1) else self.language.changes
        return self.random.choice(kind).format(x=x, y=y, k=self._number())

    def _number(self) -> int:
        self._count += 1
        return self._count
