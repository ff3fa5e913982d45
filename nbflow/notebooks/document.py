"""The executed notebook: made from the source, saved while it runs, and true about every cell at the end."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from datetime import time as clock_time
from pathlib import Path
from typing import Any

import nbformat
import papermill
from nbformat.v4.nbjson import BytesEncoder
from nbformat.v4.rwbase import split_lines, strip_transient
from papermill.engines import NotebookExecutionManager
from papermill.execute import ERROR_ANCHOR_MSG, ERROR_MARKER_TAG, ERROR_MESSAGE_TEMPLATE, remove_error_markers
from papermill.parameterize import parameterize_notebook
from papermill.translators import PythonTranslator, translate_parameters

from ..files import write_atomically
from ..masking import Masker
from ..source import Cell
from ..values import argument
from .execution import Ending
from .pace import Pace

__all__ = ["Document", "SaveManager", "write_notebook"]

_NAMES = {"timeout": "TimeoutError", "cancelled": "Cancelled", "dead-kernel": "DeadKernelError"}


class _Python(PythonTranslator):  # type: ignore[misc] # papermill has no types
    """Writes values as Python code, dates too."""

    @classmethod
    def translate(cls, val: Any) -> str:
        """Give the code for a value."""
        kind = type(val)
        if kind in (date, datetime, clock_time):
            return f"__import__('datetime').{kind.__name__}.fromisoformat('{val.isoformat()}')"
        if kind is timedelta:
            return f"__import__('datetime').timedelta({val.days}, {val.seconds}, {val.microseconds})"
        return str(super().translate(val))


class Document:
    """One notebook on its way from source to result.

    Parameters
    ----------
    nb : NotebookNode
        The notebook that is executed; every cell has an id.
    known : mapping of str to Cell
        The source's code cells by the ids of their copies.
    """

    def __init__(self, nb: Any, known: Mapping[str, Cell]) -> None:
        self.nb = nb
        self._known = known
        self._parameters = next((cell for cell in known.values() if "parameters" in cell.tags), None)

    @classmethod
    def with_parameters(
        cls,
        data: Mapping[str, Any],
        cells: Sequence[Cell],
        parameters: Mapping[str, Any],
        kernel: str,
        language: str,
    ) -> Document:
        """Make the notebook that is executed from the source, which is not changed.

        Parameters
        ----------
        data : mapping
            The source's parsed JSON.
        cells : sequence of Cell
            Its code cells.
        parameters : mapping
            Plain values by name; papermill puts them behind the cell tagged ``parameters``.
        kernel, language : str
            Name and language of the kernel.
        """
        nb = _upgraded(nbformat.v4.to_notebook(data))
        code = (cell for cell in nb.cells if cell.cell_type == "code")
        known = {cell["id"]: source for cell, source in zip(code, cells, strict=True)}
        _tag_by_comment(nb, known)
        if parameters:
            nb = parameterize_notebook(nb, dict(parameters), kernel_name=kernel, language=language)
        return cls(remove_error_markers(nb), known)

    def source_of(self, cell: Any) -> Cell | None:
        """Give the source's code cell; ``None`` for the one that papermill put in."""
        return self._known.get(cell["id"])

    def code_ids(self) -> list[str]:
        """Give the ids of the source's code cells, in order."""
        return [cell["id"] for cell in self.nb.cells if cell["id"] in self._known]

    def belongs(self, ids: Sequence[str], step_id: str, *, repeated: bool) -> None:
        """Note to which step cells belong: so one notebook can be made of those of all steps."""
        for cell in self.nb.cells:
            if cell["id"] in ids:
                known = self._known[cell["id"]]
                cell.metadata["nbflow"] = {"step": step_id, "cell": known.number, "repeated": repeated}

    def assign_before(self, cell_id: str, values: Mapping[str, Any], kernel: str, language: str) -> str:
        """Put a cell in front of another that assigns names, as papermill does for parameters; gives its id."""
        source = (
            _Python.codify(values) if language == "python" else translate_parameters(kernel, language, argument(values))
        )
        cell = nbformat.v4.new_code_cell(source)
        cell.metadata.update(tags=["injected-parameters"], papermill={})
        at = next(at for at, other in enumerate(self.nb.cells) if other["id"] == cell_id)
        cell.metadata["nbflow"] = {**self.nb.cells[at].metadata["nbflow"]}
        self.nb.cells.insert(at, cell)
        return str(cell["id"])

    def number_of(self, cell: Any) -> int | None:
        """Give the number that people know; the injected cell has that of the parameters it overrides."""
        known = self._known.get(cell["id"], self._parameters)
        return known.number if known is not None else None

    def conclude(self, manager: NotebookExecutionManager, ending: Ending) -> None:
        """Make the states of all cells true, and show where it ended badly.

        Cells that did not run are ``pending``, also in a notebook that completed early.
        """
        manager.end_time = manager.now()
        metadata = self.nb.metadata.papermill
        metadata["end_time"] = manager.end_time.isoformat()
        metadata["duration"] = (manager.end_time - manager.start_time).total_seconds()
        metadata["exception"] = None if ending.how == "completed" else True
        for index, cell in enumerate(self.nb.cells):
            state = cell.metadata["papermill"]
            if index == ending.index:
                state.update(status="failed", exception=True)
            elif state["status"] == "running":
                state.update(status="pending", exception=None, start_time=None, end_time=None, duration=None)
        if ending.index is not None:
            _tell(self.nb.cells[ending.index], ending)

    def point_to(self, failed: int) -> None:
        """Put papermill's banner at the top, and its anchor before the failed cell."""
        cell = self.nb.cells[failed]
        anchor = nbformat.v4.new_markdown_cell(ERROR_ANCHOR_MSG)
        banner = nbformat.v4.new_markdown_cell(ERROR_MESSAGE_TEMPLATE % (cell.get("execution_count") or " "))
        for marker in (anchor, banner):
            marker.metadata["tags"] = [ERROR_MARKER_TAG]
        self.nb.cells.insert(failed, anchor)
        self.nb.cells.insert(0, banner)


