"""What an exit code says is the same by every command."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from opscore.runtime.journal.opening import open_reader, open_store
from opscore.runtime.storage import formats
from tests.gateway.gateway_process import API_KEY, PATIENCE_S, command, environment
from tests.runtime.journal.test_opening import restored

READING = (["verify"], ["stats"], ["export", "-"], ["backup", "copy"])
WRITING = (["compact"], ["serve", "--port", "0"])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return restored(formats.FORMAT, tmp_path / "opscore-data")


def run(directory: Path, *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        command(*arguments),
        cwd=directory,
        env=environment({"OPSCORE_API_KEY": API_KEY}),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_store_that_a_process_keeps_from_being_read_is_2_and_not_as_a_damaged_one(data: Path) -> None:
    shutil.copytree(data, data.parent / "before")
    with open_store(data) as store:
        store.rewrite((), sequence=100)
    with open_reader(data):
        # Its file is gone, and an older one has come in its place.
        (data.parent / "before" / "data.mdb").replace(data / "data.mdb")
        for arguments in (*READING, *WRITING[1:]):
            code, out, err = run(data.parent, *arguments)
            assert (code, out) == (2, ""), arguments
            assert "is in use by a process that still reads the file that was replaced" in err
            assert (data.parent / "copy").exists() is False


@pytest.mark.parametrize("arguments", [*READING, *WRITING], ids=" ".join)
def test_what_another_program_wrote_is_2_by_every_command(arguments: list[str], data: Path) -> None:
    (data / "data.mdb").write_bytes(b"no store at all" * 5_000)
    code, out, err = run(data.parent, *arguments)
    assert (code, out) == (2, "")
    assert "opscore: " in err
    assert "can't be opened by this release" in err


@pytest.mark.parametrize("arguments", [*READING, *WRITING], ids=" ".join)
def test_a_store_that_is_damaged_is_1_by_every_command(arguments: list[str], data: Path) -> None:
    os.truncate(data / "data.mdb", 40_000)
    code, out, err = run(data.parent, *arguments)
    assert code == 1
    assert "is damaged: it is cut short" in out + err


@pytest.mark.parametrize("arguments", [*READING, *WRITING[:1]], ids=" ".join)
def test_where_there_is_no_store_is_1_and_says_so(arguments: list[str], tmp_path: Path) -> None:
    code, out, err = run(tmp_path, *arguments)
    assert (code, out) == (1, "")
    assert err.endswith("opscore-data holds no store: there is no data.mdb\n")
    assert list(tmp_path.iterdir()) == []


def test_a_map_that_the_process_has_no_room_for_is_2_and_says_what_to_lower(tmp_path: Path) -> None:
    bounded = ["sh", "-c", 'ulimit -v 3000000 && exec "$@"', "sh", *command("serve", "--port", "0")]
    variables = environment({"OPSCORE_API_KEY": API_KEY})
    done = subprocess.run(
        bounded, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert done.returncode == 2
    assert "opscore-data can't be mapped: " in done.stderr
    assert "lower map_bytes, or raise this process's limit (ulimit -v)" in done.stderr


def test_a_damaged_store_is_a_verdict_of_verify_that_programs_can_read(data: Path) -> None:
    os.truncate(data / "data.mdb", 40_000)
    code, out, err = run(data.parent, "verify", "--json")
    assert (code, err) == (1, "")
    verdict = json.loads(out)
    assert (verdict["findings"], verdict["rows"]) == (1, None)
    assert "is damaged: it is cut short" in verdict["shown"][0]["what"]


def test_help_says_what_the_codes_mean(tmp_path: Path) -> None:
    said = " ".join(run(tmp_path, "--help")[1].split())
    for each in ("with 0 when", "with 1 when", "with 2 when", "with 130 after"):
        assert each in said
