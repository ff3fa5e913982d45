"""Audiences: each event to each observer, in order, from one thread, and nobody else waits."""

from __future__ import annotations

import contextvars
import subprocess
import sys
import textwrap
import threading

from nbflow.events import Event, Printed
from nbflow.reporters.audience import Audience


def lines(count: int) -> list[Event]:
    return [Printed(float(i), ("task",), str(i)) for i in range(count)]


def test_observers_get_every_event_in_order() -> None:
    """Two observers see the same thousand events in the order in which they were told."""
    first: list[Event] = []
    second: list[Event] = []
    audience = Audience([first.append, second.append], name="callbacks")
    audience.start()
    for event in lines(1000):
        audience.tell(event)
    assert 0 == audience.close(None)
    assert lines(1000) == first
    assert lines(1000) == second


def test_observers_are_called_from_one_thread_that_is_not_the_tellers() -> None:
    """Neither two threads nor the caller's own thread ever call an observer."""
    seen: set[int] = set()
    audience = Audience([lambda _: seen.add(threading.get_ident())], name="callbacks")
    audience.start()
    for event in lines(50):
        audience.tell(event)
    audience.close(None)
    assert 1 == len(seen)
    assert threading.get_ident() not in seen


def test_an_observer_that_raises_is_dropped_and_the_others_go_on() -> None:
    """The problem is told once, with the name of the observer and the error; no event is lost to others."""
    problems: list[str] = []
    seen: list[Event] = []

    def broken(event: Event) -> None:
        raise KeyError(f"at {event.at}")

    audience = Audience([broken, seen.append], name="on_event callbacks", problem=problems.append)
    audience.start()
    for event in lines(3):
        audience.tell(event)
    audience.close(None)
    assert lines(3) == seen
    assert ["on_event callbacks: broken failed and is called no more: KeyError: 'at 0.0'"] == problems


def test_an_observer_that_exits_ends_nothing_but_itself() -> None:
    """sys.exit() in a callback is a failure of the callback."""
    problems: list[str] = []
    seen: list[Event] = []
    audience = Audience([lambda _: sys.exit(3), seen.append], name="callbacks", problem=problems.append)
    audience.start()
    for event in lines(2):
        audience.tell(event)
    assert 0 == audience.close(None)
    assert lines(2) == seen
    assert 1 == len(problems)


def test_telling_does_not_wait_for_a_slow_observer() -> None:
    """While an observer is stuck, all can be told, close gives what is left, and later nothing is missing."""
    go = threading.Event()
    begun = threading.Event()
    seen: list[Event] = []

    def slow(event: Event) -> None:
        begun.set()
        go.wait()
        seen.append(event)

    audience = Audience([slow], name="callbacks")
    audience.start()
    for event in lines(500):
        audience.tell(event)
    assert begun.wait(10)
    assert 500 == audience.close(0)
    go.set()
    assert 0 == audience.close(None)
    assert lines(500) == seen


def test_pictures_are_drawn_once_at_the_end_however_many_events() -> None:
    """With an interval longer than the run, a thousand events cost one picture, the last, then the finish."""
    calls: list[object] = []
    audience = Audience(
        [lambda event: calls.append(event)],
        name="progress",
        tick=lambda: calls.append("tick"),
        interval=3600,
        finish=lambda: calls.append("finish"),
    )
    audience.start()
    for event in lines(1000):
        audience.tell(event)
    audience.close(None)
    assert [*lines(1000), "tick", "finish"] == calls


def test_pictures_are_drawn_while_nothing_happens() -> None:
    """Clocks go on: the tick comes without any event."""
    ticked = threading.Semaphore(0)
    audience = Audience([], name="progress", tick=ticked.release, interval=0.01)
    audience.start()
    assert all(ticked.acquire(timeout=10) for _ in range(3))
    audience.close(None)


def test_the_finish_comes_even_if_everything_failed() -> None:
    """A reporter whose every method raises still lets go of the screen."""
    problems: list[str] = []
    finished = threading.Event()

    def broken(*_: object) -> None:
        raise ValueError("no")

    audience = Audience(
        [broken], name="progress", tick=lambda: broken(), interval=0, finish=finished.set, problem=problems.append
    )
    audience.start()
    for event in lines(5):
        audience.tell(event)
    audience.close(None)
    assert finished.is_set()
    assert 2 == len(problems)


def test_observers_run_in_the_context_they_are_given() -> None:
    """In a notebook that is what sends output to the right cell."""
    cell = contextvars.ContextVar("cell", default="none")
    seen: list[str] = []
    context = contextvars.copy_context()
    context.run(cell.set, "3")
    audience = Audience([lambda _: seen.append(cell.get())], name="callbacks", context=context)
    audience.start()
    audience.tell(lines(1)[0])
    audience.close(None)
    assert ["3"] == seen


def test_what_is_told_after_the_close_is_not_waited_for() -> None:
    """Nobody listens any more, and nothing is counted as left."""
    seen: list[Event] = []
    audience = Audience([seen.append], name="callbacks")
    audience.start()
    audience.close(None)
    audience.tell(lines(1)[0])
    assert 0 == audience.close(None)
    assert [] == seen


def at_the_end(last_wait: str, callback: str) -> subprocess.CompletedProcess[str]:
    program = f"""
    import sys, threading
    from nbflow.events import Printed
    from nbflow.reporters import audience
    audience.LAST_WAIT = {last_wait}
    def callback(event):
        {callback}
    a = audience.Audience([callback], name="on_event callbacks")
    a.start()
    for i in range(5):
        a.tell(Printed(float(i), (), str(i)))
    a.close(0)
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=True
    )


def test_the_end_of_the_process_waits_for_slow_callbacks() -> None:
    """A callback that is behind when the main thread ends still gets every event, without a warning."""
    ended = at_the_end("10", "threading.Event().wait(0.1); print(event.line, flush=True)")
    assert "0\n1\n2\n3\n4\n" == ended.stdout
    assert "" == ended.stderr


def test_the_end_of_the_process_does_not_wait_forever() -> None:
    """A callback that never returns is waited for so long, then a warning gives the count that is left."""
    ended = at_the_end("0.3", "threading.Event().wait()")
    assert (
        "nbflow: on_event callbacks were waited for at the end, in vain: 5 events did not reach them\n" == ended.stderr
    )
