"""Templates from the owner's side: which there are, how one is asked for a kernel, and what came of the kernel."""

from __future__ import annotations

import array
import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import struct
import subprocess
import threading
import time
import weakref
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ... import early
from ...early import IDLE_SECONDS, LESSON, SUPPORTED, memory_file, pair, readable
from ...host import UNKNOWN
from ...libraries import KNOWN

__all__ = ["SUPPORTED", "Forked", "NoKernelError", "Templates", "readiness"]

READY_SECONDS = 60.0
"""How long a template may take from its start to its first kernel: it imports, and may probe each module."""

BEGIN_SECONDS = 10.0
"""How long a template that has given a kernel may take to fork the next one."""

BOUND_SECONDS = 10.0
"""How long a fork may take until it listens."""

BARREN = 3
"""After how many templates in a row that gave no kernel no more are made; one or two may have been killed."""

END_SECONDS = 2.0
"""How long a template may take to end when it is asked for nothing more."""

IMPORT_SECONDS = 30.0
"""How long a template may take to import one module."""

PROBE_SECONDS = 5.0
"""How long a template's probe may take; it needs a tenth of a second."""

TELL_SECONDS = 2.0
"""How long a template may take to tell the code of a kernel that ended."""

OWN = ("NBFLOW_", "JPY_")
"""Variables that nothing reads when it is imported: each kernel has others."""

MOST = 4
"""Templates of one owner that are asked at a time; for one more, that which was not asked for longest ends."""

CRASHES = frozenset(
    getattr(signal, name)
    for name in ("SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP")
    if hasattr(signal, name)  # not all are on Windows
)
"""Signals that a process brings upon itself."""

QUIET = logging.getLogger("nbflow.kernels")


class NoKernelError(Exception):
    """There is no kernel from a template, and why; it can be started otherwise."""

    def __init__(self, why: str, *, again: bool | None = None, stale: bool = False, bad: bool = False) -> None:
        super().__init__(why)
        self.bad = bad
        """Whether something that the template imported may be the reason."""
        self.stale = stale or bad
        """Whether this template is to be asked no more."""
        self.again = self.stale if again is None else again
        """Whether there may be one at the second try."""


@dataclass(frozen=True, slots=True)
class Key:
    """What kernels of one template share."""

    command: tuple[str, ...]
    """The interpreter and its flags."""
    environment: tuple[tuple[str, str], ...]
    """All variables but those of one kernel alone and the private ones."""
    preload: tuple[str, ...]


