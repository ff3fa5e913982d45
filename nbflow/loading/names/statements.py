"""Statements: the order in which code runs, and where its ways fork and meet."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ...source import names_given
from .expressions import Expressions
from .scopes import Definition, annotations_of, inside, last_name
from .tables import HOLDERS, KINDS, MISSING, SWALLOWING, TAME
from .things import FOREIGN, NOTHING, SHELL, Box, Class, Func, Giver, Instance, Later, Things
from .walk import Flow, Loop

__all__ = ["Statements"]


class Statements(Expressions):
    """The part that walks statements; with it a walk is whole."""

    def block(self, body: Iterable[ast.stmt]) -> None:
        """Walk statements up to the end that is reached."""
        for node in body:
            if self.flow.dead:
                return
            self.node = node
            STATEMENTS.get(type(node), Statements.on_other)(self, node)

    def body(self) -> None:
        """Walk the body of the function whose unit this is."""
        frame = self.frame
        assert frame is not None, "it is not that of a step"
        match frame.func:
            case Func(node=ast.Lambda(body=body)):
                self.returns |= self.eval(body)
            case Func(node=ast.GeneratorExp(generators=generators, elt=element)):
                self.returns |= self.generate(generators, [element], self.look(frame.locals[""]))
            case Func(node=ast.FunctionDef(body=body) | ast.AsyncFunctionDef(body=body)):
                self.block(body)

    def guarded(self, body: Iterable[ast.stmt], *, missing: bool = True) -> None:
        """Walk code after whose exceptions it goes on, also after that for a missing name or not."""
        entry = self.flow.copy()
        self.tries.append(set())
        self._tried(body, missing=missing)
        self.flow = self.flow.join(_thrown(entry, self.tries.pop()))

    def _tried(self, body: Iterable[ast.stmt], *, missing: bool) -> None:
        """Walk code that may end early, where a name is missing or only for other reasons."""
        caught = self.caught
        self.caught = caught or missing
        self.block(body)
        self.caught = caught

    def on_other(self, node: ast.AST) -> None:
        """Use all expressions."""
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.use(self.eval(child))

    def on_expr(self, node: ast.Expr) -> None:
        """Show a value; that of a cell IPython shows in all ways that it has."""
        of_cell = self.frame is None and last_name(node.value) != "print"
        self.use(self.eval(node.value), "display" if of_cell else "show")

    def on_assert(self, node: ast.Assert) -> None:
        """Test, and show why it failed."""
        self.use(self.eval(node.test), "truth")
        if node.msg is not None:
            before = self.flow.copy()
            self.use(self.eval(node.msg), "show")
            self.flow = before

    def on_nothing(self, _: ast.AST) -> None:
        """Do nothing: of ``global`` and ``nonlocal`` scopes know."""

    # Targets

    def on_assignment(self, node: ast.Assign) -> None:
        """Bind all targets."""
        things = self.eval(node.value)
        for target in node.targets:
            self.bind(target, things, node.value)

    def on_annotated(self, node: ast.AnnAssign) -> None:
        """Bind a target; in functions annotations are not evaluated."""
        things = NOTHING if node.value is None else self.eval(node.value)
        if (self.frame is None or self.cls is not None) and not self.book.future:
            self.eval(node.annotation)
        if node.value is not None:
            self.bind(node.target, things)
        elif not isinstance(node.target, ast.Name):
            self.parts(node.target)

    def on_augmented(self, node: ast.AugAssign) -> None:
        """Read and bind a target."""
        before = self.load(node.target.id) if isinstance(node.target, ast.Name) else self.eval(node.target)
        things = self.eval(node.value)
        result = self.use(before, args=[things]) | self.use(things, args=[before])
        own = any(isinstance(one, Instance) for one in before)
        inner = self.elements(things) if own else self.iterate(things)
        for one in before:
            if isinstance(one, Box) and one is not FOREIGN:
                self.book.grow(one.held, inner)
        self.bind(node.target, before | result)

    def bind(self, target: ast.expr, things: Things, value: ast.expr | None = None) -> None:
        """Assign to a target."""
        match target:
            case ast.Name(id=name):
                self.store(name, things)
            case ast.Starred(value=inner):
                self.bind(inner, frozenset((self.book.box(inner, None, things),)) if things else NOTHING)
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                self._unpack(parts, things, value)
            case ast.Attribute(value=inner, attr=name):
                for one in self.eval(inner):
                    self.keep(one, name, things)
            case ast.Subscript(value=call, slice=ast.Constant(value=str(name))) if self.is_namespace(call):
                self.assign(name, things)
            case ast.Subscript(value=inner, slice=index):
                holder, key = self.eval(inner), self.eval(index)
                self.use(key)
                self.use(holder, "item", [key, things])
                self.indexed(holder, key)
                if isinstance(index, ast.Slice):
                    things |= self.iterate(things)
                for one in holder:
                    self.keep(one, "*", things)

    def _unpack(self, parts: Sequence[ast.expr], things: Things, value: ast.expr | None) -> None:
        match value:
            case ast.Tuple(elts=values) | ast.List(elts=values) if len(values) == len(parts):
                if not any(isinstance(one, ast.Starred) for one in (*parts, *values)):
                    for part, one in zip(parts, values, strict=True):
                        self.bind(part, self.elements_of.get(one, NOTHING), one)
                    return
        inner = self.iterate(things)
        for part in parts:
            self.bind(part, inner)

    def parts(self, target: ast.expr) -> None:
        """Evaluate what a target is made of."""
        match target:
            case ast.Attribute(value=inner):
                for one in self.eval(inner):
                    if isinstance(one, Instance):
                        self.special(one, ("__delattr__",))
            case ast.Subscript(value=inner, slice=index):
                self.use(self.eval(inner), "item")
                self.use(self.eval(index))

    def on_delete(self, node: ast.Delete) -> None:
        """Unbind names, or take parts out of objects."""
        left = list(node.targets)
        while left:
            match left.pop(0):
                case ast.Name(id=name):
                    self.delete(name)
                case ast.Tuple(elts=parts) | ast.List(elts=parts):
                    left = [*parts, *left]
                case target:
                    self.parts(target)

    # Imports

    def on_import(self, node: ast.Import | ast.ImportFrom) -> None:
        """Bind modules, or what is in one."""
        module = getattr(node, "module", None)
        for alias in node.names:
            self.book.future |= (module, alias.name) == ("__future__", "annotations")
            if alias.name == "*":
                self.unknown(ast.unparse(node), assigns=True)
                continue
            if alias.name == "__main__":
                self.unknown("import __main__", reads=True, assigns=True)
            name = alias.asname or (alias.name if module else alias.name.partition(".")[0])
            if alias.name in SWALLOWING:
                self.book.swallowing.add(name)
            if module == "__main__":
                self.store(name, self.read(alias.name))
            elif alias.name == "get_ipython":
                self.store(name, frozenset((Giver(frozenset((SHELL,))),)))
            else:
                self.import_as(name, alias)

    # Ways out

    def on_return(self, node: ast.Return) -> None:
        """Leave a function."""
        if node.value is not None:
            self.returns |= self.eval(node.value)
        self.exits.append(self.flow.copy())
        self.flow.dead = True

    def on_raise(self, node: ast.Raise) -> None:
        """Leave for a handler; of a class an instance is made."""
        for child in filter(None, (node.exc, node.cause)):
            things = self.eval(child)
            self.use(things)
            made = frozenset(one for one in things if isinstance(one, Class))
            if made:
                self.call(made, [], {}, child)
        self.flow.dead = True

    def on_break(self, _: ast.Break) -> None:
        """Leave a loop."""
        if self.loops:
            self.loops[-1].breaks.append(self.flow.copy())
        self.flow.dead = True

    def on_continue(self, _: ast.Continue) -> None:
        """Begin the next turn of a loop."""
        if self.loops:
            self.loops[-1].continues.append(self.flow.copy())
        self.flow.dead = True

    # Forks

    def on_if(self, node: ast.If) -> None:
        """Walk both branches, but for one that never runs."""
        self.use(self.eval(node.test), "truth")
        match node.test:
            case ast.Constant(value=value):
                return self.block(node.body if value else node.orelse)
            case ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"):
                return self.block(node.orelse)
        before, asked = self.flow.copy(), self.asked
        self.asked |= self.asked_in(node.test)
        self.block(node.body)
        after, self.flow = self.flow, before
        self.block(node.orelse)
        self.flow, self.asked = self.flow.join(after), asked
        return None

    def on_for(self, node: ast.For | ast.AsyncFor) -> None:
        """Walk the body of a loop that has perhaps no turns."""
        things = self.iterate(self.eval(node.iter))
        self.flow.bound -= self.unit.lost.get(node, set())
        ended = self.flow.copy()
        loop = self._turn(node, lambda: self.bind(node.target, things))
        self.flow = self.flow if _never_empty(node.iter) else ended.join(self.flow)
        self._behind(loop, node.orelse)

    def on_while(self, node: ast.While) -> None:
        """Walk the body of a loop, whose test is evaluated in any case."""
        self.flow.bound -= self.unit.lost.get(node, set())
        self.use(self.eval(node.test), "truth")
        ended = self.flow.copy()
        loop = self._turn(node, lambda: None)
        ended.dead = ended.dead or (isinstance(node.test, ast.Constant) and bool(node.test.value))
        self.flow = ended
        self._behind(loop, node.orelse)

    def _turn(self, node: ast.For | ast.AsyncFor | ast.While, head: Callable[[], None]) -> Loop:
        """Walk one turn; that there may be more of them counts where a name is perhaps unbound at the head."""
        self.loops.append(Loop(node))
        head()
        self.block(node.body)
        loop = self.loops.pop()
        for flow in loop.continues:
            self.flow = self.flow.join(flow)
        return loop

    def _behind(self, loop: Loop, orelse: Sequence[ast.stmt]) -> None:
        self.block(orelse)
        for flow in loop.breaks:
            self.flow = self.flow.join(flow)

    def on_try(self, node: ast.Try) -> None:
        """Walk the body, each handler as if an exception came at any point of it, and what runs in the end."""
        entry = self.flow.copy()
        self.tries.append(set())
        self.tries.append(set())
        self._tried(node.body, missing=any(handler.type is None or _missing(handler.type) for handler in node.handlers))
        thrown = self.tries.pop()
        ended = self.flow
        ends: list[Flow] = []
        for handler in node.handlers:
            self.flow = _thrown(entry, thrown)
            self._handler(handler)
            ends.append(self.flow)
        self.flow = ended
        self.block(node.orelse)
        for flow in ends:
            self.flow = self.flow.join(flow)
        thrown = self.tries.pop()
        if node.finalbody:
            self._finally(node.finalbody, _thrown(entry, thrown))

    def _handler(self, node: ast.ExceptHandler) -> None:
        self.node = node
        if node.type is not None:
            self.use(self.eval(node.type))
        if node.name is not None:
            self.store(node.name, NOTHING)
        self.block(node.body)
        if node.name is not None and self.cls is not None and node.name in self.cls.scope.names:
            self.unbind((self.cls, node.name))
        elif node.name is not None and self.owner(node.name) is None:
            self.forget(node.name)

    def _finally(self, body: Sequence[ast.stmt], thrown: Flow) -> None:
        """Walk it as it runs after an exception; after all went well more is bound."""
        ended = self.flow
        self.flow = thrown.join(ended)
        self.tries.append(set())
        self.block(body)
        lost = self.tries.pop()
        if ended.dead:
            self.flow.dead = True
        else:
            self.flow.bound |= ended.bound - lost

    def on_with(self, node: ast.With | ast.AsyncWith) -> None:
        """Walk a block between the methods of context managers."""
        swallows = missing = False
        for item in node.items:
            things = self.eval(item.context_expr)
            given = self.use(things, "with")
            own = any(map(self._swallows, things))
            swallows = swallows or own or last_name(item.context_expr) in self.book.swallowing
            missing = missing or own or (swallows and _missing(item.context_expr))
            if item.optional_vars is not None:
                self.bind(item.optional_vars, given | {t for t in things if isinstance(t, Box)})
        if swallows:
            self.guarded(node.body, missing=missing)
        else:
            self.block(node.body)

    def _swallows(self, thing: object) -> bool:
        """Whether the block of a ``with`` may end early and the code go on."""
        match thing:
            case Instance(cls=cls):
                ends = self.found(cls, "__exit__") | self.found(cls, "__aexit__")
                bodies = [getattr(end.node, "body", ()) for end in ends if isinstance(end, Func)]
                nodes = [one for body in bodies if isinstance(body, list) for one in inside(body)]
                values = [one.value for one in nodes if isinstance(one, ast.Return)]
                return any(value is not None and getattr(value, "value", True) for value in values)
            case Later(frame=frame) if frame.func is not None:
                body = getattr(frame.func.node, "body", ())
                return any(isinstance(one, ast.ExceptHandler) for one in inside(body))
        return False

    def on_match(self, node: ast.Match) -> None:
        """Walk the cases, of which the first that fits runs."""
        things = self.eval(node.subject)
        self.use(things)
        ends: list[Flow] = []
        for case in node.cases:
            before = self.flow.copy()
            self._pattern(case.pattern, things | self.elements(things))
            if case.guard is not None:
                self.use(self.eval(case.guard), "truth")
            self.block(case.body)
            ends.append(self.flow)
            self.flow = before
            self.flow.dead = self.flow.dead or (case.guard is None and _always(case.pattern))
        for flow in ends:
            self.flow = self.flow.join(flow)

    def _pattern(self, pattern: ast.pattern, things: Things) -> None:
        for node in ast.walk(pattern):
            match node:
                case ast.Name():
                    self.eval(node)
                case ast.MatchValue(value=value):
                    self.use(self.eval(value) | things)
                case ast.MatchClass(kwd_attrs=names):
                    for one in things:
                        for name in names:
                            self.attribute(one, name)
            for name in names_given([node]):
                self.store(name, things)

    # Definitions

    def on_function(self, node: Definition) -> None:
        """Define a function: only decorators, defaults and annotations are evaluated."""
        decorators = [self.eval(one) for one in node.decorator_list]
        func = self.function(node)
        if not self.book.future and not getattr(node, "type_params", None):
            for note in annotations_of(node):
                self.eval(note)
        if self.cls is not None:
            kinds = (KINDS.get(last_name(one), "") for one in node.decorator_list)
            self.cls.kinds[node.name] = next(filter(None, kinds), "") or self.cls.kinds.get(node.name, "")
        self.store(node.name, self._decorated(frozenset((func,)), node.decorator_list, decorators))

    def _decorated(self, things: Things, nodes: Sequence[ast.expr], decorators: Sequence[Things]) -> Things:
        """Give what decorators of the notebook make of a thing; one of a library keeps it, and calls it later."""
        for decorator, node in zip(reversed(decorators), reversed(nodes), strict=True):
            inherited = [one for one in decorator if self.called_by_library(one)]
            for around in inherited:
                self.around(around, things)
            for one in decorator:
                if isinstance(one, Box) and not one.imported and last_name(node) not in HOLDERS:
                    self.book.grow(one.held, things)
            if last_name(node) == "interact":
                self.run_all(things)
            own = frozenset(one for one in decorator.difference(inherited) if not isinstance(one, Box))
            things = (self.call(own, [things], {}, node) or things) if own else things
        return things

    def on_class(self, node: ast.ClassDef) -> None:
        """Define a class, whose body runs at once."""
        decorators = [self.eval(one) for one in node.decorator_list]
        frame = self.frame
        cls: Class = self.book.the((node, frame, "class"), lambda: Class(node, frame))
        bases = [(self.eval(base), last_name(base)) for base in node.bases]
        for things, name in bases:
            known = bool(things) and all(isinstance(one, Class) for one in things)
            cls.wild = cls.wild or (name not in TAME and not known)
        named = {one.arg or "*": self.eval(one.value) for one in node.keywords}
        metas = named.pop("metaclass", NOTHING)
        own = [one for things, _ in bases for one in things if isinstance(one, Class)]
        cls.inherit(own, (one for one in metas if isinstance(one, Class)))
        for base in cls.bases:
            self.book.grow(base.below.held, (cls,))
        outer, self.cls = self.cls, cls
        self.block(node.body)
        self.cls, self.node = outer, node
        for one in NOTHING.union(*(self.look(base.attrs["__init_subclass__"]) for base in cls.bases)):
            self.call_bound(one, cls, [], named)
        for one in NOTHING.union(*(held.things for _, held in self.attributes(cls))):
            if isinstance(one, Instance):
                self.special(one, ("__set_name__",))
        for meta in cls.metas:
            self.book.grow(meta.made, (cls,))
            space = self.attribute(cls, "__dict__") | {self.book.box_of(cls.attrs)}
            args = [NOTHING, frozenset((self.book.box(node, cls, own),)), space]
            for name, me in (("__new__", meta), ("__init__", cls)):
                for one in self.found(meta, name):
                    self.call_bound(one, me, args, named)
        self.store(node.name, self._decorated(frozenset((cls,)), node.decorator_list, decorators))

    def on_type_alias(self, node: Any) -> None:
        """Bind the name; what it stands for is evaluated when somebody asks."""
        self.store(node.name.id, NOTHING)


def _thrown(entry: Flow, lost: set[object]) -> Flow:
    """Give what is known where an exception is caught."""
    return Flow(entry.bound - lost, entry.dead)


def _missing(node: ast.expr) -> bool:
    """Whether that for a missing name is among some exceptions."""
    return any(last_name(one) in MISSING for one in ast.walk(node))


def _never_empty(node: ast.expr) -> bool:
    """Whether a loop over it runs at least once."""
    match node:
        case ast.List(elts=[first, *_]) | ast.Tuple(elts=[first, *_]) | ast.Set(elts=[first, *_]):
            return not isinstance(first, ast.Starred)
        case ast.Constant(value=str(text)):
            return bool(text)
        case ast.Call(func=ast.Name(id="range"), args=[ast.Constant(value=int(count))]):
            return count > 0
        case ast.Call(func=ast.Name(id="enumerate"), args=[inner, *_]):
            return _never_empty(inner)
    return False


def _always(pattern: ast.pattern) -> bool:
    """Whether a pattern matches everything."""
    match pattern:
        case ast.MatchAs(pattern=inner):
            return inner is None or _always(inner)
        case ast.MatchOr(patterns=patterns):
            return any(map(_always, patterns))
    return False


STATEMENTS: Mapping[type, Callable[[Statements, Any], None]] = {
    ast.Expr: Statements.on_expr,
    ast.Assert: Statements.on_assert,
    ast.Assign: Statements.on_assignment,
    ast.AnnAssign: Statements.on_annotated,
    ast.AugAssign: Statements.on_augmented,
    ast.Delete: Statements.on_delete,
    ast.Return: Statements.on_return,
    ast.Raise: Statements.on_raise,
    ast.Break: Statements.on_break,
    ast.Continue: Statements.on_continue,
    **dict.fromkeys((ast.Import, ast.ImportFrom), Statements.on_import),
    ast.If: Statements.on_if,
    **dict.fromkeys((ast.For, ast.AsyncFor), Statements.on_for),
    ast.While: Statements.on_while,
    **dict.fromkeys((ast.Try, getattr(ast, "TryStar", ast.Try)), Statements.on_try),
    **dict.fromkeys((ast.With, ast.AsyncWith), Statements.on_with),
    ast.Match: Statements.on_match,
    **dict.fromkeys((ast.Global, ast.Nonlocal), Statements.on_nothing),
    **dict.fromkeys((ast.FunctionDef, ast.AsyncFunctionDef), Statements.on_function),
    ast.ClassDef: Statements.on_class,
    getattr(ast, "TypeAlias", ast.stmt): Statements.on_type_alias,
}
