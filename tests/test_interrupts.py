"""Ctrl-C, signals and ``nbflow cancel``: everything is written, nothing is left behind, and it can be resumed."""

from __future__ import annotations

import json
import os
import random
import signal
import time

import pytest

import nbflow
from nbflow.events import RunFinished
from nbflow.store.journal import read_journal

SLOW = "import time\nfor _ in range(600): time.sleep(0.1)"
DEAF = """\
import signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
time.sleep(60)
"""


def at_work(cli, ran, until, path, *more, items=3):
    """Start a run whose first two items are in their cell, and give its process."""
    grid = "n=" + ",".join(map(str, range(items)))
    process = cli.start("map", path.name, "--grid", grid, "-j", "2", *more)
    until(lambda: len(ran.times()) == 2)
    return process


def last_line(folder):
    """Give the last event of the only journal."""
    (journal,) = (folder / "nbflow-runs").rglob("journal.jsonl")
    return read_journal(journal).events[-1]


@pytest.mark.parametrize(
    ("which", "code", "reason"),
    [
        ("SIGINT", 130, "Ctrl-C"),
        pytest.param("SIGTERM", 143, "SIGTERM", marks=pytest.mark.long),
        pytest.param("SIGHUP", 129, "SIGHUP", marks=pytest.mark.long),
    ],
)
def test_a_signal_ends_the_run_within_five_seconds(which, code, reason, notebook, ran, cli, folder, until):
    """The exit code tells the signal, the run is interrupted, kernels are gone, and resume goes on."""
    path = notebook(ran.cell, "import time\nwhile not os.path.exists('go'): time.sleep(0.1)")
    process = at_work(cli, ran, until, path)
    began = time.monotonic()
    process.send_signal(getattr(signal, which))
    out, err = process.communicate(timeout=20)
    assert 5 > time.monotonic() - began
    assert code == process.returncode
    assert "Traceback" not in err
    assert f"stopped by {reason}: 0 of 3 are done and kept, 3 have not finished" in out
    assert f"nbflow resume {path.name}" in out
    assert [] == ran.kernels()
    assert ("interrupted", reason) == (last_line(folder).status, last_line(folder).reason)
    assert "interrupted" == cli.json("status", path.name)["status"]
    reasons = ["interrupted", "interrupted", "never ran"]
    assert reasons == [one.reason for one in nbflow.resume(path, dry_run=True)]
    (folder / "go").touch()
    cli("resume", path.name, "-q")
    assert {0: 2, 1: 2, 2: 1} == ran.times()


