"""What happened in a world: a timeline to read, a ledger of what was promised, and the journal's fingerprint."""

import contextlib
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

import attrs

from opscore.runtime.models import Move, Record

TIMELINE_LINES: Final = 200
"""How many lines of a timeline are shown, from its end, where things went wrong."""


@attrs.frozen
class Event:
    """Something that happened; times are virtual seconds from the beginning."""

    at_s: float
    who: str
    noted: str | Record
    """A text, or a record of the journal."""

    @property
    def what(self) -> str:
        """The event as text; records are formatted only here, because few timelines are read."""
        if isinstance(self.noted, str):
            return self.noted
        said = " ".join(f"{key}={value}" for key, value in self.noted.data.items() if value is not None)
        return f"{self.noted.kind} {self.noted.entity_id} {said}"


@attrs.define
class Ledger:
    """What the node told the outside, and what agents and operators did, kept where no crash of the node reaches it."""

    accepted: dict[str, str] = attrs.field(factory=dict)
    """The session that each idempotency key was answered with."""
    contended: set[str] = attrs.field(factory=set)
    """The idempotency keys under which several clients are asking for a run at the moment."""
    refused: dict[int, str] = attrs.field(factory=dict)
    """Why triggers were refused permanently, by their number."""
    unanswered: dict[int, str] = attrs.field(factory=dict)
    """The triggers that are neither accepted nor permanently refused, by their number, and how they stand."""
    said: dict[tuple[str, int], list[tuple[str, str, Any]]] = attrs.field(factory=dict)
    """The ends that agents reported for each attempt: who, what kind of end, and the result."""
    unreached: set[tuple[str, int]] = attrs.field(factory=set)
    """The attempts whose push was unanswered, or answered with a later time; cleared when the node dies."""
    claimed: dict[tuple[str, int], str] = attrs.field(factory=dict)
    """The claim that got each attempt, if one did."""
    wishes: dict[tuple[str, int], float] = attrs.field(factory=dict)
    """The wall time until which the agent of each attempt asked to be left alone; cleared when the node dies."""
    at_work: dict[str, tuple[str, int]] = attrs.field(factory=dict)
    """The attempt that each local function works on."""
    by_functions: set[tuple[str, int]] = attrs.field(factory=set)
    """The attempts that local functions were called for."""
    handed: set[tuple[str, int]] = attrs.field(factory=set)
    """The attempts that were handed over by a push."""
    called: set[tuple[str, int]] = attrs.field(factory=set)
    """The attempts that were handed over as calls of tools."""
    taken_away: set[str] = attrs.field(factory=set)
    """The schedules that were deleted."""
    discarded: set[tuple[str, float | None]] = attrs.field(factory=set)
    """The dead letters whose discard was acknowledged, each with when its task ended."""
    retried: set[str] = attrs.field(factory=set)
    """The sessions that somebody has asked to retry."""
    reset: set[str] = attrs.field(factory=set)
    """The sessions that somebody has asked to reset."""
    terminated: set[str] = attrs.field(factory=set)
    """The sessions that somebody has asked to terminate."""
    _asking: Counter[str] = attrs.field(factory=Counter, init=False)

    @contextlib.contextmanager
    def asking_under(self, key: str) -> Iterator[None]:
        """Note that a client asks for a run under an idempotency key, until it has its answer."""
        self._asking[key] += 1
        if self._asking[key] > 1:
            self.contended.add(key)
        try:
            yield
        finally:
            self._asking[key] -= 1
            if self._asking[key] <= 1:
                self.contended.discard(key)
            if not self._asking[key]:
                del self._asking[key]

    def ask(self, session_id: str, move: Move) -> None:
        """Note that somebody asks to steer a session."""
        match move:
            case Move.RETRY:
                self.retried.add(session_id)
            case Move.RESET:
                self.reset.add(session_id)
            case Move.TERMINATE:
                self.terminated.add(session_id)


class History:
    """The events of one world, oldest first."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.ledger = Ledger()
        self._digest = hashlib.sha256()

    def note(self, at_s: float, who: str, noted: str | Record) -> None:
        """Add an event."""
        self.events.append(Event(at_s, who, noted))

    def record(self, sequence: int, body: bytes) -> None:
        """Add a record of the journal to its fingerprint."""
        self._digest.update(b"%d %d " % (sequence, len(body)))
        self._digest.update(body)

    def fingerprint(self) -> str:
        """Return a hash of the whole journal, including the records that were removed."""
        return self._digest.hexdigest()

    def timeline(self, lines: int = TIMELINE_LINES) -> Iterator[str]:
        """Yield the last events as lines of text, without reports of agents that only repeat the one before.

        Args:
            lines: the largest number of events.
        """
        told = list(_news(self.events))
        routine = len(self.events) - len(told)
        if len(told) > lines:
            yield f"… {len(told) - lines:,} earlier events"
        if routine:
            yield f"… {routine:,} reports that tell the same as the one before are left out"
        for event in told[-lines:]:
            yield f"{event.at_s:12.3f} s  {event.who:<24} {event.what}"


def _news(events: Sequence[Event]) -> Iterator[Event]:
    """Yield all events but reports of agents that repeat the same agent's previous record."""
    newest: dict[str, tuple[str, object]] = {}
    for event in events:
        record = event.noted
        if isinstance(record, Record):
            said = (record.kind, record.data)
            if record.kind == "agent.reported" and newest.get(record.entity_id) == said:
                continue
            newest[record.entity_id] = said
        yield event
