"""Workflows with real processes: run, resume, answer, and what people see of them."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import psutil
import pytest

import nbflow
from nbflow.api.answering import record_answers
from nbflow.api.checking import checked
from nbflow.api.reading import locate
from nbflow.errors import DefinitionError, TargetError
from nbflow.events import Event, NodeFinished

TASKS = """\
import os
import pathlib


def note(name, value=None):
    with open(os.environ["RAN"], "a") as ran:
        ran.write(f"{name}\\n")
    return {"value": value}


def fail_unless(name, path):
    note(name)
    assert pathlib.Path(path).exists(), f"{path} is missing"
    return {"value": 1}
"""
GATED = """\
nbflow: 1
inputs:
  year: {type: integer, default: 2026}
steps:
  - {id: load, call: "tasks:note", arguments: {name: load, value: "{{ inputs.year }}"}}
  - id: review
    gate: "Publish {{ steps.load.output.value }}?"
    options: [{name: publish, outcome: approve}, {name: drop, outcome: reject}]
    show: draft.txt
  - {id: report, call: "tasks:note", arguments: {name: report, value: "{{ steps.review.output.choice }}"}}
"""


@pytest.fixture
def ran(folder: Path) -> Callable[[], list[str]]:
    """Give the names of the tasks that ran, in order; the functions that note them are in the folder."""
    (folder / "tasks.py").write_text(TASKS)
    (folder / "draft.txt").write_text("the draft\nto be judged\n")
    file = Path(os.environ["RAN"])
    return lambda: file.read_text().split() if file.exists() else []


@pytest.fixture
def gated(folder: Path, ran: Any) -> Path:
    """A workflow with a gate in its middle."""
    path = folder / "monthly.yml"
    path.write_text(GATED)
    return path


# -- failures -------------------------------------------------------------------------------------------------------


def test_a_container_that_fails_itself_is_told_like_a_task(folder, ran, cli):
    """What is tolerated below it is not why the run failed; and who only has it from below is not told again."""
    (folder / "w.yml").write_text(
        """\
nbflow: 1
steps:
  - id: fit
    items: [good, bad]
    on_error: continue
    continue_on_error: true
    step: {id: one, call: "tasks:fail_unless", arguments: {name: "{{ item }}", path: "{{ item }}"}}
  - {id: choose, if: "{{ steps.fit.output.failed | length > 0 }}", then: [{id: tell, call: "builtins:dict"}]}
"""
    )
    (folder / "good").touch()
    told = cli("run", "w.yml", code=1)
    why = "in `steps.fit.output.failed | length > 0`: the filter 'length' of 1"
    assert re.search(f"failed     choose +{re.escape(why)}", told.stderr)
    for text in (told.stdout, cli("status", "w.yml").stdout):
        assert "2 of 3 failed, 1 is done and kept:" in text
        assert re.search(
            r"\n  one item=bad +AssertionError: bad is missing\n  choose +in `steps\.fit\.output\.failed", text
        )
        assert "1 of 2 failed" not in text
        assert re.search(r"\n  fit +1/2 +failed +0\.\d+\n", text), "seconds are those of the run"
    planned = ["fit:one:0", "fit:one:1", "choose"]
    assert planned == [row["node"] for row in cli.json("resume", "w.yml", "--dry-run")["nodes"]]
    assert ["fit:one:1", "choose"] == [node.id for node in nbflow.status("w.yml").failures]


def test_a_command_runs_where_its_file_and_its_expressions_say(folder):
    """An expression is no path before it has a value; defaults hold for commands, too."""
    for name in ("d2", "sub/d2", "far"):
        (folder / name).mkdir(parents=True)
    steps = """\
  - {id: divided, run: pwd, cwd: "d{{ inputs.n // 2 }}"}
  - {id: whole, run: pwd, cwd: "{{ inputs.far }}"}
  - {id: up, run: pwd, cwd: "{{ 'd2/../d2' }}"}
  - {id: plain, run: pwd}
"""
    inputs = "nbflow: 1\ninputs: {n: {type: integer, default: 5}, far: {type: string}}\n"
    (folder / "sub" / "in.yml").write_text(f"{inputs}steps:\n{steps}")
    (folder / "w.yml").write_text(
        f"{inputs}defaults: {{cwd: far}}\nsteps:\n{steps}"
        '  - {id: sub, workflow: sub/in.yml, inputs: {far: "{{ inputs.far }}"}}\n'
    )
    run = nbflow.run("w.yml", inputs={"far": str(folder / "far")}, quiet=True).check()
    seen = {name: Path(run[name].output["stdout"].strip()).relative_to(folder) for name in run.nodes if name != "sub"}
    assert {
        "divided": Path("d2"),
        "whole": Path("far"),
        "up": Path("d2"),
        "plain": Path("far"),
        "sub/divided": Path("sub/d2"),
        "sub/whole": Path("far"),
        "sub/up": Path("sub/d2"),
        "sub/plain": Path("sub"),
    } == seen


def test_a_command_ends_with_the_process_that_runs_it(folder, ran, cli, until):
    """Killed outright, it can end nothing itself; and a resume must not start beside what still works."""
    (folder / "w.yml").write_text("nbflow: 1\nsteps: [{id: a, run: 'sleep 60 & echo $! $$ > p; mv p pids; wait'}]\n")
    process = cli.start("run", "w.yml", "-q")
    pids = folder / "pids"
    until(pids.exists)
    both = [int(pid) for pid in pids.read_text().split()]
    assert all(map(psutil.pid_exists, both))
    process.kill()
    process.communicate(timeout=20)
    until(lambda: not any(map(psutil.pid_exists, both)), 5)


# -- gates ----------------------------------------------------------------------------------------------------------


def test_a_gate_with_nobody_to_ask_pauses_and_its_answer_goes_on(gated, cli, ran):
    """Exit code 3; the end says how to answer; nothing that is done runs again."""
    said = cli("run", "monthly.yml", "-i", "year=2025", code=3)
    assert "review  Publish 2025?" in said.stdout
    assert "nbflow answer monthly.yml review publish|drop" in said.stdout
    assert [{"gate": "review", "message": "Publish 2025?", "options": ["publish", "drop"]}] == cli.json(
        "status", "monthly.yml"
    )["waits_for"]
    data = cli.json("answer", "monthly.yml", "review", "publish")
    assert ("completed", []) == (data["status"], data["waits_for"])
    assert {"choice": "publish", "outcome": "approve"} == data["nodes"]["review"]["output"]
    assert {"value": "publish"} == data["nodes"]["report"]["output"]
    assert ["load", "report"] == ran()
    assert "nothing to do" in cli("resume", "monthly.yml").stdout


def test_json_of_a_workflow_has_the_promised_shape(gated, cli):
    """``run_id status checkpoint``, nodes by id, gates that wait."""
    data = cli.json("run", "monthly.yml", code=3)
    assert {"run_id", "status", "checkpoint", "nodes", "waits_for"} == set(data)
    assert {"status", "output", "error", "attempts", "seconds", "notebook"} == set(data["nodes"]["load"])
    assert ("completed", {"value": 2026}, None, 1) == tuple(
        data["nodes"]["load"][name] for name in ("status", "output", "error", "attempts")
    )
    assert "paused" == data["nodes"]["review"]["status"]


@pytest.mark.long
def test_an_answer_can_be_written_down_for_later(gated, cli, ran):
    """Nothing starts then; the next resume finds it, also when only the checkpoint is left."""
    cli("run", "monthly.yml", code=3)
    assert (
        "nbflow resume monthly.yml goes on" in cli("answer", "monthly.yml", "review", "publish", "--no-resume").stdout
    )
    assert ["load"] == ran()
    assert [] == cli.json("status", "monthly.yml")["waits_for"]
    assert "completed" == cli.json("resume", "monthly.yml")["status"]
    assert ["load", "report"] == ran()


def test_a_rejected_run_is_aborted_for_good(gated, cli, ran):
    """Exit code 1, and a resume is refused."""
    cli("run", "monthly.yml", code=3)
    assert "aborted" == cli.json("answer", "monthly.yml", "review", "drop", code=1)["status"]
    refused = cli("resume", "monthly.yml", code=2)
    assert "was aborted by a person" in refused.stderr
    assert ["load"] == ran()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["reviev", "publish"], "no gate 'reviev' is open. Did you mean 'review'?"),
        (["review", "pubish"], "review has no option 'pubish'. Did you mean 'publish'?"),
    ],
)
def test_a_wrong_answer_is_refused(words, told, gated, cli):
    """With the right name."""
    cli("run", "monthly.yml", code=3)
    assert f"error: {told}" == cli("answer", "monthly.yml", *words, code=2).stderr.splitlines()[0]


def test_a_process_at_work_hears_an_answer_from_outside(folder, ran, cli, until):
    """The gate stands beside a slow step; the answer reaches the process that runs it."""
    (folder / "w.yml").write_text(
        "nbflow: 1\nsteps:\n"
        "  - {id: slow, run: 'until [ -e go ]; do sleep 0.05; done'}\n"
        "  - {id: sure, gate: 'Go on?', needs: []}\n"
        "  - {id: after, run: 'touch go', needs: [sure]}\n"
    )
    process = cli.start("run", "w.yml", "--json")
    until(lambda: "GateOpened" in "".join(p.read_text() for p in folder.rglob("journal.jsonl")))
    assert "shows how it goes on" in cli("answer", "w.yml", "sure", "approve").stdout
    out, _ = process.communicate(timeout=60)
    assert (0, "completed") == (process.returncode, json.loads(out)["status"])


def in_terminal(
    folder: Path, *words: str, answers: list[tuple[str, bytes]], typed: Callable[[], object] = bool
) -> tuple[int, str]:
    """Run a verb in a terminal, and type each answer when its question is there; ``typed`` is called after each."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execv(sys.executable, [sys.executable, "-m", "nbflow", *words])
    seen, left, end = "", list(answers), time.monotonic() + 60
    while time.monotonic() < end:
        ready, _, _ = select.select([terminal], [], [], 0.2)
        if ready:
            try:
                seen += os.read(terminal, 65536).decode(errors="replace")
            except OSError:
                break
        if left and left[0][0] in seen:
            os.write(terminal, left.pop(0)[1])
            typed()
    else:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), seen


