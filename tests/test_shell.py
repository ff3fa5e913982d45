"""The runner of shell steps, with real processes: values in, output out, groups that end, logs without secrets."""

from __future__ import annotations

import datetime as dt
import errno
import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from nbflow.driver import work
from nbflow.events import Printed, TaskEvent
from nbflow.executors import process
from nbflow.executors.shell import KEPT, ShellRunner
from nbflow.files import DiskFullError
from nbflow.memory import MemoryWatch
from nbflow.outcome import Failure, Outcome
from nbflow.steps import ShellStep
from nbflow.task import Context, Places, Task
from nbflow.testing import check_runner
from nbflow.values import File

LONG_GRACE = {"cancel": 60.0, "timeout": 60.0}
"""Nothing is killed for its time within a test."""
SHORT_GRACE = {"cancel": 0.2, "timeout": 0.2}

SLEEP = "echo here > said; exec tail -f said"
"""Prints, and waits until it is interrupted. (A shell may keep an interrupt that comes while it starts a program.)"""
DEAF = "trap '' INT; echo here; while :; do sleep 5; done"
"""Does not end when it is interrupted, nor do its children."""
GATE = "mkfifo gate; "
WAIT = "read line < gate; "
"""Waits until somebody opens the gate: see :func:`unlock`."""


@dataclass
class ManualStop:
    """A stop that the test gives."""

    reason: str | None = None
    kill: bool = False
    callbacks: list[Callable[[], None]] = field(default_factory=list)

    def listen(self, callback):
        if self.reason or self.kill:
            callback()
        self.callbacks.append(callback)
        return lambda: self.callbacks.remove(callback)

    def ask(self, reason=None, *, kill=False):
        self.reason, self.kill = self.reason or reason, self.kill or kill
        for callback in list(self.callbacks):
            callback()


@dataclass
class Ran:
    """What came of a task."""

    outcome: Outcome
    places: Places
    events: list[TaskEvent]

    @property
    def log(self) -> str:
        return self.places.log.read_text("utf-8")

    @property
    def stdout(self) -> str:
        return self.outcome.output["stdout"]

    @property
    def error(self) -> Failure:
        assert self.outcome.error is not None
        return self.outcome.error


@pytest.fixture
def flow(tmp_path) -> Path:
    """The workflow's folder."""
    made = tmp_path / "flow"
    made.mkdir()
    return made


@pytest.fixture
def run(flow) -> Callable[..., Ran]:
    """Run a step: ``run("echo hi", env={"N": 3}, cwd="item", format="json")``; a list is a program without a shell."""
    turns = iter(range(10_000))

    def go(
        given, *, stop=None, tell=None, index=None, env=None, cwd=None, grace=LONG_GRACE, folder=None, **step
    ) -> Ran:
        events: list[TaskEvent] = []

        def told(event):
            events.append(event)
            if tell:
                tell(event)

        task = make_task(given, index=index, env=env, cwd=cwd, **step)
        places = make_places(flow.parent / "run", f"{next(turns)}_x")
        runner = ShellRunner(folder or flow, "run-1", grace)
        return Ran(work(runner, task.at(places.folder), Context(places, stop or ManualStop(), told)), places, events)

    return go


def make_task(given, *, node="x", index=None, **step) -> Task:
    shell = not isinstance(given, list)
    environment = step.pop("env", None) or {}
    parameters = {"run": given} | {name: step.pop(name) for name in ("cwd",) if name in step}
    return Task(
        (node,), "key", ShellStep(id="x", shell=shell, **step), parameters, 1, "x=1", index, "print", environment
    )


def make_places(folder: Path, name: str) -> Places:
    return Places(
        folder=folder,
        notebook=folder / f"{name}.ipynb",
        failed=folder / f"{name}.failed.ipynb",
        log=folder / "logs" / f"{name}.log",
        artifacts=folder / "artifacts" / name,
        item=folder / "items" / name,
    )


def on(line: str, act: Callable[[], object]) -> Callable[[TaskEvent], None]:
    """Do something as soon as the line was printed."""
    done = []

    def tell(event):
        if isinstance(event, Printed) and line in event.line and not done:
            done.append(event)
            act()

    return tell


def unlock(gate: Path) -> None:
    """Let what waits at the gate go on; comes back when it does."""
    gate.write_text("go\n")


def nobody_reads(gate: Path) -> bool:
    """Whether no process waits at the gate: it can be opened for writing only while one does."""
    try:
        os.close(os.open(gate, os.O_WRONLY | os.O_NONBLOCK))
    except OSError as problem:
        return problem.errno == errno.ENXIO
    return False


def children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


# The output


