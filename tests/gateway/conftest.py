"""Servers that the wire's tests of one worker share; each test keeps to names of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from opscore.gateway.keys.keys import KeyRing
from tests.gateway.gateway_process import GatewayProcess, Wire, gateway

SCOPES = ("admin", "operator", "agent", "agent:seven", "agent:eight", "viewer")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared") / "data"


@pytest.fixture(scope="session")
def keys(data: Path) -> dict[str, str]:
    """A key of each scope, by scope."""
    ring = KeyRing(data)
    return {scope: ring.create(f"of {scope}", scope) for scope in SCOPES}


@pytest.fixture(scope="session")
def server(data: Path, keys: dict[str, str]) -> Iterator[GatewayProcess]:
    assert keys, "they are made before the server looks at them"
    with gateway(data) as (process, _):
        yield process
        assert '"level": "error"' not in process.log(), process.log()
        assert process.end() == 0


@pytest.fixture(scope="session")
def wire(server: GatewayProcess) -> Wire:
    return Wire(http=server.client())
