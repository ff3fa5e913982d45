"""The template: a process that has imported a kernel once, and forks a fresh one whenever it is asked.

The kernel's own interpreter runs this file, and its environment need not have nbflow: standard library and ipykernel
only, Linux, Python 3.9. It is asked over a socket that it inherits; for each kernel it gets the end of a channel:

    asked        descriptors: channel, stdin, stdout, stderr, and a file with the request as JSON
    on a channel {"pid"} with a pidfd, {"bound"}: the kernel listens, {"exit"}: its code; or {"no"}: why there is none

The channel is also the kernel's life line: when the owner's end closes, by whatever death, Linux kills the kernel's
process group. So nobody ever writes to it from the owner's side. Nothing computes here: importing is harmless, and
what a library computes may start threads that a fork would lose.
"""

from __future__ import annotations

import array
import atexit
import builtins
import contextlib
import copy
import fcntl
import functools
import gc
import hashlib
import importlib
import importlib.machinery
import importlib.util
import io
import itertools
import json
import locale
import mmap
import os
import random
import resource
import select
import signal
import socket
import struct
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, cast

FORGIVEN = 7 * 86400.0
"""Seconds after which a culprit is tried again: it may have been an accident, on a busy machine."""

LESSON = 4096
"""Bytes for what the owner should know."""

LATE = "~"
"""What stands before the names of culprits that only are not learned: a cell may import them, and wants all of it."""

TRY_SECONDS = 1.0
"""How long it may take to make a kernel for comparison; kernels that end meanwhile wait to be heard."""

MODULES = frozenset(importlib.machinery.all_suffixes())
"""How the names of files with modules end."""

LEARNED = 1 << 17
"""Bytes in which a kernel that ends names what it imported."""

FAMILY = frozenset(
    {
        "anyio",
        "asttokens",
        "certifi",
        "charset_normalizer",
        "comm",
        "cycler",
        "dateutil",
        "decorator",
        "executing",
        "fontTools",
        "greenlet",
        "h11",
        "httpcore",
        "idna",
        "ipykernel",
        "IPython",
        "jedi",
        "jupyter_client",
        "jupyter_core",
        "kiwisolver",
        "packaging",
        "parso",
        "PIL",
        "platformdirs",
        "prompt_toolkit",
        "psutil",
        "pure_eval",
        "pygments",
        "pyparsing",
        "pytz",
        "six",
        "sniffio",
        "stack_data",
        "threadpoolctl",
        "tornado",
        "traitlets",
        "typing_extensions",
        "tzdata",
        "urllib3",
        "wcwidth",
        "zmq",
    }
)
"""What kernels and the known libraries import themselves, often late."""

NEVER = frozenset(
    {
        "antigravity",
        "debugpy",
        "idlelib",
        "IPython.core.pylabtools",
        "lib2to3",
        "matplotlib_inline",
        "pty",
        "pydoc_data",
        "readline",
        "rlcompleter",
        "test",
        "this",
        "tkinter",
        "turtle",
    }
)
"""Importing these does something: it draws, prints, or looks which shell there is."""


class UnfitError(Exception):
    """The modules cannot all be imported in a template; carries the module and the reason."""


# What an import may leave behind


_counted: dict[frozenset[str], int] = {}


def _threads() -> int:
    """Count the native threads that nobody accounts for."""
    tasks = frozenset(os.listdir("/proc/self/task"))
    if tasks not in _counted:
        _counted.clear()
        names = []
        for task in tasks:
            with contextlib.suppress(OSError), open(f"/proc/self/task/{task}/comm") as file:
                names.append(file.read().strip())
        jemalloc = sum(name.startswith("jemalloc_bg") for name in names)
        _counted[tasks] = max(0, len(names) - 1 - jemalloc - _blas_threads())
    return _counted[tasks]


def _blas_threads() -> int:
    """Count the threads of the OpenBLAS libraries that are loaded: those know how to be forked."""
    libraries = set()
    with open("/proc/self/maps") as file:
        for line in file:
            if "openblas" in line:
                libraries.add(line.split(maxsplit=5)[-1].strip())
    if not libraries:
        return 0
    import ctypes

    count = 0
    for path in libraries:
        with contextlib.suppress(OSError):
            library = ctypes.CDLL(path)
            for prefix in ("scipy_openblas", "openblas"):
                for suffix in ("64_", "_64_", "64", "_", ""):
                    ask = getattr(library, f"{prefix}_get_num_threads{suffix}", None)
                    if ask is not None:
                        count += max(0, ask() - 1)
                        break
                else:
                    continue
                break
    return count


def _descriptors() -> set[str]:
    """Name the open descriptors that a fork would share with its siblings."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{name}")
            if not target.startswith("/"):
                found.add(f"{name} {target}")
            elif not target.startswith(("/dev/", "/memfd:")):
                flags = fcntl.fcntl(int(name), fcntl.F_GETFL) & os.O_ACCMODE
                if flags != os.O_RDONLY:
                    found.add(f"{name} {target}")
    return found


def _children() -> set[str]:
    found: set[str] = set()
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError), open(f"/proc/self/task/{task}/children") as file:
            found.update(file.read().split())
    return found


def _signals() -> list[bytes]:
    """Give what handles each signal, whoever said so: Python or a library in C."""
    import ctypes

    system, action = ctypes.CDLL(None), ctypes.create_string_buffer(256)
    numbers = range(1, signal.NSIG)  # two are the C library's own
    return [action.raw[:8] for number in numbers if system.sigaction(number, None, action) == 0]


def _streams() -> list[tuple[int, int]]:
    """Give what stands behind stdin, stdout and stderr."""
    return [(status.st_dev, status.st_ino) for status in map(os.fstat, (0, 1, 2))]


class Shell:
    """What stands for a kernel's shell while modules are imported: pandas only looks whether there is a kernel."""

    kernel = None

    def __init__(self) -> None:
        self.asked = 0
        """How often something else was wanted of it."""

    def __getattr__(self, name: str) -> Any:
        self.asked += 1
        raise AttributeError(name)

    def initialized(self) -> bool:
        """Give what IPython's own shell would say; pyplot may ask, for it is asked again in a kernel."""
        frame = sys._getframe(2)  # noqa: SLF001 - who asked IPython
        self.asked += frame.f_globals.get("__name__") != "matplotlib.pyplot"
        return False


SHELL = Shell()


