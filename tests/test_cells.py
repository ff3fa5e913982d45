"""Cells as steps: a plain notebook is run step by step, and resumed at the one that failed."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

import nbflow
from nbflow.errors import ChangedError, NbflowError, RunFailedError
from nbflow.notebooks.held import Held, Lent
from nbflow.notebooks.whole import Whole, _paired, executed_name
from nbflow.outcome import Outcome
from nbflow.source import read_notebook

Make = Callable[..., Path]


@pytest.fixture
def steps(folder: Path) -> Make:
    """Make a notebook of cells, each as tags and code: ``steps(("step:load", "x = 1"), ("step:fit", "y = x"))``."""

    def make(*cells: tuple[str, str], name: str = "analysis.ipynb") -> Path:
        new = nbformat.v4.new_code_cell
        made = [new(source, metadata={"tags": tags.split()}) for tags, source in cells]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(nbformat.v4.new_notebook(cells=made, metadata={"kernelspec": kernel}), folder / name)
        return folder / name

    return make


def code(*lines: str) -> str:
    """Give a cell of some lines."""
    return "\n".join(lines)


def ran(step: str) -> str:
    """Give code that writes down that a step ran, and in which kernel."""
    return f"import os\nwith open('ran.txt', 'a') as file:\n    print({step!r}, os.getpid(), file=file)\n"


def rows(folder: Path) -> list[tuple[str, str]]:
    """Give which steps ran, each with its kernel."""
    return [tuple(line.split()) for line in (folder / "ran.txt").read_text().splitlines()]  # type: ignore[misc]


def run(path: Path, **more: Any) -> Any:
    """Run a notebook, whatever comes of it."""
    return nbflow.run(path, quiet=True, **more)


def resume(path: Path, **more: Any) -> Any:
    """Resume its run."""
    return nbflow.resume(path, quiet=True, **more)


def shown(one: Any, cell: int) -> str:
    """Give what a code cell, from 1, shows in the executed notebook of a run."""
    executed = nbformat.read(one.folder / executed_name("analysis.ipynb"), 4)
    code = [
        c for c in executed.cells if c.cell_type == "code" and "injected-parameters" not in c.metadata.get("tags", [])
    ]
    texts = [out.get("text") or out["data"]["text/plain"] for out in code[cell - 1].outputs]
    return "".join(texts).strip()


# -- whose kernel -------------------------------------------------------------------------------------------------


def test_steps_below_each_other_share_a_kernel(steps, folder):
    """It is one process, and what cannot be saved goes on there."""
    path = steps(
        ("", "import math"),
        ("step:load", ran("load") + "lines = (n for n in range(5))\nfirst = next(lines)"),
        ("", "x = 1"),
        ("step:clean", ran("clean") + "second = next(lines)"),
        ("step:fit", ran("fit") + "print(first, second, next(lines), x)"),
    )
    done = run(path).check()
    assert ["load", "clean", "fit"] == [step for step, _ in rows(folder)]
    assert 1 == len({kernel for _, kernel in rows(folder)})
    assert "0 1 2 1" == shown(done, 5)


def test_a_step_that_says_what_it_needs_has_a_kernel_of_its_own(steps, folder):
    """With setup run, and the names that it reads; others it does not find."""
    path = steps(
        ("setup", ran("setup") + "k = 10"),
        ("step:load", ran("load") + "rows = [1, 2]\nother = 'here'"),
        ("step:side needs:load", ran("side") + "names_ = dir()\nprint(sum(rows) * k, 'other' in names_)"),
        ("step:next needs:load", "print(other)"),
    )
    done = run(path).check()
    assert "30 False" == shown(done, 3)
    kernels = dict(rows(folder))
    assert kernels["load"] != kernels["side"]
    assert 3 == sum(step == "setup" for step, _ in rows(folder))


def test_items_have_kernels_of_their_own_and_their_results_are_lists(steps, folder):
    """In item order, and nothing that one item makes is seen by another."""
    path = steps(
        ("parameters", "names = ['b', 'a', 'c']"),
        ("step:load", "table = {'a': 1, 'b': 2, 'c': 3}\nseen = []"),
        ("step:fit each:names as:name max:3", ran("fit") + "seen.append(name)\nscore = table[name] * 10\nprint(seen)"),
        ("results", "score"),
        ("step:report", "print(score, seen)"),
    )
    done = run(path).check()
    assert "[20, 10, 30] []" == shown(done, 5)
    assert 3 == len({kernel for _, kernel in rows(folder)})
    assert [{"score": 20}, {"score": 10}, {"score": 30}] == done["fit"].output["results"]
    whole = json.loads((done.folder / executed_name("analysis.ipynb")).read_text())
    summary = next(c for c in whole["cells"] if "".join(c["source"]) == "score")["outputs"][0]["data"]
    assert '<a href="0_fit_b.ipynb">fit name=b</a>' in "".join(summary["text/html"])


def test_what_is_no_value_is_not_in_the_table_and_comes_along(steps, cli):
    """Which is said, for it reads as lost; and an item is called as the table calls it."""
    path = steps(
        ("step:load", "ns = [1, 2]\nclass Fit:\n    def __init__(self, n): self.n = n"),
        ("step:fit each:ns as:n", "fit = Fit(n)"),
        ("results", "fit"),
        ("step:end", "print([one.n for one in fit])"),
    )
    done = run(path).check()
    assert "[1, 2]" == shown(done, 4)
    (told,) = done.warnings
    assert "fit n=1: 'fit' is left out of the results: it is __main__.Fit. Later steps find it." == told.message
    refused = cli("resume", path.name, "--only", "fit n=1", code=2).stderr
    assert "Call an item as nbflow results does: fit:fit:0" in refused


@pytest.mark.parametrize("most", [1, 4])
def test_items_see_the_same_names_however_many_run_at_a_time(steps, most):
    """What one changes is seen by no other, in whatever order they run; so are globals and random numbers."""
    path = steps(
        ("", "import random\nrandom.seed(1)\nseen = {}"),
        (
            "step:load",
            code(
                "bag = [0]",
                "last = None",
                "def put(x):",
                "    global last",
                "    last = x",
                "    bag.append(x)",
                "    return list(bag)",
            ),
        ),
        (f"step:each needs:load each:names as:name max:{most}", "before = last, dict(seen)\nseen[name] = put(name)"),
        ("", "drawn = random.random()"),
        ("results", "before, seen, drawn, last"),
        ("step:end", "print(before, seen, len(set(drawn)), last, bag)"),
    )
    _change(path, "bag = [0]", "bag = [0]\\nnames = ['a', 'b', 'c', 'd']")
    each = ", ".join(f"{{'{name}': [0, '{name}']}}" for name in "abcd")
    wanted = f"{[(None, {})] * 4} [{each}] 1 ['a', 'b', 'c', 'd'] [0]"
    assert wanted == shown(run(path, max_workers=4).check(), 6)


def test_a_step_loads_no_more_than_the_names_that_it_reads(steps):
    """Of large ones that stand beside each other, in a dict or under their own names; a megabyte for all the rest."""
    path = steps(
        (
            "",
            code(
                "import numpy as np",
                "def read():",
                "    return int(open('/proc/self/io').readline().split()[1])",
                "first = read()",
            ),
        ),
        (
            "step:load",
            code(
                "one, two = np.arange(1e6), np.ones(3_000_000)",
                "both = {'one': one, 'two': two}",
                "texts = ['x' * 50] * 200_000",
                "table = {n: str(n) for n in range(100_000)}",
            ),
        ),
        ("step:small needs:load", "print(read() - first - one.nbytes, one[-1])"),
        (
            "step:large needs:load",
            "print(read() - first - one.nbytes - two.nbytes, both['one'] is one if 'one' in dir() else '')",
        ),
    )
    done = run(path).check()
    assert int(shown(done, 3).split()[0]) < 1_000_000
    assert int(shown(done, 4).split()[0]) < 1_000_000


@pytest.mark.long
def test_a_list_of_items_may_be_made_by_a_step(steps):
    path = steps(
        ("step:load", "sizes = [n * 2 for n in range(3)]"),
        ("step:each each:sizes as:size", "half = size // 2"),
        ("results", "half"),
        ("step:end", "print(half)"),
    )
    assert "[0, 1, 2]" == shown(run(path).check(), 4)


def test_parameters_are_inputs(steps):
    """Those with a plain default, of their type; the given value stands behind the cell that has it."""
    path = steps(("parameters", "n = 2\nlabel = None"), ("step:load", "print(n * 3, label)"))
    assert "6 None" == shown(run(path).check(), 2)
    assert "15 x" == shown(run(path, inputs={"n": 5, "label": "x"}).check(), 2)


def test_what_a_step_waits_for_may_stand_below_it(steps, folder):
    """What it reads by a function of that step is there; what a third one means by this name is another matter."""
    path = steps(
        ("step:load", "k = 3"),
        ("step:report needs:helpers", "print(f())"),
        ("step:helpers needs:load", "def f(): return k"),
        ("step:other needs:load", "def f(): return 0"),
    )
    assert "3" == shown(run(path).check(), 2)


# -- resume -------------------------------------------------------------------------------------------------------

FAILS = "import os\nif os.path.exists('FAIL'):\n    raise ValueError('asked for')\n"


def test_a_resume_goes_on_at_the_failed_step_with_the_names_it_reads(steps, folder):
    """Nothing before it runs again; objects, functions and classes are what they were."""
    (folder / "FAIL").touch()
    path = steps(
        ("step:load", ran("load") + "class Model:\n    def fit(self): return helper(self.w)\nm = Model()\nm.w = 3"),
        ("step:clean", ran("clean") + "def helper(x): return x + k\nk = 5\nboth = [m, m]"),
        ("step:fit", FAILS + ran("fit") + "print(m.fit(), both[0] is m, type(m) is Model)"),
    )
    with pytest.raises(RunFailedError):
        run(path).check()
    (folder / "FAIL").unlink()
    done = resume(path).check()
    assert ["load", "clean", "fit"] == [step for step, _ in rows(folder)]
    assert "8 True True" == shown(done, 3)


def test_a_kill_loses_nothing_that_finished(steps, folder):
    """SIGKILL in the middle of a step; the one before it does not run again."""
    path = steps(
        ("step:load", ran("load") + "x = list(range(1000))"),
        ("step:slow", ran("slow") + "import time\nif not os.path.exists('GO'):\n    time.sleep(60)\nprint(sum(x))"),
    )
    command = [sys.executable, "-c", f"import nbflow; nbflow.run({str(path)!r}, quiet=True)"]
    process = subprocess.Popen(command)
    try:
        _until(lambda: "slow" in (folder / "ran.txt").read_text() if (folder / "ran.txt").exists() else False)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    (folder / "GO").touch()
    done = resume(path).check()
    assert ["load", "slow", "slow"] == [step for step, _ in rows(folder)]
    assert "499500" == shown(done, 2)


def _until(holds: Callable[[], bool]) -> None:
    import time

    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_name_that_cannot_be_saved_is_told_at_once_and_its_step_repeated(steps, folder):
    """Also the step that changed it since, and in a dry run it is said before."""
    (folder / "FAIL").touch()
    path = steps(
        (
            "step:load",
            ran("load") + "import sqlite3\nbase = sqlite3.connect(':memory:')\nbase.execute('create table t (x)')",
        ),
        ("step:fill", ran("fill") + "_ = base.execute('insert into t values (7)')\nother = 1"),
        ("step:idle", ran("idle") + "other += 1"),
        ("step:ask", FAILS + "print(base.execute('select x from t').fetchall(), other)"),
    )
    first = run(path)
    told = [warning.message for warning in first.warnings]
    assert any("base is a sqlite3.Connection" in one and "repeats step load" in one for one in told)
    (folder / "FAIL").unlink()
    reason = {row.node: row.reason for row in nbflow.resume(path, dry_run=True)}["ask"]
    assert "failed, repeats load, fill (base cannot be restored)" == reason
    done = resume(path).check()
    assert "[(7,)] 2" == shown(done, 4)
    assert ["load", "fill", "idle", "load", "fill"] == [step for step, _ in rows(folder)]


@pytest.mark.long
def test_what_repeated_steps_make_belongs_together(steps, folder):
    """A generator that cannot be saved fills a list that can: it is the list that the generator fills."""
    (folder / "FAIL").touch()
    path = steps(
        (
            "step:open",
            code(
                "odd = []",
                "def read(n):",
                "    for k in range(n):",
                "        if k % 2:",
                "            odd.append(k)",
                "        else:",
                "            yield k",
                "even = read(8)",
            ),
        ),
        ("step:first", "one = next(even), next(even)"),
        ("step:rest", FAILS + "print(one, list(even), odd)"),
    )
    run(path)
    (folder / "FAIL").unlink()
    assert "(0, 2) [4, 6] [1, 3, 5, 7]" == shown(resume(path).check(), 3)


def _change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_changed_cell_repeats_its_step_and_those_that_read_what_it_assigns(steps, folder):
    """And no others, though they stand below it; a dry run says why."""
    path = steps(
        ("step:load", ran("load") + "x = 1\ny = 1"),
        ("step:left", ran("left") + "a = x + 1"),
        ("step:right", ran("right") + "b = y + 1"),
        ("step:end", ran("end") + "print(a, 'end')"),
    )
    run(path).check()
    _change(path, "a = x + 1", "a = x + 5")
    with pytest.raises(ChangedError, match="cell 2"):
        resume(path)
    reasons = {row.node: (row.runs, row.reason) for row in nbflow.resume(path, dry_run=True)}
    assert (False, "kept") == reasons["load"] == reasons["right"]
    assert reasons["left"][0]
    assert "cell" in reasons["left"][1]
    assert (True, "waits for left") == reasons["end"]
    done = resume(path, changed="rerun").check()
    assert ["load", "left", "right", "end", "left", "end"] == [step for step, _ in rows(folder)]
    assert "6 end" == shown(done, 4)


@pytest.mark.long
def test_a_step_that_changed_a_name_in_place_counts_for_those_that_read_it(steps, folder):
    """Although it does not assign it: its value is another one behind it."""
    path = steps(
        ("step:load", "x = [1]"),
        ("step:grow", ran("grow") + "x.append(2)"),
        ("step:end needs:grow", ran("end") + "print(x)"),
    )
    assert "[1, 2]" == shown(run(path).check(), 3)
    _change(path, "x.append(2)", "x.append(3)")
    assert "[1, 3]" == shown(resume(path, changed="rerun").check(), 3)
    assert ["grow", "end", "grow", "end"] == [step for step, _ in rows(folder)]


@pytest.mark.parametrize(
    ("made", "repeated"),
    [
        ("[1, 2]", []),
        ("(1, 2)", []),
        ("pandas.DataFrame({'n': [1, 2]})", []),
        ("[[1], [2]]", ["load"]),
        ("[1, 2]; also = rows", ["load"]),
    ],
)
def test_an_edited_step_may_read_what_nobody_read_before(made, repeated, steps, folder):
    """What is small was saved all the same; else its step is repeated. What it never made is not looked for."""
    path = steps(
        ("step:load", ran("load") + f"import pandas\nrows = {made}\ntotal = 3\nif not total:\n    never = 1"),
        ("step:fit", ran("fit") + "print(total / 0)"),
    )
    run(path)
    _change(path, "print(total / 0)", "print(total / len(rows))")
    assert "1.5" == shown(resume(path).check(), 2)
    assert ["load", "fit", *repeated, "fit"] == [step for step, _ in rows(folder)]


@pytest.mark.long
def test_settings_go_on_behind_a_step_that_leaves_no_names(steps, folder):
    """A step that only sets something up is followed by one that needs it."""
    (folder / "FAIL").touch()
    path = steps(("step:env", "import os\nos.environ['WHO'] = 'me'"), ("step:ask", FAILS + "print(os.environ['WHO'])"))
    run(path)
    (folder / "FAIL").unlink()
    assert "me" == shown(resume(path).check(), 2)


@pytest.mark.parametrize(
    "made", ["range(3)", "__import__('numpy').arange(3)", "(0, 1, 2)", "{0: 1, 1: 1, 2: 1}.keys()"]
)
def test_items_may_be_in_anything_that_has_elements(steps, made):
    """A range, an array, a tuple, the keys of a mapping."""
    each = ("step:each each:xs as:x", "y = x * 2")
    path = steps(("step:load", f"xs = {made}"), each, ("results", "y"), ("step:end", "print(y)"))
    assert "[0, 2, 4]" == shown(run(path).check(), 4)


def test_dates_stay_dates_as_items(steps):
    """Texts would equal none of those in a frame, and nothing would say so."""
    made = "[pd.Timestamp('2025-01-02 03:04', tz='UTC'), {'at': dt.date(2025, 1, 2)}, np.datetime64('2025-01-02')]"
    path = steps(
        ("setup", "import datetime as dt, numpy as np, pandas as pd"),
        ("step:load", f"whens = {made}\nwhens += [dt.timedelta(days=1, seconds=2), dt.time(3, 4)]\nold = whens"),
        ("step:each each:whens as:when", "same, kind = when in old, type(when).__name__"),
        ("results", "same, kind"),
        ("step:end", "print(all(same), *kind)"),
    )
    done = run(path).check()
    assert "True datetime dict date timedelta time" == shown(done, 5)


@pytest.mark.long
def test_a_changed_setup_cell_repeats_all_steps(steps, folder):
    path = steps(("setup", "k = 1"), ("step:load", ran("load") + "x = k"), ("step:end", ran("end") + "print(x)"))
    run(path).check()
    _change(path, "k = 1", "k = 2")
    assert "2" == shown(resume(path, changed="rerun").check(), 3)
    assert ["load", "end"] * 2 == [step for step, _ in rows(folder)]


@pytest.mark.long
def test_a_lost_file_of_a_name_repeats_its_step_where_somebody_reads_it(steps, folder):
    """A name that nobody reads any more may be lost."""
    (folder / "FAIL").touch()
    path = steps(
        ("step:load", ran("load") + "x = list(range(2000))"),
        ("step:other", ran("other") + "y = ['y'] * 2000\nassert len(x)"),
        ("step:ask", FAILS + "print(len(y))"),
    )
    first = run(path)
    for file in (first.folder / "names").iterdir():
        file.unlink()
    (folder / "FAIL").unlink()
    done = resume(path).check()
    assert "2000" == shown(done, 3)
    assert ["load", "other", "load", "other"] == [step for step, _ in rows(folder)]


def test_pickles_that_somebody_else_signed_are_not_loaded(steps, folder, monkeypatch, tmp_path):
    """Their step is repeated instead; plain values need no trust."""
    (folder / "FAIL").touch()
    path = steps(
        ("step:load", ran("load") + "class Point:\n    pass\np = Point()\nn = 5"),
        ("step:ask", FAILS + "print(type(p).__name__, n)"),
    )
    run(path)
    (folder / "FAIL").unlink()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "somebody"))
    done = resume(path).check()
    assert "Point 5" == shown(done, 2)
    assert ["load", "load"] == [step for step, _ in rows(folder)]


def test_a_pickle_that_was_changed_is_never_loaded(steps, folder):
    """Its content is checked before: the step that reads it says which file it is, and how to make it again."""
    (folder / "FAIL").touch()
    path = steps(("step:load", "class Point:\n    pass\np = Point()"), ("step:ask", FAILS + "print(p)"))
    first = run(path)
    (file,) = (first.folder / "names").glob("*.pickle")
    file.write_bytes(b"cos\nsystem\n(S'touch PWNED'\ntR.")
    (folder / "FAIL").unlink()
    again = resume(path)
    assert "failed" == again.status
    assert "gone or was changed" in again["ask"].error.message
    assert not (folder / "PWNED").exists()
    assert "completed" == resume(path, from_="load").status


def test_names_that_steps_side_by_side_have_changed_are_not_restored(steps):
    """Nobody can say which is meant; the step that misses one is told why."""
    path = steps(
        ("step:load", "x = [0]"),
        ("step:a needs:load", "x.append(1)"),
        ("step:b needs:load", "x.append(2)"),
        ("step:end needs:a needs:b", "print(x)"),
    )
    done = run(path)
    assert "NameError" in done["end"].error.message
    assert any("x was not restored, for a and b have changed it" in warning.message for warning in done.warnings)


@pytest.mark.parametrize(
    ("first", "read"),
    [
        ("rows += [3]", "rows"),
        ("rows = held['rows']\nrows.append(3)", "rows"),
        ("rows.append(3)\nrows = [0]", "held"),
        ("rows = rows + [9]", "rows"),
    ],
)
def test_an_object_that_steps_side_by_side_change_is_not_restored(first, read, steps):
    """Whatever they call it, and whatever they call it afterwards."""
    path = steps(
        ("step:a", "rows = [1]\nheld = {'rows': rows}"),
        ("step:p needs:a", first),
        ("step:q needs:a", "held['rows'].append(2)"),
        ("step:r needs:p needs:q", f"print({read})"),
    )
    (failure,) = run(path).failures
    assert f"name '{read}' is not defined" in failure.error.message


def test_what_setup_made_and_steps_have_changed_is_not_taken_from_setup(steps):
    """A step in a kernel of its own that does not read it leaves it alone, whatever it saves."""
    path = steps(
        ("setup", "history = []"),
        ("step:a", "history.append(1)"),
        ("step:b needs:a", "lines = (n for n in range(3))"),
        ("step:c", "next(lines)"),
        ("step:d needs:c", "print(history)"),
    )
    assert "[1]" == shown(run(path).check(), 5)


@pytest.mark.long
def test_the_state_of_random_numbers_goes_on_behind_a_resume(steps, folder):
    """As if it had been one kernel; so do the directory and the environment."""
    path = steps(
        ("setup", "import random, os"),
        (
            "step:seed",
            "random.seed(3)\nos.makedirs('below', exist_ok=True)\nos.chdir('below')\nos.environ['WHO'] = 'me'",
        ),
        (
            "step:draw",
            FAILS.replace("'FAIL'", "'../FAIL'")
            + "print(random.random(), os.path.basename(os.getcwd()), os.environ['WHO'])",
        ),
    )
    whole = shown(run(path).check(), 3)
    (folder / "FAIL").touch()
    assert "failed" == run(path).status
    (folder / "FAIL").unlink()
    assert whole == shown(resume(path).check(), 3)


@pytest.mark.long
def test_a_timeout_and_retries_are_those_of_the_step(steps, folder):
    """Each try has a kernel of its own, for the one that failed is half changed."""
    path = steps(
        ("step:load", "x = []"),
        (
            "step:try retry:3",
            ran("try") + "x.append(1)\nif len(open('ran.txt').readlines()) < 3:\n    raise OSError('again')\nprint(x)",
        ),
        ("step:slow timeout:1s", "import time\ntime.sleep(30)"),
    )
    done = run(path)
    assert "[1]" == shown(done, 2)
    assert 3 == len({kernel for _, kernel in rows(folder)})
    assert "timeout" == done["slow"].error.kind


def test_cells_steps_of_a_workflow_hand_names_on(steps, folder):
    """By their tags; ``names`` are assigned right before them."""
    steps(
        ("setup", "k = 2"),
        ("step:load", ran("load") + "x = 5"),
        ("", "y = 6"),
        ("step:use", "print(x * k, y, z)"),
    )
    (folder / "flow.yml").write_text(
        "nbflow: 1\nsteps:\n"
        "- {id: load, cells: analysis.ipynb, tags: ['step:load']}\n"
        "- {id: between, run: 'true'}\n"
        "- {id: use, cells: analysis.ipynb, tags: ['step:use'], names: {z: '{{ steps.load.output.y }}'}}\n"
    )
    done = nbflow.run("flow.yml", quiet=True).check()
    executed = nbformat.read(done.folder / "use.ipynb", 4)
    assert "10 6 6\n" == "".join(out["text"] for cell in executed.cells for out in cell.get("outputs", []))


@pytest.mark.long
def test_a_run_is_begun_in_the_background_as_others_are(steps):
    """``start`` of a notebook whose cells are steps runs the steps."""
    done = nbflow.start(steps(("step:a", "x = 1"), ("step:b", "print(x)")), quiet=True).wait().check()
    assert ("completed", "completed") == (done["a"].status, done["b"].status)


@pytest.mark.long
def test_a_step_with_parameters_of_its_own_has_those(steps, folder):
    """In a workflow file, where others have none, or others; a name that they left does not come over it."""
    steps(("parameters", "n = 3"), ("step:load", "m = n"), ("step:use", "print(m, n)"))
    (folder / "flow.yml").write_text(
        "nbflow: 1\nsteps:\n"
        "- {id: load, cells: analysis.ipynb, tags: ['step:load']}\n"
        "- {id: use, cells: analysis.ipynb, tags: ['step:use'], parameters: {n: 5}}\n"
    )
    done = nbflow.run("flow.yml", quiet=True).check()
    executed = nbformat.read(done.folder / "use.ipynb", 4)
    assert "3 5\n" == "".join(out["text"] for cell in executed.cells for out in cell.get("outputs", []))


def test_no_kernel_is_left_behind(steps, folder):
    """Also of a step behind which the next one never came."""
    import psutil

    path = steps(("step:load", ran("load") + "x = 1"), ("step:a", "raise ValueError(x)"), ("step:b", "x"))
    run(path)
    assert not [kernel for _, kernel in rows(folder) if psutil.pid_exists(int(kernel))]


# -- what must not be silent --------------------------------------------------------------------------------------


def test_a_module_is_imported_only_for_whom_it_was_saved(steps, folder, tmp_path, monkeypatch):
    """To import one runs code: the name of a module in somebody's journal is as good as a pickle."""
    path = steps(
        ("step:load", ran("load") + "import bisect as form"),
        ("step:use", "assert os.path.exists('ok')\nform.bisect([1], 1)"),
    )
    first = run(path)
    journal = first.folder / "journal.jsonl"
    entry = next(
        event["names"]["form"] for event in map(json.loads, journal.read_text().splitlines()) if event.get("names")
    )
    assert "module" == entry["form"]
    (folder / "evil.py").write_text("open('evil.txt', 'w').close()")
    journal.write_text(journal.read_text().replace('"module":"bisect"', '"module":"evil"'))
    (folder / "ok").touch()
    assert "completed" == resume(path).status
    assert not (folder / "evil.txt").exists()
    assert ["load", "load"] == [step for step, _ in rows(folder)]


