"""Loads that leave a backlog behind, on the load generator's own clients (broker/perf): who publishes and consumes
what, phase by phase.

Every message carries its producer and its number, so whatever is lost, doubled or out of order is counted by the tally
of its queues.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final, cast

from broker.perf.client import Control, ProducerSocket, ReceiverSocket, connect
from broker.perf.load import Broken, Producer, Receiver, Sent, Tally
from broker.wire import spec, table
from broker.wire.methods import method_frame

BODY: Final = 100
ACK_EVERY: Final = 50
PREFETCH: Final = 1000
POLL_S: Final = 0.005
STALL_S: Final = 60.0
"""A phase in which nothing at all moves for so long has failed."""
ACK_ALL: Final = method_frame(1, spec.BASIC_ACK, [("longlong", 0), ("octet", 1)])
_PAYLOAD_MAX: Final = 131072 - 8


class SteadyReceiver(ReceiverSocket):
    """A consumer that can also be told to acknowledge."""

    def acknowledge(self, acks: bytes) -> None:
        """Sends these frames."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(acks)


class SlowReceiver(SteadyReceiver):
    """A consumer that acknowledges so much later: it gets what its prefetch allows in that time."""

    def __init__(self, receiver: Receiver, on_broken: Callable[[str], None]) -> None:
        """Slow until `hurry`."""
        super().__init__(receiver, on_broken)
        self._delay_s = 1.0
        self._due: deque[bytes] = deque()

    def data_received(self, data: bytes) -> None:
        """Looks at the deliveries, and puts their acknowledgements off."""
        try:
            acks = self.receiver.receive(data, time.monotonic_ns())
        except Broken as error:
            self._on_broken(str(error))
            return
        if acks:
            self._due.append(acks)
            if self._delay_s:
                asyncio.get_running_loop().call_later(self._delay_s, self._acknowledge, 1)
            else:
                self._acknowledge(len(self._due))

    def _acknowledge(self, count: int) -> None:
        acks = b"".join([self._due.popleft() for _ in range(min(count, len(self._due)))])
        if acks:
            self.acknowledge(acks)

    def hurry(self) -> None:
        """Be like the others from now on."""
        self._delay_s = 0.0
        self._acknowledge(len(self._due))


class Group:
    """Some queues with one producer and one consumer each, which are counted together."""

    def __init__(self, load: Load, first: int, queues: int, slow: bool = False) -> None:
        """Queues number `first` and those behind it."""
        self.tally = Tally(queues, queues)
        self.producers: list[ProducerSocket] = []
        self.receivers: list[SteadyReceiver] = []
        self._load = load
        self._first = first
        self._queues = queues
        self._slow = slow

    async def declare(self) -> None:
        """Transient queues."""
        for number in range(self._queues):
            await self._load.declare(self._load.queue_name(self._first + number), passive=False)

    async def connect_producers(self, rate: float = 0.0) -> None:
        """One for each queue, without confirms; `rate` messages a second each, 0 for as fast as it goes. They do not
        publish yet."""
        for number in range(self._queues):
            key = self._load.queue_name(self._first + number).encode()
            arguments = b"\0\0\0" + bytes([len(key)]) + key + b"\0"
            producer = Producer(number, self.tally, Sent(arguments, BODY, False, 0, _PAYLOAD_MAX))
            socket = ProducerSocket(producer, rate, self._load.on_broken)
            await socket.attach(await self._load.connect())
            self.producers.append(socket)

    async def connect_consumers(self) -> None:
        """One for each queue, with acknowledgements; they get what is there at once."""
        for number in range(self._queues):
            control = await self._load.connect()
            await control.call(1, spec.BASIC_QOS, [("long", 0), ("short", PREFETCH), ("octet", 0)], spec.BASIC_QOS_OK)
            receiver = Receiver(number, self.tally, ACK_EVERY, True)
            socket = (SlowReceiver if self._slow else SteadyReceiver)(receiver, self._load.on_broken)
            name = self._load.queue_name(self._first + number)
            consume: list[tuple[str, object]] = [("short", 0), ("shortstr", name), ("shortstr", ""), ("octet", 0)]
            await control.call(1, spec.BASIC_CONSUME, [*consume, ("rawtable", table.encode({}))], spec.BASIC_CONSUME_OK)
            await socket.attach(control)
            self.receivers.append(socket)

    def start(self, backlog_max: int = 0) -> None:
        """Publish; with `backlog_max`, only while fewer messages than this wait for the consumers."""
        for producer in self.producers:
            if backlog_max:
                producer.backlog_max = backlog_max
            producer.start()

    def stop(self) -> None:
        """Publish no more."""
        for producer in self.producers:
            producer.stop()

    def acknowledge_all(self) -> None:
        """Of what consumers have had, nothing is left unacknowledged: the queues are empty then."""
        for receiver in self.receivers:
            receiver.acknowledge(ACK_ALL)

    def published(self) -> int:
        """How many messages its producers have made."""
        return int(self.tally.total_published)

    def consumed(self) -> int:
        """How many messages its consumers have had."""
        return int(self.tally.total_consumed)

    def wrong(self) -> int:
        """Messages that were lost, doubled or out of order, once all should be there."""
        return int(self.tally.doubled + self.tally.skipped) + abs(self.published() - self.consumed())


