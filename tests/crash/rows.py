"""Reads a data directory while no server runs on it; only this module knows the store."""

import hashlib
from pathlib import Path
from typing import Any, Final

import attrs

from opscore.gateway.routes.app import PREFIX
from opscore.runtime import codec
from opscore.runtime.journal.opening import open_store
from opscore.runtime.journal.tables import AGENTS, DEFINITIONS, IDEMPOTENCY, LEASES, OPEN_SESSIONS, SESSIONS, TASKS
from opscore.runtime.journal.typed_tables import Table
from opscore.runtime.lease import Lease
from opscore.runtime.models import Agent, IdempotentTrigger, Record, SavedDefinition, Session, Task
from opscore.runtime.runs.triggering import IdempotencyKey
from opscore.runtime.store import JOURNAL_TABLE, Snapshot, Stored
from tests.crash.ledger import Order
from tests.crash.server import MAP_BYTES

_NUMBER_BYTES: Final = 8
"""Of a journal record's key, which is its sequence number."""


@attrs.frozen(kw_only=True)
class Rows:
    """The content of a directory at one moment."""

    agents: dict[str, Agent]
    leases: dict[str, Lease]
    """By agent."""
    sessions: dict[str, Session]
    open_sessions: set[str]
    tasks: dict[str, Task]
    definitions: dict[str, SavedDefinition]
    keys: dict[str, IdempotentTrigger]
    """What idempotency keys were used for, by `scope`."""
    records: list[tuple[int, Record]]
    """The new records of the journal, each with its sequence number."""
    faults: list[str]
    """What the journal's numbers and its earlier part show."""


class Reader:
    """Reads a directory again and again, and decodes only what changed.

    Args:
        path: the data directory.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[tuple[str, bytes], tuple[int, Any]] = {}
        self._last = 0
        self._sequence = 0
        self._digest = hashlib.sha256()

    def read(self, *, whole: bool = False) -> Rows:
        """Read the tables and what is new in the journal; the whole of it again, to see that it is as it was."""
        with open_store(self._path, map_bytes=MAP_BYTES) as store, store.snapshot() as view:
            before = self._digest_of(view) if whole else None
            faults = [] if before in (None, self._digest.digest()) else ["what was read of the journal has changed"]
            records = self._new_records(view, faults)
            return Rows(
                agents=self._rows(view, AGENTS),
                leases=self._rows(view, LEASES),
                sessions=self._rows(view, SESSIONS),
                open_sessions=set(self._rows(view, OPEN_SESSIONS)),
                tasks=self._rows(view, TASKS),
                definitions=self._rows(view, DEFINITIONS),
                keys={scope: row.trigger for scope, row in self._rows(view, IDEMPOTENCY).items()},
                records=records,
                faults=faults,
            )

    def _rows(self, view: Snapshot, table: Table[Any]) -> dict[str, Any]:
        found = {}
        for key, stored in view.scan(table.name):
            version, row = self._known.get((table.name, key), (0, None))
            if version != stored.version:
                row = table.decode(key, stored)
                self._known[table.name, key] = stored.version, row
            found[table.key(row)] = row
        return found

    def _new_records(self, view: Snapshot, faults: list[str]) -> list[tuple[int, Record]]:
        records = []
        after = self._last.to_bytes(_NUMBER_BYTES, "big") if self._last else None
        for key, stored in view.scan(JOURNAL_TABLE, after=after):
            number = int.from_bytes(key, "big")
            if number <= self._last or stored.version != number:
                faults.append(f"journal record {number} of version {stored.version} follows {self._last}")
            self._last = number
            self._digest.update(_digested(key, stored))
            records.append((number, codec.decode_row(stored.body, Record)))
        sequence = view.last_sequence()
        if sequence < max(self._last, self._sequence):
            faults.append(f"the store is at {sequence}, after {self._sequence} and with journal record {self._last}")
        self._sequence = sequence
        return records

    def _digest_of(self, view: Snapshot) -> bytes:
        """Return a hash of the journal up to where it was read before."""
        digest = hashlib.sha256()
        for key, stored in view.scan(JOURNAL_TABLE):
            if int.from_bytes(key, "big") > self._last:
                break
            digest.update(_digested(key, stored))
        return digest.digest()


def _digested(key: bytes, stored: Stored) -> bytes:
    return key + hashlib.sha256(stored.body).digest()


def scope(order: Order) -> str:
    """The name of the row of an order's key."""
    return IdempotencyKey(path=f"{PREFIX}{order.path}", key=order.key).scope
