"""The step kinds: each a generator that reads like the sentence that describes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeAlias

from ..model import Block, Names, Step, TaskStep
from ..namespace import gathered
from ..outcome import Failure, Outcome, completed, failed
from ..steps import (
    CallStep,
    CellsStep,
    DoWhile,
    FanIn,
    FanOut,
    GateStep,
    If,
    Loop,
    NotebookStep,
    ShellStep,
    StepList,
    SubWorkflow,
    Switch,
    While,
)
from ..values import File, Value, dumps
from .protocol import Ended, Flow, again, ask, attempt, each, skip, steps
from .scope import Scope, StepNames

SKIPPED = Outcome("skipped", attempts=0)
"""How a step ends whose ``when`` does not hold, or that stands in a branch not taken."""


def task(step: TaskStep, names: Names) -> Flow:
    """Try until it completes, the policy has no attempt left, or the failure is not one to try again."""
    parameters = step.parameters.resolve(names)
    if not isinstance(parameters, dict):
        return failed("expression", f"the parameters of {step.id} are {_named(parameters)}, not a mapping")
    environment = step.environment.resolve(names)
    given = step.given.resolve(names)
    assert isinstance(environment, dict), "the loader takes mappings only"
    assert isinstance(given, dict), "and gives one"
    while True:
        tried = yield from attempt(parameters, environment, given)
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
    results: list[Value] = [outcome.output for outcome in ended.outcomes]
    output: dict[str, Value] = {"results": results}
    if step.tells_outcomes:
        output["outcomes"] = [_told(place, items[place], one) for place, one in enumerate(ended.outcomes)]
    outcome = _of_items(len(items), ended, output)
    left = gathered(step.id, step.leaves, (one.names for one in ended.outcomes))
    return replace(outcome, names=left) if left else outcome


def _of_items(count: int, ended: Ended, output: dict[str, Value]) -> Outcome:
    if ended.status == "completed":
        return completed(output)
    lost = sum(outcome.status == "failed" for outcome in ended.outcomes)
    output.update(failed=lost, missing=count - len(ended.outcomes))
    if ended.decided is not None:
        return Outcome(ended.status, output, ended.outcomes[ended.decided].error)
    if not lost:
        return Outcome(ended.status, output)
    first = next(outcome.error for outcome in ended.outcomes if outcome.status == "failed") or Failure("error", "")
    return Outcome(ended.status, output, Failure(first.kind, f"{lost} of {count} failed", node=first.node))


def _told(index: int, item: Value, outcome: Outcome) -> dict[str, Value]:
    error = None if outcome.error is None else {"kind": outcome.error.kind, "message": outcome.error.message}
    return {
        "index": index,
        "parameters": item,
        "status": outcome.status,
        "output": outcome.output,
        "error": error,
        "attempts": outcome.attempts,
        "seconds": outcome.seconds,
    }


def fan_in(step: FanIn, names: Names) -> Flow:
    """Give the results of fan-outs that have ended; skipped if one of them was."""
    yield from ()
    seen = names["steps"]
    assert isinstance(seen, Mapping)
    records = [seen[step_id] for step_id in step.wait_for]
    if any(record["status"] == "skipped" for record in records):
        return SKIPPED
    outputs = [record.get("output") or {} for record in records]
    results = [output.get("results", []) for output in outputs]
    gathered: dict[str, Value] = {
        "results": results[0] if len(results) == 1 else results,
        "failed": sum(output.get("failed", 0) for output in outputs),
        "missing": sum(output.get("missing", 0) for output in outputs),
    }
    own = step.output.resolve(Scope({"fan_in": gathered}, names))
    assert isinstance(own, dict), "the loader takes mappings only"
    return completed({**gathered, **own})


def gate(step: GateStep, names: Names) -> Flow:
    """Ask a person until there is an answer that goes on; nobody there, and it pauses."""
    message, show = step.message.resolve(names), step.show.resolve(names)
    verdicts = {option.name: option.outcome for option in step.options}
    options, choice = tuple(verdicts), step.answer_from.resolve(names)
    while True:
        if choice is None or choice == "":
            choice = yield from ask(_text(message), options, None if show is None else _text(show))
        if choice is None:
            return Outcome("paused", {"message": message})
        name = choice.strip() if isinstance(choice, str) else _text(choice)
        if name not in verdicts:
            return failed("input", f"{name!r} is no answer to this gate; it takes {', '.join(options)}")
        answer: dict[str, Value] = {"choice": name, "outcome": verdicts[name]}
        if verdicts[name] == "approve" or step.on_reject == "skip":
            return completed(answer)
        if step.on_reject == "abort":
            return Outcome("aborted", answer, Failure("rejected", f"{name}: {_text(message)}"))
        choice = None  # asked again, and by a person


def if_(step: If, names: Names) -> Flow:
    """Run one of two lists; the steps of the other are skipped."""
    holds = step.condition.holds(names)
    taken, other = (step.then, step.otherwise) if holds else (step.otherwise, step.then)
    yield from skip(other)
    ended = yield from steps(taken)
    return _of_list(ended, {"condition": holds, "branch": "then" if holds else "else", "steps": by_id(taken, ended)})


def switch(step: Switch, names: Names) -> Flow:
    """Run the list whose case equals the value; the steps of the others are skipped."""
    value = step.value.resolve(names)
    found = next((case for case in step.cases if case[0].strip() == _text(value).strip()), None)
    case, taken = found or (None, step.default)
    yield from skip(*(block for _, block in step.cases if block is not taken))
    if found is not None:
        yield from skip(step.default)
    ended = yield from steps(taken)
    return _of_list(ended, {"value": value, "matched_case": case, "steps": by_id(taken, ended)})


def while_(step: While, names: Names) -> Flow:
    """Ask the condition before each turn; what still holds after the last one has exhausted the loop."""
    last: Ended | None = None
    for turn in range(step.max_iterations):
        if not step.condition.holds(_after(step.block, last, names)):
            return _looped(step, turn, last, exhausted=False)
        last = yield from steps(step.block, turn=turn)
        if last.decided is not None:
            return _looped(step, turn, last, exhausted=False)
    return _looped(step, step.max_iterations, last, exhausted=step.condition.holds(_after(step.block, last, names)))


def do_while(step: DoWhile, names: Names) -> Flow:
    """Ask the condition after each turn."""
    for turn in range(step.max_iterations):
        last = yield from steps(step.block, turn=turn)
        if last.decided is not None:
            return _looped(step, turn, last, exhausted=False)
        if not step.condition.holds(_after(step.block, last, names)):
            return _looped(step, turn + 1, last, exhausted=False)
    return _looped(step, step.max_iterations, last, exhausted=True)


def _after(block: Block, last: Ended | None, names: Names) -> Names:
    """Give what a loop's condition sees: the steps of the turn that ended last."""
    outcomes = last.outcomes if last is not None else ()
    return StepNames(block, outcomes, (1 << len(outcomes)) - 1, names)


