"""Which waiting task goes to which idle agent: the dispatcher's book, pure and in memory.

Tasks wait in one heap for each capability (or named agent), agents in one line for each capability, so a match
costs O(log n) in the number of tasks and nothing in the number of agents. Aging is in the key: each level of
priority is worth `AGING_S` of waiting, so a task of any priority reaches the front in bounded time and no key
ever has to be recomputed.
"""

import heapq
import itertools
from collections.abc import Iterator
from typing import Final

import attrs

from opscore.runtime.definitions import TaskDefinition
from opscore.runtime.messages import AgentAvailable, OfferEnded, OfferOutcome
from opscore.runtime.models import QueueDepths, ReadyTask, Session, Task

AGING_S: Final = 600.0
"""How much waiting outweighs one level of priority."""

_Requirement = tuple[str, str]


@attrs.frozen(kw_only=True)
class Match:
    """An offer to make."""

    task: ReadyTask
    agent: AgentAvailable


def ready_task(session: Session, definition: TaskDefinition, task: Task) -> ReadyTask:
    """Describe a waiting task to the dispatcher."""
    named = definition.agent_id or (None if definition.capability else session.agent_id)
    return ReadyTask(
        task_id=task.task_id,
        session_id=session.session_id,
        capability=definition.capability,
        agent_id=named,
        preferred_agent_id=session.agent_id if definition.capability else None,
        priority=definition.priority,
        ready_at=task.ready_at or 0.0,
    )


