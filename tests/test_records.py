"""Records that a start does not use: they stay, they are forgotten when somebody says so, and they answer later."""

from __future__ import annotations

import json
import shutil
import signal

import pytest

import nbflow
from nbflow.api import reading, requests, session, showing
from nbflow.cli import main
from nbflow.engine.plan import plan
from nbflow.errors import ParameterError, StoreError
from nbflow.reporters.text import Earlier
from nbflow.store import checkpoint
from nbflow.store.home import Home

QUIET = {"quiet": True, "max_concurrency": 2}


def edited(notebook, ran):
    """Change the code of the notebook as an editor does."""
    return notebook(ran.cell, "# other code")


def reasons(path, **how):
    return [row.reason for row in nbflow.resume(path, dry_run=True, **how)]


def test_what_an_only_leaves_out_stays_in_view_and_in_the_checkpoint(notebook, ran, folder):
    """Its code changed, and one item was asked for: the others are still done, also without the run folder."""
    path = notebook(ran.cell)
    nbflow.map(path, grid={"n": [1, 2, 3]}, **QUIET)
    edited(notebook, ran)
    nbflow.resume(path, only="n=1", **QUIET)
    assert [{"square": 1}, {"square": 4}, {"square": 9}] == nbflow.status(path).results
    shutil.rmtree(folder / "nbflow-runs")
    nbflow.resume(path, changed="keep", **QUIET)
    assert {1: 2, 2: 1, 3: 1} == ran.times()


@pytest.mark.long
def test_an_only_of_a_finished_run_leaves_it_finished_and_the_question_whole(notebook, ran, cli, folder):
    """What it leaves out stands as it is recorded; an item is asked about with the cells that changed since it ran."""
    path = notebook(ran.cell, "x = 1")
    cli("map", path.name, "--grid", "n=1,2,3", "-q")
    notebook(ran.cell, "x = 2")
    said = cli("resume", path.name, "--only", "0")
    assert "3 of 3 completed" in said.stdout
    assert "completed" == cli.json("status", path.name)["status"]
    counts = json.loads((folder / "work.ipynb.nbflow.json").read_text())["counts"]
    assert (3, 0) == (counts["completed"], counts["waiting"])
    asked = cli("resume", path.name, code=2).stderr
    assert asked.startswith("error: work.ipynb: cell 3 changed since 2 finished items ran\n")
    notebook("# first\n" + ran.cell, "x = 2")
    assert ["cell 2 changed", "cells 2, 3 changed", "cells 2, 3 changed"] == reasons(path)
    asked = cli("resume", path.name, code=2).stderr
    assert asked.startswith("error: work.ipynb: cells 2, 3 changed since 3 finished items ran\n")
    assert {1: 2, 2: 1, 3: 1} == ran.times()


@pytest.mark.long
def test_an_only_with_another_parameter_does_not_pass_the_others_off_as_done(notebook, ran, cli):
    """Their records are of the old value: they wait, at its end and to whoever looks later."""
    path = notebook(ran.cell, parameters="n = 0\nyear = 0", results="both = [n, year]")
    cli("map", path.name, "--grid", "n=1,2", "-p", "year=1", "-q")
    said = cli.json("resume", path.name, "-p", "year=2", "--only", "0", code=1)
    assert "interrupted" == said["status"]
    assert [("completed", {"both": [1, 2]}), ("pending", None)] == [(i["status"], i["output"]) for i in said["items"]]
    assert said == cli.json("status", path.name)
    cli("resume", path.name, "-q")
    assert [{"both": [1, 2]}, {"both": [2, 2]}] == nbflow.results(path)


@pytest.mark.long
def test_an_only_leaves_the_failure_of_another_item_a_failure(notebook, ran, cli):
    """The run is failed as it was before, with that item named."""
    path = notebook(ran.cell, "assert n != 3")
    cli("map", path.name, "--grid", "n=2,3", "-q", code=1)
    said = cli("resume", path.name, "--only", "0", code=1)
    assert "1 of 2 failed, 1 is done and kept:" in said.stdout
    assert "failed" == cli.json("status", path.name)["status"]
    assert {2: 2, 3: 1} == ran.times()


