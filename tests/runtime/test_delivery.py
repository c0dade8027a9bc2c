"""What a push answered decides, row by row."""

from typing import Any

import pytest

from opscore.runtime.delivery import (
    Answered,
    Broken,
    Completed,
    Delivered,
    Fact,
    Failed,
    Judgement,
    NotReached,
    Raised,
    Returned,
    Undelivered,
    Unknown,
    judge_answer,
)
from opscore.runtime.models import Failure


def answered(status: int, body: Any = None, retry_after_s: float | None = None) -> Judgement:
    return judge_answer(Answered(status=status, body=body, retry_after_s=retry_after_s))


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
@pytest.mark.parametrize("body", [None, "", "thanks", 7, [], {}, {"status": "success"}, {"data": []}, {"data": None}])
def test_any_2xx_means_delivered(status: int, body: Any) -> None:
    assert answered(status, body) == Delivered()


def test_an_answer_that_says_completed_ends_the_attempt_with_its_result() -> None:
    assert answered(200, {"status": "completed", "result": {"n": 1}}) == Completed(result={"n": 1})
    assert answered(202, {"status": "completed"}) == Completed(result=None)


def test_an_answer_that_agentkit_wrapped_completes_just_so() -> None:
    body = {"status": "success", "data": {"status": "completed", "result": [1]}}
    assert answered(200, body) == Completed(result=[1])


@pytest.mark.parametrize("status", [300, 302, 400, 404, 409, 500, 503])
def test_only_a_2xx_can_say_completed(status: int) -> None:
    assert not isinstance(answered(status, {"status": "completed", "result": 1}), Completed)


@pytest.mark.parametrize("status", [404, 429, 503])
def test_404_and_429_and_503_mean_not_delivered_and_keep_the_wait_that_was_asked_for(status: int) -> None:
    expected = Undelivered(reason=f"the agent answered {status}", retry_after_s=17.0)
    assert answered(status, "busy", retry_after_s=17.0) == expected
    assert answered(status) == Undelivered(reason=f"the agent answered {status}")


def test_a_connection_that_never_stood_means_not_delivered() -> None:
    assert judge_answer(NotReached(reason="connection refused")) == Undelivered(reason="connection refused")


@pytest.mark.parametrize("status", [400, 401, 403, 405, 408, 409, 410, 413, 422, 499])
def test_any_other_4xx_is_a_failure_that_keeps_the_answer(status: int) -> None:
    failed = answered(status, {"error": "no such tool"})
    message = f"the agent answered {status}: {{'error': 'no such tool'}}"
    assert failed == Failed(error=Failure(message=message, code=f"http_{status}"))


@pytest.mark.parametrize("status", [301, 307])
def test_a_redirect_is_not_followed_and_is_a_failure(status: int) -> None:
    failed = answered(status)
    assert isinstance(failed, Failed)
    assert failed.error.code == f"http_{status}"


@pytest.mark.parametrize("status", [500, 501, 502, 504, 599])
def test_any_other_5xx_leaves_the_outcome_unknown(status: int) -> None:
    assert answered(status) == Unknown(reason=f"the agent answered {status}")


def test_a_push_that_broke_after_it_was_sent_leaves_the_outcome_unknown() -> None:
    assert judge_answer(Broken(reason="read timed out")) == Unknown(reason="read timed out")


@pytest.mark.parametrize(
    ("fact", "judgement"),
    [
        (Returned(result=None), Completed(result=None)),
        (Returned(result={"n": 1}), Completed(result={"n": 1})),
        (Raised(message="boom"), Failed(error=Failure(message="boom", code="task_failed"))),
        (
            Raised(message="slow", code="timeout", timed_out=True),
            Failed(error=Failure(message="slow", code="timeout")),
        ),
        (
            Raised(message="gone", code="page_gone", retryable=False),
            Failed(error=Failure(message="gone", code="page_gone"), retryable=False),
        ),
    ],
    ids=["returned nothing", "returned", "raised", "timed out", "failed for good"],
)
def test_what_a_local_function_did_decides_by_itself(fact: Fact, judgement: Judgement) -> None:
    assert judge_answer(fact) == judgement


@pytest.mark.parametrize(
    ("status", "data", "judgement"),
    [
        (200, {"sum": 3}, Completed(result={"sum": 3})),
        (200, None, Completed(result=None)),
        (200, {"status": "ready"}, Completed(result={"status": "ready"})),
        (200, {"status": "error", "of": "a sensor"}, Completed(result={"status": "error", "of": "a sensor"})),
        (200, {"status": "completed", "result": 5}, Completed(result=5)),
        (200, {"status": "success", "data": 7}, Completed(result=7)),
        (
            200,
            {"status": "success", "data": {"status": "success", "data": 7}},
            Completed(result={"status": "success", "data": 7}),
        ),
        (200, {"status": "error", "message": "M", "error_code": "EC"}, Failed(error=Failure(message="M", code="EC"))),
        (202, None, Delivered()),
        (202, {"sum": 3}, Completed(result={"sum": 3})),
    ],
    ids=repr,
)
def test_what_agentkit_passes_on_of_a_tools_answer_is_read_as_the_answer(
    status: int, data: Any, judgement: Judgement
) -> None:
    body = {"status": "success", "message": "Message successfully dispatched to agent a.", "data": data}
    assert judge_answer(Answered(status=status, body=body), tool=True) == judgement


def test_a_long_answer_is_kept_only_in_part() -> None:
    failed = answered(400, "x" * 10_000)
    assert isinstance(failed, Failed)
    assert len(failed.error.message) < 600
    assert failed.error.message.endswith("x…")


def test_an_answer_that_nests_too_deeply_to_be_shown_is_still_a_failure() -> None:
    body: list[Any] = []
    for _ in range(100_000):
        body = [body]
    failed = answered(400, body)
    assert isinstance(failed, Failed)
    assert failed.error.message == "the agent answered 400: an answer that nests too deeply to be shown"
