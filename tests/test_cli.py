"""The command line: its verbs, help, exit codes, what goes to stdout and what to stderr."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nbflow.cli import main
from nbflow.version import __version__

VERBS = ["map", "run", "resume", "answer", "status", "results", "logs", "cancel", "clean", "tag"]
MORE_VERBS = ["validate", "graph", "schema", "init", "doctor"]
"""Verbs that touch no run."""


def notebook(path: Path, *cells: tuple[str, str]) -> None:
    """Write a notebook of cells, each a tag (or none) and its source."""
    made: list[dict[str, Any]] = [
        {
            "cell_type": "code",
            "execution_count": None,
            "metadata": {"tags": [tag]} if tag else {},
            "outputs": [],
            "source": source,
        }
        for tag, source in cells
    ]
    kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path.write_text(
        json.dumps({"nbformat": 4, "nbformat_minor": 4, "metadata": {"kernelspec": kernelspec}, "cells": made})
    )


CITY = ("parameters", "city: str = 'Oslo'\ndepth: int = 3")
FAILS = ("", "print('looking at', city)\nassert city != 'Cairo', city")
SCORE = ("results", "score = depth * 2")


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of three items, one of which failed; only looked at."""
    folder = tmp_path_factory.mktemp("half")
    notebook(folder / "n.ipynb", CITY, FAILS, SCORE)
    words = ["map", "n.ipynb", "--grid", "city=Oslo,Cairo,Lima", "--quiet"]
    done = subprocess.run([sys.executable, "-m", "nbflow", *words], cwd=folder, capture_output=True, check=False)
    assert 1 == done.returncode
    return folder


@pytest.fixture(scope="module")
def degrees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run over a decimal parameter, whose values were given as whole numbers; only looked at."""
    folder = tmp_path_factory.mktemp("degrees")
    notebook(folder / "quick.ipynb", ("parameters", "lat: float = 0.0"), ("results", "twice = lat * 2"))
    words = ["map", "quick.ipynb", "--grid", "lat=1,2", "--quiet"]
    done = subprocess.run([sys.executable, "-m", "nbflow", *words], cwd=folder, capture_output=True, check=False)
    assert 0 == done.returncode
    return folder


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Gives what a command line prints: exit code, stdout and stderr."""
    monkeypatch.delenv("NBFLOW_STATE_DIR", raising=False)

    def typed(command: str, folder: Path) -> tuple[int, str, str]:
        monkeypatch.chdir(folder)
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main(command.split())
        return int(end.value.code or 0), *capsys.readouterr()

    return typed


# -- help --------------------------------------------------------------------------------------------------------


def test_help_lists_the_verbs_with_a_sentence_each(say: Any, tmp_path: Path) -> None:
    """The first screen: what it is, two examples, the verbs."""
    code, out, err = say("--help", tmp_path)
    assert (0, "") == (code, err)
    assert "nbflow map forecast.ipynb --items cities.csv -j 4" in out
    for verb in [*VERBS, *MORE_VERBS]:
        assert re.search(rf"^  {verb} +[A-Z]", out, re.MULTILINE)


@pytest.mark.parametrize("verb", [*VERBS, *MORE_VERBS])
def test_every_verb_has_help_for_each_option(verb: str, say: Any, tmp_path: Path) -> None:
    """No option stands there without words, -h is --help, and a line fits a terminal."""
    code, out, err = say(f"{verb} -h", tmp_path)
    assert (0, "") == (code, err)
    assert out.startswith(f"Usage: nbflow {verb} ")
    options = re.findall(r"^  (-.*)$", out, re.MULTILINE)
    assert options
    for option in options:
        assert re.search(r"\S {2,}\S", option) or f"{option}\n   " in out, f"{option} says nothing"
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize("verb", [v for v in VERBS if v != "tag"])
def test_every_verb_that_touches_runs_takes_a_state_dir(verb: str, say: Any, tmp_path: Path) -> None:
    """A run that is kept elsewhere can be reached by all of them."""
    assert "--state-dir DIR" in say(f"{verb} --help", tmp_path)[1]


@pytest.mark.parametrize("verb", ["map", "resume"])
def test_i_and_p_are_the_same_option(verb: str, say: Any, tmp_path: Path) -> None:
    """As the tutorial of either habit has it."""
    assert "-p, -i NAME=VALUE" in say(f"{verb} --help", tmp_path)[1]


def test_the_version_is_told(say: Any, tmp_path: Path) -> None:
    """For a bug report."""
    assert (0, f"nbflow {__version__}\n", "") == say("--version", tmp_path)


# -- a run, from its start to its end ----------------------------------------------------------------------------


