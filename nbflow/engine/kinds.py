"""The step kinds: each a generator that reads like the sentence that describes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from ..model import CallStep, FanOut, Names, NotebookStep, Step, StepList, TaskStep
from ..outcome import Failure, Outcome, failed
from ..values import Value
from .protocol import Flow, again, attempt, each, steps


def task(step: TaskStep, names: Names) -> Flow:
    """Try until it completes, the policy has no attempt left, or the failure is not one to try again."""
    parameters = step.parameters.resolve(names)
    if not isinstance(parameters, dict):
        return failed("expression", f"the parameters of {step.id} are {_named(parameters)}, not a mapping")
    while True:
        tried = yield from attempt(parameters)
        error = tried.outcome.error
        if error is None or not tried.left or not step.retry.again(error.kind, error.exception):
            return tried.outcome
        yield from again(tried.outcome, step.retry.pause(tried.number, tried.key))


def fan_out(step: FanOut, names: Names) -> Flow:
    """Run the body for each item, so many in flight; the results stand in item order."""
    items = step.items.resolve(names)
    if not isinstance(items, list):
        return failed("expression", f"the items of {step.id} are {_named(items)}, not a list")
    window, warning = concurrency(step.max_concurrency.resolve(names))
    ended = yield from each(items, window, warning)
    output: Value = {"results": [outcome.output for outcome in ended.outcomes]}
    if ended.status == "completed":
        return Outcome("completed", output)
    if ended.decided is not None:
        return Outcome(ended.status, output, ended.outcomes[ended.decided].error)
    lost = sum(outcome.status == "failed" for outcome in ended.outcomes)
    first = next((outcome.error for outcome in ended.outcomes if outcome.error is not None), None)
    kind = first.kind if first is not None else "error"
    return Outcome(ended.status, output, Failure(kind, f"{lost} of {len(items)} failed") if lost else None)


def step_list(step: StepList, names: Names) -> Flow:  # noqa: ARG001 - its steps see the names through their scope
    """Run a list of steps; its output has theirs by their ids."""
    ended = yield from steps(step.block)
    output: Value = {s.id: o.output for s, o in zip(step.block.steps, ended.outcomes, strict=False)}
    error = None if ended.decided is None else ended.outcomes[ended.decided].error
    return Outcome(ended.status, output, error)


def concurrency(value: Value) -> tuple[int, str]:
    """Give how many items may be in flight, and a warning where the value was no whole number from 1.

    Examples
    --------
    >>> concurrency("4")
    (4, '')
    >>> concurrency(2.9)
    (2, 'max_concurrency is 2.9: rounded down to 2')
    >>> concurrency("many")
    (1, "max_concurrency is 'many', no number: items run one by one")
    """
    if value is None:
        return 1, ""
    try:  # text must be whole; a float rounds down; infinity overflows
        number = int(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else None
    except (ValueError, OverflowError):
        number = None
    if number is None:
        return 1, f"max_concurrency is {value!r}, no number: items run one by one"
    if isinstance(value, float) and number != value:
        return max(1, number), f"max_concurrency is {value!r}: rounded down to {max(1, number)}"
    return max(1, number), ""


def _named(value: Value) -> str:
    return f"{type(value).__name__} {value!r:.40}"


Kind: TypeAlias = Callable[..., Flow]  # type: ignore[explicit-any]  # each takes its own class of step
"""``kind(step, names)``: the step is of the class under which the kind is looked up."""

KINDS: Mapping[type[Step], Kind] = {NotebookStep: task, CallStep: task, FanOut: fan_out, StepList: step_list}