def test_items_that_somebody_else_saved_run_again_as_items(steps, folder, tmp_path, monkeypatch):
    """Repeated in the kernel of a reader there would be one of them, with a city of no list."""
    path = steps(
        ("setup", "city = 'Oslo'"),
        ("step:load", "cities = ['Lima', 'Cairo']"),
        ("step:fit each:cities as:city results", "s = {city, 'x'}"),
        ("step:end", "import os\nprint([sorted(one) for one in s])\nassert os.path.exists('ok')"),
    )
    assert "failed" == run(path).status
    (folder / "ok").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "somebody"))
    one = resume(path)
    assert "completed" == one.status
    assert "[['Lima', 'x'], ['Cairo', 'x']]" == shown(one, 4)


def test_what_a_repeated_step_sets_is_there_and_nothing_is_said(steps, folder, tmp_path, monkeypatch):
    """Somebody else saved it; it need not come along where the step that set it runs again."""
    path = steps(
        ("setup", "import os, random"),
        ("step:load", "random.seed(1)\nx = {1, 'a'}"),
        ("step:end", "assert os.path.exists('ok')\nprint(len(x), random.random())"),
    )
    assert "failed" == run(path).status
    (folder / "ok").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "somebody"))
    one = resume(path).check()
    assert "2 0.13436424411240122" == shown(one, 3)
    assert not any("do not come along" in warning.message for warning in one.warnings)


