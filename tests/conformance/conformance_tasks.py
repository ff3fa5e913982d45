"""What the tasks of the conformance cases do: small functions, for ``call: conformance_tasks:NAME``."""

from __future__ import annotations

import functools
import os
import time
from pathlib import Path

ATTEMPT = [0]
"""The number of the attempt, where a simulated run tells it."""


class Hang(BaseException):
    """Told by a simulated run: this task does not come back by itself."""


def task(function):
    """Make a function that takes a while and writes down that it ran, where a real run wants it."""

    @functools.wraps(function)
    def working(**arguments):
        if pause := os.environ.get("PAUSE"):
            with Path(os.environ["RAN"]).open("a") as ran:
                ran.write(f"{function.__name__} {arguments!r}\n")
            time.sleep(float(pause))
        return function(**arguments)

    return working


@task
def give(value=None):
    """Give the value."""
    return value


@task
def collect(**values):
    """Give all that it is given."""
    return values


@task
def add(a, b):
    """Give the sum."""
    return a + b


@task
def fail(message="boom"):
    """Fail."""
    raise ValueError(message)


@task
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
