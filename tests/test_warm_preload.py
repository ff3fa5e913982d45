"""Preloading is safe: what an import leaves behind is found, its module left out, and kernels come all the same."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbflow.kernels import LocalKernels
from nbflow.kernels.warm import template, templates
from nbflow.libraries import KNOWN
from nbflow.notebooks import preload
from nbflow.notebooks.preload import imported
from nbflow.source import Cell

pytestmark = pytest.mark.skipif(not templates.SUPPORTED, reason="templates need Linux 5.3")

GOOD = {"good_one": "answer = 41", "good_two": "import json, collections\nanswer = 43"}

NATIVE = """
import ctypes, threading
system = ctypes.CDLL(None)
begin = ctypes.cast(system.pause, ctypes.c_void_p)
system.pthread_create(ctypes.byref(ctypes.c_ulong()), None, begin, None)
"""
HANDLER = """
import ctypes
system = ctypes.CDLL(None)
system.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
system.signal({number}, ctypes.cast(system.abs, ctypes.c_void_p))
"""

LEAVE = {
    "python_thread": (
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()",
        "a Python thread",
    ),
    "native_thread": (NATIVE, "a native thread"),
    "prints": ("print('hello')", "prints"),
    "prints_to_stderr": ("import sys\nprint('hello', file=sys.stderr)", "prints"),
    "warns": ("import warnings\nwarnings.warn('old')", "prints"),
    "warns_its_user": ("import warnings\nwarnings.warn('old', DeprecationWarning, stacklevel=2)", "prints"),
    "writes": ("import os\nos.write(1, b'hello')", "prints"),
    "writes_in_c": ("import ctypes\nctypes.CDLL(None).printf(b'hello')", "prints"),
    "opens_a_socket": ("import socket\nkept = socket.socket()", "an open socket or file"),
    "opens_an_eventfd": ("import ctypes\nkept = ctypes.CDLL(None).eventfd(0, 0)", "an open socket or file"),
    "opens_a_file": ("kept = open('{folder}/written', 'w')", "an open socket or file"),
    "starts_a_child": ("import subprocess\nkept = subprocess.Popen(['sleep', '60'])", "a child process"),
    "handles_a_signal": ("import signal\nsignal.signal(signal.SIGUSR1, print)", "a signal handler"),
    "handles_a_signal_in_c": (HANDLER.format(number=12), "a signal handler"),
    "takes_a_handler_in_c": (HANDLER.format(number=2), "a signal handler"),
    "blocks_a_signal": ("import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [10])", "the mask of signals"),
    "sets_the_locale": ("import locale\nlocale.setlocale(locale.LC_ALL, 'C.UTF-8')", "a locale"),
    "goes_elsewhere": ("import os\nos.chdir('/usr')", "the working directory"),
    "changes_the_path": ("import sys\nsys.path.append('/nowhere')", "the path of modules"),
    "hooks_exceptions": ("import sys\nsys.excepthook = print", "the hooks of the interpreter"),
    "takes_stdout": ("import io, sys\nsys.stdout = io.StringIO()", "the standard streams"),
    "redirects_stdout": ("import os\nos.dup2(os.open('/dev/null', os.O_WRONLY), 1)", "the standard streams"),
    "closes_stdout": ("import os\nos.close(1)", "breaks something"),
    "sets_a_variable": ("import os\nos.environ['HOME'] = '/nowhere'", "changes the environment"),
    "raises": ("1 / 0", "raises ZeroDivisionError"),
    "exits": ("import sys\nsys.exit('no')", "raises SystemExit"),
    "misses_and_leaves": ("print('hello')\nimport no_such_module_at_all", "prints"),
}
"""What is found right after the import, and the words for it."""

DIE = {
    "ends_the_process": ("import os\nos._exit(0)", "ends the process"),
    "crashes": ("import ctypes\nctypes.string_at(0)", "ends the process"),
    "sleeps_for_ever": ("import threading\nthreading.Event().wait()", "takes too long"),
    "never_gives_back": ("while True: pass", "takes too long"),
}
"""What takes the template with it."""

AFTER_A_FORK = {
    "hangs_in_forks": (
        "import os, threading\nos.register_at_fork(after_in_child=threading.Event().wait)",
        "hangs after a fork",
    ),
    "hangs_the_parent": (
        "import os, threading\nos.register_at_fork(after_in_parent=threading.Event().wait)",
        "takes too long",
    ),
    "dies_in_forks": ("import os\nos.register_at_fork(after_in_child=os.abort)", "fails after a fork (-6)"),
    "needs_its_process": (
        """
