"""What an image may hold is judged by what was promised, and one that kills its process kills no other."""

import struct
from pathlib import Path
from typing import Any, Final

from opscore.runtime.store import Put, Submission
from tests.powerloss.disk import Image
from tests.powerloss.inspection import Found, Promises, inspector
from tests.powerloss.ledger import DATA, open_store

LARGER_THAN_THE_MAP: Final = 2**28
EMPTY: Final = "0" * 32
OPENED: Final = {"opened": True}
BEGUN: Final = {"begun": 5, "digest": "five"}
SAFE: Final = {"safe": 5}
ASKED: Final = ({"asked": 1}, {"accepted": 1}, {"completed": 1})


def broken(*marks: dict[str, Any], **found: Any) -> str:
    promises = Promises()
    for mark in marks:
        promises.hear(mark)
    return promises.broken(Found(**found)) or ""


def test_before_a_commit_is_acknowledged_it_may_be_there_or_not() -> None:
    assert broken(OPENED, BEGUN, sequence=0, digest=EMPTY) == ""
    assert broken(OPENED, BEGUN, sequence=5, digest="five") == ""
    assert broken(OPENED, BEGUN, SAFE, sequence=5, digest="five") == ""


def test_a_commit_that_was_acknowledged_has_to_be_there() -> None:
    assert "commit 5 was acknowledged" in broken(OPENED, BEGUN, SAFE, sequence=0, digest=EMPTY)


def test_nothing_but_the_whole_of_a_commit_that_was_begun_may_be_there() -> None:
    assert "what no commit led to" in broken(OPENED, BEGUN, sequence=5, digest="some of five")
    assert "what no commit led to" in broken(OPENED, BEGUN, sequence=6, digest="five")
    assert "what no commit led to" in broken(OPENED, sequence=0, digest="five")


def test_a_store_that_is_refused_is_a_violation_also_when_it_never_was_open() -> None:
    assert "does not open: it is empty" in broken(refused="it is empty")
    assert "does not open: it is empty" in broken(OPENED, refused="it is empty")


def test_a_fault_is_a_violation() -> None:
    assert broken(fault="it died") == "it died"


def test_a_run_that_was_accepted_is_there_and_has_ended_if_it_was_seen_to() -> None:
    state = {"sequence": 0, "digest": EMPTY}
    assert broken(*ASKED, **state, runs=[1], ended=[1]) == ""
    assert broken(*ASKED[:1], **state) == ""
    assert "[1] were accepted and are not there" in broken(*ASKED[:2], **state)
    assert "[1] were seen to complete and had not ended" in broken(*ASKED, **state, runs=[1])
    assert "nobody asked for the runs [2]" in broken(*ASKED, **state, runs=[1, 2], ended=[1])


def test_an_image_that_kills_its_process_is_a_fault_and_the_next_one_is_looked_at(
    tmp_path: Path,
) -> None:
    path = tmp_path / "made"
    with open_store(path, "store") as store:
        store.apply([Submission(writes=(Put("left", b"the key", bytes(10_000), 1),))])
    sound = (path / DATA).read_bytes()
    # The length of the value stands eight bytes before its key, in two halves.
    at = sound.index(b"the key") - 8
    deadly = sound[:at] + struct.pack("=HH", 0, LARGER_THAN_THE_MAP >> 16) + sound[at + 4 :]
    with inspector("store", tmp_path) as inspect:
        found = inspect.inspect(Image({"data": None, f"data/{DATA}": deadly}))
        next_one = inspect.inspect(Image({"data": None, f"data/{DATA}": sound}))
    assert found.fault is not None
    assert "died of SIG" in found.fault
    assert (next_one.fault, next_one.sequence) == (None, 1)
