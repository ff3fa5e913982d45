"""All benchmarks, each in a process of its own; their tables go into docs/performance.md.

python benchmarks
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import machine

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "performance.md"
SCRIPTS = (
    "warm_kernels.py",
    "one_notebook.py",
    "cold_kernels.py",
    "warm_memory.py",
    "engine_overhead.py",
    "straggler.py",
    "names.py",
)
PICTURES = {"warm_kernels.py": "warm.svg"}
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def filled(page: str, found: list[dict[str, str]]) -> str:
    """Give the page with these tables between its marks."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    parts = [
        BEGIN,
        f"Measured by `make bench` on {machine()}.",
        *(f"### {f['name']}\n\n{f['table']}" for f in found),
        END,
    ]
    return before + "\n\n".join(parts) + after


def main() -> int:
    """Run all, fill the page, and give the exit code: 1 if a bound was missed or a script failed."""
    found, codes = [], []
    with tempfile.TemporaryDirectory() as folder:
        for script in SCRIPTS:
            target = Path(folder) / f"{script}.json"
            more = ["--picture", PAGE.parent / PICTURES[script]] if script in PICTURES else []
            words = [sys.executable, HERE / script, "--json", target, *more]
            codes.append(subprocess.run(words, check=False).returncode)
            if target.exists():
                found.append(json.loads(target.read_text("utf-8")))
    if len(found) == len(SCRIPTS):
        PAGE.write_text(filled(PAGE.read_text("utf-8"), found), "utf-8")
        print(f"written to {PAGE.relative_to(HERE.parent)}")
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
