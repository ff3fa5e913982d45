"""The public names of nbflow: this list is the promise, and a change of it is a line in CHANGELOG.md."""

from __future__ import annotations

import inspect

import pytest

import nbflow

PUBLIC = [
    "Call",
    "Cells",
    "Defaults",
    "DoWhile",
    "FanIn",
    "FanOut",
    "File",
    "Gate",
    "GateOption",
    "If",
    "Input",
    "Item",
    "MapRun",
    "NbflowError",
    "Node",
    "Notebook",
    "Planned",
    "PlannedNode",
    "RefusedError",
    "Requires",
    "Retry",
    "Run",
    "RunFailedError",
    "Shell",
    "SubWorkflow",
    "Switch",
    "While",
    "Workflow",
    "WorkflowRun",
    "answer",
    "attach",
    "cancel",
    "clean",
    "load",
    "logs",
    "map",
    "restore",
    "results",
    "resume",
    "run",
    "start",
    "status",
]


def test_the_public_names_are_these():
    """No name comes or goes unnoticed."""
    assert sorted(nbflow.__all__) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_says_what_it_gives(name):
    """Each can be had from the package, and its docstring begins with a sentence."""
    title = (inspect.getdoc(getattr(nbflow, name)) or "").partition("\n")[0]
    assert title.endswith("."), title


def test_dir_shows_the_public_names():
    """Completion in an editor offers them before they are loaded."""
    assert set(PUBLIC) <= set(dir(nbflow))


def test_an_unknown_name_is_an_attribute_error():
    """A typo says which name is missing."""
    with pytest.raises(AttributeError, match="no attribute 'mapp'"):
        nbflow.mapp  # noqa: B018 - the access is what is tested
