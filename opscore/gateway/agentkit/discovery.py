"""AgentKit's list of agents, fetched at intervals in case one of its webhooks was missed.

The runtime decides what a list means for each agent (`opscore.runtime.agents.directory`). This module fetches the list
at intervals, and reads its entries like webhooks.
"""

import enum
import json
import logging
import random
from collections.abc import Sequence
from typing import Any, Final

import httpx
import trio

from opscore.actors.backoff import Backoff
from opscore.gateway.outbound import outbound
from opscore.gateway.outbound.outbound import Got
from opscore.gateway.wire import checks
from opscore.gateway.wire.checks import Rules
from opscore.gateway.wire.documents import IntroducedAgent
from opscore.runtime import codec
from opscore.runtime.agents.directory import Listing, Reconciled
from opscore.runtime.delivery import Broken, NotReached
from opscore.runtime.errors import FAULT_CHARACTERS_MAX, Fault, InvalidDocument
from opscore.runtime.models import AgentSource, Registration
from opscore.runtime.node import Node

LIST_TIMEOUT_S: Final = 10.0
LIST_BYTES_MAX: Final = 16 * outbound.ANSWER_BYTES_MAX
ENTRIES_MAX: Final = 20_000
"""Agents in one list, at most; about as many as `LIST_BYTES_MAX` has room for."""
ENTRIES_AT_ONCE: Final = 100
"""How many entries are read before other tasks get their turn."""
NAME_CHARACTERS: Final = 128
"""How many characters of an unusable id the log shows."""
TOLD_MAX: Final = 20
"""How many agents of one list the log names, for each reason."""
PAUSE_S_MAX: Final = 300.0
"""The longest pause after failures, in seconds, unless the usual interval is longer."""
_NONE: Final = frozenset({httpx.codes.NOT_FOUND, httpx.codes.METHOD_NOT_ALLOWED})

_log = logging.getLogger("opscore.discovery")


class NoListing(Exception):
    """This AgentKit has no list of agents, which is normal."""


class ListingFailed(Exception):
    """AgentKit gave no list of agents that can be read."""


class AgentKitDirectory:
    """A `Directory` of the agents that AgentKit lists.

    Args:
        client: sends the requests; see `outbound.open_client`.
        base_url: `AGENTKIT_API_URL`; trusted, because the operator set it. What AgentKit says about agents is not.
        rules: what entries are checked against.
    """

    def __init__(self, client: httpx.AsyncClient, base_url: str, rules: Rules) -> None:
        self._client = client
        self._url = f"{base_url.rstrip('/')}/v1/agents"
        self._rules = rules
        self._faults: dict[str, str] = {}

    @property
    def source(self) -> AgentSource:
        """AgentKit."""
        return AgentSource.AGENTKIT

    async def listing(self) -> Listing:
        """Fetch AgentKit's list of agents; unusable entries are skipped, and logged once.

        Raises:
            NoListing: it has no such list.
            ListingFailed: with the reason.
        """
        match await outbound.get(self._client, self._url, timeout_s=LIST_TIMEOUT_S, bytes_max=LIST_BYTES_MAX):
            case NotReached(reason=reason) | Broken(reason=reason):
                raise ListingFailed(reason)
            case Got(status=httpx.codes.OK, body=body):
                return await self._read(_entries(body))
            case Got(status=status):
                raise NoListing(f"it answered {status}") if status in _NONE else ListingFailed(f"it answered {status}")

    async def _read(self, entries: Sequence[Any]) -> Listing:
        agents: dict[str, Registration] = {}
        unusable: set[str] = set()
        faults: dict[str, str] = {}
        whole = True
        for index, entry in enumerate(entries):
            if index % ENTRIES_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
            agent_id = entry.get("agentId") if isinstance(entry, dict) else None
            whose = f"agent {agent_id[:NAME_CHARACTERS]!r}" if isinstance(agent_id, str) else f"entry {index}"
            try:
                registration = self._registration(entry)
            except InvalidDocument as error:
                faults[whose] = str(error)[:FAULT_CHARACTERS_MAX]
                if isinstance(agent_id, str):
                    unusable.add(agent_id)
                else:
                    whole = False
                continue
            if agents.setdefault(registration.agent_id, registration) != registration:
                faults[whose] = "it is listed again with another description; the first entry counts"
        self._tell(faults)
        return Listing(agents=tuple(agents.values()), unusable=frozenset(unusable - agents.keys()), whole=whole)

    def _registration(self, entry: Any) -> Registration:
        """Read an entry as strictly as a webhook's body, which is refused if any part of it is not JSON.

        Raises:
            InvalidDocument: with every fault.
        """
        try:
            document = codec.decode_json(codec.encode_json(entry))
        except (ValueError, RecursionError) as error:
            raise InvalidDocument("entry", (Fault(path="", message=f"it is not JSON: {error}"),)) from error
        agent = checks.structured(document, IntroducedAgent, self._rules, "entry")
        return Registration(agent_id=agent.agent_id, source=self.source, **agent.described())

    def _tell(self, faults: dict[str, str]) -> None:
        """Log the skipped entries, except those that were logged for the previous list."""
        news = [whose for whose, fault in faults.items() if self._faults.get(whose) != fault]
        for whose in news[:TOLD_MAX]:
            _log.warning("AgentKit's list: %s is skipped: %s", whose, faults[whose])
        if len(news) > TOLD_MAX:
            _log.warning("AgentKit's list: %d others are skipped as well", len(news) - TOLD_MAX)
        self._faults = faults


