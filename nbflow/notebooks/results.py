"""Results: asks a kernel for them, reads scrapbook's records, and gives saved values back."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .. import values
from ..errors import StoreError
from ..files import write_atomically
from ..masking import Masker, masked
from ..values import File, Value
from . import collect, ending, snapshot, watch

__all__ = [
    "CARRIED",
    "Collected",
    "asked_of",
    "ending_code",
    "load",
    "mask_saved",
    "read_reply",
    "request",
    "scraps",
    "watch_code",
    "written_request",
]

CARRIED = tuple(str(module.__file__) for module in (values, collect, watch, snapshot))
"""Files that kernels need for their results, and may have read before they begin."""

MIME = collect.MIME
LARGE = collect.LARGE
_SCRAP = "application/scrapbook.scrap."
_RECORD = "application/papermill.record+json"


@dataclass(frozen=True, slots=True)
class Collected:
    """What a kernel answered."""

    output: dict[str, Value]
    problems: dict[str, str]
    """For each name that has no value the reason."""
    wrote: tuple[str, ...] = ()
    """Files that the notebook wrote, relative to its directory."""


def _source(module: Any) -> str:
    return _read(Path(module.__file__))


@cache
def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def watch_code() -> str:
    """Give the code that makes a Python kernel remember what it writes; it leaves no name in the notebook."""
    code = (
        "import sys, types\n"
        "made = sys.modules['_nbflow_watch'] = types.ModuleType('_nbflow_watch')\n"
        f"exec(compile({_source(watch)!r}, '<nbflow>', 'exec'), made.__dict__)\n"
        "made.begin()"
    )
    return f"__import__('builtins').exec({code!r}, {{}})"


def ending_code() -> str:
    """Give the code that makes a Python kernel end at once when it is asked to; it leaves no name either."""
    code = (
        "import types\n"
        "made = types.ModuleType('_nbflow_ending')\n"
        f"exec(compile({_source(ending)!r}, '<nbflow>', 'exec'), made.__dict__)\n"
        "made.end_at_once()"
    )
    return f"__import__('builtins').exec({code!r}, {{}})"


def request(
    names: Sequence[str],
    artifacts: Path,
    folder: Path,
    directory: Path | None,
    *,
    carried: bool = False,
    lists: Sequence[str] = (),
) -> str:
    """Give the expression that a kernel evaluates to the results.

    Parameters
    ----------
    names : sequence of str
        Which variables.
    artifacts, folder : Path
        Where large results go, and what paths are relative to.
    directory : Path, optional
        Where files that were written count.
    carried : bool
        Whether the kernel has our modules: it was forked from one that has.
    lists : sequence of str
        Those of them of whose values the elements are wanted, whatever they are in.
    """
    below = str(directory) if directory else None
    arguments = json.dumps([list(names), str(artifacts), str(folder), below, list(lists)])
    if carried:
        found = "__import__('sys').modules['_nbflow_{}']"
        return f"{found.format('collect')}.answer({found.format('values')}, {arguments!r})"
    sources = {name: (module.__file__, _source(module)) for name, module in (("values", values), ("collect", collect))}
    return f"__import__('builtins').eval({_EXPRESSION!r}, {{'_sources': {sources!r}, '_arguments': {arguments!r}}})"


def asked_of(module: Any, arguments: str, *, carried: bool) -> str:
    """Give the expression for what the function ``answer`` of one of our packages says; the kernel keeps the package.

    Parameters
    ----------
    module : module
        The package: standard library only, its modules in ``PARTS``.
    arguments : str
        What it is called with.
    carried : bool
        Whether the kernel has it.
    """
    name = "_nbflow_" + str(module.__name__).rpartition(".")[2]
    if carried:
        return f"__import__('sys').modules[{name!r}].answer({arguments!r})"
    parts = {part: _read(Path(module.__file__).with_name(f"{part}.py")) for part in module.PARTS}
    sources = {**parts, "": _source(module)}
    given = {"_name": name, "_path": module.__file__, "_sources": sources, "_arguments": arguments}
    return f"__import__('builtins').eval({_ONCE!r}, {given!r})"


# Defined by exec in a namespace of its own: the notebook's names are read and never touched.
_EVALUATE = """
import sys, types

def module(name, path, source):
    import importlib.machinery
    made = types.ModuleType("nbflow_" + name)
    try:  # where the kernel sees our file, Python has it compiled
        code = importlib.machinery.SourceFileLoader(made.__name__, path).get_code(made.__name__)
    except (OSError, ImportError):
        code = compile(source, "<nbflow " + name + ">", "exec")
    exec(code, made.__dict__)
    return made

def answer(sources, arguments):
    values, collect = module("values", *sources["values"]), module("collect", *sources["collect"])
    return collect.answer(values, arguments)
"""
_KEEP = """
import sys, types

def keep(name, path, sources):
    import importlib.util
    spec = importlib.util.spec_from_file_location(name, path)
    package = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(package)
    except OSError:  # our files are not seen from here
        package.__path__ = []
        for part, source in sources.items():
            made = types.ModuleType(name + "." + part) if part else package
            made.__package__ = name
            sys.modules[made.__name__] = made
            exec(compile(source, "<nbflow " + part + ">", "exec"), made.__dict__)

def answer(name, path, sources, arguments):
    if name not in sys.modules:
        keep(name, path, sources)
    return sys.modules[name].answer(arguments)
