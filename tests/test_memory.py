"""What an item costs a run that does not look at it: bytes of memory, bytes of journal."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")

SCRIPT = """\
import json, sys, tempfile
from pathlib import Path
from nbflow.api.workflows import run_workflow
from nbflow.model import Block, Literal, Workflow
from nbflow.steps import CallStep, FanOut

def run(size):
    step = CallStep(id="call", function="builtins:dict", parameters=Literal({}))
    fan = FanOut(id="map", items=Literal(list(range(size))), body=Block([step]), max_concurrency=Literal(4))
    with tempfile.TemporaryDirectory() as place:
        state = run_workflow(Workflow(name="calls", block=Block([fan]), max_workers=4), Path(place))
        assert state.progress.counts["completed"] == size
        (journal,) = Path(place).rglob("journal.jsonl")
        return journal.stat().st_size

size = int(sys.argv[1])
journal = run(size)
# Not getrusage: what it tells begins with the size of the process that started this one.
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(json.dumps([journal, int(peak.split()[1]) * 1024]))
"""


def measured(size):
    """Give the bytes of the journal and the most memory of a run of so many calls, in a process of its own."""
    command = [sys.executable, "-c", SCRIPT, str(size)]
    journal, memory = json.loads(subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout)
    return journal, memory


LARGE = """\
import gc, sys
from pathlib import Path
import nbflow

items = list(range(int(sys.argv[1])))
gc.disable()
run = nbflow.map("work.ipynb", grid={"n": items}, max_concurrency=1, quiet=True)
assert run.status == "completed", run.failures
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(int(peak.split()[1]) * 1024)
"""


@pytest.mark.long
def test_notebooks_that_ended_are_let_go_of(notebook, cli):
    """With eight megabytes of pictures in each, six need what two need, and none waits for the cycle collector."""
    notebook("from IPython.display import display\ndisplay({'image/svg+xml': 'x' * 8_000_000}, raw=True)")

    def peak(count):
        out, err = cli.start(count, program=("-c", LARGE)).communicate(timeout=120)
        assert out, err
        return int(out)

    few, many = peak(2), peak(6)
    assert 12_000_000 > many - few


def test_an_item_takes_at_most_400_bytes_of_journal():
    """Start and end of a call item; the run's own lines counted in."""
    journal, _ = measured(2_000)
    assert 400 >= journal / 2_000


@pytest.mark.parametrize(("few", "many"), [(2_000, 12_000), pytest.param(10_000, 100_000, marks=pytest.mark.long)])
def test_memory_grows_by_at_most_a_kilobyte_per_item(few, many):
    """The most that the process ever had, beside that of a smaller run."""
    (_, less), (_, more) = measured(few), measured(many)
    assert 1024 >= (more - less) / (many - few)


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs to know what is a process's own")
def test_a_forked_kernel_has_at_most_25_megabytes_for_itself():
    """With pandas and matplotlib imported; a started one has four times that. It is a benchmark with that bound."""
    script = Path(__file__).resolve().parent.parent / "benchmarks" / "warm_memory.py"
    done = subprocess.run([sys.executable, script, "--kernels", "3"], capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr
    assert "forked" in done.stdout
