"""Bad inputs: each is refused in one line with value and place, with a remedy that works, and changes no file."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import nbflow
from nbflow.cli import main
from nbflow.errors import RefusedError

# -- what cases are made of --------------------------------------------------------------------------------------


def cell(source: str, *tags: str) -> dict[str, Any]:
    """Give a code cell."""
    metadata = {"tags": list(tags)} if tags else {}
    return {"cell_type": "code", "execution_count": None, "metadata": metadata, "outputs": [], "source": source}


def written(path: Path, *cells: dict[str, Any], kernel: str = "python3", version: int = 4) -> None:
    """Write a notebook."""
    kernelspec = {"name": kernel, "display_name": kernel, "language": "python"}
    data = {"nbformat": version, "nbformat_minor": 4, "metadata": {"kernelspec": kernelspec}, "cells": list(cells)}
    path.write_text(json.dumps(data, indent=1), encoding="utf-8")


PARAMETERS = cell("city: str = 'Oslo'\ndepth: int = 3\nlat: float = 0.0", "parameters")
SCORE = cell("score = depth * 2", "results")


def forecast(folder: Path) -> None:
    """Make a notebook with three parameters and one result."""
    written(folder / "n.ipynb", PARAMETERS, SCORE)


def tree(folder: Path) -> dict[str, tuple[object, ...]]:
    """Give all that can change in a folder: of each file its kind, mode, time and content."""
    found: dict[str, tuple[object, ...]] = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        seen = path.lstat()
        content = str(path.readlink()) if path.is_symlink() else ""
        if not content and path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        found[str(path.relative_to(folder))] = (oct(seen.st_mode), seen.st_mtime_ns, content)
    return found


Make = Callable[[Path], None]


@dataclass(frozen=True)
class Case:
    """A bad input, what is said about it, and how what is said is followed."""

    name: str
    command: str
    """What is typed behind ``nbflow``; ``RUN`` stands for the id of the newest run."""
    error: str
    """Piece of the first line."""
    remedy: str
    """Piece of the lines below it."""
    files: Make = forecast
    """Makes the files of the case."""
    again: str = ""
    """What the remedy makes of the command; by default the same command again."""
    mend: Make | None = None
    """What the remedy makes of the files."""
    typed: str = ""
    """Beginning of a command in the remedy that is typed into a shell as it stands."""
    env: Mapping[str, str] = field(default_factory=dict)
    """What the remedy sets."""
    python: Mapping[str, Any] | None = None
    """The same with ``nbflow.map``: its keywords. An item ``notebook`` stands for another notebook."""
    says: str = ""
    """What ``nbflow.map`` says, where it has other words than the command line."""
    run: bool = False
    """Whether a completed run is there before."""


def text(name: str, content: str | bytes) -> Make:
    """Give what makes the notebook and a file beside it."""

    def make(folder: Path) -> None:
        forecast(folder)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return make


def only(name: str, content: str | bytes) -> Make:
    """Give what makes one file."""
    return lambda folder: void((folder / name).write_bytes(content.encode() if isinstance(content, str) else content))


def cells(*them: dict[str, Any], kernel: str = "python3") -> Make:
    """Give what makes a notebook of these cells."""
    return lambda folder: written(folder / "n.ipynb", *them, kernel=kernel)


def void(_: object) -> None:
    """Forget a value."""


def edited(name: str, old: str, new: str) -> Make:
    """Give what replaces a text in the file that a pattern finds."""

    def edit(folder: Path) -> None:
        (path,) = folder.glob(name)
        before = path.read_text(encoding="utf-8")
        assert old in before, f"{old!r} is not in {path}"
        path.write_text(before.replace(old, new, 1), encoding="utf-8")

    return edit


def journal_with_a_bad_line(folder: Path) -> None:
    """Damage a line in the middle of the journal."""
    (path,) = folder.glob("nbflow-runs/n.ipynb/*/journal.jsonl")
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    lines[2] = lines[2][:20] + "\0\n"
    path.write_text("".join(lines), encoding="utf-8")


def journal_away(folder: Path) -> None:
    """Move the journal away, as the remedy says."""
    (path,) = folder.glob("nbflow-runs/n.ipynb/*/journal.jsonl")
    path.rename(folder / "journal.old")


def checkpoint_away(folder: Path) -> None:
    """Move the checkpoint away, as the remedy says."""
    (folder / "n.ipynb.nbflow.json").rename(folder / "checkpoint.old")


def checkpoint_of_another(folder: Path) -> None:
    """Give the checkpoint the name of another notebook's."""
    written(folder / "m.ipynb", PARAMETERS, SCORE)
    (folder / "n.ipynb.nbflow.json").rename(folder / "m.ipynb.nbflow.json")


def checkpoint_by_its_name(folder: Path) -> None:
    """Give the checkpoint its name again."""
    (folder / "m.ipynb.nbflow.json").rename(folder / "n.ipynb.nbflow.json")


def second_run(folder: Path) -> None:
    """Make a run with an id that begins as the other one does."""
    (run,) = folder.glob("nbflow-runs/n.ipynb/*")
    shutil.copytree(run, run.with_name(f"{run.name[:-1]}{'0' if run.name[-1] != '0' else '1'}"))


def run_behind_a_link(folder: Path) -> None:
    """Move the folder of all runs away and leave a link."""
    (folder / "nbflow-runs").rename(folder / "elsewhere")
    (folder / "nbflow-runs").symlink_to("elsewhere")


def run_back_from_the_link(folder: Path) -> None:
    """Put the folder of all runs in the place of its link."""
    (folder / "nbflow-runs").unlink()
    (folder / "elsewhere").rename(folder / "nbflow-runs")


def runs_is_a_link(folder: Path) -> None:
    """Put a link where runs are kept."""
    forecast(folder)
    (folder / "real").mkdir()
    (folder / "nbflow-runs").symlink_to("real")


def runs_is_a_file(folder: Path) -> None:
    """Put a file where runs are kept."""
    text("nbflow-runs", "")(folder)


def broken_kernel(folder: Path) -> None:
    """Make a notebook of a kernel that nobody has."""
    written(folder / "n.ipynb", PARAMETERS, kernel="python33")


ROWS = "".join(f"Oslo,{i}.5\n" for i in range(16))
LAT = text("t.csv", f"city,lat\n{ROWS}Cairo,n/a\n")
V3 = {
    "nbformat": 3,
    "nbformat_minor": 0,
    "metadata": {"name": "n"},
    "worksheets": [
        {
            "metadata": {},
            "cells": [
                {
                    "cell_type": "code",
                    "collapsed": False,
                    "input": ["x = 1"],
                    "language": "python",
                    "metadata": {},
                    "outputs": [],
                }
            ],
        }
    ],
}

