"""The answers to requests that succeed."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, TypeVar

from starlette.responses import Response

from opscore.runtime import codec
from opscore.runtime.views import Page

T = TypeVar("T")


def shown(document: Any, status: int = HTTPStatus.OK) -> Response:
    """Answer with a document. Runs may take megabytes and encoding blocks the event loop, hence the fast encoder."""
    return Response(codec.encode_shown(document), status_code=status, media_type="application/json")


def accepted(document: Any) -> Response:
    """Answer 202: the request is durable, and will be carried out."""
    return shown(document, HTTPStatus.ACCEPTED)


def created(document: Any) -> Response:
    """Answer 201: the object that was sent now exists."""
    return shown(document, HTTPStatus.CREATED)


def no_content() -> Response:
    """Answer 204."""
    return Response(status_code=HTTPStatus.NO_CONTENT)


def page(found: Page[T], show: Callable[[T], Any]) -> Response:
    """Answer with one page of a listing."""
    return shown({"items": [show(item) for item in found.items], "nextCursor": found.next_cursor})
