"""Runs at work in the background: begun, shown, paused, answered, taken up again, and found again by others."""

from __future__ import annotations

import atexit
import contextlib
import contextvars
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..errors import ChangedError, LockedError, NbflowError, TargetError
from ..events import GateOpened
from ..model import NodeId
from ..reporters.audience import Reporter
from ..reporters.board import Board, Line, outline
from ..reporters.pages import MOST_FAILURES
from ..reporters.screen import Scene, screen
from ..state import RunState
from . import plugins
from .answering import ask_who_is_there, chosen, no_answer
from .interrupts import Interrupts
from .reading import Stored
from .requests import resuming
from .runs import Run, Shown, WorkflowRun, whoever
from .session import OnEvent, Request, Session

__all__ = [
    "Handle",
    "again",
    "answered",
    "asking",
    "attach",
    "begin",
    "follow",
    "forget",
    "keep",
    "page",
    "show",
    "working",
]

SLOWER = 5.0
"""How many times longer than a look at a run in another process the pause until the next one is."""
LAST_SECONDS = 4.0
"""How long the end of the process waits for runs to end."""
HEARING = 2.0
"""Seconds in which a front end must have shown that it sends clicks beside a cell that runs."""

_working: dict[Path, Session] = {}
"""The sessions of this process that are at work, by the folders of their runs; each operation on it is atomic."""


def working(folder: Path) -> Session | None:
    """Give the session of this process that works at a run."""
    return _working.get(folder.resolve())


class Handle:
    """What the buttons of a view do; stands between the view, which is made first, and the run.

    Parameters
    ----------
    folder : Path
        The run folder.
    home : Path
        The folder of the notebook or workflow.
    blocking : bool
        Whether a cell waits for the run: then not every kernel hears clicks.
    """

    def __init__(self, folder: Path, home: Path, *, blocking: bool = False) -> None:
        self.run: Run | None = None
        self.blocking = blocking
        self.has_buttons = True
        """Whether the view shows any."""
        self._folder = folder
        self._home = home
        self._notebook = this_notebook()
        self._here = self._notebook.parent if self._notebook is not None else _here()

    def cancel(self) -> None:
        """End the run."""
        self._told(lambda run: run.cancel())

    def pause(self) -> None:
        """Start nothing new."""
        self._told(lambda run: run.pause())

    def unpause(self) -> None:
        """Go on."""
        self._told(lambda run: run.unpause())

    def again(self) -> None:
        """Run what failed or never ran; a second click finds it at work."""
        if self.run is not None and not self.run.at_work:
            with contextlib.suppress(LockedError):  # somebody was faster
                self.run.retry_failed()

    def answer(self, node: NodeId, option: str) -> None:
        """Answer a gate; one that asks no more needs none."""
        run = self.run
        if isinstance(run, WorkflowRun) and any(gate.node == node for gate in run.waits_for):
            run.answer("/".join(node), option)

    def _told(self, tell: Callable[[Run], None]) -> None:
        """Tell the run something; a click that comes after its end does nothing."""
        if self.run is not None and self.run.status in ("running", "created", "paused"):
            try:
                tell(self.run)
            except TargetError:
                if self.run.status == "running":
                    raise

    def clickable(self) -> bool:
        """Whether clicks are heard now."""
        return self.has_buttons and (not self.blocking or _beside_cells())

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """While a cell waits for the run, not every kernel hears clicks."""
        before, self.blocking = self.blocking, True
        try:
            yield
        finally:
            self.blocking = before

    def links(self, board: Board) -> Mapping[str, str]:
        """Give the addresses of executed notebooks of failures, as seen from the notebook that shows them."""
        groups = itertools.islice(list(board.failures.values()), MOST_FAILURES)
        paths = (group.first.outcome.notebook for group in groups)
        return {path: self.address(path) for path in paths if path is not None}

    def address(self, path: str) -> str:
        """Give the address of a file of the run."""
        return quote(os.path.relpath(self._folder / path, self._here))

    def judged(self, show: str) -> tuple[Path, str]:
        """Give a file that a gate asks about, and its address."""
        path = self._home / show
        return path, quote(os.path.relpath(path, self._here))

    def saved(self) -> object:
        """Give something that changes when the notebook is saved."""
        try:
            return None if self._notebook is None else self._notebook.stat().st_mtime_ns
        except OSError:
            return None


