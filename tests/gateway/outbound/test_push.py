"""Direct push: to which address an attempt goes, under which name, and what its answer means for the task."""

import ssl
from collections.abc import AsyncIterator
from typing import Any

import attrs
import httpx
import pytest
import trio

from opscore.gateway.outbound import contacts, outbound
from opscore.gateway.outbound.contacts import ContactPolicy
from opscore.gateway.outbound.push import Push
from opscore.runtime.delivery import Answered, Fact, NotReached
from opscore.runtime.models import Agent, AgentSource
from tests.gateway.gateway_process import Wire, name, one_task
from tests.gateway.outbound.test_contacts import METADATA, Resolver, Silent
from tests.gateway.raw_server import ASSIGNMENT, answer, free_port, raw_server, saying
from tests.gateway.scripted_server import Answer, scripted_server
from tests.gateway.server_thread import eventually

TIMEOUT_S = 5.0


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with outbound.open_client() as opened:
        yield opened


def an_agent(endpoint: str | None, source: AgentSource = AgentSource.API) -> Agent:
    return Agent(agent_id="ada", name="Ada", contact_endpoint=endpoint, source=source, registered_at=0.0)


async def pushed(client: httpx.AsyncClient, endpoint: str, *allow: str) -> Fact:
    push = Push(client, ContactPolicy(allow), timeout_s=TIMEOUT_S)
    with trio.fail_after(2 * TIMEOUT_S):
        return await push.deliver(ASSIGNMENT, an_agent(endpoint))


async def test_only_a_remote_agent_with_an_endpoint_is_reached(client: httpx.AsyncClient) -> None:
    push = Push(client, ContactPolicy(), timeout_s=TIMEOUT_S)
    assert push.reaches(an_agent("http://host/"))
    assert push.reaches(an_agent("http://host/", AgentSource.AGENTKIT))
    assert not push.reaches(an_agent(None))
    assert not push.reaches(an_agent("http://host/", AgentSource.LOCAL))


async def test_the_attempt_goes_to_the_endpoint_with_its_path_and_query(client: httpx.AsyncClient) -> None:
    async with raw_server(saying(answer(202))) as server:
        fact = await pushed(client, f"http://127.0.0.1:{server.port}/a%20b/run?key=1&x=%2F#part")
    assert fact == Answered(status=202, body="")
    (sent,) = server.sent
    assert sent.first_line == "POST /a%20b/run?key=1&x=%2F HTTP/1.1"
    assert sent.header("host") == f"127.0.0.1:{server.port}"
    assert sent.document["opscore_attempt"] == ASSIGNMENT.attempt


async def test_the_checked_address_is_contacted_under_the_name_of_the_endpoint(client: httpx.AsyncClient) -> None:
    resolver = Resolver(agent_test=["127.0.0.1"])
    trio.socket.set_custom_hostname_resolver(resolver)
    async with raw_server(saying(answer(202))) as server:
        assert await pushed(client, f"http://agent.test:{server.port}/run") == Answered(status=202, body="")
    assert server.sent[0].header("host") == f"agent.test:{server.port}"
    # One lookup: a name that answers differently the second time leads nowhere else.
    assert resolver.asked == ["agent.test"]


async def test_the_next_address_of_a_name_is_tried_when_the_first_takes_no_connection(
    client: httpx.AsyncClient,
) -> None:
    trio.socket.set_custom_hostname_resolver(Resolver(agent_test=["127.0.0.2", "127.0.0.1"]))
    async with raw_server(saying(answer(202))) as server:
        assert await pushed(client, f"http://agent.test:{server.port}/run") == Answered(status=202, body="")
    assert len(server.sent) == 1


async def test_an_attempt_that_was_sent_is_not_sent_to_another_address(client: httpx.AsyncClient) -> None:
    trio.socket.set_custom_hostname_resolver(Resolver(agent_test=["127.0.0.1", "127.0.0.1%lo", "127.0.0.2"]))
    async with raw_server(saying(b"")) as server:
        fact = await pushed(client, f"http://agent.test:{server.port}/run")
    assert not isinstance(fact, NotReached)
    assert len(server.sent) == 1