def test_a_command_gives_exit_code_stdout_and_stderr(run):
    """The whole way once: output, log, events, paths, seconds; nothing is left of the item's folder."""
    ran = run("echo fitting; echo careful >&2")
    assert (
        Outcome(
            "completed",
            {"exit_code": 0, "stdout": "fitting\n", "stderr": "careful\n"},
            seconds=ran.outcome.seconds,
            log="logs/0_x.log",
        )
        == ran.outcome
    )
    assert 0 < ran.outcome.seconds < 30
    assert ["careful", "fitting"] == sorted(ran.log.splitlines())
    assert [Printed] == [type(event) for event in ran.events][:1]
    assert not ran.places.item.exists()


def test_a_program_gets_its_arguments_as_they_are(run):
    """No shell looks at them."""
    assert "$HOME|*; a  b|" == run(["printf", "%s|", "$HOME", "*; a  b"]).stdout


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("as 'it' is\n", "as 'it' is\n"),
        ("", ""),
        ("true", True),
        ("false", False),
        ("42", 42),
        ("0.1", 0.1),
        ("nan", float("nan")),
        ('[1, "é", null, true]', [1, "é", None, True]),
        ('{"a": {"b": []}}', {"a": {"b": []}}),
        ("2026-01-05", dt.date(2026, 1, 5)),
        ('["2026-01-05T12:30:00"]', [dt.datetime(2026, 1, 5, 12, 30)]),
        ("P1DT3.5S", dt.timedelta(days=1, seconds=3.5)),
    ],
)
def test_values_become_text(run, text, value):
    """The same in an argument and in a variable: text as is, lists and mappings as JSON, dates in ISO 8601."""
    assert text == run(["printf", "%s", value]).stdout
    assert text == run('printf %s "$VALUE"', env={"VALUE": value}).stdout


def test_a_file_becomes_its_whole_path(run, tmp_path):
    """References are relative to the run folder, processes are elsewhere; also inside of lists."""
    file = File("artifacts/0/frame.parquet", 1, "00", "parquet")
    whole = str(tmp_path / "run/artifacts/0/frame.parquet")
    assert f'{whole} ["{whole}"]' == run(["printf", "%s %s", file, [file]]).stdout


def test_a_value_never_becomes_part_of_the_shell_text(run, flow):
    """What looks like a command in a variable stays a text."""
    assert (
        "$(touch harm)`touch harm`; touch harm\n"
        == run('echo "$CITY"', env={"CITY": "$(touch harm)`touch harm`; touch harm"}).stdout
    )
    assert not (flow / "harm").exists()


@pytest.mark.parametrize(
    ("message", "given", "more"),
    [
        ("run[1] is null. Give it a value, or leave it out.", ["echo", None], {}),
        ("run[1] holds a NUL character. No program can be given one: use a file.", ["echo", "a\0b"], {}),
        ("run is list [], not a program. Give a list: the program, its arguments.", [], {}),
        ("run is null, not text. A program with arguments is a list.", None, {}),
        ("run is int 3, not text. A program with arguments is a list.", 3, {}),
        ("env has the name 'A=B'. A variable's name has characters, and no = or NUL.", "true", {"env": {"A=B": 1}}),
        ("env has the name ''. A variable's name has characters, and no = or NUL.", "true", {"env": {"": 1}}),
        ("env A holds a NUL character. No program can be given one: use a file.", "true", {"env": {"A": "\0"}}),
        ("cwd is int 3, not text. Give item, or a path.", "true", {"cwd": 3}),
    ],
)
def test_values_that_no_program_can_be_given_fail_the_step(run, message, given, more):
    """With the place and the remedy, before anything starts; never tried again."""
    ran = run(given, **more)
    assert ("failed", None) == (ran.outcome.status, ran.outcome.output)
    assert ("expression", message) == (ran.error.kind, ran.error.message)
    assert message + "\n" == ran.log


def test_numbers_that_json_does_not_have_cannot_stand_in_a_list(run):
    """The variable is named."""
    ran = run("true", env={"RATES": [1.0, float("nan")]})
    assert "expression" == ran.error.kind
    assert ran.error.message.startswith("env RATES cannot be written as text: ")


# Where it runs


def test_the_environment_tells_who_the_task_is(run, flow, monkeypatch):
    """What is left of an nbflow around this one is gone; what a person set for nbflow stays."""
    monkeypatch.setenv("NBFLOW_INDEX", "7")
    monkeypatch.setenv("NBFLOW_OLD", "1")
    monkeypatch.setenv("NBFLOW_STATE_DIR", "/state")
    monkeypatch.setenv("MINE", "own")
    command = "env | grep -e ^NBFLOW_ -e ^MINE= | sort"
    inside = run(command, index=3)
    assert [
        "MINE=own",
        "NBFLOW_INDEX=3",
        f"NBFLOW_ITEM_DIR={inside.places.item}",
        "NBFLOW_RUN_ID=run-1",
        "NBFLOW_STATE_DIR=/state",
        f"NBFLOW_WORKFLOW_DIR={flow}",
    ] == inside.stdout.splitlines()
    assert "NBFLOW_INDEX" not in run(command).stdout