@pytest.mark.long
def test_a_forced_start_that_was_cut_off_is_not_forgotten(notebook, ran, cli, until):
    """Everything was to run again: what had not is still to run, and is shown so."""
    path = notebook(ran.cell, "import time; time.sleep(0.1 if n < 3 else 1)")
    nbflow.map(path, grid={"n": [1, 2, 3]}, **QUIET)
    process = cli.start("resume", path.name, "--force", "-j", "1", "-q")
    until(lambda: ran.times().get(1) == 2 and ran.times().get(2) == 2)
    process.terminate()
    assert 143 == process.wait(30)
    run = nbflow.status(path)
    done = [item.index for item in run.outcomes if item.status == "completed"]
    assert len(done) < 3
    assert len(done) == run.progress.counts["completed"]
    nbflow.resume(path, **QUIET)
    assert 2 <= min(ran.times().values())


def test_names_may_go_between_items_and_shared_parameters(notebook, ran):
    """The grid grew by a dimension: what has equal parameters is kept, now and at the next resume."""
    path = notebook(ran.cell, parameters="n = 0\nyear = 0")
    nbflow.map(path, grid={"n": [1, 2]}, parameters={"year": 1}, **QUIET)
    run = nbflow.map(path, grid={"n": [1, 2], "year": [1, 2]}, resume=True, **QUIET)
    assert ("completed", 4) == (run.status, len(run))
    assert {1: 2, 2: 2} == ran.times()
    assert ["kept"] * 4 == reasons(path)


@pytest.mark.long
@pytest.mark.parametrize("folder_gone", [False, True])
def test_names_may_go_between_items_and_shared_parameters_detached_too(folder_gone, notebook, ran, cli, folder, until):
    """The process of its own keeps what the dry run says is kept, also where only the checkpoint is left."""
    path = notebook(ran.cell, parameters="n = 0\nyear = 0")
    cli("map", path.name, "--grid", "n=1,2", "-p", "year=1", "-q")
    if folder_gone:
        shutil.rmtree(folder / "nbflow-runs")
    again = ["map", path.name, "--grid", "n=1,2", "--grid", "year=1,2", "--resume"]
    rows = cli.json(*again, "--dry-run")["items"]
    assert ["kept", "never ran", "kept", "never ran"] == [row["reason"] for row in rows]
    cli(*again, "--detach")
    until(lambda: nbflow.status(path).status == "completed")
    assert {1: 2, 2: 2} == ran.times()


KILLED = """\
import os, signal, sys
armed = False
def look(name, args):
    global armed
    if armed:
        armed = False
        os.kill(os.getpid(), signal.SIGKILL)
    armed = name == "os.rename" and str(args[1]).endswith("workflow.json")
sys.addaudithook(look)
from nbflow.cli import main
main(sys.argv[1:])
"""
"""The command line that kills itself when it has replaced the definition of a run."""


@pytest.mark.long
def test_a_kill_behind_the_new_definition_loses_no_item_that_is_called_otherwise_now(notebook, ran, cli):
    """The records have their new keys before the definition has them."""
    path = notebook(ran.cell, parameters="n = 0\nyear = 0")
    cli("map", path.name, "--grid", "n=1,2", "-p", "year=1", "-q")
    again = ["map", path.name, "--grid", "n=1,2", "--grid", "year=1,2", "--resume", "-q"]
    killed = cli.start(*again, program=("-c", KILLED))
    _, err = killed.communicate(timeout=60)
    assert -signal.SIGKILL == killed.returncode, err
    cli("resume", path.name, "-q")
    assert {1: 2, 2: 2} == ran.times()


def test_keep_passes_over_code_and_not_over_what_is_asked_for(notebook, ran):
    """Another name among the results is another piece of work; it needs no question, and says so."""
    path = notebook(ran.cell, "other = -n")
    nbflow.map(path, grid={"n": [1]}, **QUIET)
    edited(notebook, ran)
    nbflow.resume(path, changed="keep", **QUIET)
    notebook(ran.cell, "other = -n")
    (row,) = nbflow.map(path, grid={"n": [1]}, output=["other"], resume=True, dry_run=True, **QUIET)
    assert (True, "--output changed") == (row.runs, row.reason)
    run = nbflow.map(path, grid={"n": [1]}, output=["other"], resume=True, **QUIET)
    assert [{"other": -1}] == run.results