@pytest.mark.parametrize(
    "host",
    [METADATA, "[::ffff:169.254.169.254]", "2852039166", "0xa9fea9fe", "0.0.0.0", "[::]"],  # noqa: S104
)
async def test_a_forbidden_address_is_never_contacted(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    async def contact(*_: Any, **__: Any) -> None:
        raise AssertionError("it was contacted")

    monkeypatch.setattr(outbound, "post", contact)
    fact = await pushed(client, f"http://{host}/latest/meta-data")
    assert isinstance(fact, NotReached)
    assert "never contacted" in fact.reason


async def test_a_name_that_resolves_to_a_forbidden_address_is_not_contacted_at_all(
    client: httpx.AsyncClient,
) -> None:
    trio.socket.set_custom_hostname_resolver(Resolver(sly_test=["127.0.0.1", METADATA]))
    async with raw_server(saying(answer(202))) as server:
        assert isinstance(await pushed(client, f"http://sly.test:{server.port}/"), NotReached)
    assert server.sent == []


async def test_what_push_allow_leaves_out_is_not_contacted(client: httpx.AsyncClient) -> None:
    trio.socket.set_custom_hostname_resolver(Resolver(agent_test=["127.0.0.1"]))
    async with raw_server(saying(answer(202))) as server:
        for endpoint in (server.url, f"http://agent.test:{server.port}/"):
            assert isinstance(await pushed(client, endpoint, "10.0.0.0/8", "other.test"), NotReached)
        assert server.sent == []
        assert await pushed(client, server.url, "127.0.0.0/8") == Answered(status=202, body="")
        assert await pushed(client, f"http://agent.test:{server.port}/", "*.test") == Answered(status=202, body="")


@pytest.mark.parametrize("netloc", ["user:secret@agent.test", "bücher.test"])
async def test_an_endpoint_with_a_user_or_a_host_that_is_not_ascii_is_not_contacted(
    client: httpx.AsyncClient, netloc: str
) -> None:
    trio.socket.set_custom_hostname_resolver(
        Resolver(**{"agent.test": ["127.0.0.1"], "xn--bcher-kva.test": ["127.0.0.1"]})
    )
    async with raw_server(saying(answer(202))) as server:
        fact = await pushed(client, f"http://{netloc}:{server.port}/run")
    assert isinstance(fact, NotReached)
    assert server.sent == []


async def test_a_path_that_is_not_ascii_is_asked_for_in_percent(client: httpx.AsyncClient) -> None:
    async with raw_server(saying(answer(202))) as server:
        assert await pushed(client, f"http://127.0.0.1:{server.port}/bücher") == Answered(status=202, body="")
    assert server.sent[0].first_line == "POST /b%C3%BCcher HTTP/1.1"


@pytest.mark.parametrize("endpoint", ["http://no.such.host.invalid/", "http://a..b/", f"http://{'x' * 70}.test/"])
async def test_a_name_that_leads_nowhere_is_not_reached(client: httpx.AsyncClient, endpoint: str) -> None:
    assert isinstance(await pushed(client, endpoint), NotReached)


async def test_a_refused_connection_is_not_reached(client: httpx.AsyncClient) -> None:
    assert isinstance(await pushed(client, f"http://127.0.0.1:{free_port()}/run"), NotReached)


async def test_a_lookup_that_never_ends_is_not_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contacts, "RESOLVE_TIMEOUT_S", 0.1)
    trio.socket.set_custom_hostname_resolver(Silent())
    async with outbound.open_client() as client:
        fact = await Push(client, ContactPolicy(), timeout_s=TIMEOUT_S).deliver(ASSIGNMENT, an_agent("http://a.test/"))
    assert fact == NotReached(reason="its name could not be looked up in time")


