"""The floors of the package: imports go down only. The table here is the one of docs/design.md."""

from __future__ import annotations

import ast
import graphlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "nbflow"

FLOORS = {
    "errors": 0,
    "version": 0,
    "types": 0,
    "values": 1,
    "model": 1,
    "definition": 1,
    "mermaid": 1,
    "namespace": 1,
    "mistakes": 1,
    "events": 1,
    "instruction": 1,
    "outcome": 1,
    "steps": 1,
    "task": 1,
    "durations": 1,
    "sizes": 1,
    "early": 2,
    "files": 2,
    "host": 2,
    "lean": 2,
    "libraries": 2,
    "masking": 2,
    "signing": 2,
    "memory": 2,
    "overlaps": 2,
    "expressions": 2,
    "printing": 2,
    "source": 2,
    "state": 2,
    "engine": 3,
    "executors": 4,
    "kernels": 4,
    "loading": 4,
    "notebooks": 4,
    "reporters": 4,
    "store": 4,
    "driver": 5,
    "api": 6,
    "testing": 6,
    "__init__": 7,
    "__main__": 7,
    "cli": 7,
    "magics": 7,
}
"""The floor of each module and package directly under nbflow/."""

BELOW = {
    0: {0},
    1: {0, 1},
    2: {0, 1, 2},
    3: {0, 1, 2},
    4: {0, 1, 2},
    5: {0, 1, 2, 3},
    6: {0, 1, 2, 3, 4, 5, 6},
    7: {0, 1, 2, 6, 7},
}
"""What each floor may import. Where it may import itself, no circle; a room always may import its own files."""

LIBRARIES = {
    "definition": {"pydantic", "pydantic_core"},
    "expressions": {"jinja2"},
    "host": {"psutil"},
    "memory": {"psutil"},
    "source": {"nbformat"},
    "kernels": {"jupyter_client", "jupyter_core", "ipykernel", "IPython", "traitlets", "zmq", "psutil"},
    "loading": {"yaml", "nbformat", "pydantic", "IPython"},
    "notebooks": {"papermill", "nbclient", "nbformat", "jupyter_client", "traitlets", "zmq", "psutil"}
    | {"pandas", "pyarrow", "numpy"},
    "reporters": {"tqdm", "IPython", "ipywidgets"},
    "store": {"filelock", "psutil"},
    "api": {"pandas", "jupyter_client", "IPython", "packaging"},
    "cli": {"click"},
    "magics": {"click", "IPython"},
}
"""What may be imported from outside of the standard library; nothing, in a room that is not here."""

IMPURE = {
    *("asyncio", "concurrent", "contextvars", "ctypes", "datetime", "fcntl", "glob", "importlib", "io", "logging"),
    *("multiprocessing", "os", "pathlib", "queue", "random", "sched", "secrets", "select", "selectors", "shutil"),
    *("signal", "socket", "sqlite3", "ssl", "subprocess", "sys", "tempfile", "threading", "time", "urllib", "uuid"),
    *("_thread", "http", "inspect", "resource", "warnings"),
}
"""What the engine must not know: threads, clocks, files, chance, and the world outside."""


@dataclass(frozen=True)
class Import:
    """One imported module, by its full name, and where."""

    by: tuple[str, ...]
    what: tuple[str, ...]
    line: int

    @property
    def ours(self) -> bool:
        return self.what[0] == "nbflow"

    def __str__(self) -> str:
        return f"{'.'.join(self.by)}, line {self.line}, imports {'.'.join(self.what)}"


def modules(package: Path) -> dict[tuple[str, ...], ast.Module]:
    """Give the syntax tree of every module, by name; a package's is called ``__init__``."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = ("nbflow", *path.relative_to(package).with_suffix("").parts)
        found[parts] = ast.parse(path.read_text("utf-8"), str(path))
    return found


def imports(name: tuple[str, ...], tree: ast.Module, known: set[tuple[str, ...]]) -> Iterator[Import]:
    """Give everything that a module imports: at its top, in functions, for types only."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(name, _module(tuple(alias.name.split(".")), known), node.lineno)
        elif isinstance(node, ast.ImportFrom):
            above = name[: len(name) - node.level] if node.level else ()
            start = (*above, *(node.module.split(".") if node.module else ()))
            for alias in node.names:
                yield Import(name, _module((*start, alias.name), known), node.lineno)


def _module(name: tuple[str, ...], known: set[tuple[str, ...]]) -> tuple[str, ...]:
    """Give the module that a dotted name stands in."""
    if name[0] != "nbflow":
        return name
    while name not in known and (*name, "__init__") not in known:
        name = name[:-1]
        assert name, "every name of ours stands in a module of ours"
    return name if name in known else (*name, "__init__")


def room(module: tuple[str, ...]) -> str:
    """Give the module or package directly under nbflow/ that a module belongs to."""
    return module[1]


