"""A notebook as it stands in its file: code cells, tags, parameters, names of results, digests.

Nothing here needs nbformat, which can take two seconds to import; IPython is asked only what Python cannot read.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import json
import re
import shlex
import sys
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher, get_close_matches
from pathlib import Path
from typing import Any

from .durations import seconds
from .errors import DefinitionError, ParameterError, TargetError, did_you_mean
from .values import NotAValueError, Value, argument

__all__ = [
    "ANY",
    "EXAMPLES",
    "PREFIXES",
    "SETUP",
    "WORDS",
    "Cell",
    "Notebook",
    "Parameter",
    "Type",
    "assigned",
    "cell_tree",
    "changed_cells",
    "has_steps",
    "ipython_tree",
    "marks",
    "owners",
    "parsed",
    "read_cells",
    "read_notebook",
    "selected",
    "split",
    "syntax_tree",
]

DECISIVE = frozenset({"parameters", "results", "raises-exception", "skip-execution"})
"""Tags that decide what runs, and so count in digests."""

_UPGRADE = 'Convert it:\npython -c "import nbformat, sys; p = sys.argv[1]; nbformat.write(nbformat.read(p, 4), p)" {}'


@dataclass(frozen=True, slots=True)
class Type:
    """What a parameter takes."""

    kinds: tuple[str, ...] = ()
    """Words of ``str int float bool list dict none``; without any, everything is taken."""
    strict: bool = False
    """Whether it was annotated; the type of a bare default is lenient."""
    choices: tuple[Value, ...] = ()
    """The only values there are, where a ``Literal`` says so."""
    item: Type | None = None
    """The type of a list's elements or a mapping's values, where it is known."""

    def __str__(self) -> str:
        """Give the words for messages: ``a float or None``."""
        if self.choices:
            return "one of " + ", ".join(map(repr, self.choices))
        names = [_NAMES[kind] for kind in self.kinds if kind != "none"]
        if self.item is not None and self.item.kinds and len(names) == 1:
            names = [f"{names[0]} of {', '.join(kind for kind in self.item.kinds)}"]
        return " or ".join([*names, *(["None"] if "none" in self.kinds else [])]) or "anything"


ANY = Type()
"""Takes everything; text is read by its own form."""
_NAMES = {
    "str": "a str",
    "int": "an int",
    "float": "a float",
    "bool": "a bool (true or false)",
    "list": "a list",
    "dict": "a dict",
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A name that the cell tagged ``parameters`` assigns or declares."""

    name: str
    annotation: str = ""
    """The annotation as it is written; empty without one."""
    default: Value = None
    """The default, where it is a literal."""
    default_text: str = ""
    """The default as it is written; empty without one."""
    type: Type = ANY
    computed_from: tuple[str, ...] = ()
    """Parameters that its default is computed from, directly or by way of others."""

    @property
    def has_default(self) -> bool:
        """Whether it may be left out."""
        return bool(self.default_text)

    def __str__(self) -> str:
        """Give what people read: ``depth: int = 3``."""
        annotation = self.annotation or "".join(self.type.kinds[:1])
        start = f"{self.name}: {annotation}" if annotation else self.name
        text = self.default_text if len(self.default_text) <= 40 else self.default_text[:37] + "..."
        return f"{start} = {text}" if text else start


@dataclass(frozen=True, slots=True)
class Cell:
    """A code cell."""

    number: int
    """Its place among the code cells, from 1."""
    position: int
    """Its index among all cells of the file."""
    source: str
    tags: frozenset[str]
    """Its tags, and what a first line ``# nbflow: ...`` says instead of them."""
    heading: str
    """The nearest heading above it, else its first comment; may be empty."""
    timeout: float | None = None
    """Seconds it may take, from a tag ``timeout:30s``."""

    @property
    def digest(self) -> str:
        """Digest of its source and of the tags that decide what runs, in 6 hexadecimal digits."""
        return _digest([self.source, sorted(self.tags & DECISIVE)])[:6]


