"""The protocols of the runtime's actors: a marker class for each kind of actor, by which its messages are typed."""


class AgentProtocol:
    """The messages that an agent's actor takes."""


class SessionProtocol:
    """The messages that a session's actor takes."""


class DispatcherProtocol:
    """The messages that the dispatcher takes."""


class TimersProtocol:
    """The messages that the timers take."""


class SchedulesProtocol:
    """The messages that the schedules' actor takes."""
