"""Templates from the owner's side: which there are, how one is asked for a kernel, and what came of the kernel."""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import json
import logging
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import threading
import time
import weakref
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...libraries import KNOWN

__all__ = ["SUPPORTED", "UNKNOWN", "Forked", "NoKernelError", "Templates"]

SUPPORTED = all(
    (hasattr(os, "pidfd_open"), hasattr(os, "memfd_create"), hasattr(signal, "pidfd_send_signal"), hasattr(os, "fork"))
)
"""Whether this system has what templates need: Linux 5.3."""

UNKNOWN = -255
"""The exit code of a kernel whose template died before it could tell; no signal has this number."""

BOUND_SECONDS = 10.0
"""How long a fork may take until it listens."""

IMPORT_SECONDS = 60.0
"""How long a template may take to import one module."""

PROBE_SECONDS = 5.0
"""How long a template's probe may take; it needs a tenth of a second."""

LESSON = 4096
"""Bytes for what a template leaves behind for its owner."""

TELL_SECONDS = 2.0
"""How long a template may take to tell the code of a kernel that ended."""

START = (
    "PYTHON LC_ LANG LD_ DYLD_ MPL MALLOC_ OMP_ KMP_ GOMP_ MKL_ OPENBLAS_ GOTO_ BLIS_ VECLIB_ NUMEXPR_ POLARS_ RAYON_ "
    "NUMBA_ PANDAS_ ARROW_ DASK_ JOBLIB_ SKLEARN_ LOKY_ XDG_ HOME PATH TMPDIR USER LOGNAME TZ "
    "VIRTUAL_ENV CONDA_ SSL_ REQUESTS_"
)
"""Variables that are read when an interpreter or a library starts. A template has these and no others: what else a
kernel gets travels with its request, secrets among it."""

_STARTS = tuple(START.split())
_COLD = ("COVERAGE_PROCESS", "PYTHONINSPECT", "PYTHONPROFILEIMPORTTIME")
"""With these an interpreter does something at its start that a fork would not repeat."""

CRASHES = frozenset(
    {signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV, signal.SIGSYS, signal.SIGTRAP}
)
"""Signals that a process brings upon itself."""

_TEMPLATE = Path(__file__).with_name("template.py")
_WIDTH = 400
"""Bytes of a template's command line at least: a kernel writes its own over them."""

QUIET = logging.getLogger("nbflow.kernels")


class NoKernelError(Exception):
    """There is no kernel from a template, and why; it can be started otherwise."""

    def __init__(self, why: str, *, again: bool = False, stale: bool = False, bad: bool = False) -> None:
        super().__init__(why)
        self.again = again or stale or bad
        """Whether there may be one at the second try."""
        self.stale = stale or bad
        """Whether that takes another template."""
        self.bad = bad
        """Whether something that the template imported may be the reason."""


@dataclass(frozen=True, slots=True)
class Key:
    """What kernels of one template share."""

    command: tuple[str, ...]
    """The interpreter and its flags."""
    environment: tuple[tuple[str, str], ...]
    """What it reads at its start."""
    preload: tuple[str, ...]


def key_of(command: Sequence[str], env: Mapping[str, str], preload: Sequence[str]) -> Key:
    """Give the key of a kernel's template.

    Raises
    ------
    NoKernelError
        If such a kernel cannot come from one.
    """
    if "-m" not in command or command[command.index("-m") + 1 :][:1] != ["ipykernel_launcher"]:
        raise NoKernelError("its command is not that of an IPython kernel")
    interpreter = command[: command.index("-m")]
    name = Path(interpreter[0]).name if interpreter else ""
    if not name.startswith("python") or not all(part.startswith("-") for part in interpreter[1:]):
        raise NoKernelError("its command starts something else than Python")
    if any(name.startswith(_COLD) for name in env):
        raise NoKernelError("its environment has something done at the start of an interpreter")
    if any(not Path(part).is_absolute() for part in env.get("PYTHONPATH", "/").split(os.pathsep)):
        raise NoKernelError("PYTHONPATH depends on the directory")
    start = tuple(sorted((name, value) for name, value in env.items() if name.startswith(_STARTS)))
    return Key(tuple(interpreter), start, tuple(preload))


@dataclass(slots=True)
class Lessons:
    """What templates with the same key have found out, for the next one; the cache may not be writable."""

    culprits: dict[str, str] = field(default_factory=dict)
    """Modules, with their versions, that are unfit, and why."""
    suspicious: bool = False
    """Whether one of the modules is a culprit that is not known yet."""


