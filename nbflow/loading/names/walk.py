"""A walk through one unit: where it stands, which names are bound there, and what they hold."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field

from .tables import BUILTINS, LAST
from .things import FOREIGN, NOTHING, Box, Class, Frame, Held, Thing, Things
from .told import Place
from .units import ANY, NOWHERE, Book, Unit

__all__ = ["Flow", "Loop", "Names"]


@dataclass
class Flow:
    """What is known at one point of the code."""

    bound: set[object] = field(default_factory=set)
    """Global names that were certainly assigned since the start, and names of classes, with the class."""
    dead: bool = False
    """Whether this point is never reached."""

    def copy(self) -> Flow:
        """Give what is known here, for another way to go on."""
        return Flow(set(self.bound), self.dead)

    def join(self, other: Flow) -> Flow:
        """Give what is known where the two ways meet."""
        if self.dead or other.dead:
            return (other if self.dead else self).copy()
        return Flow(self.bound & other.bound)


@dataclass
class Loop:
    """A loop that is being walked, with the ways out of it and back to its head."""

    node: ast.AST
    breaks: list[Flow] = field(default_factory=list)
    continues: list[Flow] = field(default_factory=list)


MOST_LOOKS = 200_000
"""How often one step may look at what something holds; the steps of real notebooks do it some thousand times."""


class EntangledError(Exception):
    """There is no telling in reasonable time what some cells read and assign."""


class Names:
    """Walks the code of one unit: the part that reads and binds names."""

    def __init__(self, book: Book, unit: Unit) -> None:
        self.book = book
        self.unit = unit
        self.flow = Flow()
        self.frame: Frame | None = unit.frame
        self.cls: Class | None = None
        """The class whose body this is."""
        self.cell = 0
        self.at: Place | None = None if unit.frame is None else NOWHERE
        """Where everything stands, for the body of a function and code in a text."""
        self.node: ast.AST = ast.Pass(lineno=1)
        self.returns: set[Thing] = set()
        self.exits: list[Flow] = []
        self.loops: list[Loop] = []
        self.tries: list[set[object]] = []
        """What was unbound since each ``try`` began: an exception may come at any point of it."""
        self.caught = False
        """Whether the code goes on here if a name is not there."""
        self.shown = False
        """Whether a cell of this step had a value."""
        self.asked: frozenset[str] = frozenset()
        """Names for which a test around this asks whether they are there."""
        self.ran: dict[tuple[Things, Things, bool], tuple[frozenset[object], Things]] = {}
        """What libraries were let run, with what was bound then, and what they gave."""
        self.elements_of: dict[ast.expr, Things] = {}
        """What the elements of lists and tuples were that stand in the code."""

    # What the parts below are for

    def eval(self, node: ast.expr) -> Things:
        """Give what an expression may hold, and do what it does."""
        raise NotImplementedError

    def block(self, body: Iterable[ast.stmt]) -> None:
        """Walk statements."""
        raise NotImplementedError

    # Notes

    def place(self) -> Place:
        """Give where the walk is."""
        return self.at or Place(self.cell, getattr(self.node, "lineno", 1))

    def unknown(self, what: str, *, reads: bool = False, assigns: bool = False) -> None:
        """Note what cannot be told."""
        self.unit.note(("unknown", what, reads, assigns), self.place())
        if assigns:
            self.unit.gives[ANY] = NOTHING
            self.book.grow(self.book.world.own[ANY], NOTHING)

    def look(self, held: Held) -> Things:
        """Give what something holds; when it comes to hold more, this unit is walked again."""
        held.readers.add(self.unit)
        self.book.looks += 1
        if self.book.looks > MOST_LOOKS:
            raise EntangledError
        return held.things

    # Names

    def load(self, name: str) -> Things:
        """Give what a name holds, and read it."""
        if self.cls is not None and name in self.cls.scope.names:
            found = self.look(self.cls.attrs[name])
            return found if (self.cls, name) in self.flow.bound else found | self._outer(name)
        return self._outer(name)

    def _outer(self, name: str) -> Things:
        frame = self.owner(name)
        if frame is None and self.cls is not None and name in ("__module__", "__qualname__"):
            return NOTHING
        around = self._class_around() if frame is None and name == "__class__" else None
        if around is not None:
            return frozenset((around,))
        return self.read(name) if frame is None else self.look(frame.locals[name])

    def _class_around(self) -> Class | None:
        """Give the class whose method this is, or is in."""
        frame = self.frame
        while frame is not None:
            if frame.func is not None and frame.func.owner is not None:
                return frame.func.owner
            frame = frame.parent
        return None

    def owner(self, name: str) -> Frame | None:
        """Give the function that a name is local to; nothing if it is global."""
        if self.cls is not None and name in self.cls.scope.globals:
            return None
        frame = self.frame
        while frame is not None and name not in frame.scope.names:
            frame = None if name in frame.scope.globals else frame.parent
        return frame

    def read(self, name: str) -> Things:
        """Read a global name."""
        there, things = self.sight(name, self.unit)
        if name in self.flow.bound:
            return self.book.world.own[name].things
        if not there and name in BUILTINS:
            return things | {FOREIGN}
        if there or not LAST.fullmatch(name):
            asks = self.caught or name in self.asked
            self.unit.note(("asks" if asks else "reads", name, False, False), self.place())
        elif not self.book.world.own[name].there and not (self.shown and name == "_"):
            self.unknown(name)
        return things

    def sight(self, name: str, unit: Unit) -> tuple[bool, Things]:
        """Tell for a unit whether a global name was there before the step, and what it may hold in it."""
        world = self.book.world
        own = world.own[name]
        own.readers.add(unit)
        things = world.given.get(name)
        there = things is not None or (own.there and name not in BUILTINS and not LAST.fullmatch(name))
        found = unit.looked[name] = there, own.things if things is None else own.things | things
        return found

    def known(self, name: str) -> bool:
        """Whether a global name was assigned, before the step or in it."""
        there, _ = self.sight(name, self.unit)
        return there or self.book.world.own[name].there

    def perhaps(self, name: str) -> bool:
        """Whether a global name may be there: it was assigned, or something unknown may have done it."""
        return self.known(name) or self.known(ANY)

    def read_softly(self, name: str) -> Things:
        """Read a name whose absence is no error."""
        if self.owner(name) is not None or not self.perhaps(name):
            return NOTHING
        caught, self.caught = self.caught, self.caught or not self.known(name)
        things = self.load(name)
        self.caught = caught
        return things

    def store(self, name: str, things: Things, *, walrus: bool = False) -> None:
        """Bind a name."""
        if self.cls is not None and name in self.cls.scope.names:
            self.book.grow(self.cls.attrs[name], things)
            self.flow.bound.add((self.cls, name))
            return
        frame = self._owner_outside(name) if walrus else self.owner(name)
        if frame is None:
            self.assign(name, things)
        else:
            self.book.grow(frame.locals[name], things)

    def _owner_outside(self, name: str) -> Frame | None:
        """Give the function that a walrus assigns in, which leaves comprehensions."""
        frame = self.frame
        if frame is None or frame.func is not None:
            return self.owner(name)
        while frame is not None and frame.func is None:
            frame = frame.parent
        return frame if frame is not None and name in frame.scope.names else None

    def assign(self, name: str, things: Things) -> None:
        """Assign a global name."""
        self.unit.note(("assigns", name, False, False), self.place())
        self.unit.gives[name] = self.unit.gives.get(name, NOTHING) | things
        self.book.grow(self.book.world.own[name], things)
        self.flow.bound.add(name)

    def import_as(self, name: str, key: object) -> None:
        """Bind a module, or what is in one."""
        box = self.book.the((key, "import"), lambda: Box(opaque=True, imported=True))
        self.store(name, frozenset((box,)))

    def delete(self, name: str) -> None:
        """Do what ``del name`` does."""
        if self.cls is not None and name in self.cls.scope.names:
            self.unbind((self.cls, name))
        elif self.owner(name) is None:
            self.read(name)
            self.forget(name)

    def forget(self, name: str) -> None:
        """Take a global name away."""
        self.assign(name, NOTHING)
        self.unit.note(("deletes", name, False, False), self.place())
        self.unit.gone.add(name)
        self.unbind(name)

    def unbind(self, key: object) -> None:
        """Note that a name is perhaps not bound any more: here, in handlers, and at the head of each loop around."""
        self.flow.bound.discard(key)
        for trail in self.tries:
            trail.add(key)
        for loop in self.loops:
            lost = self.unit.lost.setdefault(loop.node, set())
            if key not in lost:
                lost.add(key)
                self.unit.valid = False
                self.book.put(self.unit)
