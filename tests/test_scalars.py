"""Text becomes values by the core schema of YAML 1.2."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbflow.errors import ParameterError
from nbflow.loading import documents
from nbflow.loading.documents import flow_items, load_yaml
from nbflow.loading.scalars import Quoted, core


@pytest.mark.parametrize(
    "text",
    [
        "NO",
        "on",
        "yes",
        "off",
        "0150",
        "-01",
        "12:30",
        "1:2:3",
        "2026-11-23",
        "NA",
        "1_000",
        "n/a",
        "tRUE",
        "0b11",
        "00.5",
        "1e",
        "e3",
        ".",
        "nan",
        "inf",
        "1e999",
        "9" * 5000,
        "Note: this",
        "*.csv",
        "# no",
        "- a",
        "a, b",
        "@x",
        "%d",
        "١",
    ],
)
def test_text_stays_text(text):
    """All of these are something else in YAML 1.1, or look like syntax."""
    assert text == core(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1e-3", 0.001),
        ("1e3", 1000.0),
        ("0x1F", 31),
        ("0o17", 15),
        ("-5", -5),
        ("+5", 5),
        ("0", 0),
        ("-.5", -0.5),
        ("1.", 1.0),
        (".inf", math.inf),
        ("-.Inf", -math.inf),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("[1, NO, 0150, 'x']", [1, "NO", "0150", "x"]),
        ("{a: 1.5, b: [~]}", {"a": 1.5, "b": [None]}),
        ("'5'", "5"),
        ('"a\\tb"', "a\tb"),
        (" 7 ", 7),
    ],
)
def test_other_text_becomes_a_value(text, expected):
    """With its exact type."""
    assert (type(expected), expected) == (type(core(text)), core(text))


def test_nan_is_spelled_with_a_dot():
    """``nan`` alone is a word."""
    assert math.isnan(core(".nan"))


@given(st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False)))
def test_what_python_prints_of_a_number_is_read_as_it(number):
    """So that a value shown can be given again."""
    assert (type(number), number) == (type(core(repr(number))), core(repr(number)))


@pytest.mark.parametrize(
    "text", ["[1,2", "{a: 1", "'open", "[1] 2", "{a: 1, a: 2}", "[*x]", "[!!python/name:os.system x]"]
)
def test_what_begins_like_a_list_and_is_none_is_refused(text):
    """A typing error must not become text."""
    with pytest.raises(ParameterError):
        core(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Oslo,Lima", ["Oslo", "Lima"]),
        ("'New York, NY', Oslo", ["New York, NY", "Oslo"]),
        ("[64,32],[128]", ["[64,32]", "[128]"]),
        ("{a: 1},x", ["{a: 1}", "x"]),
        ("0150,1e3,NO,12:30", ["0150", "1e3", "NO", "12:30"]),
        ("http://x/y,C:\\data", ["http://x/y", "C:\\data"]),
        ("-1,-2,", ["-1", "-2"]),
        ("", []),
    ],
)
def test_a_list_without_brackets_is_split_where_people_see_it(text, expected):
    """The items stay text, for the parameter to say what they are."""
    assert expected == flow_items(text)


def test_quotes_are_remembered():
    """Where a type is open, ``'5'`` is text and ``5`` a number."""
    assert [Quoted, str] == [type(item) for item in flow_items("'5',5")]


@pytest.mark.parametrize(("text", "position"), [("a,,b", 3), ("Oslo]", 5), ("*x,y", 1), ("a,[b", 4), ("x,@y", 3)])
def test_a_bad_list_is_refused_with_text_and_position(text, position):
    """Counted from 1 in what the person typed."""
    with pytest.raises(ParameterError) as caught:
        flow_items(text)
    assert repr(text) in caught.value.message
    assert f"at position {position}" in caught.value.message


@pytest.mark.parametrize("text", ["[" * 10_000, "[" * 60 + "]" * 60])
def test_deep_nesting_is_refused(text):
    """Without a RecursionError, and without a crash of the parser in C."""
    for read in (core, flow_items, lambda t: load_yaml(t, "x.yml")):
        with pytest.raises(ParameterError):
            read(text)


def test_elements_of_a_file_know_their_lines():
    """Comments and blank lines count."""
    value, lines = load_yaml("# cities\n- city: NO\n\n- {city: Lima, code: 0150}\n- &x {a: 1}\n- *x\n", "c.yml")
    assert value == [{"city": "NO"}, {"city": "Lima", "code": "0150"}, {"a": 1}, {"a": 1}]
    assert lines == [2, 4, 5, 6]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- a: 1\n  a: 2\n", "c.yml:2: the key 'a' stands twice"),
        ("- a: [1\n", "c.yml:2"),
        ("- *x\n", "c.yml:1"),
        ("- !!python/object:os.system x\n", "c.yml:1: the tag"),
        ("- a\n---\n- b\n", "c.yml:2: a second document"),
        ("- a\n- ? [1]\n  : 2\n", "c.yml:2: a key is"),
        ("- &a [*a]\n", "c.yml:1: *a stands for nothing"),
        ("- a: x\n- b\tc: @\n", "c.yml:2: this is not YAML"),
    ],
)
def test_bad_yaml_is_refused_with_its_line(text, says):
    """Duplicate keys and tags too."""
    with pytest.raises(ParameterError) as caught:
        load_yaml(text, "c.yml")
    assert caught.value.message.startswith(says)
    assert "\n" not in caught.value.message


def test_aliases_do_not_nest_deeper_than_what_is_written_out():
    """Each is flat where it stands; together they would be deeper than anybody can walk."""
    deep = "[" * 40 + "1" + "]" * 40
    with pytest.raises(ParameterError, match=r"x:2: with what \*a stands for it is nested more than 50 deep"):
        load_yaml(f"a: &a {deep}\nb: {'[' * 15}*a{']' * 15}\n", "x")
    assert {"a": [[1]], "b": [[[1]]]} == load_yaml("a: &a [[1]]\nb: [*a]\n", "x")[0]


def test_an_alias_bomb_is_refused_at_once():
    """Ten lines that stand for ten billion values."""
    lines = ["- &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"- &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    start = time.perf_counter()
    with pytest.raises(ParameterError, match="aliases repeat more than"):
        load_yaml("\n".join(lines), "c.yml")
    assert time.perf_counter() - start < 5


def test_both_parsers_of_pyyaml_give_the_same(monkeypatch):
    """PyYAML is not built with libyaml everywhere."""
    import yaml

    text = "- city: New York, NY\n  at: 12:30\n  l: [a, {b: 0x1F}]\n  t: |\n    two\n    lines\n- 'x: y'\n"
    fast = load_yaml(text, "c.yml")
    monkeypatch.setattr(documents, "_fast_loader", lambda: yaml.SafeLoader)
    assert fast == load_yaml(text, "c.yml")
