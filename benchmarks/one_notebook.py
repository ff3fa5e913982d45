"""One notebook as a whole command: `nbflow map` beside `papermill`, each in a fresh process.

python benchmarks/one_notebook.py [--json FILE]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from cold_kernels import CELLS, quiet_kernels, write
from measure import finish, in_turn, seconds, table

BOUND = 0.4
NBFLOW = ["nbflow", "map", "tiny.ipynb", "-p", "n=1"]
PAPERMILL = ["papermill", "tiny.ipynb", "out.ipynb", "-p", "n", "1"]


def command(words: list[str], folder: Path) -> float:
    """Give the seconds of a command, from its start to its end; one that fails ends the benchmark."""

    def run() -> None:
        subprocess.run(
            [sys.executable, "-m", *words],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    return seconds(run)


def main() -> int:
    """Measure, print, and give the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        quiet_kernels(folder)
        write(folder, "tiny", CELLS["tiny"])

        def ours() -> float:
            return command(NBFLOW, folder)

        def theirs() -> float:
            return command(PAPERMILL, folder)

        in_turn(ours, theirs, 1)  # compiled files, and those of libraries, are there from now on
        pairs = in_turn(ours, theirs, options.rounds)
    nbflow, papermill = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = nbflow / papermill
    rows = [[f"pair {i}", f"{a:.2f} s", f"{b:.2f} s", f"{a / b:.3f}"] for i, (a, b) in enumerate(pairs, 1)]
    rows.append(["**medians**", f"{nbflow:.2f} s", f"{papermill:.2f} s", f"**{ratio:.3f}**"])
    misses = [f"{ratio:.3f} of papermill's time, at most {BOUND} wanted"] if ratio > BOUND else []
    figures = {"pairs": pairs, "nbflow": nbflow, "papermill": papermill, "ratio": ratio}
    header = ["one notebook, whole command", "nbflow", "papermill", "ratio"]
    return finish("One notebook", table(header, rows), figures, misses, options.json)


if __name__ == "__main__":
    sys.exit(main())