IGNORING = """\
import os, signal, sys
signal.signal(getattr(signal, sys.argv[1]), signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
"""What ``nohup`` does, and a shell script for what it starts with ``&``."""

CALL = "import nbflow; nbflow.map('work.ipynb', grid={'n': [0, 1, 2]}, max_concurrency=2, quiet=True).check()"


@pytest.mark.long
@pytest.mark.parametrize(
    ("which", "words"),
    [
        ("SIGHUP", ["-m", "nbflow", "map", "work.ipynb", "--grid", "n=0,1,2", "-j", "2", "-q"]),
        ("SIGINT", ["-m", "nbflow", "map", "work.ipynb", "--grid", "n=0,1,2", "-j", "2", "-q"]),
        ("SIGINT", ["-c", CALL]),
    ],
)
def test_a_signal_that_was_ignored_before_stays_ignored(which, words, notebook, ran, cli, folder, until):
    """Under ``nohup`` a run outlives the terminal, in the background of a script its Ctrl-C."""
    notebook(ran.cell, "import time\nwhile not os.path.exists('go'): time.sleep(0.1)")
    process = cli.start(which, *words, program=("-c", IGNORING))
    until(lambda: len(ran.times()) == 2)
    process.send_signal(getattr(signal, which))
    (folder / "go").touch()
    _, err = process.communicate(timeout=60)
    assert (0, {0: 1, 1: 1, 2: 1}) == (process.returncode, ran.times()), err


@pytest.mark.long
@pytest.mark.parametrize(("which", "code", "reason"), [("SIGINT", 130, "Ctrl-C"), ("SIGTERM", 143, "SIGTERM")])
def test_a_signal_ends_a_resume_as_it_ends_a_map(which, code, reason, notebook, ran, cli, folder, until):
    """All is written, with ``--json`` the run is printed all the same, and the exit code tells the signal."""
    path = notebook(ran.cell, "assert os.path.exists('mended')", "import time\ntime.sleep(60)")
    cli("map", path.name, "--grid", "n=0", "-q", code=1)
    (folder / "mended").touch()
    process = cli.start("resume", path.name, "-q", "--json")
    until(lambda: len(ran.times()) == 1 and ran.times()[0] == 2)
    process.send_signal(getattr(signal, which))
    out, err = process.communicate(timeout=20)
    assert code == process.returncode, err
    said = json.loads(out)
    assert ("interrupted", ["cancelled"]) == (said["status"], [item["status"] for item in said["items"]])
    assert f"stopped by {reason}: 0 of 1 is done and kept" in err, "quiet is silent only when all went well"
    assert ("interrupted", reason) == (last_line(folder).status, last_line(folder).reason)
    assert [] == ran.kernels()


def test_ctrl_c_ends_a_verb_that_only_looks_and_not_the_run(notebook, ran, cli, folder, until):
    """``logs -f`` has nothing to write: exit code 130, no traceback, and the run goes on."""
    path = notebook(
        ran.cell, "import time\nprint('at work', flush=True)\nwhile not os.path.exists('go'): time.sleep(0.1)"
    )
    work = cli.start("map", path.name, "--grid", "n=0", "-q")
    until(ran.times)
    looking = cli.start("logs", "-f", path.name)
    while "at work" not in (line := looking.stdout.readline()):
        assert line, looking.stderr.read()
    looking.send_signal(signal.SIGINT)
    _, err = looking.communicate(timeout=20)
    assert (130, "") == (looking.returncode, err.strip())
    (folder / "go").touch()
    work.communicate(timeout=60)
    assert 0 == work.returncode


def test_what_a_kill_cut_off_is_not_said_to_have_never_run(notebook, ran, cli, until):
    """Two of three items had begun: so says the state of the run, and so does what a resume would do."""
    path = notebook(ran.cell, SLOW)
    process = at_work(cli, ran, until, path)
    process.kill()
    process.communicate(timeout=20)
    assert "0 of 3 are done and kept, 3 have not finished" in cli("status", path.name).stdout
    reasons = ["interrupted", "interrupted", "never ran"]
    assert reasons == [one.reason for one in nbflow.resume(path, dry_run=True)]
    until(lambda: not ran.kernels(), 25)


def test_a_kernel_that_does_not_listen_is_killed_and_all_is_written(notebook, ran, cli, folder, until):
    """After three seconds; still everything is written within five."""
    path = notebook(ran.cell, DEAF)
    process = at_work(cli, ran, until, path, "-q")
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert 3 < time.monotonic() - began < 5.5
    assert 130 == process.returncode
    assert [] == ran.kernels()
    assert "interrupted" == last_line(folder).status


def test_a_second_interrupt_kills_at_once(notebook, ran, cli, folder, until):
    """Kernels that do not listen get no three seconds then."""
    path = notebook(ran.cell, DEAF)
    process = at_work(cli, ran, until, path)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)  # two presses, as a person does
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert 2 > time.monotonic() - began
    assert 130 == process.returncode
    assert [] == ran.kernels()
    assert "interrupted" == last_line(folder).status


def test_cancel_from_another_process_ends_the_run(notebook, ran, cli, folder, until):
    """The cancelled one has exit code 1; there is nothing to cancel afterwards."""
    path = notebook(ran.cell, SLOW)
    process = at_work(cli, ran, until, path)
    cli("cancel", path.name)
    out, _ = process.communicate(timeout=20)
    assert 1 == process.returncode
    assert "0 of 3 are done and kept" in out
    assert ("interrupted", "nbflow cancel") == (last_line(folder).status, last_line(folder).reason)
    assert [] == ran.kernels()
    again = cli("cancel", path.name, code=2)
    assert "is not at work: it is interrupted" in again.stderr


READING = """\
import os, time
class Slow(dict):
    def items(self):
        if not os.path.exists("go"):
            open("reading", "w").close()
            time.sleep(60)
        return super().items()