def test_a_dry_run_of_map_resume_shows_instead_of_asking(notebook, ran):
    """The question comes when it is meant."""
    path = notebook(ran.cell)
    nbflow.map(path, grid={"n": [1]}, **QUIET)
    edited(notebook, ran)
    (row,) = nbflow.map(path, grid={"n": [1]}, resume=True, dry_run=True, **QUIET)
    assert (True, True) == (row.runs, row.code)
    assert "changed" in row.reason


def test_what_is_asked_for_again_is_said_so(notebook, ran):
    """``--only`` leaves the others out, ``--force`` wants all: neither never ran."""
    path = notebook(ran.cell)
    nbflow.map(path, grid={"n": [1, 2]}, **QUIET)
    assert ["asked for", "kept"] == reasons(path, from_="n=1")
    assert ["asked for", "asked for"] == reasons(path, force=True)


def test_epochs_only_grow(notebook, ran, folder):
    """Also when the journal was lost between them."""
    path = notebook(ran.cell, "assert n < 2")
    for start in range(2):
        nbflow.resume(path, **QUIET) if start else nbflow.map(path, grid={"n": [1, 2]}, **QUIET)
    shutil.rmtree(folder / "nbflow-runs")
    nbflow.resume(path, **QUIET)
    nbflow.resume(path, **QUIET)
    (journal,) = folder.rglob("journal.jsonl")
    epochs = [line["epoch"] for line in map(json.loads, journal.read_text().splitlines()) if "epoch" in line]
    assert [2, 3, 4] == epochs
    assert {1: 1, 2: 4} == ran.times()


def test_a_checkpoint_that_does_not_have_all_is_not_taken_for_the_whole(notebook, ran, folder, monkeypatch):
    """Above its limit it lists failures only: without the journal nothing runs again unasked."""
    monkeypatch.setattr(checkpoint, "IN_FULL", 2)
    path = notebook(ran.cell, "assert n < 3")
    nbflow.map(path, grid={"n": [1, 2, 3]}, **QUIET)
    (journal,) = folder.rglob("journal.jsonl")
    journal.rename(folder / "away.jsonl")
    with pytest.raises(StoreError, match="2 ended items stand only in the journal"):
        nbflow.resume(path, **QUIET)
    assert {1: 1, 2: 1, 3: 1} == ran.times()


def test_the_journal_of_an_older_run_is_made_up_for_by_its_own_checkpoint(notebook, ran, folder):
    """The one beside the notebook is the newer run's; without any, the run is refused."""
    path = notebook(ran.cell)
    first = nbflow.map(path, grid={"n": [1]}, **QUIET)
    nbflow.map(path, grid={"n": [2]}, **QUIET)
    (first.folder / "journal.jsonl").unlink()
    with pytest.raises(StoreError, match="its journal is gone, and no checkpoint has its items"):
        nbflow.resume(first.folder, **QUIET)
    assert {1: 1, 2: 1} == ran.times()


@pytest.mark.parametrize("lost", ["all but the first line", "the last start"])
def test_what_a_journal_was_cut_short_by_is_kept_by_the_checkpoint(lost, notebook, ran, folder):
    """A backup was put back, or the power went: no finished item repeats, now or later, and the run says so."""
    path = notebook(ran.cell, "assert n > 1 or os.path.exists('go')")
    run = nbflow.map(path, grid={"n": [1, 2, 3]}, **QUIET)
    journal = run.folder / "journal.jsonl"
    old = journal.read_bytes()
    (folder / "go").touch()
    assert "completed" == nbflow.resume(path, **QUIET).status
    journal.write_bytes(old if lost == "the last start" else old[: old.index(b"\n") + 1])
    assert [{"square": 1}, {"square": 4}, {"square": 9}] == nbflow.status(path).results
    assert ["kept"] * 3 == reasons(path)
    run = nbflow.resume(path, **QUIET)
    assert {1: 2, 2: 1, 3: 1} == ran.times()
    count = 1 if lost == "the last start" else 3
    lost_items = "1 ended item it lost stands" if count == 1 else "3 ended items it lost stand"
    assert [f"the journal was cut short: {lost_items} in the checkpoint"] == [w.message for w in run.warnings]
    (folder / "work.ipynb.nbflow.json").unlink()
    assert ["kept"] * 3 == reasons(path), "the journal has them now"
    epochs = [line["epoch"] for line in map(json.loads, journal.read_text().splitlines()) if "epoch" in line]
    assert [1, 3] == epochs


