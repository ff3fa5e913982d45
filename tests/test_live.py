"""Runs in the background: begun, waited for, paused, answered, tried again, and seen by others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nbflow
from nbflow.errors import TargetError
from nbflow.events import Bar, Moved
from nbflow.notebooks.relay import Relay, of_line

WAITS = "import pathlib, time\nwhile not pathlib.Path(f'go{n}').exists(): time.sleep(0.02)"
"""A cell that waits for a file named after its item."""
KEYS = ["state", "method", "_model_name", "children", "value", "max", "description"]
GATED = """\
nbflow: 1
steps:
- {id: one, run: echo 1}
- {id: sure, gate: "Go on?"}
- {id: two, run: echo 2}
"""


def test_start_comes_back_at_once_with_the_run_at_work(notebook: Any, folder: Path) -> None:
    run = nbflow.start(notebook(WAITS), grid={"n": [1, 2]}, quiet=True)
    assert "running" == run.status
    assert run.at_work
    (folder / "go1").touch()
    (folder / "go2").touch()
    assert run.wait() is run
    assert "completed" == run.status
    assert [{"square": 1}, {"square": 4}] == run.results
    assert not run.at_work


def test_waiting_has_a_limit_that_leaves_the_run_alone(notebook: Any, folder: Path) -> None:
    run = nbflow.start(notebook(WAITS), grid={"n": [1]}, quiet=True)
    with pytest.raises(TimeoutError, match=r"is still at work after 0\.1 s"):
        run.wait(0.1)
    assert run.at_work
    (folder / "go1").touch()
    assert "completed" == run.wait(60).status


def test_a_run_is_awaited_beside_other_tasks(notebook: Any, folder: Path) -> None:
    async def main() -> Any:
        run = nbflow.start(notebook(WAITS), grid={"n": [1]}, quiet=True)
        await asyncio.sleep(0.05)
        (folder / "go1").touch()
        return await run

    assert "completed" == asyncio.run(main()).status


def test_a_paused_run_starts_nothing_new_until_it_goes_on(
    notebook: Any, folder: Path, until: Callable[..., None]
) -> None:
    """What runs goes on; whoever looks from outside sees it, too; cancel ends it also then."""
    path = notebook(WAITS)
    run = nbflow.start(path, grid={"n": [1, 2, 3]}, max_concurrency=1, quiet=True)
    until(lambda: run.progress.active)
    run.pause()
    until(lambda: run.status == "paused")
    until(lambda: nbflow.status(path).status == "paused")
    (folder / "go1").touch()
    until(lambda: run.progress.counts["completed"] == 1)
    time.sleep(0.3)
    assert {} == run.progress.active
    run.unpause()
    until(lambda: run.progress.active)
    assert "running" == run.status
    run.pause()
    run.cancel()
    assert "interrupted" == run.wait(30).status


def test_another_process_is_paused_and_goes_on(notebook: Any, folder: Path, cli: Any, until: Any) -> None:
    path = notebook(WAITS)
    cli.start("map", path.name, "--grid", "n=1,2", "-j", "1", "-q")
    until(lambda: (folder / "work.ipynb.nbflow.json").exists() and nbflow.status(path).progress.active)
    run = nbflow.status(path)
    run.pause()
    until(lambda: run.status == "paused")
    assert "running (paused: nothing new starts)" in cli("status", path.name).stdout
    for n in (1, 2):
        (folder / f"go{n}").touch()
    until(lambda: run.progress.counts["completed"] == 1)
    run.unpause()
    assert "completed" == run.wait(60).status
    with pytest.raises(TargetError, match="is not at work"):
        run.pause()


def test_what_failed_is_tried_again_and_nothing_else(notebook: Any, folder: Path, ran: Any) -> None:
    fails = "import pathlib\nif n == 2 and not pathlib.Path('fine').exists(): raise KeyError('rain')"
    run = nbflow.start(notebook(ran.cell, fails), grid={"n": [1, 2, 3]}, quiet=True).wait()
    assert "failed" == run.status
    (folder / "fine").touch()
    assert run.retry_failed() is run
    assert "completed" == run.wait().status
    assert {1: 1, 2: 2, 3: 1} == ran.times()
    assert [{"square": 1}, {"square": 4}, {"square": 9}] == run.results


def test_a_run_that_was_only_looked_up_is_tried_again_too(notebook: Any, folder: Path) -> None:
    path = notebook("import pathlib\nif not pathlib.Path('fine').exists(): raise KeyError('rain')")
    assert "failed" == nbflow.map(path, grid={"n": [1]}, quiet=True).status
    (folder / "fine").touch()
    assert "completed" == nbflow.status(path).retry_failed().wait().status


def test_what_is_at_work_is_not_tried_again(notebook: Any, folder: Path) -> None:
    run = nbflow.start(notebook(WAITS), grid={"n": [1]}, quiet=True)
    with pytest.raises(TargetError, match="is at work"):
        run.retry_failed()
    (folder / "go1").touch()
    run.wait()


def test_a_gate_is_answered_and_a_paused_run_goes_on(folder: Path) -> None:
    (folder / "flow.yml").write_text(GATED)
    run = nbflow.start("flow.yml", quiet=True).wait()
    assert "paused" == run.status
    run.answer("sure", "approve")
    assert "completed" == run.wait().status
    assert "approve" == run.results["sure"]["choice"]


def test_attach_gives_the_run_of_this_process(notebook: Any, folder: Path) -> None:
    path = notebook(WAITS)
    run = nbflow.start(path, grid={"n": [1]}, quiet=True)
    assert nbflow.attach(path) is run
    (folder / "go1").touch()
    run.wait()
    assert "completed" == nbflow.attach(path).status


def test_a_detached_run_is_waited_for(notebook: Any, folder: Path) -> None:
    run = nbflow.start(notebook(WAITS), grid={"n": [1]}, detach=True, quiet=True)
    assert run.at_work
    (folder / "go1").touch()
    assert "completed" == run.wait(60).status


def test_wrong_words_are_refused_as_by_map_and_run(notebook: Any, folder: Path) -> None:
    with pytest.raises(TypeError, match="Did you mean 'max_concurrency'"):
        nbflow.start(notebook(), grid={"n": [1]}, n_jobs=2)
    (folder / "flow.yml").write_text(GATED)
    with pytest.raises(TypeError, match="Did you mean 'inputs'"):
        nbflow.start("flow.yml", parameters={})


def test_an_executed_notebook_is_linked_and_read(notebook: Any) -> None:
    run = nbflow.map(notebook("print('hello', n)"), grid={"n": [1, 2]}, quiet=True)
    link = run.open("n=2")
    assert Path(link).is_file()
    assert f'href="{Path(link).relative_to(Path.cwd())}"' in link._repr_html_()
    assert "hello 2\n" == run.load(1).cells[2].outputs[0].text
    with pytest.raises(TargetError):
        run.open("n=3")


def test_a_run_shows_itself_as_a_page(notebook: Any) -> None:
    run = nbflow.map(notebook(), grid={"n": [1, 2]}, quiet=True)
    shown = run._repr_mimebundle_()
    assert repr(run) == shown["text/plain"]
    assert "completed: 2/2" in shown["text/html"]


BARS = {
    "tqdm.auto": ("from tqdm.auto import tqdm\nfor _ in tqdm(range(7), desc='fit'): time.sleep(0.12)", "fit", 7),
    "nested": (
        (
            "from tqdm.notebook import tqdm\nfor _ in tqdm(range(2), desc='outer'):\n"
            "    for _ in tqdm(range(3), desc='inner', leave=False): time.sleep(0.12)"
        ),
        "outer",
        2,
    ),
    "text": (
        "from tqdm import tqdm\nfor _ in tqdm(range(7), desc='fit'): time.sleep(0.12)",
        "fit",
        7,
    ),
    "a widget": (
        (
            "import ipywidgets\nfrom IPython.display import display\n"
            "bar = ipywidgets.IntProgress(max=5, description='mine')\ndisplay(bar)\n"
            "for i in range(5): bar.value = i + 1; time.sleep(0.12)"
        ),
        "mine",
        5,
    ),
}


@pytest.mark.parametrize("kind", BARS)
def test_the_bars_of_a_child_are_relayed(notebook: Any, kind: str) -> None:
    """Nothing is added to it: tqdm's widgets, its text, or a widget of its own."""
    code, text, total = BARS[kind]
    events: list[Any] = []
    nbflow.map(notebook(f"import time\n{code}"), grid={"n": [1]}, on_event=events.append, quiet=True).check()
    shown = [bar for event in events if isinstance(event, Moved) for bar in event.bars if bar.text.startswith(text)]
    assert {float(total)} == {bar.total for bar in shown}
    done = [bar.done for bar in shown]
    assert sorted(done) == done
    assert len(set(done)) >= 3 or total < 3
    assert total in done or kind == "text"


