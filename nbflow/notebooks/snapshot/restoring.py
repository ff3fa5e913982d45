"""Giving back: one restoring of names."""

from __future__ import annotations

import functools
import importlib
import io
import json
import pickle
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .arrays import read_npy
from .codes import is_code
from .frames import from_parquet
from .helpers import HELPERS, new_class, thaw
from .natures import Gone, Ref, Refused, of_the_machine, one_line, shortened

if TYPE_CHECKING:
    from .shelf import Shelf


class _Unpickler(pickle.Unpickler):
    """Reads our pickles."""

    def __init__(self, data: bytes, restore: Restore, parts: dict[str, Ref]) -> None:
        super().__init__(io.BytesIO(data))
        self.restore = restore
        self.parts = parts

    def persistent_load(self, pid: Any) -> Any:
        if pid[0] == "helper":
            return self.restore.helpers[pid[1]]
        if pid[0] == "file":
            return self.restore.file(self.parts[pid[1]])
        if pid[0] == "of":
            return getattr(importlib.import_module(pid[1]), pid[2])
        return self.restore.named(pid[1], pid[2], self.parts)


class Restore:
    """One restoring of names.

    Parameters
    ----------
    shelf : Shelf
        What is known from before.
    refs : dict
        References, by name.
    """

    def __init__(self, shelf: Shelf, refs: dict[str, Ref], *, apart: bool = False) -> None:
        self.shelf = shelf
        self.refs = refs
        self.apart = apart
        """Whether they come from a kernel beside the others: what has the same token may be another object there."""
        self.wanted = {ref["id"]: ref for ref in refs.values() if "id" in ref}
        self.objects: dict[str, Any] = {}
        """By token."""
        self.made: dict[str, Any] = {}
        """What is as setup has made it, by token; a changed one that has no name any more is another object."""
        self.large: dict[int, tuple[Any, str]] = {}
        """Arrays and frames that were read, with their digests, by id."""
        self.working: set[str] = set()
        self.read = 0
        self.fetched: dict[str, Any] = {}
        """Arrays that were read ahead, by stem; each is given once, for it is one object."""
        self.problems: dict[str, str] = {}
        self.missing: set[str] = set()
        self.helpers = {**HELPERS, "new_function": self._function, "new_class": self._class}
        for name, known in shelf.known.items():
            there = name in shelf.namespace and known.has(shelf.namespace[name])
            wanted = self.wanted.get(known.token)
            same = there and known.ref and (wanted is None or place_of(wanted) == place_of(known.ref))
            if same and (not apart or is_code(shelf.namespace[name])):
                as_made = wanted is None and known.is_of_setup
                (self.made if as_made else self.objects)[known.token] = shelf.namespace[name]

    def end(self) -> None:
        """Let go of the values: the helpers refer to this object, and would keep them until gc comes."""
        for kept in (self.helpers, self.objects, self.made, self.large, self.fetched):
            kept.clear()

    def _function(self, code: Any, name: str, closure: Any, token: str = "") -> types.FunctionType:
        there = None if closure else self._there(token)
        if isinstance(there, types.FunctionType) and there.__code__ == code:
            return there
        return types.FunctionType(code, self.shelf.namespace, name, None, closure)

    def _class(self, make: Callable[..., type], arguments: tuple[Any, ...], token: str = "") -> type:
        there = self._there(token)
        _, name, bases, *_ = arguments
        bases = types.resolve_bases(bases)
        if isinstance(there, type) and there.__name__ == name and _called(there.__bases__) == _called(bases):
            if there.__bases__ != bases:
                with suppress(TypeError):  # Python does not do that with all classes
                    type.__setattr__(there, "__bases__", bases)
            return there
        return new_class(make, arguments)

    def _there(self, token: str) -> object:
        """Give the function or class that setup has made in this kernel, which is filled: others of setup hold it."""
        name = token.partition(":")[2]
        known = self.shelf.known.get(name)
        if self.apart or known is None or known.token != token or name not in self.shelf.namespace:
            return None
        value = self.shelf.namespace[name]
        return value if known.has(value) else None

    def all(self) -> dict[str, Any]:
        """Give the values of those names that can be given back; notes the others."""
        values: dict[str, Any] = {}
        self._fetch()

        def take(name: str, ref: Ref) -> None:
            values[name] = self.value(ref)

        lists = {name: ref["items"] for name, ref in self.refs.items() if ref["form"] == "list"}
        values.update({name: [None] * len(items) for name, items in lists.items()})
        self.objects.update({self.refs[name]["id"]: values[name] for name in lists if "id" in self.refs[name]})
        for name, ref in self.refs.items():
            if name not in lists:
                self.trying(name, functools.partial(take, name, ref), ref)
        for place in range(max(map(len, lists.values()), default=0)):
            self._take_item(place, {name: items for name, items in lists.items() if place < len(items)}, values)
        return {name: one for name, one in values.items() if name not in self.problems}

    def _take_item(self, place: int, lists: dict[str, list[Ref | None]], values: dict[str, Any]) -> None:
        """Give the names that one item of a fan-out left: each item has had a kernel of its own."""
        refs = {name: ref for name, items in lists.items() if (ref := items[place]) is not None}
        inner = Restore(self.shelf, refs, apart=True)
        for token, made in self.objects.items():  # classes that are restored beside are those of its objects
            ours, theirs = self.wanted.get(token), inner.wanted.get(token)
            if is_code(made) and (theirs is None or (ours is not None and place_of(theirs) == place_of(ours))):
                inner.objects.setdefault(token, made)
        for name, value in inner.all().items():
            values[name][place] = value
        self.read += inner.read
        self.problems.update(inner.problems)
        self.missing |= inner.missing
        inner.end()

    def _fetch(self) -> None:
        """Read the arrays that have names of their own, side by side."""
        fresh = [ref for ref in self.refs.values() if ref["form"] == "npy" and ref["id"] not in self.objects]
        unique = {ref["stem"]: ref for ref in fresh}

        def read(ref: Ref) -> None:
            with suppress(Gone):  # it is read once more, and told
                self.fetched[ref["stem"]] = read_npy(self.shelf.files, ref, apart=False)

        if len(unique) > 1:
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(read, unique.values()))

    def trying(self, name: str, work: Callable[[], None], ref: Ref | None = None) -> None:
        """Do a part of it, and note what was wrong."""
        try:
            work()
        except Gone as problem:
            parts = [one["path"] for one in (ref or {}).get("parts", ())]
            self.missing |= {str(problem), *(path for path in parts if not self.shelf.files.there(path))}
        except Refused as problem:
            self.problems[name] = str(problem)
        except Exception as problem:
            # Whatever loading it raises, the other names count.
            if of_the_machine(problem):
                raise
            self.problems[name] = failure(problem)

    def value(self, ref: Ref) -> Any:
        """Give what a reference stands for."""
        token = ref.get("id")
        if token is None:
            return self._load(ref, None)
        return self.named(token, ref["stem"], {})

    def named(self, token: str, stem: str, parts: dict[str, Ref]) -> Any:
        """Give the object of a token: the one that is there, the one that is wanted, or what it was."""
        if token in self.made and stem in ("", token):
            return self.objects.setdefault(token, self.made[token])
        if token in self.objects:
            return self.objects[token]
        ref = self.wanted.get(token)
        if ref is None or token in self.working:
            ref = parts.get(stem) or _without_file(stem)
        self.working.add(token)
        try:
            value = self._load({"parts": list(parts.values()), **ref}, token)
        finally:
            self.working.discard(token)
        return self.objects.setdefault(token, value)

    def _load(self, ref: Ref, token: str | None) -> Any:
        form = ref["form"]
        if form == "json":
            return json.loads(ref["text"])
        if form == "module":
            name, *inner = ref["module"].split()
            for one in inner:
                with suppress(Exception):  # whatever it raises: who reads it is told that it is not there
                    importlib.import_module(one)
            return importlib.import_module(name)
        if form == "setup":
            return self._of_setup(ref["stem"].partition(":")[2])
        if form != "pickle":
            return self.file(ref)
        parts = {one["stem"]: one for one in ref.get("parts", ())}
        data = self.shelf.files.read(ref)
        self.read += len(data)
        members = _Unpickler(data, self, parts).load()
        for other, value in members.items():
            self.objects.setdefault(other, value)
        return members[ref.get("member", token)]

    def _of_setup(self, name: str) -> Any:
        if name not in self.shelf.namespace:
            raise Refused("is made by a setup cell, and was not made in this kernel")
        value, known = self.shelf.namespace[name], self.shelf.known.get(name)
        if known is None or known.token != f"setup:{name}" or not known.has(value):
            raise Refused(f"is what setup makes as {name}, which a step has bound anew in this kernel")
        return value

    def file(self, part: Ref) -> Any:
        """Give what is in the file of an array or a frame."""
        self.read += part["size"]
        if part["form"] == "npy":
            value = self.fetched.pop(part["stem"], None)
            value = read_npy(self.shelf.files, part) if value is None else value
        else:
            data = self.shelf.files.read(part)
            value = thaw(data) if part["form"] == "frame" else from_parquet(io.BytesIO(data), part["form"])
        self.large[id(value)] = value, part["stem"]
        return value


def _called(bases: tuple[type, ...]) -> list[tuple[str, str]]:
    """Give what bases are called: one that has no name of its own is made anew, and is another one."""
    return [(base.__module__, base.__name__) for base in bases]


def place_of(ref: Ref) -> tuple[Any, Any]:
    """Give which value of which object a reference means."""
    return ref.get("stem", ref.get("items")), ref.get("id")


def _without_file(stem: str) -> Ref:
    """Give the reference of what stands in its stem."""
    form, _, text = stem.partition(":")
    return {"form": form, "text": text, "module": text, "stem": stem}


def failure(problem: Exception) -> str:
    """Give why a value is not given back, as words that follow its name."""
    return shortened(f"cannot be given back ({type(problem).__name__}: {one_line(problem)})")