def test_a_journal_that_was_cut_short_says_so_where_the_checkpoint_lists_failures_only(
    notebook, ran, folder, monkeypatch
):
    """Above its limit it does not have what was lost: that runs again, with a warning."""
    monkeypatch.setattr(checkpoint, "IN_FULL", 2)
    path = notebook(ran.cell, "assert n < 3")
    run = nbflow.map(path, grid={"n": [1, 2, 3]}, **QUIET)
    journal = run.folder / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().partition(b"\n")[0] + b"\n")
    run = nbflow.resume(path, **QUIET)
    assert {1: 2, 2: 2, 3: 2} == ran.times()
    (warning,) = [w.message for w in run.warnings]
    assert warning.startswith("the journal was cut short: 1 ended item it lost stands in the checkpoint, ")
    assert warning.endswith(", of 2 more some may run again")


def test_an_older_checkpoint_of_the_run_is_not_taken_for_a_newer_one(notebook, ran, folder):
    """Also if the journal was longer when it was written: that was another journal, before a later start."""
    path = notebook(ran.cell, "assert n > 1 or os.path.exists('go')")
    first = nbflow.map(path, grid={"n": [1, 2]}, **QUIET)
    old = json.loads((folder / "work.ipynb.nbflow.json").read_text())
    (folder / "go").touch()
    assert "completed" == nbflow.resume(path, **QUIET).status
    nbflow.map(path, grid={"n": [3]}, **QUIET)
    (first.folder / "checkpoint.json").write_text(json.dumps({**old, "folder": ".", "journal": {"bytes": 10**9}}))
    assert [{"square": 1}, {"square": 4}] == nbflow.status(first.folder).results


def test_a_start_plans_once(notebook, ran, cli, folder, monkeypatch, capsys):
    """A plan of a hundred thousand items takes seconds: question, head, first checkpoint and copies share it."""
    path = notebook(ran.cell, "assert n > 1 or os.path.exists('go')")
    cli("map", path.name, "--grid", "n=1,2,3", "--output-dir", "out", "-q", code=1)
    (folder / "go").touch()
    plans = []
    monkeypatch.setattr(session, "plan", lambda *how: plans.append(how) or plan(*how))
    with pytest.raises(SystemExit) as end:
        main(["resume", path.name])
    assert (0, 1) == (end.value.code or 0, len(plans))
    assert "2 kept" in capsys.readouterr().err
    assert {1: 2, 2: 1, 3: 1} == ran.times()


def test_the_list_of_runs_and_the_head_of_a_map_plan_no_other_run(notebook, folder, monkeypatch):
    """How a run stands that nobody works at says its checkpoint, if it is the run's and nothing came after it."""
    path = notebook("assert n < 3")
    run = nbflow.map(path, grid={"n": [1, 2, 3]}, **QUIET)
    home = Home.of(path)
    wanted = [(run.id, "failed", 2, 3, 1, run.progress.started)]

    def listed():
        lines, broken = showing.every_run([folder])
        assert [] == broken
        return [(r.run_id, r.status, r.done, r.total, r.failed, r.started) for r in lines]

    def refuse(*how):
        raise AssertionError("a plan was made")

    with monkeypatch.context() as patched:
        patched.setattr(reading, "plan", refuse)
        assert (wanted, Earlier(run.id)) == (listed(), requests.earlier(home))
    journal = run.folder / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:-1]))
    assert [("interrupted", 2, 1)] == [(status, done, failed) for _, status, done, _, failed, _ in listed()]
    assert Earlier(run.id) == requests.earlier(home)
    journal.write_text("".join(lines) + lines[0].replace('"epoch":1', '"epoch":2'))
    assert "interrupted" == listed()[0][1]


def test_a_parameter_of_some_items_cannot_be_set_for_all(notebook, ran, folder):
    """Also when the first item does not have it."""
    path = notebook(ran.cell, parameters="n = 0\nyear = 0")
    nbflow.map(path, items=[{"n": 1}, {"n": 2, "year": 5}], **QUIET)
    with pytest.raises(ParameterError, match="year differs from item to item"):
        nbflow.resume(path, parameters={"year": 9}, **QUIET)
