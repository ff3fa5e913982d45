"""Copies of finished notebooks in a folder of the user's choice, under names of the user's choice."""

from __future__ import annotations

import filecmp
import json
import os
import re
import string
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePath

from ..errors import ParameterError, StoreError, did_you_mean
from ..files import write_atomically
from ..outcome import Outcome
from ..store.home import writable
from ..store.names import slug
from ..task import Context, Runner, Task
from ..values import Value
from .definition import MapDefinition

WIDEST = 255
"""Characters by which a field may be filled up; the file systems of our days have no longer names."""


def names(definition: MapDefinition, folder: Path | None = None) -> list[PurePath]:
    """Give the file names of all items in the output folder.

    Parameters
    ----------
    definition : MapDefinition
        Its ``name`` is a template such as ``{city}-{year}``; without one, index and label are the name.
    folder : Path, optional
        The notebook's, before a start: then what stands under these names already is looked at, too.

    Raises
    ------
    ParameterError
        If two items would have one name, a name leaves the folder, or a copy would be written over something else
        than an earlier copy.
    """
    found = _names(definition)
    for index, path in enumerate(found):
        _check_place(definition, index, path, folder)
    return found


def _names(definition: MapDefinition) -> list[PurePath]:
    template = definition.name
    if template is None:
        values = (label(definition, i) for i in range(len(definition.items)))
        return [PurePath(f"{i}_{slug(text)}.ipynb") for i, text in enumerate(values)]
    _check(template, definition)
    found: list[PurePath] = []
    owners: dict[str, int] = {}
    for index in range(len(definition.items)):
        path = _filled(template, definition, index)
        owner = owners.setdefault(str(path).casefold(), index)  # on some file systems Oslo and oslo are one
        if owner != index:
            both = f"{definition.label(owner)} and {definition.label(index)}"
            raise ParameterError(
                f"--name {template!r}: {both} would both be {path}",
                f"Put what tells them apart into it, or the index: --name '{template}-{{index}}'",
            )
        found.append(path)
    return found


def _filled(template: str, definition: MapDefinition, index: int) -> PurePath:
    """Give the name of one item; the index is a number, so that ``{index:03}`` can be written."""
    words: dict[str, str | int] = {n: slug(_text(value)) for n, value in definition.parameters(index).items()}
    try:
        path = PurePath(_Filler().vformat(template, (), {**words, "index": index}))
    except ValueError as problem:
        raise ParameterError(
            f"--name {template!r}: {problem}",
            "Write only names in braces: --name '{city}'; the index also as {index:03}.",
        ) from None
    except KeyError as problem:
        raise ParameterError(
            f"--name {template!r}: {_called(definition, index)} has no value for {problem.args[0]!r}",
            "Give it one, or leave the parameter out of --name.",
        ) from None
    _check_path(path, template)
    return path.with_name(path.name.removesuffix(".ipynb") + ".ipynb")


class _Filler(string.Formatter):
    """Fills a template; a width that takes all memory is refused before anything is made of it."""

    def format_field(self, value: object, format_spec: str) -> str:
        """Give one field."""
        for number in re.findall(r"\d+", format_spec):
            if len(number) > 9 or int(number) > WIDEST:
                raise ValueError(f"{number!r:.20} is wider than the name of a file can be")
        return str(super().format_field(value, format_spec))


def label(definition: MapDefinition, index: int) -> str:
    """Give the values by which an item is called."""
    item = definition.items[index]
    return " ".join(_text(item[name]) for name in definition.varying if name in item)


def _called(definition: MapDefinition, index: int) -> str:
    """Give what messages call an item."""
    name = definition.label(index)
    return name if name == f"item {index}" else f"{name} (item {index})"


def _check_place(definition: MapDefinition, index: int, path: PurePath, folder: Path | None) -> None:
    """Refuse a place where the notebook itself stands, or a file that is no earlier copy of it."""
    assert definition.output_dir is not None
    place = PurePath(definition.output_dir, path)
    option = "--output-dir" if definition.name is None else f"--name {definition.name!r}"
    itself = os.path.normpath(place).casefold() == definition.notebook.casefold()  # Oslo and oslo, as above
    target = None if folder is None else folder / place
    if folder is not None and target is not None and target.is_file():
        itself = itself or target.samefile(folder / definition.notebook)
    if itself:
        raise ParameterError(
            f"{option}: {_called(definition, index)} would be written over {definition.notebook} itself",
            "Put the copies into a folder of their own, or call them otherwise: --output-dir DIR, --name TEMPLATE",
        )
    if target is not None and target.is_file() and _notebook_of(target) != definition.notebook:
        raise ParameterError(
            f"{option}: {_called(definition, index)}: {target} is there already, and is no copy of this notebook's",
            "Move it away, or put the copies elsewhere: --output-dir DIR",
        )


