"""The port to directories of agents, which can list them all, and what such a list changes.

A list is as old as the request for it. What happens to an agent while the list is being fetched may be newer, so an
agent that is registered or deregistered meanwhile stays as it is; the next list includes that.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import attrs

from opscore.runtime.agents.registration import is_news
from opscore.runtime.models import Agent, AgentSource, Registration


@attrs.frozen(kw_only=True)
class Listing:
    """The agents in a directory; each id occurs once, in `agents` or in `unusable`."""

    agents: tuple[Registration, ...] = ()
    unusable: frozenset[str] = frozenset()
    """Ids of entries that can't be registered; agents with these ids stay as they are."""
    whole: bool = True
    """Whether every entry has an id. An entry without one could be any agent, so then no agent is forgotten."""


class Directory(Protocol):
    """A source of agents that can list them."""

    @property
    def source(self) -> AgentSource:
        """The source as which the listed agents are registered."""

    async def listing(self) -> Listing:
        """Fetch and return the list of agents. Its errors are passed on to the caller."""


@attrs.frozen(kw_only=True)
class Changes:
    """The registrations to make, and the ids of agents to forget."""

    register: tuple[Registration, ...] = ()
    forget: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Reconciled:
    """The outcome of applying a list: the ids of agents that were registered or forgotten."""

    registered: tuple[str, ...] = ()
    """Agents that were new, or had changed."""
    forgotten: tuple[str, ...] = ()
    """Agents that the list no longer has."""
    failed: tuple[tuple[str, Exception], ...] = ()
    """Agents that could not be registered or forgotten, each with its error; the next list tries again."""


def changes(listing: Listing, known: Iterable[Agent], source: AgentSource, spoken_of: Collection[str]) -> Changes:
    """Decide which agents to register and which to forget.

    Args:
        listing: the list; its registrations are of this source.
        known: the registered agents, at least those that are listed and those of this source.
        source: whose list it is; agents that another source introduced stay as they are.
        spoken_of: ids that were registered or deregistered since the list was requested, which may be newer.
    """
    there = {agent.agent_id: agent for agent in known}
    listed = {each.agent_id for each in listing.agents} | listing.unusable
    return Changes(
        register=tuple(
            each
            for each in listing.agents
            if each.agent_id not in spoken_of and is_news(there.get(each.agent_id), each)
        ),
        forget=tuple(
            agent_id
            for agent_id, agent in there.items()
            if listing.whole and agent.source is source and agent_id not in listed and agent_id not in spoken_of
        ),
    )


class Introductions:
    """The registrations and deregistrations under way, for a caller that has to know which agents change meanwhile."""

    def __init__(self) -> None:
        self._registering: Counter[str] = Counter()
        self._deregistering: Counter[str] = Counter()
        self._listeners: list[set[str]] = []

    def registers(self, agent_id: str) -> AbstractContextManager[None]:
        """Mark the agent as being registered for as long as the block lasts."""
        return self._under_way(self._registering, agent_id)

    def deregisters(self, agent_id: str) -> AbstractContextManager[None]:
        """Mark the agent, registered or not, as being deregistered for as long as the block lasts."""
        return self._under_way(self._deregistering, agent_id)

    def is_registering(self, agent_id: str) -> bool:
        """Whether the agent may be about to be registered."""
        return agent_id in self._registering

    @contextmanager
    def spoken_of(self) -> Iterator[Collection[str]]:
        """Collect the ids of agents that are registered or deregistered at this moment, or while the block lasts."""
        noted = {*self._registering, *self._deregistering}
        self._listeners.append(noted)
        try:
            yield noted
        finally:
            # By identity, because two sets with the same ids are equal.
            self._listeners = [each for each in self._listeners if each is not noted]

    @contextmanager
    def _under_way(self, calls: Counter[str], agent_id: str) -> Iterator[None]:
        calls[agent_id] += 1
        for noted in self._listeners:
            noted.add(agent_id)
        try:
            yield
        finally:
            calls[agent_id] -= 1
            if not calls[agent_id]:
                del calls[agent_id]