NOTEBOOKS = [
    Case(
        "no such notebook",
        "map m.ipynb",
        "There is no notebook m.ipynb. Did you mean 'n.ipynb'?",
        "n.ipynb",
        again="map n.ipynb",
        python={"notebook": "m.ipynb"},
    ),
    Case(
        "a folder",
        "map sub",
        "sub is a folder, not a notebook",
        ".ipynb",
        files=lambda folder: void([forecast(folder), (folder / "sub").mkdir()]),
        again="map n.ipynb",
        python={"notebook": "sub"},
    ),
    Case(
        "not a notebook",
        "map t.csv",
        "t.csv:1: this is not JSON",
        "right file?",
        files=text("t.csv", "city\nOslo\n"),
        again="map n.ipynb --items t.csv",
        python={"notebook": "t.csv"},
    ),
    Case(
        "JSON that is no notebook",
        "map p.json",
        "p.json is JSON, but no notebook",
        "right file?",
        files=text("p.json", "{}"),
        again="map n.ipynb",
        python={"notebook": "p.json"},
    ),
    Case(
        "an empty file",
        "map n.ipynb",
        "n.ipynb is empty",
        "older copy",
        files=only("n.ipynb", ""),
        mend=forecast,
        python={},
    ),
    Case(
        "bytes that are not UTF-8",
        "map n.ipynb",
        "n.ipynb:2: byte 0xe9 is not UTF-8",
        "older copy",
        files=only("n.ipynb", b'{\n"caf\xe9": 1}'),
        mend=forecast,
        python={},
    ),
    Case(
        "truncated JSON",
        "map n.ipynb",
        "n.ipynb:3: the notebook is cut off here",
        "older copy",
        files=only("n.ipynb", '{\n "nbformat": 4,\n "cells": ['),
        mend=forecast,
        python={},
    ),
    Case(
        "a merge conflict",
        "map n.ipynb",
        "n.ipynb:2: a merge conflict",
        "Resolve it",
        files=only("n.ipynb", '{\n<<<<<<< HEAD\n "nbformat": 4\n=======\n "nbformat": 4\n>>>>>>> b\n}'),
        mend=forecast,
        python={},
    ),
    Case(
        "nbformat 3",
        "map n.ipynb",
        "n.ipynb has notebook format 3, and nbflow reads 4",
        "Convert it",
        files=only("n.ipynb", json.dumps(V3)),
        typed="python -c",
        python={},
    ),
    Case(
        "nbformat 5",
        "map n.ipynb",
        "n.ipynb has notebook format 5",
        "format 4",
        files=lambda folder: written(folder / "n.ipynb", SCORE, version=5),
        mend=forecast,
        python={},
    ),
    Case(
        "no code cell",
        "map n.ipynb",
        "n.ipynb has no code cell",
        "Put code in a cell",
        files=cells({"cell_type": "markdown", "metadata": {}, "source": "# Hello"}),
        mend=forecast,
        python={},
    ),
    Case(
        "two parameter cells",
        "map n.ipynb",
        "n.ipynb: cells 1 and 2 are both tagged parameters",
        "Keep one",
        files=cells(PARAMETERS, cell("b = 2", "parameters")),
        typed="nbflow tag",
        python={},
    ),
    Case(
        "no parameters cell",
        "map n.ipynb --grid city=Oslo,Lima",
        "n.ipynb has no cell tagged parameters, so it cannot be given city",
        "likeliest is cell 2",
        files=cells(cell("import math"), cell("city = 'Oslo'"), cell("x = city")),
        typed="nbflow tag",
        python={"grid": {"city": ["Oslo", "Lima"]}},
    ),
    Case(
        "a parameters cell that Python cannot read",
        "map n.ipynb",
        "n.ipynb: cell 1 (parameters), line 2:",
        "Mend line 2",
        files=cells(cell("city = 'Oslo'\ndepth =", "parameters")),
        mend=forecast,
        python={},
    ),
    Case(
        "tags that are a text",
        "map n.ipynb",
        "n.ipynb: the tags of cell 1 of the file are 'results', and not a list of texts",
        '"tags": ["results"]',
        files=cells({**SCORE, "metadata": {"tags": "results"}}),
        mend=cells(SCORE),
        python={},
    ),
    Case(
        "tags of a markdown cell that are nothing",
        "map n.ipynb",
        "n.ipynb: the tags of cell 2 of the file are None, and not a list of texts",
        '"tags": []',
        files=cells(SCORE, {"cell_type": "markdown", "metadata": {"tags": None}, "source": "# Hello"}),
        mend=edited("n.ipynb", '"tags": null', '"tags": []'),
        python={},
    ),
    Case(
        "tagging a cell whose tags are a text",
        "tag n.ipynb 1 results",
        "n.ipynb: the tags of cell 1 of the file are 'mine', and not a list of texts",
        '"tags": ["mine"]',
        files=cells({**SCORE, "metadata": {"tags": "mine"}}),
        mend=cells(SCORE),
    ),
    Case(
        "a misspelt mark",
        "map n.ipynb",
        "'paramters' is no mark. Did you mean 'parameters'?",
        "The marks are",
        files=cells(cell("# nbflow: paramters\ncity = 'Oslo'")),
        mend=edited("n.ipynb", "paramters", "parameters"),
        python={},
    ),
    Case(
        "a time-out tag that is no time",
        "map n.ipynb",
        "the tag 'timeout:soon' of cell 1",
        "30s",
        files=cells(cell("x = 1", "timeout:soon")),
        mend=edited("n.ipynb", "timeout:soon", "timeout:30s"),
        python={},
    ),
    Case(
        "no kernel of the notebook's name",
        "map n.ipynb",
        "there is no kernel named 'python33'. Did you mean 'python3'?",
        "choose with -k",
        files=broken_kernel,
        again="map n.ipynb -k python3",
        python={},
    ),
    Case(
        "no kernel of that name",
        "map n.ipynb -k julia",
        "there is no kernel named 'julia'",
        "Installed:",
        again="map n.ipynb -k python3",
        python={"kernel": "julia"},
    ),
]

