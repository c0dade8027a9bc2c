"""What every commit has to keep of runs that others began: how many there may be, and how deep they may stand."""

import itertools
from collections.abc import Iterator
from typing import Final

from opscore.runtime.models import Session, TaskStatus
from opscore.runtime.open_runs import root_of
from opscore.runtime.simulation.rows import Commit, Rows
from opscore.runtime.tables import SESSIONS, session_of
from opscore.runtime.transitions import TOO_MANY_RUNS

SEEN_WITHIN_S: Final = 5.0
"""So long after a run began or ended in calm times everybody knows of it."""
_BELOW: Final = "runs_below_max"
_CANCELLED: Final = "the run was cancelled"
"""What a task says whose run was; one above that fails by it says so in a sentence of its own."""


def runs_stand_as_deep_as_they_say(commit: Commit, rows: Rows) -> Iterator[str]:
    """A run says by how many it stands below that which was triggered, which are `runs_depth_max` at most."""
    for session in _begun(commit):
        above = rows.sessions.get(session_of(session.parent_task_id or ""))
        if above is not None and session.depth != above.depth + 1:
            yield f"session {session.session_id} is at {session.depth}, and the one above it at {above.depth}"
        if session.depth > rows.limits.runs_depth_max:
            yield f"session {session.session_id} begins at {session.depth}, of {rows.limits.runs_depth_max} that may be"


def runs_below_are_bounded(commit: Commit, rows: Rows) -> Iterator[str]:
    """No run begins below one of which `runs_below_max` are unfinished; those that begin at that moment come on top."""
    for session in _begun(commit):
        if not rows.calm_for(2 * SEEN_WITHIN_S):
            continue
        # What has ended since it was looked at was unfinished then.
        open_since = [rows.sessions[each].created_at for each in _unfinished_beside(session.session_id, rows)]
        known = sum(1 for at in open_since if at < session.created_at - SEEN_WITHIN_S)
        if known >= rows.limits.runs_below_max:
            yield f"session {session.session_id} begins, and {known} are unfinished below {root_of(session.session_id)}"


def who_may_begin_a_run_does(commit: Commit, rows: Rows) -> Iterator[str]:
    """A task fails because there are too many runs only where there are."""
    for before, after in commit.moved_tasks:
        error = after.error
        if after.status is not TaskStatus.FAILED or error is None or error.code != TOO_MANY_RUNS or not before.awaits:
            continue
        # What a run below failed by is told in its own words.
        if not error.message.startswith(_BELOW) or not rows.calm_for(2 * SEEN_WITHIN_S):
            continue
        root = root_of(after.session_id)
        count = len(_unfinished_beside(root, rows)) + _ended_lately(root, rows)
        if count < rows.limits.runs_below_max:
            yield f"task {after.task_id} fails by {error.message!r}, and {count} are unfinished"


def what_no_other_run_helps_is_not_tried_again(commit: Commit, rows: Rows) -> Iterator[str]:
    """A task whose run was cancelled, or failed because there were too many, is not tried again."""
    for _, after in commit.moved_tasks:
        if after.status is not TaskStatus.PENDING_RETRY or after.error is None or after.child_session_id is None:
            continue
        if after.error.code == TOO_MANY_RUNS or after.error.message == _CANCELLED:
            yield f"task {after.task_id} waits for another run, and failed by {after.error.message!r}"


def _begun(commit: Commit) -> Iterator[Session]:
    for change in commit.of(SESSIONS.name):
        if change.before is None and change.after is not None and change.after.parent_task_id is not None:
            yield change.after


def _unfinished_beside(session_id: str, rows: Rows) -> list[str]:
    """The unfinished runs below the one that was triggered, but for this one, if it is one of them."""
    root = root_of(session_id)
    return [each for each in rows.unfinished if each not in (root, session_id) and root_of(each) == root]


def _ended_lately(root: str, rows: Rows) -> int:
    since = rows.now() - SEEN_WITHIN_S
    every = itertools.chain(rows.sessions.values(), rows.gone.values())
    ended = (each for each in every if root_of(each.session_id) == root and each.session_id != root)
    return sum(1 for each in ended if each.ended_at is not None and each.ended_at >= since)
