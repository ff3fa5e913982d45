"""The journal: what is written is read back, whatever takes the process, the disk or the power away."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbflow.errors import StoreError
from nbflow.events import (
    AttemptFailed,
    CellFinished,
    CellStarted,
    Event,
    FanOutOpened,
    NodeFinished,
    NodeStarted,
    Printed,
    RunFinished,
    RunStarted,
    Warned,
)
from nbflow.model import Literal, Retry
from nbflow.outcome import Failure, Outcome, Record
from nbflow.state import fold
from nbflow.store.journal import Journal, TakenOverError, decode, encode, read_journal, records
from nbflow.testing import FakeStep, ItemParameters, fan_out, simulate, workflow
from nbflow.testing import records as told
from nbflow.values import File

START = RunStarted(1763924821.123, "20261123-030112-7f3a", "train.ipynb", 1, {"year": 2026}, 4)

texts = st.text(max_size=12)
times = st.integers(0, 4 * 10**12).map(lambda ms: ms / 1000)
ids = st.from_regex(r"[a-z_][a-z0-9_-]{0,6}(:[a-z]+:[0-9]{1,5})?", fullmatch=True)
nodes = st.lists(ids, min_size=1, max_size=3).map(tuple)
indices = st.none() | st.integers(0, 10**6)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats()
    | texts
    | st.dates()
    | st.builds(File, texts, st.integers(0, 9), texts)
)
values = st.recursive(leaves, lambda v: st.lists(v, max_size=3) | st.dictionaries(texts, v, max_size=3), max_leaves=6)
failures = st.builds(Failure, texts, texts, st.none() | texts, st.none() | st.integers(1, 99), st.none() | texts)
outcomes = st.builds(
    Outcome,
    st.sampled_from(["completed", "failed", "cancelled", "skipped", "paused", "aborted"]),
    values,
    st.none() | failures,
    st.integers(0, 10**10).map(lambda us: us / 10**6),
    st.integers(0, 5),
    st.none() | texts,
    st.none() | texts,
)
journaled = st.one_of(
    st.builds(RunStarted, times, texts, texts, st.integers(1, 9), values, st.integers(1, 99)),
    st.builds(FanOutOpened, times, nodes, st.integers(0, 10**6)),
    st.builds(NodeStarted, times, nodes, texts, st.integers(1, 9), texts, indices),
    st.builds(AttemptFailed, times, nodes, texts, st.integers(1, 9), outcomes, times),
    st.builds(NodeFinished, times, nodes, texts, texts, outcomes, texts, indices, st.booleans()),
    st.builds(Warned, times, st.none() | nodes, texts),
    st.builds(RunFinished, times, st.sampled_from(["completed", "interrupted"]), st.none() | failures, texts),
)


def kept_of(event: Event) -> Event:
    """Give what the journal keeps of an event: a completed task has its name from its start."""
    if isinstance(event, NodeFinished) and not event.leaf:
        return replace(event, outcome=replace(event.outcome, output=None, seconds=round(event.outcome.seconds, 6)))
    if isinstance(event, NodeFinished) and event.outcome.status == "completed":
        return replace(event, label="", index=None)
    return event


def same(left: object, right: object) -> bool:
    """Equality in which NaN equals NaN, and 1 is not True."""
    return repr(left) == repr(right)


def finished(key: str, outcome: Outcome, fingerprint: str = "f") -> NodeFinished:
    """Give the end of a task."""
    return NodeFinished(2.0, (f"map:item:{key}",), key, fingerprint, outcome, "", None)


def started(key: str, attempt: int = 1) -> NodeStarted:
    """Give the start of a task."""
    return NodeStarted(1.0, (f"map:item:{key}",), key, attempt, f"city={key}", 0)


def write(path: Path, *events: Event) -> bytes:
    """Write a journal and give its bytes."""
    journal = Journal(path)
    journal.append(events)
    journal.close()
    return path.read_bytes()


@given(journaled)
def test_an_event_is_read_as_it_was_written(event):
    """Nothing that resume or people need gets lost in a line, which is one line of ASCII."""
    line = encode(event)
    assert line is not None
    assert line.isascii()
    assert "\n" not in line
    assert same(kept_of(event), decode(line)), line


@pytest.mark.parametrize(
    "event",
    [
        CellStarted(1.0, ("a",), 1, 2, "Fit"),
        CellFinished(1.0, ("a",), 1, "completed", 0.1),
        Printed(1.0, ("a",), "hello"),
        NodeFinished(1.0, ("a",), "k", "f", Outcome("completed"), "", None, kept=True),
    ],
)
def test_what_passes_by_is_not_journaled(event):
    """Cells, prints, and items kept from earlier epochs take no line."""
    assert encode(event) is None


def test_values_that_json_cannot_say_come_back_exactly():
    """NaN, integers beyond 2**53, dates and files are told exactly."""
    output = {
        "nan": float("nan"),
        "big": 2**70,
        "day": dt.date(2026, 11, 23),
        "frame": File("a.parquet", 3, "ff", "parquet"),
    }
    line = encode(finished("Oslo", Outcome("completed", output)))
    assert same(output, decode(line).outcome.output)


def test_an_item_that_failed_before_it_started_keeps_its_name():
    """Such an item has no start in the journal that could name it."""
    event = NodeFinished(
        1.0, ("map:item:3",), "k", "", Outcome("failed", error=Failure("expression", "no")), "city=Lima", 3
    )
    state = fold([START, decode(encode(event))])
    assert [(e.label, e.index) for e in state.progress.failures] == [("city=Lima", 3)]


def test_a_small_item_takes_at_most_400_bytes():
    """The journal of a hundred thousand items stays below 40 MB."""
    run = simulate(
        workflow(FakeStep(id="load"), fan_out([{"city": "Cairo"}], max_concurrency=Literal(4), says_step=False)),
        lambda _: Outcome(
            "completed", {"rmse": 1.831, "n_days": 365}, None, 52.123456, 1, "16_Cairo.ipynb", "logs/16_Cairo.log"
        ),
    )
    lines = [
        encode(replace(e, at=1763924821.123456, node=("map:item:16",)))
        for e in run.events
        if isinstance(e, (NodeStarted, NodeFinished)) and e.node == ("map:item:0",)
    ]
    assert len(lines) == 2
    assert sum(len(line) + 1 for line in lines) <= 400, lines


def unwritten(event):
    """Give the fields that are not journaled, as they are read: who reads asks the definition which items there are."""
    return {"items": ()} if isinstance(event, (NodeStarted, NodeFinished)) else {}


@pytest.fixture(scope="module")
def long_journal(tmp_path_factory):
    """Give the bytes of a journal, its events, and a folder."""
    folder = tmp_path_factory.mktemp("prefix")
    output = {"text": "São \n Paulo", "nan": float("nan")}
    events = [START, FanOutOpened(1.0, ("map",), 2)]
    for key in ("Oslo", "Lima"):
        events += [started(key), finished(key, Outcome("completed", output))]
    events.append(RunFinished(3.0, "completed"))
    return write(folder / "whole.jsonl", *events), [kept_of(event) for event in events], folder


@given(data=st.data(), garbage=st.binary(max_size=8).filter(lambda b: b"\n" not in b))
@settings(deadline=None)
def test_any_prefix_of_a_journal_reads_as_a_prefix_of_its_events_and_can_be_continued(long_journal, data, garbage):
    """Wherever a death cuts it off, whole lines stand and the rest is dropped."""
    whole, events, folder = long_journal
    cut = data.draw(st.integers(0, len(whole)))
    path = folder / "torn.jsonl"
    path.write_bytes(whole[:cut] + garbage)
    read = read_journal(path)
    count = whole[:cut].count(b"\n")
    assert same(events[:count], read.events)
    assert bool(read.dropped) == (whole[:cut] + garbage != whole[: read.good])
    journal = Journal(path, read.good)
    journal.append([START])
    journal.close()
    assert same([*events[:count], START], read_journal(path).events)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == journal.sha256
    assert path.stat().st_size == journal.size


def test_every_byte_of_a_journal_may_be_the_last(long_journal):
    """As above, at each place once."""
    whole, events, folder = long_journal
    path = folder / "each.jsonl"
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        assert whole[:cut].count(b"\n") == len(read_journal(path).events), cut
    assert len(events) == whole.count(b"\n")


def test_a_last_line_whose_middle_the_power_took_is_dropped(tmp_path):
    """Blocks of zeros before a line's end are half a line too."""
    path = tmp_path / "journal.jsonl"
    good = write(path, START)
    path.write_bytes(good + b'{"event":"Node\0\0\0\0\0}\n')
    read = read_journal(path)
    assert ([START], len(good)) == (read.events, read.good)
    Journal(path, read.good).close()
    assert good == path.read_bytes()


