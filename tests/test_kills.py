"""Nothing finished is lost or run twice, however often and wherever the process is killed."""

from __future__ import annotations

import json
import random
import shutil
import signal
import time
from collections import Counter

import nbformat
import pytest

import nbflow
from nbflow.events import NodeFinished, NodeStarted, RunFinished, RunStarted
from nbflow.store.journal import read_journal

ITEMS = 12
GRID = "n=" + ",".join(map(str, range(ITEMS)))


def journal(folder):
    """Give the journal of the newest run, or none while there is no line."""
    found = sorted((folder / "nbflow-runs").rglob("journal.jsonl"))
    return read_journal(found[-1]).events if found else []


def finished(folder):
    """Give the items that are recorded as completed."""
    labels = {e.key: e.index for e in journal(folder) if isinstance(e, NodeStarted)}
    return {
        labels[e.key]
        for e in journal(folder)
        if isinstance(e, NodeFinished) and e.leaf and e.outcome.status == "completed"
    }


def left(folder):
    """Give how a killed run stands: ``interrupted``, unless its newest start wrote its own end down before it died."""
    newest = [e for e in journal(folder) if isinstance(e, (RunStarted, RunFinished))][-1:]
    return newest[0].status if newest and isinstance(newest[0], RunFinished) else "interrupted"


def starts(folder):
    """Give how often each item is recorded to have begun."""
    return Counter(e.index for e in journal(folder) if isinstance(e, NodeStarted))


def check_files(folder):
    """Every executed notebook is whole, those of recorded items are in their place, and every JSON file is whole."""
    for file in (folder / "nbflow-runs").rglob("2*/*.ipynb"):
        nbformat.validate(nbformat.read(file, 4))
    for event in journal(folder):
        if isinstance(event, NodeFinished) and event.leaf and event.outcome.status == "completed":
            assert [*folder.glob(f"nbflow-runs/*/2*/{event.outcome.notebook}")], f"{event.outcome.notebook} is missing"
    for file in [*folder.rglob("*.json")]:
        json.loads(file.read_text())


def shoot(cli, words, delay):
    """Start a verb, kill its process after a while, and tell whether that came in time."""
    process = cli.start(*words)
    time.sleep(delay)  # the moment is the test's random choice, not something that is waited for
    process.kill()
    process.wait()
    assert process.returncode in (0, -signal.SIGKILL)
    return process.returncode != 0


@pytest.mark.timeout(1200)
@pytest.mark.long  # those in each phase are quick
@pytest.mark.parametrize("kills", [24])
def test_kills_at_random_moments_lose_nothing_and_repeat_nothing(kills, notebook, ran, cli, folder, until):
    """After each kill the run stands as its journal says, the lock is free, what had finished never runs again."""
    path = notebook(ran.cell, "import time; time.sleep(0.2)")
    chance = random.Random(20261123)
    words = ["map", path.name, "--grid", GRID, "-j", "3", "--resume"]
    ended: dict[int, int] = {}
    for _ in range(kills):
        if not shoot(cli, words, chance.uniform(0.3, 8.0)):
            check_end(ran, folder, path, ended)
            shutil.rmtree(folder / "nbflow-runs")
            (folder / (path.name + ".nbflow.json")).unlink()
            ran.path.unlink()
            ended = {}
        elif journal(folder):
            done, seen = finished(folder), ran.times()
            said = cli.json("status", path.name)
            assert left(folder) == said["status"]
            assert {n for n in range(ITEMS) if said["items"][n]["status"] == "completed"} == done
            assert ended == {n: seen[n] for n in ended}, "what had ended did not run again"
            assert all(seen.get(n, 0) <= starts(folder)[n] for n in range(ITEMS))
            ended = {n: seen[n] for n in done}
            check_files(folder)
    cli(*words)
    check_end(ran, folder, path, ended)
    until(lambda: not ran.kernels(), 15)


def check_end(ran, folder, path, ended):
    """All items are there; those that had ended before ran no more, the others at most as often as was journaled."""
    times = ran.times()
    assert ended == {n: times[n] for n in ended}
    assert all(1 <= times[n] <= starts(folder)[n] for n in range(ITEMS))
    assert [{"square": n * n} for n in range(ITEMS)] == nbflow.results(path)
    check_files(folder)


SHOOTING = """\
import os, signal, sys
phase, nth, words = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
open(os.environ["RAN"] + ".driver", "w").write(str(os.getpid()))
armed = False
def here():
    global nth
    nth -= 1
    if nth == 0:
        os.kill(os.getpid(), signal.SIGKILL)
def renamed(name, args):
    global armed
    if name == "os.rename":
        target = os.fspath(args[1])
        executed = target.endswith(".ipynb") and "source" not in target
        kind = "notebook" if executed else "checkpoint" if target.endswith(".nbflow.json") else ""
        if phase == "before " + kind:
            here()
        armed = phase == "after " + kind
    elif armed and name == "open":
        armed = False
        here()
if phase.startswith(("before", "after")):
    sys.addaudithook(renamed)
write = os.write
def writing(handle, data):
    if phase == "journal end" and b'"RunFinished"' in data:
        write(handle, data)
        here()
    ended = b'"NodeFinished"' in data
    if ended and phase == "journal before":
        here()
    if ended and phase == "journal half" and nth == 1:
        write(handle, data[: len(data) // 2])
        here()
    count = write(handle, data)
    if ended and phase in ("journal before", "journal half", "journal after"):
        here()
    return count
os.write = writing
if phase == "kernel":
    from nbflow.kernels.local import Kernel
    launch = Kernel.launch
    async def launching(*args, **more):
        await launch(*args, **more)
        here()
    Kernel.launch = launching
from nbflow.cli import main
main(words)
"""
"""The command line that kills itself when it is for the n-th time in a phase of its work."""

