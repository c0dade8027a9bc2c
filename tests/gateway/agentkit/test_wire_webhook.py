"""AgentKit's webhook: events, signatures, replays."""

import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any

import attrs
import httpx
import pytest

from tests.gateway.gateway_process import (
    PREFIX,
    GatewayProcess,
    Wire,
    faults,
    gateway,
    name,
    now_iso,
    problem,
)

SECRET = "what only AgentKit knows".replace(" ", "-")
PATH = f"{PREFIX}/internal/agent/notify"


@attrs.frozen(kw_only=True)
class Signer:
    """A client that signs its webhooks, or gets it wrong."""

    http: httpx.Client
    wire: Wire

    def send(self, body: bytes, headers: dict[str, str]) -> httpx.Response:
        return self.http.post(PATH, content=body, headers={"Content-Type": "application/json", **headers})

    def notify(self, event: str, agent_id: str, timestamp: str | None = None) -> httpx.Response:
        body = notification(event, agent_id)
        return self.send(body, signed(body, timestamp or str(int(time.time()))))


def notification(event: str, agent_id: str, **details: Any) -> bytes:
    return json.dumps({"event_type": event, "agent_details": {"agentId": agent_id, **details}}).encode()


def signed(body: bytes, timestamp: str, secret: str = SECRET) -> dict[str, str]:
    signature = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return {"X-AgentKit-Timestamp": timestamp, "X-AgentKit-Signature": signature}


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signer]:
    directory = tmp_path_factory.mktemp("signed") / "data"
    with gateway(directory, OPSCORE_WEBHOOK_SECRET=SECRET) as (process, wire):
        yield Signer(http=process.client(None), wire=wire)


def done(agent_id: str, what: str) -> dict[str, str]:
    return {"status": "success", "message": f"Agent {agent_id} is {what}."}


def test_a_register_makes_an_agent_of_agentkit_and_may_be_repeated(wire: Wire) -> None:
    agent_id = name("agent")
    details = {
        "agentId": agent_id,
        "agentName": "Ada",
        "version": "1.0",
        "capabilities": ["c"],
        "contactEndpoint": "http://127.0.0.1:1/run",
        "metadata": {},
        "unheardOf": 1,
    }
    for _ in range(2):
        answer = wire.post("/internal/agent/notify", {"event_type": "REGISTER", "agent_details": details})
        assert (answer.status_code, answer.json()) == (200, done(agent_id, "registered"))
    shown = wire.get(f"/agent/{agent_id}").json()
    assert (shown["agentName"], shown["source"], shown["capabilities"]) == ("Ada", "agentkit", ["c"])


def test_a_deregister_takes_an_agent_away_and_of_an_unknown_one_is_fine(wire: Wire) -> None:
    agent_id = wire.register()
    for _ in range(2):
        details = {"agentId": agent_id}
        answer = wire.post("/internal/agent/notify", {"event_type": "DEREGISTER", "agent_details": details})
        assert (answer.status_code, answer.json()) == (200, done(agent_id, "deregistered"))
    problem(wire.get(f"/agent/{agent_id}"), 404, "agent_not_found")


def test_who_leaves_may_be_described_as_nobody_could_come(wire: Wire) -> None:
    agent_id = wire.register()
    forbidden = {"capabilities": [""] * 200, "contactEndpoint": "http://169.254.169.254/", "version": 5}
    details = {"agentId": agent_id, **forbidden}
    answer = wire.post("/internal/agent/notify", {"event_type": "DEREGISTER", "agent_details": details})
    assert (answer.status_code, answer.json()) == (200, done(agent_id, "deregistered"))
    problem(wire.get(f"/agent/{agent_id}"), 404, "agent_not_found")


@pytest.mark.parametrize("event", ["UPDATE", "register", "", "REGISTERED"])
@pytest.mark.parametrize("details", [{"agentId": "somebody"}, {}, None])
def test_another_event_is_400_whatever_it_says(wire: Wire, event: str, details: Any) -> None:
    document = {"event_type": event, "agent_details": details}
    problem(wire.post("/internal/agent/notify", document), 400, "unknown_event")


@pytest.mark.parametrize(
    ("document", "paths"),
    [
        ({}, {"event_type", "agent_details"}),
        ({"event_type": 5, "agent_details": []}, {"event_type", "agent_details"}),
        ({"event_type": "REGISTER", "agent_details": {}}, {"agent_details.agentId"}),
        ({"event_type": "REGISTER", "agent_details": {"agentId": ""}}, {"agent_details.agentId"}),
        ({"event_type": "DEREGISTER", "agent_details": {"agentId": None}}, {"agent_details.agentId"}),
        (
            {
                "event_type": None,
                "agent_details": {"agentId": 5, "capabilities": "all", "contactEndpoint": "gopher://x"},
            },
            {
                "event_type",
                "agent_details.agentId",
                "agent_details.capabilities",
                "agent_details.contactEndpoint",
            },
        ),
    ],
)
def test_a_notification_that_is_none_is_422_with_every_fault(wire: Wire, document: Any, paths: set[str]) -> None:
    assert set(faults(wire.post("/internal/agent/notify", document))) == paths


