"""The pace of saving: not at each event, nor in the first second, nor all the time where a save takes long."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["SAVED_EVERY", "Pace"]

SAVED_EVERY = 1.0
"""Seconds between two saves while cells run."""


class Pace:
    """Saves, if the last time is long enough ago.

    Parameters
    ----------
    clock : callable
        Gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._every = SAVED_EVERY
        self._saved = clock()
        self._waits = False
        """Whether something was offered since the last save."""

    def offer(self, save: Callable[[], None]) -> None:
        """Save, if it is time."""
        self._waits = True
        if self._clock() - self._saved >= self._every:
            self.now(save)

    def catch_up(self, save: Callable[[], None]) -> None:
        """Save what was offered too early, if it is time now."""
        if self._waits:
            self.offer(save)

    def now(self, save: Callable[[], None]) -> None:
        """Save in any case."""
        began = self._clock()
        self._waits = False
        save()
        self._saved = self._clock()
        self._every = max(SAVED_EVERY, 4 * (self._saved - began))