def test_what_a_step_does_to_a_name_of_setup_before_it_binds_it_anew_is_seen_by_what_holds_it(steps):
    """Though no step had left that name, and the step does not read what holds it."""
    path = steps(
        ("setup", "import types\nrows = [1]\nmodel = types.SimpleNamespace(rows=rows)"),
        ("step:fit", "model.n = 1"),
        ("step:more needs:fit", "rows.append(2)\nrows = [0]"),
        ("step:end needs:more", "print(model.rows, rows)"),
    )
    assert "[1, 2] [0]" == shown(run(path).check(), 4)


@pytest.mark.parametrize("first", ["setup", pytest.param("step:load", marks=pytest.mark.long)])
def test_a_step_that_leaves_anew_what_it_does_not_read_runs_again_where_that_has_changed(steps, first):
    """It holds what the step reads: else the value from before the edit would count, which that left."""
    cells = [
        (first, "import types\nrows = [1]\nmodel = types.SimpleNamespace(rows=rows)"),
        ("step:fit", "model.n = 1"),
        ("step:more", "rows.append(2)\nrows = [0]"),
        ("step:end", "print(model.n, model.rows, rows)"),
    ]
    run(steps(*cells)).check()
    cells[1] = ("step:fit", "model.n = 7")
    assert "7 [1, 2] [0]" == shown(resume(steps(*cells), changed="rerun").check(), 4)


SETTING = "import decimal, random, threading\ncontext = decimal.getcontext()\nrandom.seed(0)"
FOUND = "print(one.locked(), two.locked(), context.prec)"


@pytest.mark.parametrize(
    ("cells", "shows"),
    [
        (
            [
                ("step:first", "context.prec = 5\nrandom.random()"),
                ("step:left needs:first", "context.prec = 10\nrandom.random()\none = threading.Lock()"),
                ("step:right needs:first", "two = threading.Lock()"),
                ("step:end needs:left needs:right", f"{FOUND}\nprint(random.random())"),
            ],
            "False False 10\n0.420571580830845",
        ),
        (
            [
                ("step:left needs:", "context.prec = 5\nrandom.random()\none = threading.Lock()"),
                (
                    "step:right needs:",
                    "drawn, third = random.random(), 1 / decimal.Decimal(3)\ntwo = threading.Lock()",
                ),
                ("step:end needs:left needs:right", f"{FOUND}\nprint(third == 1 / decimal.Decimal(3), drawn)"),
            ],
            "False False 5\nFalse 0.8444218515250481",
        ),
    ],
    ids=["of the step before", "of setup"],
)
def test_each_repeated_step_finds_its_own_settings(steps, cells, shows):
    """In one kernel with others that were side by side with it; behind them come those of the last that set any."""
    one = run(steps(("setup", SETTING), *cells)).check()
    assert shows == shown(one, len(cells) + 1)


def test_a_name_of_setup_that_steps_change_side_by_side_fails_who_reads_it(steps):
    """No NameError would come: setup has made one in each kernel."""
    path = steps(
        ("setup", "cache = {}"),
        ("step:load", "n = 1"),
        ("step:left needs:load", "cache['l'] = n"),
        ("step:right needs:load", "cache['r'] = n"),
        ("step:both needs:left needs:right", "print(cache)"),
    )
    one = run(path)
    assert "failed" == one.status
    (failure,) = one.failures
    assert "cache is not restored: left and right have changed it" in failure.error.message
    assert "needs:" in failure.error.message


def test_a_repeated_step_is_not_repeated_again_for_the_step_below(steps, folder):
    """The kernel in which it was repeated has all that it made."""
    path = steps(
        ("step:load", ran("load") + "numbers = (n for n in range(9))\nlog = open('log.txt', 'a')"),
        ("step:clean", "assert os.path.exists('ok')\nfirst = next(numbers)"),
        ("step:last", "print(first, next(numbers), file=log, flush=True)"),
    )
    assert "failed" == run(path).status
    (folder / "ok").touch()
    assert "completed" == resume(path).status
    assert ["load", "load"] == [step for step, _ in rows(folder)]
    assert "0 1\n" == (folder / "log.txt").read_text()


def test_what_repeated_steps_share_with_restored_names_stays_shared(steps, folder):
    """Also where one of the names was saved again meanwhile, beside others: it is not restored a second time."""
    made = code(
        "k = 1",
        "def made():",
        "    class Item:",
        "        def price(self):",
        "            return k",
        "    return Item",
        "lamp, tea = [one() for one in [made()] * 2]",
    )
    path = steps(
        ("step:things", made),
        ("step:shop needs:things", "import threading\nshop = {'lock': threading.Lock(), 'goods': [lamp]}\nprint(tea)"),
        ("step:order needs:shop", "print(lamp.price())"),
        ("step:day needs:order", "shop['sold'] = lamp"),
        ("step:end needs:day", "print(shop['goods'][0] is lamp, shop['sold'] is lamp)"),
    )
    assert "True True" == shown(run(path).check(), 5)


def test_two_steps_for_each_element_of_a_list_may_both_read_it(steps):
    """The items of one cannot have changed the list for the other."""
    path = steps(
        ("step:load", "cities = ['Lima', 'Cairo']"),
        ("step:fit each:cities as:city results", "place = cities.index(city)"),
        ("step:plot each:cities as:city results", "label = f'{cities.index(city)} {city}'"),
    )
    one = run(path)
    assert "completed" == one.status, one.failures
    assert ["0 Lima", "1 Cairo"] == [one[f"plot:plot:{at}"].output["label"] for at in range(2)]


def test_a_kernel_that_died_while_it_waited_for_the_next_step_is_replaced(steps, folder, monkeypatch):
    """The system takes memory from processes that idle."""
    path = steps(("step:load", ran("load") + "n = 3"), ("step:use", ran("use") + "print(n)"))
    take = Held.take

    def after_its_death(self, node, made):
        pid = int(rows(folder)[-1][1])
        os.kill(pid, signal.SIGKILL)
        died = os.pidfd_open(pid)
        select.select([died], [], [])
        os.close(died)
        return take(self, node, made)

    monkeypatch.setattr(Held, "take", after_its_death)
    one = run(path)
    assert "completed" == one.status, one.failures
    assert "3" == shown(one, 2)
    (_, first), (_, second) = rows(folder)
    assert first != second


def test_a_kernel_in_which_nobody_goes_on_ends_at_once(steps, folder):
    """Its next step is kept from before, and what comes then may take hours."""
    looks = code(
        "import os, select",
        "try:",
        "    kernel = os.pidfd_open(int(open('ran.txt').read().split()[-1]))",
        "except ProcessLookupError:",
        "    print(n, 'ended')",
        "else:",
        "    print(n, 'ended' if select.select([kernel], [], [], 20)[0] else 'lives')",
    )
    for n in (3, 4):
        cells = ("step:load", ran("load") + f"n = {n}"), ("step:note", ran("note")), ("step:last needs:load", looks)
        path = steps(*cells)
        one = (run(path) if n == 3 else resume(path, changed="rerun")).check()
        assert f"{n} ended" == shown(one, 3)
    assert ["load", "note", "load"] == [step for step, _ in rows(folder)]


