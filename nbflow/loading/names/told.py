"""What is told of a step: the names that it reads and assigns, each with its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["LAMBDA", "Place", "Unknown", "Use"]

LAMBDA = "a lambda"
"""How a function is called that has no name."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where in the notebook something stands."""

    cell: int
    """Number of the cell."""
    line: int
    """The line in the cell's source, from 1."""
    through: str = ""
    """The function or class of the notebook that is used there, where its body is what reads or assigns; a lambda,
    which has no name, is called :data:`LAMBDA`."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """What cannot be told from the syntax tree. With neither flag: the last output, which no other kernel has."""

    place: Place
    what: str
    """As it is written: ``%run helpers.py``."""
    reads: bool
    """Whether it may read any name."""
    assigns: bool
    """Whether it may assign any name."""


@dataclass(frozen=True)
class Use:
    """What the cells of a step do with global names."""

    reads: Mapping[str, Place]
    """Names that it reads as they were before it starts, and where each is read first; no builtins."""
    needs: Mapping[str, Place]
    """Those of the reads that end it if the name is not there, and where; first those that are in no function."""
    assigns: Mapping[str, Place]
    """Names that it may assign, and where first."""
    certain: frozenset[str]
    """Those that are bound whenever it ends well, because it assigned them."""
    deletes: frozenset[str]
    """Names that it may delete."""
    unknown: tuple[Unknown, ...]
