"""Interrupts: Ctrl-C and SIGTERM as wishes that are noted, instead of exceptions at a random line."""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any


class Interrupts:
    """While it is entered, signals are noted that were not ignored; the main thread alone can have it so.

    One that nobody answered is given, at the end, to what handled it before: it may be late, but is never lost.

    Parameters
    ----------
    signals : sequence of signal.Signals
        Which.

    Examples
    --------
    >>> with Interrupts([signal.SIGINT]) as interrupts:
    ...     signal.raise_signal(signal.SIGINT)
    ...     interrupts.answered = True
    ...     interrupts.noted
    [<Signals.SIGINT: 2>]
    """

    def __init__(self, signals: Sequence[signal.Signals] = (signal.SIGINT,)) -> None:
        self._signals = signals
        self._before: dict[signal.Signals, Any] = {}
        self.noted: list[signal.Signals] = []
        """What came, in order."""
        self.answered = False
        """Whether somebody acted on it; set by whoever did."""

    def __enter__(self) -> Interrupts:  # noqa: PYI034 - Self is newer than Python 3.10
        """Begin to note."""
        if threading.current_thread() is threading.main_thread():
            for which in self._signals:
                # Ignored is somebody's wish (nohup, a background of a script); a handler of C could not be given back.
                if signal.getsignal(which) not in (signal.SIG_IGN, None):
                    self._before[which] = signal.signal(which, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the shape of a handler
        self.noted.append(signal.Signals(number))

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give back what handled them before."""
        for which, handler in self._before.items():
            signal.signal(which, handler)
        if self.noted and not self.answered and kind is None:
            signal.raise_signal(self.noted[0])
