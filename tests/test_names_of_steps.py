"""Names of steps: what each rule says, and that what is told is what a run does."""

# ruff: noqa: E501, ISC004 - cells of notebooks, each in one text

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbflow.errors import DefinitionError
from nbflow.loading.names import Place, Unknown, Use, calls, uses
from nbflow.loading.names.units import Unit
from nbflow.source import Cell, syntax_tree

sys.path.insert(0, str(Path(__file__).parent))  # pytest imports test files by their paths
from tracing import OF_IPYTHON, trace


def told(setup: Sequence[str], steps: Sequence[Sequence[str]]) -> list[Use]:
    """Give what is told of each step."""
    numbers = iter(range(1, 1000))
    made = [[Cell(n := next(numbers), n, source, frozenset(), "") for source in cells] for cells in (setup, *steps)]
    return uses(made[0], made[1:])[1]


def one(source: str, *before: str) -> Use:
    """Give what is told of the last of some steps of one cell each."""
    return told([], [[text] for text in (*before, source)])[-1]


def reads(source: str, *before: str) -> str:
    return " ".join(sorted(one(source, *before).reads))


def assigns(source: str, *before: str) -> str:
    return " ".join(sorted(one(source, *before).assigns))


def certain(source: str, *before: str) -> str:
    return " ".join(sorted(one(source, *before).certain))


# What code at the top reads and assigns


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("y = x + 1\nz = y", "x"),
        ("if c:\n    a = 1\nb = a", "a c"),
        ("if c:\n    a = 1\nelse:\n    a = 2\nb = a", "c"),
        ("for i in xs:\n    a = i\nb = a", "a xs"),
        ("for i in range(3):\n    a = i\nb = a, i", ""),
        ("while True:\n    a = 1\n    break\nb = a", ""),
        ("while c:\n    a = 1\nelse:\n    b = 2\na, b", "a c"),
        ("for i in [1]:\n    if c:\n        break\n    a = 1\na", "a c"),
        ("try:\n    a = f()\nexcept E:\n    pass\na", "E a f"),
        ("try:\n    a = f()\nexcept E:\n    a = 1\na", "E f"),
        ("try:\n    a = f()\nfinally:\n    b = 1\na, b", "f"),
        ("try:\n    x\nexcept NameError:\n    x = 1", "x"),
        ("try:\n    1\nexcept E as e:\n    pass\ne", "E e"),
        ("if 'x' in globals():\n    x", "x"),
        ("with open(p) as f:\n    a = f.read()\na", "p"),
        ("x = 1\ntry:\n    del x\n    f()\nexcept E:\n    x", "E f x"),
        ("import contextlib\nwith contextlib.suppress(KeyError):\n    a = d[0]\na", "a d"),
        ("match v:\n    case [a, *b]:\n        c = a\n    case _:\n        c = 1\nc, b", "b v"),
        ("a = 1\ndel a\na", "a"),
        ("del a", "a"),
        ("x.attr = 1\ny[0] = 2\ndel z[k]", "k x y z"),
        ("x += 1", "x"),
        ("[i for i in xs if i > k]\ni", "i k xs"),
        ("[(last := i) for i in xs]\nlast", "last xs"),
        ("(n := 1)\nn", ""),
        ("c and (a := 1)\na", "a c"),
        ("class A:\n    x = 1\n    y = x + k\n    def f(self):\n        return q", "k"),
        ("class A(B, metaclass=M):\n    n: T = 1", "B M T"),
        ("def f(a=d, *, b=e) -> R:\n    return q", "R d e"),
        ("from __future__ import annotations\ndef f(a: T) -> R: ...\nx: Q = 1", ""),
        ("@deco\ndef f(): ...", "deco"),
        ("import a.b\nimport c.d as e\nfrom m import n as o\na, e, o", ""),
        ("f'{x:{w}} {y!r}'", "w x y"),
        ("a, *b = v\nb", "v"),
        ("await g()", "g"),
        ("async with l:\n    async for i in s:\n        pass", "l s"),
        ("x = lambda a: a + q", ""),
        ("(lambda a: a + q)(1)", "q"),
        ("raise E\nx", "E"),
        ("if False:\n    x\nprint(len(y))", "y"),
        ("eval('a + b')\nexec('c = d')\nc", "a b d"),
        ("x = 1\nfor i in [1, 2]:\n    x\n    if c: del x", "c x"),
        ("try:\n    a = f()\nfinally:\n    a", "a f"),
        ("globals()['x'] = globals()['y']\nx", "y"),
    ],
)
def test_a_step_reads_what_it_has_not_assigned_for_certain(source, names):
    """Joined where the code forks; builtins are not read."""
    assert names == reads(source)


@pytest.mark.parametrize(
    ("source", "may", "must"),
    [
        ("a = 1\nif c:\n    b = 1", "a b", "a"),
        ("for i in xs:\n    a = 1", "a i", ""),
        ("try:\n    1\nexcept E as e:\n    a = 1", "a e", ""),
        ("import a.b\nimport c.d as e", "a e", "a e"),
        ("def f():\n    global x\n    x = 1\nf()", "f x", "f x"),
        ("def f():\n    global x\n    x = 1", "f", "f"),
        ("def f():\n    global x\n    x = 1\nif c: f()", "f x", "f"),
        ("def f():\n    global x\n    if q: x = 1\nf()", "f x", "f"),
        ("a = 1\ndel a", "a", ""),
        ("class A: x = 1", "A", "A"),
        ("[(last := i) for i in xs]", "last", ""),
        ("raise E", "", ""),
    ],
)
def test_a_step_assigns_for_certain_or_perhaps(source, may, must):
    """What stands in a branch, or in a function that is called in one, may be assigned."""
    assert (may, must) == (assigns(source), certain(source))


def test_deleted_names_are_told():
    """Also those that a handler unbinds, and those that a called function deletes."""
    source = "del a\ntry: ...\nexcept E as e: ...\ndef f():\n    global g\n    del g\nf()"
    assert {"a", "e", "g"} == one(source).deletes


def test_a_builtin_that_was_assigned_is_a_name_as_others():
    """It is read if a step above assigned it."""
    assert ("", "max") == (reads("max(1, 2)"), reads("max(1, 2)", "max = min"))


