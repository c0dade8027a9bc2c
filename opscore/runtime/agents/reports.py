"""The meaning of an agent's state report for the lease that the agent holds, as pure functions.

The contract of Ops-Core lets an agent report `active`, then `idle`, and never name its task. What a report proves
therefore depends on the reports before it in the same lease. An idle report that proves nothing ends nothing.
"""

import math
from typing import Any, Final

import attrs

from opscore.runtime.delivery import Completed, Failed, Lost, Undelivered
from opscore.runtime.errors import Fault, InvalidDocument
from opscore.runtime.lease import Lease
from opscore.runtime.models import (
    STATE_ACTIVE,
    STATE_ERROR,
    STATE_FINISHED,
    STATE_IDLE,
    STATE_INITIALIZING,
    STATE_OFFLINE,
    Agent,
    AgentSource,
    Failure,
)

STATE_CHARACTERS_MAX: Final = 64


@attrs.frozen(kw_only=True)
class Alive:
    """The agent works on its attempt, so the lease is renewed."""


@attrs.frozen(kw_only=True)
class Nothing:
    """The report says nothing about the attempt."""


Meaning = Alive | Nothing | Completed | Failed | Lost | Undelivered


def normalise(state: str) -> str:
    """Return the name of a state in lower case, with `busy` as `active`.

    Raises:
        ValueError: the name is empty or longer than 64 characters.
    """
    name = state.strip().lower()
    if not name or len(name) > STATE_CHARACTERS_MAX:
        raise ValueError(f"expected a state of 1 to {STATE_CHARACTERS_MAX} characters")
    return STATE_ACTIVE if name == "busy" else name


def check_timestamp(given: Any) -> None:
    """Check the timestamp of a report; None is allowed.

    Raises:
        InvalidDocument: it is not a finite number.
    """
    is_number = isinstance(given, int | float) and not isinstance(given, bool) and math.isfinite(given)
    if given is not None and not is_number:
        fault = Fault(path="timestamp", message=f"expected Unix seconds, found {given!r}")
        raise InvalidDocument("report", (fault,))


def meaning_before_handed(state: str) -> Meaning:
    """Decide what a report means before the attempt has been handed over: it can't be about the attempt.

    An agent that turns out not to be idle must not be handed the task, which is not the task's fault.
    """
    if state == STATE_IDLE:
        return Nothing()
    return Undelivered(reason=f"the agent reported {state} before it was handed the task")


def lets_go(state: str, details: dict[str, Any] | None, lease: Lease) -> bool:
    """Whether a report shows that the agent is done with an attempt that was taken back from it."""
    named = {"opscore_task_id": lease.task_id, "opscore_attempt": lease.attempt}
    about_it = all((details or {}).get(name) in (None, value) for name, value in named.items())
    return about_it and state in (STATE_IDLE, STATE_FINISHED, STATE_ERROR, STATE_OFFLINE, STATE_INITIALIZING)


def meaning(state: str, details: dict[str, Any] | None, lease: Lease) -> Meaning:
    """Decide what a report of the lease's holder means for its attempt."""
    details = details or {}
    task_id, attempt = details.get("opscore_task_id"), details.get("opscore_attempt")
    if state in (STATE_OFFLINE, STATE_INITIALIZING):
        return Lost(reason=f"the agent reported {state}")
    if (task_id is not None and task_id != lease.task_id) or (attempt is not None and attempt != lease.attempt):
        return Nothing()
    if state == STATE_ERROR:
        return Failed(error=Failure(message=_error_message(details), code="agent_error"))
    if state not in (STATE_IDLE, STATE_FINISHED):
        return Alive()
    proven = (
        (task_id is not None and attempt is not None)
        or lease.active_seen
        or (task_id is not None and lease.attempt == 1)
    )
    return Completed(result=details.get("result")) if proven else Nothing()


def done(agent: Agent, lease: Lease) -> Completed | None:
    """Return the completion of the lease's attempt if the agent's newest report proves it, else None.

    That takes an active report in this lease: before it, an idle state proves nothing, because only idle agents are
    given work.
    """
    if not lease.active_seen or agent.source is AgentSource.LOCAL:
        return None
    said = meaning(agent.state, agent.details, lease)
    return said if isinstance(said, Completed) else None


def _error_message(details: dict[str, Any]) -> str:
    said = details.get("error") or details.get("message")
    return f"the agent reported error: {said}" if said else "the agent reported error"
