"""The demo's agents as the processes they are, before a server that says what the test tells it to."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import trio

from opscore.gateway.demo.agents import Order
from opscore.gateway.demo.stage import Lines, free_port
from tests.gateway.scripted_server import Answer, Asked, ScriptedServer, answering_server

AGENT_S_MAX = 60.0
"""Bounds a test that hangs, with its agent's start, which on a machine with much else to do takes a third of it."""
OK = Answer(status=202, document={"status": "success", "message": "noted"})
NO_TASK = Answer(status=204)
PUSH = {
    "senderId": "opscore_system_id",
    "messageType": "workflow_task",
    "payload": {"task_name": "Look", "task_parameters": {}},
    "sessionContext": {"workflowId": "w-1", "sessionId": "s-1", "taskId": "t-1"},
    "task_name": "Look",
    "opscore_session_id": "s-1",
    "opscore_task_id": "t-1",
    "opscore_attempt": 1,
}


class AgentProcess:
    def __init__(self, process: trio.Process) -> None:
        assert process.stdout is not None
        self.process = process
        self.notes = Lines(process.stdout)

    async def until(self, event: str) -> dict[str, Any]:
        """Wait for the next note of one kind."""
        async for line in self.notes:
            note: dict[str, Any] = json.loads(line)
            if note["event"] == event:
                return note
        raise AssertionError


@asynccontextmanager
async def an_agent(kind: str, url: str, *more: str) -> AsyncIterator[AgentProcess]:
    arguments = ["--kind", kind, "--id", "ann", "--capability", "look", "--url", url, *more]
    process = await trio.lowlevel.open_process(
        [
            sys.executable,
            "-m",
            "opscore.gateway.demo.agents",
            *arguments,
            "--work-min-s",
            "0",
            "--work-max-s",
            "0.1",
        ],
        stdout=subprocess.PIPE,
        env={**os.environ, "OPSCORE_API_KEY": "a-key"},
    )
    try:
        with trio.fail_after(AGENT_S_MAX):
            yield AgentProcess(process)
    finally:
        process.terminate()
        with trio.CancelScope(shield=True):
            await process.wait()


def reports(server: ScriptedServer) -> list[str]:
    return [call.document["state"] for call in server.asked if call.path.endswith("/state")]


def contact_endpoint(server: ScriptedServer) -> str:
    [registration] = [call.document for call in server.asked if call.path == "/v1/opscore/agent"]
    return str(registration["contactEndpoint"])


async def push(url: str, body: dict[str, Any]) -> Any:
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.post(url, json=body)
        assert answer.status_code == 200
        return answer.json()


async def until(happened: Callable[[], bool]) -> None:
    while not happened():
        await trio.sleep(0.01)


@pytest.mark.parametrize("kind", ["reporting", "answering", "claiming"])
async def test_an_agent_registers_reports_idle_and_ends_well_on_sigterm(kind: str) -> None:
    with answering_server(lambda call: NO_TASK if "claim" in call.path else OK) as server:
        async with an_agent(kind, server.url) as agent:
            assert (await agent.until("ready"))["agent"] == "ann"
            agent.process.send_signal(signal.SIGTERM)
            assert await agent.process.wait() == 0
    registration = server.asked[0]
    assert registration.headers["authorization"] == "Bearer a-key"
    assert (registration.document["agentId"], registration.document["capabilities"]) == ("ann", ["look"])
    assert ("contactEndpoint" in registration.document) is (kind != "claiming")
    assert reports(server) == ["idle"]


async def test_a_reporting_agent_says_active_and_idle_and_never_names_its_task() -> None:
    with answering_server(lambda _: OK) as server:
        async with an_agent("reporting", server.url) as agent:
            await agent.until("ready")
            assert (await push(contact_endpoint(server), PUSH))["status"] == "received"
            assert (await agent.until("did"))["taskId"] == "t-1"
            await until(lambda: len(reports(server)) == 3)
    assert reports(server) == ["idle", "active", "idle"]
    assert not any("details" in call.document for call in server.asked if call.path.endswith("/state"))


async def test_a_reporting_agent_does_a_task_once_that_is_pushed_twice() -> None:
    with answering_server(lambda _: OK) as server:
        async with an_agent("reporting", server.url) as agent:
            await agent.until("ready")
            await push(contact_endpoint(server), PUSH)
            await agent.until("did")
            await until(lambda: len(reports(server)) == 3)
            await push(contact_endpoint(server), PUSH)
            await agent.until("again")
            await push(contact_endpoint(server), {**PUSH, "opscore_attempt": 2})
            assert (await agent.until("did"))["attempt"] == 2


