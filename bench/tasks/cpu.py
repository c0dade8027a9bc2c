"""Processor time of processes, all threads included: this one, those it began, and those of a server."""

import os
import resource
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
_PARENT, _TIMES = 1, slice(11, 15)
"""Indexes of the fields of /proc/PID/stat after the name: the parent; user and system time, also of ended children."""


class Processor:
    """Adds up processor time.

    Args:
        servers: processes to count beside this one, with all processes that they begin; 0 means none.
    """

    def __init__(self, servers: Iterable[int] = ()) -> None:
        self._servers = tuple(pid for pid in servers if pid)

    def seconds(self) -> float:
        """Return the seconds so far; those of other processes in hundredths, as the kernel counts them."""
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
                # The process has ended in the meantime.
                continue
            found[int(entry.name)] = text.rpartition(")")[2].split()
    return found


def _family(pid: int, fields: dict[int, list[str]]) -> set[int]:
    family, fresh = {pid}, {pid}
    while fresh:
        fresh = {child for child, each in fields.items() if int(each[_PARENT]) in fresh} - family
        family |= fresh
    return family
