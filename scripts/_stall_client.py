"""The client of the inputs of `scripts/soak stalls`, and the table that they stand in.

An input is a generator: what stands before its `yield` prepares, what stands behind it is measured and returns when the
node has done all of it. Each gets a connection of its own with channel 1 open, on a fresh node.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from tests.support.node import Node
from tests.support.wire import WireClient, method, publish

LAST: Final = b"last!"
SILENCE_S: Final = 120.0
CHUNK: Final = 10_000

Input = Callable[["Client"], Iterator[None]]
INPUTS: Final[dict[str, Input]] = {}


class Setting(NamedTuple):
    """What an input needs."""

    lines: tuple[str, ...] = ()
    """Of the node's configuration file."""
    publishes: bool = True
    """Whether the probe may publish: it is blocked by an alarm as others are. Otherwise it asks for an answer each
    time."""


SETTINGS: Final[dict[str, Setting]] = {}


def stall(function: Input) -> Input:
    """Adds an input under its name."""
    INPUTS[function.__name__] = function
    return function


def setting(*lines: str, publishes: bool = True) -> Callable[[Input], Input]:
    """What an input needs (`Setting`)."""

    def remember(function: Input) -> Input:
        SETTINGS[function.__name__] = Setting(lines, publishes)
        return function

    return remember


class Client(WireClient):
    """A client that sends megabytes and drops what it gets, without looking at each frame."""

    def __init__(self, node: Node) -> None:
        """Connects and opens channel 1."""
        super().__init__(node.host, node.port, deadline_s=SILENCE_S)
        self.node = node
        self.others: list[Client] = []
        """Connections that stay open as long as this one."""
        self.handshake()
        self.open_channel()

    def push(self, data: bytes, marker: bytes, *, until: bool = False) -> bool:
        """Sends `data` and drops what comes at the same time; returns when all is sent and `marker` has come.

        With `until`, when one of both is so; whether `marker` has come.
        """
        left = memoryview(data)
        kept = b""
        seen = False
        self.socket.setblocking(False)
        while (left and not seen) if until else (left or not seen):
            ready, writable, _ = select.select([self.socket], [self.socket] if left else [], [], SILENCE_S)
            assert ready or writable, "the node says nothing"
            if writable:
                left = left[self.socket.send(left[: 1 << 20]) :]
            if ready:
                piece = self.socket.recv(1 << 20)
                assert piece, f"the node has closed the connection: {kept!r}"
                kept += piece
                seen = seen or marker in kept
                kept = kept[1 - len(marker) :]
        self.socket.setblocking(True)
        return seen

    def do(self, data: bytes = b"", channel: int = 1) -> None:
        """Sends frames and returns when the node has worked through what stands on the channel so far."""
        self.push(data + method(channel, "basic.qos"), method(channel, "basic.qos-ok"))

    def queue(self, name: str, *, durable: bool = False, exclusive: bool = False, **arguments: object) -> None:
        """Declares a queue; x_max_length is the argument x-max-length."""
        fields = {key.replace("_", "-"): value for key, value in arguments.items()}
        self.do(method(1, "queue.declare", queue=name, durable=durable, exclusive=exclusive, arguments=fields))

    def exchange(self, name: str, kind: str) -> None:
        """Declares an exchange."""
        self.do(method(1, "exchange.declare", exchange=name, type=kind))

    def bind(self, queue: str, exchange: str, keys: list[str]) -> None:
        """Binds a queue with each of the keys."""
        self.do(
            b"".join(
                method(1, "queue.bind", queue=queue, exchange=exchange, routing_key=key, nowait=True) for key in keys
            )
        )

    def fill(self, queue: str, count: int, data: bytes = b"m", **properties: object) -> None:
        """Publishes `count` messages to a queue."""
        one = publish(1, "", queue, data, properties=properties)
        for start in range(0, count, CHUNK):
            self.do(one * min(CHUNK, count - start))

    def take(self, queue: str, channel: int = 1) -> None:
        """Publishes a last message and consumes everything up to it, unacknowledged, as consumer `c`."""
        last = publish(channel, "", queue, LAST)
        self.push(last + method(channel, "basic.consume", queue=queue, consumer_tag="c", nowait=True), LAST)

    def cancel(self) -> None:
        """Cancels consumer `c`."""
        self.do(method(1, "basic.cancel", consumer_tag="c", nowait=True))

    def backlog(self, queue: str, count: int) -> None:
        """As `fill` and `take`, then the consumer is cancelled: `count` messages are unacknowledged on channel 1."""
        self.fill(queue, count - 1)
        self.take(queue)
        self.cancel()

    def count(self, queue: str) -> int:
        """Ready messages of a queue."""
        return self.ask(1, "queue.declare", queue=queue, passive=True).number("message_count")

    def await_count(self, queue: str, count: int) -> None:
        """Returns when so many messages are ready in a queue."""
        deadline = time.monotonic() + SILENCE_S
        while (found := self.count(queue)) != count:
            assert time.monotonic() < deadline, f"{found} of {count} messages in {queue}"
            time.sleep(0.02)

    def graveyard(self) -> None:
        """A fanout exchange `dlx` with a queue `dead`."""
        self.exchange("dlx", "fanout")
        self.queue("dead")
        self.bind("dead", "dlx", [""])


def nack(*, requeue: bool) -> bytes:
    """All deliveries of channel 1."""
    return method(1, "basic.nack", delivery_tag=0, multiple=True, requeue=requeue)
