"""``%load_ext nbflow``: the verbs of the command line in a notebook, with its view and its completion.

``%nbflow map fit.ipynb --grid n=1,2`` shows the run in the cell and gives it as the cell's value; with a ``&`` at its
end it comes back at once. ``%nbflow resume`` goes on with the run of this notebook. ``%%nbflow monthly.yml`` writes the
cell to that file, and runs it.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import click

from . import api
from .api.interactive import Interactive, name_of
from .api.interrupts import Interrupts
from .api.live import this_notebook
from .api.reading import locate
from .api.runs import Run
from .api.session import Request
from .cli import VERBS, nbflow
from .cli.work import Show
from .errors import NbflowError, TargetError

__all__ = ["Magics", "completions", "load"]

WORKING = ("map", "run", "resume", "answer")
"""Verbs that work at a run, and can do so in the background."""
HERE = ("run", "resume", "status", "results", "logs", "cancel")
"""Verbs that mean this notebook where no other target is named."""

MARK = "# %%nbflow: a cell of a notebook writes this file"
"""The first line of such files, where the cell has the magic: so lines have the numbers that they have there."""


class _Shown(Show):
    """Shows a working in the cell, and leaves the run as its value."""

    run: ClassVar[Run | None] = None

    def _work(self, request: Request, interrupts: Interrupts) -> int:
        using, quiet = self._using, self._quiet or self._as_json
        type(self).run = api.work(request, interrupts, quiet=quiet, executor=using.executor, reporter=using.reporter)
        return 0

    def _detach(self, request: Request) -> int:
        type(self).run = api.live_detached(request, self._using.executor, quiet=self._quiet or self._as_json)
        return 0


class _Begun(_Shown):
    """Only begins it."""

    def _work(self, request: Request, interrupts: Interrupts) -> int:
        using, quiet = self._using, self._quiet or self._as_json
        interrupts.answered = True
        type(self).run = api.begin(request, quiet=quiet, executor=using.executor, reporter=using.reporter)
        return 0


class Magics:
    """What ``%nbflow`` and ``%%nbflow`` do.

    Parameters
    ----------
    shell : InteractiveShell
        IPython's.
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._steps: Interactive | None = None

    def line(self, words: str) -> object:
        """Do what a line says."""
        return self._do(_split(words))

    def cell(self, words: str, text: str) -> object:
        """Write the cell to the file that is named first, and run it."""
        given = _split(words)
        if not given or given[0].startswith("-"):
            raise _usage("%%nbflow needs a file: the cell is written there", "%%nbflow monthly.yml -i year=2026")
        if {"-h", "--help"}.intersection(given):
            return self._do(["run", "--help"])
        path = Path(given[0])
        if path.suffix not in (".yml", ".yaml"):
            raise _usage(f"{path} is no workflow file", f"%%nbflow {path.stem}.yml")
        try:
            before = path.read_text(encoding="utf-8") if path.exists() else MARK
            if not before.startswith(MARK):
                raise _usage(f"{path} is there, and no cell wrote it", f"Run it: %nbflow run {path}; or name another.")
            path.write_text(f"{MARK}\n{text}", encoding="utf-8")
        except OSError as problem:
            raise _usage(f"{path}: {problem.strerror}", "Name a file that can be written.") from problem
        return self._do(["run", *given])

    def step(self, words: str, code: str) -> None:
        """Run a cell as a recorded step."""
        given = _split(words)
        if len(given) != 1:
            raise _usage("%%step needs the name of a step", "%%step clean")
        if self._steps is None:
            self._steps = Interactive(self._shell, name_of(this_notebook()))
        run = _told(lambda: self._steps.step(given[0], code))
        node = run[given[0]]
        sys.stderr.write(f"step {given[0]} {node.status}, recorded: nbflow status {run.typed()}\n")

    def _do(self, words: list[str]) -> object:
        background = words[-1:] == ["&"]
        words = words[:-1] if background else words
        if background and words[:1] and words[0] not in WORKING:
            raise _usage(f"%nbflow {words[0]} has nothing to do in the background", "Leave the & out.")
        if words[:1] == ["graph"] and len(words) == 2 and not words[1].startswith("-"):
            return _told(lambda: api.load(words[1]))
        if words[:1] and words[0] in WORKING and (at_work := os.environ.get("NBFLOW_RUN_ID")):
            told = f"this kernel works at run {at_work}, and nbflow.{words[0]}(...) begins one inside of it"
            sys.stderr.write(f"%nbflow {words[0]} is left out: {told}\n")
            return None  # it might be this notebook, without end
        words = _told(lambda: _with_target(words))
        shown = _Shown if not background else _Begun
        shown.run = None
        _told(lambda: nbflow.main(words or ["--help"], prog_name="%nbflow", standalone_mode=False, obj=shown))
        run, shown.run = shown.run, None
        return run


