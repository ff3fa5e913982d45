"""Expressions end early: too much text, too many items, too large numbers, too much work, too deep."""

from __future__ import annotations

import time
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nbflow.expressions import ExpressionError, bind, condition, limits, template

NAMES = {"a": "a", "one": 1, "big": 10**8, "huge": 10**9, "xs": [0], "pairs": [{"n": 1, "t": "x"}], "none": None}
MEGABYTE = 2**20


def refused(text: str) -> str:
    """Give the error of an expression that must not be worked out."""
    with pytest.raises(ExpressionError) as caught:
        template(f"{{{{ {text} }}}}").resolve(NAMES)
    return caught.value.message


TOO_LARGE = [
    "a * big",
    "big * a",
    "a * 1000001",
    "[0] * huge",
    "xs * 1000001",
    "[[[0] * 1000] * 1000] * 1000",
    "xs * 600000 + xs * 600000",
    "a * 600000 + a * 600000",
    "a * 600000 ~ a * 600000",
    "[a * 1000000] * 11",
    "10 ** 10 ** 10 ** 10 ** 10",
    "2 ** (2 ** huge)",
    "2 ** 4096",
    "(10 ** 1200) * (10 ** 1200)",
    "-(2 ** 4096)",
    "0x" + "f" * 1025,
    "('9' * 1500) | int",
    "('f' * 2000) | int(base=16)",
    "'%100000000d' | format(1)",
    "'%.100000000f' | format(one)",
    "'%-100000000s' | format(a)",
    "'%(a)100000000s' | format(a=a)",
    "('%(a)s' * 10000) | format(a=a * 1000)",
    "'%' ~ '9' * 5000 ~ 'd' | format(1)",
    "a | center(big)",
    "a | indent(huge)",
    "('a\n' * 10000) | indent(1000)",
    "('a\n' * 10000) | indent(a * 1000, blank=true)",
    "(a * 10000) | replace('', 'b' * 1000)",
    "a | replace('', 'b' * 1000) | replace('', 'b' * 1000) | replace('', 'b' * 1000)",
    "(a * 10000) | replace(a, 'b' * 1000)",
    "(xs * 1000000) | join(a * 1000)",
    "([a * 1000] * 10000) | join",
    "xs | batch(huge, 0)",
    "xs | slice(huge)",
    "1.5 | round(huge)",
    "15 | round(-1 * huge)",
    "1.5 | round(huge, 'floor')",
    "(a * 1000000) | truncate(1, true, a * 1000000)",
    "('a ' * 1000) | wordwrap(1, wrapstring=a * 1000000)",
    "(a * 500000) | wordwrap(1)",
    "xs | tojson(indent=huge)",
    "([a * 100000] * 11) | tojson",
    "('\\u0001' * 500000) | tojson",
    "[[0]] | sum(start=[])",
    "([2 ** 4000] * 100) | sum * 2 ** 100",
    "('%' * 1000000) | urlencode",
    "{'a': 'é' * 200000} | urlencode",
    "('[' * 100000) | from_json",
    "('[' * 102 ~ ']' * 102) | from_json",
    "('9' * 1300) | from_json",
    "([a * 1000000] * 10) | map('replace', '', 'bbbbbbbbbbb') | list",
    "xs | map('center', big)",
    "(a * 1000000) | trim(a * 1000000)",
    "('ß' * 1000000) | upper",
]
"""Each small to write, and large or long if it were done."""