# Functions, and who holds them


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("1", ""),
        ("f", "f"),
        ("g = f", "f"),
        ("f(1)", "f helper k"),
        ("xs.apply(f)", "f helper k xs"),
        ("sorted([1], key=f)", "f helper k"),
        ("list(map(f, [1]))", "f helper k"),
        ("wrapped[0]()", "helper k wrapped"),
        ("f(1)\ndef helper(x): return other\nf(1)", "f helper k other"),
        ("table['a'](1)", "helper k table"),
        ("[g(1) for g in table.values()]", "helper k table"),
        ("for name, g in table.items():\n    g(1)", "helper k table"),
        ("half(2)", "half helper k"),
        ("k = 2\nf(1)", "f helper"),
        ("add(1)", "add base"),
        ("timed(1)", "clock k timed"),
        ("model.fit()", "k model"),
        ("model.size", "model unit"),
        ("model.score(1)", "f helper k model"),
        ("len(model)", "count model"),
        ("Other().fit()", "Other k q"),
        ("lines", "lines"),
        ("next(lines)", "lines source"),
        ("count_up()", "count_up total"),
    ],
)
def test_a_step_reads_what_the_functions_read_that_it_runs(source, names):
    """By way of names, containers, closures, decorators, instances, generators; nothing for one that only passes by."""
    above = (
        "def f(x): return helper(x) + k\ndef helper(x): return x",
        "from functools import partial, wraps\ntable = {'a': f}\nhalf = partial(f, 2)",
        "def make(n):\n    def add(x): return x + n + base\n    return add\nadd = make(1)",
        "def timer(g):\n    @wraps(g)\n    def run(*a):\n        return g(*a) + clock\n    return run\n"
        "@timer\ndef timed(x): return x * k",
        "class Base:\n    def fit(self): return self.part()\n    def part(self): return k\n"
        "class Model(Base):\n    def score(self, x): return f(x)\n"
        "    @property\n    def size(self): return unit\n    def __len__(self): return count\nmodel = Model()",
        "class Other(Base):\n    def part(self): return super().part() + q",
        "def read():\n    yield source\nlines = read()",
        "def count_up():\n    global total\n    total += 1",
        "def wrap(g): return lambda: g(1)\nwrapped = list(map(wrap, [f]))",
    )
    assert names == reads(source, *above)


def test_a_function_that_calls_itself_comes_to_an_end():
    """Also two that call each other, whichever is called."""
    above = "def even(n): return n == 0 or odd(n - a)\ndef odd(n): return n != 0 and even(n - b)"
    assert ("a b even odd", "a b even odd") == (reads("even(3)", above), reads("odd(3)", above))


def test_a_function_that_calls_another_is_looked_at_again_when_that_one_does_something_else():
    """Here what the inner one calls, which the outer one does not name."""
    above = ("def outer(): return inner()\ndef inner(): return g()", "g = lambda: a\nouter()", "g = lambda: b")
    assert "b g inner outer" == reads("outer()", *above)


def test_what_a_function_assigns_holds_in_each_step_that_calls_it():
    """Also in one where its body is as it was, and that waits for no other step."""
    texts = ("def init():\n    global g\n    g = lambda: a", "init()", "init()", "g()")
    cells = [[Cell(n, n, text, frozenset(), "")] for n, text in enumerate(texts)]
    assert {"a", "g"} == set(uses(cells[0], cells[1:], [[], [], [1]])[1][2].reads)


def test_what_a_function_assigns_for_certain_counts_in_those_that_call_it():
    """Also in one that is walked before those that it calls, since they call each other."""
    above = "def a(n):\n    b(n)\n    return x\ndef b(n): c(0)\ndef c(n):\n    global x\n    if n: a(n)\n    x = 1"
    assert ("a b c", "x") == (reads("c(1)", above), certain("c(1)", above))


def test_what_a_library_is_given_twice_is_read_where_less_is_bound():
    """The first time is in a branch."""
    assert "c f k xs" == reads("if c:\n    k = 1\n    xs.apply(f)\nxs.apply(f)", "def f(x): return k")


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("models['a']()", "k models"),
        ("table.sum()", "table"),
        ("best()", "a best"),
        ("later[0]", "later"),
        ("next(chained)", "chained q"),
    ],
)
def test_a_container_does_not_keep_the_function_that_made_its_elements(source, names):
    """Nor does a table keep what was called for each of its cells; what was not called yet is kept."""
    above = (
        "from itertools import chain\ndef make(x):\n    q\n    return lambda: k",
        "models = dict(zip('ab', map(make, 'xy')))\ntable = read()\ntable['x'] = table['y'].map(make)",
        "best = max([lambda: a], key=make)\nlater = sorted([1], key=make)\nchained = chain(map(make, 'xy'))",
    )
    assert names == reads(source, *above)


def test_a_name_holds_what_any_step_may_have_made_of_it():
    """One that is assigned in a branch holds what it held before, too."""
    assert "a b g" == reads("g()", "g = lambda: a", "if c: g = lambda: b")


def test_of_two_functions_neither_assigns_for_certain():
    """It is not known which of them is called."""
    above = "def f():\n    global x\n    x = 1\ndef h(): pass\ng = f if c else h"
    assert ("g x", "x", "") == (reads("g()\nx", above), assigns("g()\nx", above), certain("g()\nx", above))


def test_the_function_is_named_that_reads():
    """The place is that of the call, in the step itself."""
    use = one("1\nf()", "def f(): return x")
    assert {"f": Place(2, 2), "x": Place(2, 2, "f")} == use.reads


def test_a_name_that_is_asked_for_is_read():
    """A step that asks whether a name is there must find it, so that it is brought; whose absence is no error."""
    use = one("if 'x' in dir():\n    y = 1", "x = 1")
    assert ({"x"}, set()) == (set(use.reads), set(one("try:\n    x\nexcept NameError: ...").needs))


def test_steps_that_did_not_run_before_change_nothing():
    """With ``before``, a name holds what the steps made of it that this one waits for."""
    cells = [[Cell(n, n, text, frozenset(), "")] for n, text in enumerate(("f = lambda: a", "f = lambda: b", "f()"))]
    assert {"a", "f"} == set(uses([], cells, [[], [], [0]])[1][2].reads)
    assert {"b", "f"} == set(uses([], cells)[1][2].reads)


def test_a_class_finds_its_subclasses():
    """Those that a step above made, and theirs; that they are there is read, too."""
    above = "class Base: ...", "class Table(Base): ...", "class Csv(Table):\n    def go(self): return k"
    assert "Base Csv Table k" == reads("[c().go() for c in Base.__subclasses__()]", *above)
    assert "Csv Table k" == reads("[c().go() for c in Table.__subclasses__()]", *above)


OPERATED = (
    "class Pipe:\n    def __init__(self, *f): self.f = f\n    def __or__(self, g): return Pipe(*self.f, g)\n"
    "    def __rand__(self, g): return Pipe(g, *self.f)\n    def go(self): return [f() for f in self.f]",
    "class Event:\n    def __init__(self): self.on = []\n    def __iadd__(self, f):\n        self.on.append(f)\n"
    "        return self\n    def fire(self): return [f() for f in self.on]",
    "class Lot:\n    event = Event()",
    "class At:\n    def __getitem__(self, f): return f()\n    def __matmul__(self, f): return f()",
)


@pytest.mark.parametrize(
    ("made", "source", "names"),
    [
        ("p = Pipe() | (lambda: k)", "p.go()", "k p"),
        ("p = (lambda: k) & Pipe()", "p.go()", "k p"),
        ("e = Event()\ne += lambda: k", "e.fire()", "e k"),
        ("o = Lot()\no.event += lambda: k", "o.event.fire()", "k o"),
        ("f = lambda: k", "At() @ f", "At f k"),
        ("f = lambda: k", "At()[f]", "At f k"),
    ],
)
def test_a_special_method_is_given_the_other_operands(made, source, names):
    """It may keep them, or call them."""
    assert names == reads(source, *OPERATED, made)


@pytest.mark.parametrize(
    ("kind", "source"),
    [("", "A().a()"), ("", "A() + 1"), ("staticmethod", "A.a()"), ("property", "A().a")],
)
def test_a_class_has_methods_whose_names_do_not_stand_there(kind, source):
    """A loop gives them to it; any of its attributes may be one, and any operation may run one."""
    made = f"def make():\n    def f(*a): return k\n    return {kind}(f)\nfor n in names: setattr(A, n, make())"
    assert "A k" == reads(source, "class A: ...", made)


