"""Names that one kernel saves and another one gets back: as if they had never left."""

from __future__ import annotations

import ast
import functools
import gc
import hashlib
import inspect
import itertools
import json
import linecache
import os
import random
import subprocess
import sys
import tempfile
import types
import weakref
from operator import itemgetter
from pathlib import Path

import cloudpickle
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from nbflow.notebooks import snapshot
from nbflow.notebooks.results import asked_of
from nbflow.notebooks.snapshot import natures
from nbflow.notebooks.snapshot.known import Known
from nbflow.notebooks.snapshot.shelf import Shelf

CLOUDPICKLE = str(Path(cloudpickle.__file__).parent)


def along(names, refs, assigned=()):
    """Give those of the names that there are, with what their code needs, and with what shares with them something
    that can be changed; of those that are assigned also what holds their values, for it must be there to keep them."""
    found = {}
    todo = list(names)
    while todo:
        name = todo.pop(0)
        if name not in found:
            ref = found[name] = refs.get(name, {})
            todo += [*ref.get("needs", ()), *ref.get("holds", ()), *ref.get("shares", ())]
            if name in assigned:
                todo += [other for other, ref in refs.items() if name in ref.get("holds", ())]
    return [name for name in found if name in refs]


class Kernel:
    """A namespace with a shelf, as a kernel has it, and setup cells that ran in it."""

    def __init__(self, folder, setup=""):
        self.names = {"__name__": "__main__", "__builtins__": __builtins__}
        before = set(self.names)
        self.run(setup)
        self.setup = sorted(set(self.names) - before)
        self.shelf = Shelf(self.names, str(folder), CLOUDPICKLE)
        self.source = setup
        self.folder = folder
        self.table = {}

    def begin(self, table=(), watch=()):
        """Restore, as nbflow does before a step: references have been JSON."""
        given = json.loads(json.dumps(dict(table)))
        self.table.update(given)
        return self.shelf.restore(given, setup=self.setup, watch=list(watch))

    def run(self, source):
        exec(compile(source, "<cell>", "exec", dont_inherit=True), self.names)

    def save(self, *names, touched=None, stale=(), most=1e9, seconds=60):
        found = self.shelf.save(list(names), touched=touched, stale=stale, most=most, seconds=seconds)
        self.table.update(found["names"])
        return found

    def next(self, *names, watch=()):
        """Give another kernel, in which the same setup ran and these names were restored."""
        other = Kernel(self.folder, self.source)
        wanted = along(names, self.table) if names else list(self.table)
        found = other.begin({name: self.table[name] for name in wanted}, watch)
        assert ({}, []) == (found["problems"], found["missing"])
        return other

    def __getitem__(self, name):
        return self.names[name]


@pytest.fixture
def kernel(tmp_path):
    return started(tmp_path)


def started(folder, setup=""):
    kernel = Kernel(folder, setup)
    kernel.begin()
    return kernel


def passed_on(kernel, source, *names):
    """Run a step, and give a second kernel that has the names."""
    kernel.run(source)
    found = kernel.save(*names)
    assert {} == found["unsaved"]
    return kernel.next(*names)


@pytest.mark.parametrize(
    "text",
    [
        "None",
        "True",
        "1",
        "10**400",
        "1.5",
        "'ä'",
        "[]",
        "{}",
        "[1, [2.5, {'a': None}]]",
        "float('inf')",
        "-0.0",
        "1e300",
    ],
)
def test_small_plain_values_stand_in_the_reference(kernel, text):
    """Nothing is written for them."""
    other = passed_on(kernel, f"value = {text}", "value")
    assert ("json", kernel["value"], repr(kernel["value"])) == (
        kernel.table["value"]["form"],
        other["value"],
        repr(other["value"]),
    )
    assert [] == list(kernel.folder.glob("names/*.pickle"))


@pytest.mark.parametrize(
    "text", ["(1, 2)", "{1: 2}", "{1, 2}", "b'x'", "1j", "'x' * 2000", "True.__class__(1), 1", "[(1,)]", "{'a': {2}}"]
)
def test_what_json_would_change_is_pickled(kernel, text):
    """Its types are those that it had."""
    other = passed_on(kernel, f"value = {text}", "value")
    assert ("pickle", repr(kernel["value"])) == (kernel.table["value"]["form"], repr(other["value"]))


def test_two_names_for_one_object_stay_one(kernel):
    other = passed_on(kernel, "a = [1]; b = a", "a", "b")
    assert other["a"] is other["b"]


def test_two_equal_objects_stay_two(kernel):
    other = passed_on(kernel, "a = [1]; b = [1]; c = {'a': a}", "a", "b", "c")
    assert other["a"] is not other["b"]
    assert other["c"]["a"] is other["a"]


def test_a_function_has_the_globals_of_its_new_kernel(kernel):
    """What is assigned later is seen by it, as in one kernel."""
    other = passed_on(kernel, "k = 2\ndef times(x, *, y=[1]):\n    return x * k + len(y)", "times")
    other.run("k = 10\nfound = times(3)")
    assert 31 == other["found"]
    assert other["times"].__globals__ is other.names


def test_two_closures_share_their_cell(kernel):
    source = """
def counter():
    n = 0
    def inc():
        nonlocal n
        n += 1
    def get():
        return n
    return inc, get
inc, get = counter()
inc()
"""
    other = passed_on(kernel, source, "inc", "get")
    other.run("inc()")
    assert 2 == other["get"]()


def test_a_file_that_is_not_what_it_was_is_missing_and_nothing_is_bound(kernel):
    kernel.run("a = list(range(1000)); b = 1")
    kernel.save("a", "b")
    path = kernel.table["a"]["path"]
    (kernel.folder / path).write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    other = Kernel(kernel.folder)
    assert [path] == other.begin(kernel.table)["missing"]
    assert {"__name__", "__builtins__"} == set(other.names)


def test_arrays_and_frames_come_back(kernel):
    source = """
import numpy as np, pandas as pd
array = np.arange(6.0).reshape(2, 3)
frame = pd.DataFrame({"a": [1, 2], "b": ["x", None]})
series = frame["a"]
"""
    other = passed_on(kernel, source, "array", "frame", "series")
    np.testing.assert_array_equal(kernel["array"], other["array"])
    pd.testing.assert_frame_equal(kernel["frame"], other["frame"])
    pd.testing.assert_series_equal(kernel["series"], other["series"])
    assert ["npy", "parquet", "series"] == [kernel.table[name]["form"] for name in ("array", "frame", "series")]


SETUP = """
import numpy as np

class Thing:
    made = []

    def __init__(self, inner):
        self.inner = inner

shared = [0]
"""
KEEPER = """
def keeper(value):
    calls = []
    def keep():
        calls.append(value)
        return calls
    return keep
"""
SETUP += KEEPER


def same(one, other, seen=None):
    """Whether two dicts of names hold the same values with the same identities: a bijection between what they reach."""
    seen = {} if seen is None else seen
    back = {}
    arrays = []
    todo = [(one, other)]
    for left, right in todo:
        if type(left).__qualname__ != type(right).__qualname__:
            return f"{left!r} and {right!r}"
        if isinstance(left, (int, float, str, type(None), types.ModuleType)):
            if left != right:
                return f"{left!r} and {right!r}"
            continue
        if not isinstance(left, tuple):
            if seen.get(id(left), id(right)) != id(right) or back.get(id(right), id(left)) != id(left):
                return f"another identity: {left!r} and {right!r}"
            if id(left) in seen:
                continue
            seen[id(left)], back[id(right)] = id(right), id(left)
        if isinstance(left, np.ndarray):
            if left.dtype == object:
                todo.append((tuple(left.flat), tuple(right.flat)))
            elif not np.array_equal(left, right):
                return f"{left!r} and {right!r}"
            arrays.append((left, right))
        elif isinstance(left, dict):
            if list(left) != list(right):
                return f"{left!r} and {right!r}"
            todo += [(left[key], right[key]) for key in left]
        elif isinstance(left, (list, tuple)):
            if len(left) != len(right):
                return f"{left!r} and {right!r}"
            todo += zip(left, right, strict=True)
        elif isinstance(left, types.FunctionType):
            cells = [one.__closure__ or () for one in (left, right)]
            todo += zip(*cells, strict=True)
            todo += [(left.__defaults__, right.__defaults__), (left.__kwdefaults__, right.__kwdefaults__)]
            todo.append((left.__dict__, right.__dict__))
        elif isinstance(left, functools.partial):
            todo.append((left.__reduce__()[2], right.__reduce__()[2]))
        elif isinstance(left, types.MethodType):
            todo.append((left.__self__, right.__self__))
        elif isinstance(left, types.CellType):
            todo.append((left.cell_contents, right.cell_contents))
        elif isinstance(left, type):
            if left.__module__ == "__main__":
                held = [{k: v for k, v in vars(one).items() if not k.startswith("_")} for one in (left, right)]
                todo.append(tuple(tuple(sorted(one.items(), key=itemgetter(0))) for one in held))
        else:
            todo += [(left.__dict__, right.__dict__), (type(left), type(right))]
    for (left, right), (left2, right2) in itertools.combinations(arrays, 2):
        if np.shares_memory(left, left2) != np.shares_memory(right, right2):
            return f"other memory: {left!r} and {left2!r}"
    return None


def statements(names):
    """Give a strategy for statements, with what they read and assign, that run in a namespace."""
    kinds = {}
    for name, value in names.items():
        kinds.setdefault(type(value).__name__, []).append(name)
    everything = sorted(set(names) - {"np"})
    targets = st.sampled_from("abcdefgh")
    any_name = st.sampled_from(everything)

    def of(kind):
        return st.sampled_from(sorted(set(kinds.get(kind, ())) - {"Thing"}))

    fresh = [
        st.builds(lambda x, n: (f"{x} = [{n}]", {x}), targets, st.integers(0, 9)),
        st.builds(lambda x, n: (f"{x} = {n}", {x}), targets, st.integers(0, 9)),
        st.builds(lambda x, n: (f"{x} = np.arange({n}.0)", {x, "np"}), targets, st.sampled_from([3, 5, 9000])),
        st.builds(lambda x, y: (f"{x} = {y}", {x, y}), targets, any_name),
        st.builds(lambda x, y, z: (f"{x} = [{y}, {z}]", {x, y, z}), targets, any_name, any_name),
        st.builds(lambda x, y, z: (f"{x} = ({y}, {z}, [])", {x, y, z}), targets, any_name, any_name),
        st.builds(lambda x, y: (f"{x} = {{'k': {y}, 'l': [{y}]}}", {x, y}), targets, any_name),
        st.builds(lambda x, y: (f"{x} = Thing({y})", {x, y, "Thing"}), targets, any_name),
        st.builds(lambda x, y: (f"{x} = keeper({y})", {x, y, "keeper"}), targets, any_name),
        st.builds(lambda y: (f"Thing.made.append({y})", {y, "Thing"}), any_name),
    ]
    if any(name in "abcdefgh" for name in names):
        fresh.append(
            st.builds(lambda x: (f"del {x}", {x}), st.sampled_from([n for n in everything if n in "abcdefgh"]))
        )
    if kinds.get("int"):
        fresh.append(st.builds(lambda x, y: (f"{x} = {y} + 1000", {x, y}), targets, of("int")))
    if kinds.get("list"):
        fresh.append(st.builds(lambda x: (f"{x} = list({x})", {x}), of("list")))
        fresh.append(st.builds(lambda x, y: (f"{x}.append({y})", {x, y}), of("list"), any_name))
        fresh.append(st.builds(lambda x, y: (f"{x} = {y}[0] if {y} else 0", {x, y}), targets, of("list")))
        fresh.append(st.builds(lambda x: (f"{x}.clear()", {x}), of("list")))
    if kinds.get("dict"):
        fresh.append(st.builds(lambda x, y: (f"{x}['m'] = {y}", {x, y}), of("dict"), any_name))
        fresh.append(st.builds(lambda x, y: (f"{x} = {y}['l']", {x, y}), targets, of("dict")))
    if kinds.get("Thing"):
        fresh.append(st.builds(lambda x, y: (f"{x}.inner = {y}", {x, y}), of("Thing"), any_name))
        fresh.append(st.builds(lambda x, y: (f"{x} = {y}.inner", {x, y}), targets, of("Thing")))
        fresh.append(st.builds(lambda x: (f"{x}.made.append(1)", {x, "Thing"}), of("Thing")))
    if kinds.get("ndarray"):
        fresh.append(st.builds(lambda x, y: (f"{x} = {y}[1:]", {x, y}), targets, of("ndarray")))
        fresh.append(st.builds(lambda x: (f"{x} += 1", {x}), of("ndarray")))
    if set(kinds.get("function", ())) - {"keeper"}:
        keeps = st.sampled_from(sorted(set(kinds["function"]) - {"keeper"}))
        fresh.append(st.builds(lambda x, y: (f"{x} = {y}()", {x, y}), targets, keeps))
    return st.one_of(fresh)


