"""``nbflow.map`` and ``nbflow map`` with real kernels: what comes back, and what it leaves alone."""

from __future__ import annotations

import inspect
import json
import math
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import nbflow
from nbflow import api
from nbflow import cli as command_line
from nbflow.cli import work

MIXED = """\
import math
half = math.nan if n == 1 else n / 2
if n == 3:
    raise ValueError("three is too many")
"""


def test_json_of_map_status_and_results_is_one_object_of_the_promised_shape(notebook, cli):
    """``--json`` prints run, status, checkpoint and items, NaN and failures included, and nothing else."""
    path = notebook(MIXED, results="{'half': half, 'n_seen': n}\nseen = n")
    said = cli.json("map", path.name, "--grid", "n=1,3", "-p", "m=7", code=2)
    assert {"error"} == set(said), "an unknown parameter is refused, in JSON too"
    said = cli.json("map", path.name, "--grid", "n=1,3", "--output", "half", code=1)
    assert ["run_id", "status", "checkpoint", "items"] == list(said)
    assert "failed" == said["status"]
    assert str(path) + ".nbflow.json" == said["checkpoint"]
    first, second = said["items"]
    assert [
        "index", "parameters", "status", "output", "error", "attempts", "seconds", "notebook"
    ] == list(first)  # fmt: skip
    assert (0, {"n": 1}, "completed", None, 1) == tuple(
        first[k] for k in ("index", "parameters", "status", "error", "attempts")
    )
    assert math.isnan(nbflow.status(path)[0].output["half"])
    assert {"half": {"$nbflow": "float", "text": "nan"}} == first["output"], "NaN is no JSON"
    assert (1, {"n": 3}, "failed", 1) == tuple(second[k] for k in ("index", "parameters", "status", "attempts"))
    error = second["error"]
    assert ["kind", "message", "cell", "traceback"] == list(error)
    assert ("error", "ValueError: three is too many", 2) == (error["kind"], error["message"], error["cell"])
    assert "three is too many" in error["traceback"]
    assert all(Path(item["notebook"]).is_file() for item in said["items"])
    assert said == cli.json("status", path.name)
    assert said == cli.json("results", path.name)


def test_json_of_the_other_verbs_has_the_promised_shape_too(notebook, cli):
    """Plans, resumes, the list of runs, and refusals: the keys, in their order, that a program may rely on."""
    path = notebook("import os\nassert n != 3 or os.path.exists('mended')")
    plan = cli.json("map", path.name, "--grid", "n=1,3", "--dry-run")
    assert ["run_id", "items"] == list(plan)
    assert {"index": 0, "item": "n=1", "runs": True, "reason": "never ran"} == plan["items"][0]
    run = cli.json("map", path.name, "--grid", "n=1,3", code=1)
    plan = cli.json("resume", path.name, "--dry-run")
    assert (run["run_id"], {"index": 0, "item": "n=1", "runs": False, "reason": "kept"}) == (
        plan["run_id"],
        plan["items"][0],
    )
    (path.parent / "mended").touch()
    again = cli.json("resume", path.name)
    assert [list(run), list(run["items"][0])] == [list(again), list(again["items"][0])]
    assert [(0, "completed", 1), (1, "completed", 2)] == [
        (item["index"], item["status"], item["attempts"]) for item in again["items"]
    ], "kept items are told with the others"
    assert again == cli.json("resume", path.name), "also where there is nothing to do"
    broken = path.parent / "nbflow-runs" / path.name / "20000101-000000-0000"
    broken.mkdir()
    (broken / "journal.jsonl").write_text("no line\n{}\n")
    listed = cli.json("status")
    assert ["runs", "unreadable"] == list(listed)
    assert ["run_id", "name", "status", "done", "total", "failed", "started", "size"] == list(listed["runs"][0])
    assert (run["run_id"], path.name, "completed", 2, 2, 0) == tuple(list(listed["runs"][0].values())[:6])
    assert 1 == len(listed["unreadable"])
    refused = cli.json("resume", path.name, "-p", "m=1", code=2)
    assert ["message", "remedy"] == list(refused["error"])
    assert "m" in refused["error"]["message"]
    assert refused["error"]["remedy"]


