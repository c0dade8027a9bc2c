"""Promises about child runs: how many there may be, and how deep they may be nested."""

import itertools
from collections.abc import Iterator
from typing import Final

from opscore.runtime.journal.tables import SESSIONS, session_of
from opscore.runtime.models import Session, TaskStatus
from opscore.runtime.runs.open_runs import root_of
from opscore.runtime.runs.transitions import TOO_MANY_RUNS
from opscore.runtime.simulation.rows import Commit, Rows

SEEN_WITHIN_S: Final = 5.0
"""How long it takes in calm times until all actors know that a run began or ended."""
_BELOW: Final = "runs_below_max"
_CANCELLED: Final = "the run was cancelled"
"""The error message of a task whose child run was cancelled; tasks further up word it differently."""


def runs_stand_as_deep_as_they_say(commit: Commit, rows: Rows) -> Iterator[str]:
    """The depth of a run is its distance from the triggered run, and `runs_depth_max` at most."""
    for session in _begun(commit):
        above = rows.sessions.get(session_of(session.parent_task_id or ""))
        if above is not None and session.depth != above.depth + 1:
            yield f"session {session.session_id} is at {session.depth}, and the one above it at {above.depth}"
        if session.depth > rows.limits.runs_depth_max:
            yield f"session {session.session_id} begins at {session.depth}, of {rows.limits.runs_depth_max} that may be"


def runs_below_are_bounded(commit: Commit, rows: Rows) -> Iterator[str]:
    """In calm times no child run begins while `runs_below_max` below the same root are unfinished.

    Runs that begin at the same moment may exceed the limit.
    """
    for session in _begun(commit):
        if not rows.calm_for(2 * SEEN_WITHIN_S):
            continue
        # Only runs that are known to everybody count, and all of these were unfinished when the limit was checked.
        open_since = [rows.sessions[each].created_at for each in _unfinished_beside(session.session_id, rows)]
        known = sum(1 for at in open_since if at < session.created_at - SEEN_WITHIN_S)
        if known >= rows.limits.runs_below_max:
            yield f"session {session.session_id} begins, and {known} are unfinished below {root_of(session.session_id)}"


def who_may_begin_a_run_does(commit: Commit, rows: Rows) -> Iterator[str]:
    """In calm times a task fails with `too_many_runs` only if there are too many child runs."""
    for before, after in commit.moved_tasks:
        error = after.error
        if after.status is not TaskStatus.FAILED or error is None or error.code != TOO_MANY_RUNS or not before.awaits:
            continue
        # An error that was passed on from a child run has another message.
        if not error.message.startswith(_BELOW) or not rows.calm_for(2 * SEEN_WITHIN_S):
            continue
        root = root_of(after.session_id)
        count = len(_unfinished_beside(root, rows)) + _ended_lately(root, rows)
        if count < rows.limits.runs_below_max:
            yield f"task {after.task_id} fails by {error.message!r}, and {count} are unfinished"


def what_no_other_run_helps_is_not_tried_again(commit: Commit, rows: Rows) -> Iterator[str]:
    """A task whose child run was cancelled, or failed because there were too many runs, is not retried."""
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
    """Return the unfinished runs below the triggered one, without this one."""
    root = root_of(session_id)
    return [each for each in rows.unfinished if each not in (root, session_id) and root_of(each) == root]


def _ended_lately(root: str, rows: Rows) -> int:
    since = rows.now() - SEEN_WITHIN_S
    every = itertools.chain(rows.sessions.values(), rows.gone.values())
    ended = (each for each in every if root_of(each.session_id) == root and each.session_id != root)
    return sum(1 for each in ended if each.ended_at is not None and each.ended_at >= since)
