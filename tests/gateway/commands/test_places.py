"""Commands begun where they may not look, or where nothing is any more."""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from opscore.gateway.commands import cli
from opscore.gateway.commands.failures import Failed, Misused
from opscore.gateway.settings import config
from opscore.gateway.settings.config import Settings
from opscore.runtime.storage import formats
from tests.gateway.gateway_process import PATIENCE_S, command
from tests.runtime.journal.test_opening import restored

NOBODY = 65_534


@pytest.fixture
def private(tmp_path: Path) -> Iterator[Path]:
    """A directory that this process may not look into, as root's home is to the user of a server."""
    place = tmp_path / "private"
    place.mkdir(mode=0o000)
    with as_nobody():
        yield place
    place.chmod(0o700)


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Be a user whom modes of files keep out, as root is not."""
    before = os.geteuid()
    os.seteuid(NOBODY if before == 0 else before)
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_directory_that_may_not_be_looked_into_holds_no_file_of_settings(private: Path) -> None:
    assert config.load({}, directory=private) == Settings()
    with pytest.raises(config.ConfigError, match=r"named\.toml cannot be read: Permission denied"):
        config.load({}, directory=private, config_file=private / "named.toml")


@pytest.mark.parametrize("arguments", [["list"], ["revoke", "00000000"]])
def test_keys_that_may_not_be_looked_for_are_one_sentence_and_2(private: Path, arguments: list[str]) -> None:
    with pytest.raises(Misused, match="can't be accessed: Permission denied"):
        cli.main(["key", *arguments, "--data", str(private / "data")], standalone_mode=False)


def test_a_backup_whose_keys_may_not_be_read_says_so_and_leaves_nothing() -> None:
    # Beside and not below pytest's own directories, which are one user's alone.
    with tempfile.TemporaryDirectory() as place:
        data = restored(formats.FORMAT, Path(place) / "data")
        (data / "keys.json").write_text('{"version": 1, "keys": []}')
        (data / "keys.json").chmod(0o000)
        if os.geteuid() == 0:
            for each in (Path(place), data, data / "data.mdb"):
                os.chown(each, NOBODY, NOBODY)
        with as_nobody(), pytest.raises(Failed, match=r"the API keys in .*keys\.json can't be read: Permission denied"):
            cli.main(["backup", f"{place}/copy", "--data", str(data)], standalone_mode=False)
        assert [each.name for each in Path(place).iterdir()] == ["data"]


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
        "opscore: can't use the current directory: No such file or directory; change to another one\n"
    )
