"""A kernel's application and shell, made before the fork, with all in them that depends on nothing of the kernel's own.

``template.py`` loads this file, in the kernel's environment: standard library and ipykernel only, Python 3.9. What is
made here is handed out only if two forks have shown that nothing differs: one makes a kernel in the plain way, the
other from what is ready, and all that can be reached from them is compared. So another release of IPython may do
as it likes. Kernels with other arguments than those it was made for, and those whose user has files of configuration,
are made in the plain way.
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import contextvars
import copy
import datetime as dt
import hashlib
import importlib.machinery
import itertools
import os
import re
import sys
import types
import warnings
import weakref
from collections import deque
from collections.abc import Iterator
from typing import Any, cast

ARGUMENTS = {"IPKernelApp": {"connection_file"}, "HistoryManager": {"hist_file"}}
"""What the arguments may set."""


class NotReadyError(Exception):
    """These kernels cannot be made ready; with the reason."""


class Ready:
    """An application and a shell for kernels with these arguments.

    Parameters
    ----------
    config : traitlets.config.Config
        The arguments as ipykernel read them.

    Raises
    ------
    NotReadyError
        If this is no release, or are no arguments, for which that can be done.
    """

    given = False
    """Whether the shell was handed out in this process."""

    def __init__(self, config: Any) -> None:
        from ipykernel.ipkernel import IPythonKernel
        from ipykernel.kernelapp import IPKernelApp
        from IPython.core.interactiveshell import InteractiveShell

        if {section: {*config[section]} for section in config} != ARGUMENTS:
            raise NotReadyError("its arguments set something else")
        if config.HistoryManager.hist_file != ":memory:":
            raise NotReadyError("it has a file for its history")
        if not isinstance(vars(InteractiveShell).get("db"), property):
            raise NotReadyError("its shell makes folders")
        self._files: list[_File] = []
        self._names: frozenset[str] = frozenset()
        before = {"builtins": dict(vars(builtins)), "sys": dict(vars(sys)), "environ": dict(os.environ)}
        main, calls = sys.modules["__main__"], vars(atexit)["_ncallbacks"]
        weakref.finalize(self, len, ()).detach()  # the first one registers the end of all, whichever it is
        count, register = calls(), atexit.register
        self._at_exit: list[tuple[Any, ...]] = []

        def register_later(*call: Any, **named: Any) -> Any:
            self._at_exit.append((call, named))
            return call[0]

        context = contextvars.copy_context()
        with warnings.catch_warnings():
            filters = list(warnings.filters)
            atexit.register = register_later
            os.environ.pop("VIRTUAL_ENV", None)
            sys.meta_path.insert(0, _NoImport)  # what an import does is for all kernels, and not taken back
            try:
                self.app, self._stand_in, self._shell = context.run(_made, config, IPKernelApp, IPythonKernel)
            finally:
                sys.meta_path.remove(_NoImport)
                atexit.register = register
                sys.modules["__main__"] = main
                os.environ.clear()
                os.environ.update(before["environ"])
                self._filters = [entry for entry in warnings.filters if entry not in filters]
                self._builtins = _taken_back(vars(builtins), before["builtins"])
                self._sys = _taken_back(vars(sys), before["sys"])
        if calls() != count or InteractiveShell.initialized() or IPKernelApp.initialized():
            raise NotReadyError("its shell does something on its own")
        self._context = [(name, value) for name, value in context.items() if name not in contextvars.copy_context()]

    def settle(self) -> None:
        """Take note of the modules that are there, close together: kernels list the files of all modules."""
        self._names = frozenset(sys.modules)
        files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
        self._files = [_File(file[:1] + file[1:]) for file in files if isinstance(file, str) and file]

    def application(self, argv: list[str]) -> Any:
        """Give the application in a kernel."""
        app = self.app
        for kind in type(app)._walk_mro():  # noqa: SLF001 - as ``instance`` does
            kind._instance = app  # noqa: SLF001
        file = argv[argv.index("-f") + 1]
        app.argv = list(argv)
        for config in (app.config, app.cli_config):
            config.IPKernelApp.connection_file = file
        app.connection_file = file
        app.parse_command_line = lambda *_: None
        app.load_config_file = self._load_config_file
        app.init_kernel = self._init_kernel
        return app

    def _load_config_file(self, *args: Any, **named: Any) -> None:
        """Load no file, if there is none."""
        app = self.app
        del app.load_config_file
        names = {os.path.splitext(name)[0] for name in ("ipython_config", *app.config_files)}
        paths = itertools.product(app.config_file_paths, names, (".py", ".json"))
        if any(os.path.lexists(os.path.join(folder, name + end)) for folder, name, end in paths):
            self._shell = None
            app.load_config_file(*args, **named)
            return

        def update_config(_config: Any) -> None:
            del app.update_config  # it would make the same of it again, and the shell has this one

        app.update_config = update_config

    def _init_kernel(self) -> None:
        """Make the kernel, which asks for its shell."""
        from ipykernel import ipkernel
        from ipykernel.zmqshell import ZMQInteractiveShell

        app = self.app
        del app.init_kernel
        late = []
        for name in reversed(sys.modules):
            if name in self._names:
                break
            late.append(sys.modules[name])
        if self._shell is not None:
            ZMQInteractiveShell.instance = classmethod(lambda kind, **asked: self._give(kind, asked))
        ipkernel.sys = _Sys(_Modules(itertools.chain(self._files, reversed(late))))
        try:
            app.init_kernel()
        finally:
            ipkernel.sys = sys
            if "instance" in vars(ZMQInteractiveShell):
                del ZMQInteractiveShell.instance

    def _give(self, kind: Any, asked: dict[str, Any]) -> Any:
        """Give the shell; what in it is the kernel's own is done now, and as it would be."""
        del type(self._shell).instance
        kernel = asked["parent"]
        wanted = _asked(kernel, kernel.profile_dir)
        if kind is not type(self._shell) or asked != wanted or kernel.config is not self._shell.config:
            return kind.instance(**asked)
        shell, history = self._shell, self._shell.history_manager
        shell.parent = shell.kernel = kernel
        shell.profile_dir = kernel.profile_dir
        shell.init_ipython_dir(None)
        shell.starting_dir = os.getcwd()
        shell.init_environment()
        shell.init_virtualenv()
        shell.save_sys_module_state()
        shell.init_sys_modules()
        history.dir_hist[:] = [type(folder)(shell.starting_dir) for folder in history.dir_hist]
        now = dt.datetime.now()  # noqa: DTZ005 - as it does
        with history.db:
            history.db.execute("UPDATE sessions SET start = ?", (now.isoformat(" "),))
        shell.init_encoding()
        shell.init_pushd_popd_magic()
        shell.sys_excepthook = sys.excepthook
        vars(builtins).update(self._builtins)
        vars(sys).update(self._sys)
        cast("list[Any]", warnings.filters)[:0] = self._filters
        with warnings.catch_warnings():
            pass  # its end tells the interpreter that the filters are others
        for call, named in self._at_exit:
            atexit.register(*call, **named)
        for variable, value in self._context:
            variable.set(value)
        for each in kind._walk_mro():  # noqa: SLF001 - as ``instance`` does
            each._instance = shell  # noqa: SLF001
        type(self).given = True
        return shell


