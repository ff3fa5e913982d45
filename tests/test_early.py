"""A template that the command line begins with its first line: who gets it, who ends it, and what it then is."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from nbflow import early
from nbflow.early import SUPPORTED, read_early

pytestmark = pytest.mark.skipif(
    not SUPPORTED or len(os.sched_getaffinity(0)) < 2 or any(name.startswith(early.COLD) for name in os.environ),
    reason="on Linux, and where there is a second core for it",
)

PARENT = """
import os
from pathlib import Path
Path(f"parent-{n}").write_text(f"{os.getppid()} {Path(f'/proc/{os.getppid()}/cmdline').read_text()}")
"""


@pytest.fixture
def templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[int]]:
    """Give a function that tells which templates live that this test has caused."""
    monkeypatch.setenv("XDG_NBFLOW_TEST", str(tmp_path))  # such variables a template gets

    def living() -> list[int]:
        found = []
        for process in psutil.process_iter():
            try:
                words, environment = process.cmdline(), process.environ()
            except psutil.Error:
                continue
            ours = environment.get("XDG_NBFLOW_TEST") == str(tmp_path)
            if ours and any(word.endswith("warm/template.py") for word in words):
                found.append(process.pid)
        return found

    return living


@pytest.fixture
def ended() -> Iterator[None]:
    """End what a test has begun in this process."""
    yield
    early.end()


def parents(folder: Path) -> list[tuple[str, str]]:
    """Give for each kernel its parent, and the kind of that."""
    found = []
    for path in sorted(folder.glob("parent-*")):
        pid, _, words = path.read_text().partition(" ")
        kind = "none" if "template.py" not in words else "early" if '"preload"' not in words else "other"
        found.append((pid, kind))
    return found


@pytest.mark.parametrize("grid", ["n=1", "n=1,2,3"])
def test_the_kernels_of_a_map_come_from_the_template_that_was_begun_early(grid, notebook, cli, folder, templates):
    """Also the only one: for it none would be started otherwise."""
    notebook(PARENT)
    cli("map", "work.ipynb", "--grid", grid)
    assert {"early"} == {kind for _, kind in parents(folder)}
    assert 1 == len({pid for pid, _ in parents(folder)})
    assert not templates()


def test_so_do_those_of_a_resume(notebook, cli, folder):
    """It is a command that starts kernels too."""
    notebook(PARENT, "assert Path('go').exists()")
    cli("map", "work.ipynb", "-p", "n=1", code=1)
    (folder / "go").touch()
    before = parents(folder)
    cli("resume", "work.ipynb")
    assert (1, "early") == (len(parents(folder)), parents(folder)[0][1])
    assert before != parents(folder)


def test_a_kernel_with_another_environment_at_its_start_is_started(notebook, cli, folder, templates):
    """Its modules are found elsewhere, by PYTHONPATH; the template that does not fit is ended."""
    notebook(PARENT.replace("parent-", f"{folder}/parent-"))
    cli("map", "work.ipynb", "-p", "n=1", "--cwd", "item")
    assert ["none"] == [kind for _, kind in parents(folder)]
    assert not templates()


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["status"],
        ["map", "--help"],
        ["run", "-h"],
        ["map", "work.ipynb", "--dry-run"],
        ["resume", "work.ipynb", "--detach"],
        ["map", "work.ipynb", "--kernel-start", "cold"],
        ["map", "work.ipynb", "--kernel-start=cold"],
    ],
    ids=" ".join,
)
def test_a_command_that_forks_no_kernel_begins_none(words, ended):
    """Help is there at once, and costs nothing."""
    early.begin(words)
    assert not early.is_there()


def test_a_command_whose_stdin_is_closed_begins_none(cli):
    """A socket would get its place, before anything else is put there."""
    program = "import os; from nbflow import early; os.close(0); early.begin(['map']); print(early.is_there())"
    assert ("False\n", "") == cli.start(program=("-c", program)).communicate(timeout=60)


@pytest.mark.parametrize(
    ("words", "code"),
    [(["map", "nothing.ipynb"], 2), (["map", "work.ipynb", "--nonsense"], 2), (["map", "work.ipynb", "-p", "m=1"], 2)],
    ids=["no notebook", "no such option", "no such parameter"],
)
def test_a_command_that_is_refused_leaves_no_process(words, code, notebook, cli, templates):
    """Whatever the template was just doing."""
    notebook()
    cli(*words, code=code)
    assert not templates()


def test_a_run_with_nothing_to_do_leaves_no_process(notebook, cli, templates):
    """Nobody has asked the template for anything."""
    notebook()
    cli("map", "work.ipynb", "-p", "n=1")
    cli("resume", "work.ipynb")
    assert not templates()


def test_a_template_ends_with_a_command_that_is_killed(notebook, cli, templates, until):
    """Its socket closes, also while nobody has taken it."""
    notebook("import time; time.sleep(60)")
    process = cli.start("map", "work.ipynb", "-p", "n=1")
    until(templates)
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: not templates())


def test_what_libraries_read_is_there_before_they_are_imported(notebook, cli, folder):
    """The number of threads is known when the run is planned, and the template has begun before that."""
    pytest.importorskip("threadpoolctl")
    threads = "{pool['num_threads'] for pool in threadpoolctl.threadpool_info()}"
    cell = f"import numpy, threadpoolctl\nPath(f'threads-{{n}}').write_text(str({threads}))"
    notebook(PARENT, cell)
    cores = len(os.sched_getaffinity(0))
    cli("map", "work.ipynb", "--grid", "n=1,2", "-j", cores)
    assert {"early"} == {kind for _, kind in parents(folder)}
    assert {"{1}"} == {path.read_text() for path in folder.glob("threads-*")}


@pytest.mark.long
def test_a_template_that_has_a_library_from_its_start_is_none_for_another_environment(
    notebook, cli, folder, tmp_path, monkeypatch
):
    """A ``sitecustomize`` has imported it, with as many threads as it liked."""
    (tmp_path / "sitecustomize.py").write_text("import numpy\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")])))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    notebook(PARENT)
    cli("map", "work.ipynb", "-p", "n=1")
    assert ["none"] == [kind for _, kind in parents(folder)]


# Taking it


def environment() -> dict[str, str]:
    """Give what a template of this process would get."""
    return read_early(os.environ)


def test_secrets_are_not_in_a_template_that_is_begun_early(ended, monkeypatch, templates, until):
    """Whose names begin like those of variables that an interpreter reads."""
    for name in ("LANGCHAIN_API_KEY", "PATHFINDER_TOKEN", "USER_PASSWORD", "HOMEPAGE_KEY"):
        monkeypatch.setenv(name, "secret")
    early.begin(["map"])
    until(templates)
    (pid,) = templates()
    environment = psutil.Process(pid).environ()
    assert "secret" not in environment.values()
    assert os.environ["PATH"] == environment["PATH"]


def test_the_template_is_taken_once(ended):
    """Whoever has it ends it."""
    early.begin(["map"])
    taken = early.take(early.interpreter(), environment())
    assert taken is not None
    try:
        assert early.take(early.interpreter(), environment()) is None
    finally:
        taken.bury()
        taken.close()


@pytest.mark.parametrize(
    ("command", "changed"),
    [([sys.executable, "-I"], {}), ([sys.executable], {"LC_ALL": "tlh_QO"}), ([sys.executable], {"PYTHONPATH": "/no"})],
    ids=["flags", "locale", "path of modules"],
)
def test_a_template_that_does_not_fit_is_ended(command, changed, ended, templates):
    """What an interpreter has read at its start cannot be changed."""
    early.begin(["map"])
    assert 1 == len(templates())
    assert early.take(command, {**environment(), **changed}) is None
    assert not templates()


def test_a_template_that_has_died_is_not_taken(ended, templates, until):
    """Somebody killed it."""
    early.begin(["map"])
    (pid,) = templates()
    os.kill(pid, signal.SIGKILL)
    until(lambda: not templates())
    assert early.take(early.interpreter(), environment()) is None


FORKS = """
import os
from nbflow import early

early.begin(["map"])
spawned = early._waiting[0].spawned
read, write = os.pipe()
if os.fork() == 0:
    os.close(write)
    os.read(read, 1)  # until the owner's end
    os._exit(0)
spawned.control.close()  # as at the owner's death
print(early.readable(spawned.gone, 5))
spawned.bury()
"""


def test_a_child_of_the_owner_keeps_no_template(cli):
    """Its end of the socket is closed: otherwise the template lived as long as the child."""
    process = cli.start(program=("-c", FORKS))
    assert ("True\n", "") == process.communicate(timeout=60)
