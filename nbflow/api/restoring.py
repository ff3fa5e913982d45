"""The names of a run, brought back into a live kernel: as a step left them, or as it found them."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from ..engine.plan import Plan, plan
from ..errors import NbflowError, ParameterError, RefusedError, StoreError, TargetError, did_you_mean
from ..events import NodeFinished
from ..loading.names import uses
from ..model import NodeId, Step, node_text
from ..namespace import Entry, Past, Piece, files_of
from ..notebooks.names import cloudpickle, plain, trusted
from ..notebooks.snapshot.shelf import Shelf
from ..outcome import Record
from ..printing import short
from ..reporters.amounts import size
from ..signing import Signer
from ..source import SETUP, Cell, Notebook, owners, read_cells
from ..steps import CellsStep, FanOut
from ..task import Task
from ..values import argument, assigned
from .definition import MapDefinition
from .flow import FlowDefinition, path_of, steps_below
from .order import place_of
from .reading import SHOWN, Stored

__all__ = ["Restored", "bring"]

MOST = 12
"""Names that are shown in a line."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What :func:`nbflow.restore` has brought back."""

    names: tuple[str, ...]
    """What was bound."""
    left_out: Mapping[str, str]
    """Why other names are not there: words that follow the name."""
    bytes: int
    """How much was read from files."""
    step: str
    """The step or item, as people call it."""
    found: bool = False
    """Whether the names are as it found them, for it did not complete; else they are as it left them."""

    def __repr__(self) -> str:
        """A few lines for people."""
        amount = f" ({size(self.bytes)})" if self.bytes else ""
        verb = "found" if self.found else "left"
        first = f"restored {_some(self.names)}{amount} as step {self.step} {verb} them"
        first = first if self.names else f"restored nothing: step {self.step} {verb} no names"
        others = [f"{name} ({why})" for name, why in self.left_out.items()]
        more = [f"and {len(others) - MOST} more: .left_out has them"] if len(others) > MOST else []
        lines = [*others[:MOST], *more]
        return "\n".join([first, *(f"{'' if at else 'left out:':<9} {line}" for at, line in enumerate(lines))])


def bring(stored: Stored, name: str | None, *, into: dict[str, Any] | None, setup: bool | None) -> Restored:
    """Bring the names of a run into a namespace, as :func:`nbflow.restore` says."""
    place = _place(into)
    steps = _Steps(stored)
    moment = steps.moment(name)
    if setup is not False:
        beside = None if setup else stored.home.folder / moment.step.path.partition("#")[0]
        _set_up(moment, steps.notebook(moment.step), place, beside)
    names, left_out, read = _Names(stored, steps, moment).put(place.namespace)
    own = {name: assigned(moment.task.parameters[name]) for name in moment.own}
    place.namespace.update(own)
    left_out = {name: why for name, why in left_out.items() if name not in own}
    return Restored(tuple(dict.fromkeys([*names, *own])), left_out, read, moment.label, moment.found)


# -- where names go ------------------------------------------------------------------------------------------------


class _Place(Protocol):
    """A namespace in which cells can run."""

    namespace: dict[str, Any]

    def runner(self, cell: Cell, name: str) -> Callable[[], BaseException | None]:
        """Give what runs a cell of a notebook without showing what it shows, and gives what it raised.

        Raises
        ------
        RefusedError
            If it cannot run here.
        """
        ...


