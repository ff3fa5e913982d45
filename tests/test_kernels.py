"""Kernels: found by name, started over private sockets, told apart when they do not start, gone afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from nbflow.errors import DefinitionError, NbflowError
from nbflow.kernels import LocalKernels, check, kernel_names, local
from nbflow.kernels.endpoints import make_endpoint


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a kernel that runs a line of Python."""
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))

    def install(name: str, line: str, *arguments: str) -> None:
        folder = tmp_path / "jupyter" / "kernels" / name
        folder.mkdir(parents=True)
        argv = [sys.executable, "-c", line, *arguments]
        (folder / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": name, "language": "python"}))

    return install


@pytest.fixture
def short_folder(monkeypatch):
    """A temporary folder for this process and those that it starts, with a path short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


async def once(kernels: LocalKernels, name: str = "python3", heard=lambda text: None, **env: str):
    """Start a kernel, ask it, and close it."""
    kernel = await kernels.launch(name, cwd=Path.cwd(), env={**os.environ, **env}, heard=heard)
    try:
        await kernel.ready()
        endpoint = kernel.manager
        seen = {
            "transport": endpoint.transport,
            "ip": endpoint.ip,
            "file": stat.S_IMODE(Path(endpoint.connection_file).stat().st_mode),
            "folder": stat.S_IMODE(Path(endpoint.connection_file).parent.stat().st_mode),
        }
        reply = await kernel.client.execute(
            "", silent=True, user_expressions={"a": "__import__('os').getpid()"}, reply=True
        )
        pid = int(reply["content"]["user_expressions"]["a"]["data"]["text/plain"])
        seen["oom"] = Path(f"/proc/{pid}/oom_score_adj").read_text().strip()
        seen["command"] = Path(f"/proc/{pid}/cmdline").read_text()
    finally:
        await kernel.close()
    return kernel, seen


def test_the_installed_kernels_have_names_and_an_unknown_one_is_refused():
    """The error offers the nearest, and what there is."""
    assert "python3" in kernel_names()
    check("python3")
    with pytest.raises(DefinitionError, match=r"there is no kernel named 'pyton3'. Did you mean 'python3'\?") as caught:
        check("pyton3")
    assert "python3" in caught.value.remedy
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(("name", "made"), [("python3.99", True), ("julia-1.9", False), ("ir", False)])
def test_a_kernel_is_offered_to_be_made_where_that_makes_what_was_meant(name, made):
    """ipykernel runs Python, whatever its kernel is called."""
    with pytest.raises(DefinitionError) as caught:
        check(name)
    assert made == (f"python -m ipykernel install --user --name {name}" in caught.value.remedy)
    assert made == ("ipykernel" in caught.value.remedy)
    assert "Installed: " in caught.value.remedy


def test_a_kernel_listens_in_a_private_folder_that_is_gone_with_it(monkeypatch):
    """Unix sockets under a short absolute path, files for this user only, more likely to be ended for memory."""
    monkeypatch.setattr(local, "FAREWELL_SECONDS", 60.0)  # it ends by itself, however slow the machine is
    kernels = LocalKernels()
    kernel, seen = asyncio.run(once(kernels))
    kernels.close()
    own = int(Path("/proc/self/oom_score_adj").read_text())
    assert ("ipc", 0o600, 0o700, str(min(1000, own + 500))) == (
        seen["transport"],
        seen["file"],
        seen["folder"] & 0o777,
        seen["oom"],
    )
    assert "HistoryManager.hist_file=:memory:" in seen["command"]
    assert not Path(seen["ip"]).parent.exists()
    assert 0 == kernel.exit_code
    assert "python" == kernel.language


def test_a_temporary_folder_too_long_for_a_socket_does_not_matter(monkeypatch, tmp_path):
    """The sockets go where there is room."""
    long = tmp_path / ("d" * 90)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    kernels = LocalKernels()
    _, seen = asyncio.run(once(kernels))
    kernels.close()
    assert ("ipc", "/tmp") == (seen["transport"], str(Path(seen["ip"]).parent.parent))


def test_where_no_folder_has_a_short_path_ports_are_used(monkeypatch, tmp_path):
    """The last resort."""
    monkeypatch.setattr("nbflow.kernels.endpoints.LONGEST", 5)
    endpoint = make_endpoint()
    assert ("tcp", "127.0.0.1") == (endpoint.transport, endpoint.ip)
    endpoint.remove()
    assert not endpoint.folder.exists()


OWNER = """
import asyncio, os, sys
from pathlib import Path
from nbflow.kernels import LocalKernels

async def main():
    kernels = LocalKernels()
    kernel = await kernels.launch("python3", cwd=Path.cwd(), env=os.environ, heard=lambda text: None)
    await kernel.ready()
    print(Path(kernel.manager.connection_file).parent, flush=True)
    sys.stdin.readline()

asyncio.run(main())
"""
"""A process with a kernel; it waits for its end."""


def test_what_a_killed_process_left_is_removed_by_the_next_one(short_folder):
    """Sockets and the key; those of a process that lives, and of other machines and containers, stay."""
    command = [sys.executable, "-c", OWNER]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as killed, subprocess.Popen(command, **pipes) as alive:
        try:
            left, used = Path(killed.stdout.readline().strip()), Path(alive.stdout.readline().strip())
            assert left.parent == used.parent == short_folder
            killed.kill()
            killed.wait()
            foreign = short_folder / left.name.replace(left.name.split("-")[1], "000000", 1)
            own = make_endpoint()
            strange = [short_folder / name for name in ("nbf-notes", "nbf-1-2-3-4", "nbf-x-y-z-w")]
            for folder in (foreign, *strange):
                folder.mkdir()
            assert left.is_dir()
            LocalKernels().close()
            assert {used, own.folder, foreign, *strange} == set(short_folder.iterdir())
        finally:
            killed.kill()
            alive.kill()


def test_a_kernel_that_dies_at_its_start_says_how(install):
    """Exit code and last line of its stderr, in one line."""
    install("broken", "import sys; sys.exit('No module named ipykernel')")
    heard = []
    kernels = LocalKernels()
    with pytest.raises(NbflowError) as caught:
        asyncio.run(once(kernels, "broken", heard.append))
    assert "kernel 'broken' did not start: exit code 1: No module named ipykernel" == caught.value.message
    assert "No module named ipykernel\n" == "".join(heard)


def test_a_kernel_that_lives_and_says_nothing_is_told_from_a_dead_one(install):
    """After the time that it has for its start; its process is gone afterwards."""
    install("silent", "import time; time.sleep(60)")
    kernels = LocalKernels(start_seconds=0.3)
    with pytest.raises(NbflowError, match=r"alive but was silent for 0\.3 s"):
        asyncio.run(once(kernels, "silent"))


def test_a_command_that_does_not_exist_is_a_start_that_failed(tmp_path, monkeypatch):
    """Its environment was deleted."""
    folder = tmp_path / "kernels" / "gone"
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(
        json.dumps({"argv": ["/nowhere/python"], "display_name": "x", "language": "python"})
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    with pytest.raises(NbflowError, match=r"kernel 'gone' cannot be started: .*No such file"):
        asyncio.run(once(LocalKernels(), "gone"))


def test_a_failed_start_gives_its_place_to_the_next(install, monkeypatch):
    """The limit of starts at a time is not used up by failures; no folder stays behind."""
    own = tempfile.mkdtemp(prefix="t")  # short, for sockets; others start kernels in the usual place
    monkeypatch.setattr(tempfile, "tempdir", own)
    install("broken", "raise SystemExit(1)")
    kernels = LocalKernels(at_once=1)
    for _ in range(3):
        with pytest.raises(NbflowError):
            asyncio.run(once(kernels, "broken"))
    with pytest.raises(DefinitionError):
        asyncio.run(once(kernels, "absent"))
    asyncio.run(once(kernels))
    assert [] == list(Path(own).iterdir())
    Path(own).rmdir()


def test_a_kernel_that_runs_holds_no_place_of_those_that_start():
    """The limit is for starts."""

    async def two(kernels):
        first = await kernels.launch("python3", cwd=Path.cwd(), env=os.environ, heard=lambda text: None)
        try:
            await first.ready()
            await asyncio.wait_for(once(kernels), 10)
        finally:
            await first.close()

    kernels = LocalKernels(at_once=1)
    asyncio.run(two(kernels))
    kernels.close()


@pytest.mark.parametrize("at_once", [1, None])
def test_no_more_kernels_start_at_a_time_than_allowed(install, tmp_path, monkeypatch, at_once):
    """Each start that gets its turn marks it; the second waits until the first is ready or gone.

    If nothing is said, the cores count that a container may use, not those that it sees.
    """
    monkeypatch.setattr("nbflow.host.quota", lambda: 1.0)
    turn = str(tmp_path / "turn")
    mark = f"import os, sys, time; os.mkdir({turn!r}); time.sleep(0.2); os.rmdir({turn!r}); sys.exit(5)"
    install("marker", mark)
    kernels, messages = LocalKernels(at_once=at_once), []

    def start():
        with pytest.raises(NbflowError) as caught:
            asyncio.run(once(kernels, "marker"))
        messages.append(caught.value.message)

    threads = [threading.Thread(target=start) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ["kernel 'marker' did not start: exit code 5"] * 3 == messages
