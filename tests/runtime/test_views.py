# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Lists are read a bounded number of bytes at a page, however large the rows are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from trio.testing import MockClock

from opscore.runtime.errors import InvalidDocument, LimitExceeded, SessionNotFound
from opscore.runtime.models import TaskStatus
from opscore.runtime.views import Page
from tests.runtime.world import World, begin, ended, hire, join, one_task

LARGE = "x" * 3_000


def pages(read: Callable[..., Page[Any]], **filters: Any) -> list[int]:
    """How many items each page of a list has, to its end."""
    sizes: list[int] = []
    cursor: str | None = None
    while True:
        page = read(limit=100, cursor=cursor, **filters)
        sizes.append(len(page.items))
        assert len(sizes) < 100
        cursor = page.next_cursor
        if cursor is None:
            return sizes


async def test_a_page_reads_no_more_than_so_many_bytes_and_the_next_goes_on_behind_it(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("opscore.runtime.views.READ_BYTES_MAX", 8_000)
    async with World(tmp_path).node() as node:
        for number in range(7):
            await node.register_agent(f"agent-{number}", capabilities=["any"], metadata={"about": LARGE})
            await node.trigger(one_task("waits"), payload=LARGE, labels={"team": "red"})
        assert pages(node.sessions) == pages(node.sessions, labels={"team": "red"}) == [3, 3, 1]
        assert pages(node.sessions, workflow_id="another") == [0, 0, 0]
        assert pages(node.agents) == pages(node.agents, capability="any") == [3, 3, 1]
        monkeypatch.setattr("opscore.runtime.views.READ_BYTES_MAX", 1)
        assert pages(node.agents) == [1] * 7


async def test_a_page_of_dead_letters_reads_no_more_than_so_many_bytes_of_their_runs(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("opscore.runtime.views.READ_BYTES_MAX", 8_000)
    definition = one_task("fails", retry={"maxRetries": 0}, scheduleToStartSeconds=1)
    async with World(tmp_path).node() as node:
        for _ in range(5):
            await ended(node, await node.trigger(definition, payload=LARGE))
        assert pages(node.dead_letters) == [2, 2, 1]


def a_list(count: int) -> dict[str, Any]:
    """A workflow with a list in the middle of twelve tasks."""
    tasks: list[dict[str, Any]] = [{"taskId": f"t{number}", "agentCapability": "work"} for number in range(12)]
    tasks[5] |= {"forEach": f"${{ {list(range(count))} }}", "concurrency": 5}
    return {"id": "list", "tasks": [{**task, "dependsOn": []} for task in tasks]}


async def test_the_tasks_of_a_session_are_listed_page_by_page_in_the_order_of_its_definition(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with World(tmp_path).node() as node:
        await hire(node, "a", result=LARGE)
        session = await ended(node, await begin(node, a_list(11)))
        whole = node.session(session.session_id).tasks
        assert len(whole) == 12 + 11
        found, cursor = [], None
        while True:
            page = node.session_tasks(session.session_id, limit=4, cursor=cursor)
            found += [each.task for each in page.items]
            if (cursor := page.next_cursor) is None:
                break
        assert tuple(found) == whole
        monkeypatch.setattr("opscore.runtime.views.READ_BYTES_MAX", 12_000)
        sizes = pages(lambda **given: node.session_tasks(session.session_id, **given))
        assert (max(sizes), sum(sizes)) == (5, 23), "the task with the list is small"
        for wrong in ({"limit": 501}, {"cursor": "ses_other.1"}):
            with pytest.raises(InvalidDocument):
                node.session_tasks(session.session_id, **wrong)
        with pytest.raises(SessionNotFound):
            node.session_tasks("ses_other")


async def test_a_page_of_tasks_shows_the_progress_of_what_is_out(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with World(tmp_path).node() as node:
        await join(node, "a")
        session = await begin(node, one_task())
        await node.heartbeat(f"{session.session_id}.0", 1, progress={"done": 0.5})
        (shown,) = node.session_tasks(session.session_id).items
        assert (shown.task.status, shown.progress) == (TaskStatus.RUNNING, {"done": 0.5})


async def test_a_session_is_shown_without_its_tasks_or_within_a_bound(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World(tmp_path).node() as node:
        await hire(node, "a", result=LARGE * 10)
        session = await ended(node, await begin(node, a_list(11)))
        assert session.result is not None
        for bytes_max in (1, 400_000):
            with pytest.raises(LimitExceeded, match="tasks_bytes_max"):
                node.session(session.session_id, tasks_bytes_max=bytes_max)
            with pytest.raises(LimitExceeded, match="tasks_bytes_max"):
                await node.wait_briefly(session.session_id, 1.0, tasks_bytes_max=bytes_max)
        assert node.session(session.session_id, tasks_bytes_max=10**6) == node.session(session.session_id)
        bare = await node.wait_briefly(session.session_id, 1.0, tasks_bytes_max=0)
        assert bare == node.session(session.session_id, tasks_bytes_max=0)
        assert (bare.tasks, bare.session.result, bare.session.status) == ((), None, "completed"), (
            "the result is in them"
        )
        with pytest.raises(SessionNotFound):
            node.session("ses_other", tasks_bytes_max=0)
