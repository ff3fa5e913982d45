"""Names on disk: harmless, readable, never taken twice."""

from __future__ import annotations

import os
import re
import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbflow.errors import TargetError
from nbflow.steps import CallStep, NotebookStep
from nbflow.store.names import LONGEST, Namer, check_run_id, file_stem, new_run_id, slug
from nbflow.task import Places, Task

NOTEBOOK = NotebookStep(id="fit", path="train.ipynb")


def task(
    label: str = "city=Cairo", index: int | None = 16, fingerprint: str = "0123ab.4567cd.-", step=NOTEBOOK
) -> Task:
    """Give an attempt at an item."""
    return Task((f"map:fit:{index}",), "key", step, {}, 1, label, index, fingerprint)


def files(places: Places) -> list[Path]:
    """Give all that an attempt may write."""
    return [places.notebook, places.failed, places.log, places.artifacts, places.item]


@given(st.text(max_size=200))
def test_any_text_gives_a_harmless_file_name(text):
    """No path, no hidden file, no option, no control character, no name that Windows keeps, not too long."""
    name = slug(text)
    assert name
    assert len(name.encode("utf-8")) <= LONGEST
    assert not set('/\\:*?"<>|\0 ') & set(name)
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp", "Zs") for c in name)
    assert ".." not in name
    assert re.match(r"[^.-]|-[0-9]", name), "neither hidden nor an option; a number keeps its sign"
    assert name[-1] not in ".-"
    assert name.partition(".")[0].lower() not in {"con", "nul", "com1", "lpt9", "com²"}
    assert slug(name) == name


NAMES = {
    "Cairo": "Cairo",
    "São Paulo": "São-Paulo",
    "Sa\u0303o": "São",
    "दिल्ली": "दिल्ली",
    "a/b\\c:d": "a-b-c-d",
    "../../etc/passwd": "etc-passwd",
    "..": "item",
    "": "item",
    "\x1b[31mred\x07": "31mred",
    "-rf": "rf",
    ".hidden": "hidden",
    "con": "con_",
    "LPT1.txt": "LPT1.txt_",
    "COM²": "COM²_",
    "{'a': 1}": "a-1",
    "0.5": "0.5",
    "-1.0": "-1.0",
    "-1.0 -2.0": "-1.0--2.0",
    "-1.0 2.0": "-1.0-2.0",
    "2026-11-23": "2026-11-23",
    "--1": "-1",
    "- 1": "1",
    "\ud800": "item",
    "x" * 300: "x" * 100,
    "é" * 60: "é" * 50,
    "漢" * 60: "漢" * 33,
}


@pytest.mark.parametrize(("text", "name"), NAMES.items(), ids=[ascii(text)[:20] for text in NAMES])
def test_a_label_is_still_read_in_its_file_name(text, name):
    """As people write it, where that does no harm."""
    assert name == slug(text)


STEMS = {
    "city=Cairo": "16_Cairo",
    "city=Cairo year=2026": "16_Cairo_2026",
    "city=New York year=2026": "16_New-York_2026",
    "New York": "16_New-York",
    "formula=a=b": "16_a=b",
    "lat=-1.0": "16_-1.0",
    "lat=-1.0 lon=-2.5": "16_-1.0_-2.5",
    "city=": "16_item",
    "": "16_item",
}


@pytest.mark.parametrize(("label", "stem"), STEMS.items())
def test_an_items_file_is_called_by_its_index_and_its_values(label, stem):
    """As in the picture of a run."""
    assert stem == file_stem(16, label)


def test_a_step_outside_fan_outs_is_called_by_its_id():
    """There is no index."""
    assert file_stem(None, "load") == "load"


def test_run_ids_sort_by_time():
    """Also within one second, on the clock of the wall."""
    noon = time.mktime((2026, 11, 23, 12, 0, 0, 0, 0, -1))
    times = [noon + step for step in (0.0, 0.001, 0.5, 0.9999, 1.0, 59.0, 60.0, 3600.0, 86400.0)]
    ids = [new_run_id(moment) for moment in times]
    assert sorted(set(ids)) == ids
    assert [check_run_id(one) for one in ids] == ids
    assert ids[0] == "20261123-120000-0000"


@pytest.mark.parametrize(
    "text", ["", "..", "../x", "20261123-0301-7f3a/..", "20261123-030112-7f3a\n", "20261123", "/etc"]
)
def test_what_is_no_run_id_never_becomes_a_path(text):
    """It is refused in one line."""
    with pytest.raises(TargetError) as caught:
        check_run_id(text)
    assert "\n" not in caught.value.message


def test_an_attempt_gets_the_files_of_its_item(tmp_path):
    """All in the run folder; none is made yet."""
    places = Namer(tmp_path).places(task())
    names = ["16_Cairo.ipynb", "16_Cairo.failed.ipynb", "logs/16_Cairo.log", "artifacts/16_Cairo", "items/16_Cairo"]
    assert [tmp_path / name for name in names] == files(places)
    assert tmp_path == places.folder
    assert [] == list(tmp_path.iterdir())


def test_no_two_attempts_of_a_run_share_a_file(tmp_path):
    """Items of several steps, attempts and twins get some digits behind the name."""
    namer = Namer(tmp_path)
    given_out = [namer.places(task()) for _ in range(3)] + [namer.places(task(fingerprint="0123ab.4567ce.-"))]
    assert ["16_Cairo", "16_Cairo-4567cd", "16_Cairo-4567cd-2", "16_Cairo-4567ce"] == [p.item.name for p in given_out]
    assert 20 == len({file for places in given_out for file in files(places)})


@pytest.mark.parametrize("number", range(5))
def test_what_an_earlier_epoch_left_is_never_overwritten(tmp_path, number):
    """Whichever of an attempt's files it is, and be it a link to nowhere."""
    left = files(Namer(tmp_path).places(task()))[number]
    left.parent.mkdir(exist_ok=True)
    left.symlink_to(tmp_path / "nowhere")
    again = files(Namer(tmp_path).places(task()))
    assert not [file for file in again if os.path.lexists(file)]
    assert again[0].name == "16_Cairo-4567cd.ipynb"


def test_names_that_some_disks_take_for_one_are_kept_apart(tmp_path):
    """On macOS and Windows Fit.ipynb and fit.ipynb are one file."""
    namer = Namer(tmp_path)
    first, second = namer.places(task("Fit", None)), namer.places(task("fit", None))
    assert first.notebook.name.lower() != second.notebook.name.lower()


def test_a_call_of_a_function_costs_no_names(tmp_path):
    """A hundred thousand of them share places that nobody makes."""
    namer, call = Namer(tmp_path), CallStep(id="score", function="m:f")
    assert namer.places(task(index=1, step=call)) is namer.places(task(index=2, step=call))
