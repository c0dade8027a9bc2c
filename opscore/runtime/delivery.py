"""The port through which attempts reach agents, and what the outcome of a delivery means.

The gateway implements `Delivery`. It reports only facts about the transport: an answer and its status, a connection
that could not be made, or one that broke. `judge_answer` decides what a fact means for the attempt.
"""

from typing import Any, Final, Protocol

import attrs

from opscore.runtime.models import Agent, Assignment, Failure

TIMEOUT: Final = "timeout"
"""The code of an attempt that exceeded its time."""
OUTCOME_UNKNOWN: Final = "outcome_unknown"
"""The code of an attempt of which it is unknown whether its tool was called."""
_NOT_DELIVERED: Final = frozenset({404, 429, 503})
_SUCCESS: Final = range(200, 300)
_ACCEPTED: Final = 202
_SERVER_ERROR_MIN: Final = 500
_EXCERPT_CHARACTERS: Final = 500
_TOOL_STATUSES: Final = ("success", "error")


@attrs.frozen(kw_only=True)
class Answered:
    """The peer answered."""

    status: int
    body: Any = None
    """The decoded JSON, or the text when it is not JSON."""
    cut_off: str | None = None
    """Why there is no body, if it could not be read to its end."""
    retry_after_s: float | None = None


@attrs.frozen(kw_only=True)
class NotReached:
    """Nothing was sent: the connection was refused, or the host is unknown, or its address is forbidden."""

    reason: str


@attrs.frozen(kw_only=True)
class Broken:
    """The request was sent, at least in part, and then no answer came."""

    reason: str


@attrs.frozen(kw_only=True)
class Returned:
    """A local function returned."""

    result: Any


@attrs.frozen(kw_only=True)
class Raised:
    """A local function raised, or exceeded its time."""

    message: str
    code: str = "task_failed"
    retryable: bool = True
    timed_out: bool = False


Fact = Answered | NotReached | Broken | Returned | Raised


class Delivery(Protocol):
    """A way to hand attempts to agents."""

    def reaches(self, agent: Agent) -> bool:
        """Return whether attempts can be delivered to this agent in this way at all."""

    async def deliver(self, assignment: Assignment, agent: Agent) -> Fact:
        """Deliver the attempt and return what happened. Raises nothing but cancellation."""


@attrs.frozen(kw_only=True)
class Delivered:
    """The agent has the attempt; its reports will tell how it ends."""


@attrs.frozen(kw_only=True)
class Completed:
    """The attempt ended with a result."""

    result: Any = None


@attrs.frozen(kw_only=True)
class Failed:
    """The attempt failed; this spends a retry."""

    error: Failure
    retryable: bool = True


@attrs.frozen(kw_only=True)
class Undelivered:
    """The agent does not have the attempt: the task goes back to the queue, and the agent is suspected."""

    reason: str
    retry_after_s: float | None = None


@attrs.frozen(kw_only=True)
class Lost:
    """The agent had the attempt and will not end it; this spends no retry."""

    reason: str
    counts: bool = True
    """Whether it counts against `dispatch_attempts_max`."""


@attrs.frozen(kw_only=True)
class Unknown:
    """It is unknown whether the agent has the attempt; its lease is cut short."""

    reason: str


Judgement = Delivered | Completed | Failed | Undelivered | Lost | Unknown


def judge_answer(fact: Fact, *, tool: bool = False, idempotent: bool = False) -> Judgement:
    """Decide what a transport fact means for the attempt.

    Args:
        fact: what happened.
        tool: the attempt is a tool call, whose answer is its result.
        idempotent: the tool may be called again even if it is unknown whether it was called.
    """
    return judge_call(_judge_call(fact), idempotent=idempotent) if tool else _judge(fact)


def tells_the_end(judgement: Judgement) -> bool:
    """Whether a judgement says how the attempt ended, and not only whether the agent has it."""
    if isinstance(judgement, Failed):
        return judgement.error.code != OUTCOME_UNKNOWN
    return isinstance(judgement, Completed)


