"""Calls on a node about workflow definitions."""

import functools
from collections.abc import Mapping
from typing import Any

import trio

from opscore.runtime import views
from opscore.runtime.calls.calls import Calls
from opscore.runtime.core import RACES_MAX
from opscore.runtime.definitions.definition import Definition, parse
from opscore.runtime.errors import DefinitionInUse, DefinitionNotFound, NotReady, Superseded
from opscore.runtime.evolving import evolve
from opscore.runtime.journal.tables import DEFINITIONS, REVISIONS
from opscore.runtime.journal.typed_tables import Versioned
from opscore.runtime.models import SavedDefinition
from opscore.runtime.runs import definition_rows
from opscore.runtime.store import Snapshot, Submission
from opscore.runtime.values import check_is_text, deep_copy
from opscore.runtime.views import Page


class DefinitionCalls(Calls):
    """Calls about workflow definitions."""

    def validate(self, document: Any) -> Definition:
        """Check a workflow document without saving it.

        Args:
            document: the document, as JSON values.

        Returns:
            what the document says, as a graph of tasks with all defaults.

        Raises:
            InvalidDocument: the document has faults; the error lists them all.
        """
        return parse(document, self._core.limits)

    async def save_definition(self, document: Mapping[str, Any]) -> SavedDefinition:
        """Save a workflow under its id. Changed content becomes a new revision; the same content changes nothing.

        Runs that have begun keep the revision that they began with.

        Args:
            document: the document, as JSON values.

        Returns:
            what is saved under the id now.

        Raises:
            InvalidDocument: the document has faults; the error lists them all.
            NotReady: too many callers save this workflow at once.
            StoreFull: there is no room for new work.
        """
        definition = self.validate(document)
        for _ in range(RACES_MAX):
            before, displaced = self._read(functools.partial(_before, definition=definition))
            if before.row is not None and before.row.definition_key == definition.digest:
                return before.row
            saved = definition_rows.saved_as(definition, before.row, self._core.clock.now())
            try:
                await self._core.addresses.journal.commit(
                    Submission(
                        expects=(DEFINITIONS.expect(definition.workflow_id, before.version),),
                        writes=(DEFINITIONS.put(saved), REVISIONS.put(definition_rows.revision(definition))),
                        new_work=True,
                    )
                    + displaced
                )
            except Superseded:
                continue
            return saved
        raise NotReady(f"workflow {definition.workflow_id!r} is being saved by too many at once", retry_after_s=1.0)

    def definition(self, workflow_id: str) -> tuple[SavedDefinition, Definition]:
        """Return what is saved under a workflow id. The document is a copy, which may be changed and saved again.

        Args:
            workflow_id: the workflow.

        Returns:
            the id's newest revision, and its definition, with the document as `document`.

        Raises:
            DefinitionNotFound: nothing is saved under it.
        """

        def read(view: Snapshot) -> tuple[SavedDefinition, Definition]:
            saved = DEFINITIONS.read(view, workflow_id).row
            if saved is None:
                raise DefinitionNotFound(workflow_id)
            found = self._core.library.find(view, saved.definition_key)
            return saved, evolve(found, document=deep_copy(found.document))

        return self._read(read)

    def definitions(self, *, limit: int = 100, cursor: str | None = None) -> Page[SavedDefinition]:
        """Return a page of the saved workflow definitions, by id.

        Args:
            limit: the most definitions to return, from 1 to 500.
            cursor: `next_cursor` of the page before.

        Raises:
            InvalidDocument: the limit is not from 1 to 500.
        """
        return self._read(lambda view: views.saved_definitions(view, limit=limit, cursor=cursor))

    async def delete_definition(self, workflow_id: str) -> None:
        """Delete a saved workflow: no new run of it can be triggered by its id. Its runs go on and keep their content.

        A task of another workflow that starts a run of it fails from then on, as `workflow_not_found`.

        Args:
            workflow_id: the workflow.

        Raises:
            DefinitionNotFound: nothing is saved under this id.
            DefinitionInUse: a schedule starts runs of it; a schedule that is over does not count.
            NotReady: too many callers change this workflow at once.
        """
        check_is_text(workflow_id, "a string as an id")
        for _ in range(RACES_MAX):
            before = self._read(lambda view: definition_rows.standing(view, workflow_id))
            saved = before.saved.row
            if saved is None:
                raise DefinitionNotFound(workflow_id)
            started_by = await self._schedules_of(workflow_id)
            if started_by:
                raise DefinitionInUse(workflow_id, started_by)
            submission = self._read(functools.partial(definition_rows.deleted, saved=saved, before=before))
            try:
                await self._core.addresses.journal.commit(submission)
            except Superseded:
                continue
            return
        raise NotReady(f"workflow {workflow_id!r} is being changed by too many at once", retry_after_s=1.0)

    async def _schedules_of(self, workflow_id: str) -> tuple[str, ...]:
        """Return schedules that start runs of a workflow: those of the first part of the table that has any."""
        after: str | None = None
        while True:
            look = functools.partial(definition_rows.starters, workflow_id=workflow_id, after=after)
            found = self._read(look)
            after = found.after
            if found.schedule_ids or after is None:
                return found.schedule_ids
            await trio.lowlevel.checkpoint()


def _before(view: Snapshot, definition: Definition) -> tuple[Versioned[SavedDefinition], Submission]:
    """Read what is saved under a workflow's id, and the removal of its content once this definition displaces it."""
    before = DEFINITIONS.read(view, definition.workflow_id)
    if before.row is None or before.row.definition_key == definition.digest:
        return before, Submission()
    return before, definition_rows.without_content(view, before.row.definition_key)
