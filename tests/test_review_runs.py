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
from nbflow.api import ledger as ledgers
from nbflow.api import showing
from nbflow.api.copies import names as copied_names
from nbflow.api.interrupts import Interrupts
from nbflow.api.ledger import RunLedger
from nbflow.api.reading import locate
from nbflow.api.requests import resume_request
from nbflow.api.runs import log_file
from nbflow.api.session import Session
from nbflow.errors import LockedError, ParameterError, StoreError, TargetError
from nbflow.events import RunStarted, Warned
from nbflow.instruction import Instruction
from nbflow.outcome import Outcome
from nbflow.reporters.audience import Audience
from nbflow.state import RunState
from nbflow.store import checkpoint as checkpoints
from nbflow.store import commands
from nbflow.store.home import Home
from nbflow.store.journal import Journal, encode
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
        assert ["cancel"] == [told.word for told in commands.take(run.folder)]
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


def test_a_reporter_that_cannot_begin_is_done_without(notebook, capsys):
    """The run is worth more than its picture."""
    path = notebook(results="square = 1 / n")
    nbflow.map(path, grid={"n": [0]}, quiet=True)
    notebook(results="square = n")
    session = Session(resume_request(locate(path)), reporter=Blind())
    session.start()
    session.wait(Interrupts([]))
    assert "completed" == session.run.status
    assert ["nbflow: progress: Blind failed and is called no more: OSError: no screen"] == (
        capsys.readouterr().err.splitlines()
    )


def test_a_start_that_fails_lets_go_of_the_run(notebook, monkeypatch):
    """It can be taken up by the same process at once, and by any other."""
    path = notebook(results="square = 1 / n")
    run = nbflow.map(path, grid={"n": [0]}, quiet=True)

    def no_thread(audience):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Audience, "start", no_thread)
    session = Session(resume_request(locate(path)), on_event=[print])
    with pytest.raises(RuntimeError, match="can't start"):
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
    commands.send(folder, Instruction("cancel"))
    lock = RunLock(folder)
    lock.acquire()
    commands.send(folder, Instruction("pause"))
    made = RunLedger(home, folder, lock, Journal(folder / "journal.jsonl", 0), {"nbflow": 1, "kind": "map"}, {})
    made.begin(RunState())
    assert [Instruction("pause")] == made.tend(RunState(), time.time())
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


def taken_over(folder, home):
    """Let a process of another host take a run over: its owner.json, and the first line of its start."""
    owner = folder / "owner.json"
    own = json.loads(owner.read_text())
    owner.write_text(json.dumps({**own, "host": "other", "pid": 77, "heartbeat": time.time()}))
    line = encode(RunStarted(time.time(), folder.name, home.name, 2, {}, 1))
    with (folder / "journal.jsonl").open("a") as journal:
        journal.write(f"{line}\n")


def test_a_ledger_whose_run_was_taken_over_writes_nothing_more(ledger, stored_runs):
    """No line, no checkpoint, no command taken; whoever wants to write is told, and the lock is let go of."""
    made, state = ledger
    made.begin(state)
    made.write([Warned(1.0, None, "mine")])
    folder = stored_runs.run_folder(MIDDLE)
    taken_over(folder, stored_runs)
    commands.send(folder, Instruction("pause"))
    before = {file: file.read_bytes() for file in [*folder.rglob("*.json*"), stored_runs.checkpoint]}
    with pytest.raises(OSError, match="taken over by another process"):
        made.write([Warned(1.0, None, "not mine any more")])
    assert [] == made.tend(state, time.time())
    made.make_room()
    made.close(state, time.time())
    assert before == {file: file.read_bytes() for file in [*folder.rglob("*.json*"), stored_runs.checkpoint]}
    assert (folder / "reserve").exists(), "it is the new owner's"
    RunLock(folder).acquire(take_over=True)


def test_a_ledger_that_sees_another_owner_writes_no_line_more(ledger, stored_runs, monkeypatch):
    """Also before the new owner has written its first."""
    made, state = ledger
    made.begin(state)
    owner = stored_runs.run_folder(MIDDLE) / "owner.json"
    owner.write_text(json.dumps({**json.loads(owner.read_text()), "host": "other", "pid": 77}))
    monkeypatch.setattr(ledgers, "BEAT", 0.0)
    assert [Instruction("taken over")] == made.tend(state, time.time())
    with pytest.raises(OSError, match="taken over by another process"):
        made.write([Warned(1.0, None, "not mine any more")])
    assert b"" == (stored_runs.run_folder(MIDDLE) / "journal.jsonl").read_bytes()


