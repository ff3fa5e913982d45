"""What is known of a name between two saves."""

from __future__ import annotations

import weakref

from .natures import ATOMS, Ref


class Known:
    """What a shelf knows of a name: the value that it had, and what that shares.

    Parameters
    ----------
    value : object
        Kept where nothing else tells it from another one that gets its address: lists and dicts, until the next save.
        Of others what is deleted in the notebook is gone.
    token : str
        Who the object is, in every kernel of the run.
    ref : dict, optional
        Where it is saved.
    state : str, optional
        What changes are told from: two equal states are one value. None where nobody looked.
    """

    def __init__(self, value: object, token: str, ref: Ref | None, state: str | None) -> None:
        self.at = id(value)
        self.weak = _weak(value)
        self.kept = value if self.weak is None and type(value) not in ATOMS else None
        self.token = token
        self.ref = ref
        self.state = state
        self.shape = state
        """What its packing is told from: equal where it would be packed the same, beside the names that there are."""
        self.shares: set[str] = set()
        """Names that share with it what can be changed, or memory."""
        self.holds: set[str] = set()
        """Names of functions and classes in it."""
        self.inside: tuple[str, ...] | None = None
        """Tokens of other values in it that have names, and are no code, as they stand in it; None where that is not
        known."""
        self.holders: set[str] = set()
        """Names that have it inside, where it is a function or a class: they hold what has no name any more when its
        name is bound anew."""

    @property
    def is_of_setup(self) -> bool:
        """Whether setup made it in this kernel."""
        return self.ref is not None and self.ref["form"] == "setup"

    @property
    def is_unseen(self) -> bool:
        """Whether setup made it, and nobody has looked at it yet: what it holds is not known."""
        return self.is_of_setup and self.state is None

    @property
    def is_seen_setup(self) -> bool:
        """Whether setup made it, and it could be saved when it was looked at."""
        return self.is_of_setup and self.state is not None

    def has(self, value: object) -> bool:
        """Whether that is the object; of numbers and texts, of which it does not matter which, whether it may be."""
        if self.weak is not None or self.kept is not None:
            return id(value) == self.at and value is (self.kept if self.weak is None else self.weak())
        return id(value) == self.at and type(value) in ATOMS


def _weak(value: object) -> weakref.ref[object] | None:
    try:
        return weakref.ref(value)
    except TypeError:
        return None