slow = Slow(n=n)
"""


@pytest.mark.long
@pytest.mark.parametrize("how", ["cancel", "SIGINT"])
def test_what_was_stopped_while_results_were_read_runs_again(how, notebook, ran, cli, folder, until):
    """All its cells are done, but nobody has their results: the next resume gets them."""
    path = notebook(ran.cell, results=READING)
    process = cli.start("map", path.name, "--grid", "n=1")
    until((folder / "reading").exists)
    if how == "cancel":
        cli("cancel", path.name)
    else:
        process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert "interrupted" == cli.json("status", path.name)["status"]
    (folder / "go").touch()
    (item,) = cli.json("resume", path.name)["items"]
    assert ("completed", {"slow": {"n": 1}}) == (item["status"], item["output"])
    assert {1: 2} == ran.times()


SCRIPT = """\
import faulthandler, os, signal, sys, threading, time
faulthandler.dump_traceback_later(40, exit=True)  # one that hangs tells where
import nbflow
delay, items = float(sys.argv[1]), int(sys.argv[2])
began = []
def strike():
    began.append(time.monotonic())
    os.kill(os.getpid(), signal.SIGINT)
timer = threading.Timer(delay, strike)
timer.start()
try:
    run = nbflow.map("work.ipynb", grid={"n": list(range(items))}, max_concurrency=2, quiet=True)
    print("returned", run.status)
except KeyboardInterrupt as stopped:
    run = getattr(stopped, "run", None)
    print("interrupted", time.monotonic() - began[0], run is not None and run.status)
timer.cancel()
"""
"""A script whose only call is struck after so many seconds."""


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("moments", [4, pytest.param(200, marks=pytest.mark.long)])
def test_interrupts_at_random_moments_of_a_blocking_call(moments, notebook, ran, cli, folder, until):
    """Whenever it strikes: back within five seconds, a journal that can be read, and the run in the exception."""
    notebook(ran.cell)
    chance = random.Random(7)
    seen = set()
    for _ in range(moments):
        # Most moments are before the first kernel answers: there lie lock, journal, checkpoint, threads.
        delay = chance.choice([chance.uniform(0, 0.6), chance.uniform(0, 3)])
        process = cli.start(delay, 2, program=("-c", SCRIPT))
        out, err = process.communicate(timeout=60)
        assert "Timeout (" not in err, f"hangs after {delay} s:\n{err}"
        word, *rest = out.split() or ["died"]
        seen.add(word)
        if word == "interrupted":
            assert 5 > float(rest[0]), err
            assert rest[1] in ("False", "interrupted", "completed"), err
        elif word == "returned":
            assert ["completed"] == rest
        else:  # before the call began, or after it came back
            assert "KeyboardInterrupt" in err, err
        for journal in (folder / "nbflow-runs").rglob("journal.jsonl"):
            events = read_journal(journal)
            assert "" == events.dropped
            assert not events.events or isinstance(events.events[-1], RunFinished)
            journal.unlink()
    assert "interrupted" in seen
    assert [] == ran.kernels()


def test_an_interrupted_script_finds_the_run_in_the_exception(notebook, ran, cli, folder, until, tmp_path):
    """A plain KeyboardInterrupt with ``.run``, after all is written."""
    notebook(ran.cell, SLOW)
    script = f"""\
import os, signal, sys, threading, time
import nbflow
def strike():
    while not os.path.exists({str(ran.path)!r}):
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=strike).start()
try:
    nbflow.map("work.ipynb", grid={{"n": [1, 2]}}, max_concurrency=1, quiet=True)
except KeyboardInterrupt as stopped:
    print(stopped.run.status, [item.status for item in stopped.run.outcomes], stopped.run.reason)
"""
    process = cli.start(program=("-c", script))
    out, err = process.communicate(timeout=60)
    assert "interrupted ['cancelled', 'pending'] Ctrl-C" == out.strip(), err
    assert isinstance(last_line(folder), RunFinished)


def test_an_interrupt_that_nobody_answered_is_given_on(notebook, folder, monkeypatch):
    """Struck while it only plans, a call does not swallow it."""
    from nbflow import api

    path = notebook()

    def planning(request):
        os.kill(os.getpid(), signal.SIGINT)
        return []

    monkeypatch.setattr(api, "explained", planning)
    with pytest.raises(KeyboardInterrupt):
        nbflow.map(path, grid={"n": [1]}, dry_run=True)
    assert signal.default_int_handler is signal.getsignal(signal.SIGINT)
