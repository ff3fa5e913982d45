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
import pytest

import nbflow
from nbflow.api.checking import checked
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
  - {id: choose, if: "{{ steps.fit.output.failed | length > 0 }}", then: [{id: tell, call: "builtins:dict"}]}
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
