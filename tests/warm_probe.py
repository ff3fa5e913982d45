"""What a kernel can know of itself: the text of a cell for ``tests/test_warm_same.py``."""

from __future__ import annotations

import asyncio
import atexit
import builtins
import copyreg
import decimal
import faulthandler
import fcntl
import gc
import linecache
import locale
import logging
import multiprocessing
import os
import random
import resource
import secrets
import signal
import site
import socket
import sys
import tempfile
import threading
import time
import tracemalloc
import uuid
import warnings
from collections.abc import Iterator
from typing import Any

from IPython import get_ipython


def named(thing: Any) -> str:
    """Name a function, a class, or the class of an object."""
    return f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', type(thing).__qualname__)}"


def text(path: str) -> str:
    """Read what the system tells; a file that is not there is one, too."""
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError as problem:
        return str(problem.strerror)


def of_the_process() -> Iterator[tuple[str, Any]]:
    """What the system knows of it."""
    status = dict(line.split(":\t", 1) for line in text("/proc/self/status").splitlines() if ":\t" in line)
    stat = text("/proc/self/stat").rpartition(")")[2].split()
    numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    kinds = []
    for number in numbers:
        if os.path.lexists(f"/proc/self/fd/{number}"):
            flags = fcntl.fcntl(number, fcntl.F_GETFL) & ~os.O_LARGEFILE
            kinds.append(f"{os.readlink(f'/proc/self/fd/{number}').partition(':[')[0]} {flags:o}")
    yield "descriptors", sorted(kinds)
    yield "inheritable", [n for n in numbers if os.path.lexists(f"/proc/self/fd/{n}") and os.get_inheritable(n)]
    yield "handlers", {int(one): str(signal.getsignal(one)).partition(" at ")[0] for one in signal.valid_signals()}
    masks = ("SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd")
    yield "signals", {name: int(status[name], 16) & 0x7FFFFFFF for name in masks}  # above are those of threads
    yield "timers", [signal.getitimer(which) for which in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL)]
    limits = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    yield "limits", {name: resource.getrlimit(getattr(resource, name)) for name in limits}
    names = ("Umask", "Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp", "CapEff", "CapAmb", "Mems_allowed", "TracerPid")
    yield "status", {name: status.get(name) for name in names}
    yield "nice", [os.nice(0), sorted(os.sched_getaffinity(0)), os.sched_getscheduler(0)]
    names = ("comm", "oom_score_adj", "coredump_filter", "personality", "timerslack_ns", "cgroup", "loginuid")
    yield "proc", {name: text(f"/proc/self/{name}") for name in names}
    yield "links", {name: os.readlink(f"/proc/self/{name}") for name in ("exe", "cwd", "root", "ns/mnt", "ns/pid")}
    yield "command line", text("/proc/self/cmdline").rstrip("\0").split("\0")
    yield "first environment", sorted(line.partition("=")[0] for line in text("/proc/self/environ").split("\0"))
    yield "leads", [os.getsid(0) == os.getpid(), os.getpgrp() == os.getpid()]
    yield "terminal", [*stat[4:6], text("/dev/tty")]
    yield "parent", os.getppid() == int(os.environ["JPY_PARENT_PID"])
    yield "children", text(f"/proc/self/task/{os.getpid()}/children")
    yield "native threads", sorted(text(f"/proc/self/task/{task}/comm") for task in os.listdir("/proc/self/task"))


