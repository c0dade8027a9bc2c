"""What an idempotency key covers on the wire: the one path that it was sent to."""

from urllib.parse import quote

import pytest

from tests.gateway.gateway_process import PREFIX, Wire, name, one_task, problem


@pytest.mark.parametrize(("one", "other"), [("?", "%3F"), ("#", "%23"), ("\\", "%5C"), ("1", "2")])
def test_a_key_does_not_stand_for_two_agents_however_alike_their_ids_are_written(
    wire: Wire, one: str, other: str
) -> None:
    agent = name("agent")
    definition = one_task(name("cap"))
    assert wire.post("/workflow", definition).status_code == 201
    headers = {"Idempotency-Key": name("key")}
    body = {"workflowDefinitionId": definition["id"]}
    started: dict[str, str] = {}
    for agent_id in (agent + one, agent + other, agent + one):
        wire.register(agent_id=agent_id)
        path = f"{PREFIX}/agent/{quote(agent_id, safe='')}/workflow"
        answer = wire.http.post(path, json=body, headers=headers)
        assert answer.status_code == 202, answer.text
        session_id = started.setdefault(agent_id, answer.json()["sessionId"])
        assert answer.json()["sessionId"] == session_id
        assert wire.session(session_id)["agentId"] == agent_id
    assert len(set(started.values())) == 2


def test_a_key_of_any_characters_is_one_however_a_client_writes_it(wire: Wire) -> None:
    definition = one_task(name("cap"))
    assert wire.post("/workflow", definition).status_code == 201
    path = f"{PREFIX}/workflow/{definition['id']}/trigger"
    key = f"Bestellung für {name()}"
    started = set()
    for encoding in ("utf-8", "latin-1"):
        answer = wire.http.post(path, json={}, headers={b"Idempotency-Key": key.encode(encoding)})
        started.add(answer.json()["sessionId"])
    assert len(started) == 1


def test_a_key_has_255_bytes_at_most_as_it_was_sent(wire: Wire) -> None:
    definition = one_task(name("cap"))
    assert wire.post("/workflow", definition).status_code == 201
    path = f"{PREFIX}/workflow/{definition['id']}/trigger"
    fits, too_long = (
        wire.http.post(path, json={}, headers={b"Idempotency-Key": ("ü" * count).encode()}) for count in (127, 128)
    )
    assert fits.status_code == 202
    problem(too_long, 400, "bad_idempotency_key")