@pytest.mark.parametrize(
    ("made", "source", "names"),
    [
        ("class O:\n    def __init__(self, **k): self.__dict__.update(k)\no = O(f=lambda: k)", "o.f()", "k o"),
        ("class O: ...\no = O()\no.__dict__['f'] = lambda: k", "o.f()", "k o"),
        ("class O: ...\no = O()\nvars(o)['f'] = lambda: k", "o.f()", "k o"),
        ("class O:\n    def __init__(self): self.f = lambda: k\no = O()", "[f() for f in vars(o).values()]", "k o"),
        ("class A:\n    def f(self): return k", "[f(A()) for f in vars(A).values()]", "A k"),
        ("class A:\n    def f(self): return k", "A.__dict__['f'](A())", "A k"),
    ],
)
def test_attributes_are_set_and_found_by_the_dict_of_an_object(made, source, names):
    """Under any name."""
    assert names == reads(source, made)


@pytest.mark.parametrize(
    ("base", "body", "fill", "source"),
    [
        ("dict", "...", "o['a'] = lambda: k", "o['a']()"),
        ("dict", "...", "o.update(a=lambda: k)", "o.get('a')()"),
        ("dict", "def __setitem__(self, n, f): super().__setitem__(n, f)", "o['a'] = lambda: k", "o['a']()"),
        ("dict", "def __init__(self, **fs): super().__init__(**fs)", "o = O(a=lambda: k)", "o['a']()"),
        ("UserDict", "def __setitem__(self, n, f): super().__setitem__(n, f)", "o['a'] = lambda: k", "o['a']()"),
        ("UserDict", "...", "o = O(a=lambda: k)", "o['a']()"),
        ("UserDict", "...", "o = O({'a': lambda: k})", "[f() for f in o.values()]"),
        ("list", "def add(self, f): self.append(f)", "o.add(lambda: k)", "[f() for f in o]"),
        ("list", "def append(self, f): super().append(f)", "o.append(lambda: k)", "o[0]()"),
    ],
)
def test_an_instance_may_be_a_container(base, body, fill, source):
    """Its class derives from one, and has methods of its own or not."""
    made = f"from collections import UserDict\nclass O({base}):\n    {body}\no = O()\n{fill}"
    assert "k o" == reads(source, made)


@pytest.mark.parametrize(
    "body",
    [
        "def __init__(cls, name, bases, space):\n        super().__init__(name, bases, space)\n        M.all.append(cls)",
        "def __new__(meta, *a):\n        cls = super().__new__(meta, *a)\n        meta.all.append(cls)\n        return cls",
        "def __new__(meta, *a):\n        cls = type.__new__(meta, *a)\n        meta.all.append(cls)\n        return cls",
    ],
)
def test_a_metaclass_is_given_the_classes_that_it_makes(body):
    """Also those that only have a base with it."""
    made = f"class M(type):\n    all = []\n    {body}\nclass Base(metaclass=M): ..."
    assert "M k" == reads("[c().go() for c in M.all]", made, "class A(Base):\n    def go(self): return k")


def test_a_class_is_made_and_called_by_its_metaclass():
    """So a step that defines one, calls one or loops over one reads what the metaclass reads."""
    made = (
        "class M(type):\n    def __init__(cls, *a): k\n    def __call__(cls): return q\n"
        "    def __iter__(cls): return p\n    def build(cls): return cls.go(1)\n"
        "class A(metaclass=M):\n    def __init__(self): never\n    def go(self): return z"
    )
    assert "M k" == reads("class B(metaclass=M): ...", made)
    assert {"A", "q"} <= set(reads("A()", made).split())
    assert ("A p", "A z") == (reads("for x in A: ...", made), reads("A.build()", made))


@pytest.mark.parametrize(
    "base",
    [
        "class B:\n    def __init_subclass__(cls, on=None): cls.on = staticmethod(on)",
        "class M(type):\n    def __init__(cls, *a, on=None): cls.on = staticmethod(on)\nclass B(metaclass=M): ...",
    ],
)
def test_what_a_class_is_defined_with_is_given_to_its_base_or_metaclass(base):
    assert "C k" == reads("C.on()", base, "class C(B, on=lambda: k): ...")


def test_a_context_manager_whose_base_is_of_a_library_gives_itself():
    """As long as it has no method for that of its own."""
    made = "from contextlib import AbstractContextManager as Base\nclass A(Base):\n    def go(self): return k"
    assert "A k" == reads("with A() as a: a.go()", made)


def test_a_decorator_that_a_library_makes_callable_runs_around_the_function():
    """It is an instance of a context manager here."""
    made = (
        "from contextlib import ContextDecorator\nclass Timed(ContextDecorator):\n    def __enter__(self): k.append(1)\n"
        "    def __exit__(self, *a): q\n@Timed()\ndef f(): return z\ng = Timed()(f)"
    )
    assert ("f k q z", "g k q z") == (reads("f()", made), reads("g()", made))


def test_an_instance_that_a_library_makes_callable_runs_its_methods():
    """As a module of torch does, whose call is its forward."""
    made = "from torch.nn import Module\nclass Net(Module):\n    def forward(self, x): return x * k\nnet = Net()"
    assert ("k net", "k net run") == (reads("net(1)", made), reads("run(net)", made, "def run(net): return net(1)"))


@pytest.mark.parametrize(
    ("made", "source", "names"),
    [
        ("from collections import defaultdict\nd = defaultdict(lambda: k)", "d['x']", "d k"),
        ("from collections import defaultdict\nd = defaultdict(lambda: k)", "d['x'] += 1", "d k"),
        ("from collections import defaultdict\nd = defaultdict(lambda: k)", "d", "d"),
        ("def f(): return k", "for x in iter(f, 3): ...", "f k"),
        ("class A:\n    def __class_getitem__(cls, x): return k", "A[1]", "A k"),
        ("class A:\n    def go(self): return k\nclass B(A): ...", "[c for c in B.__mro__][1].go(B())", "B k"),
        ("class A:\n    def go(self): return k\nclass B(A): ...", "B.mro()[1]().go()", "B k"),
    ],
)
def test_what_runs_without_being_called_is_told(made, source, names):
    """Or is found by way of a class."""
    assert names == reads(source, made)


GIVING = (
    "class Grid:\n    def __iter__(self):\n        for x in range(k): yield x\n"
    "class Made:\n    def __iter__(self): return Iter()\nclass Iter:\n    def __next__(self): return k\n"
    "class Mapped:\n    def __iter__(self): return map(lambda v: v + k, [1])\n"
    "class Lone:\n    def __iter__(self):\n        yield lambda: k\n"
    "class Open:\n    async def __aenter__(self): return k\n    async def __aexit__(self, *a): ...\n"
    "class Each:\n    def __aiter__(self): return self\n    async def __anext__(self): return k\n"
    "class Wait:\n    def __await__(self): yield k\n"
)


@pytest.mark.parametrize(
    "source",
    [
        "for x in Grid(): ...",
        "list(Grid())",
        "[x for x in Grid()]",
        "a, b = Grid()",
        "[*Grid()]",
        "def f(): yield from Grid()\nlist(f())",
        "list(Made())",
        "list(Mapped())",
        "for f in Lone(): f()",
        "async with Open(): ...",
        "async for x in Each(): ...",
        "await Wait()",
    ],
)
def test_what_special_methods_give_is_entered(source):
    """Generators, coroutines, and iterators of other classes; they run where somebody iterates over them, or waits."""
    assert "k" in reads(source, GIVING).split()


