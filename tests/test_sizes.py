"""Sizes and memory: what people write, what the system says, and what processes use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from nbflow.errors import ParameterError
from nbflow.memory import available, used, whole
from nbflow.sizes import about, size, size_or_share

HOLD = "x = bytearray(b'1' * {bytes}); print('there', flush=True); input()"


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        (500_000_000, "500MB"),
        (4_000_000_000, "4GB"),
        (4_000_000_000, " 4 gb "),
        (1_610_612_736, "1.5GiB"),
        (1_500, "1.5kB"),
        (1_536, "1.5 KiB"),
        (2 * 10**12, "2TB"),
        (2**40, "1TiB"),
        (1024, "1024"),
        (1024, "1024B"),
        (1024, 1024),
        (1, 1.9),
    ],
)
def test_sizes_have_units(expected: int, text: str | float) -> None:
    """Of 1000 and of 1024, in upper and lower case; without one they are bytes."""
    assert expected == size(text)
    assert expected == size_or_share(text, 10)


@pytest.mark.parametrize(
    "text",
    ["", "GB", "4 G", "4Gb/s", "-1GB", "0", "0.5", 0, -1, "1e9", "nan", "inf", "1,5GB", True, None, [], "4 GB 2"],
)
def test_what_is_no_size_is_refused(text: Any) -> None:
    """With the value, and how a size is written."""
    for read in (lambda: size(text, "memory"), lambda: size_or_share(text, 100, "memory")):
        with pytest.raises(ParameterError, match=r"memory is .*, which is no size\.") as caught:
            read()
        assert "1.5GiB" in caught.value.remedy


@pytest.mark.parametrize("number", [10**400, float("nan"), float("inf"), "9" * 400 + "GB"])
def test_numbers_without_end_are_no_sizes(number: Any) -> None:
    """They fit nowhere."""
    with pytest.raises(ParameterError, match="no size"):
        size(number)


def test_a_share_is_of_a_whole() -> None:
    """From above nothing to all of it; where there is no whole it is no size."""
    assert [800, 1000, 5, 1] == [size_or_share(text, 1000) for text in ("80%", "100 %", "0.5%", "0.001%")]
    for text in ("0%", "101%", "-5%", "%"):
        with pytest.raises(ParameterError, match="which is no"):
            size_or_share(text, 1000)
    with pytest.raises(ParameterError, match="no size"):
        size("80%")


def test_sizes_are_told_shortly() -> None:
    """In the units that people buy memory in."""
    assert ["7.8 GB", "200 MB", "42 kB"] == [about(7_840_000_000), about(200_000_000), about(42_150)]


@pytest.mark.parametrize("version", [1, 2])
def test_the_limit_of_a_control_group_is_all_that_there_is(tmp_path: Path, version: int) -> None:
    """Also that of one further up; what is only cached counts as free."""
    own = tmp_path / "own"
    own.write_text("0::/box/in\n" if version == 2 else "4:cpu,memory:/box/in\n")
    top = tmp_path if version == 2 else tmp_path / "memory"
    names = {2: ("events", "max", "current"), 1: ("oom_control", "limit_in_bytes", "usage_in_bytes")}[version]
    none = {2: "max", 1: "9223372036854771712"}[version]
    for folder, limit, now in ((top / "box" / "in", none, 30_000_000), (top / "box", "100000000", 70_000_000)):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in zip(names, ("oom_kill 0\n", f"{limit}\n", f"{now}\n"), strict=True):
            (folder / f"memory.{name}").write_text(text)
        key = "inactive_file" if version == 2 else "total_inactive_file"
        (folder / "memory.stat").write_text(f"anon 5\n{key} 20000000\n")
    assert 100_000_000 == whole(tmp_path, own)
    assert 50_000_000 == available(tmp_path, own)
    assert psutil.virtual_memory().total == whole(tmp_path / "none", tmp_path / "none")


def test_what_processes_use_is_theirs_and_their_children_s() -> None:
    """A process that holds 100 MB, started by one that holds next to nothing; one that is gone uses nothing."""
    inner = [sys.executable, "-c", HOLD.format(bytes=100_000_000)]
    code = f"import subprocess; subprocess.run({inner!r})"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert b"there\n" == process.stdout.readline()
        found = used([process.pid, 2**22 + 1])
        assert {process.pid, 2**22 + 1} == set(found)
        assert 100_000_000 < found[process.pid] < 160_000_000
        process.communicate(b"\n")
    assert {process.pid: 0} == used([process.pid])
    assert {} == used([])
