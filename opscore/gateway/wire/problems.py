"""How errors become HTTP: one table of statuses, and the one format of error answers.

Each row is an error class of the runtime or the gateway with its status; the most specific class counts. A test
proves that no error is missing here.
"""

import math
from http import HTTPStatus
from typing import Any, Final

from starlette.responses import Response

from opscore.actors.errors import ActorError
from opscore.runtime import codec, errors
from opscore.runtime.hosting import GuestClosed, GuestEnded

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 5.0

STATUSES: Final[dict[type[Exception], int]] = {
    errors.OpscoreError: 500,
    errors.Refusal: 400,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.InvalidDocument: 422,
    errors.LimitExceeded: 422,
    errors.ExpressionInvalid: 422,
    errors.ExpressionFailed: 422,
    errors.Unavailable: 503,
    errors.Superseded: 503,
    errors.StoreFull: 507,
    errors.StoreReadOnly: 503,
    errors.RecordsGone: 410,
    errors.CommitUnanswered: 503,
    errors.CommitUncertain: 503,
    GuestClosed: 503,
    GuestEnded: 503,
    ActorError: 503,
}
"""Subclasses that are not listed share their base's status."""


class HttpRefusal(Exception):
    """A request that the gateway itself refuses, before it calls the runtime."""

    def __init__(self, status: int, code: str, detail: str, *, headers: dict[str, str] | None = None) -> None:
        self.status = status
        self.code = code
        self.headers = headers or {}
        super().__init__(detail)


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    faults: tuple[errors.Fault, ...] = (),
    headers: dict[str, str] | None = None,
) -> Response:
    """Answer in problem+json."""
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
    }
    if faults:
        document["errors"] = [{"path": fault.path, "message": fault.message} for fault in faults]
    return Response(codec.encode_json(document), status_code=status, media_type=MEDIA_TYPE, headers=headers)


def answer(error: Exception) -> Response | None:
    """Answer for an error of the table; None for one that is not in it, which is a bug."""
    if isinstance(error, HttpRefusal):
        return problem(error.status, error.code, str(error), headers=error.headers)
    status = next((STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES), None)
    if status is None:
        return None
    code = error.code if isinstance(error, errors.OpscoreError) else "unavailable"
    detail = str(error) if isinstance(error, errors.OpscoreError) else "the server could not answer in time"
    faults = error.faults if isinstance(error, errors.InvalidDocument) else ()
    return problem(status, code, f"{detail}.", faults=faults, headers=_headers(error, status))


def _headers(error: Exception, status: int) -> dict[str, str]:
    if status != HTTPStatus.SERVICE_UNAVAILABLE:
        return {}
    seconds = error.retry_after_s if isinstance(error, errors.Unavailable) else RETRY_AFTER_S
    return {"Retry-After": str(math.ceil(seconds))}