@contextlib.contextmanager
def _as_in_a_kernel() -> Iterator[None]:
    """Have what libraries see at their import in a kernel; what they add to the environment stays."""
    if hasattr(builtins, "get_ipython"):  # so it is
        yield
        return
    own = {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    given = {name: value for name, value in own.items() if name not in os.environ}
    os.environ.update(given)
    from ipykernel.zmqshell import InteractiveShell

    stdout = cast("io.TextIOWrapper", sys.stdout)
    encoding, errors = stdout.encoding, stdout.errors
    stdout.reconfigure(encoding="UTF-8", errors=errors)
    builtins.get_ipython = lambda: SHELL  # type: ignore[attr-defined]
    InteractiveShell.initialized = SHELL.initialized
    try:
        yield
    finally:
        without_shell()
        stdout.reconfigure(encoding=encoding, errors=errors)
        for name in given:
            os.environ.pop(name, None)


def without_shell() -> None:
    """Take away what stands for a shell: now there will be one."""
    from ipykernel.zmqshell import InteractiveShell

    for place, name in ((builtins, "get_ipython"), (InteractiveShell, "initialized")):
        if name in vars(place):
            delattr(place, name)


def _look() -> dict[str, object]:
    """Tell what an import must not change; the keys are the words for it."""
    return {
        "a Python thread": [thread.ident for thread in threading.enumerate()],
        "a native thread that is not known": _threads(),
        "an open socket or file": _descriptors(),
        "a child process": _children(),
        "a signal handler": (_signals(), [signal.getsignal(number) for number in signal.valid_signals()]),
        "the mask of signals": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "a locale": locale.setlocale(locale.LC_ALL, None),
        "the working directory": os.getcwd(),
        "the path of modules": list(sys.path),
        "the hooks of the interpreter": (sys.excepthook, sys.displayhook, sys.unraisablehook, threading.excepthook),
        "the standard streams": (sys.stdin, sys.stdout, sys.stderr, _streams()),
    }


def _said() -> int:
    """Give how much was printed so far."""
    import ctypes

    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    ctypes.CDLL(None).fflush(None)  # what a library in C printed
    return os.lseek(1, 0, os.SEEK_END)


@functools.cache
def _version(library: str) -> str:
    """Tell one version of a library from another, and that of another interpreter, without importing it."""
    spec = None
    with contextlib.suppress(Exception):  # a finder that fails finds nothing
        spec = importlib.util.find_spec(library)
    about: list[object] = [sys.version, spec and spec.origin]
    with contextlib.suppress(OSError, TypeError, AttributeError):
        status = os.stat(spec.origin)  # type: ignore[union-attr,arg-type]
        about += [status.st_mtime_ns, status.st_size]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:12]


def with_version(module: str) -> str:
    """Give a module's name with the version of its library."""
    return f"{module} {_version(module.partition('.')[0])}"


def _sites() -> list[str]:
    """Give the folders into which libraries are installed."""
    return [folder for folder in sys.path if folder.rstrip("/").endswith(("site-packages", "dist-packages"))]


def _changed() -> list[int]:
    """Give when something was last installed."""
    times = []
    for path in _sites():
        with contextlib.suppress(OSError):
            times.append(os.stat(path).st_mtime_ns)
    return times


def _stamp(file: str) -> tuple[int, int]:
    """Tell whether a file is still the same."""
    with contextlib.suppress(OSError):
        status = os.stat(file)
        return status.st_mtime_ns, status.st_size
    return 0, 0


def _own_files() -> dict[str, tuple[int, int]]:
    """Give the files of the modules that somebody works at: they come from no folder of libraries."""
    libraries = tuple(os.path.join(folder, "") for folder in [*_sites(), os.path.dirname(os.__file__)])
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    return {
        file: _stamp(file)
        for file in files
        if isinstance(file, str) and file != __file__ and not file.startswith(libraries)
    }


_REMEMBERED = ("learned", "probed", "alike")


class Notes:
    """What is remembered of modules between templates, in the user's cache folder: culprits by name and version,
    and for each set of modules that it passed the probe, and what its kernels imported later.

    A culprit is a file of its own, so templates that write at the same time take nothing from each other.

    Parameters
    ----------
    folder : str
        The folder; made when something is to be remembered.
    about : list
        What the set of modules depends on.
    culprits : mapping of str to str
        Culprits that are known already, with their versions, and why.
    """

    def __init__(self, folder: str, about: object, culprits: dict[str, str]) -> None:
        self._folder = folder
        about = [sys.version, sys.prefix, *_sites(), *_changed(), about]
        name = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:24]
        self._set = os.path.join(folder, f"{name}.json")
        self._culprits: set[str] = set()
        with contextlib.suppress(OSError), os.scandir(os.path.join(folder, "culprits")) as entries:
            late = time.time() - FORGIVEN
            self._culprits.update(entry.name for entry in entries if entry.stat().st_mtime > late)
        for culprit, why in culprits.items():
            self.blame(culprit, why)
        found = self._read()
        self.learned = found.get("learned", [])
        """What kernels imported later."""
        self.probed = found.get("probed", [])
        """The modules, with their versions, that passed the probe together."""
        self.alike = found.get("alike", [])
        """Digests of arguments, and of what is not installed: such kernels are the same when they are made ready."""

    def culprit(self, module: str, mark: str = "") -> bool:
        """Tell whether this module is not imported here; with the mark LATE: not without having been asked for."""
        named = any(culprit.partition(" ")[0] == mark + module for culprit in self._culprits)
        return named and mark + with_version(module) in self._culprits

    def blame(self, culprit: str, why: str) -> None:
        """Remember a culprit, given with its version."""
        if culprit not in self._culprits:
            self._culprits.add(culprit)
            self._write(os.path.join(self._folder, "culprits", culprit), why)

    def remember(
        self, *, learned: list[str] | None = None, probed: list[str] | None = None, alike: list[str] | None = None
    ) -> None:
        """Remember something of this set of modules."""
        self.learned = self.learned if learned is None else learned
        self.probed = self.probed if probed is None else probed
        self.alike = self.alike if alike is None else alike
        self._write(self._set, json.dumps({name: getattr(self, name) for name in _REMEMBERED}))

    def _read(self) -> dict[str, list[str]]:
        try:
            with open(self._set, encoding="utf-8") as file:
                found = json.load(file)
        except (OSError, ValueError, RecursionError):  # nothing is remembered, or nothing that can be read
            return {}
        if not isinstance(found, dict):
            return {}
        return {name: words(found.get(name)) for name in _REMEMBERED}

    def _write(self, path: str, content: str) -> None:
        if not self._folder:
            return
        temporary = f"{path}.{os.getpid()}.{os.urandom(4).hex()}"
        with contextlib.suppress(OSError):  # what cannot be remembered is found out again
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            try:
                with open(temporary, "w", encoding="utf-8") as file:
                    file.write(content)
                os.replace(temporary, path)
            except OSError:
                os.unlink(temporary)


