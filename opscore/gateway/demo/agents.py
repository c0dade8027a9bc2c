"""The demo's agents: separate processes that speak HTTP, of the three kinds there are.

A *reporting* agent takes a push and reports `active`, then `idle`, without ever naming a task, as agents written
for Ops-Core do. An *answering* agent answers the push with its result. A *claiming* agent long-polls, and needs no
address of its own. All of them survive the death of the server: they repeat each call until it succeeds, and do a
task once even if it is delivered twice.

    python -m opscore.gateway.demo.agents --kind claiming --id scribe --capability write --url http://...

The API key is read from `OPSCORE_API_KEY`. An agent prints what it does as JSON lines on standard output.
"""

import argparse
import json
import math
import os
import random
import signal
import sys
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import anyio
import anyio.abc
import attrs
import httpx

from opscore.actors.backoff import Backoff
from opscore.gateway.demo.contact import serve_contact
from opscore.gateway.sdk.client import ClientError, OpscoreClient, ProblemError

CLAIM_WAIT_S = 10.0
INTRODUCTION_S = 10.0
"""How long AgentKit may take to tell the server about an agent that registered with it, in seconds."""
PAUSE = Backoff(initial_s=0.05, max_s=0.4)

ValueT = TypeVar("ValueT")


@attrs.frozen(kw_only=True)
class AgentSettings:
    """The command-line options of one agent process."""

    kind: str
    agent_id: str
    capabilities: tuple[str, ...]
    url: str
    agentkit_url: str | None
    work_s: tuple[float, float]
    """The shortest and the longest time that a task takes."""
    seed: int | None


@attrs.frozen(kw_only=True)
class Order:
    """One task that the agent was asked to do."""

    task_id: str
    session_id: str
    name: str
    attempt: int | None
    """None if it came through AgentKit, which forwards only the fields that it knows."""

    @classmethod
    def from_push(cls, body: dict[str, Any]) -> "Order":
        """Read a pushed body, whether it came from the server or through AgentKit."""
        context = body.get("sessionContext") or {}
        payload = body.get("payload") or {}
        return cls(
            task_id=body.get("opscore_task_id") or context["taskId"],
            session_id=body.get("opscore_session_id") or context["sessionId"],
            name=body.get("task_name") or payload.get("task_name", ""),
            attempt=body.get("opscore_attempt"),
        )


class Worker:
    """What all kinds of agents do: register, work, print what they do, and survive the death of the server."""

    def __init__(self, settings: AgentSettings, api_key: str | None) -> None:
        self.settings = settings
        self.agent_id = settings.agent_id
        self.client = OpscoreClient(
            settings.url, api_key, retry_for_s=math.inf, backoff=PAUSE, on_retry=self.note_retry
        )
        self._random = random.Random(settings.seed)
        self._away_since: float | None = None

    def tell(self, event: str, **facts: Any) -> None:
        """Print an event to standard output."""
        print(json.dumps({"agent": self.agent_id, "event": event, **facts}), flush=True)

    def note_retry(self, error: ClientError, pause_s: float) -> None:
        """Print once that the server is away, however often calls are repeated."""
        if self._away_since is None:
            self._away_since = anyio.current_time()
            self.tell("away", why=type(error).__name__)

    async def through(self, call: Awaitable[ValueT]) -> ValueT:
        """Await a call, and print an event if it is the first to succeed again."""
        value = await call
        if self._away_since is not None:
            self.tell("back", afterSeconds=round(anyio.current_time() - self._away_since, 2))
            self._away_since = None
        return value

    async def work(self, order: Order) -> dict[str, Any]:
        """Wait for as long as the task takes, and make up its result."""
        facts = {"taskId": order.task_id, "sessionId": order.session_id, "task": order.name}
        self.tell("took", attempt=order.attempt, **facts)
        await anyio.sleep(self._random.uniform(*self.settings.work_s))
        self.tell("did", attempt=order.attempt, **facts)
        return {"by": self.agent_id, "did": order.name, "findings": self._random.randint(1, 9)}

    async def introduce(self, contact_endpoint: str | None) -> None:
        """Register, with the server or through AgentKit, and report idle."""
        if self.settings.agentkit_url is None:
            registered = self.client.register_agent(
                self.agent_id,
                name=self.agent_id,
                version="1.0",
                capabilities=self.settings.capabilities,
                contact_endpoint=contact_endpoint,
            )
            await self.through(registered)
        else:
            self.agent_id = await register_with_agentkit(
                self.settings.agentkit_url,
                {
                    "agentName": self.agent_id,
                    "version": "1.0",
                    "capabilities": self.settings.capabilities,
                    "contactEndpoint": contact_endpoint,
                },
            )
        await self._report_first_idle()
        self.tell("ready", kind=self.settings.kind)

    async def _report_first_idle(self) -> None:
        # AgentKit answers a registration before it tells the server, which does not know the agent until then.
        ends_at = anyio.current_time() + (INTRODUCTION_S if self.settings.agentkit_url else 0.0)
        while True:
            try:
                return await self.through(self.client.report_state(self.agent_id, "idle"))
            except ProblemError as error:
                if error.status != httpx.codes.NOT_FOUND or anyio.current_time() > ends_at:
                    raise
            await anyio.sleep(PAUSE.max_s)


