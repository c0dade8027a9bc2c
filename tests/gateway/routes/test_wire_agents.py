"""Agents on the wire: registration and state reports, as Ops-Core's agents send them."""

import json
from typing import Any

import pytest

from tests.gateway.gateway_process import (
    PREFIX,
    GatewayProcess,
    Wire,
    faults,
    gateway,
    name,
    now_iso,
    one_task,
    problem,
)

MESSAGE = "State update accepted"


def report(wire: Wire, agent_id: str, **changes: Any) -> Any:
    document = {"agentId": agent_id, "timestamp": now_iso(), "state": "idle", **changes}
    return wire.post(f"/agent/{agent_id}/state", {key: value for key, value in document.items() if value is not ...})


def test_a_report_is_accepted_and_shown(wire: Wire) -> None:
    agent_id = wire.register()
    answer = report(wire, agent_id, timestamp="2026-01-31T12:00:00Z", details={"load": 0.5, "tags": ["a", None]})
    assert (answer.status_code, answer.json()) == (202, {"status": "success", "message": MESSAGE})
    shown = wire.get(f"/agent/{agent_id}/state")
    assert (shown.status_code, shown.json()) == (
        200,
        {
            "agentId": agent_id,
            "state": "idle",
            "details": {"load": 0.5, "tags": ["a", None]},
            "timestamp": "2026-01-31T12:00:00.000000Z",
        },
    )


def test_an_agent_that_never_reported_is_unknown(wire: Wire) -> None:
    shown = wire.get(f"/agent/{wire.register()}/state").json()
    assert (shown["state"], shown["details"]) == ("unknown", None)
    assert shown["timestamp"].endswith("Z")


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("idle", "idle"),
        ("IDLE", "idle"),
        (" Idle ", "idle"),
        ("BUSY", "active"),
        ("busy", "active"),
        ("Active", "active"),
        ("Initializing", "initializing"),
        ("ERROR", "error"),
        ("finished", "finished"),
        ("Offline", "offline"),
        ("Thinking Hard", "thinking hard"),
        ("ü" * 64, "ü" * 64),
    ],
)
def test_states_are_taken_in_any_case_and_busy_means_active(wire: Wire, said: str, kept: str) -> None:
    agent_id = wire.register()
    assert report(wire, agent_id, state=said).status_code == 202
    assert wire.get(f"/agent/{agent_id}/state").json()["state"] == kept


def test_details_may_be_null_or_missing(wire: Wire) -> None:
    agent_id = wire.register()
    for details in (None, ...):
        assert report(wire, agent_id, details=details).status_code == 202
        assert wire.get(f"/agent/{agent_id}/state").json()["details"] is None


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("2026-01-31T12:00:00", "2026-01-31T12:00:00.000000Z"),
        ("2026-01-31T12:00:00.123456", "2026-01-31T12:00:00.123456Z"),
        ("2026-01-31T12:00:00+02:00", "2026-01-31T10:00:00.000000Z"),
        ("2026-01-31 12:00:00Z", "2026-01-31T12:00:00.000000Z"),
    ],
)
def test_a_timestamp_without_zone_is_utc(wire: Wire, said: str, shown: str) -> None:
    agent_id = wire.register()
    assert report(wire, agent_id, timestamp=said).status_code == 202
    assert wire.get(f"/agent/{agent_id}/state").json()["timestamp"] == shown


def test_an_older_report_is_acknowledged_and_changes_nothing(wire: Wire) -> None:
    agent_id = wire.register()
    report(wire, agent_id, timestamp="2026-01-31T12:00:00Z", state="idle")
    stale = report(wire, agent_id, timestamp="2026-01-31T11:59:59Z", state="error")
    assert stale.status_code == 202
    assert stale.json()["status"] == "success"
    assert wire.get(f"/agent/{agent_id}/state").json()["state"] == "idle"
    equal = report(wire, agent_id, timestamp="2026-01-31T12:00:00Z", state="active")
    assert equal.json()["message"] == MESSAGE
    assert wire.get(f"/agent/{agent_id}/state").json()["state"] == "active"


def test_a_time_in_the_future_does_not_lock_the_agent_out(wire: Wire) -> None:
    agent_id = wire.register()
    report(wire, agent_id, timestamp="2999-01-01T00:00:00Z", state="active")
    assert wire.get(f"/agent/{agent_id}/state").json()["timestamp"] <= now_iso(31)
    assert report(wire, agent_id, timestamp=now_iso(40), state="idle").json()["message"] == MESSAGE


def test_an_id_that_differs_from_the_path_is_400(wire: Wire) -> None:
    agent_id = wire.register()
    problem(report(wire, agent_id, agentId="another"), 400, "agent_id_mismatch")