def _made(config: Any, application: Any, kernel: Any) -> tuple[Any, Any, Any]:
    """Make the application, what stands for the kernel, and the shell."""
    from ipykernel.zmqshell import ZMQInteractiveShell
    from IPython.core.profiledir import ProfileDir
    from traitlets.config import Configurable

    app = application()
    app.cli_config = copy.deepcopy(config)
    app.update_config(app.cli_config)
    app.cli_config = copy.deepcopy(config)  # a file of configuration, or none, would have been added to a copy
    app.extra_args = []
    stand_in = kernel.__new__(kernel)
    Configurable.__init__(stand_in, parent=app, log=app.log)
    shell = ZMQInteractiveShell(ipython_dir=os.sep, **_asked(stand_in, ProfileDir()))
    return app, stand_in, shell


def _asked(kernel: Any, profile: Any) -> dict[str, Any]:
    """Give what a kernel asks for."""
    return {
        "parent": kernel,
        "profile_dir": profile,
        "user_module": None,
        "user_ns": None,
        "kernel": kernel,
        "compiler_class": kernel.compiler_class,
    }


def _taken_back(names: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """Take back what was set, and give it."""
    new = {name: value for name, value in names.items() if name not in before or before[name] is not value}
    for name in new:
        if name in before:
            names[name] = before[name]
        else:
            del names[name]
    return new


class _NoImport:
    """A finder of modules that lets none be imported that is there."""

    @staticmethod
    def find_spec(name: str, path: Any = None, _target: Any = None) -> None:
        if importlib.machinery.PathFinder.find_spec(name, path) is not None:
            raise NotReadyError(f"it imports {name}")


class _File:
    """What a kernel asks of a module."""

    __slots__ = ("__file__",)

    def __init__(self, file: str) -> None:
        self.__file__ = file


class _Modules:
    """What a kernel asks of ``sys.modules``: going through them itself it would copy a page of memory for each."""

    def __init__(self, modules: Iterator[Any]) -> None:
        self._modules = modules

    def copy(self) -> _Modules:
        return self

    def values(self) -> Iterator[Any]:
        return self._modules

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.modules, name)


