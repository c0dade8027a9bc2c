"""Bugs with agents that come back as another kind, and with dead letters that somebody deals with."""

from tests.runtime.simulation.mutants.mutant import Mutant

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        name="a-function-is-told-by-what-its-agent-is",
        breaks="After a restart an attempt is a function's if one had it: here if its agent is one by now.",
        module="opscore/runtime/agents/agent_deliveries.py",
        old="        if lease.function is not None:\n            return lease.function\n",
        new="",
    ),
    Mutant(
        name="who-speaks-is-not-noted-as-a-function",
        breaks="That a function has an attempt is noted as it speaks: here not, and a restart takes it for another's.",
        module="opscore/runtime/agents/agent_standing.py",
        old="        return lease if lease.function is not None else evolve(lease, function=self._runs_here(lease))\n",
        new="        return lease\n",
    ),
    Mutant(
        name="functions-are-seen-only-while-their-agent-is-one",
        breaks="A function keeps its attempt as long as it runs: here not once its id is a remote agent's.",
        module="opscore/runtime/agents/agent_standing.py",
        old="        return self._courier.runs(lease.task_id, lease.attempt)\n",
        new="        local = self._rows.agent is not None and self._rows.agent.source == 'local'\n"
        "        return local and self._courier.runs(lease.task_id, lease.attempt)\n",
    ),
    Mutant(
        name="discards-are-answered-and-forgotten",
        breaks="Whoever is told that a dead letter is discarded finds it so: here nothing was committed.",
        module="opscore/runtime/runs/session.py",
        old="            await self._commit(run, step, await self._guard(run, step), message.reason)\n"
        "            (task,) = step.changed\n",
        new="            (task,) = step.changed\n",
    ),
    Mutant(
        name="discards-leave-no-trace",
        breaks="The journal says of each dead letter that it was discarded: here it says that it failed.",
        module="opscore/runtime/runs/session_rows.py",
        old="KIND_DEAD if task.dead else KIND_DISCARDED\n",
        new="KIND_DEAD if task.dead else kind\n",
    ),
    Mutant(
        name="discarded-before-its-run-has-ended",
        breaks="A dead letter is discarded once its run has ended: here before, and it is buried another time.",
        module="opscore/runtime/runs/steering.py",
        old='    if not run.ended:\n        raise SessionConflict(run.session.session_id, f"it is {run.session.status}, and has to end first")\n',
        new="",
    ),
    Mutant(
        name="function-that-was-stopped-keeps-its-agent",
        breaks="The agent of a function that was stopped gets other work: here not if the commit that says so failed.",
        module="opscore/runtime/agents/agent_deliveries.py",
        old="        if runs_here or self._is_functions(lease) or not (lease.delivered or carried):\n",
        new="        if runs_here or not (lease.delivered or carried):\n",
    ),
)
