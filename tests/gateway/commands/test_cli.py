"""The `opscore` command as a process of its own: what it says, and how it ends."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import attrs
import click
import httpx
import pytest

from opscore.__main__ import main
from opscore.gateway.settings import config
from opscore.gateway.settings.config import Settings
from tests.gateway.gateway_process import (
    API_KEY,
    PATIENCE_S,
    PREFIX,
    GatewayProcess,
    command,
    environment,
    gateway,
)
from tests.gateway.server_thread import eventually

TOKEN = re.compile(r"opscore_[0-9a-f]{8}_[\w-]{43}")


@attrs.frozen(kw_only=True)
class Ended:
    code: int
    out: str
    err: str

    def sentence(self) -> str:
        """The one line that a refusal consists of."""
        assert "Traceback" not in self.out + self.err
        assert self.out == ""
        (line,) = [line for line in self.err.splitlines() if not line.startswith("{")]
        return line


def run(directory: Path, *arguments: str, **variables: str) -> Ended:
    found = subprocess.run(
        command(*arguments),
        cwd=directory,
        env=environment(variables),
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    return Ended(code=found.returncode, out=found.stdout, err=found.stderr)


def refused(directory: Path, *arguments: str, **variables: str) -> str:
    """Run a server that must not start; return why not."""
    key = variables.pop("key", API_KEY)
    ended = run(directory, "serve", "--port", "0", *arguments, OPSCORE_API_KEY=key, **variables)
    assert ended.code == 2, ended
    return ended.sentence()


def test_a_misspelt_variable_is_warned_of_once_and_keeps_no_server_from_starting(tmp_path: Path) -> None:
    ended = run(tmp_path, "serve", "--port", "0", "--host", "0.0.0.0", OPSCORE_LEASE="5")  # noqa: S104 (it is refused)
    assert (ended.code, "which requires an API key" in ended.sentence()) == (2, True), (
        "it is refused for its host alone"
    )
    (line,) = [line for line in ended.err.splitlines() if "OPSCORE_LEASE" in line]
    assert "OPSCORE_LEASE (did you mean OPSCORE_LEASE_S?)" in line
    assert '"level": "warning"' in line


def test_help_names_the_commands(tmp_path: Path) -> None:
    for flag in ("--help", "-h"):
        ended = run(tmp_path, flag)
        assert (ended.code, ended.err) == (0, "")
        assert {"serve", "key", "demo"} <= set(ended.out.split())


def test_help_of_serve_names_every_setting_with_its_variable(tmp_path: Path) -> None:
    ended = run(tmp_path, "serve", "--help", COLUMNS="200")
    assert ended.code == 0
    words = " ".join(ended.out.split())
    for field in attrs.fields(Settings):
        for variable in config.variables(field.name):
            assert variable in words, variable
        if field.name not in ("api_key", "webhook_secret"):
            assert f"--{field.name.replace('_', '-')}" in words
    assert "--api-key" not in words
    assert "--config" in words


@pytest.mark.parametrize(
    ("said", "commands"),
    [
        ("Directory of the store; created if it is missing.", ["serve", "key create"]),
        (
            "Directory of the store; it must exist.",
            ["verify", "stats", "export", "backup", "compact", "key list", "key revoke"],
        ),
        ("Directory to create; it must not exist yet, or be empty.", ["import"]),
    ],
)
def test_help_says_of_the_data_directory_whether_a_command_makes_it(
    tmp_path: Path, said: str, commands: list[str]
) -> None:
    for each in commands:
        ended = run(tmp_path, *each.split(), "--help", COLUMNS="200")
        assert said in " ".join(ended.out.split())


def test_the_version_is_that_of_the_package(tmp_path: Path) -> None:
    ended = run(tmp_path, "--version")
    assert (ended.code, ended.out) == (0, f"opscore {version('opscore')}\n")


@pytest.mark.parametrize("arguments", [["nothing"], ["serve", "--nothing"], ["key", "revoke"], ["key", "create"]])
def test_a_command_line_that_is_none_is_2(tmp_path: Path, arguments: list[str]) -> None:
    ended = run(tmp_path, *arguments)
    assert ended.code == 2
    assert "Traceback" not in ended.err
    assert "Error: " in ended.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port", "65536"], "whole number from 0 to 65535"),
        (["--lease-s", "soon"], "number of seconds"),
        (["--host", "no such host"], "host name"),
        (["--log-level", "loud"], "debug, info, warning or error"),
        (["--config", "nowhere.toml"], "nowhere.toml cannot be read"),
        (["--agentkit-api-url", "ftp://x"], "http://"),
    ],
)
def test_a_setting_that_is_not_valid_is_one_sentence_and_2(tmp_path: Path, arguments: list[str], said: str) -> None:
    assert said in refused(tmp_path, *arguments)


def test_a_variable_that_is_not_valid_is_one_sentence_and_2(tmp_path: Path) -> None:
    said = refused(tmp_path, OPSCORE_DRAIN_S="never")
    assert "OPSCORE_DRAIN_S" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[opscore", "is not valid TOML"),
        ("[opscore]\nprt = 1", "did you mean port?"),
        ("[opscore]\nlease_s = 0", "lease_s = 0"),
        ("[other]\nport = 80", "'other'"),
        ("\x00", "is not valid TOML"),
    ],
)
def test_a_file_that_is_not_valid_is_one_sentence_and_2(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "opscore.toml").write_text(text)
    assert said in refused(tmp_path)


def test_a_host_that_nobody_knows_is_one_sentence_and_2(tmp_path: Path) -> None:
    assert "no.such.host.invalid" in refused(tmp_path, "--host", "no.such.host.invalid")


def test_a_host_that_is_not_this_machines_is_one_sentence_and_2(tmp_path: Path) -> None:
    assert "not an address of this machine" in refused(tmp_path, "--host", "192.0.2.1")


def test_a_port_in_use_is_one_sentence_and_2(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert f"port {port}: another process listens there" in refused(tmp_path, "--port", str(port))


def test_a_data_directory_that_is_a_file_is_one_sentence_and_2(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    assert "can't be created as a directory" in refused(tmp_path, "--data", "data")
    assert "can't be created as a directory" in refused(tmp_path, "--data", "data/below")


def test_a_data_directory_of_something_else_is_one_sentence_and_2(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "data.mdb").write_bytes(b"not a store" * 10_000)
    assert "data" in refused(tmp_path, "--data", "data")


def test_a_directory_of_another_server_is_2_and_names_host_and_process(tmp_path: Path) -> None:
    with gateway(tmp_path / "data") as (process, _):
        said = refused(tmp_path, "--data", "data")
        assert f"process {process.popen.pid} on host {socket.gethostname()}" in said


def test_a_damaged_key_file_is_one_sentence_and_2(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "keys.json").write_text("{")
    (tmp_path / "data" / "keys.json").chmod(0o600)
    assert "keys.json is damaged" in refused(tmp_path, "--data", "data")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "localhost.localdomain"])  # noqa: S104
def test_listening_beyond_loopback_without_a_key_is_2(tmp_path: Path, host: str) -> None:
    said = refused(tmp_path, "--host", host, key="")
    assert "OPSCORE_API_KEY" in said
    assert not (tmp_path / "opscore-data" / "keys.json").exists()


def test_the_first_key_is_printed_once_and_opens_everything(tmp_path: Path) -> None:
    with gateway(tmp_path / "data", OPSCORE_API_KEY="") as (process, _):
        time.sleep(0.1)
        (token,) = TOKEN.findall(process.log())
        with process.client(token) as client:
            assert client.post(f"{PREFIX}/agent", json={"agentId": "a"}).status_code == 201
        assert process.end() == 0
    with gateway(tmp_path / "data", OPSCORE_API_KEY="") as (process, _):
        assert TOKEN.findall(process.log()) == []
        with process.client(token) as client:
            assert client.get(f"{PREFIX}/agent/a").status_code == 200


def test_no_key_is_made_where_one_is_configured(tmp_path: Path) -> None:
    with gateway(tmp_path / "data") as (process, _):
        assert TOKEN.findall(process.log()) == []
    assert not (tmp_path / "data" / "keys.json").exists()


def test_the_log_never_shows_the_configured_secrets(tmp_path: Path) -> None:
    key, secret = "a-very-secret-key", "a-very-secret-secret"
    options = ("--log-level", "debug")
    with gateway(tmp_path / "data", *options, OPSCORE_API_KEY=key, OPSCORE_WEBHOOK_SECRET=secret) as (process, _):
        with process.client(key) as client:
            client.get(f"{PREFIX}/agent/a-very-secret-key")
        assert process.end() == 0
        assert "a-very-secret" not in process.log()


def until(client: httpx.Client, status: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while client.get(f"{PREFIX}/agent").status_code != status:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_keys_are_created_listed_and_revoked_while_a_server_runs(tmp_path: Path) -> None:
    with gateway(tmp_path / "data") as (process, _):
        created = run(tmp_path, "key", "create", "--data", "data", "--scope", "viewer", "--name", "the wall")
        assert (created.code, created.err) == (0, "")
        token = created.out.strip()
        assert TOKEN.fullmatch(token)
        with process.client(token) as client:
            until(client, 200)
            listed = run(tmp_path, "key", "list", "--data", "data")
            (line,) = listed.out.splitlines()
            key_id = token.split("_")[1]
            assert line.split()[:2] == [key_id, "viewer"]
            assert line.endswith("the wall")
            assert token.split("_", 2)[2] not in listed.out
            revoked = run(tmp_path, "key", "revoke", "--data", "data", key_id)
            assert (revoked.code, revoked.out) == (0, f"revoked {key_id} (the wall)\n")
            until(client, 401)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create", "--scope", "root"], "'root' is not a scope"),
        (["create", "--scope", "agent:"], "'agent:' is not a scope"),
        (["create", "--scope", "admin", "--name", "n" * 200], "name of 1 to 128 characters"),
        (["revoke", "00000000"], "There is no key '00000000'"),
        (["list", "--data", "nowhere"], "nowhere' is not a directory"),
        (["revoke", "--data", "nowhere", "00000000"], "nowhere' is not a directory"),
    ],
)
def test_a_key_command_that_cannot_be_done_is_one_sentence_and_2(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    (tmp_path / "data").mkdir()
    where = [] if "--data" in arguments else ["--data", "data"]
    ended = run(tmp_path, "key", *arguments, *where)
    assert ended.code == 2
    assert said in ended.sentence()


@pytest.mark.parametrize("arguments", [["list"], ["create", "--scope", "admin"], ["revoke", "00000000"]])
def test_keys_in_a_place_that_is_no_directory_are_one_sentence_and_2(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "data").write_text("")
    ended = run(tmp_path, "key", *arguments, "--data", "data")
    assert ended.code == 2
    assert "data" in ended.sentence()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_ends_it_with_0_and_without_a_traceback(tmp_path: Path, number: signal.Signals) -> None:
    with gateway(tmp_path / "data") as (process, wire):
        assert wire.get("/agent").status_code == 200
        assert process.end(number) == 0
        assert "Traceback" not in process.log()
        assert "Aborted" not in process.log()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.15])
def test_a_signal_while_it_starts_ends_it_with_0_and_leaves_no_traceback(
    tmp_path: Path, delay_s: float, number: signal.Signals
) -> None:
    popen = subprocess.Popen(
        command("serve", "--data", str(tmp_path / "data"), "--port", "0"),
        env=environment({"OPSCORE_API_KEY": API_KEY}),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert eventually((tmp_path / "data").exists)  # Making it is the first thing that the command does.
    time.sleep(delay_s)
    popen.send_signal(number)
    _, err = popen.communicate(timeout=PATIENCE_S)
    assert popen.returncode == 0
    assert "Traceback" not in err
    assert "Aborted" not in err


@pytest.mark.parametrize(("arguments", "code"), [(("serve",), 0), (("verify", "store"), 130), (("key", "list"), 130)])
@pytest.mark.parametrize("part", ["loading", "reading its arguments", "running"])
def test_an_interrupt_of_any_part_of_a_command_has_the_exit_code_that_is_promised(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: Sequence[str], code: int, part: str
) -> None:
    def interrupt(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["opscore", *arguments])
    match part:
        case "loading":
            monkeypatch.delitem(sys.modules, "opscore.gateway.commands.cli", raising=False)
            monkeypatch.setattr(sys, "meta_path", [SimpleNamespace(find_spec=interrupt)])
        case "reading its arguments":
            monkeypatch.setattr(click.Command, "make_context", interrupt)
        case _:
            monkeypatch.setattr(click.Command, "invoke", interrupt)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code
    assert "Aborted" not in capsys.readouterr().err


def test_a_server_ends_in_order_even_when_nobody_reads_its_log(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    popen = subprocess.Popen(
        command("serve", "--data", str(tmp_path / "data"), "--port", "0"),
        env=environment({"OPSCORE_API_KEY": API_KEY}),
        stderr=writing,
    )
    os.close(writing)
    with os.fdopen(reading) as log:
        while "listening on" not in log.readline():
            pass
    popen.send_signal(signal.SIGTERM)
    assert popen.wait(PATIENCE_S) == 0


def test_a_free_port_is_told_in_the_log(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "data") as process:
        assert process.address.port > 0
        assert f"data in {tmp_path / 'data'}" in process.log()
