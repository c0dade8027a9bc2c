"""The documents of the wire contract: requests as strict values, and how rows are shown."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import attrs

from opscore.gateway.wire import checks
from opscore.gateway.wire.checks import checked
from opscore.runtime.calls.dead_letter_calls import Replayed
from opscore.runtime.definitions.definition import Definition
from opscore.runtime.errors import Fault, InvalidDocument
from opscore.runtime.lease import Lease
from opscore.runtime.models import Agent, Failure, Granted, SavedDefinition, Schedule, Session, Signal, Task
from opscore.runtime.schedules import zones
from opscore.runtime.views import DeadLetter, SessionView

Json = dict[str, Any]


@attrs.frozen(kw_only=True)
class StateReport:
    """`POST /agent/{agentId}/state`."""

    agent_id: str
    timestamp: str = checked(checks.a_time)
    state: str = checked(checks.a_state)
    details: dict[str, Any] | None = None


@attrs.frozen(kw_only=True)
class AgentDetails:
    """The description of an agent: `POST /agent`."""

    agent_id: str | None = checked(checks.an_id, default=None)
    agent_name: str | None = checked(checks.a_name, default=None)
    version: str | None = checked(checks.a_name, default=None)
    capabilities: tuple[str, ...] | None = checked(checks.capabilities, default=None)
    contact_endpoint: str | None = checked(checks.contact, default=None)
    metadata: dict[str, Any] | None = checked(checks.stored, default=None)

    def described(self) -> Json:
        """The description as arguments of the runtime's `register_agent`."""
        return {
            "name": self.agent_name,
            "version": self.version or "",
            "capabilities": self.capabilities or (),
            "contact_endpoint": self.contact_endpoint or None,
            "metadata": self.metadata or {},
        }


@attrs.frozen(kw_only=True)
class IntroducedAgent(AgentDetails):
    """The description of an agent in AgentKit's webhook and list, where the id is required."""

    agent_id: str = checked(checks.an_id)


@attrs.frozen(kw_only=True)
class Notification:
    """AgentKit's webhook."""

    event_type: str = attrs.field(metadata={"wire": "event_type"})
    agent_details: IntroducedAgent = attrs.field(metadata={"wire": "agent_details"})


@attrs.frozen(kw_only=True)
class PayloadRequest:
    """`POST /workflow/{id}/trigger`."""

    initial_payload: Any = None
    labels: dict[str, Any] | None = checked(checks.labels, default=None)
    business_key: str | None = checked(checks.a_business_key, default=None)


@attrs.frozen(kw_only=True)
class TriggerRequest(PayloadRequest):
    """`POST /agent/{agentId}/workflow`."""

    workflow_definition_id: str | None = None
    workflow_definition: dict[str, Any] | None = None

    def definition(self) -> str | Json:
        """The definition or id that is given.

        Raises:
            InvalidDocument: both are given, or neither.
        """
        given = [each for each in (self.workflow_definition_id, self.workflow_definition) if each is not None]
        if len(given) != 1:
            message = "exactly one of workflowDefinitionId and workflowDefinition must be given"
            raise InvalidDocument("request", (Fault(path="", message=message),))
        return given[0]


@attrs.frozen(kw_only=True)
class ScheduleRequest:
    """`POST /schedule`."""

    schedule_id: str | None = checked(checks.an_id, default=None)
    workflow_definition_id: str
    cron: str | None = checked(checks.a_cron, default=None)
    at: str | None = checked(checks.a_time, default=None)
    time_zone: str | None = checked(checks.a_zone, default=None)
    missed: str | None = checked(checks.a_policy, default=None)
    payload: Any = checked(checks.stored, default=None)
    agent_id: str | None = None

    @staticmethod
    def contradictions(document: Json) -> Iterator[str]:
        """Refuse a schedule with both `cron` and `at`, or neither."""
        if (document.get("cron") is None) is (document.get("at") is None):
            yield "exactly one of cron and at must be given"

    def at_s(self) -> float | None:
        """The single due time in Unix seconds; a time without an offset is in the schedule's zone.

        Raises:
            InvalidDocument: the clock of the zone never shows this time.
        """
        if self.at is None:
            return None
        try:
            shown = datetime.fromisoformat(self.at.strip())
            return shown.timestamp() if shown.tzinfo else zones.moment(zones.named(self.time_zone or "UTC"), shown)
        except (ValueError, OverflowError):
            fault = Fault(path="at", message=f"expected a time that the clock can show, found {self.at!r}")
            raise InvalidDocument("request", (fault,)) from None