QUESTION = "Your answer (Ctrl-D leaves it open):"


@pytest.mark.parametrize("typed", [b"1\n", b"Publish\n", b"9\npublish\n"])
def test_in_a_terminal_a_gate_is_answered_by_number_or_name(typed, gated, folder, ran):
    """The file to be judged is shown, with the options; what is no answer is asked again."""
    code, seen = in_terminal(folder, "run", "monthly.yml", answers=[(QUESTION, typed)])
    assert 0 == code, seen
    assert "the draft" in seen
    assert re.search(r"1  publish\s+2  drop", seen)
    assert ["load", "report"] == ran()


@pytest.mark.parametrize("typed", [b"\x04", b"\x03"], ids=["end of input", "Ctrl-C"])
def test_what_is_no_answer_leaves_the_gate_open(typed, gated, folder, ran, cli):
    """End of input and Ctrl-C pause the run, and pick nothing."""
    code, seen = in_terminal(folder, "run", "monthly.yml", answers=[(QUESTION, typed)])
    assert 3 == code, seen
    assert ["load"] == ran()
    assert "paused" == cli.json("status", "monthly.yml")["status"]
    assert "review" == cli.json("status", "monthly.yml")["waits_for"][0]["gate"]


def test_each_gate_is_asked_in_its_turn(folder, ran):
    """The answer to one question wakes nobody who asks the next one."""
    (folder / "w.yml").write_text(
        "nbflow: 1\nsteps:\n  - {id: one, gate: 'First?'}\n  - {id: two, gate: 'Second?'}\n"
        "  - {id: end, call: 'tasks:note', arguments: {name: '{{ steps.one.output.choice }}'}}\n"
    )
    code, seen = in_terminal(folder, "run", "w.yml", answers=[("First?", b"approve\n"), ("Second?", b"2\n")])
    assert (1, []) == (code, ran()), seen
    assert "aborted" in seen


def test_what_was_typed_before_a_question_is_no_answer_to_it(folder, ran):
    """A gate is not approved by an answer to another question, nor by one that came too early."""
    (folder / "w.yml").write_text(
        "nbflow: 1\nsteps:\n  - {id: slow, run: 'until [ -e go ]; do sleep 0.05; done'}\n"
        "  - {id: sure, gate: 'Delete everything?'}\n  - {id: end, call: 'tasks:note', arguments: {name: deleted}}\n"
    )
    answers = [("Ctrl-C stops", b"approve\n1\n"), ("Delete everything?", b"reject\n")]
    code, seen = in_terminal(folder, "run", "w.yml", answers=answers, typed=(folder / "go").touch)
    assert (1, []) == (code, ran()), seen


def test_an_answer_that_its_process_did_not_live_to_hear_is_not_lost(folder, ran, cli, until):
    """Who answers sees that it ended, takes the answer back, and goes on with the run."""
    (folder / "w.yml").write_text(
        "nbflow: 1\nsteps:\n"
        "  - {id: slow, run: 'until [ -e go ]; do sleep 0.05; done'}\n"
        "  - {id: sure, gate: 'Go on?', needs: []}\n"
    )
    process = cli.start("run", "w.yml", "-q")
    until(lambda: "GateOpened" in "".join(p.read_text() for p in folder.rglob("journal.jsonl")))
    process.send_signal(signal.SIGSTOP)
    answering = cli.start("answer", "w.yml", "sure", "approve", "--json")
    until(lambda: any(folder.rglob("commands/*.json")))
    (folder / "go").touch()
    process.kill()
    process.communicate(timeout=20)
    out, err = answering.communicate(timeout=60)
    said = json.loads(out)
    assert (0, "completed", []) == (answering.returncode, said["status"], said["waits_for"]), err
    assert "approve" == said["nodes"]["sure"]["output"]["choice"]


def test_of_two_answers_the_first_counts_and_the_second_is_refused(gated, cli):
    """Both had seen the open gate."""
    cli("run", "monthly.yml", code=3)
    first, second = (locate("monthly.yml") for _ in range(2))
    gates = first.run().waits_for
    assert gates == second.run().waits_for
    record_answers(first, gates, {gates[0].node: ("drop", "one")})
    with pytest.raises(TargetError, match="review was answered in the meantime"):
        record_answers(second, gates, {gates[0].node: ("publish", "other")})
    assert "aborted" == cli.json("resume", "monthly.yml", code=1)["status"]


@pytest.mark.long
def test_an_answer_for_later_stands_in_the_checkpoint_too(gated, folder, cli, ran):
    """That file alone suffices to go on."""
    cli("run", "monthly.yml", code=3)
    cli("answer", "monthly.yml", "review", "publish", "--no-resume")
    shutil.rmtree(folder / "nbflow-runs")
    assert "publish" == cli.json("resume", "monthly.yml")["nodes"]["review"]["output"]["choice"]
    assert ["load", "report"] == ran()


def test_an_answer_says_by_what_means_it_came(folder, ran, cli, until):
    """Also where a process at work writes it down."""
    (folder / "w.yml").write_text(
        "nbflow: 1\nsteps:\n  - {id: sure, gate: 'Go on?', needs: []}\n"
        "  - {id: slow, run: 'until [ -e go ]; do sleep 0.05; done', needs: []}\n"
    )
    process = cli.start("run", "w.yml", "-q")
    until(lambda: "GateOpened" in "".join(p.read_text() for p in folder.rglob("journal.jsonl")))
    cli("answer", "w.yml", "sure", "approve")
    (folder / "go").touch()
    process.communicate(timeout=60)
    (journal,) = folder.rglob("journal.jsonl")
    (answer,) = (line for line in map(json.loads, journal.read_text().splitlines()) if line["event"] == "GateAnswered")
    assert answer["by"].endswith(", nbflow answer")


# -- resume ---------------------------------------------------------------------------------------------------------

THREE = """\
nbflow: 1
inputs:
  year: {type: integer, default: 2026}
steps:
  - {id: load, call: "tasks:note", arguments: {name: load, value: "{{ inputs.year }}"}}
  - {id: fit, call: "tasks:fail_unless", arguments: {name: fit, path: ok}}
  - {id: report, call: "tasks:note", arguments: {name: report}}
"""


@pytest.fixture
def three(folder: Path, ran: Any) -> Path:
    """Three steps, of which the second fails while a file is missing."""
    path = folder / "three.yml"
    path.write_text(THREE)
    return path


def reasons(cli: Any, *words: str) -> dict[str, str]:
    """Give what a dry run says of each node that would run."""
    return {
        row["node"]: row["reason"]
        for row in cli.json("resume", "three.yml", "--dry-run", *words)["nodes"]
        if row["runs"]
    }


def test_resume_runs_what_is_missing(three, folder, cli, ran):
    """The failed step and what waits for it; the dry run says so before."""
    cli("run", "three.yml", code=1)
    assert {"fit": "failed", "report": "waits for fit"} == reasons(cli)
    (folder / "ok").touch()
    assert "completed" == cli.json("resume", "three.yml")["status"]
    assert ["load", "fit", "fit", "report"] == ran()


@pytest.mark.parametrize(
    ("words", "again"),
    [
        (["--from", "fit"], ["fit", "report"]),
        pytest.param(["--only", "load"], ["load"], marks=pytest.mark.long),
        pytest.param(["--force"], ["load", "fit", "report"], marks=pytest.mark.long),
        (["-i", "year=2027"], ["load", "fit", "report"]),
    ],
)
def test_what_is_asked_for_runs_again(words, again, three, folder, cli, ran):
    """``--from`` with what waits for it, ``--only`` alone, ``--force`` everything; new inputs what they change."""
    (folder / "ok").touch()
    cli("run", "three.yml")
    before = len(ran())
    cli("resume", "three.yml", *words, code=None)
    assert again == ran()[before:]
    assert "completed" == cli.json("resume", "three.yml")["status"]
    assert again == ran()[before:], "and nothing is left to do"


DEEP = """\
nbflow: 1
inputs: {year: {type: integer, default: 2026}}
steps:
  - {id: a, call: "tasks:note", arguments: {name: a, value: "{{ inputs.year }}"}}
  - id: decide
    needs: []
    if: "true"
    then:
      - {id: x, call: "tasks:note", arguments: {name: x}}
      - {id: y, call: "tasks:note", arguments: {name: y}}
  - id: each
    needs: []
    items: [1, 2]
    steps:
      - {id: fit, call: "tasks:note", arguments: {name: fit}}
      - {id: plot, call: "tasks:note", arguments: {name: plot}}
      - {id: save, call: "tasks:note", arguments: {name: save}}
  - {id: s, needs: [], workflow: inner.yml}
  - {id: b, needs: [], call: "tasks:note", arguments: {name: b}}
  - {id: c, needs: [b], call: "tasks:note", arguments: {name: c}}
  - {id: gather, wait_for: [each], needs: []}
"""
INNER = """\
nbflow: 1
steps:
  - {id: w, call: "tasks:note", arguments: {name: w}}
  - {id: v, call: "tasks:note", arguments: {name: v}}
"""


@pytest.mark.parametrize(
    ("words", "named", "again"),
    [
        pytest.param(
            ["--from", "x"], {"decide/x": "asked for", "decide/y": "waits for x"}, ["x", "y"], marks=pytest.mark.long
        ),
        (
            ["--from", "each:fit:1"],
            {"each:fit:1": "asked for", "each:plot:1": "waits for fit", "each:save:1": "waits for plot"},
            ["fit", "plot", "save"],
        ),
        pytest.param(["--from", "s/w"], {"s/w": "asked for", "s/v": "waits for w"}, ["w", "v"], marks=pytest.mark.long),
        pytest.param(["-i", "year=2027"], {"a": "input year changed"}, ["a"], marks=pytest.mark.long),
    ],
)
def test_a_dry_run_names_what_a_resume_starts_at_any_depth(words, named, again, folder, ran, cli):
    """What waits for it in its own list, in branches, items and workflows; what does not wait for it is kept."""
    (folder / "three.yml").write_text(DEEP)
    (folder / "inner.yml").write_text(INNER)
    cli("run", "three.yml")
    before = len(ran())
    assert list(named.items()) == list(reasons(cli, *words).items())
    cli("resume", "three.yml", *words)
    assert again == ran()[before:]


