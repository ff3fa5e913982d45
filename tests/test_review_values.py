"""Values, names, paths and secrets at the edges: what a review found, so that it stays mended."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nbflow
from nbflow.api.definition import MapDefinition, find_item
from nbflow.api.words import map_words
from nbflow.cli import look
from nbflow.engine.recorded import Recorded
from nbflow.errors import ParameterError, StoreError, TargetError
from nbflow.events import AttemptFailed, NodeFinished, NodeStarted, RunStarted
from nbflow.loading.items import build_items, from_command_line
from nbflow.masking import MASK, Masker
from nbflow.model import retries
from nbflow.notebooks.results import mask_saved
from nbflow.outcome import Failure, Outcome
from nbflow.source import read_notebook
from nbflow.store.journal import read_journal, records
from nbflow.testing import FakeStep, Simulated, simulate, workflow
from nbflow.testing import records as left_behind

SECRET = "correct-horse-battery"
MakeNotebook = Callable[..., Path]

_WORDS: dict[str, Any] = {
    "items": None,
    "grid": (),
    "zip": (),
    "parameters": (),
    "columns": None,
    "jobs": 1,
    "kernel": None,
    "output": None,
    "output_dir": None,
    "name": None,
    "cwd": "notebook",
    "timeout": None,
    "retry": 0,
    "fail_fast": False,
    "max_failures": None,
    "secret": (),
    "changed": "ask",
    "again": False,
    "state_dir": None,
}


def words(notebook: str, **given: Any) -> MapDefinition:
    """Give what the command line makes of these options; nothing is started."""
    return map_words(notebook, **{**_WORDS, **given}).definition


def definition(items: list[dict[str, Any]], varying: tuple[str, ...]) -> MapDefinition:
    """Give a map over these items."""
    return MapDefinition(
        notebook="n.ipynb",
        items=items,
        shared={},
        varying=varying,
        source="",
        cells=(),
        kernel="python3",
        max_concurrency=1,
    )


# Definitions and names of items


@pytest.mark.parametrize("data", [[], "x", None, 3])
def test_a_definition_that_is_no_mapping_is_refused_with_its_file(data: Any) -> None:
    """A damaged workflow.json is one line with its place, not a traceback."""
    with pytest.raises(StoreError, match=r"^/runs/workflow\.json: "):
        MapDefinition.read(data, Path("/runs/workflow.json"))


@pytest.mark.parametrize("part", [{"items": [1, 2]}, {"items": {"n": 1}}, {"items": None}, {"shared": [1]}])
def test_a_definition_with_other_items_than_mappings_is_refused_with_its_file(part: dict[str, Any]) -> None:
    """Items are a list of mappings, whatever somebody wrote into the file."""
    data = {**definition([{"n": 1}], ("n",)).data(), **part}
    with pytest.raises(StoreError, match=r"^/runs/workflow\.json: "):
        MapDefinition.read(data, Path("/runs/workflow.json"))


@pytest.mark.parametrize("text", ["[]", '"x"', "null"])
def test_status_of_a_run_with_a_damaged_definition_names_the_file(
    notebook: MakeNotebook, folder: Path, text: str
) -> None:
    """The same through the front door."""
    run = folder / "nbflow-runs" / "work.ipynb" / "20261123-120000-abcd"
    run.mkdir(parents=True)
    notebook()
    (run / "workflow.json").write_text(text)
    with pytest.raises(StoreError, match=r"workflow\.json: "):
        nbflow.status(str(run)).outcomes  # noqa: B018 - reading it is the test


def test_an_item_is_found_by_the_name_that_people_see() -> None:
    """A value with a space in it is part of the name, alone and beside others."""
    cities = definition([{"city": "New York"}, {"city": "Oslo"}, {"city": "New"}], ("city",))
    assert 0 == find_item(cities, "city=New York")
    both = definition([{"city": "New York", "depth": 1}, {"city": "New York", "depth": 2}], ("city", "depth"))
    assert 1 == find_item(both, "city=New York depth=2")
    assert 1 == find_item(both, "depth=2 city=New York")


@pytest.mark.parametrize("text", ["", "  "])
def test_no_name_is_no_item(text: str) -> None:
    """Nothing named would fit every item, also where there is only one."""
    with pytest.raises(TargetError, match="no item"):
        find_item(definition([{"city": "Oslo"}], ("city",)), text)


# Values and words


def test_a_number_too_large_to_be_written_is_refused_by_the_name_of_its_parameter(notebook: MakeNotebook) -> None:
    """Python refuses to write so many digits; whoever gave them learns where."""
    huge = 2**20000
    found = read_notebook(notebook())
    given: list[dict[str, Any]] = [
        {"grid": {"n": [1, huge]}},
        {"grid": {"n": [[1, huge]]}},
        {"grid": {"n": huge}},
        {"items": [{"n": huge}]},
        {"items": [huge]},
        {"parameters": {"n": huge}},
    ]
    for one in given:
        with pytest.raises(ParameterError, match=r"\bn\b"):
            build_items(found, **one)
    with pytest.raises(ParameterError, match=r"\bn\b"):
        from_command_line(found, parameters=["n=0x" + "f" * 5000])


@pytest.mark.parametrize("value", [2**20000, [2**20000]], ids=["number", "list"])
def test_a_number_too_large_is_refused_where_it_is_no_item(notebook: MakeNotebook, value: Any) -> None:
    """Messages that show what was given can show also this."""
    found = read_notebook(notebook(parameters="a = 0\nb = 0"))
    with pytest.raises(ParameterError, match=r"^item"):
        build_items(found, items=value)


@pytest.mark.parametrize("name", ["a b", "class", "1st", "", "rmse "])
def test_a_result_that_can_be_no_name_is_refused_at_the_start(notebook: MakeNotebook, name: str) -> None:
    """It would only be missed when the first item has run to its end."""
    with pytest.raises(ParameterError, match="--output"):
        nbflow.map(notebook(), [1], output=[name], dry_run=True)


@pytest.mark.parametrize("option", ["kernel", "cwd", "output_dir", "output"])
def test_an_option_that_is_given_empty_is_refused(notebook: MakeNotebook, option: str) -> None:
    """An unset shell variable is a mistake, not a wish for the default."""
    notebook()
    with pytest.raises(ParameterError, match=f"--{option.replace('_', '-')}"):
        words("work.ipynb", grid=["n=1"], **{option: ""})
    with pytest.raises(ParameterError, match=f"--{option.replace('_', '-')}"):
        nbflow.map("work.ipynb", [1], dry_run=True, **{option: ""})


# Paths


def test_folders_are_relative_to_the_working_directory_in_both_languages(
    notebook: MakeNotebook, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence means one folder; what is stored moves with the notebook."""
    notebook(name="sub/work.ipynb")
    (folder / "data").mkdir()
    (folder / "sub" / "data").mkdir()
    request = _request_of_map(monkeypatch)
    for output_dir, cwd, stored in [
        ("out", "data", ("../out", "../data")),
        ("sub/out", "sub/data", ("out", "data")),
        (str(folder / "sub" / "out"), str(folder / "sub" / "data"), ("out", "data")),
        ("/tmp", "/tmp", ("/tmp", "/tmp")),
    ]:
        from_words = words("sub/work.ipynb", grid=["n=1"], output_dir=output_dir, cwd=cwd)
        assert stored == (from_words.output_dir, from_words.cwd)
        from_python = request("sub/work.ipynb", output_dir=Path(output_dir), cwd=Path(cwd))
        assert stored == (from_python.output_dir, from_python.cwd)