def test_a_variable_is_added_replaced_and_removed(run, monkeypatch):
    """Null removes it; who the task is cannot be replaced; this process keeps its own."""
    monkeypatch.setenv("OLD", "1")
    monkeypatch.setenv("GONE", "1")
    env = {"OLD": 2, "NEW": "n", "GONE": None, "NEVER": None, "NBFLOW_RUN_ID": "other"}
    assert "2 n unset run-1\n" == run('echo "$OLD $NEW ${GONE-unset} $NBFLOW_RUN_ID"', env=env).stdout
    assert ("1", "1") == (os.environ["OLD"], os.environ["GONE"])


def test_a_program_is_found_on_the_path_that_the_step_gives(run, tmp_path):
    """``env: {PATH: …}`` counts for the program itself."""
    (tmp_path / "bin").mkdir()
    script(tmp_path / "bin" / "frobnicate", "#!/bin/sh\necho found\n")
    assert "found\n" == run(["frobnicate"], env={"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}).stdout


def test_a_command_runs_in_the_workflows_folder(run, flow):
    """Also if that was given as a relative path."""
    assert f"{flow}\n" == run("pwd -P").stdout
    relative = Path(os.path.relpath(flow))
    assert f"{flow} {flow}\n" == run('echo "$(pwd -P) $NBFLOW_WORKFLOW_DIR"', cwd="", folder=flow).stdout
    assert f"{relative.absolute()}\n" == run('echo "$NBFLOW_WORKFLOW_DIR"', folder=relative).stdout


def test_a_path_is_relative_to_the_workflows_folder(run, flow):
    """And the program's path is relative to that."""
    (flow / "tools").mkdir()
    script(flow / "tools" / "here", "#!/bin/sh\npwd -P\n")
    assert f"{flow / 'tools'}\n" == run(["./here"], cwd="tools").stdout


def test_an_item_gets_an_empty_folder_of_its_own_and_keeps_it(run):
    """``cwd: item``."""
    ran = run('ls -A; echo "$(pwd -P)"; echo 1 > made', cwd="item")
    assert f"{ran.places.item}\n" == ran.stdout
    assert "1\n" == (ran.places.item / "made").read_text()
    assert run("true", cwd="item").places.item.is_dir()


def test_what_is_written_into_the_items_folder_is_kept(run):
    """Also when the process runs elsewhere."""
    ran = run('echo 1 > "$NBFLOW_ITEM_DIR/made"')
    assert "1\n" == (ran.places.item / "made").read_text()


def test_a_directory_that_is_not_there_fails_the_step(run, flow):
    """With the value, the whole path and a remedy."""
    assert (
        Failure(
            "error",
            f"cwd is 'nowhere', and {flow}/nowhere is no folder that can be entered. "
            "Make it in a step before this one, or take the path from the workflow's folder.",
        )
        == run("true", cwd="nowhere").error
    )
    assert "error" == run("true", cwd="n" * 300).error.kind


def test_a_process_has_nothing_to_read(run):
    """stdin is at its end, so that no program waits for a person; ours is left alone."""
    ours, (inside, outside) = os.dup(0), os.pipe()
    os.write(outside, b"for us\n")
    os.dup2(inside, 0)
    try:
        assert "0\n" == run("wc -c | tr -d ' '").stdout
        assert b"for us\n" == os.read(0, 100)
    finally:
        os.dup2(ours, 0)
        for end in (ours, inside, outside):
            os.close(end)


def test_a_process_leads_a_group_of_its_own(run, flow):
    """A signal for it reaches neither us nor our terminal."""
    seen = []

    def look(event):
        pid = int(event.line)
        seen.append([pid] * 2 == [os.getpgid(pid), os.getsid(pid)])
        unlock(flow / "gate")

    run(GATE + "echo $$; " + WAIT, tell=look)
    assert [True] == seen


# Failure


@pytest.mark.parametrize(
    ("message", "command"),
    [
        ("exit code 3: no such city", "echo out; echo trying >&2; echo no such city >&2; echo >&2; exit 3"),
        ("exit code 3: out", "echo out; exit 3"),
        ("exit code 3: 100%", "printf '10%%\\r100%%\\n' >&2; exit 3"),
        ("exit code 3: red", "printf '\\033[31mred\\033[0m\\n\\033[0m\\n'; exit 3"),
        ("exit code 3", "echo; exit 3"),
    ],
)
def test_a_failed_command_says_its_last_words(run, message, command):
    """stderr comes first; empty lines, colours and overwritten parts do not count."""
    ran = run(command)
    assert ("failed", "error", message) == (ran.outcome.status, ran.error.kind, ran.error.message)
    assert ran.log.endswith(message + "\n")


def test_a_failed_command_keeps_its_output(run):
    """Steps that tolerate it can read it."""
    output = run("echo out; echo bad >&2; exit 3").outcome.output
    assert {"exit_code": 3, "stdout": "out\n", "stderr": "bad\n"} == output


def test_a_signal_that_kills_is_named(run):
    """The exit code is the signal, negative."""
    ran = run("echo out; kill -9 $$")
    assert Failure("error", "killed by signal 9") == ran.error
    assert {"exit_code": -9, "stdout": "out\n", "stderr": ""} == ran.outcome.output


def test_a_program_that_is_not_there_is_named(run, flow):
    """Message and remedy in one."""
    ran = run(["frobnicate", "x"])
    assert (
        Failure(
            "error",
            f"'frobnicate' cannot be started in {flow}: No such file or directory. Give the path from the step's "
            "directory, or put it on the PATH; the first line of a script names a program, too.",
        )
        == ran.error
    )
    assert ("failed", None) == (ran.outcome.status, ran.outcome.output)


@pytest.mark.parametrize(
    ("words", "given"),
    [
        ("'./plain' cannot be started in {flow}: Permission denied. chmod +x", ["./plain"]),
        ("'./bare' cannot be started in {flow}: Exec format error. A script begins with", ["./bare"]),
        (
            "'true' cannot be started in {flow}: Argument list too long. Pass large values in a file.",
            ["true", "x" * 2**22],
        ),
    ],
)
def test_a_program_that_cannot_be_started_is_named(run, flow, words, given):
    """With what to do about it."""
    (flow / "plain").write_text("#!/bin/sh\n")
    script(flow / "bare", "\x7f no program\n")
    ran = run(given)
    assert "error" == ran.error.kind
    assert ran.error.message.startswith(words.format(flow=flow))


def test_a_command_that_the_shell_does_not_find_fails_with_the_shells_words(run):
    """The shell itself was started."""
    ran = run("frobnicate")
    assert 127 == ran.outcome.output["exit_code"]
    assert "not found" in ran.error.message


# JSON


def test_json_from_stdout_is_data(run):
    """stderr may say what it wants."""
    ran = run("""echo careful >&2; echo '{"n": [1, 2.5, null, true], "é": "\\u00e9"}'""", format="json")
    assert {"n": [1, 2.5, None, True], "é": "é"} == ran.outcome.output["data"]


def test_text_that_looks_like_json_stays_text(run):
    """Without ``format: json`` there is no data."""
    assert {"exit_code": 0, "stdout": "[1]\n", "stderr": ""} == run("echo '[1]'").outcome.output


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        ("Expecting value at line 1, column 1", ""),
        ("Expecting value at line 2, column 7", '{\n "a": x}'),
        ("Extra data at line 2, column 1", "[1]\n[2]"),
        (
            "NaN is no number of JSON, at line 2, column 9; null or text can stand there",
            '{"NaN": "NaN",\n "b":  [NaN]}',
        ),
        ("-Infinity is no number of JSON, at line 1, column 5; null or text can stand there", '["",-Infinity]'),
        ("1e999 is no number of JSON, at line 1, column 6; null or text can stand there", "[1,  1e999oops"),
        (
            "77777777777777777777 is no number of JSON, at line 1, column 2; null or text can stand there",
            f"[{'7' * 9999}]",
        ),
        ("it holds text with half a character (a lone surrogate) at [0]", '["\\ud800"]'),
        ("it holds a value nested more than 100 deep at", "[" * 200 + "]" * 200),
        ("it is nested too deep", "[" * 200_000),
    ],
)
def test_bad_json_fails_with_its_place(run, flow, problem, text):
    """What JSON does not know is refused, and so is what cannot be kept; the text is there to look at."""
    (flow / "text").write_text(text)
    ran = run("cat text", format="json")
    assert ("failed", "output") == (ran.outcome.status, ran.error.kind)
    assert ran.error.message.startswith(f"stdout is no JSON: {problem}")
    assert {"exit_code": 0, "stdout": text, "stderr": ""} == ran.outcome.output


