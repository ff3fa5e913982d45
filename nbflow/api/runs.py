"""Runs: what a person holds of one, at work or long ended."""

from __future__ import annotations

import glob
import re
import shlex
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from ..errors import LibraryError, RunFailedError, StoreError, TargetError, did_you_mean
from ..events import GateOpened, NodeFinished, Warned
from ..instruction import Instruction
from ..model import Block, NodeId, node_text
from ..outcome import Failure
from ..reporters.picture import total as tasks
from ..state import Active, Progress, RunState
from ..store import commands
from ..store.checkpoint import read as read_checkpoint
from ..store.home import without_ending
from ..store.lock import read_owner
from ..store.names import file_stem
from ..types import RunStatus, Status
from ..values import File, Value, located, tagged
from .definition import Definition, MapDefinition, find_item
from .order import item_of, place_of
from .rows import Row, table_rows

if TYPE_CHECKING:
    import pandas as pd

    from ..driver import Driver
    from .flow import FlowDefinition
    from .reading import Stored

PAUSE = 0.25
"""Seconds between two looks whether a run has ended that another process works at."""
AWAIT = 0.05
"""Seconds between two looks of an event loop whether a run has ended."""


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a run: its parameters, and how it ended if it has."""

    index: int
    """From 0, in item order."""
    parameters: dict[str, Value]
    status: Status
    output: Value = None
    """Names and values of its results; ``None`` where there is none."""
    error: Failure | None = None
    attempts: int = 0
    seconds: float | None = None
    """Seconds of its last attempt."""
    notebook: Path | None = None
    """The executed notebook; for a failed item the one that shows where."""
    log: Path | None = None
    """What it printed."""
    label: str = ""
    """What people call it: ``city=Cairo``."""
    kept: bool = False
    """Answered from an earlier start of this run."""

    @property
    def results(self) -> dict[str, Value]:
        """Its results by name; none where there is none."""
        return self.output if isinstance(self.output, dict) else {}

    def data(self) -> dict[str, Any]:
        """Give what ``--json`` prints of it."""
        error = None
        if self.error is not None:
            error = {name: getattr(self.error, name) for name in ("kind", "message", "cell", "traceback")}
        return {
            "index": self.index,
            "parameters": tagged(self.parameters),
            "status": self.status,
            "output": tagged(self.output),
            "error": error,
            "attempts": self.attempts,
            "seconds": self.seconds,
            "notebook": str(self.notebook) if self.notebook is not None else None,
        }


class Source(Protocol):
    """Where a run's facts come from: the driver of this process, or the files."""

    @property
    def progress(self) -> Progress:
        """How far it is."""
        ...

    def ended(self) -> list[NodeFinished]:
        """Give the nodes that ended, containers included."""
        ...

    def gates(self) -> list[GateOpened]:
        """Give the gates that wait for a person."""
        ...

    def state(self) -> RunState:
        """Give all of it, at one moment."""
        ...


@dataclass(slots=True)
class Shown:
    """How a run is shown in this process, and what it was begun with."""

    view: Any = None
    """What shows it."""
    handle: Any = None
    """What the buttons of the view do."""
    cell: int | None = None
    """The number of the cell in which it was shown last."""
    used: Mapping[str, Any] = field(default_factory=dict)
    """Callbacks, executor and reporter: it goes on with them when it is taken up again."""
    keep_kernels: bool = False
    """Whether the kernels of notebooks that fail live on; so they do when it is taken up again."""


