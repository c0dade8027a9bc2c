"""The commands on a data directory, as a person or a script runs them."""

import fcntl
import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from opscore.runtime.journal.opening import open_store
from opscore.runtime.journal.tables import SIGNATURES, SeenSignature
from opscore.runtime.storage import formats
from opscore.runtime.store import Put, Submission
from tests.runtime.journal.test_opening import restored

PAGE = 4_096


def run(*arguments: str | Path, cwd: Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "opscore", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, input=stdin, capture_output=True, timeout=60, check=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A directory with a data directory under its default name."""
    restored(formats.FORMAT, tmp_path / "opscore-data")
    (tmp_path / "opscore-data" / "keys.json").write_text('{"version": 1, "keys": []}')
    (tmp_path / "opscore-data" / "keys.json").chmod(0o600)
    return tmp_path


def says(done: subprocess.CompletedProcess[bytes], code: int = 0) -> Any:
    assert done.returncode == code, done.stderr.decode()
    return json.loads(done.stdout)


def test_a_backup_is_whole_sound_and_has_the_keys(path: Path) -> None:
    said = says(run("backup", "saved/today", "--json", cwd=path))
    assert (said["sequence"], said["path"]) == (63, "saved/today")
    assert sorted(each.name for each in (path / "saved" / "today").iterdir()) == ["data.mdb", "keys.json"]
    assert (path / "saved" / "today" / "keys.json").stat().st_mode & 0o777 == 0o600
    assert says(run("verify", "saved/today", "--json", cwd=path))["findings"] == 0
    again = run("backup", "saved/today", cwd=path)
    assert again.returncode == 1
    assert b"saved/today exists and is not empty" in again.stderr
    assert again.stderr.startswith(b"opscore: ")


def test_a_directory_may_have_a_name_that_is_no_utf_8(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8:strict")
    name = os.fsdecode(b"\xff")
    (path / "opscore-data").rename(path / name)
    with open_store(path / name):
        said = says(run("backup", name + "-copy", "--data", name, "--json", cwd=path))
        assert (said["sequence"], said["path"]) == (63, name + "-copy")
        assert "� is sound: 141 values" in run("verify", name, cwd=path).stdout.decode()
        assert "�, format" in run("stats", "--data", name, cwd=path).stdout.decode()
        assert run("export", name + "-lines", "--data", name, cwd=path).returncode == 0
    assert "-made holds 95 rows" in run("import", name + "-lines", "--data", name + "-made", cwd=path).stderr.decode()
    assert "� takes" in run("compact", "--data", name, cwd=path).stdout.decode()


def test_brackets_and_colons_in_the_name_of_a_directory_are_shown_as_they_are(path: Path) -> None:
    name = "a[bold]b[/c]:smile:"
    (path / name).parent.mkdir()
    (path / "opscore-data").rename(path / name)
    done = run("stats", "--data", name, cwd=path)
    assert f"{path / name}, format" in done.stdout.decode(), done.stderr.decode()


def test_a_line_of_statistics_is_a_line_however_long_the_path(path: Path) -> None:
    long = path.joinpath(*["directory" * 5] * 6)
    long.mkdir(parents=True)
    (path / "opscore-data").rename(long / "data")
    done = run("stats", "--data", long / "data", cwd=path)
    assert f"{long / 'data'}, format" in done.stdout.decode(), done.stderr.decode()


def test_the_commands_work_beside_a_process_that_has_the_directory_open(path: Path) -> None:
    with open_store(path / "opscore-data"):
        assert b"is sound: 141 values" in run("verify", cwd=path).stdout
        assert b"holds commit 63" in run("backup", "copy", cwd=path).stdout
        assert run("export", "-", cwd=path).stdout.count(b"\n") == 97
        assert says(run("stats", "--json", cwd=path))["sessions_unfinished"] == 6
        refused = run("compact", cwd=path)
        assert refused.returncode == 2
        assert f"is in use by process {os.getpid()}".encode() in refused.stderr
    assert b"opscore-data takes" in run("compact", cwd=path).stdout
    assert says(run("verify", "--json", cwd=path))["findings"] == 0


def test_what_is_exported_is_imported_whole_also_through_a_pipe(path: Path) -> None:
    assert run("export", "all.jsonl", cwd=path).returncode == 0
    lines = (path / "all.jsonl").read_bytes()
    assert run("import", "all.jsonl", "--data", "first", cwd=path).returncode == 0
    assert run("import", "-", "--data", "second", cwd=path, stdin=lines).returncode == 0
    for copy in ("first", "second"):
        assert run("export", "-", "--data", copy, cwd=path).stdout == lines
    cut = run("import", "-", "--data", "third", cwd=path, stdin=lines[:-10])
    assert cut.returncode == 1
    assert b"opscore: line 97 is not part of a complete export" in cut.stderr
    assert not (path / "third").exists()


def test_an_export_into_a_pipe_goes_through_it_and_leaves_it_there(path: Path) -> None:
    lines = run("export", "-", cwd=path).stdout
    os.mkfifo(path / "pipe")
    with subprocess.Popen(["cat", "pipe"], cwd=path, stdout=subprocess.PIPE) as reader:
        # Its end is open for the reader's sake: a failed export would leave it waiting.
        with (path / "pipe").open("wb"):
            assert run("export", "pipe", cwd=path).returncode == 0
        assert reader.communicate(timeout=30)[0] == lines
    assert (path / "pipe").is_fifo()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdin is not None
        number = reader.stdin.fileno()
        command = [sys.executable, "-m", "opscore", "export", f"/dev/fd/{number}"]
        done = subprocess.run(command, cwd=path, pass_fds=(number,), capture_output=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        assert reader.communicate(timeout=30)[0] == lines


def test_an_export_takes_the_place_of_no_file(path: Path) -> None:
    (path / "all.jsonl").write_text("old")
    (path / "link").symlink_to("all.jsonl")
    for name in ("all.jsonl", "link"):
        refused = run("export", name, cwd=path)
        assert refused.returncode == 1
        assert refused.stderr.startswith(f"opscore: {name} exists; name a file that does not exist".encode())
    assert (path / "all.jsonl").read_text() == "old"
    assert sorted(each.name for each in path.iterdir()) == ["all.jsonl", "link", "opscore-data"]


def test_statistics_are_shown_for_people(path: Path) -> None:
    shown = run("stats", cwd=path).stdout.decode()
    assert not re.search(r" \n", shown), "a line ends with what it says"
    for part in (
        "6 unfinished, 2 ended",
        "40 records",
        "median 0.00 ms",
        "35 in 35 syncs",
        "commit 63",
        "tasks_in_line",
    ):
        assert part in shown


def test_findings_are_told_by_place_and_exit_with_1(path: Path) -> None:
    with open_store(path / "opscore-data") as store:
        stray = attrs_free(SIGNATURES.put(SeenSignature(signature="a", seen_at=1.0)))
        store.apply([Submission(writes=(stray,))])
    done = run("verify", cwd=path)
    assert done.returncode == 1
    assert done.stdout.decode().splitlines() == [
        "signatures 'b': it is the row of 'a'",
        "signatures 'b': the index entries stored with it are not those of its row",
        "signatures 'b': index signatures_by_time has no entry for it",
    ]
    assert says(run("verify", "--json", cwd=path), 1)["findings"] == 3


def attrs_free(put: Put) -> Put:
    """The same value under another key, and in no index."""
    return Put(put.table, b"b", put.body, put.schema)


@pytest.mark.parametrize("damage", ["zeroed", "cut short"])
def test_a_damaged_page_is_told_of_and_never_as_sound(damage: str, path: Path) -> None:
    file = path / "opscore-data" / "data.mdb"
    content = bytearray(file.read_bytes())
    if damage == "zeroed":
        content[3 * PAGE : -PAGE] = bytes(len(content) - 4 * PAGE)
    else:
        del content[len(content) // 2 :]
    file.write_bytes(content)
    done = run("verify", cwd=path)
    assert done.returncode == 1
    assert b"damaged" in done.stdout + done.stderr or b"can't be" in done.stdout + done.stderr


@pytest.mark.parametrize("command", [["stats"], ["export", "-"], ["backup", "copy"], ["compact"], ["verify"]])
def test_a_file_that_lost_its_end_is_refused_by_every_command_and_leaves_nothing(
    command: list[str], path: Path
) -> None:
    os.truncate(path / "opscore-data" / "data.mdb", 40_000)
    done = run(*command, cwd=path)
    assert done.returncode == 1
    assert b"is damaged: it is cut short" in done.stdout + done.stderr
    assert [each.name for each in path.iterdir()] == ["opscore-data"]
    assert not list(path.glob("opscore-data/*partial*"))


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["verify"], "there is no data.mdb"),
        (["stats"], "there is no data.mdb"),
        (["backup", "copy"], "there is no data.mdb"),
        (["export"], "there is no data.mdb"),
    ],
)
def test_where_there_is_no_store_is_said_in_one_sentence(command: list[str], told: str, tmp_path: Path) -> None:
    done = run(*command, cwd=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("opscore: ")
    assert told in line
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_has_had_enough_of_an_export_ends_it_quietly(path: Path) -> None:
    command = [sys.executable, "-m", "opscore", "export", "-"]
    with subprocess.Popen(command, cwd=path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(30) == 1


def test_an_import_that_is_interrupted_exits_with_130_and_leaves_nothing(path: Path) -> None:
    lines = run("export", "-", cwd=path).stdout
    command = [sys.executable, "-m", "opscore", "import", "-", "--data", "copy"]
    with subprocess.Popen(command, cwd=path, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdin is not None
        child.stdin.write(lines[:1_000])
        child.stdin.flush()
        deadline = time.monotonic() + 30
        while not list(path.glob(".copy.partial-*/filled/lock.mdb")):
            assert child.poll() is None
            assert time.monotonic() < deadline, "it has not begun to fill anything"
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 130
    assert sorted(each.name for each in path.iterdir()) == ["opscore-data"]


def test_what_a_killed_export_leaves_is_hidden_and_the_next_one_clears_it(path: Path) -> None:
    leftover, other = path / ".all.jsonl.partial-1", path / ".other.jsonl.partial-1"
    with leftover.open("wb") as out:
        fcntl.flock(out, fcntl.LOCK_EX)
        assert run("export", "all.jsonl", cwd=path).returncode == 0
        assert leftover.exists(), "it is still being written"
    (path / "all.jsonl").unlink()
    other.touch()
    assert run("export", "all.jsonl", cwd=path).returncode == 0
    assert sorted(each.name for each in path.glob("*.jsonl*")) == [other.name, "all.jsonl"]


def test_what_a_killed_compaction_leaves_is_cleared_when_the_directory_is_opened_again(path: Path) -> None:
    leftover = path / "opscore-data" / "compact.partial"
    leftover.mkdir()
    (leftover / "data.mdb").write_bytes(b"half a copy")
    assert run("stats", cwd=path).returncode == 0
    assert leftover.exists(), "a reader can't know whether it is being made"
    with open_store(path / "opscore-data"):
        assert not leftover.exists()


def test_a_directory_that_is_made_is_its_owners_alone_and_one_that_is_there_stays_as_it_is(path: Path) -> None:
    def mode(name: str) -> int:
        return (path / name).stat().st_mode & 0o777

    (path / "opscore-data").chmod(0o755)
    with open_store(path / "opscore-data"), open_store(path / "above" / "opened"):
        pass
    assert run("backup", "saved", cwd=path).returncode == 0
    assert run("export", "all.jsonl", cwd=path).returncode == 0
    assert run("import", "all.jsonl", "--data", "imported", cwd=path).returncode == 0
    assert run("key", "create", "--scope", "viewer", "--data", "keys", cwd=path).returncode == 0
    made = ("above/opened", "saved", "imported", "keys")
    assert {name: oct(mode(name)) for name in made} == dict.fromkeys(made, "0o700")
    assert mode("opscore-data") == 0o755


def test_help_names_every_command_with_an_example() -> None:
    done = run("--help", cwd=Path.cwd())
    for command in ("backup", "verify", "export", "import", "compact", "stats"):
        assert f"  {command}".encode() in done.stdout
    assert b"opscore backup backups/" in run("backup", "--help", cwd=Path.cwd()).stdout


def test_an_older_format_is_read_as_it_is(tmp_path: Path) -> None:
    restored(1, tmp_path / "opscore-data")
    before = gzip.compress((tmp_path / "opscore-data" / "data.mdb").read_bytes(), mtime=0)
    said = says(run("verify", "--json", cwd=tmp_path))
    assert (said["format"], said["findings"]) == (1, 0)
    assert gzip.compress((tmp_path / "opscore-data" / "data.mdb").read_bytes(), mtime=0) == before


def test_a_check_runs_nothing_that_lies_where_it_is_begun_and_reads_no_other_settings(path: Path) -> None:
    (path / "json.py").write_text("raise SystemExit(7)")
    (path / "opscore.toml").write_text("not TOML")
    (path / "opscore-data").rename(path / "-data")
    for arguments in (["--data", "-data"], ["--", "-data"]):
        command = [sys.executable, "-P", "-m", "opscore", "verify", "--config", os.devnull, *arguments]
        done = subprocess.run(command, cwd=path, capture_output=True, timeout=60, check=False)
        assert b"is sound: 141 values" in done.stdout, done.stderr.decode()


@pytest.mark.parametrize(
    ("number", "told"),
    [(signal.SIGBUS, b"a page is damaged"), (signal.SIGKILL, b"opscore: SIGKILL ended the check at its pages")],
)
def test_a_check_that_somebody_ended_tells_of_no_damage(number: int, told: bytes, path: Path) -> None:
    (path / "sitecustomize.py").write_text(
        f"import os, sys\nif '--in-process' in sys.orig_argv: os.kill(os.getpid(), {number:d})"
    )
    command = [sys.executable, "-m", "opscore", "verify"]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(path), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, cwd=path, env=variables, capture_output=True, timeout=60, check=False)
    assert (done.returncode, told in done.stdout + done.stderr) == (1, True), done.stderr.decode()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files in other people's directories that lock them out")
def test_what_root_does_in_a_directory_leaves_it_to_its_owner(path: Path) -> None:
    data = path / "opscore-data"
    (data / "keys.json").unlink()
    (data / "data.mdb").chmod(0o600)
    (path / "saved").mkdir()
    for each in (data, data / "data.mdb", path / "saved"):
        os.chown(each, 65_534, 65_534)
    for arguments in (["stats"], ["backup", "saved"], ["compact"], *[["key", "create", "--scope", "viewer"]] * 2):
        assert run(*arguments, cwd=path).returncode == 0
    made = {each.name: each.stat() for each in data.iterdir()}
    assert set(made) == {"data.mdb", "keys.json", "lock.mdb", "opscore.lock"}
    assert made["data.mdb"].st_mode & 0o777 == 0o600
    made["saved"] = (path / "saved" / "data.mdb").stat()
    assert {name: (each.st_uid, each.st_gid) for name, each in made.items()} == dict.fromkeys(made, (65_534, 65_534))