BAD = {
    "no JSON": b"{nonsense}",
    "empty": b"",
    "zeros": b"\0\0\0",
    "no object": b"[1]",
    "not UTF-8": b'{"event":"Warned\xff"}',
    "no key": b'{"event":"NodeStarted","at":1,"node":"a"}',
    "no time": b'{"event":"FanOutOpened","at":"noon","node":"a","total":2}',
    "no status of ours": b'{"event":"NodeFinished","at":1,"node":"a","key":"k","status":"comp1eted"}',
    "unknown tag": b'{"event":"NodeFinished","at":1,"node":"a","key":"k","status":"failed","output":{"$nbflow":"x"}}',
    "nested too deep": b'{"event":' + b"[" * 100_000,
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_bad_line_elsewhere_is_refused_with_file_and_line(tmp_path, bad):
    """Nothing is guessed: the message says where, in one line, and what to do."""
    path = tmp_path / "journal.jsonl"
    whole = write(path, START, started("Oslo"), finished("Oslo", Outcome("completed", 1)))
    lines = whole.splitlines()
    path.write_bytes(b"\n".join([lines[0], bad, *lines[1:]]) + b"\n")
    with pytest.raises(StoreError) as caught:
        read_journal(path)
    assert caught.value.message.startswith(f"{path}:2: ")
    assert "\n" not in caught.value.message
    assert "checkpoint" in caught.value.remedy


NEWER = {
    "version": lambda: encode(START).replace('"nbflow":1', '"nbflow":2').encode(),
    "event": lambda: b'{"event":"StarAligned","at":1,"node":"a"}',
}


@pytest.mark.parametrize("line", NEWER.values(), ids=NEWER)
def test_what_a_newer_nbflow_wrote_is_refused_and_never_cut_off(tmp_path, line):
    """Even as the last line it is no torn one."""
    path = tmp_path / "journal.jsonl"
    good = write(path, START)
    path.write_bytes(good + line() + b"\n")
    with pytest.raises(StoreError) as caught:
        read_journal(path)
    assert "pip install -U nbflow" in caught.value.remedy
    with pytest.raises(StoreError):
        Journal(path, len(good))
    assert good + line() + b"\n" == path.read_bytes()


def test_a_journal_without_its_beginning_is_refused(tmp_path):
    """What is before the first line is lost, so the rest cannot be trusted to be all."""
    path = tmp_path / "journal.jsonl"
    write(path, started("Oslo"))
    with pytest.raises(StoreError, match=r"journal\.jsonl:1: "):
        read_journal(path)


def test_keys_of_later_versions_are_passed_over():
    """A minor version may say more of an event."""
    error = Failure("error", "KeyError: 'x'")
    for event in (START, started("Oslo"), kept_of(finished("Oslo", Outcome("failed", error=error)))):
        data = json.loads(encode(event))
        data["later"] = 1
        if "error" in data:
            data["error"]["later"] = 1
        assert event == decode(json.dumps(data))


@pytest.mark.parametrize("good", [0, 1, 10**6])
def test_a_journal_that_says_more_than_was_read_is_never_cut(tmp_path, good):
    """Whoever opens it with a wrong length is refused: nothing finished is ever lost."""
    path = tmp_path / "journal.jsonl"
    whole = write(path, START, started("Oslo"))
    with pytest.raises(StoreError):
        Journal(path, good)
    assert whole == path.read_bytes()


def test_a_journal_that_cannot_be_read_says_so(tmp_path):
    """A folder in its place, or nothing."""
    for path in (tmp_path, tmp_path / "missing.jsonl"):
        with pytest.raises(StoreError, match=str(path)):
            read_journal(path)


FULL_DISK = """
import resource, sys
from pathlib import Path
from nbflow.events import RunStarted, NodeStarted
from nbflow.store.journal import Journal
path = Path(sys.argv[1])
journal = Journal(path)
journal.append([RunStarted(1.0, "r", "n", 1, {}, 1)])
line = NodeStarted(1.0, ("map:item:0",), "k", 1, "city=Oslo", 0)
journal.append([line])
good = journal.size
resource.setrlimit(resource.RLIMIT_FSIZE, (good + 100, resource.RLIM_INFINITY))
for turn in range(2):
    try:
        journal.append([line] * 50)
    except OSError as problem:
        assert path.stat().st_size == good == journal.size, "not cut back"
        print("refused", problem.errno)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.append([line])
journal.close()
print(journal.sha256)
"""


def test_a_write_that_finds_no_room_leaves_no_half_line(tmp_path):
    """It is cut back to the last good byte, and what comes when there is room again stands behind that."""
    path = tmp_path / "journal.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, path], capture_output=True, text=True, timeout=60, check=True
    )
    first, second, digest = done.stdout.splitlines()
    assert first.startswith("refused")
    assert first == second
    read = read_journal(path)
    assert (len(read.events), read.dropped) == (3, "")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest


def test_a_cut_that_fails_is_made_good_before_the_next_line(tmp_path, monkeypatch):
    """A disk that refuses to write may refuse to cut as well; half a line never gets another behind it."""
    path = tmp_path / "journal.jsonl"
    good = write(path, START)
    journal = Journal(path, len(good))
    write_whole = os.write

    def write_half(handle, data):
        monkeypatch.setattr(os, "write", fail)
        return write_whole(handle, data[: len(data) // 2])

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "write", write_half)
    with monkeypatch.context() as broken:
        broken.setattr(os, "ftruncate", fail)
        with pytest.raises(OSError, match="Input/output"):
            journal.append([started("Oslo")])
    assert path.stat().st_size > len(good)
    monkeypatch.undo()
    journal.append([started("Lima")])
    journal.close()
    assert [START, started("Lima")] == read_journal(path).events


def test_a_journal_that_others_write_into_gets_no_line_more(tmp_path):
    """Whoever took the run over writes there now: what stands is theirs, also where a cut is still to be made good."""
    path = tmp_path / "journal.jsonl"
    journal = Journal(path, len(write(path, START)))
    with path.open("a") as other:
        other.write(encode(started("Oslo")) + "\n")
    before = path.read_bytes()
    for _ in range(2):
        with pytest.raises(TakenOverError):
            journal.append([started("Lima")])
    journal.close()
    assert before == path.read_bytes()


KILLED = """
import sys
from pathlib import Path
from nbflow.events import RunStarted, Warned
from nbflow.store.journal import Journal
journal = Journal(Path(sys.argv[1]))
journal.append([RunStarted(1.0, "r", "n", 1, {}, 1)])
for number in range(10**9):
    journal.append([Warned(1.0, None, str(number))])
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


def test_a_line_that_was_written_survives_kill_9(tmp_path):
    """Each line that the process told of is there afterwards, in order, and the file reads."""
    for turn in range(3):
        path = tmp_path / f"{turn}.jsonl"
        with subprocess.Popen([sys.executable, "-c", KILLED, path], stdout=subprocess.PIPE, text=True) as process:
            for _ in range(40 + 37 * turn):
                last = process.stdout.readline()
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read()
        told_last = int((rest.rpartition("\n")[0] or last).split()[-1])
        messages = [event.message for event in read_journal(path).events[1:]]
        assert [str(number) for number in range(len(messages))] == messages
        assert told_last < len(messages)


def test_the_last_end_of_a_task_answers_and_a_cancelled_one_does_not():
    """Two epochs: Oslo was cancelled after it had completed, Lima failed and then completed, Cairo never ended."""
    good, bad, stopped = Outcome("completed", 1), Outcome("failed", error=Failure("error", "no")), Outcome("cancelled")
    first = [started("Oslo"), finished("Oslo", good), started("Lima"), finished("Lima", bad, "f1"), started("Cairo")]
    second = [started("Lima", 2), finished("Lima", good, "f2"), started("Oslo", 2), finished("Oslo", stopped)]
    found = records([START, *first, *second, started("Cairo", 2)])
    assert {"Oslo": Record("f", good), "Lima": Record("f2", good)} == found.answers
    assert found.attempts == {"Oslo": 0, "Cairo": 2}


def test_containers_answer_nothing():
    """They are computed again."""
    event = NodeFinished(1.0, ("map",), "k", "", Outcome("completed", {"results": []}), "", None, leaf=False)
    assert records([event]).answers == {}


RETRIED = FakeStep(id="item", parameters=ItemParameters(), retry=Retry(attempts=3, on=("error",), delay=1.0))
ends = st.lists(st.sampled_from(["completed", "failed", "cancelled"]), min_size=1, max_size=12)


@given(ends, st.integers(1, 4), st.integers(1, 30))
@settings(deadline=None)
def test_the_journal_tells_the_next_epoch_what_the_live_run_would(statuses, width, cut):
    """State and records from lines equal those from the events themselves, wherever the process died."""
    script = iter(statuses * 20)

    def answer(task):
        status = next(script)
        error = Failure("error", "no") if status == "failed" else None
        return Outcome(status, task.parameters["item"], error, attempts=task.attempt)

    flow = workflow(
        fan_out([{"city": c} for c in "abcd"], RETRIED, max_concurrency=Literal(width), on_error="continue")
    )
    run = simulate(flow, answer, cut_after=cut)
    live = [START, *(replace(event, at=round(event.at, 3), **unwritten(event)) for event in run.events)]
    read = [decode(line) for event in live if (line := encode(event))]
    assert (told(run).answers, told(run).attempts) == (records(read).answers, records(read).attempts)
    now, later = fold(live), fold(read)
    assert now.progress == later.progress
    for node, event in now.nodes.items():
        assert (event if event.leaf else kept_of(event)) == later.nodes[node]
