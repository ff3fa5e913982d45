"""A real JupyterLab or Notebook 7 with a real Chromium: notebooks that are opened, run, clicked and saved.

One server and one browser serve all tests; each test has a folder of its own below the server's, and tabs of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nbformat

TOKEN = "nbflow-tests"
CHECKOUT = Path(__file__).parents[2]
OVERRIDES = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
}
SWITCHES = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
SWITCHES += ["--disable-component-update", "--disable-sync", "--force-color-profile=srgb"]
NEWEST = "newest"
"""The kernel of the checkout's own environment; ``python3`` would be the server's."""
IPYKERNELS = {"ipykernel6": ["ipykernel==6.29.5", "nest_asyncio"], "ipykernel70": ["ipykernel==7.0.1", "nest_asyncio"]}
"""Other kernels than the newest: their names, and what is installed for them."""


def chromium() -> str:
    """Give the browser.

    Raises
    ------
    FileNotFoundError
        If there is none; in one line.
    """
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if (found := shutil.which(name)) is not None:
            return found
    raise FileNotFoundError("there is no chromium here, which the tests of notebooks need: apt install chromium")


def server_python() -> Path:
    """Give the interpreter that has JupyterLab and Notebook: one beside the checkout's, so that ours stays as it is."""
    return Path(sys.prefix) / "jupyter" / "bin" / "python"


def install_server() -> Path:
    """Install JupyterLab and Notebook where they are not yet."""
    python = server_python()
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(python.parents[1])], check=True)
    if not (python.parent / "jupyter-notebook").exists():
        words = ["-m", "pip", "install", "-q", "jupyterlab>=4.4", "notebook>=7.4", "ipywidgets>=8.1"]
        subprocess.run([str(python), *words], check=True)
    return python


def install_kernel(name: str) -> Path:
    """Install another ipykernel where it is not yet; gives the folder that goes on the path."""
    folder = Path(sys.prefix) / "kernels" / name
    if not (folder / "ipykernel").is_dir():
        words = ["-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), *IPYKERNELS[name]]
        subprocess.run([sys.executable, *words], check=True)
    return folder


class Server:
    """A Jupyter server on loopback, with everything of its own."""

    def __init__(self, home: Path, kernels: Sequence[str]) -> None:
        python = install_server()
        self.root = home / "work"
        self.root.mkdir(parents=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        settings = home / "lab"
        (settings / "settings").mkdir(parents=True)
        (settings / "settings" / "overrides.json").write_text(json.dumps(OVERRIDES))
        env = {key: value for key, value in os.environ.items() if not key.startswith(("JUPYTER", "JPY", "NBFLOW"))}
        for part in ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR"):
            env[f"JUPYTER_{part}"] = str(home / part.lower())
        for part in ("SETTINGS_DIR", "WORKSPACES_DIR"):
            env[f"JUPYTERLAB_{part}"] = str(home / part.lower())
        env["IPYTHONDIR"] = str(home / "ipython")
        env["PATH"] = f"{python.parent}{os.pathsep}{env['PATH']}"
        _write_kernel(home, NEWEST, [])
        for name in kernels:
            _write_kernel(home, name, [install_kernel(name)])
        words = [f"--ServerApp.port={self.port}", "--ServerApp.ip=127.0.0.1", f"--IdentityProvider.token={TOKEN}"]
        words += ["--no-browser", "--allow-root", f"--ServerApp.root_dir={self.root}"]
        words += ["--ServerApp.terminals_enabled=False", "--LabApp.expose_app_in_browser=True"]
        words += [
            f"--LabApp.app_settings_dir={settings / 'settings'}",
            "--JupyterNotebookApp.expose_app_in_browser=True",
        ]
        words += ["--ServerApp.port_retries=0", "--LanguageServerManager.autodetect=False"]
        self.log = home / "server.log"
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                [str(python), "-m", "jupyterlab", *words], env=env, cwd=self.root, stdout=log, stderr=log
            )
        self._wait()

    def _wait(self) -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            assert self._process.poll() is None, self.log.read_text()[-2000:]
            with contextlib.suppress(OSError), urllib.request.urlopen(self.url("api", "")) as reply:
                assert reply.status == 200
                return
            time.sleep(0.1)
        raise TimeoutError(self.log.read_text()[-2000:])

    def url(self, path: str, more: str = "&reset") -> str:
        """Give an address."""
        return f"http://127.0.0.1:{self.port}/{path}?token={TOKEN}{more}"

    def close(self) -> None:
        """End the server, and with it its kernels."""
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _write_kernel(home: Path, name: str, path: list[Path]) -> None:
    folder = home / "data_dir" / "kernels" / name
    folder.mkdir(parents=True)
    spec = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": name,
        "language": "python",
        "env": {"PYTHONPATH": os.pathsep.join(map(str, [*path, CHECKOUT]))},
    }
    (folder / "kernel.json").write_text(json.dumps(spec))


