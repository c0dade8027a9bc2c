import trio
from trio.testing import wait_all_tasks_blocked

from opscore.runtime.feed import Feed
from opscore.runtime.store import Delete, Put, Submission


def writing(*entity_ids: str) -> Submission:
    keys = [entity_id.encode() for entity_id in entity_ids]
    return Submission(writes=(*(Put("t", key, b"", 1) for key in keys), Delete("t", b"\xff not a text")))


def test_a_bell_rings_when_a_commit_touches_its_entity_and_only_then() -> None:
    feed = Feed()
    with feed.listen("ses_1") as bell:
        feed.publish(writing("ses_2", "ses_11"))
        assert not bell.is_set()
        feed.publish(writing("ses_2", "ses_1"))
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
        feed.publish(writing("ses_1"))
    assert sorted(woken) == ["a", "b", "c"]
    assert feed.statistics() == 0


def test_a_listener_that_leaves_takes_down_its_own_bell_only() -> None:
    feed = Feed()
    with feed.listen("ses_1") as stays:
        with feed.listen("ses_1"):
            pass
        assert feed.statistics() == 1
        feed.publish(writing("ses_1"))
        assert stays.is_set()


def test_a_listener_that_was_woken_leaves_the_bells_hung_up_since_alone() -> None:
    feed = Feed()
    with feed.listen("ses_1"):
        feed.publish(writing("ses_1"))
        later = feed.listen("ses_1")
        bell = later.__enter__()
    feed.publish(writing("ses_1"))
    assert bell.is_set()
    later.__exit__(None, None, None)
    assert feed.statistics() == 0


def test_nobody_listening_costs_nothing() -> None:
    feed = Feed()
    feed.publish(writing(*(f"ses_{number}" for number in range(1_000))))
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
