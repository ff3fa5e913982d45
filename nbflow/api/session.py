"""Sessions: one working at a run, from the lock to the last line."""

from __future__ import annotations

import contextlib
import contextvars
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import early, lean
from ..driver import Asker, Driver, standing
from ..engine.machine import Machine
from ..engine.plan import Plan, Repeated, plan
from ..engine.recorded import Recorded, equal, equal_but_code
from ..engine.width import most_at_once
from ..errors import ChangedError, StoreError
from ..events import Event, GateOpened, NodeFinished, RunStarted, Warned
from ..executors.threads import ThreadExecutor
from ..host import thread_limits
from ..memory import room
from ..model import NodeId, Step
from ..outcome import Record
from ..overlaps import Overlaps
from ..reporters.audience import Audience, Reporter, begun
from ..signing import Signer
from ..source import Notebook
from ..state import Progress, RunState
from ..steps import CellsStep, KernelStart, NotebookStep
from ..store.files import write_atomically
from ..store.home import Home
from ..store.journal import Journal, Journaled, Records, encode, read_journal
from ..store.lock import RunLock
from ..store.names import Namer
from ..store.surroundings import interpreter, packages, surroundings
from ..task import Runner
from ..types import Changed
from ..values import File
from .copies import Copying, copy
from .definition import Definition, code_of, copy_of
from .interrupts import Interrupts
from .ledger import RunLedger
from .order import tokens
from .plugins import ExecutorMaker
from .reading import SHOWN, Seen, Stored
from .runs import Run, Source, run_of
from .warming import apart, not_there, saves_names, shared, warmth

if TYPE_CHECKING:
    from ..notebooks.held import Held
    from ..notebooks.whole import Whole

OnEvent = Callable[[Event], None]