@attrs.frozen(kw_only=True)
class ClaimRequest:
    """`POST /agent/{agentId}/claim`."""

    claim_id: str | None = checked(checks.a_claim_id, default=None)


@attrs.frozen(kw_only=True)
class HeartbeatRequest:
    """`POST /task/{taskId}/heartbeat`."""

    attempt: int
    progress: Any = None


@attrs.frozen(kw_only=True)
class CompleteRequest:
    """`POST /task/{taskId}/complete`."""

    attempt: int
    result: Any = None


@attrs.frozen(kw_only=True)
class FailRequest:
    """`POST /task/{taskId}/fail`."""

    attempt: int
    error: str = checks.of_any_length()
    code: str | None = checks.of_any_length(default=None)
    retryable: bool | None = None


@attrs.frozen(kw_only=True)
class ReasonRequest:
    """`POST /session/{id}/cancel` and the other ways to steer a run."""

    reason: str | None = checked(checks.a_reason, default=None)


@attrs.frozen(kw_only=True)
class SignalRequest:
    """`POST /session/{id}/signal`."""

    name: str
    payload: Any = None
    signal_id: str | None = checked(checks.a_claim_id, default=None)


@attrs.frozen(kw_only=True)
class ReplayRequest:
    """`POST /deadletter/replay`."""

    workflow_id: str | None = None
    code: str | None = None
    cursor: str | None = None

    @staticmethod
    def contradictions(document: Json) -> Iterator[str]:
        """Refuse unknown fields: with a misspelt filter everything would be replayed."""
        for name in sorted(document.keys() - {"workflowId", "code", "cursor"}):
            yield f"unknown field {name!r}: all dead letters would be replayed; there are workflowId, code and cursor"


@attrs.frozen(kw_only=True)
class DiscardRequest:
    """`POST /deadletter/{taskId}/discard`."""

    reason: str = checked(checks.a_given_reason)


def show_time(at: float | None) -> str | None:
    """Write Unix seconds as ISO 8601 in UTC."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def agent_document(agent: Agent) -> Json:
    """Show an agent."""
    return {
        "agentId": agent.agent_id,
        "agentName": agent.name,
        "version": agent.version,
        "capabilities": list(agent.capabilities),
        "contactEndpoint": agent.contact_endpoint,
        "metadata": agent.metadata,
        "source": agent.source,
        "state": agent.state,
        "details": agent.details,
        "timestamp": show_time(agent.reported_at or agent.received_at or agent.registered_at),
        "cordoned": agent.cordoned,
        "suspectedUntil": show_time(agent.suspected_until or None),
        "registeredAt": show_time(agent.registered_at),
    }


def state_document(agent: Agent) -> Json:
    """Show an agent's state, as Ops-Core did."""
    shown = agent_document(agent)
    return {name: shown[name] for name in ("agentId", "state", "details", "timestamp")}


def granted_document(granted: Granted) -> Json:
    """Show the attempt that a claim is answered with."""
    assignment = granted.assignment
    return {
        "task": {
            "taskId": assignment.task_id,
            "taskKey": assignment.task_key,
            "name": assignment.name,
            "sessionId": assignment.session_id,
            "workflowId": assignment.workflow_id,
            "parameters": assignment.parameters,
            "input": assignment.input,
            "type": "tool" if assignment.tool else "agent",
        },
        "attempt": assignment.attempt,
        "timeoutSeconds": assignment.timeout_s,
        **lease_document(granted.lease),
        "heartbeatSeconds": granted.lease.heartbeat_s,
    }


def lease_document(lease: Lease) -> Json:
    """Show a lease."""
    return {"leaseSeconds": lease.lease_s, "leaseExpiresAt": show_time(lease.expires_at)}


def held_document(lease: Lease | None) -> Json | None:
    """Show the lease that an agent holds, with the attempt that it is for."""
    if lease is None:
        return None
    return {"taskId": lease.task_id, "sessionId": lease.session_id, "attempt": lease.attempt, **lease_document(lease)}