"""
_ONCE = f"(lambda space: (exec({_KEEP!r}, space), space['answer'](_name, _path, _sources, _arguments))[1])({{}})"
_EXPRESSION = f"(lambda space: (exec({_EVALUATE!r}, space), space['answer'](_sources, _arguments))[1])({{}})"


def written_request(directory: Path, *, carried: bool) -> str:
    """Give the expression for the written files alone, after a failure."""
    return request((), directory, directory, directory, carried=carried)


def read_reply(reply: Mapping[str, Any], key: str) -> Collected:
    """Read what a kernel answered to the expression of :func:`request`.

    Raises
    ------
    ValueError
        If it answered something else; says what.
    """
    if reply.get("status") != "ok":
        raise ValueError(f"{reply.get('ename', 'no answer')}: {reply.get('evalue', '')}")
    found = reply["user_expressions"][key]
    if found.get("status") != "ok":
        raise ValueError(f"{found.get('ename')}: {found.get('evalue')}")
    if MIME not in found["data"]:
        raise ValueError("the kernel's display machinery was changed")
    output, problems, wrote = json.loads(found["data"][MIME])
    return Collected(values.loads(output), problems, tuple(wrote))


def scraps(cells: Iterable[Mapping[str, Any]], artifacts: Path, folder: Path) -> tuple[dict[str, Value], list[str]]:
    """Give what scrapbook's ``glue`` (or papermill's old ``record``) left in the outputs, and what cannot be read."""
    output: dict[str, Value] = {}
    problems: list[str] = []
    for cell in cells:
        for bundle in (out.get("data", {}) for out in cell.get("outputs", ())):
            for mime, data in bundle.items():
                if mime == _RECORD:
                    output.update(data)
                elif mime.startswith(_SCRAP) and isinstance(data, dict) and "name" in data:
                    _scrap(data, artifacts, folder, output, problems)
    return {name: _kept(name, value, artifacts, folder) for name, value in output.items()}, problems


def _scrap(
    scrap: Mapping[str, Any], artifacts: Path, folder: Path, output: dict[str, Value], problems: list[str]
) -> None:
    name, encoder = str(scrap["name"]), scrap.get("encoder", "json")
    if encoder in ("json", "text"):
        output[name] = scrap["data"]
    elif encoder == "pandas" and name.isidentifier():
        output[name] = _file(base64.b64decode(scrap["data"]), artifacts / f"{name}.parquet", folder, "parquet")
    else:
        problems.append(f"{name!r} was glued with the encoder {encoder!r}, which cannot be read.")


def _kept(name: str, value: Value, artifacts: Path, folder: Path) -> Value:
    """Give a value as it is, or as a file where it is large."""
    if isinstance(value, File):
        return value
    text = values.dumps(values.result(value))
    if len(text) <= LARGE or not name.isidentifier():
        return value
    return _file(text.encode("ascii"), artifacts / f"{name}.json", folder, "json")


def _file(data: bytes, path: Path, folder: Path, form: str) -> File:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data)
    return File(path.relative_to(folder).as_posix(), len(data), hashlib.sha256(data).hexdigest(), form)


def mask_saved(artifacts: Path, folder: Path, masker: Masker) -> dict[str, File]:
    """Take secrets out of large results, which kernels save as they are; gives the new references, by path."""
    for half in artifacts.glob("*.json.tmp"):  # its kernel was killed while it wrote
        half.unlink(missing_ok=True)
    saved: dict[str, File] = {}
    for path in sorted(artifacts.glob("*.json")):
        before = path.read_text(encoding="ascii")
        after = values.dumps(masked(values.loads(before), masker, {}))
        if after != before:
            file = _file(after.encode("ascii"), path, folder, "json")
            saved[file.path] = file
    return saved


def load(file: File, folder: Path, remedy: Callable[[], str] = lambda: "Run the item again.") -> Any:
    """Give the object that a result was saved from.

    Parameters
    ----------
    file : File
        The reference, as it stands in an output.
    folder : Path
        The run folder.
    remedy : callable, optional
        Gives what to do when the file is gone, or is not the item's any more.

    Returns
    -------
    object
        A DataFrame (``parquet``), a Series (``series``), an array (``npy``), a value (``json``), or the
        path of a file of the notebook's own (``file``).

    Raises
    ------
    StoreError
        If the file is gone or was changed since, or the library that reads it is missing.
    """
    path = folder / file.path
    if not path.is_file():
        raise StoreError(f"the result file {path} is gone", remedy())
    if (file.size, file.sha256) != _seen(path):
        raise StoreError(f"{path} is not what the item left: it was changed since", remedy())
    try:
        return _LOADERS[file.format](path)
    except ImportError as problem:
        raise StoreError(
            f"{path} cannot be read here: {problem}", "Install what it takes: pip install 'nbflow[frames]'"
        ) from problem
    except KeyError:
        raise StoreError(f"{path} has the format {file.format!r}, which this nbflow does not know") from None
    except (ValueError, OSError) as problem:
        raise StoreError(f"{path} cannot be read: {problem}") from problem


def _seen(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256") if hasattr(hashlib, "file_digest") else hashlib.sha256(file.read())
    return path.stat().st_size, digest.hexdigest()


def _load_frame(path: Path) -> Any:
    import pandas as pd

    return pd.read_parquet(path, engine="pyarrow")


def _load_series(path: Path) -> Any:
    series = _load_frame(path).iloc[:, 0]
    return series.rename(None) if series.name == collect.UNNAMED else series


def _load_array(path: Path) -> Any:
    import numpy as np

    return np.load(path, allow_pickle=False)


def _load_json(path: Path) -> Any:
    return values.loads(path.read_text(encoding="ascii"))


_LOADERS: dict[str, Callable[[Path], Any]] = {
    "parquet": _load_frame,
    "series": _load_series,
    "npy": _load_array,
    "json": _load_json,
    "file": Path,
}
