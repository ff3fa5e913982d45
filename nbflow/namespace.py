"""Names of a notebook on their way from step to step: who left what, and whose it is that a later step finds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from itertools import chain, pairwise
from typing import TypeAlias, cast

from .values import File, Value

__all__ = [
    "ASKED",
    "KEPT",
    "LOOKS",
    "RANDOM",
    "SETTINGS",
    "Entry",
    "Past",
    "Piece",
    "files_of",
    "gathered",
]

Entry: TypeAlias = dict[str, Value]
"""Where the value of a name is saved, as the kernel said it (``form``, ``file``, ``parts``); or ``unsaved``: why not.

With ``needs`` its functions use other names, with ``holds`` it has values of others inside, with ``shares`` objects
that others have inside too. With ``changed`` the step gave it this value, and with ``same`` that is what it was before,
perhaps under another name; else it only was the first to save it, or saved ``again`` what was there, beside other
names: it stands for that, and for nothing that is there instead after an edit. With ``deleted`` it took the name away.
"""

ALONG = ("needs", "holds", "shares")
"""What names comes along with one: used by its functions, held by it under a name, or sharing objects with it."""
ASKED = "$asked"
"""Under which a step tells for what names it was asked (``names``; null: for all), and which others it did not save
(``left``)."""
SETTINGS, LOOKS, RANDOM = "$settings", "$looks", "$random"
KEPT = {SETTINGS: "settings", LOOKS: "looks", RANDOM: "random"}
"""Kept like names, and none: settings of the interpreter, how things are shown, generators of random numbers; and what
kernels call them."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A step of a notebook, as those behind it know it."""

    id: str
    path: str
    """Of its cells."""
    reads: frozenset[str] | None
    """Names that it may read; ``None``: any."""
    assigns: frozenset[str] | None
    """Names that it may assign; ``None``: any."""
    behind: frozenset[str] = frozenset()
    """Ids of the pieces that have ended when it starts."""
    certain: frozenset[str] = frozenset()
    """Names that it certainly assigns."""

    @property
    def makes(self) -> frozenset[str]:
        """Names that it gives a value which has nothing to do with the one before."""
        return frozenset() if self.reads is None else self.certain - self.reads

    @property
    def perhaps(self) -> frozenset[str]:
        """Names that it may assign, or leave as they were: ``if strict: x = 5``."""
        return frozenset() if self.reads is None or self.assigns is None else self.assigns - self.certain - self.reads

    def touches(self, name: str) -> bool:
        """Whether it may read or assign a name: what is read may be changed."""
        return self.reads is None or self.assigns is None or name in self.reads or name in self.assigns