@dataclass(frozen=True, eq=False)
class Notebook:
    """A notebook that can be run."""

    path: Path
    raw: bytes = field(repr=False)
    """The file as it was read."""
    data: Mapping[str, Value] = field(repr=False)
    """The parsed file. Shared: never change it."""
    cells: tuple[Cell, ...]
    """The code cells."""
    language: str
    """``python``, ``R`` ...; empty if the file does not say."""
    kernel: str
    """Name of the kernel in its metadata; may be empty."""
    parameters_cell: int | None
    """Number of the cell tagged ``parameters``."""
    parameters: tuple[Parameter, ...]
    results_cells: tuple[int, ...]
    """Numbers of the cells tagged ``results``."""
    result_names: tuple[str, ...]
    """Names that those cells assign or show, in order."""
    preparing: frozenset[int] = frozenset()
    """Numbers of the cells that prepare a kernel for the others, where only some of its cells were selected."""

    @property
    def name(self) -> str:
        """The file's name, as messages say it."""
        return self.path.name

    @property
    def parameters_known(self) -> bool:
        """Whether the parameters could be read; not in other languages than Python."""
        return self.language == "python"

    @property
    def cell_digests(self) -> tuple[str, ...]:
        """Digests of the code cells, to tell which one changed."""
        return tuple(cell.digest for cell in self.cells)

    @property
    def digest(self) -> str:
        """Digest of what decides what runs: code and its tags; never markdown, outputs or other metadata.

        Empty cells do not run: JupyterLab adds one below whenever somebody runs the last cell.
        """
        return self.digest_given(())

    def digest_given(self, names: Collection[str]) -> str:
        """Give the digest where some parameters are always given: the defaults of these decide nothing.

        Parameters
        ----------
        names : collection of str
            The parameters that are given.

        Returns
        -------
        str
            24 hexadecimal digits.
        """
        code = []
        for cell in self.cells:
            source = _without_defaults(cell.source, names) if cell.number == self.parameters_cell else cell.source
            if source.strip():
                code.append([source, sorted(cell.tags & DECISIVE)])
        return _digest(code)[:24]

    @property
    def signature_text(self) -> str:
        """Give the parameters for people: ``city: str, depth: int = 3 (cell 1)``."""
        if self.parameters_cell is None:
            return "none (no cell is tagged parameters)"
        return f"{', '.join(map(str, self.parameters)) or 'none'} (cell {self.parameters_cell})"


def read_notebook(path: Path) -> Notebook:
    """Read a notebook and check that it can be run.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    TargetError
        If there is no such file, or it cannot be read.
    DefinitionError
        If it is no notebook of format 4, has no code cell, or its parameters are not clear.
    """
    return parsed(path, _raw(path))


def parsed(path: Path, raw: bytes) -> Notebook:
    """Give the notebook of a file's content, as :func:`read_notebook` does."""
    data, cells = _parsed(path, raw)
    if not cells:
        raise DefinitionError(
            f"{path.name} has no code cell, so there is nothing to run.",
            "Is it the right file? Put code in a cell, and save it.",
        )
    return _read(path, raw, data, cells)


SETUP = "setup"
"""Where cells go that run in every kernel; also the step that is the first to run them."""


def owners(cells: Sequence[Cell]) -> list[str]:
    """Give for each code cell where it goes: ``step:clean``, ``setup``, or nowhere, which is an empty text.

    A tag ``step:clean`` begins a step, and cells below go with it. Those above the first step are setup.
    """
    begun = [next((tag for tag in sorted(cell.tags) if tag.startswith("step:")), "") for cell in cells]
    here = SETUP if any(begun) else ""
    found = []
    for cell, step in zip(cells, begun, strict=True):
        here = step or here
        found.append(SETUP if not step and cell.tags & {SETUP, "parameters"} else here)
    return found


def has_steps(cells: Sequence[Cell]) -> bool:
    """Whether any of the cells begins a step."""
    return any(tag.startswith("step:") for cell in cells for tag in cell.tags)


def selected(notebook: Notebook, tags: Iterable[str]) -> Notebook:
    """Give a notebook with only the cells that have one of the tags or go with it, behind those of the setup.

    Its cells keep their numbers, so that messages name them as the file counts them. Text goes with the code below it.
    """
    wanted = {*tags}
    all_cells = notebook.data["cells"]
    assert isinstance(all_cells, list), "it was read"
    owner = dict(zip(notebook.cells, owners(notebook.cells), strict=True))
    own = {cell.position for cell in notebook.cells if wanted & cell.tags or owner[cell] in wanted}
    preparing = {cell.position for cell in notebook.cells if owner[cell] == SETUP} - own
    order = [*sorted(preparing), *sorted(own)]
    code = {cell.position: cell for cell in notebook.cells}
    data = {**notebook.data, "cells": [all_cells[at] for at in _with_text(order, code, len(all_cells))]}
    new = _code_cells(notebook.path, data)
    cells = [
        replace(cell, number=code[at].number, heading=code[at].heading) for cell, at in zip(new, order, strict=True)
    ]
    numbers = frozenset(code[at].number for at in preparing)
    return replace(_read(notebook.path, notebook.raw, data, tuple(cells)), preparing=numbers)


def split(notebook: Notebook) -> tuple[list[Value], list[Value]]:
    """Give the cells of a selection as they stand in the file: those that prepare a kernel, and the others."""
    cells = notebook.data["cells"]
    assert isinstance(cells, list), "it was read"
    ready = 1 + max((cell.position for cell in notebook.cells if cell.number in notebook.preparing), default=-1)
    return cells[:ready], cells[ready:]


def _with_text(order: Iterable[int], code: Mapping[int, Cell], count: int) -> Iterator[int]:
    """Give the positions of code cells with those of the text right above each, and below the last of the file."""
    last = max(code, default=-1)
    for at in order:
        first = at
        while first and first - 1 not in code:
            first -= 1
        yield from range(first, at + 1)
        if at == last:
            yield from range(at + 1, count)


