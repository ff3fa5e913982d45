"""The execution of one notebook: starts its kernel, runs its cells, and knows at each moment why it ends."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ..durations import about
from ..errors import DefinitionError, NbflowError
from ..events import Bar
from ..host import ending
from ..memory import EXCEPTIONS, MemoryWatch
from ..printing import first_line, plain
from ..task import Stop
from ..types import Status, StopReason
from .kernel import Kernel, Kernels
from .outputs import KEPT
from .pace import SAVED_EVERY

if TYPE_CHECKING:
    from .client import CellClient
    from .document import Document, SaveManager

__all__ = ["Ending", "Execution", "Hooks"]

GRACE: Mapping[StopReason | None, float] = {"cancel": 3.0, "timeout": 10.0, None: 3.0}
"""Seconds between interrupt and kill."""

CRASH = "Fatal Python error"

How: TypeAlias = Literal["completed", "error", "dead-kernel", "memory", "timeout", "start", "input", "cancelled"]


@dataclass(frozen=True, slots=True)
class Ending:
    """How an execution ended."""

    how: How
    message: str = ""
    """One line for people, of any length: a cut may go through a secret, so masking comes first."""
    exception: str | None = None
    cell: int | None = None
    """The number of the cell in which it ended."""
    index: int | None = None
    """Its index in the executed notebook."""
    traceback: str | None = None


COMPLETED = Ending("completed")


@dataclass(frozen=True, slots=True)
class Hooks:
    """What an execution reports while it works."""

    cell_started: Callable[[Any], None]
    """A code cell of the executed notebook begins."""
    cell_finished: Callable[[Any, Status, float], None]
    printed: Callable[[str, str], None]
    """A piece of a stream."""
    moved: Callable[[tuple[Bar, ...]], None] = lambda _bars: None
    """The progress bars of the cell at work changed."""
    mask: Callable[[str], str] = str
    """Takes secrets out of the words beside them."""
    before_first: Callable[[Kernel, CellClient], None] = lambda _kernel, _client: None
    """The kernel is ready."""
    before_cell: Callable[[Execution, Any], Awaitable[str]] | None = None
    """A cell is about to run; gives why it cannot, or nothing."""
    after_last: Callable[[Execution], Awaitable[bool]] | None = None
    """All cells ran, and the kernel still lives: read the results, and tell whether all of them could be read."""
    after_failure: Callable[[Execution], Awaitable[None]] | None = None
    """A cell failed, and the kernel lives."""
    began: Callable[[int], None] = lambda _pid: None
    """The kernel's process is there."""
    leave: Callable[[Kernel, Ending], Awaitable[None]] | None = None
    """All is done with the kernel: close it, or have somebody else go on in it. By default it is closed."""