def test_a_folder_that_is_called_item_is_a_folder_when_it_is_given_as_a_path(
    notebook: MakeNotebook, folder: Path
) -> None:
    """``item`` is a word, ``./item`` a folder, and stays one when it is stored."""
    notebook()
    (folder / "item").mkdir()
    assert "item" == words("work.ipynb", grid=["n=1"], cwd="item").cwd
    assert "./item" == words("work.ipynb", grid=["n=1"], cwd="./item").cwd


def _request_of_map(monkeypatch: pytest.MonkeyPatch) -> Callable[..., MapDefinition]:
    """Give ``nbflow.map`` up to the moment where it would begin to work."""
    caught: list[MapDefinition] = []
    monkeypatch.setattr("nbflow.api.explained", lambda request: caught.append(request.definition))

    def request(path: str, **given: Any) -> MapDefinition:
        nbflow.map(path, [1], dry_run=True, **given)
        return caught.pop()

    return request


# Secrets


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    """A secret in the environment."""
    monkeypatch.setenv("NBFLOW_TEST_KEY", SECRET)
    return SECRET


def test_a_large_result_is_saved_without_the_secret(notebook: MakeNotebook, folder: Path, secret: str) -> None:
    """The kernel saves what is large itself; no file that nbflow writes keeps the secret."""
    text = f"import os\nlong = [os.environ['NBFLOW_TEST_KEY'], {'x' * 40_000!r}, 7]"
    run = nbflow.map(notebook(text, results="long"), [1], secret=["NBFLOW_TEST_KEY"], quiet=True)
    assert [MASK, "x" * 40_000, 7] == run.load(0, "long")
    events = read_journal(run.folder / "journal.jsonl").events
    file = next(e.outcome.output["long"] for e in events if isinstance(e, NodeFinished) and e.leaf)  # type: ignore[index,call-overload]  # it has one
    data = (run.folder / file.path).read_bytes()
    assert (len(data), hashlib.sha256(data).hexdigest()) == (file.size, file.sha256)
    written = [path for path in folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert [] == written


def test_half_a_large_result_is_removed(tmp_path: Path) -> None:
    """A kernel that is killed while it saves a result leaves a part of it, perhaps with the secret."""
    artifacts = tmp_path / "artifacts"
    artifacts.mkdir()
    (artifacts / "a.json.tmp").write_text(f'["{SECRET}", 1')
    (artifacts / "b.json").write_text(f'["{SECRET}"]')
    assert ["artifacts/b.json"] == list(mask_saved(artifacts, tmp_path, Masker([SECRET])))
    assert {"b.json": f'["{MASK}"]'} == {path.name: path.read_text() for path in artifacts.iterdir()}


def test_a_number_that_contains_a_secret_is_masked_and_its_item_completes(
    notebook: MakeNotebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masking in the middle of a number would leave text that is no JSON."""
    monkeypatch.setenv("NBFLOW_TEST_KEY", "345678")
    run = nbflow.map(notebook(results="pin, n = 12345678, n"), [1], secret=["NBFLOW_TEST_KEY"], quiet=True)
    assert {"pin": f"12{MASK}", "n": 1} == run.results[0]


@pytest.mark.parametrize(
    "given",
    [
        {"grid": {"n": [1, f"key {SECRET}"]}},
        {"parameters": {"n": {"keys": [SECRET]}}},
    ],
)
def test_a_parameter_that_contains_a_secret_is_refused(
    notebook: MakeNotebook, folder: Path, secret: str, given: dict[str, Any]
) -> None:
    """Parameters are written down everywhere, so the secret does not come in as one; the message does not say it."""
    path = notebook(parameters="n = None")
    with pytest.raises(ParameterError, match=r"\bn\b.*NBFLOW_TEST_KEY") as refused:
        nbflow.map(path, secret=["NBFLOW_TEST_KEY"], quiet=True, **given)
    assert "os.environ['NBFLOW_TEST_KEY']" in refused.value.remedy
    assert secret not in str(refused.value) + refused.value.remedy
    assert not (folder / "nbflow-runs").exists()


# Tries


def started(attempt: int = 1) -> NodeStarted:
    """Give the start of an attempt."""
    return NodeStarted(0.0, ("map", "a"), "k", attempt, "", 0)


def begun(epoch: int) -> RunStarted:
    """Give the start of an epoch."""
    return RunStarted(0.0, "run", "n.ipynb", epoch, {}, 1)


CANCELLED = NodeFinished(0.0, ("map", "a"), "k", "f", Outcome("cancelled"), "", 0)
FAILED = AttemptFailed(0.0, ("map", "a"), "k", 1, Outcome("failed", error=Failure("error", "no")), 1.0)


def test_a_cancelled_attempt_uses_up_no_try() -> None:
    """Somebody else ended it; only an attempt that is in flight is taken back, and only once."""
    assert 0 == records([begun(1), started(), CANCELLED]).attempts.get("k", 0)
    assert 1 == records([begun(1), started(), FAILED, CANCELLED]).attempts["k"], "it failed before it was cancelled"
    assert 1 == records([begun(1), started(), FAILED, started(2), CANCELLED]).attempts["k"]
    assert 1 == records([begun(1), started(), begun(2), CANCELLED]).attempts["k"], "its process died"
    assert 0 == records([begun(1), CANCELLED]).attempts.get("k", 0)


def test_a_simulated_run_counts_tries_as_the_journal_does() -> None:
    """What plug-ins test with agrees with what is stored."""
    cases = [
        [started(), CANCELLED],
        [started(), FAILED, CANCELLED],
        [started(), FAILED, started(2), CANCELLED],
        [CANCELLED],
    ]
    for events in cases:
        assert records([begun(1), *events]).attempts == left_behind(Simulated(list(events))).attempts
    died, later = Simulated([started()]), Simulated([CANCELLED])
    assert 1 == left_behind(died, later).attempts["k"]


def test_an_item_has_all_its_tries_after_a_cancel() -> None:
    """A Ctrl-C in the first of two tries leaves two."""
    flow = workflow(FakeStep(id="a", retry=retries(2)))
    first = simulate(flow, lambda task: Outcome("cancelled"), cancel_after=0)
    recorded: Recorded = left_behind(first)
    again = simulate(flow, lambda task: Outcome("failed", error=Failure("error", "no")), recorded=recorded)
    assert 2 == len(again.started)


# The notebook's bytes, and logs


def test_the_notebook_that_is_kept_is_the_one_that_was_read(notebook: MakeNotebook) -> None:
    """Who saves it in Jupyter meanwhile changes the file, not what ran."""
    path = notebook()
    found = read_notebook(path)
    before = path.read_bytes()
    path.write_text("{}")
    assert before == found.raw
    assert json.loads(found.raw) == found.data


def test_the_notebook_in_the_run_folder_is_the_one_that_ran(notebook: MakeNotebook, folder: Path) -> None:
    """It is not read a second time when the run begins."""
    path = notebook("import pathlib")
    before = path.read_bytes()
    request = map_words("work.ipynb", **{**_WORDS, "grid": ["n=1"]})
    path.write_text("{}")
    from nbflow.api.session import Session

    run_folder = folder / "run"
    run_folder.mkdir()
    Session._write_sources(_Of(request), run_folder, {})  # type: ignore[arg-type]  # all that it asks for
    assert before == (run_folder / "source" / "work.ipynb").read_bytes()


class _Of:
    """A session as far as its request."""

    def __init__(self, request: Any) -> None:
        self.request = request


def test_a_character_that_comes_in_two_pieces_is_printed_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A log is followed byte by byte, and é is two of them."""
    log = tmp_path / "0.log"
    item: Any = None
    seen: dict[Path, Any] = {}
    with log.open("ab", buffering=0) as out:
        for piece in (b"caf\xc3", b"\xa9\n"):
            out.write(piece)
            look._print_new(log, item, seen, named=False)
    assert "café\n" == capsys.readouterr().out
