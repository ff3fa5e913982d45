"""The notebooks that people see first: they run, and give what is stored in them (nbval)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

TOP = Path(__file__).parent.parent
NOTEBOOKS = sorted((TOP / "notebooks").glob("*.ipynb"))
SWEEP = "sweep.ipynb"
"""Runs a notebook twelve times, which takes a while."""
LONG = {SWEEP, "progression.ipynb", "wine-measure.ipynb", "wine-report.ipynb", "wine-together.ipynb"}
"""Those that take longest: the others show the same."""


@pytest.fixture
def notebooks(tmp_path: Path) -> Path:
    """Give a copy of notebooks/, so that no test leaves anything in the checkout."""
    return Path(
        shutil.copytree(
            TOP / "notebooks",
            tmp_path / "notebooks",
            ignore=shutil.ignore_patterns("nbflow-runs", "*.nbflow.json", ".ipynb_checkpoints"),
        )
    )


def nbval(path: Path) -> subprocess.CompletedProcess[str]:
    """Run one notebook's cells in order and compare the outputs of those that ask for it."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval-lax", "-p", "no:cacheprovider", "-q", path.name],
        cwd=path.parent,
        env={**os.environ, "PYTHONPATH": str(TOP), "PYTHONWARNINGS": "ignore"},
        text=True,
        capture_output=True,
        check=False,
    )


@pytest.mark.parametrize(
    "name", [pytest.param(path.name, marks=[pytest.mark.long] if path.name in LONG else []) for path in NOTEBOOKS]
)
def test_a_notebook_gives_what_is_stored_in_it(notebooks, name):
    """Each cell runs, and each cell marked NBVAL_CHECK_OUTPUT gives its stored output."""
    done = nbval(notebooks / name)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.long
def test_a_wrong_number_would_be_seen(notebooks):
    """With another error stored, the check fails."""
    path = notebooks / "progression.ipynb"
    text = path.read_text("utf-8")
    assert text.count("typical error 54.6 points") == 1
    path.write_text(text.replace("typical error 54.6 points", "typical error 44.6 points"), "utf-8")
    done = nbval(path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed" in done.stdout


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_stored_clean(path):
    """Valid, with ids and outputs, without errors, warnings, or paths of the machine that ran it."""
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert {"kernelspec", "language_info"} == set(notebook.metadata)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert list(range(1, len(code) + 1)) == [cell.execution_count for cell in code]
    outputs = [output for cell in code for output in cell.outputs]
    assert "error" not in {output.output_type for output in outputs}
    assert "stderr" not in {output.get("name") for output in outputs}
    text = path.read_text("utf-8")
    assert [] == [word for word in ("/home/", "/tmp/", "/work/", "/root/") if word in text]


@pytest.mark.long
def test_the_workflow_of_the_notebooks_runs_to_its_report(notebooks):
    """It loads, fans out, gathers, branches, asks, and reports; an answer repeats nothing."""
    environment = {**os.environ, "PYTHONPATH": str(TOP)}

    def nbflow(*words: str) -> tuple[int, dict[str, Any]]:
        command = [sys.executable, "-m", "nbflow", *words, "--json"]
        done = subprocess.run(command, cwd=notebooks, env=environment, text=True, capture_output=True, check=False)
        return done.returncode, json.loads(done.stdout)

    code, paused = nbflow("run", "wine.yml")
    assert (3, "paused", ["review"]) == (code, paused["status"], [gate["gate"] for gate in paused["waits_for"]])
    shares = [one["share"] for one in paused["nodes"]["one"]["output"]["results"]]
    assert 11 == len(shares)
    assert max(shares) == paused["nodes"]["gather"]["output"]["best"]
    assert paused["nodes"]["more/together"]["output"]["share"] > max(shares), "several tell more than one"
    code, done = nbflow("answer", "wine.yml", "review", "publish")
    assert (0, "completed", []) == (code, done["status"], done["waits_for"])
    before = {name: node for name, node in paused["nodes"].items() if node["notebook"]}
    assert before == {name: done["nodes"][name] for name in before}, "what had finished is kept as it was"
    assert "completed" == done["nodes"]["report"]["status"]
    assert Path(done["nodes"]["report"]["notebook"]).exists()


@pytest.mark.long
def test_the_notebook_of_steps_measures_every_company(notebooks):
    """By hand it is one company; as a workflow it is each, and the report has a value for all of them."""
    command = [sys.executable, "-m", "nbflow", "run", "prices.ipynb", "-i", 'companies=["IBM", "AAPL"]', "--json"]
    environment = {**os.environ, "PYTHONPATH": str(TOP)}
    done = subprocess.run(command, cwd=notebooks, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    nodes = json.loads(done.stdout)["nodes"]
    measures = [nodes[f"measure:measure:{at}"]["output"]["measures"] for at in (0, 1)]
    found = {one["company"]: one["gain"] for one in measures}
    assert {"IBM", "AAPL"} == found.keys()
    assert max(found, key=found.__getitem__) == nodes["report"]["output"]["best"]
