"""What the command line prints: heads, tables, ends; and that users' text can do no harm there."""

from __future__ import annotations

import datetime as dt
import math
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbflow.outcome import Failure, Outcome
from nbflow.reporters import picture, text
from nbflow.reporters.escape import fit, for_terminal, left, right, width
from nbflow.reporters.table import table
from nbflow.reporters.text import Earlier, Ending, Failed, Planned, RunLine, Standing, ending, explain, head
from nbflow.state import Active
from nbflow.values import File

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""The first text of a fresh machine costs Hypothesis a second, which says nothing about ours."""


@pytest.mark.parametrize(
    ("expected", "given_text"),
    [
        ("red", "\x1b[31mred\x1b[0m"),
        ("ab", "a\x1b]0;a title\x07b"),
        ("ab", "a\x1b]8;;http://x\x1b\\b"),
        ("ab", "a\x9b2Jb"),
        ("a b c", "a\nb\tc"),
        ("ab", "a\x00\x07\x7fb"),
        ("user gpj.exe", "user \u202egpj.exe"),
        ("a\ufffd", "a\ud800"),
        ("東京 é", "東京 é"),
        ("ab", "a\ufeff\u200bb"),
        ("]0;never ended", "\x1b]0;never ended"),
    ],
)
def test_text_is_made_harmless(expected: str, given_text: str) -> None:
    """Sequences and invisible characters go, line ends become spaces, letters stay."""
    assert expected == for_terminal(given_text)


@unhurried
@given(st.text(st.characters()) | st.text("\x1b[]0;m\x07\\\x9b\x9dA\n\u202e"))
def test_nothing_that_moves_a_cursor_is_left(dirty: str) -> None:
    """Whatever the text: no control, no bidi override, no half character remains, and it can be written."""
    clean = for_terminal(dirty)
    assert set() == {unicodedata.category(char) for char in clean} & {"Cc", "Cs", "Zl", "Zp"}
    assert not set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069") & set(clean)
    assert clean == clean.encode().decode()
    assert clean == for_terminal(clean)


@pytest.mark.parametrize(
    ("expected", "shown"), [(4, "Oslo"), (4, "東京"), (1, "e\u0301"), (2, "❤\ufe0f"), (2, "🙂"), (2, "각"), (0, "")]
)
def test_width_counts_columns_not_characters(expected: int, shown: str) -> None:
    """Wide letters take two columns, combining marks none."""
    assert expected == width(shown)


@unhurried
@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(0, 30))
def test_cut_text_fits_and_filled_text_fits_exactly(anything: str, columns: int) -> None:
    """No line is ever wider than its place, so that none wraps."""
    clean = for_terminal(anything)
    assert width(fit(clean, columns)) <= columns
    assert columns == width(left(clean, columns)) == width(right(clean, columns))
    if width(clean) <= columns:
        assert clean == fit(clean, columns)
    elif columns:
        assert columns - 1 <= width(fit(clean, columns))  # a wide letter may leave one column free


def test_marks_without_width_are_not_cut_early() -> None:
    """Five letters with marks are five columns."""
    assert "e\u0301" * 4 + "…" == fit("e\u0301" * 9, 5)


def test_long_text_is_cut_fast() -> None:
    """A value of a megabyte costs no more than its shown beginning."""
    assert "x" * 9 + "…" == fit("x" * 1_000_000, 10)


@pytest.mark.parametrize(
    ("expected", "seconds"),
    [
        ("0:00", 0),
        ("0:41", 41.9),
        ("3:05", 185),
        ("1:02:03", 3723),
        ("27:00:00", 97200),
        ("0:00", -5),
        ("-", math.nan),
        ("-", math.inf),
    ],
)
def test_durations_read_like_a_clock(expected: str, seconds: float) -> None:
    """Minutes and seconds, hours when there are any."""
    assert expected == text.duration(seconds)


@pytest.mark.parametrize(
    ("expected", "count"),
    [
        ("0 B", 0),
        ("999 B", 999),
        ("1.0 kB", 1000),
        ("1.0 MB", 999_950),
        ("12.3 MB", 12_345_678),
        ("5000.0 PB", 5 * 10**18),
    ],
)
def test_sizes_have_three_digits_and_a_unit(expected: str, count: int) -> None:
    """Decimal units, as file managers show them."""
    assert expected == text.size(count)


def test_the_head_is_the_picture() -> None:
    """Two lines, the second aligned under the kernel."""
    expected = [
        "forecast.ipynb  40 items, 4 at a time (-j)  kernel python3",
        "run 20261123-0301-7f3a                      Ctrl-C stops, nbflow resume goes on",
    ]
    assert expected == head("forecast.ipynb", 40, 4, "python3", "20261123-0301-7f3a")


def test_the_head_fits_however_long_the_name() -> None:
    """The hint stays within 79 columns; one item is no items."""
    first, second = head("a" * 60 + ".ipynb", 1, 1, "python3", "20261123-0301-7f3a")
    assert "1 item, 1 at a time" in first
    assert 79 == len(second)


def test_the_head_names_what_is_kept_and_what_is_unfinished() -> None:
    """One line for an earlier run, with the command that goes on with it."""
    lines = head("f.ipynb", 40, 4, "python3", "b", kept=38, earlier=Earlier("20261122-0301-aaaa"))
    assert "40 items, 38 kept, 4 at a time (-j)" in lines[0]
    assert "20261122-0301-aaaa is unfinished: nbflow resume 20261122-0301-aaaa" == lines[2]


def test_the_head_names_a_run_that_is_at_work() -> None:
    """What to type is not what goes on with it, but what shows it."""
    lines = head("f.ipynb", 40, 4, "python3", "b", earlier=Earlier("20261122-0301-aaaa", "process 4711"))
    assert "20261122-0301-aaaa is at work in process 4711: nbflow status 20261122-0301-aaaa" == lines[2]


def test_a_table_aligns_numbers_right_and_text_left() -> None:
    """As in the picture: equal decimals in a column, a dash for what is missing."""
    rows: list[dict[str, object]] = [
        {"city": "Oslo", "rmse": 1.8312, "n_days": 365, "status": "completed", "seconds": 52.1},
        {"city": "Cairo", "status": "failed", "seconds": 41.3},
    ]
    expected = [
        "  city    rmse  n_days  status     seconds",
        "  Oslo   1.831     365  completed     52.1",
        "  Cairo      -       -  failed        41.3",
    ]
    assert expected == table(rows, ["city", "rmse", "n_days", "status", "seconds"])


def test_a_table_says_how_many_rows_are_not_shown() -> None:
    """Over the limit the rest is counted."""
    assert ["  n", "  0", "  1", "  ... 1,998 more"] == table([{"n": i} for i in range(2000)], ["n"], limit=2)


def test_a_table_has_a_text_for_every_value() -> None:
    """Nested lists, files, dates, truth, giants, what is no number, and text that would colour the screen."""
    row: dict[str, object] = {
        "file": File("artifacts/x/forecast.parquet", 9, "f"),
        "list": [1, [2.5, None]],
        "map": {"k": True},
        "day": dt.date(2026, 11, 23),
        "text": "\x1b[31mred\x1b[0m\n",
    }
    assert "  forecast.parquet  [1, [2.5, -]]  {k: True}  2026-11-23  red" == table([row], list(row))[1]


@pytest.mark.parametrize(
    ("expected", "values"),
    [
        (["1.181e+21"], [2**70]),
        (["1.000e+5000"], [10**5000]),
        (["nan", "1.5", "inf"], [math.nan, 1.5, math.inf]),
        (["0.10", "0.25"], [0.1, 0.25]),
        (["1e-09", "1234"], [1e-9, 1234.0]),
        (["100.0", "2.5", "3"], [100.0, 2.5, 3]),
        (["5.0", "0.0"], [5.0, 0.0]),
    ],
)
def test_numbers_have_sensible_digits(expected: list[str], values: list[float]) -> None:
    """Four significant digits of the largest; no zeros that say nothing; very small and large ones by exponent."""
    assert expected == [line.strip() for line in table([{"x": value} for value in values], ["x"])[1:]]


def test_a_column_of_numbers_with_text_in_it_is_text() -> None:
    """Truth is no number either."""
    assert ["  x", "  1", "  NA"] == table([{"x": 1}, {"x": "NA"}], ["x"])
    assert ["  x", "  True"] == table([{"x": True}], ["x"])


@unhurried
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["city", "東京", "x", "long name of a column", "status"]),
            st.none() | st.integers() | st.floats() | st.text() | st.lists(st.integers()) | st.booleans(),
            max_size=5,
        ),
        max_size=4,
    ),
    st.integers(30, 120),
)
def test_a_table_never_wraps_and_never_raises(rows: list[dict[str, object]], columns: int) -> None:
    """Whatever the values: every line fits its terminal, and every row has its line."""
    lines = table(rows, ["city", "東京", "x", "long name of a column", "status"], columns, pinned=["status"])
    assert max(width(line) for line in lines) <= max(columns, 60)  # a pinned column is never cut
    assert len(lines) >= len(rows) + 1


def test_texts_that_differ_in_their_ends_are_cut_before_them() -> None:
    """Else the rows of all items of a long name look the same; others lose their ends."""
    nodes = [{"node": f"train-all-the-models:fit:{i}", "error": "a long sentence that nobody needs"} for i in (1, 12)]
    _, one, other = table(nodes, ["node", "error"], 36)
    assert ["  train-all-t…dels:fit:1  a long se…", "  train-all-t…els:fit:12  a long se…"] == [one, other]


def test_columns_without_room_are_named_and_pinned_ones_stay() -> None:
    """A wide table loses its last results, not its status, and says so."""
    names = ["city", *(f"column_{i}" for i in range(9)), "status", "seconds"]
    row: dict[str, object] = dict.fromkeys(names, "a value")
    lines = table([row], names, 60)
    assert "status" in lines[0]
    assert "seconds" in lines[0]
    assert "column_8" not in lines[0]
    assert lines[-1].startswith("  no room for 6 of the columns: column_3, column_4")
    assert all(width(line) <= 60 for line in lines)


FAILURES = [
    Failed(
        "city=Cairo",
        5,
        "KeyError: 'rain_mm'",
        "nbflow-runs/forecast.ipynb/20261123-0301-7f3a/16_Cairo.failed.ipynb",
        16,
    ),
    Failed(
        "city=Delhi",
        6,
        "kernel died (signal 9): memory? 7.8 of 8.0 GB were in use",
        "nbflow-runs/forecast.ipynb/20261123-0301-7f3a/23_Delhi.failed.ipynb",
        23,
    ),
]


def test_the_end_is_the_picture() -> None:
    """Results, failed ones last, what failed and where, and three commands."""
    cities = ["Oslo", *(f"c{i}" for i in range(15)), "Cairo", *(f"d{i}" for i in range(23))]
    rows: list[dict[str, object]] = [
        {"city": city, "rmse": 1.831, "status": "completed", "seconds": 52.1} for city in cities
    ]
    rows[16] = {"city": "Cairo", "status": "failed", "seconds": 41.3}
    end = Ending(
        "failed",
        40,
        {"completed": 38, "failed": 2},
        "forecast.ipynb",
        failures=FAILURES,
        rows=rows,
        columns=["city", "rmse", "status", "seconds"],
    )
    expected = """\
