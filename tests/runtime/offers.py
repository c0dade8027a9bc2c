"""Waiting tasks, idle agents and ended offers, in short words."""

import math
from typing import Any

from opscore.runtime.dispatch.matching import Match, MatchBook
from opscore.runtime.messages.agent_available import AgentAvailable
from opscore.runtime.messages.to_dispatcher import AgentUnavailable, OfferEnded, OfferOutcome
from opscore.runtime.waiting import ReadyTask

NOW = 10_000.0


def task(task_id: str = "t", capability: str | None = "a", **fields: Any) -> ReadyTask:
    standard = {"session_id": "ses", "agent_id": None, "preferred_agent_id": None, "priority": 0, "ready_at": NOW}
    return ReadyTask(task_id=task_id, capability=capability, **{**standard, "workflow_id": "w", **fields})


def agent(agent_id: str = "x", *capabilities: str, as_of: int = 1, fresh_until: float = math.inf) -> AgentAvailable:
    return AgentAvailable(
        agent_id=agent_id, capabilities=capabilities or ("a",), version=as_of, as_of=as_of, fresh_until=fresh_until
    )


def ended(match: Match | None, outcome: OfferOutcome, version: int = 0) -> OfferEnded:
    assert match is not None
    return OfferEnded(task_id=match.task.task_id, agent_id=match.agent.agent_id, outcome=outcome, version=version)


def waits(book: MatchBook, task: ReadyTask, as_of: int = 1, now: float = NOW) -> Match | None:
    """Tell the book of a task; the only offer that follows."""
    return only(book.task_ready(task, as_of, now))


def is_idle(book: MatchBook, agent: AgentAvailable, now: float = NOW) -> Match | None:
    """Tell the book of an agent; the only offer that follows."""
    return only(book.agent_available(agent, now))


def is_busy(book: MatchBook, agent_id: str, as_of: int = 0, *, leased: bool = True) -> list[Match]:
    """Tell the book that an agent takes nothing."""
    return book.agent_unavailable(AgentUnavailable(agent_id=agent_id, as_of=as_of, leased=leased), NOW)


def only(matches: list[Match]) -> Match | None:
    assert len(matches) <= 1
    return matches[0] if matches else None
