"""Hard circumstances: strange tables, names, cells and surroundings; each completes or fails in one honest line."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

MB = 1_000_000


def cell(source: str, *tags: str) -> dict[str, Any]:
    """Give a code cell."""
    metadata = {"tags": list(tags)} if tags else {}
    return {"cell_type": "code", "execution_count": None, "metadata": metadata, "outputs": [], "source": source}


def written(path: Path, *cells: dict[str, Any]) -> Path:
    """Write a notebook."""
    kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    data = {"nbformat": 4, "nbformat_minor": 4, "metadata": {"kernelspec": kernelspec}, "cells": list(cells)}
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


CITY = cell("city: str = 'Oslo'\nlat: float = 0.0", "parameters")
NAME = cell("name = city", "results")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, with a notebook that gives its city back."""
    monkeypatch.delenv("NBFLOW_STATE_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "n.ipynb", CITY, NAME)
    return tmp_path


def nbflow(command: str, *more: str, seconds: float = 120, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run ``nbflow`` as a person does; whatever happens, no traceback of ours comes out."""
    words = [sys.executable, "-m", "nbflow", *shlex.split(command), *more]
    given: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    done = subprocess.run(words, timeout=seconds, check=False, **{**given, **options})
    out, err = ((stream or b"").decode("utf-8", "replace") for stream in (done.stdout, done.stderr))
    assert "Traceback" not in err, err
    assert "/nbflow/" not in err, "a line of our own code"
    return subprocess.CompletedProcess(words, done.returncode, out, err)


def mapped(command: str, **options: Any) -> dict[str, Any]:
    """Run a map to its end, and give what ``--json`` says of it."""
    done = nbflow(f"map {command} --json", **options)
    data: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == {"completed": 0, "failed": 1}[data["status"]], done
    return data


def names(data: dict[str, Any]) -> list[Any]:
    """Give the result called name of all items."""
    return [item["output"]["name"] for item in data["items"]]


# -- tables and names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "table",
    [
        pytest.param(b"city;lat\nOslo;59,9\nLima;-12,0\n", id="semicolons and decimal commas"),
        pytest.param("city,lat\r\nOslo,59.9\r\nLima,-12.0\r\n".encode("utf-8-sig"), id="a BOM, as Excel writes it"),
    ],
)
def test_a_table_as_excel_writes_it_completes(table: bytes, place: Path) -> None:
    """The separator is seen in the header, a BOM is no part of a name, and ``59,9`` is a number there."""
    (place / "t.csv").write_bytes(table)
    data = mapped("n.ipynb --items t.csv")
    assert ["Oslo", "Lima"] == names(data)
    assert [59.9, -12.0] == [item["parameters"]["lat"] for item in data["items"]]


STRANGE = [
    "../../etc",
    "CON",
    "🌍 Welt",
    "a/b",
    "a:b",
    "東京",
    "two\nlines \x1b[31mred",
    "'; rm -rf ~ #\"{{city}} %s",
    "x" * 2000,
    "y" * 300_000,
]


@pytest.mark.long
def test_items_may_be_called_anything(place: Path) -> None:
    """Names that are paths, devices, emoji, equal after slugging or endless reach the cell exactly, each its file."""
    (place / "t.json").write_text(json.dumps([{"city": name} for name in STRANGE]), encoding="utf-8")
    before = {p.name for p in place.parent.iterdir()}
    done = nbflow("map n.ipynb --items t.json --json")
    data = json.loads(done.stdout)
    assert STRANGE == [item["parameters"]["city"] for item in data["items"]]
    assert STRANGE == names(data), "also what is over 32 KB, and stands in a file of its own"
    files = [Path(item["notebook"]) for item in data["items"]]
    assert len(STRANGE) == len(set(files))
    (run,) = (place / "nbflow-runs/n.ipynb").glob("2*")
    assert {run} == {file.parent for file in files}
    assert all(len(file.name.encode()) <= 120 and file.is_file() for file in files)
    assert before == {p.name for p in place.parent.iterdir()}, "nothing leaves the folder"
    assert "\x1b" not in done.stderr
    for verb in ("status", "results"):
        lines = nbflow(f"{verb} n.ipynb").stdout
        assert "\x1b" not in lines
        assert max(map(len, lines.splitlines())) <= 120


def test_a_notebook_may_be_called_anything(place: Path) -> None:
    """Spaces, quotes, brackets and letters of other scripts in folder and file: all verbs find it."""
    folder = place / "mein Ordner [1] 'ü'"
    folder.mkdir()
    notebook = written(folder / "Längen & Größen 東京 $HOME.ipynb", CITY, NAME)
    done = nbflow("map", str(notebook), "--grid", "city=Oslo,Lima")
    assert 0 == done.returncode, done.stderr
    command = next(line for line in done.stdout.splitlines() if "nbflow results" in line).partition("nbflow ")[2]
    assert 0 == nbflow(command).returncode, "what it offers can be typed"
    assert "name\nOslo\nLima\n" == "".join(
        line.split(",")[1] + "\n" if line[0].isdigit() else "name\n"
        for line in (place / "results.csv").read_text().splitlines()
    )
    for verb in ("status", "resume"):
        assert 0 == nbflow(verb, str(notebook)).returncode


# -- cells -------------------------------------------------------------------------------------------------------


def test_input_in_a_cell_fails_that_item_only(place: Path) -> None:
    """Nobody can answer: the item says so at once, the others complete."""
    written(place / "n.ipynb", CITY, cell("if city == 'Lima':\n    city = input('Which? ')"), NAME)
    data = mapped("n.ipynb --grid city=Oslo,Lima,Cairo", seconds=60)
    assert ["completed", "failed", "completed"] == [item["status"] for item in data["items"]]
    error = data["items"][1]["error"]
    assert 2 == error["cell"]
    assert "input" in error["message"]


LOUD = """
import sys
print('the beginning')
line = 'x' * 999 + '\\n'
for _ in range({lines}):
    sys.stdout.write(line)
print('the end')
"""


@pytest.mark.parametrize(
    "size", [20 * MB, pytest.param(1000 * MB, marks=[pytest.mark.long, pytest.mark.timeout(1200)])]
)
def test_a_cell_that_prints_too_much_keeps_head_and_tail(size: int, place: Path) -> None:
    """20 MB, or a whole GB: it completes, the notebook stays small, and shows how it began and ended."""
    written(place / "n.ipynb", CITY, cell(LOUD.format(lines=size // 1000)), NAME)
    data = mapped("n.ipynb", seconds=1200)
    assert ["Oslo"] == names(data)
    executed = Path(data["items"][0]["notebook"])
    assert executed.stat().st_size < 12 * MB
    outputs = json.loads(executed.read_text(encoding="utf-8"))["cells"][-2]["outputs"]
    text = "".join("".join(output["text"]) for output in outputs)
    assert text.startswith("the beginning\n")
    assert text.rstrip().endswith("the end")
    (log,) = executed.parent.glob("logs/*.log")
    assert log.stat().st_size >= size, "the rest is in the log"


BEHAVIOUR = {
    "closes stdout": "import sys, os\nprint('before')\nsys.stdout.close()",
    "closes the descriptors of its output": "import os\nos.close(1); os.close(2)",
    "changes directory": "import os\nos.chdir('/')",
    "deletes its own folder": "import os, shutil\nshutil.rmtree(os.getcwd())",
    "forks": "import os\npid = os.fork()\nif pid == 0:\n    os._exit(0)\nos.waitpid(pid, 0)",
    "leaves a child behind": "import subprocess\nsubprocess.Popen(['sleep', '30'])",
    "starts a thread that never ends": "import threading as t, time\nt.Thread(target=time.sleep, args=(30,)).start()",
    "ignores interrupts and SIGTERM": "import signal as s\ns.signal(15, s.SIG_IGN)\ns.signal(2, s.SIG_IGN)",
    # Half a character, such as \ud800, makes ipykernel's output thread skip a turn: each cell may then take 20 s more.
    "prints what is no text": "import os\nos.write(1, bytes(range(256)))\nprint('\\0')",
    "replaces print and open": "import builtins\nbuiltins.print = builtins.open = None",
    "warns and logs": "import warnings, logging\nwarnings.warn('careful')\nlogging.error('oh')",
    "lowers its own limits": "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))",
}


@pytest.mark.long
def test_cells_that_behave_strangely_do_no_harm(place: Path) -> None:
    """Their items complete, soon, with their results; so does the one among them that does nothing."""
    sources = {"does nothing": "pass", **BEHAVIOUR}
    written(
        place / "n.ipynb", cell("name: str\nsource: str", "parameters"), cell("exec(source)"), cell("name", "results")
    )
    (place / "t.json").write_text(json.dumps([{"name": name, "source": text} for name, text in sources.items()]))
    data = mapped("n.ipynb --items t.json -j 3 --cwd item --output name")
    assert dict.fromkeys(sources, "completed") == {
        item["parameters"]["name"]: item["error"] or item["status"] for item in data["items"]
    }
    assert list(sources) == names(data)
    slow = {item["parameters"]["name"]: item["seconds"] for item in data["items"] if item["seconds"] > 20}
    assert {} == slow, "nobody waits for what a cell left behind"
    assert 0 == nbflow("resume n.ipynb").returncode


def test_a_notebook_that_saves_itself_runs_once(place: Path) -> None:
    """Its file may change while it runs: its copy was taken before, and only code that changed is a question."""
    written(
        place / "n.ipynb", CITY, cell("text = open('n.ipynb').read()\nopen('n.ipynb', 'w').write(text + '\\n')"), NAME
    )
    assert ["Oslo", "Lima"] == names(mapped("n.ipynb --grid city=Oslo,Lima -j 1"))
    done = nbflow("resume n.ipynb")
    assert 0 == done.returncode
    assert "nothing to do" in done.stdout


# -- surroundings ------------------------------------------------------------------------------------------------


def without(*unset: str, **changed: str) -> dict[str, str]:
    """Give the environment without some variables, and with others."""
    return {**{name: value for name, value in os.environ.items() if name not in unset}, **changed}


SURROUNDINGS = {
    "a home that cannot be written": without(HOME="/proc/nowhere"),
    "no HOME": without("HOME"),
    "LANG=C": without("PYTHONUTF8", LANG="C", LC_ALL="C"),
    "ASCII only": without(PYTHONIOENCODING="ascii"),
    "TERM=dumb": without(TERM="dumb"),
    "no TERM": without("TERM"),
    "NO_COLOR": without(NO_COLOR="1"),
    "a terminal of 20 columns": without(COLUMNS="20", LINES="5"),
    "a terminal of 0 columns": without(COLUMNS="0", LINES="0"),
    "TQDM_DISABLE": without(TQDM_DISABLE="1"),
    "warnings are errors": without(PYTHONWARNINGS="error"),
    "another directory for Python": without(PYTHONSAFEPATH="1", PYTHONDONTWRITEBYTECODE="1"),
}


OFTEN = {"no HOME", "a home that cannot be written", "LANG=C", "a terminal of 20 columns", "warnings are errors"}


@pytest.mark.parametrize(
    "env",
    [
        pytest.param(env, id=name, marks=[] if name in OFTEN else [pytest.mark.long])
        for name, env in SURROUNDINGS.items()
    ],
)
def test_strange_surroundings_change_nothing(env: dict[str, str], place: Path) -> None:
    """The item completes, also one whose name the terminal cannot show."""
    data = mapped("n.ipynb --grid city=Kraków", env=env)
    assert ["Kraków"] == names(data)


@pytest.mark.long
@pytest.mark.parametrize("follow", [[], ["-f"]])
def test_a_log_is_shown_where_its_letters_cannot_be(follow: list[str], place: Path) -> None:
    """What the encoding does not have is a question mark."""
    written(place / "n.ipynb", CITY, cell("print('Größe', city)"), NAME)
    nbflow("map n.ipynb --grid city=Kraków --quiet")
    done = nbflow("logs n.ipynb 0", *follow, env=without(PYTHONIOENCODING="ascii"))
    assert (0, True) == (done.returncode, "Gr??e Krak?w\n" in done.stdout), done


def test_a_working_directory_that_is_gone_is_said_so(place: Path) -> None:
    """Exit code 2 and one line before anything is begun; help is there all the same."""
    for command, code in (("status", 2), (f"map {place}/n.ipynb", 2), ("map --help", 0)):
        (place / "gone").mkdir()
        script = f"cd gone; rmdir ../gone; exec {shlex.quote(sys.executable)} -m nbflow {command}"
        done = subprocess.run(script, shell=True, capture_output=True, text=True, timeout=60, check=False)
        assert code == done.returncode, done
        said = ["error: the working directory is gone", "  Go to one that is there: cd"]
        assert (said if code else []) == done.stderr.splitlines()
    assert ["n.ipynb"] == [file.name for file in place.iterdir()]


def test_a_working_directory_that_goes_takes_no_run_with_it(place: Path) -> None:
    """Deleted while the run is at work: it ends as it would, and names files by their whole path."""
    (place / "gone").mkdir()
    written(place / "n.ipynb", CITY, cell(f"import os\nos.rmdir({str(place / 'gone')!r})\nassert city != 'Oslo'"), NAME)
    done = nbflow(f"map {place}/n.ipynb", cwd=place / "gone")
    assert (1, True) == (done.returncode, f"{place}/nbflow-runs/n.ipynb" in done.stdout), done


def test_a_temporary_folder_too_long_for_a_socket_is_no_matter(place: Path) -> None:
    """A path over 107 bytes is no address of a socket: kernels take another folder, and leave nothing there."""
    long = place / ("t" * 90) / ("u" * 90)
    long.mkdir(parents=True)
    assert ["Oslo"] == names(mapped("n.ipynb", env=without(TMPDIR=str(long))))
    assert [] == list(long.iterdir())


@pytest.mark.long
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_matter(closed: str, place: Path) -> None:
    """Started by a daemon that closed stdin, stdout or stderr: it works all the same."""
    command = f"{shlex.quote(sys.executable)} -m nbflow map n.ipynb {closed}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, check=False)
    assert 0 == done.returncode, done
    assert "Traceback" not in done.stderr
    assert "completed" == json.loads(nbflow("status n.ipynb --json").stdout)["status"]


@pytest.mark.long
def test_a_reader_that_has_seen_enough_ends_it_quietly(place: Path) -> None:
    """``| head -1`` gets its line, and nobody complains; a run behind such a pipe still ends."""
    (place / "n.ipynb").unlink()
    written(place / "n.ipynb", CITY, cell("for i in range(100_000): print(i, city)"), NAME)
    python = shlex.quote(sys.executable)
    for command in ("map n.ipynb", "logs n.ipynb", "results n.ipynb", "status n.ipynb --json"):
        piped = f"set -o pipefail; {python} -m nbflow {command} | head -1"
        done = subprocess.run(["bash", "-c", piped], capture_output=True, text=True, timeout=60, check=False)
        assert 1 == len(done.stdout.splitlines())
        assert "Traceback" not in done.stderr
        assert "Exception" not in done.stderr, done.stderr
        assert 0 == done.returncode, (command, done)
    assert "completed" == json.loads(nbflow("status n.ipynb --json").stdout)["status"]


@pytest.fixture(params=["a pipe that nobody reads", "a full device"])
def nowhere(request: pytest.FixtureRequest) -> Iterator[int]:
    """A file that nothing can be written to."""
    if request.param == "a full device":
        handle = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, handle = os.pipe()
        os.close(reader)
    yield handle
    os.close(handle)


@pytest.mark.long
def test_a_stderr_that_takes_nothing_keeps_no_item_from_running(nowhere: int, place: Path) -> None:
    """Nobody can see the progress: the run goes on, and its exit code is its own."""
    done = nbflow("map n.ipynb --grid city=Oslo,Lima", stderr=nowhere)
    assert (0, True) == (done.returncode, "2 of 2 completed" in done.stdout)
    written(place / "n.ipynb", CITY, cell("1 / 0"), NAME)
    assert 1 == nbflow("map n.ipynb --quiet", stderr=nowhere).returncode
    assert 2 == nbflow("map nowhere.ipynb", stderr=nowhere).returncode
    assert ["failed"] == [item["status"] for item in json.loads(nbflow("status n.ipynb --json").stdout)["items"]]


@pytest.mark.long
def test_a_stdout_that_takes_nothing_is_told_of(place: Path) -> None:
    """One line and exit code 2, for what was asked for is not there; nothing of Python's own at the end."""
    nbflow("map n.ipynb --quiet")
    for command in ("status n.ipynb", "results n.ipynb --json", "logs n.ipynb", "map n.ipynb --json"):
        with Path("/dev/full").open("wb") as full:
            done = nbflow(command, stdout=full)
        assert 2 == done.returncode, (command, done)
        assert "error: the output cannot be written: No space left on device" in done.stderr.splitlines(), done
        assert "Exception" not in done.stderr


# -- a full disk -------------------------------------------------------------------------------------------------

FILLS = """
import os
with open(r'{outside}', 'a') as seen:
    seen.write(f'{{city}}\\n')
if city == 'c' and not os.path.exists(r'{space}'):
    with open('filler', 'wb', buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(4096))
        except OSError:
            pass
"""
SMALL_DISK = """
set -e
mount -t tmpfs -o size=8m none small
cp n.ipynb small/
cd small
code=0; {nbflow} map n.ipynb --grid city=a,b,c,d,e -j 1 >../first.out 2>../first.err || code=$?
echo $code > ../first.code
df --output=avail -k . | tail -1 > ../first.free
{nbflow} status n.ipynb --json > ../first.status 2>../first.status.err || true
rm filler; touch ../space
code=0; {nbflow} resume n.ipynb --json >../second.out 2>../second.err || code=$?
echo $code > ../second.code
cp -r . ../kept
"""


def test_a_full_disk_interrupts_the_run_and_space_lets_it_complete(place: Path) -> None:
    """What was recorded before stands and is not repeated; the reason is said; resume does the rest."""
    (place / "small").mkdir()
    if subprocess.run(
        ["unshare", "-m", "mount", "-t", "tmpfs", "none", place / "small"], check=False, capture_output=True
    ).returncode:
        pytest.skip("mounts are not permitted here")
    fills = FILLS.format(outside=place / "seen", space=place / "space")
    written(place / "n.ipynb", CITY, cell(fills), NAME)
    script = SMALL_DISK.format(nbflow=f"{shlex.quote(sys.executable)} -m nbflow")
    done = subprocess.run(
        ["unshare", "-m", "bash", "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert 0 == done.returncode, done
    read = {file.name: file.read_text() for file in place.glob("first*")} | {
        f.name: f.read_text() for f in place.glob("second*")
    }
    assert "1" == read["first.code"].strip(), read
    assert not any("Traceback" in read[name] for name in read if name.endswith(".err")), read
    assert "disk is full" in read["first.out"], read
    status = json.loads(read["first.status"])
    assert "interrupted" == status["status"]
    assert ["a", "b"] == [item["output"]["name"] for item in status["items"] if item["status"] == "completed"][:2]
    assert "0" == read["second.code"].strip(), read
    again = json.loads(read["second.out"])
    assert list("abcde") == names(again)
    seen = (place / "seen").read_text().split()
    recorded = {item["parameters"]["city"] for item in status["items"] if item["status"] == "completed"}
    assert all(1 == seen.count(city) for city in recorded), "nothing that was recorded runs again"
    assert all(seen.count(city) <= 2 for city in "abcde")


# -- many --------------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.timeout(900)
def test_three_hundred_items_complete(place: Path) -> None:
    """300 kernels one after the other: all results in item order, one failure among them found."""
    written(place / "n.ipynb", cell("i: int = 0", "parameters"), cell("assert i != 123"), cell("name = i", "results"))
    (place / "t.csv").write_text("i\n" + "".join(f"{i}\n" for i in range(300)))
    data = mapped("n.ipynb --items t.csv", seconds=900)
    assert [i for i in range(300) if i != 123] == [item["output"]["name"] for item in data["items"] if item["output"]]
    assert ["failed"] == [item["status"] for item in data["items"] if item["status"] != "completed"]
    shutil.rmtree(place / "nbflow-runs")
    assert 1 == nbflow("resume n.ipynb", seconds=60).returncode, "by the checkpoint alone only 123 runs again"