def test_a_dry_run_goes_on_behind_an_open_gate_with_what_does_not_wait_for_it(folder, ran, cli):
    """The gate waits for a person, and what stands behind it for the gate."""
    (folder / "three.yml").write_text(
        "nbflow: 1\nsteps:\n"
        "  - {id: review, gate: 'Go on?'}\n"
        "  - {id: report, call: 'tasks:note', arguments: {name: report}}\n"
        "  - {id: other, needs: [], call: 'tasks:note', arguments: {name: other}}\n"
    )
    cli("run", "three.yml", code=3)
    assert ["other"] == ran()
    rows = cli.json("resume", "three.yml", "--dry-run")["nodes"]
    assert {"review": "waits for a person", "report": "waits for review", "other": "kept"} == {
        row["node"]: row["reason"] for row in rows
    }


@pytest.mark.long
def test_tasks_at_a_time_are_those_of_the_option_then_of_an_edit_then_as_before(three, cli):
    """They change nothing of what is repeated."""

    def at_a_time(*words):
        said = cli("resume", "three.yml", *words, code=1).stderr
        return int(re.search(r"(\d+) at a time", said)[1])

    cli("run", "three.yml", "-q", "-j", "3", code=1)
    assert 3 == at_a_time()
    three.write_text(THREE.replace("nbflow: 1\n", "nbflow: 1\nmax_workers: 5\n"))
    assert 5 == at_a_time()
    assert 2 == at_a_time("-j", "2")
    assert 2 == at_a_time()


@pytest.mark.long
def test_what_made_a_file_that_is_gone_runs_again_where_a_step_that_runs_needs_it(folder, ran, cli):
    """Nothing else does: what nobody needs stays kept, and the run says that its file is gone."""
    (folder / "made.py").write_text(
        "import pathlib, tasks\n\n\ndef make(name):\n    tasks.note(name)\n    path = pathlib.Path(f'{name}.txt')\n"
        "    path.write_text(name)\n    return {'file': path}\n\n\ndef read(file, ok):\n    tasks.note('read')\n"
        "    assert pathlib.Path(ok).exists()\n    return open(file).read()\n"
    )
    (folder / "w.yml").write_text(
        """\
nbflow: 1
steps:
  - {id: load, call: "made:make", arguments: {name: load}}
  - {id: aside, needs: [], call: "made:make", arguments: {name: aside}}
  - id: use
    needs: [load]
    call: "made:read"
    arguments: {file: "{{ steps.load.output.file }}", ok: ok}
"""
    )
    cli("run", "w.yml", "-q", code=1)
    assert ["aside", "load", "read"] == sorted(ran())
    for name in ("load.txt", "aside.txt"):
        (folder / name).unlink()
    rows = {row["node"]: (row["runs"], row["reason"]) for row in cli.json("resume", "w.yml", "--dry-run")["nodes"]}
    assert (True, "a file of its results is gone") == rows["load"]
    assert (False, "kept") == rows["aside"]
    (folder / "ok").touch()
    said = cli("resume", "w.yml")
    assert ["aside", "load", "load", "read", "read"] == sorted(ran())
    assert "1 file of kept results is gone" in said.stdout + said.stderr
    assert "load" == nbflow.status("w.yml")["use"].output


@pytest.mark.long
def test_a_turn_or_a_part_of_an_item_runs_again_with_what_is_behind_it(folder, ran, cli):
    """Later turns follow from earlier ones; of other items nothing runs."""
    note = "call: 'tasks:note', arguments: {name: "
    (folder / "w.yml").write_text(
        f"""\
nbflow: 1
steps:
  - id: loop
    do: [{{id: a, {note}a}}}}, {{id: b, {note}b}}}}]
    while: "true"
    max_iterations: 3
  - id: each
    needs: []
    items: [1, 2]
    steps:
      - {{id: few, items: [x, y], step: {{id: one, {note}few}}}}}}
      - {{id: last, {note}last}}}}
"""
    )
    cli("run", "w.yml", "-q")
    count = len(ran())
    cli("resume", "w.yml", "-q", "--from", "loop:b:1")
    assert ["a", "b", "b"] == sorted(ran()[count:])
    count = len(ran())
    cli("resume", "w.yml", "-q", "--from", "each:few:0")
    assert ["few", "few", "last"] == sorted(ran()[count:])


def test_changed_code_of_finished_steps_is_a_question(three, folder, cli, ran):
    """As with maps: exit code 2, the two answers, and each does what it says."""
    (folder / "ok").touch()
    cli("run", "three.yml")
    (folder / "tasks.py").write_text(TASKS + "\n# other code\n")
    refused = cli("resume", "three.yml", code=2)
    told = "code of tasks:note, code of tasks:fail_unless changed since 3 finished tasks ran"
    assert f"error: three.yml: {told}" == refused.stderr.splitlines()[0]
    assert ["--changed keep" in refused.stderr, "--changed rerun" in refused.stderr] == [True, True]
    cli("resume", "three.yml", "--changed", "keep")
    assert 3 == len(ran())
    (folder / "tasks.py").write_text(TASKS + "\n# and other code again\n")
    cli("resume", "three.yml", "--changed", "rerun")
    assert 6 == len(ran())


EDITED = """\
nbflow: 1
inputs: {year: {type: integer, default: 2026}}
steps:
  - {id: load, call: "tasks:note", arguments: {name: load, value: 1}}
  - {id: count, run: "echo count >> $RAN; echo $YEAR", env: {YEAR: "{{ inputs.year }}", MODE: fast}}
  - {id: list, run: [python, -c, "import sys; open(sys.argv[1], 'a').write('list ')", "ran.txt", "{{ inputs.year }}"]}
"""


@pytest.mark.parametrize(
    ("old", "new", "step", "again"),
    [
        ("echo $YEAR", "echo year $YEAR", "count", ["count"]),
        pytest.param("MODE: fast", "MODE: slow", "count", ["count"], marks=pytest.mark.long),
        pytest.param("'list '", "'list again '", "list", [], marks=pytest.mark.long),
        pytest.param("tasks:note", "tasks:also", "load", ["load", "count"], marks=pytest.mark.long),
        pytest.param("value: 1", "value: 2", "load", ["load", "count"], marks=pytest.mark.long),
    ],
)
def test_an_edit_of_what_a_finished_step_says_is_a_question(old, new, step, again, folder, ran, cli):
    """The text of a command, the name of a function, and values that stand in the file are code; inputs are not."""
    file = folder / "three.yml"
    (folder / "tasks.py").write_text(TASKS + "\n\nalso = note\n")
    file.write_text(EDITED)
    cli("run", "three.yml")
    before = len(ran())
    file.write_text(EDITED.replace(old, new))
    assert f"step {step} changed" == reasons(cli)[step]
    told = cli("resume", "three.yml", code=2).stderr
    assert f"error: three.yml: step {step} changed since 1 finished task ran" in told
    cli("resume", "three.yml", "--changed", "keep")
    assert before == len(ran())
    cli("resume", "three.yml", "--changed", "rerun")
    assert again == ran()[before:]
    cli("resume", "three.yml", "-i", "year=2027")
    assert "count" == ran()[-1], "an input that was given needs no question"


@pytest.mark.long
def test_another_default_in_the_file_is_a_question_and_an_input_that_was_given_stays(three, folder, cli, ran):
    """Kept, the run keeps its value; rerun, it takes the new one; what ``-i`` gave does not follow the file."""
    (folder / "ok").touch()
    cli("run", "three.yml")
    three.write_text(THREE.replace("2026", "2028"))
    assert "default of year changed" == reasons(cli)["load"]
    assert "It would ask first" in cli("resume", "three.yml", "--dry-run").stdout
    for words, more in (([], "2 more wait"), (["--only", "report"], "1 more waits")):
        told = cli("resume", "three.yml", *words, code=2).stderr.splitlines()
        assert "error: three.yml: default of year changed since 1 finished task ran" == told[0]
        assert f"  {more} for these, and would be repeated too" == told[1]
    cli("resume", "three.yml", "--changed", "keep")
    assert "nothing to do" in cli("resume", "three.yml").stdout, "the answer stands"
    assert (3, 2026) == (len(ran()), nbflow.status("three.yml").inputs["year"])
    three.write_text(THREE.replace("2026", "2029"))
    cli("resume", "three.yml", "--changed", "rerun")
    assert (6, 2029) == (len(ran()), nbflow.status("three.yml").inputs["year"])
    cli("resume", "three.yml", "-i", "year=2030")
    three.write_text(THREE.replace("2026", "2031"))
    assert "nothing to do" in cli("resume", "three.yml", "--dry-run").stdout
    assert (9, 2030) == (len(ran()), nbflow.status("three.yml").inputs["year"])


@pytest.mark.long
def test_the_question_counts_all_that_changed_and_what_waits_for_it(folder, ran, cli):
    """Also what is reached only after others, in fan-outs; the gate and the command behind are told apart."""
    file = folder / "w.yml"
    file.write_text(
        "nbflow: 1\nsteps:\n"
        "  - {id: other, run: 'echo other >> $RAN'}\n"
        "  - {id: load, needs: [], call: 'tasks:note', arguments: {name: load, value: [1, 2]}}\n"
        "  - id: train\n"
        "    items: '{{ steps.load.output.value }}'\n"
        "    step: {id: fit, call: 'tasks:note', arguments: {name: fit}}\n"
        "  - {id: review, gate: 'Go on?'}\n"
        "  - {id: count, run: 'echo count >> $RAN'}\n"
        "  - {id: report, call: 'tasks:note', arguments: {name: report}}\n"
    )
    cli("run", "w.yml", code=3)
    cli("answer", "w.yml", "review", "approve")
    (folder / "tasks.py").write_text(TASKS + "\n# other code\n")
    told = cli("resume", "w.yml", code=2).stderr.splitlines()
    assert [
        "error: w.yml: code of tasks:note changed since 4 finished tasks ran",
        "  2 more wait for these, and would be repeated too",
    ] == told[:2]
    cli("resume", "w.yml", "--changed", "rerun", code=3)
    assert ["load", "fit", "fit"] == ran()[-3:], "what does not wait for it is kept"