def task_document(task: Task, progress: Any = None) -> Json:
    """Show a task of a run, with the progress of its open attempt."""
    return {
        "taskId": task.task_id,
        "taskKey": task.key,
        "sessionId": task.session_id,
        "status": task.status,
        "attempt": task.attempt,
        "retries": task.retries,
        "agentId": task.agent_id,
        "progress": progress,
        "result": task.result,
        "error": _failure(task.error),
        "concurrencyKey": task.concurrency_key,
        "readyAt": show_time(task.ready_at),
        "dueAt": show_time(task.due_at),
        "dispatchedAt": show_time(task.dispatched_at),
        "startedAt": show_time(task.started_at),
        "endedAt": show_time(task.ended_at),
        "closesAt": show_time(task.closes_at),
        "childSessionId": task.child_session_id,
        "dead": task.dead,
    }


def session_document(session: Session) -> Json:
    """Show a session in a listing: without tasks, payload and result, which may be large."""
    return {
        "sessionId": session.session_id,
        "workflowId": session.workflow_id,
        "agentId": session.agent_id,
        "status": session.status,
        "startTime": show_time(session.created_at),
        "endTime": show_time(session.ended_at),
        "error": _failure(session.error),
        "reason": session.reason,
        "cancelledAt": show_time(session.cancelled_at),
        "dueAt": show_time(session.due_at),
        "parentTaskId": session.parent_task_id,
        "businessKey": session.business_key,
        "labels": session.labels,
    }


def session_view_document(view: SessionView) -> Json:
    """Show a session with its tasks."""
    return {
        **session_document(view.session),
        "payload": view.session.payload,
        "result": view.session.result,
        "tasks": [task_document(task, view.progress.get(task.task_id)) for task in view.tasks],
    }


def signal_document(signal: Signal) -> Json:
    """Show a signal, without its payload, which the caller knows."""
    return {
        "sessionId": signal.session_id,
        "signalId": signal.signal_id,
        "name": signal.name,
        "number": signal.number,
        "takenBy": signal.taken_by,
        "receivedAt": show_time(signal.received_at),
    }


def dead_letter_document(letter: DeadLetter) -> Json:
    """Show a dead letter: the task, and by what its run can be found."""
    session = letter.session
    found_by = {"workflowId": session.workflow_id, "businessKey": session.business_key, "labels": session.labels}
    return {**task_document(letter.task), **found_by}


def replayed_document(replayed: Replayed) -> Json:
    """Show the outcome of replaying dead letters."""
    return {
        "replayed": [session.session_id for session in replayed.sessions],
        "refused": [
            {"sessionId": each.session_id, "code": each.error.code, "message": str(each.error)}
            for each in replayed.refused
        ],
        "nextCursor": replayed.next_cursor,
    }


def saved_definition_document(saved: SavedDefinition) -> Json:
    """Show a saved workflow in a listing, without its content."""
    return {
        "id": saved.workflow_id,
        "name": saved.name,
        "version": saved.version,
        "revision": saved.revision,
        "savedAt": show_time(saved.saved_at),
    }


def definition_document(saved: SavedDefinition, definition: Definition) -> Json:
    """Show a saved workflow with its content."""
    return {**saved_definition_document(saved), "definition": definition.document}


def schedule_document(schedule: Schedule) -> Json:
    """Show a schedule in a listing, without its payload."""
    return {
        "scheduleId": schedule.schedule_id,
        "workflowDefinitionId": schedule.workflow_id,
        "agentId": schedule.agent_id,
        "cron": schedule.cron,
        "at": show_time(schedule.at),
        "timeZone": schedule.time_zone,
        "missed": schedule.missed,
        "paused": schedule.paused,
        "createdAt": show_time(schedule.created_at),
        "nextDueAt": show_time(schedule.next_due_at),
        "lastDueAt": show_time(schedule.last_due_at),
        "lastSessionId": schedule.last_session_id,
        "fired": schedule.fired,
        "lastError": _failure(schedule.last_error),
    }


def schedule_view_document(schedule: Schedule, due_times: list[float]) -> Json:
    """Show a schedule with its payload and next due times."""
    return {
        **schedule_document(schedule),
        "payload": schedule.payload,
        "nextDueTimes": [show_time(due_at) for due_at in due_times],
    }


def _failure(failure: Failure | None) -> Json | None:
    return None if failure is None else {"code": failure.code, "message": failure.message}
