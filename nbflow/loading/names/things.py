"""What names hold: functions, classes, instances and containers of a notebook, each made at one place of its code."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from .scopes import Code, Scope

if TYPE_CHECKING:
    from .units import Unit

__all__ = [
    "FOREIGN",
    "NOTHING",
    "SHELL",
    "Attributes",
    "Bound",
    "Box",
    "Class",
    "Frame",
    "Func",
    "Giver",
    "Held",
    "Holds",
    "Instance",
    "Later",
    "Shell",
    "Super",
    "Thing",
    "Things",
]


class Held:
    """Things that something holds. They only get more, and code that looked at them is walked again then."""

    __slots__ = ("_data", "_seen", "box", "readers", "there", "things", "whole")

    def __init__(self, whole: Held | None = None, box: Box | None = None) -> None:
        self.things: Things = NOTHING
        self._seen = self._data = NOTHING
        self.readers: set[Unit] = set()
        self.whole = whole
        """What is looked at where all attributes of an object are."""
        self.box = box
        """The container whose elements these are."""
        self.there = False
        """Whether anything was put there, be it plain data."""

    @property
    def data(self) -> Things:
        """Those of the things that are no functions; told once for each time that there are more."""
        if self._seen is not self.things:
            self._seen = self.things
            self._data = frozenset(one for one in self.things if not isinstance(one, Func | Bound | Later))
        return self._data


class Attributes:
    """What the attributes of an object hold, or local names."""

    __slots__ = ("held", "whole")

    def __init__(self) -> None:
        self.held: dict[str, Held] = {}
        self.whole = Held()

    def __getitem__(self, name: str) -> Held:
        held = self.held.get(name)
        if held is None:
            held = self.held[name] = Held(self.whole)
        return held

    def items(self) -> Iterator[tuple[str, Held]]:
        """Give the attributes that there are."""
        return ((name, held) for name, held in list(self.held.items()) if held.there)


class Box:
    """A container, or whatever a library made of what it was given."""

    __slots__ = ("around", "factory", "held", "imported", "leaves", "mapping", "opaque", "passing")

    def __init__(self, *, opaque: bool, imported: bool = False) -> None:
        self.held = Held(box=self)
        self.leaves = Held()
        """What it holds directly or in other containers, without the containers."""
        self.around: set[Box] = set()
        """Containers that hold it."""
        self.opaque = opaque
        """Whether what it holds may run when it is called or iterated over."""
        self.imported = imported
        """Whether it is a library's, which keeps nothing of what it is called with."""
        self.mapping = False
        """Whether its elements are only what the functions in it return."""
        self.passing = False
        """Whether it iterates over what it holds, and gives the elements of that."""
        self.factory: Things = NOTHING
        """What makes the elements that are asked for and missing."""


class Func:
    """A function or lambda of the notebook, or a generator expression."""

    __slots__ = ("box", "defaults", "frame", "frames", "name", "node", "owner", "scope")

    def __init__(self, node: Code, frame: Frame | None, owner: Class | None) -> None:
        self.node = node
        self.frame = frame
        self.owner = owner
        self.name: str = getattr(node, "name", "")
        self.scope = Scope.of(node)
        self.defaults: dict[str, Things] = {}
        self.box = Box(opaque=True)
        """What was put into its attributes, or registered with it."""
        self.frames = 0
        """In how many ways it is called."""


class Class:
    """A class of the notebook."""

    __slots__ = (
        "attrs",
        "bases",
        "below",
        "frame",
        "kinds",
        "made",
        "metas",
        "name",
        "node",
        "places",
        "scope",
        "wild",
    )

    def __init__(self, node: ast.ClassDef, frame: Frame | None) -> None:
        self.node = node
        self.name = node.name
        self.frame = frame
        self.scope = Scope.of(node)
        self.attrs = Attributes()
        self.kinds: dict[str, str] = {}
        """How methods are bound, where not as usual."""
        self.places = 0
        """At how many places instances are made that are told apart."""
        self.bases: tuple[Class, ...] = ()
        """With their bases, the nearest first."""
        self.below = Box(opaque=False)
        """The classes that have it among their bases."""
        self.metas: tuple[Class, ...] = ()
        """Its metaclass; several where it is not known which one it is."""
        self.made = Held()
        """The classes whose metaclass it is."""
        self.wild = False
        """Whether a base is of a library that may call any method."""

    @property
    def line(self) -> tuple[Class, ...]:
        """Itself and its bases."""
        return (self, *self.bases)

    def inherit(self, bases: Iterable[Class], metas: Iterable[Class]) -> None:
        """Take bases, the nearest first, and metaclasses, also theirs."""
        every = [one for base in bases for one in base.line if one is not self]
        self.bases = tuple(dict.fromkeys(reversed(dict.fromkeys(reversed(every)))))  # of equal ones the last counts
        metas = dict.fromkeys((*metas, *(meta for one in every for meta in one.metas)))
        self.metas = tuple(one for one in metas if not any(one in other.bases for other in metas))
        self.wild = self.wild or any(one.wild for one in (*every, *self.metas))


class Instance:
    """Instances of a class of the notebook that are made at one place."""

    __slots__ = ("attrs", "cls")

    def __init__(self, cls: Class) -> None:
        self.cls = cls
        self.attrs = Attributes()


@dataclass(frozen=True, slots=True)
class Bound:
    """A method with what it is bound to."""

    func: Func
    me: Instance | Class


@dataclass(frozen=True, slots=True)
class Later:
    """A generator or coroutine: a call whose body runs when it is used."""

    frame: Frame


@dataclass(frozen=True, slots=True)
class Super:
    """What ``super()`` gives."""

    owner: Class
    me: Instance | Class


@dataclass(frozen=True, slots=True)
class Giver:
    """A method of a builtin that gives these things, whatever it is called with."""

    things: Things


class Shell:
    """IPython's shell."""

    __slots__ = ()


class Frame:
    """Local names of a function that is called in one way, or of a comprehension."""

    __slots__ = ("func", "locals", "parent", "scope", "unit")

    def __init__(self, scope: Scope, parent: Frame | None, func: Func | None = None, unit: Unit | None = None) -> None:
        self.scope = scope
        self.parent = parent
        self.func = func
        """Nothing, if it is a comprehension's, which a walrus leaves."""
        self.unit = unit
        self.locals = Attributes()


Thing: TypeAlias = "Box | Func | Class | Instance | Bound | Later | Super | Giver | Shell"
Things: TypeAlias = "frozenset[Thing]"
Holds: TypeAlias = "dict[str, Things]"
NOTHING: Things = frozenset()
SHELL = Shell()
FOREIGN = Box(opaque=True, imported=True)
"""A builtin."""