class _Sys:
    """What stands for ``sys`` while a kernel is made."""

    def __init__(self, modules: _Modules) -> None:
        self.modules = modules

    def __getattr__(self, name: str) -> Any:
        return getattr(sys, name)


# What is compared

ATOMS = (str, bytes, int, float, complex, bool, type(None), os.PathLike, types.ModuleType)
RANDOM = re.compile("[0-9a-f]{8}-[0-9a-f-]{27}")
OPENED = ("IPython", "ipykernel", "traitlets")
SKIPPED = (
    "ipykernel.control",
    "ipykernel.heartbeat",
    "ipykernel.iostream",
    "ipykernel.shellchannel",
    "ipykernel.subshell",
    "ipykernel.thread",
    "IPython.core.profiledir",
)
"""What is looked into, and what in it is not: threads, sockets, and what has a copy of the arguments."""


def described(app: Any) -> str:
    """Give all that can be reached from an application, and what the process has set, as text."""
    lines: list[str] = []
    seen: dict[int, str] = {}
    kept: list[Any] = []  # a number is an object's while it lives
    queue: deque[tuple[str, Any]] = deque([("app", app)])
    queue.extend(("process", part) for part in (*_process(), app.profile_dir.location))
    while queue:
        path, thing = queue.popleft()
        if isinstance(thing, ATOMS):
            lines.append(f"{path} {RANDOM.sub('', repr(thing))}")
        elif id(thing) in seen:
            lines.append(f"{path} is {seen[id(thing)]}")
        else:
            seen[id(thing)] = path
            kept.append(thing)
            kind = type(thing)
            lines.append(f"{path} {kind.__module__}.{kind.__qualname__} {getattr(thing, '__qualname__', '')}")
            queue.extend((f"{path}.{name}", part) for name, part in _parts(thing))
    return "\n".join(lines)


def _parts(thing: Any) -> Iterator[tuple[str, Any]]:
    """Give what there is in a thing."""
    if isinstance(thing, dict):
        for at, (key, value) in enumerate(list(thing.items())):
            name = repr(key) if isinstance(key, ATOMS) else getattr(key, "__qualname__", str(at))
            yield name, value
    elif isinstance(thing, (list, tuple, deque)):
        yield from ((str(at), part) for at, part in enumerate(thing))
    elif isinstance(thing, (set, frozenset)):
        yield "of", str(sorted(map(str, filter(lambda part: isinstance(part, ATOMS), thing)))) + str(len(thing))
    elif isinstance(thing, types.MethodType):
        yield "of", thing.__self__
    elif isinstance(thing, types.FunctionType):
        yield "closed", tuple(cell.cell_contents for cell in thing.__closure__ or () if _filled(cell))
    elif isinstance(thing, type):
        yield from ()
    elif type(thing).__module__.startswith(OPENED) and not type(thing).__module__.startswith(SKIPPED):
        for name, value in sorted(getattr(thing, "__dict__", {}).items()):
            if name.startswith("_trait_"):
                yield from ((f"{name}.{trait}", value[trait]) for trait in sorted(value, key=str))
            elif name != "parse_command_line":  # ours
                yield name, value


def _filled(cell: Any) -> bool:
    with contextlib.suppress(ValueError):
        return cell.cell_contents is not cell
    return False


def _process() -> Iterator[Any]:
    yield sorted(vars(builtins))
    yield {name: value for name, value in sorted(vars(sys).items()) if name.startswith("ps") or name.endswith("hook")}
    yield dict(os.environ)
    yield list(sys.path)
    yield sorted(sys.modules)
    yield vars(sys.modules["__main__"])
    yield [str(entry) for entry in warnings.filters]
    yield vars(atexit)["_ncallbacks"]()
    yield sorted(f"{variable.name} {value!r}" for variable, value in contextvars.copy_context().items())


def digest(app: Any) -> bytes:
    """Give a kernel in short."""
    return hashlib.sha256(described(app).encode("utf-8", "backslashreplace")).digest()
