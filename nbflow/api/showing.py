"""Showing runs: what the command line prints of them, as lines."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any, TextIO

from ..errors import LibraryError, NbflowError, ParameterError, StoreError
from ..events import GateOpened
from ..model import node_text
from ..notebooks.whole import executed_name
from ..reporters.audience import Reporter
from ..reporters.ending import Ending, Failed, ending, open_gates
from ..reporters.escape import for_file
from ..reporters.picture import total as tasks
from ..reporters.screen import Scene
from ..reporters.table import table
from ..reporters.text import Earlier, RunLine, Standing, Waiting, explain, head, status_list, status_one
from ..reporters.text import Planned as PlannedLine
from ..state import Active
from ..store.files import write_atomically
from ..store.home import all_runs, size
from ..store.lock import read_owner
from ..types import RunStatus
from ..values import File, Value, dumps, tagged
from .definition import MapDefinition
from .plugins import reporter
from .reading import Stored, locate
from .requests import Planned, PlannedNode, map_of
from .rows import ENDS
from .runs import Item, MapRun, Run, WorkflowRun, log_file, step_of
from .session import Request

TAIL = 100_000
"""Bytes at the end of a log in which the cell at work is looked for."""
SHORT = ("status", "seconds")
"""The columns at the end of a table that is shown."""
_CELL = re.compile(r"^--- cell (\d+)(.*)$", re.MULTILINE)


def write_lines(lines: list[str], file: TextIO) -> None:
    """Write lines to a person; what a file's encoding does not have is replaced."""
    file.write("".join(f"{for_file(line, file)}\n" for line in lines))
    file.flush()


def writable(text: str, file: TextIO) -> str:
    """Give text with ``?`` for what the file's encoding does not have."""
    return for_file(text, file)


def shown(
    request: Request,
    file: TextIO,
    earlier: Earlier | None = None,
    asking: Event | None = None,
    name: str | None = None,
) -> Reporter:
    """Give what shows a run at work: its head, then its progress.

    Parameters
    ----------
    request : Request
        What is about to begin.
    file : TextIO
        Terminal or log.
    earlier : Earlier, optional
        A run of the same notebook or workflow that is at work or unfinished.
    asking : threading.Event, optional
        Set while a question to a person has the terminal for itself.
    name : str, optional
        The reporter's; by default the one for where people watch.
    """
    definition, workers = request.definition, request.workers
    kept = len(request.plan().kept) if request.stored is not None else 0
    columns = shutil.get_terminal_size((80, 24)).columns if file.isatty() else None
    if isinstance(definition, MapDefinition):
        count, what = len(definition.items), "item"
    else:
        count, what = len(definition.workflow().block.steps), "step"
    kernels = ", ".join(definition.kernels)
    lines = head(request.home.name, count, workers, kernels, request.run_id, kept, earlier, columns, what)
    return reporter(name, Scene(workers, file, [*lines, ""], asking))


def end_lines(run: Run, target: str, state_dir: str | None, columns: int, *, warned: bool = False) -> list[str]:
    """Give what there is to say of a run that ended; without the warnings, where they were told at their time."""
    end = _ending(run, target, state_dir)
    return ending(replace(end, warnings=()) if warned else end, columns)


def _ending(run: Run, target: str, state_dir: str | None) -> Ending:
    progress, limit = run.progress, ""
    match run:
        case MapRun():
            items = run.outcomes
            total, counts, waits = len(items), Counter(item.status for item in items), []
            rows, names = _table(run, items)
            lost = [item for item in items if item.status == "failed"]
            limit = run.limit
            failed = [Failed.of(item.label, item.error, _near(item.notebook), item.index) for item in lost]
        case WorkflowRun():
            bad = run.failures
            total, counts = tasks(progress), progress.counts
            failed = [Failed.of(one.label, one.error, _near(one.notebook), one.id if one.leaf else None) for one in bad]
            waits = [_waiting(run, gate) for gate in run.waits_for]
            rows, names = _steps(run)
        case _:
            raise AssertionError(run)
    held = progress.held and progress.status == "running"
    return Ending(
        status="running" if held else run.status,
        total=total,
        counts=counts,
        target=target,
        reason="paused: nothing new starts" if held else run.reason,
        cut_off=progress.cut_off,
        kept=progress.kept,
        ran=bool(progress.ended - progress.kept or progress.active),
        failures=failed,
        rows=rows,
        columns=names,
        waits=waits,
        warnings=[warning.message for warning in run.warnings],
        seconds=max(0.0, (progress.finished or time.time()) - progress.started),
        limit=limit,
        options=f"--state-dir {state_dir}" if state_dir else "",
        notebook=_whole(run),
    )


def _whole(run: Run) -> str:
    """Give the executed notebook of a run of its steps; empty where there is none."""
    found = run.folder / executed_name(run.checkpoint.name.removesuffix(".nbflow.json"))
    return (_near(found) or "") if found.exists() else ""


