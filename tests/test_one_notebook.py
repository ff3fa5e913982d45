"""One notebook as a whole command: the kernel first, nothing that is not needed, few saves, an end at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from base64 import b64encode
from pathlib import Path

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_notebook
from nbformat.v4.nbjson import BytesEncoder

from nbflow.kernels.plain import find_plain
from nbflow.kernels.specs import kernel_spec
from nbflow.masking import Masker
from nbflow.notebooks.document import indented, write_notebook
from nbflow.notebooks.pace import Pace

ROOT = Path(__file__).parent.parent

TOP = Path(__file__).parent.parent

MAP = """
import sys

LIBRARIES = {"jupyter_client", "zmq", "nbformat", "nbclient", "papermill", "traitlets", "pydantic", "jinja2", "IPython"}

def watch(event, details):
    if event == "subprocess.Popen" and "ipykernel_launcher" in details[1]:
        print("started with", sorted(LIBRARIES & sys.modules.keys()))

sys.addaudithook(watch)
from nbflow.cli import main

try:
    main(["map", "one.ipynb", "-p", "n=1", "--quiet"])
finally:
    names = "rfc3987_syntax", "requests", "pyarrow.fs", "papermill"
    print("at the end", {name: name in sys.modules for name in names})
"""


def write(folder: Path, *sources: str, kernel: str = "python3") -> Path:
    """Write a notebook with the parameter ``n``."""
    cells = [new_code_cell("n = 0", metadata={"tags": ["parameters"]}), *map(new_code_cell, sources)]
    metadata = {"kernelspec": {"name": kernel, "display_name": kernel, "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=metadata), folder / "one.ipynb")
    return folder / "one.ipynb"


def python(program: str, folder: Path, **environment: str) -> list[str]:
    """Run a program, and give the lines that it prints."""
    path = os.pathsep.join([str(folder), str(TOP)])
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_the_kernel_is_started_before_any_library_of_jupyter_is_loaded(tmp_path):
    """And what is left out while they are loaded, is not there afterwards under its name either."""
    write(tmp_path, "print(n)")
    assert [
        "started with []",
        "at the end {'rfc3987_syntax': False, 'requests': False, 'pyarrow.fs': False, 'papermill': True}",
    ] == python(MAP, tmp_path)


SLOW = """
import sys
from nbflow import lean

if {command}:
    lean.allow()
with lean.imports():
    import jsonschema
print("rfc3987_syntax" in sys.modules)
import rfc3987_syntax, requests
print(rfc3987_syntax.__file__ is not None, callable(requests.get))
"""


@pytest.mark.parametrize("command", [True, False], ids=["command line", "library"])
def test_what_is_left_out_can_be_imported_afterwards_and_a_library_leaves_nothing_out(tmp_path, command):
    """JupyterLab brings rfc3987_syntax, which jsonschema loads where it is there."""
    (tmp_path / "rfc3987_syntax.py").write_text("def is_valid_syntax(*_):\n    return True\n")
    assert [str(not command), "True True"] == python(SLOW.replace("{command}", str(command)), tmp_path)


LATER = """
from nbflow import lean

lean.allow()
with lean.imports():
    import requests
