"""What one ordinary client can ask of a node that is much work at once: the inputs of `scripts/soak stalls`.

An input is a generator: what stands before its `yield` prepares, what stands behind it is measured and returns when the node has done
all of it. Each gets a connection of its own with channel 1 open, on a fresh node.
"""

from __future__ import annotations

import random
import select
import struct
import time
from collections.abc import Callable, Iterator
from typing import Final

from tests.support.node import Node
from tests.support.wire import WireClient, body, header, method, publish, table

LAST: Final = b"last!"
SILENCE_S: Final = 120.0
CHUNK: Final = 10_000

Input = Callable[["Client"], Iterator[None]]
INPUTS: Final[dict[str, Input]] = {}


def stall(function: Input) -> Input:
    """Adds an input under its name."""
    INPUTS[function.__name__] = function
    return function


class Client(WireClient):
    """A client that sends megabytes and drops what it gets, without looking at each frame."""

    def __init__(self, node: Node) -> None:
        """Connects and opens channel 1."""
        super().__init__(node.host, node.port, deadline_s=SILENCE_S)
        self.node = node
        self.handshake()
        self.open_channel()

    def push(self, data: bytes, marker: bytes) -> None:
        """Sends `data` and drops what comes at the same time; returns when all is sent and `marker` has come."""
        left = memoryview(data)
        kept = b""
        seen = False
        self.socket.setblocking(False)
        while left or not seen:
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
        self.do(b"".join(method(1, "queue.bind", queue=queue, exchange=exchange, routing_key=key, nowait=True) for key in keys))

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


def tags(start: int, count: int) -> Iterator[int]:
    """Delivery tags, the latest first."""
    return iter(range(start + count - 1, start - 1, -1))


# Routing


@stall
def topic_random(client: Client) -> Iterator[None]:
    """1,500 distinct keys of 127 words against 10,000 random patterns of # and *."""
    dice = random.Random(1)
    patterns: set[str] = set()
    while len(patterns) < 10_000:
        patterns.add(".".join(dice.choices("#*", k=dice.randint(1, 16))))
    client.exchange("t", "topic")
    client.queue("q")
    client.bind("q", "t", sorted(patterns))
    keys = [".".join(dice.choices("abcdefghijklmnop", k=127)) for _ in range(1500)]
    yield
    client.do(b"".join(publish(1, "t", key, b"m") for key in keys))


@stall
def topic_words(client: Client) -> Iterator[None]:
    """100 such keys against patterns of words too, so that what was matched before helps little."""
    dice = random.Random(2)
    patterns: set[str] = set()
    while len(patterns) < 10_000:
        patterns.add(".".join(dice.choices("##*ab", k=dice.randint(1, 20))))
    client.exchange("t", "topic")
    client.queue("q")
    client.bind("q", "t", sorted(patterns))
    keys = [".".join(dice.choices("ab", k=127)) for _ in range(100)]
    yield
    client.do(b"".join(publish(1, "t", key, b"m") for key in keys))


def headers_input(client: Client, arguments: Callable[[int], dict[str, object]], headers: dict[str, object]) -> Iterator[None]:
    """300 publishes to a headers exchange with 5,000 bindings."""
    client.exchange("h", "headers")
    client.queue("q")
    binds = [method(1, "queue.bind", queue="q", exchange="h", nowait=True, arguments=arguments(number)) for number in range(5000)]
    client.do(b"".join(binds))
    yield
    client.do(publish(1, "h", "", b"m", properties={"headers": headers}) * 300)


@stall
def headers_many(client: Client) -> Iterator[None]:
    """5,000 bindings of 21 keys that differ in the last."""
    common: dict[str, object] = {f"key-{place:02}": "value" for place in range(20)}
    return headers_input(client, lambda number: common | {"last": number}, common | {"last": -1})


@stall
def headers_mixed(client: Client) -> Iterator[None]:
    """5,000 bindings of 21 keys with one of two values each: no key tells much."""
    dice = random.Random(3)
    return headers_input(
        client,
        lambda number: {f"key-{place:02}": dice.randrange(2) for place in range(21)},
        {f"key-{place:02}": 1 for place in range(21)},
    )


