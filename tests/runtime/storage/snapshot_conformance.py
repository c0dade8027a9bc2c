"""What every store's snapshots must do; a part of `StoreConformance`."""

import itertools
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import ClassVar

import pytest

from opscore.runtime.errors import StoreError
from opscore.runtime.store import KEY_BYTES_MAX, Delete, Entry, Put, Snapshot, Store, Stored, Submission
from tests.runtime.storage.store_ledger import KEYS, PREFIXES

READERS = 3
RACE_S = 0.8


def both(number: int) -> Submission:
    """One value in two tables, and in an index under its number."""
    body, entry = b"%d" % number, (Entry("spot", b"a\xff\0" if number % 2 else b"a\0"),)
    records = tuple(Put("journal", b"", body, 1) for _ in range(number % 3))
    return Submission(writes=(Put("left", b"a", body, 1, entry), Put("plain", b"a", body, 1)), records=records)


def _walked_past_a_long_bound(store: Store, *, reverse: bool) -> list[bytes]:
    writes = tuple(Put("plain", key, b"", 1) for key in (b"a", b"k" * KEY_BYTES_MAX, b"z"))
    store.apply([Submission(writes=writes)])
    with store.snapshot() as view:
        return [key for key, _ in view.scan("plain", after=b"k" * (KEY_BYTES_MAX + 1), reverse=reverse)]


