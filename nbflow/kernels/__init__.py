"""Kernels: starts them, watches over them, and leaves nothing of them behind."""

from __future__ import annotations

from .local import Kernel, LocalKernels
from .specs import check, kernel_names

__all__ = ["Kernel", "LocalKernels", "check", "kernel_names"]
