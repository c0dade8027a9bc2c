"""The faults of a world, each with a rate, and the dice that decide when they happen.

Every fault draws from its own source of random numbers, so that switching one off leaves the others as they were. A
failing world can therefore be shrunk.
"""

import random
from collections.abc import Callable, Iterable
from typing import Any, Final, Self

import attrs
import trio

STEP: Final = "step"
BATCH: Final = "batch"
MESSAGE: Final = "message"
DELIVERY: Final = "delivery"
CALL: Final = "call"
ATTEMPT: Final = "attempt"
AGENT: Final = "agent"
REPORT: Final = "idle report"
CLAIM: Final = "claim"
MINUTE: Final = "minute"
IN_THE_NODE: Final = ("process", "commit", "disk", "actor", "run")
"""The prefixes of the faults that happen in the node itself."""


class UnknownFault(ValueError):
    """There is no fault of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no fault {name!r}; there are {', '.join(sorted(fault_names()))}")


def _is_share(_: Any, field: "attrs.Attribute[float]", value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"the rate of {field.name} is {value}, and has to be from 0 to 1")


def _rate(per: str, usual: float, what: str) -> Any:
    return attrs.field(
        default=0.0, validator=_is_share, converter=float, metadata={"per": per, "usual": usual, "what": what}
    )


@attrs.frozen(kw_only=True)
class Faults:
    """The rate of each fault: a chance from 0 to 1 for each occasion. A rate of 0, the default, switches the fault off.

    Raises:
        ValueError: a rate is not from 0 to 1.
    """

    # --- the process
    process_dies: float = _rate(STEP, 0.0004, "the process is killed, between any two steps of any task")
    process_dies_in_recovery: float = _rate(STEP, 0.004, "it is killed during recovery, possibly several times")
    process_restarts: float = _rate(STEP, 0.0001, "it is stopped gracefully, and started again")
    # --- the store
    commit_refused: float = _rate(BATCH, 0.01, "an I/O error before the commit: nothing is applied")
    commit_uncertain: float = _rate(BATCH, 0.004, "the sync fails, with the commit applied or not; the node stops")
    commit_unanswered: float = _rate(
        BATCH, 0.01, "the writer fails, and nobody can say whether the commit was applied; the node goes on"
    )
    commit_stalled: float = _rate(BATCH, 0.01, "the disk takes seconds to minutes")
    commit_split: float = _rate(BATCH, 0.02, "a batch becomes durable in two commits, with time between them")
    disk_full: float = _rate(BATCH, 0.004, "nothing can be written for a while")
    disk_nearly_full: float = _rate(BATCH, 0.004, "only the reserve is left for a while: no new work is accepted")
    # --- the machine
    clock_moves: float = _rate(MINUTE, 0.005, "the wall clock is set forward or back, by seconds up to hours")
    machine_freezes: float = _rate(
        STEP, 0.0001, "everything stands still for seconds up to minutes, between any two steps, and time goes on"
    )
    # --- actors
    actor_raises: float = _rate(MESSAGE, 0.004, "an actor raises before or after it handles a message")
    run_poisoned: float = _rate(MESSAGE, 0.0005, "the actor of a run raises at every message for a minute")
    # --- deliveries
    delivery_refused: float = _rate(DELIVERY, 0.05, "the agent can't be reached")
    delivery_unavailable: float = _rate(DELIVERY, 0.03, "the agent answers 503 with the time to retry after")
    delivery_rejected: float = _rate(DELIVERY, 0.01, "the agent answers 400, which fails the attempt")
    delivery_lost: float = _rate(DELIVERY, 0.03, "the connection breaks before the agent has the work")
    delivery_broken: float = _rate(DELIVERY, 0.03, "the connection breaks after the agent has the work")
    delivery_repeated: float = _rate(DELIVERY, 0.03, "the agent gets the work twice")
    delivery_slow: float = _rate(DELIVERY, 0.05, "it takes up to a minute")
    # --- what agents and clients call
    request_lost: float = _rate(CALL, 0.02, "it never arrives")
    reply_lost: float = _rate(CALL, 0.02, "it is carried out, but the reply is lost")
    request_repeated: float = _rate(CALL, 0.02, "it arrives twice")
    request_overlaps: float = _rate(CALL, 0.02, "the caller disconnects and repeats it, and the node notices late")
    request_slow: float = _rate(CALL, 0.03, "it takes up to a minute, so that later ones overtake it")
    # --- agents
    agent_crashes: float = _rate(ATTEMPT, 0.05, "it drops its work, and comes back after a while as a new process")
    agent_hangs: float = _rate(ATTEMPT, 0.02, "it says nothing about its work for hours")
    agent_vanishes: float = _rate(ATTEMPT, 0.02, "it is cut off for longer than a lease, and then answers")
    agent_forgets: float = _rate(ATTEMPT, 0.02, "it sends no heartbeat while it works")
    agent_lies: float = _rate(ATTEMPT, 0.03, "it says it is idle while it works")
    agent_answers_twice: float = _rate(ATTEMPT, 0.05, "it reports the outcome of its work twice")
    agent_answers_again: float = _rate(ATTEMPT, 0.03, "it reports the outcome of an old attempt during a later one")
    agent_breaks: float = _rate(ATTEMPT, 0.03, "it reports an error")
    agent_goes: float = _rate(ATTEMPT, 0.02, "it reports that it is offline, or deregisters, with work in hand")
    agent_claims_again: float = _rate(CLAIM, 0.03, "it misses the answer to its claim, and repeats it with the same id")
    agent_claims_late: float = _rate(
        CLAIM, 0.03, "a copy of its claim arrives up to a minute after the claim is answered"
    )
    agent_wanders: float = _rate(REPORT, 0.02, "it says that it is active, though nobody gave it work")
    agent_doubles: float = _rate(AGENT, 0.2, "two processes claim work under its id")
    agent_disorders: float = _rate(AGENT, 0.2, "its reports carry times out of order")
    agent_skews: float = _rate(AGENT, 0.2, "its clock is hours ahead or behind")

    @classmethod
    def usual(cls, *names: str, times: float = 1.0) -> Self:
        """Return all faults at their usual rates, or only some of them.

        Args:
            names: the names of faults, such as `process_dies`, or prefixes, such as `agent` for all faults of agents.
            times: the factor by which the usual rates are multiplied.

        Raises:
            UnknownFault: a name is neither a fault nor a prefix of one.
        """
        chosen = {field for name in names for field in _named(name)} if names else set(fault_names())
        rates = {
            field.name: min(1.0, field.metadata["usual"] * times) for field in attrs.fields(cls) if field.name in chosen
        }
        return cls(**rates)

    def on(self) -> tuple[str, ...]:
        """Return the names of the faults that can happen."""
        return tuple(name for name in fault_names() if getattr(self, name) > 0)

    def without(self, names: Iterable[str]) -> Self:
        """Return a copy with some of the faults switched off.

        Args:
            names: the names of the faults.
        """
        return attrs.evolve(self, **dict.fromkeys(names, 0.0))


def fault_names() -> tuple[str, ...]:
    """Return the names of all faults."""
    return tuple(field.name for field in attrs.fields(Faults))


def fault_meaning(name: str) -> str:
    """Say what a fault does, and what its rate is counted per."""
    metadata = getattr(attrs.fields(Faults), name).metadata
    return f"{metadata['what']} (a chance for each {metadata['per']})"


def _named(name: str) -> tuple[str, ...]:
    if name in fault_names():
        return (name,)
    found = tuple(each for each in fault_names() if each.startswith(f"{name}_"))
    if not found:
        raise UnknownFault(name)
    return found


class Dice:
    """Decides by the seed when each fault happens; none does once the dice are quiet.

    Args:
        seed: the seed of the world.
        faults: the rates.
        note: called with the name of every fault that happens.
    """

    def __init__(self, seed: int, faults: Faults, note: Callable[[str], None]) -> None:
        self._rngs = {name: random.Random(f"{seed}/{name}") for name in faults.on()}
        self._rates = {name: getattr(faults, name) for name in faults.on()}
        self._seed = seed
        self._arranged: dict[str, int] = {}
        self._note = note
        self.happened: dict[str, int] = {}
        """How often each fault has happened."""
        self.silence = trio.Event()
        """Set when faults stop."""

    @property
    def quiet(self) -> bool:
        """Whether faults have stopped."""
        return self.silence.is_set()

    async def pause(self, seconds: float) -> None:
        """Let a fault last for this long, or until faults stop."""
        with trio.move_on_after(seconds):
            await self.silence.wait()

    def possible(self, name: str) -> bool:
        """Whether a fault may still happen."""
        return name in self._rates and not self.quiet

    def happens(self, name: str) -> bool:
        """Decide whether a fault happens now, and count it if so."""
        if name not in self._rates and name not in self._arranged:
            return False
        if self.quiet or not (self._is_arranged(name) or self._is_drawn(name)):
            return False
        self.count(name)
        return True

    def _is_drawn(self, name: str) -> bool:
        rate = self._rates.get(name)
        return rate is not None and self._rngs[name].random() < rate

    def _is_arranged(self, name: str) -> bool:
        left = self._arranged.pop(name, 0)
        if left > 1:
            self._arranged[name] = left - 1
        return left > 0

    def arrange(self, name: str) -> None:
        """Make a fault happen at its next occasion, in addition to those arranged before."""
        self._arranged[name] = self._arranged.get(name, 0) + 1
        self._rngs.setdefault(name, random.Random(f"{self._seed}/{name}"))

    def steps_until(self, name: str) -> int | None:
        """Draw in how many steps a fault happens next; None if it does not happen."""
        if not self.possible(name):
            return None
        # The number of failures before the first success of a geometric distribution, which costs one draw.
        share = self._rngs[name].expovariate(1.0) / self._rates[name]
        return 1 + int(share)

    def count(self, name: str) -> None:
        """Count a fault as happened, and note it."""
        self.happened[name] = self.happened.get(name, 0) + 1
        self._note(name)

    def rng(self, name: str) -> random.Random:
        """Return the random source from which the details of a fault are drawn."""
        return self._rngs[name]