def _with_target(words: list[str]) -> list[str]:
    """Give the words of a line with this notebook as the target, where they name none."""
    if words[:1] == [] or words[0] not in HERE or {"-h", "--help"}.intersection(words):
        return words
    verb, *others = words
    command = nbflow.get_command(click.Context(nbflow), verb)
    assert command is not None, "it is one of the verbs"
    first = next(one for one in command.params if isinstance(one, click.Argument))
    try:
        given, _, _ = command.make_parser(click.Context(command)).parse_args(list(others))
    except click.UsageError:
        return words  # the verb itself says what is wrong
    notebook = this_notebook()
    if isinstance(given[str(first.name)], str) or (verb == "status" and not _has_run(notebook, given.get("state_dir"))):
        return words
    if notebook is None:
        told = f"Which notebook this is cannot be told here, so name it: %nbflow {verb} analysis.ipynb"
        raise _usage(f"Missing argument '{first.human_readable_name}'.", told, "%nbflow --help shows what there is.")
    return [verb, _from_here(notebook), *others]


def _has_run(notebook: Path | None, state_dir: str | None) -> bool:
    """Whether a notebook has runs; the status of one that has none is the list of all that there are."""
    if notebook is None:
        return False
    try:
        locate(notebook, state_dir=api.state_folder(state_dir))
    except TargetError:
        return False
    return True


def _from_here(path: Path) -> str:
    """Give a path as people type it here."""
    try:
        here = Path.cwd()
    except OSError:  # the working directory was deleted
        return str(path)
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _told(call: Any) -> Any:
    """Call; what is wrong is said in a line or two, without a traceback."""
    try:
        return call()
    except (click.exceptions.Exit, click.Abort):
        return None
    except click.ClickException as problem:
        raise _usage(problem.format_message(), "%nbflow --help shows what there is.") from None
    except NbflowError as problem:
        several: Sequence[NbflowError] = getattr(problem, "problems", (problem,))
        raise _usage(*[line for one in several for line in (one.message, one.remedy) if line]) from None


def _usage(first: str, *others: str) -> Exception:
    from IPython.core.error import UsageError

    error: Exception = UsageError("\n  ".join([first, *others]))
    return error


def _split(words: str) -> list[str]:
    try:
        return shlex.split(words)
    except ValueError as problem:
        raise _usage(f"{words.strip()}: {problem}", "Close what is quoted.") from None


def completions(line: str) -> list[str]:
    """Give what may stand at the end of a line that begins with ``%nbflow``.

    Examples
    --------
    >>> completions("%nbflow re")
    ['results', 'resume']
    >>> completions("%nbflow map fit.ipynb --max-f")
    ['--max-failures']
    """
    before, _, last = line.rpartition(" ")
    words = before.split()
    if len(words) <= 1 and words[:1] != ["%%nbflow"]:
        return sorted(verb for verb in VERBS if verb.startswith(last))
    verb = "run" if words[0] == "%%nbflow" else words[1]
    if last.startswith("-") and verb in VERBS:
        command = nbflow.get_command(click.Context(nbflow), verb)
        options = [name for one in command.params for name in (*one.opts, *one.secondary_opts)] if command else []
        return sorted(name for name in options if name.startswith(last) and name.startswith("-"))
    return _files(last)


def _files(begin: str) -> list[str]:
    """Give the notebooks, tables and workflows that a path may become."""
    folder = Path(begin).parent if not begin.endswith("/") else Path(begin)
    name = begin.rpartition("/")[2]
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return []
    kinds = {".ipynb", ".yml", ".yaml", ".csv", ".json"}
    near = [entry for entry in entries if entry.name.startswith(name) and not entry.name.startswith(".")]
    shown = [one for one in near if one.is_dir() or (one.suffix in kinds and not one.name.endswith(".nbflow.json"))]
    return [f"{one}/" if one.is_dir() else str(one) for one in shown]


def load(shell: Any) -> None:
    """Give a shell the magics and their completion."""
    made = Magics(shell)
    shell.register_magic_function(made.line, "line", "nbflow")
    shell.register_magic_function(made.cell, "cell", "nbflow")
    shell.register_magic_function(made.step, "cell", "step")

    def complete(_shell: Any, event: Any) -> list[str]:
        return completions(event.line)

    for name in ("%nbflow", "%%nbflow"):
        shell.set_hook("complete_command", complete, str_key=name)
