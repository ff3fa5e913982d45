"""Masking of secrets in text, in JSON, and in streams that come in chunks."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from nbflow.masking import MASK, Masker


def test_short_values_are_left_alone():
    """A secret ``1`` would make every text unreadable."""
    assert "12345 is 5" == Masker(["12345"]).text("12345 is 5")


def test_a_secret_inside_a_longer_one_disappears_with_it():
    """The longest is replaced first, in whatever order they were given."""
    assert f"<{MASK}>" == Masker(["secret", "secret-key"]).text("<secret-key>")


def test_each_line_of_a_secret_is_masked_by_itself():
    """An error is told by its first line, a log by one line after the other."""
    key = Masker(["-----BEGIN KEY-----\nMIIEvQIBADAN\nend\n"])
    assert f"bad key: {MASK}" == key.text("bad key: MIIEvQIBADAN")
    assert f"<{MASK}>" == key.text("<-----BEGIN KEY-----\nMIIEvQIBADAN\nend\n>")


def test_names_that_are_not_set_are_passed_over():
    """There is nothing to mask then."""
    assert not Masker.of_environment(["ABSENT"], {})


def test_a_secret_is_found_in_json_however_it_is_escaped():
    """Quotes, newlines and other alphabets, with and without ASCII escapes."""
    secret = 'pass"wört\n✓'
    for ascii_only in (True, False):
        text = Masker([secret]).json(json.dumps({"a": [f"x{secret}y"]}, ensure_ascii=ascii_only))
        assert {"a": [f"x{MASK}y"]} == json.loads(text)


@given(st.lists(st.sampled_from(["s3cret!", "s3c", "ret!", "s3cret", "a", "\n"]), max_size=12), st.data())
def test_a_stream_is_masked_as_its_whole_text_is(parts, data):
    """Wherever the text is cut, the pieces together are the masked text, and nothing waits longer than needed."""
    whole, done = "".join(parts), ""
    stream, rest = Masker(["s3cret!"]).stream(), whole
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        done += stream.feed(rest[:size])
        rest = rest[size:]
    assert Masker(["s3cret!"]).text(whole) == done + stream.rest()


def test_what_cannot_begin_a_secret_is_given_at_once():
    """A live log does not lag."""
    stream = Masker(["s3cret!"]).stream()
    assert "hello " == stream.feed("hello s3c"[:6])
    assert "plain\n" == stream.feed("plain\n")
