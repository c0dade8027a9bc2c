"""Bugs that only a node which stands still, or waits long for its disk, brings to light; all but one of them the runtime had."""

from tests.runtime.simulation.mutants.mutant import Mutant

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        name="what-was-said-meanwhile-is-not-heard",
        breaks="Who spoke while the node stood still is heard: here its attempt is over before that is read.",
        module="opscore/runtime/timers.py",
        old='        if key[0] != "lease":\n',
        new='        if key[0] != "nothing":\n',
    ),
    Mutant(
        name="standing-still-goes-unnoticed",
        breaks="Agents get their time again after the node stood still: here only where its clock was moved.",
        module="opscore/runtime/timers.py",
        old="now - asleep_at - min(passed_s, until_next_s)\n",
        new="now - asleep_at - passed_s\n",
    ),
    Mutant(
        name="what-was-given-out-meanwhile-is-not-listened-for",
        breaks="An attempt that was given out as the node stood still is listened for: here it is over at once.",
        module="opscore/runtime/agents/leases.py",
        old="        timeout_at=max(lease.timeout_at if given_since else timeout_at, now + SPEAK_S),\n",
        new="        timeout_at=lease.timeout_at if given_since else max(timeout_at, now + SPEAK_S),\n",
    ),
    Mutant(
        name="slow-disk-takes-the-time-of-an-attempt",
        breaks="An attempt has its time from when it is handed over: here from before a commit that took minutes.",
        module="opscore/runtime/agents/agent_deliveries.py",
        old="late_s <= LATE_S:\n",
        new="late_s <= 1e9:\n",
    ),
    Mutant(
        name="due-lease-is-ended-though-it-was-put-off",
        breaks="Who is put off as its time is over is heard: here not where the node stands still before it looks.",
        module="opscore/runtime/agents/agent_deliveries.py",
        old="            if lease is None or lease.due_at <= message.at:\n",
        new="            if lease is None or lease.due_at <= now:\n",
    ),
)
