import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from opscore.gateway.demo.keeper import GRACE_S
from opscore.gateway.demo.stage import KeeperEnded, Lines, Stage, open_stage

# A play of its own: one process that listens to SIGTERM, one that does not, and the news of where they are.
PLAY = """
import trio
from opscore.gateway.demo.stage import open_stage

DEAF = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf'); time.sleep(60)"

async def main():
    async with open_stage(keep=False) as stage:
        kind = await stage.start("kind", "timeit", ["-n1", "-r1", "import time; time.sleep(60)"], {})
        unbuffered = {"PYTHONUNBUFFERED": "1"}
        deaf = await stage.start("deaf", "timeit", ["-n1", "-r1", DEAF], unbuffered, talks=True)
        await deaf.stdout.receive_some()
        print(stage.directory, kind.pid, deaf.pid, flush=True)
        await trio.sleep_forever()

trio.run(main)
"""
PRINT_SURROUNDINGS = """
import os
print(os.getcwd())
print(*(name for name in os.environ if "OPSCORE" in name or "AGENTKIT" in name or name == "UNRELATED"))
"""


async def start_sleeper(stage: Stage) -> trio.Process:
    return await stage.start("sleeper", "timeit", ["-n1", "-r1", "import time; time.sleep(60)"], {})


async def test_when_the_stage_closes_its_processes_and_its_directory_are_gone() -> None:
    async with open_stage(keep=False) as stage:
        process = await start_sleeper(stage)
        (stage.directory / "data").mkdir()
        (stage.directory / "data" / "file").write_text("x")
    assert process.returncode == -signal.SIGTERM
    assert not stage.directory.exists()


async def test_a_stage_can_be_kept() -> None:
    async with open_stage(keep=True) as stage:
        process = await start_sleeper(stage)
    try:
        assert process.returncode is not None
        assert stage.log_path("sleeper").exists()
    finally:
        stage.log_path("sleeper").unlink()
        stage.directory.rmdir()


async def test_a_stage_is_cleared_when_what_happens_on_it_fails() -> None:
    async def fail_on(stage: Stage) -> None:
        started.append((stage, await start_sleeper(stage)))
        raise ZeroDivisionError

    async def perform() -> None:
        async with open_stage(keep=False) as stage:
            await fail_on(stage)

    started: list[tuple[Stage, trio.Process]] = []
    with pytest.raises(ZeroDivisionError):
        await perform()
    [(stage, process)] = started
    assert process.returncode == -signal.SIGTERM
    assert not stage.directory.exists()


async def test_a_stage_is_cleared_when_what_happens_on_it_is_cancelled() -> None:
    with trio.CancelScope() as scope:
        async with open_stage(keep=False) as stage:
            process = await start_sleeper(stage)
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert process.returncode == -signal.SIGTERM
    assert not stage.directory.exists()


async def test_a_process_lives_in_the_directory_and_sees_no_settings_of_the_users_own_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPSCORE_PORT", "1")
    monkeypatch.setenv("AGENTKIT_API_URL", "http://agentkit.test")
    monkeypatch.setenv("UNRELATED", "yes")
    async with open_stage(keep=False) as stage:
        process = await stage.start(
            "one", "timeit", ["-n1", "-r1", PRINT_SURROUNDINGS], {"OPSCORE_API_KEY": "key"}, talks=True
        )
        assert process.stdout is not None
        lines = [line async for line in Lines(process.stdout)]
    assert Path(lines[0]) == stage.directory
    assert set(lines[1].split()) == {"UNRELATED", "OPSCORE_API_KEY"}


async def test_without_a_keeper_nothing_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(KeeperEnded):
        async with open_stage(keep=False):
            raise AssertionError


async def test_lines_are_whole_however_they_arrive() -> None:
    left, right = trio.testing.memory_stream_pair()
    seen: list[str] = []

    async def read() -> None:
        seen.extend([line async for line in Lines(right)])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        for chunk in (b"one\ntw", b"o\n", b"thr", b"ee\n", b"unended"):
            await left.send_all(chunk)
            await trio.testing.wait_all_tasks_blocked()
        await left.aclose()
    assert seen == ["one", "two", "three"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_a_killed_demo_leaves_no_process_and_no_file(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", PLAY], stdout=subprocess.PIPE, text=True) as demo:
        try:
            assert demo.stdout is not None
            directory, *pids = demo.stdout.readline().split()
            assert all(alive(int(pid)) for pid in pids)
            assert Path(directory).exists()
            demo.send_signal(number)
            wait_until(lambda: not any(alive(int(pid)) for pid in pids))
            wait_until(lambda: not Path(directory).exists())
        finally:
            # Leaving the block waits for it, which would hide why the test failed.
            demo.kill()


def wait_until(happened: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + GRACE_S + 10.0
    while not happened():
        assert time.monotonic() < ends_at
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        status = Path(f"/proc/{pid}/status").read_text()
    except (ProcessLookupError, FileNotFoundError):
        # It may go between the two looks.
        return False
    # A process that nobody has taken note of yet is dead all the same.
    return "\nState:\tZ" not in status
