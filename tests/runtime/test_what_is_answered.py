# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""What a node answers is the caller's: whatever becomes of it there, nobody else reads it."""

from pathlib import Path
from typing import Any

from trio.testing import MockClock

from opscore.runtime.models import Move, Session
from opscore.runtime.node import Node
from tests.runtime.world import World, begin, check_rows, ended, hire, join, one_task, quiet


async def claim_and_spoil(node: Node) -> None:
    """Claim an attempt, or the same once more, and change all that can be changed of it."""
    granted = await node.claim("a", claim_id="asks again", wait_s=1.0)
    assert granted is not None
    assignment = granted.assignment
    assert (assignment.parameters, assignment.input) == ({"url": "http://printer.example", "rows": [1]}, {"rows": [1]})
    assignment.parameters.pop("url")
    assignment.parameters["rows"].append("changed")
    assignment.input.clear()


def spoil(session: Session) -> None:
    """Change all that can be changed of a run that was answered."""
    session.payload["rows"].append("changed")
    session.payload.pop("secret")
    session.labels.clear()


async def test_what_a_claimer_changes_of_its_attempt_reaches_neither_the_run_nor_the_workflow(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    parameters = {"url": "http://printer.example", "rows": "${input.rows}"}
    document = one_task(parameters=parameters)
    async with World(tmp_path, look=check_rows).node() as node:
        await join(node, "a", push=False)
        for _ in range(2):
            session = await begin(node, document, payload={"rows": [1]})
            await claim_and_spoil(node)
            await claim_and_spoil(node)
            await node.complete(f"{session.session_id}.0", 1)
            await ended(node, session)


async def test_what_is_changed_of_a_run_or_a_signal_that_was_answered_is_not_what_its_tasks_read(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    gate: dict[str, Any] = {"taskId": "gate", "type": "signal"}
    reads = {"rows": "${input.rows}", "secret": "${input.secret}", "told": "${tasks.gate.result}"}
    use = {"taskId": "use", "agentCapability": "work", "parameters": reads}
    async with World(tmp_path, look=check_rows).node() as node:
        got = await hire(node, "local")
        payload = {"rows": [1], "secret": "key"}
        session = await begin(node, {"id": "w", "tasks": [gate, use]}, payload=payload, labels={"team": "ops"})
        spoil(session)
        spoil(await node.steer(session.session_id, Move.PAUSE))
        spoil(await node.steer(session.session_id, Move.RESUME))
        told = await node.signal(session.session_id, "gate", payload=["yes"])
        told.payload.append("changed")
        done = await ended(node, session)
        assert (done.payload, done.labels) == (payload, {"team": "ops"})
        assert got[0].parameters == {"rows": [1], "secret": "key", "told": ["yes"]}


async def test_a_workflow_that_was_answered_may_be_changed_and_saved_and_runs_keep_the_one_they_started_with(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        got = await hire(node, "local")
        wait = {"taskId": "wait", "type": "delay", "parameters": {"seconds": 5}}
        use = {"taskId": "only", "agentCapability": "work", "parameters": {"copies": 1}}
        await node.save_definition({"id": "w", "tasks": [wait, use]})
        before = await begin(node, "w")
        document = node.definition("w")[1].document
        document["tasks"][1]["parameters"]["copies"] = 2
        assert node.definition("w")[1].document["tasks"][1]["parameters"] == {"copies": 1}
        assert (await node.save_definition(document)).revision == 2
        await quiet()
        await ended(node, before)
        await ended(node, await begin(node, "w"))
        assert [each.parameters for each in got] == [{"copies": 1}, {"copies": 2}]


async def test_what_is_changed_of_an_agent_that_was_answered_is_not_stored(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        registered = await node.register_agent("a", capabilities=["work"], metadata={"floor": 1})
        registered.metadata["floor"] = 2
        cordoned = await node.set_cordon("a", cordoned=True)
        cordoned.metadata["floor"] = 3
        await node.report_state("a", "idle")
        assert node.agent("a").metadata == {"floor": 1}
