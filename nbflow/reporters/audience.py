"""Audience: the thread that tells events to those who watch a run, one event at a time, in order."""

from __future__ import annotations

import atexit
import contextlib
import contextvars
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Protocol

from ..events import Event
from .escape import for_terminal

LAST_WAIT = 10.0
"""Seconds that the end of the process waits, in all, for observers that are still at work."""


class Reporter(Protocol):
    """Turns events into something that a person sees. A reporter of your own has these four methods."""

    def begin(self) -> None:
        """Show the first picture; called in the caller's thread (in a notebook: the cell's own)."""
        ...

    def __call__(self, event: Event) -> None:
        """Take one event in; cheap, for it comes for each."""
        ...

    def draw(self, now: float) -> None:
        """Show the newest state; ``now`` in seconds since 1970. Called a few times a second."""
        ...

    def end(self) -> None:
        """Show the last picture and let go of the screen; called once, on every way out."""
        ...


def to_stderr(problem: str) -> None:
    """Write one line to stderr, if there still is one."""
    with contextlib.suppress(OSError, ValueError):  # closed or broken: there is nobody left to tell
        sys.stderr.write(f"nbflow: {problem}\n")


def begun(reporter: Reporter) -> bool:
    """Let a reporter begin, and tell whether it could: one that cannot is told of, and done without."""
    try:
        reporter.begin()
    except Exception as error:  # noqa: BLE001 - whatever it is, the run is worth more than its picture
        with contextlib.suppress(Exception):
            reporter.end()
        _tell_failed("progress", type(reporter).__name__, error, to_stderr)
        return False
    return True


def _tell_failed(name: str, who: str, error: BaseException, problem: Callable[[str], None]) -> None:
    text = for_terminal(f"{type(error).__name__}: {error}")
    problem(f"{name}: {who} failed and is called no more: {text}")


class Audience:
    """A thread that calls observers with one event at a time, in the order in which they were told.

    Parameters
    ----------
    observers : sequence of callables
        Each gets every event. One that raises is called no more, and the problem is told.
    name : str
        What warnings call them: ``on_event callbacks``.
    tick : callable, optional
        Called at most every ``interval`` seconds, between events, and once after the last one.
    interval : float
        Seconds.
    finish : callable, optional
        Called once in the audience's thread when all is told.
    context : contextvars.Context, optional
        What the thread runs in; in a notebook a copy of the cell's, so that its output lands there.
    problem : callable, optional
        Takes one line about an observer that failed or was not waited for; stderr by default.

    Notes
    -----
    One thread tells (the driver's); the queue has no bound, so telling never waits.
    """

    def __init__(
        self,
        observers: Sequence[Callable[[Event], None]],
        *,
        name: str,
        tick: Callable[[], None] | None = None,
        interval: float = 0.25,
        finish: Callable[[], None] | None = None,
        context: contextvars.Context | None = None,
        problem: Callable[[str], None] = to_stderr,
    ) -> None:
        self.name = name
        self._observers = list(observers)
        self._tick = tick
        self._interval = interval
        self._finish = finish
        self._problem = problem
        self._queue: SimpleQueue[Event | None] = SimpleQueue()  # None is the end
        self._told = 0
        self._delivered = 0
        self._closed = False
        work = self._work if context is None else lambda: context.run(self._work)
        self._thread = threading.Thread(target=work, name=f"nbflow {name}", daemon=True)

    @classmethod
    def drawing(
        cls,
        reporter: Reporter,
        *,
        interval: float = 0.25,
        context: contextvars.Context | None = None,
        clock: Callable[[], float] = time.time,
        problem: Callable[[str], None] = to_stderr,
    ) -> Audience:
        """Give the audience of one reporter that draws. The caller calls ``reporter.begin()`` before."""
        return cls(
            [reporter],
            name="progress",
            tick=lambda: reporter.draw(clock()),
            interval=interval,
            finish=reporter.end,
            context=context,
            problem=problem,
        )

    @property
    def left(self) -> int:
        """How many events have not been delivered yet."""
        return self._told - self._delivered

    def start(self) -> None:
        """Begin to deliver."""
        _open[self] = None
        self._thread.start()

    def tell(self, event: Event) -> None:
        """Hand an event over; never waits. After :meth:`close` nobody listens any more."""
        if not self._closed:
            self._told += 1
            self._queue.put(event)

    def close(self, wait: float | None = None) -> int:
        """End after the events told so far, and give the number that is not delivered yet.

        Parameters
        ----------
        wait : float or None
            Seconds to wait at most; ``None``: until all are delivered. What is left is delivered while
            the process lives, and for at most :data:`LAST_WAIT` seconds at its end.
        """
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        if self._thread.ident is not None:
            self._thread.join(wait)
        return self.left

    def tell_what_is_left(self) -> None:
        """Tell the problem that events did not reach their observers, if so."""
        if left := self.left:
            self._problem(f"{self.name} were waited for at the end, in vain: {left} events did not reach them")

    def _work(self) -> None:
        due = time.monotonic() + self._interval
        try:
            while True:
                try:
                    event = self._queue.get(timeout=max(0.0, due - time.monotonic()) if self._tick else None)
                except Empty:
                    self._draw()
                    due = time.monotonic() + self._interval
                    continue
                if event is None:
                    break
                self._deliver(event)
                if self._tick and time.monotonic() >= due:
                    self._draw()
                    due = time.monotonic() + self._interval
            self._draw()
            if self._finish:
                self._guarded(self._finish, self._finish)
        finally:
            _open.pop(self, None)

    def _deliver(self, event: Event) -> None:
        for observer in tuple(self._observers):
            if not self._guarded(observer, lambda: observer(event)):  # noqa: B023 - called before the next turn
                self._observers.remove(observer)
        self._delivered += 1

    def _draw(self) -> None:
        if self._tick and not self._guarded(self._tick, self._tick):
            self._tick = None

    def _guarded(self, who: Callable[..., object], call: Callable[[], object]) -> bool:
        """Call, and tell whether it went well."""
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - also an exit() in a callback must not end the others
            _tell_failed(self.name, getattr(who, "__name__", type(who).__name__), error, self._problem)
            return False
        return True


_open: dict[Audience, None] = {}  # those whose thread is at work; each operation on it is atomic


@atexit.register
def _wait_for_the_last() -> None:
    """Wait for observers that are still at work, at most so long, and tell what is left."""
    end = time.monotonic() + LAST_WAIT
    audiences = list(_open)
    for audience in audiences:
        audience.close(0)
    with contextlib.suppress(KeyboardInterrupt):  # a person who is tired of waiting
        for audience in audiences:
            audience.close(max(0.0, end - time.monotonic()))
    for audience in audiences:
        audience.tell_what_is_left()


if hasattr(os, "register_at_fork"):  # the threads stay behind in the parent
    os.register_at_fork(after_in_child=_open.clear)
