"""The plain meaning of a notebook of steps: all of its cells, one after the other, in one kernel.

This is what the corpus is compared with, and so it knows nothing of nbflow: it reads the marks by itself.
"""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

MARK = re.compile(r"#\s*nbflow:\s*(.+)")
WORDS = frozenset({"parameters", "results", "setup", "skip-execution", "timing"})


@dataclass
class Step:
    """Cells that run together: a step with a name, or (without one) cells that belong to no step."""

    name: str = ""
    cells: list[int] = field(default_factory=list)
    """Indices of its code cells among all cells of the notebook."""
    needs: tuple[str, ...] | None = None
    """What it says that it waits for; without, it waits for the step above."""
    each: str = ""
    """The name of the list that it runs once per element of."""
    item: str = ""
    """The variable that has the element."""
    results: tuple[str, ...] = ()
    """What the cells tagged ``results`` show, or assign where they show nothing."""


def marks(cell: NotebookNode) -> list[str]:
    """Give the tags of a cell, and what its first line ``# nbflow: ...`` says instead of them."""
    first = next(iter(cell.source.lstrip().splitlines()), "")
    match = MARK.fullmatch(first.strip())
    words = [word.replace("=", ":", 1) for word in match[1].split()] if match else []
    return [*cell.metadata.get("tags", []), *words]


def steps(notebook: NotebookNode) -> list[Step]:
    """Give the steps of a notebook in its order; cells of ``setup`` and those before the first step have no name."""
    found = [Step()]
    named = found[0]
    code = [(index, cell) for index, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    for index, cell in code:
        tags = marks(cell)
        said = [tag.partition(":") for tag in tags if tag not in WORDS]
        values = {key: [value for name, _, value in said if name == key] for key, _, _ in said}
        if "step" in values:
            needs = tuple(values["needs"]) if "needs" in values else None
            each, item = (values.get(key, [""])[0] for key in ("each", "as"))
            named = Step(values["step"][0], [], needs, each, item)
            found.append(named)
        elif "setup" in tags or "parameters" in tags:
            found.append(Step("", [index]))
            continue
        elif found[-1] is not named:
            # A cell behind one of setup goes on with the step above it, and keeps its place.
            found.append(named := Step(named.name, [], named.needs, named.each, named.item))
        named.cells.append(index)
        if "results" in tags:
            named.results += _shown(cell.source)
    return [step for step in found if step.cells]


def run_plain(path: Path | str, folder: Path | str, *, reverse: bool = False) -> dict[str, Any]:
    """Run a notebook in one kernel, and give it executed.

    The cells of an ``each:`` step run once per element, in order, and stand that often in the executed notebook, with
    the number of the element in ``cell.metadata["item"]``; behind the last one its results are lists.

    Parameters
    ----------
    path : path-like
        The notebook; it is copied, and stays as it is.
    folder : path-like
        Where the copy goes, and where the notebook reads and writes its files.
    reverse : bool
        Whether elements run from the last to the first, which changes nothing where each stands alone. The executed
        cells and the lists are in the order of the elements all the same.

    Returns
    -------
    dict
        The notebook with its outputs; cells that are skipped have none.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        When a cell fails.
    """
    path, folder = Path(path), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    copied = Path(shutil.copy(path, folder / path.name))
    notebook = nbformat.read(copied, as_version=4)
    client = NotebookClient(notebook, timeout=120, coalesce_streams=True, extra_arguments=["--log-level=ERROR"])
    executed: dict[int, list[NotebookNode]] = {index: [cell] for index, cell in enumerate(notebook.cells)}
    with client.setup_kernel(cwd=str(folder)):
        for step in steps(notebook):
            if step.each:
                executed.update(_run_each(client, step, reverse))
            else:
                executed.update({index: [_run(client, index)] for index in step.cells})
    done = dict(notebook)
    done["cells"] = [cell for index in sorted(executed) for cell in executed[index]]
    nbformat.write(nbformat.from_dict(done), copied)
    return done


def outputs(executed: dict[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    """Give the id of each code cell and its outputs without counts; cells tagged ``timing`` are left out."""
    for cell in executed["cells"]:
        if cell["cell_type"] == "code" and "timing" not in marks(cell):
            bare = [{key: value for key, value in out.items() if key != "execution_count"} for out in cell["outputs"]]
            yield cell["id"], bare


def _run_each(client: NotebookClient, step: Step, reverse: bool) -> dict[int, list[NotebookNode]]:
    """Run a step once per element of its list, and gather its results."""
    count = int(_ask(client, f"len({step.each})"))
    _ask(client, f"_elements, _gathered = list({step.each}), {{}}")
    executed: dict[int, list[NotebookNode]] = {index: [] for index in step.cells}
    order = range(count)
    for number in reversed(order) if reverse else order:
        _ask(client, f"{step.item} = _elements[{number}]")
        for index in step.cells:
            executed[index].append(_run(client, index, number))
        _ask(client, f"_gathered[{number}] = [{', '.join(step.results)}]")
    for place, name in enumerate(step.results):
        _ask(client, f"{name} = [_gathered[number][{place}] for number in range({count})]")
    return {index: sorted(cells, key=lambda cell: cell.metadata["item"]) for index, cells in executed.items()}


def _run(client: NotebookClient, index: int, item: int | None = None) -> NotebookNode:
    """Run a copy of a cell; the notebook that the client has keeps its own."""
    original = client.nb.cells[index]
    cell = copy.deepcopy(original)
    if cell.cell_type == "code" and "skip-execution" not in marks(cell):
        client.execute_cell(cell, index)
        client.nb.cells[index] = original
    if item is not None:
        cell.metadata["item"] = item
        cell.id = f"{cell.id}-{item}"
    return cell


def _ask(client: NotebookClient, code: str) -> str:
    """Run code that is in no cell, and give what it shows."""
    cell = nbformat.v4.new_code_cell(code)
    first = client.nb.cells[0]
    client.execute_cell(cell, 0, store_history=False)
    client.nb.cells[0] = first
    return "".join(out["data"]["text/plain"] for out in cell.outputs if out["output_type"] == "execute_result")


def _shown(source: str) -> tuple[str, ...]:
    """Give the names that a cell shows in its last line (``score`` or ``score, n``)."""
    lines = [line.strip() for line in source.splitlines() if line.strip()]
    return tuple(name.strip() for name in lines[-1].split(",") if name.strip().isidentifier())
