"""Threads of libraries: the cores are shared out among the tasks that run at a time, and a person's word counts."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nbflow
from nbflow.api import session
from nbflow.engine.width import most_at_once
from nbflow.host import THREADS, thread_limits, usable_cores
from nbflow.model import Block, Literal, Names, Step
from nbflow.steps import GateStep, If, StepList, SubWorkflow
from nbflow.testing import FakeStep, fan_out, workflow

TELL = "import os; told = [os.environ.get(name) for name in ('OMP_NUM_THREADS', 'RAYON_NUM_THREADS', 'MINE')]"


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with eight cores, where nobody has said anything about threads."""
    monkeypatch.setattr("nbflow.host.usable_cores", lambda: 8)
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)


def one(name: str, needs: tuple[str, ...] | None = None) -> FakeStep:
    """Give a task."""
    return FakeStep(id=name, needs=needs)


class Later:
    """A value that is not known yet."""

    def resolve(self, names: Names) -> Any:
        """Look for what is not there."""
        return names["nothing"]


@pytest.mark.parametrize(
    ("most", "steps"),
    [
        (1, [one("a"), one("b"), one("c")]),
        (3, [one("a"), one("b", ()), one("c", ())]),
        (2, [one("a"), one("b", ("a",)), one("c", ("a",)), one("d", ("b", "c"))]),
        (1, [GateStep(id="a", message=Literal("?")), one("b", ())]),
        (1, []),
        (1, [fan_out([1, 2, 3])]),
        (3, [fan_out([1, 2, 3], max_concurrency=Literal(5))]),
        (1, [fan_out([], max_concurrency=Literal(5))]),
        (5, [fan_out("abc", max_concurrency=Literal(5)), fan_out("de", id="b", needs=(), max_concurrency=Literal(9))]),
        (8, [fan_out(range(100), max_concurrency=Literal(100))]),
        (6, [fan_out([1, 2, 3], fan_out([1, 2], id="in", max_concurrency=Literal(9)), max_concurrency=Literal(9))]),
        (2, [fan_out([1, 2], [one("a"), one("b")], max_concurrency=Literal(9))]),
        (2, [If(id="if", condition=None, then=Block([one("a")]), otherwise=Block([one("a"), one("b", ())]))]),  # type: ignore[arg-type]  # nobody asks it
        (2, [SubWorkflow(id="in", block=Block([StepList(id="l", block=Block([one("a"), one("b", ())]))]))]),
    ],
)  # fmt: skip
def test_no_more_tasks_run_at_a_time_than_the_workflow_lets(most: int, steps: list[Step]) -> None:
    """Steps that wait for each other never run together, and a fan-out has so many items."""
    assert most == most_at_once(workflow(*steps), 8)


def test_items_that_are_known_later_may_take_all_workers() -> None:
    """Nobody knows how many there will be."""
    fan = fan_out([1], max_concurrency=Literal(99))
    later = type(fan)(id="map", items=Later(), body=fan.body, max_concurrency=Literal(99))
    assert 8 == most_at_once(workflow(later), 8)
    assert 3 == most_at_once(workflow(type(fan)(id="m", items=Later(), body=fan.body, max_concurrency=Literal(3))), 8)


@pytest.mark.parametrize(("threads", "at_once"), [("8", 1), ("4", 2), ("2", 3), ("1", 8), ("1", 20)])
def test_the_cores_are_shared_out(eight_cores: None, threads: str, at_once: int) -> None:
    """Each of the tasks that run at a time gets its part, and one at least."""
    assert dict.fromkeys(THREADS, threads) == thread_limits(at_once)


def test_kernels_and_commands_get_their_share_of_the_cores(eight_cores: None, notebook: Callable[..., Path]) -> None:
    """Two items at a time get half of the cores each, one item gets all of them; our own process is left alone."""
    path = notebook(results=TELL.replace("told", "square"))
    two = nbflow.map(path, grid={"n": [1, 2, 3]}, max_concurrency=2, quiet=True)
    assert [["4", "4", None]] * 3 == [item["square"] for item in two.results]
    assert [["8", "8", None]] == [
        i["square"] for i in nbflow.map(path, grid={"n": [1]}, max_concurrency=4, quiet=True).results
    ]
    assert all(name not in os.environ for name in THREADS)


def test_what_a_person_has_set_counts(
    eight_cores: None, notebook: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the environment of nbflow, in that of the step, and also that a variable is not to be there."""
    notebook(parameters=None, results=TELL, name="tell.ipynb")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("RAYON_NUM_THREADS", "")
    shell = 'echo "[\\"${OMP_NUM_THREADS-none}\\", \\"${RAYON_NUM_THREADS-none}\\"]"'
    steps: list[Any] = [
        nbflow.Notebook(id="plain", notebook="tell.ipynb"),
        nbflow.Notebook(id="own", notebook="tell.ipynb", env={"OMP_NUM_THREADS": 5, "RAYON_NUM_THREADS": None}),
        nbflow.Shell(id="shell", run=shell, format="json"),
        nbflow.Shell(id="own_shell", run=shell, format="json", env={"OMP_NUM_THREADS": 5, "RAYON_NUM_THREADS": None}),
    ]
    results = nbflow.run(nbflow.Workflow(name="said", steps=steps), quiet=True).check().results
    assert ["3", "", None] == results["plain"]["told"]
    assert ["5", None, None] == results["own"]["told"]
    assert ["3", ""] == results["shell"]["data"]
    assert ["5", "none"] == results["own_shell"]["data"]


def test_a_resume_shares_the_cores_among_what_is_left(
    eight_cores: None, notebook: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One item is left of four, and gets all cores; the threads are no part of what an item is known by."""
    seen: list[int] = []
    path = notebook("if n == 3: 1/0", results="square = n")
    nbflow.map(path, grid={"n": [1, 2, 3, 4]}, max_concurrency=2, quiet=True)
    monkeypatch.setattr(session, "thread_limits", lambda at_once: seen.append(at_once) or {})
    notebook("", results="square = n")
    assert "completed" == nbflow.resume(path, changed="keep", quiet=True).status
    assert [1] == seen


def test_openblas_goes_by_the_one_variable(notebook: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """``OMP_NUM_THREADS`` is enough for NumPy: a kernel that has imported it has no thread of OpenBLAS more."""
    pytest.importorskip("threadpoolctl")
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    cell = "import numpy, threadpoolctl; square = [one['num_threads'] for one in threadpoolctl.threadpool_info()]"
    run = nbflow.map(notebook(results=cell), grid={"n": [1, 2]}, max_concurrency=2, quiet=True).check()
    share = max(1, usable_cores() // 2)
    assert all(threads == share for item in run.results for threads in item["square"])
