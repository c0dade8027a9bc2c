"""Every error that the runtime or the actors raise on purpose has its row in the table of problems."""

import importlib
import inspect
import json
import pkgutil
from typing import Any

import pytest
from starlette.responses import Response

import opscore.actors
import opscore.gateway
import opscore.runtime
from opscore.actors.errors import (
    ActorError,
    ActorFailed,
    ActorRestarted,
    ActorStopped,
    AskCycle,
    AskTimeout,
    MailboxFull,
    NameTaken,
    NurseryLeftOpen,
    StartFailed,
    StashFull,
    SystemFailed,
)
from opscore.gateway.wire import problems
from opscore.gateway.wire.problems import HttpRefusal
from opscore.runtime import errors
from opscore.runtime.errors import Fault, OpscoreError
from opscore.runtime.hosting import GuestClosed, GuestEnded

CAUSE = ValueError("the cause")
EXAMPLES: list[tuple[Exception, int, str]] = [
    (OpscoreError("any"), 500, "error"),
    (errors.Refusal("refused"), 400, "refused"),
    (errors.NotFound("x"), 404, "not_found"),
    (errors.AgentNotFound("x"), 404, "agent_not_found"),
    (errors.SessionNotFound("x"), 404, "session_not_found"),
    (errors.TaskNotFound("x"), 404, "task_not_found"),
    (errors.DefinitionNotFound("x"), 404, "definition_not_found"),
    (errors.ScheduleNotFound("x"), 404, "schedule_not_found"),
    (errors.DeadLetterNotFound("x"), 404, "dead_letter_not_found"),
    (errors.Conflict("conflict"), 409, "conflict"),
    (errors.StaleAttempt("x", 1, "over"), 409, "stale_attempt"),
    (errors.IdempotencyConflict("k"), 409, "idempotency_key_reused"),
    (errors.SessionConflict("s", "it is failed"), 409, "session_conflict"),
    (errors.ScheduleExists("x"), 409, "schedule_exists"),
    (errors.InvalidDocument("request", (Fault(path="a", message="b"),)), 422, "validation_failed"),
    (errors.LimitExceeded("tasks_max", 1, 2), 422, "limit_exceeded"),
    (errors.ExpressionInvalid("unexpected ')'", position=3), 422, "expression_invalid"),
    (errors.ExpressionFailed("input has no field 'n'"), 422, "expression_failed"),
    (errors.ExpressionExhausted("it takes too many steps"), 422, "expression_exhausted"),
    (errors.Unavailable("later", retry_after_s=1.2), 503, "unavailable"),
    (errors.NotReady("draining", retry_after_s=7.0), 503, "not_ready"),
    (errors.QueueFull(5), 503, "queue_full"),
    (errors.Superseded("agents", "x"), 503, "superseded"),
    (errors.StoreError("broken"), 500, "store_error"),
    (errors.StoreLocked("data", "another"), 500, "store_locked"),
    (errors.SameNumber("data", 1), 500, "store_locked"),
    (errors.StoreFull("data", "disk"), 507, "store_full"),
    (errors.StoreDamaged("a value", "bits"), 500, "store_damaged"),
    (errors.StoreIncompatible("data", "newer"), 500, "store_incompatible"),
    (errors.StoreReadOnly("data", "Read-only file system"), 503, "store_read_only"),
    (errors.TransferError("line 3 is not part of a complete export"), 500, "transfer_error"),
    (errors.RecordsGone(after=1, oldest=7), 410, "records_gone"),
    (errors.CommitUnanswered("the disk has not answered"), 503, "commit_unanswered"),
    (errors.CommitUncertain("data", "sync"), 503, "commit_uncertain"),
    (GuestClosed(begun=True), 503, "guest_closed"),
    (GuestEnded(), 503, "guest_ended"),
    (ActorError("any"), 503, "unavailable"),
    (MailboxFull("a/b", "message"), 503, "unavailable"),
    (StashFull("a/b", "message"), 503, "unavailable"),
    (NameTaken("name", "a/b"), 503, "unavailable"),
    (NurseryLeftOpen("a/b", CAUSE), 503, "unavailable"),
    (AskTimeout("a/b", "message", 1.0), 503, "unavailable"),
    (AskCycle(("a", "b", "a")), 503, "unavailable"),
    (ActorFailed("a/b", CAUSE), 503, "unavailable"),
    (ActorRestarted("a/b"), 503, "unavailable"),
    (ActorStopped("a/b"), 503, "unavailable"),
    (StartFailed("a/b", CAUSE), 503, "unavailable"),
    (SystemFailed(CAUSE), 503, "unavailable"),
]


def every_error() -> set[type[Exception]]:
    """All error classes of the layers below, wherever they are written."""
    found: set[type[Exception]] = set()
    for package in (opscore.actors, opscore.runtime):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            for _, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
                if issubclass(kind, OpscoreError | ActorError):
                    found.add(kind)
    return found


def document(response: Response | None) -> dict[str, Any]:
    assert response is not None
    return dict(json.loads(bytes(response.body)))


def test_every_error_class_is_tried_here() -> None:
    assert {type(error) for error, _, _ in EXAMPLES} == every_error()


@pytest.mark.parametrize(("error", "status", "code"), EXAMPLES, ids=[type(error).__name__ for error, _, _ in EXAMPLES])
def test_every_error_becomes_a_problem(error: Exception, status: int, code: str) -> None:
    response = problems.answer(error)
    told = document(response)
    assert response is not None
    assert response.headers["content-type"] == "application/problem+json"
    assert (response.status_code, told["status"], told["code"], told["type"]) == (status, status, code, "about:blank")
    assert told["detail"].endswith(".")
    assert ("retry-after" in response.headers) == (status == 503)


def test_the_wait_that_an_error_proposes_is_told_in_whole_seconds() -> None:
    response = problems.answer(errors.NotReady("draining", retry_after_s=1.2))
    assert response is not None
    assert response.headers["retry-after"] == "2"


def test_faults_are_told_each_with_its_path() -> None:
    several = tuple(Fault(path=f"tasks[{index}]", message="wrong") for index in range(5))
    told = document(problems.answer(errors.InvalidDocument("workflow", several)))
    assert told["errors"] == [{"path": f"tasks[{index}]", "message": "wrong"} for index in range(5)]


def test_what_an_actor_died_of_stays_inside() -> None:
    assert "the cause" not in document(problems.answer(ActorFailed("a/b", CAUSE)))["detail"]


def test_a_refusal_of_the_gateway_keeps_its_headers() -> None:
    response = problems.answer(HttpRefusal(401, "unauthorized", "No key.", headers={"WWW-Authenticate": "Bearer"}))
    assert response is not None
    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize("error", [ValueError("a bug"), KeyError("a bug"), ExceptionGroup("bugs", [CAUSE])])
def test_a_bug_is_no_problem_of_the_table(error: Exception) -> None:
    assert problems.answer(error) is None


def test_the_table_names_no_class_twice_over() -> None:
    needless = [
        kind.__name__
        for kind, status in problems.STATUSES.items()
        for base in kind.__mro__[1:]
        if base in problems.STATUSES and problems.STATUSES[base] == status and base is not Exception
    ]
    assert needless == []
