"""What can happen to a run that the plain interpreter follows, and what each comes to there."""

from collections.abc import Iterator
from typing import Any

import attrs

from opscore.runtime.models import SessionStatus, TaskStatus
from tests.runtime.interpreter import ENDS, LOSSES_MAX, Interpreter, Thing

SIGNALS_EARLY_MAX = 3
COMPLETE, FAIL, LOSE, DUE, SIGNAL = "complete", "fail", "lose", "due", "signal"


@attrs.frozen(repr=False)
class Happening:
    """Something that happens to a run, or to one task or item of it."""

    what: str
    key: str = ""
    """The id of the task in its document."""
    item: int | None = None
    at: float | None = None
    """It does not happen before this time."""
    name: str = ""
    """Of a signal."""

    def __repr__(self) -> str:
        place = self.key if self.item is None else f"{self.key}[{self.item}]"
        return " ".join(filter(None, (self.what, place, self.name)))


class PlainRun(Interpreter):
    """An interpreter to which things happen."""

    def find(self, key: str, item: int | None) -> Thing:
        """A task, or an item of its list."""
        return self.things[key] if item is None else self.items[key][item]

    def possible(self) -> list[Happening]:
        """What moves the run on."""
        return [] if self.over is not None else list(self._possible())

    def _possible(self) -> Iterator[Happening]:
        if self.paused:
            yield from [Happening("resume")] * 3
        if self.session_due is not None:
            yield Happening("session due", at=self.session_due)
        for thing in self.every():
            key, item = thing["key"], thing["item"]
            if thing["is"] is TaskStatus.READY and not self.paused:
                yield Happening("dispatch", key, item)
            if thing["out"]:
                yield from (
                    Happening(what, key, item)
                    for what in (COMPLETE, COMPLETE, COMPLETE, FAIL, "fatal", "give up", LOSE)
                )
                if thing["is"] is TaskStatus.DISPATCHED:
                    yield Happening("start", key, item)
            if thing["due"] is not None:
                yield Happening(DUE, key, item, at=thing["due"])
            kind = self.specs[key].get("type")
            waits = self.awaits(thing) and not self.has_list(thing)
            if waits and kind == "workflow":
                ends = ("child completed", "child failed", "child cancelled", "child running", "no child")
                yield from (Happening(what, key, item) for what in ends)
            early = thing["is"] is TaskStatus.PENDING and len(self.signals) < SIGNALS_EARLY_MAX
            if kind == SIGNAL and (waits or early):
                yield Happening(SIGNAL, name=self.signal_of(thing))

    def beside(self) -> list[Happening]:
        """What may happen at any time, by who asks for it or by the clock."""
        return list(self._beside())

    def _beside(self) -> Iterator[Happening]:
        if self.over is None:
            yield Happening("resume" if self.paused else "pause")
            yield Happening("reset")
            yield Happening("terminate")
            if not self.cancelled:
                yield Happening("cancel")
            for name in sorted({self.signal_of(thing) for thing in self.things.values() if self.kind(thing) == SIGNAL}):
                yield Happening(SIGNAL, name=name)
            yield Happening("session due")
            yield from (Happening(DUE, thing["key"], thing["item"]) for thing in [*self.every()][:3])
        if self.over is SessionStatus.FAILED and not self.compensated:
            yield Happening("retry")

    def kind(self, thing: Thing) -> str:
        """What does a task."""
        return str(self.specs[thing["key"]].get("type", "agent"))

    @property
    def compensated(self) -> bool:
        """Whether something of it was undone."""
        undoing = [spec["compensateTaskId"] for spec in self.specs.values() if "compensateTaskId" in spec]
        return any(self.things[key]["is"] not in (TaskStatus.PENDING, TaskStatus.SKIPPED) for key in undoing)

    def happen(self, happening: Happening, now: float, luck: float, said: Any) -> None:
        """Let something happen.

        Args:
            happening: what.
            now: when.
            luck: the number from 0 to 1 that the delay of a retry is drawn by.
            said: the result, or what came with the signal.
        """
        self.now, self.luck = now, luck
        thing = self.find(happening.key, happening.item) if happening.key else None
        if thing is None:
            self.happens_to_all(happening, said)
        elif happening.what == DUE or happening.what.startswith("child"):
            self.looked_at(thing, happening.what, said)
        else:
            self.happens_to(thing, happening.what, said)
        self.look_around()

    def happens_to(self, thing: Thing, what: str, said: Any) -> None:
        """An agent does something with a task."""
        match what:
            case "dispatch":
                self.begun = True
                thing.update({"is": TaskStatus.DISPATCHED, "out": True, "due": None, "attempts": thing["attempts"] + 1})
            case "start":
                thing["is"] = TaskStatus.RUNNING
            case "complete":
                self.close(thing, TaskStatus.COMPLETED, said)
            case "fail":
                self.fails(thing, "it broke", "broke", for_good=False)
            case "fatal":
                self.fails(thing, "it can't be", "fatal", for_good=False)
            case "give up":
                self.fails(thing, "it broke", "broke", for_good=True)
            case "lose":
                if thing["losses"] + 1 == LOSSES_MAX:
                    self.fails(thing, "it went silent", "lost", for_good=False)
                else:
                    self.give_back(thing, "lost")
            case "no child":
                self.fails(thing, "there is none", "workflow_not_found", for_good=True)

    def give_back(self, thing: Thing, code: str) -> None:
        """An attempt is over that counts for nothing."""
        thing["error"] = {"message": "…", "code": code}
        if self.begins_nothing(thing):
            self.close(thing, TaskStatus.CANCELLED)
        else:
            thing["out"] = False
            thing["losses"] += code == "lost"
            self.wait_in_line(thing)

    def looked_at(self, thing: Thing, what: str, said: Any) -> None:
        """Its time may have come, or the run that it waits for may have ended."""
        if self.paused or self.over is not None:
            return
        if what == "child completed":
            self.close(thing, TaskStatus.COMPLETED, said)
        elif what == "child failed":
            self.fails(thing, "it broke", "broke", for_good=False)
        elif what == "child cancelled":
            self.fails(thing, "the run was cancelled", "cancelled", for_good=True)
        elif thing["due"] is None or self.now < thing["due"]:
            return
        elif self.kind(thing) == "delay" and thing["due"] != thing["closes"]:
            self.close(thing, TaskStatus.COMPLETED)
        elif thing["due"] == thing["closes"] or (self.is_closed(thing) and not self.awaits(thing)):
            self.ends_failed(thing, "…", "schedule_to_close")
        elif thing["is"] is TaskStatus.READY:
            self.ends_failed(thing, "…", "schedule_to_start")
        elif thing["is"] is TaskStatus.PENDING_RETRY:
            self.attempt(thing)
        elif self.kind(thing) == SIGNAL:
            self.ends_failed(thing, "…", "timeout")
        else:
            self.fails(thing, "…", "timeout", for_good=False)

    def happens_to_all(self, happening: Happening, said: Any) -> None:
        """Something happens to the run as a whole."""
        match happening.what:
            case "signal":
                self.told(happening.name, said)
            case "cancel":
                self.cancelled, self.paused, self.session_due = True, False, None
                self.take_back()
            case "terminate":
                self.cancelled, self.paused, self.session_due = True, False, None
                self.take_back()
                for handler in self.to_do():
                    if handler["is"] not in ENDS:
                        self.close(handler, TaskStatus.CANCELLED)
            case "pause":
                self.paused = True
            case "resume":
                self.paused, self.begun = False, True
            case "reset":
                self.begun, self.paused = self.begun or self.paused, False
                for thing in [each for each in self.every() if each["out"]]:
                    self.give_back(thing, "reset")
            case "session due":
                self.time_is_over()
            case "retry":
                self.retry()

    def told(self, name: str, said: Any) -> None:
        """A signal comes."""
        self.signals.append((name, said))
        waiting = [thing for thing in self.every() if self.awaits(thing) and not self.has_list(thing)]
        named = [each for each in waiting if self.kind(each) == SIGNAL and self.signal_of(each) == name]
        for thing in sorted(named, key=lambda each: each["since"])[:1]:
            self.hear(thing)

    def time_is_over(self) -> None:
        """The run's own time has passed."""
        if self.paused or self.session_due is None or self.now < self.session_due:
            return
        if not self.unwinding:
            message = f"it took longer than {self.document['sessionTimeoutSeconds']} s"
            self.failure = {"message": message, "code": "session_timeout"}
        self.take_back()

    def take_back(self) -> None:
        """What is out with agents is taken from them, but what undoes the run."""
        for thing in [each for each in self.graph() if each["out"]]:
            self.close(thing, TaskStatus.CANCELLED)

    def retry(self) -> None:
        """Begin again with what failed, and what was called off by that."""
        self.over, self.failure, self.result, self.begun = None, None, None, True
        self.session_due = self.after(self.document, "sessionTimeoutSeconds")
        for key in self.steps:
            if not self.is_over(key):
                for thing in (self.things[key], *self.items.get(key, ())):
                    self.renew(thing)
                if "fallbackTaskId" in self.specs[key]:
                    self.renew(self.things[self.specs[key]["fallbackTaskId"]])
        for key in self.things:
            if key not in self.steps and self.things[key]["is"] is TaskStatus.SKIPPED:
                self.renew(self.things[key])
        if "onFailure" in self.document:
            self.things[self.document["onFailure"]].update({"is": TaskStatus.CANCELLED, "result": None})
            self.renew(self.things[self.document["onFailure"]])

    def renew(self, thing: Thing) -> None:
        """Let a task be done anew, unless it was completed."""
        if thing["is"] is not TaskStatus.COMPLETED:
            thing.update({"is": TaskStatus.PENDING, "failures": 0, "losses": 0, "error": None, "closes": None})
