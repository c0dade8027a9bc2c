"""Records a workload, cuts the power at many moments, and has every image that this may leave checked."""

import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import attrs

from tests.powerloss.disk import EVERYTHING, NOTHING, Disk, Image, Names, any_arrival
from tests.powerloss.inspection import Inspector, Promises, inspector, scratch_directory
from tests.powerloss.ledger import MEANINGLESS
from tests.powerloss.recording import Event, Kind, record

SYNCS: Final = {Kind.SYNC, Kind.WRITE_THROUGH}
VIOLATIONS_MAX: Final = 20


@attrs.frozen
class Moment:
    """When the power may be lost: before an event takes effect, or, for a write through, before it returns.

    Attributes:
        event: The position of the event.
        settled: Whether a sync has just been completed.
    """

    event: int
    within: bool
    settled: bool


@attrs.frozen(kw_only=True)
class Violation:
    """A promise that an image breaks."""

    workload: str
    seed: int
    moment: Moment
    why: str
    image: Image = attrs.field(repr=False)

    def __str__(self) -> str:
        """Say how to reproduce it."""
        return f"workload {self.workload}, seed {self.seed}, power lost at event {self.moment.event}: {self.why}"


@attrs.define(kw_only=True)
class Report:
    """What was looked at, and what was found."""

    events: int = 0
    built: int = 0
    distinct: int = 0
    violations: list[Violation] = attrs.Factory(list)

    def take_in(self, other: "Report") -> None:
        """Add another one's figures."""
        self.events += other.events
        self.built += other.built
        self.distinct += other.distinct
        self.violations += other.violations

    def __str__(self) -> str:
        """Format it as one line."""
        return f"{self.events} events, {self.built} images, {self.distinct} distinct, {len(self.violations)} violations"


def recorded(workload: str, seed: int, scratch: Path, *, wrong: str = "nothing") -> list[Event]:
    """Record a workload in an empty directory, and hold the recording against the files that it left."""
    root = scratch / f"{workload}-{seed}"
    root.mkdir()
    command = [sys.executable, "-m", "tests.powerloss.workload", workload, str(root / "data"), str(seed), wrong]
    events = record(command, root=root, scratch=scratch)
    check_complete(events, root)
    return events


def check_complete(events: Sequence[Event], root: Path) -> None:
    """Check that the recording leads to the files that are there, so that no write bypassed the recorder."""
    disk = Disk(names=Names.BY_FILE, ignored=MEANINGLESS)
    for event in events:
        disk.begin(event)
        disk.complete(event)
    there = {
        path.relative_to(root).as_posix(): path.read_bytes() if path.is_file() else None
        for path in root.rglob("*")
        if path.name not in MEANINGLESS
    }
    assert disk.after_power_loss(random.Random(0), EVERYTHING).entries == there, "the recorder saw everything"


def moments(events: Sequence[Event]) -> Iterator[Moment]:
    """Yield every moment that leaves the disk in a distinct state, each with as many promises made as possible."""
    settled = False
    for position, event in enumerate(events):
        if event.kind is Kind.MARK:
            continue
        yield Moment(position, within=False, settled=settled)
        if event.kind is Kind.WRITE_THROUGH:
            yield Moment(position, within=True, settled=False)
        settled = event.kind in SYNCS
    yield Moment(len(events), within=False, settled=settled)


def planned(events: Sequence[Event], images: int, rng: random.Random) -> Counter[Moment]:
    """How many images to build of each moment: one at every sync, as far as half of them go, the rest in between."""
    settled: list[Moment] = []
    between: list[Moment] = []
    for moment in moments(events):
        (settled if moment.settled else between).append(moment)
    plan = Counter(settled if len(settled) <= images // 2 else rng.sample(settled, images // 2))
    plan.update(rng.choices(between, k=images - len(plan)))
    return plan


def built(
    events: Sequence[Event], plan: Counter[Moment], rng: random.Random, names: Names
) -> Iterator[tuple[Moment, Promises, Image]]:
    """Replay the recording, and build the images of each moment on the way."""
    disk = Disk(names=names, ignored=MEANINGLESS)
    promises = Promises()
    position = 0

    def images(moment: Moment) -> Iterator[tuple[Moment, Promises, Image]]:
        for _ in range(plan[moment]):
            arrival = NOTHING if moment.settled else any_arrival(rng)
            yield moment, promises, disk.after_power_loss(rng, arrival)

    for moment in moments(events):
        while position < moment.event:
            advance(disk, promises, events[position])
            position += 1
        if moment.within:
            disk.begin(events[position])
            yield from images(moment)
            disk.complete(events[position])
            position += 1
        else:
            yield from images(moment)


def advance(disk: Disk, promises: Promises, event: Event) -> None:
    """Let an event pass."""
    if event.kind is Kind.MARK:
        promises.hear(event.said())
    else:
        disk.begin(event)
        disk.complete(event)


def checked(
    events: Sequence[Event],
    *,
    workload: str,
    images: int,
    seed: int,
    inspect: Inspector,
    names: Names = Names.BY_DIRECTORY,
    progress: Callable[[Report], None] = lambda _: None,
    violations_max: int = VIOLATIONS_MAX,
) -> Report:
    """Check so many images of a recording; after a number of violations, no more."""
    rng = random.Random(seed)
    report = Report(events=len(events))
    before = inspect.distinct
    for moment, promises, image in built(events, planned(events, images, rng), rng, names):
        found = inspect.inspect(image)
        report.built += 1
        report.distinct = inspect.distinct - before
        why = promises.broken(found)
        if why is not None:
            report.violations.append(Violation(workload=workload, seed=seed, moment=moment, why=why, image=image))
            if len(report.violations) == violations_max:
                return report
        progress(report)
    return report


def campaign(
    workload: str,
    *,
    seed: int,
    images: int,
    wrong: str = "nothing",
    names: Names = Names.BY_DIRECTORY,
    progress: Callable[[Report], None] = lambda _: None,
    violations_max: int = VIOLATIONS_MAX,
) -> Report:
    """Record a workload and check its images.

    Args:
        workload: `store` or `node`.
        seed: Draws the workload, and what power loss leaves.
        images: How many to build.
        wrong: What the workload does wrong.
        names: When the name of a new file is safe.
        progress: Called after each image.
        violations_max: How many are enough.
    """
    with scratch_directory() as scratch, inspector(workload, scratch) as inspect:
        return checked(
            recorded(workload, seed, scratch, wrong=wrong),
            workload=workload,
            images=images,
            seed=seed,
            inspect=inspect,
            names=names,
            progress=progress,
            violations_max=violations_max,
        )