def _judge_call(fact: Fact) -> Judgement:
    """Decide what a fact means for a tool call, whose answer is its result."""
    if isinstance(fact, Answered) and fact.status in _SUCCESS:
        if fact.cut_off is not None:
            return Unknown(reason=f"its answer could not be read: {fact.cut_off}")
        return _called(fact.body, accepted=fact.status == _ACCEPTED) or _judge(fact)
    if isinstance(fact, Raised) and fact.timed_out:
        return Unknown(reason=fact.message)
    return _judge(fact)


def _judge(fact: Fact) -> Judgement:
    match fact:
        case Returned(result=result):
            return Completed(result=result)
        case Raised(message=message, code=code, retryable=retryable):
            return Failed(error=Failure(message=message, code=code), retryable=retryable)
        case NotReached(reason=reason):
            return Undelivered(reason=reason)
        case Broken(reason=reason):
            return Unknown(reason=reason)
        case Answered():
            return _judge_status(fact)


def judge_call(judgement: Judgement, *, idempotent: bool) -> Judgement:
    """Adapt a judgement to a tool call: if it is unknown whether the tool was called, the attempt fails.

    Args:
        judgement: what the fact would mean for an agent's task.
        idempotent: the tool may be called again.
    """
    if not isinstance(judgement, Lost | Unknown):
        return judgement
    return Failed(error=unknown_call(judgement.reason), retryable=idempotent)


def unknown_call(reason: str) -> Failure:
    """Return the failure of an attempt of which it is unknown whether its tool was called."""
    return Failure(message=f"it is unknown whether the tool was called: {reason}", code=OUTCOME_UNKNOWN)


def _called(body: Any, *, accepted: bool = False, within: bool = False) -> Judgement | None:
    """Judge a tool's answer; return None if it is not a tool's answer, or says only that the call was accepted."""
    if not isinstance(body, dict) or body.get("status") not in _TOOL_STATUSES:
        return None
    if body["status"] == "success":
        data = body.get("data")
        if accepted and data is None:
            return None
        # AgentKit passes on the agent's own answer, unchanged, in `data`.
        return (None if within else _passed_on(data)) or Completed(result=data)
    message, code = body.get("message"), body.get("error_code")
    said = message if isinstance(message, str) and message else f"the tool answered {_excerpt(body)}"
    return Failed(error=Failure(message=said, code=code if isinstance(code, str) and code else "tool_failed"))


def _passed_on(data: Any) -> Judgement | None:
    """Judge an answer within an answer; return None if it is a result, even one that has a `status`."""
    if not isinstance(data, dict):
        return None
    if data.get("status") == "completed" and "result" in data:
        return Completed(result=data["result"])
    whole = "data" in data or isinstance(data.get("error_code"), str)
    return _called(data, within=True) if whole else None


def _judge_status(answer: Answered) -> Judgement:
    if answer.status in _SUCCESS:
        return _judge_body(answer.body)
    if answer.status in _NOT_DELIVERED:
        return Undelivered(reason=f"the agent answered {answer.status}", retry_after_s=answer.retry_after_s)
    if answer.status >= _SERVER_ERROR_MIN:
        return Unknown(reason=f"the agent answered {answer.status}")
    return Failed(
        error=Failure(
            message=f"the agent answered {answer.status}: {_excerpt(answer.body)}",
            code=f"http_{answer.status}",
        )
    )


def _judge_body(body: Any) -> Judgement:
    """Judge a successful answer: one that says completed ends the attempt. AgentKit wraps it in `data`."""
    for said in (body, body.get("data") if isinstance(body, dict) else None):
        if isinstance(said, dict) and said.get("status") == "completed":
            return Completed(result=said.get("result"))
    return Delivered()


def _excerpt(body: Any) -> str:
    try:
        text = body if isinstance(body, str) else repr(body)
    except RecursionError:
        return "an answer that nests too deeply to be shown"
    return text if len(text) <= _EXCERPT_CHARACTERS else text[: _EXCERPT_CHARACTERS - 1] + "…"