class Run:
    """One run: at work, or long ended. All it shows is read at the moment of asking."""

    def __init__(self, folder: Path, checkpoint: Path, source: Source) -> None:
        self._source = source
        self.folder = folder
        """The run folder: journal, executed notebooks, logs."""
        self._beside = checkpoint
        self._driver: Driver | None = None
        self._closed: threading.Event | None = None
        self._crashed: BaseException | None = None
        self._mine = False
        """Whether this process worked at it."""
        self.shown = Shown()
        """How this process shows it."""

    def works(self, driver: Driver, source: Source, closed: threading.Event) -> None:
        """Learn who works at it in this process."""
        self._driver, self._source, self._closed, self._crashed = driver, source, closed, None

    def ends(self, source: Source, crashed: BaseException | None) -> None:
        """Learn that this process works at it no more."""
        self._driver, self._source, self._crashed = None, source, crashed
        self._mine = True

    @property
    def id(self) -> str:
        """The run's id; ids sort by time."""
        return self.folder.name

    @property
    def home(self) -> Path:
        """The folder of the notebook or workflow."""
        return self.stored().home.folder

    def is_newest(self) -> bool:
        """Whether the checkpoint tells of this run: no other was started or resumed since."""
        try:
            return not self._beside.is_file() or read_checkpoint(self._beside).run_id == self.id
        except StoreError:  # nobody can tell, and this run may be the one that writes it anew
            return True

    @property
    def checkpoint(self) -> Path:
        """The JSON file beside the notebook or workflow; where a newer run took its place, that in the run folder.

        That one is there if the run was at work then.
        """
        return self._beside if self.is_newest() else self.folder / "checkpoint.json"

    def typed(self) -> str:
        """Give what it is called in a command that is typed here."""
        elsewhere = (self.folder / "home.json").exists()  # with a state directory the file's name alone does not do
        named = self.folder if elsewhere or not self.is_newest() else without_ending(self.checkpoint)
        try:
            here = Path.cwd()
        except OSError:  # it was deleted
            return str(named)
        return str(named.relative_to(here)) if named.is_relative_to(here) else str(named)

    @property
    def status(self) -> RunStatus:
        """``running completed failed paused aborted interrupted``."""
        progress = self._source.progress
        return "paused" if progress.held and progress.status == "running" else progress.status

    @property
    def at_work(self) -> bool:
        """Whether somebody works at it, this process or another."""
        if self._closed is not None and not self._closed.is_set():
            return True
        return self._source.progress.status in ("running", "created") and self._owned

    @property
    def _owned(self) -> bool:
        owner = read_owner(self.folder)
        return owner is not None and owner.alive(time.time())

    @property
    def reason(self) -> str:
        """Why it was interrupted; empty otherwise."""
        return self._source.progress.reason

    @property
    def warnings(self) -> list[Warned]:
        """What a person should know although nothing failed."""
        return list(self._source.progress.warnings)

    @property
    def progress(self) -> Progress:
        """Counts, and what is at work."""
        return self._source.progress

    @property
    def outcomes(self) -> Sequence[Item | Node]:
        """How each item or task stands, in order."""
        raise NotImplementedError

    def __getitem__(self, name: int | str) -> Item | Node:
        """Give one of them by what it is called."""
        raise NotImplementedError

    def tasks(self, name: int | str) -> Sequence[Item | Node]:
        """Give the items or tasks that a name means."""
        raise NotImplementedError

    def __len__(self) -> int:
        """How many there are."""
        raise NotImplementedError

    def rows(self) -> list[dict[str, Value]]:
        """Give the table of the run, one mapping per row, all with the same names in the same order."""
        raise NotImplementedError

    def to_frame(self) -> pd.DataFrame:
        """Give the table of the run, as a pandas DataFrame."""
        try:
            import pandas as pd
        except ImportError as problem:
            raise LibraryError("to_frame() needs pandas", "pip install 'nbflow[frames]'") from problem
        return pd.DataFrame(self.rows())  # type: ignore[no-any-return, unused-ignore]  # pandas may have no stubs

    def check(self) -> Run:
        """Give the run itself, if it completed.

        Raises
        ------
        RunFailedError
            With the first failures in its text.
        """
        if self.status == "completed":
            return self
        failed = self._failed()
        lines = [f"{label}  {_where(error)}" for label, error in failed[:5]]
        if len(failed) > 5:
            lines.append(f"... {len(failed) - 5} more")
        message = self._verdict(len(failed)) if failed else f"the run is {self.status}"
        raise RunFailedError(f"{message} (run {self.id})", "\n".join(lines))

    def _failed(self) -> list[tuple[str, Failure | None]]:
        """Give what failed: what it is called, and why."""
        raise NotImplementedError

    def _verdict(self, failed: int) -> str:
        """Give in words how many failed."""
        raise NotImplementedError

    def cancel(self) -> None:
        """End the run: nothing new starts, kernels are interrupted and after 3 s killed.

        Of a run that another process works at, that process is asked.

        Raises
        ------
        TargetError
            If nobody works at it.
        """
        if self._driver is not None:
            self._driver.cancel()
        else:
            self._tell(Instruction("cancel"), "There is nothing to cancel.")

    def pause(self) -> None:
        """Start nothing new; what runs goes on, and the run is ``paused`` until :meth:`unpause`.

        Raises
        ------
        TargetError
            If nobody works at it.
        """
        if self._driver is not None:
            self._driver.pause()
        else:
            self._tell(Instruction("pause"), "There is nothing to pause.")

    def unpause(self) -> None:
        """Go on after :meth:`pause`.

        Raises
        ------
        TargetError
            If nobody works at it.
        """
        if self._driver is not None:
            self._driver.unpause()
        else:
            self._tell(Instruction("unpause"), "nbflow.resume(target) goes on with a run that has ended.")

    def wait(self, timeout: float | None = None) -> Run:
        """Wait for the end, and give the run itself. An interrupt ends the waiting, not the run.

        Parameters
        ----------
        timeout : float, optional
            Seconds at most.

        Raises
        ------
        TimeoutError
            If it has not ended by then.

        Examples
        --------
        >>> nbflow.start("forecast.ipynb", grid={"city": ["Oslo", "Lima"]}).wait().check()  # doctest: +SKIP
        """
        until = None if timeout is None else time.monotonic() + timeout
        if self.shown.handle is not None and threading.current_thread() is threading.main_thread():
            with self.shown.handle.waiting():
                return self._waited(until, timeout)
        return self._waited(until, timeout)

    def _waited(self, until: float | None, timeout: float | None) -> Run:
        while self.at_work:
            left = PAUSE if until is None else min(PAUSE, until - time.monotonic())
            if left <= 0:
                raise TimeoutError(f"run {self.id} is still at work after {timeout:g} s")
            if self._closed is not None and not self._closed.is_set():
                self._closed.wait(left)
            else:
                time.sleep(left)
        if self._crashed is not None:
            raise self._crashed
        return self

    def __await__(self) -> Generator[Any, None, Run]:
        """Wait for the end beside other tasks of an event loop: ``await run``."""
        return self._ended().__await__()

    async def _ended(self) -> Run:
        import asyncio

        while self.at_work:
            await asyncio.sleep(AWAIT)  # in slices: an idle loop would not hear of an interrupt
        return self.wait()

    def retry_failed(self) -> Run:
        """Run again what failed, and what never ran, in the background; what is done stays as it is.

        Raises
        ------
        TargetError
            If somebody works at it.

        Examples
        --------
        >>> run.retry_failed().wait()  # doctest: +SKIP
        """
        from .live import again

        again(self)
        return self

    def open(self, one: int | str) -> Any:
        """Give a link to the executed notebook of an item or node.

        Parameters
        ----------
        one : int or str
            Of a map the index of an item from 0, or what it is called; of a workflow the id of a node.

        Raises
        ------
        TargetError
            If it has none.

        Examples
        --------
        >>> run.open("city=Oslo")  # doctest: +SKIP
        """
        from ..notebooks.links import Link

        return Link(self._notebook(one))

    def _notebook(self, one: int | str) -> Path:
        found = self[one]
        if found.notebook is None or not found.notebook.is_file():
            raise TargetError(
                f"{found.label} has no executed notebook: it is {found.status}", "run.outcomes lists all."
            )
        return found.notebook

    def stored(self) -> Stored:
        """Give the run as it stands on disk."""
        from .reading import locate

        return locate(self.folder)

    def state(self) -> RunState:
        """Give all that is known of it, at one moment."""
        return self._source.state()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:  # noqa: ARG002 - IPython's names
        """Give how it stands, for a notebook; where this cell shows it already, one line."""
        from .live import execution_count, page

        if self.shown.cell is not None and self.shown.cell == execution_count():
            return {"text/plain": f"<Run {self.id}>"}  # how it stands is told beside it, and will be another
        return {"text/plain": repr(self), **page(self)}

    @property
    def block(self) -> Block:
        """Its steps."""
        return self._steps()

    def _steps(self) -> Block:
        raise NotImplementedError

    def _tell(self, instruction: Instruction, otherwise: str) -> Path:
        if not self._owned:  # also before its first line it can be asked
            raise TargetError(f"run {self.id} is not at work: it is {self.status}", otherwise)
        return commands.send(self.folder, instruction)

    def data(self) -> dict[str, Any]:
        """Give what ``--json`` prints of the run."""
        checkpoint = self.checkpoint
        there = checkpoint == self._beside or checkpoint.exists()
        return {"run_id": self.id, "status": self.status, "checkpoint": str(checkpoint) if there else None}

    def _output(self, output: Value) -> Value:
        """Give results as values, at every depth; frames, arrays and files as references with whole paths."""
        if isinstance(output, dict):
            return {name: self._output(value) for name, value in output.items()}
        if isinstance(output, list):
            return [self._output(value) for value in output]
        if not isinstance(output, File):
            return output
        if output.format == "json" and (self.folder / output.path).is_file():  # it was only too long for the journal
            return cast("Value", self._loaded(output))
        return cast("Value", located(output, str(self.folder)))

    def load(self, one: int | str, name: str | None = None) -> object:
        """Give one result of an item or node, or its executed notebook; what is in a file is read from it.

        Parameters
        ----------
        one : int or str
            Of a map the index of an item from 0, or what it is called; of a workflow the id of a node.
        name : str, optional
            Name of the result; without it the executed notebook is given, as nbformat reads it.

        Raises
        ------
        TargetError
            If there is no such result, or no executed notebook.
        StoreError
            If its file is gone, or was changed since.

        Examples
        --------
        >>> run.load("city=Oslo", "forecast")  # doctest: +SKIP
        >>> run.load("load", "table")  # doctest: +SKIP
        """
        if name is None:
            from ..notebooks.links import content

            return content(self._notebook(one))
        found = self[one]
        output = found.output
        if not isinstance(output, dict) or name not in output:
            known = ", ".join(output) if isinstance(output, dict) else "no results"
            raise TargetError(f"{found.label} has no result {name!r}", f"It has: {known}.")
        return self._loaded(output[name], found)

    def _loaded(self, value: Value, whose: Item | Node | None = None) -> object:
        if not isinstance(value, File):
            return value
        from ..notebooks.results import load

        return load(value, self.folder, lambda: self._remedy(whose, value))

    def _remedy(self, whose: Item | Node | None, value: File) -> str:  # noqa: ARG002 - maps look at it
        """Give what to do when the file of a result is not as it was left."""
        resume = f"nbflow resume {shlex.quote(self.typed())}"
        match whose:
            case Item(index=index):
                return f"Run the item again: {resume} --only {index}"
            case Node(id=node):
                return f"Run it again: {resume} --only {shlex.quote(node)}"
            case _:
                return "Run it again."


