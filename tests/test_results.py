"""Results: what comes out of a notebook is exactly what was in it, or it is refused by name."""

from __future__ import annotations

import base64
import datetime as dt
import errno
import io
import json
import math
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nbflow import values
from nbflow.errors import StoreError
from nbflow.kernels import LocalKernels
from nbflow.notebooks.collect import LARGE, collect
from nbflow.notebooks.results import load, scraps
from nbflow.notebooks.runner import NotebookRunner
from nbflow.notebooks.watch import watch
from nbflow.source import read_notebook
from nbflow.steps import NotebookStep
from nbflow.task import Context, Places, Task
from nbflow.values import File


class NeverStop:
    """Nobody asks to stop."""

    reason = None
    kill = False

    def listen(self, callback):
        return lambda: None


@pytest.fixture(scope="module")
def kernels():
    made = LocalKernels()
    yield made
    made.close()


@pytest.fixture
def run(tmp_path, kernels):
    """Run cells of code, the last of them tagged ``results``."""

    def run(*sources: str, kernel_folder: Path = tmp_path, **step):
        cells = [
            {
                "cell_type": "code",
                "id": f"c{i}",
                "source": s,
                "metadata": {"tags": []},
                "outputs": [],
                "execution_count": None,
            }
            for i, s in enumerate(sources)
        ]
        cells[-1]["metadata"]["tags"] = ["results"]
        metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        path = tmp_path / "n.ipynb"
        path.write_text(json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}))
        folder = tmp_path / "run"
        places = Places(
            folder,
            folder / "n.ipynb",
            folder / "n.failed.ipynb",
            folder / "n.log",
            folder / "artifacts" / "n",
            folder / "item",
        )
        task = Task(("n",), "k", NotebookStep(id="n", path="n.ipynb", **step), {}, 1, "n", None, "f")
        return NotebookRunner({"n.ipynb": read_notebook(path)}, tmp_path, kernels, "r")(
            task, Context(places, NeverStop(), lambda event: None)
        )

    return run


@pytest.fixture
def saved(tmp_path):
    """Save one value as a kernel does, and load it again."""

    def saved(value):
        output, problems = collect(values, {"x": value}, ["x"], str(tmp_path / "artifacts"), str(tmp_path))
        if problems:
            return problems["x"]
        out = values.loads(values.dumps(output))["x"]
        return load(out, tmp_path) if isinstance(out, File) else out

    return saved


# With a kernel


def test_values_frames_arrays_and_files_come_out_as_they_were(run, tmp_path):
    """The kernel knows nothing of nbflow; large values are files, by relative paths with size and digest."""
    outcome = run(
        "import pandas as pd, numpy as np, datetime as dt\nfrom pathlib import Path\nimport matplotlib",
        "nan = float('nan')\nbig = 2**70\nday = dt.date(2026, 11, 23)\npair = (1, np.float32(0.5))\n"
        "zero_d = np.array(3)\n"
        "frame = pd.DataFrame({'a': [1, 2], 'b': pd.Categorical(['x', 'y'])}, index=pd.Index([5, 7], name='k'))\n"
        "series = pd.Series([1.5, None])\narray = np.arange(6, dtype='i2').reshape(2, 3)\nlong = 'x' * 40_000\n"
        "Path('model.bin').write_bytes(b'abc')\nmodel = Path('model.bin')",
    )
    assert "completed" == outcome.status
    out = outcome.output
    assert math.isnan(out["nan"])
    assert (2**70, dt.date(2026, 11, 23), [1, 0.5], 3) == (out["big"], out["day"], out["pair"], out["zero_d"])
    folder = tmp_path / "run"
    frame = pd.DataFrame({"a": [1, 2], "b": pd.Categorical(["x", "y"])}, index=pd.Index([5, 7], name="k"))
    pd.testing.assert_frame_equal(frame, load(out["frame"], folder))
    pd.testing.assert_series_equal(pd.Series([1.5, None]), load(out["series"], folder))
    assert "int16" == str(load(out["array"], folder).dtype)
    assert [[0, 1, 2], [3, 4, 5]] == load(out["array"], folder).tolist()
    assert "x" * 40_000 == load(out["long"], folder)
    assert "artifacts/n/frame.parquet" == out["frame"].path
    assert (3, "file", str(tmp_path / "model.bin")) == (out["model"].size, out["model"].format, out["model"].path)
    assert "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" == out["model"].sha256


def test_what_cannot_be_saved_is_left_out_with_a_warning(run):
    """Modules, functions, classes, underscores, objects; the rest is kept."""
    outcome = run(
        "import math\nclass Model: pass\ndef f(): pass",
        "good = 1\nfigure = Model()\nlibrary = math\nfunction = f\nkind = Model\nmixed = {'a': object()}\n_private = 2",
    )
    assert ("completed", {"good": 1}) == (outcome.status, outcome.output)
    assert [
        "'figure' is left out of the results: it is __main__.Model.",
        "'library' is left out of the results: it is a module.",
        "'function' is left out of the results: it is a function.",
        "'kind' is left out of the results: it is a class.",
        "'mixed' is left out of the results: it is object at ['a'].",
    ] == list(outcome.warnings)


