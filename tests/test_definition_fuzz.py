"""Definitions that were damaged: each gives a DefinitionError or a valid workflow, soon, and never anything else."""

from __future__ import annotations

import copy
import time
import tracemalloc
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from nbflow.api.kinds import kinds, makers
from nbflow.errors import DefinitionError
from nbflow.loading.building import Kept, build
from nbflow.loading.workflow_file import dump, parse
from tests.flows import Maker

COMPLETE = {
    "nbflow": 1,
    "name": "monthly",
    "requires": {"python": ">=3.10", "kernels": ["python3"], "packages": ["pandas>=2"]},
    "inputs": {"year": {"type": "integer", "default": 2026, "minimum": 2000}},
    "defaults": {
        "kernel": "python3",
        "timeout": "30m",
        "memory": "1GB",
        "retry": {"attempts": 2, "on": ["dead-kernel"]},
    },
    "max_workers": 4,
    "max_memory": "80%",
    "steps": [
        {"id": "load", "notebook": "load.ipynb", "parameters": {"year": "{{ inputs.year }}"}},
        {
            "id": "train",
            "items": "{{ steps.load.output.cities }}",
            "as": "city",
            "max_concurrency": 4,
            "on_error": "continue",
            "continue_on_error": True,
            "step": {"id": "fit", "notebook": "forecast.ipynb", "parameters": {"city": "{{ city }}"}},
        },
        {"id": "gather", "wait_for": ["train"], "output": {"rmse": "{{ fan_in.results | select | list }}"}},
        {"id": "review", "gate": "Publish {{ inputs.year }}?", "show": "report.ipynb"},
        {
            "id": "shell",
            "run": ["echo", "{{ steps.gather.output.rmse }}"],
            "env": {"YEAR": "{{ inputs.year }}"},
        },
    ],
}
JUNK: list[Any] = [
    *(None, True, 0, -1, 1.5, 10**30, float("nan"), "", " ", "x", "{{", "}}", "{{ }}", "{{ x", "{% if %}", [], {}),
    *("{{ steps.nope.output }}", "{{ inputs.year + }}", "{{ 'a' * 10**8 }}", "{{ range(10**12) }}"),
    *("{{ ''.__class__ }}", "{{ lipsum(n=10**5) }}", "{{ '%100000000d' % 1 }}", "{{ x|center(10**8) }}"),
    *("{{ inputs.year | bogus }}", "2026-01-01", [1, [2, [3]]], {"id": "a"}, {"a": {"b": []}}, ["load", 3]),
    *("é\u2028\x00", "a" * 5000, "{{ " + "(" * 3000 + " }}"),
]
KEYS = [
    "id",
    "needs",
    "when",
    "timeout",
    "memory",
    "retry",
    "items",
    "grid",
    "if",
    "do",
    "while",
    "run",
    "bogus",
    "env",
    "on",
    "0",
]
SIGNS = ["", " ", "\n", ":", "- ", "{", "[", "&a ", "*a", "!x ", "#", "'", '"', "|", ">", "%", "\t"]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Give the paths to all parts of a value."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, part in parts for place in places(part, (*path, key)))]


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def damaged(data: Any, random: Random) -> Any:
    """Give a definition with one part of it changed."""
    data = copy.deepcopy(data)
    path = random.choice(places(data)[1:])
    holder, key = at(data, path[:-1]), path[-1]
    match random.randint(0, 6):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[random.choice([f"{key}x", str(key)[1:], *KEYS])] = holder.pop(key)
        case 2 if isinstance(holder, dict):
            holder[random.choice(KEYS)] = copy.deepcopy(random.choice(JUNK))
        case 3:
            other = at(data, random.choice(places(data)))
            holder[key] = copy.deepcopy(other)
        case 4 if isinstance(holder, list):
            holder.insert(random.randint(0, len(holder)), copy.deepcopy(holder[key]))
        case 5 if isinstance(holder[key], str) and holder[key]:
            text, cut = holder[key], random.randrange(len(holder[key]))
            holder[key] = text[:cut] + random.choice(["", "{{", "}}", "|", "'", "(", ".", " ", "_"]) + text[cut + 1 :]
        case _:
            holder[key] = copy.deepcopy(random.choice(JUNK))
    return data


def scratched(text: str, random: Random) -> str:
    """Give a text with some signs changed."""
    for _ in range(random.randint(1, 3)):
        cut = random.randrange(len(text))
        piece = random.choice(
            ["", " ", "\n", ":", "- ", "{", "[", "&a ", "*a", "!x ", "#", "'", '"', "|", ">", "%", "\t"]
        )
        text = text[:cut] + piece + text[cut + random.randint(0, 3) :]
    return text


def fuzz(count: int) -> Counter[str]:
    """Give how far so many damaged definitions came."""
    seen: Counter[str] = Counter()
    for seed in range(count):
        random = Random(seed)
        maker = Maker(random)
        data = copy.deepcopy(COMPLETE) if seed % 2 else maker.workflow()
        for _ in range(random.choice([0, 1, 1, 1, 2, 4])):
            data = damaged(data, random) if isinstance(data, dict) and data else data
        text = yaml.safe_dump(data, allow_unicode=True, sort_keys=False)
        if random.randint(0, 4) == 0:
            text = scratched(text, random)
        files = {name: yaml.safe_dump(one, sort_keys=False) for name, one in maker.files.items()}
        began = time.process_time()  # other work on the machine does not count
        seen[reached(text, files)] += 1
        seconds = time.process_time() - began
        assert seconds < 1, f"seed {seed} took {seconds:.1f} s"
    return seen


def reached(text: str, files: dict[str, str]) -> str:
    """Give how far a text comes."""
    try:
        yaml.compose(text)
    except yaml.YAMLError:
        how = "text"
    else:
        how = "yaml"
    try:
        definition, source = parse(text, "w.yml", kinds())
        how = "checks"
        build(definition, source, _Texts(Path(), files), makers=makers())
    except DefinitionError as problem:
        return how if problem.message and "\n" not in problem.message else "badly told"
    return "valid" if dump(definition) == dump(parse(dump(definition), "w.yml", kinds())[0]) else "changed by writing"


class _Texts(Kept):
    """Workflow files as texts; one that is not there is told like a file that is not there."""

    def workflow(self, path: str, known: Any) -> Any:
        if path not in self.texts:
            raise DefinitionError(f"{path}: no such file")
        return super().workflow(path, known)


def check(seen: Counter[str]) -> None:
    """Check that the damage was of all degrees."""
    count = sum(seen.values())
    assert {"text", "yaml", "checks", "valid"} >= set(seen), seen
    assert count - seen["text"] >= 0.6 * count, seen
    assert seen["checks"] + seen["valid"] >= 0.2 * count, seen
    assert seen["valid"] >= 0.05 * count, seen


def test_damaged_definitions_are_refused_or_valid() -> None:
    """Five hundred; nothing but a DefinitionError comes out, each within a second."""
    check(fuzz(500))


@pytest.mark.long
@pytest.mark.timeout(900)
def test_ten_thousand_damaged_definitions_take_little_memory() -> None:
    """The same with ten thousand, and never 200 MB."""
    tracemalloc.start()
    try:
        check(fuzz(10_000))
        assert tracemalloc.get_traced_memory()[1] < 200_000_000
    finally:
        tracemalloc.stop()