def test_too_much_json_is_refused(run):
    """What is not kept whole is not read in part."""
    ran = run(f"echo [; yes 0, | head -c {KEPT}; echo 0]", format="json")
    message = "stdout has more than 1,000,000 characters: write data to a file, and print its path"
    assert Failure("output", message) == ran.error


def test_a_failed_command_fails_with_its_exit_code_and_keeps_its_data(run):
    """Many tools report what they found as JSON, and end with 1."""
    ran = run("echo '[1]'; exit 1", format="json")
    assert ("error", "exit code 1: [1]") == (ran.error.kind, ran.error.message)
    assert [1] == ran.outcome.output["data"]
    assert "data" not in run("exit 1", format="json").outcome.output


def test_shell_and_format_decide_the_work():
    """And nothing else of the step: command, variables and directory are parameters."""
    works = {
        ShellStep(id="x", shell=shell, format=form).work_digest for shell in (True, False) for form in ("text", "json")
    }
    assert 4 == len(works)
    assert ShellStep(id="x").work_digest == ShellStep(id="y", secrets=("A",), timeout=3).work_digest


# What is printed


def test_what_is_printed_is_in_the_log_while_it_runs(run, flow):
    """The process waits for the test, which reads the log."""
    seen = []

    def look():
        seen.append((flow.parent / "run/logs/0_x.log").read_text())
        unlock(flow / "gate")

    ran = run(GATE + "echo early; " + WAIT + "echo late", tell=on("early", look))
    assert ["early\n"] == seen
    assert "early\nlate\n" == ran.log == ran.stdout


