"""Memory of kernels with pandas and matplotlib that wait for work: forked from a template beside started ones.

python benchmarks/warm_memory.py [--json FILE]

What a process has for itself: its private pages, after a first cell has imported both (USS of ``smaps_rollup``).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
from pathlib import Path

from measure import finish, table

from nbflow.kernels import Kernel, LocalKernels

BOUND = 25.0
"""Megabytes that a forked kernel may have for itself."""

PRELOAD = ("pandas", "matplotlib.pyplot")
CELL = "import pandas as pd\nimport matplotlib.pyplot as plt"


def private(pid: int) -> float:
    """Give the megabytes that are a process's own."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text("utf-8").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


async def waiting(kernels: LocalKernels, preload: tuple[str, ...] | None) -> Kernel:
    """Start a kernel that has imported both, and waits."""
    kernel = await kernels.launch("python3", cwd=Path("/"), env=os.environ, heard=str, preload=preload)
    await kernel.ready()
    reply = await kernel.client.execute(CELL, reply=True)
    assert reply["content"]["status"] == "ok", reply
    return kernel


async def measured(count: int) -> dict[str, list[float]]:
    """Give the megabytes of so many kernels of each kind that wait at the same time, and of the template."""
    found: dict[str, list[float]] = {}
    kernels = LocalKernels()
    try:
        await (await waiting(kernels, PRELOAD)).close()  # the template learns from the first what kernels import late
        for kind, preload in (("forked", PRELOAD), ("started", None)):
            some = [await waiting(kernels, preload) for _ in range(count)]
            found[kind] = [private(kernel.manager.provisioner.process.pid) for kernel in some]
            if kind == "forked":
                found["template"] = [private(pid) for pid in kernels._templates.pids()]  # noqa: SLF001 - nobody else asks
            for kernel in some:
                await kernel.close()
    finally:
        kernels.close()
    return found


def main() -> int:
    """Measure, print, and give the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kernels", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if not Path("/proc/self/smaps_rollup").exists():
        print("not measured: this system does not tell what is a process's own", file=sys.stderr)
        return 0
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="t") as folder:
        os.environ.update(IPYTHONDIR=f"{folder}/ipython", XDG_CACHE_HOME=f"{folder}/cache")
        found = asyncio.run(measured(options.kernels))
    rows = [[kind, f"{statistics.median(each):.1f}", f"{max(each):.1f}"] for kind, each in found.items()]
    most = max(found["forked"])
    misses = [f"a forked kernel has {most:.1f} MB for itself, at most {BOUND:g} wanted"] if most > BOUND else []
    header = [f"{options.kernels} kernels that wait", "MB each", "at most"]
    return finish("Memory of kernels", table(header, rows), found, misses, options.json)


if __name__ == "__main__":
    sys.exit(main())
