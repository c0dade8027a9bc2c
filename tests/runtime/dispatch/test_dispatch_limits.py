# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""What is given out at most: one attempt of a key, so many of a capability or a workflow, so many within a time."""

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from opscore.actors.errors import ActorFailed
from opscore.runtime.dispatch import recovery
from opscore.runtime.dispatch.dispatcher import DispatcherActor
from opscore.runtime.journal.tables import LEASES, SLOTS
from opscore.runtime.limits import DispatchLimit, Limits
from opscore.runtime.messages import to_dispatcher
from opscore.runtime.models import Move, Session, Task, TaskStatus
from opscore.runtime.node import Node
from tests.runtime.calendar_stage import HOUR_S, jump
from tests.runtime.world import Strike, World, begin, check_rows, ended, hire, join, one_task, only_task, quiet

KEYED = {"concurrencyKey": "customer-${input.customer}"}


def statuses(node: Node, *sessions: Session) -> list[TaskStatus]:
    return [only_task(node, session).status for session in sessions]


async def finished(node: Node, task: Task) -> None:
    """Have an agent complete what it was given, and be idle again."""
    assert task.agent_id is not None
    await node.complete(task.task_id, task.attempt)
    await node.report_state(task.agent_id, "idle")
    await quiet()


def slots(world: World) -> set[str]:
    with world.rows() as view:
        assert {slot.name for slot, _ in SLOTS.scan(view)} == {
            name for lease, _ in LEASES.scan(view) for name in lease.slots
        }
        return {slot.name for slot, _ in SLOTS.scan(view)}


def limited(at_once: int | None = None, **fields: Any) -> Limits:
    return Limits(capability_limits={"work": DispatchLimit(at_once=at_once, **fields)})


# --- keys ---------------------------------------------------------------------------------------------------