def own(kernel):
    return {name: value for name, value in kernel.names.items() if not name.startswith("__") and name != "keeper"}


def bound(sources):
    """Give the names that some code assigns or deletes."""
    nodes = [node for source in sources for node in ast.walk(ast.parse(source))]
    names = {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    return names | {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))}


def as_in_one_kernel(data, how):
    """Check that steps in kernels of their own, with what they touch, leave the same names, all or some of them."""
    with tempfile.TemporaryDirectory() as folder:
        plain = Kernel(Path(folder), SETUP)
        steps = started(Path(folder), SETUP)
        table = {}
        for _ in range(data.draw(st.integers(1, 4), "steps")):
            todo = []
            for _ in range(data.draw(st.integers(1, 5), "statements")):
                source, touched = data.draw(statements(own(plain)), "statement")
                if all(name in plain.names or name in source.split("=")[0] for name in touched):
                    try:
                        plain.run(source)
                    except RecursionError:
                        continue
                    todo.append((source, touched))
            touched = set().union(*(names for _, names in todo))
            if how == "fresh" or (how == "mixed" and data.draw(st.booleans(), "fresh")):
                steps = Kernel(Path(folder), SETUP)
                absent = along(sorted(touched), table, bound(source for source, _ in todo))
            else:
                absent = [
                    name
                    for name in along(sorted(touched), table, bound(s for s, _ in todo))
                    if steps.table.get(name) != table[name]
                ]
            found = steps.begin({name: table[name] for name in absent}, sorted(touched))
            assert ({}, []) == (found["problems"], found["missing"])
            for source, _ in todo:
                steps.run(source)
            found = steps.save(*[n for n in own(plain) if n in steps.names], touched=sorted(touched))
            assert {} == found["unsaved"]
            table.update(found["names"])
            table = {name: ref for name, ref in table.items() if name in plain.names}
        names = data.draw(st.lists(st.sampled_from(sorted(own(plain))), min_size=1, unique=True), "restored")
        last = Kernel(Path(folder), SETUP)
        found = last.begin({name: table[name] for name in along(names, table)})
        assert ({}, []) == (found["problems"], found["missing"])
        assert None is same({name: plain[name] for name in names}, {name: last[name] for name in names})


RANDOM_STEPS = settings(
    max_examples=50,
    phases=[Phase.explicit, Phase.generate],
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
KERNELS = st.sampled_from(["keep", "fresh", "mixed"])


@RANDOM_STEPS
@given(st.data(), KERNELS)
def test_it_is_as_if_all_had_run_in_one_kernel(data, how):
    """With one kernel that is kept, a fresh one for each step, or now this and now that."""
    as_in_one_kernel(data, how)


@pytest.mark.long
@settings(RANDOM_STEPS, max_examples=400)
@given(st.data(), KERNELS)
def test_of_many_random_notebooks_it_is_as_if_all_had_run_in_one_kernel(data, how):
    """The same, more often."""
    as_in_one_kernel(data, how)


def made_by(source):
    """Give the names that a definition or an assignment makes."""
    (one,) = ast.parse(source).body
    return {one.name} if hasattr(one, "name") else bound([ast.unparse(one.targets[0]) + " = 0"])


PIECES = {
    "rows = [1]": "",
    "deep = {'rows': rows}": "rows",
    "class C:\n    n, m = 1, None\n    def go(self): type(self).n += 1": "",
    "class D(C): n, m = 1, None": "C",
    "class P(collections.namedtuple('P', 'x')): n = 1": "",
    "one, two = C(), D()": "D",
    "point = P(0)": "P",
    "def log(to=rows): to.append(len(to))": "rows",
    "def count(*, to=deep): to['n'] = to.get('n', 0) + 1": "deep",
    "def stamp(): stamp.n = getattr(stamp, 'n', 0) + 1": "",
    "def up(): C.n += 1": "C",
    "table = np.array([rows, None], dtype=object)": "rows",
    "bound = functools.partial(log, rows)": "log",
    "method = two.go": "two",
    "space = types.SimpleNamespace(rows=rows, kind=C)": "rows C",
    "by = {'log': log, 'kind': D}": "log D",
    "keep = keeper(rows)": "rows",
}
"""What setup may have made, each with the names that it is made of."""
ACTS = {
    "rows.append(5)": "rows",
    "rows.append(4); rows = [0]": "rows",
    "deep['rows'].append(6)": "deep",
    "deep['new'] = deep['rows']": "deep",
    "C.n += 1": "C",
    "D.n = C.n + 5": "C D",
    "C.m = C.n": "C",
    "if 'm' in vars(C): del C.m": "C",
    "if 'n' in vars(D): del D.n": "D",
    "P.n += 1": "P",
    "one.x = rows": "one rows",
    "one.go()": "one",
    "two.go()": "two",
    "two = D()": "two D",
    "log()": "log",
    "log.__defaults__ = ([],)": "log",
    "count()": "count",
    "stamp()": "stamp",
    "up()": "up C",
    "table[0].append(7)": "table",
    "table[1] = rows": "table rows",
    "bound()": "bound",
    "method()": "method",
    "space.rows.append(8)": "space",
    "space.kind.n = 9": "space",
    "by['log']()": "by",
    "by['kind'].n = 10": "by",
    "keep()": "keep",
}
"""What a step may do to it, each with the names that it touches."""


@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.long)])
def test_what_steps_do_to_what_setup_made_is_as_in_one_kernel(count):
    """Each in a kernel of its own, with the names that it touches and nothing else."""

    @settings(RANDOM_STEPS, max_examples=count)
    @given(st.data())
    def check(data):
        made: list[str] = []
        names = {"keeper"}
        for source, wants in PIECES.items():
            if names.issuperset(wants.split()) and data.draw(st.booleans(), source):
                made.append(source)
                names |= made_by(source)
        todo = [source for source, touched in ACTS.items() if names.issuperset(touched.split())]
        if not todo:
            return
        steps = data.draw(st.lists(st.lists(st.sampled_from(todo), min_size=1, max_size=3), min_size=1, max_size=4))
        read = data.draw(st.lists(st.sampled_from(sorted(names - {"keeper"})), min_size=1, unique=True), "read")
        touched = [sorted(set().union(*(ACTS[source].split() for source in step))) for step in steps]
        with tempfile.TemporaryDirectory() as folder:
            setup = "\n".join(["import collections, functools, types, numpy as np", KEEPER, *made])
            plain, table = Kernel(Path(folder), setup), {}
            for at, step in enumerate(steps):
                own = Kernel(Path(folder), setup)
                given = along(touched[at], table, bound(step))
                assert ({}, []) == itemgetter("problems", "missing")(
                    own.begin({n: table[n] for n in given}, touched[at])
                )
                for source in step:
                    plain.run(source)
                    own.run(source)
                later = sorted({*read}.union(*touched[at + 1 :]))
                stale = {n for n in own.setup if n in table and n not in given} - bound(step)
                found = own.save(*later, touched=touched[at], stale=sorted(stale))
                assert {} == found["unsaved"]
                left = {n for n in found["names"] if n not in own.setup or n in found["changed"] or n in table} - stale
                table.update({name: found["names"][name] for name in left})
            last = Kernel(Path(folder), setup)
            given = along(read, table)
            assert {} == last.begin({name: table[name] for name in given})["problems"]
            assert None is same({name: plain[name] for name in read}, {name: last[name] for name in read})

    check()


def test_a_name_of_setup_that_was_not_restored_is_not_saved_with_others(tmp_path):
    """They share what has no name any more; what a step before made of it stands."""
    kernel = Kernel(tmp_path, KEEPER + "rows = [1]\ndef log(to=rows): ...\nkeep = keeper(rows)")
    kernel.begin(watch=["log"])
    kernel.run("log.__defaults__ = ([],)")
    assert ["log"] == kernel.save("log", "keep", touched=["log"])["changed"]
    left = kernel.table
    other = Kernel(tmp_path, kernel.source)
    other.begin(watch=["rows"])
    other.run("rows = [0]")
    found = other.save("log", "keep", touched=["rows"], stale=["log"])
    assert "log" not in found["names"]
    last = Kernel(tmp_path, kernel.source)
    assert {} == last.begin({**found["names"], "log": left["log"]})["problems"]
    assert ([],) == last["log"].__defaults__
    assert [0] == last["rows"]


CLASSES = {
    "inheritance and super": (
        "class A:\n    def f(self): return 1\nclass B(A):\n    def f(self): return super().f() + 1\nb = B()",
        "b.f() == 2 and type(b) is B and isinstance(b, A)",
    ),
    "a dataclass": (
        (
            "import dataclasses\n@dataclasses.dataclass(order=True)\nclass P:\n    x: int\n"
            "    y: list = dataclasses.field("
            "default_factory=list)\np = P(1)"
        ),
        "p == P(1) and P(1) < P(2) and p.y == [] and dataclasses.replace(p, x=2).x == 2",
    ),
    "an enum": ("import enum\nclass C(enum.Enum):\n    R = 1\n    G = 2\nc = C.R", "c is C.R and C(2) is C.G"),
    "an enum with attributes": (
        (
            "import enum\nmade = []\nclass P(enum.Enum):\n    E = (5, [6])\n    F = (7, [8])\n"
            "    def __init__(self, m, r):\n        made.append(m)\n        self.m, self.r = m, r\n"
            "    def up(self): return self.m + 1\nr = P.E.r\np = P.E"
        ),
        "p is P.E and (P.E.m, P.F.r, p.up()) == (5, [8], 6) and P.E.r is r is P.E.value[1] and made == [5, 7]",
    ),
    "an enum with second names": (
        "import enum\nclass C(enum.Enum):\n    R = 1\n    S = 1\n    G = 2\nc = C.S",
        "c is C.S is C.R is C['S'] and list(C.__members__) == ['R', 'S', 'G'] and list(C) == [C.R, C.G]",
    ),
    "an enum with values that it makes": (
        (
            "import enum\nclass B(enum.Enum):\n    def __new__(kind):\n        made = object.__new__(kind)\n"
            "        made._value_ = len(kind.__members__) + 1\n        return made\n"
            "class C(B):\n    R = ()\n    G = ()\nc = C.G"
        ),
        "c is C.G is C(2) and B('D', {'X': ()}).X.value == 1",
    ),
    "an enum of bytes": (
        (
            "import enum\nclass C(bytes, enum.Enum):\n    def __new__(kind, n, label):\n"
            "        made = bytes.__new__(kind, [n])\n        made._value_ = n\n        made.label = label\n"
            "        kind._value2member_map_[label] = made\n        return made\n"
            "    X = (1, 'x')\n    Y = (2, 'y')\nc = C.Y"
        ),
        "c is C.Y is C(2) is C('y') and c == b'\x02' and c.label == 'y' and '__init__' not in vars(C)",
    ),
    "an enum of texts": (
        (
            "import enum\nclass C(str, enum.Enum):\n    def _generate_next_value_(name, *a): return name * 2\n"
            "    X = enum.auto()\nclass D(C.__base__): pass\nc = C.X"
        ),
        "c is C.X is C('XX') and c == 'XX' and c.upper() == 'XX' and isinstance(c, str)",
    ),
    "an enum of tuples": (
        (
            "import enum, typing\nclass T(typing.NamedTuple):\n    a: int\n    b: int = 2\n"
            "class C(T, enum.Enum):\n    X = (1, 3)\n    Y = 4\nc = C.X"
        ),
        "c is C.X and (c.a, c.b, C.Y.a, C.Y.b) == (1, 3, 4, 2) and type(C.Y.value) is type(T(4))",
    ),
    "flags": (
        ("import enum\nclass F(enum.Flag):\n    R = 1\n    W = 2\n    ALL = 3\n    NONE = 0\nf = F.R | F.W"),
        "f is F.ALL is F(3) and F.R & F.W is F.NONE and list(F.__members__) == ['R', 'W', 'ALL', 'NONE']",
    ),
    "an enum that makes values for others": (
        (
            "import enum\nclass B(enum.Enum):\n    def _generate_next_value_(name, *a): return name * 2\n"
            "class C(B):\n    X = enum.auto()\nc = C.X"
        ),
        "c is C('XX') and B('D', 'Y').Y.value == 'YY'",
    ),
    "a namedtuple": (
        "import collections\nT = collections.namedtuple('T', 'a b')\nt = T(1, [2])",
        "type(t) is T and t.b == [2] and t._replace(a=3) == T(3, [2])",
    ),
    "a protocol": (
        "import typing\nclass R(typing.Protocol):\n    def f(self): ...\nclass A(R): ...",
        "vars(R)['_is_protocol'] and not vars(A)['_is_protocol']",
    ),
    "a typed namedtuple": (
        "import typing\nclass T(typing.NamedTuple):\n    a: int\n    b: str = 'x'\nt = T(1)",
        "t == T(1, 'x') and t.b == 'x'",
    ),
    "an abstract class": (
        (
            "import abc\nclass A(abc.ABC):\n    @property\n    @abc.abstractmethod\n    def f(self): ...\n"
            "class B(A):\n    @property\n    def f(self): return 5\nb = B()"
        ),
        "b.f == 5 and isinstance(b, A) and A.__abstractmethods__ == {'f'}",
    ),
    "slots": (
        "class S:\n    __slots__ = ('a', 'b')\ns = S()\ns.a = [1]",
        "s.a == [1] and not hasattr(s, 'b') and not hasattr(s, '__dict__')",
    ),
    "a property with a setter": (
        (
            "class P:\n    @property\n    def x(self): return self._x\n    @x.setter\n"
            "    def x(self, v): self._x = v * 2\n"
            "p = P()\np.x = 2"
        ),
        "p.x == 4 and not setattr(p, 'x', 1) and p.x == 2",
    ),
    "class and static methods": (
        (
            "class M:\n    n = [0]\n    @classmethod\n    def c(cls): return cls.n\n    @staticmethod\n"
            "    def s(x): return x\nm = M()"
        ),
        "m.c() is M.n and M.s(3) == 3",
    ),
    "a registry by __init_subclass__": (
        (
            "class R:\n    known = []\n    def __init_subclass__(cls, **kw):\n        super().__init_subclass__(**kw)\n"
            "        R.known.append(cls.__name__)\nclass X(R): pass\nclass Y(R): pass\nx = X()"
        ),
        "R.known == ['X', 'Y'] and type('Z', (R,), {}).__name__ == 'Z' and R.known == ['X', 'Y', 'Z'] and type(x) is X",
    ),
    "a registry by a metaclass": (
        (
            "class M(type):\n    made = []\n    def __new__(m, name, bases, d):\n        m.made.append(name)\n"
            "        return super().__new__(m, name, bases, d)\nclass A(metaclass=M): pass\nclass B(A): pass\nb = B()"
        ),
        "M.made == ['A', 'B'] and type(B) is M and isinstance(b, A)",
    ),
    "a class of a function": (
        "def make():\n    class Inner:\n        def get(self): return __class__\n    return Inner\nI = make()\ni = I()",
        "type(i) is I and i.get() is I",
    ),
    "a generic class": (
        (
            "import typing\nT = typing.TypeVar('T')\nclass Box(typing.Generic[T]):\n"
            "    def __init__(self, x: T): self.x = x\n"
            "b = Box[int](3)"
        ),
        "b.x == 3 and type(b) is Box and Box[str]('a').x == 'a'",
    ),
    "an exception": ("class E(Exception):\n    pass\ne = E('a', 1)", "e.args == ('a', 1) and type(e) is E"),
    "a cached property": (
        (
            "import functools\nclass P:\n    n = 0\n    @functools.cached_property\n    def x(self):\n"
            "        P.n += 1\n"
            "        return P.n\np = P()\np.x"
        ),
        "p.x == 1 and P().x == 2",
    ),
}


