"""Pictures of what was measured: bars in a file that follows the reader's light or dark."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #24292f }
.head { font-weight: 600 } .dim { fill: #6e7781 } .end { text-anchor: end }
.other { fill: #afb8c1 } .ours { fill: #0969da } .rule { stroke: #d0d7de }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .dim { fill: #8b949e }
  .other { fill: #6e7681 } .ours { fill: #58a6ff } .rule { stroke: #30363d }
}
"""
WIDTH, LEFT, RIGHT, LINE = 720, 196, 120, 26


def bars(groups: Sequence[tuple[str, Sequence[tuple[str, float, str, bool]]]], told: str) -> str:
    """Give an SVG with a bar for each figure.

    Parameters
    ----------
    groups : sequence of (title, rows)
        Each row is its label, its value, what stands behind its bar, and whether it is ours. Each group has a scale of
        its own.
    told : str
        What the picture shows, for who does not see it.

    Examples
    --------
    >>> "10 ms" in bars([("tiny", [("ours", 10.0, "10 ms", True)])], "a bar")
    True
    """
    parts, y = [], 8
    for title, rows in groups:
        most = max(value for _, value, _, _ in rows)
        y += LINE
        parts.append(f'<text class="head" x="16" y="{y}">{escape(title)}</text>')
        y += 8
        for label, value, behind, ours in rows:
            long = max(2.0, (WIDTH - LEFT - RIGHT) * value / most)
            parts.append(f'<text class="dim end" x="{LEFT - 12}" y="{y + 17}">{escape(label)}</text>')
            shade = "ours" if ours else "other"
            parts.append(f'<rect class="{shade}" x="{LEFT}" y="{y + 5}" width="{long:.1f}" height="16" rx="2"/>')
            parts.append(f'<text x="{LEFT + long + 8:.1f}" y="{y + 17}">{escape(behind)}</text>')
            y += LINE
        parts.append(f'<line class="rule" x1="{LEFT}" x2="{LEFT}" y1="{y - LINE * len(rows)}" y2="{y}"/>')
        y += 8
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 8}" viewBox="0 0 {WIDTH} {y + 8}"'
    return "\n".join(
        [f'{head} role="img" aria-label="{escape(told)}">', f"<style>{STYLE}</style>", *parts, "</svg>", ""]
    )
