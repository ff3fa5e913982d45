"""A notebook as it stands in its file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nbflow.durations import seconds
from nbflow.errors import DefinitionError, ParameterError, RefusedError, TargetError
from nbflow.source import Notebook, assigned, cell_tree, changed_cells, nameless, read_notebook

PYTHON = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}


def raw(*cells: tuple[str, str, list[str]] | str, metadata: dict | None = None) -> dict:
    """Give a notebook as JSON has it; a text is a code cell, else kind, source, tags."""
    made = []
    for cell in cells:
        kind, source, tags = ("code", cell, []) if isinstance(cell, str) else cell
        made.append({"cell_type": kind, "metadata": {"tags": tags} if tags else {}, "source": source.splitlines(True)})
        if kind == "code":
            made[-1].update(execution_count=None, outputs=[])
    return {"cells": made, "metadata": PYTHON if metadata is None else metadata, "nbformat": 4, "nbformat_minor": 4}


@pytest.fixture
def read(tmp_path: Path):
    """Write a notebook and read it."""

    def write_and_read(*cells, metadata=None) -> Notebook:
        path = tmp_path / "forecast.ipynb"
        path.write_text(json.dumps(raw(*cells, metadata=metadata)))
        return read_notebook(path)

    return write_and_read


def parameters(read, source: str) -> Notebook:
    return read(("code", source, ["parameters"]))


def refused(path: Path, kind: type[RefusedError] = DefinitionError) -> RefusedError:
    with pytest.raises(kind) as caught:
        read_notebook(path)
    assert "\n" not in caught.value.message
    assert path.name in caught.value.message
    assert caught.value.remedy
    return caught.value


def test_the_signature_reads_as_people_expect(read):
    """Annotations as written, types of bare defaults, and the cell."""
    notebook = read("import os", ("code", "city: str\ndepth = 3\nrate: float = 0.1", ["parameters"]))
    assert notebook.signature_text == "city: str, depth: int = 3, rate: float = 0.1 (cell 2)"
    assert [p.has_default for p in notebook.parameters] == [False, True, True]


@pytest.mark.parametrize(
    ("source", "wants"),
    [
        ("x = 3", "an int"),
        ("x = -2.5", "a float"),
        ("x = (1, 2)", "a list"),
        ("x = True", "a bool (true or false)"),
        ("x = None", "anything"),
        ("x = f()", "anything"),
        ("x: Optional[int] = None", "an int or None"),
        ("x: int | None = None", "an int or None"),
        ("x: int = None", "an int or None"),
        ("x: typing.Union[int, str]", "an int or a str"),
        ("x: Literal['a', 'b']", "one of 'a', 'b'"),
        ("x: Optional[Literal['a']] = None", "one of 'a', None"),
        ("x: list[int]", "a list of int"),
        ("x: 'dict[str, float]'", "a dict of float"),
        ("x: np.ndarray", "anything"),
        ("x: int\nx = 3", "an int"),
    ],
)
def test_types_come_from_annotations_and_defaults(read, source, wants):
    """Each spelling of a type gives what is said to people."""
    assert [wants] == [str(p.type) for p in parameters(read, source).parameters]


def test_a_default_computed_from_others_knows_them(read):
    """Directly, by way of others, and by += too."""
    notebook = parameters(read, "depth = 3\nn = depth * 2\nm = n + 1\nk = 10 ** 6\nk += m")
    found = {p.name: set(p.computed_from) for p in notebook.parameters}
    assert {"depth": set(), "n": {"depth"}, "m": {"n", "depth"}, "k": {"m", "n", "depth"}} == found


def test_tuple_assignments_are_several_parameters(read):
    """``a, b = 1, 'x'`` declares two with a type each; an unpacked call declares names."""
    notebook = parameters(read, "a, b = 1, 'x'\nc = d = 2.0\ne, f = g()")
    expected = ["a: int = 1", "b: str = 'x'", "c: float = 2.0", "d: float = 2.0", "e = g()[0]", "f = g()[1]"]
    assert expected == [str(p) for p in notebook.parameters]


def test_a_warning_about_a_cell_is_not_ours_to_give(read):
    """Python warns about unknown escapes while it parses; the tests turn warnings into errors."""
    assert [p.default for p in parameters(read, 'x = "\\d"').parameters] == ["\\d"]


def test_result_names_are_what_the_results_cell_assigns(read):
    """Also in ifs, after magics, with await, and names on a line of their own; no imports, functions, private names."""
    source = (
        "import os\nrmse = 1\nn: int = 2\na, (b, *c) = q\n%time k = f()\nfiles = !ls\ndef f():\n    inner = 1\n"
        "class C:\n    y = 1\n_private = 3\nif rmse:\n    deep = await g()\nfor i in c:\n    total = i\n"
        "gone = 1\ndel gone\nout, frame, len(out)\nprint(rmse)\n"
    )
    notebook = read(("code", source, ["results"]), ("code", "late += 1", ["results"]))
    expected = ("rmse", "n", "a", "b", "c", "k", "files", "deep", "total", "out", "frame", "late")
    assert expected == notebook.result_names
    assert notebook.results_cells == (1, 2)


def test_magic_like_lines_inside_of_text_stay_as_they_are(read):
    """The cell is only cleaned of magics when Python cannot read it."""
    notebook = parameters(read, 'query = """\n%like%\n"""')
    assert [p.default for p in notebook.parameters] == ["\n%like%\n"]


def test_text_that_looks_like_magic_stays_as_it_is_beside_magic(read):
    """Only IPython can tell them apart; what is read here is given to the cell in place of its own."""
    text = "You are a helper.\nWhat is the capital?\n%like%\n! no\nx = %d\n? %time 3\n"
    notebook = parameters(read, f'%precision 3\nprompt = """{text}"""\nn = 3\nfiles = !ls')
    assert [("prompt", text), ("n", 3), ("files", None)] == [(p.name, p.default) for p in notebook.parameters]
    assert notebook.parameters[-1].default_text


@pytest.mark.parametrize("tag", ["parameters", "results"])
@pytest.mark.parametrize(
    "source",
    [
        "!echo hi \\\n  there\nx = 1",
        "    x = 1\n    y = 2",
        "%%time\n  !ls\n  x = 1",
        "\n%%capture out\n%%time\n%time x = 1",
        "if True:\n    %time x = 1",
        "x = 1\n?x\nx?\n%matplotlib inline",
    ],
)
def test_what_ipython_can_run_is_read(read, tag, source):
    """Lines that go on, and cells that are indented."""
    notebook = read(("code", source, [tag]))
    assert "x" in [*(one.name for one in notebook.parameters), *notebook.result_names]
    assert [] == nameless(notebook)


@pytest.mark.parametrize(
    "source",
    ["!echo hi \\\n  there\nx = = 1", "%%time\n\nx = = 1", "\n\n%time x = = 1", "\n  %ls\n  x = = 1", "!ls\n\nreturn"],
)
def test_a_syntax_error_beside_magic_is_told_with_its_line(read, source):
    """The line of the cell, whatever IPython makes of it."""
    with pytest.raises(DefinitionError, match=r"cell 1 \(results\), line 3"):
        read(("code", source, ["results"]))


def test_what_ipython_makes_of_magic_assigns_no_other_name(read):
    """A call that somebody wrote may."""
    assert {"x", "files"} == assigned(read("!ls\n%time x = 1\nfiles = !ls"))
    assert assigned(read("!ls\nget_ipython().run_line_magic('run', 'a.py')")) is None


@pytest.mark.parametrize("source", ["return", "if 1:\n    break", "yield 1", "def f(a, a): pass", "nonlocal x"])
def test_what_python_reads_and_will_not_compile_is_no_code(source):
    """Only with the whole of it can Python tell."""
    with pytest.raises(SyntaxError):
        cell_tree(source)


@pytest.mark.parametrize("source", ["await f()", "x = 1\nfrom __future__ import annotations", "x = 1\nglobal x"])
def test_what_ipython_runs_statement_by_statement_is_code(source):
    """As a file Python would refuse it."""
    assert cell_tree(source).body


def test_a_first_line_comment_equals_the_tag(read):
    """Some editors have no tags."""
    notebook = read(
        "# nbflow: parameters\nx = 1", "\n# nbflow: results, timeout=30s\ny = 1", "z = 1\n# nbflow: results"
    )
    assert notebook.parameters_cell == 1
    assert notebook.results_cells == (2,)
    assert notebook.cells[1].timeout == 30.0


def test_a_misspelt_comment_is_refused_with_a_suggestion(read):
    """A comment that is only near to a mark would silently do nothing."""
    with pytest.raises(DefinitionError, match="Did you mean 'parameters'"):
        read("# nbflow: paramters\nx = 1")
    assert len(read("# nbflow: see the docs").cells) == 1


@pytest.mark.parametrize(
    ("line", "right"),
    [
        ("# nbflow step=load", "step=load"),
        ("# nbflow : step=load", "step=load"),
        ("# NBFLOW: step=load", "step=load"),
        ("## nbflow: step=load", "step=load"),
        ("# nbflow step:load, needs = first", "step=load, needs=first"),
        ("# nbflow setp=load", "step=load"),
        ("# nbflow results", "results"),
        ("# nbflow: load", "step=load"),
        ("# nbflow: step load", "step=load"),
        ("# nbflow: setp=load", "step=load"),
        ("# nbflow: step=load, needs=one,two", "step=load, needs=one, needs=two"),
    ],
)
def test_a_first_line_that_is_nearly_a_mark_is_refused_with_the_right_one(read, line, right):
    """As a comment it would say nothing, and the cell would go with the step above."""
    with pytest.raises(DefinitionError) as caught:
        read("x = 1", f"{line}\ny = 1")
    assert f"forecast.ipynb: cell 2 begins with {line!r}" in caught.value.message
    assert f"Write it like this: # nbflow: {right}" == caught.value.remedy.splitlines()[0]


@pytest.mark.parametrize(
    "line", ["# nbflow: step", "# nbflow: step=sp ace", "# nbflow: results of all", "# nbflow: step=load see there"]
)
def test_words_beside_a_mark_are_refused(read, line):
    """Half of a name, perhaps, or a second step that is needed."""
    with pytest.raises(DefinitionError, match="is no mark") as caught:
        read(line)
    assert caught.value.remedy == (
        "The marks are: parameters, results, raises-exception, skip-execution, setup, and with a value: "
        "step=clean, needs=load, each=cities, as=city, max=4, timeout=30s, retry=2."
    )


@pytest.mark.parametrize(
    "line",
    [
        "# nbflow runs this",
        "# nbflow results are read below",
        "# nbflow: this step is slow",
        "# nbflow: step by step",
        "# nbflow: https://example.org/?step=1",
        "# nbflow run forecast.ipynb -i step=3",
        "# nbflow.run('forecast.ipynb', step=3)",
        "# nbflow_step = 3",
        "# see nbflow: step=load",
        "# nbflow",
        "# nbflow:",
        "# nbflow: ,",
    ],
)
def test_other_comments_about_nbflow_are_comments(read, line):
    """They are no marks, and nobody takes them for some."""
    assert read(f"{line}\nx = 1").cells[0].tags == frozenset()


def test_cells_are_counted_among_the_code_cells(read):
    """Markdown has a position and no number."""
    notebook = read(("markdown", "# Load", []), "a = 1", ("raw", "x", []), "b = 2")
    assert [(c.number, c.position) for c in notebook.cells] == [(1, 1), (2, 3)]


def test_a_cell_is_called_by_the_heading_above_or_its_first_comment(read):
    """Headings in fenced code are none; without any heading the first comment serves."""
    notebook = read(
        "x = 1\n# Read it in\n", ("markdown", "# Top\n## Fit the model ##\n```\n# no\n```", []), "y\n# c", "z"
    )
    assert [c.heading for c in notebook.cells] == ["Read it in", "Fit the model", "Fit the model"]


@pytest.mark.parametrize("tag", ["timeout:soon", "timeout:0s", "timeout:", "timeout:nan"])
def test_a_bad_timeout_tag_is_refused(read, tag):
    """With the cell and the tag."""
    with pytest.raises(DefinitionError, match=f"{tag}' of cell 1"):
        read(("code", "1", [tag]))


def test_the_digest_is_of_code_and_deciding_tags_only(read):
    """Markdown, other metadata and other tags never count; source and deciding tags do."""
    plain = read("a = 1", "b = 2")
    same = read(("markdown", "# Hello", []), ("code", "a = 1", ["timeout:30s", "mine"]), "b = 2", metadata={})
    assert plain.digest == same.digest
    assert plain.cell_digests == same.cell_digests
    others = [read("a = 1", "b = 3"), read(("code", "a = 1", ["results"]), "b = 2"), read("b = 2", "a = 1")]
    assert len({plain.digest, *(n.digest for n in others)}) == 4
    assert changed_cells(plain.cell_digests, others[0].cell_digests) == [2]


def test_outputs_and_counts_do_not_change_the_digest(read, tmp_path):
    """Running and saving the notebook in Jupyter repeats nothing."""
    before = read("a = 1").digest
    data = raw("a = 1")
    data["cells"][0].update(execution_count=7, outputs=[{"output_type": "stream", "name": "stdout", "text": "x"}])
    data["cells"][0]["source"] = "a = 1"
    (tmp_path / "forecast.ipynb").write_text(json.dumps(data, indent=4))
    assert before == read_notebook(tmp_path / "forecast.ipynb").digest


@pytest.mark.parametrize(
    ("old", "new", "numbers"),
    [
        ("abc", "abc", []),
        ("abc", "axc", [2]),
        ("abc", "abcd", [4]),
        ("abc", "xabc", [1]),
        ("abc", "ab", [2]),
        ("a", "", []),
    ],
)
def test_changed_cells_are_numbers_in_the_new_notebook(old, new, numbers):
    """A deleted cell shows as the one that stands there now."""
    assert numbers == changed_cells(list(old), list(new))


@pytest.mark.parametrize(
    ("metadata", "language", "kernel"),
    [
        ({}, "python", ""),
        (PYTHON, "python", "python3"),
        ({"kernelspec": {"name": "ir", "language": "R"}}, "R", "ir"),
        ({"kernelspec": {"name": "conda-x"}, "language_info": {"name": "python"}}, "python", "conda-x"),
        ({"kernelspec": {"name": "deno"}}, "", "deno"),
    ],
)
def test_language_and_kernel_come_from_the_metadata(read, metadata, language, kernel):
    """A notebook that names nothing is Python's; a kernel of unknown language is not checked."""
    notebook = read(("code", "x <- 3", ["parameters"]) if language != "python" else "x", metadata=metadata)
    assert (language, kernel, language == "python") == (notebook.language, notebook.kernel, notebook.parameters_known)


