"""What a review of forked kernels found: unflushed files, variables read at imports, shared generators, odd places."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import nbflow
from nbflow.kernels.warm import provisioner, templates
from nbflow.kernels.warm.templates import NoKernelError, Templates, key_of

pytestmark = pytest.mark.skipif(not templates.SUPPORTED, reason="kernels are forked on Linux")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a module, and a run of a notebook over two items there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]).rstrip(":"))

    def run(module: str, *cells: str, **options) -> list:
        Path("mine.py").write_text(module)
        notebook = {
            "cells": [
                {
                    "cell_type": "code",
                    "metadata": {"tags": tags},
                    "source": source,
                    "outputs": [],
                    "execution_count": None,
                }
                for source, tags in [("n = 0", ["parameters"]), *((cell, []) for cell in cells), ("out", ["results"])]
            ],
            "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
            "nbformat": 4,
            "nbformat_minor": 4,
        }
        Path("work.ipynb").write_text(json.dumps(notebook))
        made = nbflow.map("work.ipynb", grid={"n": [0, 1]}, quiet=True, **options)
        made.check()
        return [result["out"] for result in made.results]

    return run


@pytest.mark.parametrize("kernel_start", ["warm", "cold"])
def test_what_a_module_wrote_and_did_not_flush_is_in_its_file(place, kernel_start):
    """As at the end of an interpreter."""
    cell = "import mine\nmine.file = open(f'held-{n}', 'w')\nmine.file.write('whole')\nout = 1"
    place("file = None", cell, kernel_start=kernel_start)
    assert ["whole", "whole"] == [Path(f"held-{n}").read_text() for n in (0, 1)]


def test_a_module_that_is_preloaded_sees_the_variables_of_its_kernel(place, monkeypatch):
    """Also those that nobody knew a library would read."""
    monkeypatch.setenv("MY_ODD_SWITCH", "on")
    module = "import os\nSEEN = os.environ.get('MY_ODD_SWITCH')"
    assert ["on", "on"] == place(module, "import mine\nout = mine.SEEN", preload=["mine"])


def test_a_secret_is_in_no_templates_environment(place, monkeypatch):
    """But in that of its kernel."""
    monkeypatch.setenv("MY_TOKEN", "hunter2-hunter2")
    cell = (
        "import os\nparent = open(f'/proc/{os.getppid()}/environ').read()\n"
        "out = ['MY_TOKEN' in os.environ, 'hunter2' in parent, 'PATH=' in parent]"
    )
    assert [[True, False, True]] * 2 == place("", cell, secret=["MY_TOKEN"])


def test_a_module_with_a_generator_of_its_own_is_left_to_the_cells(place):
    """Two kernels would draw the same numbers from it."""
    module = "import random\nown = random.Random()"
    first, second = place(module, "import mine\nout = mine.own.random()", preload=["mine"])
    assert first != second


def test_there_are_only_so_many_templates(monkeypatch, tmp_path):
    """Where each item has another environment, the oldest one makes room."""
    import asyncio

    made = Templates()
    command = [sys.executable, "-m", "ipykernel_launcher", "-f"]

    async def ask(number: int) -> None:
        env = {**os.environ, "ITEM": str(number)}
        kernel = await made.fork([*command, str(tmp_path / f"k-{number}.json")], env, str(tmp_path), [0, 1, 2])
        kernel.kill()
        kernel.wait()

    monkeypatch.setattr(templates, "MOST", 2)
    try:
        for number in range(4):
            asyncio.run(ask(number))
            assert len(made.pids()) <= 2
    finally:
        made.close()


def test_a_system_that_tells_nothing_of_itself_has_kernels_started(monkeypatch, place):
    """Sandboxes may hide what a process inherits."""

    def circumstances():
        raise KeyError("Umask")

    monkeypatch.setattr(templates, "_circumstances", circumstances)
    assert [0, 1] == place("", "out = n")


def test_items_that_differ_in_what_only_nbflow_sets_share_a_template():
    """And those that differ in anything else do not."""
    command = [sys.executable, "-m", "ipykernel_launcher"]
    one = key_of(command, {"A": "1", "NBFLOW_INDEX": "0", "T": "x"}, (), ["T"])
    assert one == key_of(command, {"A": "1", "NBFLOW_INDEX": "1", "T": "y"}, (), ["T"])
    assert one != key_of(command, {"A": "2", "NBFLOW_INDEX": "0", "T": "x"}, (), ["T"])
    with pytest.raises(NoKernelError):
        key_of(command, {"PYTHONPATH": "relative"}, ())


def test_a_provisioner_that_somebody_else_put_in_has_results_too(place, monkeypatch):
    """Its kernels were forked from a template that knows nothing of results."""
    from importlib.metadata import EntryPoint

    from jupyter_client.provisioning.factory import KernelProvisionerFactory

    entry = EntryPoint(
        "nbflow-warm", "nbflow.kernels.warm.provisioner:WarmProvisioner", "jupyter_client.kernel_provisioners"
    )
    monkeypatch.setitem(KernelProvisionerFactory.instance().provisioners, entry.name, entry)
    monkeypatch.setenv("JUPYTER_DEFAULT_PROVISIONER_NAME", entry.name)
    monkeypatch.setattr(KernelProvisionerFactory.instance(), "default_provisioner_name", entry.name)
    made = Templates()
    monkeypatch.setattr(provisioner, "_templates", [made])
    cell = "import os\nout = [n, 'template.py' in open(f'/proc/{os.getppid()}/cmdline').read()]"
    try:
        assert [[0, True], [1, True]] == place("", cell)
    finally:
        made.close()


def test_functions_beside_notebooks_can_import_everything():
    """In the command line what papermill does not need is left out while it is loaded, but not where functions run."""
    from nbflow.api.warming import apart
    from nbflow.model import Block, Literal
    from nbflow.steps import CallStep, FanOut, NotebookStep

    notebook, function = NotebookStep(id="a", path="a.ipynb"), CallStep(id="b", function="m:f")
    fan = FanOut(id="c", items=Literal([1]), body=Block([function]))
    assert [True, False, False] == [
        apart(Block(steps)) for steps in ([notebook], [notebook, function], [notebook, fan])
    ]


def test_the_folder_of_the_template_is_on_no_kernels_path(tmp_path):
    """Also where nbflow is reached by a link: a notebook may have a template.py of its own."""
    package = Path(nbflow.__file__).parent
    (tmp_path / "link").symlink_to(package.parent)
    program = (
        "import nbflow, sys, json, pathlib\n"
        "run = nbflow.map('work.ipynb', grid={'n': [0, 1]}, quiet=True)\nrun.check()\n"
        "print(json.dumps([r['out'] for r in run.results]))"
    )
    cell = "import sys\nout = [p for p in sys.path if p.endswith('warm')]"
    notebook = {
        "cells": [
            {"cell_type": "code", "metadata": {"tags": [tag]}, "source": source, "outputs": [], "execution_count": None}
            for source, tag in [("n = 0", "parameters"), (cell, "work"), ("out", "results")]
        ],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        "nbformat": 4,
        "nbformat_minor": 4,
    }
    (tmp_path / "work.ipynb").write_text(json.dumps(notebook))
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "link")}
    told = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    assert [[], []] == json.loads(told.stdout.splitlines()[-1])


LOCAL = """\
import multiprocessing as mp
from concurrent.futures import ProcessPoolExecutor
import helper
with ProcessPoolExecutor(2, mp_context=mp.get_context({0!r})) as pool:
    tripled = list(pool.map(helper.triple, range(3)))
