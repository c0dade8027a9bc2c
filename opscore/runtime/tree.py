"""The supervisor tree of a node.

root  rest_for_one: a restart of one restarts what depends on it
├── journal        the single writer
├── agents         one_for_one, one actor per agent, activated on demand
├── dispatcher     ready tasks × idle agents
├── sessions       one_for_one, one actor per run with work in flight
├── timers         deadlines and delays
└── schedules      runs that start by themselves
"""

import functools
import math
from collections.abc import Awaitable, Callable
from typing import Any, Final

import attrs

from opscore.actors.actor import Actor
from opscore.actors.backoff import Backoff
from opscore.actors.mailbox_spec import MailboxSpec
from opscore.actors.spec import ChildSpec, Intensity, Restart, Strategy, SupervisorSpec
from opscore.runtime import timers
from opscore.runtime.agents.agent import AgentActor
from opscore.runtime.agents.courier import Courier
from opscore.runtime.dispatch import dispatcher
from opscore.runtime.errors import CommitUncertain
from opscore.runtime.journal import journal
from opscore.runtime.journal.commit_line import CommitLine
from opscore.runtime.journal.feed import Feed
from opscore.runtime.journal.writer import Writer
from opscore.runtime.library import Library
from opscore.runtime.limits import Limits
from opscore.runtime.messages.addresses import Addresses, child_name
from opscore.runtime.models import Session
from opscore.runtime.runs.session import SessionActor
from opscore.runtime.runs.sub_runs import SubRuns
from opscore.runtime.runs.triggering import Prepared
from opscore.runtime.schedules import schedules
from opscore.runtime.store import Store

BUDGET: Final = Intensity(restarts_max=5, within_s=60.0)
"""How often the actor of one agent or session may crash before it is given up. The pools have no ceiling above that."""
# One value for all of them, because there are as many actors as runs.
_POOLED_MAILBOX: Final = MailboxSpec(capacity=4_096)
RESTART_BACKOFF: Final = Backoff(initial_s=0.05, coefficient=2.0, max_s=5.0, jitter=1.0)


@attrs.frozen(kw_only=True)
class Parts:
    """What the actors are made of."""

    store: Store
    writer: Writer
    line: CommitLine
    meter: journal.JournalMeter
    feed: Feed
    library: Library
    limits: Limits
    addresses: Addresses
    courier: Courier
    on_fatal: Callable[[CommitUncertain], None]
    may_offer: Callable[[], bool]
    sub_runs: SubRuns
    on_open: Callable[[str], None]
    """Called with the id of an unfinished run, once it has begun, and whenever its actor starts again."""
    on_ended: Callable[[str], None]
    """Called with the id of a run after the commit that ended it."""
    on_agent_given_up: Callable[[str, BaseException], None]
    """Called with the name of an actor that crashed too often, and its last error."""
    on_session_given_up: Callable[[str, BaseException], None]
    start: Callable[[Prepared], Awaitable[Session]]
    """Begins a run that may start."""
    cast: Callable[[Actor[Any]], Actor[Any]]
    """Is applied to every actor when it is made, and returns the actor to run."""


def root(parts: Parts) -> SupervisorSpec:
    """Return the specification of the whole tree."""
    return SupervisorSpec(
        name="root",
        strategy=Strategy.REST_FOR_ONE,
        # Each child has its own deadline. A deadline for the whole could end the journal while other actors still wait
        # for a commit, which would then never be answered.
        shutdown_s=math.inf,
        children=(
            ChildSpec(
                name="journal",
                factory=lambda: _journal(parts),
                backoff=RESTART_BACKOFF,
            ),
            SupervisorSpec(name="agents", intensity=None),
            ChildSpec(
                name="dispatcher",
                factory=lambda: _dispatcher(parts),
                mailbox=dispatcher.MAILBOX,
                backoff=RESTART_BACKOFF,
            ),
            SupervisorSpec(name="sessions", intensity=None),
            ChildSpec(name="timers", factory=lambda: _timers(parts), mailbox=timers.MAILBOX, backoff=RESTART_BACKOFF),
            ChildSpec(
                name="schedules",
                factory=lambda: _schedules(parts),
                mailbox=schedules.MAILBOX,
                backoff=RESTART_BACKOFF,
            ),
        ),
    )


def agent_spec(parts: Parts, agent_id: str) -> ChildSpec[Any]:
    """Return the specification of one agent's actor."""
    return _pooled(agent_id, functools.partial(_agent, parts, agent_id), parts.on_agent_given_up)


def session_spec(parts: Parts, session_id: str, *, is_new: bool) -> ChildSpec[Any]:
    """Return the specification of one session's actor."""
    return _pooled(session_id, functools.partial(_session, parts, session_id, is_new), parts.on_session_given_up)


def _pooled(
    identity: str, factory: Callable[[], Any], on_given_up: Callable[[str, BaseException], None]
) -> ChildSpec[Any]:
    return ChildSpec(
        name=child_name(identity),
        factory=factory,
        restart=Restart.TRANSIENT,
        mailbox=_POOLED_MAILBOX,
        backoff=RESTART_BACKOFF,
        budget=BUDGET,
        on_given_up=on_given_up,
    )


def _agent(parts: Parts, agent_id: str) -> Actor[Any]:
    return parts.cast(AgentActor(agent_id, addresses=parts.addresses, courier=parts.courier, limits=parts.limits))


def _session(parts: Parts, session_id: str, is_new: bool) -> Actor[Any]:  # noqa: FBT001 (a partial's argument)
    return parts.cast(
        SessionActor(
            session_id,
            is_new=is_new,
            addresses=parts.addresses,
            library=parts.library,
            limits=parts.limits,
            sub_runs=parts.sub_runs,
            on_open=parts.on_open,
            on_ended=parts.on_ended,
        )
    )


def _journal(parts: Parts) -> Actor[Any]:
    return parts.cast(
        journal.JournalActor(
            store=parts.store,
            writer=parts.writer,
            line=parts.line,
            meter=parts.meter,
            feed=parts.feed,
            on_fatal=parts.on_fatal,
        )
    )


def _dispatcher(parts: Parts) -> Actor[Any]:
    return parts.cast(
        dispatcher.DispatcherActor(
            addresses=parts.addresses,
            courier=parts.courier,
            library=parts.library,
            limits=parts.limits,
            may_offer=parts.may_offer,
        )
    )


def _timers(parts: Parts) -> Actor[Any]:
    return parts.cast(timers.TimersActor(addresses=parts.addresses))


def _schedules(parts: Parts) -> Actor[Any]:
    return parts.cast(
        schedules.SchedulesActor(
            addresses=parts.addresses,
            library=parts.library,
            limits=parts.limits,
            may_start=parts.may_offer,
            start=parts.start,
        )
    )
