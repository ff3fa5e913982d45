"""The runner of cells: goes on in the kernel of the step above, or in a fresh one with the names that they read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from .. import lean
from ..model import NodeId
from ..namespace import ASKED, KEPT, LOOKS, RANDOM, SETTINGS, Entry, Past, Piece, files_of
from ..outcome import Failure, Outcome
from ..printing import short
from ..signing import Signer
from ..sizes import about
from ..source import Cell, split
from ..steps import CellsStep, NotebookStep
from ..task import Context, Task
from ..values import Value, argument, assigned
from .execution import Ending, Execution, Hooks
from .held import Held, Kept, Lent, end
from .kernel import Kernel, Kernels
from .names import MOST, SECONDS, Saved, read_restored, read_saved, restore_request, save_request, trusted
from .runner import Attempt, NotebookRunner
from .snapshot.settings import OF_THE_TASK

__all__ = ["CellRunner"]

AS_SETUP: Entry = {"form": "start"}
"""Where settings are that no step has changed: as setup left them."""
_CALLED = {SETTINGS: "settings", LOOKS: "settings", RANDOM: "states of random numbers"}


class CellRunner(NotebookRunner):
    """Runs the steps of notebooks. Shared by all threads; what a step leaves to the next one, :class:`Held` keeps.

    Parameters
    ----------
    *given, **named
        Of :class:`NotebookRunner`.
    held : Held
        Keeps kernels in which steps go on.
    signer : Signer
        Signs what is saved as objects of Python, and knows it again.
    """

    def __init__(self, *given: Any, held: Held, signer: Signer, **named: Any) -> None:
        super().__init__(*given, **named)
        self.held = held
        self.signer = signer

    def _attempt(self, task: Task, step: NotebookStep, context: Context) -> Attempt:
        assert isinstance(step, CellsStep), "the driver sends each kind of task to its own runner"
        if step.piece is None:
            return super()._attempt(task, step, context)
        past = Past(step.earlier, task.given)  # type: ignore[arg-type]  # what steps left are mappings
        cells = _Cells(self, step, step.piece, past)
        return CellsAttempt(self, task, step, self.notebooks[step.path], context, cells=cells)


@dataclass
class _Cells:
    """What an attempt at a step of a notebook knows besides."""

    runner: CellRunner
    step: CellsStep
    piece: Piece
    past: Past
    kept: Kept | None = None
    """The kernel in which it goes on."""
    lent: Lent | None = None
    """Gives that kernel."""
    has: dict[str, str] = field(default_factory=dict)
    """Whose value its kernel has of names that were restored or changed there, and whose settings: ids of steps."""
    again: frozenset[str] = frozenset()
    """Ids of the steps that are repeated in it."""
    finds: dict[str, tuple[Past, Piece]] = field(default_factory=dict)
    """Before which cells, by their ids, names are restored, and for which step."""
    at: Piece | None = None
    """The step whose cells are running: one that is repeated, or its own."""
    saved: Saved | None = None
    stale: frozenset[str] = frozenset()
    """Names that were in the kernel only as setup made them when it saved, while steps before have changed them."""
    problem: str | None = None
    """Why nothing could be saved."""

    def lost(self, past: Past, piece: Piece) -> list[str]:
        """Give the names that a step reads and that can be restored from nowhere."""
        return past.lost(piece, self.trusted)

    def trusted(self, entry: Entry) -> bool:
        """Whether a value may be loaded."""
        return trusted(entry, self.runner.signer)

    def is_there(self, name: str, giver: Piece, past: Past) -> bool:
        """Whether the kernel has a name already, with the value that a step gave it.

        What steps make that are repeated here belongs together: a generator and the list that it fills. And what was
        restored once is not restored again because it was saved again since, beside other names: its object is held
        by others. Where one step has bound the name to an object, and another one has changed that, both count.
        """
        ran = self.kept.ran if self.kept is not None else self.again
        left = giver.id in ran and name in past.left.get(giver.id, ())  # else under another name of the same object
        has = self.has.get(name, giver.id if left else "")
        return has == giver.id or (giver.id in ran and has in ran and has == past.givers(name)[-1].id)

    def has_run(self, piece: Piece) -> None:
        """Note what a step that is repeated has changed in the kernel."""
        kept = KEPT.keys() & self.past.left.get(piece.id, {}).keys()
        self.has.update(dict.fromkeys([*self.past.changed_by(piece), *kept], piece.id))

    def only_of_setup(self) -> frozenset[str]:
        """Give the names that are in the kernel only as setup made them, while steps before have changed them."""
        assigned = self.piece.assigns or frozenset()
        wanted = self.past.wanted(self.step.prepared - assigned)
        there = {name for name, (giver, _) in wanted.items() if self.is_there(name, giver, self.past)}
        return frozenset(wanted) & self.step.prepared - there - self.piece.certain

    def _is_bound_anew(self, name: str) -> bool:
        """Whether a name of setup stands for another object in the kernel."""
        givers = self.past.givers(name)
        if not givers or self.past.entry(givers[-1], name).get("id") == f"setup:{name}":
            return False
        return self.is_there(name, givers[-1], self.past)

    def take(self, node: NodeId, made: object) -> None:
        """Go on in the kernel of the step above, if that lives, has what cannot be restored, and can be given the
        rest."""
        if not self.step.goes_on or self.step.cwd == "item":
            return
        self.kept = self.runner.held.take(beside(node, self.step.goes_on), made)
        if self.kept is None:
            return
        self.has = dict(self.kept.has)
        wanted = self.past.wanted(self.piece.reads, self.piece.assigns)
        lost = self.lost(self.past, self.piece)
        there = {name for name, (giver, _) in wanted.items() if self.is_there(name, giver, self.past)}
        made = {other for name in wanted.keys() - there for other in self.past.as_setup_makes(name)}
        if not there.issuperset(lost) or any(map(self._is_bound_anew, made)) or self.kept.kernel.has_died():
            asyncio.run(end([self.kept.kernel]))
            self.kept, self.has = None, {}
            return
        self.lent = Lent(self.kept.kernel)


@dataclass
class CellsAttempt(Attempt):
    """One attempt at a step of a notebook."""

    cells: _Cells = field(kw_only=True)

    @property
    def made(self) -> object:
        """What its kernel is made with."""
        own = self.cells.step.assigned
        parameters = {name: value for name, value in self.task.parameters.items() if name not in own}
        return parameters, self.task.environment

    @property
    def kernels(self) -> Kernels:
        """What gives it its kernel."""
        return self.cells.lent or self.runner.kernels

    @property
    def _preparing(self) -> Sequence[Cell]:
        """The cells that all its kernels run: so they are forked from one template."""
        return [cell for cell in self.notebook.cells if cell.number in self.notebook.preparing]

    def run(self) -> Outcome:
        """Run it, in the kernel of the step above where that is there."""
        self.cells.take(self.task.node, self.made)
        try:
            return super().run()
        finally:
            if self.cells.lent is not None and not self.cells.lent.is_taken and self.cells.kept is not None:
                asyncio.run(end([self.cells.kept.kernel]))  # it was stopped before

    def _hooks(self) -> Hooks:
        return replace(super()._hooks(), before_cell=self._before_cell, leave=self._leave)

    def _watch(self, kernel: Kernel, client: Any) -> None:
        if self.cells.kept is None:
            super()._watch(kernel, client)

    # -- the notebook that is executed ------------------------------------------------------------------

    def _prepare(self, kernel: str, language: str) -> tuple[Any, Any]:
        """Make the notebook: setup, steps that are repeated, and its own cells."""
        with lean.imports():
            from .document import Document

        cells, fresh = self.cells, self.cells.kept is None
        own = cells.step.assigned
        parameters = {name: argument(value) for name, value in self.task.parameters.items() if name not in own}
        lost = cells.lost(cells.past, cells.piece) if fresh else ()
        again = cells.past.repeated(lost, cells.trusted)
        cells.again = frozenset(piece.id for piece in again)
        pieces = [*((cells.past.until(piece), piece) for piece in again), (cells.past, cells.piece)]
        raw, known, begins = self._composed(pieces, with_setup=fresh)
        language = self.notebook.language or language
        document = Document.with_parameters(
            {**self.notebook.data, "cells": raw}, known, parameters if fresh else {}, kernel, language
        )
        ids = document.code_ids()
        cells.finds = {ids[at]: piece for at, piece in zip(begins, pieces, strict=True)}
        for step_id, first, last in zip(
            ["setup", *(piece.id for _, piece in pieces)], [0, *begins], [*begins, len(ids)], strict=True
        ):
            document.belongs(ids[first:last], step_id, repeated=step_id not in ("setup", cells.piece.id))
        if own:
            given = {name: assigned(self.task.parameters[name]) for name in own}
            before = document.assign_before(ids[begins[-1]], given, kernel, language)
            cells.finds[before] = cells.finds.pop(ids[begins[-1]])
        for piece in again:
            self._say(f"repeats step {piece.id}: {', '.join(lost[:3])} cannot be restored")
        return self._managed(document)

    def _composed(
        self, pieces: list[tuple[Past, Piece]], *, with_setup: bool
    ) -> tuple[list[Value], list[Any], list[int]]:
        """Give the cells as the file has them, the code cells among them, and where each step begins in these."""
        setup, _ = split(self.notebook)
        raw = list(setup) if with_setup else []
        ready = [cell for cell in self.notebook.cells if cell.number in self.notebook.preparing]
        known, begins = list(ready) if with_setup else [], []
        for _, piece in pieces:
            part = self.notebook if piece is self.cells.piece else self.runner.notebooks[piece.path]
            begins.append(len(known))
            raw += split(part)[1]
            known += [cell for cell in part.cells if cell.number not in part.preparing]
        return raw, known, begins

    # -- names ------------------------------------------------------------------------------------------

    async def _before_cell(self, execution: Execution, cell: Any) -> str:
        """Restore the names that a step finds, where its first cell comes; gives why that cannot be."""
        found = self.cells.finds.get(cell["id"])
        if found is None:
            return ""
        past, piece = found
        if self.cells.at is not None:
            self.cells.has_run(self.cells.at)
        self.cells.at = piece
        wanted = past.wanted(piece.reads, piece.assigns)
        lost = set(self.cells.lost(past, piece))
        entries = {
            name: entry
            for name, (giver, entry) in wanted.items()
            if name not in lost and not self.cells.is_there(name, giver, past)
        }
        kept = {name: self._last(past, name) for name in KEPT}
        touches = frozenset() if piece.reads is None or piece.assigns is None else piece.reads | piece.assigns
        request = restore_request(
            self.places.folder,
            entries,
            prepared=self.cells.step.prepared,
            # What came along shares objects with what is touched; and where nothing is saved, nothing need be known.
            watched=() if self.cells.step.tells_nothing else touches.union(entries),
            kept=kept,
            environ={name: value for name, value in self._environment().items() if name in OF_THE_TASK},
            carried=execution.kernel.warm,
        )
        try:
            restored = read_restored(await execution.ask(request, None))
        except (ValueError, TimeoutError) as problem:
            return f"the names that step {piece.id} reads could not be restored: {self._shown(problem)}"
        self.cells.has.update({name: wanted[name][0].id for name in entries})
        problems = dict(_damaged({**entries, **kept}, restored.missing))
        problems = {name: problems.get(name) or restored.problems[name] for name in (*problems, *restored.problems)}
        if problems:
            name, why = next(iter(problems.items()))
            if name in _CALLED:
                why = why.removeprefix("is not as it was saved: ")
                made = self.cells.has.get(name, "setup")
                return f"{_CALLED[name]} of step {made} cannot be restored: {why}. --from {made} makes them again"
            giver, entry = wanted[name]
            remedy = f"--from {giver.id} makes it again"
            if entry.get("form") == "setup":
                remedy = "Bind another name there, or make it in a step, not in setup"
            return f"{name} cannot be restored: it {why}. {remedy}"
        for name, ids in past.unclear(piece.reads).items():
            told = f"{name} is not restored: {' and '.join(ids)} have changed it, and none waits for the other"
            if piece.reads is not None and name in self.cells.step.prepared:  # no NameError would come: setup made one
                return f"{told}. Let one need the other (needs:), or give each its own name"
            self.log.printed("nbflow", f"{told}\n")
        if entries:
            self.log.printed("nbflow", f"restored {', '.join(entries)} ({about(restored.read)})\n")
        return ""

    def _last(self, past: Past, name: str) -> Entry | None:
        """Give where what is no name is saved that comes along, unless the kernel has them; says what does not."""
        if self.cells.kept is not None:
            return None
        there, givers = self.cells.has.pop(name, None), past.givers(name)
        before = None if there is None else AS_SETUP
        if not givers:
            return before
        last = givers[-1].id
        if name != RANDOM and past.differ(name):
            ids = " and ".join(piece.id for piece in givers)
            self._say(f"{ids} have changed {_CALLED[name]}, and none waits for the other: those of {last} count")
        entry: Any = past.left[last][name]
        if there != last and not trusted(entry, self.cells.runner.signer):
            self._say(
                f"{_CALLED[name]} that step {last} changed do not come along, for somebody else saved them: "
                f"--from {last} makes them again"
            )
            return before
        self.cells.has[name] = last
        return None if there == last else entry

    def _say(self, words: str) -> None:
        self.warnings.append(words)
        self.log.printed("nbflow", f"{words}\n")

    async def _collect(self, execution: Execution) -> bool:
        """Read the results, and have the names saved that later steps read."""
        whole = await super()._collect(execution)
        step, piece = self.cells.step, self.cells.piece
        if step.tells_nothing:
            return whole
        touched = None if piece.reads is None or piece.assigns is None else piece.reads | piece.assigns
        self.cells.stale = self.cells.only_of_setup()  # what the kernel has is another question once it is left
        request = save_request(
            self.places.folder,
            step.leaves,
            touched=touched,
            assigned=piece.makes,
            small=() if step.gathers or step.masked else step.offers,
            stale=self.cells.stale,
            carried=execution.kernel.warm,
            most=MOST,
            seconds=SECONDS,
        )
        try:
            self.cells.saved = read_saved(await execution.ask(request, None), self.cells.runner.signer)
        except (ValueError, TimeoutError) as problem:
            self.cells.problem = f"its names could not be saved: {self._shown(problem)}"
            return False
        return whole

    def _shown(self, problem: Exception) -> str:
        return short(self.masker.text(str(problem)))

    def _left_out(self, name: str, reason: str) -> str:
        """Give what is said of a result that has no value: as a name it may come along all the same."""
        saved, wanted = self.cells.saved, self.cells.step.wanted
        comes = saved is not None and name in saved.names and (wanted is None or name in wanted)
        return f"{super()._left_out(name, reason)}{' Later steps find it.' if comes else ''}"

    def _is_needed(self, name: str) -> bool:
        """Whether it is a failure that a result has no value: what is no list fails the step that runs over it."""
        return super()._is_needed(name) and name not in self.step.lists

    def _output(self) -> tuple[Value, Failure | None]:
        """Give the output, or why there is none: also where later steps would not find what they read."""
        output, failure = super()._output()
        problem, saved = self.cells.problem, self.cells.saved
        if self.cells.step.gathers and saved is not None:
            lost = {**saved.unsaved, **self._secrets(saved)}
            missed = sorted(lost.keys() & (self.cells.step.leaves or lost.keys()))
            if missed:
                problem = f"{missed[0]} is for later steps, and cannot be saved: it {lost[missed[0]]}"
        return output, failure or (None if problem is None else Failure("output", problem))

    def _outcome(self, ending: Ending) -> Outcome:
        for name, ids in self.cells.past.unclear(self.cells.piece.reads).items():
            if ending.exception == "NameError" and f"'{name}'" in ending.message:
                said = f"{name} was not restored, for {' and '.join(ids)} have changed it and none waits for the other"
                self.warnings.append(f"{said}: let one need the other (needs:), or give each its own name")
        outcome = super()._outcome(ending)
        if self.cells.saved is None or outcome.status != "completed":
            return outcome
        stale = self.cells.stale
        # What setup has made, and no step has left, is made again in each kernel; it may be another one in a later run.
        prepared = self.cells.step.prepared
        made = prepared.difference(self.cells.past.known())
        names: dict[str, Value] = {
            name: entry
            for name, entry in self.cells.saved.names.items()
            if name not in stale and (name not in made or entry.get("changed"))
        }
        for name in names.keys() - KEPT.keys():
            entry = cast("Entry", names[name])
            if not entry.get("changed") and (version := self.cells.past.version(name)) is not None:
                entry["again"] = version
        warnings = []
        never = {**self._lost_before(), **self._secrets(self.cells.saved)}  # whoever made it
        for name, told in {**self.cells.saved.unsaved, **never}.items():
            why = self.masker.text(told)
            if name in _CALLED:
                warnings.append(f"of {_CALLED[name]} {why}: another kernel would not have it")
                continue
            if name in self.cells.saved.spoilt and not self._made_here(name):
                warnings.append(f"{name} {why}, and is not saved: steps in other kernels find it as setup makes it")
            if name in stale or not (self._made_here(name) or name in never):
                continue
            whose = self.cells.saved.lost.get(name) or self.cells.saved.names.get(name, {})
            names[name] = {
                "unsaved": why,
                "changed": True,
                **{key: whose[key] for key in ("id", "shares") if key in whose},
            }
            if self.cells.step.wanted is None or name in self.cells.step.wanted:
                warnings.append(
                    f"{name} {why}, and is not saved: a step that reads it in another kernel repeats step "
                    f"{self.cells.piece.id} there. In a cell tagged setup it would be made in each kernel"
                )
        names.update(
            (name, {"deleted": True, "changed": True}) for name in self.cells.saved.gone if name not in prepared
        )
        leaves = self.cells.step.leaves
        left = list(self.cells.saved.left)
        names[ASKED] = {"names": None if leaves is None else sorted(leaves), **({"left": left} if left else {})}
        return replace(outcome, names=names, warnings=(*outcome.warnings, *map(self.masker.text, warnings)))

    def _lost_before(self) -> dict[str, str]:
        """Give the names that a step before could not save, or must not, and that this one has not assigned."""
        saved = self.cells.saved.names if self.cells.saved is not None else {}
        assigns = self.cells.piece.assigns or frozenset()
        found = ((name, self.cells.past.find(name)) for name in saved if name not in assigns)
        return {name: str(one[1]["unsaved"]) for name, one in found if one is not None and "unsaved" in one[1]}

    def _secrets(self, saved: Saved) -> dict[str, str]:
        """Give the names of which a secret of this step would stand in the journal, with why they are not kept."""
        texts = ((name, str(entry.get("text", ""))) for name, entry in saved.names.items())  # all else is in files
        return {name: "holds a secret" for name, text in texts if self.masker.json(text) != text}

    def _made_here(self, name: str) -> bool:
        """Whether what a name is may be the work of this step: else others have made it, or setup does."""
        piece = self.cells.piece
        if name in self.cells.step.prepared:
            return piece.assigns is not None and name in piece.assigns
        return piece.touches(name)

    async def _leave(self, kernel: Kernel, ending: Ending) -> None:
        """Let the next step go on in the kernel, if this one completed."""
        cells = self.cells
        done = ending.how == "completed" and kernel.exit_code is None and self.context.stop.reason is None
        if not (cells.step.goes_on_in and done):
            await kernel.close()
            return
        ran = {cells.piece.id} | cells.again | (cells.kept.ran if cells.kept is not None else set())
        node = self.task.node
        if cells.saved is not None:
            changed = {name for name, entry in cells.saved.names.items() if entry.get("changed")} - cells.stale
            mine = filter(self._made_here, cells.saved.unsaved)
            cells.has.update(dict.fromkeys((*changed, *mine), cells.piece.id))
        kept = Kept(kernel, self.made, frozenset(ran), cells.has, beside(node, cells.step.goes_on_in))
        await cells.runner.held.put(node, kept)


def _damaged(entries: Mapping[str, Entry | None], missing: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Give names that need files which are not as they were, those first whose own they are, with what is wrong."""
    for path in missing:
        of = [name for name, entry in entries.items() if any(file.path == path for file in files_of(entry))]
        of.sort(key=lambda name: next(files_of(entries[name])).path != path)
        yield from ((name, f"is not as it was saved: {path} is gone or was changed") for name in of)


def beside(node: NodeId, step_id: str) -> NodeId:
    """Give the id of another step of the same list, in the same item or turn.

    Examples
    --------
    >>> beside(("load",), "clean"), beside(("each:load:3",), "clean")
    (('clean',), ('each:clean:3',))
    """
    first, sign, index = node[-1].rpartition(":")
    around, inner, _ = first.rpartition(":")
    return (*node[:-1], f"{around}{inner}{step_id}{sign}{index}" if sign else step_id)
