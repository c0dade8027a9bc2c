"""A long-lived asyncio host: round after round of everything that a host can do, in one process, without a server."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio

import opscore
from opscore.runtime.errors import OpscoreError
from opscore.runtime.hosting import Guest, open_guest
from opscore.runtime.limits import Limits
from opscore.runtime.node import Node
from tests.soak import workflows
from tests.soak.probe import sweep

LIMITS: Final = Limits(
    passivate_s=0.5,
    sessions_keep_s=20.0,
    records_keep_s=20.0,
    idempotency_keep_s=10.0,
    capability_limits={workflows.SCARCE: opscore.DispatchLimit(at_once=1)},
)
PATIENCE_S: Final = 0.5
WAITED_FOR_S: Final = 60.0
FUNCTIONS: Final = 6


class Failed(Exception):
    """The error with which a function fails."""


async def work(task: opscore.Assignment) -> Any:
    """Do the work of a function, with the outcome that its task asks for."""
    outcome = task.parameters.get("outcome")
    if outcome == "fails" or (outcome == "flaky" and random.random() < 0.5):
        raise Failed(task.task_id)
    if outcome == "silent":
        await trio.sleep_forever()
    await opscore.current_task().progress({"half": True})
    return {"by": task.task_id, "input": task.input}


class Host:
    """A host that embeds a runtime.

    Args:
        guest: the runtime.
    """

    def __init__(self, guest: Guest[Node]) -> None:
        self._guest = guest
        self._node = guest.value
        self._round = 0
        self._followed = 0

    async def prepare(self) -> None:
        """Save the definitions, and register the permanent functions."""
        for document in workflows.WORKFLOWS:
            await self._guest.call(self._node.save_definition, document)
        for number in range(FUNCTIONS):
            await self._function(f"function-{number}")

    async def _function(self, agent_id: str) -> None:
        capabilities = (workflows.CLAIMED, workflows.PUSHED, workflows.SCARCE)
        await self._guest.call(self._node.register_agent, agent_id, capabilities=capabilities, handler=work)

    async def round(self) -> None:
        """Run each workflow once, and do everything else that a host does."""
        self._round += 1
        passing = f"passing-{self._round}"
        await self._function(passing)
        sessions = [await self._trigger(kind) for kind in workflows.KINDS]
        await asyncio.gather(
            *(self._to_its_end(kind, id_) for kind, id_ in zip(workflows.KINDS, sessions, strict=True))
        )
        await self._unique()
        await self._scheduled()
        await self._refused()
        await self._follow()
        await self._guest.call(self._node.deregister_agent, passing)

    async def _trigger(self, kind: str) -> str:
        key = opscore.IdempotencyKey(path="orders", key=f"{self._round}-{kind}")
        payload = {"number": self._round, "items": [1, 2, 3]}
        session = await self._guest.call(
            self._node.trigger, kind, payload=payload, labels={"round": str(self._round)}, idempotency=key
        )
        return session.session_id

    async def _to_its_end(self, kind: str, session_id: str) -> None:
        if kind == "signal":
            await self._guest.call(self._node.signal, session_id, "told", payload={"number": self._round})
        if kind == "silent":
            with contextlib.suppress(TimeoutError):
                # The host gives up waiting, and cancels the run.
                await asyncio.wait_for(self._guest.call(self._node.wait, session_id), timeout=PATIENCE_S / 5)
            await self._guest.call(self._node.steer, session_id, opscore.Move.CANCEL, reason="nobody waits")
        if kind == "list":
            for move in (opscore.Move.PAUSE, opscore.Move.RESUME):
                with contextlib.suppress(OpscoreError):
                    await self._guest.call(self._node.steer, session_id, move)
        await asyncio.wait_for(self._guest.call(self._node.wait, session_id), timeout=WAITED_FOR_S)
        self._node.session(session_id)
        for dead in self._node.dead_letters().items[:1]:
            with contextlib.suppress(OpscoreError):
                await self._guest.call(self._node.discard, dead.task.task_id, "seen")

    async def _unique(self) -> None:
        document = workflows.unique(self._round)
        session = await self._guest.call(self._node.trigger, document)
        await self._guest.call(self._node.steer, session.session_id, opscore.Move.CANCEL)

    async def _scheduled(self) -> None:
        schedule_id = f"schedule-{self._round}"
        await self._guest.call(
            self._node.create_schedule, "delay", schedule_id=schedule_id, cron="0 0 1 1 *", payload={"number": 1}
        )
        await self._guest.call(self._node.delete_schedule, schedule_id)

    async def _refused(self) -> None:
        for name in (f"nobody-{self._round}", "function-0"):
            with contextlib.suppress(OpscoreError):
                await self._guest.call(self._node.report_state, name, "idle")
            with contextlib.suppress(OpscoreError):
                await self._guest.call(self._node.complete, f"no-such-task-{self._round}", 1, None)
            with contextlib.suppress(OpscoreError):
                await self._guest.call(self._node.claim, name, wait_s=0.0)

    async def _follow(self) -> None:
        async def newest() -> int:
            count, follower = 0, self._node.follow(after=self._followed)
            with trio.move_on_after(PATIENCE_S / 10):
                async for entry in follower:
                    self._followed, count = entry.sequence, count + 1
            return count

        with contextlib.suppress(OpscoreError):
            await self._guest.call(newest)

    async def rest(self) -> None:
        """Do nothing until every run has ended and idle actors are gone."""
        while self._node.statistics().open_sessions:
            await asyncio.sleep(0.05)
        await asyncio.sleep(2 * LIMITS.quiet_s + 1.0)

        async def swept() -> None:
            sweep(self._node)

        await self._guest.call(swept)


@asynccontextmanager
async def open_host(path: Path) -> AsyncIterator[Host]:
    """Open a host with its runtime for the duration of the block."""
    async with open_guest(lambda: opscore.open_runtime(path, limits=LIMITS)) as guest:
        host = Host(guest)
        await host.prepare()
        yield host