def words(found: object) -> list[str]:
    """Give a list of texts; nothing, if it is something else."""
    return found if isinstance(found, list) and all(isinstance(word, str) for word in found) else []


# Loading


@functools.cache
def import_kernel() -> dict[str, str]:
    """Import the kernel, once; give what that adds to the environment."""
    gc.disable()
    before = dict(os.environ)
    with _as_in_a_kernel():
        import runpy  # noqa: F401 - a kernel's command is run by it

        import ipykernel.ipkernel
        import ipykernel.kernelapp
        import ipykernel.zmqshell

        ipykernel.kernelapp.IPKernelApp.init_pdb(None)  # what imports pdb by name, as doctest does, gets a kernel's
    return {name: value for name, value in os.environ.items() if name not in before}


def ordered(control: int, seconds: float) -> dict[str, Any]:
    """Wait for what this template is for; it was begun before that was known.

    What comes has the whole environment. Libraries read it when they are imported, the interpreter has read it: so
    a template in which an interpreter's start has imported one of them is none for another environment.
    """
    hear(control, os.getpid(), signal.SIGCONT)  # a stopped one goes on when it is asked, and when its owner dies
    with socket.socket(fileno=os.dup(control)) as asked:
        if not readable(control, seconds):
            os._exit(0)
        size = array.array("i").itemsize
        data, extra, _, _ = asked.recvmsg(64, socket.CMSG_SPACE(size), socket.MSG_CMSG_CLOEXEC)
    if not data or not extra:  # nobody needs it
        os._exit(0)
    with open(array.array("i", extra[0][2])[0], encoding="utf-8") as file:
        file.seek(0)
        order: dict[str, Any] = json.load(file)
    added = import_kernel()
    environment = {**added, **order.pop("environment")}
    if environment != dict(os.environ):
        if not sys.modules.keys().isdisjoint([*order["known"], "sitecustomize", "usercustomize"]):
            os._exit(0)
        os.environ.clear()
        os.environ.update(environment)
    return order


def load(module: str, *, known: bool = True) -> None:
    """Import one module as a cell does; ``a.b`` may be a name in ``a``. One that is not known is looked at closer.

    Raises
    ------
    UnfitError
        If the import left something behind that forks would share or lose, or that is seen from outside.
    """
    before, said, environment, asked = _look(), _said(), dict(os.environ), SHELL.asked
    own = None if known else _of_one_kernel()
    parent, _, name = module.rpartition(".")
    try:
        # This file is __main__: a warning is shown where a cell would show it.
        if parent:
            __import__(parent)
        if not (parent and hasattr(sys.modules[parent], name)):
            __import__(module)
    except ModuleNotFoundError:
        pass  # the cell will say it better
    except BaseException as problem:  # noqa: BLE001 - the template must not end
        raise UnfitError(module, f"its import raises {type(problem).__name__}") from None
    why = ""
    for wait in (0, 0.01, 0.05):  # a thread that has ended is seen a moment longer
        time.sleep(wait)
        why = _left(before, said, environment, asked)
        if not why:
            break
    if not why and own is not None and not _of_one_kernel() <= own:
        why = "its import makes a generator of random numbers"
    if why:
        raise UnfitError(module, why)


def _of_one_kernel() -> set[int]:
    """Name the generators of random numbers that are not seeded anew in each kernel."""
    numpy = sys.modules.get("numpy.random")
    kinds: tuple[type, ...] = (random.Random,)
    seeded = {id(vars(random)["_inst"])}
    if numpy is not None:
        kinds += numpy.Generator, numpy.RandomState, numpy.BitGenerator
        common = vars(numpy.mtrand)["_rand"]
        seeded |= {id(common), id(getattr(common, "_bit_generator", None))}
    return {id(thing) for thing in gc.get_objects() if issubclass(type(thing), kinds)} - seeded


def _left(before: dict[str, object], said: int, environment: dict[str, str], asked: int) -> str:
    """Tell what an import left behind."""
    try:
        after = _look()
        for what, there in after.items():
            if there != before[what]:
                return f"its import leaves or changes {what}"
        if _said() != said:
            return "its import prints"
        if SHELL.asked != asked:
            return "its import looks for the shell of a notebook"
    except Exception as problem:  # noqa: BLE001 - a stream is closed, the directory is gone
        return f"its import breaks something ({type(problem).__name__})"
    if any(os.environ.get(name) != value for name, value in environment.items()):
        return "its import changes the environment"
    return ""


def load_file(path: str) -> Callable[[], None] | None:
    """Import a file of nbflow's, whose name in ``sys.modules`` nobody else has; give its ``begin``, if it has one.

    Of a package it is the ``__init__.py``; what that imports beside it gets its name, too.
    """
    folder, base = os.path.split(path)
    name = "_nbflow_" + (os.path.basename(folder) if base == "__init__.py" else base.partition(".")[0])
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is not None and spec.loader is not None:
        made = sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(made)
        except OSError:  # it is not seen from here
            del sys.modules[name]
        else:
            begin: Callable[[], None] | None = getattr(made, "begin", None)
            return begin
    return None