def test_lines_of_both_streams_stay_whole_in_the_log(run, flow):
    """Half a line of stdout waits for its other half, and not for stderr."""
    ran = run(GATE + "printf half; " + WAIT + "echo whole >&2", tell=on("half", lambda: unlock(flow / "gate")))
    assert "whole\nhalf\n" == ran.log


def test_last_lines_are_told_at_most_ten_times_a_second(run):
    """However fast it prints."""
    ran = run("seq 1 100000")
    assert 1 <= len([event for event in ran.events if isinstance(event, Printed)]) <= 1 + 10 * ran.outcome.seconds


def test_bytes_that_are_no_text_are_replaced(run):
    """A program that prints them does not fail; the log leaves control characters out."""
    ran = run("printf 'a\\377\\000\\351b\\n'")
    assert "a\ufffd\0\ufffdb\n" == ran.stdout
    assert "a\ufffd\ufffdb\n" == ran.log
    assert "completed" == run("head -c 300000 /dev/urandom").outcome.status


def test_a_character_that_comes_in_two_pieces_is_one(run, flow):
    """Between the two pieces the process waits."""
    ran = run(GATE + "printf 'a\\303'; " + WAIT + "printf '\\251'", tell=on("a", lambda: unlock(flow / "gate")))
    assert "aé" == ran.stdout
    assert "aé\n" == ran.log


def test_a_character_that_is_cut_off_is_replaced(run):
    """The end of the output is the end of the text."""
    assert "a\ufffd" == run("printf 'a\\303'").stdout


def test_a_long_output_keeps_both_ends_and_the_log_all(run):
    """And the note in the middle says how much is missing."""
    ran = run("seq 1 400000; seq 1 300 >&2")
    whole = "".join(f"{i}\n" for i in range(1, 400_001))
    assert ran.stdout.startswith(whole[:400_000])
    assert ran.stdout.endswith(whole[-400_000:])
    assert "… 1.7 MB left out, all of it is in the log …" in ran.stdout
    assert KEPT >= len(ran.stdout)
    assert len(whole) + len(ran.outcome.output["stderr"]) == len(ran.log)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is counted in /proc")
def test_two_hundred_megabytes_take_little_memory(tmp_path):
    """In a process of its own, whose peak is measured; the output's text is most of it."""
    code = f"""
import re, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_shell
from nbflow.executors.shell import ShellRunner
from nbflow.task import Context
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024
def go(command, name):
    places = test_shell.make_places(Path({str(tmp_path)!r}), name)
    runner = ShellRunner(Path({str(tmp_path)!r}), "r")
    task = test_shell.make_task(command, secrets=("TOKEN",))
    outcome = runner(task, Context(places, test_shell.ManualStop(), lambda event: None))
    size = places.log.stat().st_size
    places.log.unlink()
    return outcome.status, size
go("echo small", "small")
before = peak()
large = "yes 'a line of some sixty characters, as programs like to print it' | head -c 200000000"
print(*go(large, "large"), peak() - before)
"""
    env = {**os.environ, "TOKEN": "nothing-that-is-printed"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=env)
    assert "" == done.stderr
    status, size, megabytes = done.stdout.split()
    assert ("completed", 200_000_001) == (status, int(size))
    assert 30 > int(megabytes)


def test_a_program_that_closes_its_outputs_is_waited_for(run, flow):
    """Its end is the end of the process, not of the pipes."""
    waits = threading.Thread(target=lambda: unlock(flow / "gate"))
    os.mkfifo(flow / "gate")
    waits.start()
    ran = run("echo early; exec >&- 2>&-; " + WAIT + "exit 4")
    waits.join()
    assert {"exit_code": 4, "stdout": "early\n", "stderr": ""} == ran.outcome.output


def test_waiting_costs_no_time_of_the_processor(run, flow):
    """Not even when one pipe is closed and the other is silent."""
    os.mkfifo(flow / "gate")
    threading.Timer(1.0, lambda: unlock(flow / "gate")).start()
    before = time.thread_time()
    run("exec >&-; " + WAIT)
    assert 0.1 > time.thread_time() - before


