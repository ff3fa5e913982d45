"""Progress bars inside a child notebook, seen from outside: widgets by their messages, text by its form.

Nothing is added to the child. tqdm's widgets are a box of a label, a bar and words; a bar of the notebook's own is a
widget too; without ipywidgets, or with plain tqdm, the bar is a line of text that begins with a carriage return.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import unescape
from typing import Any

from ..events import Bar

__all__ = ["Relay", "of_line"]

_TAG = re.compile(r"<[^>]*>")
_LINE = re.compile(
    r"^(?P<label>.*?):?\s*(?P<percent>\d+)%\|[^|]*\|\s*(?P<done>[\d.,]+)\s*(?P<unit>[kMG]?)/(?P<total>[\d.,]+)(?P<units>[kMG]?)"
)
_BARS = {"FloatProgressModel", "IntProgressModel"}
_WORDS = {"HTMLModel", "LabelModel"}
LONGEST = 80
"""Characters of what stands beside a bar."""
MOST = 200
"""Widgets that are remembered; a notebook that makes more of them shows its newest."""


class Relay:
    """What bars a notebook shows, from the messages of its kernel.

    Examples
    --------
    >>> relay = Relay()
    >>> relay.opened("c1", {"state": {"_model_name": "IntProgressModel", "value": 3, "max": 12, "description": "fit"}})
    >>> relay.bars
    (Bar(text='fit', done=3.0, total=12.0),)
    """

    def __init__(self) -> None:
        self._widgets: dict[str, dict[str, Any]] = {}

    @property
    def bars(self) -> tuple[Bar, ...]:
        """The bars that are shown, the newest last."""
        boxed = self._boxes()
        return tuple(_bar(one, boxed.get(name, [])) for name, one in self._widgets.items() if _is(one, _BARS))

    def opened(self, name: str, data: Mapping[str, Any]) -> None:
        """A widget was made."""
        state = data.get("state")
        if isinstance(state, Mapping) and len(self._widgets) < MOST:
            self._widgets[name] = dict(state)

    def updated(self, name: str, data: Mapping[str, Any]) -> bool:
        """A widget changed; tells whether that may change a bar."""
        state = data.get("state")
        if data.get("method") != "update" or not isinstance(state, Mapping) or name not in self._widgets:
            return False
        self._widgets[name].update(state)
        return True

    def closed(self, name: str) -> None:
        """A widget went, and with a box what is in it."""
        gone = self._widgets.pop(name, {})
        for child in gone.get("children") or ():
            self._widgets.pop(str(child).removeprefix("IPY_MODEL_"), None)

    def forget(self) -> None:
        """Another cell begins: what the last one showed is over."""
        self._widgets.clear()

    def _boxes(self) -> dict[str, list[dict[str, Any]]]:
        """Give for each bar the widgets beside it, in their order."""
        found: dict[str, list[dict[str, Any]]] = {}
        for one in self._widgets.values():
            names = [str(child).removeprefix("IPY_MODEL_") for child in one.get("children") or ()]
            beside = [self._widgets[name] for name in names if name in self._widgets]
            found.update(dict.fromkeys(names, beside))
        return found


def of_line(line: str) -> Bar | None:
    """Give the bar that a line of text is, if it is one.

    Examples
    --------
    >>> of_line("fit:  40%|####      | 8/20 [00:01<00:02, 5.9it/s]")
    Bar(text='fit 8/20 [00:01<00:02, 5.9it/s]', done=8.0, total=20.0)
    """
    found = _LINE.match(line)
    if found is None:
        return None
    counts = f"{found['done']}{found['unit']}/{found['total']}{found['units']}"
    text = " ".join(filter(None, [found["label"].strip(), counts, line[found.end() :].strip()]))
    return Bar(text[:LONGEST], float(found["percent"]), 100.0) if found["unit"] else _counted(found, text)


def _counted(found: re.Match[str], text: str) -> Bar:
    return Bar(text[:LONGEST], _number(found["done"]), _number(found["total"]))


def _bar(widget: Mapping[str, Any], beside: list[dict[str, Any]]) -> Bar:
    """Give a bar; one that knows no total is full from the start, and says so in its words."""
    done, total = _number(widget.get("value")), _number(widget.get("max"))
    words = [_plain(one.get("value")) for one in beside if _is(one, _WORDS)]
    text = " ".join(filter(None, [_plain(widget.get("description")), *words]))
    return Bar(text[:LONGEST], done, 0.0 if "/?" in text else total)


def _is(widget: Mapping[str, Any], names: set[str]) -> bool:
    return widget.get("_model_name") in names


def _plain(html: object) -> str:
    """Give the words of a widget: tqdm pads them with spaces as wide as digits, and repeats the share."""
    text = unescape(_TAG.sub("", html)) if isinstance(html, str) else ""
    return re.sub(r"^\s*\d+%\s*$|:\s*\d+%\s*$", "", text.replace("\u2007", " ")).strip().rstrip(":")


def _number(value: object) -> float:
    try:
        return float(value.replace(",", "") if isinstance(value, str) else value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return 0.0
