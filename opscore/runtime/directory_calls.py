"""How a node is brought up to date with a directory of agents."""

import itertools
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import Final

import trio

from opscore.actors.errors import ActorError
from opscore.runtime.agent_calls import AgentCalls
from opscore.runtime.calls import chosen
from opscore.runtime.core import open_nursery
from opscore.runtime.directory import Directory, Listing, Reconciled, changes
from opscore.runtime.errors import AgentNotFound, OpscoreError
from opscore.runtime.models import Agent, AgentSource, Registration
from opscore.runtime.registration_messages import Register
from opscore.runtime.tables import AGENTS

PAGE: Final = 500
"""Rows that are read at once."""
AT_ONCE_MAX: Final = 64
"""Agents that are registered or forgotten at once: they share their commits."""


class DirectoryCalls(AgentCalls):
    """Agents that a directory lists."""

    async def reconcile(self, directory: Directory) -> Reconciled:
        """Ask a directory who is there; register who is new or described anew, and forget who is there no more.

        Where nothing has changed nothing is written. Whoever another source introduced is left alone, and so is
        whoever registers, or is deregistered, from the time of the question on. One agent that can't be registered or
        forgotten keeps no other from it.

        Args:
            directory: whom to ask.

        Raises:
            Exception: the directory's own errors, as they are; then nothing was changed.
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
        """Read who is listed, and who was introduced by this source: page by page, so that others get their turn."""
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
        """Register an agent as it is listed; `False` where somebody else has introduced it."""
        self._check(registration)
        agent = await self._register(Register(registration=registration, listed=True))
        return agent.source is registration.source

    async def _forget_unlisted(self, agent_id: str, source: AgentSource) -> bool:
        """Forget an agent; `False` where somebody else has introduced it, or it is gone already."""
        try:
            return await self._deregister(agent_id, source)
        except AgentNotFound:
            return False


async def _each(
    steps: Mapping[str, Callable[[], Awaitable[bool]]], spoken_of: Collection[str]
) -> tuple[tuple[str, ...], tuple[tuple[str, Exception], ...]]:
    """Take these steps, several at once; returns for whom they were taken and for whom they failed, by id."""
    done: list[str] = []
    failed: list[tuple[str, Exception]] = []
    waiting = iter(steps.items())

    async def work() -> None:
        for agent_id, step in waiting:
            try:
                # Looked at last of all: what is said of it from now on reaches its actor after this.
                if agent_id not in spoken_of and await step():
                    done.append(agent_id)
            except (OpscoreError, ActorError, ValueError, TypeError) as error:
                failed.append((agent_id, error))

    async with open_nursery() as nursery:
        for _ in range(min(AT_ONCE_MAX, len(steps))):
            nursery.start_soon(work)
    return tuple(sorted(done)), tuple(sorted(failed, key=lambda each: each[0]))