class MapRun(Run):
    """One run of a notebook over its items.

    Made by :func:`nbflow.map`, :func:`nbflow.resume` and :func:`nbflow.status`.

    Examples
    --------
    >>> run = nbflow.map("forecast.ipynb", grid={"city": ["Oslo", "Lima"]})  # doctest: +SKIP
    >>> run.status, run.results[0]["rmse"]  # doctest: +SKIP
    ('completed', 1.831)
    """

    def __init__(self, definition: MapDefinition, folder: Path, checkpoint: Path, source: Source) -> None:
        super().__init__(folder, checkpoint, source)
        self._definition = definition

    @property
    def varying(self) -> tuple[str, ...]:
        """Names of the parameters by which items are called."""
        return self._definition.varying

    @property
    def limit(self) -> str:
        """The option by which failures left the rest out (``--max-failures 3``); empty if none did."""
        most, failed = self._definition.max_failures, self.progress.counts["failed"]
        if self._definition.fail_fast and failed:
            return "--fail-fast"
        return f"--max-failures {most}" if most is not None and failed >= most else ""

    @property
    def outcomes(self) -> list[Item]:
        """All items, in item order."""
        return list(self._items())

    @property
    def results(self) -> list[Value]:
        """The results of all items, in item order; ``None`` for an item without.

        Frames and arrays are :class:`nbflow.File` references; :meth:`load` gives what is in them.
        """
        return [item.output for item in self._items()]

    @property
    def failures(self) -> list[Item]:
        """The items that failed, in item order."""
        return [item for item in self._items() if item.status == "failed"]

    def tasks(self, name: int | str) -> list[Item]:
        """Give the item that a name means."""
        return [self[name]]

    def __getitem__(self, item: int | str) -> Item:
        """Give one item by its index, or by what it is called (``"city=Cairo"``)."""
        return self.outcomes[find_item(self._definition, str(item), self.typed())]

    def __len__(self) -> int:
        """How many items there are."""
        return len(self._definition.items)

    def _items(self) -> Iterator[Item]:
        ended = {e.index: e for e in self._source.ended() if e.leaf and e.index is not None}
        active = {task.index: task for task in list(self._source.progress.active.values())}
        for index in range(len(self._definition.items)):
            yield self._item(index, ended.get(index), active.get(index) is not None)

    def _item(self, index: int, event: NodeFinished | None, active: bool) -> Item:  # noqa: FBT001 - a fact, not an option
        parameters, name = self._definition.parameters(index), self._definition.label(index)
        if event is None:
            return Item(index, parameters, "running" if active else "pending", label=name)
        o = event.outcome
        return Item(
            index,
            parameters,
            o.status,
            self._output(o.output),
            o.error,
            o.attempts,
            round(o.seconds, 6) if o.attempts else None,
            self.folder / o.notebook if o.notebook else None,
            self.folder / o.log if o.log else None,
            name,
            event.kept,
        )

    def _remedy(self, whose: Item | Node | None, value: File) -> str:
        typed, again = self.typed(), super()._remedy(whose, value)
        if value.format != "file" or self._definition.cwd == "item" or not (self.folder / value.path).exists():
            return again
        notebook = shlex.quote(typed if typed.endswith(".ipynb") else self._definition.notebook)
        apart = f"nbflow map {notebook} ... --cwd item (the ... are the items, as they were given)"
        return f"If another item wrote it too, give each its own folder: {apart}\n{again}"

    def to_frame(self, result: str | None = None) -> pd.DataFrame:
        """Give a table of the run, as a pandas DataFrame.

        Parameters
        ----------
        result : str, optional
            Name of a result that is a frame: the items' frames in one, with the parameters as columns, and
            their index where it is more than the numbers of the rows.
            Without it one row per item: index, parameters, results, status, seconds, attempts, error, notebook.
        """
        if result is None:
            return super().to_frame()
        import pandas as pd

        frames = []
        for item in self._items():
            if isinstance(item.output, dict) and result in item.output:
                frame = self._loaded(item.output[result], item)
                if isinstance(frame, pd.Series):
                    frame = frame.to_frame()
                if not isinstance(frame, pd.DataFrame):
                    raise TargetError(f"the result {result!r} of {item.label} is a {type(frame).__name__}, not a frame")
                frame = _index_as_columns(frame)
                for place, (name, value) in enumerate(item.parameters.items()):
                    column = name if name not in frame.columns else f"parameter.{name}"
                    frame.insert(place, column, [value] * len(frame))
                frames.append(frame)
        if not frames:
            raise TargetError(f"no item has a result {result!r}", "run.to_frame() lists all results.")
        return pd.concat(frames, ignore_index=True)  # type: ignore[no-any-return, unused-ignore]  # as above

    def rows(self) -> list[dict[str, Value]]:
        """Give the table as one mapping per item, all with the same names in the same order.

        A result that is called like another column gets ``result.`` before its name, a parameter ``parameter.``;
        what an item does not have is ``None``.
        """
        rows = [Row(item.index, item.parameters, item.results, item) for item in self._items()]
        return table_rows("index", rows)

    def data(self) -> dict[str, Any]:
        """Give what ``--json`` prints of the run."""
        return {**super().data(), "items": [item.data() for item in self._items()]}

    def _steps(self) -> Block:
        return self._definition.workflow().block

    def _failed(self) -> list[tuple[str, Failure | None]]:
        return [(item.label, item.error) for item in self.failures]

    def _verdict(self, failed: int) -> str:
        return f"{failed} of {len(self)} failed"

    def __repr__(self) -> str:
        """One line for people."""
        done = sum(item.status == "completed" for item in self._items())
        return f"<Run {self.id} of {self._definition.notebook}: {self.status}, {done} of {len(self)} done>"


