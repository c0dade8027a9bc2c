"""Bugs in what worlds came to all along, and nobody looked at: preferences, times, reports, and what is kept."""

from tests.runtime.simulation.mutants.mutant import Mutant

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        name="what-is-cut-off-is-told-as-a-timeout",
        breaks="An attempt that its task's own time cuts off fails by that: here, the first time, as one that took too long.",
        module="opscore/runtime/transitions.py",
        old="    if error.code == TIMEOUT and _closed_first(draft, task):",
        new="    if error.code == TIMEOUT and _closed_first(draft, task) and task.retries:",
    ),
    Mutant(
        name="work-is-given-out-once-its-run-had-to-be-over",
        breaks="Nothing of a run begins after its own time: here an offer that comes before the news of that is taken.",
        module="opscore/runtime/transitions.py",
        old="    over_at = releasing.earliest(task.due_at, runs_until)",
        new="    over_at = task.due_at",
    ),
    Mutant(
        name="who-is-taken-back-leaves-its-slots",
        breaks="An agent that is busy with what was taken back counts until it lets go: here its key is free at once.",
        module="opscore/runtime/session_rows.py",
        old="                writes=(LEASES.put(attrs.evolve(held.row, revoked=True)),),",
        new="                writes=(LEASES.put(attrs.evolve(held.row, revoked=True, slots=())), *(Delete('slots', s.encode()) for s in held.row.slots)),",
    ),
    Mutant(
        name="sessions-agent-is-one-of-many",
        breaks="What asks for a capability goes to its run's agent where that is free: here to whoever comes first.",
        module="opscore/runtime/matching.py",
        old="        if task.preferred_agent_id in line:\n",
        new="        if task.preferred_agent_id in line and not line:\n",
    ),
    Mutant(
        name="who-goes-on-does-not-ask-whom-the-run-prefers",
        breaks="The same holds where an agent goes on: here it goes on though its run's own agent is free.",
        module="opscore/runtime/matching.py",
        old="if preferred not in (None, agent.agent_id) and preferred in self._lines.get(task.requirement[1], {}):",
        new="if preferred is self:",
    ),
    Mutant(
        name="reports-come-from-any-future",
        breaks="The time of a report is half a minute from now at most: here what an agent's clock says.",
        module="opscore/runtime/registration.py",
        old="    stamp = min(timestamp, newest_possible)",
        new="    stamp = timestamp",
    ),
    Mutant(
        name="second-report-of-a-moment-is-stale",
        breaks="Only an older report is stale: here also another one of the same moment.",
        module="opscore/runtime/registration.py",
        old="stamp >= agent.reported_at or",
        new="stamp > agent.reported_at or",
    ),
    Mutant(
        name="records-go-without-a-mark",
        breaks="Whoever follows the journal is told that records are gone: here nothing says so.",
        module="opscore/runtime/retention.py",
        old="    return Submission(writes=(*(Delete(JOURNAL_TABLE, key) for key in keys), mark))",
        new="    return Submission(writes=tuple(Delete(JOURNAL_TABLE, key) for key in keys))",
    ),
    Mutant(
        name="saved-workflow-goes-with-its-last-run",
        breaks="What an id stands for is kept: here it is removed with the last run that followed it.",
        module="opscore/runtime/retention.py",
        old="    unused = (\n"
        "        Vacant(SESSIONS_BY_DEFINITION.name, named(definition_key)),\n"
        "        Vacant(DEFINITIONS_BY_REVISION.name, named(definition_key)),\n"
        "    )",
        new="    unused = (\n        Vacant(SESSIONS_BY_DEFINITION.name, named(definition_key)),\n    )",
    ),
    Mutant(
        name="schedule-that-starts-again-keeps-its-error",
        breaks="A schedule that has started its run says no error: here the last one.",
        module="opscore/runtime/schedule_rows.py",
        old="        fired=schedule.fired + 1,\n        last_error=None,\n",
        new="        fired=schedule.fired + 1,\n",
    ),
    Mutant(
        name="heartbeat-without-progress-wipes-it",
        breaks="What was said of how far an attempt is stays: here until the next heartbeat.",
        module="opscore/runtime/leases.py",
        old="        progress=lease.progress if progress is None else progress,",
        new="        progress=progress,",
    ),
)