class Load:
    """The clients of one round; `async with` closes their connections."""

    def __init__(self, port: int) -> None:
        """Nothing is connected yet."""
        self._port = port
        self._controls: list[Control] = []
        self._control: Control | None = None
        self._closing = False
        self._declared: set[str] = set()
        self.failure = ""

    async def connect(self) -> Control:
        """A connection with channel 1 open."""
        control = await connect("127.0.0.1", self._port, "guest", "guest", "/")
        self._controls.append(control)
        return control

    @staticmethod
    def queue_name(number: int) -> str:
        """What a queue of this number is called."""
        return f"backlog-{number}"

    def on_broken(self, text: str) -> None:
        """A client was cut off: the round has failed."""
        if not self._closing:
            self.failure = self.failure or text

    async def declare(self, name: str, *, passive: bool) -> int:
        """Declares a queue or looks at it; how many messages wait in it."""
        if self._control is None:
            self._control = await self.connect()
        self._declared.add(name)
        values: list[tuple[str, object]] = [
            ("short", 0),
            ("shortstr", name),
            ("octet", 1 if passive else 0),
            ("rawtable", b""),
        ]
        answer = await self._control.call(1, spec.QUEUE_DECLARE, values, spec.QUEUE_DECLARE_OK)
        at = 5 + answer[4]
        return int.from_bytes(answer[at : at + 4], "big")

    async def waiting(self, queues: int) -> int:
        """Messages that wait in the first so many queues."""
        return sum([await self.declare(self.queue_name(number), passive=True) for number in range(queues)])

    async def delete(self) -> None:
        """Deletes all queues: what consumers have not acknowledged must not come again in the next round."""
        self._closing = True
        assert self._control is not None
        for name in sorted(self._declared):
            values: list[tuple[str, object]] = [("short", 0), ("shortstr", name), ("octet", 0)]
            await self._control.call(1, spec.QUEUE_DELETE, values, spec.QUEUE_DELETE_OK)

    async def until(self, reached: Callable[[], bool], moved: Callable[[], int]) -> None:
        """Returns when `reached`.

        Raises: Broken if a client was cut off, or `moved` has not changed for a long time.
        """
        last, since = moved(), time.monotonic()
        while not reached():
            await asyncio.sleep(POLL_S)
            if self.failure:
                raise Broken(self.failure)
            if moved() != last:
                last, since = moved(), time.monotonic()
            elif time.monotonic() - since > STALL_S:
                raise Broken(f"nothing has moved for {STALL_S:g} s")

    def close_clients(self) -> None:
        """Cuts the connections of producers and consumers."""
        self._closing = True
        for control in self._controls:
            if control is not self._control:
                cast("asyncio.Transport", control.writer.transport).abort()

    def close(self) -> None:
        """Cuts all connections."""
        self.close_clients()
        if self._control is not None:
            cast("asyncio.Transport", self._control.writer.transport).abort()


@contextlib.asynccontextmanager
async def load(port: int) -> AsyncIterator[Load]:
    """A load on the node at this port, whose connections are closed in the end."""
    made = Load(port)
    try:
        yield made
    finally:
        made.close()
        await asyncio.sleep(0)