class _Kernel:
    """The namespace of IPython."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self.namespace: dict[str, Any] = shell.user_ns

    def runner(self, cell: Cell, name: str) -> Callable[[], BaseException | None]:  # noqa: ARG002 - every cell can
        """Have the shell run it, as by hand."""
        from IPython.utils.capture import capture_output

        def run() -> BaseException | None:
            with capture_output():
                ended = self._shell.run_cell(cell.source, store_history=False, silent=True)
            problem: BaseException | None = ended.error_before_exec or ended.error_in_exec
            if isinstance(problem, KeyboardInterrupt):
                raise problem
            return problem

        return run


class _Namespace:
    """A namespace that somebody gave; cells run there if they are plain Python."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self.namespace = namespace

    def runner(self, cell: Cell, name: str) -> Callable[[], BaseException | None]:
        """Compile it."""
        try:
            code = compile(cell.source, f"<cell {cell.number} of {name}>", "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as problem:
            raise RefusedError(
                f"cell {cell.number} of {name} is no plain Python, and needs IPython",
                "Call nbflow.restore in a notebook; or leave the setup cells out: setup=False",
            ) from problem

        def run() -> BaseException | None:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                try:
                    exec(code, self.namespace)  # noqa: S102 - it is a notebook of theirs, and they asked for it
                except Exception as problem:  # noqa: BLE001 - whatever it is, who asked is told
                    return problem
            return None

        return run


def _place(into: dict[str, Any] | None) -> _Place:
    """Give where names go.

    Raises
    ------
    ParameterError
        If nobody says so, and this is no kernel.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None and (into is None or into is shell.user_ns):
        return _Kernel(shell)
    if into is None:
        raise ParameterError("nbflow.restore needs into= here: this is neither a kernel nor IPython", "into=globals()")
    if not isinstance(into, dict):
        raise ParameterError(f"into is a {type(into).__name__}, and no dict", "into=globals()")
    return _Namespace(into)


def _set_up(moment: Moment, notebook: Notebook, place: _Place, beside: Path | None) -> None:
    """Run the cells that prepare each kernel of a notebook, with the parameters of the run.

    They are the run's own copy, which anybody may have made. So where the notebook is given that stands beside the run,
    which its reader would run by hand as well, they must stand there too.
    """
    step = moment.step
    given = {name: argument(value) for name, value in moment.task.parameters.items() if name not in step.assigned}
    itself = moment.piece.path.partition("#")[2] == SETUP and not moment.found  # these cells are a step, too
    cells = [cell for cell in notebook.cells if (itself or cell.number in notebook.preparing) and _runs(cell)]
    if beside is not None:
        _check_known(cells, notebook.name, beside)
    runners = [(cell, place.runner(cell, notebook.name)) for cell in cells]
    if notebook.parameters_cell not in {cell.number for cell in cells}:
        place.namespace.update(given)
    for cell, run in runners:
        problem = run()
        if problem is not None and "raises-exception" not in cell.tags:
            line = " ".join(f"{type(problem).__name__}: {problem}".split())
            raise NbflowError(
                f"setup cell {cell.number} of {notebook.name} failed here: {short(line)}",
                "No names were restored. Put it right; or leave the setup cells out: setup=False",
            ) from problem
        if cell.number == notebook.parameters_cell:
            place.namespace.update(given)


def _check_known(cells: Sequence[Cell], name: str, beside: Path) -> None:
    """Refuse setup cells that are none of the notebook beside the run."""
    try:
        there = read_cells(beside)[1]
    except RefusedError:
        there = ()
    known = {cell.source for cell, owner in zip(there, owners(there), strict=True) if owner == SETUP and _runs(cell)}
    unknown = next((cell for cell in cells if cell.source not in known), None)
    if unknown is not None:
        raise RefusedError(
            f"setup cell {unknown.number} of {name}, as the run has kept it, is no setup cell of {beside}: it may be "
            "somebody else's",
            "setup=True runs the setup cells of the run all the same, setup=False leaves them out",
        )


def _runs(cell: Cell) -> bool:
    return bool(cell.source.strip()) and "skip-execution" not in cell.tags


# -- which names ---------------------------------------------------------------------------------------------------


@dataclass
class _Names:
    """The names that are there at a moment of a run, and what becomes of each."""

    stored: Stored
    steps: _Steps
    moment: Moment
    signer: Signer = field(default_factory=Signer)
    left_out: dict[str, str] = field(default_factory=dict)

    def put(self, namespace: dict[str, Any]) -> tuple[list[str], dict[str, str], int]:
        """Put them into a namespace; gives those that are there now, why the others are not, and the bytes read."""
        entries = dict(self._entries())
        shelf = Shelf(namespace, str(self.stored.folder), cloudpickle())
        while True:
            refs = {name: plain(entry) for name, entry in entries.items()}
            answer = shelf.restore(refs, setup=sorted(self.moment.step.prepared))
            if not answer["missing"]:
                break
            self._lose(entries, set(answer["missing"]))
        for name, why in answer["problems"].items():
            self._leave_out(name, why)
        return [name for name in entries if name not in answer["problems"]], self.left_out, int(answer["read"])

    def _entries(self) -> Iterator[tuple[str, Entry]]:
        """Give the newest version of each name, where it can be loaded."""
        past = self.moment.past
        for name, ids in past.unclear(None).items():
            self.left_out[name] = f"is not one value: {' and '.join(ids)} have changed it, and none waits for the other"
        found = {name: one for name in past.known() if (one := past.find(name)) is not None}
        for name, (_, entry) in past.agreed(found).items():
            if "unsaved" in entry:
                self._leave_out(name, str(entry["unsaved"]))
            elif not trusted(entry, self.signer):
                self._leave_out(name, "was pickled by another user")
            else:
                yield name, entry
        for name in past.unsaved():
            self._leave_out(name, "was not saved, for no later step reads it")

    def _lose(self, entries: dict[str, Entry], missing: set[str]) -> None:
        """Leave out what stands in files that are gone, or not what they were."""
        lost = [name for name, entry in entries.items() if any(file.path in missing for file in files_of(entry))]
        if not lost:
            raise StoreError(f"{self.stored.folder}: {', '.join(sorted(missing))} cannot be read", "Run it again.")
        for name in lost:
            del entries[name]
            self._leave_out(name, "is not as it was saved: its file is gone or was changed")

    def _leave_out(self, name: str, why: str) -> None:
        cell = self._cell(name)
        self.left_out[name] = why if cell is None else f"{why}: run cell {cell}"

    def _cell(self, name: str) -> int | None:
        """Give the number of the cell that makes a name."""
        givers = self.moment.past.givers(name)
        giver = givers[-1] if givers else self.moment.past.unsaved().get(name)
        notebook = None if giver is None else self.steps.notebooks.get(giver.path)
        if notebook is None:
            return None
        ready = [cell for cell in notebook.cells if cell.number in notebook.preparing]
        own = [cell for cell in notebook.cells if cell.number not in notebook.preparing]
        place = uses(ready, [own])[1][0].assigns.get(name)
        return None if place is None else place.cell


# -- at which moment -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Moment:
    """A moment of a run: before a step, or behind it."""

    label: str
    """What people call the step."""
    task: Task
    """What was to be done; files have whole paths."""
    step: CellsStep
    piece: Piece
    past: Past
    """What was there then."""
    own: tuple[str, ...]
    """Those of its parameters that have no other value then."""
    found: bool = False
    """Whether it is before the step."""


class _Steps:
    """The steps of a run that are cells of notebooks.

    Parameters
    ----------
    stored : Stored
        The run.

    Raises
    ------
    TargetError
        If it has none.
    """

    def __init__(self, stored: Stored) -> None:
        self._stored = stored
        self._definition = _flow(stored)
        self.notebooks = self._definition.notebooks
        block = self._definition.built.block
        self._steps = steps_below(block)
        self._ids = tuple(dict.fromkeys(path[-1] for path, step in self._steps.items() if _is_cells(step)))
        if not self._ids:
            raise TargetError(
                f"run {stored.id} of {self._definition.file} has no steps that are cells of a notebook in Python",
                "Only between such steps names are saved: nbflow.results gives the results of others.",
            )
        self._known = stored.recorded()
        self._nodes: dict[NodeId, NodeFinished] = {}
        self._answers = dict(self._known.answers)
        self._read()
        ours = [one for one in self._nodes.values() if one.leaf and _is_cells(self._steps[path_of(one.node)])]
        self._ended = sorted(ours, key=lambda event: place_of(event.node, block))

    def _read(self) -> None:
        """Learn how nodes ended, and leave those as not begun whose failures hide what completed beside them."""
        while True:
            found = (one for one in self._plan(self._answers).events if isinstance(one, NodeFinished))
            ended = [event for event in found if event.outcome.status in SHOWN]
            self._nodes = {**{event.node: event for event in ended}, **self._nodes}
            failed = {one.key for one in ended if one.outcome.status == "failed" and not self._is_tolerated(one.node)}
            if not failed & self._answers.keys():
                return
            self._answers = {key: record for key, record in self._answers.items() if key not in failed}

    def _is_tolerated(self, node: NodeId) -> bool:
        """Whether the steps behind a failure go on, which may ask for it."""
        path = path_of(node)
        return any(self._steps[path[:length]].continue_on_error for length in range(1, len(path) + 1))

    def _plan(self, answers: Mapping[str, Record]) -> Plan:
        """Give what would be done if this were known."""
        known = replace(self._known, answers=answers)
        return plan(self._definition.workflow(), known, self._definition.flows())

    def notebook(self, step: CellsStep) -> Notebook:
        """Give the cells of a step, behind those that prepare its kernel, as they were run."""
        found = self.notebooks.get(step.path)
        if found is None:
            path = step.path.partition("#")[0]
            raise StoreError(f"{path}: the run has no copy of it as it was", "Leave the setup cells out: setup=False")
        return found

    def moment(self, name: str | None) -> Moment:
        """Give the moment that a name means; by default before the first step that failed, else behind the last."""
        event, exact = (self._last(), False) if name is None else self._named(name)
        if event is not None:
            task = next((one for one in self._to_do(event.key) if one.node == event.node), None)
            if task is None:
                raise TargetError(f"what step {event.label} found cannot be told from its records", "Run it again.")
            failed = event.outcome.status == "failed"
            return (
                self._before(task) if failed else self._behind(task, event, None if exact else self._whole(event.node))
            )
        ranked = ((_rank(name, task.node, task.label), task) for task in self._to_do("") if name is not None)
        found = min(ranked, key=lambda one: one[0], default=None)
        if found is None or found[0] == _ANOTHER:
            raise self._unknown(name)
        return self._before(found[1])

    def _last(self) -> NodeFinished | None:
        """Give the first that failed, else the last that completed."""
        failed = (event for event in self._ended if event.outcome.status == "failed")
        return next(failed, self._ended[-1] if self._ended else None)

    def _named(self, name: str) -> tuple[NodeFinished | None, bool]:
        """Give the task that a name means, if it ended, and whether it means this one alone.

        Of several in a step it is the first that failed, else the last.
        """
        ranks = [_rank(name, event.node, event.label) for event in self._ended]
        best = min(ranks, default=_ANOTHER)
        called = [event for event, rank in zip(self._ended, ranks, strict=True) if rank == best < _ANOTHER]
        if best < _ON_THE_WAY and len(called) > 1:
            several = _some([node_text(event.node) for event in called])
            raise TargetError(f"{name!r}: {len(called)} nodes are called so: {several}", "Name one of them.")
        failed = (event for event in called if event.outcome.status == "failed")
        return next(failed, called[-1] if called else None), best < _ON_THE_WAY

    def _to_do(self, forgotten: str) -> list[Task]:
        """Give the tasks that could start, if nothing was known of one of them."""
        found = self._plan({key: record for key, record in self._answers.items() if key != forgotten})
        return [one.task for one in found.tasks if _is_cells(one.task.step)]

    def _before(self, task: Task) -> Moment:
        step, piece = _cells(task)
        past = Past(step.earlier, task.given)  # type: ignore[arg-type]  # what steps left are mappings
        return Moment(task.label, task.at(self._stored.folder), step, piece, past, step.assigned, found=True)

    def _behind(self, task: Task, event: NodeFinished, whole: NodeFinished | None) -> Moment:
        """Give the moment when a step has completed, or all items of the fan-out around it."""
        step, piece = _cells(task)
        label, names = (
            (event.label, event.outcome.names) if whole is None else (node_text(whole.node), whole.outcome.names)
        )
        me = replace(piece, behind=frozenset(one.id for one in step.earlier))
        left: Any = {**task.given, piece.id: names}
        own = () if whole is not None else tuple(name for name in step.assigned if name not in names)
        return Moment(label, task.at(self._stored.folder), step, piece, Past((*step.earlier, me), left), own)

    def _whole(self, node: NodeId) -> NodeFinished | None:
        """Give the fan-out of which a task is an item, if all of it completed."""
        above = (*node[:-1], node[-1].rpartition(":")[0].rpartition(":")[0])
        event = self._nodes.get(above)
        if event is None or event.outcome.status != "completed":
            return None
        step = self._steps[path_of(above)]
        return event if isinstance(step, FanOut) and step.single else None

    def _unknown(self, name: str | None) -> TargetError:
        status = self._stored.status
        if name is None:
            return TargetError(f"no step of run {self._stored.id} has ended: it is {status}", "Name one: step=")
        labels = [event.label for event in self._ended]
        if any(name in path for path in self._steps):
            last = self._last()
            there = f"There is what this one {_verb(last)}: step={last.label!r}" if last is not None else ""
            return TargetError(
                f"step {name} has not begun, and what it would find is not there: run {self._stored.id} is {status}",
                there,
            )
        near = did_you_mean(name, list(dict.fromkeys([*self._ids, *labels])))
        return TargetError(f"run {self._stored.id} has no step {name!r}.{near}", f"It has: {_some(self._ids)}.")


def _flow(stored: Stored) -> FlowDefinition:
    """Give what was run.

    Raises
    ------
    TargetError
        If it was a map.
    """
    found = stored.definition
    if isinstance(found, MapDefinition):
        raise TargetError(
            f"run {stored.id} is a map of {found.notebook}, whose items save no names",
            "nbflow.map(..., keep_kernel_on_failure=True) lets the kernel of an item that fails live on.",
        )
    assert isinstance(found, FlowDefinition), "there are these two"
    return found


def _verb(event: NodeFinished) -> str:
    return "found, which failed" if event.outcome.status == "failed" else "left"


_ON_THE_WAY, _ANOTHER = 3, 4
"""How little a name may have to do with a task."""


def _rank(name: str | None, node: NodeId, label: str) -> int:
    """Give what a name has to do with a task: it is its id, its label, the end of that, a step on the way to it."""
    rules = (name == node_text(node), name == label, label.endswith(f" {name}"), name in path_of(node), True)
    return rules.index(True)


def _is_cells(step: Step) -> bool:
    return isinstance(step, CellsStep) and step.piece is not None


def _cells(task: Task) -> tuple[CellsStep, Piece]:
    step = task.step
    assert isinstance(step, CellsStep), "the others were left out"
    assert step.piece is not None, "they, too"
    return step, step.piece


def _some(names: Sequence[str]) -> str:
    """Give the first of many names, and how many more there are."""
    shown = ", ".join(names[:MOST]) or "nothing"
    return shown if len(names) <= MOST else f"{shown} and {len(names) - MOST} more"
