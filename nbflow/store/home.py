"""Homes: where the runs of one notebook or workflow live, and how a run is found again."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from ..errors import StoreError, TargetError, did_you_mean
from .files import write_atomically
from .names import check_run_id, is_run_id, slug

RUNS = "nbflow-runs"
"""Visible: Jupyter serves nothing from hidden folders."""
ENDING = ".nbflow.json"
_ELSEWHERE = "Keep runs elsewhere: --state-dir DIR (or set NBFLOW_STATE_DIR)."
_DEEPEST = 5  # folders below the working directory in which a run id is looked for


@dataclass(frozen=True, slots=True)
class Home:
    """Where the runs of one file live.

    Made by :meth:`of`.
    """

    folder: Path
    """The folder of the file; kernels start there, and paths in definitions are relative to it. Absolute."""
    name: str
    """The file's name; for a run without a file its own."""
    base: Path
    """The folder of checkpoint and runs: ``folder``, unless a state directory was given."""

    @staticmethod
    def of(file: Path, state_dir: Path | None = None) -> Home:
        """Give the home of a file.

        Parameters
        ----------
        file : Path
            The notebook or workflow; for a run without a file any name in the working directory.
        state_dir : Path, optional
            Where to keep everything instead of beside the file. Each folder gets a folder of its own in it, so
            that two notebooks of the same name stay apart.
        """
        folder = Path(os.path.abspath(file.parent))  # noqa: PTH100 - resolve() would follow a notebook's symlinked folder
        if state_dir is None:
            return Home(folder, file.name, folder)
        mark = blake2b(str(folder).encode(), digest_size=3).hexdigest()
        return Home(folder, file.name, Path(os.path.abspath(state_dir)) / f"{slug(folder.name, 60)}-{mark}")  # noqa: PTH100

    @property
    def file(self) -> Path:
        """The notebook or workflow file."""
        return self.folder / self.name

    @property
    def checkpoint(self) -> Path:
        """The JSON file that shows the run started or resumed last."""
        return self.base / f"{self.name}{ENDING}"

    @property
    def runs_folder(self) -> Path:
        """The folder of the run folders."""
        return self.base / RUNS / self.name

    def run_folder(self, run_id: str) -> Path:
        """Give the folder of a run, whether it is there or not."""
        return self.runs_folder / check_run_id(run_id)

    def runs(self) -> list[Path]:
        """Give the run folders, oldest first; symlinks are no run folders.

        Raises
        ------
        StoreError
            If they cannot be listed.
        """
        try:
            with os.scandir(self.runs_folder) as entries:
                found = [Path(e.path) for e in entries if e.is_dir(follow_symlinks=False)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as problem:
            raise StoreError(f"{self.runs_folder}: {problem.strerror}", _ELSEWHERE) from problem
        return sorted((p for p in found if is_run(p)), key=lambda p: p.name)

    def check(self) -> None:
        """Check that a run could be kept here, and change nothing.

        Raises
        ------
        StoreError
            If a folder cannot be written, or is reached by a symlink.
        """
        for part in (self.base / RUNS, self.runs_folder):
            if part.is_symlink():
                raise StoreError(
                    f"{part}: is a symlink to {part.readlink()}, and runs are kept in real folders only",
                    f"Remove the link, or keep runs elsewhere: --state-dir {_elsewhere(self.base)}",
                )
        for part in (self.runs_folder, *self.runs_folder.parents):
            if os.path.lexists(part) and not part.is_dir():
                raise StoreError(f"{part}: is a file, and runs are kept in a folder of that name", "Move it away.")
        if self.checkpoint.is_dir():
            raise StoreError(
                f"{self.checkpoint}: is a folder, and the checkpoint is a file of that name", "Move it away."
            )
        for part in (self.base, self.base / RUNS, self.runs_folder):
            here = next(p for p in (part, *part.parents) if os.path.lexists(p))
            if not writable(here):
                raise StoreError(f"{here}: cannot be written", _ELSEWHERE)

    def create(self, run_id: str) -> Path:
        """Make the folder of a new run.

        Raises
        ------
        StoreError
            If it cannot be made, or is there already.
        """
        self.check()
        folder = self.run_folder(run_id)
        try:
            self.runs_folder.mkdir(parents=True, exist_ok=True)
            ignore = self.base / RUNS / ".gitignore"
            if not ignore.exists():
                write_atomically(ignore, b"*\n")
            folder.mkdir()
            (folder / "logs").mkdir()
            (folder / "source").mkdir()
        except FileExistsError as problem:
            raise StoreError(f"{folder}: is there already", "Ask again: each run gets an id of its own.") from problem
        except OSError as problem:
            raise StoreError(f"{folder}: {problem.strerror or problem}", _ELSEWHERE) from problem
        return folder


def is_run(folder: Path) -> bool:
    """Whether this is a run folder: it is called by a run id, and something of a run is in it."""
    files = ("journal.jsonl", "workflow.json")
    return is_run_id(folder.name) and any(os.path.lexists(folder / name) for name in files)


def remove(folder: Path) -> None:
    """Delete a run folder; whether somebody works at it is for the caller to ask.

    Raises
    ------
    StoreError
        If it is no run folder, is reached by a symlink, or cannot be deleted.
    """
    if not is_run(folder) or _symlinked(folder):
        raise StoreError(f"{folder}: is no run folder", "nbflow status lists the runs.")
    gone = folder.with_name(f".{folder.name}.tmp")  # at once no run any more, also if this process dies now
    try:
        folder.rename(gone)
        shutil.rmtree(gone)
    except OSError as problem:
        raise StoreError(f"{problem.filename or folder}: {problem.strerror}", f"Delete {gone} by hand.") from problem


def find(target: str, cwd: Path, state_dir: Path | None = None) -> tuple[Path, str | None]:
    """Give the file or run folder that a target means, and the run id where it names one.

    Parameters
    ----------
    target : str
        A notebook or workflow, its checkpoint, a run folder, or the beginning of a run id.
    cwd : Path
        Where paths and searches begin.
    state_dir : Path, optional
        Where runs are looked for besides.

    Returns
    -------
    tuple
        A file and ``None``: the run that was started or resumed last. A run folder and its id: that run.

    Raises
    ------
    TargetError
        If nothing, or more than one run, is meant.
    """
    path = Path(os.path.abspath(cwd / target))  # noqa: PTH100 - a symlink is refused, not followed
    if is_run(path):
        if _symlinked(path):
            raise TargetError(
                f"{target}: is reached by a symlink, and run folders are real folders only", f"Name {path.resolve()}."
            )
        return path, path.name
    file = without_ending(path)
    folder = _stands(path, stat.S_ISDIR)
    if not folder and (_stands(path) or _stands(Path(f"{file}{ENDING}")) or _has_runs(Home.of(file, state_dir))):
        return file, None
    below = list(all_runs(cwd)) + (list(all_runs(state_dir)) if state_dir is not None else [])
    found = sorted({run for run in below if target and run.name.startswith(target)})
    if len(found) == 1:
        return found[0], found[0].name
    if found:
        names = "\n".join(f"{run.name}  {run.parent.name}" for run in found[:8])
        raise TargetError(f"{target!r} is the beginning of {len(found)} run ids", f"Name more of it:\n{names}")
    runs = "nbflow status lists the runs below this folder." if below else "There are no runs below this folder."
    if folder:
        raise TargetError(f"{target}: is a folder, but no run folder", runs)
    near = did_you_mean(path.name, [p.name for p in path.parent.glob("*.ipynb")])
    raise TargetError(f"{target:.200}: no such notebook, run folder or run id.{near}", runs)


def without_ending(path: Path) -> Path:
    """Give the file of which this is the checkpoint; any other path as it is.

    Examples
    --------
    >>> without_ending(Path("n.ipynb.nbflow.json")).name, without_ending(Path("n.ipynb")).name
    ('n.ipynb', 'n.ipynb')
    """
    return path.with_name(path.name.removesuffix(ENDING)) if path.name.removesuffix(ENDING) else path


def all_runs(top: Path, depth: int = _DEEPEST) -> Iterator[Path]:
    """Give all run folders below a folder, hidden folders and symlinks left out."""
    for folder in _folders(top):
        if folder.name == RUNS:
            for notebook in _folders(folder):
                yield from filter(is_run, _folders(notebook))
        elif depth > 0:
            yield from all_runs(folder, depth - 1)


def _folders(top: Path) -> list[Path]:
    """Give the folders in a folder, sorted; those that are hidden, symlinks, or packages of others left out."""
    try:
        with os.scandir(top) as entries:
            names = [e.name for e in entries if e.is_dir(follow_symlinks=False) and e.name[0] != "."]
    except OSError:  # one that may not be looked into holds no runs of this person
        return []
    return [top / name for name in sorted(names) if name not in ("node_modules", "__pycache__")]


def _stands(path: Path, kind: Callable[[int], bool] = stat.S_ISREG) -> bool:
    """Whether a file of this kind is there; no text that a person gives is too long or too odd to be asked for."""
    try:
        return kind(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def _has_runs(home: Home) -> bool:
    return _stands(home.runs_folder, stat.S_ISDIR) and bool(home.runs())


def _symlinked(run: Path) -> bool:
    """Whether a run folder, its notebook's, or the one of all runs is a symlink."""
    return any(part.is_symlink() for part in (run, *run.parents[:2]))


def size(folder: Path) -> int:
    """Give the bytes of a run folder."""
    total = 0
    for place, _, files in os.walk(folder):
        for file in files:
            try:
                total += os.lstat(os.path.join(place, file)).st_size  # noqa: PTH118 - a walk over many files
            except OSError:
                continue  # it went away in the meantime
    return total


def writable(folder: Path) -> bool:
    """Whether files can be made in a folder; root may write what the mode forbids, not what is mounted read-only."""
    if not os.access(folder, os.W_OK | os.X_OK):
        return False
    try:
        return not os.statvfs(folder).f_flag & os.ST_RDONLY
    except (OSError, AttributeError):
        return True


def _elsewhere(folder: Path) -> str:
    return f"{folder.parent / (folder.name + '-runs')}"