def key_of(command: Sequence[str], env: Mapping[str, str], preload: Sequence[str], private: Sequence[str] = ()) -> Key:
    """Give the key of a kernel's template.

    Raises
    ------
    NoKernelError
        If such a kernel cannot come from one.
    """
    if not SUPPORTED:
        raise NoKernelError("this system has no pidfd")
    if "-m" not in command or command[command.index("-m") + 1 :][:1] != ["ipykernel_launcher"]:
        raise NoKernelError("its command is not that of an IPython kernel")
    interpreter = command[: command.index("-m")]
    name = Path(interpreter[0]).name if interpreter else ""
    if not name.startswith("python") or not all(part.startswith("-") for part in interpreter[1:]):
        raise NoKernelError("its command starts something else than Python")
    if any(name.startswith(early.COLD) for name in env):
        raise NoKernelError("its environment has something done at the start of an interpreter")
    if any(not Path(part).is_absolute() for part in (env.get("PYTHONPATH") or "/").split(os.pathsep)):
        raise NoKernelError("PYTHONPATH depends on the directory")
    # Whatever a library reads when it is imported, it has read in the template.
    start = tuple(sorted(one for one in env.items() if not one[0].startswith(OWN) and one[0] not in private))
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
        self._orphaned = False
        self._ended: float | None = None
        self._pidfd = pidfd
        self._release = weakref.finalize(self, _release, channel, pidfd)

    def fileno(self) -> int:
        """Give the pidfd: it can be read when the process has ended."""
        return self._pidfd

    def poll(self) -> int | None:
        """Give the exit code, negative for a signal; ``None`` while it lives, ``UNKNOWN`` if nobody can tell."""
        if self.returncode is None and self._release.alive and readable(self._pidfd, 0):
            self._ended = self._ended or time.monotonic()
            self.returncode = self._told()
            if self.returncode is None:
                self.returncode = exit_code(self.pid, self._pidfd)
            if self.returncode is None and (self._orphaned or time.monotonic() - self._ended > TELL_SECONDS):
                self.returncode = UNKNOWN
        return self.returncode

    async def gone(self) -> None:
        """Wait for the end of the process."""
        await readiness(os.dup(self._pidfd))

    def _told(self) -> int | None:
        """Give what the template told, if it has."""
        while not self._orphaned:
            try:
                data = self._channel.recv(4096, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            self._orphaned = not data
            with contextlib.suppress(ValueError, AttributeError):  # a cell wrote to all descriptors that it found
                code = json.loads(data).get("exit")
                if isinstance(code, int):
                    return code
        return None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end, then let go of it: whatever it left running ends, and its number may be another's."""
        end = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            left = 3600.0 if end is None else end - time.monotonic()
            if timeout is not None and left <= 0:
                raise subprocess.TimeoutExpired("kernel", timeout)
            if self._ended is None:
                readable(self._pidfd, left)
            else:
                readable(self._channel, min(left, 0.1))
        self.signal_group(signal.SIGKILL)
        self._release()
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal to the process alone."""
        if self._release.alive and self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def signal_group(self, number: int) -> None:
        """Send a signal to the process and those that it started; to these also when it has ended.

        While the template lives, an ended kernel is not reaped, and its number stays its own.
        """
        if not self._release.alive:
            return
        try:
            signal.pidfd_send_signal(self._pidfd, 0)
        except ProcessLookupError:  # it was reaped: its template is dead
            if Path(f"/proc/{self.pid}").exists():
                return  # and its number is another's
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

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


def exit_code(pid: int, pidfd: int) -> int | None:
    """Give the exit code of a process that ended and is not our child, where the system still tells it."""
    import fcntl  # not on Windows

    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        signal.pidfd_send_signal(pidfd, 0)
        return os.waitstatus_to_exitcode(int(fields[49]))  # nobody has reaped it yet, so the number was its own
    asked = bytearray(_INFO.pack(_EXIT, *[0] * 13))
    with contextlib.suppress(OSError):  # before Linux 6.15 nobody remembers
        fcntl.ioctl(pidfd, _GET_INFO, asked)
        mask, *_, status = _INFO.unpack(asked)
        return os.waitstatus_to_exitcode(status) if mask & _EXIT else None
    return None


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
    new : bool
        Whether one is started if none was begun early.

    Raises
    ------
    NoKernelError
        If none is to be started.
    OSError
        If it cannot be started.
    """

    def __init__(self, key: Key, cache: str, lessons: Lessons, *, new: bool = True) -> None:
        order = {
            "preload": list(key.preload),
            "known": sorted(KNOWN),
            "cache": cache,
            "culprits": lessons.culprits,
            "suspicious": lessons.suspicious,
            "import_seconds": IMPORT_SECONDS,
            "probe_seconds": PROBE_SECONDS,
            "idle": IDLE_SECONDS,
        }
        environment = dict(key.environment)
        spawned = early.take(key.command, environment)
        if spawned is not None:
            try:
                spawned.order({**order, "environment": environment})
            except OSError:  # it has just died
                spawned.bury()
                spawned.close()
                spawned = None
        if spawned is None and not new:
            raise NoKernelError("a template would serve this kernel alone")
        self._spawned = spawned or early.spawn(key.command, environment, order)
        self.pid = self._spawned.process.pid
        self._began = time.monotonic()
        self.forked = False
        """Whether it ever gave a kernel."""

    @property
    def alive(self) -> bool:
        """Whether the process lives."""
        return not readable(self._spawned.gone, 0)

    def settle(self) -> None:
        """If it is about to be dead, wait for it."""
        readable(self._spawned.gone, 0.2)

    @property
    def last_words(self) -> str:
        """The end of what it printed."""
        with contextlib.suppress(OSError):  # it was ended
            size = os.fstat(self._spawned.said).st_size
            return os.pread(self._spawned.said, 2000, max(0, size - 2000)).decode("utf-8", "replace").strip()
        return ""

    def learn(self, lessons: Lessons) -> bool:
        """Take over what it found out, and tell whether that is new; one that died tells what it was just trying."""
        text = os.pread(self._spawned.lesson, LESSON, 0).strip(b"\0 ")
        told: dict[str, Any] = {}
        with contextlib.suppress(ValueError):  # it died while it wrote
            told = json.loads(text) if text else {}
        code = None if self.alive else self._spawned.bury()
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

    async def fork(self, request: Mapping[str, object], streams: Sequence[int]) -> Forked:
        """Have a kernel forked, and wait until it listens.

        Raises
        ------
        NoKernelError
            If none came of it.
        """
        channel = self._asked(request, streams)
        kernel: Forked | None = None
        try:
            left = 0.0 if self.forked else self._began + READY_SECONDS - time.monotonic()
            kernel = await _begun(channel, max(BEGIN_SECONDS, left), self._spawned.gone)
            await _bound(channel)
        except BaseException as problem:
            if kernel is not None:
                kernel.kill()
                kernel._release()  # noqa: SLF001 - it is ours
            channel.close()
            if isinstance(problem, asyncio.TimeoutError):
                raise self._silent(kernel) from None
            if isinstance(problem, OSError):  # another thread has put the template away
                raise NoKernelError(str(problem), stale=True) from problem
            raise
        self.forked = True
        return kernel

    def _asked(self, request: Mapping[str, object], streams: Sequence[int]) -> socket.socket:
        """Send a request; give our end of the kernel's channel."""
        with contextlib.ExitStack() as lent, contextlib.ExitStack() as kept:
            try:
                ours, theirs = pair()
                kept.enter_context(ours)
                lent.enter_context(theirs)
                asked = memory_file("nbflow-request", request)
                lent.callback(os.close, asked)
            except OSError as problem:
                raise NoKernelError(str(problem)) from problem
            ours.settimeout(0)
            rights = array.array("i", [theirs.fileno(), *streams, asked])
            flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
            try:
                self._spawned.control.sendmsg([b"kernel"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)], flags)
            except OSError as problem:
                gone = isinstance(problem, ConnectionError) or self._spawned.control.fileno() < 0
                raise NoKernelError(f"the template cannot be asked ({problem.strerror})", stale=gone) from problem
            kept.pop_all()
        return ours

    def _silent(self, kernel: Forked | None) -> NoKernelError:
        """Say that it took too long; a template that never gave a kernel never will."""
        if kernel is not None:
            return NoKernelError(f"it did not listen within {BOUND_SECONDS:g} s", bad=True)
        if self.forked:
            return NoKernelError(f"the template did not answer within {BEGIN_SECONDS:g} s", stale=True)
        self._spawned.process.kill()
        return NoKernelError(f"the template was not ready within {READY_SECONDS:g} s", stale=True, again=False)

    def close(self) -> None:
        """Ask for nothing more: it ends when its kernels have."""
        self._spawned.control.close()

    def end(self) -> None:
        """Close it, and wait for its end; kernels that were not let go of live on."""
        self.close()
        readable(self._spawned.gone, END_SECONDS if self.forked else 0.1)  # or it still imports
        self._spawned.bury()
        self._spawned.close()

    def forget(self) -> None:
        """Let go of it in a process that its owner forked: it is not ours."""
        self._spawned.forget()


