"""The messages to the schedules' actor; each is a hint."""

import attrs

from opscore.actors.message import Message
from opscore.runtime.messages.protocols import SchedulesProtocol


@attrs.frozen(kw_only=True)
class KeepSchedules(Message[SchedulesProtocol, None]):
    """Every part of the node has started: begin to start runs that are due."""


@attrs.frozen(kw_only=True)
class ScheduleChanged(Message[SchedulesProtocol, None]):
    """A schedule was created, paused, resumed or deleted: read its next due time again."""

    schedule_id: str
