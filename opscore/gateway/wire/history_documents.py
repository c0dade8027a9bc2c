"""How the history of a run is shown."""

from opscore.gateway.wire.documents import Json, show_time
from opscore.runtime.journal.following import JournalEntry
from opscore.runtime.runs.history import Attempt, attempts_of
from opscore.runtime.views import Page


def history_document(page: Page[JournalEntry]) -> Json:
    """Show a page of a run's records, and each attempt as these records show it."""
    return {
        "items": [
            {
                "sequence": entry.sequence,
                "at": show_time(entry.record.at),
                "kind": entry.record.kind,
                "entity": entry.record.entity,
                "entityId": entry.record.entity_id,
                "data": {name: value for name, value in entry.record.data.items() if name != "previous"},
            }
            for entry in page.items
        ],
        "attempts": [_attempt_document(attempt) for attempt in attempts_of(page.items)],
        "nextCursor": page.next_cursor,
    }


def _attempt_document(attempt: Attempt) -> Json:
    return {
        "taskId": attempt.task_id,
        "taskKey": attempt.task_key,
        "attempt": attempt.number,
        "agentId": attempt.agent_id,
        "dispatchedAt": show_time(attempt.dispatched_at),
        "startedAt": show_time(attempt.started_at),
        "endedAt": show_time(attempt.ended_at),
        "outcome": attempt.outcome,
        "error": attempt.error,
    }