async def test_what_cannot_be_delivered_is_tried_until_the_server_is_back() -> None:
    port = free_port()
    async with an_agent("reporting", f"http://127.0.0.1:{port}") as agent:
        await agent.until("away")
        with answering_server(lambda _: OK, port=port) as server:
            await agent.until("back")
            await agent.until("ready")
            url = contact_endpoint(server)
        await push(url, PUSH)
        await agent.until("away")
        answers = iter([Answer(hang_up=True), Answer(status=503)])
        with answering_server(lambda _: next(answers, OK), port=port) as server:
            await agent.until("back")
            await until(lambda: len(reports(server)) == 4)
    assert reports(server) == ["active", "active", "active", "idle"]
    # The report that got through at last is the one that was made first.
    assert len({call.body for call in server.asked[:3]}) == 1


async def test_an_answering_agent_answers_with_its_result_and_the_same_one_when_asked_again() -> None:
    with answering_server(lambda _: OK) as server:
        async with an_agent("answering", server.url) as agent:
            await agent.until("ready")
            answers: list[Any] = []

            async def ask() -> None:
                answers.append(await push(contact_endpoint(server), PUSH))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                nursery.start_soon(ask)
            await ask()
            await agent.until("again")
    assert answers[0]["status"] == "completed"
    assert answers[0]["result"]["by"] == "ann"
    assert answers == answers[:1] * 3
    assert reports(server) == ["idle"]


async def test_a_claiming_agent_shows_life_and_reports_its_result() -> None:
    claimed = claim_answer("t-1", attempt=4)
    answers = {"claim": iter([NO_TASK, claimed]), "complete": iter([Answer(document={"status": "success"})])}

    def answer_to(call: Asked) -> Answer:
        what = call.path.partition("?")[0].rpartition("/")[2]
        if what == "heartbeat":
            return Answer(document={"leaseExpiresAt": "2030-01-01T00:00:00Z"})
        return next(answers[what], NO_TASK) if what in answers else OK

    with answering_server(answer_to) as server:
        async with an_agent("claiming", server.url):
            await until(lambda: any(call.path.endswith("/complete") for call in server.asked))
    said = [(call.path, call.document) for call in server.asked if "/task/" in call.path]
    assert said[0] == ("/v1/opscore/task/t-1/heartbeat", {"attempt": 4})
    assert said[1][0] == "/v1/opscore/task/t-1/complete"
    assert said[1][1]["attempt"] == 4
    assert said[1][1]["result"]["by"] == "ann"
    claim_ids = [call.document["claimId"] for call in server.asked if "/claim" in call.path]
    assert len(claim_ids) == len(set(claim_ids))


async def test_a_claiming_agent_goes_on_when_its_attempt_is_no_longer_current() -> None:
    stale = Answer(status=409, document={"code": "stale_attempt", "title": "Stale", "detail": "Attempt 1 is over."})
    claims = iter([claim_answer("t-1"), claim_answer("t-2")])

    def answer_to(call: Asked) -> Answer:
        if "/claim" in call.path:
            return next(claims, NO_TASK)
        return stale if "/task/" in call.path else OK

    with answering_server(answer_to) as server:
        async with an_agent("claiming", server.url):
            await until(lambda: any("/task/t-2/" in call.path for call in server.asked))
    assert [call.path.split("/")[4] for call in server.asked if "/task/" in call.path][:2] == ["t-1", "t-2"]


def test_an_order_is_read_from_what_agentkit_lets_through() -> None:
    forwarded = {
        "payload": {"task_name": "Look"},
        "sessionContext": {"sessionId": "s-1", "priorMessages": []},
        "task_name": None,
        "opscore_session_id": "s-1",
        "opscore_task_id": "t-1",
    }
    assert Order.from_push(forwarded) == Order(task_id="t-1", session_id="s-1", name="Look", attempt=None)
    assert Order.from_push(PUSH) == Order(task_id="t-1", session_id="s-1", name="Look", attempt=1)
    context_only = {"payload": PUSH["payload"], "sessionContext": PUSH["sessionContext"]}
    assert Order.from_push(context_only) == Order(task_id="t-1", session_id="s-1", name="Look", attempt=None)


def claim_answer(task_id: str, *, attempt: int = 1) -> Answer:
    return Answer(
        document={
            "task": {"taskId": task_id, "taskKey": "look", "name": "Look", "sessionId": "s-1"},
            "attempt": attempt,
            "leaseSeconds": 900,
            "leaseExpiresAt": "2030-01-01T00:00:00Z",
            "timeoutSeconds": 3_600,
        }
    )
