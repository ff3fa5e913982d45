"""The documentation: every example in it runs, shows what it says, and every link leads somewhere.

A page is a story: its blocks run from top to bottom in one folder. What a block needs and what becomes of it is said
by HTML comments above it, which readers of the page do not see:

``<!-- file: steps.py -->``
    The block is written to this file.
``<!-- notebook: forecast.ipynb | city: str = "Oslo" | rmse = 1.5 -->``
    A notebook of this name: its parameters, other cells, and its results, each behind a bar.
``<!-- cells: analysis.ipynb -->``
    The python block is written as a notebook: ``# %%`` begins a cell, and behind it stand the cell's tags.
``<!-- story -->``
    The blocks from here on have a new folder.
``<!-- runs -->``
    The workflow, or the steps, above is run; the next json block has the outputs of some of its nodes.
``<!-- refused -->``
    The yaml block is refused; the next text block has the errors.
``<!-- values: {"inputs": {"n": 3}} -->``
    The lines of the text block are expressions, each with its value or its error behind an arrow.
``<!-- shell -->``
    The block needs the runner of commands.
``<!-- only shown -->``
    The block is not run.

In what is shown, ``...`` stands for anything on its line, and a line of ``...`` for any lines. Of a python block, the
value of an expression is compared with the comment ``# -> value`` behind it.
"""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from nbflow.api.checking import checked
from nbflow.cli import VERBS
from nbflow.cli import nbflow as command_line
from nbflow.executors.shell import ShellRunner
from nbflow.expressions import ExpressionError, template

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
HAS_SHELL = "NotImplementedError" not in inspect.getsource(ShellRunner)
TIMEOUT = 120
"""Seconds that one command of a page may take."""


# -- reading pages -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """A fenced block, or a mark that stands for itself."""

    place: str
    """File and line."""
    language: str
    text: str
    marks: dict[str, str] = field(default_factory=dict)
    """What the comments right above it say."""


_FENCE = re.compile(r"^(?P<fence>```+)(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=fence)$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"^<!-- ([a-z ]+?)(?:: (.*?))? -->$", re.MULTILINE | re.DOTALL)
_KNOWN = {"file", "notebook", "cells", "story", "runs", "refused", "values", "shell", "only shown"}


def blocks(text: str, name: str) -> list[Block]:
    """Give the blocks of a page, in order, and the marks that stand between them."""
    fences = list(_FENCE.finditer(text))
    inside = [range(*fence.span()) for fence in fences]
    marks = [mark for mark in _MARK.finditer(text) if not any(mark.start() in span for span in inside)]
    found: list[Block] = []
    above: dict[str, str] = {}
    for one in sorted([*fences, *marks], key=lambda match: match.start()):
        place = f"{name}:{text.count(chr(10), 0, one.start()) + 1}"
        if one.re is _MARK:
            key, value = one[1], one[2] or ""
            if key in ("notebook", "story"):
                found.append(Block(place, "mark", value, {key: value}))
            elif key in _KNOWN:
                above[key] = value
        else:
            found.append(Block(place, one["language"], one["text"], above))
            above = {}
    return found


# -- comparing what is shown -------------------------------------------------------------------------------------


def matches(shown: str, real: str) -> bool:
    """Tell whether a real output is what a page shows of it; how wide columns are does not count."""
    pattern = ""
    for line in _plain(shown):
        if line.strip() == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += r"[^\n]*?".join(re.escape(part) for part in line.split("...")) + r"\n"
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in _plain(real))) is not None


def _plain(text: str) -> list[str]:
    """Give the lines of a text, with one blank for several inside of a line, and none at its end."""
    return [re.sub(r"(?<=\S) +", " ", line).rstrip() for line in text.strip("\n").splitlines()]


def same(shown: str, real: str, place: str) -> None:
    """Check that they match; shows both otherwise."""
    assert matches(shown, real), f"{place}: it shows\n{shown}\n{place}: it is\n{real}"


def covers(shown: Any, real: Any) -> bool:
    """Tell whether a value is as shown; the text ``...`` stands for any value."""
    if shown == "...":
        return True
    if isinstance(shown, dict) and isinstance(real, dict):
        return shown.keys() == real.keys() and all(covers(shown[key], real[key]) for key in shown)
    if isinstance(shown, list) and isinstance(real, list):
        return len(shown) == len(real) and all(map(covers, shown, real))
    return bool(shown == real) and type(shown) is type(real)


