"""Requirements: what must be there before a run of a workflow begins."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from ..errors import DefinitionError, NbflowError
from ..loading.building import Built
from ..loading.workflow_file import Source, refuse
from ..model import Block, Literal
from ..steps import GateStep, NotebookStep, ShellStep
from ..store.surroundings import interpreter, packages

__all__ = ["check_requirements", "doubts"]


def doubts(block: Block, folder: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Give what is not there yet although steps name it: variables of secrets, and files to be judged.

    Parameters
    ----------
    block : Block
        The steps; those inside of them are looked at too.
    folder : Path
        The workflow's folder.
    environment : mapping
        The variables that there are.
    """
    for step in block.steps:
        match step:
            case NotebookStep(secrets=names) | ShellStep(secrets=names):
                for name in names:
                    if name not in environment:
                        yield f"{step.id}: there is no environment variable {name}, so nothing of it can be masked"
            case GateStep(show=Literal(value=str(file))) if not (folder / file).exists():
                yield f"{step.id}: there is no file {file} to be shown, unless a step makes it"
            case _:
                pass
        for inner in step.blocks:
            yield from doubts(inner, folder, environment)


def check_requirements(built: Built, source: Source) -> None:
    """Check what a workflow requires: the Python that runs it, kernels, and packages in the kernels' environments.

    Raises
    ------
    DefinitionError
        With all that is missing.
    """
    problems: list[DefinitionError] = []
    for one in built.requires:
        if one.python is not None and (why := _python(one.python)):
            problems.append(source.problem(("requires", "python"), why))
        for name in one.kernels:
            problems += [source.problem(("requires", "kernels"), why, remedy) for why, remedy in _kernel(name)]
        kernels = [name for name in list(built.kernels) or list(one.kernels) or ["python3"] if not _kernel(name)]
        if one.packages:
            for name in kernels:
                found = _packages(name)
                problems += [
                    source.problem(("requires", "packages"), f"{why} in the environment of kernel {name}", remedy)
                    for text in one.packages
                    for why, remedy in _package(text, found)
                ]
    refuse(problems)


def _python(wanted: str) -> str:
    try:
        return (
            ""
            if platform.python_version() in SpecifierSet(wanted)
            else (f"it wants Python {wanted}, and this is {platform.python_version()}")
        )
    except InvalidSpecifier:
        return f"{wanted!r} names no versions, such as >=3.10"


def _kernel(name: str) -> list[tuple[str, str]]:
    from ..kernels import check

    try:
        check(name)
    except NbflowError as problem:
        return [(problem.message, problem.remedy)]
    return []


def _packages(kernel: str) -> dict[str, str]:
    """Give the packages of a kernel's environment, by their names in lower case with dashes."""
    from ..kernels.specs import kernel_spec

    python = interpreter(kernel_spec(kernel).argv)
    return {_plain(name): version for name, version in packages(python).items()} if python is not None else {}


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def _package(text: str, found: dict[str, str]) -> list[tuple[str, str]]:
    try:
        wanted = Requirement(text)
    except InvalidRequirement:
        return [(f"{text!r} names no package, such as pandas>=2", "")]
    version = found.get(_plain(wanted.name))
    if version is None:
        return [(f"{wanted.name} is not installed", f"pip install {text!r}")]
    if not wanted.specifier.contains(version, prereleases=True):
        return [(f"{wanted.name} is {version}, but {text} is wanted", f"pip install {text!r}")]
    return []