def load_beside(name: str) -> Any:
    """Import a file that lies beside this one; nothing, if it is not seen from here."""
    load_file(os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{name}.py"))
    return sys.modules.get(f"_nbflow_{name}")


def installed(module: str) -> bool:
    """Tell whether a module comes from where libraries are installed, and not from somebody's folder."""
    spec = None
    with contextlib.suppress(Exception):  # a finder that fails finds nothing, nor does what a cell made have a spec
        spec = importlib.util.find_spec(module.partition(".")[0])
    if spec is None:
        return False
    if spec.origin in ("built-in", "frozen"):
        return True
    places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
    folders = tuple(os.path.join(folder, "") for folder in [*_sites(), os.path.dirname(os.__file__)])
    return bool(places) and all(place.startswith(folders) for place in places)


def may_be_learned(module: str, known: frozenset[str]) -> bool:
    """Tell whether a module that some kernel imported late may be imported here for all of them.

    Parameters
    ----------
    module : str
        Its name.
    known : frozenset of str
        Libraries whose other modules may: those that are imported here anyway. Another kernel may have to set something
        in its environment before it imports one of the rest.
    """
    parts = module.split(".")
    if any(".".join(parts[: i + 1]) in NEVER for i in range(len(parts))) or parts[0].startswith("__"):
        return False
    if parts[0] in sys.builtin_module_names or parts[0] in getattr(sys, "stdlib_module_names", ()):
        return True
    return parts[0] in known or parts[0] in FAMILY


class Template:
    """The process.

    Parameters
    ----------
    control : int
        Descriptor of the socket over which it is asked.
    lesson : int
        Descriptor of a file in memory, for what its owner should know when it has ended.
    preload : list of str
        Modules to import, those that are known only from where libraries are installed; and paths of nbflow's files
        that kernels ask for their results; and ``*``, for libraries that they turn out to import.
    known : list of str
        Libraries that may be preloaded for all when one kernel imported them.
    cache : str
        Folder for notes; empty: nothing is remembered.
    culprits : mapping of str to str
        Modules, with their versions, that the owner's earlier templates found unfit, and why.
    suspicious : bool
        Whether to probe after each module: one of them is a culprit.
    import_seconds : float
        How long one import may take.
    probe_seconds : float
        How long the probe may take.
    idle : float
        Seconds without kernels and requests after which it ends.
    """

    def __init__(
        self,
        control: int,
        lesson: int,
        preload: list[str],
        *,
        known: list[str],
        cache: str,
        culprits: dict[str, str],
        suspicious: bool,
        import_seconds: float,
        probe_seconds: float,
        idle: float,
    ) -> None:
        self.control: socket.socket | None = socket.socket(fileno=control)
        os.set_inheritable(control, False)
        # A stopped template goes on when it is asked something, and when its owner dies: then it has to end.
        hear(control, os.getpid(), signal.SIGCONT)
        self.owner = os.getppid()
        self.owner_gone = os.pidfd_open(self.owner)
        self.lesson = mmap.mmap(lesson, LESSON)
        os.close(lesson)
        self.files = [path for path in preload if path.startswith("/")]
        self.preload = [module for module in preload if module != "*" and not module.startswith("/")]
        self.learns = "*" in preload
        """Whether known libraries are learned, and not only more of those that are preloaded."""
        self.known = frozenset(known)
        self.suspicious = suspicious
        self.import_seconds = import_seconds
        self.probe_seconds = probe_seconds
        self.notes = Notes(cache, self.preload, culprits)
        self.idle = idle
        self.children: dict[int, tuple[int, socket.socket, mmap.mmap]] = {}
        """Pidfd, channel, and what was learned, of each kernel; one that was let go of stays until it is reaped."""
        self.ended: set[int] = set()
        self.base: frozenset[str] = frozenset()
        """What a kernel has imported before it looks into its directory for modules."""
        self.loaded: frozenset[str] = frozenset()
        self.added: dict[str, str] = {}
        self.filters: list[object] = []
        self.launcher = ""
        self.begins: list[Callable[[], None]] = []
        """Functions that kernels call before they listen."""
        self.parsed = Parsed()
        self.ready: Any = None
        """An application and a shell that are made already, for kernels whose arguments have a certain shape."""
        self.ready_for: tuple[str, ...] | None = None
        """That shape, from the moment on when they were to be made."""
        self.sites: list[int] = []
        self.own: dict[str, tuple[int, int]] = {}
        with open("/proc/self/cgroup") as file:
            self.cgroup = file.read()

    # Getting ready

    def prepare(self) -> None:
        """Import the kernel and the modules."""
        added = import_kernel()
        before = dict(os.environ)
        with _as_in_a_kernel():
            launcher = importlib.util.find_spec("ipykernel_launcher")
            self.launcher = launcher.origin or "" if launcher is not None else ""
            filters, self.base = list(warnings.filters), frozenset(sys.modules)
            try:
                self._import()
            except UnfitError as problem:
                self._end(*problem.args)
            look_for_backends()
            compile_patterns()
        self.added = {**added, **{name: value for name, value in os.environ.items() if name not in before}}
        self.filters = [entry for entry in warnings.filters if entry not in filters]
        self.sites = _changed()
        self.own = _own_files()
        self._settle()

    def _import(self) -> None:
        self.begins = [begin for path in self.files if (begin := load_file(path)) is not None]
        if self.suspicious and (why := self._probe([])):
            raise SystemExit(f"a kernel {why}")  # whatever it has imported
        done: list[str] = []
        for module in filter(self._wanted, self.preload):
            self._load(module, done)
        learned = [name for name in self.notes.learned if self._learnable(name)]
        if self.suspicious:
            for module in learned:
                self._load(module, done)
        else:
            self._load_together(learned)
            done += learned
        probed = [with_version(module) for module in done]
        if probed and probed != self.notes.probed:
            why = self._probe(done)
            if why and not self.suspicious:
                self._end()
            if why:
                raise UnfitError(done[-1], why)
            self.notes.remember(probed=probed)

    def _wanted(self, module: str) -> bool:
        known = module.partition(".")[0] in self.known
        return not self.notes.culprit(module) and (installed(module) or not known)

    @property
    def libraries(self) -> frozenset[str]:
        """Those of which kernels tell what they imported."""
        return self.known if self.learns else self.known & sys.modules.keys()

    def _learnable(self, module: str) -> bool:
        return (
            module not in sys.modules
            and may_be_learned(module, self.libraries)
            and installed(module)
            and not self.notes.culprit(module)
            and not any(self.notes.culprit(name, LATE) for name in (module, module.partition(".")[0]))
        )

    def _load(self, module: str, done: list[str]) -> None:
        if os.getppid() != self.owner:  # nobody waits for the rest
            os._exit(1)
        with self._trying(with_version(module), self.import_seconds):
            load(module, known=module.partition(".")[0] in self.known)
        done.append(module)
        if self.suspicious and (why := self._probe(done)):
            raise UnfitError(module, why)

    def _load_together(self, modules: list[str]) -> None:
        """Import modules that were fit before; if they are not now, they are learned anew."""
        before, said, environment, asked = _look(), _said(), dict(os.environ), SHELL.asked
        fit = True
        with self._trying("", self.import_seconds):
            for module in modules:
                try:
                    __import__(module)
                except ModuleNotFoundError:
                    pass  # it is there no more
                except BaseException:  # noqa: BLE001 - a culprit's
                    fit = False
        if not fit or _left(before, said, environment, asked):
            self.notes.remember(learned=[])
            self._end()

    @contextlib.contextmanager
    def _trying(self, module: str, seconds: float) -> Iterator[None]:
        """Note what is tried, for the case that this process does not survive it, or not in time."""
        known, own = self.lesson[:], os.getpid()
        self._tell(trying=module)
        signal.setitimer(signal.ITIMER_REAL, seconds)  # its signal ends the process, whatever that is doing
        try:
            yield
        finally:
            if os.getpid() == own:  # and no fork of it
                signal.setitimer(signal.ITIMER_REAL, 0)
                self.lesson[:] = known

    def _tell(self, **lesson: object) -> None:
        self.lesson[:] = json.dumps(lesson).encode()[:LESSON].ljust(LESSON)

    def _end(self, module: str = "", why: str = "") -> NoReturn:
        """End with all that imports started: what was imported cannot be taken back, and the next one knows better."""
        if module:
            culprit = with_version(module)
            self.notes.blame(culprit, why)
            self._tell(culprit=culprit, why=why)
        else:
            self._tell(suspicious=True)
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(1)

    def _settle(self) -> None:
        """Make what stands in memory stay where it is: the collector of a kernel would copy each page."""
        for folder, finder in list(sys.path_importer_cache.items()):
            if finder is None:
                del sys.path_importer_cache[folder]  # it may be made until a kernel looks
        self.loaded = frozenset(sys.modules)
        if self.ready is not None:
            self.ready.settle()
        gc.collect()
        gc.freeze()
        gc.enable()

    def _probe(self, done: list[str]) -> str:
        """Fork a child that does what kernels do with these modules; give what went wrong."""
        shared = mmap.mmap(-1, LEARNED)
        seconds = self.probe_seconds * (2 if self.suspicious else 1)  # before somebody is blamed

        def probe() -> None:
            rehearse(done)
            tell_learned(shared, self.loaded, self.libraries)

        with self._trying(with_version(done[-1]) if self.suspicious and done else "", 2 * seconds):
            answered, status = in_a_fork(probe, seconds)
        if not status and not self.suspicious:
            self._learn(learned_of(shared))
        shared.close()
        if not answered:
            return "hangs after a fork"
        return f"fails after a fork ({os.waitstatus_to_exitcode(status)})" if status else ""

    def _learn(self, modules: list[str]) -> bool:
        """Import what kernels import anyway; tells whether all of it was fit."""
        new = list(filter(self._learnable, modules))
        if not new:
            return True
        unfit: dict[str, str] = {}
        mark, before = "", frozenset(sys.modules)
        environment = dict(os.environ)
        with _as_in_a_kernel():
            for name in new:
                filters = list(warnings.filters)
                try:
                    with self._trying(with_version(name), self.import_seconds):
                        load(name)
                except UnfitError as problem:
                    unfit[name] = problem.args[1]
                if warnings.filters != filters:
                    unfit[name], mark = "its import changes which warnings are shown", LATE
                if unfit:
                    break
        self.added.update({name: value for name, value in os.environ.items() if name not in environment})
        # A module that cannot be imported now is there no more.
        fit = [name for name in new if name in sys.modules and name not in unfit]
        self.notes.remember(learned=sorted({*self.notes.learned, *fit}))
        self._settle()
        for name, why in unfit.items():
            library = name.partition(".")[0]
            # Of a library that was not there it may be any part: not one template for each of them.
            culprit = mark + with_version(name) if library in before else LATE + with_version(library)
            self.notes.blame(culprit, why)
            self._tell(culprit=culprit, why=why)
        return not unfit

    def _make_ready(self, shape: tuple[str, ...]) -> None:
        """Make what kernels with such arguments have in common, if it was seen that they are the same then."""
        self.ready_for = shape
        own = load_beside("ready")
        about = [shape, sys.path, sorted(self.own.items()), _stamp(getattr(own, "__file__", ""))]
        alike = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:24]
        unlike, known = f"not {alike}", alike in self.notes.alike
        if own is None or unlike in self.notes.alike:
            return
        plain, imported = (b"", []) if known else self._tried(own, None)
        loaded = self.loaded
        if not self._learn(imported):
            self.sites = []  # no more kernels from this one
            return
        if self.loaded != loaded:
            plain, _ = self._tried(own, None)
        before, said = _look(), _said()
        ready = None
        with self._trying("", self.import_seconds), contextlib.suppress(Exception):  # another release of IPython
            ready = own.Ready(self.parsed.config(shape))
            ready.settle()
        if _look() != before or _said() != said:
            self.sites = []
            ready = None
        if ready is not None and not known:
            made, _ = self._tried(own, ready)
            if not plain or not made:  # it was not told, or not in time
                return
            ready = ready if made == plain else None
        if (ready is None) or not known:
            self.notes.remember(alike=[*self.notes.alike, unlike if ready is None else alike])
        self.ready = ready
        self._settle()

    def _tried(self, own: Any, ready: Any) -> tuple[bytes, list[str]]:
        """Make a kernel in a fork, from what is ready, if given; give a digest of it, and what it imported."""
        assert self.ready_for is not None
        shape, told, learned = self.ready_for, mmap.mmap(-1, 4096), mmap.mmap(-1, LEARNED)

        def tell() -> None:
            self._let_go()
            alone()
            self.ready = ready
            given = connection_file(f"nbf-{os.getppid()}-ready")
            argv = [given if word == Parsed.FILE else word for word in shape]
            app = self.application(argv, os.getppid())
            app.init_extensions = app.init_code = lambda: None  # the user's own are for kernels
            app.initialize(argv)
            tell_learned(learned, self.loaded, self.libraries)
            if ready is None or ready.given:
                told[:32] = own.digest(app)

        with told, learned:
            answered, status = in_a_fork(tell, TRY_SECONDS)
            return (told[:32].strip(b"\0"), learned_of(learned)) if answered and not status else (b"", [])

    def application(self, argv: list[str], owner: int) -> Any:
        """Give, in a kernel, the application."""
        if self.ready is not None and self.parsed.shape(argv) == self.ready_for:
            return start_app(owner, self.ready.application(argv))
        app = start_app(owner)
        self.parsed.apply(app, argv)
        return app

    # At work

    def serve(self) -> dict[str, Any]:
        """Fork kernels until nobody asks any more; in a kernel it comes back with its request."""
        poll = select.poll()
        poll.register(self.owner_gone, select.POLLIN)
        assert self.control is not None
        poll.register(self.control, select.POLLIN)
        while self.control is not None or self.children:  # type: ignore[unreachable]  # _asked closes it
            wanted = self.ready_for is None and self.control is not None and self.parsed.shapes
            ready = poll.poll(0 if wanted else None if self.children else self.idle * 1000)
            if wanted and not ready:  # while the first kernels work
                self._make_ready(self.parsed.shapes[0])
                continue
            if not ready:
                break
            for descriptor, _ in ready:
                if descriptor == self.owner_gone:
                    self._kill_all()
                elif self.control is not None and descriptor == self.control.fileno():
                    request = self._asked(poll)
                    if request is not None:
                        return request
                else:
                    self._heard(descriptor, poll)
        os._exit(0)

    def _asked(self, poll: select.poll) -> dict[str, Any] | None:
        """Take one request; give it in the kernel that was made for it."""
        assert self.control is not None
        size = array.array("i").itemsize
        data, extra, _, _ = self.control.recvmsg(64, socket.CMSG_SPACE(5 * size), socket.MSG_CMSG_CLOEXEC)
        if not data:
            poll.unregister(self.control)
            self.control.close()
            self.control = None
            return None
        descriptors = array.array("i")
        for _, _, part in extra:
            descriptors.frombytes(part[: len(part) - len(part) % size])
        if len(descriptors) < 5:  # this process can have no more: whoever waits on the channel sees it close
            for descriptor in descriptors:
                os.close(descriptor)
            return None
        channel_end, *streams, asked = descriptors
        channel = socket.socket(fileno=channel_end)
        with open(asked, encoding="utf-8") as file:
            file.seek(0)
            request: dict[str, Any] = json.load(file)
        stale, hidden = self._stale(request), self._hidden(str(request["cwd"]))
        try:
            if stale or hidden:
                send(channel, {"no": stale or hidden, "stale": bool(stale)})
                channel.close()
            elif self._forked(channel, poll, request):
                request.update(streams=streams)
                return request
        except OSError as problem:  # too many processes or descriptors
            send(channel, {"no": f"it cannot be forked: {problem}"})
            channel.close()
        for stream in streams:
            os.close(stream)
        return None

    def _forked(self, channel: socket.socket, poll: select.poll, request: dict[str, Any]) -> bool:
        """Fork; tell whether this is the kernel."""
        self.parsed.parse(arguments(request["argv"]))
        learned = mmap.mmap(-1, LEARNED)
        with self._trying("", self.import_seconds):
            pid = _fork()
        if pid == 0:
            self._let_go()
            line(channel)
            request.update(channel=channel, learned=learned)
            return True
        try:
            gone = os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        self.children[pid] = (gone, channel, learned)
        poll.register(gone, select.POLLIN)
        poll.register(channel, 0)  # the other end closes
        return False

    def _stale(self, request: dict[str, Any]) -> str:
        if _changed() != self.sites:
            return "something was installed since"
        if any(_stamp(file) != stamp for file, stamp in self.own.items()):
            return "a module has changed since"
        return "it is in another control group" if request["cgroup"] != self.cgroup else ""

    def _hidden(self, folder: str) -> str:
        """Tell which file in a kernel's directory stands for a module that is imported here from elsewhere."""
        names = {name.partition(".")[0] for name in self.loaded - self.base}
        with contextlib.suppress(OSError):  # nothing can be imported from there
            for entry in os.listdir(folder):
                name, _, suffix = entry.partition(".")
                file = f".{suffix}" in MODULES or (not suffix and os.path.exists(f"{folder}/{name}/__init__.py"))
                if name in names and file:
                    return f"its directory has a module {name}"
        if "matplotlib" in self.loaded and os.path.exists(f"{folder}/matplotlibrc"):
            return "its directory has a matplotlibrc"
        return ""

    def _let_go(self) -> None:
        """Close, in a kernel, what is the template's."""
        for gone, channel, learned in self.children.values():
            os.close(gone)
            channel.close()
            learned.close()
        assert self.control is not None
        self.control.close()
        self.lesson.close()
        os.close(self.owner_gone)

    def _heard(self, descriptor: int, poll: select.poll) -> None:
        """A kernel ended, or its owner let go of it."""
        for pid, (gone, channel, learned) in self.children.items():
            if descriptor == gone:
                poll.unregister(gone)
                self.ended.add(pid)
                status = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
                assert status is not None
                code = status.si_status if status.si_code == os.CLD_EXITED else -status.si_status
                send(channel, {"exit": code})  # and it stays a zombie: its number stays its own
                if self.control is not None and not self._learn(learned_of(learned)):
                    self.sites = []  # no more kernels from this one
                return
            if descriptor == channel.fileno():
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)  # what it left running
                if pid in self.ended:
                    self._reap(pid, poll)
                else:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)  # it may not be the leader of its group yet
                    readable(gone, 1.0)
                return

    def _reap(self, pid: int, poll: select.poll) -> None:
        gone, channel, learned = self.children.pop(pid)
        self.ended.discard(pid)
        poll.unregister(channel)
        os.waitpid(pid, 0)
        os.close(gone)
        channel.close()
        learned.close()

    def _kill_all(self) -> None:
        for pid in self.children:
            for kill in (os.killpg, os.kill):
                with contextlib.suppress(ProcessLookupError):
                    kill(pid, signal.SIGKILL)
        os._exit(0)