print(tripled, mp.process.ORIGINAL_DIR)
"""


@pytest.mark.parametrize("method", ["spawn", pytest.param("forkserver", marks=pytest.mark.long)])
@pytest.mark.parametrize("preload", [["multiprocessing.process"], "auto"])
def test_workers_of_multiprocessing_find_modules_beside_the_notebook(
    notebook: Any, folder: Path, method: str, preload: Any
) -> None:
    """It keeps the directory of its import for them, and a template imports it elsewhere, or learns it."""
    (folder / "helper.py").write_text("def triple(x):\n    return 3 * x\n")
    run = nbflow.map(
        notebook(LOCAL.format(method)),
        grid={"n": [1, 2, 3]},
        max_concurrency=1,
        preload=preload,
        timeout=30,
        output=["tripled"],
        quiet=True,
    )
    run.check()
    assert [{"tripled": [0, 3, 6]}] * 3 == run.results
    for item in run.outcomes:
        assert item.log is not None
        assert str(folder) in item.log.read_text()


SHARED = """\
from multiprocessing.shared_memory import SharedMemory
block = SharedMemory(create=True, size=1000)
name = block.name
"""


@pytest.mark.parametrize("kernel_start", ["warm", "cold"])
def test_shared_memory_that_a_notebook_forgets_is_given_back(notebook: Any, kernel_start: str) -> None:
    """As behind papermill: its tracker has a moment to tidy up before the group is ended."""
    grid = {"n": [1, 2]}
    run = nbflow.map(notebook(SHARED), grid=grid, output=["name"], kernel_start=kernel_start, quiet=True).check()
    names = [item.results["name"] for item in run.outcomes]
    assert [] == [name for name in names if Path("/dev/shm", name).exists()]


def test_a_module_that_is_not_there_is_told_and_a_result_that_no_cell_gives(notebook: Any) -> None:
    """Before the first kernel starts: an hour later it is too late."""
    path = notebook("rmse = n")
    run = nbflow.map(path, grid={"n": [1, 2]}, preload=["pandsa"], output=["rmsee"], quiet=True)
    told = [warning.message for warning in run.warnings]
    assert "preload: there is no module pandsa. Did you mean 'pandas'?" in told
    assert "--output rmsee: no cell of work.ipynb assigns it. Did you mean 'rmse'?" in told
    with pytest.raises(nbflow.RefusedError, match="preload names 'auto' among modules"):
        nbflow.map(path, grid={"n": [1, 2]}, preload=["auto", "pandas"])