class MatchBook:
    """Waiting tasks, idle agents, and the offers under way between them."""

    def __init__(self) -> None:
        self._ready: dict[str, ReadyTask] = {}
        self._queues: dict[_Requirement, list[tuple[float, int, str]]] = {}
        self._order = itertools.count()
        self._idle: dict[str, AgentAvailable] = {}
        self._lines: dict[str, dict[str, None]] = {}
        self._offered_tasks: dict[str, Match] = {}
        self._offered_agents: dict[str, Match] = {}
        # What was heard of either side while it was under offer; `None`: that it waits no longer.
        self._heard_of_tasks: dict[str, tuple[ReadyTask, int] | None] = {}
        self._heard_of_agents: dict[str, AgentAvailable | None] = {}

    def task_ready(self, task: ReadyTask, as_of: int, now: float) -> Match | None:
        """A task waits; answers the offer to make, if an agent is free for it."""
        if task.task_id in self._offered_tasks:
            self._heard_of_tasks[task.task_id] = (task, as_of)
            return None
        if self._ready.get(task.task_id) != task:
            # Of one that is in the book already a grant may not have been heard: it waits anew, and in a new place.
            self._enqueue(task)
        agent = self._agent_for(task, now)
        return None if agent is None else self._offer(task, agent)

    def task_withdrawn(self, task_id: str) -> None:
        """A task waits no longer; its entry in the heap is passed over when it comes up."""
        self._ready.pop(task_id, None)
        if task_id in self._offered_tasks:
            self._heard_of_tasks[task_id] = None

    def agent_available(self, agent: AgentAvailable) -> Match | None:
        """An agent is idle; answers the offer to make, if a task waits for it."""
        if agent.agent_id in self._offered_agents:
            self._heard_of_agents[agent.agent_id] = agent
            return None
        self._remove_idle(agent.agent_id)
        self._idle[agent.agent_id] = agent
        for capability in agent.capabilities:
            self._lines.setdefault(capability, {})[agent.agent_id] = None
        task = self._task_for(agent)
        return None if task is None else self._offer(task, agent)

    def agent_unavailable(self, agent_id: str) -> None:
        """An agent is idle no longer."""
        self._remove_idle(agent_id)
        if agent_id in self._offered_agents:
            self._heard_of_agents[agent_id] = None

    def offer_ended(self, ended: OfferEnded, now: float) -> list[Match]:
        """Close an offer; answers the offers that follow from it.

        An offer that this book never made, left in the mailbox by a dispatcher that crashed, changes nothing.
        """
        match = self._offered_tasks.get(ended.task_id)
        if match is None or match.agent.agent_id != ended.agent_id:
            return []
        del self._offered_tasks[ended.task_id], self._offered_agents[ended.agent_id]
        agent, task = self._agent_after(match, ended), self._task_after(match, ended)
        if task is not None and ended.outcome is OfferOutcome.AGENT_CHANGED:
            # It keeps its place in line. One that was postponed does not: another may be luckier with this agent.
            self._enqueue(task)
        follow_ups: list[Match | None] = []
        if agent is not None and agent.fresh_until > now:
            follow_ups.append(self.agent_available(agent))
        if task is not None and task.task_id not in self._offered_tasks:
            follow_ups.append(self.task_ready(task, 0, now))
        return [found for found in follow_ups if found is not None]

    def _agent_after(self, match: Match, ended: OfferEnded) -> AgentAvailable | None:
        """The agent as it is free after the offer, if it is."""
        unchanged = match.agent if ended.outcome in (OfferOutcome.TASK_GONE, OfferOutcome.POSTPONED) else None
        heard = self._heard_of_agents.pop(ended.agent_id, unchanged)
        # A hint that is older than the commit which gave the task away says nothing new.
        stale = ended.outcome is OfferOutcome.TAKEN and heard is not None and heard.as_of <= ended.version
        return None if stale else heard

    def _task_after(self, match: Match, ended: OfferEnded) -> ReadyTask | None:
        """The task as it waits after the offer, if it does."""
        unchanged = (match.task, 0) if ended.outcome in (OfferOutcome.AGENT_CHANGED, OfferOutcome.POSTPONED) else None
        heard = self._heard_of_tasks.pop(ended.task_id, unchanged)
        if heard is None or (ended.outcome is OfferOutcome.TAKEN and heard[1] <= ended.version):
            return None
        return heard[0]

    def depths(self) -> QueueDepths:
        """How much waits on each side."""
        return QueueDepths(ready_tasks=len(self._ready), idle_agents=len(self._idle), offers=len(self._offered_tasks))

    def _enqueue(self, task: ReadyTask) -> None:
        self._ready[task.task_id] = task
        key = task.ready_at - task.priority * AGING_S
        heapq.heappush(self._queues.setdefault(_requirement(task), []), (key, next(self._order), task.task_id))

    def _offer(self, task: ReadyTask, agent: AgentAvailable) -> Match:
        match = Match(task=task, agent=agent)
        del self._ready[task.task_id]
        self._remove_idle(agent.agent_id)
        self._offered_tasks[task.task_id] = self._offered_agents[agent.agent_id] = match
        return match

    def _remove_idle(self, agent_id: str) -> None:
        agent = self._idle.pop(agent_id, None)
        for capability in agent.capabilities if agent is not None else ():
            line = self._lines[capability]
            line.pop(agent_id, None)
            if not line:
                del self._lines[capability]

    def _agent_for(self, task: ReadyTask, now: float) -> AgentAvailable | None:
        for agent_id in self._candidates(task):
            agent = self._idle[agent_id]
            if agent.fresh_until > now:
                return agent
            self._remove_idle(agent_id)
        return None

    def _candidates(self, task: ReadyTask) -> Iterator[str]:
        if task.capability is None:
            if task.agent_id in self._idle:
                yield str(task.agent_id)
            return
        line = self._lines.get(task.capability, {})
        if task.preferred_agent_id in line:
            yield str(task.preferred_agent_id)
        while line:
            yield next(iter(line))

    def _task_for(self, agent: AgentAvailable) -> ReadyTask | None:
        requirements = [("capability", capability) for capability in agent.capabilities]
        heads = [head for need in (*requirements, ("agent", agent.agent_id)) if (head := self._head(need))]
        return self._ready[min(heads)[2]] if heads else None

    def _head(self, requirement: _Requirement) -> tuple[float, int, str] | None:
        queue = self._queues.get(requirement)
        while queue:
            task = self._ready.get(queue[0][2])
            if task is not None and queue[0][0] == task.ready_at - task.priority * AGING_S:
                return queue[0]
            heapq.heappop(queue)
        self._queues.pop(requirement, None)
        return None


def _requirement(task: ReadyTask) -> _Requirement:
    return ("capability", task.capability) if task.capability is not None else ("agent", str(task.agent_id))