import os, sys
owner = os.getpid()
class Finder:
    def find_spec(self, *_):
        while os.getpid() != owner: pass
sys.meta_path.insert(0, Finder())
""",
        "hangs after a fork",
    ),
}
"""What only a kernel feels."""

PAIR = {
    "pair_lock": "import threading\nlock = threading.Lock()",
    "pair_user": "import os, pair_lock\nlock = pair_lock.lock\nlock.acquire()\n"
    "os.register_at_fork(after_in_child=lambda: pair_lock.lock.acquire())",
}
"""A lock that a fork never gets back; each alone is harmless, or so it seems."""

CULPRITS = {**LEAVE, **DIE, **AFTER_A_FORK}


@dataclass
class Warm:
    """Kernels that are forked, with modules that were written for it."""

    folder: Path
    cache: Path
    cwd: Path
    made: list[LocalKernels] = field(default_factory=list)

    def plant(self, **sources: str) -> None:
        """Write modules into a folder in which all kernels look."""
        for name, source in sources.items():
            (self.folder / f"{name}.py").write_text(source.replace("{folder}", str(self.folder)))

    @property
    def kernels(self) -> LocalKernels:
        """Those of one owner."""
        if not self.made:
            self.made.append(LocalKernels())
        return self.made[0]

    def another(self) -> None:
        """Be another owner from now on."""
        self.close()

    def close(self) -> None:
        """End all templates."""
        while self.made:
            self.made.pop().close()

    def ask(self, modules: list[str], expression: str, *cells: str) -> SimpleNamespace:
        """Run cells in a kernel and ask it; gives the answer, and whether the kernel was forked."""
        return asyncio.run(self._ask(modules, expression, cells))

    async def _ask(self, modules, expression, cells):
        kernel = await self.kernels.launch(
            "python3", cwd=self.cwd, env=dict(os.environ), heard=lambda text: None, preload=modules
        )
        try:
            await kernel.ready()
            for cell in cells:
                reply = await kernel.client.execute(cell, reply=True, timeout=30)
                assert reply["content"]["status"] == "ok", reply["content"]
            asked = {"answer": expression, "parent": "__import__('os').getppid()"}
            reply = await kernel.client.execute("", silent=True, user_expressions=asked, reply=True, timeout=30)
            told = {
                name: eval(value["data"]["text/plain"]) for name, value in reply["content"]["user_expressions"].items()
            }
            return SimpleNamespace(answer=told["answer"], forked=told["parent"] != os.getpid(), template=told["parent"])
        finally:
            await kernel.close()

    def seen(self, modules: list[str]) -> SimpleNamespace:
        """Tell which of these modules a kernel has from its start."""
        names = [name for name in modules if name.isidentifier()]
        return self.ask(modules, f"[n for n in {names!r} if n in __import__('sys').modules]")

    def culprits(self) -> dict[str, str]:
        """Give what is remembered: names and reasons."""
        folder = self.cache / "nbflow/preload/culprits"
        return {file.name.split()[0]: file.read_text() for file in folder.iterdir()} if folder.is_dir() else {}

    def sets(self) -> list[dict]:
        """Give what is remembered of sets of modules."""
        return [json.loads(file.read_text()) for file in (self.cache / "nbflow/preload").glob("*.json")]


@pytest.fixture
def warm(tmp_path, monkeypatch):
    """Kernels, and a folder of modules; time limits that tests can wait for."""
    folders = [tmp_path / name for name in ("modules", "cache", "work")]
    for folder in folders:
        folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(folders[0]))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folders[1]))
    monkeypatch.setattr(templates, "IMPORT_SECONDS", 1.5)
    monkeypatch.setattr(templates, "PROBE_SECONDS", 1.5)
    made = Warm(*folders)
    made.plant(**GOOD)
    yield made
    made.close()


# What an import leaves behind

LOAD = """
import os, sys
told = os.dup(1)
os.dup2(os.memfd_create("said"), 1)
os.dup2(1, 2)
os.chdir("/")
sys.path.insert(0, sys.argv[2])
exec(open(sys.argv[1]).read().rpartition("if __name__")[0])
for module in sys.argv[3:]:
    pid = os.fork()
    if pid == 0:
        os.setsid()
        why = ""
        try:
            load(module)
        except UnfitError as problem:
            why = problem.args[1]
        os.write(told, f"{module}: {why}\\n".encode())
        os.killpg(0, 9)
    os.waitpid(pid, 0)