@pytest.mark.parametrize("method", ["_repr_html_", "_repr_mimebundle_", "_ipython_display_"])
@pytest.mark.parametrize("source", ["T()", "t", "display(t)", "display(T())"])
def test_what_ipython_shows_a_value_by_is_run(method, source):
    """Where a cell has a value, or displays it; no print runs it."""
    made = f"class T:\n    def {method}(self, **_): return k\nt = T()"
    assert "k" in reads(source, made).split()
    assert "t" == reads("print(t)", made)


TRUTH = (
    "class Sized:\n    def __len__(self): return k\nclass True_:\n    def __bool__(self): return k\ns = Sized()\n"
    "b = True_()\nclass V:\n    def __add__(self, o): return k\nv = V()",
)


@pytest.mark.parametrize(
    "source",
    [
        "if s: ...", "if b: ...", "not s", "not b", "while s: break", "[1 for x in [1] if s]", "1 if b else 2",
        "s and 1", "b or 1", "assert s", "bool(b)", "any([s])", "match 1:\n    case 1 if s: ...",
    ],
)  # fmt: skip
def test_a_test_asks_for_truth(source):
    """By ``__bool__``, or by the length; it runs no other operation."""
    assert "k" in reads(source, *TRUTH).split()
    assert "v" == reads(source.replace("s:", "v:").replace("b:", "v:"), *TRUTH) or "v:" not in source


EATEN = (
    "class It:\n    def __iter__(self): return iter([k])\nclass At:\n    def __getitem__(self, n): return [k][n]\n"
    "class In:\n    def __contains__(self, n): return n == k\n    def __iter__(self): return never\n"
    "class Ix:\n    def __index__(self): return k\n"
    "class Map:\n    def keys(self): return [k]\n    def __getitem__(self, n): return n\n"
    "class Any:\n    def __getattribute__(self, n): return k\n    def x(self): ...\n"
    "class Abstract(Mapping):\n    def __getitem__(self, n): return n\n    def __iter__(self): return iter([k])\n"
    "class Meta(type):\n    def __contains__(cls, n): return n == k\nclass Kind(metaclass=Meta): ...\n"
    "rows = []\ndef f(**_): ..."
)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("1 in It()", "It k"),
        ("1 not in At()", "At k"),
        ("1 in In()", "In k"),
        ("[1, 2][Ix()]", "Ix k"),
        ("range(Ix())", "Ix k"),
        ("dict(Map())", "Map k"),
        ("{**Map()}", "Map k"),
        ("{**Abstract()}", "Abstract k"),
        ("1 in Kind", "Kind k"),
        ("f(**Map())", "Map f k"),
        ("Any().x", "Any k"),
        ("2 in (v + k for v in [1])", "k"),
        ("2 in map(lambda v: v + k, [1])", "k"),
        ("rows += (v * k for v in [1])", "k rows"),
        ("rows += map(lambda v: v * k, [1])", "k rows"),
        ("rows[:] = (v * k for v in [1])", "k rows"),
        ("rows += It()", "It k rows"),
        ("rows[:] = It()", "It k rows"),
    ],
)
def test_what_an_operation_looks_into_is_run(source, names):
    """Containment, indexes, mappings that are spread, and what a list takes up."""
    assert names == reads(source, EATEN, "k = 1")


def test_a_sum_of_many_terms_is_read():
    """As one of few; each term is one level of the tree."""
    assert "x" == reads("y = " + " + ".join(["x"] * 600))


@pytest.mark.parametrize(("source", "names"), [("0 < x < (y := 5)", "x"), ("0 < x < 3 < (y := 5)", "x y")])
def test_what_stands_behind_in_a_comparison_is_perhaps_evaluated(source, names):
    """From the third operand on."""
    assert "x y" == reads(source + "\ny")
    assert "" == certain(source)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("df[lambda d: d.a > k]", "df k"),
        ("df.loc[lambda d: d.a > k, 'a']", "df k"),
        ("df.loc[lambda d: d.a > k, 'a'] = 9", "df k"),
        ("df.iloc[lambda d: d.a > k]", "df k"),
        ("df['c'] = lambda d: k", "df"),
        ("plain[lambda d: k]", "k plain"),
        ("table[f]", "f table"),
    ],
)
def test_a_function_that_is_an_index_is_called_by_a_table(source, names):
    """A dict only looks it up."""
    made = "import pandas as pd\ndf = pd.DataFrame({'a': [1]})\nplain = 1\ndef f(d): return k\ntable = {f: 1}"
    assert names == reads(source, made)


@pytest.mark.parametrize(
    ("source", "names", "unknown"),
    [
        ("df.query(expr='a == @k')", "df k", ""),
        ("pd.eval('d1 + d2')", "d1 d2 pd", ""),
        ("df.eval('d1 + d2')", "df", ""),
        ("df.eval('z = @f(a)')", "df f k", ""),
        ("df.query('a > 0 and ' + cond)", "cond df", ".query('a > 0 and ' + cond)"),
        ("df.query('a == ' + str(d1))", "d1 df", ""),
        ("df.query(f'a > {d1}')", "d1 df", ""),
        ("df.query(cond)", "cond df", ".query(cond)"),
        ("df.query(cond, engine='python')", "cond df", ".query(cond)"),
        ("tree.query(d1, k=1)", "d1 tree", ""),
        ("tree.query(d1, 1)", "d1 tree", ""),
        ("df.eval('z = a + @k', True)", "df k", ""),
        ("numexpr.evaluate('d1 + d2', out=cond)", "cond d1 d2 numexpr", ""),
        ("df.query(cond, **d1)", "cond d1 df", ".query(cond)"),
        ("tree.query([1, 2])", "tree", ""),
    ],
)
def test_names_in_texts_of_pandas_are_read(source, names, unknown):
    """Of a text that does not stand there nothing is known, unless what it is given beside it is none of pandas."""
    made = "import pandas as pd\nfrom m import Tree\ndf = pd.DataFrame({})\ntree = Tree()\ncond = 'b'\nk = d1 = d2 = 1"
    use = one(source, made, "def f(a): return a + k")
    assert (names, unknown) == (" ".join(sorted(use.reads)), " ".join(each.what for each in use.unknown))


@pytest.mark.parametrize(
    ("above", "source", "names"),
    [
        ("from contextlib import suppress as quiet", "with quiet(E): y = f()", "E f quiet"),
        ("from contextlib import ExitStack", "with ExitStack() as s: y = f()", "ExitStack f"),
        ("import unittest", "with t.assertRaisesRegex(E, ''): y = f()", "E f t"),
    ],
)
def test_a_block_whose_exceptions_are_swallowed_may_end_early(above, source, names):
    """However the context manager is called here."""
    assert f"{names} y" == reads(f"{source}\ny", above)
    assert "y" not in certain(source, above)


def test_what_an_interactive_control_shows_is_called_at_once():
    """By its decorator."""
    assert "k" == reads("from ipywidgets import interact\n@interact(x=0)\ndef f(x): return k")


