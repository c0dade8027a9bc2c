# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""A step of thousands of items is one commit, and others have their turn while it is written and told of."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from opscore.runtime.journal.tables import TASKS
from opscore.runtime.models import Move, Task, TaskStatus
from opscore.runtime.runs import session_rows, session_standing
from opscore.runtime.runs.session_standing import SessionStanding
from opscore.runtime.runs.tallies import Tally, tallied
from opscore.runtime.store import Snapshot, Submission
from tests.runtime.world import World, check_rows

COUNT = 60
A_LIST = {
    "taskId": "each",
    "agentCapability": "nobody",
    "forEach": f"${{ {list(range(COUNT))} }}",
    "concurrency": COUNT,
}


class Turns:
    """Counts the turns of another task, and notes at which of them something happened."""

    def __init__(self) -> None:
        self.now = 0
        self.noted: list[int] = []

    async def run(self) -> None:
        while True:
            self.now += 1
            await trio.lowlevel.checkpoint()

    def note(self) -> None:
        self.noted.append(self.now)

    def taken(self) -> int:
        """How many turns the other had between the first and the last of what happened; both are forgotten."""
        found, self.noted = len(set(self.noted)), []
        return found


async def test_others_have_their_turn_while_a_long_list_begins_and_is_cancelled_which_are_one_commit_each(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns, told = Turns(), Turns()
    counts: set[int] = set()
    difference, follow = session_rows.difference, SessionStanding._follow  # noqa: SLF001 (others are told by nobody else)

    def watched(*arguments: Any) -> Generator[None, None, Submission]:
        making = difference(*arguments)
        while True:
            turns.note()
            try:
                next(making)
            except StopIteration as made:
                return made.value  # type: ignore[no-any-return]
            yield

    def followed(actor: SessionStanding, effect: Any, version: int) -> None:
        told.note()
        follow(actor, effect, version)

    def look(view: Snapshot) -> None:
        check_rows(view)
        statuses = [task.status for task, _ in TASKS.scan(view) if task.item is not None]
        counts.add(len([each for each in statuses if each is TaskStatus.READY]))

    monkeypatch.setattr(session_standing, "difference", watched)
    monkeypatch.setattr(SessionStanding, "_follow", followed)
    for module in (session_rows, session_standing):
        monkeypatch.setattr(module, "AT_ONCE", 10)
    async with World(tmp_path, look=look).node() as node, trio.open_nursery() as nursery:
        nursery.start_soon(turns.run)
        nursery.start_soon(told.run)
        session = await node.trigger({"id": "w", "tasks": [A_LIST]})
        assert turns.taken() > COUNT // 10
        assert told.taken() > COUNT // 20
        await node.steer(session.session_id, Move.CANCEL)
        assert turns.taken() > COUNT // 10
        assert told.taken() > COUNT // 20
        assert counts == {0, COUNT}
        nursery.cancel_scope.cancel()


async def test_a_small_step_is_made_without_a_turn_for_others(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns, difference = Turns(), session_rows.difference

    def watched(*arguments: Any) -> Generator[None, None, Submission]:
        making = difference(*arguments)
        while True:
            turns.note()
            try:
                next(making)
            except StopIteration as made:
                return made.value  # type: ignore[no-any-return]
            yield

    monkeypatch.setattr(session_standing, "difference", watched)
    async with World(tmp_path).node() as node, trio.open_nursery() as nursery:
        nursery.start_soon(turns.run)
        await node.trigger({"id": "w", "tasks": [A_LIST]})
        assert turns.taken() == 1
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("old", [None, *TaskStatus])
@pytest.mark.parametrize("new", TaskStatus)
def test_a_tally_that_is_kept_up_is_that_of_the_items_counted_anew(old: TaskStatus | None, new: TaskStatus) -> None:
    def item(status: TaskStatus) -> Task:
        return Task(task_id="ses.0.0", session_id="ses", key="t", ordinal=0, item=0, status=status)

    others = [item(status) for status in TaskStatus]
    before = tallied(others if old is None else [*others, item(old)])
    assert before.moved(None if old is None else item(old), item(new)) == tallied([*others, item(new)])
    assert Tally() == tallied([])