def _here() -> Path:
    try:
        return Path.cwd()
    except OSError:  # it was deleted
        return Path("/")


def this_notebook() -> Path | None:
    """Give the notebook whose kernel this is, where its server says so."""
    said = os.environ.get("JPY_SESSION_NAME", "")
    path = Path(said)
    return path if said and path.is_absolute() and path.is_file() else None


def _beside_cells() -> bool:
    """Whether the front end sends clicks to a thread beside the one in which cells run (ipykernel 7)."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    kernel = getattr(shell, "kernel", None)
    if not getattr(kernel, "_supports_kernel_subshells", False):
        return False
    manager = getattr(getattr(kernel, "shell_channel_thread", None), "manager", None)
    return manager is not None and bool(manager.list_subshell())


# -- gates in a notebook ----------------------------------------------------------------------------------------------


class Buttons:
    """Somebody is there who answers by clicks: gates stay open until then."""

    def ask(self, gate: GateOpened, answer: Callable[[str | None], None]) -> None:
        """Nothing to do: the view shows its buttons."""

    def withdraw(self) -> None:
        """Nothing to do: the view takes them away."""


class Prompt:
    """Asks by ``input()`` in the cell that waits for the run, unless clicks turn out to be heard.

    Made in the main thread, which alone can ask and be interrupted.
    """

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self._asked: tuple[GateOpened, Callable[[str | None], None]] | None = None
        """The one question, until it is answered or withdrawn."""
        self._lock = threading.Lock()  # who withdraws must not interrupt what comes after the question
        self._typing = False
        self._main = threading.get_ident()

    def ask(self, gate: GateOpened, answer: Callable[[str | None], None]) -> None:
        """Have the cell's thread ask, and come back at once."""
        self._asked = gate, answer

    def withdraw(self) -> None:
        """The question needs no answer any more: wake the one who waits for it."""
        with self._lock:
            self._asked = None
            if self._typing:
                signal.pthread_kill(self._main, signal.SIGINT)

    def tend(self) -> None:
        """Ask what is to be asked; called by the cell's thread while it waits."""
        asked = self._asked
        until = time.monotonic() + HEARING
        while asked is not None and self._asked is asked and not self._handle.clickable():
            if time.monotonic() > until:
                choice = self._typed(asked[0])
                with self._lock:
                    still = self._asked is asked  # else it was withdrawn, and another may be there
                    if still:
                        self._asked = None
                if still:
                    asked[1](choice)
                return
            time.sleep(0.05)

    def _typed(self, gate: GateOpened) -> str | None:
        """Give the option that was typed; nothing, where nobody can type or does not want to."""
        options = ", ".join(f"{number} {name}" for number, name in enumerate(gate.options, 1))
        problem = ""
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with self._lock:
                self._typing = self._asked is not None
            while self._typing:
                said = input(f"{problem}{gate.message}  ({options}): ")
                choice = chosen(gate, said)
                if choice is not None:
                    return choice
                problem = f"{no_answer(gate, said.strip())}\n"
        except (KeyboardInterrupt, EOFError, RuntimeError, NotImplementedError):  # ipykernel has an error of its own
            return None
        finally:
            signal.signal(signal.SIGINT, lambda *_: None)  # a late interrupt of who withdraws is nobody else's
            with self._lock:
                self._typing = False
            signal.signal(signal.SIGINT, before)
        return None


