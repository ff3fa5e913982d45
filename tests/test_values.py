"""Values: exact or refused by name."""

from __future__ import annotations

import datetime as dt
import decimal
import fractions
import json
import math
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbflow.values import File, NotAValueError, argument, canonical, digest, dumps, loads, result

zones = st.one_of(st.none(), st.builds(dt.timezone, st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23))))
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**80), 2**80),
    st.floats(allow_nan=True),
    text,
    st.just("$nbflow"),
    st.dates(),
    st.datetimes(timezones=zones),
    st.builds(lambda moment, fold: moment.replace(fold=fold), st.datetimes(), st.integers(0, 1)),
    st.times(),
    st.timedeltas(),
    st.builds(File, text, st.integers(0, 2**60), text, st.sampled_from(["parquet", "npy", "file"])),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(text, st.sampled_from(["$nbflow", "items"])), inner, max_size=4),
    ),
    max_leaves=12,
)
often = settings(max_examples=500, deadline=None, derandomize=True, database=None)


def exactly(value: Any) -> Any:
    """Give something that is equal only for the same type and the same bits."""
    if isinstance(value, float):
        return "float", "nan" if math.isnan(value) else value.hex()
    if isinstance(value, dict):
        return "mapping", [(key, exactly(inner)) for key, inner in value.items()]
    if isinstance(value, list):
        return "list", [exactly(inner) for inner in value]
    if isinstance(value, File):
        return "file", value.path, value.size, value.sha256, value.format
    if isinstance(value, dt.datetime):
        return "datetime", value.isoformat(), value.fold, value.utcoffset()
    return type(value).__name__, value


@often
@given(values)
def test_every_value_comes_back_exactly(value: Any) -> None:
    """From one line of standard JSON in ASCII."""
    line = dumps(value)
    assert exactly(value) == exactly(loads(line))
    assert line.isascii()
    assert "\n" not in line
    json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


@often
@given(values)
def test_results_of_values_are_the_values(value: Any) -> None:
    """What is a value stays as it is."""
    assert exactly(value) == exactly(result(value))


@often
@given(st.dictionaries(text, leaves, max_size=6))
def test_equal_mappings_have_equal_digests_whatever_their_order(value: dict[str, Any]) -> None:
    """Keys are sorted; the text can be read again."""
    backwards = dict(reversed(value.items()))
    assert canonical(value) == canonical(backwards)
    assert digest(value) == digest(backwards)
    assert exactly(dict(sorted(value.items()))) == exactly(dict(sorted(loads(canonical(value)).items())))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (0.0, -0.0),
        (True, 1),
        ("1", 1),
        (None, "None"),
        ([], {}),
        (2**53, 2**53 + 1),
        (1, [1]),
        ("nan", math.nan),
    ],
)
def test_different_values_have_different_digests(one: Any, other: Any) -> None:
    """Also those that Python calls equal."""
    assert digest(one) != digest(other)


def test_nan_is_equal_to_nan_for_digests() -> None:
    """A NaN parameter is found again by a resume."""
    assert digest([math.nan]) == digest([float("nan")])


NUMPY = sorted(set(np.sctypeDict.values()), key=lambda kind: (kind.__name__, np.dtype(kind).char))


def test_every_scalar_type_of_numpy_becomes_pythons_own() -> None:
    """Or is refused by its name; none slips through as numpy's."""
    seen = 0
    for kind in NUMPY:
        seen += 1
        sample = _sample(kind)
        if kind in (np.complex64, np.complex128, np.clongdouble, np.void):
            for convert in (argument, result):
                with pytest.raises(NotAValueError, match=r"complex|clongdouble|bytes"):
                    convert({"x": sample})
            continue
        if kind in (np.bytes_, np.object_):
            continue  # tested below: they hold something else
        for convert in (argument, result):
            (got,) = convert([sample])
            assert type(got).__module__ in ("builtins", "datetime"), kind
            assert _python(kind) is type(got) or convert is argument, kind
    assert seen >= 20


def _sample(kind: Any) -> Any:
    if kind is np.datetime64:
        return np.datetime64("2026-11-23T03:01:00.123456")
    if kind is np.timedelta64:
        return np.timedelta64(1500, "ms")
    if kind is np.void:
        return np.void(b"abc")
    if kind is np.object_:
        return None
    return kind("1" if kind is np.str_ else b"1" if kind is np.bytes_ else 1)


def _python(kind: Any) -> type:
    if issubclass(kind, np.timedelta64):
        return dt.timedelta
    if issubclass(kind, np.bool_):
        return bool
    if issubclass(kind, np.integer):
        return int
    if issubclass(kind, np.floating):
        return float
    if issubclass(kind, np.datetime64):
        return dt.datetime
    return str


