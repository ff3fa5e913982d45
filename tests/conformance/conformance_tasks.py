"""What the tasks of the conformance cases do: small functions, for ``call: conformance_tasks:NAME``."""

from __future__ import annotations

import os
import time
from pathlib import Path

ATTEMPT = [0]
"""The number of the attempt, where a simulated run tells it."""


class Hang(BaseException):
    """Told by a simulated run: this task does not come back by itself."""


def give(value=None):
    """Give the value."""
    return value


def collect(**values):
    """Give all that it is given."""
    return values


def add(a, b):
    """Give the sum."""
    return a + b


def fail(message="boom"):
    """Fail."""
    raise ValueError(message)


def fail_for(value, bad):
    """Fail for bad values; give the others."""
    if value in bad:
        raise ValueError(f"bad {value}")
    return value


def flaky(value=None, fails=1):
    """Fail in the first attempts."""
    if ATTEMPT[0] <= fails:
        raise ConnectionError(f"attempt {ATTEMPT[0]}")
    return value


def hang():
    """Never come back by itself."""
    raise Hang


def unsayable():
    """Give what no later step can be given."""
    return object()


def note(name, value=None, seconds=0.0):
    """Write down that it ran, outside of all that nbflow writes; then give the value."""
    with Path(os.environ["RAN"]).open("a") as ran:
        ran.write(f"{name}\n")
    time.sleep(seconds)
    return value


def note_and_fail_for(name, value, bad, seconds=0.0):
    """Write down that it ran, and fail for bad values."""
    note(name, seconds=seconds)
    return fail_for(value, bad)
