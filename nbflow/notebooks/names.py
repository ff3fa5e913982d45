"""Names that go from kernel to kernel: asks a kernel to save and to restore them, and signs what only we may load."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

from ..namespace import KEPT, Entry
from ..signing import Signer
from ..values import File, Value
from . import snapshot
from .results import asked_of

__all__ = [
    "MOST",
    "SECONDS",
    "Restored",
    "Saved",
    "read_restored",
    "read_saved",
    "restore_request",
    "save_request",
    "trusted",
]

MOST = 10 * 2**30
"""Bytes that one step may save."""
SECONDS = 600.0
"""How long that may take."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What a kernel answered that was asked to restore names."""

    read: int
    """Bytes."""
    problems: Mapping[str, str]
    """Why a name could not be restored: words that follow it."""
    missing: tuple[str, ...]
    """Files that are gone, or not what was saved: then nothing was restored."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What a kernel answered that was asked to save names."""

    names: Mapping[str, Entry]
    unsaved: Mapping[str, str]
    """Why a name could not be saved: words that follow it."""
    lost: Mapping[str, Entry]
    """For each of those whose value it is, and the names that share objects with it."""
    spoilt: frozenset[str]
    """Those of them that setup made, and that could be saved before."""
    gone: tuple[str, ...]
    """Names that were deleted."""
    left: tuple[str, ...]
    """Names that it was not asked for, and that are not saved, for they are large or not alone."""
    wrote: int
    """Bytes."""
    seconds: float


@cache
def cloudpickle() -> str:
    """Give the folder of our cloudpickle, which kernels load from there: theirs may have none, or another one."""
    found = importlib.util.find_spec("cloudpickle")
    assert found is not None, "it is one of our dependencies"
    return next(iter(found.submodule_search_locations or ()))


def restore_request(
    folder: Path,
    entries: Mapping[str, Entry],
    *,
    prepared: Iterable[str],
    watched: Iterable[str],
    kept: Mapping[str, Entry | None],
    environ: Mapping[str, str],
    carried: bool,
) -> str:
    """Give the expression by which a kernel restores names.

    Parameters
    ----------
    folder : Path
        The run folder.
    entries : mapping
        Where each is saved.
    prepared : iterable of str
        Names that the setup cells have assigned in this kernel.
    watched : iterable of str
        Names whose present state is learnt, from which a later save tells changes.
    kept : mapping of str to Entry
        What is kept like names, by the keys of :data:`.namespace.KEPT`.
    environ : mapping of str to str
        What a kernel that goes on does not know of the task that it has now.
    carried : bool
        Whether the kernel has our modules.
    """
    return _request(
        "restore",
        folder,
        carried,
        names={name: plain(entry) for name, entry in entries.items()},
        setup=sorted(prepared),
        watch=sorted(watched),
        **{KEPT[name]: None if entry is None else plain(entry) for name, entry in kept.items()},
        environ=dict(environ),
    )


def save_request(
    folder: Path,
    names: Iterable[str] | None,
    *,
    touched: Iterable[str] | None,
    assigned: Iterable[str],
    small: Iterable[str],
    stale: Iterable[str],
    carried: bool,
    most: int,
    seconds: float,
) -> str:
    """Give the expression by which a kernel saves names; ``None``: all."""
    return _request(
        "save",
        folder,
        carried,
        names=None if names is None else sorted(names),
        touched=None if touched is None else sorted(touched),
        assigned=sorted(assigned),
        small=sorted(small),
        stale=sorted(stale),
        most=most,
        seconds=seconds,
    )


def _request(do: str, folder: Path, carried: bool, **more: object) -> str:  # noqa: FBT001 - a fact, not an option
    arguments = json.dumps({"do": do, "folder": str(folder), "cloudpickle": cloudpickle(), **more})
    return asked_of(snapshot, arguments, carried=carried)


def read_restored(reply: Mapping[str, Any]) -> Restored:
    """Read what a kernel answered to :func:`restore_request`.

    Raises
    ------
    ValueError
        If it answered something else.
    """
    found = _answer(reply)
    return Restored(int(found["read"]), found["problems"], tuple(found["missing"]))


