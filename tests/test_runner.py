"""The runner of notebooks, with real kernels: what it does to notebooks, logs, files and processes."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import psutil
import pytest

from nbflow.events import CellFinished, CellStarted, Printed, TaskEvent
from nbflow.kernels import LocalKernels
from nbflow.masking import Masker
from nbflow.memory import MemoryWatch
from nbflow.notebooks.outputs import Printed as Streams
from nbflow.notebooks.runner import NotebookRunner
from nbflow.outcome import Outcome
from nbflow.printing import Fold, TaskLog, folded, plain, short
from nbflow.source import read_notebook
from nbflow.steps import NotebookStep
from nbflow.task import Context, Places, Task


@dataclass
class ManualStop:
    """A stop that the test gives."""

    reason: str | None = None
    kill: bool = False
    callbacks: list[Callable[[], None]] = field(default_factory=list)

    def listen(self, callback):
        if self.reason or self.kill:
            callback()
        self.callbacks.append(callback)
        return lambda: self.callbacks.remove(callback)

    def ask(self, reason=None, *, kill=False):
        self.reason, self.kill = reason or self.reason, kill
        for callback in list(self.callbacks):
            callback()


@dataclass
class Ran:
    """What came of a task."""

    outcome: Outcome
    places: Places
    events: list[TaskEvent]

    @property
    def notebook(self):
        return nbformat.read(self.places.folder / self.outcome.notebook, 4)

    @property
    def log(self) -> str:
        return self.places.log.read_text("utf-8")

    @property
    def states(self) -> list[str]:
        """papermill's states of the cells, without its banners."""
        cells = [c for c in self.notebook.cells if "papermill-error-cell-tag" not in c.metadata.get("tags", ())]
        return [c.metadata.papermill["status"] for c in cells]


def code(source, *tags):
    return {
        "cell_type": "code",
        "source": source,
        "metadata": {"tags": list(tags)},
        "outputs": [],
        "execution_count": None,
    }


def markdown(source):
    return {"cell_type": "markdown", "source": source, "metadata": {}}


def write(path: Path, *cells, minor=5) -> Path:
    made = []
    for number, cell in enumerate(cells):
        cell = code(cell) if isinstance(cell, str) else cell
        made.append({**cell, "id": f"cell-{number}"} if minor >= 5 else cell)
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": minor}))
    return path


@pytest.fixture(scope="module")
def kernels():
    made = LocalKernels()
    yield made
    made.close()


def run(
    path: Path, kernels, parameters=None, *, stop=None, run_folder=None, tell=None, index=0, kept=5_000_000, **step
) -> Ran:
    folder = run_folder or path.parent / "runs" / "one"
    places = Places(
        folder=folder,
        notebook=folder / "0_x.ipynb",
        failed=folder / "0_x.failed.ipynb",
        log=folder / "logs" / "0_x.log",
        artifacts=folder / "artifacts" / "0_x",
        item=folder / "items" / "0_x",
    )
    events: list[TaskEvent] = []

    def told(event):
        events.append(event)
        if tell:
            tell(event)

    runner = NotebookRunner({path.name: read_notebook(path)}, path.parent, kernels, "run-1", kept)
    environment = step.pop("environment", {})
    made = NotebookStep(id="x", path=path.name, **step)
    task = Task(("x",), "key", made, parameters or {}, 1, "x=1", index, "print", environment)
    return Ran(runner(task, Context(places, stop or ManualStop(), told)), places, events)


def in_cell(stop: ManualStop, number: int, **ask):
    """Ask to stop as soon as the cell has printed."""

    def tell(event):
        if isinstance(event, Printed) and "here" in event.line:
            stop.ask(**ask)

    return tell


def children() -> list[psutil.Process]:
    return [p for p in psutil.Process().children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE]


# Running


def test_a_notebook_runs_with_its_parameters_and_gives_its_results(tmp_path, kernels):
    """The whole way once: parameters in, results out, executed notebook, log, events, paths."""
    source = write(
        tmp_path / "train.ipynb",
        markdown("# Settings"),
        code("depth = 3", "parameters"),
        markdown("## Fit the model"),
        "print('fitting', depth)",
        code("score = depth * 2", "results"),
    )
    before = source.read_bytes()
    ran = run(source, kernels, {"depth": 7})
    assert ("completed", {"score": 14}) == (ran.outcome.status, ran.outcome.output)
    assert ("0_x.ipynb", "logs/0_x.log") == (ran.outcome.notebook, ran.outcome.log)
    assert not ran.places.failed.exists()
    assert before == source.read_bytes()
    assert ["completed"] * 6 == ran.states
    assert "--- cell 1  Settings\n--- cell 2  Fit the model\nfitting 7\n--- cell 3  Fit the model\n" == ran.log
    cells = [(e.cell, e.cells, e.heading) for e in ran.events if isinstance(e, CellStarted)]
    assert [(1, 3, "Settings"), (2, 3, "Fit the model"), (3, 3, "Fit the model")] == cells
    assert ["completed"] * 3 == [e.status for e in ran.events if isinstance(e, CellFinished)]
    assert ["fitting 7"] == [e.line for e in ran.events if isinstance(e, Printed)]
    assert 0 < ran.outcome.seconds < 60
    metadata = ran.notebook.metadata.papermill
    assert ("train.ipynb", "0_x.ipynb", {"depth": 7}) == (
        metadata.input_path,
        metadata.output_path,
        metadata.parameters,
    )
    assert metadata.exception is None
    nbformat.validate(ran.notebook)
    assert [] == list(ran.places.folder.glob(".*"))


