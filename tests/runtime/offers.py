"""Waiting tasks, idle agents and ended offers, in short words."""

import math
from typing import Any

from opscore.runtime.matching import Match
from opscore.runtime.messages import AgentAvailable, OfferEnded, OfferOutcome
from opscore.runtime.models import ReadyTask

NOW = 10_000.0


def task(task_id: str = "t", capability: str | None = "a", **fields: Any) -> ReadyTask:
    standard = {"session_id": "ses", "agent_id": None, "preferred_agent_id": None, "priority": 0, "ready_at": NOW}
    return ReadyTask(task_id=task_id, capability=capability, **{**standard, **fields})


def agent(agent_id: str = "x", *capabilities: str, as_of: int = 1, fresh_until: float = math.inf) -> AgentAvailable:
    return AgentAvailable(
        agent_id=agent_id, capabilities=capabilities or ("a",), version=as_of, as_of=as_of, fresh_until=fresh_until
    )


def ended(match: Match | None, outcome: OfferOutcome, version: int = 0) -> OfferEnded:
    assert match is not None
    return OfferEnded(task_id=match.task.task_id, agent_id=match.agent.agent_id, outcome=outcome, version=version)
