"""One process and its group: what they print as it comes, and their end: their own, by interrupt, or by kill."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import selectors
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from ..errors import NbflowError
from ..task import Stop
from ..types import StopReason

__all__ = ["GRACE", "Ended", "run"]

GRACE: Mapping[StopReason, float] = {"cancel": 3.0, "timeout": 10.0}
"""Seconds between interrupt and kill."""
LINGER = 1.0
"""Seconds in which the others of a group may print when its first process has ended."""
LOOK = 0.05
"""Seconds between two looks at a process, on systems that do not tell of its end."""
CHUNK = 65536
FULL_PIPE = 1 << 20
"""Bytes that a pipe can hold at most."""

REMEDIES = {
    errno.ENOENT: "Give the path from the step's directory, or put it on the PATH; "
    "the first line of a script names a program, too.",
    errno.EACCES: "chmod +x makes a file a program.",
    errno.ENOEXEC: "A script begins with a line such as #!/bin/sh.",
    errno.E2BIG: "Pass large values in a file.",
}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended."""

    code: int | None
    """Its exit code; negative: killed by that signal; ``None``: it was never started."""
    stopped: StopReason | None = None
    """Why it was stopped; ``None``: it ended by itself."""


def run(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    heard: Callable[[str, bytes], None],
    stop: Stop,
    grace: Mapping[StopReason, float] = GRACE,
    began: Callable[[int], None] = lambda _pid: None,
) -> Ended:
    """Run a process to its end; nothing of its group outlives this call.

    Parameters
    ----------
    command : sequence of str
        The program, and its arguments.
    cwd, env : Path, mapping of str to str
        Its directory, and its whole environment.
    heard : callable
        Gets ``stdout`` or ``stderr`` and what was printed there, as it comes; from this thread.
    stop : Stop
        Tells when to end it: the group is interrupted, and killed when the grace is over or ``kill`` is set.
    grace : mapping, optional
        Seconds between interrupt and kill, for each reason to stop.
    began : callable, optional
        Gets the process's id.

    Raises
    ------
    NbflowError
        If it cannot be started.
    """
    with contextlib.closing(_Bell()) as bell, selectors.DefaultSelector() as selector:
        unlisten = stop.listen(bell.ring)
        try:
            reason = _wanted(stop)
            if reason is not None:
                return Ended(None, reason)
            with _guard() as guard, _start(command, cwd, env) as process:
                guard(process.pid)
                began(process.pid)
                group = _Group(process, selector, heard, stop, grace)
                try:
                    group.follow(bell)
                finally:
                    group.send(signal.SIGKILL)  # before the process is reaped: its number is still its own
            return Ended(process.returncode, group.stopped)
        finally:
            unlisten()


def _wanted(stop: Stop) -> StopReason | None:
    """Give why a process should end."""
    return stop.reason or ("cancel" if stop.kill else None)


