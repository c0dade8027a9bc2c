"""The port of those who introduce agents and can list them all, and what follows from such a list, agent by agent.

A list is as old as its question. What is said of an agent while the list is under way may be newer, so whoever
registers, or is deregistered, meanwhile is left as that says; the next list knows of it.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import attrs

from opscore.runtime.models import Agent, AgentSource, Registration
from opscore.runtime.registration import is_news


@attrs.frozen(kw_only=True)
class Listing:
    """Who is there, as a directory says; an id stands once, in `agents` or in `unusable`."""

    agents: tuple[Registration, ...] = ()
    unusable: frozenset[str] = frozenset()
    """Agents that are listed with what can't be registered: they are left as they are."""
    whole: bool = True
    """Whether every entry says whose it is. Where one does not, it may be anybody's, and nobody is missed."""


class Directory(Protocol):
    """Who introduces agents, and can list them."""

    @property
    def source(self) -> AgentSource:
        """As whose the listed agents are registered."""

    async def listing(self) -> Listing:
        """Ask who is there. What it raises comes out of whoever asked."""


@attrs.frozen(kw_only=True)
class Changes:
    """What a list changes."""

    register: tuple[Registration, ...] = ()
    forget: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Reconciled:
    """What came of a list."""

    registered: tuple[str, ...] = ()
    forgotten: tuple[str, ...] = ()
    failed: tuple[tuple[str, Exception], ...] = ()
    """Agents that could not be registered or forgotten, each with why; the next list tries again."""


def changes(listing: Listing, known: Iterable[Agent], source: AgentSource, spoken_of: Collection[str]) -> Changes:
    """Say whom to register and whom to forget.

    Args:
        listing: who is there; the registrations are of this source.
        known: the registered agents, at least those that are listed and those of this source.
        source: whose list it is; whoever somebody else introduced is left alone.
        spoken_of: who was registered or deregistered since the list was asked for, which may be newer.
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
    """Who is being registered or deregistered, for those who have to know of whom something is said meanwhile."""

    def __init__(self) -> None:
        self._registering: Counter[str] = Counter()
        self._deregistering: Counter[str] = Counter()
        self._listeners: list[set[str]] = []

    def registers(self, agent_id: str) -> AbstractContextManager[None]:
        """Somebody registers the agent for as long as the block lasts."""
        return self._under_way(self._registering, agent_id)

    def deregisters(self, agent_id: str) -> AbstractContextManager[None]:
        """Somebody deregisters the agent, registered or not, for as long as the block lasts."""
        return self._under_way(self._deregistering, agent_id)

    def is_registering(self, agent_id: str) -> bool:
        """Whether the agent may be about to be registered."""
        return agent_id in self._registering

    @contextmanager
    def spoken_of(self) -> Iterator[Collection[str]]:
        """Note who is spoken of from now on, and who is at this moment: what becomes of that is not to be seen yet."""
        noted = {*self._registering, *self._deregistering}
        self._listeners.append(noted)
        try:
            yield noted
        finally:
            # By identity: two that noted the same are equal.
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
