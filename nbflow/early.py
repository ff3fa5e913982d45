"""A template begun early: before it is known what for, while the command line still loads.

A template is a process that forks kernels (:mod:`nbflow.kernels.warm`). Its own imports take as long as those of the
command line, so the command line begins one with its first line, on another core. Who needs a kernel takes it and sends
what it is to do; who has no use for it ends it.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = [
    "OURS",
    "SUPPORTED",
    "Spawned",
    "begin",
    "end",
    "interpreter",
    "is_there",
    "memory_file",
    "pair",
    "read_early",
    "readable",
    "spawn",
    "take",
]

SUPPORTED = all(
    (hasattr(os, "pidfd_open"), hasattr(os, "memfd_create"), hasattr(signal, "pidfd_send_signal"), hasattr(os, "fork"))
)
"""Whether this system has what templates need: Linux 5.3."""

_NAMED = frozenset({"HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV"})
_FAMILIES = ("PYTHON", "LC_", "LD_", "DYLD_", "MALLOC_", "XDG_", "CONDA_", "SSL_", "REQUESTS_")
"""Variables that are read when an interpreter starts, or when it imports ipykernel; families by how they begin."""

_LIBRARIES = (
    *("MPL", "OMP_", "KMP_", "GOMP_", "MKL_", "OPENBLAS_", "GOTO_", "BLIS_", "VECLIB_", "NUMEXPR_", "POLARS_"),
    *("RAYON_", "NUMBA_", "PANDAS_", "ARROW_", "DASK_", "JOBLIB_", "SKLEARN_", "LOKY_"),
)
"""Variables that are read when a library is imported that ipykernel does not import."""

COLD = ("COVERAGE_PROCESS", "PYTHONINSPECT", "PYTHONPROFILEIMPORTTIME")
"""With these an interpreter does something at its start that a fork would not repeat."""

LESSON = 4096
"""Bytes for what a template leaves behind for its owner."""

IDLE_SECONDS = 600.0
"""How long a template lives without kernels and requests; the next request makes a new one."""

OURS = ("python", f"python{sys.version_info[0]}", f"python{sys.version_info[0]}.{sys.version_info[1]}")
"""What stands in a kernel's command for this interpreter; jupyter_client starts itself for these."""

_VERBS = frozenset({"map", "resume", "run"})
_WITHOUT = frozenset({"-h", "--help", "--dry-run", "--detach"})
_TEMPLATE = os.path.join(os.path.dirname(__file__), "kernels", "warm", "template.py")  # noqa: PTH118, PTH120 - pathlib is not loaded yet
_WIDTH = 400
"""Bytes of a template's command line at least: a kernel writes its own over them."""

_ends: weakref.WeakSet[socket.socket] = weakref.WeakSet()
"""Our ends of the sockets on which lives hang."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Give our end of a channel and the other one; a child that this process forks has ours closed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    _ends.add(ours)
    return ours, theirs


def readable(descriptor: int | socket.socket, seconds: float) -> bool:
    """Wait until there is something; select would not take descriptors from 1024 on."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def memory_file(name: str, content: Mapping[str, object]) -> int:
    """Give the descriptor of a file in memory that holds this as JSON."""
    descriptor = os.memfd_create(name)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(json.dumps(content).encode())
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@dataclass
class Spawned:
    """A template's process, as its owner holds it."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    """Over which it is asked; when it closes, the template ends."""
    said: int
    """Descriptor of what it prints."""
    lesson: int
    """Descriptor of what it leaves behind."""
    gone: int
    """Its pidfd."""

    def order(self, order: Mapping[str, object]) -> None:
        """Send what it is for; it was spawned without.

        Raises
        ------
        OSError
            If it is gone.
        """
        descriptor = memory_file("nbflow-order", order)
        try:
            rights = array.array("i", [descriptor])
            flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
            self.control.sendmsg([b"order"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)], flags)
        finally:
            os.close(descriptor)

    def bury(self) -> int:
        """Give the exit code, and end what it left: a fork of it that hangs would keep its sockets open."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)  # it is not reaped, so the number is its own
        return self.process.wait()

    def close(self) -> None:
        """Let go of it."""
        self.control.close()
        said, self.said = self.said, -1  # somebody may still want its last words
        for descriptor in (said, self.lesson, self.gone):
            os.close(descriptor)

    def forget(self) -> None:
        """Let go of it in a process that its owner forked: it is not ours."""
        self.close()
        self.process.returncode = 0  # otherwise the garbage collector warns of a child that runs