def test_a_comment_marks_parameters_as_a_tag_does_and_old_notebooks_run(tmp_path, kernels):
    """A format 4.4 notebook without cell ids, its cells marked by their first lines."""
    source = write(tmp_path / "old.ipynb", "# nbflow: parameters\nn = 1", "# nbflow: results\nm = n + 1", minor=4)
    assert {"m": 42} == run(source, kernels, {"n": 41}).outcome.output


def test_eight_notebooks_in_eight_directories_never_move_the_caller(tmp_path, kernels):
    """Each writes a relative file and imports a module beside it; the process stays where it is at any moment."""
    for i in range(8):
        write(
            tmp_path / f"d{i}" / "n.ipynb",
            "import mine\nopen('out.txt', 'w').write(mine.NAME)",
            code("name = mine.NAME", "results"),
        )
        (tmp_path / f"d{i}" / "mine.py").write_text(f"NAME = 'module {i}'")
    home, moved, done = Path.cwd(), set(), threading.Event()

    def watch():
        while not done.wait(0.0005):
            if Path.cwd() != home:
                moved.add(Path.cwd())

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda i: run(tmp_path / f"d{i}" / "n.ipynb", kernels), range(8)))
    done.set()
    watcher.join()
    assert [{"name": f"module {i}"} for i in range(8)] == [r.outcome.output for r in results]
    assert [f"module {i}" for i in range(8)] == [(tmp_path / f"d{i}" / "out.txt").read_text() for i in range(8)]
    assert [("out.txt",)] * 8 == [r.outcome.wrote for r in results]
    assert set() == moved


def test_an_item_gets_a_folder_and_finds_the_modules_beside_the_notebook(tmp_path, kernels, monkeypatch):
    """With ``cwd: item`` the folder is its own; run, index and folder stand in the environment."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    (tmp_path / "mine.py").write_text("NAME = 'beside'")
    source = write(
        tmp_path / "n.ipynb",
        "import os, mine\nbefore = os.listdir()\nopen('model.pkl', 'w').close()",
        code(
            "name = mine.NAME\nbefore\nhere = os.getcwd()\nrun = os.environ['NBFLOW_RUN_ID']\n"
            "index = os.environ['NBFLOW_INDEX']\nitem = os.environ['NBFLOW_ITEM_DIR']\nword = os.environ['WORD']",
            "results",
        ),
    )
    ran = run(source, kernels, cwd="item", index=3, environment={"WORD": "hello"})
    item = str(ran.places.item)
    expected = {
        "name": "beside",
        "before": [],
        "here": item,
        "run": "run-1",
        "index": "3",
        "item": item,
        "word": "hello",
    }
    assert expected == ran.outcome.output
    assert () == ran.outcome.wrote
    assert (ran.places.item / "model.pkl").exists()


def test_files_written_beside_the_notebook_are_told_and_hidden_ones_are_not(tmp_path, kernels):
    """By open, by rename, by sqlite and in folders, also when a cell fails; not what was only read."""
    (tmp_path / "read.csv").write_text("a")
    source = write(
        tmp_path / "n.ipynb",
        "import os, sqlite3\nopen('read.csv').read()\nopen('a.txt', 'w').close()\nos.mkdir('sub')\n"
        "os.chdir('sub')\nopen('b.txt', 'a').close()\nos.chdir('..')\nopen('t', 'w').close()\n"
        "os.replace('t', 'c.txt')\n"
        "sqlite3.connect('d.db').execute('create table x (y)')\nopen('.hidden', 'w').close()\n"
        "open('gone', 'w').close()\n"
        "os.remove('gone')",
        "1/0",
    )
    assert ("a.txt", "c.txt", "d.db", "sub/b.txt") == run(source, kernels).outcome.wrote


def test_a_kernel_that_drops_what_comes_right_behind_an_error_is_asked_again(tmp_path, kernels):
    """ipykernel does so until it has seen that nothing is queued: here that takes it half a second."""
    source = write(
        tmp_path / "n.ipynb",
        "open('a.txt', 'w').close()\nkernel = get_ipython().kernel\nkernel.stop_on_error_timeout = 0.5  # before 7\n"
        "ready = getattr(kernel, '_post_dummy_stop_aborting_message', None)\n"
        "kernel._post_dummy_stop_aborting_message = lambda shell: (\n"
        "    kernel.shell_channel_thread.io_loop.call_later(0.5, ready, shell))",
        "1/0",
    )
    assert ("a.txt",) == run(source, kernels).outcome.wrote


# Failing


def test_a_failed_cell_is_named_and_the_notebook_shows_where(tmp_path, kernels):
    """Message, cell, plain traceback; papermill's banner and anchor; states of all cells; ids kept."""
    source = write(
        tmp_path / "n.ipynb", markdown("# Load"), "rain = {}", "print('half', end='')\nrain['rain_mm']", "after = 1"
    )
    ran = run(source, kernels)
    error = ran.outcome.error
    assert ("failed", "error", "KeyError: 'rain_mm'", "KeyError", 2) == (
        ran.outcome.status, error.kind, error.message, error.exception, error.cell,
    )  # fmt: skip
    assert "rain['rain_mm']" in error.traceback
    assert "\x1b" not in error.traceback
    assert "0_x.failed.ipynb" == ran.outcome.notebook
    assert not ran.places.notebook.exists()
    assert ["completed", "completed", "failed", "pending"] == ran.states
    nb = ran.notebook
    nbformat.validate(nb)
    assert "An Exception was encountered" in nb.cells[0].source
    assert 'id="papermill-error-cell"' in nb.cells[3].source
    assert "cell-2" == nb.cells[4].id
    assert [None, None, False, None, True, None] == [
        c.metadata.get("papermill", {}).get("exception") or None if i != 2 else False for i, c in enumerate(nb.cells)
    ]
    assert nb.metadata.papermill.exception is True
    assert "half\n" in ran.log
    assert "KeyError: 'rain_mm'" in ran.log
    again = run(
        write(tmp_path / "again.ipynb", *[dict(c) for c in nb.cells if c.cell_type]),
        kernels,
        run_folder=tmp_path / "two",
    )
    assert 1 == sum("An Exception was encountered" in c.source for c in again.notebook.cells)


