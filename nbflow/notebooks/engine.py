"""An engine for papermill: ``papermill --engine nbflow`` tells the truth about every cell.

papermill itself marks cells as completed that never ran, after a dead kernel or a time-out.
"""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from papermill.engines import Engine, NotebookExecutionManager
from papermill.log import logger

from ..durations import seconds
from ..errors import NbflowError
from ..source import Cell
from ..types import StopReason
from .execution import Ending, Execution, Hooks
from .pace import Pace

if TYPE_CHECKING:
    from .document import Document

__all__ = ["NbflowEngine"]


class NbflowEngine(Engine):  # type: ignore[misc]  # papermill is untyped
    """Runs the notebook as nbflow runs it; reading, writing and parameters stay papermill's."""

    @classmethod
    def execute_notebook(
        cls,
        nb: Any,
        kernel_name: str,
        output_path: str | None = None,
        progress_bar: bool | dict[str, Any] = True,  # noqa: FBT001, FBT002 - papermill's signature
        log_output: bool = False,  # noqa: FBT001, FBT002 - papermill's signature
        autosave_cell_every: int = 30,
        **kwargs: Any,
    ) -> Any:
        """Run a notebook; papermill calls this, and raises for what the cells say afterwards.

        Raises
        ------
        NbflowError
            If the kernel did not start.
        """
        from .document import Document  # papermill loads this module while it is itself being imported

        manager = _Manager(nb, output_path, log_output, progress_bar, autosave_cell_every)
        document = Document(nb, _known(nb))
        manager.notebook_start()
        ending = Ending("cancelled")
        try:
            ending = cls._run(manager, document, kernel_name, log_output=log_output, **kwargs)
        finally:
            document.conclude(manager, ending)
            manager.notebook_complete()
        if ending.how != "completed" and ending.index is None:
            raise NbflowError(ending.message)
        return nb

    @classmethod
    def _run(
        cls,
        manager: _Manager,
        document: Document,
        kernel_name: str,
        *,
        log_output: bool,
        stdout_file: Any = None,
        stderr_file: Any = None,
        start_timeout: float = 60,
        execution_timeout: float | None = None,
        resources: dict[str, Any] | None = None,
        **_: Any,
    ) -> Ending:
        files = {"stdout": stdout_file, "stderr": stderr_file}

        def printed(stream: str, text: str) -> None:
            if log_output:
                logger.info(text)
            if files.get(stream) is not None:
                files[stream].write(text)
                files[stream].flush()

        # papermill loads this class by its entry point, so there is nobody above who could hand the kernels in.
        kernels = importlib.import_module("nbflow.kernels").LocalKernels(start_seconds=start_timeout)
        hooks = Hooks(lambda _cell: None, lambda _cell, _status, _seconds: None, printed)
        stop = _Stop()
        execution = Execution(kernels, stop, hooks, execution_timeout)
        directory = Path((resources or {}).get("metadata", {}).get("path") or Path.cwd())
        work = execution.run(
            kernel_name, directory, dict(os.environ), lambda _text: None, lambda _language: (document, manager)
        )
        try:
            return _in_a_thread(work, stop)
        finally:
            kernels.close()


class _Manager(NotebookExecutionManager):  # type: ignore[misc]  # papermill is untyped
    """papermill's bookkeeping, which does not call cells completed that never ran."""

    def __init__(self, nb: Any, output_path: str | None, log_output: bool, bar: Any, every: int) -> None:  # noqa: FBT001 - papermill's word
        super().__init__(nb, output_path, log_output, bar, every)
        self.before_save: Callable[[], None] = lambda: None
        self._pace = Pace()

    def save(self, **kwargs: Any) -> None:
        """Save by papermill's own handlers (files, S3 ...), if the last time is a second ago; papermill always does."""
        if "nb" in kwargs:
            self.nb = kwargs["nb"]
        self._pace.offer(self._save)

    def catch_up(self) -> None:
        """Save what a cell that says nothing has not saved."""
        self._pace.catch_up(self._save)

    def _save(self) -> None:
        self.before_save()
        super().save()

    def notebook_start(self, **kwargs: Any) -> None:
        """Begin once: the execution begins it again when its kernel is there."""
        if self.start_time is None:
            super().notebook_start(**kwargs)

    def notebook_complete(self, **kwargs: Any) -> None:
        """Save what :meth:`Document.conclude` made true."""
        self.cleanup_pbar()
        if "nb" in kwargs:
            self.nb = kwargs["nb"]
        self._pace.now(self._save)


class _Stop:
    """Asks the execution to stop when papermill is interrupted."""

    def __init__(self) -> None:
        self.reason: StopReason | None = None
        self.kill = False
        self._callback: Callable[[], None] = lambda: None

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have the callback called at each change, at once if there was one."""
        self._callback = callback
        if self.reason is not None:
            callback()
        return lambda: None

    def ask(self) -> None:
        """Ask to stop, and at the second time to stop at once."""
        self.kill = self.reason is not None
        self.reason = "cancel"
        self._callback()


def _in_a_thread(work: Any, stop: _Stop) -> Ending:
    """Run a coroutine to its end; papermill may be called where a loop is running, as in a notebook."""
    context = contextvars.copy_context()  # the progress bar finds its cell by it
    with ThreadPoolExecutor(1, thread_name_prefix="nbflow-papermill") as pool:
        future = pool.submit(context.run, asyncio.run, work)
        stopped: KeyboardInterrupt | None = None
        while not future.done():
            try:
                wait([future])
            except KeyboardInterrupt as problem:
                stop.ask()
                stopped = problem
        if stopped is not None:
            raise stopped
        ending: Ending = future.result()
        return ending


def _known(nb: Any) -> dict[str, Cell]:
    """Give the source's code cells: all but the one that papermill put in."""
    code = [
        (position, cell, frozenset(cell.metadata.get("tags", ())))
        for position, cell in enumerate(nb.cells)
        if cell.cell_type == "code" and "injected-parameters" not in cell.metadata.get("tags", ())
    ]
    return {
        cell["id"]: Cell(number, position, cell.source, tags, "", _timeout(tags))
        for number, (position, cell, tags) in enumerate(code, 1)
    }


def _timeout(tags: frozenset[str]) -> float | None:
    text = next((tag.partition(":")[2] for tag in sorted(tags) if tag.startswith("timeout:")), None)
    return seconds(text, "the time-out") if text else None
