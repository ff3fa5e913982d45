"""What is given fits the parameters of the notebook, or is refused by name."""

from __future__ import annotations

import datetime as dt
import json
import math
import shlex
from pathlib import Path

import pytest

from nbflow.errors import ParameterError
from nbflow.loading.parameters import check, shared_values, typed
from nbflow.loading.scalars import Quoted
from nbflow.loading.tagging import add_tag
from nbflow.source import Notebook, read_notebook


@pytest.fixture
def notebook(tmp_path: Path):
    """Write a notebook of these cells; the first is tagged parameters unless told otherwise."""

    def write(*sources: str, tagged: bool = True, language: str = "python") -> Notebook:
        cells = [
            {"cell_type": "code", "metadata": {"tags": ["parameters"]} if tagged and not i else {}, "source": source}
            for i, source in enumerate(sources)
        ]
        data = {"cells": cells, "metadata": {"kernelspec": {"name": "k", "language": language}}, "nbformat": 4}
        path = tmp_path / "forecast.ipynb"
        path.write_text(json.dumps(data))
        return read_notebook(path)

    return write


def fit(notebook, declaration: str, value, *, text: bool):
    [parameter] = notebook(declaration).parameters
    return typed(value, parameter, text=text)


@pytest.mark.parametrize(
    ("declaration", "text", "expected"),
    [
        ("x = 'Oslo'", "NO", "NO"),
        ("x = 'Oslo'", "5", "5"),
        ("x = 'Oslo'", " a ", " a "),
        ("x: str", "null", "null"),
        ("x: str", "", ""),
        ("x = 3", "4", 4),
        ("x = 3", "2.5", 2.5),
        ("x = 3", "07", 7),
        ("x: int", "1e3", 1000),
        ("x: int", "0x1F", 31),
        ("x = 0.1", "1", 1.0),
        ("x = 0.1", " 1e-3 ", 0.001),
        ("x: float", "inf", math.inf),
        ("x: float", "-.inf", -math.inf),
        ("x = True", "false", False),
        ("x = [1]", "[64, a]", [64, "a"]),
        ("x: list[float]", "[1, 2.5]", [1.0, 2.5]),
        ("x = {}", "{a: 0150}", {"a": "0150"}),
        ("x: Optional[int] = None", "null", None),
        ("x: Optional[int] = None", "7", 7),
        ("x: Optional[str] = None", "null", None),
        ("x: Optional[str] = None", "~", "~"),
        ("x: int | str", "7", 7),
        ("x: int | str", "7a", "7a"),
        ("x: int | str", Quoted("7"), "7"),
        ("x: Literal['a', 1]", "1", 1),
        ("x: Literal['a', '1']", "1", "1"),
        ("x = None", "NO", "NO"),
        ("x = None", "1e-3", 0.001),
        ("x = None", Quoted("5"), "5"),
        ("x = f()", "[1]", [1]),
        ("x: Path", "data/a.csv", "data/a.csv"),
    ],
)
def test_text_becomes_a_value_by_the_parameters_own_type(notebook, declaration, text, expected):
    """Annotation, else the default's type, else the text's own form; with the exact type."""
    got = fit(notebook, declaration, text, text=True)
    assert (type(expected), expected) == (type(got), got)


@pytest.mark.parametrize(
    ("declaration", "text", "wants"),
    [
        ("x = 3", "n/a", "an int"),
        ("x = 3", "true", "an int"),
        ("x = 3", "null", "an int"),
        ("x = 3", "", "an int"),
        ("x: int", "2.5", "an int"),
        ("x: int", "9" * 5000, "an int"),
        ("x = 0.1", "n/a", "a float"),
        ("x = 0.1", "1e999", "a float"),
        ("x = 0.1", "1,5", "a float"),
        ("x = True", "yes", "a bool"),
        ("x = True", "1", "a bool"),
        ("x = [1]", "64", "a list"),
        ("x: list[int]", "[a]", "a list of int"),
        ("x: Literal['a', 'b']", "c", "one of 'a', 'b'"),
    ],
)
def test_text_that_does_not_fit_is_refused(notebook, declaration, text, wants):
    """With the value and what is wanted."""
    with pytest.raises(ParameterError) as caught:
        fit(notebook, declaration, text, text=True)
    assert caught.value.message.startswith("x is '")
    assert f"wants {wants}" in caught.value.message
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    ("declaration", "value", "expected"),
    [
        ("x = 3", 2.5, 2.5),
        ("x = 3", 2.0, 2.0),
        ("x = 3", None, None),
        ("x = 0.1", 1, 1.0),
        ("x = 0.1", 2**60 + 1, 2**60 + 1),
        ("x: float", 1, 1.0),
        ("x: int", 3.0, 3),
        ("x: Optional[int] = 3", None, None),
        ("x = (1, 2)", (3, 4), [3, 4]),
        ("x = None", {"a": (1,)}, {"a": [1]}),
        ("x: str", Path("a") / "b", "a/b"),
        ("x = ''", dt.date(2026, 11, 23), "2026-11-23"),
        ("x: list[float]", [1, 2], [1.0, 2.0]),
    ],
)
def test_python_values_fit_leniently_or_strictly(notebook, declaration, value, expected):
    """Bare defaults interchange int and float and take None; annotations take whole floats only."""
    got = fit(notebook, declaration, value, text=False)
    assert (type(expected), expected) == (type(got), got)


