"""How many tasks of a workflow can be at work at the same time."""

from __future__ import annotations

from ..model import Binding, Block, Names, Step, TaskStep, Workflow
from ..steps import FanOut, If, SubWorkflow, Switch
from ..values import Value
from .kinds import concurrency
from .scope import Scope

__all__ = ["most_at_once"]


def most_at_once(workflow: Workflow, workers: int) -> int:
    """Give a number that the tasks in flight never exceed, from 1 to the workers there are.

    Steps that wait for each other never run together, and a fan-out whose items are known has no more than these. What
    is known only while the run is at work counts as all workers.

    Examples
    --------
    >>> from nbflow.testing import FakeStep, fan_out, workflow
    >>> most_at_once(workflow(FakeStep(id="one"), FakeStep(id="two")), 4), most_at_once(workflow(fan_out([1, 2])), 4)
    (1, 1)
    """
    names = Scope({"inputs": dict(workflow.inputs), "context": dict(workflow.context), "steps": {}})
    return max(1, _of_block(workflow.block, names, workers))


def _of_block(block: Block, names: Names, workers: int) -> int:
    """Sum up over chains of steps that wait for each other: of each chain one step at a time is at work."""
    chains: list[tuple[int, int]] = []  # the last place of each, and the most of any step in it
    for place, step in enumerate(block.steps):
        own = _of_step(step, names, workers)
        behind = next((i for i, (last, _) in enumerate(chains) if block.before[place] >> last & 1), None)
        if behind is None:
            chains.append((place, own))
        else:
            chains[behind] = (place, max(chains[behind][1], own))
    return min(workers, sum(most for _, most in chains))


def _of_step(step: Step, names: Names, workers: int) -> int:
    if isinstance(step, SubWorkflow):
        names = Scope({})  # its inputs are its own
    below = [_of_block(block, names, workers) for block in step.blocks]
    if isinstance(step, FanOut):
        return min(workers, _items(step, names, workers) * below[0])
    if isinstance(step, (If, Switch)):
        return max(below)
    return sum(below) if below else int(isinstance(step, TaskStep))


def _items(step: FanOut, names: Names, workers: int) -> int:
    """Give how many items can be in flight: as many as there are, and as their window takes."""
    items = _known(step.items, names, None)
    window, _ = concurrency(_known(step.max_concurrency, names, workers))
    return min(window, len(items)) if isinstance(items, list) else window


def _known(binding: Binding, names: Names, otherwise: Value) -> Value:
    """Give a value if it is known before the run."""
    try:
        return binding.resolve(names)
    except Exception:  # noqa: BLE001 - what cannot be told now is told, or fails, in its turn
        return otherwise