def read_saved(reply: Mapping[str, Any], signer: Signer) -> Saved:
    """Read what a kernel answered to :func:`save_request`.

    Raises
    ------
    ValueError
        If it answered something else.
    """
    found = _answer(reply)
    changed = set(found["changed"])
    names = {
        name: _entry(ref, changed=name in changed, signer=signer)
        for name, ref in found["names"].items()
        if ref["form"] not in ("setup", "list") or name in changed  # setup is in every kernel, lists are of items
    }
    for name in {*found["same"]} & names.keys():
        names[name]["same"] = True
    for name, key in KEPT.items():
        if found.get(key) is not None:
            names[name] = _entry(found[key], changed=True, signer=signer)
    gone, left = tuple(found["gone"]), tuple(found["left"])
    unsaved, lost = found["unsaved"], found["lost"]
    spoilt = frozenset(changed.intersection(unsaved))
    return Saved(names, unsaved, lost, spoilt, gone, left, int(found["wrote"]), float(found["seconds"]))


def _answer(reply: Mapping[str, Any]) -> dict[str, Any]:
    if reply.get("status") != "ok":
        raise ValueError(f"{reply.get('ename', 'no answer')}: {reply.get('evalue', '')}")
    found = reply["user_expressions"]["answer"]
    if found.get("status") != "ok":
        raise ValueError(f"{found.get('ename')}: {found.get('evalue')}")
    if snapshot.MIME not in found["data"]:
        raise ValueError("the kernel's display machinery was changed")
    answer: dict[str, Any] = json.loads(found["data"][snapshot.MIME])
    return answer


# -- what stands in the journal, and what kernels know ----------------------------------------------------------

_FILE = ("path", "size", "sha256")


def _entry(ref: Mapping[str, Any], *, changed: bool, signer: Signer) -> Entry:
    """Give what a kernel says of a name as it is recorded: with files that are known to be some, and signed."""
    entry = _recorded(ref)
    if "parts" in ref:
        entry["parts"] = [_recorded(part) for part in ref["parts"]]
    if "file" in entry or "module" in entry:
        entry["signed"] = signer.sign(_signed(entry))
    if changed:
        entry["changed"] = True
    return entry


def _recorded(ref: Mapping[str, Any]) -> Entry:
    entry: Entry = {key: value for key, value in ref.items() if key not in (*_FILE, "parts") and value != []}
    if "path" in ref:
        entry["file"] = File(ref["path"], ref["size"], ref["sha256"], ref["form"])
    return entry


def plain(entry: Entry) -> dict[str, Any]:
    """Give an entry as kernels know it."""
    ref: dict[str, Any] = {
        key: value for key, value in entry.items() if key not in ("file", "changed", "same", "again", "signed")
    }
    for key in {"items", "parts"} & entry.keys():
        ref[key] = [None if one is None else plain(cast("Entry", one)) for one in cast("Sequence[Value]", entry[key])]
    if "file" in entry:
        file = entry["file"]
        assert isinstance(file, File), "it is recorded so"
        ref.update(path=file.path, size=file.size, sha256=file.sha256)
    return {"needs": [], "holds": [], "shares": [], **ref}


def trusted(entry: Entry, signer: Signer) -> bool:
    """Whether a value may be loaded: nothing in it is code, or this user saved all of it."""
    items = cast("Sequence[Entry | None]", entry.get("items", ()))
    if not all(one is None or trusted(one, signer) for one in items):
        return False
    parts = cast("Sequence[Entry]", entry.get("parts", ()))
    if {entry.get("form"), *(part.get("form") for part in parts)} <= _HARMLESS:
        return True
    return signer.knows(_signed(entry), entry.get("signed"))


_HARMLESS = {"json", "npy", "parquet", "series", "setup", "list"}
"""Forms that hold values only: reading them runs no code of theirs. To import a module runs its code."""


def _signed(entry: Entry) -> str:
    """Give what is signed of a value: all of its files and modules, and what they are taken for."""
    every = (entry, *cast("Sequence[Entry]", entry.get("parts", ())))
    files = [(str(one.get("form")), one.get("file"), one.get("module")) for one in every]
    return json.dumps([[form, file.sha256 if isinstance(file, File) else None, more] for form, file, more in files])
