"""Expressions: what each may hold, and what it does."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .magics import LINES, Magics
from .scopes import Code, Scope, stored
from .things import NOTHING, SHELL, Bound, Box, Frame, Func, Instance, Things

__all__ = ["Expressions"]


class Expressions(Magics):
    """The part that evaluates."""

    def eval(self, node: ast.expr) -> Things:
        """Give what an expression may hold, and do what it does."""
        here, self.node = self.node, node
        things = EXPRESSIONS.get(type(node), Expressions.of_operation)(self, node)
        self.node = here
        return things

    def of_operation(self, node: ast.AST) -> Things:
        """Use all operands, each with the others."""
        return self._operated([self.eval(child) for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)])

    def of_binary(self, node: ast.BinOp) -> Things:
        """Use both operands; a sum of many terms is one inside of the other, as deep as it has terms."""
        chain = [node]
        while isinstance(chain[-1].left, ast.BinOp):
            chain.append(chain[-1].left)
        things = self.eval(chain[-1].left)
        for one in reversed(chain):
            right = self.eval(one.right)
            if isinstance(one.op, ast.Mod) and not things:
                self.use(self.flat(right), "show")  # a text may be filled with it
            things = self._operated([things, right])
        return things

    def of_unary(self, node: ast.UnaryOp) -> Things:
        """Use the operand; ``not`` asks for its truth."""
        if isinstance(node.op, ast.Not):
            self.use(self.eval(node.operand), "truth")
            return NOTHING
        return self.of_operation(node)

    def _operated(self, operands: Sequence[Things]) -> Things:
        found = NOTHING
        for at, things in enumerate(operands):
            if things:
                others = [NOTHING.union(*operands[:at], *operands[at + 1 :])]
                found |= self.use(things, args=others) | {t for t in things if isinstance(t, Box) and self.look(t.held)}
        return found

    def of_constant(self, _: ast.Constant) -> Things:
        """Hold nothing."""
        return NOTHING

    def of_name(self, node: ast.Name) -> Things:
        """Read a name."""
        return self.load(node.id)

    def of_walrus(self, node: ast.NamedExpr) -> Things:
        """Bind a name."""
        things = self.eval(node.value)
        self.store(node.target.id, things, walrus=True)
        return things

    def of_text(self, node: ast.JoinedStr) -> Things:
        """Show what is put in."""
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                self.use(self.eval(part.value), "show")
                if part.format_spec is not None:
                    self.eval(part.format_spec)
        return NOTHING

    def of_display(self, node: ast.List | ast.Tuple | ast.Set) -> Things:
        """Hold the elements."""
        held = NOTHING
        for element in node.elts:
            self.elements_of[element] = things = self.eval(element)
            held |= things
        if isinstance(node, ast.Set):
            self.use(held)
        return self._container(node, held)

    def of_dict(self, node: ast.Dict) -> Things:
        """Hold the values, and those of mappings that are spread."""
        held = NOTHING
        for key, value in zip(node.keys, node.values, strict=True):
            if key is not None:
                self.use(self.eval(key))
            things = self.eval(value)
            held |= things if key is not None else self.elements(things) | self.use(things, "spread")
        return self._container(node, held)

    def _container(self, node: ast.expr, held: Things) -> Things:
        return frozenset((self.book.box(node, None, held),))

    def of_starred(self, node: ast.Starred) -> Things:
        """Give the elements."""
        return self.iterate(self.eval(node.value))

    def of_choice(self, node: ast.IfExp) -> Things:
        """Give either."""
        self.use(self.eval(node.test), "truth")
        before, asked = self.flow.copy(), self.asked
        self.asked |= self.asked_in(node.test)
        things = self.eval(node.body)
        after, self.flow = self.flow, before
        things |= self.eval(node.orelse)
        self.flow, self.asked = self.flow.join(after), asked
        return things

    def of_and_or(self, node: ast.BoolOp) -> Things:
        """Give any, of which the first is certainly evaluated."""
        first, *others = node.values
        asked = self.asked
        self.asked |= self.asked_in(node)
        things = self.eval(first)
        for value in others:
            self.use(things, "truth")
            before = self.flow.copy()
            things |= self.eval(value)
            self.flow = self.flow.join(before)
        self.asked = asked
        return things

    def of_compare(self, node: ast.Compare) -> Things:
        """Use both sides; ``"name" in globals()`` reads that name, if there is one."""
        for name in self.names_asked(node):
            self.read_softly(name)
            return NOTHING
        operands, before = [self.eval(node.left)], self.flow
        for at, (operator, value) in enumerate(zip(node.ops, node.comparators, strict=True)):
            if at:  # of 0 < x < y, y is evaluated only if the first holds
                before = self.flow.copy()
            operands.append(self.eval(value))
            if isinstance(operator, ast.In | ast.NotIn):
                self._contained(operands[-1])
            if at:
                self.flow = self.flow.join(before)
        self._operated([self.flat(things) for things in operands])
        return NOTHING

    def _contained(self, things: Things) -> None:
        """Look for something in things: what has no method for that is iterated over."""
        own = frozenset(t for t in things if isinstance(t, Instance) and self.found(t.cls, "__contains__"))
        self.use(things, "in")
        self.use(things - own, "iter")

    # Functions and comprehensions

    def function(self, node: Code) -> Func:
        """Give the function of a definition, with its defaults as they are now."""
        frame = self.frame
        func: Func = self.book.the((node, frame, "function"), lambda: Func(node, frame, self.cls))
        if isinstance(node, ast.GeneratorExp):
            return func
        args = node.args
        names = [one.arg for one in (*args.posonlyargs, *args.args)]
        named = zip((one.arg for one in args.kwonlyargs), args.kw_defaults, strict=True)
        for name, value in (*zip(reversed(names), reversed(args.defaults), strict=False), *named):
            if value is not None:
                func.defaults[name] = self.eval(value)
        return func

    def of_lambda(self, node: ast.Lambda) -> Things:
        """Give the function."""
        return frozenset((self.function(node),))

    def of_generator(self, node: ast.GeneratorExp) -> Things:
        """Give what runs later, but for what it iterates over."""
        func = self.function(node)
        return self.run(func, [self.iterate(self.eval(node.generators[0].iter))], {})

    def of_comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp) -> Things:
        """Hold the elements; it may have none."""
        parent, cls = self.frame, self.cls
        scope = Scope(frozenset(stored(one.target for one in node.generators)))
        first = self.iterate(self.eval(node.generators[0].iter))
        before = self.flow.copy()
        self.frame, self.cls = self.book.the((node, parent, "frame"), lambda: Frame(scope, parent)), None
        parts = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        things = self.generate(node.generators, parts, first)
        self.frame, self.cls = parent, cls
        self.flow = self.flow.join(before)
        return self._container(node, things)

    def generate(self, generators: list[ast.comprehension], parts: list[ast.expr], first: Things) -> Things:
        """Walk a comprehension inside of its scope, and give its elements."""
        for at, one in enumerate(generators):
            self.bind(one.target, self.iterate(self.eval(one.iter)) if at else first)
            for condition in one.ifs:
                self.use(self.eval(condition), "truth")
        return NOTHING.union(*map(self.eval, parts))

    def of_yield(self, node: ast.Yield) -> Things:
        """Give out a value."""
        if node.value is not None:
            self.returns |= self.eval(node.value)
        return NOTHING

    def of_yield_from(self, node: ast.YieldFrom) -> Things:
        """Give out the elements."""
        self.returns |= self.iterate(self.eval(node.value))
        return NOTHING

    def of_await(self, node: ast.Await) -> Things:
        """Run a coroutine."""
        things = self.eval(node.value)
        return self.use(things, "with") | {t for t in things if isinstance(t, Box)}

    # Parts of objects, and calls

    def of_attribute(self, node: ast.Attribute) -> Things:
        """Give an attribute of all that it may be one of."""
        if node.attr in ("f_globals", "__globals__"):
            self.unknown(ast.unparse(node), reads=True, assigns=True)
        return NOTHING.union(*(self.attribute(one, node.attr) for one in self.eval(node.value)))

    def of_subscript(self, node: ast.Subscript) -> Things:
        """Give an element, or a slice, which holds the same."""
        match node:
            case ast.Subscript(value=call, slice=ast.Constant(value=str(name)), ctx=ast.Load()) if self.is_namespace(
                call
            ):
                return self.read(name)
            case (
                ast.Subscript(slice=ast.Constant("__main__"))
                | ast.Subscript(value=ast.Attribute(attr="modules") | ast.Name("modules"), slice=ast.Name("__name__"))
            ):
                self.unknown(ast.unparse(node), reads=True, assigns=True)
        things = self.eval(node.value)
        index = self.eval(node.slice)
        self.use(index)
        given = self.use(things, "item", [index]) | self.indexed(things, index)
        if isinstance(node.slice, ast.Slice):
            return given | {t for t in things if isinstance(t, Box)}
        return given | self.picked(things)

    def indexed(self, things: Things, index: Things) -> Things:
        """Run a function that is an index: a table calls it with itself."""
        if things and not any(isinstance(one, Box) and one.opaque for one in things):
            return NOTHING
        return self.run_all((one for one in self.flat(index) if isinstance(one, Func | Bound)), things)

    def of_called(self, node: ast.Call) -> Things:
        """Call something with arguments."""
        found = self.special_call(node)
        if found is not None:
            return found
        targets = self.eval_called(node.func)
        if isinstance(node.func, ast.Attribute) and targets == {SHELL}:
            return self.line_of_shell(node, node.func.attr)
        args = [(self.eval(one), isinstance(one, ast.Starred)) for one in node.args]
        named = {one.arg: self.eval(one.value) for one in node.keywords if one.arg is not None}
        spreads = [self.eval(one.value) for one in node.keywords if one.arg is None]
        spread = [self.elements(things) | self.use(things, "spread") for things in spreads]
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("query", "eval", "evaluate"):
            self.query(node.func.attr, node, of_module=any(isinstance(t, Box) and t.imported for t in targets))
        every = NOTHING.union(*spread, *(things for things, starred in args if starred))
        if every:
            named["*"] = every
        return self.call(targets, [things for things, starred in args if not starred], named, node)

    def eval_called(self, node: ast.expr) -> Things:
        """Give what is called; the shell itself for a line of it."""
        if not isinstance(node, ast.Attribute):
            return self.eval(node)
        holder = self.eval(node.value)
        if node.attr in LINES and SHELL in holder:
            return frozenset((SHELL,))
        return NOTHING.union(*(self.attribute(one, node.attr) for one in holder))

    def bind(self, target: ast.expr, things: Things, value: ast.expr | None = None) -> None:
        """Assign to a target."""
        raise NotImplementedError


EXPRESSIONS: Mapping[type, Callable[[Expressions, Any], Things]] = {
    ast.Constant: Expressions.of_constant,
    ast.Name: Expressions.of_name,
    ast.NamedExpr: Expressions.of_walrus,
    ast.JoinedStr: Expressions.of_text,
    **dict.fromkeys((ast.List, ast.Tuple, ast.Set), Expressions.of_display),
    ast.Dict: Expressions.of_dict,
    ast.Starred: Expressions.of_starred,
    ast.IfExp: Expressions.of_choice,
    ast.BoolOp: Expressions.of_and_or,
    ast.Compare: Expressions.of_compare,
    ast.BinOp: Expressions.of_binary,
    ast.UnaryOp: Expressions.of_unary,
    ast.Lambda: Expressions.of_lambda,
    **dict.fromkeys((ast.ListComp, ast.SetComp, ast.DictComp), Expressions.of_comprehension),
    ast.GeneratorExp: Expressions.of_generator,
    ast.Yield: Expressions.of_yield,
    ast.YieldFrom: Expressions.of_yield_from,
    ast.Await: Expressions.of_await,
    ast.Attribute: Expressions.of_attribute,
    ast.Subscript: Expressions.of_subscript,
    ast.Call: Expressions.of_called,
}