@stall
def fanout_100k(client: Client) -> Iterator[None]:
    """Three messages to 100,000 queues each."""
    client.exchange("f", "fanout")
    for start in range(0, 100_000, CHUNK):
        names = [f"q{number}" for number in range(start, start + CHUNK)]
        client.do(
            b"".join(
                method(1, "queue.declare", queue=name, nowait=True) + method(1, "queue.bind", queue=name, exchange="f", nowait=True)
                for name in names
            )
        )
    yield
    client.do(publish(1, "f", "", b"m") * 3)


@stall
def carbon_copies(client: Client) -> Iterator[None]:
    """300 messages with 5,000 routing keys each in their CC header, to a topic exchange with 1,000 bindings."""
    client.exchange("t", "topic")
    client.queue("q")
    client.bind("q", "t", [f"#.{number}.*" for number in range(1000)])
    keys = [f"a.b.{number}.c" for number in range(5000)]
    yield
    client.do(publish(1, "t", "k", b"m", properties={"headers": {"CC": keys}}) * 300)


# Settling


@stall
def nack_dead_letter(client: Client) -> Iterator[None]:
    """basic.nack of 500,000 deliveries into a dead letter exchange."""
    client.graveyard()
    client.queue("q", x_dead_letter_exchange="dlx")
    client.backlog("q", 500_000)
    yield
    client.do(nack(requeue=False))
    client.await_count("dead", 500_000)


@stall
def nack_requeue(client: Client) -> Iterator[None]:
    """basic.nack of a million deliveries back into their queue."""
    client.queue("q")
    client.backlog("q", 1_000_000)
    yield
    client.do(nack(requeue=True))
    client.await_count("q", 1_000_000)


@stall
def nack_reject(client: Client) -> Iterator[None]:
    """basic.nack of a million deliveries that are dropped."""
    client.queue("q")
    client.backlog("q", 1_000_000)
    yield
    client.do(nack(requeue=False))


@stall
def ack_backwards(client: Client) -> Iterator[None]:
    """200,000 deliveries acknowledged one by one, the latest first."""
    client.queue("q")
    client.backlog("q", 200_000)
    yield
    client.do(b"".join(method(1, "basic.ack", delivery_tag=tag) for tag in tags(1, 200_000)))


@stall
def requeue_backwards(client: Client) -> Iterator[None]:
    """100,000 deliveries requeued one by one, the latest first."""
    client.queue("q")
    client.backlog("q", 100_000)
    yield
    client.do(b"".join(method(1, "basic.nack", delivery_tag=tag, requeue=True) for tag in tags(1, 100_000)))


@stall
def recover(client: Client) -> Iterator[None]:
    """basic.recover of a million deliveries."""
    client.queue("q")
    client.backlog("q", 1_000_000)
    yield
    client.push(method(1, "basic.recover", requeue=True), method(1, "basic.recover-ok"))
    client.await_count("q", 1_000_000)


@stall
def close_unacked(client: Client) -> Iterator[None]:
    """channel.close with a million unacknowledged."""
    client.queue("q")
    client.open_channel(2)
    client.fill("q", 999_999)
    client.take("q", 2)
    yield
    client.push(method(2, "channel.close", reply_code=200), method(2, "channel.close-ok"))
    client.await_count("q", 1_000_000)


@stall
def purge_requeued(client: Client) -> Iterator[None]:
    """queue.purge of a million that were just requeued."""
    client.queue("q")
    client.backlog("q", 1_000_000)
    client.do(nack(requeue=True))
    yield
    client.ask(1, "queue.purge", queue="q")


@stall
def delete_queue(client: Client) -> Iterator[None]:
    """queue.delete with a million ready and a million unacknowledged."""
    client.queue("q")
    client.backlog("q", 1_000_000)
    client.fill("q", 1_000_000)
    yield
    client.ask(1, "queue.delete", queue="q")


@stall
def tx_publishes(client: Client) -> Iterator[None]:
    """tx.commit of 200,000 persistent publishes."""
    client.queue("q", durable=True)
    client.ask(1, "tx.select")
    client.fill("q", 200_000, delivery_mode=2)
    yield
    client.ask(1, "tx.commit")


@stall
def tx_acks(client: Client) -> Iterator[None]:
    """tx.commit of 200,000 acknowledgements, every second message of a durable queue."""
    client.queue("q", durable=True)
    client.fill("q", 399_999, delivery_mode=2)
    client.take("q")
    client.cancel()
    client.ask(1, "tx.select")
    client.do(b"".join(method(1, "basic.ack", delivery_tag=tag) for tag in range(1, 400_000, 2)))
    yield
    client.ask(1, "tx.commit")