def test_a_process_that_lost_its_run_leaves_it_to_the_new_owner(notebook, ran, cli, folder, until):
    """Taken over from another host while its item works: it starts no other, and the run is shown at work there."""
    path = notebook(ran.cell, "import time\nwhile not os.path.exists('go'): time.sleep(0.05)")
    process = cli.start("map", path.name, "--grid", "n=1,2", "-j", "1")
    until(ran.times)
    home = Home.of(path)
    (run,) = home.runs()
    taken_over(run, home)
    before = (run / "journal.jsonl").read_bytes(), (run / "owner.json").read_bytes()
    (folder / "go").touch()
    out, err = process.communicate(timeout=60)
    assert (1, "") == (process.returncode, err[err.find("Traceback") :] if "Traceback" in err else "")
    assert "taken over by another process" in out
    assert before == ((run / "journal.jsonl").read_bytes(), (run / "owner.json").read_bytes())
    assert {1: 1} == ran.times()
    assert "running" == cli.json("status", path.name)["status"]


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


def test_a_checkpoint_never_knows_more_than_the_disk_has_of_the_journal(ledger, monkeypatch):
    """Else a power cut would leave finished items that only the checkpoint knows of."""
    made, state = ledger
    seen = []
    monkeypatch.setattr(
        checkpoints, "write", lambda path, content: seen.append((made._journal._synced, content["journal"]["bytes"]))
    )
    made.begin(state)
    made.write([Warned(1.0, None, "look")])
    made.close(state, time.time())
    assert [(0, 0), (made._journal.size, made._journal.size)] == seen


def test_a_run_that_is_held_shows_what_others_did_meanwhile(notebook, cli):
    """What it shows is read at the moment of asking, also of a run that another process works at."""
    path = notebook("import os\nassert os.path.exists('go')")
    held = nbflow.status(nbflow.map(path, grid={"n": [2]}, quiet=True).folder)
    assert ("failed", [None]) == (held.status, held.results)
    Path("go").touch()
    cli("resume", path.name, "-q")
    assert ("completed", [{"square": 4}]) == (held.status, held.results)


def test_a_run_that_cannot_be_read_does_not_hide_the_others(notebook, cli, monkeypatch):
    """It has a line of its own in the list, and an error in words by its name."""
    path = notebook()
    bad, good = (nbflow.map(path, grid={"n": [n]}, quiet=True) for n in (1, 2))
    definition = bad.folder / "workflow.json"
    definition.unlink()
    definition.mkdir()
    said = cli.json("status")
    assert [good.id] == [run["run_id"] for run in said["runs"]]
    assert [f"{definition}: Is a directory"] == said["unreadable"]
    assert cli("status", bad.id, code=2).stderr.splitlines() == [
        f"error: {definition}: Is a directory",
        "  Put the file back from a copy.",
    ]

    def unreadable(folder):
        raise OSError(5, "Input/output error", str(folder))

    monkeypatch.setattr(showing, "locate", unreadable)
    runs, broken = showing.every_run([path.parent])
    assert ([], 2) == (runs, len(broken))
    assert f"{good.folder}: Input/output error" in broken


def test_the_time_of_a_killed_run_ends_with_its_last_sign_of_life(notebook, ran, cli, folder, until):
    """Not with the moment in which somebody looks; a process that only took its lock since has not worked at it."""
    path = notebook(ran.cell, "import time\ntime.sleep(60)")
    process = cli.start("map", path.name, "--grid", "n=1", "-q")
    until(ran.times)
    process.kill()
    process.wait()
    (run,) = Home.of(path).runs()
    owner = json.loads((run / "owner.json").read_text())
    journal = (run / "journal.jsonl").read_text()
    moved = [{**line, "at": line["at"] - 3600} for line in map(json.loads, journal.splitlines())]
    (run / "journal.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in moved))
    beat = {"since": moved[0]["at"] - 1, "heartbeat": moved[0]["at"] + 65}
    (run / "owner.json").write_text(json.dumps({**owner, **beat}))
    assert ", 1:05 of work" in cli("status", path.name).stdout
    (run / "owner.json").write_text(json.dumps({**owner, "since": time.time(), "heartbeat": time.time()}))
    assert pytest.approx(moved[-1]["at"]) == nbflow.status(path).progress.finished


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
