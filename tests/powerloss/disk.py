"""A model of a disk that loses power: what was synced is there, of everything else any part may be.

A file is a row of 512-byte sectors. A sector that was written since the last sync has several versions: the one on
the disk, and one for each write that touched it, with all that earlier writes had made of it, because it lies in one
cache and travels whole. Power loss leaves each sector at any of its versions, the length at any that the file had on
the way or between two of them (with zeros where nothing arrived), and of the changes to directories any subset.

`fsync` and `fdatasync` of a file settle its content and length. A write through a descriptor with O_DSYNC settles the
sectors of that write and the length that it needs, and nothing else. Whether a file's name is settled by the sync of
the file or only by that of its directory is a question of `Names`.
"""

import enum
import hashlib
import random
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Final

import attrs

from tests.powerloss.recording import Event, Kind

SECTOR: Final = 512


class Names(enum.Enum):
    """When the name of a new file is safe."""

    BY_DIRECTORY = "directory"
    """Once its directory was synced: what POSIX promises, and no more."""
    BY_FILE = "file"
    """With the file's own first sync: what ext4, XFS and Btrfs do beyond that."""


@attrs.frozen
class Arrival:
    """How much of what was pending reaches the disk before the power is gone.

    Attributes:
        picks: Which of so many writes, or changes to a directory, arrive.
        sectors: The share of the sectors of such a write that do.
        newest_wins: Whether the last of several that arrive in a sector is the one that stays.
    """

    picks: Callable[[random.Random, int], set[int]]
    sectors: float
    newest_wins: bool


def share(part: float) -> Callable[[random.Random, int], set[int]]:
    """Each of them with this probability."""
    return lambda rng, count: {number for number in range(count) if rng.random() < part}


def nothing(_: random.Random, __: int) -> set[int]:
    """None of them."""
    return set()


def everything(_: random.Random, count: int) -> set[int]:
    """All of them."""
    return set(range(count))


def only_one(rng: random.Random, count: int) -> set[int]:
    """One of them, if there is any."""
    return {rng.randrange(count)} if count else set()


def all_but_one(rng: random.Random, count: int) -> set[int]:
    """Every one but one."""
    return everything(rng, count) - only_one(rng, count)


NOTHING: Final = Arrival(nothing, 0.0, newest_wins=True)
EVERYTHING: Final = Arrival(everything, 1.0, newest_wins=True)


def any_arrival(rng: random.Random) -> Arrival:
    """Draw one: whole writes or torn ones, in order or not."""
    picks = rng.choice([share(0.1), share(0.5), share(0.9), everything, only_one, all_but_one])
    return Arrival(picks, rng.choice([1.0, 1.0, 0.95, 0.5, 0.1]), newest_wins=rng.random() < 0.5)


