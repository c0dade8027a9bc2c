"""What the schedules' actor is told; every one of these is a hint."""

import attrs

from opscore.actors.message import Message


class SchedulesProtocol:
    """What the schedules' actor takes."""


@attrs.frozen(kw_only=True)
class KeepSchedules(Message[SchedulesProtocol, None]):
    """Every part of the node is there: begin to start what is due."""


@attrs.frozen(kw_only=True)
class ScheduleChanged(Message[SchedulesProtocol, None]):
    """A schedule was made, paused, resumed or deleted: look again what is due next."""

    schedule_id: str
