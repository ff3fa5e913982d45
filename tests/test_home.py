"""Homes: where runs live, who may put one there, and how a person's word for one is understood."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from nbflow.errors import NbflowError, StoreError, TargetError
from nbflow.store.home import Home, all_runs, find, remove, size

FIRST, SECOND = "20261123-030112-7f3a", "20261124-030112-0001"


@pytest.fixture
def home(tmp_path) -> Home:
    """Give the home of a notebook."""
    (tmp_path / "train.ipynb").write_text("{}")
    return Home.of(tmp_path / "train.ipynb")


def run(home: Home, run_id: str) -> Path:
    """Make a run."""
    folder = home.create(run_id)
    (folder / "journal.jsonl").write_text("")
    return folder


def everything(folder: Path) -> list[Path]:
    """Give all that is below a folder."""
    return sorted(folder.rglob("*"))


def test_a_run_lives_beside_its_notebook(home, tmp_path):
    """In a visible folder that git passes over."""
    folder = run(home, FIRST)
    assert tmp_path / "nbflow-runs" / "train.ipynb" / FIRST == folder
    assert tmp_path / "train.ipynb.nbflow.json" == home.checkpoint
    assert (tmp_path / "nbflow-runs" / ".gitignore").read_text() == "*\n"


def test_a_state_folder_keeps_notebooks_of_one_name_apart(tmp_path):
    """By the folder they are in."""
    homes = [Home.of(tmp_path / name / "train.ipynb", tmp_path / "state") for name in ("a/x", "b/x")]
    folders = [run(home, FIRST) for home in homes]
    assert len({*folders, *(home.checkpoint for home in homes)}) == 4
    assert all(
        tmp_path / "state" in home.checkpoint.parents and tmp_path / "state" in f.parents
        for home, f in zip(homes, folders, strict=True)
    )
    assert not (tmp_path / "a").exists()


def test_runs_are_listed_by_age_and_nothing_else_is_a_run(home, tmp_path):
    """Links, other people's folders, empty ones and what is being deleted are none."""
    assert [] == home.runs()
    second, first = run(home, SECOND), run(home, FIRST)
    (home.runs_folder / "20261125-030112-0001").symlink_to(first)
    run_like = home.runs_folder / "copy of a run"
    run_like.mkdir()
    (run_like / "journal.jsonl").write_text("")
    (home.runs_folder / "20261126-030112-0001").mkdir()
    assert [first, second] == home.runs()
    assert [first, second] == list(all_runs(tmp_path))


def test_a_run_is_never_made_twice(home):
    """Its folder belongs to the first."""
    run(home, FIRST)
    with pytest.raises(StoreError, match="is there already"):
        home.create(FIRST)


def a_link_for_all_runs(tmp_path):
    (tmp_path / "else").mkdir()
    (tmp_path / "nbflow-runs").symlink_to(tmp_path / "else")


def a_link_for_the_notebooks_runs(tmp_path):
    (tmp_path / "else").mkdir()
    (tmp_path / "nbflow-runs").mkdir()
    (tmp_path / "nbflow-runs" / "train.ipynb").symlink_to(tmp_path / "else")


def a_link_to_nowhere(tmp_path):
    (tmp_path / "nbflow-runs").symlink_to(tmp_path / "nowhere")


def a_file_for_all_runs(tmp_path):
    (tmp_path / "nbflow-runs").write_text("")


def a_file_for_the_notebooks_runs(tmp_path):
    (tmp_path / "nbflow-runs").mkdir()
    (tmp_path / "nbflow-runs" / "train.ipynb").write_text("")


def a_folder_for_the_checkpoint(tmp_path):
    (tmp_path / "train.ipynb.nbflow.json").mkdir()


OBSTACLES = [
    a_link_for_all_runs,
    a_link_for_the_notebooks_runs,
    a_link_to_nowhere,
    a_file_for_all_runs,
    a_file_for_the_notebooks_runs,
    a_folder_for_the_checkpoint,
]


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_a_home_that_cannot_keep_runs_is_refused_and_left_as_it_is(home, tmp_path, obstacle):
    """With the place and a way out, before anything is made."""
    obstacle(tmp_path)
    before = everything(tmp_path)
    for ask in (home.check, lambda: home.create(FIRST)):
        with pytest.raises(StoreError) as caught:
            ask()
        assert str(tmp_path) in caught.value.message
        assert "\n" not in caught.value.message
        assert caught.value.remedy
    assert before == everything(tmp_path)


def test_a_state_folder_below_a_file_is_refused(tmp_path):
    """There can be no folder there."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="is a file"):
        Home.of(tmp_path / "train.ipynb", tmp_path / "file" / "state").check()


def test_a_folder_that_cannot_be_written_is_refused_with_a_way_out(home, tmp_path):
    """Root may write anywhere but on a disk that is mounted to be read; others are stopped by the folder's mode."""
    if os.geteuid() == 0:
        code = (
            "import pathlib, sys; from nbflow.store.home import Home\n"
            "try: Home.of(pathlib.Path(sys.argv[1])).check()\n"
            "except Exception as problem: print(problem)"
        )
        script = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && exec "$2" -c "$3" "$1/train.ipynb"'
        command = ["unshare", "-m", "sh", "-c", script, "sh", tmp_path, os.sys.executable, code]
        text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    else:
        tmp_path.chmod(0o555)
        with pytest.raises(StoreError) as caught:
            home.check()
        tmp_path.chmod(0o755)
        text = str(caught.value)
    assert text.startswith(f"{tmp_path}: cannot be written\n")
    assert "--state-dir DIR" in text


