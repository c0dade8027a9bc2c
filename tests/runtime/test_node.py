# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""What a node promises to whoever triggers runs: order, one answer for a key, a bound, and an end."""

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from opscore.runtime.dispatch.dispatcher import DispatcherActor
from opscore.runtime.errors import (
    AgentNotFound,
    DefinitionNotFound,
    IdempotencyConflict,
    InvalidDocument,
    LimitExceeded,
    NotReady,
    SessionNotFound,
    StoreFull,
    StoreLocked,
)
from opscore.runtime.limits import Limits
from opscore.runtime.messages import to_dispatcher
from opscore.runtime.models import SessionStatus, TaskStatus
from opscore.runtime.node import open_node
from opscore.runtime.runs.triggering import IdempotencyKey
from tests.runtime.world import (
    SAMPLE,
    Strike,
    World,
    begin,
    check_rows,
    ended,
    hire,
    join,
    lease_of,
    one_task,
    only_task,
    quiet,
)


async def test_the_sample_workflow_runs_from_its_first_task_to_its_last(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        first = await hire(node, "first", "test_capability", result={"said": "hello"})
        second = await hire(node, "second", "another_capability", result=[1, 2])
        session = await ended(node, await node.trigger(SAMPLE, payload={"given": True}))
        assert session.status is SessionStatus.COMPLETED
        assert session.result == {"step_2": [1, 2]}, "the result is that of the tasks nothing waits for"
        tasks = node.session(session.session_id).tasks
    assert [(task.key, task.status, task.agent_id, task.attempt) for task in tasks] == [
        ("step_1", TaskStatus.COMPLETED, "first", 1),
        ("step_2", TaskStatus.COMPLETED, "second", 1),
    ]
    assert tasks[0].ended_at is not None
    assert tasks[1].dispatched_at is not None
    assert tasks[0].ended_at <= tasks[1].dispatched_at
    assert [(each.task_key, each.parameters, each.input) for each in (*first, *second)] == [
        ("step_1", {"message": "This is the first step."}, {"given": True}),
        ("step_2", {"value": 123}, {"given": True}),
    ]


async def test_each_transition_of_a_run_is_recorded_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path)
    async with world.node() as node:
        await hire(node, "both", "test_capability", "another_capability")
        session = await ended(node, await node.trigger(SAMPLE))
        tasks = node.session(session.session_id).tasks
    assert world.records(session.session_id) == ["session.started", "session.running", "session.completed"]
    assert world.records(tasks[0].task_id) == ["task.ready", "task.dispatched", "task.completed"]
    assert world.records(tasks[1].task_id) == ["task.pending", "task.ready", "task.dispatched", "task.completed"]