"""
"""A process that imports modules as a template does, each in a fork of its own, and tells why it is unfit."""

TIDY = """
import os, subprocess, threading
thread = threading.Thread(target=len, args=("",))
thread.start()
thread.join()
subprocess.run(["true"])
open("/dev/null", "w").close()
os.environ["ADDED_BY_TIDY"] = "1"
"""


@pytest.fixture(scope="module")
def reasons(tmp_path_factory) -> dict[str, str]:
    """Why each module that leaves something behind is unfit; empty: it is fit."""
    folder = tmp_path_factory.mktemp("modules")
    Warm(folder, folder, folder).plant(tidy=TIDY, **{name: source for name, (source, _) in LEAVE.items()})
    command = [sys.executable, "-c", LOAD, template.__file__, str(folder), *LEAVE, "tidy", "no_such_module_at_all"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    return dict(line.split(": ", 1) for line in done.stdout.splitlines())


@pytest.mark.parametrize("name", LEAVE)
def test_what_an_import_leaves_behind_is_found(reasons, name):
    """Each by its kind."""
    assert LEAVE[name][1] in reasons[name]


def test_a_module_that_ends_what_it_starts_is_fit(reasons):
    """A thread was joined, a process waited for, a file closed, a variable is new; what is missing a cell says."""
    assert ("", "") == (reasons["tidy"], reasons["no_such_module_at_all"])


# Culprits


CHAIN = ("native_thread", "prints", "starts_a_child", "blocks_a_signal", "takes_stdout", "closes_stdout", "exits")
"""Of those that are found at once, some: what differs between them is only the reason."""


@pytest.mark.parametrize(
    "name",
    ["crashes", *(pytest.param(n, marks=pytest.mark.long) for n in (*CHAIN, *DIE, *AFTER_A_FORK) if n != "crashes")],
)
def test_a_culprit_is_left_out_and_remembered(warm, name):
    """The kernel comes, with the other modules; the next owner's template does not even try it."""
    source, words = CULPRITS[name]
    tried = warm.folder / "tried"
    warm.plant(**{name: f"open({str(tried)!r}, 'a').close()\n{source}"})
    modules = ["good_one", name, "good_two"]
    seen = warm.seen(modules)
    assert (["good_one", "good_two"], True) == (seen.answer, seen.forked)
    assert words in warm.culprits()[name]
    assert [name] == list(warm.culprits())
    tried.unlink()
    warm.another()
    again = warm.seen(modules)
    assert (["good_one", "good_two"], True) == (again.answer, again.forked)
    assert not tried.exists()


