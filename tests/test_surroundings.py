"""Surroundings: what decides results besides code and parameters is recorded at the start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time

import pytest

import nbflow
from nbflow.api import session
from nbflow.host import quota, usable_cores
from nbflow.kernels import LocalKernels
from nbflow.store.surroundings import interpreter, packages, surroundings


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Give a repository with one commit, away from the settings of the person who tests."""
    for name in list(os.environ):
        if name.startswith("GIT_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "train.ipynb").write_text("{}")
    (tmp_path / "module.py").write_text("")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "one")
    return tmp_path


def git(folder, *words) -> str:
    """Run git."""
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True, timeout=60).stdout


def test_the_commit_is_recorded_and_a_clean_tree_is_clean(repository):
    """nbflow's own files do not make it dirty, wherever they are."""
    (repository / "sub" / "nbflow-runs" / "train.ipynb").mkdir(parents=True)
    (repository / "sub" / "nbflow-runs" / "train.ipynb" / "a").write_text("")
    (repository / "sub" / "train.ipynb.nbflow.json").write_text("")
    found = surroundings(repository / "sub", "python3")["git"]
    assert {"commit": git(repository, "rev-parse", "HEAD").strip(), "dirty": False} == found


@pytest.mark.parametrize("file", ["sub/train.ipynb", "module.py", "sub/new.py"])
def test_a_changed_file_anywhere_makes_the_tree_dirty(repository, file):
    """Also a module beside the notebook's folder, and a file that git does not know."""
    (repository / file).write_text("changed")
    assert surroundings(repository / "sub", "python3")["git"]["dirty"] is True


def test_asking_git_changes_nothing_and_runs_nothing(repository):
    """Its index stays as it is, and a program that the repository names does not run."""
    git(repository, "config", "core.fsmonitor", f"touch {repository / 'ran'}; false")
    os.utime(repository / "module.py", (1, 1))
    before = (repository / ".git" / "index").read_bytes()
    surroundings(repository, "python3")
    assert before == (repository / ".git" / "index").read_bytes()
    assert not (repository / "ran").exists()


def test_without_a_repository_or_a_commit_there_is_none(tmp_path, repository, monkeypatch):
    """And without git neither."""
    (repository / "empty").mkdir()
    git(repository / "empty", "init", "-q")
    assert surroundings(repository / "empty", "python3")["git"] is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert surroundings(repository, "python3")["git"] is None


def test_what_is_recorded_is_json(tmp_path, monkeypatch):
    """Versions, cores and thread caps; other variables of the environment may be secret and stay out."""
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("SECRET", "hunter2")
    found = surroundings(tmp_path, "python3")
    assert found == json.loads(json.dumps(found))
    assert {"OMP_NUM_THREADS": "3"}.items() <= found["environment"].items()
    assert "hunter2" not in json.dumps(found)
    assert {"nbflow", "python", "platform", "user", "host", "cores", "memory_bytes", "kernel", "git"} <= set(found)


def test_cores_are_those_that_this_process_may_use():
    """By affinity, not by what the machine has."""
    code = (
        "import os; from nbflow.host import usable_cores\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); print(usable_cores())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "1\n"
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


GROUPS = {
    "v2, here": ("0::/a/b\n", {"a/b/cpu.max": "150000 100000"}, 1.5),
    "v2, above": ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "50000 100000", "cpu.max": "max 1"}, 0.5),
    "v2, less above": ("0::/a/b\n", {"a/b/cpu.max": "150000 100000", "a/cpu.max": "50000 100000"}, 0.5),
    "v2, none": ("0::/\n", {"cpu.max": "max 100000"}, None),
    "v1": ("4:cpu,cpuacct:/a\n0::/\n", {"cpu/a/cpu.cfs_quota_us": "200000", "cpu/a/cpu.cfs_period_us": "100000"}, 2.0),
    "v1, none": ("4:cpu,cpuacct:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
    "v1, of something else": ("4:cpuset:/a\n", {"cpu/a/cpu.cfs_quota_us": "1"}, None),
    "damaged": ("0::/\n", {"cpu.max": "lots"}, None),
}


