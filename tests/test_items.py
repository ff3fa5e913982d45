"""What a notebook is mapped over."""

from __future__ import annotations

import itertools
import json
import math
import tracemalloc
from pathlib import Path

import pytest

from nbflow.errors import ParameterError
from nbflow.loading.items import Items, assignments, build_items, from_command_line
from nbflow.source import Notebook, read_notebook

FORECAST = "city: str\nlat = 0.0\ndepth = 3\nrate = 0.1"


def make(tmp_path: Path, source: str) -> Notebook:
    path = tmp_path / "forecast.ipynb"
    cell = {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": source}
    path.write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4}))
    return read_notebook(path)


@pytest.fixture
def forecast(tmp_path: Path) -> Notebook:
    """A notebook with one parameter that is needed and three that are not."""
    return make(tmp_path, FORECAST)


@pytest.fixture
def csv(tmp_path: Path, monkeypatch):
    """Write cities.csv in the working directory."""
    monkeypatch.chdir(tmp_path)
    return lambda text: (tmp_path / "cities.csv").write_text(text)


def refusal(make_items) -> str:
    with pytest.raises(ParameterError) as caught:
        make_items()
    assert "\n" not in caught.value.message
    return str(caught.value)


def test_a_grid_is_a_product_in_the_order_given(forecast):
    """The last name varies fastest; text is typed by the parameters."""
    items = from_command_line(forecast, grid=["city=Oslo,'New York, NY'", "depth=01,2.5"], parameters=["rate=1"])
    cities, depths = ["Oslo", "New York, NY"], [1, 2.5]
    assert [{"city": c, "depth": d} for c, d in itertools.product(cities, depths)] == items.rows
    assert items.shared == {"rate": 1.0}
    assert items.varying == ("city", "depth")
    assert items.places == ["item 0", "item 1", "item 2", "item 3"]


def test_python_and_the_command_line_give_the_same(forecast, csv):
    """Every way to give items has a keyword of the same meaning."""
    csv("city,lat\nOslo,59.9\nLima,\n")
    typed = from_command_line(forecast, items="cities.csv", grid=["depth=1,2"], zip=["rate=0.5"], parameters=[])
    given = build_items(forecast, items="cities.csv", grid={"depth": [1, 2]}, zip={"rate": [0.5]})
    assert typed == given


def test_items_times_grid_times_zip(forecast, csv):
    """Items outermost; an empty cell is left out, so that the notebook's default is taken."""
    csv("city,lat\nOslo,59.9\nLima,\n")
    items = from_command_line(forecast, items="cities.csv", zip=["depth=1,2", "rate=3,4"])
    expected = [
        {"city": "Oslo", "lat": 59.9, "depth": 1, "rate": 3.0},
        {"city": "Oslo", "lat": 59.9, "depth": 2, "rate": 4.0},
        {"city": "Lima", "depth": 1, "rate": 3.0},
        {"city": "Lima", "depth": 2, "rate": 4.0},
    ]
    assert expected == items.rows
    assert items.places == [
        "cities.csv:2, item 0",
        "cities.csv:2, item 1",
        "cities.csv:3, item 2",
        "cities.csv:3, item 3",
    ]


def test_without_items_there_is_one_run(tmp_path):
    """With the shared parameters, or with none."""
    items = build_items(make(tmp_path, "depth = 3"), parameters={"depth": 4})
    assert Items([{}], {"depth": 4}, (), ["item 0"], []) == items


def test_no_items_are_no_error(forecast, tmp_path):
    """An empty list completes, also where names are not known then."""
    (tmp_path / "none.yml").write_text("[]")
    for given in ({"items": []}, {"items": tmp_path / "none.yml"}, {"grid": {"city": []}}, {"zip": {"city": []}}):
        assert build_items(forecast, **given).rows == []


def test_items_are_called_by_what_differs(forecast):
    """If nothing does, by all."""
    rows = [{"city": "Oslo", "depth": 1}, {"city": "Lima", "depth": 1}]
    assert build_items(forecast, items=rows).varying == ("city",)
    assert build_items(forecast, items=rows[:1]).varying == ("city", "depth")
    assert build_items(forecast, items=[{"city": "a", "lat": 1}, {"city": "a"}]).varying == ("lat",)