IN_CELL = """\
import signal, time
driver = os.environ["RAN"] + ".driver"
if n == 1 and os.path.exists(driver):
    pid = int(open(driver).read())
    os.unlink(driver)
    os.kill(pid, signal.SIGKILL)
    time.sleep(20)
"""


@pytest.mark.parametrize(
    ("phase", "nth"),
    [
        ("cell", 1),
        ("after notebook", 1),
        *(
            pytest.param(phase, nth, marks=pytest.mark.long)
            for phase, nth in [
                ("journal half", 2),
                ("journal after", 1),
                ("journal end", 1),
                ("kernel", 1),
                ("kernel", 3),
                ("before notebook", 1),
                ("before notebook", 3),
                ("after notebook", 2),
                ("journal before", 1),
                ("journal half", 1),
                ("journal after", 2),
                ("before checkpoint", 1),
                ("before checkpoint", 2),
                ("after checkpoint", 1),
                ("after checkpoint", 2),
            ]
        ),
    ],
)
def test_a_kill_in_each_phase_of_the_work_loses_nothing(phase, nth, notebook, ran, cli, folder, until):
    """Kernel start, cell, save, journal line, checkpoint, end: recorded items appear once, the others at most twice."""
    path = notebook(ran.cell, IN_CELL if phase == "cell" else "import time; time.sleep(0.6)")
    words = ["map", path.name, "--grid", "n=0,1,2,3", "-j", "2", "-q"]
    killed = cli.start(phase, nth, *words, program=("-c", SHOOTING))
    killed.communicate(timeout=100)
    assert -signal.SIGKILL == killed.returncode
    done = finished(folder)
    assert all(count <= starts(folder)[n] for n, count in ran.times().items()), "an item that runs has its line"
    if journal(folder) or (folder / "work.ipynb.nbflow.json").exists():
        assert ("completed" if phase == "journal end" else "interrupted") == cli.json("status", path.name)["status"]
    check_files(folder)
    cli("map", path.name, "--grid", "n=0,1,2,3", "-j", "2", "--resume", "-q")
    times = ran.times()
    assert dict.fromkeys(done, 1) == {n: times[n] for n in done}
    assert all(1 <= times[n] <= 2 for n in range(4))
    assert [{"square": n * n} for n in range(4)] == nbflow.results(path)
    check_files(folder)
    until(lambda: not ran.kernels(), 25)


@pytest.mark.parametrize(
    ("phase", "nth"),
    [("after checkpoint", 1), *(pytest.param("before checkpoint", n, marks=pytest.mark.long) for n in (1, 2))],
)
def test_a_resume_that_is_killed_at_once_leaves_a_checkpoint_that_suffices(phase, nth, notebook, ran, cli, folder):
    """Killed at its first checkpoint and then ``nbflow-runs/`` deleted: no finished item repeats."""
    path = notebook(ran.cell, "assert n != 1 or os.path.exists('mended')")
    cli("map", path.name, "--grid", "n=0,1,2", "-j", "2", "-q", code=1)
    killed = cli.start(phase, nth, "resume", path.name, "-q", program=("-c", SHOOTING))
    killed.communicate(timeout=100)
    assert -signal.SIGKILL == killed.returncode
    before = ran.times()
    shutil.rmtree(folder / "nbflow-runs")
    (folder / "mended").touch()
    cli("resume", path.name, "-q")
    assert (before[0], before[2]) == (ran.times()[0], ran.times()[2]) == (1, 1)
    assert [{"square": n * n} for n in range(3)] == nbflow.results(path)


@pytest.mark.parametrize("lines", [0, 1, 2])
def test_a_death_while_the_checkpoint_becomes_a_journal_loses_nothing(lines, notebook, ran, cli, folder):
    """A folder that was made anew and has no whole journal yet does not hide what the checkpoint knows."""
    path = notebook(ran.cell)
    run = nbflow.map(path, grid={"n": [1, 2]}, quiet=True)
    shutil.rmtree(run.folder)
    killer = f"""\
import os, signal, sys
import nbflow.store.journal as journal
count = {lines}
real = os.replace
def opened(name, args):
    global count
    if name == "open" and str(args[0]).endswith("journal.jsonl"):
        count -= 1
        if count < 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(opened)
from nbflow.cli import main
main(["resume", "work.ipynb", "--from", "0", "-q"])
"""
    killed = cli.start(program=("-c", killer))
    killed.communicate(timeout=60)
    assert -signal.SIGKILL == killed.returncode
    cli("resume", path.name)
    assert {1: 1, 2: 1} == ran.times()
    assert [{"square": 1}, {"square": 4}] == nbflow.results(path)
