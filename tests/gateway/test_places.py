"""Commands begun where they may not look, or where nothing is any more."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from opscore.gateway import cli, config
from opscore.gateway.config import Settings
from opscore.gateway.failures import Misused
from tests.gateway.gateway_process import PATIENCE_S, command

NOBODY = 65_534


@pytest.fixture
def private(tmp_path: Path) -> Iterator[Path]:
    """A directory that this process may not look into, as root's home is to the user of a server."""
    place = tmp_path / "private"
    place.mkdir(mode=0o000)
    (tmp_path / "opscore-data").mkdir()
    with contextlib.ExitStack() as stack:
        if os.geteuid() == 0:
            os.seteuid(NOBODY)
            stack.callback(os.seteuid, 0)
        yield place
    place.chmod(0o700)


def test_a_directory_that_may_not_be_looked_into_holds_no_file_of_settings(private: Path) -> None:
    assert config.load({}, directory=private) == Settings()
    with pytest.raises(config.ConfigError, match=r"named\.toml cannot be read: Permission denied"):
        config.load({}, directory=private, config_file=private / "named.toml")


@pytest.mark.parametrize("arguments", [["list"], ["revoke", "00000000"]])
def test_keys_that_may_not_be_looked_for_are_one_sentence_and_2(private: Path, arguments: list[str]) -> None:
    with pytest.raises(Misused, match="can't be looked at: Permission denied"):
        cli.main(["key", *arguments, "--data", str(private / "data")], standalone_mode=False)


def test_a_directory_that_is_no_more_is_told_in_one_sentence(tmp_path: Path) -> None:
    script = 'mkdir gone && cd gone && rmdir ../gone && exec "$@"'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *command("--help")],
        cwd=tmp_path,
        capture_output=True,
        check=False,
        text=True,
        timeout=PATIENCE_S,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "opscore: the directory that this was begun in: No such file or directory; change to another one\n"
    )
