"""Which notebooks of a run have their kernels forked: where there are several, one start serves them all."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from ..errors import did_you_mean
from ..libraries import KNOWN
from ..model import Block, Literal, Step, Workflow
from ..steps import CellsStep, FanIn, FanOut, GateStep, KernelStart, Loop, NotebookStep, ShellStep
from ..types import Warmth

__all__ = ["apart", "not_there", "shared", "warmth"]


def warmth(workflow: Workflow, *, ready: bool = False) -> dict[str, Warmth]:
    """Tell for each notebook of a workflow, by its path, what its kernels have in common.

    A notebook that runs many times shares its imports; notebooks that run once share the kernel's own with the others.
    A kernel that is the only one has a process of its own: there is nobody to share a template's start with. Unless a
    template is there already: it was begun early, by the command line.

    Parameters
    ----------
    workflow : Workflow
        What is run.
    ready : bool
        Whether a template is there already.
    """
    steps = list(_notebooks(workflow.block, many=False))
    counts = {path: [many for other, many in steps if _file(other) == _file(path)] for path, _ in steps}
    repeated = {path for path, many in counts.items() if any(many) or len(many) > 1}
    alone: Warmth = "kernel" if ready or shared(workflow) else "none"
    return {path: "modules" if path in repeated else alone for path in counts}


def not_there(workflow: Workflow, start: KernelStart | None) -> list[str]:
    """Give a line for each module that is to be preloaded and is not installed here, where kernels are ours.

    Parameters
    ----------
    start : KernelStart, optional
        Holds for all steps, whatever they say themselves.
    """
    said = [start] if start is not None else [step.start for step in _steps(workflow.block)]
    names = dict.fromkeys(name for one in said for name in one.preload or ())
    missing = [name for name in names if find_spec(name.partition(".")[0]) is None]
    return [f"preload: there is no module {name}.{did_you_mean(name, sorted(KNOWN))}" for name in missing]


def saves_names(workflow: Workflow) -> bool:
    """Whether names go from step to step."""
    return any(isinstance(step, CellsStep) and step.piece is not None for step in _steps(workflow.block))


def _steps(block: Block) -> Iterator[NotebookStep]:
    for step in block.steps:
        if isinstance(step, NotebookStep):
            yield step
        for inner in step.blocks:
            yield from _steps(inner)


def apart(block: Block) -> bool:
    """Whether all work is done in other processes: by notebooks and commands."""
    leaves = [step for step in block.steps if not step.blocks]
    ours = all(isinstance(step, (NotebookStep, ShellStep, GateStep, FanIn)) for step in leaves)
    return ours and all(apart(inner) for step in block.steps for inner in step.blocks)


def shared(workflow: Workflow) -> bool:
    """Whether more than one kernel may start: then a template's start is worth its time."""
    steps = list(_notebooks(workflow.block, many=False))
    return len(steps) > 1 or any(many for _, many in steps)


def _notebooks(block: Block, *, many: bool) -> Iterator[tuple[str, bool]]:
    for step in block.steps:
        if isinstance(step, NotebookStep):
            yield step.path, many
        for inner in step.blocks:
            yield from _notebooks(inner, many=many or _repeats(step))


def _file(path: str) -> str:
    """Give the notebook of a path that names some cells of it."""
    return path.partition("#")[0]


def _repeats(step: Step) -> bool:
    """Whether what is in a step may run more than once."""
    if isinstance(step, FanOut):
        items = step.items.value if isinstance(step.items, Literal) else None
        return not isinstance(items, list) or len(items) > 1
    return isinstance(step, Loop)
