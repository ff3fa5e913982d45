"""Which items wrote the same file while both were at work."""

from __future__ import annotations

from nbflow.overlaps import Overlaps

A, B, C = ("map:item:0",), ("map:item:1",), ("map:item:2",)


def test_items_one_after_the_other_may_write_the_same_file() -> None:
    """Nothing overlapped."""
    overlaps = Overlaps()
    told = []
    for node in (A, B, C):
        overlaps.started(node)
        told += overlaps.finished(node, str(node), ("model.pkl",))
    assert [] == told


def test_two_items_at_once_are_told_of_once_for_each_file() -> None:
    """Two files, two warnings, each with both names."""
    overlaps = Overlaps("cwd: item")
    overlaps.started(A)
    overlaps.started(B)
    assert [] == overlaps.finished(A, "Oslo", ("b.csv", "a.csv"))
    told = overlaps.finished(B, "Lima", ("a.csv", "b.csv", "c.csv"))
    assert ["Oslo and Lima both wrote a.csv", "Oslo and Lima both wrote b.csv"] == [
        one.partition(":")[0] for one in told
    ]


def test_an_item_that_overlapped_with_one_that_ended_long_ago_is_told_of() -> None:
    """The straggler began first and ends last."""
    overlaps = Overlaps()
    overlaps.started(A)
    overlaps.started(B)
    assert [] == overlaps.finished(B, "Lima", ("model.pkl",))
    overlaps.started(C)
    assert [] == overlaps.finished(C, "Cairo", ())
    assert 1 == len(overlaps.finished(A, "Oslo", ("model.pkl",)))


def test_a_file_is_told_of_once_in_a_run() -> None:
    """Forty items that write model.pkl give one warning."""
    overlaps = Overlaps()
    nodes = [(f"map:item:{index}",) for index in range(40)]
    for node in nodes:
        overlaps.started(node)
    assert 1 == sum(len(overlaps.finished(node, str(node), ("model.pkl",))) for node in nodes)


def test_nothing_is_remembered_longer_than_it_is_needed() -> None:
    """A hundred thousand items leave no memory behind."""
    overlaps = Overlaps()
    for index in range(100):
        overlaps.started((str(index),))
        overlaps.finished((str(index),), "x", (f"{index}.csv",))
    assert ({}, {}) == (overlaps._active, overlaps._wrote)
