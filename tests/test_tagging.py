"""Tagging a cell changes its tags and no other byte."""

from __future__ import annotations

import json
import re
import shlex
import stat
from pathlib import Path

import nbformat
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbflow.errors import DefinitionError, RefusedError, StoreError, TargetError
from nbflow.loading import tagging
from nbflow.loading.tagging import add_tag, read_tags, remove_tag
from nbflow.source import read_notebook


def notebook() -> nbformat.NotebookNode:
    v4 = nbformat.v4
    cells = [v4.new_markdown_cell("# Tromsø"), v4.new_code_cell("depth = 3\n"), v4.new_code_cell("rmse = 'é\\u2028'")]
    cells[2].metadata = {"collapsed": True, "zebra": {"ä": [1, {}]}}
    cells[2].outputs = [v4.new_output("stream", name="stdout", text='{"metadata": {}} \\" [')]
    return v4.new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "x"}})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A notebook as nbformat writes it."""
    nbformat.write(notebook(), tmp_path / "forecast.ipynb")
    return tmp_path / "forecast.ipynb"


def tags(path: Path, cell: int) -> list[str]:
    return sorted(read_notebook(path).cells[cell - 1].tags)


def test_a_tagged_notebook_is_what_nbformat_would_write(path, tmp_path):
    """Byte for byte, and back again."""
    before = path.read_bytes()
    for cell, index in ((1, 1), (2, 2)):
        assert f"forecast.ipynb: cell {cell} is tagged results now." == add_tag(path, cell, "results")
        twin = nbformat.reads(before.decode(), 4)
        twin.cells[index].metadata["tags"] = ["results"]
        nbformat.write(twin, tmp_path / "twin.ipynb")
        assert (tmp_path / "twin.ipynb").read_bytes() == path.read_bytes()
        assert f"forecast.ipynb: cell {cell} is not tagged results any more." == remove_tag(path, cell, "results")
        assert before == path.read_bytes()


@pytest.mark.parametrize(
    "style",
    [
        {"indent": 1, "ensure_ascii": False},
        {"indent": 4, "ensure_ascii": True},
        {"indent": "\t", "ensure_ascii": False},
        {"indent": None, "ensure_ascii": True},
        {"indent": None, "ensure_ascii": True, "separators": (",", ":")},
    ],
)
@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_the_manner_of_the_file_is_kept(path, style, bom, newline):
    """Indent, spaces, line ends, byte order mark, the order of keys."""
    data = json.loads(path.read_text())
    data["cells"][2]["metadata"] = {"zebra": 1, "collapsed": True}

    def written() -> bytes:
        return (bom + json.dumps(data, **style).replace("\n", newline) + newline).encode()

    path.write_bytes(written())
    add_tag(path, 2, "results")
    add_tag(path, 2, "timeout:30s")
    data["cells"][2]["metadata"]["tags"] = ["results", "timeout:30s"]
    assert written() == path.read_bytes()


METADATA = [
    '{"a": 1e999, "n": 123456789012345678901234567890.50E0, "name": "\\u00e9\\/\\ud83d", "zebra": 1, "zebra": 2}',
    '{"zebra": {"b": 1, "a": [NaN, 1.50]},  "name": "\\u00e9"}',
    '{"a": -0.0 ,\n\n     "b" : []\n }',
    '{"name":"\\u00e9"}',
    "{}",
]


@pytest.mark.parametrize("inside", METADATA)
@pytest.mark.parametrize("around", ['"metadata": %s', '"metadata":%s', ' \n   "metadata": %s'])
@pytest.mark.parametrize("title", ["Troms\u00f8", "Rome"])
def test_what_else_stands_in_the_metadata_stays_as_it_is_written(tmp_path, inside, around, title):
    """Numbers, escapes, keys that stand there twice, blanks; and all of it where the tags are removed again."""
    start, end = f'{{"cells": [{{{around}'.split("%s")[0], ', "source": "", "cell_type": "code"}], '
    end += f'"nbformat": 4, "metadata": {{"title": "{title}"}}}}'
    path = tmp_path / "n.ipynb"
    path.write_bytes((start + inside + end).encode())
    add_tag(path, 1, "results")
    add_tag(path, 1, "setup")
    text = path.read_bytes().decode()
    assert text.startswith(start)
    assert text.endswith(end)
    made = text[len(start) : -len(end)]
    assert ["results", "setup"] == json.loads(made)["tags"]
    tags = re.compile(r'\s*"tags"\s*:\s*\[[^\]]*\]\s*')
    assert re.sub(r"[\s,]", "", inside) == re.sub(r"[\s,]", "", tags.sub("", made))
    remove_tag(path, 1, "results", "setup")
    assert start + inside + end == path.read_bytes().decode()


def test_tags_that_stay_are_not_written_anew_and_all_keys_of_that_name_go(tmp_path):
    """Of two that are called alike the last one counts."""
    path = tmp_path / "n.ipynb"
    text = '{"cells": [{"cell_type": "code", "metadata": {"tags": ["x"], "tags": %s, "a": 1}}], "nbformat": 4}'
    path.write_text(text % '["\\u00e9\\/", "results"]')
    add_tag(path, 1, "setup")
    assert text % '["\\u00e9\\/", "results", "setup"]' == path.read_text()
    remove_tag(path, 1, "\u00e9/", "results", "setup")
    assert text.replace('"tags": ["x"], "tags": %s, ', "") == path.read_text()


def test_a_cell_without_metadata_gets_some(path):
    """Some programs leave it out."""
    data = json.loads(path.read_text())
    del data["cells"][1]["metadata"]
    for indent in (None, 1):
        path.write_text(json.dumps(data, indent=indent))
        add_tag(path, 1, "parameters")
        assert json.loads(path.read_text())["cells"][1].pop("metadata") == {"tags": ["parameters"]}


def test_tagging_twice_says_so_and_writes_nothing(path):
    """Also where a comment says it."""
    add_tag(path, 1, "parameters")
    before = path.stat()
    assert add_tag(path, 1, "parameters") == "forecast.ipynb: cell 1 is tagged parameters already."
    assert remove_tag(path, 2, "results") == "forecast.ipynb: cell 2 is not tagged results."
    assert (before.st_ino, before.st_mtime_ns) == (path.stat().st_ino, path.stat().st_mtime_ns)


def test_a_new_timeout_replaces_the_old(path):
    """Two would be an error."""
    add_tag(path, 1, "timeout:30s")
    add_tag(path, 1, "timeout:1m")
    assert tags(path, 1) == ["timeout:1m"]


def test_tags_that_only_begin_like_the_new_one_stay(path):
    """They are the user's, or another program's."""
    data = json.loads(path.read_text())
    data["cells"][1]["metadata"]["tags"] = ["results-table", "parameters2", "timeout:30s"]
    path.write_text(json.dumps(data))
    add_tag(path, 1, "results")
    add_tag(path, 1, "parameters")
    assert ["parameters", "parameters2", "results", "results-table", "timeout:30s"] == tags(path, 1)


def test_a_second_parameters_cell_is_refused(path):
    """And two that are there already can be mended."""
    add_tag(path, 1, "parameters")
    with pytest.raises(DefinitionError, match="cell 1 is tagged parameters already") as caught:
        add_tag(path, 2, "parameters")
    assert caught.value.remedy.endswith("forecast.ipynb 1 --remove parameters")
    data = json.loads(path.read_text())
    data["cells"][2]["metadata"]["tags"] = ["parameters"]
    path.write_text(json.dumps(data))
    remove_tag(path, 2, "parameters")
    assert read_notebook(path).parameters_cell == 1


def test_a_comment_is_not_removed_as_a_tag(path):
    """It stands in the source, which is the user's."""
    data = json.loads(path.read_text())
    data["cells"][1]["source"] = "# nbflow: parameters\nx = 1"
    path.write_text(json.dumps(data))
    with pytest.raises(DefinitionError, match="by its first line"):
        remove_tag(path, 1, "parameters")


