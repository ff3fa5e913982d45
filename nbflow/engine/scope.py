"""Scopes: the names that a step may see. Items have one of their own; the outer one is behind it."""

from __future__ import annotations

from collections.abc import Mapping

from ..model import Names
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