@dataclass(frozen=True, kw_only=True)
class Request:
    """A working that has been checked and may begin."""

    home: Home
    notebooks: Mapping[str, Notebook]
    """By the path of their steps."""
    definition: Definition
    run_id: str
    workers: int
    recorded: Recorded
    stored: Stored | None = None
    """The run as it stood, if it is taken up again."""
    warnings: tuple[str, ...] = ()
    take_over: bool = False
    forgets: tuple[str, ...] = ()
    """Keys of tasks whose records are not wanted any more; ``*`` is all of them."""
    adopted: tuple[tuple[str, Record], ...] = ()
    """Records of items that are called otherwise now, with their new keys."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Workflow files that are run, by their path."""
    answers: Mapping[NodeId, tuple[str, str]] = field(default_factory=dict)
    """Answers to gates that will open, each with who gave it."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """How long items took in an earlier run, by key."""
    lost: Mapping[str, str] = field(default_factory=dict)
    """Keys of finished tasks that run again, and why: what they left is gone or not ours, and needed."""
    keep_kernels: bool = False
    """Whether the kernels of notebooks that failed live on."""
    again: tuple[str, ...] = ()
    """What was asked to run again, in the words of the command line: a detached process is told it."""

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.home.run_folder(self.run_id) if self.stored is None else self.stored.folder

    @property
    def epoch(self) -> int:
        """1 at the start, one more with each resume."""
        return 1 if self.stored is None else self.stored.epoch + 1

    def plan(self) -> Plan:
        """Give what would be done; it is kept until the work begins."""
        return self._plan

    @cached_property
    def _plan(self) -> Plan:
        return plan(self.definition.workflow(), self.recorded, self.definition.flows())

    def at_once(self) -> int:
        """Give how many tasks can be at work at the same time."""
        most = most_at_once(self.definition.workflow(), self.workers)
        if self.stored is None or self.plan().waiting or self.plan().gates:
            return most
        return max(1, min(most, len(self.plan().tasks)))  # the others are done

    def forget_plan(self) -> None:
        """Let go of the plan: it is as large as the run, and not needed any more."""
        self.__dict__.pop("_plan", None)

    def nothing_to_do(self) -> Run | None:
        """Give the run, if it completed, all of it is recorded, and nothing new was said that must be kept."""
        if self.stored is None or self.plan().tasks:
            return None
        if self.stored.definition.settled() != self.definition.settled():
            return None
        if not all(copy.exists() for copy in self.definition.copies(self.home.folder).values()):
            return None  # it is made when the run is taken up
        whole = self.definition.whole(self.folder)
        if whole is not None:
            for event in self.plan().kept:
                _take(whole, event)
            if not whole.is_written():
                return None
        run = self.stored.run()
        return run if run.status == "completed" else None


def answers(records: Records, changed: Changed) -> Recorded:
    """Give what answers for a resume that was told what to do with changed code."""
    same = equal_but_code if changed == "keep" else equal
    return Recorded(records.answers, records.attempts, records.begun, records.to_retry, same)


def ask(request: Request, found: Repeated, before: Definition, command: str) -> None:
    """Stop when finished work would be repeated for other code and nobody said what to do with it.

    Raises
    ------
    ChangedError
        With the changed cells, how many items it is about, and the two answers.
    """
    if not found.changed or request.definition.changed != "ask":
        return
    what = "item" if request.definition.kind == "map" else "task"
    count = f"{len(found.changed):,} finished {what}{'s' if len(found.changed) > 1 else ''}"
    ended = {node: code_of(request.recorded.answers[key]) for key, node in found.changed.items()}
    place = request.definition.changed_since(before, ended)
    waits = f"{found.behind:,} more wait{'s' if found.behind == 1 else ''} for these, and would be repeated too\n"
    raise ChangedError(
        f"{request.home.name}: {place} changed since {count} ran",
        (waits if found.behind else "")
        + f"{command} --changed keep     keeps them, runs only the rest\n{command} --changed rerun    runs them again",
    )


def open_journal(request: Request) -> tuple[Journal, Journaled | None, bool]:
    """Open the journal of a run whose lock was taken, and write into it what only others still knew.

    That comes before the new definition: a death behind that one would leave items whose records nobody finds.

    Returns
    -------
    tuple
        The journal, what it said before, and whether all of that is from the checkpoint.

    Raises
    ------
    StoreError
        If the run went on since it was read.
    """
    path = request.folder / "journal.jsonl"
    journaled = read_journal(path) if path.exists() else None
    seen = request.stored.journaled if request.stored is not None else None
    if (journaled.good if journaled is not None else 0) != (seen.good if seen is not None else 0):
        raise StoreError(
            f"run {request.run_id} went on in the meantime", "Ask again: nbflow status shows how it stands."
        )
    seeded = seen is None and request.stored is not None and request.stored.checkpoint is not None
    if seeded:  # at once or not at all: a journal that holds a part would be taken for the whole
        lines = [encode(event) for event in _from_checkpoint(request)]
        write_atomically(path, "".join(f"{line}\n" for line in lines).encode("ascii"))
        journaled = read_journal(path)
    journal = Journal(path, journaled.good if journaled is not None else 0)
    restored = request.stored.restored if request.stored is not None else {}
    journal.append(_recorded(key, record) for key, record in (*restored.items(), *request.adopted))
    journal.sync()
    return journal, journaled, seeded


class Session:
    """One working at a run.

    Parameters
    ----------
    request : Request
        What to do.
    on_event : sequence of callables
        Get every event, in a thread of their own.
    reporter : Reporter, optional
        Draws.
    asker : Asker, optional
        Asks a person who is there what gates want to know.
    executor : callable, optional
        Makes what tasks run in; by default a pool of threads.
    run : Run, optional
        The run as somebody holds it; by default it is made.
    """

    def __init__(
        self,
        request: Request,
        *,
        on_event: Sequence[OnEvent] = (),
        reporter: Reporter | None = None,
        asker: Asker | None = None,
        executor: ExecutorMaker = ThreadExecutor,
        run: Run | None = None,
    ) -> None:
        self.request = request
        self._executor = executor
        self._asker = asker
        self._reporter = reporter
        self._audiences = self._make_audiences(on_event)
        self._kernels: object = None
        self._signer = Signer()
        self._held: Held | None = None
        self._uncopied: list[str] = []
        self._packages: threading.Thread | None = None
        self.driver = self._open()
        self._lock = threading.Lock()
        self._closing = False
        self.closed = threading.Event()
        """Set when everything is written, and let go of."""
        self.run = run or run_of(request.definition, request.folder, request.home.checkpoint, Live(self.driver))
        self.run.works(self.driver, Live(self.driver), self.closed)

    # -- before -------------------------------------------------------------------------------------

    def _open(self) -> Driver:
        request = self.request
        folder = request.folder
        if not folder.is_dir():  # new, or only its checkpoint is left
            request.home.create(request.run_id)
        lock = RunLock(folder)
        taken = lock.acquire(take_over=request.take_over)
        try:
            return self._build(folder, lock, taken)
        except OSError as problem:
            lock.release()
            raise StoreError(
                f"{problem.filename or folder}: {problem.strerror or problem}", "Make room, or use --state-dir."
            ) from problem
        except BaseException:
            lock.release()
            raise

    def _build(self, folder: Path, lock: RunLock, taken: str) -> Driver:
        request, definition = self.request, self.request.definition
        journal, journaled, seeded = open_journal(request)
        threads = thread_limits(request.at_once())
        found = {**surroundings(request.home.folder, ", ".join(definition.kernels)), "threads": threads}
        self._write_sources(folder, found)
        started = RunStarted(
            time.time(),
            request.run_id,
            request.home.name,
            request.epoch,
            definition.inputs,
            request.workers,
            request.forgets,
            request.seconds,
        )
        older = request.recorded.answers
        ledger = RunLedger(
            request.home, folder, lock, journal, definition.data(limit=1000), found, definition.called, older
        )
        driver = Driver(
            machine=Machine(
                definition.workflow(),
                request.recorded,
                kinds=definition.flows(),
                max_workers=request.workers,
                limited=definition.max_memory is not None,
            ),
            executor=self._executor(request.workers),
            runners=self._runners(folder),
            places=Namer(folder).places,
            ledger=ledger,
            started=started,
            tell=self._tell,
            asker=self._asker,
            answers=request.answers,
            left_out=_shown(request),
            overlaps=Overlaps(definition.apart),
            variables=threads,
            measure=room(definition.max_memory),
        )
        driver.state.apply(started)
        ledger.begin(self._opening(started))
        request.forget_plan()
        told = [*request.warnings, *self._not_preloaded(), *filter(None, [taken, self._unsigned()]), *_torn(journaled)]
        for message in [*told, *_lost(request, seeded=seeded)]:
            driver.note(Warned(time.time(), None, message))
        return driver

    def _not_preloaded(self) -> list[str]:
        """Tell which modules cannot be preloaded, where kernels have the interpreter of this process."""
        from ..kernels.specs import command

        definition = self.request.definition
        missing = not_there(definition.workflow(), KernelStart.of(definition.start))
        ours = missing and all(interpreter(command(kernel)) == sys.executable for kernel in definition.kernels)
        return missing if ours else []

    def _unsigned(self) -> str:
        """Tell why names that are saved now will not be loaded again."""
        return self._signer.problem if saves_names(self.request.definition.workflow()) else ""

    def _opening(self, started: RunStarted) -> RunState:
        """Give the state of the first checkpoint: what is kept stands in it, for the run folder may be lost now."""
        state = RunState()
        state.apply(started)
        shown = _shown(self.request)
        for event in self.request.plan().events if self.request.stored is not None else ():
            state.apply(standing(event, shown))
        return state

    def _write_sources(self, folder: Path, found: Mapping[str, object]) -> None:
        request = self.request
        source = folder / "source"
        source.mkdir(exist_ok=True)
        (folder / "logs").mkdir(exist_ok=True)
        texts = {path.partition("#")[0]: notebook.raw for path, notebook in request.notebooks.items()}
        for path, text in {**texts, **request.files}.items():
            target = copy_of(source, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            _keep_of_start(target, request.epoch, text)
        data = request.definition.data()
        write_atomically(folder / "workflow.json", (json.dumps(data, indent=1) + "\n").encode("ascii"))
        around = (json.dumps(found, indent=1) + "\n").encode("ascii")
        _keep_of_start(folder / "surroundings.json", request.epoch, around)
        if request.home.base != request.home.folder:
            write_atomically(folder / "home.json", json.dumps({"folder": str(request.home.folder)}).encode())

    def _runners(self, folder: Path) -> Mapping[type[Step], Runner]:
        request = self.request
        others = request.definition.runners(request.home.folder, request.run_id)
        if not apart(request.definition.workflow().block):
            lean.forbid()
        if not request.notebooks:
            early.end()
            return others
        return {**others, **self._notebook_runners(folder)}

    def _notebook_runners(self, folder: Path) -> Mapping[type[Step], Runner]:
        from ..kernels import LocalKernels
        from ..notebooks.cells import CellRunner
        from ..notebooks.held import Held
        from ..notebooks.runner import NotebookRunner, load

        _clear_unfinished(folder)
        request = self.request
        workflow = request.definition.workflow()
        kernels = LocalKernels(templates=shared(workflow), meanwhile=load)
        self._kernels = kernels
        notebooks = request.definition.as_run(request.notebooks)
        start = KernelStart.of(request.definition.start)
        warm = warmth(workflow, ready=early.is_there())
        given = (notebooks, request.home.folder, kernels, request.run_id)
        named: dict[str, Any] = {"warmth": warm, "start": start, "keep": request.keep_kernels}
        runner: Runner = NotebookRunner(*given, **named)
        self._held = Held()
        cells = CellRunner(*given, **named, held=self._held, signer=self._signer)
        targets = request.definition.copies(request.home.folder)
        if not targets:
            self._audiences.append(Audience([self._held.hear], name="held kernels"))
            return {NotebookStep: runner, CellsStep: cells}
        for event in request.plan().kept if request.stored is not None else ():
            if event.index is not None and event.outcome.notebook:
                self._uncopied += copy(folder / event.outcome.notebook, targets[event.index])
        return {NotebookStep: Copying(runner, targets)}

    def _make_audiences(self, on_event: Sequence[OnEvent]) -> list[Audience]:
        audiences = [Audience(on_event, name="on_event callbacks")] if on_event else []
        whole = self.request.definition.whole(self.request.folder)
        if whole is not None:
            take = partial(_take, whole)
            audiences.append(
                Audience([take], name="the executed notebook", tick=whole.keep_up, interval=1.0, finish=whole.catch_up)
            )
        if self._reporter is not None:
            audiences.append(Audience.drawing(self._reporter, context=contextvars.copy_context()))
        return audiences

    def _tell(self, event: Event) -> None:
        for audience in self._audiences:
            audience.tell(event)

    # -- at work ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin; comes back at once."""
        try:
            if self._reporter is not None and not begun(self._reporter):
                self._audiences = [audience for audience in self._audiences if audience.name != "progress"]
            for audience in self._audiences:
                audience.start()
        except BaseException:
            self.driver.abandon()
            self.close()
            raise
        if self._uncopied:
            more = f" (and {len(self._uncopied) - 1} more)" if len(self._uncopied) > 1 else ""
            self.driver.note(Warned(time.time(), None, f"{self._uncopied[0]}{more}"))
        self.driver.start()
        self._record_packages()

    def background(self, ended: Callable[[], object]) -> None:
        """Have a thread of its own wait for the end, and let go of everything then."""

        def wait() -> None:
            self.driver.done.wait()
            ended()
            try:
                self.close()
            except BaseException as problem:  # noqa: BLE001 - told to whoever waits for the run
                self.driver.crashed = problem

        threading.Thread(target=wait, name="nbflow-session", daemon=True).start()

    def join(self, reporter: Reporter) -> None:
        """Have a view show a run that is at work already; called in the cell's own thread."""
        audience = Audience.drawing(reporter, context=contextvars.copy_context())
        found: list[RunState] = []
        joined: list[Audience] = []

        def look(state: RunState) -> None:
            found.append(state.copy())
            with self._lock:
                if not self._closing:
                    self._audiences = [*self._audiences, audience]
                    joined.append(audience)

        self.driver.look(look)
        reporter.adopt(found[0])  # type: ignore[attr-defined]  # views that can join have it
        reporter.begin()
        audience.start()  # what was told meanwhile waits for it
        if not joined:
            audience.close(5.0)

    def wait(self, interrupts: Interrupts) -> None:
        """Wait for the end; the first interrupt cancels, the second kills."""
        interrupts.answered = True
        heard = 0
        tend = getattr(self._asker, "tend", lambda: None)
        while not self.driver.done.wait(0.2):
            tend()
            while heard < len(interrupts.noted):
                which = interrupts.noted[heard]
                heard += 1
                self.driver.cancel("Ctrl-C" if which == signal.SIGINT else which.name, now=heard > 1)
        self.close()

    def close(self) -> None:
        """Let go of everything that was opened, when the driver is done."""
        with self._lock:
            self._closing = True
        try:
            for audience in self._audiences:
                audience.close(0 if audience.name == "on_event callbacks" else 5.0)
            if self._held is not None:
                self._held.close()
            close = getattr(self._kernels, "close", None)
            if close is not None:
                close()
            if self._packages is not None:
                self._packages.join(1.0)
        finally:
            self.run.ends(Ended(Live(self.driver), self.request.folder, self.request.home), self.driver.crashed)
            self.closed.set()
        if self.driver.crashed is not None:
            raise self.driver.crashed

    def _record_packages(self) -> None:
        """Record the packages of the kernel's environment beside the work, for it may take a second."""
        from ..kernels.specs import command

        if not self.request.definition.kernels:
            return
        python = interpreter(command(self.request.definition.kernels[0]))
        target = self.request.folder / "packages.json"
        if python is not None:

            def record() -> None:
                text = json.dumps(packages(python), indent=1) + "\n"
                with contextlib.suppress(OSError):  # the run may be over, and removed
                    _keep_of_start(target, self.request.epoch, text.encode("ascii"))

            self._packages = threading.Thread(target=record, name="nbflow-packages", daemon=True)
            self._packages.start()


