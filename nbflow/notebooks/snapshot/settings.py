"""What is no name: the settings of the interpreter and of libraries, and the states of random generators."""

from __future__ import annotations

import contextlib
import functools
import importlib
import pickle
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple


class Row(NamedTuple):
    """Something that a step may have set, and that a later one sees."""

    module: str
    name: str
    take: Callable[[Any], Any]
    """Gives it as it is."""
    give: Callable[[Any, Any], None]
    """Makes it so."""
    usual: Any = None
    """What it is in a kernel that nothing was set in; None for what it was at the kernel's start."""
    early: bool = False
    """Whether it has to be so before anything is imported."""
    apart: Callable[[Any, Any], Any] = lambda _, now: now
    """Gives what is written, of how it was at the start and how it is."""


OF_THE_TASK = frozenset({"NBFLOW_INDEX", "NBFLOW_ITEM_DIR", "NBFLOW_RUN_ID"})
"""Variables that tell a kernel which task it works at; no settings of a step."""


def _environ(module: Any) -> dict[str, str]:
    return {name: value for name, value in module.environ.items() if name not in OF_THE_TASK}


def _environ_apart(start: dict[str, str], now: dict[str, str]) -> dict[str, str | None]:
    return {name: now.get(name) for name in sorted(start.keys() | now.keys()) if start.get(name) != now.get(name)}


def _set_environ(module: Any, value: dict[str, str | None]) -> None:
    for name, one in value.items():
        if one is None:
            module.environ.pop(name, None)
        else:
            module.environ[name] = one
    if "TZ" in value and hasattr(time, "tzset"):  # not on Windows
        time.tzset()


def _set_path(module: Any, value: list[str]) -> None:
    module.path[:] = value


def _set_filters(module: Any, value: list[Any]) -> None:
    module.resetwarnings()  # forgets what was looked up in the old ones
    module.filters[:] = value


def _context(module: Any) -> Any:
    found = module.getcontext()
    traps = sorted(signal.__name__ for signal, is_raised in found.traps.items() if is_raised)
    return [found.prec, found.rounding, found.Emin, found.Emax, found.capitals, found.clamp, traps]


def _set_context(module: Any, value: list[Any]) -> None:
    found = module.getcontext()
    found.prec, found.rounding, found.Emin, found.Emax, found.capitals, found.clamp, traps = value
    for signal in found.traps:
        found.traps[signal] = signal.__name__ in traps


def _print_options(module: Any) -> dict[str, Any]:
    return {name: one for name, one in module.get_printoptions().items() if _USUAL_PRINTING.get(name) != one}


def _set_print_options(module: Any, value: dict[str, Any]) -> None:
    there = module.get_printoptions()
    module.set_printoptions(**{name: one for name, one in {**_USUAL_PRINTING, **value}.items() if name in there})


_USUAL_PRINTING: dict[str, Any] = {
    "edgeitems": 3,
    "threshold": 1000,
    "floatmode": "maxprec",
    "precision": 8,
    "suppress": False,
    "linewidth": 75,
    "nanstr": "nan",
    "infstr": "inf",
    "sign": "-",
    "formatter": None,
    "legacy": False,
    "override_repr": None,
}


_SHOWING = ("display.", "plotting.", "styler.", "io.")
"""How the options of pandas begin that only decide how things are shown, or written."""


def _pandas_options(module: Any, *, showing: bool) -> dict[str, Any]:
    # There is no public list of the options with their defaults.
    config = sys.modules["pandas._config.config"]
    names = set(config._registered_options) - set(config._deprecated_options)  # noqa: SLF001
    rows = {name: config._registered_options[name].defval for name in sorted(names)}  # noqa: SLF001
    asked = {name: usual for name, usual in rows.items() if name.startswith(_SHOWING) == showing}
    return {name: found for name, usual in asked.items() if (found := module.get_option(name)) != usual}


def _set_pandas_options(module: Any, value: dict[str, Any], *, showing: bool) -> None:
    for name in _pandas_options(module, showing=showing).keys() - value.keys():
        module.reset_option(name)
    for name, one in value.items():
        module.set_option(name, one)


def _pandas_row(name: str, *, showing: bool) -> Row:
    take = functools.partial(_pandas_options, showing=showing)
    return Row("pandas", name, take, functools.partial(_set_pandas_options, showing=showing), {})


def _errors(module: Any) -> list[Any]:
    """Give the filters that make warnings errors."""
    return [one for one in module.filters if one[0] == "error"]


def _rc(module: Any) -> dict[str, Any]:
    """Give what differs; asking rcParams itself for the backend would choose one."""
    pairs = ((name, dict.__getitem__(module.rcParams, name)) for name in module.rcParams if "backend" not in name)
    return {name: one for name, one in pairs if one != dict.__getitem__(module.rcParamsDefault, name)}


