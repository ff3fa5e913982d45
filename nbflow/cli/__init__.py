"""The command line. Each verb imports what it needs when it is called, so that help is there at once."""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import NoReturn

import click

from .. import lean
from ..errors import NbflowError
from ..version import __version__
from .screen import let_go_of_pipes, open_streams, say, unwritten

__all__ = ["main"]


VERBS = {
    "map": "work",
    "run": "flows",
    "resume": "work",
    "answer": "flows",
    **dict.fromkeys(["status", "results", "logs"], "look"),
    **dict.fromkeys(["cancel", "clean", "tag"], "manage"),
    **dict.fromkeys(["validate", "graph", "schema"], "flows"),
    **dict.fromkeys(["init", "doctor"], "manage"),
}
"""The verbs, and the module of each; only the one that is asked for is loaded."""


class _Verbs(click.Group):
    """The verbs; one whose reader has seen enough ends quietly (click would end it with exit code 1)."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """Give the names."""
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Load a verb."""
        if cmd_name not in VERBS:
            return None
        names = vars(import_module(f"{__name__}.{VERBS[cmd_name]}"))
        verb: click.Command = names.get(f"{cmd_name}_") or names[cmd_name]  # map is a word of Python's too
        return verb

    def invoke(self, ctx: click.Context) -> object:
        """Call the verb that was asked for."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as problem:
            let_go_of_pipes()
            if ctx.invoked_subcommand in ("map", "resume"):  # they have an exit code of their own, or did not begin
                raise unwritten(problem) from problem
            return 0


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="nbflow", message="%(prog)s %(version)s")
def nbflow() -> None:
    """Run one notebook over many parameter sets, or workflows of notebooks: in parallel, resumable.

    \b
      nbflow map forecast.ipynb --items cities.csv -j 4
      nbflow run monthly.yml -i year=2026
      nbflow resume forecast.ipynb
    """


def main(words: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process.

    Exit codes: 0 completed, 1 failed, 2 refused, 3 paused, 130 Ctrl-C, 143 SIGTERM.
    """
    given = list(sys.argv[1:] if words is None else words) or ["--help"]
    lean.allow()
    atexit.register(gc.freeze)  # or Python looks for cycles in everything that was loaded, for a tenth of a second
    open_streams()
    if _nowhere() and not {"-h", "--help", "--version"} & set(given):
        _refuse("the working directory is gone", "Go to one that is there: cd", 2, given)
    try:
        code = nbflow.main(given, prog_name="nbflow", standalone_mode=False)
    except click.exceptions.Exit as end:
        sys.exit(end.exit_code)
    except click.UsageError as problem:
        command = problem.ctx.command_path if problem.ctx is not None else "nbflow"
        _refuse(problem.format_message(), f"{command} --help shows what there is.", 2, given)
    except click.ClickException as problem:
        _refuse(problem.format_message(), "", 2, given)
    except NbflowError as problem:
        several = getattr(problem, "problems", (problem,))
        _refuse(problem.message, problem.remedy, problem.exit_code, given, several)
    except OSError as problem:
        why = problem.strerror or str(problem)
        _refuse(f"{problem.filename}: {why}" if problem.filename else why, "", 2, given)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(130)
    let_go_of_pipes()
    sys.exit(code or 0)


def _nowhere() -> bool:
    """Whether this process stands in a folder that was deleted."""
    try:
        Path.cwd()
    except OSError:
        return True
    return False


def _refuse(
    message: str, remedy: str, code: int, words: Sequence[str], several: Sequence[NbflowError] = ()
) -> NoReturn:
    """Say in one line what is wrong, below it what to do; with ``--json`` also as the one object on stdout."""
    told = [(one.message, one.remedy) for one in several] or [(message, remedy)]
    with contextlib.suppress(OSError, NbflowError):  # the exit code says it, where nobody can be told more
        say([line for what, how in told for line in (f"error: {what}", *_indented(how))], sys.stderr)
        if "--json" in words:
            data: dict[str, object] = {"message": message, "remedy": remedy}
            if len(told) > 1:
                data["problems"] = [{"message": what, "remedy": how} for what, how in told]
            sys.stdout.write(json.dumps({"error": data}) + "\n")
    let_go_of_pipes()
    sys.exit(code)


def _indented(text: str) -> list[str]:
    return [f"  {line}" for line in text.splitlines()]
