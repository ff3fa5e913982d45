"""Runs from their start to their removal: copies, locks, commands, and what others do to a run's files meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import nbflow
from nbflow.api.copies import names as copied_names
from nbflow.api.ledger import RunLedger
from nbflow.api.reading import locate
from nbflow.api.requests import resume_request
from nbflow.api.run import log_file
from nbflow.api.session import Session
from nbflow.errors import LockedError, ParameterError, StoreError, TargetError
from nbflow.outcome import Outcome
from nbflow.state import RunState
from nbflow.store import checkpoint as checkpoints
from nbflow.store import commands
from nbflow.store.home import Home
from nbflow.store.journal import Journal
from nbflow.store.lock import RunLock, read_owner
from nbflow.testing import workflow
from tests.runs import make

OLD, MIDDLE, NEW = (f"2026110{day}-010101-aaaa" for day in (1, 2, 3))


def test_a_copy_that_cannot_be_made_takes_nothing_from_the_item(notebook, folder):
    """The item is completed with a warning, its notebook is in the run folder, and the next start copies it."""
    path = notebook()
    (folder / "out" / "1.ipynb").mkdir(parents=True)
    run = nbflow.map(
        path, grid={"n": [1, 2]}, output_dir=str(folder / "out"), name="{n}", max_concurrency=1, quiet=True
    )
    assert ["completed", "completed"] == [item.status for item in run.outcomes]
    (warning,) = [w.message for w in run.warnings]
    assert "1.ipynb: the notebook could not be copied there (" in warning
    (folder / "out" / "1.ipynb").rmdir()
    shutil.copyfile(run.outcomes[0].notebook, folder / "out" / "2.ipynb")  # another item's
    again = Session(resume_request(locate(path)))  # makes the copies that are missing or are others' before it begins
    again.driver.abandon()
    again.close()
    for item in run.outcomes:
        assert item.notebook.read_bytes() == (folder / "out" / f"{item.parameters['n']}.ipynb").read_bytes()


def test_copies_follow_their_items_when_the_rows_change_places(notebook, folder):
    """With the index for a name, the copy of item 0 is the notebook of what is item 0 now."""
    path = notebook()
    options = {"output_dir": str(folder / "out"), "name": "{index}", "max_concurrency": 2, "quiet": True}
    nbflow.map(path, [{"n": 1}, {"n": 2}], **options)
    run = nbflow.map(path, [{"n": 2}, {"n": 1}], resume=True, **options)
    assert [True, True] == [item.kept for item in run.outcomes]
    for item in run.outcomes:
        assert item.notebook.read_bytes() == (folder / "out" / f"{item.index}.ipynb").read_bytes()


def test_a_copy_goes_over_no_file_that_is_not_an_earlier_copy(notebook, folder):
    """Whoever put it there, and when: here the notebook itself. The item is done, and the next start copies it."""
    path = notebook("import os\nos.makedirs('out', exist_ok=True)\nopen(f'out/{n}.ipynb', 'w').write('mine')")
    run = nbflow.map(path, grid={"n": [1]}, output_dir="out", name="{n}", quiet=True)
    assert "completed" == run.status
    assert "mine" == (folder / "out" / "1.ipynb").read_text()
    (warning,) = [w.message for w in run.warnings]
    assert "1.ipynb: is there already and is no copy of this notebook's, so it stays" in warning
    (folder / "out" / "1.ipynb").unlink()
    again = Session(resume_request(locate(path)))
    again.driver.abandon()
    again.close()
    assert run.outcomes[0].notebook.read_bytes() == (folder / "out" / "1.ipynb").read_bytes()


@pytest.fixture
def copied(notebook, folder):
    """Give the definition of a run whose two copies are in ``out``."""
    path = notebook()
    nbflow.map(path, grid={"n": [1, 2]}, output_dir="out", name="{n}", max_concurrency=2, quiet=True)
    return locate(path).definition


def test_copies_of_an_earlier_run_may_be_replaced_and_nothing_else(copied, folder):
    """An error before the start: what a person, or another notebook, left under such a name stays."""
    assert ["1.ipynb", "2.ipynb"] == list(map(str, copied_names(copied, folder)))
    other = json.loads((folder / "out" / "2.ipynb").read_text())
    other["metadata"]["papermill"]["input_path"] = "other.ipynb"
    for content in ("{}", "[1]", "mine", json.dumps(other), (folder / "work.ipynb").read_text()):
        (folder / "out" / "2.ipynb").write_text(content)
        with pytest.raises(ParameterError, match=r"n=2 \(item 1\): .*2\.ipynb is there already") as refused:
            copied_names(copied, folder)
        assert "--output-dir" in refused.value.remedy
        assert ["1.ipynb", "2.ipynb"] == list(map(str, copied_names(copied)))


@pytest.mark.parametrize("link", ["folder", "file", "hard"])
def test_the_notebook_is_known_under_every_name(copied, folder, link):
    """A link leads to it as well as its path; a notebook that was executed before looks like a copy."""
    (folder / "work.ipynb").write_bytes((folder / "out" / "1.ipynb").read_bytes())
    (folder / "elsewhere").mkdir()
    if link == "folder":
        (folder / "out").rename(folder / "elsewhere" / "out")
        (folder / "out").symlink_to(folder)
        (folder / "2.ipynb").symlink_to("work.ipynb")
    else:
        (folder / "out" / "2.ipynb").unlink()
        make = Path.symlink_to if link == "file" else Path.hardlink_to
        make(folder / "out" / "2.ipynb", folder / "work.ipynb")
    with pytest.raises(ParameterError, match=r"n=2 \(item 1\) would be written over work\.ipynb itself"):
        copied_names(copied, folder)


@pytest.mark.parametrize(
    ("items", "name", "words"),
    [
        ([{"n": 1, "m": 1}, {"n": 2}], "{n}-{m}", "n=2 (item 1) has no value for 'm'"),
        ([{"n": 1}], "{n:{foo}}", "'foo' is no parameter of these items"),
        ([{"city": "Oslo"}], "{city:.0}.{city:.0}./{city}", "leaves the output folder"),
        ([{"city": "Oslo"}], "{city:.0}/{city}", "leaves the output folder"),
        ([{"city": "Oslo"}], "{city:.0}", "names nothing"),
        ([{"n": 1}], "a\0{n}", "cannot be the name of a file"),
        ([{"n": 1}], "a\ud800{n}", "cannot be the name of a file"),
        ([{"n": 1}], "{n:.٩٩٩٩٩٩٩٩٩٩٩}", "is wider than the name of a file can be"),
    ],
)
def test_a_name_that_fails_for_an_item_is_refused(notebook, folder, items, name, words):
    """Before the start, with the item and the parameter in the message."""
    path = notebook(parameters="n = 0\nm = 0\ncity = ''")
    with pytest.raises(ParameterError) as refused:
        nbflow.map(path, items, output_dir=str(folder / "out"), name=name, dry_run=True)
    assert words in str(refused.value)


def test_a_folder_for_copies_that_no_folder_can_be_called_is_refused(notebook):
    """Before the start, and not when the first item is done."""
    with pytest.raises(StoreError, match=r"a\\x00b.*cannot be the name of a folder"):
        nbflow.map(notebook(), grid={"n": [1]}, output_dir="a\0b", dry_run=True)


@pytest.fixture
def stored_runs(folder):
    """Make three runs of a notebook without running it; the middle one was resumed last."""
    (folder / "work.ipynb").write_text("{}")
    home = Home.of(folder / "work.ipynb")
    for run_id in (OLD, MIDDLE, NEW):
        (home.run_folder(run_id)).mkdir(parents=True)
        (home.run_folder(run_id) / "journal.jsonl").touch()
    checkpoint(home, MIDDLE)
    return home


def checkpoint(home, run_id):
    """Write the checkpoint of a run."""
    state = RunState()
    state.progress.run_id = run_id
    content = checkpoints.render(
        state,
        definition={"nbflow": 1, "kind": "map"},
        owner={},
        surroundings={},
        folder=f"nbflow-runs/work.ipynb/{run_id}",
        journal={},
    )
    checkpoints.write(home.checkpoint, {**content, "run_id": run_id, "name": "work.ipynb"})


def names(home):
    """Give the ids of the runs that are there."""
    return [folder.name for folder in home.runs()]


def test_cleaning_keeps_the_run_that_was_resumed_last(stored_runs):
    """Whatever its id: the checkpoint beside the notebook shows it."""
    nbflow.clean("work.ipynb", keep=2)
    assert [MIDDLE, NEW] == names(stored_runs)
    nbflow.clean("work.ipynb")
    assert [MIDDLE] == names(stored_runs)
    nbflow.clean("work.ipynb", keep=0)
    assert [] == names(stored_runs)


def test_cleaning_a_run_removes_that_run_alone(stored_runs):
    """By its id or its folder; the one that was resumed last only with keep=0."""
    assert [stored_runs.run_folder(OLD)] == nbflow.clean(OLD)
    assert [MIDDLE, NEW] == names(stored_runs)
    with pytest.raises(TargetError):
        nbflow.clean(stored_runs.run_folder(MIDDLE))
    assert [MIDDLE, NEW] == names(stored_runs)
    nbflow.clean(MIDDLE, keep=0)
    assert [NEW] == names(stored_runs)


def test_a_run_that_is_just_beginning_is_not_cleaned(stored_runs):
    """Its lock tells, for it has not written a line yet."""
    lock = RunLock(stored_runs.run_folder(OLD))
    lock.acquire()
    try:
        assert [] == nbflow.clean(OLD)
        assert OLD in names(stored_runs)
    finally:
        lock.release()
    assert [stored_runs.run_folder(OLD)] == nbflow.clean(OLD)


def test_a_resume_that_has_not_written_a_line_yet_can_be_cancelled(notebook):
    """Who holds the run is asked, not how its last start ended."""
    run = nbflow.map(notebook(), grid={"n": [1]}, quiet=True)
    with pytest.raises(TargetError):
        nbflow.cancel(run.folder)
    lock = RunLock(run.folder)
    lock.acquire()
    try:
        nbflow.cancel(run.folder)
        assert ["cancel"] == commands.take(run.folder)
    finally:
        lock.release()


class Blind:
    """A reporter that has no screen."""

    def begin(self):
        """Fail."""
        raise OSError("no screen")

    def __call__(self, event):
        """Take nothing in."""

    def draw(self, now):
        """Draw nothing."""

    def end(self):
        """End."""


def test_a_start_that_fails_lets_go_of_the_run(notebook):
    """It can be taken up by the same process at once, and by any other."""
    path = notebook(results="square = 1 / n")
    run = nbflow.map(path, grid={"n": [0]}, quiet=True)
    session = Session(resume_request(locate(path)), reporter=Blind())
    with pytest.raises(OSError, match="no screen"):
        session.start()
    RunLock(run.folder).acquire()


def test_a_driver_that_breaks_lets_go_of_the_run(tmp_path):
    """A bug in nbflow costs one run, not the right to resume it."""

    def broken(event):
        raise ZeroDivisionError

    run = make(workflow(), lambda task, context: Outcome("completed"), tmp_path, tell=broken)
    run.driver.run()
    assert isinstance(run.driver.crashed, ZeroDivisionError)
    assert 1 == run.ledger.closed


@pytest.fixture
def ledger(stored_runs):
    """Give a ledger of the middle run that holds its lock, and a state of it."""
    home, folder = stored_runs, stored_runs.run_folder(MIDDLE)
    lock = RunLock(folder)
    lock.acquire()
    made = RunLedger(home, folder, lock, Journal(folder / "journal.jsonl", 0), {"nbflow": 1, "kind": "map"}, {})
    state = RunState()
    state.progress.run_id, state.progress.name = MIDDLE, "work.ipynb"
    yield made, state
    made.close(state, time.time())


def test_a_cancel_for_an_earlier_start_does_not_stop_the_next(stored_runs):
    """What was sent before the run was taken is forgotten, what comes after it is obeyed."""
    home, folder = stored_runs, stored_runs.run_folder(MIDDLE)
    commands.send(folder, "cancel")
    lock = RunLock(folder)
    lock.acquire()
    commands.send(folder, "pause")
    made = RunLedger(home, folder, lock, Journal(folder / "journal.jsonl", 0), {"nbflow": 1, "kind": "map"}, {})
    made.begin(RunState())
    assert ["pause"] == made.tend(RunState(), time.time())
    made.close(RunState(), time.time())


def test_a_touched_checkpoint_is_still_written(ledger, stored_runs):
    """A backup or a sync program sets its time; only another run's checkpoint is left alone."""
    made, state = ledger
    made.begin(state)
    os.utime(stored_runs.checkpoint, (1, 1))
    assert stored_runs.checkpoint == made.checkpoint
    checkpoint(stored_runs, NEW)
    assert made.checkpoint.parent.name == MIDDLE


