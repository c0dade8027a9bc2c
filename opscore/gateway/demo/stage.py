"""The demo's stage: a directory and the processes in it, which are gone after the demo, however it ends."""

import os
import socket
import subprocess
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import trio

from opscore.gateway.process import interpreter

CLEAR_S = 10.0
"""How long the keeper may take to clean up, in seconds; it needs two at worst."""
CHUNK_BYTES = 65_536
LINE_BYTES_MAX = 65_536


class KeeperEnded(Exception):
    """The keeper ended early. Without it the demo could leave something behind, so the demo does not begin."""


class Stage:
    """The place where the demo's processes run.

    Args:
        directory: The directory that was made for this demo.
        group: The process group that the keeper leads.
    """

    def __init__(self, directory: Path, group: int) -> None:
        self.directory = directory
        self._group = group
        self._processes: list[trio.Process] = []

    async def start(
        self,
        name: str,
        module: str,
        arguments: list[str],
        environment: Mapping[str, str],
        *,
        talks: bool = False,
    ) -> trio.Process:
        """Start `python -m module` with its output in the log file of its name.

        Args:
            name: Such as `server`.
            module: Such as `opscore`.
            arguments: Its command line.
            environment: Variables in addition to those of this process, of which opscore's settings are left out.
            talks: Make its standard output a pipe to this process instead.
        """
        with self.log_path(name).open("ab") as log:
            process = await trio.lowlevel.open_process(
                interpreter.running(module, *arguments),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if talks else log,
                stderr=log,
                cwd=self.directory,
                env=interpreter.environment({**_without_settings(os.environ), **environment}),
                process_group=self._group,
            )
        self._processes.append(process)
        return process

    def log_path(self, name: str) -> Path:
        """The file for the output of a process."""
        return self.directory / f"{name}.log"

    async def wait_for_all(self) -> None:
        """Wait until every process has ended, which reaps it, so that none stays as a zombie."""
        for process in self._processes:
            await process.wait()


@asynccontextmanager
async def open_stage(*, keep: bool) -> AsyncIterator[Stage]:
    """Set the stage, and clear it at the end, whatever the end is.

    Args:
        keep: Keep the directory.
    """
    keeper = await trio.lowlevel.open_process(
        interpreter.running("opscore.gateway.demo.keeper", *(["--keep"] if keep else [])),
        env=interpreter.environment(os.environ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # The demo alone handles Ctrl-C in the terminal.
        process_group=0,
    )
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    stage: Stage | None = None
    try:
        directory = await anext(Lines(keeper.stdout), "")
        if not directory:
            raise KeeperEnded("the demo's keeper ended before it had made a directory; is the disk full?")
        stage = Stage(Path(directory), keeper.pid)
        yield stage
    finally:
        with trio.CancelScope(shield=True), trio.move_on_after(CLEAR_S):
            await keeper.stdin.aclose()
            await keeper.wait()
            if stage is not None:
                await stage.wait_for_all()
            # The end of the keeper's output means that the directory is gone too.
            while await keeper.stdout.receive_some(CHUNK_BYTES):
                pass
            await keeper.stdout.aclose()


class Lines:
    """The lines of a stream, for `async for`; text after the last line break is dropped.

    Args:
        stream: Such as the standard output of a process.
    """

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._lines: deque[bytes] = deque()
        self._rest = b""

    def __aiter__(self) -> Self:
        """Begin with the next line."""
        return self

    async def __anext__(self) -> str:
        """Wait for a line."""
        while not self._lines:
            chunk = await self._stream.receive_some(CHUNK_BYTES)
            if not chunk:
                raise StopAsyncIteration
            *lines, self._rest = (self._rest[:LINE_BYTES_MAX] + chunk).split(b"\n")
            self._lines.extend(lines)
        return self._lines.popleft().decode(errors="replace")


def free_port() -> int:
    """Find a free port on the loopback interface."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Leave out the settings that the user made for a server of their own."""
    return {
        key: value for key, value in environment.items() if not key.startswith("OPSCORE_") and key != "AGENTKIT_API_URL"
    }