PARAMETER_CASES = [
    Case(
        "unknown parameter",
        "map n.ipynb -p depht=4",
        "n.ipynb has no parameter 'depht'. Did you mean 'depth'?",
        "depth: int = 3",
        again="map n.ipynb -p depth=4",
        python={"parameters": {"depht": 4}},
    ),
    Case(
        "unknown name in a grid",
        "map n.ipynb --grid cty=a,b",
        "n.ipynb has no parameter 'cty'. Did you mean 'city'?",
        "city: str",
        again="map n.ipynb --grid city=a,b",
        python={"grid": {"cty": ["a", "b"]}},
    ),
    Case(
        "missing required parameter",
        "map n.ipynb",
        "n.ipynb needs year: no value is given, and no default (cell 1)",
        "-p year=VALUE",
        files=cells(cell("year: int", "parameters")),
        again="map n.ipynb -p year=2026",
        python={},
    ),
    Case(
        "a value of the wrong type",
        "map n.ipynb -p depth=deep",
        "-p: depth is 'deep', but n.ipynb wants an int",
        "default is taken (3)",
        again="map n.ipynb",
        python={"parameters": {"depth": "deep"}},
        says="depth is 'deep', but n.ipynb wants an int",
    ),
    Case(
        "a value of the wrong type in a grid",
        "map n.ipynb --grid depth=1,x,3",
        "--grid: depth is 'x', but n.ipynb wants an int",
        "n.ipynb says: depth: int = 3 (cell 1)",
        again="map n.ipynb --grid depth=1,2,3",
        python={"grid": {"depth": [1, "x", 3]}},
        says="grid: depth is 'x', but n.ipynb wants an int",
    ),
    Case(
        "wrong type in row 18",
        "map n.ipynb --items t.csv",
        "t.csv:18: lat is 'n/a', but n.ipynb wants a float",
        "An empty cell would take the notebook's default (0.0)",
        files=LAT,
        mend=edited("t.csv", "n/a", ""),
        python={"items": "t.csv"},
    ),
    Case(
        "an object that is no value",
        "",
        "",
        "",
        python={"parameters": {"city": object()}},
        says="city is",
    ),
    Case(
        "-p without =",
        "map n.ipynb -p depth",
        "-p 'depth' is not NAME=VALUE",
        "-p city=Oslo",
        again="map n.ipynb -p depth=4",
        python={"parameters": "depth"},
        says="parameters is 'depth', not a mapping",
    ),
    Case(
        "-p twice",
        "map n.ipynb -p depth=1 -p depth=2",
        "-p depth is given twice: '1' and '2'",
        "Keep one",
        again="map n.ipynb -p depth=2",
    ),
    Case(
        "the same --grid name twice",
        "map n.ipynb --grid city=a --grid city=b",
        "--grid city is given twice: 'a' and 'b'",
        "--grid city=a,b",
        again="map n.ipynb --grid city=a,b",
    ),
    Case(
        "a grid without values",
        "map n.ipynb --grid city=",
        "--grid city has no values",
        "--grid city=A,B",
        again="map n.ipynb --grid city=A,B",
    ),
    Case(
        "a grid that is one text",
        "",
        "",
        "",
        python={"grid": {"city": "Oslo"}},
        says="grid: city is 'Oslo', not a list of values",
    ),
    Case(
        "a set as a grid",
        "",
        "",
        "",
        python={"grid": {"city": {"Oslo"}}},
        says="a set, which has no order",
    ),
    Case(
        "a name in grid and items",
        "map n.ipynb --items t.csv --grid city=a,b",
        "city is given by t.csv and by --grid",
        "Keep one of the two",
        files=text("t.csv", "city\nOslo\n"),
        again="map n.ipynb --items t.csv",
        python={"items": "t.csv", "grid": {"city": ["a"]}},
        says="city is given by t.csv and by grid",
    ),
    Case(
        "a name in grid and -p",
        "map n.ipynb --grid city=a,b -p city=c",
        "city is given by --grid and by -p",
        "Keep one of the two",
        again="map n.ipynb --grid city=a,b",
        python={"grid": {"city": ["a"]}, "parameters": {"city": "c"}},
        says="city is given by grid and by parameters",
    ),
    Case(
        "--zip of unequal lengths",
        "map n.ipynb --zip city=a,b --zip depth=1",
        "city has 2, depth has 1",
        "use --grid",
        again="map n.ipynb --grid city=a,b --grid depth=1",
        python={"zip": {"city": ["a", "b"], "depth": [1]}},
    ),
]

TABLES = [
    Case(
        "no such table",
        "map n.ipynb --items s.csv",
        "There is no table s.csv",
        "t.csv",
        files=text("t.csv", "city\nOslo\n"),
        again="map n.ipynb --items t.csv",
        python={"items": "s.csv"},
    ),
    Case(
        "a table that is a folder",
        "map n.ipynb --items sub.csv",
        "sub.csv cannot be read: Is a directory",
        "ls -ld sub.csv",
        files=lambda folder: void([text("t.csv", "city\nOslo\n")(folder), (folder / "sub.csv").mkdir()]),
        again="map n.ipynb --items t.csv",
        python={"items": "sub.csv"},
    ),
    Case(
        "a kind of table that is not read",
        "map n.ipynb --items t.xlsx",
        "t.xlsx is of no kind of table that nbflow reads (.xlsx)",
        "It reads .csv",
        files=text("t.xlsx", "PK"),
        mend=text("t.csv", "city\nOslo\n"),
        again="map n.ipynb --items t.csv",
        python={"items": "t.xlsx"},
    ),
    Case(
        "an empty table",
        "map n.ipynb --items t.csv",
        "t.csv is empty",
        "first line names the columns",
        files=text("t.csv", ""),
        mend=text("t.csv", "city\nOslo\n"),
        python={"items": "t.csv"},
    ),
    Case(
        "a table without rows",
        "map n.ipynb --items t.csv",
        "t.csv has a header (city) and no rows",
        "Add a line for each run",
        files=text("t.csv", "city\n"),
        mend=text("t.csv", "city\nOslo\n"),
        python={"items": "t.csv"},
    ),
    Case(
        "a row that is too long",
        "map n.ipynb --items t.csv",
        "t.csv:3: this row has 3 cells, and the header 2 columns",
        "wants quotes around it",
        files=text("t.csv", "city,depth\nOslo,1\nNew York, NY,2\n"),
        mend=edited("t.csv", "New York, NY", '"New York, NY"'),
        python={"items": "t.csv"},
    ),
    Case(
        "a row that is too short",
        "map n.ipynb --items t.csv",
        "t.csv:3: this row has 1 cell, and the header 2 columns",
        "separator has to stand",
        files=text("t.csv", "city,depth\nOslo,1\nLima\n"),
        mend=edited("t.csv", "Lima", "Lima,"),
        python={"items": "t.csv"},
    ),
    Case(
        "a quote that never closes",
        "map n.ipynb --items t.csv",
        "t.csv:2: this row cannot be read",
        "A quoted cell ends with",
        files=text("t.csv", 'city,depth\n"Oslo,1\n'),
        mend=edited("t.csv", '"Oslo', '"Oslo"'),
        python={"items": "t.csv"},
    ),
    Case(
        "duplicate headers",
        "map n.ipynb --items t.csv",
        "t.csv:1: the columns 1 and 2 are both called 'city'",
        "name of its own",
        files=text("t.csv", "city,city\na,1\n"),
        mend=edited("t.csv", "city,city", "city,depth"),
        python={"items": "t.csv"},
    ),
    Case(
        "a column without a name",
        "map n.ipynb --items t.csv",
        "t.csv:1: column 1 of 2 has no name",
        "index=False",
        files=text("t.csv", ",city\n0,Oslo\n"),
        mend=text("t.csv", "city\nOslo\n"),
        python={"items": "t.csv"},
    ),
    Case(
        "unknown column",
        "map n.ipynb --items t.csv",
        "t.csv: n.ipynb has no parameter 'zone'",
        "--columns city,depth",
        files=text("t.csv", "city,zone,depth\nOslo,1,2\n"),
        again="map n.ipynb --items t.csv --columns city,depth",
        python={"items": "t.csv"},
    ),
    Case(
        "a column that is asked for and not there",
        "map n.ipynb --items t.csv --columns cty",
        "t.csv has no column 'cty'. Did you mean 'city'?",
        "It has: city",
        files=text("t.csv", "city\nOslo\n"),
        again="map n.ipynb --items t.csv --columns city",
        python={"items": "t.csv", "columns": ["cty"]},
    ),
    Case(
        "--columns without --items",
        "map n.ipynb --columns city",
        "--columns is given without --items",
        "columns of the table",
        files=text("t.csv", "city\nOslo\n"),
        again="map n.ipynb --columns city --items t.csv",
        python={"columns": ["city"]},
        says="columns is given without items",
    ),
    Case(
        "a table that is not UTF-8",
        "map n.ipynb --items t.csv",
        "t.csv:2: byte 0xe3 is not UTF-8",
        "iconv",
        files=text("t.csv", "city\nSão Paulo\n".encode("cp1252")),
        typed="iconv",
        again="map n.ipynb --items t-utf8.csv",
        python={"items": "t.csv"},
    ),
    Case(
        "JSON that is cut off",
        "map n.ipynb --items t.json",
        "t.json:2: this is not JSON",
        "Mend line 2",
        files=text("t.json", '[{"city": "a"},\n{"city": }]'),
        mend=edited("t.json", "}]", '"b"}]'),
        python={"items": "t.json"},
    ),
    Case(
        "JSON that is no list",
        "map n.ipynb --items t.json",
        "t.json is no list of items",
        "a list with one mapping",
        files=text("t.json", '{"city": "a"}'),
        mend=text("t.json", '[{"city": "a"}]'),
        python={"items": "t.json"},
    ),
    Case(
        "YAML that cannot be read",
        "map n.ipynb --items t.yml",
        "t.yml:3: this is not YAML",
        "may want quotes",
        files=text("t.yml", "- city: a\n- city: [b\n"),
        mend=edited("t.yml", "[b", "b"),
        python={"items": "t.yml"},
    ),
    Case(
        "a key twice in YAML",
        "map n.ipynb --items t.yml",
        "t.yml:2: the key 'city' stands twice",
        "Delete one",
        files=text("t.yml", "- city: a\n  city: b\n"),
        mend=edited("t.yml", "  city: b\n", ""),
        python={"items": "t.yml"},
    ),
    Case(
        "an item that is no mapping",
        "map n.ipynb --items t.yml",
        "t.yml:2: this item is 'b', not a mapping",
        "{name: value}",
        files=text("t.yml", "- city: a\n- b\n"),
        mend=edited("t.yml", "- b", "- {city: b}"),
        python={"items": "t.yml"},
    ),
    Case(
        "items that are a mapping",
        "",
        "",
        "",
        python={"items": {"city": ["a", "b"]}},
        says="items is a mapping",
    ),
    Case(
        "items that are a number",
        "",
        "",
        "",
        python={"items": 40},
        says="items is 40 (int), which is no list",
    ),
    Case(
        "an item that is no mapping in Python",
        "",
        "",
        "",
        python={"items": [{"city": "a"}, "b"]},
        says="item 1 is 'b', which is no mapping",
    ),
]

