"""`python -m tests.crash N`: kill a server N times under load, and report what was lost; the exit code is then 1."""

import argparse
import random
import sys

from tests.crash.bugs import BUGS
from tests.crash.campaign import KILLS_PER_DIRECTORY, Campaign, Result
from tests.crash.failpoints import say

SAID_EVERY = 10
"""The number of kills between two lines of progress if there is no terminal."""


def main() -> int:
    """Run a campaign, with progress on the terminal."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("kills", type=int, nargs="?", default=20)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--per-directory", type=int, default=KILLS_PER_DIRECTORY, help="kills on one data directory")
    parser.add_argument("--bug", choices=BUGS, help="plant a bug, to see it found")
    given = parser.parse_args()
    campaign = Campaign(
        given.kills,
        seed=given.seed,
        bug=given.bug,
        on_kill=lambda result: progress(result, given.kills),
        per_directory=given.per_directory,
    )
    interrupted = False
    try:
        campaign.run()
    except KeyboardInterrupt:
        interrupted = True
    if sys.stdout.isatty():
        say("")
    for line in campaign.result.lines():
        say(line)
    if campaign.result.violations:
        say(f"The directory and the server's log are kept in {campaign.folder}; again with --seed {given.seed}.")
        return 1
    return 130 if interrupted else 0


def progress(result: Result, kills: int) -> None:
    """Print the progress."""
    line = f"kill {result.count:>5,} of {kills:,}   {result.accepted:>9,} acknowledged, {result.rate:,.0f}/s"
    if sys.stdout.isatty():
        sys.stdout.write(f"\r{line}")
        sys.stdout.flush()
    elif result.count % SAID_EVERY == 0:
        say(line)


if __name__ == "__main__":
    sys.exit(main())