@pytest.mark.parametrize("text", TOO_LARGE, ids=lambda text: text[:60])
def test_what_would_be_too_large_is_refused_first(text):
    """Within a second, and without ever holding much of it."""
    tracemalloc.start()
    start = time.process_time()
    try:
        refused(text)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200 * MEGABYTE
    assert time.process_time() - start < 10


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(a * 1000000) | length", 10**6),
        ("(a * 500000 + a * 500000) | length", 10**6),
        ("(xs * 1000000) | length", 10**6),
        ("([xs * 9] * 100000) | length", 10**5),
        ("(2 ** 4095 * 1) > 0", True),
        ("(-2) ** 4095 < 0", True),
        ("1 ** 10 ** 1000", 1),
        ("(a * 499999) | center(1000000) | length", 10**6),
        ("('a\n' * 1000) | indent(900) | length", 2000 + 999 * 900),
        ("(a * 999) | replace('', 'b' * 999) | length", 999 + 1000 * 999),
        ("(xs * 333333) | join('ab') | length", 999997),
        ("('x' * 999999) | urlencode | length", 999999),
        ("(a * 300) | wordwrap(1, wrapstring='b' * 300) | length", 300 + 299 * 300),
        ("xs | batch(1000, 0) | first | length", 1000),
        ("('[' * 100 ~ ']' * 100) | from_json | length", 1),
    ],
)
def test_what_is_just_within_the_limits_is_done(text, expected):
    """The limits are where they are said to be."""
    assert expected == template(f"{{{{ {text} }}}}").resolve(NAMES)


@pytest.fixture
def low_limits(monkeypatch):
    """Make the limits a thousandth, so that they are met sooner."""
    for name in ("LONGEST_TEXT", "MOST_ITEMS", "MOST_CHARACTERS", "MOST_OPERATIONS"):
        monkeypatch.setattr(limits, name, getattr(limits, name) // 1000)


@pytest.mark.parametrize(
    "text",
    [
        "[xs * 600, xs * 600]",
        "{'a': xs * 600, 'b': xs * 600}",
        "xs * 600 + xs * 600",
        "[[[0] * 10] * 10] * 10",
        "([xs * 19] * 49) | batch(1)",
        "([xs * 30] * 30) | map('batch', 1) | list",
        "xs | batch(600, xs * 600)",
        "xs | slice(600, xs * 600)",
        "('1' * 900) | list | batch(2)",
        "('[' ~ '0,' * 399 ~ '0]') | from_json | batch(1) | batch(1)",
    ],
)
def test_items_are_counted_with_those_inside_of_them(text, low_limits):
    """A list of lists is as large as all of them."""
    assert "more than 1,000 items" in refused(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(xs * 600) | tojson", "1,000 characters"),
        ("(xs * 600) ~ ''", "1,000 characters"),
        ("(xs * 400) | tojson(indent=1)", "1,000 characters"),
        ("[a * 1000] * 11", "10,000 characters"),
        ("(['ß' * 450] * 12) | map('upper') | list", "10,000 characters"),
        ("(['é' * 300] * 9) | map('urlencode') | list", "1,000 characters"),
        ("(a * 900) | batch(900) | map('join', a * 2)", "1,000 characters"),
    ],
)
def test_characters_are_counted_where_text_is_made_of_values(text, expected, low_limits):
    """Also those of all texts in a list."""
    assert expected in refused(text)


@pytest.mark.parametrize(
    "text",
    [
        "(xs * 900)" + " | list" * 9,
        "[" + "(xs * 200) | sum, " * 30 + "]",
        "(xs * 900) | map('string') | map('length') | sum",
        "((a * 900) | wordcount) + ((a * 900) | wordwrap | length) + ((a * 900) | wordcount)",
        "(" + " or ".join(["((a * 900) | title == 'b')"] * 10) + ")",
        "(xs * 100) | select('in', [1] * 100) | list",
        "([xs * 300] * 3)" + " | select('eq', xs * 300)" * 2,
        "(xs * 900) == (xs * 900) and (xs * 900) == (xs * 900)",
        "[" + "(xs * 300) | tojson | length, " * 6 + "]",
        "[" + "(a * 900) | urlencode | length, " * 6 + "]",
    ],
    ids=lambda text: text[:60],
)
def test_an_evaluation_ends_after_so_many_operations(text, low_limits):
    """However they are put together."""
    assert "more than 5,000 operations" in refused(text)


