"""One call of the HTTP contract, its repetition while the server is away, and its errors.

Errors::

    ClientError
    ├── Unreachable      no answer: the connection was refused or broke, or the answer was unreadable or too late
    └── ProblemError     the server answered with a problem document
        └── StaleAttempt     the call is about an attempt that is over
"""

import ipaddress
import math
import random
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import anyio
import attrs
import httpx

from opscore.actors.backoff import Backoff
from opscore.runtime import errors

JsonObject = dict[str, Any]

TOO_MANY_REQUESTS = 429
PASSING = frozenset({TOO_MANY_REQUESTS, 502, 503, 504})
"""Statuses that say "not now": the same call may succeed later."""
WAIT_S_MAX = 60.0
"""How long a server holds a call that waits, at most, in seconds."""
KEPT_MAX = 20
"""How many connections are kept open between calls."""
IN_DOUBT = frozenset({"commit_uncertain", "commit_unanswered", "guest_closed", "guest_ended", "stopped", "unavailable"})
"""Codes of a 503 after which the call may have taken effect: the server does not know."""
STALE = "stale_attempt"
"""The code of a call about an attempt that is over."""
STORE_FULL = "store_full"
"""The code of a call for which the store has no room; it has no effect."""
ANSWER_TEXT_MAX = 300
"""How many characters are kept of an answer that is no problem document, such as a proxy's page."""


class ClientError(Exception):
    """A call that failed."""


class Unreachable(ClientError):
    """No answer came from the server.

    Attributes:
        url: The URL of the call.
        sent: Whether the server may have received the call before the connection ended.
    """

    def __init__(self, *, url: str, sent: bool, cause: Exception) -> None:
        self.url = url
        self.sent = sent
        reason = str(cause) or type(cause).__name__
        super().__init__(f"{url} gave no answer ({reason}); is the server up?")


class ProblemError(ClientError):
    """The server refused the call and said why.

    Attributes:
        status: The HTTP status.
        code: The problem's stable name, such as `agent_not_found`.
        title: The problem in a few words.
        detail: The problem in a sentence.
        errors: For a 422, each fault of the document as `{"path", "message"}`.
        retry_after_s: How long the server asks to wait, in seconds; None if it does not.
    """

    def __init__(
        self,
        *,
        status: int,
        code: str,
        title: str,
        detail: str,
        errors: tuple[JsonObject, ...] = (),
        retry_after_s: float | None = None,
    ) -> None:
        self.status = status
        self.code = code
        self.title = title
        self.detail = detail
        self.errors = errors
        self.retry_after_s = retry_after_s
        faults = "".join(f"; {fault.get('path', '')}: {fault.get('message', '')}" for fault in errors)
        # Not by `super`, which in `StaleAttempt` is the runtime's error, with arguments of its own.
        Exception.__init__(self, f"{status} {code}: {detail or title}{faults}")


class StaleAttempt(ProblemError, errors.StaleAttempt):
    """The call is about an attempt that is over (409): it ended, timed out, was lost or was taken back.

    It is also the error of an embedded runtime, so a function that is called by either handles one error.

    Attributes:
        task_id: The task.
        attempt: The attempt's number.
    """

    def __init__(self, *, task_id: str, attempt: int, **said: Any) -> None:
        ProblemError.__init__(self, **said)
        self.task_id = task_id
        self.attempt = attempt


@attrs.frozen(kw_only=True)
class Call:
    """One request, before it is sent."""

    method: str
    path: str
    body: bytes | None = None
    params: Mapping[str, str | list[str]] = attrs.field(factory=dict)
    headers: Mapping[str, str] | Callable[[], Mapping[str, str]] = attrs.field(factory=dict)
    """A function is called for each repetition."""
    wait_s: float = 0.0
    """How long the server may hold the call, in seconds, in addition to the client's timeout."""
    attempt: tuple[str, int] | None = None
    """The task and the number of the attempt that the call is about, if it is about one."""
    repeatable: bool = True
    outlasts_full_store: bool = False
    """Whether it is repeated while the store is full, because nobody but the agent can report on its work."""