def test_a_long_traceback_keeps_its_head_and_its_tail_and_the_log_has_all_of_it(tmp_path, kernels):
    """The outcome goes into the journal, with each item and each try."""
    ran = run(write(tmp_path / "n.ipynb", "raise ValueError('begin' + 'x' * 300_000 + 'end')"), kernels)
    traceback = ran.outcome.error.traceback
    assert "Traceback (most recent call last)" in traceback[:200]
    assert traceback.endswith("xend")
    assert "left out, all of it is in the log" in traceback
    assert len(traceback) < 21_000
    assert "begin" + "x" * 300_000 + "end" in ran.log


def test_no_part_of_a_secret_is_left_where_a_message_or_traceback_is_cut(tmp_path, kernels, monkeypatch):
    """It is masked before it is cut."""
    monkeypatch.setenv("TOKEN", "hush-tok-wxyz")
    source = write(
        tmp_path / "n.ipynb", "import os\nraise ValueError('x' * 180 + os.environ['TOKEN'] + 'hush-tok-wxyz' * 9_999)"
    )
    ran = run(source, kernels, secrets=("TOKEN",))
    error = ran.outcome.error
    for text in (error.message, error.traceback, ran.log):
        assert "hush" not in text
        assert "wxyz" not in text


def test_the_injected_cell_counts_as_the_parameters_cell(tmp_path, kernels):
    """Cells are counted as the source has them, before and behind the injected one."""
    source = write(tmp_path / "n.ipynb", "a = 1", code("b = 1", "parameters"), "1/0")
    assert 3 == run(source, kernels, {"b": 5}).outcome.error.cell


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import os; os._exit(3)", ["exit code 3"]),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", ["signal 9", "memory?"]),
        ("exit()", ["exit code 0", "exit() or quit()"]),
        ("import faulthandler; faulthandler.enable(); faulthandler._sigsegv()", ["signal 11", "Segmentation fault"]),
    ],
)
def test_a_dead_kernel_is_known_at_once_and_no_cell_behind_it_is_completed(tmp_path, kernels, source, words):
    """Exit code or signal, the cell, an error output in it; known within 2 seconds of the death."""
    died: list[float] = []
    heard = "while not os.path.exists('heard'): pass\nopen('died', 'w').close()"
    path = write(tmp_path / "n.ipynb", "import os", f"print('last words', flush=True)\n{heard}\n{source}", "b = 2")
    ran = run(path, kernels, tell=lambda e: isinstance(e, Printed) and (tmp_path / "heard").touch())
    ended = time.time()
    died.append((tmp_path / "died").stat().st_mtime)
    assert ("dead-kernel", 2) == (ran.outcome.error.kind, ran.outcome.error.cell)
    assert ran.outcome.error.message.startswith("kernel died (")
    for word in words:
        assert word in ran.outcome.error.message + (ran.outcome.error.traceback or "")
    assert "\n" not in ran.outcome.error.message
    assert ["completed", "failed", "pending"] == ran.states
    outputs = ran.notebook.cells[3].outputs
    assert "last words\n" == "".join(o.text for o in outputs if o.output_type == "stream")
    assert ["error"] == [o.output_type for o in outputs if o.output_type != "stream"]
    nbformat.validate(ran.notebook)
    assert ended - died[0] < 2 + 1  # a second for mending and saving on a busy machine


