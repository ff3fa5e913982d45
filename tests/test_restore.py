"""Names of a run brought back: into a dict, and into a real kernel where the failed cell is then run by hand."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

import nbflow
from nbflow.api.restoring import Restored
from nbflow.errors import NbflowError, ParameterError, RefusedError, TargetError

TOP = Path(__file__).parent.parent

SETUP = """\
import pathlib
factor = int(pathlib.Path('factor.txt').read_text())
limit = n * factor
conn = None
print('prepared')
"""
CLEAN = """\
class Model:
    def __init__(self, rows):
        self.rows = rows
    def score(self, city):
        return len(city) * limit
model = Model(sorted(rows))
rows.append(limit)
"""
ANALYSIS = [
    ("parameters", "n = 3\ncities = ['Oslo', 'Lima']"),
    ("setup", SETUP),
    ("step:load", "import sqlite3\nrows = [n, 2, 1]\nconn = sqlite3.connect(':memory:')"),
    ("step:clean", CLEAN),
    (
        "step:fit each:cities as:city",
        "if city == 'Lima': raise ValueError(f'no rain in {city}')\nscore = model.score(city) + len(rows)",
    ),
    ("results", "score"),
    ("step:side needs:load", "spare = len(rows)"),
    ("step:plot needs:fit needs:side needs:clean", "print(score, conn, rows, model, spare)"),
]
"""Fails at the second item of ``fit``; ``plot`` reads what makes the others be saved."""

WORKFLOW = """\
nbflow: 1
steps:
- {id: one, cells: cells.ipynb, tags: [one]}
- {id: two, cells: cells.ipynb, tags: [two]}
- {id: last, run: echo 1}
"""


def written(path: Path, cells: list[tuple[str, str]]) -> Path:
    """Give a notebook of tagged cells."""
    new = nbformat.v4.new_code_cell
    made = nbformat.v4.new_notebook(cells=[new(source, metadata={"tags": tags.split()}) for tags, source in cells])
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(made, path)
    return path


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give the folder of a run that failed; nobody changes anything in it."""
    folder = tmp_path_factory.mktemp("failed")
    (folder / "factor.txt").write_text("2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        patch.delenv("NBFLOW_STATE_DIR", raising=False)
        run = nbflow.run(written(folder / "analysis.ipynb", ANALYSIS), inputs={"n": 5}, quiet=True)
        assert ["fit:fit:1"] == [node.id for node in run.failures]
        yield folder


@pytest.fixture
def back(failed: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Restored, dict[str, Any]]]:
    """Restore beside the notebook, into a dict that is given too."""
    monkeypatch.chdir(failed)

    def restore(step: str | None = None, **more: Any) -> tuple[Restored, dict[str, Any]]:
        names: dict[str, Any] = {}
        return nbflow.restore("analysis.ipynb", step, into=names, **more), names

    return restore


