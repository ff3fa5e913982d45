"""Sizes of memory as people write them: ``500MB``, ``1.5GiB``, ``2000000000``, and ``80%`` of a whole."""

from __future__ import annotations

import math
import re

from .errors import ParameterError

__all__ = ["about", "size", "size_or_share"]

_UNITS = {
    "": 1,
    "b": 1,
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgt", 1)},
    **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", 1)},
}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([a-z]*|%)")


def size(text: str | float, name: str = "the size") -> int:
    """Give the bytes of a size.

    Parameters
    ----------
    text : str or float
        A number of bytes, or a number with ``B kB MB GB TB`` (1000 each) or ``KiB MiB GiB TiB`` (1024 each).
    name : str, optional
        What it is the size of, for the error message.

    Raises
    ------
    ParameterError
        If it is no size, or less than a byte.

    Examples
    --------
    >>> size("500MB"), size("1.5 GiB"), size(2048)
    (500000000, 1610612736, 2048)
    """
    number, unit = _parts(text)
    value = number * _UNITS.get(unit, math.nan)
    if math.isfinite(value) and value >= 1:
        return int(value)
    raise ParameterError(
        f"{name} is {text!r:.60}, which is no size.", "Write a number with MB, GB, MiB or GiB behind it: 500MB, 1.5GiB."
    )


def size_or_share(text: str | float, whole: int, name: str = "the size") -> int:
    """Give the bytes of a size, or of a share of a whole.

    Parameters
    ----------
    text : str or float
        What :func:`size` takes, or a share such as ``80%``.
    whole : int
        The bytes of which it is a share.
    name : str, optional
        What it is the size of, for the error message.

    Raises
    ------
    ParameterError
        If it is neither, or a share below 0 or above 100 %.

    Examples
    --------
    >>> size_or_share("80%", 16_000), size_or_share("2kB", 16_000)
    (12800, 2000)
    """
    number, unit = _parts(text)
    if unit != "%":
        return size(text, name)
    if 0 < number <= 100:
        return max(1, int(whole * number / 100))
    raise ParameterError(f"{name} is {text!r:.60}, which is no share.", "Write a share above 0% and up to 100%: 80%.")


def about(number: int) -> str:
    """Give a number of bytes for people.

    Examples
    --------
    >>> about(7_812_000_000), about(250_000_000), about(42_150)
    ('7.8 GB', '250 MB', '42 kB')
    """
    if number >= 1e9:
        return f"{number / 1e9:.1f} GB"
    return f"{number / 1e6:.0f} MB" if number >= 1e6 else f"{number / 1e3:.0f} kB"


def _parts(text: object) -> tuple[float, str]:
    """Give the number and its unit, in lower case; not a number where it is none."""
    if isinstance(text, str):
        found = _SIZE.fullmatch(text.strip().lower())
        return (float(found[1]), found[2]) if found is not None else (math.nan, "")
    if isinstance(text, bool) or not isinstance(text, (int, float)):
        return math.nan, ""
    try:
        return float(text), ""
    except OverflowError:
        return math.nan, ""
