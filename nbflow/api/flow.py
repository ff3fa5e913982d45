"""The definition of a workflow's run: what it says, its inputs, and what it was made of."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from .. import definition as d
from ..engine.kinds import Kind
from ..errors import NbflowError, StoreError
from ..loading.building import Built, Files, Kept, build
from ..loading.inputs import fit_all
from ..loading.workflow_file import Source, define
from ..model import Block, NodeId, Step, TaskStep, Workflow
from ..source import Notebook, changed_cells, parsed, read_notebook
from ..store.journal import Records
from ..task import Runner
from ..types import Changed
from ..values import Value, tagged, untagged
from .definition import FORMAT, Definition, code_of, copy_of
from .kinds import flows, kinds, makers, runners
from .order import tokens
from .requirements import doubts

if TYPE_CHECKING:
    from ..notebooks.whole import Whole

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
    chosen: frozenset[str] = frozenset()
    """Names of the inputs that somebody gave; the others follow the defaults of the file."""
    max_workers: int
    start: Value = None
    """How kernels start, where somebody said it for all steps: the data of a :class:`KernelStart`."""
    max_memory: str | float | None = None
    changed: Changed = "ask"
    """What was said about finished tasks with other code."""
    context: Mapping[str, Value] = field(default_factory=dict)
    """What expressions know of the run."""
    built: Built = field(compare=False, repr=False)
    code: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Digests of the code cells of each notebook, and of the module of each function, to tell which one changed."""
    codes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The same of other code under which tasks ended, by what their fingerprints begin with."""

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

    def flows(self) -> Mapping[type[Step], Kind]:
        """Give the generators of all kinds, those of plug-ins too."""
        return flows()

    def runners(self, folder: Path, run_id: str) -> Mapping[type[Step], Runner]:
        """Give what carries out tasks of all kinds but notebooks."""
        return runners(folder, run_id)

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

    @property
    def defaults(self) -> dict[str, Value]:
        """The defaults of its inputs."""
        return {name: one.default for name, one in self.definition.inputs.items()}

    @property
    def said(self) -> dict[tuple[str, ...], Value]:
        """What it says of the work of each task, by the ids on the way to its step."""
        return {path: step.fixed for path, step in steps_below(self.built.block).items() if isinstance(step, TaskStep)}

    def followed(self, before: FlowDefinition) -> list[str]:
        """Give the names of the inputs whose values differ because the file has other defaults now."""
        return [n for n, value in self.given.items() if n not in self.chosen and before.given.get(n, value) != value]

    def keeping(self, before: FlowDefinition) -> FlowDefinition:
        """Give it with the values that inputs had, where only the file has others now."""
        return replace(self, given={**self.given, **{name: before.given[name] for name in self.followed(before)}})

    def after(self, before: FlowDefinition, records: Records) -> FlowDefinition:
        """Give it with what the code was under which tasks ended: a question names what changed since."""
        known = {**before.codes, **before._own_codes()}
        used = set(map(code_of, records.answers.values())) - {*self._own_codes()}
        return replace(self, codes={code: known[code] for code in sorted(used) if code in known})

    def _own_codes(self) -> dict[str, tuple[str, ...]]:
        steps = [step for step in steps_below(self.built.block).values() if isinstance(step, TaskStep)]
        return {step.code_digest: self.code[step.origin] for step in steps if step.origin in self.code}

    def changed_since(self, before: Definition, ended: Mapping[NodeId, str]) -> str:
        """Tell which code of some tasks, and which default, differs from that of an earlier definition."""
        assert isinstance(before, FlowDefinition)
        words = [self.code_since(before, ended), *(f"default of {name}" for name in self.followed(before))]
        return ", ".join(filter(None, words)) or "its code"

    def code_since(self, before: FlowDefinition, ended: Mapping[NodeId, str]) -> str:
        """Tell which code of some tasks differs from that of an earlier definition."""
        steps = steps_below(self.built.block)
        places: dict[str, set[int]] = {}
        words: dict[str, None] = {}
        for path, code in dict.fromkeys((path_of(node), code) for node, code in ended.items()):
            step = steps[path]
            assert isinstance(step, TaskStep)
            old, now = self.codes.get(code, before.code.get(step.origin)), self.code.get(step.origin)
            (content, _, said), (content_now, _, said_now) = code.partition("-"), step.code_digest.partition("-")
            if content != content_now and old is not None and now is not None and old != now:
                file = step.origin.partition("#")[0]
                places.setdefault(file, set()).update(self._places(step.origin, old, now))
                words[file] = None
            if said and said != said_now:
                words[f"step {'/'.join(path)}"] = None
        return ", ".join(f"{_cells(places[word])} of {word}" if word in places else word for word in words)

    def whole(self, folder: Path) -> Whole | None:
        """Give what makes one notebook of those of its steps, where it is the steps of one."""
        if not (self.in_file and self.file.endswith(".ipynb")):
            return None
        from ..notebooks.whole import Whole

        raw = next(iter(self.notebooks.values())).raw
        return Whole(parsed(Path(self.file), raw), folder)

    def _places(self, origin: str, before: Sequence[str], now: Sequence[str]) -> list[int]:
        """Give which code cells differ, as their file counts them; none of what is no notebook."""
        if origin not in self.notebooks:
            return []
        there = self.notebooks[origin].cells
        return [there[place - 1].number for place in changed_cells(before, now)]

    def data(self, limit: int | None = None) -> dict[str, Any]:  # noqa: ARG002 - a definition has no items
        """Give what JSON can hold of it."""
        return {
            "nbflow": FORMAT,
            "kind": self.kind,
            "file": self.file,
            "in_file": self.in_file,
            "definition": tagged(self.definition.data()),
            "inputs": tagged(self.given),
            "chosen": sorted(self.chosen),
            "max_workers": self.max_workers,
            "start": self.start,
            "max_memory": self.max_memory,
            "changed": self.changed,
            "code": {path: list(digests) for path, digests in self.code.items()},
            "codes": {code: list(digests) for code, digests in self.codes.items()},
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
                given=(given := untagged(data["inputs"])),
                chosen=frozenset(data["chosen"] if "chosen" in data else _not_defaults(definition, given)),
                max_workers=int(data["max_workers"]),
                start=data.get("start"),
                max_memory=data.get("max_memory"),
                changed=data["changed"],
                built=built,
                code=code,
                codes={digest: tuple(digests) for digest, digests in data.get("codes", {}).items()},
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
    max_memory: str | float | None = None,
    changed: Changed = "ask",
) -> FlowDefinition:
    """Build a workflow and take its inputs.

    Raises
    ------
    RefusedError
        If it cannot run.
    """
    built = build(definition, source, files, makers=makers())
    built.warnings += [*source.warnings, *doubts(built.block, files.folder, os.environ)]
    code = {path: notebook.cell_digests for path, notebook in built.notebooks.items()}
    code.update((function, (source,)) for function, source in built.functions.items())
    return FlowDefinition(
        file=source.name,
        in_file=in_file,
        definition=definition,
        given=fit_all(definition.inputs, given, text=text),
        chosen=frozenset(given),
        max_workers=max_workers,
        max_memory=max_memory,
        changed=changed,
        built=built,
        code=code,
        context={"workflow_dir": str(files.folder.absolute())},
    )


def _not_defaults(definition: d.Workflow, given: Mapping[str, Value]) -> set[str]:
    """Give the inputs of a run that did not write down yet which were given: those that are not their defaults."""
    return {name for name, value in given.items() if definition.inputs[name].default != value}


def of_run(definition: FlowDefinition, run_id: str) -> FlowDefinition:
    """Give the definition of one run: its expressions know its id."""
    return replace(definition, context={**definition.context, "run_id": run_id})


def _cells(places: Iterable[int]) -> str:
    """Give what cells are called: ``cell 5``, ``cells 2, 5``; ``code`` where there are none."""
    numbers = sorted(places)
    return f"cell{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}" if numbers else "code"


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


# -- where a node stands ------------------------------------------------------------------------------------------


def path_of(node: NodeId) -> tuple[str, ...]:
    """Give the ids of the steps on the way to a node."""
    return tuple(step_id for step_id, _ in tokens(node))


def steps_below(block: Block) -> dict[tuple[str, ...], Step]:
    """Give all steps of a list, at any depth, by the ids on the way to each."""
    found: dict[tuple[str, ...], Step] = {}
    for step in block.steps:
        found[(step.id,)] = step
        for inner in step.blocks:
            found.update({(step.id, *path): one for path, one in steps_below(inner).items()})
    return found