def test_only_the_checkpoint_suffices_to_resume(three, folder, cli, ran):
    """With the run folder deleted, what is done is kept."""
    cli("run", "three.yml", code=1)
    subprocess.run(["rm", "-r", str(folder / "nbflow-runs")], check=True)
    (folder / "ok").touch()
    cli("resume", "three.yml")
    assert ["load", "fit", "fit", "report"] == ran()


COUNTED = """\
nbflow: 1
on_failure: continue
steps:
  - {id: load, call: "tasks:note", arguments: {name: load}}
  - {id: never, when: "false", call: "tasks:note", arguments: {name: never}}
  - id: decide
    if: "true"
    then: [{id: x, call: "tasks:note", arguments: {name: x}}]
    else: [{id: y, call: "tasks:note", arguments: {name: y}}, {id: z, call: "tasks:note", arguments: {name: z}}]
  - {id: bad, call: "tasks:fail_unless", arguments: {name: bad, path: ok}}
  - {id: after, call: "tasks:note", arguments: {name: after}}
  - {id: last, call: "tasks:note", arguments: {name: last}}
  - id: each
    needs: []
    items: [1, 2]
    on_error: continue
    steps:
      - {id: fit, call: "tasks:note", arguments: {name: fit}}
      - {id: save, when: "item == 1", call: "tasks:note", arguments: {name: save}}
"""


@pytest.mark.long
def test_all_views_of_a_run_count_the_same_tasks(folder, ran, cli):
    """Of eight tasks one fails, two wait for it, and five are done; what a condition leaves out is none of them."""
    (folder / "w.yml").write_text(COUNTED)
    end = cli("run", "w.yml", code=1).stdout
    verdict = "1 of 8 failed, 5 are done and kept, 2 have not run:"
    assert verdict in end.splitlines()
    assert verdict in cli("status", "w.yml").stdout.splitlines()
    assert "5/8" in cli("status").stdout
    assert "5 of 8 tasks done>" in repr(nbflow.status("w.yml"))
    assert "3 nodes would run, 5 are kept" in cli("resume", "w.yml", "--dry-run").stdout.splitlines()
    counts = json.loads((folder / "w.yml.nbflow.json").read_text())["counts"]
    assert {"total": 8, "completed": 5, "failed": 1, "skipped": 2, "waiting": 0} == {
        name: counts[name] for name in ("total", "completed", "failed", "skipped", "waiting")
    }
    (folder / "ok").touch()
    assert "8 of 8 completed" in cli("resume", "w.yml").stdout
    assert "8/8" in cli("status").stdout
    assert "nothing to do: all 8 tasks" in cli("resume", "w.yml").stdout


# -- definitions ----------------------------------------------------------------------------------------------------


def test_all_problems_are_told_at_once_each_with_its_line(folder, ran, cli):
    """Exit code 2, nothing written, and the same by ``validate``."""
    (folder / "w.yml").write_text(
        "nbflow: 1\nsteps:\n"
        "  - {id: a, call: 'tasks:nope'}\n"
        "  - {id: b, notebook: gone.ipynb}\n"
        "  - {id: c, run: 'echo {{ inputs.x }}'}\n"
        "  - {id: d, call: 'tasks:note', arguments: {name: '{{ steps.e.output.value }}'}}\n"
        "  - {id: e, call: 'tasks:note', arguments: {name: '{{ inputs.y | bogus }}'}}\n"
    )
    before = sorted(folder.iterdir())
    refused = cli("run", "w.yml", code=2)
    lines = [line for line in refused.stderr.splitlines() if line.startswith("error: ")]
    assert [f"error: w.yml:{number}: steps[{number - 3}]" for number in (3, 4, 5, 6, 7)] == [
        line[: len("error: w.yml:3: steps[0]")] for line in lines
    ]
    assert before == sorted(folder.iterdir())
    assert refused.stderr == cli("validate", "w.yml", code=2).stdout
    (told,) = cli.json("validate", "w.yml", code=2)["files"]
    assert (False, 5) == (told["valid"], len(told["problems"]))


def test_the_schema_takes_what_is_valid_and_refuses_what_is_not(cli, three, gated):
    """As an editor would use it."""
    schema = json.loads(cli("schema").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    for path in (three, gated):
        check.validate(nbflow.load(path).data())
    data = nbflow.load(three).data()
    data["steps"][0]["timout"] = 3
    assert not check.is_valid(data)


def test_what_init_makes_runs(folder, cli):
    """Two notebooks, a function and a workflow over them."""
    hints = cli("init", "p").stdout
    os.chdir(folder / "p")
    assert "prices.yml: fine, 4 steps" in cli("validate", "p/prices.yml").stdout.replace("p/prices", "prices")
    data = cli.json("run", "p/prices.yml", "-j", "2")
    assert ("completed", 11.93) == (data["status"], round(data["nodes"]["report"]["output"]["total"], 2))
    words = next(line for line in hints.splitlines() if "what another rate would repeat" in line).split("   ")[0]
    again = cli(*words.replace("prices.yml", "p/prices.yml").split()[1:]).stdout
    assert 3 == again.count("input rate changed")
    refused = cli("init", "p", code=2)
    assert "is there already" in refused.stderr


def test_doctor_finds_all_well_here(cli):
    """Kernels, libraries, and a folder that can be written."""
    said = cli("doctor").stdout
    assert re.search(r"^ok +kernel python3 ", said, re.MULTILINE)


def test_a_graph_has_each_step_and_what_it_waits_for(gated, cli):
    """In the language of Mermaid."""
    said = cli("graph", "monthly.yml").stdout
    assert "flowchart TD" == said.splitlines()[0]
    assert ["s0 --> s1", "s1 --> s2"] == [line.strip() for line in said.splitlines() if "-->" in line]


def test_a_graph_draws_lists_as_frames_that_begin_with_what_they_depend_on(folder, cli):
    """The title of a frame has one line: Mermaid draws a second one over what is in it."""
    (folder / "w.yml").write_text(
        """\
nbflow: 1
steps:
  - {id: fit, items: [1, 2], step: {id: one, run: echo}}
  - {id: choose, if: "{{ steps.fit.output.failed > 0 }}", then: [{id: a, run: echo}], else: [{id: b, run: echo}]}
"""
    )
    assert (
        """\
flowchart TD
  subgraph s0["fit"]
    s0h(["for each #91;1, 2#93;"])
    s1["one<br/>echo"]
    s0h --> s1
  end
  subgraph s2["choose"]
    s2h{"if steps.fit.output.failed #62; 0"}
    subgraph s2_3["then"]
      s3["a<br/>echo"]
    end
    s2h --> s2_3
    subgraph s2_4["else"]
      s4["b<br/>echo"]
    end
    s2h --> s2_4
  end
  s0 --> s2
"""
        == cli("graph", "w.yml").stdout
    )


def test_what_is_required_is_asked_before_the_run(folder, ran, cli):
    """Python, kernels and packages, all that is missing at once."""
    (folder / "w.yml").write_text(
        "nbflow: 1\nrequires: {python: '>=9', kernels: [nope], packages: [no-such-package>=2]}\n"
        "steps: [{id: a, call: 'tasks:note', arguments: {name: a}}]\n"
    )
    refused = cli("run", "w.yml", code=2)
    assert "it wants Python >=9" in refused.stderr
    assert "nope" in refused.stderr
    assert [] == ran()


# -- in Python ------------------------------------------------------------------------------------------------------


def test_a_workflow_made_in_python_runs_and_resumes(folder, ran):
    """It has no file; its runs live in the working directory under its name."""
    flow = nbflow.Workflow(
        name="made",
        inputs={"n": nbflow.Input(type="integer")},
        steps=[
            nbflow.Call(id="one", call="tasks:note", arguments={"name": "one", "value": "{{ inputs.n }}"}),
            nbflow.Call(id="two", call="tasks:fail_unless", arguments={"name": "two", "path": str(folder / "ok")}),
        ],
    )
    run = nbflow.run(flow, inputs={"n": 3}, quiet=True)
    assert ("failed", {"value": 3}) == (run.status, run["one"].output)
    assert (folder / "made.nbflow.json").exists()
    (folder / "ok").touch()
    again = nbflow.resume("made", quiet=True)
    assert ("completed", ["one", "two", "two"]) == (again.status, ran())
    assert again.check() is again
    assert ["one", "two"] == list(again.to_frame()["node"])
    with pytest.raises(TargetError, match="Did you mean 'one'"):
        again["onne"]


def test_a_gate_is_answered_from_python(gated, ran):
    """``nbflow.answer`` goes on with the run."""
    run = nbflow.run(gated, quiet=True)
    assert ("paused", "review") == (run.status, run.waits_for[0].node[0])
    done = nbflow.answer(gated, "review", "publish", quiet=True)
    assert ("completed", ["load", "report"]) == (done.status, ran())


def test_inputs_are_typed(gated):
    """By the declaration; unknown and missing ones are refused."""
    with pytest.raises(nbflow.RefusedError, match="input year is 'soon', but the workflow wants an integer"):
        nbflow.run(gated, inputs={"year": "soon"}, quiet=True)
    with pytest.raises(nbflow.RefusedError, match=r"no input 'yaer'\. Did you mean 'year'"):
        nbflow.run(gated, inputs={"yaer": 1}, quiet=True)


def test_a_workflow_in_a_workflow_has_a_scope_of_its_own(folder, ran):
    """Its inputs are typed, its paths relative to its file, its nodes below its step."""
    (folder / "inner").mkdir()
    (folder / "tasks.py").rename(folder / "inner" / "own.py")
    (folder / "inner" / "in.yml").write_text(
        "nbflow: 1\ninputs: {n: {type: integer}}\nsteps:\n"
        "  - {id: here, run: 'pwd'}\n"
        "  - {id: give, call: 'own:note', arguments: {name: give, value: '{{ inputs.n }}'}}\n"
    )
    (folder / "tasks.py").write_text(TASKS)
    (folder / "w.yml").write_text(
        "nbflow: 1\nsteps:\n  - {id: sub, workflow: inner/in.yml, inputs: {n: '{{ 1 + 1 }}'}}\n"
        "  - {id: last, call: 'tasks:note', arguments: {name: last, value: '{{ steps.sub.output.give.value }}'}}\n"
    )
    run = nbflow.run("w.yml", quiet=True)
    assert {"value": 2} == run["last"].output
    assert str(folder / "inner") == run["sub/here"].output["stdout"].strip()


def test_what_took_longest_starts_first_the_next_time(folder, ran):
    """By the seconds of the earlier run, which stand in the journal."""
    met = "touch $0.on; until [ -e a.on ] && [ -e b.on ]; do sleep 0.02; done"  # the first two start side by side
    work = f"case $0 in c) sleep 1.5;; *) {met};; esac"
    (folder / "w.yml").write_text(
        "nbflow: 1\nmax_workers: 2\nsteps:\n  - id: each\n    items: [a, b, c]\n    order: longest-first\n"
        "    on_error: continue\n    max_concurrency: 2\n"
        f"    step: {{id: one, run: ['sh', '-c', 'echo $0 >> order; {work}', '{{{{ item }}}}']}}\n"
    )
    nbflow.run("w.yml", quiet=True)
    first = (folder / "order").read_text().split()
    assert (["a", "b"], ["c"]) == (sorted(first[:2]), first[2:])
    (folder / "order").unlink()
    nbflow.run("w.yml", quiet=True, max_workers=1)
    again = (folder / "order").read_text().split()
    assert ("c", ["a", "b"]) == (again[0], sorted(again[1:]))


# -- large ----------------------------------------------------------------------------------------------------------

MANY = """
import sys
from nbflow import Call, Workflow, run
steps = [Call(id=f"s{i}", call="builtins:dict", arguments={"text": "x" * 1000}) for i in range(int(sys.argv[1]))]
assert run(Workflow(name="many", steps=steps), quiet=True, max_workers=2).status == "completed"
print(open("/proc/self/io").read().split("wchar: ")[1].split()[0])
"""


@pytest.mark.long
def test_what_is_written_grows_with_the_steps_and_not_with_their_square(folder):
    """500 and 2,000 steps with outputs of 1 KB: four times the steps, at most five times the bytes."""
    written = []
    for count in (500, 2000):
        done = subprocess.run(
            [sys.executable, "-c", MANY, str(count)],
            capture_output=True,
            text=True,
            timeout=240,
            cwd=folder,
            check=True,
        )
        written.append(int(done.stdout))
    assert written[1] < 5 * written[0], written
    assert written[1] < 30_000_000


# -- plug-ins -------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_files_that_name_each_other_again_and_again_are_refused_in_time(folder, cli):
    """Each is short; together they would have more steps than anybody waits for."""
    for level in range(14):
        (folder / f"w{level}.yml").write_text(
            f"nbflow: 1\nsteps:\n  - {{id: a, workflow: w{level + 1}.yml}}\n  - {{id: b, workflow: w{level + 1}.yml}}\n"
        )
    (folder / "w14.yml").write_text("nbflow: 1\nsteps: [{id: a, run: echo}]\n")
    said = cli("validate", "w0.yml", code=2).stdout
    assert "with the workflows in it, it has more than 5,000 steps" in said
    assert "fine" in cli("validate", "w9.yml").stdout


def test_a_plug_in_brings_a_step_kind_of_its_own(folder, cli, monkeypatch):
    """Found by its entry point: in files, in the schema, in dry runs, and it resumes like all others."""
    here = Path(__file__).parent / "plugin"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(here), os.environ.get("PYTHONPATH", "")]))
    (folder / "w.yml").write_text("nbflow: 1\nsteps:\n  - {id: one, stamp: lines.txt, line: 'run {{ 1 + 1 }}'}\n")
    data = cli.json("run", "w.yml")
    assert {"lines": 1} == data["nodes"]["one"]["output"]
    assert "run 2\n" == (folder / "lines.txt").read_text()
    assert "nothing to do" in cli("resume", "w.yml").stdout
    assert "Stamp" in json.loads(cli("schema").stdout)["$defs"]
    (folder / "w.yml").write_text("nbflow: 1\nsteps:\n  - {id: one, stamp: lines.txt, lien: x}\n")
    assert "Did you mean 'line'" in cli("validate", "w.yml", code=2).stdout