@pytest.mark.parametrize("has_ids", [True, pytest.param(False, marks=pytest.mark.long)])
def test_kept_outputs_stand_below_the_code_that_made_them(has_ids, steps, folder):
    """Wherever that is now; a cell that is new has none, and one that was edited and kept shows what ran."""
    path = steps(
        ("step:load", "rows = [1, 2]\nprint('loaded')"),
        ("step:fit", "if True: raise ValueError"),
        ("step:count needs:load", "print('count', len(rows))"),
        ("", "len(rows) * 100"),
        ("step:end needs:load", "print('end')"),
    )
    assert "failed" == run(path).status
    nb = nbformat.read(path, 4)
    nb.cells[0].source += "  # edited"
    nb.cells[1].source = "print('fit')"
    nb.cells.insert(2, nbformat.v4.new_code_cell("print('checked')"))
    nb.cells.insert(0, nbformat.v4.new_code_cell("import math"))
    if not has_ids:
        nb.nbformat_minor = 4
        for cell in nb.cells:
            del cell["id"]
    nbformat.write(nb, path)
    done = resume(path, changed="keep").check()
    outputs = [shown(done, at) for at in range(1, 8)]
    assert ["", "loaded", "fit", "checked", "count 2", "200", "end"] == outputs
    executed = nbformat.read(done.folder / executed_name("analysis.ipynb"), 4)
    assert "rows = [1, 2]\nprint('loaded')" == executed.cells[1].source


def test_a_question_names_the_cells_that_changed_since_each_task_ran(steps):
    """Those of a kept task too, which ran before the last resume."""
    cells = [("step:load", "rows = [1, 2]"), ("step:fit each:rows as:row", "twice = 2 * row\nassert row < 2")]
    cells.append(("step:end needs:fit", "print('end')"))
    assert "failed" == run(steps(*cells)).status
    cells[1] = (cells[1][0], "twice = 2 * row")
    path = steps(*cells)
    resume(path, changed="keep").check()
    cells[2] = (cells[2][0], "print('the end')")
    reasons = [one.reason for one in nbflow.resume(steps(*cells), dry_run=True)]
    assert ["kept", "cell 2 of analysis.ipynb changed", "kept", "waits for fit"] == reasons
    with pytest.raises(ChangedError, match=r"^analysis.ipynb: cells 2, 3 of analysis.ipynb changed since 2 finished"):
        resume(path)


def test_cells_with_one_id_have_their_own_outputs(folder):
    """As copies have that some tools make."""
    cells = [{"id": "same", "source": f"print({n})"} for n in (1, 2)]
    assert [(1, cells[0]), (2, cells[1])] == list(_paired({1: cells[0], 2: cells[1]}, cells))


def test_a_large_executed_notebook_is_not_written_all_the_time(steps, folder):
    """While the run goes on that takes a twentieth of the time at most; when it ends all is told."""
    times = iter([0.0, 1.0, 20.9, 21.0, 22.0])
    whole = Whole(read_notebook(steps(("step:load", "1"))), folder, clock=lambda: next(times))
    found = []
    for at in range(3):
        whole.put("load", (f"load{at}",), "load", None, Outcome("completed"))
        whole.keep_up()
        found.append(whole.is_written())
    assert [True, False, True] == found
    whole.put("load", ("load3",), "load", None, Outcome("completed"))
    whole.catch_up()
    assert whole.is_written()


def test_another_value_of_a_parameter_repeats_what_reads_it(steps, folder, cli):
    """One more city costs that city, and not the hours before it."""
    path = steps(
        ("parameters", "cities = ['Lima']\nleast = 1\nfolder = 'data'"),
        ("setup", "where = folder + '/days'\ndef scaled(days):\n    return days * least"),
        ("step:load", ran("load") + "days = {'Lima': 3, 'Oslo': 4}"),
        ("step:fit each:cities as:city", ran("fit") + "score = scaled(days[city])"),
        ("results", "score"),
        ("step:end needs:fit", ran("end") + "print(score)"),
    )
    assert "[3]" == shown(run(path).check(), 6)
    planned = cli("resume", path.name, "-i", 'cities=["Lima", "Oslo"]', "--dry-run").stdout
    assert ["setup", "fit:fit:1", "end"] == [line.split()[0] for line in planned.splitlines() if " runs " in line]
    assert "[3, 4]" == shown(resume(path, parameters={"cities": ["Lima", "Oslo"]}).check(), 6)
    assert ["load", "fit", "end", "fit", "end"] == [step for step, _ in rows(folder)]
    assert "[6, 8]" == shown(resume(path, parameters={"least": 2}).check(), 6)
    assert ["fit", "fit", "end"] == [step for step, _ in rows(folder)][5:]
    resume(path, parameters={"folder": "more"}).check()  # a cell that prepares each kernel reads it: all may follow
    assert ["load", "fit", "fit", "end"] == [step for step, _ in rows(folder)][8:]


@pytest.mark.parametrize(
    ("setup", "more", "seen"),
    [
        ("def double(): return n * 2", "m = double()", "m"),
        ("", "m = globals()['n'] * 2", "m"),
        ("", "m = n * 2", "m"),
        ("", "m = [n for _ in 'a']", "m"),
    ],
)
def test_another_default_counts_as_code_where_the_cell_may_read_it(setup, more, seen, steps):
    """There the value counts that stands in the cell."""
    path = steps(("setup", setup), ("parameters", f"n = 5\n{more}"), ("step:a", f"print({seen})"))
    run(path).check()
    path = steps(("setup", setup), ("parameters", f"n = 6\n{more}"), ("step:a", f"print({seen})"))
    resumed = shown(resume(path, changed="rerun").check(), 3)
    assert resumed == shown(run(path).check(), 3)


def test_one_more_parameter_repeats_only_what_reads_it(steps, folder):
    """Nor does one less."""
    cells = [("parameters", "a = 1"), ("step:one", ran("one") + "x = a"), ("step:two", ran("two") + "print(x)")]
    run(steps(*cells)).check()
    more = [("parameters", "a = 1\nb = 2"), *cells[1:], ("step:three", "print(a, b)")]
    assert "1 2" == shown(resume(steps(*more), changed="rerun").check(), 4)
    resume(steps(*cells), changed="rerun").check()
    assert ["one", "two"] == [step for step, _ in rows(folder)]


def test_another_order_in_a_default_is_another_default(steps):
    """As a value it would be the same."""
    run(steps(("parameters", "n = {'a': 1, 'b': 2}"), ("step:a", "print(list(n))"))).check()
    path = steps(("parameters", "n = {'b': 2, 'a': 1}"), ("step:a", "print(list(n))"))
    assert "['b', 'a']" == shown(resume(path, changed="rerun").check(), 2)


def test_another_value_of_a_parameter_is_not_what_a_step_has_perhaps_bound_it_to(steps):
    """Where the step binds it, its value counts whatever was given, also one that was the default."""
    path = steps(
        ("parameters", "least = 6"),
        ("step:a", "strict = True"),
        ("step:b", "if strict: least = 6"),
        ("step:c", "print(least)"),
    )
    assert "6" == shown(run(path).check(), 4)
    assert "6" == shown(resume(path, parameters={"least": 7}).check(), 4)


def test_another_default_repeats_what_reads_it(steps, folder):
    """It is a value as if somebody had given it; what else stands in the cell is code, which counts for all steps."""
    cells = [
        ("parameters", "n = 2  # models\nk: int = 1\nbase = 5\nroof = base * 2"),
        ("step:load", ran("load") + "rows = [1, 2]"),
        ("step:fit", ran("fit") + "print(sum(rows) * n)"),
        ("step:end", ran("end") + "print(k, roof)"),
    ]
    run(steps(*cells)).check()
    path = steps(("parameters", cells[0][1].replace("n = 2", "n = 30").replace("k: int = 1", "k: int = 4")), *cells[1:])
    with pytest.raises(ChangedError, match=r"^analysis.ipynb: default of n, default of k changed since 3 finished"):
        resume(path)
    done = resume(path, changed="rerun").check()
    assert ("90", "4 10") == (shown(done, 3), shown(done, 4))
    assert ["load", "fit", "end", "fit", "end"] == [step for step, _ in rows(folder)]
    path = steps(("parameters", cells[0][1].replace("base = 5", "base = 6")), *cells[1:])
    assert "1 12" == shown(resume(path, changed="rerun").check(), 4)
    assert ["load", "fit", "end"] == [step for step, _ in rows(folder)][5:]


@pytest.mark.parametrize(
    ("one", "other", "seen"),
    [
        pytest.param("random.seed(1)", "random.seed(2)", "random.random()", marks=pytest.mark.long),
        ("random.seed(1); random.random()", "random.seed(1)", "random.random()"),
        ("os.chdir('d1')", "os.chdir('d2')", "os.path.basename(os.getcwd())"),
        pytest.param("os.environ['A1'] = 'x'", "os.environ['A1'] = 'y'", "os.environ['A1']", marks=pytest.mark.long),
    ],
)
def test_another_seed_or_setting_repeats_the_steps_below(one, other, seen, steps, folder):
    """They may depend on it; a step between that changed none of that does not count."""
    (folder / "d1").mkdir()
    (folder / "d2").mkdir()

    def made(begin: str, between: str) -> Path:
        return steps(
            ("", "import os, random\nfrom pathlib import Path\nran = Path('ran.txt').absolute()"),
            ("step:begin", begin),
            ("step:between", between),
            ("step:end", f"print(os.getpid(), file=open(ran, 'a'))\nprint({seen})"),
        )

    path = made(one, "x = 1")
    before = shown(run(path).check(), 4)
    resume(made(one, "x = 2"), changed="rerun").check()
    assert 1 == len((folder / "ran.txt").read_text().split())
    after = shown(resume(made(other, "x = 2"), changed="rerun").check(), 4)
    assert before != after == shown(run(path).check(), 4)


@pytest.mark.parametrize(
    ("make", "change", "see"),
    [
        pytest.param("cfg['lr'] = 2", "pass", "model.cfg['lr']", marks=pytest.mark.long),
        ("pass", "cfg['lr'] = 2", "model.cfg is cfg, model.cfg['lr']"),
        (
            "import sqlite3\ncon = sqlite3.connect(':memory:')\ncur = con.cursor(); cur.execute('create table t(a)')",
            "cur.execute('insert into t values(1)')",
            "con.execute('select * from t').fetchall()",
        ),
        pytest.param(
            "import io\nbuffer = io.StringIO()\nsinks = {'a': buffer}",
            "sinks['a'].write('x')",
            "buffer.getvalue()",
            marks=pytest.mark.long,
        ),
        ("x = [1]", "del x", "'x' in globals()"),
        pytest.param(
            "def put(x, b=[]):\n    b.append(x)\n    return len(b)\ntable = {'put': put}",
            "from functools import partial\nput = partial(put, 1)",
            "put(), table['put'](9)",
            marks=pytest.mark.long,
        ),
        pytest.param(
            "class A:\n    seen = []\nitems = [A()]",
            "class A(A): pass",
            "isinstance(A(), type(items[0]))",
            marks=pytest.mark.long,
        ),
    ],
)
def test_what_a_step_did_through_another_name_is_there(make, change, see, steps, folder):
    """Where each step has a kernel of its own as where they share one."""
    begin = "class Model:\n    pass\ncfg = {'lr': 1}; model = Model(); model.cfg = cfg"

    def shows(needs: str) -> str:
        path = steps(
            ("setup", begin),
            ("step:make", make),
            (f"step:change {needs.format('make')}", change),
            (f"step:see {needs.format('change')}", f"print({see})"),
            name=f"analysis{len(needs)}.ipynb",
        )
        one = run(path).check()
        done = nbformat.read(one.folder / executed_name(path.name), 4)
        return done.cells[3].outputs[0].text

    assert shows("") == shows("needs:{}")