OPTIONS = [
    Case(
        "-j 0",
        "map n.ipynb -j 0",
        "-j",
        "from 1",
        again="map n.ipynb -j 1",
        python={"max_concurrency": 0},
        says="max_concurrency (-j) is 0",
    ),
    Case("-j x", "map n.ipynb -j x", "'x' is not a valid integer", "map --help", again="map --help"),
    Case(
        "-j text in Python",
        "",
        "",
        "",
        python={"max_concurrency": "4"},
        says="max_concurrency (-j) is '4'",
    ),
    Case(
        "--timeout abc",
        "map n.ipynb --timeout abc",
        "--timeout is 'abc', which is no time above zero",
        "30m",
        again="map n.ipynb --timeout 30m",
        python={"timeout": "abc"},
        says="timeout is 'abc'",
    ),
    Case(
        "--timeout 0",
        "map n.ipynb --timeout 0",
        "--timeout is '0', which is no time above zero",
        "1h30m",
        again="map n.ipynb --timeout 1h30m",
        python={"timeout": 0},
        says="timeout is 0",
    ),
    Case(
        "--memory lots",
        "map n.ipynb --memory lots",
        "--memory is 'lots', which is no size",
        "1.5GiB",
        again="map n.ipynb --memory 1.5GiB",
        python={"memory": "lots"},
        says="memory is 'lots'",
    ),
    Case(
        "--max-memory 120%",
        "map n.ipynb --max-memory 120%",
        "max_memory (--max-memory) is '120%', which is no share",
        "80%",
        again="map n.ipynb --max-memory 80%",
        python={"max_memory": "120%"},
    ),
    Case(
        "--retry -1",
        "map n.ipynb --retry -1",
        "--retry is -1",
        "from 0",
        again="map n.ipynb --retry 0",
        python={"retry": -1},
    ),
    Case("--retry x", "map n.ipynb --retry x", "'x' is not a valid integer", "map --help", again="map --help"),
    Case(
        "--max-failures 0",
        "map n.ipynb --max-failures 0",
        "--max-failures is 0",
        "from 1",
        again="map n.ipynb --max-failures 1",
        python={"max_failures": 0},
    ),
    Case(
        "--fail-fast with --max-failures",
        "map n.ipynb --fail-fast --max-failures 2",
        "--fail-fast and --max-failures are both given",
        "keep one of them",
        again="map n.ipynb --max-failures 2",
        python={"fail_fast": True, "max_failures": 2},
    ),
    Case(
        "--name without --output-dir",
        "map n.ipynb --name {index}",
        "--name '{index}' is given without --output-dir",
        "--output-dir DIR",
        again="map n.ipynb --name {index} --output-dir out",
        python={"name": "{index}"},
    ),
    Case(
        "a --name that collides",
        "map n.ipynb --grid city=a,b --output-dir out --name x",
        "--name 'x': city=a and city=b would both be x.ipynb",
        "--name 'x-{index}'",
        again="map n.ipynb --grid city=a,b --output-dir out --name x-{index}",
        python={"grid": {"city": ["a", "b"]}, "output_dir": "out", "name": "x"},
    ),
    Case(
        "a --name that differs only in case",
        "map n.ipynb --grid city=oslo,Oslo --output-dir out --name {city}",
        "--name '{city}': city=oslo and city=Oslo would both be",
        "--name '{city}-{index}'",
        again="map n.ipynb --grid city=oslo,Oslo --output-dir out --name {city}-{index}",
        python={"grid": {"city": ["oslo", "Oslo"]}, "output_dir": "out", "name": "{city}"},
    ),
    Case(
        "a --name that leaves the folder",
        "map n.ipynb --output-dir out --name ../{index}",
        "--name '../{index}' leaves the output folder",
        "with --output-dir",
        again="map n.ipynb --output-dir .. --name {index}",
        python={"output_dir": "out", "name": "../{index}"},
    ),
    Case(
        "an absolute --name",
        "map n.ipynb --output-dir out --name /tmp/{index}",
        "--name '/tmp/{index}' leaves the output folder",
        "with --output-dir",
        again="map n.ipynb --output-dir out --name {index}",
        python={"output_dir": "out", "name": "/tmp/{index}"},
    ),
    Case(
        "a --name that says nothing",
        "map n.ipynb --output-dir out --name ''",
        "--name '' names nothing",
        "'{city}'",
        again="map n.ipynb --output-dir out --name '{city}' -p city=a",
        python={"output_dir": "out", "name": ""},
    ),
    Case(
        "a --name with an unknown field",
        "map n.ipynb --output-dir out --name {cty}",
        "--name '{cty}': 'cty' is no parameter of these items",
        "There are: index",
        again="map n.ipynb --output-dir out --name {index}",
        python={"output_dir": "out", "name": "{cty}"},
    ),
    Case(
        "a --name with a brace that never closes",
        "map n.ipynb --output-dir out --name {city",
        "--name '{city'",
        "'{city}'",
        again="map n.ipynb --output-dir out --name {city} -p city=Oslo",
        python={"output_dir": "out", "name": "{city"},
    ),
    Case(
        "a --name that formats a field",
        "map n.ipynb --output-dir out --name {city.__class__} -p city=a",
        "--name '{city.__class__}': 'city.__class__' is no parameter",
        "There are: index, city",
        again="map n.ipynb --output-dir out --name {city} -p city=a",
        python={"output_dir": "out", "name": "{city.__class__}", "parameters": {"city": "a"}},
    ),
    Case(
        "a --name with an unknown format",
        "map n.ipynb --output-dir out --name {city:zz} -p city=a",
        "--name '{city:zz}'",
        "'{city}'",
        again="map n.ipynb --output-dir out --name {city} -p city=a",
        python={"output_dir": "out", "name": "{city:zz}", "parameters": {"city": "a"}},
    ),
    Case(
        "a --name that is the notebook's own",
        "map n.ipynb --output-dir . --name n",
        "--name 'n': item 0 would be written over n.ipynb itself",
        "--output-dir DIR",
        again="map n.ipynb --output-dir out --name n",
        python={"output_dir": ".", "name": "n"},
    ),
    Case(
        "a --name that a value makes the notebook's own",
        "map n.ipynb --grid city=Oslo,N --output-dir out/.. --name {city}",
        "--name '{city}': city=N (item 1) would be written over n.ipynb itself",
        "--output-dir DIR",
        again="map n.ipynb --grid city=Oslo,N --output-dir out --name {city}",
        python={"grid": {"city": ["Oslo", "N"]}, "output_dir": "out/..", "name": "{city}"},
    ),
    Case(
        "a --name that is wider than a name can be",
        "map n.ipynb --output-dir out --name {index:99999999999}",
        "--name '{index:99999999999}': '99999999999' is wider than the name of a file can be",
        "{index:03}",
        again="map n.ipynb --output-dir out --name {index:03}",
        python={"output_dir": "out", "name": "{index:99999999999}"},
    ),
    Case(
        "a --name whose width comes from a parameter",
        "map n.ipynb --output-dir out --name {index:{depth}} -p depth=99999999999",
        "--name '{index:{depth}}': '99999999999' is wider than",
        "{index:03}",
        again="map n.ipynb --output-dir out --name {index:{depth}} -p depth=3",
        python={"output_dir": "out", "name": "{index:{depth}}", "parameters": {"depth": 99999999999}},
    ),
    Case(
        "an --output-dir that is a file",
        "map n.ipynb --output-dir out",
        "out: is a file",
        "--output-dir DIR",
        files=text("out", ""),
        again="map n.ipynb --output-dir out2",
        python={"output_dir": "out"},
    ),
    Case(
        "an --output-dir below a file",
        "map n.ipynb --output-dir out/a",
        "out: is a file",
        "--output-dir DIR",
        files=text("out", ""),
        again="map n.ipynb --output-dir out2",
        python={"output_dir": "out/a"},
    ),
    Case(
        "a --cwd that is not there",
        "map n.ipynb --cwd sub",
        "sub': no such folder",
        "item, or a folder",
        mend=lambda folder: void((folder / "sub").mkdir()),
        python={"cwd": "sub"},
    ),
    Case(
        "a --secret that is not set",
        "map n.ipynb --secret NBFLOW_TEST_KEY",
        "--secret NBFLOW_TEST_KEY: there is no environment variable",
        "export NBFLOW_TEST_KEY=...",
        env={"NBFLOW_TEST_KEY": "abcdefgh"},
        python={"secret": ["NBFLOW_TEST_KEY"]},
    ),
    Case(
        "an --output that is no name",
        "map n.ipynb --output a,,b",
        "--output 'a,,b' has an empty name",
        "--output rmse,n_days",
        again="map n.ipynb --output a,b",
        python={"output": ["a", ""]},
        says="--output 'a,' has an empty name",
    ),
    Case(
        "an unknown --changed",
        "map n.ipynb --changed maybe",
        "'maybe' is not one of 'keep', 'rerun'",
        "map --help",
        again="map n.ipynb --changed keep",
        python={"changed": "maybe"},
        says="changed is 'maybe'",
    ),
    Case("an unknown option", "map n.ipynb --itmes t.csv", "--itmes", "--help", again="map --help"),
    Case("an unknown verb", "mpa n.ipynb", "No such command 'mpa'", "--help", again="--help"),
    Case("no notebook at all", "map", "Missing argument 'NOTEBOOK'", "map --help", again="map --help"),
]