def test_a_name_that_was_asked_for_and_cannot_be_saved_fails_the_item(run):
    """So does one that does not exist; the notebook is kept as a failed one."""
    outcome = run("import math\nfine = 1", "fine = 2", outputs=("fine", "math", "absent"))
    assert ("failed", "output") == (outcome.status, outcome.error.kind)
    expected = (
        "'math' was asked for, and it is a module; 'absent' was asked for, and there is no such name in the notebook"
    )
    assert expected == outcome.error.message
    assert "n.failed.ipynb" == outcome.notebook


def test_reading_results_leaves_no_trace_in_the_notebook(run, tmp_path):
    """No output, no name, no history, whatever the notebook did to its own names."""
    outcome = run(
        "json = types = values = collect = print = exec = eval = None",
        "n = 1\nnames = sorted(k for k in dir() if 'nbflow' in k)\nnames",
    )
    assert {"n": 1, "names": []} == outcome.output
    nb = json.loads((tmp_path / "run" / "n.ipynb").read_text())
    assert [1, 2] == [cell["execution_count"] for cell in nb["cells"]]
    assert [0, 1] == [len(cell["outputs"]) for cell in nb["cells"]]


def test_glued_results_of_scrapbook_are_understood(run, tmp_path):
    """Its records are display outputs; a results cell wins."""
    buffer = io.BytesIO()
    pd.DataFrame({"a": [1]}).to_parquet(buffer)
    frame = base64.b64encode(buffer.getvalue()).decode()
    glue = (
        "from IPython.display import display\n"
        "def glue(name, data, encoder='json'):\n"
        "    mime = f'application/scrapbook.scrap.{encoder}+json'\n"
        "    display({mime: {'name': name, 'data': data, 'encoder': encoder, 'version': 1}}, raw=True)\n"
        f"glue('a', 1)\nglue('both', 1)\nglue('t', 'text', 'text')\nglue('frame', {frame!r}, 'pandas')"
    )
    outcome = run(glue, "both = 2")
    frame = outcome.output.pop("frame")
    assert {"a": 1, "both": 2, "t": "text"} == outcome.output
    assert [{"a": 1}] == load(frame, tmp_path / "run").to_dict("records")


def test_kernels_of_other_languages_give_a_warning(run, tmp_path, monkeypatch):
    """Their results cannot be read; the notebook completes all the same."""
    folder = tmp_path / "kernels" / "other"
    folder.mkdir(parents=True)
    script = (
        "import ipykernel.ipkernel as k\nfrom ipykernel.kernelapp import IPKernelApp\n"
        "info = {'name': 'Klingon', 'version': '1', 'mimetype': 'text/x', 'file_extension': '.k'}\n"
        "k.IPythonKernel.language_info = info\n"
        "IPKernelApp.launch_instance()"
    )
    spec = {
        "argv": [sys.executable, "-c", script, "-f", "{connection_file}"],
        "display_name": "x",
        "language": "Klingon",
    }
    (folder / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    outcome = run("1", "n = 1", kernel="other")
    assert ("completed", {}) == (outcome.status, outcome.output)
    assert ("results can be read from Python kernels, and this one runs klingon.",) == outcome.warnings


# Without a kernel: the code that is carried into it


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame(),
        pd.DataFrame({"a": [1, 2]}, index=["x", "y"]),
        pd.DataFrame(
            {"when": pd.date_range("2026-01-01", periods=2, tz="Europe/Berlin"), "d": pd.to_timedelta([1, 2], "h")}
        ),
        pd.DataFrame(
            {"i8": np.array([1], "i1"), "b": [True], "n": pd.array([None], "Int64"), "s": pd.array(["x"], "string")}
        ),
        pd.DataFrame({"o": ["a", None]}, index=pd.MultiIndex.from_tuples([(1, "a"), (2, "b")], names=["i", None])),
        pd.DataFrame([[1, 2]], columns=pd.Index(["p", "q"], name="which")),
        pd.DataFrame({"days": [dt.date(2026, 1, 1)], "lists": [None]}),
    ],
)
def test_a_frame_comes_back_to_the_last_type(saved, frame):
    """Types, index, names of columns."""
    pd.testing.assert_frame_equal(frame, saved(frame), check_freq=False)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (pd.DataFrame({"a": [1, "x"]}), "it is a DataFrame that Parquet does not give back as it was"),
        (pd.DataFrame({"a": [object()]}), "it is a DataFrame that Parquet does not give back as it was"),
        (
            pd.DataFrame({"a": pd.Series([None, float("nan"), dt.date(2026, 1, 1)], dtype=object)}),
            "not give back as it was",
        ),
        (pd.DataFrame({"a": [[1, 2]]}), "it is a DataFrame that Parquet does not give back as it was"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "Duplicate column names"),
        (type("Own", (pd.DataFrame,), {})({"a": [1]}), "only a plain DataFrame can be saved"),
        (np.array([object()]), "it is an array of objects"),
        (np.ma.array([1], mask=[True]), "only a plain array can be saved"),
        (pd.Index([1]), "it is pandas."),
        (2j, "it is complex"),
        ({1: 2}, "keys must be text"),
        (len, "it is a function"),
    ],
)
def test_what_would_not_come_back_as_it_was_is_refused(saved, tmp_path, value, reason):
    """With the reason, and no file is left."""
    assert reason in saved(value)
    assert [] == list((tmp_path / "artifacts").glob("*"))


