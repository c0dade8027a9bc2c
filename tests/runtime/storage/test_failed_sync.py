"""A disk that fails to sync: what it holds is unknown until the file is opened again, so nothing more is taken."""

import os
import subprocess
import sys
from pathlib import Path

from opscore.runtime.storage.lmdb_store import LmdbStore
from tests.runtime.storage import store_process
from tests.runtime.storage.store_process import TABLES

SHIM = Path(__file__).with_name("failing_sync.c")


def test_after_a_failed_sync_nothing_more_is_taken_and_a_reopen_has_all_that_was_acknowledged(tmp_path: Path) -> None:
    shim, sign = tmp_path / "failing_sync.so", tmp_path / "fail"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", shim, SHIM, "-ldl"], check=True)
    command = [sys.executable, store_process.__file__, "until_uncertain", str(tmp_path / "data")]
    environment = {**os.environ, "LD_PRELOAD": str(shim), "FAIL_SYNC": str(sign)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for _ in range(20):
            acknowledged = int(child.stdout.readline())
        sign.touch()
        said = child.stdout.read().splitlines()
    acknowledged = max([acknowledged, *(int(line) for line in said if line.isdigit())])
    uncertain, refused, reads = said[-3:]
    assert uncertain.startswith("uncertain a commit to ")
    assert "Input/output error" in uncertain
    assert refused == "refused"
    assert reads == f"reads up to {acknowledged}"
    with LmdbStore(tmp_path / "data", tables=TABLES) as store:
        with store.snapshot() as view:
            assert view.last_sequence() == acknowledged
            assert [int.from_bytes(key, "big") for key, _ in view.scan("left")] == [*range(1, acknowledged + 1)]
        assert isinstance(store.apply([store_process.both(acknowledged + 1)])[0], int)
