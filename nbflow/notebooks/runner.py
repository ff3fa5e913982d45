"""The runner of notebooks: one task in, its outcome out, and the executed notebook in its place."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import lean
from ..events import Bar, CellFinished, CellStarted, Moved, Printed
from ..files import own_writes
from ..masking import Masker, masked
from ..outcome import Failure, Outcome
from ..printing import TaskLog, both_ends, short
from ..source import Cell, Notebook
from ..steps import KernelStart, NotebookStep
from ..task import Context, Places, Task
from ..types import Status, Warmth
from ..values import File, Value, argument, dumps
from .execution import Ending, Execution, Hooks
from .kernel import Kernel, Kernels
from .outputs import KEPT
from .preload import automatic
from .relay import of_line
from .results import (
    CARRIED,
    Collected,
    ending_code,
    mask_saved,
    read_reply,
    request,
    scraps,
    watch_code,
    written_request,
)

__all__ = ["NotebookRunner", "load"]

WRITTEN_SECONDS = 2.0
"""How long a failed notebook's kernel may take to name the files it wrote."""

MOVED_EVERY = 0.1
"""Seconds between two pictures of the progress bars of a cell."""

TRACEBACK = 20_000
"""Characters of a traceback that go into the journal; a message in it may be as long as all data."""


def load() -> None:
    """Load the libraries that make and run notebooks: they take their time, and a kernel needs some to start."""
    with lean.imports():
        from . import client, document

        del client, document


class NotebookRunner:
    """Runs notebooks, each in a kernel of its own. Shared by all threads; keeps nothing between tasks.

    Parameters
    ----------
    notebooks : mapping of str to Notebook
        The notebooks as they were read, by the ``path`` of their steps.
    folder : Path
        The workflow's folder: paths of steps are relative to it.
    kernels : Kernels
        Starts kernels.
    run_id : str
        The run's id; kernels find it in ``NBFLOW_RUN_ID``.
    kept : int, optional
        Characters that a cell may print into the notebook; above that it keeps the beginning and the end.
    warmth : mapping of str to Warmth, optional
        How kernels start, by the ``path`` of their steps: ``none`` in a process of its own, else forked from a template
        that has imported the ``kernel`` alone, or ``modules`` of the notebook too. By default each has its own.
    start : KernelStart, optional
        Holds for all steps, whatever they say themselves.
    keep : bool, optional
        Whether the kernel of a notebook that failed lives on, for a person to look into it.
    """

    def __init__(
        self,
        notebooks: Mapping[str, Notebook],
        folder: Path,
        kernels: Kernels,
        run_id: str,
        kept: int = KEPT,
        warmth: Mapping[str, Warmth] | None = None,
        start: KernelStart | None = None,
        *,
        keep: bool = False,
    ) -> None:
        self.keep = keep
        self.notebooks = notebooks
        self.folder = folder.absolute()
        self.kernels = kernels
        self.run_id = run_id
        self.kept = kept
        self.warmth = warmth or {}
        self.start = start

    def __call__(self, task: Task, context: Context) -> Outcome:
        """Run one attempt; gives its outcome, whatever the notebook did."""
        step = task.step
        assert isinstance(step, NotebookStep), "the driver sends each kind of task to its own runner"
        began = time.monotonic()
        attempt = self._attempt(task, step, context)
        with own_writes():
            outcome = attempt.run()
        return replace(outcome, seconds=time.monotonic() - began)

    def _attempt(self, task: Task, step: NotebookStep, context: Context) -> Attempt:
        return Attempt(self, task, step, self.notebooks[step.path], context)


