"""Expressions: Jinja's grammar and filters, by key, strict about types, and with errors that help."""

from __future__ import annotations

import copy
import datetime as dt
import doctest
import importlib
import math
import pickle
import pkgutil
from collections.abc import Iterator, Mapping, Sequence

import pytest
from jinja2 import Undefined

import nbflow.expressions
from nbflow.errors import NbflowError
from nbflow.expressions import (
    FILTERS,
    TESTS,
    Collection,
    Condition,
    Expression,
    ExpressionError,
    Reference,
    Template,
    bind,
    condition,
    template,
    text_of,
)
from nbflow.expressions.filters import ENVIRONMENT
from nbflow.model import Literal
from nbflow.values import File

DAY = dt.date(2026, 11, 23)
NOON = dt.datetime(2026, 11, 23, 12, tzinfo=dt.timezone.utc)
FILE = File("/runs/1/scores.parquet", 10, "ab")

NAMES = {
    "item": {"city": "Oslo", "n": 3, "days": [1, 2], "deep": {"x": [[1, 2], [3, 4]]}, "items": 7, "a-b": 1},
    "index": 4,
    "inputs": {"a": 5, "b": 7, "none": None, "yes": True, "text": "x", "empty": "", "day": DAY, "noon": NOON},
    "people": [{"n": "ann", "age": 3, "at": {"x": 1}}, {"n": "Bob", "age": 2, "at": {"x": 2}}, {"n": "eve"}],
    "steps": {"load": {"output": {"cities": ["Oslo", "Lima"], "scores": {"Oslo": 0.5}, "file": FILE}}},
}


class View(Mapping[str, object]):
    """A mapping that reads its values when they are asked for, as results of steps do."""

    def __init__(self, values: dict[str, object]) -> None:
        self.values_ = values
        self.read: list[str] = []

    def __getitem__(self, key: str) -> object:
        value = self.values_[key]
        self.read.append(key)
        return value

    def __contains__(self, key: object) -> bool:
        return key in self.values_

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_)

    def __len__(self) -> int:
        return len(self.values_)


class Row(Sequence[object]):
    """A list that is no ``list``."""

    def __init__(self, *items: object) -> None:
        self.items = items
        self.read = 0

    def __getitem__(self, index):
        self.read += 1
        return Row(*self.items[index]) if isinstance(index, slice) else self.items[index]

    def __len__(self) -> int:
        return len(self.items)


def value(text: str, names=NAMES):
    """Give the value of an expression that stands alone."""
    return template(f"{{{{ {text} }}}}").resolve(names)


def refusal(text: str, names=NAMES) -> str:
    """Give the error of an expression, message and remedy."""
    with pytest.raises(ExpressionError) as caught:
        value(text, names)
    assert "\n" not in caught.value.message
    return str(caught.value)


def definition_error(text: str) -> str:
    """Give the error of a text that cannot even be read."""
    with pytest.raises(ExpressionError) as caught:
        template(text)
    return str(caught.value)


# Text and blocks


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ item.n }}", 3),
        ("{{item.n}}", 3),
        ("{{ item.days }}", [1, 2]),
        ("{{ inputs.none }}", None),
        ("{{ inputs.yes }}", True),
        ("{{ inputs.day }}", DAY),
        ("{{ steps.load.output.file }}", FILE),
        ("{{\n\titem.n\n}}", 3),
    ],
)
def test_a_block_alone_keeps_its_type(text, expected):
    """Also with tabs and newlines inside of it."""
    found = template(text).resolve(NAMES)
    assert (type(expected), expected) == (type(found), found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" {{ item.n }}", " 3"),
        ("{{ item.n }}\n", "3\n"),
        ("{{ item.city }} {{ item.n }}", "Oslo 3"),
        ("{{ item.city }}{{ item.n }}", "Oslo3"),
        ("a\r\n{{ item.n }}\r\n\n", "a\r\n3\r\n\n"),
        ("{{ inputs.yes }} {{ item.days }} {{ {'a': none} }}", 'true [1, 2] {"a": null}'),
        ("{{ 0.5 }} {{ 1e300 }} {{ 'inf' | float }} {{ 'nan' | float }}", "0.5 1e+300 inf nan"),
        ("{{ inputs.day }} {{ inputs.noon }}", "2026-11-23 2026-11-23T12:00:00+00:00"),
        ("{{ [inputs.day] }}{{ [steps.load.output.file] }}", '["2026-11-23"]["/runs/1/scores.parquet"]'),
        ("{{ steps.load.output.file }}!", "/runs/1/scores.parquet!"),
        ("é{{ ['é'] }}", 'é["é"]'),
        ("{# no comment #} {{ item.n }}", "{# no comment #} 3"),
        ("}} {{ item.n }} } { %}", "}} 3 } { %}"),
        ("{{ '{{' }} {{ '}}' }} {{ '{% x %}' }}", "{{ }} {% x %}"),
        ("{{ \"it's }}\" }}{{ 'a\\'}}' }}", "it's }}a'}}"),
        ("{{ {'a': {'b': 1}}.a.b}}!", "1!"),
        ("{{ {'a': {'b': 1}}}}!", '{"a": {"b": 1}}!'),
    ],
)
def test_blocks_in_text_become_text(text, expected):
    """Whatever stands around a block is kept exactly."""
    assert expected == template(text).resolve(NAMES)


