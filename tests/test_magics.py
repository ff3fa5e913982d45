"""``%nbflow`` in a notebook that says which one it is: verbs without a target mean that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from IPython.core.error import UsageError

import nbflow
from nbflow.magics import Magics

CELL = """\
# nbflow: step=check
import pathlib
print('checks')
if not pathlib.Path('fine').exists(): raise KeyError('rain')
"""


@pytest.fixture
def line(notebook: Any, folder: Path, monkeypatch: Any) -> Any:
    """Give what does a line in the notebook ``work.ipynb``, whose cell fails until there is a file ``fine``."""
    path = notebook(CELL, parameters="n = 2", results="square = n * n")
    monkeypatch.setenv("JPY_SESSION_NAME", str(path))
    return Magics(None).line


def test_verbs_without_a_target_mean_this_notebook(line: Any, folder: Path, capsys: Any) -> None:
    """Run, looked at, and continued; options stay what they are."""
    run = line("run -q -i n=3")
    assert ("failed", "work.ipynb") == (run.status, run.typed())
    (folder / "fine").touch()
    again = line("resume -q")
    assert (run.id, "completed") == (again.id, again.status)
    capsys.readouterr()
    line("status")
    assert "work.ipynb" in capsys.readouterr().out
    line("results")
    assert "square" in capsys.readouterr().out
    line("logs")
    assert "checks" in capsys.readouterr().out
    with pytest.raises(UsageError, match="is not at work"):
        line("cancel")


def test_in_a_run_no_other_is_begun(line: Any, capsys: Any, monkeypatch: Any) -> None:
    """It would be the same notebook again, without end."""
    monkeypatch.setenv("NBFLOW_RUN_ID", "20261130-120000-1a2b")
    assert line("run work.ipynb") is None
    told = "this kernel works at run 20261130-120000-1a2b, and nbflow.run(...) begins one inside of it"
    assert f"%nbflow run is left out: {told}\n" == capsys.readouterr().err


def test_a_target_that_is_named_is_that_one(line: Any, notebook: Any) -> None:
    other = notebook("# nbflow: step=other\nn", parameters="n = 2", name="other.ipynb")
    assert "other.ipynb" == line(f"run {other.name} -q").typed()
    with pytest.raises(UsageError, match="no-such"):
        line("resume no-such.ipynb")
    with pytest.raises(UsageError, match="No such option"):
        line("cancel --no-such")


def test_the_status_of_a_notebook_without_runs_is_the_list_of_all(line: Any, notebook: Any, capsys: Any) -> None:
    """It may be the one from which others are run."""
    nbflow.map(notebook(name="other.ipynb"), grid={"n": [1]}, quiet=True)
    line("status")
    assert "other.ipynb" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["run", "resume", "results", "logs", "cancel"])
def test_where_the_notebook_is_not_known_it_is_to_be_named(verb: str, line: Any, monkeypatch: Any) -> None:
    """As in a console; on the command line there is no notebook in any case."""
    monkeypatch.delenv("JPY_SESSION_NAME")
    with pytest.raises(UsageError, match="Missing argument") as caught:
        line(verb)
    assert f"so name it: %nbflow {verb} analysis.ipynb" in str(caught.value)


def test_the_command_line_knows_no_notebook_of_its_own(line: Any, cli: Any) -> None:
    """A terminal that a notebook server opened is no notebook."""
    assert "Missing argument 'TARGET'" in cli("resume", code=2).stderr


def test_help_is_help_without_a_target_too(line: Any, capsys: Any) -> None:
    line("resume --help")
    assert "Usage: %nbflow resume" in capsys.readouterr().out
