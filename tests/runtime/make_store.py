"""Writes the data file of a node that has something of everything, as this release keeps it.

`python -m tests.runtime.make_store FILE` writes it, compact and compressed. Whenever the format of the store or the
schema of a row is raised, the release before is asked for its file first, and the file is kept in `stores/` for
good: `test_older_stores` reads every one of them.
"""

import gzip
import sys
import tempfile
from pathlib import Path
from typing import Any

import lmdb
import trio
from trio.testing import MockClock

from opscore.runtime.delivery import Answered
from opscore.runtime.limits import Limits
from opscore.runtime.models import Missed
from opscore.runtime.runs.triggering import IdempotencyKey
from tests.runtime.world import SAMPLE, World, begin, hire, join, one_task

SIGNALLED = {
    "id": "signalled",
    "tasks": [{"taskId": "first", "agentCapability": "nobody"}, {"taskId": "approval", "type": "signal"}],
}
DONE: dict[str, Any] = {
    "payload": {"text": "naïve ✓"},
    "labels": {"team": "blue", "stage": "prod"},
    "business_key": "order-7",
}
KEYED = one_task("keyed", retry={"initialDelaySeconds": 3_000, "jitter": False})


async def live(world: World) -> None:
    """Leave one run in each standing, and an agent in each."""
    async with world.node() as node:
        await node.save_definition(SAMPLE)
        await hire(node, "local", "local_work", result={"sum": 3, "of": [1, 2]})
        done = await begin(node, one_task("done", agentCapability="local_work"), **DONE)
        await node.wait(done.session_id)
        await node.remember_signature("a-signature")

        await join(node, "flaky")
        retried = await begin(node, KEYED, payload=7, idempotency=IdempotencyKey(path="/x", key="k", body={"a": 1}))
        await node.fail(node.session(retried.session_id).tasks[0].task_id, 1, "the first attempt fails")

        await node.report_state("flaky", "idle")
        failed = await begin(node, one_task("failing", retry={"maxRetries": 0}))
        await node.fail(node.session(failed.session_id).tasks[0].task_id, 1, "no retry is left")

        await node.report_state("flaky", "idle")
        await begin(node, one_task("held", timeoutSeconds=9_000, concurrencyKey="customer-7"))
        await begin(node, SAMPLE)
        await join(node, "holder", "test_capability", "another_capability")

        world.messenger.answers(Answered(status=503, retry_after_s=600.0))
        await join(node, "suspect", "rare")
        await begin(node, one_task("bounced", agentCapability="rare"))
        await node.set_cordon("suspect", cordoned=True)
        await begin(node, one_task("waiting", agentCapability="nobody", priority=9))
        early = await begin(node, SIGNALLED)
        await node.signal(early.session_id, "approval", payload={"by": "ada"}, signal_id="once")

        await node.create_schedule("sample_workflow_id", schedule_id="leap", cron="0 0 29 2 *", payload={"leap": True})
        await node.create_schedule("sample_workflow_id", schedule_id="paused", cron="* * * * *", missed=Missed.ALL)
        await node.pause_schedule("paused")
        await node.create_schedule("sample_workflow_id", schedule_id="once", at=4_000_000_000.0, agent_id="flaky")
        # Retention removes the oldest records, and the node notes its vitals.
        await trio.sleep(70)


async def _alone(path: Path) -> None:
    await live(World(path, limits=Limits(records_max=40)))


def main(file: Path) -> None:
    """Run the node under virtual time and keep its file."""
    with tempfile.TemporaryDirectory() as directory:
        before, compact = Path(directory, "before"), Path(directory, "compact")
        compact.mkdir()
        trio.run(_alone, before, clock=MockClock(autojump_threshold=0))
        with lmdb.open(str(before), max_dbs=64, readonly=True) as environment:
            environment.copy(str(compact), compact=True)
        file.write_bytes(gzip.compress((compact / "data.mdb").read_bytes(), mtime=0))


def rows(path: Path) -> dict[str, dict[bytes, Any]]:
    """What lies in every table of a closed store, byte by byte."""
    found: dict[str, dict[bytes, Any]] = {}
    with lmdb.open(str(path), max_dbs=64, readonly=True) as environment, environment.begin() as transaction:
        names = [bytes(name) for name, _ in transaction.cursor()]
        for name in names:
            database = environment.open_db(name, txn=transaction, create=False)
            found[name.decode()] = {bytes(key): bytes(value) for key, value in transaction.cursor(db=database)}
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
