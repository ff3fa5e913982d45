"""The client of a kernel: jupyter_client's, with channels that cost little for each message.

A notebook is a few dozen messages. jupyter_client's asynchronous channels make several futures for each, and read every
date in it; on a busy machine that is as much work as the kernel does for a small cell.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from queue import Empty
from typing import Any

import zmq
from jupyter_client.adapter import adapt
from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.jsonutil import parse_date
from jupyter_client.session import DELIM, Session
from traitlets import Instance, Type

__all__ = ["Channel", "Client", "read"]


class Channel:
    """One channel: sends messages, and gives those that come, each when it is asked for.

    Parameters
    ----------
    socket : zmq.Socket
        Connected to the kernel.
    session : Session
        Signs what is sent, and knows the key of what comes.
    """

    def __init__(self, socket: zmq.Socket[bytes], session: Session, _loop: object = None) -> None:
        self.socket = socket
        self.session = session
        self._waiting: asyncio.Future[None] | None = None

    def start(self) -> None:
        """Begin; there is nothing to do."""

    def is_alive(self) -> bool:
        """Whether it is open."""
        return not self.socket.closed

    def stop(self) -> None:
        """Close it."""
        self.socket.close(linger=0)

    close = stop

    def send(self, message: dict[str, Any]) -> None:
        """Send a message."""
        self.session.send(self.socket, message)
        # ZeroMQ tells once that something came, and may just have told it to the sending.
        if self._waiting is not None and int(self.socket.get(zmq.EVENTS)) & zmq.POLLIN:
            _wake(self._waiting)

    async def get_msg(self, timeout: float | None = None) -> dict[str, Any]:
        """Give the next message.

        Raises
        ------
        Empty
            If none comes within ``timeout`` seconds.
        """
        frames = self._receive()
        if frames is None:
            frames = await self._wait(timeout)
        else:
            await asyncio.sleep(0)  # a kernel that prints without end leaves room for others
        return read(frames, self.session)

    def _receive(self) -> list[bytes] | None:
        try:
            return self.socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None

    async def _wait(self, timeout: float | None) -> list[bytes]:
        loop = asyncio.get_running_loop()
        end = None if timeout is None else loop.time() + timeout
        descriptor = int(self.socket.get(zmq.FD))
        while True:
            waiting = self._waiting = loop.create_future()
            loop.add_reader(descriptor, _wake, waiting)
            timer = None if end is None else loop.call_at(end, _wake, waiting)
            try:
                if (frames := self._receive()) is not None:
                    return frames
                if end is not None and loop.time() >= end:
                    raise Empty
                await waiting
            finally:
                self._waiting = None
                loop.remove_reader(descriptor)
                if timer is not None:
                    timer.cancel()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def read(frames: Sequence[bytes], session: Session) -> dict[str, Any]:
    """Read a message as jupyter_client does, but for dates: only that of the header is one.

    Raises
    ------
    ValueError
        If it is no message, or its signature is not that of the session's key.
    """
    signature, *parts = frames[list(frames).index(DELIM) + 1 :]
    if len(parts) < 4:
        raise ValueError(f"a message of {len(parts)} parts; it has at least 4")
    if session.auth is not None:
        check = session.auth.copy()
        for part in parts[:4]:
            check.update(part)
        if not hmac.compare_digest(check.hexdigest().encode(), signature):
            raise ValueError("a message with a signature that is not the kernel's")
    header, parent, metadata, content = (json.loads(part.decode("utf-8", "replace")) for part in parts[:4])
    header["date"] = _date(header)
    message = {
        "header": header,
        "msg_id": header["msg_id"],
        "msg_type": header["msg_type"],
        "parent_header": parent,
        "metadata": metadata,
        "content": content,
        "buffers": [memoryview(part) for part in parts[4:]],
    }
    if not str(header.get("version", "")).startswith("5."):
        message = adapt(message)
    return message


def _date(header: Mapping[str, Any]) -> object:
    text = header.get("date")
    if not isinstance(text, str):
        return text
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return parse_date(text)


class Client(AsyncKernelClient):  # type: ignore[misc]  # jupyter_client is untyped
    """A client of one kernel, used in one event loop."""

    context = Instance(zmq.Context)
    shell_channel_class = Type(Channel)
    iopub_channel_class = Type(Channel)
    stdin_channel_class = Type(Channel)
    control_channel_class = Type(Channel)