def _waiting(run: WorkflowRun, gate: GateOpened) -> Waiting:
    step = step_of(gate.node)
    alone = sum(step_of(other.node) == step for other in run.waits_for) == 1
    show = None if gate.show is None else _near(run.checkpoint.parent / gate.show)
    return Waiting(step if alone else node_text(gate.node), gate.message, gate.options, show)


def gate_lines(run: Run, target: str, state_dir: str | None) -> list[str]:
    """Give the open gates of a run, each with what answers it."""
    waits = [_waiting(run, gate) for gate in run.waits_for] if isinstance(run, WorkflowRun) else []
    options = f"--state-dir {state_dir}" if state_dir else ""
    return open_gates(waits, target, options) or ["no gate is open"]


def _steps(run: WorkflowRun) -> tuple[list[dict[str, Value]], list[str]]:
    """Give the rows of the table of steps, and its columns."""
    nodes, totals, at_work = run.nodes, run.progress.totals, run.status == "running"
    rows: list[dict[str, Value]] = []
    for name in run.steps:
        node = nodes.get(name)
        inside = (one for one in nodes.values() if one.leaf and one.id.startswith((f"{name}:", f"{name}/")))
        below = [one for one in inside if one.status != "skipped" or one.error is not None]
        done = sum(one.status == "completed" for one in below)
        total = max(totals[name], len(below))
        tasks: Value = f"{done:,}/{total:,}" if total else None
        status: Value = node.status if node is not None else "running" if below and at_work else "pending"
        seconds: Value = round(node.seconds, 3) if node is not None and node.seconds is not None else None
        rows.append({"step": name, "tasks": tasks, "status": status, "seconds": seconds})
    return rows, ["step", *(["tasks"] if any(row["tasks"] for row in rows) else []), "status", "seconds"]


def status_lines(stored: Stored, run: Run, target: str, state_dir: str | None, columns: int) -> list[str]:
    """Give how one run stands now."""
    owner = read_owner(stored.folder) if stored.at_work else None
    standing = Standing(
        run_id=run.id,
        name=stored.home.name,
        started=run.progress.started,
        now=time.time(),
        end=_ending(run, target, state_dir),
        owner=f"{owner.user} on {owner.host}, process {owner.pid}" if owner is not None else "",
        folder=_near(stored.folder) or "",
        active=[looked_up(run, stored, task) for task in run.progress.active.values()],
    )
    return status_one(standing, columns)


def looked_up(run: Run, stored: Stored, task: Active) -> Active:
    """Give a task at work with the cell that its log tells of: cells are not journaled."""
    if not isinstance(run, MapRun) or task.index is None or (file := log_file(run, run[task.index])) is None:
        return task
    with file.open("rb") as log:
        log.seek(max(0, file.stat().st_size - TAIL))
        begun = _CELL.findall(log.read().decode("utf-8", "replace"))
    if not begun:
        return task
    cells = len(map_of(stored).cells)
    return replace(task, cell=int(begun[-1][0]), cells=cells, heading=begun[-1][1].strip())


def every_run(tops: list[Path]) -> tuple[list[RunLine], list[str]]:
    """Give all runs below some folders, and a line for each that cannot be read."""
    lines: list[RunLine] = []
    broken: list[str] = []
    for folder in (run for top in tops for run in all_runs(top)):
        try:
            status, done, total, failed, began = _counted(locate(folder))
            name = _near(folder.parents[2] / folder.parent.name) or ""
            lines.append(RunLine(folder.name, name, status, done, total, failed, began, size(folder)))
        except NbflowError as problem:
            broken.append(problem.message)
        except OSError as problem:
            broken.append(f"{problem.filename or folder}: {problem.strerror or problem}")
    return sorted(lines, key=lambda line: line.run_id), broken


def _counted(stored: Stored) -> tuple[RunStatus, int, int, int, float]:
    """Give status, items done, all and failed, and the start of a run; from its checkpoint where all items ended."""
    told = stored.told.data if stored.told is not None else {"counts": {}}
    done, total, failed = (told["counts"].get(name, -1) for name in ("completed", "total", "failed"))
    if total >= 0 and stored.status in ("completed", "failed") and done + failed == total:
        return stored.status, done, total, failed, float(told["started"])
    run = stored.run()
    counts = run.progress.counts
    return run.status, counts["completed"], count(run), counts["failed"], run.progress.started


def count(run: Run) -> int:
    """Give how many items or tasks there are to be done in a run, as far as that is known."""
    return len(run) if isinstance(run, MapRun) else tasks(run.progress)


def list_lines(lines: list[RunLine], broken: list[str], columns: int) -> list[str]:
    """Give the list of runs."""
    return [*status_list(lines, columns), *(f"  cannot be read: {text}" for text in broken)]


def list_data(lines: list[RunLine], broken: list[str]) -> dict[str, Any]:
    """Give the list of runs as ``--json`` prints it."""
    names = ("run_id", "name", "status", "done", "total", "failed", "started", "size")
    return {"runs": [{name: getattr(line, name) for name in names} for line in lines], "unreadable": broken}