STATE = (
    ("setup", "import os, random\nrows = [0]"),
    ("step:set", "os.environ['MODE'] = 'fast'; random.seed(1); rows.append(1)"),
    ("step:use", "if not os.path.exists('ok'): raise OSError\nprint(rows, os.environ['MODE'], random.random())"),
)


def test_settings_whose_file_is_gone_are_made_again(steps, folder):
    """Without them no name was bound either, and the step ran with those of setup."""
    path = steps(*STATE)
    one = run(path)
    for file in one.folder.glob("names/*.state"):
        file.unlink()
    (folder / "ok").touch()
    assert "[0, 1] fast 0.13436424411240122" == shown(resume(path).check(), 3)


@pytest.mark.long
def test_settings_whose_file_was_changed_are_told_and_their_step_makes_them_good(steps, folder):
    """What lies there is not taken for what it is called."""
    path = steps(*STATE)
    one = run(path)
    for file in one.folder.glob("names/*.state"):
        file.write_bytes(file.read_bytes() + b" ")
    (folder / "ok").touch()
    failed = resume(path)
    assert "of step set cannot be restored: names/" in failed["use"].error.message
    assert "--from set makes them again" in failed["use"].error.message
    resume(path, from_="set").check()
    assert "[0, 1] fast 0.13436424411240122" == shown(resume(path, from_="use").check(), 3)


@pytest.mark.long
def test_a_saved_file_that_was_changed_is_written_again_by_the_step_that_made_it(steps, folder):
    """The remedy that is named makes it good: what lies there is not taken for what it is called."""
    made = "import numpy as np, pandas as pd\nx = pd.DataFrame({'a': range(10)})\ny = np.arange(10.0)"
    path = steps(("step:make", made), ("step:see needs:make", "print(x.a.sum(), y.sum())"))
    one = run(path).check()
    before = shown(one, 2)
    (frame,) = one.folder.glob("names/*.parquet")
    frame.write_bytes(frame.read_bytes()[:-100])
    (array,) = one.folder.glob("names/*.npy")
    data = bytearray(array.read_bytes())
    data[-1] ^= 1
    array.write_bytes(data)
    assert "failed" == resume(path, from_="see").status
    assert before == shown(resume(path, from_="make").check(), 2)


def test_steps_that_do_not_wait_for_a_failed_one_go_on(steps, folder):
    """In the morning there is all that could be had."""
    path = steps(
        ("step:load", "x = 1"),
        ("step:bad needs:load", "assert __import__('os').path.exists('ok')\ny = 1"),
        ("step:behind needs:bad", ran("behind") + "print(y)"),
        ("step:good needs:load", ran("good")),
    )
    one = run(path, max_workers=1)
    assert {"bad": "failed", "behind": "skipped", "good": "completed"} == {
        node.id: node.status for node in one.outcomes if node.id != "load"
    }
    (folder / "ok").touch()
    resume(path).check()
    assert ["good", "behind"] == [step for step, _ in rows(folder)]


def _with_secret(folder: Path, *ids: str) -> Path:
    """Write a workflow of steps of the notebook, the first with a secret; gives its file."""
    given = [{"id": one, "cells": "analysis.ipynb", "tags": [f"step:{one}"]} for one in ids]
    flow = {"nbflow": 1, "steps": [{**given[0], "secrets": ["TOKEN"]}, *given[1:]]}
    path = folder / "flow.yml"
    path.write_text(json.dumps(flow))
    return path


def test_a_secret_in_a_name_does_not_stand_in_the_records(folder, steps, monkeypatch):
    """The checkpoint may be sent to somebody."""
    monkeypatch.setenv("TOKEN", "hunter2-hunter2")
    steps(("step:load", "import os\ntoken = os.environ['TOKEN']"), ("step:use", "print(len(token))"))
    one = run(_with_secret(folder, "load", "use"))
    assert "completed" == one.status, one.failures
    records = [one.folder / "journal.jsonl", folder / "flow.yml.nbflow.json"]
    assert not [path for path in records if "hunter2" in path.read_text()]
    assert "token holds a secret" in str(one.warnings)


def test_a_secret_of_a_step_is_hidden_by_the_others_of_its_notebook(folder, steps, monkeypatch):
    """They have its values, and may have to repeat it: for a name is not saved which holds one."""
    monkeypatch.setenv("TOKEN", "hunter2-hunter2")
    steps(
        ("step:load", "import os\ntoken = os.environ['TOKEN']\nprint('it is', token)"),
        ("step:use", "url = 'https://x/' + token\nprint(url)"),
        ("step:end", "print(len(url))"),
    )
    one = run(_with_secret(folder, "load", "use", "end")).check()
    texts = {path: path.read_text(errors="replace") for path in (folder, *one.folder.rglob("*")) if path.is_file()}
    assert not [path for path, text in texts.items() if "hunter2" in text]
    assert "it is *****" in (one.folder / "logs" / "use.log").read_text()


def test_members_of_an_enumeration_are_the_same_objects_behind_a_fan_out(steps):
    """The class that a later step reads is that of what the items left."""
    path = steps(
        ("step:load", "from enum import Enum\nclass Way(Enum):\n    NEAR = 1\n    FAR = 2\nsites = ['a', 'b']"),
        ("step:fit each:sites as:site results", "row = {(site, Way.FAR): 1}"),
        ("step:end", "print([way is Way.FAR for one in row for _, way in one])"),
    )
    assert "[True, True]" == shown(run(path).check(), 3)


@pytest.mark.parametrize("more", ["", pytest.param("\neval(str(1))", marks=pytest.mark.long)])
def test_settings_that_cannot_all_be_saved_are_saved_but_for_one(more, steps, folder):
    """One option with a lock in it does not cost the next step its directory, and it is told; also where the step may
    have changed any name."""
    (folder / "data").mkdir()
    option = "class Format:\n    def __init__(self):\n        import threading\n        self.lock = threading.Lock()\n"
    option += "    def __call__(self, x):\n        return str(x)\n"
    path = steps(
        (
            "step:load",
            option
            + "import os, pandas as pd\nos.chdir('data')\npd.set_option('display.float_format', Format())"
            + more,
        ),
        (
            "step:use needs:load",
            "from pathlib import Path\nassert Path('../ok').exists(), Path.cwd()\nprint(Path.cwd().name)",
        ),
    )
    one = run(path)
    assert any("cannot be saved" in warning.message and "settings" in warning.message for warning in one.warnings)
    (folder / "ok").touch()
    again = resume(path).check()
    assert "data" == shown(again, 2)
    assert not any("somebody else" in warning.message for warning in again.warnings)


@pytest.mark.parametrize(("value", "kind"), [("{'a': 1}", "dict {'a': 1}"), ("'abc'", "str 'abc'"), ("3", "int 3")])
def test_what_is_no_list_fails_the_step_that_runs_over_it(value, kind, steps):
    """With the type that it got; the hours of the step before are kept."""
    path = steps(("step:load", f"grid = {value}"), ("step:fit each:grid as:one", "x = one"))
    one = run(path)
    assert "completed" == one["load"].status
    assert [("fit", f"the items of fit are {kind}, not a list")] == [
        (node.id, node.error.message) for node in one.failures
    ]


@pytest.mark.parametrize("kind", ["pandas.DataFrame", "Map"])
def test_a_table_is_no_list_of_its_columns(kind, steps):
    """Who runs over one means its rows: it is said how."""
    load = f"import pandas\nclass Map(pandas.DataFrame): pass\ntable = {kind}({{'n': [1]}})"
    (failure,) = run(steps(("step:load", load), ("step:fit each:table", "x = 1"))).failures
    assert "a table (its rows are table.to_dict('records')), " in failure.error.message
    assert failure.error.message.endswith("artifacts/load/table.parquet, not a list")


def test_what_a_killed_kernel_was_saving_is_removed_by_a_resume(steps, folder):
    """It may be as large as all that was saved, and nobody knows of it."""
    path = steps(("step:load", "x = {1, 2}"), ("step:use", "assert __import__('os').path.exists('ok')\nprint(x)"))
    one = run(path)
    left = one.folder / "names" / ".0123.tmp"
    left.write_bytes(b"half of an array")
    (folder / "ok").touch()
    resume(path).check()
    assert not left.exists()


def test_settings_that_somebody_else_saved_are_not_left_out_in_silence(steps, folder, tmp_path, monkeypatch):
    """They may hold code; what does not come along is told, with what makes it again."""
    path = steps(
        ("setup", "import os"),
        ("step:load", "os.environ['MODE'] = 'fast'"),
        ("step:use needs:load", "assert os.path.exists('ok')\nprint(os.environ.get('MODE'))"),
    )
    run(path)
    (folder / "ok").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "somebody"))
    one = resume(path)
    assert any("settings that step load changed do not come along" in warning.message for warning in one.warnings)
    assert any("--from load" in warning.message for warning in one.warnings)


def test_what_items_left_is_theirs_also_behind_a_step_that_only_read_it(steps, folder):
    """Nothing of the fan-out is repeated in the kernel of the last step."""
    path = steps(
        ("step:load", "class Site(str):\n    pass\nsites = ['a', 'b']"),
        ("step:fit each:sites as:site results", ran("fit") + "row = {Site(site): 1}"),
        ("step:between", "n = sum(type(key) is Site for one in row for key in one)"),
        ("step:end needs:fit needs:between", "print([*map(list, row)], n, type([*row[0]][0]) is Site)"),
    )
    assert "[['a'], ['b']] 2 True" == shown(run(path).check(), 4)
    assert ["fit", "fit"] == [step for step, _ in rows(folder)]


def test_each_step_in_a_kernel_that_goes_on_has_a_folder_of_its_own(steps):
    """As it has after a resume, where its kernel is a fresh one."""
    path = steps(
        ("step:load", "import os\nfirst = os.environ['NBFLOW_ITEM_DIR']"),
        ("step:use", "own = os.environ['NBFLOW_ITEM_DIR']\nopen(own + '/f.txt', 'w').close()\nprint(own != first)"),
    )
    assert "True" == shown(run(path).check(), 2)


def test_a_kernel_that_a_step_took_and_could_not_go_on_with_is_ended(steps, folder, monkeypatch):
    """A cancellation may come between the two, and nobody else would end it."""
    path = steps(("step:load", ran("load") + "n = 3"), ("step:use", "print(n)"))

    async def refuse(self, *_given, **_named):
        raise NbflowError("it does not start", "There is no remedy.")

    monkeypatch.setattr(Lent, "launch", refuse)
    one = run(path)
    assert ("completed", 2) == (one.status, one["use"].attempts), "with a fresh one"
    ((_, pid),) = rows(folder)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_status_of_a_notebook_of_steps_without_a_run_names_what_runs_it(steps, cli, folder):
    """Not what runs it as a whole."""
    steps(("step:load", "n = 3"))
    assert "nbflow run analysis.ipynb" in cli("status", "analysis.ipynb", code=2).stderr


def test_what_came_along_with_a_name_has_not_changed_where_that_was_only_read(steps):
    """Two steps side by side that read objects of one class are no conflict, also where both were given them."""
    path = steps(
        (
            "step:load",
            code(
                "class Node:",
                "    __slots__ = ('name', 'next')",
                "    def __init__(self, name):",
                "        self.name, self.next = name, self",
                "nodes = {name: Node(name) for name in 'xy'}",
                "start = nodes['x']",
            ),
        ),
        ("step:one needs:load", "names = sorted(node.name for node in nodes.values())"),
        ("step:two needs:load", "best = {node: len(node.name) for node in nodes.values()}"),
        ("step:end needs:one needs:two", "print(names, best[start], start.next is nodes['x'], type(start) is Node)"),
    )
    assert "['x', 'y'] 1 True True" == shown(run(path).check(), 4)


