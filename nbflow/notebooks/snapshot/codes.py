"""Functions and classes of a notebook: what they use, and where their source stands."""

from __future__ import annotations

import contextlib
import dis
import importlib
import importlib.util
import linecache
import os
import sys
import types
import weakref
from pathlib import Path
from typing import Any

_GLOBAL = {"LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"}
CLOUDPICKLE = "_nbflow_cloudpickle"
"""What our cloudpickle is called in each kernel."""
MOST_MODULES = 50
"""Modules of a package that are imported with it."""
_used: weakref.WeakKeyDictionary[types.CodeType, frozenset[str]] = weakref.WeakKeyDictionary()


def uses(code: types.CodeType) -> frozenset[str]:
    """Give the global names that code uses, with all code in it."""
    if code not in _used:
        names = {one.argval for one in dis.get_instructions(code) if one.opname in _GLOBAL}
        inner = [one for one in code.co_consts if isinstance(one, types.CodeType)]
        _used[code] = frozenset(names.union(*map(uses, inner)))
    return _used[code]


def source_of(code: types.CodeType) -> tuple[str, int, list[str]] | None:
    """Give the source of a function that stands in no file, as tracebacks and ``inspect`` find it."""
    lines = linecache.cache.get(code.co_filename, ())
    if len(lines) != 4 or lines[1] is not None:
        return None
    codes = [code]
    for one in codes:
        codes += [inner for inner in one.co_consts if isinstance(inner, types.CodeType)]
    last = max(line or 0 for one in codes for _, line in dis.findlinestarts(one))
    return code.co_filename, code.co_firstlineno, lines[2][code.co_firstlineno - 1 : last]


def is_importable(value: object) -> bool:
    """Whether a value is a module that other kernels can import."""
    if not isinstance(value, types.ModuleType):
        return False
    return sys.modules.get(value.__name__) is value and not is_made(value)


def is_made(module: object) -> bool:
    """Whether a step has made a module and put it into ``sys.modules``: no other kernel can import it."""
    if not isinstance(module, types.ModuleType) or sys.modules.get(module.__name__) is not module:
        return False
    spec = getattr(module, "__spec__", None)
    if module.__name__ in ("__main__", CLOUDPICKLE):
        return False
    if getattr(spec, "has_location", False):
        return not _is_found(module.__name__, spec)
    if spec is not None or getattr(module, "__loader__", None) is not None:
        return False
    above = sys.modules.get(module.__name__.rpartition(".")[0])  # compiled modules make some that come with them
    return above is None or is_made(above)


def _is_found(name: str, spec: Any) -> bool:
    """Whether the file of a module is where an import looks for it, or has looked: the paths may have changed."""
    folder, file = os.path.split(spec.origin or "")
    called = file.partition(".")[0]
    if called == "__init__":
        folder, called = os.path.split(folder)
    package, _, last = name.rpartition(".")
    above = sys.modules.get(package)
    if above is not None and is_made(above):
        return False
    path = getattr(above, "__path__", None) if package else None
    finders = sys.path_importer_cache
    looked = path if path is not None else {*finders, *(getattr(one, "path", None) for one in finders.values())}
    if called == last and folder in looked:
        return True
    with contextlib.suppress(Exception):  # whatever a finder raises, it has not found it
        found = [one.find_spec(name, path) for one in sys.meta_path]
        return any(one is not None and one.origin == spec.origin for one in found)
    return False


def modules_in(module: types.ModuleType) -> list[str]:
    """Give the names of the modules that are reached through a package. Not of a large one: what of it was asked for
    cannot be told from what it needs itself, and all together may take long to import."""
    start = module.__name__ + "."
    found = [name for name, one in list(sys.modules.items()) if name.startswith(start) and _hangs(name, one)]
    return sorted(found) if len(found) <= MOST_MODULES else []


def _hangs(name: str, module: Any) -> bool:
    package, _, last = name.rpartition(".")
    beside = getattr(sys.modules.get(package), "__dict__", {})
    return beside.get(last) is module and getattr(module, "__name__", "") == name and not is_made(module)


def module_of(value: Any) -> str:
    """Give the name of a module, or of the one in which a thing says that it stands; empty if it says nothing."""
    name = getattr(value, "__name__" if isinstance(value, types.ModuleType) else "__module__", None)
    return name if isinstance(name, str) else ""


def module_with(names: dict[str, Any]) -> str | None:
    """Give the name of the module whose variables these are; None if no other kernel can import one."""
    name = names.get("__name__")
    module = sys.modules.get(name) if isinstance(name, str) else None
    return name if getattr(module, "__dict__", None) is names and not is_made(module) else None


def import_module_of(value: type) -> None:
    """Import the module that a class says it is of, where that is a part of a package that is there: numpy imports
    ``numpy.rec`` only when that is asked for. Else such a class is none of a module, and pickled as one of a cell."""
    name = value.__module__
    if isinstance(name, str) and name not in sys.modules and name.partition(".")[0] in sys.modules:
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def is_code(value: object) -> bool:
    """Whether a value is a function or a class."""
    return issubclass(type(value), (type, types.FunctionType))  # a proxy may raise something when it is asked


def load_cloudpickle(folder: str) -> Any:
    """Load nbflow's cloudpickle under a name of its own: the kernel may have another one, or none."""
    name = CLOUDPICKLE
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(folder) / "cloudpickle.py")
        if spec is None or spec.loader is None:
            raise ImportError(f"no cloudpickle in {folder}")
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]
