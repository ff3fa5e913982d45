"""``on_event``: a callback gets every event in order, in a thread of its own, and delays nothing."""

from __future__ import annotations

import json
import threading
import time

import pytest

import nbflow
from nbflow.api.workflows import run_workflow
from nbflow.errors import ParameterError
from nbflow.events import CellFinished, CellStarted, NodeFinished, NodeStarted, RunFinished, RunStarted
from nbflow.model import Block, Literal, Workflow
from nbflow.steps import CallStep, FanOut

ITEMS = 40


def calls(items=ITEMS):
    """Give a workflow of calls that do nothing."""
    step = CallStep(id="call", function="builtins:dict", parameters=Literal({"a": 1}))
    fan = FanOut(id="map", items=Literal(list(range(items))), body=Block([step]), max_concurrency=Literal(4))
    return Workflow(name="calls", block=Block([fan]), max_workers=4)


def test_a_callback_that_hangs_delays_neither_journal_nor_return_and_misses_nothing(tmp_path):
    """It is still at its first event when all is written; afterwards it gets the others, in order."""
    go, seen, quick, done = threading.Event(), [], [], threading.Event()

    def slow(event):
        go.wait(30)
        seen.append(event)
        if isinstance(event, RunFinished):
            done.set()

    began = time.monotonic()
    state = run_workflow(calls(), tmp_path, on_event=[quick.append, slow])
    spent = time.monotonic() - began
    assert ("completed", ITEMS) == (state.progress.status, state.progress.counts["completed"])
    assert [] == seen
    (journal,) = tmp_path.rglob("journal.jsonl")
    assert "RunFinished" == json.loads(journal.read_text().splitlines()[-1])["event"]
    go.set()
    assert done.wait(10)
    assert quick == seen
    assert ITEMS == sum(isinstance(e, NodeFinished) and e.leaf for e in seen)
    assert 5 > spent


def test_a_callback_of_map_gets_typed_events_while_the_cells_run(notebook):
    """Run, items and cells, in the order in which they became true; in another thread than the caller's."""
    path = notebook("x = n")
    got, threads, ended = [], set(), threading.Event()

    def callback(event):
        got.append(event)
        threads.add(threading.current_thread())
        if isinstance(event, RunFinished):
            ended.set()

    run = nbflow.map(path, grid={"n": [5]}, quiet=True, on_event=callback)
    assert ended.wait(10)
    kinds = [type(event) for event in got]
    assert (RunStarted, RunFinished) == (kinds[0], kinds[-1])
    item = [e for e in got if isinstance(e, (NodeStarted, CellStarted, CellFinished, NodeFinished))]
    wanted = [NodeStarted, *[CellStarted, CellFinished] * 3, NodeFinished]
    assert wanted == [type(e) for e in item if not isinstance(e, NodeFinished) or e.leaf]
    assert "n=5" == next(e.label for e in got if isinstance(e, NodeStarted))
    assert run.results == [next(e.outcome.output for e in got if isinstance(e, NodeFinished) and e.leaf)]
    assert threading.current_thread() not in threads
    assert 1 == len(threads)


def test_map_and_resume_return_while_a_callback_hangs_and_all_callbacks_get_all(notebook, folder):
    """What it costs a run of notebooks is nothing: back when all is written, the other callback served later."""
    path = notebook("import os\nassert os.path.exists('mended')")
    for call in (lambda **more: nbflow.map(path, grid={"n": [1]}, **more), lambda **more: nbflow.resume(path, **more)):
        go, seen, later, done = threading.Event(), [], [], threading.Event()

        def hangs(event, go=go, seen=seen):
            go.wait(60)
            seen.append(event)

        def second(event, later=later, done=done):
            later.append(event)
            if isinstance(event, RunFinished):
                done.set()

        run = call(quiet=True, on_event=[hangs, second])
        assert 3 > time.time() - run.progress.finished
        assert [] == seen
        go.set()
        assert done.wait(10)
        assert isinstance(seen[0], RunStarted)
        assert seen == later
        (folder / "mended").touch()
    assert "completed" == run.status


