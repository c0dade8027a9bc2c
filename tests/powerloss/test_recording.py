import random
import re
import sys
from pathlib import Path

import pytest

from tests.powerloss import recording
from tests.powerloss.campaign import check_complete
from tests.powerloss.disk import EVERYTHING, Disk, Names
from tests.powerloss.recording import Event, Kind

pytestmark = pytest.mark.skipif(not recording.POSSIBLE, reason="the recorder needs Linux and a C compiler")

EVERY_CALL = """
import ctypes, os, pathlib, sys
root = pathlib.Path(sys.argv[1])
directory = root / "directory"
directory.mkdir()
os.chdir(root)
a = os.open("directory/a", os.O_RDWR | os.O_CREAT)
assert os.write(a, b"written ") == 8
assert os.writev(a, [b"as ", b"parts "]) == 9
assert os.pwrite(a, b"W", 0) == 1
assert os.pwritev(a, [b"far", b" out"], 5_000) == 7
assert os.pwritev(a, [b"through by ", b"flag"], 2_000, os.RWF_DSYNC) == 15
through = os.open("directory/a", os.O_WRONLY | os.O_DSYNC)
assert os.pwrite(through, b"through", 1_000) == 7
appending = os.open("directory/a", os.O_WRONLY | os.O_APPEND)
assert os.write(appending, b"at the end") == 10
assert os.write(os.dup(a), b"by another number") == 17
os.fsync(a)
at = os.open("directory", os.O_RDONLY)
b = os.open("b", os.O_RDWR | os.O_CREAT, dir_fd=at)
os.ftruncate(b, 3_000)
os.posix_fallocate(b, 0, 4_000)
os.rename("b", "c", src_dir_fd=at, dst_dir_fd=at)
os.close(os.open("directory/gone", os.O_WRONLY | os.O_CREAT))
os.unlink("directory/gone")
os.close(os.open("directory/a", os.O_RDWR))
os.close(os.open("emptied", os.O_WRONLY | os.O_CREAT))
pathlib.Path("emptied").write_bytes(b"1")
os.close(os.open("emptied", os.O_WRONLY | os.O_TRUNC))
os.fdatasync(b)
os.fsync(at)
pathlib.Path(sys.argv[1] + "-beside").write_bytes(b"of no interest")
if os.fork() == 0:
    pathlib.Path(sys.argv[1] + "-child").write_bytes(b"nor is a child")
    os._exit(0)
os.wait()
"""
PAST_THE_RECORDER = """
import ctypes, pathlib, sys
c = ctypes.CDLL(None)
c.fopen.restype = ctypes.c_void_p
path = pathlib.Path(sys.argv[1]) / "stream"
path.write_bytes(b"")
stream = ctypes.c_void_p(c.fopen(str(path).encode(), b"w"))
c.fputs(b"by the C library itself", stream)
c.fclose(stream)
"""
THROUGH_A_MAPPING = """
import mmap, os, pathlib, sys
file = os.open(pathlib.Path(sys.argv[1]) / "mapped", os.O_RDWR | os.O_CREAT)
os.ftruncate(file, 4_096)
mmap.mmap(file, 4_096)[0] = 1
"""


def record(program: str, directory: Path) -> tuple[list[Event], Path]:
    root = directory / "root"
    root.mkdir()
    return recording.record([sys.executable, "-c", program, str(root)], root=root, scratch=directory), root


def test_every_call_that_changes_a_file_is_recorded_and_none_of_other_files_or_processes(tmp_path: Path) -> None:
    events, root = record(EVERY_CALL, tmp_path)
    check_complete(events, root)
    assert {event.kind for event in events} == set(Kind) - {Kind.MAP_WRITABLE, Kind.MARK}
    through = [event for event in events if event.kind is Kind.WRITE_THROUGH]
    assert [(event.offset, event.payload) for event in through] == [(2_000, b"through by flag"), (1_000, b"through")]
    disk = Disk(names=Names.BY_FILE)
    for event in events:
        disk.begin(event)
        disk.complete(event)
    names = {"directory", "directory/a", "directory/c", "emptied"}
    assert set(disk.after_power_loss(random.Random(0), EVERYTHING).entries) == names


@pytest.mark.parametrize(
    ("program", "why"),
    [
        (PAST_THE_RECORDER, "the recorder saw everything"),
        (THROUGH_A_MAPPING, "{'mapped'} is written through a mapping"),
    ],
    ids=["a stream", "a mapping"],
)
def test_a_write_that_the_recorder_can_not_see_is_found(program: str, why: str, tmp_path: Path) -> None:
    events, root = record(program, tmp_path)
    with pytest.raises(AssertionError, match=re.escape(why)):
        check_complete(events, root)