@pytest.fixture
def copied(failed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a copy of all of it, in which things may go wrong."""
    folder = tmp_path / "copy"
    shutil.copytree(failed, folder)
    monkeypatch.chdir(folder)
    return folder


# -- which moment --------------------------------------------------------------------------------------------------


def test_without_a_step_there_is_what_the_first_failed_one_found(back: Any) -> None:
    """The item of a fan-out, with its variable; nothing of what it had done itself."""
    restored, names = back()
    assert "fit city=Lima" == restored.step
    assert restored.found
    assert {"rows", "model", "city", "sqlite3"} == set(restored.names)
    assert 10 == names["limit"], "setup has made it here"
    assert ("Lima", [5, 2, 1, 10]) == (names["city"], names["rows"])
    assert "score" not in names


def test_the_failed_cell_runs_by_hand_with_what_was_found(back: Any) -> None:
    """Classes and functions find the names that the setup cells have made here."""
    _, names = back()
    exec(ANALYSIS[4][1].partition("\n")[2], names)
    assert len("Lima") * 10 + 4 == names["score"]


def test_a_completed_step_is_as_it_left_the_names(back: Any) -> None:
    """Not as later steps have changed them, and without what only those have made."""
    restored, names = back("load")
    assert not restored.found
    assert [5, 2, 1] == names["rows"]
    assert "model" not in names
    assert [5, 2, 1, 10] == back("clean")[1]["rows"]


def test_a_step_beside_the_failed_one_is_as_it_left_the_names(back: Any) -> None:
    """It waits for others, and so it finds others."""
    restored, names = back("side")
    assert "side" == restored.step
    assert ([5, 2, 1], 3) == (names["rows"], names["spare"])
    assert "model" not in names


@pytest.mark.parametrize("step", ["fit:fit:0", "fit city=Oslo", "city=Oslo"])
def test_an_item_is_called_as_its_log_is(step: str, back: Any) -> None:
    restored, names = back(step)
    assert ("fit city=Oslo", "Oslo", 44) == (restored.step, names["city"], names["score"])
    assert "city" in restored.names


@pytest.mark.parametrize("step", ["fit", "fit:fit:1", "fit city=Lima"])
def test_a_step_of_which_an_item_failed_is_that_item(step: str, back: Any) -> None:
    assert "Lima" == back(step)[1]["city"]


def test_a_step_that_has_not_begun_says_what_there_is(back: Any) -> None:
    with pytest.raises(TargetError, match="step plot has not begun") as caught:
        back("plot")
    assert "'fit city=Lima'" in caught.value.remedy


def test_an_unknown_step_is_named_with_its_neighbour(back: Any) -> None:
    with pytest.raises(TargetError, match=r"has no step 'claen'\. Did you mean 'clean'\?") as caught:
        back("claen")
    assert "It has: setup, load, clean, fit, side, plot." == caught.value.remedy


# -- setup ---------------------------------------------------------------------------------------------------------


def test_setup_runs_first_with_the_parameters_of_the_run_and_shows_nothing(back: Any, capsys: Any) -> None:
    _, names = back("load")
    assert (5, 2, 10, ["Oslo", "Lima"]) == tuple(names[name] for name in ("n", "factor", "limit", "cities"))
    assert "" == capsys.readouterr().out


def test_without_setup_only_what_was_saved_is_bound(back: Any) -> None:
    _, names = back("load", setup=False)
    assert [5, 2, 1] == names["rows"]
    assert {"factor", "pathlib", "cities"}.isdisjoint(names)


def test_a_setup_cell_that_fails_here_is_told_by_its_number(back: Any, tmp_path: Path, failed: Path) -> None:
    os.chdir(tmp_path)  # factor.txt is not here; the fixture goes back
    names: dict[str, Any] = {}
    with pytest.raises(NbflowError, match=r"setup cell 2 of analysis\.ipynb failed here: FileNotFoundError"):
        nbflow.restore(failed / "analysis.ipynb", into=names)
    assert "rows" not in names


def changed(path: Path, old: str, new: str) -> None:
    """Change the code in a notebook."""
    path.write_text(path.read_text().replace(old, new))


def test_setup_cells_that_are_none_of_the_notebook_beside_the_run_are_refused(copied: Path) -> None:
    """The copy that a run keeps is somebody else's code where somebody else made the run; who wants it says so."""
    (run,) = (copied / "nbflow-runs" / "analysis.ipynb").iterdir()
    changed(copied / "analysis.ipynb", "limit = n * factor", "limit = 100")
    names: dict[str, Any] = {}
    for target in ("analysis.ipynb", run):
        with pytest.raises(RefusedError, match=r"setup cell 2 of analysis\.ipynb, as the run has kept it") as caught:
            nbflow.restore(target, "load", into=names)
        assert "setup=True runs the setup cells of the run all the same, setup=False leaves" in caught.value.remedy
    assert {} == names
    nbflow.restore("analysis.ipynb", "load", into=names, setup=True)
    assert 10 == names["limit"]


@pytest.mark.parametrize("away", [Path.unlink, lambda path: changed(path, '"setup"', '"skip-execution", "setup"')])
def test_setup_cells_are_refused_where_the_notebook_beside_the_run_does_not_run_them(away: Any, copied: Path) -> None:
    away(copied / "analysis.ipynb")
    (run,) = (copied / "nbflow-runs" / "analysis.ipynb").iterdir()
    with pytest.raises(RefusedError, match="is no setup cell of"):
        nbflow.restore(run, "load", into={})
    names: dict[str, Any] = {}
    assert ("rows", "sqlite3") == nbflow.restore(run, "load", into=names, setup=False).names
    assert [5, 2, 1] == names["rows"]


def test_what_else_was_changed_in_the_notebook_keeps_no_setup_cell_from_running(copied: Path) -> None:
    """A step that is mended, and one more setup cell."""
    changed(copied / "analysis.ipynb", "rows = [n, 2, 1]", "rows = []")
    changed(copied / "analysis.ipynb", '"results"', '"setup"')
    names: dict[str, Any] = {}
    nbflow.restore("analysis.ipynb", "load", into=names)
    assert ([5, 2, 1], 10) == (names["rows"], names["limit"])


# -- what is left out ----------------------------------------------------------------------------------------------


def test_what_cannot_be_saved_is_left_out_with_the_cell_that_makes_it(back: Any) -> None:
    restored, names = back("clean")
    assert "is a sqlite3.Connection: run cell 3" == restored.left_out["conn"]
    assert names["conn"] is None  # as the setup cell makes it
    first, second, third = repr(restored).splitlines()
    assert first.startswith("restored rows, sqlite3, model (")
    assert first.endswith("B) as step clean left them")
    assert "left out: conn (is a sqlite3.Connection: run cell 3)" == second
    assert "          Model (was not saved, for no later step reads it: run cell 4)" == third


def test_what_another_user_has_pickled_is_not_loaded(back: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """With another key it is nobody's whom we know; plain values are there all the same."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
    restored, names = back("clean")
    assert "was pickled by another user: run cell 4" == restored.left_out["model"]
    assert "model" not in names
    assert [5, 2, 1, 10] == names["rows"]


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_bytes(b"x" * file.stat().st_size)])
def test_a_name_whose_file_is_gone_or_changed_is_left_out(damage: Any, copied: Path) -> None:
    """The others are there."""
    files = list(copied.rglob("names/*.pickle"))
    assert files
    for file in files:
        damage(file)
    names: dict[str, Any] = {}
    restored = nbflow.restore("analysis.ipynb", "clean", into=names)
    assert "is not as it was saved: its file is gone or was changed: run cell 4" == restored.left_out["model"]
    assert ([5, 2, 1, 10], 0) == (names["rows"], restored.bytes)


def test_the_checkpoint_alone_is_enough_where_files_are_there(copied: Path) -> None:
    (run,) = (copied / "nbflow-runs" / "analysis.ipynb").iterdir()
    for name in ("journal.jsonl", "workflow.json"):
        (run / name).unlink()
    names: dict[str, Any] = {}
    assert "fit city=Lima" == nbflow.restore("analysis.ipynb", into=names).step
    assert ([5, 2, 1, 10], 40) == (names["rows"], names["model"].score("Lima"))


def test_restoring_changes_nothing_on_disk(copied: Path) -> None:
    def files() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}

    before = files()
    nbflow.restore("analysis.ipynb", into={})
    assert before == files()


# -- other runs ----------------------------------------------------------------------------------------------------


def test_while_a_run_is_at_work_there_is_what_its_step_has_found(folder: Path, until: Any) -> None:
    """Also of a workflow that names the cells; once it has ended, there is what the last step left."""
    waits = "import pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.02)\ntotal.append(4)"
    cells = [("setup", "%env TRIED=1"), ("one", "total = [1, 2]"), ("two", waits), ("three", "print(total)")]
    written(folder / "cells.ipynb", cells)
    (folder / "flow.yml").write_text(
        WORKFLOW.replace("- {id: last, run: echo 1}", "- {id: last, cells: cells.ipynb, tags: [three]}")
    )
    run = nbflow.start("flow.yml", quiet=True)
    until(lambda: "two" in run.nodes)
    names: dict[str, Any] = {}
    restored = nbflow.restore("flow.yml", "two", into=names, setup=False)
    assert (True, [1, 2]) == (restored.found, names["total"])
    (folder / "go").touch()
    assert "completed" == run.wait(60).status
    restored = nbflow.restore("flow.yml", "two", into=names, setup=False)
    assert (False, [1, 2, 4]) == (restored.found, names["total"])
    with pytest.raises(RefusedError, match=r"cell 1 of cells\.ipynb is no plain Python, and needs IPython"):
        nbflow.restore("flow.yml", into={})


def test_a_step_of_which_all_items_completed_is_all_of_them(folder: Path) -> None:
    """An item alone is asked for by its name."""
    cells = [
        ("parameters", "sizes = [1, 2]"),
        ("step:fit each:sizes as:size", "score = size * 10"),
        ("results", "score"),
    ]
    run = nbflow.run(written(folder / "a.ipynb", [*cells, ("step:plot", "print(score); 1 / 0")]), quiet=True)
    assert ["plot"] == [node.id for node in run.failures]
    names: dict[str, Any] = {}
    assert "plot" == nbflow.restore("a.ipynb", into={}).step
    restored = nbflow.restore("a.ipynb", "fit", into=names)
    assert "fit" == restored.step
    assert "size" not in names
    assert "score" in {*restored.names, *restored.left_out}
    nbflow.restore("a.ipynb", "size=2", into=names)
    assert (2, 20) == (names["size"], names["score"])


def test_steps_beside_and_behind_a_failure_are_as_they_are(folder: Path) -> None:
    """One that was tolerated hides nothing behind it, and the first one is what is meant where nothing is said."""
    waits = "import pathlib, time\nwhile not pathlib.Path('side').exists(): time.sleep(0.02)"
    cells = [("bad", "early = 1 / 0"), ("behind", "x = 1"), ("worse", f"{waits}\nprint(x); [][1]")]
    written(folder / "c.ipynb", [*cells, ("side", "import pathlib\ny = 2\npathlib.Path('side').touch()")])
    steps = [
        "id: bad, continue_on_error: true",
        "id: behind, when: \"{{ steps.bad.status == 'failed' }}\"",
        "id: worse, needs: [behind]",
        "id: side, needs: [behind]",
    ]
    lines = [f"- {{{one}, cells: c.ipynb, tags: [{one[4:].partition(',')[0]}]}}" for one in steps]
    (folder / "flow.yml").write_text("\n".join(["nbflow: 1", "steps:", *lines]))
    run = nbflow.run("flow.yml", max_workers=2, quiet=True)
    assert {"bad": "failed", "behind": "completed", "worse": "failed", "side": "completed"} == {
        node.id: node.status for node in run.outcomes
    }
    assert "bad" == nbflow.restore("flow.yml", into={}).step
    names: dict[str, Any] = {}
    nbflow.restore("flow.yml", "behind", into=names)
    assert 1 == names["x"]
    assert "side" == nbflow.restore("flow.yml", "side", into=names).step


def test_what_nobody_asked_for_is_left_out_with_the_cell_that_makes_it(folder: Path) -> None:
    """What is small, and modules, are there all the same."""
    load = "import math\ntmp = [1]; del tmp\nrows = list(range(10 ** 5))\ncount = len(rows)\ntotal = sum(rows)"
    nbflow.run(written(folder / "a.ipynb", [("step:load", load), ("step:end", "print(total)")]), quiet=True).check()
    names: dict[str, Any] = {}
    restored = nbflow.restore("a.ipynb", into=names)
    assert ({"count", "math", "total"}, "math") == ({*restored.names}, names["math"].__name__)
    assert {"rows": "was not saved, for no later step reads it: run cell 1"} == restored.left_out


def test_a_name_that_steps_changed_side_by_side_is_left_out(folder: Path) -> None:
    """Nobody can say whose value is meant; the others are there."""
    cells = [
        ("step:load", "total, n = [1], 3"),
        ("step:a needs:load", "total = total + [2]"),
        ("step:b needs:load", "total = total + [3]"),
        ("step:end needs:a needs:b", "print(n); 1 / 0"),
    ]
    run = nbflow.run(written(folder / "a.ipynb", cells), quiet=True)
    assert ["end"] == [node.id for node in run.failures]
    names: dict[str, Any] = {}
    restored = nbflow.restore("a.ipynb", into=names)
    assert 3 == names["n"]
    assert {"total": "is not one value: a and b have changed it, and none waits for the other"} == restored.left_out


def test_runs_without_steps_of_cells_save_no_names(notebook: Any, folder: Path) -> None:
    nbflow.map(notebook(), grid={"n": [1]}, quiet=True)
    with pytest.raises(TargetError, match=r"is a map of work\.ipynb, whose items save no names"):
        nbflow.restore("work.ipynb", into={})
    (folder / "flow.yml").write_text("nbflow: 1\nsteps:\n- {id: one, run: echo 1}\n")
    nbflow.run("flow.yml", quiet=True)
    with pytest.raises(TargetError, match="has no steps that are cells of a notebook"):
        nbflow.restore("flow.yml", into={})
    written(folder / "new.ipynb", [("step:one", "x = 1")])
    with pytest.raises(TargetError, match="has no run yet"):
        nbflow.restore("new.ipynb", into={})


def test_outside_of_ipython_somebody_says_where_names_go(back: Any) -> None:
    with pytest.raises(ParameterError, match="needs into=") as caught:
        nbflow.restore("analysis.ipynb")
    assert "into=globals()" == caught.value.remedy
    with pytest.raises(ParameterError, match="into is a list, and no dict"):
        nbflow.restore("analysis.ipynb", into=[])  # type: ignore[arg-type]


# -- a kernel ------------------------------------------------------------------------------------------------------


def test_in_a_kernel_the_failed_cell_is_run_by_hand(failed: Path, monkeypatch: Any) -> None:
    """Its variables are the notebook's; setup shows nothing, and an error in it is told."""
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TOP), *filter(None, [os.environ.get("PYTHONPATH")])]))
    new = nbformat.v4.new_code_cell
    fixed = ANALYSIS[4][1].replace("raise ValueError(f'no rain in {city}')", "rows.append(0)")
    cells = [
        "import nbflow\nnbflow.restore('analysis.ipynb')",
        f"{fixed}\nprint(score, city, limit, conn)",
        "import os\nos.chdir('/')\ntry: nbflow.restore(where)\nexcept nbflow.NbflowError as problem: print(problem)",
    ]
    cells[2] = cells[2].replace("where", repr(str(failed / "analysis.ipynb")))
    made = nbformat.v4.new_notebook(cells=list(map(new, cells)))
    NotebookClient(made, kernel_name="python3", timeout=60, resources={"metadata": {"path": str(failed)}}).execute()
    (shown,) = made.cells[0].outputs
    assert shown["data"]["text/plain"].startswith("restored rows, sqlite3, model, city (")
    (printed,) = made.cells[1].outputs
    assert "45 Lima 10 None\n" == printed["text"]
    assert "setup cell 2 of analysis.ipynb failed here: FileNotFoundError" in made.cells[2].outputs[-1]["text"]
