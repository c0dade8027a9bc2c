"""HTTP requests to peers, which push an attempt or fetch a document, with outcomes as transport facts.

Each push has a connection of its own. If a kept connection breaks, it is unknown whether the peer had closed it before
or broke it after taking the request, and that would cost the task a minute of waiting.
"""

import contextlib
import email.utils
import json
import logging
import time
from collections.abc import AsyncIterator, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final

import attrs
import httpx
import trio

from opscore.runtime.delivery import Answered, Broken, Fact, NotReached
from opscore.runtime.models import Assignment

ANSWER_BYTES_MAX: Final = 1024 * 1024
CONNECT_TIMEOUT_S: Final = 5.0
SENDER_ID: Final = "opscore_system_id"
_PLAIN: Final = "identity"

_log = logging.getLogger("opscore.outbound")


def open_client() -> httpx.AsyncClient:
    """Make a client that follows no redirects, keeps no connections and cookies, and reads no proxy settings."""
    return httpx.AsyncClient(
        follow_redirects=False,
        trust_env=False,
        transport=_OwnConnection(),
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
    )


class _OwnConnection(httpx.AsyncBaseTransport):
    """A transport with a connection for each request and no limit on them: there are no more deliveries than agents.

    A shared pool would check all of its connections whenever one opens or closes, which with thousands of slow agents
    takes all of the processor. And a push that had to queue would make its agent suspected.
    """

    def __init__(self) -> None:
        self._tls = httpx.create_ssl_context(trust_env=False)
        self._limits = httpx.Limits(max_connections=1, max_keepalive_connections=0)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        transport = httpx.AsyncHTTPTransport(verify=self._tls, trust_env=False, limits=self._limits)
        # The connection closes with the response; if there is none, it has closed already.
        return await transport.handle_async_request(request)


def run_message(assignment: Assignment) -> dict[str, Any]:
    """The body of AgentKit's `/run`, and of direct pushes.

    AgentKit forwards only the top-level fields that it knows, so the payload names the attempt as well.
    """
    parameters = assignment.parameters
    if assignment.tool:
        called = {"tool_name": parameters["tool"], "arguments": parameters.get("arguments", {})}
        return _message(assignment, "tool_invocation", called)
    payload = {"input": assignment.input, **parameters} if assignment.input is not None else dict(parameters)
    named = {"task_name": assignment.name, "task_parameters": parameters}
    return _message(assignment, "workflow_task", {**payload, **named})


def _message(assignment: Assignment, kind: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "senderId": SENDER_ID,
        "messageType": kind,
        "payload": {
            **payload,
            "opscore_task_id": assignment.task_id,
            "opscore_attempt": assignment.attempt,
        },
        "sessionContext": {
            "workflowId": assignment.workflow_id,
            "sessionId": assignment.session_id,
            "taskId": assignment.task_id,
        },
        "task_name": assignment.name,
        "opscore_session_id": assignment.session_id,
        "opscore_task_id": assignment.task_id,
        "opscore_attempt": assignment.attempt,
    }


def answers_within_s(assignment: Assignment, timeout_s: float) -> float:
    """How long the answer to an attempt may take, in seconds; a tool answers with its result, within its timeout."""
    return assignment.timeout_s if assignment.tool else timeout_s


async def post(
    client: httpx.AsyncClient,
    url: str,
    document: Mapping[str, Any],
    *,
    timeout_s: float,
    headers: Mapping[str, str] | None = None,
    extensions: Mapping[str, Any] | None = None,
) -> Fact:
    """Send a document and return what happened. Raises nothing but cancellation."""
    more = {"json": document, "extensions": dict(extensions or {})}
    response = await _answer(client, "POST", url, timeout_s=timeout_s, headers=headers or {}, **more)
    if not isinstance(response, httpx.Response):
        return response
    async with _closing(response):
        body = await _body(response, timeout_s, ANSWER_BYTES_MAX)
    read, cut_off = ("", body.reason) if isinstance(body, Broken) else (_decoded(body), None)
    if cut_off is not None and response.is_success:
        # The agent has the attempt, and its answer may have had the result. Without this line in the log nobody would
        # know why the result never came.
        task_id, attempt = document.get("opscore_task_id"), document.get("opscore_attempt")
        said = "the answer %d to task %s attempt %s counts only as receipt: %s"
        _log.warning(said, response.status_code, task_id, attempt, cut_off)
    return Answered(status=response.status_code, body=read, cut_off=cut_off, retry_after_s=_retry_after_s(response))


