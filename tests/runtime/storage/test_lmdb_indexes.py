"""Indexes of the LMDB store where rows or lines are damaged, or too large, or not what a caller may ask for."""

from collections.abc import Callable
from pathlib import Path

import pytest

from opscore.runtime.errors import StoreDamaged, StoreError, StoreFull, Superseded
from opscore.runtime.storage.lmdb_store import LmdbStore
from opscore.runtime.store import JOURNAL_TABLE, SCHEMA_MAX, Delete, Entry, Put, Stored, Submission, Vacant
from tests.runtime.storage.lmdb_file import flipped, overwrite, raw, remove
from tests.runtime.storage.store_ledger import INDEXES, TABLES

A, Z = Entry("spot", b"a\0"), Entry("spot", b"\xff\0")


def open_store(path: Path, *, map_bytes: int = 64 * 1024**2) -> LmdbStore:
    return LmdbStore(path, tables=TABLES, indexes=INDEXES, map_bytes=map_bytes)


def put(key: bytes, *entries: Entry, body: bytes = b"body", schema: int = 1) -> Submission:
    return Submission(writes=(Put("left", key, body, schema, entries),))


def delete(key: bytes) -> Submission:
    return Submission(writes=(Delete("left", key),))


def lines(store: LmdbStore) -> list[bytes]:
    with store.snapshot() as view:
        return [line for line, _ in view.scan("spot")]


def damaged(path: Path, *bits: int) -> list[bytes]:
    """A store in which each row has another bit turned round; answers their keys."""
    keys = [b"bit %03d" % bit for bit in bits]
    with open_store(path) as store:
        store.apply([put(key, A, Z) for key in keys])
    values = raw(path, "left")
    overwrite(path, "left", {key: flipped(values[key], bit) for key, bit in zip(keys, bits, strict=True)})
    return keys


def row_bits(path: Path) -> int:
    with open_store(path) as store:
        store.apply([put(b"bit 000", A, Z)])
    return len(raw(path, "left")[b"bit 000"]) * 8


# --- damaged rows ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blind", [put, delete])
def test_a_row_whose_entries_can_not_be_read_refuses_exactly_the_submission_that_would_leave_them_behind(
    tmp_path: Path, blind: Callable[[bytes], Submission]
) -> None:
    # The last bit says whether there are entries at all.
    keys = damaged(tmp_path / "damaged", *range(row_bits(tmp_path / "sound") - 1))
    with open_store(tmp_path / "damaged") as store:
        before = lines(store)
        batch = [each for key in keys for each in (blind(key), put(b"next to " + key))]
        outcomes = store.apply(batch)
        assert all(isinstance(each, StoreDamaged) for each in outcomes[::2])
        assert all(isinstance(each, int) for each in outcomes[1::2])
        assert lines(store) == before
        with store.snapshot() as view:
            assert view.count("left") == 2 * len(keys)


@pytest.mark.parametrize("blind", [put, delete])
def test_a_row_that_lost_the_mark_of_its_entries_leaves_no_line_behind(
    tmp_path: Path, blind: Callable[[bytes], Submission]
) -> None:
    (key,) = damaged(tmp_path / "damaged", row_bits(tmp_path / "sound") - 1)
    with open_store(tmp_path / "damaged") as store:
        (outcome,) = store.apply([blind(key)])
        assert isinstance(outcome, StoreDamaged) or lines(store) == []


@pytest.mark.parametrize("kept", [0, 1, 13, 14, 15, 20])
def test_a_row_cut_short_is_neither_overwritten_nor_deleted(tmp_path: Path, kept: int) -> None:
    with open_store(tmp_path) as store:
        store.apply([put(b"a", A)])
    overwrite(tmp_path, "left", {b"a": raw(tmp_path, "left")[b"a"][:kept]})
    with open_store(tmp_path) as store:
        outcomes = store.apply([put(b"a", Z), put(b"b", Z), delete(b"a")])
        assert [type(each) for each in outcomes] == [StoreDamaged, int, StoreDamaged]
        assert lines(store) == [b"a\0a", b"\xff\0b"]


