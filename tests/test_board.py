"""The live view's state and its pages: what they show of a run, and that they stay small and harmless."""

from __future__ import annotations

import json
import re
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbflow.events import (
    AttemptFailed,
    Bar,
    CellStarted,
    Event,
    FanOutOpened,
    GateAnswered,
    GateOpened,
    Moved,
    NodeFinished,
    NodeStarted,
    RunFinished,
    RunHeld,
    RunStarted,
    Warned,
)
from nbflow.model import Block
from nbflow.outcome import Failure, Outcome, completed
from nbflow.reporters import pages
from nbflow.reporters.board import COMPLETED, FAILED, Board, Line, Strip, Timeline, outline
from nbflow.reporters.judged import harmless, judged
from nbflow.reporters.png import data_uri
from nbflow.state import RunState
from nbflow.steps import GateStep, If
from nbflow.testing import FakeStep, fan_out, simulate
from tests.strategies import answering
from tests.test_engine_properties import made

MAP = (Line("map", "map", 0, "fan-out", items=True),)
TAGS = re.compile(r"<[^>]*>")


def words(html: str) -> str:
    """Give what a person reads."""
    return re.sub(r"\s+", " ", TAGS.sub(" ", html)).strip()


def of_map(*events: Event, total: int = 4) -> Board:
    """Give the board of a map after these events."""
    board = Board(MAP)
    for event in (RunStarted(100.0, "r", "fit.ipynb", 1, {}, 2), FanOutOpened(100.0, ("map",), total), *events):
        board.apply(event)
    return board


def began(n: int, at: float = 101.0) -> NodeStarted:
    return NodeStarted(at, (f"map:notebook:{n}",), str(n), 1, f"n={n}", n)


def ended(n: int, outcome: Outcome | None = None, at: float = 103.0) -> NodeFinished:
    given = outcome if outcome is not None else completed({"y": n})
    return NodeFinished(at, (f"map:notebook:{n}",), str(n), "f", given, f"n={n}", n)


def lost(message: str = "KeyError: 'rain'", cell: int = 5) -> Outcome:
    return Outcome("failed", error=Failure("error", message, "KeyError", cell, "Traceback\nKeyError: 'rain'"))


def test_a_strip_says_how_each_item_stands() -> None:
    board = of_map(began(0), began(1), ended(0), began(2), ended(1, lost()))
    assert bytes([2, 3, 1, 0]) == bytes(board.strips["map"].codes)
    assert "1 completed, 1 failed, 1 running" in pages.strip(board.strips["map"])


@given(st.lists(st.integers(0, 4), min_size=1, max_size=900), st.integers(1, 40))
def test_no_failure_is_lost_in_a_strip_of_many_items(codes: list[int], most: int) -> None:
    """Items together are shown as what a person should see: a failure before all else."""
    bins = Strip(bytearray(codes)).bins(most)
    assert len(bins) == min(most, len(codes))
    assert (FAILED in codes) == (FAILED in bins)
    assert (set(codes) == {COMPLETED}) == (set(bins) == {COMPLETED})


def test_equal_errors_are_one_group() -> None:
    board = of_map(*(ended(n, lost()) for n in range(8)), ended(8, lost("OSError: disk")), total=9)
    first, second = board.failures.values()
    assert (8, 1) == (first.count, second.count)
    said = words(pages.failures(board, {}, folded=False))
    assert "cell 5 KeyError: &#x27;rain&#x27;" in said
    assert "8 times: n=0, n=1, n=2, n=3, n=4, n=5, … 2 more" in said


def test_a_failure_links_to_its_notebook_and_folds_its_traceback() -> None:
    outcome = Outcome("failed", error=lost().error, notebook="3_n.failed.ipynb")
    board = of_map(ended(3, outcome))
    html = pages.failures(board, {"3_n.failed.ipynb": "nbflow-runs/a b.ipynb"}, folded=True)
    assert 'href="nbflow-runs/a b.ipynb"' in html
    assert "<details><summary>traceback</summary>" in html


def test_rows_show_what_tasks_are_at() -> None:
    """The cell, the heading, the bars of the cell, else the last line, and the time."""
    board = of_map(began(0), CellStarted(102.0, ("map:notebook:0",), 3, 11, "Fit <b>"))
    assert "n=0 cell 3/11 Fit &lt;b&gt; 0:09" in words(pages.running(board, 110.0))
    board.apply(Moved(103.0, ("map:notebook:0",), (Bar("epochs 3/12", 3, 12),)))
    html = pages.running(board, 110.0)
    assert '<progress value="3" max="12"' in html
    assert "epochs 3/12" in words(html)
    board.apply(CellStarted(104.0, ("map:notebook:0",), 4, 11, ""))
    assert "epochs" not in pages.running(board, 110.0), "another cell has other bars"


