from contextlib import nullcontext

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from opscore.actors.clock import SystemClock
from opscore.actors.dead_letters import DeadLetterReason, DeadLetters
from opscore.actors.errors import ActorStopped, MailboxFull
from opscore.actors.mailbox import Lane, Mailbox
from opscore.actors.mailbox_spec import MailboxSpec, Overflow
from opscore.actors.reply import Reply
from tests.actors.cast import Note, Recall


def a_mailbox(capacity: int = 2, overflow: Overflow = Overflow.REJECT) -> tuple[Mailbox, DeadLetters]:
    letters = DeadLetters(SystemClock())
    return Mailbox("/a", MailboxSpec(capacity=capacity, overflow=overflow), letters), letters


def texts(mailbox: Mailbox) -> list[str]:
    return [
        entry.text for entry in iter(lambda: mailbox.take() if len(mailbox) else None, None) if isinstance(entry, Note)
    ]


def test_a_full_mailbox_that_rejects_gives_the_message_back_on_the_error() -> None:
    mailbox, letters = a_mailbox()
    for text in "ab":
        mailbox.put(Note(text=text))
    refused = Note(text="c")
    with pytest.raises(MailboxFull, match="/a is full") as caught:
        mailbox.put(refused)
    assert caught.value.message is refused
    assert texts(mailbox) == ["a", "b"]
    assert letters.recent() == ()


def test_a_full_mailbox_that_drops_the_oldest_makes_it_a_dead_letter() -> None:
    mailbox, letters = a_mailbox(overflow=Overflow.DROP_OLDEST)
    for text in "abc":
        mailbox.put(Note(text=text))
    assert texts(mailbox) == ["b", "c"]
    assert [(letter.message, letter.reason) for letter in letters.recent()] == [
        (Note(text="a"), DeadLetterReason.DROPPED_OLDEST)
    ]
    assert mailbox.statistics().dropped == 1


def test_a_full_mailbox_that_drops_the_newest_makes_it_a_dead_letter() -> None:
    mailbox, letters = a_mailbox(overflow=Overflow.DROP_NEWEST)
    for text in "abc":
        mailbox.put(Note(text=text))
    assert texts(mailbox) == ["a", "b"]
    assert [(letter.message, letter.reason) for letter in letters.recent()] == [
        (Note(text="c"), DeadLetterReason.DROPPED_NEWEST)
    ]


async def test_an_ask_that_is_dropped_gets_mailbox_full_under_either_policy() -> None:
    oldest, _ = a_mailbox(capacity=1, overflow=Overflow.DROP_OLDEST)
    reply = Reply("/a", Recall())
    oldest.put(reply)
    oldest.put(Note(text="newer"))
    with pytest.raises(MailboxFull):
        await reply.wait()
    newest, _ = a_mailbox(capacity=1, overflow=Overflow.DROP_NEWEST)
    newest.put(Note(text="older"))
    with pytest.raises(MailboxFull):
        newest.put(Reply("/a", Recall()))


def test_control_lanes_never_refuse_and_are_read_kill_stop_supervision_watch() -> None:
    mailbox, _ = a_mailbox(capacity=1)
    mailbox.put(Note(text="user"))
    for item in range(3):
        for lane in (Lane.WATCH, Lane.STOP, Lane.KILL, Lane.SUPERVISION):
            mailbox.signal(lane, item)
    read = [mailbox.take_signal() for _ in range(12)]
    assert read == [(lane, item) for lane in Lane for item in range(3)]
    assert [lane.name for lane in Lane] == ["KILL", "STOP", "SUPERVISION", "WATCH"]


async def test_senders_wait_for_room_in_the_order_they_came(nursery: trio.Nursery) -> None:
    mailbox, _ = a_mailbox(capacity=1)
    mailbox.put(Note(text="0"))
    for text in "123":
        nursery.start_soon(mailbox.put_when_room, Note(text=text))
        await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(MailboxFull):
        mailbox.put(Note(text="a tell does not pass those who wait"))
    assert texts(mailbox) == ["0", "1", "2", "3"]


async def test_a_sender_cancelled_while_it_waits_sent_nothing() -> None:
    mailbox, _ = a_mailbox(capacity=1)
    mailbox.put(Note(text="0"))
    with trio.CancelScope() as scope:
        scope.cancel()
        await mailbox.put_when_room(Note(text="cancelled"))
    assert scope.cancelled_caught
    assert texts(mailbox) == ["0"]


async def test_closing_makes_dead_letters_and_refuses_those_who_wait_for_room() -> None:
    mailbox, letters = a_mailbox(capacity=2)
    reply = Reply("/a", Recall())
    mailbox.put(Note(text="told"))
    mailbox.put(reply)
    refused: list[str] = []

    async def send() -> None:
        with pytest.raises(ActorStopped):
            await mailbox.put_when_room(Note(text="sent"))
        refused.append("sent")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        mailbox.close()
    assert refused == ["sent"]
    assert [letter.message for letter in letters.recent()] == [Note(text="told"), Recall()]
    with pytest.raises(ActorStopped):
        await reply.wait()
    mailbox.put(Note(text="too late"))
    assert letters.recent()[-1].message == Note(text="too late")
    with pytest.raises(ActorStopped):
        mailbox.put(Reply("/a", Recall()))
    with pytest.raises(ActorStopped):
        await mailbox.put_when_room(Note(text="much too late"))


def test_a_watch_on_an_actor_that_is_gone_calls_back_at_once_and_an_ended_one_never() -> None:
    mailbox, _ = a_mailbox()
    calls: list[str] = []
    mailbox.watch(lambda: calls.append("ended"))()
    mailbox.watch(lambda: calls.append("open"))
    mailbox.close()
    # It takes nothing more, but may still be handling its last message.
    assert calls == []
    mailbox.bury()
    mailbox.watch(lambda: calls.append("gone"))
    assert calls == ["open", "gone"]


def test_statistics_tell_depth_and_high_water() -> None:
    mailbox, _ = a_mailbox(capacity=10)
    for text in "abcd":
        mailbox.put(Note(text=text))
    mailbox.take()
    statistics = mailbox.statistics()
    assert (statistics.depth, statistics.high_water, statistics.dropped) == (3, 4, 0)


@given(
    capacity=st.integers(min_value=1, max_value=4),
    overflow=st.sampled_from(Overflow),
    puts=st.lists(st.booleans(), max_size=40),
)
def test_every_message_is_delivered_in_order_or_refused_or_a_dead_letter(
    capacity: int, overflow: Overflow, puts: list[bool]
) -> None:
    mailbox, letters = a_mailbox(capacity, overflow)
    model: list[str] = []
    refused, dropped, taken, expected = list[str](), list[str](), list[str](), list[str]()
    for number, is_put in enumerate(puts):
        text = str(number)
        if is_put:
            if len(model) < capacity:
                model.append(text)
            elif overflow is Overflow.REJECT:
                refused.append(text)
            elif overflow is Overflow.DROP_OLDEST:
                dropped.append(model.pop(0))
                model.append(text)
            else:
                dropped.append(text)
            with pytest.raises(MailboxFull) if text in refused else nullcontext():
                mailbox.put(Note(text=text))
        elif model:
            expected.append(model.pop(0))
            entry = mailbox.take()
            assert isinstance(entry, Note)
            taken.append(entry.text)
    assert taken == expected
    assert [letter.message for letter in letters.recent()] == [Note(text=text) for text in dropped]
    assert texts(mailbox) == model
