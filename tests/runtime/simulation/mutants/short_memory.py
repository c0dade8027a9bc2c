"""Bugs in what is kept and removed, which only worlds with a short memory bring to light; the first the runtime had."""

from tests.runtime.simulation.mutants.mutant import Mutant

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        name="younger-go-in-the-place-of-kept",
        breaks="Of too many runs the oldest go: here the next younger in the place of one that its key keeps.",
        module="opscore/runtime/upkeep/retention.py",
        old="        if kept + removed >= surplus and",
        new="        if removed >= surplus and",
    ),
    Mutant(
        name="what-is-waited-for-is-removed",
        breaks="A run stays as long as a task of another waits for it: here it goes.",
        module="opscore/runtime/upkeep/retention.py",
        old=" or (keyed and scopes) or is_waited_for(view, session.row):\n",
        new=" or (keyed and scopes):\n",
    ),
    Mutant(
        name="keyed-runs-are-removed",
        breaks="A run stays as long as its key counts: here it goes, and the same request starts another.",
        module="opscore/runtime/upkeep/retention.py",
        old=" or (keyed and scopes) or",
        new=" or",
    ),
    Mutant(
        name="keys-outlast-their-runs",
        breaks="With a run go its keys: here they stay, and lead nowhere.",
        module="opscore/runtime/upkeep/retention.py",
        old=", *tasks, *signals, *map(IDEMPOTENCY.delete, scopes)],\n",
        new=", *tasks, *signals],\n",
    ),
    Mutant(
        name="signals-outlast-their-runs",
        breaks="With a run go its signals: here they stay.",
        module="opscore/runtime/upkeep/retention.py",
        old=", *tasks, *signals, *map",
        new=", *tasks, *map",
    ),
    Mutant(
        name="runs-go-before-their-time",
        breaks="A run is kept for as long as is configured: here for half of that.",
        module="opscore/runtime/upkeep/retention.py",
        old="not _over(ended_at, limits.sessions_keep_s, now):\n            break",
        new="not _over(ended_at, limits.sessions_keep_s / 2, now):\n            break",
    ),
    Mutant(
        name="one-record-too-many-goes",
        breaks="As many records are kept as are configured: here one less.",
        module="opscore/runtime/upkeep/retention.py",
        old="        if number >= surplus and not _over(RECORDS",
        new="        if number > surplus and not _over(RECORDS",
    ),
    Mutant(
        name="retention-rests-after-one-look",
        breaks="What has served its time goes within minutes: here not for ten, once there was nothing.",
        module="opscore/runtime/upkeep/housekeeping.py",
        old="        elif looks > LOOKS_FOR_NOTHING_MAX:\n",
        new="        elif looks > 0:\n",
    ),
)
