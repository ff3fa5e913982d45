"""Saving names and giving them back, beside what numpy, pandas and pickle take for it: on disk, and in the cache."""

from __future__ import annotations

import argparse
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import cloudpickle
import measure
import numpy as np
import pandas as pd

from nbflow.notebooks.snapshot.shelf import Shelf

ROUNDS = 5
BOUND = {"8 arrays, 1 GB": 1.5}
"""Arrays may take so many times what numpy takes to write and read them, the disk included on both sides (fsync)."""
CLOUDPICKLE = str(Path(cloudpickle.__file__).parent)


def arrays(megabytes: int) -> dict[str, object]:
    """Eight arrays, a gigabyte together."""
    count = megabytes * 1_000_000 // 64
    return {f"a{number}": np.random.default_rng(number).random(count) for number in range(8)}


def frame(megabytes: int) -> dict[str, object]:
    """A frame of eight columns of numbers."""
    rows = megabytes * 1_000_000 // 64
    columns = {f"c{number}": np.random.default_rng(number).random(rows) for number in range(8)}
    return {"frame": pd.DataFrame(columns)}


def numbers(count: int) -> dict[str, object]:
    """A list of whole numbers, and nothing else."""
    return {"numbers": list(range(count))}


def by_numpy(names: dict[str, object], folder: Path) -> None:
    """np.save and np.load."""
    for name, value in names.items():
        np.save(folder / f"{name}.npy", value)
    for name in names:
        np.load(folder / f"{name}.npy")


def by_pandas(names: dict[str, object], folder: Path) -> None:
    """to_parquet and read_parquet."""
    for name, value in names.items():
        value.to_parquet(folder / f"{name}.parquet")
        pd.read_parquet(folder / f"{name}.parquet")


def by_pickle(names: dict[str, object], folder: Path) -> None:
    """pickle.dump and pickle.load."""
    for name, value in names.items():
        with (folder / name).open("wb") as file:
            pickle.dump(value, file, 5)
        with (folder / name).open("rb") as file:
            pickle.load(file)


def by_nbflow(names: dict[str, object], folder: Path) -> None:
    """Shelf.save in one kernel and Shelf.restore in another."""
    found = Shelf(dict(names), str(folder), CLOUDPICKLE).save(list(names), most=1e12, seconds=600)
    back: dict[str, object] = {}
    answer = Shelf(back, str(folder), CLOUDPICKLE).restore(found["names"])
    assert back.keys() == names.keys(), answer


def timed(work: Callable[[dict[str, object], Path], None], names: dict[str, object], *, sync: bool) -> float:
    """Give the seconds of one round in a new folder."""
    folder = Path(tempfile.mkdtemp(prefix="nbflow-names-"))
    try:
        return measure.seconds(lambda: (work(names, folder), _sync(folder) if sync else None))
    finally:
        shutil.rmtree(folder)


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)


def main() -> int:
    """Measure, print and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the size")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    part = 10 if chosen.quick else 1
    kinds = [
        ("8 arrays, 1 GB", arrays(1024 // part), by_numpy),
        ("a frame, 500 MB", frame(500 // part), by_pandas),
        ("a list of 1e6", numbers(1_000_000 // part), by_pickle),
    ]
    rows, figures = [], {}
    for sync in (True, False):
        for what, names, other in kinds:
            pairs = measure.in_turn(
                lambda names=names, sync=sync: timed(by_nbflow, names, sync=sync),
                lambda names=names, sync=sync, other=other: timed(other, names, sync=sync),
                ROUNDS,
            )
            what = what + ("" if sync else ", in memory")
            figures[what] = measure.median_ratio(pairs)
            best = [min(pair[side] for pair in pairs) for side in (0, 1)]
            rows.append([what, f"{best[0]:.2f}", f"{best[1]:.2f}", f"{figures[what]:.2f}"])
    text = measure.table(["names", "nbflow s", other_name(), "ratio"], rows)
    misses = [f"{what}: {ratio:.2f}" for what, ratio in figures.items() if what in BOUND and ratio > BOUND[what]]
    return measure.finish("Names", text, figures, misses, chosen.json)


def other_name() -> str:
    """What the other side is called in the table."""
    return "library s"


if __name__ == "__main__":
    raise SystemExit(main())