def test_a_setting_that_was_set_back_is_so_in_the_steps_below(steps, folder):
    """A fresh kernel starts in the folder of the notebook, not in the one that an earlier step was in."""
    (folder / "data").mkdir()
    path = steps(
        ("step:load", "import os\nhome = os.getcwd()\nos.chdir('data')"),
        ("step:back", "os.chdir(home)"),
        ("step:end needs:back", "print(os.getcwd() == home)"),
    )
    assert "True" == shown(run(path).check(), 3)


def test_a_key_that_others_can_read_is_told(steps, folder, tmp_path, monkeypatch):
    """It signs nothing: without a word each resume would repeat what made objects of Python."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    path = steps(("step:load", "names = {'a', 'b'}"), ("step:use", "print(len(names))"))
    assert not run(path).check().warnings
    key = tmp_path / "state" / "nbflow" / "key"
    key.chmod(0o644)
    (warning,) = run(path).check().warnings
    assert warning.message.startswith(f"{key}: is no key of yours that only you can read")
    key.unlink()
    assert not run(path).check().warnings


@pytest.mark.parametrize("tag", ["", "parameters", "setup"])
def test_validate_tells_of_a_notebook_without_steps_what_it_is_fine_for(tag, steps, cli):
    """What it calls fine without a word, nbflow run must not refuse; cells that run everywhere are no steps."""
    steps((tag, "n = 3"))
    assert "fine as a whole, for nbflow map; no cell begins a step" in cli("validate", "analysis.ipynb").stdout
    assert "no cell begins a step" in cli("run", "analysis.ipynb", code=2).stderr


@pytest.mark.parametrize(
    ("last", "told"),
    [
        ("x, sum(y)", True),
        ("{'z': x}", True),
        ("x + 1", True),
        ("x, y", False),
        ("total = x + 1\ntotal", False),
        ("total = x + 1\nprint(total)", False),
    ],
)
def test_results_that_have_no_name_are_told_before_a_run(steps, cli, last, told):
    """They would be in no table, and nobody would say so."""
    steps(("step:load", "x, y = 1, [2]"), ("results", last))
    said = cli("validate", "analysis.ipynb").stdout
    assert told == ("cell 2 is tagged results and shows what has no name" in said)


@pytest.mark.parametrize(
    ("load", "clean", "seen"),
    [
        pytest.param("n = 1", "n = n + 1", "n", marks=pytest.mark.long),
        ("n = 1", "print(n); n = 2", "n"),
        pytest.param("n = [[1]]", "print(n); n = [[2]]", "n", id="bound anew"),
        pytest.param("a = [1]", "a.append(2)", "a", marks=pytest.mark.long),
        pytest.param("a = [1]; b = a", "a.append(2)", "b", marks=pytest.mark.long),
        ("log.append(1)", "pass", "log"),
        pytest.param("log.append(1)", "log.append(2)", "log", marks=pytest.mark.long),
        pytest.param(
            "import random; rng = random.Random(0)", "first = rng.random()", "rng.random()", marks=pytest.mark.long
        ),
        pytest.param(
            "class A: k = [1]\nmodel = A()",
            "model.k.append(2); model.own = 3",
            "(model.k, model.own)",
            marks=pytest.mark.long,
        ),
    ],
)
def test_a_mended_cell_finds_what_the_step_before_left(load, clean, seen, steps, folder):
    """Also where it reads what no later step had read: not what was saved of it before that was changed."""
    begin = [("setup", "log = []"), ("step:load", load), ("step:clean", clean)]
    path = steps(*begin, ("step:end", "raise ValueError"))
    assert "failed" == run(path).status
    whole = [*begin, ("step:end", f"print({seen})")]
    mended = shown(resume(steps(*whole)).check(), 4)
    assert mended == shown(run(path).check(), 4)


@pytest.mark.parametrize(
    ("cells", "shows"),
    [
        pytest.param(
            [
                ("setup", "sizes = ['Oslo', 'Lima ']"),
                ("step:a each:sizes as:city", "score = len(city)"),
                ("results", "score"),
                ("step:b needs:a", "scores = score\nscore = max(scores)"),
                ("step:c needs:b", "print(scores, score)"),
            ],
            "[4, 5] 5",
            id="another name of the list that items left",
        ),
        pytest.param(
            [
                ("setup", "xs = [1, 2]"),
                ("step:a each:xs as:x", "score = x"),
                ("results", "score"),
                ("step:b", "keep = {'of': score}"),
                ("step:c needs:b", "print(keep, keep['of'] is score)"),
            ],
            "{'of': [1, 2]} True",
            id="the list that items left in something else",
        ),
        pytest.param(
            [
                ("step:load", "now = [1]"),
                ("step:a needs:load", "history = [now]"),
                ("step:b needs:load", "before = now\nnow = [2]"),
                ("step:c needs:a needs:b", "before.append(3)\nprint(before, now, history)"),
            ],
            "[1, 3] [2] [[1, 3]]",
            id="an object that goes on under another name",
        ),
        pytest.param(
            [
                ("step:load", "rows = [[0], [1]]\nfirst = rows[0]"),
                ("step:a needs:load", "first = rows[0]"),
                ("step:b needs:load", "first = rows[1]"),
                ("step:c needs:a needs:b", "print(rows)"),
            ],
            "[[0], [1]]",
            id="names for parts that steps side by side bind anew",
        ),
        pytest.param(
            [
                ("step:load", "rows = [[0], [1]]\nfirst = rows[0]"),
                ("step:a needs:load", "first = [9]"),
                ("step:b needs:load", "first = rows[0]"),
                ("step:c needs:a needs:b", "print(rows)"),
            ],
            "[[0], [1]]",
            id="a name for a part that is bound to it again",
        ),
        pytest.param(
            [
                ("step:load", "rows = [[3, 1], [2, 5]]\nfor row in rows: row.sort()\ndata = [3, 1]; saved = data"),
                ("step:a", "for one in rows: one.append(0)\ndata.sort()"),
                ("step:c needs:a", "print(rows, data)"),
            ],
            "[[1, 3, 0], [2, 5, 0]] [1, 3]",
            id="names for what others hold that nobody reads",
        ),
        pytest.param(
            [
                ("step:load", "rows = [0]\nheld = {'rows': rows}"),
                ("step:a needs:load", "rows.append(1)"),
                ("step:b needs:a", "rows = []"),
                ("step:c needs:b", "print(held, rows)"),
            ],
            "{'rows': [0, 1]} []",
            id="a name that is bound anew where another one holds what it was",
        ),
        pytest.param(
            [
                ("setup", "class Item:\n    count = 0\n    def __init__(self): Item.count += 1"),
                ("step:load", "items = [Item()]"),
                ("step:a needs:load", "x = Item() and 1"),
                ("step:b needs:load", "y = Item() and Item() and 2"),
                ("step:c needs:a needs:b", "print(len(items), x, y)"),
            ],
            "1 1 2",
            id="instances of a class that counts them",
        ),
        pytest.param(
            [
                ("step:a", "import numpy as np\nx = np.zeros(4)"),
                ("step:b", "head = x[:3]"),
                ("step:d needs:a", "x[0] = 100"),
                ("step:c needs:b needs:d", "print(x[0], head[0])"),
            ],
            "100.0 100.0",
            id="a view of an array does not change it",
        ),
        pytest.param(
            [
                ("setup", "first = []\nsecond = first"),
                ("step:a needs:", "both = [first]"),
                ("step:b needs:", "second.append(1)"),
                ("step:c needs:a needs:b", "print(both, second, both[0] is first is second)"),
            ],
            "[[1]] [1] True",
            id="two names of setup for one object",
        ),
        pytest.param(
            [
                ("setup", "import sqlite3\ncities = ['Oslo']\ndb = sqlite3.connect(':memory:')"),
                ("step:a each:cities as:city", "got = db.execute('select 1').fetchone()[0]"),
                ("results", "got"),
                ("step:c", "print(got)"),
            ],
            "[1]",
            id="items that use a connection of setup",
        ),
        pytest.param(
            [
                ("step:a", "x = {'n': 0}"),
                ("step:p needs:a", "y = x\ny['p'] = 1"),
                ("step:q needs:a", "n = x['n']\nz = x"),
                ("step:r needs:p needs:q", "print(x, z, x is y is z)"),
            ],
            "{'n': 0, 'p': 1} {'n': 0, 'p': 1} True",
            id="another name beside a change",
        ),
        pytest.param(
            [
                ("step:a", "x = [[1]]"),
                ("step:p needs:a", "x.append(2)"),
                ("step:q needs:p", "b = x\nw = [b[0]]"),
                ("step:r needs:q", "w[0].append(5)\nprint(b, w)"),
            ],
            "[[1, 5], 2] [[1, 5]]",
            id="another name behind a change, beside what shares a part",
        ),
        pytest.param(
            [
                ("step:a", "l = [1]\nd = {'l': l}"),
                ("step:b needs:a", "d['l'] = list(l)"),
                ("step:c needs:b", "l.append(2)\nprint(d, l)"),
            ],
            "{'l': [1]} [1, 2]",
            id="what was one object",
        ),
        pytest.param(
            [
                ("step:a", "l = [1]\nd = {'l': [1]}"),
                ("step:b needs:a", "d['l'] = l"),
                ("step:c needs:b", "l.append(2)\nprint(d, l)"),
            ],
            "{'l': [1, 2]} [1, 2]",
            id="what was made one object",
        ),
        pytest.param(
            [
                ("step:a", "x = {'l': [1]}"),
                ("step:p needs:a", "x['k'] = 1"),
                ("step:q needs:p", "z = x\ninner = x['l']"),
                ("step:r needs:q", "inner.append(2)\nprint(x, z, inner, x is z)"),
            ],
            "{'l': [1, 2], 'k': 1} {'l': [1, 2], 'k': 1} [1, 2] True",
            id="another name, and one for a part, behind a change",
        ),
        pytest.param(
            [
                ("setup", "defaults = {'lr': 1}\ncfg = defaults"),
                ("step:p needs:", "cfg = defaults"),
                ("step:q needs:", "cfg['lr'] = 2"),
                ("step:r needs:p needs:q", "print(cfg, defaults, cfg is defaults)"),
            ],
            "{'lr': 2} {'lr': 2} True",
            id="a name that is bound to what setup has made beside a change of that",
        ),
        pytest.param(
            [
                ("step:a", "rows = [1]\ndata = {'train': {'rows': rows}}"),
                ("step:p needs:a", "train = data['train']"),
                ("step:q needs:a", "data['k'] = 7"),
                ("step:r needs:p needs:q", "print(rows, data, train)"),
            ],
            "[1] {'train': {'rows': [1]}, 'k': 7} {'rows': [1]}",
            id="a name for a part beside a change of the whole",
        ),
        pytest.param(
            [
                ("step:a", "rows = [1]\ntable = {'rows': rows}\nboth = {'t': table}"),
                ("step:p needs:a", "table = len(table)"),
                ("step:q needs:a", "both['k'] = 7"),
                ("step:r needs:p needs:q", "print(rows, both)"),
            ],
            "[1] {'t': {'rows': [1]}, 'k': 7}",
            id="a name for a part that is gone beside a change of the whole",
        ),
        pytest.param(
            [
                ("step:a", "x = [1]"),
                ("step:p needs:a", "x.append(2)"),
                ("step:q needs:a", "y = x\nn = len(x)"),
                ("step:d needs:q", "g = (i for i in x)"),
                ("step:r needs:p needs:d", "print(x, y, x is y, next(g))"),
            ],
            "[1, 2] [1, 2] True 1",
            id="another name that a repeated step makes, beside a change",
        ),
        pytest.param(
            [
                ("setup", "a = {'x': [0]}\nb = a"),
                ("step:s", "b['x'] = 2"),
                ("step:t", "a = [4]"),
                ("step:u", "print(a)"),
            ],
            "[4]",
            id="a name of setup that is bound anew behind a change of what it was",
        ),
        pytest.param(
            [
                ("setup", "x = [0]"),
                ("step:a", "x = [1]\nc = []"),
                ("step:b needs:a", "if c: x = [2]"),
                ("step:r needs:b", "print(x)"),
            ],
            "[1]",
            id="a name of setup that is perhaps bound anew",
        ),
        pytest.param(
            [
                ("step:a", "rows = [1]\nheld = {'rows': rows}"),
                ("step:p needs:a", "rows = [0]"),
                ("step:q needs:a", "held['rows'].append(2)"),
                ("step:r needs:p needs:q", "print(rows, held)"),
            ],
            "[0] {'rows': [1, 2]}",
            id="a name that is bound anew beside a change of what it was bound to",
        ),
        pytest.param(
            [
                ("step:a", "rows = [1]\nheld = {'rows': rows}"),
                ("step:p needs:a", "rows = held['rows']"),
                ("step:q needs:a", "held['rows'].append(2)"),
                ("step:r needs:p needs:q", "print(rows, held)"),
            ],
            "[1, 2] {'rows': [1, 2]}",
            id="a name that is bound again beside a change of what it is bound to",
        ),
        pytest.param(
            [
                ("setup", "class Missing: pass\nMISSING = Missing()"),
                ("step:load", "rows = [1, MISSING]"),
                ("step:clean needs:load", "print([row for row in rows if row is not MISSING])"),
            ],
            "[1]",
            id="an object of setup, of a class of setup, in a list",
        ),
        pytest.param(
            [
                ("setup", "def f(): return 1\nx = {'f': f}\nz = {}"),
                ("step:p", "z['d'] = x\ndef model(one=x): return one"),
                ("step:r needs:p", "print(z['d'] is x, model() is x)"),
            ],
            "True True",
            id="an object of setup that holds a function, in a dict and a default",
        ),
        pytest.param(
            [
                ("setup", "import numpy as np\na = np.array([1, 2])"),
                ("step:p", "b = a[::-1]"),
                ("step:r needs:p", "a[0] = 3\nprint(b)"),
            ],
            "[2 3]",
            id="a view of an array of setup",
        ),
        pytest.param(
            [
                ("step:a", "x = [1]"),
                ("step:p needs:a", "x.append(n for n in [1])"),
                ("step:q needs:a", "z = x\nx = 0"),
                ("step:r needs:p needs:q", "print(len(z), x)"),
            ],
            "2 0",
            id="a name that is bound beside a change that cannot be saved",
        ),
        pytest.param(
            [
                ("setup", "import threading\nclass Client:\n    def __init__(self): self.lock = threading.Lock()"),
                ("step:a", "client = Client(); client.n = 1"),
                ("step:p needs:a", "one = client.n"),
                ("step:q needs:a", "two = client.n + 1"),
                ("step:r needs:p needs:q", "print(one, two, client.n)"),
            ],
            "1 2 1",
            id="what cannot be saved, and is only read side by side",
        ),
        pytest.param(
            [
                ("step:a", "import types\nm = types.ModuleType('m')\nm.n = 0"),
                ("step:p needs:a", "m.n = 1"),
                ("step:q needs:a", "z = m"),
                ("step:r needs:p needs:q", "print(m.n, z.n)"),
            ],
            "1 1",
            id="a name for a module that a step made, beside a change",
        ),
    ],
)
def test_steps_are_as_in_one_kernel(cells, shows, steps):
    assert shows == shown(run(steps(*cells)).check(), len(cells))


SETUP = "import math\nstrict = True\ndef f(): return 1\ndef g(): return 2\nopts = [1]\nother = [2]"


@pytest.mark.parametrize(
    ("setup", "first", "second", "third", "edited"),
    [
        pytest.param(
            "pass",
            "from statistics import mean as avg",
            "from statistics import mean as avg",
            "print(avg([1, 2, 30]))",
            ("from statistics import median as avg", None),
            id="what is imported again",
        ),
        pytest.param(
            SETUP,
            "fun, model, chosen = math.sin, f, opts",
            "fun, model, chosen = math.sin, f, opts",
            "print(fun(0), model(), chosen)",
            ("fun, model, chosen = math.cos, g, other", None),
            id="what setup has made, bound again",
        ),
        pytest.param(SETUP, "x = 5", "if strict: x = 5", "print(x)", ("x = 6", None), id="what is perhaps bound again"),
        pytest.param(
            "pass",
            "l = [1]; d = {'l': l}",
            "d['l'] = list(l)",
            "l.append(2); print(d)",
            (None, "n = 1"),
            id="what was one object",
        ),
        pytest.param(
            "pass",
            "l = [1]; d = {'l': [1]}",
            "d['l'] = l",
            "l.append(2); print(d)",
            (None, "n = 1"),
            id="what was made one object",
        ),
        pytest.param(
            "l = [1]; d = {'l': l}",
            "n = 0",
            "d['l'] = list(l)",
            "l.append(2); print(d)",
            (None, "n = 1"),
            id="what was one object of setup",
        ),
        pytest.param(
            "c = [1]",
            "b = c",
            "n = 0",
            "print(b)",
            (None, "c.append(2); c = [0]"),
            id="what setup has made, under another name, changed and bound anew",
        ),
        pytest.param(
            "l = []; m = []; d = [l, m]",
            "n = 0",
            "d.reverse()",
            "l.append(2); print(d)",
            (None, "n = 1"),
            id="what stands elsewhere",
        ),
        pytest.param(
            "import math, cmath",
            "m = math",
            "n = 4",
            "print(m.sqrt(n))",
            ("m = cmath", None),
            id="a name for a module of setup",
        ),
        pytest.param(
            "pass",
            "a = [0]; c = a; b = [a]",
            "c = {'y': [3]}",
            "print(a, b, c)",
            ("a = [1]; c = a; b = [a]", None),
            id="what a kept step has saved again beside other names",
        ),
        pytest.param(
            "c = [1]",
            "b = [c]; c.append(2)",
            "c = {'y': 0}",
            "print(b, c)",
            ("b = [c]; c.append(3)", None),
            id="what setup has made and a kept step binds anew",
        ),
        pytest.param(
            "c = [1]; b = [c]",
            "c.append(2)",
            "c = {'y': 0}",
            "print(b, c)",
            ("c.append(3)", None),
            id="what setup has made in something else and a kept step binds anew",
        ),
    ],
)
def test_a_resume_behind_an_edit_ends_as_a_run_would(setup, first, second, third, edited, steps):
    """A step that makes of a name what it was before has made it; so has one that only changes what is one object."""
    end = [("step:c", third), ("step:z", "done = 1")]
    run(steps(("setup", setup), ("step:a", first), ("step:b", second), *end)).check()
    path = steps(("setup", setup), ("step:a", edited[0] or first), ("step:b", edited[1] or second), *end)
    resumed = shown(resume(path, changed="rerun").check(), 4)
    assert resumed == shown(run(path).check(), 4)


@pytest.mark.parametrize("first", ["setup", "step:load"])
def test_what_a_kept_step_has_saved_again_counts_with_what_it_has_inside(first, steps):
    """That is what the steps before it make of it now."""
    cells = [
        (first, "c = [1]"),
        ("step:a", "a = {'in': c}"),
        ("step:b", "c.append(2)"),
        ("step:c", "c = [0]"),
        ("step:d", "print(a, c)"),
    ]
    assert "{'in': [1, 2]} [0]" == shown(run(steps(*cells)).check(), 5)
    cells[2] = ("step:b", "n = 1")
    assert "{'in': [1]} [0]" == shown(resume(steps(*cells), changed="rerun").check(), 5)


def test_a_value_of_a_class_is_not_changed_where_a_part_of_it_loses_its_name(steps):
    """So the step that binds the name anew has not given the value, and is kept."""
    cells = [
        ("setup", "class Box:\n    def __init__(self, v): self.v = v\n    def put(self, v): self.v = v"),
        ("step:a", "c = Box(1)"),
        ("step:b", "a = Box([c])"),
        ("step:c", "c = Box(2)"),
        ("step:d", "print(a.v[0].v if isinstance(a.v, list) else a.v.v + 10, c.v)"),
    ]
    assert "1 2" == shown(run(steps(*cells)).check(), 5)
    cells[2] = ("step:b", "a = Box([c])\na.put(c)")
    assert "11 2" == shown(resume(steps(*cells), changed="rerun").check(), 5)


@pytest.mark.parametrize("first", ["setup", "step:load"])
def test_a_step_that_imports_again_what_there_is_is_not_followed_for_that(first, steps, folder):
    """So are notebooks written; another module under that name counts."""
    cells = [
        (first, "import math as m\nn = 4"),
        ("step:a", ran("a") + "\nimport math as m\nx = 1"),
        ("step:b", ran("b") + "\nprint(m.sqrt(n))"),
    ]
    run(steps(*cells)).check()
    cells[1] = ("step:a", ran("a") + "\nimport math as m\nx = 2")
    assert "2.0" == shown(resume(steps(*cells), changed="rerun").check(), 3)
    assert ["a", "b", "a"] == [step for step, _ in rows(folder)]
    cells[1] = ("step:a", ran("a") + "\nimport cmath as m\nx = 2")
    assert "(2+0j)" == shown(resume(steps(*cells), changed="rerun").check(), 3)


def test_a_step_that_imports_a_name_of_setup_again_is_not_followed_for_that(steps, folder):
    cells = [
        ("setup", "from pathlib import Path"),
        ("step:a", ran("a") + "from pathlib import Path\nx = 1"),
        ("step:b", ran("b") + "print(Path('a').name)"),
    ]
    run(steps(*cells)).check()
    cells[1] = ("step:a", ran("a") + "from pathlib import Path\nx = 2")
    resume(steps(*cells), changed="rerun").check()
    assert ["a", "b", "a"] == [step for step, _ in rows(folder)]


def test_a_step_that_imports_another_part_of_a_package_is_followed(steps, folder):
    """The package has that then."""
    (folder / "parts").mkdir()
    for name in ("__init__", "one", "two"):
        (folder / "parts" / f"{name}.py").touch()
    cells = [("step:a", "import parts"), ("step:b", "import parts.one"), ("step:c", "print(hasattr(parts, 'two'))")]
    assert "False" == shown(run(steps(*cells)).check(), 3)
    cells[1] = ("step:b", "import parts.two")
    assert "True" == shown(resume(steps(*cells), changed="rerun").check(), 3)


def test_a_step_that_imports_again_is_believed_behind_two_edits(steps):
    """It was the same when it ran, and is not any more."""
    cells = [("step:a", "import math as m"), ("step:b", "import math as m"), ("step:c", "print(m.sqrt(4))")]
    run(steps(*cells)).check()
    cells[0] = ("step:a", "import cmath as m")
    assert "2.0" == shown(resume(steps(*cells), changed="rerun").check(), 3)
    cells[1] = ("step:b", "y = 1")
    assert "(2+0j)" == shown(resume(steps(*cells), changed="rerun").check(), 3)


def test_what_setup_made_and_a_step_changes_and_perhaps_binds_anew_is_saved(steps):
    """It comes along with what holds it, and is the step's own all the same."""
    path = steps(
        ("setup", "a = [1]\nc = [2]"),
        ("step:p", "a = [c]\nc.append(3)"),
        ("step:q", "c.append(4)\nif len(c) > 9: c = []"),
        ("step:r", "print(c, a)"),
    )
    assert "[2, 3, 4] [[2, 3, 4]]" == shown(run(path).check(), 4)