async def register_with_agentkit(url: str, document: dict[str, Any]) -> str:
    """Register with AgentKit, which draws the agent's id."""
    async with httpx.AsyncClient(trust_env=False) as http:
        response = await http.post(f"{url}/v1/agents/register", json=document)
        response.raise_for_status()
        return str(response.json()["data"]["agentId"])


async def run_reporting(worker: Worker) -> None:
    """Take pushes, and report active before the work and idle after it, without naming the task."""
    under_way: set[str] = set()
    done: set[tuple[str, int]] = set()

    async def do(order: Order) -> None:
        try:
            await worker.through(worker.client.report_state(worker.agent_id, "active"))
            await worker.work(order)
            if order.attempt is not None:
                done.add((order.task_id, order.attempt))
            await worker.through(worker.client.report_state(worker.agent_id, "idle"))
        finally:
            under_way.discard(order.task_id)

    async with anyio.create_task_group() as tasks:

        async def on_push(body: dict[str, Any]) -> dict[str, Any]:
            order = Order.from_push(body)
            if order.task_id in under_way or (order.task_id, order.attempt) in done:
                worker.tell("again", taskId=order.task_id, task=order.name)
            else:
                under_way.add(order.task_id)
                tasks.start_soon(do, order)
            return {"status": "received", "message": "Acknowledged"}

        await serve_contact(on_push, worker.introduce)


async def run_answering(worker: Worker) -> None:
    """Take pushes, and answer each with its result."""
    results: dict[tuple[str, int | None], dict[str, Any]] = {}
    under_way: dict[tuple[str, int | None], anyio.Event] = {}

    async def on_push(body: dict[str, Any]) -> dict[str, Any]:
        order = Order.from_push(body)
        key = (order.task_id, order.attempt)
        if key in under_way:
            worker.tell("again", taskId=order.task_id, task=order.name)
            await under_way[key].wait()
        else:
            under_way[key] = anyio.Event()
            results[key] = await worker.work(order)
            under_way[key].set()
        return {"status": "completed", "result": results[key]}

    await serve_contact(on_push, worker.introduce)


async def run_claiming(worker: Worker) -> None:
    """Ask for one task after the other."""
    await worker.introduce(None)
    while True:
        # One id for each claim, so that if its answer is lost, the client's next try gets the same task.
        claim_id = uuid.uuid4().hex
        claiming = worker.client.claim(worker.agent_id, wait_s=CLAIM_WAIT_S, claim_id=claim_id)
        claim = await worker.through(claiming)
        if claim is None:
            continue
        task = claim.task
        order = Order(
            task_id=claim.task_id,
            session_id=task["sessionId"],
            name=task.get("name", ""),
            attempt=claim.attempt,
        )
        try:
            await worker.through(worker.client.heartbeat(claim.task_id, claim.attempt))
            result = await worker.work(order)
            await worker.through(worker.client.complete(claim.task_id, claim.attempt, result))
        except ProblemError as error:
            # An earlier try succeeded and its answer was lost, or the attempt is no longer this agent's.
            if error.status != httpx.codes.CONFLICT:
                raise


KINDS: dict[str, tuple[Callable[[Worker], Coroutine[Any, Any, None]], str]] = {
    # uvicorn, which serves the contact endpoint, needs asyncio; the client works with both.
    "reporting": (run_reporting, "asyncio"),
    "answering": (run_answering, "asyncio"),
    "claiming": (run_claiming, "trio"),
}


async def run_agent(settings: AgentSettings, api_key: str | None) -> None:
    """Run an agent until SIGTERM or SIGINT comes."""
    run, _ = KINDS[settings.kind]
    worker = Worker(settings, api_key)
    async with worker.client, anyio.create_task_group() as tasks:
        tasks.start_soon(run, worker)
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _number in signals:
                tasks.cancel_scope.cancel()


def read_settings(arguments: list[str]) -> AgentSettings:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m opscore.gateway.demo.agents", description=__doc__)
    parser.add_argument("--kind", choices=sorted(KINDS), required=True)
    parser.add_argument("--id", required=True, help="the agent's id, or its name when AgentKit draws the id")
    parser.add_argument("--capability", action="append", default=[], help="may be given several times")
    parser.add_argument("--url", required=True, help="the opscore server, such as http://127.0.0.1:8080")
    parser.add_argument("--agentkit-url", help="register with this AgentKit instead of with the server")
    parser.add_argument("--work-min-s", type=float, default=0.2)
    parser.add_argument("--work-max-s", type=float, default=0.8)
    parser.add_argument("--seed", type=int, help="makes the agent's working times repeatable")
    chosen = parser.parse_args(arguments)
    return AgentSettings(
        kind=chosen.kind,
        agent_id=chosen.id,
        capabilities=tuple(chosen.capability),
        url=chosen.url,
        agentkit_url=chosen.agentkit_url,
        work_s=(chosen.work_min_s, chosen.work_max_s),
        seed=chosen.seed,
    )


def main(arguments: list[str]) -> None:
    """Run one agent process."""
    settings = read_settings(arguments)
    _, backend = KINDS[settings.kind]
    anyio.run(run_agent, settings, os.environ.get("OPSCORE_API_KEY"), backend=backend)


if __name__ == "__main__":
    main(sys.argv[1:])
