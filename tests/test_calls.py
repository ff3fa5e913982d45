"""Calls run the very function that was looked at before the run, and the process stays as it was."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nbflow

ONE = "nbflow: 1\nsteps:\n  - {{id: a, call: '{}', arguments: {}}}\n"


@pytest.fixture(autouse=True)
def forgotten(folder: Path) -> Iterator[None]:
    """What a test loads is gone after it."""
    yield
    for name, module in sys.modules.copy().items():
        if str(getattr(module, "__file__", None)).startswith(str(folder)):
            del sys.modules[name]


@pytest.fixture
def write(folder: Path) -> Callable[..., None]:
    """Write files: ``write({"A/work.py": "..."})``; all in the same second, as far as Python's caches can tell."""

    def make(files: dict[str, str]) -> None:
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            before = path.stat().st_mtime_ns if path.exists() else None
            path.write_text(text)
            if before is not None:
                os.utime(path, ns=(before + 1000, before + 1000))

    return make


def flow(function: str, **arguments: Any) -> str:
    """Give the text of a workflow of one call."""
    return ONE.format(function, json.dumps(arguments))


def output(path: str, step: str = "a") -> Any:
    """Give what a call of a new run returned."""
    run = nbflow.run(path, quiet=True)
    run.check()
    return run[step].output


def test_each_folder_has_its_own_modules_also_those_that_they_import(write, folder):
    """One run after the other in one process, as in Jupyter; and it does not matter which was first."""
    for name in "AB":
        write(
            {
                f"{name}/f.yml": flow("work:f"),
                f"{name}/work.py": "import helper\ndef f():\n    return helper.NAME",
                f"{name}/helper.py": f"NAME = {name!r}",
            }
        )
    path = list(sys.path)
    assert ["A", "B", "A", "B"] == [output(f"{name}/f.yml") for name in "ABAB"]
    assert path == sys.path


def test_a_workflow_in_a_workflow_calls_the_functions_beside_it(write):
    """Not those of the same name beside the outer one, which calls its own."""
    write(
        {
            "helpers.py": "def f():\n    return 'root'",
            "sub/helpers.py": "def f():\n    return 'sub'",
            "sub/only.py": "def f():\n    return 'only'",
            "sub/inner.yml": flow("helpers:f") + "  - {id: b, call: 'only:f'}\n",
            "f.yml": "nbflow: 1\nsteps:\n  - {id: sub, workflow: sub/inner.yml}\n  - {id: own, call: 'helpers:f'}\n",
        }
    )
    run = nbflow.run("f.yml", quiet=True)
    assert ["sub", "only", "root"] == [run[node].output for node in ("sub/a", "sub/b", "own")]


def test_a_change_of_a_module_is_named_with_its_folder(write):
    """Two modules of one name are two."""
    write({"f.yml": "nbflow: 1\nsteps:\n  - {id: sub, workflow: sub/inner.yml}\n  - {id: own, call: 'helpers:f'}\n"})
    write({"helpers.py": "def f():\n    return 1", "sub/helpers.py": "def f():\n    return 2"})
    write({"sub/inner.yml": flow("helpers:f")})
    nbflow.run("f.yml", quiet=True).check()
    write({"sub/helpers.py": "def f():\n    return 3"})
    with pytest.raises(nbflow.NbflowError, match=r"code of sub/helpers:f changed since 1 finished task ran"):
        nbflow.resume("f.yml", quiet=True)


def test_a_module_that_is_called_like_one_of_the_standard_library_is_the_one_beside_the_workflow(write):
    """And everybody else in the process still has the library's."""
    import statistics

    write(
        {
            "f.yml": flow("statistics:mean", data=[1, 2, 3]),
            "statistics.py": "def mean(data):\n    return 'mine'",
            "g.yml": flow("other:f"),
            "other.py": "import statistics\ndef f():\n    return statistics.mean([1, 2, 3])",
        }
    )
    assert "mine" == output("f.yml")
    assert statistics is sys.modules["statistics"]
    assert 2 == output("g.yml")