def test_a_run_that_was_taken_over_stays_with_its_new_owner(ledger, stored_runs):
    """Neither the checkpoint of the new start nor its owner.json is overwritten by the end of the old one."""
    made, state = ledger
    made.begin(state)
    owner = stored_runs.run_folder(MIDDLE) / "owner.json"
    owner.write_text(json.dumps({**json.loads(owner.read_text()), "host": "other", "pid": 77}))
    checkpoint(stored_runs, MIDDLE)
    before = stored_runs.checkpoint.read_bytes(), owner.read_bytes()
    made.close(state, time.time())
    assert before == (stored_runs.checkpoint.read_bytes(), owner.read_bytes())


def test_the_last_checkpoint_does_not_wait_for_the_heartbeat(ledger, stored_runs):
    """Where owner.json cannot be written the checkpoint still says how the run ended."""
    made, state = ledger
    made.begin(state)
    owner = stored_runs.run_folder(MIDDLE) / "owner.json"
    owner.unlink()
    owner.mkdir()
    state.progress.status = "completed"
    made.close(state, time.time())
    assert "completed" == json.loads(stored_runs.checkpoint.read_text())["status"]


def test_a_run_that_is_held_shows_what_others_did_meanwhile(notebook, cli):
    """What it shows is read at the moment of asking, also of a run that another process works at."""
    path = notebook("import os\nassert os.path.exists('go')")
    held = nbflow.status(nbflow.map(path, grid={"n": [2]}, quiet=True).folder)
    assert ("failed", [None]) == (held.status, held.results)
    Path("go").touch()
    cli("resume", path.name, "-q")
    assert ("completed", [{"square": 4}]) == (held.status, held.results)