FOLDERS = [
    Case(
        "a file in the place of nbflow-runs",
        "map n.ipynb",
        "nbflow-runs: is a file",
        "Move it away",
        files=runs_is_a_file,
        mend=lambda folder: void((folder / "nbflow-runs").unlink()),
        python={},
    ),
    Case(
        "nbflow-runs is a symlink",
        "map n.ipynb",
        "nbflow-runs: is a symlink to real",
        "--state-dir",
        files=runs_is_a_link,
        again="map n.ipynb --state-dir state",
        python={},
    ),
    Case(
        "a folder in the place of the checkpoint",
        "map n.ipynb",
        "n.ipynb.nbflow.json: is a folder",
        "Move it away",
        files=lambda folder: void([forecast(folder), (folder / "n.ipynb.nbflow.json").mkdir()]),
        mend=lambda folder: void((folder / "n.ipynb.nbflow.json").rmdir()),
        python={},
    ),
    Case(
        "a --state-dir that is a file",
        "map n.ipynb --state-dir t",
        "t: is a file",
        "",
        files=text("t", ""),
        again="map n.ipynb --state-dir state",
        python={"state_dir": "t"},
    ),
]

RUNS = [
    *(
        Case(
            f"{verb} of nothing",
            f"{verb} n.ipynb",
            "n.ipynb: has no run yet",
            "nbflow map n.ipynb",
            typed="nbflow map n.ipynb",
            again="status n.ipynb",
        )
        for verb in ("resume", "status", "results", "logs", "cancel", "clean")
    ),
    *(
        Case(
            f"{verb} of what is not there",
            f"{verb} m.ipynb",
            "m.ipynb: no such notebook, run folder or run id. Did you mean 'n.ipynb'?",
            "nbflow status",
            run=True,
            typed="nbflow status",
            again="status n.ipynb",
        )
        for verb in ("resume", "status", "results", "logs", "cancel", "clean")
    ),
    Case(
        "status of a folder",
        "status .",
        "is a folder, but no run folder",
        "nbflow status lists",
        run=True,
        again="status",
    ),
    Case(
        "an ambiguous run id",
        "status 2",
        "'2' is the beginning of 2 run ids",
        "n.ipynb",
        run=True,
        files=second_run,
        again="status RUN",
    ),
    Case(
        "cancel of a run that is done",
        "cancel n.ipynb",
        "is not at work: it is completed",
        "nothing to cancel",
        run=True,
        again="status n.ipynb",
    ),
    Case(
        "an unknown item by number",
        "logs n.ipynb 7",
        "item 7: there are 2 items, from 0 to 1",
        "nbflow results n.ipynb",
        run=True,
        again="logs n.ipynb 1",
    ),
    Case(
        "an unknown item by name",
        "logs n.ipynb city=Rome",
        "'city=Rome': no item is called so",
        "'city=Oslo'",
        run=True,
        again="logs n.ipynb city=Oslo",
    ),
    Case(
        "an unknown item to follow",
        "logs -f n.ipynb 7",
        "item 7: there are 2 items",
        "",
        run=True,
        again="logs -f n.ipynb 1",
    ),
    Case(
        "an unknown item for --only",
        "resume n.ipynb --only city=Rome",
        "'city=Rome': no item is called so",
        "'city=Oslo'",
        run=True,
        again="resume n.ipynb --only city=Oslo",
    ),
    Case(
        "both limits for a resume",
        "resume n.ipynb --fail-fast --max-failures 2",
        "--fail-fast and --max-failures are both given",
        "keep one of them",
        run=True,
        again="resume n.ipynb --max-failures 2",
    ),
    Case(
        "an unknown item for --from",
        "resume n.ipynb --from 9",
        "item 9: there are 2 items",
        "",
        run=True,
        again="resume n.ipynb --from 1",
    ),
    Case(
        "--from with --only",
        "resume n.ipynb --from 0 --only 1",
        "--from and --only are both given",
        "keep one",
        run=True,
        again="resume n.ipynb --only 1",
    ),
    Case(
        "results to an unknown ending",
        "results n.ipynb -o r.xlsx",
        "-o r.xlsx: unknown ending '.xlsx'",
        ".csv",
        run=True,
        again="results n.ipynb -o r.csv",
    ),
    Case(
        "results to a missing folder",
        "results n.ipynb -o out/r.csv",
        "-o out/r.csv: there is no folder out",
        "mkdir -p out",
        run=True,
        typed="mkdir",
    ),
    Case(
        "results onto a folder",
        "results n.ipynb -o out.csv",
        "-o out.csv: is a folder",
        "-o out.csv/results.csv",
        run=True,
        files=lambda folder: void((folder / "out.csv").mkdir()),
        again="results n.ipynb -o out.csv/results.csv",
    ),
    Case(
        "clean keeps less than nothing",
        "clean n.ipynb --keep -1",
        "--keep is -1",
        "from 0",
        run=True,
        again="clean n.ipynb --keep 0",
    ),
    Case(
        "an unknown parameter for resume",
        "resume n.ipynb -p depht=4",
        "n.ipynb has no parameter 'depht'. Did you mean 'depth'?",
        "It has",
        run=True,
        again="resume n.ipynb -p depth=4",
    ),
    Case(
        "a parameter that differs from item to item",
        "resume n.ipynb -p city=Rome",
        "city differs from item to item",
        "nbflow map n.ipynb --resume",
        run=True,
        again="map n.ipynb --resume --grid city=Rome",
    ),
    Case(
        "changed code of finished items",
        "resume n.ipynb",
        "n.ipynb: cell 2 changed since 2 finished items ran",
        "--changed keep",
        run=True,
        files=edited("n.ipynb", "depth * 2", "depth * 3"),
        typed="nbflow resume n.ipynb --changed keep",
    ),
    Case(
        "changed code, again",
        "resume n.ipynb",
        "n.ipynb: cell 2 changed since 2 finished items ran",
        "--changed rerun",
        run=True,
        files=edited("n.ipynb", "depth * 2", "depth * 3"),
        typed="nbflow resume n.ipynb --changed rerun",
    ),
    Case(
        "changed code for map --resume",
        "map n.ipynb --grid city=Oslo,Lima --resume",
        "n.ipynb: cell 2 changed since 2 finished items ran",
        "--changed keep",
        run=True,
        files=edited("n.ipynb", "depth * 2", "depth * 3"),
        again="map n.ipynb --grid city=Oslo,Lima --resume --changed keep",
        python={"grid": {"city": ["Oslo", "Lima"]}, "resume": True},
    ),
    Case(
        "the notebook of a run is gone",
        "resume n.ipynb",
        "There is no notebook",
        "",
        run=True,
        files=lambda folder: void((folder / "n.ipynb").rename(folder / "o.ipynb")),
        mend=lambda folder: void((folder / "o.ipynb").rename(folder / "n.ipynb")),
    ),
    Case(
        "a corrupt journal line",
        "resume n.ipynb",
        "journal.jsonl:3: is no line of a journal",
        "goes by the checkpoint",
        run=True,
        files=journal_with_a_bad_line,
        mend=journal_away,
    ),
    Case(
        "status with a corrupt journal line",
        "status n.ipynb",
        "journal.jsonl:3: is no line of a journal",
        "goes by the checkpoint",
        run=True,
        files=journal_with_a_bad_line,
        mend=journal_away,
    ),
    Case(
        "a journal of a newer version",
        "resume n.ipynb",
        "journal.jsonl:1: version 9 of the format",
        "pip install -U nbflow",
        run=True,
        files=edited("nbflow-runs/n.ipynb/*/journal.jsonl", '"nbflow":1', '"nbflow":9'),
        mend=edited("nbflow-runs/n.ipynb/*/journal.jsonl", '"nbflow":9', '"nbflow":1'),
    ),
    Case(
        "a corrupt checkpoint",
        "resume n.ipynb",
        "n.ipynb.nbflow.json: is no JSON",
        "move it away",
        run=True,
        files=edited("n.ipynb.nbflow.json", '"nodes"', "nodes"),
        mend=checkpoint_away,
    ),
    Case(
        "a corrupt checkpoint for map --resume",
        "map n.ipynb --resume --grid city=Oslo,Lima",
        "n.ipynb.nbflow.json: is no JSON",
        "move it away",
        run=True,
        files=edited("n.ipynb.nbflow.json", '"nodes"', "nodes"),
        mend=checkpoint_away,
        python={"grid": {"city": ["Oslo", "Lima"]}, "resume": True},
    ),
    Case(
        "something else in the checkpoint's place",
        "resume n.ipynb",
        "n.ipynb.nbflow.json: is no checkpoint",
        "Move the file away",
        run=True,
        files=lambda folder: void((folder / "n.ipynb.nbflow.json").write_text("[]")),
        mend=checkpoint_away,
    ),
    Case(
        "a checkpoint of another notebook",
        "resume m.ipynb",
        "m.ipynb.nbflow.json: is the checkpoint of n.ipynb",
        "n.ipynb.nbflow.json",
        run=True,
        files=checkpoint_of_another,
        mend=checkpoint_by_its_name,
        again="resume n.ipynb",
    ),
    Case(
        "a checkpoint of a newer version",
        "resume n.ipynb",
        "was written in version 9 of the format; this nbflow reads version 1",
        "pip install -U nbflow",
        run=True,
        files=edited("n.ipynb.nbflow.json", '"nbflow": 1', '"nbflow": 9'),
        mend=edited("n.ipynb.nbflow.json", '"nbflow": 9', '"nbflow": 1'),
    ),
    Case(
        "a checkpoint that leads elsewhere",
        "resume n.ipynb",
        "'folder' is '../../etc",
        "Put the file back",
        run=True,
        files=edited("n.ipynb.nbflow.json", '"folder": "nbflow-runs/', '"folder": "../../etc/'),
        mend=edited("n.ipynb.nbflow.json", '"folder": "../../etc/', '"folder": "nbflow-runs/'),
    ),
    Case(
        "a definition that is no JSON",
        "resume RUN",
        "workflow.json: is no JSON",
        "from a copy",
        run=True,
        files=edited("nbflow-runs/n.ipynb/*/workflow.json", "{", ""),
        mend=lambda folder: void(
            next(folder.glob("nbflow-runs/n.ipynb/*/workflow.json")).write_text(
                "{" + next(folder.glob("nbflow-runs/n.ipynb/*/workflow.json")).read_text()
            )
        ),
    ),
    Case(
        "a run behind a symlink",
        "status nbflow-runs/n.ipynb/RUN",
        "is reached by a symlink",
        "Name",
        run=True,
        files=run_behind_a_link,
        mend=run_back_from_the_link,
    ),
]

