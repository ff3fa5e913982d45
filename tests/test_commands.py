"""Commands: what one process asks for, the other does once and in order."""

from __future__ import annotations

import subprocess
import sys
import time

from nbflow.instruction import Instruction
from nbflow.store.commands import send, take


def words(folder) -> list[str]:
    """Give the words of the commands that came in."""
    return [instruction.word for instruction in take(folder)]


def test_commands_are_taken_once_and_in_the_order_in_which_they_were_sent(tmp_path):
    """Also when they come from another process."""
    send(tmp_path, Instruction("pause"))
    code = "import pathlib as p, sys, nbflow.store.commands as c; c.send(p.Path(sys.argv[1]), c.Instruction('unpause'))"
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True, timeout=60)
    send(tmp_path, Instruction("cancel"))
    assert ["pause", "unpause", "cancel"] == words(tmp_path)
    assert [] == words(tmp_path)


def test_nothing_was_sent(tmp_path):
    """Without a box, with an empty one, and with a file in its place."""
    assert [] == words(tmp_path)
    (tmp_path / "commands").mkdir()
    assert [] == words(tmp_path)
    (tmp_path / "commands").rmdir()
    (tmp_path / "commands").write_text("")
    assert [] == words(tmp_path)


def test_an_answer_comes_with_its_gate_and_who_gave_it(tmp_path):
    """As it was sent."""
    answer = Instruction("answer", "train:ask:3/sure", "approve", "ada, nbflow answer")
    send(tmp_path, answer)
    assert [answer] == take(tmp_path)


def test_what_is_no_command_is_left_alone(tmp_path):
    """Folders, half-written files and those of other programs stay."""
    box = tmp_path / "commands"
    (box / "1763924821000000000-abcd.json").mkdir(parents=True)
    (box / ".DS_Store").write_text("")
    (box / "cancel.txt").write_text("cancel")
    (box / ".1763924821000000000-abcd.json.12345678.tmp").write_text("{")
    before = sorted(box.iterdir())
    send(tmp_path, Instruction("cancel"))
    assert ["cancel"] == words(tmp_path)
    assert before == sorted(box.iterdir())


def test_a_command_that_cannot_be_read_is_told_by_its_name_and_not_again(tmp_path):
    """The driver warns of it, and the ones after it are heard."""
    names = [f"176392482100000000{i}-abcd.json" for i in range(3)]
    (tmp_path / "commands").mkdir()
    for name, text in zip(names, ["{", "[]", '{"word": "cancel"}'], strict=True):
        (tmp_path / "commands" / name).write_text(text)
    send(tmp_path, Instruction("cancel"))
    assert [*names, "cancel"] == words(tmp_path)
    assert [] == words(tmp_path)


def test_looking_into_an_empty_box_costs_next_to_nothing(tmp_path):
    """Under 20 µs at its best, so that looking four times a second is free."""
    (tmp_path / "commands").mkdir()
    best = min(_seconds(tmp_path) for _ in range(200))
    assert best < 20e-6


def _seconds(folder) -> float:
    began = time.perf_counter()
    take(folder)
    return time.perf_counter() - began