@pytest.mark.parametrize(("own", "limits", "cores"), GROUPS.values(), ids=GROUPS)
def test_the_limit_of_a_control_group_counts(tmp_path, own, limits, cores):
    """The smallest on the way to the top, in both versions of them."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(own)
    for name, text in limits.items():
        (tmp_path / "sys/fs/cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sys/fs/cgroup" / name).write_text(text)
    assert cores == quota(tmp_path)


def test_without_control_groups_there_is_no_limit(tmp_path):
    """On other systems than Linux."""
    assert quota(tmp_path) is None


def test_packages_are_those_of_the_kernels_interpreter():
    """With their versions, sorted by name."""
    found = packages(sys.executable)
    assert found["filelock"].startswith(tuple("0123456789"))
    assert sorted(found) == list(found)


@pytest.mark.parametrize("file", ["old.egg-info", "old.egg-info/PKG-INFO", "old-1.dist-info/METADATA"])
def test_packages_are_found_however_they_were_installed(tmp_path, monkeypatch, file):
    """Old ones have a file where others have a folder; what cannot be read is left out."""
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("Metadata-Version: 1.0\nName: old\nVersion: 1.5\n\nName: no\n")
    (tmp_path / "broken.egg-info").symlink_to(tmp_path / "nowhere")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert "1.5" == packages(sys.executable)["old"]


def test_a_file_of_the_user_is_not_run_to_list_packages(tmp_path, monkeypatch):
    """A json.py in the working directory is not the library's."""
    (tmp_path / "json.py").write_text("open('ran', 'w').close()")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)  # a relative one is the user's own wish
    assert packages(sys.executable)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("program", ["/bin/true", "/bin/false", "/bin/echo", "/no/such/python"])
def test_what_is_no_python_has_no_packages(program):
    """Nothing fails for it."""
    assert packages(program) == {}


COMMANDS = [
    (["python3", "-m", "ipykernel_launcher"], sys.executable),
    (["/opt/env/bin/python3.12", "-m", "ipykernel_launcher"], "/opt/env/bin/python3.12"),
    (["/usr/bin/R", "--slave"], None),
    ([], None),
]


@pytest.mark.parametrize(("argv", "python"), COMMANDS)
def test_a_kernels_interpreter_is_the_first_word_of_its_command(argv, python):
    """Where that is Python; a bare name is the one that runs nbflow, as in jupyter_client."""
    assert python == interpreter(argv)


# -- in the run folder ---------------------------------------------------------------------------------


def at_once(path, **how):
    """Take a run up, and wait until its packages are recorded."""
    nbflow.resume(path, quiet=True, **how) if how else nbflow.map(path, grid={"n": [1]}, quiet=True)
    for thread in threading.enumerate():
        if thread.name == "nbflow-packages":
            thread.join(60)


def test_each_start_leaves_what_it_was_surrounded_by(notebook, monkeypatch):
    """A resume in another environment does not pass itself off as the first start; in the same one it adds nothing."""
    path = notebook()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(session, "packages", lambda python: {"numpy": "1"})
    at_once(path)
    at_once(path, force=True)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setattr(session, "packages", lambda python: {"numpy": "2"})
    at_once(path, force=True)
    folder = nbflow.status(path).folder
    assert {"packages.json": "1", "packages.start-3.json": "2"} == {
        file.name: json.loads(file.read_text())["numpy"] for file in folder.glob("packages*.json")
    }
    assert {"surroundings.json": "1", "surroundings.start-3.json": "2"} == {
        file.name: json.loads(file.read_text())["environment"]["OMP_NUM_THREADS"]
        for file in folder.glob("surroundings*.json")
    }


def test_packages_of_a_run_that_was_removed_are_nobodys_trouble(notebook, monkeypatch):
    """They are listed beside the work, and may come when the folder is gone."""
    path, gate, told = notebook(), threading.Event(), []
    monkeypatch.setattr(session, "packages", lambda python: {"gate": str(gate.wait(60))})
    monkeypatch.setattr(threading, "excepthook", told.append)
    nbflow.map(path, grid={"n": [1]}, quiet=True)
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "nbflow-packages"]
    assert 1 == len(nbflow.clean(path, keep=0))
    gate.set()
    thread.join(60)
    assert [] == told


def test_a_run_waits_a_moment_for_its_packages(notebook, monkeypatch):
    """Whoever ends the process behind a short run finds them."""
    path, begun = notebook(), threading.Event()

    def slow(python):
        begun.set()
        time.sleep(0.3)
        return {"numpy": "1"}

    def close(kernels):
        assert begun.wait(60)

    monkeypatch.setattr(session, "packages", slow)
    monkeypatch.setattr(LocalKernels, "close", close)
    run = nbflow.map(path, items=[], quiet=True)
    assert {"numpy": "1"} == json.loads((run.folder / "packages.json").read_text())