def test_a_bar_without_a_total_is_not_full() -> None:
    relay = Relay()
    relay.opened("bar", {"state": {"_model_name": "FloatProgressModel", "value": 1, "max": 1}})
    relay.opened("words", {"state": {"_model_name": "HTMLModel", "value": "10/? [00:01&lt;?, 9.5it/s]"}})
    children = ["IPY_MODEL_bar", "IPY_MODEL_words"]
    relay.opened("box", {"state": {"_model_name": "HBoxModel", "children": children}})
    assert (Bar("10/? [00:01<?, 9.5it/s]", 1.0, 0.0),) == relay.bars
    relay.closed("box")
    assert () == relay.bars


@pytest.mark.parametrize(
    "state", [None, [], {"_model_name": "FloatProgressModel", "value": "x", "max": None}, {"children": 3}]
)
def test_widgets_that_are_none_do_no_harm(state: Any) -> None:
    relay = Relay()
    relay.opened("a", {"state": state})
    relay.updated("a", {"method": "update", "state": {"children": None}})
    relay.updated("b", {})
    relay.closed("c")
    assert all(bar.total == 0 for bar in relay.bars)


def test_a_line_that_only_looks_like_a_bar_is_none() -> None:
    for line in ("loss 40% | 3", "100%", "a|b|c", "", "50%|#####"):
        assert of_line(line) is None
    told = of_line("50%|#####     | 1.50k/3.00k [00:01<00:01, 1.5kit/s]")
    assert Bar("1.50k/3.00k [00:01<00:01, 1.5kit/s]", 50.0, 100.0) == told


