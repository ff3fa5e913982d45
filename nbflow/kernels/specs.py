"""Which kernels are installed, and whether one of them is there."""

from __future__ import annotations

import shlex
from typing import Any

from ..errors import DefinitionError, did_you_mean
from .plain import find_plain

__all__ = ["check", "command", "kernel_names", "kernel_spec"]


def kernel_names() -> list[str]:
    """Give the names of the installed kernels, sorted."""
    from jupyter_client.kernelspec import KernelSpecManager

    return sorted(KernelSpecManager().find_kernel_specs())


def check(name: str) -> None:
    """Make sure that a kernel of this name is installed.

    Raises
    ------
    DefinitionError
        If there is none; names those that there are.
    """
    if find_plain(name) is None:
        kernel_spec(name)


def command(name: str) -> list[str]:
    """Give the command of a kernel, with names in braces.

    Raises
    ------
    DefinitionError
        If there is none of this name.
    """
    plain = find_plain(name)
    return list(kernel_spec(name).argv) if plain is None else plain.argv


def kernel_spec(name: str) -> Any:
    """Give the spec of a kernel: its command, its language.

    Raises
    ------
    DefinitionError
        If there is none of this name.
    """
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    try:
        return KernelSpecManager().get_kernel_spec(name)
    except NoSuchKernel:
        known = kernel_names()
        there = f"Installed: {', '.join(known)} (choose with -k)." if known else "No kernel is installed."
        install = "\nOr make one: python -m ipykernel install --user"
        if name:  # under the name of another language it would still run Python
            install = f"{install} --name {shlex.quote(name)}" if name.startswith("python") else ""
        raise DefinitionError(
            f"there is no kernel named {name!r}.{did_you_mean(name, known)}", f"{there}{install}"
        ) from None
