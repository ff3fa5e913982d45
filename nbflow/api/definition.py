"""Definitions of runs: all that is needed to run them again, as it stands in run folder and checkpoint."""

from __future__ import annotations

import os
import re
import shlex
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ..engine.kinds import KINDS, Kind
from ..errors import ParameterError, StoreError, TargetError, did_you_mean
from ..events import NodeFinished
from ..loading.scalars import core
from ..masking import Masker
from ..model import (
    NOTHING,
    START_PROBLEMS,
    Binding,
    Block,
    Literal,
    Merged,
    Name,
    NodeId,
    Step,
    Workflow,
    label,
    node_text,
    retries,
)
from ..outcome import Record
from ..source import Notebook, changed_cells
from ..steps import FanOut, NotebookStep
from ..store.journal import Records
from ..task import Runner
from ..types import Changed
from ..values import Value, dumps, tagged, untagged

if TYPE_CHECKING:
    from ..notebooks.whole import Whole

FORMAT = 1
"""Version of what is written; a newer one is refused."""


class Definition(ABC):
    """What a run does, of either kind."""

    kind: ClassVar[str]
    changed: Changed

    @property
    @abstractmethod
    def inputs(self) -> dict[str, Value]:
        """What all tasks share."""

    @property
    @abstractmethod
    def workers(self) -> int:
        """Tasks in flight at most."""

    max_memory: str | float | None
    """Memory that the tasks may use together, as it was said; none: as much as there is."""

    @property
    @abstractmethod
    def kernels(self) -> tuple[str, ...]:
        """Names of its kernels."""

    @abstractmethod
    def workflow(self) -> Workflow:
        """Give the workflow that this is."""

    @abstractmethod
    def data(self, limit: int | None = None) -> dict[str, Value]:
        """Give what JSON can hold of it; with more items than ``limit`` their list is left out."""

    @abstractmethod
    def settled(self) -> tuple[object, ...]:
        """Give what is kept of it, or leads to something, also where no task runs."""

    @abstractmethod
    def changed_since(self, before: Definition, ended: Mapping[NodeId, str]) -> str:
        """Tell what differs from an earlier definition of the same kind, for tasks that ended under these codes."""

    def as_run(self, notebooks: Mapping[str, Notebook]) -> Mapping[str, Notebook]:
        """Give the notebooks as they are run."""
        return notebooks

    @property
    def known(self) -> bool:
        """Whether all that it was made of is still there."""
        return True

    def flows(self) -> Mapping[type[Step], Kind]:
        """Give the generators of each class of step that may stand in it."""
        return KINDS

    def runners(self, folder: Path, run_id: str) -> Mapping[type[Step], Runner]:  # noqa: ARG002 - a workflow's need them
        """Give what carries out its tasks, notebooks apart."""
        return {}

    @property
    def apart(self) -> str:
        """What gives each item a folder of its own, as it is written."""
        return "cwd: item"

    def called(self, event: NodeFinished) -> str:
        """Give what people call a task."""
        return event.label or node_text(event.node)

    start: Value
    """How kernels start, where somebody said it for all steps."""

    def whole(self, folder: Path) -> Whole | None:  # noqa: ARG002 - only the steps of one notebook make it whole again
        """Give what makes one notebook of those of its steps."""
        return None

    def copies(self, folder: Path) -> dict[int, Path]:  # noqa: ARG002 - maps alone have them
        """Give where copies of finished notebooks go, by index."""
        return {}