def asking(request: Request, handle: Handle | None, view: object = None) -> tuple[Any, Any]:
    """Give what asks people about gates, and what is set while a question has the terminal for itself."""
    if handle is None:
        return ask_who_is_there(request.home.folder)
    handle.has_buttons = bool(getattr(view, "buttons", False))
    if not handle.blocking:
        return (Buttons() if handle.has_buttons else None), None
    main = threading.current_thread() is threading.main_thread()
    return (Prompt(handle) if main else None), None


# -- at work ----------------------------------------------------------------------------------------------------------


def lines_of(request: Request) -> tuple[Line, ...]:
    """Give the tree of steps of what is about to run."""
    return outline(request.definition.workflow().block)


def show(
    request: Request, name: str | None, target: str, handle: Handle | None, asks: threading.Event | None = None
) -> Reporter:
    """Give what shows a run that is about to begin."""
    lines = lines_of(request) if handle is not None else ()
    scene = Scene(request.workers, asking=asks, target=target, lines=lines, controls=handle)
    return plugins.reporter(name, scene)


def begin(
    request: Request,
    *,
    target: str,
    quiet: bool = False,
    on_event: Sequence[OnEvent] = (),
    executor: str = "threads",
    reporter: str | None = None,
    run: Run | None = None,
) -> Run:
    """Begin to work at a run, and come back at once.

    Parameters
    ----------
    request : Request
        What to do.
    target : str
        What the run is called in Python.
    run : Run, optional
        The run as somebody holds it already, when it is taken up again; it is shown where it was.
    """
    if (done := request.nothing_to_do()) is not None:
        return done
    shown = run.shown if run is not None else Shown()
    handle, view = shown.handle, shown.view
    if handle is None and screen() == "notebook":
        handle = Handle(request.folder, request.home.folder)
    if view is None and not quiet:
        view = show(request, reporter, target, handle)
    asker = asking(request, handle, view)[0] if handle is not None else None
    session = Session(
        request, on_event=on_event, reporter=view, asker=asker, executor=plugins.executor(executor), run=run
    )
    try:
        keep(session, handle, view, on_event=on_event, executor=executor, reporter=reporter)
        session.start()
    except BaseException:
        session.driver.abandon()
        forget(session)
        raise
    session.background(lambda: forget(session))
    atexit.unregister(_end_with_the_process)
    atexit.register(_end_with_the_process)  # again and again: it goes before what was registered since the last time
    return session.run


def _end_with_the_process() -> None:
    """End what is at work: libraries that workers use are about to go, and what is cut off has not failed."""
    left = list(_working.values())
    for session in left:
        session.driver.cancel("its process ended", now=True)
    until = time.monotonic() + LAST_SECONDS
    for session in left:
        session.closed.wait(max(0.0, until - time.monotonic()))


def keep(session: Session, handle: Handle | None, view: Reporter | None, **used: Any) -> None:
    """Note how a run is shown, what it was begun with, and that this process works at it."""
    keep_kernels = session.request.keep_kernels
    session.run.shown = Shown(view, handle, execution_count(), used, keep_kernels)
    if handle is not None:
        handle.run = session.run
    _working[session.request.folder.resolve()] = session


def forget(session: Session) -> None:
    """Note that a cell waits for a run no more: from now on clicks are heard whenever nothing else runs."""
    folder = session.request.folder.resolve()
    if _working.get(folder) is session:
        del _working[folder]
    if session.run.shown.handle is not None:
        session.run.shown.handle.blocking = False


def execution_count() -> int | None:
    """Give the number of the cell that runs now; nothing outside of a notebook."""
    shell = sys.modules["IPython"].get_ipython() if "ipykernel.zmqshell" in sys.modules else None
    return getattr(shell, "execution_count", None)


def again(run: Run) -> None:
    """Take a run up again: what failed or never ran, with finished work as it is.

    Raises
    ------
    TargetError
        If somebody works at it.
    RefusedError
        If it cannot go on.
    """
    if run.at_work:
        raise TargetError(f"run {run.id} is at work", "run.wait() waits for its end; then run.retry_failed().")
    stored = run.stored()
    request = resuming(stored)(stored, changed="keep", target=str(run.folder))
    request = replace(request, warnings=(*request.warnings, *_mixed(stored)))
    _go_on(run, request)