def _index_as_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """Give a frame with its index as columns; one that only numbers the rows is let go of."""
    index = frame.index
    if type(index).__name__ == "RangeIndex" and index.name is None:
        return frame
    unnamed = ["index"] if len(index.names) == 1 else [f"level_{place}" for place in range(len(index.names))]
    names: list[object] = []
    for name, other in zip(index.names, unnamed, strict=True):
        wanted = other if name is None else name
        while wanted in frame.columns or wanted in names:
            wanted = f"index.{wanted}"
        names.append(wanted)
    return frame.reset_index(names=names)


@dataclass(frozen=True, slots=True)
class Node:
    """One step of a run, as often as it stands in it."""

    id: str
    """``load``, ``train:fit:3``, ``train:fit:3/score``."""
    status: Status
    output: Value = None
    error: Failure | None = None
    attempts: int = 0
    seconds: float | None = None
    """Seconds of its last attempt; of a container of all that is in it."""
    notebook: Path | None = None
    """The executed notebook."""
    log: Path | None = None
    label: str = ""
    """What people call it."""
    index: int | None = None
    """The index of its item."""
    leaf: bool = True
    """Whether it is a task or a gate, not a container."""
    kept: bool = False
    """Answered from an earlier start of this run."""
    item: dict[str, Value] = field(default_factory=dict)
    """The values of the items in which it stands, by name: ``{"city": "Oslo"}``."""

    @property
    def results(self) -> dict[str, Value]:
        """What it gave, by name; what is no mapping is called ``output``."""
        if isinstance(self.output, dict):
            return self.output
        return {} if self.output is None else {"output": self.output}

    def data(self) -> dict[str, Any]:
        """Give what ``--json`` prints of it."""
        error = None
        if self.error is not None:
            error = {name: getattr(self.error, name) for name in ("kind", "message", "cell", "traceback")}
        return {
            "status": self.status,
            "output": tagged(self.output),
            "error": error,
            "attempts": self.attempts,
            "seconds": self.seconds,
            "notebook": str(self.notebook) if self.notebook is not None else None,
        }