def test_a_kernel_that_dies_while_results_are_read_fails_the_notebook(tmp_path, kernels):
    """The last cell ended well and the kernel is gone before its results: nothing is completed."""
    source = write(
        tmp_path / "n.ipynb",
        code("import os\nclass Bomb(dict):\n    def items(self):\n        os._exit(4)\nbomb = Bomb(a=1)", "results"),
    )
    ran = run(source, kernels, outputs=("bomb",))
    assert "dead-kernel" == ran.outcome.error.kind
    assert "exit code 4" in ran.outcome.error.message


def test_a_kernel_that_dies_after_an_early_exit_fails_the_notebook_too(tmp_path, kernels):
    """``SystemExit(0)`` ends the cells, and the results are still to be read."""
    source = write(
        tmp_path / "n.ipynb",
        code("import os\nclass Bomb(dict):\n    def items(self):\n        os._exit(4)\nbomb = Bomb(a=1)", "results"),
        "raise SystemExit(0)",
        "n = 6",
    )
    ran = run(source, kernels)
    assert ("failed", "dead-kernel") == (ran.outcome.status, ran.outcome.error.kind)
    assert ["completed", "completed", "pending"] == ran.states


@pytest.mark.parametrize(
    "problem", ["SystemExit(1)", "KeyboardInterrupt()", "MemoryError('too large')", "OSError(28, 'No space left')"]
)
def test_results_that_could_not_be_read_fail_the_notebook(tmp_path, kernels, problem):
    """Also where none was asked for by name: a completed item without its results would never run again."""
    source = write(
        tmp_path / "n.ipynb",
        code(f"class Bad(dict):\n    def items(self):\n        raise {problem}\nn = 1\nbad = Bad(a=1)", "results"),
    )
    ran = run(source, kernels)
    assert ("failed", "output") == (ran.outcome.status, ran.outcome.error.kind)
    assert ran.outcome.error.message.startswith(f"the results could not be read: {problem.partition('(')[0]}")
    assert "0_x.failed.ipynb" == ran.outcome.notebook


def test_input_fails_its_cell_and_does_not_wait(tmp_path, kernels):
    """Nobody is there to answer."""
    ran = run(write(tmp_path / "n.ipynb", "name = input('who? ')"), kernels)
    assert ("error", "StdinNotImplementedError", 1) == (
        ran.outcome.error.kind,
        ran.outcome.error.exception,
        ran.outcome.error.cell,
    )


def test_an_early_system_exit_is_success_and_the_rest_did_not_run(tmp_path, kernels):
    """Results that exist by then count; the cells behind stay pending."""
    source = write(tmp_path / "n.ipynb", code("n = 5", "results"), "raise SystemExit(0)", "n = 6")
    ran = run(source, kernels)
    assert ("completed", {"n": 5}) == (ran.outcome.status, ran.outcome.output)
    assert ["completed", "completed", "pending"] == ran.states
    ran = run(write(tmp_path / "m.ipynb", "raise SystemExit('no data')"), kernels, run_folder=tmp_path / "two")
    assert ("failed", "SystemExit: no data") == (ran.outcome.status, ran.outcome.error.message)


def test_allowed_errors_and_skipped_cells_do_not_fail_the_notebook(tmp_path, kernels):
    """``raises-exception`` and ``skip-execution`` mean what they mean in Jupyter; raw cells stay as they are."""
    raw = {"cell_type": "raw", "source": "raw text", "metadata": {}}
    source = write(
        tmp_path / "n.ipynb",
        raw,
        code("1/0", "raises-exception"),
        code("2/0", "skip-execution"),
        "",
        code("n = 1", "results"),
    )
    ran = run(source, kernels)
    assert ("completed", {"n": 1}) == (ran.outcome.status, ran.outcome.output)
    assert [1, 4] == [e.cell for e in ran.events if isinstance(e, CellStarted)]
    assert "raw text" == ran.notebook.cells[0].source


def test_an_error_shown_by_the_notebooks_own_traceback_still_fails_it(tmp_path, kernels):
    """Rich tracebacks replace the error output; the kernel's reply tells the truth."""
    hook = "get_ipython().showtraceback = lambda *a, **k: print('a pretty traceback')"
    ran = run(write(tmp_path / "n.ipynb", hook, "1/0"), kernels)
    assert ("failed", 2) == (ran.outcome.status, ran.outcome.error.cell)
    assert "failed" == ran.states[-1]


def test_an_error_while_a_value_is_shown_is_told_as_the_cell_shows_it(tmp_path, kernels):
    """IPython's answer has no name for it then."""
    source = write(tmp_path / "n.ipynb", "class T:\n    def _repr_html_(self): return missing\nT()")
    ran = run(source, kernels)
    assert ("failed", "NameError: name 'missing' is not defined") == (ran.outcome.status, ran.outcome.error.message)


# Stopping

SLEEP = "import time\nprint('here', flush=True)\ntime.sleep(60)"
DEAF = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n" + SLEEP


