"""Instructions: what a process that works at a run is told from outside."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Instruction:
    """One thing that somebody wants."""

    word: str
    """``cancel``, ``pause``, ``unpause``, ``answer``, ``taken over``; others are told to be unknown."""
    node: str = ""
    """The gate that is answered."""
    choice: str = ""
    """The option that was chosen."""
    by: str = ""
    """Who chose it, and by what means."""