@pytest.mark.parametrize("edited", ["work", "helper", "package.part"])
def test_a_new_run_has_what_was_edited_since(write, edited):
    """In the module that is called, and in those that it imports; also within a second, and of the same length."""
    write(
        {
            "f.yml": flow("work:f"),
            "work.py": "import helper\nfrom package.part import C\nA = 1\ndef f():\n    return [A, helper.B, C]",
            "helper.py": "B = 1",
            "package/__init__.py": "",
            "package/part.py": "C = 1",
        }
    )
    assert [1, 1, 1] == output("f.yml")
    file = Path(f"{edited.replace('.', '/')}.py")
    write({str(file): file.read_text().replace("= 1", "= 2")})
    assert 4 == sum(output("f.yml"))


def test_what_somebody_imported_before_and_edited_since_is_loaded_again(write, monkeypatch):
    """A person tries a function in a cell, edits it, and runs the workflow."""
    write({"f.yml": flow("work:f"), "work.py": "def f():\n    return 1"})
    monkeypatch.syspath_prepend(str(Path.cwd()))
    import work  # type: ignore[import-not-found]  # it was written above

    assert 1 == work.f()
    write({"work.py": "def f():\n    return 2"})
    assert 2 == output("f.yml")


def test_a_run_keeps_the_module_that_it_began_with(write):
    """An edit meanwhile reaches nothing of it."""
    write(
        {
            "work.py": "import pathlib\ndef f(n):\n    pathlib.Path('work.py').write_text('def f(n):\\n    return 0')\n"
            "    return n",
            "f.yml": "nbflow: 1\nsteps:\n  - {id: a, items: [1, 2, 3], "
            "step: {id: s, call: 'work:f', arguments: {n: '{{ item }}'}}}\n",
        }
    )
    assert [1, 2, 3] == output("f.yml")["results"]
    assert [0, 0, 0] == output("f.yml")["results"]


PICKLES = """\
import dataclasses, inspect, pickle, typing

@dataclasses.dataclass
class Model:
    rate: "Rate"

Rate = int

def f():
    assert typing.get_type_hints(Model) == {"rate": int}
    assert "class Model" in inspect.getsource(Model)
    assert pickle.loads(pickle.dumps(Model(2))) == Model(2)
    with open("model.pickle", "wb") as file:
        pickle.dump(Model(1), file)
"""


def test_what_a_function_pickles_can_be_read_by_others(write, folder):
    """Its module has the name that another process knows it by."""
    write({"f.yml": flow("models:f"), "models.py": PICKLES})
    output("f.yml")
    code = "import pickle; print(pickle.load(open('model.pickle', 'rb')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    assert "Model(rate=1)\n" == done.stdout


def test_a_module_whose_name_is_taken_can_pickle_and_be_inspected(write):
    """Under the name of its own, as long as the process lives."""
    write({"f.yml": flow("calendar:f"), "calendar.py": PICKLES})
    output("f.yml")
    assert "Model(rate=1)" == repr(pickle.loads(Path("model.pickle").read_bytes()))


@pytest.mark.parametrize("init", [True, False])
@pytest.mark.parametrize("name", ["package", "email"])
def test_modules_of_packages_are_called(write, init, name):
    """With relative imports, also when the function is called; with and without ``__init__.py``, and a taken name."""
    write({"f.yml": flow(f"{name}.part:f")})
    write({f"{name}/part.py": "from .other import A\ndef f():\n    from . import third\n    return [A, third.B]"})
    write({f"{name}/other.py": "A = 1", f"{name}/third.py": "B = 2"} | ({f"{name}/__init__.py": ""} if init else {}))
    assert [1, 2] == output("f.yml")


def test_a_function_may_import_what_is_beside_it_when_it_is_called(write):
    """Python finds it as long as the call lasts."""
    write(
        {"f.yml": flow("work:f"), "work.py": "def f():\n    import beside\n    return beside.A", "beside.py": "A = 1"}
    )
    assert 1 == output("f.yml")