class Caller:
    """Sends calls to one server, and repeats them where that is allowed and may help.

    Args:
        base_url: Such as `http://127.0.0.1:8080`.
        api_key: Sent as a bearer token, without space around it.
        timeout_s: How long an answer may take, in seconds; a call's own wait is added to it.
        retry_for_s: How long a call is repeated while the server is away or says "not now", in seconds from its first
            failure; 0 for not at all.
        backoff: The pauses between repetitions.
        on_retry: Called with each failure that will be retried, and the pause before the retry in seconds.
        transport: Another way to reach the server, such as `httpx.ASGITransport`.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        *,
        timeout_s: float,
        retry_for_s: float,
        backoff: Backoff,
        on_retry: Callable[[ClientError, float], None] | None,
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        if urlsplit(base_url).scheme not in {"http", "https"}:
            raise ValueError(f"{base_url!r} is not the address of a server; it has to begin with http:// or https://")
        self._timeout_s = timeout_s
        self._retry_for_s = retry_for_s
        self._backoff = backoff
        self._on_retry = on_retry
        self._random = random.Random()
        self._http = httpx.AsyncClient(
            base_url=base_url,
            headers=_authorization(api_key or ""),
            transport=transport,
            # No limit of connections: a heartbeat must not queue behind claims that wait at the server.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=KEPT_MAX),
            # A proxy that the environment sets for the outside world can't reach servers on this machine.
            trust_env=not _is_loopback(base_url),
        )

    async def aclose(self) -> None:
        """Close the connection pool."""
        await self._http.aclose()

    async def document(self, call: Call) -> JsonObject:
        """Send a call and read its answer as a JSON object."""
        return read_object(await self.answer(call))

    async def answer(self, call: Call) -> httpx.Response:
        """Send a call until it succeeds, fails for good, or `retry_for_s` has passed since its first failure.

        Raises:
            ClientError: the last failure.
        """
        give_up_at = math.inf
        failures, taken = 0, False
        while True:
            try:
                return await self._once(call)
            except ClientError as error:
                if call.method == "DELETE" and taken and _is_missing(error):
                    # It is gone: an earlier request of this call, whose answer was lost, most likely deleted it.
                    return httpx.Response(httpx.codes.NO_CONTENT)
                failures, taken = failures + 1, taken or may_be_taken(error)
                now = anyio.current_time()
                if failures == 1:
                    # Not from the call's start: until then a claim may have waited at the server, as it was asked to.
                    give_up_at = now + self._retry_for_s
                delay_s = self._backoff.delay_s(failures, self._random)
                if isinstance(error, ProblemError) and error.retry_after_s is not None:
                    delay_s = max(delay_s, error.retry_after_s)
                if not self._retry_for_s or not may_repeat(call, error) or now + delay_s > give_up_at:
                    raise
                if self._on_retry is not None:
                    self._on_retry(error, delay_s)
            await anyio.sleep(delay_s)

    async def _once(self, call: Call) -> httpx.Response:
        content = {} if call.body is None else {"Content-Type": "application/json"}
        headers = call.headers() if callable(call.headers) else call.headers
        try:
            request = self._http.build_request(
                call.method,
                call.path,
                content=call.body,
                params=dict(call.params) or None,
                headers={**content, **headers},
                timeout=httpx.Timeout(self._timeout_s, read=self._timeout_s + min(call.wait_s, WAIT_S_MAX)),
            )
            if call.body is not None:
                request.stream = _Whole(call.body)
            response = await self._http.send(request)
        except httpx.RequestError as error:
            sent = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
            url = f"{self._http.base_url}".rstrip("/") + call.path
            raise Unreachable(url=url, sent=sent, cause=error) from error
        if response.is_success:
            return response
        raise problem(response, call)


class _Whole(httpx.AsyncByteStream):
    """A body that is sent in one piece.

    That of httpx is an async generator. If a call is cancelled while its body is sent, trio warns that the generator
    was not exhausted.
    """

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._pieces = iter((body,))

    def __aiter__(self) -> AsyncIterator[bytes]:
        self._pieces = iter((self._body,))
        return self

    async def __anext__(self) -> bytes:
        for piece in self._pieces:
            return piece
        raise StopAsyncIteration


def may_repeat(call: Call, error: ClientError) -> bool:
    """Whether repeating a failed call does no harm and may succeed."""
    full = isinstance(error, ProblemError) and error.code == STORE_FULL
    has_a_chance = not isinstance(error, ProblemError) or error.status in PASSING or (full and call.outlasts_full_store)
    return has_a_chance and (call.repeatable or not may_be_taken(error))


def may_be_taken(error: ClientError) -> bool:
    """Whether a call that failed in this way may still have had its effect."""
    match error:
        case Unreachable():
            return error.sent
        case ProblemError():
            # A gateway in front of the server (502, 504) may have passed the call on.
            not_now = error.status in {TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE}
            return error.status in PASSING and (not not_now or error.code in IN_DOUBT)
        case _:
            return True


def _is_missing(error: ClientError) -> bool:
    return isinstance(error, ProblemError) and error.status == httpx.codes.NOT_FOUND


def problem(response: httpx.Response, call: Call) -> ProblemError:
    """Make an error of an answer to a call, whether opscore or a proxy wrote it."""
    try:
        document = response.json()
    except ValueError:
        document = None
    if not isinstance(document, dict):
        document = {"detail": response.text[:ANSWER_TEXT_MAX]}
    faults = document.get("errors")
    try:
        retry_after_s = float(response.headers["Retry-After"])
    except (KeyError, ValueError):
        retry_after_s = None
    code = str(document.get("code", f"http_{response.status_code}"))
    said: dict[str, Any] = {
        "status": response.status_code,
        "code": code,
        "title": str(document.get("title", response.reason_phrase)),
        "detail": str(document.get("detail", "")),
        "errors": tuple(fault for fault in faults if isinstance(fault, dict)) if isinstance(faults, list) else (),
        "retry_after_s": retry_after_s,
    }
    if code == STALE and call.attempt is not None:
        task_id, attempt = call.attempt
        return StaleAttempt(task_id=task_id, attempt=attempt, **said)
    return ProblemError(**said)


def read_object(response: httpx.Response) -> JsonObject:
    """Read an answer that has to be a JSON object.

    Raises:
        ProblemError: it is not.
    """
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        # A success without a document means that something other than opscore answered.
        raise ProblemError(
            status=response.status_code,
            code="not_opscore",
            title="Unexpected answer",
            detail=f"the answer of {response.url} is not a JSON object; is it an opscore server?",
        )
    return answer


def _authorization(api_key: str) -> dict[str, str]:
    """The header with the key, without the line break that a key read from a file may have.

    Raises:
        ValueError: no header can carry the key. The message leaves it out, because errors are logged.
    """
    key = api_key.strip()
    if not (key.isascii() and key.isprintable()):
        raise ValueError("the API key is not valid: it has characters that are not printable ASCII")
    return {"Authorization": f"Bearer {key}"} if key else {}


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
