# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from opscore.runtime.errors import NotReady
from opscore.runtime.journal.commit_line import CommitLine, Journal
from opscore.runtime.storage.lmdb_store import LmdbStore
from tests.runtime.journal_stage import keys, open_stage_store, put, stage


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LmdbStore]:
    with open_stage_store(tmp_path) as opened:
        yield opened


async def test_what_stands_in_a_line_that_closes_and_who_comes_later_is_refused(store: LmdbStore) -> None:
    line = CommitLine()
    refused = []

    async def wait() -> None:
        with pytest.raises(NotReady, match="the node takes no work: it has stopped"):
            await Journal(line).commit(put("a"))
        refused.append(line)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        line.close("it has stopped")
    await wait()
    assert len(refused) == 2


async def test_a_load_can_be_given_up_and_a_commit_can_not(store: LmdbStore) -> None:
    scopes, ended = {name: trio.CancelScope() for name in ("load", "commit")}, []

    async def give_up(work: Callable[[], Awaitable[object]], name: str) -> None:
        with scopes[name]:
            await work()
        ended.append(name)

    async with stage(store) as on:
        on.writer.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(on.journal.commit, put("under way"))
            await wait_all_tasks_blocked()
            nursery.start_soon(give_up, lambda: on.journal.load(keys), "load")
            nursery.start_soon(give_up, lambda: on.journal.commit(put("a")), "commit")
            await wait_all_tasks_blocked()
            for scope in scopes.values():
                scope.cancel()
            await wait_all_tasks_blocked()
            assert ended == ["load"]
            on.writer.release()
        assert ended == ["load", "commit"]
        assert await on.journal.load(keys) == ["a", "under way"]
