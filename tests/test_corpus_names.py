"""Names of the corpus: what is told of each real-looking notebook, against a run of it."""

from __future__ import annotations

import functools
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import pytest

from nbflow.loading.names import Use, uses
from nbflow.source import Cell
from tests.corpus import plain
from tests.tracing import OF_IPYTHON, Traced, Tracer, tracing

CORPUS = Path(__file__).parent / "corpus"
ALL = sorted(path.name for path in CORPUS.glob("*.ipynb"))
QUICK = ("fractals.ipynb", "pca-by-hand.ipynb", "queue-simulation.ipynb")
"""They have functions that call each other, and names that functions assign."""

pytestmark = pytest.mark.filterwarnings("ignore")  # the notebooks' own


@dataclass
class Step:
    """A step with its cells, and what it is given."""

    name: str
    cells: list[Cell] = field(default_factory=list)
    each: str = ""
    item: str = ""
    results: tuple[str, ...] = ()
    before: frozenset[int] = frozenset()
    """The numbers of the steps that it waits for, directly or not."""


@dataclass(frozen=True)
class Compared:
    """What was told of a step and what it did."""

    step: str
    told: Use
    did: Traced
    wanted: set[str]
    """Names that are told to be read and that something above assigns, so that they are brought."""


def steps_of(name: str) -> tuple[list[Cell], list[Step]]:
    """Give the cells of setup, and the steps of a notebook."""
    notebook = nbformat.read(CORPUS / name, 4)
    code = [(index, cell) for index, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    cells = {
        index: Cell(number, index, cell.source, frozenset(plain.marks(cell)), "")
        for number, (index, cell) in enumerate(code, 1)
    }
    setup: list[Cell] = []
    steps: dict[str, Step] = {}
    for one in plain.steps(notebook):
        if not one.name:
            setup += [cells[index] for index in one.cells]
            continue
        if one.name not in steps:
            needs = one.needs if one.needs is not None else tuple(steps)[-1:]
            direct = {list(steps).index(need) for need in needs}
            before = direct.union(*(list(steps.values())[at].before for at in direct))
            steps[one.name] = Step(one.name, [], one.each, one.item, (), frozenset(before))
        steps[one.name].cells += [cells[index] for index in one.cells]
        steps[one.name].results += one.results
    return setup, list(steps.values())


def sources(cells: list[Cell]) -> list[str]:
    return [cell.source for cell in cells if "skip-execution" not in cell.tags]


def run(tracer: Tracer, step: Step) -> Traced:
    """Run a step, for all elements in order if it has some, as :func:`tests.corpus.plain.run_plain` does."""
    if not step.each:
        return tracer.run_well(sources(step.cells))
    tracer.run_well([f"elements_, gathered_ = list({step.each}), []"])
    done = Traced(set(), set())
    for number in range(len(tracer.names["elements_"])):
        tracer.run_well([f"{step.item} = elements_[{number}]"])
        found = tracer.run_well(sources(step.cells))
        done.read.update(found.read - {step.item})
        done.assigned.update(found.assigned)
        tracer.run_well([f"gathered_.append([{', '.join(step.results)}])"])
    tracer.run_well([f"{name} = [one[{at}] for one in gathered_]" for at, name in enumerate(step.results)])
    return done


@contextmanager
def elsewhere() -> Iterator[None]:
    """Let a notebook write its files, and change the environment, where it does no harm."""
    folder, environment, path = Path.cwd(), dict(os.environ), list(sys.path)
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        os.environ["MPLBACKEND"] = "agg"
        try:
            yield
        finally:
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(environment)
            sys.path[:] = path


@functools.cache
def compared(name: str) -> list[Compared]:
    """Tell of each step of a notebook what it does, and run it."""
    setup, steps = steps_of(name)
    of_setup, told = uses(setup, [step.cells for step in steps], [step.before for step in steps])
    with elsewhere(), tracing() as tracer:
        tracer.run_well(sources(setup))
        did = [run(tracer, step) for step in steps]
    found = []
    for step, use, done in zip(steps, told, did, strict=True):
        there = set(of_setup.assigns).union(*(told[at].assigns for at in step.before))
        there.update(*(steps[at].results for at in step.before))
        wanted = {one for one in use.reads if one in there and one != step.item and not OF_IPYTHON.fullmatch(one)}
        found.append(Compared(step.name, use, done, wanted))
    return found


@pytest.mark.parametrize("name", [pytest.param(one, marks=[] if one in QUICK else pytest.mark.long) for one in ALL])
def test_each_step_of_the_corpus_reads_and_assigns_what_was_told(name):
    """Or it was said that something is unknown there."""
    for one in compared(name):
        unknown = one.told.unknown
        missed = set() if any(each.reads for each in unknown) else one.did.read - set(one.told.reads)
        more = set() if any(each.assigns for each in unknown) else one.did.assigned - set(one.told.assigns)
        assert (one.step, set(), set()) == (one.step, missed, more)
        assert (one.step, set()) == (one.step, set(one.told.certain) - one.did.assigned - {"_"})


@pytest.mark.long
def test_little_of_the_corpus_is_brought_that_no_step_reads():
    """At most one name in twenty, over all notebooks."""
    every = [(name, one) for name in ALL for one in compared(name)]
    wanted = sum(len(one.wanted) for _, one in every)
    over = [f"{name}, {one.step}: {read}" for name, one in every for read in one.wanted - one.did.read]
    assert wanted > 500
    assert len(over) <= wanted / 20, sorted(over)