def test_the_head_says_how_far_it_is() -> None:
    board = of_map(began(0), ended(0, at=111.0), began(1, 111.0))
    assert "fit.ipynb running 1/4, 1 running 0:16" in words(pages.head(board, 116.0))
    board.apply(RunHeld(116.0, held=True))
    assert "fit.ipynb paused" in words(pages.head(board, 116.0))
    board.apply(RunHeld(117.0, held=False))
    assert "running" in words(pages.head(board, 116.0))


def test_results_are_sorted_as_a_person_wants() -> None:
    def y(value: Any) -> Outcome:
        return completed({"y": value, "name": f"é{value}"})

    board = of_map(ended(2, y(3)), ended(0, y(10)), ended(1, lost()))
    assert ["n=0", "n=1", "n=2"] == [row.label for row in board.rows()]
    assert ["n=2", "n=0", "n=1"] == [row.label for row in board.rows("y")]
    assert ["n=0", "n=2", "n=1"] == [row.label for row in board.rows("y", falling=True)]
    assert "n=1" == board.rows("status")[0].label
    assert ["y", "name"] == board.columns
    assert "n=0 10 é10 completed 0:00" in words(pages.results(board))


def test_results_of_different_kinds_are_sorted_by_their_text() -> None:
    board = of_map(ended(0, completed({"y": "b"})), ended(1, completed({"y": 1})), ended(2, completed({"y": None})))
    assert ["n=1", "n=2", "n=0"] == [row.label for row in board.rows("y")]


def test_a_timeline_stays_as_small_as_it_is() -> None:
    """A run of a week has as many moments as one of a minute; a failure is never painted over."""
    line = Timeline(began=0.0)
    for day in range(7):
        line.begin((str(day),), day * 86400.0)
        line.end((str(day),), (day + 0.9) * 86400.0, FAILED if day == 3 else COMPLETED)
    (lane,) = line.lanes(7 * 86400.0)
    assert len(lane) == 480
    assert FAILED + 1 in lane


def test_a_tree_shows_containers_and_what_is_in_them() -> None:
    inner = Block([FakeStep(id="one"), FakeStep(id="two")])
    holds: Any = None
    flow = Block(
        [
            FakeStep(id="load"),
            If(id="choose", condition=holds, then=inner, otherwise=Block([])),
            fan_out([1, 2], id="train", step=FakeStep(id="fit")),
        ]
    )
    lines = outline(flow)
    assert [("load", 0), ("choose", 0), ("choose/one", 1), ("choose/two", 1), ("train", 0)] == [
        (line.path, line.depth) for line in lines
    ]
    board = Board(lines)
    board.apply(RunStarted(1.0, "r", "flow.yml", 1, {}, 2))
    board.apply(NodeFinished(2.0, ("load",), "", "f", completed(), "load", None))
    board.apply(NodeStarted(2.0, ("choose", "one"), "", 1, "one", None))
    said = words(pages.tree(board, lines))
    assert "load completed choose running one running two waiting train waiting" == said


def test_gates_are_told_with_what_answers_them() -> None:
    board = Board(outline(Block([GateStep(id="review", message=FakeStep(id="x").parameters)])))
    board.apply(RunStarted(1.0, "r", "flow.yml", 1, {}, 2))
    asked = ("Publish <b>?", ("approve", "reject"), None, "review", None)
    board.apply(GateOpened(2.0, ("review",), "k", "f", *asked))
    board.apply(RunFinished(3.0, "paused"))
    html = pages.summary(board, "flow.yml", {}, 4.0)
    assert "Publish &lt;b&gt;?" in html
    assert "nbflow.answer(&quot;flow.yml&quot;, &quot;review&quot;, &quot;approve&quot;)" in html
    assert 'nbflow.answer("flow.yml", "review", "approve")  # or "reject"' in pages.plain(board, "flow.yml", 4.0)
    board.apply(GateAnswered(5.0, ("review",), "k", "f", "approve", "anna"))
    assert "nbflow.answer" not in pages.plain(board, "flow.yml", 5.0)


def test_a_log_tells_what_happened_newest_first() -> None:
    retried = AttemptFailed(102.0, ("map:notebook:0",), "0", 1, lost(), 0.0)
    board = of_map(began(0), retried, Warned(103.0, None, "disk is <full>"), ended(1))
    said = words(pages.log(board))
    assert said.index("completed n=1") < said.index("warning disk is &lt;full&gt;") < said.index("n=0 attempt 1")


@pytest.mark.parametrize("items", [2, 200, 20_000])
def test_no_region_grows_with_the_items(items: int) -> None:
    board = of_map(*(ended(n, lost(f"E: {n}") if n % 2 else None) for n in range(items)), total=items)
    regions = [
        pages.head(board, 1.0),
        pages.bar(board.progress),
        pages.tree(board, board.lines),
        pages.running(board, 1.0),
        pages.failures(board, {}, folded=False),
        pages.results(board),
        pages.timeline(board, 1.0),
        pages.log(board),
    ]
    assert max(map(len, regions)) < 8000
    assert len(pages.summary(board, "fit.ipynb", {}, 1.0)) < 16_000


