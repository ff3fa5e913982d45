"""What `import nbflow` and `nbflow --help` cost: next to nothing, and no library of Jupyter."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent

HEAVY = {
    *("papermill", "nbformat", "nbclient", "jupyter_client", "jupyter_core", "zmq", "traitlets"),
    *("ipykernel", "ipywidgets", "IPython", "pandas", "pyarrow", "numpy"),
}


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Give an environment in which compiled files are kept, as on a user's machine."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": str(TOP), "PYTHONPYCACHEPREFIX": str(tmp_path_factory.mktemp("pycache"))}


def loaded(program: str, env: dict[str, str]) -> set[str]:
    """Give the top-level modules that are loaded after a program ran."""
    tail = "\nimport sys; print('\\n', *{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", program + tail], env=env, check=True, text=True, stdout=subprocess.PIPE, cwd="/"
    )
    return set(done.stdout.splitlines()[-1].split())


HELP = """
import runpy, sys
sys.argv = ["nbflow", "--help"]
try:
    runpy.run_module("nbflow", run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
"""


@pytest.mark.parametrize(
    ("program", "libraries"), [("import nbflow", {"nbflow"}), (HELP, {"nbflow", "click"})], ids=["import", "--help"]
)
def test_no_library_is_loaded_that_is_not_needed(program, libraries, env):
    """What the interpreter itself loads at its start does not count; each other library is time and a risk."""
    assert libraries == loaded(program, env) - loaded("", env) - sys.stdlib_module_names


@pytest.mark.parametrize("program", ["import nbflow", HELP], ids=["import nbflow", "nbflow --help"])
def test_no_library_of_jupyter_is_loaded(program, env):
    """Importing nbflow, and asking for help, load nothing heavy."""
    assert set() == loaded(program, env) & HEAVY


def test_a_heavy_library_would_be_seen(env):
    """The probe itself sees what a program loads, also inside of functions."""
    assert {"traitlets", "nbformat"} <= loaded("def f():\n    import nbformat\nf()", env) & HEAVY


def test_help_takes_less_than_a_third_of_a_second(env):
    """The best of five calls of `nbflow --help` takes at most 0.3 s, Python's own start included."""
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "nbflow", "--help"], env=env, check=True, stdout=subprocess.DEVNULL, cwd="/"
        )
        seconds.append(time.perf_counter() - start)
    assert min(seconds) <= 0.3, seconds
