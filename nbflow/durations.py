"""Durations as people write them: ``30m``, ``1h30m``, ``500ms``, ``90``."""

from __future__ import annotations

import math
import re

from .errors import ParameterError

__all__ = ["about", "seconds"]

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(ms|s|m|h|d)\s*")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+")


def seconds(text: str | float, name: str = "the time") -> float:
    """Give the seconds of a duration.

    Parameters
    ----------
    text : str or float
        A number of seconds, or numbers with ``ms s m h d``, the largest first.
    name : str, optional
        What it is the duration of, for the error message.

    Returns
    -------
    float
        Seconds, above zero and finite.

    Raises
    ------
    ParameterError
        If it is no duration, or not above zero.

    Examples
    --------
    >>> seconds("30m"), seconds("1h30m"), seconds("500ms"), seconds(90)
    (1800.0, 5400.0, 0.5, 90.0)
    """
    value = _number(text) if not isinstance(text, str) else _spelled(text.strip())
    if math.isfinite(value) and value > 0:
        return value
    raise ParameterError(
        f"{name} is {text!r}, which is no time above zero.",
        "Write a number with ms, s, m, h or d behind it: 30s, 30m, 1h30m.",
    )


def about(seconds: float) -> str:
    """Give a duration in seconds, as exactly as people want it.

    Examples
    --------
    >>> about(1800.2), about(0.25)
    ('1800 s', '0.25 s')
    """
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def _spelled(text: str) -> float:
    if _NUMBER.fullmatch(text):
        return float(text)
    total, at, smallest = 0.0, 0, math.inf
    while at < len(text):
        part = _PART.match(text, at)
        if part is None or _UNITS[part[2]] >= smallest:
            return math.nan
        smallest = _UNITS[part[2]]
        total += float(part[1]) * smallest
        at = part.end()
    return total if at else math.nan
