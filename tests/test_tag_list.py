"""Cells and their tags as people see them, in a terminal and as data."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbflow.api.tag_words import tag_data, tag_lines
from nbflow.cli import main
from nbflow.reporters.escape import width


def write(path: Path, *cells: tuple[Any, ...], language: str = "python") -> Path:
    """Write a notebook of code cells, each its source and its tags."""
    made = [
        {"cell_type": "code", "execution_count": None, "metadata": {"tags": tags}, "outputs": [], "source": source}
        for source, tags in cells
    ]
    kernelspec = {"name": language, "display_name": language, "language": language}
    data = {"nbformat": 4, "nbformat_minor": 4, "metadata": {"kernelspec": kernelspec}, "cells": made}
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


@pytest.fixture
def analysis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A notebook with two steps, in the working directory."""
    monkeypatch.chdir(tmp_path)
    return write(
        Path("analysis.ipynb"),
        ("import pandas as pd", []),
        ("# nbflow: step=load\n\n# read it\ncities = pd.read_csv('cities.csv')", ["timeout:30s"]),
        ("\ncities.head()", []),
        ("city = 'Oslo'", ["parameters"]),
        ("def clean(cities):\n\treturn cities.dropna()", ["step:clean", "needs:load"]),
        ("", []),
    )


def typed(words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Give the exit code of a command, and what it printed."""
    with pytest.raises(SystemExit) as end:
        main(words.split())
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


def test_all_code_cells_are_listed_and_steps_stand_apart(analysis, capsys):
    """With what each belongs to, its tags, and its first line of code."""
    expected = """\
  cell  step   tags                     code
     1  setup  -                        import pandas as pd

     2  load   timeout:30s # step:load  cities = pd.read_csv('cities.csv')
     3  load   -                        cities.head()
     4  setup  parameters               city = 'Oslo'

     5  clean  step:clean needs:load    def clean(cities):
     6  clean  -

  behind # stands what the first line of a cell says in place of a tag
"""
    assert (0, expected, "") == typed("tag analysis.ipynb", capsys)


def test_a_notebook_without_steps_is_listed_without_gaps(tmp_path):
    """Its cells belong to nothing, but what is setup for every other one is setup here."""
    path = write(tmp_path / "n.ipynb", ("a = 1", ["parameters"]), ("b = 2", []))
    expected = [
        "  cell  step   tags        code",
        "     1  setup  parameters  a = 1",
        "     2  -      -           b = 2",
    ]
    assert expected == tag_lines(str(path), None, 79)


def test_a_cell_is_shown_with_all_its_tags_and_its_code(analysis, capsys):
    """One tag in a line, as it is typed to remove it."""
    expected = """\
cell 2, begins step load
  timeout:30s
  step:load  (its first line says so)

    # nbflow: step=load

    # read it
    cities = pd.read_csv('cities.csv')
"""
    assert (0, expected, "") == typed("tag analysis.ipynb 2", capsys)


@pytest.mark.parametrize(
    ("cell", "head"),
    [(1, "cell 1, setup"), (3, "cell 3, in step load"), (4, "cell 4, setup"), (5, "cell 5, begins step clean")],
)
def test_the_head_of_a_cell_says_where_it_belongs(analysis, cell, head):
    """Setup is no step that somebody wrote."""
    assert head == tag_lines("analysis.ipynb", cell, 79)[0]


def test_a_cell_without_tags_and_code_says_so(tmp_path):
    """There is nothing below."""
    assert tag_lines(str(write(tmp_path / "n.ipynb", ("", []))), 1, 79) == ["cell 1", "  no tags"]


def test_of_a_long_cell_the_beginning_is_shown(tmp_path):
    """How many lines more there are is said; one alone is shown, as it takes no more room."""
    for count, last in ((21, "    line 21"), (22, "    ... 2 more lines"), (1020, "    ... 1,000 more lines")):
        source = "\n".join(f"line {number}" for number in range(1, count + 1))
        lines = tag_lines(str(write(tmp_path / "n.ipynb", (source, []))), 1, 79)
        assert 24 == len(lines)
        assert last == lines[-1]


def test_the_data_say_the_same(analysis, capsys):
    """One object with all cells, or one with a cell and its whole source."""
    code, out, _ = typed("tag analysis.ipynb --json", capsys)
    found = json.loads(out)
    assert (0, "analysis.ipynb", None, 6) == (code, found["notebook"], found["mistake"], len(found["cells"]))
    second = {
        "cell": 2,
        "step": "load",
        "begins": True,
        "tags": ["timeout:30s"],
        "comment": ["step:load"],
        "code": "cities = pd.read_csv('cities.csv')",
    }
    assert second == found["cells"][1]
    assert [("setup", False), ("load", True), ("load", False), ("setup", False), ("clean", True), ("clean", False)] == [
        (one["step"], one["begins"]) for one in found["cells"]
    ]
    source = "# nbflow: step=load\n\n# read it\ncities = pd.read_csv('cities.csv')"
    assert {**second, "source": source} == json.loads(typed("tag analysis.ipynb 2 --json", capsys)[1])


def test_tags_are_given_and_taken_by_the_command(analysis, capsys):
    """Several at once; with --json the cell as it stands then is printed."""
    told = "analysis.ipynb: cell 5 is tagged retry:2, timeout:5m now.\n"
    assert (0, told, "") == typed("tag analysis.ipynb 5 retry:2 timeout:5m", capsys)
    told = "analysis.ipynb: cell 5 is not tagged retry:2, needs:load any more.\n"
    assert (0, told, "") == typed("tag analysis.ipynb 5 --remove retry:2 needs:load", capsys)
    found = json.loads(typed("tag analysis.ipynb 5 retry:3 --json", capsys)[1])
    assert ["step:clean", "timeout:5m", "retry:3"] == found["tags"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("3 step:clean", "cell 5 is tagged step:clean already"),
        ("3 needs:load max:x", "'x' is no whole number from 1"),
        ("--remove", "--remove needs a cell and the tags to take away"),
        ("3 --remove", "--remove needs a cell and the tags to take away"),
        ("9", "analysis.ipynb has no cell 9: it has 6 code cells"),
    ],
)
def test_what_is_refused_is_told_in_one_line_with_a_remedy(analysis, capsys, words, says):
    """And exit code 2."""
    code, out, err = typed(f"tag analysis.ipynb {words}", capsys)
    assert (2, "") == (code, out)
    assert says in err.splitlines()[0]
    assert err.splitlines()[1].startswith("  ")


@pytest.mark.parametrize(
    ("cells", "mistake"),
    [
        ([("# nbflow: stpe=load\na = 1", []), ("b = 2", ["step:b"])], "Did you mean 'step'?"),
        ([("a = 1", ["timeout:soon"]), ("b = 2", ["step:b"])], "the tag 'timeout:soon' of cell 1"),
        ([("a = 1", ["timeout:1s", "timeout:2s"]), ("b = 2", ["step:b"])], "two time-outs"),
        ([("a = 1", "results"), ("b = 2", ["step:b"])], "and not a list of texts"),
        ([("a = 1", None), ("b = 2", ["step:b"])], "and not a list of texts"),
        ([("a = 1", ["results", 3]), ("b = 2", ["step:b"])], "and not a list of texts"),
    ],
)
def test_a_notebook_with_mistakes_is_listed_and_the_mistake_told_below(tmp_path, cells, mistake):
    """It cannot be run, and this is where people look for why."""
    path = str(write(tmp_path / "n.ipynb", *cells))
    lines = tag_lines(path, None, 200)
    assert any(line.split() == ["2", "b", "step:b", "b", "=", "2"] for line in lines)
    told = next(line for line in lines if line.startswith("mistake: "))
    assert mistake in told
    assert lines[-1].startswith("  ")
    assert mistake in tag_data(path)["mistake"]["message"]
    assert tag_lines(path, 1, 79)[0] == "cell 1, setup"


def test_tags_that_are_no_list_are_not_shown_as_none(tmp_path):
    """A cell without tags has a dash."""
    path = write(tmp_path / "n.ipynb", ("a = 1", "results"), ("b = 2", []))
    assert ["?", "-"] == [line.split()[2] for line in tag_lines(str(path), None, 79)[1:3]]


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("// a comment\nconst a = 1", "const a = 1"),
        ("-- a comment\nSELECT 1", "SELECT 1"),
        ("# a comment\nx <- 1", "x <- 1"),
        ("# only a comment", "# only a comment"),
        ("#include <iostream>", "#include <iostream>"),
    ],
)
def test_other_languages_are_listed_with_their_code(tmp_path, source, shown):
    """Comments of theirs are no code; what looks like one and stands alone is shown."""
    path = write(tmp_path / "n.ipynb", (source, []), language="other")
    assert f"     1  -     -     {shown}" == tag_lines(str(path), None, 79)[1]


def test_no_code_cells_are_no_mistake(tmp_path):
    """There is nothing to list."""
    path = str(write(tmp_path / "n.ipynb"))
    assert tag_lines(path, None, 79) == ["no code cells"]
    assert tag_data(path)["cells"] == []


def test_at_most_three_fifths_of_the_room_are_for_tags_where_code_needs_the_rest(tmp_path):
    """Short code leaves them more."""
    tags = ["step:a", "each:cities", "as:city", "max:4", "timeout:30m", "retry:2", "needs:load"]
    long = tag_lines(str(write(tmp_path / "n.ipynb", ("call()" * 30, tags))), None, 79)[1]
    short = tag_lines(str(write(tmp_path / "n.ipynb", ("call()", tags))), None, 79)[1]
    assert long.endswith("…")
    assert "timeout" not in long
    assert "timeout:30m" in short
    assert short.endswith("call()")


@settings(max_examples=50, deadline=None)
@given(
    cells=st.lists(st.tuples(st.text(max_size=60), st.lists(st.text(max_size=30), max_size=3)), max_size=4),
    columns=st.integers(50, 120),
)
def test_whatever_stands_in_a_notebook_its_list_fits_the_terminal(tmp_path_factory, cells, columns):
    """In one line each, with nothing that moves the cursor or colours."""
    path = write(tmp_path_factory.mktemp("list") / "n.ipynb", *cells)
    lines = tag_lines(str(path), None, columns)
    mistake = next((at for at, line in enumerate(lines) if line.startswith("mistake: ")), len(lines))
    assert all(width(line) <= columns for line in lines[:mistake])
    shown = [*lines, *(line for at in range(len(cells)) for line in tag_lines(str(path), at + 1, columns))]
    assert not {unicodedata.category(char) for line in shown for char in line} & {"Cc", "Cs", "Zl", "Zp"}
