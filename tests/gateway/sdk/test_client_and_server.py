"""The client before a real server: each of its calls means there what it says here."""

import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio

from opscore.gateway.demo.stage import free_port, open_stage
from opscore.gateway.sdk.client import OpscoreClient, ProblemError

API_KEY = "a-key-for-this-test"
SECRET = "a-secret-for-this-test"
TEST_S_MAX = 60.0
ONE_TASK = {
    "id": "one_task",
    "name": "One task",
    "tasks": [{"taskId": "only", "name": "The only task", "agentCapability": "write", "parameters": {"pages": 2}}],
}


@asynccontextmanager
async def a_client() -> AsyncIterator[OpscoreClient]:
    port = free_port()
    async with (
        open_stage(keep=False) as stage,
        OpscoreClient(f"http://127.0.0.1:{port}", API_KEY, retry_for_s=30.0) as client,
    ):
        with trio.fail_after(TEST_S_MAX):
            await stage.start(
                "server",
                "opscore",
                ["serve", "--data", "data", "--port", str(port)],
                {"OPSCORE_API_KEY": API_KEY, "OPSCORE_WEBHOOK_SECRET": SECRET},
            )
            await client.ready()
            yield client


async def test_a_schedule_is_made_starts_its_run_and_goes() -> None:
    async with a_client() as client:
        await client.save_workflow({"id": "empty", "tasks": []})
        made = await client.create_schedule("empty", cron="* * * * * *", payload=7, schedule_id="s-1")
        again = await client.create_schedule("empty", cron="* * * * * *", payload=7, schedule_id="s-1")
        assert again["createdAt"] == made["createdAt"]
        at = datetime.now(UTC) + timedelta(days=1)
        once = await client.create_schedule("empty", at=at)
        assert datetime.fromisoformat(once["nextDueAt"]) == at
        assert {item["scheduleId"] for item in (await client.schedules(workflowId="empty")).items} == {
            "s-1", once["scheduleId"],
        }  # fmt: skip
        while not (shown := await client.schedule("s-1"))["fired"]:
            await trio.sleep(0.05)
        assert (await client.session(shown["lastSessionId"], wait_s=5.0))["payload"] == 7
        assert (await client.pause_schedule("s-1"))["paused"]
        assert not (await client.pause_schedule("s-1", paused=False))["paused"]
        await client.delete_schedule("s-1")
        with pytest.raises(ProblemError, match="schedule_not_found"):
            await client.schedule("s-1")


async def test_an_agent_claims_shows_life_and_completes() -> None:
    async with a_client() as client:
        assert (await client.health())["status"] == "ok"
        agent_id = (await client.register_agent(name="Ann", capabilities=("write",)))["agentId"]
        await client.report_state(agent_id, "idle")
        assert (await client.agent_state(agent_id))["state"] == "idle"
        assert await client.claim(agent_id) is None

        started = await client.trigger(None, ONE_TASK, {"topic": "x"}, idempotency_key="k-1")
        again = await client.trigger(None, ONE_TASK, {"topic": "x"}, idempotency_key="k-1")
        assert again.session_id == started.session_id

        claim = await client.claim(agent_id, wait_s=5.0, claim_id="c-1")
        assert claim is not None
        assert (claim.task["taskKey"], claim.task["name"], claim.attempt) == ("only", "The only task", 1)
        assert (claim.task["parameters"], claim.task["input"]) == ({"pages": 2}, {"topic": "x"})
        repeated = await client.claim(agent_id, wait_s=5.0, claim_id="c-1")
        assert repeated is not None
        assert (repeated.task_id, repeated.attempt) == (claim.task_id, claim.attempt)

        assert "T" in await client.heartbeat(claim.task_id, claim.attempt, {"pages": 1})
        assert (await client.task(claim.task_id))["progress"] == {"pages": 1}
        with pytest.raises(ProblemError) as stale:
            await client.complete(claim.task_id, claim.attempt + 1)
        assert stale.value.status == 409
        await client.complete(claim.task_id, claim.attempt, {"pages": 2})

        session = await client.session(started.session_id, wait_s=5.0)
        assert session["status"] == "completed"
        assert (await client.task(claim.task_id))["result"] == {"pages": 2}
        assert [item["sessionId"] for item in (await client.sessions(status="completed")).items] == [started.session_id]


async def test_a_report_whose_answer_was_lost_may_be_sent_again_and_another_is_refused() -> None:
    async with a_client() as client:
        await client.register_agent("ann", capabilities=("write",))
        await client.save_workflow(ONE_TASK)
        fail = functools.partial(client.fail, code="printer", retryable=False)
        reports: list[tuple[Callable[..., Awaitable[None]], Any, Any]] = [
            (client.complete, {"pages": 3}, {"pages": 2}),
            (client.complete, {"pages": (0, 1)}, {"pages": (0, True)}),
            (fail, "no paper", "no ink"),
            (fail, "of a long traceback, " * 300, "no ink"),
            (fail, "x" * 2_000_000, "no ink"),
            (fail, "no such file: \udcff", "no ink"),
        ]
        for report, said, other in reports:
            await client.trigger("ann", "one_task")
            claim = await client.claim("ann", wait_s=5.0)
            assert claim is not None
            await report(claim.task_id, claim.attempt, said)
            await report(claim.task_id, claim.attempt, said)
            for attempt, again in ((claim.attempt, other), (claim.attempt + 1, said)):
                with pytest.raises(ProblemError) as stale:
                    await report(claim.task_id, attempt, again)
                assert stale.value.code == "stale_attempt"


async def test_a_failure_that_is_not_retryable_ends_the_run() -> None:
    async with a_client() as client:
        await client.register_agent("ann", capabilities=("write",))
        await client.save_workflow(ONE_TASK)
        started = await client.trigger("ann", "one_task")
        claim = await client.claim("ann", wait_s=5.0)
        assert claim is not None
        await client.fail(claim.task_id, claim.attempt, "no paper", code="printer", retryable=False)
        session = await client.session(started.session_id, wait_s=5.0)
        assert session["status"] == "failed"
        assert session["tasks"][0]["error"] == {"code": "printer", "message": "no paper"}


async def test_a_webhook_registers_and_deregisters() -> None:
    async with a_client() as client:
        about = {"agentId": "ann", "agentName": "Ann", "capabilities": ["write"]}
        await client.notify("REGISTER", about, secret=SECRET)
        assert (await client.agent("ann"))["agentName"] == "Ann"
        assert [agent["agentId"] for agent in (await client.agents(capability="write")).items] == ["ann"]
        await client.notify("DEREGISTER", {"agentId": "ann"}, secret=SECRET)
        with pytest.raises(ProblemError) as unknown:
            await client.agent("ann")
        assert unknown.value.status == 404
        with pytest.raises(ProblemError) as unsigned:
            await client.notify("REGISTER", about)
        assert unsigned.value.status == 401


async def test_a_refusal_names_every_fault() -> None:
    async with a_client() as client:
        with pytest.raises(ProblemError) as refused:
            await client.save_workflow({"id": "bad", "tasks": [{"taskId": "a", "nmae": "x"}, {"taskId": "a"}]})
        assert refused.value.status == 422
        assert len(refused.value.errors) >= 2
        assert all(fault["path"] and fault["message"] for fault in refused.value.errors)
        await client.register_agent("ann")
        await client.deregister_agent("ann")
        with pytest.raises(ProblemError) as unknown:
            await client.report_state("ann", "idle")
        assert unknown.value.status == 404