@pytest.mark.parametrize("text", ["", "plain", "}}", "{ {x} }", "100 %", "{# #}", "a\n"])
def test_text_without_blocks_is_a_literal(text):
    """Nothing is done to it."""
    assert Literal(text) == template(text)


def test_none_in_text_is_an_error_that_names_the_block():
    """A file called ``None.csv`` is never what was meant."""
    with pytest.raises(ExpressionError, match=r"in `inputs.none`: none is no text") as caught:
        template("{{ inputs.none }}.csv").resolve(NAMES)
    assert "default" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{% if x %}a{% endif %}", "statements"),
        ("{{ item.n }} {% if x %}", "statements"),
        ("{{ item.n }} {%", "statements"),
        ("{{ item.n", "no end"),
        ("{{ item.n }} {{ 'a }}'", "no end"),
        ("{{ item.n }", "no end"),
        ("{{ (item.n }}", "no end"),
        ("{{- item.n }}", "{{- and -}}"),
        ("{{-1}}", "{{- and -}}"),
        ("{{ item.n -}}", "{{- and -}}"),
        ("{{ }}", "there is no expression"),
        ("{{}}", "there is no expression"),
    ],
)
def test_what_is_no_block_is_refused(text, expected):
    """With a word about what is wrong, when the text is read."""
    assert expected in definition_error(text)


@pytest.mark.parametrize(
    ("expected", "given"),
    [
        ("x", "x"),
        ("true", True),
        ("5", 5),
        ("0.1", 0.1),
        ("nan", math.nan),
        ("-inf", -math.inf),
        ("[1, [true, null]]", [1, [True, None]]),
        ('{"a": "é"}', {"a": "é"}),
        ("2026-11-23", DAY),
        ("P1DT3S", dt.timedelta(days=1, seconds=3)),
        ("/runs/1/scores.parquet", File("/runs/1/scores.parquet", 10, "ab")),
        ('{"a": [1]}', View({"a": Row(1)})),
    ],
)
def test_the_text_form_of_values(expected, given):
    """JSON for what has no text of its own, ISO 8601 for dates."""
    assert expected == text_of(given)


# References


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("item.city", "Oslo"),
        ("item['city']", "Oslo"),
        ("item.items", 7),
        ("item['a-b']", 1),
        ("item.deep.x[1][0]", 3),
        ("item.deep.x.1.0", 3),
        ("item.deep.x[-1]", [3, 4]),
        ("item.days[1:]", [2]),
        ("item.days[::-1]", [2, 1]),
        ("item.city[1:3]", "sl"),
        ("item.city[0]", "O"),
        ("steps.load.output.scores[item.city]", 0.5),
        ("people[0].at.x", 1),
    ],
)
def test_dots_and_brackets_are_keys_and_indexes(text, expected):
    """Never attributes: ``items`` is a key like any other."""
    assert expected == value(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nope", "nope is not there."),
        ("inputz.a", "inputz is not there. Did you mean 'inputs'?"),
        ("steps.load.output.cites", "steps.load.output.cites is not there. Did you mean 'cities'?"),
        ("steps.lod.output.x.y", "steps.lod is not there. Did you mean 'load'?"),
        ("steps['load-data'].x", "steps['load-data'] is not there."),
        ("item.days[7]", "item.days[7] is not there: item.days has 2 items."),
        ("item.city[7]", "item.city[7] is not there: item.city has 4 characters."),
        ("item.n.x", "item.n.x is not there: item.n is 3 (a number)."),
        ("inputs.none.x", "inputs.none.x is not there: inputs.none is none."),
        ("item.city.upper", "item.city.upper is not there: item.city is 'Oslo' (text)."),
        ("item.days.append", "item.days.append is not there: item.days is a list of 2."),
        ("item.days[true]", "item.days[True] is not there"),
        ("item[index]", "item[4] is not there"),
        ("(item).x", "item.x is not there"),
        ("(people | first).x", "(...).x is not there"),
        ("people | map(attribute='age')", "(an item).age is not there"),
        ("people | map(attribute='age') == [3, 2, 1]", "(an item).age is not there"),
        ("people | map(attribute='age') | tojson", "(an item).age is not there"),
        ("item.deep[inputs.text].y", "item.deep[inputs.text].y is not there: item.deep[inputs.text] is a list of 2."),
        ("'a'.b", "'a'.b is not there: 'a' is 'a' (text)."),
        ("[] | first", "empty"),
        ("1 if false", "there is no `else`"),
    ],
)
def test_what_is_missing_is_named(text, expected):
    """The first part that is missing, in full, with what may be meant, and what to do."""
    message = refusal(text)
    assert expected in message
    assert "| default(...)" in message


