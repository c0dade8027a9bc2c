"""Bugs planted by somebody who had read what is promised and how it is built, and not how it is checked."""

from tests.runtime.simulation.mutants.mutant import Mutant

MUTANTS: tuple[Mutant, ...] = (
    # --- easy -------------------------------------------------------------------------------------------------
    Mutant(
        name="join-starts-on-first-predecessor",
        breaks="A run goes as its definition says: a task with several dependsOn starts although only one of them is complete.",
        module="opscore/runtime/runs/progress.py",
        old="        if not _is_over(draft, before):\n",
        new="        if not any(_is_over(draft, draft.by_key(each)) for each in definition.depends_on):\n",
        scenario="Easy. A run of a, b and c, where c depends on a and b, with two idle agents. a completes at once, b takes "
        "long: c is handed to an agent while b is still open, and if b then fails, c has run for nothing.",
    ),
    Mutant(
        name="registering-again-lifts-the-cordon",
        breaks="Registering again keeps state and cordon, and a cordoned agent is given no work until it is put back: here it is.",
        module="opscore/runtime/agents/registration.py",
        old="""        received_at=before.received_at if before is not None else None,
        cordoned=before.cordoned if before is not None else False,
""",
        new="""        received_at=before.received_at if before is not None else None,
""",
        scenario="Easy. An idle agent is cordoned, then its process starts anew and registers again. The next waiting task with "
        "its capability is given to it, although nobody has put it back.",
    ),
    Mutant(
        name="timeout-waits-for-silence",
        breaks="An attempt longer than its timeout fails although its agent shows life: here it goes on for as long as it does.",
        module="opscore/runtime/lease.py",
        old="""        times = (self.expires_at, self.timeout_at)
""",
        new="""        times = (self.expires_at, self.expires_at)
""",
        scenario="Easy. A task with timeoutSeconds 60 and a lease of 30 s; its agent sends a heartbeat every 10 s and never ends. "
        "The lease is put off each time and nobody looks at the timeout: the attempt never fails, the run never ends. With a "
        "timeout shorter than the lease, a silent agent's attempt fails only when its lease is over.",
    ),
    Mutant(
        name="timer-put-off-is-dropped",
        breaks="A lease that ends in silence is a loss: here one that was renewed once, or is not its agent's first, never ends.",
        module="opscore/runtime/timers.py",
        old="""        if comes_at > now:
            self._push(key, comes_at)
            return
""",
        new="""        if due_at > now:
            return
        if comes_at > now:
            self._push(key, comes_at)
            return
""",
        scenario="Easy to medium. An agent takes a task, sends one heartbeat and falls silent for good. The entry of the first "
        "deadline comes up, finds that it was put off, and is not set again: the attempt stays open for ever. The same befalls "
        "the second lease of an agent whose first one ended early. A restart of the node hides it.",
    ),
    # --- medium -----------------------------------------------------------------------------------------------
    Mutant(
        name="failed-run-leaves-a-retry-waiting",
        breaks="After the last retry the session fails and nothing new starts: here a task of the failed run is retried.",
        module="opscore/runtime/runs/progress.py",
        old="""            elif (each.status in TASK_WAITS and draft.of(each).role is Role.STEP) or _is_called_off(each):
""",
        new="""            elif each.status in (TaskStatus.PENDING, TaskStatus.READY) and draft.of(each).role is Role.STEP:
""",
        scenario="Medium. Two tasks without edges. The first fails and waits for its retry delay; meanwhile the second fails for "
        "good, so the run is failed. Its first task still shows pending_retry, and when the delay is over it is handed to an "
        "agent, which works for a run that has ended and can't deliver its result.",
    ),
    Mutant(
        name="claim-without-an-id-is-the-same-claim",
        breaks="Another claim under an open lease gets nothing: here two claims without an id get one attempt.",
        module="opscore/runtime/agents/leases.py",
        old="""    return claim_id is not None and claim_id == lease.claim_id and not lease.heartbeat_seen
""",
        new="""    return claim_id == lease.claim_id and not lease.heartbeat_seen
""",
        scenario="Medium. Two workers share an agent's id and claim without a claim id. The first is handed a task and has not yet "
        "sent a heartbeat when the second claims: it gets the same attempt, and both do the work. Likewise an agent that was "
        "pushed its task, answered 202, and then claims without an id: it is handed the task a second time.",
    ),
    Mutant(
        name="idle-report-that-names-the-task-is-proof",
        breaks="An idle report that proves nothing ends nothing: here a late one from the first attempt completes the second.",
        module="opscore/runtime/agents/reports.py",
        old="""    proven = (
        (task_id is not None and attempt is not None)
        or lease.active_seen
        or (task_id is not None and lease.attempt == 1)
    )
""",
        new="""    proven = lease.active_seen or task_id is not None
""",
        scenario="Medium. An agent's first attempt is lost (its lease ran out, or it fell offline), and the same agent is given the "
        "second attempt, handed over by push with 202. Before it reports active again, its late idle report of the first "
        "attempt comes, which names the task and no attempt: the second attempt is completed with the first one's result.",
    ),
    Mutant(
        name="agent-serves-its-first-capability-first",
        breaks="A higher priority goes first and none starves: an agent with several capabilities looks at the first queue only.",
        module="opscore/runtime/dispatch/matching.py",
        old="        return min(heads, default=None), None\n",
        new="        return next(iter(heads), None), None\n",
        scenario="Medium. An agent with the capabilities x and y is busy. A task for x with priority 0 and one for y with priority "
        "9 wait, or one for y that has waited for hours. The agent comes free: it gets the one for x, and for as long as tasks "
        "for x keep coming, nothing for y, nor any task that names the agent, is ever given to it.",
    ),
    Mutant(
        name="idempotency-key-is-taken-without-a-look",
        breaks="The same idempotency key and body start one run however often they come: at the same time, here, two.",
        module="opscore/runtime/runs/triggering.py",
        old="""    return Submission(expects=(IDEMPOTENCY.expect(key.scope, version),), writes=(IDEMPOTENCY.put(row),))
""",
        new="""    return Submission(writes=(IDEMPOTENCY.put(row),))
""",
        scenario="Medium, needs a race. A saved workflow is triggered twice at one moment with the same key: a client that "
        "retries before the first answer has come. Both look before either is committed, both commit, and two runs exist, "
        "answered with two ids. With two different bodies neither is told of the conflict.",
    ),
    Mutant(
        name="unfinished-runs-are-not-counted-after-a-restart",
        breaks="No more runs are admitted than may be unfinished: after a restart of the process those from before do not count.",
        module="opscore/runtime/core.py",
        old="""        with self.store.snapshot() as view:
            self.open_sessions.update(recovery.open_sessions(view))
            holders = recovery.lease_holders(view)
""",
        new="""        with self.store.snapshot() as view:
            holders = recovery.lease_holders(view)
""",
        scenario="Medium, needs a restart. sessions_open_max is 5 and five runs wait for an agent that is not there. The process is "
        "killed and starts again: five more triggers are accepted, so that ten runs are unfinished.",
    ),
    Mutant(
        name="suspicions-are-not-taken-up",
        breaks="A suspected agent is given no work until its time is over: after a restart its time is never over.",
        module="opscore/runtime/timers.py",
        old="""        for agent_id, due_at in found.suspicions.items():
            self._arm(("suspicion", agent_id), due_at)
""",
        new="",
        scenario="Medium, needs a crash at the right time. The only agent of a capability refuses a push and is suspected for some "
        "seconds; within them the process is killed, or the timers' actor crashes. The agent is reachable again, but it is "
        "pushed to and says nothing by itself: the task waits although its agent is idle and no longer suspected.",
    ),
    Mutant(
        name="retry-that-found-a-full-disk-is-forgotten",
        breaks="Service resumes by itself after a full disk: a task whose retry delay ended while it was full waits for good.",
        module="opscore/runtime/runs/session.py",
        old="""        except (StoreError, Refusal):
            # The timers repeat it""",
        new="""        except Refusal:
            # The timers repeat it""",
        scenario="Medium, needs a full disk. A task fails and waits two seconds for its retry. The disk is full when the delay "
        "ends and free again a second later. The timer has gone off and is not set again, so the task stays pending_retry and "
        "its run unfinished until the process starts anew.",
    ),
    # --- rare -------------------------------------------------------------------------------------------------
    Mutant(
        name="push-answer-of-a-past-attempt-counts",
        breaks="A push answer of a past attempt changes nothing: here it ends the task's next attempt at the same agent.",
        module="opscore/runtime/agents/agent_deliveries.py",
        old="""    return (lease.task_id, lease.attempt) == (about.task_id, about.attempt)
""",
        new="""    return lease.task_id == about.task_id
""",
        scenario="Hard, needs a slow agent. A push of attempt 1 has not been answered yet when the agent ends the attempt by fail "
        "with its number, and reports idle. After the retry delay attempt 2 goes to the same agent. Now attempt 1's push is "
        "answered with status completed and a result: attempt 2 is completed with it. Were the answer 404, attempt 2 would go "
        "back to the queue while the agent works on it.",
    ),
    Mutant(
        name="news-of-a-lease-that-is-over-is-believed",
        breaks="An agent is given work only if its newest state is idle, and at most one attempt is current: here one that has said "
        "it is active is handed an attempt that was taken back from it.",
        module="opscore/runtime/agents/agent_rows.py",
        old="        if not known and (self._lease.row is not None or version < self.as_of):\n",
        new="        if not known and self._lease.row is not None:\n",
        scenario="Hard, needs a race of commits. An idle agent reports active (or an error) while a dispatch to it is being "
        "committed. The report is decided anew, finds a lease that was not handed over, and puts the task back. Then the news "
        "of that lease comes up in the mailbox: it is believed, and the ended attempt is delivered to the agent that just "
        "refused it, while another agent is given the task under the next number.",
    ),
    Mutant(
        name="offer-that-ended-unknown-asks-the-task-alone",
        breaks="A task that nobody can take waits, event-driven: after a crash in mid-offer an idle agent is offered nothing more, "
        "or a lease that was committed is never delivered.",
        module="opscore/runtime/dispatch/dispatcher.py",
        old="""        with contextlib.suppress(ActorStopped):
            await self._addresses.agent(match.agent.agent_id).send(to_agent.AnnounceAgent())
""",
        new="",
        scenario="Hard, needs a crash at the right time. A session's actor crashes while it handles an offer to the only agent, "
        "a local function or one that is pushed to. The session says again that its task waits, but nobody asks the agent, "
        "which says nothing by itself: task and idle agent wait for each other until the process starts anew.",
    ),
    Mutant(
        name="repeated-claim-keeps-the-first-ticket",
        breaks="The same claim gets the same attempt until the first heartbeat, and a claimer that goes away gives its task back at "
        "once: here the call that was given up takes the task from the one that repeated it.",
        module="opscore/runtime/agents/agent_deliveries.py",
        old="""        if handed != lease:
            await self._rows.commit("agent.handed", lease=handed)
""",
        new="""        if not lease.delivered:
            await self._rows.commit("agent.handed", lease=handed)
""",
        scenario="Hard, needs a race. A claim with an id is answered, but its connection hangs. The claimer repeats it with the same "
        "id and is handed the same attempt. Then the first call is found to be gone: the task goes back to the queue and is "
        "given out again, and the claimer at work is refused. Also: when it is the repeated call that goes away, the task does "
        "not go back at once but is kept until its lease is over.",
    ),
)