def climbs(found: list[Import]) -> list[str]:
    """Give the imports that do not go down."""
    return [
        str(one)
        for one in found
        if one.ours and room(one.what) != room(one.by) and FLOORS[room(one.what)] not in BELOW[FLOORS[room(one.by)]]
    ]


def circles(found: list[Import]) -> list[str]:
    """Give one circle of rooms that import each other, if there is one."""
    graph: dict[str, set[str]] = {}
    for one in found:
        if one.ours and room(one.what) != room(one.by):
            graph.setdefault(room(one.by), set()).add(room(one.what))
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as problem:
        return list(problem.args[1])
    return []


def impurities(found: list[Import]) -> list[str]:
    """Give what the engine imports and must not."""
    return [str(one) for one in found if room(one.by) == "engine" and one.what[0] in IMPURE]


def strangers(found: list[Import]) -> list[str]:
    """Give the imports of libraries that are not the room's own."""
    return [
        str(one)
        for one in found
        if not one.ours
        and one.what[0] not in sys.stdlib_module_names
        and one.what[0] not in LIBRARIES.get(room(one.by), ())
    ]


def untitled(trees: dict[tuple[str, ...], ast.Module]) -> list[str]:
    """Give the modules whose docstring is missing, or whose first line is no sentence."""
    titles = {name: (ast.get_docstring(tree) or "").partition("\n")[0] for name, tree in trees.items()}
    return [".".join(name) for name, title in titles.items() if not title.endswith(".")]


@pytest.fixture(scope="module")
def trees() -> dict[tuple[str, ...], ast.Module]:
    return modules(PACKAGE)


@pytest.fixture(scope="module")
def found(trees: dict[tuple[str, ...], ast.Module]) -> list[Import]:
    return [one for name, tree in trees.items() for one in imports(name, tree, set(trees))]


def test_every_module_stands_in_the_table(trees):
    """A new module is put on a floor before it is used."""
    assert sorted(FLOORS.keys() - {"__main__"}) == sorted({room(name) for name in trees} - {"__main__"})


def test_imports_go_down_only(found):
    """No floor knows what stands above it, and the rooms of floor 4 do not know each other."""
    assert [] == climbs(found)


def test_no_rooms_import_each_other(found):
    """Where a floor may use itself, one of two rooms is the lower one."""
    assert [] == circles(found)


def test_the_engine_is_pure(found):
    """The engine knows no threads, clock, files, chance or network."""
    assert [] == impurities(found)


def test_the_engine_opens_and_prints_nothing(trees):
    """Nor does it reach outside by the built-in names."""
    calls = {
        f"{'.'.join(name)}:{node.lineno} {node.func.id}"
        for name, tree in trees.items()
        if room(name) == "engine"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if node.func.id in {"open", "print", "input", "exec", "eval", "__import__"}
    }
    assert set() == calls


def test_each_room_uses_its_own_libraries_only(found):
    """A library is met in one place, so it can be replaced in one place."""
    assert [] == strangers(found)


def test_every_module_says_what_it_is(trees):
    """The first line of a file is a sentence."""
    assert [] == untitled(trees)


@pytest.mark.parametrize(
    ("by", "text", "check"),
    [
        ("store/files.py", "from ..kernels import specs", climbs),
        ("store/files.py", "def f():\n    from nbflow.kernels.specs import names", climbs),
        ("store/files.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import nbflow.engine", climbs),
        ("store/files.py", "from .. import map", climbs),
        ("engine/machine.py", "from ..store import files", climbs),
        ("errors.py", "from .model import Step", climbs),
        ("driver.py", "from .kernels import specs", climbs),
        ("cli/__init__.py", "from ..driver import Driver", climbs),
        ("engine/machine.py", "import time", impurities),
        ("engine/machine.py", "def f():\n    from concurrent.futures import Future", impurities),
        ("model.py", "import pydantic", strangers),
        ("store/files.py", "import pandas as pd", strangers),
    ],
)
def test_a_planted_import_is_seen(by, text, check, trees):
    """Each rule fails for an import that breaks it, wherever in the file it stands."""
    known = set(trees)
    name = ("nbflow", *Path(by).with_suffix("").parts)
    assert 1 == len(check(list(imports(name, ast.parse(text), known))))


def test_a_planted_circle_is_seen():
    """Two modules of one floor that import each other are named."""
    known = {("nbflow", "values"), ("nbflow", "model")}
    one = imports(("nbflow", "values"), ast.parse("from .model import Step"), known)
    other = imports(("nbflow", "model"), ast.parse("from .values import Value"), known)
    assert {"values", "model"} == set(circles([*one, *other]))


@pytest.mark.parametrize("text", ["import ast", '"""No full stop"""'])
def test_a_file_without_a_title_is_seen(text):
    """A missing docstring, or one that is no sentence, is named."""
    assert ["nbflow.new"] == untitled({("nbflow", "new"): ast.parse(text)})