def test_a_report_of_an_unknown_agent_is_404(wire: Wire) -> None:
    problem(report(wire, "nobody"), 404, "agent_not_found")
    problem(wire.get("/agent/nobody/state"), 404, "agent_not_found")


def test_a_report_of_an_unknown_agent_registers_it_where_that_is_configured(tmp_path: Any) -> None:
    with gateway(tmp_path / "data", "--agents-unknown", "register") as (_, wire):
        assert report(wire, "newcomer", state="idle").status_code == 202
        assert wire.get("/agent/newcomer").json()["state"] == "idle"
        problem(wire.get("/agent/another/state"), 404, "agent_not_found")


@pytest.mark.parametrize("field", ["agentId", "timestamp", "state"])
@pytest.mark.parametrize(
    ("value", "said"), [(..., "required"), (None, "null"), (5, "number"), (True, "true"), ([], "list")]
)
def test_a_missing_or_mistyped_field_of_a_report_is_422(wire: Wire, field: str, value: Any, said: str) -> None:
    found = faults(report(wire, "nobody", **{field: value}))
    assert set(found) == {field}
    assert said in found[field]


@pytest.mark.parametrize("details", [5, "text", [1], True])
def test_details_that_are_no_object_are_422(wire: Wire, details: Any) -> None:
    assert set(faults(report(wire, "nobody", details=details))) == {"details"}


@pytest.mark.parametrize("state", ["", "   ", "x" * 65])
def test_a_state_without_a_name_of_1_to_64_characters_is_422(wire: Wire, state: str) -> None:
    assert set(faults(report(wire, wire.register(), state=state))) == {"state"}


@pytest.mark.parametrize("timestamp", ["", "now", "31.01.2026", "1769860800", "0001-01-01T00:00:00+14:00"])
def test_a_timestamp_that_is_no_time_is_422(wire: Wire, timestamp: str) -> None:
    assert set(faults(report(wire, wire.register(), timestamp=timestamp))) == {"timestamp"}


def test_every_fault_of_a_report_is_told_at_once(wire: Wire) -> None:
    assert set(faults(wire.post("/agent/x/state", {}))) == {"agentId", "timestamp", "state"}
    wrong = {"agentId": 5, "timestamp": "soon", "state": "", "details": "none"}
    assert set(faults(wire.post("/agent/x/state", wrong))) == {"agentId", "timestamp", "state", "details"}


@pytest.mark.parametrize("document", [[], 5, "text", None, True])
def test_a_report_that_is_no_object_is_422(wire: Wire, document: Any) -> None:
    body = json.dumps(document).encode()
    answer = wire.http.post(f"{PREFIX}/agent/x/state", content=body, headers={"Content-Type": "application/json"})
    assert set(faults(answer)) == {""}


def test_details_larger_than_is_stored_are_422(wire: Wire) -> None:
    answer = report(wire, wire.register(), details={"text": "x" * 262_144})
    problem(answer, 422, "limit_exceeded")


def test_unknown_fields_are_ignored(wire: Wire) -> None:
    agent_id = wire.register()
    assert report(wire, agent_id, sender="sdk/0.1", extra={"a": [1]}).status_code == 202


def test_an_agent_is_registered_shown_and_deregistered(wire: Wire) -> None:
    agent_id = name("agent")
    document = {
        "agentId": agent_id,
        "agentName": "Ada",
        "version": "1.2",
        "capabilities": ["b", "a", "b"],
        "contactEndpoint": "http://127.0.0.1:1/run",
        "metadata": {"zone": 5},
    }
    created = wire.post("/agent", document)
    assert created.status_code == 201
    shown = wire.get(f"/agent/{agent_id}").json()
    assert shown == {**created.json(), "lease": None}
    assert {key: shown[key] for key in document} == {**document, "capabilities": ["b", "a"]}
    assert (shown["source"], shown["state"], shown["cordoned"]) == ("api", "unknown", False)
    assert wire.delete(f"/agent/{agent_id}").status_code == 204
    problem(wire.get(f"/agent/{agent_id}"), 404, "agent_not_found")
    problem(wire.delete(f"/agent/{agent_id}"), 404, "agent_not_found")


