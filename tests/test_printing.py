"""What is kept of long texts: both ends, and how much is missing between them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nbflow.printing import PIECES, Ends, gap

CHUNKS = st.lists(st.text("ab\né✓", max_size=90), max_size=30)


@given(CHUNKS)
def test_a_text_keeps_its_beginning_and_its_end(chunks):
    """However it is cut: up to the limit all of it, above it both ends and a note between them."""
    ends, whole = Ends(400), "".join(chunks)
    for chunk in chunks:
        ends.feed(chunk)
    assert (len(whole) > 400) == ends.left_out
    if len(whole) <= 400:
        assert whole == ends.text
        return
    note = gap(len(whole) - 300)
    assert whole[:200] + note + whole[-100:] == ends.text
    assert 400 >= len(ends.text)


def test_a_text_that_comes_character_by_character_is_no_heap_of_pieces():
    """Programs that do not buffer print like this; a string object for each character would be large."""
    ends = Ends(10_000)
    for i in range(30_000):
        ends.feed(str(i % 10))
    assert PIECES >= len(ends._tail)
    assert ends.text.endswith("0123456789")


def test_the_note_is_never_longer_than_the_room_for_it():
    """The end is cut by that room, so the limit holds with the note."""
    assert 100 > max(len(gap(10**power)) for power in range(16))
