"""Workflows with real processes: run, resume, answer, and what people see of them."""

from __future__ import annotations

import json
import os
import pty
import re
import select
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
from nbflow.errors import DefinitionError, TargetError

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
  - {id: choose, if: "{{ steps.fit.output.failed | length > 0 }}", then: [{id: tell, call: "tasks:note"}]}
"""
    )
    (folder / "good").touch()
    told = cli("run", "w.yml", code=1)
    assert "failed     choose  in `steps.fit.output.failed | length > 0`: the filter 'length' of 1" in told.stderr
    for text in (told.stdout, cli("status", "w.yml").stdout):
        assert "2 of 3 failed, 1 is done and kept:" in text
        assert re.search(r"\n  bad +AssertionError: bad is missing\n  choose +in `steps\.fit\.output\.failed", text)
        assert "1 of 2 failed" not in text
        assert re.search(r"\n  fit +1/2 +failed +0\.\d+\n", text), "seconds are those of the run"
    planned = ["fit:one:0", "fit:one:1", "choose"]
    assert planned == [row["node"] for row in cli.json("resume", "w.yml", "--dry-run")["nodes"]]
    assert ["fit:one:1", "choose"] == [node.id for node in nbflow.status("w.yml").failures]


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


def in_terminal(folder: Path, *words: str, answers: list[tuple[str, bytes]]) -> tuple[int, str]:
    """Run a verb in a terminal, and type each answer when its question is there."""
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
        (["--only", "load"], ["load"]),
        (["--force"], ["load", "fit", "report"]),
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


def test_changed_code_of_finished_steps_is_a_question(three, folder, cli, ran):
    """As with maps: exit code 2, the two answers, and each does what it says."""
    (folder / "ok").touch()
    cli("run", "three.yml")
    (folder / "tasks.py").write_text(TASKS + "\n# other code\n")
    refused = cli("resume", "three.yml", code=2)
    assert (
        "error: three.yml: code of tasks:note, code of tasks:fail_unless changed since 1 finished task ran"
        == (refused.stderr.splitlines()[0])
    )
    assert ["--changed keep" in refused.stderr, "--changed rerun" in refused.stderr] == [True, True]
    cli("resume", "three.yml", "--changed", "keep")
    assert 3 == len(ran())
    (folder / "tasks.py").write_text(TASKS + "\n# and other code again\n")
    cli("resume", "three.yml", "--changed", "rerun")
    assert 6 == len(ran())


def test_only_the_checkpoint_suffices_to_resume(three, folder, cli, ran):
    """With the run folder deleted, what is done is kept."""
    cli("run", "three.yml", code=1)
    subprocess.run(["rm", "-r", str(folder / "nbflow-runs")], check=True)
    (folder / "ok").touch()
    cli("resume", "three.yml")
    assert ["load", "fit", "fit", "report"] == ran()


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
    cli("init", "p")
    os.chdir(folder / "p")
    assert "prices.yml: fine, 4 steps" in cli("validate", "p/prices.yml").stdout.replace("p/prices", "prices")
    data = cli.json("run", "p/prices.yml", "-j", "2")
    assert ("completed", 11.93) == (data["status"], round(data["nodes"]["report"]["output"]["total"], 2))
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
    (folder / "inner" / "tasks.py").write_text(TASKS)
    (folder / "inner" / "in.yml").write_text(
        "nbflow: 1\ninputs: {n: {type: integer}}\nsteps:\n"
        "  - {id: here, run: 'pwd'}\n"
        "  - {id: give, call: 'tasks:note', arguments: {name: give, value: '{{ inputs.n }}'}}\n"
    )
    (folder / "w.yml").write_text(
        "nbflow: 1\nsteps:\n  - {id: sub, workflow: inner/in.yml, inputs: {n: '{{ 1 + 1 }}'}}\n"
        "  - {id: last, call: 'tasks:note', arguments: {name: last, value: '{{ steps.sub.output.give.value }}'}}\n"
    )
    run = nbflow.run("w.yml", quiet=True)
    assert {"value": 2} == run["last"].output
    assert str(folder / "inner") == run["sub/here"].output["stdout"].strip()


def test_what_took_longest_starts_first_the_next_time(folder, ran):
    """By the seconds of the earlier run, which stand in the journal."""
    (folder / "w.yml").write_text(
        "nbflow: 1\nsteps:\n  - id: each\n    items: [a, b, c]\n    order: longest-first\n    on_error: continue\n"
        "    step: {id: one, run: ['sh', '-c', 'echo $0 >> order; [ $0 != b ] || sleep 0.3', '{{ item }}']}\n"
    )
    nbflow.run("w.yml", quiet=True)
    nbflow.run("w.yml", quiet=True)
    assert ["a", "b", "c", "b"] == (folder / "order").read_text().split()[:4]


# -- large ----------------------------------------------------------------------------------------------------------

MANY = """
import sys
from nbflow import Call, Workflow, run
steps = [Call(id=f"s{i}", call="builtins:dict", arguments={"text": "x" * 1000}) for i in range(int(sys.argv[1]))]
assert run(Workflow(name="many", steps=steps), quiet=True, max_workers=2).status == "completed"
print(open("/proc/self/io").read().split("wchar: ")[1].split()[0])
"""


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
    assert "There are: bars, lines, widgets, dots." in cli("run", "w.yml", "--reporter", "x", code=2).stderr
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
