"""Mistakes in definitions, in our words: what pydantic finds, with a place and a remedy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from .errors import did_you_mean

__all__ = ["Place", "path_text", "place_of", "words"]

Place: TypeAlias = tuple[str | int, ...]
"""Keys and places on the way to a part of a definition."""


def path_text(place: Place) -> str:
    """Give a path as people read it.

    Examples
    --------
    >>> path_text(("steps", 2, "step", "parameters", "learning rate"))
    "steps[2].step.parameters['learning rate']"
    """
    text = ""
    for part in place:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.isidentifier():
            text += f".{part}" if text else part
        else:
            text += f"[{part!r}]"
    return text


def place_of(error: Any) -> Place:
    """Give the path of an error."""
    place: Place = ()
    for part in error["loc"]:
        if part == "[key]":
            continue
        place = (*place, part)
    return place


_KINDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "finite_number": "a finite number",
}


def words(error: Any, keys: Sequence[str]) -> tuple[str, str]:
    """Give what is wrong, and a remedy.

    Parameters
    ----------
    error : mapping
        What pydantic says of one part.
    keys : sequence of str
        The keys that stand beside it.
    """
    kind, context = error["type"], error.get("ctx", {})
    place = error["loc"]
    value = error.get("input")
    if kind == "nbflow":
        return str(error["msg"]), ""
    if kind == "missing":
        return "is missing", ""
    if kind == "model_type" and place[-2:-1] == ("options",):
        shown = value if isinstance(value, str) else "NAME"
        remedy = f"Write it so: {{name: {shown}, outcome: approve}} (or reject)"
        return f"is {_shown(value)}, but it is a mapping", remedy
    if kind == "extra_forbidden":
        near = did_you_mean(str(place[-1]), list(keys))
        return f"is no key here.{near}", f"There are: {', '.join(keys)}." if keys and not near else ""
    if kind == "literal_error":
        choices = str(context["expected"]).replace("'", "")
        near = did_you_mean(value, choices.replace(" or ", ", ").split(", ")) if isinstance(value, str) else ""
        return f"is {_shown(value)}, but it is {choices}.{near}", ""
    if kind in _KINDS:
        quote = f"Quote it: '{value}'" if kind == "string_type" and isinstance(value, (int, float)) else ""
        return f"is {_shown(value)}, but it is {_KINDS[kind]}", quote
    if kind in ("greater_than_equal", "greater_than"):
        bound = context.get("ge", context.get("gt"))
        return f"is {_shown(value)}, but it is at least {bound}", ""
    if kind == "too_short":
        return "is empty", ""
    return f"is {_shown(value)}: {error['msg']}", ""


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    if isinstance(value, (dict, list)):
        return "a mapping" if isinstance(value, dict) else "a list"
    return f"{value!r:.60}"
