"""Magics of IPython: what lines that only IPython understands do with names."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Callable, Iterator, Mapping

from .cells import as_magic, tree_of
from .scopes import Scope, stored
from .special import Specials
from .tables import BUILTINS, HARMLESS, words
from .things import NOTHING, Frame, Func, Things

__all__ = ["LINES", "Magics"]

LINES = words("run_line_magic magic run_cell_magic system getoutput getoutput_argv")
"""Methods of IPython's shell that stand for a line of it."""
SCRIPTS = words(
    """
    ! HTML SVG bash cmd file html javascript js latex markdown perl pypy python python2 python3 ruby script sh svg
    sx system writefile
    """
)
"""Cell magics whose text is no Python of this kernel."""


class Magics(Specials):
    """The part that knows IPython."""

    def spelled(self, source: str) -> str:
        """Give a cell with the sign of a magic that IPython finds without it, as no name is called so."""
        found = as_magic(source)
        return source if found is None or self.perhaps(found[0]) else found[1]

    def line_of_shell(self, node: ast.Call, method: str) -> Things:
        """Do what a magic, or a line of the system's shell, does."""
        texts = [one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
        match method, texts:
            case (("system" | "getoutput" | "getoutput_argv"), [line]):
                self.expand(line)
            case (("run_line_magic" | "magic"), [name, *line]):
                name, _, more = name.partition(" ")
                self._magic(name, " ".join([more, *line]).strip())
            case "run_cell_magic", [name, line, body]:
                self._cell_magic(name, line, body)
            case _:
                self.unknown(ast.unparse(node), reads=True, assigns=True)
        return NOTHING

    def _magic(self, name: str, line: str) -> None:
        if name not in RUNNING:
            self.expand(line)
        if name in MAGICS:
            MAGICS[name](self, line)
        elif name not in HARMLESS:
            self.unknown(f"%{name} {line}".strip(), reads=True, assigns=True)

    def _cell_magic(self, name: str, line: str, body: str) -> None:
        if name not in RUNNING:
            self.expand(line)
        if name in CELL_MAGICS:
            CELL_MAGICS[name](self, line, body)
        elif name in SCRIPTS:
            for word in re.findall(r"--(?:out|err|proc)[ =](\w+)", line):
                self.assign(word, NOTHING)
        else:
            self.unknown(f"%%{name} {line}".strip(), reads=True, assigns=True)

    # Magics that run Python

    def run_line(self, line: str) -> None:
        """Run the code behind the options of a line."""
        self._code(_without_options(line), 0)

    def run_cell(self, line: str, body: str) -> None:
        """Run the code of the line, then that of the cell."""
        self._code(_without_options(line), 0)
        self._code(body, 1)

    def run_body(self, _: str, body: str) -> None:
        """Run the code of the cell."""
        self._code(body, 1)

    def capture(self, line: str, body: str) -> None:
        """Run the code of the cell, and assign what it showed."""
        self._code(body, 1)
        for word in filter(str.isidentifier, line.split()):
            self.assign(word, NOTHING)

    def time_line(self, line: str) -> None:
        """Run the code of a line as a function."""
        self._timed(_without_options(line))
        self._kept(line)

    def time_cell(self, line: str, body: str) -> None:
        """Run the code of the line, then that of the cell, as a function."""
        self._timed(f"{_without_options(line)}\n{body}")
        self._kept(line)

    def _kept(self, line: str) -> None:
        """Assign what ``-v name`` of ``timeit`` keeps."""
        rest = _without_options(line)
        for name in re.findall(r"(?:^|\s)-v\s*(\w+)", line.removesuffix(rest)):
            self.assign(name, NOTHING)

    def _code(self, source: str, shift: int) -> None:
        """Walk code that stands so many lines below the magic."""
        here = self.node
        self.block(self._tree(source, shift).body)
        self.node = here

    def _tree(self, source: str, shift: int) -> ast.Module:
        line = getattr(self.node, "lineno", 1) + shift

        def parse() -> ast.Module:
            return ast.increment_lineno(tree_of(source, line), line - 1)

        tree: ast.Module = self.book.the((self.node, source), parse)
        return tree

    def _timed(self, source: str) -> None:
        """Walk what ``timeit`` runs: names that it assigns do not stay."""
        tree = self._tree(source, 0)

        def make() -> Frame:
            func = ast.parse("def timed(): pass").body[0]
            assert isinstance(func, ast.FunctionDef), "it is one"
            func.body = tree.body
            return Frame(Scope.of(func), self.frame, Func(func, self.frame, None))

        here, outer = self.node, (self.frame, self.cls)
        self.frame, self.cls = self.book.the((tree, self.frame, "timed"), make), None
        self.block(tree.body)
        self.node, (self.frame, self.cls) = here, outer

    # Magics that see names

    def xdel(self, line: str) -> None:
        """Delete a name."""
        for name in line.split()[-1:]:
            self.delete(name)

    def store_magic(self, line: str) -> None:
        """Store names, or bring stored ones back."""
        options = [word for word in line.split() if word.startswith("-")]
        names = [word for word in re.split(r">|\s", line.partition(">")[0]) if word.isidentifier()]
        if "-r" in options and not names:
            self.unknown(f"%store {line}", assigns=True)
        for name in names:
            if "-r" in options:
                self.assign(name, NOTHING)
            elif not options:
                self.read(name)

    def run_file(self, line: str) -> None:
        """Run a file, whose names stay; a notebook runs among those that are there."""
        parts = line.split()
        among = "-i" in parts or any(part.strip("'\"").endswith((".ipynb", ".ipy")) for part in parts)
        self.unknown(f"%run {line}", reads=among, assigns=True)

    def aimport(self, line: str) -> None:
        """Import modules."""
        for module in re.findall(r"(?:^|,)\s*([\w.]+)", line):
            self.import_as(module.partition(".")[0], module)

    def show(self, line: str) -> None:
        """Show what is known of a name."""
        self.read_softly(re.split(r"\W", line.strip("? "))[0])

    def expand(self, line: str) -> None:
        """Read the names in ``{expression}`` and ``$name``, as IPython puts them into a line."""
        for expression in _expansions(line):
            tree = self.parsed(expression, self.node)
            names = _free(tree) if tree else frozenset()
            missing = {name for name in names - BUILTINS if self.owner(name) is None and not self.perhaps(name)}
            for name in sorted(names):
                self.read_softly(name)
            if tree is None or missing:
                return  # IPython leaves the line as it is
            match tree.body:
                case [ast.Expr(value=value)]:
                    asked, self.asked = self.asked, self.asked.union(one for one in names if not self.known(one))
                    self.use(self.eval(value), "show")
                    self.asked = asked


def _assigning(name: str) -> Callable[[Magics, str], None]:
    """Give what a magic does that may assign anything."""
    return lambda walk, line: walk.unknown(f"%{name} {line}".strip(), assigns=True)


def _expansions(line: str) -> Iterator[str]:
    """Give the expressions that IPython evaluates in a line; all before the first that is none."""
    try:
        for text, expression, form, _ in string.Formatter().parse(line):
            yield from (name for name in re.findall(r"\$(\$?[\w.]+)", text) if not name.startswith("$"))
            if expression is not None:
                yield f"{expression}:{form}" if form else expression  # IPython takes it for a slice
    except ValueError:
        return  # nor does IPython put anything into braces that do not close


def _free(tree: ast.Module) -> frozenset[str]:
    """Give the names that an expression reads and does not bind itself."""
    nodes = list(ast.walk(tree))
    bound = {*stored(nodes), *(one.arg for one in nodes if isinstance(one, ast.arg))}
    return frozenset(one.id for one in nodes if isinstance(one, ast.Name)) - bound


def _without_options(line: str) -> str:
    """Give a line of ``%time``, ``%timeit`` or ``%prun`` without its options."""
    return re.sub(r"^\s*(-[nrpslTDv]\s*\S+\s+|-[a-zA-Z]+\d*\s+|--[\w-]+\s+)*", "", line + " ").strip()


MAGICS: Mapping[str, Callable[[Magics, str], None]] = {
    **dict.fromkeys(("time", "prun", "memit"), Magics.run_line),
    "timeit": Magics.time_line,
    "xdel": Magics.xdel,
    "store": Magics.store_magic,
    "run": Magics.run_file,
    "aimport": Magics.aimport,
    **dict.fromkeys(("pinfo", "pinfo2", "pdoc", "pdef", "psource", "pfile", "page"), Magics.show),
    **{name: _assigning(name) for name in ("pylab", "reset", "reset_selective")},
}
"""Line magics that do something with names."""
CELL_MAGICS: Mapping[str, Callable[[Magics, str, str], None]] = {
    **dict.fromkeys(("time", "prun"), Magics.run_cell),
    "memit": Magics.run_body,
    "timeit": Magics.time_cell,
    "capture": Magics.capture,
}
RUNNING = words("time timeit prun memit")
"""Magics whose line is Python."""
