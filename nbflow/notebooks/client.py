"""The client that runs cells: nbclient's, with outputs that stay small and a death that is noticed at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from nbclient.exceptions import DeadKernelError
from nbformat.v4 import new_output
from papermill.clientwrap import PapermillNotebookClient

from ..events import Bar
from .outputs import Printed
from .relay import Relay

__all__ = ["CellClient", "CellFailedError", "DeadKernelError"]

QUIET = logging.getLogger("nbflow.notebooks")
QUIET.addHandler(logging.NullHandler())
QUIET.propagate = False  # what nbclient logs would land in whatever cell runs; the outcome says it better

SILENCE = 4.0
"""Seconds without a message after which the end of a cell's output counts as lost."""


PIECE = 1_000_000
"""Characters that are looked at in one go."""


class CellFailedError(Exception):
    """A cell raised, and was not allowed to; carries the kernel's reply."""

    def __init__(self, reply: dict[str, Any]) -> None:
        super().__init__(f"{reply.get('ename')}: {reply.get('evalue')}")
        self.reply = reply


class CellClient(PapermillNotebookClient):  # type: ignore[misc]  # papermill is untyped
    """Runs the cells of one notebook in one kernel.

    Parameters
    ----------
    manager : SaveManager
        papermill's bookkeeping.
    kernel : Kernel
        A kernel that is ready.
    printed : callable
        Gets the stream's name and each piece of what a cell prints.
    kept : int
        Characters of streams that a cell keeps in the notebook.
    moved : callable, optional
        Gets the progress bars that the cell shows, whenever one of them changed.
    mask : callable, optional
        Takes secrets out of the words beside them.
    """

    def __init__(
        self,
        manager: Any,
        kernel: Any,
        printed: Callable[[str, str], None],
        kept: int,
        moved: Callable[[tuple[Bar, ...]], None] = lambda _bars: None,
        mask: Callable[[str], str] = str,
    ) -> None:
        super().__init__(manager, km=kernel.manager, raise_on_iopub_timeout=False, log=QUIET)
        self.kc = kernel.client
        self._kernel = kernel
        self._heard = printed
        self._printed = Printed(kept)
        self._moved = moved
        self._relay = Relay(mask)
        self._bars: tuple[Bar, ...] = ()
        self._messages = 0
        self.clear_before_next_output: bool = False
        self.lost_output = False
        self.ended_itself = False
        """Whether the cell asked its kernel to end, as ``exit()`` does."""
        manager.before_save = self.settle

    async def run_cell(self, cell: Any, index: int) -> None:
        """Run one code cell.

        Raises
        ------
        CellFailedError
            If it raised.
        DeadKernelError
            If the kernel died.
        """
        self._printed.clear()
        self._relay.forget()
        self._bars = ()
        try:
            await self.async_execute_cell(cell, index)
        finally:
            self.settle()

    def settle(self) -> None:
        """Write what the cell printed so far into its outputs."""
        self._printed.settle()

    def output(self, outs: list[Any], msg: dict[str, Any], display_id: str | None, cell_index: int) -> Any:
        """Take one output; streams are joined."""
        if msg["msg_type"] != "stream" or self.output_hook_stack[msg["parent_header"].get("msg_id")]:
            return super().output(outs, msg, display_id, cell_index)
        if self.clear_before_next_output:
            outs[:] = []
            self.clear_display_id_mapping(cell_index)
            self.clear_before_next_output = False
        if not outs:
            self._printed.clear()
        content = msg["content"]
        self._printed.add(outs, _stream, content["name"], content["text"])
        return None

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        """Take one message of the kernel."""
        self._messages += 1
        if msg["msg_type"] == "stream":
            name, text = msg["content"]["name"], msg["content"]["text"]
            for start in range(0, len(text), PIECE):  # a cell that only prints sends tens of megabytes at a time
                self._heard(name, text[start : start + PIECE])
        result = super().process_message(msg, cell, cell_index)
        if msg["msg_type"] == "stream":
            msg["content"]["text"] = ""  # nbclient holds the message until it has read the next one
        return result

    def handle_comm_msg(self, outs: list[Any], msg: dict[str, Any], cell_index: int) -> None:
        """Take one message of a widget."""
        super().handle_comm_msg(outs, msg, cell_index)
        kind, content = msg["msg_type"], msg["content"]
        name, data = str(content.get("comm_id")), content.get("data")
        match kind:
            case "comm_open":
                self._relay.opened(name, data)
            case "comm_close":
                self._relay.closed(name)
            case _:
                self._relay.updated(name, data)
        bars = self._relay.bars
        if bars != self._bars:
            self._bars = bars
            self._moved(bars)

    async def _check_raise_for_error(self, cell: Any, cell_index: int, exec_reply: Any) -> None:  # noqa: ARG002 - nbclient's signature
        reply = exec_reply["content"]
        self.ended_itself = any(part.get("source") == "ask_exit" for part in reply.get("payload", ()))
        if reply["status"] == "error" and "raises-exception" not in cell.metadata.get("tags", []):
            raise CellFailedError(reply)

    async def _async_poll_kernel_alive(self) -> None:
        """Wait for the kernel's death; nbclient would look once a second."""
        await self._kernel.ended()
        await asyncio.sleep(0.1)  # its last messages are on their way
        self.task_poll_for_reply.cancel()

    async def _async_poll_for_reply(
        self,
        msg_id: str,
        cell: Any,
        timeout: float | None,
        task_poll_output_msg: asyncio.Future[Any],
        task_poll_kernel_alive: asyncio.Future[Any],
    ) -> dict[str, Any]:
        """Wait for the reply, and then for the output as long as it flows; nbclient stops after 4 s."""
        del timeout  # time-outs are ours: interrupt, then kill
        reply: dict[str, Any] = await self.kc.shell_channel.get_msg(timeout=None)
        while reply["parent_header"].get("msg_id") != msg_id:
            reply = await self.kc.shell_channel.get_msg(timeout=None)
        cell["metadata"]["execution"]["shell.execute_reply"] = reply["header"]["date"].isoformat()
        seen = -1
        while not task_poll_output_msg.done() and seen != self._messages:
            seen = self._messages
            await asyncio.wait({task_poll_output_msg}, timeout=SILENCE)
        if task_poll_output_msg.done():
            task_poll_output_msg.result()
        else:
            task_poll_output_msg.cancel()
            self.lost_output = True
        task_poll_kernel_alive.cancel()
        return reply


def _stream(name: str) -> Any:
    return new_output("stream", name=name, text="")