@pytest.mark.long
def test_many_culprits_in_one_list_are_all_left_out(warm):
    """One after the other."""
    names = ["raises", "ends_the_process", "opens_a_socket", "starts_a_child"]
    warm.plant(**{name: CULPRITS[name][0] for name in names})
    seen = warm.seen(["good_one", *names, "good_two"])
    assert (["good_one", "good_two"], True) == (seen.answer, seen.forked)
    assert set(names) == set(warm.culprits())


@pytest.mark.long
def test_a_new_version_of_a_culprit_is_tried_again(warm):
    """In the same owner as well."""
    warm.plant(mended="print('hello')")
    assert [] == warm.seen(["mended"]).answer
    warm.plant(mended="answer = 1  # it is quiet now")
    warm.another()
    assert ["mended"] == warm.seen(["mended"]).answer


@pytest.mark.long
def test_modules_that_hang_only_together_leave_a_kernel_that_comes(warm):
    """The one that came last is blamed."""
    warm.plant(**PAIR)
    seen = warm.seen(["good_one", *PAIR])
    assert (["good_one", "pair_lock"], True) == (seen.answer, seen.forked)
    assert "hangs after a fork" in warm.culprits()["pair_user"]


@pytest.mark.long
def test_where_no_kernel_can_be_forked_nobody_is_blamed_and_kernels_start_cold(warm):
    """Something else is wrong: here, each fork of the interpreter itself ends."""
    warm.plant(sitecustomize="import os\nos.register_at_fork(after_in_child=lambda: os._exit(3))")
    seen = warm.ask(["good_one"], "__import__('good_one').answer")
    assert (41, False) == (seen.answer, seen.forked)
    assert {} == warm.culprits()


@pytest.mark.long
def test_a_library_that_breaks_only_once_kernels_are_forked_is_found_by_the_next_template(warm):
    """It passed the probe: the kernel dies before it listens, and what comes next looks closer."""
    flag = warm.folder / "flag"
    warm.plant(
        late=f"import os\nos.register_at_fork(after_in_child=lambda: os.path.exists({str(flag)!r}) and os.abort())"
    )
    assert ["late"] == warm.seen(["late"]).answer
    flag.touch()
    seen = warm.seen(["late", "good_one"][:1])
    assert ([], True) == (seen.answer, seen.forked)
    assert ["late"] == list(warm.culprits())


SOME = ("prints", "opens_a_socket", "raises", "starts_a_child", "ends_the_process", "sleeps_for_ever", "hangs_in_forks")


@pytest.mark.long
@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(st.sampled_from([*GOOD, *SOME]), min_size=1, max_size=5, unique=True))
def test_any_list_gives_kernels_that_have_exactly_its_good_modules(warm, modules):
    """Whatever is in it; nothing is known from before."""
    warm.another()
    shutil.rmtree(warm.cache / "nbflow", ignore_errors=True)
    warm.plant(**{name: CULPRITS[name][0] for name in SOME})
    seen = warm.seen(modules)
    assert ([name for name in modules if name in GOOD], True) == (seen.answer, seen.forked)
    assert {name for name in modules if name in SOME} == set(warm.culprits())


# What cells import


def cells(*sources: str, **tags: str) -> list[Cell]:
    """Give cells with these sources."""
    return [Cell(n, n - 1, source, frozenset(), "", None) for n, source in enumerate(sources, 1)]