class WorkflowRun(Run):
    """One run of a workflow.

    Made by :func:`nbflow.run`, :func:`nbflow.resume` and :func:`nbflow.status`.

    Examples
    --------
    >>> run = nbflow.run("monthly.yml", inputs={"year": 2026})  # doctest: +SKIP
    >>> run.status, run["gather"].output["rmse"]  # doctest: +SKIP
    ('completed', [1.83, 1.91])
    """

    def __init__(self, definition: FlowDefinition, folder: Path, checkpoint: Path, source: Source) -> None:
        super().__init__(folder, checkpoint, source)
        self._definition = definition

    @property
    def steps(self) -> list[str]:
        """The ids of the steps of the outermost list, in the order of one worker."""
        return [step.id for step in self._definition.built.block.steps]

    @property
    def inputs(self) -> dict[str, Value]:
        """The values of its inputs."""
        return dict(self._definition.given)

    @property
    def nodes(self) -> dict[str, Node]:
        """All nodes that ended, are at work or wait for a person, by id, in the order of one worker."""
        found = {event.node: self._node(event) for event in self._source.ended()}
        for task in list(self._source.progress.active.values()):
            found.setdefault(task.node, self._open(task, "running", task.attempt))
        for gate in self.waits_for:
            found.setdefault(gate.node, self._open(gate, "paused", 0))
        block = self._definition.built.block
        return {node_text(node): found[node] for node in sorted(found, key=lambda node: place_of(node, block))}

    def _open(self, one: Active | GateOpened, status: Status, attempts: int) -> Node:
        name, item = node_text(one.node), item_of(one.node, one.items, self._definition.built.block)
        return Node(name, status, label=one.label, index=one.index, attempts=attempts, item=item)

    def _node(self, event: NodeFinished) -> Node:
        o = event.outcome
        return Node(
            node_text(event.node),
            o.status,
            self._output(o.output),
            o.error,
            o.attempts if event.leaf else 0,
            round(o.seconds, 6) if o.seconds else None,
            self.folder / o.notebook if o.notebook else None,
            self.folder / o.log if o.log else None,
            event.label or node_text(event.node),
            event.index,
            event.leaf,
            event.kept,
            item_of(event.node, event.items, self._definition.built.block),
        )

    def __getitem__(self, name: int | str) -> Node:
        """Give one node by its id, or the only one that is called so: ``"fit city=Oslo"``, ``"city=Oslo"``."""
        nodes, text = self.nodes, str(name)
        if text in nodes:
            return nodes[text]
        called = [one for one in nodes.values() if one.label == text]
        called = called or [one for one in nodes.values() if one.leaf and one.label.endswith(f" {text}")]
        if len(called) == 1:
            return called[0]
        if called:
            several = _some([one.id for one in called])
            raise TargetError(f"{text!r}: {len(called)} nodes are called so: {several}", "Name one of them.")
        labels = [one.label for one in nodes.values() if one.leaf]
        near = did_you_mean(text, list(dict.fromkeys([*nodes, *labels])))
        raise TargetError(f"run {self.id} has no node {text!r}.{near}", f"It has: {_some(list(nodes))}.")

    def tasks(self, name: int | str) -> list[Node]:
        """Give the tasks and gates that a name means: one of them, or all that stand in a step."""
        inside = [node for node in self.outcomes if node.id.startswith((f"{name}:", f"{name}/"))]
        return inside or [self[name]]

    def __len__(self) -> int:
        """How many tasks and gates ended or are at work."""
        return len(self.outcomes)

    @property
    def outcomes(self) -> list[Node]:
        """The tasks and gates that ended, are at work or wait for a person, in the order of one worker."""
        return [node for node in self.nodes.values() if node.leaf]

    def rows(self) -> list[dict[str, Value]]:
        """Give the table as one mapping per task or gate, in the order of one worker, all with the same names.

        What varies between items and the results are columns, called as in :meth:`MapRun.rows`; what a task does not
        have is ``None``. An output that is no mapping stands in the column ``output``.
        """
        rows = [Row(node.id, node.item, node.results, node) for node in self.outcomes]
        return table_rows("node", rows)

    @property
    def results(self) -> dict[str, Value]:
        """The outputs of the steps of the outermost list, by id."""
        return {name: node.output for name, node in self.nodes.items() if "/" not in name and ":" not in name}

    @property
    def failures(self) -> list[Node]:
        """The nodes that failed themselves: tasks and gates, and containers in which nothing else is to blame."""
        failed = {node_text(event.node) for event in self._source.ended() if event.failed_itself}
        return [node for name, node in self.nodes.items() if name in failed]

    @property
    def waits_for(self) -> list[GateOpened]:
        """The gates that wait for a person."""
        return self._source.gates()

    def answer(self, gate: str, option: str) -> None:
        """Answer a gate; a run of this process that is paused goes on with it in the background.

        Raises
        ------
        TargetError
            If no such gate is open, or it has no such option, or nobody works at the run.
        """
        found = find_gate(self.waits_for, gate, option)
        if not self.at_work and (self._mine or self.shown.handle is not None):
            from .live import answered

            answered(self, found, option)
        elif self._driver is not None:
            self._driver.answer(found.node, option, whoever("Python"))
        else:
            self.pass_on(found, option, whoever("Python"))

    def pass_on(self, gate: GateOpened, option: str, by: str) -> Path:
        """Send an answer to the process that works at the run; gives the file that carries it until it is taken.

        Raises
        ------
        TargetError
            If nobody works at it.
        """
        answer = Instruction("answer", node_text(gate.node), option, by)
        return self._tell(answer, "nbflow.answer(target, gate, option) answers, and goes on with the run.")

    def _steps(self) -> Block:
        return self._definition.built.block

    def _failed(self) -> list[tuple[str, Failure | None]]:
        return [(node.label, node.error) for node in self.failures]

    def _verdict(self, failed: int) -> str:
        return f"{failed} {'step' if failed == 1 else 'steps'} failed"

    def data(self) -> dict[str, Any]:
        """Give what ``--json`` prints of the run."""
        return {
            **super().data(),
            "nodes": {name: node.data() for name, node in self.nodes.items()},
            "waits_for": [
                {"gate": node_text(gate.node), "message": gate.message, "options": list(gate.options)}
                for gate in self.waits_for
            ],
        }

    def __repr__(self) -> str:
        """One line for people."""
        progress = self.progress
        done = f"{progress.counts['completed']} of {tasks(progress)} tasks done"
        return f"<Run {self.id} of {self._definition.file}: {self.status}, {done}>"