def _read(path: Path, raw: bytes, data: Mapping[str, Value], cells: tuple[Cell, ...]) -> Notebook:
    language, kernel = _kernel(data)
    python = language == "python"
    cell = _parameters_cell(path, cells)
    results = tuple(c for c in cells if "results" in c.tags)
    return Notebook(
        path=path,
        raw=raw,
        data=data,
        cells=cells,
        language=language,
        kernel=kernel,
        parameters_cell=cell.number if cell else None,
        parameters=_parameters(_module(path, cell)) if cell and python else (),
        results_cells=tuple(c.number for c in results),
        result_names=_results([_module(path, c) for c in results]) if python else (),
    )


def changed_cells(old: Sequence[str], new: Sequence[str]) -> list[int]:
    """Give the numbers of the cells that changed, in the new notebook.

    Where cells were deleted, it is the cell that stands there now.

    Parameters
    ----------
    old, new : sequence of str
        Digests of the code cells (:attr:`Notebook.cell_digests`).

    Examples
    --------
    >>> changed_cells(["a", "b", "c"], ["a", "x", "b", "c"])
    [2]
    >>> changed_cells(["a", "b", "c"], ["a", "c"])
    [2]
    """
    numbers: set[int] = set()
    for tag, _, _, start, end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "delete" and new:
            numbers.add(min(start + 1, len(new)))
        elif tag != "equal":
            numbers.update(range(start + 1, end + 1))
    return sorted(numbers)


# The file


def read_cells(path: Path) -> tuple[Mapping[str, Value], tuple[Cell, ...]]:
    """Give the parsed file and its code cells, whatever their tags say.

    Raises
    ------
    TargetError, DefinitionError
        As :func:`read_notebook`.
    """
    return _parsed(path, _raw(path))


def _parsed(path: Path, raw: bytes) -> tuple[Mapping[str, Value], tuple[Cell, ...]]:
    data = _notebook(path, _text(path, raw))
    cells = tuple(_code_cells(path, data))
    return _filled(path, data), cells