def test_a_detached_run_can_be_cancelled_by_who_holds_it(notebook, folder, until, ran):
    """Its process is asked; a click.py beside the notebook is no part of it; afterwards there is nothing to cancel."""
    (folder / "click.py").write_text("raise SystemExit('not the click you know')\n")
    path = notebook(ran.cell, "import time\ntime.sleep(60)")
    run = nbflow.map(path, grid={"n": [1]}, quiet=True, detach=True)
    assert "running" == run.status
    until(ran.times)
    run.cancel()
    until(lambda: run.status != "running", 20)
    assert ("interrupted", "nbflow cancel") == (run.status, run.reason)
    until(lambda: not read_owner(run.folder).alive(time.time()), 20)
    with pytest.raises(TargetError):
        run.cancel()


def test_detaching_writes_nothing_into_a_run_that_another_works_at(notebook):
    """The lock comes first: the definition is that of whoever holds it."""
    path = notebook(results="square = 1 / n")
    run = nbflow.map(path, grid={"n": [0]}, quiet=True)
    lock = RunLock(run.folder)
    lock.acquire()
    (run.folder / "workflow.json").write_bytes((run.folder / "workflow.json").read_bytes() + b"\n")
    before = (run.folder / "workflow.json").read_bytes()
    try:
        with pytest.raises(LockedError):
            nbflow.resume(path, detach=True, max_concurrency=3)
    finally:
        lock.release()
    assert before == (run.folder / "workflow.json").read_bytes()