@pytest.mark.parametrize(
    "source",
    [
        "class A:\n    def f(self): return __class__\nA().f()",
        "class A:\n    name = __module__ + '.' + __qualname__",
        "__IPYTHON__",
        "class A:\n    def f(self): return [__class__ for x in [1]]\nA().f()",
    ],
)
def test_what_python_or_ipython_puts_there_is_no_name_of_the_notebook(source):
    assert "" == reads(source)


def test_a_class_calls_itself_by_the_name_that_python_gives_it():
    made = "class A:\n    def f(self): return __class__.g()\n    @staticmethod\n    def g(): return k"
    assert "A k" == reads("A().f()", made)


# IPython


@pytest.mark.parametrize(
    ("source", "read", "assigned"),
    [
        ("%matplotlib inline\n%cd {folder}", "folder", ""),
        ("!echo {x} $y $$z ${q}", "q x y", ""),
        ("!awk '{print $1}' f", "", ""),
        ("files = !ls {folder}", "folder", "files"),
        ("%time a = x", "x", "a"),
        ("%timeit -n1 a = x", "x", ""),
        ("%%time\na = x\nb = a", "x", "a b"),
        ("%%timeit y = x\na = y + q", "q x", ""),
        ("%%capture out --no-stderr\na = x", "x", "a out"),
        ("%%bash --out log\necho $x", "", "log"),
        ("%%writefile {folder}/a.py\nx = y", "folder", ""),
        ("%%html\n<b>x</b>", "", ""),
        ("x?\ny = 1", "x", "y"),
        ("df.query('a > @x')", "df x", ""),
        ("def copy(p):\n    !echo {p} {x}\ncopy(1)", "x", "copy"),
        ("!echo {','.join(c for c in 'ab')} {x}", "x", ""),
        ("!echo {missing} {x}", "", ""),
        ("!echo {sorted([1], key=lambda v: v + y)} {x}", "x y", ""),
        ("%aimport numpy.linalg, scipy", "", "numpy scipy"),
        ("%aimport -numpy", "", ""),
        ("%timeit -n 1 -r 1 -v res sum(x)", "x", "res"),
        ("%%timeit -n 1 -v res\nsum(x)", "x", "res"),
        ("%%bash --bg --proc procs\necho", "", "procs"),
    ],
)
def test_lines_of_ipython_read_and_assign(source, read, assigned):
    """What is put into a line is read if there is such a name."""
    use = one(source, "x = y = z = q = folder = df = 1")
    assert (read, assigned, ()) == (" ".join(sorted(use.reads)), " ".join(sorted(use.assigns)), use.unknown)


@pytest.mark.parametrize(
    ("source", "what", "reads", "assigns"),
    [
        ("from tools import *", "from tools import *", False, True),
        ("%run a.py", "%run a.py", False, True),
        ("%run -i a.py", "%run -i a.py", True, True),
        ("%run a.ipynb", "%run a.ipynb", True, True),
        ("%run 'a b.ipy'", "%run 'a b.ipy'", True, True),
        ("%pylab inline", "%pylab inline", False, True),
        ("%store -r", "%store -r", False, True),
        ("%%sql\nselect 1", "%%sql", True, True),
        ("%frobnicate 1", "%frobnicate 1", True, True),
        ("exec(code)", "exec(code)", True, True),
        ("eval(code)", "eval(code)", True, False),
        ("globals().update(d)", "globals()", True, True),
        ("get_ipython().user_ns['x']", "get_ipython().user_ns", True, True),
        ("import __main__", "import __main__", True, True),
        ("sys.modules[__name__].k", "sys.modules[__name__]", True, True),
        ("modules = sys.modules\nmodules['__main__'].k", "modules['__main__']", True, True),
        ("loaded = sys.modules\nloaded['__main__'].k", "loaded['__main__']", True, True),
        ("sys.modules['__main__'].k", "sys.modules['__main__']", True, True),
        ("frame.f_back.f_globals['k']", "frame.f_back.f_globals", True, True),
        ("f.__globals__['k']", "f.__globals__", True, True),
        ("import IPython\nip = IPython.get_ipython()\nip.user_ns['x']", "get_ipython().user_ns", True, True),
        ("InteractiveShell.instance().user_ns", "get_ipython().user_ns", True, True),
        ("from IPython import get_ipython as g\ng().user_ns", "get_ipython().user_ns", True, True),
        ("_", "_", False, False),
        ("Out[3]", "Out", False, False),
    ],
)
def test_what_cannot_be_told_is_said(source, what, reads, assigns):
    """With what it may do."""
    said = [(each.what, each.reads, each.assigns) for each in one(source).unknown]
    assert (what, reads, assigns) in said


@pytest.mark.parametrize(
    "above", ["from IPython import get_ipython", "from IPython.core.getipython import get_ipython"]
)
@pytest.mark.parametrize(
    ("source", "read", "assigned"),
    [
        ("%time print(x)", "x", ""),
        ("!echo {x[0]} $y", "x y", ""),
        ("%time n = len(x)", "x", "n"),
        ("import IPython\nIPython.get_ipython().run_line_magic('time', 'n = x')", "x", "IPython n"),
    ],
)
def test_the_shell_is_seen_that_was_imported(above, source, read, assigned):
    """Lines of IPython call it by the name that the notebook imported."""
    use = one(source, f"{above}\nx = y = [1]")
    assert (read, assigned) == (" ".join(sorted({*use.reads} - {"get_ipython"})), " ".join(sorted(use.assigns)))


@pytest.mark.parametrize("above", ["%run params.py", "from params import *", "def f(): exec(text)\nf()"])
@pytest.mark.parametrize("source", ["df.query('a < @k')", "!echo {k}", "'k' in globals()", "k?"])
def test_a_name_that_something_unknown_may_have_assigned_is_asked_for(above, source):
    """So that it is brought; it is no error if it is not there."""
    use, same = one(source, "df = 1", above), one(f"{above}\n{source}", "df = 1")
    assert (True, False) == ("k" in use.reads, "k" in use.needs)
    assert (True, False) == ("k" in same.reads, "k" in same.needs)
    assert "k" not in one(source, "df = 1").reads


def test_a_builtin_is_itself_behind_something_unknown():
    assert "" == reads("globals\nlen([])\n!echo {len([])}", "from params import *")


def test_what_was_imported_from_the_notebook_itself_is_read():
    assert "k" == reads("from __main__ import k", "k = 1")


@pytest.mark.parametrize(
    ("source", "read", "assigned"),
    [
        ("pip install numpy", "", ""),
        ("ls", "", ""),
        ("pwd", "", ""),
        ("cd /tmp", "", ""),
        ("ls -l {x}", "x", ""),
        ("time n = x", "x", "n"),
        ("\npwd\n", "", ""),
        ("env = 3", "", "env"),
        ("env == 3", "env", ""),
        ("ls\npwd", "ls pwd", ""),
        ("history", "history", ""),
        ("config.x", "config", ""),
    ],
)
def test_a_cell_of_one_line_may_be_a_magic_without_its_sign(source, read, assigned):
    """Unless a name is called so."""
    use = one(source, "x = 1\nhistory = [1]")
    assert (read, assigned, ()) == (" ".join(sorted(use.reads)), " ".join(sorted(use.assigns)), use.unknown)