def _fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # BLAS threads know about forks
        return os.fork()


def in_a_fork(do: Callable[[], None], seconds: float) -> tuple[bool, int]:
    """Do something in a fork; tell whether it ended in time, and its status."""
    pid = _fork()
    if pid == 0:
        code = 1
        signal.alarm(int(2 * seconds) + 1)  # the template may be killed before it can kill this
        with contextlib.suppress(BaseException):
            do()
            code = 0
        os._exit(code)
    gone = os.pidfd_open(pid)
    answered = readable(gone, seconds)
    if not answered:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    os.close(gone)
    return answered, status


def send(channel: socket.socket, message: dict[str, object], *descriptors: int) -> None:
    """Tell the owner something; an owner that is gone need not know, nor one whose channel a cell has filled."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    with contextlib.suppress(OSError):
        channel.sendmsg([json.dumps(message).encode()], rights, socket.MSG_DONTWAIT)


def readable(descriptor: int, seconds: float) -> bool:
    """Wait until there is something; select would not take descriptors from 1024 on."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def hear(descriptor: int, process: int, number: int) -> None:
    """Have a process, or a group if negative, get this signal when the other end writes or closes."""
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, process)
    fcntl.fcntl(descriptor, 10, number)  # F_SETSIG
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_ASYNC)


