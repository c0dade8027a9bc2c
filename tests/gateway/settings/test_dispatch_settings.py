"""Limits of dispatch as they are written in the configuration, and that a server holds to them."""

import pytest

from opscore.gateway.service import node_limits
from opscore.gateway.settings.config import Settings
from opscore.gateway.settings.dispatch_settings import limits_by_kind
from opscore.runtime.limits import DispatchLimit


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("4", DispatchLimit(at_once=4)),
        ("100/min", DispatchLimit(per_interval=100, interval_s=60.0)),
        ("1/s", DispatchLimit(per_interval=1, interval_s=1.0)),
        ("5/10s", DispatchLimit(per_interval=5, interval_s=10.0)),
        ("5/0.5s", DispatchLimit(per_interval=5, interval_s=0.5)),
        ("1000/24h", DispatchLimit(per_interval=1_000, interval_s=86_400.0)),
    ],
)
def test_what_is_written_is_what_is_meant(text: str, limit: DispatchLimit) -> None:
    found = limits_by_kind([f"capability:gpu={text}", f"workflow:a=b:c={text}"])
    assert found == {"capability": {"gpu": limit}, "workflow": {"a=b:c": limit}}


def test_at_once_and_within_a_time_go_together() -> None:
    both = DispatchLimit(at_once=4, per_interval=100, interval_s=60.0)
    for texts in (("capability:gpu=4", "capability:gpu=100/min"), ("capability:gpu=100/min", "capability:gpu=4")):
        assert limits_by_kind(texts)["capability"] == {"gpu": both}


def test_a_server_holds_to_them() -> None:
    limits = node_limits(Settings(dispatch_limits=("capability:gpu=4", "workflow:mail=1/s")))
    assert limits.capability_limits == {"gpu": DispatchLimit(at_once=4)}
    assert limits.workflow_limits == {"mail": DispatchLimit(per_interval=1, interval_s=1.0)}