# -- telling the story of a page ---------------------------------------------------------------------------------


class Story:
    """The folder of a page, and what happens in it."""

    def __init__(self, top: Path) -> None:
        self._top = top
        self._count = 0
        self._last = ""
        self._wanted: tuple[str, str] | None = None
        self._new_folder()
        binaries = top / "bin"
        binaries.mkdir()
        verb = binaries / "nbflow"
        verb.write_text(f'#!/bin/sh\nexec {sys.executable} -m nbflow "$@"\n')
        verb.chmod(0o755)
        python = binaries / "python"
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)
        away = ("NBFLOW_STATE_DIR", "PYTHONPATH")
        self._environment = {
            **{name: value for name, value in os.environ.items() if name not in away},
            "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
            "PYTHONWARNINGS": "ignore",
            "API_KEY": "0123456789",
        }

    def _new_folder(self) -> None:
        self._count += 1
        self.folder = self._top / f"work{self._count}"
        self.folder.mkdir()

    def process(self, words: list[str] | str, code: int | None = None) -> tuple[int, str]:
        """Run a command in the folder; gives its exit code and what it printed, stderr first where both did."""
        path = os.pathsep.join([str(ROOT), str(self.folder)])
        with (self._top / "out").open("w+b") as out, (self._top / "err").open("w+b") as err:
            done = subprocess.run(
                words if isinstance(words, list) else ["bash", "-c", words],
                cwd=self.folder,
                env={**self._environment, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                timeout=TIMEOUT,
                check=False,
            )
            texts = []
            for file in (err, out):
                file.seek(0)
                texts.append(file.read().decode())
        assert code is None or done.returncode == code, "".join(texts)
        return done.returncode, "".join(texts)

    def tell(self, block: Block) -> None:
        """Let one block happen."""
        if "story" in block.marks and block.language == "mark":
            self._new_folder()
        elif block.language == "mark":
            self._notebook(block.text)
        elif "only shown" in block.marks or ("shell" in block.marks and not HAS_SHELL):
            pass
        elif self._wanted is not None and block.language in ("json", "text"):
            self._expected(block)
        elif "values" in block.marks:
            self._values(block)
        elif name := block.marks.get("cells"):
            parts = (part.partition("\n") for part in re.split(r"^# %%", block.text, flags=re.MULTILINE)[1:])
            self._save(name, [(tags.split(), source.strip("\n")) for tags, _, source in parts])
        else:
            if name := block.marks.get("file"):
                (self.folder / name).parent.mkdir(exist_ok=True, parents=True)
                (self.folder / name).write_text(block.text)
            teller = {"yaml": self._yaml, "python": self._python, "console": self._console, "json": self._json}
            if block.language in teller:
                teller[block.language](block)
            elif block.language == "toml":
                self._toml(block)

    def end(self, name: str) -> None:
        """Check that nothing is missing at the end of the page."""
        assert self._wanted is None, f"{name}: the {self._wanted[0]} of the last yaml block is missing"

    # -- what there is to happen

    def _notebook(self, text: str) -> None:
        name, parameters, *cells = (part.strip() for part in text.split("|"))
        tagged = [
            (["parameters"], parameters),
            *(([], cell) for cell in cells[:-1]),
            *((["results"], c) for c in cells[-1:]),
        ]
        self._save(name, [(tags, source.replace("; ", "\n")) for tags, source in tagged if source])

    def _save(self, name: str, cells: list[tuple[list[str], str]]) -> None:
        made = [
            {
                "cell_type": "code",
                "id": f"cell-{number}",
                "execution_count": None,
                "metadata": {"tags": tags},
                "outputs": [],
                "source": source,
            }
            for number, (tags, source) in enumerate(cells)
        ]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        whole = {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel}, "cells": made}
        (self.folder / name).write_text(json.dumps(whole))

    def _yaml(self, block: Block) -> None:
        text = block.text
        if text.startswith("- "):
            text = "nbflow: 1\nsteps:\n" + textwrap.indent(text, "  ")
        if not text.startswith("nbflow: 1") and "nbflow: 1\n" not in text.split("\n\n")[0]:
            assert yaml.safe_load(text) is not None, block.place
            return
        self._last = block.marks.get("file") or "example.yml"
        (self.folder / self._last).write_text(text)
        wrong, lines = self._validated()
        if "refused" in block.marks:
            assert wrong, f"{block.place}: it is not refused"
            self._wanted = ("text", lines)
        else:
            assert not wrong, f"{block.place}: it is refused:\n{lines}"
            if "runs" in block.marks:
                _, out = self.process(["nbflow", "run", self._last, "--json"])
                self._wanted = ("json", out[out.index('{"run_id"') :])

    def _validated(self) -> tuple[bool, str]:
        """Tell whether the last workflow is refused, and what there is to say of it."""
        if any(self.folder.glob("*.dist-info")):  # a plug-in of this folder, which this process does not have
            code, out = self.process(["nbflow", "validate", self._last])
            return code != 0, out
        here = Path.cwd()
        os.chdir(self.folder)
        try:
            told = checked(self._last)
        finally:
            os.chdir(here)
        return bool(told.problems), "\n".join(told.lines())

    def _expected(self, block: Block) -> None:
        assert self._wanted is not None
        language, real = self._wanted
        self._wanted = None
        assert language == block.language, f"{block.place}: here the {language} of the block above is wanted"
        if language == "text":
            same(block.text, real, block.place)
            return
        nodes = json.loads(real)["nodes"]
        for name, output in json.loads(block.text).items():
            assert name in nodes, f"{block.place}: there is no node {name}, but {', '.join(nodes)}"
            assert covers(output, nodes[name]["output"]), f"{block.place}: {name} is {json.dumps(nodes[name])}"

    def _values(self, block: Block) -> None:
        names = json.loads(block.marks["values"] or "{}")
        for line in block.text.splitlines():
            if not line.strip():
                continue
            text, arrow, shown = line.partition(" -> ")
            assert arrow, f"{block.place}: there is no arrow in {line!r}"
            try:
                real = repr(template(text.strip()).resolve(names))
            except ExpressionError as problem:
                real = f"error: {problem.message.partition('`: ')[2]}"
            same(shown.strip(), real, f"{block.place}: {text.strip()}")

    def _python(self, block: Block) -> None:
        code, shown = _asking(block.text)
        (self.folder / ".story.py").write_text(code)
        _, out = self.process(["python", ".story.py"], code=0)
        real = [line[3:] for line in out.splitlines() if line.startswith("-> ")]
        assert len(real) == len(shown), f"{block.place}: {out}"
        for wanted, value in zip(shown, real, strict=True):
            same(wanted, value, block.place)

    def _console(self, block: Block) -> None:
        parts = re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]
        code = 0
        for part in parts:
            command, _, shown = part.partition("\n")
            while command.endswith("\\"):
                more, _, shown = shown.partition("\n")
                command = f"{command[:-1]} {more.strip()}"
            code, out = self.process(f"(exit {code}); {command}")
            same(shown, out, f"{block.place}: $ {command}")

    def _json(self, block: Block) -> None:
        json.loads(block.text)

    def _toml(self, block: Block) -> None:
        """Install the entry points of a pyproject.toml, as pip would."""
        tomllib = pytest.importorskip("tomllib")
        project = tomllib.loads(block.text)["project"]
        groups = project.get("entry-points", {})
        place = self.folder / f"{project['name'].replace('-', '_')}-1.0.dist-info"
        place.mkdir()
        (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 1.0\n")
        lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in names.items()) for group, names in groups.items()]
        (place / "entry_points.txt").write_text("\n".join(lines))