@pytest.mark.parametrize("kernel_start", ["warm", "cold"])
def test_the_kernel_of_a_failed_item_lives_on_for_who_wants_to_look(
    notebook: Any, kernel_start: str, until: Any
) -> None:
    """Its names are as the error left them; it is said how to connect."""
    from jupyter_client import BlockingKernelClient

    path = notebook("clue = n * 100\nif n == 2: raise KeyError('rain')")
    before = {*psutil.Process().children()}
    run = nbflow.map(
        path, grid={"n": [1, 2]}, keep_kernel_on_failure=True, kernel_start=kernel_start, quiet=True, detach=False
    )
    (told,) = [warning.message for warning in run.warnings if "lives on" in warning.message]
    assert told.startswith("n=2: its kernel lives on: jupyter console --existing ")
    client = BlockingKernelClient(connection_file=told.rpartition(" ")[2])
    client.load_connection_file()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=20)
        reply = client.execute("", user_expressions={"clue": "clue"}, silent=True, reply=True, timeout=20)
        assert "200" == reply["content"]["user_expressions"]["clue"]["data"]["text/plain"]
        client.shutdown()
    finally:
        client.stop_channels()
    until(lambda: not Path(client.connection_file).exists())
    left = {*psutil.Process().children()} - before
    assert not left or kernel_start == "warm", "nothing is left when it was ended"


STEPS = """\
from IPython.testing.globalipapp import start_ipython
shell = start_ipython()
shell.run_line_magic("load_ext", "nbflow")
shell.run_cell("%%step load\\nrows = [1, 2, 3]\\ntable = object()")
shell.run_cell("%%step clean\\ntotal = sum(rows)\\nraise KeyError('rain')")
shell.run_cell("%%step clean\\ntotal = sum(rows)\\nlabel: str = 'fine'")
shell.run_cell("%%step load\\nrows = [1, 2, 3, 4]")
shell.run_cell("%%step\\n1")
"""


