"""What one ordinary client can ask of a node that is much work at once, about messages and frames: inputs of
`scripts/soak stalls`."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator

from scripts._stall_client import CHUNK, Client, nack, setting, stall
from tests.support.wire import body, header, method, publish, table


def tags(start: int, count: int) -> Iterator[int]:
    """Delivery tags, the latest first."""
    return iter(range(start + count - 1, start - 1, -1))


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


# Many publishers

PUBLISHERS = 5000


@setting("vm_memory_high_watermark.absolute = 400MB", publishes=False)
@stall
def alarm(client: Client) -> Iterator[None]:
    """A memory alarm that blocks 5,000 connections, each in the middle of a body, and its end."""
    begun = method(1, "basic.publish", routing_key="q") + header(1, 100) + body(1, b"begun")
    fillers = [Client(client.node) for _ in range(4)]
    publishers = client.others = [Client(client.node) for _ in range(PUBLISHERS)]
    for publisher in publishers:
        publisher.send(begun)
    large = method(1, "basic.publish", routing_key="q") + header(1, 128 << 20) + body(1, bytes(120 << 10)) * 1000
    yield
    assert any(filler.push(large, b"low on", until=True) for filler in fillers)
    for publisher in publishers:
        publisher.expect("connection.blocked", 0)
    for filler in fillers:
        filler.close()
    for publisher in publishers:
        publisher.expect("connection.unblocked", 0)
