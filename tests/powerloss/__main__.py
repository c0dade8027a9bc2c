"""Cuts the power at many moments of recorded stores and nodes: `python -m tests.powerloss [--images N] [--seed S]`.

Each round records a workload of its own and checks some hundreds of images. The last line says what was looked at;
the exit code is 0 if every promise held, 1 if one was broken, 130 after Ctrl-C.
"""

import argparse
import random
import sys
import time
from pathlib import Path
from typing import Final

from tests.powerloss.campaign import Report, Violation, campaign
from tests.powerloss.disk import Names
from tests.powerloss.recording import POSSIBLE

IMAGES_A_ROUND: Final = {"store": 500, "node": 250}
SHOWN_EVERY_S: Final = 0.5


class Show:
    """Shows the progress on a terminal."""

    def __init__(self, images: int) -> None:
        self._images = images
        self._began = self._shown = time.monotonic()
        self.total = Report()
        self._unfinished = Report()

    def during(self, report: Report) -> None:
        """Show the progress of a round."""
        self._unfinished = report
        now = time.monotonic()
        if sys.stderr.isatty() and now - self._shown >= SHOWN_EVERY_S:
            self._shown = now
            built = self.total.built + report.built
            sys.stderr.write(f"\r{built:>7} of {self._images} images, {len(report.violations)} violations ")
            sys.stderr.flush()

    def after(self, workload: str, seed: int, report: Report) -> None:
        """Add a finished round, and print its findings."""
        self.total.take_in(report)
        self._unfinished = Report()
        self.say(f"{workload:>5} {seed:>10}  {report}")
        for violation in report.violations:
            self.say(f"      {violation}")

    def say(self, line: str) -> None:
        """Write a line over what was shown."""
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    def sum_up(self) -> None:
        """The last line, with the round that was broken off, if one was."""
        self.total.take_in(self._unfinished)
        self.say(f"total             {self.total}, {time.monotonic() - self._began:.0f} s")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.powerloss", description=__doc__)
    parser.add_argument("--images", type=int, default=5_000, help="how many images to build")
    parser.add_argument("--seed", type=int, help="of the first round; drawn if it is not given")
    parser.add_argument(
        "--names",
        choices=[each.value for each in Names],
        default=Names.BY_DIRECTORY.value,
        help="what makes the name of a new file safe: the sync of its directory, or of the file",
    )
    parser.add_argument("--keep", type=Path, help="an empty directory for the images that break a promise")
    given = parser.parse_args()
    if not POSSIBLE:
        parser.error("this needs Linux and a C compiler")
    seed = random.randrange(10**9) if given.seed is None else given.seed
    show = Show(given.images)
    show.say(f"{given.images} images from seed {seed}")
    try:
        rounds(given.images, seed, Names(given.names), show)
    except KeyboardInterrupt:
        show.sum_up()
        return 130
    show.sum_up()
    if given.keep is not None:
        keep(given.keep, show.total.violations)
    return 1 if show.total.violations else 0


def rounds(images: int, seed: int, names: Names, show: Show) -> None:
    while show.total.built < images and not show.total.violations:
        for workload, most in IMAGES_A_ROUND.items():
            left = images - show.total.built
            if left > 0:
                report = campaign(workload, seed=seed, images=min(left, most), names=names, progress=show.during)
                show.after(workload, seed, report)
        seed += 1


def keep(directory: Path, violations: list[Violation]) -> None:
    for number, violation in enumerate(violations):
        (directory / str(number)).mkdir(parents=True)
        violation.image.lay_out(directory / str(number))


if __name__ == "__main__":
    sys.exit(main())