def test_what_came_in_is_not_measured():
    """Limits are for what an expression makes; what a run gives may be larger."""
    names = {"text": "a" * 1_000_001, "list": [0] * 1_000_001}
    assert [1_000_001, 1_000_001] == [len(template(f"{{{{ {name} }}}}").resolve(names)) for name in names]
    with pytest.raises(ExpressionError, match="characters"):
        template("{{ text }}!").resolve(names)


def test_texts_of_many_blocks_are_counted_together(low_limits):
    """The whole text has the limit, and the whole text has the operations."""
    with pytest.raises(ExpressionError, match=r"more than 1,000 characters"):
        template("{{ a }}" * 11).resolve({"a": "x" * 100})
    with pytest.raises(ExpressionError, match=r"operations"):
        template("{{ a | sum }}" * 51).resolve({"a": [0] * 100})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(" * 5000, "nested too deep"),
        ("(" * 2000 + "1" + ")" * 2000, "nested too deep"),
        ("[" * 2000 + "]" * 2000, "nested too deep"),
        ("not " * 2000 + "a", "nested"),
        ("-" * 2000 + "1", "nested"),
        ("1" + "+1" * 2000, "nested more than 100 deep"),
        ("a" + ".a" * 2000, "nested more than 100 deep"),
        ("a" + "|upper" * 1000, "nested more than 100 deep"),
        ("a" + "[0]" * 2000, "nested more than 100 deep"),
        ("a if a else " * 800 + "a", "nested"),
        ("a" * 10_001, "more than 10,000 characters"),
        ("a ~ " * 2500 + "a", "more than 10,000 characters"),
    ],
    ids=lambda text: text[:20],
)
def test_long_and_deep_expressions_are_refused(text, expected):
    """By the one error, with and without braces."""
    with pytest.raises(ExpressionError, match=expected):
        condition(text)
    with pytest.raises(ExpressionError):
        template(f"{{{{ {text} }}}}")
    with pytest.raises(ExpressionError):
        bind([f"{{{{ {text} }}}}"])


def test_a_hundred_levels_and_ten_thousand_characters_are_read():
    """The limits themselves are allowed."""
    assert 100 == template("{{ 1" + "+1" * 99 + " }}").resolve({})
    assert 9996 == len(template("{{ '" + "a" * 9996 + "' }}").resolve({}))


def test_quotes_that_do_not_end_take_no_time():
    """A text of half-open quotes is read once, not once for each."""
    start = time.process_time()
    for text in ("{{ " + "'\\" * 4990, "{{ " + "'\\" * 4990 + " }}", "{{" * 500_000, "{{ " + "\"'" * 4990 + " }}"):
        with pytest.raises(ExpressionError):
            template(text)
    assert time.process_time() - start < 5


# Whatever it is, it ends with a value or with the one error


def _joined(*parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*parts).map("".join)


ATOMS = st.sampled_from(
    [
        *NAMES,
        "pairs",
        "pairs",
        "xs",
        "0",
        "1",
        "-1",
        "2.5",
        "1e308",
        "'a'",
        "''",
        "'%5d'",
        "[1, 'b']",
        "{'k': 1}",
        "true",
        "none",
        "nope",
    ]
)
BINARY = st.sampled_from(
    [
        " + ",
        " - ",
        " * ",
        " / ",
        " // ",
        " % ",
        " ** ",
        " ~ ",
        " and ",
        " or ",
        " < ",
        " == ",
        " in ",
        " not in ",
        " >= ",
    ]
)