def test_secrets_are_masked_wherever_text_is_written(run, monkeypatch, flow):
    """In log, events, output, data and message, also when they come in two pieces; the process itself has them."""
    monkeypatch.setenv("TOKEN", 'hush-"wxyz"')
    monkeypatch.setenv("PIN", "471147114711")
    keys = {"secrets": ("TOKEN", "PIN", "ABSENT")}
    pieces = run(
        GATE
        + 'test "$TOKEN" = \'hush-"wxyz"\' || exit 9; echo "one $TOKEN"; printf "two hush-"; '
        + WAIT
        + 'printf \'"wxyz"\\n\'; echo "$PIN" >&2; printf hush-',
        tell=on("", lambda: unlock(flow / "gate")),
        **keys,
    )
    assert {"exit_code": 0, "stdout": "one *****\ntwo *****\nhush-", "stderr": "*****\n"} == pieces.outcome.output
    failed = run('echo "bad $TOKEN" >&2; exit 3', **keys)
    assert "exit code 3: bad *****" == failed.error.message
    data = run(
        """printf '{"hush-\\\\"wxyz\\\\"": [471147114711, "\\\\u0068ush-\\\\"wxyz\\\\""]}'""", format="json", **keys
    )
    assert {"*****": ["*****", "*****"]} == data.outcome.output["data"]
    absent = run(['no-hush-"wxyz"'], **keys)
    assert absent.error.message.startswith("'no-*****' cannot be started")
    for ran in (pieces, failed, absent):
        said = repr((ran.outcome, ran.events)) + ran.log
        assert "wxyz" not in said
        assert "47114711" not in said


# Stopping


@pytest.mark.parametrize(("reason", "status"), [("timeout", "failed"), ("cancel", "cancelled")])
def test_a_stopped_command_is_interrupted_and_keeps_what_it_printed(run, reason, status):
    """In the output and in the log; nothing is killed."""
    stop = ManualStop()
    ran = run(SLEEP, stop=stop, tell=on("here", lambda: stop.ask(reason)), timeout=30.0)
    assert status == ran.outcome.status
    assert {"exit_code": -signal.SIGINT, "stdout": "here\n", "stderr": ""} == ran.outcome.output
    assert ran.log.startswith("here\n")
    failure = Failure("timeout", "no time left after 30 s") if reason == "timeout" else None
    assert failure == ran.outcome.error
    assert [] == children()


def test_without_a_limit_of_its_own_a_step_tells_how_long_it_ran(run):
    """The time was its list's."""
    stop = ManualStop()
    ran = run(SLEEP, stop=stop, tell=on("here", lambda: stop.ask("timeout")))
    assert re.fullmatch(r"no time left after [\d.]+ s", ran.error.message)


def test_a_command_may_say_good_bye(run):
    """It was stopped all the same, also if it ends with 0."""
    stop = ManualStop()
    ran = run(
        "trap 'echo bye; exit 0' INT; echo here; while :; do sleep 0.05; done",
        stop=stop,
        tell=on("here", lambda: stop.ask("cancel")),
    )
    assert ("cancelled", "here\nbye\n", 0) == (ran.outcome.status, ran.stdout, ran.outcome.output["exit_code"])


@pytest.mark.parametrize(("reason", "status"), [("timeout", "failed"), ("cancel", "cancelled")])
def test_a_command_that_does_not_listen_is_killed_after_its_grace(run, reason, status):
    """With what it printed kept."""
    stop = ManualStop()
    ran = run(DEAF, stop=stop, tell=on("here", lambda: stop.ask(reason)), grace=SHORT_GRACE, timeout=0.25)
    assert (status, {"exit_code": -signal.SIGKILL, "stdout": "here\n", "stderr": ""}) == (
        ran.outcome.status,
        ran.outcome.output,
    )
    assert reason == "cancel" or ran.error.message == "no time left after 0.25 s"
    assert [] == children()


def test_the_grace_is_that_of_kernels():
    """Three seconds after a cancel, ten after a time-out."""
    assert {"cancel": 3.0, "timeout": 10.0} == process.GRACE


@pytest.mark.parametrize("first", ["cancel", "timeout", None])
def test_a_kill_does_not_wait(run, first):
    """Neither for an answer to an interrupt that was sent, nor for the sending of one."""
    stop = ManualStop()

    def ask():
        if first is not None:
            stop.ask(first)
        stop.ask(kill=True)

    ran = run(DEAF, stop=stop, tell=on("here", ask))
    assert "failed" == ran.outcome.status if first == "timeout" else "cancelled" == ran.outcome.status
    assert {"exit_code": -signal.SIGKILL, "stdout": "here\n", "stderr": ""} == ran.outcome.output


def test_a_kill_reaches_a_command_that_was_interrupted_before(run):
    """The second Ctrl-C, from another thread."""
    stop = ManualStop()
    first, second = on("here", lambda: stop.ask("cancel")), on("heard", lambda: threading.Thread(target=kill).start())

    def kill():
        stop.ask(kill=True)

    def tell(event):
        first(event)
        second(event)

    # What follows a line within a tenth of a second is not told, so the command says it again.
    ran = run("trap 'word=heard' INT; echo here; while :; do sleep 0.05; echo $word; done", stop=stop, tell=tell)
    assert ("cancelled", -signal.SIGKILL) == (ran.outcome.status, ran.outcome.output["exit_code"])


