"""A supervised actor library on trio: typed messages, bounded mailboxes and OTP's supervision trees.

    from opscore.actors import Actor, ChildSpec, Message, SupervisorSpec, handles, open_system

The names below are all that users need; they are loaded when they are first used. The modules behind them:

    message · actor · ref · reply     messages, actors, their addresses and their replies
    spec · mailbox_spec · backoff     what a tree consists of
    supervision                       what a supervisor decides: a pure function
    system · supervisor               a running tree
    mailbox · dead_letters            where messages wait, and where lost ones go
    actor_cell · cell · incarnation   one place of the tree, and what lives in it
    scheduler · steps · timers · clock  tasks, deadlines, time and randomness
    registry · snapshot               names, and the observable state of a system
    testkit                           tools to test actors with
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from opscore.actors.actor import Actor, Context, Terminated, handles
    from opscore.actors.backoff import Backoff
    from opscore.actors.clock import Clock, SystemClock, VirtualClock
    from opscore.actors.dead_letters import DeadLetter, DeadLetterReason, DeadLetters
    from opscore.actors.errors import (
        ActorError,
        ActorFailed,
        ActorRestarted,
        ActorStopped,
        AskCycle,
        AskTimeout,
        MailboxFull,
        NameTaken,
        NurseryLeftOpen,
        StartFailed,
        StashFull,
        SystemFailed,
    )
    from opscore.actors.mailbox_spec import MailboxSpec, Overflow
    from opscore.actors.message import Message
    from opscore.actors.ref import Ref
    from opscore.actors.registry import Name, Registry
    from opscore.actors.reply import Reply
    from opscore.actors.scheduler import SchedulerStatistics
    from opscore.actors.snapshot import ActorSnapshot, State, SystemStatistics
    from opscore.actors.spec import AutoShutdown, ChildSpec, Intensity, Restart, Strategy, SupervisorSpec
    from opscore.actors.supervisor import Supervisor
    from opscore.actors.system import System, open_system
    from opscore.actors.timers import Timer

__all__ = [
    "Actor",
    "ActorError",
    "ActorFailed",
    "ActorRestarted",
    "ActorSnapshot",
    "ActorStopped",
    "AskCycle",
    "AskTimeout",
    "AutoShutdown",
    "Backoff",
    "ChildSpec",
    "Clock",
    "Context",
    "DeadLetter",
    "DeadLetterReason",
    "DeadLetters",
    "Intensity",
    "MailboxFull",
    "MailboxSpec",
    "Message",
    "Name",
    "NameTaken",
    "NurseryLeftOpen",
    "Overflow",
    "Ref",
    "Registry",
    "Reply",
    "Restart",
    "SchedulerStatistics",
    "StartFailed",
    "StashFull",
    "State",
    "Strategy",
    "Supervisor",
    "SupervisorSpec",
    "System",
    "SystemClock",
    "SystemFailed",
    "SystemStatistics",
    "Terminated",
    "Timer",
    "VirtualClock",
    "handles",
    "open_system",
]

_PLACES: Final = {
    "Actor": "actor",
    "ActorError": "errors",
    "ActorFailed": "errors",
    "ActorRestarted": "errors",
    "ActorSnapshot": "snapshot",
    "ActorStopped": "errors",
    "AskCycle": "errors",
    "AskTimeout": "errors",
    "AutoShutdown": "spec",
    "Backoff": "backoff",
    "ChildSpec": "spec",
    "Clock": "clock",
    "Context": "actor",
    "DeadLetter": "dead_letters",
    "DeadLetterReason": "dead_letters",
    "DeadLetters": "dead_letters",
    "Intensity": "spec",
    "MailboxFull": "errors",
    "MailboxSpec": "mailbox_spec",
    "Message": "message",
    "Name": "registry",
    "NameTaken": "errors",
    "NurseryLeftOpen": "errors",
    "Overflow": "mailbox_spec",
    "Ref": "ref",
    "Registry": "registry",
    "Reply": "reply",
    "Restart": "spec",
    "SchedulerStatistics": "scheduler",
    "StartFailed": "errors",
    "StashFull": "errors",
    "State": "snapshot",
    "Strategy": "spec",
    "Supervisor": "supervisor",
    "SupervisorSpec": "spec",
    "System": "system",
    "SystemClock": "clock",
    "SystemFailed": "errors",
    "SystemStatistics": "snapshot",
    "Terminated": "actor",
    "Timer": "timers",
    "VirtualClock": "clock",
    "handles": "actor",
    "open_system": "system",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used."""
    if name not in _PLACES:
        raise AttributeError(f"module 'opscore.actors' has no attribute {name!r}")
    value = getattr(import_module(f"opscore.actors.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