class _File:
    """What is on the disk, what is in the cache, and how it came there."""

    def __init__(self) -> None:
        self.durable = bytearray()
        self.cached = bytearray()
        self.lengths: list[int] = []
        self.versions: dict[int, list[tuple[int, bytes]]] = {}
        """Of each sector that is pending, the number of the write and what it left there."""
        self.writes = 0

    def write(self, offset: int, data: bytes) -> None:
        end = offset + len(data)
        if end > len(self.cached):
            self.cached.extend(bytes(end - len(self.cached)))
            self.lengths.append(end)
        self.cached[offset:end] = data
        self._note(offset, end)

    def truncate(self, length: int) -> None:
        before = len(self.cached)
        if length == before:
            return
        self.cached = self.cached[:length] + bytes(max(0, length - before))
        self.lengths.append(length)
        if length < before:
            # Should the file grow again, zeros stand where it was cut.
            self._note(length, before)

    def _note(self, offset: int, end: int) -> None:
        for sector in range(offset // SECTOR, -(-end // SECTOR)):
            left = bytes(self.cached[sector * SECTOR : (sector + 1) * SECTOR]).ljust(SECTOR, b"\0")
            self.versions.setdefault(sector, []).append((self.writes, left))
        self.writes += 1

    def sync(self) -> None:
        _resize(self.durable, len(self.cached))
        for sector in self.versions:
            at = sector * SECTOR
            self.durable[at : at + SECTOR] = self.cached[at : at + SECTOR]
        self.versions.clear()
        self.lengths.clear()
        self.writes = 0

    def settle(self, offset: int, end: int) -> None:
        """Make one write durable, and the length that it needs."""
        if end > len(self.durable):
            _resize(self.durable, end)
            self.lengths = [length for length in self.lengths if length > end]
        for sector in range(offset // SECTOR, -(-end // SECTOR)):
            at = sector * SECTOR
            kept = min(len(self.durable), at + SECTOR)
            self.durable[at:kept] = self.cached[at:kept].ljust(kept - at, b"\0")
            del self.versions[sector]

    def after_power_loss(self, rng: random.Random, arrival: Arrival) -> bytes:
        content = bytearray(self.durable)
        _resize(content, self._length(rng, arrival))
        arrived = arrival.picks(rng, self.writes)
        for sector, versions in self.versions.items():
            there = [left for write, left in versions if write in arrived and rng.random() < arrival.sectors]
            at = sector * SECTOR
            if there and at < len(content):
                left = there[-1] if arrival.newest_wins else rng.choice(there)
                content[at : at + SECTOR] = left[: len(content) - at]
        return bytes(content)

    def _length(self, rng: random.Random, arrival: Arrival) -> int:
        if arrival is NOTHING:
            return len(self.durable)
        if arrival is EVERYTHING or not self.lengths:
            return len(self.cached)
        reached = [len(self.durable), *self.lengths]
        if rng.random() < 0.5:
            return rng.choice(reached)
        between = rng.randrange(min(reached) // SECTOR, max(reached) // SECTOR + 1) * SECTOR
        return max(between, min(reached))


def _resize(content: bytearray, length: int) -> None:
    if length > len(content):
        content.extend(bytes(length - len(content)))
    else:
        del content[length:]


@attrs.frozen
class _Renaming:
    """A change to a directory, whole or not at all: a name that ends, a name that begins, or both."""

    ends: str | None
    begins: str | None
    file: int


@attrs.frozen
class Image:
    """What is found below the root when the power is back: the content of each file, nothing for a directory."""

    entries: dict[str, bytes | None]

    def digest(self) -> bytes:
        """Tell images apart."""
        whole = hashlib.blake2b(digest_size=16)
        for name, content in sorted(self.entries.items()):
            whole.update(f"{name}\0{-1 if content is None else len(content)}\0".encode())
            whole.update(content or b"")
        return whole.digest()

    def lay_out(self, root: Path) -> None:
        """Write it below an empty directory."""
        for name, content in sorted(self.entries.items()):
            if content is None:
                (root / name).mkdir()
            else:
                (root / name).write_bytes(content)


class Disk:
    """Everything below one directory, as events change it.

    Args:
        names: When the name of a new file is safe.
        ignored: The names of files that mean nothing after a restart.
    """

    def __init__(self, *, names: Names, ignored: frozenset[str] = frozenset()) -> None:
        self._names = names
        self._ignored = ignored
        self._files: dict[int, _File] = {}
        self._directories: dict[int, str] = {}
        self._settled: dict[str, int] = {}
        self._pending: dict[str, list[_Renaming]] = {}

    def begin(self, event: Event) -> None:
        """Let a call take effect in the caches; no promise has been made yet."""
        name = event.payload.decode() if event.kind not in {Kind.WRITE, Kind.WRITE_THROUGH} else ""
        match event.kind:
            case Kind.ROOT:
                self._directories[event.file] = ""
            case Kind.CREATE:
                self._files[event.file] = _File()
                self._rename(None, name, event.file)
            case Kind.MAKE_DIRECTORY:
                self._directories[event.file] = name
                self._rename(None, name, event.file)
            case Kind.WRITE | Kind.WRITE_THROUGH:
                self._files[event.file].write(event.offset, event.payload)
            case Kind.LENGTH:
                self._files[event.file].truncate(event.offset)
            case Kind.RENAME:
                before, after = name.split("\0")
                self._rename(before, after, self._now()[before])
            case Kind.UNLINK:
                self._rename(name, None, 0)
            case Kind.MAP_WRITABLE:
                self._refuse_mapping(event.file)

    def complete(self, event: Event) -> None:
        """Keep what the call promised when it returned."""
        if event.kind is Kind.WRITE_THROUGH:
            self._files[event.file].settle(event.offset, event.end)
        elif event.kind is Kind.SYNC and event.file in self._files:
            self._files[event.file].sync()
            if self._names is Names.BY_FILE:
                self._settle_name(event.file)
        elif event.kind is Kind.SYNC:
            self._settle_directory(self._directories[event.file])

    def after_power_loss(self, rng: random.Random, arrival: Arrival) -> Image:
        """Lose power now, with so much of what is pending on the disk."""
        names = dict(self._settled)
        for changes in self._pending.values():
            arrived = arrival.picks(rng, len(changes))
            for number, change in enumerate(changes):
                if number in arrived:
                    _apply(names, change)
        there = {name: file for name, file in names.items() if _reachable(name, names)}
        return Image(
            {
                name: self._files[file].after_power_loss(rng, arrival) if file in self._files else None
                for name, file in there.items()
                if PurePosixPath(name).name not in self._ignored
            }
        )

    def _now(self) -> dict[str, int]:
        names = dict(self._settled)
        for changes in self._pending.values():
            for change in changes:
                _apply(names, change)
        return names

    def _rename(self, ends: str | None, begins: str | None, file: int) -> None:
        parents = {str(PurePosixPath(name).parent) for name in (ends, begins) if name is not None}
        assert len(parents) == 1, "a rename from one directory to another is not modelled"
        self._pending.setdefault(parents.pop(), []).append(_Renaming(ends, begins, file))

    def _settle_directory(self, directory: str) -> None:
        for change in self._pending.pop(str(PurePosixPath(directory)), []):
            _apply(self._settled, change)

    def _settle_name(self, file: int) -> None:
        for name in [name for name, number in self._now().items() if number == file]:
            for parent in PurePosixPath(name).parents:
                self._settle_directory(str(parent))

    def _refuse_mapping(self, file: int) -> None:
        mapped = {PurePosixPath(name).name for name, number in self._now().items() if number == file}
        assert mapped <= self._ignored, f"{mapped} is written through a mapping, which the recorder can't see"


def _apply(names: dict[str, int], change: _Renaming) -> None:
    if change.ends is not None:
        names.pop(change.ends, None)
    if change.begins is not None:
        names[change.begins] = change.file


def _reachable(name: str, names: dict[str, int]) -> bool:
    return all(str(parent) in names for parent in PurePosixPath(name).parents if str(parent) != ".")
