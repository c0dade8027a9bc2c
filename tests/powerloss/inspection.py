"""Inspects images in a process that may crash, and compares what they hold with what was promised."""

import contextlib
import json
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import attrs

from tests.powerloss.disk import Image

ROOT: Final = Path(__file__).parents[2]
ANSWERS_WITHIN_S: Final = 120.0
MEMORY: Final = Path("/dev/shm")  # noqa: S108 (a directory of one's own is made in it)
MEMORY_BYTES_MIN: Final = 1024**3
"""Containers often have next to none."""


@attrs.frozen(kw_only=True)
class Found:
    """What one image held.

    Attributes:
        sequence: The sequence number of its newest commit.
        digest: Stands for everything in its tables.
        refused: Why the store did not open, in its own words.
        fault: What went wrong that never should.
        runs: The numbers of a node's runs.
        ended: Those of the runs that had ended before the power was lost.
    """

    sequence: int = -1
    digest: str = ""
    refused: str | None = None
    fault: str | None = None
    runs: frozenset[int] = attrs.field(default=frozenset(), converter=frozenset)
    ended: frozenset[int] = attrs.field(default=frozenset(), converter=frozenset)


class Promises:
    """What the recorded program had begun and had been promised, taken from its marks in order."""

    def __init__(self) -> None:
        self.safe = 0
        self.states = {0: {_EMPTY}}
        """By sequence number, the states that a commit was begun to lead to."""
        self._runs: dict[str, set[int]] = {"asked": set(), "accepted": set(), "completed": set()}

    def hear(self, mark: dict[str, Any]) -> None:
        """Take the next mark."""
        self.safe = mark.get("safe", self.safe)
        if "begun" in mark:
            self.states.setdefault(mark["begun"], set()).add(mark["digest"])
        for said, numbers in self._runs.items():
            if said in mark:
                numbers.add(mark[said])

    def broken(self, found: Found) -> str | None:
        """Return the first promise that does not hold; None if all do."""
        if found.fault is not None:
            return found.fault
        if found.refused is not None:
            return f"it does not open: {found.refused}"
        if found.sequence < self.safe:
            return f"commit {self.safe} was acknowledged and the newest is {found.sequence}"
        if found.digest not in self.states.get(found.sequence, set()):
            return f"it holds what no commit led to, under sequence number {found.sequence}"
        return self._broken_runs(found)

    def _broken_runs(self, found: Found) -> str | None:
        if lost := self._runs["accepted"] - found.runs:
            return f"runs {sorted(lost)} were accepted and are not there"
        if lost := self._runs["completed"] - found.ended:
            return f"runs {sorted(lost)} were seen to complete and had not ended"
        if strange := found.runs - self._runs["asked"]:
            return f"nobody asked for the runs {sorted(strange)}"
        return None


_EMPTY: Final = f"{0:032x}"


class Inspector:
    """Lays images out and has them opened, each once, by a process that is started again when it dies.

    Args:
        workload: What the images are of.
        scratch: A directory of the caller's.

    Attributes:
        distinct: How many images were opened, of those that were asked about.
    """

    def __init__(self, workload: str, scratch: Path) -> None:
        self.distinct = 0
        self._workload = workload
        self._place = scratch / "image"
        self._process: subprocess.Popen[str] | None = None
        self._known: dict[bytes, Found] = {}

    def inspect(self, image: Image) -> Found:
        """Say what an image holds."""
        digest = image.digest()
        if digest not in self._known:
            self.distinct += 1
            self._place.mkdir()
            image.lay_out(self._place)
            self._known[digest] = self._ask()
            shutil.rmtree(self._place)
        return self._known[digest]

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._buried(self._process)

    def _buried(self, process: subprocess.Popen[str]) -> str:
        """What a process that ends had to say."""
        self._process = None
        with process:
            assert process.stderr is not None
            return process.stderr.read()

    def _ask(self) -> Found:
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        # The data directory itself may be missing: then the store is new.
        asked = {"workload": self._workload, "path": str(self._place / "data")}
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(f"{json.dumps(asked)}\n")
            process.stdin.flush()
        answers, _, _ = select.select([process.stdout], [], [], ANSWERS_WITHIN_S)
        line = process.stdout.readline() if answers else ""
        if line:
            return Found(**json.loads(line))
        if not answers:
            process.kill()
        said = self._buried(process)
        why = _ending(process.returncode) if answers else f"gave no answer in {ANSWERS_WITHIN_S:.0f} s"
        return Found(fault=f"the process that opened it {why}: {said.strip()[-500:]}")

    def _start(self) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.powerloss.checker"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Ctrl-C is for the one who asks.
            start_new_session=True,
        )
        return self._process


def _ending(code: int) -> str:
    return f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"


@contextlib.contextmanager
def inspector(workload: str, scratch: Path) -> Iterator[Inspector]:
    """An inspector, until the block ends."""
    made = Inspector(workload, scratch)
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def scratch_directory() -> Iterator[Path]:
    """A directory in memory, where there is room for one, until the block ends."""
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= MEMORY_BYTES_MIN
    with tempfile.TemporaryDirectory(prefix="powerloss-", dir=MEMORY if roomy else None) as name:
        yield Path(name)