def test_the_last_value_is_there_in_the_next_cell_of_a_step():
    """As long as it is of this step: what is printed is no value."""
    assert () == told([], [["1 + 1", "x = _"]])[0].unknown
    assert ["_"] == [each.what for each in told([], [["print(1)", "x = _"]])[0].unknown]
    assert ["_"] == [each.what for each in told([], [["1 + 1"], ["x = _"]])[1].unknown]


@pytest.mark.parametrize(
    "cell", ["%%timeit\na = 1\nb = = 2", "%%timeit a = 0\na = 1\nb = = 2", "%%time\na = 1\nb = = 2"]
)
def test_an_error_below_a_magic_has_its_line(cell):
    with pytest.raises(DefinitionError, match="cell 1, line 3"):
        one(cell)


def test_lines_are_those_of_the_cell():
    """Also where IPython joins lines, drops empty ones, and below a magic of the cell."""
    assert 5 == one("\n\n!ls \\\n  -l\ny = x").reads["x"].line
    assert 3 == one("%%time\na = 1\nb = x").reads["x"].line
    assert (3, "c") == (one("%%timeit\na = 1\nb = x").reads["x"].line, assigns("%%timeit\na = 1\nglobal c\nc = a"))


def test_cells_that_do_not_run_do_nothing():
    cells = [Cell(1, 1, "x = 1", frozenset({"skip-execution"}), ""), Cell(2, 2, " \n", frozenset(), "")]
    assert {} == uses([], [cells])[1][0].assigns


def test_a_cell_that_may_raise_assigns_nothing_for_certain():
    """It is tagged ``raises-exception``: the step goes on behind it."""
    use = uses([], [[Cell(1, 1, "x = 1\n1 / 0", frozenset({"raises-exception"}), "")]])[1][0]
    assert ({"x"}, frozenset()) == (set(use.assigns), use.certain)


def test_a_cell_that_is_no_python_is_named():
    with pytest.raises(DefinitionError, match="cell 1, line 3"):
        one("%matplotlib inline\nx = 1\ny = = 2")


# What a run does

NOTEBOOKS: dict[str, tuple[list[str], list[list[str]]]] = {
    "plain": (["import math"], [["x = 3\ny = math.pi"], ["z = x * y\nx += 1"], ["print(x, z)"]]),
    "functions": ([], [["def f(x):\n    return g(x) + k\ndef g(x): return x"], ["k = 2"], ["r = f(1)"], ["r + k"]]),
    "methods": (
        ["class M:\n    def fit(self):\n        self.w = scale * 2\n        return self\n    def out(self):\n"
         "        return self.w + shift"],
        [["scale = 2\nshift = 1"], ["m = M().fit()"], ["m.out()"], ["m.w"]],
    ),
    "inheritance": (
        ["class A:\n    def go(self): return self.part() + one\n    def part(self): return two",
         "class B(A):\n    def part(self): return super().part() + three"],
        [["one, two, three = 1, 2, 3"], ["a = A()\nb = B()"], ["a.go()"], ["b.go()"]],
    ),
    "closures": (
        [],
        [["def make(n):\n    def add(x):\n        return x + n + base\n    return add"], ["base = 1\nadd = make(2)"],
         ["add(1)"], ["both = [add, make(5)]"], ["[f(1) for f in both]"]],
    ),
    "decorators": (
        ["import functools\ndef loud(f):\n    @functools.wraps(f)\n    def run(*args):\n        log.append(f.__name__)\n"
         "        return f(*args)\n    return run"],
        [["log = []"], ["@loud\ndef double(x): return x * factor"], ["factor = 2\ndouble(2)"], ["double(3), log"]],
    ),
    "dataclasses": (
        ["from dataclasses import dataclass, field"],
        [["@dataclass\nclass P:\n    x: int\n    tags: list = field(default_factory=list)\n"
          "    def far(self): return self.x * unit"], ["unit = 10\nps = [P(1), P(2)]"], ["[p.far() for p in ps]"]],
    ),
    "generators": (
        [],
        [["def numbers():\n    for i in range(limit):\n        yield i * step"], ["limit, step = 3, 2"],
         ["total = sum(numbers())"], ["it = numbers()\nnext(it)\nlist(it)\ntotal"]],
    ),
    "comprehensions": (
        [],
        [["xs = [1, 2, 3]\nk = 2"], ["ys = [x * k for x in xs if x > 1]\nd = {x: k for x in xs}"],
         ["s = sum(x * y for x in xs for y in ys)"], ["d, s"]],
    ),
    "recursion": (["def fact(n): return 1 if n < 2 else n * fact(n - one)"], [["one = 1"], ["fact(4)"]]),
    "contexts": (
        ["from contextlib import contextmanager"],
        [["class C:\n    def __enter__(self): return self\n    def __exit__(self, *a): ends.append(1)\n"
          "@contextmanager\ndef opened():\n    ends.append(0)\n    yield 5"], ["ends = []"],
         ["with C() as c, opened() as five:\n    pass"], ["ends, five"]],
    ),
    "partial": (["from functools import partial, lru_cache"], [
        ["def power(x, n): return x ** n + off\nsquare = partial(power, n=2)"], ["off = 1"], ["square(3)"],
        ["@lru_cache\ndef cached(x): return x + off"], ["cached(2)"]]),
    "callbacks": ([], [
        ["def key(x): return -x * sign\ndef keep(x): return x > low"], ["sign, low = 1, 1"],
        ["sorted([3, 1], key=key)"], ["list(filter(keep, [1, 2]))"], ["max([1, 2], key=lambda v: v * sign)"]]),
    "handlers": ([], [
        ["def a(x): return x + p\ndef b(x): return x + q\nhandlers = {'a': a}"], ["p = q = 1"],
        ["handlers['a'](1)"], ["handlers['b'] = b"], ["for name, h in handlers.items():\n    h(1)"]]),
    "globals": (["count = 0\ndef bump():\n    global count\n    count += 1\n    return count"], [
        ["bump()"], ["bump()\nbump()"], ["print(count)"], ["def reset():\n    global count, old\n    old = count\n"
                                                          "    count = 0\nreset()"], ["old"]]),
    "branches": ([], [["flag = True"], ["if flag:\n    a = 1\nelse:\n    a = 2"], ["b = a if flag else 0"], ["a, b"]]),
    "errors": ([], [
        ["try:\n    u = undefined\nexcept NameError:\n    u = 1"],
        ["try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    why = str(e)\nfinally:\n    done = u"], ["why, done"]]),
    "deletions": ([], [["a = b = c = 1"], ["del a"], ["b += 1\nc"], ["def drop():\n    global c\n    del c\ndrop()"], ["b"]]),
    "walrus": ([], [["data = [1, 5, 2]"], ["if (n := len(data)) > 2:\n    big = [last := x for x in data]"], ["n, big, last"]]),
    "classes": ([], [
        ["base = 2\nclass Reg:\n    items = []\n    size = base * 2\n    @classmethod\n    def add(cls, x):\n"
         "        cls.items.append(x * rate)\n    @staticmethod\n    def tax(x): return x * rate\n"
         "    @property\n    def total(self): return sum(self.items) + extra"],
        ["rate, extra = 2, 1"], ["Reg.add(1)"], ["Reg.tax(2)"], ["Reg().total"], ["Reg.size"]]),
    "matching": ([], [["v = {'k': 1, 'z': 2}"], ["match v:\n    case {'k': k, **rest}:\n        out = k\n    case _:\n        out = 0"],
                      ["out, rest"]]),
    "imports": (["import os.path"], [["import json as j, collections.abc\nfrom math import sqrt as root"], ["j.dumps(root(4))"],
                                     ["os.path.join('a'), collections.abc"]]),
    "shell": ([], [["x = 'a'\nfolder = '.'"], ["!echo {x}"], ["names = !ls {folder}"], ["%time y = x * 2"], ["%timeit -n1 -r1 -q z = y"],
                   ["%%capture out\nprint(y)"], ["out.stdout\nnames[0]"]]),
    "timed": ([], [["%%time\na = 1\nb = a"], ["%%timeit -n1 -r1 -q\nc = b"], ["a"]]),
    "waiting": (["import asyncio\nasync def later(x):\n    await asyncio.sleep(0)\n    return x + k"], [
        ["k = 1"], ["r = await later(2)"], ["rs = await asyncio.gather(later(1), later(r))"], ["rs"]]),
    "operators": ([], [
        ["class V:\n    def __init__(self, x): self.x = x\n    def __add__(self, o): return V(self.x + o.x + bias)\n"
         "    def __repr__(self): return f'{name}({self.x})'\n    def __iter__(self): return iter([self.x, first])"],
        ["bias, first, name = 0, 1, 'V'"], ["u = V(1)\nw = V(2)"], ["t = u + w"], ["list(t)"], ["t"]]),
    "shadows": ([], [["sum = 3\nid = 4"], ["sum + id"], ["print(max(1, 2))"]]),
    "nested": ([], [["def outer(n):\n    x = n\n    def inner():\n        nonlocal x\n        x += step\n        return x\n    return inner"],
                    ["step = 1\ninc = outer(1)"], ["inc()\ninc()"]]),
    "bases": (
        ["from enum import Enum\nfrom collections import UserDict\nfrom html.parser import HTMLParser",
         "class Color(Enum):\n    RED = 1\n    @classmethod\n    def _missing_(cls, v): return cls.RED if k else None",
         "class Own(UserDict):\n    def __setitem__(self, n, v): super().__setitem__(n, v + k)",
         "class Page(HTMLParser):\n    def reset(self):\n        super().reset()\n        self.n = k"],
        [["k = 1"], ["Color('x')"], ["u = Own({'a': 1})"], ["u.update(a=1)"], ["u.setdefault('b', 2)"], ["p = Page()"]]),
    "comparing": (
        ["class V:\n    def __eq__(self, o): return k\n    def __hash__(self): return k\n    def __lt__(self, o): return k"],
        [["k = 1"], ["vs = [V(), V()]"], ["1 in vs"], ["vs == [2]"], ["vs.index(1)"], ["vs.count(3)"], ["vs.sort()"],
         ["vs.remove(1)"], ["{V()}"], ["set([V()])"], ["match V():\n    case 1: ..."], ["x = max(vs)"]]),
    "filling in": (["class V:\n    def __str__(self): return str(k)"],
                   [["k = 1"], ["x = '%s' % V()"], ["x = '%s %s' % (V(), 1)"], ["x = '{}'.format(V())"]]),
    "attributes": (
        ["class A:\n    def __getattr__(self, n): return k\n    def __delattr__(self, n): k",
         "class B:\n    @property\n    def x(self): return k",
         "class D:\n    def __get__(self, o, t): return k\nclass C:\n    x = D()"],
        [["k = 1"], ["C.x"], ["C().x"], ["hasattr(A(), 'x')"], ["hasattr(B(), 'x')"], ["del A().x"], ["match B():\n    case B(x=1): ..."]]),
    "given by name": (["class F:\n    def __call__(self, x): return k\n    def write(self, t): k"],
                      [["k = 1"], ["sorted([1], key=F())"], ["print('x', file=F())"]]),
    "raising": (["class E(Exception):\n    def __init__(self): self.z = k"],
                [["k = 1"], ["try:\n    raise E\nexcept E: ..."]]),
    "texts": ([], [["a, b = 1, 2"], ["eval('a + b')"], ["exec('c = a')"], ["f'{c:>{b}}'"], ["globals()['a']"]]),
}  # fmt: skip


