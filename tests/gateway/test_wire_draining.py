"""What clients see of a server that is told to stop."""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.gateway.gateway_process import (
    PATIENCE_S,
    PREFIX,
    GatewayProcess,
    Wire,
    gateway,
    one_task,
    problem,
)
from tests.gateway.raw_client import Client, post

KEY = "authorization: Bearer a-key-with-every-scope"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[tuple[GatewayProcess, Wire]]:
    with gateway(tmp_path / "data") as found:
        yield found


def held_open(server: GatewayProcess, path: str) -> Client:
    """A request whose body is not complete: it keeps the drain going until it is."""
    raw = server.raw()
    raw.send(post(path, b"{}", KEY)[:-1])
    return raw


def until_draining(client: httpx.Client) -> httpx.Response:
    deadline = time.monotonic() + PATIENCE_S
    while (answer := client.get("/ready")).status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return answer


def test_while_it_drains_readiness_fails_triggers_are_refused_and_results_are_taken(
    stage: tuple[GatewayProcess, Wire],
) -> None:
    server, wire = stage
    session_id = wire.trigger(definition := one_task("work"))
    claimed = wire.claimed(wire.register("work"))
    with held_open(server, f"{PREFIX}/workflow/validate") as open_request:
        server.send(signal.SIGTERM)
        answer = until_draining(server.client(None))
        problem(answer, 503, "not_ready")
        assert int(answer.headers["retry-after"]) >= 1
        refused = wire.post(f"/workflow/{definition['id']}/trigger", {})
        problem(refused, 503, "not_ready")
        assert int(refused.headers["retry-after"]) >= 1
        assert wire.http.get("/health").status_code == 200
        done = wire.post(f"/task/{claimed['task']['taskId']}/complete", {"attempt": 1})
        assert done.status_code == 200
        assert wire.session(session_id, wait_s=5)["tasks"][0]["status"] == "completed"
        open_request.send(b"}")
        assert open_request.answer().status == 422
    assert server.popen.wait(PATIENCE_S) == 0


def test_while_it_drains_no_task_is_handed_out(stage: tuple[GatewayProcess, Wire]) -> None:
    server, wire = stage
    agent_id = wire.register("work")
    wire.trigger(one_task("work"))
    with held_open(server, f"{PREFIX}/workflow/validate") as open_request:
        server.send(signal.SIGTERM)
        until_draining(server.client(None))
        begun = time.monotonic()
        refused = wire.claim(agent_id)
        problem(refused, 503, "not_ready")
        assert int(refused.headers["retry-after"]) > 0, "whoever asked again at once would ask without end"
        assert time.monotonic() - begun < 5
        open_request.send(b"}")
        open_request.answer()
    assert server.popen.wait(PATIENCE_S) == 0


def test_waiting_calls_are_answered_early_when_the_drain_begins(stage: tuple[GatewayProcess, Wire]) -> None:
    server, wire = stage
    agent_id = wire.register("idle-work")
    session_id = wire.trigger(one_task("never-there"))
    with ThreadPoolExecutor(2) as pool:
        claiming = pool.submit(Wire(http=server.client()).claim, agent_id)
        watching = pool.submit(Wire(http=server.client()).session, session_id, wait_s=30)
        deadline = time.monotonic() + PATIENCE_S
        while wire.get(f"/agent/{agent_id}/state").json()["state"] != "idle":
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.1)
        begun = time.monotonic()
        assert server.end() == 0
        assert claiming.result(PATIENCE_S).status_code == 204
        assert watching.result(PATIENCE_S)["status"] == "started"
        assert time.monotonic() - begun < 5


def test_sigint_ends_it_in_order_as_well(stage: tuple[GatewayProcess, Wire]) -> None:
    server, _ = stage
    assert server.end(signal.SIGINT) == 0
    assert "Traceback" not in server.log()
