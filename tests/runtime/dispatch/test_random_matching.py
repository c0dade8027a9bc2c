"""The dispatcher's book in any order of events, beside plain dicts: neither side is ever lost."""

import itertools

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from opscore.runtime.dispatch.matching import Match, MatchBook
from opscore.runtime.limits import Limits
from opscore.runtime.messages.agent_available import AgentAvailable
from opscore.runtime.messages.to_dispatcher import OfferOutcome
from opscore.runtime.waiting import AGING_S, QueueDepths, ReadyTask
from tests.runtime.offers import NOW, agent, ended, is_busy, is_idle, waits

CAPABILITIES = ("a", "b", "c")
AGENTS = ("x", "y", "z")


class BookBesidePlainDicts(RuleBasedStateMachine):
    """Who waits, who is idle and what is offered are kept in plain dicts beside the book."""

    def __init__(self) -> None:
        super().__init__()
        self.book = MatchBook(Limits())
        self.tasks: dict[str, ReadyTask] = {}
        self.agents: dict[str, AgentAvailable] = {}
        self.offers: dict[str, Match] = {}
        self.heard_tasks: dict[str, tuple[ReadyTask, int] | None] = {}
        self.heard_agents: dict[str, AgentAvailable | None] = {}
        self.arrived: dict[str, int] = {}
        self.numbers = itertools.count(1)

    def may(self, agent: AgentAvailable, task: ReadyTask) -> bool:
        return task.capability in agent.capabilities if task.capability else task.agent_id == agent.agent_id

    def rank(self, task: ReadyTask) -> tuple[float, int]:
        return task.ready_at - task.priority * AGING_S, self.arrived[task.task_id]

    def take(self, match: Match) -> None:
        """An offer must pair a task that waits with an agent that is idle and may run it."""
        assert self.tasks.pop(match.task.task_id) == match.task
        assert self.agents.pop(match.agent.agent_id) == match.agent
        assert self.may(match.agent, match.task)
        self.offers[match.task.task_id] = match

    def task_waits(self, task: ReadyTask, match: Match | None) -> None:
        self.tasks[task.task_id] = task
        self.arrived[task.task_id] = next(self.numbers)
        if match is not None:
            preferred = self.agents.get(str(task.preferred_agent_id))
            assert match.task == task
            assert preferred is None or not self.may(preferred, task) or match.agent == preferred
            self.take(match)

    def agent_is_idle(self, agent: AgentAvailable, match: Match | None) -> None:
        self.agents[agent.agent_id] = agent
        if match is not None:
            fitting = [task for task in self.tasks.values() if self.may(agent, task)]
            assert match.agent == agent
            assert match.task == min(fitting, key=self.rank), "priority, then age"
            self.take(match)

    @rule(
        capability=st.sampled_from((*CAPABILITIES, None)),
        named=st.sampled_from(AGENTS),
        priority=st.integers(0, 9),
        age_s=st.integers(0, 5_000),
    )
    def a_new_task(self, capability: str | None, named: str, priority: int, age_s: int) -> None:
        number = next(self.numbers)
        new = ReadyTask(
            task_id=f"task {number}",
            session_id="ses",
            capability=capability,
            agent_id=None if capability else named,
            preferred_agent_id=named if capability else None,
            priority=priority,
            ready_at=NOW - age_s,
            workflow_id="w",
        )
        self.task_waits(new, waits(self.book, new, number, NOW))

    @rule(agent_id=st.sampled_from(AGENTS), capabilities=st.sets(st.sampled_from(CAPABILITIES), min_size=1))
    def an_agent_says_it_is_idle(self, agent_id: str, capabilities: set[str]) -> None:
        said = agent(agent_id, *sorted(capabilities), as_of=next(self.numbers))
        match = is_idle(self.book, said)
        if any(offer.agent.agent_id == agent_id for offer in self.offers.values()):
            assert match is None
            self.heard_agents[agent_id] = said
        else:
            self.agent_is_idle(said, match)

    @rule(agent_id=st.sampled_from(AGENTS))
    def an_agent_says_it_is_busy(self, agent_id: str) -> None:
        is_busy(self.book, agent_id)
        self.agents.pop(agent_id, None)
        if any(offer.agent.agent_id == agent_id for offer in self.offers.values()):
            self.heard_agents[agent_id] = None

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def a_waiting_task_is_withdrawn(self, data: st.DataObject) -> None:
        task_id = data.draw(st.sampled_from(sorted(self.tasks)))
        self.book.task_withdrawn(task_id)
        del self.tasks[task_id]

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def a_waiting_task_is_announced_again(self, data: st.DataObject) -> None:
        task_id = data.draw(st.sampled_from(sorted(self.tasks)))
        assert waits(self.book, self.tasks[task_id], next(self.numbers), NOW) is None

    @precondition(lambda self: self.tasks)
    @rule(data=st.data(), later_s=st.integers(1, 5_000))
    def a_waiting_task_waits_anew(self, data: st.DataObject, later_s: int) -> None:
        task = self.tasks[data.draw(st.sampled_from(sorted(self.tasks)))]
        anew = attrs.evolve(task, ready_at=task.ready_at + later_s)
        self.task_waits(anew, waits(self.book, anew, next(self.numbers), NOW))

    @precondition(lambda self: self.offers)
    @rule(data=st.data(), withdrawn=st.booleans())
    def a_task_under_offer_is_heard_of(self, data: st.DataObject, withdrawn: bool) -> None:
        match = self.offers[data.draw(st.sampled_from(sorted(self.offers)))]
        number = next(self.numbers)
        if withdrawn:
            self.book.task_withdrawn(match.task.task_id)
            self.heard_tasks[match.task.task_id] = None
        else:
            again = attrs.evolve(match.task, ready_at=NOW - number)
            assert waits(self.book, again, number, NOW) is None
            self.heard_tasks[match.task.task_id] = (again, number)

    @precondition(lambda self: self.offers)
    @rule(data=st.data(), outcome=st.sampled_from(OfferOutcome), back=st.integers(0, 5))
    def an_offer_ends(self, data: st.DataObject, outcome: OfferOutcome, back: int) -> None:
        match = self.offers.pop(data.draw(st.sampled_from(sorted(self.offers))))
        version = next(self.numbers) - back
        found = self.book.offer_ended(ended(match, outcome, version), NOW)
        agent_stays = outcome in (OfferOutcome.TASK_GONE, OfferOutcome.POSTPONED, OfferOutcome.SLOT_TAKEN)
        task_stays = outcome in (OfferOutcome.AGENT_CHANGED, OfferOutcome.POSTPONED, OfferOutcome.SLOT_TAKEN)
        agent_now = self.heard_agents.pop(match.agent.agent_id, match.agent if agent_stays else None)
        task_now, said_at = self.heard_tasks.pop(match.task.task_id, None if not task_stays else (match.task, 0)) or (
            None,
            0,
        )
        if outcome is OfferOutcome.TAKEN:
            agent_now = None if agent_now is not None and agent_now.as_of <= version else agent_now
            task_now = None if said_at <= version else task_now
        if agent_now is not None:
            first = next((one for one in found if one.agent == agent_now and one.task != task_now), None)
            found = [one for one in found if one is not first]
            self.agent_is_idle(agent_now, first)
        if task_now is not None:
            self.task_waits(task_now, found.pop() if found else None)
        assert found == []

    @invariant()
    def nothing_waits_for_what_is_there(self) -> None:
        for task in self.tasks.values():
            assert not [agent for agent in self.agents.values() if self.may(agent, task)]

    @invariant()
    def the_depths_are_right(self) -> None:
        expected = QueueDepths(ready_tasks=len(self.tasks), idle_agents=len(self.agents), offers=len(self.offers))
        assert self.book.depths() == expected


TestAnyOrderOfEventsBesidePlainDicts = BookBesidePlainDicts.TestCase
TestAnyOrderOfEventsBesidePlainDicts.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