def _entries(body: bytes) -> Sequence[Any]:
    """Read the entries from AgentKit's answer.

    Raises:
        ListingFailed: it is not a list of agents.
    """
    try:
        # Leniently: a fault in one entry must not affect the others.
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ListingFailed(f"its answer is not JSON: {error}") from error
    entries = document.get("data") if isinstance(document, dict) else None
    # An answer that reports an error must not be read as an empty list.
    if not isinstance(entries, list) or document.get("status") != "success":
        raise ListingFailed('its answer has no list in "data", or a "status" other than "success"')
    if len(entries) > ENTRIES_MAX:
        raise ListingFailed(f"it lists {len(entries):,} agents, more than the {ENTRIES_MAX:,} that are read")
    return entries


class _Standing(enum.Enum):
    """How AgentKit answered last."""

    NOT_ASKED = enum.auto()
    LISTS = enum.auto()
    LISTS_NOTHING = enum.auto()
    FAILS = enum.auto()


class Discovery:
    """Keeps a node up to date with AgentKit's list.

    Args:
        node: the node.
        directory: fetches the list.
        every_s: the interval between lists, in seconds; after failures it grows.
    """

    def __init__(self, node: Node, directory: AgentKitDirectory, *, every_s: float) -> None:
        self._node = node
        self._directory = directory
        self._every_s = every_s
        self._backoff = Backoff(initial_s=2 * every_s, max_s=max(PAUSE_S_MAX, every_s), jitter=0.5)
        self._random = random.Random()
        self._standing = _Standing.NOT_ASKED
        self._failures = 0

    async def run(self) -> None:
        """Fetch the list at intervals until the node drains. Raises nothing but cancellation."""
        await self._node.unless_draining(self._run)

    async def _run(self) -> None:
        while True:
            pause_s = await self.ask()
            await trio.sleep(pause_s)

    async def ask(self) -> float:
        """Fetch the list once, and apply it. Raises nothing but cancellation.

        Returns:
            how long to wait before the next time, in seconds.
        """
        try:
            came = await self._node.reconcile(self._directory)
        except NoListing as error:
            self._stands(_Standing.LISTS_NOTHING, error)
        except Exception as error:  # noqa: BLE001 (whatever it is, the server must go on)
            self._stands(_Standing.FAILS, error)
        else:
            self._tell(came)
            self._stands(_Standing.FAILS if came.failed else _Standing.LISTS, _first_of(came.failed))
        self._failures = self._failures + 1 if self._standing is _Standing.FAILS else 0
        return self._backoff.delay_s(self._failures, self._random) if self._failures else self._every_s

    def _stands(self, now: _Standing, error: Exception | None = None) -> None:
        """Log how AgentKit answers, if it answers differently than before."""
        before, self._standing = self._standing, now
        if before is now:
            return
        if now is _Standing.FAILS:
            foreseen = isinstance(error, ListingFailed)
            _log.warning(
                "AgentKit's list of agents can't be fetched, and is requested again at growing intervals: %s",
                error if foreseen else repr(error),
                exc_info=None if foreseen else error,
            )
        elif now is _Standing.LISTS_NOTHING:
            _log.info("AgentKit has no list of agents (%s): only its webhook makes them known", error)
        elif before is not _Standing.NOT_ASKED:
            _log.info("AgentKit lists its agents now")

    def _tell(self, came: Reconciled) -> None:
        for what, agent_ids in (("registered", came.registered), ("forgotten", came.forgotten)):
            if agent_ids:
                names = ", ".join(map(repr, agent_ids[:TOLD_MAX]))
                more = ", …" if len(agent_ids) > TOLD_MAX else ""
                _log.info("AgentKit's list: %d agents are %s: %s%s", len(agent_ids), what, names, more)


def _first_of(failed: Sequence[tuple[str, Exception]]) -> ListingFailed | None:
    """An error for the agents that could not be updated, if there are any."""
    if not failed:
        return None
    agent_id, error = failed[0]
    return ListingFailed(f"{len(failed)} of the agents could not be updated, for example {agent_id!r}: {error!r}")
