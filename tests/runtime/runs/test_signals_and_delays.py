# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Tasks that no agent does: signals that are waited for, early and late, and delays, also across restarts."""

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from opscore.runtime.errors import IdempotencyConflict, InvalidDocument, LimitExceeded, SessionConflict, SessionNotFound
from opscore.runtime.journal.tables import SIGNALS
from opscore.runtime.limits import Limits
from opscore.runtime.models import Move, SessionStatus, Signal, TaskStatus
from opscore.runtime.runs.session_rows import signals_of
from opscore.runtime.store import Snapshot
from tests.runtime.world import World, begin, check_rows, ended, hire, quiet

APPROVAL: dict[str, Any] = {"taskId": "approval", "type": "signal"}
WORK: dict[str, Any] = {"taskId": "work", "agentCapability": "work"}


def workflow(*tasks: dict[str, Any]) -> dict[str, Any]:
    return {"id": "w", "tasks": list(tasks)}


async def test_a_run_waits_for_its_signal_and_takes_what_came_with_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        session = await begin(node, workflow(APPROVAL))
        await trio.sleep(80_000)
        assert node.session(session.session_id).tasks[0].status is TaskStatus.RUNNING
    async with world.node() as node:
        signal = await node.signal(session.session_id, "approval", payload={"by": "ada"})
        assert signal.taken_by == f"{session.session_id}.0"
        assert (await ended(node, session)).result == {"approval": {"by": "ada"}}
    assert world.records(signal.signal_id) == ["signal.received"]


