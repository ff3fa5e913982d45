"""Preloading is safe: what an import leaves behind is found, its module left out, and kernels come all the same."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
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
        "thread",
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
        "import atexit, os, sys\nowner = os.getpid()\nclass Finder:\n"
        "    def find_spec(self, *_):\n        while os.getpid() != owner: pass\n"
        "sys.meta_path.insert(0, Finder())",
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
SEEN = "[name for name in ('good_one', 'good_two', {names}) if name in __import__('sys').modules]"


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
            told = {name: eval(value["data"]["text/plain"]) for name, value in reply["content"]["user_expressions"].items()}
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
import importlib.util, os, sys, tempfile
said = os.memfd_create("said")
told = os.dup(1)
os.dup2(said, 1); os.dup2(said, 2)
os.chdir("/")
sys.path.insert(0, sys.argv[2])
exec(compile(open(sys.argv[1]).read().replace("main()\\n", "pass\\n", -1).rpartition("if __name__")[0], "template", "exec"))
why = ""
try:
    load(sys.argv[3])
except UnfitError as problem:
    why = problem.args[1]
os.write(told, why.encode())
os.killpg(0, 9)
"""
"""A process that imports one module as a template does, and tells why it is unfit."""


def loaded(folder: Path, module: str) -> str:
    """Tell why a module is unfit; empty: it is fit."""
    command = [sys.executable, "-c", LOAD, template.__file__, str(folder), module]
    done = subprocess.run(command, capture_output=True, text=True, start_new_session=True, timeout=20, check=False)
    return done.stdout


@pytest.mark.parametrize("name", LEAVE)
def test_what_an_import_leaves_behind_is_found(tmp_path, name):
    """Each by its kind."""
    source, words = LEAVE[name]
    (tmp_path / f"{name}.py").write_text(source.replace("{folder}", str(tmp_path)))
    assert words in loaded(tmp_path, name)


def test_a_module_that_only_computes_and_ends_what_it_starts_is_fit(tmp_path):
    """A thread that was joined, a process that was waited for, a file that was closed, a variable that is new."""
    (tmp_path / "tidy.py").write_text(
        "import os, subprocess, threading\n"
        "thread = threading.Thread(target=len, args=('',)); thread.start(); thread.join()\n"
        "subprocess.run(['true'])\n"
        "open('/dev/null', 'w').close()\n"
        "os.environ['ADDED_BY_TIDY'] = '1'\n"
    )
    assert "" == loaded(tmp_path, "tidy")
    assert "" == loaded(tmp_path, "no_such_module_at_all")  # a cell will say it better


# Culprits


@pytest.mark.parametrize(
    "name",
    [
        "prints",
        "crashes",
        "hangs_in_forks",
        *(pytest.param(n, marks=pytest.mark.long) for n in CULPRITS if n not in ("prints", "crashes", "hangs_in_forks")),
    ],
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


@pytest.mark.long
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(st.sampled_from([*GOOD, *CULPRITS]), min_size=1, max_size=5, unique=True))
def test_any_list_gives_kernels_that_have_exactly_its_good_modules(warm, modules):
    """Whatever is in it."""
    warm.plant(**{name: source for name, (source, _) in CULPRITS.items()})
    seen = warm.seen(modules)
    assert ([name for name in modules if name in GOOD], True) == (seen.answer, seen.forked)