@dataclass(frozen=True)
class Past:
    """What the steps before one have left.

    Parameters
    ----------
    pieces : tuple of Piece
        Those that it waits for, in order.
    left : mapping
        What each of them left, by id; of one that did not complete there is nothing.
    """

    pieces: tuple[Piece, ...]
    left: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    _torn: dict[str, tuple[str, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _until: dict[str, Past] = field(default_factory=dict, repr=False, compare=False)
    """What each of the pieces found; those share it, for it is the same for them."""
    _versions: dict[str, str | None] = field(default_factory=dict, init=False, repr=False, compare=False)

    def known(self) -> list[str]:
        """Give all names that were left."""
        seen = dict.fromkeys(name for piece in self.pieces for name in self.left.get(piece.id, ()))
        return [name for name in seen if not name.startswith("$")]

    def givers(self, name: str) -> tuple[Piece, ...]:
        """Give the steps whose value of a name counts: more than one where steps changed it side by side."""
        have = [piece for piece in self.pieces if name in self.left.get(piece.id, ())]
        changed = [piece for piece in have if self.entry(piece, name).get("changed")]
        hidden = {other for piece in changed for other in piece.behind}
        last = self._telling(name, [piece for piece in changed if piece.id not in hidden])
        return self._binding(name, last) or last or tuple(have[-1:])

    def _telling(self, name: str, last: list[Piece]) -> tuple[Piece, ...]:
        """Leave out those that have bound a name to an object as it was, where another one has changed that."""
        entries = {piece.id: self.entry(piece, name) for piece in last}
        changed = {str(one["id"]) for one in entries.values() if "id" in one and not one.get("same")}
        return tuple(p for p in last if not (entries[p.id].get("same") and entries[p.id].get("id") in changed))

    def _binding(self, name: str, last: tuple[Piece, ...]) -> tuple[Piece, ...]:
        """Give those of some steps that bind a name where the others do not say it: these have only changed what it was
        bound to. Nobody, where those that bind it have changed that, too."""
        bind = [piece for piece in last if name in piece.makes]
        rest = [self.entry(piece, name).get("id") for piece in last if name not in piece.makes]
        named = any(piece.touches(name) for piece in last if name not in piece.makes)
        entries = [self.entry(piece, name) for piece in bind]
        both = any("id" in one and one["id"] in rest and not one.get("same") for one in entries)
        return () if named or both else tuple(bind)

    def sources(self, name: str) -> Iterator[Piece]:
        """Give the steps that a name comes from; one that has only imported again what there was is none of them."""
        for giver in self.givers(name):
            if self._is_again(giver, name):
                yield from self.until(giver).sources(name)
            else:
                yield giver

    def _is_again(self, giver: Piece, name: str) -> bool:
        """Whether a step has only bound a name to the module that it stood for, or to what setup makes under it."""
        entry = self.entry(giver, name)
        if not (entry.get("same") or _is_module(entry)):
            return False
        before = self.until(giver).find(name)
        if before is None:  # setup has made it, under this name
            return bool(entry.get("same")) and entry.get("id") == f"setup:{name}"
        modules = str(entry.get("module", "")).split()
        return _is_module(entry) and {*modules} <= {*str(before[1].get("module", "")).split()}

    def find(self, name: str) -> tuple[Piece, Entry] | None:
        """Give who left a name, and where it is saved; ``None`` if nobody did, or nobody can say whose is meant."""
        givers = self.givers(name)
        if not givers or self.torn(name) or self.entry(givers[-1], name).get("deleted"):
            return None
        return givers[-1], self.entry(self._saver(name, givers[-1]), name)

    def _saver(self, name: str, giver: Piece) -> Piece:
        """Give who saved what a step has given last: perhaps another one, the same value beside other names, if it is
        still that."""
        saver = giver
        for piece in self.pieces:
            if giver.id in piece.behind and name in self.left.get(piece.id, ()):
                again = self.entry(piece, name).get("again")
                if again is None or again == self.until(piece).version(name):
                    saver = piece
        return saver

    def version(self, name: str) -> str | None:
        """Give what the value of a name is told from, with all that comes along with it; ``None`` if there is none."""
        if name not in self._versions:
            along = self.wanted([name])
            told = [[one, entry.get("stem"), entry.get("id")] for one, (_, entry) in sorted(along.items())]
            self._versions[name] = (
                blake2b(json.dumps(told).encode(), digest_size=8).hexdigest() if name in along else None
            )
        return self._versions[name]

    def differ(self, name: str) -> bool:
        """Whether steps that do not wait for each other have left different values of a name."""
        found = [_told(self.entry(piece, name)) for piece in self.givers(name)]
        return any(one != found[0] for one in found[1:])

    def torn(self, name: str) -> tuple[str, ...]:
        """Give the steps that have changed a name, or what its value has inside, while none waits for the other."""
        if name not in self._torn:
            self._torn[name] = () if self._in_a_row else self._tearing(name)
        return self._torn[name]

    @cached_property
    def _split(self) -> frozenset[str]:
        """The names that differ: looked for once, for all names are asked for, often."""
        return frozenset(filter(self.differ, self.known()))

    @cached_property
    def _in_a_row(self) -> bool:
        """Whether each of the steps waits for the one before it: then all can say whose value is meant."""
        return all(one.id in other.behind for one, other in pairwise(self.pieces))

    def _tearing(self, name: str) -> tuple[str, ...]:
        """Look for the steps that leave nobody to say what a name is; its value, and what that has inside."""
        names = [name]
        for one in names:
            if one in self._split:
                return tuple(piece.id for piece in self.givers(one))
            last = self.changers(self._saved(one))
            if len({self.entry(piece, other).get("stem") for piece, other in last}) > 1:
                return tuple(piece.id for piece, _ in last)
            inside = list(self._inside(one))
            # What is packed with another value, or has it inside and is inside of it, has that as it was.
            apart = next((other for other in inside if other in self._packed_with(one) or other == name), None)
            if apart is not None:
                return tuple(dict.fromkeys(piece.id for each in (one, apart) for piece in self.givers(each)))
            names += [other for other in inside if other not in names]
        return ()

    def _packed_with(self, name: str) -> list[str]:
        """Give the names of other objects that are saved in one pickle with that of a name."""
        entry, givers = self._saved(name), self.givers(name)
        if entry.get("form") != "pickle":
            return []
        beside = self.left[self._saver(name, givers[-1]).id]
        others = ((one, cast("Entry", beside.get(one, {}))) for one in cast("list[str]", entry.get("shares", [])))
        return [one for one, it in others if it.get("stem") == entry.get("stem") and it.get("id") != entry.get("id")]

    def _token(self, saver: Piece, name: str) -> Value:
        """Give which object a name stood for when a step saved it, or something that holds it."""
        before = self.until(saver).givers(name)
        seen = saver if name in self.left[saver.id] else before[-1] if before else None
        return f"setup:{name}" if seen is None else self.entry(seen, name).get("id")

    def _saved(self, name: str) -> Entry:
        """Give what was saved last of a name, whoever has changed what it has inside; nothing if nobody left it."""
        givers = self.givers(name)
        return self.entry(self._saver(name, givers[-1]), name) if givers else {}

    def _inside(self, name: str) -> Iterator[str]:
        """Give the names of values that one has inside, or shares, and that others have changed since it was saved.

        Not those that were only bound to something else; and no code, which each kernel has anew.
        """
        givers = self.givers(name)
        if not givers or self.entry(givers[-1], name).get("form") == "list":
            return
        saver = self._saver(name, givers[-1])
        entry = {key: {*cast("list[str]", self.entry(saver, name).get(key, []))} for key in ALONG}
        for other in sorted((entry["holds"] | entry["shares"]) - entry["needs"]):
            token = self._token(saver, other)
            later = [piece for piece in self.givers(other) if piece is not saver and piece.id not in saver.behind]
            entries = [self.entry(piece, other) for piece in later]
            if token and any(one.get("id") == token and not one.get("same") for one in entries):
                yield other

    def unclear(self, reads: Iterable[str] | None) -> dict[str, tuple[str, ...]]:
        """Give the names of which nobody can say whose value is meant, with the steps that left one."""
        names = self.known() if reads is None else reads
        return {name: self.torn(name) for name in names if self.torn(name)}

    def until(self, piece: Piece) -> Past:
        """Give what one of the pieces found itself."""
        if piece.id not in self._until:
            before = tuple(one for one in self.pieces if one.id in piece.behind)
            self._until[piece.id] = Past(before, self.left, self._until)
        return self._until[piece.id]

    def wanted(
        self, reads: Iterable[str] | None, assigns: frozenset[str] | None = frozenset()
    ) -> dict[str, tuple[Piece, Entry]]:
        """Give where the names stand that somebody reads, with those that come along.

        Functions use others; with ``d = {"l": l}`` who reads ``d`` finds ``l`` as it is now; and names that share an
        object without a name, or memory, are what they were only together. Who reads ``l`` and binds that name to
        something else finds ``d`` too: what becomes of the old list before, only ``d`` has then.

        Parameters
        ----------
        reads : iterable of str, optional
            The names; ``None``: any.
        assigns : frozenset of str, optional
            Names that are assigned; ``None``: any.
        """
        found: dict[str, tuple[Piece, Entry] | None] = {}
        holders: dict[str, list[str]] | None = None
        left = sorted(self.known() if reads is None else reads, reverse=True)
        if reads is not None and assigns:
            left += self._outdated(assigns.difference(reads))
        while left:
            name = left.pop()
            if name in found:
                continue
            one = found[name] = self.find(name)
            if one is not None:
                left += [other for key in ALONG for other in cast("list[str]", one[1].get(key, []))]
            if assigns is None or name in assigns:  # also one that only setup has made
                holders = self._holders() if holders is None else holders
                left += holders.get(name, ())
        return self.agreed({name: one for name, one in found.items() if one is not None})

    def agreed(self, found: Mapping[str, tuple[Piece, Entry]]) -> dict[str, tuple[Piece, Entry]]:
        """Give each object one value, whatever its names: as the step left it that changed it last.

        Others may have bound names to it beside that step, and have left it under these as it was before.
        """
        agreed = dict(found)
        for name, (giver, entry) in found.items():
            last = self.changers(entry)
            unseen = [(piece, one) for piece, one in last if piece.id not in giver.behind]
            if unseen and not any(piece is giver for piece, _ in last):
                piece, one = unseen[-1]
                newest = found[one][1] if one in found and found[one][0] is piece else self.entry(piece, one)
                agreed[name] = piece, {**newest, **self._along(entry, newest)}
        return agreed

    def changers(self, entry: Entry) -> list[tuple[Piece, str]]:
        """Give the steps that changed the object of a value last, each with a name under which it left that."""
        ones = self._changes.get(cast("str", entry.get("id", "")), [])
        return [(piece, one) for piece, one in ones if not any(piece.id in other.behind for other, _ in ones)]

    @cached_property
    def _changes(self) -> dict[str, list[tuple[Piece, str]]]:
        """For each object the steps that changed what it is, each with a name under which they left it."""
        found: dict[str, dict[str, tuple[Piece, str]]] = {}
        for piece in self.pieces:
            for name in self.changed_by(piece):
                entry = self.entry(piece, name)
                told = "id" in entry and ("stem" in entry or "unsaved" in entry)
                if told and not (entry.get("same") or _is_module(entry)):
                    found.setdefault(cast("str", entry["id"]), {})[piece.id] = piece, name
        return {token: list(one.values()) for token, one in found.items()}

    def _along(self, *entries: Entry) -> dict[str, Value]:
        """Give the names that come along with any of some values."""
        found = {key: {name for one in entries for name in cast("list[str]", one.get(key, []))} for key in ALONG}
        return {key: sorted(names) for key, names in found.items() if names}

    def _outdated(self, names: Iterable[str]) -> list[str]:
        """Give the names that hold values of these as others have changed them since: when these are bound anew, nobody
        else has that."""
        holders = self._holders()
        found = [(holder, name) for name in names for holder in holders.get(name, ())]
        return sorted({holder for holder, name in found if name in self._inside(holder)}, reverse=True)

    def _holders(self) -> dict[str, list[str]]:
        """Give for each name those whose values hold its value, or share with it: of setup's only they tell."""
        holders: dict[str, list[str]] = {}
        for other in self.known():
            one = self.find(other)
            along = [cast("list[str]", one[1].get(key, [])) for key in ("holds", "shares")] if one is not None else []
            for name in dict.fromkeys(chain(*along)):
                holders.setdefault(name, []).append(other)
        return holders

    def as_setup_makes(self, name: str) -> set[str]:
        """Give the names of setup for what a value is, or has inside, as setup makes it: where one of them stands for
        something else, there is nothing to give the value back with."""
        found = self.find(name)
        if found is None:
            return set()
        giver, entry = found
        saver = self._saver(name, giver)
        along = {other for key in ALONG for other in cast("list[str]", entry.get(key, []))}
        made = {other for other in along.difference(self.left[saver.id]) if not self.until(saver).givers(other)}
        return made | ({str(entry["stem"]).partition(":")[2]} if entry.get("form") == "setup" else set())

    def lost(self, piece: Piece, trusted: Callable[[Entry], bool] = lambda _entry: True) -> list[str]:
        """Give the names that a step reads and that can be restored from nowhere.

        They could not be saved, were saved by somebody else, or nobody read them when their step ran.

        Parameters
        ----------
        piece : Piece
            The step.
        trusted : callable, optional
            Tells whether a value may be loaded.
        """
        left = [
            n for n, (_, one) in self.wanted(piece.reads, piece.assigns).items() if "unsaved" in one or not trusted(one)
        ]
        unasked = [name for name in sorted(piece.reads or ()) if not self.givers(name) and self._unasked(name)]
        return [*left, *unasked]

    def unsaved(self) -> dict[str, Piece]:
        """Give the names that steps have left and nobody asked for, so that they are not saved, each with its step."""
        found = {}
        for piece in self.pieces:
            asked = self.left.get(piece.id, {}).get(ASKED)
            names = cast("list[str]", asked.get("left", [])) if isinstance(asked, dict) else []
            found.update(dict.fromkeys(names, piece))
        return {name: piece for name, piece in found.items() if not self.givers(name)}

    def _unasked(self, name: str) -> list[Piece]:
        """Give the steps that may have made a name of which nobody asked them."""
        found = []
        for piece in self.pieces:
            asked = self.left.get(piece.id, {}).get(ASKED)
            names = cast("list[str] | None", asked["names"]) if isinstance(asked, dict) else None
            if piece.assigns is not None and name in piece.assigns and names is not None and name not in names:
                found.append(piece)
        return found

    def repeated(
        self, names: Iterable[str], trusted: Callable[[Entry], bool] = lambda _entry: True
    ) -> tuple[Piece, ...]:
        """Give the steps to repeat for names that :meth:`lost` gave: who gave them, and who gave what those need.

        Parameters
        ----------
        names : iterable of str
            What cannot be restored.
        trusted : callable, optional
            Tells whether a value may be loaded.
        """
        again: set[str] = set()
        left = [(self, giver) for name in names for giver in self.makers(name)]
        while left:
            past, piece = left.pop()
            if piece.id not in again:
                again.add(piece.id)
                inner = past.until(piece)
                unsaved = inner.lost(piece, trusted)
                left += [(inner, giver) for other in unsaved for giver in inner.makers(other)]
        return tuple(piece for piece in self.pieces if piece.id in again)

    def makers(self, name: str) -> list[Piece]:
        """Give who gave a name that is not saved, and who has changed since what shares objects with it."""
        givers = self.givers(name) or tuple(self._unasked(name))
        if any(name in self.left[giver.id] and self.entry(giver, name).get("form") == "list" for giver in givers):
            return []  # items can be repeated nowhere else
        ids = {giver.id for giver in givers}
        entries = [self.entry(giver, name) for giver in givers if name in self.left[giver.id]]
        beside = {other for entry in entries for other in cast("list[str]", entry.get("shares", []))}
        for giver in givers:
            if name not in self.left[giver.id]:  # nobody knows what it shares, so with all of its step
                beside |= {*(giver.assigns or ()), *self.left[giver.id]}
        later = [piece for piece in self.pieces if ids & piece.behind and not beside.isdisjoint(self.changed_by(piece))]
        changers = [piece for entry in entries for piece, _ in self.changers(entry)]
        return [*givers, *later, *changers]

    def changed_by(self, piece: Piece) -> list[str]:
        """Give the names that a step changed."""
        left = self.left.get(piece.id, {})
        return [name for name in left if not name.startswith("$") and self.entry(piece, name).get("changed")]

    def entry(self, piece: Piece, name: str) -> Entry:
        """Give what a step has left under a name."""
        return cast("Entry", self.left[piece.id][name])


def _told(entry: Entry) -> Value:
    """Give what two values are told apart from; what could not be saved is another object in each kernel."""
    return entry.get("stem", {key: value for key, value in entry.items() if key != "id"})


def _is_module(entry: Entry) -> bool:
    return entry.get("form") == "module"


def gathered(giver: str, names: Iterable[str], left: Iterable[Mapping[str, Value]]) -> dict[str, Value]:
    """Give what the items of a fan-out left: under each name a list with one place for each item, in order.

    Examples
    --------
    >>> gathered("fit", ["score"], [{"score": {"form": "json", "text": "1"}}, {}])
    {'score': {'form': 'list', 'id': 'list:fit:score', 'changed': True, 'items': [{'form': 'json', 'text': '1'}, None]}}
    """
    each = list(left)
    return {
        name: _listed(f"list:{giver}:{name}", [cast("Entry | None", one.get(name)) for one in each]) for name in names
    }


def _listed(token: str, items: Sequence[Entry | None]) -> dict[str, Value]:
    """Give one entry for those of items: a class that an element needs comes along with the list."""
    found: dict[str, Value] = {"form": "list", "id": token, "changed": True, "items": list(items)}
    for key in ("needs", "holds"):
        names = {name for one in items if one for name in cast("list[str]", one.get(key, []))}
        found |= {key: sorted(names)} if names else {}
    return found


def files_of(value: Value) -> Iterator[File]:
    """Give the references to files in a value, at any depth."""
    match value:
        case File():
            yield value
        case list():
            for part in value:
                yield from files_of(part)
        case dict():
            for part in value.values():
                yield from files_of(part)
        case _:
            pass
