"""Scopes: the names that a step may see. Items have one of their own; the outer one is behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ..model import Block, Names
from ..outcome import Outcome
from ..values import Value


class Scope:
    """Names over the names of the scope around it.

    Parameters
    ----------
    names : mapping of str to value
        What is new here.
    around : Names, optional
        Where other names are looked up.
    """

    __slots__ = ("_around", "_names")

    def __init__(self, names: Mapping[str, Value], around: Names | None = None) -> None:
        self._names = names
        self._around = around

    def __getitem__(self, name: str) -> Value:
        """Give the nearest value of the name.

        Raises
        ------
        KeyError
            If no scope has it.
        """
        if name in self._names:
            return self._names[name]
        if self._around is None:
            raise KeyError(name)
        return self._around[name]


class StepNames:
    """The names that one step of a list sees: those around the list, and the steps that it waits for.

    Parameters
    ----------
    block : Block
        The list.
    outcomes : sequence of Outcome or None
        How its steps ended so far, by their places.
    seen : int
        The places that are visible, as the bits of a number.
    around : Names
        What the list itself sees.
    earlier : sequence of Outcome or None, optional
        How the steps ended in the turn before, where the list is the body of a loop.
    """

    __slots__ = ("_around", "_block", "_earlier", "_outcomes", "_seen")

    def __init__(
        self,
        block: Block,
        outcomes: Sequence[Outcome | None],
        seen: int,
        around: Names,
        earlier: Sequence[Outcome | None] = (),
    ) -> None:
        self._block = block
        self._outcomes = outcomes
        self._seen = seen
        self._around = around
        self._earlier = earlier

    def __getitem__(self, name: str) -> Value:
        """Give the value of a name; ``steps`` is a mapping of ids to ``status``, ``output`` and ``error``."""
        if name == "steps":
            return _Steps(self)  # type: ignore[return-value]  # a mapping of values, made of what is asked for
        return self._around[name]

    def step(self, step_id: str) -> Outcome | None:
        """Give how a step of the list ended, as this reader may know it."""
        place = self._block.at.get(step_id)
        if place is None:
            return None
        if self._seen >> place & 1:
            return self._outcomes[place]
        return self._earlier[place] if place < len(self._earlier) else None

    def outer(self) -> Mapping[str, Value]:
        """Give the steps of the lists around."""
        found = self._around["steps"]
        assert isinstance(found, Mapping), "the outermost scope has an empty mapping"
        return found

    def ids(self) -> list[str]:
        """Give the ids of the list that can be read."""
        return [step_id for step_id in self._block.at if self.step(step_id) is not None]


class _Steps(Mapping[str, Value]):
    """The steps that can be read, by id; the nearest list with an id has it."""

    __slots__ = ("_names",)

    def __init__(self, names: StepNames) -> None:
        self._names = names

    def __getitem__(self, step_id: str) -> Value:
        outcome = self._names.step(step_id)
        return self._names.outer()[step_id] if outcome is None else record(outcome)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._names.ids(), *self._names.outer()]))

    def __len__(self) -> int:
        return len(list(iter(self)))


def record(outcome: Outcome) -> dict[str, Value]:
    """Give what expressions see of a step that ended; what was skipped or has nothing to show has no ``output``."""
    seen: dict[str, Value] = {"status": outcome.status}
    if outcome.output is not None or outcome.status == "completed":
        seen["output"] = outcome.output
    if outcome.error is not None:
        seen["error"] = outcome.error.message
    if outcome.names:
        seen["names"] = dict(outcome.names)  # for other steps of its notebook; no expression may say it
    return seen