def test_what_map_returns_tells_all_of_the_run(notebook):
    """Results in item order, outcomes, failures, a table whose clashes are told apart, and ``check`` that raises."""
    path = notebook(MIXED, results="seconds = n * 10\nsquare = n * n")
    run = nbflow.map(path, grid={"n": [3, 2]}, max_concurrency=2, quiet=True)
    assert "failed" == run.status
    assert [None, {"seconds": 20, "square": 4}] == run.results
    assert [(0, "failed"), (1, "completed")] == [(item.index, item.status) for item in run.outcomes]
    assert ["n=3"] == [item.label for item in run.failures]
    assert run["n=2"] == run[1]
    frame = run.to_frame()
    assert [
        "index", "n", "result.seconds", "square", "status", "seconds", "attempts", "error", "notebook"
    ] == list(frame.columns)  # fmt: skip
    assert 20 == frame["result.seconds"][1]
    assert [3, 2] == list(frame["n"])
    assert frame["error"][0] == "ValueError: three is too many"
    with pytest.raises(nbflow.RunFailedError, match=r"1 of 2 failed") as raised:
        run.check()
    assert "n=3  cell 2  ValueError: three is too many" in str(raised.value)
    assert 1 == raised.value.exit_code


def test_frames_of_all_items_come_as_one_with_the_parameters_as_columns(notebook):
    """``to_frame('table')`` puts the items' frames below each other."""
    path = notebook("import pandas as pd", results="table = pd.DataFrame({'x': [n, n + 1]})")
    run = nbflow.map(path, grid={"n": [1, 5]}, max_concurrency=2, quiet=True).check()
    frame = run.to_frame("table")
    assert [(1, 1), (1, 2), (5, 5), (5, 6)] == list(frame[["n", "x"]].itertuples(index=False, name=None))
    assert [5, 6] == list(run.load("n=5", "table")["x"])
    with pytest.raises(nbflow.RefusedError, match="no item has a result 'other'"):
        run.to_frame("other")


# -- options -------------------------------------------------------------------------------------------------------


OPTIONS = {"max_concurrency": "-j", "parameters": "-p", "from_": "--from", "target": "target", "notebook": "notebook"}
"""Keywords whose option is called otherwise: short where it is typed often."""


@pytest.mark.parametrize("verb", ["map", "resume"])
def test_every_option_has_a_keyword_of_the_same_name_and_default(verb):
    """Command line and Python differ only where they must: ``--json`` prints, ``on_event=`` takes a function."""
    command = command_line.nbflow.commands[verb]
    values = command.make_context(verb, ["x"]).params
    options = {spelled: values[p.name] for p in command.params for spelled in p.opts}
    keywords = {
        OPTIONS.get(name, "--" + name.replace("_", "-")): p.default
        for name, p in inspect.signature(getattr(nbflow, verb)).parameters.items()
        if name not in ("unknown", "on_event")
    }
    assert [] == [p.opts for p in command.params if not {*p.opts, "--json"} & set(keywords) and "--json" not in p.opts]
    for option, default in keywords.items():
        assert option in options
        if default is inspect.Parameter.empty:
            assert "x" == options[option]
        elif default in (None, (), "ask"):
            assert options[option] in (None, ()), option
        else:
            assert (default, type(default)) == (options[option], type(options[option])), option


@pytest.fixture
def asked(notebook, folder, tmp_path, monkeypatch):
    """What a verb would work at, as the command line and as Python ask for it: ``asked("map", words, keywords)``."""
    path = notebook(parameters="n = 0\nm = 0")
    (folder / "t.csv").write_text("n,m\n1,1\n2,2\n")
    (spec := tmp_path / "jupyter" / "kernels" / "other").mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Other", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    nbflow.map(path, grid={"n": [1, 2]}, quiet=True, state_dir="state")  # what there is to resume
    requests = []
    monkeypatch.setattr(api, "work", lambda request, interrupts, **more: requests.append(request))
    monkeypatch.setattr(work.Show, "go", lambda show, request, interrupts, **more: requests.append(request))

    def ask(verb, words=(), keywords=None):
        with pytest.raises(SystemExit) as end:
            command_line.main([verb, path.name, *words])
        assert not end.value.code
        getattr(nbflow, verb)(path.name, **(keywords or {}))
        by_words, by_keywords = [
            (r.home, r.definition, r.workers, r.take_over, r.forgets, r.recorded.only, r.stored is not None)
            for r in requests[-2:]
        ]
        assert by_words == by_keywords
        return by_words

    return ask


