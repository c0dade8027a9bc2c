"""A campaign of kills, on one data directory after another, until all are done or something is violated."""

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import attrs

from tests.crash import plan
from tests.crash.process import ServerProcess
from tests.crash.pushed import Office, open_office
from tests.crash.stage import STOPPED, Death, Stage

KILLS_PER_DIRECTORY: Final = 40
"""How many kills one directory is used for: it grows with every kill, and so does the time to check it."""
VIOLATIONS_SHOWN: Final = 20
_GRAVE: Final = ("ERROR:", "CRITICAL:")


@attrs.define
class Result:
    """The findings of a campaign so far."""

    seed: int
    kills: Counter[tuple[str, str]] = attrs.field(factory=Counter)
    """By how and in which phase."""
    missed: int = 0
    """Failpoints that were not reached in time, so that the kill came from outside."""
    lives: int = 0
    """Servers that were started to be killed; some stopped before they could be."""
    again: int = 0
    """Kills during the recovery from a kill."""
    accepted: int = 0
    """The number of acknowledged operations."""
    served_s: float = 0.0
    """How long servers were under load, without the times after the last kills."""
    took_s: float = 0.0
    directories: int = 0
    sessions: int = 0
    violations: list[str] = attrs.field(factory=list)

    @property
    def count(self) -> int:
        """The number of kills so far."""
        return self.kills.total()

    @property
    def rate(self) -> float:
        """The number of acknowledged operations for each second under load."""
        return self.accepted / self.served_s if self.served_s else 0.0

    def lines(self) -> list[str]:
        """The report."""
        shown = [
            f"{self.count:,} kills, {self.again:,} of them during the recovery from another, seed {self.seed}",
            *(f"  {how:<18} {phase:<9} {number:>6,}" for (how, phase), number in sorted(self.kills.items())),
            f"{self.missed:,} of those from outside because a failpoint was not reached in time",
            f"{self.accepted:,} operations acknowledged in {self.served_s:,.0f} s of service: {self.rate:,.0f}/s",
            f"{self.sessions:,} runs, all at their end, in {self.directories:,} directories",
            f"{self.took_s:,.0f} s, {self.took_s / max(1, self.count):.2f} s a kill",
            f"{len(self.violations):,} violations",
        ]
        return shown + [f"  {each}" for each in self.violations[:VIOLATIONS_SHOWN]]


class Campaign:
    """Kills servers, and checks what they leave behind.

    Args:
        kills: the number of kills.
        seed: the seed of plans and clients.
        bug: the bug that is planted in every server.
        on_kill: called with the result so far after each kill.
        per_directory: the number of kills for each data directory.
    """

    def __init__(
        self,
        kills: int,
        *,
        seed: int,
        bug: str | None = None,
        on_kill: Callable[[Result], object] = lambda _: None,
        per_directory: int = KILLS_PER_DIRECTORY,
    ) -> None:
        self.result = Result(seed=seed)
        self.folder = Path(tempfile.mkdtemp(prefix="opscore-crash-"))
        self._kills = kills
        self._bug = bug
        self._on_kill = on_kill
        self._per_directory = per_directory
        self._spare = self._loading()

    def _loading(self) -> ServerProcess:
        return ServerProcess(self.folder / "server.log")

    def run(self) -> Result:
        """Run the campaign; the folder is kept if something was violated."""
        began = time.monotonic()
        try:
            with open_office() as office:
                while self.result.count < self._kills and not self.result.violations:
                    self._directory(office)
                    self.result.took_s = time.monotonic() - began
        finally:
            self.result.took_s = time.monotonic() - began
            self._spare.kill()
            if not self.result.violations:
                shutil.rmtree(self.folder, ignore_errors=True)
        return self.result

    def _directory(self, office: Office) -> None:
        self.result.directories += 1
        path = self.folder / f"data-{self.result.directories}"
        seed = f"{self.result.seed} {self.result.directories}"
        stage = Stage(path, seed=seed, office=office, bug=self._bug)
        accepted, killed_before = self.result.accepted, False
        last = min(self.result.count + self._per_directory, self._kills)
        while self.result.count < last:
            self.result.lives += 1
            planned = plan.drawn(self.result.seed, self.result.lives)
            with self._next_process() as process:
                death = stage.live(process, planned)
            if death.how != STOPPED:
                self.result.kills[death.how, death.phase] += 1
            self.result.again += killed_before and death.phase == "recovery"
            self.result.missed += planned.moment is not None and death.how == "outside"
            self.result.served_s += death.served_s
            self.result.accepted = accepted + stage.ledger.accepted
            killed_before = True
            self._violated(death, f"kill {self.result.count} ({death.how}, {death.phase}; {planned})")
            self._on_kill(self.result)
            if self.result.violations:
                return
        with self._next_process() as process:
            death = stage.finish(process)
        self._violated(death, f"after kill {self.result.count}, when all was left to end")
        self.result.violations += self._logged()
        self.result.sessions += len(stage.ledger.orders)
        if not self.result.violations:
            shutil.rmtree(path)

    def _logged(self) -> list[str]:
        """Return what the servers logged that none should."""
        with (self.folder / "server.log").open(encoding="utf-8", errors="replace") as log:
            return [f"a server logged {line.strip()}" for line in log if line.startswith(_GRAVE)]

    @contextmanager
    def _next_process(self) -> Iterator[ServerProcess]:
        """Return the server that has loaded its code, and let the next one load."""
        process, self._spare = self._spare, self._loading()
        try:
            yield process
        finally:
            process.kill()

    def _violated(self, death: Death, when: str) -> None:
        self.result.violations += [f"{each} [{when}]" for each in death.violations]