def spawn(command: Sequence[str], environment: Mapping[str, str], given: Mapping[str, object]) -> Spawned:
    """Start a template.

    Parameters
    ----------
    command : sequence of str
        The interpreter and its flags.
    environment : mapping of str to str
        All that it gets.
    given : mapping
        What it is for; ``{"idle": seconds}`` alone: that comes later, and for so long it waits.

    Raises
    ------
    OSError
        If it cannot be started.
    """
    with contextlib.ExitStack() as stack:  # what is undone if it cannot be started
        control, theirs = pair()
        stack.callback(control.close)
        said = os.memfd_create("nbflow-template")
        stack.callback(os.close, said)
        lesson = os.memfd_create("nbflow-lesson")
        stack.callback(os.close, lesson)
        os.ftruncate(lesson, LESSON)
        with theirs:
            words = json.dumps({"control": theirs.fileno(), "lesson": lesson, **given})
            process = subprocess.Popen(  # noqa: S603 - the kernel's own interpreter, and our file
                [*command, _TEMPLATE, words, " " * max(0, _WIDTH - len(words))],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd="/",
                start_new_session=True,
                pass_fds=[theirs.fileno(), lesson],
            )
        stack.callback(process.wait)
        stack.callback(process.kill)
        gone = os.pidfd_open(process.pid)
        stack.pop_all()
    return Spawned(process, control, said, lesson, gone)


# The one that waits


@dataclass(frozen=True)
class _Waiting:
    command: tuple[str, ...]
    environment: Mapping[str, str]
    spawned: Spawned


_waiting: list[_Waiting] = []
"""None or one. Taken out by ``pop``, so that only one thread has it."""


def begin(words: Sequence[str]) -> None:
    """Begin a template if what is asked of the command line is likely to need one: a kernel of this environment.

    Parameters
    ----------
    words : sequence of str
        What stands behind ``nbflow``.
    """
    if not SUPPORTED or not words or words[0] not in _VERBS or not _WITHOUT.isdisjoint(words):
        return
    if "cold" in words or "--kernel-start=cold" in words or len(os.sched_getaffinity(0)) < 2:
        return  # on one core it would only be in the way
    if any(name.startswith(COLD) for name in os.environ):
        return
    try:
        for stream in (0, 1, 2):
            os.fstat(stream)
    except OSError:  # it is closed, and a socket would get its place
        return
    command = interpreter()
    environment = read_early(os.environ)
    if command:
        with contextlib.suppress(OSError, UnicodeError):  # whoever needs one will see why
            _waiting.append(_Waiting(command, environment, spawn(command, environment, {"idle": IDLE_SECONDS})))


def interpreter() -> tuple[str, ...]:
    """Give how the kernel ``python3`` of this environment starts its interpreter; nothing, if that is not seen."""
    try:
        spec = f"{sys.prefix}/share/jupyter/kernels/python3/kernel.json"
        with open(spec, encoding="utf-8") as file:  # noqa: PTH123 - pathlib is not loaded yet
            first, *others = json.load(file)["argv"]
        flags = others[: others.index("-m")]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ()
    return (sys.executable, *flags) if first in {*OURS, sys.executable} else ()


def is_there() -> bool:
    """Tell whether one was begun that nobody has taken."""
    return bool(_waiting)


def take(command: Sequence[str], environment: Mapping[str, str]) -> Spawned | None:
    """Give the template that was begun early, if it fits; one that does not is ended.

    Parameters
    ----------
    command : sequence of str
        The interpreter and its flags.
    environment : mapping of str to str
        What a template for this has in its environment; what only libraries read may differ from what it has.
    """
    try:
        waiting = _waiting.pop()
    except IndexError:
        return None
    spawned = waiting.spawned
    fits = waiting.command == tuple(command) and _read_first(waiting.environment) == _read_first(environment)
    if fits and not readable(spawned.gone, 0):
        return spawned
    _end(spawned)
    return None


def _read_first(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name in _NAMED or name.startswith(_FAMILIES)}


def read_early(environment: Mapping[str, str]) -> dict[str, str]:
    """Give what a template needs that is begun early: it imports ipykernel; secrets are not among it.

    Examples
    --------
    >>> read_early({"LANG": "C", "LANGCHAIN_API_KEY": "secret", "OMP_NUM_THREADS": "2"})
    {'LANG': 'C', 'OMP_NUM_THREADS': '2'}
    """
    libraries = {name: value for name, value in environment.items() if name.startswith(_LIBRARIES)}
    return {**_read_first(environment), **libraries}


def end() -> None:
    """End the one that nobody has taken."""
    with contextlib.suppress(IndexError):
        _end(_waiting.pop().spawned)


def _end(spawned: Spawned) -> None:
    spawned.bury()
    spawned.close()


def _let_go() -> None:
    """Close our ends in a process that this one forks: kernels end with who asked for them, not with its child."""
    while _waiting:
        _waiting.pop().spawned.forget()
    for channel in list(_ends):
        channel.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
