"""Builtins that are told apart: those that see names, and those that see through objects."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping

from ...source import syntax_tree
from .calls import Calls
from .scopes import last_name, parameters
from .tables import words
from .things import NOTHING, SHELL, Class, Instance, Super, Things

__all__ = ["Specials"]


class Specials(Calls):
    """The part that knows some builtins; each gives nothing at all where it is called as any other function."""

    def special_call(self, node: ast.Call) -> Things | None:
        """Call a builtin that is told apart, if it is one."""
        match node.func:
            case ast.Name(id=name) if name in SPECIAL and self.owner(name) is None and not self.known(name):
                return SPECIAL[name](self, node)
            case ast.Attribute(attr="get_ipython", value=holder):
                self.eval(holder)
                return frozenset((SHELL,))
            case ast.Attribute(attr="instance", value=holder) if last_name(holder) == "InteractiveShell":
                self.eval(holder)
                return frozenset((SHELL,))
        return None

    # Code in texts

    def call_exec(self, node: ast.Call) -> Things | None:
        """Walk code in a text that stands there; of another one nothing is known."""
        if len(node.args) > 1 and not self.is_namespace(node.args[1]):
            return None
        match node.args:
            case [ast.Constant(value=str(text)), *_] if self.frame is None:
                tree = self.parsed(text, node)
                at, self.at = self.at, self.place()
                self.block(tree.body if tree else ())
                self.at = at
                return NOTHING
        self.arguments(node)
        self.unknown(ast.unparse(node), reads=True, assigns=True)
        return NOTHING

    def call_eval(self, node: ast.Call) -> Things | None:
        """Evaluate an expression in a text that stands there."""
        if len(node.args) > 1 and not self.is_namespace(node.args[1]):
            return None
        match node.args:
            case [ast.Constant(value=str(text)), *_]:
                tree = self.parsed(text.strip(), node)
                match tree:
                    case ast.Module(body=[ast.Expr(value=value)]):
                        at, self.at = self.at, self.place()
                        things = self.eval(value)
                        self.at = at
                        return things
                return NOTHING
        self.arguments(node)
        self.unknown(ast.unparse(node), reads=True)
        return NOTHING

    def parsed(self, text: str, node: ast.AST) -> ast.Module | None:
        """Give the tree of a text; nothing where running it is an error."""

        def parse() -> ast.Module | None:
            try:
                return syntax_tree(text)
            except (SyntaxError, ValueError, RecursionError):
                return None

        tree: ast.Module | None = self.book.the((node, text), parse)
        return tree

    def query(self, method: str, node: ast.Call, *, of_module: bool) -> None:
        """Read the names in the text of a pandas query, or of ``pandas.eval`` and ``numexpr.evaluate``."""
        named = {one.arg: one.value for one in node.keywords}
        text = node.args[0] if node.args else named.get("expr")
        if text is None:
            return
        sign = "" if method == "evaluate" or (method == "eval" and of_module) else "@"
        for name, called in re.findall(sign + r"([A-Za-z_]\w*)(\s*\()?", "\n".join(_texts(text))):
            things = self.read_softly(name)
            if called:
                self.run_all(things)
        of_pandas = method != "evaluate" and len(node.args) < 2 and named.keys() <= OF_QUERIES
        if of_pandas and not all(map(_tells, _summed(text))):
            self.unknown(f".{method}({ast.unparse(text)})", reads=True)

    # Names

    def is_namespace(self, node: ast.expr) -> bool:
        """Whether it is a call that gives the global names."""
        match node:
            case ast.Call(func=ast.Name(id="globals"), args=[], keywords=[]):
                return not self.known("globals")
            case ast.Call(func=ast.Name(id="locals" | "vars" | "dir"), args=[], keywords=[]):
                return self.frame is None and self.cls is None
        return False

    def asked_in(self, test: ast.expr) -> frozenset[str]:
        """Give the names for which a test asks whether they are there."""
        return frozenset(name for one in ast.walk(test) for name in self.names_asked(one))

    def names_asked(self, node: ast.AST) -> Iterator[str]:
        """Give the name that ``"name" in globals()`` asks for."""
        match node:
            case ast.Compare(left=ast.Constant(value=str(name)), comparators=[call]) if self.is_namespace(call):
                yield name

    def call_globals(self, node: ast.Call) -> Things | None:
        """Give all global names away."""
        if not self.is_namespace(node):
            return None
        self.unknown(ast.unparse(node), reads=True, assigns=True)
        return NOTHING

    def call_vars(self, node: ast.Call) -> Things | None:
        """Give the attributes of an object, or all global names away."""
        match node.args:
            case [value]:
                return NOTHING.union(*(self.attribute(one, "__dict__") for one in self.eval(value)))
        return self.call_globals(node)

    def call_ipython(self, _: ast.Call) -> Things:
        """Give the shell."""
        return frozenset((SHELL,))

    # Objects

    def arguments(self, node: ast.Call) -> None:
        """Evaluate the arguments of a call that uses them."""
        for one in (*node.args, *(keyword.value for keyword in node.keywords)):
            self.use(self.eval(one))

    def call_super(self, node: ast.Call) -> Things | None:
        """Give what looks for attributes behind the class whose method this is."""
        frame = self.frame
        while frame is not None and (frame.func is None or frame.func.owner is None):
            frame = frame.parent
        if frame is None or frame.func is None or frame.func.owner is None:
            return None
        self.arguments(node)
        owner, code = frame.func.owner, frame.func.node
        first = (
            NOTHING if isinstance(code, ast.GeneratorExp) else self.look(frame.locals[(*parameters(code.args), "")[0]])
        )
        found = frozenset(Super(owner, one) for one in first if isinstance(one, Instance | Class))
        return found or frozenset((Super(owner, self.instance(owner)),))

    def call_getattr(self, node: ast.Call) -> Things | None:
        """Give an attribute; all of them where its name does not stand there."""
        match node.args:
            case [holder, name, *default]:
                things = found = self.eval(holder)
            case _:
                return None
        match name:
            case ast.Constant(value=str(text)):
                found = NOTHING.union(*(self.attribute(one, text) for one in things))
            case _:
                self.use(self.eval(name))
                found |= NOTHING.union(*(self.methods(one) for one in things if isinstance(one, Instance)))
        return found.union(*map(self.eval, default))

    def call_hasattr(self, node: ast.Call) -> Things | None:
        """Look for an attribute, which makes it if it is a property."""
        return None if self.call_getattr(node) is None else NOTHING

    def call_setattr(self, node: ast.Call) -> Things | None:
        """Let an object keep an attribute."""
        match node.args:
            case [holder, name, value]:
                things = self.eval(holder)
                self.use(self.eval(name))
                given = self.eval(value)
                for one in things:
                    self.keep(one, str(name.value) if isinstance(name, ast.Constant) else "*", given)
                return NOTHING
        return None

    def call_type(self, node: ast.Call) -> Things | None:
        """Give the class of an object."""
        match node.args:
            case [value]:
                return frozenset(one.cls for one in self.eval(value) if isinstance(one, Instance))
        return None

    def call_inert(self, node: ast.Call) -> Things:
        """Look at objects without running anything of them."""
        for one in node.args:
            self.eval(one)
        return NOTHING


OF_QUERIES = {None, *words("expr inplace parser engine local_dict global_dict resolvers level target")}
"""What a query of pandas is given by name, or by ``**``; another ``query`` may take anything else."""


def _texts(node: ast.AST) -> Iterator[str]:
    """Give the texts that stand in an expression."""
    for one in ast.walk(node):
        match one:
            case ast.Constant(value=str(text)):
                yield text


def _summed(node: ast.expr) -> Iterator[ast.expr]:
    """Give the terms of a sum, or the expression itself."""
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        yield node.right
        node = node.left
    yield node


def _tells(node: ast.expr) -> bool:
    """Whether the names in the text that it gives stand there, or it gives no text."""
    match node:
        case ast.List() | ast.Tuple() | ast.Dict() | ast.ListComp() | ast.Call(func=ast.Name(id="str" | "repr")):
            return True
    return any(_texts(node))


SPECIAL: Mapping[str, Callable[[Specials, ast.Call], Things | None]] = {
    "exec": Specials.call_exec,
    "eval": Specials.call_eval,
    **dict.fromkeys(("globals", "locals"), Specials.call_globals),
    "vars": Specials.call_vars,
    "super": Specials.call_super,
    "getattr": Specials.call_getattr,
    "hasattr": Specials.call_hasattr,
    "setattr": Specials.call_setattr,
    "type": Specials.call_type,
    **dict.fromkeys(("isinstance", "issubclass", "callable", "id"), Specials.call_inert),
    "get_ipython": Specials.call_ipython,
}