def _seen(names: set[str]) -> set[str]:
    return {name for name in names if not OF_IPYTHON.fullmatch(name)}


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_what_a_run_reads_and_assigns_was_told(name):
    """Each step of each small notebook: nothing is read or assigned that was not told."""
    setup, steps = NOTEBOOKS[name]
    for use, traced in zip(told(setup, steps), trace(setup, steps), strict=True):
        assert set() == traced.read - set(use.reads)
        assert set() == traced.assigned - set(use.assigns)
        assert set() == _seen(set(use.certain)) - traced.assigned


def test_little_is_told_that_no_run_reads():
    """At most one name in twenty, over all small notebooks."""
    known = over = 0
    for setup, steps in NOTEBOOKS.values():
        for use, traced in zip(told(setup, steps), trace(setup, steps), strict=True):
            known += len(use.reads)
            over += len(_seen(set(use.reads)) - traced.read)
    assert known > 150
    assert over <= known / 20


# Random programs

VARIABLES = st.sampled_from("abcd")
FUNCTIONS = st.sampled_from("fgh")
VALUES = st.deferred(
    lambda: (
        st.sampled_from(["0", "1", "[1, 2]", "[]"])
        | VARIABLES
        | st.builds("call({})".format, VARIABLES | FUNCTIONS)
        | st.builds("{}()".format, FUNCTIONS)
        | st.builds("[{} for i in (1, 2) if {}]".format, VALUES, VARIABLES)
        | st.builds("({} := {})".format, VARIABLES, VALUES)
        | st.builds("({} if {} else {})".format, VALUES, VARIABLES, VALUES)
        | st.builds("({} and {})".format, VALUES, VALUES)
        | st.builds("list({} for i in [1])".format, VALUES)
        | st.builds("{{'k': {}}}['k']".format, FUNCTIONS)
    )
)


def indented(lines: list[str]) -> str:
    return "\n".join("    " + line for text in lines for line in text.splitlines())