@dataclass(frozen=True, kw_only=True)
class MapDefinition(Definition):
    """One notebook over many parameter sets."""

    kind: ClassVar[str] = "map"

    notebook: str
    """File name of the notebook, in the folder that all paths are relative to."""
    items: list[dict[str, Value]]
    """One mapping of parameters per item, in item order."""
    shared: dict[str, Value]
    """Parameters that all items share."""
    varying: tuple[str, ...]
    """Names by which items are called."""
    source: str
    """Digest of the notebook's code."""
    cells: tuple[str, ...]
    """Digests of its code cells, to tell which one changed."""
    kernel: str
    """Name of the kernel: the notebook's own as it is now, unless another was asked for."""
    max_concurrency: int
    """Items in flight at most."""
    outputs: tuple[str, ...] = ()
    """Names asked for as results; none: those of the cell tagged ``results``."""
    cwd: str = "notebook"
    start: Value = None
    """How kernels start, where somebody said it: the data of a :class:`KernelStart`."""
    timeout: float | None = None
    """Seconds that an item may take."""
    memory: int | None = None
    """Bytes of memory that an item needs."""
    max_memory: str | float | None = None
    retry: int = 0
    """Tries per item; 0: only a kernel that did not start is tried again."""
    fail_fast: bool = False
    max_failures: int | None = None
    output_dir: str | None = None
    name: str | None = None
    """How finished notebooks are called in ``output_dir``."""
    secrets: tuple[str, ...] = ()
    kernel_asked: bool = False
    """Whether the kernel was asked for (``-k``)."""
    codes: dict[str, list[str]] = field(default_factory=dict)
    """Kernel and cell digests of other codes under which items ended, by what their fingerprints begin with."""
    changed: Changed = "ask"
    """What was said about finished items with other code."""

    def workflow(self) -> Workflow:
        """Give the workflow that this is: one fan-out over one notebook.

        The kernel stands with the code: both are the notebook's, and a change of either raises the same question.
        """
        parameters: Binding = Merged((Name("item"), Literal(self.shared))) if self.shared else Name("item")
        step = NotebookStep(
            id="notebook",
            path=self.notebook,
            source=self._content,
            outputs=self.outputs,
            cwd=self.cwd,
            secrets=self.secrets,
            timeout=self.timeout,
            memory=self.memory,
            parameters=parameters if self.items else NOTHING,
            retry=retries(self.retry) if self.retry else START_PROBLEMS,
        )
        fan = FanOut(
            id="map",
            items=Literal(list(self.items)),
            body=Block([step]),
            max_concurrency=Literal(self.max_concurrency),
            on_error="halt" if self.fail_fast else "continue",
            max_failures=self.max_failures,
            varying=self.varying,
            says_step=False,
        )
        return Workflow(name=self.notebook, block=Block([fan]), inputs=self.shared, max_workers=self.max_concurrency)

    @property
    def inputs(self) -> dict[str, Value]:
        """What all items share."""
        return self.shared

    @property
    def workers(self) -> int:
        """Items in flight at most."""
        return self.max_concurrency

    @property
    def kernels(self) -> tuple[str, ...]:
        """The one that it has."""
        return (self.kernel,)

    def settled(self) -> tuple[object, ...]:
        """Give its items, what they share, its code, and where copies go."""
        return self.items, self.shared, self.source, self.kernel, self.output_dir, self.name

    def changed_since(self, before: Definition, ended: Mapping[NodeId, str]) -> str:  # noqa: ARG002 - it knows the codes itself
        """Tell which cells differ, and whether the kernel does."""
        return changes({*ended.values()}, self)

    def copies(self, folder: Path) -> dict[int, Path]:
        """Give where the copies of finished notebooks go, by index."""
        from .copies import names

        if self.output_dir is None:
            return {}
        return {index: folder / self.output_dir / name for index, name in enumerate(names(self))}

    def as_run(self, notebooks: Mapping[str, Notebook]) -> Mapping[str, Notebook]:
        """Give its notebook with the kernel in which it runs."""
        return {path: replace(notebook, kernel=self.kernel) for path, notebook in notebooks.items()}

    @property
    def apart(self) -> str:
        """What gives each item a folder of its own, as it is typed."""
        return "--cwd item"

    def called(self, event: NodeFinished) -> str:
        """Give what people call an item."""
        return event.label if event.index is None else self.label(event.index)

    def of(self, notebook: Notebook) -> MapDefinition:
        """Give this map with the notebook as it is now."""
        kernel = self.kernel if self.kernel_asked else own_kernel(notebook)
        return replace(self, source=notebook.digest, cells=notebook.cell_digests, kernel=kernel)

    @property
    def code(self) -> str:
        """What the fingerprints of its items begin with: the digest of code and kernel."""
        return NotebookStep(id="notebook", path=self.notebook, source=self._content).code_digest

    @property
    def _content(self) -> str:
        return f"{self.source} {self.kernel}"

    def after(self, before: MapDefinition, records: Records) -> MapDefinition:
        """Give this map with what the codes were under which items ended: a question names what changed since."""
        known = {**before.codes, before.code: [before.kernel, *before.cells]}
        used = {code_of(record) for record in records.answers.values()} - {self.code}
        return replace(self, codes={code: known[code] for code in sorted(used) if code in known})

    def label(self, index: int) -> str:
        """Give what people call an item."""
        return label(self.items[index], self.varying) or f"item {index}"

    def parameters(self, index: int) -> dict[str, Value]:
        """Give all parameters of an item."""
        return {**self.items[index], **self.shared}

    def data(self, limit: int | None = None) -> dict[str, Value]:
        """Give what JSON can hold of it; with more items than ``limit`` their list is left out."""
        names = [one.name for one in fields(self) if one.name != "items"]
        data = {name: tagged(_plain(getattr(self, name))) for name in names}
        if limit is None or len(self.items) <= limit:
            data["items"] = [tagged(item) for item in self.items]
        return {"nbflow": FORMAT, "kind": self.kind, "count": len(self.items), **data}

    @staticmethod
    def read(data: Mapping[str, Value], place: Path) -> MapDefinition:
        """Read what :meth:`data` gave.

        Raises
        ------
        StoreError
            If it is of a newer version, or not whole.
        """
        if not isinstance(data, Mapping):
            raise StoreError(f"{place}: is no definition of a run ({str(data)[:40]})", _BROKEN)
        version = data.get("nbflow")
        if version != FORMAT or data.get("kind") != "map":
            raise StoreError(
                f"{place}: a definition of version {version!r}, kind {data.get('kind')!r}; this nbflow reads 1, 'map'",
                "It was written by another nbflow: use that one, or pip install -U nbflow.",
            )
        if "items" not in data:
            raise StoreError(
                f"{place}: lists no items, for there are {data.get('count')}, and the run folder that has them is gone",
                "Put the folder back from a copy, or start again: nbflow map NOTEBOOK --items FILE",
            )
        try:
            known = {one.name: untagged(data[one.name]) for one in fields(MapDefinition) if one.name in data}
            for name in ("varying", "cells", "outputs", "secrets"):
                known[name] = tuple(known[name])
            known["codes"] = {str(code): list(digests) for code, digests in known.get("codes", {}).items()}
            definition = MapDefinition(**known)
        except (TypeError, ValueError, KeyError, AttributeError) as problem:
            raise StoreError(f"{place}: the definition cannot be read: {problem}", _BROKEN) from problem
        items: object = definition.items
        if not isinstance(items, list) or not all(isinstance(part, dict) for part in (*items, definition.shared)):
            raise StoreError(f"{place}: its items are no list of parameters by name", _BROKEN)
        return definition


