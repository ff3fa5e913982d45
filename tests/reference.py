"""What a workflow means, told by one worker: a recursive interpreter that shares no code with the machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nbflow.model import Block, Step, Workflow
from nbflow.steps import FanOut
from nbflow.testing import FakeStep, PausingStep

Acts = Callable[[str, dict[str, Any], int], tuple[str, Any, str]]
"""``acts(node, parameters, attempt)`` gives status, output and kind of failure."""


@dataclass
class Said:
    """How a node ends."""

    status: str
    output: Any = None


@dataclass
class Meaning:
    """All that one worker does."""

    status: str
    output: Any
    nodes: dict[str, tuple[str, Any]]
    starts: list[str]
    """Nodes of the attempts, in order."""


def mean(flow: Workflow, acts: Acts) -> Meaning:
    """Give what the workflow means for tasks that act so."""
    teller = _Teller(acts)
    said = teller.steps(flow.block, "", {"inputs": dict(flow.inputs)}, lambda step: step.id)
    return Meaning(said.status, said.output, teller.nodes, teller.starts)


def in_order(steps: Sequence[Step]) -> list[Step]:
    """Give the steps as one worker takes them: always the first in the text whose needs are met."""
    left, done = list(steps), []
    while left:
        for step in left:
            above = steps[steps.index(step) - 1] if steps.index(step) else None
            needs = step.needs if step.needs is not None else (above.id,) if above else ()
            if set(needs) <= {other.id for other in done}:
                done.append(step)
                left.remove(step)
                break
    return done


@dataclass
class _Teller:
    acts: Acts
    nodes: dict[str, tuple[str, Any]] = field(default_factory=dict)
    starts: list[str] = field(default_factory=list)

    def step(self, step: Step, node: str, names: dict[str, Any]) -> Said:
        said = self._step(step, node, names)
        self.nodes[node] = (said.status, said.output)
        return said

    def _step(self, step: Step, node: str, names: dict[str, Any]) -> Said:
        if isinstance(step, PausingStep):
            return Said("paused")
        try:
            if isinstance(step, FanOut):
                return self.items(step, node, names, step.items.resolve(names))
            assert isinstance(step, FakeStep)
            parameters = step.parameters.resolve(names)
        except LookupError:
            return Said("failed")
        attempt = 0
        while True:
            attempt += 1
            self.starts.append(node)
            status, output, kind = self.acts(node, parameters, attempt)
            if status != "failed" or attempt == step.retry.attempts or kind not in step.retry.on:
                return Said(status, output)

    def steps(self, block: Block, node: str, names: dict[str, Any], name: Callable[[Step], str]) -> Said:
        output = {}
        for step in in_order(block.steps):
            said = self.step(step, name(step), names)
            output[step.id] = said.output
            if said.status != "completed" and not (said.status == "failed" and step.continue_on_error):
                return Said(said.status, output)
        return Said("completed", output)

    def items(self, step: FanOut, node: str, names: dict[str, Any], items: Any) -> Said:
        if not isinstance(items, list):
            return Said("failed")
        results, statuses, failures, lost = [], set(), 0, 0
        for index, item in enumerate(items):
            inner = {**names, "item": item, step.item_name: item, "index": index}
            if step.single:
                body = step.body.steps[0]
                tolerant = body.continue_on_error
                said = self.step(body, f"{node}:{body.id}:{index}", inner)
            else:
                tolerant = False
                said = self.steps(step.body, node, inner, lambda one, at=index: f"{node}:{one.id}:{at}")
                self.nodes[f"{node}:*:{index}"] = (said.status, said.output)
            results.append(said.output)
            counted = said.status == "failed" and (step.max_failures is not None or not tolerant)
            failures += counted
            statuses |= {said.status} if said.status != "failed" or not tolerant else set()
            if step.max_failures is not None:
                over = failures == step.max_failures and counted
            else:
                over = step.on_error == "halt" and (counted or said.status == "paused")
            lost += said.status == "failed"
            if over:
                return Said(said.status, {"results": results, "failed": lost, "missing": len(items) - len(results)})
        worst = "paused" if "paused" in statuses else "failed" if "failed" in statuses else "completed"
        counts = {"failed": lost, "missing": 0} if worst != "completed" else {}
        return Said(worst, {"results": results, **counts})


@dataclass
class Place:
    """Where a node stands: the groups around it, each with the node's place there, the outermost first."""

    step: Step
    path: list[tuple[str, int]]
    tolerant: bool
    """Whether its failure is tolerated."""
    names: dict[str, Any]
    """What its expressions see."""


@dataclass
class Layout:
    """Every node that a workflow may have, whether one worker reaches it or not."""

    places: dict[str, Place] = field(default_factory=dict)
    lists: dict[str, list[tuple[Step, str]]] = field(default_factory=dict)
    """The steps of each group that is a list, in order, with their nodes."""
    fans: dict[str, FanOut] = field(default_factory=dict)
    """The fan-out of each group of items."""

    def reached(self, node: str, acts: Acts) -> list[str]:
        """Give the nodes that one worker reaches at this one and below it, wherever it stands itself."""
        teller = _Teller(acts)
        teller.step(self.places[node].step, node, self.places[node].names)
        return sorted(teller.nodes)


def layout(flow: Workflow) -> Layout:
    """Give every node that a workflow may have."""
    found = Layout()

    def steps(block: Block, group: str, path: list[tuple[str, int]], names: Any, name: Callable[[Step], str]) -> None:
        found.lists[group] = [(step, name(step)) for step in in_order(block.steps)]
        for place, (step, node) in enumerate(found.lists[group]):
            one(step, node, [*path, (group, place)], names)

    def one(step: Step, node: str, path: list[tuple[str, int]], names: Any) -> None:
        found.places[node] = Place(step, path, step.continue_on_error, names)
        if not isinstance(step, FanOut):
            return
        found.fans[node] = step
        try:
            items = step.items.resolve(names)
        except LookupError:
            return
        for index, item in enumerate(items if isinstance(items, list) else []):
            inner = {**names, "item": item, step.item_name: item, "index": index}
            below = [*path, (node, index)]
            if step.single:
                body = step.body.steps[0]
                one(body, f"{node}:{body.id}:{index}", below, inner)
            else:
                item_node = f"{node}:*:{index}"
                found.places[item_node] = Place(step, below, False, inner)
                steps(step.body, item_node, below, inner, lambda s, at=index, up=node: f"{up}:{s.id}:{at}")

    steps(flow.block, "", [], {"inputs": dict(flow.inputs)}, lambda step: step.id)
    return found