class SnapshotConformance:
    """The tests of reading."""

    ended: ClassVar[tuple[type[Exception], ...]] = (StoreError,)
    """What reading past the end of a snapshot may raise."""

    def test_a_snapshot_sees_every_apply_that_returned_before_it_was_taken_and_none_after(self, store: Store) -> None:
        with ExitStack() as stack:
            views = []
            for number in range(6):
                views.append(stack.enter_context(store.snapshot()))
                store.apply([Submission(writes=(Put("plain", b"a", b"%d" % number, 1),))])
            store.apply([Submission(writes=(Delete("plain", b"a"), Put("plain", b"b", b"", 1)))])
            found = [(view.last_sequence(), view.get("plain", b"a"), view.count("plain")) for view in views]
        expected = [(number, Stored(b"%d" % (number - 1), 1, number), 1) for number in range(1, 6)]
        assert found == [(0, None, 0), *expected]

    def test_snapshots_end_in_any_order(self, store: Store) -> None:
        first, second = store.snapshot(), store.snapshot()
        older = first.__enter__()
        store.apply([both(0)])
        newer = second.__enter__()
        first.__exit__(None, None, None)
        assert newer.last_sequence() == 1
        second.__exit__(None, None, None)
        assert older is not newer

    def test_a_walk_goes_on_through_its_snapshot_while_rows_are_written_and_others_read(self, store: Store) -> None:
        store.apply([Submission(writes=tuple(Put("plain", b"%02d" % number, b"old", 1) for number in range(50)))])
        with store.snapshot() as view:
            there, back = view.scan("plain"), view.scan("plain", reverse=True)
            found = []
            for number in range(50):
                key, stored = next(there)
                assert view.get("plain", key) == stored
                found.append((key, next(back)[0]))
                gone, new = b"%02d" % (number + 1), b"%02dx" % number
                store.apply([Submission(writes=(Delete("plain", gone), Put("plain", new, b"new", 1)))])
            assert found == [(b"%02d" % number, b"%02d" % (49 - number)) for number in range(50)]
            assert next(there, None) is None
            assert next(back, None) is None

    def test_a_table_is_walked_from_any_key_in_either_direction(self, store: Store) -> None:
        store.apply([Submission(writes=tuple(Put("plain", key, key, 1) for key in KEYS))])
        afters = (None, b"", b"a.0", b"z", b"\xff" * (KEY_BYTES_MAX - 1), *KEYS)
        with store.snapshot() as view:
            for prefix, after, reverse in itertools.product((*PREFIXES, *KEYS), afters, (False, True)):
                expected = sorted(
                    key
                    for key in KEYS
                    if key.startswith(prefix) and (after is None or (key < after if reverse else key > after))
                )
                found = view.scan("plain", prefix=prefix, after=after, reverse=reverse)
                assert [key for key, _ in found] == (expected[::-1] if reverse else expected), (prefix, after, reverse)

    def test_a_walk_may_begin_past_more_bytes_than_a_key_has(self, store: Store) -> None:
        assert _walked_past_a_long_bound(store, reverse=False) == [b"z"]

    def test_a_walk_back_may_begin_before_more_bytes_than_a_key_has(self, store: Store) -> None:
        assert _walked_past_a_long_bound(store, reverse=True) == [b"k" * KEY_BYTES_MAX, b"a"]

    @pytest.mark.parametrize("reverse", [False, True])
    def test_an_empty_table_is_walked_to_no_line(self, store: Store, reverse: bool) -> None:
        with store.snapshot() as view:
            for name, prefix, after in itertools.product(("plain", "spot", "journal"), (b"", b"a"), (None, b"", b"b")):
                assert list(view.scan(name, prefix=prefix, after=after, reverse=reverse)) == []
                assert view.get(name, b"a") is None
                assert view.count(name) == 0

    @pytest.mark.parametrize(
        "read",
        [
            lambda view: view.get("plain", b"a"),
            lambda view: list(view.scan("plain")),
            lambda view: view.count("plain"),
            lambda view: view.last_sequence(),
        ],
        ids=["get", "scan", "count", "last_sequence"],
    )
    def test_reading_in_a_snapshot_that_is_over_is_an_error(
        self, store: Store, read: Callable[[Snapshot], object]
    ) -> None:
        store.apply([both(0)])
        with store.snapshot() as view:
            pass
        with pytest.raises(self.ended):
            read(view)

    def test_going_on_with_a_walk_whose_snapshot_is_over_is_an_error(self, store: Store) -> None:
        store.apply([Submission(writes=tuple(Put("plain", key, b"", 1) for key in KEYS))])
        with store.snapshot() as view:
            walk = view.scan("plain")
            next(walk)
        with pytest.raises(self.ended):
            list(walk)

    def test_what_is_raised_in_a_snapshot_comes_out_as_it_is_and_ends_it(self, store: Store) -> None:
        with pytest.raises(ZeroDivisionError), store.snapshot():
            _ = 1 // 0
        assert store.apply([both(0)]) == [1]

    def test_readers_in_other_threads_see_whole_submissions_in_order_while_one_writes(self, store: Store) -> None:
        ended = threading.Event()
        seen: list[list[int]] = [[] for _ in range(READERS)]

        def look(view: Snapshot) -> int:
            sequence = view.last_sequence()
            rows = [view.get("left", b"a"), view.get("plain", b"a")]
            lines = [stored.body for _, stored in view.scan("spot")]
            time.sleep(0)
            assert rows[0] == rows[1] == view.get("plain", b"a")
            assert (0 if rows[0] is None else rows[0].version) == sequence == view.last_sequence()
            assert lines == ([b"a"] if rows[0] is not None else [])
            return sequence

        def read(found: list[int]) -> None:
            while not ended.is_set():
                with store.snapshot() as view:
                    found.append(look(view))
            found.append(-1)

        threads = [threading.Thread(target=read, args=(found,)) for found in seen]
        for thread in threads:
            thread.start()
        number, last, until = 0, 0, time.monotonic() + RACE_S
        while time.monotonic() < until:
            for outcome in store.apply([both(number), both(number + 1)]):
                assert isinstance(outcome, int)
                assert outcome > last
                last = outcome
            number += 2
        ended.set()
        for thread in threads:
            thread.join()
        for found in seen:
            # Whoever met a wrong line has not come to its end.
            assert found.pop() == -1
            assert found == sorted(found)
