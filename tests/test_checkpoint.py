"""The checkpoint: readable, whole at every moment, enough to resume, and cheap."""

from __future__ import annotations

import datetime as dt
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbflow.errors import StoreError
from nbflow.events import FanOutOpened, NodeFinished, NodeStarted, RunFinished, RunStarted, Warned
from nbflow.outcome import Failure, Outcome, Record
from nbflow.state import RunState, fold
from nbflow.store import checkpoint
from nbflow.store.checkpoint import IN_FULL, Pace, render
from nbflow.store.files import write_atomically
from nbflow.store.journal import records
from nbflow.values import File

RUN = "20261123-030112-7f3a"
GOOD = Outcome(
    "completed", {"rmse": float("nan"), "big": 2**70, "day": dt.date(2026, 11, 23)}, None, 52.5, 2, "a.ipynb"
)
BAD = Outcome("failed", None, Failure("error", "KeyError: 'x'", "KeyError", 5, "Traceback ..."), 41.25)


def events(count: int = 2, failed: int = 1) -> list:
    """Give the events of a run of which the last items failed."""
    told = [RunStarted(1.0, RUN, "train.ipynb", 1, {"year": 2026}, 4), FanOutOpened(1.0, ("map",), count)]
    for i in range(count):
        node, outcome = (f"map:notebook:{i}",), BAD if i >= count - failed else GOOD
        told.append(NodeStarted(2.0, node, f"key{i}", 1, f"city={i}", i))
        told.append(NodeFinished(3.0, node, f"key{i}", "w.p.-", outcome, f"city={i}", i))
    told.append(NodeFinished(4.0, ("map",), "m", "", Outcome("failed"), "map", None, leaf=False))
    return [*told, Warned(4.0, None, "look"), RunFinished(5.0, "failed")]


def rendered(state: RunState) -> dict:
    """Give the content of a checkpoint of a run."""
    return render(
        state,
        definition={"nbflow": 1, "kind": "map"},
        owner={"pid": 1},
        surroundings={"cores": 2},
        folder=f"nbflow-runs/train.ipynb/{RUN}",
        journal={"bytes": 7, "sha256": "ab"},
        called=lambda event: f"city={event.index}",
    )


@pytest.fixture
def path(tmp_path) -> Path:
    """Give where the checkpoint stands."""
    return tmp_path / "train.ipynb.nbflow.json"


def test_a_checkpoint_knows_of_finished_items_what_the_journal_knows(path):
    """Outputs exactly, errors, attempts, seconds and fingerprints: it suffices to resume."""
    told = events()
    checkpoint.write(path, rendered(fold(told)))
    found = checkpoint.read(path).records()
    assert repr(records(told).answers) == repr(found.answers)
    assert {"key0", "key1"} == set(found.answers)


def test_a_checkpoint_says_how_the_run_stands(path):
    """The keys that the documentation promises, in words and numbers that a person can read."""
    checkpoint.write(path, rendered(fold(events())))
    data = json.loads(path.read_text())
    promised = {"nbflow", "run_id", "status", "owner", "workflow", "inputs", "nodes", "counts", "started", "finished"}
    assert promised <= set(data)
    counts = {"total": 2, "completed": 1, "failed": 1, "running": 0, "waiting": 0, "kept": 0}
    assert counts == {name: data["counts"][name] for name in counts}
    assert ("failed", RUN, {"year": 2026}, ["look"]) == tuple(
        data[k] for k in ("status", "run_id", "inputs", "warnings")
    )
    assert {"map:notebook:0", "map:notebook:1"} == set(data["nodes"])
    assert "city=1" == data["nodes"]["map:notebook:1"]["label"]
    assert path.parent / "nbflow-runs" / "train.ipynb" / RUN == checkpoint.read(path).folder


@pytest.mark.parametrize(("count", "shown"), [(IN_FULL, IN_FULL), (IN_FULL + 1, 3)])
def test_a_large_run_shows_only_its_failures(path, count, shown):
    """Up to a thousand items stand in full; above that the failed ones, a count, and the journal's hash."""
    data = rendered(fold(events(count, failed=3)))
    checkpoint.write(path, data)
    assert (shown, count - shown) == (len(data["nodes"]), data["nodes_left_out"])
    assert {"failed"} == {node["status"] for node in list(data["nodes"].values())[-3:]}
    assert "ab" == checkpoint.read(path).data["journal"]["sha256"]


