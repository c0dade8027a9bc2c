# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Lists are read a bounded number of bytes at a page, however large the rows are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from trio.testing import MockClock

from opscore.runtime.views import Page
from tests.runtime.world import World, ended, one_task

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
