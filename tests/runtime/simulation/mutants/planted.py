"""Bugs planted by those who wrote the promises, each with one of them in mind."""

from tests.runtime.simulation.mutants.mutant import Mutant

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        name="reply-before-commit",
        breaks="A reply that says accepted means durable: here a trigger is answered before its commit.",
        module="opscore/runtime/session.py",
        old="""            await self._commit(None, step, absent + message.extra)
        finally:
            self._note_standing()
""",
        new="""            self.context.start_soon(self._commit, None, step, absent + message.extra)
        finally:
            self._note_standing()
""",
    ),
    Mutant(
        name="attempt-is-not-counted",
        breaks="The attempt number counts dispatches: here every attempt is the first.",
        module="opscore/runtime/transitions.py",
        old="        attempt=task.attempt + 1,\n",
        new="        attempt=max(task.attempt, 1),\n",
    ),
    Mutant(
        name="leases-are-not-taken-up",
        breaks="Leases are rebuilt from rows after a restart: here an attempt under way is never looked at again.",
        module="opscore/runtime/core.py",
        old="            holders = recovery.lease_holders(view)\n",
        new="            holders: list[str] = []\n",
    ),
    Mutant(
        name="lease-times-are-not-taken-up",
        breaks="Deadlines are rebuilt from rows after a restart: here a lease whose holder is silent never ends.",
        module="opscore/runtime/recovery.py",
        old="leases={agent_id: time_at(line) for line, agent_id in LEASES_BY_DUE.sound_lines(view)},",
        new="leases={},",
    ),
    Mutant(
        name="retry-delays-are-not-taken-up",
        breaks="Retry delays are rebuilt from rows after a restart: here such a task waits for good.",
        module="opscore/runtime/recovery.py",
        old="        sessions[session_of(task_id), task_id] = time_at(line)\n",
        new="        del task_id\n",
    ),
    Mutant(
        name="waiting-tasks-are-not-taken-up",
        breaks="The queue is rebuilt from rows after a restart: here what waited is forgotten.",
        module="opscore/runtime/recovery.py",
        old="        if waiting is not None:\n            found.append(waiting)\n",
        new="        if waiting is not None and not found:\n            found.append(waiting)\n",
    ),
    Mutant(
        name="queue-is-rebuilt-in-no-order",
        breaks="Higher priority first, oldest first within one: after a restart everything has the same age and priority.",
        module="opscore/runtime/recovery.py",
        old="    return ready_task(session, definition.tasks[task.ordinal], task)\n",
        new="    return attrs.evolve(ready_task(session, definition.tasks[task.ordinal], task), priority=0, ready_at=0.0)\n",
    ),
    Mutant(
        name="busy-agents-are-given-work",
        breaks="Only an agent whose newest state is idle is given work.",
        module="opscore/runtime/availability.py",
        old="        agent.state == STATE_IDLE\n",
        new='        agent.state != "offline"\n',
    ),
    Mutant(
        name="leased-agents-are-given-work",
        breaks="An agent holds one lease at most: the grant no longer requires that there is none.",
        module="opscore/runtime/lease_rows.py",
        old="LEASES.expect(lease.agent_id, ABSENT)",
        new="AGENTS.expect(lease.agent_id, agent_version)",
    ),
    Mutant(
        name="agents-version-is-not-required",
        breaks="A grant requires the agent to stand as it did when it was offered the task.",
        module="opscore/runtime/lease_rows.py",
        old="AGENTS.expect(lease.agent_id, agent_version)",
        new="LEASES.expect(lease.agent_id, ABSENT)",
    ),
    Mutant(
        name="session-completes-early",
        breaks="A session is complete when all its steps are over: here when its last step is.",
        module="opscore/runtime/progress.py",
        old="    if all(_is_over(draft, draft.tasks[step.ordinal]) for step in draft.definition.steps):\n",
        new="    if all(_is_over(draft, draft.tasks[step.ordinal]) for step in draft.definition.steps[-1:]):\n",
    ),
    Mutant(
        name="failed-session-never-ends",
        breaks="A session ends once nothing of it is open: one that fails by a task whose siblings are out never does.",
        module="opscore/runtime/transitions.py",
        old="    draft.end(task, TaskEvent.COMPLETE, result=result, bounces=0, error=None)\n    progress.follow(draft)\n",
        new="    draft.end(task, TaskEvent.COMPLETE, result=result, bounces=0, error=None)\n    if not draft.session.unwinding:\n        progress.follow(draft)\n",
    ),
    Mutant(
        name="last-failure-is-retried-once-more",
        breaks="A failure spends a retry, and there are `maxRetries` of them.",
        module="opscore/runtime/transitions.py",
        old="    spent = failures > policy.max_retries or",
        new="    spent = failures > policy.max_retries + 1 or",
    ),
    Mutant(
        name="failure-for-good-is-retried",
        breaks="A failure that says it is for good is not retried.",
        module="opscore/runtime/transitions.py",
        old="or not retryable or _closed(draft, task)",
        new="or _closed(draft, task)",
    ),
    Mutant(
        name="losses-have-no-bound",
        breaks="An attempt that is lost again and again spends a retry at last.",
        module="opscore/runtime/transitions.py",
        old="    if task.bounces + 1 >= limits.dispatch_attempts_max:\n",
        new="    if task.bounces + 1 >= limits.dispatch_attempts_max + 1:\n",
    ),
    Mutant(
        name="key-is-forgotten",
        breaks="An idempotency key is kept: here it is not written.",
        module="opscore/runtime/triggering.py",
        old="writes=(IDEMPOTENCY.put(row),)",
        new="writes=()",
    ),
    Mutant(
        name="suspicion-has-no-end",
        breaks="A suspected agent is tried again when its time is over.",
        module="opscore/runtime/agent_standing.py",
        old="            hint(self._addresses.timers, arm)\n",
        new="",
    ),
    Mutant(
        name="unreached-agents-are-not-suspected",
        breaks="An agent that a push didn't reach rests for a while.",
        module="opscore/runtime/registration.py",
        old="    return attrs.evolve(agent, suspicions=suspicions, suspected_until=now + delay_s)\n",
        new="    return attrs.evolve(agent, suspicions=suspicions, suspected_until=now - delay_s)\n",
    ),
    Mutant(
        name="lost-wakeup-after-a-release",
        breaks="What becomes ready is told to the dispatcher.",
        module="opscore/runtime/run.py",
        old="        if old is None or old.status is not TaskStatus.READY:\n            yield Ready(task=new)\n",
        new="        if old is None or old.status is TaskStatus.PENDING:\n            yield Ready(task=new)\n",
    ),
    Mutant(
        name="lease-is-not-renewed",
        breaks="A heartbeat renews the lease.",
        module="opscore/runtime/leases.py",
        old="        expires_at=max(lease.expires_at, now + lease.lease_s),\n        silent_at",
        new="        silent_at",
    ),
    Mutant(
        name="recovery-ends-leases-that-ran-out-meanwhile",
        breaks="After a restart agents get time to speak: a lease that ran out while the node was away is extended.",
        module="opscore/runtime/leases.py",
        old="    resumed = attrs.evolve(\n        lease,\n        expires_at=max(lease.expires_at, now + lease.lease_s),\n        timeout_at",
        new="    resumed = attrs.evolve(\n        lease,\n        expires_at=lease.expires_at - lease.lease_s,\n        timeout_at",
    ),
    Mutant(
        name="older-reports-win",
        breaks="A report older than the newest accepted one changes nothing.",
        module="opscore/runtime/agent.py",
        old="        if not is_new:\n",
        new="        if not is_new and message.state != STATE_IDLE:\n",
    ),
    Mutant(
        name="effects-of-unanswered-commits-are-lost",
        breaks="What a commit brings about happens, also when the disk was silent for so long that nobody waited for it.",
        module="opscore/runtime/session_standing.py",
        old="            # It may be committed yet, and its effects are for nobody else to follow.\n            self._look_again()\n",
        new="",
    ),
    Mutant(
        name="displaced-claims-are-answered-at-once",
        breaks="Two workers under one id do not ask each other out of the line without end.",
        module="opscore/runtime/agent.py",
        old="        self._displace_claim()\n",
        new="        self._drop_claim()\n",
    ),
    Mutant(
        name="stopping-has-a-limit",
        breaks="A node that stops while its disk stalls ends once the disk answers.",
        module="opscore/runtime/tree.py",
        old="        shutdown_s=math.inf,\n",
        new="",
    ),
    Mutant(
        name="offers-in-vain-cost-the-place-in-line",
        breaks="A task that was offered in vain keeps its place in line.",
        module="opscore/runtime/matching.py",
        old="            self._waiting.put(task)\n        follow_ups",
        new="            pass\n        follow_ups",
    ),
    Mutant(
        name="triggers-in-doubt-are-not-counted",
        breaks="No more runs are admitted than may be unfinished, those whose start is in doubt included.",
        module="opscore/runtime/core.py",
        old="            # It may begin yet: its actor says so, or that it has not.\n",
        new="            self.open_sessions.discard(session_id)\n",
    ),
    Mutant(
        name="stale-result-is-accepted",
        breaks="A result of a past attempt is refused: here nobody looks at its number.",
        module="opscore/runtime/agent_rows.py",
        old="        if (lease.task_id, lease.attempt) != (task_id, attempt):\n",
        new="        if lease.task_id != task_id:\n",
        also=(
            (
                "opscore/runtime/agent_calls.py",
                "if task.attempt == attempt and task.agent_id is not None and (",
                "if task.agent_id is not None and (",
            ),
        ),
    ),
    Mutant(
        name="retries-start-at-once",
        breaks="A retry waits for its delay.",
        module="opscore/runtime/session_standing.py",
        old="messages.ArmDue(session_id=self._session_id, what=what, due_at=due_at)",
        new="messages.ArmDue(session_id=self._session_id, what=what, due_at=self._now())",
        also=(
            (
                "opscore/runtime/transitions.py",
                "            elif task is not None and task.due_at is not None and task.due_at <= now:\n",
                "            elif task is not None and task.due_at is not None:\n",
            ),
        ),
    ),
)