def _start(command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(  # noqa: S603 - to run what the workflow says is what this is for
            list(command),
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
    except (OSError, ValueError) as problem:  # ValueError: text that this system's encoding does not have
        reason = problem.strerror if isinstance(problem, OSError) else str(problem)
        remedy = REMEDIES.get(problem.errno or 0, "") if isinstance(problem, OSError) else ""
        raise NbflowError(f"{command[0]!r} cannot be started in {cwd}: {reason}.", remedy) from problem


GUARD = 'read -r group && { read -r _ || kill -KILL "-$group"; }'
"""What a guard does: it hears of a group, and kills it when its pipe ends and nobody said that all is well."""


@contextlib.contextmanager
def _guard() -> Iterator[Callable[[int], None]]:
    """Give what has a group killed at once should this process be killed itself: then nobody else would end it."""
    guard = subprocess.Popen(  # noqa: S603 - a text of ours
        ["/bin/sh", "-c", GUARD],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        start_new_session=True,  # Ctrl-C is not for it
    )
    assert guard.stdin is not None
    pipe = guard.stdin

    def tell(text: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # somebody has killed it: there is none then
            pipe.write(text.encode())

    try:
        yield lambda group: tell(f"{group}\n")
    finally:
        tell("all is well\n")
        pipe.close()
        guard.wait()


class _Bell:
    """Wakes a selector from other threads. Its sockets may be closed while somebody still rings."""

    def __init__(self) -> None:
        self._inside, self._outside = socket.socketpair()
        for end in (self._inside, self._outside):
            end.settimeout(0)  # nobody who rings waits
        self._lock = threading.Lock()

    def fileno(self) -> int:
        """Give what the selector looks at."""
        return self._inside.fileno()

    def ring(self) -> None:
        """Wake the selector."""
        with self._lock, contextlib.suppress(OSError):  # it rings already, or nobody listens any more
            self._outside.send(b"!")

    def hear(self) -> None:
        """Be silent until the next ring."""
        self._inside.recv(CHUNK)

    def close(self) -> None:
        """Listen no more."""
        with self._lock:
            self._inside.close()
            self._outside.close()


class _Group:
    """A process that leads a group, while it runs and until its pipes are drained."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        selector: selectors.BaseSelector,
        heard: Callable[[str, bytes], None],
        stop: Stop,
        grace: Mapping[StopReason, float],
    ) -> None:
        self.stopped: StopReason | None = None
        self._process = process
        self._selector = selector
        self._heard = heard
        self._stop = stop
        self._grace = grace
        self._looks = False
        """Whether the end of the process must be looked for: the system does not tell."""
        self._ended = False
        self._killed = False
        self._kill_at = math.inf
        self._leave_at = math.inf
        assert process.stdout is not None
        assert process.stderr is not None
        self._pipes: dict[str, IO[bytes]] = {"stdout": process.stdout, "stderr": process.stderr}

    def follow(self, bell: _Bell) -> None:
        """Pass on what is printed until the process has ended and nothing more comes; then end its group."""
        with _pidfd(self._process.pid) as pidfd:
            self._selector.register(bell, selectors.EVENT_READ, bell.hear)
            for name, pipe in self._pipes.items():
                os.set_blocking(pipe.fileno(), False)
                self._selector.register(pipe, selectors.EVENT_READ, partial(self._read, name, CHUNK))
            if pidfd is not None:
                self._selector.register(pidfd, selectors.EVENT_READ, partial(self._end, pidfd))
            self._looks = pidfd is None
            while not self._over():
                for key, _ in self._selector.select(self._patience()):
                    key.data()
        self.send(signal.SIGKILL)
        for name in list(self._pipes):
            self._read(name, FULL_PIPE)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the whole group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):  # they are gone, or became another user's
            os.killpg(self._process.pid, number)

    def _end(self, pidfd: int) -> None:
        self._ended = True
        self._selector.unregister(pidfd)

    def _read(self, name: str, most: int) -> None:
        try:
            data = os.read(self._pipes[name].fileno(), most)
        except BlockingIOError:
            return
        if data:
            self._heard(name, data)
        else:
            self._selector.unregister(self._pipes.pop(name))

    def _over(self) -> bool:
        """Do what is due; tells whether there is nothing more to wait for."""
        now = time.monotonic()
        reason = _wanted(self._stop)
        if self._looks and not self._ended:
            self._ended = self._process.poll() is not None
        elif reason is not None and not self._ended:  # what has ended by itself is not stopped any more
            self._ended = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        if self._ended:
            self._leave_at = min(self._leave_at, now + LINGER)
            return not self._pipes or self._killed or self._stop.kill or now >= self._leave_at
        if reason is not None and self.stopped is None:
            self.stopped = reason
            self._kill_at = now + self._grace[reason]
            # Once: many programs take a second one as a wish that they clean nothing up. A shell that is about to
            # start a program waits for it first, so what was born just now ends by the kill.
            self.send(signal.SIGINT)
        if self.stopped is not None and not self._killed and (self._stop.kill or now >= self._kill_at):
            self._killed = True
            self._kill_at = math.inf
            self.send(signal.SIGKILL)
        return False

    def _patience(self) -> float | None:
        """Give the seconds until something is due; ``None``: nothing is."""
        due = min(self._kill_at, self._leave_at) - time.monotonic()
        if self._looks and not self._ended:
            due = min(due, LOOK)
        return None if due == math.inf else max(0.0, due)


@contextlib.contextmanager
def _pidfd(pid: int) -> Iterator[int | None]:
    """Give a descriptor that tells of the end of a child process; ``None`` where the system has none."""
    descriptor = None
    with contextlib.suppress(AttributeError, OSError):
        descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)