TAGS = [
    Case(
        "a tag for a cell out of range",
        "tag n.ipynb 9 results",
        "n.ipynb has no cell 9: it has 2 code cells",
        "counted from 1",
        again="tag n.ipynb 2 results",
    ),
    Case(
        "a tag for cell 0",
        "tag n.ipynb 0 results",
        "n.ipynb has no cell 0",
        "counted from 1",
        again="tag n.ipynb 1 results",
    ),
    Case(
        "a tag for no number",
        "tag n.ipynb two results",
        "'two' is not a valid integer",
        "tag --help",
        again="tag --help",
    ),
    Case(
        "an unknown tag",
        "tag n.ipynb 2 paramters",
        "'paramters' is no tag that nbflow knows. Did you mean 'parameters'?",
        "The tags are",
        again="tag n.ipynb 2 raises-exception",
    ),
    Case(
        "a time-out tag that is none",
        "tag n.ipynb 2 timeout:x",
        "'timeout:x' is no tag",
        "30s",
        again="tag n.ipynb 2 timeout:30s",
    ),
    Case(
        "a second parameters tag",
        "tag n.ipynb 2 parameters",
        "cell 1 is tagged parameters already",
        "Remove it there first",
        typed="nbflow tag n.ipynb 1 --remove parameters",
    ),
    Case(
        "a tag for no notebook",
        "tag m.ipynb 1 results",
        "There is no notebook m.ipynb. Did you mean 'n.ipynb'?",
        "n.ipynb",
        again="tag n.ipynb 1 results",
    ),
]

