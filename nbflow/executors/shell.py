"""The runner of shell steps: a text for /bin/sh, or a program with its arguments."""

from __future__ import annotations

import codecs
import json
import math
import os
import re
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from ..durations import about
from ..errors import NbflowError, ParameterError
from ..events import Printed
from ..files import own_writes
from ..masking import Masker, masked
from ..memory import MemoryWatch
from ..outcome import Failure, Outcome, failed
from ..printing import Ends, TaskLog, plain, short
from ..steps import ShellStep
from ..task import Context, Task
from ..types import StopReason
from ..values import NotAValueError, Value, argument, result
from . import process

__all__ = ["ShellRunner"]

KEPT = 1_000_000
"""Characters of each stream that stand in the output: half of them its beginning, half its end."""

OURS = "NBFLOW_"
"""Begins the names of variables that tell a task who it is."""
SETTINGS = ("NBFLOW_STATE_DIR",)
"""Variables of that name which a person sets, and which hold for an nbflow inside of a step as well."""


class ShellRunner:
    """Runs shell commands and programs. Shared by all threads; keeps nothing between tasks.

    A step's parameters are ``run`` (text for ``/bin/sh -c``, or the program and its arguments as values), and ``cwd``
    (``item`` for the item's own folder, or a path).

    Parameters
    ----------
    folder : Path
        The workflow's folder: the directory of steps, and what their paths are relative to.
    run_id : str
        The run's id; processes find it in ``NBFLOW_RUN_ID``.
    grace : mapping, optional
        Seconds between interrupt and kill, for each reason to stop.
    """

    def __init__(self, folder: Path, run_id: str, grace: Mapping[StopReason, float] = process.GRACE) -> None:
        self._folder = folder.absolute()
        self._run_id = run_id
        self._grace = grace

    def __call__(self, task: Task, context: Context) -> Outcome:
        """Run one attempt; gives its outcome, however the process ended."""
        step = task.step
        assert isinstance(step, ShellStep), "the driver sends each kind of task to its own runner"
        began = time.monotonic()
        masker = Masker.of_environment(step.secrets, os.environ)
        with own_writes():
            attempt = _Attempt(task, step, context, masker, self._folder, self._run_id, self._grace, MemoryWatch())
            outcome = attempt.run()
        return replace(outcome, seconds=time.monotonic() - began)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One attempt at one task."""

    task: Task
    step: ShellStep
    context: Context
    masker: Masker
    folder: Path
    run_id: str
    grace: Mapping[StopReason, float]
    memory: MemoryWatch

    def run(self) -> Outcome:
        """Run it, with its log open and the item's folder made."""
        places = self.context.places
        places.item.mkdir(parents=True, exist_ok=True)
        try:
            with closing(TaskLog(places.log, self.masker, self._show)) as log:
                outcome = self._run(log)
                if outcome.error is not None:
                    log.failed(outcome.error.message)
            return replace(outcome, log=places.log.relative_to(places.folder).as_posix())
        finally:
            if self.task.parameters.get("cwd") != "item":
                with suppress(OSError):  # the process put something there
                    places.item.rmdir()

    def _run(self, log: TaskLog) -> Outcome:
        began = time.monotonic()
        json_wanted = self.step.format == "json"
        streams = {
            "stdout": _Stream("stdout", log, self.masker, exactly=json_wanted),
            "stderr": _Stream("stderr", log, self.masker),
        }
        try:
            ended = process.run(
                self._command(),
                cwd=self._directory(),
                env=self._environment(),
                heard=lambda name, data: streams[name].feed(data),
                stop=self.context.stop,
                grace=self.grace,
                began=self.context.began,
            )
        except NbflowError as problem:
            kind = "expression" if isinstance(problem, ParameterError) else "error"
            return failed(kind, self.masker.text(f"{problem.message} {problem.remedy}".rstrip()))
        for stream in streams.values():
            stream.feed(b"", final=True)
        return self._outcome(ended, streams["stdout"], streams["stderr"], time.monotonic() - began)

    def _show(self, line: str) -> None:
        self.context.tell(Printed(time.time(), self.task.node, line))

    # What is started, and where

    def _command(self) -> list[str]:
        given = self.task.parameters.get("run")
        if self.step.shell:
            if not isinstance(given, str):
                raise ParameterError(f"run is {_named(given)}, not text.", "A program with arguments is a list.")
            return ["/bin/sh", "-c", self._text(given, "run")]
        if not isinstance(given, list) or not given:
            raise ParameterError(f"run is {_named(given)}, not a program.", "Give a list: the program, its arguments.")
        return [self._text(value, f"run[{i}]") for i, value in enumerate(given)]

    def _directory(self) -> Path:
        given = self.task.parameters.get("cwd")
        if given is None:
            return self.folder
        if not isinstance(given, str):
            raise ParameterError(f"cwd is {_named(given)}, not text.", "Give item, or a path.")
        directory = self.context.places.item if given == "item" else self.folder / given
        if not (os.path.isdir(directory) and os.access(directory, os.X_OK)):  # noqa: PTH112 - false for every reason
            raise NbflowError(
                f"cwd is {given!r}, and {directory} is no folder that can be entered.",
                "Make it in a step before this one, or take the path from the workflow's folder.",
            )
        return directory

    def _environment(self) -> dict[str, str]:
        given = {name: text for name, text in os.environ.items() if name in SETTINGS or not name.startswith(OURS)}
        environment = {**self.context.variables, **given}
        for name, value in self.task.environment.items():
            if not name or "=" in name or "\0" in name:
                raise ParameterError(
                    f"env has the name {name!r}.", "A variable's name has characters, and no = or NUL."
                )
            if value is None:
                environment.pop(name, None)
            else:
                environment[name] = self._text(value, f"env {name}")
        environment["NBFLOW_RUN_ID"] = self.run_id
        environment["NBFLOW_ITEM_DIR"] = str(self.context.places.item)
        environment["NBFLOW_WORKFLOW_DIR"] = str(self.folder)
        if self.task.index is not None:
            environment["NBFLOW_INDEX"] = str(self.task.index)
        return environment

    def _text(self, value: Value, where: str) -> str:
        """Give the text that a program gets for a value."""
        if value is None:
            raise ParameterError(f"{where} is null.", "Give it a value, or leave it out.")
        try:
            text = _spelled(value)
        except ValueError as problem:
            raise ParameterError(f"{where} cannot be written as text: {problem}.", "Give it as text.") from None
        if "\0" in text:
            raise ParameterError(f"{where} holds a NUL character.", "No program can be given one: use a file.")
        return text

    # The outcome

    def _outcome(self, ended: process.Ended, stdout: _Stream, stderr: _Stream, seconds: float) -> Outcome:
        if ended.code is None:
            return Outcome("cancelled") if ended.stopped == "cancel" else failed("timeout", self._late(seconds))
        output: dict[str, Value] = {"exit_code": ended.code, "stdout": stdout.text, "stderr": stderr.text}
        unread = self._read_data(output, stdout) if self.step.format == "json" else None
        if ended.stopped == "cancel":
            return Outcome("cancelled", output)
        if ended.stopped == "timeout":
            failure = Failure("timeout", self._late(seconds))
        elif ended.code:
            kind = "memory" if self.memory.died_of_it(ended.code) else "error"
            why = self.memory.hint(ended.code) if kind == "memory" else ""
            failure = Failure(kind, ": ".join(filter(None, [_ending(ended.code, stderr.text, stdout.text), why])))
        elif unread is not None:
            failure = Failure("output", self.masker.text(unread))
        else:
            return Outcome("completed", output)
        return Outcome("failed", output, failure)

    def _read_data(self, output: dict[str, Value], stdout: _Stream) -> str | None:
        """Put the data that stdout holds into the output; gives the reason where it holds none."""
        try:
            data = stdout.data()
        except ValueError as problem:
            return str(problem)
        output["data"] = masked(data, self.masker, {}) if self.masker else data
        return None

    def _late(self, seconds: float) -> str:
        given = self.step.timeout
        return f"no time left after {about(seconds if given is None else given)}"


