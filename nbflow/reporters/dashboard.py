"""The dashboard: a run in the cell that began it, alive and clickable while it works, a page when it has ended.

Every ``display`` happens in :meth:`Dashboard.begin` or :meth:`Dashboard.show`, in the cell's own thread; from then on
one thread at a time updates, in a copy of the cell's context. So nothing lands in another cell, on any ipykernel. There
is one string per region and never a widget per item: what is sent four times a second stays small.

What is displayed are two outputs: words that say how to find the run again, and the widgets. When the run has ended,
the words become the page that stays, and the widgets go: a notebook that is opened a month later has no kernel that
knows them.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as w
from IPython.display import display

from ..events import GateOpened
from ..model import NodeId
from . import pages
from .board import Board, Line
from .controls import Controls
from .escape import for_terminal
from .judged import judged
from .view import View

TICK = 0.25
"""Seconds between two pictures."""
LINGER = 900.0
"""Seconds for which buttons stay that go on with a run which has ended."""
REST = 45.0
"""Seconds that buttons stay after they were used, whether the notebook is saved or not."""
MOST_GATES = 12
"""Gates with buttons at a time."""
MOST_FOLDED = 30
"""Steps of the outermost list that can be folded."""


class Dashboard(View):
    """Shows a run in a notebook, with buttons."""

    buttons = True

    def __init__(self, lines: Sequence[Line], controls: Controls | None, target: str) -> None:
        super().__init__(lines, controls, target)
        self._shown: list[tuple[Any, Any]] = []
        """For each cell that shows it the handles of its words and of its widgets."""
        self._made: _Widgets | None = None
        self._context: contextvars.Context | None = None
        self._keeper: threading.Thread | None = None
        self._wake = threading.Event()
        self._problem = ""
        self._now = 0.0

    # -- in the cell's thread -------------------------------------------------------------------------

    def begin(self) -> None:
        """Show it in this cell; when it is shown already, and the run goes on, nothing new is displayed."""
        if self._made is None:
            self._made = _Widgets(self.board, self._clicked)
            self.show()
        self._wake.set()
        self._problem = ""
        self._made.ended(again=False)
        if self._context is not None:  # it goes on: the page of its last end is old
            self._context.copy().run(self._tell, self._words())

    def show(self) -> None:
        """Show it in the cell of this thread, too."""
        assert self._made is not None, "it has begun"
        self._context = contextvars.copy_context()
        self.draw(time.time())
        words = display(self._words(), raw=True, display_id=True)
        self._shown.append((words, display(self._made.bundle(self._plain()), raw=True, display_id=True)))

    @property
    def open(self) -> bool:  # type: ignore[override]  # of the others it is a fact
        """Whether there are widgets."""
        return self._made is not None

    # -- in the thread that tells ---------------------------------------------------------------------

    def draw(self, now: float) -> None:
        """Show the newest state."""
        if self._made is None:
            return
        self._now = now
        self._made.draw(now, self._controls, self._target, self._problem)

    def end(self) -> None:
        """Put the page that stays in place of the words; the widgets stay while their buttons have a use, then go."""
        if self._made is None:
            return
        self.board.progress.active.clear()
        again = self.board.progress.status in ("failed", "interrupted", "paused") and self._controls.clickable()
        self._made.ended(again=again)
        self.draw(time.time())
        page = self._settle()
        if not again:
            self._leave(page)
            return
        self._wake.clear()
        context = (self._context or contextvars.copy_context()).copy()
        self._keeper = threading.Thread(target=context.run, args=(self._linger, page), name="nbflow-view", daemon=True)
        self._keeper.start()

    def _linger(self, page: str) -> None:
        """Keep the buttons until one is clicked, or nobody uses them and the notebook was saved: that has none then."""
        saved, began = self._controls.saved(), time.monotonic()
        assert self._made is not None
        made, made.used = self._made, began
        while not self._wake.wait(TICK):
            self.draw(self._now)
            now = time.monotonic()
            unused = now - made.used > REST and self._controls.saved() != saved
            if unused or now - made.used > LINGER:
                self._leave(page)
                return

    def _settle(self) -> str:
        """Make the words of each cell the page that stays, and give it."""
        links = self._controls.links(self.board)
        html = pages.summary(self.board, self._target, links, self._now)
        self._tell({"text/html": html, "text/plain": self._plain()})
        return html

    def _tell(self, page: dict[str, str]) -> None:
        for words, _ in self._shown:
            words.update(page, raw=True)

    def _leave(self, page: str) -> None:
        """Take the widgets away; a browser that was reloaded meanwhile shows them still, and gets the page there."""
        made, self._made = self._made, None
        if made is None:
            return
        for _, widgets in self._shown:
            widgets.update({"text/html": "", "text/plain": ""}, raw=True)
        self._shown.clear()
        made.close(page)

    # -- clicks ---------------------------------------------------------------------------------------

    def _clicked(self, act: Callable[[Controls], None]) -> None:
        """Do what a button says; what goes wrong stands in the view, for a handler's output goes nowhere."""
        try:
            self._problem = ""
            act(self._controls)
        except Exception as problem:  # noqa: BLE001 - whatever it is, the person who clicked is told
            self._problem = f"{problem}" or type(problem).__name__

    # -- words ----------------------------------------------------------------------------------------

    def _plain(self) -> str:
        return pages.plain(self.board, self._target, self._now)

    def _words(self) -> dict[str, str]:
        """Give what stands beside the widgets while the run works, and what a notebook has that is saved meanwhile."""
        hint = f"<code>{pages.text(pages.attached(self._target))}</code> shows this run again, from any notebook"
        return {"text/html": f'<div style="font-size: 12px">{hint}</div>', "text/plain": self._plain()}


