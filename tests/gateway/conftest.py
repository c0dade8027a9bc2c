"""Servers that the wire's tests of one worker share; each test keeps to names of its own."""

from collections.abc import Iterator

import pytest

from tests.gateway.gateway_process import GatewayProcess, Wire, gateway


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with gateway(tmp_path_factory.mktemp("shared") / "data") as (process, _):
        yield process
        assert '"level": "error"' not in process.log(), process.log()


@pytest.fixture(scope="session")
def wire(server: GatewayProcess) -> Wire:
    return Wire(http=server.client())
