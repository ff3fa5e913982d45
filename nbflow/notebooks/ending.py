"""How a Python kernel ends: at once. Runs inside kernels as it stands: standard library only, Python 3.9.

Two things take time at the end of ipykernel, and neither does anything for the notebook. Python looks for cycles in
all that IPython made, for a tenth of a second. And ipykernel stops the thread that sends output before those that may
still have something to send: on a busy machine they wait for it for ever.
"""

from __future__ import annotations

import atexit
import gc
import sys
from typing import Any

THREADS = ("control_thread", "shell_channel_thread")
LIMIT = 1.0
"""Seconds that a thread may take."""


def end_at_once() -> None:
    """Prepare the end; to be called before the notebook's first cell, so that all of its own handlers go first."""
    if hasattr(gc, "freeze"):
        gc.freeze()  # what exists now is IPython's; what the notebook makes is looked at as ever
    kernel = sys.modules.get("ipykernel.kernelapp")
    if kernel is None or not kernel.IPKernelApp.initialized():
        return
    app = kernel.IPKernelApp.instance()
    threads = [getattr(app, name, None) for name in THREADS]

    def stop_senders() -> None:
        for thread in threads:
            if thread is not None and thread.is_alive():
                thread.stop()
                thread.join(LIMIT)

    atexit.register(stop_senders)
    spare_trackers(getattr(app, "kernel", None))


def spare_trackers(kernel: Any) -> None:
    """Have a kernel that ends leave those alone that tidy up behind it: they end when it has ended."""
    find = getattr(kernel, "_process_children", None)
    if find is not None:
        kernel._process_children = lambda: [child for child in find() if not tidies(child)]  # noqa: SLF001


def tidies(child: Any) -> bool:
    """Whether a process is a resource tracker, multiprocessing's or joblib's."""
    try:
        return any("resource_tracker" in word for word in child.cmdline())
    except Exception:  # noqa: BLE001 - psutil's own: it ended meanwhile, or is nobody's to look at
        return False
