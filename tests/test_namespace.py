"""Names on their way from step to step: whose value a later step finds, and what is repeated for one that is lost."""

from __future__ import annotations

from nbflow.namespace import Entry, Past, Piece


def piece(name: str, *behind: str, reads: str = "", assigns: str = "") -> Piece:
    """Give a step that waits for others."""
    return Piece(name, f"a.ipynb#step:{name}", frozenset(reads.split()), frozenset(assigns.split()), frozenset(behind))


def saved(stem: str, *, changed: bool = True, **more: object) -> Entry:
    """Give where a value is saved."""
    entry: Entry = {"form": "json", "stem": stem, **more}  # type: ignore[dict-item]
    return {**entry, "changed": True} if changed else entry


LOST: Entry = {"unsaved": "is a generator", "changed": True}


def test_the_last_step_that_changed_a_name_gives_it():
    """A step that only saved it first, because somebody else could not have, gives nothing new."""
    pieces = (piece("a"), piece("b", "a"), piece("c", "a", "b"))
    past = Past(pieces, {"a": {"x": saved("1")}, "b": {"x": saved("2")}, "c": {"x": saved("2", changed=False)}})
    found = past.find("x")
    assert found is not None
    assert ("b", "2") == (found[0].id, found[1]["stem"])
    assert past.find("y") is None


def test_what_steps_side_by_side_have_changed_is_nobodys():
    """Unless it is the same, or a later one has settled it."""
    pieces = (piece("a"), piece("b", "a"), piece("c", "a"))
    past = Past(pieces, {"a": {"x": saved("1")}, "b": {"x": saved("2")}, "c": {"x": saved("3")}})
    assert past.find("x") is None
    assert {"x": ("b", "c")} == past.unclear(["x"])
    same = Past(pieces, {"a": {"x": saved("1")}, "b": {"x": saved("2")}, "c": {"x": saved("2")}})
    assert same.find("x") is not None
    settled = Past((*pieces, piece("d", "a", "b", "c")), {**past.left, "d": {"x": saved("4")}})
    assert {} == settled.unclear(["x"])


def test_names_come_with_those_that_their_functions_use_and_that_share_objects():
    past = Past(
        (piece("a"),),
        {
            "a": {
                "f": saved("1", needs=["g"]),
                "g": saved("2", needs=["k"]),
                "k": saved("3", shares=["l"]),
                "l": saved("4"),
                "z": saved("5"),
            }
        },
    )
    assert {"f", "g", "k", "l"} == past.wanted(["f"]).keys()
    assert {"f", "g", "k", "l", "z"} == past.wanted(None).keys()


def test_all_who_changed_what_a_lost_name_shares_are_repeated_with_it():
    """Not only the last of them: the one before has changed the same object."""
    lost: Entry = {**LOST, "shares": ["lamp"]}
    pieces = (piece("a"), piece("b", "a"), piece("c", "a", "b"), piece("d", "a", "b", "c"))
    left = {"a": {"shop": lost, "lamp": saved("1")}, "b": {"lamp": saved("2")}, "c": {"lamp": saved("3")}}
    assert ["a", "b", "c"] == [one.id for one in Past(pieces, left).repeated(["shop"])]
    left["b"] = {"lamp": saved("1", changed=False)}
    assert ["a", "c"] == [one.id for one in Past(pieces, left).repeated(["shop"])]


def test_who_changed_an_object_is_repeated_with_who_named_it():
    """Where somebody else has saved it, say: the name alone would be what it was before the change."""
    pieces = (piece("a"), piece("p", "a"), piece("q", "a"), piece("r", "a", "p", "q"))
    left = {
        "a": {"x": saved("1", id="T")},
        "p": {"x": saved("2", id="T")},
        "q": {"x": saved("0"), "z": saved("1", id="T", same=True)},
    }
    assert {"p", "q"} == {one.id for one in Past(pieces, left).repeated(["z"])}


def test_a_lost_name_is_repeated_from_where_it_was_made():
    """With all that changed it since, and with what those need that is lost, too; others are left alone."""
    pieces = (
        piece("open", assigns="file"),
        piece("idle", "open", assigns="other"),
        piece("read", "open", "idle", reads="file", assigns="lines"),
        piece("skip", "open", "idle", "read", reads="other"),
    )
    past = Past(pieces, {"open": {"file": LOST}, "idle": {"other": saved("1")}, "read": {"lines": LOST, "file": LOST}})
    assert ["open", "read"] == [one.id for one in past.repeated(["lines"])]
    assert [] == [one.id for one in past.repeated(["other"])][1:]