@pytest.mark.parametrize(("source", "holds"), CLASSES.values(), ids=CLASSES)
@pytest.mark.parametrize("part", ["all", "instance"])
def test_classes_and_their_instances_come_back(tmp_path, source, holds, part):
    """Also where only the instance is asked for: what it needs comes along."""
    kernel = started(tmp_path)
    kernel.run(source)
    names = [name for name in kernel.names if not name.startswith("__")]
    found = kernel.save(*names)
    assert {} == found["unsaved"]
    last = list(names)[-1]
    other = kernel.next(*(names if part == "all" else [last]))
    if part == "all":
        assert eval(holds, other.names)
    else:
        assert type(kernel[last]).__name__ == type(other[last]).__name__


FUNCTIONS = {
    "defaults": ("def f(a, b=[1], *c, d=2, **e):\n    'doc'\n    return a, b, c, d, e", "f(0) == (0, [1], (), 2, {})"),
    "names": (
        "def f(a: int, *, b: str = 'x') -> float:\n    'doc'\nf.mark = [1]",
        (
            "(f.__doc__, f.__annotations__, f.__kwdefaults__, f.mark, f.__module__, f.__qualname__)"
            " == ('doc', {'a': int, 'b': str, 'return': float}, {'b': 'x'}, [1], '__main__', 'f')"
        ),
    ),
    "a generator function": ("def g(n):\n    yield from range(n)", "list(g(3)) == [0, 1, 2]"),
    "an async function": (
        "import asyncio\nasync def f(x):\n    await asyncio.sleep(0)\n    return x",
        "asyncio.run(f(3)) == 3",
    ),
    "a lambda in a dict": ("k = 2\nops = {'t': lambda x: x * k}", "ops['t'](4) == 8"),
    "recursion by name": ("def f(n): return 1 if n < 2 else n * f(n - 1)", "f(5) == 120"),
    "recursion through a cell": (
        "def make():\n    def f(n): return 1 if n < 2 else n * f(n - 1)\n    return f\ng = make()",
        "g(5) == 120 and g.__closure__[0].cell_contents is g",
    ),
    "a decorator": (
        (
            "import functools\ndef twice(f):\n    @functools.wraps(f)\n    def inner(x): return 2 * f(x)\n"
            "    return inner\n"
            "@twice\ndef f(x):\n    'doc'\n    return x + 1"
        ),
        "f(1) == 4 and f.__name__ == 'f' and f.__doc__ == 'doc' and f.__wrapped__(1) == 2",
    ),
    "a cache": (
        "import functools\n@functools.lru_cache(maxsize=7)\ndef f(n): return n if n < 2 else f(n - 1) + f(n - 2)\nf(5)",
        "f(30) == 832040 and f.cache_info().maxsize == 7",
    ),
    "a partial": (
        "import functools\ndef f(a, b): return a, b\np = functools.partial(f, b=2)",
        "p(1) == (1, 2) and p.func is f",
    ),
    "single dispatch": (
        (
            "import functools\n@functools.singledispatch\ndef f(x): return 'any'\n@f.register\n"
            "def _of(x: int): return 'int'\nf(1)"
        ),
        "(f(1), f('')) == ('int', 'any')",
    ),
    "a bound method": (
        (
            "class A:\n    def __init__(self): self.n = 0\n    def up(self):\n        self.n += 1\n"
            "        return self.n\na = A()\nup = a.up"
        ),
        "up() == 1 and a.n == 1 and up.__self__ is a",
    ),
    "an empty cell": (
        "def make(x):\n    if x: y = 1\n    return lambda: y\nf = make(0)\nh = make(1)",
        "h() == 1 and f.__code__.co_freevars == ('y',)",
    ),
    "a library's function": (
        "import math\nroot = math.sqrt\nimport json\ndump = json.dumps",
        "root is math.sqrt and dump is json.dumps",
    ),
    "a global that a function changes": (
        "n = 0\ndef up():\n    global n\n    n += 1\n    return n",
        "up() == 1 and n == 1",
    ),
    "iterators": (
        "i = iter([1, 2, 3])\nnext(i)\nz = zip([1, 2], 'ab')\nnext(z)",
        "list(i) == [2, 3] and list(z) == [(2, 'b')]",
    ),
}


