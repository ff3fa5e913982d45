"""Kernels on this machine: one process each, reached by unix sockets, gone when their work is done."""

from __future__ import annotations

import asyncio
import atexit
import codecs
import contextlib
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
import uuid
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from queue import Empty
from typing import Any, NamedTuple

from .. import early, lean
from ..errors import NbflowError
from ..host import UNKNOWN, cache_folder, ending, group_of, tends_resources, usable_cores
from .endpoints import Endpoint, make_endpoint, remove_left
from .plain import PlainSpec, find_plain, plain_command, start_plain
from .specs import kernel_spec
from .warm.templates import Forked, NoKernelError, Templates, readiness

__all__ = ["Kernel", "LocalKernels"]

QUIET = logging.getLogger("nbflow.kernels")
QUIET.addHandler(logging.NullHandler())
QUIET.propagate = False  # what these libraries log lands in whatever cell runs; the outcome says it better

LAST_LINES = 200
START_SECONDS = 60.0
FAREWELL_SECONDS = 1.5
TIDYING_SECONDS = 1.0
"""How long what tidies up behind a kernel may take."""

Heard = Callable[[str], None]


_kept: dict[Endpoint, Any] = {}
"""Kernels that live on for people who want to look into them, until they are ended, or this process ends."""


@atexit.register
def _end_kept() -> None:
    for endpoint, manager in list(_kept.items()):
        pid = getattr(manager.provisioner, "pid", None)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        endpoint.remove()


class Warm(NamedTuple):
    """From what a kernel is to be forked."""

    templates: Templates
    preload: Sequence[str]
    """Modules that the template is to import."""
    private: Sequence[str]
    """Names of variables that it does not get."""


