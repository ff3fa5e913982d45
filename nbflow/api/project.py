"""Projects: a small one to begin with, and what nbflow needs where it runs."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import NbflowError, StoreError
from ..store.files import write_atomically
from ..store.home import writable
from ..store.surroundings import usable_cores
from ..version import __version__
from .kinds import all_kinds
from .plugins import executors, reporters

__all__ = ["Check", "examined", "make_project"]

_WORKFLOW = """\
nbflow: 1
name: prices

inputs:
  rate: {type: number, default: 0.02, minimum: 0}

steps:
  - id: products
    call: products:all_products

  - id: forecast
    items: "{{ steps.products.output }}"
    as: product
    max_concurrency: 4
    on_error: continue
    step:
      id: fit
      notebook: forecast.ipynb
      parameters:
        name: "{{ product.name }}"
        price: "{{ product.price }}"
        rate: "{{ inputs.rate }}"

  - id: gather
    wait_for: [forecast]
    output:
      prices: "{{ fan_in.results | map(attribute='next_year') | list }}"

  - id: report
    notebook: report.ipynb
    parameters:
      prices: "{{ steps.gather.output.prices }}"
"""
_FUNCTIONS = '''\
"""Where the products come from."""


def all_products():
    """Give each product with its price."""
    return [{"name": "bread", "price": 4.2}, {"name": "milk", "price": 1.5}, {"name": "tea", "price": 6.0}]
'''
_FORECAST: list[tuple[str, str, list[str]]] = [
    ("markdown", "# Next year's price", []),
    ("code", 'name: str = "bread"\nprice: float = 4.2\nrate: float = 0.02', ["parameters"]),
    ("markdown", "## Grow", []),
    ("code", "import time\n\ntime.sleep(0.5)  # stands for real work\ngrown = price * (1 + rate)", []),
    ("code", "next_year = round(grown, 2)\nnext_year", ["results"]),
]
_REPORT: list[tuple[str, str, list[str]]] = [
    ("markdown", "# Report", []),
    ("code", "prices: list = [4.28]", ["parameters"]),
    ("code", 'print(f"{len(prices)} products cost {sum(prices):.2f} next year")', []),
    ("code", "total = sum(prices)", ["results"]),
]


def _notebook(cells: list[tuple[str, str, list[str]]]) -> bytes:
    made: list[dict[str, Any]] = []
    for number, (kind, source, tags) in enumerate(cells):
        cell: dict[str, Any] = {"cell_type": kind, "id": f"cell-{number}", "metadata": {"tags": tags} if tags else {}}
        cell["source"] = source.splitlines(keepends=True)
        made.append({**cell, "outputs": [], "execution_count": None} if kind == "code" else cell)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    data = {"cells": made, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return (json.dumps(data, indent=1) + "\n").encode()


def make_project(folder: str) -> list[str]:
    """Make a small working project; nothing that is there is overwritten. Gives the lines that say what to do next.

    Raises
    ------
    StoreError
        If a file of it is there already, or it cannot be written.
    """
    place = Path(folder)
    files = {
        "prices.yml": _WORKFLOW.encode(),
        "products.py": _FUNCTIONS.encode(),
        "forecast.ipynb": _notebook(_FORECAST),
        "report.ipynb": _notebook(_REPORT),
    }
    there = [name for name in files if (place / name).exists()]
    if there:
        raise StoreError(f"{place / there[0]}: is there already", "Choose an empty folder: nbflow init FOLDER")
    try:
        place.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            write_atomically(place / name, data)
    except OSError as problem:
        raise StoreError(f"{problem.filename or place}: {problem.strerror}", "Choose another folder.") from problem
    here = [] if place == Path() else [f"  cd {folder}"]
    return [
        f"made {', '.join(files)}",
        "",
        *here,
        "  nbflow run prices.yml                             the workflow",
        "  nbflow resume prices.yml -i rate=0.1 --dry-run    what another rate would repeat",
        "  nbflow map forecast.ipynb --grid name=rice,oats   one notebook over many parameter sets",
    ]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked after."""

    name: str
    fine: bool
    message: str


def examined(state_dir: Path | None) -> list[Check]:
    """Look after what nbflow needs here.

    Parameters
    ----------
    state_dir : Path, optional
        Where runs are kept instead of beside their files.
    """
    there = [f"{name} {version}" for name in _LIBRARIES if (version := _version(name))]
    missing = [name for name in _LIBRARIES if not _version(name)]
    place = state_dir or Path.cwd()
    plain = f"{__version__}, Python {platform.python_version()}, {usable_cores()} cores"
    return [
        Check("nbflow", fine=True, message=plain),
        Check(
            "libraries",
            fine=not missing,
            message=f"not installed: {', '.join(missing)}" if missing else ", ".join(there),
        ),
        *_kernels(),
        Check("folder", fine=_can_write(place), message=f"{place} can{'' if _can_write(place) else 'not'} be written"),
        _frames(),
        _plugins(),
    ]


_LIBRARIES = ("papermill", "nbclient", "nbformat", "jupyter_client", "ipykernel", "ipywidgets", "tqdm", "pydantic")


def _can_write(place: Path) -> bool:
    return writable(next(folder for folder in (place, *place.parents) if folder.exists()))


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _kernels() -> list[Check]:
    from ..kernels import check
    from ..kernels.specs import kernel_names, kernel_spec

    found = []
    for name in kernel_names():
        try:
            check(name)
            found.append(Check(f"kernel {name}", fine=True, message=kernel_spec(name).argv[0]))
        except NbflowError as problem:
            found.append(Check(f"kernel {name}", fine=False, message=problem.message))
    none = Check("kernels", fine=False, message=f"there is none: {sys.executable} -m pip install ipykernel")
    return found or [none]


def _frames() -> Check:
    missing = [name for name in ("pandas", "pyarrow") if not _version(name)]
    if missing:
        return Check(
            "frames", fine=True, message=f"not installed here: {', '.join(missing)}; pip install 'nbflow[frames]'"
        )
    return Check("frames", fine=True, message=f"pandas {_version('pandas')}, pyarrow {_version('pyarrow')}")


def _plugins() -> Check:
    try:
        kinds = [kind.definition for kind in all_kinds()]
        others = [*executors().items(), *reporters().items()]
    except NbflowError as problem:
        return Check("plug-ins", fine=False, message=problem.message)
    names = [kind.__name__ for kind in kinds if not kind.__module__.startswith("nbflow.")]
    names += [name for name, maker in others if not maker.__module__.startswith("nbflow.")]
    return Check("plug-ins", fine=True, message=", ".join(names) or "none")
