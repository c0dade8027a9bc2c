"""What any store must do, as a state machine beside a dictionary; a store's tests subclass it."""

import itertools
import shutil
import tempfile
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from opscore.runtime.errors import Superseded
from opscore.runtime.store import (
    ABSENT,
    JOURNAL_TABLE,
    SCHEMA_MAX,
    Delete,
    Expect,
    Put,
    Snapshot,
    Store,
    Stored,
    Submission,
    Vacant,
)

TABLES = ("left", "right")
KEYS = (b"\x00", b"a", b"a\x00", b"a.", b"a.1", b"a.\xff", b"ab", b"b", b"\xff", b"\xff" * 9, b"k" * 511)
PREFIXES = (b"", b"a", b"a.", b"b", b"\xff", b"z", b"\x00")
SHORT = settings(max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@attrs.frozen
class Wish:
    """A precondition before it is known which version will hold."""

    table: str
    key: bytes
    holds: bool


@attrs.frozen
class Draft:
    wishes: tuple[Wish, ...]
    writes: tuple[Put | Delete, ...]
    records: tuple[bytes, ...]


PLACES = {"table": st.sampled_from(TABLES), "key": st.sampled_from(KEYS)}
BODIES = st.binary(max_size=40) | st.just(b"large" * 2_000)
PUTS = st.builds(Put, **PLACES, body=BODIES, schema=st.integers(0, SCHEMA_MAX))
DRAFTS = st.builds(
    Draft,
    wishes=st.lists(st.builds(Wish, **PLACES, holds=st.integers(0, 3).map(bool)), max_size=2).map(tuple),
    writes=st.lists(PUTS | st.builds(Delete, **PLACES), max_size=4).map(tuple),
    records=st.lists(st.binary(max_size=20), max_size=3).map(tuple),
)

Rows = dict[tuple[str, bytes], Stored]


class StoreConformance(RuleBasedStateMachine):
    """A store and a dictionary that are told the same."""

    @abstractmethod
    def open_store(self, path: Path) -> Store: ...

    @initialize()
    def open(self) -> None:
        self.path = Path(tempfile.mkdtemp())
        self.store = self.open_store(self.path)
        self.rows: Rows = {}
        self.sequence = 0
        self.versions: set[int] = {ABSENT}

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.path)

    @rule(drafts=st.lists(DRAFTS, min_size=1, max_size=4))
    def apply(self, drafts: list[Draft]) -> None:
        batch = [self._submission(draft) for draft in drafts]
        outcomes = self.store.apply(batch)
        assert len(outcomes) == len(batch)
        for submission, outcome in zip(batch, outcomes, strict=True):
            failed = next((each for each in submission.expects if not self._holds(each)), None)
            if failed is None:
                assert isinstance(outcome, int)
                self._note(submission, outcome)
            else:
                assert isinstance(outcome, Superseded)
                assert outcome.table == failed.table

    @rule(draft=DRAFTS)
    def a_snapshot_stays_as_it_was(self, draft: Draft) -> None:
        before = dict(self.rows)
        with self.store.snapshot() as view:
            self.apply([draft])
            assert _all_rows(view) == before

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def a_version_that_was_overtaken_is_refused_for_good(self, data: st.DataObject) -> None:
        table, key = data.draw(st.sampled_from(sorted(self.rows)))
        stale = Expect(table, key, self.rows[table, key].version)
        anew = Submission(writes=(Delete(table, key), Put(table, key, b"again", 1)))
        outcome, refused = self.store.apply([anew, Submission(expects=(stale,), writes=(Delete(table, key),))])
        assert isinstance(outcome, int)
        assert isinstance(refused, Superseded)
        self._note(anew, outcome)

    @rule(table=st.sampled_from(TABLES), prefix=st.sampled_from(PREFIXES), after=st.none() | st.sampled_from(KEYS),
          reverse=st.booleans())  # fmt: skip
    def scan(self, table: str, prefix: bytes, after: bytes | None, reverse: bool) -> None:
        def wanted(key: bytes) -> bool:
            return key.startswith(prefix) and (after is None or (key < after if reverse else key > after))

        keys = sorted((key for place, key in self.rows if place == table and wanted(key)), reverse=reverse)
        with self.store.snapshot() as view:
            found = list(view.scan(table, prefix=prefix, after=after, reverse=reverse))
        assert found == [(key, self.rows[table, key]) for key in keys]

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = self.open_store(self.path)

    @invariant()
    def the_store_holds_what_the_dictionary_holds(self) -> None:
        with self.store.snapshot() as view:
            assert _all_rows(view) == self.rows
            assert view.last_sequence() == self.sequence
            for place in TABLES:
                for key in KEYS:
                    assert view.get(place, key) == self.rows.get((place, key))

    def _submission(self, draft: Draft) -> Submission:
        expects = tuple(
            Expect(wish.table, wish.key, self._version(wish) if wish.holds else self.sequence + 1_000)
            for wish in draft.wishes
        )
        records = tuple(Put(JOURNAL_TABLE, b"", body, 7) for body in draft.records)
        return Submission(expects=expects, writes=draft.writes, records=records)

    def _holds(self, expect: Expect | Vacant) -> bool:
        if isinstance(expect, Expect):
            return self._version(expect) == expect.version
        return not any(table == expect.table and key.startswith(expect.prefix) for table, key in self.rows)

    def _version(self, place: Wish | Expect) -> int:
        row = self.rows.get((place.table, place.key))
        return ABSENT if row is None else row.version

    def _note(self, submission: Submission, version: int) -> None:
        assert version not in self.versions
        assert version == self.sequence + max(1, len(submission.records))
        self.versions.add(version)
        for write in submission.writes:
            if isinstance(write, Put):
                self.rows[write.table, write.key] = Stored(write.body, write.schema, version)
            else:
                self.rows.pop((write.table, write.key), None)
        for offset, record in enumerate(submission.records, start=1):
            key = (self.sequence + offset).to_bytes(8, "big")
            self.rows[JOURNAL_TABLE, key] = Stored(record.body, record.schema, self.sequence + offset)
        self.sequence = version


def check_every_scan(store: Store) -> None:
    """Walk a table of every awkward key from every place in both directions."""
    store.apply([Submission(writes=tuple(Put("left", key, key, 1) for key in KEYS))])
    with store.snapshot() as view:
        for prefix, after, reverse in itertools.product(PREFIXES, (None, b"", b"a.0", b"z", *KEYS), (False, True)):
            expected = sorted(
                key
                for key in KEYS
                if key.startswith(prefix) and (after is None or (key < after if reverse else key > after))
            )
            found = view.scan("left", prefix=prefix, after=after, reverse=reverse)
            assert [key for key, _ in found] == (expected[::-1] if reverse else expected), (prefix, after, reverse)


def _all_rows(view: Snapshot) -> dict[tuple[str, bytes], Any]:
    def walk() -> Iterator[tuple[tuple[str, bytes], Stored]]:
        for table in (*TABLES, JOURNAL_TABLE):
            for key, stored in view.scan(table):
                yield (table, key), stored

    return dict(walk())