def test_a_bom_is_no_harm(tmp_path):
    """Some Windows editors write one."""
    path = tmp_path / "forecast.ipynb"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(raw("x = 1")).encode())
    assert len(read_notebook(path).cells) == 1


def test_a_missing_notebook_is_refused_with_the_near_one(tmp_path):
    """The folder's notebooks are named."""
    (tmp_path / "forecast.ipynb").write_text("{}")
    error = refused(tmp_path / "forcast.ipynb", TargetError)
    assert "Did you mean 'forecast.ipynb'?" in error.message


def test_a_folder_is_no_notebook(tmp_path):
    """Nor is what cannot be read."""
    refused(tmp_path, TargetError)


def test_an_unreadable_notebook_is_refused(nobodys_folder):
    """With the system's reason."""
    path = nobodys_folder / "forecast.ipynb"
    path.write_text(json.dumps(raw("x = 1")))
    path.chmod(0)
    assert "Permission denied" in refused(path, TargetError).message


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"hello", "not JSON"),
        (b'{"cells": [\n {"cell_type": "code",\n', "3: the notebook is cut off"),
        (b'{"cells": [\n {"cell_type": "co', "2: the notebook is cut off"),
        (b'{"cells": [\n<<<<<<< HEAD\n', "2: a merge conflict"),
        (b'{"a": 1}', "no notebook"),
        (b"[1]", "no notebook"),
        (b'{"nbformat": true}', "no notebook"),
        (b'{"nbformat": 4}', "no list of cells"),
        (b'{"nbformat": 5, "cells": []}', "format 5"),
        (b'{"nbformat": 4, "cells": []}', "no code cell"),
        (b'{"nbformat": 4, "cells": [3]}', "cell 1 of the file"),
        (b'{"nbformat": 4, "cells": [{"cell_type": "code", "source": 3}]}', "cell 1 of the file"),
        (b'{"nbformat": 4, "cells": [], "metadata": "x"}', "metadata are 'x', and not a mapping"),
        (b'{"nbformat": 4, "cells": [], "nbformat_minor": "4"}', "'nbformat_minor' is '4', and not a whole number"),
        (b'{\n"a": "\xff"}', "2: byte 0xff is not UTF-8"),
        (b"[" * 100_000, "deep"),
        (b'{"nbformat": 4, "cells": [],\n"a": [-' + b"12" * 3000 + b"]}", "2: the number -1212121... has 6000 digits"),
    ],
)
def test_what_is_no_notebook_is_refused(tmp_path, content, says):
    """With value, place and remedy."""
    path = tmp_path / "forecast.ipynb"
    path.write_bytes(content)
    assert says in refused(path).message


