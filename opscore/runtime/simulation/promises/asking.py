"""Promises about replies: to clients with idempotency keys, and to operators who list, drain, retry and schedule."""

from collections.abc import Iterator
from typing import Final

from opscore.runtime.journal.tables import SCHEDULES
from opscore.runtime.simulation.promises.outside import Reply
from opscore.runtime.simulation.rows import Commit, Rows

_EPSILON_S: Final = 1e-6
_STOPS: Final = "process_restarts"
"""The fault that makes a node drain, which ends the requests that wait in it."""
_CONTENT: Final = ("workflow_id", "payload", "agent_id", "cron", "at", "time_zone", "missed")
"""The fields of a schedule that never change."""


def every_trigger_is_answered(rows: Rows) -> Iterator[str]:
    """Once faults have stopped, every trigger is accepted or permanently refused: no client has to retry for ever."""
    for number, stands in rows.ledger.unanswered.items():
        yield f"trigger {number} was never accepted: {stands}"


def keys_stand_for_what_was_asked(reply: Reply, rows: Rows) -> Iterator[str]:
    """A key without an explicit body stands for the whole request: the same key with other content is refused."""
    if reply.call != "trigger" or reply.arguments.get("says_body", True):
        return
    session = rows.session(reply.value.session_id)
    if session is None:
        return
    # The payload, the labels and the business key are checked for every trigger, by other promises.
    found = (session.workflow_id, session.agent_id)
    asked = (reply.arguments["workflow_id"], reply.arguments["agent_id"])
    if found != asked:
        yield f"session {session.session_id} is of {found}, and its key was asked for {asked}"


def runs_are_listed_by_what_they_have(reply: Reply, rows: Rows) -> Iterator[str]:
    """A search by labels and business key lists exactly the runs that have all of them, newest first."""
    if reply.call != "look":
        return
    labels, business_key = reply.arguments["labels"], reply.arguments["business_key"]
    wanted = [
        session.session_id
        for session in rows.sessions.values()
        if labels.items() <= session.labels.items() and business_key in (None, session.business_key)
    ]
    if reply.value != sorted(wanted, reverse=True):
        yield f"who looks for {labels} and {business_key!r} is shown {reply.value}, and there are {sorted(wanted)}"


def drains_wait_for_the_lease(reply: Reply, rows: Rows) -> Iterator[str]:
    """A drain waits until the agent has no lease, the agent is uncordoned, its time is over, or the node stops."""
    if reply.call != "drain":
        return
    agent_id, found = reply.arguments["agent_id"], reply.value
    if found.lease is None and agent_id in rows.leases:
        yield f"agent {agent_id} is drained, and holds {rows.leases[agent_id].task_id}"
    left_s = reply.arguments["wait_s"] - reply.arguments["waited_s"]
    if found.lease is not None and found.agent.cordoned and left_s > _EPSILON_S and _STOPS not in rows.faults:
        yield f"agent {agent_id} still holds {found.lease.task_id}, and might be waited for for {left_s:g} s more"


def sweeps_try_what_was_asked_for(reply: Reply, rows: Rows) -> Iterator[str]:
    """A retry by error code retries all dead letters with it, newest first, `replays_max` at a call, and ends."""
    if reply.call != "replay":
        return
    tried = {session.session_id for session in reply.value.sessions} | {each.session_id for each in reply.value.refused}
    letters, at_once = reply.arguments["letters"], rows.limits.replays_max
    if letters is not None:
        wanted = {letter.session.session_id for letter in letters[:at_once]}
        if tried != wanted:
            yield f"the first to be tried again are {sorted(tried)}, and should be {sorted(wanted)}"
    if reply.arguments["calls"] > reply.arguments["count"] / at_once + 1:
        yield f"trying {reply.arguments['count']} dead letters again has taken {reply.arguments['calls']} calls"


def schedules_are_what_was_asked_for(reply: Reply, rows: Rows) -> Iterator[str]:
    """A client whose schedule is accepted has the one that it asked for, and not another one under the same id."""
    if reply.call == "schedule" and reply.value.missed is not reply.arguments["missed"]:
        asked = reply.arguments["missed"]
        yield f"schedule {reply.value.schedule_id} was asked to treat missed times by {asked}, not {reply.value.missed}"


def schedules_say_the_same_for_good(commit: Commit, rows: Rows) -> Iterator[str]:
    """The content of a schedule never changes after its creation."""
    for change in commit.of(SCHEDULES.name):
        before, after = change.before, change.after
        if before is not None and after is not None:
            others = [name for name in _CONTENT if getattr(before, name) != getattr(after, name)]
            if others:
                yield f"schedule {change.key} has another {', '.join(others)} than it was made with"