@pytest.mark.parametrize(("source", "holds"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_functions_come_back(kernel, source, holds):
    kernel.run(source)
    names = [name for name in kernel.names if not name.startswith("__")]
    assert {} == kernel.save(*names)["unsaved"]
    assert eval(holds, kernel.next(*names).names)


SAME = {
    "a dataclass that is derived from": (
        ("from dataclasses import *\n@dataclass\nclass P:\n    x: int\n    tags: list = field(default_factory=list)"),
        "@dataclass\nclass Q(P):\n    z: int = 0",
        "repr(Q(1)), fields(P)[0].default is MISSING",
    ),
    "fields that are held": (
        "import dataclasses\nheld = [dataclasses.field(default=3), dataclasses.MISSING]\nother = dataclasses.MISSING",
        "@dataclasses.dataclass\nclass Q:\n    y: int = held[0]",
        "Q(), held[1] is dataclasses.MISSING is other",
    ),
    "an argument that is left out": (
        (
            "import argparse\nfrom argparse import SUPPRESS as S\nhow = {'default': S}\n"
            "p = argparse.ArgumentParser(argument_default=S)\np.add_argument('--x', type=int)"
        ),
        "p.add_argument('--y', type=int, **how)",
        "vars(p.parse_args([])), S is argparse.SUPPRESS",
    ),
    "a NaN that is known by who it is": (
        "import math, numpy as np\nd = {np.nan: 1}\nl = [1.0, np.nan]\nm = [[math.nan]]\nn = np.nan",
        "",
        "(d.get(np.nan), np.nan in l, math.nan in m[0], n is np.nan)",
    ),
    "one that calls itself by its name": (
        (
            "class S:\n    __slots__ = ('a', '__dict__')\n    def __reduce__(self): return 'MISSING'\n"
            "MISSING = S()\nMISSING.a = 1\nMISSING.b = 2\nheld = {'a': MISSING}"
        ),
        "def is_there(x): return x is not MISSING",
        "is_there(held['a']), MISSING.a, MISSING.b",
    ),
    "a new type": (
        "import typing\nUserId = typing.NewType('UserId', int)\ndef f(x: UserId): pass",
        "",
        "UserId(3), f.__annotations__['x'] is UserId, UserId.__name__",
    ),
    "what has one name everywhere": (
        "import typing, typing as t\nheld = [..., NotImplemented, len, typing.Tuple[int, ...], typing.Any]",
        "",
        "held, held[4] is typing.Any",
    ),
    "views of dicts": (
        (
            "import types, collections\nd = {1: 2}\nk = d.keys()\nheld = [d.values()]\ni = d.items()\n"
            "p = types.MappingProxyType(d)\no = collections.OrderedDict(a=1)\nok = o.keys()\nalone = {5: 6}.items()\n"
            "class C: x = 1\nclass D(C): y = 2\nc, e = vars(C), vars(D)"
        ),
        "d[3] = 4\no['b'] = 2\nC.x = 5\nD.y = 6",
        "k, held, i, p, ok, alone, c['x'], e['y'], 'x' in e",
    ),
    "memory that is looked at": (
        "b = bytearray(4)\nm = memoryview(b)\nheld = [m, memoryview(b).toreadonly().obj, memoryview(b'abc')]",
        "m[0] = 5",
        "b, type(m), held[0] is m, held[1] is b, bytes(held[2])",
    ),
    "exceptions and what they came from": (
        (
            "class E(Exception):\n    def __init__(self, a, b):\n        super().__init__(a)\n        self.b = b\n"
            "try:\n    try: 1 / 0\n    except Exception as e:\n        first = e\n        raise E(1, 2) from e\n"
            "except E as e: one = e\n"
            "try:\n    try: 1 / 0\n    except Exception: raise KeyError(3)\n"
            "except KeyError as e:\n    e.mark = 4\n    two = [e]\n"
            "try:\n    try: 1 / 0\n    except Exception: raise KeyError(3) from None\nexcept KeyError as e: three = e\n"
            "one.itself = one"
        ),
        "",
        (
            "one.__cause__ is first is one.__context__, one.__suppress_context__, one.b, one.itself is one, two,"
            "two[0].__context__, two[0].mark, two[0].__cause__, two[0].__suppress_context__, three.__suppress_context__"
        ),
    ),
    "globals of their own": (
        (
            "ns = {}\nexec('x = 1\\ndef f(): return x\\ndef up():\\n global x\\n x += 1', ns)\n"
            "f = ns['f']\nup = [ns['up']]"
        ),
        "ns['x'] = 5\nup[0]()",
        "f(), ns['x'], f.__globals__ is ns is up[0].__globals__, ns['f'] is f",
    ),
    "globals of a module": (
        "import contextlib\n@contextlib.contextmanager\ndef f(): yield 3\nv = vars(contextlib)",
        "with f() as found: pass",
        "found, f.__globals__ is contextlib.__dict__ is v",
    ),
    "frames that share their memory until they are written to": (
        (
            "import pandas as pd\nl = [1]\nf = pd.DataFrame({'a': [l, 2], 'i': [1, 2]})\nf.attrs['l'] = l\ng = f[:]\n"
            "h = f[['i', 'a']]\ns = pd.Series([1, l])\nt = [s[:]]"
        ),
        "f.loc[0, 'i'] = 9\ns[0] = 9\nf.at[1, 'a'] = 9",
        "f, g, h, s, t, f.a[0] is g.a[0] is l is f.attrs['l']",
    ),
    "levels in frames": (
        (
            "import enum, pandas as pd\nclass L(str, enum.Enum):\n    X = 'x'\n    Y = 'y'\nall = [L.X, L.Y] * 9\n"
            "a = pd.DataFrame({'a': all})\nb = [pd.Series(all)]\nc = pd.Series(1, index=all)\n"
            "d = pd.Series(1, name=L.X)\n"
            "e = pd.DataFrame([all[:2]], columns=all[:2])\nf = pd.DataFrame({'a': pd.Categorical(all)})\n"
            "g = pd.concat([f] * 9999)"
        ),
        "a.loc[0, 'a'] = L.Y",
        (
            "[list(map(type, one)) for one in (a.a, b[0], c.index, [d.name], e.columns, e.loc[0], f.a.cat.categories)],"
            " a.a[0] is L.Y, c.index[0] is L.X, e.columns[1] is L.Y, f.a[0] is L.X, g.a.iloc[-1] is L.Y"
        ),
    ),
    "halves of a character": (
        "t = '\\ud83d' + '\\ude00'\nl = [t]\ne = '\\U0001f600'",
        "",
        "(len(t), len(l[0]), len(e))",
    ),
}
"""What a step makes, what a step below does, and what is asked then."""


@pytest.mark.parametrize(("first", "then", "asked"), SAME.values(), ids=SAME)
def test_a_step_finds_what_it_would_in_the_same_kernel(kernel, first, then, asked):
    kernel.run(first)
    assert {} == kernel.save(*[name for name in kernel.names if not name.startswith("__")])["unsaved"]
    other = kernel.next()
    kernel.run(then)
    other.run(then)
    assert repr(eval(asked, kernel.names)) == repr(eval(asked, other.names))


def test_tracebacks_and_inspect_find_the_source_of_a_function(kernel):
    """It stands in no file: the kernel that made it knew its lines."""
    source = "\n\ndef f(x):\n    return 1 / x\n"
    linecache.cache["<a cell>"] = (len(source), None, source.splitlines(keepends=True), "<a cell>")
    exec(compile(source, "<a cell>", "exec", dont_inherit=True), kernel.names)
    kernel.save("f")
    del linecache.cache["<a cell>"]
    other = kernel.next("f")
    assert "def f(x):\n    return 1 / x\n" == inspect.getsource(other["f"])


REFUSED = [
    ("(i for i in [1])", "is a generator"),
    ("{'rows': [(i for i in [1])]}", "holds a generator (in ['rows'][0])"),
    ("map(str, (i for i in [1]))", "holds a generator"),
    ("open(__import__('os').devnull)", "is a _io.TextIOWrapper"),
    ("__import__('sqlite3').connect(':memory:')", "is a sqlite3.Connection"),
    ("__import__('threading').Lock()", "is a _thread.lock"),
    ("[__import__('threading').RLock()]", "holds a _thread.RLock (in [0])"),
    ("__import__('threading').Event()", "is a threading.Event"),
    ("__import__('socket').socket()", "is a socket.socket"),
    ("__import__('weakref').ref(Thing)", "is a weakref.ReferenceType"),
    ("Locked()", "is a Locked"),
    ("Thing(__import__('threading').Lock())", "holds a _thread.lock (in .inner)"),
    ("Bad()", "is a Bad, which raises ValueError: no state here"),
    ("[Proxy()]", "holds a Proxy (in [0]), which raises RuntimeError: not bound"),
    ("{Mute(): __import__('threading').Lock()}", "holds a _thread.lock (in [Mute])"),
    ("{'x' * 40: {2: __import__('threading').Lock()}}", "holds a _thread.lock (in [str][2])"),
    ("Bad('at ' + 'x' * 200)", "is a Bad, which raises ValueError: at..."),
    ("[Bad()]", "holds a Bad (in [0]), which raises ValueError: no state here"),
    ("memoryview(bytearray(4))[1:]", "is a memoryview"),
    ("memoryview(b'x')[:0].cast('B') and None or __import__('mmap').mmap(-1, 1)", "is a mmap.mmap"),
]
ODD = """
class Thing:
    def __init__(self, inner): self.inner = inner
class Bad:
    def __init__(self, why="no state here"): self.why = why
    def __getstate__(self): raise ValueError(self.why)
    __reduce_ex__ = lambda self, protocol: self.__getstate__()
class Proxy:
    @property
    def __class__(self): raise RuntimeError("not bound")
class Mute:
    def __repr__(self): raise ValueError
"""


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(("text", "reason"), [row for row in REFUSED if "Locked" not in row[0]])
def test_what_cannot_be_saved_is_told_and_the_others_are_saved(kernel, text, reason):
    """The reason says what it is, and where in the value."""
    kernel.run(ODD + f"value = {text}\nother = [1]")
    found = kernel.save("value", "other")
    assert {"value": reason} == found["unsaved"]
    assert "other" in found["names"]
    getattr(kernel["value"], "close", lambda: None)()


MADE = """
import sys, types
made = types.ModuleType("made_by_a_test")
exec("def f(): return 1\\nclass C: pass", made.__dict__)
sys.modules["made_by_a_test"] = made
made.f.__module__ = made.C.__module__ = "made_by_a_test"
"""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("made", "is a module"),
        ("[made]", "holds a module (in [0])"),
        ("made.f", "is a function"),
        ("{'f': made.f}", "holds a function (in ['f'])"),
        ("made.C", "is a type"),
        ("[made.C()]", "holds a type"),
    ],
)
def test_what_stands_in_a_module_that_a_step_has_made_cannot_be_saved(kernel, monkeypatch, text, reason):
    """No other kernel finds such a module by its name."""
    monkeypatch.setitem(sys.modules, "made_by_a_test", None)
    kernel.run(f"{MADE}value = {text}\nfine = [types, types.SimpleNamespace]")
    assert {"value": reason} == kernel.save("value", "fine")["unsaved"]


