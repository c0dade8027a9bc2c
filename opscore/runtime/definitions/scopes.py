"""The names that a run's expressions can read: input, tasks, the current item, the session, the error."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from opscore.runtime.definitions.definition import Definition, Role, TaskDefinition
from opscore.runtime.models import Failure, Session, Task, TaskStatus


@attrs.frozen(kw_only=True)
class Standing:
    """A run as its expressions see it.

    Args:
        session: the run.
        definition: its definition.
        tasks: its tasks, in the order of the definition.
        items: the items that each `forEach` task has begun so far, by the task's ordinal.
        results: a cache of the results of completed `forEach` tasks, because each item of the next list may read the
            whole list before.
    """

    session: Session
    definition: Definition
    tasks: Sequence[Task]
    items: Mapping[int, Sequence[Task]]
    results: dict[int, list[Any]] = attrs.field(factory=dict, eq=False, repr=False)

    def scope(self, keys: Iterable[str], task: Task | None = None) -> dict[str, Any]:
        """Return the values of the names that an expression may read.

        Args:
            keys: the ids, in the definition, of the tasks that it reads.
            task: the task for which it is evaluated, if it is for one.
        """
        found: dict[str, Any] = {
            "input": self.session.payload,
            "tasks": {key: self._seen(key) for key in keys},
            "session": {
                "id": self.session.session_id,
                "workflowId": self.session.workflow_id,
                "agentId": self.session.agent_id,
                "createdAt": self.session.created_at,
            },
        }
        if task is not None and task.item is not None:
            found |= {"item": (self.tasks[task.ordinal].items or [])[task.item], "index": task.item}
        if task is not None and self.definition.tasks[task.ordinal].role is not Role.STEP:
            about = self._failure_for(self.definition.tasks[task.ordinal])
            # Handlers may read both fields however the run ended; in a cancelled run they are null.
            found["error"] = _shown(about) or {"message": None, "code": None}
        return found

    def _seen(self, key: str) -> dict[str, Any]:
        task = self.tasks[self.definition.by_key[key].ordinal]
        return {"result": self.result_of(key), "status": str(task.status), "error": _shown(task.error)}

    def _failure_for(self, handler: TaskDefinition) -> Failure | None:
        """Return the failure that a handler is called for: that of its step, or else that of the run."""
        if handler.role is Role.FALLBACK:
            step = next(step for step in self.definition.steps if step.fallback == handler.key)
            return self.tasks[step.ordinal].error
        return self.session.error

    def result_of(self, key: str) -> Any:
        """Return a step's result: if it failed, that of its fallback; for `forEach`, those of its items in order."""
        definition = self.definition.by_key[key]
        task = self.tasks[definition.ordinal]
        if task.status is TaskStatus.FAILED and definition.fallback is not None:
            return self.result_of(definition.fallback)
        if task.items is not None and task.status is TaskStatus.COMPLETED:
            found = self.results.get(definition.ordinal)
            if found is None:
                found = [item.result for item in self.items.get(definition.ordinal, ())]
                self.results[definition.ordinal] = found
            return found
        return task.result

    def gathered(self) -> dict[str, Any]:
        """Return the results of the steps that no other step waits for, by id, without those that were skipped."""
        return {step.key: self.result_of(step.key) for step in self._last()}

    def _last(self) -> Iterator[TaskDefinition]:
        for step in sorted(self.definition.steps, key=lambda step: step.ordinal):
            skipped = self.tasks[step.ordinal].status is TaskStatus.SKIPPED
            if not self.definition.dependents[step.key] and not skipped:
                yield step


def _shown(failure: Failure | None) -> dict[str, str] | None:
    return None if failure is None else {"message": failure.message, "code": failure.code}


def standing_of(session: Session, definition: Definition, rows: Iterable[Task]) -> Standing:
    """Return a run as its expressions see it, from its rows."""
    tasks, items = apart(rows)
    return Standing(session=session, definition=definition, tasks=tasks, items=items)


def apart(rows: Iterable[Task]) -> tuple[tuple[Task, ...], dict[int, tuple[Task, ...]]]:
    """Separate a run's tasks from the items of its lists, which are returned by the ordinals of their tasks.

    Args:
        rows: both, in the order of the definition and of the lists.
    """
    tasks: list[Task] = []
    items: dict[int, list[Task]] = {}
    for task in rows:
        (tasks if task.item is None else items.setdefault(task.ordinal, [])).append(task)
    return tuple(tasks), {ordinal: tuple(line) for ordinal, line in items.items()}
