"""Real-looking notebooks of steps: what they give does not depend on how many kernels they ran in, nor on kills."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import nbformat
import pytest

import nbflow
from nbflow.loading.cell_steps import cells_of, links
from nbflow.loading.notebook_file import read_steps
from nbflow.loading.order import Order
from nbflow.source import read_notebook
from tests import describing
from tests.corpus import plain

CORPUS = Path(__file__).parent / "corpus"
ALL = sorted(path.name for path in CORPUS.glob("*.ipynb"))
QUICK = ("warehouse-model.ipynb",)
"""It has classes, views of one registry under several names, and locks, which cannot be saved."""

DIES = """
import os, signal, sys
import nbflow

def die(event):
    if type(event).__name__ == "NodeFinished" and event.leaf and not event.kept:
        os.kill(os.getpid(), signal.SIGKILL)

begin = nbflow.run if sys.argv[2] == "run" else nbflow.resume
run = begin(sys.argv[1], quiet=True, on_event=die)
run.check()
"""
"""A process that is killed when a step has ended that had not ended before."""


@pytest.mark.parametrize("name", QUICK)
def test_a_notebook_gives_in_several_kernels_what_it_gives_in_one(name, tmp_path):
    """Without kills, which takes less time."""
    one = dict(plain.outputs(plain.run_plain(_with_end(name, tmp_path / "plain"), tmp_path / "plain" / "run")))
    whole = _with_end(name, tmp_path / "whole")
    nbflow.run(whole, quiet=True, max_workers=2).check()
    several = _outputs(whole)
    for cell_id, shown in one.items():
        assert _same(several.get(cell_id, [])) == _same(shown), cell_id


@pytest.mark.long
@pytest.mark.parametrize("name", ALL)
def test_a_notebook_gives_the_same_in_one_kernel_in_several_and_after_a_kill_behind_each_step(name, tmp_path):
    """Compared are the outputs of all cells, and a description of the value of every name behind the last step."""
    one = dict(plain.outputs(plain.run_plain(_with_end(name, tmp_path / "plain"), tmp_path / "plain" / "run")))
    whole = _with_end(name, tmp_path / "whole")
    nbflow.run(whole, quiet=True, max_workers=2).check()
    killed = _with_end(name, tmp_path / "killed")
    turns = _killed_behind_each_step(killed)
    assert turns > len(_steps(killed)) / 2, "a kill came behind most steps"
    several, again = _outputs(whole), _outputs(killed)
    assert all(not (one | several | again)[cell_id] for cell_id in several.keys() ^ one.keys()), "but skipped cells"
    for cell_id, shown in one.items():
        assert _same(several.get(cell_id, [])) == _same(shown), f"{cell_id} in several kernels"
        assert _same(again.get(cell_id, [])) == _same(shown), f"{cell_id} after kills"


def _killed_behind_each_step(path: Path) -> int:
    """Run a notebook to its end, whatever kills; gives how many processes that took."""
    for turn in range(1, 60):
        verb = "run" if turn == 1 else "resume"
        done = subprocess.run(
            [sys.executable, "-c", DIES, str(path), verb], capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode != -9:
            assert done.returncode == 0, done.stderr
            completed = Counter(
                event["key"]
                for event in _journal(path)
                if event["event"] == "NodeFinished" and event["status"] == "completed" and event.get("leaf", True)
            )
            assert set(completed.values()) == {1}, "nothing finished runs twice"
            return turn
    raise AssertionError("it never ended")


def _steps(path: Path) -> list[Any]:
    return read_steps(path)[0].steps


def _journal(path: Path) -> list[dict[str, Any]]:
    (folder,) = (path.parent / "nbflow-runs" / path.name).glob("2*")
    return [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]


# -- what was shown -----------------------------------------------------------------------------------------------


def _outputs(path: Path) -> dict[str, list[Any]]:
    """Give the outputs of all cells, those of items by their index."""
    (folder,) = (path.parent / "nbflow-runs" / path.name).glob("2*")
    found = dict(plain.outputs(nbformat.read(folder / f"{path.stem}.executed.ipynb", 4)))
    for event in _journal(path):
        if event["event"] != "NodeFinished" or ":" not in event["node"] or event["status"] != "completed":
            continue
        index = event["node"].rpartition(":")[2]
        executed = nbformat.read(folder / event["notebook"], 4)
        own = [
            cell
            for cell in executed.cells
            if cell.metadata.get("nbflow", {}).get("step") == event["node"].split(":")[0]
        ]
        executed.cells = [cell for cell in own if "injected-parameters" not in cell.metadata.tags]
        for cell_id, shown in plain.outputs(executed):
            found.pop(cell_id, None)
            found[f"{cell_id}-{index}"] = shown
    return {cell_id: shown for cell_id, shown in found.items() if cell_id in found}


def _same(shown: list[Any]) -> list[Any]:
    """Give outputs with their streams joined, and without what two runs may not share."""
    joined: list[Any] = []
    for one in shown:
        if one["output_type"] == "stream" and joined and joined[-1].get("name") == one["name"]:
            joined[-1] = {**joined[-1], "text": joined[-1]["text"] + one["text"]}
        else:
            joined.append(dict(one))
    return joined


# -- a step behind all others that looks at every name ------------------------------------------------------------


def _with_end(name: str, folder: Path) -> Path:
    """Copy a notebook, with one step more that describes the value of every name."""
    folder.mkdir(parents=True)
    notebook = nbformat.read(CORPUS / name, 4)
    names, last = _at_the_end(CORPUS / name)
    setup = nbformat.v4.new_code_cell("from describing import describe", metadata={"tags": ["setup"]}, id="describing")
    for place in (folder, folder / "run"):  # the notebook runs in one of them
        place.mkdir(exist_ok=True)
        shutil.copy(describing.__file__, place)
    listed = ",\n    ".join(f"({one!r}, {one})" for one in names)
    show = f"for name_, value_ in [\n    {listed}\n]:\n    print(name_, describe(value_))"
    tags = ["step:every-name", *(f"needs:{step}" for step in last)]
    notebook.cells = [setup, *notebook.cells, nbformat.v4.new_code_cell(show, metadata={"tags": tags}, id="every-name")]
    path = folder / name
    nbformat.write(notebook, path)
    return path


COUNTED_IN_ITEMS = {"gradient-descent.ipynb": {"Optimiser"}}
"""Objects that items change, each for itself: in one kernel these changes add up (docs/cells.md)."""


def _at_the_end(path: Path) -> tuple[list[str], list[str]]:
    """Give the names of whose value there is one behind all steps, and the steps for which none waits."""
    steps = read_steps(path)[0].steps
    notebook = read_notebook(path)
    told = links(notebook, path.name, path.name, steps)
    order = Order.of(steps)
    behind = {step.id: order.ended(step.id) for step in steps}
    waited = {other for those in order.waits.values() for other in those}
    uses = {step.id: told.steps[tuple(cells_of(step).tags)] for step in steps}
    names: dict[str, list[str]] = {}
    hidden: set[str] = set()
    for step in steps:
        shown = set(uses[step.id].assigns)
        if step is not cells_of(step):
            results = {
                name for one in plain.steps(nbformat.read(path, 4)) if one.name == step.id for name in one.results
            }
            hidden |= (shown - results) | {step.as_}
            shown &= results
        hidden |= uses[step.id].deletes
        for one in shown:
            names.setdefault(one, []).append(step.id)
    clear = [
        one
        for one, makers in sorted(names.items())
        if one not in hidden | COUNTED_IN_ITEMS.get(path.name, set())
        and not one.startswith("_")
        and one in {n for maker in makers for n in uses[maker].certain}
        and sum(not any(maker in behind[other] for other in makers) for maker in makers) == 1
    ]
    return clear, [step.id for step in steps if step.id not in waited]