def test_a_cancelled_notebook_is_interrupted_and_keeps_its_partial_output(tmp_path, kernels):
    """The kernel is interrupted, nothing is killed, the outcome is cancelled."""
    stop = ManualStop()
    began = time.monotonic()
    ran = run(write(tmp_path / "n.ipynb", SLEEP, "b = 1"), kernels, stop=stop, tell=in_cell(stop, 1, reason="cancel"))
    assert ("cancelled", None) == (ran.outcome.status, ran.outcome.error)
    assert time.monotonic() - began < 20
    assert "here\n" == ran.notebook.cells[2].outputs[0].text
    assert ["failed", "pending"] == ran.states


def test_a_notebook_out_of_time_fails_and_names_cell_and_seconds(tmp_path, kernels):
    """The driver asks with the reason timeout."""
    stop = ManualStop()
    ran = run(
        write(tmp_path / "n.ipynb", SLEEP), kernels, stop=stop, tell=in_cell(stop, 1, reason="timeout"), timeout=30.0
    )
    assert ("timeout", "no time left after 30 s (cell 1)") == (ran.outcome.error.kind, ran.outcome.error.message)
    nbformat.validate(ran.notebook)


def test_a_cell_that_ignores_the_interrupt_is_killed_after_three_seconds(tmp_path, kernels):
    """Interrupt, grace, kill."""
    stop, asked = ManualStop(), []

    def tell(event):
        if isinstance(event, Printed) and not asked:
            asked.append(time.monotonic())
            stop.ask("cancel")

    ran = run(write(tmp_path / "n.ipynb", DEAF), kernels, stop=stop, tell=tell)
    assert "cancelled" == ran.outcome.status
    assert 2.9 < time.monotonic() - asked[0] < 8
    assert [] == children()


def test_a_kill_does_not_wait_for_the_interrupt(tmp_path, kernels):
    """The second Ctrl-C ends a deaf cell at once, with the processes it started."""
    stop, asked = ManualStop(), []

    def tell(event):
        if isinstance(event, Printed) and not asked:
            asked.append(time.monotonic())
            stop.ask("cancel", kill=True)

    deaf = "import subprocess\nsubprocess.Popen(['sleep', '60'])\n" + DEAF
    ran = run(write(tmp_path / "n.ipynb", deaf), kernels, stop=stop, tell=tell)
    assert "cancelled" == ran.outcome.status
    assert time.monotonic() - asked[0] < 2.5
    assert [] == children()


def test_a_kernel_that_dies_takes_the_processes_it_started_along(tmp_path, kernels):
    """They are in its group, and nobody else would end them."""
    start = "import os, subprocess\nopen('pid', 'w').write(str(subprocess.Popen(['sleep', '60']).pid))\nos._exit(1)"
    run(write(tmp_path / "n.ipynb", start), kernels)
    pid = int((tmp_path / "pid").read_text())
    with suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(timeout=5)


def test_a_stop_before_the_first_cell_starts_nothing(tmp_path, kernels):
    """Also the kernel that was starting is gone."""
    ran = run(write(tmp_path / "n.ipynb", "open('ran', 'w').close()"), kernels, stop=ManualStop("cancel"))
    assert "cancelled" == ran.outcome.status
    assert not (tmp_path / "ran").exists()
    assert [] == children()


READING = """\
import time
class Slow(dict):
    def items(self):
        open('reading', 'w').close()
        try:
            time.sleep(60)
        except KeyboardInterrupt as stopped:
            raise {turned}
slow = Slow(a=1)
"""
"""A result that takes its time to be read, and what it makes of an interrupt."""


@pytest.mark.parametrize("turned", ["stopped", "ValueError('cut')"])
@pytest.mark.parametrize(
    ("reason", "status", "message"), [("cancel", "cancelled", None), ("timeout", "failed", "no time left after 5 s")]
)
def test_a_stop_while_results_are_read_completes_nothing(tmp_path, kernels, until, turned, reason, status, message):
    """No resume would repeat a completed item, and its results would be lost for good."""
    source = write(tmp_path / "n.ipynb", code(READING.format(turned=turned), "results"))
    stop = ManualStop()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run, source, kernels, stop=stop, timeout=5.0)
        until((tmp_path / "reading").exists)
        stop.ask(reason)
        outcome = running.result().outcome
    assert (status, None, message) == (outcome.status, outcome.output, outcome.error and outcome.error.message)


STOPS_EARLY = """\
import time
score = 0
try:
    for epoch in range(600):
        print('here', flush=True)
        time.sleep(0.1)
        score = epoch
except KeyboardInterrupt:
    pass
"""
"""A cell that takes an interrupt for the wish to see how far it came."""


