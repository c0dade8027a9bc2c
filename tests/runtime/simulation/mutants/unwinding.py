"""Bugs in how runs come to a bad end, for which no world was drawn: somebody with fresh eyes planted them."""

from tests.runtime.simulation.mutants.mutant import Mutant

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        name="cancelling-forgets-that-onfailure-has-begun",
        breaks="A run that is cancelled while its onFailure is done waits for it: here it ends with that still out.",
        module="opscore/runtime/progress.py",
        old="        if draft.session.cancelled_at is None or told.status is not TaskStatus.PENDING:\n",
        new="        if draft.session.cancelled_at is None:\n",
    ),
    Mutant(
        name="time-that-is-over-calls-nothing-back-of-a-failing-run",
        breaks="What is out is taken back when a run's time is over, also where it was failing before: here not there.",
        module="opscore/runtime/transitions.py",
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
        module="opscore/runtime/items.py",
        old="    done = whole and all(",
        new="    done = bool(begun) and all(",
    ),
)