@pytest.mark.parametrize(
    "text",
    [
        "nope.x + 1",
        "1 + nope.x",
        "nope.x ~ ''",
        "nope.x == 1",
        "nope.x is none",
        "nope.x and true",
        "not nope.x",
        "nope.x | upper",
        "'a' | replace(nope.x, '')",
        "[nope.x]",
        "{'a': nope.x}",
        "1 if nope.x else 2",
        "nope.x in [1]",
        "1 in nope.x",
        "item[nope.x]",
        "item.days[nope.x:]",
        "-nope.x",
        "2 is divisibleby(nope.x)",
        "people | sum(start=nope.x)",
        "people | map('default', nope.x) | map('upper') if false else nope.x",
    ],
)
def test_what_is_missing_cannot_be_used(text):
    """Not by any operator, filter, test, or as the value."""
    assert "nope is not there" in refusal(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nope | default(1)", 1),
        ("nope.a.b[0] | d(1)", 1),
        ("steps.load.output.x.y | default(none)", None),
        ("inputs.empty | default(1)", ""),
        ("inputs.empty | default(1, true)", 1),
        ("inputs.none | default(1)", None),
        ("inputs.none | default(1, boolean=true)", 1),
        ("nope.a is defined", False),
        ("nope.a is undefined", True),
        ("item.n is defined", True),
        ("nope is not defined and 1", 1),
        ("[] | first | default(0)", 0),
        ("(1 if false) | default(3)", 3),
        ("nope | default(nope2) | default(2)", 2),
        ("people | map(attribute='age', default=0)", [3, 2, 0]),
        ("people | map(attribute='age') | map('default', 0)", [3, 2, 0]),
        ("people | map(attribute='age') | select('defined')", [3, 2]),
        ("people | selectattr('age', 'defined') | map(attribute='n')", ["ann", "Bob"]),
        ("people | rejectattr('age', 'defined') | map(attribute='n') | first", "eve"),
        ("people | map(attribute='at.x', default=0) | sum", 3),
    ],
)
def test_what_is_missing_may_have_a_default(text, expected):
    """Wherever in a chain it is missing; and it may be tested."""
    assert expected == value(text)


def test_a_default_binds_to_the_nearest_value():
    """As in Jinja, a filter binds closer than a comparison: ``a > b | default(9)`` gives a default to b."""
    assert [False, True] == [value("item.n > nope | default(9)"), value("item.n > nope | default(1)")]
    assert "nope is not there" in refusal("(item.n > nope) | default(9)")


def test_names_need_only_be_asked_for():
    """Any object that gives a value for a name, or raises KeyError."""

    class Asked:
        def __getitem__(self, name):
            return {"a": 1}[name]

    assert 2 == value("a + 1", Asked())
    assert "b is not there." in refusal("b", Asked())


def test_views_are_read_only_where_they_are_needed():
    """Results of steps are mappings and lists that read a file when something of them is asked for."""
    view, row = View({"a": 1, "b": Row(1, 2)}), Row(5, 6)
    names = {"view": view, "row": row}
    assert [1, 5, 2, 2, True] == [
        value(text, names) for text in ("view.a", "row[0]", "row | length", "view | length", "'b' in view")
    ]
    assert (["a"], 1) == (view.read, row.read)
    assert {"a": 1, "b": [1, 2]} == value("view", names)
    assert [dict, list] == [type(value("view", names)), type(value("view", names)["b"])]
    assert [5, 6, 7] == value("row + [7]", names)
    assert [6] == value("row[1:]", names)
    assert '{"a": 1, "b": [1, 2]}' == value("view | tojson", names)
    assert [["a", 1], ["b", [1, 2]]] == value("view | items", names)
    assert value("view == {'a': 1, 'b': [1, 2]}", names)
    assert value("view is mapping and row is sequence", names)


def test_a_value_is_the_readers_own():
    """Whoever changes it, changes nothing else."""
    found = value("item.days")
    found.append(3)
    assert [1, 2] == value("item.days")


