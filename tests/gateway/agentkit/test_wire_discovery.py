"""A server that asks AgentKit for its agents, from outside: what it has by it, and that it lives with any AgentKit."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.gateway.gateway_process import API_KEY, PATIENCE_S, PREFIX, GatewayProcess, Wire, gateway, problem
from tests.gateway.listing_stage import entry
from tests.gateway.raw_server import free_port
from tests.gateway.scripted_server import Answer, Asked, ScriptedServer, answering_server
from tests.gateway.server_thread import eventually

POLL_S = 0.05


class Kit:
    """What AgentKit lists, and what happens while it answers."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self.status = 200
        self.hangs_up = False
        self.under_way: Callable[[], object] = lambda: None

    def answer(self, call: Asked) -> Answer:
        assert (call.method, call.path) == ("GET", "/v1/agents")
        document = {"status": "success", "message": None, "data": list(self.entries)}
        self.under_way()
        return Answer(status=self.status, document=document, hang_up=self.hangs_up)


@contextmanager
def stage(tmp_path: Path, kit: Kit, poll_s: float = POLL_S) -> Iterator[tuple[ScriptedServer, GatewayProcess, Wire]]:
    with (
        answering_server(kit.answer) as server,
        gateway(tmp_path / "data", AGENTKIT_API_URL=server.url, OPSCORE_AGENTKIT_POLL_S=str(poll_s)) as (process, wire),
    ):
        yield server, process, wire


def agents(wire: Wire) -> dict[str, str]:
    return {agent["agentId"]: agent["version"] for agent in wire.get("/agent").json()["items"]}


def test_agents_come_change_and_go_as_agentkit_lists_them(tmp_path: Path) -> None:
    kit = Kit()
    kit.entries = [entry("ada"), entry("bob"), entry("odd", contactEndpoint="http://169.254.169.254/")]
    with stage(tmp_path, kit) as (_, process, wire):
        wire.register(agent_id="ours")
        assert eventually(lambda: set(agents(wire)) == {"ada", "bob", "ours"})
        assert wire.get("/agent/ada").json()["source"] == "agentkit"
        kit.entries = [entry("ada", "2")]
        assert eventually(lambda: set(agents(wire)) == {"ada", "ours"} and agents(wire)["ada"] == "2")
        assert process.end() == 0
        assert process.log().count("AgentKit's list: agent 'odd' is skipped") == 1


def test_a_list_without_news_leaves_the_store_as_it_is(tmp_path: Path) -> None:
    kit = Kit()
    kit.entries = [entry("ada")]
    with stage(tmp_path, kit) as (server, _, wire):
        assert eventually(lambda: "ada" in agents(wire))
        registered_at = wire.get("/agent/ada").json()["registeredAt"]
        asked = len(server.asked)
        assert eventually(lambda: len(server.asked) > asked + 5)
        assert wire.get("/agent/ada").json()["registeredAt"] == registered_at


def test_a_list_introduces_an_agent_that_reported_first(tmp_path: Path) -> None:
    kit = Kit()
    with (
        answering_server(kit.answer) as server,
        gateway(
            tmp_path / "data", "--agents-unknown", "register",
            AGENTKIT_API_URL=server.url, OPSCORE_AGENTKIT_POLL_S=str(POLL_S),
        ) as (_, wire),
    ):  # fmt: skip
        assert wire.report("ada", "idle").status_code == 202
        assert wire.get("/agent/ada").json()["source"] == "api"
        kit.entries = [entry("ada")]
        assert eventually(lambda: wire.get("/agent/ada").json()["source"] == "agentkit")
        shown = wire.get("/agent/ada").json()
        assert (shown["capabilities"], shown["state"]) == (["work"], "idle")


def test_webhooks_that_cross_with_a_list_count(tmp_path: Path) -> None:
    kit = Kit()
    kit.entries = [entry("leaves"), entry("stays")]
    with stage(tmp_path, kit) as (server, _, wire):
        assert eventually(lambda: set(agents(wire)) == {"leaves", "stays"})
        crossed = threading.Event()

        def webhooks() -> None:
            """AgentKit has made up its mind about the list; then this happens, and only then it answers."""
            if crossed.is_set():
                return
            with httpx.Client(base_url=wire.http.base_url, headers={"Authorization": f"Bearer {API_KEY}"}) as http:
                for event, agent_id in (("DEREGISTER", "leaves"), ("REGISTER", "comes")):
                    document = {"event_type": event, "agent_details": entry(agent_id)}
                    assert http.post(f"{PREFIX}/internal/agent/notify", json=document).status_code == 200
            # From the next list on, AgentKit shows it as well; until then the one that is under way is older.
            held_until = time.monotonic() + 0.2
            while time.monotonic() < held_until:
                seen.append(set(agents(Wire(http=wire.http))))
                time.sleep(0.01)
            kit.entries = [entry("comes"), entry("stays")]
            crossed.set()

        seen: list[set[str]] = []
        kit.under_way = webhooks
        assert crossed.wait(PATIENCE_S)
        asked = len(server.asked)
        while len(server.asked) < asked + 3:
            seen.append(set(agents(wire)))
        assert [each for each in seen if each != {"comes", "stays"}] == []


def test_a_server_lives_with_an_agentkit_that_is_away_and_takes_over_its_agents_once_it_is_there(
    tmp_path: Path,
) -> None:
    kit, port = Kit(), free_port()
    kit.entries = [entry("ada")]
    url = f"http://127.0.0.1:{port}"
    with gateway(tmp_path / "data", AGENTKIT_API_URL=url, OPSCORE_AGENTKIT_POLL_S=str(POLL_S)) as (process, wire):
        assert eventually(lambda: "AgentKit's list of agents can't be fetched" in process.log())
        assert wire.http.get("/ready").status_code == 200
        with answering_server(kit.answer, port=port):
            assert eventually(lambda: "ada" in agents(wire))
        assert process.end() == 0
        assert process.log().count("AgentKit lists its agents now") == 1
        assert '"level": "error"' not in process.log()


def test_an_agentkit_without_a_list_is_told_of_once(tmp_path: Path) -> None:
    kit = Kit()
    kit.status = 404
    with stage(tmp_path, kit) as (server, process, _):
        assert eventually(lambda: len(server.asked) > 5)
        assert process.end() == 0
        assert process.log().count("AgentKit has no list of agents (it answered 404)") == 1


def test_without_an_interval_agentkit_is_not_asked(tmp_path: Path) -> None:
    kit = Kit()
    with stage(tmp_path, kit, poll_s=0) as (server, process, wire):
        problem(wire.get("/agent/ada"), 404, "agent_not_found")
        time.sleep(0.2)
        assert process.end() == 0
    assert server.asked == []


def test_a_server_that_stops_waits_for_no_list(tmp_path: Path) -> None:
    kit, asked, done = Kit(), threading.Event(), threading.Event()

    def stay_silent() -> None:
        asked.set()
        done.wait(PATIENCE_S)

    kit.under_way, kit.hangs_up = stay_silent, True
    with stage(tmp_path, kit) as (_, process, _):
        assert asked.wait(PATIENCE_S)
        begun = time.monotonic()
        assert process.end() == 0
        assert time.monotonic() - begun < PATIENCE_S / 3
        done.set()