class _Widgets:
    """The widgets of a dashboard: one string per region."""

    def __init__(self, board: Board, clicked: Callable[[Callable[[Controls], None]], None]) -> None:
        self._board = board
        self._clicked = clicked
        self.head, self.bar, self.running, self.failures, self.note = (_html() for _ in range(5))
        self._pause = self._button("Pause", "nbf-pause", self._hold, "start nothing new; what runs goes on")
        self._cancel = self._button("Cancel", "nbf-cancel", lambda c: c.cancel(), "end the run; what is done is kept")
        self._again = self._button("Retry failed", "nbf-again", lambda c: c.again(), "run what failed or never ran")
        self._buttons = _row([self._pause, self._cancel, self._again], "nbf-buttons")
        self._gates = w.VBox([])
        self._questions: dict[NodeId, Any] = {}
        self._tree = _Tree(board)
        self._panels = _Panels(board, self._touch)
        self._facts = [self.head, self.bar, self._tree.box, self.running, self.failures]
        """What the page that stays says too."""
        parts = [w.HTML(pages.STYLE), self.head, self.bar, self._buttons, self.note, self._gates, self._tree.box]
        self.box = w.VBox([*parts, self.running, self.failures, self._panels.box])
        self.box.add_class("nbf")
        self._over = False
        self.used = 0.0
        """When a person used it last."""

    def bundle(self, words: str) -> dict[str, Any]:
        """Give what is displayed: the widgets, with words for where there are none."""
        return {**self.box._repr_mimebundle_(), "text/plain": words}

    def ended(self, *, again: bool) -> None:
        """Show what has a use: when the run has ended, what goes on with it, and what the page that stays has not."""
        self._over = again
        for part in self._facts:
            _show(part, there=not again)

    def draw(self, now: float, controls: Controls, target: str, problem: str) -> None:
        """Show the newest state; a region that stays the same sends nothing."""
        board, progress = self._board, self._board.progress
        heard = controls.clickable()
        _set(self.head, pages.head(board, now))
        _set(self.bar, pages.bar(progress))
        self._pause.description = "Go on" if progress.held else "Pause"
        for button, there in ((self._pause, not self._over), (self._cancel, not self._over), (self._again, self._over)):
            _show(button, there=heard and there)
        self._again.description = "Resume" if progress.status != "failed" else "Retry failed"
        _set(self.note, self._notes(progress.status, target, heard=heard, problem=problem))
        self._ask(controls, heard=heard)
        self._tree.draw()
        _set(self.running, pages.running(board, now))
        _set(self.failures, pages.failures(board, controls.links(board), folded=False))
        self._panels.draw(now)

    def _touch(self) -> None:
        self.used = time.monotonic()

    def _notes(self, status: str, target: str, *, heard: bool, problem: str) -> str:
        lines = [f'<div class="nbf-bad">{pages.text(problem)}</div>'] if problem else []
        if not heard and status == "running":
            lines.append('<div class="nbf-soft">nbflow.start(…) for buttons; Kernel → Interrupt stops it</div>')
        if not heard:
            lines.append(pages.questions(self._board, target))
        return "".join(lines)

    def _ask(self, controls: Controls, *, heard: bool) -> None:
        """Show one button for each option of each open gate."""
        gates = list(self._board.progress.gates.values())[:MOST_GATES] if heard else []
        if [gate.node for gate in gates] == list(self._questions):
            return
        known, self._questions = self._questions, {}
        for gate in gates:
            self._questions[gate.node] = known.pop(gate.node, None) or self._question(gate, controls)
        self._gates.children = tuple(self._questions.values())
        for gone in known.values():
            _close(gone)

    def _question(self, gate: GateOpened, controls: Controls) -> Any:
        """Make a question: what is to be judged, then what is asked, then the answers."""
        shown, asked = _html(), _html()
        link = ""
        if gate.show is not None:
            path, address = controls.judged(gate.show)
            shown.value = judged(path)
            link = f'  <a href="{pages.text(address)}" target="_blank" rel="noopener">open {pages.text(gate.show)}</a>'
        label, message = pages.text(gate.label), pages.text(gate.message)
        asked.value = f'<div class="nbf-gate"><span class="nbf-soft">{label}</span>{link}<br><b>{message}</b></div>'
        buttons = [self._option(gate, option) for option in gate.options]
        return w.VBox([shown, asked, _row(buttons, "nbf-options")])

    def _option(self, gate: GateOpened, option: str) -> Any:
        def act(controls: Controls) -> None:
            controls.answer(gate.node, option)

        return self._button(for_terminal(option), "nbf-option", act, f"answer {for_terminal(option)}")

    def _hold(self, controls: Controls) -> None:
        if self._board.progress.held:
            controls.unpause()
        else:
            controls.pause()

    def _button(self, words: str, kind: str, act: Callable[[Controls], None], tip: str) -> Any:
        button = w.Button(description=words, tooltip=tip)
        button.add_class(kind)
        button.on_click(lambda _: self._clicked(act))
        return free(button)

    def close(self, page: str) -> None:
        """Let go of the widgets, but for one that has the page."""
        parts, self.box.children = self.box.children, (w.HTML(pages.STYLE + page),)
        for part in parts:
            _close(part)