@attrs.frozen(kw_only=True)
class Got:
    """The peer answered; the body is read only if the status is 200."""

    status: int
    body: bytes = b""


async def get(client: httpx.AsyncClient, url: str, *, timeout_s: float, bytes_max: int) -> Got | NotReached | Broken:
    """Fetch a document, whole or not at all, and return what happened. Raises nothing but cancellation."""
    response = await _answer(client, "GET", url, timeout_s=timeout_s, headers={})
    if not isinstance(response, httpx.Response):
        return response
    async with _closing(response):
        if response.status_code != httpx.codes.OK:
            return Got(status=response.status_code)
        body = await _body(response, timeout_s, bytes_max)
    return body if isinstance(body, Broken) else Got(status=response.status_code, body=body)


async def _answer(
    client: httpx.AsyncClient, method: str, url: str, *, timeout_s: float, headers: Mapping[str, str], **more: Any
) -> httpx.Response | NotReached | Broken:
    """Send a request, and read the head of its answer; the caller has to close a response."""
    timeout = httpx.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s), pool=None)
    try:
        request = client.build_request(
            method, url, headers={"Accept-Encoding": _PLAIN, **headers}, timeout=timeout, **more
        )
    except Exception as error:  # noqa: BLE001 (httpx refuses what it can't encode in more ways than it documents)
        return NotReached(reason=_said(error))
    with trio.move_on_after(timeout_s + CONNECT_TIMEOUT_S):
        try:
            return await client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol) as error:
            return NotReached(reason=_said(error))
        except Exception as error:  # noqa: BLE001 (whatever went wrong, the peer may have the request by then)
            return Broken(reason=_said(error))
    return Broken(reason=f"no answer within {timeout_s:g} s")


@contextlib.asynccontextmanager
async def _closing(response: httpx.Response) -> AsyncIterator[None]:
    """Close a response in the end, and let go of it.

    Its stream refers back to it. Without that it is freed at once, with its connection and all that was sent and
    read, and not as garbage some day: thousands of pushes later, each with a payload of up to 256 KiB.
    """
    try:
        async with contextlib.aclosing(response):
            yield
    finally:
        del response.stream


async def _body(response: httpx.Response, timeout_s: float, bytes_max: int) -> bytes | Broken:
    """Read the body, within a size and a time.

    An encoded body is refused, because a few bytes can unpack into gigabytes, and the request asked for a plain one.
    """
    if response.headers.get("content-encoding", _PLAIN).strip().lower() not in ("", _PLAIN):
        return Broken(reason="its answer is encoded, although a plain one was requested")
    body, too_large = bytearray(), Broken(reason=f"its answer has more than {bytes_max:,} bytes")
    with trio.move_on_after(timeout_s):
        try:
            async for chunk in response.aiter_raw():
                body += chunk
                # One read may bring thousands of small chunks, and handling them would never yield to other tasks.
                # It is shielded, because cancellation here would leave httpx's generators open, as below.
                await trio.lowlevel.cancel_shielded_checkpoint()
                if len(body) > bytes_max:
                    # Not `return`, which would leave httpx's inner generators open. After closing, the next read fails.
                    await response.aclose()
        except (httpx.HTTPError, httpx.StreamError) as error:
            return too_large if len(body) > bytes_max else Broken(reason=_said(error))
        return too_large if len(body) > bytes_max else bytes(body)
    return Broken(reason=f"its answer was not complete within {timeout_s:g} s")


def _decoded(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body.decode(errors="replace")


def _retry_after_s(response: httpx.Response) -> float | None:
    """Read `Retry-After`: seconds, or a date."""
    text = response.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
