"""The protocols of the runtime's actors: a marker class for each kind of actor, by which its messages are typed."""


class JournalProtocol:
    """The journal's messages: none, because commits and loads wait in a line of their own."""


class AgentProtocol:
    """The messages that an agent's actor takes."""


class SessionProtocol:
    """The messages that a session's actor takes."""


class DispatcherProtocol:
    """The messages that the dispatcher takes."""


class TimersProtocol:
    """The messages that the timers take."""
