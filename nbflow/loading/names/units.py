"""Units: code that is walked by itself, what it does, and the order in which it is walked again.

A unit is a step, or the body of a function in one way of calling it. It is walked again when something that it looked
at came to hold more, and not by whoever calls it: what units do is put together along their calls in the end.
"""

from __future__ import annotations

import ast
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from .tables import SWALLOWING
from .things import NOTHING, Attributes, Box, Frame, Func, Held, Holds, Thing, Things
from .told import LAMBDA, Place, Unknown, Use

__all__ = ["ANY", "NOWHERE", "Book", "Call", "Deed", "Unit", "World", "use_of"]

Deed: TypeAlias = "tuple[Literal['reads', 'asks', 'assigns', 'deletes', 'unknown'], str, bool, bool]"
"""One thing that code does: with a name, or unknown with what stands there, whether it reads and assigns. It asks for
a name that it reads where the code goes on without it."""
READING: tuple[Literal["reads"], Literal["asks"]] = "reads", "asks"
ANY = "*"
"""Stands for all names that something unknown may have assigned."""
NOWHERE = Place(0, 0)
"""In the body of a function: where it is called is what counts."""


class Unit:
    """Code that is walked by itself."""

    def __init__(self, frame: Frame | None = None) -> None:
        self.frame = frame
        """Of a function's body; nothing for a step."""
        self.returns = Held()
        """Read by all that call it."""
        self.certain: frozenset[str] = frozenset()
        """Global names that it assigned whenever it ended well."""
        self.lost: dict[ast.AST, set[object]] = {}
        """For each loop the names that may be unbound when a turn of it begins."""
        self.turn = 0
        """The step that it was last used by."""
        self.walks = 0
        self.valid = False
        self.queued = False
        self.begin()
        self.valid = False

    def begin(self) -> None:
        """Forget what was found, since it is walked again."""
        self.walks += 1
        self.valid = True
        self.deeds: dict[Deed, set[Place]] = {}
        self.calls: dict[Call, frozenset[str]] = {}
        """With the names that were bound at each call, which it so does not read from outside."""
        self.gone: set[str] = set()
        """Global names that it, or what it calls, may delete."""
        self.looked: dict[str, tuple[bool, Things]] = {}
        """Global names that it looked at: whether one was there before the step, and what it held."""
        self.gives: dict[str, Things] = {}
        """What the global names hold that it assigns."""

    def note(self, deed: Deed, place: Place) -> None:
        """Note that something is done."""
        self.deeds.setdefault(deed, set()).add(place)

    def call(self, call: Call, bound: Iterable[object]) -> None:
        """Note that another unit is called."""
        names = frozenset(name for name in bound if isinstance(name, str))
        self.calls[call] = self.calls.get(call, names) & names

    @property
    def name(self) -> str:
        """The function's name."""
        func = self.frame.func if self.frame is not None else None
        if func is None:
            return ""
        return LAMBDA if isinstance(func.node, ast.Lambda) else func.name


@dataclass(frozen=True, slots=True)
class Call:
    """A call of one unit by another."""

    callee: Unit
    place: Place
    caught: bool
    """Whether the caller goes on if a name is not there."""

    def of(self, deeds: set[Deed], bound: frozenset[str]) -> set[Deed]:
        """Give those deeds of the callee that are the caller's too, of which some names are bound at the call."""
        gone: set[Deed] = {(kind, name, False, False) for name in bound for kind in READING}
        left = deeds - gone if gone else deeds
        return {("asks", *deed[1:]) if deed[0] == "reads" else deed for deed in left} if self.caught else left


@dataclass(frozen=True)
class World:
    """The global names of a step, whose order within the step does not count."""

    given: Mapping[str, Things]
    """What they held before."""
    own: Attributes
    """What the step makes of them."""