def _upgraded(nb: Any) -> Any:
    """Give the notebook in the newest format, with what papermill expects in it."""
    nb = nbformat.v4.upgrade(nb) or nb
    ids: set[str] = set()
    for cell in nb.cells:
        if not cell.get("id") or cell["id"] in ids:
            cell["id"] = nbformat.v4.new_raw_cell()["id"]
        ids.add(cell["id"])
        cell.metadata.setdefault("tags", [])
        cell.metadata.setdefault("papermill", {})
    nb.metadata["papermill"] = {
        "default_parameters": {},
        "parameters": {},
        "environment_variables": {},
        "version": papermill.__version__,
    }
    return nb


def _tag_by_comment(nb: Any, known_cells: Mapping[str, Cell]) -> None:
    """Make papermill and nbclient see what a first line ``# nbflow: parameters`` says."""
    for cell in nb.cells:
        known = known_cells.get(cell["id"])
        if known is not None:
            cell.metadata["tags"] += sorted(known.tags - set(cell.metadata["tags"]))


class SaveManager(NotebookExecutionManager):  # type: ignore[misc]  # papermill is untyped
    """papermill's bookkeeping of cells, with saving that a crash cannot tear.

    Parameters
    ----------
    nb : NotebookNode
        The notebook.
    path : Path
        Where it stands while it runs.
    masker : Masker
        Takes secrets out of what is written.
    """

    def __init__(self, nb: Any, path: Path, masker: Masker) -> None:
        super().__init__(nb, output_path=None, progress_bar=False)
        self.path = path
        self._masker = masker
        self._pace = Pace()
        self.before_save: Callable[[], None] = lambda: None

    def save(self, **kwargs: Any) -> None:
        """Save, if the last time is a second ago."""
        if "nb" in kwargs:
            self.nb = kwargs["nb"]
        self._pace.offer(self._save)

    def catch_up(self) -> None:
        """Save what a cell that says nothing has not saved."""
        self._pace.catch_up(self._save)

    def save_now(self) -> None:
        """Save the notebook as it stands."""
        self._pace.now(self._save)

    def _save(self) -> None:
        self.before_save()
        write_notebook(self.nb, self.path, self._masker)

    def cell_complete(self, cell: Any, cell_index: int | None = None, **_: Any) -> None:  # noqa: ARG002 - papermill's signature
        """Note the end of a cell, as papermill does, who reads the time of its start with a parser of all dates."""
        end, metadata = self.now(), cell.metadata.papermill
        metadata["end_time"] = end.isoformat()
        if metadata.get("start_time"):
            metadata["duration"] = (end - datetime.fromisoformat(metadata["start_time"])).total_seconds()
        if metadata["status"] != self.FAILED:
            metadata["status"] = self.COMPLETED
        self.save()

    def autosave_cell(self, **kwargs: Any) -> None:
        """Save during a long cell, as :meth:`save` does."""
        self.save(**kwargs)


def _tell(cell: Any, ending: Ending) -> None:
    """Make the cell's error say what happened, where the kernel could not say it or knew only of an interrupt."""
    interrupts = (
        [out for out in cell["outputs"] if out.get("ename") == "KeyboardInterrupt"] if ending.how != "error" else []
    )
    others = [out for out in cell["outputs"] if out not in interrupts]
    if any(out["output_type"] == "error" for out in others):
        return
    name = ending.exception or _NAMES.get(ending.how, "Error")
    lines = [line for out in interrupts for line in out["traceback"]] or (ending.traceback or "").splitlines()
    lines.append(f"{name}: {ending.message}")
    error = nbformat.v4.new_output("error", ename=name, evalue=ending.message, traceback=lines)
    cell["outputs"] = [*others, error]


def write_notebook(nb: Any, path: Path, masker: Masker) -> None:
    """Write a notebook so that a reader sees the old file or the new one, never half of it."""
    if masker:
        nb = nbformat.from_dict(json.loads(masker.json(json.dumps(nb))))
    split = strip_transient(split_lines(copy.deepcopy(nb)))  # as nbformat.v4.writes does it
    write_atomically(path, f"{indented(split)}\n".encode("utf-8", "backslashreplace"))


def indented(value: Any) -> str:
    """Give the JSON of a notebook as nbformat writes it: indented by one, sorted.

    The standard library does that in Python too, and half as fast: every piece goes up through all levels.
    """
    parts: list[str] = []
    _put(value, "\n", parts.append)
    return "".join(parts)


def _put(value: Any, line: str, put: Callable[[str], None]) -> None:
    inner, sign = f"{line} ", ""
    if isinstance(value, str):
        put(_quoted(value))
    elif isinstance(value, dict) and value:
        put("{")
        for key in sorted(value):
            put(f"{sign}{inner}{_quoted(key)}: ")
            _put(value[key], inner, put)
            sign = ","
        put(f"{line}}}")
    elif isinstance(value, (list, tuple)) and value:
        put("[")
        for one in value:
            put(f"{sign}{inner}")
            _put(one, inner, put)
            sign = ","
        put(f"{line}]")
    else:
        put(json.dumps(value, cls=BytesEncoder))


_quoted = json.JSONEncoder(ensure_ascii=False).encode
