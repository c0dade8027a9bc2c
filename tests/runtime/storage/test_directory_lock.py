import errno
import fcntl
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from opscore.runtime.errors import StoreError, StoreLocked
from opscore.runtime.storage.directory_lock import LOCK_NAME, DirectoryLock
from opscore.runtime.storage.lmdb_store import LmdbStore
from tests.runtime.storage import store_process
from tests.runtime.storage.store_process import TABLES


def holder(path: Path) -> "subprocess.Popen[str]":
    """Another process that has the store open."""
    command = [sys.executable, store_process.__file__, "hold", str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


def test_a_second_process_is_refused_and_told_host_and_process_of_the_first(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        with pytest.raises(StoreLocked) as caught:
            LmdbStore(tmp_path, tables=TABLES)
        assert caught.value.owner == f"process {process.pid} on host {platform.node()}"
        assert f"{tmp_path} is in use by process {process.pid} on host" in str(caught.value)
        process.communicate()
    assert process.returncode == 0
    LmdbStore(tmp_path, tables=TABLES).close()


def test_the_directory_is_free_after_its_holder_was_killed(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.kill()
        process.wait()
        LmdbStore(tmp_path, tables=TABLES).close()


def test_the_same_process_is_refused_too_because_lmdb_must_not_be_opened_twice_in_one(tmp_path: Path) -> None:
    lock = DirectoryLock.acquire(tmp_path)
    with pytest.raises(StoreLocked, match=f"process {os.getpid()}"):
        DirectoryLock.acquire(tmp_path)
    lock.release()
    DirectoryLock.acquire(tmp_path).release()


def test_a_lock_can_be_released_twice_and_releases_nobody_elses(tmp_path: Path) -> None:
    lock = DirectoryLock.acquire(tmp_path)
    lock.release()
    other = DirectoryLock.acquire(tmp_path)
    lock.release()
    with pytest.raises(StoreLocked):
        DirectoryLock.acquire(tmp_path)
    other.release()


def test_a_program_that_the_holder_starts_does_not_inherit_the_lock(tmp_path: Path) -> None:
    lock = DirectoryLock.acquire(tmp_path)
    wait = [sys.executable, "-c", "import sys; print('up', flush=True); sys.stdin.read()"]
    with subprocess.Popen(wait, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, close_fds=False) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"
        lock.release()
        DirectoryLock.acquire(tmp_path).release()
        child.communicate()


FORKS = """
import os, sys
from pathlib import Path
from opscore.runtime.errors import StoreLocked
from opscore.runtime.storage.directory_lock import DirectoryLock

lock = DirectoryLock.acquire(Path(sys.argv[1]))
if os.fork() == 0:
    lock.release() if sys.argv[2] == "released in the child" else sys.stdin.read()
    os._exit(0)
if sys.argv[2] == "released in the child":
    os.wait()
else:
    lock.release()
try:
    DirectoryLock.acquire(Path(sys.argv[1]))
except StoreLocked:
    print("locked")
else:
    print("free")
"""


@pytest.mark.parametrize(("who", "then"), [("released in the child", "locked"), ("released in the parent", "free")])
def test_a_process_that_is_forked_off_neither_keeps_the_lock_nor_gives_it_free(
    tmp_path: Path, who: str, then: str
) -> None:
    forks = [sys.executable, "-c", FORKS, str(tmp_path), who]
    with subprocess.Popen(forks, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{then}\n"
        process.communicate()
    assert process.returncode == 0


def test_a_lock_file_without_a_name_in_it_still_refuses(tmp_path: Path) -> None:
    lock = DirectoryLock.acquire(tmp_path)
    os.truncate(tmp_path / LOCK_NAME, 0)
    with pytest.raises(StoreLocked, match="in use by another process"):
        DirectoryLock.acquire(tmp_path)
    lock.release()


def test_a_lock_file_that_can_not_be_made_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).mkdir()
    with pytest.raises(StoreError, match="can't be opened for writing"):
        DirectoryLock.acquire(tmp_path)


def test_a_file_system_without_locks_is_not_taken_for_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(_: int, __: int) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with pytest.raises(StoreError, match="can't be locked") as caught:
        DirectoryLock.acquire(tmp_path)
    assert not isinstance(caught.value, StoreLocked)