def _some(names: Sequence[str], most: int = 12) -> str:
    """Give the first of many names, and that there are more."""
    return ", ".join([*names[:most], *(["…"] if len(names) > most else [])])


def whoever(by: str) -> str:
    """Give who answers, for the record."""
    from ..store.lock import user

    return f"{user()}, {by}"


def find_gate(gates: Sequence[GateOpened], text: str, option: str) -> GateOpened:
    """Give the open gate that a person means.

    Parameters
    ----------
    gates : sequence of GateOpened
        Those that are open.
    text : str
        A node's id, or the id of a step of which one gate is open.
    option : str
        The answer.

    Raises
    ------
    TargetError
        If no such gate is open, several are, or it has no such option.
    """
    found = [gate for gate in gates if node_text(gate.node) == text]
    found = found or [gate for gate in gates if step_of(gate.node) == text]
    names = [node_text(gate.node) for gate in gates]
    if not found:
        has = f"Open gates: {', '.join(names)}." if names else "No gate is open."
        raise TargetError(f"no gate {text!r} is open.{did_you_mean(text, names)}", has)
    if len(found) > 1:
        listed = ", ".join(node_text(gate.node) for gate in found)
        raise TargetError(f"{len(found)} gates of {text} are open: {listed}", "Name one of them, or say --all.")
    gate = found[0]
    if option not in gate.options:
        raise TargetError(
            f"{text} has no option {option!r}.{did_you_mean(option, list(gate.options))}",
            f"It takes: {', '.join(gate.options)}.",
        )
    return gate