def test_an_agent_is_shown_with_the_lease_that_it_holds(wire: Wire) -> None:
    capability = name("work")
    wire.trigger(one_task(capability))
    claimed = wire.claimed(wire.register(capability, agent_id=name("holder")))
    agent_id = wire.get(f"/task/{claimed['task']['taskId']}").json()["agentId"]
    held = wire.get(f"/agent/{agent_id}").json()["lease"]
    assert held == {
        "taskId": claimed["task"]["taskId"],
        "sessionId": claimed["task"]["sessionId"],
        "attempt": 1,
        "leaseSeconds": claimed["leaseSeconds"],
        "leaseExpiresAt": claimed["leaseExpiresAt"],
    }
    assert wire.report(agent_id, "initializing").status_code == 202
    assert wire.get(f"/agent/{agent_id}").json()["lease"] is None, "an agent that starts anew gives its attempt back"


def test_an_agent_without_an_id_is_given_one(wire: Wire) -> None:
    first, second = (wire.post("/agent", {}).json() for _ in range(2))
    assert first["agentId"] != second["agentId"]
    assert wire.get(f"/agent/{first['agentId']}").status_code == 200


def test_registering_again_keeps_the_state_and_takes_what_is_said_now(wire: Wire) -> None:
    agent_id = wire.register("old")
    report(wire, agent_id, state="idle", timestamp="2027-01-01T00:00:00Z")
    wire.register("new", agent_id=agent_id)
    shown = wire.get(f"/agent/{agent_id}").json()
    assert (shown["state"], shown["capabilities"]) == ("idle", ["new"])
    # Its clock may have been set back: registering again forgets the order of its reports.
    assert report(wire, agent_id, state="active", timestamp="2026-01-01T00:00:00Z").json()["message"] == MESSAGE


def test_every_fault_of_a_registration_is_told_at_once(wire: Wire) -> None:
    wrong = {
        "agentId": "ü" * 65,
        "agentName": "n" * 257,
        "version": 1,
        "capabilities": ["", "c" * 257, 5, "good"],
        "contactEndpoint": "ftp://host/",
        "metadata": "none",
    }
    assert set(faults(wire.post("/agent", wrong))) == {
        "agentId",
        "agentName",
        "version",
        "capabilities[0]",
        "capabilities[1]",
        "capabilities[2]",
        "contactEndpoint",
        "metadata",
    }
    assert set(faults(wire.post("/agent", {"capabilities": ["c"] * 101}))) == {"capabilities"}
    assert set(faults(wire.post("/agent", {"metadata": {"text": "x" * 262_144}}))) == {"metadata"}
    assert set(faults(wire.post("/agent", {"agentId": " "}))) == {"agentId"}


@pytest.mark.parametrize("agent_id", ["a/b", "/", ".", "..", "a\nb", "a\x00", "a\x7f"], ids=ascii)
def test_an_id_that_could_never_be_addressed_is_refused_wherever_an_agent_is_made(wire: Wire, agent_id: str) -> None:
    found = faults(wire.post("/agent", {"agentId": agent_id}))
    assert set(found) == {"agentId"}
    assert "this one " in found["agentId"]
    document = {"event_type": "REGISTER", "agent_details": {"agentId": agent_id}}
    assert set(faults(wire.post("/internal/agent/notify", document))) == {"agent_details.agentId"}


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://[::ffff:169.254.169.254]/",
        "http://[fe80::1]/",
        "http://0.0.0.0/",
        "http://100.100.100.200/",
        "file:///etc/passwd",
        "//host/",
        "http:///run",
        "http://host:0/",
        "http://host:99999/",
        "http://ho\nst/",
        f"http://host/{'x' * 2_048}",
        "http://user:secret@host/",
        "http://bücher.example/",
    ],
    ids=lambda text: text[:32].encode("unicode_escape").decode(),
)
def test_an_endpoint_that_is_never_contacted_is_refused_when_it_registers(wire: Wire, endpoint: str) -> None:
    assert set(faults(wire.post("/agent", {"contactEndpoint": endpoint}))) == {"contactEndpoint"}


def test_a_cordon_is_shown_and_taken_back(wire: Wire) -> None:
    agent_id = wire.register()
    assert wire.post(f"/agent/{agent_id}/cordon").json()["cordoned"] is True
    assert wire.get(f"/agent/{agent_id}").json()["cordoned"] is True
    assert wire.post(f"/agent/{agent_id}/uncordon").json()["cordoned"] is False
    problem(wire.post("/agent/nobody/cordon"), 404, "agent_not_found")


def test_a_name_is_taken_as_it_is_encoded_in_the_path(server: GatewayProcess, wire: Wire) -> None:
    agent_id = f"Ärger & co? 100% #{name()}"
    wire.register(agent_id=agent_id)
    answer = server.client().post(
        f"{PREFIX}/agent/%C3%84rger%20%26%20co%3F%20100%25%20%23{agent_id.rpartition('#')[2]}/state",
        json={"agentId": agent_id, "timestamp": now_iso(), "state": "idle"},
    )
    assert answer.status_code == 202
