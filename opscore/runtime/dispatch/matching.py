"""Matching waiting tasks with idle agents: the dispatcher's book, pure and in memory.

Tasks wait in one heap for each capability (or named agent), agents in one line for each capability, so a match
costs O(log n) in the number of tasks and is independent of the number of agents. Aging is part of the key: each level
of priority is worth `AGING_S` of waiting, so a task of any priority reaches the front in bounded time, and no key ever
has to be recomputed.

Limited tasks stand behind gates. The gate of a capability closes the line of its tasks. The gates of a workflow and of
a concurrency key are met at the front of the line: a task that finds one closed waits there, and others go first. While
such a gate is open, one of its waiting tasks for each line stands in line again, and the next one follows when that has
left the line. So opening a gate costs no more than the number of lines among its waiting tasks.
"""

import heapq
import math
from collections.abc import Collection, Iterable, Iterator

import attrs

from opscore.runtime.dispatch.gates import Gate, Gates, Passage, gate_of
from opscore.runtime.dispatch.lines import Entry, Lines
from opscore.runtime.evolving import evolve
from opscore.runtime.limits import Limits
from opscore.runtime.messages.agent_available import AgentAvailable
from opscore.runtime.messages.to_dispatcher import AgentUnavailable, OfferEnded, OfferOutcome
from opscore.runtime.messages.to_session import Offer
from opscore.runtime.waiting import CAPABILITY, Held, LinePage, Place, QueueDepths, ReadyTask, Requirement, lines_of


@attrs.frozen(kw_only=True)
class Match:
    """An offer to make."""

    task: ReadyTask
    agent: AgentAvailable
    passages: tuple[Passage, ...] = ()
    """The task's passages through its gates."""
    offer: Offer = attrs.field(init=False)
    """The message to the run."""

    @property
    def slots(self) -> tuple[str, ...]:
        """The slots that the attempt takes."""
        return tuple(passage.slot for passage in self.passages if passage.slot is not None)

    @offer.default
    def _offer(self) -> Offer:
        return Offer(
            task_id=self.task.task_id,
            agent_id=self.agent.agent_id,
            agent_version=self.agent.version,
            slots=self.slots,
        )


