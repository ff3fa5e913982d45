"""Workflows: what can be made, and in which order one worker takes it."""

from __future__ import annotations

from typing import Any

import pytest

from nbflow.errors import DefinitionError
from nbflow.model import Block, Literal, Merged, Name, Retry, label, retries
from nbflow.steps import CallStep, FanOut, NotebookStep, ShellStep
from nbflow.testing import FakeStep, fan_out


def steps(*needs: tuple[str, tuple[str, ...] | None]) -> list[FakeStep]:
    """Give steps with their needs."""
    return [FakeStep(id=name, needs=others) for name, others in needs]


def ids(block: Block) -> list[str]:
    """Give the ids in order."""
    return [step.id for step in block.steps]


def test_a_plain_list_runs_from_top_to_bottom() -> None:
    """Each step waits for the one above it."""
    block = Block(steps(("a", None), ("b", None), ("c", None)))
    assert (["a", "b", "c"], ((), (0,), (1,)), ((1,), (2,), ())) == (ids(block), block.waits, block.dependents)


def test_needs_make_a_graph_in_topological_order_with_ties_by_the_text() -> None:
    """A step that needs one below it comes behind that; the rest stays where it stands."""
    block = Block(steps(("report", ("clean", "other")), ("clean", ("load",)), ("other", ()), ("load", ())))
    assert ["other", "load", "clean", "report"] == ids(block)
    assert ((), (), (1,), (0, 2)) == block.waits


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: Block(steps(("a", None), ("a", None))), "step id 'a' stands twice in one list"),
        (lambda: Block(steps(("load", None), ("b", ("laod",)))), "needs 'laod', which is no step .* mean 'load'"),
        (lambda: Block(steps(("a", ("b",)), ("b", ("a",)))), "steps 'a', 'b' wait for each other"),
        (lambda: Block(steps(("a", ("a",)))), "steps 'a' wait for each other"),
        (lambda: FakeStep(id="1st"), "'1st' is no step id"),
        (lambda: FakeStep(id="a\n"), "is no step id"),
        (lambda: fan_out([1], max_failures=0), "max_failures is 0 in step 'map'"),
        (lambda: FanOut(id="m", items=Literal([]), body=Block([])), "has 0 steps as its one step"),
    ],
)
def test_what_cannot_be_run_cannot_be_made(made: Any, message: str) -> None:
    """The message names the value and the place."""
    with pytest.raises(DefinitionError, match=message):
        made()


def test_bindings_resolve_in_a_scope() -> None:
    """Later mappings win over earlier ones."""
    merged = Merged((Literal({"year": 2026, "city": "?"}), Name("item")))
    assert {"year": 2026, "city": "Oslo"} == merged.resolve({"item": {"city": "Oslo"}})  # type: ignore[arg-type]


def test_a_delay_grows_up_to_the_largest_and_jitter_shortens_it_by_half_at_most() -> None:
    """The same key and attempt give the same delay, so that a replay repeats it."""
    plain = Retry(delay=10, factor=2, jitter=False, max_delay=35)
    assert [10, 20, 35, 35] == [plain.pause(attempt, "key") for attempt in (1, 2, 3, 4)]
    shaken = Retry(delay=10, factor=2, max_delay=35)
    pauses = [shaken.pause(1, f"key{number}") for number in range(200)]
    assert pauses == [shaken.pause(1, f"key{number}") for number in range(200)]
    assert len(set(pauses)) > 190
    assert all(5 <= pause <= 10 for pause in pauses)
    assert min(pauses) < 5.5
    assert max(pauses) > 9.5


def test_retry_n_means_n_attempts_in_all() -> None:
    """After anything that may pass by itself, but not after a wrong expression."""
    policy = retries(3)
    assert 3 == policy.attempts
    assert all(policy.again(kind, None) for kind in ("dead-kernel", "timeout", "start", "error", "memory"))
    assert not policy.again("expression", None)
    assert 1 == retries(0).attempts


def test_what_decides_the_work_of_a_notebook() -> None:
    """Source, outputs, kernel and directory; not its id, time-outs or retries."""
    base: dict[str, Any] = {"id": "fit", "path": "fit.ipynb", "source": "abc"}
    assert NotebookStep(**base).code_digest != NotebookStep(**{**base, "source": "abd"}).code_digest
    same = NotebookStep(**base).work_digest
    for change in ({"outputs": ("a",)}, {"kernel": "ir"}, {"cwd": "item"}):
        assert same != NotebookStep(**{**base, **change}).work_digest, change
    for change in ({"id": "fat"}, {"timeout": 3.0}, {"cell_timeout": 3.0}, {"retry": Retry(9)}, {"path": "b.ipynb"}):
        assert same == NotebookStep(**{**base, **change}).work_digest, change
    assert CallStep(id="a", function="m:f").work_digest != CallStep(id="a", function="m:g").work_digest


@pytest.mark.parametrize(
    ("item", "varying", "text"),
    [
        ({"city": "Cairo", "year": 2026}, ("city",), "city=Cairo"),
        ({"city": "Cairo", "year": 2026}, (), "city=Cairo year=2026"),
        ({"city": "Cairo"}, ("gone",), "city=Cairo"),
        ("x" * 50, (), "x" * 37 + "..."),
        (None, (), "None"),
        ([1, 2], (), "[1, 2]"),
    ],
)
def test_people_call_items_by_what_varies(item: Any, varying: tuple[str, ...], text: str) -> None:
    """Long values are cut."""
    assert text == label(item, varying)


def test_what_a_workflow_says_of_a_task_is_code_and_what_its_expressions_give_is_not() -> None:
    """An edit of a literal moves the first part of the fingerprint, another value of an expression the second."""

    def parts(parameters: Any, resolved: Any, env: Any = None) -> tuple[str, str]:
        step = ShellStep(id="x", written=[parameters, env or {}])
        return step.code_digest, step.given_digest(resolved, env)

    one = parts({"run": ["fit.py", "{{ city }}"], "cwd": "."}, {"run": ["fit.py", "Oslo"], "cwd": "."})
    other_city = parts({"run": ["fit.py", "{{ city }}"], "cwd": "."}, {"run": ["fit.py", "Lima"], "cwd": "."})
    other_text = parts({"run": ["gap.py", "{{ city }}"], "cwd": "."}, {"run": ["gap.py", "Oslo"], "cwd": "."})
    other_order = parts({"cwd": ".", "run": ["fit.py", "{{ city }}"]}, {"run": ["fit.py", "Oslo"], "cwd": "."})
    assert (True, False) == (one[0] == other_city[0], one[1] == other_city[1])
    assert (False, True) == (one[0] == other_text[0], one[1] == other_text[1])
    assert one == other_order


@pytest.mark.parametrize(
    ("on", "again"),
    [
        (("memory",), (True, True, False)),
        (("dead-kernel",), (True, False, True)),
        (("error",), (False, True, False)),
        (("timeout",), (False, False, False)),
        (("MemoryError",), (False, True, False)),
    ],
)
def test_memory_is_a_word_for_deaths_and_errors(on: tuple[str, ...], again: tuple[bool, ...]) -> None:
    """Who tries again after either does so also when memory is known to be the reason; a guess is no such knowledge."""
    failures = [("memory", "DeadKernelError"), ("memory", "MemoryError"), ("dead-kernel", "DeadKernelError")]
    assert again == tuple(Retry(on=on).again(*failure) for failure in failures)