# Operators


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[1, 2,]", [1, 2]),
        ("(1, 2)", [1, 2]),
        ("1, 2", [1, 2]),
        ("()", []),
        ("{'a': 1, 'b': [2],}", {"a": 1, "b": [2]}),
        ("'a' 'b'", "ab"),
        ("1e3", 1000.0),
        ("0x1F + 1_000", 1031),
        ("true and none", None),
        ("True or None", True),
        ("0 or 'x'", "x"),
        ("'' and 1", ""),
        ("not(true)", False),
        ("not not 1", True),
        ("(0 or 1) and 2", 2),
        ("0 or 1 and 2", 2),
        ("1 if item.n > 2 else 2", 1),
        ("1 if item.n > 5 else 2", 2),
        ("1 < item.n < 4", True),
        ("1 < item.n < 2", False),
        ("1 + 2 * 3 - 4 / 2", 5.0),
        ("7 // 2 + 7 % 2", 4),
        ("2 ** 10", 1024),
        ("2 ** -1", 0.5),
        ("10 ** 10 ** 2", 10**20),
        ("-item.n + +1", -2),
        ("'a' + 'b' * 2", "abb"),
        ("2 * 'ab'", "abab"),
        ("[1] + [2] * 2", [1, 2, 2]),
        ("[1] * -1", []),
        ("'a' ~ 1 ~ true ~ [1] ~ 0.5", "a1true[1]0.5"),
        ("inputs.noon - inputs.noon", dt.timedelta(0)),
        ("'a' in 'abc' and 1 in [1] and 'n' in item", True),
        ("'x' not in item", True),
        ("1 in item", False),
        ("'2026-01-01' < '2026-02-01'", True),
        ("inputs.day <= inputs.day", True),
        ("1 < 1.5 and 'a' >= 'A'", True),
        ("loop | default('unknown') ~ caller | default('')", "unknown"),
    ],
)
def test_operators_do_what_they_do_in_jinja(text, expected):
    """With its precedence; a tuple is a list."""
    found = value(text)
    assert (type(expected), expected) == (type(found), found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("true == 1", False),
        ("false == 0", False),
        ("0 != false", True),
        ("true == true", True),
        ("1 == 1.0", True),
        ("'5' == 5", False),
        ("none == false", False),
        ("[1] == [true]", False),
        ("[[1, 'a']] == [(1, 'a')]", True),
        ("[1] == [1, 2]", False),
        ("{'a': 1} == {'a': true}", False),
        ("{'a': 1, 'b': 2} == {'b': 2, 'a': 1}", True),
        ("{'a': 1} == {'b': 1}", False),
        ("1 in [true]", False),
        ("[true, 1, 1.0] | unique", [True, 1]),
        ("[1, true] | select('eq', 1)", [1]),
        ("inputs.day == inputs.noon", False),
        ("'nan' | float == 'nan' | float", False),
    ],
)
def test_equality_converts_nothing(text, expected):
    """Text is no number, and true is not 1, at any depth."""
    assert expected == value(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("'5' >= 5", "'5' (text) and 5 (a number) have no order"),
        ("none < 1", "none and 1 (a number) have no order"),
        ("true < 2", "true and 2 (a number) have no order"),
        ("[1] < [2]", "a list of 1 and a list of 1 have no order"),
        ("item > item", "a mapping of 6"),
        ("inputs.day < inputs.noon", "(a date) and"),
        ("1 in 5", "1 (a number) cannot be in 5 (a number)"),
        ("1 in 'abc'", "1 (a number) cannot be in 'abc' (text)"),
        ("1 not in none", "cannot be in none"),
        ("'a' + 1", "'a' (text) + 1 (a number)"),
        ("'a' + 1", "put together by ~"),
        ("'%d' % 1", "format"),
        ("true + 1", "true and false are no numbers"),
        ("1 * true", "true and false are no numbers"),
        ("{} + {}", "a mapping of 0 + a mapping of 0"),
        ("-'a'", "'a' (text) is no number"),
        ("+true", "true is no number"),
        ("1 / 0", "division by zero"),
        ("item.n % 0", "3 (a number) % 0 (a number)"),
        ("(-8) ** 0.5", "no real number"),
        ("10.0 ** 400", "10.0 (a number) ** 400 (a number)"),
        ("{1: 2}", "the key 1 (a number) of a mapping is no text"),
        ("{item: 2}", "of a mapping is no text"),
        ("item.n[1:]", "3 (a number) has no slices"),
        ("item[1:]", "has no slices"),
        ("item.days['a':]", "slice"),
        ("item.days[::0]", "slice step"),
        ("'a' ~ none", "none is no text"),
    ],
)
def test_what_makes_no_sense_is_an_error(text, expected):
    """It names both values with their types."""
    assert expected in refusal(text)