MAP_OPTIONS = [
    (["--items", "t.csv"], {"items": "t.csv"}),
    (["--items", "t.csv", "--columns", "m"], {"items": "t.csv", "columns": ["m"]}),
    (["--grid", "n=1,2", "--grid", "m=3"], {"grid": {"n": [1, 2], "m": [3]}}),
    (["--zip", "n=1,2", "--zip", "m=3,4"], {"zip": {"n": [1, 2], "m": [3, 4]}}),
    (["-p", "m=7"], {"parameters": {"m": 7}}),
    (["-j", "17"], {"max_concurrency": 17}),
    (["--kernel", "other"], {"kernel": "other"}),
    (["--output", "square"], {"output": ["square"]}),
    (["--output-dir", "out"], {"output_dir": "out"}),
    (["--output-dir", "out", "--name", "{index}"], {"output_dir": "out", "name": "{index}"}),
    (["--cwd", "item"], {"cwd": "item"}),
    (["--timeout", "5m"], {"timeout": "5m"}),
    (["--retry", "2"], {"retry": 2}),
    (["--fail-fast"], {"fail_fast": True}),
    (["--max-failures", "2"], {"max_failures": 2}),
    (["--changed", "keep"], {"changed": "keep"}),
    (["--secret", "RAN"], {"secret": ["RAN"]}),
    (["--state-dir", "state"], {"state_dir": "state"}),
]


def test_an_option_of_map_asks_for_what_its_keyword_asks_for(asked):
    """Each alone, with a value that is not the default: none is dropped on its way."""
    seen = [asked("map")]
    for words, keywords in MAP_OPTIONS:
        found = asked("map", words, keywords)
        assert found not in seen, f"{words} makes no difference"
        seen.append(found)


RESUME_OPTIONS = [
    (["-p", "m=7"], {"parameters": {"m": 7}}),
    (["-j", "17"], {"max_concurrency": 17}),
    (["--changed", "rerun"], {"changed": "rerun"}),
    (["--from", "n=2"], {"from_": "n=2"}),
    (["--only", "n=2"], {"only": "n=2"}),
    (["--force"], {"force": True}),
    (["--take-over"], {"take_over": True}),
]


def test_an_option_of_resume_asks_for_what_its_keyword_asks_for(asked):
    """As of map, of a run that is kept elsewhere; and ``map --resume`` is ``nbflow.map(resume=True)``."""
    grid, state = ["--grid", "n=1,2", "--state-dir", "state"], {"state_dir": "state"}
    seen = [asked("resume", grid[2:], state)]
    for words, keywords in RESUME_OPTIONS:
        found = asked("resume", [*words, *grid[2:]], {**keywords, **state})
        assert found not in seen, f"{words} makes no difference"
        seen.append(found)
    again = asked("map", [*grid, "--resume"], {"grid": {"n": [1, 2]}, "resume": True, **state})
    assert again != asked("map", grid, {"grid": {"n": [1, 2]}, **state})


def test_a_wrong_keyword_is_refused_with_the_right_one(notebook):
    """People who know joblib or papermill are told the name."""
    path = notebook()
    with pytest.raises(TypeError, match=r"no keyword 'n_jobs'\. Did you mean 'max_concurrency'"):
        nbflow.map(path, n_jobs=2)
    with pytest.raises(TypeError, match=r"Did you mean 'max_concurrency'"):
        nbflow.map(path, workers=2)


def test_a_dry_run_writes_nothing(notebook, cli, folder):
    """It says what would run, and leaves the folder as it was."""
    path = notebook()
    said = cli("map", path.name, "--grid", "n=1,2", "--dry-run")
    assert "2 items would run" in said.stdout
    assert [path] == list(folder.iterdir())
    planned = nbflow.map(path, grid={"n": [1, 2]}, dry_run=True)
    assert [(0, True, "never ran"), (1, True, "never ran")] == [(p.index, p.runs, p.reason) for p in planned]
    assert [path] == list(folder.iterdir())


def test_no_items_complete_at_once(notebook):
    """An empty list of items is no error."""
    run = nbflow.map(notebook(), items=[], quiet=True)
    assert ("completed", []) == (run.status, run.results)


def test_quiet_says_nothing_until_something_fails(notebook, cli):
    """For cron: nothing on success; else the summary on stderr."""
    path = notebook("assert n != 3")
    well = cli("map", path.name, "--grid", "n=1", "--quiet")
    assert ("", "") == (well.stdout, well.stderr)
    ill = cli("map", path.name, "--grid", "n=3", "--quiet", code=1)
    assert "" == ill.stdout
    assert "1 of 1 failed" in ill.stderr


