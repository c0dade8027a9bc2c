"""What type checkers take without a word: read it beside `negative.py`, which holds what they refuse."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar, assert_type

import attrs

from opscore.actors.actor import Actor, Context, Terminated, handles
from opscore.actors.message import Message
from opscore.actors.ref import Ref
from opscore.actors.reply import Reply
from opscore.actors.spec import ChildSpec, SupervisorSpec
from opscore.actors.supervisor import Supervisor
from opscore.actors.system import System, open_system
from opscore.actors.timers import Timer

ProtocolT = TypeVar("ProtocolT")
ReplyT = TypeVar("ReplyT")


@attrs.frozen(kw_only=True)
class State:
    """A reply with a type of its own."""

    count: int


@attrs.frozen(kw_only=True)
class Add(Message["Counter", None]):
    """A message that replies nothing."""

    amount: int


@attrs.frozen(kw_only=True)
class AddTwice(Add):
    """A subclass: it goes where its base goes, and its base's handler takes it."""


@attrs.frozen(kw_only=True)
class GetState(Message["Counter", State]):
    at_least: int = 0


@attrs.frozen(kw_only=True)
class GetCount(Message["Counter", int]):
    pass


@attrs.frozen(kw_only=True)
class GetSoon(Message["Counter", int]):
    """Answered later."""


@attrs.frozen(kw_only=True)
class GetNowOrSoon(Message["Counter", int]):
    """Answered at once or later, as it comes."""


@attrs.frozen(kw_only=True)
class FindName(Message["Counter", str | None]):
    """A reply that may be missing."""


@attrs.frozen(kw_only=True)
class Run(Message["Counter", Any]):
    """A reply that nobody knows."""


class Counter(Actor["Counter"]):
    def __init__(self, count: int = 0) -> None:
        self.count: int = count
        self.waiting: list[Reply[int]] = []
        self.timer: Timer | None = None

    async def on_start(self) -> None:
        assert_type(self.context, Context[Counter])
        assert_type(self.context.ref, Ref[Counter])
        self.timer = self.context.tell_after(1.0, Add(amount=1))
        self.context.tell_after(1.0, AddTwice(amount=1))
        self.context.watch(self.context.ref)

    @handles(Add)
    async def add(self, message: Add) -> None:
        self.count += message.amount

    @handles(GetState)
    async def get_state(self, message: GetState) -> State:
        return State(count=max(self.count, message.at_least))

    @handles(GetCount)
    async def get_count(self, message: GetCount) -> int:
        return self.count

    @handles(GetSoon)
    async def get_soon(self, message: GetSoon) -> Reply[int]:
        reply: Reply[int] = self.context.defer()
        self.waiting.append(reply)
        return reply

    @handles(GetNowOrSoon)
    async def get_now_or_soon(self, message: GetNowOrSoon) -> int | Reply[int]:
        return self.count or self.context.defer()

    @handles(FindName)
    async def find_name(self, message: FindName) -> str:
        return self.context.name

    @handles(Run)
    async def run(self, message: Run) -> list[int]:
        return [self.count]

    @handles(Terminated)
    async def terminated(self, message: Terminated) -> None:
        for reply in self.waiting:
            reply.set(len(message.actor))


class LoudCounter(Counter):
    """An actor's subclass takes what its base takes, and may handle it in its own way."""

    async def add(self, message: Add) -> None:
        await super().add(message)

    @handles(GetCount)
    async def get_count(self, message: GetCount) -> int:
        return -self.count

    @handles(AddTwice)
    async def add_twice(self, message: AddTwice) -> None:
        self.count += 2 * message.amount


class Store:
    """A protocol that two actors share; it is a name for the type checker and is never made."""


class ToStore(Message[Store, ReplyT]):
    """A base for the messages of one protocol, which leaves the reply open."""


@attrs.frozen(kw_only=True)
class Read(ToStore[bytes | None]):
    key: str


@attrs.frozen(kw_only=True)
class Write(ToStore[None]):
    key: str
    value: bytes


@attrs.frozen(kw_only=True)
class Parse(Message[Store, ReplyT], Generic[ReplyT]):
    """A message whose reply depends on how it is made."""

    key: str
    how: Callable[[bytes], ReplyT]


class MemoryStore(Actor[Store]):
    @handles(Read)
    async def read(self, message: Read) -> bytes | None:
        return None

    @handles(Write)
    async def write(self, message: Write) -> None:
        self.context.ref.tell(message)

    @handles(Parse)
    async def parse(self, message: Parse[Any]) -> Any:
        return message.how(b"1")


class FileStore(Actor[Store]):
    def __init__(self, folder: str) -> None:
        self.folder = folder

    @handles(Read)
    async def read(self, message: Read) -> bytes:
        return self.folder.encode()

    @handles(Write)
    async def write(self, message: Write) -> None:
        self.context.tell_after(0.5, message)


class AuditedStore(Store):
    """A wider protocol: who takes it takes what `Store` takes too."""


@attrs.frozen(kw_only=True)
class Audit(Message[AuditedStore, tuple[str, ...]]):
    pass