# Filters and tests


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-3 | abs", 3),
        ("[1, 2, 3] | batch(2)", [[1, 2], [3]]),
        ("[1, 2, 3] | batch(2, 0)", [[1, 2], [3, 0]]),
        ("'aBC' | capitalize", "Abc"),
        ("'a' | center(3)", " a "),
        ("'abc' | contains('b')", True),
        ("[1] | contains(true)", False),
        ("item | contains('n')", True),
        ("'abc' | count", 3),
        ("{'b': 1, 'A': 2} | dictsort", [["A", 2], ["b", 1]]),
        ("{'b': 1, 'A': 2} | dictsort(by='value', reverse=true)", [["A", 2], ["b", 1]]),
        ("1000000 | filesizeformat", "1.0 MB"),
        ("1048576 | filesizeformat(true)", "1.0 MiB"),
        ("item.days | first", 1),
        ("'1.5' | float", 1.5),
        ("'x' | float(0.0)", 0.0),
        ("'%s-%03d %% %.2f' | format('a', 7, 0.5)", "a-007 % 0.50"),
        ("'%(a)s' | format(a=[true])", "[true]"),
        ("'%(value)s' | format(value=1)", "1"),
        ("'%-5s|%+d|%x' | format('a', 1, 255)", "a    |+1|ff"),
        ("'[1, {\"a\": null}]' | from_json", [1, {"a": None}]),
        (
            "people | groupby('n')",
            [["ann", NAMES["people"][:1]], ["Bob", NAMES["people"][1:2]], ["eve", [{"n": "eve"}]]],
        ),
        ("people | groupby('age', 3) | map('first')", [2, 3]),
        ("people | groupby('n') | map(attribute=0)", ["ann", "Bob", "eve"]),
        ("'a\nb' | indent(2)", "a\n  b"),
        ("'a\nb' | indent('> ', first=true)", "> a\n> b"),
        ("'42.7' | int", 42),
        ("'0x1f' | int(base=16)", 31),
        ("'x' | int(0)", 0),
        ("'x' | int(none)", None),
        ("none | int(1)", 1),
        ("2.9 | int", 2),
        ("{'a': 1} | items", [["a", 1]]),
        ("[1, 'a', true] | join('-')", "1-a-true"),
        ("people | join(', ', attribute='n')", "ann, Bob, eve"),
        ("people | map(attribute='n') | join(',')", "ann,Bob,eve"),
        ("'abc' | last", "c"),
        ("people | length", 3),
        ("'abc' | list", ["a", "b", "c"]),
        ("{'a': 1} | list", ["a"]),
        ("'ABC' | lower", "abc"),
        ("true | lower", "true"),
        ("people | map(attribute='n') | map('upper')", ["ANN", "BOB", "EVE"]),
        ("[['a'], []] | map('length')", [1, 0]),
        ("[[1], [2]] | map('map', 'string')", [["1"], ["2"]]),
        ("['b', 'A'] | max", "b"),
        ("['b', 'A'] | min", "A"),
        ("['b', 'A'] | min(true)", "A"),
        ("people[:2] | max(attribute='age')", NAMES["people"][0]),
        ("[1, 2, 3] | reject('odd')", [2]),
        ("people | rejectattr('n', 'eq', 'eve') | length", 2),
        ("'aab' | replace('a', 'x')", "xxb"),
        ("'aab' | replace('a', 'x', 1)", "xab"),
        ("515 | replace(5, true)", "true1true"),
        ("'abc' | reverse", "cba"),
        ("[1, 2] | reverse", [2, 1]),
        ("42.55 | round", 43.0),
        ("42.55 | round(1, 'floor')", 42.5),
        ("[0, 1, '', 'a'] | select", [1, "a"]),
        ("[1, 2, 3] | select('>', 1)", [2, 3]),
        ("[1, 2, 3] | select('in', [1, 3])", [1, 3]),
        ("people | selectattr('n') | length", 3),
        ("people | selectattr('at.x', 'defined') | length", 2),
        ("[1, 2, 3] | slice(2)", [[1, 2], [3]]),
        ("[1, 2, 3] | slice(2, 0)", [[1, 2], [3, 0]]),
        ("['b', 'A', 'c'] | sort", ["A", "b", "c"]),
        ("['b', 'A', 'c'] | sort(case_sensitive=true, reverse=true)", ["c", "b", "A"]),
        ("people[:2] | sort(attribute='age,n') | map(attribute='n')", ["Bob", "ann"]),
        ("[1.5, true] | string", "[1.5, true]"),
        ("[1, 2.5] | sum", 3.5),
        ("people[:2] | sum(attribute='age', start=1)", 6),
        ("'the cat' | title", "The Cat"),
        ("{'a': [1, '<&>']} | tojson", '{"a": [1, "<&>"]}'),
        ("[1] | tojson(indent=1)", "[\n 1\n]"),
        ("inputs.day | tojson", '"2026-11-23"'),
        ("' a ' | trim", "a"),
        ("'xax' | trim('x')", "a"),
        ("'foo bar baz qux' | truncate(9)", "foo..."),
        ("'foo bar baz qux' | truncate(9, true, '!')", "foo bar !"),
        ("['a', 'A', 'b'] | unique", ["a", "b"]),
        ("['a', 'A'] | unique(case_sensitive=true)", ["a", "A"]),
        ("people | unique(attribute='n') | length", 3),
        ("'abc' | upper", "ABC"),
        ("'a b/é' | urlencode", "a%20b/%C3%A9"),
        ("{'q': 'a b', 'x': true} | urlencode", "q=a+b&x=true"),
        ("[['q', '/']] | urlencode", "q=%2F"),
        ("'a b c' | wordcount", 3),
        ("'aa bb' | wordwrap(2)", "aa\nbb"),
        ("'aa bb' | wordwrap(2, wrapstring='<br>')", "aa<br>bb"),
    ],
)
def test_filters_do_what_they_do_in_jinja(text, expected):
    """With lists for what comes bit by bit, keys for attributes, and plain text."""
    found = value(text)
    assert (type(expected), expected) == (type(found), found)


def test_the_examples_above_show_every_filter():
    """None is without a test."""
    table = next(mark for mark in test_filters_do_what_they_do_in_jinja.pytestmark if mark.name == "parametrize")
    shown = " ".join(text for text, _ in table.args[1])
    assert set() == {name for name in FILTERS - {"d", "default"} if f"| {name}" not in shown}


def test_which_filters_there_are():
    """Jinja's without chance, HTML and attributes, and two of ours."""
    from jinja2.filters import FILTERS as THEIRS

    left_out = {"attr", "e", "escape", "forceescape", "pprint", "random", "safe", "striptags", "urlize", "xmlattr"}
    assert set(THEIRS) - left_out | {"contains", "from_json"} == FILTERS


def test_nothing_has_attributes_for_jinjas_own_filters():
    """The environment that they get gives keys only."""
    assert [1, True] == [ENVIRONMENT.getattr({"a": 1}, "a"), isinstance(ENVIRONMENT.getattr("a", "upper"), Undefined)]


def test_which_tests_there_are():
    """Jinja's without identity, calls, HTML and its environment."""
    from jinja2.tests import TESTS as THEIRS

    assert set(THEIRS) - {"callable", "escaped", "filter", "sameas", "test"} == TESTS


