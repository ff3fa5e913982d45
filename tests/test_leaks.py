"""Nothing stays behind in a process that has run notebooks: no thread, descriptor, kernel, file, socket, handler."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import pytest

SCRIPT = """\
import gc, json, os, signal, sys, tempfile, threading, time
import psutil
import nbflow

def left():
    gc.collect()
    me = psutil.Process()
    return {
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "system threads": me.num_threads(),
        "descriptors": len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0,
        "processes": [child.name() for child in me.children(recursive=True)],
        "files": sorted(os.listdir(tempfile.gettempdir())),
        "signals": [str(signal.getsignal(which)) for which in (signal.SIGINT, signal.SIGTERM)],
    }

def settled(wanted):
    end = time.monotonic() + 20
    while (now := left()) != wanted and time.monotonic() < end:
        time.sleep(0.1)
    return now

turns = int(sys.argv[1])
nbflow.map("work.ipynb", grid={"n": [-1, 3]}, max_concurrency=2, quiet=True)
time.sleep(3)  # what is imported and recorded once is done then
before = left()
for turn in range(turns):
    grid = {"n": [4 * turn + k for k in range(4)]}
    options = {"quiet": turn % 2 == 0, "cwd": "item" if turn % 2 else "notebook", "on_event": lambda event: None}
    run = nbflow.map("work.ipynb", grid=grid, max_concurrency=2, **options)
    assert len(run.outcomes) == 4
print(json.dumps([before, settled(before)]))
"""


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="descriptors are counted in /proc")
@pytest.mark.long
@pytest.mark.parametrize("turns", [2, 15])
def test_notebooks_leave_nothing_behind(turns, notebook, ran, cli, monkeypatch):
    """Four items a turn, one of which fails or is its kernel's death: 8, or 60, notebooks in one process."""
    notebook(ran.cell, "assert n != 3", "if n == 6: os._exit(3)")
    place = tempfile.mkdtemp(prefix="nbf-leaks-", dir="/tmp")  # a folder of its own, short enough for sockets
    monkeypatch.setenv("TMPDIR", place)
    try:
        process = cli.start(turns, program=("-c", SCRIPT))
        out, err = process.communicate(timeout=280)
        assert 0 == process.returncode, err
        before, after = json.loads(out)
        assert 4 * turns + 2 == len(ran.lines())
        assert before == after
        assert [] == after["processes"]
        assert [] == after["files"]
        assert [] == ran.kernels()
    finally:
        shutil.rmtree(place)
