"""Modules beside a workflow: the very file that was looked at, whatever else this process knows by its name.

A module is imported as Python does it, with its folder first, and under its own name, so that what is pickled can be
read elsewhere. Where that name means another module to this process (one of another workflow, an installed one, one of
the standard library), the process keeps that one, and ours has a name of its own.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import blake2b
from importlib import import_module, invalidate_caches, reload
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec, PathFinder
from importlib.util import cache_from_source, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TypeAlias

from ..host import born

__all__ = ["Room", "installed", "room"]

_LOCK = threading.RLock()  # two threads that load one module would see half of it
_SUFFIXES = (".py", *EXTENSION_SUFFIXES)
_NEVER = frozenset({"nbflow", *sys.builtin_module_names})

Stamp: TypeAlias = tuple[int, int]
"""When a file was written, in nanoseconds, and its size."""


@cache
def room(folder: str) -> Room:
    """Give the modules of a folder, the same for all runs of this process."""
    return Room(folder)


class Room:
    """The modules of one folder.

    Parameters
    ----------
    folder : str
        Its real path.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._mark = blake2b(folder.encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()
        self._modules: dict[str, ModuleType] = {}  # also those whose name means another one to the process
        self._stamps: dict[str, Stamp | None] = {}
        self._calls = 0
        self._added = False

    def load(self, name: str) -> ModuleType:
        """Give a module as its file, and those beside it that it imports, are now."""
        with _LOCK:
            invalidate_caches()
            names = self._names()
            self._forget_edited(names)
            top, dot, rest = name.partition(".")
            with self._first(names) as taken:
                if top in names - taken:
                    return import_module(name)
                self._import_top(top)
                return import_module(self._own(top) + dot + rest)

    @contextmanager
    def importable(self) -> Iterator[None]:
        """Have Python find the folder's modules, behind all others: a function may import them when it is called."""
        with _LOCK:
            self._calls += 1
            if self._calls == 1 and self._folder not in sys.path:
                sys.path.append(self._folder)
                self._added = True
        try:
            yield
        finally:
            with _LOCK:
                self._calls -= 1
                if not self._calls and self._added:
                    self._added = False
                    with suppress(ValueError):
                        sys.path.remove(self._folder)

    def _names(self) -> frozenset[str]:
        """Give the names that modules of this folder begin with."""
        with os.scandir(self._folder) as entries:
            modules = (entry.name for entry in entries if entry.name.endswith(_SUFFIXES) or entry.is_dir())
            found = {name.partition(".")[0] for name in modules}
        names = {name for name in found if name.isidentifier() and not name.startswith("__")} - _NEVER
        return frozenset(names | {self._own(name) for name in names})

    def _own(self, top: str) -> str:
        return f"{top}_{self._mark}"

    def _has(self, name: str, module: ModuleType) -> bool:
        """Whether a module is the one of this folder that its name says."""
        place: str = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), "")
        within = self._folder.rstrip(os.sep) + os.sep
        first = place.removeprefix(within).partition(os.sep)[0].partition(".")[0]
        return place.startswith(within) and first == _top(name).removesuffix(f"_{self._mark}")

    def _ours(self, names: frozenset[str], loaded: Mapping[str, ModuleType]) -> dict[str, ModuleType]:
        return {name: each for name, each in loaded.items() if _top(name) in names and self._has(name, each)}

    @contextmanager
    def _first(self, names: frozenset[str]) -> Iterator[set[str]]:
        """Have this folder's modules found first, and leave to the process what its names meant.

        The standard library's modules stay what they are: other threads use them. Gives the names that are taken.
        """
        known = {name: module for name, module in sys.modules.copy().items() if _top(name) in names}
        hidden = {name: module for name, module in known.items() if not self._has(name, module)}
        taken = {_top(name) for name in hidden} | {name for name in names if self._is_elsewhere(name)}
        for name in names & sys.stdlib_module_names:
            with suppress(Exception):  # it may need what is not installed
                hidden.pop(name, None) or import_module(name)
        for name in hidden:
            del sys.modules[name]
        sys.modules.update(self._modules)
        sys.path.insert(0, self._folder)
        try:
            yield taken
        finally:
            sys.path.remove(self._folder)
            self._modules = ours = self._ours(names, sys.modules.copy())
            self._stamps = {place: _stamp(place) for place in map(_source, ours.values()) if place}
            for name in ours:
                if _top(name) in taken:
                    del sys.modules[name]
            sys.modules.update(hidden)

    def _is_elsewhere(self, top: str) -> bool:
        """Whether Python finds a module of this name without this folder."""
        if top in sys.stdlib_module_names:
            return True
        spec = PathFinder.find_spec(top, [place for place in sys.path if os.path.realpath(place) != self._folder])
        return spec is not None and spec.origin is not None  # else it is only a folder of this name

    def _import_top(self, top: str) -> None:
        """Import a module, or the outermost package of one, under the name of its own."""
        own = self._own(top)
        if own in sys.modules:
            return
        found = PathFinder.find_spec(top, [self._folder])
        if found is None:
            raise ModuleNotFoundError(f"No module named {top!r} in {self._folder}", name=top)
        within = found.submodule_search_locations
        spec = spec_from_file_location(own, found.origin, submodule_search_locations=within) if found.origin else None
        if spec is None:  # a folder without __init__.py
            spec = ModuleSpec(own, None, is_package=True)
            spec.submodule_search_locations = list(within or ())
        sys.modules[own] = module = module_from_spec(spec)
        try:
            if spec.loader is not None:
                spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[own]
            raise

    def _forget_edited(self, names: frozenset[str]) -> None:
        """Let go of all modules if the file of one was edited since: which of them looked into it is not known."""
        ours = self._ours(names, {**sys.modules.copy(), **self._modules})
        edited = [place for place in map(_source, ours.values()) if place and self._is_edited(place)]
        if not edited:
            return
        for place in edited:
            with suppress(OSError, NotImplementedError):  # two edits within a second look the same to Python
                Path(cache_from_source(place)).unlink()
        for name, module in ours.items():
            if _source(module) is not None and sys.modules.get(name) is module:
                del sys.modules[name]
        self._modules.clear()
        self._stamps.clear()

    def _is_edited(self, place: str) -> bool:
        now = _stamp(place)
        if place in self._stamps:
            return now != self._stamps[place]
        return now is None or now[0] >= born() * 1e9  # somebody else imported it, nobody knows when


def installed(name: str, source: str) -> ModuleType:
    """Give a module from where Python finds it; one that was edited since it was imported here is loaded again."""
    with _LOCK:
        before = _RAN.setdefault(name, source)
        module = import_module(name)
        if source and before != source:
            module = reload(module)
            _RAN[name] = source
        return module


_RAN: dict[str, str] = {}
"""Digests of installed modules that were imported here, as they were then."""


def _top(name: str) -> str:
    return name.partition(".")[0]


def _source(module: ModuleType) -> str | None:
    """Give the file of a module that is written in Python."""
    place = getattr(module, "__file__", None)
    return place if place is not None and place.endswith(".py") else None


def _stamp(place: str) -> Stamp | None:
    try:
        found = Path(place).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