def _set_rc(module: Any, value: dict[str, Any]) -> None:
    usual = {name: dict.__getitem__(module.rcParamsDefault, name) for name in _rc(module).keys() - value.keys()}
    module.rcParams.update({**usual, **value})


_INLINE = "matplotlib_inline.backend_inline"


def _show_inline(module: Any, value: bool) -> None:  # noqa: ARG001, FBT001
    """Have figures shown as pictures, which else begins with the first one that is made."""
    if value:
        importlib.import_module(_INLINE)


_USUAL_ERRORS = {"divide": "warn", "invalid": "warn", "over": "warn", "under": "ignore"}


SETTINGS = (
    Row("os", "directory", lambda os: os.getcwd(), lambda os, value: os.chdir(value), early=True),
    Row("os", "environ", _environ, _set_environ, early=True, apart=_environ_apart),
    Row("sys", "path", lambda sys: list(sys.path), _set_path, early=True),
    Row("sys", "recursion", lambda sys: sys.getrecursionlimit(), lambda sys, value: sys.setrecursionlimit(value)),
    Row("decimal", "context", _context, _set_context),
    Row(
        "numpy",
        "errors",
        lambda np: dict(sorted(np.geterr().items())),
        lambda np, value: np.seterr(**value),
        _USUAL_ERRORS,
    ),
    _pandas_row("pandas", showing=False),
    Row("warnings", "raised", _errors, lambda *_: None),  # they come with all filters, below
)
"""What a result may depend on."""
LOOKS = (
    Row("warnings", "filters", lambda warnings: list(warnings.filters), _set_filters),
    Row("numpy", "printing", _print_options, _set_print_options, {}),
    _pandas_row("options", showing=True),
    Row("matplotlib", "rc", _rc, _set_rc, {}),
    Row("matplotlib.pyplot", "inline", lambda _: _INLINE in sys.modules, _show_inline, usual=False),
)
"""What only decides how things are shown; libraries set some of it when they are imported."""


RANDOM = (
    Row("random", "random", lambda random: random.getstate(), lambda random, value: random.setstate(value)),
    Row("numpy.random", "numpy", lambda one: one.get_state(), lambda one, value: one.set_state(value)),
)


class Settings:
    """Some rows of what is no name, as they were when it was made and as they are.

    Parameters
    ----------
    rows : tuple of Row
        Which.
    cloudpickle : module
        What writes them.
    """

    def __init__(self, rows: tuple[Row, ...], cloudpickle: Any) -> None:
        self.rows = rows
        self.cloudpickle = cloudpickle
        self.seen: dict[str, bytes] = {}
        """The rows as they were when they were last looked at."""
        self.start: dict[str, Any] = {}
        for row in rows:
            with contextlib.suppress(OSError):  # the working directory may be gone
                if row.module in sys.modules:
                    self.start[row.name] = row.take(sys.modules[row.module])

    def look(self) -> dict[str, Exception]:
        """Look at how they are; gives why some cannot be written."""
        self.seen, failed = self._now()
        return failed

    def changed(self) -> tuple[bytes | None, dict[str, Exception]]:
        """Give all that is not as at the start, and what cannot be written, with why.

        None, if they are as they were when they were last looked at.
        """
        before = self.seen
        failed = self.look()
        return (None if self.seen == before else pickle.dumps(self.seen, 5)), failed

    def _now(self) -> tuple[dict[str, bytes], dict[str, Exception]]:
        found, failed = {}, {}
        for row in self.rows:
            if row.module in sys.modules:
                try:
                    now = row.take(sys.modules[row.module])
                    usual = self.start.get(row.name) if row.usual is None else row.usual
                    if self._bytes(now) != self._bytes(usual):
                        found[row.name] = self._bytes(row.apart(usual, now))
                except Exception as problem:  # noqa: BLE001 - a value of an option may be anything
                    failed[row.name] = problem
        return found, failed

    def _bytes(self, value: Any) -> bytes:
        return bytes(self.cloudpickle.dumps(value, 5))

    def give(self, data: bytes | None, *, early: bool) -> None:
        """Make it so again, and what that does not tell as it was at the start; without data all."""
        found = {} if data is None else pickle.loads(data)  # noqa: S301 - it was checked
        for row in self.rows:
            if row.early == early:
                self._back(row, as_setup=data is None)
                if row.name in found:
                    row.give(importlib.import_module(row.module), pickle.loads(found[row.name]))  # noqa: S301

    def _back(self, row: Row, *, as_setup: bool) -> None:
        usual = self.start.get(row.name, row.usual) if as_setup or row.usual is None else row.usual
        if usual is None or row.module not in sys.modules:
            return
        now: Any = None
        with contextlib.suppress(Exception):  # the working directory may be gone, and an option may be anything
            now = row.take(sys.modules[row.module])
            if self._bytes(now) == self._bytes(usual):
                return
        row.give(sys.modules[row.module], row.apart(now, usual))
