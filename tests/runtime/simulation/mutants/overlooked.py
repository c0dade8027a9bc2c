"""Bugs that were overlooked when somebody with fresh eyes planted them, or found by few worlds, and some found at once."""

from tests.runtime.simulation.mutants.mutant import Mutant

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        name="close-time-begins-anew-with-each-attempt",
        breaks="scheduleToCloseSeconds bounds all attempts together: here each retry gets the whole time again.",
        module="opscore/runtime/runs/releasing.py",
        old="    if closes_at is None and definition.schedule_to_close_s is not None:\n",
        new="    if definition.schedule_to_close_s is not None:\n",
    ),
    Mutant(
        name="who-is-put-back-waits-without-a-limit",
        breaks="A task nobody takes in time fails: one that was lost or put back once waits for ever.",
        module="opscore/runtime/runs/transitions.py",
        old="    due_at = releasing.earliest(releasing.start_by(draft.of(task), draft.now), task.closes_at)\n",
        new="    due_at = releasing.earliest(task.due_at, task.closes_at)\n",
    ),
    Mutant(
        name="retried-run-keeps-its-old-close-times",
        breaks="A run that is tried again does what failed anew: here it fails at once, its time was over before.",
        module="opscore/runtime/runs/reviving.py",
        old="""        due_at=None,
        closes_at=None,
        ended_at=None,
""",
        new="""        due_at=None,
        ended_at=None,
""",
    ),
    Mutant(
        name="retried-run-has-no-time-of-its-own",
        breaks="A run that is tried again has its own time anew: here it has none any more.",
        module="opscore/runtime/runs/reviving.py",
        old="    due_at = None if timeout_s is None else now + timeout_s\n    again",
        new="    due_at = run.session.due_at if timeout_s is not None else None\n    again",
    ),
    Mutant(
        name="attempts-outlast-the-close-time",
        breaks="All attempts together take no longer than scheduleToCloseSeconds: one that is out goes on to its timeout.",
        module="opscore/runtime/agents/leases.py",
        old="        timeout_at=timeout_at if task.closes_at is None else min(timeout_at, task.closes_at),\n",
        new="        timeout_at=timeout_at,\n",
    ),
    Mutant(
        name="unknown-outcome-leaves-the-lease-as-it-was",
        breaks="A push that broke after sending cuts the lease to 60 s: here it stays as long as it was.",
        module="opscore/runtime/agents/leases.py",
        old="    return evolve(lease, delivered=True, expires_at=min(lease.expires_at, now + limits.unknown_outcome_lease_s))\n",
        new="    return evolve(lease, delivered=True)\n",
    ),
    Mutant(
        name="signal-that-does-not-come-is-waited-for-again",
        breaks="A signal that does not come in time fails its task, which is not tried again: here it is.",
        module="opscore/runtime/runs/transitions.py",
        old="        draft.end(task, TaskEvent.FAIL, error=Failure(message=waited, code=TIMEOUT))\n",
        new="        _fail(draft, task, Failure(message=waited, code=TIMEOUT), rng)\n",
    ),
    Mutant(
        name="results-of-a-list-in-the-order-of-their-ends",
        breaks="The result of a list is that of its items in the list's order.",
        module="opscore/runtime/definitions/scopes.py",
        old="                found = [item.result for item in self.items.get(definition.ordinal, ())]\n",
        new="""                begun = self.items.get(definition.ordinal, ())
                found = [item.result for item in sorted(begun, key=lambda item: item.ended_at or 0.0)]
""",
    ),
    Mutant(
        name="result-of-a-fallback-is-not-its-steps",
        breaks="The result of a step that failed is that of its fallback: here null.",
        module="opscore/runtime/definitions/scopes.py",
        old="""        if task.status is TaskStatus.FAILED and definition.fallback is not None:
            return self.result_of(definition.fallback)
""",
        new="",
    ),
    Mutant(
        name="skipped-steps-have-a-result",
        breaks="The result of a run is without the steps that were skipped: here they stand in it as null.",
        module="opscore/runtime/definitions/scopes.py",
        old="            if not self.definition.dependents[step.key] and not skipped:\n",
        new="            if not self.definition.dependents[step.key]:\n",
    ),
    Mutant(
        name="undoing-begins-while-items-are-out",
        breaks="A failed run is undone once nothing of it is out: items of a list may be still.",
        module="opscore/runtime/runs/progress.py",
        old="    if any(each.is_out for task in draft.in_role(*_STEPS) for each in (task, *draft.items(task))):\n",
        new="    if any(task.is_out for task in draft.in_role(*_STEPS)):\n",
    ),
    Mutant(
        name="reset-leaves-a-paused-run-paused",
        breaks="A reset run that is paused is resumed: here it stays paused.",
        module="opscore/runtime/runs/transitions.py",
        old="""    if run.session.status is SessionStatus.PAUSED:
        _resume(draft)
""",
        new="",
    ),
    Mutant(
        name="reset-spends-a-retry",
        breaks="A reset takes what is out from its agents without a retry spent.",
        module="opscore/runtime/runs/transitions.py",
        old='            _requeue(draft, task, Failure(message="the run was reset", code="reset"))\n',
        new='            _requeue(draft, task, Failure(message="the run was reset", code="reset"), retries=task.retries + 1)\n',
    ),
    Mutant(
        name="losses-before-a-failure-still-count",
        breaks="Losses in a row spend a retry at last: here those before a failure count on, so that it is spent too soon.",
        module="opscore/runtime/runs/transitions.py",
        old="    draft.move(task, TaskEvent.RETRY, retries=failures, error=error, due_at=due_at, bounces=0)\n",
        new="    draft.move(task, TaskEvent.RETRY, retries=failures, error=error, due_at=due_at)\n",
    ),
    Mutant(
        name="retry-after-is-not-heeded",
        breaks="An agent that answers 503 and when to come again is left alone until then.",
        module="opscore/runtime/agents/registration.py",
        old="    delay_s = max(SUSPICION.delay_s(suspicions, rng), min(retry_after_s or 0.0, RETRY_AFTER_S_MAX))\n",
        new="    delay_s = min(retry_after_s or RETRY_AFTER_S_MAX, SUSPICION.delay_s(suspicions, rng))\n",
    ),
    Mutant(
        name="suspicions-do-not-grow",
        breaks="An agent that is not reached again and again rests ever longer.",
        module="opscore/runtime/agents/registration.py",
        old="    return evolve(agent, suspicions=suspicions, suspected_until=now + delay_s)\n",
        new="    return evolve(agent, suspected_until=now + delay_s)\n",
    ),
    Mutant(
        name="registering-again-keeps-the-order-of-reports",
        breaks="Registering again forgets the order of reports: an agent whose clock was put right is not heard for hours.",
        module="opscore/runtime/agents/registration.py",
        old="        received_at=before.received_at if before is not None else None,\n",
        new="""        received_at=before.received_at if before is not None else None,
        reported_at=before.reported_at if before is not None else None,
""",
    ),
    Mutant(
        name="history-leaps-over-records",
        breaks="A run's history is every record of it: here each record names the commit before as it was when the actor read the run.",
        module="opscore/runtime/runs/session_standing.py",
        old="        self._run, self._version, self._newest = step.run, ABSENT if step.run.ended else version, version\n",
        new="        self._run, self._version = step.run, ABSENT if step.run.ended else version\n",
    ),
    Mutant(
        name="what-begins-at-once-is-recorded-as-one-step",
        breaks="Each step has its record: that a task became ready is missing where it was given out in the same commit.",
        module="opscore/runtime/runs/session_rows.py",
        old="    for part in step.parts or (step,):\n",
        new="    for part in (step,):\n",
    ),
    Mutant(
        name="what-becomes-ready-is-told-as-listed",
        breaks="A higher priority goes first: of what becomes ready at once, here who is listed first.",
        module="opscore/runtime/runs/run.py",
        old="        return -self.of(task).priority, task.ready_at or 0.0\n",
        new="        return 0.0, task.ready_at or 0.0\n",
    ),
    Mutant(
        name="beginnings-before-a-restart-do-not-count",
        breaks="No more attempts begin within an interval than may, those before a restart included.",
        module="opscore/runtime/dispatch/dispatcher.py",
        old="        for gate, times in began.items():\n",
        new="        for gate, times in dict[str, list[float]]().items():\n",
    ),
    Mutant(
        name="slot-of-who-goes-on-is-kept-in-mind",
        breaks="A slot that is left is given to the next: not that of an agent that goes on with another task.",
        module="opscore/runtime/agents/agent_standing.py",
        old="        if agent is None or self._claim is not None or (lease is not None and lease.slots):\n",
        new="        if agent is None or self._claim is not None or lease is None:\n",
    ),
    Mutant(
        name="earlier-time-waits-for-the-later-one",
        breaks="What is due happens when it is: a time that is put forward comes only when the later one would have.",
        module="opscore/runtime/timers.py",
        old="        if queued_at is None or due_at < queued_at:\n",
        new="        if queued_at is None:\n",
    ),
    Mutant(
        name="errand-goes-with-its-actor",
        breaks="A task that waits for another run begins it: not if its run's actor is passivated meanwhile.",
        module="opscore/runtime/runs/session_standing.py",
        old="        return out or self._looks_again or self._errands.under_way > 0\n",
        new="        return out or self._looks_again\n",
    ),
    Mutant(
        name="quarantined-run-keeps-its-slots",
        breaks="A slot goes with its lease: here not where a run is quarantined, and its key is closed for good.",
        module="opscore/runtime/runs/quarantine.py",
        old="    deletes = [delete for lease, _ in held for delete in release_of(lease)]\n",
        new="    deletes = [LEASES.delete(lease.agent_id) for lease, _ in held]\n",
    ),
    Mutant(
        name="what-was-due-while-paused-comes-later",
        breaks="What passes while a schedule is paused is over: here it counts as missed, and comes.",
        module="opscore/runtime/schedules/schedule_rows.py",
        old="    since = max(now, schedule.last_due_at or now)\n",
        new="    since = schedule.last_due_at or now\n",
    ),
    Mutant(
        name="missed-times-are-not-told",
        breaks="The journal tells which due times were missed: not where the newest of them starts a run.",
        module="opscore/runtime/schedules/schedule_rows.py",
        old="""    return _changed(version, SCHEDULES.put(after), *_missed(schedule, decision, now), line)


def passed_over""",
        new="""    return _changed(version, SCHEDULES.put(after), line)


def passed_over""",
    ),
    Mutant(
        name="completed-task-keeps-its-last-error",
        breaks="A task that was completed has no error: here that of an attempt before.",
        module="opscore/runtime/runs/transitions.py",
        old="    draft.end(task, TaskEvent.COMPLETE, result=result, bounces=0, error=None)\n",
        new="    draft.end(task, TaskEvent.COMPLETE, result=result, bounces=0)\n",
    ),
    Mutant(
        name="heartbeat-is-no-evidence-of-delivery",
        breaks="An attempt whose agent has shown life is not handed over again.",
        module="opscore/runtime/agents/leases.py",
        old="""        delivered=True,
        active_seen=lease.active_seen or active,
""",
        new="        active_seen=lease.active_seen or active,\n",
    ),
    Mutant(
        name="same-claim-is-answered-after-a-heartbeat",
        breaks="The same claim gets the same attempt until the first heartbeat: here also after it.",
        module="opscore/runtime/agents/leases.py",
        old="    return claim_id is not None and claim_id == lease.claim_id and not lease.heartbeat_seen\n",
        new="    return claim_id is not None and claim_id == lease.claim_id\n",
    ),
    Mutant(
        name="function-is-lost-with-its-lease",
        breaks="A function may take longer than its lease: here its attempt is lost, again and again.",
        module="opscore/runtime/agents/agent_deliveries.py",
        old="        elif self._runs_here(lease) or (lease.tool and",
        new="        elif (lease.tool and",
    ),
    Mutant(
        name="function-of-a-cancelled-run-goes-on",
        breaks="Cancelling stops a local function: here it works on to its end.",
        module="opscore/runtime/agents/agent_deliveries.py",
        old="""        if runs_here:
            self._courier.cancel(lease.task_id, lease.attempt)
""",
        new="",
    ),
    Mutant(
        name="list-fails-by-the-first-in-the-list",
        breaks="A list fails by the first item that failed: here by the first in the list that did.",
        module="opscore/runtime/runs/items.py",
        old="    first = min(failed, key=lambda item: item.ended_at or 0.0)\n",
        new="    first = next(failed)\n",
    ),
    Mutant(
        name="items-are-tried-again-though-one-failed",
        breaks="Once an item failed for good none is tried again.",
        module="opscore/runtime/runs/items.py",
        old="    return task.item is not None and bool(draft.tally(task).failed) and not draft.of(task).continue_on_failure\n",
        new="    return False\n",
    ),
    Mutant(
        name="one-skipped-step-skips-what-follows",
        breaks="A step is skipped where all before it were: here where one was.",
        module="opscore/runtime/runs/progress.py",
        old="    all_skipped = bool(definition.depends_on)\n",
        new="    all_skipped = False\n",
        also=(
            (
                "opscore/runtime/runs/progress.py",
                "        all_skipped = all_skipped and before",
                "        all_skipped = all_skipped or before",
            ),
        ),
    ),
    Mutant(
        name="retried-run-falls-back-again",
        breaks="A run that is tried again keeps the failures that did it no harm: here their fallbacks are done again.",
        module="opscore/runtime/runs/reviving.py",
        old="            return not progress.tolerated(draft, progress.step_of(draft, task))\n",
        new="            return True\n",
    ),
    Mutant(
        name="what-was-undone-is-tried-again",
        breaks="A run of which something was undone is not tried again.",
        module="opscore/runtime/runs/reviving.py",
        old="    return any(task.status not in (TaskStatus.PENDING, TaskStatus.SKIPPED) for task in handlers)\n",
        new="    return any(task.status is TaskStatus.RUNNING for task in handlers)\n",
    ),
    Mutant(
        name="run-below-begins-with-its-parents-input",
        breaks="A task that is a run hands it its input: here it gets that of the run above.",
        module="opscore/runtime/runs/sub_runs.py",
        old='            payload=asked.get("input"),\n',
        new="            payload=parent.payload,\n",
    ),
    Mutant(
        name="stale-agents-are-given-work",
        breaks="An agent silent for longer than its time to live is given no work.",
        module="opscore/runtime/dispatch/matching.py",
        old="""            if agent.fresh_until > now:
                return agent
            self._remove_idle(agent_id)
""",
        new="            return agent\n",
    ),
    Mutant(
        name="heartbeats-are-due-at-once-after-a-restart",
        breaks="After a restart an agent gets time to speak: here one that owes heartbeats has failed at once.",
        module="opscore/runtime/agents/leases.py",
        old="        silent_at=None if lease.silent_at is None else max(lease.silent_at, now + lease.lease_s),\n",
        new="",
    ),
    Mutant(
        name="cap-of-the-delay-is-not-kept",
        breaks="A retry waits for maxDelaySeconds at most.",
        module="opscore/runtime/definitions/definition.py",
        old="            max_s=self.max_delay_s,\n",
        new="            max_s=max(self.max_delay_s, 300.0),\n",
    ),
    Mutant(
        name="run-of-an-attempt-that-timed-out-goes-on",
        breaks="A task that no longer waits for a run calls it off: here not where it tries again with another run.",
        module="opscore/runtime/runs/run.py",
        old="    if old is not None and old.awaits and old.child_session_id and new.status is not TaskStatus.COMPLETED:\n",
        new="    not_done = (TaskStatus.FAILED, TaskStatus.SKIPPED, TaskStatus.CANCELLED)\n"
        "    if old is not None and old.awaits and old.child_session_id and new.status in not_done:\n",
    ),
    # --- bugs that the runtime had, planted again -------------------------------------------------------------
    Mutant(
        name="quarantine-takes-back-what-was-taken-back",
        breaks="A run whose actor keeps crashing is paused: here its node goes down where an agent is still busy with "
        "an attempt of it that was taken back before.",
        module="opscore/runtime/runs/quarantine.py",
        old=" if lease.session_id == session_id and not lease.revoked\n",
        new=" if lease.session_id == session_id\n",
    ),
    Mutant(
        name="who-is-taken-back-by-quarantine-waits-without-a-limit",
        breaks="A task nobody takes in time fails: one that was taken back as its run was quarantined waits for ever.",
        module="opscore/runtime/runs/quarantine.py",
        old="REQUEUE, error=error, due_at=due_at, ready_at=now",
        new="REQUEUE, error=error, ready_at=now",
    ),
    Mutant(
        name="quarantine-cancels-what-undoes-a-run",
        breaks="What was completed is undone where a run fails: here not where the run's actor is given up meanwhile.",
        module="opscore/runtime/runs/quarantine.py",
        old="    if ends_the_run or (session.error is None and session.cancelled_at is None):\n",
        new="    if session.error is None and session.cancelled_at is None:\n",
    ),
    Mutant(
        name="tolerated-fallback-is-a-dead-letter",
        breaks="A dead letter goes when its run is tried again: here not that of a fallback which is not done again.",
        module="opscore/runtime/runs/progress.py",
        old="""    if definition.role is Role.FALLBACK:
        return tolerated(draft, step_of(draft, task))
""",
        new="",
    ),
    Mutant(
        name="cancelled-run-has-dead-letters",
        breaks="Dead letters are of runs that failed: here also of one that was cancelled, which nobody can replay.",
        module="opscore/runtime/runs/progress.py",
        old="            if each.status is TaskStatus.FAILED and draft.session.cancelled_at is None:\n",
        new="            if each.status is TaskStatus.FAILED:\n",
    ),
)
