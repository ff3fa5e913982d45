"""The errors that nbflow raises, split by whose fault it is, each with value, place and remedy.

::

    NbflowError
    ├── RefusedError              what was asked cannot begin; nothing was changed      exit code 2
    │   ├── DefinitionError       the notebook or workflow is not what nbflow can run
    │   │   └── ManyProblemsError     all that is wrong with it
    │   ├── ParameterError        parameters or items do not fit the notebook
    │   ├── TargetError           no such run, notebook, item or folder
    │   ├── LockedError           another process works at this run
    │   ├── ChangedError          finished work has other code now: keep it or run it again?
    │   ├── StoreError            what is on disk cannot be read or written
    │   └── LibraryError          a library is missing that this needs
    └── RunFailedError            raised by Run.check(): items failed                    exit code 1
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

__all__ = [
    "ChangedError",
    "DefinitionError",
    "LibraryError",
    "LockedError",
    "ManyProblemsError",
    "NbflowError",
    "ParameterError",
    "RefusedError",
    "RunFailedError",
    "StoreError",
    "TargetError",
    "did_you_mean",
]


class NbflowError(Exception):
    """Everything that nbflow raises on purpose.

    Parameters
    ----------
    message : str
        One line: the value and the place where it stands.
    remedy : str, optional
        What to do about it; may have several lines.
    place : str, optional
        File, and line or cell, as a person would look it up (``cities.csv:18``).
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, remedy: str = "", place: str = "") -> None:
        super().__init__(message, remedy, place)
        self.message = message
        self.remedy = remedy
        self.place = place

    def __str__(self) -> str:
        """The message, and the remedy indented below it."""
        return "\n  ".join([self.message, *self.remedy.splitlines()])

    def _render_traceback_(self) -> list[str]:
        """Give what IPython shows below a cell: who called whom inside of nbflow helps nobody there."""
        return [f"\x1b[31m{type(self).__name__}\x1b[39m: {self}"]


class RefusedError(NbflowError):
    """What was asked cannot begin. Nothing was started and no file was changed."""

    exit_code: ClassVar[int] = 2


class DefinitionError(RefusedError):
    """The notebook or workflow is not what nbflow can run."""


class ManyProblemsError(DefinitionError):
    """All that is wrong with a definition.

    Parameters
    ----------
    problems : iterable of DefinitionError
        In the order in which they stand in the file.
    """

    def __init__(self, problems: Iterable[DefinitionError]) -> None:
        self.problems = tuple(problems)
        first, *others = self.problems
        more: list[str] = []
        for other in others:
            more += [f"error: {other.message}", *(f"  {line}" for line in other.remedy.splitlines())]
        super().__init__(first.message, "\n".join([*first.remedy.splitlines(), *more]), first.place)

    def __reduce__(self) -> tuple[type[ManyProblemsError], tuple[tuple[DefinitionError, ...]]]:
        return ManyProblemsError, (self.problems,)


class ParameterError(RefusedError):
    """Parameters or items do not fit the notebook."""


class TargetError(RefusedError):
    """There is no such run, notebook, item or folder."""


class LockedError(RefusedError):
    """Another process works at this run."""


class ChangedError(RefusedError):
    """Finished work has other code now, and a person must say whether it is kept."""


class StoreError(RefusedError):
    """What is on disk cannot be read or written."""


class LibraryError(RefusedError):
    """A library is missing that this needs."""


class RunFailedError(NbflowError):
    """Items of a run failed; raised by :meth:`nbflow.Run.check`."""


def did_you_mean(word: str, known: list[str]) -> str:
    """Give `` Did you mean 'depth'?`` for the nearest known word, or nothing.

    Examples
    --------
    >>> did_you_mean("depht", ["city", "depth"])
    " Did you mean 'depth'?"
    >>> did_you_mean("zebra", ["city", "depth"])
    ''
    """
    from difflib import get_close_matches

    near = get_close_matches(word, known, n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""