@dataclass(frozen=True)
class Live:
    """The facts of a run that this process works at."""

    driver: Driver

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return self.driver.state.progress

    def ended(self) -> list[NodeFinished]:
        """Give the nodes that ended."""
        return [event for event in list(self.driver.state.nodes.values()) if event.outcome.status != "pending"]

    def gates(self) -> list[GateOpened]:
        """Give the gates that wait for a person."""
        return list(self.driver.state.progress.gates.values())

    def state(self) -> RunState:
        """Give all of it, at one moment."""
        found: list[RunState] = []
        self.driver.look(lambda state: found.append(state.copy()))
        return found[0]


class Ended:
    """The facts of a run that this process worked at: what it knows, until somebody else takes the run up.

    Parameters
    ----------
    live : Live
        What this process knows.
    folder : Path
        The run folder.
    home : Home
        Where it belongs.
    """

    def __init__(self, live: Live, folder: Path, home: Home) -> None:
        self._live = live
        self._seen: Seen | None = None
        self._folder, self._home = folder, home
        self._mark = self._marked()

    def _marked(self) -> object:
        try:
            found = (self._folder / "journal.jsonl").stat()
        except OSError:  # it was removed: what is known here is all there is
            return None
        return found.st_size, found.st_mtime_ns

    @property
    def _source(self) -> Source:
        mark = self._marked()
        if mark is None or mark == self._mark:
            return self._live
        self._seen = self._seen or Seen(Stored(self._home, self._folder, None).fresh())
        return self._seen

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return self._source.progress

    def ended(self) -> list[NodeFinished]:
        """Give the nodes that ended."""
        return self._source.ended()

    def gates(self) -> list[GateOpened]:
        """Give the gates that wait for a person."""
        return self._source.gates()

    def state(self) -> RunState:
        """Give all of it, at one moment."""
        return self._source.state()


