"""Plants bugs into a copy of nbflow, one at a time, and demands that a named test catches each.

Run it from anywhere: ``python tests/mutants/run.py [NAME…]``. It ends with 1 if a bug survives.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENGINE = "tests/test_engine.py::test_"
SEED = "tests/test_seed.py::test_"
RULES = "tests/test_engine_properties.py::test_for_workflows_of_all_sizes"
CASES = "tests/conformance/test_conformance.py::test_"
CELLS = "tests/test_cells.py::test_"
FLOWS = "tests/test_flow_properties.py::test_for_workflows_of_all_sizes"


@dataclass(frozen=True)
class Mutant:
    """One bug: in this file of the package this text becomes that one, and this test must fail."""

    name: str
    file: str
    old: str
    new: str
    test: str


MUTANTS = [
    Mutant(
        "a branch that is not taken is not told",
        "engine/kinds.py",
        "    yield from skip(other)\n",
        "    yield from skip()\n",
        f"{FLOWS}[any_interleaving_equals_one_worker]",
    ),
    Mutant(
        "a container that fails itself is not told",
        "events.py",
        "self.leaf or (error is not None and error.node is None)",
        "self.leaf",
        f"{FLOWS}[a_failure_is_told_where_it_happened]",
    ),
    Mutant(
        "a failure that came from below is told again",
        "engine/machine.py",
        "error=replace(outcome.error, node=node_text(node.id))",
        "error=outcome.error",
        f"{FLOWS}[a_failure_is_told_where_it_happened]",
    ),
    Mutant(
        "all turns of a loop are one",
        "engine/nodes.py",
        "*([] if self._turn is None else [str(self._turn)]), step.id",
        "step.id",
        f"{FLOWS}[a_resume_from_any_prefix_equals_the_whole_run]",
    ),
    Mutant(
        "a loop that had all its turns is exhausted, whatever its condition says",
        "engine/kinds.py",
        "exhausted=step.condition.holds(_after(step.block, last, names)))",
        "exhausted=True)",
        f"{CASES}one_worker_is_the_meaning[s4-while-exactly-the-cap-is-not-exhausted]",
    ),
    Mutant(
        "what a person answered is asked again",
        "engine/recorded.py",
        "        return choice if isinstance(choice, str) else None",
        "        return None",
        f"{FLOWS}[a_resume_from_any_prefix_equals_the_whole_run]",
    ),
    Mutant(
        "steps see all that happens to have ended",
        "engine/scope.py",
        "        if self._seen >> place & 1:\n",
        "        if place < len(self._outcomes) and self._outcomes[place] is not None:\n",
        f"{FLOWS}[any_interleaving_equals_one_worker]",
    ),
    Mutant(
        "refill only when the oldest item has ended",
        "engine/nodes.py",
        "return self._order[self._cursor] if self.live < self._window and self._cursor < self.size else None",
        "oldest = next((p for p in range(self._cursor) if self.outcomes[p] is None), self._cursor)\n"
        "        room = self._cursor - oldest < self._window\n"
        "        return self._order[self._cursor] if room and self._cursor < self.size else None",
        f"{SEED}a_worker_that_is_free_takes_the_next_item_at_once",
    ),
    Mutant(
        "the failure that came last wins",
        "engine/nodes.py",
        "self.halt = min(self.halt, self._failed[self._allowed - 1])",
        "self.halt = place",
        f"{RULES}[equals_one_worker]",
    ),
    Mutant(
        "failures count in the order in which they came",
        "engine/nodes.py",
        "insort(self._failed, place)",
        "self._failed.append(place)",
        f"{ENGINE}the_nth_failure_in_item_order_decides",
    ),
    Mutant(
        "results stand in the order of completion",
        "engine/nodes.py",
        "        self.outcomes[place] = outcome\n",
        "        self.outcomes[sum(one is not None for one in self.outcomes)] = outcome\n",
        f"{SEED}results_stand_in_item_order",
    ),
    Mutant(
        "items share one scope",
        "engine/nodes.py",
        'names = Scope({"item": value, self.step.item_name: value, "index": place}, owner.names)',
        "names = self.__dict__.setdefault('names', Scope({}, owner.names))\n"
        '        names._names.update({"item": value, self.step.item_name: value, "index": place})',
        f"{SEED}each_item_has_a_scope_of_its_own",
    ),
    Mutant(
        "the outer item is not there inside",
        "engine/nodes.py",
        '"index": place}, owner.names)',
        '"index": place})',
        f"{RULES}[equals_one_worker]",
    ),
    Mutant(
        "finished work is repeated on resume",
        "engine/recorded.py",
        "return record.outcome\n\n    def choice",
        "return None\n\n    def choice",
        f"{ENGINE}a_resume_tells_recorded_items_as_kept_and_runs_the_rest",
    ),
    Mutant(
        "failed work is kept on resume",
        "engine/recorded.py",
        'frozenset({"completed"})',
        'frozenset({"completed", "failed"})',
        f"{ENGINE}a_resume_tells_recorded_items_as_kept_and_runs_the_rest",
    ),
    Mutant(
        "an item's key is its index",
        "engine/nodes.py",
        "return _hash(self.owner.key, self.body.id, str(self._who[place]),",
        "return _hash(self.owner.key, self.body.id, str(place),",
        f"{RULES}[one_more_item_is_one_more_task]",
    ),
    Mutant(
        "equal items share one record",
        "engine/nodes.py",
        "str(self._repeated.get(place, 0))",
        "'0'",
        f"{ENGINE}equal_items_have_records_of_their_own",
    ),
    Mutant(
        "a halt stops the places before it",
        "engine/nodes.py",
        "node.place > group.halt",
        "node.place != group.halt and group.halt < group.size",
        f"{ENGINE}places_before_a_failure_go_on_and_decide",
    ),
    Mutant(
        "a halt inside is not seen from outside",
        "engine/nodes.py",
        "            node = group.owner if group is not None else None\n        return False",
        "            node = None\n        return False",
        f"{RULES}[equals_one_worker]",
    ),
    Mutant(
        "max_workers is ignored",
        "engine/machine.py",
        "len(self._running) >= self._workers",
        "False",
        f"{ENGINE}nested_fan_outs_share_the_workers_and_end",
    ),
    Mutant(
        "the window is ignored",
        "engine/nodes.py",
        "self.live < self._window and",
        "",
        f"{RULES}[equals_one_worker]",
    ),
    Mutant(
        "one attempt too many",
        "engine/machine.py",
        "node.step.retry.attempts - node.tries",
        "node.step.retry.attempts - node.tries + 1",
        f"{ENGINE}only_named_failures_are_tried_again",
    ),
    Mutant(
        "attempts are forgotten over crashes",
        "engine/machine.py",
        "node.tries = min(begun, node.step.retry.attempts - 1)",
        "node.tries = 0",
        f"{ENGINE}attempts_that_a_crash_cut_off_count",
    ),
    Mutant(
        "what a step waits for is not in its fingerprint",
        "engine/nodes.py",
        "return _hash(self._entry, *(str(self.tokens[p]) for p in waits)).hex() if waits else self._entry",
        "return self._entry",
        f"{RULES}[never_stale]",
    ),
    Mutant(
        "a kept task hides what it did",
        "engine/machine.py",
        "self._recorded.answers[node.key].fingerprint if answer is not None else wanted",
        "wanted",
        f"{ENGINE}other_code_runs_again_and_all_behind_it",
    ),
    Mutant(
        "work is taken in the order of arrival",
        "engine/machine.py",
        "heapq.heappush(self._heap, (path, self._arrivals, node))",
        "heapq.heappush(self._heap, ((), self._arrivals, node))",
        f"{RULES}[one_worker_is_the_order]",
    ),
    Mutant(
        "what rests is ended twice",
        "engine/machine.py",
        "if waiting.pop(node.id, None) is not None:  # else the end of another has ended it",
        "if [waiting.pop(node.id)]:",
        f"{ENGINE}a_halt_ends_many_that_rest_inside_each_other",
    ),
    Mutant(
        "a tolerated failure halts its list",
        "engine/nodes.py",
        "if outcome.status in HALTING and not tolerated(outcome, step):",
        "if outcome.status in HALTING:",
        f"{RULES}[equals_one_worker]",
    ),
    Mutant(
        "tasks begin before their line is written",
        "driver.py",
        "                if written:\n",
        "                if True:\n",
        "tests/test_driver.py::test_the_disk_is_full_once_and_the_run_can_be_resumed",
    ),
    Mutant(
        "events are told before they are written",
        "driver.py",
        "        if events:\n            self._write(events)\n        for event in events:\n"
        "            self.state.apply(event)\n            self.tell(event)\n",
        "        for event in events:\n            self.state.apply(event)\n            self.tell(event)\n"
        "        if events:\n            self._write(events)\n",
        "tests/test_driver.py::test_every_event_is_written_before_it_is_told",
    ),
    Mutant(
        "the end of a lost attempt ends the next one",
        "driver.py",
        "if landed is not None and landed.task is task:",
        "if landed is not None:",
        "tests/test_driver.py::test_the_late_end_of_a_lost_attempt_is_not_taken_for_the_next_one",
    ),
    Mutant(
        "a hanging task keeps its worker",
        "executors/threads.py",
        "self._max_workers += 1",
        "pass",
        "tests/test_driver.py::test_a_task_that_hangs_past_its_time_frees_its_worker",
    ),
    Mutant(
        "a torn line counts",
        "store/journal.py",
        "return Journaled(events, _shown(torn), len(data) - len(torn))",
        "return Journaled(events, _shown(torn), len(data))",
        "tests/test_journal.py",
    ),
    Mutant(
        "a seventeenth digit is lost",
        "values.py",
        "        if math.isfinite(value):\n            return value\n",
        "        if math.isfinite(value):\n            return round(value, 12)\n",
        "tests/test_values.py::test_every_value_comes_back_exactly",
    ),
    Mutant(
        "only the last who changed what a lost name shares counts",
        "namespace.py",
        "not beside.isdisjoint(self.changed_by(piece))",
        "any(piece in self.givers(one) for one in beside)",
        "tests/test_namespace.py::test_all_who_changed_what_a_lost_name_shares_are_repeated_with_it",
    ),
    Mutant(
        "what others hold is saved as if it were alone",
        "notebooks/snapshot/saving.py",
        "_references(names, name) == _ONE)",
        "True)",
        "tests/test_snapshot.py::test_what_nobody_reads_is_not_saved_where_others_hold_it",
    ),
    Mutant(
        "a list that goes on under another name is another one",
        "notebooks/snapshot/known.py",
        "self.kept = value if",
        "self.kept = None if",
        CELLS + "steps_are_as_in_one_kernel[an object that goes on under another name]",
    ),
    Mutant(
        "what steps side by side changed is given as one of them left it",
        "namespace.py",
        "() if self._in_a_row else self._tearing(name)",
        "()",
        CELLS + "what_steps_side_by_side_have_changed_is_not_old_inside_of_something_else",
    ),
    Mutant(
        "what is open waits in the order of the list",
        "engine/nodes.py",
        "(*self.owner.path, self._turns[place])",
        "(*self.owner.path, place)",
        "tests/test_workflows.py::test_what_took_longest_starts_first_the_next_time",
    ),
    Mutant(
        "a step leaves only what later steps read",
        "loading/cell_steps.py",
        "return wanted | piece.reads | (piece.assigns & there)",
        "return wanted",
        CELLS + "a_mended_cell_finds_what_the_step_before_left[bound anew]",
    ),
    Mutant(
        "nobody follows settings",
        "steps.py",
        "(*names, SETTINGS, RANDOM)",
        "names",
        CELLS + "another_seed_or_setting_repeats_the_steps_below",
    ),
    Mutant(
        "a damaged file is taken for what it is called",
        "notebooks/snapshot/saving.py",
        "if not files.has(path, stem):",
        "if not files.there(path):",
        CELLS + "a_saved_file_that_was_changed_is_written_again_by_the_step_that_made_it",
    ),
    Mutant(
        "a name is restored again because it was saved again",
        "notebooks/cells.py",
        "return has == giver.id or (giver.id in ran and has in ran and has == past.givers(name)[-1].id)",
        "return giver.id in ran",
        CELLS + "what_repeated_steps_share_with_restored_names_stays_shared",
    ),
    Mutant(
        "another name of what a step changed is taken to be there",
        "notebooks/cells.py",
        "left = giver.id in ran and name in past.left.get(giver.id, ())",
        "left = giver.id in ran",
        CELLS + "another_name_of_what_a_step_changed_is_there_for_the_next_step_too",
    ),
    Mutant(
        "what is in a kernel as setup made it is told from what it has when it is left",
        "notebooks/cells.py",
        "stale = self.cells.stale\n",
        "stale = self.cells.only_of_setup()\n",
        CELLS + "what_setup_made_and_a_step_changes_and_perhaps_binds_anew_is_saved",
    ),
    Mutant(
        "the packing of what setup made is learnt with its class in it",
        "notebooks/snapshot/saving.py",
        "(known.is_unseen or (",
        "(False or (",
        CELLS + "steps_are_as_in_one_kernel[an object of setup, of a class of setup, in a list]",
    ),
    Mutant(
        "what a kept step saved again counts whatever it has inside now",
        "namespace.py",
        "if again is None or again == self.until(piece).version(name):",
        "if True:",
        CELLS + "a_resume_behind_an_edit_ends_as_a_run_would[what a kept step has saved again beside other names]",
    ),
    Mutant(
        "what stands above a step is taken for what it waits for",
        "loading/cell_steps.py",
        "if ids[at] in before[ids[me]]",
        "if ids[at]",
        f"{CELLS}what_a_step_waits_for_may_stand_below_it",
    ),
    Mutant(
        "a name of setup is not looked at where another one holds it",
        "notebooks/snapshot/shelf.py",
        "names = [*names, *self._holders(names)]",
        "names = list(names)",
        "tests/test_snapshot.py::test_what_a_step_did_to_names_of_setup_is_seen_by_all_that_hold_it",
    ),
    Mutant(
        "an item that is a date is text",
        "values.py",
        'return _walk(value, "", 0, _assigned_leaf)',
        "return argument(value)",
        f"{CELLS}dates_stay_dates_as_items",
    ),
    Mutant(
        "nobody misses settings whose file is gone",
        "api/flow_requests.py",
        "any(name in KEPT or name in",
        "any(name in",
        f"{CELLS}settings_whose_file_is_gone_are_made_again",
    ),
    Mutant(
        "outputs are found by the number of their cell",
        "notebooks/whole.py",
        'by_id[cell["id"]] for number, cell in own.items() if cell.get("id") in by_id',
        "ran[number % len(ran)] for number, cell in own.items() if ran",
        f"{CELLS}kept_outputs_stand_below_the_code_that_made_them[True]",
    ),
]


def main(names: Sequence[str]) -> int:
    """Run the mutants, all or those whose names contain one of these words."""
    mutants = [one for one in MUTANTS if not names or any(name in one.name for name in names)]
    with tempfile.TemporaryDirectory(prefix="nbflow-mutants-") as folder:
        copy = Path(folder)
        shutil.copytree(ROOT / "nbflow", copy / "nbflow", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "tests", copy / "tests", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        tests = sorted({one.test for one in mutants})
        if _passes(copy, tests):
            print(f"{len(tests)} tests pass on the code as it is")
        else:
            print("error: the tests fail on the code as it is", file=sys.stderr)
            return 1
        survivors = [one.name for one in mutants if not _caught(copy, one)]
    for name in survivors:
        print(f"survived: {name}")
    print(f"{len(mutants) - len(survivors)} of {len(mutants)} planted bugs were caught")
    return 1 if survivors else 0


def _caught(copy: Path, mutant: Mutant) -> bool:
    file = copy / "nbflow" / mutant.file
    source = file.read_text()
    if source.count(mutant.old) != 1:
        print(f"  MISFIT   {mutant.name}: its text stands {source.count(mutant.old)} times in {mutant.file}")
        return False
    began = time.monotonic()
    file.write_text(source.replace(mutant.old, mutant.new))
    try:
        caught = not _passes(copy, [mutant.test])
    finally:
        file.write_text(source)
    seconds = time.monotonic() - began
    verdict = "caught  " if caught else "SURVIVED"
    print(f"  {verdict} {seconds:5.1f} s  {mutant.name:55} {mutant.test.partition('::test_')[2]}", flush=True)
    return caught


def _passes(copy: Path, tests: Sequence[str]) -> bool:
    """Run tests on the copy; an error in collecting them is no verdict."""
    command = [sys.executable, "-B", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--timeout", "120", *tests]
    done = subprocess.run(
        command,
        cwd=copy,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(copy), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1):
        print(done.stdout, done.stderr, file=sys.stderr)
        raise SystemExit(2)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
