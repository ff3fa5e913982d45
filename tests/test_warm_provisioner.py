"""The provisioner on its own: whoever starts kernels by jupyter_client gets forked ones, and cold ones where not."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.multikernelmanager import AsyncMultiKernelManager
from jupyter_client.provisioning import KernelProvisionerFactory
from nbclient import NotebookClient

from nbflow.kernels.warm import provisioner
from nbflow.kernels.warm.provisioner import WarmProvisioner
from nbflow.kernels.warm.templates import SUPPORTED, Forked, Templates

ENTRY = importlib.metadata.EntryPoint(
    "nbflow-warm", "nbflow.kernels.warm.provisioner:WarmProvisioner", KernelProvisionerFactory.GROUP_NAME
)


@pytest.fixture(autouse=True)
def place(monkeypatch, tmp_path):  # pytest's own folder stays outside
    """A temporary folder of these tests alone, with a path short enough for sockets, and an empty cache."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setenv("XDG_CACHE_HOME", f"{folder}/cache")
        monkeypatch.setenv("JUPYTER_RUNTIME_DIR", f"{folder}/runtime")
        monkeypatch.setenv("IPYTHONDIR", f"{folder}/ipython")
        yield Path(folder)


@pytest.fixture
def templates(monkeypatch):
    """The templates of this process, made anew; and the provisioner is the usual one, as by the variable."""
    made = Templates()
    monkeypatch.setattr(provisioner, "_templates", [made])
    KernelProvisionerFactory.clear_instance()
    factory = KernelProvisionerFactory.instance()
    monkeypatch.setitem(factory.provisioners, "nbflow-warm", ENTRY)
    factory.default_provisioner_name = "nbflow-warm"
    yield made
    KernelProvisionerFactory.clear_instance()
    made.close()


@pytest.fixture
def why(caplog):
    """Why kernels started cold: the lines that were logged."""
    quiet = logging.getLogger("nbflow.kernels")
    quiet.addHandler(caplog.handler)
    caplog.set_level(logging.DEBUG, logger="nbflow.kernels")
    yield lambda: [record.getMessage() for record in caplog.records if record.name == "nbflow.kernels"]
    quiet.removeHandler(caplog.handler)


def parent(pid: int) -> int:
    """Give the parent of a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def computed(client, expression: str) -> str:
    """Have an expression computed."""
    reply = await asyncio.wait_for(
        client.execute("", silent=True, user_expressions={"a": expression}, reply=True), timeout=60
    )
    return reply["content"]["user_expressions"]["a"]["data"]["text/plain"]


def test_the_entry_point_is_that_of_the_package():
    """As pyproject.toml says; an installed package must be installed again to show a new one."""
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text()
    assert f'[project.entry-points."{ENTRY.group}"]\n{ENTRY.name} = "{ENTRY.value}"\n' in text
    assert ENTRY.load() is WarmProvisioner


@pytest.mark.skipif(not SUPPORTED, reason="needs pidfd, memfd and fork")
def test_a_manager_starts_interrupts_restarts_and_ends_a_forked_kernel(templates):
    """All that jupyter_client's own manager does with a kernel; after a restart it is another fork."""

    async def main():
        manager = AsyncKernelManager()
        await manager.start_kernel()
        client = manager.client()
        client.start_channels()
        try:
            await client.wait_for_ready(timeout=60)
            first = int(await computed(client, "__import__('os').getpid()"))
            assert isinstance(manager.provisioner.process, Forked)
            assert [parent(first)] == templates.pids()
            assert await manager.is_alive()
            cell = asyncio.create_task(client.execute("print('on'); import time; time.sleep(60)", reply=True))
            while (await client.get_iopub_msg(timeout=60))["msg_type"] != "stream":
                pass
            await manager.interrupt_kernel()
            assert "KeyboardInterrupt" == (await cell)["content"]["ename"]
            await manager.restart_kernel()
            await client.wait_for_ready(timeout=60)
            second = int(await computed(client, "__import__('os').getpid()"))
            assert first != second
            assert not Path(f"/proc/{first}").exists()
            assert [parent(second)] == templates.pids()
            await manager.restart_kernel(now=True)
            await client.wait_for_ready(timeout=60)
        finally:
            client.stop_channels()
            await manager.shutdown_kernel()
        assert not await manager.is_alive()

    asyncio.run(main())


@pytest.mark.long
@pytest.mark.skipif(not SUPPORTED, reason="needs pidfd, memfd and fork")
def test_a_manager_of_many_has_forked_kernels(templates):
    """As in a Jupyter server; one that dies is seen to be dead."""

    async def main():
        many = AsyncMultiKernelManager()
        names = [await many.start_kernel() for _ in range(3)]
        pids = [many.get_kernel(name).provisioner.process.pid for name in names]
        assert [templates.pids()] * 3 == [[parent(pid)] for pid in pids]
        os.kill(pids[0], signal.SIGKILL)
        assert -signal.SIGKILL == await asyncio.wait_for(many.get_kernel(names[0]).provisioner.wait(), 10)
        assert [False, True, True] == [await many.is_alive(name) for name in names]
        await many.restart_kernel(names[1])
        for name in names:
            await many.shutdown_kernel(name, now=name == names[2])
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)

    asyncio.run(main())