@pytest.mark.parametrize(("cell", "minor"), [({}, 4), ({"id": "a"}, 5)])
@pytest.mark.parametrize("more", [{}, {"metadata": None}])
def test_what_some_programs_leave_out_is_filled_in(tmp_path, cell, minor, more):
    """Whatever runs the notebook looks for it, in text, too."""
    path = tmp_path / "forecast.ipynb"
    made = [{"cell_type": "markdown"}, {"cell_type": "code", "source": "x = 1", **cell}]
    path.write_text(json.dumps({"nbformat": 4, "cells": made, **more}))
    data = read_notebook(path).data
    assert ({}, minor) == (data["metadata"], data["nbformat_minor"])
    assert [({}, ""), ({}, "x = 1")] == [(one["metadata"], one["source"]) for one in data["cells"]]


def test_format_3_is_refused_and_the_remedy_converts_it(tmp_path):
    """The command of the message is run as it stands."""
    path = tmp_path / "old one.ipynb"
    cell = {"cell_type": "code", "input": "x = 1", "outputs": [], "language": "python", "metadata": {}}
    old = {"nbformat": 3, "nbformat_minor": 0, "metadata": {"name": ""}, "worksheets": [{"cells": [cell]}]}
    path.write_text(json.dumps(old))
    command = refused(path).remedy.splitlines()[-1]
    search = str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"]
    subprocess.run(command, shell=True, check=True, env={**os.environ, "PATH": search}, capture_output=True)
    assert [c.source for c in read_notebook(path).cells] == ["x = 1"]