@pytest.mark.parametrize(
    ("source", "modules"),
    [
        ("import numpy", "numpy"),
        ("import numpy as np, pandas as pd", "numpy pandas"),
        ("import matplotlib.pyplot as plt", "matplotlib.pyplot"),
        ("from scipy import stats as s, optimize", "scipy scipy.stats scipy.optimize"),
        ("from pandas import *", "pandas"),
        ("from . import numpy\nfrom .pandas import x", ""),
        ("import os, json, mine, torch, polars", ""),
        ("try:\n    import seaborn\nexcept ImportError:\n    seaborn = None", "seaborn"),
        ("if True:\n    import numpy\nelse:\n    import pandas", "numpy pandas"),
        ("for _ in [1]:\n    import numpy", "numpy"),
        ("class A:\n    import numpy", "numpy"),
        ("def f():\n    import numpy\nasync def g():\n    import pandas", ""),
        ("%matplotlib inline\nimport numpy", "numpy"),
        ("%load_ext autoreload\n%autoreload 2\nimport numpy", "numpy"),
        ("%%time\nimport numpy", "numpy"),
        ("x = !ls\nimport numpy", "numpy"),
        ("numpy?\nimport numpy", "numpy"),
        ("%%bash\nimport numpy", ""),
        ("%%R\nimport numpy", ""),
        ("await f()\nimport numpy", "numpy"),
        ("import numpy as n; import os; os.environ['A'] = '1'; import pandas", ""),
    ],
)
def test_cells_say_what_they_import(source, modules):
    """Known libraries, as they are written; nobody knows when a function is called, and whether."""
    assert tuple(modules.split()) == imported(cells(source))


@pytest.mark.parametrize(
    "change",
    [
        "os.environ['A'] = '1'",
        "del os.environ['A']",
        "os.environ.update(A='1')",
        "os.environ.setdefault('A', '1')",
        "os.environ.pop('A', None)",
        "os.environ.clear()",
        "os.environ |= {'A': '1'}",
        "os.environ = {}",
        "environ['A'] = '1'",
        "environ |= {}",
        "e = os.environ",
        "f(os.environ)",
        "o.environb[b'A'] = b'1'",
        "os.putenv('A', '1')",
        "unsetenv('A')",
        "setattr(os, 'environ', {})",
        "monkeypatch.setenv('A', '1')",
        "patch.dict(os.environ, {})",
        "mock.patch.dict('os.environ', {})",
        "def f():\n    os.environ['A'] = '1'",
        "if x:\n    os.environ['A'] = '1'",
        "load_dotenv()",
        "dotenv.load_dotenv('x')",
        "%env A=1",
        "%set_env A 1",
        "x = %env A",
        "%dotenv",
        "%cd ..",
        "%run setup.py",
        "get_ipython().run_line_magic('env', 'A=1')",
        "get_ipython().magic('%cd ..')",
        "!pip install x",
        "x = !pip install x",
        "if x:\n    !pip install x",
        "!{sys.executable} -m pip install x",
        "%pip install x",
        "%conda install x",
        "!uv add x",
        "%%bash\npip install x",
        "%%sh\nconda install x",
        "os.system('pip install x')",
        "subprocess.run(['pip', 'install', 'x'])",
        "get_ipython().system('pip install x')",
        "sys.path.append('x')",
        "sys.path.insert(0, 'x')",
        "sys.path += ['x']",
        "sys.path[:0] = ['x']",
        "sys.path = []",
        "from sys import path",
        "sys.modules['numpy'] = None",
        "del sys.modules['numpy']",
        "sys.meta_path.insert(0, x)",
        "site.addsitedir('x')",
        "os.chdir('x')",
        "chdir('x')",
        "matplotlib.use('Agg')",
        "mpl.use('Agg')",
        "importlib.reload(x)",
        "exec(x)",
        "runpy.run_path('x')",
        "os.sched_setaffinity(0, {0})",
        "import scipy as (",
        "import scipy on monday",
        "scipy <- import('scipy') -> y",
    ],
)
def test_what_stands_behind_a_change_is_not_preloaded(change):
    """The environment, the directory, where modules are found, what is installed; what does not parse fails."""
    assert ("numpy",) == imported(cells("import numpy", change, "import pandas"))


