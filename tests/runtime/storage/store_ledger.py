"""What the tests of a store know beforehand: the tables they use, and what must stand in them after any history."""

from collections.abc import Iterable
from typing import TypeAlias

import attrs

from opscore.runtime.store import (
    ABSENT,
    JOURNAL_TABLE,
    KEY_BYTES_MAX,
    Entry,
    Expect,
    Put,
    Snapshot,
    Stored,
    Submission,
    Vacant,
)

TABLES = ("left", "right", "plain")
INDEXES = {"left": ("spot", "every"), "right": ("when",)}
INDEX_NAMES = ("spot", "every", "when")
NAMES = (*TABLES, JOURNAL_TABLE, *INDEX_NAMES)

KEYS = (
    b"\x00", b"\x00\x00", b"a", b"a\x00", b"a\x00b", b"a.", b"a.1", b"a.\xff", b"a.\xff\xff", b"ab", b"b",
    b"\xff", b"\xff" * 9, b"\xff" * KEY_BYTES_MAX, b"k" * (KEY_BYTES_MAX - 1), b"k" * KEY_BYTES_MAX,
)  # fmt: skip
"""Prefixes of each other, bytes at both ends of the order, and the longest."""
PREFIXES = (
    b"", b"a", b"a\x00", b"a.", b"a.\xff", b"ab", b"b", b"m", b"z", b"\x00", b"\xff", b"\xff\xff", b"\x00\xff",
    b"k" * (KEY_BYTES_MAX - 1), b"k" * KEY_BYTES_MAX, b"k" * (KEY_BYTES_MAX + 1), b"\xff" * (KEY_BYTES_MAX + 1),
)  # fmt: skip

_PLACES = {
    "spot": (b"\x00", b"a\x00", b"a\xff\x00", b"ab\x00", b"\xff\x00", b"\xff\xff\x00"),
    "every": (b"",),
    "when": (b"\x00\x00", b"\x00\xff", b"a\x00", b"ab", b"\xff\xff"),
}
"""No place of an index begins another of it, so each line belongs to one row."""


def entries_for(table: str, key: bytes) -> tuple[Entry, ...]:
    """What a row may have in the indexes of its table, the longest place that its key leaves room for included."""
    room = KEY_BYTES_MAX - len(key)
    found = [Entry(index, place) for index in INDEXES.get(table, ()) for place in _PLACES[index]]
    if table == "left" and room:
        found.append(Entry("spot", b"m" * (room - 1) + b"\x00"))
    return tuple(entry for entry in found if len(entry.place) <= room)


Lines: TypeAlias = dict[bytes, Stored]


@attrs.frozen
class Page:
    """What stands everywhere at one commit."""

    lines: dict[str, Lines]
    sequence: int


class Ledger:
    """Every commit so far, written out in full."""

    def __init__(self) -> None:
        self.pages = [Page({name: {} for name in NAMES}, 0)]
        self.versions: dict[tuple[str, bytes], list[int]] = {}
        """Those that a key has had, the oldest first."""

    @property
    def last(self) -> Page:
        return self.pages[-1]

    def failing(self, submission: Submission) -> Expect | Vacant | None:
        """The first precondition that does not hold."""
        for expect in submission.expects:
            lines = self.last.lines[expect.table]
            if isinstance(expect, Vacant):
                if any(key[: len(expect.prefix)] == expect.prefix for key in lines):
                    return expect
            elif expect.version != (lines[expect.key].version if expect.key in lines else ABSENT):
                return expect
        return None

    def note(self, submission: Submission) -> int:
        """Write out the page after this submission; answers its version."""
        lines = {name: dict(each) for name, each in self.last.lines.items()}
        version = self.last.sequence + (len(submission.records) or 1)
        for write in submission.writes:
            lines[write.table].pop(write.key, None)
            for index in INDEXES.get(write.table, ()):
                lines[index] = {line: found for line, found in lines[index].items() if found.body != write.key}
            if isinstance(write, Put):
                lines[write.table][write.key] = Stored(write.body, write.schema, version)
                self.versions.setdefault((write.table, write.key), []).append(version)
                for entry in write.entries:
                    lines[entry.index][entry.place + write.key] = Stored(write.key, 0, 0)
        number = self.last.sequence
        for record in submission.records:
            number += 1
            lines[JOURNAL_TABLE][number.to_bytes(8, "big")] = Stored(record.body, record.schema, number)
        self.pages.append(Page(lines, version))
        return version


def walked(
    lines: Lines, *, prefix: bytes = b"", after: bytes | None = None, reverse: bool = False
) -> list[tuple[bytes, Stored]]:
    """What a walk has to come by."""
    keys = [key for key in lines if key[: len(prefix)] == prefix]
    if after is not None:
        keys = [key for key in keys if (key < after if reverse else after < key)]
    return [(key, lines[key]) for key in sorted(keys, reverse=reverse)]


def shown(name: str, found: Iterable[tuple[bytes, Stored]]) -> list[tuple[bytes, Stored]]:
    """What was found; of a line in an index only what the protocol says of it, which is its key and body."""
    return [(key, Stored(stored.body, 0, 0) if name in INDEX_NAMES else stored) for key, stored in found]


def check(view: Snapshot, page: Page) -> None:
    """Whether a snapshot shows exactly what stands on a page."""
    assert view.last_sequence() == page.sequence
    for name, lines in page.lines.items():
        assert shown(name, view.scan(name)) == walked(lines), name
        assert view.count(name) == len(lines), name
        for key in {*KEYS, *lines} if name in TABLES else lines:
            stored = view.get(name, key)
            expected = [(key, lines[key])] if key in lines else []
            assert shown(name, [] if stored is None else [(key, stored)]) == expected, (name, key)