def test_fail_fast_starts_nothing_after_the_first_failure(notebook, ran):
    """The items behind it stay untouched, and the run is failed."""
    path = notebook(ran.cell, "assert n != 1")
    run = nbflow.map(path, grid={"n": [0, 1, 2, 3]}, max_concurrency=1, fail_fast=True, quiet=True)
    assert "failed" == run.status
    assert {0: 1, 1: 1} == ran.times()


def test_finished_notebooks_are_copied_under_the_names_that_were_asked_for(notebook, cli, folder):
    """``--output-dir`` with ``--name``."""
    path = notebook("assert n != 3")
    cli("map", path.name, "--grid", "n=2,3", "--output-dir", "out", "--name", "square-{n}", code=1)
    assert ["square-2.ipynb"] == [file.name for file in (folder / "out").iterdir()]


def test_a_detached_run_is_at_work_on_its_own(notebook, cli, folder, tmp_path, until):
    """The command comes back while the run works; its process goes on and completes it."""
    gate = tmp_path / "go"
    path = notebook(f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.05)")
    said = cli("map", path.name, "--grid", "n=1,2", "--detach")
    assert "is at work on its own" in said.stdout
    assert "running" == cli.json("status", path.name)["status"]
    cli("resume", path.name, code=2)
    gate.touch()
    until(lambda: nbflow.status(path).status == "completed")
    assert [{"square": 1}, {"square": 4}] == nbflow.results(path)


# -- directories ---------------------------------------------------------------------------------------------------


def test_eight_notebooks_in_eight_directories_at_once_each_work_in_their_own(notebook, folder):
    """Each writes a relative file and imports the module beside it; the caller's directory never changes."""
    paths = []
    for number in range(8):
        paths.append(
            notebook(
                "import here\nopen('wrote.txt', 'w').write(str(here.number + n))",
                results="number = here.number",
                name=f"d{number}/work.ipynb",
            )
        )
        (folder / f"d{number}" / "here.py").write_text(f"number = {number}\n")
    before, changes, seen, over = Path.cwd(), [], set(), threading.Event()
    sys.addaudithook(
        lambda name, _: changes.append(name) if name in ("os.chdir", "os.fchdir") and not over.is_set() else None
    )

    def watch():
        while not over.wait(0.0005):
            seen.add(Path.cwd())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            runs = list(pool.map(lambda path: nbflow.map(path, grid={"n": [100]}, quiet=True), paths))
    finally:
        over.set()
        watcher.join()
    assert [[{"number": number}] for number in range(8)] == [run.results for run in runs]
    assert [str(100 + number) for number in range(8)] == [p.with_name("wrote.txt").read_text() for p in paths]
    assert {before} == seen
    assert [] == changes


MODEL = """\
import time
from pathlib import Path
time.sleep(0.3)
Path("model.pkl").write_text(str(n))
time.sleep(1.5)
kept = int(Path("model.pkl").read_text())
"""


def test_items_that_write_the_same_file_are_warned_about_and_right_in_folders_of_their_own(notebook, cli, folder):
    """By default the warning names the file, both items and the remedy; with the remedy all four are right."""
    path = notebook(MODEL, results="kept = kept")
    run = nbflow.map(path, grid={"n": [1, 2, 3, 4]}, max_concurrency=4, quiet=True)
    told = [warning.message for warning in run.warnings]
    assert 1 == len(told), told
    assert "both wrote model.pkl: --cwd item gives each its own folder" in told[0]
    assert 2 == len({word for word in told[0].split() if word.startswith("n=")})
    (folder / "model.pkl").unlink()
    run = nbflow.map(path, grid={"n": [1, 2, 3, 4]}, max_concurrency=4, cwd="item", quiet=True)
    assert [{"kept": n} for n in (1, 2, 3, 4)] == run.results
    assert [] == run.warnings
    assert not (folder / "model.pkl").exists()


def test_the_checkpoint_says_what_others_need(notebook, folder):
    """It is JSON with the promised keys, beside the notebook."""
    path = notebook()
    run = nbflow.map(path, grid={"n": [1, 2]}, quiet=True)
    data = json.loads((folder / "work.ipynb.nbflow.json").read_text())
    assert {"run_id", "status", "owner", "workflow", "inputs", "nodes", "counts"} <= set(data)
    assert (run.id, "completed", 2) == (data["run_id"], data["status"], data["counts"]["completed"])