class Forked:
    """A kernel that was forked: what :class:`subprocess.Popen` is to one that was started.

    Parameters
    ----------
    pid : int
        Its process, which leads a session and a group of its own.
    pidfd : int
        The same as a descriptor, which cannot become another process's.
    channel : socket
        On which its template tells of it; while it is open the process is not reaped, and when it closes all of its
        group ends.
    """

    stdin = stdout = stderr = None

    def __init__(self, pid: int, pidfd: int, channel: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._channel = channel
        self._ended: float | None = None
        self._pidfd = pidfd
        self._release = weakref.finalize(self, _release, channel, pidfd)

    def fileno(self) -> int:
        """Give the pidfd: it can be read when the process has ended."""
        return self._pidfd

    def poll(self) -> int | None:
        """Give the exit code, negative for a signal; ``None`` while it lives, ``UNKNOWN`` if nobody can tell."""
        if self.returncode is None and select.select([self._pidfd], [], [], 0)[0]:
            self._ended = self._ended or time.monotonic()
            self.returncode = self._told()
            if self.returncode is None:
                self.returncode = exit_code(self._pidfd)
            if self.returncode is None and time.monotonic() - self._ended > TELL_SECONDS:
                self.returncode = UNKNOWN
        return self.returncode

    def _told(self) -> int | None:
        """Give what the template told; the code is unknown when it can no longer tell."""
        while True:
            try:
                data = self._channel.recv(4096, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
            except OSError:
                data = b""
            if not data:
                code = exit_code(self._pidfd)
                return UNKNOWN if code is None else code
            code = json.loads(data).get("exit")
            if code is not None:
                return int(code)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end, then let go of it: whatever it left running ends, and its number may be another's."""
        began = time.monotonic()
        left = timeout
        while (code := self.poll()) is None:
            if timeout is not None and (left := timeout - (time.monotonic() - began)) <= 0:
                raise subprocess.TimeoutExpired("kernel", timeout)
            select.select([self._pidfd], [], [], left)
            select.select([self._channel], [], [], 0.1)
        self._release()
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal to the process alone."""
        if self._release.alive and self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)


def _release(channel: socket.socket, pidfd: int) -> None:
    channel.close()
    os.close(pidfd)


_INFO = struct.Struct("QQ11Ii")
_GET_INFO = (3 << 30) | (_INFO.size << 16) | (0xFF << 8) | 11
_EXIT = 1 << 3


def exit_code(pidfd: int) -> int | None:
    """Give the exit code of a process that somebody else has reaped, where Linux tells it (from 6.15)."""
    asked = bytearray(_INFO.pack(_EXIT, *[0] * 13))
    try:
        fcntl.ioctl(pidfd, _GET_INFO, asked)
    except OSError:
        return None
    mask, *_, status = _INFO.unpack(asked)
    return os.waitstatus_to_exitcode(status) if mask & _EXIT else None


class Template:
    """One template process.

    Parameters
    ----------
    key : Key
        What its kernels share.
    cache : str
        Folder of what is remembered of modules; empty: nothing is.
    lessons : Lessons
        What is known from earlier ones.
    """

    def __init__(self, key: Key, cache: str, lessons: Lessons) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lesson = os.memfd_create("nbflow-lesson")
        os.ftruncate(self._lesson, LESSON)
        given = {
            "control": theirs.fileno(),
            "lesson": self._lesson,
            "preload": list(key.preload),
            "known": sorted(KNOWN),
            "cache": cache,
            "culprits": lessons.culprits,
            "suspicious": lessons.suspicious,
            "import_seconds": IMPORT_SECONDS,
            "probe_seconds": PROBE_SECONDS,
        }
        self._said = os.memfd_create("nbflow-template")
        words = json.dumps(given)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the kernel's own interpreter, and our file
                [*key.command, str(_TEMPLATE), words, " " * max(0, _WIDTH - len(words))],
                env=dict(key.environment),
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=self._said,
                cwd="/",
                start_new_session=True,
                pass_fds=[theirs.fileno(), self._lesson],
            )
        finally:
            theirs.close()
        self.pid = self._process.pid
        self._gone = os.pidfd_open(self.pid)
        self.forked = False
        """Whether it ever gave a kernel."""

    @property
    def alive(self) -> bool:
        """Whether the process lives."""
        return not select.select([self._gone], [], [], 0)[0]

    def settle(self) -> None:
        """If it is about to be dead, wait for it."""
        select.select([self._gone], [], [], 0.2)

    @property
    def last_words(self) -> str:
        """The end of what it printed."""
        size = os.fstat(self._said).st_size
        return os.pread(self._said, 2000, max(0, size - 2000)).decode("utf-8", "replace").strip()

    def learn(self, lessons: Lessons) -> bool:
        """Take over what it found out, and tell whether that is new; one that died tells what it was just trying."""
        text = os.pread(self._lesson, LESSON, 0).strip(b"\0 ")
        told = json.loads(text) if text else {}
        code = None if self.alive else self._bury()
        culprit, why = told.get("culprit"), told.get("why", "")
        if "trying" in told and code is not None:
            culprit = told["trying"]
            if code == -signal.SIGALRM:
                why = "takes too long"
            elif code >= 0 or -code in CRASHES:
                why = f"ends the process ({code})"
            else:
                culprit = None  # somebody else ended it
            told["suspicious"] = culprit == ""
        if culprit and culprit not in lessons.culprits:
            QUIET.debug("%s is not preloaded: %s", culprit.partition(" ")[0], why)
            lessons.culprits[culprit] = why
            return True
        if told.get("suspicious") and not lessons.suspicious:
            lessons.suspicious = True
            return True
        return False

    def _bury(self) -> int:
        """Give the exit code, and end what it left: a fork of it that hangs would keep its sockets open."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)  # it is not reaped, so the number is its own
        return self._process.wait()

    async def fork(self, request: Mapping[str, object], streams: Sequence[int]) -> Forked:
        """Have a kernel forked, and wait until it listens.

        Raises
        ------
        NoKernelError
            If none came of it.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(0)
        asked = os.memfd_create("nbflow-request")
        try:
            with open(asked, "wb", closefd=False) as file:
                file.write(json.dumps(request).encode())
            rights = array.array("i", [theirs.fileno(), *streams, asked])
            self._control.sendmsg([b"kernel"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        except OSError as problem:
            ours.close()
            raise NoKernelError(f"the template is gone ({problem.strerror})", stale=True) from problem
        finally:
            theirs.close()
            os.close(asked)
        kernel: Forked | None = None
        try:
            kernel = await _begun(ours, self._gone)
            await asyncio.wait_for(_bound(ours), BOUND_SECONDS)
        except BaseException as problem:
            if kernel is not None:
                kernel.kill()
                kernel._release()  # noqa: SLF001 - it is ours
            ours.close()
            if isinstance(problem, asyncio.TimeoutError):
                raise NoKernelError(f"it did not listen within {BOUND_SECONDS:g} s", bad=True) from None
            raise
        self.forked = True
        return kernel

    def close(self) -> None:
        """Ask for nothing more: it ends when its kernels have."""
        self._control.close()

    def end(self) -> None:
        """Close it, and wait for its end."""
        self.close()
        select.select([self._gone], [], [], 2.0)
        self._bury()
        os.close(self._said)
        os.close(self._lesson)
        os.close(self._gone)


async def _message(channel: socket.socket, gone: int | None = None) -> tuple[dict[str, Any], list[int]]:
    """Wait for the next message on a channel; none if it closed, or the template is gone before one came."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    descriptors = [channel.fileno(), *([] if gone is None else [os.dup(gone)])]  # others wait for the same
    for descriptor in descriptors:
        loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        for descriptor in descriptors:
            loop.remove_reader(descriptor)
        for descriptor in descriptors[1:]:
            os.close(descriptor)
    size = array.array("i").itemsize
    try:
        data, extra, _, _ = channel.recvmsg(4096, socket.CMSG_SPACE(size), socket.MSG_CMSG_CLOEXEC)
    except (ConnectionError, BlockingIOError):
        data, extra = b"", []
    received = array.array("i")
    for _, _, part in extra:
        received.frombytes(part[: len(part) - len(part) % size])
    return json.loads(data) if data else {}, list(received)


async def _begun(channel: socket.socket, gone: int) -> Forked:
    message, descriptors = await _message(channel, gone)
    if "pid" in message:
        return Forked(message["pid"], descriptors[0], channel)
    raise _no(message)


async def _bound(channel: socket.socket) -> None:
    message, _ = await _message(channel)
    if "bound" not in message:
        raise _no(message)


def _no(message: Mapping[str, Any]) -> NoKernelError:
    if "no" in message:
        return NoKernelError(str(message["no"]), stale=bool(message.get("stale")))
    if "exit" in message:
        why = f"the kernel ended with {message['exit']} before it listened"
        return NoKernelError(why, bad=message["exit"] < 0)
    return NoKernelError("the template died", stale=True)


class Templates:
    """The templates of one owner; shared by all threads.

    Parameters
    ----------
    cache : Path, optional
        Folder of what is remembered of modules; none: nothing is.

    Examples
    --------
    >>> templates = Templates()
    >>> templates.close()
    """

    def __init__(self, cache: Path | None = None) -> None:
        self._cache = str(cache) if cache is not None else ""
        self._lock = threading.Lock()
        self._living: dict[Key, Template] = {}
        self._retired: list[Template] = []
        self._given_up: dict[Key, str] = {}
        self._lessons: defaultdict[Key, Lessons] = defaultdict(Lessons)

    async def fork(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        cwd: str,
        streams: Sequence[int],
        preload: Sequence[str] = (),
    ) -> Forked:
        """Have a kernel forked that is as if its command had been started.

        Parameters
        ----------
        command : sequence of str
            The command of an IPython kernel.
        env : mapping of str to str
            Its environment, whole.
        cwd : str
            Its directory.
        streams : sequence of int
            Descriptors for its stdin, stdout and stderr.
        preload : sequence of str
            Modules that the template imports.

        Raises
        ------
        NoKernelError
            If there is none; with a reason.
        """
        key = key_of(command, env, preload)
        request = {"argv": list(command), "env": dict(env), "cwd": cwd, **_circumstances()}
        last = False
        while True:
            template = self._template(key)
            try:
                kernel = await template.fork(request, streams)
            except NoKernelError as problem:
                if problem.stale and self._retire(key, template, bad=problem.bad):
                    continue  # the next one knows better: it has a module less
                if last and (problem.bad or not template.forked):
                    self._given_up[key] = f"{problem}: {template.last_words}"
                if last or not problem.again:
                    raise
                last = True
            else:
                self._lessons[key].suspicious = False
                return kernel

    def begin(self, command: Sequence[str], env: Mapping[str, str], preload: Sequence[str]) -> None:
        """Start a template that will be asked soon."""
        with contextlib.suppress(NoKernelError):
            self._template(key_of(command, env, preload))

    def pids(self) -> list[int]:
        """Give the processes of the templates that live."""
        with self._lock:
            return [template.pid for template in self._living.values() if template.alive]

    def close(self) -> None:
        """End all templates; kernels that still run end with them."""
        with self._lock:
            templates = [*self._living.values(), *self._retired]
            self._living.clear()
            self._retired.clear()
        for template in templates:
            template.close()
        for template in templates:
            for line in template.last_words.splitlines():
                QUIET.debug("template: %s", line)
            template.end()

    def _template(self, key: Key) -> Template:
        with self._lock:
            if key in self._given_up:
                raise NoKernelError(self._given_up[key])
            template = self._living.get(key)
            if template is None or not template.alive:
                if template is not None:
                    self._put_away(key, template)
                try:
                    self._living[key] = Template(key, self._cache, self._lessons[key])
                except OSError as problem:
                    raise NoKernelError(str(problem)) from problem
            return self._living[key]

    def _retire(self, key: Key, template: Template, *, bad: bool) -> bool:
        """Have no more kernels from a template; tells whether another one will do better."""
        template.close()
        template.settle()
        with self._lock:
            if self._living.get(key) is not template:
                return True  # another thread has seen it
            if bad:
                self._lessons[key].suspicious = True
            return self._put_away(key, template)

    def _put_away(self, key: Key, template: Template) -> bool:
        del self._living[key]
        self._retired.append(template)
        return template.learn(self._lessons[key])


def _circumstances() -> dict[str, object]:
    """Give what a process inherits from this one besides what it is given."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    limits = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]
    return {
        "umask": int(status["Umask"], 8),
        "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "limits": [[which, resource.getrlimit(which)] for which in sorted(set(limits))],
        "nice": os.nice(0),
        "affinity": sorted(os.sched_getaffinity(0)),
        "cgroup": Path("/proc/self/cgroup").read_text(),
    }
