"""One server and one browser for all tests of notebooks; a folder and a tab for each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.browser.jupyter import IPYKERNELS, NEWEST, Server, Tab, browser, chromium, write_notebook


@pytest.fixture(scope="module")  # its loop is this thread's as long as it is there, and other tests begin their own
def a_browser() -> Iterator[Any]:
    with browser() as made:
        yield made


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Not before it is known that there is a browser: the rest takes a while."""
    chromium()
    made = Server(tmp_path_factory.mktemp("jupyter"), list(IPYKERNELS))
    yield made
    made.close()


@pytest.fixture
def place(server: Server, request: pytest.FixtureRequest) -> Path:
    """A folder below the server's, for one test."""
    name = "".join(char if char.isalnum() else "-" for char in request.node.name)
    folder = server.root / name[:80]
    folder.mkdir()
    return folder


@pytest.fixture
def tab(server: Server, a_browser: Any, place: Path) -> Iterator[Callable[..., Tab]]:
    """Open a notebook with these cells: ``tab("import nbflow", ..., lab=False, kernel="ipykernel6")``."""
    opened: list[Tab] = []

    def make(*cells: str, lab: bool = True, kernel: str = NEWEST, width: int = 1200, name: str = "main") -> Tab:
        path = write_notebook(place / f"{name}.ipynb", cells, kernel)
        page = a_browser.new_page(viewport={"width": width, "height": 900})
        opened.append(Tab(page, server, path, lab=lab))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


@pytest.fixture
def child(place: Path) -> Callable[..., Path]:
    """Write a notebook that is run over items: its parameter is ``n``, its result ``y``."""

    def make(*cells: str, name: str = "child") -> Path:
        path = write_notebook(place / f"{name}.ipynb", ["n = 0", *cells, "y = n * n"], "python3")
        notebook = nbformat.read(path, as_version=4)
        notebook.cells[0].metadata["tags"] = ["parameters"]
        notebook.cells[-1].metadata["tags"] = ["results"]
        nbformat.write(notebook, path)
        return path

    return make


@pytest.fixture
def pictures(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where pictures go, for who wants to look at them: ``NBFLOW_PICTURES=folder``."""
    folder = Path(os.environ.get("NBFLOW_PICTURES") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
