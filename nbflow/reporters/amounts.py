"""Seconds, bytes and counts, as people write them."""

from __future__ import annotations

import math


def duration(seconds: float) -> str:
    """Give seconds as people write them.

    Examples
    --------
    >>> duration(41.3), duration(185), duration(3723)
    ('0:41', '3:05', '1:02:03')
    """
    if not math.isfinite(seconds):
        return "-"
    whole = max(0, math.floor(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(count: int) -> str:
    """Give bytes as people write them.

    Examples
    --------
    >>> size(512), size(12_345_678)
    ('512 B', '12.3 MB')
    """
    if count < 1000:
        return f"{count} B"
    value, units = float(count), iter(("kB", "MB", "GB", "TB", "PB"))
    unit = ""
    while value >= 999.95 and (following := next(units, "")):
        value, unit = value / 1000, following
    return f"{value:.1f} {unit}"


def count_of(number: int, noun: str) -> str:
    """Give ``1 item`` or ``40 items``.

    Examples
    --------
    >>> count_of(1, "item"), count_of(1200, "item")
    ('1 item', '1,200 items')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