@pytest.mark.long
@pytest.mark.skipif(not SUPPORTED, reason="needs pidfd, memfd and fork")
def test_nbclient_runs_a_notebook_in_a_forked_kernel(templates):
    """It knows nothing of it."""
    cell = nbformat.v4.new_code_cell("import os; print(os.getppid())")
    notebook = nbformat.v4.new_notebook(cells=[cell])
    NotebookClient(notebook, kernel_name="python3").execute()
    assert [int(notebook.cells[0].outputs[0].text)] == templates.pids()


PAPERMILL = """
import importlib.metadata, sys
from jupyter_client.provisioning import KernelProvisionerFactory
entry = importlib.metadata.EntryPoint(*sys.argv[1:4])
KernelProvisionerFactory.instance().provisioners[entry.name] = entry
import papermill
papermill.execute_notebook("in.ipynb", "out.ipynb", {"n": 3}, progress_bar=False)
"""
"""As if the package were installed with its entry point, which a checkout may not be."""


@pytest.mark.long
@pytest.mark.skipif(not SUPPORTED, reason="needs pidfd, memfd and fork")
def test_papermill_runs_a_notebook_in_a_forked_kernel_by_a_variable(place, monkeypatch):
    """``JUPYTER_DEFAULT_PROVISIONER_NAME=nbflow-warm``; its template is gone with it."""
    cells = [
        nbformat.v4.new_code_cell("n = 0", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("import os; print(n, os.getppid(), open(f'/proc/{os.getppid()}/cmdline').read())"),
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), place / "in.ipynb")
    monkeypatch.setenv("JUPYTER_DEFAULT_PROVISIONER_NAME", "nbflow-warm")
    command = [sys.executable, "-c", PAPERMILL, ENTRY.name, ENTRY.value, ENTRY.group]
    subprocess.run(command, cwd=place, check=True, timeout=120)
    n, template, words = nbformat.read(place / "out.ipynb", 4).cells[-1].outputs[0].text.split(maxsplit=2)
    assert "3" == n
    assert "warm/template.py" in words
    assert not Path(f"/proc/{template}").exists()


async def cold(name: str = "python3", manager_class=AsyncKernelManager, **options) -> None:
    """Start a kernel that must not be forked, and end it."""
    manager = manager_class(kernel_name=name)
    await manager.start_kernel(**options)
    try:
        assert not isinstance(manager.provisioner.process, Forked)
        assert await manager.is_alive()
    finally:
        await manager.shutdown_kernel(now=True)


def test_where_templates_cannot_be_kernels_start_cold_and_one_line_says_so(templates, monkeypatch, why):
    """macOS, Windows: no pidfd."""
    monkeypatch.setattr("nbflow.kernels.warm.templates.SUPPORTED", False)
    asyncio.run(cold())
    assert ["a kernel starts cold: this system has no pidfd"] == why()
    assert [] == templates.pids()


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["-m", "ipykernel", "-f", "{connection_file}"], "its command is not that of an IPython kernel"),
        (["-c", "import time; time.sleep(60)", "{connection_file}"], "its command is not that of an IPython kernel"),
    ],
)
def test_other_kernels_start_cold_and_one_line_says_so(templates, place, monkeypatch, why, argv, reason):
    """Another way to start ipykernel, or another language."""
    install(place, monkeypatch, [sys.executable, *argv])
    asyncio.run(cold("other"))
    assert [f"a kernel starts cold: {reason}"] == why()
    assert [] == templates.pids()


@pytest.mark.parametrize("wrapper", [["/usr/bin/env", sys.executable], [sys.executable, "-c", "import sys", "x"]])
def test_a_wrapped_kernel_starts_cold_and_one_line_says_so(templates, place, monkeypatch, why, wrapper):
    """What the wrapper does for its kernel would not be done for a fork."""
    install(place, monkeypatch, [*wrapper, "-m", "ipykernel_launcher", "-f", "{connection_file}"])

    async def main():
        manager = AsyncKernelManager(kernel_name="other")
        await manager.start_kernel()
        assert not isinstance(manager.provisioner.process, Forked)
        await manager.shutdown_kernel(now=True)

    asyncio.run(main())
    assert ["a kernel starts cold: its command starts something else than Python"] == why()


def install(place: Path, monkeypatch, argv: list[str]) -> None:
    """Install a kernel with the name ``other``."""
    folder = place / "jupyter" / "kernels" / "other"
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "other", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(place / "jupyter"))
    assert "other" in KernelSpecManager().find_kernel_specs()


def test_a_kernel_that_shall_outlive_its_owner_starts_cold(templates, why):
    """A fork ends with who asked for it."""
    asyncio.run(cold(independent=True))
    assert ["a kernel starts cold: somebody wants it started with independent"] == why()


def test_a_system_without_what_templates_need_can_import_all_of_it():
    """Windows has neither ``fcntl`` nor ``resource``."""
    program = (
        "import asyncio, jupyter_client.manager, nbflow.host, sys, os, signal\n"
        "sys.modules.update(fcntl=None, resource=None)\n"
        "del os.pidfd_open, os.fork, os.memfd_create, os.register_at_fork\n"
        "del signal.SIGKILL, signal.SIGBUS, signal.SIGSYS, signal.SIGTRAP, signal.pidfd_send_signal\n"
        "import nbflow.kernels.local, nbflow.kernels.warm.templates, nbflow.memory\n"
        "print(nbflow.kernels.warm.templates.SUPPORTED)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ("False\n", "", 0) == (done.stdout, done.stderr, done.returncode)