# In a kernel


def line(channel: socket.socket) -> None:
    """Begin a session of its own, whose life hangs on the owner's end of the channel."""
    os.setsid()
    hear(channel.fileno(), -os.getpid(), signal.SIGKILL)
    poll = select.poll()
    poll.register(channel, 0)
    if poll.poll(0):  # it closed before that
        os._exit(1)
    own = os.pidfd_open(os.getpid())
    send(channel, {"pid": os.getpid()}, own)
    os.close(own)


def become(request: dict[str, Any], added: dict[str, str], launcher: str) -> None:
    """Take over what a process of its own would have got at its start."""
    for target, stream in enumerate(request["streams"]):
        os.dup2(stream, target)
        os.close(stream)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, request["mask"])
    for which, limits in request["limits"]:
        if resource.getrlimit(which) != tuple(limits):
            resource.setrlimit(which, tuple(limits))
    os.umask(request["umask"])
    if request["nice"] != os.nice(0):
        os.nice(request["nice"] - os.nice(0))
    if set(request["affinity"]) != os.sched_getaffinity(0):
        os.sched_setaffinity(0, request["affinity"])
    if hasattr(threading.Thread, "_set_native_id"):
        threading.main_thread()._set_native_id()  # type: ignore[attr-defined]  # noqa: SLF001 - a fork keeps its parent's
    os.environ.clear()
    os.environ.update({**added, **request["env"]})
    time.tzset()
    os.chdir(request["cwd"])
    if "multiprocessing.process" in sys.modules:  # it keeps the directory of its import for the path of its workers
        sys.modules["multiprocessing.process"].ORIGINAL_DIR = os.path.abspath(os.getcwd())  # type: ignore[attr-defined]
    command = request["argv"]
    sys.argv[:] = [launcher, *arguments(command)]
    if hasattr(sys, "orig_argv"):
        sys.orig_argv[:] = command
    if os.isatty(1) and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    reseed()
    title(command)


