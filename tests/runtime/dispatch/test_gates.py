"""What waits before a gate: it leaves nothing once it waits no longer, and goes on in its order."""

import pytest

from opscore.runtime.dispatch.gates import Gate
from opscore.runtime.dispatch.matching import MatchBook
from opscore.runtime.limits import DispatchLimit, Limits
from opscore.runtime.messages.to_dispatcher import OfferOutcome
from opscore.runtime.waiting import CAPABILITY
from tests.runtime.offers import NOW, agent, ended, is_busy, is_idle, task, waits

LINE = (CAPABILITY, "a")


def closed(name: str) -> tuple[MatchBook, Gate]:
    """A book whose gate of a workflow, or of a key, is closed, while an agent is idle."""
    book = MatchBook(Limits(workflow_limits={"w": DispatchLimit(at_once=1)} if name == "workflow/w" else {}))
    is_idle(book, agent("has it"))
    assert book.offer_ended(ended(waits(book, task("out", concurrency_key="k")), OfferOutcome.TAKEN, 5), NOW) == []
    is_idle(book, agent("idle"))
    return book, book._gates[name]  # noqa: SLF001 (nobody else is told)


def kept(gate: Gate) -> int:
    return sum(len(each.entries) for each in gate._waiting.values())  # noqa: SLF001


GATES = pytest.mark.parametrize("name", ["workflow/w", "key/k"])


@GATES
def test_those_who_came_and_went_while_their_gate_was_closed_leave_nothing_there(name: str) -> None:
    book, gate = closed(name)
    waits(book, task("patient", ready_at=NOW - 1, concurrency_key="k"))
    for number in range(3_000):
        waits(book, task(f"t{number}", concurrency_key="k"))
        book.task_withdrawn(f"t{number}")
    assert kept(gate) < 500
    (match,) = is_busy(book, "has it", 6, leased=False)
    assert match.task.task_id == "patient"


@GATES
def test_many_who_wait_before_a_closed_gate_leave_nothing_there_when_all_are_withdrawn(name: str) -> None:
    book, gate = closed(name)
    for number in range(3_000):
        waits(book, task(f"t{number}", concurrency_key="k"))
    assert kept(gate) == 3_000
    for number in range(3_000):
        if number != 1_500:
            book.task_withdrawn(f"t{number}")
    assert kept(gate) < 500
    (match,) = is_busy(book, "has it", 6, leased=False)
    assert match.task.task_id == "t1500"


@GATES
def test_those_who_wait_on_go_on_in_their_order(name: str) -> None:
    book, gate = closed(name)
    for number in range(2_000):
        waits(book, task(f"t{number}", ready_at=NOW - number, concurrency_key="k"))
    for number in range(2_000):
        if number % 500:
            book.task_withdrawn(f"t{number}")
    assert kept(gate) < 500
    given: list[str] = []
    matches = is_busy(book, "has it", 6, leased=False)
    while matches:
        (match,) = matches
        given.append(match.task.task_id)
        assert book.offer_ended(ended(match, OfferOutcome.TAKEN, 7 + len(given)), NOW) == []
        matches = book.agent_available(agent("idle", as_of=8 + len(given)), NOW)
    assert given == ["t1500", "t1000", "t500", "t0"]
