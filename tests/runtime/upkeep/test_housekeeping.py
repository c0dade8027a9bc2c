# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Chores that fail are put off, and keep nobody from work."""

from pathlib import Path
from typing import Any

import lmdb
import pytest
import trio
from trio.testing import MockClock

from opscore.runtime.models import SessionStatus
from tests.runtime.world import World, begin, ended, hire


class Unreadable:
    """An environment of LMDB that can't say who reads in it."""

    def __init__(self, environment: Any) -> None:
        self._environment = environment

    def __getattr__(self, name: str) -> Any:
        return getattr(self._environment, name)

    def reader_check(self) -> int:
        raise lmdb.Error("mdb_reader_check: Input/output error")


async def test_a_store_that_can_not_tell_who_reads_it_is_asked_again_later(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with World(tmp_path).node() as node:
        store: Any = node._core.store  # noqa: SLF001 (its environment is nobody else's to reach)
        monkeypatch.setattr(store, "_env", Unreadable(store._env))  # noqa: SLF001
        await hire(node, "a")
        await trio.sleep(200)
        assert caplog.text.count("housekeeping is put off") >= 3
        assert (await ended(node, await begin(node))).status is SessionStatus.COMPLETED