@pytest.mark.long
def test_a_plug_in_brings_an_executor_and_a_reporter(folder, ran, cli, monkeypatch, until):
    """Chosen by name, also for a process of its own; a name that nobody brings is refused before anything begins."""
    here = Path(__file__).parent / "plugin"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(here), os.environ.get("PYTHONPATH", "")]))
    (folder / "tasks.py").write_text(
        "import threading\ndef where(n):\n    return {'thread': threading.current_thread().name}\n"
    )
    (folder / "w.yml").write_text(
        "nbflow: 1\nsteps:\n"
        "  - {id: all, items: [1, 2, 3], step: {id: one, call: 'tasks:where', arguments: {n: '{{ item }}'}}}\n"
    )
    refused = cli("run", "w.yml", "--executor", "stmp", code=2).stderr
    assert "error: --executor 'stmp': there is no such executor. Did you mean 'stamp'?" in refused
    assert "There are: threads, stamp." in refused
    assert re.search(r"^ok +plug-ins +Stamp, stamp, dots$", cli("doctor").stdout, re.MULTILINE)
    assert "There are: bars, lines, page, widgets, dots." in cli("run", "w.yml", "--reporter", "x", code=2).stderr
    assert not (folder / "nbflow-runs").exists()
    done = cli("run", "w.yml", "--executor", "stamp", "--reporter", "dots", "--json")
    assert "dots: ... completed\n" == done.stderr
    results = json.loads(done.stdout)["nodes"]["all"]["output"]["results"]
    assert {"stamp-pool-1"} == {one["thread"].rpartition("-")[0] for one in results}
    cli("resume", "w.yml", "--force", "--executor", "stamp", "--detach")
    until(lambda: (run := nbflow.status("w.yml")).progress.epoch == 2 and run.status == "completed")
    again = nbflow.status("w.yml")["all"].output["results"]
    assert {"stamp-pool-1"} == {one["thread"].rpartition("-")[0] for one in again}


def test_a_definition_error_names_what_is_wrong(folder):
    """In Python it is raised with all problems."""
    (folder / "w.yml").write_text("nbflow: 1\nsteps:\n  - {id: a, run: ls, timout: 3}\n")
    with pytest.raises(DefinitionError, match=r"w.yml:3: steps\[0\].timout: is no key here. Did you mean 'timeout'"):
        nbflow.load("w.yml")


def test_an_answer_is_given_once(folder, ran, cli):
    """With ``on_reject: retry`` the gate is open again after it was rejected, and the run pauses."""
    (folder / "w.yml").write_text("nbflow: 1\nsteps:\n  - {id: sure, gate: 'Go on?', on_reject: retry}\n")
    cli("run", "w.yml", code=3)
    assert "paused" == cli.json("answer", "w.yml", "sure", "reject", code=3)["status"]
    assert "sure" == cli.json("status", "w.yml")["waits_for"][0]["gate"]
    assert "completed" == cli.json("answer", "w.yml", "sure", "approve")["status"]


def test_a_detached_workflow_is_at_work_on_its_own(gated, cli, ran, until):
    """It comes back at once, and the run pauses at its gate."""
    assert "is at work on its own" in cli("run", "monthly.yml", "--detach").stdout
    until(lambda: cli.json("status", "monthly.yml")["status"] == "paused")
    assert ["load"] == ran()


def test_what_a_function_prints_does_not_break_json(folder, ran, cli):
    """Stdout is the one object."""
    (folder / "w.yml").write_text("nbflow: 1\nsteps:\n  - {id: loud, call: 'builtins:print', arguments: {sep: ''}}\n")
    assert "completed" == cli.json("run", "w.yml")["status"]


# -- files that go from step to step ---------------------------------------------------------------------------------

PASSED = """\
nbflow: 1
inputs: {least: {type: integer, default: 0}}
steps:
  - {id: load, notebook: load.ipynb}
  - {id: train, notebook: sub/train.ipynb, parameters: {table: "{{ steps.load.output.table }}", least: "{{ inputs.least }}"}}
  - {id: count, call: "frames:rows", arguments: {table: "{{ steps.load.output.table }}", array: "{{ steps.load.output.array }}"}}
  - {id: shown, run: [cat, "{{ steps.count.output.written }}"]}
  - id: each
    items: ["{{ steps.load.output.table }}", "{{ steps.train.output.long }}"]
    step: {id: one, call: "frames:rows", arguments: {table: "{{ item }}"}}
  - {id: all, notebook: all.ipynb, parameters: {written: "{{ steps.each.output.results }}"}}
"""  # noqa: E501 - as a page shows it
FRAMES = """\
import numpy as np
import pandas as pd
from pathlib import Path


def rows(table, array=None):
    written = Path("rows.txt")
    written.write_text(str(len(pd.read_parquet(table))))
    with open(table, "rb") as file:
        assert file.read(4) == b"PAR1"
    size = None if array is None else np.load(array).size
    return {"rows": int(written.read_text()), "size": size, "written": written, "table": table}
"""


@pytest.fixture
def passed(folder, notebook):
    """A workflow in which a frame, an array and files go from step to step."""
    (folder / "frames.py").write_text(FRAMES)
    notebook(
        parameters=None,
        results="import pandas as pd, numpy as np\ntable = pd.DataFrame({'n': [1, 2, 3]})\narray = np.arange(4)",
        name="load.ipynb",
    )
    notebook(
        parameters="table: str = ''\nleast = 0",
        results="import pandas as pd\nframe = pd.read_parquet(table)\n"
        "long = pd.concat([frame, frame])\ntotal = int(frame.n.sum())\ndel frame",
        name="sub/train.ipynb",
    )
    notebook(
        parameters="written = []",
        results="from pathlib import Path\nthere = [Path(one['written']).is_file() for one in written]",
        name="all.ipynb",
    )
    (folder / "w.yml").write_text(PASSED)
    return folder / "w.yml"