async def test_a_run_without_tasks_is_complete_when_its_trigger_is_answered(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World(tmp_path).node() as node:
        session = await node.trigger({"id": "empty", "name": "Empty", "tasks": []})
        assert session.status is SessionStatus.COMPLETED
        assert node.session(session.session_id).session.status is SessionStatus.COMPLETED
        assert node.statistics().open_sessions == 0


async def test_what_a_trigger_answered_is_durable_when_it_is_answered(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path)
    async with world.node() as node:
        session = await node.trigger(one_task())
        world.sever()
    async with world.node() as node:
        assert only_task(node, session).status is TaskStatus.READY
        await hire(node, "late")
        assert (await ended(node, session)).status is SessionStatus.COMPLETED


async def test_a_run_keeps_the_definition_it_started_with(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path)
    async with world.node() as node:
        await node.save_definition(one_task(parameters={"revision": 1}))
        old = await node.trigger("one")
        await trio.sleep(1)
        saved = await node.save_definition(one_task(parameters={"revision": 2}))
        assert saved.revision == 2
        new = await node.trigger("one")
    async with world.node() as node:
        got = await hire(node, "late")
        await ended(node, old)
        await ended(node, new)
    assert [each.parameters for each in got] == [{"revision": 1}, {"revision": 2}]


@pytest.mark.parametrize(
    ("definition", "arguments", "error"),
    [
        ("nowhere", {}, DefinitionNotFound),
        (one_task(), {"agent_id": "nobody"}, AgentNotFound),
        (one_task(), {"payload": "x" * 300_000}, LimitExceeded),
        ({"id": "w", "name": "w", "tasks": [{"taskId": "a"}, {"taskId": "a"}]}, {}, InvalidDocument),
        ({"id": "w", "name": "w", "tasks": [{"taskId": "a", "name": "a"}]}, {}, InvalidDocument),
    ],
    ids=["definition", "agent", "payload", "document", "no agent named"],
)
async def test_a_trigger_that_is_refused_leaves_nothing_behind(
    tmp_path: Path,
    autojump_clock: MockClock,
    definition: object,
    arguments: dict[str, object],
    error: type[Exception],
) -> None:
    async with World(tmp_path).node() as node:
        with pytest.raises(error):
            await node.trigger(definition, **arguments)  # type: ignore[arg-type]  # the wrong types are the test
        assert node.sessions().items == ()
        assert node.statistics().open_sessions == 0


async def test_the_same_key_and_body_start_one_run_however_often_they_come(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path)
    key = IdempotencyKey(path="/agent/a/workflow", key="k", body={"n": 1})
    answers = []

    async with world.node() as node:

        async def trigger() -> None:
            answers.append(await node.trigger(one_task(), idempotency=key))

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(trigger)
        assert len(node.sessions().items) == 1
        assert node.statistics().open_sessions == 1
    async with world.node() as node:
        answers.append(await node.trigger(one_task(), idempotency=key))
        assert len(node.sessions().items) == 1
    assert len({session.session_id for session in answers}) == 1


async def test_a_key_used_with_another_body_is_a_conflict_and_on_another_path_is_not(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path)
    async with world.node() as node:
        await node.trigger(one_task(), idempotency=IdempotencyKey(path="/p", key="k", body=1))
    async with world.node() as node:
        with pytest.raises(IdempotencyConflict):
            await node.trigger(one_task(), idempotency=IdempotencyKey(path="/p", key="k", body=2))
        await node.trigger(one_task(), idempotency=IdempotencyKey(path="/q", key="k", body=2))
        assert len(node.sessions().items) == 2


async def test_a_key_is_kept_until_seven_days_past_its_runs_end(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, limits=Limits(idempotency_keep_s=7 * 86_400))
    key = IdempotencyKey(path="/p", key="k", body=1)
    week_s = 7 * 86_400.0
    async with world.node() as node:
        first = await node.trigger(one_task(), idempotency=key)
    await trio.sleep(2 * week_s)  # A run that is unfinished keeps its key, however old it is.
    async with world.node() as node:
        assert (await node.trigger(one_task(), idempotency=key)).session_id == first.session_id
        await hire(node, "late")
        await ended(node, first)
    await trio.sleep(week_s - 60)
    async with world.node() as node:
        assert (await node.trigger(one_task(), idempotency=key)).session_id == first.session_id
    await trio.sleep(120)
    async with world.node() as node:
        other = IdempotencyKey(path="/p", key="k", body="another")
        assert (await node.trigger(one_task(), idempotency=other)).session_id != first.session_id


async def test_triggers_whose_callers_went_away_count_like_any_other(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, limits=Limits(sessions_open_max=3))
    async with world.node() as node:
        for _ in range(3):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(node.trigger, one_task())
                await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
        await quiet()
        begun = node.sessions().items
        assert node.statistics().open_sessions == len(begun) > 0
        await hire(node, "late")
        for session in begun:
            await ended(node, session)
        await quiet()
        assert node.statistics().open_sessions == 0


async def test_a_draining_node_takes_no_triggers_and_makes_no_offers_but_attempts_still_end(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path)
    async with world.node() as node:
        await join(node, "a")
        out = await begin(node)
        await node.report_state("a", "active")
        node.drain()
        assert node.ready() is not None
        with pytest.raises(NotReady):
            await node.trigger(one_task())
        await node.report_state("a", "idle")
        assert (await ended(node, out)).status is SessionStatus.COMPLETED
        assert len(world.messenger.delivered) == 1


async def test_a_run_that_waits_while_the_node_drains_goes_on_at_the_next_opening(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path)
    async with world.node() as node:
        waiting = await begin(node)
        node.drain()
        await join(node, "a")
        assert world.messenger.delivered == []
    async with world.node() as node:
        await quiet()
        assert [each.task_id for each in world.messenger.delivered] == [only_task(node, waiting).task_id]


async def test_watchers_of_a_run_are_let_go_when_the_node_drains(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with World(tmp_path).node() as node:
        session = await begin(node)
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                view = await node.wait_briefly(session.session_id, 3_600)
                assert view.session.status is SessionStatus.STARTED

            nursery.start_soon(watch)
            await trio.sleep(5)
            node.drain()
            began = trio.current_time()
        assert trio.current_time() == began


async def test_waiting_for_a_run_that_does_not_exist_is_refused(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with World(tmp_path).node() as node:
        with pytest.raises(SessionNotFound):
            await node.wait("ses_nowhere")


async def test_a_second_node_on_the_directory_is_refused(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path)
    async with world.node():
        with pytest.raises(StoreLocked):
            async with world.node():
                raise AssertionError("it must not open")


async def test_a_full_store_refuses_new_work_and_finishes_the_old_by_itself_once_there_is_room(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        got = await hire(node, "local")
        sessions = [await node.trigger(one_task()) for _ in range(3)]
        await trio.sleep(0.5)
        world.fill(full=True)
        with pytest.raises(StoreFull):
            await node.trigger(one_task())
        await trio.sleep(300)
        assert node.session(sessions[0].session_id).session.status is SessionStatus.RUNNING, "reads go on"
        world.fill(full=False)
        for session in sessions:
            assert (await ended(node, session, within_s=60)).status is SessionStatus.COMPLETED
        assert len(got) == 3, "what was done while the store was full is not done again"


async def test_a_retry_delay_that_ends_while_the_store_is_full_ends_once_there_is_room(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node, one_task(retry={"initialDelaySeconds": 10, "jitter": False}))
        await node.fail(only_task(node, session).task_id, 1, "no")
        await node.report_state("a", "idle")
        world.fill(full=True)
        await trio.sleep(60)
        assert only_task(node, session).status is TaskStatus.PENDING_RETRY
        world.fill(full=False)
        await trio.sleep(5)
        assert only_task(node, session).attempt == 2


async def test_a_lease_that_ends_while_the_store_is_full_ends_once_there_is_room(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node, one_task(leaseSeconds=30))
        world.fill(full=True)
        await trio.sleep(60)
        assert lease_of(node, "a") is not None
        world.fill(full=False)
        await node.set_cordon("a", cordoned=True)
        await trio.sleep(1.5)
        assert lease_of(node, "a") is None
        assert only_task(node, session).status is TaskStatus.READY


def test_a_node_with_its_writer_thread_runs_the_sample_workflow_in_real_time(tmp_path: Path) -> None:
    async def main() -> SessionStatus:
        async def work(_: object) -> str:
            await trio.lowlevel.checkpoint()
            return "done"

        async with open_node(tmp_path) as node:
            await node.register_agent("w", capabilities=["test_capability", "another_capability"], handler=work)
            with trio.fail_after(30):
                sessions = [await node.trigger(SAMPLE) for _ in range(20)]
                return {(await node.wait(each.session_id)).status for each in sessions}.pop()

    assert trio.run(main) is SessionStatus.COMPLETED


async def test_a_result_larger_than_a_row_may_be_is_gathered_from_the_tasks(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path)
    document = {
        "id": "wide",
        "tasks": [{"taskId": f"t{number}", "agentCapability": "work", "dependsOn": []} for number in range(4)],
    }
    async with world.node() as node:
        await hire(node, "a", "work", result="x" * 100_000)
        session = await ended(node, await begin(node, document))
        whole = {f"t{number}": "x" * 100_000 for number in range(4)}
        assert session.result == whole
        assert node.session(session.session_id).session.result == whole
        assert [each.result for each in node.sessions().items] == [None]


async def test_sessions_of_a_status_that_does_not_exist_are_refused_and_not_none(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World(tmp_path).node() as node:
        for status in SessionStatus:
            assert node.sessions(status=status).items == node.sessions(status=status.value).items == ()
        with pytest.raises(InvalidDocument, match=r"status: expected one of started, .*, found 'done'"):
            node.sessions(status="done")


async def test_a_node_whose_dispatcher_is_down_is_not_ready(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    strike = Strike(monkeypatch, DispatcherActor, to_dispatcher.TaskReady)
    async with World(tmp_path).node() as node:
        assert node.ready() is None
        strike.armed = True
        await node.trigger(one_task())
        said = {node.ready()}
        for _ in range(1_000):
            # No time passes meanwhile, so its restart has to wait.
            await trio.lowlevel.checkpoint()
            said.add(node.ready())
        assert "/dispatcher is being restarted" in said
        await trio.sleep(60)
        assert node.ready() is None