def test_another_name_of_what_a_step_changed_is_there_for_the_next_step_too(steps):
    """The changed step did not have it, and its kernel goes on."""
    cells = [
        ("setup", "a = [0]"),
        ("step:p", "b = a"),
        ("step:q", "a = [5]"),
        ("step:r", "print(a, b, a is b)"),
    ]
    assert "[5] [0] False" == shown(run(steps(*cells)).check(), 4)
    cells[2] = ("step:q", "a.append(5)")
    assert "[0, 5] [0, 5] True" == shown(resume(steps(*cells), changed="rerun").check(), 4)


def test_what_setup_made_is_given_back_where_no_step_has_bound_its_name_anew(steps):
    """In the kernel of the step above that is another object now: this step has a kernel of its own."""
    cells = [
        ("setup", "a = [0]"),
        ("step:p", "b = a\nd = {'in': a}"),
        ("step:q needs:p", "a = 5"),
        ("step:r", "print(a, b, d['in'] is b)"),
    ]
    assert "5 [0] True" == shown(run(steps(*cells)).check(), 4)


def test_what_setup_made_is_no_generator_that_a_step_has_bound_to_its_name(steps):
    """Nobody knows what stands there, for it could not be saved."""
    (failure,) = run(
        steps(
            ("setup", "a = [0]"),
            ("step:p", "b = a"),
            ("step:q needs:p", "a = (n for n in [1])"),
            ("step:r", "print(b)"),
        )
    ).failures
    assert "b cannot be restored: it is what setup makes as a" in failure.error.message