def _notebook_of(copy: Path) -> str | None:
    """Give the notebook that a finished notebook was made of; ``None`` for what none of our runs wrote."""
    try:
        written = json.loads(copy.read_bytes())["metadata"]["papermill"]
        return str(written["input_path"]) if written["output_path"] else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _text(value: Value) -> str:
    return value if isinstance(value, str) else str(value)


def _check(template: str, definition: MapDefinition) -> None:
    known = list(dict.fromkeys(["index", *definition.shared, *(name for item in definition.items for name in item)]))
    try:
        fields = list(_fields(template))
    except ValueError as problem:
        raise ParameterError(f"--name {template!r}: {problem}", "Write names in braces: --name '{city}'") from None
    for name in fields:
        if name not in known:
            raise ParameterError(
                f"--name {template!r}: {name!r} is no parameter of these items.{did_you_mean(name, known)}",
                f"There are: {', '.join(known)}.",
            )
    _check_path(PurePath(template), template)


def _fields(template: str) -> Iterator[str]:
    """Give the names in braces, those in a format too: ``{city:{width}}``."""
    for _, name, form, _ in string.Formatter().parse(template):
        if name is not None:
            yield name
            yield from _fields(form or "")


def _check_path(path: PurePath, template: str) -> None:
    """Refuse what is no name, or one outside of the folder: a template that looks well may become one when filled."""
    if not _possible(path):
        raise ParameterError(
            f"--name {template!r} cannot be the name of a file", "Write names in braces, and letters: --name '{city}'"
        )
    if not str(path).strip("/. "):
        raise ParameterError(f"--name {template!r} names nothing", "Write names in braces: --name '{city}'")
    if path.is_absolute() or ".." in path.parts:
        raise ParameterError(
            f"--name {template!r} leaves the output folder", "Give the folder with --output-dir, and a name in it."
        )


def _possible(path: PurePath) -> bool:
    """Whether a file can be called so; the system would say it after the item is done."""
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:  # half a character
        return False


class Copying:
    """Runs a task and copies its finished notebook. Shared by all threads; keeps nothing.

    Parameters
    ----------
    runner : Runner
        Runs the task.
    targets : mapping of int to Path
        Where the notebook of each item goes, by index.
    """

    def __init__(self, runner: Runner, targets: Mapping[int, Path]) -> None:
        self._runner = runner
        self._targets = targets

    def __call__(self, task: Task, context: Context) -> Outcome:
        """Run the task; a completed one has its copy in place when it ends."""
        outcome = self._runner(task, context)
        if outcome.status == "completed" and outcome.notebook is not None and task.index is not None:
            problems = copy(context.places.folder / outcome.notebook, self._targets[task.index])
            return replace(outcome, warnings=(*outcome.warnings, *problems))
        return outcome


def copy(notebook: Path, target: Path) -> list[str]:
    """Copy a finished notebook, and give a warning if that cannot be: the item is done all the same.

    What stands there is compared by its content: another item may have been copied under that name before. What is
    no copy stays: it came there after the start.
    """
    try:
        if not notebook.exists():
            return [] if target.exists() else [f"{target}: cannot be copied, for {notebook} is gone"]
        if not target.is_file() or not filecmp.cmp(notebook, target, shallow=False):
            if target.is_file() and _notebook_of(target) != _notebook_of(notebook):
                return [f"{target}: is there already and is no copy of this notebook's, so it stays as it is"]
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(target, notebook.read_bytes())
    except OSError as problem:
        return [f"{target}: the notebook could not be copied there ({problem.strerror or problem})"]
    return []


def check_folder(folder: Path) -> None:
    """Check that copies could be written, and make nothing.

    Raises
    ------
    StoreError
        If something else stands there, or nothing may be written there.
    """
    if not _possible(folder):
        raise StoreError(f"{str(folder)!r} cannot be the name of a folder", "Name another: --output-dir DIR")
    here = next(part for part in (folder, *folder.parents) if os.path.lexists(part))
    if not here.is_dir():
        raise StoreError(
            f"{here}: is a file, and notebooks are to go into a folder of that name", "Name another: --output-dir DIR"
        )
    if not writable(here):
        raise StoreError(f"{here}: cannot be written, and notebooks are to go there", "Name another: --output-dir DIR")