def _mixed(stored: Stored) -> list[str]:
    """Tell of finished work that is kept although its code has changed since: what is tried again has the new one."""
    try:
        resuming(stored)(stored, target=str(stored.folder))
    except ChangedError as problem:
        return [f"{problem.message}: what was finished before is kept"]
    except NbflowError:  # it is told where it matters
        return []
    return []


def _go_on(run: Run, request: Request) -> None:
    quiet = run.shown.view is None and execution_count() is None
    request = replace(request, keep_kernels=run.shown.keep_kernels)
    with Interrupts():  # one that comes now is heard when the run is at work
        begin(request, target=run.typed(), run=run, quiet=quiet, **run.shown.used)


def answered(run: WorkflowRun, gate: GateOpened, option: str) -> None:
    """Answer a gate of a run that nobody works at, and go on with it."""
    stored = run.stored()
    answers: dict[NodeId, tuple[str, str]] = {gate.node: (option, whoever("Python"))}
    request = resuming(stored)(stored, gates=answers, failed_too=False, target=stored.home.name, max_concurrency=None)
    _go_on(run, request)


def page(run: Run) -> dict[str, str]:
    """Give how a run stands, as a page that stays in a notebook."""
    from ..reporters.pages import summary

    board = Board(outline(run.block))
    board.adopt(run.state())
    handle = run.shown.handle or Handle(run.folder, run.home)
    return {"text/html": summary(board, run.typed(), handle.links(board), time.time())}


# -- shown again ------------------------------------------------------------------------------------------------------


def attach(stored: Stored, target: str) -> Run:
    """Show a run, whoever works at it, and give it."""
    session = working(stored.folder)
    if session is None:
        run = stored.run()
        follow(run, target)
        return run
    run = session.run
    run.shown.cell = execution_count()
    view = run.shown.view
    if getattr(view, "open", False):
        view.show()  # a dashboard: the same, in this cell too
        return run
    handle = run.shown.handle or Handle(stored.folder, stored.home.folder)
    handle.run, run.shown.handle = run, handle
    view = run.shown.view = _made(run, target, handle)
    if view is not None:
        session.join(view)
    return run


def _made(run: Run, target: str, handle: Handle) -> Reporter | None:
    """Make what shows a run that has begun already; in a notebook."""
    if screen() != "notebook":
        return None
    return plugins.reporter(None, Scene(1, target=target, lines=outline(run.block), controls=handle))


def follow(run: Run, target: str) -> None:
    """Show a run that another process works at, or that has ended, from its files."""
    handle = Handle(run.folder, run.home)
    handle.run, run.shown.handle = run, handle
    view: Any = _made(run, target, handle)
    if view is None:
        return
    run.shown.view, run.shown.cell = view, execution_count()
    view.adopt(run.state())
    view.begin()
    if not run.at_work:
        view.end()
        return
    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(_followed, run, view), name="nbflow-follow", daemon=True).start()


def _looked_up(run: Run) -> RunState:
    """Give how a run stands, with the cells that its logs tell of: those are not journaled."""
    from .showing import looked_up

    state = run.state().copy()
    stored = run.stored()
    state.progress.active = {node: looked_up(run, stored, task) for node, task in state.progress.active.items()}
    return state


def _followed(run: Run, view: Any) -> None:
    """Draw until nobody works at the run any more; a long run is looked at less often."""
    try:
        while run.at_work:
            began = time.monotonic()
            view.adopt(_looked_up(run))
            view.draw(time.time())
            time.sleep(max(0.25, SLOWER * (time.monotonic() - began)))
        view.adopt(run.state())
    except (NbflowError, OSError) as problem:  # its files broke, or are gone: it is not known how it stands
        view.lose(getattr(problem, "message", None) or str(problem))
    view.end()