def test_a_frame_goes_from_step_to_step_as_the_path_of_its_file(folder, passed):
    """Notebooks and commands get a whole path, calls what opens it; results have whole paths at every depth."""
    run = nbflow.run("w.yml", quiet=True)
    assert "completed" == run.check().status
    assert 6 == run.results["train"]["total"]
    assert (3, 4) == (run.results["count"]["rows"], run.results["count"]["size"])
    assert [3, 6] == [one["rows"] for one in run.results["each"]["results"]]
    assert {"there": [True, True]} == run.results["all"]
    files = [run.results["load"]["table"], *(one[name] for one in run.results["each"]["results"] for name in one)]
    assert all(Path(file).is_absolute() and Path(file).is_file() for file in files if isinstance(file, nbflow.File))
    assert 5 == sum(isinstance(file, nbflow.File) for file in files)
    assert [1, 2, 3] == list(run.load("load", "table").n)
    assert [1, 2, 3] == list(run.load("each:one:0", "table").n)
    with pytest.raises(TargetError, match=r"load has no result 'tabel'\n  It has: table, array."):
        run.load("load", "tabel")
    assert '"artifacts/' in (run.folder / "journal.jsonl").read_text()


@pytest.mark.long
def test_a_project_that_moved_repeats_nothing_for_its_frames(folder, passed):
    """Whole paths are made when a task starts, and are in no fingerprint."""
    assert "completed" == nbflow.run("w.yml", quiet=True).check().status
    there = folder.parent / "elsewhere"
    folder.rename(there)
    folder.mkdir()
    assert {"kept"} == {node.reason for node in nbflow.resume(there / "w.yml", dry_run=True)}
    again = nbflow.resume(there / "w.yml", parameters={"least": 1}, quiet=True)
    assert 6 == again.check().results["train"]["total"]
    assert str(there) == os.path.commonpath([there, again.results["load"]["table"]])


def test_a_file_is_no_part_of_a_text(folder, passed):
    """Where a run is kept is known to tasks alone: half a path would lead nowhere."""
    passed.write_text(PASSED.replace('[cat, "{{ steps.count.output.written', '[cat, "--in={{ steps.load.output.table'))
    failed = nbflow.run("w.yml", quiet=True).failures
    assert "has no path inside of a text" in failed[0].error.message


# -- what is wrong, and where ----------------------------------------------------------------------------------------


def problems(folder: Path, steps: str, name: str = "w.yml") -> list[tuple[str, str]]:
    """Give what is wrong with these steps, each with its remedy."""
    (folder / name).write_text(f"nbflow: 1\nsteps:\n{steps}")
    return [(one.message, one.remedy) for one in checked(name).problems]


GIVE = 'call: "builtins:dict"'


def test_every_problem_stands_at_its_own_key_and_line(folder, notebook):
    """Several in one mapping too: who mends one of them must not meet the next."""
    notebook(parameters="depth: int = 3")
    found = problems(
        folder,
        f"""\
- id: a
  {GIVE}
  arguments:
    x: "{{{{ inputs.x }}}}"
    y: [1, "{{{{ inputs.y }}}}"]
- id: b
  items: [1]
  step:
    id: c
    notebook: work.ipynb
    parameters:
      depht: 1
      dpeth: 2
      depth: deep
- id: a
  {GIVE}
- id: e
  needs:
  - b
  - plot
  {GIVE}
""",
    )
    assert [
        "w.yml:6: steps[0].arguments.x: there is no input 'x'. (in {{ inputs.x }})",
        "w.yml:7: steps[0].arguments.y[1]: there is no input 'y'. (in {{ inputs.y }})",
        "w.yml:14: steps[1].step.parameters.depht: work.ipynb has no parameter 'depht'. Did you mean 'depth'?",
        "w.yml:15: steps[1].step.parameters.dpeth: work.ipynb has no parameter 'dpeth'. Did you mean 'depth'?",
        "w.yml:16: steps[1].step.parameters.depth: depth is 'deep', but work.ipynb wants an int.",
        "w.yml:17: steps[2].id: step id 'a' stands twice in one list",
        "w.yml:20: steps[3].needs: step 'e' needs 'plot', which is no step of its list.",
    ] == [message for message, _ in found]


def test_what_is_read_from_below_is_mended_by_its_remedy(folder):
    """`needs` of a step below would be a circle: it waits for the one above it."""
    a, b = f'- {{id: a, {GIVE}, arguments: {{x: "{{{{ steps.b.output }}}}"}}}}\n', f"- {{id: b, {GIVE}}}\n"
    assert [("Put a below it.",)] == [remedy[1:] for remedy in problems(folder, a + b)]
    assert [] == problems(folder, b + a)
    alone = b.replace("b,", "b, needs: [],")
    assert ["Put a below it, or say needs: [b]"] == [remedy for _, remedy in problems(folder, a + alone)]
    assert [] == problems(folder, a.replace("a,", "a, needs: [b],") + alone)


def test_a_circle_is_told_once_with_what_ends_it(folder):
    """Who stands below waits for who stands above, unless it says something else."""
    a = f'- {{id: a, needs: [b], {GIVE}, arguments: {{x: "{{{{ steps.b.output }}}}"}}}}\n'
    message, remedy = problems(folder, f"{a}- {{id: b, {GIVE}}}\n- {{id: c, {GIVE}}}\n")[0]
    assert "w.yml:3: steps[0].needs: steps 'a', 'b' wait for each other" == message
    assert remedy.startswith("'b' waits for 'a' because it stands below it: put it above")
    assert [] == problems(folder, f"- {{id: b, {GIVE}}}\n{a}")
    assert [] == problems(folder, f"{a}- {{id: b, needs: [], {GIVE}}}\n")


def test_one_wrong_need_is_one_problem(folder):
    """What is read behind it may be right: it is told when the need is there; the others are told now."""
    found = problems(
        folder,
        f"""\
- {{id: load, {GIVE}}}
- {{id: plot, {GIVE}}}
- {{id: fit, needs: [plto], {GIVE}, arguments: {{x: "{{{{ steps.load.output }}}}"}}}}
- {{id: last, {GIVE}, arguments: {{x: "{{{{ steps.plot.output }}}}"}}}}
- {{id: apart, needs: [], {GIVE}, arguments: {{x: "{{{{ steps.plot.output }}}}"}}}}
""",
    )
    assert [
        "w.yml:5: steps[2].needs: step 'fit' needs 'plto', which is no step of its list. Did you mean 'plot'?",
        "w.yml:7: steps[4].arguments.x: 'plot' has perhaps not ended: apart does not wait for it",
    ] == [message.partition(" (in")[0] for message, _ in found]


def test_before_the_first_turn_there_is_no_output(folder):
    """A loop's condition, and its body, say what holds then."""
    body = f'steps: [{{id: x, {GIVE}, arguments: {{a: "{{{{ steps.x.output.a + 1 }}}}"}}}}]'
    found = problems(folder, f"- id: w\n  while: steps.x.output.a < 3\n  {body}\n")
    assert ["w.yml:4: steps[0].while", "w.yml:5: steps[0].steps[0].arguments.a"] == [
        message.partition(": '")[0] for message, _ in found
    ]
    assert {"Say what holds then: steps.x.output.a | default(...)"} == {remedy for _, remedy in found}
    assert all("'x' has not run before the first turn" in message for message, _ in found)
    mended = f"- id: w\n  while: (steps.x.output.a | default(0)) < 3\n  {body}\n".replace("a + 1", "a | default(0)")
    assert [] == problems(folder, mended)


@pytest.mark.parametrize(
    ("steps", "told", "remedy"),
    [
        (
            "- {id: a, call: 'builtins:dict', arguments: {x: {{ inputs.y }}}}\n",
            "w.yml:3: {{ }} without quotes is a mapping.",
            'Put quotes around it: "{{ inputs.y }}"',
        ),
        (
            "- id: a\n  gate: {{ inputs['y'] }}.csv\n",
            "w.yml:4: {{ }} without quotes is a mapping.",
            "Put quotes around it: \"{{ inputs['y'] }}.csv\"",
        ),
        ("- id: a\n\tgate: x\n", "w.yml:4: a tab stands before the text.", "Put blanks in its place."),
        (
            "- {id: a, workflow: subb.yml}\n",
            "w.yml:3: steps[0].workflow: subb.yml: No such file or directory. Did you mean 'sub.yml'?",
            "There are: sub.yml, w.yml.",
        ),
        (
            "- {id: a, gate: 'Go?', options: [yes, no]}\n",
            "w.yml:3: steps[0].options[0]: is 'yes', but it is a mapping",
            "Write it so: {name: yes, outcome: approve} (or reject)",
        ),
        ("- {id: a, notebook: a.ipynb}\n", "w.yml:3: steps[0].notebook: There is no notebook", "A notebook is a file"),
    ],
)
def test_what_is_wrong_in_a_file_comes_with_what_mends_it(steps, told, remedy, folder):
    """In the words of who wrote it, and about the file that is read."""
    (folder / "sub.yml").write_text(f"nbflow: 1\nsteps: [{{id: a, {GIVE}}}]\n")
    found = problems(folder, steps)[0]
    assert found[0].startswith(told), found
    assert found[1].startswith(remedy), found


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("lst=1,2", "input lst is '1,2', but the workflow wants an array.\n  Write it in brackets: -i 'lst=[1,2]'"),
        ("lst", "-i 'lst' is not NAME=VALUE.\n  Write it like this: -i city=Oslo\n"),
    ],
)
def test_a_wrong_input_is_told_how_it_is_typed(given, told, folder, cli):
    """As the shell takes it."""
    (folder / "w.yml").write_text(f"nbflow: 1\ninputs: {{lst: {{type: array}}}}\nsteps: [{{id: a, {GIVE}}}]\n")
    assert f"error: {told}" in cli("run", "w.yml", "-i", given, code=2).stderr
    cli("run", "w.yml", "-i", "lst=[1,2]", "--quiet")


