"""A whole runtime in a world of its own: virtual time, an order drawn from a seed, a disk and agents that fail.

Say what is run, by whom, and what may go wrong in a `Scenario`, and `play` it: every actor, the journal, the dispatcher
and the timers run as they do in production, and the same scenario is the same history, byte for byte.
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