CASES = [*NOTEBOOKS, *PARAMETER_CASES, *TABLES, *OPTIONS, *FOLDERS, *RUNS, *TAGS]
TYPED = [case for case in CASES if case.command]
CALLED = [case for case in CASES if case.python is not None]

# -- what is asked of each ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a notebook and a completed run of two items."""
    folder = tmp_path_factory.mktemp("finished")
    forecast(folder)
    nbflow.map(folder / "n.ipynb", grid={"city": ["Oslo", "Lima"]}, quiet=True).check()
    return folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own to stand in, inside of one that the case may look at too."""
    monkeypatch.delenv("NBFLOW_STATE_DIR", raising=False)
    folder = tmp_path / "place"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def prepared(case: Case, place: Path, finished: Path) -> None:
    """Make the files of a case."""
    if case.run:
        shutil.copytree(finished, place, dirs_exist_ok=True)
    if not case.run or case.files is not forecast:
        case.files(place)


def words(command: str, place: Path) -> list[str]:
    """Give the words of a command line."""
    runs = sorted(place.glob("*/n.ipynb/2*-*"))
    return shlex.split(command.replace("RUN", runs[-1].name if runs else "RUN"))


def typed(given: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run ``nbflow`` as a person does."""
    return subprocess.run(
        [sys.executable, "-m", "nbflow", *given], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )


def called(given: list[str]) -> int:
    """Run ``nbflow`` in this process; an exception that is no end of it comes out."""
    with pytest.raises(SystemExit) as end:
        main(given)
    return int(end.value.code or 0)


def dry(given: list[str]) -> list[str]:
    """Give a command that checks all and starts no kernel."""
    return [*given, "--dry-run"] if given[0] in ("map", "resume") and "--help" not in given else given


