"""Random workflows, how their tasks act, and what is watched while they run."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from nbflow.events import Event, NodeFinished, NodeStarted
from nbflow.model import Block, Literal, Names, Retry, Step, Workflow, node_text
from nbflow.outcome import Outcome, completed, failed
from nbflow.steps import FanOut
from nbflow.task import Task
from nbflow.testing import FakeStep, PausingStep, Simulated
from nbflow.values import Value
from tests.reference import Acts, Layout, Meaning

NEVER = 10**6
"""Failures of a task that never completes."""


@dataclass(frozen=True)
class Seen:
    """Parameters made of all items that stand around the task."""

    names: tuple[str, ...]

    def resolve(self, names: Names) -> Value:
        """Give each name its value."""
        return {name: names[name] for name in self.names}


@dataclass(frozen=True)
class Broken:
    """A binding that has no value for some items."""

    name: str
    at: int

    def resolve(self, names: Names) -> Value:
        """Raise at one value of the item."""
        if names[self.name] == self.at:
            raise KeyError(self.name)
        return {self.name: names[self.name]}


@dataclass(frozen=True)
class Below:
    """As many items as the number of the item outside."""

    name: str

    def resolve(self, names: Names) -> Value:
        """Give the numbers below it; a text for the largest, which is no list."""
        number = names[self.name]
        assert isinstance(number, int)
        return list(range(number)) if number < 5 else "no list"


@dataclass
class Maker:
    """Makes workflows from a source of random numbers, Hypothesis' own or another."""

    random: Random
    steps: int = 3
    """Steps in a list at most."""
    items: int = 8
    """Items in a fan-out at most."""
    depth: int = 2
    """Fan-outs inside each other at most."""
    pauses: bool = True
    retries: bool = True
    broken: bool = True
    _count: int = 0

    def workflow(self) -> Workflow:
        """Give a workflow that has a fan-out at least."""
        first = self._fan_out((), self.depth)
        rest = [self._step((), self.depth) for _ in range(self.random.randint(0, self.steps - 1))]
        return Workflow(name="random", block=self._block([first, *rest]), max_workers=self.random.randint(1, 5))

    def _id(self, letter: str) -> str:
        self._count += 1
        return f"{letter}{self._count}"

    def _block(self, steps: Sequence[Step]) -> Block:
        if len(steps) < 2 or self.random.randint(0, 2):
            return Block(steps)
        order = self.random.sample(range(len(steps)), len(steps))  # a graph: needs may point forward in the text
        made = list(steps)
        for at, place in enumerate(order):
            needs = [steps[other].id for other in order[:at] if self.random.randint(0, 1)]
            made[place] = _with(steps[place], needs=tuple(needs))
        return Block(made)

    def _step(self, around: tuple[str, ...], depth: int) -> Step:
        number = self.random.randint(0, 19)
        if depth and number < 8:
            return self._fan_out(around, depth)
        if self.pauses and number == 19:
            return PausingStep(id=self._id("p"))
        return self._task(around)

    def _task(self, around: tuple[str, ...]) -> Step:
        numbers = [name for name in around if name != "item"]
        parameters: Any = Seen(around)
        if self.broken and numbers and not self.random.randint(0, 11):
            parameters = Broken(self.random.choice(numbers), self.random.randint(0, 5))
        attempts = self.random.randint(1, 3) if self.retries else 1
        delay = self.random.choice([0.0, 1.0, 20.0])
        return FakeStep(
            id=self._id("t"),
            parameters=parameters,
            retry=Retry(attempts=attempts, on=("error",), delay=delay),
            continue_on_error=not self.random.randint(0, 4),
        )

    def _fan_out(self, around: tuple[str, ...], depth: int) -> FanOut:
        name = f"x{depth}"
        inside = tuple(dict.fromkeys([*around, name, "item"]))
        several = self.random.randint(1, self.steps) if not self.random.randint(0, 1) else 1
        body = [self._step(inside, depth - 1) for _ in range(several)]
        window = self.random.choice([1, 2, 2, 3, 4, 8])
        outer = [other for other in around if other != "item"]
        items: Any = Literal([self.random.randint(0, 5) for _ in range(self.random.randint(0, self.items))])
        if outer and not self.random.randint(0, 2):
            items = Below(self.random.choice(outer))
        mode = self.random.randint(0, 3)
        return FanOut(
            id=self._id(f"w{window}_"),
            items=items,
            body=self._block(body),
            single=several == 1 and bool(self.random.randint(0, 3)),
            item_name=name,
            max_concurrency=Literal(self.random.choice([window, str(window)])),
            on_error="halt" if mode < 2 else "continue",
            max_failures=self.random.randint(1, 3) if mode == 3 else None,
            continue_on_error=not self.random.randint(0, 4),
        )