def arguments(command: list[str]) -> list[str]:
    """Give what stands behind ``-m ipykernel_launcher``."""
    return list(command[command.index("-m") + 2 :])


class Parsed:
    """What the arguments of kernels say, by everything but the connection file, which is another in each."""

    FILE = "/connection-file"

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], Any] = {}

    @property
    def shapes(self) -> list[tuple[str, ...]]:
        """Those that are known: arguments with another connection file."""
        return [shape for shape, config in self._known.items() if config is not None]

    def config(self, shape: tuple[str, ...]) -> Any:
        """Give what they say."""
        return self._known.get(shape)

    @classmethod
    def shape(cls, argv: list[str]) -> tuple[str, ...]:
        """Give the arguments without what is another in each kernel; nothing, if they are others."""
        place = argv.index("-f") + 1 if "-f" in argv else 0
        return (*argv[:place], cls.FILE, *argv[place + 1 :]) if 0 < place < len(argv) else ()

    def parse(self, argv: list[str]) -> None:
        """Have them read by an application that is thrown away, once for all kernels that have such."""
        from ipykernel.kernelapp import IPKernelApp

        shape = self.shape(argv)
        if not shape or shape in self._known:
            return
        self._known[shape] = None
        with contextlib.suppress(Exception, SystemExit):  # the kernel will say what is wrong with them
            app = IPKernelApp()
            app.parse_command_line(list(shape))
            if app.cli_config.IPKernelApp.connection_file == self.FILE and not app.extra_args and app.subapp is None:
                self._known[shape] = app.cli_config

    def apply(self, app: Any, argv: list[str]) -> None:
        """Make an application take them as read; one that has others reads them itself."""
        config = self._known.get(self.shape(argv))
        if config is None:
            return

        def parse_command_line(_argv: object = None) -> None:
            app.argv = list(argv)
            config.IPKernelApp.connection_file = argv[argv.index("-f") + 1]
            app.cli_config = copy.deepcopy(config)
            app.update_config(app.cli_config)
            app.extra_args = []

        app.parse_command_line = parse_command_line


def reseed() -> None:
    """Give this kernel random numbers of its own; what draws from the system has them anyway."""
    random.seed()
    for name, do in (("numpy.random", "seed"), ("torch", "seed")):
        if name in sys.modules:
            getattr(sys.modules[name], do)()
    for generator in ("rng", "_assumptions_rng"):
        if hasattr(sys.modules.get("sympy.core.random"), generator):
            getattr(sys.modules["sympy.core.random"], generator).seed()
    if "multiprocessing.process" in sys.modules:
        sys.modules["multiprocessing.process"].current_process().authkey = os.urandom(32)