def test_a_cell_is_a_recorded_step_of_an_interactive_run(folder: Path, cli: Any) -> None:
    """It runs in this kernel, with its names; what came of it stands on disk, for who looks from outside."""
    out, err = cli.start(program=("-c", STEPS)).communicate(timeout=60)
    assert "KeyError" in out
    assert "step clean failed, recorded: nbflow status interactive.steps" in err
    assert "step clean completed" in err
    assert "%%step needs the name of a step" in out + err
    data = cli.json("status", "interactive.steps")
    assert "completed" == data["status"]
    assert {"rows": [1, 2, 3, 4]} == data["nodes"]["load"]["output"]
    assert {"total": 6, "label": "fine"} == data["nodes"]["clean"]["output"]
    assert 1 == len(list((folder / "nbflow-runs" / "interactive.steps").iterdir()))
    said = cli("resume", "interactive.steps", "--only", "clean", code=1)
    assert "is a cell of a notebook, and runs there: %%step clean" in said.stdout + said.stderr


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), inner),
    max_leaves=12,
)


@given(st.lists(st.tuples(st.sampled_from(["opened", "updated", "closed"]), st.sampled_from("abc"), json_values)))
def test_whatever_a_notebook_sends_does_no_harm(messages: Any) -> None:
    relay = Relay()
    for verb, name, data in messages:
        if verb == "closed":
            relay.closed(name)
        else:
            getattr(relay, verb)(name, data)
        assert all(isinstance(bar, Bar) and bar.done == bar.done for bar in relay.bars)


def test_the_newest_of_many_bars_are_seen() -> None:
    relay = Relay()
    for n in range(1000):
        relay.opened(f"layout{n}", {"state": {"_model_name": "LayoutModel"}})
        relay.opened(f"bar{n}", {"state": {"_model_name": "FloatProgressModel", "value": n, "max": 1000}})
    assert 999.0 == relay.bars[-1].done
    assert 200 == len(relay.bars)


@pytest.mark.parametrize("line", ["1" * 40_000, " " * 40_000, "9%" * 20_000, "1%|" + "#" * 40_000, "%|" * 200])
def test_long_lines_cost_nothing(line: str) -> None:
    began = time.perf_counter()
    assert of_line(line) is None
    assert time.perf_counter() - began < 0.05


def test_a_secret_beside_a_bar_is_masked_before_it_is_cut() -> None:
    relay = Relay(lambda text: text.replace("SECRETSECRET", "***"))
    state = {"_model_name": "IntProgressModel", "value": 1, "max": 2, "description": "x" * 72 + "SECRET<b></b>SECRET"}
    relay.opened("a", {"state": state})
    assert "SECRET" not in relay.bars[0].text


def test_a_view_that_joins_changes_nothing_of_what_is_known(notebook: Any, folder: Path, until: Any) -> None:
    """Its counts are its own: the checkpoint and the run count each item once."""
    from nbflow.api.live import working
    from nbflow.reporters.board import Board, outline

    class View:
        def __init__(self, block: Any) -> None:
            self.board = Board(outline(block))
            self.ended = False

        def begin(self) -> None: ...

        def __call__(self, event: Any) -> None:
            self.board.apply(event)

        def adopt(self, state: Any) -> None:
            self.board.adopt(state)

        def draw(self, now: float) -> None: ...

        def end(self) -> None:
            self.ended = True

    run = nbflow.start(notebook(WAITS), grid={"n": [1, 2, 3]}, max_concurrency=1, quiet=True)
    (folder / "go1").touch()
    until(lambda: run.progress.counts["completed"] == 1)
    session = working(run.folder)
    assert session is not None
    view = View(run.block)
    session.join(view)  # type: ignore[arg-type]
    (folder / "go2").touch()
    (folder / "go3").touch()
    run.wait()
    until(lambda: view.ended)
    assert 3 == run.progress.counts["completed"] == view.board.progress.counts["completed"]
    assert '"completed": 3' in (folder / "work.ipynb.nbflow.json").read_text()


