"""Documents: YAML becomes values by the core schema of YAML 1.2 (:mod:`.scalars`).

PyYAML reads the syntax only. Its own schema is the one of YAML 1.1, which turns ``NO`` into false, ``12:30``
into 750 and ``0150`` into 104, so the values are made here, from its events.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import NoReturn, Protocol, TypeAlias

import yaml

from ..errors import ParameterError
from ..values import Value
from .scalars import Quoted, plain

__all__ = ["Path", "flow_items", "in_brackets", "load_document", "load_yaml"]

DEEPEST = 50
"""Levels of nesting; a file with more is a mistake or an attack."""
MOST_BY_ALIAS = 100_000
"""Values that aliases may repeat; small files can ask for billions."""


def in_brackets(text: str) -> Value:
    """Give the value of text that begins like a list, a mapping or quoted text.

    Raises
    ------
    ParameterError
        If it is none.
    """
    stripped = text.strip()
    try:
        return _document(stripped, "", pure=True).value
    except ParameterError:
        raise
    except yaml.YAMLError as problem:
        raise ParameterError(
            f"{text!r} is no value: {_why(problem)}",
            f"Text that begins with {stripped[0]} wants quotes: {_single(stripped)}",
        ) from None


def flow_items(text: str) -> list[str]:
    """Give the items of a list without its brackets, as text; a :class:`Quoted` where they stood in quotes.

    Raises
    ------
    ParameterError
        If it is no such list, with the position.

    Examples
    --------
    >>> flow_items("Oslo,'New York, NY',[64,32],1e3")
    ['Oslo', 'New York, NY', '[64,32]', '1e3']
    """
    try:
        node = yaml.compose(f"[{text}]", Loader=_Shallow)
    except yaml.YAMLError as problem:
        raise ParameterError(
            f"{text!r} is no list of values: {_why(problem, 1, len(text))}",
            "Separate values by commas; a value with a comma or another sign in it wants quotes: 'New York, NY'.",
        ) from None
    assert isinstance(node, yaml.SequenceNode), "text between brackets is a sequence"
    return [_item_text(item, text) for item in node.value]


class _Shallow(yaml.SafeLoader):
    """Composes nodes down to a limit of depth."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.YAMLError("it is nested too deep")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _item_text(node: yaml.Node, text: str) -> str:
    if isinstance(node, yaml.ScalarNode) and node.tag.startswith("tag:yaml.org,2002:"):
        return Quoted(node.value) if node.style else str(node.value)
    return text[node.start_mark.index - 1 : node.end_mark.index - 1]


def _why(problem: yaml.YAMLError, before: int = 0, length: int = 10**9) -> str:
    """Give reason and position in one line; ``before`` signs were put in front of the text of this length."""
    mark = getattr(problem, "problem_mark", None)
    where = f" at position {min(max(mark.index - before, 0) + 1, length)}" if mark is not None else ""
    reason = " ".join(str(getattr(problem, "problem", None) or problem).split())
    for technical in ("'<stream end>'", "'<document start>'"):
        reason = reason.replace(technical, "the end")
    return f"{reason}{where}."


def _single(text: str) -> str:
    doubled = text.replace("'", "''")
    return f"'{doubled}'"


# Files


Path: TypeAlias = tuple[str | int, ...]
"""Keys and places on the way to a value in a document."""


class _Built(Protocol):
    """What a builder has when it is done."""

    value: Value
    lines: dict[Path, int]


def load_yaml(text: str, place: str) -> tuple[Value, list[int]]:
    """Give the value of a YAML text, and for a list the line of each element.

    Parameters
    ----------
    text : str
        One document.
    place : str
        The file, for messages.

    Raises
    ------
    ParameterError
        For bad syntax, duplicate keys, unknown tags, and what is nested or repeated too much.

    Examples
    --------
    >>> load_yaml("- city: NO\\n- city: Lima\\n", "cities.yml")
    ([{'city': 'NO'}, {'city': 'Lima'}], [1, 2])
    """
    built = _read(text, place)
    return built.value, [built.lines[i,] for i in range(len(built.value))] if isinstance(built.value, list) else []


def load_document(text: str, place: str) -> tuple[Value, dict[Path, int]]:
    """Give the value of a YAML text, and the line of each key and element in it, by its path.

    Raises
    ------
    ParameterError
        As :func:`load_yaml` does.

    Examples
    --------
    >>> load_document("steps:\\n- id: load\\n", "w.yml")
    ({'steps': [{'id': 'load'}]}, {('steps',): 1, ('steps', 0): 2, ('steps', 0, 'id'): 2})
    """
    built = _read(text, place)
    return built.value, built.lines


def _read(text: str, place: str) -> _Built:
    try:
        return _document(text, place, pure=False)
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        where = f"{place}:{mark.line + 1}" if mark is not None else place
        line = _line(text, mark.line) if mark is not None else ""
        if mark is not None and line[mark.column : mark.column + 1] == "\t":
            raise ParameterError(f"{where}: a tab stands before the text.", "Put blanks in its place.", where) from None
        reason = getattr(problem, "problem", None) or str(problem)
        remedy = _quotes(line) or "Text with one of : # [ { & * ! | > ' \" % @ in it may want quotes."
        raise ParameterError(f"{where}: this is not YAML ({' '.join(str(reason).split())}).", remedy, where) from None


