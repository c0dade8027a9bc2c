"""Agents that AgentKit lists: what of its answers is taken, what is logged, and when it is asked."""

import gzip
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from opscore.gateway.agentkit import discovery
from opscore.runtime.models import AgentSource
from tests.gateway.listing_stage import EVERY_S, Kit, a_kit, entry, listed, until
from tests.gateway.raw_server import answer, raw_server, saying
from tests.runtime.world import quiet

NO_LIST = "has no list of agents"
FAILS = "list of agents can't be fetched"
LISTS = "lists its agents now"


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What discovery has logged since it was last asked for."""
    caplog.set_level(logging.INFO, logger="opscore.discovery")

    def said() -> list[str]:
        messages = [record.getMessage() for record in caplog.records if record.name == "opscore.discovery"]
        caplog.clear()
        return messages

    return said


Log = Callable[[], list[str]]

# --- what is taken ------------------------------------------------------------------------------------------


async def test_who_is_listed_is_registered_described_anew_and_forgotten(tmp_path: Path, log: Log) -> None:
    async with a_kit(tmp_path) as kit:
        await kit.hears(listed(entry("ada"), entry("bob", metadata={"zone": 5})))
        ada = kit.node.agent("ada")
        assert (ada.name, ada.version, ada.capabilities, ada.metadata) == ("Ada", "1", ("work",), {})
        assert (ada.source, ada.contact_endpoint) == (AgentSource.AGENTKIT, "http://127.0.0.1:1/run")
        assert kit.node.agent("bob").metadata == {"zone": 5}
        await kit.hears(listed(entry("ada", "2"), entry("cy")))
        assert kit.versions() == {"ada": "2", "cy": "1"}
    assert log() == [
        "AgentKit's list: 2 agents are registered: 'ada', 'bob'",
        "AgentKit's list: 2 agents are registered: 'ada', 'cy'",
        "AgentKit's list: 1 agents are forgotten: 'bob'",
    ]


async def test_a_list_that_says_what_is_known_writes_and_logs_nothing(tmp_path: Path, log: Log) -> None:
    async with a_kit(tmp_path) as kit:
        await kit.hears(listed(entry("ada", metadata={"zone": [1.5, None, {"ü": "ß"}]})))
        written = kit.node.statistics().journal.submissions
        log()
        for _ in range(5):
            await kit.discovery.ask()
        assert kit.node.statistics().journal.submissions == written
        assert log() == []


async def test_the_list_is_asked_for_below_agentkits_address_and_plain(tmp_path: Path) -> None:
    for path in ("", "/base", "/base/"):
        async with a_kit(tmp_path, path=path) as kit:
            await kit.discovery.ask()
            (sent,) = kit.asked
            assert sent.first_line == f"GET {path.rstrip('/')}/v1/agents HTTP/1.1"
            assert (sent.header("accept-encoding"), sent.body) == ("identity", b"")


async def test_whom_somebody_else_introduced_is_left_alone(tmp_path: Path) -> None:
    async with a_kit(tmp_path) as kit:
        await kit.node.register_agent("ours", version="0")
        await kit.node.register_agent("theirs", version="0")
        await kit.hears(listed(entry("ours", "9")))
        assert kit.versions() == {"ours": "0", "theirs": "0"}


async def test_what_a_webhook_says_while_the_list_is_under_way_counts(tmp_path: Path) -> None:
    async with a_kit(tmp_path, "known") as kit:

        async def webhooks() -> None:
            await kit.webhook("new")
            await kit.node.deregister_agent("known")

        kit.under_way = webhooks
        await kit.hears(listed(entry("known", "2")))
        assert kit.versions() == {"new": "1"}


# --- entries ------------------------------------------------------------------------------------------------


def nested(levels: int) -> dict[str, Any]:
    return {"n": nested(levels - 1)} if levels else {}


@pytest.mark.parametrize(
    ("odd", "fault"),
    [
        ({"agentId": "a/b"}, "can stand in a path"),
        ({"agentId": ""}, "can stand in a path"),
        ({"agentId": "x" * 129}, "1 to 128 bytes"),
        ({"agentId": "\ud800"}, "it is not JSON"),
        ({"agentName": 5}, "expected a string"),
        ({"agentName": "n" * 257}, "256 characters"),
        ({"version": ["1"]}, "expected a string"),
        ({"capabilities": "work"}, "expected a list"),
        ({"capabilities": ["c"] * 101}, "expected 100 at most"),
        ({"capabilities": [""]}, "1 to 256 characters"),
        ({"contactEndpoint": "ftp://host/"}, "expected an http or https URL"),
        ({"contactEndpoint": "http://169.254.169.254/"}, "never contacted"),
        ({"contactEndpoint": "http://8.8.8.8/"}, "is not in push_allow"),
        ({"metadata": [1]}, "expected an object"),
        ({"metadata": {"n": float("nan")}}, "it is not JSON"),
        ({"metadata": {"text": "\udfff"}}, "it is not JSON"),
        ({"metadata": {"text": "x" * 300_000}}, "value_bytes_max"),
        ({"metadata": nested(200)}, "more than 100 levels deep"),
    ],
    ids=lambda each: str(each)[:40],
)
async def test_an_entry_that_can_not_be_used_is_passed_over_and_told_once(
    tmp_path: Path, log: Log, odd: dict[str, Any], fault: str
) -> None:
    async with a_kit(tmp_path, "gone", allow=("127.0.0.0/8",)) as kit:
        await kit.hears(listed(entry("ada"), entry("odd", **odd), entry("bob")))
        assert kit.versions() == {"ada": "1", "bob": "1"}
        (told,) = [line for line in log() if "skipped" in line]
        assert told.startswith(f"AgentKit's list: agent {odd.get('agentId', 'odd')[:128]!r} is skipped: ")
        assert fault in told
        await kit.discovery.ask()
        assert log() == []


async def test_who_is_listed_with_what_can_not_be_used_stays_as_it_is(tmp_path: Path, log: Log) -> None:
    async with a_kit(tmp_path, "ada", "gone") as kit:
        await kit.hears(listed(entry("ada", "2", contactEndpoint="ftp://host/")))
        assert kit.versions() == {"ada": "1"}
        log()
        await kit.hears(listed(entry("ada", "2", contactEndpoint="gopher://host/", agentName=5)))
        assert len(log()) == 1, "what is wrong with it has changed"
        await kit.hears(listed(entry("ada", "2")))
        assert kit.versions() == {"ada": "2"}


@pytest.mark.parametrize(
    "nameless", [{}, {"agent_id": "ada"}, {"agentId": None}, {"agentId": 7}, [], "ada", None], ids=str
)
async def test_where_an_entry_does_not_say_whose_it_is_nobody_is_forgotten(
    tmp_path: Path, log: Log, nameless: Any
) -> None:
    async with a_kit(tmp_path, "ada") as kit:
        await kit.hears(listed(entry("bob"), nameless))
        assert kit.versions() == {"ada": "1", "bob": "1"}
        assert any("AgentKit's list: entry 1 is skipped" in line for line in log())


async def test_of_two_entries_of_one_agent_the_first_that_can_be_used_counts(tmp_path: Path, log: Log) -> None:
    async with a_kit(tmp_path) as kit:
        twice = entry("bob")
        await kit.hears(
            listed(entry("ada", 5), entry("ada", "2"), entry("ada", "3"), entry("ada", ["4"]), twice, twice)
        )
        assert kit.versions() == {"ada": "2", "bob": "1"}
        assert len([line for line in log() if "skipped" in line]) == 1, "one line for an agent"
        await kit.discovery.ask()
        assert (kit.versions(), log()) == ({"ada": "2", "bob": "1"}, [])


async def test_of_many_entries_that_can_not_be_used_some_are_told_and_the_rest_are_counted(
    tmp_path: Path, log: Log
) -> None:
    async with a_kit(tmp_path) as kit:
        await kit.hears(listed(entry("ada"), *(entry(f"odd-{number}", number) for number in range(50))))
        assert kit.versions() == {"ada": "1"}
        told = [line for line in log() if "skipped" in line]
        assert len(told) == discovery.TOLD_MAX + 1
        assert told[-1] == "AgentKit's list: 30 others are skipped as well"


# --- answers that are no list -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        (answer(500), "it answered 500"),
        (answer(401), "it answered 401"),
        (answer(204), "it answered 204"),
        (answer(206, b'{"status": "success", "data": []}'), "it answered 206"),
        (answer(200), "its answer is not JSON"),
        (answer(200, b"<html>"), "its answer is not JSON"),
        (answer(200, b"[" * 100_000), "its answer is not JSON"),
        (answer(200, b"\xff\xfe\xfa"), "its answer is not JSON"),
        (answer(200, b"[]"), "no list"),
        (answer(200, b"null"), "no list"),
        (listed(data=None), "no list"),
        (listed(data={}), "no list"),
        (listed(status="error"), "no list"),
        (listed(status=["success"]), "no list"),
        (answer(200, b"[]", "content-encoding: gzip"), "encoded"),
        (b"HTTP/1.1 200 Fine\r\ncontent-length: 100\r\n\r\n{", "RemoteProtocolError"),
        (b"", "RemoteProtocolError"),
        (b"SSH-2.0-OpenSSH\r\n", "RemoteProtocolError"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
async def test_an_answer_that_is_no_list_changes_nothing_and_is_told_once(
    tmp_path: Path, log: Log, says: bytes, reason: str
) -> None:
    async with a_kit(tmp_path, "ada") as kit:
        for _ in range(3):
            await kit.hears(says)
        assert kit.versions() == {"ada": "1"}
        (told,) = log()
        assert FAILS in told
        assert reason in told
        await kit.hears(listed(entry("ada")))
        (told,) = log()
        assert LISTS in told


async def test_a_redirect_is_not_followed(tmp_path: Path, log: Log) -> None:
    async with raw_server(saying(listed(entry("evil")))) as elsewhere, a_kit(tmp_path, "ada") as kit:
        for status in (301, 302, 303, 307, 308):
            await kit.hears(answer(status, b"", f"location: http://127.0.0.1:{elsewhere.port}/v1/agents"))
        assert (elsewhere.sent, kit.versions()) == ([], {"ada": "1"})
        assert "it answered 301" in log()[0]


async def test_a_list_that_is_too_large_is_not_read_to_its_end(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = listed(*(entry(f"agent-{number}") for number in range(100)))
    async with a_kit(tmp_path, "ada") as kit:
        monkeypatch.setattr(discovery, "ENTRIES_MAX", 99)
        await kit.hears(large)
        assert "it lists 100 agents, more than the 99" in log()[0]
        monkeypatch.setattr(discovery, "LIST_BYTES_MAX", len(large) // 2)
        monkeypatch.setattr(discovery, "ENTRIES_MAX", 100)
        await kit.hears(large)
        bomb = answer(200, gzip.compress(b"x" * 10_000_000), "content-encoding: gzip")
        await kit.hears(bomb)
        assert kit.versions() == {"ada": "1"}
        monkeypatch.setattr(discovery, "LIST_BYTES_MAX", len(large))
        await kit.hears(large)
        assert len(kit.node.agents(limit=500).items) == 100


async def test_an_agentkit_that_is_silent_or_away_is_a_failure(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "LIST_TIMEOUT_S", 0.2)
    async with a_kit(tmp_path, "ada") as kit:
        kit.under_way = trio.sleep_forever
        await kit.discovery.ask()
        assert "ReadTimeout" in log()[0]
        assert kit.versions() == {"ada": "1"}


@pytest.mark.parametrize("status", [404, 405])
async def test_an_agentkit_without_a_list_is_normal_and_told_once(tmp_path: Path, log: Log, status: int) -> None:
    async with a_kit(tmp_path, "ada") as kit:
        for _ in range(3):
            assert await kit.hears(answer(status, b"{}")) == EVERY_S
        (told,) = log()
        assert NO_LIST in told
        assert f"it answered {status}" in told
        assert kit.versions() == {"ada": "1"}


async def test_whatever_changes_in_how_agentkit_answers_is_told(tmp_path: Path, log: Log) -> None:
    none, fails, lists = answer(404), answer(503), listed(entry("ada"))
    async with a_kit(tmp_path, "ada") as kit:
        await kit.hears(lists)
        assert log() == []
        told = []
        for says in (none, none, fails, answer(500), none, lists, lists, none, lists, fails, lists):
            await kit.hears(says)
            lines = log()
            told.append([mark for mark in (NO_LIST, FAILS, LISTS) if any(mark in line for line in lines)])
    assert told == [[NO_LIST], [], [FAILS], [], [NO_LIST], [LISTS], [], [NO_LIST], [LISTS], [FAILS], [LISTS]]


async def test_agents_that_can_not_be_taken_over_are_told_once_and_tried_again(tmp_path: Path, log: Log) -> None:
    async with a_kit(tmp_path) as kit:
        kit.world.fill(full=True)
        pauses = [await kit.hears(listed(entry("ada"), entry("bob"))) for _ in range(3)]
        (told,) = log()
        assert "2 of the agents could not be updated, for example 'ada': StoreFull" in told
        assert min(pauses) >= EVERY_S
        kit.world.fill(full=False)
        assert await kit.discovery.ask() == EVERY_S
        assert kit.versions() == {"ada": "1", "bob": "1"}
        assert [LISTS in line for line in log()] == [False, True]


async def test_what_nobody_foresaw_is_logged_with_its_traceback_and_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_kit(tmp_path) as kit:
        with monkeypatch.context() as broken:
            broken.setattr(discovery, "_entries", None)
            assert await kit.hears(listed(entry("ada"))) >= EVERY_S
        assert "TypeError" in caplog.text
        assert "Traceback" in caplog.text
        await kit.discovery.ask()
        assert kit.versions() == {"ada": "1"}


# --- when it is asked ---------------------------------------------------------------------------------------


async def test_after_failures_it_is_asked_later_and_ever_later_until_it_answers(tmp_path: Path) -> None:
    async with a_kit(tmp_path) as kit:
        for ceiling_s in (60, 120, 240, 300, 300):
            assert ceiling_s / 2 <= await kit.hears(answer(500)) <= ceiling_s
        assert await kit.hears(listed()) == EVERY_S
        assert EVERY_S <= await kit.hears(answer(500)) <= 2 * EVERY_S


async def test_it_is_asked_at_once_and_then_at_intervals(tmp_path: Path, mock_clock: MockClock) -> None:
    async with a_kit(tmp_path) as kit, trio.open_nursery() as nursery:
        nursery.start_soon(kit.discovery.run)
        for number in range(1, 4):
            kit.says = listed(entry("ada", str(number)))
            mock_clock.jump(0.1)
            await until(lambda: kit.versions() == {"ada": str(number)})  # noqa: B023 (called now)
            await quiet()
            mock_clock.jump(EVERY_S - 0.1)
            await quiet()
            assert len(kit.asked) == number
        nursery.cancel_scope.cancel()


async def until_asked(kit: Kit) -> None:
    await until(lambda: len(kit.asked) == 1)


@pytest.mark.parametrize("under_way", [True, False])
async def test_it_ends_when_the_node_drains(tmp_path: Path, under_way: bool) -> None:
    async with a_kit(tmp_path) as kit, trio.open_nursery() as nursery:
        if under_way:
            kit.under_way = trio.sleep_forever
        with trio.fail_after(10):
            async with trio.open_nursery() as discovering:
                discovering.start_soon(kit.discovery.run)
                await until_asked(kit)
                kit.node.drain()
        assert kit.versions() == {}
        nursery.cancel_scope.cancel()


def test_a_list_of_as_many_agents_as_are_read_finds_room_in_its_bytes() -> None:
    assert len(json.dumps(entry("x" * 128))) * discovery.ENTRIES_MAX < discovery.LIST_BYTES_MAX