async def readiness(descriptor: int) -> None:
    """Wait until a descriptor can be read, without looking again and again; then close it."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def _message(channel: socket.socket, seconds: float, gone: int | None = None) -> tuple[dict[str, Any], list[int]]:
    """Wait for the next message on a channel; none if it closed, or the template is gone before one came.

    Raises
    ------
    asyncio.TimeoutError
        If nothing comes.
    """
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def done(in_time: bool) -> None:  # noqa: FBT001 - a callback
        if not ready.done():
            ready.set_result(in_time)

    watched = [channel.fileno(), *([] if gone is None else [os.dup(gone)])]  # others wait for the same
    for descriptor in watched:
        loop.add_reader(descriptor, done, True)  # noqa: FBT003
    # Not wait_for: before Python 3.12 it loses a cancellation that comes with the answer.
    timer = loop.call_later(seconds, done, False)  # noqa: FBT003
    try:
        if not await ready:
            raise asyncio.TimeoutError
    finally:
        timer.cancel()
        for descriptor in watched:
            loop.remove_reader(descriptor)
        for descriptor in watched[1:]:
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


async def _begun(channel: socket.socket, seconds: float, gone: int) -> Forked:
    message, descriptors = await _message(channel, seconds, gone)
    if "pid" in message and descriptors:
        return Forked(message["pid"], descriptors[0], channel)
    if "pid" in message:
        raise NoKernelError("this process can have no more descriptors")
    raise _no(message)


async def _bound(channel: socket.socket) -> None:
    message, _ = await _message(channel, BOUND_SECONDS)
    if "bound" not in message:
        raise _no(message)


def _no(message: Mapping[str, Any]) -> NoKernelError:
    if "no" in message:
        return NoKernelError(str(message["no"]), stale=bool(message.get("stale")))
    if "exit" in message:
        why = f"the kernel ended with {message['exit']} before it listened"
        return NoKernelError(why, again=message["exit"] < 0, bad=-message["exit"] in CRASHES)
    return NoKernelError("the template died", stale=True)


class Templates:
    """The templates of one owner; shared by all threads.

    Parameters
    ----------
    cache : Path, optional
        Folder of what is remembered of modules; none: nothing is.
    new : bool
        Whether new ones are started; otherwise there is only one that was begun early.

    Examples
    --------
    >>> templates = Templates()
    >>> templates.close()
    """

    def __init__(self, cache: Path | None = None, *, new: bool = True) -> None:
        self._new = new
        self._cache = str(cache) if cache is not None else ""
        self._lock = threading.Lock()
        self._closed = False
        self._living: dict[Key, Template] = {}
        self._retired: list[Template] = []
        self._given_up: dict[Key, str] = {}
        self._barren: Counter[Key] = Counter()
        """How many templates in a row ended without having given a kernel."""
        self._end = weakref.finalize(self, _end, self._living, self._retired)
        _all.add(self)
        self._lessons: defaultdict[Key, Lessons] = defaultdict(Lessons)

    async def fork(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        cwd: str,
        streams: Sequence[int],
        preload: Sequence[str] = (),
        private: Sequence[str] = (),
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
        private : sequence of str
            Names of variables that the kernel alone gets: secrets.

        Raises
        ------
        NoKernelError
            If there is none; with a reason.
        """
        key = key_of(command, env, preload, private)
        try:
            request = {"argv": list(command), "env": dict(env), "cwd": cwd, **_circumstances()}
        except (OSError, KeyError, ValueError) as problem:  # this system does not tell
            raise NoKernelError(f"what a process inherits here cannot be read: {problem!r}") from problem
        last = False
        while True:
            template = self._template(key)
            try:
                kernel = await template.fork(request, streams)
            except NoKernelError as problem:
                # A second death before it listens is no accident.
                bad = problem.bad or (problem.again and last and not problem.stale)
                if (problem.stale or bad) and self._retire(key, template, bad=bad):
                    continue  # the next one knows better: it has a module less
                silent = problem.stale and not problem.again
                if not template.forked and (silent or self._barren[key] >= BARREN):
                    self._given_up[key] = f"{problem}: {template.last_words}"
                if last or not problem.again:
                    raise
                last = True
            else:
                self._lessons[key].suspicious = False
                self._barren[key] = 0
                return kernel

    def begin(
        self, command: Sequence[str], env: Mapping[str, str], preload: Sequence[str], private: Sequence[str] = ()
    ) -> bool:
        """Start a template that will be asked soon, and tell whether there is one."""
        try:
            self._template(key_of(command, env, preload, private))
        except NoKernelError as problem:
            QUIET.debug("a kernel starts cold: %s", problem)
            return False
        return True

    def pids(self) -> list[int]:
        """Give the processes of the templates that live."""
        with self._lock:
            return [template.pid for template in self._living.values() if template.alive]

    def close(self) -> None:
        """End all templates, and give no more kernels; those that still run live on until they are let go of."""
        with self._lock:
            self._closed = True
            self._end()

    def _template(self, key: Key) -> Template:
        with self._lock:
            self._sweep()
            if self._closed:
                raise NoKernelError("the templates are closed")
            if key in self._given_up:
                raise NoKernelError(self._given_up[key])
            if key not in self._living:
                try:
                    self._living[key] = Template(key, self._cache, self._lessons[key], new=self._new)
                except OSError as problem:
                    raise NoKernelError(str(problem)) from problem
                if len(self._living) > MOST:
                    oldest = next(iter(self._living))
                    self._living[oldest].close()
                    self._put_away(oldest, self._living[oldest])
            template = self._living[key] = self._living.pop(key)  # the one that was asked last stands last
            return template

    def _retire(self, key: Key, template: Template, *, bad: bool) -> bool:
        """Have no more kernels from a template; tells whether another one will do better."""
        with self._lock:
            template.close()
        template.settle()
        with self._lock:
            if self._living.get(key) is not template:
                return not self._closed  # another thread has seen it
            lessons = self._lessons[key]
            before = lessons.suspicious
            lessons.suspicious = lessons.suspicious or bad
            return self._put_away(key, template) or lessons.suspicious is not before

    def _put_away(self, key: Key, template: Template) -> bool:
        self._retired.append(self._living.pop(key))
        new = template.learn(self._lessons[key])
        self._barren[key] += not template.forked and not new
        return new

    def _sweep(self) -> None:
        """Remove what dead templates left."""
        for key, template in list(self._living.items()):
            if not template.alive:
                self._put_away(key, template)
        for template in list(self._retired):
            if not template.alive:
                self._retired.remove(template)
                template.end()

    def _forget(self) -> None:
        """Begin anew in a process that the owner forked."""
        self._lock = threading.Lock()  # a thread that is not here may hold the other
        for template in (*self._living.values(), *self._retired):
            template.forget()
        self._living.clear()
        self._retired.clear()


_all: weakref.WeakSet[Templates] = weakref.WeakSet()


def _end(living: dict[Key, Template], retired: list[Template]) -> None:
    templates = [*living.values(), *retired]
    living.clear()
    retired.clear()
    for template in templates:
        template.close()
    for template in templates:
        for line in template.last_words.splitlines():
            QUIET.debug("template: %s", line)
        template.end()


def _forget_all() -> None:
    """Let go of all templates in a process that this one forks."""
    for templates in list(_all):
        templates._forget()  # noqa: SLF001 - it is ours


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def _circumstances() -> dict[str, object]:
    """Give what a process inherits from this one besides what it is given."""
    import resource  # not on Windows

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