def _shown(request: Request) -> Recorded:
    """Give how items stand that are left out: as whoever looks at the run later sees them."""
    same = equal if request.definition.changed == "rerun" else equal_but_code
    return replace(request.recorded, same=same, statuses=SHOWN)


def _clear_unfinished(folder: Path) -> None:
    """Remove what kernels were writing that were killed while they saved names; it may be as large as these."""
    for left in folder.glob("names/.*.tmp"):
        left.unlink(missing_ok=True)


def _keep_of_start(first: Path, epoch: int, content: bytes) -> None:
    """Write what belongs to one start of a run: beside that of the first start, if it is something else."""
    same = not first.exists() or first.read_bytes() == content
    write_atomically(first if same else first.with_name(f"{first.stem}.start-{epoch}{first.suffix}"), content)


def _from_checkpoint(request: Request) -> list[Event]:
    """Give the lines of what only the checkpoint knows: a new journal begins with them."""
    assert request.stored is not None
    stored = request.stored
    first = RunStarted(time.time(), stored.id, request.home.name, max(1, stored.epoch), {}, request.workers)
    events: list[Event] = [first]
    return [*events, *(_recorded(key, record) for key, record in stored.records.answers.items())]


def _recorded(key: str, record: Record) -> NodeFinished:
    """Give the line of a record that comes from elsewhere than a task's end."""
    return NodeFinished(time.time(), ("recorded",), key, record.fingerprint, record.outcome, "", None)