def test_what_setup_made_and_a_step_has_bound_anew_is_told_where_only_that_kernel_has_what_is_read_too(steps):
    """A generator is nowhere else."""
    cells = [
        ("setup", "a = [0]"),
        ("step:p", "b = a"),
        ("step:q needs:p", "a = 5\nlines = (n for n in [1])"),
        ("step:r", "print(b, next(lines))"),
    ]
    (failure,) = run(steps(*cells)).failures
    assert "which a step has bound anew in this kernel. Bind another name there, or make" in failure.error.message


def test_who_reads_an_object_follows_who_changed_it_under_another_name(steps):
    """Which may be bound to something else by then."""
    cells = [
        ("step:a", "x = {'n': 0}"),
        ("step:p needs:a", "x['p'] = 1"),
        ("step:s", "x = 5"),
        ("step:q needs:a", "z = x\nn = z['n']"),
        ("step:r needs:s needs:q", "print(z)"),
    ]
    assert "{'n': 0, 'p': 1}" == shown(run(steps(*cells)).check(), 5)
    cells[1] = ("step:p needs:a", "x['p'] = 2")
    assert "{'n': 0, 'p': 2}" == shown(resume(steps(*cells), changed="rerun").check(), 5)


def test_a_mended_cell_finds_what_looks_at_memory_that_was_changed(steps):
    """Small as it is, and nobody had read it: it is not what was saved of it before the change."""
    begin = [
        ("setup", "import numpy as np, pandas as pd"),
        (
            "step:a",
            """
arr = np.zeros((3, 2)); df = pd.DataFrame(arr, copy=False)
rec = np.zeros(3, dtype=[('x', 'i8')]); row = rec[0]
""",
        ),
        ("step:b", "arr[0, 0] = 99; rec['x'][0] = 7"),
    ]
    assert "failed" == run(steps(*begin, ("step:c", "assert arr[0, 0] == 0"))).status
    path = steps(*begin, ("step:c", "print(df.iloc[0, 0], row['x'])"))
    assert "99.0 7" == shown(resume(path).check(), 4)


def test_a_name_of_setup_that_cannot_be_saved_any_more_is_told(steps):
    """What has been done to it is lost to other kernels; that of a connection which setup makes lazily is none."""
    path = steps(
        ("setup", "import threading\nregistry = {}"),
        ("step:a", "registry['x'] = 1\nregistry['lock'] = threading.Lock()"),
        ("step:c needs:a", "print(sorted(registry))"),
    )
    done = run(path).check()
    assert "[]" == shown(done, 3)
    (told,) = done.warnings
    assert "registry holds a _thread.lock (in ['lock']), and is not saved" in told.message
    assert "steps in other kernels find it as setup makes it" in told.message


def test_items_that_a_repeated_step_reads_run_again_as_items(steps, folder, tmp_path, monkeypatch):
    """Where somebody else saved what they left; never once more without an item."""
    (folder / "FAIL").touch()
    path = steps(
        ("setup", "xs = ['a', 'b', 'c']\nx = 'a'"),
        ("step:fit each:xs as:x", ran("fit") + "score = {x}"),
        ("results", "score"),
        ("step:b needs:fit", "y = {len(score)}"),
        ("step:c needs:b", FAILS + "print(y)"),
    )
    run(path)
    (folder / "FAIL").unlink()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "somebody"))
    assert "{3}" == shown(resume(path).check(), 5)
    assert 6 == len(rows(folder))


def test_a_secret_that_a_step_puts_into_what_setup_made_does_not_stand_in_the_records(folder, steps, monkeypatch):
    """Its value is not kept, whoever made the container."""
    monkeypatch.setenv("TOKEN", "hunter2-hunter2")
    steps(("setup", "cfg = {}"), ("step:a", "import os\ncfg['t'] = os.environ['TOKEN']"), ("step:b", "print(len(cfg))"))
    cells = {"cells": "analysis.ipynb"}
    flow = {
        "nbflow": 1,
        "steps": [
            {"id": "a", **cells, "tags": ["step:a"], "secrets": ["TOKEN"]},
            {"id": "b", **cells, "tags": ["step:b"]},
        ],
    }
    (folder / "flow.yml").write_text(json.dumps(flow))
    one = run(folder / "flow.yml").check()
    assert "hunter2" not in (one.folder / "journal.jsonl").read_text()


def test_what_steps_side_by_side_have_changed_is_not_old_inside_of_something_else(steps):
    """What holds it is not restored either; what was only bound anew there is no change of it."""
    path = steps(
        ("step:load", "rows = [[0]]\nrow = rows[0]\nheld = {'rows': rows}"),
        ("step:a needs:load", "rows.append(1)\nrow = 'a'"),
        ("step:b needs:load", "rows.append(2)\nrow = 'b'"),
        ("step:end needs:a needs:b", "print(held)"),
    )
    done = run(path)
    assert "NameError" in done["end"].error.message
    assert any("held was not restored, for a and b have changed it" in warning.message for warning in done.warnings)
    again = steps(
        ("step:load", "rows = [[0]]\nrow = rows[0]\nheld = {'rows': rows}"),
        ("step:a needs:load", "for row in rows[:] + ['a']: pass"),
        ("step:b needs:load", "for row in rows[:] + ['b']: pass"),
        ("step:end needs:a needs:b", "print(held)"),
        name="other.ipynb",
    )
    assert "completed" == run(again).status


@pytest.mark.parametrize(
    ("first", "p", "q", "reads"),
    [
        pytest.param("x = N(); y = N()", "x.child = y", "y.parent = x", "x, y", id="each put into the other"),
        pytest.param("x = N(); y = N(); x.d = y", "x.d = 0", "y.d = x", "x, y", id="changed, and packed with another"),
        pytest.param("x = [1]; y = 0; h = [x]", "y = x; x = 0; y.append(2)", "h[0].append(3)", "y", id="two names"),
    ],
)
def test_what_steps_side_by_side_have_changed_of_one_thing_is_nobodys(first, p, q, reads, steps):
    """What one of them did would be lost."""
    done = run(
        steps(
            ("setup", "class N: pass"),
            ("step:a", first),
            ("step:p needs:a", p),
            ("step:q needs:a", q),
            ("step:end needs:p needs:q", f"print({reads})"),
        )
    )
    assert "NameError" in done["end"].error.message
    assert any("have changed it and none waits for the other" in warning.message for warning in done.warnings)


def test_a_step_that_gives_a_name_the_same_value_again_has_given_it(steps):
    """An edit of the step before does not come through."""
    path = steps(
        ("step:a", "p = 1; x = 1"), ("step:b", "x = 1"), ("step:c needs:b", "print(x)"), ("step:d needs:b", "print(p)")
    )
    run(path).check()
    _change(path, "p = 1; x = 1", "p = 2; x = 2")
    done = resume(path, changed="rerun").check()
    assert ["1", "2"] == [shown(done, 3), shown(done, 4)]


def test_a_repeated_step_reads_what_steps_above_it_make_again(steps, folder, tmp_path, monkeypatch):
    """Where somebody else saved it, they are repeated too; the plan says so."""
    (folder / "FAIL").touch()
    path = steps(
        ("step:a", "k = {1, 2}"), ("step:b needs:a", "y = {max(k)}"), ("step:c needs:b", FAILS + "print(y, 'end')")
    )
    run(path)
    (folder / "FAIL").unlink()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "somebody"))
    done = resume(path).check()
    assert "{2} end" == shown(done, 3)
    assert ["c: repeats step a: y cannot be restored", "c: repeats step b: y cannot be restored"] == sorted(
        warning.message for warning in done.warnings
    )


def test_a_parameter_that_setup_does_not_read_repeats_no_step_that_needs_only_setup(steps, cli):
    """As it does not repeat those that say nothing."""
    path = steps(
        ("parameters", "n = 1\nxs = [1]"),
        ("step:a needs:", "x = 1"),
        ("step:each needs: each:xs as:one", "y = one"),
        ("step:b needs:a", "print(n, x)"),
    )
    run(path).check()
    planned = cli("resume", path.name, "-i", "n=2", "--dry-run").stdout
    assert ["setup", "b"] == [line.split()[0] for line in planned.splitlines() if " runs " in line]


def test_a_list_with_a_secret_is_nothing_to_run_over(folder, steps, monkeypatch):
    """Its items would be stars, for they stand in the records."""
    monkeypatch.setenv("TOKEN", "hunter2-hunter2")
    steps(("step:load", "import os\nurls = ['https://x/' + os.environ['TOKEN']]"), ("step:fit", "print(url)"))
    load = {"id": "load", "cells": "analysis.ipynb", "tags": ["step:load"], "secrets": ["TOKEN"]}
    step = {"id": "fit", "cells": "analysis.ipynb", "tags": ["step:fit"], "names": {"url": "{{ url }}"}}
    fit = {"id": "fit", "items": "{{ steps.load.output.urls }}", "as": "url", "step": step}
    (folder / "flow.yml").write_text(json.dumps({"nbflow": 1, "steps": [load, fit]}))
    (failure,) = run(folder / "flow.yml").failures
    assert (
        "'urls' holds a secret, and who runs over it would find stars in its place: let each item"
        in failure.error.message
    )


def test_a_secret_in_what_an_item_leaves_fails_the_item(folder, steps, monkeypatch):
    """A list with a hole in it would be given to later steps; nobody can repeat an item for them."""
    monkeypatch.setenv("TOKEN", "hunter2-hunter2")
    steps(
        ("setup", "ns = [1]"),
        ("step:fit each:ns as:n", "import os\nx = os.environ['TOKEN']"),
        ("results", "x"),
        ("step:use", "print(x)"),
    )
    flow = {
        "nbflow": 1,
        "steps": [
            {"id": "setup", "cells": "analysis.ipynb", "tags": ["setup"]},
            {
                "id": "fit",
                "items": [1],
                "as": "n",
                "step": {
                    "id": "fit",
                    "cells": "analysis.ipynb",
                    "tags": ["step:fit"],
                    "names": {"n": "{{ n }}"},
                    "secrets": ["TOKEN"],
                },
            },
            {"id": "use", "cells": "analysis.ipynb", "tags": ["step:use"]},
        ],
    }
    (folder / "flow.yml").write_text(json.dumps(flow))
    one = run(folder / "flow.yml")
    assert "x is for later steps, and cannot be saved: it holds a secret" in str(one.failures)
    assert "hunter2" not in (one.folder / "journal.jsonl").read_text()