WRONG = {
    "a list": [],
    "no checkpoint": {"cells": []},
    "newer": {"nbflow": 2},
    "no id": {"run_id": None},
    "an id that leaves the folder": {"run_id": "../../etc"},
    "a folder that leaves the folder": {"folder": f"../../{RUN}"},
    "a folder elsewhere": {"folder": f"/tmp/{RUN}"},
    "a folder of another drive": {"folder": f"C:\\runs\\{RUN}"},
    "a folder of another run": {"folder": "nbflow-runs/train.ipynb"},
    "nodes in a list": {"nodes": []},
    "a node that is text": {"nodes": {"a": "b"}},
    "a node without key": {"nodes": {"a": {"status": "completed", "fingerprint": "f"}}},
    "an unknown status": {"nodes": {"a": {"status": "done", "key": "k", "fingerprint": "f"}}},
    "an unknown tag": {
        "nodes": {"a": {"status": "completed", "key": "k", "fingerprint": "f", "output": {"$nbflow": "x"}}}
    },
    "an error that is text": {"nodes": {"a": {"status": "failed", "key": "k", "fingerprint": "f", "error": "no"}}},
    "epoch in words": {"epoch": "one"},
    "a start that is true": {"started": True},
    "no workflow": {"workflow": None},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_checkpoint_of_a_wrong_shape_is_refused_by_name(path, wrong):
    """With the file, what is wrong, and what to do; never with a traceback of ours."""
    good = json.loads(json.dumps(rendered(fold(events()))))
    keep = isinstance(wrong, dict) and "cells" not in wrong
    path.write_text(json.dumps({**good, **wrong} if keep else wrong))
    with pytest.raises(StoreError) as caught:
        checkpoint.read(path)
    assert caught.value.message.startswith(f"{path}: ")
    assert "\n" not in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_checkpoint_that_is_no_json_is_refused(path, text):
    """Truncated, of another encoding, or made to be unreadable."""
    path.write_bytes(text)
    with pytest.raises(StoreError, match="is no JSON"):
        checkpoint.read(path)


def test_keys_of_later_versions_of_a_checkpoint_are_passed_over(path):
    """A minor version may say more."""
    data = rendered(fold(events()))
    data["later"] = data["nodes"]["map:notebook:0"]["later"] = 1
    checkpoint.write(path, data)
    assert 2 == len(checkpoint.read(path).records().answers)


def test_a_file_result_comes_back_from_a_checkpoint(path):
    """References keep their digest."""
    told = events(1, failed=0)
    frame = File("artifacts/0/frame.parquet", 12, "ff", "parquet")
    told[3] = NodeFinished(3.0, ("map:notebook:0",), "key0", "w.p.-", Outcome("completed", {"frame": frame}), "", 0)
    checkpoint.write(path, rendered(fold(told)))
    assert Record("w.p.-", Outcome("completed", {"frame": frame})) == checkpoint.read(path).records().answers["key0"]


@given(st.lists(st.floats(0.0001, 5.0), min_size=1, max_size=60), st.floats(0.01, 0.5))
def test_writing_checkpoints_costs_at_most_a_twentieth_of_a_run(costs, tick):
    """On a manual clock, however long a write takes, and however often somebody asks."""
    pace, now, spent = Pace(), 0.0, 0.0
    for cost in costs:
        while not pace.due(now):
            now += tick
        before = now
        now += cost
        pace.wrote(now, cost)
        assert spent <= 0.05 * before + 1e-9
        spent += cost
        assert not pace.due(now)


def test_a_checkpoint_is_due_at_once_and_then_once_a_second_when_it_costs_nothing():
    """A person who looks sees the last second."""
    pace = Pace()
    assert pace.due(0.0)
    pace.wrote(10.0, 0.0)
    assert (False, True) == (pace.due(10.99), pace.due(11.0))


# -- files that are whole or not there ----------------------------------------------------------------


def test_a_written_file_keeps_its_mode_and_leaves_nothing_beside_it(tmp_path):
    """A person who protected a file finds it protected, and one who shared it finds it shared."""
    path = tmp_path / "a.json"
    write_atomically(path, b"old")
    for mode in (0o600, 0o666):
        path.chmod(mode)
        write_atomically(path, b"new")
        assert (mode, b"new") == (stat.S_IMODE(path.stat().st_mode), path.read_bytes())
    assert [path] == list(tmp_path.iterdir())


def test_a_new_file_takes_the_mode_that_the_user_gives_new_files(tmp_path):
    """By the umask."""
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "a", b"")
    finally:
        os.umask(before)
    assert 0o640 == stat.S_IMODE((tmp_path / "a").stat().st_mode)


def test_a_file_with_the_longest_name_can_be_written(tmp_path):
    """The temporary one beside it has a shorter name."""
    path = tmp_path / ("é" * 127)
    write_atomically(path, b"x")
    assert b"x" == path.read_bytes()


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    """The size limit of the process stands for a full disk."""
    path = tmp_path / "a.json"
    write_atomically(path, b"old")
    code = (
        "import resource, sys; from pathlib import Path; from nbflow.store.files import write_atomically\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))\n"
        "try: write_atomically(Path(sys.argv[1]), bytes(10**6))\n"
        "except OSError: print('refused')"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "refused\n"
    assert (b"old", [path]) == (path.read_bytes(), list(tmp_path.iterdir()))


def test_a_file_cannot_be_written_into_what_is_no_folder(tmp_path):
    """The error is the system's own, and nothing is made."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        write_atomically(tmp_path / "file" / "a.json", b"x")


REPLACED = """
import sys, json
from pathlib import Path
from nbflow.store.files import write_atomically
path = Path(sys.argv[1])
print("begun", flush=True)
for number in range(10**9):
    write_atomically(path, json.dumps([number] * 5000).encode())
"""


def test_a_file_that_is_replaced_all_the_time_is_whole_whenever_its_writer_is_killed(tmp_path):
    """At every moment the old or the new one stands there."""
    path = tmp_path / "a.json"
    write_atomically(path, b"[0]")
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", REPLACED, path], stdout=subprocess.PIPE) as process:
            try:
                process.stdout.readline()
                seen = set()
                while len(seen) < 4:
                    seen.add(json.loads(path.read_bytes())[0])
            finally:
                process.kill()
        assert 1 == len(set(json.loads(path.read_bytes())))
