"""What whoever asks something of the node is answered: clients under their keys, and operators who look and sweep."""

from collections.abc import Iterator
from typing import Final

from opscore.runtime.simulation.promises.outside import Reply
from opscore.runtime.simulation.rows import Commit, Rows
from opscore.runtime.tables import SCHEDULES

_EPSILON_S: Final = 1e-6
_STOPS: Final = "process_restarts"
"""The fault by which a node drains, which ends whatever waits for it."""
_CONTENT: Final = ("workflow_id", "payload", "agent_id", "cron", "at", "time_zone", "missed")
"""What a schedule says."""


def every_trigger_is_answered(rows: Rows) -> Iterator[str]:
    """Once faults have stopped, every trigger is accepted, or refused for good: nobody asks again and again in vain."""
    for number, stands in rows.ledger.unanswered.items():
        yield f"trigger {number} was never accepted: {stands}"


def keys_stand_for_what_was_asked(reply: Reply, rows: Rows) -> Iterator[str]:
    """A key for which no body is said stands for all that was asked under it: other content is refused."""
    if reply.call != "trigger" or reply.arguments.get("says_body", True):
        return
    session = rows.session(reply.value.session_id)
    if session is None:
        return
    # Its payload, labels and business key are looked at for every trigger.
    found = (session.workflow_id, session.agent_id)
    asked = (reply.arguments["workflow_id"], reply.arguments["agent_id"])
    if found != asked:
        yield f"session {session.session_id} is of {found}, and its key was asked for {asked}"


def runs_are_listed_by_what_they_have(reply: Reply, rows: Rows) -> Iterator[str]:
    """Whoever looks for labels and a business key is shown the runs that have all of them, the newest first."""
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
    """Whoever drains an agent waits until it holds no lease, as long as it is not put back and the node goes on."""
    if reply.call != "drain":
        return
    agent_id, found = reply.arguments["agent_id"], reply.value
    if found.lease is None and agent_id in rows.leases:
        yield f"agent {agent_id} is drained, and holds {rows.leases[agent_id].task_id}"
    left_s = reply.arguments["wait_s"] - reply.arguments["waited_s"]
    if found.lease is not None and found.agent.cordoned and left_s > _EPSILON_S and _STOPS not in rows.faults:
        yield f"agent {agent_id} still holds {found.lease.task_id}, and might be waited for for {left_s:g} s more"


def sweeps_try_what_was_asked_for(reply: Reply, rows: Rows) -> Iterator[str]:
    """All dead letters of a code are tried again, the newest first, so many at a call, and that comes to an end."""
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
    """Whoever is told that a schedule is made has the one that he asked for, and not another one under its id."""
    if reply.call == "schedule" and reply.value.missed is not reply.arguments["missed"]:
        asked = reply.arguments["missed"]
        yield f"schedule {reply.value.schedule_id} was asked to treat missed times by {asked}, not {reply.value.missed}"


def schedules_say_the_same_for_good(commit: Commit, rows: Rows) -> Iterator[str]:
    """What a schedule says stays as it was made."""
    for change in commit.of(SCHEDULES.name):
        before, after = change.before, change.after
        if before is not None and after is not None:
            others = [name for name in _CONTENT if getattr(before, name) != getattr(after, name)]
            if others:
                yield f"schedule {change.key} has another {', '.join(others)} than it was made with"