async def test_of_one_key_one_attempt_is_out_at_a_time_whatever_the_workflow(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        for name in "abc":
            await join(node, name)
        first = await begin(node, one_task("v", **KEYED), payload={"customer": 7})
        second = await begin(node, one_task("w", **KEYED), payload={"customer": 7})
        other = await begin(node, one_task("w", **KEYED), payload={"customer": 8})
        assert statuses(node, first, second, other) == ["dispatched", "ready", "dispatched"]
        await finished(node, only_task(node, first))
        assert statuses(node, first, second, other) == ["completed", "dispatched", "dispatched"]


async def test_a_key_may_differ_for_each_item_of_a_list(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        for name in "abc":
            await join(node, name)
        session = await begin(node, one_task(forEach=["x", "y", "x"], concurrencyKey="${item}"))
        items = [task for task in node.session(session.session_id).tasks if task.item is not None]
        assert [item.status for item in items] == ["dispatched", "dispatched", "ready"]


async def test_a_retry_holds_no_key_while_it_waits_for_its_delay(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        await join(node, "a")
        retry = {"initialDelaySeconds": 60, "jitter": False}
        first = await begin(node, one_task("v", concurrencyKey="one", retry=retry))
        second = await begin(node, one_task("w", concurrencyKey="one"))
        await node.fail(only_task(node, first).task_id, 1, "no")
        await node.report_state("a", "idle")
        await quiet()
        assert statuses(node, first, second) == ["pending_retry", "dispatched"]


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("${input.nothing}", 'input has no field "nothing"'),
        ("${input}", "found {'a': 1}"),
        ("${''}", "found ''"),
        ("${0.5}", "found 0.5"),
    ],
)
async def test_what_is_no_key_fails_the_task(tmp_path: Path, autojump_clock: MockClock, key: str, found: str) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        session = await ended(node, await begin(node, one_task(concurrencyKey=key), payload={"a": 1}))
        assert session.error is not None
        assert session.error.code == "expression_failed"
        assert found in session.error.message


@pytest.mark.parametrize("number", [7, 7.0])
async def test_a_whole_number_is_a_key_however_json_wrote_it(
    tmp_path: Path, autojump_clock: MockClock, number: float
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        await begin(node, one_task(concurrencyKey="${input}"), payload=number)
    assert slots(world) == {"key/7/0"}


# --- so many at once ----------------------------------------------------------------------------------------


async def test_of_a_limited_capability_so_many_attempts_are_out_at_once(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World(tmp_path, limits=limited(2), look=check_rows).node() as node:
        for name in "abcd":
            await join(node, name, "work", "other")
        runs = [await begin(node, one_task(f"w{number}")) for number in range(4)]
        free = await begin(node, one_task("free", agentCapability="other"))
        assert statuses(node, *runs, free) == [*["dispatched"] * 2, *["ready"] * 2, "dispatched"]
        await finished(node, only_task(node, runs[1]))
        assert statuses(node, *runs) == ["dispatched", "completed", "dispatched", "ready"]


async def test_of_a_limited_workflow_so_many_attempts_are_out_at_once(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    limits = Limits(workflow_limits={"few": DispatchLimit(at_once=1)})
    async with World(tmp_path, limits=limits, look=check_rows).node() as node:
        await join(node, "a", "work")
        await join(node, "b", "other")
        first = await begin(node, one_task("few"))
        second = await begin(node, one_task("few", agentCapability="other"))
        free = await begin(node, one_task("many", agentCapability="other"))
        assert statuses(node, first, second, free) == ["dispatched", "ready", "dispatched"], "others go first"
        await finished(node, only_task(node, free))
        await finished(node, only_task(node, first))
        assert statuses(node, second) == ["dispatched"]


async def test_an_agent_that_is_busy_with_what_was_taken_back_counts_until_it_lets_go(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World(tmp_path, limits=limited(1), look=check_rows).node() as node:
        await join(node, "a")
        await join(node, "b")
        first, second = await begin(node, one_task("v")), await begin(node, one_task("w"))
        await node.steer(first.session_id, Move.CANCEL)
        await quiet()
        assert statuses(node, first, second) == ["cancelled", "ready"]
        await node.report_state(str(only_task(node, first).agent_id), "idle")
        await quiet()
        assert statuses(node, second) == ["dispatched"]


@pytest.mark.parametrize("leaves", ["offline", "deregistered", "cordoned"])
async def test_an_agent_that_takes_no_more_work_leaves_its_slot(
    tmp_path: Path, autojump_clock: MockClock, leaves: str
) -> None:
    async with World(tmp_path, limits=limited(1), look=check_rows).node() as node:
        await join(node, "a")
        first = await begin(node, one_task("v"))
        await join(node, "b")
        second = await begin(node, one_task("w"))
        if leaves == "offline":
            await node.report_state("a", "offline")
        elif leaves == "deregistered":
            await node.deregister_agent("a")
        else:
            await node.set_cordon("a", cordoned=True)
            await node.complete(only_task(node, first).task_id, 1)
        await quiet()
        assert "dispatched" in statuses(node, first, second)


async def test_a_restart_forgets_no_slot_and_a_smaller_limit_waits_for_those_who_have_one(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, limits=limited(2), look=check_rows)
    async with world.node() as node:
        for name in "abc":
            await join(node, name)
        out = [await begin(node, one_task(f"w{number}", concurrencyKey=f"${{'k{number}'}}")) for number in range(2)]
        world.sever()
    assert slots(world) == {"capability/work/0", "capability/work/1", "key/k0/0", "key/k1/0"}
    world.limits = limited(1)
    async with world.node() as node:
        waiting = await begin(node, one_task("w", concurrencyKey="k0"))
        await finished(node, only_task(node, out[0]))
        assert statuses(node, waiting) == ["ready"], "one is out still, and no more may be"
        await finished(node, only_task(node, out[1]))
        assert statuses(node, waiting) == ["dispatched"]


async def test_a_slot_that_another_attempt_has_is_not_taken_though_the_dispatcher_knows_nothing_of_it(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    strike, found = Strike(monkeypatch, DispatcherActor, to_dispatcher.GetDepths), recovery.slots_held
    async with World(tmp_path, look=check_rows).node() as node:
        await join(node, "a")
        await join(node, "b")
        first = await begin(node, one_task("v", concurrencyKey="one"))
        monkeypatch.setattr(
            recovery, "slots_held", lambda view, names=None: () if names is None else found(view, names)
        )
        strike.armed = True
        with pytest.raises(ActorFailed):
            await node._core.addresses.dispatcher.ask(to_dispatcher.GetDepths())  # noqa: SLF001 (only to strike it)
        await trio.sleep(5)
        second = await begin(node, one_task("w", concurrencyKey="one"))
        assert statuses(node, first, second) == ["dispatched", "ready"]
        await finished(node, only_task(node, first))
        assert statuses(node, second) == ["dispatched"]


# --- so many within a time ----------------------------------------------------------------------------------


async def test_of_a_limited_capability_so_many_attempts_begin_within_a_time(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World(tmp_path, limits=limited(per_interval=2, interval_s=60.0)).node() as node:
        got = [await hire(node, name) for name in "abcde"]
        began = trio.current_time()
        runs = [await begin(node, one_task(f"w{number}")) for number in range(5)]
        times: list[float] = []
        while len(times) < 5:
            times += [trio.current_time() - began] * (sum(map(len, got)) - len(times))
            await trio.sleep(0.5)
        assert [round(at) for at in times] == [0, 0, 60, 60, 120]
        for run in runs:
            await ended(node, run)


async def test_a_clock_that_is_moved_keeps_no_gate_closed_for_longer_and_opens_none_earlier(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, limits=limited(per_interval=1, interval_s=60.0))
    async with world.node() as node:
        got = [await hire(node, name) for name in "ab"]
        for name in ("v", "w"):
            await begin(node, one_task(name))
        await trio.sleep(20)
        jump(world, -HOUR_S)
        await trio.sleep(39)
        assert sum(map(len, got)) == 1, "a minute has not passed"
        jump(world, 2 * HOUR_S)
        await trio.sleep(0.5)
        assert sum(map(len, got)) == 1
        await trio.sleep(1)
        assert sum(map(len, got)) == 2


async def test_what_began_before_a_restart_counts(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, limits=limited(per_interval=1, interval_s=60.0), look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        await finished(node, only_task(node, await begin(node, one_task("v"))))
        await trio.sleep(20)
    async with world.node() as node:
        session = await begin(node, one_task("w"))
        assert statuses(node, session) == ["ready"]
        await trio.sleep(39)
        assert statuses(node, session) == ["ready"]
        await trio.sleep(2)
        assert statuses(node, session) == ["dispatched"]


async def test_an_attempt_that_gets_a_full_lease_after_a_restart_began_when_it_was_handed_over(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, limits=limited(per_interval=1, interval_s=60.0), look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node, one_task("v"))
        assert statuses(node, session) == ["dispatched"]
        await trio.sleep(40)
    async with world.node() as node:
        await join(node, "b")
        waiting = await begin(node, one_task("w"))
        await trio.sleep(19)
        assert statuses(node, session, waiting) == ["dispatched", "ready"]
        await trio.sleep(2)
        assert statuses(node, session, waiting) == ["dispatched", "dispatched"]