2 of 40 failed, 38 are done and kept:
  city=Cairo  cell 5  KeyError: 'rain_mm'
    nbflow-runs/forecast.ipynb/20261123-0301-7f3a/16_Cairo.failed.ipynb
  city=Delhi  cell 6  kernel died (signal 9): memory? 7.8 of 8.0 GB were in use
    nbflow-runs/forecast.ipynb/20261123-0301-7f3a/23_Delhi.failed.ipynb

  run the 2 again   nbflow resume forecast.ipynb
  the whole table   nbflow results forecast.ipynb -o results.csv
  what it printed   nbflow logs forecast.ipynb 16"""
    lines = ending(end)
    place = lines.index("")
    assert expected.splitlines() == lines[place + 1 :]
    assert "  city    rmse  status     seconds" == lines[0]
    assert "  Oslo   1.831  completed     52.1" == lines[1]
    assert ["  ... 28 more", "  Cairo      -  failed        41.3"] == lines[place - 2 : place]


def test_equal_errors_stand_together_and_the_rest_is_counted() -> None:
    """Twelve items with one error take one entry; after ten entries the rest is a number."""
    same = [Failed(f"city=c{i}", 5, "KeyError: 'x'", None, i) for i in range(12)]
    other = [Failed(f"city=o{i}", 2, f"ValueError: {i}", None, 20 + i) for i in range(15)]
    lines = text.failures([*same, *other])
    assert "  city=c0  cell 5  KeyError: 'x'" == lines[0]
    assert lines[1].startswith("    and 11 more the same: city=c1, city=c2")
    assert 12 == len(lines)
    assert "  ... 6 more" == lines[-1]


def test_long_messages_are_folded_under_their_beginning() -> None:
    """At most three lines, none wider than the terminal."""
    lines = text.failures([Failed("city=Cairo", 5, "word " * 100, None, 1)], 60)
    assert 3 == len(lines)
    assert lines[1].startswith(" " * 22 + "word")
    assert all(width(line) <= 60 for line in lines)


LATE = Failure("timeout", "no time left after 3 s (cell 2)", None, 2)
SLOW = Failure("timeout", "cell 2 took longer than 3 s", None, 2)


@pytest.mark.parametrize("error", [LATE, SLOW])
def test_a_cell_that_the_message_names_is_not_named_twice(error: Failure) -> None:
    """At the end, and in the line of an item that ended."""
    failed = Failed.of("n=1", error, None, 0)
    assert [f"  n=1  {error.message}"] == text.failures([failed])
    assert f"  failed  n=1  {error.message}  0:03" == picture.ended(
        "failed", "n=1", Outcome("failed", None, error, 3.0), 0, 0
    )


def test_a_cell_that_a_message_only_speaks_of_is_named() -> None:
    """What a notebook says of itself is no place."""
    error = Failure("error", "ValueError: nothing in cell 2", "ValueError", 2)
    assert ["  n=1  cell 2  ValueError: nothing in cell 2"] == text.failures([Failed.of("n=1", error, None, 0)])


@pytest.mark.parametrize(
    ("expected", "end"),
    [
        ("40 of 40 completed in 12:03", Ending("completed", 40, {"completed": 40}, "f", seconds=723)),
        (
            "40 of 40 completed in 0:03, 38 of them kept from before",
            Ending("completed", 40, {"completed": 40}, "f", seconds=3, kept=38),
        ),
        ("nothing to do: all 40 are done", Ending("completed", 40, {"completed": 40}, "f", ran=False)),
        ("nothing to do: it is done", Ending("completed", 1, {"completed": 1}, "f", ran=False)),
        (
            "stopped by Ctrl-C: 17 of 40 are done and kept, 23 have not run",
            Ending("interrupted", 40, {"completed": 17}, "f", "Ctrl-C"),
        ),
        (
            "cancelled: 17 of 40 are done and kept, 1 failed, 22 have not finished",
            Ending("interrupted", 40, {"completed": 17, "failed": 1, "cancelled": 22}, "f", "cancelled"),
        ),
        (
            "the disk is full: 17 of 40 are done and kept, 23 have not run",
            Ending("interrupted", 40, {"completed": 17}, "f", "disk full"),
        ),
        (
            "its process ended: 39 of 40 are done and kept, 1 has not finished",
            Ending("interrupted", 40, {"completed": 39}, "f", "its process ended", cut_off=1),
        ),
        ("paused: 39 of 40 are done and kept, 1 has not run", Ending("paused", 40, {"completed": 39}, "f")),
        (
            "1 of 40 failed, 17 are done and kept, 22 have not run",
            Ending("failed", 40, {"completed": 17, "failed": 1}, "f"),
        ),
        ("running: 17 of 40 are done, 1 failed, 22 to go", Ending("running", 40, {"completed": 17, "failed": 1}, "f")),
        ("0 of 0 completed in 0:00", Ending("completed", 0, {}, "f")),
    ],
)
def test_one_sentence_says_how_it_went(expected: str, end: Ending) -> None:
    """Each way to end has its own first line."""
    assert expected == ending(end)[0]


@pytest.mark.parametrize(
    ("expected", "end"),
    [
        ("  run the 23 left   nbflow resume f", Ending("failed", 40, {"completed": 17, "failed": 1}, "f")),
        (
            "  go on             nbflow resume 'my notebook.ipynb'",
            Ending("interrupted", 40, {"completed": 17}, "my notebook.ipynb", "Ctrl-C"),
        ),
        ("  make space, go on   nbflow resume f", Ending("interrupted", 40, {"completed": 17}, "f", "disk full")),
        (
            "  run it again      nbflow resume f --state-dir /x",
            Ending("failed", 2, {"completed": 1, "failed": 1}, "f", options="--state-dir /x"),
        ),
        (
            "  beyond --fail-fast   nbflow resume f --no-fail-fast",
            Ending("failed", 40, {"completed": 17, "failed": 1}, "f", limit="--fail-fast"),
        ),
        ("  stop it           nbflow cancel f", Ending("running", 2, {"completed": 1}, "f")),
    ],
)
def test_the_next_command_can_be_typed_as_it_stands(expected: str, end: Ending) -> None:
    """Quoted where a shell needs it, with the options that it needs."""
    assert expected in ending(end)


def test_a_completed_run_offers_its_table_only() -> None:
    """Nothing to resume, nothing to look up."""
    lines = ending(Ending("completed", 2, {"completed": 2}, "f"))
    assert ["  the whole table   nbflow results f -o results.csv"] == lines[2:]


def test_warnings_stand_above_the_verdict() -> None:
    """They are what nobody saw scroll by."""
    lines = ending(Ending("completed", 2, {"completed": 2}, "f", warnings=["model.pkl changed\ntwice"]))
    assert ["warning: model.pkl changed twice", "", "2 of 2 completed in 0:00"] == lines[:3]


def test_the_list_of_runs_keeps_their_ids_whole() -> None:
    """An id is there to be typed; the date goes first when there is no room."""
    run = RunLine("20261123-0301-7f3a", "forecast.ipynb", "interrupted", 17, 40, 1, 1.7e9, 12_300_000)
    lines = text.status_list([run], 79)
    assert ["20261123-0301-7f3a", "forecast.ipynb", "interrupted", "17/40", "1", "12.3", "MB"] == lines[1].split()
    assert "  no room for 1 of the columns: started" == lines[-1]
    assert "  no room for 2 of the columns: size, started" == text.status_list([run], 66)[-1]
    assert "started" in text.status_list([run], 120)[0]
    assert all(width(line) <= 79 for line in lines)
    assert ["no runs here"] == text.status_list([])


def test_the_status_of_one_run_shows_what_is_at_work() -> None:
    """Item, cell and heading of each task, then how far it is."""
    task = Active(("a",), "city=Lima", 3, 1, 100.0, 6, 11, "Fit the model")
    end = Ending("running", 40, {"completed": 17}, "forecast.ipynb", seconds=723)
    lines = text.status_one(
        Standing("20261123-0301-7f3a", "forecast.ipynb", 0.0, 138.0, end, "anna on host7", active=[task])
    )
    assert "forecast.ipynb  running" == lines[0]
    assert "  owner    anna on host7" in lines
    assert "  city=Lima  6/11  Fit the model  0:38" in lines
    assert "running: 17 of 40 are done, 23 to go" in lines


def test_a_dry_run_explains_each_item() -> None:
    """Who, whether, and why; then the sum."""
    lines = explain(
        [
            Planned(0, "city=Oslo", runs=False, reason="kept"),
            Planned(16, "city=Cairo", runs=True, reason="cell 5 changed"),
        ]
    )
    expected = [
        "  index  item              reason",
        "      0  city=Oslo         kept",
        "     16  city=Cairo  runs  cell 5 changed",
        "",
        "1 item would run, 1 is kept",
    ]
    assert expected == lines
    assert "nothing to do" == explain([Planned(0, "a", runs=False, reason="kept")])[-1]
    long = "failed, repeats load, clean, train (accuracy, model cannot be restored)"
    lines = explain([Planned(0, "a", runs=True, reason=long)], 60)
    assert ["  index  item        reason", "      0  a     runs  failed, repeats load, clean, train"] == lines[:2]
    assert long in " ".join(" ".join(lines).split())