class LocalKernels:
    """Starts kernels; shared by all threads. Removes what killed processes left of theirs.

    Parameters
    ----------
    at_once : int, optional
        Kernels that may be starting at the same time; default: as many as there are cores for us.
    start_seconds : float
        How long a kernel may take to answer.
    templates : bool
        Whether templates are started to fork kernels from; otherwise there is only one that was begun early.
    meanwhile : callable, optional
        Called while the first kernel starts: what else takes time and will be needed.
    """

    def __init__(
        self,
        at_once: int | None = None,
        start_seconds: float = START_SECONDS,
        *,
        templates: bool = True,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        self._starting = threading.BoundedSemaphore(at_once or usable_cores())
        self._start_seconds = start_seconds
        remove_left()
        self._contexts = _Contexts()
        self._templates = Templates(cache_folder() / "preload", new=templates)
        self._close = weakref.finalize(self, self._contexts.close)
        self._known = _Known(meanwhile)

    async def launch(
        self,
        name: str,
        *,
        cwd: Path,
        env: Mapping[str, str],
        heard: Heard,
        preload: Sequence[str] | None = None,
        private: Sequence[str] = (),
    ) -> Kernel:
        """Start the process of a kernel; :meth:`Kernel.ready` waits until it answers.

        Parameters
        ----------
        name : str
            Name of the kernel.
        cwd : Path
            Its working directory.
        env : mapping of str to str
            Its environment, whole.
        heard : callable
            Gets what the process itself writes to stdout and stderr, as it comes.
        preload : sequence of str, optional
            Have it forked from a template that has imported these modules; by default it is started.
        private : sequence of str
            Names of variables that such a template does not get: secrets.

        Raises
        ------
        DefinitionError
            If there is no such kernel.
        NbflowError
            If its command cannot be started.
        """
        while not self._starting.acquire(blocking=False):
            await asyncio.sleep(0.01)
        kernel = Kernel(name, self._contexts, self._known, heard, self._starting.release, self._start_seconds)
        warm = None if preload is None else Warm(self._templates, preload, private)
        if warm is None:
            early.end()  # the kernels of one workflow are begun in one way, or nearly
        try:
            await kernel.launch(cwd, env, warm)
        except BaseException as problem:
            await kernel.close()
            if isinstance(problem, OSError):
                raise NbflowError(f"kernel {name!r} cannot be started: {problem}") from problem
            raise
        return kernel

    def close(self) -> None:
        """Give back the sockets' threads, and end the templates; no kernel may be running.

        The threads go by themselves when this is forgotten, the templates with this process.
        """
        early.end()
        self._close()
        self._templates.close()


class _Known:
    """What is known of kernels by their names: the same for all that run at the same time."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        self.meanwhile = meanwhile
        self.specs: dict[str, Any] = {}
        self.languages: dict[str, dict[str, Any]] = {}
        """What kernels that were forked say about their language."""

    def spec(self, name: str) -> Any:
        """Give the spec, looked for once."""
        if name not in self.specs:
            self.specs[name] = kernel_spec(name)
        return self.specs[name]


class _Contexts:
    """The sockets' context of all kernels, made when the first of them is already starting."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: Any = None

    def get(self) -> Any:
        """Give the context."""
        with lean.uncollected():
            import zmq

        with self._lock:
            if self._made is None:
                self._made = context = zmq.Context()
                # Nothing that a kernel sent is dropped here while a cell prints faster than we read.
                context.setsockopt(zmq.RCVHWM, 0)
                context.setsockopt(zmq.LINGER, 0)
                context.setsockopt(zmq.RECONNECT_IVL, 10)  # milliseconds; the default of 100 is felt at each start
            return self._made

    def of_manager(self) -> Any:
        """Give it as jupyter_client's managers want it, for kernels that are interrupted by a message."""
        import zmq.asyncio

        return zmq.asyncio.Context(self.get())

    def close(self) -> None:
        """Give back its threads."""
        with self._lock:
            if self._made is not None:
                self._made.destroy(0)


class Kernel:
    """One kernel: its process, and a client that talks to it. Made by :class:`LocalKernels`."""

    def __init__(
        self,
        name: str,
        contexts: _Contexts,
        known: _Known,
        heard: Heard,
        started: Callable[[], None],
        start_seconds: float,
    ) -> None:
        self.name = name
        self.warm = False
        """Whether it was forked from a template."""
        self.language = ""
        self.language_info: dict[str, Any] = {}
        """What the kernel says about its language; filled by :meth:`ready`."""
        self._contexts = contexts
        self._known = known
        self._heard = heard
        self._release: Callable[[], None] | None = started
        self._start_seconds = start_seconds
        self._endpoint: Endpoint | None = None
        self._manager: Any = None
        self._client: Any = None
        self._pipe: int | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._words: deque[str] = deque([""], maxlen=LAST_LINES)
        self._end: asyncio.Task[int | None] | None = None
        self._is_kept = False

    @property
    def manager(self) -> Any:
        """The manager, as jupyter_client knows it."""
        return self._manager

    @property
    def client(self) -> Any:
        """The client, as jupyter_client knows it."""
        return self._client

    @property
    def exit_code(self) -> int | None:
        """How the process ended; negative: by that signal; ``None`` while it lives."""
        known = self._end is not None and self._end.done() and not self._end.cancelled()
        return self._end.result() if self._end is not None and known else None

    @property
    def last_words(self) -> str:
        """The last lines that the process wrote to its own stderr and stdout."""
        return "\n".join(line for line in self._words if line.strip())

    async def launch(self, cwd: Path, env: Mapping[str, str], warm: Warm | None = None) -> None:
        """Start the process, or have it forked from a template that has imported these modules."""
        self._endpoint = endpoint = make_endpoint()
        first = "jupyter_client" not in sys.modules and endpoint.transport == "ipc"
        plain = find_plain(self.name) if first else None
        spec = plain or self._known.spec(self.name)
        self.language = str(spec.language or "").lower()
        # Kernels of one notebook at a time would fight for one history database.
        own = ["--HistoryManager.hist_file=:memory:"] if any("ipykernel" in part for part in spec.argv) else []
        self._pipe, theirs = os.pipe()
        os.set_blocking(self._pipe, False)
        asyncio.get_running_loop().add_reader(self._pipe, self._listen)
        try:
            environment = {**env, "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
            if plain is not None:
                environment["JPY_PARENT_PID"] = str(os.getpid())
                command = plain_command(plain, self.name, endpoint, own, environment)
                await self._start(plain, command, cwd, environment, theirs, warm)
            else:
                self._manager = manager = _manager(self.name, endpoint, self._contexts.of_manager())
                ours = warm is not None and _fork_from(manager, spec, warm)
                await _launch(manager, own, cwd, environment, theirs)
                self.warm = ours and isinstance(getattr(manager.provisioner, "process", None), Forked)
        finally:
            os.close(theirs)
        self._end = asyncio.create_task(self._watch())
        _offer_to_the_memory_killer(getattr(self._manager.provisioner, "pid", None))
        self._connect()

    async def _start(
        self,
        plain: PlainSpec,
        command: Sequence[str],
        cwd: Path,
        env: Mapping[str, str],
        output: int,
        warm: Warm | None,
    ) -> None:
        """Start the process, or have it forked, and load what talks to it meanwhile."""
        process: subprocess.Popen[bytes] | Forked | None = None
        fork: asyncio.Task[Forked] | None = None
        if warm is not None and warm.templates.begin(command, env, warm.preload, warm.private):
            fork = asyncio.create_task(_fork(warm, command, env, cwd, output))
            await asyncio.sleep(0)  # it is asked
        else:
            process = start_plain(command, cwd, env, output)
        try:
            assert self._endpoint is not None
            self._manager = manager = _manager(self.name, self._endpoint, self._contexts.of_manager())
            self._known.meanwhile()
            if fork is not None:
                try:
                    process = await fork
                except NoKernelError as problem:
                    QUIET.debug("a kernel starts cold: %s", problem)
            process = process or start_plain(command, cwd, env, output)
            self.warm = isinstance(process, Forked)
            _adopt(manager, plain, process, cwd, warm if self.warm else None)
            self._known.specs[self.name] = manager.kernel_spec
        except BaseException:
            if fork is not None:
                fork.cancel()
            if process is not None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            raise

    def _connect(self) -> None:
        with lean.uncollected():
            import zmq

            from .client import Client

        try:
            known = self._manager.get_connection_info(session=True)
            self._client = Client(**known, parent=self._manager, context=self._contexts.get(), log=QUIET)
            self._client.start_channels(stdin=False, hb=False)
        except zmq.ZMQError as problem:
            raise OSError(problem.errno, problem.strerror) from problem

    async def ready(self) -> None:
        """Wait until the kernel answers and its output is heard.

        Raises
        ------
        NbflowError
            If it died, or lives and says nothing.
        """
        if self.language_info:
            return  # it has answered before
        assert self._end is not None
        greeting = asyncio.create_task(self._greet())
        try:
            await asyncio.wait({greeting, self._end}, timeout=self._start_seconds, return_when=asyncio.FIRST_COMPLETED)
            if greeting.done():
                self.language_info = greeting.result()
                self.language = str(self.language_info.get("name") or self.language).lower()
                return
            if self._end.done():
                await asyncio.sleep(0)
                self._listen()
                raise NbflowError(f"kernel {self.name!r} did not start: {self.ending()}")
            raise NbflowError(
                f"kernel {self.name!r} did not start: its process is alive but was silent for {self._start_seconds:g} s"
            )
        finally:
            greeting.cancel()
            self._started()

    def _started(self) -> None:
        if self._release is not None:
            self._release()
            self._release = None

    def ending(self) -> str:
        """Tell in one line how the process ended, with the last line that it wrote."""
        code = self.exit_code
        how = ending(code)
        if code is not None and UNKNOWN < code < 0:
            how = f"killed by {how}"
        last = self.last_words.rpartition("\n")[2].strip()
        return f"{how}: {last[:300]}" if last else how

    async def _greet(self) -> dict[str, Any]:
        """Give the kernel's language; not before both its answer and its output are heard."""
        client, known = self._client, self._known.languages.get(self.name)
        if self.warm and known is not None:
            with contextlib.suppress(Empty):  # an older ipykernel does not say that its output is heard
                message = await client.iopub_channel.get_msg(timeout=0.05)
                if message["msg_type"] == "iopub_welcome":
                    return known
        while True:
            client.kernel_info()
            with contextlib.suppress(Empty):  # then it is asked again
                reply = await client.shell_channel.get_msg(timeout=1.0)
                if reply["msg_type"] == "kernel_info_reply":
                    await client.iopub_channel.get_msg(timeout=0.2)
                    info = dict(reply["content"].get("language_info", {}))
                    if self.warm:
                        self._known.languages[self.name] = info
                    return info

    async def ended(self) -> int | None:
        """Wait for the end of the process; gives its exit code, negative for a signal."""
        assert self._end is not None
        return await asyncio.shield(self._end)

    async def interrupt(self) -> None:
        """Interrupt what the kernel does, with its child processes."""
        if self._end is not None and not self._end.done():
            with contextlib.suppress(ProcessLookupError, RuntimeError):  # it ended this moment
                await self._manager.interrupt_kernel()

    async def kill(self) -> None:
        """End the process and its child processes at once."""
        if self._end is not None and self.exit_code is None:
            with contextlib.suppress(ProcessLookupError):  # it ended this moment
                await self._manager.provisioner.kill()

    def keep(self) -> str:
        """Let it live on when it is closed, as long as this process; gives the file by which others connect to it."""
        assert self._endpoint is not None
        self._is_kept = True
        manager, endpoint = self._manager, self._endpoint
        _kept[endpoint] = manager  # with it goes what the kernel's life hangs on

        def bury() -> None:
            manager.provisioner.process.wait()
            _kept.pop(endpoint, None)
            endpoint.remove()

        threading.Thread(target=bury, name="nbflow-kept", daemon=True).start()
        return endpoint.connection_file

    async def suspend(self) -> None:
        """Leave it alone for a while: nothing in this event loop waits for it any more."""
        if self._end is not None:
            self._end.cancel()
            await asyncio.wait({self._end})
        if self._pipe is not None:
            self._listen()
            asyncio.get_running_loop().remove_reader(self._pipe)

    def has_died(self) -> bool:
        """Whether its process has ended while nobody watched it: the system takes memory from those that idle."""
        pid = getattr(self._manager.provisioner, "pid", None)
        if pid is None or not hasattr(os, "pidfd_open"):
            return False
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            return True
        try:
            return bool(select.select([process], [], [], 0)[0])
        finally:
            os.close(process)

    async def resume(self, heard: Heard) -> None:
        """Go on with it, perhaps in another event loop.

        Parameters
        ----------
        heard : callable
            Gets what the process itself writes to stdout and stderr from now on.
        """
        self._heard = heard
        self._end = asyncio.create_task(self._watch())
        if self._pipe is not None:
            asyncio.get_running_loop().add_reader(self._pipe, self._listen)
        await asyncio.sleep(0)  # one that died meanwhile is known to have

    async def close(self) -> None:
        """Ask the kernel to go, end it if it does not, and remove what it left; of one that is kept only let go."""
        if self._is_kept:
            self._started()
            if self._end is not None:
                self._end.cancel()
            self._hang_up()
            return
        try:
            await self._farewell()
        finally:
            self._started()
            self._hang_up()
            if self._manager is not None and self._manager.provisioner is not None:
                await self._manager.provisioner.cleanup()
            if self._endpoint is not None:
                self._endpoint.remove()

    async def _farewell(self) -> None:
        if self._end is None:
            return
        if not self._end.done() and self._client is not None:
            self._client.shutdown()
            await asyncio.wait({self._end}, timeout=FAREWELL_SECONDS)
        if self.exit_code is None:
            await self.kill()
            await asyncio.wait({self._end}, timeout=5.0)
        if self.exit_code is not None or self._end.cancelled():
            await self._manager.provisioner.wait()  # closes the descriptors of the process
        self._end.cancel()

    def _hang_up(self) -> None:
        if self._client is not None:
            for channel in (self._client.shell_channel, self._client.iopub_channel, self._client.control_channel):
                channel.stop()
        if self._manager is not None and not self._is_kept:
            self._manager.cleanup_connection_file()
        if self._pipe is not None:
            self._listen()
            asyncio.get_running_loop().remove_reader(self._pipe)
            os.close(self._pipe)
            self._pipe = None

    def _listen(self) -> None:
        """Pass on what the process wrote to its own stdout and stderr."""
        if self._pipe is None:
            return
        while True:
            try:
                data = os.read(self._pipe, 65536)
            except BlockingIOError:
                return
            if not data:
                asyncio.get_running_loop().remove_reader(self._pipe)
                return
            text = self._decoder.decode(data)
            first, *others = text.split("\n")
            self._words[-1] = (self._words[-1] + first)[-500:]
            self._words.extend(line[-500:] for line in others)
            self._heard(text)

    async def _watch(self) -> int | None:
        """Wait for the end of the process, and end the child processes that outlive it."""
        provisioner = self._manager.provisioner
        process, pid = getattr(provisioner, "process", None), getattr(provisioner, "pid", None)
        if isinstance(process, Forked):
            await process.gone()
            await _tidied(process.pid)
            process.signal_group(signal.SIGKILL)
        elif pid is not None and hasattr(os, "pidfd_open"):
            await readiness(os.pidfd_open(pid))
            await _tidied(pid)
            # The process is not reaped yet, so its group's number cannot be another's.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        while (code := await provisioner.poll()) is None:
            await asyncio.sleep(0.002)
        self._listen()
        return int(code)


async def _tidied(leader: int) -> None:
    """Let what tidies up behind a kernel do so: it ends by itself when the others of the group have ended."""
    others = group_of(leader)
    trackers = [pid for pid in others if tends_resources(pid)]
    if not trackers:
        return
    for pid in others:
        if pid not in trackers:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + TIDYING_SECONDS
    while time.monotonic() < until and any(map(tends_resources, trackers)):
        await asyncio.sleep(0.01)


def _manager(name: str, endpoint: Endpoint, context: Any) -> Any:
    """Give the manager of a kernel, as jupyter_client knows it."""
    with lean.uncollected():
        from jupyter_client.manager import AsyncKernelManager

    return AsyncKernelManager(
        kernel_name=name,
        transport=endpoint.transport,
        ip=endpoint.ip,
        connection_file=endpoint.connection_file,
        context=context,
        log=QUIET,
    )


async def _launch(manager: Any, own: Sequence[str], cwd: Path, env: Mapping[str, str], output: int) -> None:
    """Have a manager's provisioner launch the kernel."""
    command, options = await manager.pre_start_kernel(
        extra_arguments=own, cwd=str(cwd), env=env, stdout=output, stderr=output
    )
    await manager._launch_kernel(command, **options)  # noqa: SLF001 - start_kernel would sleep, and connect a socket that nobody uses


def _fork_from(manager: Any, spec: Any, warm: Warm) -> bool:
    """Have a manager's kernel forked, where nobody said how such kernels are to be started; tell whether it may be."""
    from .warm.provisioner import WarmProvisioner

    manager._kernel_spec = spec  # noqa: SLF001 - or it looks for it again
    if "kernel_provisioner" not in spec.metadata and "JUPYTER_DEFAULT_PROVISIONER_NAME" not in os.environ:
        manager.kernel_id = str(uuid.uuid4())
        manager.provisioner = WarmProvisioner(
            kernel_id=manager.kernel_id,
            kernel_spec=spec,
            parent=manager,
            templates=warm.templates,
            preload=list(warm.preload),
            private=list(warm.private),
        )
        return True
    return False


async def _fork(warm: Warm, command: Sequence[str], env: Mapping[str, str], cwd: Path, output: int) -> Forked:
    """Have a kernel forked whose stdin is closed."""
    stdin, end = os.pipe()
    os.close(end)
    try:
        streams = [stdin, output, output]
        return await warm.templates.fork(command, env, str(cwd), streams, warm.preload, warm.private)
    finally:
        os.close(stdin)


def _adopt(
    manager: Any,
    spec: PlainSpec,
    process: subprocess.Popen[bytes] | Forked,
    cwd: Path,
    warm: Warm | None,
) -> None:
    """Make a manager the one of a process that was started, or forked, before it."""
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.provisioning import LocalProvisioner

    manager.load_connection_file()
    if warm is not None:
        _fork_from(manager, KernelSpec(resource_dir=str(spec.folder), **spec.data), warm)
    else:
        manager._kernel_spec = KernelSpec(resource_dir=str(spec.folder), **spec.data)  # noqa: SLF001 - or it looks for it again
        manager.kernel_id = str(uuid.uuid4())
        manager.provisioner = LocalProvisioner(
            kernel_id=manager.kernel_id, kernel_spec=manager.kernel_spec, parent=manager
        )
    provisioner = manager.provisioner
    provisioner.process = process
    provisioner.pid = provisioner.pgid = process.pid  # it leads a session of its own
    provisioner.cwd = str(cwd)
    provisioner.connection_info = manager.get_connection_info()


def _offer_to_the_memory_killer(pid: int | None) -> None:
    """Make the system, when memory runs out, end this kernel before us (Linux)."""
    file = Path(f"/proc/{pid}/oom_score_adj")
    with contextlib.suppress(OSError, ValueError):  # no such thing on this system, or it ended already
        file.write_text(str(min(1000, int(file.read_text()) + 500)))