@pytest.mark.parametrize(
    "harmless",
    [
        "x = os.environ['A']",
        "x = os.environ.get('A')",
        "x = {**os.environ, 'A': '1'}",
        "x = os.environ.copy()",
        "'A' in os.environ",
        "print(dict(os.environ))",
        "for x in os.environ: pass",
        "print(sys.path)",
        "x = sys.path[0]",
        "x = os.path.join('a', 'b')",
        "path = 'x'\npath.parent",
        "f(sys.argv)",
        "plt.style.use('ggplot')",
        "x.path.append(1)",
        "# pip install x",
        "!ls",
        "%%html\n<b>install</b>",
        "ax.add_patch(patches.Circle())",
        "",
    ],
)
def test_what_only_looks_changes_nothing(harmless):
    """Reading the environment is no reason to stop."""
    assert ("numpy", "pandas") == imported(cells("import numpy", harmless, "import pandas"))


def test_within_a_cell_what_stands_above_a_change_counts():
    """Line by line."""
    source = "import numpy\n%env A=1\nimport pandas"
    assert ("numpy",) == imported(cells(source, "import scipy"))


def test_a_cell_that_never_runs_neither_imports_nor_changes():
    """Its tag says so; the cell of parameters runs like others."""
    skipped = Cell(1, 0, "import scipy\nos.chdir('x')", frozenset({"skip-execution"}), "", None)
    parameters = Cell(2, 1, "import numpy\nn = 1", frozenset({"parameters"}), "", None)
    assert ("numpy", "pandas") == imported([skipped, parameters, *cells("import pandas")])


def test_a_long_notebook_is_read_once_and_quickly():
    """Most cells need not be parsed, and every attempt asks: counted, not timed."""
    text = "\n".join(f"total_{n} = frame.groupby('a')[['b', 'c']].sum().reset_index()" for n in range(20))
    many = cells("import numpy", *[text] * 498, "import pandas")
    preload._imported.cache_clear()
    parsed = []
    original = preload.cell_tree
    try:
        preload.cell_tree = lambda source: parsed.append(1) or original(source)
        assert ("numpy", "pandas") == imported(many) == imported(list(many))
    finally:
        preload.cell_tree = original
    assert 2 == len(parsed)


# GPU


def test_what_holds_a_gpu_is_neither_known_nor_learned():
    """Nor what starts threads at its import."""
    known = frozenset(KNOWN)
    for library in ("torch", "tensorflow", "jax", "jaxlib", "cupy", "numba", "polars", "keras", "cudf", "paddle"):
        assert library not in known
        assert not template.may_be_learned(library, known)
        assert not template.may_be_learned(f"{library}.nn", known)
    assert template.may_be_learned("pandas.io.excel", known)
    assert template.may_be_learned("sqlite3", known)
    assert not template.may_be_learned("mine", known)


# What is remembered


def learned(warm: Warm) -> set[str]:
    """Give what templates have learned from kernels."""
    return {name for remembered in warm.sets() for name in remembered["learned"]}


@pytest.mark.parametrize(
    ("preload", "found"),
    [(["*", "good_one"], ["yaml", "plistlib"]), pytest.param(["good_one"], ["plistlib"], marks=pytest.mark.long)],
)
def test_what_a_kernel_imports_late_is_there_in_later_kernels(warm, until, preload, found):
    """Libraries only where nobody said which; never what only this folder has, nor what a cell made."""
    late = "[n for n in ('yaml', 'plistlib', 'own', 'good_two', 'wave') if n in __import__('sys').modules]"
    (warm.cwd / "own.py").write_text("")
    cell = "import sys, types, yaml, plistlib, own, good_two\nsys.modules['wave'] = types.ModuleType('wave')"
    assert [] == warm.ask(preload, late).answer
    warm.ask(preload, "1", cell)
    until(lambda: {*found} <= learned(warm))
    assert found == warm.ask(preload, late).answer
    assert {*found} == {"yaml", "plistlib", "own", "good_two", "wave"} & learned(warm)
    warm.another()
    assert found == warm.ask(preload, late).answer


