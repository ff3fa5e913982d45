"""The kinds of steps that there are: the built-in ones and those of plug-ins, all through the same door."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeAlias

from .. import definition as d
from .. import model, steps
from ..engine.kinds import KINDS, Kind, task
from ..engine.plan import Plan, plan
from ..engine.recorded import Recorded
from ..errors import StoreError
from ..executors.calls import CallRunner
from ..executors.shell import ShellRunner
from ..loading.building import MAKERS, Maker
from ..task import Runner
from .interactive import Cell, CellRunner, CellStep, make_cell
from .plugins import REMEDY, brought

__all__ = ["RunnerMaker", "StepKind", "all_kinds", "flows", "kinds", "makers", "planned", "runners"]

GROUP = "nbflow.kinds"
"""The group of entry points of packages that bring kinds of their own."""

RunnerMaker: TypeAlias = Callable[[Path, str], Runner]
"""Makes the runner of a run; gets the workflow's folder and the run's id."""


@dataclass(frozen=True, slots=True)
class StepKind:
    """One kind of step: how it is written, made, run through the engine, and carried out."""

    definition: type[d.Step]
    """What is written; its ``keys`` name the kind."""
    make: Maker
    """Makes the step of a definition."""
    step: type[model.Step]
    """What the engine holds."""
    flow: Kind
    """The generator that the engine runs; :func:`nbflow.engine.kinds.task` for what does work outside."""
    runner: RunnerMaker | None = None
    """Makes what carries its tasks out; none for a kind that only orders others."""
    written: bool = True
    """Whether people write it in workflows; the others stand only in what is kept of runs."""


_STEPS: Mapping[type[d.Step], type[model.Step]] = {
    d.Notebook: steps.NotebookStep,
    d.Cells: steps.CellsStep,
    d.Call: steps.CallStep,
    d.Shell: steps.ShellStep,
    d.Gate: steps.GateStep,
    d.If: steps.If,
    d.Switch: steps.Switch,
    d.DoWhile: steps.DoWhile,
    d.While: steps.While,
    d.FanOut: steps.FanOut,
    d.FanIn: steps.FanIn,
    d.SubWorkflow: steps.SubWorkflow,
}
_RUNNERS: Mapping[type[d.Step], RunnerMaker] = {d.Call: lambda _folder, _id: CallRunner(), d.Shell: ShellRunner}

BUILT_IN: tuple[StepKind, ...] = (
    *(StepKind(written, MAKERS[written], step, KINDS[step], _RUNNERS.get(written)) for written, step in _STEPS.items()),
    StepKind(Cell, make_cell, CellStep, task, CellRunner, written=False),
)
"""The kinds that are always there. (Notebooks get their runner, which needs kernels, from the session.)"""


@cache
def all_kinds() -> tuple[StepKind, ...]:
    """Give all kinds, those of installed packages behind the built-in ones.

    Raises
    ------
    StoreError
        If a package brings what is no kind, or takes a key that another one has.
    """
    taken = {key: "nbflow" for kind in BUILT_IN for key in kind.definition.keys}
    found = list(BUILT_IN)
    for name, package, kind in brought(GROUP):
        if not isinstance(kind, StepKind) or not kind.definition.keys:
            raise StoreError(f"the kind {name!r} of {package} is no StepKind with keys", REMEDY)
        for key in kind.definition.keys:
            if key in taken:
                raise StoreError(f"{package} brings the key {key!r}, which {taken[key]} has", REMEDY)
            taken[key] = package
        found.append(kind)
    return tuple(found)


def kinds() -> dict[str, type[d.Step]]:
    """Give the classes of definitions by the keys that name them."""
    return {key: kind.definition for kind in all_kinds() for key in kind.definition.keys}


def makers() -> dict[type[d.Step], Maker]:
    """Give what makes the steps of each definition."""
    return {kind.definition: kind.make for kind in all_kinds()}


def flows() -> dict[type[model.Step], Kind]:
    """Give the generators of each class of step."""
    return {**KINDS, **{kind.step: kind.flow for kind in all_kinds()}}


def runners(folder: Path, run_id: str) -> dict[type[model.Step], Runner]:
    """Give what carries out tasks of each class of step."""
    return {kind.step: kind.runner(folder, run_id) for kind in all_kinds() if kind.runner is not None}


def planned(workflow: model.Workflow, recorded: Recorded) -> Plan:
    """Give what a run of this workflow with these records would do."""
    return plan(workflow, recorded, flows())