def _line(text: str, number: int) -> str:
    """Give a line of a text, from 0."""
    return next(iter(text.splitlines()[number : number + 1]), "")


_BLOCK = re.compile(r"""(?<!['"])\{\{.*?\}\}[^\s,}\]]*""")


def _quotes(line: str) -> str:
    """Give the remedy for an expression that stands without quotes: its braces are a mapping of YAML then."""
    found = _BLOCK.search(line)
    quote = "'" if found is not None and '"' in found[0] else '"'
    return f"Put quotes around it: {quote}{found[0]}{quote}" if found is not None else ""


def _document(text: str, place: str, *, pure: bool) -> _Built:
    loader = yaml.SafeLoader if pure else _fast_loader()
    builder = _Builder(yaml.parse(text, Loader=loader), place, text)
    builder.read()
    return builder


@cache
def _fast_loader() -> type[yaml.SafeLoader]:
    """Give the parser in C where PyYAML was built with it; it is ten times faster."""
    loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return loader


class _Builder:
    """Makes one value from the events of a document."""

    def __init__(self, events: Iterator[yaml.Event], place: str, text: str) -> None:
        self.events = events
        self.place = place
        self.text = text
        self.value: Value = None
        self.lines: dict[Path, int] = {}
        """The lines of keys and elements."""
        self.anchors: dict[str, tuple[Value, int, int]] = {}
        """Values, how many are in each, and how high they are stacked."""
        self.height = 0
        """Levels of nesting in the value that was read last."""
        self.count = 0
        self.repeated = 0

    def read(self) -> None:
        documents = 0
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self.refuse(event, "a second document begins", "Keep one document: delete what follows the ---.")
                self.value = self.node(next(self.events), ())

    def node(self, event: yaml.Event, path: Path) -> Value:
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event, path)
        assert isinstance(event, yaml.NodeEvent), "the parser gives nodes here"
        if len(path) > DEEPEST:
            self.refuse(event, f"it is nested more than {DEEPEST} deep")
        before = self.count
        self.count += 1
        value: Value
        if isinstance(event, yaml.ScalarEvent):
            value, self.height = self.scalar(event), 0
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self.sequence(path)
        else:
            value = self.mapping(path)
        if event.anchor:
            self.anchors[event.anchor] = (value, self.count - before, self.height)
        return value

    def alias(self, event: yaml.AliasEvent, path: Path) -> Value:
        if event.anchor not in self.anchors:
            self.refuse(event, f"*{event.anchor} stands for nothing above it")
        value, size, self.height = self.anchors[event.anchor]
        if len(path) + self.height > DEEPEST:
            self.refuse(event, f"with what *{event.anchor} stands for it is nested more than {DEEPEST} deep")
        self.repeated += size
        self.count += size
        if self.repeated > MOST_BY_ALIAS:
            self.refuse(event, f"its aliases repeat more than {MOST_BY_ALIAS:,} values")
        return value

    def scalar(self, event: yaml.ScalarEvent) -> Value:
        if event.tag == "tag:yaml.org,2002:str" or (event.tag in (None, "!") and event.style in ("'", '"', "|", ">")):
            return str(event.value)
        if event.tag is not None:
            self.refuse(event, f"the tag {event.tag!r} is not known", "Delete the tag.")
        return plain(event.value)

    def sequence(self, path: Path) -> Value:
        items: list[Value] = []
        height = 0
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            place = (*path, len(items))
            self.note(place, event)
            items.append(self.node(event, place))
            height = max(height, self.height)
        self.height = height + 1
        return items

    def mapping(self, path: Path) -> Value:
        mapping: dict[str, Value] = {}
        height = 0
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                self.refuse_key(event)
            if event.value in mapping:
                self.refuse(event, f"the key {event.value!r} stands twice in one mapping", "Delete one of the two.")
            place = (*path, event.value)
            self.note(place, event)
            mapping[event.value] = self.node(next(self.events), place)
            height = max(height, self.height)
        self.height = height + 1
        return mapping

    def refuse_key(self, event: yaml.Event) -> NoReturn:
        quotes = _quotes(_line(self.text, event.start_mark.line)) if event.start_mark else ""
        if quotes:
            self.refuse(event, "{{ }} without quotes is a mapping", quotes)
        self.refuse(event, "a key is a list, a mapping or an alias", "Keys are text.")

    def note(self, place: Path, event: yaml.Event) -> None:
        self.lines[place] = event.start_mark.line + 1 if event.start_mark else 0

    def refuse(self, event: yaml.Event, why: str, remedy: str = "") -> NoReturn:
        mark = event.start_mark
        assert mark is not None, "the parser marks what it reads"
        where = f"{self.place}:{mark.line + 1}" if self.place else f"position {mark.index + 1}"
        raise ParameterError(f"{where}: {why}.", remedy, where)
