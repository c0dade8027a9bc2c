"""autogen-core on its `SingleThreadedAgentRuntime`: direct messages are asks, and publishing to a topic is a tell.

Tracing is off, as a runtime without a collector has it. The runtime makes an agent at its first message, or when it
is got without `lazy`. It has one queue for all agents and no bound.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from autogen_core import (
    AgentId,
    MessageContext,
    RoutedAgent,
    SingleThreadedAgentRuntime,
    TopicId,
    TypeSubscription,
    message_handler,
)
from opentelemetry.trace import NoOpTracerProvider

from bench.actors.footprint import Footprint, Growth
from bench.actors.messages import ADD, TOKEN, Add, Flood, Token
from bench.actors.peer import Outcome, Peer, Stopwatch, Tally


class Counter(RoutedAgent):
    def __init__(self, handled: Tally) -> None:
        super().__init__("Adds up.")
        self.count = 0
        self.handled = handled

    @message_handler
    async def add(self, message: Add, ctx: MessageContext) -> int:
        self.count += message.amount
        self.handled.count()
        return self.count


class Node(RoutedAgent):
    def __init__(self, laps: int, nodes: int, ended: asyncio.Event) -> None:
        super().__init__("Passes a token on.")
        self.passed = 0
        position = int(self.id.key)
        self.following = TopicId("tokens", str((position + 1) % nodes))
        self.laps = laps if position == nodes - 1 else laps + 1
        self.ended = ended

    @message_handler
    async def pass_on(self, message: Token, ctx: MessageContext) -> None:
        self.passed += 1
        if self.passed == self.laps:
            self.ended.set()
        else:
            await self.publish_message(message, self.following)


class Sender(RoutedAgent):
    def __init__(self, topic: TopicId) -> None:
        super().__init__("Sends.")
        self.topic = topic

    @message_handler
    async def flood(self, message: Flood, ctx: MessageContext) -> None:
        for _ in range(message.messages):
            await self.publish_message(ADD, self.topic)


class AutogenPeer(Peer):
    def tell(self, messages: int) -> Outcome:
        return asyncio.run(_tell(messages))

    def ask(self, asks: int, askers: int) -> Outcome:
        return asyncio.run(_ask(asks, askers))

    def ring(self, laps: int, nodes: int) -> Outcome:
        return asyncio.run(_ring(laps, nodes))

    def fan_in(self, messages: int, senders: int) -> Outcome:
        return asyncio.run(_fan_in(messages, senders))

    def spawn(self, actors: int) -> Outcome:
        return asyncio.run(_spawn(actors))

    def idle(self, actors: int, footprint: Footprint) -> Growth:
        return asyncio.run(_idle(actors, footprint))


@asynccontextmanager
async def _open_runtime(handled: Tally) -> AsyncIterator[SingleThreadedAgentRuntime]:
    runtime = SingleThreadedAgentRuntime(tracer_provider=NoOpTracerProvider())
    await Counter.register(runtime, "counter", lambda: Counter(handled))
    await runtime.add_subscription(TypeSubscription("adding", "counter"))
    runtime.start()
    yield runtime
    await runtime.stop_when_idle()


async def _tell(messages: int) -> Outcome:
    ended = asyncio.Event()
    handled = Tally(messages, ended.set)
    async with _open_runtime(handled) as runtime:
        await runtime.get("counter", "0", lazy=False)
        stopwatch = Stopwatch()
        for _ in range(messages):
            await runtime.publish_message(ADD, TopicId("adding", "0"))
        await ended.wait()
        return stopwatch.stop(handled.counted)


async def _ask(asks: int, askers: int) -> Outcome:
    async def ask_again() -> None:
        for _ in range(asks // askers):
            await runtime.send_message(ADD, counter)

    handled = Tally(asks, bool)
    async with _open_runtime(handled) as runtime:
        counter = await runtime.get("counter", "0", lazy=False)
        stopwatch = Stopwatch()
        if askers == 1:
            await ask_again()
        else:
            await asyncio.gather(*(ask_again() for _ in range(askers)))
        return stopwatch.stop(handled.counted)


async def _ring(laps: int, nodes: int) -> Outcome:
    ended = asyncio.Event()
    async with _open_runtime(Tally(0, bool)) as runtime:
        await Node.register(runtime, "node", lambda: Node(laps, nodes, ended))
        await runtime.add_subscription(TypeSubscription("tokens", "node"))
        ids = [await runtime.get("node", str(position), lazy=False) for position in range(nodes)]
        stopwatch = Stopwatch()
        await runtime.publish_message(TOKEN, TopicId("tokens", "0"))
        await ended.wait()
        outcome = stopwatch.stop(0)
        ring = [await runtime.try_get_underlying_agent_instance(each, Node) for each in ids]
        return Outcome(seconds=outcome.seconds, handled=sum(node.passed for node in ring))


async def _fan_in(messages: int, senders: int) -> Outcome:
    ended = asyncio.Event()
    handled = Tally(messages, ended.set)
    async with _open_runtime(handled) as runtime:
        await Sender.register(runtime, "sender", lambda: Sender(TopicId("adding", "0")))
        await runtime.get("counter", "0", lazy=False)
        ids = [await runtime.get("sender", str(position), lazy=False) for position in range(senders)]
        flood = Flood(messages // senders)
        stopwatch = Stopwatch()
        await asyncio.gather(*(runtime.send_message(flood, each) for each in ids))
        await ended.wait()
        return stopwatch.stop(handled.counted)


async def _spawn(actors: int) -> Outcome:
    ended = asyncio.Event()
    handled = Tally(actors, ended.set)
    async with _open_runtime(handled) as runtime:
        stopwatch = Stopwatch()
        for position in range(actors):
            await runtime.publish_message(ADD, TopicId("adding", str(position)))
        await ended.wait()
        return stopwatch.stop(handled.counted)


async def _idle(actors: int, footprint: Footprint) -> Growth:
    handled = Tally(actors, bool)
    async with _open_runtime(handled) as runtime:
        footprint.mark()
        ids: list[AgentId] = [await runtime.get("counter", str(position), lazy=False) for position in range(actors)]
        started_bytes = footprint.growth()
        for each in ids:
            await runtime.send_message(ADD, each)
        return Growth(started_bytes=started_bytes, handled_bytes=footprint.growth(), handled=handled.counted)
