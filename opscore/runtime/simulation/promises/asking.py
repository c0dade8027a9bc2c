"""What whoever asks something of the node is answered."""

from collections.abc import Iterator

from opscore.runtime.simulation.rows import Rows


def every_trigger_is_answered(rows: Rows) -> Iterator[str]:
    """Once faults have stopped, every trigger is accepted, or refused for good: nobody asks again and again in vain."""
    for number, stands in rows.ledger.unanswered.items():
        yield f"trigger {number} was never accepted: {stands}"
