"""The graph of a workflow in the language of Mermaid, which Jupyter, GitHub and mermaid.live draw."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

__all__ = ["mermaid"]


def mermaid(steps: Sequence[Any]) -> list[str]:
    """Give the graph of a list of steps: steps as boxes, what they wait for as arrows, lists inside of steps as frames.

    Examples
    --------
    >>> from nbflow import Call, Gate
    >>> print(*mermaid([Call(id="a", call="m:f"), Gate(id="b", gate="Sure?")]), sep="\\n")
    flowchart TD
      s0["a<br/>m:f"]
      s1{{"b<br/>Sure?"}}
      s0 --> s1
    """
    return ["flowchart TD", *_Graph().list(steps, "  ")]


class _Graph:
    def __init__(self) -> None:
        self._count = 0

    def list(self, steps: Sequence[Any], indent: str) -> Iterator[str]:
        """Give the lines of a list of steps."""
        names: dict[str, str] = {}
        for place, step in enumerate(steps):
            name = names[step.id] = f"s{self._count}"
            self._count += 1
            yield from self._step(step, name, indent)
            above = [steps[place - 1].id] if place else []
            own = [other for other in getattr(step, "wait_for", []) if other in names]
            waits = list(dict.fromkeys([*(step.needs if step.needs is not None else above), *own]))
            for other in waits:
                if other in names:
                    label = "|when|" if step.when is not None else ""
                    yield f"{indent}{names[other]} -->{label} {name}"

    def _step(self, step: Any, name: str, indent: str) -> Iterator[str]:
        lists = [(keys, inner) for keys, inner in step.lists() if inner]
        if not lists:
            opened, closed = ('{{"', '"}}') if "gate" in step.keys else ('["', '"]')
            label = "<br/>".join(_escaped(text) for text in (step.name or step.id, _said(step)) if text)
            yield f"{indent}{name}{opened}{label}{closed}"
            return
        yield f'{indent}subgraph {name}["{_escaped(step.name or step.id)}"]'
        if head := _said(step):  # not in the title: one of two lines would lie over what is in the frame
            opened, closed = ('{"', '"}') if {"if", "switch"} & {*step.keys} else ('(["', '"])')
            yield f"{indent}  {name}h{opened}{_escaped(head)}{closed}"
        for keys, inner in lists:
            first = f"s{self._count}"
            if len(lists) > 1:
                first = f"{name}_{self._count}"
                yield f'{indent}  subgraph {first}["{_escaped(str(keys[-1]))}"]'
                yield from self.list(inner, f"{indent}    ")
                yield f"{indent}  end"
            else:
                yield from self.list(inner, f"{indent}  ")
            if head:
                yield f"{indent}  {name}h --> {first}"
        yield f"{indent}end"


def _said(step: Any) -> str:
    """Give what a step says of itself: what it runs, over what it goes, on what it depends."""
    data = step.data()
    key = next((key for key in step.keys if key in data), "")
    said = data.get("if" if key == "if" else key, "")
    text = said if isinstance(said, (str, bool)) else json.dumps(said) if key != "do" else ""
    words = {"items": "for each ", "grid": "for each ", "if": "if ", "while": "while ", "switch": "switch "}
    plain = str(text).strip()
    if plain.startswith("{{") and plain.endswith("}}") and plain.count("{{") == 1:
        plain = plain[2:-2].strip()
    if key == "items" and (drawn := re.fullmatch(r"steps\.(\w+)\.output\.(\w+)", plain)):
        plain = f"{drawn[2]} of {drawn[1]}"
    if key == "wait_for":
        plain = f"gathers {', '.join(said) if isinstance(said, list) else said}"
    shown = f"{words.get(key, '')}{plain}"
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _escaped(text: str) -> str:
    """Give text that Mermaid takes as text."""
    plain = " ".join(text.split())
    return "".join(f"#{ord(c)};" if c in '"#;<>&{}[]()|`\\' else c for c in plain)