async def test_signals_that_come_early_wait_and_are_taken_in_their_order(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    named = [{"taskId": key, "type": "signal", "parameters": {"name": "go"}} for key in ("first", "second")]
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        session = await begin(node, workflow(WORK, *named))
        for payload in (1, 2):
            assert (await node.signal(session.session_id, "go", payload=payload)).taken_by is None
    async with world.node() as node:
        await hire(node, "a")
        await ended(node, session)
        assert [task.result for task in node.session(session.session_id).tasks[1:]] == [1, 2]


async def test_the_same_signal_sent_again_has_an_effect_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    waits: dict[str, Any] = {"type": "signal", "dependsOn": [], "parameters": {"name": "go"}}
    both: list[dict[str, Any]] = [{"taskId": key, **waits} for key in ("x", "y")]
    async with World(tmp_path, look=check_rows).node() as node:
        session = await begin(node, workflow(*both))
        once = await node.signal(session.session_id, "go", payload=1, signal_id="s-1")
        again = await node.signal(session.session_id, "go", payload=1, signal_id="s-1")
        with pytest.raises(IdempotencyConflict):
            await node.signal(session.session_id, "go", payload=2, signal_id="s-1")
        assert (again.number, again.taken_by) == (once.number, once.taken_by)
        statuses = {task.status for task in node.session(session.session_id).tasks}
        assert statuses == {TaskStatus.COMPLETED, TaskStatus.RUNNING}


@pytest.mark.parametrize(
    ("payload", "other"), [(1, True), (False, 0), (1, 1.0), ({"approved": [0]}, {"approved": [False]})]
)
async def test_a_signal_sent_again_with_what_is_the_same_to_python_alone_is_a_conflict(
    tmp_path: Path, autojump_clock: MockClock, payload: Any, other: Any
) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        session = await begin(node, workflow({"taskId": "x", "type": "signal", "parameters": {"name": "go"}}))
        await node.signal(session.session_id, "go", payload={"b": 1, "a": payload}, signal_id="s-1")
        await node.signal(session.session_id, "go", payload={"a": payload, "b": 1}, signal_id="s-1")
        with pytest.raises(IdempotencyConflict):
            await node.signal(session.session_id, "go", payload={"a": other, "b": 1}, signal_id="s-1")


async def test_ids_that_were_made_for_signals_are_in_nobodys_way(tmp_path: Path, autojump_clock: MockClock) -> None:
    waits: dict[str, Any] = {"type": "signal", "dependsOn": [], "parameters": {"name": "go"}}
    async with World(tmp_path, look=check_rows).node() as node:
        session = await begin(node, workflow(*({"taskId": key, **waits} for key in ("x", "y"))))
        await node.signal(session.session_id, "go", payload="anonymous")
        await node.signal(session.session_id, "go", payload="mine", signal_id="#0")
        assert (await ended(node, session)).result == {"x": "anonymous", "y": "mine"}


async def test_a_signal_costs_the_same_however_many_wait(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []

    def watched(view: Snapshot, session_id: str) -> list[Signal]:
        looks.append(session_id)
        return signals_of(view, session_id)

    monkeypatch.setattr("opscore.runtime.runs.session.signals_of", watched)
    late = {"taskId": "late", "type": "signal", "parameters": {"name": "go"}}
    world = World(tmp_path, limits=Limits(signals_max=50), look=check_rows)
    async with world.node() as node:
        run = await begin(node, workflow({**late, "taskId": "first", "parameters": {"name": "other"}}, late))
        for number in range(50):
            assert (await node.signal(run.session_id, "go", payload=number)).number == number
        assert len(looks) == 1
        with pytest.raises(LimitExceeded, match="signals_max"):
            await node.signal(run.session_id, "go")


async def test_a_signal_that_does_not_come_in_time_fails_its_task_which_is_not_tried_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    tasks = ({**APPROVAL, "timeoutSeconds": 60, "fallbackTaskId": "escalate"}, {**WORK, "taskId": "escalate"})
    async with World(tmp_path, look=check_rows).node() as node:
        got = await hire(node, "a", result="escalated")
        session = await begin(node, workflow(*tasks))
        await trio.sleep(59)
        assert got == []
        assert (await ended(node, session, within_s=5)).result == {"approval": "escalated"}
        task = node.session(session.session_id).tasks[0]
        assert task.error is not None
        assert (task.error.code, task.error.message) == (
            "timeout",
            "the signal 'approval' did not come within 60 s",
        )


async def test_a_signal_that_nothing_waits_for_is_refused_and_told_what_is_waited_for(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World(tmp_path, limits=Limits(signals_max=2)).node() as node:
        await hire(node, "a")
        session = await begin(node, workflow(APPROVAL, APPROVAL | {"taskId": "release"}))
        with pytest.raises(InvalidDocument, match="no signal 'aproval'; it waits for 'approval', 'release'"):
            await node.signal(session.session_id, "aproval")
        with pytest.raises(SessionNotFound):
            await node.signal("nowhere", "approval")
        with pytest.raises(LimitExceeded, match="id_bytes_max"):
            await node.signal(session.session_id, "approval", signal_id="x" * 200)
        with pytest.raises(LimitExceeded, match="value_bytes_max"):
            await node.signal(session.session_id, "approval", payload="x" * 300_000)
        for _ in range(2):
            await node.signal(session.session_id, "release")
        with pytest.raises(LimitExceeded, match="signals_max"):
            await node.signal(session.session_id, "approval")
        done = await ended(node, await begin(node, workflow(WORK)))
        with pytest.raises(SessionConflict, match="it is completed"):
            await node.signal(done.session_id, "approval")


async def test_a_paused_run_takes_a_signal_and_goes_on_when_it_is_resumed(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        session = await begin(node, workflow({**APPROVAL, "timeoutSeconds": 60}, WORK))
        await node.steer(session.session_id, Move.PAUSE)
        await trio.sleep(100)
        await node.signal(session.session_id, "approval", payload="yes")
        assert [task.status.value for task in node.session(session.session_id).tasks] == ["completed", "pending"]
        await node.steer(session.session_id, Move.RESUME)
        assert node.session(session.session_id).tasks[1].status is TaskStatus.READY


async def test_a_delay_lasts_as_long_as_it_says_also_across_a_restart(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    delay = {"taskId": "rest", "type": "delay", "parameters": {"seconds": 100}}
    async with world.node() as node:
        session = await begin(node, workflow(delay, WORK))
        await trio.sleep(40)
    async with world.node() as node:
        await hire(node, "a")
        await trio.sleep(59)
        assert node.session(session.session_id).tasks[0].status is TaskStatus.RUNNING
        await trio.sleep(2)
        await quiet()
        assert node.session(session.session_id).tasks[0].status is TaskStatus.COMPLETED
        assert (await ended(node, session)).status is SessionStatus.COMPLETED


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("seconds", "abc", "seconds: expected a number from 0 to 31,536,000, found 'abc'"),
        ("seconds", None, "seconds: expected a number from 0 to 31,536,000, found null"),
        ("seconds", True, "seconds: expected a number from 0 to 31,536,000, found true"),
        ("seconds", [5], "seconds: expected a number from 0 to 31,536,000, found [5]"),
        ("seconds", -1, "seconds: expected a number from 0 to 31,536,000, found -1"),
        ("seconds", 31_536_001, "seconds: expected a number from 0 to 31,536,000, found 31536001"),
        ("until", "soon", "until: expected an ISO 8601 time, found 'soon'"),
        ("until", None, "until: expected an ISO 8601 time, found null"),
        (
            "until",
            "9999-01-01T00:00:00Z",
            "until: a delay has at most 31,536,000 seconds, and 9999-01-01T00:00:00Z is further away",
        ),
    ],
)
async def test_a_delay_without_an_end_fails_and_says_what_was_found(
    tmp_path: Path, autojump_clock: MockClock, name: str, value: Any, said: str
) -> None:
    delay = {"taskId": "rest", "type": "delay", "parameters": {name: "${input.x}"}}
    async with World(tmp_path, look=check_rows).node() as node:
        session = await ended(node, await begin(node, workflow(delay), payload={"x": value}))
        assert session.error is not None
        assert (session.error.code, session.error.message) == ("expression_failed", f"task 'rest' failed: {said}")


async def test_a_delay_until_a_time_that_is_past_is_over_at_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    delay = {"taskId": "rest", "type": "delay", "parameters": {"until": "${input}"}}
    async with World(tmp_path, look=check_rows).node() as node:
        session = await begin(node, workflow(delay), payload="1970-01-01T00:00:00Z")
        assert (await ended(node, session, within_s=1)).status is SessionStatus.COMPLETED


async def test_retention_removes_the_signals_of_a_run_with_it(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, limits=Limits(sessions_keep_s=600.0, idempotency_keep_s=600.0))
    async with world.node() as node:
        session = await begin(node, workflow(APPROVAL))
        await node.signal(session.session_id, "approval")
        await ended(node, session)
        await trio.sleep(2_000)
    with world.rows() as view:
        assert list(SIGNALS.scan(view)) == []


async def test_a_time_that_came_while_the_store_was_full_comes_though_its_actor_has_gone_by_then(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, limits=Limits(passivate_s=0.4), look=check_rows)
    delay = {"taskId": "rest", "type": "delay", "parameters": {"seconds": 5}}
    async with world.node() as node:
        session = await begin(node, workflow(delay))
        world.fill(full=True)
        await trio.sleep(20)
        assert node.session(session.session_id).tasks[0].status is TaskStatus.RUNNING
        world.fill(full=False)
        assert (await ended(node, session, within_s=5)).status is SessionStatus.COMPLETED
