"""A provisioner of kernels that are forked from a template; jupyter_client, nbclient and papermill can use it."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
from typing import Any

from jupyter_client.provisioning import LocalProvisioner
from traitlets import Any as Anything
from traitlets import List, Unicode

from .templates import Forked, NoKernelError, Templates

__all__ = ["WarmProvisioner"]

QUIET = logging.getLogger("nbflow.kernels")

_UNDERSTOOD = frozenset({"env", "cwd", "stdin", "stdout", "stderr", "extra_arguments", "kernel_id", "cmd"})
"""What a call of ``Popen`` may ask for; a kernel that shall be independent of us, for one, cannot come from a fork."""


class WarmProvisioner(LocalProvisioner):  # type: ignore[misc]  # jupyter_client is untyped
    """Forks IPython kernels from a template that has imported them, and starts all others as they always start.

    Registered as ``nbflow-warm``: name it in a kernel's spec under ``metadata.kernel_provisioner``, or by
    ``JUPYTER_DEFAULT_PROVISIONER_NAME=nbflow-warm``.
    """

    preload: Any = List(Unicode(), help="Modules that the template imports.").tag(config=True)
    private: Any = List(Unicode(), help="Names of variables that the template does not get.").tag(config=True)
    templates: Any = Anything(help="The templates; by default those of this process.")
    process: Any = None

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        """Fork a kernel, or start it where it cannot be forked."""
        process = await self._forked(cmd, kwargs)
        if process is None:
            return await super().launch_kernel(cmd, **kwargs)
        self.process = process
        self.pid = self.pgid = process.pid
        self.cwd = kwargs.get("cwd")
        return self.connection_info

    async def _forked(self, cmd: list[str], given: dict[str, Any]) -> Forked | None:
        try:
            _check(given)
            env = {**(given.get("env") or os.environ), "JPY_PARENT_PID": str(os.getpid())}
            templates = self.templates if self.templates is not None else _own()
            cwd = given.get("cwd") or os.getcwd()  # noqa: PTH109 - text
            with contextlib.ExitStack() as stack:
                streams = _streams(given, stack)
                return await templates.fork(cmd, env, str(cwd), streams, self.preload, self.private)
        except NoKernelError as problem:
            QUIET.debug("a kernel starts cold: %s", problem)
            return None

    async def wait(self) -> int | None:
        """Wait for the end of the kernel, without looking again and again."""
        if isinstance(self.process, Forked):
            await self.process.gone()
        code: int | None = await super().wait()
        return code

    async def send_signal(self, signum: int) -> None:
        """Send a signal to the kernel and the processes that it started."""
        if isinstance(self.process, Forked):
            self.process.signal_group(signum)
        else:
            await super().send_signal(signum)


def _check(given: dict[str, Any]) -> None:
    """Refuse what a fork cannot give."""
    if other := sorted(name for name in given.keys() - _UNDERSTOOD if given[name]):
        raise NoKernelError(f"somebody wants it started with {', '.join(other)}")


def _streams(given: dict[str, Any], stack: contextlib.ExitStack) -> list[int]:
    """Give the descriptors for stdin, stdout and stderr that a call of ``Popen`` asks for."""
    stdin = given.get("stdin")
    if stdin is None:
        read, write = os.pipe()
        stack.callback(os.close, read)
        os.close(write)
        streams = [read]
    else:
        streams = [_descriptor(stdin, 0, stack)]
    streams.append(_descriptor(given.get("stdout"), 1, stack))
    stderr = given.get("stderr")
    streams.append(streams[1] if stderr == subprocess.STDOUT else _descriptor(stderr, 2, stack))
    return streams


def _descriptor(stream: Any, own: int, stack: contextlib.ExitStack) -> int:
    if stream is None:
        return own
    if stream == subprocess.DEVNULL:
        null = os.open(os.devnull, os.O_RDWR)
        stack.callback(os.close, null)
        return null
    if stream == subprocess.PIPE:
        raise NoKernelError("somebody wants its stream as a pipe")
    return stream if isinstance(stream, int) else int(stream.fileno())


_templates: list[Templates] = []


def _own() -> Templates:
    """Give the templates that live as long as this process."""
    from ...host import cache_folder

    if not _templates:
        _templates.append(Templates(cache_folder() / "preload"))
    return _templates[0]
