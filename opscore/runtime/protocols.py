"""Who takes the runtime's messages: one mark for each kind of actor."""


class JournalProtocol:
    """What the journal takes: nothing; commits and loads stand in its line."""


class AgentProtocol:
    """What an agent's actor takes."""


class SessionProtocol:
    """What a session's actor takes."""


class DispatcherProtocol:
    """What the dispatcher takes."""


class TimersProtocol:
    """What the timers take."""