@pytest.mark.parametrize("tags", [("results",), ("results", "raises-exception")])
@pytest.mark.parametrize(
    ("reason", "status", "message"),
    [("cancel", "cancelled", None), ("timeout", "failed", "no time left after 5 s (cell 1)")],
)
def test_a_last_cell_that_handles_the_interrupt_is_not_completed(tmp_path, kernels, tags, reason, status, message):
    """Its value is the one of half the work."""
    stop = ManualStop()
    source = write(tmp_path / "n.ipynb", code(STOPS_EARLY, *tags))
    ran = run(source, kernels, stop=stop, tell=in_cell(stop, 1, reason=reason), timeout=5.0)
    outcome = ran.outcome
    assert (status, None, message) == (outcome.status, outcome.output, outcome.error and outcome.error.message)
    assert ["failed"] == ran.states
    assert [status] == [e.status for e in ran.events if isinstance(e, CellFinished)]


def test_a_cell_has_the_time_that_its_tag_gives(tmp_path, kernels):
    """Interrupted when it is over; the clock of a cell starts with the cell."""
    source = write(tmp_path / "n.ipynb", code("a = 1", "timeout:1s"), code(SLEEP, "timeout:500ms"), "c = 3")
    ran = run(source, kernels)
    assert ("timeout", "cell 2 took longer than 0.5 s", 2) == (
        ran.outcome.error.kind,
        ran.outcome.error.message,
        ran.outcome.error.cell,
    )
    assert ["completed", "failed", "pending"] == ran.states
    assert "here\n" == ran.notebook.cells[3].outputs[0].text
    ran = run(write(tmp_path / "m.ipynb", SLEEP), kernels, cell_timeout=0.4, run_folder=tmp_path / "two")
    assert "cell 1 took longer than 0.4 s" == ran.outcome.error.message


# What is printed


def test_a_progress_bar_is_one_line_in_log_and_notebook(tmp_path, kernels):
    """Carriage returns are folded, control characters are taken out, chunks are joined, stderr is there."""
    source = write(
        tmp_path / "n.ipynb",
        "import sys\nfor i in range(101):\n    print(f'\\r{i}%', end='', flush=True)\nprint()\n"
        "print('\\x1b[31mred\\x1b[0m')\nprint('warn', file=sys.stderr)",
    )
    ran = run(source, kernels)
    assert {"--- cell 1", "100%", "red", "warn"} == set(ran.log.splitlines())
    outputs = ran.notebook.cells[0].outputs
    assert [("stdout", "100%\n\x1b[31mred\x1b[0m\n"), ("stderr", "warn\n")] == sorted(
        ((o.name, o.text) for o in outputs), reverse=True
    )


def test_what_a_cell_prints_without_end_keeps_its_head_and_its_tail(tmp_path, kernels):
    """The notebook stays small and says what is missing; the log has all of it."""
    source = write(tmp_path / "n.ipynb", "for i in range(100_000):\n    print(f'line {i:06}')")
    ran = run(source, kernels, kept=200_000)
    (output,) = ran.notebook.cells[0].outputs
    assert output.text.startswith("line 000000\n")
    assert output.text.endswith("line 099999\n")
    assert "left out, all of it is in the log" in output.text
    assert len(output.text) < 300_000
    assert [f"line {i:06}" for i in range(100_000)] == ran.log.splitlines()[1:]


@pytest.mark.long
def test_a_cell_that_prints_a_gigabyte_takes_little_memory(tmp_path):
    """In a process of its own, whose peak is measured."""
    source = write(tmp_path / "n.ipynb", "line = 'x' * 999\nfor i in range(1_000_000):\n    print(line)")
    script = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from nbflow.kernels import LocalKernels
