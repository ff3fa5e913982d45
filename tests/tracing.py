"""Tracing of names: runs cells, and tells which global names each step really read and assigned."""

from __future__ import annotations

import ast
import atexit
import builtins
import contextlib
import io
import re
import symtable
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from IPython.core.interactiveshell import InteractiveShell
from IPython.utils import text
from traitlets.config import Config

OF_IPYTHON = re.compile(r"_{1,3}|_i{1,3}|_i?\d+|_[iod]h|In|Out|_exit_code|get_ipython|exit|quit|open|__\w+__")
"""Names that IPython sets and reads itself."""


class Traced(NamedTuple):
    """What the cells of a step did."""

    read: set[str]
    """Names of before the step that it read, by any way: code, functions, magics, queries of pandas."""
    assigned: set[str]
    """Names that it assigned, also those that it deleted again."""


class Names(dict):
    """The global names of a notebook; those of before the present step lie below.

    CPython looks names up by ``__getitem__`` where globals are a subclass of dict. It stores the globals of functions
    without asking, so what was assigned is told by where it lies.
    """

    def __init__(self) -> None:
        super().__init__()
        self.below: dict[str, Any] = {}
        self.read: set[str] = set()
        self.assigned: set[str] = set()

    def begin(self) -> None:
        """Begin a step: what there is came from before it."""
        self.below.update(super().items())
        super().clear()
        self.read.clear()
        self.assigned.clear()

    def traced(self) -> Traced:
        """Give what was done since the step began."""
        return Traced(
            {name for name in self.read if not OF_IPYTHON.fullmatch(name)},
            {name for name in self.assigned | set(super().keys()) if not OF_IPYTHON.fullmatch(name)},
        )

    def __getitem__(self, name: str) -> Any:
        if super().__contains__(name):
            return super().__getitem__(name)
        value = self.below[name]
        self.read.add(name)
        return value

    def __setitem__(self, name: str, value: Any) -> None:
        self.assigned.add(name)
        super().__setitem__(name, value)

    def __delitem__(self, name: str) -> None:
        if not super().__contains__(name):
            self[name]
        self.assigned.add(name)
        self.below.pop(name, None)
        super().pop(name, None)

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or name in self.below

    def __iter__(self) -> Iterator[str]:
        return iter({**self.below, **dict(super().items())})

    def __len__(self) -> int:
        return len(list(iter(self)))

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self else default  # noqa: SIM401 - this is what get is

    def keys(self) -> Any:
        return list(self)

    def values(self) -> Any:
        return [value for _, value in self.items()]

    def items(self) -> Any:
        return list({**self.below, **dict(super().items())}.items())

    def pop(self, name: str, *default: Any) -> Any:
        if name not in self and default:
            return default[0]
        value = self[name]
        del self[name]
        return value

    def setdefault(self, name: str, default: Any = None) -> Any:
        if name not in self:
            self[name] = default
        return self[name]

    def update(self, *others: Any, **more: Any) -> None:
        if others and isinstance(others[0], Names):
            return  # IPython puts the names of the cell over themselves
        for name, value in dict(*others, **more).items():
            self[name] = value

    def copy(self) -> Names:
        """Give what tells here what is read there: pandas copies the names that a query may read."""
        copy = Names()
        dict.update(copy, dict(super().items()))
        copy.below, copy.read = self.below, self.read
        return copy


