"""HTTP/1.1 with bounds: uvicorn's httptools protocol, which no client can block or fill.

uvicorn keeps a silent connection, reads a head of any length and answers what it cannot parse in plain text.
It also parses at once all that it has read, so a client that pipelines could fill the memory. This subclass bounds
heads in size and time; bodies, idle connections and unread answers in time; and connections, header fields and
pipelined requests in number. It refuses in problem+json (RFC 9457). `body_limit` bounds the size of bodies.
"""

import asyncio
import http
import json
from typing import Any, cast

import attrs
import httptools
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from opscore.gateway.server import offers
from opscore.gateway.server.flow import HeldFlow, WriteClock
from opscore.gateway.server.liveness import LivenessAlone


@attrs.frozen(kw_only=True)
class ServerLimits:
    """Limits on what clients may use of the server; times are in seconds.

    Attributes:
        connections_max: Connections served at once; any beyond get only the answer of `liveness_path`, or 503.
        refusals_max: Connections beyond those that still get an answer; any further ones are just closed.
        liveness_path: The path that is answered even on a connection too many.
        retry_after_s: The wait that such a 503 proposes.
        header_bytes_max: Size of request line and header fields together.
        header_fields_max: Header fields of one request; each takes far more memory than its bytes.
        pipelined_max: Requests that may wait on a connection while one is answered; at one more, the earlier
            ones are answered and the connection closes.
        waiting_bytes_max: Size of the requests that wait so, beyond which the connection is not read further. Until
            then the server notices its end, so that the open request learns that its client has left.
        request_head_timeout_s: From the connection, or a request's first byte, to the end of its head.
        request_body_timeout_s: From the end of the head to the end of the body.
        idle_timeout_s: Between one answer and the next request.
        write_timeout_s: How long a client may read nothing of an answer before it is cut off.
        linger_s: How long a refused client's connection is kept, so that the client can read the answer.
        drain_s: How long open requests may take to end once the server was told to stop.
    """

    connections_max: int = 10_000
    refusals_max: int = 100
    liveness_path: str = "/health"
    retry_after_s: int = 5
    header_bytes_max: int = 64 * 1024
    header_fields_max: int = 100
    pipelined_max: int = 32
    waiting_bytes_max: int = 64 * 1024
    request_head_timeout_s: float = 10.0
    request_body_timeout_s: float = 30.0
    idle_timeout_s: float = 60.0
    write_timeout_s: float = 30.0
    linger_s: float = 1.0
    drain_s: float = 10.0


@attrs.frozen(kw_only=True)
class Problem:
    """An answer in problem+json by the server itself, after which the connection closes."""

    status: int
    code: str
    detail: str
    retry_after_s: int | None = None

    def body(self) -> bytes:
        """Encode the document."""
        document = {
            "type": "about:blank",
            "title": http.HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }
        return json.dumps(document).encode()

    def headers(self, body: bytes) -> list[tuple[bytes, bytes]]:
        """Return the header fields for the body."""
        fields = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        if self.retry_after_s is not None:
            fields.append((b"retry-after", str(self.retry_after_s).encode()))
        return fields

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request with this problem, which is an ASGI application."""
        body = self.body()
        start = {"type": "http.response.start", "status": self.status, "headers": self.headers(body)}
        await send(start)
        await send({"type": "http.response.body", "body": body})


class BoundedConfig(uvicorn.Config):
    """uvicorn's configuration for this protocol: no logging set-up, no environment variables, only HTTP/1.1."""

    def __init__(self, app: ASGIApp, limits: ServerLimits) -> None:
        self.limits = limits
        super().__init__(
            app,
            http=BoundedProtocol,
            ws="none",
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=False,
            workers=1,
            proxy_headers=False,
            forwarded_allow_ips="",
            server_header=False,
        )


