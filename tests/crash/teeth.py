"""`python -m tests.crash.teeth`: plant one bug after another, and see each found; exit code 1 if one was not."""

import shutil
import sys
from typing import Final

from tests.crash.bugs import BUGS
from tests.crash.campaign import Campaign, Result
from tests.crash.failpoints import say

KILLS_MAX: Final = 40
PER_DIRECTORY: Final = 10
"""The number of kills for each directory; a run that hangs is only found when everything is left to end."""
SHOWN: Final = 120


def hunt(bug: str, *, seed: int = 1) -> Result:
    """A campaign against a bug; it ends with the first kill after which something is violated."""
    campaign = Campaign(KILLS_MAX, seed=seed, bug=bug, per_directory=PER_DIRECTORY)
    result = campaign.run()
    shutil.rmtree(campaign.folder, ignore_errors=True)
    return result


def main() -> int:
    """Hunt every bug, and say after how many kills it was found, and by what."""
    missed = False
    for bug in BUGS:
        result = hunt(bug)
        missed = missed or not result.violations
        shown = result.violations[0] if result.violations else "NOT FOUND"
        say(f"{bug:<34} {result.count:>3} kills  {shown[:SHOWN]}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