@pytest.mark.parametrize("case", TYPED, ids=lambda case: case.name)
def test_a_bad_input_is_refused_and_its_remedy_works(
    case: Case, place: Path, finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, one line with value and place, a remedy that is followed here; and no file changes."""
    prepared(case, place, finished)
    before = tree(place)
    capsys.readouterr()
    code = called(words(case.command, place))
    refused = capsys.readouterr()
    assert code == 2, refused
    assert before == tree(place)
    follow(case, place, refusal(case, refused.out, refused.err), monkeypatch)
    capsys.readouterr()
    code = called(dry(words(case.again or case.command, place)))
    said = capsys.readouterr()
    assert code == 0, said.err
    assert case.error not in said.err


def refusal(case: Case, out: str, err: str) -> list[str]:
    """Check what a refused command printed, and give the lines of its remedy."""
    first, *rest = err.splitlines() or [""]
    assert first.startswith("error: "), err
    assert case.error in first
    assert rest, "there is no remedy"
    assert all(line.startswith("  ") and line.strip() for line in rest)
    assert case.remedy in "\n".join(rest)
    assert out == ""
    assert "Traceback" not in err
    return rest


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.name, marks=[pytest.mark.long] if i % 20 else []) for i, case in enumerate(TYPED)],
)
def test_a_process_of_its_own_says_the_same(case: Case, place: Path, finished: Path) -> None:
    """What is typed in a shell ends with exit code 2 and the same words, and changes no file."""
    prepared(case, place, finished)
    before = tree(place)
    refused = typed(words(case.command, place), place)
    assert 2 == refused.returncode
    refusal(case, refused.stdout, refused.stderr)
    assert before == tree(place)


def follow(case: Case, place: Path, remedy: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Do what the remedy of a case says, as far as it is not the command itself."""
    if case.mend is not None:
        case.mend(place)
    for name, value in case.env.items():
        monkeypatch.setenv(name, value)
    if case.typed:
        line = next(line[line.index(case.typed) :] for line in remedy if case.typed in line)
        command = re.split(r" {2,}| starts one| lists the runs", line)[0]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            command,
            shell=True,
            cwd=place,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (command, done)


@pytest.mark.parametrize(
    "case", [c for c in TYPED if c.command.split()[0] in ("map", "resume", "status", "results")], ids=lambda c: c.name
)
def test_with_json_a_refusal_is_one_object(
    case: Case, place: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A program gets the error as the one JSON object on stdout; people still find it on stderr."""
    prepared(case, place, finished)
    before = tree(place)
    capsys.readouterr()
    assert called([*words(case.command, place), "--json"]) == 2
    said = capsys.readouterr()
    error = json.loads(said.out)["error"]
    first, *rest = said.err.splitlines()
    assert first == f"error: {error['message']}"
    assert [line[2:] for line in rest] == error["remedy"].splitlines()
    assert before == tree(place)


@pytest.mark.parametrize("case", CALLED, ids=lambda case: case.name)
def test_the_same_in_python_raises_and_changes_no_file(case: Case, place: Path, finished: Path) -> None:
    """``nbflow.map`` raises RefusedError with the same words, with a remedy, and no file changes."""
    prepared(case, place, finished)
    before = tree(place)
    keywords = {"notebook": "n.ipynb", "quiet": True, **(case.python or {})}
    with pytest.raises(RefusedError) as caught:
        nbflow.map(**keywords)
    first, *rest = str(caught.value).splitlines()
    wanted = case.says or case.error
    assert wanted in first
    assert rest, "there is no remedy"
    assert before == tree(place)


# -- what needs more than a line of the table --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("n_jobs", "max_concurrency"),
        ("workers", "max_concurrency"),
        ("max_workers", "max_concurrency"),
        ("params", "parameters"),
        ("inputs", "parameters"),
        ("kernel_name", "kernel"),
        ("item", "items"),
        ("time_out", "timeout"),
    ],
)
def test_an_unknown_keyword_names_the_right_one(wrong: str, right: str, place: Path) -> None:
    """A keyword that other libraries use is answered with ours."""
    forecast(place)
    before = tree(place)
    with pytest.raises(TypeError, match=rf"no keyword '{wrong}'. Did you mean '{right}'\?"):
        nbflow.map("n.ipynb", **{wrong: 4})
    assert before == tree(place)


@pytest.mark.parametrize(
    ("verb", "wrong", "right"),
    [
        ("run", "parameters", "inputs"),
        ("run", "max_concurrency", "max_workers"),
        ("resume", "inputs", "parameters"),
        ("resume", "max_workers", "max_concurrency"),
    ],
)
def test_the_keyword_of_another_verb_names_the_one_of_this(verb: str, wrong: str, right: str) -> None:
    """A run has inputs and workers; a resume, which is for maps too, parameters and items at a time."""
    with pytest.raises(TypeError, match=rf"nbflow\.{verb}\(\) has no keyword '{wrong}'. Did you mean '{right}'\?"):
        getattr(nbflow, verb)("w.yml", **{wrong: 4})


@pytest.mark.parametrize("table", ["[]", "items"])
def test_an_empty_list_of_items_completes(table: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No items is no error where somebody said so: a list that came out empty."""
    forecast(place)
    if table == "items":
        assert [] == nbflow.map("n.ipynb", items=[], quiet=True).results
        return
    (place / "t.yml").write_text(table)
    assert called(["map", "n.ipynb", "--items", "t.yml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["items"] == []


def test_a_second_resume_while_one_runs_is_refused(place: Path) -> None:
    """The process that works is named; when it has ended, the same command works."""
    written(place / "n.ipynb", PARAMETERS, cell("open('started', 'w').close()\nopen('gate').read()"))
    os.mkfifo(place / "gate")
    at_work = subprocess.Popen(
        [sys.executable, "-m", "nbflow", "map", "n.ipynb"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        eventually((place / "started").exists)
        at_work.send_signal(signal.SIGSTOP)  # its heartbeat writes nothing now
        before = tree(place)
        for command in (["resume", "n.ipynb"], ["map", "n.ipynb", "--resume"]):
            refused = typed(command, place)
            first, remedy = refused.stderr.splitlines()
            assert (2, "") == (refused.returncode, refused.stdout)
            assert first.startswith("error: run ")
            assert f"process {at_work.pid}" in first
            assert before == tree(place)
        at_work.send_signal(signal.SIGCONT)
        command = remedy[remedy.index("nbflow cancel") :].split()[1:]
        assert typed(command, place).returncode == 0
        at_work.communicate(timeout=30)
        assert at_work.returncode == 1, "cancelled from outside"
    finally:
        at_work.kill()
        at_work.communicate()
    assert called(["resume", "n.ipynb", "--dry-run"]) == 0


def eventually(holds: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


@pytest.fixture
def read_only(place: Path) -> Iterator[Path]:
    """A notebook's folder that cannot be written: also for root, who may write what is only said to be so."""
    folder = place / "ro"
    folder.mkdir()
    forecast(folder)
    if os.geteuid() != 0:
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)
        return
    bound = subprocess.run(["mount", "--bind", folder, folder], capture_output=True, check=False)
    if bound.returncode:
        pytest.skip("mounts are not permitted here")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_read_only_folder_is_refused_and_a_state_dir_helps(read_only: Path, place: Path) -> None:
    """Runs are kept elsewhere, as the remedy says, and the notebook runs."""
    before = tree(place)
    refused = typed(["map", "ro/n.ipynb"], place)
    first, remedy = refused.stderr.splitlines()
    assert 2 == refused.returncode
    assert first.startswith("error: ")
    assert f"{read_only}: cannot be written" in first
    assert "--state-dir DIR" in remedy
    assert before == tree(place)
    with pytest.raises(RefusedError, match="cannot be written"):
        nbflow.map(read_only / "n.ipynb", quiet=True)
    done = typed(["map", "ro/n.ipynb", "--state-dir", "state"], place)
    assert 0 == done.returncode, done
    assert 0 == typed(["resume", "ro/n.ipynb", "--state-dir", "state"], place).returncode


def test_below_a_cell_stand_the_words_alone(place: Path) -> None:
    """IPython shows no frames of what happens inside; a script's traceback has them."""
    call = "import nbflow; nbflow.map('nowhere.ipynb', grid={'n': [1]})"
    command = [sys.executable, "-m", "IPython", "--colors=nocolor", "--no-banner", "-c", call]
    shown = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    words = re.sub(r"\x1b\[\d+m", "", shown.stdout + shown.stderr).splitlines()
    assert "TargetError: There is no notebook nowhere.ipynb." == words[0]
    assert 3 >= len(words), words
