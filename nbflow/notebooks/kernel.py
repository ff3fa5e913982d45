"""What running a notebook needs of a kernel; the kernels themselves are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

__all__ = ["Kernel", "Kernels"]


class Kernel(Protocol):
    """One kernel."""

    language: str
    """In lower case, as the kernel's spec and later the kernel itself says."""
    language_info: dict[str, Any]
    warm: bool
    """Whether it was forked from one that has imported what was asked for."""

    @property
    def manager(self) -> Any:
        """The manager, as jupyter_client knows it."""
        ...

    @property
    def client(self) -> Any:
        """The client, as jupyter_client knows it, with its channels open."""
        ...

    @property
    def exit_code(self) -> int | None:
        """How it ended; negative: by that signal; ``None`` while it lives."""
        ...

    @property
    def last_words(self) -> str:
        """The last lines that its process wrote to its own stderr and stdout."""
        ...

    async def ready(self) -> None:
        """Wait until it answers, or raise NbflowError."""
        ...

    async def ended(self) -> int | None:
        """Wait for its end."""
        ...

    async def interrupt(self) -> None:
        """Interrupt what it does."""
        ...

    async def kill(self) -> None:
        """End it at once."""
        ...

    def keep(self) -> str:
        """Let it live on when it is closed; gives the file by which others connect to it."""
        ...

    async def suspend(self) -> None:
        """Leave it alone until another event loop goes on with it."""
        ...

    def has_died(self) -> bool:
        """Whether its process has ended while nobody watched it."""
        ...

    async def resume(self, heard: Callable[[str], None]) -> None:
        """Go on with it in this event loop."""
        ...

    async def close(self) -> None:
        """End it, and remove what it left."""
        ...


class Kernels(Protocol):
    """Starts kernels; shared by all threads."""

    async def launch(
        self,
        name: str,
        *,
        cwd: Path,
        env: Mapping[str, str],
        heard: Callable[[str], None],
        preload: Sequence[str] | None = None,
        private: Sequence[str] = (),
    ) -> Kernel:
        """Start the process of a kernel, or have it forked from one that has imported modules; or raise NbflowError."""
        ...
