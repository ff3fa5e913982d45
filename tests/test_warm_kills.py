"""Forked kernels under fire: no start hangs, none is lost, nothing is left, whoever of the three dies.

The three are the owner, who asks; the template, which forks; and the kernel. Each is killed at each moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import types
from collections import Counter
from functools import partial
from pathlib import Path

import psutil
import pytest

from nbflow.early import readable
from nbflow.errors import NbflowError
from nbflow.host import UNKNOWN
from nbflow.kernels import LocalKernels
from nbflow.kernels.warm import templates
from nbflow.kernels.warm.templates import SUPPORTED, Forked
from nbflow.notebooks.results import ending_code

pytestmark = pytest.mark.skipif(not SUPPORTED, reason="needs pidfd, memfd and fork")

PATIENCE = 60.0
"""Seconds after which something hangs."""


@pytest.fixture(autouse=True)
def place(monkeypatch, tmp_path):  # pytest's own folder stays outside
    """A temporary folder of these tests alone, with a path short enough for sockets, and an empty cache."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setenv("XDG_CACHE_HOME", f"{folder}/cache")
        yield Path(folder)


@pytest.fixture
def kernels(place):
    """Kernels of a process that has had some before; fails if anything is left behind."""
    first = LocalKernels()  # what is imported and opened once is then
    if not seen:
        asyncio.run(once(first))
    first.close()
    before = left(place)
    made = LocalKernels(at_once=8)
    yield made
    made.close()
    made.close()
    assert before == settled(lambda: left(place), before)


def left(place: Path) -> dict[str, object]:
    """What may be left behind: descriptors by kind, processes, zombies, folders."""
    kinds: Counter[str] = Counter()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            kinds[entry.readlink().as_posix().partition(":[")[0]] += 1
    kinds.pop(f"/proc/{os.getpid()}/fd", None)
    return {
        "descriptors": dict(kinds),
        "processes": [(child.pid, child.name()) for child in psutil.Process().children(recursive=True)],
        "groups": [pid for pid in seen if group(pid)],
        "folders": sorted(path.name for path in place.glob("nbf-*")),
    }


seen: set[int] = set()
"""The processes of kernels and templates that there were."""


def group(leader: int) -> list[int]:
    """Give the processes of a group or session that live, or are not reaped yet."""
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if str(leader) in (fields[2], fields[3]):
                    members.append(int(entry.name))
    return members


def alive(pid: int) -> bool:
    """Whether a process runs; one that waits to be reaped by the system does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def descriptors(pid: int) -> list[Path]:
    """Give what a process has open."""
    return list(Path(f"/proc/{pid}/fd").iterdir())


def has_closed_all(pid: int) -> bool:
    """Whether a process has nothing open but its standard streams, or has ended."""
    return not alive(pid) or len(descriptors(pid)) <= 4


def settled(what, wanted, seconds: float = 10.0):
    """Give what is there when it is as wanted, or at the end; orphans are reaped by a process that is not ours."""
    end = time.monotonic() + seconds
    while (now := what()) != wanted and time.monotonic() < end:
        time.sleep(0.02)
    return now


async def launched(kernels: LocalKernels, preload=(), heard=lambda text: None, cwd=None, **env: str):
    """Start a kernel; it is ready."""
    given = {**os.environ, **env}
    launch = kernels.launch("python3", cwd=cwd or Path("/"), env=given, heard=heard, preload=preload)
    kernel = await asyncio.wait_for(launch, PATIENCE)
    seen.update({kernel.manager.provisioner.pid, *kernels._templates.pids()})
    try:
        await kernel.ready()
    except BaseException:
        await kernel.close()
        raise
    return kernel


def forked(kernel) -> bool:
    """Whether it came from a template."""
    return isinstance(kernel.manager.provisioner.process, Forked)


async def once(kernels, preload=(), **env) -> bool:
    """Start a kernel, have it compute, and close it; tells whether it was forked."""
    kernel = await launched(kernels, preload, **env)
    was = forked(kernel)
    kernel.client.execute(ending_code(), silent=True, store_history=False)  # as before each first cell
    try:
        assert "42" == await value(kernel, "6 * 7")
    finally:
        await kernel.close()
    assert 0 == kernel.exit_code
    return was


async def value(kernel, expression: str) -> str:
    """Have an expression computed; gives its repr."""
    reply = await asyncio.wait_for(
        kernel.client.execute("", silent=True, user_expressions={"a": expression}, reply=True), PATIENCE
    )
    return reply["content"]["user_expressions"]["a"]["data"]["text/plain"]


async def run(kernel, cell: str, **keys) -> dict:
    """Run a cell; gives the reply."""
    reply = await asyncio.wait_for(kernel.client.execute(cell, reply=True, **keys), PATIENCE)
    return reply["content"]


def the_template(kernels: LocalKernels) -> int:
    """Give the only template's process."""
    (pid,) = kernels._templates.pids()
    return pid