def test_what_a_call_cannot_return_is_told_with_the_way_out(folder):
    """A frame goes into a file, of which the path is kept."""
    (folder / "shop.py").write_text(
        "import pandas as pd\nfrom pathlib import Path\n\n\ndef frame():\n    return pd.DataFrame({'n': [1]})\n\n\n"
        "def file():\n    frame().to_parquet('n.parquet')\n    return {'deep': [Path('n.parquet')]}\n"
    )
    (folder / "w.yml").write_text("nbflow: 1\nsteps: [{id: a, call: 'shop:frame'}]\n")
    told = "shop:frame returned pandas.DataFrame, which cannot be kept: write it to a file and return its Path"
    assert nbflow.run("w.yml", quiet=True)["a"].error.message.startswith(told)
    (folder / "w.yml").write_text("nbflow: 1\nsteps: [{id: a, call: 'shop:file'}]\n")
    kept = nbflow.run("w.yml", quiet=True).check().results["a"]["deep"][0]
    assert (str(folder / "n.parquet"), (folder / "n.parquet").stat().st_size) == (kept.path, kept.size)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (
            lambda: nbflow.Call(id="load", call="m:f", argments={}),
            "Call load: argments: is no key here. Did you mean 'arguments'?",
        ),
        (
            lambda: nbflow.Notebook(id="a b", notebok="a.ipynb"),
            """\
Notebook a b: id: is 'a b': an id is a letter or _, then letters, digits, _ and -
  error: Notebook a b: notebook: is missing
  error: Notebook a b: notebok: is no key here. Did you mean 'notebook'?""",
        ),
        (lambda: nbflow.Input(type="int"), "Input: type: is 'int', but it is string, number, integer"),
        (
            lambda: nbflow.Workflow(steps=[{"id": "a", "gate": "Go?", "on_rejct": "skip"}]),
            "Workflow: steps[0].on_rejct: is no key here.",
        ),
        (lambda: nbflow.FanOut(id="f", items=[1]), "FanOut f: has neither step nor steps"),
    ],
)
def test_a_constructor_says_what_a_file_would_be_told(make, told):
    """An error of ours, with a place and a suggestion, and no word of the library that found it."""
    with pytest.raises(DefinitionError) as refused:
        make()
    assert str(refused.value).startswith(told)
    assert "pydantic" not in str(refused.value)


@pytest.mark.parametrize("name", ["../evil", "{top}/evil", "a/b", "..", "a\\b"])
def test_the_name_of_a_workflow_leads_nowhere(name, folder):
    """Its runs are kept in the working directory, and nowhere else."""
    flow = nbflow.Workflow(name=name.format(top=folder.parent), steps=[nbflow.Call(id="a", call="builtins:dict")])
    with pytest.raises(DefinitionError, match="Give it a name without"):
        nbflow.run(flow, quiet=True)
    assert [] == list(folder.iterdir())
    assert ["work"] == [one.name for one in folder.parent.iterdir()]


# -- what can be known before a run ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ("rows = 1", ["w.yml: steps[0].outputs[1]: no cell of work.ipynb assigns 'rowz'. Did you mean 'rows'?"]),
        ("%matplotlib inline\nrows: int = 1", [""]),
        ("from os.path import *", []),
        ("%run other.py", []),
        ("%%sql\nselect rowz", []),
        ("exec('rowz = 1')", []),
        ("if (rowz := 1): pass", []),
        ("import scrapbook as sb\nsb.glue('rowz', 1)", []),
        ("def rowz(): pass", []),
        ("not python at all", []),
    ],
)
def test_a_result_that_no_cell_gives_is_told_where_that_can_be_known(cell, told, folder, notebook):
    """As a warning, for there are other ways to a name; one that may lead there is believed."""
    notebook(cell)
    step = "- {id: a, notebook: work.ipynb, outputs: [n, rowz]}\n"
    (folder / "w.yml").write_text(f"nbflow: 1\nsteps:\n{step}")
    warnings = [line for line in checked("w.yml").lines() if line.startswith("warning")]
    assert len(told) == len(warnings), warnings
    assert all(text in line for text, line in zip(told, warnings, strict=True))


def test_a_run_warns_of_a_result_that_no_cell_gives(folder, notebook):
    """Before its cells have run for an hour."""
    notebook()
    (folder / "w.yml").write_text("nbflow: 1\nsteps: [{id: a, notebook: work.ipynb, outputs: [rowz]}]\n")
    run = nbflow.run("w.yml", quiet=True)
    assert "steps[0].outputs[0]: no cell of work.ipynb assigns 'rowz'." == run.warnings[0].message


def test_arguments_of_a_function_are_checked_where_its_source_tells_them(folder):
    """Nothing is imported for it; what a decorator or ** may take is believed."""
    (folder / "shop.py").write_text(
        "raise SystemExit\nimport functools\n\n\ndef load(path, *, rows=2, most): pass\ndef more(**kw): pass\n"
        "@functools.cache\ndef cached(a): pass\nif load:\n    def perhaps(a): pass\n"
        "class Loader:\n    def __init__(self): pass\n"
    )
    found = problems(
        folder,
        """\
- {id: a, call: "shop:load", arguments: {pth: 1}}
- {id: b, call: "shop:load", arguments: {path: 1, most: 2}}
- {id: c, call: "shop:more", arguments: {x: 1}}
- {id: d, call: "shop:cached", arguments: {x: 1}}
- {id: e, call: "shop:perhaps", arguments: {x: 1}}
- {id: f, call: "shop:Loader", arguments: {x: 1}}
- {id: g, call: "builtins:dict", arguments: {x: 1}}
""",
    )
    assert [
        (
            "w.yml:3: steps[0].arguments.pth: shop:load has no argument 'pth'. Did you mean 'path'?",
            "It takes: path, rows, most.",
        ),
        ("w.yml:3: steps[0].arguments: shop:load needs path, and it has no default", "arguments: {path: VALUE}"),
        ("w.yml:3: steps[0].arguments: shop:load needs most, and it has no default", "arguments: {most: VALUE}"),
    ] == found


@pytest.mark.parametrize(
    ("kind", "parameter", "told"),
    [
        ("integer", "x: str = 'a'", "inputs.m is of the type integer, but work.ipynb wants a str"),
        ("integer", "x: float = 1.0", ""),
        ("number", "x: int = 1", ""),
        ("integer", "x: str | int = 1", ""),
        ("integer", "x = None", ""),
        ("string", "x: int = 1", "inputs.m is of the type string, but work.ipynb wants an int"),
        ("array", "x: list[int] = [1]", ""),
        ("array", "x: dict = {}", "inputs.m is of the type array, but work.ipynb wants a dict"),
        ("string", "from typing import Literal\nx: Literal['a'] = 'a'", ""),
    ],
)
def test_an_input_of_another_type_than_the_parameter_is_refused(kind, parameter, told, folder, notebook):
    """Both are known before the run; what some value of the type would fit is left to the run."""
    notebook(parameters=parameter, results=None)
    step = '- {id: a, notebook: work.ipynb, parameters: {x: "{{ inputs.m }}"}}\n'
    (folder / "w.yml").write_text(f"nbflow: 1\ninputs: {{m: {{type: {kind}}}}}\nsteps:\n{step}")
    found = [one.message for one in checked("w.yml").problems]
    assert ([f"w.yml:4: steps[0].parameters.x: {told}"] if told else []) == found


# -- the table ------------------------------------------------------------------------------------------------------

FITTED = """\
import pathlib
import time


def load():
    return {"models": ["tree", "bogus", "logistic"], "day": "Monday"}


def fit(model):
    if model == "bogus":
        raise ValueError("no such model")
    for _ in range(3000):
        if model != "tree" or pathlib.Path("logistic").exists():  # it ends after the one behind it
            break
        time.sleep(0.01)
    pathlib.Path(model).touch()
    return {"rmse": len(model) / 2, "status": "fine", "names": [model, "x"]}
"""
FIT = """\
nbflow: 1
steps:
  - {id: load, call: "fitted:load"}
  - id: train
    items: "{{ steps.load.output.models }}"
    as: model
    max_concurrency: 3
    on_error: continue
    continue_on_error: true
    step: {id: fit, call: "fitted:fit", arguments: {model: "{{ model }}"}}
  - id: tell
    items: [{city: Oslo, depth: 3}]
    step: {id: say, run: "echo hello $CITY", env: {CITY: "{{ item.city }}"}}
  - {id: review, gate: "Go on?"}
  - {id: nine, call: "builtins:pow", arguments: {base: 3, exp: 2}}
"""


@pytest.fixture
def fitted(folder: Path) -> Path:
    """A workflow with items of several kinds, of which one fails and the first ends last."""
    (folder / "fitted.py").write_text(FITTED)
    path = folder / "fit.yml"
    path.write_text(FIT)
    return path


def test_the_table_of_a_workflow_has_what_varies_and_the_results(fitted, cli):
    """One row per task and gate, in the order of one worker; a name that is taken says what it is."""
    run = nbflow.run("fit.yml", quiet=True)
    nodes = ["load", "train:fit:0", "train:fit:1", "train:fit:2", "tell:say:0", "review"]
    for seen in (run, nbflow.status("fit.yml")):
        assert nodes == [row["node"] for row in seen.rows()] == list(seen.to_frame()["node"])
        first, tree, bogus, logistic, told, gate = seen.rows()
        assert ("Monday", None, "completed") == (first["day"], first["model"], first["status"])
        assert ("tree", 2.0, "fine", "completed") == (
            tree["model"],
            tree["rmse"],
            tree["result.status"],
            tree["status"],
        )
        assert ("bogus", None, "ValueError: no such model") == (bogus["model"], bogus["rmse"], bogus["error"])
        assert (["logistic", "x"], None) == (logistic["names"], logistic["city"])
        assert ("Oslo", 3, "hello Oslo\n") == (told["city"], told["depth"], told["stdout"])
        assert ("paused", None) == (gate["status"], gate["seconds"])
    cli("results", "fit.yml", "-o", "table.csv")
    head, _, row, *_ = (fitted.parent / "table.csv").read_text().splitlines()
    results = "models,day,rmse,result.status,names,exit_code,stdout,stderr,message"
    assert f"node,model,city,depth,{results},status,seconds,attempts,error,notebook" == head
    assert row.startswith('train:fit:0,tree,,,,,2.0,fine,"[""tree"",""x""]",')
    nbflow.answer("fit.yml", "review", "approve", quiet=True)
    assert 9 == nbflow.status("fit.yml").rows()[-1]["output"]
    assert re.search(r"^ +node +model +city +depth +error +", cli("results", "fit.yml").stdout)


