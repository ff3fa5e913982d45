"""Calls: of functions and classes of the notebook, of containers, builtins and libraries."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeGuard

from .objects import Objects
from .scopes import last_name, parameters
from .tables import AT_ONCE, COMPARING, EAGER, HASHING, HOLDERS, LAZY, OF_CONTAINERS, PASSING, SEVERAL
from .things import FOREIGN, NOTHING, Bound, Box, Class, Frame, Func, Giver, Instance, Later, Thing, Things
from .units import Call, Unit

__all__ = ["Calls"]

CONTEXTS = 4
"""In how many ways of calling it a function is told apart."""
PLACES = 12
"""At how many places instances of a class are made that are told apart."""
MOST = 3_000_000
"""How many things are given to the calls of a notebook that are followed; what others do is said to be unknown."""
DEEP = 8
"""How many bodies are walked one inside of the other; others wait for their turn."""
OFTEN = 4
"""How often a body is walked in a step before its names are no longer taken for certain that were not so far."""


class Calls(Objects):
    """The part that calls."""

    def body(self) -> None:
        """Walk the body of the function whose unit this is."""
        raise NotImplementedError

    def call(self, targets: Things, args: Sequence[Things], named: Mapping[str, Things], node: ast.AST) -> Things:
        """Call each of the things that may be called here."""
        found = NOTHING
        sure = len(targets) == 1
        for one in targets or (FOREIGN,):
            match one:
                case Func():
                    found |= self.run(one, args, named, sure=sure)
                case Bound(func=func, me=me):
                    found |= self.run(func, [frozenset((me,)), *args], named, sure=sure)
                case Class():
                    found |= self._construct(one, args, named, node)
                    for method in NOTHING.union(*(self.found(meta, "__call__") for meta in one.metas)):
                        found |= self.call_bound(method, one, args, named)
                case Instance() if self.called_by_library(one):
                    found |= self._inherited(one, args, named)
                case Instance(cls=cls):
                    for method in self.found(cls, "__call__"):
                        found |= self.call_bound(method, one, args)
                case Box():
                    found |= self._library(one, args, named, node)
                case Later():
                    found |= self.use(frozenset((one,)), "iter")
                case Giver(things=things):
                    found |= things
        return found

    def called_by_library(self, thing: Thing) -> TypeGuard[Instance]:
        """Whether it is an instance that is called by a method of a library, if it can be called."""
        return isinstance(thing, Instance) and thing.cls.wild and not self.found(thing.cls, "__call__")

    def _inherited(self, me: Instance, args: Sequence[Things], named: Mapping[str, Things]) -> Things:
        """Call an instance by a method of a library, which may run any of its own, also around what it is given."""
        things = self.alive(one for each in (*args, *named.values()) for one in each)
        self.around(me, things)
        return self.run_all((me, *things), things) | frozenset(one for one in things if isinstance(one, Func | Bound))

    def around(self, me: Instance, things: Things) -> None:
        """Let an instance keep functions, and run whenever they run."""
        self.book.grow(me.attrs["*"], things)
        for one in things:
            if isinstance(one, Func | Bound):
                func = one.func if isinstance(one, Bound) else one
                self.book.grow(func.box.held, (me,))

    def _construct(self, cls: Class, args: Sequence[Things], named: Mapping[str, Things], node: ast.AST) -> Things:
        me = self._made(cls, node)
        made = frozenset((me,))
        for one in self.found(cls, "__new__"):
            self.call(frozenset((one,)), [frozenset((cls,)), *args], named, node)
        if self.find(cls, "__init__") is None:
            self._fill(me, args, named)
        for one in self.found(cls, "__init__"):
            self.run(one, [made, *args], named) if isinstance(one, Func) else self.run_all([one])
        if cls.wild:  # a base may run any of its methods, or none
            caught, self.caught = self.caught, True
            self.run_all(made)
            self.caught = caught
        return made

    def _made(self, cls: Class, node: ast.AST) -> Instance:
        """Give the instances that are made at a place; beyond some places, those of all others are one."""
        if (node, cls) not in self.book.made:
            if cls.places >= PLACES:
                return self.instance(cls)
            cls.places += 1
        made: Instance = self.book.the((node, cls), lambda: Instance(cls))
        return made

    def _fill(self, me: Instance, args: Sequence[Things], named: Mapping[str, Things]) -> None:
        """Let an instance keep what it is made of, as those of dataclasses do."""
        nodes = [node for cls in reversed(me.cls.line) for node in cls.node.body]
        fields = [n.target.id for n in nodes if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)]
        names = [*fields, *("*" for _ in args)]
        for name, things in (*zip(names, args, strict=False), *named.items()):
            if things:
                self.book.grow(me.attrs[name], things)
                if name not in fields:
                    self.book.grow(me.attrs["*"], things)
        every = (one for cls in me.cls.line for _, held in self.attributes(cls) for one in held.things)
        given = self.run_all(self.alive(one for one in every if isinstance(one, Box) and one.opaque))
        if given:
            self.book.grow(me.attrs["*"], given)
        self.special(me, ("__post_init__",))

    # What is no code of the notebook

    def _library(self, box: Box, args: Sequence[Things], named: Mapping[str, Things], node: ast.AST) -> Things:
        name = last_name(node)
        things = self.alive(one for each in (*args, *named.values()) for one in each)
        if not box.opaque and name in OF_CONTAINERS:
            return self._of_container(box, name, things)
        classes = NOTHING.union(*(self.look(one.made) for one in things if isinstance(one, Class)))
        if classes and box is FOREIGN and name == "__new__":
            return classes  # a metaclass makes them by what it has of type
        if name == "iter" and len(args) > 1:
            name = "map"  # it calls the first until that gives the second
        of_data = box is FOREIGN and isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if name in HOLDERS and box.imported and not of_data:
            return self._holder(name, self.alive(NOTHING.union(*args)), things, node)
        if box is FOREIGN:
            how = ("write", "flush") if name == "print" else ("__call__",)
            for one in NOTHING.union(*named.values()):
                if isinstance(one, Instance):
                    self.special(one, how)
            return self._builtin(NOTHING if of_data else self.alive(NOTHING.union(*args)), things, node)
        given = self.run_all(things, frozenset(t for t in things if not isinstance(t, Func | Bound)))
        if self.look(box.held):
            given |= self.run_all(box.held.things, things)
        kept = self.flat(things)
        if name in AT_ONCE:
            kept = frozenset(t for t in kept if not isinstance(t, Func | Bound))
        if box.imported:
            return frozenset((self.book.box(node, None, kept | self.flat(given), opaque=True),))
        self.book.grow(box.held, kept)
        return given | {box}

    def _of_container(self, box: Box, name: str, things: Things) -> Things:
        if name in COMPARING:
            self.use(self.elements(frozenset((box,))))
        if things and name == "sort":
            self.run_all(things, self.elements(frozenset((box,))))
        elif things:
            self.book.grow(box.held, self.iterate(things) if name in SEVERAL else things)
        return self.look(box.held) | {box}

    def _holder(self, name: str, first: Things, things: Things, node: ast.AST) -> Things:
        """Give what holds its arguments and runs none of them yet; containers take the elements of the first ones."""
        lazy = name in LAZY
        if name == "dict":
            self.use(first, "spread")
        held = things if lazy else self.iterate(things) | things
        if name in EAGER:
            made = first - self.elements(first)
            held -= {
                t
                for t in things
                if isinstance(t, Later) or (t in made and isinstance(t, Box) and (t.opaque or t.passing))
            }
        held |= {self.instance(one) for one in held if isinstance(one, Class)}
        if name in HASHING:
            self.use(held)
        box = self.book.box(node, None, held, opaque=lazy)
        box.mapping, box.passing = name in ("map", "starmap"), name in PASSING
        if name == "defaultdict":
            box.factory |= first
        return frozenset((box,))

    def _builtin(self, first: Things, things: Things, node: ast.AST) -> Things:
        """Call a builtin, or a method of plain data, which keeps no function that it is given by name or to call."""
        if not things:
            return NOTHING
        funcs = frozenset(one for one in things if isinstance(one, Func | Bound | Class))
        inner = self.iterate(things - (funcs - first))
        self.use(things | inner, "display" if last_name(node) == "display" else "show")
        self.use(things | inner, "truth")
        self.use(things | inner, "other")
        self.run_all(funcs - first, inner)
        held = inner | self.run_all(funcs & first, inner) | {t for t in things - funcs if not isinstance(t, Later)}
        return held | {self.book.box(node, None, held)}

    def run_all(self, things: Iterable[Thing], others: Things = NOTHING) -> Things:
        """Run whatever a library may run that is given things."""
        first = self.flat(things)
        key, bound = (first, others, self.caught), frozenset(self.flow.bound)
        if key in self.ran and self.ran[key][0] <= bound and not self.unit.gone:
            return self.ran[key][1]  # all that it does was noted; if it gives more, this unit is walked again
        found = self._run_each(first, others)
        self.ran[key] = bound, found
        return found

    def _run_each(self, first: Things, others: Things) -> Things:
        found: set[Thing] = set()
        left, seen = list(first), set(first)
        while left:
            one = left.pop()
            more: Iterable[Thing] = ()
            # What was given beside a function is passed to it; methods of objects are called with data.
            named = {"*": others} if one in first else {}
            match one:
                case Func():
                    found |= self._run(one, [], named)
                    more = self.look(one.box.held)
                case Bound(func=func, me=me):
                    found |= self._run(func, [frozenset((me,))], named)
                case Later(frame=frame):
                    found |= self.enter(frame)
                case Class():
                    more = (self.instance(one),)
                case Instance():
                    more = self.methods(one)
            fresh = self.flat(more) - seen
            seen |= fresh
            left += fresh
        for later in [one for one in found if isinstance(one, Later)]:
            found |= self.enter(later.frame)
        return self.flat(found)

    # Functions of the notebook

    def run(self, func: Func, args: Sequence[Things], named: Mapping[str, Things], *, sure: bool = False) -> Things:
        """Call a function of the notebook."""
        found = self._run(func, args, named, sure=sure)
        held = self.look(func.box.held)
        return found | self.run_all(held) if held else found

    def _run(self, func: Func, args: Sequence[Things], named: Mapping[str, Things], *, sure: bool = False) -> Things:
        """Call a function without those that it holds."""
        if self.book.given > MOST:
            self.unknown("more calls than are followed", reads=True, assigns=True)
            return NOTHING
        frame = self._frame(func, self._given(func, args, named))
        return frozenset((Later(frame),)) if func.scope.generator else self.enter(frame, sure=sure)

    def _given(self, func: Func, args: Sequence[Things], named: Mapping[str, Things]) -> dict[str, Things]:
        """Give what the parameters hold."""
        if isinstance(func.node, ast.GeneratorExp):
            return {"": args[0]} if args and args[0] else {}
        node = func.node.args
        names = [one.arg for one in (*node.posonlyargs, *node.args)]
        given = {**func.defaults, **dict(zip(names, args, strict=False))}
        own = {*names, *(one.arg for one in node.kwonlyargs)}
        given.update((name, things) for name, things in named.items() if name in own)
        rest = NOTHING.union(*args[len(names) :])
        others = NOTHING.union(*(things for name, things in named.items() if name not in own and name != "*"))
        for arg, things in ((node.vararg, rest), (node.kwarg, others)):
            if arg is not None and things:
                owner = (func, things) if func.frames < CONTEXTS else func
                given[arg.arg] = frozenset((self.book.box(arg, owner, things),))
        every = named.get("*")
        if every:
            given = {name: given[name] | every if given.get(name) else every for name in parameters(node)}
        return {name: things for name, things in given.items() if things}

    def _frame(self, func: Func, given: Mapping[str, Things]) -> Frame:
        """Give the frame of a way of calling a function; beyond some, all others are one."""
        telling = frozenset((name, frozenset(filter(self._tells, things))) for name, things in given.items())
        key: tuple[object, ...] = func, telling
        if key not in self.book.made:
            if func.frames >= CONTEXTS or self.book.contexts[func.node] >= 2 * CONTEXTS:
                key = func, "any"
            else:
                func.frames += 1
                self.book.contexts[func.node] += 1
        frame = self.book.frame(key, func)
        self.book.given += 1
        for name, things in given.items():
            self.book.given += len(things)
            self.book.grow(frame.locals[name], things)
        return frame

    def _tells(self, thing: Thing) -> bool:
        """Whether a call with it is another one than without: data that a library made makes none."""
        return not (isinstance(thing, Box) and thing.opaque and not self.look(thing.held))

    def enter(self, frame: Frame, *, sure: bool = False) -> Things:
        """Do what the body of a function does, and give what it returns."""
        book, unit = self.book, frame.unit
        assert unit is not None, "only functions are entered"
        self.unit.call(Call(unit, self.place(), self.caught), self.flow.bound)
        if book.reach(unit):
            if book.depth < DEEP:
                self._refresh(unit)
            else:
                book.put(unit)
        if book.depth == 0:
            self.settle()
        if sure:
            self.flow.bound |= unit.certain
        for name in unit.gone:
            self.unit.gone.add(name)
            if not (sure and name in unit.certain):
                self.unbind(name)
        return self.look(unit.returns)

    def settle(self) -> None:
        """Walk the bodies that are to be walked, until there are none."""
        queue = self.book.queue
        while queue:
            unit = queue.popleft()
            unit.queued = False
            self._refresh(unit)

    def _refresh(self, unit: Unit) -> None:
        """Walk a body, if what was found the last time does not hold any more."""
        if not unit.valid or any(self.sight(name, unit) != seen for name, seen in list(unit.looked.items())):
            self._study(unit)
            return
        for name, things in unit.gives.items():
            self.book.grow(self.book.world.own[name], things)
        for call in unit.calls:
            if self.book.reach(call.callee):
                self.book.put(call.callee)

    def _study(self, unit: Unit) -> None:
        before = unit.certain, unit.gone
        unit.begin()
        walk = type(self)(self.book, unit)
        self.book.depth += 1
        walk.body()
        self.book.depth -= 1
        certain = walk.certain()
        unit.certain = certain if unit.walks <= OFTEN else certain & unit.certain
        self.book.grow(unit.returns, walk.returns)
        if (unit.certain, unit.gone) != before:
            self.book.notify(unit.returns)

    def certain(self) -> frozenset[str]:
        """Give the global names that are bound when the unit ends well."""
        ended = self.flow
        for flow in self.exits:
            ended = ended.join(flow)
        return frozenset() if ended.dead else frozenset(name for name in ended.bound if isinstance(name, str))