def test_two_parameter_cells_are_refused_and_both_named(read):
    """The remedy removes the later tag, or says which line to delete."""
    with pytest.raises(DefinitionError, match="cells 1 and 3") as caught:
        read(("code", "x = 1", ["parameters"]), "y", ("code", "z = 1", ["parameters"]))
    assert caught.value.remedy.endswith("forecast.ipynb 3 --remove parameters")
    with pytest.raises(DefinitionError) as caught:
        read(("code", "x = 1", ["parameters"]), "# nbflow: parameters\nz = 1")
    assert caught.value.remedy.endswith("delete the first line of cell 2.")


@pytest.mark.parametrize("tag", ["parameters", "results"])
def test_a_syntax_error_is_told_before_any_kernel_starts(read, tag):
    """In the cells that are read without running them, with cell and line."""
    with pytest.raises(DefinitionError, match=rf"cell 2 \({tag}\), line 2"):
        read("ok = 1", ("code", "x = 1\ny = = 2", [tag]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30m", 1800.0),
        ("90", 90.0),
        (90, 90.0),
        ("1.5h", 5400.0),
        ("500ms", 0.5),
        ("1h30m", 5400.0),
        ("1d 2h", 93600.0),
    ],
)
def test_durations_have_units(text, expected):
    """The largest first; a number alone is seconds."""
    assert expected == seconds(text)


@pytest.mark.parametrize(
    "text", ["", "0", "-3s", "nan", "inf", "30x", "5m1h", "1h1h", True, 0, float("nan"), float("inf"), 10**400]
)
def test_what_is_no_time_above_zero_is_refused(text):
    """With the value and an example."""
    with pytest.raises(ParameterError, match="no time above zero"):
        seconds(text)


def test_reading_needs_no_library(tmp_path):
    """Importing nbformat can take two seconds."""
    code = "import sys, nbflow.source; print([m for m in ('nbformat', 'yaml', 'papermill') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
