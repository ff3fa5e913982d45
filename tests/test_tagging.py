"""Tagging a cell changes its tags and no other byte."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import nbformat
import pytest

from nbflow.errors import DefinitionError, RefusedError, StoreError, TargetError
from nbflow.loading import tagging
from nbflow.loading.tagging import add_tag, remove_tag
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
