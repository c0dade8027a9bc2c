"""The addresses of the runtime's actors. Addressing an agent or a session activates its actor."""

import re
from collections.abc import Callable
from typing import Any, Final, TypeVar
from urllib.parse import quote, unquote

import attrs

from opscore.actors.message import Message
from opscore.actors.ref import Ref
from opscore.actors.snapshot import State
from opscore.actors.spec import ChildSpec
from opscore.actors.supervisor import Supervisor
from opscore.actors.system import System
from opscore.runtime.journal.commit_line import Journal
from opscore.runtime.messages.protocols import (
    AgentProtocol,
    DispatcherProtocol,
    SchedulesProtocol,
    SessionProtocol,
    TimersProtocol,
)

ProtocolT = TypeVar("ProtocolT")

JOURNAL_PATH: Final = "/journal"
DISPATCHER_PATH: Final = "/dispatcher"
TIMERS_PATH: Final = "/timers"
SCHEDULES_PATH: Final = "/schedules"
AGENTS_PATH: Final = "/agents"
SESSIONS_PATH: Final = "/sessions"

_SAFE: Final = ":@ "
_NAME: Final = re.compile(rf"[A-Za-z0-9_.~{_SAFE}-]+")


@attrs.define(kw_only=True)
class Addresses:
    """The actors by name; the node binds this to the actor system as soon as that runs."""

    journal: Journal
    """Gives access to the journal."""
    agent_spec: Callable[[str], ChildSpec[Any]]
    session_spec: Callable[[str], ChildSpec[Any]]
    new_session_spec: Callable[[str], ChildSpec[Any]]
    """For a session whose id was made just now, so that there is nothing to read."""
    _system: System | None = attrs.field(default=None, init=False)
    # Looked up once: static actors keep their addresses across restarts, but lose their names first as the node stops.
    _static: dict[str, Ref[Any]] = attrs.field(factory=dict, init=False)
    _pools: dict[str, Supervisor] = attrs.field(factory=dict, init=False)

    def bind(self, system: System) -> None:
        """Bind the addresses to the running system."""
        self._system = system
        for path in (JOURNAL_PATH, DISPATCHER_PATH, TIMERS_PATH, SCHEDULES_PATH):
            ref = system.ref(path)
            assert ref is not None, f"{path} is a static child"
            self._static[path] = ref
        self._pools = {path: system.supervisor(path) for path in (AGENTS_PATH, SESSIONS_PATH)}

    @property
    def bound(self) -> bool:
        """Whether the addresses are bound; they are not yet while the first actors start."""
        return self._system is not None

    @property
    def system(self) -> System:
        """The running system."""
        assert self._system is not None, "addresses are bound before anything is looked up"
        return self._system

    def down(self) -> str | None:
        """Return the path of a static actor that is not running at the moment, if there is one."""
        return next((path for path in self._static if self.system.state(path) is not State.RUNNING), None)

    @property
    def dispatcher(self) -> Ref[DispatcherProtocol]:
        """The address of the dispatcher."""
        return self._static[DISPATCHER_PATH]

    @property
    def timers(self) -> Ref[TimersProtocol]:
        """The address of the timers."""
        return self._static[TIMERS_PATH]

    @property
    def schedules(self) -> Ref[SchedulesProtocol]:
        """The address of the schedules' actor."""
        return self._static[SCHEDULES_PATH]

    @property
    def sessions_active(self) -> int:
        """How many actors of sessions are in memory."""
        return self._pools[SESSIONS_PATH].child_count

    def agent(self, agent_id: str) -> Ref[AgentProtocol]:
        """Return the agent's actor, activating it if it is not in memory."""
        return self._activated(AGENTS_PATH, agent_id, self.agent_spec)

    def session(self, session_id: str) -> Ref[SessionProtocol]:
        """Return the session's actor, activating it if it is not in memory."""
        return self._activated(SESSIONS_PATH, session_id, self.session_spec)

    def active_session(self, session_id: str) -> Ref[SessionProtocol] | None:
        """Return the session's actor if it is in memory."""
        return self._pools[SESSIONS_PATH].child(child_name(session_id))

    def new_session(self, session_id: str) -> Ref[SessionProtocol]:
        """Return the actor of a session whose id was made just now."""
        return self._activated(SESSIONS_PATH, session_id, self.new_session_spec)

    def _activated(self, path: str, identity: str, spec: Callable[[str], ChildSpec[Any]]) -> Ref[Any]:
        supervisor = self._pools[path]
        return supervisor.child(child_name(identity)) or supervisor.start_child(spec(identity))


def child_name(identity: str) -> str:
    """Return an id as a name in the tree, in which slashes separate the parts of a path."""
    # Most ids are valid names already, and `quote` takes ten times as long to find that out.
    return identity if _NAME.fullmatch(identity) else quote(identity, safe=_SAFE)


def identity_of(name: str) -> str:
    """Return the id that a name in the tree stands for."""
    return unquote(name)


def hint(ref: Ref[ProtocolT], message: Message[ProtocolT, Any]) -> None:
    """Tell a message, unless the node is stopping: everything that a hint would cause is rebuilt from rows."""
    if ref.alive:
        ref.tell(message)
