"""Commands whose standard streams are closed, or take nothing."""

import signal
import subprocess
from pathlib import Path

import pytest

from opscore.runtime.storage import formats
from tests.gateway.gateway_process import API_KEY, PATIENCE_S, command, environment
from tests.gateway.server_thread import eventually
from tests.runtime.journal.test_opening import restored


def with_streams(redirections: str, *arguments: str) -> list[str]:
    """The command, begun by a shell with its streams redirected."""
    return ["sh", "-c", f'exec "$@" {redirections}', "sh", *command(*arguments)]


def run(directory: Path, redirections: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        with_streams(redirections, *arguments),
        cwd=directory,
        env=environment(variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
        timeout=PATIENCE_S,
    )


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A directory with a data directory under its default name."""
    restored(formats.FORMAT, tmp_path / "opscore-data")
    return tmp_path


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The one sentence of a command that failed."""
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&-"])
def test_a_server_with_closed_streams_serves_and_ends_in_order(tmp_path: Path, closed: str) -> None:
    log = tmp_path / "log"
    with (
        log.open("wb") as stream,
        subprocess.Popen(
            with_streams(closed, "serve", "--data", "data", "--port", "0"),
            cwd=tmp_path,
            env=environment({"OPSCORE_API_KEY": API_KEY}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stream,
        ) as server,
    ):
        try:
            assert eventually(lambda: "listening on" in log.read_text()), log.read_text()
            opened = [Path(f"/proc/{server.pid}/fd/{number}").readlink().name for number in range(3)]
            assert opened.count("null") == closed.count("&-")
            assert opened[2] == "log"
            server.send_signal(signal.SIGTERM)
            assert server.wait(PATIENCE_S) == 0, log.read_text()
        finally:
            server.kill()


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("where", [">&-", ">/dev/full"])
def test_an_output_that_takes_nothing_is_told_in_a_sentence(store: Path, where: str, unbuffered: str) -> None:
    why = "Bad file descriptor" if where == ">&-" else "No space left on device"
    for arguments in (["export", "-"], ["stats"], ["verify", "--json"], ["--version"], ["demo", "--plain"]):
        done = run(store, where, *arguments, PYTHONUNBUFFERED=unbuffered)
        assert refused(done) == f"opscore: the output: {why}"


def test_a_closed_input_is_an_empty_one_and_closed_errors_keep_no_command_from_its_work(tmp_path: Path) -> None:
    assert "is not part of a complete export" in refused(run(tmp_path, "<&-", "import", "-", "--data", "new"))
    created = run(tmp_path, "2>&-", "key", "create", "--scope", "viewer")
    assert (created.returncode, created.stdout[:8]) == (0, "opscore_")


@pytest.mark.parametrize("where", [">&-", ">/dev/full"])
def test_a_key_that_could_not_be_shown_is_none(tmp_path: Path, where: str) -> None:
    assert run(tmp_path, "", "key", "create", "--scope", "viewer").returncode == 0
    before = run(tmp_path, "", "key", "list").stdout
    assert "the key could not be shown and was revoked" in refused(
        run(tmp_path, where, "key", "create", "--scope", "admin")
    )
    assert run(tmp_path, "", "key", "list").stdout == before


def test_a_first_key_that_could_not_be_shown_is_none_so_that_the_next_start_makes_one(tmp_path: Path) -> None:
    assert run(tmp_path, "2>/dev/full", "serve", "--data", "data", "--port", "0").returncode == 1
    assert run(tmp_path, "", "key", "list", "--data", "data").stdout == ""