@pytest.mark.parametrize(
    "text",
    [
        "true is boolean and 1 is not boolean",
        "item is defined and nope is undefined",
        "4 is divisibleby 2 and 4 is not divisibleby(3)",
        "1 is eq 1 and 1 is equalto 1.0 and true is ne 1",
        "2 is even and 3 is odd and -1 is odd",
        "false is false and 0 is not false and true is true",
        "1.5 is float and 1 is integer and true is not integer",
        "1 is number and true is not number",
        "'a' is string and item is mapping and item.days is sequence",
        "'abc' is iterable and 5 is not iterable",
        "1 is in [1] and none is none",
        "2 is gt 1 and 2 is greaterthan 1 and 2 is ge 2",
        "1 is lt 2 and 1 is lessthan 2 and 1 is le 1",
        "'a' is lower and 'A' is upper",
    ],
)
def test_tests_do_what_they_do_in_jinja(text):
    """Only that true is no number, and equality and order are strict."""
    assert value(text) is True


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("'x' | int", "the filter 'int' of 'x' (text): it is no number"),
        ("none | float", "the filter 'float' of none"),
        ("item.days | int", "the filter 'int' of a list of 2"),
        ("5 | length", "the filter 'length' of 5 (a number)"),
        ("none | count", "the filter 'count' of none"),
        ("5 | list", "the filter 'list' of 5"),
        ("['a'] | sum", "the filter 'sum' of a list of 1: 'a' (text) is no number"),
        ("[[1]] | sum(start=[])", "the filter 'sum'"),
        ("[true] | sum", "true is no number"),
        ("[1, 'a'] | sort", "1 (a number) and 'a' (text) have no order"),
        ("[1, none] | max", "the filter 'max' of a list of 2"),
        ("[true, 1] | min", "the filter 'min'"),
        ("[{'a': 1}, {'a': 'x'}] | sort(attribute='a')", "the filter 'sort'"),
        ("[{'a': 1}, {'a': 'x'}] | groupby('a')", "the filter 'groupby'"),
        ("{'a': 1, 'b': 'x'} | dictsort(by='value')", "the filter 'dictsort'"),
        ("{} | dictsort(by='x')", "the filter 'dictsort'"),
        ("[1] | dictsort", "it is no mapping"),
        ("people | sort(attribute='age')", "(an item).age is not there"),
        ("people | unique(attribute='age')", "is not there"),
        ("[[1], [1]] | unique", "the filter 'unique'"),
        ("people | join(attribute='age')", "is not there"),
        ("[1, none] | join", "none is no text"),
        ("none | upper", "none is no text"),
        ("true | abs", "true is no number"),
        ("'5' | round", "'5' (text) is no number"),
        ("1 | round(1, 'up')", "the filter 'round'"),
        ("5 | contains(5)", "the filter 'contains' of 5 (a number): 5 (a number) cannot be in 5 (a number)"),
        ("'x' | from_json", "the filter 'from_json' of 'x' (text)"),
        ("5 | from_json", "it is no text"),
        ("'a' | center('x')", "width is 'x' (text), and no whole number"),
        ("'a' | center(true)", "width is true"),
        ("[1] | batch(0)", "linecount is 0"),
        ("[1] | slice(0)", "slices is 0"),
        ("'%d' | format('5')", "'%d' does not write '5' (text)"),
        ("'%d' | format(true)", "does not write true"),
        ("'%r' | format(1)", "'%r' does not write"),
        ("'%*d' | format(1, 2)", "does not write"),
        ("'%s' | format", "there is no value for '%s'"),
        ("'%(a)s' | format(b=1)", "there is no value for '%(a)s'"),
        ("'a' | format(1)", "more values than places"),
        ("'%s' | format(1, a=1)", "names"),
        ("'{:>9}' | format(1)", "more values than places"),
        ("'a' | truncate(1)", "length is 1"),
        ("[1] | map", "the filter 'map'"),
        ("[1] | selectattr", "the filter 'selectattr'"),
        ("['a'] | map('int')", "the filter 'int' of 'a' (text)"),
        ("['a'] | select('odd')", "the test 'odd' of 'a' (text): 'a' (text) is no number"),
        ("4 is divisibleby 0", "the test 'divisibleby' of 4"),
        ("1 is lt 'a'", "the test 'lt' of 1"),
        ("inputs.day | replace('a')", "missing a required argument"),
        ("item.n | default(1, 2, 3)", "the filter 'default': too many positional arguments"),
        ("item.n | upper(1)", "the filter 'upper': too many"),
        ("item.n | int(defualt=1)", "unexpected keyword argument 'defualt'"),
        ("item.n is odd(1)", "the test 'odd'"),
        ("people | map('upper', 1)", "the filter 'upper'"),
        ("people | map(inputs.text)", "there is no filter 'x'"),
        ("people | map(item.days)", "there is no filter [1, 2]"),
        ("people | map('default', 1, 2, 3)", "the filter 'default'"),
    ],
)
def test_wrong_use_of_a_filter_names_it(text, expected):
    """And the value that it was given."""
    assert expected in refusal(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("item.n | uper", "there is no filter 'uper'. Did you mean 'upper'?"),
        ("item.n | random", "there is no filter 'random'"),
        ("item.n | attr('x')", "there is no filter 'attr'"),
        ("item.n | safe", "there is no filter 'safe'"),
        ("item.n | e", "there is no filter 'e'"),
        ("item.n | a.b", "there is no filter 'a.b'"),
        ("item.n is defind", "there is no test 'defind'. Did you mean 'defined'?"),
        ("item.n is callable", "there is no test 'callable'"),
        ("people | map('uper')", "there is no filter 'uper'"),
        ("people | select('od')", "there is no test 'od'. Did you mean 'odd'?"),
        ("people | rejectattr('n', 'od')", "there is no test 'od'"),
        ("range(9)", "calls are not part of expressions: range(...)"),
        ("lipsum()", "calls"),
        ("dict(a=1)", "calls"),
        ("item.city.upper()", "There is a filter: item.city | upper"),
        ("item.keys()", "item.keys(...)"),
        ("(item.n | string)()", "calls"),
        ("_x", "_x begins with _"),
        ("item._x", "_x begins with _"),
        ("item.__class__", "__class__ begins with _"),
        ("'' | default(*item.days)", "* and **"),
        ("'' | default(**item)", "* and **"),
        ("1 +", "unexpected the end"),
        ("1 2", "unexpected 2"),
        ("a b", "unexpected 'b'"),
        ("1 if", "unexpected the end"),
        ("[1", "no end"),
        ("a | ", "unexpected the end, expected 'name'"),
        ("a.", "expected name or number"),
        ("a = 1", "unexpected '='"),
        ("a $ b", "unexpected char '$'"),
        ("'a", "no end"),
        ("for x in y", "unexpected"),
        ("lambda: 1", "unexpected"),
        (r"'\d'", r"\d in '\d' means nothing"),
        (r"'\N{no such}'", "unknown Unicode character name"),
        ("9" * 5000, "digits"),
        ("1 / 0 if item.n else 2", "division by zero"),
        ("item.n or 'a' | int", "the filter 'int' of 'a' (text)"),
        ("{}.a", "is not there"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_read(text, expected):
    """Before anything runs: grammar, names of filters, arguments, and every part without names."""
    assert expected in definition_error(f"{{{{ {text} }}}}")


def test_a_key_may_begin_with_an_underscore_in_brackets():
    """Data has such keys; attributes of Python are out of reach anyway."""
    assert 1 == value("x['_a']", {"x": {"_a": 1}})
    assert "is not there" in refusal("item['__class__']")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("steps.load-data.output", "write steps['load-data']"),
        ("steps.load-data", "write steps['load-data']"),
        ("steps.load-data-now.output | length", "write steps['load-data-now']"),
        ("steps.load - data", "write steps['load-data']"),
        ("inputs.my-var", "write inputs['my-var']"),
        ("inputs.my-var[0] * 2", "write inputs['my-var']"),
    ],
)
def test_a_name_with_a_dash_wants_brackets(text, expected):
    """To the grammar it is a difference, and one that nobody wants."""
    assert expected in definition_error(f"{{{{ {text} }}}}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("inputs.b - item.n", 4), ("inputs.b-1", 6), ("item.n-index", -1), ("inputs.b - index * 1", 3)],
)
def test_other_differences_are_differences(text, expected):
    """Blanks around the minus make one of two inputs."""
    assert expected == value(text)


