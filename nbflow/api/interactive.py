"""Cells as recorded steps of an interactive run: they run in this kernel, and what came of them stands on disk."""

from __future__ import annotations

import ast
import queue
import signal
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from .. import definition as d
from .. import model
from ..errors import DefinitionError
from ..executors.threads import ThreadExecutor
from ..loading.building import Here, OnDisk
from ..loading.workflow_file import Source
from ..outcome import Failure, Outcome, completed, failed
from ..store.home import Home
from ..task import Context, Task
from ..values import NotAValueError, Value, dumps, result
from .interrupts import Interrupts
from .runs import Run

__all__ = ["Cell", "CellRunner", "CellStep", "Interactive", "make_cell"]

LONGEST = 2000
"""Characters of a value that is recorded; longer ones stay in the kernel alone."""


class Cell(d.Task):
    """A cell of the notebook in which it was run, with ``%%step``."""

    keys: ClassVar[tuple[str, ...]] = ("cell",)

    cell: str
    """Its code."""


@dataclass(frozen=True, kw_only=True)
class CellStep(model.TaskStep):
    """A cell that runs in the kernel that asked for it."""

    kind: ClassVar[str] = "cell"

    code: str

    @property
    def content(self) -> str:
        """The code."""
        return self.code

    @property
    def origin(self) -> str:
        """The magic."""
        return f"%%step {self.id}"


def make_cell(one: Cell, here: Here) -> model.Step:
    """Make the step."""
    return CellStep(**here.task, code=one.cell)


class CellRunner:
    """Has the kernel's own thread run the cell; in another process there is none that could.

    Parameters
    ----------
    folder : Path
        The workflow's folder.
    run_id : str
        The run's id.
    """

    def __init__(self, folder: Path, run_id: str) -> None:  # noqa: ARG002 - the shape of a runner's maker
        self._run_id = run_id

    def __call__(self, task: Task, context: Context) -> Outcome:  # noqa: ARG002 - a cell knows nothing of it
        """Wait for what comes of it."""
        step = task.step
        assert isinstance(step, CellStep), "the driver sends each kind of task to its own runner"
        run = _kernels.get(self._run_id)
        if run is None:
            return failed("input", f"{step.id} is a cell of a notebook, and runs there: %%step {step.id}")
        return run(step.code)


_kernels: dict[str, Callable[[str], Outcome]] = {}
"""What runs cells, by the ids of interactive runs of this process."""


class Interactive:
    """The interactive run of one kernel: each step is run in it, and recorded.

    Parameters
    ----------
    shell : InteractiveShell
        IPython's.
    name : str
        What its runs are called on disk.
    """

    def __init__(self, shell: Any, name: str) -> None:
        self._shell = shell
        self._name = name
        self._steps: dict[str, str] = {}
        self._asked: queue.SimpleQueue[tuple[str, Future[Outcome]]] = queue.SimpleQueue()
        self.run: Run | None = None

    def step(self, name: str, code: str) -> Run:
        """Run a cell as a step of this name; run again, it is the same step."""
        from .session import Session

        before = dict(self._steps)
        self._steps[name] = code
        try:
            request = self._request(name)
        except DefinitionError:
            self._steps = before
            raise
        with Interrupts([signal.SIGINT]) as interrupts:
            _kernels[request.run_id] = self._ask
            session = Session(request, run=self.run, executor=ThreadExecutor)
            self.run = session.run
            session.start()
            while not session.driver.done.wait(0.005):
                self._tend()
            session.close()
            interrupts.answered = True  # the cell heard of it
        return session.run

    def _request(self, name: str) -> Any:
        from .flow import flow_definition, of_run
        from .flow_requests import flow_request, remade
        from .requests import check_kernel

        steps: list[d.Step] = [Cell(id=known, cell=code, needs=[]) for known, code in self._steps.items()]
        definition = d.Workflow(name=self._name, steps=steps)
        if self.run is None:
            return flow_request(definition, given={}, max_workers=1)
        home = Home.of(Path(self._name))
        files = OnDisk(home.folder, check_kernel)
        flow = flow_definition(
            definition, Source(self._name), files, given={}, text=False, in_file=False, max_workers=1, changed="keep"
        )
        return remade(self.run.stored(), of_run(flow, self.run.id), name)

    def _ask(self, code: str) -> Outcome:
        """Have the kernel's thread run a cell; called by a worker's."""
        future: Future[Outcome] = Future()
        self._asked.put((code, future))
        return future.result()

    def _tend(self) -> None:
        try:
            code, future = self._asked.get_nowait()
        except queue.Empty:
            return
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            future.set_result(self._done(code))
        except BaseException as problem:
            future.set_exception(problem)  # or the worker waits for ever
            raise
        finally:
            signal.signal(signal.SIGINT, before)

    def _done(self, code: str) -> Outcome:
        """Run a cell here, and tell what came of it."""
        ended = self._shell.run_cell(code, store_history=False)
        problem = ended.error_before_exec or ended.error_in_exec
        if isinstance(problem, KeyboardInterrupt):
            return Outcome("cancelled")
        if problem is not None:
            kind = type(problem).__name__
            line = " ".join(f"{kind}: {problem}".split())[:200]
            return Outcome("failed", error=Failure("error", line, kind))
        return completed(self._values(code))

    def _values(self, code: str) -> dict[str, Value]:
        """Give the names that a cell assigns at its top, with the values that are small and plain."""
        found: dict[str, Value] = {}
        for name in _assigned(self._shell.transform_cell(code)):
            try:
                value: Value = result(self._shell.user_ns[name])
                if len(dumps(value)) <= LONGEST:
                    found[name] = value
            except (KeyError, NotAValueError):
                continue  # it was deleted, or is a frame or a model: those stay in the kernel
        return found


def _assigned(code: str) -> list[str]:
    names: dict[str, None] = {}
    for node in ast.parse(code).body:
        match node:
            case ast.Assign(targets=targets):
                names.update(dict.fromkeys(one.id for one in targets if isinstance(one, ast.Name)))
            case ast.AnnAssign(target=ast.Name(id=name)) | ast.AugAssign(target=ast.Name(id=name)):
                names[name] = None
            case _:
                pass
    return [name for name in names if not name.startswith("_")]


def name_of(notebook: Path | None) -> str:
    """Give what the interactive runs of a notebook are called: beside it, and not its own."""
    return f"{notebook.stem}.steps" if notebook is not None else "interactive.steps"
