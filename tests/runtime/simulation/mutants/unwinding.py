"""Bugs in how runs come to a bad end, for which no world was drawn: somebody with fresh eyes planted them."""

from tests.runtime.simulation.mutants.mutant import Mutant

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        name="cancelling-forgets-that-onfailure-has-begun",
        breaks="A run that is cancelled while its onFailure is done waits for it: here it ends with that still out.",
        module="opscore/runtime/runs/progress.py",
        old="        if draft.session.cancelled_at is None or told.status is not TaskStatus.PENDING:\n",
        new="        if draft.session.cancelled_at is None:\n",
    ),
    Mutant(
        name="time-that-is-over-calls-nothing-back-of-a-failing-run",
        breaks="What is out is taken back when a run's time is over, also where it was failing before: here not there.",
        module="opscore/runtime/runs/transitions.py",
        old="""        progress.fail_session(draft, Failure(message=took, code="session_timeout"))
    _call_back(draft)
""",
        new="""        progress.fail_session(draft, Failure(message=took, code="session_timeout"))
        _call_back(draft)
""",
    ),
    Mutant(
        name="list-of-a-failing-run-is-complete-with-some-items",
        breaks="A list whose run fails is completed where all of its items are: here where those are that had begun.",
        module="opscore/runtime/runs/items.py",
        old="    done = whole and all(",
        new="    done = bool(begun) and all(",
    ),
    Mutant(
        name="signal-goes-to-the-first-in-the-document",
        breaks="Of several tasks that wait for a signal the one that began first takes it: here the one listed first.",
        module="opscore/runtime/runs/transitions.py",
        old="    task = min(waiting, key=lambda task: task.started_at or 0.0, default=None)\n",
        new="    task = next(waiting, None)\n",
    ),
    Mutant(
        name="signals-are-numbered-by-those-that-wait",
        breaks="The first signal that came is taken first: here numbers are given out twice, once some were taken.",
        module="opscore/runtime/runs/session.py",
        old=" else len(signals_of(view, self._session_id))\n",
        new=" else sum(each.taken_by is None for each in signals_of(view, self._session_id))\n",
    ),
    Mutant(
        name="schedule-forgets-its-agent",
        breaks="The runs of a schedule have the agent that it names: here none.",
        module="opscore/runtime/schedules/schedules.py",
        old="payload=schedule.payload, agent_id=schedule.agent_id)\n",
        new="payload=schedule.payload)\n",
    ),
    Mutant(
        name="labels-of-the-definition-count-over-those-given",
        breaks="The labels that a run is started with count over those of its definition: here the other way round.",
        module="opscore/runtime/definitions/labels.py",
        old="{**given, **inherited, **given}",
        new="{**given, **inherited}",
    ),
    Mutant(
        name="pause-takes-the-place-of-why-a-run-was-cancelled",
        breaks="Why a run was cancelled stays with it: here it is lost where it is paused after that.",
        module="opscore/runtime/runs/transitions.py",
        old="    draft.move_session(SessionEvent.PAUSE, reason=kept)\n",
        new="    draft.move_session(SessionEvent.PAUSE, reason=reason)\n",
    ),
    Mutant(
        name="terminated-run-is-only-cancelled",
        breaks="Who terminates a run is answered once it has ended: here what undoes it goes on.",
        module="opscore/runtime/runs/transitions.py",
        old="        if handler.status not in TASK_ENDED:\n            draft.end(handler",
        new="        if False:\n            draft.end(handler",
    ),
    Mutant(
        name="terminated-run-leaves-its-handler-with-an-agent",
        breaks="Terminating takes what undoes the run from its agent: here its lease stays open.",
        module="opscore/runtime/runs/transitions.py",
        old="        if handler.is_out:\n            draft.revoke(handler)\n",
        new="",
    ),
    Mutant(
        name="terminated-run-undoes-what-had-not-been-begun",
        breaks="Nothing of a run that is terminated begins any more: here the compensations that nobody had yet do.",
        module="opscore/runtime/runs/transitions.py",
        old="        if handler.status not in TASK_ENDED:\n",
        new="        if handler.status not in (*TASK_ENDED, TaskStatus.PENDING):\n",
    ),
)