def test_sigterm_in_a_script_ends_the_run_and_then_the_script(notebook, folder, ran, until):
    """The run says why, kernels are gone, and the process died of the signal as it would have."""
    notebook(ran.cell, "import time\ntime.sleep(60)")
    script = "import nbflow\nnbflow.map('work.ipynb', grid={'n': [1]}, quiet=True)\nprint('came back')"
    process = subprocess.Popen([sys.executable, "-c", script], cwd=folder, stdout=subprocess.PIPE, text=True)
    try:
        until(ran.times)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (-signal.SIGTERM, "") == (process.returncode, out)
    run = nbflow.status("work.ipynb")
    assert ("interrupted", "SIGTERM") == (run.status, run.reason)
    assert [] == ran.kernels()


def test_the_log_of_another_item_is_not_taken_for_ones_own(notebook):
    """An earlier row at the same place may be called like the beginning of this one's name."""
    run = nbflow.map(notebook("print('mine')"), [{"n": 1}], quiet=True)
    (item,) = run.outcomes
    own = item.log
    (own.parent / "0_1-b.log").write_text("another's")
    (own.parent / "0_10.log").write_text("another's")
    cut_off = nbflow.Item(0, {"n": 1}, "running", label=item.label)
    assert own == log_file(run, cut_off)
    second = own.with_name(f"{own.stem}-00beef-2.log")
    second.write_text("mine again")
    assert second == log_file(run, cut_off)
