"""The answers that are no problems."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, TypeVar

from starlette.responses import Response

from opscore.runtime import codec
from opscore.runtime.views import Page

T = TypeVar("T")


def shown(document: Any, status: int = HTTPStatus.OK) -> Response:
    """Answer with a document; a run with its tasks can take megabytes, and nothing else goes on while it is written."""
    return Response(codec.encode_shown(document), status_code=status, media_type="application/json")


def accepted(document: Any) -> Response:
    """What was asked is durable, and will be done."""
    return shown(document, HTTPStatus.ACCEPTED)


def created(document: Any) -> Response:
    """What was sent now exists."""
    return shown(document, HTTPStatus.CREATED)


def no_content() -> Response:
    """Nothing to say."""
    return Response(status_code=HTTPStatus.NO_CONTENT)


def page(found: Page[T], show: Callable[[T], Any]) -> Response:
    """Answer with one page of a listing."""
    return shown({"items": [show(item) for item in found.items], "nextCursor": found.next_cursor})
