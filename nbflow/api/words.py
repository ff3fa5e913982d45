"""Words: the texts of the command line, turned into requests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..durations import seconds
from ..loading.items import assignments, from_command_line
from ..sizes import size
from ..source import read_notebook
from ..steps import KernelStart
from ..types import Changed
from .reading import locate
from .requests import Limits, MapOptions, again_request, map_request, resuming
from .session import Request

__all__ = ["map_words", "resume_words", "run_words"]


def map_words(
    notebook: str,
    *,
    items: str | None,
    grid: Sequence[str],
    zip: Sequence[str],  # noqa: A002 - the option's name
    parameters: Sequence[str],
    columns: str | None,
    jobs: int | None,
    kernel: str | None,
    output: str | None,
    output_dir: str | None,
    name: str | None,
    cwd: str,
    kernel_start: str | None = None,
    preload: str | None = None,
    timeout: str | None,
    memory: str | None = None,
    max_memory: str | None = None,
    retry: int,
    fail_fast: bool,
    max_failures: int | None,
    secret: Sequence[str],
    changed: Changed,
    again: bool,
    state_dir: Path | None,
    ask_first: bool = True,
) -> Request:
    """Check what ``nbflow map`` was given; nothing is written.

    Raises
    ------
    RefusedError
        If it cannot begin.
    """
    found = read_notebook(Path(notebook))
    options = MapOptions(
        max_concurrency=jobs,
        kernel=kernel,
        output=tuple(word.strip() for word in output.split(",")) if output is not None else (),
        output_dir=output_dir,
        name=name,
        cwd=cwd,
        start=KernelStart.said(kernel_start, preload),
        timeout=None if timeout is None else seconds(timeout, "--timeout"),
        memory=None if memory is None else size(memory, "--memory"),
        max_memory=max_memory,
        retry=retry,
        fail_fast=fail_fast,
        max_failures=max_failures,
        secret=tuple(secret),
        changed=changed,
        state_dir=state_dir,
    )
    built = from_command_line(found, items=items, grid=grid, zip=zip, parameters=parameters, columns=columns)
    return again_request(found, built, options, ask_first=ask_first) if again else map_request(found, built, options)


def resume_words(
    target: str,
    *,
    parameters: Sequence[str],
    jobs: int | None,
    changed: Changed,
    from_: str | None,
    only: str | None,
    force: bool,
    take_over: bool,
    fail_fast: bool | None,
    max_failures: int | None,
    timeout: str | None,
    kernel_start: str | None,
    preload: str | None,
    memory: str | None,
    max_memory: str | None,
    ask_first: bool,
    state_dir: Path | None,
) -> Request:
    """Check what ``nbflow resume`` was given; nothing is written.

    Raises
    ------
    RefusedError
        If it cannot begin.
    """
    stored = locate(target, state_dir=state_dir)
    return resuming(stored)(
        stored,
        parameters=assignments("-p", parameters),
        text=True,
        max_concurrency=jobs,
        max_memory=max_memory,
        limits=Limits(
            fail_fast=fail_fast,
            max_failures=max_failures,
            timeout=None if timeout is None else seconds(timeout, "--timeout"),
            start=KernelStart.said(kernel_start, preload),
            memory=None if memory is None else size(memory, "--memory"),
        ),
        changed=changed,
        from_=from_,
        only=only,
        force=force,
        take_over=take_over,
        target=target,
        ask_first=ask_first,
    )


def run_words(
    workflow: str,
    *,
    inputs: Sequence[str],
    jobs: int | None,
    max_memory: str | None = None,
    kernel_start: str | None = None,
    preload: str | None = None,
    state_dir: Path | None,
) -> Request:
    """Check what ``nbflow run`` was given; nothing is written.

    Raises
    ------
    RefusedError
        If it cannot begin.
    """
    from .flow_requests import flow_request

    return flow_request(
        workflow,
        given=assignments("-i", inputs),
        text=True,
        max_workers=jobs,
        max_memory=max_memory,
        start=KernelStart.said(kernel_start, preload),
        state_dir=state_dir,
    )