def test_a_row_that_strayed_to_another_key_does_not_take_that_ones_lines_along(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.apply([put(b"a", A), put(b"b", Z)])
    overwrite(tmp_path, "left", {b"b": raw(tmp_path, "left")[b"a"]})
    with open_store(tmp_path) as store:
        assert [type(each) for each in store.apply([delete(b"b"), delete(b"a")])] == [StoreDamaged, int]
        assert lines(store) == [b"\xff\0b"]


def test_a_damaged_row_refuses_a_submission_before_any_of_its_other_writes_is_made(tmp_path: Path) -> None:
    (key,) = damaged(tmp_path, 3)
    with open_store(tmp_path) as store:
        before = lines(store)
        record = Submission(records=(Put(JOURNAL_TABLE, b"", b"", 1),))
        first, second = store.apply([put(b"new", A) + delete(key) + record, put(b"other", Z)])
        assert isinstance(first, StoreDamaged)
        assert second == 2
        assert lines(store) == [*before, b"\xff\0other"]
        with store.snapshot() as view:
            assert view.get("left", b"new") is None
            assert view.count(JOURNAL_TABLE) == 0


# --- damaged lines -----------------------------------------------------------------------------------------


def test_a_damaged_line_is_named_when_it_is_read_is_not_vacant_and_goes_with_its_row(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.apply([put(b"a", A), put(b"b", Z)])
    overwrite(tmp_path, "spot", {b"a\0a": flipped(raw(tmp_path, "spot")[b"a\0a"], 0)})
    with open_store(tmp_path) as store:
        with pytest.raises(StoreDamaged, match="spot"):
            lines(store)
        (outcome,) = store.apply([Submission(expects=(Vacant("spot", A.place),))])
        assert isinstance(outcome, Superseded)
        assert store.apply([put(b"a", Z)]) == [3]
        assert lines(store) == [b"\xff\0a", b"\xff\0b"]


def test_a_line_that_is_lost_keeps_nobody_from_moving_its_row(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.apply([put(b"a", A), put(b"b", Z)])
    remove(tmp_path, "spot", b"a\0a")
    with open_store(tmp_path) as store:
        assert lines(store) == [b"\xff\0b"]
        assert store.apply([put(b"a", Z), delete(b"b")]) == [3, 4]
        assert lines(store) == [b"\xff\0a"]


# --- too much ----------------------------------------------------------------------------------------------


def test_a_submission_that_finds_no_room_after_part_of_it_was_written_leaves_every_line_as_it_was(
    tmp_path: Path,
) -> None:
    with open_store(tmp_path, map_bytes=2 * 1024**2) as store:
        store.apply([put(b"a", A), put(b"b", Z)])
        torn = put(b"a", Z) + delete(b"b") + put(b"c", A) + put(b"huge", A, body=b"v" * 4 * 1024**2)
        outcomes = store.apply([put(b"d", A), torn, put(b"e", Z)])
        assert [type(each) for each in outcomes] == [int, StoreFull, int]
        assert lines(store) == [b"a\0a", b"a\0d", b"\xff\0b", b"\xff\0e"]


def test_a_row_may_have_65535_entries_the_highest_schema_and_no_body(tmp_path: Path) -> None:
    many = [Entry("spot", b"%05d\0" % number) for number in range(65_535)]
    with open_store(tmp_path) as store:
        assert store.apply([put(b"a", *many, body=b"", schema=SCHEMA_MAX)]) == [1]
        assert len(lines(store)) == 65_535
        with store.snapshot() as view:
            assert view.get("left", b"a") == Stored(b"", SCHEMA_MAX, 1)
        assert store.apply([put(b"a", many[7], Z)]) == [2]
        assert lines(store) == [b"00007\0a", b"\xff\0a"]
        assert store.apply([delete(b"a")]) == [3]
        assert lines(store) == []


def test_a_row_of_more_entries_than_can_be_counted_is_a_store_error(tmp_path: Path) -> None:
    many = [Entry("spot", b"%05d\0" % number) for number in range(65_536)]
    with open_store(tmp_path) as store, pytest.raises(StoreError):
        store.apply([put(b"a", *many)])


def test_a_schema_higher_than_the_highest_is_refused(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        with pytest.raises((StoreError, AssertionError)):
            store.apply([put(b"a", schema=SCHEMA_MAX + 1)])
        assert lines(store) == []


@pytest.mark.parametrize(
    "write", [Put("plain", b"a", b"", 1, (A,)), Put("left", b"a", b"", 1, (Entry("nowhere", b""),))]
)
def test_an_entry_in_an_index_that_was_not_opened_fails_the_batch_and_leaves_nothing_behind(
    tmp_path: Path, write: Put
) -> None:
    with open_store(tmp_path) as store:
        with pytest.raises((AssertionError, KeyError)):
            store.apply([put(b"before", A), Submission(writes=(write,))])
        assert lines(store) == []
        assert store.apply([put(b"after", A)]) == [1]


# --- batches that are taken apart --------------------------------------------------------------------------


def test_a_batch_of_which_a_part_was_applied_does_not_fail_as_if_nothing_were(tmp_path: Path) -> None:
    with open_store(tmp_path, map_bytes=1024**2) as store:
        outcomes = store.apply([put(b"small", A), put(b"huge", body=b"v" * 4 * 1024**2), put(b"")])
        assert outcomes[0] == 1
        assert [type(each) for each in outcomes[1:]] == [StoreFull, StoreError]
        assert lines(store) == [b"a\0small"]


def test_a_record_that_can_not_be_appended_is_not_acknowledged(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        later = (100).to_bytes(8, "big")
        store.rewrite([(Put(JOURNAL_TABLE, later, b"imported", 1), 100)])
        try:
            store.apply([Submission(records=(Put(JOURNAL_TABLE, b"", b"new", 1),))])
        except StoreError:
            return
        with store.snapshot() as view:
            assert view.count(JOURNAL_TABLE) == 2
