"""Runs a program under the recorder, and reads what the recorder wrote down."""

import ctypes
import enum
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import attrs

SOURCE: Final = Path(__file__).with_name("recorder.c")
POSSIBLE: Final = sys.platform.startswith("linux") and shutil.which("cc") is not None
"""The recorder stands in front of calls as Linux has them, and is compiled where it is needed."""
DONE_WITHIN_S: Final = 300.0

_HEADER = struct.Struct("=IIQQ")


class Kind(enum.IntEnum):
    """What happened; the numbers are those of `recorder.c`."""

    ROOT = 1
    CREATE = 2
    MAKE_DIRECTORY = 3
    WRITE = 4
    WRITE_THROUGH = 5
    """By a descriptor with O_DSYNC or O_SYNC: on the disk when the call returns, this write and no other."""
    LENGTH = 6
    SYNC = 7
    RENAME = 8
    UNLINK = 9
    MAP_WRITABLE = 10
    MARK = 11


@attrs.frozen
class Event:
    """One call that succeeded, or a mark of the recorded program."""

    kind: Kind
    file: int
    offset: int
    payload: bytes

    @property
    def end(self) -> int:
        """Where what was written ends."""
        return self.offset + len(self.payload)

    def said(self) -> dict[str, Any]:
        """What a mark says."""
        said: dict[str, Any] = json.loads(self.payload)
        return said


class Marker:
    """Lets the recorded program leave marks between its calls; where nobody records, it does nothing."""

    def __init__(self) -> None:
        self._mark = getattr(ctypes.CDLL(None), "recorder_mark", None)

    def mark(self, **said: Any) -> None:
        """Write down that this was reached: after every call that returned, before every one that is yet to come."""
        if self._mark is not None:
            text = json.dumps(said).encode()
            self._mark(text, ctypes.c_size_t(len(text)))


def compiled(directory: Path) -> Path:
    """Compile the recorder into a directory."""
    library = directory / "recorder.so"
    flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run(["cc", *flags, "-o", str(library), str(SOURCE), "-ldl", "-lpthread"], check=True)
    return library


def record(command: Sequence[str], *, root: Path, scratch: Path) -> list[Event]:
    """Run a program to its end, and return what it did to the files below an empty directory."""
    log = scratch / "recording.log"
    environment = os.environ | {
        "LD_PRELOAD": str(compiled(scratch)),
        "POWERLOSS_ROOT": str(root),
        "POWERLOSS_LOG": str(log),
    }
    # Ctrl-C is for the one who records, and ends the program with it.
    subprocess.run(command, env=environment, check=True, timeout=DONE_WITHIN_S, start_new_session=True)
    return events(log.read_bytes())


def events(log: bytes) -> list[Event]:
    """Take a log apart."""
    found = []
    at = 0
    while at < len(log):
        kind, length, file, offset = _HEADER.unpack_from(log, at)
        at += _HEADER.size
        found.append(Event(Kind(kind), file, offset, log[at : at + length]))
        at += length
    return found
