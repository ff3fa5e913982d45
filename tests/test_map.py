"""``nbflow.map`` and ``nbflow map`` with real kernels: what comes back, and what it leaves alone."""

from __future__ import annotations

import inspect
import json
import math
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import pytest

import nbflow
from nbflow import api
from nbflow import cli as command_line
from nbflow.api.showing import write_table
from nbflow.cli import work
from nbflow.errors import LibraryError, StoreError

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


@pytest.mark.long
def test_the_checkpoint_of_a_run_is_its_own_also_when_a_newer_one_began(notebook, cli, folder, until):
    """The one beside the notebook is the newer run's; one that was still at work then has its own, others have none."""
    path = notebook("import os, time\nwhile n < 0 and not os.path.exists('go'): time.sleep(0.05)")
    first = cli.json("map", path.name, "--grid", "n=1")["run_id"]
    second = cli.start("map", path.name, "--grid", "n=-2", "-q")
    until(lambda: nbflow.status(path).id != first and nbflow.status(path).progress.active)
    working = nbflow.status(path)
    third = cli.json("map", path.name, "--grid", "n=3")
    (folder / "go").touch()
    second.communicate(timeout=60)
    beside = f"{path}.nbflow.json"
    assert [None, str(working.folder / "checkpoint.json"), beside] == [
        cli.json("status", run_id)["checkpoint"] for run_id in (first, working.id, third["run_id"])
    ]
    assert (working.folder / "checkpoint.json", Path(beside)) == (working.checkpoint, nbflow.status(path).checkpoint)
    assert working.id == json.loads(working.checkpoint.read_text())["run_id"]
    Path(beside).write_text("{")
    assert beside == cli.json("status", third["run_id"])["checkpoint"]


@pytest.mark.long
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


INDEXED = """\
import pandas as pd
days = pd.DataFrame({'x': [n, n + 1]}, index=pd.Index(['mon', 'tue'], name='day'))
parts = pd.DataFrame({'n': [n], 'index': [0], 'x': [1]}, index=pd.MultiIndex.from_tuples([(1, 2)], names=['x', None]))
series = pd.Series([n / 2], index=[pd.Timestamp('2026-01-05')], name='half')
plain = pd.DataFrame({'x': [n]})
"""


def test_the_index_of_frames_becomes_columns(notebook):
    """Dates and names of rows are data; clashes are told apart, and the number of a row stays what it is."""
    run = nbflow.map(
        notebook(INDEXED, results="days\nparts\nseries\nplain"), grid={"n": [1, 5]}, max_concurrency=2, quiet=True
    )
    assert [(1, "mon", 1), (1, "tue", 2), (5, "mon", 5), (5, "tue", 6)] == list(
        run.to_frame("days")[["n", "day", "x"]].itertuples(index=False, name=None)
    )
    parts = run.to_frame("parts")
    assert ["parameter.n", "index.x", "level_1", "n", "index", "x"] == list(parts.columns)
    assert [(1, 1, 2, 1), (5, 1, 2, 5)] == list(
        parts[["parameter.n", "index.x", "level_1", "n"]].itertuples(index=False, name=None)
    )
    assert ["n", "index", "half"] == list(run.to_frame("series").columns)
    assert ["2026-01-05", "2026-01-05"] == [str(day.date()) for day in run.to_frame("series")["index"]]
    assert ["n", "x"] == [column.removeprefix("parameter.") for column in run.to_frame("plain").columns]
    assert [0, 1] == list(run.to_frame("plain").index)


def test_any_results_can_be_written_as_parquet(notebook, cli, folder):
    """Frames and arrays by their path, lists and mappings as JSON, as in the CSV."""
    import pandas as pd

    path = notebook(
        "import pandas as pd, numpy as np",
        results="table = pd.DataFrame({'x': [n]})\narray = np.arange(3)\nparts = [n, {'a': 1.5}]\nbig = n * 2**70",
    )
    cli("map", path.name, "--grid", "n=1,2", "--output", "table,array,parts", "-q")
    cli("results", path.name, "-o", "r.parquet")
    written = pd.read_parquet(folder / "r.parquet")
    assert ['[1,{"a":1.5}]', '[2,{"a":1.5}]'] == list(written["parts"])
    assert [1, 1] == [len(pd.read_parquet(place)) for place in written["table"]]
    assert [".npy", ".npy"] == [Path(place).suffix for place in written["array"]]
    assert ["completed", "completed"] == list(written["status"])


def test_results_that_no_parquet_can_hold_leave_the_old_file_and_say_so(notebook, cli, folder, monkeypatch):
    """Text beside numbers in one column; or nothing here that writes such files."""
    path = notebook(parameters="n = None", results="twice = n * 2")
    run = nbflow.map(path, items=[{"n": 1}, {"n": "a"}], max_concurrency=2, quiet=True).check()
    (folder / "r.parquet").write_bytes(b"old")
    said = cli("results", path.name, "-o", "r.parquet", code=2)
    assert said.stderr.startswith("error: -o r.parquet: Could not convert 'a'")
    assert "  Write .csv or .json, which hold any values.\n" in said.stderr
    assert b"old" == (folder / "r.parquet").read_bytes()
    for library in ("pyarrow", "fastparquet"):
        monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(LibraryError, match=r"needs pandas and pyarrow\n  pip install 'nbflow\[frames\]'"):
        write_table(run, folder / "r.parquet")