def step_of(node: NodeId) -> str:
    """Give the id of a node's step.

    Examples
    --------
    >>> step_of(("train:ask:3",)), step_of(("train:fit:3", "sure"))
    ('ask', 'sure')
    """
    parts = node[-1].split(":")
    return parts[-2] if len(parts) > 1 else parts[0]


def run_of(definition: Definition, folder: Path, checkpoint: Path, source: Source) -> Run:
    """Give the run that a person holds, by what it runs."""
    if isinstance(definition, MapDefinition):
        return MapRun(definition, folder, checkpoint, source)
    return WorkflowRun(cast("FlowDefinition", definition), folder, checkpoint, source)


def _where(error: Failure | None) -> str:
    if error is None:
        return "failed"
    return f"{error.place}  {error.message}" if error.place else error.message


def log_text(run: Run, item: Item | Node) -> str:
    """Give what an item printed; of one at work what it printed so far."""
    file = log_file(run, item)
    return file.read_text(encoding="utf-8", errors="replace") if file is not None else ""


def log_file(run: Run, item: Item | Node) -> Path | None:
    """Give the log of an item; of one at work, or one that was cut off, the newest that it has."""
    if item.log is not None and item.log.exists():
        return item.log
    stem = file_stem(item.index, item.label)
    own = re.compile(re.escape(stem) + r"(-[0-9a-f]{6}(-[0-9]+)?)?\.log")  # not 1_a-b.log for 1_a: an earlier row's
    logs = (run.folder / "logs").glob(f"{glob.escape(stem)}*.log")
    found = sorted((file for file in logs if own.fullmatch(file.name)), key=lambda file: file.stat().st_mtime)
    return found[-1] if found else None