def blocks(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Give statements that have others inside."""
    body = st.lists(inner, min_size=1, max_size=3).map(indented)
    declared = st.sampled_from(["", "    global a\n", "    global b, c\n", "    global d\n"])
    return (
        st.builds("if {}:\n{}\nelse:\n{}".format, VALUES, body, body)
        | st.builds("for {} in {} or []:\n{}".format, VARIABLES, st.sampled_from(["[]", "[1, 2]"]), body)
        | st.builds("while True:\n{}\n    break".format, body)
        | st.builds("for i in (1, 2):\n{}\n    if {}: continue\n{}".format, body, VALUES, body)
        | st.builds("try:\n{}\nexcept (NameError, TypeError):\n{}".format, body, body)
        | st.builds("try:\n{}\nexcept (NameError, TypeError) as d:\n{}\nfinally:\n{}".format, body, body, body)
        | st.builds("def {}():\n{}{}\n    return {}".format, FUNCTIONS, declared, body, VALUES)
        | st.builds("class {}:\n{}\n    def __init__(self): self.x = {}".format, FUNCTIONS, body, VALUES)
    )


STATEMENTS = st.recursive(
    st.builds("{} = {}".format, VARIABLES | FUNCTIONS, VALUES)
    | st.builds("{} += {}".format, VARIABLES, VALUES)
    | st.builds("del {}".format, VARIABLES)
    | VALUES,
    blocks,
    max_leaves=8,
)


def compiles(source):
    """Tell whether Python takes the source: a name bound in a comprehension of a class body it does not."""
    try:
        return bool(syntax_tree(source).body)
    except SyntaxError:
        return False


CELLS = st.lists(STATEMENTS, min_size=1, max_size=4).map("\n".join).filter(compiles)
STEPS = st.lists(CELLS, min_size=2, max_size=4)
CALL = "left = 30\ndef call(x):\n    global left\n    left -= 1\n    return x() if callable(x) and left > 0 else x"


def as_told(steps):
    """Check that what programs read and assign was told, whatever they do, and wherever they fail."""
    setup, cells = [CALL], [[text] for text in steps]
    found = trace(setup, cells, to_the_end=False)
    for number, (use, traced) in enumerate(zip(told(setup, cells), found, strict=False)):
        assert set() == traced.read - set(use.reads)
        assert set() == traced.assigned - set(use.assigns)
        if number < len(found) - 1:
            assert set() == use.certain - traced.assigned


@settings(max_examples=40, deadline=None)
@given(steps=STEPS)
def test_what_random_programs_read_and_assign_was_told(steps):
    """Two to four steps of assignments, loops, functions, and errors."""
    as_told(steps)


@pytest.mark.long
@settings(max_examples=300, deadline=None)
@given(steps=STEPS)
def test_what_many_random_programs_read_and_assign_was_told(steps):
    """The same, more often."""
    as_told(steps)


# Time


DESCRIBING = (
    (Path(__file__).parent / "describing.py").read_text("utf-8").replace("from __future__", "# from __future__")
)
"""A function that calls itself from many branches, by functions inside of it and by generators."""


def followed(setup: str, *steps: str) -> tuple[int, list[Use]]:
    """Give how often a body was walked in all, and what is told."""
    walks = 0
    begin = Unit.begin

    def counted(unit: Unit) -> None:
        nonlocal walks
        walks += 1
        begin(unit)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Unit, "begin", counted)
        use = told([setup], [[step] for step in steps])
    return walks, use


def test_a_function_with_many_branches_is_walked_a_bounded_number_of_times():
    """Also if each step calls it with what holds functions, and it calls itself with that."""
    steps = [f"f{n} = lambda x: describe([x, f{n - 1}, k])\nprint(describe([f{n}]))" for n in range(1, 9)]
    walks, use = followed(DESCRIBING, "k = 1\nf0 = lambda: k", *steps)
    assert {"describe", "_own", "k", "f7"} <= set(use[-1].reads)
    assert walks < 2500


CALLS = {
    "a long circle": "def f{n}(x): return f{m}(x) + k{n}",
    "all call each other": "def f{n}(x): return [f(x) for f in ({all})] + [k{n}]",
    "each gives another": "def f{n}(x):\n    def g(): return k{n}\n    return g if x else f{m}(f{m})",
    "each assigns": "def f{n}(x):\n    global k{n}\n    k{n} = f{m}(k{n})\n    if x: f0(1)\n    return k{n}",
    "each deletes": "def f{n}(x):\n    global k{m}\n    k{n}\n    f{m}(x)\n    del k{m}",
}


@pytest.mark.parametrize("name", CALLS)
def test_three_hundred_functions_that_call_each_other_are_followed(name):
    """However deep, and each body a few times: all names that they read are told."""
    count = 300
    every = ", ".join(f"f{n}" for n in range(0, count, 10))
    source = "\n".join(CALLS[name].format(n=n, m=(n + 1) % count, all=every) for n in range(count))
    walks, (_, use) = followed(source, "".join(f"k{n} = {n}\n" for n in range(count)), "f0(1)\nf1(1)()")
    first = range(0, count, 10) if name == "all call each other" else range(count)
    assert {f"k{n}" for n in first} <= set(use.reads)
    assert walks < 50 * count


@pytest.mark.parametrize("depth", [18])
def test_blocks_inside_of_each_other_are_walked_once(depth):
    """Of loops and of ``finally``, too, which run several times."""
    loops = "".join("  " * n + f"for i{n} in x{n}:\n" + "  " * (n + 1) + f"f(i{n})\n" for n in range(depth))
    tries = "f(y)"
    for n in range(depth):
        inner = "\n".join("    " + line for line in tries.splitlines())
        tries = f"try:\n    f(a{n})\nfinally:\n{inner}"
    walks, (_, one, other) = followed("def f(x): return k", "k = 1", loops, tries)
    assert {f"x{n}" for n in range(depth)} | {"f", "k"} == set(one.reads)
    assert {f"a{n}" for n in range(depth)} | {"f", "k", "y"} == set(other.reads)
    assert walks < 20


def test_what_is_too_much_is_said_to_be_unknown(monkeypatch):
    """So there is an end for every notebook."""
    monkeypatch.setattr(calls, "MOST", 50)
    source = "\n".join(f"def f{n}(x): return f{(n + 1) % 60}(x)" for n in range(60))
    assert (
        Unknown(Place(2, 1), "more calls than are followed", reads=True, assigns=True) in one("f0(1)", source).unknown
    )


def test_forty_generators_that_are_given_each_other_are_walked_a_bounded_number_of_times():
    """They wait for each other, so that each is walked when much came together."""
    text = "def f{n}(x):\n    yield from sorted(f{a}(y) for y in x)\n    yield (z + k{n} for z in map(f{b}, x))"
    source = "\n".join(text.format(n=n, a=(n * 7 + 1) % 40, b=(n + 3) % 40) for n in range(40))
    walks, (_, use) = followed(source, "".join(f"k{n} = {n}\n" for n in range(40)), "list(f0([1]))")
    assert {"f0", "f1", "f8", "f17"} <= set(use.reads)
    assert walks < 3000


def test_two_hundred_instances_are_told_quickly():
    """Those that are made at many places are not told apart."""
    setup = (
        "class M:\n    def fit(self, d):\n        self.w = d\n        self.go(M())\n        return self\n"
        "    def go(self, o): return o.fit(self)"
    )
    text = "m{n} = M().fit(m{m})\nms = [m{n}, m{m}]\nfor m in ms: m.go(ms[0])"
    walks, use = followed(setup, *(text.format(n=n, m=max(n - 1, 0)) for n in range(200)))
    assert {"M", "m198"} == set(use[-1].reads)
    assert walks < 1000


def test_two_hundred_cells_are_told_quickly():
    """A fifth of a second is usual: the bound is generous, and still a fraction of what runs each body per call."""
    setup = "import pandas as pd\ndef load(p): return pd.read_csv(p)\nclass M:\n    def fit(self, d):\n        self.w = load(d)\n        return self"
    text = (
        "d{n} = load('{n}')\nm{n} = M().fit(d{n})\nfor x in d{n}:\n    print(x, m{n}.w)\n"
        "d{n}['a'] = d{n}.b.map(lambda v: v * {n}) + len(d{m})\ndef f{n}(x):\n    return load(x) + m{n}.w\nf{n}(3)"
    )
    walks, use = followed(setup, *(text.format(n=n, m=max(n - 1, 0)) for n in range(200)))
    assert {"M", "d198", "load", "pd"} == set(use[-1].reads)
    assert walks < 2000