@pytest.mark.parametrize(
    ("declaration", "value"),
    [
        ("x = 3", "4"),
        ("x = 3", True),
        ("x = True", 1),
        ("x = ''", 5),
        ("x: int", 2.5),
        ("x: int", None),
        ("x: int", True),
        ("x: float", 2**60 + 1),
        ("x: float", 10**400),
        ("x: list[int]", ["a"]),
        ("x: dict[str, int]", {"a": 2.5}),
        ("x: Literal[1]", True),
        ("x: str", None),
        ("x = []", "ab"),
    ],
)
def test_python_values_that_do_not_fit_are_refused(notebook, declaration, value):
    """A boolean is no number, text no list, and a number that would change is no float."""
    with pytest.raises(ParameterError, match="wants"):
        fit(notebook, declaration, value, text=False)


def test_scalars_of_numpy_become_pythons(notebook):
    """Papermill would inject ``np.int64(5)`` as the text ``"5"``."""
    import numpy as np

    got = fit(notebook, "x: int", np.int64(5), text=False)
    assert (int, 5) == (type(got), got)


def test_what_can_be_no_parameter_is_refused_by_name(notebook):
    """With the place inside of the value."""
    with pytest.raises(ParameterError, match=r"x is object at \['a'\]\[1\], which no parameter can be"):
        fit(notebook, "x = None", {"a": [1, object()]}, text=False)


def test_an_unknown_name_is_refused_as_in_the_picture(notebook):
    """With the near name and all that there are."""
    forecast = notebook("city: str\ndepth = 3\nrate = 0.1")
    with pytest.raises(ParameterError) as caught:
        check(forecast, ["city", "depht"])
    expected = (
        "forecast.ipynb has no parameter 'depht'. Did you mean 'depth'?\n"
        "  It has: city: str, depth: int = 3, rate: float = 0.1 (cell 1)."
    )
    assert expected == str(caught.value)


def test_a_parameter_without_default_must_be_given(notebook):
    """All that miss are named."""
    forecast = notebook("city: str\nyear: int\ndepth = 3")
    with pytest.raises(ParameterError, match="needs city, year"):
        check(forecast, ["depth"])
    assert check(forecast, ["city", "year"]) == []


def test_without_a_parameters_cell_the_likeliest_is_named_and_its_command_works(notebook):
    """First the one that assigns the names, then one of literals, then cell 1."""
    plain = notebook("import os", "depth = 3", "city = 'Oslo'\nk = 2", "print(city)", tagged=False)
    assert check(plain, []) == []
    for names, cell in ((["city"], 3), (["depth"], 2), (["other"], 2)):
        with pytest.raises(ParameterError, match="no cell tagged parameters") as caught:
            check(plain, names)
        assert f"The likeliest is cell {cell}." in caught.value.remedy
    with pytest.raises(ParameterError) as caught:
        check(plain, ["city"])
    program, verb, path, number, tag = shlex.split(caught.value.remedy.splitlines()[-1])
    assert (program, verb) == ("nbflow", "tag")
    add_tag(Path(path), int(number), tag)
    assert check(read_notebook(Path(path)), ["city"]) == []


def test_a_name_computed_from_an_overridden_one_is_warned_about(notebook):
    """It keeps the old value; overridden itself it is fine."""
    forecast = notebook("depth = 3\nn = depth * 2\nm = n + 1")
    assert [w.split(" in cell")[0] for w in check(forecast, ["depth"])] == ["n = depth * 2", "m = n + 1"]
    assert [w.split(" in cell")[0] for w in check(forecast, ["depth", "n"])] == ["m = n + 1"]
    assert check(forecast, []) == []


def test_parameters_of_other_languages_are_not_checked(notebook):
    """Nothing is known about them."""
    assert check(notebook("x <- 3", tagged=False, language="R"), ["anything"]) == []
    assert shared_values(notebook("x <- 3", language="R"), {"x": "1"}, text=True) == {"x": 1}


def test_a_shared_value_that_does_not_fit_names_the_default(notebook):
    """The place is where it was given."""
    with pytest.raises(ParameterError) as caught:
        shared_values(notebook("depth = 3"), {"depth": "x"}, text=True, place="-p")
    expected = "-p: depth is 'x', but forecast.ipynb wants an int.\n  Without it the notebook's default is taken (3)."
    assert expected == str(caught.value)