class _Tree:
    """The tree of steps; each step of the outermost list that holds others can be folded."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._groups: list[tuple[list[Line], Any, Any]] = []
        for line in board.lines:
            if line.depth and self._groups:
                self._groups[-1][0].append(line)
            else:
                self._groups.append(([line], _html(), None))
        if not any(len(lines) > 1 for lines, _, _ in self._groups) or len(self._groups) > MOST_FOLDED:
            self._groups = [(list(board.lines), _html(), None)]
        else:
            self._groups = [(lines, html, self._fold(lines)) for lines, html, _ in self._groups]
        if any(fold is not None for _, _, fold in self._groups):
            for _, html, fold in self._groups:
                html.add_class("nbf-flat" if fold is None else "nbf-open")
        self.box = w.VBox([_row([fold, html], "nbf-step") if fold else html for _, html, fold in self._groups])

    def _fold(self, lines: list[Line]) -> Any:
        if len(lines) == 1:
            return None
        fold = w.ToggleButton(value=True, description="▾", tooltip=f"the steps in {lines[0].name}")
        fold.add_class("nbf-fold")
        return free(fold)

    def draw(self) -> None:
        """Show how the steps stand."""
        for lines, html, fold in self._groups:
            open_ = fold is None or fold.value
            _set(html, pages.tree(self._board, lines if open_ else lines[:1]))
            if fold is not None and fold.description != (sign := "▾" if open_ else "▸"):
                fold.description = sign


class _Panels:
    """Results, timeline and log, each shown when a person wants it; what is not shown costs nothing."""

    def __init__(self, board: Board, used: Callable[[], None]) -> None:
        self._board = board
        self._used = used
        self._rows = 0
        toggles = {name: w.ToggleButton(value=False, description=name) for name in ("Results", "Timeline", "Log")}
        for name, toggle in toggles.items():
            toggle.add_class(f"nbf-{name.lower()}")
            toggle.observe(self._wanted, "value")
            free(toggle)
        self._toggles = toggles
        self._html = {name: _html() for name in toggles}
        self._by = free(w.Dropdown(options=[("in order", "")], value="", description="sort by"))
        self._by.layout.width = "16em"
        self._by.style.description_width = "4em"
        self._falling = free(w.Checkbox(value=False, description="largest first", indent=False))
        self._falling.layout.width = "10em"
        for control in (self._by, self._falling):
            control.observe(self._wanted, "value")
        self._sort = _row([self._by, self._falling], "nbf-sort")
        _show(self._sort, there=False)
        rows = _row(list(toggles.values()), "nbf-panels")
        self.box = w.VBox([rows, self._sort, *self._html.values()])

    def _wanted(self, _change: object) -> None:
        """A person wants something else: the thread that draws does it."""
        self._rows = -1
        self._used()

    def draw(self, now: float) -> None:
        """Show what is wanted."""
        on = {name: toggle.value for name, toggle in self._toggles.items()}
        _show(self._sort, there=on["Results"] and bool(self._board.ended))
        if on["Results"]:
            self._offer()
            if len(self._board.ended) != self._rows:
                self._rows = len(self._board.ended)
                _set(self._html["Results"], pages.results(self._board, self._by.value, falling=self._falling.value))
        if on["Timeline"]:
            _set(self._html["Timeline"], pages.timeline(self._board, now))
        if on["Log"]:
            _set(self._html["Log"], pages.log(self._board))
        for name, html in self._html.items():
            if not on[name]:
                _set(html, "")
                self._rows = -1 if name == "Results" else self._rows

    def _offer(self) -> None:
        names = ["status", "seconds", *self._board.columns]
        options = [("in order", ""), *((for_terminal(name), name) for name in names)]
        if tuple(options) != tuple(self._by.options):
            chosen = self._by.value
            self._by.options = options
            self._by.value = chosen


def free(widget: Any) -> Any:
    """Let a widget's events be heard while a cell runs.

    ipykernel 7.4 sends the events of a widget to where its last message came from, which is the cell's own thread:
    there they wait for the cell. A widget without such a memory goes where the front end wants it.
    """
    if hasattr(widget.comm, "_reply_subshell_for"):
        widget.comm._reply_subshell_for = None  # noqa: SLF001 - there is no public way
    return widget


def _html() -> Any:
    return w.HTML("")


def _row(children: list[Any], kind: str) -> Any:
    row = w.HBox(children)
    row.add_class("nbf-row")
    row.add_class(kind)
    row.layout.flex_flow = "row wrap"
    return row


def _set(html: Any, value: str) -> None:
    if html.value != value:  # a new value scrolls and flickers
        html.value = value


def _show(widget: Any, *, there: bool) -> None:
    wanted = None if there else "none"
    if widget.layout.display != wanted:
        widget.layout.display = wanted


def _close(widget: Any) -> None:
    """Close a widget with all that belongs to it: each is a channel to the front end."""
    for child in getattr(widget, "children", ()):
        _close(child)
    for part in (widget, widget.layout, getattr(widget, "style", None)):
        if part is not None:
            part.close()
