"""Real processes: killed at random moments and resumed to the end, the same comes of it, and nothing repeats."""

from __future__ import annotations

import json
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from nbflow.events import Event, NodeFinished, NodeStarted, RunStarted
from nbflow.store.journal import read_journal
from nbflow.values import untagged
from tests.conformance.case import CASES, Expect, Round
from tests.conformance.test_conformance import HALTS, shape

HERE = Path(__file__).parent
NAMES = {case.name: case for case in CASES}
REAL = [case.name for case in CASES if case.real]
QUICK = "s5-workers-are-the-run-s"
CODES = {"completed": 0, "failed": 1, "aborted": 1, "paused": 3}


def journal(folder: Path) -> list[Event]:
    """Give what the run wrote, or nothing while there is no line."""
    found = sorted((folder / "nbflow-runs").rglob("journal.jsonl"))
    return list(read_journal(found[-1]).events) if found else []


def repeated(events: list[Event]) -> list[str]:
    """Give the tasks that began again, with the same inputs, after their completion was written down."""
    done: set[str] = set()
    again, inputs = [], None
    for event in events:
        if isinstance(event, RunStarted):
            if event.inputs != inputs:
                done.clear()
            inputs = event.inputs
        elif isinstance(event, NodeFinished) and event.leaf and event.outcome.status == "completed":
            done.add(event.key)
        elif isinstance(event, NodeStarted) and event.key in done:
            again.append("/".join(event.node))
    return again


def killed(cli: Any, words: list[str], delay: float) -> bool:
    """Start a verb and kill its process after a while; tell whether that came in time."""
    process = cli.start(*words)
    time.sleep(delay)  # the moment is the test's random choice, not something that is waited for
    process.kill()
    process.communicate()
    return process.returncode == -signal.SIGKILL


def check(expect: Expect, told: dict[str, Any]) -> None:
    """Compare what ``--json`` tells with what must come of the round."""
    assert expect.status == told["status"]
    nodes = told["nodes"]
    if not any(one["status"] in HALTS for one in expect.nodes.values()):
        assert sorted(expect.nodes) == sorted(nodes)
    for node, wanted in expect.nodes.items():
        found = nodes[node]
        assert (node, wanted["status"]) == (node, found["status"])
        if "output" in wanted:
            assert (node, shape(wanted["output"])) == (node, shape(untagged(found["output"])))
        for key, value in wanted.get("has", {}).items():
            assert (node, key, shape(value)) == (node, key, shape(untagged(found["output"][key])))
        if "error" in wanted:
            assert wanted["error"] in f"{found['error']['kind']}: {found['error']['message']}"
    if expect.waits_for is not None:
        assert sorted(expect.waits_for) == sorted(one["gate"] for one in told["waits_for"])


def drive(cli: Any, one: Round, folder: Path, chance: random.Random, *, first: bool) -> dict[str, Any]:
    """Run a round to its end, with kills on the way; what is asked in it is answered where it pauses."""
    inputs = [word for name, value in one.inputs.items() for word in ("-i", f"{name}={json.dumps(value)}")]
    inputs += [word for name, text in one.texts.items() for word in ("-i", f"{name}={text}")]

    def words() -> list[str]:
        verb = ["run"] if first and not journal(folder) else ["resume", "--changed", "rerun"]
        return [*verb, "workflow.yml", "-j", "4", *inputs]

    if one.answers:
        if first:
            killed(cli, words(), chance.uniform(0.4, 2.0))
            cli(*words(), code=3)
        for gate, (choice,) in one.answers.items():
            cli("answer", "workflow.yml", gate, choice, "--no-resume")
    for _ in range(3):
        if not killed(cli, words(), chance.uniform(0.4, 3.0)):
            break
    ended = cli(*words(), "--json", code=None)
    if one.expect.status == "aborted" and ended.returncode == 2:  # it was over before the last kill
        return cli.json("status", "workflow.yml")
    assert ended.returncode == CODES[one.expect.status], ended.stderr
    return json.loads(ended.stdout)


def work(name: str, seed: int, cli: Any, folder: Path, ran: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a case."""
    shutil.copy(HERE / "conformance_tasks.py", folder)
    monkeypatch.setenv("PAUSE", "0.15")
    chance = random.Random(f"{name} {seed}")
    first = True
    for one in NAMES[name].rounds:
        one.write(folder)
        check(one.expect, drive(cli, one, folder, chance, first=first))
        first = False
    events = journal(folder)
    assert [] == repeated(events)
    lines = Counter(ran.read_text().splitlines()) if ran.exists() else Counter()
    starts = sum(isinstance(event, NodeStarted) for event in events)
    assert sum(lines.values()) <= starts, "nothing ran that was not written down before"


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.long) for seed in (2, 3))])
def test_a_case_in_real_processes_survives_kills(seed, cli, folder, tmp_path, monkeypatch):
    """One case, with nested fan-outs."""
    work(QUICK, seed, cli, folder, tmp_path / "ran.txt", monkeypatch)


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", [name for name in REAL if name != QUICK])
def test_all_real_cases_survive_kills(name, seed, cli, folder, tmp_path, monkeypatch):
    """Each case that is marked so."""
    work(name, seed, cli, folder, tmp_path / "ran.txt", monkeypatch)


@pytest.mark.long
def test_status_tells_what_the_newest_start_told(cli, folder):
    """A gate that is asked again stands open, and what waits for it has not run, also when it is only looked at."""
    shutil.copy(HERE / "conformance_tasks.py", folder)
    start, again, _ = NAMES["s4-gate-does-not-approve-other-things"].rounds
    start.write(folder)
    cli("run", "workflow.yml", code=3)
    cli("answer", "workflow.yml", "sure", "approve")
    check(again.expect, cli.json("resume", "workflow.yml", "-i", "year=2027", code=3))
    check(again.expect, cli.json("status", "workflow.yml"))


def test_a_task_that_begins_again_is_seen():
    """The check above can fail."""
    from nbflow.outcome import completed

    begun = NodeStarted(0.0, ("a",), "k", 1, "a", None)
    ended = NodeFinished(0.0, ("a",), "k", "f", completed(), "a", None)
    assert [] == repeated([begun, ended])
    assert ["a"] == repeated([begun, ended, begun])


def test_at_least_twenty_cases_are_real():
    """They are what runs in processes of its own, above."""
    assert len(REAL) >= 20
    assert QUICK in REAL