def test_a_run_from_map_to_clean(say: Any, tmp_path: Path) -> None:
    """Map fails for one, the notebook is mended, resume does the rest, clean removes it: exit codes all along."""
    notebook(tmp_path / "n.ipynb", CITY, FAILS, SCORE)
    code, out, err = say("map n.ipynb --grid city=Oslo,Cairo", tmp_path)
    assert 1 == code
    assert "1 of 2 failed, 1 is done and kept:" in out
    assert "  failed     city=Cairo  cell 2" in err
    notebook(tmp_path / "n.ipynb", CITY, ("", "print(city)"), SCORE)
    code, out, err = say("resume n.ipynb", tmp_path)
    assert (2, "") == (code, out), "the code of a finished item changed: that is a question"
    assert err.startswith("error: n.ipynb: cell 2 changed since 1 finished item ran")
    code, out, _ = say("resume n.ipynb --changed keep --dry-run", tmp_path)
    assert 0 == code
    assert [["0", "city=Oslo", "kept"], ["1", "city=Cairo", "runs", "failed"]] == [
        line.split() for line in out.splitlines()[1:3]
    ]
    code, out, _ = say("resume n.ipynb --changed keep", tmp_path)
    assert 0 == code
    assert "2 of 2 completed" in out
    assert "1 of them kept from before" in out
    code, out, _ = say("resume n.ipynb", tmp_path)
    assert 0 == code
    assert "nothing to do" in out
    assert "removed run" in say("clean n.ipynb --keep 0", tmp_path)[1]
    assert "no runs here\n" == say("status", tmp_path)[1]


def test_tag_edits_only_what_was_asked(say: Any, tmp_path: Path) -> None:
    """The remedy of a missing tag: the cell has it, and a second time says so."""
    notebook(tmp_path / "n.ipynb", ("", "city = 'Oslo'"), SCORE)
    before = json.loads((tmp_path / "n.ipynb").read_text())
    assert (0, "n.ipynb: cell 1 is tagged parameters now.\n", "") == say("tag n.ipynb 1 parameters", tmp_path)
    after = json.loads((tmp_path / "n.ipynb").read_text())
    before["cells"][0]["metadata"]["tags"] = ["parameters"]
    assert before == after
    assert "is tagged parameters already" in say("tag n.ipynb 1 parameters", tmp_path)[1]
    assert "is not tagged parameters any more" in say("tag n.ipynb 1 parameters --remove", tmp_path)[1]


def test_a_dry_run_writes_nothing(say: Any, tmp_path: Path) -> None:
    """It says what would run, and leaves no trace."""
    notebook(tmp_path / "n.ipynb", CITY, SCORE)
    code, out, _ = say("map n.ipynb --grid city=Oslo,Lima --dry-run", tmp_path)
    assert 0 == code
    assert "2 items would run, 0 are kept" in out
    assert ["n.ipynb"] == [path.name for path in tmp_path.iterdir()]
    assert [True, True] == [
        item["runs"] for item in json.loads(say("map n.ipynb --grid city=a,b --dry-run --json", tmp_path)[1])["items"]
    ]


# -- looking at a run --------------------------------------------------------------------------------------------


def test_results_are_a_table_or_a_file(say: Any, half: Path, tmp_path: Path) -> None:
    """The table for the eye; CSV, TSV, JSON and Parquet for programs, one row per item."""
    out = say("results n.ipynb", half)[1]
    assert ["city", "score", "status", "seconds"] == out.splitlines()[0].split()
    assert ["Cairo", "-", "failed"] == out.splitlines()[2].split()[:3]
    for ending in ("csv", "tsv", "json", "parquet"):
        code, out, _ = say(f"results n.ipynb -o {tmp_path}/r.{ending}", half)
        assert (0, f"3 rows in {tmp_path}/r.{ending}\n") == (code, out)
    head, *rows = (tmp_path / "r.csv").read_text().splitlines()
    assert "index,city,score,status,seconds,attempts,error,notebook" == head
    assert ["0,Oslo,6,completed", "1,Cairo,,failed,", "2,Lima,6,completed"] == [
        row[: len(want)]
        for row, want in zip(rows, ["0,Oslo,6,completed", "1,Cairo,,failed,", "2,Lima,6,completed"], strict=True)
    ]
    assert ["Oslo", "Cairo", "Lima"] == [row["city"] for row in json.loads((tmp_path / "r.json").read_text())]


