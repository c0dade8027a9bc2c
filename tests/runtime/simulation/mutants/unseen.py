"""Bugs that no promise saw when somebody planted them who had read how each is looked at."""

from tests.runtime.simulation.mutants.mutant import Mutant

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        name="failed-compensation-is-no-dead-letter",
        breaks="What was to undo a run and failed for good is a dead letter, for somebody to look at: here it is none.",
        module="opscore/runtime/runs/progress.py",
        old="""    if handler.status is TaskStatus.FAILED:
        _bury(draft, handler)
    return handler.status in TASK_ENDED
""",
        new="    return handler.status in TASK_ENDED\n",
    ),
    Mutant(
        name="fallback-that-fails-too-is-not-tolerated",
        breaks="A step that need not succeed fails no run, also where its fallback fails too: here it does.",
        module="opscore/runtime/runs/progress.py",
        old="""        if instead.status is not TaskStatus.FAILED:
            return instead.status is TaskStatus.COMPLETED
""",
        new="        return instead.status is TaskStatus.COMPLETED\n",
    ),
    Mutant(
        name="run-fails-by-the-error-of-the-fallback",
        breaks="A run fails by the error of its step: here by that of the fallback, under the step's name.",
        module="opscore/runtime/runs/progress.py",
        old='        cause = task.error or Failure(message="unknown")\n        fail_session',
        new='        cause = (instead or task).error or Failure(message="unknown")\n        fail_session',
    ),
    Mutant(
        name="retried-run-has-its-retries-spent",
        breaks="What is done anew in a run that is tried again has all its retries: here those of before count.",
        module="opscore/runtime/runs/reviving.py",
        old="        TaskEvent.REVIVE,\n        retries=0,\n",
        new="        TaskEvent.REVIVE,\n",
    ),
    Mutant(
        name="report-is-no-sign-against-silence",
        breaks="An agent may be silent for heartbeatSeconds after any sign of life: here only heartbeats count.",
        module="opscore/runtime/agents/leases.py",
        old="        silent_at=None if lease.heartbeat_s is None else now + lease.heartbeat_s,\n",
        new="        silent_at=lease.silent_at if lease.heartbeat_s is None or not heartbeat else now + lease.heartbeat_s,\n",
    ),
    Mutant(
        name="schedule-forgets-its-payload",
        breaks="A schedule's runs begin with its payload: here with none.",
        module="opscore/runtime/schedules/schedules.py",
        old="definition=schedule.workflow_id, payload=schedule.payload, agent_id=schedule.agent_id",
        new="definition=schedule.workflow_id, agent_id=schedule.agent_id",
    ),
    Mutant(
        name="quarantine-turns-the-priority-round",
        breaks="A higher priority goes first: here last, once its run was paused because its actor kept crashing.",
        module="opscore/runtime/waiting.py",
        old="round((task.ready_at - task.rank) / AGING_S)",
        new="round((task.rank - task.ready_at) / AGING_S)",
    ),
    # --- bugs that the runtime had, planted again -------------------------------------------------------------
    Mutant(
        name="step-is-buried-while-its-fallback-is-out",
        breaks="A step whose fallback is completed is no dead letter: here it is where its run fails meanwhile.",
        module="opscore/runtime/runs/progress.py",
        old="    if not task.dead and not may_be_served and not tolerated(draft, task):\n",
        new="    if not task.dead and not tolerated(draft, task):\n",
    ),
    Mutant(
        name="what-is-given-back-counts-as-lost",
        breaks="What a process that stops in order gives back is not counted: here it is, as what a crash takes.",
        module="opscore/runtime/agents/agent_deliveries.py",
        old='reason="the process that ran it was stopped", counts=False)',
        new='reason="the process that ran it was stopped")',
    ),
    Mutant(
        name="item-that-need-not-succeed-is-a-dead-letter",
        breaks="An item without which its list goes on is no dead letter: here it is where the list has a fallback.",
        module="opscore/runtime/runs/progress.py",
        old="""    if task.item is not None and definition.continue_on_failure:
        return True
""",
        new="",
    ),
)
