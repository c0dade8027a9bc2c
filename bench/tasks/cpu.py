"""What processor time processes have taken, all threads: this one, those it began, and a server's."""

import os
import resource
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
_PARENT, _TIMES = 1, slice(11, 15)
"""Among the fields of /proc/PID/stat behind the name: the parent; user and system time, and that of ended children."""


class Processor:
    """Adds up processor time.

    Args:
        servers: processes to be counted beside this one, with all that they begin; 0 is none.
    """

    def __init__(self, servers: Iterable[int] = ()) -> None:
        self._servers = tuple(pid for pid in servers if pid)

    def seconds(self) -> float:
        """Until now. The kernel counts others in hundredths of a second, this process precisely."""
        fields = _processes()
        own = resource.getrusage(resource.RUSAGE_SELF)
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        others = _family(os.getpid(), fields) - {os.getpid()}
        for server in self._servers:
            others |= _family(server, fields)
        ticks = sum(sum(map(int, fields[pid][_TIMES])) for pid in others if pid in fields)
        return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime + ticks * _TICK_S


def _processes() -> dict[int, list[str]]:
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text()
            except OSError:
                # It has ended meanwhile.
                continue
            found[int(entry.name)] = text.rpartition(")")[2].split()
    return found


def _family(pid: int, fields: dict[int, list[str]]) -> set[int]:
    family, fresh = {pid}, {pid}
    while fresh:
        fresh = {child for child, each in fields.items() if int(each[_PARENT]) in fresh} - family
        family |= fresh
    return family
