"""``nbflow run``, ``answer``, ``validate``, ``graph`` and ``schema``: the verbs for workflows."""

from __future__ import annotations

import json

import click

from . import options
from .screen import echo, say
from .work import SIGNALS, Using, shows


@click.command()
@click.argument("workflow")
@click.option("-i", "-p", "inputs", multiple=True, metavar="NAME=VALUE", help="An input of the workflow.")
@click.option("-j", "jobs", type=int, metavar="N", help="Tasks at a time, in the whole run.")
@options.max_memory
@click.option("--dry-run", is_flag=True, help="Only say what would run, and why.")
@click.option("--detach", is_flag=True, help="Let a process of its own do it.")
@options.kernels
@options.plugged
@options.state_dir
@options.output
def run(
    workflow: str,
    inputs: tuple[str, ...],
    jobs: int | None,
    max_memory: str | None,
    dry_run: bool,
    detach: bool,
    kernel_start: str | None,
    preload: str | None,
    executor: str,
    reporter: str | None,
    state_dir: str | None,
    quiet: bool,
    as_json: bool,
) -> int:
    """Run WORKFLOW, a file that says which notebooks, functions and commands run, and in which order.

    \b
      nbflow run monthly.yml -i year=2026
    """
    from ..api import requests, state_folder
    from ..api.interrupts import Interrupts
    from ..api.words import run_words

    with Interrupts(SIGNALS) as interrupts:
        request = run_words(
            workflow,
            inputs=inputs,
            jobs=jobs,
            max_memory=max_memory,
            kernel_start=kernel_start,
            preload=preload,
            state_dir=state_folder(state_dir),
        )
        earlier = requests.earlier(request.home)
        using = Using(executor, reporter)
        show = shows()(workflow, state_dir, quiet=quiet, as_json=as_json, earlier=earlier, using=using)
        return show.go(request, interrupts, dry_run=dry_run, detach=detach)


@click.command()
@options.target
@click.argument("gate", required=False)
@click.argument("option", required=False)
@click.option("--all", "everything", is_flag=True, help="Answer all open gates of this step.")
@click.option("--no-resume", is_flag=True, help="Only write the answer down.")
@click.option("-j", "jobs", type=int, metavar="N", help="Tasks at a time, in the whole run.")
@options.plugged
@options.state_dir
@options.output
def answer(
    target: str,
    gate: str | None,
    option: str | None,
    everything: bool,
    no_resume: bool,
    jobs: int | None,
    executor: str,
    reporter: str | None,
    state_dir: str | None,
    quiet: bool,
    as_json: bool,
) -> int:
    """Answer a gate that a run waits for, and go on with the run.

    GATE is a step's id, or in a fan-out a node's (train:sure:3); without it the open gates are listed.
    OPTION is the name of an option.
    """
    from ..api import answering, state_folder
    from ..api.interrupts import Interrupts
    from ..api.reading import locate
    from ..api.showing import gate_lines

    with Interrupts(SIGNALS) as interrupts:
        stored = locate(target, state_dir=state_folder(state_dir))
        if gate is None or option is None:
            found = stored.run()
            if as_json:
                echo(json.dumps(found.data()))
            else:
                say(gate_lines(found, target, state_dir))
            return 0
        go_on = not no_resume
        found, request = answering(
            stored, gate, option, everything=everything, go_on=go_on, by="nbflow answer", max_workers=jobs
        )
        if request is not None:
            show = shows()(target, state_dir, quiet=quiet, as_json=as_json, using=Using(executor, reporter))
            return show.go(request, interrupts, dry_run=False, detach=False)
        if as_json:
            echo(json.dumps(found.data()))
        elif not quiet:
            went = f"nbflow resume {target} goes on" if no_resume else f"nbflow status {target} shows how it goes on"
            say([f"answered; {went}"])
        return 0


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def validate(files: tuple[str, ...], as_json: bool) -> int:
    """Check workflow files and all that they refer to, and run nothing."""
    from ..api.checking import checked

    told = [checked(file) for file in files]
    if as_json:
        echo(json.dumps({"files": [one.data() for one in told]}))
    else:
        for one in told:
            say(one.lines())
    return 2 if any(one.problems for one in told) else 0


@click.command()
@click.argument("workflow")
def graph(workflow: str) -> int:
    """Print WORKFLOW as a graph in the language of Mermaid, which Jupyter, GitHub and mermaid.live draw."""
    from ..api.checking import graph_lines

    say(graph_lines(workflow))
    return 0


@click.command()
def schema() -> int:
    """Print the JSON Schema of workflow files, by which editors complete and check them."""
    from ..api.checking import schema_data

    echo(json.dumps(schema_data(), indent=2))
    return 0