def _with(step: Step, **changes: Any) -> Step:
    """Give the step with other fields."""
    return replace(step, **changes)


def acting(seed: int, one_in: int = 7) -> Acts:
    """Give how tasks act: about one in so many fails, some of these only at first."""

    def acts(node: str, parameters: dict[str, Any], attempt: int) -> tuple[str, Any, str]:
        number = zlib.crc32(f"{seed}:{node}".encode())
        failures = 0 if number % one_in else (NEVER, 1, 2)[number // one_in % 3]
        if attempt <= failures:
            return "failed", None, "error" if number % 5 else "start"
        return "completed", {"node": node, **parameters}, ""

    return acts


def answering(acts: Acts) -> Callable[[Task], Outcome]:
    """Give the same as an answer to the machine's tasks."""

    def answer(task: Task) -> Outcome:
        status, output, kind = acts(node_text(task.node), task.parameters, task.attempt)
        return completed(output) if status == "completed" else failed(kind, f"boom in {node_text(task.node)}")

    return answer


def steady(acts: Acts, flow: Layout) -> Acts:
    """Let tasks that complete at last do so within their policy's attempts: then no crash changes how they end."""

    def again(node: str, parameters: dict[str, Any], attempt: int) -> tuple[str, Any, str]:
        step = flow.places[node].step
        assert isinstance(step, FakeStep)
        for number in range(1, step.retry.attempts + 1):
            last = acts(node, parameters, number)
            if last[0] == "completed" or last[2] not in step.retry.on:
                break
        first = acts(node, parameters, 1)
        if last[0] == "completed":
            return acts(node, parameters, attempt)
        return first

    return again


def ends(run: Simulated) -> dict[str, tuple[str, Value]]:
    """Give how each node ended."""
    return {
        node_text(event.node): (event.outcome.status, event.outcome.output)
        for event in run.events
        if isinstance(event, NodeFinished)
    }


def check_equal(meaning: Meaning, run: Simulated) -> None:
    """Check that a run equals what one worker does, and every node that one worker reaches."""
    assert run.outcome is not None
    assert (meaning.status, meaning.output) == (run.outcome.status, run.outcome.output)
    got = ends(run)
    assert meaning.nodes == {node: got.get(node) for node in meaning.nodes}


class Watch:
    """Looks at events one by one: windows are kept, and nothing starts behind a halt."""

    def __init__(self, flow: Layout) -> None:
        self.flow = flow
        self.halted: dict[str, int] = {}
        self.failed: dict[str, list[int]] = {}
        self.open: dict[str, set[int]] = {}
        self.most: dict[str, int] = {}

    def all(self, events: Iterable[Event]) -> Watch:
        """Look at all events."""
        for event in events:
            if isinstance(event, NodeStarted):
                self._started(node_text(event.node))
            elif isinstance(event, NodeFinished):
                self._finished(node_text(event.node), event.outcome)
        return self

    def _started(self, node: str) -> None:
        for group, place in self.flow.places[node].path:
            halt = self.halted.get(group)
            assert halt is None or place <= halt, f"{node} started behind place {halt} of {group!r}"
            fan = self.flow.fans.get(group)
            if fan is not None:
                self.open.setdefault(group, set()).add(place)
                window = int(fan.id[1:].partition("_")[0])
                self.most[group] = max(self.most.get(group, 0), len(self.open[group]))
                assert len(self.open[group]) <= window, f"more than {window} items of {group} at once"

    def _finished(self, node: str, outcome: Outcome) -> None:
        where = self.flow.places[node]
        group, place = where.path[-1]
        fan = self.flow.fans.get(group)
        if fan is not None:
            self.open.get(group, set()).discard(place)
        if fan is None:
            halts = outcome.status != "completed" and not (outcome.status == "failed" and where.tolerant)
        elif outcome.status == "failed":
            counts = fan.max_failures is not None or not where.tolerant
            failed_at = self.failed.setdefault(group, [])
            failed_at += [place] if counts else []
            allowed = fan.max_failures or (1 if fan.on_error == "halt" else NEVER)
            halts = counts and len(failed_at) >= allowed
            place = sorted(failed_at)[allowed - 1] if halts else place
        else:
            halts = outcome.status == "paused" and fan.on_error == "halt" and fan.max_failures is None
        if halts:
            self.halted[group] = min(place, self.halted.get(group, place))
