"""Held kernels: their step has ended, and the next step of the notebook goes on in them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..events import Event, NodeFinished
from ..model import NodeId
from .kernel import Kernel, Kernels

__all__ = ["Held", "Kept", "Lent"]


@dataclass(frozen=True, slots=True)
class Kept:
    """A kernel in which another step may go on."""

    kernel: Kernel
    made: object
    """What it was made with: a step goes on in it only with the same."""
    ran: frozenset[str]
    """Ids of the steps that ran in it."""
    has: Mapping[str, str]
    """Whose value it has of names that were restored or changed in it: ids of steps."""
    waits_for: NodeId = ()
    """The node that may go on in it."""


class Held:
    """The kernels of a run in which a step may go on, by the node that left each.

    Whoever takes one has it for himself, so it needs no lock: a dictionary gives what it lets go of to one thread only.
    """

    def __init__(self) -> None:
        self._kept: dict[NodeId, Kept] = {}

    async def put(self, node: NodeId, kept: Kept) -> None:
        """Hold the kernel of a node that completed."""
        await kept.kernel.suspend()
        self._kept[node] = kept

    def take(self, node: NodeId, made: object) -> Kept | None:
        """Give the kernel that a node left, if there is one that was made with this."""
        found = self._kept.get(node)
        return self._kept.pop(node, None) if found is not None and found.made == made else None

    def hear(self, event: Event) -> None:
        """End the kernel whose next step has ended without it: that was kept from an earlier start, or skipped."""
        if isinstance(event, NodeFinished):
            waiting = [node for node, kept in list(self._kept.items()) if kept.waits_for == event.node]
            for kept in filter(None, [self._kept.pop(node, None) for node in waiting]):
                asyncio.run(end([kept.kernel]))

    def close(self) -> None:
        """End those in which nobody went on."""
        left, self._kept = list(self._kept.values()), {}
        if left:
            asyncio.run(end([kept.kernel for kept in left]))


async def end(kernels: Sequence[Kernel]) -> None:
    """End kernels that were left alone."""
    for kernel in kernels:
        await kernel.resume(lambda _text: None)
    await asyncio.gather(*(kernel.close() for kernel in kernels))


class Lent(Kernels):
    """Gives the one kernel that somebody left."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.is_taken = False
        """Whether somebody goes on with it, who ends it then; else it still is that of who took it from those held."""

    async def launch(
        self,
        name: str,  # noqa: ARG002 - it is there
        *,
        cwd: Path,  # noqa: ARG002 - as above
        env: Mapping[str, str],  # noqa: ARG002 - as above
        heard: Callable[[str], None],
        preload: Sequence[str] | None = None,  # noqa: ARG002 - as above
        private: Sequence[str] = (),  # noqa: ARG002 - as above
    ) -> Kernel:
        """Go on with it."""
        await self._kernel.resume(heard)
        self.is_taken = True
        return self._kernel
