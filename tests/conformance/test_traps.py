"""The table of traps and weaknesses is complete, and what it names is there."""

from __future__ import annotations

import ast
from pathlib import Path

from nbflow.loading.documents import load_document
from tests.conformance.case import FOLDER

ROOT = Path(__file__).parents[2]
TABLE = Path(__file__).with_name("traps.yml")


def table() -> dict[str, object]:
    """Give the table."""
    found, _ = load_document(TABLE.read_text("utf-8"), TABLE.name)
    assert isinstance(found, dict)
    return found


def missing(shown: dict[str, object]) -> list[str]:
    """Give what the table names and is not there."""
    tests: dict[str, set[str]] = {}
    gone = []
    for trap, names in shown.items():
        for name in names if isinstance(names, list) else []:
            file, _, test = name.partition("::")
            if not test:
                there = (FOLDER / f"{name}.yml").is_file()
            elif (path := ROOT / file).is_file():
                if file not in tests:
                    tree = ast.parse(path.read_text("utf-8"))
                    tests[file] = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
                there = test in tests[file]
            else:
                there = False
            if not there:
                gone.append(f"{trap}: {name}")
    return gone


def test_every_trap_and_weakness_is_in_the_table() -> None:
    """T01 to T73 and W01 to W64, each with what shows it, or a reason."""
    wanted = [f"T{n:02}" for n in range(1, 74)] + [f"W{n:02}" for n in range(1, 65)]
    assert wanted == list(table())
    assert [] == [trap for trap, shown in table().items() if not shown or (isinstance(shown, str) and len(shown) < 20)]


def test_what_the_table_names_is_there() -> None:
    """Each case is a file, and each test a function of its file."""
    assert [] == missing(table())


def test_a_name_that_is_not_there_is_found() -> None:
    """The check above can fail."""
    wrong: dict[str, object] = {
        "T01": ["no-such-case"],
        "T02": ["tests/test_seed.py::test_no_such"],
        "T03": ["x.py::y"],
    }
    assert 3 == len(missing(wrong))