def _asking(text: str) -> tuple[str, list[str]]:
    """Give python text in which each expression with ``# -> value`` behind it prints its value, and those values."""
    lines = text.splitlines()
    shown = []
    for node in reversed(ast.parse(text).body):
        assert node.end_lineno is not None
        _, arrow, value = lines[node.end_lineno - 1].partition("# -> ")
        if arrow and isinstance(node, ast.Expr):
            source = "\n".join(lines[node.lineno - 1 : node.end_lineno])
            asked = ast.get_source_segment(text, node)
            assert source
            lines[node.lineno - 1 : node.end_lineno] = [f"print('->', repr({asked}))"]
            shown.append(value.strip())
    return "\n".join(lines), shown[::-1]


def told(text: str, name: str, top: Path) -> None:
    """Let all blocks of a page happen."""
    story = Story(top)
    for block in blocks(text, name):
        story.tell(block)
    story.end(name)


SOON = {"README.md", "expressions.md"}
"""Pages whose examples are tried in `make test`; those of the others in `make check`."""


@pytest.mark.parametrize(
    "page", [pytest.param(p, id=p.name, marks=[] if p.name in SOON else [pytest.mark.long]) for p in PAGES]
)
def test_the_examples_of_a_page_do_what_it_says(page: Path, tmp_path: Path) -> None:
    """From top to bottom, as a reader would try them."""
    told(page.read_text(encoding="utf-8"), page.name, tmp_path)


