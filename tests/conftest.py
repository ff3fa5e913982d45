"""What tests of the whole share: notebooks made on the spot, and the command line in a process of its own.

``notebook(...)`` makes one in ``folder``, an empty working directory; ``cli(...)`` runs a verb there and checks its
exit code; ``ran`` is the record that notebooks keep of themselves, outside of all that nbflow writes.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest

RECORD = """\
import os
with open(os.environ["RAN"], "a") as ran:
    ran.write(f"{n} {os.getpid()}\\n")
"""
"""A cell that writes down that it ran: the item's ``n``, and the kernel's process."""


def pytest_configure() -> None:
    """Signals are heard as at a keyboard, also where the tests run in the background of a script, or by ``nohup``."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Leave what processes remember out of the user's cache folder; fonts take long to be found anew."""
    real = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = tmp_path_factory.mktemp("cache")
    if (real / "matplotlib").is_dir():
        (cache / "matplotlib").symlink_to(real / "matplotlib")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, also for this process; what it holds of runs is seen from inside it."""
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.delenv("NBFLOW_STATE_DIR", raising=False)
    monkeypatch.setenv("RAN", str(tmp_path / "ran.txt"))
    return place


@pytest.fixture
def notebook(folder: Path) -> Callable[..., Path]:
    """Make a notebook: ``notebook("print(n)", results="square = n * n")``.

    ``parameters`` is its first cell and ``results`` its last, each with the tag of that name; ``None`` leaves it out.
    The same name overwrites, as an editor does.
    """

    def make(
        *cells: str,
        parameters: str | None = "n = 0",
        results: str | None = "square = n * n",
        name: str = "work.ipynb",
    ) -> Path:
        new = nbformat.v4.new_code_cell
        first = [new(parameters, metadata={"tags": ["parameters"]})] if parameters is not None else []
        last = [new(results, metadata={"tags": ["results"]})] if results is not None else []
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        made = nbformat.v4.new_notebook(cells=[*first, *map(new, cells), *last], metadata={"kernelspec": kernel})
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(made, path)
        return path

    return make


@dataclass
class Cli:
    """``nbflow`` in processes of its own; none outlives the test."""

    folder: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *words: object, program: tuple[str, ...] = ("-m", "nbflow")) -> subprocess.Popen[str]:
        """Start a verb and come back at once; it leads a process group, as in a terminal."""
        process = subprocess.Popen(
            [sys.executable, *program, *map(str, words)],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def __call__(self, *words: object, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run a verb to its end; ``code`` is the exit code that it must have, ``None``: any."""
        process = self.start(*words)
        out, err = process.communicate(timeout=240)
        assert "Traceback" not in err, err
        assert code in (None, process.returncode), f"exit code {process.returncode}, not {code}:\n{out}\n{err}"
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def json(self, *words: object, code: int | None = 0) -> dict[str, Any]:
        """Run a verb with ``--json``; all that it prints must be one object."""
        return json.loads(self(*words, "--json", code=code).stdout)


@pytest.fixture
def cli(folder: Path) -> Iterator[Cli]:
    """The command line: ``cli("map", "work.ipynb", "--grid", "n=1,2", code=1)``, ``cli.json``, ``cli.start``."""
    made = Cli(folder)
    yield made
    for process in made.started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@dataclass
class Ran:
    """What notebooks wrote down of themselves, with the cell :data:`RECORD`."""

    path: Path
    cell: str = RECORD

    def lines(self) -> list[tuple[int, int]]:
        """Give each execution as ``(n, process)``, in order."""
        text = self.path.read_text() if self.path.exists() else ""
        return [(int(n), int(pid)) for n, pid in map(str.split, text.splitlines())]

    def times(self) -> dict[int, int]:
        """Give how often each ``n`` ran."""
        return dict(Counter(n for n, _ in self.lines()))

    def kernels(self) -> list[int]:
        """Give the kernels' processes that are alive."""
        alive = []
        for _, pid in self.lines():
            try:
                if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                    alive.append(pid)
            except psutil.NoSuchProcess:
                pass
        return alive


@pytest.fixture
def ran(folder: Path, tmp_path: Path) -> Ran:
    """The record that notebooks keep: ``notebook(ran.cell)``, then ``ran.times()`` is ``{1: 1, 2: 1}``."""
    return Ran(tmp_path / "ran.txt")


@pytest.fixture
def until() -> Callable[..., None]:
    """Wait until something holds: ``until(lambda: path.exists())``; fails after so many seconds."""

    def wait(holds: Callable[[], object], seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, f"did not come true within {seconds:g} s"
            time.sleep(0.02)

    return wait


@pytest.fixture
def nobodys_folder():
    """Give a folder of a user without rights, and be that user: permissions hold, also where tests run as root."""
    folder = Path(tempfile.mkdtemp(prefix="nobody-"))
    root = os.geteuid() == 0
    if root:
        os.chown(folder, 65534, 65534)
        os.setresuid(65534, 65534, 0)  # the third is the way back
    try:
        yield folder
    finally:
        if root:
            os.setresuid(0, 0, 0)
        folder.chmod(0o755)
        shutil.rmtree(folder)