class BoundedProtocol(HttpToolsProtocol):
    """One connection. A timeout runs whenever the client has something to send."""

    def __init__(
        self,
        config: BoundedConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = config.limits
        # call_later accepts fractions of seconds; only uvicorn's annotation says whole ones.
        self.timeout_keep_alive = config.limits.idle_timeout_s  # type: ignore[assignment]
        self._refused = False
        self._head_refused = False
        self._head_again = b""  # The head to read again, without its offer of another protocol.
        self._answering: RequestResponseCycle | None = None
        # Bytes since the last byte of a body or the end of a message: those that the parser had to keep or skip.
        self._unframed_bytes = 0
        self._waiting_bytes = 0  # Bytes received since requests wait: never fewer than these take.
        self._head_timer: asyncio.TimerHandle | None = None
        self._body_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection, and start the timeout of its first request."""
        super().connection_made(transport)
        limits, self.flow = self._limits, HeldFlow(transport, self._holds_much)
        self._write_clock = WriteClock(transport, self.loop, limits.write_timeout_s)
        excess = len(self.connections) - limits.connections_max
        if excess > limits.refusals_max:
            transport.abort()
            return
        if excess > 0:
            detail = f"The server has as many connections as it accepts, {limits.connections_max:,}."
            wait_s = limits.retry_after_s
            refusal = Problem(status=503, code="too_many_connections", detail=detail, retry_after_s=wait_s)
            self.app = LivenessAlone(self.app, limits.liveness_path, refusal)
        self._arm_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection, and log if its client left before it was answered."""
        self._disarm_head_timer()
        self._disarm_body_timer()
        self._write_clock.stop()
        self._unset_keepalive_if_required()
        cycle = self._cycle_open()
        if cycle is not None and not cycle.disconnected:
            scope = cycle.scope
            self.logger.info("%s left before %s %s was answered", self.client, scope["method"], scope["path"])
        self.pipeline.clear()
        super().connection_lost(exc)
        # uvicorn notifies only the request that came last; the one being answered may be another.
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.message_event.set()
        # These refer back to the connection: without them it is freed now, with what it has read, instead of later by
        # the garbage collector. They are not needed any more, because the client of a request that still runs is gone.
        self.cycle = self.flow = self._answering = self._write_clock = None  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Parse the data, within bounds."""
        self._unframed_bytes += len(data)
        if not self._refused:
            self._parse(data)
            if self.pipeline:
                # uvicorn would read no further, and it would go unnoticed that the client of an open claim has left.
                self._waiting_bytes += len(data)
                self.flow.resume_reading()
            self._watch_client()
        elif self._unframed_bytes > 2 * self._limits.header_bytes_max:
            self.flow.pause_reading()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Accept a header field, unless there are too many."""
        if len(self.headers) >= self._limits.header_fields_max:
            self._head_refused = True
            raise _RefusedError
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Stop the timeout of the head, and check the head as a whole."""
        self._disarm_head_timer()
        if len(self.pipeline) >= self._limits.pipelined_max:
            raise _RefusedError
        if self._head_bytes() > self._limits.header_bytes_max:
            self._head_refused = True
            raise _RefusedError
        if self.parser.should_upgrade():
            if not offers.may_be_ignored(self.headers):
                detail = "This server speaks plain HTTP/1.1 and accepts no upgrade to another protocol."
                self.app = Problem(status=400, code="upgrade_refused", detail=detail)
            elif offers.has_body(self.headers):
                method, version = self.parser.get_method(), self.parser.get_http_version()
                self._head_again = offers.head_without(method, self.url, version, self.headers)
                return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Accept a part of the body."""
        self._unframed_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note the end of a request."""
        if self._head_again:
            return
        self._unframed_bytes = 0
        self._disarm_body_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Continue with the connection, or make sure that a closing one does close."""
        self._disarm_body_timer()
        super().on_response_complete()
        if self._is_free():
            self._write_clock.start()
        if not self.transport.is_closing():
            self._read_on()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection. While the client still reads an answer it is not idle, and `WriteClock` runs."""
        if self.transport.get_write_buffer_size():
            again = self.timeout_keep_alive_handler
            self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, again)
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        """Start the write timeout, because the client does not read."""
        super().pause_writing()
        self._write_clock.start()

    def resume_writing(self) -> None:
        """Stop that timeout if more is to be written, or begin the request that waited for the client to read."""
        super().resume_writing()
        if not self._is_free():
            self._write_clock.stop()
        elif self.pipeline and not self.transport.is_closing():
            self._start_asgi_task(*self.pipeline.pop())
            self._read_on()

    def _parse(self, data: bytes) -> None:
        # uvicorn would log a warning for each refusal without naming the client, and recommend libraries for upgrades,
        # which are left out on purpose.
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            detail = "What was sent is not an HTTP/1.1 request."
            malformed = Problem(status=400, code="malformed_request", detail=detail)
            problem = self._head_too_large() if self._head_refused else malformed
            self.logger.info("%s was refused: %s", self.client, problem.detail)
            self._refuse(problem)
        except httptools.HttpParserUpgrade as offer:
            # The parser stops after the head with the offer. If the offer is ignored, HTTP/1.1 continues from there.
            rest = data[offer.args[0] :]
            if self._head_again:
                head, self._head_again = self._head_again, b""
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # As uvicorn does.
                self._parse(head)
            if rest and not self._refused and not isinstance(self.app, Problem):
                self._parse(rest)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        if self.flow.write_paused:
            # The server does not work for a client that does not read its answers, until it does.
            self.pipeline.append((cycle, app))
            return
        self._answering = cycle
        self._write_clock.stop()
        super()._start_asgi_task(cycle, app)

    def _is_free(self) -> bool:
        return self._answering is None or self._answering.response_complete

    def _read_on(self) -> None:
        if self._cycle_open() is not None and not self.pipeline:
            # The last request that was read has begun: its body may continue, and its timeout starts now.
            self._waiting_bytes = 0
            self.flow.resume_reading()
            self._watch_client()

    def _watch_client(self) -> None:
        if self._refused or self.transport.is_closing():
            return
        if self._unframed_bytes > self._limits.header_bytes_max:
            self._refuse(self._head_too_large())
        elif (cycle := self._cycle_open()) is None:
            if self._head_timer is None:
                self._arm_head_timer()
        elif cycle.more_body and self._body_timer is None and not self.pipeline:
            seconds = self._limits.request_body_timeout_s
            self._body_timer = self.loop.call_later(seconds, self._time_out_body)

    def _holds_much(self) -> bool:
        return bool(self.pipeline) and self._waiting_bytes > self._limits.waiting_bytes_max and not self._refused

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _head_too_large(self) -> Problem:
        limits = self._limits
        detail = (
            f"Request line and header fields are larger than {limits.header_bytes_max:,} bytes, "
            f"or there are more than {limits.header_fields_max:,} fields."
        )
        return Problem(status=431, code="header_too_large", detail=detail)

    def _cycle_open(self) -> RequestResponseCycle | None:
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return None if cycle is None or cycle.response_complete else cycle

    def _refuse(self, problem: Problem) -> None:
        if self.transport.is_closing():
            return
        self._refused = True
        self._disarm_head_timer()
        self._disarm_body_timer()
        self._unset_keepalive_if_required()
        cycle = self._cycle_open()
        if cycle is not None and cycle.more_body and self.pipeline and not self._is_free():
            self.pipeline.popleft()  # This request has not begun, and never will.
            cycle = self.cycle = self.pipeline[0][0] if self.pipeline else cast("RequestResponseCycle", self._answering)
        if cycle is not None:
            if not cycle.more_body:
                # The fault came after a good request: that one is answered, then the connection closes.
                cycle.keep_alive = False
                return
            cycle.disconnected = True
            cycle.waiting_for_100_continue = False  # Nothing may be written after the refusal.
            cycle.message_event.set()
            if cycle.response_started or self.pipeline:
                self.transport.close()
                return
        body = problem.body()
        lines = [b"HTTP/1.1 %d %s" % (problem.status, http.HTTPStatus(problem.status).phrase.encode())]
        fields = self.server_state.default_headers + problem.headers(body)
        lines.extend(b"%s: %s" % field for field in fields)
        self.transport.write(b"\r\n".join([*lines, b"", body]))
        # Closing with unread bytes resets the connection, and the reset can overtake the answer. So the answer
        # is ended first, and data that still comes is discarded for a while (RFC 9112, section 9.6).
        self.transport.write_eof()
        self.loop.call_later(self._limits.linger_s, self.transport.abort)

    def _time_out_head(self) -> None:
        self._head_timer = None
        if self._unframed_bytes:
            seconds = self._limits.request_head_timeout_s
            detail = f"The head of the request was not complete after {seconds:g} seconds."
            self._refuse(Problem(status=408, code="request_timeout", detail=detail))
        else:
            self.transport.close()

    def _time_out_body(self) -> None:
        seconds = self._limits.request_body_timeout_s
        detail = f"The body of the request was not complete after {seconds:g} seconds."
        self._refuse(Problem(status=408, code="request_timeout", detail=detail))

    def _arm_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(self._limits.request_head_timeout_s, self._time_out_head)

    def _disarm_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _disarm_body_timer(self) -> None:
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None


class _RefusedError(Exception):
    """Ends parsing; the parser turns it into an error of its own."""