# -- options -------------------------------------------------------------------------------------------------------


OPTIONS = {"max_concurrency": "-j", "parameters": "-p", "from_": "--from"} | {
    name: name for name in ("target", "notebook", "workflow")
}
"""Keywords whose option is called otherwise: short where it is typed often."""


@pytest.mark.parametrize("verb", ["map", "run", "resume"])
def test_every_option_has_a_keyword_of_the_same_name_and_default(verb):
    """Command line and Python differ only where they must: ``--json`` prints, ``on_event=`` takes a function.

    A kernel that is kept lives as long as its process, and a command ends.
    """
    command = command_line.nbflow.get_command(click.Context(command_line.nbflow), verb)
    helped = command_line.nbflow.context_settings["help_option_names"]  # a command keeps those it was first called with
    values = command.make_context(verb, ["x"], help_option_names=helped).params
    names = OPTIONS | ({"max_workers": "-j", "inputs": "-i"} if verb == "run" else {})
    options = {spelled: values[p.name] for p in command.params for spelled in p.opts}
    keywords = {
        names.get(name, "--" + name.replace("_", "-")): p.default
        for name, p in inspect.signature(getattr(nbflow, verb)).parameters.items()
        if name not in ("unknown", "on_event", "keep_kernel_on_failure")
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
    (["--memory", "2GB"], {"memory": "2GB"}),
    (["--max-memory", "80%"], {"max_memory": "80%"}),
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
    (["--memory", "2GB"], {"memory": "2GB"}),
    (["--max-memory", "80%"], {"max_memory": "80%"}),
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


def test_numbers_below_zero_keep_their_sign_in_file_names(notebook, cli, folder):
    """``-1`` and ``1`` are two copies, and the executed notebook of ``-1`` is not called as that of ``1``."""
    path = notebook("assert n != -1", parameters="n = 0.0")
    grid = ["--grid", "n=-1,-2,2", "--output-dir", "out", "--name", "{n}"]
    cli("map", path.name, *grid, code=1)
    assert ["-2.0.ipynb", "2.0.ipynb"] == sorted(file.name for file in (folder / "out").iterdir())
    assert ["0_-1.0.failed.ipynb"] == [file.name for file in (folder / "nbflow-runs").rglob("*.failed.ipynb")]


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


@pytest.mark.long
def test_a_run_that_is_at_work_is_named_by_map_and_by_clean(notebook, cli, tmp_path, until):
    """Who starts another one reads of the first; who cleans reads why it stays. Afterwards nothing of it is said."""
    gate = tmp_path / "go"
    path = notebook(f"import os, time\nwhile n and not os.path.exists({str(gate)!r}): time.sleep(0.05)")
    first = cli.start("map", path.name, "--grid", "n=1", "-q")
    until((path.parent / "work.ipynb.nbflow.json").exists)
    run = nbflow.status(path)
    until(lambda: run.status == "running")
    said = cli("clean", run.id).stdout
    assert (
        f"run {run.id} is at work in process {first.pid}, and stays; it is ended by: nbflow cancel {run.id}\n" == said
    )
    assert said == cli("clean", path.name, "--keep", "0").stdout
    second = cli("map", path.name, "--grid", "n=0").stderr
    assert f"{run.id} is at work in process {first.pid}: nbflow status {run.id}" in second.splitlines()
    gate.touch()
    assert 0 == first.wait(60)
    assert "is at work" not in cli("map", path.name, "--grid", "n=0").stderr


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


@pytest.mark.long
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


def test_a_file_that_another_item_wrote_again_is_refused_with_what_keeps_them_apart(notebook):
    """To run one of them again would only break the other; in folders of their own both are whole."""
    path = notebook("from pathlib import Path\nPath('out.txt').write_text(str(n))", results="out = Path('out.txt')")
    run = nbflow.map(path, grid={"n": [1, 2]}, max_concurrency=1, quiet=True)
    with pytest.raises(StoreError, match="it was changed since") as caught:
        run.load(0, "out")
    assert "nbflow map work.ipynb ... --cwd item" in caught.value.remedy
    assert "nbflow resume work.ipynb --only 0" in caught.value.remedy
    run = nbflow.map(path, grid={"n": [1, 2]}, max_concurrency=1, cwd="item", quiet=True)
    assert ["1", "2"] == [run.load(index, "out").read_text() for index in range(2)]
    run.load(1, "out").unlink()
    with pytest.raises(StoreError, match="is gone") as caught:
        run.load(1, "out")
    assert "Run the item again: nbflow resume work.ipynb --only 1" == caught.value.remedy


def test_the_checkpoint_says_what_others_need(notebook, folder):
    """It is JSON with the promised keys, beside the notebook."""
    path = notebook()
    run = nbflow.map(path, grid={"n": [1, 2]}, quiet=True)
    data = json.loads((folder / "work.ipynb.nbflow.json").read_text())
    assert {"run_id", "status", "owner", "workflow", "inputs", "nodes", "counts"} <= set(data)
    assert (run.id, "completed", 2) == (data["run_id"], data["status"], data["counts"]["completed"])


def test_the_folder_of_an_item_that_nobody_wrote_into_goes_with_its_kernel(notebook):
    """What is left in a run folder was made by a notebook, or says something."""
    run = nbflow.map(notebook(), grid={"n": [1, 2]}, quiet=True)
    assert [] == list((run.folder / "items").iterdir())
