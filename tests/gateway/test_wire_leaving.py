"""What becomes of a request that waits when its client leaves, or its key is revoked meanwhile."""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from opscore.gateway.keys.keys import KeyRing
from tests.gateway.gateway_process import (
    PATIENCE_S,
    POLL_S,
    PREFIX,
    GatewayProcess,
    Wire,
    gateway,
    name,
    one_task,
    problem,
)
from tests.gateway.raw_client import post

KEY = "authorization: Bearer a-key-with-every-scope"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[tuple[GatewayProcess, Wire]]:
    with gateway(tmp_path / "data") as found:
        yield found


def leave_waiting(server: GatewayProcess, request: str) -> None:
    """Ask for something that takes a minute, and leave once the server has begun to wait."""
    with server.raw() as raw:
        raw.send(f"{request}?waitSeconds=60 HTTP/1.1\r\nhost: test\r\n{KEY}\r\ncontent-length: 0\r\n\r\n".encode())
        time.sleep(0.2)


def until_logged(server: GatewayProcess, text: str, times: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while server.log().count(text) < times:
        assert time.monotonic() < deadline, server.log()
        time.sleep(POLL_S)


def test_nothing_waits_on_for_clients_that_have_left(stage: tuple[GatewayProcess, Wire]) -> None:
    server, wire = stage
    at_work, idle = wire.register("work"), wire.register("other")
    session_id = wire.trigger(one_task("work"))
    wire.claimed(at_work)
    leave_waiting(server, f"GET {PREFIX}/session/{session_id}")
    leave_waiting(server, f"POST {PREFIX}/agent/{at_work}/drain")
    leave_waiting(server, f"POST {PREFIX}/agent/{idle}/claim")
    until_logged(server, "was answered", 3)
    # A request is under way until just after that is logged; when a later one is answered, it no longer is.
    assert wire.get(f"/agent/{idle}").status_code == 200
    assert server.end() == 0
    assert "draining: 0 requests under way" in server.log()


def test_a_drain_whose_client_leaves_at_once_takes_the_agent_out_of_dispatch_all_the_same(
    server: GatewayProcess, wire: Wire
) -> None:
    capability = name("cap")
    agent_id = wire.register(capability)
    wire.trigger(one_task(capability))
    wire.claimed(agent_id)
    with server.raw() as raw:
        # Stopped, the server finds the request and the end of its connection at the same time.
        server.send(signal.SIGSTOP)
        raw.send(f"POST {PREFIX}/agent/{agent_id}/drain?waitSeconds=60 HTTP/1.1\r\nhost: t\r\n{KEY}\r\n\r\n".encode())
    server.send(signal.SIGCONT)
    deadline = time.monotonic() + PATIENCE_S
    while not wire.get(f"/agent/{agent_id}").json()["cordoned"]:
        assert time.monotonic() < deadline
        time.sleep(POLL_S)


def test_a_key_that_is_revoked_while_its_claim_waits_is_handed_no_task(stage: tuple[GatewayProcess, Wire]) -> None:
    server, wire = stage
    ring = KeyRing(server.data)
    token = ring.create("mole", "agent:mole")
    wire.register("work", agent_id="mole")
    mole = Wire(http=server.client(token))
    until_known(mole)
    with ThreadPoolExecutor(1) as pool:
        claiming = pool.submit(mole.claim, "mole")
        until_idle(wire, "mole")
        ring.revoke(ring.list()[0].id)
        until_known(mole, known=False)
        session_id = wire.trigger(one_task("work"))
        problem(claiming.result(PATIENCE_S), 401, "unauthorized")
    begun = time.monotonic()
    assert wire.claimed(wire.register("work"))["task"]["sessionId"] == session_id
    assert time.monotonic() - begun < 5, "it went back at once"
    assert wire.get("/agent/mole").json()["lease"] is None


def test_a_key_that_is_revoked_while_it_waits_for_a_session_is_not_shown_it(
    stage: tuple[GatewayProcess, Wire],
) -> None:
    server, wire = stage
    ring = KeyRing(server.data)
    token = ring.create("watcher", "viewer")
    session_id = wire.trigger(one_task("work"))
    watcher = Wire(http=server.client(token))
    until_known(watcher)
    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watcher.get, f"/session/{session_id}", waitSeconds=60)
        time.sleep(0.2)
        ring.revoke(ring.list()[0].id)
        until_known(watcher, known=False)
        assert wire.post(f"/session/{session_id}/cancel").status_code == 200
        problem(watching.result(PATIENCE_S), 401, "unauthorized")


def test_a_key_that_is_revoked_while_its_request_is_on_its_way_changes_nothing(
    stage: tuple[GatewayProcess, Wire],
) -> None:
    server, wire = stage
    ring = KeyRing(server.data)
    token = ring.create("leaver", "operator")
    leaver = Wire(http=server.client(token))
    until_known(leaver)
    saving = post(f"{PREFIX}/workflow", b'{"id": "late", "tasks": []}', f"authorization: Bearer {token}")
    with server.raw() as raw:
        raw.send(saving[:-1])
        assert leaver.get("/workflow/late").status_code == 404
        ring.revoke(ring.list()[0].id)
        until_known(leaver, known=False)
        assert raw.ask(saving[-1:]).status == 401
    assert wire.get("/workflow/late").status_code == 404


def until_idle(wire: Wire, agent_id: str) -> None:
    """Wait until a claim of this agent has arrived: claiming says that the agent is idle."""
    deadline = time.monotonic() + PATIENCE_S
    while wire.get(f"/agent/{agent_id}/state").json()["state"] != "idle":
        assert time.monotonic() < deadline
        time.sleep(POLL_S)


def until_known(holder: Wire, *, known: bool = True) -> None:
    """Wait until the server has noticed that the holder's key was made, or revoked."""
    deadline = time.monotonic() + PATIENCE_S
    while (holder.get("/agent").status_code != 401) != known:
        assert time.monotonic() < deadline
        time.sleep(POLL_S)
