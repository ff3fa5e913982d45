"""Random workflow definitions of all kinds, and what they mean: told by one worker that shares no code with nbflow."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

NEVER = 10**6
Data = dict[str, Any]
Acts = Callable[[str, Data, int, int], tuple[str, Any]]
"""``acts(node, arguments, attempt, most)`` gives status and output of one of so many attempts at most."""


@dataclass(frozen=True)
class Expression:
    """A number, as its text in a definition and as Python."""

    text: str
    value: Callable[[Names], int]


@dataclass
class Names:
    """What one step sees."""

    inputs: Data
    items: Data
    steps: Callable[[str], tuple[str, Any] | None]
    """Gives status and output of a visible step."""

    def number(self, step_id: str) -> int:
        """Give what a task gave, or -1."""
        found = self.steps(step_id)
        return found[1]["v"] if found is not None and isinstance(found[1], dict) and "v" in found[1] else -1


@dataclass
class Maker:
    """Makes definitions."""

    random: Random
    steps: int = 3
    depth: int = 3
    gates: bool = True
    retries: bool = True
    files: dict[str, Data] = field(default_factory=dict)
    _count: int = 0
    _sight: list[Expression] = field(default_factory=list)

    def workflow(self) -> Data:
        """Give a definition."""
        given: Data = {"nbflow": 1, "inputs": {"n": {"type": "integer", "default": self.random.randint(0, 5)}}}
        given["max_workers"] = self.random.randint(1, 4)
        if not self.random.randint(0, 3):
            given["on_failure"] = "continue"
        self._sight = [Expression("inputs.n", lambda names: names.inputs["n"])]
        given["steps"] = self._list(self.depth)
        return given

    def _id(self, letter: str) -> str:
        self._count += 1
        return f"{letter}{self._count}"

    def _expression(self) -> Expression:
        return self.random.choice(self._sight)

    def _list(self, depth: int, *, turns: bool = False) -> list[Data]:
        count = self.random.randint(1, self.steps)
        outer = list(self._sight)
        made: list[Data] = []
        waits: list[set[int]] = []  # for each step the places that have ended when it starts
        free = bool(self.random.randint(0, 2) == 0)
        for place in range(count):
            near = {place - 1} if place else set()
            chosen = {other for other in range(place) if self.random.randint(0, 1)} if free else near
            closure = set(chosen)
            for other in chosen:
                closure |= waits[other]
            waits.append(closure)
            self._sight = outer + [_of(made[other]["id"]) for other in sorted(closure) if "call" in made[other]]
            if turns:
                self._sight += [_of(one["id"]) for at, one in enumerate(made) if at not in closure and "call" in one]
            step = self._step(depth, [made[other]["id"] for other in closure if "items" in made[other]])
            if free:
                step["needs"] = [made[other]["id"] for other in sorted(chosen)]
            made.append(step)
        self._sight = outer
        return made

    def _step(self, depth: int, fans: list[str]) -> Data:
        number = self.random.randint(0, 15)
        if fans and number == 15:
            step: Data = {"id": self._id("g"), "wait_for": [self.random.choice(fans)]}
        elif depth and number < 3:
            step = self._fan_out(depth)
        elif depth and number == 3:
            step = {"id": self._id("c"), "if": self._condition(), "then": self._list(depth - 1)}
            if self.random.randint(0, 1):
                step["else"] = self._list(depth - 1)
        elif depth and number == 4:
            cases = {str(case): self._list(depth - 1) for case in self.random.sample(range(-1, 4), 2)}
            step = {"id": self._id("s"), "switch": self._expression().text, "cases": cases}
            if self.random.randint(0, 1):
                step["default"] = self._list(depth - 1)
        elif depth and number in (5, 6):
            step = self._loop(depth, until=number == 5)
        elif depth and number == 7:
            step = self._inner(depth)
        elif self.gates and number == 8:
            step = {"id": self._id("q"), "gate": "Go on with {{ " + self._expression().text + " }}?"}
            step["on_reject"] = self.random.choice(["skip", "skip", "retry", "retry", "abort"])
        else:
            step = self._task()
        if "wait_for" not in step and not self.random.randint(0, 6):
            step["when"] = self._condition()
        if "gate" not in step and "wait_for" not in step and not self.random.randint(0, 4):
            step["continue_on_error"] = True
        return step

    def _task(self) -> Data:
        arguments = {f"a{i}": "{{ " + self._expression().text + " }}" for i in range(self.random.randint(0, 2))}
        step: Data = {"id": self._id("t"), "call": "builtins:dict", "arguments": arguments}
        if self.retries and not self.random.randint(0, 3):
            step["retry"] = {"attempts": self.random.randint(2, 3), "on": ["error"]}
        return step

    def _condition(self) -> str:
        return f"({self._expression().text}) % {self.random.randint(2, 3)} == 0"

    def _fan_out(self, depth: int) -> Data:
        step: Data = {"id": self._id("f"), "as": self._id("x")}
        step["items"] = [
            "{{ " + self._expression().text + " }}" if not self.random.randint(0, 4) else self.random.randint(0, 3)
            for _ in range(self.random.randint(0, 4))
        ]
        step["max_concurrency"] = self.random.choice([1, 2, 4, "3"])
        mode = self.random.randint(0, 3)
        if mode == 2:
            step["on_error"] = "continue"
        if mode == 3:
            step["max_failures"] = self.random.randint(1, 2)
        outer = list(self._sight)
        self._sight = [*outer, Expression(step["as"], lambda names, name=step["as"]: names.items[name])]  # type: ignore[misc]
        if self.random.randint(0, 1):
            step["step"] = self._step(depth - 1, [])
        else:
            step["steps"] = self._list(depth - 1)
        self._sight = outer
        return step

    def _loop(self, depth: int, *, until: bool) -> Data:
        body = self._list(depth - 1, turns=True)
        numbers = [_of(one["id"]) for one in body if "call" in one]
        outer = list(self._sight)
        self._sight = [*outer, *numbers]
        step: Data = {"id": self._id("l")}
        step |= {"do": body} if until else {"steps": body}
        step["while"] = self._condition()
        step["max_iterations"] = self.random.randint(1, 3)
        if self.random.randint(0, 1):
            step["on_exhausted"] = self.random.choice(["complete", "fail"])
        self._sight = outer
        return step

    def _inner(self, depth: int) -> Data:
        given = "{{ " + self._expression().text + " }}"
        outer, name = self._sight, f"{self._id('w')}.yml"
        self._sight = [Expression("inputs.n", lambda names: names.inputs["n"])]
        inner: Data = {"nbflow": 1, "inputs": {"n": {"type": "integer"}}, "steps": self._list(depth - 1)}
        self._sight = outer
        self.files[name] = inner
        return {"id": self._id("w"), "workflow": name, "inputs": {"n": given}}


def _of(step_id: str) -> Expression:
    text = f"steps.{step_id}.output.v | default(-1)"
    return Expression(text, lambda names: names.number(step_id))


# -- what it means ------------------------------------------------------------------------------------------------


@dataclass
class Said:
    """How a node ends."""

    status: str
    output: Any = None


@dataclass
class Meaning:
    """All that one worker does."""

    files: dict[str, Data]
    acts: Acts
    gates: Callable[[str, int], str | None]
    nodes: dict[str, Said] = field(default_factory=dict)
    starts: list[str] = field(default_factory=list)

    def tell(self, flow: Data, inputs: Data) -> Said:
        """Give how the run ends."""
        return self.list(flow["steps"], "", inputs, {}, lambda _: None, flow.get("on_failure", "halt"))

    def list(
        self,
        steps: list[Data],
        owner: str,
        inputs: Data,
        items: Data,
        around: Callable[[str], Any],
        on_failure: str = "halt",
        name: Callable[[str], str] | None = None,
        earlier: dict[str, Said] | None = None,
    ) -> Said:
        ended: dict[str, Said] = {}
        lost: set[str] = set()
        closures = _closures(steps)
        for step in _in_order(steps):
            waits = closures[step["id"]]

            def see(step_id: str, waits: set[str] = waits) -> Any:
                if step_id in closures:
                    said = ended.get(step_id) if step_id in waits else (earlier or {}).get(step_id)
                    return None if said is None else (said.status, said.output)
                return around(step_id)

            node = name(step["id"]) if name else f"{owner}/{step['id']}".lstrip("/")
            if lost & set(_needs(steps, step)):
                said = self.nodes[node] = Said("skipped")
                lost.add(step["id"])
            else:
                said = self.step(step, node, Names(inputs, items, see))
            ended[step["id"]] = said
            failed = said.status == "failed" and not step.get("continue_on_error")
            if said.status in ("paused", "aborted") or (failed and on_failure == "halt"):
                self.ended = ended
                return Said(said.status, {one: end.output for one, end in ended.items()})
            if failed:
                lost.add(step["id"])
        self.ended = ended
        return Said("failed" if lost else "completed", {one: end.output for one, end in ended.items()})

    def step(self, step: Data, node: str, names: Names) -> Said:
        said = self.nodes[node] = self._step(step, node, names)
        return said

    def _step(self, step: Data, node: str, names: Names) -> Said:
        if "when" in step and not _holds(step["when"], names):
            return Said("skipped")
        if "call" in step:
            return self._task(step, node, names)
        if "gate" in step:
            return self._gate(step, node, names)
        if "wait_for" in step:
            found = names.steps(step["wait_for"][0])
            if found[0] == "skipped":
                return Said("skipped")
            output = found[1] or {}
            counts = {"failed": output.get("failed", 0), "missing": output.get("missing", 0)}
            return Said("completed", {"results": output.get("results", []), **counts})
        if "items" in step:
            return self._items(step, node, names)
        if "if" in step:
            holds = _holds(step["if"], names)
            taken, other = ("then", "else") if holds else ("else", "then")
            self._skip(step.get(other, []), node)
            said = self._inside(step.get(taken, []), node, names)
            return Said(said.status, {"condition": holds, "branch": taken, "steps": said.output})
        if "switch" in step:
            value = _value(step["switch"], names)
            for case, steps in step["cases"].items():
                if case != str(value):
                    self._skip(steps, node)
            if str(value) in step["cases"]:
                self._skip(step.get("default", []), node)
            said = self._inside(step["cases"].get(str(value), step.get("default", [])), node, names)
            case = str(value) if str(value) in step["cases"] else None
            return Said(said.status, {"value": value, "matched_case": case, "steps": said.output})
        if "while" in step:
            return self._loop(step, node, names)
        inner = self.files[step["workflow"]]
        inputs = {"n": _value(step["inputs"]["n"][3:-3], names)}
        return self.list(inner["steps"], node, inputs, {}, lambda _: None)

    def _skip(self, steps: list[Data], node: str) -> None:
        for step in steps:
            self.nodes[f"{node}/{step['id']}"] = Said("skipped")

    def _inside(self, steps: list[Data], node: str, names: Names) -> Said:
        return self.list(steps, node, names.inputs, names.items, names.steps)

    def _task(self, step: Data, node: str, names: Names) -> Said:
        arguments = {key: _value(text[3:-3], names) for key, text in step["arguments"].items()}
        most = step.get("retry", {}).get("attempts", 1)
        for attempt in range(1, most + 1):
            self.starts.append(node)
            status, output = self.acts(node, arguments, attempt, most)
            if status == "completed":
                break
        return Said(status, output)

    def _gate(self, step: Data, node: str, names: Names) -> Said:
        before, _, rest = step["gate"].partition("{{ ")
        expression, _, behind = rest.partition(" }}")
        message = f"{before}{_value(expression, names)}{behind}"
        for asked in range(1, NEVER):
            choice = self.gates(node, asked)
            if choice is None:
                return Said("paused", {"message": message})
            answer = {"choice": choice, "outcome": choice}
            if choice == "approve" or step["on_reject"] == "skip":
                return Said("completed", answer)
            if step["on_reject"] == "abort":
                return Said("aborted", answer)
        raise AssertionError

    def _loop(self, step: Data, node: str, names: Names) -> Said:
        body, until = (step["do"], True) if "do" in step else (step["steps"], False)
        last: dict[str, Said] | None = None
        most = step["max_iterations"]

        def goes_on() -> bool:
            def see(step_id: str) -> Any:
                if last is not None and step_id in last:
                    return last[step_id].status, last[step_id].output
                return None if any(one["id"] == step_id for one in body) else names.steps(step_id)

            return _holds(step["while"], Names(names.inputs, names.items, see))

        for turn in range(most):
            if not until and not goes_on():
                return self._looped(turn, last, exhausted=False)
            said = self.list(
                body,
                node,
                names.inputs,
                names.items,
                names.steps,
                name=lambda step_id, at=turn: f"{node}:{step_id}:{at}",  # type: ignore[misc]
                earlier=last,
            )
            last = self.ended
            if said.status != "completed":
                return Said(said.status, {"iterations": turn, "exhausted": False, "last": said.output})
            if until and not goes_on():
                return self._looped(turn + 1, last, exhausted=False)
        exhausted = goes_on()
        status = "failed" if exhausted and step.get("on_exhausted") == "fail" else "completed"
        return Said(status, self._looped(most, last, exhausted=exhausted).output)

    def _looped(self, turns: int, last: dict[str, Said] | None, *, exhausted: bool) -> Said:
        outputs = {one: end.output for one, end in (last or {}).items()}
        return Said("completed", {"iterations": turns, "exhausted": exhausted, "last": outputs})

    def _items(self, step: Data, node: str, names: Names) -> Said:
        items = [_value(one[3:-3], names) if isinstance(one, str) else one for one in step["items"]]
        results: list[Any] = []
        statuses: set[str] = set()
        failures = lost = 0
        allowed = step.get("max_failures")
        runs_on = step.get("on_error") == "continue" or allowed is not None
        for index, item in enumerate(items):
            inner = {**names.items, step["as"]: item, "item": item, "index": index}
            if "step" in step:
                body = step["step"]
                tolerant = bool(body.get("continue_on_error"))
                said = self.step(body, f"{node}:{body['id']}:{index}", Names(names.inputs, inner, names.steps))
            else:
                tolerant = False
                said = self.list(
                    step["steps"],
                    node,
                    names.inputs,
                    inner,
                    names.steps,
                    name=lambda step_id, at=index: f"{node}:{step_id}:{at}",  # type: ignore[misc]
                )
                self.nodes[f"{node}:*:{index}"] = said
            results.append(said.output)
            counted = said.status == "failed" and (allowed is not None or not tolerant)
            failures += counted
            lost += said.status == "failed"
            if not (said.status == "failed" and tolerant):
                statuses.add(said.status)
            over = counted and failures == (allowed or (NEVER if runs_on else 1))
            if over or said.status == "aborted" or (said.status == "paused" and not runs_on):
                return Said(said.status, {"results": results, "failed": lost, "missing": len(items) - len(results)})
        worst = next((status for status in ("paused", "failed") if status in statuses), "completed")
        counts = {"failed": lost, "missing": 0} if worst != "completed" else {}
        return Said(worst, {"results": results, **counts})


def _needs(steps: list[Data], step: Data) -> list[str]:
    place = steps.index(step)
    above = [steps[place - 1]["id"]] if place else []
    own = step.get("wait_for", [])
    return [*step.get("needs", above), *[one for one in own if any(s["id"] == one for s in steps)]]


def _in_order(steps: list[Data]) -> Iterator[Data]:
    """Give the steps as one worker takes them: always the first in the text whose needs are met."""
    left, done = list(steps), set()
    while left:
        step = next(step for step in left if set(_needs(steps, step)) <= done)
        left.remove(step)
        done.add(step["id"])
        yield step


def _closures(steps: list[Data]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for step in _in_order(steps):
        needs = _needs(steps, step)
        found[step["id"]] = set(needs).union(*(found[one] for one in needs))
    return found


def _value(text: str, names: Names) -> Any:
    """Give what one of the generated expressions says."""
    text = text.strip()
    if text.startswith("steps."):
        return names.number(text.split(".")[1])
    if text == "inputs.n":
        return names.inputs["n"]
    return names.items[text]


def _holds(condition: str, names: Names) -> bool:
    expression, _, rest = condition[1:].partition(") % ")
    divisor, _, _ = rest.partition(" == ")
    return _value(expression, names) % int(divisor) == 0


def acting(seed: int, one_in: int = 8) -> Acts:
    """Give how tasks act: about one in so many fails; those that may be tried again perhaps only at first."""

    def acts(node: str, arguments: Data, attempt: int, most: int) -> tuple[str, Any]:
        number = zlib.crc32(f"{seed}:{node}".encode())
        failures = 0 if number % one_in else 1 if most > 1 and number // one_in % 2 else NEVER
        if attempt <= failures:
            return "failed", None
        return "completed", {"v": zlib.crc32(f"{node}{sorted(arguments.items())}".encode()) % 5}

    return acts


def answering(seed: int) -> Callable[[str, int], str | None]:
    """Give what people say to gates: the third time they are asked they approve."""

    def gates(node: str, asked: int) -> str | None:
        number = zlib.crc32(f"{seed}:{node}:{asked}".encode()) % 7
        return "approve" if asked > 2 or number < 4 else "reject" if number < 6 else None

    return gates