class Book:
    """All things of a notebook, and the units that are to be walked."""

    def __init__(self) -> None:
        self.looks = 0
        self.made: dict[object, Any] = {}
        self.world = World({}, Attributes())
        self.queue: deque[Unit] = deque()
        self.turn = 0
        self.depth = 0
        """How many bodies are being walked, one inside of the other."""
        self.given = 0
        """How many things calls were given, and how many calls there were."""
        self.contexts: Counter[ast.AST] = Counter()
        """In how many ways functions are called."""
        self.swallowing: set[str] = set(SWALLOWING)
        """How context managers are called behind whose exceptions the code goes on."""
        self.future = False
        """Whether annotations are not evaluated."""

    def step(self, given: Holds) -> Unit:
        """Begin a step."""
        self.turn += 1
        self.world = World(given, Attributes())
        unit = Unit()
        unit.turn = self.turn
        return unit

    def the(self, key: tuple[object, ...], make: Callable[[], Any]) -> Any:
        """Give the thing of a place, made once."""
        found = self.made.get(key)
        if found is None:
            found = self.made[key] = make()
        return found

    def box(self, node: ast.AST, owner: object, held: Iterable[Thing] = (), *, opaque: bool = False) -> Box:
        """Give the container that is made at a place."""
        box: Box = self.the((node, owner, "box"), lambda: Box(opaque=opaque))
        self.grow(box.held, held)
        return box

    def box_of(self, attrs: Attributes) -> Box:
        """Give the container that an object is itself: what is put into it may be any of its attributes."""

        def make() -> Box:
            box = Box(opaque=False)
            box.held = attrs["*"]
            box.held.box = box
            self._fill(box, box.held.things)
            return box

        found: Box = self.the((attrs, "box"), make)
        return found

    def frame(self, key: tuple[object, ...], func: Func) -> Frame:
        """Give the frame of a function for a way of calling it."""

        def make() -> Frame:
            frame = Frame(func.scope, func.frame, func)
            frame.unit = Unit(frame)
            return frame

        found: Frame = self.the(key, make)
        return found

    def grow(self, held: Held, more: Iterable[Thing]) -> None:
        """Let something hold more."""
        fresh = frozenset(more) - held.things
        if held.there and not fresh:
            return
        held.there, held.things = True, held.things | fresh
        self.notify(held)
        if held.whole is not None:
            self.notify(held.whole)
        if held.box is not None:
            self._fill(held.box, fresh)

    def _fill(self, box: Box, fresh: Things) -> None:
        """Let a container, and those around it, hold what came into it."""
        for one in fresh:
            if isinstance(one, Box):
                one.around.add(box)
        leaves = NOTHING.union(*(one.leaves.things if isinstance(one, Box) else (one,) for one in fresh))
        left = [box]
        while left:
            one = left.pop()
            if not leaves <= one.leaves.things:
                self.grow(one.leaves, leaves)
                left += one.around

    def notify(self, held: Held) -> None:
        """Let all be walked again that looked at something."""
        for unit in held.readers:
            unit.valid = False
            if unit.turn == self.turn:
                self.put(unit)

    def reach(self, unit: Unit) -> bool:
        """Whether a unit is used by this step for the first time."""
        if unit.turn == self.turn:
            return False
        unit.turn, unit.walks = self.turn, 0
        return True

    def put(self, unit: Unit) -> None:
        """Let a unit be walked when it is its turn."""
        if unit.frame is not None and not unit.queued:
            unit.queued = True
            self.queue.append(unit)


def use_of(step: Unit) -> Use:
    """Give what a step does, itself and by the functions that run in it."""
    done = {deed: set(places) for deed, places in step.deeds.items()}
    total = _together(call.callee for call in step.calls)
    for call, bound in step.calls.items():
        place = call.place
        at = Place(place.cell, place.line, call.callee.name)
        for deed in call.of(total[call.callee], bound):
            done.setdefault(deed, set()).add(place if deed[0] == "unknown" else at)
    names: dict[str, dict[str, Place]] = {kind: {} for kind in ("reads", "assigns", "deletes", "unknown")}
    for (kind, name, *_), places in sorted(done.items(), key=lambda one: (min(one[1]), one[0])):
        names["reads" if kind in READING else kind].setdefault(name, min(places))
    needs = {
        name: min(places, key=lambda place: (bool(place.through), place))
        for (kind, name, *_), places in done.items()
        if kind == "reads"
    }
    unknown = sorted(
        (place, what, reads, assigns)
        for (kind, what, reads, assigns), places in done.items()
        if kind == "unknown"
        for place in places
    )
    told = tuple(Unknown(place, what, reads=reads, assigns=assigns) for place, what, reads, assigns in unknown)
    return Use(names["reads"], needs, names["assigns"], step.certain, frozenset(names["deletes"]), told)


def _together(first: Iterable[Unit]) -> dict[Unit, set[Deed]]:
    """Give for units, and all that they call, what each does with those that it calls."""
    order = _callees_first(first)
    total = {unit: set(unit.deeds) for unit in order}
    grown = True
    while grown:
        grown = False
        for unit in order:
            mine, before = total[unit], len(total[unit])
            for call, bound in unit.calls.items():
                mine |= call.of(total[call.callee], bound)
            grown = grown or len(mine) > before
    return total


def _callees_first(first: Iterable[Unit]) -> list[Unit]:
    found: dict[Unit, None] = {}
    seen: set[Unit] = set()
    left: list[tuple[Unit, bool]] = [(unit, False) for unit in first]
    while left:
        unit, done = left.pop()
        if done:
            found[unit] = None
        elif unit not in seen:
            seen.add(unit)
            left.append((unit, True))
            left += [(call.callee, False) for call in unit.calls if call.callee not in seen]
    return list(found)