async def test_over_tls_the_endpoint_is_asked_for_under_its_name() -> None:
    seen: list[str | None] = []

    class Recorder(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            seen.append(request.extensions.get("sni_hostname"))
            raise httpx.ConnectError("the certificate is wrong") from ssl.SSLCertVerificationError()

    trio.socket.set_custom_hostname_resolver(Resolver(agent_test=["127.0.0.1"]))
    async with httpx.AsyncClient(transport=Recorder()) as client:
        assert isinstance(await pushed(client, "https://agent.test/run"), NotReached)
    assert seen == ["agent.test"]


# --- what an answer means, through the whole server ---------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Run:
    """A run of one task, whose only agent is pushed to."""

    wire: Wire
    agent_id: str
    session_id: str

    def task(self, *statuses: str) -> dict[str, Any]:
        return self.wire.until_task(self.session_id, *statuses)


def run(wire: Wire, url: str, **fields: Any) -> Run:
    capability = name("cap")
    agent_id = wire.register(capability, endpoint=f"{url}/run")
    wire.report(agent_id, "idle")
    retry = {"maxRetries": 0, "initialDelaySeconds": 0}
    return Run(wire=wire, agent_id=agent_id, session_id=wire.trigger(one_task(capability, retry=retry, **fields)))


def suspected(started: Run) -> bool:
    return started.wire.get(f"/agent/{started.agent_id}").json()["suspectedUntil"] is not None


@pytest.mark.parametrize(
    "document",
    [
        {"status": "completed", "result": {"n": 1}},
        {"status": "success", "message": "", "data": {"status": "completed", "result": {"n": 1}}},
    ],
    ids=["its own", "in data"],
)
def test_an_answer_that_says_completed_ends_the_task_at_once(wire: Wire, document: Any) -> None:
    with scripted_server(Answer(status=200, document=document)) as agent:
        found = wire.ended(run(wire, agent.url).session_id)
    assert (found["status"], found["result"]) == ("completed", {"only": {"n": 1}})
    assert len(agent.asked) == 1


def test_an_answer_that_says_nothing_means_delivered(wire: Wire) -> None:
    with scripted_server(Answer(status=202, text=b"thanks")) as agent:
        started = run(wire, agent.url)
        task = started.task("dispatched")
        assert wire.post(f"/task/{task['taskId']}/complete", {"attempt": 1, "result": 1}).status_code == 200
        assert wire.ended(started.session_id)["status"] == "completed"
    assert len(agent.asked) == 1


@pytest.mark.parametrize("status", [404, 429, 503])
def test_an_agent_that_cannot_take_it_is_suspected_and_no_retry_is_spent(wire: Wire, status: int) -> None:
    refusal = Answer(status=status, headers={"Retry-After": "600"})
    done = Answer(status=200, document={"status": "completed", "result": "late"})
    with scripted_server(refusal, done) as agent:
        started = run(wire, agent.url)
        assert started.task("ready")["retries"] == 0
        assert eventually(lambda: suspected(started))
        # Its next report ends the suspicion early; the ten minutes that it asked for do not have to pass.
        wire.report(started.agent_id, "idle")
        found = wire.ended(started.session_id)
    assert (found["result"], found["tasks"][0]["retries"], found["tasks"][0]["attempt"]) == ({"only": "late"}, 0, 2)
    assert [call.document["opscore_attempt"] for call in agent.asked] == [1, 2]


def test_a_refused_connection_spends_no_retry(wire: Wire) -> None:
    port = free_port()
    started = run(wire, f"http://127.0.0.1:{port}")
    assert eventually(lambda: suspected(started))
    assert started.task("ready")["retries"] == 0
    with scripted_server(Answer(status=200, document={"status": "completed"})) as agent:
        wire.register(
            *wire.get(f"/agent/{started.agent_id}").json()["capabilities"],
            agent_id=started.agent_id,
            endpoint=f"{agent.url}/run",
        )
        wire.report(started.agent_id, "idle")
        assert wire.ended(started.session_id)["tasks"][0]["retries"] == 0


@pytest.mark.parametrize("status", [400, 401, 418])
def test_another_refusal_is_a_failure_with_the_answer_kept(wire: Wire, status: int) -> None:
    with scripted_server(Answer(status=status, text=b"what is this?")) as agent:
        found = wire.ended(run(wire, agent.url).session_id)
    task = found["tasks"][0]
    assert (found["status"], task["retries"], task["error"]["code"]) == ("failed", 1, f"http_{status}")
    assert "what is this?" in task["error"]["message"]


@pytest.mark.parametrize("said", [Answer(status=500), Answer(hang_up=True)], ids=["500", "broken"])
def test_after_an_unknown_outcome_the_attempt_stays_open_for_a_sign_of_life(wire: Wire, said: Answer) -> None:
    with scripted_server(said) as agent:
        started = run(wire, agent.url)
        task = started.task("dispatched")
        assert eventually(lambda: bool(agent.asked))
        assert wire.post(f"/task/{task['taskId']}/heartbeat", {"attempt": 1}).status_code == 200
        assert wire.post(f"/task/{task['taskId']}/complete", {"attempt": 1}).status_code == 200
        assert wire.ended(started.session_id)["tasks"][0]["retries"] == 0
    assert len(agent.asked) == 1


def test_an_answer_that_names_another_place_is_not_followed(wire: Wire) -> None:
    with scripted_server(Answer(status=200)) as elsewhere:
        redirect = Answer(status=307, headers={"Location": f"{elsewhere.url}/run"})
        with scripted_server(redirect) as agent:
            started = run(wire, agent.url)
            found = started.task("dispatched", "failed", "ready")
            assert found["retries"] in (0, 1)
            assert eventually(lambda: bool(agent.asked))
    assert elsewhere.asked == []


def test_a_late_answer_of_a_past_attempt_changes_nothing(wire: Wire) -> None:
    with scripted_server(Answer(status=202)) as agent:
        started = run(wire, agent.url)
        task = started.task("dispatched")
        wire.report(started.agent_id, "offline")
        wire.report(started.agent_id, "idle")
        assert eventually(lambda: started.task("dispatched", "ready")["attempt"] == 2)
        stale = wire.post(f"/task/{task['taskId']}/complete", {"attempt": 1, "result": "stale"})
        assert stale.status_code == 409
        wire.post(f"/task/{task['taskId']}/complete", {"attempt": 2, "result": "current"})
        assert wire.ended(started.session_id)["result"] == {"only": "current"}
