"""The lock: one process works at a run; death frees it at once, and every reader can tell."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, replace

import pytest

from nbflow.errors import LockedError, StoreError
from nbflow.store.lock import STALE, RunLock, read_owner

HOLDER = """
import sys
from pathlib import Path
from nbflow.store.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
print(repr(lock.acquire()), flush=True)
sys.stdin.readline()
lock.release()
print("released", flush=True)
sys.stdin.readline()
"""


@contextmanager
def holder(folder):
    """Have another process work at the run."""
    command = [sys.executable, "-c", HOLDER, folder]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "''\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def folder(tmp_path):
    """Give a run folder."""
    (tmp_path / "20261123-030112-7f3a").mkdir()
    return tmp_path / "20261123-030112-7f3a"


@pytest.fixture
def foreign(folder):
    """Have a process of another host be seen just now; gives the function that says otherwise."""
    mine = RunLock(folder).owner

    def write(**changes):
        owner = replace(mine, host="other", pid=77, **{"heartbeat": time.time(), **changes})
        (folder / "owner.json").write_text(json.dumps(asdict(owner)))

    write()
    return write


def test_a_second_process_is_refused_by_the_name_of_the_first(folder, monkeypatch):
    """It learns which process works there, and how to stop it."""
    monkeypatch.chdir(folder.parent)
    with holder(folder) as process:
        with pytest.raises(LockedError) as caught:
            RunLock(folder).acquire(take_over=True)
        assert f"process {process.pid} of " in caught.value.message
        assert "\n" not in caught.value.message
        assert caught.value.remedy == "Wait for it, or stop it: nbflow cancel 20261123-030112-7f3a"


def test_the_remedy_names_the_folder_where_the_id_alone_would_not_be_found(folder, monkeypatch):
    """A run id is looked for below the working directory only."""
    (folder / "below").mkdir()
    monkeypatch.chdir(folder / "below")
    with holder(folder), pytest.raises(LockedError, match=f"nbflow cancel {folder}"):
        RunLock(folder).acquire()


def test_a_killed_process_frees_the_run_at_once(folder):
    """Readers see it, and the next one takes it without a warning or a wait."""
    with holder(folder) as process:
        assert read_owner(folder).alive(time.time())
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not read_owner(folder).alive(time.time())
        lock = RunLock(folder)
        assert lock.acquire() == ""
        assert os.getpid() == read_owner(folder).pid
        lock.release()


def test_a_dead_process_that_nobody_has_buried_does_not_work_at_anything(folder):
    """What is left of it still has an id."""
    with holder(folder) as process:
        os.kill(process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not read_owner(folder).alive(time.time())


def test_a_process_that_lives_on_and_let_go_does_not_work_at_the_run(folder):
    """A notebook's kernel that ran it is still there."""
    with holder(folder) as process:
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "released\n"
        assert process.poll() is None
        assert not read_owner(folder).alive(time.time())
        lock = RunLock(folder)
        assert lock.acquire() == ""
        lock.release()


def test_a_process_id_that_was_used_again_is_another_process(folder):
    """It is told by when it began."""
    lock = RunLock(folder)
    lock.acquire()
    owner = read_owner(folder)
    assert owner.alive(time.time())
    assert not replace(owner, process_start=owner.process_start - 1).alive(time.time())
    lock.release()


def test_on_this_host_a_late_heartbeat_means_nothing(folder):
    """The process is there: it may be stopped, or its disk slow."""
    lock = RunLock(folder)
    lock.acquire()
    lock.beat(1.0)
    assert read_owner(folder).alive(time.time())
    lock.release()


def test_a_process_of_another_host_is_believed_while_its_heart_beats(folder, foreign):
    """The lock may not reach across hosts, so the run is refused, and --take-over is named."""
    with pytest.raises(LockedError) as caught:
        RunLock(folder).acquire()
    assert "process 77 of " in caught.value.message
    assert " on other " in caught.value.message
    assert "--take-over" in caught.value.remedy


@pytest.mark.parametrize(("age", "alive"), [(STALE - 2, True), (STALE + 1, False)])
def test_a_heartbeat_counts_for_a_minute(folder, foreign, age, alive):
    """Elsewhere there is nothing else to go by."""
    now = time.time()
    foreign(heartbeat=now - age)
    assert alive == read_owner(folder).alive(now)


def test_another_container_of_the_same_name_is_another_host(folder):
    """Pods are called alike; the boot and the process namespace tell them apart."""
    mine = RunLock(folder).owner
    namesake = replace(mine, boot="elsewhere", heartbeat=time.time())
    (folder / "owner.json").write_text(json.dumps(asdict(namesake)))
    assert not read_owner(folder).here
    with pytest.raises(LockedError):
        RunLock(folder).acquire()


@pytest.mark.parametrize(("age", "take_over"), [(STALE + 1, False), (0.0, True)])
def test_a_run_is_taken_over_from_another_host_with_a_warning(folder, foreign, age, take_over):
    """When its heart has stopped, or when a person says so."""
    foreign(heartbeat=time.time() - age)
    lock = RunLock(folder)
    assert "taken over from process 77 of " in lock.acquire(take_over=take_over)
    assert read_owner(folder).here
    lock.release()


def test_a_run_that_another_host_let_go_of_is_taken_at_once_and_without_a_warning(folder, foreign):
    """Nothing was taken from anybody."""
    foreign(heartbeat=0.0)
    lock = RunLock(folder)
    assert lock.acquire() == ""
    lock.release()


def test_a_process_learns_that_its_run_was_taken_over_and_says_nothing_more(folder, foreign):
    """Its own heartbeat must not hide the new owner."""
    foreign(heartbeat=0.0)
    lock = RunLock(folder)
    lock.acquire()
    assert not lock.lost()
    foreign()
    assert lock.lost()
    lock.release()
    assert read_owner(folder).pid == 77


def test_a_heartbeat_moves_only_the_heartbeat(folder):
    """Who, and since when, stays."""
    lock = RunLock(folder)
    lock.acquire()
    before = read_owner(folder)
    lock.beat(before.heartbeat + 5)
    assert replace(before, heartbeat=before.heartbeat + 5) == read_owner(folder)
    lock.release()


def test_keys_of_later_versions_of_an_owner_are_passed_over(folder):
    """A running run of a newer nbflow must not look interrupted."""
    lock = RunLock(folder)
    lock.acquire()
    data = json.loads((folder / "owner.json").read_text())
    (folder / "owner.json").write_text(json.dumps({**data, "later": 1}))
    assert read_owner(folder).alive(time.time())
    lock.release()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"pid": 1}', '{"pid": "x"}', "\xff"])
def test_an_owner_that_cannot_be_read_is_nobody(folder, text):
    """Readers go on, and the lock decides."""
    (folder / "owner.json").write_bytes(text.encode("latin-1"))
    assert read_owner(folder) is None
    lock = RunLock(folder)
    assert lock.acquire() == ""
    lock.release()


def test_a_folder_that_cannot_be_locked_is_refused_with_a_way_out(folder):
    """A folder stands where the lock should."""
    (folder / "lock").mkdir()
    with pytest.raises(StoreError, match="cannot be locked") as caught:
        RunLock(folder).acquire()
    assert "--state-dir" in caught.value.remedy


def test_a_lock_whose_owner_cannot_be_written_is_let_go(folder):
    """The next one finds it free."""
    (folder / "owner.json").mkdir()
    first = RunLock(folder)
    with pytest.raises(OSError, match="owner"):
        first.acquire()
    (folder / "owner.json").rmdir()
    lock = RunLock(folder)
    lock.acquire()
    lock.release()