class _Asking(ast.NodeTransformer):
    """Lets code ask :class:`Names` where CPython reaches around it: ``del`` of a global name, and bodies of classes."""

    def __init__(self) -> None:
        self.globals: list[set[str]] = []
        self.future = False
        """Whether annotations are not evaluated."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        self.future |= node.module == "__future__"
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        inside = [one for one in ast.walk(node) if isinstance(one, ast.Global)]
        self.globals.append({name for one in inside for name in one.names})
        self.generic_visit(node)
        self.globals.pop()
        return node

    def visit_Delete(self, node: ast.Delete) -> Any:
        names = self.globals[-1] if self.globals else set()
        found: list[ast.stmt] = []
        for target in node.targets:
            if isinstance(target, ast.Name) and target.id in names:
                found += ast.parse(f"globals().__delitem__({target.id!r})").body
            else:
                found.append(ast.Delete([target]))
        return [ast.fix_missing_locations(ast.copy_location(one, node)) for one in found]

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self.generic_visit(node)
        body = _Body(node, future=self.future)
        node.body = [body.visit(one) for one in node.body]
        return ast.fix_missing_locations(node)


class _Body(ast.NodeTransformer):
    """Reads the names that a class does not have itself as a function would: ``(lambda: name)()``."""

    def __init__(self, node: ast.ClassDef, *, future: bool) -> None:
        table = symtable.symtable(ast.unparse(node), "<class>", "exec").get_children()
        self.own = {one.get_name() for one in table[-1].get_symbols() if one.is_assigned() or one.is_imported()}
        self.future = future

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if not isinstance(node.ctx, ast.Load) or node.id in self.own:
            return node
        return ast.copy_location(ast.parse(f"(lambda: {node.id})()", mode="eval").body, node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.value = node.value and self.visit(node.value)
        node.annotation = node.annotation if self.future else self.visit(node.annotation)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.decorator_list = [self.visit(one) for one in node.decorator_list]
        args = node.args
        for arg in (*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg):
            if arg is not None and arg.annotation is not None and not self.future:
                arg.annotation = self.visit(arg.annotation)
        if node.returns is not None and not self.future:
            node.returns = self.visit(node.returns)
        return self.visit_Lambda(node)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: Any) -> ast.AST:
        node.args.defaults = [self.visit(one) for one in node.args.defaults]
        node.args.kw_defaults = [one and self.visit(one) for one in node.args.kw_defaults]
        return node

    def visit_ListComp(self, node: Any) -> ast.AST:
        node.generators[0].iter = self.visit(node.generators[0].iter)
        return node

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.bases = [self.visit(one) for one in node.bases]
        node.decorator_list = [self.visit(one) for one in node.decorator_list]
        return node


class _Shell(InteractiveShell):
    """A shell without a window."""

    def enable_gui(self, gui: str | None = None) -> None:
        """Do nothing, as a kernel without a display."""

    def transform_cell(self, raw_cell: str) -> str:
        """Give what IPython makes of a cell; the names that it looks up for that are not read by the cell."""
        read = set(self.user_ns.read)
        transformed = super().transform_cell(raw_cell)
        self.user_ns.read.intersection_update(read)
        return transformed

    def run_line_magic(self, magic_name: str, line: str, _stack_depth: int = 1) -> Any:
        self.timing = magic_name == "timeit"
        return super().run_line_magic(magic_name, line, _stack_depth=_stack_depth + 1)

    def run_cell_magic(self, magic_name: str, line: str, cell: str) -> Any:
        self.timing = magic_name == "timeit"
        return super().run_cell_magic(magic_name, line, cell)

    def get_local_scope(self, stack_depth: int) -> Any:
        """Give the names around a magic; none to ``%timeit``, which would read every global name to put it back."""
        scope = super().get_local_scope(stack_depth + 1)
        return {} if self.timing and isinstance(scope, Names) else scope


@contextlib.contextmanager
def _shell() -> Iterator[tuple[InteractiveShell, Names]]:
    """Give a shell of IPython whose names are traced, and put back what it changes in this process."""
    names = Names()
    kept = {name: sys.modules.get(name) for name in ("__main__", "builtins")}
    hooks = sys.displayhook, sys.excepthook, dict(vars(builtins))
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    shell = _Shell.instance(user_ns=names, config=config)
    shell.ast_transformers.append(_Asking())
    # IPython makes a dict of all names to evaluate one expression, which would read them all.
    text.dict = lambda names: names
    try:
        yield shell, names
    finally:
        del text.dict
        atexit.unregister(shell.atexit_operations)  # which takes as long as the run did
        _Shell.clear_instance()
        sys.displayhook, sys.excepthook = hooks[:2]
        for name in set(vars(builtins)) - set(hooks[2]):
            delattr(builtins, name)
        sys.modules.update({name: module for name, module in kept.items() if module is not None})


class Tracer:
    """A shell of IPython in which steps run, each when it is asked for."""

    def __init__(self, shell: InteractiveShell, names: Names) -> None:
        self.shell = shell
        self.names = names

    def run(self, cells: Iterable[str]) -> tuple[Traced, BaseException | None]:
        """Run the cells of a step, and give what they did, and the error of the first that failed."""
        self.names.begin()
        problem = None
        for source in cells:
            result = self.shell.run_cell(source, store_history=False)
            problem = result.error_before_exec or result.error_in_exec
            if problem is not None:
                break
        return self.names.traced(), problem

    def run_well(self, cells: Iterable[str]) -> Traced:
        """Run the cells of a step, and raise the error of one that failed."""
        found, problem = self.run(cells)
        if problem is not None:
            raise problem
        return found


@contextlib.contextmanager
def tracing() -> Iterator[Tracer]:
    """Give a shell in which steps run, and say nothing of what they print."""
    silent = io.StringIO()
    with _shell() as (shell, names), contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
        yield Tracer(shell, names)


def trace(setup: Iterable[str], steps: Sequence[Iterable[str]], *, to_the_end: bool = True) -> list[Traced]:
    """Run the cells of a notebook in one shell of IPython.

    Parameters
    ----------
    setup : iterable of str
        Sources of the cells that run before all steps.
    steps : sequence of iterables of str
        Sources of the cells of each step, in order.
    to_the_end : bool
        Whether a cell that fails is raised; else the step in which it stands is the last one given.

    Returns
    -------
    list of Traced
        For each step.

    Raises
    ------
    Exception
        What a cell raised.
    """
    found: list[Traced] = []
    with tracing() as tracer:
        for cells in (setup, *steps):
            done, problem = tracer.run(cells)
            found.append(done)
            if problem is not None and to_the_end:
                raise problem
            if problem is not None:
                break
    return found[1:]
