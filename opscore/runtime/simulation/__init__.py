"""Plays a whole runtime in a simulated world: virtual time, a seeded order of events, and a disk and agents that fail.

Describe the workflows, the agents and the faults in a `Scenario`, and `play` it. Every actor, the journal, the
dispatcher and the timers run as they do in production. The same scenario gives the same history, byte for byte.
"""

from opscore.runtime.simulation.faults import Faults
from opscore.runtime.simulation.fleet import AgentModel, Latency, Skill
from opscore.runtime.simulation.invariants import STANDARD, InvariantBroken, Invariants
from opscore.runtime.simulation.playing import Played, WorldFailed, play
from opscore.runtime.simulation.scenario import Calendar, Cordon, Look, Scenario, Steering, Sweep, Telling, Trigger

__all__ = [
    "STANDARD",
    "AgentModel",
    "Calendar",
    "Cordon",
    "Faults",
    "InvariantBroken",
    "Invariants",
    "Latency",
    "Look",
    "Played",
    "Scenario",
    "Skill",
    "Steering",
    "Sweep",
    "Telling",
    "Trigger",
    "WorldFailed",
    "play",
]