def test_a_dry_start_only_says_what_would_be_done(notebook: Any, folder: Path) -> None:
    rows = nbflow.start(notebook(), grid={"n": [1, 2]}, dry_run=True)
    assert [True, True] == [row.runs for row in rows]
    assert not (folder / "nbflow-runs").exists()


def test_a_driver_that_fails_says_so_everywhere(notebook: Any, monkeypatch: Any) -> None:
    """Also where nobody waits: nothing goes on, and nothing looks as if it did."""
    from nbflow.api import ledger

    path = notebook()
    write = ledger.RunLedger.write

    def failing(self: Any, events: Any) -> None:
        if any(type(event).__name__ == "NodeFinished" for event in events):
            raise RuntimeError("no such thing")
        write(self, events)

    monkeypatch.setattr(ledger.RunLedger, "write", failing)
    run = nbflow.start(path, grid={"n": [1]}, quiet=True)
    with pytest.raises(RuntimeError, match="no such thing"):
        run.wait(60)
    assert "interrupted" == run.status
    assert "nbflow itself failed: RuntimeError: no such thing" == run.reason


def test_a_run_that_another_process_took_up_is_seen_as_it_is(notebook: Any, folder: Path, cli: Any, until: Any) -> None:
    """What this process knew is old then; its words reach the other one."""
    path = notebook("import pathlib, time\nif not pathlib.Path('fine').exists(): raise KeyError('rain')", WAITS)
    run = nbflow.start(path, grid={"n": [1]}, quiet=True).wait()
    assert "failed" == run.status
    (folder / "fine").touch()
    cli.start("resume", path.name, "-q")
    until(lambda: run.status == "running" and run.progress.active)
    assert run.at_work
    run.cancel()
    assert "interrupted" == run.wait(60).status


def test_what_is_tried_again_beside_finished_work_of_other_code_is_told(notebook: Any, folder: Path) -> None:
    """It is kept, as the method says; but nobody may take the mixture for one."""
    fails = "import pathlib\nif n == 2 and not pathlib.Path('fine').exists(): raise KeyError('rain')"
    run = nbflow.map(notebook(fails), grid={"n": [1, 2]}, quiet=True)
    (folder / "fine").touch()
    notebook(fails, results="square = n * 1000")
    run.retry_failed().wait()
    assert [{"square": 1}, {"square": 2000}] == run.results
    (told,) = [warning.message for warning in run.warnings]
    assert "cell 3" in told
    assert told.endswith("what was finished before is kept")


AT_WORK = """\
import sys, time
import nbflow
run = nbflow.start("work.ipynb", grid={"n": [1, 2, 3]}, max_concurrency=2, quiet=True)
while len(run.progress.active) < 2 or not all(task.cell >= 2 for task in run.progress.active.values()):
    time.sleep(0.02)
"""


def test_a_process_that_ends_cuts_its_runs_off_and_fails_nothing(notebook: Any, folder: Path, cli: Any) -> None:
    """What was at work has not failed: it runs again when somebody goes on."""
    path = notebook(WAITS)
    cli.start(program=("-c", AT_WORK)).communicate(timeout=60)
    run = nbflow.status(path)
    assert "interrupted" == run.status
    assert "its process ended" == run.reason
    assert [] == run.failures


def test_a_run_that_is_tried_again_has_what_it_was_begun_with(notebook: Any, folder: Path) -> None:
    """Its callbacks hear of it, also if it was begun by a call that waits."""
    events: list[Any] = []
    fails = "import pathlib\nif not pathlib.Path('fine').exists(): raise KeyError('rain')"
    run = nbflow.map(notebook(fails), grid={"n": [1]}, on_event=events.append, quiet=True)
    assert "failed" == run.status
    (folder / "fine").touch()
    events.clear()
    run.retry_failed().wait()
    assert "completed" == next(event.status for event in events if type(event).__name__ == "RunFinished")


def test_kernels_are_not_kept_by_a_process_that_ends_with_its_run(notebook: Any, folder: Path) -> None:
    with pytest.raises(nbflow.RefusedError, match="keep_kernel_on_failure=True and detach=True are both given"):
        nbflow.start(notebook(), grid={"n": [1]}, keep_kernel_on_failure=True, detach=True)
    assert not (folder / "nbflow-runs").exists()
