"""Calls that bring a node up to date with a directory of agents."""

import itertools
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import Final

import trio

from opscore.actors.errors import ActorError
from opscore.runtime.agents.directory import Directory, Listing, Reconciled, changes
from opscore.runtime.calls.agent_calls import AgentCalls
from opscore.runtime.calls.calls import chosen
from opscore.runtime.core import open_nursery
from opscore.runtime.errors import AgentNotFound, OpscoreError
from opscore.runtime.journal.tables import AGENTS
from opscore.runtime.messages.to_agent import Register
from opscore.runtime.models import Agent, AgentSource, Registration

PAGE: Final = 500
"""Rows that are read at a time."""
AT_ONCE_MAX: Final = 64
"""Agents that are registered or forgotten concurrently, so that they share commits."""


class DirectoryCalls(AgentCalls):
    """Calls about agents that a directory lists."""

    async def reconcile(self, directory: Directory) -> Reconciled:
        """Fetch a directory's list; register agents that are new or have changed, and forget those no longer listed.

        A list without news writes nothing. Agents that another source introduced stay as they are, and so do agents
        that are registered or deregistered after the list was requested. If one agent can't be registered or
        forgotten, the others still are.

        Args:
            directory: where the list comes from.

        Returns:
            the ids of the agents that were registered, were forgotten, or could not be.

        Raises:
            Exception: the directory's own errors, unchanged; nothing was changed then.
        """
        source = chosen(AgentSource, directory.source, "directory", "source")
        with self._core.introductions.spoken_of() as spoken_of:
            listing = await directory.listing()
            decided = changes(listing, await self._concerned(listing, source), source, spoken_of)
            new = {each.agent_id: partial(self._register_listed, each) for each in decided.register}
            gone = {agent_id: partial(self._forget_unlisted, agent_id, source) for agent_id in decided.forget}
            registered, not_registered = await _each(new, spoken_of)
            forgotten, not_forgotten = await _each(gone, spoken_of)
        return Reconciled(registered=registered, forgotten=forgotten, failed=(*not_registered, *not_forgotten))

    async def _concerned(self, listing: Listing, source: AgentSource) -> list[Agent]:
        """Read the agents that are listed or came from this source, page by page, so that other tasks get a turn."""
        listed = {each.agent_id for each in listing.agents}
        found: list[Agent] = []
        after: str | None = None
        while page := self._agents_after(after):
            found += [agent for agent in page if agent.source is source or agent.agent_id in listed]
            after = page[-1].agent_id
            await trio.lowlevel.checkpoint()
        return found

    def _agents_after(self, agent_id: str | None) -> list[Agent]:
        return self._read(
            lambda view: [row for row, _ in itertools.islice(AGENTS.sound_rows(view, after=agent_id), PAGE)]
        )

    async def _register_listed(self, registration: Registration) -> bool:
        """Register an agent as it is listed; return `False` if another source has introduced it."""
        self._check(registration)
        agent = await self._register(Register(registration=registration, listed=True))
        return agent.source is registration.source

    async def _forget_unlisted(self, agent_id: str, source: AgentSource) -> bool:
        """Forget an agent; return `False` if another source has introduced it, or it is gone already."""
        try:
            return await self._deregister(agent_id, source)
        except AgentNotFound:
            return False


async def _each(
    steps: Mapping[str, Callable[[], Awaitable[bool]]], spoken_of: Collection[str]
) -> tuple[tuple[str, ...], tuple[tuple[str, Exception], ...]]:
    """Run these steps, several at once; return the ids whose step succeeded, and the ids and errors of the others."""
    done: list[str] = []
    failed: list[tuple[str, Exception]] = []
    waiting = iter(steps.items())

    async def work() -> None:
        for agent_id, step in waiting:
            try:
                # Checked as late as possible: any call about this agent from now on reaches its actor after this step.
                if agent_id not in spoken_of and await step():
                    done.append(agent_id)
            except (OpscoreError, ActorError, ValueError, TypeError) as error:
                failed.append((agent_id, error))

    async with open_nursery() as nursery:
        for _ in range(min(AT_ONCE_MAX, len(steps))):
            nursery.start_soon(work)
    return tuple(sorted(done)), tuple(sorted(failed, key=lambda each: each[0]))
