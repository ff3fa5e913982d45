"""Progress bars inside a child notebook, seen from outside: widgets by their messages, text by its form.

Nothing is added to the child. tqdm's widgets are a box of a label, a bar and words; a bar of the notebook's own is a
widget too; without ipywidgets, or with plain tqdm, the bar is a line of text that begins with a carriage return.
Whatever else a notebook sends does no harm: what is not of the expected shape is passed over.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from html import unescape
from typing import Any

from ..events import Bar

__all__ = ["Relay", "of_line"]

_TAG = re.compile(r"<[^>]*>")
_LINE = re.compile(
    r"^(?P<label>[^%]*?):?\s{0,4}(?P<percent>\d{1,3})%\|[^|]{0,400}\|\s*"
    r"(?P<done>[\d.,]+)\s*(?P<unit>[kMG]?)/(?P<total>[\d.,]+)(?P<units>[kMG]?)"
)
_BARS = {"FloatProgressModel", "IntProgressModel"}
_WORDS = {"HTMLModel", "LabelModel"}
_BOXES = {"HBoxModel", "VBoxModel", "BoxModel"}
LONGEST = 80
"""Characters of what stands beside a bar."""
LONGEST_LINE = 600
"""Characters of a line that may be a bar."""
MOST = 200
"""Widgets that are remembered: the newest."""


class Relay:
    """What bars a notebook shows, from the messages of its kernel.

    Parameters
    ----------
    mask : callable, optional
        Takes secrets out of the words beside a bar.

    Examples
    --------
    >>> relay = Relay()
    >>> relay.opened("c1", {"state": {"_model_name": "IntProgressModel", "value": 3, "max": 12, "description": "fit"}})
    >>> relay.bars
    (Bar(text='fit', done=3.0, total=12.0),)
    """

    def __init__(self, mask: Callable[[str], str] = str) -> None:
        self._mask = mask
        self._widgets: dict[str, dict[str, Any]] = {}

    @property
    def bars(self) -> tuple[Bar, ...]:
        """The bars that are shown, the newest last."""
        beside: dict[str, list[dict[str, Any]]] = {}
        for one in self._widgets.values():
            names = _children(one)
            words = [self._widgets[name] for name in names if name in self._widgets]
            beside.update(dict.fromkeys(names, words))
        return tuple(self._bar(one, beside.get(name, [])) for name, one in self._widgets.items() if _kind(one) in _BARS)

    def opened(self, name: str, data: object) -> None:
        """A widget was made; layouts and styles are none that are shown."""
        state = data.get("state") if isinstance(data, Mapping) else None
        if isinstance(state, Mapping) and _kind(state) in _BARS | _WORDS | _BOXES:
            self._widgets[name] = dict(state)
            if len(self._widgets) > MOST:
                del self._widgets[next(iter(self._widgets))]

    def updated(self, name: str, data: object) -> None:
        """A widget changed."""
        if not isinstance(data, Mapping) or data.get("method") != "update" or name not in self._widgets:
            return
        state = data.get("state")
        if isinstance(state, Mapping):
            self._widgets[name].update(state)

    def closed(self, name: str) -> None:
        """A widget went, and with a box what is in it."""
        for child in _children(self._widgets.pop(name, {})):
            self._widgets.pop(child, None)

    def forget(self) -> None:
        """Another cell begins: what the last one showed is over."""
        self._widgets.clear()

    def _bar(self, widget: Mapping[str, Any], beside: list[dict[str, Any]]) -> Bar:
        """Give a bar; one that knows no total is full from the start, and says so in its words."""
        done, total = _number(widget.get("value")), _number(widget.get("max"))
        words = [self._plain(one.get("value")) for one in beside if _kind(one) in _WORDS]
        text = " ".join(filter(None, [self._plain(widget.get("description")), *words]))
        return Bar(text[:LONGEST], done, 0.0 if "/?" in text else total)

    def _plain(self, html: object) -> str:
        """Give the words of a widget: tqdm pads them with spaces as wide as digits, and repeats the share."""
        text = self._mask(unescape(_TAG.sub("", html[:LONGEST_LINE]))) if isinstance(html, str) else ""
        return re.sub(r"^\s*\d+%\s*$|:\s*\d+%\s*$", "", text.replace("\u2007", " ")).strip().rstrip(":")


def of_line(line: str) -> Bar | None:
    """Give the bar that a line of text is, if it is one.

    Examples
    --------
    >>> of_line("fit:  40%|####      | 8/20 [00:01<00:02, 5.9it/s]")
    Bar(text='fit 8/20 [00:01<00:02, 5.9it/s]', done=8.0, total=20.0)
    """
    if "%|" not in line or len(line) > LONGEST_LINE:
        return None
    found = _LINE.match(line)
    if found is None:
        return None
    counts = f"{found['done']}{found['unit']}/{found['total']}{found['units']}"
    text = " ".join(filter(None, [found["label"].strip(), counts, line[found.end() :].strip()]))[:LONGEST]
    if found["unit"] or found["units"]:  # the two may be of different units
        return Bar(text, float(found["percent"]), 100.0)
    return Bar(text, _number(found["done"]), _number(found["total"]))


def _kind(widget: Mapping[str, Any]) -> str:
    name = widget.get("_model_name")
    return name if isinstance(name, str) else ""


def _children(widget: Mapping[str, Any]) -> list[str]:
    children = widget.get("children")
    found = children if isinstance(children, (list, tuple)) else []
    return [child.removeprefix("IPY_MODEL_") for child in found if isinstance(child, str)]


def _number(value: object) -> float:
    try:
        number = float(value.replace(",", "") if isinstance(value, str) else value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return number if math.isfinite(number) else 0.0
