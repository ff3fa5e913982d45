"""Order: what the steps of a list wait for, and what is wrong with it, told where it stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..definition import FanIn, Step
from ..errors import did_you_mean

__all__ = ["Order"]

Problem = tuple[int, str, str, str]
"""The place of a step in its list, the key that is wrong, what is wrong, and a remedy."""


@dataclass(frozen=True)
class Order:
    """The steps of one list, and what each waits for."""

    given: Sequence[Step]
    needs: Mapping[str, tuple[str, ...] | None]
    """What each says that it waits for; ``None``: the one above it."""
    waits: Mapping[str, tuple[str, ...]]
    """What each waits for, of what there is."""
    circle: tuple[str, ...]
    """Steps that wait for each other; the first of them waits for the second."""

    @cached_property
    def behind(self) -> Mapping[str, frozenset[str]]:
        """What each waits for, however far."""
        return {step: frozenset(_behind(step, self.waits)) for step in self.waits}

    @staticmethod
    def of(given: Sequence[Step]) -> Order:
        """Give the order of a list."""
        ids = {step.id for step in given}
        needs, waits = {}, {}
        for i, step in enumerate(given):
            above = (given[i - 1].id,) if i else ()
            needs[step.id] = _needs(step, above, ids)
            found = needs[step.id]
            waits[step.id] = tuple(one for one in (above if found is None else found) if one in ids)
        return Order(given, needs, waits, _circle(waits) if len(ids) == len(given) else ())

    def problems(self) -> Iterator[Problem]:
        """Tell what is wrong: ids that stand twice, needs that are not there, and steps that wait for each other."""
        known = list(self.waits)
        above: set[str] = set()
        for i, step in enumerate(self.given):
            if step.id in above:
                yield i, "id", f"step id {step.id!r} stands twice in one list", "Give each step an id of its own."
            for other in step.needs or ():
                if other not in self.waits:
                    others = [one for one in known if one != step.id]
                    hint = did_you_mean(other, others)
                    told = f"step {step.id!r} needs {other!r}, which is no step of its list.{hint}"
                    yield i, "needs", told, f"There are: {', '.join(others)}."
            above.add(step.id)
        if self.circle:
            ids = [step.id for step in self.given]
            said = [step for step in self.circle if self.needs[step] is not None]
            told = f"steps {', '.join(map(repr, sorted(self.circle, key=ids.index)))} wait for each other"
            yield ids.index(said[0]), "needs", told, self._way_out()

    def _way_out(self) -> str:
        """Give what ends the waiting of steps for each other."""
        for step, other in zip(self.circle, (*self.circle[1:], self.circle[0]), strict=True):
            if self.needs[step] is None:
                return (
                    f"{step!r} waits for {other!r} because it stands below it: "
                    f"put it above, or say there what it waits for (needs: [] for nothing)."
                )
        return "Take one of the needs away."

    def ended(self, step: str) -> frozenset[str]:
        """Give the steps that have certainly ended when one starts; all, where that cannot be told."""
        everything = frozenset(self.waits)
        if self.circle or len(self.waits) < len(self.given):  # an id twice: nobody knows which is meant
            return everything
        behind = self.behind[step]
        broken = any(set(self.needs[one] or ()) - everything for one in (step, *behind))
        return everything if broken else behind


def _needs(step: Step, above: tuple[str, ...], ids: set[str]) -> tuple[str, ...] | None:
    """Give what a step says that it waits for: a fan-in also for the fan-outs of its own list."""
    if not isinstance(step, FanIn):
        return None if step.needs is None else tuple(step.needs)
    own = [other for other in step.wait_for if other in ids and other != step.id]
    return tuple(dict.fromkeys([*(above if step.needs is None else step.needs), *own]))


def _behind(step: str, waits: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    """Give what a step waits for, however far."""
    seen: set[str] = set()
    left = list(waits[step])
    while left:
        other = left.pop()
        if other not in seen:
            seen.add(other)
            yield other
            left += waits[other]


def _circle(waits: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Give steps that wait for each other, if some do."""
    done: set[str] = set()
    for start in waits:
        way = [start]
        left = {start: list(waits[start])}
        while way:
            others = left[way[-1]]
            if not others:
                done.add(way.pop())
            elif (other := others.pop(0)) in way:
                return tuple(way[way.index(other) :])
            elif other not in done:
                way.append(other)
                left[other] = list(waits[other])
    return ()
