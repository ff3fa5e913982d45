"""A plug-in: steps that write a line into a file, ``stamp: file``; an executor and a reporter of its own."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TextIO

from nbflow import definition as d
from nbflow import model
from nbflow.api.kinds import StepKind
from nbflow.engine.kinds import task
from nbflow.events import Event, NodeFinished, RunFinished
from nbflow.executors.threads import ThreadExecutor
from nbflow.loading.building import Here
from nbflow.outcome import Outcome, completed
from nbflow.reporters.screen import Scene
from nbflow.task import Context, Task


class Stamp(d.Task):
    """One line more in a file."""

    keys: ClassVar[tuple[str, ...]] = ("stamp",)

    stamp: str
    """The file, relative to that of the workflow."""
    line: str = "done"


@dataclass(frozen=True, kw_only=True)
class StampStep(model.TaskStep):
    """What the engine holds of it."""

    kind: ClassVar[str] = "stamp"

    file: str


class StampRunner:
    """Writes the line."""

    def __init__(self, folder: Path, run_id: str) -> None:
        self._folder, self._run_id = folder, run_id

    def __call__(self, task: Task, context: Context) -> Outcome:
        """Write one; the output has its number."""
        step = task.step
        assert isinstance(step, StampStep)
        path = self._folder / step.file
        with path.open("a") as file:
            file.write(f"{task.parameters['line']}\n")
        return completed({"lines": len(path.read_text().splitlines())})


def make(one: Stamp, here: Here) -> model.Step:
    """Make the step: the line may hold expressions."""
    return StampStep(
        **here.task, file=here.literal(one.stamp, "stamp"), parameters=here.binding({"line": one.line}, "line")
    )


STAMP = StepKind(Stamp, make, StampStep, task, StampRunner)


def named_threads(max_workers: int) -> ThreadExecutor:
    """Make a pool whose threads are called otherwise."""
    return ThreadExecutor(max_workers, "stamp-pool")


class Dots:
    """Shows a dot for each task that ended."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def begin(self) -> None:
        """Show that it begins."""
        self._file.write("dots: ")

    def __call__(self, event: Event) -> None:
        """Show one more."""
        match event:
            case NodeFinished(leaf=True):
                self._file.write(".")
            case RunFinished():
                self._file.write(f" {event.status}")
            case _:
                pass

    def draw(self, now: float) -> None:
        """Nothing moves."""

    def end(self) -> None:
        """Leave a whole line."""
        self._file.write("\n")


def dots(scene: Scene) -> Dots:
    """Make the reporter."""
    return Dots(scene.file or sys.stderr)