@given(st.text(max_size=60), st.text(max_size=60))
def test_nothing_of_a_users_is_markup(name: str, message: str) -> None:
    board = Board(MAP)
    board.apply(RunStarted(1.0, "r", f"<i>{name}", 1, {}, 2))
    board.apply(FanOutOpened(1.0, ("map",), 2))
    board.apply(NodeStarted(1.0, ("map:notebook:1",), "1", 1, f"<i>{name}", 1))
    board.apply(NodeFinished(2.0, ("map:notebook:0",), "0", "", lost(f"<i>{message}"), f"<i>{name}", 0))
    board.apply(Warned(2.0, None, f"<i>{message}"))
    whole = pages.head(board, 2.0) + pages.running(board, 2.0) + pages.failures(board, {}, folded=True)
    whole += pages.results(board) + pages.log(board) + pages.summary(board, f"<i>{name}", {}, 2.0)
    assert "<i>" not in whole
    assert not re.search(r"<i [^s]", whole), "the only such tags are parts of the bar"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_a_view_that_joins_late_shows_the_same(seed: int) -> None:
    """A board that heard every event, and one that takes in the state they add up to, agree on all that counts."""
    flow, acts = made(Random(seed), steps=3, items=4)
    heard, state = Board(outline(flow.block)), RunState()
    events = [RunStarted(0.5, "r", "flow.yml", 1, {}, 2), *simulate(flow, answering(acts)).events]
    for event in events[: max(1, seed % (len(events) + 1))]:
        heard.apply(event)
        state.apply(event)
    joined = Board(outline(flow.block))
    joined.adopt(state)
    assert {path: bytes(strip.codes) for path, strip in heard.strips.items()} == {
        path: bytes(strip.codes) for path, strip in joined.strips.items()
    }
    assert heard.states == joined.states
    assert {key: group.count for key, group in heard.failures.items()} == {
        key: group.count for key, group in joined.failures.items()
    }
    assert set(heard.ended) == set(joined.ended)
    assert pages.bar(heard.progress) == pages.bar(joined.progress)


def test_a_picture_is_a_png_that_others_read() -> None:
    image = pytest.importorskip("PIL.Image")
    import base64
    import io

    address = data_uri([b"\x00\x01\x02"], [(255, 0, 0, 255), (0, 255, 0, 255), (0, 0, 0, 0)])
    read = image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGBA")
    assert (3, 1) == read.size
    assert [(255, 0, 0, 255), (0, 255, 0, 255), (0, 0, 0, 0)] == [read.getpixel((x, 0)) for x in range(3)]


def test_what_is_to_be_judged_is_shown_and_can_do_nothing(tmp_path: Any) -> None:
    table = '<table class="dataframe" onclick="x()"><tr><th>city</th></tr></table><script>alert(1)</script>'
    data = {"text/html": [table], "text/plain": ["city"]}
    outputs = [
        {"output_type": "stream", "text": ["rmse <b>1.8\n"]},
        {"output_type": "execute_result", "data": data},
        {"output_type": "display_data", "data": {"image/png": "aGVsbG8=\n"}},
        {"output_type": "display_data", "data": {"image/png": '"><script>'}},
    ]
    cells = [
        {"cell_type": "markdown", "source": "# Draft"},
        {"cell_type": "code", "source": "secret", "outputs": outputs},
    ]
    (tmp_path / "draft.ipynb").write_text(json.dumps({"cells": cells}))
    html = judged(tmp_path / "draft.ipynb")
    assert "<table><tr><th>city</th></tr></table>" in html
    assert "rmse &lt;b&gt;1.8" in html
    assert 'src="data:image/png;base64,aGVsbG8="' in html
    assert "secret" not in html, "the code is not what is judged"
    assert "script" not in html
    (tmp_path / "draft.ipynb").write_text("[]")
    assert "no notebook" in judged(tmp_path / "draft.ipynb")
    (tmp_path / "draft.txt").write_text("a <i>line")
    assert "<pre>a &lt;i&gt;line</pre>" in judged(tmp_path / "draft.txt")


@given(st.text("<>/= \"'abtdrscriptonimg!-", max_size=80))
def test_no_markup_that_acts_survives(html: str) -> None:
    left = re.findall(r"<[^>]*>", harmless(html))
    assert all(re.fullmatch(r"</?[a-z][a-z0-9]*( (col|row)span=\"\d+\")*>", tag) for tag in left)
    assert not any(tag.startswith(("<script", "<img")) for tag in left)