_BROKEN = "Restore the file from a copy."


def _plain(value: object) -> Value:
    return list(value) if isinstance(value, tuple) else value  # type: ignore[return-value]  # fields hold values and tuples


def find_item(definition: MapDefinition, text: str, target: str = "") -> int:
    """Give the index of the item that a person means: an index from 0, or ``city=Cairo``.

    Parameters
    ----------
    definition : MapDefinition
        Whose items.
    text : str
        What was typed; values are compared as values, so that ``lat=2`` is the item whose ``lat`` is 2.0.
    target : str
        What its run is called in commands; by default the notebook's name.

    Raises
    ------
    TargetError
        If no item is called so, or several are.
    """
    count = len(definition.items)
    if text.isdecimal():
        if int(text) < count:
            return int(text)
        there = f"there is 1 item, {definition.label(0)}, and its index is 0" if count == 1 else ""
        there = there or (f"there are {count:,} items, from 0 to {count - 1}" if count else "it has no items")
        raise TargetError(
            f"item {text}: {there}", f"nbflow results {shlex.quote(target or definition.notebook)} lists them."
        )
    wanted = dict(part.partition("=")[::2] for part in _NEXT.split(text.strip()))
    found = [i for i in range(count) if definition.label(i) == text]
    if not found and text.strip():
        found = [i for i in range(count) if _fits(definition.parameters(i), wanted)]
    if len(found) == 1:
        return found[0]
    if not found:
        example = (
            f"Items are called like {definition.label(0)!r}, or by their index from 0." if count else "It has no items."
        )
        raise TargetError(f"{text!r}: no item is called so{_suggested(definition, text)}", example)
    names = ", ".join(f"{i} ({definition.label(i)})" for i in found[:5])
    raise TargetError(f"{text!r}: {len(found)} items are called so: {names}", "Name one by its index.")


