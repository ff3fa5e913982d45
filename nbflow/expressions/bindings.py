"""Bindings: text and values with expressions inside, which have their value when their step is reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from ..model import Literal, Names
from ..values import DEEPEST, Value
from .evaluation import Evaluation
from .limits import ExpressionError, Located, joined
from .operations import measured_text, plain
from .syntax import Reference, Tree, parse, split, without_quoted_blocks


@dataclass(frozen=True, slots=True)
class _Parsed:
    """What is made of one expression; equal for equal text."""

    text: str
    """The expression, without braces."""
    tree: Tree = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tree", parse(self.text))

    def __reduce__(self) -> tuple[type[_Parsed], tuple[str]]:
        return type(self), (self.text,)

    @property
    def references(self) -> tuple[Reference, ...]:
        """What it reads, in the order of the text."""
        return self.tree.references


@dataclass(frozen=True, slots=True)
class Expression(_Parsed):
    """One expression, whose value keeps its type.

    Examples
    --------
    >>> Expression("item.size * 2").resolve({"item": {"size": 21}})
    42
    """

    def resolve(self, names: Names) -> Value:
        """Give the value in this scope.

        Raises
        ------
        ExpressionError
            If it has none.
        """
        with Located(self.text):
            return plain(Evaluation(names).value(self.tree.node))


@dataclass(frozen=True, slots=True)
class Condition(_Parsed):
    """One expression that holds or not.

    Examples
    --------
    >>> Condition("item.size > 20").holds({"item": {"size": 21}})
    True
    """

    def holds(self, names: Names) -> bool:
        """Tell whether its value counts as true; an empty text and the text ``false`` do not.

        Raises
        ------
        ExpressionError
            If it has no value.
        """
        with Located(self.text):
            value = Evaluation(names).used(self.tree.node)
            return value.strip().lower() not in ("", "false") if isinstance(value, str) else bool(value)

    def resolve(self, names: Names) -> bool:
        """Tell whether it holds."""
        return self.holds(names)


@dataclass(frozen=True, slots=True)
class Template:
    """Text with blocks, which become text in it.

    Examples
    --------
    >>> Template("{{ item.city }}-{{ item.days }}.csv").resolve({"item": {"city": "Oslo", "days": [1, 2]}})
    'Oslo-[1, 2].csv'
    """

    text: str
    """The whole text."""
    pieces: tuple[str | Tree, ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        pieces = [parse(piece) if place % 2 else piece for place, piece in enumerate(split(self.text))]
        object.__setattr__(self, "pieces", tuple(pieces))

    def __reduce__(self) -> tuple[type[Template], tuple[str]]:
        return type(self), (self.text,)

    @property
    def references(self) -> tuple[Reference, ...]:
        """What its expressions read, in the order of the text."""
        return _together([piece.references for piece in self.pieces if isinstance(piece, Tree)])

    def resolve(self, names: Names) -> str:
        """Give the text in this scope.

        Raises
        ------
        ExpressionError
            If an expression has no value, or one that has no text form: ``None``.
        """
        run = Evaluation(names)
        with Located(self.text):
            return joined("", (piece if isinstance(piece, str) else _spelled(piece, run) for piece in self.pieces))


def _spelled(tree: Tree, run: Evaluation) -> str:
    with Located(tree.text):
        return measured_text(run, run.used(tree.node))


@dataclass(frozen=True, slots=True)
class Collection:
    """A list or mapping with expressions inside."""

    keys: tuple[str, ...] | None
    """The keys of a mapping; ``None`` for a list."""
    parts: tuple[Bound, ...]
    """What has the values."""

    @property
    def references(self) -> tuple[Reference, ...]:
        """What its expressions read, in the order of the text."""
        return _together([part.references for part in self.parts if not isinstance(part, Literal)])

    def resolve(self, names: Names) -> Value:
        """Give the list or mapping in this scope.

        Raises
        ------
        ExpressionError
            If an expression in it has no value.
        """
        values = [part.resolve(names) for part in self.parts]
        return values if self.keys is None else dict(zip(self.keys, values, strict=True))


Bound: TypeAlias = Literal | Expression | Template | Collection


def _together(several: list[tuple[Reference, ...]]) -> tuple[Reference, ...]:
    return tuple(dict.fromkeys(reference for references in several for reference in references))


def template(text: str) -> Bound:
    """Give the binding of a text: one block alone keeps its type, several become text.

    Raises
    ------
    ExpressionError
        For a block that cannot be read.

    Examples
    --------
    >>> template("{{ 1 + 1 }}").resolve({}), template("{{ 1 + 1 }} days").resolve({}), template("two").resolve({})
    (2, '2 days', 'two')
    """
    match split(text):
        case [_]:
            return Literal(text)
        case ["", expression, ""]:
            return Expression(expression)
        case _:
            return Template(text)


def condition(value: bool | str) -> Condition:  # noqa: FBT001 - true and false are what people write
    """Give the binding of a condition: an expression, with or without one block around all of it.

    Raises
    ------
    ExpressionError
        For what cannot be read, and for empty text.

    Examples
    --------
    >>> names = {"inputs": {"deep": True}}
    >>> condition("inputs.deep").holds(names), condition("{{ not inputs.deep }}").holds(names)
    (True, False)
    """
    text = value.strip() if isinstance(value, str) else str(value).lower()
    unquoted = without_quoted_blocks(text)
    if unquoted != text:
        with Located(text):
            raise ExpressionError(
                "{{ }} in quotes is text, and no value.",
                f"A condition wants no braces, and no quotes around a name: {unquoted:.100}",
            )
    if not text.startswith(("{{", "{%")):
        return Condition(text)
    match split(text):
        case ["", expression, ""]:
            return Condition(expression)
        case _:
            with Located(text):
                raise ExpressionError(
                    "a condition is one expression.", "Write it without {{ }}, or with one pair around all of it."
                )


def bind(value: Value) -> Bound:
    """Give the binding of a value in which any text, at any depth, may hold blocks.

    Raises
    ------
    ExpressionError
        For a block that cannot be read, and for one in a key.

    Examples
    --------
    >>> bind({"days": ["{{ first }}", 7]}).resolve({"first": 1})
    {'days': [1, 7]}
    """
    return _bound(value, 0)


def _bound(value: Value, depth: int) -> Bound:
    if depth > DEEPEST:
        raise ExpressionError(f"a value is nested more than {DEEPEST} deep.")
    if isinstance(value, str):
        return template(value)
    if not isinstance(value, (list, Mapping)):
        return Literal(value)
    keys = tuple(value) if isinstance(value, Mapping) else None
    for key in keys or ():
        if "{{" in key:
            raise ExpressionError(f"the key {key!r} holds an expression.", "Only values do.", place=key)
    parts = tuple(_bound(part, depth + 1) for part in (value.values() if isinstance(value, Mapping) else value))
    return Literal(value) if all(isinstance(part, Literal) for part in parts) else Collection(keys, parts)
