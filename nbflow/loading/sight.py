"""Sight: what an expression may see from where it stands, checked before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from ..definition import Cells, DoWhile, FanIn, FanOut, Gate, If, Input, Notebook, Shell, Step, Switch, While
from ..errors import did_you_mean
from ..expressions import Reference
from ..source import Notebook as Source

__all__ = ["ListSight", "Sight"]

_FIELDS = ("output", "status", "error")
_CONTEXT = ("run_id", "workflow_dir")
_OUTPUTS: Mapping[type[Step], tuple[str, ...]] = {
    FanOut: ("results", "outcomes", "failed", "missing"),
    Gate: ("choice", "outcome"),
    If: ("condition", "branch", "steps"),
    Switch: ("value", "matched_case", "steps"),
    While: ("iterations", "exhausted", "last"),
    DoWhile: ("iterations", "exhausted", "last"),
    Shell: ("exit_code", "stdout", "stderr", "data"),
}
"""Names in the outputs of kinds that always have the same."""

Problem = tuple[str, str]
"""What is wrong, and a remedy."""


@dataclass(frozen=True)
class ListSight:
    """What one step sees of a list of steps."""

    steps: Mapping[str, Step]
    seen: frozenset[str]
    """Ids that have certainly ended."""
    me: str = ""
    """The id of the step that stands in this list, and in which the expression stands."""
    turns: bool = False
    """Whether it is the body of a loop: other steps are seen as they ended in the turn before."""
    waits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What each of them waits for."""
    behind: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The same, however far."""

    def later(self, step_id: str) -> bool:
        """Whether a step waits for the one in which the expression stands, however far."""
        left, seen = [step_id], {step_id}
        while left:
            fresh = [one for one in self.waits.get(left.pop(), ()) if one not in seen]
            seen.update(fresh)
            left += fresh
        return self.me in seen

    def with_need(self, step_id: str) -> str:
        """Give the needs of the one in which the expression stands, with one more."""
        return f"needs: [{', '.join([*self.waits.get(self.me, ()), step_id])}]"


@dataclass(frozen=True)
class Sight:
    """What an expression may see."""

    inputs: Mapping[str, Input]
    names: tuple[str, ...] = ()
    """``item``, ``index`` and what items are called."""
    lists: tuple[ListSight, ...] = ()
    """The nearest first."""
    notebooks: Mapping[str, Source] = field(default_factory=dict)
    """The notebooks that were read, by the text that names them."""

    def with_names(self, *names: str) -> Sight:
        """Give the same with more names."""
        return replace(self, names=tuple(dict.fromkeys((*self.names, *names))))

    def inside(self, nearest: ListSight) -> Sight:
        """Give what a step of a list sees."""
        return replace(self, lists=(nearest, *self.lists))

    def problems(self, reference: Reference) -> Iterator[Problem]:
        """Tell what is wrong with a reference."""
        match reference.root:
            case "inputs":
                yield from self._of_inputs(reference)
            case "steps":
                yield from self._of_steps(reference)
            case "context":
                yield from _of_mapping(reference, _CONTEXT)
            case root if root in self.names:
                if root == "fan_in":
                    yield from _of_mapping(reference, ("results", "failed", "missing"))
            case root:
                known = ["inputs", "steps", "context", *self.names]
                hint = did_you_mean(root, known)
                if not hint and root in self.inputs:
                    hint = f" Did you mean inputs.{root}?"
                if not hint and any(root in each.steps for each in self.lists):
                    hint = f" Did you mean steps.{root}?"
                yield f"{root!r} is no name here.{hint}", f"There are: {', '.join(known)}."

    def _of_inputs(self, reference: Reference) -> Iterator[Problem]:
        if reference.path and reference.path[0] not in self.inputs:
            name = str(reference.path[0])
            has = f"It has: {', '.join(self.inputs)}." if self.inputs else "It declares no inputs."
            yield f"there is no input {name!r}.{did_you_mean(name, list(self.inputs))}", has

    def _of_steps(self, reference: Reference) -> Iterator[Problem]:
        if not reference.path:
            yield f"{reference.text} names no step", "Name it: steps.load.output or steps['load-data'].output"
            return
        step_id, *rest = map(str, reference.path)
        found = next((each for each in self.lists if step_id in each.steps), None)
        if found is None:
            known = list(dict.fromkeys(one for each in self.lists for one in each.seen))
            hint = did_you_mean(step_id, known)
            remedy = f"Steps that can be read here: {', '.join(known)}." if known else "No step can be read here."
            yield f"there is no step {step_id!r} that could be read here.{hint}", remedy
            return
        step = found.steps[step_id]
        if step_id not in found.seen:
            if found.turns and reference.optional:
                return  # as it ended in the turn before, and nothing in the first one
            yield _no_turn(reference, step_id) if found.turns else _unseen(step_id, found)
            return
        if not rest:
            if not reference.dynamic:
                return
            yield f"{reference.text}[...] is no constant name", f"Write steps.{step_id}.output or .status"
            return
        if rest[0] not in _FIELDS:
            yield (
                f"{reference.text}: a step has output and status.{did_you_mean(rest[0], list(_FIELDS))}",
                f"A result stands in its output: steps.{step_id}.output.{rest[0]}",
            )
            return
        if (
            rest[0] == "output"
            and not reference.optional
            and _may_be_skipped(step, self.lists[self.lists.index(found) :])
        ):
            yield (
                f"{step_id!r} may be skipped, and has no output then",
                f"Say what holds then: {reference.text} | default(...)",
            )
        if rest[0] == "output" and len(rest) > 1:
            yield from self._of_output(reference, step, rest[1])

    def _of_output(self, reference: Reference, step: Step, name: str) -> Iterator[Problem]:
        names = self._output_names(step)
        if names and name not in names and not reference.optional:
            yield (
                f"{step.id!r} has no {name!r} in its output.{did_you_mean(name, list(names))}",
                f"It has: {', '.join(names)}.",
            )

    def _output_names(self, step: Step) -> tuple[str, ...]:
        """Give the names that a step's output has; empty where that is not known before it has run."""
        if isinstance(step, FanIn):
            return ("results", "failed", "missing", *step.output)
        if isinstance(step, (Notebook, Cells)):
            if step.outputs:
                return tuple(step.outputs)
            source = self.notebooks.get(step.notebook) if isinstance(step, Notebook) else None
            return source.result_names if source is not None else ()
        return _OUTPUTS.get(type(step), ())


