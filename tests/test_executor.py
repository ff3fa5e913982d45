"""The pool of threads: bounded, used again, and never in the way of the end of the process."""

from __future__ import annotations

import threading
from concurrent.futures import Future, wait

import pytest

from nbflow.executors.threads import ThreadExecutor


def test_results_and_exceptions_come_by_the_future() -> None:
    """As the standard library's pools do."""
    with ThreadExecutor(2) as pool:
        assert 1024 == pool.submit(pow, 2, 10).result(10)
        with pytest.raises(ZeroDivisionError):
            pool.submit(divmod, 1, 0).result(10)


def test_there_are_never_more_threads_than_workers() -> None:
    """Twelve calls on three threads; a barrier shows that three are at work."""
    barrier = threading.Barrier(3)
    names: set[str] = set()

    def call() -> None:
        barrier.wait(20)
        names.add(threading.current_thread().name)

    with ThreadExecutor(3) as pool:
        futures: list[Future[None]] = [pool.submit(call) for _ in range(12)]
        wait(futures, 20)
    assert 3 == len(names)


def test_a_free_thread_is_used_again() -> None:
    """One call after the other needs one thread."""
    with ThreadExecutor(8) as pool:
        names = set()
        for _ in range(20):
            names.add(pool.submit(lambda: threading.current_thread().name).result(10))
            while not pool._idle.acquire(timeout=10):  # the thread says so right behind its result
                raise AssertionError("the thread did not come back")
            pool._idle.release()
    assert 1 == len(names)


def test_a_call_that_is_given_up_makes_room_for_another_thread() -> None:
    """With one worker the next call runs although the first hangs."""
    release, begun = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        release.wait(30)

    pool = ThreadExecutor(1)
    stuck = pool.submit(hang)
    assert begun.wait(10)
    waiting = pool.submit(lambda: "next")
    assert not stuck.cancel(), "what runs cannot be taken back"
    assert "next" == waiting.result(10)
    assert "after" == pool.submit(lambda: "after").result(10)
    release.set()
    pool.shutdown()


def test_a_call_that_has_not_begun_can_be_taken_back() -> None:
    """It never runs."""
    release = threading.Event()
    pool = ThreadExecutor(1)
    first = pool.submit(release.wait, 30)
    ran: list[int] = []
    second = pool.submit(ran.append, 1)
    assert second.cancel()
    release.set()
    assert first.result(10)
    pool.shutdown()
    assert [] == ran


def test_shutdown_waits_for_what_was_submitted() -> None:
    """All calls have run, and no thread is left."""
    done: list[int] = []
    pool = ThreadExecutor(2)
    for number in range(10):
        pool.submit(done.append, number)
    pool.shutdown()
    assert list(range(10)) == sorted(done)
    assert not any(thread.is_alive() for thread in pool._threads)


def test_all_threads_are_daemons_with_a_name() -> None:
    """So that a hanging call never keeps the process."""
    with ThreadExecutor(1, name="probe") as pool:
        daemon, name = pool.submit(lambda: (threading.current_thread().daemon, threading.current_thread().name)).result(
            10
        )
    assert daemon
    assert name.startswith("probe-")
