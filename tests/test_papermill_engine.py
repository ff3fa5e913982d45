"""``papermill --engine nbflow``: the same truth about every cell, in papermill's own command."""

from __future__ import annotations

import json
import subprocess
import sys

import nbformat
import pytest


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
        ("import time; time.sleep(60)", ("--execution-timeout", "1"), "cell 2 took longer than 1 s"),
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