def test_a_run_at_work_has_its_table_too(fitted):
    """What is at work has a row in its place, with what its item is; it is read while another task waits for us."""
    seen: list[list[tuple[object, ...]]] = []
    release = fitted.parent / "logistic"
    fitted.write_text(FIT.replace('"{{ steps.load.output.models }}"', "[tree, late]"))

    def look(event: Event) -> None:
        if isinstance(event, NodeFinished) and event.label == "fit model=late":
            run = nbflow.status("fit.yml")
            seen.append([(row["node"], row["model"], row["status"]) for row in run.rows() if row["model"]])
            release.touch()

    nbflow.run("fit.yml", quiet=True, on_event=look)
    assert [[("train:fit:0", "tree", "running"), ("train:fit:1", "late", "completed")]] == seen


@pytest.mark.long
def test_what_an_item_is_called_outlives_an_answer(fitted, cli):
    """Before and after a resume, by its node, its whole name, or the item alone where that is one task."""
    cli("run", "fit.yml", code=3)
    for _ in range(2):
        run = nbflow.status("fit.yml")
        assert ["train:fit:2"] * 3 == [run[name].id for name in ("train:fit:2", "fit model=logistic", "model=logistic")]
        cli("answer", "fit.yml", "review", "approve", code=None)
    for name in ("3", "logistic"):
        refused = cli("logs", "fit.yml", name, code=2).stderr
        assert f"has no node '{name}'" in refused
        assert "It has: load, train, train:fit:0" in refused


@pytest.mark.long
def test_logs_of_a_step_are_those_of_its_items_each_with_its_name(folder, cli):
    """Also where there are many, the error about another one says that there are more."""
    (folder / "many.yml").write_text(
        """\
nbflow: 1
steps:
  - id: each
    items: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]
    as: n
    step: {id: say, run: "echo hello $N", env: {N: "{{ n }}"}}
"""
    )
    cli("run", "many.yml")
    told = cli("logs", "many.yml", "each").stdout
    assert told.startswith("==> each:say:0  completed <==\nhello 1\n==> each:say:1  completed <==\nhello 2\n")
    assert "hello 3\n" == cli("logs", "many.yml", "n=3").stdout
    assert nbflow.logs("many.yml", "each").startswith("hello 1\nhello 2\n")
    assert "each:say:10, …." in cli("logs", "many.yml", "n=14", code=2).stderr


# -- the picture ----------------------------------------------------------------------------------------------------

NAPS = """\
nbflow: 1
steps:
  - {id: quick, run: "true"}
  - id: each
    items: [0, 1, 2, 3, 4]
    as: n
    max_concurrency: 2
    step: {id: nap, run: 'case $N in 0) ;; *) echo $N >> begun; read line < held;; esac', env: {N: "{{ n }}"}}
  - {id: choose, switch: "'x'", cases: {a: [{id: never, run: "true"}]}}
  - {id: review, gate: "Go on?"}
"""


@pytest.fixture
def naps(folder: Path) -> Path:
    """A workflow whose items but the first wait at a pipe for us."""
    (folder / "naps.yml").write_text(NAPS)
    os.mkfifo(folder / "held")
    return folder / "naps.yml"


def steps_of(text: str) -> dict[str, list[str]]:
    """Give the table of steps: tasks and status by id."""
    return {row[0]: row[1:3] for line in text.splitlines() if len(row := line.split()) == 4 and "/" in row[1] + "/"}


def test_status_tells_of_steps_as_the_run_itself_does(naps, cli, until):
    """A step whose items are at work is running, and has as many tasks as are known; cancelled, both call it so."""
    process = cli.start("run", "naps.yml", "-j", "2")
    begun = naps.parent / "begun"
    until(lambda: begun.exists() and 2 == len(begun.read_text().split()))
    assert ["1/5", "running"] == steps_of(cli("status", "naps.yml").stdout)["each"]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert "started    nap n=1" in err
    for text in (out, cli("status", "naps.yml").stdout):
        told = steps_of(text)
        assert (["1/5", "cancelled"], ["-", "pending"]) == (told["each"], told["review"])


@pytest.mark.long
def test_a_finished_or_broken_run_still_has_its_table(folder, cli):
    """Of an aborted run, and of one whose items are no list; what was not taken is through too."""
    (folder / "w.yml").write_text(
        """\
nbflow: 1
steps:
  - {id: choose, switch: "'x'", cases: {a: [{id: never, run: "true"}]}}
  - {id: review, gate: "Go on?"}
"""
    )
    cli("run", "w.yml", code=3)
    cli("answer", "w.yml", "review", "reject", code=1)
    assert re.search(r"\n  choose +completed .*\n  review +aborted ", cli("status", "w.yml").stdout)
    (folder / "bad.yml").write_text(
        """\
nbflow: 1
inputs: {n: {type: integer, default: 3}}
steps:
  - {id: each, items: "{{ inputs.n }}", step: {id: nap, run: "true"}}
"""
    )
    cli("run", "bad.yml", code=1)
    assert re.search(r"\n  step +status +seconds\n  each +failed ", cli("status", "bad.yml").stdout)


@pytest.mark.long
def test_items_that_write_the_same_file_are_told_of_once_and_with_the_key_of_workflows(folder, notebook, cli):
    """A log has the warning at its time; what helps is what can be written in the file."""
    notebook("import time; time.sleep(0.3); open('ran.txt', 'w').write(str(n)); time.sleep(0.5)", results=None)
    (folder / "both.yml").write_text(
        """\
nbflow: 1
steps:
  - id: each
    items: [1, 2]
    as: n
    max_concurrency: 2
    step: {id: fit, notebook: work.ipynb, parameters: {n: "{{ n }}"}}
"""
    )
    told = cli("run", "both.yml", "-j", "2")
    both = r"fit n=[12] and fit n=[12] both wrote ran\.txt: cwd: item gives each its own folder"
    assert 1 == len(re.findall(both, told.stderr))
    assert "both wrote" not in told.stdout
    assert re.search(both, cli("status", "both.yml").stdout)


# -- questions ------------------------------------------------------------------------------------------------------

ASKING = """\
nbflow: 1
steps:
  - id: review
    gate: "The draft of this month is ready, and it will be sent to everybody in the whole company at noon: is it fine?"
    show: draft.txt
    on_reject: retry
    timeout: 60s
  - {id: report, call: "tasks:note", arguments: {name: report}}
"""


def test_a_question_breaks_between_words_and_says_why_it_comes_again(folder, ran):
    """What is no answer is told with those that are; after a reject the file is named, and not shown again."""
    (folder / "w.yml").write_text(ASKING)
    answers = [(QUESTION, b"aprove\n"), ("Did you mean 'approve'?", b"reject\n"), ("You chose reject", b"1\n")]
    code, seen = in_terminal(folder, "run", "w.yml", answers=answers)
    assert 0 == code, seen
    lines = seen.replace("\r", "").split("\n")
    assert "  review: The draft of this month is ready, and it will be sent to everybody in" in lines
    assert "          the whole company at noon: is it fine?" in lines
    assert "'aprove' is no answer. Did you mean 'approve'? It takes: 1 or approve, 2 or" in seen
    assert "  You chose reject, and this gate asks again then (on_reject: retry)." in lines
    assert (1, 2) == (seen.count("│ the draft"), seen.count("draft.txt\r\n"))
    assert ["report"] == ran()


@pytest.mark.long
def test_a_gate_whose_time_is_up_stays_open_and_says_so(folder, ran, cli):
    """In a terminal the question goes; the run pauses, and can be answered later."""
    (folder / "w.yml").write_text(ASKING.replace("60s", "1s"))
    code, seen = in_terminal(folder, "run", "w.yml", answers=[])
    assert 3 == code, seen
    assert "review was not answered in time and stays open" in seen
    assert [] == ran()
    cli("answer", "w.yml", "review", "approve")
    assert ["report"] == ran()


# -- what is not there ----------------------------------------------------------------------------------------------


def test_what_is_named_and_not_there_is_told_before_and_at_the_start(folder, cli, monkeypatch):
    """Variables of secrets, and files to be judged, at any depth; a file whose name is computed can be made later."""
    monkeypatch.delenv("NIXDA", raising=False)
    (folder / "w.yml").write_text(
        """\
nbflow: 1
inputs: {file: {type: string, default: gone.txt}}
steps:
  - {id: each, items: [1], step: {id: say, run: "true", secrets: [NIXDA, PATH]}}
  - {id: computed, gate: "Fine?", show: "{{ inputs.file }}"}
  - {id: review, gate: "Fine?", show: draft.txt}
"""
    )
    told = (
        "say: there is no environment variable NIXDA, so nothing of it can be masked",
        "review: there is no file draft.txt to be shown, unless a step makes it",
    )
    assert [f"warning: w.yml: {text}" for text in told] == cli("validate", "w.yml").stdout.splitlines()[:-1]
    assert [f"  warning  {text}" for text in told] == [
        line for line in cli("run", "w.yml", code=3).stderr.splitlines() if "there is no" in line
    ]


@pytest.mark.long
def test_a_table_that_needs_a_missing_library_is_refused(folder, cli):
    """Exit code 2, as for whatever was asked for and cannot begin; the list of runs has files, not notebooks alone."""
    (folder / "w.yml").write_text('nbflow: 1\nsteps:\n  - {id: one, call: "builtins:dict"}\n')
    (folder / "pandas.py").write_text("raise ImportError('as if it was not there')\n")
    cli("run", "w.yml")
    refused = cli("results", "w.yml", "-o", "r.parquet", code=2)
    assert "error: -o r.parquet: needs pandas and pyarrow\n  pip install 'nbflow[frames]'" in refused.stderr
    assert re.search(r"^ +run +file +status ", cli("status").stdout)


def test_what_completed_beside_a_failed_step_is_shown_so_afterwards_too(folder):
    """A resume keeps it, so nobody may say that it has not run."""
    (folder / "flow.yml").write_text(
        "nbflow: 1\nsteps:\n"
        "- {id: worse, run: 'until test -f side; do sleep 0.02; done; exit 1', needs: []}\n"
        "- {id: side, run: 'touch side', needs: []}\n"
    )
    live = nbflow.run("flow.yml", max_workers=2, quiet=True)
    while live["side"].status != "completed":  # it may have ended behind the failure
        live = nbflow.resume("flow.yml", quiet=True)
    later = nbflow.status("flow.yml")
    assert ("failed", "completed") == (later["worse"].status, later["side"].status)
