"""Rows: the table of a run, the same for items and for tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..outcome import Failure
from ..types import Status
from ..values import Value

__all__ = ["ENDS", "Row", "table_rows"]

ENDS = ("status", "seconds", "attempts", "error", "notebook")
"""The columns behind the results."""


class _Ended(Protocol):
    """How an item or a task stands."""

    @property
    def status(self) -> Status: ...
    @property
    def seconds(self) -> float | None: ...
    @property
    def attempts(self) -> int: ...
    @property
    def error(self) -> Failure | None: ...
    @property
    def notebook(self) -> Path | None: ...


@dataclass(frozen=True, slots=True)
class Row:
    """What stands in one row."""

    name: int | str
    """The item's index, or the task's id."""
    parameters: Mapping[str, Value]
    results: Mapping[str, Value]
    stands: _Ended


def table_rows(first: str, rows: Sequence[Row]) -> list[dict[str, Value]]:
    """Give one mapping per row, all with the same names in the same order.

    Parameters
    ----------
    first : str
        What the first column is called.
    rows : sequence of Row
        A result that is called like another column gets ``result.`` before its name, a parameter ``parameter.``;
        what a row does not have is ``None``.
    """
    own = (first, *ENDS)
    given = dict.fromkeys(name for row in rows for name in row.parameters)
    found = dict.fromkeys(name for row in rows for name in row.results)
    parameters = {name: f"parameter.{name}" if name in own else name for name in given}
    results = {name: f"result.{name}" if name in own or name in given else name for name in found}
    return [
        {
            first: row.name,
            **{column: row.parameters.get(name) for name, column in parameters.items()},
            **{column: row.results.get(name) for name, column in results.items()},
            "status": row.stands.status,
            "seconds": row.stands.seconds,
            "attempts": row.stands.attempts,
            "error": row.stands.error.message if row.stands.error else None,
            "notebook": str(row.stands.notebook) if row.stands.notebook else None,
        }
        for row in rows
    ]