def _unseen(step_id: str, found: ListSight) -> Problem:
    """Tell why a step cannot be read although it is there."""
    if step_id == found.me:
        return f"{step_id!r} is the step itself, or the one around it", "A step can read those that it waits for."
    ids = list(found.steps)
    below = ids.index(step_id) > ids.index(found.me)
    if found.later(step_id):
        told = "stands below" if below else f"waits for {found.me}"
        named = found.steps[step_id].needs is not None and found.me in found.waits[step_id]
        first = f"Take {found.me} out of its needs, and put" if named else "Put"
        last = "" if found.steps[found.me].needs is None else f", and say {found.with_need(step_id)}"
        return f"{step_id!r} {told}, and has not ended", f"{first} {found.me} below it{last}."
    if below and found.steps[found.me].needs is None:
        remedy = f"Put {found.me} below it, or say {found.with_need(step_id)}"
        return f"{step_id!r} stands below, and has not ended", remedy
    told = f"{step_id!r} has perhaps not ended: {found.me} does not wait for it"
    return told, f"Add it: {found.with_need(step_id)}"


def _no_turn(reference: Reference, step_id: str) -> Problem:
    """Tell that a step of a loop gives nothing in the first turn."""
    return (
        f"{step_id!r} has not run before the first turn",
        f"Say what holds then: {reference.text} | default(...)",
    )


def _may_be_skipped(step: Step, lists: tuple[ListSight, ...]) -> bool:
    """Whether a step of the first of these lists may be skipped; the lists around it follow."""
    if step.when is not None and step.when is not True:
        return True
    if not isinstance(step, FanIn):
        return False
    for other in step.wait_for:
        at = next((at for at, each in enumerate(lists) if other in each.steps), None)
        fan = lists[at].steps[other] if at is not None else None
        if isinstance(fan, FanOut) and _may_be_skipped(fan, lists[at:]):
            return True
    return False


def _of_mapping(reference: Reference, names: tuple[str, ...]) -> Iterator[Problem]:
    if reference.path and reference.path[0] not in names:
        name = str(reference.path[0])
        yield f"{reference.root} has no {name!r}.{did_you_mean(name, list(names))}", f"It has: {', '.join(names)}."