class CarefulStore(Actor[AuditedStore]):
    @handles(Read)
    async def read(self, message: Read) -> None:
        return None

    @handles(Audit)
    async def audit(self, message: Audit) -> tuple[str, ...]:
        return (self.context.name,)


async def a_reply_has_the_type_that_its_message_says(counter: Ref[Counter]) -> None:
    assert_type(await counter.ask(GetState(at_least=1)), State)
    state = await counter.ask(GetState(), timeout_s=1.0)
    assert_type(state.count, int)
    assert_type(await counter.ask(GetCount()), int)
    assert_type(await counter.ask(GetSoon()), int)
    assert_type(await counter.ask(GetNowOrSoon()), int)
    assert_type(await counter.ask(FindName()), str | None)
    assert_type(await counter.ask(Run()), Any)


async def what_an_actor_takes_can_be_told_and_sent(counter: Ref[Counter]) -> None:
    counter.tell(Add(amount=1))
    counter.tell(GetCount())
    await counter.send(Add(amount=1))
    await counter.send(AddTwice(amount=1))
    await counter.ask(Add(amount=1))
    await counter.ask(AddTwice(amount=1))


async def actors_of_one_protocol_go_by_one_reference(supervisor: Supervisor) -> None:
    memory = supervisor.start_child(ChildSpec(name="memory", factory=MemoryStore))
    file = supervisor.start_child(ChildSpec(name="file", factory=lambda: FileStore("data")))
    assert_type(memory, Ref[Store])
    assert_type(file, Ref[Store])
    store: Ref[Store] = memory if memory.alive else file
    store.tell(Write(key="a", value=b"1"))
    assert_type(await store.ask(Read(key="a")), bytes | None)
    assert_type(await store.ask(Parse(key="a", how=int)), int)
    assert_type(await store.ask(Parse(key="a", how=bytes.decode)), str)


async def a_wider_protocol_goes_where_a_narrower_one_does(supervisor: Supervisor) -> None:
    careful = supervisor.start_child(ChildSpec(name="careful", factory=CarefulStore))
    assert_type(careful, Ref[AuditedStore])
    assert_type(await careful.ask(Audit()), tuple[str, ...])
    assert_type(await careful.ask(Read(key="a")), bytes | None)
    store: Ref[Store] = careful
    store.tell(Read(key="a"))


async def a_child_is_addressed_by_the_protocol_of_its_factory(supervisor: Supervisor) -> None:
    spec = ChildSpec(name="counter", factory=Counter)
    assert_type(spec, ChildSpec[Counter])
    assert_type(supervisor.start_child(spec), Ref[Counter])
    counter: Ref[Counter] = supervisor.start_child(ChildSpec(name="loud", factory=LoudCounter))
    counter.tell(Add(amount=1))
    later: ChildSpec[Counter] = ChildSpec(name="later", factory=lambda: Counter(7))
    assert_type(supervisor.start_child(later), Ref[Counter])


def tell_all(refs: Iterable[Ref[ProtocolT]], message: Message[ProtocolT, Any]) -> None:
    for ref in refs:
        ref.tell(message)


async def ask_each(refs: Iterable[Ref[ProtocolT]], message: Message[ProtocolT, ReplyT]) -> list[ReplyT]:
    return [await ref.ask(message) for ref in refs]


async def forward(ref: Ref[ProtocolT], message: Message[ProtocolT, ReplyT]) -> ReplyT:
    await ref.send(message)
    return await ref.ask(message, timeout_s=1.0)


def start(supervisor: Supervisor, name: str, factory: Callable[[], Actor[ProtocolT]]) -> Ref[ProtocolT]:
    return supervisor.start_child(ChildSpec(name=name, factory=factory))


async def functions_over_references_keep_the_types(supervisor: Supervisor, counter: Ref[Counter]) -> None:
    tell_all([counter, counter], Add(amount=1))
    tell_all((counter,), AddTwice(amount=1))
    assert_type(await ask_each([counter], GetState()), list[State])
    assert_type(await forward(counter, GetCount()), int)
    assert_type(start(supervisor, "store", MemoryStore), Ref[Store])
    assert_type(await forward(start(supervisor, "store", MemoryStore), Read(key="a")), bytes | None)


async def an_untyped_reference_takes_everything(system: System) -> None:
    anyone = system.ref("/anyone")
    assert anyone is not None
    assert_type(anyone, Ref[Any])
    anyone.tell(Add(amount=1))
    anyone.tell(Write(key="a", value=b"1"))
    await anyone.send(Audit())
    assert_type(await anyone.ask(GetState()), State)
    assert_type(await anyone.ask(Read(key="a")), bytes | None)
    counter: Ref[Counter] = anyone
    assert_type(await counter.ask(GetCount()), int)


async def a_tree_holds_actors_of_many_protocols() -> None:
    tree = SupervisorSpec(
        name="root",
        children=(
            ChildSpec(name="counter", factory=Counter),
            ChildSpec(name="store", factory=MemoryStore),
            SupervisorSpec(name="below", children=(ChildSpec(name="careful", factory=CarefulStore),)),
        ),
    )
    async with open_system(tree) as system:
        assert_type(system, System)
        assert_type(system.supervisor("/below"), Supervisor)
