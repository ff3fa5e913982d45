"""A bounded pool of daemon threads: one that never keeps a process from ending.

The standard pool's threads are joined when the interpreter ends, so one call that hangs would hang it for
ever. Here whoever gave a task out may give it up.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_numbers = itertools.count(1)


class _Given(Future[T]):
    """A call that can be given up while it runs: its thread is lost, and another takes its place."""

    def __init__(self, lost: Callable[[], None]) -> None:
        super().__init__()
        self._lost = lost

    def cancel(self) -> bool:
        """Take the call back; or, if it runs, no longer count on its thread. Called once at most."""
        back = super().cancel()
        if not back and not self.done():
            self._lost()
        return back


class ThreadExecutor(Executor):
    """At most so many threads, made when they are needed and used again.

    Parameters
    ----------
    max_workers : int
        Threads at most, from 1.
    name : str, optional
        Begins the names of the threads.

    Examples
    --------
    >>> with ThreadExecutor(2) as pool:
    ...     pool.submit(pow, 2, 10).result()
    1024
    """

    def __init__(self, max_workers: int, name: str = "nbflow-worker") -> None:
        self._max_workers = max_workers
        self._name = f"{name}-{next(_numbers)}"
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have a function called by the next free thread. Called from one thread only: the driver's."""
        future: Future[T] = _Given(self._replace)

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as problem:  # noqa: BLE001 - the future carries it, as the contract says
                future.set_exception(problem)
            else:
                future.set_result(result)

        self._work.put(call)
        if not self._idle.acquire(blocking=False) and len(self._threads) < self._max_workers:
            self._add()
        return future

    def _add(self) -> None:
        thread = threading.Thread(target=self._serve, name=f"{self._name}-{len(self._threads)}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _replace(self) -> None:
        """Have a thread more, since one hangs; it takes what already waits for a thread."""
        self._max_workers += 1
        if not self._work.empty():
            self._add()

    def _serve(self) -> None:
        while (call := self._work.get()) is not None:
            call()
            del call  # or the last task's values live until the next one comes
            self._idle.release()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - the contract
        """Let the threads end after what was submitted; with ``wait`` only then come back."""
        for _ in self._threads:
            self._work.put(None)
        if wait:
            for thread in self._threads:
                thread.join()
