"""Resume with real kernels: what finished is kept, whatever happened to notebook, table and folders in between."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest

import nbflow
from nbflow.errors import ChangedError, LockedError, ParameterError


@pytest.fixture
def done(notebook, ran):
    """A run of three items, of which n=3 failed in cell 3."""
    path = notebook(ran.cell, "assert n != 3")
    run = nbflow.map(path, grid={"n": [1, 2, 3]}, max_concurrency=3, quiet=True)
    assert "failed" == run.status
    assert {1: 1, 2: 1, 3: 1} == ran.times()
    return path


def fix(notebook, ran, *, cell="assert n != 30"):
    """Change cell 3, as a person does who mends it."""
    return notebook(ran.cell, cell)


def reasons(target, **keywords):
    """Give what a resume would do, in item order."""
    return [one.reason for one in nbflow.resume(target, dry_run=True, **keywords)]


# -- changed code -----------------------------------------------------------------------------------------------------


def test_mended_code_is_a_question_that_names_cell_and_count(done, notebook, ran, cli):
    """Exit code 2, both answers as commands, and nothing is changed by asking."""
    fix(notebook, ran)
    before = sorted((file, file.stat().st_mtime_ns) for file in done.parent.rglob("*"))
    asked = cli("resume", done.name, code=2)
    assert asked.stderr.splitlines() == [
        "error: work.ipynb: cell 3 changed since 2 finished items ran",
        "  nbflow resume work.ipynb --changed keep     keeps them, runs only the rest",
        "  nbflow resume work.ipynb --changed rerun    runs them again",
    ]
    assert before == sorted((file, file.stat().st_mtime_ns) for file in done.parent.rglob("*"))
    assert ["cell 3 changed", "cell 3 changed", "failed"] == reasons(done)


def test_keep_runs_only_the_rest_and_is_remembered_until_the_code_changes_again(done, notebook, ran):
    """After ``keep`` a plain resume has nothing to ask or to do; a new edit raises the question anew."""
    fix(notebook, ran)
    run = nbflow.resume(done, changed="keep", quiet=True)
    assert ("completed", [{"square": n * n} for n in (1, 2, 3)]) == (run.status, run.results)
    assert {1: 1, 2: 1, 3: 2} == ran.times()
    assert [True, True, False] == [item.kept for item in run.outcomes]
    again = nbflow.resume(done, quiet=True)
    assert "completed" == again.status
    assert {1: 1, 2: 1, 3: 2} == ran.times()
    fix(notebook, ran, cell="assert n != 300")
    with pytest.raises(ChangedError, match="cell 3 changed since 3 finished items ran"):
        nbflow.resume(done, quiet=True)


def test_rerun_runs_all_again_and_is_remembered_until_the_code_changes_again(done, notebook, ran):
    """After ``rerun`` all items have the new code; the next edit is a new question."""
    fix(notebook, ran)
    assert "completed" == nbflow.resume(done, changed="rerun", quiet=True).status
    assert {1: 2, 2: 2, 3: 2} == ran.times()
    assert ["kept"] * 3 == reasons(done)
    fix(notebook, ran, cell="assert n != 300")
    with pytest.raises(ChangedError, match="3 finished items"):
        nbflow.resume(done, quiet=True)
    assert {1: 2, 2: 2, 3: 2} == ran.times()


@pytest.mark.long
def test_keep_is_remembered_also_where_no_item_had_to_run(notebook, ran, cli):
    """An answer about a completed run is an answer: the next resume does not ask again."""
    path = notebook(ran.cell, "x = 1")
    nbflow.map(path, grid={"n": [1, 2]}, quiet=True)
    fix(notebook, ran, cell="x = 2")
    cli("resume", path.name, "-q", code=2)
    cli("resume", path.name, "--changed", "keep", "-q")
    assert "nothing to do" in cli("resume", path.name).stdout
    assert {1: 1, 2: 1} == ran.times()


@pytest.mark.long
def test_map_resume_asks_the_same_question(done, notebook, ran, cli):
    """The command names its own remedy."""
    fix(notebook, ran)
    asked = cli("map", done.name, "--grid", "n=1,2,3", "--resume", code=2)
    assert "error: work.ipynb: cell 3 changed since 2 finished items ran" == asked.stderr.splitlines()[0]
    assert "--changed keep" in asked.stderr
    cli("map", done.name, "--grid", "n=1,2,3", "--resume", "--changed", "keep", "--quiet")
    assert {1: 1, 2: 1, 3: 2} == ran.times()


def test_a_notebook_that_was_run_and_saved_in_jupyter_repeats_nothing(done, ran):
    """Outputs, execution counts, markdown and metadata are no code."""
    made = nbformat.read(done, 4)
    made.cells.insert(0, nbformat.v4.new_markdown_cell("# Looked at"))
    nbclient.NotebookClient(made, kernel_name="python3", resources={"metadata": {"path": str(done.parent)}}).execute()
    made.metadata["language_info"]["version"] = "3.99"
    made.metadata["toc"] = {"base_numbering": 1}
    made.cells[1].metadata["collapsed"] = True
    made.cells.append(nbformat.v4.new_code_cell(""))  # Shift+Enter in the last cell adds one below
    nbformat.write(made, done)
    seen = ran.times()
    assert ["kept", "kept", "failed"] == reasons(done)
    nbflow.resume(done, quiet=True)
    assert {**seen, 3: 2} == ran.times()


# -- another kernel ---------------------------------------------------------------------------------------------------


@pytest.fixture
def under(notebook, ran, tmp_path, monkeypatch):
    """Two kernels, old and new; makes the notebook, of which item 1 fails until there is a file, under one of them."""
    for name in ("old", "new"):
        place = tmp_path / "jupyter" / "kernels" / name
        place.mkdir(parents=True)
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        spec = {"argv": argv, "display_name": name, "language": "python", "env": {"WHICH": name}}
        (place / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))

    def make(kernel: str) -> Path:
        path = notebook(
            ran.cell, "assert n != 1 or os.path.exists('mended')", results="which = os.environ.get('WHICH')"
        )
        made = nbformat.read(path, 4)
        made.metadata["kernelspec"] = {"name": kernel, "display_name": kernel, "language": "python"}
        nbformat.write(made, path)
        return path

    return make


@pytest.mark.long
def test_another_kernel_in_the_notebook_is_a_question_and_holds_for_what_runs(under, ran, cli, folder):
    """As other code is: nobody asked to repeat what is finished; kept, the rest runs under the new one."""
    path = under("old")
    grid = ["--grid", "n=1,2"]
    cli("map", path.name, *grid, "-q", code=1)
    under("new")
    (folder / "mended").touch()
    for command in (["resume", path.name], ["map", path.name, *grid, "--resume"]):
        asked = cli(*command, code=2).stderr.splitlines()[0]
        assert "error: work.ipynb: the kernel (old, now new) changed since 1 finished item ran" == asked
    assert ["failed", "the kernel (old, now new) changed"] == reasons(path)
    cli("resume", path.name, "--changed", "keep", "-q")
    assert [{"which": "new"}, {"which": "old"}] == nbflow.results(path)
    assert "nothing to do" in cli("resume", path.name).stdout
    assert {1: 2, 2: 1} == ran.times()
    under("old")
    with pytest.raises(ChangedError, match=r"the kernel \(new, now old\) changed since 1 finished item ran"):
        nbflow.resume(path, quiet=True)
    assert "completed" == nbflow.resume(path, changed="rerun", quiet=True).status
    assert [{"which": "old"}] * 2 == nbflow.results(path)
    assert {1: 3, 2: 1} == ran.times()


@pytest.mark.long
def test_a_kernel_that_was_asked_for_stays_and_another_one_needs_no_question(under, ran, cli, folder):
    """``-k`` holds for resumes, whatever the notebook says; a new ``-k`` runs all again."""
    path = under("python3")
    (folder / "mended").touch()
    cli("map", path.name, "--grid", "n=1,2", "-k", "old", "-q")
    under("new")
    assert ["kept", "kept"] == reasons(path)
    again = ["map", path.name, "--grid", "n=1,2,3", "--resume", "-k"]
    cli(*again, "old", "-q")
    assert [{"which": "old"}] * 3 == nbflow.results(path)
    assert {1: 1, 2: 1, 3: 1} == ran.times()
    rows = cli("map", path.name, "--grid", "n=1,2,3", "--resume", "-k", "new", "--dry-run").stdout
    assert 3 == rows.count("the kernel (old, now new) changed")
    assert "It would ask first" not in rows
    (folder / "mended").unlink()
    cli(*again, "new", "-j", "1", "--max-failures", "1", "-q", code=1)
    (folder / "mended").touch()
    cli("resume", path.name, "-q")
    assert {1: 3, 2: 2, 3: 2} == ran.times(), "it was asked for, also by who goes on with it"
    assert [{"which": "new"}] * 3 == nbflow.results(path)
    assert "nothing to do" in cli("map", path.name, "--grid", "n=1,2,3", "--resume").stdout, "it is the notebook's own"


# -- the items --------------------------------------------------------------------------------------------------------


def table(folder: Path, *rows: int) -> Path:
    """Write a table of ``n``."""
    path = folder / "items.csv"
    path.write_text("n\n" + "".join(f"{n}\n" for n in rows))
    return path


@pytest.mark.long
def test_a_row_at_the_top_of_the_table_runs_one_item(notebook, ran, folder, cli):
    """Items are who they are by their values, not by their place; also rows that are gone or there twice."""
    path = notebook(ran.cell)
    cli("map", path.name, "--items", table(folder, 1, 2), "-q")
    cli("map", path.name, "--items", table(folder, 7, 1, 2), "--resume", "-q")
    assert {1: 1, 2: 1, 7: 1} == ran.times()
    assert [(0, {"n": 7}), (1, {"n": 1}), (2, {"n": 2})] == [
        (i.index, i.parameters) for i in nbflow.status(path).outcomes
    ]
    assert [{"square": 49}, {"square": 1}, {"square": 4}] == nbflow.results(path)
    said = cli("map", path.name, "--items", table(folder, 2), "--resume")
    assert "nothing to do" in said.stdout
    assert [{"square": 4}] == nbflow.results(path)
    cli("map", path.name, "--items", table(folder, 2, 2, 1), "--resume", "-q")
    assert {1: 1, 2: 2, 7: 1} == ran.times()


def test_a_grown_grid_runs_only_what_is_new(done, ran, cli):
    """``map --resume`` keeps what stays, tries what failed, and starts what is new."""
    said = cli.json("map", done.name, "--grid", "n=0,1,2,3,4", "--resume", code=1)
    assert {0: 1, 1: 1, 2: 1, 3: 2, 4: 1} == ran.times()
    assert ["completed", "completed", "completed", "failed", "completed"] == [i["status"] for i in said["items"]]
    assert [{"n": n} for n in range(5)] == [i["parameters"] for i in said["items"]]
    run = nbflow.status(done)
    assert said["run_id"] == run.id
    assert 1 == len(list((done.parent / "nbflow-runs" / done.name).glob("2*")))


@pytest.mark.long
def test_map_resume_without_a_run_starts_one(notebook, ran, cli):
    """There is nothing to keep, and that is no error."""
    path = notebook(ran.cell)
    cli("map", path.name, "--grid", "n=1", "--resume", "-q")
    assert {1: 1} == ran.times()


@pytest.mark.long
def test_a_new_value_of_a_shared_parameter_repeats_all_without_a_question(notebook, ran, cli):
    """It was just asked for; the dry run names the parameter."""
    path = notebook(ran.cell, parameters="n = 0\nyear = 2026", results="both = (n, year)")
    cli("map", path.name, "--grid", "n=1,2", "-p", "year=2026", "-q")
    assert ["parameter year changed"] * 2 == reasons(path, parameters={"year": 2027})
    cli("resume", path.name, "-p", "year=2027", "-q")
    assert {1: 2, 2: 2} == ran.times()
    assert [{"both": [1, 2027]}, {"both": [2, 2027]}] == nbflow.results(path)
    assert "nothing to do" in cli("resume", path.name).stdout


# -- which ------------------------------------------------------------------------------------------------------------


def test_only_runs_one_item_again_and_starts_nothing_else(done, ran, cli):
    """The failed one waits, and the run is not called completed."""
    said = cli.json("resume", done.name, "--only", "n=2", code=None)
    assert {1: 1, 2: 2, 3: 1} == ran.times()
    assert "completed" != said["status"]
    assert ["completed", "completed", "failed"] == [i["status"] for i in said["items"]]


def test_from_runs_one_item_again_and_what_is_missing(done, ran, cli):
    """An item is named by its index, or by what it is called."""
    cli("resume", done.name, "--from", "0", "-q", code=1)
    assert {1: 2, 2: 1, 3: 2} == ran.times()
    assert [True, False, True] == [one.runs for one in nbflow.resume(done, from_=0, dry_run=True)]
    refused = cli("resume", done.name, "--from", "n=99", code=2)
    assert refused.stderr.startswith("error: 'n=99': no item is called so")


@pytest.mark.parametrize("option", ["--only", "--from"])
def test_force_with_a_single_item_is_refused(option, done, ran, cli):
    """Everything and one item cannot both be meant: no record is forgotten by it."""
    before = sorted((file, file.stat().st_mtime_ns) for file in done.parent.rglob("*"))
    said = cli("resume", done.name, option, "0", "--force", code=2)
    assert said.stderr.splitlines() == [
        f"error: --force and {option} are both given",
        f"  {option} runs that item again by itself, --force all of them: keep one.",
    ]
    with pytest.raises(ParameterError):
        nbflow.resume(done, force=True, **{"only" if option == "--only" else "from_": 0})
    assert {1: 1, 2: 1, 3: 1} == ran.times()
    assert before == sorted((file, file.stat().st_mtime_ns) for file in done.parent.rglob("*"))


def test_force_runs_everything_again_without_a_question(done, notebook, ran):
    """Also when the code changed."""
    fix(notebook, ran)
    assert "completed" == nbflow.resume(done, force=True, quiet=True).status
    assert {1: 2, 2: 2, 3: 2} == ran.times()
    assert ["kept"] * 3 == reasons(done)


def test_a_dry_run_explains_each_item_and_changes_nothing(done, cli):
    """As people read it, and as JSON."""
    before = sorted((file, file.stat().st_mtime_ns) for file in done.parent.rglob("*"))
    said = cli("resume", done.name, "--dry-run")
    assert "1 item would run, 2 are kept" in said.stdout
    rows = cli.json("resume", done.name, "--dry-run")["items"]
    assert [("n=1", False, "kept"), ("n=2", False, "kept"), ("n=3", True, "failed")] == [
        (row["item"], row["runs"], row["reason"]) for row in rows
    ]
    assert before == sorted((file, file.stat().st_mtime_ns) for file in done.parent.rglob("*"))


@pytest.mark.long
@pytest.mark.parametrize("limit", [["--fail-fast"], ["--max-failures", "1"]])
def test_a_run_that_stopped_at_its_limit_says_how_to_go_on_beyond_it(limit, notebook, ran, cli, until):
    """A plain resume stops at the same item again; the command at the end runs all that is left, detached too."""
    path = notebook(ran.cell, "assert n != 2")
    said = cli("map", path.name, "--grid", "n=1,2,3", "-j", "1", *limit, code=1).stdout
    command = "nbflow resume work.ipynb --no-fail-fast"
    assert [command] == [line[line.index("nbflow ") :] for line in said.splitlines() if "--no-fail-fast" in line]
    assert "--no-fail-fast" in cli("resume", path.name, code=1).stdout
    assert {1: 1, 2: 2} == ran.times()
    cli(*command.split()[1:], "--detach")
    until(lambda: nbflow.status(path).status == "failed" and 3 in ran.times())
    assert {1: 1, 2: 3, 3: 1} == ran.times()
    assert "--no-fail-fast" not in cli("status", path.name).stdout, "nothing is left out any more"


@pytest.mark.long
def test_limits_and_the_time_of_the_rest_can_be_given_anew(notebook, ran):
    """From Python too; finished items stay finished, and the words mean what they mean to map."""
    path = notebook(ran.cell, "assert n < 3\nimport time\nif n == 2: time.sleep(60)")
    nbflow.map(path, grid={"n": [1, 2, 3, 4]}, max_concurrency=1, timeout=3, fail_fast=True, quiet=True)
    assert {1: 1, 2: 1} == ran.times()
    run = nbflow.resume(path, max_failures=2, timeout="2s", quiet=True)
    assert {1: 1, 2: 2, 3: 1} == ran.times()
    assert ["no time left after 2 s", "AssertionError"] == [
        item.error.message.partition(" (")[0] for item in run.failures
    ]
    nbflow.resume(path, fail_fast=True, quiet=True)
    assert {1: 1, 2: 3, 3: 1} == ran.times(), "the two are one limit: the newest counts"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--fail-fast"], "--fail-fast is an option of maps, and two.yml is a workflow"),
        pytest.param(["--no-fail-fast"], "--no-fail-fast is an option of maps", marks=pytest.mark.long),
        pytest.param(["--max-failures", "2"], "--max-failures is an option of maps", marks=pytest.mark.long),
        pytest.param(["--timeout", "5m"], "--timeout is an option of maps", marks=pytest.mark.long),
        pytest.param(["--memory", "5GB"], "--memory is an option of maps", marks=pytest.mark.long),
    ],
)
def test_limits_of_a_workflow_stand_in_its_file(options, problem, folder, cli):
    """They are refused, with the keys that say it there."""
    (folder / "two.yml").write_text("nbflow: 1\nsteps: [{id: load, call: 'builtins:dict'}]\n")
    cli("run", "two.yml", "-q")
    said = cli("resume", "two.yml", *options, code=2).stderr
    assert problem in said
    assert "on_error, max_failures, timeout, memory" in said


def test_what_does_not_change_the_work_repeats_nothing(notebook, ran, cli):
    """Concurrency, time-outs, retries, names of copies: a finished run has nothing to do."""
    path = notebook(ran.cell)
    cli("map", path.name, "--grid", "n=1,2", "-q")
    more = ["--timeout", "5m", "--memory", "1MB", "--max-memory", "90%", "--retry", "3", "-j", "1", "--fail-fast"]
    assert "nothing to do" in cli("map", path.name, "--grid", "n=1,2", "--resume", *more).stdout
    assert "nothing to do" in cli("resume", path.name, "-j", "3").stdout
    assert {1: 1, 2: 1} == ran.times()


# -- where ------------------------------------------------------------------------------------------------------------


def test_without_the_run_folder_the_checkpoint_suffices(done, ran, cli, folder):
    """``nbflow-runs/`` deleted: no finished item repeats, results are there, and it says what it could not know."""
    shutil.rmtree(folder / "nbflow-runs")
    assert ["kept", "kept", "failed"] == reasons(done)
    said = cli("resume", done.name, code=1)
    assert "the journal was gone" in said.stdout + said.stderr
    assert {1: 1, 2: 1, 3: 2} == ran.times()
    assert [{"square": 1}, {"square": 4}, None] == nbflow.results(done)
    cli("resume", done.name, "-q", code=1)
    assert {1: 1, 2: 1, 3: 3} == ran.times()


@pytest.mark.long
@pytest.mark.parametrize("where", ["beside the notebook", "in a state directory"])
def test_a_new_map_leaves_an_unfinished_run_whose_folder_is_gone_its_record(
    where, notebook, ran, cli, folder, tmp_path
):
    """What its head offers can be done: the run is found by its id, and its finished items are kept."""
    path = notebook(ran.cell, "assert n != 3")
    state = [] if where == "beside the notebook" else ["--state-dir", tmp_path / "state"]
    first = cli.json("map", path.name, "--grid", "n=1,2,3", *state, code=1)["run_id"]
    (runs,) = (tmp_path if state else folder).rglob("nbflow-runs")
    shutil.rmtree(runs)
    said = cli("map", path.name, "--grid", "n=4", *state)
    assert f"nbflow resume {first}" in said.stderr
    assert ["completed", "completed", "failed"] == [i["status"] for i in cli.json("status", first, *state)["items"]]
    cli("resume", first, "-q", *state, code=1)
    assert {1: 1, 2: 1, 3: 2, 4: 1} == ran.times()


@pytest.mark.long
def test_a_new_map_brings_back_no_finished_run_that_was_removed(notebook, ran, cli):
    """Somebody who cleans and starts anew finds the new run alone."""
    path = notebook(ran.cell)
    cli("map", path.name, "--grid", "n=1", "-q")
    cli("clean", path.name, "--keep", "0")
    second = cli.json("map", path.name, "--grid", "n=2")["run_id"]
    assert [second] == [run["run_id"] for run in cli.json("status")["runs"]]


def test_the_checkpoint_mailed_with_its_notebook_goes_on_in_another_folder(done, ran, tmp_path, monkeypatch):
    """Two files are enough: all paths in them are relative."""
    there = tmp_path / "elsewhere"
    there.mkdir()
    for file in (done, done.with_name(done.name + ".nbflow.json")):
        shutil.move(file, there)
    monkeypatch.chdir(there)
    run = nbflow.resume("work.ipynb", quiet=True)
    assert {1: 1, 2: 1, 3: 2} == ran.times()
    assert [{"square": 1}, {"square": 4}, None] == run.results
    assert there in run.folder.parents


def test_a_run_of_another_folder_is_found_by_the_beginning_of_its_id(done, ran, cli, tmp_path, monkeypatch):
    """From any folder above it."""
    monkeypatch.chdir(tmp_path)
    run_id = nbflow.status(done).id
    cli.folder = tmp_path
    cli("resume", run_id[:-2], "-q", code=1)
    assert {1: 1, 2: 1, 3: 2} == ran.times()


@pytest.mark.long
def test_runs_in_a_state_directory_leave_nothing_beside_the_notebook(notebook, ran, cli, folder, tmp_path):
    """And they resume from there."""
    path = notebook(ran.cell, "assert n != 3")
    state = tmp_path / "state"
    cli("map", path.name, "--grid", "n=1,3", "--state-dir", state, "-q", code=1)
    assert [path] == list(folder.iterdir())
    cli("resume", path.name, "--state-dir", state, "-q", code=1)
    assert {1: 1, 3: 2} == ran.times()
    assert "failed" == cli.json("status", path.name, "--state-dir", state)["status"]
    assert [path] == list(folder.iterdir())


@pytest.mark.long
def test_files_of_kept_results_that_are_gone_are_told_of(notebook, ran, folder):
    """The item stays kept, for nobody needs the file; the run says so."""
    path = notebook(ran.cell, "import pandas as pd\nassert n != 3", results="table = pd.DataFrame({'x': [n]})")
    run = nbflow.map(path, grid={"n": [1, 3]}, max_concurrency=2, quiet=True)
    Path(run.folder, run[0].output["table"].path).unlink()
    run = nbflow.resume(path, quiet=True)
    assert {1: 1, 3: 2} == ran.times()
    assert any("files of kept results are gone" in w.message or "file of kept" in w.message for w in run.warnings)


def test_a_second_resume_is_refused_while_one_is_at_work(done, ran, cli, folder, tmp_path, until):
    """Exit code 2, with the process that works at it; nothing runs twice."""
    gate = tmp_path / "go"
    body = f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.05)"
    made = nbformat.read(done, 4)
    made.cells[2].source = body
    nbformat.write(made, done)
    first = cli.start("resume", done.name, "--changed", "keep", "-q")
    until(lambda: ran.times()[3] == 2)
    refused = cli("resume", done.name, code=2)
    assert f"process {first.pid}" in refused.stderr.splitlines()[0]
    assert "nbflow cancel" in refused.stderr
    with pytest.raises(LockedError):
        nbflow.map(done, grid={"n": [1]}, resume=True, changed="keep", quiet=True)
    gate.touch()
    first.communicate(timeout=60)
    assert 0 == first.returncode
    assert {1: 1, 2: 1, 3: 2} == ran.times()


@pytest.mark.long
def test_an_item_that_is_run_again_is_shown_at_work_and_its_log_is_followed(notebook, ran, cli, folder, until):
    """Not as it ended before; what it prints now comes, until it ends."""
    path = notebook(ran.cell, "print('then')\nassert n != 1")
    cli("map", path.name, "--grid", "n=1,2", "-q", code=1)
    notebook(ran.cell, "import time\nprint('now')\nwhile not os.path.exists('go'): time.sleep(0.05)")
    process = cli.start("resume", path.name, "--changed", "keep", "-q")
    until(lambda: ran.times()[1] == 2)
    said = cli.json("status", path.name)
    assert ["running", "completed"] == [item["status"] for item in said["items"]]
    run = nbflow.status(path)
    assert (1, 0, []) == (run.progress.counts["completed"], run.progress.waiting, run.failures)
    following = cli.start("logs", path.name, "0", "-f")
    until(lambda: following.poll() is not None or following.stdout.readline() == "now\n")
    (folder / "go").touch()
    process.communicate(timeout=60)
    out, _ = following.communicate(timeout=60)
    assert (True, False) == ("--- cell 4\n" in out, "then" in out)
    assert (0, 0) == (process.returncode, following.returncode)
    assert ["completed", "completed"] == [item.status for item in run.outcomes]


def test_a_detached_resume_is_at_work_when_the_command_comes_back(notebook, ran, cli, tmp_path, until):
    """What it prints is how the run stands now, not how it stood before."""
    gate = tmp_path / "go"
    wait = f"import os, time\nwhile n == 2 and not os.path.exists({str(gate)!r}): time.sleep(0.05)"
    path = notebook(ran.cell, wait)
    cli("map", path.name, "--grid", "n=1", "-q")
    said = cli.json("map", path.name, "--grid", "n=1,2", "--resume", "--detach")
    assert "running" == said["status"]
    assert {1: "completed"} == {i["parameters"]["n"]: i["status"] for i in said["items"] if i["output"]}
    gate.touch()
    until(lambda: nbflow.status(path).status == "completed")
    assert {1: 1, 2: 1} == ran.times()


@pytest.mark.long
@pytest.mark.parametrize(("asked", "times"), [(["--force"], {1: 2, 2: 2}), (["--only", "n=2"], {1: 1, 2: 2})])
def test_what_is_asked_to_run_again_does_so_detached_too(asked, times, notebook, ran, cli, until):
    """The process of its own is told of it."""
    path = notebook(ran.cell)
    cli("map", path.name, "--grid", "n=1,2", "-q")
    cli("resume", path.name, *asked, "--detach")
    until(lambda: nbflow.status(path).status == "completed")
    assert times == ran.times()


def test_a_finished_run_says_that_there_is_nothing_to_do(notebook, ran, cli, folder):
    """In words, in JSON, in Python; and the journal is not touched."""
    path = notebook(ran.cell)
    cli("map", path.name, "--grid", "n=1", "-q")
    journal = next((folder / "nbflow-runs").rglob("journal.jsonl"))
    before = journal.read_bytes()
    said = cli("resume", path.name).stdout
    assert f"nothing to do: the only item of run {nbflow.status(path).id} is done\n" == said
    said = cli.json("resume", path.name)
    assert ("completed", [{"square": 1}]) == (said["status"], [item["output"] for item in said["items"]])
    assert "completed" == nbflow.resume(path, quiet=True).status
    assert before == journal.read_bytes()
    assert {1: 1} == ran.times()
    assert "completed" == json.loads((folder / "work.ipynb.nbflow.json").read_text())["status"]
