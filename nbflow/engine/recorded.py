"""What is recorded of earlier epochs, and which of it still answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ..outcome import Outcome, Record

Same = Callable[[str, str], bool]

Difference: TypeAlias = Literal["", "code", "parameters", "waits"]
"""What tells two fingerprints apart, first of all; nothing does."""


def difference(recorded: str, wanted: str) -> Difference:
    """Give what tells a recorded fingerprint from a wanted one."""
    work, parameters, waits = recorded.split(".")
    now_work, now_parameters, now_waits = wanted.split(".")
    if "-" in now_work and "-" not in work:  # recorded before what files say counted as code
        return "waits" if waits != now_waits else "parameters" if now_work.startswith(work) else "code"
    if parameters != now_parameters:
        return "parameters"  # just asked for, so it needs no question, whatever else changed
    return "waits" if waits != now_waits else "code" if work != now_work else ""


def equal(recorded: str, wanted: str) -> bool:
    """Equal work with equal parameters after equal steps."""
    return recorded == wanted


def equal_but_code(recorded: str, wanted: str) -> bool:
    """Equal parameters after equal steps, whatever the code was: a person said ``keep``."""
    return recorded.partition(".")[2] == wanted.partition(".")[2]


def anything(recorded: str, wanted: str) -> bool:  # noqa: ARG001 - a view asks nothing
    """Whatever there is: for showing a run as it stands."""
    return True


@dataclass(frozen=True, slots=True)
class Recorded:
    """A table of answers by key."""

    answers: Mapping[str, Record] = field(default_factory=dict)
    attempts: Mapping[str, int] = field(default_factory=dict)
    """Attempts that began and have no end, by key: the process died under them."""
    begun: AbstractSet[str] = frozenset()
    """Keys of tasks that began and did not come to their end, cancelled ones included."""
    to_retry: AbstractSet[str] = frozenset()
    """Keys of those of them of which an attempt failed that was to be followed by another."""
    same: Same = equal
    """Whether a recorded fingerprint answers for a wanted one."""
    statuses: frozenset[str] = frozenset({"completed"})
    """Which outcomes are answers."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """How long items took in an earlier run, by key."""
    only: frozenset[str] | None = None
    """Keys of the tasks that may start; ``None``: all."""

    def answer(self, key: str, fingerprint: str) -> Outcome | None:
        """Give the recorded outcome of this node, if it answers."""
        record = self.answers.get(key)
        if (
            record is None
            or record.outcome.status not in self.statuses
            or not self.same(record.fingerprint, fingerprint)
        ):
            return None
        return record.outcome

    def choice(self, key: str, fingerprint: str) -> str | None:
        """Give what a person chose at this gate, when it was about the same; what it means is computed again."""
        record = self.answers.get(key)
        if record is None or not self.same(record.fingerprint, fingerprint):
            return None
        output = record.outcome.output
        choice = output.get("choice") if isinstance(output, dict) else None
        return choice if isinstance(choice, str) else None

    def allows(self, key: str) -> bool:
        """Whether a task that is not answered may start."""
        return self.only is None or key in self.only

    def counted(self, key: str) -> tuple[int, int]:
        """Give how many attempts ended, and how many began after that and did not."""
        record = self.answers.get(key)
        return (record.outcome.attempts if record is not None else 0), self.attempts.get(key, 0)


@dataclass(frozen=True)
class Compared(Recorded):
    """A table that answers for all that finished, and notes which of it would do something else now."""

    differing: set[str] = field(default_factory=set)
    """Keys of tasks whose own code or parameters differ, whatever they wait for."""

    def answer(self, key: str, fingerprint: str) -> Outcome | None:
        """Give the recorded outcome of a task that finished."""
        record = self.answers.get(key)
        if record is None or record.outcome.status not in self.statuses:
            return None
        work, parameters, _ = record.fingerprint.split(".")
        if difference(f"{work}.{parameters}.", f"{fingerprint.rpartition('.')[0]}."):
            self.differing.add(key)
        return record.outcome