@pytest.mark.long
@pytest.mark.parametrize(
    "change",
    [
        "import os; os.environ['MPLCONFIGDIR'] = '/tmp'",
        "import sys; sys.path.insert(0, '/tmp')",
        "import os; os.chdir('/')",
    ],
)
def test_a_kernel_that_changed_what_imports_depend_on_teaches_nothing(warm, change):
    """What it imported afterwards may be something else than others would get."""
    seen = warm.ask(["good_one"], "1", f"{change}\nimport yaml, plistlib")
    warm.ask(["good_one"], "1")  # until then the template has heard of the end of the first
    assert seen.forked
    assert not {"yaml", "plistlib"} & learned(warm)


@pytest.mark.long
def test_a_module_in_the_kernels_directory_is_never_hidden_by_a_learned_one(warm, until):
    """The kernel starts cold, and has what a cold one has: IPython looks there before it looks at libraries."""
    names = ["code", "plistlib", "yaml", "dateutil"]
    which = f"[getattr(__import__(name), 'own', False) for name in {names}]"
    assert [False] * 4 == warm.ask(["good_one"], which).answer
    until(lambda: "plistlib" in learned(warm))
    (warm.cwd / "code.py").write_text("own = True")
    (warm.cwd / "plistlib.py").write_text("own = True")
    (warm.cwd / "yaml.py").write_text("own = True")
    (warm.cwd / "dateutil").mkdir()
    (warm.cwd / "dateutil/__init__.py").write_text("own = True")
    cold, seen = warm.ask(None, which), warm.ask(["good_one"], which)
    assert not cold.forked
    assert not seen.forked
    assert cold.answer == seen.answer
    assert [True] == seen.answer[2:3]


@pytest.mark.long
def test_an_unfit_module_is_not_learned(warm, until):
    """A part of a known library that leaves a thread: no more kernels from that template, and never again."""
    site = warm.folder / "site-packages"
    (site / "yaml").mkdir(parents=True)
    (site / "yaml/__init__.py").write_text("")
    (site / "yaml/loud.py").write_text(LEAVE["python_thread"][0])
    os.environ["PYTHONPATH"] = f"{warm.folder}:{site}"  # the fixture puts it back
    first = warm.ask(["yaml"], "1", "import yaml.loud")
    until(warm.culprits)
    second = warm.ask(["yaml"], "'yaml.loud' in __import__('sys').modules", "import yaml.loud")
    third = warm.ask(["yaml"], "'yaml.loud' in __import__('sys').modules")
    assert first.template != second.template == third.template
    assert third.forked
    assert not third.answer
    assert "a Python thread" in warm.culprits()["yaml.loud"]
    assert "yaml.loud" not in learned(warm)


@pytest.mark.long
def test_of_a_library_that_is_not_learned_no_other_part_is_tried(warm, until):
    """One that changes which warnings are shown costs one template, not one a part; who names it has it preloaded."""
    which = "[n for n in ('plistlib', 'urllib3') if n in __import__('sys').modules]"
    first = warm.ask(["good_one"], which, "import requests, plistlib")
    until(warm.culprits)
    second = warm.ask(["good_one"], which, "import requests, plistlib")
    until(lambda: "plistlib" in learned(warm))
    third = warm.ask(["good_one"], which)
    assert first.template != second.template == third.template
    assert ["plistlib"] == third.answer
    assert ["~urllib3"] == list(warm.culprits())
    assert "urllib3" in warm.ask(["urllib3"], which).answer


@pytest.mark.parametrize("content", [b"", b"{", b"[[" * 9000, b"\xff\xfe", b'{"learned": 3, "probed": true}', b"[]"])
def test_notes_that_cannot_be_read_are_no_notes(tmp_path, content):
    """Of whatever kind."""
    notes = template.Notes(str(tmp_path), ["a"], {})
    notes.remember(learned=["json"], probed=["a 1"])
    (file,) = tmp_path.glob("*.json")
    file.write_bytes(content)
    again = template.Notes(str(tmp_path), ["a"], {})
    assert ([], []) == (again.learned, again.probed)