def _raw(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        near = sorted(p.name for p in path.parent.glob("*.ipynb")) if path.parent.is_dir() else []
        where = "This folder" if path.parent == Path() else path.parent
        shown = f"{where} has: {', '.join(near[:8])}." if near else "A notebook is a file that ends in .ipynb."
        raise TargetError(f"There is no notebook {path}.{did_you_mean(path.name, near)}", shown) from None
    except IsADirectoryError:
        raise TargetError(f"{path} is a folder, not a notebook.", "Name a file that ends in .ipynb.") from None
    except (OSError, ValueError) as problem:
        why = getattr(problem, "strerror", None) or str(problem)
        raise TargetError(f"{path} cannot be read: {why}.", f"Look at it: ls -l {shlex.quote(str(path))}") from None


def _text(path: Path, raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = raw.count(b"\n", 0, problem.start) + 1
        raise DefinitionError(
            f"{path.name}:{line}: byte {raw[problem.start]:#04x} is not UTF-8, so this is no notebook.",
            "Open it in Jupyter and save it again, or take an older copy.",
            f"{path.name}:{line}",
        ) from None


def _notebook(path: Path, text: str) -> Mapping[str, Value]:
    remedy = "Open it in Jupyter and save it again, or take an older copy (git checkout)."
    try:
        data = json.loads(text)
    except json.JSONDecodeError as problem:
        place = f"{path.name}:{problem.lineno}"
        # A string that never closes is reported where it begins, not at the end of the file.
        cut = not text[problem.pos :].strip() or problem.msg.startswith("Unterminated")
        if not text.strip():
            raise DefinitionError(f"{path.name} is empty, so it is no notebook.", remedy, path.name) from None
        if text.split("\n")[problem.lineno - 1].startswith(("<<<<<<<", "=======", ">>>>>>>")):
            raise DefinitionError(
                f"{place}: a merge conflict stands in the notebook.", "Resolve it first.", place
            ) from None
        if cut and text.lstrip()[0] in "{[":
            raise DefinitionError(f"{place}: the notebook is cut off here ({problem.msg}).", remedy, place) from None
        message = f"{place}: this is not JSON ({problem.msg}), so it is no notebook."
        raise DefinitionError(message, "A notebook's name ends in .ipynb: is it the right file?", place) from None
    except RecursionError:
        raise DefinitionError(f"{path.name} is nested too deep to be a notebook.", remedy, path.name) from None
    except ValueError:
        raise _too_long(path, text) from None
    version = data.get("nbformat") if isinstance(data, dict) else None
    if not isinstance(version, int) or isinstance(version, bool):
        raise DefinitionError(
            f"{path.name} is JSON, but no notebook (it has no 'nbformat').",
            "A notebook's name ends in .ipynb: is it the right file?",
        )
    if version < 4:
        command = _UPGRADE.format(shlex.quote(str(path)))
        raise DefinitionError(f"{path.name} has notebook format {version}, and nbflow reads 4.", command)
    if version > 4:
        message = f"{path.name} has notebook format {version}, and nbflow reads 4."
        raise DefinitionError(message, "Save it as format 4 with the program that wrote it.")
    assert isinstance(data, dict), "only mappings have a version"
    return data


def _too_long(path: Path, text: str) -> DefinitionError:
    """Give the error for a whole number that Python refuses to read, as whatever opens the notebook would."""
    most = sys.get_int_max_str_digits()
    found = re.search(rf"(?<![\w.])-?([0-9]{{{most + 1},}})(?![0-9.eE])", text)
    assert found, "nothing else in JSON is a wrong value"
    place = f"{path.name}:{1 + text.count(chr(10), 0, found.start())}"
    told = (
        f"{place}: the number {found[0][:8]}... has {len(found[1])} digits, and Python reads {most} of a whole number."
    )
    return DefinitionError(told, "Delete it, or write it as text, in quotes.", place)


def _filled(path: Path, data: Mapping[str, Value]) -> dict[str, Value]:
    """Give a notebook whose cells were read with what some programs leave out and whatever runs it needs."""
    cells = data["cells"]
    assert isinstance(cells, list), "they were read"
    filled: list[Any] = [
        {**cell, "metadata": cell.get("metadata", {}), "source": cell.get("source", "")}
        for cell in cells
        if isinstance(cell, dict)
    ]
    metadata = {} if data.get("metadata") is None else data["metadata"]
    if not isinstance(metadata, dict):
        raise DefinitionError(
            f"{path.name}: the notebook's metadata are {metadata!r:.80}, and not a mapping.",
            'Open it in Jupyter and save it again, or write "metadata": {} there.',
        )
    minor = data.get("nbformat_minor", 5 if any("id" in cell for cell in filled) else 4)
    if not isinstance(minor, int) or isinstance(minor, bool):
        raise DefinitionError(
            f"{path.name}: the notebook's 'nbformat_minor' is {minor!r:.80}, and not a whole number.",
            'Write it like this: "nbformat_minor": 4',
        )
    return {**data, "cells": filled, "metadata": metadata, "nbformat_minor": minor}


def _code_cells(path: Path, data: Mapping[str, Value]) -> Iterator[Cell]:
    cells = data.get("cells")
    if not isinstance(cells, list):
        raise DefinitionError(f"{path.name} has no list of cells.", "Open it in Jupyter and save it again.")
    heading, number = "", 0
    for position, cell in enumerate(cells):
        source, tags = _parts(path, cell, position)
        if cell["cell_type"] == "markdown":
            heading = _last_heading(source) or heading
        elif cell["cell_type"] == "code":
            number += 1
            said = frozenset(tags) | frozenset(marks(path, number, source))
            timeout = _timeout(path, number, said)
            yield Cell(number, position, source, said, heading or _first_comment(source), timeout)


def _parts(path: Path, cell: Value, position: int) -> tuple[str, list[str]]:
    """Give source and tags of a raw cell."""
    fine = isinstance(cell, dict) and isinstance(cell.get("cell_type"), str)
    source = cell.get("source", "") if isinstance(cell, dict) else None
    metadata = cell.get("metadata", {}) if isinstance(cell, dict) else None
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        source = "".join(source)
    if not fine or not isinstance(source, str) or not isinstance(metadata, dict):
        raise DefinitionError(
            f"{path.name}: cell {position + 1} of the file is not a cell of a notebook.",
            "Open it in Jupyter and save it again.",
        )
    tags = metadata.get("tags", [])
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        # Jupyter writes lists only, and what runs the cells later takes the letters of a text for tags.
        meant = [tag for tag in (tags if isinstance(tags, list) else [tags]) if isinstance(tag, str)]
        raise DefinitionError(
            f"{path.name}: the tags of cell {position + 1} of the file are {tags!r:.80}, and not a list of texts.",
            f'Write them as a list in the metadata of that cell: "tags": {json.dumps(meant)}',
        )
    return source, [tag for tag in tags if isinstance(tag, str)]


def _kernel(data: Mapping[str, Value]) -> tuple[str, str]:
    """Give language and kernel name; a notebook that names neither is Python's."""
    metadata = data.get("metadata")
    spec = metadata.get("kernelspec") if isinstance(metadata, dict) else None
    info = metadata.get("language_info") if isinstance(metadata, dict) else None
    spec = spec if isinstance(spec, dict) else {}
    info = info if isinstance(info, dict) else {}
    kernel = str(spec.get("name") or "")
    guess = "python" if not kernel or kernel.startswith("python") else ""
    language = str(spec.get("language") or info.get("name") or guess)
    return "python" if language.lower() in ("python", "ipython") else language, kernel


# Tags, and comments that stand for them

_MARK = re.compile(r"#\s*nbflow:\s*(.+)")
_NEARLY = re.compile(r"(#+\s*nbflow(?:\s*:|(?=\s)))(.+)", re.IGNORECASE)
"""A mark, and what may be meant as one."""
WORDS = ("parameters", "results", "raises-exception", "skip-execution", "setup")
PREFIXES = ("step", "needs", "each", "as", "max", "timeout", "retry")
EXAMPLES = ("step:clean", "needs:load", "each:cities", "as:city", "max:4", "timeout:30s", "retry:2")
"""A tag with each of the prefixes."""


def marks(path: Path, number: int, source: str) -> Iterator[str]:
    """Give the tags that a first line ``# nbflow: ...`` stands for; a magic of the cell, ``%%time``, stands above it.

    Raises
    ------
    DefinitionError
        For a line that is nearly one. As a comment it would say nothing, and the cell would go with the step above.
    """
    while around := _AROUND.match(source):
        source = source[around.end() :]
    first = next(iter(source.lstrip().splitlines()), "").strip()
    match = _NEARLY.fullmatch(first)
    words = re.findall(r"[^,\s]+", re.sub(r"\s+=\s*", "=", match[2])) if match else []
    tags = [_mark(word) for word in words]
    if match is None or not words or not _is_meant(words, tags, colon=match[1].endswith(":")):
        return
    wrong = "and a mark begins with '# nbflow:'"
    if _MARK.fullmatch(first):
        for word, tag in zip(words, tags, strict=True):
            if tag != word.replace("=", ":", 1):
                near = f" Did you mean {tag.partition(':')[0]!r}?" if tag else ""
                wrong = f"and {word!r} is no mark.{near}"
                break
            yield tag
        else:
            return
    right = _right(words, tags)
    values = ", ".join(EXAMPLES).replace(":", "=")
    raise DefinitionError(
        f"{path.name}: cell {number} begins with {first!r}, {wrong}",
        (f"Write it like this: # nbflow: {right}\n" if right else "")
        + f"The marks are: {', '.join(WORDS)}, and with a value: {values}.",
    )


def _mark(word: str) -> str:
    """Give the tag that a word of a first line stands for, or nearly does; else nothing.

    Examples
    --------
    >>> _mark("step=load"), _mark("setp=load"), _mark("paramters"), _mark("load")
    ('step:load', 'step:load', 'parameters', '')
    """
    name, sign, value = word.replace("=", ":", 1).partition(":")
    known = PREFIXES if sign else WORDS
    near = [name] if name in (*PREFIXES, *known) else get_close_matches(name, known, n=1, cutoff=0.75)
    return f"{near[0]}{sign}{value}" if near and near[0] in known else ""


def _is_meant(words: Sequence[str], tags: Sequence[str], *, colon: bool) -> bool:
    """Whether a first line is meant as marks, and is no other comment that begins with nbflow."""
    if not colon:
        return all(tags) or ":" in tags[0]
    named = words[0] in PREFIXES and len(words) == 2
    return any(tags) or named or (len(words) == 1 and re.fullmatch(r"[\w-]+", words[0]) is not None)


def _right(words: Sequence[str], tags: Sequence[str]) -> str:
    """Give what a first line should say; nothing where that cannot be told."""
    if not any(tags):
        return "=".join(words) if len(words) == 2 else "" if words[0] in PREFIXES else f"step={words[0]}"
    found: list[str] = []
    for word, tag in zip(words, tags, strict=True):
        if not tag and not (found and found[-1].startswith("needs=")):
            return ""
        found.append(tag.replace(":", "=", 1) or f"needs={word}")
    return ", ".join(found)


def _timeout(path: Path, number: int, tags: Iterable[str]) -> float | None:
    found = sorted(tag for tag in tags if tag.startswith("timeout:"))
    if not found:
        return None
    if len(found) > 1:
        raise DefinitionError(
            f"{path.name}: cell {number} has two time-outs: {', '.join(found)}.",
            f"Keep one: nbflow tag {shlex.quote(str(path))} {number} --remove {found[0]}",
        )
    try:
        return seconds(found[0].partition(":")[2], f"{path.name}: the tag {found[0]!r} of cell {number}")
    except ParameterError as problem:
        raise DefinitionError(problem.message, problem.remedy) from None


def _parameters_cell(path: Path, cells: Sequence[Cell]) -> Cell | None:
    found = [cell for cell in cells if "parameters" in cell.tags]
    if len(found) > 1:
        numbers = " and ".join(str(cell.number) for cell in found)
        last = found[-1]
        remedy = f"Keep one of them:\nnbflow tag {shlex.quote(str(path))} {last.number} --remove parameters"
        if "parameters" in set(marks(path, last.number, last.source)):
            remedy = f"Keep one of them: delete the first line of cell {last.number}."
        raise DefinitionError(f"{path.name}: cells {numbers} are both tagged parameters.", remedy)
    return found[0] if found else None


def _last_heading(markdown: str) -> str:
    heading, fenced = "", False
    for line in markdown.splitlines():
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        match = None if fenced else re.match(r" {0,3}#{1,6}\s+(.*?)\s*#*\s*$", line)
        heading = match[1] if match and match[1] else heading
    return heading


def _first_comment(source: str) -> str:
    for line in source.splitlines():
        text = line.strip().lstrip("#").strip()
        if (
            line.lstrip().startswith("#")
            and text
            and not line.lstrip().startswith("#!")
            and not _MARK.fullmatch(line.strip())
        ):
            return text
    return ""


def _digest(parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


# Python in cells


def syntax_tree(source: str) -> ast.Module:
    """Give the syntax tree of Python source, without a word about its style.

    Raises
    ------
    SyntaxError, ValueError, RecursionError
        If Python cannot read it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # '\\d' in a cell is a warning for its author, not for the reader
        tree = ast.parse(source)
        for statement in tree.body:  # IPython compiles each by itself: return, break ... are told by no tree
            compile(ast.Module([statement], []), "<cell>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    return tree


def cell_tree(source: str) -> ast.Module:
    """Give the syntax tree of a cell; what only IPython understands is left out, and lines keep their numbers.

    Raises
    ------
    SyntaxError, ValueError, RecursionError
        If Python cannot read the rest.
    """
    try:
        return syntax_tree(source)
    except (SyntaxError, ValueError, RecursionError):
        if around := _AROUND.match(source):  # the cell is code all the same
            return cell_tree("\n" * around[0].count("\n") + source[around.end() :])
    tree: ast.Module = _WithoutMagic().visit(ipython_tree(source))
    return tree


_AROUND = re.compile(r"\s*%%(?:time|timeit|capture|prun)\b.*\n?")
"""A first line after which Python follows."""


def ipython_tree(source: str) -> ast.Module:
    """Give the syntax tree of what IPython makes of a cell; lines keep their numbers.

    Raises
    ------
    SyntaxError, ValueError, RecursionError
        If Python cannot read it.
    """
    # Most cells need no IPython, and loading it takes a third of a second.
    manager = importlib.import_module("IPython.core.inputtransformer2").TransformerManager()
    text: str = manager.transform_cell(source)
    lines = _moved(source.splitlines(), text.splitlines())
    try:
        tree = syntax_tree(text)
    except SyntaxError as problem:
        problem.lineno = lines.get(problem.lineno or 1, problem.lineno)
        raise
    for node in ast.walk(tree):
        if hasattr(node, "lineno"):
            node.lineno = lines.get(node.lineno, node.lineno)
    return tree


def _moved(old: Sequence[str], new: Sequence[str]) -> dict[int, int]:
    """Give for lines that IPython moved where they stood."""
    if len(old) == len(new):
        return {}
    found: dict[int, int] = {}
    matcher = SequenceMatcher(None, [one.strip() for one in old], [one.strip() for one in new], autojunk=False)
    for _, start, end, first, last in matcher.get_opcodes():
        blank = next((at for at, one in enumerate(old[start:end]) if one.strip()), 0)  # IPython leaves these out
        found.update({line + 1: start + blank + line - first + 1 for line in range(first, last)})
    return found


class _WithoutMagic(ast.NodeTransformer):
    """Takes out what IPython made of lines of its own; of ``%time`` the code stays."""

    def visit_Expr(self, node: ast.Expr) -> ast.stmt | list[ast.stmt]:
        match node.value:
            case ast.Call(
                func=ast.Attribute(value=ast.Call(func=ast.Name(id="get_ipython")), attr="run_line_magic"),
                args=[ast.Constant(value="time"), ast.Constant(value=str(text))],
            ):
                return syntax_tree("\n" * (node.lineno - 1) + text).body
            case ast.Call(func=ast.Attribute(value=ast.Call(func=ast.Name(id="get_ipython")))):
                return ast.copy_location(ast.Pass(), node)
        return node


def _module(path: Path, cell: Cell) -> ast.Module:
    """Give the syntax tree of a cell, or say where Python cannot read it."""
    try:
        return cell_tree(cell.source)
    except (SyntaxError, ValueError, RecursionError) as problem:
        line = getattr(problem, "lineno", None) or 1
        what = "parameters" if "parameters" in cell.tags else "results"
        place = f"{path.name}: cell {cell.number} ({what}), line {line}"
        message = getattr(problem, "msg", None) or str(problem)
        remedy = f"nbflow reads the names in that cell without running it. Mend line {line} in Jupyter."
        raise DefinitionError(f"{place}: {message}.", remedy, place) from None


_HARMLESS = ("%%time", "%%capture", "%time ", "%matplotlib", "%autoreload", "%config", "%load_ext autoreload", "!", "?")
"""Beginnings of lines of IPython that give no name."""
_OPAQUE = frozenset(("exec", "eval", "globals", "locals", "vars", "setattr", "glue", "record"))
"""Functions that may give names which the syntax tree does not show."""


def assigned(notebook: Notebook) -> frozenset[str] | None:
    """Give all names that the cells of a notebook may assign; nothing where that cannot be told."""
    if notebook.language != "python":
        return None
    names: set[str] = set()
    for cell in notebook.cells:
        lines = cell.source.splitlines()
        if "get_ipython" in cell.source or any(
            line.strip().startswith(("%", "?")) and not line.strip().startswith(_HARMLESS) for line in lines
        ):
            return None
        try:
            tree = _module(notebook.path, cell)
        except DefinitionError:
            return None
        found = set(_given(tree))
        if found & {"*", ""}:
            return None
        names |= found
    return frozenset(names)


def _given(tree: ast.AST) -> Iterator[str]:
    """Give the names that a piece of Python may give; an empty one where there may be others."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Load()) | ast.Attribute(attr=name) if name in _OPAQUE:
                yield ""
            case _:
                yield from names_given([node])


def names_given(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Give the names that nodes bind or delete, each by itself."""
    for node in nodes:
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.ExceptHandler(name=str(name)):
                yield name
            case ast.NamedExpr(target=ast.Name(id=name)) | ast.alias(asname=str(name)):
                yield name
            case ast.alias(name=name):
                yield name.partition(".")[0]
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                yield name


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Give the statements of a module and of its ifs, loops and so on; not those of functions and classes."""
    for statement in body:
        yield statement
        if not isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            for part in ("body", "orelse", "finalbody"):
                yield from _statements(getattr(statement, part, ()))
            for handler in getattr(statement, "handlers", ()):
                yield from _statements(handler.body)


def _targets(statement: ast.stmt) -> list[str]:
    """Give the names that an assignment assigns, in order."""
    match statement:
        case ast.Assign(targets=targets):
            found = list(targets)
        case ast.AnnAssign(target=target, value=ast.expr()) | ast.AugAssign(target=target):
            found = [target]
        case _:
            return []
    return [n.id for t in found for n in ast.walk(t) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]


def _results(modules: Iterable[ast.Module]) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for module in modules:
        for statement in _statements(module.body):
            found = _targets(statement)
            if isinstance(statement, ast.Expr):
                found = _shown(statement.value)
            names.update(dict.fromkeys(name for name in found if not name.startswith("_")))
            for target in statement.targets if isinstance(statement, ast.Delete) else ():
                names.pop(target.id if isinstance(target, ast.Name) else "", None)
    return tuple(names)


def nameless(notebook: Notebook) -> list[int]:
    """Give the numbers of the cells tagged ``results`` that show what has no name, so that it is no result."""
    found = []
    for cell in notebook.cells:
        if cell.number not in notebook.results_cells:
            continue
        module = _module(notebook.path, cell)
        match module.body:
            case [*_, ast.Expr(value=ast.Tuple(elts=parts))]:
                lost = not all(isinstance(part, ast.Name) for part in parts)
            case [*_, ast.Expr(value=ast.Name())]:
                lost = False
            case [*_, ast.Expr()]:
                lost = not _results([module])
            case _:
                lost = False
        found += [cell.number] if lost else []
    return found


def _shown(expression: ast.expr) -> list[str]:
    """Give the names of a line that is a bare name, or a tuple with some."""
    parts = expression.elts if isinstance(expression, ast.Tuple) else [expression]
    return [part.id for part in parts if isinstance(part, ast.Name)]


def _parameters(module: ast.Module) -> tuple[Parameter, ...]:
    found: dict[str, Parameter] = {}
    for statement in _statements(module.body):
        match statement:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=note, value=value):
                found[name] = _parameter(name, value, found, note)
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    for name, part in _unpacked(target, value):
                        found[name] = _parameter(name, part, found, None, found.get(name))
            case ast.AugAssign(target=ast.Name(id=name), value=value):
                text = found[name].default_text if name in found else name
                from_names = _reads(value, found) + (found[name].computed_from if name in found else ())
                found[name] = Parameter(name, default_text=text, computed_from=tuple(dict.fromkeys(from_names)))
            case ast.Delete(targets=targets):
                for target in targets:
                    found.pop(target.id if isinstance(target, ast.Name) else "", None)
    return tuple(found.values())


def _without_defaults(source: str, names: Collection[str]) -> str:
    """Give the statements of a cell of parameters but those that give some a default; what the cell reads itself stays.

    Examples
    --------
    >>> _without_defaults("n = 5  # models\\nm = 2\\nhalf = m / 2", ["n", "m"])
    'm = 2\\nhalf = m / 2'
    """
    if not names:
        return source
    try:
        body = syntax_tree(source).body
    except (SyntaxError, ValueError, RecursionError):
        return source  # it has magics, and where a default stands among them is not known
    if not all(map(_is_simple, body)):
        return source  # a function, say, may read the default
    loaded = {
        node.id
        for one in body
        for node in ast.walk(one)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    rest = (statement for statement in body if _defaulted(statement) not in {*names} - loaded)
    return "\n".join(ast.get_source_segment(source, statement) or "" for statement in rest)


def _defaulted(statement: ast.stmt) -> str:
    """Give the name that a statement gives a plain value; nothing if it does something else."""
    match statement:
        case (
            ast.Assign(targets=[ast.Name(id=name)], value=value)
            | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
        ) if _counts_by_value(value):
            return name
    return ""


def _is_simple(statement: ast.stmt) -> bool:
    """Whether a statement imports, or assigns without a call: it reads no name but those that stand in it."""
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    kinds = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign)
    return isinstance(statement, kinds) and not any(isinstance(node, ast.Call) for node in ast.walk(statement))


def _counts_by_value(value: ast.expr) -> bool:
    """Whether it is a value of which its digest as a parameter tells all: the order of a dict it does not tell."""
    try:
        ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return not any(isinstance(node, (ast.Dict, ast.Set)) for node in ast.walk(value))


def _unpacked(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    """Give names with their values: ``a, b = 1, 2`` is two of them."""
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, (ast.Tuple, ast.List)):
        parts = value.elts if isinstance(value, (ast.Tuple, ast.List)) else []
        aligned = len(parts) == len(target.elts) and not any(isinstance(e, ast.Starred) for e in [*parts, *target.elts])
        for at, element in enumerate(target.elts):
            inner = element.value if isinstance(element, ast.Starred) else element
            yield from _unpacked(inner, parts[at] if aligned else ast.Subscript(value, ast.Constant(at), ast.Load()))


def _reads(value: ast.expr, known: Mapping[str, Parameter]) -> tuple[str, ...]:
    """Give the parameters that an expression is computed from, directly or by way of others."""
    names: dict[str, None] = {}
    for node in ast.walk(value):
        if isinstance(node, ast.Name) and node.id in known:
            names.update(dict.fromkeys((node.id, *known[node.id].computed_from)))
    return tuple(names)


def _parameter(
    name: str,
    value: ast.expr | None,
    known: Mapping[str, Parameter],
    annotation: ast.expr | None,
    before: Parameter | None = None,
) -> Parameter:
    noted = _annotated(annotation) if annotation else before.type if before and before.annotation else None
    note = ast.unparse(annotation) if annotation else before.annotation if before else ""
    if value is None:
        return Parameter(name, note, type=noted or ANY)
    text = ast.unparse(value)
    try:
        default = argument(ast.literal_eval(value))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError, NotAValueError):
        return Parameter(name, note, None, text, noted or ANY, _reads(value, known))
    if noted is None:
        kind = "none" if default is None else type(default).__name__
        return Parameter(name, note, default, text, ANY if kind == "none" else Type((kind,)))
    if default is None and noted.kinds and "none" not in noted.kinds:
        noted = Type(
            (*noted.kinds, "none"),
            strict=True,
            choices=(*noted.choices, None) if noted.choices else (),
            item=noted.item,
        )
    return Parameter(name, note, default, text, noted)


_KINDS = {
    **dict.fromkeys(
        (
            "str",
            "Text",
            "AnyStr",
            "LiteralString",
            "Path",
            "PathLike",
            "date",
            "datetime",
            "time",
            "timedelta",
        ),
        "str",
    ),
    **dict.fromkeys(("int", "Integral"), "int"),
    **dict.fromkeys(("float", "Real", "Number"), "float"),
    "bool": "bool",
    **dict.fromkeys(
        ("list", "List", "tuple", "Tuple", "Sequence", "Iterable", "Collection", "MutableSequence"), "list"
    ),
    **dict.fromkeys(("dict", "Dict", "Mapping", "MutableMapping"), "dict"),
    "None": "none",
}


def _annotated(note: ast.expr) -> Type:
    """Give the type of an annotation; what it does not know takes everything."""
    match note:
        case ast.Constant(value=None):
            return Type(("none",), strict=True)
        case ast.Constant(value=str(text)):
            try:
                return _annotated(ast.parse(text, mode="eval").body)
            except (SyntaxError, ValueError):
                return ANY
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return Type((_KINDS[name],), strict=True) if name in _KINDS else ANY
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _either([_annotated(left), _annotated(right)])
        case ast.Subscript(value=ast.Name(id=name) | ast.Attribute(attr=name), slice=inside):
            parts = inside.elts if isinstance(inside, ast.Tuple) else [inside]
            return _generic(name, parts)
    return ANY


def _generic(name: str, parts: Sequence[ast.expr]) -> Type:
    match name:
        case "Optional":
            return _either([_annotated(parts[0]), Type(("none",), strict=True)])
        case "Union":
            return _either([_annotated(part) for part in parts])
        case "Annotated" | "Final" | "ClassVar":
            return _annotated(parts[0])
        case "Literal":
            try:
                choices = tuple(ast.literal_eval(part) for part in parts)
            except ValueError:
                return ANY
            kinds = dict.fromkeys("none" if c is None else type(c).__name__ for c in choices)
            return Type(tuple(kinds), strict=True, choices=choices)
    kind = _KINDS.get(name)
    if kind == "list" and name.lower() != "tuple":
        return Type(("list",), strict=True, item=_annotated(parts[0]))
    if kind == "dict" and len(parts) == 2:
        return Type(("dict",), strict=True, item=_annotated(parts[1]))
    return Type((kind,), strict=True) if kind else ANY


def _either(types: Sequence[Type]) -> Type:
    """Give the type that takes what any of these takes."""
    if not all(t.kinds for t in types):
        return ANY
    kinds = tuple(dict.fromkeys(kind for t in types for kind in t.kinds))
    named = [t for t in types if t.kinds != ("none",)]
    if len(named) == 1:
        choices = (*named[0].choices, None) if named[0].choices else ()
        return Type(kinds, strict=True, choices=choices, item=named[0].item)
    every = all(t.choices for t in named)
    return Type(kinds, strict=True, choices=tuple(c for t in types for c in t.choices or (None,)) if every else ())