def test_a_target_is_a_notebook_a_checkpoint_a_folder_or_the_beginning_of_an_id(home, tmp_path):
    """As people write them."""
    first, second = run(home, FIRST), run(home, SECOND)
    home.checkpoint.write_text("{}")
    file = tmp_path / "train.ipynb"
    assert (file, None) == find("train.ipynb", tmp_path)
    assert (file, None) == find("train.ipynb.nbflow.json", tmp_path)
    assert (file, None) == find(str(file), Path("/"))
    assert (first, FIRST) == find(f"nbflow-runs/train.ipynb/{FIRST}/", tmp_path)
    assert (first, FIRST) == find(".", first)
    assert (second, SECOND) == find("20261124", tmp_path)
    assert (second, SECOND) == find(SECOND, tmp_path)


def test_a_notebook_that_is_gone_is_still_a_target(home, tmp_path):
    """While there are runs of it, or its checkpoint alone."""
    run(home, FIRST)
    home.file.unlink()
    assert (home.file, None) == find("train.ipynb", tmp_path)
    (tmp_path / "mailed.ipynb.nbflow.json").write_text("{}")
    assert (tmp_path / "mailed.ipynb", None) == find("mailed.ipynb", tmp_path)


def test_a_run_in_a_state_folder_is_found(tmp_path):
    """By its id, and by its notebook."""
    home = Home.of(tmp_path / "a" / "train.ipynb", tmp_path / "state")
    folder = run(home, FIRST)
    (tmp_path / "b").mkdir()
    assert (folder, FIRST) == find("20261123", tmp_path / "b", tmp_path / "state")
    assert (home.file, None) == find("train.ipynb", tmp_path / "a", tmp_path / "state")


def test_the_beginning_of_several_ids_lists_them(home, tmp_path):
    """Nothing is chosen for a person."""
    run(home, FIRST)
    run(home, SECOND)
    with pytest.raises(TargetError) as caught:
        find("2026", tmp_path)
    assert FIRST in caught.value.remedy
    assert SECOND in caught.value.remedy


@pytest.mark.parametrize(
    "target", ["", "tarin.ipynb", "nbflow-runs", "9", "x" * 5000, "a\0b", "no/such/folder", "../.."]
)
def test_what_is_no_target_is_refused_in_one_line(home, tmp_path, target):
    """Whatever it is."""
    run(home, FIRST)
    with pytest.raises(TargetError) as caught:
        find(target, tmp_path)
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 400


def test_a_mistyped_notebook_is_guessed(home, tmp_path):
    """It has a near name in that folder."""
    with pytest.raises(TargetError, match=r"Did you mean 'train\.ipynb'\?"):
        find("tarin.ipynb", tmp_path)


@pytest.mark.parametrize("linked", ["run", "notebook", "all"])
def test_a_run_behind_a_link_is_refused(tmp_path, linked):
    """Wherever on the way the link is; and it is not deleted either."""
    real = run(Home.of(tmp_path / "real" / "train.ipynb"), FIRST)
    real = {"run": real, "notebook": real.parent, "all": real.parent.parent}[linked]
    link = tmp_path / real.relative_to(tmp_path / "real")
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(real)
    target = tmp_path / "nbflow-runs" / "train.ipynb" / FIRST
    with pytest.raises(TargetError, match="symlink"):
        find(str(target), tmp_path)
    with pytest.raises(StoreError):
        remove(target)
    assert (target / "journal.jsonl").exists()


def test_runs_in_hidden_folders_are_not_looked_for(tmp_path):
    """Nor in those of packages; and not endlessly deep."""
    for place in (".cache", "node_modules", "a/b/c/d/e/f/g"):
        run(Home.of(tmp_path / place / "train.ipynb"), FIRST)
    assert [] == list(all_runs(tmp_path))


def test_a_run_can_be_deleted_and_nothing_else(home, tmp_path):
    """With all that is in it; links in it are not followed."""
    folder = run(home, FIRST)
    (folder / "link").symlink_to(tmp_path)
    assert size(folder) < 10_000
    for other in (tmp_path, home.runs_folder, tmp_path / "nowhere"):
        with pytest.raises(NbflowError):
            remove(other)
    remove(folder)
    assert [] == list(home.runs_folder.iterdir())
    assert home.file.exists()


def test_the_size_of_a_run_is_that_of_its_files(home):
    """At any depth."""
    folder = run(home, FIRST)
    (folder / "logs" / "a.log").write_bytes(bytes(1000))
    (folder / "b").write_bytes(bytes(234))
    assert size(folder) == 1234