def test_without_a_secret_a_webhook_needs_a_key(server: GatewayProcess) -> None:
    with server.client(None) as client:
        answer = client.post(PATH, content=notification("REGISTER", "x"))
    problem(answer, 401, "unauthorized")
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_an_unsigned_webhook_is_taken_where_that_is_configured(tmp_path: Any) -> None:
    with gateway(tmp_path / "data", "--webhook-unsigned") as (process, wire):
        answer = process.client(None).post(PATH, content=notification("REGISTER", "unsigned"))
        assert answer.status_code == 200
        assert wire.get("/agent/unsigned").status_code == 200


@pytest.mark.parametrize("offset_s", [-295, 0, 295])
def test_a_signature_of_the_last_or_next_300_seconds_is_taken(signer: Signer, offset_s: int) -> None:
    for timestamp in (str(int(time.time()) + offset_s), f"{time.time() + offset_s:.3f}", now_iso(offset_s)):
        assert signer.notify("REGISTER", name("agent"), timestamp).status_code == 200


def test_a_timestamp_with_or_without_zone_is_taken(signer: Signer) -> None:
    utc = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    east = time.strftime("%Y-%m-%dT%H:%M:%S+02:00", time.gmtime(time.time() + 7_200))
    for timestamp in (utc, f"{utc}.123456", east):
        assert signer.notify("REGISTER", name("agent"), timestamp).status_code == 200


@pytest.mark.parametrize("offset_s", [-305, 305, -86_400])
def test_an_older_or_newer_signature_is_401(signer: Signer, offset_s: int) -> None:
    for timestamp in (str(int(time.time()) + offset_s), now_iso(offset_s)):
        problem(signer.notify("REGISTER", name("agent"), timestamp), 401, "bad_signature")


@pytest.mark.parametrize("timestamp", ["soon", "nan", "inf", "-inf", "1e400", "9999-99-99T00:00:00Z"])
def test_a_signed_timestamp_that_is_no_time_is_401(signer: Signer, timestamp: str) -> None:
    problem(signer.notify("REGISTER", name("agent"), timestamp), 401, "bad_signature")


def test_a_wrong_or_missing_signature_is_401_and_has_no_effect(signer: Signer) -> None:
    agent_id, now = name("agent"), str(int(time.time()))
    body = notification("REGISTER", agent_id)
    good = signed(body, now)
    for headers in (
        {},
        {"X-AgentKit-Timestamp": now},
        {"X-AgentKit-Signature": good["X-AgentKit-Signature"]},
        signed(body, now, secret="another"),
        signed(notification("REGISTER", "another"), now),
        {**good, "X-AgentKit-Timestamp": str(int(now) + 1)},
        {**good, "X-AgentKit-Signature": good["X-AgentKit-Signature"][:-1]},
        {**good, "X-AgentKit-Signature": ""},
    ):
        answer = signer.send(body, headers)
        problem(answer, 401, "bad_signature")
        assert "www-authenticate" in answer.headers
    problem(signer.wire.get(f"/agent/{agent_id}"), 404, "agent_not_found")


def test_a_key_does_not_replace_the_signature(signer: Signer) -> None:
    document = {"event_type": "REGISTER", "agent_details": {"agentId": name("agent")}}
    problem(signer.wire.post("/internal/agent/notify", document), 401, "bad_signature")


def test_a_replay_gets_the_first_answer_and_does_not_resurrect(signer: Signer) -> None:
    agent_id = name("agent")
    body = notification("REGISTER", agent_id)
    headers = signed(body, str(int(time.time())))
    first = signer.send(body, headers)
    assert signer.notify("DEREGISTER", agent_id).status_code == 200
    shouted = {**headers, "X-AgentKit-Signature": headers["X-AgentKit-Signature"].upper()}
    for again in (headers, shouted):
        replayed = signer.send(body, again)
        assert (replayed.status_code, replayed.json()) == (first.status_code, first.json())
    problem(signer.wire.get(f"/agent/{agent_id}"), 404, "agent_not_found")


def test_the_same_notification_signed_anew_has_effect(signer: Signer) -> None:
    agent_id, now = name("agent"), int(time.time())
    for offset, event, status in ((0, "REGISTER", 200), (1, "DEREGISTER", 404), (2, "REGISTER", 200)):
        assert signer.notify(event, agent_id, str(now + offset)).status_code == 200
        assert signer.wire.get(f"/agent/{agent_id}").status_code == status


def test_what_was_refused_may_be_sent_again(signer: Signer) -> None:
    body = notification("REGISTER", "")
    headers = signed(body, str(int(time.time())))
    assert [signer.send(body, headers).status_code for _ in range(2)] == [422, 422]


def test_signatures_are_remembered_across_a_restart(tmp_path: Any) -> None:
    body = notification("REGISTER", "kept")
    headers = {"Content-Type": "application/json", **signed(body, str(int(time.time())))}
    with gateway(tmp_path / "data", OPSCORE_WEBHOOK_SECRET=SECRET) as (process, wire):
        assert wire.http.post(PATH, content=body, headers=headers).status_code == 200
        assert wire.delete("/agent/kept").status_code == 204
        process.kill()
    with gateway(tmp_path / "data", OPSCORE_WEBHOOK_SECRET=SECRET) as (_, wire):
        assert wire.http.post(PATH, content=body, headers=headers).json() == done("kept", "registered")
        problem(wire.get("/agent/kept"), 404, "agent_not_found")