# A storm

ENDS = {
    "shot": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    "crash": ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", -signal.SIGSEGV),
    "asked": ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
    "exit": ("import os; os._exit(7)", 7),
    "outside": ("", -signal.SIGKILL),
}


async def storm(kernels: LocalKernels, count: int, preload) -> Counter[str]:
    """Have so many kernels, eight at a time: a third die, some at their fork, and templates four times."""
    turn, outcome, bound, hunted = asyncio.Semaphore(8), Counter(), set(), set()
    kills = {count * part // 5: part for part in (range(1, 5) if count > 20 else [4])}
    kinds = list(ENDS)

    async def one(number: int) -> None:
        async with turn:
            if number in kills:
                for pid in kernels._templates.pids():
                    if kills[number] == 4:
                        os.kill(pid, signal.SIGSTOP)
                        await asyncio.sleep(0)
                    os.kill(pid, signal.SIGKILL)
            try:
                kernel = await launched(kernels, preload)
            except NbflowError as problem:  # the hunter was late
                outcome["not ready"] += "killed by signal 9" not in problem.message
                outcome["hunted"] += 1
                return
            process = kernel.manager.provisioner.process
            outcome["forked" if forked(kernel) else "cold"] += 1
            bound.add(process.pid)
            code, answer = 0, asyncio.create_task(value(kernel, "6 * 7"))
            ended = asyncio.create_task(kernel.ended())
            await asyncio.wait({answer, ended}, return_when=asyncio.FIRST_COMPLETED)
            assert process.pid in hunted or "42" == await answer
            answer.cancel()
            if number % 3 == 0:
                kind = kinds[number // 3 % len(kinds)]
                cell, code = ENDS[kind]
                if cell:
                    kernel.client.execute(cell)
                else:
                    os.kill(process.pid, signal.SIGKILL)
                assert code == await asyncio.wait_for(kernel.ended(), PATIENCE) or process.pid in hunted
            elif number % 3 == 1:
                kernel.client.execute("print('x' * 1000)")
            await asyncio.wait_for(kernel.close(), PATIENCE)
            late = not isinstance(process, Forked)  # where the machine is busy one that was started may not go in time
            assert code == kernel.exit_code or process.pid in hunted or late, (number, kernel.exit_code)

    async def hunt() -> None:
        for _ in range(max(2, count // 20)):
            while not (young := [pid for pid in forks(kernels) if pid not in bound]):
                await asyncio.sleep(0.001)
            with contextlib.suppress(ProcessLookupError):
                os.kill(young[0], signal.SIGKILL)
            hunted.add(young[0])
            await asyncio.sleep(0.1)

    hunter = asyncio.create_task(hunt())
    try:
        await asyncio.gather(*map(one, range(count)))
    finally:
        hunter.cancel()
    assert hunted
    return outcome


def forks(kernels: LocalKernels) -> list[int]:
    """Give the processes that came from the templates."""
    found: list[int] = []
    for pid in kernels._templates.pids():
        with contextlib.suppress(OSError):
            found += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return found


@pytest.mark.parametrize(
    ("count", "preload"),
    [(10, ()), pytest.param(300, (), marks=pytest.mark.long), pytest.param(60, ("pandas",), marks=pytest.mark.long)],
)
def test_kernels_that_are_shot_at_come_up_and_end_with_their_code(kernels, count, preload):
    """A third are killed, some at their fork; the template is killed, of many four times, once when it was stopped."""
    outcome = asyncio.run(storm(kernels, count, preload))
    assert 0 == outcome.pop("not ready", 0)
    assert count == sum(outcome.values())
    assert outcome["forked"] > 0.5 * count
    assert outcome["hunted"] <= max(2, count // 20)


# The template dies


@pytest.mark.parametrize("how", ["exit", *(pytest.param(how, marks=pytest.mark.long) for how in ENDS if how != "exit")])
def test_a_kernel_outlives_its_template_and_its_code_is_known(kernels, how):
    """Cells, results, an interrupt, and each way to end; the next start makes a new template."""

    async def main():
        kernel = await launched(kernels)
        assert forked(kernel)
        old = the_template(kernels)
        os.kill(old, signal.SIGKILL)
        settled(lambda: alive(old), False)
        await run(kernel, "x = 41")
        assert "42" == await value(kernel, "x + 1")
        # An error that stops drops what comes at once after its reply, and the kernel's last cell is such.
        cell = asyncio.create_task(run(kernel, "print('on'); import time; time.sleep(60)", stop_on_error=False))
        await heard(kernel, "on")
        await kernel.interrupt()
        assert "KeyboardInterrupt" == (await cell)["ename"]
        program, code = ENDS[how]
        kernel.client.execute("import subprocess; child = subprocess.Popen(['sleep', '60'])")
        kernel.client.execute(program) if program else os.kill(kernel.manager.provisioner.pid, signal.SIGKILL)
        assert code == await asyncio.wait_for(kernel.ended(), 20)
        await kernel.close()
        assert await once(kernels)
        assert old != the_template(kernels)

    asyncio.run(main())


async def heard(kernel, text: str) -> None:
    """Wait until a cell has printed this."""
    while True:
        message = await asyncio.wait_for(kernel.client.iopub_channel.get_msg(), PATIENCE)
        if message["msg_type"] == "stream" and text in message["content"]["text"]:
            return


@pytest.mark.long
def test_an_exit_code_that_nobody_can_tell_is_unknown(kernels, monkeypatch):
    """Never 0: an older system has forgotten the code of a process that somebody else has reaped."""
    monkeypatch.setattr(templates, "exit_code", lambda pid, pidfd: None)

    async def main():
        kernel = await launched(kernels)
        template = the_template(kernels)
        os.kill(template, signal.SIGKILL)
        settled(lambda: alive(template), False)
        os.kill(kernel.manager.provisioner.pid, signal.SIGKILL)
        assert UNKNOWN == await asyncio.wait_for(kernel.ended(), 5)
        await kernel.close()
        assert UNKNOWN == kernel.exit_code

    asyncio.run(main())


@pytest.mark.parametrize("code", [0, 7, -signal.SIGKILL, -signal.SIGSEGV])
def test_the_code_of_a_process_that_ended_is_read_before_and_after_it_is_reaped(code):
    """By anybody, not only by its parent; after that since Linux 6.15."""
    end = f"os._exit({code})" if code >= 0 else f"os.kill(os.getpid(), {-code})"
    # The parent in between leaves it as a zombie until its own end.
    middle = (
        "import os, sys, subprocess\n"
        f"child = subprocess.Popen([sys.executable, '-c', 'import os; input(); {end}'], stdin=subprocess.PIPE)\n"
        "print(child.pid, flush=True); input(); child.communicate(b'\\n'); print('reaped', flush=True); input()\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", middle], **pipes) as parent:
        pid = int(parent.stdout.readline())
        pidfd = os.pidfd_open(pid)
        os.kill(parent.pid, signal.SIGSTOP)
        try:
            with Path(f"/proc/{parent.pid}/fd/{stdin_of(parent.pid)}").open("wb") as file:
                file.write(b"\n")
            assert readable(pidfd, 10)
            assert code == templates.exit_code(pid, pidfd)
            os.kill(parent.pid, signal.SIGCONT)
            parent.stdin.write("\n")
            parent.stdin.flush()
            assert "reaped\n" == parent.stdout.readline()
            release = tuple(int(part) for part in platform.release().split(".")[:2])
            assert (code if release >= (6, 15) else None) == templates.exit_code(pid, pidfd)
        finally:
            os.close(pidfd)
            parent.kill()


def stdin_of(parent: int) -> int:
    """Give the descriptor by which a process writes to its child."""
    for entry in Path(f"/proc/{parent}/fd").iterdir():
        if int(entry.name) > 2 and entry.readlink().as_posix().startswith("pipe:"):
            flags = int(Path(f"/proc/{parent}/fdinfo/{entry.name}").read_text().split("flags:")[1].split()[0], 8)
            if flags & os.O_ACCMODE == os.O_WRONLY:
                return int(entry.name)
    raise AssertionError


@pytest.mark.parametrize("when", [pytest.param("asked", marks=pytest.mark.long), "begun"])
def test_a_template_that_dies_during_a_start_costs_one_more_try(kernels, when, monkeypatch):
    """As it does when it ends of itself at that moment; its request lies unread in the socket, or half done."""
    killed = []

    def kill(template):
        if not killed:
            killed.append(template.pid)
            os.kill(template.pid, signal.SIGKILL)

    if when == "asked":
        asked = templates.Template._asked

        def and_die(self, *arguments):
            channel = asked(self, *arguments)
            kill(self)
            return channel

        monkeypatch.setattr(templates.Template, "_asked", and_die)
    else:
        begun = templates._begun

        async def and_die(*arguments):
            kernel = await begun(*arguments)
            kill(next(iter(kernels._templates._living.values())))
            return kernel

        monkeypatch.setattr(templates, "_begun", and_die)
    assert asyncio.run(once(kernels))
    assert 1 == len(killed)


@pytest.mark.long
def test_a_template_that_stops_goes_on_when_it_is_asked(kernels):
    """Somebody stopped it; a start wakes it."""

    async def main():
        assert await once(kernels)
        os.kill(the_template(kernels), signal.SIGSTOP)
        assert await once(kernels)

    asyncio.run(main())


@pytest.mark.long
def test_a_template_that_does_not_answer_costs_a_limited_time(kernels, monkeypatch):
    """It hangs in an import, say; the kernel is started as always, and so are those after it, at once."""
    monkeypatch.setattr(templates, "READY_SECONDS", 0.2)
    monkeypatch.setattr(templates, "BEGIN_SECONDS", 0.2)
    asked = templates.Template._asked

    def and_stop(self, *arguments):
        channel = asked(self, *arguments)
        os.kill(self.pid, signal.SIGSTOP)
        return channel

    monkeypatch.setattr(templates.Template, "_asked", and_stop)
    assert not asyncio.run(once(kernels))
    assert [] == kernels._templates.pids()
    monkeypatch.setattr(templates.Template, "_asked", lambda *arguments: pytest.fail("it was given up"))
    assert not asyncio.run(once(kernels))


@pytest.mark.long
def test_a_template_that_ends_because_nobody_asks_is_replaced(kernels, monkeypatch):
    """Requests come around the moment of its end."""
    monkeypatch.setattr(templates, "IDLE_SECONDS", 0.05)

    async def main():
        found = set()
        for turn in range(40):
            assert await once(kernels)
            found.update(kernels._templates.pids())
            await asyncio.sleep(0.03 + 0.001 * turn)
        return found

    assert len(asyncio.run(main())) > 1


@pytest.mark.long
def test_templates_that_never_give_a_kernel_are_given_up(kernels, monkeypatch):
    """After three; the kernels are started, and those after them without another try."""
    made = []
    asked = templates.Template._asked

    def and_die(self, *arguments):
        channel = asked(self, *arguments)
        made.append(self.pid)
        os.kill(self.pid, signal.SIGKILL)
        return channel

    monkeypatch.setattr(templates.Template, "_asked", and_die)

    async def main():
        for _ in range(3):
            kernel = await launched(kernels)
            assert not forked(kernel)
            await kernel.close()

    asyncio.run(main())
    assert 3 == len(set(made))


# The owner dies

OWNER = """
import asyncio, json, os, signal, sys
from pathlib import Path
from nbflow.kernels import LocalKernels

CELLS = [
    "",
    "import ctypes; ctypes.PyDLL(None).sleep(1000)",
    "import re; re.match('(a+)+$', 'a' * 60 + 'b')",
    "import subprocess, threading, time; child = subprocess.Popen(['sleep', '1000'])\\n"
    "threading.Thread(target=time.sleep, args=(1000,)).start(); threading.Event().wait()",
    "import os, time\\nif os.fork() == 0: time.sleep(1000)\\n"
    "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)); time.sleep(1000)",
    "import joblib, time; joblib.Parallel(2)(joblib.delayed(time.sleep)(1000) for _ in range(2))",
]

async def main():
    if sys.argv[1] == "interrupted":
        signal.signal(signal.SIGINT, lambda *_: os.write(1, b"interrupted\\n"))
    kernels, started = LocalKernels(), []
    for number, cell in enumerate(CELLS[: int(sys.argv[2])]):
        kernel = await kernels.launch("python3", cwd=Path.cwd(), env=os.environ, heard=lambda text: None, preload=[])
        await kernel.ready()
        started.append(kernel)
        kernel.client.execute(f"open('{number}', 'w').close()\\n{cell}")
        while not Path(str(number)).exists():
            await asyncio.sleep(0.01)
    if sys.argv[1] == "forks":
        if os.fork() == 0:
            signal.pause()
    pids = [kernel.manager.provisioner.process.pid for kernel in started]
    print(json.dumps([kernels._templates.pids(), pids]), flush=True)
    sys.stdin.readline()
    if sys.argv[1] == "interrupted":
        reply = await started[0].client.execute("", silent=True, user_expressions={"a": "6 * 7"}, reply=True)
        print(reply["content"]["user_expressions"]["a"]["data"]["text/plain"], flush=True)
        sys.stdin.readline()  # they end with this process
    if sys.argv[1] == "raises":
        raise RuntimeError

asyncio.run(main())
"""


@contextlib.contextmanager
def owner(place: Path, how: str, kernels: int):
    """A process with some kernels; gives it, its template, and its kernels."""
    folder = place / "owner"
    folder.mkdir()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", OWNER, how, str(kernels)]
    found: list[int] = []
    with subprocess.Popen(command, cwd=folder, start_new_session=True, **pipes) as process:
        try:
            (template,), started = json.loads(process.stdout.readline())
            found += [template, *started]
            yield process, template, started
        finally:
            for pid in (process.pid, *found):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
            process.communicate()


def members(leaders) -> list[int]:
    """Give the processes of these groups that run."""
    return [pid for leader in leaders for pid in group(leader) if alive(pid)]


@pytest.mark.parametrize(
    ("how", "kernels"),
    [
        ("killed", 5),
        pytest.param("killed", 6, marks=pytest.mark.long),
        pytest.param("stopped template", 6, marks=pytest.mark.long),
        pytest.param("dead template", 6, marks=pytest.mark.long),
        pytest.param("forks", 6, marks=pytest.mark.long),
        pytest.param("ends", 6, marks=pytest.mark.long),
        pytest.param("raises", 6, marks=pytest.mark.long),
    ],
)
def test_kernels_end_with_their_owner(place, how, kernels):
    """Also those that hold the interpreter in C, block all signals, and have children; within a second."""
    with owner(place, how, kernels) as (process, template, started):
        assert len(started) == kernels
        if how in ("stopped template", "dead template"):
            os.kill(template, signal.SIGSTOP if how == "stopped template" else signal.SIGKILL)
        if how == "forks":  # its child lives on, and so does its template: stopped, it cannot end the kernels
            os.kill(template, signal.SIGKILL)
        assert len(members(started)) >= kernels
        ended = time.monotonic()
        if how in ("ends", "raises"):
            process.stdin.close()
            process.stdin = None
        else:
            process.kill()
        assert [] == settled(lambda: members([template, *started]), [])
        took = time.monotonic() - ended
        assert took < (1.0 if how not in ("ends", "raises") else 3.0), took


@pytest.mark.long
def test_an_interrupt_from_the_keyboard_reaches_neither_template_nor_kernel(place):
    """They are in sessions of their own; what the owner makes of it is its own matter."""
    with owner(place, "interrupted", 1) as (process, template, started):
        os.killpg(process.pid, signal.SIGINT)
        assert "interrupted\n" == process.stdout.readline()
        process.stdin.write("\n")
        process.stdin.flush()
        assert "42\n" == process.stdout.readline()
        assert alive(template)
        assert alive(started[0])


# The start is given up


def cancelled_at(coroutine, wait: int):
    """Run a coroutine; at its so-and-so-manieth wait its task is cancelled."""

    @types.coroutine
    def steps():
        inner, count = coroutine.__await__(), 0
        try:
            future = inner.send(None)
            while True:
                if count == wait:
                    asyncio.current_task().cancel()
                count += 1
                try:
                    sent = yield future
                except BaseException as problem:
                    future = inner.throw(problem)
                else:
                    future = inner.send(sent)
        except StopIteration as end:
            return end.value

    async def main():
        return await steps()

    return main()


def test_a_start_that_is_cancelled_at_any_wait_leaves_nothing(kernels):
    """The next start gets its turn."""

    async def main():
        wait = 0
        while True:
            launch = kernels.launch("python3", cwd=Path("/"), env=os.environ, heard=lambda text: None, preload=())
            try:
                kernel = await cancelled_at(launch, wait)
            except asyncio.CancelledError:
                assert [] == await gone(kernels)
                wait += 1
                continue
            await kernel.close()
            return wait

    assert asyncio.run(main()) >= 2
    assert asyncio.run(once(kernels))
    assert all(kernels._starting.acquire(blocking=False) for _ in range(8))


async def gone(kernels) -> list[int]:
    """Give what is left of forks after a while."""
    end = time.monotonic() + 5
    while forks(kernels) and time.monotonic() < end:
        await asyncio.sleep(0.002)
    return forks(kernels)


@pytest.mark.long
def test_a_start_that_is_cancelled_at_any_time_leaves_nothing(kernels):
    """Two hundred times, over all that a start does."""

    async def main():
        await once(kernels)
        for turn in range(200):
            task = asyncio.create_task(launched(kernels))
            await asyncio.sleep(0.0005 * turn)
            task.cancel()
            try:
                kernel = await task
            except asyncio.CancelledError:
                continue
            await kernel.close()
        assert [] == await gone(kernels)

    asyncio.run(main())


# Many at once


@pytest.mark.long
def test_threads_with_loops_of_their_own_share_templates(kernels):
    """Two sets of modules, two templates."""
    problems, warm = [], []

    def work(preload):
        try:
            for _ in range(2):
                warm.append(asyncio.run(once(kernels, preload)))
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=work, args=[preload]) for preload in ((), ("json",)) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [] == problems
    assert [True] * 12 == warm
    assert 2 == len(kernels._templates.pids())


@pytest.mark.long
def test_templates_that_are_closed_during_a_start_give_no_more(kernels):
    """That kernel comes, from them or not; no template is made after the end."""

    async def main(turn):
        start = asyncio.create_task(launched(kernels))
        await asyncio.sleep(0.04 * turn)
        await asyncio.to_thread(kernels._templates.close)
        kernel = await start
        kernel.client.execute(ending_code(), silent=True, store_history=False)  # as before each first cell
        assert "42" == await value(kernel, "6 * 7")
        assert [] == kernels._templates.pids()
        await kernel.close()
        assert 0 == kernel.exit_code

    for turn in range(10):
        asyncio.run(main(turn))
        kernels._templates = templates.Templates()


# What cannot be forked


def test_a_kernel_that_cannot_be_forked_is_started_and_says_what_is_wrong(kernels, tmp_path):
    """No such directory: the same words as without a template, once."""

    async def words(preload):
        said = []
        with pytest.raises(NbflowError) as caught:
            await launched(kernels, preload, said.append, cwd=tmp_path / "no such folder")
        return caught.value.message, "".join(said)

    assert asyncio.run(words(None)) == asyncio.run(words(()))
    assert asyncio.run(once(kernels))


@pytest.mark.long
def test_a_kernel_whose_limits_cannot_be_set_is_started(kernels, monkeypatch):
    """The soft limit above the hard one is refused by the system."""
    true = templates._circumstances
    limits = [[resource.RLIMIT_CORE, [10, 5]]]
    monkeypatch.setattr(templates, "_circumstances", lambda: {**true(), "limits": limits})
    assert not asyncio.run(once(kernels))


@pytest.mark.long
@pytest.mark.parametrize("limit", [resource.RLIMIT_NOFILE, resource.RLIMIT_AS])
def test_a_template_that_can_fork_no_more_costs_no_kernel(kernels, limit):
    """It has no descriptor, or no memory, left; the kernel comes from another, or is started."""

    async def main():
        assert await once(kernels)
        for spare in range(8 if limit == resource.RLIMIT_NOFILE else 1):
            (template,) = kernels._templates.pids()
            few = len(descriptors(template)) + spare if limit == resource.RLIMIT_NOFILE else 1 << 20
            resource.prlimit(template, limit, (few, resource.prlimit(template, limit)[1]))
            await once(kernels)

    asyncio.run(main())


@pytest.mark.long
def test_an_owner_without_descriptors_fails_a_start_and_goes_on(kernels):
    """Whatever step lacks one, nothing of the start is left, and the next one with some works."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def main():
        failures = []
        assert await once(kernels)
        for spare in range(0, 30, 3):
            kernel, used = None, len(descriptors(os.getpid()))
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + spare - 1, limits[1]))
            try:
                launch = kernels.launch("python3", cwd=Path("/"), env=os.environ, heard=lambda text: None, preload=())
                kernel = await launch
            except NbflowError as problem:
                failures.append(problem.message)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            if kernel is not None:
                await kernel.close()  # it has that limit too, and may not be able to do a thing
        return failures

    failures = asyncio.run(main())
    assert failures
    assert all("Too many open files" in message for message in failures)
    asyncio.run(once(kernels))


SLOW_STARTS = {
    "its loop is closed": """
from ipykernel.shellchannel import ShellChannelThread as Slow

late, name = Slow.manager.fget, "manager"

def too_late(thread):
    wait_for(thread.io_loop.asyncio_loop.is_closed)
    return late(thread)

too_late = property(too_late)
""",
    "its socket is closed": """
from ipykernel.subshell_manager import SubshellManager as Slow

late, name = Slow.set_on_recv_callback, "set_on_recv_callback"

def too_late(manager, callback):
    wait_for(lambda: manager._shell_channel_to_main.to_socket.closed)
    return late(manager, callback)
""",
}

WAIT = """
import os, time

def wait_for(closed):
    until = time.monotonic() + 20 * ("SLOW" in os.environ)
    while not closed() and time.monotonic() < until:
        time.sleep(0.001)

setattr(Slow, name, too_late)
"""


@pytest.mark.parametrize("how", SLOW_STARTS)
def test_a_kernel_that_is_told_to_end_while_it_starts_ends_well(kernels, place, how):
    """Its output is heard before it listens; what it was to listen with is closed then."""
    (place / "slow_start.py").write_text(SLOW_STARTS[how] + WAIT)
    heard: list[str] = []

    async def main():
        assert await once(kernels, ("slow_start",), PYTHONPATH=str(place))
        kernel = await launched(kernels, ("slow_start",), heard.append, PYTHONPATH=str(place), SLOW="1")
        assert forked(kernel)
        await kernel.close()
        assert 0 == kernel.exit_code

    asyncio.run(main())
    assert "" == "".join(heard)


# What kernels are given, and do


def test_environment_and_command_line_come_through_as_they_are(kernels, place):
    """Large, with odd bytes, and beyond ASCII; as in a kernel that was started."""
    odd = os.fsdecode(b"\xff\xfe caf\xc3\xa9 \xf0\x9f\x90\xa2")
    long = "n" * 100_000
    folder = place / odd
    folder.mkdir()

    async def seen_there(preload):
        kernel = await launched(kernels, preload, cwd=folder, ODD=odd, LONG=long, naïve="1")
        try:
            assert forked(kernel) == (preload is not None)
            await run(kernel, "import os; names = ['ODD', 'LONG', 'naïve']")
            return await value(kernel, "([os.environb[name.encode()] for name in names], os.getcwdb())")
        finally:
            await kernel.close()

    assert asyncio.run(seen_there(None)) == asyncio.run(seen_there(()))


GARBAGE = """
import os, socket, stat
for name in os.listdir("/proc/self/fd"):
    fd = int(name)
    try:
        channel = fd > 2 and stat.S_ISSOCK(os.fstat(fd).st_mode) and socket.socket(fileno=os.dup(fd))
        if channel and channel.family == socket.AF_UNIX and channel.type == socket.SOCK_SEQPACKET:
            for text in (b"x", b"[1]", b'{"exit": "x"}', b"\\\\xff") * 1000:
                channel.send(text, socket.MSG_DONTWAIT)
    except OSError:
        pass
"""
"""A cell that writes to the channel, until that is full."""


def test_a_cell_that_writes_to_all_descriptors_disturbs_nobody(kernels):
    """Its template neither waits for the channel nor loses its other kernels; its code is known."""

    async def main():
        kernel = await launched(kernels)
        assert "ok" == (await run(kernel, GARBAGE))["status"]
        assert await once(kernels)
        kernel.client.execute("os._exit(7)")
        assert 7 == await asyncio.wait_for(kernel.ended(), 5)
        await kernel.close()
        assert await once(kernels)

    asyncio.run(main())


@pytest.mark.parametrize("how", [pytest.param("closes", marks=pytest.mark.long), "dies"])
def test_a_cell_that_closes_all_descriptors_does_not_outlive_its_owner(kernels, how):
    """The template holds the channel too, so the kernel is still killed when the other end closes."""

    async def closed():
        """Give a kernel that has closed all and lives: ZeroMQ aborts where a message comes just then."""
        for _ in range(20):
            kernel = await launched(kernels)
            process = kernel.manager.provisioner.process
            kernel.client.execute("import os, signal; os.closerange(3, 1000)\nwhile True: signal.pause()")
            settled(partial(has_closed_all, process.pid), True)
            if alive(process.pid):
                return kernel, process
            await kernel.close()
        raise AssertionError

    async def main():
        kernel, process = await closed()
        if how == "dies":
            process._channel.close()
            assert not settled(lambda: alive(process.pid), False, 1.0)
        await kernel.close()
        assert not settled(lambda: alive(process.pid), False, 1.0)

    asyncio.run(main())


@pytest.mark.parametrize(("count", "load"), [(4, 0), pytest.param(100, 4, marks=pytest.mark.long)])
def test_a_kernel_that_prints_before_it_ends_does_not_stall(kernels, count, load):
    """ipykernel's own exit may wait ten seconds for a thread that has ended; so it is not taken."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(load)]
    took, turn = [], asyncio.Semaphore(4)

    async def one():
        async with turn:
            kernel = await launched(kernels)
            kernel.client.execute("import sys; print('out' * 1000); print('err', file=sys.stderr)")
            began = time.monotonic()
            await kernel.close()
            took.append(time.monotonic() - began)
            assert 0 == kernel.exit_code

    async def main():
        await asyncio.gather(*(one() for _ in range(count)))

    try:
        asyncio.run(main())
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert max(took) < (2.0 if load else 1.0), sorted(took)[-5:]