print(type(requests).__name__, callable(requests.get), requests.get.__module__)
"""


def test_what_is_loaded_later_is_loaded_when_it_is_used(tmp_path):
    """papermill holds such a module, and could still read from the web by it."""
    assert ["_Later True requests.api"] == python(LATER, tmp_path)


# Kernels


def test_a_kernel_of_this_environment_is_the_one_that_jupyter_finds(monkeypatch):
    """Command, language and folder are those of its own search."""
    for name in ("JUPYTER_PATH", "JUPYTER_DATA_DIR", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    plain, theirs = find_plain("python3"), kernel_spec("python3")
    assert plain is not None
    assert (theirs.argv, theirs.language, theirs.resource_dir) == (plain.argv, plain.language, str(plain.folder))


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": {"kernel_provisioner": {"provisioner_name": "remote"}}},
        {"env": {"A": "${B}"}},
        {"argv": ["~/bin/kernel"]},
        {"argv": []},
        {"something": "new"},
    ],
)
def test_an_unusual_kernel_is_left_to_jupyter(tmp_path, monkeypatch, change):
    """Only what is understood whole is started without it."""
    folder = tmp_path / "share" / "jupyter" / "kernels" / "odd"
    folder.mkdir(parents=True)
    usual = {"argv": ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"], "language": "python"}
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("JUPYTER_PATH", "JUPYTER_DATA_DIR", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    (folder / "kernel.json").write_text(json.dumps(usual))
    assert find_plain("odd") is not None
    (folder / "kernel.json").write_text(json.dumps({**usual, **change}))
    assert find_plain("odd") is None


def test_a_kernel_of_the_user_with_the_same_name_is_left_to_jupyter(tmp_path, monkeypatch):
    """Which of the two goes first is Jupyter's to know."""
    for name in ("JUPYTER_PATH", "JUPYTER_DATA_DIR", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_plain("python3") is not None
    (tmp_path / ".local" / "share" / "jupyter" / "kernels" / "Python3").mkdir(parents=True)
    assert find_plain("python3") is None


ENDS = """
import atexit, gc
gc.get_freeze_count() > 0 or 1 / 0
class Last:
    def __init__(self): self.me = self
    def __del__(self): open("deleted", "w").close()
last = Last()
left_open = open("left-open", "w")
left_open.write("whole")
atexit.register(lambda: open("at-exit", "w").close())
"""


def test_a_kernel_that_ends_at_once_still_does_what_the_notebook_left_for_its_end(tmp_path):
    """Handlers, files that nobody closed, and finalizers of the notebook's own objects."""
    write(tmp_path, ENDS)
    python("import nbflow; nbflow.map('one.ipynb', parameters={'n': 1}, quiet=True).check()", tmp_path)
    assert (True, "whole", True) == (
        (tmp_path / "at-exit").exists(),
        (tmp_path / "left-open").read_text(),
        (tmp_path / "deleted").exists(),
    )


# Saving


def test_saves_are_a_second_apart_and_further_where_they_take_long():
    """With a clock that is a number."""
    now, saved = [0.0], []
    pace = Pace(lambda: now[0])

    def save(seconds: float) -> None:
        saved.append(now[0])
        now[0] += seconds

    for moment in (0.0, 0.5, 0.9, 1.0):
        now[0] = moment
        pace.offer(lambda: save(0.0))
    assert [1.0] == saved
    pace.now(lambda: save(2.0))  # at 1.0, until 3.0
    for moment in (10.9, 11.0):
        now[0] = moment
        pace.offer(lambda: save(0.0))
    assert [1.0, 1.0, 11.0] == saved


KEYS = st.text(max_size=5)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=3).map(b64encode),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_a_notebook_is_written_as_nbformat_writes_it(value):
    """Byte for byte, whatever stands in it."""
    wanted = json.dumps(value, cls=BytesEncoder, indent=1, sort_keys=True, separators=(",", ": "), ensure_ascii=False)
    assert wanted == indented(value)


def test_a_whole_notebook_is_written_as_nbformat_writes_it(tmp_path):
    """With its texts in lines, and without what only a program needs."""
    nb = nbformat.read(ROOT / "notebooks" / "progression.ipynb", 4)
    write_notebook(nb, tmp_path / "written.ipynb", Masker(()))
    assert f"{nbformat.v4.writes(nb)}\n" == (tmp_path / "written.ipynb").read_text("utf-8")


COUNTED = """
import time
import papermill
from papermill.iorw import LocalHandler, papermill_io

class Counted(LocalHandler):
    times = 0
    def write(self, text, path):
        Counted.times += 1
        super().write(text, path.removeprefix("counted:"))

papermill_io.register("counted:", Counted())
began = time.monotonic()
try:
    papermill.execute_notebook("one.ipynb", "counted:out.ipynb", engine_name="nbflow", progress_bar=False)
except papermill.PapermillExecutionError:
    pass
print(Counted.times - int(time.monotonic() - began))
"""


@pytest.mark.parametrize(("last", "states"), [("5", ["completed"] * 9), ("1/0", ["completed"] * 8 + ["failed"])])
def test_papermills_engine_saves_by_its_handlers_and_at_the_end(tmp_path, last, states):
    """papermill itself writes before and after it, and its own engine at each cell's beginning and end."""
    write(tmp_path, *["n"] * 7, last)
    assert int(python(COUNTED, tmp_path, PYTHONWARNINGS="ignore")[-1]) <= 3
    cells = nbformat.read(tmp_path / "out.ipynb", 4).cells
    cells = [cell for cell in cells if "papermill-error-cell-tag" not in cell.metadata.tags]
    assert states == [cell.metadata.papermill["status"] for cell in cells]


SAVES = """
import sys

saves = []

def watch(event, details):
    if event == "os.rename" and str(details[1]).endswith(".failed.ipynb"):
        saves.append(1)

sys.addaudithook(watch)
import nbflow

run = nbflow.map("one.ipynb", parameters={"n": 1}, quiet=True)
print(len(saves) - int(run[0].seconds))
"""


@pytest.mark.parametrize("last", ["5", "1/0"])
def test_a_short_notebook_is_saved_once_at_the_end(tmp_path, last):
    """Before that once a second, however many cells there are."""
    write(tmp_path, *["n"] * 7, last)
    assert int(python(SAVES, tmp_path)[-1]) <= 1
