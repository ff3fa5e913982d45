"""``papermill --engine nbflow``: the same truth about every cell, in papermill's own command."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import wait

import nbformat
import pytest
from papermill import engines  # noqa: F401 - papermill loads our engine while it is imported itself, so it comes first

from nbflow.notebooks import engine
from nbflow.notebooks.engine import _in_a_thread, _Stop


def write(path, *cells):
    made = [
        {
            "cell_type": "code",
            "id": f"c{i}",
            "source": source,
            "metadata": {"tags": tags},
            "outputs": [],
            "execution_count": None,
        }
        for i, (source, *tags) in enumerate(cells)
    ]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path.write_text(json.dumps({"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}))


def papermill(tmp_path, *options):
    command = [
        sys.executable,
        "-m",
        "papermill",
        "--engine",
        "nbflow",
        "in.ipynb",
        "out.ipynb",
        "--no-progress-bar",
        *options,
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    nb = nbformat.read(tmp_path / "out.ipynb", 4)
    nbformat.validate(nb)
    cells = [cell for cell in nb.cells if "papermill-error-cell-tag" not in cell.metadata.tags]
    return done, nb, [cell.metadata.papermill["status"] for cell in cells]


@pytest.fixture(autouse=True)
def registered():
    """The engine is found by its entry point; it must be installed for that."""
    from importlib.metadata import entry_points

    if not any(point.name == "nbflow" for point in entry_points(group="papermill.engine")):
        pytest.skip("nbflow is not installed, so papermill cannot know its engine")


def test_a_notebook_runs_in_papermills_command(tmp_path):
    """Parameters, outputs and states."""
    write(tmp_path / "in.ipynb", ("n = 1", "parameters"), ("print('n is', n)",))
    done, nb, states = papermill(tmp_path, "-p", "n", "5")
    assert 0 == done.returncode, done.stderr
    assert ["completed"] * 3 == states
    assert "n is 5\n" == nb.cells[2].outputs[0].text


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        ("import os; os._exit(3)", (), "kernel died (exit code 3)"),
        pytest.param(
            "import time; time.sleep(60)",
            ("--execution-timeout", "1"),
            "cell 2 took longer than 1 s",
            marks=pytest.mark.long,
        ),
        ("1/0", (), "ZeroDivisionError"),
    ],
)
def test_a_dead_kernel_or_a_time_out_completes_no_cell_that_never_ran(tmp_path, source, options, words):
    """papermill alone says completed of every one of them, and no exception."""
    write(tmp_path / "in.ipynb", ("a = 1",), (source,), ("b = 2",))
    done, nb, states = papermill(tmp_path, *options)
    assert 0 != done.returncode
    assert words in done.stderr
    assert ["completed", "failed", "pending"] == states
    assert nb.metadata.papermill.exception is True
    assert "An Exception was encountered" in nb.cells[0].source


def test_an_early_exit_completes_only_what_ran(tmp_path):
    """papermill alone says completed of the rest."""
    write(tmp_path / "in.ipynb", ("raise SystemExit(0)",), ("b = 2",))
    done, _, states = papermill(tmp_path)
    assert (0, ["completed", "pending"]) == (done.returncode, states)


def test_a_second_interrupt_asks_to_stop_at_once(monkeypatch):
    """The first one interrupts the cell, and a cell that does not listen is killed by the second."""
    stop, told, waits = _Stop(), [], threading.Event()

    def waiting(futures):
        waits.set()
        wait(futures)

    async def deaf():
        loop, changed = asyncio.get_running_loop(), asyncio.Event()
        stop.listen(lambda: loop.call_soon_threadsafe(changed.set))
        for _ in range(2):
            assert waits.wait(10)
            waits.clear()
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.wait_for(changed.wait(), 10)
            changed.clear()
            told.append((stop.reason, stop.kill))

    monkeypatch.setattr(engine, "wait", waiting)

    with pytest.raises(KeyboardInterrupt):
        _in_a_thread(deaf(), stop)
    assert [("cancel", False), ("cancel", True)] == told


def test_an_interrupt_before_the_kernel_starts_is_not_lost():
    """Who begins to listen is told at once that somebody asked."""
    stop, told = _Stop(), []
    stop.ask()
    stop.listen(lambda: told.append(stop.reason))
    assert ["cancel"] == told