_NEXT = re.compile(r"\s+(?=[^\s=]+=)")
"""What stands before the next name: a value may have spaces in it."""
_SEARCHED = 5000
"""Items among which near ones are looked for: comparing texts takes its time."""


def _fits(parameters: Mapping[str, Value], wanted: Mapping[str, str]) -> bool:
    return all(name in parameters and _written(parameters[name], text) for name, text in wanted.items())


def _written(value: Value, text: str) -> bool:
    """Whether a text is one of the ways to write a value."""
    if str(value) == text:
        return True
    try:
        read = core(text)
    except ParameterError:  # it begins like a list, and is none
        return False
    number = type(value) in (int, float) and type(read) in (int, float)  # true is not 1 here, though Python says so
    return (number or type(read) is type(value)) and read == value


def _suggested(definition: MapDefinition, text: str) -> str:
    """Give a question with the label that was meant: of the only item with this value, or the nearest one."""
    count = min(len(definition.items), _SEARCHED)
    same = [i for i in range(count) if any(_written(value, text) for value in definition.items[i].values())]
    if len(same) == 1:
        return f". Did you mean {definition.label(same[0])!r}?"
    near = did_you_mean(text, [definition.label(i) for i in range(count)])
    return f".{near}" if near else ""


def from_home(folder: Path, given: str) -> str:
    """Give the path of a folder as a definition keeps it: from the notebook's folder, so that both can move.

    Parameters
    ----------
    folder : Path
        The notebook's.
    given : str
        A path from the working directory, or an absolute one: that stays so outside the notebook's folder.

    Examples
    --------
    >>> from_home(Path("/data/work"), "/data/work/out"), from_home(Path("/data/work"), "/data/out")
    ('out', '/data/out')
    """
    path = Path(os.path.abspath(given))  # noqa: PTH100 - symlinks stay as they are named
    if path.is_relative_to(folder):
        near = str(path.relative_to(folder))
    elif Path(given).is_absolute():
        near = str(path)
    else:
        near = os.path.relpath(path, folder.resolve())
    return f"./{near}" if near in ("notebook", "item") else near  # those two words mean something else


def check_secrets(definition: MapDefinition, environment: Mapping[str, str]) -> None:
    """Check that no parameter contains a secret: parameters are written down, and names of items are made of them.

    Raises
    ------
    ParameterError
        If one does; the message does not say the secret.
    """
    maskers = {name: Masker.of_environment([name], environment) for name in definition.secrets}
    places = [("", definition.shared), *((f"item {i}: ", item) for i, item in enumerate(definition.items))]
    for secret, masker in maskers.items():
        for place, parameters in places if masker else ():
            for name, value in parameters.items():
                text = dumps(value)
                if masker.json(text) != text:
                    raise ParameterError(
                        f"{place}{name} contains the value of --secret {secret}, and parameters are written down",
                        f"Take it out, and read it from the environment in the notebook: os.environ['{secret}']",
                    )


def own_kernel(notebook: Notebook) -> str:
    """Give the kernel that a notebook names, or Python's."""
    return notebook.kernel or "python3"


def code_of(record: Record) -> str:
    """Give what tells under which code an item ended: the first part of its fingerprint."""
    return record.fingerprint.partition(".")[0]


def changes(codes: Iterable[str], now: MapDefinition) -> str:
    """Give what differs from earlier codes, for people: ``cell 5``, ``cells 2, 5``, ``the kernel (old, now new)``.

    Parameters
    ----------
    codes : iterable of str
        What the fingerprints of the items begin with that it is about.
    now : MapDefinition
        The map as it is now; it knows those codes.
    """
    known = [now.codes[code] for code in codes if code in now.codes]
    cells = sorted({cell for _, *digests in known for cell in changed_cells(digests, now.cells)})
    kernels = sorted({kernel for kernel, *_ in known} - {now.kernel})
    places = [f"cell{'s' * (len(cells) > 1)} {', '.join(map(str, cells))}"] if cells else []
    places += [f"the kernel ({', '.join(kernels)}, now {now.kernel})"] if kernels else []
    return " and ".join(places) or "its code"


def copy_of(sources: Path, path: str) -> Path:
    """Give where a run keeps its copy of a file: below the folder for that, wherever the file itself is."""
    return sources / path.replace("../", "_/").lstrip("/")
