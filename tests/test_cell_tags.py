"""Tags of cells: which cells are a step, and what is wrong with them, told by cells before anything runs."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from nbflow.errors import DefinitionError, NbflowError
from nbflow.loading.notebook_file import read_steps
from nbflow.loading.plain import SET_ALONG
from nbflow.loading.tagging import add_tag, remove_tag
from nbflow.loading.workflow_file import dump
from nbflow.notebooks.snapshot.settings import LOOKS, RANDOM, SETTINGS
from nbflow.source import owners, read_notebook, selected

Make = Callable[..., Path]


@pytest.fixture
def steps(folder: Path) -> Make:
    """Make a notebook of cells, each as tags and code; a cell that is only text is Markdown."""

    def make(*cells: tuple[str, str] | str, counts: tuple[int, ...] = ()) -> Path:
        made = []
        for cell in cells:
            if isinstance(cell, str):
                made.append(nbformat.v4.new_markdown_cell(cell))
            else:
                made.append(nbformat.v4.new_code_cell(cell[1], metadata={"tags": cell[0].split()}))
        for cell, count in zip(made, counts, strict=False):
            cell["execution_count"] = count
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(nbformat.v4.new_notebook(cells=made, metadata={"kernelspec": kernel}), "a.ipynb")
        return Path("a.ipynb")

    return make


def problems(path: Path) -> list[str]:
    """Give what is told to be wrong, without the name of the file."""
    try:
        read_steps(path)
    except NbflowError as problem:
        several = getattr(problem, "problems", (problem,))
        return [one.message.removeprefix("a.ipynb: ") for one in several]
    return []


# -- parts --------------------------------------------------------------------------------------------------------


def test_what_cannot_be_told_of_the_setup_is_said_once(steps):
    """Its cells are a step, too, the first time."""
    _, source = read_steps(steps(("setup", "%run helper.py"), ("step:load", "x = 1")))
    assert ["cell 1, line 1 (setup)"] == [one.partition(": ")[0] for one in source.warnings]


def test_what_items_change_and_nobody_will_see_is_told(steps):
    """Each item has its own copy; by hand the cells below would see what all of them did."""
    path = steps(
        ("step:load", "cities = ['a', 'b']; rows = []; table = {}; n = 0; frame = 1; city = ''"),
        ("step:fit each:cities as:city", "rows.append(city)\nfor one in 'x':\n    table[one] = 1\nn += 1"),
        ("", "score = len(frame.sort_values(inplace=True))\nspare = 1\ndef inner(): rows.append(2)"),
        ("results", "score, frame"),
        ("step:end", "print(rows, table, n, score, frame, city)"),
    )
    _, source = read_steps(path)
    told = "reads it as it was before: show in a cell of fit tagged results what comes along"
    assert [
        f"cell {cell}, line {line} (step fit): each item changes a {name!r} of its own, and step end {told}"
        for cell, line, name in [(2, 1, "rows"), (2, 3, "table"), (2, 4, "n")]
    ] == source.warnings


def test_what_looks_like_a_change_and_is_none_is_not_told(steps):
    """Functions of modules, the variable of a comprehension, and cells that do not run."""
    path = steps(
        ("", "import numpy as np\nimport matplotlib as mpl"),
        ("step:load", "cities = ['a', 'b']; row = 1; spare = []"),
        ("step:fit each:cities as:city", "new = np.append([1], 2)\nmpl.rcParams['x'] = 1\n[row for row in 'abc']"),
        ("skip-execution", "this is a draft; spare.append(1)"),
        ("step:end", "print(np.mean([1]), mpl.rcParams, row, spare)"),
    )
    _, source = read_steps(path)
    assert [] == source.warnings


@pytest.mark.parametrize("end", ["print(helper.RATE)", "import helper as other", "from helper import RATE"])
def test_what_a_step_sets_in_a_module_is_told_if_a_later_step_uses_the_module(end, steps):
    """In another kernel it is as it was imported. Settings of some libraries come along, and objects are saved."""
    path = steps(
        ("", "import helper, numpy as np, os\nfrom helper import options\nhelper.RATE = 1"),
        ("step:a", "helper.RATE = 10\nos.sep = '/'\nnp.own = 1\noptions.unit = 2\nhelper.rows[0].n = 1"),
        ("step:b", "helper.RATE = 11\nhelper.rows[0] = 1\nprint(helper)"),
        ("step:c", f"print(np, os, options)\n{end}"),
    )
    _, source = read_steps(path)
    assert [
        f"cell {cell}, line {line} (step {step}): helper.{what} holds only in this kernel, and step c uses helper: "
        "set it in a setup cell"
        for cell, line, step, what in [
            (2, 1, "a", "RATE"),
            (2, 5, "a", "rows"),
            (3, 1, "b", "RATE"),
            (3, 2, "b", "rows"),
        ]
    ] == source.warnings


def test_modules_of_which_settings_come_along_are_those_that_kernels_keep():
    """Both lists are written by hand, for kernels know nothing of the loader."""
    assert {row.module.partition(".")[0] for row in (*SETTINGS, *LOOKS, *RANDOM)} == SET_ALONG


def test_what_only_a_step_below_assigns_is_no_suggestion(steps):
    """It would not be there either."""
    (told,) = problems(steps(("step:a", "totals"), ("step:b", "total = 1")))
    assert told.endswith("reads 'totals', which no cell assigns.")


def test_cells_go_with_the_step_above_and_those_above_the_first_with_the_setup(steps):
    """A cell tagged setup goes there from wherever it stands, and runs before the others."""
    path = steps(
        ("", "import math"),
        "## Load",
        ("step:load", "x = 1"),
        ("", "y = x"),
        ("setup", "k = 2"),
        ("", "z = y + k"),
        ("step:fit", "w = z"),
    )
    notebook = read_notebook(path)
    assert ["setup", "step:load", "step:load", "setup", "step:load", "step:fit"] == owners(notebook.cells)
    part = selected(notebook, ["step:load"])
    assert [1, 4, 2, 3, 5] == [cell.number for cell in part.cells]
    assert {1, 4} == part.preparing
    assert ["", "Load", "Load"] == [part.cells[i].heading for i in (0, 2, 3)]


def test_a_notebook_without_steps_has_no_setup_either(steps):
    assert ["", ""] == owners(read_notebook(steps(("", "x = 1"), ("results", "x"))).cells)


def test_tags_become_a_workflow(steps):
    """It can be written as a file, and says the same there."""
    path = steps(
        ("parameters", "n: int = 3\ncities = ['Oslo']\nlabel = None"),
        ("step:load timeout:30s", "x = n"),
        ("step:fit needs:load each:cities as:city max:4 retry:2", "y = x, city"),
        ("results", "y"),
        ("step:end needs:load needs:fit", "x, y"),
    )
    text = dump(read_steps(path)[0])
    assert "items: '{{ inputs.cities }}'" in text
    for said in (
        "as: city",
        "max_concurrency: 4",
        "attempts: 2",
        "timeout: 30s",
        "type: integer",
        "on_error: continue",
    ):
        assert said in text, said
    assert "label" not in text, "an input without a value is none, unless it is given"
    assert "label" in dump(read_steps(path, given=["label"])[0])


def test_a_first_line_says_what_tags_say(steps):
    tagged = dump(read_steps(steps(("step:a", "x = 1"), ("step:b needs:a", "x")))[0])
    said = dump(read_steps(steps(("", "# nbflow: step=a\nx = 1"), ("", "# nbflow: step=b needs=a\nx")))[0])
    assert tagged == said


def test_a_mark_stands_below_the_magic_of_its_cell(steps):
    """Above it IPython would take the magic for one of a line, and find none."""
    path = steps(("", "# nbflow: step=a\nx = 1"), ("", "\n%%time\n%%capture\n# nbflow: step=b needs=a\nx"))
    assert ["a", "b"] == [step.id for step in read_steps(path)[0].steps]
    told = "'%%time' stands below a comment, and is a magic of the cell in its first line only"
    for cell in ("# nbflow: step=b\n%%time\nx = 1", "# slow\n\n# nbflow\n\n%%time\nx = 1"):
        assert [f"cell 2: {told}"] == problems(steps(("step:a", "y = 1"), ("", cell)))
        for tag in ("skip-execution", "raises-exception"):
            assert [] == problems(steps(("step:a", "y = 1"), (tag, cell)))
    assert [] == problems(steps(("step:a", "text = '''\n# a\n%%time'''\n# b"), ("", "# %%time")))


def test_a_step_that_needs_nothing_starts_at_once(steps):
    path = steps(("", "k = 1"), ("step:a", "x = k"), ("step:b needs:", "y = k"))
    needs = {step.id: step.needs for step in read_steps(path)[0].steps}
    assert {"setup": None, "a": None, "b": ["setup"]} == needs


# -- what is wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        ([("stp:load", "x = 1")], "cell 1: the tag 'stp:load' means nothing. Did you mean 'step:load'?"),
        ([("step=load", "x = 1")], "cell 1: the tag 'step=load' means nothing. Did you mean 'step:load'?"),
        ([("step:a", "x = 1"), ("reslts", "x")], "cell 2: the tag 'reslts' means nothing. Did you mean 'results'?"),
        ([("step:a", "1"), ("step:a", "2")], "cell 2: begins step a, and so does cell 1"),
        ([("step:a b", "1"), ("step:é", "2")], "cell 2: step:é is no step id"),
        ([("step:setup", "1")], "cell 1: step:setup is what runs first in every kernel"),
        ([("step:a", "1"), ("needs:a", "2")], "cell 2: has needs:a, and no step begins here"),
        ([("step:a max:2", "1")], "cell 1: has max:2, and no items"),
        ([("step:a parameters", "x = 1")], "cell 1: begins step a and is tagged parameters, which runs before"),
        ([("step:a", "# nbflow: setup\nx = 1")], "cell 1: begins step a and is tagged setup, which runs before"),
        ([("step:a", "1"), ("step:b needs: needs:a", "1")], "cell 2: needs: says that the step waits for nothing, and"),
        ([("step:a each:x max:none", "x = 1")], "cell 1: max:none is no whole number from 1"),
        ([("step:a each:x.y", "1")], "cell 1: each:x.y names no variable"),
        (
            [("step:a", "x = [1]"), ("step:b each:x as:class", "1")],
            "cell 2: as:class names no variable, for it is",
        ),
        ([("step:a", "x = [1]"), ("step:b each:x as:2x", "1")], "cell 2: as:2x names no variable"),
        ([("step:a step:b", "1")], "cell 1: has step: 2 times: a, b"),
        ([("step:a timeout:2s", "# nbflow: timeout=3s\n1")], "two time-outs"),
        ([("step:a needs:b", "1")], "cell 1, line 1: step 'a' needs 'b', which is no step of its list."),
        ([("step:a needs:b", "1"), ("step:b", "2")], "wait for each other"),
    ],
)
def test_what_is_wrong_with_a_tag_is_told_with_its_cell(steps, cells, told):
    found = problems(steps(*cells))
    assert any(told in one for one in found), found


@pytest.mark.parametrize(
    ("wrong", "right"), [("1", "step1"), ("2nd-run", "step2nd-run"), ("é", "clean"), ("a/b", "a-b")]
)
def test_the_remedy_for_a_step_id_is_one(steps, wrong, right):
    """And not the tag that was refused."""
    with pytest.raises(DefinitionError, match=f"step:{wrong} is no step id") as caught:
        read_steps(steps((f"step:{wrong}", "x = 1")))
    assert caught.value.remedy == f"A letter or _, then letters, digits, _ and -: step:{right}"
    read_steps(steps((f"step:{right}", "x = 1")))


@pytest.mark.parametrize("wrong", ["Step: load", "STEP:load", "step :load", " step:load", "step = load"])
def test_the_commands_that_put_a_tag_right_do_so(steps, wrong):
    """In a shell, with whatever blanks the tag has."""
    path = steps(("", "x = 1"))
    path.write_text(path.read_text().replace('"tags": []', json.dumps({"tags": [wrong]})[1:-1]))
    with pytest.raises(DefinitionError, match=r"Did you mean 'step:load'\?") as caught:
        read_steps(path)
    assert 1 == len(problems(path))
    remove, add = map(shlex.split, caught.value.remedy.splitlines())
    assert ["nbflow", "tag", "a.ipynb", "1", "--remove", wrong] == remove
    remove_tag(path, 1, remove[-1])
    add_tag(path, 1, add[-1])
    read_steps(path)


def test_tags_and_first_line_must_agree(steps):
    assert ["cell 1: its tags say step:a, and its first line says step:b"] == problems(
        steps(("step:a", "# nbflow: step=b\nx = 1"))
    )


def test_a_cell_that_python_cannot_read_is_told_with_the_file(steps):
    """As all problems are, in the words by which messages call it."""
    path = steps(("step:a", "x = 1\ny = = 2"))
    with pytest.raises(DefinitionError, match=r"^a\.ipynb: cell 1, line 2: invalid syntax"):
        read_steps(path)
    with pytest.raises(DefinitionError, match=r"^\.\./a\.ipynb: cell 1, line 2: invalid syntax"):
        read_steps(path, "../a.ipynb")


@pytest.mark.parametrize(
    ("load", "told"),
    [
        ("y = = 2", "w.yml:3: steps[0].cells: a.ipynb: cell 1, line 1: invalid syntax."),
        ("# nbflow: step=load nedes=a\nx = 1", "w.yml:3: steps[0].cells: a.ipynb: cell 1 begins with "),
    ],
)
def test_what_is_wrong_with_a_notebook_that_a_file_names_twice_is_told_once(load, told, steps, folder, cli):
    """With its name, where the first step names it."""
    steps(("step:load", load), ("step:clean", "y = 1"))
    lines = [f'  - {{id: {one}, cells: a.ipynb, tags: ["step:{one}"]}}\n' for one in ("load", "clean")]
    (folder / "w.yml").write_text("nbflow: 1\nsteps:\n" + "".join(lines))
    said = cli("validate", "w.yml", code=2).stdout
    assert said.startswith("error: " + told)
    assert 1 == said.count("w.yml:")


def test_a_name_that_no_step_of_a_file_assigns_is_doubted(steps, folder, cli):
    """A value that was forgotten, or a cell that no step runs; a startup file may give it all the same."""
    steps(("setup", "k = 1"), ("step:load", "rows = [k]"), ("step:fit", "def f(): return late\nlen(rows), city"))
    lines = 'nbflow: 1\nsteps:\n  - {id: load, cells: a.ipynb, tags: ["step:load"]}\n'
    fit = '  - {id: fit, cells: a.ipynb, tags: ["step:fit"]%s}\n'

    def said(text: str) -> str:
        (folder / "w.yml").write_text(text)
        return cli("validate", "w.yml").stdout

    told = "steps[1].cells: cell 3, line 2 of a.ipynb reads 'city', which no cell before assigns: names: {city: VALUE}"
    assert f"warning: w.yml: {told}" in said(lines + fit % "")
    assert "reads" not in said(lines + fit % ", names: {city: Oslo}")
    own = ", needs: [], names: {city: Oslo}"
    assert "reads 'rows', which step load assigns, and does not wait for that step: needs: [load]" in said(
        lines + fit % own
    )


def test_two_steps_of_a_file_with_one_id_are_told(steps, folder, cli):
    """As of all kinds of steps."""
    steps(("step:load", "x = 1"))
    line = '  - {id: a, cells: a.ipynb, tags: ["step:load"]}\n'
    (folder / "w.yml").write_text(f"nbflow: 1\nsteps:\n{line}{line.replace('}', ', timeout: 3s}')}")
    assert "step id 'a' stands twice" in cli("validate", "w.yml", code=2).stdout


def test_a_misspelt_mark_is_told(steps):
    with pytest.raises(DefinitionError, match=r"'nedes=a' is no mark\. Did you mean 'needs'"):
        read_steps(steps(("step:a", "1"), ("", "# nbflow: step=b nedes=a\n2")))


def test_all_that_is_wrong_is_told_at_once(steps):
    assert 3 == len(problems(steps(("stp:a", "1"), ("step:b retry:x", "2"), ("step:c each:", "3"))))


def test_a_notebook_without_steps_is_told_what_to_do(steps):
    with pytest.raises(DefinitionError) as problem:
        read_steps(steps(("", "x = 1")))
    assert "no cell begins a step" in problem.value.message
    assert "nbflow tag a.ipynb 1 step:load" in problem.value.remedy
    assert "nbflow map a.ipynb" in problem.value.remedy


# -- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        (
            [("step:a", "x = 1"), ("step:b", "y = xx")],
            "cell 2, line 1 (step b): reads 'xx', which no cell assigns. Did you mean 'x'?",
        ),
        (
            [("step:a", "y = x"), ("step:b", "x = 1")],
            "cell 1, line 1 (step a): reads 'x', which only cell 2 assigns (step b), further below",
        ),
        (
            [("step:a", "x = 1"), ("step:b needs:", "z = 1"), ("step:c needs:b", "x, z")],
            "cell 3, line 1 (step c): reads 'x', which step a assigns, and does not wait for that step",
        ),
        (
            [("step:a", "rows = [1]"), ("setup", "n = len(rows)")],
            "cell 2, line 1 (step setup): reads 'rows', which step a assigns: setup runs before all steps, wherever it",
        ),
        (
            [
                ("step:a needs:", "k = 1"),
                ("step:b needs:", "k = 2"),
                ("step:c needs:a needs:b", "print([1].sort(key=lambda x: x * k))"),
            ],
            "cell 3, line 1 (step c): reads 'k', which steps a and b both assign, and none waits for the other",
        ),
        (
            [("step:a", "x = [1]"), ("step:b each:x", "y = item"), ("step:c", "y")],
            "cell 3, line 1 (step c): reads 'y', which each item of step b has for itself",
        ),
        (
            [
                ("step:a", "x = 1"),
                ("step:b needs:a", "y = x"),
                ("step:c needs:a", "y = x"),
                ("step:d needs:b needs:c", "y"),
            ],
            "cell 4, line 1 (step d): reads 'y', which steps b and c both assign, and none waits for the other",
        ),
        (
            [("step:a", "x = 1"), ("step:b each:xs", "y = item")],
            "cell 2, line 1 (step b): runs over 'xs' (each:), which no cell",
        ),
        (
            [("step:a", "x = 1"), ("step:b each:xs", "xs = [1]\ny = item")],
            "cell 2, line 1 (step b): runs over 'xs' (each:), which only the step itself assigns",
        ),
    ],
)
def test_a_name_that_will_not_be_there_is_told_with_its_line(steps, cells, told):
    found = problems(steps(*cells))
    assert any(one.startswith(told) for one in found), found


@pytest.mark.parametrize("fit", ["from math import *", "exec(input())", "%run helper.py"])
@pytest.mark.parametrize("end", ["y = 1", "cities = []"])
def test_a_step_that_may_assign_any_name_assigns_its_own_list_too_late(steps, fit, end):
    """Something before it must have."""
    told = "cell 2: step fit runs over 'cities' (each:), which no step before it assigns"
    cells = ("step:load", "x = 1"), ("step:fit each:cities as:city", f"{fit}\nprint(city)"), ("step:end", end)
    assert [told] == problems(steps(*cells))
    assert [] == problems(steps(("setup", "from math import *"), *cells))


@pytest.mark.parametrize(
    "cells",
    [
        [("", "import math"), ("step:a", "x = math.pi"), ("step:b", "def f():\n    return x\nf()")],
        [("step:a", "x = [1]"), ("step:b each:x as:y", "z = y"), ("results", "z"), ("step:c", "z")],
        [("step:a", "for i in []:\n    x = 1\ntry:\n    x\nexcept NameError:\n    x = 2"), ("step:b", "x")],
        [("step:a", "from math import *"), ("step:b", "pi")],
        [("step:a", "x = 1"), ("step:b needs:a", "y = x"), ("step:c needs:a", "y = x"), ("step:d needs:c", "y")],
        [("step:a", "x = 1"), ("raises-exception", "return 5"), ("step:b", "x")],
        [
            ("step:rows", "rows = [1]"),
            ("step:a needs:rows", "for i in rows: n = 1"),
            ("step:b needs:rows", "for i in rows: n = 2"),
            ("step:c needs:a needs:b", "for i in rows:\n    n = 3\nprint(i, n)"),
        ],
        [
            ("step:a", "import numpy as np\nfrom math import sqrt"),
            ("step:b needs:", "import numpy as np\nfrom math import sqrt"),
            ("step:c needs:a needs:b", "np.array(sqrt(4))"),
        ],
        [
            ("step:a raises-exception", "import math\nmath.sqrt(-1)"),
            ("step:b needs: raises-exception", "import math\nmath.sqrt(-2)"),
            ("step:c needs:a needs:b", "math.pi"),
        ],
        [
            ("setup", "import numpy as np\nfrom sklearn.preprocessing import FunctionTransformer"),
            ("step:a", "k = 1\nmodel = FunctionTransformer(lambda x: x * k).fit([1])\nleft = model.predict([1])"),
            ("step:b needs:", "k = 2\nmodel = FunctionTransformer(lambda x: k).fit([1])\nright = model.predict([2])"),
            ("step:c needs:a needs:b", "print(np.abs(left - right).max())"),
        ],
        [
            ("setup", "from joblib import Parallel, delayed"),
            ("step:a", "rows = [1]"),
            ("step:b each:rows as:row", "k = row\nsquares = Parallel()(delayed(abs)(k + i) for i in rows)"),
            ("results", "squares"),
            ("step:c", "print(squares[0])"),
        ],
    ],
)
def test_a_notebook_that_will_run_is_not_refused(steps, cells):
    assert [] == problems(steps(*cells))


@pytest.mark.parametrize(
    "cell",
    [
        "from math import *\nprint(sqrt(2))",
        "source = 'q = 1'\nexec(source)\nprint(q)",
        "globals().update(q=1)\nprint(q)",
        "%run helper.py\nprint(q)",
    ],
)
def test_a_name_that_the_step_itself_may_make_is_not_refused(steps, cell):
    """There is the warning that any name may come from there."""
    _, source = read_steps(steps(("step:a", cell)))
    assert any("cell 1" in one and "assign any name" in one for one in source.warnings)


@pytest.mark.parametrize(
    "cell",
    [
        "import atexit\natexit.register(lambda: later())",
        "import threading\ntimer = threading.Timer(0.1, lambda: later.append(1))",
        "class A:\n    f = property(lambda self: later)\na = A()",
    ],
)
def test_a_lambda_may_run_when_its_names_are_there(steps, cell):
    """As a function with a name may, whose name it need not have."""
    assert [] == problems(steps(("step:a", cell), ("step:b", "later = list")))


def test_a_lambda_that_needs_what_no_cell_assigns_is_told_as_such(steps):
    (found,) = problems(steps(("step:a", "x = (lambda: q)()")))
    assert found.startswith("cell 1, line 1 (step a): reads 'q' (in a lambda), which no cell assigns")


def test_a_lambda_that_comes_before_the_code_that_needs_the_name_excuses_nothing(steps):
    (found,) = problems(steps(("step:a", "(lambda: q)()\nprint(q)"), ("step:b", "q = 1")))
    assert found.startswith("cell 1, line 2 (step a): reads 'q', which only cell 2 assigns")


@pytest.mark.parametrize("tag", ["step:a raises-exception", "step:a"])
def test_a_cell_that_may_raise_may_miss_a_name(steps, tag):
    """It is there to show the NameError, also one of a function that it calls."""
    found = problems(steps((tag, "print(undefined)"), ("step:b raises-exception", "def f(): return q\nf()")))
    assert (tag == "step:a") == bool(found)


@pytest.mark.parametrize(
    "cell",
    [
        "try:\n    text = unicode\nexcept NameError:\n    text = str",
        "try:\n    q\nexcept (KeyError, Exception):\n    pass",
        "try:\n    q\nexcept:\n    pass",
        "def f(): return q\ntry:\n    f()\nexcept NameError:\n    pass",
        "from contextlib import suppress\nwith suppress(NameError):\n    print(q)",
        "if 'q' in globals():\n    print(q)",
        "if 'q' not in dir():\n    pass\nelse:\n    del q",
        "x = q if 'q' in locals() else 1",
        "x = 'q' in globals() and q",
    ],
)
def test_a_name_that_may_be_missing_is_not_refused(steps, cell):
    """Where the code catches that, or asks first."""
    assert [] == problems(steps(("step:a", cell)))


@pytest.mark.parametrize(
    "cell",
    [
        "try:\n    q\nexcept KeyError:\n    pass",
        "try:\n    pass\nexcept NameError:\n    q",
        "try:\n    q\nexcept NameError:\n    pass\nq",
        "from contextlib import suppress\nwith suppress(KeyError):\n    q",
        "if 'q' in globals():\n    pass\nq",
        "def f(): return q\ntry:\n    [1].sort(key=f)\nexcept NameError:\n    pass\n[1].sort(key=f)",
    ],
)
def test_a_name_that_is_missing_elsewhere_is_refused(steps, cell):
    """What is caught or asked for at one place excuses no other one."""
    assert 1 == len(problems(steps(("step:a", cell))))


def test_what_cannot_be_told_is_a_warning(steps):
    _, source = read_steps(steps(("step:a", "from math import *"), ("step:b", "pi\neval(input())")))
    assert any("cell 1, line 1 (step a): from math import *" in one for one in source.warnings)
    assert any("cell 2, line 2 (step b): eval(input())" in one for one in source.warnings)


def test_cells_that_were_run_in_another_order_are_a_warning(steps):
    _, source = read_steps(steps(("step:a", "x = 1"), ("step:b", "y = x"), ("step:c", "y"), counts=(3, 2, 4)))
    assert ["cell 2 was run before cell 1 the last time (In [2], In [3])"] == source.warnings