class MatchBook:
    """Waiting tasks, idle agents, and the offers under way between them.

    Methods that take in an event return the offers to make.

    Args:
        limits: the limits of capabilities and workflows, and of lines in memory.
    """

    def __init__(self, limits: Limits) -> None:
        self._waiting = Lines(limits.line_window)
        self._idle: dict[str, AgentAvailable] = {}
        self._lines: dict[str, dict[str, None]] = {}
        self._offered_tasks: dict[str, Match] = {}
        self._offered_agents: dict[str, Match] = {}
        # Hints about tasks and agents that came while they were under offer; `None` says that a task no longer waits.
        self._heard_of_tasks: dict[str, tuple[ReadyTask, int] | None] = {}
        self._heard_of_agents: dict[str, AgentAvailable | AgentUnavailable] = {}
        self._held: dict[str, Held] = {}
        # Idle agents whose next task is unknown until a line has been read, each with that line.
        self._held_up: dict[str, Requirement] = {}
        self._gates = Gates(limits)

    # --- tasks --------------------------------------------------------------------------------------------

    def task_ready(self, task: ReadyTask, as_of: int, now: float) -> list[Match]:
        """Take in that a task waits."""
        if task.task_id in self._offered_tasks:
            self._heard_of_tasks[task.task_id] = (task, as_of)
            return []
        before = self._waiting.put(task)
        if before is not None:
            self._call_up_behind(before)
        return self._serve([task.requirement], now)

    def find_agent(self, task: ReadyTask, now: float) -> Match | None:
        """Offer a task that is not in the book yet, if an agent is free for it and no other task waits before it."""
        line = task.requirement
        is_let_on = self._gates.let_on(line) and all(gate.is_open for gate in self._gates.before(task))
        # Agents may be idle although the line has more tasks: they became so while its gate was closed.
        if task.task_id in self._offered_tasks or not is_let_on or self._waiting.is_unread(line) or self._head(line):
            return None
        agent = self._agent_for(task, now)
        return None if agent is None else self._offer(task, agent, now)

    def may_go_on(self, agent: AgentAvailable, task: ReadyTask) -> bool:
        """Whether a task that is not in the book yet is the next one for an agent that is about to become free.

        A limited task never is, because its slots have to be taken by an offer.
        """
        if agent.agent_id in self._idle or agent.agent_id in self._offered_agents or task.concurrency_key is not None:
            return False
        lines, preferred = lines_of(agent.agent_id, agent.capabilities), task.preferred_agent_id
        if task.requirement not in lines or self._gates.passed_by(task) or task.task_id in self._offered_tasks:
            return False
        if preferred not in (None, agent.agent_id) and preferred in self._lines.get(task.requirement[1], {}):
            return False
        head, unread = self._first_in(lines)
        return unread is None and (head is None or head[0] > task.rank)

    def task_withdrawn(self, task_id: str) -> None:
        """Take in that a task no longer waits."""
        task = self._waiting.remove(task_id)
        if task is not None:
            self._call_up_behind(task)
        if task_id in self._offered_tasks:
            self._heard_of_tasks[task_id] = None

    # --- agents -------------------------------------------------------------------------------------------

    def agent_available(self, agent: AgentAvailable, now: float) -> list[Match]:
        """Take in that an agent can be given work."""
        if agent.agent_id in self._offered_agents:
            self._heard_of_agents[agent.agent_id] = agent
            return []
        self._remove_idle(agent.agent_id)
        self._idle[agent.agent_id] = agent
        lines = self._let_go(agent.agent_id, agent.as_of, now)
        return self._employ(agent, now) + self._serve(lines, now)

    def agent_unavailable(self, said: AgentUnavailable, now: float) -> list[Match]:
        """Take in that an agent can't be given work; if it holds no lease, it has no slots either."""
        self._remove_idle(said.agent_id)
        if said.agent_id in self._offered_agents:
            self._heard_of_agents[said.agent_id] = said
            return []
        return [] if said.leased else self._serve(self._let_go(said.agent_id, said.as_of, now), now)

    # --- offers -------------------------------------------------------------------------------------------

    def offer_ended(self, ended: OfferEnded, now: float) -> list[Match]:
        """Take in the outcome of an offer.

        An offer that this book did not make, because it came from a dispatcher that crashed, changes nothing.
        """
        match = self._offered_tasks.get(ended.task_id)
        if match is None or match.agent.agent_id != ended.agent_id:
            return []
        del self._offered_tasks[ended.task_id], self._offered_agents[ended.agent_id]
        heard = self._heard_of_agents.get(ended.agent_id)
        agent, task = self._agent_after(match, ended), self._task_after(match, ended)
        if task is None:
            self._waiting.remove(ended.task_id)  # It may still wait in rows that are being read.
        elif ended.outcome is OfferOutcome.AGENT_CHANGED:
            # It keeps its place in line. A postponed task does not, because another may succeed with this agent.
            self._waiting.put(task)
        follow_ups = self._settle_passages(match, ended, now)
        if heard is not None and not (isinstance(heard, AgentUnavailable) and heard.leased):
            follow_ups += self._serve(self._let_go(ended.agent_id, heard.as_of, now), now)
        if agent is not None and agent.fresh_until > now:
            follow_ups += self.agent_available(agent, now)
        if task is not None and task.task_id not in self._offered_tasks:
            follow_ups += self.task_ready(task, 0, now)
        return follow_ups

    def _agent_after(self, match: Match, ended: OfferEnded) -> AgentAvailable | None:
        """Return the agent as it is after the offer, or None if it can't be given work."""
        stays = (OfferOutcome.TASK_GONE, OfferOutcome.POSTPONED, OfferOutcome.SLOT_TAKEN)
        unchanged = match.agent if ended.outcome in stays else None
        heard = self._heard_of_agents.pop(ended.agent_id, unchanged)
        if heard is None or isinstance(heard, AgentUnavailable):
            return None
        # A hint that is older than the commit which gave the task away is outdated.
        return None if ended.outcome is OfferOutcome.TAKEN and heard.as_of <= ended.version else heard

    def _task_after(self, match: Match, ended: OfferEnded) -> ReadyTask | None:
        """Return the task as it waits after the offer, or None if it does not."""
        stays = (OfferOutcome.AGENT_CHANGED, OfferOutcome.POSTPONED, OfferOutcome.SLOT_TAKEN)
        unchanged = (match.task, 0) if ended.outcome in stays else None
        heard = self._heard_of_tasks.pop(ended.task_id, unchanged)
        if heard is None or (ended.outcome is OfferOutcome.TAKEN and heard[1] <= ended.version):
            return None
        return heard[0]

    def _settle_passages(self, match: Match, ended: OfferEnded, now: float) -> list[Match]:
        """Assign or free the slots of an offer; if its outcome is unknown, the agent keeps them until it says more."""
        if ended.outcome in (OfferOutcome.TAKEN, OfferOutcome.UNKNOWN):
            lines = self._let_go(ended.agent_id, math.inf, now)
            if match.slots:
                self._held[ended.agent_id] = Held(agent_id=ended.agent_id, slots=match.slots, version=ended.version)
            for passage in match.passages:
                self._gates[passage.gate].given_out(now)
        else:
            theirs = {slot for held in ended.holders for slot in held.slots}
            for passage in match.passages:
                self._gates[passage.gate].take_back(passage, keeps_slot=passage.slot in theirs)
            lines = self._hold(ended.holders, now)
        lines += self._looked_at([passage.gate for passage in match.passages], now)
        return self._serve(lines, now)

    # --- gates --------------------------------------------------------------------------------------------

    def slots_held(self, holders: Collection[Held], now: float) -> list[Match]:
        """Take in which agents hold which slots, according to the rows."""
        return self._serve(self._hold(holders, now), now)

    def _hold(self, holders: Collection[Held], now: float) -> list[Requirement]:
        lines: list[Requirement] = []
        for held in holders:
            lines += self._let_go(held.agent_id, held.version, now)
            self._held[held.agent_id] = held
            for slot in held.slots:
                gate = self._gates.get_or_make(gate_of(slot))
                if gate is not None:
                    gate.hold(slot, now)
        return lines

    def begun(self, gate: str, times: Collection[float], now: float) -> None:
        """Take in when attempts behind a gate began before this book existed."""
        self._gates[gate].begun(times, now)
        self._gates.look(self._gates[gate], now)

    def gate_due(self, gate: str, now: float) -> list[Match]:
        """Take in that a gate may open now."""
        self._gates.looked_at(gate)
        return self._serve(self._looked_at([gate], now), now)

    def take_times(self) -> dict[str, float]:
        """Return the gates that only time keeps closed, each with when to check it; each is returned once."""
        return self._gates.take_times()

    def _let_go(self, agent_id: str, as_of: float, now: float) -> list[Requirement]:
        """Free the slots of an agent whose lease is over as of this commit; return the lines that may go on."""
        held = self._held.get(agent_id)
        if held is None or held.version >= as_of:
            return []
        del self._held[agent_id]
        for slot in held.slots:
            for gate in self._gates.known([gate_of(slot)]):
                gate.leave(slot)
        return self._looked_at([gate_of(slot) for slot in held.slots], now)

    def _looked_at(self, names: Iterable[str], now: float) -> list[Requirement]:
        """Open these gates if possible, and call up tasks that wait there; return the lines that may go on."""
        lines: list[Requirement] = []
        for gate in self._gates.known(names):
            self._gates.look(gate, now)
            kind, _, what = gate.name.partition("/")
            if gate.is_open and kind == CAPABILITY:
                lines.append((CAPABILITY, what))
            elif gate.is_open:
                waiting = list(gate.waiting)
                lines += waiting
                for requirement in waiting:
                    self._call_up(gate, requirement)
            self._gates.forget_if_idle(gate)
        return lines

    def _call_up(self, gate: Gate, requirement: Requirement) -> None:
        """Put the first task of a line that waits before a gate back in line."""
        waiting = gate.waiting.get(requirement)
        while waiting:
            if self._waiting.step_back(requirement, heapq.heappop(waiting)):
                break
        if not waiting:
            gate.waiting.pop(requirement, None)

    def _call_up_behind(self, task: ReadyTask) -> None:
        """Call up the tasks that may follow one that has left its line: the next behind each of its open gates."""
        for gate in list(self._gates.before(task)):
            if gate.is_open and gate.waiting:
                self._call_up(gate, task.requirement)
            self._gates.forget_if_idle(gate)

    # --- lines --------------------------------------------------------------------------------------------

    def depths(self) -> QueueDepths:
        """Return how many tasks and agents wait, and how many offers are under way."""
        return QueueDepths(ready_tasks=len(self._waiting), idle_agents=len(self._idle), offers=len(self._offered_tasks))

    def take_wanted(self) -> Iterator[tuple[Requirement, Place]]:
        """Yield the lines of which more has to be read, each with the place to read from; each is yielded once."""
        return self._waiting.take_wanted()

    def take_page(self, page: LinePage, now: float) -> list[Match]:
        """Take in the next tasks of a line, as they were read."""
        # In the rows, a task under offer waits until the offer is taken.
        tasks = tuple(task for task in page.tasks if task.task_id not in self._offered_tasks)
        self._waiting.take_page(evolve(page, tasks=tasks))
        matches: list[Match] = []
        for agent_id in [held_up for held_up, line in self._held_up.items() if line == page.requirement]:
            del self._held_up[agent_id]
            matches += self._employ(self._idle[agent_id], now)
        return matches + self._serve([page.requirement], now)

    def _serve(self, lines: Iterable[Requirement], now: float) -> list[Match]:
        """Offer the first tasks of these lines, as long as agents are free for them."""
        matches: list[Match] = []
        lines = list(dict.fromkeys(lines))
        while heads := [(head, line) for line in lines if self._gates.let_on(line) and (head := self._head(line))]:
            head, line = min(heads)
            task = self._waiting.known(head)
            agent = self._agent_for(task, now)
            if agent is None:
                lines.remove(line)
            else:
                matches.append(self._offer(task, agent, now))
        return matches

    def _offer(self, task: ReadyTask, agent: AgentAvailable, now: float) -> Match:
        passages = tuple(gate.let_through(now) for gate in self._gates.passed_by(task))
        match = Match(task=task, agent=agent, passages=passages)
        self._waiting.remove(task.task_id)
        self._remove_idle(agent.agent_id)
        self._offered_tasks[task.task_id] = self._offered_agents[agent.agent_id] = match
        for passage in passages:
            self._gates.look(self._gates[passage.gate], now)
        self._call_up_behind(task)
        return match

    def _remove_idle(self, agent_id: str) -> None:
        agent = self._idle.pop(agent_id, None)
        self._held_up.pop(agent_id, None)
        for capability in agent.capabilities if agent is not None else ():
            line = self._lines.get(capability, {})
            line.pop(agent_id, None)
            if not line:
                self._lines.pop(capability, None)

    def _agent_for(self, task: ReadyTask, now: float) -> AgentAvailable | None:
        for agent_id in self._candidates(task):
            agent = self._idle[agent_id]
            if agent.fresh_until > now:
                return agent
            self._remove_idle(agent_id)
        return None

    def _candidates(self, task: ReadyTask) -> Iterator[str]:
        if task.capability is None:
            if task.agent_id in self._idle and task.agent_id not in self._held_up:
                yield str(task.agent_id)
            return
        line = self._lines.get(task.capability, {})
        if task.preferred_agent_id in line:
            yield str(task.preferred_agent_id)
        while line:
            yield next(iter(line))

    def _employ(self, agent: AgentAvailable, now: float) -> list[Match]:
        """Offer an idle agent the first task of all its lines; while that is unknown, it is offered nothing else."""
        matches: list[Match] = []
        lines = lines_of(agent.agent_id, agent.capabilities)
        head, unread = self._first_in(lines)
        while head is not None:
            task = self._waiting.known(head)
            # If this agent's slot opened a gate, the preferred agent may have been idle all along.
            prefers = task.preferred_agent_id in self._lines.get(task.capability or "", {})
            taker = (self._agent_for(task, now) if prefers else None) or agent
            matches.append(self._offer(task, taker, now))
            if taker is agent:
                return matches
            head, unread = self._first_in(lines)
        if unread is not None:
            self._held_up[agent.agent_id] = unread
        for capability in agent.capabilities if unread is None else ():
            self._lines.setdefault(capability, {})[agent.agent_id] = None
        return matches

    def _first_in(self, lines: Iterable[Requirement]) -> tuple[Entry | None, Requirement | None]:
        """Return the first task of all these lines, or a line that has to be read before that is known."""
        heads: list[Entry] = []
        for line in filter(self._gates.let_on, lines):
            head = self._head(line)
            if head is not None:
                heads.append(head)
            elif self._waiting.is_unread(line):
                return None, line
        return min(heads, default=None), None

    def _head(self, requirement: Requirement) -> Entry | None:
        """Return the first task of a line that may be given out; those before closed gates are put aside to wait."""
        while (entry := self._waiting.first(requirement)) is not None:
            task = self._waiting.known(entry)
            closed = next((gate for gate in self._gates.before(task) if not gate.is_open), None)
            if closed is None:
                return entry
            heapq.heappush(closed.waiting.setdefault(requirement, []), self._waiting.step_aside(requirement))
            self._call_up_behind(task)
        return None
