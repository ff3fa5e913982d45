"""Lint of a notebook of steps: names that a step will not find, or of which nobody can say whose they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from .. import definition as d
from ..errors import DefinitionError, did_you_mean
from ..source import SETUP, Cell, Notebook, nameless, owners, selected
from .cell_steps import Links, cells_of
from .names import LAMBDA, Place, Unknown, Use
from .order import Order
from .plain import SET_ALONG, changes, imports, says, set_in

__all__ = ["Found", "look"]


@dataclass
class Found:
    """What there is to say of the steps of a notebook."""

    problems: list[DefinitionError] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    order: dict[str, list[str]] = field(default_factory=dict)
    """For each step those that it waits for, in the order of one worker."""


def look(notebook: Notebook, name: str, told: Links, steps: Sequence[d.Step], each: Mapping[str, str]) -> Found:
    """Look for what will go wrong.

    Parameters
    ----------
    notebook : Notebook
        The whole of it.
    name : str
        How messages call it.
    told : Links
        What its steps read and assign.
    steps : sequence of Step
        Its steps, as they stand in it.
    each : mapping of str to str
        The list that a step runs over, by its id.
    """
    looking = _Looking(notebook, name, told, steps, each)
    looking.look()
    return looking.found


class _Looking:
    def __init__(
        self, notebook: Notebook, name: str, told: Links, steps: Sequence[d.Step], each: Mapping[str, str]
    ) -> None:
        self.notebook = notebook
        self.name = name
        self.setup = told.setup
        self.steps = steps
        self.each = each
        self.found = Found()
        self.uses = {step.id: told.steps[tuple(cells_of(step).tags)] for step in steps}
        self.given = {step.id: frozenset(cells_of(step).names) for step in steps}
        self.shown = {
            step.id: frozenset(selected(notebook, cells_of(step).tags).result_names)
            for step in steps
            if isinstance(step, d.FanOut)
        }

    def look(self) -> None:
        """Look at all of it."""
        order = Order.of(self.steps)
        for at, _, message, remedy in order.problems():
            self._problem(self._first(self.steps[at].id), message, _as_tags(remedy))
        if self.found.problems:
            return
        ids = [step.id for step in self.steps]
        behind = {one: order.ended(one) for one in ids}
        for one in ids:
            self.found.order[one] = sorted(behind[one], key=lambda other: (len(behind[other]), ids.index(other)))
        for step in self.steps:
            self._reads(step.id, behind)
            self._side_by_side(step.id, behind)
        for use, where in [(self.setup, "setup"), *((self.uses[one], f"step {one}") for one in ids if one != SETUP)]:
            self.found.warnings += [self._unknown(unknown, where) for unknown in use.unknown]
        self.found.warnings += self._out_of_order()
        self.found.warnings += [told for step in self.shown for told in self._of_items(step, behind)]
        self.found.warnings += [told for step in ids if step != SETUP for told in self._of_modules(step, behind)]
        self.found.warnings += [
            f"cell {number} is tagged results and shows what has no name, which is no result: assign it (total = ...)"
            for number in nameless(self.notebook)
        ]

    # -- names that will not be there -------------------------------------------------------------------

    def _reads(self, me: str, behind: Mapping[str, frozenset[str]]) -> None:
        given = [self._assigns(one) for one in behind[me]]
        known = {*self.setup.assigns, *self.given[me], *(name for names in given for name in names)}
        if any(unknown.assigns for use in self._until(me, behind) for unknown in use.unknown):
            return  # anything may be there: that is said as a warning
        if me in self.each and self.each[me] not in known:
            told = f"runs over {self.each[me]!r} (each:)"
            self._missing(me, self.each[me], self._first(me), told, behind)
        if me == SETUP:
            known |= {*self.setup.assigns}
        for name, place in sorted(self.uses[me].needs.items(), key=lambda one: (one[1].cell, one[1].line)):
            if name in known or name in self.uses[me].assigns:
                continue  # it may be assigned before it is read
            if place.through or self._says(me, name):
                self._missing(me, name, place, f"reads {name!r}", behind)

    def _until(self, me: str, behind: Mapping[str, frozenset[str]]) -> Iterator[Use]:
        """Give what may have run when a step reads a name: the step itself, too."""
        yield self.setup
        yield from (self.uses[one] for one in (*behind[me], me))

    def _assigns(self, step_id: str) -> frozenset[str]:
        """Give the names that a step gives to later ones: of items, only their results."""
        names = frozenset(self.uses[step_id].assigns)
        return names & self.shown[step_id] if step_id in self.shown else names

    def _missing(self, me: str, name: str, place: Place, told: str, behind: Mapping[str, frozenset[str]]) -> None:
        others = [one for one in self.uses if one != me and name in self.uses[one].assigns]
        if place.through and others:
            return  # a function may be called that needs it, or may not
        told = f"{told} (in {place.through})" if place.through else told
        hidden = next((one for one in others if one in behind[me]), None)
        later = next((one for one in others if me in behind[one]), None)
        beside = next((one for one in others if one not in behind[me] and me not in behind[one]), None)
        if me == SETUP and others:
            message = f"{told}, which step {others[0]} assigns: setup runs before all steps, wherever it stands"
            remedy = f"Take the tag setup away from cell {place.cell}, or assign it in a setup cell above."
        elif hidden is not None:
            message = f"{told}, which each item of step {hidden} has for itself"
            remedy = f"Show it in a cell of {hidden} tagged results: later steps find a list, one value per item."
        elif beside is not None:
            message = f"{told}, which step {beside} assigns, and does not wait for that step"
            remedy = f"Tag {self._called(me)} needs:{beside}"
        elif later is not None:
            at = self.uses[later].assigns[name]
            message = f"{told}, which only cell {at.cell} assigns (step {later}), further below"
            remedy = "It worked because that cell had been run before: move the assignment up."
        elif name in self.uses[me].assigns:
            message = f"{told}, which only the step itself assigns"
            remedy = f"Assign {name} in a setup cell, or in a step before this one: that is where its items come from."
        else:
            known = {*self.setup.assigns}.union(*(self._assigns(one) for one in behind[me]))
            message = f"{told}, which no cell assigns.{did_you_mean(name, sorted(known))}"
            remedy = "Assign it in a setup cell, or in a step before this one."
        self._problem(place, message, remedy, me)

    def _of_items(self, me: str, behind: Mapping[str, frozenset[str]]) -> Iterator[str]:
        """Tell which names items change that were there before, and that later steps read as they were."""
        before = {*self.setup.assigns}.union(*(self._assigns(one) for one in behind[me])) - self.given[me]
        for name, place in changes(self._cells(me)).items():
            if name in self._imports:
                continue  # np.append(...) gives a new array
            reader = next((one for one in self.uses if me in behind[one] and name in self.uses[one].reads), None)
            if name in before and name not in self.shown[me] and reader is not None:
                where = f"cell {place.cell}, line {place.line} (step {me})"
                yield (
                    f"{where}: each item changes a {name!r} of its own, and step {reader} reads it as it was before: "
                    f"show in a cell of {me} tagged results what comes along"
                )

    def _of_modules(self, me: str, behind: Mapping[str, frozenset[str]]) -> Iterator[str]:
        """Tell what a step sets in modules that later steps use: in other kernels these are as they were imported."""
        for what, (name, place) in set_in(self._cells(me)).items():
            module = self._imports.get(name, ":")
            if ":" in module or module.partition(".")[0] in SET_ALONG:
                continue
            behind_me = (one for one in self.uses if me in behind[one] and what not in set_in(self._cells(one)))
            reader = next((one for one in behind_me if self._uses_module(one, name, module)), None)
            if reader is not None:
                yield (
                    f"cell {place.cell}, line {place.line} (step {me}): {what} holds only in this kernel, and step "
                    f"{reader} uses {name}: set it in a setup cell"
                )

    def _uses_module(self, me: str, name: str, module: str) -> bool:
        """Whether a step reads a module, or imports it, or something of it."""
        found = {one.partition(":")[0] for one in imports(self._cells(me)).values()}
        return name in self.uses[me].reads or module in found

    @cached_property
    def _imports(self) -> dict[str, str]:
        return imports(self.notebook.cells)

    # -- names of which nobody can say whose they are ---------------------------------------------------

    def _side_by_side(self, me: str, behind: Mapping[str, frozenset[str]]) -> None:
        """Note names that are read and that two steps assign of which none waits for the other."""
        before = self.found.order[me]
        for name, place in self.uses[me].reads.items():
            if place.through not in ("", LAMBDA) or not self._says(me, name):
                continue  # a function may be called that needs it, or may not; a lambda mostly runs where it stands
            if name in self.uses[me].assigns:
                continue  # it may be assigned before it is read
            mine = [one for one in before if name in self._assigns(one)]
            last = [one for one in mine if not any(one in behind[other] for other in mine)]
            if len(last) > 1 and not self._import_alike(name, last):
                told = f"reads {name!r}, which steps {last[0]} and {last[1]} both assign, and none waits for the other"
                self._problem(
                    place, told, f"Let one wait for the other (needs:{last[0]}), or give each its own name.", me
                )

    def _import_alike(self, name: str, steps: Sequence[str]) -> bool:
        """Whether steps all have a name by the same import."""
        found = {imports(self._cells(one)).get(name) for one in steps}
        return len(found) == 1 and None not in found

    # -- what cannot be told ----------------------------------------------------------------------------

    def _unknown(self, unknown: Unknown, where: str) -> str:
        what = {
            (True, True): "may read and assign any name: all names are restored for it, and all are saved after it",
            (True, False): "may read any name: all of them are restored for it",
            (False, True): "may assign any name: which step makes a name cannot be told",
            (False, False): "holds only in this kernel",
        }[unknown.reads, unknown.assigns]
        return f"cell {unknown.place.cell}, line {unknown.place.line} ({where}): {unknown.what} {what}"

    def _out_of_order(self) -> Iterator[str]:
        """Tell of cells that were run in another order the last time: what they show may be another program's."""
        raw = self.notebook.data["cells"]
        assert isinstance(raw, list)
        last, above = 0, 0
        for cell, owner in zip(self.notebook.cells, owners(self.notebook.cells), strict=True):
            entry = raw[cell.position]
            count = entry.get("execution_count") if isinstance(entry, dict) else None
            if isinstance(count, int) and owner not in ("", SETUP):
                if count < last:
                    yield f"cell {cell.number} was run before cell {above} the last time (In [{count}], In [{last}])"
                last, above = count, cell.number

    def _says(self, me: str, name: str) -> bool:
        """Whether a name stands in the cells of a step: else it only stands in what the step holds."""
        return any(says(cell, name) for cell in self._cells(me))

    # -- words ------------------------------------------------------------------------------------------

    def _cells(self, step_id: str) -> Iterator[Cell]:
        """Give the cells of a step, without those that prepare it."""
        step = next(step for step in self.steps if step.id == step_id)
        part = selected(self.notebook, cells_of(step).tags)
        return (cell for cell in part.cells if cell.number not in part.preparing)

    def _first(self, step_id: str) -> Place:
        return Place(next(self._cells(step_id)).number, 1)

    def _called(self, step_id: str) -> str:
        return f"cell {self._first(step_id).cell}"

    def _problem(self, place: Place, message: str, remedy: str, step_id: str = "") -> None:
        where = f"{self.name}: cell {place.cell}, line {place.line}"
        step = f" (step {step_id})" if step_id else ""
        self.found.problems.append(DefinitionError(f"{where}{step}: {message}", remedy, where))


def _as_tags(remedy: str) -> str:
    """Give a remedy for lists of steps as one for tags."""
    return remedy.replace("(needs: [] for nothing)", "(needs:NAME)")
