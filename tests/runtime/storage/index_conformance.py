"""What every store's indexes must do; a part of `StoreConformance`."""

import pytest

from opscore.runtime.errors import StoreError
from opscore.runtime.store import KEY_BYTES_MAX, Delete, Entry, Expect, Put, Store, Submission, Vacant

A, AB, Z = Entry("spot", b"a\0"), Entry("spot", b"ab\0"), Entry("spot", b"\xff\0")
EVERY = Entry("every", b"")


def put(key: bytes, *entries: Entry, body: bytes = b"body", table: str = "left") -> Put:
    return Put(table, key, body, 1, entries)


def apply(store: Store, *writes: Put | Delete) -> None:
    (outcome,) = store.apply([Submission(writes=writes)])
    assert isinstance(outcome, int)


def lines(store: Store, index: str = "spot") -> list[tuple[bytes, bytes]]:
    """Each line's place and the key of its row."""
    with store.snapshot() as view:
        found = [(line, stored.body) for line, stored in view.scan(index)]
        assert view.count(index) == len(found)
    assert all(line.endswith(key) for line, key in found)
    return [(line.removesuffix(key), key) for line, key in found]


class IndexConformance:
    """The tests of entries."""

    def test_an_index_reads_as_a_table_of_places_and_keys_that_lead_to_the_rows(self, store: Store) -> None:
        apply(store, put(b"two", A), put(b"one", Z), put(b"one\xff", A), put(b"\0", A))
        with store.snapshot() as view:
            found = [(line, stored.body) for line, stored in view.scan("spot", prefix=A.place)]
            assert found == [(b"a\0\0", b"\0"), (b"a\0one\xff", b"one\xff"), (b"a\0two", b"two")]
            back = view.scan("spot", after=b"a\0two", reverse=True)
            assert [stored.body for _, stored in back] == [b"one\xff", b"\0"]
            line = view.get("spot", b"a\0two")
            assert line is not None
            assert line.body == b"two"
            assert view.get("spot", b"a\0") is None

    def test_entries_take_the_place_of_those_of_the_value_before(self, store: Store) -> None:
        apply(store, put(b"a", A, AB, EVERY))
        assert lines(store) == [(A.place, b"a"), (AB.place, b"a")]
        apply(store, put(b"a", AB, Z))
        assert lines(store) == [(AB.place, b"a"), (Z.place, b"a")]
        assert lines(store, "every") == []
        apply(store, put(b"a"))
        assert lines(store) == []

    def test_a_row_that_goes_takes_its_entries_along_and_no_others(self, store: Store) -> None:
        apply(store, put(b"a", A, Z, EVERY), put(b"b", A, EVERY), put(b"\0a", A))
        apply(store, Delete("left", b"a"), Delete("left", b"never"))
        assert lines(store) == [(A.place, b"\0a"), (A.place, b"b")]
        assert lines(store, "every") == [(b"", b"b")]

    def test_a_row_moves_between_indexes(self, store: Store) -> None:
        apply(store, put(b"a", EVERY))
        apply(store, put(b"a", A))
        assert (lines(store), lines(store, "every")) == ([(A.place, b"a")], [])
        apply(store, put(b"a", EVERY))
        assert (lines(store), lines(store, "every")) == ([], [(b"", b"a")])

    def test_a_row_written_again_with_the_same_entries_stays_where_it_was(self, store: Store) -> None:
        for body in (b"1", b"2"):
            apply(store, put(b"a", A, Z, body=body), put(b"b", Z))
        apply(store, put(b"a", Z, A))
        assert lines(store) == [(A.place, b"a"), (Z.place, b"a"), (Z.place, b"b")]

    def test_an_entry_that_is_named_twice_is_there_once_and_goes_once(self, store: Store) -> None:
        apply(store, put(b"a", A, A, Z))
        assert lines(store) == [(A.place, b"a"), (Z.place, b"a")]
        apply(store, put(b"a", Z, Z))
        assert lines(store) == [(Z.place, b"a")]
        apply(store, Delete("left", b"a"))
        assert lines(store) == []

    @pytest.mark.parametrize("before", [(), (A,), (AB, Z), (A, AB, EVERY)])
    def test_of_a_row_written_several_times_in_one_submission_the_last_entries_stand(
        self, store: Store, before: tuple[Entry, ...]
    ) -> None:
        apply(store, put(b"a", *before))
        apply(store, put(b"a", A, EVERY), put(b"a", AB), put(b"a", Z))
        assert (lines(store), lines(store, "every")) == ([(Z.place, b"a")], [])
        apply(store, put(b"a", A), Delete("left", b"a"), put(b"a", AB))
        assert lines(store) == [(AB.place, b"a")]
        apply(store, Delete("left", b"a"), put(b"a", A), Delete("left", b"a"), Delete("left", b"a"))
        assert lines(store) == []

    def test_rows_may_change_places_within_one_submission(self, store: Store) -> None:
        apply(store, put(b"a", A), put(b"b", Z))
        apply(store, put(b"a", Z), put(b"b", A))
        assert lines(store) == [(A.place, b"b"), (Z.place, b"a")]

    def test_submissions_of_one_batch_each_move_what_the_one_before_left(self, store: Store) -> None:
        steps: list[Put | Delete] = [put(b"a", A), put(b"a", Z), put(b"b", Z), Delete("left", b"a"), put(b"a", AB)]
        store.apply([Submission(writes=(step,)) for step in steps])
        assert lines(store) == [(AB.place, b"a"), (Z.place, b"b")]

    @pytest.mark.parametrize("key", [b"k", b"k" * 255, b"k" * 509, b"k" * (KEY_BYTES_MAX - 1)])
    def test_place_and_key_together_may_be_as_long_as_a_key(self, store: Store, key: bytes) -> None:
        longest = Entry("spot", b"p" * (KEY_BYTES_MAX - len(key) - 1) + b"\0")
        apply(store, put(key, longest), put(b"k" * KEY_BYTES_MAX, EVERY))
        assert lines(store) == [(longest.place, key)]
        assert lines(store, "every") == [(b"", b"k" * KEY_BYTES_MAX)]
        apply(store, Delete("left", key), Delete("left", b"k" * KEY_BYTES_MAX))
        assert (lines(store), lines(store, "every")) == ([], [])

    def test_place_and_key_together_longer_than_a_key_fail_the_whole_batch(self, store: Store) -> None:
        apply(store, put(b"k" * 500, A))
        long = put(b"k" * 500, Entry("spot", b"p" * 11 + b"\0"))
        with pytest.raises(StoreError):
            store.apply([Submission(writes=(put(b"good", Z), Delete("left", b"k" * 500))), Submission(writes=(long,))])
        assert lines(store) == [(A.place, b"k" * 500)]
        with store.snapshot() as view:
            assert view.get("left", b"good") is None
            assert view.last_sequence() == 1

    def test_a_place_is_vacant_when_no_row_stands_there(self, store: Store) -> None:
        apply(store, put(b"a", A), put(b"b", Z))
        apply(store, Delete("left", b"b"))
        tries = [Vacant("spot", prefix) for prefix in (b"", b"a", A.place, b"a\0a", AB.place, Z.place, b"a\0b")]
        outcomes = store.apply([Submission(expects=(each,)) for each in (*tries, Vacant("every", b""))])
        assert [isinstance(each, int) for each in outcomes] == [False] * 4 + [True] * 4

    def test_a_submission_that_is_refused_leaves_every_line_as_it_was(self, store: Store) -> None:
        apply(store, put(b"a", A), put(b"b", Z))
        writes = (Delete("left", b"a"), put(b"b", A), put(b"c", EVERY))
        store.apply([Submission(expects=(Expect("left", b"c", 9),), writes=writes)])
        assert (lines(store), lines(store, "every")) == ([(A.place, b"a"), (Z.place, b"b")], [])

    def test_a_snapshot_keeps_its_lines_while_rows_move(self, store: Store) -> None:
        apply(store, put(b"a", A), put(b"b", A))
        with store.snapshot() as view:
            walk = view.scan("spot")
            first = next(walk)[0]
            apply(store, put(b"a", Z), Delete("left", b"b"))
            assert [first, *(line for line, _ in walk)] == [b"a\0a", b"a\0b"]
            assert view.get("spot", b"\xff\0a") is None
        assert lines(store) == [(Z.place, b"a")]

    def test_two_tables_have_rows_of_one_key_in_indexes_of_their_own(self, store: Store) -> None:
        apply(store, put(b"a", EVERY), put(b"a", Entry("when", b"ab"), table="right"), put(b"a", table="plain"))
        apply(store, Delete("left", b"a"))
        assert (lines(store, "every"), lines(store, "when")) == ([], [(b"ab", b"a")])
