"""Calls on a node about agents and their claims."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final

import attrs
import trio

from opscore.actors.errors import ActorError, MailboxFull
from opscore.actors.ref import Ref
from opscore.runtime import views
from opscore.runtime.agents import reports
from opscore.runtime.agents.local import Handler, is_async
from opscore.runtime.agents.registration import names_of
from opscore.runtime.calls.attempt_calls import AttemptCalls
from opscore.runtime.calls.calls import CALLED_IN_TRIO, chosen
from opscore.runtime.errors import (
    AgentNotFound,
    Fault,
    InvalidDocument,
    LimitExceeded,
    NotReady,
)
from opscore.runtime.evolving import evolve
from opscore.runtime.identity import new_id, unusable
from opscore.runtime.journal.tables import AGENTS, LEASES
from opscore.runtime.lease import Lease
from opscore.runtime.messages import to_agent
from opscore.runtime.messages.protocols import AgentProtocol
from opscore.runtime.models import Agent, AgentSource, Granted, Registration
from opscore.runtime.values import check_is_text, check_texts, check_value, copied, own
from opscore.runtime.views import Page

ANSWER_MARGIN_S: Final = 30.0
"""How much longer than its own wait a claim may take to be answered."""


@attrs.frozen(kw_only=True)
class Draining:
    """An agent that was taken out of dispatch, and the lease that it still holds."""

    agent: Agent
    """The agent after the wait."""
    lease: Lease | None
    """Its hold on the attempt that it still has; None if it has none."""

    @property
    def drained(self) -> bool:
        """Whether the agent holds no lease and is given no work."""
        return self.lease is None and self.agent.cordoned


class AgentCalls(AttemptCalls):
    """Calls about agents and their claims."""

    async def register_agent(
        self,
        agent_id: str,
        *,
        capabilities: Iterable[str] = (),
        handler: Handler | None = None,
        name: str | None = None,
        version: str = "",
        contact_endpoint: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        source: AgentSource = AgentSource.API,
    ) -> Agent:
        """Register an agent, or register it again with new details.

        A function of this process is idle at once. A remote agent is given work once it reports `idle`, or claims.

        Args:
            agent_id: its id, `id_bytes_max` (128) bytes at most.
            capabilities: the names of what it can do.
            handler: an async function of this process that takes an `Assignment` and returns the result as JSON
                values; raising fails the attempt. Within it, `current_task` returns its attempt and sends heartbeats.
                Without a handler the agent is remote.
            name: for people; the id by default.
            version: the agent's version; any text.
            contact_endpoint: the URL to which attempts are pushed.
            metadata: any JSON values, `value_bytes_max` (256 KiB) at most.
            source: who introduces it; always `local` if there is a handler.

        Returns:
            the agent as it is stored.

        Raises:
            InvalidDocument: the id is empty or can't be part of a path, or there is no such source.
            LimitExceeded: the id is too long, the metadata too large, or there are too many capabilities.
            ValueError, TypeError: the metadata is not JSON, the handler is not async, a text is not a string, or
                `capabilities` is a single string.
        """
        if handler is not None and not is_async(handler):
            raise TypeError(f"handler must be an async function, not {handler!r}")
        source = chosen(AgentSource, source, "registration", "source") if handler is None else AgentSource.LOCAL
        registration = Registration(
            agent_id=agent_id,
            name=name,
            version=version,
            capabilities=names_of(capabilities),
            contact_endpoint=contact_endpoint,
            metadata=copied(dict(metadata or {}), self._core.limits),
            source=source,
        )
        self._check(registration)
        register = to_agent.Register(registration=registration)
        if handler is not None:
            register = evolve(register, attach=partial(self._local.add, agent_id, handler, self._say_alive))
        return await self._register(register)

    async def register_if_unknown(self, agent_id: str) -> Agent:
        """Register an agent of which only a report is known; an agent that is registered already stays as it is.

        Anyone may introduce the agent later, a list of agents included.

        Args:
            agent_id: its id.

        Returns:
            the agent as it is stored.

        Raises:
            InvalidDocument, LimitExceeded: the id is empty, can't be part of a path, or is too long.
        """
        registration = Registration(agent_id=agent_id)
        self._check(registration)
        return await self._register(to_agent.Register(registration=registration, by_report=True))

    def _check(self, registration: Registration) -> None:
        limits = self._core.limits
        self._check_id(registration.agent_id)
        if len(registration.capabilities) > limits.capabilities_max:
            raise LimitExceeded("capabilities_max", limits.capabilities_max, len(registration.capabilities))
        check_texts((registration.name, registration.version, registration.contact_endpoint), limits)
        check_texts(registration.capabilities, limits)
        check_value(registration.metadata, limits)

    async def _register(self, register: to_agent.Register) -> Agent:
        agent_id = register.registration.agent_id
        with self._core.introductions.registers(agent_id):
            return own(await self._core.addresses.agent(agent_id).ask(register))

    async def deregister_agent(self, agent_id: str) -> None:
        """Forget an agent. An attempt that it holds is lost, which spends no retry; a function is cancelled.

        Args:
            agent_id: the agent.

        Raises:
            AgentNotFound: it is not registered.
        """
        await self._deregister(agent_id)

    async def _deregister(self, agent_id: str, source: AgentSource | None = None) -> bool:
        """Forget an agent; where a source is given, only if that introduced it. Return whether the agent is gone."""
        introductions, detach = self._core.introductions, partial(self._local.remove, agent_id)
        with introductions.deregisters(agent_id):
            # An agent that is being registered has no row yet; its actor handles that registration before this.
            is_new = introductions.is_registering(agent_id)
            ref = self._core.addresses.agent(agent_id) if is_new else self._agent_ref(agent_id)
            return await ref.ask(to_agent.Deregister(source=source, detach=detach))

    def agent(self, agent_id: str) -> Agent:
        """Return an agent with its newest accepted state.

        Args:
            agent_id: the agent.

        Raises:
            AgentNotFound: it is not registered.
        """
        found = self._read(lambda view: AGENTS.read(view, agent_id).row)
        if found is None:
            raise AgentNotFound(agent_id)
        return found

    def agents(
        self,
        *,
        limit: int = 100,
        cursor: str | None = None,
        state: str | None = None,
        capability: str | None = None,
    ) -> Page[Agent]:
        """Return a page of agents, by id.

        Args:
            limit: the most agents to return, from 1 to 500. A page may have fewer, or none, without being the last.
            cursor: `next_cursor` of the page before.
            state: only agents in this state; in lower case, as agents show it.
            capability: only agents with this capability.

        Raises:
            InvalidDocument: the limit is not from 1 to 500.
        """
        return self._read(
            lambda view: views.agents(view, limit=limit, cursor=cursor, state=state, capability=capability)
        )

    async def report_state(
        self,
        agent_id: str,
        state: str,
        *,
        details: Mapping[str, Any] | None = None,
        timestamp: float | None = None,
    ) -> bool:
        """Accept a state report of an agent.

        Args:
            agent_id: the agent.
            state: the name of its state, in any case; `busy` means `active`.
            details: any JSON values; if the report ends an attempt, `result` in it is the attempt's result.
            timestamp: the agent's own time in Unix seconds; orders this agent's reports.

        Returns:
            whether the report counts; a report older than the newest is only recorded.

        Raises:
            AgentNotFound: it is not registered.
            InvalidDocument: the state's name is empty or too long, or the timestamp is not a number.
            LimitExceeded, ValueError, TypeError: the details are too large or not JSON, or the state is not a string.
        """
        check_texts((state,), self._core.limits)
        try:
            state = reports.normalise(state)
        except ValueError as error:
            raise InvalidDocument("report", (Fault(path="state", message=str(error)),)) from error
        reports.check_timestamp(timestamp)
        details = None if details is None else copied(dict(details), self._core.limits)
        report = to_agent.Report(state=state, details=details, timestamp=timestamp)
        return await self._agent_ref(agent_id).ask(report)

    async def set_cordon(self, agent_id: str, *, cordoned: bool) -> Agent:
        """Take an agent out of dispatch, or put it back. An attempt that it has goes on.

        Args:
            agent_id: the agent.
            cordoned: whether it is to be given no work.

        Returns:
            the agent as it is then.

        Raises:
            AgentNotFound: it is not registered.
        """
        return own(await self._agent_ref(agent_id).ask(to_agent.SetCordon(cordoned=cordoned)))

    async def drain_agent(self, agent_id: str, *, wait_s: float = 0.0) -> Draining:
        """Take an agent out of dispatch, and wait until it holds no lease, so that it can leave without losing work.

        Args:
            agent_id: the agent.
            wait_s: seconds to wait at most; the wait ends early if the agent is put back, or the node drains. If the
                call is cancelled, the agent stays out of dispatch.

        Returns:
            the agent after the wait; it stays out of dispatch, whether it is drained or not.

        Raises:
            AgentNotFound: it is not registered, or was deregistered meanwhile.
        """
        await self.set_cordon(agent_id, cordoned=True)
        with trio.move_on_after(max(wait_s, 0.0)):
            await self.unless_draining(lambda: self._at_rest(agent_id))
        return self._draining(agent_id)

    async def _at_rest(self, agent_id: str) -> None:
        """Wait until the agent holds no lease, or may be given work again."""
        while True:
            with self._core.feed.listen_to_agent(agent_id) as bell:
                found = self._draining(agent_id)
                if found.lease is None or not found.agent.cordoned:
                    return
                await bell.wait()

    def _draining(self, agent_id: str) -> Draining:
        found, lease = self._read(lambda view: (AGENTS.read(view, agent_id).row, LEASES.read(view, agent_id).row))
        if found is None:
            raise AgentNotFound(agent_id)
        return Draining(agent=found, lease=lease)

    async def claim(
        self, agent_id: str, *, claim_id: str | None = None, wait_s: float = 0.0, ticket: str | None = None
    ) -> Granted | None:
        """Wait for a task for this agent. A claim also reports the agent as idle.

        If the call is cancelled, a task that it has just been handed goes back to the queue.

        Args:
            agent_id: the agent.
            claim_id: makes the claim safe to repeat: the same id gets the same attempt until the first heartbeat.
            wait_s: seconds to wait at most; cut to `claim_wait_s_max` (60).
            ticket: identifies this one call, for `abandon_claim`; made up if not given.

        Returns:
            the assignment and its lease, or None if there was no task in time or the node began to drain.

        Raises:
            AgentNotFound: it is not registered.
            NotReady: the node drains. None would make a caller that claims in a loop ask again at once.
        """
        if self._not_ready is not None:
            raise NotReady(self._not_ready)
        ref = self._agent_ref(agent_id)
        wait_s = min(max(wait_s, 0.0), self._core.limits.claim_wait_s_max)
        ticket = ticket or new_id("clm", self._core.clock.now(), self._core.clock.random)
        claim = to_agent.Claim(claim_id=claim_id, wait_s=wait_s, ticket=ticket)

        async def ask() -> Granted | None:
            with _given_up(ref, ticket):
                return await ref.ask(claim, timeout_s=wait_s + ANSWER_MARGIN_S)

        # Outside as well, because the caller may be cancelled after the answer has come and before it is returned.
        with _given_up(ref, ticket):
            granted = await self.unless_draining(ask)
        return None if granted is None else Granted(assignment=own(granted.assignment), lease=own(granted.lease))

    def abandon_claim(self, agent_id: str, ticket: str) -> None:
        """Report that a claimer is gone. If it was handed a task and has not sent a heartbeat, the task is requeued.

        Args:
            agent_id: the agent.
            ticket: that of the claim.

        Raises:
            RuntimeError: it is called in another thread.
            NotReady: the node has stopped.
        """
        self._home.require_thread(CALLED_IN_TRIO, "node.abandon_claim, …")
        self._core.refuse_stopped()
        self._core.addresses.agent(agent_id).tell(to_agent.AbandonClaim(ticket=ticket))

    # --- who is meant -------------------------------------------------------------------------------------

    def _agent_ref(self, agent_id: str) -> Ref[AgentProtocol]:
        """Return the agent's actor. The row is looked up first, so that an unknown id activates no actor."""
        self.agent(agent_id)
        return self._core.addresses.agent(agent_id)

    def _check_id(self, identity: str) -> None:
        check_is_text(identity)
        size = len(identity.encode(errors="replace"))
        if size > self._core.limits.id_bytes_max:
            raise LimitExceeded("id_bytes_max", self._core.limits.id_bytes_max, size)
        why = unusable(identity)
        if why is not None:
            raise InvalidDocument("registration", (Fault(path="agentId", message=f"{identity!r} {why}"),))


@contextlib.contextmanager
def _given_up(ref: Ref[AgentProtocol], ticket: str) -> Iterator[None]:
    """Tell the agent's actor if a claim ends without its answer."""
    try:
        yield
    except (trio.Cancelled, ActorError):
        with contextlib.suppress(MailboxFull):
            ref.tell(to_agent.AbandonClaim(ticket=ticket))
        raise
