"""Draining an agent, as an operator does it over HTTP and with the SDK."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from opscore.gateway.sdk.client import OpscoreClient, ProblemError
from tests.gateway.gateway_process import (
    API_KEY,
    PATIENCE_S,
    POLL_S,
    GatewayProcess,
    Wire,
    faults,
    gateway,
    name,
    one_task,
    problem,
)
from tests.gateway.scripted_server import Answer, scripted_server

SOON_S = 10.0
"""A drain that has to end early waits for longer than this."""


def at_work(wire: Wire) -> tuple[str, str]:
    """An agent and the task that it has in hand."""
    capability = name("cap")
    agent_id = wire.register(capability)
    wire.trigger(one_task(capability))
    return agent_id, str(wire.claimed(agent_id)["task"]["taskId"])


def until_cordoned(wire: Wire, agent_id: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not wire.get(f"/agent/{agent_id}").json()["cordoned"]:
        assert time.monotonic() < deadline
        time.sleep(POLL_S)


def test_an_agent_without_work_is_drained_and_shown(wire: Wire) -> None:
    agent_id = wire.register()
    answer = wire.post(f"/agent/{agent_id}/drain")
    assert answer.status_code == 200
    assert answer.json() == {**wire.get(f"/agent/{agent_id}").json(), "drained": True}
    assert (answer.json()["cordoned"], answer.json()["lease"]) == (True, None)


def test_a_drain_is_answered_once_the_agent_has_ended_its_task(server: GatewayProcess, wire: Wire) -> None:
    agent_id, task_id = at_work(wire)
    with ThreadPoolExecutor(1) as pool:
        draining = pool.submit(Wire(http=server.client()).post, f"/agent/{agent_id}/drain", waitSeconds=60)
        until_cordoned(wire, agent_id)
        begun = time.monotonic()
        assert wire.post(f"/task/{task_id}/complete", {"attempt": 1}).status_code == 200
        answer = draining.result(PATIENCE_S)
    assert time.monotonic() - begun < SOON_S
    assert (answer.json()["drained"], answer.json()["lease"]) == (True, None)
    assert wire.claim(agent_id, wait_s=0.3).status_code == 204


def test_a_drain_that_is_not_waited_for_shows_the_lease_that_is_left(wire: Wire) -> None:
    agent_id, task_id = at_work(wire)
    for wait_s in ("0", "0.2"):
        shown = wire.post(f"/agent/{agent_id}/drain", waitSeconds=wait_s).json()
        assert (shown["drained"], shown["cordoned"], shown["lease"]["taskId"]) == (False, True, task_id)


def test_a_drain_is_answered_early_when_the_agent_is_put_back(server: GatewayProcess, wire: Wire) -> None:
    agent_id, _ = at_work(wire)
    with ThreadPoolExecutor(1) as pool:
        draining = pool.submit(Wire(http=server.client()).post, f"/agent/{agent_id}/drain", waitSeconds=60)
        until_cordoned(wire, agent_id)
        time.sleep(0.1)
        begun = time.monotonic()
        wire.post(f"/agent/{agent_id}/uncordon")
        shown = draining.result(PATIENCE_S).json()
    assert time.monotonic() - begun < SOON_S
    assert (shown["drained"], shown["cordoned"]) == (False, False)


def test_a_drain_is_answered_early_when_the_server_stops(tmp_path: Path) -> None:
    with gateway(tmp_path / "data") as (process, wire), ThreadPoolExecutor(1) as pool:
        agent_id, _ = at_work(wire)
        draining = pool.submit(Wire(http=process.client()).post, f"/agent/{agent_id}/drain", waitSeconds=60)
        until_cordoned(wire, agent_id)
        time.sleep(0.1)
        begun = time.monotonic()
        assert process.end() == 0
        assert draining.result(PATIENCE_S).json()["drained"] is False
    assert time.monotonic() - begun < SOON_S


def test_an_unknown_agent_can_not_be_drained(wire: Wire) -> None:
    problem(wire.post("/agent/nobody/drain", waitSeconds=1), 404, "agent_not_found")


@pytest.mark.parametrize("wait", ["-1", "soon", "nan", "inf"])
def test_a_wait_that_is_no_number_of_seconds_is_422_and_changes_nothing(wire: Wire, wait: str) -> None:
    agent_id = wire.register()
    assert set(faults(wire.post(f"/agent/{agent_id}/drain", waitSeconds=wait))) == {"waitSeconds"}
    assert wire.get(f"/agent/{agent_id}").json()["cordoned"] is False


async def test_the_sdk_drains_an_agent_and_puts_it_back(server: GatewayProcess) -> None:
    async with OpscoreClient(server.url, API_KEY) as client:
        agent_id = (await client.register_agent(capabilities=(name("cap"),)))["agentId"]
        drained = await client.drain_agent(agent_id, wait_s=5)
        assert (drained["agentId"], drained["drained"], drained["cordoned"]) == (agent_id, True, True)
        assert (await client.cordon_agent(agent_id, cordoned=False))["cordoned"] is False
        assert (await client.cordon_agent(agent_id))["cordoned"] is True
        with pytest.raises(ProblemError) as refused:
            await client.drain_agent("nobody")
        assert (refused.value.status, refused.value.code) == (404, "agent_not_found")


async def test_the_sdk_says_how_long_a_drain_may_take_and_repeats_it() -> None:
    with scripted_server(Answer(hang_up=True), Answer(document={"drained": True})) as server:
        async with OpscoreClient(server.url, retry_for_s=5.0) as client:
            await client.drain_agent("a/1", wait_s=2.5)
            await client.drain_agent("a/1")
    paths = [call.path for call in server.asked]
    assert paths == [*["/v1/opscore/agent/a%2F1/drain?waitSeconds=2.5"] * 2, "/v1/opscore/agent/a%2F1/drain"]