def test_a_callback_that_hangs_does_not_hold_up_the_picture(notebook, capsys):
    """Who watches and who listens have a thread each."""
    path, go, done = notebook(), threading.Event(), threading.Event()

    def hangs(event):
        go.wait(60)
        if isinstance(event, RunFinished):
            done.set()

    nbflow.map(path, grid={"n": [7]}, on_event=hangs)
    assert "completed  n=7" in capsys.readouterr().err
    go.set()
    assert done.wait(10)


def test_a_callback_that_raises_is_dropped_with_a_warning_and_the_run_goes_on(tmp_path, capsys):
    """Others still get all."""
    got, ended = [], threading.Event()

    def bad(event):
        raise RuntimeError("no thanks")

    def good(event):
        got.append(event)
        if isinstance(event, RunFinished):
            ended.set()

    state = run_workflow(calls(3), tmp_path, on_event=[bad, good])
    assert ended.wait(10)
    assert "completed" == state.progress.status
    assert 1 == capsys.readouterr().err.count("bad failed and is called no more: RuntimeError: no thanks")
    assert isinstance(got[-1], RunFinished)


SLOW = """\
import json, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import nbflow.reporters.audience as audience
audience.LAST_WAIT = float(sys.argv[3])
from test_on_event import calls
from nbflow.api.workflows import run_workflow
count = 0
def slow(event):
    global count
    time.sleep(1)
    count += 1
began = time.time()
run_workflow(calls(), Path(sys.argv[1]), on_event=[slow])
returned = time.time() - began
(journal,) = Path(sys.argv[1]).rglob("journal.jsonl")
written = json.loads(journal.read_text().splitlines()[-1])["at"] - began
print(json.dumps([returned, written, time.time()]), flush=True)
"""


@pytest.mark.parametrize("seconds", [1.5, pytest.param(10.0, marks=pytest.mark.long)])
def test_at_the_end_of_the_process_a_slow_callback_is_waited_for_and_then_counted(seconds, cli, tmp_path, request):
    """A second of sleep per event: return and last line within a second; the wait at the end has a limit."""
    process = cli.start(tmp_path / "runs", request.path.parent, seconds, program=("-c", SLOW))
    (tmp_path / "runs").mkdir(exist_ok=True)
    out, err = process.communicate(timeout=60)
    returned, written, at = json.loads(out)
    lasted = time.time() - at
    assert 0 == process.returncode, err
    assert 1 > returned
    assert 1 > written
    assert seconds - 0.2 < lasted < seconds + 2.5
    events = 2 * ITEMS + 4  # each item's start and end, the run's, the fan-out's
    left = int(err.partition("in vain: ")[2].split()[0])
    assert abs(events - left - seconds) <= 2, err


def test_the_real_wait_at_the_end_is_ten_seconds():
    """What the quick test shortens."""
    from nbflow.reporters import audience

    assert 10.0 == audience.LAST_WAIT


def test_a_callback_of_a_detached_run_is_refused(notebook, folder):
    """Nobody here would call it; nothing is started."""
    path = notebook()
    with pytest.raises(ParameterError, match=r"on_event= and detach=True are both given"):
        nbflow.map(path, grid={"n": [1]}, detach=True, on_event=print)
    assert [path] == list(folder.iterdir())
    nbflow.map(path, grid={"n": [1]}, quiet=True)
    with pytest.raises(ParameterError, match=r"on_event= and detach=True are both given"):
        nbflow.resume(path, force=True, detach=True, on_event=[print])


@pytest.mark.parametrize(("given", "kind"), [(5, "int"), ([print, "x"], "str"), ("print", "str"), (None, "NoneType")])
def test_what_cannot_be_called_is_refused_by_name_before_anything_starts(given, kind, notebook, folder):
    """A mistake of the caller's program, so a TypeError; it says what on_event takes."""
    path = notebook()
    with pytest.raises(TypeError, match=f"on_event takes a function of one event, or a sequence of them, not .*{kind}"):
        nbflow.map(path, grid={"n": [1]}, on_event=given, quiet=True)
    assert [path] == list(folder.iterdir())
