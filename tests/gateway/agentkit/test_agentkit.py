"""The sample workflow through AgentKit: three kinds of processes that know each other by HTTP alone."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from opscore.gateway.demo.stage import Lines, Stage, free_port, open_stage
from opscore.gateway.demo.workflows import sample_workflow
from opscore.gateway.sdk.client import OpscoreClient

API_KEY = "a-key-for-this-test"
WEBHOOK_SECRET = "a-secret-for-this-test"
READY_S = 30.0
TEST_S_MAX = 60.0


@attrs.frozen(kw_only=True)
class World:
    """A server that talks to AgentKit, and a client of it."""

    stage: Stage
    url: str
    agentkit_port: int
    client: OpscoreClient

    @property
    def agentkit_url(self) -> str:
        return f"http://127.0.0.1:{self.agentkit_port}"

    async def start_agentkit(self, *more: str, webhook: bool = True) -> trio.Process:
        notify = ["--webhook-url", f"{self.url}/v1/opscore/internal/agent/notify"] if webhook else []
        process = await self.stage.start(
            "agentkit",
            "tests.gateway.agentkit_process",
            ["--port", str(self.agentkit_port), *notify, *more],
            {"OPSCORE_WEBHOOK_SECRET": WEBHOOK_SECRET, "PYTHONPATH": str(Path.cwd())},
            talks=True,
        )
        assert process.stdout is not None
        await anext(Lines(process.stdout))
        return process

    async def start_agent(self, name: str, kind: str, *capabilities: str) -> trio.Process:
        """Start an agent that knows AgentKit for introductions and the server for its reports."""
        arguments = ["--kind", kind, "--id", name, "--url", self.url, "--agentkit-url", self.agentkit_url]
        for capability in capabilities:
            arguments += ["--capability", capability]
        process = await self.stage.start(
            name,
            "opscore.gateway.demo.agents",
            [*arguments, "--work-min-s", "0", "--work-max-s", "0.05"],
            {"OPSCORE_API_KEY": API_KEY},
            talks=True,
        )
        assert process.stdout is not None
        async for line in Lines(process.stdout):
            if '"ready"' in line:
                return process
        raise AssertionError(self.stage.log_path(name).read_text())

    async def run_sample(self) -> dict[str, Any]:
        started = await self.client.trigger(None, sample_workflow(), {"from": "a test"})
        return await self.client.session(started.session_id, wait_s=TEST_S_MAX)


@asynccontextmanager
async def a_world() -> AsyncIterator[World]:
    port, agentkit_port = free_port(), free_port()
    url = f"http://127.0.0.1:{port}"
    async with (
        open_stage(keep=False) as stage,
        OpscoreClient(url, API_KEY, retry_for_s=READY_S) as client,
    ):
        with trio.fail_after(READY_S + TEST_S_MAX):
            await stage.start(
                "server",
                "opscore",
                ["serve", "--data", "data", "--host", "127.0.0.1", "--port", str(port)],
                {
                    "OPSCORE_API_KEY": API_KEY,
                    "OPSCORE_WEBHOOK_SECRET": WEBHOOK_SECRET,
                    "AGENTKIT_API_URL": f"http://127.0.0.1:{agentkit_port}",
                    "OPSCORE_AGENTKIT_POLL_S": "0.2",
                },
            )
            await client.ready()
            yield World(stage=stage, url=url, agentkit_port=agentkit_port, client=client)


@pytest.mark.parametrize("mode", [(), ("--answer-at-once",)], ids=["waits-for-the-agent", "answers-at-once"])
async def test_the_sample_runs_through_agentkit_and_two_agents(mode: tuple[str, ...]) -> None:
    async with a_world() as world:
        await world.start_agentkit(*mode)
        await world.start_agent("first", "reporting", "test_capability")
        await world.start_agent("second", "reporting", "another_capability")
        session = await world.run_sample()
        agents = {agent["agentId"]: agent["agentName"] for agent in (await world.client.agents()).items}
    assert session["status"] == "completed"
    assert [(task["taskKey"], task["status"], task["attempt"]) for task in session["tasks"]] == [
        ("step_1", "completed", 1),
        ("step_2", "completed", 1),
    ]
    assert [agents[task["agentId"]] for task in session["tasks"]] == ["first", "second"]


async def test_the_sample_runs_with_agents_whose_webhooks_never_came() -> None:
    async with a_world() as world:
        await world.start_agentkit(webhook=False)
        await world.start_agent("only", "reporting", "test_capability", "another_capability")
        session = await world.run_sample()
        (agent,) = (await world.client.agents()).items
    assert session["status"] == "completed"
    assert (agent["agentName"], agent["source"]) == ("only", "agentkit")


async def test_an_agents_answer_that_comes_back_through_agentkit_completes_its_task() -> None:
    async with a_world() as world:
        await world.start_agentkit()
        await world.start_agent("only", "answering", "test_capability", "another_capability")
        session = await world.run_sample()
    assert session["status"] == "completed"
    assert [task["result"]["did"] for task in session["tasks"]] == ["First Step", "Second Step"]


async def test_a_run_waits_while_agentkit_is_away_and_spends_no_retry_on_it() -> None:
    async with a_world() as world:
        agentkit = await world.start_agentkit()
        await world.start_agent("first", "reporting", "test_capability", "another_capability")
        agentkit.kill()
        await agentkit.wait()
        started = await world.client.trigger(None, sample_workflow())
        # AgentKit comes back having forgotten everyone, until an agent introduces itself.
        await world.start_agentkit()
        await world.start_agent("second", "reporting", "test_capability", "another_capability")
        session = await world.client.session(started.session_id, wait_s=TEST_S_MAX)
    assert session["status"] == "completed"
    assert [task["retries"] for task in session["tasks"]] == [0, 0]