# Errors


def test_every_exception_becomes_the_one_error():
    """Whatever the names raise: it is one of nbflow's, names the expression, and pickles."""

    class Broken:
        def __getitem__(self, name):
            raise OSError("disk\nfull")

    with pytest.raises(ExpressionError) as caught:
        value("item.n + 1", Broken())
    assert ("in `item.n + 1`: disk full", "item.n + 1") == (caught.value.message, caught.value.place)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(caught.value), True) == (str(again), isinstance(again, NbflowError))


def test_an_error_below_keeps_its_remedy():
    """A result that cannot be read says so itself."""

    class Broken:
        def __getitem__(self, name):
            raise NbflowError("the file is gone", "Run it again.")

    assert "in `a`: the file is gone\n  Run it again." == refusal("a", Broken())


def test_a_long_expression_is_shortened_in_messages():
    """To one line of 80 characters."""
    message = refusal("nope +\n" + " + ".join(["item.n"] * 50))
    shown = message.split("`")[1]
    assert (80, True) == (len(shown), shown.startswith("nope + item.n + item.n") and shown.endswith("..."))


# Bindings


def test_what_a_text_becomes():
    """The kinds of binding."""
    kinds = [type(template(text)) for text in ("a", "{{ a }}", "{{ a }} ", "{{ a }}{{ b }}")]
    assert [Literal, Expression, Template, Template] == kinds


def test_bindings_of_equal_text_are_equal():
    """They can be keys, and survive pickling and copying."""
    for binding in (Expression("a.b"), Template("x {{ a.b }}"), Condition("a.b"), bind(["{{ a }}", {"b": "{{ c }}"}])):
        again = pickle.loads(pickle.dumps(binding))
        assert (binding, hash(binding)) == (again, hash(again))
        assert binding.references == again.references == copy.deepcopy(binding).references
    assert Expression("a") != Condition("a")
    assert [Expression("a.b"), "a.b"] == [template("{{ a.b }}"), template("{{ a.b }}").text]


def test_a_value_may_hold_blocks_at_any_depth():
    """What holds none is a literal as it is."""
    plain = {"a": [1, None, "x"], "b": {}}
    assert Literal(plain) == bind(plain)
    assert [Literal(7), Literal(None)] == [bind(7), bind(None)]
    assert isinstance(bind(["{{ a }}"]), Collection)
    given = {"n": "{{ item.n }}", "list": [1, "{{ item.city }}!", {"x": "{{ item.days }}"}], "same": [1]}
    assert {"n": 3, "list": [1, "Oslo!", {"x": [1, 2]}], "same": [1]} == bind(given).resolve(NAMES)


def test_a_key_holds_no_expression():
    """It would be taken for text in silence."""
    with pytest.raises(ExpressionError, match=r"the key '\{\{ a \}\}' holds an expression"):
        bind({"{{ a }}": 1})