@pytest.mark.parametrize(
    ("given_", "as_argument", "as_result"),
    [
        (np.int8(-5), -5, -5),
        (np.uint64(2**64 - 1), 2**64 - 1, 2**64 - 1),
        (np.float32(0.1), 0.10000000149011612, 0.10000000149011612),
        (np.float16(0.5), 0.5, 0.5),
        (np.longdouble(0.5), 0.5, 0.5),
        (np.float64("inf"), math.inf, math.inf),
        (np.bool_(True), True, True),
        (np.str_("Oslo"), "Oslo", "Oslo"),
        (np.datetime64("2026-11-23"), "2026-11-23", dt.date(2026, 11, 23)),
        (np.datetime64("2026-11-23T03:01", "ns"), "2026-11-23T03:01:00", dt.datetime(2026, 11, 23, 3, 1)),
        (np.datetime64("NaT"), None, None),
        (np.timedelta64(90, "s"), "P0DT90S", dt.timedelta(seconds=90)),
        (np.timedelta64("NaT"), None, None),
        (pd.Timestamp("2026-11-23 03:01"), "2026-11-23T03:01:00", dt.datetime(2026, 11, 23, 3, 1)),
        (pd.NaT, None, None),
        (pd.NA, None, None),
        (pd.Timedelta("1D"), "P1DT0S", dt.timedelta(days=1)),
        (pd.Categorical(["a"])[0], "a", "a"),
        (pd.Series([1, 2])[0], 1, 1),
        (pd.array([1, None], dtype="Int64")[1], None, None),
        ((1, (2, 3)), [1, [2, 3]], [1, [2, 3]]),
        (PurePosixPath("data/a.csv"), "data/a.csv", "data/a.csv"),
        (dt.date(2026, 1, 2), "2026-01-02", dt.date(2026, 1, 2)),
        (dt.timedelta(days=-1, seconds=3), "-P0DT86397S", dt.timedelta(days=-1, seconds=3)),
        (File("a.parquet", 3, "ab"), "a.parquet", File("a.parquet", 3, "ab")),
    ],
    ids=repr,
)
def test_what_arrives_of_a_scalar(given_: Any, as_argument: Any, as_result: Any) -> None:
    """As a parameter, and as a result."""
    assert exactly(as_argument) == exactly(argument(given_))
    assert exactly(as_result) == exactly(result(given_))


def test_a_time_zone_of_pandas_is_kept() -> None:
    """The moment and its offset are the same."""
    moment = pd.Timestamp("2026-11-23 03:01", tz="Europe/Oslo")
    kept = loads(dumps(result(moment)))
    assert (dt.timedelta(hours=1), moment.to_pydatetime()) == (kept.utcoffset(), kept)
    assert "2026-11-23T03:01:00+01:00" == argument(moment)


@pytest.mark.parametrize(
    "value",
    [
        pd.Timestamp("2026-11-23 03:01:00.000000001"),
        pd.Timedelta(1, "ns"),
        np.datetime64("2026-11-23T03:01:00.000000001"),
        np.timedelta64(1, "Y"),
        pd.Period("2026-11", "M"),
        pd.Interval(0, 1),
        pd.DateOffset(days=1),
        np.complex128(1j),
        np.void(b"x"),
        np.bytes_(b"x"),
        np.longdouble(1) / np.longdouble(3),
        b"x",
        1j,
        {1, 2},
        {1: "a"},
        object(),
        len,
        math,
        decimal.Decimal("0.1"),
        fractions.Fraction(1, 3),
        np.array([1]),
        pd.DataFrame({"a": [1]}),
        "half \ud800",
        10**5000,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_kept_exactly_is_refused_by_name(value: Any) -> None:
    """With the place where it stands."""
    if type(value) is np.longdouble and np.finfo(np.longdouble).nmant == np.finfo(float).nmant:
        pytest.skip("a long double is a float here")
    for convert in (argument, result):
        with pytest.raises(NotAValueError) as refused:
            convert({"rows": [0, value]})
        assert refused.value.what
        assert "['rows'][1]" in str(refused.value)


def test_a_value_that_holds_itself_is_refused() -> None:
    """Instead of running for ever."""
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(NotAValueError, match="nested more than"):
        argument(endless)


@pytest.mark.parametrize(
    "text_",
    [
        '{"$nbflow":"unknown"}',
        '{"$nbflow":"integer"}',
        '{"$nbflow":5}',
        '{"$nbflow":"date","text":3}',
        '{"$nbflow":[1]}',
    ],
)
def test_a_tag_that_cannot_be_read_is_an_error(text_: str) -> None:
    """Never a mapping that looks like one."""
    with pytest.raises(ValueError, match=r"cannot be read|unhashable"):
        loads(text_)


def test_a_path_is_its_text() -> None:
    """Of the running system's kind."""
    assert str(Path("a") / "b") == argument(Path("a") / "b")
