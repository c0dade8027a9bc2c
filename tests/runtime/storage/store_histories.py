"""Any history of a store, drawn by Hypothesis and compared with a ledger after every step."""

import contextlib
import itertools
import shutil
import tempfile
from pathlib import Path
from typing import Protocol

import attrs
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from opscore.runtime.errors import Superseded
from opscore.runtime.store import (
    ABSENT,
    JOURNAL_TABLE,
    KEY_BYTES_MAX,
    SCHEMA_MAX,
    Delete,
    Expect,
    Put,
    Snapshot,
    Store,
    Submission,
    Vacant,
)
from tests.runtime.storage.store_ledger import KEYS, NAMES, PREFIXES, TABLES, Ledger, check, entries_for, shown, walked

SHORT = settings(max_examples=50, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SNAPSHOTS_MAX = 4
NEVER = 2**40
"""A version that no test comes to."""


class Adapter(Protocol):
    """What a store's tests say of it."""

    def open_store(self, place: Path) -> Store: ...

    def reopen(self, store: Store, place: Path) -> Store: ...


@attrs.frozen
class Wish:
    """A precondition before it is known which version its key will have."""

    table: str
    key: bytes
    version: str


@attrs.frozen
class Draft:
    wishes: tuple[Wish | Vacant, ...]
    writes: tuple[Put | Delete, ...]
    records: tuple[bytes, ...]
    new_work: bool


@st.composite
def puts(draw: st.DrawFn) -> Put:
    table, key = draw(st.sampled_from(TABLES)), draw(st.sampled_from(KEYS))
    possible = entries_for(table, key)
    entries = draw(st.lists(st.sampled_from(possible), max_size=3)) if possible else []
    return Put(table, key, draw(BODIES), draw(SCHEMAS), tuple(entries))


BODIES = st.binary(max_size=20) | st.just(b"large" * 2_000)
SCHEMAS = st.sampled_from([0, 1, 2, SCHEMA_MAX])
WISHES = st.builds(
    Wish,
    table=st.sampled_from(TABLES),
    key=st.sampled_from(KEYS),
    version=st.sampled_from(["as it is"] * 6 + ["absent", "as it was", "never"]),
)
VACANT = st.builds(Vacant, table=st.sampled_from(NAMES), prefix=st.sampled_from([*PREFIXES, *KEYS]))
DELETES = st.builds(Delete, table=st.sampled_from(TABLES), key=st.sampled_from(KEYS))
DRAFTS = st.builds(
    Draft,
    wishes=st.lists(WISHES | WISHES | VACANT, max_size=2).map(tuple),
    writes=st.lists(puts() | puts() | DELETES, max_size=5).map(tuple),
    records=st.lists(st.binary(max_size=20), max_size=3).map(tuple),
    new_work=st.booleans(),
)
AFTER = st.none() | st.sampled_from([*KEYS, b"", b"a.0", b"z"]) | st.binary(max_size=KEY_BYTES_MAX)


class StoreHistories(RuleBasedStateMachine):
    """A store and a ledger that are told the same, with snapshots of different ages open."""

    def __init__(self, adapter: Adapter) -> None:
        super().__init__()
        self.adapter = adapter
        self.place = Path(tempfile.mkdtemp())
        self.store = adapter.open_store(self.place)
        self.ledger = Ledger()
        self.open: list[tuple[contextlib.ExitStack, Snapshot, int]] = []

    def teardown(self) -> None:
        self._end_snapshots()
        self.store.close()
        shutil.rmtree(self.place)

    @rule(drafts=st.lists(DRAFTS, min_size=1, max_size=4))
    def apply(self, drafts: list[Draft]) -> None:
        batch: list[Submission] = []
        expected: list[object] = []
        for draft in drafts:
            submission = self._submission(draft)
            failing = self.ledger.failing(submission)
            batch.append(submission)
            expected.append(self.ledger.note(submission) if failing is None else named(failing))
        outcomes = self.store.apply(batch)
        assert [(each.table, each.key) if isinstance(each, Superseded) else each for each in outcomes] == expected

    @precondition(lambda self: any(self.ledger.last.lines[table] for table in TABLES))
    @rule(data=st.data(), entries=st.booleans())
    def a_row_that_went_and_came_back_is_another(self, data: st.DataObject, entries: bool) -> None:
        rows = sorted((table, key) for table in TABLES for key in self.ledger.last.lines[table])
        table, key = data.draw(st.sampled_from(rows))
        stale = Expect(table, key, self.ledger.last.lines[table][key].version)
        back = Put(table, key, b"again", 1, entries_for(table, key) if entries else ())
        anew = Submission(writes=(Delete(table, key), back))
        outcome, refused = self.store.apply([anew, Submission(expects=(stale,), writes=(Delete(table, key),))])
        assert outcome == self.ledger.note(anew)
        assert isinstance(refused, Superseded)

    @precondition(lambda self: len(self.open) < SNAPSHOTS_MAX)
    @rule()
    def take_a_snapshot(self) -> None:
        stack = contextlib.ExitStack()
        view = stack.enter_context(self.store.snapshot())
        self.open.append((stack, view, len(self.ledger.pages) - 1))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def end_a_snapshot(self, data: st.DataObject) -> None:
        stack, _, _ = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        stack.close()

    @rule(data=st.data(), table=st.sampled_from(NAMES), after=AFTER, reverse=st.booleans())
    def walk(self, data: st.DataObject, table: str, after: bytes | None, reverse: bool) -> None:
        prefix = data.draw(st.sampled_from([*PREFIXES, *self.ledger.last.lines[table]]))
        with self.store.snapshot() as view:
            found = shown(table, view.scan(table, prefix=prefix, after=after, reverse=reverse))
        assert found == walked(self.ledger.last.lines[table], prefix=prefix, after=after, reverse=reverse)

    @rule(draft=DRAFTS, table=st.sampled_from(NAMES), reverse=st.booleans(), steps=st.integers(0, 3))
    def write_while_a_walk_is_under_way(self, draft: Draft, table: str, reverse: bool, steps: int) -> None:
        expected = walked(self.ledger.last.lines[table], reverse=reverse)
        with self.store.snapshot() as view:
            walk = view.scan(table, reverse=reverse)
            found = list(itertools.islice(walk, steps))
            self.apply([draft])
            found += walk
        assert shown(table, found) == expected

    @rule()
    def reopen(self) -> None:
        self._end_snapshots()
        self.store = self.adapter.reopen(self.store, self.place)

    @invariant()
    def every_snapshot_shows_its_commit(self) -> None:
        for _, view, page in self.open:
            check(view, self.ledger.pages[page])
        with self.store.snapshot() as view:
            check(view, self.ledger.last)

    def _end_snapshots(self) -> None:
        while self.open:
            self.open.pop()[0].close()

    def _submission(self, draft: Draft) -> Submission:
        return Submission(
            expects=tuple(wish if isinstance(wish, Vacant) else self._expect(wish) for wish in draft.wishes),
            writes=draft.writes,
            records=tuple(Put(JOURNAL_TABLE, b"", body, 7) for body in draft.records),
            new_work=draft.new_work,
        )

    def _expect(self, wish: Wish) -> Expect:
        stored = self.ledger.last.lines[wish.table].get(wish.key)
        version = {
            "as it is": ABSENT if stored is None else stored.version,
            "absent": ABSENT,
            "as it was": self.ledger.versions.get((wish.table, wish.key), [NEVER])[0],
            "never": NEVER,
        }[wish.version]
        return Expect(wish.table, wish.key, version)


def named(expect: Expect | Vacant) -> tuple[str, str]:
    """The table and key that whoever is refused is told."""
    return expect.table, (expect.key if isinstance(expect, Expect) else expect.prefix).decode(errors="replace")