@pytest.mark.long
def test_a_cache_that_cannot_be_written_hinders_nobody(warm, tmp_path):
    """What cannot be remembered on disk is remembered by the owner: a culprit is tried once."""
    (warm.cache / "nbflow").write_text("a file where the folder should be")
    tried = warm.folder / "tried"
    warm.plant(loud=f"open({str(tried)!r}, 'a').write('x')\nprint('hello')")
    for _ in range(2):
        seen = warm.seen(["good_one", "loud"])
        assert (["good_one"], True) == (seen.answer, seen.forked)
    assert "x" == tried.read_text()


def test_a_full_disk_leaves_no_half_written_notes(tmp_path):
    """The file that was begun is gone; a culprit is known in this process all the same."""
    command = (
        "import resource, signal, sys; from nbflow.kernels.warm import template\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "notes = template.Notes(sys.argv[1], [], {}); notes.remember(learned=['json'])\n"
        "notes.blame(template.with_version('json'), 'no'); sys.exit(not notes.culprit('json'))\n"
    )
    subprocess.run([sys.executable, "-c", command, str(tmp_path)], check=True, timeout=20)
    assert [] == [file for file in tmp_path.rglob("*") if file.is_file()]


def test_templates_that_write_at_once_lose_no_culprit(tmp_path):
    """Each has a file of its own; what is there is always whole."""
    both = [template.Notes(str(tmp_path), ["a"], {}) for _ in range(2)]
    for number in range(20):
        for who, notes in enumerate(both):
            notes.blame(f"module_{who}_{number} 1", "no")
            notes.remember(learned=["json"] * (number + 1), probed=[])
    assert 40 == len(list((tmp_path / "culprits").iterdir()))
    assert ["json"] * 20 == template.Notes(str(tmp_path), ["a"], {}).learned


# What makes a template old


@pytest.mark.long
def test_a_template_is_old_when_something_was_installed(warm):
    """By a step, while it lives."""
    site = warm.folder / "site-packages"
    site.mkdir()
    os.environ["PYTHONPATH"] = f"{warm.folder}:{site}"  # the fixture puts it back
    (site / "planted.py").write_text("answer = 1")
    first = warm.ask(["planted"], "__import__('planted').answer")
    (site / "planted.py").write_text("answer = 20000")
    os.utime(site, ns=(1, 1))
    second = warm.ask(["planted"], "__import__('planted').answer")
    assert (1, 20000, True) == (first.answer, second.answer, second.forked)


@pytest.mark.long
def test_a_template_is_old_when_a_module_that_somebody_works_at_has_changed(warm):
    """Between two items; it comes from no folder of libraries."""
    first = warm.ask(["good_one"], "__import__('good_one').answer")
    warm.plant(good_one="answer = 'another'")
    second = warm.ask(["good_one"], "__import__('good_one').answer")
    assert (41, "another", True) == (first.answer, second.answer, second.forked)


@pytest.mark.long
def test_a_template_is_old_in_another_control_group(warm, monkeypatch):
    """Its kernels would be counted elsewhere: when the owner was moved, it has a new one, or a cold kernel."""
    first = warm.ask(["good_one"], "1")
    circumstances = templates._circumstances
    monkeypatch.setattr(templates, "_circumstances", lambda: {**circumstances(), "cgroup": "0::/elsewhere\n"})
    moved = warm.ask(["good_one"], "1")
    assert (True, False) == (first.forked, moved.forked)


@pytest.mark.long
def test_an_idle_template_ends_and_the_next_kernel_has_a_new_one(warm, monkeypatch, until):
    """Its owner need not do anything."""
    monkeypatch.setattr(templates, "IDLE_SECONDS", 0.05)
    first = warm.ask(["good_one"], "1")
    until(lambda: not warm.kernels._templates.pids())
    second = warm.ask(["good_one"], "1")
    assert first.template != second.template
    assert second.forked