def test_a_value_that_contains_itself_is_refused():
    """As everything that is nested too deep."""
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(ExpressionError, match="nested more than 100 deep"):
        bind(endless)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (True, True),
        (False, False),
        ("true", True),
        ("false", False),
        ("item.n > 2", True),
        ("{{ item.n > 5 }}", False),
        ("  {{ item.n }}\n", True),
        ("item.n > 2 and\n item.city == 'Oslo'", True),
        ("inputs.none", False),
        ("[]", False),
        ("item", True),
        ("0.0", False),
        ("'false'", False),
        ("' False '", False),
        ("'TRUE'", True),
        ("'  '", False),
        ("'no'", True),
        ("nope | default(false)", False),
        ("{'a': {'b': 1}}['a']", True),
    ],
)
def test_a_condition_holds_or_not(text, expected):
    """An expression with or without braces; the text ``false`` counts as what it says."""
    assert expected is condition(text).holds(NAMES) is condition(text).resolve(NAMES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "there is no expression"),
        ("  ", "there is no expression"),
        ("{{ }}", "there is no expression"),
        ("{{ a }} and {{ b }}", "a condition is one expression"),
        ("{{ a }} == 1", "a condition is one expression"),
        ("{% if a %}", "statements"),
        ("a == {{ b }}", "expected token"),
        ("a }} b", "unexpected"),
    ],
)
def test_what_is_no_condition_is_refused(text, expected):
    """Text around a block would always count as true."""
    with pytest.raises(ExpressionError, match=expected):
        condition(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("'{{ item.city }}' == 'Oslo'", "item.city == 'Oslo'"),
        ('"{{item.city}}" == "Oslo"', 'item.city == "Oslo"'),
        ("{{ '{{ item.city }}' == 'Oslo' }}", "{{ item.city == 'Oslo' }}"),
        ("item.city == 'a {{ item.city }}'", "item.city == 'a ' ~ item.city"),
    ],
)
def test_braces_in_quotes_are_no_condition(text, meant):
    """A text that holds them would equal nothing, and the condition be false for ever."""
    with pytest.raises(ExpressionError, match=r"\{\{ \}\} in quotes is text, and no value.") as refused:
        condition(text)
    assert refused.value.remedy.endswith(f": {meant}")
    condition(meant)


def test_one_brace_in_quotes_is_a_text_of_a_condition():
    """Only what looks like an expression is meant as one."""
    assert condition("'{{' != '}}'").holds({}) is True


def test_a_missing_name_is_no_false_condition():
    """A typo skips no step in silence."""
    with pytest.raises(ExpressionError, match="nope is not there"):
        condition("nope").holds(NAMES)


# What an expression refers to


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("item.city", [("item", ("city",), "item.city", False, False)]),
        (
            "steps['load-data'].output.x[0]",
            [("steps", ("load-data", "output", "x", 0), "steps['load-data'].output.x[0]", False, False)],
        ),
        ("steps.a.x[-1].y", [("steps", ("a", "x", -1, "y"), "steps.a.x[-1].y", False, False)]),
        ("steps['a' ~ 'b']", [("steps", ("ab",), "steps.ab", False, False)]),
        (
            "steps[item.name].output",
            [("steps", (), "steps", True, False), ("item", ("name",), "item.name", False, False)],
        ),
        ("steps.a.days[1:n]", [("steps", ("a", "days"), "steps.a.days", False, False), ("n", (), "n", False, False)]),
        (
            "steps.a.x | default(inputs.b)",
            [("steps", ("a", "x"), "steps.a.x", False, True), ("inputs", ("b",), "inputs.b", False, False)],
        ),
        ("a.b is defined or c is undefined", [("a", ("b",), "a.b", False, True), ("c", (), "c", False, True)]),
        ("a.b is none", [("a", ("b",), "a.b", False, False)]),
        ("(a ~ b) | default(1)", [("a", (), "a", False, False), ("b", (), "b", False, False)]),
        ("(a | first).x | d(1)", [("a", (), "a", False, False)]),
        ("b + a + b", [("b", (), "b", False, False), ("a", (), "a", False, False)]),
        ("x if y else z", [("y", (), "y", False, False), ("x", (), "x", False, False), ("z", (), "z", False, False)]),
        ("{'k': a} | tojson(indent=b)", [("a", (), "a", False, False), ("b", (), "b", False, False)]),
        ("[a < b < c]", [("a", (), "a", False, False), ("b", (), "b", False, False), ("c", (), "c", False, False)]),
        ("1 + 1", []),
    ],
)
def test_the_references_of_an_expression(text, expected):
    """Root and constant path, in order, each once; whether it goes on by a value, and may be missing."""
    assert tuple(Reference(*one, text) for one in expected) == template(f"{{{{ {text} }}}}").references


def test_references_of_the_other_bindings():
    """Together those of all expressions in it."""
    expected = [("a", "a"), ("b", "b.c")]
    for binding in (
        template("{{ a }} {{ b.c }} {{ a }}"),
        bind({"x": ["{{ a }}", 1, "{{ b.c }}"]}),
        condition("a and b.c"),
    ):
        assert expected == [(reference.root, reference.text) for reference in binding.references]
    assert ["a", "b.c"] == [one.expression for one in template("{{ a }} {{ b.c }}").references]


@pytest.mark.parametrize("module", [name for _, name, _ in pkgutil.iter_modules(nbflow.expressions.__path__)])
def test_the_examples_of_the_docstrings_run(module):
    """Each shows what it says."""
    assert 0 == doctest.testmod(importlib.import_module(f"nbflow.expressions.{module}")).failed
