"""The definition of a workflow's run: what it says, its inputs, and what it was made of."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from .. import definition as d
from ..errors import NbflowError, StoreError
from ..loading.building import Built, Files, Kept, build
from ..loading.inputs import fit_all
from ..loading.workflow_file import Source, define
from ..model import Workflow
from ..source import Notebook, changed_cells, read_notebook
from ..types import Changed
from ..values import Value, tagged, untagged
from .definition import FORMAT, Definition
from .kinds import kinds, makers
from .requirements import doubts

_BROKEN = "Restore the file from a copy."


@dataclass(frozen=True, kw_only=True)
class FlowDefinition(Definition):
    """A workflow with its inputs."""

    kind: ClassVar[str] = "workflow"

    file: str
    """Name of its file, in the folder that all paths are relative to; without a file its own name."""
    in_file: bool
    """Whether there is such a file."""
    definition: d.Workflow
    given: dict[str, Value]
    """Values of its inputs."""
    max_workers: int
    changed: Changed = "ask"
    """What was said about finished tasks with other code."""
    context: Mapping[str, Value] = field(default_factory=dict)
    """What expressions know of the run."""
    built: Built = field(compare=False, repr=False)
    code: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Digests of the code cells of each notebook, and of the module of each function, to tell which one changed."""

    @property
    def inputs(self) -> dict[str, Value]:
        """What all tasks share."""
        return self.given

    @property
    def workers(self) -> int:
        """Tasks in flight at most."""
        return self.max_workers

    @property
    def kernels(self) -> tuple[str, ...]:
        """Names of its kernels."""
        return tuple(self.built.kernels)

    @property
    def notebooks(self) -> Mapping[str, Notebook]:
        """Its notebooks, by the path of their steps."""
        return self.built.notebooks

    def workflow(self) -> Workflow:
        """Give the workflow that this is."""
        from ..durations import seconds

        limit = self.definition.timeout
        return Workflow(
            name=self.file,
            block=self.built.block,
            inputs=self.given,
            context=self.context,
            max_workers=self.max_workers,
            timeout=None if limit is None else seconds(limit),
        )

    def settled(self) -> tuple[object, ...]:
        """Give what is kept of it also where no task runs."""
        return self.definition, self.given, self.code

    def changed_since(self, before: Definition, codes: Iterable[str]) -> str:  # noqa: ARG002 - by what was run then
        """Tell which code differs from that of an earlier definition."""
        assert isinstance(before, FlowDefinition)
        words = []
        for path, now in self.code.items():
            then = before.code.get(path)
            if then is not None and then != now:
                words.append(f"{_places(then, now)} of {path}" if path in self.notebooks else f"code of {path}")
        return ", ".join(words) or "its code"

    def data(self, limit: int | None = None) -> dict[str, Any]:  # noqa: ARG002 - a definition has no items
        """Give what JSON can hold of it."""
        return {
            "nbflow": FORMAT,
            "kind": self.kind,
            "file": self.file,
            "in_file": self.in_file,
            "definition": tagged(self.definition.data()),
            "inputs": tagged(self.given),
            "max_workers": self.max_workers,
            "changed": self.changed,
            "code": {path: list(digests) for path, digests in self.code.items()},
            "files": dict(self.built.files),
        }

    @property
    def known(self) -> bool:
        """Whether all notebooks that it was made of can be looked into."""
        return all(path in self.notebooks or not path.partition("#")[0].endswith(".ipynb") for path in self.code)

    @staticmethod
    def read(data: Mapping[str, Any], place: Path, home: Path, sources: Path) -> FlowDefinition:
        """Read what :meth:`data` gave, to look at the run.

        Parameters
        ----------
        data : mapping
            What was written.
        place : Path
            Where it stands, for messages.
        home : Path
            The workflow's folder.
        sources : Path
            Where the run keeps copies of its notebooks.

        Raises
        ------
        StoreError
            If it is not whole.
        """
        try:
            definition = define(untagged(data["definition"]), Source(str(data["file"])), kinds())
            code = {path: tuple(digests) for path, digests in data["code"].items()}
            files = Kept(home, data["files"], partial(_copied, sources, code))
            built = build(definition, Source(str(data["file"])), files, makers=makers())
            return FlowDefinition(
                file=data["file"],
                in_file=bool(data["in_file"]),
                definition=definition,
                given=untagged(data["inputs"]),
                max_workers=int(data["max_workers"]),
                changed=data["changed"],
                built=built,
                code=code,
                context={"workflow_dir": str(home)},
            )
        except (TypeError, ValueError, KeyError, AttributeError, NbflowError) as problem:
            raise StoreError(f"{place}: the definition cannot be read: {problem}", _BROKEN) from problem


def flow_definition(
    definition: d.Workflow,
    source: Source,
    files: Files,
    *,
    given: Mapping[str, Any],
    text: bool,
    in_file: bool,
    max_workers: int,
    changed: Changed = "ask",
) -> FlowDefinition:
    """Build a workflow and take its inputs.

    Raises
    ------
    RefusedError
        If it cannot run.
    """
    built = build(definition, source, files, makers=makers())
    built.warnings += doubts(built.block, files.folder, os.environ)
    code = {path: notebook.cell_digests for path, notebook in built.notebooks.items()}
    code.update((function, (source,)) for function, source in built.functions.items())
    return FlowDefinition(
        file=source.name,
        in_file=in_file,
        definition=definition,
        given=fit_all(definition.inputs, given, text=text),
        max_workers=max_workers,
        changed=changed,
        built=built,
        code=code,
        context={"workflow_dir": str(files.folder.absolute())},
    )


def of_run(definition: FlowDefinition, run_id: str) -> FlowDefinition:
    """Give the definition of one run: its expressions know its id."""
    return replace(definition, context={**definition.context, "run_id": run_id})


def _copied(sources: Path, code: Mapping[str, tuple[str, ...]], path: str) -> Notebook | None:
    """Give the copy of a notebook that has the code which the run says."""
    wanted = [digests for name, digests in code.items() if name.partition("#")[0] == path]
    first = copy_of(sources, path)
    for file in sorted(first.parent.glob(f"{glob.escape(first.stem)}*{first.suffix}"), reverse=True):
        try:
            found = read_notebook(file)
        except NbflowError:
            continue
        if found.cell_digests in wanted or any(set(digests) <= set(found.cell_digests) for digests in wanted):
            return found
    return None


def copy_of(sources: Path, path: str) -> Path:
    """Give where a run keeps its copy of a file: below the folder for that, wherever the file itself is."""
    return sources / path.replace("../", "_/").lstrip("/")


def _places(before: Sequence[str], now: Sequence[str]) -> str:
    """Give which code cells differ, for people: ``cell 5``, ``cells 2, 5``."""
    cells = changed_cells(before, now)
    return f"cell{'s' * (len(cells) > 1)} {', '.join(map(str, cells))}" if cells else "code"
