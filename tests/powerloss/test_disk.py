import itertools
import random
from collections.abc import Sequence

import pytest

from tests.powerloss.disk import EVERYTHING, NOTHING, SECTOR, Arrival, Disk, Names, any_arrival, share
from tests.powerloss.recording import Event, Kind

ROOT, FILE, OTHER = 1, 2, 3
MADE = (Event(Kind.ROOT, ROOT, 0, b""), Event(Kind.CREATE, FILE, 0, b"file"))
SYNC = Event(Kind.SYNC, FILE, 0, b"")
SYNC_ROOT = Event(Kind.SYNC, ROOT, 0, b"")


def write(offset: int, content: bytes, kind: Kind = Kind.WRITE) -> Event:
    return Event(kind, FILE, offset, content)


def sectors(letters: str) -> bytes:
    return b"".join(letter.encode() * SECTOR for letter in letters)


def letters(content: bytes | None) -> str:
    assert content is not None
    assert sectors(content[::SECTOR].decode()) == content
    return content[::SECTOR].decode()


def disk_after(*events: Event, names: Names = Names.BY_FILE) -> Disk:
    disk = Disk(names=names)
    for event in events:
        disk.begin(event)
        disk.complete(event)
    return disk


def outcomes(disk: Disk, arrivals: Sequence[Arrival] = ()) -> set[bytes | None]:
    """What the file may be, over many losses of power."""
    found = set()
    for seed in range(2_000):
        rng = random.Random(seed)
        arrival = rng.choice(arrivals) if arrivals else any_arrival(rng)
        found.add(disk.after_power_loss(rng, arrival).entries.get("file"))
    return found


def test_what_was_synced_is_there_whatever_else_is_lost() -> None:
    disk = disk_after(*MADE, write(0, sectors("ab")), SYNC)
    assert outcomes(disk) == {sectors("ab")}


@pytest.mark.parametrize("newest_wins", [True, False])
def test_what_was_not_synced_arrives_in_any_mixture_of_its_sectors(newest_wins: bool) -> None:
    disk = disk_after(*MADE, write(0, sectors("...")), SYNC, write(0, sectors("abc")), write(SECTOR, sectors("xy")))
    found = {letters(content) for content in outcomes(disk, [Arrival(share(0.5), 0.5, newest_wins=newest_wins)])}
    assert found == {"".join(each) for each in itertools.product(".a", ".bx", ".cy")}


def test_what_lies_in_one_sector_travels_together_with_all_that_was_written_to_it_before() -> None:
    disk = disk_after(*MADE, write(0, b"." * 8), SYNC, write(0, b"ab"), write(4, b"cd"))
    assert outcomes(disk) == {b"." * 8, b"ab......", b"ab..cd.."}


def test_a_write_through_settles_itself_and_nothing_else() -> None:
    through = write(SECTOR, sectors("x"), Kind.WRITE_THROUGH)
    disk = disk_after(*MADE, write(0, sectors("...")), SYNC, write(0, sectors("abc")), through)
    assert {letters(content) for content in outcomes(disk)} == {".x.", "ax.", ".xc", "axc"}


def test_a_write_through_is_no_promise_before_it_returns() -> None:
    disk = disk_after(*MADE, write(0, sectors("..")), SYNC)
    disk.begin(write(0, sectors("ab"), Kind.WRITE_THROUGH))
    assert {letters(content) for content in outcomes(disk)} == {"..", "a.", ".b", "ab"}


def test_a_file_that_grew_may_be_short_or_hold_zeros_where_nothing_arrived() -> None:
    disk = disk_after(*MADE, write(0, sectors("a")), SYNC, write(SECTOR, sectors("bc")))
    found = {letters(content) for content in outcomes(disk)}
    assert found == {"a", "a\0", "ab", "a\0\0", "ab\0", "a\0c", "abc"}


def test_a_write_through_settles_the_length_that_it_needs() -> None:
    disk = disk_after(*MADE, write(0, sectors("a")), SYNC, write(2 * SECTOR, sectors("c"), Kind.WRITE_THROUGH))
    assert {letters(content) for content in outcomes(disk)} == {"a\0c"}


def test_a_file_cut_short_may_still_be_long_and_has_zeros_when_it_grew_again() -> None:
    disk = disk_after(*MADE, write(0, sectors("abc")), SYNC, Event(Kind.LENGTH, FILE, SECTOR, b""))
    assert {letters(content) for content in outcomes(disk)} >= {"a", "ab", "abc"}
    disk = disk_after(*MADE, write(0, sectors("ab")), Event(Kind.LENGTH, FILE, 100, b""), write(SECTOR, sectors("c")))
    everything = disk.after_power_loss(random.Random(0), EVERYTHING).entries["file"]
    assert everything == b"a" * 100 + bytes(SECTOR - 100) + sectors("c")


def test_a_name_is_safe_once_its_directory_was_synced_or_with_the_file_where_file_systems_promise_more() -> None:
    events = (*MADE, write(0, sectors("a")), SYNC)
    assert outcomes(disk_after(*events, names=Names.BY_DIRECTORY)) == {sectors("a"), None}
    assert outcomes(disk_after(*events, names=Names.BY_FILE)) == {sectors("a")}
    assert outcomes(disk_after(*events, SYNC_ROOT, names=Names.BY_DIRECTORY)) == {sectors("a")}


def test_a_file_in_a_directory_that_is_lost_is_lost_with_it() -> None:
    inside = (
        Event(Kind.ROOT, ROOT, 0, b""),
        Event(Kind.MAKE_DIRECTORY, OTHER, 0, b"directory"),
        Event(Kind.CREATE, FILE, 0, b"directory/file"),
        write(0, sectors("a")),
        SYNC,
        Event(Kind.SYNC, OTHER, 0, b""),
    )
    disk = disk_after(*inside, names=Names.BY_DIRECTORY)
    assert disk.after_power_loss(random.Random(0), NOTHING).entries == {}
    disk = disk_after(*inside, SYNC_ROOT, names=Names.BY_DIRECTORY)
    assert disk.after_power_loss(random.Random(0), NOTHING).entries == {
        "directory": None,
        "directory/file": sectors("a"),
    }


def test_a_file_renamed_has_one_of_its_names_and_never_both() -> None:
    renamed = Event(Kind.RENAME, 0, 0, b"file\0other")
    disk = disk_after(*MADE, write(0, sectors("a")), SYNC, SYNC_ROOT, renamed, names=Names.BY_DIRECTORY)
    rng = random.Random(0)
    found = {tuple(disk.after_power_loss(rng, any_arrival(rng)).entries) for _ in range(100)}
    assert found == {("file",), ("other",)}
