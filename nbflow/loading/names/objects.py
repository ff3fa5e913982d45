"""Objects: what their attributes and elements are, and what runs when something is done with them."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Mapping, Sequence

from .tables import NOT_BY_OPERATORS, OF_CONTAINERS, USED_BY, words
from .things import (
    FOREIGN,
    NOTHING,
    Bound,
    Box,
    Class,
    Frame,
    Func,
    Giver,
    Held,
    Instance,
    Later,
    Shell,
    Super,
    Thing,
    Things,
)
from .walk import Names

__all__ = ["Objects"]

OPEN = words(
    """
    user_ns user_global_ns user_module run_cell run_cell_async run_code ev ex push reset safe_execfile
    safe_execfile_ipy safe_run_module drop_by_id del_var all_ns_refs user_ns_hidden
    """
)
"""Attributes of IPython's shell by which any name may be read or assigned."""
NO_NAMES: Mapping[str, Things] = {}
"""For a call without arguments that have names."""


class Objects(Names):
    """The part that looks into objects."""

    # What the parts below are for

    def call(self, targets: Things, args: Sequence[Things], named: Mapping[str, Things], node: ast.AST) -> Things:
        """Call each of the things that may be called here."""
        raise NotImplementedError

    def enter(self, frame: Frame, *, sure: bool = False) -> Things:
        """Do what the body of a function does, and give what it returns."""
        raise NotImplementedError

    def run_all(self, things: Iterable[Thing], others: Things = NOTHING) -> Things:
        """Run whatever a library may run that is given things."""
        raise NotImplementedError

    # Containers

    def alive(self, things: Iterable[Thing]) -> Things:
        """Give those by which a function of the notebook can be reached."""
        return frozenset(one for one in things if not isinstance(one, Box) or self.look(one.leaves))

    def flat(self, things: Iterable[Thing]) -> Things:
        """Give what can be reached through containers, without the containers."""
        found: set[Thing] = set()
        for one in things:
            if isinstance(one, Box):
                found |= self.look(one.leaves)
            else:
                found.add(one)
        return frozenset(found)

    def elements(self, things: Things) -> Things:
        """Give what the elements of things are, without running anything."""
        found: set[Thing] = set()
        for one in things:
            match one:
                case Box(opaque=False):
                    found |= {x for x in self.look(one.held) if not (one.passing and _is_iterator(x))}
                case Box() if not one.mapping:
                    # What it calls to make its elements is none of them.
                    self.look(one.held)
                    inside = one.held.data
                    found.update(inside, (one,) if inside else ())
                case Class(wild=True):
                    found.update((one, self.instance(one)))
                case Instance(attrs=attrs):
                    found.update((one, *self.look(attrs["*"])))
                case Func() | Bound() | Class():
                    found.add(one)  # tuples of items() and zip() are not told from what is in them
        return frozenset(found)

    def picked(self, things: Things) -> Things:
        """Give what ``thing[key]`` is: of what a library made, it may be a function too."""
        found = self.elements(things)
        for one in things:
            if isinstance(one, Box) and one.opaque and self.look(one.held):
                found |= {one, *one.held.things}
        return found

    def iterate(self, things: Things) -> Things:
        """Give the elements of things, as a loop takes them."""
        return self.elements(things) | self.use(things, "iter") if things else NOTHING

    # Operations

    def use(self, things: Things, how: str = "other", args: Sequence[Things] = ()) -> Things:
        """Do what an operation on things does, and give what it gives: special methods, bodies of generators.

        Special methods are given the other operands.
        """
        found = NOTHING
        left, seen = list(things), set(things)
        while left:
            one = left.pop()
            given = NOTHING
            match one:
                case Instance(cls=cls):
                    given = self.special(one, how, args)
                    if how == "with" and cls.wild and not self.found(cls, "__enter__"):
                        found |= {one}
                case Class(metas=metas) if metas:
                    given = self.special(one, how, args)
                case Class() if how == "item":
                    for method in self.found(one, "__class_getitem__"):
                        found |= self.call_bound(method, one, args)
                case Box(factory=factory) if how == "item" and factory:
                    found |= self.call(factory, [], {}, self.node)
                case Later(frame=frame) if how in ("iter", "with", "spread"):
                    found |= self.enter(frame)
                case Box(opaque=True) if how in ("iter", "with") and self.look(one.held):
                    held = one.held.things
                    found |= self.run_all(held, self.elements(held) if one.mapping else NOTHING)
                case Box(passing=True) if how in ("iter", "with"):
                    found |= self.use(self._iterators(one), how)
                case Box(opaque=False) if how in ("show", "display"):
                    for inner in self.look(one.leaves):
                        if isinstance(inner, Instance):
                            self.special(inner, "show")
            found |= given
            if how in ("iter", "with", "spread"):
                # What a special method gives is iterated over in turn, or awaited.
                fresh = {x for x in given if _is_iterator(x) or self._is_own_iterator(x)} - seen
                seen |= fresh
                left += fresh
        return found

    def _is_own_iterator(self, one: Thing) -> bool:
        """Whether it is an instance that gives elements, as what ``__iter__`` makes may be one."""
        return isinstance(one, Instance) and any(self.found(one.cls, name) for name in ("__next__", "__anext__"))

    def _iterators(self, box: Box) -> Things:
        """Give the generators, and the calls of ``map``, that a chain of iterators has at its ends."""
        found: set[Thing] = {box}
        left: list[Thing] = [box]
        while left:
            one = left.pop()
            if isinstance(one, Box) and one.passing:
                fresh = {x for x in self.look(one.held) if _is_iterator(x)} - found
                found |= fresh
                left += fresh
        return frozenset(one for one in found if not (isinstance(one, Box) and one.passing))

    def special(self, me: Instance | Class, how: str | Collection[str], args: Sequence[Things] = ()) -> Things:
        """Run the special methods that an operation may run, of an instance or of a class that has a metaclass."""
        found = NOTHING
        wanted = USED_BY.get(how) if isinstance(how, str) else how
        for root in (me.cls,) if isinstance(me, Instance) else me.metas:
            names = [name for cls in root.line for name, _ in self.attributes(cls)]
            for name in dict.fromkeys(names):
                if _by_operators(name) if wanted is None else name in wanted:
                    for one in self.found(root, name):
                        found |= self.call_bound(one, me, args)
        return found

    def call_bound(
        self, thing: Thing, me: Instance | Class, args: Sequence[Things], named: Mapping[str, Things] = NO_NAMES
    ) -> Things:
        """Call what stands in a class, with the object that it belongs to."""
        first = [frozenset((me,))] if isinstance(thing, Func) else []
        return self.call(frozenset((thing,)), [*first, *args], named, self.node)

    # Attributes

    def attributes(self, owner: Instance | Class) -> list[tuple[str, Held]]:
        """Give all attributes of an object itself."""
        self.look(owner.attrs.whole)
        return list(owner.attrs.items())

    def find(self, cls: Class, name: str, behind: Class | None = None) -> tuple[Class, Things] | None:
        """Give what an attribute is, and whose, looked for in the order of the bases."""
        line = cls.line[cls.line.index(behind) + 1 :] if behind in cls.line else cls.line
        any_name = NOTHING
        for one in line:
            if not name.startswith("__"):
                any_name |= self.look(one.attrs["*"])
            things = self.look(one.attrs[name])
            if one.attrs[name].there:
                return one, things | any_name
        return (cls, any_name) if any_name else None

    def found(self, cls: Class, name: str) -> Things:
        """Give what an attribute of a class or its bases is."""
        return (self.find(cls, name) or (cls, NOTHING))[1]

    def methods(self, me: Instance) -> Things:
        """Give all that can be reached by attributes."""
        found: set[Thing] = set().union(*(held.things for _, held in self.attributes(me)))
        for cls in me.cls.line:
            for _, held in self.attributes(cls):
                found.update(Bound(one, me) if isinstance(one, Func) else one for one in held.things)
        return frozenset(found)

    def instance(self, cls: Class) -> Instance:
        """Give the instances of a class that are made elsewhere."""
        made: Instance = self.book.the((cls, "instance"), lambda: Instance(cls))
        return made

    def attribute(self, one: Thing, name: str) -> Things:
        """Give what an attribute holds."""
        match one:
            case Instance():
                return self._of_instance(one, name)
            case Class():
                return self._of_class(one, name)
            case Super():
                return self._of_super(one, name)
            case Box():
                return frozenset((one,))
            case Func() if name in ("__call__", "__wrapped__", "__func__"):
                return frozenset((one,))
            case Func():
                return frozenset((one.box,))
            case Shell():
                if name in OPEN:
                    self.unknown(f"get_ipython().{name}", reads=True, assigns=True)
                return NOTHING
        return frozenset((self.book.box(self.node, one, (one,), opaque=True),))

    def _of_instance(self, me: Instance, name: str) -> Things:
        if name == "__class__":
            return frozenset((me.cls,))
        if name == "__dict__":
            return self._dict(me) | {self.book.box_of(me.attrs)}
        found = self.look(me.attrs[name]) | self.look(me.attrs["*"])
        for one in self.found(me.cls, "__getattribute__"):
            found |= self.call_bound(one, me, [])
        of_class = self.find(me.cls, name)
        if of_class is not None:
            return found | self._bound(of_class[1], of_class[0].kinds.get(name, ""), me)
        if not me.attrs[name].there:
            found |= self.special(me, ("__getattr__",))
            if name in OF_CONTAINERS and not me.cls.wild:
                found |= {self.book.box_of(me.attrs)}
            if me.cls.wild:
                found |= {self.book.box(me.cls.node, me, (me,), opaque=True)}
        return found

    def _dict(self, owner: Instance | Class) -> Things:
        """Give a container of what all attributes of an object hold."""
        node = owner.node if isinstance(owner, Class) else owner.cls.node
        held = NOTHING.union(*(held.things for _, held in self.attributes(owner)))
        return frozenset((self.book.box(node, owner.attrs, held),))

    def _bound(self, held: Things, kind: str, me: Instance | Class) -> Things:
        found = NOTHING
        for one in held:
            match one:
                case _ if kind == "property":
                    found |= self.call_bound(one, me, [])
                case Func() if kind != "static":
                    found |= {Bound(one, me.cls if kind == "class" and isinstance(me, Instance) else me)}
                case Instance() if self.find(one.cls, "__get__"):
                    found |= self.special(one, ("__get__",))
                case _:
                    found |= {one}
        return found

    def _subclasses(self, cls: Class) -> Things:
        """Give the subclasses of a class, and read the names by which they are there."""
        below = self.look(cls.below.held)
        for name, things in self.book.world.given.items():
            if below & self.flat(things):
                self.read(name)
        return frozenset((Giver(frozenset((cls.below,))),))

    def _of_class(self, cls: Class, name: str) -> Things:
        if name == "__subclasses__":
            return self._subclasses(cls)
        if name == "__dict__":
            return self._dict(cls)
        if name in ("__mro__", "__bases__", "mro"):
            line = frozenset((self.book.box(cls.node, cls, cls.line),))
            return line if name != "mro" else frozenset((Giver(line),))
        found = NOTHING
        owner = self.find(cls, name)
        if owner is not None:
            bind = owner[0].kinds.get(name) == "class"
            found = frozenset(Bound(one, cls) if bind and isinstance(one, Func) else one for one in owner[1])
            for one in owner[1]:
                if isinstance(one, Instance):
                    found |= self.special(one, ("__get__",))
        elif name == "__new__":
            found = frozenset((FOREIGN,))
        else:
            for meta in cls.metas:
                of_meta = self.find(meta, name)
                if of_meta is not None:
                    found |= self._bound(of_meta[1], of_meta[0].kinds.get(name, ""), cls)
        return found | {self.instance(cls)} if cls.wild else found

    def _of_super(self, one: Super, name: str) -> Things:
        me = one.me
        cls = me.cls if isinstance(me, Instance) else me
        roots = [root for root in (cls, *cls.metas) if one.owner in root.line]
        owner = self.find(roots[0], name, one.owner) if roots else None
        if owner is not None:
            kind = owner[0].kinds.get(name, "")
            if kind == "property" and isinstance(me, Instance):
                return self._bound(owner[1], kind, me)
            plain = kind == "static" or name == "__new__"
            return frozenset(Bound(x, me) if isinstance(x, Func) and not plain else x for x in owner[1])
        if cls.wild and not name.startswith("__"):
            return frozenset((self.book.box(cls.node, me, (me,), opaque=True),))
        if name in OF_CONTAINERS and isinstance(me, Instance):
            return frozenset((self.book.box_of(me.attrs),))
        return frozenset((FOREIGN,))

    def keep(self, holder: Thing, name: str, things: Things) -> None:
        """Let an object keep something: an attribute, or ``*`` for an element."""
        match holder:
            case Func(box=box) | (Box() as box):
                if box is not FOREIGN:
                    self.book.grow(box.held, self.alive(things))
            case Instance(cls=cls):
                self.book.grow(holder.attrs[name], things)
                self.special(holder, ("__setattr__",))
                owner = self.find(cls, name)
                if owner is not None and "property" in (cls.kinds.get(name), owner[0].kinds.get(name)):
                    for one in owner[1]:
                        self.call_bound(one, holder, [things])
                elif owner is not None:
                    self.use(owner[1], "attr")
            case Class():
                self.book.grow(holder.attrs[name], things)
            case Bound(me=me) | Super(me=me):
                self.keep(me, name, things)


def _by_operators(name: str) -> bool:
    """Whether an operation that is not told apart may run a method of this name."""
    return name.startswith(("__", "*")) and name not in NOT_BY_OPERATORS


def _is_iterator(one: Thing) -> bool:
    """Whether it is a generator, or an iterator over something else, which runs when it is iterated over."""
    return isinstance(one, Later) or (isinstance(one, Box) and (one.passing or one.mapping))
