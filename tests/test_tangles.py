"""Steps whose names are tangled give what plain Python gives: in a first run, and resumed after an edit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import nbformat
import pytest

import nbflow
from nbflow.errors import DefinitionError
from tests.tangles import ARRAYS, LISTS, OBJECTS, Language, Tangle, Tangler


def check(seed: int, folder: Path, *, language: Language = LISTS, branches: bool = False) -> list[str]:
    """Compare a run, and its resume after an edit, with plain Python; gives what was refused."""
    tangler = Tangler(Random(seed), language, branches=branches)
    first = tangler.tangle()
    second = tangler.edited(first)
    path = folder / str(seed) / "tangle.ipynb"
    path.parent.mkdir()
    refused = compared(first, path, nbflow.run, f"seed {seed}, first run of")
    begun = path.with_name("nbflow-runs").is_dir()
    resume = partial(nbflow.resume, changed="rerun") if begun else nbflow.run
    return refused + compared(second, path, resume, f"seed {seed}, edited from\n{first}\nto")


def compared(tangle: Tangle, path: Path, begin: Callable[..., Any], what: str) -> list[str]:
    """Compare what the steps of a run show with what is meant; gives what was refused.

    Where it depends on the order of steps that do not wait for each other what is meant, nothing is told.
    """
    nbformat.write(tangle.notebook(), path)
    try:
        run = begin(path, quiet=True)
    except DefinitionError as problem:
        if any(map(tangle.is_torn, range(len(tangle.parts)))):
            return [problem.message]
        raise AssertionError(f"{what}\n{tangle}") from problem
    executed = next(run.folder.glob("*.executed.ipynb"))
    shown = {cell.id: cell.outputs for cell in nbformat.read(executed, 4).cells if cell.cell_type == "code"}
    refused = []
    for place, part in enumerate(tangle.parts):
        ended = run[part.id]
        if ended.status == "failed":
            is_refused = ended.error.exception == "NameError" or "is not restored: " in ended.error.message
            may_be = is_refused and tangle.is_torn(place)
            assert may_be, f"{what}\n{tangle}\n{part.id} failed: {ended.error}"
            refused.append(part.id)
        elif ended.status == "completed":
            text = "".join(out.text for out in shown[part.id] if out.output_type == "stream").strip()
            first, *others = sorted(tangle.meant[part.id])
            assert others or text == first, f"{what}\n{tangle}\n{part.id} shows {text}, not {first}"
    return refused


LANGUAGES = {"lists": LISTS, "objects": OBJECTS, "arrays": ARRAYS}


def check_all(seeds: Iterable[int], folder: Path, **more: Any) -> int:
    """Check some notebooks; gives how many were refused, at least in part."""
    return sum(bool(check(seed, folder, **more)) for seed in seeds)


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=LANGUAGES)
def test_some_tangled_steps_below_each_other_are_as_in_plain_python(language, tmp_path):
    """And so they are after an edit, whatever is kept."""
    assert 0 == check_all(range(3), tmp_path, language=language)


@pytest.mark.long
@pytest.mark.parametrize("start", range(100, 200, 20))
@pytest.mark.parametrize("language", LANGUAGES.values(), ids=LANGUAGES)
def test_many_tangled_steps_below_each_other_are_as_in_plain_python(language, start, tmp_path):
    """Those of other seeds."""
    assert 0 == check_all(range(start, start + 20), tmp_path, language=language)


@pytest.mark.long
@pytest.mark.parametrize("start", range(1000, 1060, 20))
@pytest.mark.parametrize("language", LANGUAGES.values(), ids=LANGUAGES)
def test_many_tangled_steps_side_by_side_are_as_in_plain_python(language, start, tmp_path):
    """Or are refused: where steps that do not wait for each other have changed the same."""
    assert 3 >= check_all(range(start, start + 20), tmp_path, language=language, branches=True)
