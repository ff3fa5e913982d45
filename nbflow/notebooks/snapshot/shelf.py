"""The shelf: what a kernel knows of its names between steps."""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .codes import is_code, load_cloudpickle
from .files import Budget, Files, write_chunks
from .frames import is_stable
from .known import Known
from .natures import ATOMS, FIXED, Ref, meets, of_the_machine, reach, shortened, within
from .pickling import Lone, pickler
from .restoring import Restore, place_of
from .saving import Save, is_small_and_alone
from .settings import LOOKS, RANDOM, SETTINGS, Settings

_OF_IPYTHON = ("In", "Out", "exit", "quit", "get_ipython", "open")


class Shelf:
    """What a kernel knows of its names between steps; there is one in a kernel's process.

    Parameters
    ----------
    namespace : dict
        The notebook's variables.
    folder : str
        The run folder; files go to ``names`` in it.
    cloudpickle : str
        Folder of the package cloudpickle, wherever that is; the kernel's environment may lack it.
    """

    def __init__(self, namespace: dict[str, Any], folder: str, cloudpickle: str) -> None:
        self.namespace = namespace
        self.files = Files(folder)
        self.cloudpickle = load_cloudpickle(cloudpickle)
        self.pickler = pickler(self.cloudpickle)
        self.lone = pickler(self.cloudpickle, Lone)
        shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
        self.hidden: dict[str, Any] = dict(shell.user_ns_hidden) if shell is not None else {}
        self.setup: set[str] = set()
        self.known: dict[str, Known] = {}
        self.settings = {
            "settings": Settings(SETTINGS, self.cloudpickle),
            "looks": Settings(LOOKS, self.cloudpickle),
            "random": Settings(RANDOM, self.cloudpickle),
        }
        self.there: set[str] = set()
        """Names that there were when it last looked."""

    def is_own(self, name: str) -> bool:
        """Whether a name is the notebook's, and there; IPython keeps names of its own beside them."""
        if name not in self.namespace or (name.startswith("__") and name.endswith("__")):
            return False
        return name not in self.hidden or self.hidden[name] is not self.namespace[name]

    def token(self, name: str, value: object) -> str:
        """Give the token of an object: that which it has, or a new one."""
        if type(value) in ATOMS:
            return f"value:{name}"
        own = self.known.get(name)
        for known in (own, *self.known.values()) if own else self.known.values():
            if known.has(value):
                return known.token
        return uuid.uuid4().hex[:16]

    def restore(
        self,
        names: dict[str, Ref],
        *,
        setup: Sequence[str] = (),
        watch: Sequence[str] = (),
        settings: Ref | None = None,
        looks: Ref | None = None,
        random: Ref | None = None,
        environ: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        """Put names into the namespace.

        Parameters
        ----------
        names : dict
            References, as :meth:`save` gave them, with those of what goes along with a name.
        setup : sequence of str
            Names that setup cells made in this kernel.
        watch : sequence of str
            Names that the coming step may touch: their present state is learnt.
        settings, looks, random : dict, optional
            As :meth:`save` gave them.
        environ : dict, optional
            Variables that tell which task comes.

        Returns
        -------
        dict
            ``read``: bytes; ``problems``: for each name that is not given back the reason, and for ``$settings`` and
            ``$random``; ``missing``: files that are
            gone, or not what they were. If there are any, no name is bound.
        """
        os.environ.update(environ or {})
        self._learn_setup(setup)
        restore = Restore(self, names)
        given = {"settings": settings, "looks": looks, "random": random}
        for kind, ref in given.items():
            restore.trying(f"${kind}", functools.partial(self._give, kind, ref, early=True))
        values = restore.all()
        for kind, ref in given.items():
            restore.trying(f"${kind}", functools.partial(self._give, kind, ref, early=False))
        if not restore.missing:
            self._bind(values, restore)
            self._look(values, [*watch, *filter(self._is_cheap, setup)], restore)
        self.there = set(self.namespace)
        for found in self.settings.values():
            found.look()
        restore.end()
        return {"read": restore.read, "problems": restore.problems, "missing": sorted(restore.missing)}

    def _is_cheap(self, name: str) -> bool:
        """Whether a name of setup is looked at unasked: code and plain values are; a large frame is not."""
        value = self.namespace.get(name)
        return is_code(value) or type(value) in ATOMS

    def _give(self, kind: str, ref: Ref | None, *, early: bool) -> None:
        if ref is not None:
            self.settings[kind].give(None if ref["form"] == "start" else self.files.read(ref), early=early)

    def _keep(self, kind: str, unsaved: dict[str, str]) -> Ref | None:
        """Save settings, or states of random generators."""
        data, failed = self.settings[kind].changed()
        for name, problem in failed.items():
            if of_the_machine(problem):
                raise problem
            unsaved[f"${kind}"] = shortened(f"{name}: cannot be saved ({type(problem).__name__}: {problem})")
        if data is None:
            return None
        sha = hashlib.sha256(data).hexdigest()
        path = f"names/{sha}.state"
        if not self.files.has(path, sha):
            budget = Budget(float("inf"), float("inf"))
            self.files.make(path, lambda file: write_chunks(file, [data], budget), budget)
        return {"form": "state", "path": path, "size": len(data), "sha256": sha}

    def _learn_setup(self, setup: Sequence[str]) -> None:
        """Note what setup cells made: later kernels have it. Of two names for one object the first is its token."""
        tokens: dict[int, str] = {}
        for name in setup:
            if name in self.namespace and name not in self.setup:
                self.setup.add(name)
                value = self.namespace[name]
                is_atom = type(value) in ATOMS
                token = f"setup:{name}" if is_atom else tokens.setdefault(id(value), f"setup:{name}")
                kind = f"{type(value).__module__}.{type(value).__qualname__}"
                ref = {"form": "setup", "stem": token, "id": token, "type": kind}
                self.known[name] = Known(value, token, None if is_atom else ref, None)

    def _bind(self, values: dict[str, Any], restore: Restore) -> None:
        refs = restore.refs
        for name, value in values.items():
            ref = refs[name]
            state = None if ref["form"] in ("setup", "list") else ref["stem"]
            self.namespace[name] = value
            known = self.known[name] = Known(value, ref.get("id", f"value:{name}"), ref, state)
            known.shares = {*ref.get("shares", ()), *ref.get("holds", ())}
            known.holds = set(ref.get("needs", ()))
            known.inside = () if ref["form"] == "json" else None
        for name in values:
            for other in refs[name].get("holds", ()):
                if other in self.known:  # where that is bound anew, this one holds what has no name then
                    known = self.known[other]
                    (known.holders if is_code(self.namespace.get(other)) else known.shares).add(name)

    def _look(self, values: dict[str, Any], names: Sequence[str], restore: Restore) -> None:
        """Learn the state of names from which a later save tells changes: pickles may differ between processes."""
        names = [*names, *self._holders(names)]
        restored = {name for name, value in values.items() if is_stable(value, restore.refs[name]["form"])}
        wanted = [name for name in dict.fromkeys(names) if name in self.namespace and name not in restored]
        wanted = [name for name in wanted if name in values or name not in self.known or not self.known[name].state]
        look = Save(self, wanted, set(wanted), Budget(float("inf"), float("inf")))
        look.stems.update(restore.large)
        look.pack_all(dry=True)
        connected = look.connected()
        reached = [name for name in look.names if name in self.known and self.known[name].is_unseen]
        for name in dict.fromkeys([*wanted, *reached]):
            token = look.tokens[name]
            if token in look.packed:
                known = self.known.setdefault(name, Known(self.namespace[name], token, None, None))
                known.state, known.shape = look.state(token), look.packed[token].form["stem"]
                known.shares |= (connected[token] | look.beside(token)) - {name}
                known.holds |= look.packed[token].needs
                known.inside = look.inside(token)
        self._note_holders(look)
        look.end()

    def _holders(self, names: Sequence[str]) -> list[str]:
        """Give the names of setup that have something of others inside: if those change, they do, too."""
        ours = [name for name in names if name in self.setup and name in self.namespace]
        wanted = set[int]().union(*(within(self.namespace[name], self.namespace) for name in ours))
        others = sorted(name for name in self.setup - {*names} if wanted and name in self.namespace)
        seen = set[int]()
        return [name for name in others if meets(self.namespace[name], wanted, self.namespace, seen)]

    def save(
        self,
        names: Sequence[str] | None,
        *,
        touched: Sequence[str] | None = None,
        assigned: Sequence[str] = (),
        small: Sequence[str] = (),
        stale: Sequence[str] = (),
        most: float,
        seconds: float,
    ) -> dict[str, Any]:
        """Save those of the names that are new or changed.

        Parameters
        ----------
        names : sequence of str, optional
            What later steps read; what there is not is left out. Without it all names.
        touched : sequence of str, optional
            What the step may have read or assigned; anything, without it.
        assigned : sequence of str
            What it has certainly given a value that has nothing to do with the one before: it is its own, also where
            the two are equal.
        small : sequence of str
            What is saved besides if it costs next to nothing, and nothing else refers to it.
        stale : sequence of str
            Names that are here as setup made them, while steps before have changed them; they are not saved.
        most : float
            Bytes that may be written.
        seconds : float
            How long it may take.

        Returns
        -------
        dict
            ``names``: references of what is new, changed, or saved here first; ``changed``: names whose value is not
            what it was, or is the step's own, with those of setup that could be saved before; ``same``: those of them
            whose value is what it was, perhaps under another name; ``gone``: names that were deleted;
            ``unsaved``: for each name that is not saved the reason, and for ``$settings`` and others; ``lost``: for
            these names whose value it is (``id``), and the names that share objects with it (``shares``); ``left``:
            those of ``small`` that are there and were not saved;
            ``settings``, ``looks``, ``random``; ``wrote``: bytes; ``seconds``.
        """
        budget, affected = Budget(most, seconds), self._affected(touched)
        gone = sorted(
            self.there - self.namespace.keys() if names is None else {*names} & self.there - {*self.namespace}
        )
        if names is None:
            names = [name for name in self.namespace if not name.startswith("_") and name not in _OF_IPYTHON]
        offers = {name for name in small if is_small_and_alone(self.namespace, name)}.difference(names)
        names = [*names, *sorted(offers)]
        beside = [name for name in sorted(self.setup & (affected or set())) if name in self.namespace]
        old = frozenset(name for name in stale if name in self.known and self.known[name].is_of_setup)
        asked = [name for name in dict.fromkeys([*names, *beside]) if name not in old]
        save = Save(self, asked, affected, budget, old)
        save.pack_all(dry=False)
        save.write_all()
        connected = save.connected()
        save.leave_out(offers)
        refs = save.refs()
        found, changed, bound = self._news(save, refs, touched, connected)
        self._note_holders(save)
        unsaved = {name: save.reason(save.tokens[name]) for name in save.names if save.tokens[name] in save.failed}
        spoilt = [name for name in unsaved if name in self.known and self.known[name].is_seen_setup]
        for name in unsaved:
            self.known.pop(name, None)
        changed += self._held_by_setup(changed, save)
        same = sorted({*assigned}.intersection(refs).difference(changed))
        found.update((name, refs[name]) for name in same)
        changed += [*same, *spoilt]
        reached = {name: reach(self.namespace[name], self.namespace) for name in unsaved}
        lost = {name: {"id": save.tokens[name], "shares": self._beside_lost(name, save, reached)} for name in unsaved}
        save.end()
        self._forget(touched, set(save.names))
        self.there = set(self.namespace)
        taken = {"wrote": budget.written, "seconds": time.monotonic() - budget.start}
        kept = {kind: self._keep(kind, unsaved) for kind in self.settings}
        told = {
            "names": found,
            "changed": changed,
            "same": [*same, *bound],
            "gone": gone,
            "unsaved": unsaved,
            "lost": lost,
            "left": sorted({*small}.intersection(self.namespace).difference(save.names)),
        }
        return {**told, **kept, **taken}

    def _news(
        self, save: Save, refs: dict[str, Ref], touched: Sequence[str] | None, connected: dict[str, set[str]]
    ) -> tuple[dict[str, Ref], list[str], list[str]]:
        """Give the references that are new, the names that changed, and those of these that were only bound to what
        another one was; note what each is now."""
        found: dict[str, Ref] = {}
        changed: list[str] = []
        bound: list[str] = []
        data = (name for name in save.tokens.keys() & self.known if not is_code(self.namespace[name]))
        stayed = {save.tokens[name] for name in data if save.tokens[name] == self.known[name].token}
        states = {one.token: one.state for one in self.known.values() if one.state}
        inside = {one.token: one.inside for one in self.known.values()}
        for name, ref in refs.items():
            token, known = save.tokens[name], self.known.get(name)
            unread = touched is not None and {*touched}.isdisjoint(save.names_of[token])
            if known is not None and known.is_unseen and unread:
                continue  # only code needs it, that the step has not run: each kernel has it from setup
            state = save.state(token)
            same_object = known is not None and (known.token == token or "id" not in ref)
            # The same content under the same token is the same, whatever was learnt of it.
            given = known.ref if known is not None and known.ref is not None else {}
            same_content = "stem" in given and place_of(given) == place_of(ref)
            before = known and (known.state or states.get(known.token))
            other = known is not None and self._differs_inside(known, save, stayed, inside)
            if other or not (known and same_object and (before == state or same_content)):
                changed.append(name)
                if not other and "id" in ref and state is not None and states.get(token) == state:
                    bound.append(name)
            if not known or known.ref != ref:
                found[name] = ref
            self._note(name, save, ref, state, connected)
        return found, changed, bound

    @staticmethod
    def _differs_inside(known: Known, save: Save, stayed: set[str], before: dict[str, tuple[str, ...] | None]) -> bool:
        """Whether a value has those of other names inside that it had not, or has them no more, or elsewhere, equal as
        it may be to what it was: ``d["l"] = list(l)``, ``rows.reverse()``. What only has a name now, or none any more,
        counts by what it has inside."""
        had = _inside(known.inside, before.get, stayed)
        has = _inside(save.inside(known.token), save.inside, stayed)
        return had is not None and has is not None and had != has

    def _held_by_setup(self, changed: Sequence[str], save: Save) -> list[str]:
        """Give the names of setup that hold what has changed of setup: it makes them with what it makes itself."""
        found: list[str] = []
        while True:
            new = self.setup & {*changed, *found}
            left = [name for name in save.names if name in self.setup - new]
            more = [name for name in left if not (save.held(name) | save.with_it(name)).isdisjoint(new)]
            if not more:
                return found
            found += more

    def _beside_lost(self, name: str, save: Save, lost: dict[str, set[int]]) -> list[str]:
        """Give the names that share objects with one that cannot be saved: only together they are what they were."""
        reached, found = lost[name], []
        for other, token in save.tokens.items():
            packed = save.packed.get(token)
            inside = lost.get(other, set()) if packed is None else packed.seen.keys() | packed.arrays.keys()
            fixed = type(self.namespace[other]) in ATOMS or isinstance(self.namespace[other], FIXED)
            if other != name and not fixed and (id(self.namespace[other]) in reached or inside & reached):
                found.append(other)
        return sorted(found)

    def _note_holders(self, save: Save) -> None:
        """Note who has a named function or class inside."""
        for name, holders in save.holders().items():
            if name in self.known:
                self.known[name].holders |= holders - {name}

    def _note(self, name: str, save: Save, ref: Ref, state: str | None, connected: dict[str, set[str]]) -> None:
        before = self.known.get(name)
        known = self.known[name] = Known(self.namespace[name], save.tokens[name], ref, state)
        known.holders = before.holders if before is not None and before.token == known.token else set()
        known.shape = save.shape(known.token)
        known.inside = save.inside(known.token)
        if known.token not in save.packed and before is not None:
            known.inside = before.inside
        known.shares = connected[known.token] | (save.beside(known.token) - {name})
        known.holds = set(ref.get("needs", ()))

    def _forget(self, touched: Sequence[str] | None, saved: Iterable[str]) -> None:
        """Forget names that may be bound to something else by now: the object of an id may be another one."""
        for name, known in list(self.known.items()):
            there = name in self.namespace and known.has(self.namespace[name])
            sure = known.weak is not None or name in saved or type(self.namespace.get(name)) in ATOMS
            if not there or not (sure or (touched is not None and name not in touched)):
                del self.known[name]

    def _affected(self, touched: Sequence[str] | None) -> set[str] | None:
        """Give the names that may have changed: those that were touched, and what shares something with them."""
        if touched is None or any(name in self.there and name not in self.known for name in touched):
            return None
        found: set[str] = set()
        todo = list(touched)
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                known = self.known.get(name)
                todo += [*known.shares, *known.holds, *(known.holders & self.setup)] if known else []
                if known and not (name in self.namespace and known.has(self.namespace[name])):
                    todo += known.holders
        return found


def _inside(
    tokens: tuple[str, ...] | None, of: Callable[[str], tuple[str, ...] | None], stayed: set[str]
) -> list[str] | None:
    """Give those of some tokens that have stayed, and what stands in the others; None where that is not known."""
    found: list[str] = []
    seen: set[str] = set()
    left = [tokens]
    while left:
        inner = left.pop()
        if inner is None:
            return None
        for at, token in enumerate(inner):
            if token in stayed:
                found.append(token)
            elif token not in seen:
                seen.add(token)
                left += [inner[at + 1 :], of(token)]
                break
    return found