@pytest.mark.parametrize("problem", [MemoryError(), OSError(errno.ENOSPC, "full")])
def test_a_machine_without_room_refuses_no_value(saved, monkeypatch, problem):
    """The same frame can be saved later, so the reading as a whole fails, and the item runs again."""

    def full(*_, **__):
        raise problem

    monkeypatch.setattr(pd.DataFrame, "to_parquet", full)
    with pytest.raises(type(problem)):
        saved(pd.DataFrame({"a": [1]}))


def test_a_series_keeps_its_name_or_has_none(saved):
    """Also a name that is a number."""
    for name in (None, "s", 0):
        series = pd.Series([1, 2], name=name)
        back = saved(series)
        pd.testing.assert_series_equal(series, back)
        assert name == back.name


def test_arrays_of_every_plain_type_come_back(saved):
    """Structured ones and dates, too."""
    for kind in ("?", "i1", "u8", "f2", "f8", "c16", "M8[ns]", "m8[s]", "U3", "S3", [("a", "i4"), ("b", "f8")]):
        array = np.zeros((2, 1), kind)
        back = saved(array)
        assert (array.dtype, array.shape, array.tobytes()) == (back.dtype, back.shape, back.tobytes())


def test_values_become_files_where_they_are_large(tmp_path):
    """Not a byte earlier."""
    fits = "x" * (LARGE - 2)
    output, _ = collect(values, {"a": fits, "b": fits + "x"}, ["a", "b"], str(tmp_path / "a"), str(tmp_path))
    assert fits == output["a"]
    assert ("a/b.json", "json") == (output["b"].path, output["b"].format)


def test_without_pyarrow_a_frame_is_refused_and_says_so(saved, monkeypatch):
    """The kernel's environment decides."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "it is a DataFrame, which cannot be saved: no pyarrow in the kernel's environment" == saved(
        pd.DataFrame({"a": [1]})
    )


def test_a_path_that_is_no_file_is_text(saved, tmp_path):
    """A folder, or a file that does not exist."""
    assert str(tmp_path) == saved(tmp_path)
    assert "nowhere" == saved(Path("nowhere"))


def test_a_file_that_is_gone_or_unknown_cannot_be_loaded(tmp_path):
    """The error names it."""
    with pytest.raises(StoreError, match=r"gone\.npy is gone"):
        load(File("gone.npy", 1, "x", "npy"), tmp_path)
    (tmp_path / "x").write_text("x")
    with pytest.raises(StoreError, match="has the format 'zip'"):
        load(File("x", 1, sha256(b"x").hexdigest(), "zip"), tmp_path)


def test_a_file_that_was_changed_since_is_not_taken_for_the_result(tmp_path):
    """Another item may have written it after this one ended."""
    (tmp_path / "x").write_text("y")
    with pytest.raises(StoreError, match="it was changed since"):
        load(File("x", 1, sha256(b"x").hexdigest(), "file"), tmp_path)


def test_a_scrap_that_cannot_be_read_is_told(tmp_path):
    """Encoders of others."""
    data = {"application/scrapbook.scrap.own+json": {"name": "a", "data": 1, "encoder": "own"}}
    output, problems = scraps([{"outputs": [{"data": data}]}], tmp_path, tmp_path)
    assert ({}, ["'a' was glued with the encoder 'own', which cannot be read."]) == (output, problems)


def test_watching_costs_next_to_nothing():
    """A hook cannot be taken off again, so it is measured in a process of its own."""
    import subprocess

    script = """
import sys, time, importlib.util
spec = importlib.util.spec_from_file_location("w", sys.argv[1])
module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)
def cost():
    best = 1.0
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(20000): sys.audit("some.event", 1)
        best = min(best, (time.perf_counter() - began) / 20000)
    return best
before = cost(); began = time.perf_counter(); module.watch(); start = time.perf_counter() - began
print(start, cost() - before)
"""
    code = Path(watch.__code__.co_filename)
    start, each = map(
        float,
        subprocess.run(
            [sys.executable, "-c", script, str(code)], capture_output=True, text=True, check=True
        ).stdout.split(),
    )
    assert start < 0.001
    assert each < 1e-6