import test_runner
kernels = LocalKernels()
small = test_runner.write(Path({str(tmp_path / "small.ipynb")!r}), "1")
test_runner.run(small, kernels, run_folder=Path({str(tmp_path / "s")!r}))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
ran = test_runner.run(Path({str(source)!r}), kernels)
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(ran.outcome.status, grown // 1024, ran.places.log.stat().st_size)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=280)
    status, megabytes, size = done.stdout.split()
    assert "completed" == status, done.stderr
    assert 1_000_000_000 < int(size)
    assert int(megabytes) < 300


def test_secrets_are_masked_wherever_text_is_written(tmp_path, kernels, monkeypatch):
    """In log, notebook, events, error and results, also when a secret is printed in two pieces; the kernel has it."""
    monkeypatch.setenv("TOKEN", 'hush "tok"-wxyz')
    source = write(
        tmp_path / "n.ipynb",
        "import os, sys\nt = os.environ['TOKEN']\nassert len(t) == 15\nprint('one', t)\n"
        "print('two', t[:7], end='', flush=True)\n"
        "import time; time.sleep(0.3); print(t[7:])\nt",
        code("shown = 'it is ' + t\nlengths = [len(t)]", "results"),
    )
    ran = run(source, kernels, secrets=("TOKEN",))
    assert {"shown": "it is *****", "lengths": [15]} == ran.outcome.output
    failing = write(tmp_path / "m.ipynb", "import os\nraise ValueError(os.environ['TOKEN'])")
    failed = run(failing, kernels, secrets=("TOKEN",), run_folder=tmp_path / "two")
    assert "ValueError: *****" == failed.outcome.error.message
    texts = [p.read_text() for r in (ran, failed) for p in r.places.folder.rglob("*") if p.is_file()]
    texts += [repr(r.events) + repr(r.outcome) for r in (ran, failed)]
    for text in texts:
        assert "wxyz" not in text
    nbformat.validate(ran.notebook)


def test_the_kernels_own_stderr_reaches_the_log_and_not_the_terminal(tmp_path, kernels, capfd):
    """What is written below Python, after its streams are taken away."""
    ran = run(
        write(tmp_path / "n.ipynb", "import faulthandler; faulthandler.enable(); faulthandler._sigsegv()"), kernels
    )
    assert "Fatal Python error: Segmentation fault" in ran.log
    assert ("", "") == capfd.readouterr()


# Leaving nothing behind


def leftovers(temporary: Path) -> tuple[int, int, list[str], int]:
    gc.collect()
    process = psutil.Process()
    return process.num_fds(), process.num_threads(), [p.name for p in temporary.iterdir()], len(children())


@pytest.fixture
def temporary(monkeypatch):
    """A temporary folder of our own, with a path short enough for sockets."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


@pytest.mark.parametrize("count", [6, pytest.param(60, marks=pytest.mark.long)])
def test_notebooks_leave_no_thread_descriptor_kernel_or_file_behind(tmp_path, kernels, temporary, count):
    """Those that completed, and those that failed and died."""
    cells = ["1", "1/0", "import os; os._exit(1)"]
    paths = [write(tmp_path / f"n{i}.ipynb", cells[i % 3]) for i in range(count)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda i: run(paths[i], kernels, run_folder=tmp_path / f"w{i}"), range(3)))
        before = leftovers(temporary)
        list(pool.map(lambda i: run(paths[i], kernels, run_folder=tmp_path / f"r{i}"), range(count)))
        assert before == leftovers(temporary)
        assert [] == before[2]


def _victim(tmp_path: Path, cells: list[str]) -> subprocess.Popen[str]:
    write(tmp_path / "n.ipynb", *cells)
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from nbflow.kernels import LocalKernels
import test_runner
test_runner.run(Path({str(tmp_path / "n.ipynb")!r}), LocalKernels(), tell=lambda e: print(e, flush=True))
"""
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)


def test_a_killed_driver_takes_its_kernel_along_and_leaves_a_notebook_that_parses(tmp_path):
    """The kernel sees that its parent is gone; the partial notebook stands under the name of a failed one."""
    victim = _victim(
        tmp_path,
        [
            "import os\nopen('pid', 'w').write(str(os.getpid()))",
            "print('here', flush=True)\nimport time; time.sleep(60)",
        ],
    )
    for line in victim.stdout:
        if "here" in line:
            break
    kernel = psutil.Process(int((tmp_path / "pid").read_text()))
    saved = tmp_path / "runs" / "one" / "0_x.failed.ipynb"
    until = time.monotonic() + 10
    while not saved.exists() and time.monotonic() < until:
        time.sleep(0.05)
    victim.kill()
    victim.wait()
    victim.stdout.close()
    kernel.wait(timeout=5)
    nb = nbformat.read(saved, 4)
    assert {"completed", "running", "pending"} >= {c.metadata.papermill["status"] for c in nb.cells}
    assert not (tmp_path / "runs" / "one" / "0_x.ipynb").exists()


@pytest.mark.long
def test_a_driver_killed_at_any_moment_leaves_only_notebooks_that_parse(tmp_path):
    """Twelve kills, spread over the life of a notebook that saves large outputs."""
    for turn in range(12):
        folder = tmp_path / str(turn)
        victim = _victim(folder, [f"print('here {i}' + 'x' * 1_000_000)" for i in range(40)])
        time.sleep(0.8 + turn * 0.15)
        os.kill(victim.pid, signal.SIGKILL)
        victim.wait()
        victim.stdout.close()
        for path in folder.rglob("[!.]*.ipynb"):
            nbformat.validate(nbformat.read(path, 4))


# The small parts


def test_a_fold_gives_each_line_as_it_stood_on_the_screen():
    """However the text is cut into chunks, the lines are the same."""
    text = "a\n1%\r2%\r3%\nlast\r\n\x1b[1mbold\x1b[0m\rover"
    whole = ["a", "3%", "last", "over"]
    for size in range(1, len(text)):
        fold = Fold()
        done = "".join(fold.feed(text[i : i + size]) for i in range(0, len(text), size)) + fold.rest()
        assert whole == done.splitlines(), size


def test_a_line_without_end_is_not_held_back_for_ever():
    """A gigabyte without a newline stays a small buffer."""
    fold = Fold()
    assert 100_000 == sum(len(fold.feed("x" * 1000)) for _ in range(100)) + len(fold.rest()) - 1


