"""Delivery through AgentKit: to which URL, for whom, and that it goes before the contact endpoint."""

import functools
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from opscore.gateway.agentkit.agentkit import AgentKit
from opscore.gateway.outbound import outbound
from opscore.runtime.delivery import Answered, Broken, Fact, NotReached
from opscore.runtime.models import Agent, AgentSource
from tests.gateway.gateway_process import Wire, gateway, one_task
from tests.gateway.raw_server import ASSIGNMENT, answer, free_port, raw_server, saying
from tests.gateway.scripted_server import Answer, ScriptedServer, scripted_server
from tests.gateway.server_thread import eventually


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with outbound.open_client() as opened:
        yield opened


def an_agent(agent_id: str = "ada", source: AgentSource = AgentSource.AGENTKIT) -> Agent:
    return Agent(agent_id=agent_id, name="Ada", source=source, registered_at=0.0)


async def delivered(client: httpx.AsyncClient, base_url: str, agent_id: str = "ada") -> Fact:
    return await AgentKit(client, base_url, timeout_s=5.0).deliver(ASSIGNMENT, an_agent(agent_id))


async def test_only_agents_that_agentkit_introduced_are_reached(client: httpx.AsyncClient) -> None:
    agentkit = AgentKit(client, "http://agentkit", timeout_s=1.0)
    assert agentkit.reaches(an_agent())
    assert not agentkit.reaches(an_agent(source=AgentSource.API))
    assert not agentkit.reaches(an_agent(source=AgentSource.LOCAL))


@pytest.mark.parametrize(
    ("agent_id", "path"),
    [
        ("ada", "/base/v1/agents/ada/run"),
        ("a b", "/base/v1/agents/a%20b/run"),
        ("../x?y#z", "/base/v1/agents/..%2Fx%3Fy%23z/run"),
        ("ä", "/base/v1/agents/%C3%A4/run"),
    ],
)
async def test_the_attempt_goes_to_the_run_of_the_agent(client: httpx.AsyncClient, agent_id: str, path: str) -> None:
    async with raw_server(saying(answer(202))) as agentkit:
        for slash in ("", "/"):
            fact = await delivered(client, f"http://127.0.0.1:{agentkit.port}/base{slash}", agent_id)
            assert fact == Answered(status=202, body="")
    assert [sent.first_line for sent in agentkit.sent] == [f"POST {path} HTTP/1.1"] * 2
    assert agentkit.sent[0].document == outbound.run_message(ASSIGNMENT)


async def test_an_agentkit_that_is_away_or_breaks_is_told_as_such(client: httpx.AsyncClient) -> None:
    assert isinstance(await delivered(client, f"http://127.0.0.1:{free_port()}"), NotReached)
    async with raw_server(saying(b"")) as agentkit:
        assert isinstance(await delivered(client, f"http://127.0.0.1:{agentkit.port}"), Broken)


def was_asked(peer: ScriptedServer) -> bool:
    return any(call.method == "POST" for call in peer.asked)


def run_to_the_end(wire: Wire, agent_id: str, capability: str, handed: Callable[[], bool]) -> dict[str, object]:
    wire.report(agent_id, "idle")
    session_id = wire.trigger(one_task(capability))
    task = wire.until_task(session_id, "dispatched")
    assert eventually(handed), "an agent works on a task once it has it"
    wire.report(agent_id, "active")
    wire.report(agent_id, "idle", {"opscore_task_id": task["taskId"], "opscore_attempt": 1, "result": agent_id})
    return wire.ended(session_id)


def test_agentkit_goes_before_the_contact_endpoint_for_those_it_introduced(tmp_path: Path) -> None:
    with (
        scripted_server(Answer(status=202)) as agentkit,
        scripted_server(Answer(status=202)) as endpoint,
        gateway(tmp_path / "data", AGENTKIT_API_URL=agentkit.url, OPSCORE_AGENTKIT_POLL_S="0") as (_, wire),
    ):
        details = {"agentId": "theirs", "capabilities": ["theirs"], "contactEndpoint": f"{endpoint.url}/run"}
        wire.post("/internal/agent/notify", {"event_type": "REGISTER", "agent_details": details})
        wire.register("ours", agent_id="ours", endpoint=f"{endpoint.url}/run")
        for agent_id, peer in (("theirs", agentkit), ("ours", endpoint)):
            ended = run_to_the_end(wire, agent_id, agent_id, functools.partial(was_asked, peer))
            assert ended["result"] == {"only": agent_id}
    assert [call.path for call in agentkit.asked if call.method == "POST"] == ["/v1/agents/theirs/run"]
    assert [call.path for call in endpoint.asked] == ["/run"]


def test_without_agentkit_those_it_introduced_are_pushed_to(wire: Wire) -> None:
    with scripted_server(Answer(status=202)) as endpoint:
        details = {"agentId": "orphan", "capabilities": ["orphan"], "contactEndpoint": f"{endpoint.url}/run"}
        wire.post("/internal/agent/notify", {"event_type": "REGISTER", "agent_details": details})
        ended = run_to_the_end(wire, "orphan", "orphan", functools.partial(was_asked, endpoint))
        assert ended["result"] == {"only": "orphan"}
    assert len(endpoint.asked) == 1


def test_an_agent_that_agentkit_forgot_gets_its_task_later(tmp_path: Path) -> None:
    done = Answer(status=200, document={"status": "success", "data": {"status": "completed", "result": 1}})
    with (
        scripted_server(Answer(status=404), done) as agentkit,
        gateway(tmp_path / "data", AGENTKIT_API_URL=agentkit.url, OPSCORE_AGENTKIT_POLL_S="0") as (_, wire),
    ):
        details = {"agentId": "ada", "capabilities": ["c"]}
        wire.post("/internal/agent/notify", {"event_type": "REGISTER", "agent_details": details})
        wire.report("ada", "idle")
        session_id = wire.trigger(one_task("c"))
        # Nobody reports: the suspicion ends by itself, and the task is offered again.
        task = wire.ended(session_id)["tasks"][0]
    assert (task["status"], task["retries"], task["attempt"]) == ("completed", 0, 2)


def test_a_tool_is_invoked_as_agentkit_takes_it_and_its_answer_is_the_result(tmp_path: Path) -> None:
    done = {"status": "success", "message": "Local tool 'add' executed successfully.", "data": {"sum": 3}}
    call = {"tool": "add", "arguments": {"a": "${input.a}", "b": 2}}
    with (
        scripted_server(Answer(status=200, document=done)) as agentkit,
        gateway(tmp_path / "data", AGENTKIT_API_URL=agentkit.url) as (_, wire),
    ):
        details = {"agentId": "ada", "capabilities": ["c"]}
        wire.post("/internal/agent/notify", {"event_type": "REGISTER", "agent_details": details})
        wire.report("ada", "idle")
        tasks = [{"taskId": "only", "type": "tool", "agentCapability": "c", "parameters": call}]
        session_id = wire.trigger({"id": "w", "tasks": tasks}, payload={"a": 1})
        assert wire.ended(session_id)["result"] == {"only": {"sum": 3}}
    (asked,) = [each for each in agentkit.asked if each.method == "POST"]
    assert asked.path == "/v1/agents/ada/run"
    message = asked.document
    assert message["messageType"] == "tool_invocation"
    assert message["payload"]["tool_name"] == "add"
    assert message["payload"]["arguments"] == {"a": 1, "b": 2}
    assert message["opscore_attempt"] == message["payload"]["opscore_attempt"] == 1