def of_python() -> Iterator[tuple[str, Any]]:
    """What the interpreter and the standard library have set."""
    yield "cwd", os.getcwd()
    yield "environment", dict(os.environ)
    yield "path", sys.path
    yield "arguments", [sys.argv, getattr(sys, "orig_argv", None), str(sys.flags), sys._xoptions, sys.warnoptions]
    yield "filters", [str(one) for one in warnings.filters]
    yield "modules", sorted(sys.modules)
    main = sys.modules["__main__"]
    yield "main", [sorted(vars(main)), named(type(main)), str(vars(main).get("__spec__")), main.__doc__]
    yield "builtins", sorted(vars(builtins))
    yield "locale", [locale.setlocale(locale.LC_ALL), locale.getpreferredencoding(False), sys.getfilesystemencoding()]
    yield "zone", [time.tzname, time.timezone]
    streams = (sys.stdin, sys.stdout, sys.stderr, sys.__stdin__, sys.__stdout__, sys.__stderr__)
    about = ("encoding", "errors", "name", "mode", "closed", "line_buffering", "write_through")
    yield "streams", [[named(one), one.isatty(), *(str(getattr(one, name, "")) for name in about)] for one in streams]
    yield "collector", [gc.isenabled(), gc.get_threshold(), gc.get_debug(), len(gc.callbacks), len(gc.garbage)]
    yield "frozen", gc.get_freeze_count() > 0
    yield "threads", sorted(f"{named(one)} {one.daemon}" for one in threading.enumerate())
    thread = threading.main_thread()
    yield "main thread", [thread.name, thread is threading.current_thread(), thread.native_id == os.getpid()]
    yield "next thread", threading.Thread().name
    settings = (sys.getrecursionlimit, sys.getswitchinterval, sys.getprofile, sys.gettrace, sys.get_asyncgen_hooks)
    yield "interpreter", [str(setting()) for setting in settings]
    yield "places", [sys.executable, sys.prefix, sys.base_prefix, sys.pycache_prefix, sys.dont_write_bytecode]
    yield "at exit", atexit._ncallbacks()
    hooks = (sys.excepthook, sys.displayhook, sys.unraisablehook, sys.breakpointhook, threading.excepthook)
    yield "hooks", [named(one) for one in (*hooks, warnings.showwarning, builtins.input, builtins.__import__)]
    yield "prompts", [hasattr(sys, "ps1"), hasattr(sys, "last_value")]
    yield "finders", [[named(one) for one in sys.meta_path], [named(one) for one in sys.path_hooks]]
    known = logging.root.manager.loggerDict.items()
    loggers = [(name, one) for name, one in known if isinstance(one, logging.Logger)]
    yield "logging", [logging.root.level, len(logging.root.handlers), logging.root.manager.disable]
    loggers = [(name, one) for name, one in loggers if one.level or one.handlers]
    yield "loggers", sorted(f"{name} {one.level} {len(one.handlers)} {one.propagate}" for name, one in loggers)
    yield "watched", [faulthandler.is_enabled(), tracemalloc.is_tracing()]
    yield "site", [site.ENABLE_USER_SITE, site.getuserbase(), tempfile.gettempdir()]
    yield "loop", [named(asyncio.get_event_loop_policy()), named(asyncio.get_running_loop())]
    yield "decimal", [str(decimal.getcontext()), socket.getdefaulttimeout()]
    own = multiprocessing.current_process()
    yield "processes", [multiprocessing.get_start_method(True), own.name, str(multiprocessing.parent_process())]
    yield "reducers", sorted(named(kind) for kind in copyreg.dispatch_table)
    yield "lines", sorted(name for name in linecache.cache if "ipykernel_" not in name)
    yield "hash", hash("a")
    drawn = [random.random(), secrets.token_hex(4), str(uuid.uuid4()), own.authkey.hex()]
    yield "random", [*drawn, os.path.basename(tempfile.mktemp()), next(tempfile._get_candidate_names())]


def of_the_kernel() -> Iterator[tuple[str, Any]]:
    """What IPython has set."""
    shell: Any = get_ipython()
    kernel = shell.kernel
    app = kernel.parent
    yield "shell", [named(type(one)) for one in (shell, kernel, app, shell.display_formatter, app.interrupt)]
    yield "profile", [shell.profile, shell.ipython_dir, shell.profile_dir.location, str(shell.starting_dir)]
    yield "settings", [str(shell.colors), shell.ast_node_interactivity, shell.autoawait, shell.execution_count]
    history = shell.history_manager
    yield "history", [history.hist_file, history.session_number, history.enabled, len(history.input_hist_raw)]
    yield "folders", [str(folder) for folder in shell.user_ns["_dh"]]
    yield "names", [sorted(shell.user_ns), sorted(shell.user_ns_hidden)]
    yield "magics", {kind: sorted(magics) for kind, magics in shell.magics_manager.magics.items()}
    yield "events", {event: [named(one) for one in all_] for event, all_ in shell.events.callbacks.items()}
    yield "extensions", [sorted(shell.extension_manager.loaded), len(shell.alias_manager.aliases)]
    steps = (shell.input_transformers_cleanup, shell.input_transformers_post, shell.ast_transformers)
    yield "transformers", [[named(one) for one in all_] for all_ in steps]
    yield "config", [str(shell.config), str(app.config), app.loaded_config_files]
    yield "connection", [app.connection_file, app.transport, app.ip, oct(os.stat(app.connection_file).st_mode)]
    yield "session", [kernel.session.username, kernel.session.signature_scheme, kernel.session.pid == os.getpid()]
    yield "secret", [kernel.session.key.decode(), kernel.session.session]
    yield "owner", [app.parent_handle == int(os.environ["JPY_PARENT_PID"]), str(kernel.eventloop)]


def of_libraries() -> Iterator[tuple[str, Any]]:
    """What those that are imported have set, and which formatters they have registered."""
    formatters = get_ipython().display_formatter.formatters.items()  # type: ignore[union-attr]
    yield "formatters", {kind: sorted(map(named, one.type_printers)) for kind, one in formatters}
    import matplotlib as mpl
    import matplotlib.pyplot as plt
    import numpy as np
    import pandas as pd

    yield "numpy", [np.geterr(), str(np.get_printoptions())]
    yield "random of numpy", [np.random.random(), np.random.default_rng().random()]
    yield "matplotlib", {name: str(value) for name, value in dict.items(mpl.rcParams)}
    yield "pyplot", [plt._REPL_DISPLAYHOOK.name, plt.get_fignums(), mpl.matplotlib_fname()]
    yield "pandas", {name: str(pd.get_option(name)) for name in pd._config.config._registered_options}
    if "torch" in sys.modules:
        import torch

        yield "torch", [torch.get_num_threads(), str(torch.get_default_dtype())]
        yield "random of torch", [torch.rand(1).item(), torch.initial_seed()]


def seen(*parts: Any) -> dict[str, Any]:
    """Give all that is known."""
    return {name: value for part in parts for name, value in part()}
