# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Functions whose run is cancelled: their agents are free for other work, also if the store fails just then."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from opscore.runtime.agents.context import current_task
from opscore.runtime.errors import StoreError
from opscore.runtime.journal.tables import LEASES
from opscore.runtime.models import Assignment, Move
from opscore.runtime.store import Outcomes, Submission
from tests.runtime.world import LoopWriter, World, begin, lease_of, one_task, writers_of


class RefusingWriter(LoopWriter):
    """Fails, before it is applied, with the next batch that ends leases and does nothing else."""

    error: Exception | None = None
    failed = 0

    async def apply(self, batch: Sequence[Submission]) -> Outcomes:
        tables = {write.table for submission in batch for write in submission.writes}
        if self.error is not None and tables == {LEASES.name}:
            error, self.error = self.error, None
            self.failed += 1
            raise error
        return await super().apply(batch)


@pytest.mark.parametrize("error", [StoreError("the disk: input/output error"), MemoryError()])
async def test_a_function_that_was_stopped_gives_its_agent_back_though_the_commit_that_says_so_failed_at_first(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    writers = writers_of(RefusingWriter, monkeypatch)

    async def work(_: Assignment) -> None:
        await current_task().progress("begun")
        await trio.sleep_forever()

    async with World(tmp_path).node() as node:
        await node.register_agent("local", capabilities=["work"], handler=work)
        session = await begin(node, one_task(leaseSeconds=600))
        await trio.sleep(1)
        writers[0].error = error
        await node.steer(session.session_id, Move.CANCEL)
        await trio.sleep(5)
        assert writers[0].failed == 1
        assert lease_of(node, "local") is None