# -- links, and what must not go stale ---------------------------------------------------------------------------


_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def anchors(text: str) -> set[str]:
    """Give the anchors of the headings of a page, as GitHub makes them."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(text)}


def broken_links(page: Path) -> Iterator[str]:
    """Give the links of a page that lead nowhere in this repository."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    for link in _LINK.findall(text):
        path, _, anchor = link.partition("#")
        if re.match(r"https?:", link):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            yield link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Files are there, and so are the headings that are named."""
    assert list(broken_links(page)) == []


def test_all_filters_and_tests_are_listed() -> None:
    """Neither more nor fewer than there are."""
    from nbflow.expressions import FILTERS, TESTS

    section = (ROOT / "docs/expressions.md").read_text().partition("## Filters and tests")[2].partition("\n## ")[0]
    filters, tests = (set(words.split()) for words in re.findall(r"`([^`]{60,})`", section))
    assert filters == FILTERS
    assert tests == {name for name in TESTS if name.isidentifier()}


def declared(option: click.Option) -> str:
    """Give an option as the page writes it: ``-k, --kernel KERNEL``, or ``--[no-]fail-fast``."""
    choices = "|".join(option.type.choices) if isinstance(option.type, click.Choice) else ""
    metavar = "" if option.is_flag else f" {option.metavar or choices}"
    names = [f"--[no-]{name[2:]}" for name in option.opts] if option.secondary_opts else option.opts
    return f"{', '.join(names)}{metavar}"


def described(page: str) -> dict[str, set[str]]:
    """Give the options of each verb that the page of commands tells of."""
    rows = re.compile(r"^\| (`-[^|]*(?:\\\|[^|]*)*) \| (.*) \|$", re.MULTILINE)
    whole = {verb.split()[0]: verb for verb in re.split(r"^## nbflow ", page, flags=re.MULTILINE)[1:]}
    found = {}
    for verb, text in whole.items():
        section = text.partition("\n## ")[0]
        words = [word for row in rows.findall(section) for word in re.findall(r"`(-[^`]*)`", row[0])]
        found[verb] = {word.replace("\\|", "|") for word in words}
    shared = page.partition("## Options of several verbs")[2].partition("\n## ")[0]
    for option, told in rows.findall(shared):
        for verb in re.search(r"`([a-z ]+)`", told)[1].split():
            found[verb].add(option.strip("`").replace("\\|", "|"))
    return found


def verbs() -> dict[str, click.Command]:
    """Give the verbs of the command line, in the order of the documentation."""
    context = click.Context(command_line)
    return {name: verb for name in VERBS if (verb := command_line.get_command(context, name)) is not None}


def test_every_verb_and_option_is_described() -> None:
    """As the command line itself has them: neither more nor fewer."""
    same = {"-i, -p NAME=VALUE": "-p, -i NAME=VALUE"}
    real = {
        name: {same.get(told := declared(one), told) for one in verb.params if isinstance(one, click.Option)}
        for name, verb in verbs().items()
    }
    assert described((ROOT / "docs/commands.md").read_text()) == real


def test_every_verb_is_headed_by_what_it_takes() -> None:
    """``nbflow logs TARGET [ITEM]``, as its help says."""
    headings = re.findall(r"^## nbflow (.*)$", (ROOT / "docs/commands.md").read_text(), re.MULTILINE)
    real = []
    for name, verb in verbs().items():
        context = click.Context(verb, info_name=name)
        real.append(" ".join([name, *(p.make_metavar(context) for p in verb.params if isinstance(p, click.Argument))]))
    assert headings == real


def test_the_schema_for_editors_has_every_kind() -> None:
    """What docs/commands.md says of editors."""
    from nbflow.api.checking import schema_data

    assert len(schema_data()["$defs"]["step"]["oneOf"]) == 12


def test_the_floors_are_those_that_are_tested() -> None:
    """The table of docs/design.md, and the one of tests/test_floors.py."""
    from tests.test_floors import FLOORS

    section = (ROOT / "docs/design.md").read_text().partition("\n## Floors")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\d) \| ([^:|]*)(:[^|]*)? \|$", section, re.MULTILINE)
    written = {name.strip("/"): int(floor) for floor, rooms, _ in rows for name in re.findall(r"`([^`]*)`", rooms)}
    extra = {name: int(floor) for floor, _, more in rows for name in re.findall(r"; `([^`]*)`", more)}
    assert {**written, **extra} == FLOORS


# -- these checks can fail ---------------------------------------------------------------------------------------

GOOD = '- {id: a, call: "builtins:dict", arguments: {x: 1}}'


@pytest.mark.parametrize(
    "page",
    [
        "```yaml\n- {id: a, cal: x}\n```",
        f"<!-- refused -->\n```yaml\n{GOOD}\n```",
        "<!-- refused -->\n```yaml\n- {id: a b, gate: x}\n```\n```text\nerror: something else\n```",
        f'<!-- runs -->\n```yaml\n{GOOD}\n```\n```json\n{{"a": {{"x": 2}}}}\n```',
        f'<!-- runs -->\n```yaml\n{GOOD}\n```\n```json\n{{"b": {{"x": 1}}}}\n```',
        f"<!-- runs -->\n```yaml\n{GOOD}\n```",
        "```python\nassert 1 == 2\n```",
        "```python\n1 + 1  # -> 3\n```",
        "```console\n$ nbflow --version\nnbflow 99\n```",
        "```console\n$ nbflow status nix >/dev/null 2>&1\n$ echo $?\n0\n```",
        "<!-- cells: a.ipynb -->\n```python\n# %% step:a\n1\n```\n```console\n$ nbflow validate a.ipynb\n```",
        "<!-- values: {} -->\n```text\n{{ 1 + 1 }} -> 3\n```",
        "<!-- values: {} -->\n```text\n{{ now() }} -> 3\n```",
    ],
)
def test_a_page_that_lies_fails(page: str, tmp_path: Path) -> None:
    """Each kind of block, with a wrong word in it."""
    with pytest.raises(AssertionError):
        told(page, "lie.md", tmp_path)


def test_json_that_is_none_fails(tmp_path: Path) -> None:
    """What is only shown, such as settings of editors, can at least be read."""
    with pytest.raises(json.JSONDecodeError):
        Story(tmp_path).tell(blocks("```json\n{a: 1}\n```", "lie.md")[0])


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    """A missing file, a missing heading; what is there is not told."""
    page = tmp_path / "a.md"
    page.write_text("# One thing\n[a](b.md) [b](a.md#one-thing) [c](a.md#another) [d](https://x.org) [e](#one-thing)")
    assert list(broken_links(page)) == ["b.md", "a.md#another"]


def test_a_verb_or_option_that_is_not_described_is_missed() -> None:
    """The page without one of its lines is no longer what the command line has."""
    page = (ROOT / "docs/commands.md").read_text()
    whole = described(page)
    for line in ("| `--force` | run everything again |\n", "| `--detach` | `map run resume` |"):
        assert line in page
        assert described(page.replace(line, "")) != whole


def test_what_is_shown_may_leave_out_and_nothing_else() -> None:
    """Dots stand for a part of a line or for lines; other words, or lines more, do not match."""
    assert matches("run ... of b\n...\nend", "run 1 of b\nx\ny\nend")
    assert matches("a  b", "a      b")
    assert not matches("run ... of c", "run 1 of b")
    assert not matches("a", "a\nb")
    assert not matches("  a", "a")


def test_every_block_of_a_page_is_a_kind_that_is_checked() -> None:
    """A language that nothing checks would go stale unseen; an unknown comment would be a mark with a typo."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in blocks(text, page.name):
            assert block.language in ("mark", "yaml", "python", "console", "json", "text", "toml"), block.place
        for mark in re.findall(r"^<!-- (.*?)(?:: .*)? -->$", text, re.MULTILINE):
            assert mark in _KNOWN or page.name == "performance.md", f"{page.name}: {mark}"
