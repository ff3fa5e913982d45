"""What a cell printed, as it is kept in the notebook: joined, folded, and not without limit."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from ..printing import folded, gap

__all__ = ["KEPT", "Printed"]

KEPT = 5_000_000
"""Characters that a cell may print into the notebook; half of them its beginning, half its end."""

PIECE = 65536
"""Characters by which the end moves on."""


@dataclass(slots=True)
class _Stream:
    """One stream output of the cell: consecutive chunks of ``stdout``, or of ``stderr``."""

    node: Any
    head: list[str] = field(default_factory=list)
    cut: bool = False
    """Whether the limit was reached inside it: its text gets the note of what is missing."""
    tail: deque[str] = field(default_factory=deque)


class Printed:
    """Collects the streams of one cell; the text reaches the notebook with :meth:`settle`.

    Parameters
    ----------
    kept : int
        Characters to keep at most.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._half = kept // 2
        self.clear()

    def clear(self) -> None:
        """Forget all: the cell's output was cleared."""
        self._streams: list[_Stream] = []
        self._head = 0
        self._tail = 0
        self._tails: deque[_Stream] = deque()
        self._left_out = 0
        self._cut = False

    def add(self, outputs: list[Any], make: Any, name: str, text: str) -> None:
        """Take a chunk.

        Parameters
        ----------
        outputs : list
            The cell's outputs; a new one is appended where the last is of another kind.
        make : callable
            Makes a stream output of a name.
        name : str
            ``stdout`` or ``stderr``.
        text : str
            What was printed.
        """
        stream = self._streams[-1] if self._streams else None
        if stream is None or not outputs or outputs[-1] is not stream.node or stream.node["name"] != name:
            stream = _Stream(make(name))
            outputs.append(stream.node)
            self._streams.append(stream)
        room = self._half - self._head
        if room > 0:
            stream.head.append(text[:room])
            self._head += min(len(text), room)
            text = text[room:]
        if text:
            self._keep_end(stream, text)

    def _keep_end(self, stream: _Stream, text: str) -> None:
        if not self._cut:
            self._cut = stream.cut = True
        skipped = max(0, len(text) - self._half)
        self._left_out += skipped
        for start in range(skipped, len(text), PIECE):
            piece = text[start : start + PIECE]
            stream.tail.append(piece)
            self._tails.append(stream)
            self._tail += len(piece)
        while self._tail - len(self._tails[0].tail[0]) >= self._half:
            gone = len(self._tails.popleft().tail.popleft())
            self._tail -= gone
            self._left_out += gone

    def settle(self) -> None:
        """Write the texts into the outputs."""
        for stream in self._streams:
            note = gap(self._left_out) if stream.cut and self._left_out else ""
            stream.head = ["".join(stream.head)]
            stream.node["text"] = folded(stream.head[0] + note + "".join(stream.tail))