def test_what_stood_in_the_pipe_at_the_kill_is_kept(run, monkeypatch):
    """Read in tiny pieces, it still stands there when the process has ended."""
    monkeypatch.setattr(process, "CHUNK", 1)
    stop = ManualStop()
    ran = run("printf %04000d 0; exec tail -f /dev/null", stop=stop, tell=on("", lambda: stop.ask(kill=True)))
    assert "0" * 4000 == ran.stdout


@pytest.mark.parametrize("grace", [LONG_GRACE, SHORT_GRACE], ids=["interrupted", "killed"])
def test_the_whole_group_ends_on_a_time_out(run, flow, until, grace):
    """A grandchild that waits at the gate is gone, and what it would have done does not happen."""
    stop = ManualStop()
    trap = "trap '' INT; " if grace is SHORT_GRACE else ""
    command = GATE + trap + "(echo here; " + WAIT + "touch late) & wait; sleep 60"
    ran = run(command, stop=stop, tell=on("here", lambda: stop.ask("timeout")), grace=grace)
    assert "timeout" == ran.error.kind
    until(lambda: nobody_reads(flow / "gate"), 10)
    assert not (flow / "late").exists()


def test_a_stop_before_the_beginning_starts_nothing(run, flow):
    """The log is there, and says why."""
    cancelled = run("touch ran", stop=ManualStop("cancel"))
    assert ("cancelled", None, "logs/0_x.log") == (
        cancelled.outcome.status,
        cancelled.outcome.output,
        cancelled.outcome.log,
    )
    late = run("touch ran", stop=ManualStop("timeout"), timeout=30.0)
    assert Failure("timeout", "no time left after 30 s") == late.error
    assert "cancelled" == run("touch ran", stop=ManualStop(kill=True)).outcome.status
    assert not (flow / "ran").exists()


def test_a_stop_after_the_end_changes_nothing(run):
    """Nobody listens any more, and a call that was under way meets a closed bell."""
    stop, rings = ManualStop(), []
    ran = run("echo here", stop=stop, tell=on("here", lambda: rings.extend(stop.callbacks)))
    assert "completed" == ran.outcome.status
    assert [] == stop.callbacks
    for ring in rings:
        ring()
    assert 1 == len(rings)


# What outlives a command


def test_what_a_command_leaves_in_the_background_is_heard_until_it_ends(run, flow):
    """It has a second."""
    command = GATE + "(" + WAIT + "echo late) & echo early"
    assert "early\nlate\n" == run(command, tell=on("early", lambda: unlock(flow / "gate"))).stdout


def test_what_holds_the_pipes_longer_is_killed(run, flow, until):
    """The command itself has completed, and the outcome says so."""
    ran = run(GATE + "(" + WAIT + "touch late) & echo done")
    assert ("completed", "done\n") == (ran.outcome.status, ran.stdout)
    assert 1 <= ran.outcome.seconds
    until(lambda: nobody_reads(flow / "gate"), 10)
    assert not (flow / "late").exists()


def test_what_does_not_hold_the_pipes_is_killed_at_once(run, flow, until, monkeypatch):
    """Nothing of the group outlives its step."""
    monkeypatch.setattr(process, "LINGER", 60.0)
    ran = run(GATE + "(" + WAIT + "touch late) > /dev/null 2>&1 & echo done")
    assert 50 > ran.outcome.seconds
    until(lambda: nobody_reads(flow / "gate"), 10)
    assert not (flow / "late").exists()


def test_a_flood_from_the_background_ends(run):
    """A pipe that is never empty is no reason to stay."""
    ran = run("yes & echo done >&2")
    ran.places.log.unlink()  # it is large
    assert ("completed", "done\n") == (ran.outcome.status, ran.outcome.output["stderr"])


def test_a_daemon_with_our_pipes_holds_nobody_up(run):
    """It left the group, so it lives; nobody waits for it."""
    code = "import subprocess; print(subprocess.Popen(['sleep', '60'], start_new_session=True).pid)"
    ran = run([sys.executable, "-c", code])
    daemon = psutil.Process(int(ran.stdout))
    assert daemon.is_running()
    daemon.kill()
    assert 1 <= ran.outcome.seconds < 50


def test_a_kill_ends_the_wait_for_the_pipes(run, monkeypatch, until):
    """The time of a killed task is short, and what it printed must not get lost for a daemon."""
    monkeypatch.setattr(process, "LINGER", 60.0)
    stop = ManualStop()
    code = (
        "import os, subprocess\n"
        "print(os.getpid(), subprocess.Popen(['sleep', '60'], start_new_session=True).pid, flush=True)"
    )

    def kill(event):
        leader = psutil.Process(int(event.line.split()[0]))
        until(lambda: leader.status() == psutil.STATUS_ZOMBIE, 30)
        stop.ask(kill=True)

    def tell(event):
        threading.Thread(target=kill, args=(event,)).start()

    ran = run([sys.executable, "-c", code], stop=stop, tell=tell)
    psutil.Process(int(ran.stdout.split()[1])).kill()
    assert "completed" == ran.outcome.status
    assert 50 > ran.outcome.seconds


