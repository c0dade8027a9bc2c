"""What type checkers refuse: a line that is wrong ends with the codes of its errors, mypy's and then pyright's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import attrs

from opscore.actors.actor import Actor, Terminated, handles
from opscore.actors.message import Message
from opscore.actors.ref import Ref
from opscore.actors.reply import Reply
from opscore.actors.spec import ChildSpec
from opscore.actors.supervisor import Supervisor

ProtocolT = TypeVar("ProtocolT")
ReplyT = TypeVar("ReplyT")


@attrs.frozen(kw_only=True)
class Add(Message["Counter", None]):
    amount: int


@attrs.frozen(kw_only=True)
class GetCount(Message["Counter", int]):
    pass


@attrs.frozen(kw_only=True)
class GetSoon(Message["Counter", int]):
    pass


class Counter(Actor["Counter"]):
    @handles(Add)
    async def add(self, message: Add) -> None:
        self.context.tell_after(1.0, Ring())  # error: arg-type / reportArgumentType
        self.context.tell_after(1.0, RingTwice())  # error: arg-type / reportArgumentType
        self.context.ref.tell(Ring())  # error: arg-type / reportArgumentType

    @handles(GetCount)
    async def get_count(self, message: GetCount) -> int:
        return 1

    @handles(GetSoon)
    async def get_soon(self, message: GetSoon) -> Reply[int]:
        return self.context.defer()


@attrs.frozen(kw_only=True)
class Ring(Message["Bell", None]):
    pass


@attrs.frozen(kw_only=True)
class RingTwice(Ring):
    pass


@attrs.frozen(kw_only=True)
class GetTone(Message["Bell", str]):
    pass


class Bell(Actor["Bell"]):
    pass


class Store:
    """A protocol that actors share."""


class AuditedStore(Store):
    """A wider protocol."""


@attrs.frozen(kw_only=True)
class Read(Message[Store, bytes]):
    pass


@attrs.frozen(kw_only=True)
class Audit(Message[AuditedStore, int]):
    pass


class Memory(Actor[Store]):
    @handles(Read)  # error: arg-type / reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator
    async def read(self, message: Read) -> bytes | None:
        self.context.tell_after(1.0, Audit())  # error: arg-type / reportArgumentType
        return None


class NoMessage:
    """Something else."""


class RepliesWithTheWrongType(Actor["Counter"]):
    @handles(GetCount)  # error: arg-type / reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator
    async def get_count(self, message: GetCount) -> str:
        return "1"

    @handles(GetSoon)  # error: arg-type / reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator
    async def get_soon(self, message: GetSoon) -> Reply[str]:
        return self.context.defer()

    @handles(Add)  # error: arg-type / reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator
    async def add(self, message: Add) -> int:
        return message.amount


class OwesAReply(Actor["Counter"]):
    @handles(GetCount)  # error: arg-type / reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator
    async def get_count(self, message: GetCount) -> None:
        pass

    @handles(GetSoon)  # error: arg-type / reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator
    async def get_soon(self, message: GetSoon) -> Reply[int] | None:
        return None


class TakesAnotherMessage(Actor["Counter"]):
    @handles(GetCount)  # error: arg-type / reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator
    async def get_count(self, message: GetSoon) -> int:
        return 1

    @handles(Add)  # error: arg-type / reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator
    async def add(self, message: Ring) -> None:
        pass

    @handles(GetSoon)  # error: arg-type / reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator
    async def get_soon(self) -> int:
        return 1

    @handles(Terminated)  # error: arg-type / reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator
    async def terminated(self, message: str) -> None:
        pass


class TakesASubclassOfTheMessage(Actor["Bell"]):
    @handles(Ring)  # error: arg-type / reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator
    async def ring(self, message: RingTwice) -> None:
        pass


class RepliesPlainlyWithTheWrongType(Actor["Counter"]):
    @handles(GetCount)  # error: arg-type / reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator
    def get_count(self, message: GetCount) -> str:
        return "1"

    @handles(GetSoon)  # error: arg-type / reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator
    def get_soon(self, message: GetCount) -> int:
        return 1


class HandlesInNoWayThatWorks(Actor["Counter"]):
    @handles(NoMessage)  # error: arg-type, misc, type-var / reportArgumentType
    async def no_message(self, message: NoMessage) -> None:
        pass


class OverridesWithAnotherReply(Counter):
    async def get_count(self, message: GetCount) -> str:  # error: override / reportIncompatibleMethodOverride
        return "1"


class MessageOfNoProtocol(Message):  # error: type-arg / reportMissingTypeArgument
    pass


class ActorOfNoProtocol(Actor):  # error: type-arg / reportMissingTypeArgument
    pass


async def an_actor_is_given_what_it_does_not_take(counter: Ref[Counter], bell: Ref[Bell]) -> None:
    counter.tell(Ring())  # error: arg-type / reportArgumentType
    counter.tell(RingTwice())  # error: arg-type / reportArgumentType
    await counter.send(Ring())  # error: arg-type / reportArgumentType
    await counter.ask(Ring())  # error: arg-type / reportArgumentType
    await counter.ask(GetTone(), timeout_s=1.0)  # error: arg-type / reportArgumentType
    bell.tell(GetCount())  # error: arg-type / reportArgumentType


async def an_actor_is_given_no_message_at_all(counter: Ref[Counter]) -> None:
    counter.tell("add")  # error: arg-type / reportArgumentType
    counter.tell(GetCount)  # error: arg-type / reportArgumentType
    await counter.send(1)  # error: arg-type / reportArgumentType
    await counter.ask(NoMessage())  # error: arg-type / reportArgumentType


async def a_reply_is_taken_for_what_it_is_not(counter: Ref[Counter]) -> None:
    _text: str = await counter.ask(GetCount())  # error: arg-type / reportAssignmentType
    _number: int = await counter.ask(Add(amount=1))  # error: arg-type / reportAssignmentType
    len(await counter.ask(GetCount()))  # error: arg-type / reportArgumentType
    counter.tell(Add(amount=await counter.ask(Add(amount=1))))  # error: arg-type / reportArgumentType
    count = await counter.ask(GetCount())
    _bytes: bytes = count  # error: assignment / reportAssignmentType


async def a_coroutine_is_forgotten(counter: Ref[Counter]) -> None:
    counter.send(Add(amount=1))  # error: unused-coroutine / reportUnusedCoroutine
    counter.ask(GetCount())  # error: unused-coroutine / reportUnusedCoroutine
    _number: int = counter.ask(GetCount())  # error: assignment / reportAssignmentType


async def a_reference_is_taken_for_another_ones(counter: Ref[Counter], store: Ref[Store]) -> None:
    _bell: Ref[Bell] = counter  # error: assignment / reportAssignmentType
    _audited: Ref[AuditedStore] = store  # error: assignment / reportAssignmentType
    store.tell(Audit())  # error: arg-type / reportArgumentType
    await store.ask(Audit())  # error: arg-type / reportArgumentType


def a_child_is_taken_for_another_ones(root: Supervisor, spec: ChildSpec[Bell]) -> None:
    _spec: ChildSpec[Counter] = ChildSpec(name="bell", factory=Bell)  # error: arg-type / reportAssignmentType
    _store: ChildSpec[AuditedStore] = ChildSpec(name="s", factory=Memory)  # error: arg-type / reportAssignmentType
    _child: Ref[Counter] = root.start_child(ChildSpec(name="b", factory=Bell))  # error: arg-type / reportAssignmentType
    _ready: Ref[Counter] = root.start_child(spec)  # error: arg-type / reportAssignmentType
    root.start_child(spec).tell(Add(amount=1))  # error: arg-type / reportArgumentType
    ChildSpec(name="nobody", factory=NoMessage)  # error: arg-type / reportArgumentType
    ChildSpec(name="nobody", factory=Bell())  # error: arg-type / reportArgumentType


def tell_all(refs: Iterable[Ref[ProtocolT]], message: Message[ProtocolT, Any]) -> None:
    for ref in refs:
        ref.tell(message)
        ref.tell(Ring())  # error: arg-type / reportArgumentType


async def forward(ref: Ref[ProtocolT], message: Message[ProtocolT, ReplyT]) -> ReplyT:
    return await ref.ask(message)


async def a_function_over_references_is_given_two_protocols(counter: Ref[Counter], bell: Ref[Bell]) -> None:
    tell_all([counter], Ring())  # error: misc / reportArgumentType
    tell_all([counter, bell], Ring())  # error: misc / reportArgumentType
    await forward(counter, GetTone())  # error: misc / reportArgumentType
    _text: str = await forward(counter, GetCount())  # error: arg-type / reportAssignmentType


def a_reply_is_given_what_it_does_not_hold(reply: Reply[int]) -> None:
    reply.set("1")  # error: arg-type / reportArgumentType
    _text: Reply[str] = reply  # error: assignment / reportAssignmentType


async def an_untyped_reference_still_knows_the_reply(anyone: Ref[Any]) -> None:
    anyone.tell("add")  # error: arg-type / reportArgumentType
    _text: str = await anyone.ask(GetCount())  # error: arg-type / reportAssignmentType