@pytest.mark.parametrize(
    ("command", "start"),
    [
        ("resume sub/n.ipynb", "nbflow map sub/n.ipynb starts one."),
        ("status sub/n.ipynb --state-dir kept", "nbflow map sub/n.ipynb --state-dir kept starts one."),
        ("status sub/two.yml", "nbflow run sub/two.yml starts one."),
    ],
)
def test_a_first_run_is_started_by_the_command_that_is_printed(
    command: str, start: str, say: Any, tmp_path: Path
) -> None:
    """The file with its folder, the verb of its kind, and where runs are kept."""
    (tmp_path / "sub").mkdir()
    notebook(tmp_path / "sub" / "n.ipynb", CITY)
    (tmp_path / "sub" / "two.yml").write_text("steps: []\n")
    code, _, err = say(command, tmp_path)
    assert (2, f"  {start}") == (code, err.splitlines()[1])


@pytest.mark.parametrize("item", ["lat=2", "lat=2.0", "lat=2e0", "1"])
def test_an_item_is_found_by_its_value_however_it_is_written(item: str, say: Any, degrees: Path) -> None:
    """``lat=2`` was typed at the start, and is 2.0 for a decimal parameter."""
    assert (0, "") == say(f"logs quick.ipynb {item}", degrees)[::2]


def test_what_has_another_value_or_type_is_no_item(say: Any, degrees: Path) -> None:
    """True is not 1, and text in brackets that are left open is no value."""
    assert "'lat=true': no item is called so" in say("logs quick.ipynb lat=true", degrees)[2]
    assert "'lat=[1': no item is called so" in say("logs quick.ipynb lat=[1", degrees)[2]


@pytest.mark.parametrize(
    ("item", "meant"), [("Cairo", "city=Cairo"), ("city=cairo", "city=Cairo"), ("town=Oslo", "city=Oslo")]
)
def test_an_item_that_is_called_otherwise_is_suggested(item: str, meant: str, say: Any, half: Path) -> None:
    """A value without its name, and what is nearly a label."""
    code, _, err = say(f"logs n.ipynb {item}", half)
    assert (2, f"error: {item!r}: no item is called so. Did you mean {meant!r}?") == (code, err.splitlines()[0])


def test_a_single_item_is_no_items(say: Any, tmp_path: Path) -> None:
    """What is counted has its number, also where that is one."""
    notebook(tmp_path / "n.ipynb", CITY, FAILS, SCORE)
    assert 0 == say("map n.ipynb --grid city=Oslo --quiet", tmp_path)[0]
    assert "error: item 7: there is 1 item, city=Oslo, and its index is 0" in say("logs n.ipynb 7", tmp_path)[2]
    assert "1 row in t.csv\n" == say("results n.ipynb -o t.csv", tmp_path)[1]


def test_an_item_that_is_not_there_points_to_the_list_of_this_run(say: Any, half: Path) -> None:
    """The command can be typed as it stands."""
    code, _, err = say("logs n.ipynb 1000", half)
    assert (2, "  nbflow results n.ipynb lists them.") == (code, err.splitlines()[1])


def test_logs_are_those_of_one_item_or_of_all(say: Any, half: Path) -> None:
    """By index, by name, or one after the other under their names."""
    for item in ("1", "city=Cairo"):
        out = say(f"logs n.ipynb {item}", half)[1]
        assert "looking at Cairo" in out
        assert "AssertionError" in out
        assert "looking at Oslo" not in out
    out = say("logs n.ipynb", half)[1]
    heads = [line for line in out.splitlines() if line.startswith("==>")]
    assert [
        "==> 0  city=Oslo  completed <==",
        "==> 1  city=Cairo  failed <==",
        "==> 2  city=Lima  completed <==",
    ] == heads
    assert out == say("logs n.ipynb", half)[1]
    followed = say("logs -f n.ipynb 1", half)[1]
    assert "looking at Cairo" in followed


def test_status_is_found_by_notebook_checkpoint_folder_and_beginning_of_the_id(say: Any, half: Path) -> None:
    """Whatever a person has at hand names the run."""
    (run,) = (half / "nbflow-runs/n.ipynb").glob("2*")
    wanted = say("status n.ipynb --json", half)[1]
    for target in ("n.ipynb.nbflow.json", str(run), f"nbflow-runs/n.ipynb/{run.name}", run.name, run.name[:13]):
        assert wanted == say(f"status {target} --json", half)[1]
    assert run.name in say("status", half)[1]
    assert [run.name] == [each["run_id"] for each in json.loads(say("status --json", half)[1])["runs"]]


def test_an_error_that_is_not_ours_to_raise_still_tells_its_type(say: Any, half: Path) -> None:
    """Results and status of a failed item carry kind, message, cell and the cell's own traceback."""
    items = json.loads(say("status n.ipynb --json", half)[1])["items"]
    assert [None, "error", None] == [item["error"] and item["error"]["kind"] for item in items]
    assert 2 == items[1]["error"]["cell"]
    assert "AssertionError: Cairo" == items[1]["error"]["message"]
    assert "AssertionError" in items[1]["error"]["traceback"]