class Tab:
    """A notebook that is open."""

    def __init__(self, page: Any, server: Server, path: Path, *, lab: bool) -> None:
        self.page, self.server, self.path, self.lab = page, server, path, lab
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("dialog", lambda dialog: dialog.accept())
        self.open()

    def open(self) -> None:
        """Open it, or open it again, with its kernel idle."""
        near = self.path.relative_to(self.server.root).as_posix()
        front = "lab/tree" if self.lab else "notebooks"
        self.page.goto(self.server.url(f"{front}/{near}"))
        self.ready()
        for _ in range(3):
            if self.answers():
                return
            self.js("await panel.sessionContext.restartKernel()")  # an ipykernel 7.0 may hang at its start
            self.ready()
        raise TimeoutError("the kernel does not answer")

    def answers(self) -> bool:
        """Whether the kernel answers, within ten seconds."""
        return self.js(
            """const late = new Promise(done => setTimeout(done, 10000, false));
            return await Promise.race([panel.sessionContext.session.kernel.requestKernelInfo().then(() => true), late])"""
        )

    def reload(self) -> None:
        """Reload the page, as a person does."""
        self.page.reload()
        self.ready()

    def ready(self) -> None:
        """Wait until the notebook is there with its kernel."""
        self.page.wait_for_selector(".jp-NotebookPanel .jp-Cell", timeout=60_000)
        self.page.wait_for_function(
            """() => { const s = window.jupyterapp?.shell?.currentWidget?.sessionContext;
                return s && s.isReady && s.session?.kernel
                  && ['idle', 'busy'].includes(s.session.kernel.status) }""",
            timeout=60_000,
        )

    def js(self, code: str, *arguments: Any) -> Any:
        """Evaluate JavaScript; ``nb`` is the notebook's widget, ``app`` the application, ``a`` the arguments."""
        begin = "const app = window.jupyterapp, panel = app.shell.currentWidget, nb = panel.content;"
        return self.page.evaluate(f"async (a) => {{ {begin} {code} }}", list(arguments))

    def run(self, cell: int) -> bool:
        """Run a cell to its end, within two minutes; tells whether it went well."""
        return self.js(
            """const late = new Promise((_, fail) => setTimeout(fail, 120000, new Error('the cell did not end')));
            nb.activeCellIndex = a[0];
            return await Promise.race([app.commands.execute('notebook:run-cell'), late])""",
            cell,
        )

    def begin(self, cell: int) -> None:
        """Begin to run a cell, and come back at once."""
        self.js("nb.activeCellIndex = a[0]; app.commands.execute('notebook:run-cell'); return null", cell)

    def busy(self, cell: int) -> bool:
        """Whether a cell runs, or waits to."""
        return self.js("return nb.widgets[a[0]].model.executionState !== 'idle'", cell)

    def outputs(self, cell: int) -> list[dict[str, Any]]:
        """Give the outputs of a cell, as they are saved."""
        return self.js("return nb.widgets[a[0]].model.outputs.toJSON()", cell)

    def printed(self, cell: int) -> str:
        """Give what a cell printed."""
        return "".join("".join(out["text"]) for out in self.outputs(cell) if out["output_type"] == "stream")

    def cell(self, number: int) -> Any:
        """Give the part of the page with the outputs of a cell."""
        return self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell").nth(number).locator(".jp-OutputArea")

    def dashboard(self, cell: int) -> Any:
        """Give the dashboard in a cell."""
        return self.cell(cell).locator(".nbf").first

    def text(self, cell: int) -> str:
        """Give what a person reads in the outputs of a cell."""
        return re.sub(r"\s+", " ", self.cell(cell).first.inner_text())

    def wait(self, cell: int, *words: str, seconds: float = 60) -> str:
        """Wait until the outputs of a cell say something, piece by piece; gives all that they say."""
        until = time.monotonic() + seconds
        while True:
            said = self.text(cell)
            if all(re.search(one, said) for one in words):
                return said
            assert time.monotonic() < until, f"{words!r} was not said within {seconds:g} s, but:\n{said}"
            time.sleep(0.1)

    def click(self, cell: int, kind: str, words: str = "") -> None:
        """Click a button of the dashboard in a cell."""
        button = self.dashboard(cell).locator(f".{kind}")
        (button.filter(has_text=words) if words else button).first.click(timeout=20_000)

    def interrupt(self) -> None:
        """Interrupt the kernel, as its menu does."""
        self.js("await app.commands.execute('notebook:interrupt-kernel')")

    def restart(self) -> None:
        """Restart the kernel."""
        self.js("await panel.sessionContext.session.kernel.restart()")
        self.ready()

    def save(self) -> Any:
        """Save the notebook, and give what stands in its file."""
        self.js("await panel.context.save()")
        return nbformat.read(self.path, as_version=4)

    def theme(self, name: str) -> None:
        """Change the theme: ``Light`` or ``Dark``."""
        self.js("await app.commands.execute('apputils:change-theme', {theme: a[0]})", f"JupyterLab {name}")
        self.page.wait_for_function("a => document.body.dataset.jpThemeLight === a", arg=str(name == "Light").lower())

    def picture(self, path: Path, cell: int | None = None) -> None:
        """Take a picture of the page, or of the outputs of a cell."""
        (self.page if cell is None else self.cell(cell).first).screenshot(path=str(path))

    def close(self) -> None:
        """Close it, with its kernel."""
        with contextlib.suppress(Exception):
            self.js("await app.serviceManager.sessions.shutdownAll()")
        self.page.close()


def write_notebook(path: Path, cells: Sequence[str], kernel: str = NEWEST) -> Path:
    """Write a notebook with these code cells."""
    new = nbformat.v4.new_code_cell
    spec = {"name": kernel, "display_name": kernel, "language": "python"}
    made = nbformat.v4.new_notebook(cells=list(map(new, cells)), metadata={"kernelspec": spec})
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(made, path)
    return path


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """Give a Chromium without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=chromium(), args=SWITCHES)
        try:
            yield made
        finally:
            made.close()
