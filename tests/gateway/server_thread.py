"""The real server in a thread of the test's own process."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from queue import Queue
from typing import Any

import attrs
import uvloop

from opscore.gateway.server.protocol import ServerLimits
from opscore.gateway.server.server import Address, Drain, serve
from tests.gateway.raw_client import PATIENCE_S, Client
from tests.gateway.server_process import TrioSide, build

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@attrs.frozen(kw_only=True)
class Running:
    """A server in a thread."""

    address: Address
    notes: list[tuple[str, Any]]
    results: list[int | BaseException]
    stop: Callable[[], object]

    def client(self) -> Client:
        return Client(self.address)

    def wait_for(self, note: tuple[str, Any]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while note not in self.notes:
            assert time.monotonic() < deadline, f"{note} not in {self.notes}"
            time.sleep(0.002)


Serving = Callable[..., AbstractContextManager[Running]]


@contextmanager
def serving_on(
    loop_name: str, *, body: dict[str, Any] | None = None, trio: dict[str, Any] | None = None, **limits: Any
) -> Iterator[Running]:
    notes: list[tuple[str, Any]] = []
    results: list[int | BaseException] = []
    started: Queue[Running | None] = Queue()
    side = TrioSide(note=lambda *note: notes.append(note), **(trio or {}))

    async def main() -> int:
        drain, loop = Drain(), asyncio.get_running_loop()

        def note_address(address: Address) -> None:
            stop = lambda: loop.call_soon_threadsafe(drain.begin)  # noqa: E731
            started.put(Running(address=address, notes=notes, results=results, stop=stop))

        return await serve(
            side.open,
            build(body or {}),
            limits=ServerLimits(**{"drain_s": 1.0, "linger_s": 0.5, **limits}),
            on_listening=note_address,
            drain=drain,
        )

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
                results.append(runner.run(main()))
        except Exception as error:  # noqa: BLE001 — the test that expects none will see it.
            results.append(error)
            started.put(None)

    thread = threading.Thread(target=run)
    thread.start()
    running = started.get(timeout=PATIENCE_S)
    assert running is not None, results
    try:
        yield running
    finally:
        with suppress(RuntimeError):  # It ended by itself, loop and all.
            running.stop()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    assert ("finally", None) in notes


def eventually(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