def test_a_full_disk_ends_the_command_and_is_nobodys_failure(flow, until):
    """The log cannot be written: the driver is told, and nothing runs on."""
    places = make_places(flow, "x")
    full = Places(Path("/dev"), places.notebook, places.failed, Path("/dev/full"), places.artifacts, places.item)
    with pytest.raises(DiskFullError, match="No space left") as told:
        work(
            ShellRunner(flow, "r"),
            make_task(GATE + "echo here; " + WAIT),
            Context(full, ManualStop(), lambda event: None),
        )
    assert errno.ENOSPC == told.value.errno
    assert [] == children()
    until(lambda: nobody_reads(flow / "gate"), 10)


# The runner


def test_a_runner_keeps_no_state(flow):
    """All at once end as they do one after the other."""
    names = iter(range(1000))
    lock = threading.Lock()

    def context(task):
        with lock:
            return Context(make_places(flow.parent / "run", str(next(names))), ManualStop(), lambda event: None)

    tasks = [
        make_task('echo "$N"; seq 1 2000; exit $N', node=f"x{n}", env={"N": n}, index=n, format="text")
        for n in range(6)
    ] + [make_task(["printf", "[%s]", n], node=f"y{n}", format="json") for n in range(3)]
    outcomes = check_runner(ShellRunner(flow, "r"), tasks, context)
    assert ["completed", *["failed"] * 5, *["completed"] * 3] == [outcome.status for outcome in outcomes]
    assert [[0], [1], [2]] == [outcome.output["data"] for outcome in outcomes[6:]]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="descriptors are counted in /proc")
def test_fifty_commands_leave_no_descriptor_thread_or_zombie(run):
    """Those that completed, failed, were not started, and were stopped."""

    def turn(i):
        stop = ManualStop()
        kill = {"kill": i % 2 == 0}
        return [
            lambda: run("echo out; echo err >&2"),
            lambda: run("exec >&-; exit 3"),
            lambda: run(["frobnicate"]),
            lambda: run(SLEEP, stop=stop, tell=on("here", lambda: stop.ask("cancel", **kill))),
            lambda: run("true", cwd="nowhere"),
        ][i % 5]().outcome.status

    def left():
        return psutil.Process().num_fds(), threading.active_count(), children()

    for i in range(5):
        turn(i)
    before = left()
    statuses = [turn(i) for i in range(50)]
    assert before == left()
    assert {"completed": 10, "failed": 30, "cancelled": 10} == {status: statuses.count(status) for status in statuses}
    assert [] == before[2]


def test_systems_that_do_not_tell_of_an_end_are_asked(run, flow, monkeypatch, until):
    """Without process descriptors: old kernels, and some containers."""

    def refused(pid):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "pidfd_open", refused, raising=False)
    assert {"exit_code": 3, "stdout": "out\n", "stderr": ""} == run("echo out; exec >&- 2>&-; exit 3").outcome.output
    stop = ManualStop()
    ran = run(
        GATE + "(echo here; " + WAIT + "touch late) & wait; sleep 60",
        stop=stop,
        tell=on("here", lambda: stop.ask("timeout")),
    )
    assert ("timeout", -signal.SIGINT) == (ran.error.kind, ran.outcome.output["exit_code"])
    until(lambda: nobody_reads(flow / "gate"), 10)
    assert json.dumps(ran.stdout) == '"here\\n"'


@pytest.mark.parametrize("kill", ["kill -9 $$", "sh -c 'kill -9 $$'; exit $?"])
def test_a_command_that_the_system_ended_for_memory_fails_for_memory(run, tmp_path, monkeypatch, kill):
    """Itself, or what its shell had started; where the system has not counted it, nothing is guessed."""
    (tmp_path / "own").write_text("0::/box\n")
    (tmp_path / "box").mkdir()
    count = tmp_path / "box" / "memory.events"
    count.write_text("oom_kill 3\n")
    monkeypatch.setattr("nbflow.executors.shell.MemoryWatch", lambda: MemoryWatch(tmp_path, tmp_path / "own"))
    assert "error" == run(kill).error.kind
    error = run(f"echo oom_kill 4 > {count}; {kill}").error
    assert "memory" == error.kind
    assert error.message.endswith(": memory? (the system counted it)")


def test_a_command_tells_its_process(flow, tmp_path):
    """Its memory is looked at under this number."""
    told = []
    places = make_places(tmp_path / "run", "0_x")
    context = Context(places, ManualStop(), lambda event: None, began=told.append)
    outcome = work(ShellRunner(flow, "run-1"), make_task("echo $$").at(places.folder), context)
    assert told == [int(outcome.output["stdout"])]