def test_installed_functions_are_called(write):
    """Those of the standard library, of packages, and the built-in ones."""
    write({"f.yml": flow("json:loads", s="[1]"), "g.yml": flow("email.utils:quote", str="b")})
    assert ([1], "b") == (output("f.yml"), output("g.yml"))


def test_many_threads_load_a_module_once(write):
    """All wait for the first."""
    write(
        {
            "work.py": "import pathlib, time\nwith open('loads', 'a') as file:\n    file.write('x')\n"
            "import threading\nMANY = threading.Barrier(4)\ndef f(n):\n    MANY.wait(30)\n    return n",
            "f.yml": "nbflow: 1\nmax_workers: 4\nsteps:\n  - {id: a, items: [1, 2, 3, 4], max_concurrency: 4, "
            "step: {id: s, call: 'work:f', arguments: {n: '{{ item }}'}}}\n",
        }
    )
    assert [1, 2, 3, 4] == output("f.yml")["results"]
    assert "x" == Path("loads").read_text()


def test_a_module_that_cannot_be_loaded_leaves_nothing_behind(write):
    """Mended, it is loaded; the process has the library's again."""
    import calendar

    write({"f.yml": flow("calendar:f"), "calendar.py": "def f():\n    return 1\n1 / 0"})
    assert "ZeroDivisionError" in str(nbflow.run("f.yml", quiet=True)["a"].error)
    assert calendar is sys.modules["calendar"]
    write({"calendar.py": "def f():\n    return 1"})
    assert 1 == output("f.yml")


CHANGES = """\
def add(rows, item):
    rows.append(item)
    return rows


def fail_once(rows):
    rows.append(0)
    assert len(rows) == 3
    return rows
"""


@pytest.mark.parametrize("workers", [1, 3])
def test_a_function_that_changes_its_arguments_changes_nobody_elses(write, workers):
    """Neither those of other items, nor the output that they came from."""
    write(
        {
            "work.py": CHANGES,
            "f.yml": f"""\
nbflow: 1
steps:
  - {{id: load, call: "builtins:dict", arguments: {{rows: [1, 2]}}}}
  - id: fixed
    items: [10, 20, 30]
    max_concurrency: {workers}
    step: {{id: s, call: "work:add", arguments: {{rows: [1, 2], item: "{{{{ item }}}}"}}}}
  - id: read
    items: [10, 20, 30]
    max_concurrency: {workers}
    step: {{id: s, call: "work:add", arguments: {{rows: "{{{{ steps.load.output.rows }}}}", item: "{{{{ item }}}}"}}}}
  - {{id: last, call: "builtins:dict", arguments: {{rows: "{{{{ steps.load.output.rows }}}}"}}}}
""",
        }
    )
    run = nbflow.run("f.yml", quiet=True)
    each = [[1, 2, 10], [1, 2, 20], [1, 2, 30]]
    assert [each, each] == [run[step].output["results"] for step in ("fixed", "read")]
    assert {"rows": [1, 2]} == run["last"].output


def test_each_attempt_has_the_arguments_anew(write):
    """What the one before did with them is gone."""
    write({"work.py": CHANGES})
    write({"f.yml": flow("work:fail_once", rows=[1]).replace("}}\n", "}, retry: {attempts: 3, on: [error]}}\n")})
    failed = nbflow.run("f.yml", quiet=True)["a"]
    assert (3, "AssertionError") == (failed.attempts, failed.error.exception)


def test_what_a_function_returns_and_nobody_can_keep_is_its_failure(write):
    """By name, with its place."""
    write({"work.py": "def f():\n    return {'a': [{1}]}", "f.yml": flow("work:f")})
    error = nbflow.run("f.yml", quiet=True)["a"].error
    assert error.kind == "output"
    assert error.message.startswith("work:f returned set at ['a'][0], which cannot be kept: write it to a file")