def title(command: list[str]) -> None:
    """Stand in ``ps`` as the kernel's command: written over the template's own arguments, as far as they reach."""
    import ctypes

    with open("/proc/self/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    words = "\0".join(command).encode("utf-8", "surrogateescape")[: end - start - 1]
    ctypes.memmove(start, words.ljust(end - start, b"\0"), end - start)


def run(request: dict[str, Any], template: Template) -> None:
    """Be the kernel, from its first moment to its exit."""
    channel = request["channel"]
    libraries = template.libraries
    code = 1
    app = start = None
    try:
        become(request, template.added, template.launcher)
    except Exception as problem:  # noqa: BLE001 - no such directory, limits that may not be set
        # Started in the usual way it says that itself.
        send(channel, {"no": f"{type(problem).__name__}: {problem}"})
        os._exit(1)
    try:
        app = template.application(sys.argv[1:], int(request["env"].get("JPY_PARENT_PID") or 0))
        app.initialize(sys.argv[1:])
        look_for_children(app.kernel)
        order_filters(template.filters)
        draw_after_cells()
        for begin in template.begins:
            begin()
        start = surroundings()
        send(channel, {"bound": True})
        exec("app.start()", {"app": app})  # as deep in calls as runpy's: the error of an endless recursion counts them
        code = 0
    except SystemExit as problem:
        code = problem.code if isinstance(problem.code, int) else int(problem.code is not None)
    except BaseException:  # noqa: BLE001 - as at the end of an interpreter
        told = app is not None and getattr(app.kernel, "_shutdown_message", None) is not None
        if told and not hasattr(app, "io_loop"):
            code = 0  # told to end before it listened: ipykernel goes on with loops and sockets that are closed by then
        else:
            sys.excepthook(*sys.exc_info())
    with contextlib.suppress(Exception):  # its directory is gone
        if start == surroundings():
            tell_learned(request["learned"], template.loaded, libraries)
    leave(app, code, template.loaded)


def start_app(owner: int, ready: Any = None) -> Any:
    """Give the application, which need not look after its parent: the channel does."""
    from ipykernel.kernelapp import IPKernelApp

    app = ready or IPKernelApp.instance()
    app.parent_handle = owner
    app.init_poller = threading.Thread  # not started: it takes the number that names of later threads count on from
    return app


def look_for_children(kernel: Any) -> None:
    """Have a kernel that ends ask the system for its children, before it goes through all processes for them.

    Those that tidy up behind it are left out: they do not listen to SIGTERM, and end when it has ended.
    """
    find = getattr(kernel, "_process_children", None)
    if find is not None and os.path.exists(f"/proc/self/task/{os.getpid()}/children"):

        def children() -> list[Any]:
            return [child for child in find() if not _tidies(child.pid)] if _children() else []

        kernel._process_children = children  # noqa: SLF001 - no public one asks for it


def _tidies(pid: int) -> bool:
    """Whether a process is a resource tracker, multiprocessing's or joblib's."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"resource_tracker" in file.read()
    except OSError:  # it ended meanwhile
        return False


def order_filters(filters: list[Any]) -> None:
    """Have the filters of warnings in the order in which they come if a cell imports the modules."""
    there = cast("list[Any]", warnings.filters)
    for entry in reversed(filters):
        if entry in there:
            there.remove(entry)
            there.insert(0, entry)
    with warnings.catch_warnings():
        pass  # its end tells the interpreter that the filters are others


def draw_after_cells() -> None:
    """Make pyplot do what its import does where there is a shell, if that release looks for one at its import."""
    hook = getattr(sys.modules.get("matplotlib.pyplot"), "_REPL_DISPLAYHOOK", None)
    if getattr(hook, "name", "") == "PLAIN":
        sys.modules["matplotlib.pyplot"].install_repl_displayhook()


def look_for_backends() -> None:
    """Have matplotlib find the backends that are installed; it reads the metadata of all libraries for it.

    None is imported: the one of notebooks looks for its shell then, and there is none yet.
    """
    registry = sys.modules.get("matplotlib.backends.registry")
    if registry is not None:
        with contextlib.suppress(Exception):  # an older one does not do it, and a cell will see what is wrong
            registry.backend_registry._ensure_entry_points_loaded()  # noqa: SLF001 - no public call does that alone


def compile_patterns() -> None:
    """Have the patterns compiled with which each kernel looks for its files, and reads its first cell."""
    import fnmatch
    import pathlib

    next(pathlib.Path("/").glob("*.py"), None)
    fnmatch.filter([], "*.ipy")
    with contextlib.suppress(Exception):  # another release reads cells otherwise
        from IPython.core.inputtransformer2 import TransformerManager

        TransformerManager().transform_cell("0\n")


def leave(app: Any, code: int, loaded: frozenset[str]) -> None:
    """End as Python ends, without what can stall: ipykernel joins threads that wait for each other for 10 s."""
    try:
        if app is not None:
            atexit.unregister(app.close)
            if app.iopub_thread is not None:
                atexit.unregister(app.iopub_thread.stop)
        end_threads, end_modules = vars(threading)["_shutdown"], atexit._run_exitfuncs  # noqa: SLF001 - as Python does it
        end_threads()
        end_modules()
        let_go_of_modules(loaded)
        for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
            with contextlib.suppress(Exception):  # it is closed, or there is none
                stream.flush()  # type: ignore[union-attr]
    finally:
        os._exit(code & 0xFF)


def let_go_of_modules(loaded: frozenset[str]) -> None:
    """Have what cells imported end as at the end of an interpreter: finalizers run, and files are written."""
    standard: frozenset[str] = getattr(sys, "stdlib_module_names", frozenset())
    for name, module in list(sys.modules.items()):
        top = name.partition(".")[0]
        if name not in loaded and top not in standard and top not in FAMILY:  # the kernel's threads still use those
            names = getattr(module, "__dict__", {})
            for key in [key for key in names if not key.startswith("__")]:
                names[key] = None
    gc.collect()  # what was there before the fork is frozen
    for thing in gc.get_objects():
        if type(thing) in (io.BufferedWriter, io.BufferedRandom, io.TextIOWrapper):
            with contextlib.suppress(Exception):  # it is closed
                thing.flush()


def surroundings() -> tuple[object, ...]:
    """Give what imports depend on."""
    return dict(os.environ), list(sys.path), os.getcwd(), _changed()


def tell_learned(learned: mmap.mmap, loaded: frozenset[str], known: frozenset[str]) -> None:
    """Name the modules that were imported since the fork; what a cell made, or took from elsewhere, is none."""
    # The new ones stand last; to look at the others would copy a page of memory for each.
    new = itertools.takewhile(lambda name: name not in loaded, reversed(sys.modules))
    names = [
        name
        for name in list(new)
        if may_be_learned(name, known) and getattr(sys.modules[name], "__spec__", None) is not None and installed(name)
    ]
    text = json.dumps(names[::-1]).encode()
    if len(text) + 4 <= len(learned):
        learned[4 : 4 + len(text)] = text
        learned[:4] = struct.pack("I", len(text))


def learned_of(learned: mmap.mmap) -> list[str]:
    """Give the names that a kernel has left."""
    (length,) = struct.unpack("I", learned[:4])
    if not length:
        return []
    try:
        return words(json.loads(learned[4 : 4 + length]))
    except (ValueError, RecursionError):  # it was killed while it wrote
        return []


USES = {
    "numpy": "import numpy as m; a = m.ones((64, 64)); a @ a",
    "pandas": "import pandas as m; m.DataFrame({'a': [1, 2]}).describe()",
    "pyarrow": "import pyarrow as m; import pyarrow.compute as c; c.sum(m.array([1, 2]))",
}
"""One line for a library that shows whether it works after a fork."""


def alone() -> None:
    """Be a kernel that nobody hears."""
    without_shell()
    for target in (0, 1, 2):
        os.dup2(os.open(os.devnull, os.O_RDWR), target)


def connection_file(name: str) -> str:
    """Give a connection file, for sockets without files: whatever the temporary folder is like."""
    ports = {f"{channel}_port": port for port, channel in enumerate(("shell", "iopub", "stdin", "hb", "control"), 1)}
    about = {"transport": "ipc", "ip": f"@{name}", "key": "", "signature_scheme": "hmac-sha256", **ports}
    descriptor = os.memfd_create("nbflow-connection")
    os.write(descriptor, json.dumps(about).encode())
    return f"/proc/self/fd/{descriptor}"


def rehearse(preload: list[str]) -> None:
    """Do in a fork what kernels do: use the modules, a thread, a process, and a kernel's start."""
    import subprocess

    alone()
    for module in preload:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    for library in dict.fromkeys(module.partition(".")[0] for module in preload):
        use = USES.get(library)
        if use:
            exec(use, {})
    thread = threading.Thread(target=len, args=("",))
    thread.start()
    thread.join()
    subprocess.run(["true"], check=True)
    pid = _fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    app = start_app(os.getppid())
    app.init_extensions = app.init_code = lambda: None  # the user's own are for kernels
    app.initialize(["-f", connection_file(f"nbf-{os.urandom(8).hex()}"), "--HistoryManager.enabled=False"])


def main() -> None:
    """Run the template."""
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        del sys.path[0]  # the folder of this file
    given = json.loads(sys.argv[1])
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))  # kernels have their owner's
    if "preload" not in given:
        import_kernel()
        given.update(ordered(given["control"], given["idle"]))
    template = Template(**given)
    template.prepare()
    request = template.serve()
    run(request, template)


if __name__ == "__main__":
    main()