def _torn(journaled: Journaled | None) -> list[str]:
    if journaled is None or not journaled.dropped:
        return []
    return [f"the last line of the journal was torn and is dropped: {journaled.dropped}"]


def _lost(request: Request, *, seeded: bool) -> list[str]:
    """Say what can no longer be known of kept items."""
    if request.stored is None:
        return []
    if seeded:
        lost = "" if any(request.folder.glob("*.ipynb")) else "; earlier notebooks and logs are lost"
        return [f"the journal was gone: what is done is kept by the checkpoint{lost}"]
    cut = _cut_short(request.stored)
    outputs = (record.outcome.output for record in request.recorded.answers.values())
    files = [
        value for output in outputs if isinstance(output, dict) for value in output.values() if isinstance(value, File)
    ]
    gone = [file for file in files if not (request.folder / file.path).exists()]
    if len(gone) == 1:
        return [*cut, f"1 file of kept results is gone: {gone[0].path}"]
    return [*cut, f"{len(gone):,} files of kept results are gone, such as {gone[0].path}"] if gone else cut


def _cut_short(stored: Stored) -> list[str]:
    """Say what a journal that was cut short has no more."""
    if not stored.cut_short or stored.checkpoint is None:
        return []
    count, more = len(stored.restored), stored.checkpoint.left_out
    words = f"{count} ended item{' it lost stands' if count == 1 else 's it lost stand'} in the checkpoint"
    unknown = f", of {more:,} more some may run again" if more else ""
    return [f"the journal was cut short: {words}{unknown}"] if count or more else []


def _take(whole: Whole, event: Event) -> None:
    """Let the whole notebook learn how a step of it ended."""
    if isinstance(event, NodeFinished) and event.leaf and event.outcome.status != "pending":
        step_id = tuple(step_id for step_id, _ in tokens(event.node))[-1]
        whole.put(step_id, event.node, event.label, event.index, event.outcome)