def test_text_is_made_plain_and_short():
    """Links, colours, bells and other lines go."""
    assert "link" == plain("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\")
    assert "b\nc" == folded("a\rb\nc")
    assert "one" == short("one\ntwo")


def test_streams_over_the_limit_keep_order_and_both_ends():
    """stdout and stderr alternate; the note stands once, where the gap is."""
    streams, outputs = Streams(100), []
    for i in range(200):
        name = "stdout" if i % 2 else "stderr"
        streams.add(outputs, lambda name: {"output_type": "stream", "name": name, "text": ""}, name, f"{i:03}\n" * 200)
    streams.settle()
    whole = "".join(o["text"] for o in outputs)
    assert whole.startswith("000\n")
    assert whole.endswith("199\n")
    assert 1 == whole.count("left out")
    assert len(whole) < 400


def test_the_note_tells_how_much_is_missing():
    """What is neither in the head nor in the tail, to a tenth."""
    streams, outputs = Streams(100), []
    for text in ["x" * 5000, *["y" * 10] * 500]:
        streams.add(outputs, lambda name: {"output_type": "stream", "name": name, "text": ""}, "stdout", text)
    streams.settle()
    (output,) = outputs
    assert "x" * 50 + "\n… 9.9 kB left out, all of it is in the log …\n" + "y" * 50 == output["text"]


def test_a_cleared_output_starts_again(tmp_path, kernels):
    """``clear_output`` in a loop of prints leaves the last one only."""
    loop = "for i in range(5):\n    clear_output(wait=True)\n    print('turn', i, flush=True)"
    source = f"from IPython.display import clear_output\n{loop}"
    assert ["turn 4\n"] == [o.text for o in run(write(tmp_path / "n.ipynb", source), kernels).notebook.cells[0].outputs]


def test_a_log_shows_at_most_ten_lines_a_second(tmp_path):
    """The clock is the test's."""
    shown, now = [], [0.0]
    log = TaskLog(tmp_path / "l" / "x.log", Masker(["secret-1"]), shown.append, lambda: now[0])
    for i in range(100):
        now[0] = i / 16
        log.printed("stdout", f"line {i} secret-1\n")
    log.close()
    assert 50 == len(shown)
    assert "line 0 *****" == shown[0]
    assert 100 == len((tmp_path / "l" / "x.log").read_text().splitlines())


@pytest.mark.parametrize("version", [1, 2])
def test_memory_is_named_when_the_system_counted_a_kill(tmp_path, version):
    """By the group's own files, of either version."""
    own = tmp_path / "own"
    own.write_text("0::/box\n" if version == 2 else "4:cpu,memory:/box\n")
    group = tmp_path / "box" if version == 2 else tmp_path / "memory" / "box"
    group.mkdir(parents=True)
    names = {
        2: ("memory.events", "memory.max", "memory.peak"),
        1: ("memory.oom_control", "memory.limit_in_bytes", "memory.max_usage_in_bytes"),
    }
    count, limit, peak = names[version]
    (group / count).write_text("oom 0\noom_kill 0\n")
    (group / limit).write_text("8000000000\n")
    (group / peak).write_text("7800000000\n")
    watch = MemoryWatch(tmp_path, own)
    assert "" == watch.hint(1)
    assert "memory? 7.8 of 8.0 GB were in use (a guess from the signal)" == watch.hint(-9)
    assert not watch.died_of_it(-9), "a guess is no knowledge"
    (group / count).write_text("oom 1\noom_kill 1\n")
    assert "memory? 7.8 of 8.0 GB were in use (the system counted it)" == watch.hint(-9)
    assert [True, True, False, False] == [watch.died_of_it(code) for code in (-9, 137, 1, None)], "another was ended"
    assert "memory? (a guess from the signal)" == MemoryWatch(tmp_path / "none", tmp_path / "none").hint(-9)


def test_a_kernel_that_the_system_ended_for_memory_fails_for_memory(tmp_path, kernels, monkeypatch):
    """It was killed and the system counted it; the words are those of a dead kernel."""
    (tmp_path / "own").write_text("0::/box\n")
    (tmp_path / "box").mkdir()
    count = tmp_path / "box" / "memory.events"
    count.write_text("oom_kill 3\n")
    monkeypatch.setattr("nbflow.notebooks.execution.MemoryWatch", lambda: MemoryWatch(tmp_path, tmp_path / "own"))
    more = f"import os, pathlib, signal\npathlib.Path({str(count)!r}).write_text('oom_kill 4')"
    path = write(tmp_path / "n.ipynb", f"{more}\nos.kill(os.getpid(), signal.SIGKILL)")
    error = run(path, kernels).outcome.error
    assert ("memory", "DeadKernelError", 1) == (error.kind, error.exception, error.cell)
    assert "kernel died (signal 9): memory? (the system counted it)" == error.message


@pytest.mark.parametrize("raised", ["MemoryError('too large')", "numpy.zeros(10**17)"])
def test_a_cell_that_gets_no_memory_fails_for_memory(tmp_path, kernels, raised):
    """Its own words, also where a library has derived its exception from Python's."""
    path = write(tmp_path / "n.ipynb", f"import numpy\n{'raise ' if 'Error' in raised else ''}{raised}")
    error = run(path, kernels).outcome.error
    assert ("memory", 1) == (error.kind, error.cell)
    assert "MemoryError" in error.exception