@pytest.mark.parametrize("text", ["made", "made.f", "[made.C()]", "made.ONE", "{'a': made.MISSING}"])
def test_what_stands_in_a_module_of_a_file_that_no_import_finds_cannot_be_saved(kernel, monkeypatch, text):
    """A step has loaded it from there, and no other kernel has."""
    source = "import enum\ndef f(): pass\nclass C: pass\nclass E(enum.Enum): ONE = 1\nONE = E.ONE\n"
    source += "class S:\n    def __reduce__(self): return 'MISSING'\nMISSING = S()"
    (kernel.folder / "made_by_a_test.py").write_text(source)
    monkeypatch.setitem(sys.modules, "made_by_a_test", None)
    kernel.run(f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("made_by_a_test", {str(kernel.folder / "made_by_a_test.py")!r})
made = sys.modules["made_by_a_test"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(made)
value = {text}
""")
    assert ["value"] == list(kernel.save("value", "importlib")["unsaved"])


@pytest.mark.parametrize("text", ["made", "made.f", "made.C()"])
@pytest.mark.parametrize("ends", ["", "\nC = made.C\ndel made"], ids=["module", "class"])
def test_what_stands_in_a_module_that_setup_has_made_is_saved(tmp_path, monkeypatch, text, ends):
    """Setup makes it in each kernel."""
    monkeypatch.setitem(sys.modules, "made_by_a_test", None)
    kernel = started(tmp_path, MADE + ends)
    kernel.run(f"made = sys.modules['made_by_a_test']\nvalue = [{text}]")
    assert {} == kernel.save("value")["unsaved"]


def test_what_stands_in_a_module_that_was_imported_is_saved_wherever_the_folder_is_now(kernel, monkeypatch):
    (kernel.folder / "found_by_a_test.py").write_text("def f(): pass")
    monkeypatch.setitem(sys.modules, "found_by_a_test", None)
    monkeypatch.delitem(sys.modules, "found_by_a_test")
    with monkeypatch.context() as context:
        context.syspath_prepend(kernel.folder)
        kernel.run("import found_by_a_test, json.decoder as held\nvalue = [found_by_a_test.f]")
    assert {} == kernel.save("value", "held")["unsaved"]


def test_the_file_of_a_frame_that_is_pickled_is_called_by_what_is_in_it(kernel):
    """Equal frames may be pickled differently, and who has saved one must find it as it was; Parquet has no two columns
    of one name."""
    kernel.run("import pandas as pd\nframe = pd.DataFrame({0: [1, 2], 1: [3, 4]})\nframe.columns = ['a', 'a']")
    kernel.save("frame")
    ref = kernel.table["frame"]
    assert f"names/{ref['sha256']}.frame" == ref["path"]
    assert ref["sha256"] == hashlib.sha256((kernel.folder / ref["path"]).read_bytes()).hexdigest() != ref["stem"]


def test_a_function_whose_name_is_bound_anew_is_saved_with_who_holds_it(kernel):
    """In the same kernel as in another one: what it had inside is still shared."""
    kernel.run("rows = [1]\ndef put(b=rows):\n    return b\ntable = {'put': put}\nkept = rows")
    kernel.save("put", "table", "rows", "kept")
    kernel.run("put = rows = None")
    assert "table" in kernel.save("put", "table", "rows", "kept", touched=["put", "rows"])["names"]
    other = kernel.next("table", "kept")
    assert other["table"]["put"]() is other["kept"]


def test_that_fewer_names_are_asked_for_is_no_change(kernel):
    """What shares a class without a name is packed together, and so differently with each of the others."""
    kernel.run("""
def make():
    class Item:
        def whole(self):
            return k
    return Item
k = 1
Item = make()
lamp, tea = Item(), Item()
del Item
""")
    kernel.save("lamp", "tea", "k")
    other = kernel.next("lamp", "tea", watch=["lamp", "tea"])
    assert [] == other.save("lamp", touched=["lamp"])["changed"]
    other.run("lamp.price = 3")
    assert ["lamp"] == other.save("lamp", touched=["lamp"])["changed"]


def test_who_shares_objects_with_what_cannot_be_saved_is_told(kernel):
    """Also through a class of the notebook, a closure, or an object of that class: all are made together again."""
    kernel.run("""
import threading
class Shop:
    lock = threading.Lock()
    goods = {}
lamp, tea = [1], [2]
Shop.goods["lamp"] = lamp
shop = Shop()
def opened(lock=threading.Lock()):
    goods = [tea]
    return lambda: (goods, lock)
door = opened()
""")
    found = kernel.save("Shop", "shop", "door", "lamp", "tea")
    assert {"Shop", "shop", "door"} == set(found["unsaved"])
    shares = {name: lost["shares"] for name, lost in found["lost"].items()}
    assert {"Shop": ["lamp", "shop"], "shop": ["lamp"], "door": ["tea"]} == shares


def test_what_is_nested_too_deeply_is_told(kernel):
    kernel.run("value = []\nfor _ in range(100_000): value = [value]")
    assert {"value": "is nested too deeply to be saved"} == kernel.save("value")["unsaved"]
    kernel.run("while value: value = value.pop()")


def test_a_name_over_the_limit_is_told_and_leaves_no_file(kernel):
    kernel.run("import numpy as np\nbig = np.zeros(1_000_000)\nheld = {'a': np.ones(1_000_000)}\nsmall = (1, 2)")
    found = kernel.save("big", "held", "small", most=1_000_000)
    assert {"big": "is 8 MB, and at most 1 MB are saved", "held": "is 8 MB, and at most 1 MB are saved"} == found[
        "unsaved"
    ]
    assert [kernel.table["small"]["path"]] == [
        f"names/{one.name}" for one in kernel.folder.glob("names/*") if one.suffix != ".state"
    ]


def test_a_save_that_takes_too_long_is_told(kernel):
    kernel.run("value = [(i,) for i in range(300_000)]")
    found = kernel.save("value", seconds=0)
    assert {"value": "was not saved within the 0 s that saving may take"} == found["unsaved"]
    assert [] == list(kernel.folder.glob("names/*.pickle"))


def test_names_that_are_not_there_are_left_out(kernel):
    assert {} == kernel.save("nothing")["names"]


def test_an_unchanged_value_is_written_once(kernel):
    kernel.run("import numpy as np\na = np.zeros(100_000)\nb = {'a': np.ones(100_000)}")
    kernel.save("a", "b")
    files = {path: path.stat().st_mtime_ns for path in kernel.folder.glob("names/*")}
    found = kernel.save("a", "b")
    assert ({}, [], 0) == (found["names"], found["changed"], found["wrote"])
    assert files == {path: path.stat().st_mtime_ns for path in kernel.folder.glob("names/*")}


def test_what_was_not_touched_is_not_looked_at(kernel):
    """A change that nobody told of goes unseen: so it was not hashed."""
    kernel.run("import numpy as np\na = np.zeros(100_000)\nb = [1]")
    kernel.save("a", "b")
    kernel.run("a[0] = 1\nb.append(2)")
    assert ["b"] == kernel.save("a", "b", touched=["b"])["changed"]
    assert ["a"] == kernel.save("a", "b", touched=["a"])["changed"]


def test_what_shares_memory_with_what_was_touched_is_looked_at(kernel):
    kernel.run("import numpy as np\na = np.zeros((10, 10))\nrow = a[3]")
    kernel.save("a", "row")
    kernel.run("row[0] = 1")
    assert {"a", "row"} == set(kernel.save("a", "row", touched=["row"])["changed"])


def test_a_class_of_a_setup_cell_is_taken_from_the_new_kernel(tmp_path):
    kernel = started(tmp_path, ODD)
    other = passed_on(kernel, "x = Thing([1])", "x", "Thing")
    assert "setup" == kernel.table["Thing"]["form"]
    assert type(other["x"]) is other["Thing"]
    assert other["Thing"].__init__.__globals__ is other.names


def test_a_setup_class_that_a_step_changed_is_saved(tmp_path):
    kernel = Kernel(tmp_path, SETUP)
    kernel.begin(watch=["Thing"])
    other = passed_on(kernel, "Thing.made.append(1)\nx = Thing(2)", "x", "Thing")
    assert [1] == other["Thing"].made
    assert type(other["x"]) is other["Thing"]


APP = "class App:\n    def __init__(self, log): self.log = log\n    def go(self): self.log.append('x')\n"
COUNTED = "class Item:\n    n = 0\n    def __init__(self): Item.n += 1\nclass Book(Item): pass\nfirst = Book()\n"


@pytest.mark.parametrize(
    ("setup", "step", "touched", "seen", "holds"),
    [
        (APP + "log = []; lines = log; app = App(log)", "app.go()", "app", "lines", "lines == ['x']"),
        (APP + "book = {'log': []}; app = App(book['log'])", "app.go()", "app", "book", "book == {'log': ['x']}"),
        ("rows = []; d = {'rows': rows}; wrap = [d]", "wrap[0]['rows'].append(1)", "wrap", "rows d", "rows == [1]"),
        (COUNTED, "Book()", "Book Item", "Item Book", "Item.n == Book.n == 2"),
        (COUNTED, "Book()", "Book Item", "first Item", "isinstance(first, Item) and type(first).n == 2"),
        ("class P: k = 1\nclass Q(P): pass", "P.k = 5", "P", "Q", "Q.k == 5"),
        ("class C:\n    n = 1\n    def go(self): type(self).n = 2\nc = C()", "c.go()", "c", "c C", "c.n == C.n == 2"),
        ("def f(): return f.n\nf.n = 1\ntable = {'f': f}", "f.n = 7", "f", "table f", "table['f']() == 7"),
        (
            "rows = []\ndef log(to=rows): to.append('x')",
            "log()",
            "log",
            "log",
            "log.__defaults__[0] is rows and rows",
        ),
        (
            "import numpy as np\nrows = [1]\ntable = np.array([rows, None], dtype=object)",
            "table[0].append(2)",
            "table",
            "table",
            "table[0] is rows and rows == [1, 2]",
        ),
        ("class C: n = 1\none = C()", "C.n = 2", "C", "one", "one.n == 2"),
        ("class B: n = 1\nclass C(B): ...", "B.n = 5\nclass B: n = 0", "B", "C B", "C.n == 5 and B.n == 0"),
        (
            "def make():\n    class B: rows = []\n    return B\nclass C(make()): ...\none = C()",
            "C.rows.append(1)",
            "C",
            "C",
            "isinstance(one, C) and one.rows == C.rows == [1]",
        ),
        (
            "class C: n = 1\ndef make():\n    class D(C): ...\n    return D\none = make()()",
            "C.n = 2",
            "C",
            "one",
            "one.n == 2",
        ),
        (
            (
                "import numpy as np, types\nrows, many = [1], np.array(list(map(str, range(250_000))), dtype=object)\n"
                "one = types.SimpleNamespace(rows=rows, names=many)"
            ),
            "rows.append(2)",
            "rows",
            "one",
            "one.rows == [1, 2]",
        ),
        (
            "from collections import namedtuple\nclass Point(namedtuple('Point', 'x y')): n = 1\none = Point(0, 0)",
            "Point.n = 2",
            "Point",
            "Point",
            "isinstance(one, Point) and one.n == 2",
        ),
        (
            "import typing\nT = typing.TypeVar('T')\nclass Box(typing.Generic[T]): n = 1\none = Box()",
            "Box.n = 2",
            "Box",
            "Box",
            "isinstance(one, Box) and one.n == 2",
        ),
    ],
)
def test_what_a_step_did_to_names_of_setup_is_seen_by_all_that_hold_it(tmp_path, setup, step, touched, seen, holds):
    """Also where it was reached through another name, and by classes and functions that setup makes anew."""
    kernel = Kernel(tmp_path, setup)
    kernel.begin(watch=touched.split())
    kernel.run(step)
    assert {} == kernel.save(*touched.split(), touched=touched.split())["unsaved"]
    after = kernel.next(*seen.split())
    assert eval(holds, after.names)


@pytest.mark.parametrize(
    ("setup", "step", "touched"),
    [
        ("WEIGHTS = [1, 2]\ndef f(x, weights=WEIGHTS): return x * sum(weights)", "a = f(1)", "f"),
        ("BASE = {'a': [1]}\nclass Model: base = BASE", "a = Model().base", "Model"),
        ("from pathlib import Path\nDATA = Path('data')\nclass Config: folder = DATA", "a = Config()", "Config"),
        ("import typing\nT = typing.TypeVar('T')\nclass Box(typing.Generic[T]): pass", "a = Box()", "Box"),
    ],
)
def test_what_a_step_reads_through_a_name_of_setup_has_not_changed(tmp_path, setup, step, touched):
    """Two steps side by side may both read it."""
    kernel = Kernel(tmp_path, setup)
    kernel.begin(watch=[touched])
    kernel.run(step)
    assert ["a"] == kernel.save("a", touched, touched=["a", touched])["changed"]


@pytest.mark.parametrize(
    ("setup", "step", "holds"),
    [
        ("class Model: fitted = False", "del Model.fitted", "not hasattr(Model, 'fitted')"),
        ("class Model: fitted = None", "del Model.fitted", "not hasattr(Model, 'fitted')"),
        ("class Base: n = 1\nclass Model(Base): n = 1", "del Model.n", "'n' not in vars(Model)"),
        (
            "class Model:\n    def fit(self): ...",
            "del Model.fit; Model.n = 1",
            "Model.n == 1 and not hasattr(Model, 'fit')",
        ),
        ("class A: ...\nclass B: ...\nclass Model(A): ...", "Model.__bases__ = (B,)", "Model.__bases__ == (B,)"),
        (
            "def Model(a=1): 'doc'\nModel.n = 1",
            "del Model.n; Model.__doc__ = None",
            "vars(Model) == {} and not Model.__doc__",
        ),
    ],
)
def test_what_a_step_deleted_of_a_class_or_function_of_setup_is_gone(tmp_path, setup, step, holds):
    """It is made by setup in the next kernel, too, with what the step has taken away."""
    kernel = Kernel(tmp_path, setup)
    kernel.begin(watch=["Model"])
    kernel.run(step)
    assert {} == kernel.save("Model", touched=["Model"])["unsaved"]
    assert eval(holds, kernel.next("Model", "B").names)


def test_another_name_for_a_class_of_setup_is_that_class_when_it_has_changed(tmp_path):
    """And has not changed when that has not."""
    first = Kernel(tmp_path, "class Thing: made = []")
    first.begin(watch=["Thing"])
    first.run("g = Thing; e = Thing()")
    first.save("g", "e", "Thing", touched=["g", "e", "Thing"])
    second = first.next("g", "e", "Thing", watch=["e", "Thing"])
    other = first.next("g", "e", "Thing", watch=["e", "Thing"])
    assert [] == other.save("g", "e", "Thing", touched=["e", "Thing"])["changed"]
    second.run("e.made.append(1)")
    second.save("g", "e", "Thing", touched=["e", "Thing"])
    last = second.next("Thing", "g")
    assert [1] == last["g"].made
    assert last["g"] is last["Thing"]


def test_what_only_code_needs_that_has_not_run_has_not_changed(tmp_path):
    """A class that is used leads to what holds it, and that to what its functions would use."""
    setup = "class P: labels = ['a']\nfound = {'a': {1}}\ndef make(): return P(), found\n"
    kernel = Kernel(tmp_path, setup + "class M:\n    def __init__(self): self.make, self.first = make, P()\nm = M()")
    kernel.begin(watch=["P", "left"])
    kernel.run("left = [P()]")
    assert ["left"] == kernel.save("left", "P", touched=["P", "left"])["changed"]


def test_what_a_function_of_setup_uses_comes_along(tmp_path):
    kernel = started(tmp_path, "def f(): return g() + k\ndef g(): return 1")
    other = passed_on(kernel, "k = [2][0]", "f")
    assert 3 == other["f"]()


def test_plain_values_of_setup_stay_those_of_the_first_kernel(tmp_path):
    """A time or a random number that setup takes would be another one in each kernel."""
    setup = "import uuid\nrun = str(uuid.uuid4())"
    kernel = started(tmp_path, setup)
    found = kernel.save("run", touched=[])
    assert [] == found["changed"]
    assert kernel["run"] == kernel.next("run")["run"]


ARRAYS = [
    "np.arange(6).reshape(2, 3)",
    "np.asfortranarray(np.arange(6.0).reshape(2, 3))",
    "np.array(5.0)",
    "np.zeros(0)",
    "np.zeros((0, 3), 'U4')",
    "np.array(['a', 'bc'])",
    "np.array([(1, 2.5)], dtype=[('a', 'i4'), ('b', 'f8', (2,))])",
    "np.array(['2020-01-01', 'NaT'], 'M8[ns]')",
    "np.array([1, 2], '>i4')",
    "np.arange(10)[::3]",
    "np.arange(10)[::-1]",
    "np.broadcast_to(np.arange(3), (4, 3))",
    "np.array([1, 'a', None], object)",
    "np.ma.masked_array([1, 2], [0, 1])",
    "np.zeros(3, 'V5')",
    "np.array([True, False])",
    "np.array([1 + 2j])",
    "np.float32(1.5)",
    "frozen(np.arange(3))",
    "np.arange(200_000.0).reshape(400, 500).T",
    "np.random.default_rng(3)",
    "np.arange(4).reshape(2, 2).view(np.matrix)",
    "np.rec.array([(1, 2.5), (3, 4.5)], names='a,b')",
    "np.char.array(['a', 'bc'])",
    "np.zeros(20_000, [('a', 'f8')]).view(np.recarray)",
    "frozen(np.asfortranarray(np.ones((2, 3)))).view(np.matrix)",
    "np.array([None, 1]).view(np.recarray)",
    "frozen(np.arange(20_000.0).reshape(100, 200))",
    "frozen(np.asfortranarray(np.arange(20_000.0).reshape(100, 200)))",
    "frozen(np.arange(40_000.0)[::2])",
    "pd.DataFrame({'a': np.arange(20_000.0)}).to_numpy()",
]


@pytest.mark.parametrize("text", ARRAYS)
@pytest.mark.parametrize("held", [False, True], ids=["alone", "held"])
def test_arrays_come_back_as_they_were(tmp_path, text, held):
    """Type, shape, order of memory, and whether they can be written to."""
    setup = "import numpy as np, pandas as pd\ndef frozen(a):\n    a.flags.writeable = False\n    return a"
    kernel = started(tmp_path, setup)
    other = passed_on(kernel, f"value = {text}" + ("\nvalue = {'a': value}" if held else ""), "value")
    before, after = (one["value"]["a"] if held else one["value"] for one in (kernel, other))
    assert type(before) is type(after)
    if isinstance(before, np.ndarray):
        np.testing.assert_array_equal(before, after)
        assert (before.dtype, before.shape, before.flags.writeable) == (after.dtype, after.shape, after.flags.writeable)
        assert before.flags.f_contiguous == after.flags.f_contiguous or not before.flags.contiguous
    else:
        assert repr(before) == repr(after) or "Generator" in repr(after)


def test_a_large_array_that_cannot_be_written_to_has_a_file_of_its_own(kernel):
    """As what pandas gives has one that can be: it is not copied into a pickle and out of it."""
    kernel.run("import numpy as np\nx = np.arange(20_000.0)")
    kernel.save("x")
    kernel.run("x.flags.writeable = False")
    assert ["x"] == kernel.save("x")["changed"]
    assert not kernel.next("x")["x"].flags.writeable
    (array,), (pickled,) = kernel.folder.glob("names/*.npy"), kernel.folder.glob("names/*.pickle")
    assert (160_128, True) == (array.stat().st_size, pickled.stat().st_size < 1000)


def test_a_random_generator_goes_on_where_it_was(kernel):
    other = passed_on(kernel, "import numpy as np\nrng = np.random.default_rng(1)\nrng.random(3)", "rng")
    assert kernel["rng"].random() == other["rng"].random()


@pytest.mark.parametrize(
    ("source", "generator"),
    [
        ("from random import choice as draw, random as other", random._inst),
        ("from numpy.random import normal as draw, rand as other", np.random.mtrand._rand),
        ("import numpy as np\ndraw = np.random.mtrand._rand.normal\nother = {'a': draw}", np.random.mtrand._rand),
    ],
)
def test_a_method_of_a_modules_own_generator_is_bound_to_that_of_the_next_kernel(kernel, source, generator):
    """A seed of that kernel holds for it; and that something was drawn is no change of it."""
    other = passed_on(kernel, source, "draw", "other")
    assert generator is other["draw"].__self__
    assert [] == kernel.table["draw"]["shares"]
    generator.__setstate__(type(generator)(5).__getstate__())
    assert [] == kernel.save("draw", "other")["changed"]


def test_a_generator_of_the_notebook_goes_on_where_it_was(kernel):
    other = passed_on(kernel, "import random\nr = random.Random(4)\nr.random()\ndraw = r.random", "r", "draw")
    assert kernel["r"].random() == other["draw"]()
    assert kernel["r"].random() == other["r"].random()


@pytest.mark.parametrize(
    "text",
    [
        "np.broadcast_to(np.arange(3.0), (100_000, 3))",
        "np.broadcast_to(5, (1000, 1000))",
        "np.lib.stride_tricks.sliding_window_view(np.arange(1000), 500)",
        "np.arange(20_000)[::-1]",
        "np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2)",
    ],
)
@pytest.mark.parametrize("held", [False, True], ids=["alone", "held"])
def test_an_array_that_shows_the_memory_of_another_one_takes_no_more_than_that(kernel, text, held):
    """Broadcast it is many times as large; and reversed it stays as it is in memory."""
    source = f"import numpy as np\nvalue = {f'[{text}]' if held else text}"
    other = passed_on(kernel, source, "value")
    before, after = (one["value"][0] if held else one["value"] for one in (kernel, other))
    assert (before.strides, before.flags.writeable) == (after.strides, after.flags.writeable)
    np.testing.assert_array_equal(before, after)
    assert 200_000 > sum(one.stat().st_size for one in kernel.folder.glob("names/*"))


VIEWS = {
    "a recarray": ("base = np.zeros(3, [('a', 'i4')])\nview = base.view(np.recarray)", "view.a[0] = 6"),
    "a matrix": ("base = np.arange(4).reshape(2, 2)\nview = base.view(np.matrix)", "view[0, 0] = 9"),
    "a class of the notebook": ("base = np.arange(4)\nview = base.view(Q)", "view[0] = 9"),
    "a part of it": ("base = np.arange(4).view(Q)\nview = base[1:]", "view[0] = 9"),
    "a strided one": (
        "base = np.arange(9)\nview = np.lib.stride_tricks.as_strided(base, (3,), (24,))",
        "view[1] = 9",
    ),
    "one that owns its memory": ("base = Q(4)\nbase[:] = 1\nview = np.asarray(base)[::2]", "view[0] = 9"),
    "one of objects": ("base = np.array([1, 'x', [2]], object)\nview = base[1:]", "view[0] = 9"),
    "one of objects backwards": (
        "base = np.asfortranarray(np.arange(6).reshape(2, 3).astype(object))\nview = base[::-1, 1:]",
        "view[0, 1] = [9]",
    ),
    "one of a bytearray": ("base = bytearray(16)\nview = np.frombuffer(base, 'i4')[1:]", "view[0] = 9"),
    "one of a memoryview": ("base = bytearray(16)\nview = np.asarray(memoryview(base))", "view[0] = 9"),
    "one of numbers": ("import array\nbase = array.array('d', [1, 2])\nview = np.frombuffer(base)", "view[0] = 9"),
    "a row": ("base = np.zeros(3, [('a', 'i4'), ('b', 'f8')])\nview = base[1]", "view['a'] = 9"),
    "a row of a recarray": ("base = np.rec.array([(1, 2.5), (3, 4.5)], names='a,b')\nview = base[1]", "view.a = 9"),
    "a large one": ("base = np.zeros(100_000).view(Q)\nview = base[::-1]", "view[0] = 9"),
}


@pytest.mark.parametrize(("source", "write"), VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("held", [False, True], ids=["named", "held"])
def test_what_is_written_to_an_array_is_in_the_one_whose_memory_it_looks_at(kernel, source, write, held):
    kernel.run("import numpy as np\nclass Q(np.ndarray): pass\n" + source + ("\nvalue = [base, view]" if held else ""))
    names = ["value"] if held else ["base", "view"]
    assert {} == kernel.save(*names)["unsaved"]
    other = kernel.next(*names)
    if held:
        other.run("base, view = value")
    for one in (kernel, other):
        one.run(write)
    for name in ("base", "view"):
        assert type(kernel[name]).__name__ == type(other[name]).__name__
        np.testing.assert_array_equal(np.asarray(kernel[name]), np.asarray(other[name]))


def test_an_array_of_a_subclass_keeps_its_attributes(kernel):
    """numpy itself forgets them."""
    source = """
import numpy as np
class Q(np.ndarray):
    def __array_finalize__(self, other):
        self.unit = getattr(other, "unit", None)
q = np.arange(3.0).view(Q)
q.unit = ["m"]
unit = q.unit
"""
    other = passed_on(kernel, source, "q", "unit", "Q")
    assert type(other["q"]) is other["Q"]
    assert other["q"].unit is other["unit"]
    assert other["q"][1:].unit is other["unit"]


def test_a_changed_attribute_of_an_array_is_a_change(kernel):
    kernel.run("import numpy as np\nr = np.zeros(3, [('a', 'i4')]).view(np.recarray)\nr.unit = 'm'")
    kernel.save("r")
    assert [] == kernel.save("r")["changed"]
    kernel.run("r.unit = 'cm'")
    assert ["r"] == kernel.save("r")["changed"]
    assert "cm" == kernel.next("r")["r"].unit


def test_a_recarray_is_one_in_a_kernel_that_has_not_asked_for_its_module(tmp_path):
    """numpy imports it when it is asked for; a class of no module would come along as one of the notebook."""
    table = in_a_process(tmp_path, "import numpy as np\nr = np.zeros(3, [('a', 'i4')])", "r")
    source = "r = r.view(np.recarray)\nheld = [r]"
    table = in_a_process(tmp_path, "import numpy as np\n" + source, "r", "held", table=table)
    source = "import numpy as np\nassert type(r) is type(held[0]) is np.recarray\nassert [0, 0, 0] == r.a.tolist()"
    in_a_process(tmp_path, source, table=table)


MAP = """
import mmap, numpy as np
np.arange(1.0, 7.0).tofile(path)
def opened(mode, **how):
    return np.memmap(path, "f8", mode, **how)
def raw(access):
    with open(path, "r+b") as file:
        return mmap.mmap(file.fileno(), 0, access=access)
"""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("opened('r+')", "is a numpy.memmap"),
        ("{'rows': opened('w+', shape=(2, 3))}", "holds a numpy.memmap (in ['rows'])"),
        ("opened('r+')[2:]", "holds a numpy.memmap"),
        ("np.asarray(opened('r+'))", "holds a numpy.memmap"),
        ("[np.asarray(opened('r+'))[1:]]", "holds a numpy.memmap"),
        ("np.lib.stride_tricks.as_strided(opened('r+'), (2,), (8,))", "holds a numpy.memmap"),
        ("np.ma.masked_less(opened('r+'), 3, copy=False)", "holds a numpy.memmap"),
        ("np.frombuffer(raw(mmap.ACCESS_WRITE))", "holds a mmap.mmap"),
    ],
)
def test_an_array_that_is_written_to_a_file_cannot_be_saved(kernel, text, reason):
    """What the next kernel writes to another array would not reach the file."""
    kernel.names["path"] = str(kernel.folder / "of_a_step.bin")
    kernel.run(f"{MAP}value = {text}")
    assert {"value": reason} == kernel.save("value")["unsaved"]


@pytest.mark.parametrize(
    "text",
    [
        "opened('c')",
        "opened('c')[1:]",
        "np.asarray(opened('r'))",
        "opened('r')[::2]",
        "opened('r') + 1",
        "opened('r+').copy()",
        "np.frombuffer(raw(mmap.ACCESS_READ))",
    ],
)
@pytest.mark.parametrize("held", [False, True], ids=["alone", "held"])
def test_an_array_of_a_file_that_is_not_written_to_becomes_one_of_its_values(kernel, text, held):
    kernel.names["path"] = str(kernel.folder / "of_a_step.bin")
    other = passed_on(kernel, f"{MAP}value = {f'[{text}]' if held else text}", "value")
    np.testing.assert_array_equal(np.asarray(kernel["value"]), np.asarray(other["value"]))


@pytest.mark.parametrize("how", ["", "offset=8, shape=(2, 2)", "offset=16, shape=(2, 2), order='F'"])
@pytest.mark.parametrize("held", [False, True], ids=["alone", "held"])
def test_a_file_that_an_array_reads_is_opened_again(kernel, how, held):
    """What is written to it later is seen, as in one kernel."""
    kernel.names["path"] = str(kernel.folder / "of_a_step.bin")
    text = f"opened('r', {how})"
    other = passed_on(kernel, f"{MAP}value = {f'[{text}]' if held else text}", "value")
    before, after = (one["value"][0] if held else one["value"] for one in (kernel, other))
    assert (np.memmap, before.shape, before.flags.f_contiguous, "r") == (
        *(type(after), after.shape, after.flags.f_contiguous),
        after.mode,
    )
    np.arange(10.0, 16.0).tofile(kernel["path"])
    np.testing.assert_array_equal(before, after)
    assert after.min() >= 10


FRAMES = [
    "pd.DataFrame({'a': [1, 2], 'b': ['x', None], 'c': [1.5, float('nan')]})",
    "pd.DataFrame({'a': pd.Categorical(['x', 'y', 'x'], ordered=True)})",
    "pd.DataFrame({'t': pd.date_range('2020', periods=3, tz='Europe/Berlin')}).set_index('t')",
    "pd.DataFrame({'t': [1]}, index=pd.MultiIndex.from_tuples([('a', 1)], names=['x', 'y']))",
    "pd.DataFrame([[1, 2]], columns=[0, 1])",
    "pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([('a', 1), ('a', 2)]))",
    "pd.DataFrame([[1, 2]], columns=['a', 'a'])",
    "pd.DataFrame({'a': [[1], {2}]})",
    "pd.DataFrame({'a': [1, None, 2]}, dtype='Int64')",
    "pd.DataFrame({'a': [1, 'x', 2.5]})",
    "pd.DataFrame()",
    "pd.DataFrame({'a': pd.period_range('2020', periods=2, freq='M')})",
    "pd.DataFrame({'a': pd.arrays.SparseArray([0, 0, 1])})",
    "pd.Series([1, 2], name='s')",
    "pd.Series(['a', None])",
    "pd.Series([1.0], index=[('a', 1)])",
    "pd.DataFrame({'a': range(100_000)})",
    "pd.DataFrame({'a': [str(i) for i in range(20_000)]})[::3]",
    "pd.DataFrame({'a': np.arange(10)}, index=pd.date_range('2020', periods=10, freq='D'))",
    "pd.Timestamp('2020', tz='UTC')",
    "pd.Index(['a', 'b'], name='n')",
]


@pytest.mark.parametrize("text", FRAMES)
@pytest.mark.parametrize("held", [False, True], ids=["alone", "held"])
def test_frames_come_back_as_they_were(kernel, text, held):
    """Types of columns, of what is in them, and the index."""
    source = f"import pandas as pd, numpy as np\nvalue = {text}" + ("\nvalue = {'a': value}" if held else "")
    other = passed_on(kernel, source, "value")
    before, after = (one["value"]["a"] if held else one["value"] for one in (kernel, other))
    assert type(before) is type(after)
    match before:
        case pd.DataFrame():
            pd.testing.assert_frame_equal(before, after, check_exact=True, check_freq=True)
            cells = [[type(cell) for cell in one.to_numpy().ravel()] for one in (before, after)]
            assert cells[0] == cells[1]
        case pd.Series():
            pd.testing.assert_series_equal(before, after, check_exact=True)
        case pd.Index():
            pd.testing.assert_index_equal(before, after, exact=True)
        case _:
            assert before == after


def test_lists_in_a_frame_stay_the_objects_that_have_names(kernel):
    other = passed_on(kernel, "import pandas as pd\nl = [1]\nf = pd.DataFrame({'a': [l, 2]})", "f", "l")
    assert other["f"]["a"][0] is other["l"]


def test_a_file_that_is_gone_is_missing(kernel):
    kernel.run("import numpy as np\na = {'x': np.zeros(100_000)}")
    kernel.save("a")
    path = kernel.table["a"]["parts"][0]["path"]
    (kernel.folder / path).unlink()
    other = Kernel(kernel.folder)
    assert [path] == other.begin(kernel.table)["missing"]
    assert "a" not in other.names


@pytest.mark.parametrize("at", [0, 100, -1])
def test_an_array_with_one_changed_byte_is_missing(kernel, at):
    kernel.run("import numpy as np\na = np.zeros(1_000_000)\nb = np.ones(1_000_000)")
    kernel.save("a", "b")
    path = kernel.folder / kernel.table["a"]["path"]
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    other = Kernel(kernel.folder)
    assert [kernel.table["a"]["path"]] == other.begin(kernel.table)["missing"]
    assert not {"a", "b"} & set(other.names)


def test_a_value_that_does_not_come_back_is_a_problem_and_the_others_come(kernel):
    kernel.run("class Odd:\n    def __setstate__(self, state): raise KeyError('x')\no = Odd(); o.a = 1\nb = 2")
    kernel.save("o", "b", "Odd")
    other = Kernel(kernel.folder)
    found = other.begin(kernel.table)
    assert {"o": "cannot be given back (KeyError: 'x')"} == found["problems"]
    assert 2 == other["b"]
    assert "o" not in other.names


EXCEPTIONS = {
    "other arguments": (
        (
            "class E(Exception):\n    def __init__(self, code, msg):\n        super().__init__(msg)\n"
            "        self.code = [code]"
        ),
        "E(404, 'x')",
        "(e.code, e.args, str(e)) == ([404], ('x',), 'x')",
    ),
    "an error of the system": (
        "class E(OSError):\n    def __init__(self, path):\n        super().__init__(2, 'not there', path)",
        "E('a')",
        "(e.errno, e.filename, str(e)) == (2, 'a', \"[Errno 2] not there: 'a'\")",
    ),
    "only named arguments": (
        "class E(ValueError):\n    def __init__(self, *, code):\n        self.code = code",
        "E(code=3)",
        "(e.code, e.args) == (3, ())",
    ),
    "a new of its own": (
        (
            "class E(KeyError):\n    def __new__(cls, a, b):\n        return super().__new__(cls, a)\n"
            "    def __init__(self, a, b):\n        super().__init__(a)"
        ),
        "E(1, 2)",
        "e.args == (1,)",
    ),
    "two bases": (
        "class E(KeyError, AttributeError):\n    def __init__(self, a, b):\n        super().__init__(a)",
        "E(1, 2)",
        "e.args == (1,) and isinstance(e, AttributeError)",
    ),
    "slots": (
        (
            "class E(Exception):\n    __slots__ = ('code',)\n    def __init__(self, code):\n"
            "        super().__init__(code)\n        self.code = code"
        ),
        "E(5)",
        "e.code == 5",
    ),
    "a state of its own": (
        (
            "class E(Exception):\n    def __init__(self, a, b):\n        super().__init__(a)\n        self.b = b\n"
            "    def __setstate__(self, state):\n        self.b = state['b'] + 1"
        ),
        "E(1, 2)",
        "(e.args, e.b) == ((1,), 3)",
    ),
    "a way of its own": (
        (
            "class E(Exception):\n    def __init__(self, a, b):\n        super().__init__(a)\n        self.b = b\n"
            "    def __reduce__(self):\n        return E, (*self.args, self.b)"
        ),
        "E(1, 2)",
        "(e.args, e.b) == ((1,), 2)",
    ),
}


@pytest.mark.parametrize(("source", "text", "holds"), EXCEPTIONS.values(), ids=EXCEPTIONS)
def test_exceptions_come_back_however_they_are_made(kernel, source, text, holds):
    """Their own ``__init__`` may take other arguments than those that they keep."""
    other = passed_on(
        kernel, f"{source}\ntry:\n    raise {text}\nexcept E as problem:\n    found = [problem]", "found", "E"
    )
    assert type(other["found"][0]) is other["E"]
    assert eval(holds, {"e": other["found"][0]})


ASKED = {
    "keys as attributes": (
        (
            "class C:\n    def __init__(self, d): self.d = d\n    def __getattr__(self, k): return self.d[k]\n"
            "v = C({'lr': 1})"
        ),
        "v.lr == 1 and v.__dict__ == {'d': {'lr': 1}}",
    ),
    "slots": (
        (
            "class C:\n    __slots__ = ('d', '__dict__')\n    def __getattr__(self, k): return self.d[k]\n"
            "v = C()\nv.d = {'lr': 1}\nv.e = [2]"
        ),
        "v.lr == 1 and v.e == [2] and v.__dict__ == {'e': [2]}",
    ),
    "a dict": (
        "class C(dict):\n    __getattr__ = dict.__getitem__\nv = C(lr=1)\nv.e = [2]\nv['self'] = v",
        "v.lr == 1 and v.e == [2] and v.self is v and len(v) == 2",
    ),
    "one that cannot be changed": (
        (
            "import dataclasses\n@dataclasses.dataclass(frozen=True)\nclass C:\n    d: dict\n"
            "    def __getattr__(self, k): return self.d[k]\nv = C({'lr': 1})"
        ),
        "v.lr == 1",
    ),
    "a state of its own": (
        (
            "class C:\n    d = {'lr': 1}\n    def __getattr__(self, k): return self.d[k]\n"
            "    def __getstate__(self): return {'e': 1}\n    def __setstate__(self, s): self.e = s['e'] + 1\nv = C()"
        ),
        "v.e == 2",
    ),
    "one that stands for another": (
        (
            "class C:\n    def __init__(self, o): self.o = o\n    def __getattr__(self, k): return getattr(self.o, k)\n"
            "v = C([3, 3])"
        ),
        "v.count(3) == 2",
    ),
}


@pytest.mark.parametrize("lock", ["threading.Lock()", "mine"])
def test_an_exception_whose_cause_cannot_be_saved_comes_without_it(kernel, lock):
    """It counts itself, as text for a report; also where what cannot be saved has a name."""
    source = f"""
import threading
mine = threading.Lock()
class RpcError(Exception):
    def __init__(self): self.lock = {lock}
try:
    try:
        raise RpcError
    except RpcError as problem:
        raise ValueError('no row') from problem
except ValueError as problem:
    wrong = problem
"""
    kernel.run(source)
    assert {"mine"} == set(kernel.save("wrong", "mine")["unsaved"])
    other = kernel.next("wrong")
    assert ("no row",) == other["wrong"].args
    assert other["wrong"].__cause__ is None


@pytest.mark.parametrize(
    ("setup", "step"),
    [
        ("config = {'a': [1], 'b': [2]}", "mine = config['a']"),
        ("config = {1: [1], 2: [2]}", "mine = config[1]"),
        ("class Row:\n    def __init__(self, n): self.n = n\nconfig = list(map(Row, range(4)))", "mine = config[:2]"),
        ("config = [{'n': n} for n in range(4)]", "mine = [row for row in config if row['n'] < 2]"),
    ],
)
def test_what_a_step_takes_out_of_what_setup_made_has_not_changed_that(tmp_path, setup, step):
    """Two steps side by side may each take something."""
    kernel = Kernel(tmp_path, setup)
    kernel.begin(watch=["config"])
    kernel.run(step)
    assert ["mine"] == kernel.save("mine", "config", touched=["mine", "config"])["changed"]


@pytest.mark.parametrize("change", ["wrong.__cause__ = KeyError('b')", "wrong.__suppress_context__ = True"])
def test_an_exception_that_is_given_another_cause_has_changed(kernel, change):
    """Else two steps side by side that do so would not be told apart."""
    kernel.run("wrong = ValueError('a')")
    kernel.save("wrong")
    other = kernel.next("wrong", watch=["wrong"])
    other.run(change)
    assert ["wrong"] == other.save("wrong", touched=["wrong"])["changed"]


def test_a_value_of_a_class_of_a_module_is_its_own_also_where_the_module_has_one(kernel, monkeypatch):
    """A tuple is what is in it, whatever its module calls so in the next kernel."""
    module = types.ModuleType("nbflow_conf")
    exec("from typing import NamedTuple\nclass Config(NamedTuple):\n    rate: int\nconfig = Config(1)", module.__dict__)
    monkeypatch.setitem(sys.modules, "nbflow_conf", module)
    module.__spec__ = types.SimpleNamespace(has_location=False, origin=None)
    kernel.run(
        "import nbflow_conf\nnbflow_conf.config = nbflow_conf.config._replace(rate=5)\nmine = nbflow_conf.config"
    )
    assert {} == kernel.save("mine")["unsaved"]
    module.config = module.Config(1)
    assert 5 == kernel.next("mine")["mine"].rate


@pytest.mark.parametrize(("source", "holds"), ASKED.values(), ids=ASKED)
@pytest.mark.parametrize("held", [False, True], ids=["alone", "held"])
def test_objects_that_give_attributes_by_a_function_come_back(kernel, source, holds, held):
    """It is not called before they are what they were."""
    other = passed_on(kernel, source + ("\nv = [v]" if held else ""), "v", "C")
    value = other["v"][0] if held else other["v"]
    assert type(value) is other["C"]
    assert eval(holds, {"v": value})


PROCESS = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
assert "snapshot" == repr(eval({carry!r}))
assert "cloudpickle" not in sys.modules and "numpy" not in sys.modules
carried = sys.modules["_nbflow_snapshot"]
def ask(do, **arguments):
    text = json.dumps({{"do": do, "folder": {folder!r}, "cloudpickle": {cloudpickle!r}, **arguments}})
    (found,) = carried.answer(text)._repr_mimebundle_().values()
    return json.loads(found)
table = json.loads({table!r})
kept = {{kind: table.pop("$" + kind, None) for kind in ("settings", "looks", "random")}}
found = ask("restore", names=table, **kept)
assert not found["problems"] and not found["missing"], found
outcome = shell.run_cell({source!r})
outcome.raise_error()
found = ask("save", names={names!r}, most=1e9, seconds=60)
assert not found["unsaved"], found
table.update(found["names"])
table.update({{"$" + kind: found[kind] or kept[kind] for kind in kept}})
print("table", json.dumps(table))
"""


def in_a_process(folder, source, *names, table=None, sees=True):
    """Run a cell in a process of its own, as a kernel has it; gives the table of references."""
    parts = {"folder": str(folder), "cloudpickle": CLOUDPICKLE}
    carry = asked_of(snapshot, json.dumps({"do": "open", **parts}), carried=False)
    parts["carry"] = carry if sees else carry.replace(snapshot.__file__, "/of another machine/__init__.py")
    script = PROCESS.format(**parts, source=source, names=list(names), table=json.dumps(table or {}))
    environ = {**os.environ, "IPYTHONDIR": str(folder / "ipython")}
    run = [sys.executable, "-"]
    done = subprocess.run(run, input=script, capture_output=True, text=True, cwd=folder, env=environ)
    assert 0 == done.returncode, done.stdout + done.stderr
    return json.loads(done.stdout.rpartition("table ")[2])


def test_a_kernel_that_does_not_see_our_files_gets_what_is_in_them(tmp_path):
    """It may stand in another root directory; saved values it sees."""
    table = in_a_process(tmp_path, "import math\na = {'pi': [math.pi]}\nf = lambda: a", "a", "f", sees=False)
    in_a_process(tmp_path, "assert f() is a and 3 < a['pi'][0] < 4", "a", table=table, sees=False)


def test_a_notebook_goes_on_in_another_process(tmp_path):
    """Functions, classes, shared cells, arrays and views, frames, and two names for one thing."""
    first = """
import collections, dataclasses, enum, functools
import numpy as np
import pandas as pd

Point = collections.namedtuple("Point", "x y")

class Color(enum.Enum):
    RED = 1

@dataclasses.dataclass
class Model:
    rate: float
    weights: np.ndarray = None
    color: Color = Color.RED

    def fit(self, data):
        self.weights = scaled(data)
        return self

@functools.lru_cache
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)

def scaled(data):
    return data * K

def counter():
    n = 0
    def up():
        nonlocal n
        n += 1
        return n
    def get():
        return n
    return up, get

K = 3
up, get = counter()
up()
data = np.arange(20_000.0).reshape(100, 200)
row = data[7]
model = Model(0.5).fit(data)
models = {"first": model, "points": [Point(1, [2])]}
frame = pd.DataFrame({"a": pd.Categorical(["x", "y"]), "t": pd.date_range("2020", periods=2, tz="UTC")})
alias = models["points"]
"""
    second = """
assert fib(20) == 6765
assert (up(), get()) == (2, 2)
data[7, 0] = -1
assert row[0] == -1 and row.base is data.base
assert models["first"] is model and type(model) is Model and model.color is Color.RED
assert model.fit(data).weights[0, 1] == 3
assert alias is models["points"] and type(alias[0]) is Point
assert frame.dtypes["t"] == "datetime64[us, UTC]" and frame["a"].dtype == "category"
import __main__
assert scaled.__globals__ is __main__.__dict__ or scaled.__globals__ is get_ipython().user_ns
assert Model(1) == Model(1)
K = 4
assert scaled(1) == 4
"""
    names = [
        "Point",
        "Color",
        "Model",
        "fib",
        "scaled",
        "up",
        "get",
        "data",
        "row",
        "model",
        "models",
        "frame",
        "alias",
    ]
    table = in_a_process(tmp_path, first, *names)
    table = in_a_process(tmp_path, second, *names, table=table)
    in_a_process(tmp_path, "assert (get(), scaled(1), row[0], data[7, 0]) == (2, 4, -1, -1)", table=table)


def test_settings_go_back_to_those_that_setup_left(tmp_path):
    """Not to those that a library begins with."""
    with np.errstate(divide="raise"):
        kernel = started(tmp_path, "import numpy as np")
        kernel.run("np.seterr(divide='ignore')")
        assert {} == kernel.shelf.restore({}, setup=kernel.setup, watch=[], settings={"form": "start"})["problems"]
        assert "raise" == np.geterr()["divide"]


def test_settings_and_random_states_go_on_in_another_process(tmp_path):
    """What is no name: directory, environment, path, options, filters, and what is drawn next."""
    first = """
import os, random, sys, warnings, decimal
import numpy as np, pandas as pd, matplotlib
random.seed(1); np.random.seed(1); random.random(); np.random.random()
os.makedirs("inner"); os.chdir("inner")
os.environ["NBFLOW_TEST"] = "1"
sys.path.insert(0, "/nowhere")
np.set_printoptions(precision=3)
np.seterr(divide="raise")
pd.set_option("display.max_rows", 7)
pd.set_option("display.float_format", lambda x: f"{x:.3f}")
matplotlib.rcParams["lines.linewidth"] = 9
warnings.filterwarnings("ignore", message="of a kind")
decimal.getcontext().prec = 5
"""
    second = """
import os, random, sys, warnings, decimal
import numpy as np, pandas as pd, matplotlib
state = (
    os.path.basename(os.getcwd()), os.environ["NBFLOW_TEST"], sys.path[0], np.get_printoptions()["precision"],
    np.geterr()["divide"], pd.get_option("display.max_rows"), pd.get_option("display.float_format")(1),
    matplotlib.rcParams["lines.linewidth"], decimal.getcontext().prec,
)
assert state == ("inner", "1", "/nowhere", 3, "raise", 7, "1.000", 9, 5), state
assert any(one[0] == "ignore" and one[1] and one[1].match("of a kind") for one in warnings.filters)
drawn = [random.random(), np.random.random()]
"""
    table = in_a_process(tmp_path, first)
    assert {"$settings", "$looks", "$random"} == set(table)
    table = in_a_process(tmp_path, second, "drawn", table=table)
    random.seed(1)
    random.random()
    generator = np.random.RandomState(1)
    generator.random_sample()
    assert [random.random(), generator.random_sample()] == json.loads(table["drawn"]["text"])


@pytest.mark.parametrize(
    ("source", "kinds", "holds"),
    [
        ("pandas.set_option('display.max_rows', 7)", {"$looks"}, "pandas.get_option('display.max_rows') == 7"),
        (
            "pandas.set_option('mode.string_storage', 'python')",
            {"$settings"},
            "pandas.Series(['a'], dtype='string').dtype.storage == 'python'",
        ),
        ("warnings.simplefilter('error')", {"$settings", "$looks"}, "warnings.filters[0][0] == 'error'"),
        (
            "decimal.getcontext().traps[decimal.DivisionByZero] = False",
            {"$settings"},
            "decimal.Decimal(1) / 0 == decimal.Decimal('Infinity')",
        ),
    ],
)
def test_a_setting_that_results_depend_on_is_more_than_a_look(tmp_path, source, kinds, holds):
    """Another one repeats the steps below; what only shows things does not."""
    begin = "import decimal, pandas, warnings\n"
    before = in_a_process(tmp_path, begin)
    table = in_a_process(tmp_path, begin + source)
    assert kinds == {kind for kind in ("$settings", "$looks") if table[kind] != before[kind]}
    in_a_process(tmp_path, f"{begin}assert {holds}", table=table)


def test_times_are_those_of_the_time_zone_that_a_step_has_set(tmp_path):
    """The variable alone does not make it so in a process that runs already."""
    source = "import os, time\nos.environ['TZ'] = 'XYZ-5'\ntime.tzset()"
    table = in_a_process(tmp_path, source)
    in_a_process(tmp_path, "import time\nassert ('XYZ', -18000) == (time.tzname[0], time.timezone)", table=table)


def test_names_of_ipython_do_not_come_along(tmp_path):
    """Functions use them, and each kernel has its own."""
    source = "def f():\n    return open, display, get_ipython(), __name__, In\nf()"
    table = in_a_process(tmp_path, source, "f")
    assert {"f", "$settings", "$looks", "$random"} == set(table)
    in_a_process(tmp_path, "assert f()[2] is get_ipython()", table=table)


def test_a_frame_over_the_limit_leaves_no_file(kernel):
    """How large its Parquet file is, is only known once it is written."""
    kernel.run(
        "import numpy as np, pandas as pd\nframe = pd.DataFrame({'a': np.random.default_rng(0).random(100_000)})"
    )
    assert {"frame"} == set(kernel.save("frame", most=1000)["unsaved"])
    assert [] == [one for one in kernel.folder.glob("names/*") if one.suffix != ".state"]


def test_modules_of_a_package_come_along_with_it(tmp_path):
    """``import a.b`` assigns ``a``. That more of them are loaded later is no change of it."""
    table = in_a_process(tmp_path, "import wsgiref.util, numpy\nimport numpy as np", "wsgiref", "np")
    assert ("numpy", "module:wsgiref") == (table["np"]["module"], table["wsgiref"]["stem"])
    in_a_process(tmp_path, "assert wsgiref.util.shift_path_info", table=table)


def test_a_module_of_a_path_that_a_step_added_is_found(tmp_path):
    """The path is as it was before anything is imported for a name."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "tools_of_a_test.py").write_text("def double(x):\n    return 2 * x\n")
    source = (
        "import sys\nsys.path.insert(0, 'lib')\nfrom tools_of_a_test import double\nimport tools_of_a_test as tools"
    )
    table = in_a_process(tmp_path, source, "double", "tools")
    in_a_process(tmp_path, "assert (double(2), tools.double(3)) == (4, 6)", table=table)


def test_where_nothing_is_set_and_nothing_drawn_nothing_is_written(tmp_path):
    table = in_a_process(tmp_path, "x = 1", "x")
    assert [None] * 3 == [table[kind] for kind in ("$settings", "$looks", "$random")]


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    )
)
def test_plain_values_come_back_exactly(value):
    """Types, values, signs of zeros, and what is not a number."""
    with tempfile.TemporaryDirectory() as folder:
        kernel = started(Path(folder))
        kernel.names["value"] = value
        kernel.save("value")
        assert repr(value) == repr(kernel.next("value")["value"])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_saving_again_gives_the_same_digest(data):
    """In one process, whatever is in it: nothing is found changed."""
    with tempfile.TemporaryDirectory() as folder:
        kernel = started(Path(folder), SETUP)
        for _ in range(data.draw(st.integers(1, 8))):
            kernel.run(data.draw(statements(own(kernel)))[0])
        names = list(own(kernel))
        kernel.save(*names)
        found = kernel.save(*names)
        assert ({}, []) == (found["names"], found["changed"])


def test_objects_with_slots_that_were_given_back_have_not_changed(kernel):
    """Their class is written otherwise when it was restored: what refers to it goes by where it was saved."""
    kernel.begin()
    kernel.run(
        "class Node:\n    __slots__ = ('name',)\n    def __init__(self, n):\n        self.name = n\n"
        "nodes = {'x': Node('Bern')}"
    )
    kernel.save("Node", "nodes")
    other = kernel.next("Node", "nodes", watch=("Node", "nodes"))
    assert [] == other.save("Node", "nodes", touched=("Node", "nodes"))["changed"]
    other.run("nodes['x'].name = 'Basel'")
    assert ["nodes"] == other.save("Node", "nodes", touched=("Node", "nodes"))["changed"]


def test_an_object_at_the_address_of_one_that_is_gone_is_another_one(kernel):
    """Lists and numbers tell nobody that they ended: a new one may have their address."""
    kernel.run("old = [1]; text = 'abc'")
    kernel.save("old", "text")
    kernel.run("old = sorted(old); new = [7, 7]; text = text.upper(); other = bytearray(b'x')")
    kernel.shelf.known["text"].at = id(kernel["other"])
    kernel.save("old", "text", "new", "other")
    other = kernel.next()
    assert ([1], "ABC", [7, 7], bytearray(b"x")) == tuple(other[name] for name in ("old", "text", "new", "other"))
    assert len({ref.get("id") for ref in kernel.table.values()}) == 4


def test_a_walk_that_is_cut_off_proves_nothing(kernel, monkeypatch):
    """There may be more behind it, so what it would have found counts."""
    kernel.run("inner = [1]; big = [[n] for n in range(10)]; big.append(inner)")
    wanted = natures.within(kernel["inner"], kernel.names)
    monkeypatch.setattr(natures, "MOST_REACHED", 5)
    seen: set[int] = set()
    assert natures.meets(kernel["big"], wanted, kernel.names, seen)
    assert set() == seen


def test_what_was_saved_or_restored_is_not_kept(kernel):
    """It goes when the notebook lets go of it, lists and dicts with the next save, and not when gc comes."""
    gc.collect()
    gc.disable()
    try:
        kernel.run("class Thing:\n    pass\nthing = Thing()\nheld = {'thing': thing}")
        kernel.save("Thing", "thing", "held")
        other = kernel.next("held", watch=["held"])
        left = [weakref.ref(one["thing"]) for one in (kernel, other)]
        for one in (kernel, other):
            del one.names["thing"], one.names["held"]
            one.save("Thing")
        assert [None, None] == [one() for one in left]
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("value", "small"),
    [
        ("5", True),
        ("'x' * 1000", True),
        ("'x' * 1_000_000", False),
        ("(1, 2)", True),
        ("{'a': 1.5}", True),
        ("[[1]]", False),
        ("list(range(2000))", False),
        ("[].append", False),
        ("np.float64(1.5)", True),
        ("np.arange(100)", True),
        ("np.arange(100)[:5]", False),
        ("np.arange(100_000)", False),
        ("np.array([None])", False),
        ("pd.DataFrame({'a': [1, 2], 'b': ['x', 'y']})", True),
        ("pd.DataFrame({'a': ['x' * 20_000] * 30})", False),
        ("pd.Series([1.0])", True),
        ("np.zeros(3, dtype=[('x', 'i8')])[0]", False),
        ("pd.Series([type('Odd', (), {'__sizeof__': lambda self: 1 / 0})()])", False),
        ("type('Odd', (list,), {'__sizeof__': lambda self: 1 / 0})()", False),
    ],
)
def test_what_nobody_reads_is_saved_if_it_is_small(kernel, value, small):
    """And plain: it costs nothing, and holds nothing that others change."""
    kernel.run(f"import numpy as np, pandas as pd\nvalue = {value}")
    found = kernel.shelf.save(["np"], small=["value"], most=1e9, seconds=60)
    assert small == ("value" in found["names"])


def test_what_nobody_reads_is_not_saved_where_others_hold_it(kernel):
    """They may change it, and nobody would know; a number nobody can change."""
    kernel.run("one = [1]; other = one; alone = [2]; rows = [[3]]\nfor row in rows: pass")
    kernel.run("import numpy as np\ncount = np.int64(3)\nshown = [count]")
    found = kernel.shelf.save([], small=["count", "one", "other", "alone", "row"], most=1e9, seconds=60)
    assert {"alone", "count"} == found["names"].keys()


def test_what_nobody_reads_is_not_saved_where_others_look_at_its_memory(kernel):
    kernel.run("import numpy as np, pandas as pd\ndata = np.zeros(3); column = pd.Series(data, copy=False)")
    found = kernel.shelf.save(["data"], small=["column"], most=1e9, seconds=60)
    assert {"data"} == found["names"].keys()


def test_an_object_that_has_ended_is_not_none():
    class Thing:
        pass

    thing = Thing()
    known = Known(thing, "token", None, None)
    del thing
    assert not known.has(None)