def _looped(step: Loop, iterations: int, last: Ended | None, *, exhausted: bool) -> Outcome:
    outputs = by_id(step.block, last) if last is not None else {}
    output: dict[str, Value] = {"iterations": iterations, "exhausted": exhausted, "last": outputs}
    if exhausted and step.on_exhausted == "fail":
        return Outcome("failed", output, Failure("exhausted", f"its condition still holds after {iterations} turns"))
    return completed(output) if last is None else _of_list(last, output)


def step_list(step: StepList, names: Names) -> Flow:  # noqa: ARG001 - its steps see the names through their scope
    """Run a list of steps; its output has theirs by their ids."""
    ended = yield from steps(step.block)
    return _of_list(ended, by_id(step.block, ended))


def sub_workflow(step: SubWorkflow, names: Names) -> Flow:
    """Run the steps of another workflow, which see its inputs and nothing of what stands around it."""
    inner = Scope({"inputs": step.inputs.resolve(names), "context": step.context.resolve(names), "steps": {}})
    ended = yield from steps(step.block, inner)
    return _of_list(ended, by_id(step.block, ended))


def by_id(block: Block, ended: Ended) -> dict[str, Value]:
    """Give the outputs of a list's steps by their ids, up to the place that decided."""
    return {step.id: outcome.output for step, outcome in zip(block.steps, ended.outcomes, strict=False)}


def _of_list(ended: Ended, output: Value) -> Outcome:
    error = None if ended.decided is None else ended.outcomes[ended.decided].error
    return Outcome(ended.status, output, error)


def guarded(step: Step, names: Names, kind: Kind) -> Flow:
    """Run a step if its ``when`` holds."""
    assert step.when is not None
    if not step.when.holds(names):
        return SKIPPED
    return (yield from kind(step, names))


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


def _text(value: Value) -> str:
    """Give the text of a value: text as it is, others as JSON writes them."""
    return value if isinstance(value, str) else dumps(value)


def _named(value: Value) -> str:
    if isinstance(value, File):
        tables = "a table (its rows are table.to_dict('records'))" if value.format == "parquet" else "a file"
        return f"{tables}, {value.path}"
    return f"{type(value).__name__} {value!r:.40}"


Kind: TypeAlias = Callable[..., Flow]  # type: ignore[explicit-any]  # each takes its own class of step
"""``kind(step, names)``: the step is of the class under which the kind is looked up."""

KINDS: Mapping[type[Step], Kind] = {
    NotebookStep: task,
    CellsStep: task,
    ShellStep: task,
    CallStep: task,
    FanOut: fan_out,
    FanIn: fan_in,
    GateStep: gate,
    If: if_,
    Switch: switch,
    While: while_,
    DoWhile: do_while,
    StepList: step_list,
    SubWorkflow: sub_workflow,
}
