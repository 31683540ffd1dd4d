"""Messages, and stand-ins for what queues and channels know of each other: a consumer, a queue, a queue's host, a
confirm."""

from __future__ import annotations

from typing import Final

import pytest

from broker import build
from broker.auth.access import FullAccess, Requester
from broker.clock import Clock
from broker.message import ACCEPTED, Message, make_tail
from broker.queues import registry
from broker.queues.consumer import Consumer, Subscription
from broker.queues.declaration import QueueDeclaration, QueueEnvironment
from broker.queues.delivery import Delivery
from broker.queues.entry import Entry
from broker.queues.memory import QueueMemory
from broker.queues.queue import Queue, QueueHost
from broker.routing.routed import Routed
from broker.turn import Turn
from broker.wire import properties, table
from broker.wire.properties import Properties
from broker.wire.table import EMPTY, FieldTable
from broker.wire.writer import body_of, make_content
from tests.support.fake_clock import FakeClock

UNLIMITED = 1 << 30


needs_traits = pytest.mark.skipif(
    build.loaded().compiled,
    reason="an interpreted class cannot implement a trait that mypyc compiled; runs in the interpreted pass",
)
"""For tests with stand-ins for `Timed`, `Dispatchable`, `Syncable` or `Flushable`."""


def make_message(
    body: bytes = b"",
    *,
    exchange: str = "",
    routing_key: str = "q",
    channel: int = 1,
    headers: FieldTable | None = None,
    expiration_ms: int = -1,
    priority: int = -1,
    persistent: bool = False,
    payload_max: int = 131064,
    message_id: str | None = None,
) -> Message:
    """A message as a channel would have made it from its frames."""
    fields = Properties(
        headers=headers,
        expiration=None if expiration_ms < 0 else str(expiration_ms),
        priority=None if priority < 0 else priority,
        delivery_mode=2 if persistent else None,
        message_id=message_id,
    )
    content, header_size = make_content(channel, properties.encode(fields), body, payload_max)
    largest = min(len(body), payload_max)
    tail = make_tail(exchange.encode(), routing_key.encode())
    return Message(content, tail, channel, header_size, len(body), largest, persistent, priority, expiration_ms)


def numbered(count: int, start: int = 0) -> list[Message]:
    """Messages whose bodies are their numbers."""
    return [make_message(str(number).encode()) for number in range(start, start + count)]


def text_of(item: Message | Entry | None) -> str:
    """The body, read as text."""
    assert item is not None
    return body_of(item.message if isinstance(item, Entry) else item).decode()


def texts(items: list[Message | Entry | None]) -> list[str]:
    """The bodies, read as text."""
    return [text_of(item) for item in items]


class FakeConsumer(Consumer):
    """A consumer with as much room as the test says; keeps what it got and where that stood."""

    def __init__(
        self, tag: str = "c", *, room: int = UNLIMITED, no_ack: bool = False, exclusive: bool = False, priority: int = 0
    ) -> None:
        super().__init__(Subscription(tag, no_ack, exclusive, priority))
        self.room = room
        self.bytes_room = 1 << 20
        self.got: list[str] = []
        self.places: list[int] = []
        self.batches: list[int] = []
        self.one_by_one: list[Delivery] = []
        """What came one by one, because it expires."""
        self.redelivered: list[bool] = []
        self.asked = 0
        self.settled_count = 0
        self.cancels = 0
        self.log: list[tuple[str, str]] | None = None
        """Shared between consumers when the test looks at who got what in which order."""

    def credit(self) -> int:
        self.asked += 1
        return self.room

    def has_room(self) -> bool:
        return True

    def room_bytes(self) -> int:
        return self.bytes_room

    def deliver(
        self,
        queue: Queue,
        level: int,
        items: list[Message | Entry | None],
        first_position: int,
        stride: int,
        redelivered: bool,
    ) -> None:
        self.batches.append(len(items))
        self.redelivered += [redelivered] * len(items)
        for index, item in enumerate(items):
            assert isinstance(item, Message)
            self._take(text_of(item), first_position + index * stride)

    def deliver_one(self, queue: Queue, delivery: Delivery) -> None:
        self.one_by_one.append(delivery)
        self.redelivered.append(delivery.redelivered)
        self._take(text_of(delivery.message), delivery.position)

    def _take(self, text: str, position: int) -> None:
        assert self.room > 0, "more than there was room for"
        self.room -= 1
        self.got.append(text)
        self.places.append(position)
        if self.log is not None:
            self.log.append((self.tag, text))

    def settled(self, count: int) -> None:
        self.settled_count += count

    def cancelled(self) -> None:
        self.cancels += 1


def declared(name: str = "q", arguments: FieldTable = EMPTY, **options: object) -> QueueDeclaration:
    """A queue of the type that the arguments name, as it was declared."""
    found = registry.type_named(arguments)
    assert found is not None
    return QueueDeclaration(name, found, arguments, **options)  # type: ignore[arg-type]


def environment(host: QueueHost, turn: Turn, clock: Clock) -> QueueEnvironment:
    """What a queue without a disk needs of its node."""
    return QueueEnvironment(host, turn, clock, None, QueueMemory())


class FakeQueue(Queue):
    """A queue that holds nothing and keeps what it is told."""

    def __init__(self, name: str = "q", arguments: FieldTable = EMPTY) -> None:
        super().__init__(declared(name, arguments))
        self.settled_positions: list[int] = []

    @property
    def settled_count(self) -> int:
        return len(self.settled_positions)

    def settle(self, level: int, first: int, count: int, stride: int) -> None:
        self.settled_positions += [first + index * stride for index in range(count)]

    def enqueue(self, message: Message) -> int:
        return ACCEPTED


FULL: Final = FullAccess("guest", "/")
"""May do everything."""


def requester() -> Requester:
    """Somebody who may do everything, on a connection of his own."""
    return Requester(FULL, object())


class FakeHost(QueueHost):
    """The place a queue lives in: remembers what died and which queues asked to go."""

    def __init__(self) -> None:
        self.dead: list[tuple[str, str]] = []
        self.removed: list[str] = []

    def dead_letter(self, queue: Queue, message: Message, reason: str) -> None:
        self.dead.append((text_of(message), reason))

    def remove_queue(self, queue: Queue) -> None:
        self.removed.append(queue.name)
        queue.close()


def arguments(**fields: object) -> FieldTable:
    """Queue arguments: `arguments(x_max_length=5)` is the table {"x-max-length": 5}."""
    return table.make({name.replace("_", "-"): value for name, value in fields.items()})


def routed(headers: FieldTable | None) -> Routed | None:
    """A message with these headers as exchanges see it; None for None."""
    return None if headers is None else Routed(make_message(headers=headers), FakeClock())
