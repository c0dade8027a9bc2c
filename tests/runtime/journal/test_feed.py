import trio
from trio.testing import wait_all_tasks_blocked

from opscore.runtime.journal.feed import Feed
from opscore.runtime.journal.tables import AGENTS, LEASES, OPEN_SESSIONS, SESSIONS, OpenSession
from opscore.runtime.lease import Lease
from opscore.runtime.models import Agent
from opscore.runtime.store import Delete, Submission


def ending(*session_ids: str) -> Submission:
    return Submission(
        writes=(*(OPEN_SESSIONS.delete(session_id) for session_id in session_ids), Delete("t", b"\xff not a text"))
    )


def test_a_bell_rings_when_a_commit_ends_its_session_and_only_then() -> None:
    feed = Feed()
    with feed.listen("ses_1") as bell:
        feed.publish(ending("ses_2", "ses_11"))
        feed.publish(Submission(writes=(OPEN_SESSIONS.put(OpenSession(session_id="ses_1")), SESSIONS.delete("ses_1"))))
        assert not bell.is_set()
        feed.publish(ending("ses_2", "ses_1"))
        assert bell.is_set()


async def test_everyone_who_listens_is_woken_by_one_commit() -> None:
    feed = Feed()
    woken = []

    async def listen(name: str) -> None:
        with feed.listen("ses_1") as bell:
            await bell.wait()
            woken.append(name)

    async with trio.open_nursery() as nursery:
        for name in "abc":
            nursery.start_soon(listen, name)
        await wait_all_tasks_blocked()
        assert feed.statistics() == 3
        feed.publish(ending("ses_1"))
    assert sorted(woken) == ["a", "b", "c"]
    assert feed.statistics() == 0


def test_a_listener_that_leaves_takes_down_its_own_bell_only() -> None:
    feed = Feed()
    with feed.listen("ses_1") as stays:
        with feed.listen("ses_1"):
            pass
        assert feed.statistics() == 1
        feed.publish(ending("ses_1"))
        assert stays.is_set()


def test_a_listener_that_was_woken_leaves_the_bells_hung_up_since_alone() -> None:
    feed = Feed()
    with feed.listen("ses_1"):
        feed.publish(ending("ses_1"))
        later = feed.listen("ses_1")
        bell = later.__enter__()
    feed.publish(ending("ses_1"))
    assert bell.is_set()
    later.__exit__(None, None, None)
    assert feed.statistics() == 0


def test_nobody_listening_costs_nothing() -> None:
    feed = Feed()
    feed.publish(ending(*(f"ses_{number}" for number in range(1_000))))
    assert feed.statistics() == 0


async def test_whoever_waits_for_any_commit_is_woken_by_the_next_one() -> None:
    feed = Feed()
    woken = []

    async def wait(name: str) -> None:
        await feed.next_commit()
        woken.append(name)

    async with trio.open_nursery() as nursery:
        feed.committed()
        for name in "ab":
            nursery.start_soon(wait, name)
        await wait_all_tasks_blocked()
        assert woken == []
        feed.committed()
    assert sorted(woken) == ["a", "b"]


def test_an_agents_bell_rings_at_whatever_is_said_of_it_and_at_the_end_of_its_lease() -> None:
    agent = Agent(agent_id="a", name="a", registered_at=0.0)
    lease = Lease(
        agent_id="a",
        session_id="ses_1",
        task_id="ses_1.0",
        attempt=1,
        granted_at=0.0,
        expires_at=1.0,
        timeout_at=1.0,
        lease_s=1.0,
    )
    feed = Feed()
    for said in (AGENTS.put(agent), AGENTS.delete("a"), LEASES.delete("a")):
        with feed.listen_to_agent("a") as bell:
            feed.publish(Submission(writes=(AGENTS.delete("b"), LEASES.delete("b"), LEASES.put(lease))))
            assert not bell.is_set()
            feed.publish(Submission(writes=(said,)))
            assert bell.is_set()
    assert feed.statistics() == 0