CALLS = """
abs batch(#) batch(2,#) capitalize center(#) center(width=#) contains(#) count d(#) default(#,true) dictsort
dictsort(by='value') filesizeformat first float float(#) format(#) format(#,#) from_json groupby(#) groupby('n',#)
indent(#) int int(#) int(base=#) items join join(#) join(attribute=#) last length list lower map(#) map('string')
map('batch',#) map('map',#) map(attribute='n') map(attribute=#) max min(attribute=#) reject('in',#)
rejectattr('n','eq',#) replace(#,#) replace(#,#,#) reverse round(#) round(2,'ceil') select select('>',#)
select('defined') selectattr(#) selectattr('t','in',#) slice(#) slice(3,#) sort sort(attribute='n,t') string sum
sum(start=#) title tojson tojson(indent=#) trim trim(#) truncate(#) truncate(5,end=#) unique upper upper(#)
urlencode wordcount wordwrap(#) wordwrap(1,wrapstring=#) random e
"""
CHECKS = """
boolean defined divisibleby(#) eq(#) even false float ge(#) gt(#) in(#) integer iterable le(#) lower lt(#) mapping
ne(#) none number odd sequence string true undefined upper callable odd(#)
"""


@st.composite
def _filled(draw: st.DrawFn, form: st.SearchStrategy[str], inner: st.SearchStrategy[str]) -> str:
    """Give a text with expressions for its ``#``."""
    first, *rest = draw(form).split("#")
    return first + "".join(draw(inner) + part for part in rest)


def _grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        _joined(st.just("("), inner, BINARY, inner, st.just(")")),
        _joined(st.just("("), inner, st.just(" | "), _filled(st.sampled_from(CALLS.split()), inner), st.just(")")),
        _joined(
            st.just("("),
            inner,
            st.sampled_from([" is ", " is not "]),
            _filled(st.sampled_from(CHECKS.split()), inner),
            st.just(")"),
        ),
        _joined(inner, st.sampled_from(["[0]", "[-1]", ".n", "['k']", "[1:]", "[::-1]", "()", "[one]"])),
        _filled(st.sampled_from(["(not #)", "(-#)", "[#, #]", "{'k': #, 'n': #}", "(# if # else #)", "[[#]] "]), inner),
    )


GRAMMAR = st.recursive(ATOMS, _grow, max_leaves=8)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """Give an expression with a few characters lost, doubled, or put in."""
    text = draw(GRAMMAR)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        text = (
            text[:at]
            + draw(st.sampled_from(["", "(", ")", "'", "}", "{{", "|", ".", "\\", "\n", "é", "\x00"]))
            + (text[at + draw(st.integers(0, 1)) :])
        )
    return text


def outcome(make, text: str):
    """Give the value of a text, or its error."""
    try:
        return make(text).resolve(NAMES)
    except ExpressionError as problem:
        return problem


PLAIN = (str, int, float, bool, type(None), list, dict)


@given(mutated())
@settings(max_examples=300, deadline=None)
@example("one.__class__")
@example("xs | map(attribute='__class__')")
@example("nope | default | format(*xs)")
@example("1e308 * 10 | int")
@example("'%5d' | format('a')")
def test_an_expression_has_a_plain_value_or_the_one_error(text):
    """And is done within a second, whatever the text."""
    start = time.process_time()
    for make in (template, condition):
        for source in (f"{{{{ {text} }}}}", f"-{{{{ {text} }}}}", text):
            found = outcome(make, source)
            assert isinstance(found, PLAIN) or "\n" not in found.message
    assert time.process_time() - start < 6


@given(st.text(st.sampled_from("{}%#-+'\"() \\\na1.|[]"), max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_template_or_refused(text):
    """Signs of the grammar in any order."""
    for make in (template, condition):
        assert isinstance(outcome(make, text), (*PLAIN, ExpressionError))


@pytest.mark.parametrize(
    "text", ["pairs[0][a * 1000000]", "xs | map(a * 1000000)", "(a * 1000000) + 1", "pairs[0][xs * 100000]"]
)
def test_messages_stay_short(text):
    """However large the values in them."""
    assert len(refused(text)) < 700