def plan_lines(rows: list[Planned] | list[PlannedNode], columns: int) -> list[str]:
    """Give each item or node with what would happen to it, and why."""
    lines = [
        PlannedLine(row.index, row.label, row.runs, row.reason)
        if isinstance(row, Planned)
        else PlannedLine(None, row.node, row.runs, row.reason)
        for row in rows
    ]
    what = "item" if all(isinstance(row, Planned) for row in rows) else "node"
    return explain(lines, columns, what)


def table_lines(run: Run, columns: int) -> list[str]:
    """Give the results table of a run."""
    match run:
        case MapRun():
            rows, names = _table(run, run.outcomes)
        case WorkflowRun():
            rows = [{**row, "seconds": _rounded(row["seconds"])} for row in run.rows()]
            parameters = dict.fromkeys(name for node in run.outcomes for name in node.item)
            first = ["node", *parameters, *(["error"] if any(row["error"] for row in rows) else [])]
            names = [*first, *(name for name in (rows[0] if rows else []) if name not in {*first, *ENDS}), *SHORT]
        case _:
            raise AssertionError(run)
    return table(rows, names, columns, len(rows))


def _rounded(seconds: Value) -> Value:
    return round(seconds, 3) if isinstance(seconds, float) else seconds


def _table(run: MapRun, items: list[Item]) -> tuple[list[dict[str, Value]], list[str]]:
    """Give the rows of the results table and its columns: what varies, results, status, seconds."""
    varying = [name for name in run.varying if any(name in item.parameters for item in items)] or ["index"]
    rows: list[dict[str, Value]] = []
    results: dict[str, None] = {}
    for item in items:
        output: dict[str, Value] = item.output if isinstance(item.output, dict) else {}
        taken = {*varying, "status", "seconds"}
        named = {f"result.{name}" if name in taken else name: value for name, value in output.items()}
        results.update(dict.fromkeys(named))
        known: dict[str, Value] = {"index": item.index, **item.parameters}
        rows.append(
            {**{name: known.get(name) for name in varying}, **named, "status": item.status, "seconds": item.seconds}
        )
    return rows, [*varying, *results, "status", "seconds"]


def write_table(run: Run, file: Path) -> None:
    """Write the table of a run, one row per item; the file's ending says how.

    Raises
    ------
    ParameterError
        For an ending that is not known.
    StoreError
        If the file cannot be written, or cannot hold these values.
    LibraryError
        If one is missing that writes it.
    """
    if file.suffix not in (".csv", ".tsv", ".json", ".parquet"):
        raise ParameterError(f"-o {file}: unknown ending {file.suffix!r}", "Write to .csv, .tsv, .json or .parquet.")
    if file.is_dir():
        raise StoreError(f"-o {file}: is a folder", f"Name a file: -o {file}/results{file.suffix}")
    if not file.parent.is_dir():
        raise StoreError(f"-o {file}: there is no folder {file.parent}", f"Make it: mkdir -p {file.parent}")
    try:
        if file.suffix == ".json":
            write_atomically(file, (json.dumps([tagged(row) for row in run.rows()], indent=1) + "\n").encode("ascii"))
        elif file.suffix == ".parquet":
            write_atomically(file, _parquet(run.rows(), file))
        else:
            write_atomically(file, _separated(run.rows(), "," if file.suffix == ".csv" else "\t"))
    except OSError as problem:
        raise StoreError(f"-o {file}: {problem.strerror or problem}", "Write it elsewhere: -o FILE") from problem


def _parquet(rows: list[dict[str, Value]], file: Path) -> bytes:
    buffer = io.BytesIO()
    try:
        import pandas as pd

        pd.DataFrame([{name: _cell(value) for name, value in row.items()} for row in rows]).to_parquet(buffer)
    except ImportError as problem:
        raise LibraryError(f"-o {file}: needs pandas and pyarrow", "pip install 'nbflow[frames]'") from problem
    except (TypeError, ValueError, OverflowError, NotImplementedError) as problem:  # pyarrow's errors are such
        why = ": ".join(" ".join(str(part).split()) for part in problem.args)
        raise StoreError(f"-o {file}: {why}", "Write .csv or .json, which hold any values.") from problem
    return buffer.getvalue()


def _separated(rows: list[dict[str, Value]], delimiter: str) -> bytes:
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in ENDS]
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow([*names, *ENDS])
    writer.writerows([_cell(row.get(name)) for name in (*names, *ENDS)] for row in rows)
    return text.getvalue().encode("utf-8")


def _cell(value: Value) -> object:
    if isinstance(value, File):
        return value.path
    return dumps(value) if isinstance(value, (list, dict)) else value


def _near(path: Path | None) -> str | None:
    """Give a path as it is typed from here."""
    if path is None:
        return None
    try:
        here = Path.cwd()
    except OSError:  # it was deleted while the run was at work
        return str(path)
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