class _Stream:
    """What came over one stream: written to the log as it comes, and kept without secrets."""

    def __init__(self, name: str, log: TaskLog, masker: Masker, *, exactly: bool = False) -> None:
        self._name = name
        self._log = log
        self._masker = masker.stream()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._kept = Ends(KEPT)
        self._exact = Ends(KEPT) if exactly else None

    def feed(self, data: bytes, *, final: bool = False) -> None:
        """Take what was printed; ``final``: nothing more comes."""
        text = self._decoder.decode(data, final)
        if text:
            self._log.printed(self._name, text)
            if self._exact is not None:
                self._exact.feed(text)
        self._kept.feed(self._masker.feed(text))
        if final:
            self._kept.feed(self._masker.rest())

    @property
    def text(self) -> str:
        """Its beginning and its end, without secrets."""
        return self._kept.text

    def data(self) -> Value:
        """Give its value as JSON, with secrets; raises ValueError with the reason."""
        assert self._exact is not None
        if self._exact.left_out:
            raise ValueError(f"stdout has more than {KEPT:,} characters: write data to a file, and print its path")
        try:
            return _strict(self._exact.text)
        except ValueError as problem:
            raise ValueError(f"stdout is no JSON: {problem}") from None


def _spelled(value: Value) -> str:
    """Give the text of a value: of lists and mappings JSON, of files their path."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=argument)
    return str(argument(value))


def _named(value: Value) -> str:
    return "null" if value is None else f"{type(value).__name__} {value!r:.40}"


def _ending(code: int, *printed: str) -> str:
    """Give in one line how a process ended, with the last line that tells something."""
    if code < 0:
        return f"killed by signal {-code}"
    for text in printed:
        for line in reversed(text[-10_000:].splitlines()):
            if words := plain(line).strip():
                return f"exit code {code}: {short(words)}"
    return f"exit code {code}"


_WORD = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\w.+-]+', re.DOTALL)


def _strict(text: str) -> Value:
    """Give the value of a JSON text that says nothing but JSON.

    Raises
    ------
    ValueError
        With the reason, and the place where there is one.
    """

    def refuse(word: str) -> NoReturn:
        at = next((match.start() for match in _WORD.finditer(text) if match.group().startswith(word)), 0)
        line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
        raise ValueError(
            f"{word:.20} is no number of JSON, at line {line}, column {column}; null or text can stand there"
        )

    def fraction(word: str) -> float:
        number = float(word)
        return number if math.isfinite(number) else refuse(word)

    def whole(word: str) -> int:
        try:
            return int(word)
        except ValueError:  # more digits than Python reads
            refuse(word)

    try:
        value: Value = result(json.loads(text, parse_constant=refuse, parse_float=fraction, parse_int=whole))
    except json.JSONDecodeError as problem:
        raise ValueError(f"{problem.msg} at line {problem.lineno}, column {problem.colno}") from None
    except NotAValueError as problem:
        raise ValueError(f"it holds {problem}") from None
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    return value
