"""The routes that steer runs: moves such as cancel and pause, and signals."""

from collections.abc import Awaitable, Callable

from starlette.responses import Response

from opscore.gateway.wire.documents import ReasonRequest, SignalRequest, session_document, signal_document
from opscore.gateway.wire.replies import accepted, shown
from opscore.gateway.wire.requests import Call
from opscore.runtime.models import Move


def steering(move: Move) -> Callable[[Call], Awaitable[Response]]:
    """Make the handler of a move, which steers a run and shows the session as it is afterwards."""

    async def steer(call: Call) -> Response:
        session_id = call.path("sessionId")
        request = await call.document(ReasonRequest, optional=True)
        return shown(session_document(await call.run(call.node.steer, session_id, move, reason=request.reason)))

    return steer


async def signal(call: Call) -> Response:
    """Send a run a signal."""
    session_id = call.path("sessionId")
    request = await call.document(SignalRequest)
    signal_id = request.signal_id if request.signal_id is not None else call.idempotency_key()
    told = await call.run(call.node.signal, session_id, request.name, payload=request.payload, signal_id=signal_id)
    return accepted(signal_document(told))
