"""Bugs that only a clock which is moved brings to light; the first four are such as the runtime had."""

from tests.runtime.simulation.mutants.mutant import Mutant

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        name="reports-are-older-than-what-cannot-have-been",
        breaks="A clock that was set back has every report of an agent refused as older, for as long: here it has.",
        module="opscore/runtime/agents/registration.py",
        old=" or stamp >= agent.reported_at or agent.reported_at > newest_possible",
        new=" or stamp >= agent.reported_at",
    ),
    Mutant(
        name="suspicion-lasts-as-long-as-the-clock-was-set-back",
        breaks="An agent is suspected for as long as it would have been: here for as much longer as the clock went back.",
        module="opscore/runtime/agents/registration.py",
        old="    if seconds >= 0 or agent.suspected_until <= now:\n",
        new="    if seconds >= 0 or agent.suspected_until > 0.0:\n",
    ),
    Mutant(
        name="suspicion-that-is-over-comes-again",
        breaks="Who may be tried again is tried: here not, where the clock was set back to before that time.",
        module="opscore/runtime/timers.py",
        old="        if stood_still.seconds < 0:\n",
        new="        if stood_still.seconds > 1e9:\n",
    ),
    Mutant(
        name="rates-go-by-the-wall-clock",
        breaks="So many attempts begin within an interval: here more, once the clock was set forward.",
        module="opscore/runtime/dispatch/dispatcher.py",
        old="        return trio.current_time()\n",
        new="        return self.context.clock.now()\n",
        also=(
            ("opscore/runtime/agents/agent_standing.py", "fresh_until = trio.current_time() +", "fresh_until = now +"),
        ),
    ),
    Mutant(
        name="idle-timers-look-at-no-clock",
        breaks="That the clock was moved is noticed within half a minute: here not where nothing else is waited for.",
        module="opscore/runtime/timers.py",
        old="            return SLEEP_S_MAX\n",
        new="            return float('inf')\n",
    ),
    Mutant(
        name="clock-that-is-moved-goes-unnoticed",
        breaks="No agent loses its attempt because the clock was set forward: here each does.",
        module="opscore/runtime/timers.py",
        old="            if abs(stood_still_s) > STOOD_STILL_S:\n",
        new="            if abs(stood_still_s) > 1e9:\n",
    ),
    Mutant(
        name="clock-takes-from-the-whole-time-of-an-attempt",
        breaks="An attempt has its whole time, whatever the clock shows: here it ends with its lease.",
        module="opscore/runtime/agents/leases.py",
        old="        timeout_at=max(lease.timeout_at if given_since else timeout_at, now + SPEAK_S),\n",
        new="        timeout_at=max(lease.timeout_at, now + SPEAK_S),\n",
    ),
    Mutant(
        name="what-was-given-out-just-before-is-not-moved",
        breaks="An attempt has its whole time, whatever the clock shows: here not, given out shortly before that is moved.",
        module="opscore/runtime/agents/agent_deliveries.py",
        old="        left, within_s = self._rows.attempt_left, ",
        new="        left, within_s = None, 2 * ",
    ),
    Mutant(
        name="clock-that-is-set-back-prolongs-leases",
        breaks="A dead agent loses its attempt a lease after the clock was set back: here as much later.",
        module="opscore/runtime/agents/leases.py",
        old="    bound = max if seconds > 0 else min\n",
        new="    bound = max\n",
    ),
    Mutant(
        name="undone-in-the-order-of-the-clock",
        breaks="A step is undone before what it depended on: here by the clock alone, which was set back in between.",
        module="opscore/runtime/runs/progress.py",
        old="        times = [draft.by_key(step.key).ended_at or 0.0, *(ended[key][0] for key in step.depends_on)]\n",
        new="        times = [draft.by_key(step.key).ended_at or 0.0]\n",
    ),
    Mutant(
        name="resumed-schedule-has-its-times-again",
        breaks="A due time starts one run: here another one, where the clock was set back as its schedule was paused.",
        module="opscore/runtime/schedules/schedule_rows.py",
        old="    since = max(now, schedule.last_due_at or now)\n",
        new="    since = now\n",
    ),
)
