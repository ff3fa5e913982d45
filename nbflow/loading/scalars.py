"""Scalars: text becomes values by the core schema of YAML 1.2, where ``NO`` and ``12:30`` stay text."""

from __future__ import annotations

import math
import re

from ..durations import seconds
from ..values import Value

__all__ = ["Quoted", "core", "plain", "seconds"]

_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_OTHER = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


class Quoted(str):
    """Text that stood in quotes, and so is text where a type is open."""

    __slots__ = ()


def plain(text: str) -> Value:
    """Give the value of a plain scalar; whatever is no number, boolean or null is text.

    Numbers with leading zeros are codes, and stay text.

    Examples
    --------
    >>> [plain(text) for text in ("NO", "0150", "12:30", "1e-3", "0x1F", "~")]
    ['NO', '0150', '12:30', 0.001, 31, None]
    """
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    try:
        if _INT.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text):
            number = float(text)
            return number if math.isfinite(number) else text  # 1e999 is no infinity that anybody asked for
        if _OTHER.fullmatch(text):
            return int(text, 0) if text[:2] in ("0o", "0x") else float(text.replace(".", "", 1))
    except ValueError:  # more digits than Python reads
        return text
    return text


def core(text: str) -> Value:
    """Give the value of text that nobody has given a type: a scalar, or a list or mapping in brackets.

    Raises
    ------
    ParameterError
        If it begins like a list, a mapping or quoted text, and is none.

    Examples
    --------
    >>> core("[64, x]"), core("{a: 1}"), core("'5'"), core("Note: this")
    ([64, 'x'], {'a': 1}, '5', 'Note: this')
    """
    stripped = text.strip()
    if stripped[:1] not in tuple("[{\"'"):
        return plain(stripped) if len(stripped) < 5000 else text
    from .documents import in_brackets  # PyYAML is loaded for those who have something for it

    return in_brackets(text)
