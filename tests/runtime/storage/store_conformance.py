"""What every store must do; an adapter's tests subclass `StoreConformance` and say how a store is opened.

Nothing here knows how a store keeps what it is told: an adapter that passes unchanged may take LMDB's place.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis.stateful import run_state_machine_as_test

from opscore.runtime.errors import StoreError, StoreFull, Superseded
from opscore.runtime.store import (
    ABSENT,
    JOURNAL_TABLE,
    KEY_BYTES_MAX,
    SCHEMA_MAX,
    Delete,
    Entry,
    Expect,
    Put,
    Store,
    Stored,
    Submission,
    Vacant,
)
from tests.runtime.storage.index_conformance import IndexConformance
from tests.runtime.storage.snapshot_conformance import SnapshotConformance
from tests.runtime.storage.store_histories import SHORT, StoreHistories

NEVER = 2**40


def put(key: bytes, body: bytes = b"body", *, table: str = "plain", new_work: bool = False) -> Submission:
    return Submission(writes=(Put(table, key, body, 1),), new_work=new_work)


def delete(*keys: bytes) -> Submission:
    return Submission(writes=tuple(Delete("plain", key) for key in keys))


def record(body: bytes = b"line") -> Put:
    return Put(JOURNAL_TABLE, b"", body, 7)


def keys(store: Store, table: str = "plain") -> list[bytes]:
    with store.snapshot() as view:
        return [key for key, _ in view.scan(table)]


def value(store: Store, key: bytes, table: str = "plain") -> Stored | None:
    with store.snapshot() as view:
        return view.get(table, key)


def refused(outcomes: list[object]) -> list[tuple[str, str] | None]:
    """What each submission was refused for, by table and key."""
    return [(each.table, each.key) if isinstance(each, Superseded) else None for each in outcomes]


class StoreConformance(IndexConformance, SnapshotConformance, ABC):
    """The tests of one adapter."""

    @abstractmethod
    def open_store(self, place: Path) -> Store:
        """Open the store of a place, which no one else uses, with the tables and indexes of `store_ledger`."""

    def reopen(self, store: Store, place: Path) -> Store:
        """Close a store, and open that of the same place as a new process would."""
        store.close()
        return self.open_store(place)

    @pytest.fixture
    def place(self, tmp_path: Path) -> Path:
        return tmp_path / "store"

    @pytest.fixture
    def store(self, place: Path) -> Iterator[Store]:
        store = self.open_store(place)
        yield store
        store.close()

    def test_after_any_history_every_snapshot_shows_what_was_applied_until_then(self) -> None:
        run_state_machine_as_test(partial(StoreHistories, self), settings=SHORT)  # type: ignore[arg-type]

    # --- submissions ---------------------------------------------------------------------------------------

    def test_a_submission_whose_precondition_fails_is_refused_alone(self, store: Store) -> None:
        doubtful = Submission(
            expects=(Expect("plain", b"first", 1), Expect("left", b"a", NEVER), Vacant("plain", b"")),
            writes=(Put("plain", b"second", b"", 1), Put("left", b"b", b"", 1, (Entry("spot", b"\0"),))),
            records=(record(),),
        )
        outcomes = store.apply([put(b"first"), doubtful, put(b"third")])
        assert refused(list(outcomes)) == [None, ("left", "a"), None]
        assert (outcomes[0], outcomes[2]) == (1, 2)
        assert keys(store) == [b"first", b"third"]
        assert [keys(store, name) for name in ("left", "spot", JOURNAL_TABLE)] == [[], [], []]

    def test_two_submissions_added_up_are_applied_or_refused_together(self, store: Store) -> None:
        fails = Submission(expects=(Expect("right", b"b", 7),), writes=(Put("right", b"b", b"", 1),))
        assert refused(list(store.apply([put(b"a") + fails, fails + put(b"c")]))) == [("right", "b")] * 2
        both = put(b"a", new_work=True) + Submission(records=(record(),)) + put(b"b")
        assert both.new_work
        assert store.apply([both]) == [1]
        assert keys(store) == [b"a", b"b"]

    def test_a_submission_sees_what_those_before_it_in_its_batch_did(self, store: Store) -> None:
        entry = (Entry("spot", b"a\0"),)
        once = Submission(expects=(Expect("left", b"a", ABSENT),), writes=(Put("left", b"a", b"", 1, entry),))
        free = Submission(expects=(Vacant("spot", b"a\0"),), writes=(Put("left", b"b", b"", 1, entry),))
        gone = Submission(expects=(Expect("left", b"a", 1),), writes=(Delete("left", b"a"),))
        outcomes = store.apply([once, once, free, gone, free, free])
        assert refused(list(outcomes)) == [None, ("left", "a"), ("spot", "a\0"), None, None, ("spot", "a\0")]
        assert [each for each in outcomes if isinstance(each, int)] == [1, 2, 3]

    def test_preconditions_look_at_what_stood_before_the_submissions_own_writes(self, store: Store) -> None:
        first = Submission(expects=(Expect("plain", b"a", ABSENT), Vacant("plain", b"a")), writes=put(b"a").writes)
        assert store.apply([first]) == [1]

    def test_the_first_precondition_that_fails_is_the_one_that_is_named(self, store: Store) -> None:
        expects = (Expect("plain", b"fine", ABSENT), Expect("plain", b"b", 3), Expect("plain", b"a", 3))
        assert refused(list(store.apply([Submission(expects=expects)]))) == [("plain", "b")]

    def test_the_later_of_two_writes_of_a_key_in_one_submission_stands(self, store: Store) -> None:
        writes = (Put("plain", b"a", b"1", 1), Delete("plain", b"a"), Put("plain", b"a", b"2", 3))
        assert store.apply([Submission(writes=writes)]) == [1]
        assert value(store, b"a") == Stored(b"2", 3, 1)
        assert store.apply([Submission(writes=(*writes, Delete("plain", b"a")))]) == [2]
        assert keys(store) == []

    def test_a_put_needs_no_precondition_and_replaces_whatever_was_there(self, store: Store) -> None:
        assert store.apply([put(b"a", b"a long body")]) == [1]
        assert store.apply([Submission(writes=(Put("plain", b"a", b"", 2),))]) == [2]
        assert value(store, b"a") == Stored(b"", 2, 2)

    def test_deleting_what_is_not_there_is_fine_and_counts_as_applied(self, store: Store) -> None:
        assert store.apply([delete(b"a"), put(b"a"), delete(b"a", b"a")]) == [1, 2, 3]
        assert keys(store) == []

    # --- preconditions -------------------------------------------------------------------------------------

    def test_a_key_is_at_the_version_it_was_written_with_and_at_no_other(self, store: Store) -> None:
        store.apply([put(b"before"), put(b"a"), put(b"after")])

        def tried(version: int) -> bool:
            (outcome,) = store.apply([Submission(expects=(Expect("plain", b"a", version),))])
            return isinstance(outcome, int)

        assert [version for version in (ABSENT, 1, 2, 3, 4, NEVER) if tried(version)] == [2]

    @pytest.mark.parametrize("deleted", [False, True])
    def test_a_key_is_absent_when_it_never_was_there_and_when_it_was_deleted(self, store: Store, deleted: bool) -> None:
        store.apply([put(b"ab"), put(b"b", table="left")])
        if deleted:
            store.apply([put(b"a"), delete(b"a")])
        absent = Submission(expects=(Expect("plain", b"a", ABSENT), Expect("plain", b"b", ABSENT)))
        present = Submission(expects=(Expect("plain", b"a", 3),))
        assert refused(list(store.apply([absent, present]))) == [None, ("plain", "a")]

    def test_a_value_that_was_deleted_and_written_again_is_told_apart_from_the_one_before(self, store: Store) -> None:
        store.apply([put(b"a", b"same")])
        store.apply([delete(b"a") + put(b"a", b"same")])
        stale = Submission(expects=(Expect("plain", b"a", 1),), writes=delete(b"a").writes)
        assert refused(list(store.apply([stale]))) == [("plain", "a")]
        assert value(store, b"a") == Stored(b"same", 1, 2)

    @pytest.mark.parametrize(
        ("prefix", "vacant"),
        [
            (b"", False), (b"a", False), (b"ab", False), (b"abc", True), (b"b", True), (b"aa", True), (b"a\xff", True),
            (b"\xff", False), (b"\xff\xff", False), (b"\xff\xff\xff", True), (b"\0", True), (b"k" * 512, True),
        ],
    )  # fmt: skip
    def test_a_prefix_is_vacant_when_no_key_begins_with_it(self, store: Store, prefix: bytes, vacant: bool) -> None:
        store.apply([put(b"ab"), put(b"\xff\xff"), put(b"b", table="left"), put(b"k" * KEY_BYTES_MAX)])
        (outcome,) = store.apply([Submission(expects=(Vacant("plain", prefix),))])
        assert isinstance(outcome, int) == vacant
        assert isinstance(store.apply([Submission(expects=(Vacant("right", prefix),))])[0], int)

    def test_the_journal_is_vacant_until_a_record_is_there(self, store: Store) -> None:
        vacant = Submission(expects=(Vacant(JOURNAL_TABLE, b""),), records=(record(),))
        assert refused(list(store.apply([put(b"a"), vacant, vacant]))) == [None, None, (JOURNAL_TABLE, "")]

    # --- versions ------------------------------------------------------------------------------------------

    def test_every_submission_that_is_applied_advances_the_sequence_even_an_empty_one(self, store: Store) -> None:
        fails = Submission(expects=(Expect("plain", b"a", NEVER),))
        assert store.apply([]) == []
        outcomes = store.apply([Submission(), fails, Submission(), put(b"a"), fails])
        assert [each for each in outcomes if isinstance(each, int)] == [1, 2, 3]
        with store.snapshot() as view:
            assert view.last_sequence() == 3

    def test_records_get_consecutive_numbers_and_values_carry_the_last_of_them(self, store: Store) -> None:
        several = Submission(writes=put(b"a").writes, records=(record(b"x"), record(b"y"), record(b"z")))
        assert store.apply([put(b"before"), several, Submission(records=(record(b"last"),))]) == [1, 4, 5]
        with store.snapshot() as view:
            found = [(int.from_bytes(key, "big"), stored) for key, stored in view.scan(JOURNAL_TABLE)]
            assert {len(key) for key, _ in view.scan(JOURNAL_TABLE)} == {8}
        bodies = {2: b"x", 3: b"y", 4: b"z", 5: b"last"}
        assert found == [(number, Stored(body, 7, number)) for number, body in bodies.items()]
        assert value(store, b"a") == Stored(b"body", 1, 4)

    def test_the_journal_stays_in_the_order_of_its_numbers_past_those_that_one_byte_holds(self, store: Store) -> None:
        store.apply([Submission(records=(record(b"%d" % number),)) for number in range(1, 301)])
        with store.snapshot() as view:
            assert [int(stored.body) for _, stored in view.scan(JOURNAL_TABLE)] == [*range(1, 301)]

    def test_no_version_is_used_again_after_everything_was_deleted_and_the_store_was_reopened(
        self, place: Path
    ) -> None:
        store = self.open_store(place)
        store.apply([put(b"a"), Submission(records=(record(), record()))])
        store.apply(
            [delete(b"a"), Submission(writes=tuple(Delete(JOURNAL_TABLE, key) for key in keys(store, "journal")))]
        )
        store = self.reopen(store, place)
        with store.snapshot() as view:
            assert view.last_sequence() == 5
            assert [view.count(name) for name in ("plain", JOURNAL_TABLE)] == [0, 0]
        assert store.apply([put(b"a"), Submission(records=(record(),))]) == [6, 7]
        store.close()

    # --- values --------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("schema", [0, 1, SCHEMA_MAX])
    @pytest.mark.parametrize("size", [0, 1, 1_000_000])
    @pytest.mark.parametrize("entries", [(), (Entry("spot", b"\0"), Entry("every", b""))])
    def test_a_value_of_any_size_and_schema_reads_as_it_was_written(
        self, store: Store, schema: int, size: int, entries: tuple[Entry, ...]
    ) -> None:
        body = bytes(range(251)) * (size // 251) + bytes(size % 251)
        store.apply([Submission(writes=(Put("left", b"a", body, schema, entries),))])
        assert value(store, b"a", "left") == Stored(body, schema, 1)

    @pytest.mark.parametrize("key", [b"", b"k" * (KEY_BYTES_MAX + 1)])
    def test_a_key_of_no_length_or_too_great_a_one_fails_its_whole_batch(self, store: Store, key: bytes) -> None:
        with pytest.raises(StoreError):
            store.apply([put(b"good"), put(key), put(b"better")])
        assert keys(store) == []
        assert value(store, key) is None
        absent = Submission(expects=(Expect("plain", key, ABSENT),))
        assert store.apply([absent, put(b"k" * KEY_BYTES_MAX)]) == [1, 2]

    def test_tables_know_nothing_of_each_other(self, store: Store) -> None:
        store.apply([put(b"a", b"1", table="plain"), put(b"a", b"2", table="left"), put(b"a", b"3", table="right")])
        store.apply([Submission(writes=(Delete("left", b"a"),))])
        assert [value(store, b"a", table) for table in ("plain", "left", "right")] == [
            Stored(b"1", 1, 1), None, Stored(b"3", 1, 3),
        ]  # fmt: skip

    # --- the end -------------------------------------------------------------------------------------------

    def test_what_was_applied_is_there_after_a_reopen(self, place: Path) -> None:
        store = self.open_store(place)
        entry = (Entry("spot", b"a\0"),)
        store.apply([put(b"a"), Submission(writes=(Put("left", b"b", b"", 1, entry),), records=(record(),))])
        for _ in range(2):
            store = self.reopen(store, place)
            assert [keys(store, name) for name in ("plain", "left", "spot")] == [[b"a"], [b"b"], [b"a\0b"]]
            assert keys(store, JOURNAL_TABLE) == [(2).to_bytes(8, "big")]
        store.close()

    def test_a_store_may_be_closed_twice_and_then_neither_reads_nor_writes(self, store: Store) -> None:
        store.apply([put(b"a")])
        store.close()
        store.close()
        with pytest.raises(StoreError):
            store.apply([put(b"b")])
        with pytest.raises(StoreError), store.snapshot() as view:
            view.get("plain", b"a")


class SizedStoreConformance(ABC):
    """What a store must do besides whose size is known and bounded."""

    @abstractmethod
    def open_small_store(self, place: Path) -> Store:
        """Open a store that holds about a hundred values of 10,000 bytes and less than 500."""

    @pytest.fixture
    def small(self, tmp_path: Path) -> Iterator[Store]:
        store = self.open_small_store(tmp_path / "small")
        yield store
        store.close()

    def test_new_work_is_refused_before_what_finishes_and_resumes_once_there_is_room(self, small: Store) -> None:
        taken = 0
        while isinstance(outcome := small.apply([put(b"%d" % taken, b"v" * 10_000, new_work=True)])[0], int):
            taken += 1
            assert taken < 500
        assert isinstance(outcome, StoreFull)
        mixed = small.apply([put(b"more", b"v" * 10_000, new_work=True), put(b"finish"), put(b"more", new_work=True)])
        assert [type(each) for each in mixed] == [StoreFull, int, StoreFull]
        # A snapshot keeps what is deleted from being used again, and deleting has to go all the same.
        with small.snapshot() as view:
            assert view.count("plain") == taken + 1
            assert [type(each) for each in small.apply([delete(*(b"%d" % each for each in range(taken // 2)))])] == [
                int
            ]
        small.apply([put(b"finish")])
        assert isinstance(small.apply([put(b"more", b"v" * 10_000, new_work=True)])[0], int)

    def test_exactly_what_does_not_fit_is_refused_and_uses_no_version(self, small: Store) -> None:
        huge = put(b"huge", b"v" * 10_000_000)
        sees = Submission(expects=(Expect("plain", b"huge", ABSENT), Expect("plain", b"a", 1)))
        outcomes = small.apply([put(b"a"), huge, sees, put(b"b"), huge, put(b"c")])
        assert [type(each) for each in outcomes] == [int, StoreFull, int, int, StoreFull, int]
        assert [each for each in outcomes if isinstance(each, int)] == [1, 2, 3, 4]
        assert keys(small) == [b"a", b"b", b"c"]
