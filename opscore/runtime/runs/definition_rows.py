"""The submissions that save and delete workflow definitions, and what keeps a definition that a schedule needs."""

import itertools
from typing import Final

import attrs

from opscore.runtime.definitions.definition import Definition
from opscore.runtime.journal.tables import (
    DEFINITIONS,
    MARKS,
    REVISIONS,
    SCHEDULES,
    SESSIONS_BY_DEFINITION,
    Mark,
    Revision,
)
from opscore.runtime.journal.typed_tables import Versioned, named
from opscore.runtime.models import SavedDefinition, Schedule
from opscore.runtime.store import Snapshot, Submission, Vacant

SCHEDULES_AT_ONCE: Final = 100
"""Schedules that are read before other tasks get their turn; each may have a payload of 256 KiB."""
_SCHEDULED: Final = "scheduled "
"""With a workflow id behind it, the name of the mark that every new schedule of that workflow writes."""


@attrs.frozen(kw_only=True)
class Standing:
    """What a deletion of a workflow is decided on, from one read of the rows."""

    saved: Versioned[SavedDefinition]
    scheduled: Versioned[Mark]
    """Its version tells whether a schedule has been created since."""


@attrs.frozen(kw_only=True)
class Starters:
    """The schedules that start runs of a workflow, from one part of the table."""

    schedule_ids: tuple[str, ...]
    after: str | None
    """Where to continue; None if everything has been looked at."""


def revision(definition: Definition) -> Revision:
    """Return the row that keeps a definition's content."""
    return Revision(definition_key=definition.digest, document=definition.document)


def saved_as(definition: Definition, before: SavedDefinition | None, now: float) -> SavedDefinition:
    """Return the row that saves a definition under its id, as the revision after `before`."""
    return SavedDefinition(
        workflow_id=definition.workflow_id,
        revision=1 if before is None else before.revision + 1,
        definition_key=definition.digest,
        name=definition.name,
        version=definition.version,
        saved_at=now,
    )


def scheduled(view: Snapshot, workflow_id: str) -> Submission:
    """Return what the creation of a schedule adds: the workflow is still saved, and a deletion of it decides anew.

    Many schedules of one workflow may be created at once, so they write a mark, whatever its version, and leave the
    definition's row as it is.
    """
    saved = DEFINITIONS.read(view, workflow_id)
    return Submission(
        expects=(DEFINITIONS.expect(workflow_id, saved.version),),
        writes=(MARKS.put(Mark(name=_SCHEDULED + workflow_id, sequence=view.last_sequence())),),
    )


def standing(view: Snapshot, workflow_id: str) -> Standing:
    """Read what a deletion is decided on; to be read before `starters` is."""
    return Standing(
        saved=DEFINITIONS.read(view, workflow_id),
        scheduled=MARKS.read(view, _SCHEDULED + workflow_id),
    )


def starters(view: Snapshot, workflow_id: str, *, after: str | None = None) -> Starters:
    """Return the schedules that may still start runs of a workflow, from the next part of the table."""
    rows = [row for row, _ in itertools.islice(SCHEDULES.sound_rows(view, after=after), SCHEDULES_AT_ONCE)]
    found = tuple(row.schedule_id for row in rows if row.workflow_id == workflow_id and _may_start(row))
    return Starters(schedule_ids=found, after=rows[-1].schedule_id if len(rows) == SCHEDULES_AT_ONCE else None)


def _may_start(schedule: Schedule) -> bool:
    """Whether a schedule has due times to come; one that is paused may be resumed."""
    return schedule.paused or schedule.next_due_at is not None


def deleted(view: Snapshot, saved: SavedDefinition, before: Standing) -> Submission:
    """Delete a workflow, and its content with it if no run needs that; else retention removes it with the last run.

    Args:
        view: the rows.
        saved: what is saved under its id.
        before: what the deletion was decided on.
    """
    workflow_id, mark = saved.workflow_id, before.scheduled
    return Submission(
        expects=(
            DEFINITIONS.expect(workflow_id, before.saved.version),
            MARKS.expect(_SCHEDULED + workflow_id, mark.version),
        ),
        writes=(DEFINITIONS.delete(workflow_id), *(() if mark.row is None else (MARKS.delete(mark.row.name),))),
    ) + without_content(view, saved.definition_key)


def without_content(view: Snapshot, definition_key: str) -> Submission:
    """Remove the content that a workflow no longer has, unless a run follows it. One id alone has this content."""
    unused = Vacant(SESSIONS_BY_DEFINITION.name, named(definition_key))
    found = REVISIONS.read(view, definition_key)
    if found.row is None or next(view.scan(unused.table, prefix=unused.prefix), None) is not None:
        return Submission()
    return Submission(
        expects=(unused, REVISIONS.expect(definition_key, found.version)), writes=(REVISIONS.delete(definition_key),)
    )