@dataclass(slots=True)
class Attempt:
    """One attempt at one task."""

    runner: NotebookRunner
    task: Task
    step: NotebookStep
    notebook: Notebook
    context: Context
    collected: Collected | None = None
    problem: str | None = None
    """Why the results could not be read."""
    foreign: str | None = None
    """Why results cannot be read at all: the language."""
    wrote: tuple[str, ...] = ()
    warnings: list[str] = field(default_factory=list)
    document: Any = None
    manager: Any = None
    log: Any = None
    moved: float = 0.0
    """When its progress bars were told last."""
    late: tuple[Bar, ...] | None = None
    """How they stand, where that was not told yet."""
    drawn: bool = False
    """Whether the last line that it printed was a progress bar."""

    @property
    def places(self) -> Places:
        return self.context.places

    @property
    def masker(self) -> Masker:
        return Masker.of_environment(self.step.masked, os.environ)

    @property
    def directory(self) -> Path:
        """Where the kernel runs."""
        if self.step.cwd == "notebook":
            return (self.runner.folder / self.step.path).parent
        return self.places.item if self.step.cwd == "item" else self.runner.folder / self.step.cwd

    @property
    def preload(self) -> Sequence[str] | None:
        """What the template of the kernel has imported; ``None``: the kernel has a process of its own."""
        start, warmth = self.runner.start or self.step.start, self.runner.warmth.get(self.step.path, "none")
        if warmth == "none" or start.cold:
            return None
        if start.preload is not None:
            return (*CARRIED, *start.preload)
        return (*CARRIED, *(automatic(self._preparing) if warmth == "modules" else ()))

    @property
    def _preparing(self) -> Sequence[Cell]:
        """The cells that say what is imported."""
        return self.notebook.cells

    @property
    def kernels(self) -> Kernels:
        """What gives it its kernel."""
        return self.runner.kernels

    def run(self) -> Outcome:
        """Run it, with its log open."""
        self.places.failed.parent.mkdir(parents=True, exist_ok=True)
        self.places.item.mkdir(parents=True, exist_ok=True)
        try:
            with closing(TaskLog(self.places.log, self.masker, self._show)) as self.log:
                ending = asyncio.run(self._run())
                return self._outcome(ending)
        finally:
            if self.document is not None:
                self.document.nb.cells.clear()  # it is written: its outputs need not wait for the cycle collector
            if self.step.cwd != "item":
                with suppress(OSError):  # the notebook put something there
                    self.places.item.rmdir()

    def _hooks(self) -> Hooks:
        return Hooks(
            cell_started=self._cell_started,
            cell_finished=self._cell_finished,
            printed=self.log.printed,
            moved=self._moved,
            mask=self.masker.text,
            before_first=self._watch,
            after_last=self._collect,
            after_failure=self._after_failure,
            began=self.context.began,
        )

    async def _run(self) -> Ending:
        limits = (self.step.cell_timeout, self.step.timeout, self.runner.kept)
        execution = Execution(self.kernels, self.context.stop, self._hooks(), *limits)
        name = self.step.kernel or self.notebook.kernel or "python3"
        ending = await execution.run(
            name,
            self.directory,
            self._environment(),
            lambda text: self.log.printed("kernel", text),
            lambda language: self._prepare(name, language),
            self.preload,
            self.step.masked,
        )
        if execution.lost_output:
            self.warnings.append(f"{self.task.label}: a part of the output was lost on its way from the kernel.")
        return ending

    def _environment(self) -> dict[str, str]:
        environment = {
            **self.context.variables,
            **os.environ,
            "NBFLOW_RUN_ID": self.runner.run_id,
            "NBFLOW_ITEM_DIR": str(self.places.item),
        }
        for name, value in self.task.environment.items():
            environment.pop(name, None)
            if value is not None:
                given = argument(value)
                environment[name] = given if isinstance(given, str) else dumps(given)
        if self.task.index is not None:
            environment["NBFLOW_INDEX"] = str(self.task.index)
        if self.step.cwd == "item":
            # Modules beside the notebook are found as they are in Jupyter.
            beside = [str((self.runner.folder / self.step.path).parent), environment.get("PYTHONPATH", "")]
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, beside))
        return environment

    def _prepare(self, kernel: str, language: str) -> tuple[Any, Any]:
        """Make the notebook while the kernel starts: the libraries for it take their time to load."""
        with lean.imports():
            from .document import Document

        parameters = {name: argument(value) for name, value in self.task.parameters.items()}
        language = self.notebook.language or language
        return self._managed(
            Document.with_parameters(self.notebook.data, self.notebook.cells, parameters, kernel, language)
        )

    def _managed(self, document: Any) -> tuple[Any, Any]:
        """Give the notebook that is executed, with its bookkeeping."""
        from .document import SaveManager

        self.document = document
        metadata = document.nb.metadata.papermill
        metadata["input_path"] = self.step.path
        metadata["output_path"] = self._relative(self.places.notebook)
        self.manager = SaveManager(document.nb, self.places.failed, self.masker)
        return document, self.manager

    # What happens while cells run

    def _show(self, line: str) -> None:
        self.context.tell(Printed(time.time(), self.task.node, line))
        bar = of_line(line)
        if bar is not None or self.drawn:
            self.drawn = bar is not None
            self.context.tell(Moved(time.time(), self.task.node, () if bar is None else (bar,)))

    def _moved(self, bars: tuple[Bar, ...]) -> None:
        """Tell how far a cell is by its own progress bars: ten times a second, and at its end."""
        now = time.monotonic()
        if now - self.moved < MOVED_EVERY:
            self.late = bars
            return
        self.moved, self.late = now, None
        self.context.tell(Moved(time.time(), self.task.node, bars))

    def _cell_started(self, cell: Any) -> None:
        known = self.document.source_of(cell)
        if known is None:
            return
        self.log.cell(known.number, known.heading)
        heading = self.masker.text(known.heading)
        last = max(cell.number for cell in self.notebook.cells)  # a step may have cells from anywhere in its file
        event = CellStarted(time.time(), self.task.node, known.number, last, heading)
        self.context.tell(event)

    def _cell_finished(self, cell: Any, status: Status, seconds: float) -> None:
        self.log.settle()
        if self.late is not None:
            self.context.tell(Moved(time.time(), self.task.node, self.late))
            self.late = None
        known = self.document.source_of(cell)
        if known is not None:
            self.context.tell(CellFinished(time.time(), self.task.node, known.number, status, seconds))

    def _watch(self, kernel: Kernel, client: Any) -> None:
        if kernel.language == "python" and not kernel.warm:  # one that was forked has it all
            codes = [ending_code()] if self.step.cwd == "item" else [ending_code(), watch_code()]
            client.kc.execute("\n".join(codes), silent=True, store_history=False)

    # Results

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*(self.step.outputs or self.notebook.result_names), *self.step.also)))

    async def _collect(self, execution: Execution) -> bool:
        """Read the results from the kernel; tells whether all of them could be read."""
        if execution.kernel.language != "python":
            if self.step.outputs or self.notebook.results_cells:
                self.foreign = f"results can be read from Python kernels, and this one runs {execution.kernel.language}"
            return True
        watched = None if self.step.cwd == "item" else self.directory
        expression = request(
            self._names,
            self.places.artifacts,
            self.places.folder,
            watched,
            carried=execution.kernel.warm,
            lists=self.step.lists,
        )
        try:
            self.collected = read_reply(await execution.ask(expression, None), "answer")
            self.wrote = self.collected.wrote
        except (ValueError, TimeoutError) as problem:
            self.problem = f"the results could not be read: {short(self.masker.text(str(problem)))}"
            return False
        return not self.collected.problems

    async def _after_failure(self, execution: Execution) -> None:
        await self._ask_written(execution)
        if self.runner.keep:
            file = execution.kernel.keep()
            self.warnings.append(f"its kernel lives on: jupyter console --existing {file}")

    async def _ask_written(self, execution: Execution) -> None:
        """Ask for the files that it wrote before it failed; no answer is an answer."""
        if execution.kernel.language == "python" and self.step.cwd != "item":
            with suppress(ValueError, TimeoutError):
                reply = await execution.ask(
                    written_request(self.directory, carried=execution.kernel.warm), WRITTEN_SECONDS
                )
                self.wrote = read_reply(reply, "answer").wrote

    # The outcome

    def _outcome(self, ending: Ending) -> Outcome:
        if ending.how == "completed":
            output, failure = self._output()
        else:
            output, failure = None, self._failure(ending)
            self._mask_saved()  # it may have ended while the results were saved
        status: Status = "cancelled" if ending.how == "cancelled" else "completed" if failure is None else "failed"
        if failure is not None and failure.traceback:
            self.log.failed(failure.traceback)
        if failure is not None and not (failure.traceback or "").rstrip().endswith(failure.message):
            self.log.failed(failure.message)
        self._write(ending, status)
        kept = self.places.notebook if status == "completed" else self.places.failed
        return Outcome(
            status,
            output,
            None if status == "cancelled" else _cut(failure),
            notebook=self._relative(kept) if kept.exists() else None,
            log=self._relative(self.places.log),
            wrote=self.wrote,
            warnings=tuple(map(self.masker.text, self.warnings)),
        )

    def _failure(self, ending: Ending) -> Failure:
        mask = self.masker.text
        traceback = mask(ending.traceback) if ending.traceback else None
        message = short(mask(ending.message), 200 if ending.how == "error" else 600)
        return Failure(ending.how, message, ending.exception, ending.cell, traceback)

    def _output(self) -> tuple[Value, Failure | None]:
        """Give the output, or why there is none: a name that was asked for has no value, or nothing could be read."""
        found, problems = self.collected or Collected({}, {}), []
        glued, unread = scraps(self.document.nb.cells, self.places.artifacts, self.places.folder)
        self.warnings += unread
        asked = self.step.outputs
        output = {name: value for name, value in glued.items() if not asked or name in self._names} | found.output
        for name, reason in found.problems.items():
            if name in output:
                continue
            if self._is_needed(name):
                problems.append(f"{name!r} was asked for, and {reason}")
            else:
                self.warnings.append(self._left_out(name, reason))
        if self.problem is not None and self._names:
            problems.append(self.problem)
        elif self.problem is not None:  # only the files that it wrote are not known
            self.warnings.append(f"{self.problem}.")
        if self.foreign is not None and asked:
            problems.append(self.foreign)
        elif self.foreign is not None:
            self.warnings.append(f"{self.foreign}.")
        kept = masked(output, self.masker, self._mask_saved()) if self.masker else output
        lists = {name: output[name] for name in self.step.lists if name in output}
        spoilt = [name for name, value in lists.items() if masked(value, self.masker, {}) != value]
        told = "holds a secret, and who runs over it would find stars in its place: let each item read that itself"
        problems += [f"{name!r} {told}" for name in spoilt]
        return kept, Failure("output", self.masker.text("; ".join(problems))) if problems else None

    def _left_out(self, name: str, reason: str) -> str:
        """Give what is said of a result that has no value."""
        return f"{name!r} is left out of the results: {reason}."

    def _is_needed(self, name: str) -> bool:
        """Whether it is a failure that a result has no value."""
        return bool(self.step.outputs) or name in self.step.also

    def _mask_saved(self) -> dict[str, File]:
        return mask_saved(self.places.artifacts, self.places.folder, self.masker) if self.masker else {}

    def _write(self, ending: Ending, status: Status) -> None:
        """Save the executed notebook, true about every cell, in the place where it belongs."""
        if self.manager is None:
            return
        self.document.conclude(self.manager, ending)
        if ending.index is not None:
            self.document.point_to(ending.index)
        if status == "completed":
            self.document.nb.metadata.papermill["output_path"] = self._relative(self.places.notebook)
        self.manager.save_now()
        if status == "completed":
            self.manager.path.replace(self.places.notebook)

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.places.folder).as_posix()


def _cut(failure: Failure | None) -> Failure | None:
    """Give the failure as it is kept: the log has the whole."""
    if failure is None or failure.traceback is None:
        return failure
    return replace(failure, traceback=both_ends(failure.traceback, TRACEBACK))