def test_a_wrong_value_is_told_as_in_the_picture(forecast, csv):
    """Place, value, type, what an empty cell would do; and how many more there are."""
    csv("city,lat\n" + "Oslo,1\n" * 16 + "Cairo,n/a\n")
    expected = (
        "cities.csv:18: lat is 'n/a', but forecast.ipynb wants a float.\n"
        "  An empty cell would take the notebook's default (0.0)."
    )
    assert expected == refusal(lambda: from_command_line(forecast, items="cities.csv"))
    csv("city,lat,depth\nOslo,1,x\nCairo,n/a,1\nLima,y,z\n")
    told = refusal(lambda: from_command_line(forecast, items="cities.csv"))
    assert told.startswith("cities.csv:2: depth is 'x'")
    assert told.endswith("3 more values do not fit.")


def test_an_empty_cell_without_default_is_refused(forecast, csv):
    """There is nothing to take instead."""
    csv("city,lat\nOslo,1\n,2\n")
    expected = (
        "cities.csv:3: city is missing, and forecast.ipynb has no default for it.\n"
        "  forecast.ipynb says: city: str (cell 1)."
    )
    assert expected == refusal(lambda: from_command_line(forecast, items="cities.csv"))


def test_a_column_that_is_no_parameter_offers_the_others(forecast, csv):
    """And the offer works, in the words of where it was given."""
    csv("city,population,lat\nOslo,700000,59.9\n")
    told = refusal(lambda: from_command_line(forecast, items="cities.csv"))
    assert "cities.csv: forecast.ipynb has no parameter 'population'." in told
    assert "Without it: --columns city,lat" in told
    expected = [{"city": "Oslo", "lat": 59.9}]
    assert expected == from_command_line(forecast, items="cities.csv", columns="city,lat").rows
    assert "columns=['city', 'lat']" in refusal(lambda: build_items(forecast, items="cities.csv"))
    assert expected == build_items(forecast, items="cities.csv", columns=["city", "lat"]).rows


def test_semicolons_go_with_decimal_commas(forecast, csv):
    """As Excel writes them in half of Europe; text keeps its comma."""
    csv("city;lat;depth\nA,B;59,9;1\nLima;-12.5;2,5\n")
    expected = [{"city": "A,B", "lat": 59.9, "depth": 1}, {"city": "Lima", "lat": -12.5, "depth": 2.5}]
    assert expected == from_command_line(forecast, items="cities.csv").rows


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"grid": ["city"]}, "--grid 'city' is not NAME=VALUE"),
        ({"grid": ["=Oslo"]}, "--grid '=Oslo' is not NAME=VALUE"),
        ({"grid": ["city=a", "city=b"]}, "--grid city is given twice: 'a' and 'b'"),
        ({"grid": ["city="]}, "--grid city has no values"),
        ({"grid": ["city=a,,b"]}, "--grid city: 'a,,b' is no list of values"),
        ({"grid": ["city=a"], "zip": ["city=b"]}, "city is given by --grid and by --zip"),
        ({"grid": ["city=a"], "parameters": ["city=b"]}, "city is given by --grid and by -p"),
        ({"zip": ["city=a,b", "depth=1"]}, "not of equal length: city has 2, depth has 1"),
        ({"grid": ["city=a"], "parameters": ["depth=x"]}, "-p: depth is 'x', but forecast.ipynb wants an int"),
        ({"grid": ["city=a", "depth=1,x"]}, "--grid: depth is 'x'"),
        ({"zip": ["city=a,b", "depth=1,x"]}, "--zip, value 2: depth is 'x'"),
        ({"grid": ["city=a", "depht=1"]}, "no parameter 'depht'. Did you mean 'depth'?"),
        ({"columns": "city"}, "--columns is given without --items"),
        ({}, "forecast.ipynb needs city"),
        (
            {"grid": [f"{n}={','.join('1' * 50)}" for n in ("city", "lat", "depth", "rate")]},
            "--grid asks for 6,250,000 runs",
        ),
    ],
)
def test_the_command_line_is_refused_with_value_and_place(forecast, given, says):
    """One line, and a remedy."""
    told = refusal(lambda: from_command_line(forecast, **given))
    assert says in told
    assert "\n" in told


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"grid": {"city": "Oslo"}}, "grid: city is 'Oslo', not a list"),
        ({"grid": {"city": {"a", "b"}}}, "a set, which has no order"),
        ({"grid": ["city"]}, "grid is ['city'], not a mapping"),
        ({"items": {"city": ["Oslo"]}}, "items is a mapping"),
        ({"items": 3}, "items is 3 (int), which is no list"),
        ({"items": [{"city": "a"}, "b"]}, "item 1 is 'b', which is no mapping"),
        ({"items": [{3: "a"}]}, "3 is no name"),
        ({"items": [{"city": "a", "depth": object()}]}, "item 0: depth is object, which no parameter can be"),
        ({"items": [{"city": "a"}, {"city": 5}]}, "item 1: city is 5, but forecast.ipynb wants a str"),
        ({"items": [{"city": "a"}, {"lat": 5}]}, "item 1: city is missing"),
        ({"items": [{"city": "a"}], "columns": ["town"]}, "items has no column 'town'"),
        ({"columns": ["city"]}, "columns is given without items"),
        ({"items": ({"city": "a"} for _ in itertools.count())}, "more than 1,000,000 runs"),
        ({"grid": {"city": itertools.repeat("a")}}, "more than 1,000,000 runs"),
        ({"parameters": ["city"]}, "parameters is ['city'], not a mapping"),
    ],
)
def test_python_values_are_refused_with_value_and_place(forecast, given, says):
    """Nothing without an end is waited for."""
    assert says in refusal(lambda: build_items(forecast, **given))