class Execution:
    """One attempt at one notebook; lives in one event loop.

    Parameters
    ----------
    kernels : Kernels
        Starts the kernel.
    stop : Stop
        Tells when to end.
    hooks : Hooks
        Gets what happens.
    cell_timeout : float, optional
        Seconds that a cell may take which does not say it itself.
    timeout : float, optional
        Seconds that the whole notebook may take; for the message only, ``stop`` says when.
    kept : int
        Characters of streams that a cell keeps in the notebook.
    """

    def __init__(
        self,
        kernels: Kernels,
        stop: Stop,
        hooks: Hooks,
        cell_timeout: float | None = None,
        timeout: float | None = None,
        kept: int = KEPT,
    ) -> None:
        self._kernels = kernels
        self._kept = kept
        self._stop = stop
        self._hooks = hooks
        self._cell_timeout = cell_timeout
        self._timeout = timeout
        self._began = time.monotonic()
        self._interrupted = False
        self._at_work = False
        """Whether a cell runs."""
        self._cut = False
        """Whether that cell was interrupted because somebody asked for the end."""
        self._overdue: float | None = None
        """Seconds after which the running cell was interrupted."""
        self._starting: asyncio.Task[Any] | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._jobs: set[asyncio.Task[None]] = set()
        self._memory = MemoryWatch()
        self.lost_output = False
        self._kernel: Kernel | None = None
        self._client: CellClient | None = None
        self._document: Document | None = None

    @property
    def kernel(self) -> Kernel:
        """The kernel; there is one while cells run."""
        assert self._kernel is not None
        return self._kernel

    async def run(
        self,
        name: str,
        cwd: Path,
        env: Mapping[str, str],
        heard: Callable[[str], None],
        prepare: Callable[[str], tuple[Document, SaveManager]],
        preload: Sequence[str] | None = None,
        private: Sequence[str] = (),
    ) -> Ending:
        """Start the kernel and run the notebook.

        Parameters
        ----------
        name, cwd, env, heard, preload, private
            Of the kernel.
        prepare : callable
            Makes the notebook and its bookkeeping while the kernel starts; gets the kernel's language.
        """
        loop = asyncio.get_running_loop()

        def notice() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and with it what could be stopped
                loop.call_soon_threadsafe(self._stopped)

        unlisten = self._stop.listen(notice)
        try:
            launch = self._kernels.launch(name, cwd=cwd, env=env, heard=heard, preload=preload, private=private)
            ending = await self._run(launch, prepare)
            if self._hooks.leave is not None and self._kernel is not None:
                kernel, self._kernel = self._kernel, None
                await self._hooks.leave(kernel, ending)
            return ending
        finally:
            unlisten()
            for timer in self._timers:
                timer.cancel()
            if self._kernel is not None:
                await self._kernel.close()

    async def _run(
        self,
        launch: Coroutine[Any, Any, Kernel],
        prepare: Callable[[str], tuple[Document, SaveManager]],
    ) -> Ending:
        self._starting = asyncio.create_task(launch)
        try:
            self._kernel = await self._starting
            if (pid := getattr(self._kernel.manager.provisioner, "pid", None)) is not None:
                self._hooks.began(pid)
            self._document, manager = prepare(self._kernel.language)
            manager.set_timer()
            manager.notebook_start()
            self._starting = asyncio.create_task(self._kernel.ready())
            await self._starting
        except asyncio.CancelledError:
            if self._kernel is not None:
                await self._kernel.kill()
            return self._asked(None, None)
        except DefinitionError as problem:
            return Ending("error", problem.message, type(problem).__name__)
        except NbflowError as problem:
            return Ending("start", first_line(problem.message))
        finally:
            self._starting = None
        from .client import CellClient

        hooks = self._hooks
        self._client = CellClient(manager, self._kernel, hooks.printed, self._kept, hooks.moved, hooks.mask)
        self._document.nb.metadata["language_info"] = self._kernel.language_info
        self._hooks.before_first(self._kernel, self._client)
        saving = asyncio.create_task(_keep_saved(manager))
        try:
            ending = await self._cells(manager)
        finally:
            saving.cancel()
        self._client.set_widgets_metadata()
        self.lost_output = self._client.lost_output
        return ending

    async def _cells(self, manager: SaveManager) -> Ending:
        assert self._document is not None
        for index, cell in enumerate(self._document.nb.cells):
            if self._stop.reason is not None or self._stop.kill:
                return self._asked(None, None)
            manager.cell_start(cell, index)
            ending = await self._before(cell) or (await self._cell(cell, index) if _runs(cell) else None)
            if ending is not None and ending is not COMPLETED:
                manager.cell_exception(cell, cell_index=index)
            manager.cell_complete(cell, cell_index=index)
            if ending is COMPLETED:
                break
            if ending is not None:
                return ending
        return await self._conclude()

    async def _before(self, cell: Any) -> Ending | None:
        """Have done what a cell wants before it."""
        if self._hooks.before_cell is None:
            return None
        why = await self._hooks.before_cell(self, cell)
        if self.kernel.exit_code is not None:
            return self._asked(None, None) if self._wanted else self._died(None, None)
        if self._wanted:
            return self._asked(None, None)
        return Ending("input", why) if why else None

    async def _conclude(self) -> Ending:
        """Have the results read; without them nothing is completed, for a completed item never runs again."""
        if self._hooks.after_last is None:
            return COMPLETED
        whole = await self._hooks.after_last(self)
        if self.kernel.exit_code is not None:
            return self._asked(None, None) if self._wanted else self._died(None, None)
        return self._asked(None, None) if self._wanted and not whole else COMPLETED

    async def _cell(self, cell: Any, index: int) -> Ending | None:
        """Run one code cell; gives an ending if it is the last one: ``COMPLETED`` if the cell wanted it so."""
        from .client import CellFailedError, DeadKernelError

        assert self._document is not None
        assert self._client is not None
        number = self._document.number_of(cell)
        self._hooks.cell_started(cell)
        began = time.monotonic()
        clock = self._start_clock(cell)
        ending: Ending | None = None
        self._at_work = True
        try:
            await self._client.run_cell(cell, index)
            if self._overdue is not None:
                ending = self._late(number, index)
            elif self._cut:  # also where it handled the interrupt: what it leaves is half of its work
                ending = self._asked(number, index)
            elif self._client.ended_itself:
                await self.kernel.ended()
                ending = self._died(number, index)
        except CellFailedError as problem:
            ending = await self._failed(_error_of(cell, problem.reply), number, index)
        except DeadKernelError:
            ending = self._ended(number, index)
        finally:
            self._at_work = False
            if clock is not None:
                clock.cancel()
        fine = ending is None or ending is COMPLETED
        stopped = ending is not None and ending.how == "cancelled"
        status: Status = "completed" if fine else "cancelled" if stopped else "failed"
        self._hooks.cell_finished(cell, status, time.monotonic() - began)
        return ending

    async def _failed(self, reply: Mapping[str, Any], number: int | None, index: int) -> Ending:
        """Tell what the error of a cell means."""
        if self._overdue is not None:
            return self._late(number, index)
        if self._wanted:
            return self._asked(number, index)
        name, value = str(reply.get("ename", "")), str(reply.get("evalue", ""))
        if name == "SystemExit" and value in ("", "0", "None"):
            return COMPLETED
        if self._hooks.after_failure is not None:
            await self._hooks.after_failure(self)
        message = first_line(f"{name}: {value}" if value.strip() else name)
        traceback = plain("\n".join(reply.get("traceback") or ()))
        how: How = "memory" if name in EXCEPTIONS else "error"
        return Ending(how, message, name or None, number, index, traceback or None)

    def _ended(self, number: int | None, index: int) -> Ending:
        """Tell why the kernel is gone."""
        if self._overdue is not None:
            return self._late(number, index)
        return self._asked(number, index) if self._wanted else self._died(number, index)

    @property
    def _wanted(self) -> bool:
        """Whether somebody asked for the end."""
        return self._stop.reason is not None or self._stop.kill

    def _asked(self, number: int | None, index: int | None) -> Ending:
        where = f" (cell {number})" if number is not None else ""
        if self._stop.reason == "timeout":
            after = self._timeout if self._timeout is not None else time.monotonic() - self._began
            return Ending("timeout", f"no time left after {about(after)}{where}", None, number, index)
        return Ending("cancelled", f"cancelled{where}", None, number, index)

    def _late(self, number: int | None, index: int) -> Ending:
        assert self._overdue is not None
        return Ending("timeout", f"cell {number} took longer than {about(self._overdue)}", None, number, index)

    def _died(self, number: int | None, index: int | None) -> Ending:
        code = self.kernel.exit_code
        how = ending(code)
        words = _last_words(self.kernel.last_words)
        if self._client is not None and self._client.ended_itself:
            why = "the cell ended it by exit() or quit()"
        else:
            why = self._memory.hint(code) or (words[0] if words[0].startswith(CRASH) else words[-1])
        message = first_line(f"kernel died ({how}): {why}" if why else f"kernel died ({how})")
        kind: How = "memory" if self._memory.died_of_it(code) else "dead-kernel"
        return Ending(kind, message, "DeadKernelError", number, index, "\n".join(words) or None)

    # Stopping

    def _stopped(self) -> None:
        """Somebody asks to stop: interrupt, then kill."""
        if self._starting is not None:
            self._starting.cancel()
        elif self._kernel is None:
            return
        elif self._stop.kill:
            self._do(self.kernel.kill())
        elif self._stop.reason is not None and not self._interrupted:
            self._interrupted, self._cut = True, self._at_work
            self._interrupt_then_kill(GRACE[self._stop.reason])

    def _interrupt_then_kill(self, grace: float) -> None:
        self._do(self.kernel.interrupt())
        self._after(grace, lambda: self._do(self.kernel.kill()))

    def _start_clock(self, cell: Any) -> asyncio.TimerHandle | None:
        """Start the time of a cell that has a time-out."""
        assert self._document is not None
        source = self._document.source_of(cell)
        own = source.timeout if source is not None else None
        limit = own if own is not None else self._cell_timeout
        if limit is None:
            return None
        return self._after(limit, lambda: self._expire(limit))

    def _expire(self, limit: float) -> None:
        self._overdue = limit
        self._interrupt_then_kill(GRACE["timeout"])

    def _after(self, seconds: float, action: Callable[[], None]) -> asyncio.TimerHandle:
        timer = asyncio.get_running_loop().call_later(seconds, action)
        self._timers.append(timer)
        return timer

    def _do(self, work: Any) -> None:
        job = asyncio.ensure_future(work)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    # Questions to the kernel

    async def ask(self, expression: str, limit: float | None) -> Mapping[str, Any]:
        """Have the kernel evaluate an expression, silently; gives its reply.

        Raises
        ------
        TimeoutError
            If it does not answer within the limit, or is dead.
        """
        client = self.kernel.client
        put = partial(client.execute, "", silent=True, store_history=False, user_expressions={"answer": expression})

        async def answer() -> Mapping[str, Any]:
            asked = put()
            while True:
                reply = await client.shell_channel.get_msg(timeout=None)
                if reply["parent_header"].get("msg_id") == asked:
                    content: Mapping[str, Any] = reply["content"]
                    if content.get("status") != "aborted":
                        return content
                    asked = put()  # a kernel drops what comes right behind a cell that failed

        waiting, death = asyncio.ensure_future(answer()), asyncio.ensure_future(self.kernel.ended())
        try:
            await asyncio.wait({waiting, death}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                return waiting.result()
            raise TimeoutError("the kernel did not answer")
        finally:
            waiting.cancel()
            death.cancel()


async def _keep_saved(manager: SaveManager) -> None:
    """Have what happens in the notebook stand in its file soon, also while a cell says nothing."""
    while True:
        await asyncio.sleep(SAVED_EVERY)
        with contextlib.suppress(OSError):  # there may be room, or a network, again; the end is saved in any case
            manager.catch_up()


def _runs(cell: Any) -> bool:
    return bool(
        cell.cell_type == "code" and cell.source.strip() and "skip-execution" not in cell.metadata.get("tags", ())
    )


def _error_of(cell: Any, reply: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give the error of a cell: where showing a value failed, IPython's reply has none, and the outputs have it."""
    shown = [one for one in cell.outputs if one.output_type == "error"]
    return shown[-1] if shown and reply.get("ename") in (None, "", "NoneType") else reply


def _last_words(text: str) -> list[str]:
    """Give what tells most of what a dying process wrote: from Python's word for a crash on, else the end."""
    lines = text.splitlines() or [""]
    crash = next((i for i, line in enumerate(lines) if line.startswith(CRASH)), None)
    return lines[-30:] if crash is None else lines[crash : crash + 30]
