"""A store that processes of two containers have open, in each of which numbers of processes begin at 1."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from opscore.runtime.storage import formats
from tests.gateway.gateway_process import PATIENCE_S, command
from tests.runtime.journal.test_opening import restored
from tests.runtime.storage.test_room import PROCESS

CONTAINER = ["unshare", "--map-root-user", "--pid", "--fork", "--kill-child"]
"""Has a command be process 1 of a space of its own."""


def in_container(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CONTAINER, *command(*arguments)], cwd=path, capture_output=True, check=False, text=True, timeout=PATIENCE_S
    )


def test_a_store_is_read_beside_a_process_of_another_container_that_has_the_same_number(tmp_path: Path) -> None:
    if subprocess.run([*CONTAINER, "true"], capture_output=True, check=False, timeout=PATIENCE_S).returncode:
        pytest.skip("no space for processes may be made here")
    data = restored(formats.FORMAT, tmp_path / "opscore-data")
    holding = [*CONTAINER, *PROCESS, "hold", str(data)]
    with subprocess.Popen(holding, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        told = in_container(tmp_path, "stats", "--json")
        assert (told.returncode, told.stderr) == (0, "")
        assert json.loads(told.stdout)["sequence"] == 63
        saved = in_container(tmp_path, "backup", "saved")
        assert (saved.returncode, "holds commit 63" in saved.stdout) == (0, True), saved.stderr
        missing = in_container(tmp_path, "stats", "--data", "nowhere")
        assert (missing.returncode, "holds no store" in missing.stderr) == (1, True)
        again = in_container(tmp_path, "export", f"{os.devnull}/file")
        assert again.returncode == 1, "what the other process ends with is what the command ends with"
        holder.stdin.close()
        assert holder.wait(PATIENCE_S) == 0