def test_a_number_that_python_does_not_read_is_told(path):
    """Whatever opens the notebook would fail at it."""
    path.write_text(path.read_text().replace('"zebra": {', f'"n": {"9" * 5000}, "zebra": {{'))
    with pytest.raises(DefinitionError, match=r"the number 9{8}\.\.\. has 5000 digits"):
        add_tag(path, 1, "results")


@pytest.mark.parametrize(
    ("cell", "tag", "says", "kind"),
    [
        (3, "results", "has no cell 3: it has 2 code cells", TargetError),
        (0, "results", "has no cell 0", TargetError),
        (-1, "results", "has no cell -1", TargetError),
        (1, "paramters", "Did you mean 'parameters'?", DefinitionError),
        (1, "mine", "'mine' is no tag that nbflow knows", DefinitionError),
        (1, "timeout:soon", "is no time above zero", DefinitionError),
    ],
)
def test_a_wrong_cell_or_tag_is_refused_and_nothing_changes(path, cell, tag, says, kind):
    """With what there is instead."""
    before = path.read_bytes()
    with pytest.raises(kind) as caught:
        add_tag(path, cell, tag)
    assert says in caught.value.message
    assert caught.value.remedy
    assert before == path.read_bytes()


def test_mode_and_symlink_stay(path, tmp_path):
    """The link's target is rewritten, with its permissions, and no other file is left."""
    path.chmod(0o640)
    (tmp_path / "other").mkdir()
    link = tmp_path / "other" / "link.ipynb"
    link.symlink_to(path)
    add_tag(link, 1, "parameters")
    assert link.is_symlink()
    assert tags(path, 1) == ["parameters"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert sorted(p.name for p in tmp_path.iterdir()) == ["forecast.ipynb", "other"]


def test_a_failed_write_leaves_the_notebook_as_it_was(path, tmp_path, monkeypatch):
    """And no temporary file; the disk is full when the bytes should go out."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    before = path.read_bytes()
    monkeypatch.setattr(tagging.os, "fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        add_tag(path, 1, "parameters")
    assert before == path.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["forecast.ipynb"]


def test_what_may_not_be_written_is_refused(nobodys_folder):
    """A read-only file as well as a read-only folder."""
    path = nobodys_folder / "forecast.ipynb"
    nbformat.write(notebook(), path)
    for place, mode in ((path, 0o444), (nobodys_folder, 0o555)):
        old = stat.S_IMODE(place.stat().st_mode)
        place.chmod(mode)
        try:
            with pytest.raises(RefusedError, match="Permission denied"):
                add_tag(path, 1, "parameters")
        finally:
            place.chmod(old)


# -- tags with a value, and several at once -----------------------------------------------------------------------


def steps(path: Path, *cells: tuple[str, ...]) -> Path:
    """Write a notebook of code cells, each its source and its tags."""
    made = []
    for source, *own in cells:
        cell = nbformat.v4.new_code_cell(source)
        cell.metadata = {"tags": own} if own else {}
        made.append(cell)
    nbformat.write(nbformat.v4.new_notebook(cells=made), path)
    return path


@pytest.fixture
def analysis(tmp_path: Path) -> Path:
    """A notebook whose second cell begins a step, and whose third goes with it; the fourth begins one by a comment."""
    return steps(
        tmp_path / "analysis.ipynb",
        ("cities = ['Oslo']",),
        ("a = 1", "step:load", "mine"),
        ("b = 2",),
        ("# nbflow: step=clean needs=load\nc = 3",),
    )


def stored(path: Path, cell: int) -> list[str]:
    """Give the tags in the metadata of a code cell, in their order."""
    return list(read_tags(path).cells[cell - 1].tags)


def test_several_tags_are_written_at_once(analysis):
    """In the order in which they were given, behind those that are there."""
    given = ("needs:first", "needs:other", "each:cities", "as:city", "max:4", "timeout:30s", "retry:2", "results")
    assert f"analysis.ipynb: cell 2 is tagged {', '.join(given)} now." == add_tag(analysis, 2, *given)
    assert ["step:load", "mine", *given] == stored(analysis, 2)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("step:load", "step:read"),
        ("each:cities", "each:towns"),
        ("as:city", "as:town"),
        ("max:4", "max:8"),
        ("timeout:30s", "timeout:1h30m"),
        ("retry:2", "retry:3"),
    ],
)
def test_a_tag_with_a_value_takes_the_place_of_the_one_that_begins_alike(analysis, old, new):
    """Of all but one there is one at most."""
    add_tag(analysis, 2, "each:cities", "as:city", "max:4", "timeout:30s", "retry:2")
    add_tag(analysis, 2, new)
    assert old not in stored(analysis, 2)
    assert new in stored(analysis, 2)
    assert 7 == len(stored(analysis, 2))


def test_a_step_can_need_several(analysis):
    """A second needs: takes nobody's place."""
    add_tag(analysis, 2, "needs:one")
    add_tag(analysis, 2, "needs:two")
    assert ["step:load", "mine", "needs:one", "needs:two"] == stored(analysis, 2)


def test_steps_that_are_needed_become_a_tag_each_where_commas_stand_between_them(analysis):
    """Jupyter opens no notebook with a comma in a tag."""
    assert add_tag(analysis, 2, "needs:one,two", "needs:two, three").endswith(
        "cell 2 is tagged needs:one, needs:two, needs:three now."
    )
    assert ["step:load", "mine", "needs:one", "needs:two", "needs:three"] == stored(analysis, 2)
    nbformat.validate(nbformat.read(analysis, 4))
    assert remove_tag(analysis, 2, "needs:one,two").endswith("cell 2 is not tagged needs:one, needs:two any more.")


def test_a_tag_with_a_comma_that_stands_there_can_be_removed(tmp_path):
    """Whoever wrote it."""
    path = steps(tmp_path / "n.ipynb", ("a = 1", "step:load", "needs:one"))
    path.write_text(path.read_text().replace("needs:one", "needs:one,two"))
    remove_tag(path, 1, "needs:one,two")
    assert ["step:load"] == stored(path, 1)


def test_what_stands_there_already_is_not_written_again(analysis):
    """As a tag or in the first line; what is new among it is written."""
    before = analysis.stat()
    assert add_tag(analysis, 4, "step:clean", "needs:load").endswith("tagged step:clean, needs:load already.")
    assert before.st_mtime_ns == analysis.stat().st_mtime_ns
    add_tag(analysis, 4, "step:clean", "retry:2", "retry:2")
    assert ["retry:2"] == stored(analysis, 4)


def test_several_tags_are_removed_at_once(analysis):
    """Those that are not there are not named; one of a comment keeps all of them."""
    add_tag(analysis, 4, "retry:2", "timeout:30s")
    assert remove_tag(analysis, 2, "mine", "results", "step:load").endswith("not tagged mine, step:load any more.")
    assert stored(analysis, 2) == []
    assert remove_tag(analysis, 2, "mine", "results").endswith("cell 2 is not tagged mine, results.")
    with pytest.raises(DefinitionError, match="marked step:clean by its first line"):
        remove_tag(analysis, 4, "retry:2", "step:clean")
    assert ["retry:2", "timeout:30s"] == stored(analysis, 4)


@pytest.mark.parametrize(
    ("cell", "given", "says", "remedy"),
    [
        (3, "step:9lives", "'9lives' is no step id", "step:clean"),
        (3, "step:", "'' is no step id", "step:clean"),
        (3, "step:a/b", "'a/b' is no step id", "step:clean"),
        (3, "step:setup", "setup is what runs first", "another name"),
        (3, "step:x needs:a,9", "'9' is no step id", "needs:load"),
        (3, "step:x each:my-list", "'my-list' names no variable", "each:cities"),
        (3, "step:x each:cities as:1", "'1' names no variable", "as:city"),
        (3, "step:x each:cities as:class", "'class' names no variable", "as:city"),
        (3, "step:x each:cities max:0", "'0' is no whole number from 1", "max:4"),
        (3, "step:x each:cities max:many", "'many' is no whole number from 1", "max:4"),
        (3, "step:x retry:1.5", "'1.5' is no whole number from 1", "retry:2"),
        (3, f"step:x retry:{'9' * 5000}", "is no whole number from 1", "retry:2"),
        (3, "step:x timeout:0s", "is no time above zero", "30s"),
        (3, "step:x,y", "'x,y' is no step id", "step:clean"),
        (3, "step:x timeout:1s,2s", "is no time above zero", "30s"),
        (
            3,
            "results,setup",
            "cell 3: 'results,setup' is no tag, for it has a comma",
            "one by one: results setup",
        ),
        (3, "step:x needs:,", "cell 3: 'needs:,' is no tag, for it has a comma", "one by one: needs:"),
        (3, "step=x", "Did you mean 'step:x'?", "step:clean"),
        (3, "stp:x", "Did you mean 'step:x'?", "step:clean"),
        (3, "STEP:x", "Did you mean 'step:x'?", "step:clean"),
        (3, "step", "Did you mean 'step:'?", "step:clean"),
        (3, "results:x", "is no tag that nbflow knows. Did you mean 'results'?", "results"),
        (3, "step:x step:y", "a cell has one step", "one of them"),
        (3, "step:x needs:x", "begins step x, which cannot need itself", "other steps"),
        (2, "parameters", "cannot begin a step and be tagged parameters", "Split the cell"),
        (4, "setup", "cannot begin a step and be tagged setup", "Split the cell"),
        (3, "setup step:x", "cannot begin a step and be tagged setup", "Split the cell"),
        (2, "needs: needs:clean", "waits for nothing, and needs:clean contradicts it", "Keep one"),
        (4, "needs:", "needs:load contradicts it", "Keep one"),
        (3, "step:x max:2", "has no each:", "analysis.ipynb 3 each:LIST step:x max:2"),
        (3, "step:load", "cell 2 is tagged step:load already", "analysis.ipynb 2 --remove step:load"),
        (3, "step:clean", "cell 4 is tagged step:clean already", "first line of cell 4"),
        (4, "step:other", "first line of cell 4 says step:clean, and step:other contradicts it", "Change that line"),
        (4, "needs:other", "says needs:load, and needs:other contradicts it", "Change that line"),
        (3, "needs:clean", "cell 3 begins no step", "analysis.ipynb 2 needs:clean\nOr begin a step here:\n"),
        (3, "needs:load", "cell 3 begins no step", "analysis.ipynb 3 step:NAME needs:load"),
        (1, "retry:2", "cell 1 begins no step", "Begin a step here:\nnbflow tag"),
        (3, "each:cities results", "cell 3 begins no step", "analysis.ipynb 2 each:cities\n"),
        (3, "max:2", "cell 3 begins no step", "analysis.ipynb 2 each:LIST max:2\n"),
        (3, "as:city", "cell 3 begins no step", "analysis.ipynb 3 step:NAME each:LIST as:city"),
        (5, "step:x", "has no cell 5", "counted from 1"),
    ],
)
def test_one_wrong_tag_keeps_all_of_the_call_from_being_written(analysis, cell, given, says, remedy):
    """In one line, with a remedy."""
    before = analysis.read_bytes()
    with pytest.raises(RefusedError) as caught:
        add_tag(analysis, cell, "raises-exception", *given.split())
    assert says in caught.value.message
    assert "\n" not in caught.value.message
    assert remedy in caught.value.remedy.replace(" raises-exception", "")
    assert 2 == caught.value.exit_code
    assert before == analysis.read_bytes()


@pytest.mark.parametrize("given", ["needs:clean", "max:2", "each:cities as:city", "step:load", "step:x max:2"])
def test_each_command_of_a_remedy_works(analysis, given):
    """As it is told, one instead of the other."""
    with pytest.raises(DefinitionError) as caught:
        add_tag(analysis, 3, *given.split())
    before = analysis.read_bytes()
    commands = [line for line in caught.value.remedy.splitlines() if line.startswith("nbflow tag ")]
    assert commands
    for command in commands:
        analysis.write_bytes(before)
        _, _, path, cell, *words = shlex.split(command)
        change = remove_tag if "--remove" in words else add_tag
        assert change(Path(path), int(cell), *(word for word in words if word != "--remove")).endswith(
            (" now.", "more.")
        )


def test_a_wrong_time_out_of_another_cell_or_two_of_this_one_are_mended_by_tagging(tmp_path):
    """A notebook that cannot be run because of its tags can be tagged."""
    path = steps(tmp_path / "n.ipynb", ("a = 1", "timeout:1s", "timeout:2s"), ("b = 2", "timeout:soon"))
    with pytest.raises(DefinitionError, match="two time-outs") as caught:
        read_notebook(path)
    _, _, name, cell, _, tag = shlex.split(caught.value.remedy.removeprefix("Keep one: "))
    remove_tag(Path(name), int(cell), tag)
    add_tag(path, 2, "timeout:5s")
    assert [2.0, 5.0] == [cell.timeout for cell in read_notebook(path).cells]


def test_a_misspelt_comment_is_told_before_the_cell_is_tagged(tmp_path):
    """It would be wrong all the same; tags can be removed, and other cells be tagged."""
    path = steps(tmp_path / "n.ipynb", ("# nbflow: setp=x\na = 1", "mine"), ("b = 2",))
    with pytest.raises(DefinitionError, match="Did you mean 'step'"):
        add_tag(path, 1, "step:x")
    remove_tag(path, 1, "mine")
    add_tag(path, 2, "step:x")
    assert ([], ["step:x"]) == (stored(path, 1), stored(path, 2))


ANY_TAG = st.one_of(
    st.sampled_from(
        ["needs:", "parameters", "setup", "results", "skip-execution", "timeout:1s", "timeout:2m", "needs:b,load"]
    ),
    st.builds("step:{}".format, st.sampled_from(["a", "b", "c", "load"])),
    st.builds("needs:{}".format, st.sampled_from(["a", "b", "load"])),
    st.builds("{}:{}".format, st.sampled_from(["each", "as"]), st.sampled_from(["city", "town"])),
    st.builds("{}:{}".format, st.sampled_from(["max", "retry"]), st.integers(0, 3)),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=st.lists(st.tuples(st.integers(1, 4), st.lists(ANY_TAG, min_size=1, max_size=4)), max_size=5))
def test_whatever_is_accepted_stands_there_and_whatever_is_refused_changes_nothing(tmp_path, calls):
    """No cell has two of a kind, no two cells one step, and nbflow reads it without a word."""
    path = steps(tmp_path / "n.ipynb", ("a = 1",), ("b = 2", "step:load"), ("# nbflow: step=c\nc = 3",), ("d = 4",))
    for cell, given_tags in calls:
        before = path.read_bytes()
        try:
            add_tag(path, cell, *given_tags)
        except DefinitionError:
            assert before == path.read_bytes()
        else:
            wanted = {one for tag in given_tags for one in tag.replace(",", " needs:").split()}
            assert wanted <= {*read_tags(path).cells[cell - 1].tags, *read_tags(path).cells[cell - 1].said}
    found = read_tags(path)
    assert found.mistake is None
    begun = [tag for cell in found.cells for tag in (*cell.tags, *cell.said) if tag.startswith("step:")]
    assert sorted(set(begun)) == sorted(begun)
    for cell in found.cells:
        prefixes = [tag.partition(":")[0] for tag in (*cell.tags, *cell.said)]
        assert all(prefixes.count(one) < 2 for one in ("step", "each", "as", "max", "timeout", "retry"))
        assert not cell.begins or not {"setup", "parameters"} & {*prefixes}
        assert "needs:" not in cell.tags or 1 == prefixes.count("needs")
        assert cell.begins or not {"needs", "each", "as", "max", "retry"} & {*prefixes}
        assert "each" in prefixes or not {"as", "max"} & {*prefixes}