def test_plain_values_are_for_the_one_parameter(forecast, tmp_path):
    """The one without a default, else the only one; else the error says how to name it."""
    assert build_items(forecast, items=["Oslo", "Lima"]).rows == [{"city": "Oslo"}, {"city": "Lima"}]
    assert build_items(make(tmp_path, "depth = 3"), items=range(2)).rows == [{"depth": 0}, {"depth": 1}]
    told = refusal(lambda: build_items(make(tmp_path, "depth = 3\nrate = 1"), items=[7]))
    assert """items=[{"depth": 7}, ...], or grid={"depth": [7, ...]}""" in told


def test_a_generator_and_any_list_serve(forecast):
    """Tuples, ranges, arrays."""
    import numpy as np

    assert build_items(forecast, items=({"city": c} for c in "a")).rows == [{"city": "a"}]
    items = build_items(forecast, grid={"city": ("a",), "depth": np.array([1, 2]), "rate": range(1)})
    assert [int, int] == [type(row["depth"]) for row in items.rows]


def test_a_frame_means_the_same_as_the_csv_it_came_from(forecast, csv):
    """What pandas calls missing is an empty cell, and its whole floats beside one are integers again."""
    import pandas as pd

    csv("city,lat,depth\nOslo,59.9,1\nLima,,\nCairo,1.5,3\n")
    framed = build_items(forecast, items=pd.read_csv("cities.csv"))
    assert from_command_line(forecast, items="cities.csv").rows == framed.rows
    assert framed.places == ["items, row 0", "items, row 1", "items, row 2"]
    assert [int, int] == [type(row["depth"]) for row in framed.rows if "depth" in row]


def test_frames_with_strange_columns_are_refused(forecast):
    """Names that are no text, or stand twice."""
    import pandas as pd

    assert "called 0, which is no text" in refusal(lambda: build_items(forecast, items=pd.DataFrame([["a"]])))
    twice = pd.DataFrame([["a", "b"]], columns=["city", "city"])
    assert "two columns called 'city'" in refusal(lambda: build_items(forecast, items=twice))


def test_nan_in_a_list_is_a_value(forecast):
    """Only tables have empty cells."""
    assert math.isnan(build_items(forecast, items=[{"city": "a", "lat": float("nan")}]).rows[0]["lat"])


def test_warnings_are_handed_on(tmp_path):
    """Of names that keep an old value."""
    notebook = make(tmp_path, "depth = 3\nn = depth * 2")
    assert len(build_items(notebook, grid={"depth": [1]}).warnings) == 1


def test_a_hundred_thousand_rows_cost_less_than_500_bytes_each(forecast, tmp_path):
    """All of it: values, mappings, places."""
    path = tmp_path / "many.csv"
    path.write_text("city,lat,depth\n" + "".join(f"c{i},{i / 3},{i % 7}\n" for i in range(20_000)))
    tracemalloc.start()
    try:
        items = from_command_line(forecast, items=path)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(items.rows) == 20_000
    assert kept / 20_000 < 500


def test_assignments_keep_what_stands_behind_the_first_sign():
    """Values may have ``=`` in them."""
    assert assignments("-p", ["title=a=b", "x="]) == {"title": "a=b", "x": ""}