# Expiry and limits


@stall
def expire_dead_letter(client: Client) -> Iterator[None]:
    """300,000 persistent messages expire at one moment, into a dead letter exchange."""
    client.graveyard()
    client.queue("q", durable=True, x_dead_letter_exchange="dlx")
    moment = time.monotonic() + 8
    for _ in range(300_000 // CHUNK):
        left_ms = int((moment - time.monotonic()) * 1000)
        assert left_ms > 0, "too slow to fill the queue in time"
        client.fill("q", CHUNK, delivery_mode=2, expiration=str(left_ms))
    time.sleep(max(0.0, moment - time.monotonic() - 2))
    yield
    client.await_count("dead", 300_000)


@stall
def drop_head(client: Client) -> Iterator[None]:
    """One message that pushes a million out of a queue with x-max-length-bytes, into a dead letter exchange."""
    client.graveyard()
    client.queue("q", x_max_length_bytes=32 << 20, x_dead_letter_exchange="dlx")
    client.fill("q", 1_000_000, b"x" * 20)
    large = publish(1, "", "q", b"x" * (32 << 20))
    yield
    client.do(large)
    client.await_count("dead", 1_000_000)


@stall
def reject_publish_dlx(client: Client) -> Iterator[None]:
    """200,000 publishes to a queue that is full, each dead-lettered."""
    client.graveyard()
    client.queue("q", x_max_length=1, x_overflow="reject-publish-dlx", x_dead_letter_exchange="dlx")
    client.fill("q", 1)
    one = publish(1, "", "q", b"m")
    yield
    client.do(one * 200_000)
    client.await_count("dead", 200_000)


@stall
def expire_queues(client: Client) -> Iterator[None]:
    """10,000 queues with 20 messages each that x-expires removes at one moment."""
    moment = time.monotonic() + 8
    for number in range(10_000):
        left_ms = int((moment - time.monotonic()) * 1000)
        client.send(method(1, "queue.declare", queue=f"q{number}", nowait=True, arguments={"x-expires": left_ms}))
        client.send(publish(1, "", f"q{number}", b"m") * 20)
    client.do()
    time.sleep(max(0.0, moment - time.monotonic() - 2))
    yield
    time.sleep(max(0.0, moment - time.monotonic()) + 0.5)
    client.do()


# Large contents and many small frames


@stall
def body_128mib(client: Client) -> Iterator[None]:
    """One body of 128 MiB."""
    client.queue("q")
    data = publish(1, "", "q", b"x" * (128 << 20))
    yield
    client.do(data)


@stall
def deliver_128mib(client: Client) -> Iterator[None]:
    """basic.get of one body of 128 MiB."""
    client.queue("q")
    client.do(publish(1, "", "q", b"x" * (128 << 20)))
    yield
    client.do(method(1, "basic.get", queue="q", no_ack=True))


@stall
def tiny_bodies(client: Client) -> Iterator[None]:
    """A body of 2 MiB in frames of one byte."""
    client.queue("q")
    data = method(1, "basic.publish", routing_key="q") + header(1, 2 << 20) + body(1, b"x") * (2 << 20)
    yield
    client.do(data)


@stall
def tiny_frames(client: Client) -> Iterator[None]:
    """200 times 64 KiB of heartbeats and basic.qos."""
    heartbeats = struct.pack(">BHIB", 8, 0, 0, 0xCE) * 4096
    asked = method(1, "basic.qos") * (32768 // len(method(1, "basic.qos")))
    yield
    client.do((heartbeats + asked) * 200)


@stall
def large_headers(client: Client) -> Iterator[None]:
    """1,000 messages with 9,000 header fields each, to a headers exchange with one binding."""
    client.exchange("h", "headers")
    client.queue("q")
    client.do(method(1, "queue.bind", queue="q", exchange="h", nowait=True, arguments={"a": 1}))
    fields = table({f"{number:x}": True for number in range(9000)})
    one = publish(1, "h", "", b"m", properties={"headers": fields})
    yield
    client.do(one * 1000)


@stall
def get_burst(client: Client) -> Iterator[None]:
    """100,000 basic.get in one write."""
    client.queue("q")
    client.fill("q", 100_000)
    yield
    client.do(method(1, "basic.get", queue="q", no_ack=True) * 100_000)
