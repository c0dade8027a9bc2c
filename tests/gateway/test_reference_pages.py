"""What the reference shows of the gateway: the SDK's example runs against a server, and the settings are valid."""

import os
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from opscore.gateway.settings import config
from tests.gateway.gateway_process import API_KEY, GatewayProcess
from tests.gateway.guides import files_of
from tests.reference_pages import REFERENCE

CLIENT = files_of((REFERENCE / "client.md").read_text())["client.py"]
SETTINGS = files_of((REFERENCE / "settings.md").read_text())["opscore.toml"]


def test_the_example_of_the_sdk_prints_what_the_page_says(server: GatewayProcess, tmp_path: Path) -> None:
    (tmp_path / "client.py").write_text(CLIENT)
    environment = {**os.environ, "OPSCORE_URL": server.url, "OPSCORE_API_KEY": API_KEY}
    command = [sys.executable, "-W", "error", "client.py"]
    ran = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    printed = ran.stdout.strip().splitlines()
    assert printed == ["{'greet': 'Hello, Ada!'}", "404 definition_not_found"]
    assert all(f"# {line}" in CLIENT for line in printed)


def test_the_settings_that_the_page_shows_are_valid_and_an_option_overrides_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in attrs.fields_dict(config.Settings):
        monkeypatch.delenv(f"OPSCORE_{name.upper()}", raising=False)
    (tmp_path / "opscore.toml").write_text(SETTINGS)
    settings = config.load({"port": 8082}, directory=tmp_path)
    assert (settings.port, settings.lease_s, settings.body_bytes_max) == (8082, 60.0, 4 * 2**20)
    assert settings.data == tmp_path / "orders"
    assert settings.dispatch_limits == ("capability:gpu=4", "workflow:mail=100/min")
