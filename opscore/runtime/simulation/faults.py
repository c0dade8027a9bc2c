"""What may go wrong in a world, each with a rate, and the dice that decide when it does.

Every fault draws from a source of its own, so that switching one off leaves the others as they were: that is what
makes a failing world shrink.
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
"""What the faults begin with that the node itself has to get over."""


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
    """How often what goes wrong; a rate of 0 switches a fault off. Rates are chances from 0 to 1."""

    # --- the process
    process_dies: float = _rate(STEP, 0.0004, "the process is killed, between any two steps of any task")
    process_dies_in_recovery: float = _rate(STEP, 0.004, "it is killed while it opens, again and again if need be")
    process_restarts: float = _rate(STEP, 0.0001, "it is stopped in order, and started again")
    # --- the store
    commit_refused: float = _rate(BATCH, 0.01, "an I/O error before the commit: nothing is applied")
    commit_uncertain: float = _rate(
        BATCH, 0.004, "the sync fails, whether the commit was applied or not; the node stops"
    )
    commit_unanswered: float = _rate(
        BATCH, 0.01, "the writer fails, and nobody can say whether the commit was applied; the node goes on"
    )
    commit_stalled: float = _rate(BATCH, 0.01, "the disk takes seconds to minutes")
    commit_split: float = _rate(BATCH, 0.02, "a batch becomes durable in two commits, with time between them")
    disk_full: float = _rate(BATCH, 0.004, "nothing can be written for a while")
    disk_nearly_full: float = _rate(BATCH, 0.004, "only the reserve is left for a while: no new work")
    # --- the machine
    clock_moves: float = _rate(MINUTE, 0.005, "the wall clock is set forward or back, by seconds up to hours")
    machine_freezes: float = _rate(
        STEP, 0.0001, "everything stands still for seconds up to minutes, between any two steps, and time goes on"
    )
    # --- actors
    actor_raises: float = _rate(MESSAGE, 0.004, "an actor raises at a message, before or after it acted on it")
    run_poisoned: float = _rate(MESSAGE, 0.0005, "the actor of a run raises at every message for a minute")
    # --- deliveries
    delivery_refused: float = _rate(DELIVERY, 0.05, "the agent can't be reached")
    delivery_unavailable: float = _rate(DELIVERY, 0.03, "the agent answers 503, and when to come again")
    delivery_rejected: float = _rate(DELIVERY, 0.01, "the agent answers 400: a failure")
    delivery_lost: float = _rate(DELIVERY, 0.03, "the connection breaks, and the agent has nothing")
    delivery_broken: float = _rate(DELIVERY, 0.03, "the connection breaks, and the agent has it")
    delivery_repeated: float = _rate(DELIVERY, 0.03, "the agent gets it twice")
    delivery_slow: float = _rate(DELIVERY, 0.05, "it takes up to a minute")
    # --- what agents and clients call
    request_lost: float = _rate(CALL, 0.02, "it never arrives")
    reply_lost: float = _rate(CALL, 0.02, "it is done, and the caller doesn't learn so")
    request_repeated: float = _rate(CALL, 0.02, "it arrives twice")
    request_overlaps: float = _rate(CALL, 0.02, "the caller hangs up and asks again, and the node learns that late")
    request_slow: float = _rate(CALL, 0.03, "it takes up to a minute, so that later ones overtake it")
    # --- agents
    agent_crashes: float = _rate(ATTEMPT, 0.05, "it drops its work, and comes back after a while as a new process")
    agent_hangs: float = _rate(ATTEMPT, 0.02, "it says nothing more of its work for hours")
    agent_vanishes: float = _rate(ATTEMPT, 0.02, "it is cut off for longer than a lease, and then answers")
    agent_forgets: float = _rate(ATTEMPT, 0.02, "it sends no heartbeat while it works")
    agent_lies: float = _rate(ATTEMPT, 0.03, "it says it is idle while it works")
    agent_answers_twice: float = _rate(ATTEMPT, 0.05, "it says twice what came of its work")
    agent_answers_again: float = _rate(ATTEMPT, 0.03, "it says later, under another attempt, what came of an old one")
    agent_breaks: float = _rate(ATTEMPT, 0.03, "it reports an error")
    agent_goes: float = _rate(ATTEMPT, 0.02, "it reports that it is offline, or deregisters, with work in hand")
    agent_claims_again: float = _rate(CLAIM, 0.03, "it misses the answer to its claim and asks again under the same id")
    agent_claims_late: float = _rate(
        CLAIM, 0.03, "a copy of its claim arrives up to a minute after the claim is answered"
    )
    agent_wanders: float = _rate(REPORT, 0.02, "it says that it is active, though nobody gave it work")
    agent_doubles: float = _rate(AGENT, 0.2, "two processes claim work under its id")
    agent_disorders: float = _rate(AGENT, 0.2, "its reports carry times out of order")
    agent_skews: float = _rate(AGENT, 0.2, "its clock is hours ahead or behind")

    @classmethod
    def usual(cls, *names: str, times: float = 1.0) -> Self:
        """All faults at their usual rates, or only those that are named, by name or by the word they begin with.

        Args:
            names: such as `process_dies`, or `agent` for all of the agents'.
            times: how many times as often.

        Raises:
            UnknownFault: there is no such fault.
        """
        chosen = {field for name in names for field in _named(name)} if names else set(fault_names())
        rates = {
            field.name: min(1.0, field.metadata["usual"] * times) for field in attrs.fields(cls) if field.name in chosen
        }
        return cls(**rates)

    def on(self) -> tuple[str, ...]:
        """The faults that can happen."""
        return tuple(name for name in fault_names() if getattr(self, name) > 0)

    def without(self, names: Iterable[str]) -> Self:
        """The same without some of them."""
        return attrs.evolve(self, **dict.fromkeys(names, 0.0))


def fault_names() -> tuple[str, ...]:
    """The names of all faults."""
    return tuple(field.name for field in attrs.fields(Faults))


def fault_meaning(name: str) -> str:
    """Say what a fault is, and how its rate counts."""
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
    """Decides when what goes wrong, by the seed; nothing does once it is quiet.

    Args:
        seed: of the world.
        faults: how often.
        note: told of every fault that happens.
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
        """Set once nothing goes wrong any more."""

    @property
    def quiet(self) -> bool:
        """Whether nothing goes wrong any more."""
        return self.silence.is_set()

    async def pause(self, seconds: float) -> None:
        """Let a fault last so long, or until nothing goes wrong any more."""
        with trio.move_on_after(seconds):
            await self.silence.wait()

    def possible(self, name: str) -> bool:
        """Whether a fault may still happen."""
        return name in self._rates and not self.quiet

    def happens(self, name: str) -> bool:
        """Whether it happens now."""
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
        """Have it happen at the next occasion, once more than it was arranged for already."""
        self._arranged[name] = self._arranged.get(name, 0) + 1
        self._rngs.setdefault(name, random.Random(f"{self._seed}/{name}"))

    def steps_until(self, name: str) -> int | None:
        """In how many steps it happens next; nothing if it doesn't."""
        if not self.possible(name):
            return None
        # The number of failures before the first success of a geometric distribution, which costs one draw.
        share = self._rngs[name].expovariate(1.0) / self._rates[name]
        return 1 + int(share)

    def count(self, name: str) -> None:
        """Note that it happened."""
        self.happened[name] = self.happened.get(name, 0) + 1
        self._note(name)

    def rng(self, name: str) -> random.Random:
        """Where the particulars of a fault come from."""
        return self._rngs[name]
