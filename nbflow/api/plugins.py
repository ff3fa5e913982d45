"""Plug-ins: what installed packages bring under entry points, beside what nbflow brings itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from functools import cache
from typing import Any, TypeAlias

from ..errors import ParameterError, StoreError, did_you_mean
from ..executors.threads import ThreadExecutor
from ..reporters.audience import Reporter
from ..reporters.screen import REPORTERS, Scene, screen

__all__ = ["ExecutorMaker", "ReporterMaker", "brought", "executor", "executors", "reporter", "reporters"]

ExecutorMaker: TypeAlias = Callable[[int], Executor]
"""Makes the executor of one working at a run; gets the tasks in flight at most."""

ReporterMaker: TypeAlias = Callable[[Scene], Reporter]
"""Makes what shows one working at a run."""

REMEDY = "Upgrade the package, or take it away: pip uninstall PACKAGE"


@cache
def _entries() -> Any:
    """Give all entry points: to look for them takes longer than to choose among them."""
    from importlib.metadata import entry_points

    return entry_points()


def brought(group: str) -> Iterator[tuple[str, str, Any]]:
    """Give what packages bring under a group of entry points: name, package and object, by name.

    Raises
    ------
    StoreError
        If one cannot be loaded.
    """
    for entry in sorted(_entries().select(group=group), key=lambda entry: entry.name):
        package = entry.dist.name if entry.dist is not None else entry.value
        try:
            found = entry.load()
        except Exception as problem:
            raise StoreError(f"the entry {entry.name!r} of {package} cannot be loaded: {problem}", REMEDY) from problem
        yield entry.name, package, found


@cache
def executors() -> Mapping[str, ExecutorMaker]:
    """Give all executors by name: ``threads``, and those of the entry points ``nbflow.executors``."""
    return _named("executor", "nbflow.executors", {"threads": ThreadExecutor})


@cache
def reporters() -> Mapping[str, ReporterMaker]:
    """Give all reporters by name: ``bars``, ``lines``, ``page``, ``widgets``, and those of ``nbflow.reporters``."""
    return _named("reporter", "nbflow.reporters", REPORTERS)


def executor(name: str) -> ExecutorMaker:
    """Give what makes the executor of this name.

    Raises
    ------
    ParameterError
        If there is none.

    Examples
    --------
    >>> with executor("threads")(2) as pool:
    ...     pool.submit(pow, 2, 10).result()
    1024
    """
    if name == "threads":  # who wants what is always there need not wait until all packages were looked through
        return ThreadExecutor
    made: ExecutorMaker = _chosen("executor", name, executors())
    return made


def reporter(name: str | None, scene: Scene) -> Reporter:
    """Give the reporter of this name, for one working at a run; without a name the one for where people watch it.

    Raises
    ------
    ParameterError
        If there is none of this name.
    """
    watched = {"notebook": "widgets", "terminal": "bars", "log": "lines"}
    if name is None:
        return REPORTERS[watched[screen(scene.file)]](scene)
    made: Reporter = _chosen("reporter", name, reporters())(scene)
    return made


def _named(what: str, group: str, built_in: Mapping[str, Any]) -> Mapping[str, Any]:
    found, owners = dict(built_in), dict.fromkeys(built_in, "nbflow")
    for name, package, maker in brought(group):
        if name in owners:
            raise StoreError(f"{package} brings the {what} {name!r}, which {owners[name]} has", REMEDY)
        if not callable(maker):
            raise StoreError(f"the {what} {name!r} of {package} is {maker!r:.60}, which makes none", REMEDY)
        found[name], owners[name] = maker, package
    return found


def _chosen(what: str, name: str, known: Mapping[str, Any]) -> Any:
    if name not in known:
        raise ParameterError(
            f"--{what} {name!r}: there is no such {what}.{did_you_mean(name, list(known))}",
            f"There are: {', '.join(known)}.",
        )
    return known[name]
