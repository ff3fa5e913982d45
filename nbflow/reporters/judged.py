"""What a person is to judge before a gate: a notebook or a file, as HTML that can do nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

__all__ = ["harmless", "judged"]

LARGEST = 5_000_000
"""Bytes of a file that is shown; larger ones have a link."""
MOST_CELLS = 60
LONGEST = 4000
"""Characters of a text that are shown."""
PICTURES = ("image/png", "image/jpeg", "image/gif")
ALLOWED = frozenset(
    {
        *("b", "br", "caption", "code", "div", "em", "h1", "h2", "h3", "h4", "hr", "i", "li", "ol", "p", "pre"),
        *("span", "strong", "sub", "sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul"),
    }
)
"""Elements that stay, without their attributes."""
SPANS = frozenset({"colspan", "rowspan"})
SILENT = frozenset({"script", "style", "head", "title"})


def judged(path: Path) -> str:
    """Give a file as it is shown: a notebook with what its cells gave, a picture, or text.

    Examples
    --------
    >>> judged(Path("nowhere.txt"))
    '<div class="nbf-soft">nowhere.txt is not there yet</div>'
    """
    try:
        if path.stat().st_size > LARGEST:
            return f'<div class="nbf-soft">{escape(path.name)} is too large to be shown here</div>'
        data = path.read_bytes()
    except OSError:
        return f'<div class="nbf-soft">{escape(path.name)} is not there yet</div>'
    match path.suffix.lower():
        case ".ipynb":
            return f'<div class="nbf-judged">{_notebook(data)}</div>'
        case ".png" | ".jpg" | ".jpeg" | ".gif":
            import base64

            kind = (
                "jpeg" if path.suffix.lower() != ".png" and path.suffix.lower() != ".gif" else path.suffix[1:].lower()
            )
            return f'<div class="nbf-judged">{_picture(f"image/{kind}", base64.b64encode(data).decode())}</div>'
        case ".html" | ".htm" | ".md":
            return f'<div class="nbf-judged">{harmless(data.decode("utf-8", "replace"))}</div>'
        case _:
            return f'<div class="nbf-judged">{_text(data.decode("utf-8", "replace"))}</div>'


def _notebook(data: bytes) -> str:
    try:
        cells = list(json.loads(data)["cells"])
        parts = [part for cell in cells[:MOST_CELLS] for part in _cell(cell)]
    except (ValueError, KeyError, TypeError, AttributeError):
        return '<div class="nbf-soft">this is no notebook</div>'
    more = len(cells) - MOST_CELLS
    return "".join([*parts, *([f"<div>… {more:,} more cells</div>"] if more > 0 else [])])


def _cell(cell: Any) -> Iterator[str]:
    """Give the words of a cell, or what it gave: the code is not what is judged."""
    source = cell.get("source", "")
    if cell.get("cell_type") == "markdown":
        yield _text(_joined(source))
    for output in cell.get("outputs", ()):
        if output["output_type"] == "stream":
            yield _text(_joined(output["text"]))
        elif output["output_type"] == "error":
            yield _text(f"{output['ename']}: {output['evalue']}")
        else:
            yield _bundle(output.get("data", {}))


def _bundle(data: Any) -> str:
    for kind in PICTURES:
        if kind in data:
            return _picture(kind, _joined(data[kind]))
    if "text/html" in data:
        return harmless(_joined(data["text/html"]))
    return _text(_joined(data.get("text/plain", "")))


def _picture(kind: str, data: str) -> str:
    plain = "".join(data.split())
    if not set(plain) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="):
        return ""
    return f'<img src="data:{kind};base64,{plain}" alt="a picture" style="max-width:100%">'


def _text(text: str) -> str:
    cut = text if len(text) <= LONGEST else f"{text[:LONGEST]}\n…"
    return f"<pre>{escape(cut)}</pre>" if cut.strip() else ""


def _joined(text: Any) -> str:
    return text if isinstance(text, str) else "".join(text)


def harmless(html: str) -> str:
    """Give HTML without all that could act: elements that are not on a short list, and attributes.

    Examples
    --------
    >>> harmless('<table onclick="x()"><td colspan=2>1<script>alert(1)</script></table><img src=x onerror=y()>')
    '<table><td colspan="2">1</td></table>'
    """
    parser = _Harmless()
    parser.feed(html)
    parser.close()
    return parser.text()


class _Harmless(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._parts: list[str] = []
        self._open: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in SILENT:
            self._silent += 1
        if tag not in ALLOWED or self._silent:
            return
        spans = "".join(f' {name}="{value}"' for name, value in attrs if name in SPANS and (value or "").isdigit())
        self._parts.append(f"<{tag}{spans}>")
        if tag not in ("br", "hr"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in SILENT:
            self._silent = max(0, self._silent - 1)
        while tag in self._open:  # what was left open in it ends with it
            last = self._open.pop()
            self._parts.append(f"</{last}>")
            if last == tag:
                break

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self._parts.append(escape(data))

    def text(self) -> str:
        """Give all of it, with what is open closed."""
        return "".join([*self._parts, *(f"</{tag}>" for tag in reversed(self._open))])
