"""Further inputs of `scripts/soak stalls`: what is declared, bound, consumed and deleted in great numbers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from scripts._stall_client import CHUNK, LAST, Client, stall
from tests.support.wire import method, publish

KEYS: Final = [f"key.{number}" for number in range(100_000)]


def declare(client: Client) -> None:
    """A topic exchange `t` and a queue `q`."""
    client.exchange("t", "topic")
    client.queue("q")


def consumes(count: int, channel: int = 1, queue: str = "q") -> bytes:
    """So many consumers `c0` ... of a queue, or each of a queue of its own if that is a pattern."""
    return b"".join(
        method(channel, "basic.consume", queue=queue.format(number), consumer_tag=f"c{number}", nowait=True)
        for number in range(count)
    )


def lose(client: Client, count: int) -> Iterator[None]:
    """The connection breaks; returns when so many messages wait in `q` again."""
    other = Client(client.node)
    yield
    client.close()
    other.await_count("q", count)
    other.close()


@stall
def delete_exchange(client: Client) -> Iterator[None]:
    """exchange.delete with 100,000 bindings."""
    declare(client)
    client.bind("q", "t", KEYS)
    yield
    client.ask(1, "exchange.delete", exchange="t")


@stall
def delete_bound_queue(client: Client) -> Iterator[None]:
    """queue.delete with 100,000 bindings."""
    declare(client)
    client.bind("q", "t", KEYS)
    yield
    client.ask(1, "queue.delete", queue="q")


@stall
def delete_durable_queue(client: Client) -> Iterator[None]:
    """The same, all of it durable."""
    client.do(method(1, "exchange.declare", exchange="t", type="topic", durable=True))
    client.queue("q", durable=True)
    channels = range(2, 252)
    client.send(*(method(channel, "channel.open") for channel in channels))
    for channel in channels:  # on many of them, since each waits for the disk with every binding
        keys = KEYS[channel - 2 :: len(channels)]
        client.send(
            *(method(channel, "queue.bind", queue="q", exchange="t", routing_key=key, nowait=True) for key in keys)
        )
    for channel in channels:
        client.do(b"", channel)
    yield
    client.ask(1, "queue.delete", queue="q")


@stall
def unbind_auto_delete(client: Client) -> Iterator[None]:
    """queue.unbind of the last binding of an auto-delete exchange to which 100,000 bindings lead."""
    declare(client)
    client.do(method(1, "exchange.declare", exchange="inner", type="fanout", auto_delete=True))
    client.bind("q", "inner", [""])
    client.do(
        b"".join(
            method(1, "exchange.bind", source="t", destination="inner", routing_key=key, nowait=True) for key in KEYS
        )
    )
    yield
    client.ask(1, "queue.unbind", queue="q", exchange="inner", routing_key="")


@stall
def auto_delete_chain(client: Client) -> Iterator[None]:
    """queue.delete that takes a chain of 20,000 auto-delete exchanges with it, each bound to the next."""
    names = [f"e{number}" for number in range(20_000)]
    client.do(
        b"".join(
            method(1, "exchange.declare", exchange=name, type="fanout", auto_delete=True, nowait=True) for name in names
        )
    )
    client.do(
        b"".join(
            method(1, "exchange.bind", source=one, destination=other, nowait=True) for one, other in pairwise(names)
        )
    )
    client.queue("q")
    client.bind("q", names[-1], [""])
    yield
    client.ask(1, "queue.delete", queue="q")


@stall
def bind_burst(client: Client) -> Iterator[None]:
    """100,000 queue.bind in one write."""
    declare(client)
    yield
    client.bind("q", "t", KEYS)


@stall
def unbind_burst(client: Client) -> Iterator[None]:
    """100,000 queue.unbind in one write."""
    declare(client)
    client.bind("q", "t", KEYS)
    data = b"".join(method(1, "queue.unbind", queue="q", exchange="t", routing_key=key) for key in KEYS)
    yield
    client.do(data)


@stall
def declare_burst(client: Client) -> Iterator[None]:
    """10,000 queue.declare in one write."""
    data = b"".join(method(1, "queue.declare", queue=f"q{number}") for number in range(10_000))
    yield
    client.do(data)


@stall
def declare_durable_burst(client: Client) -> Iterator[None]:
    """10,000 queue.declare of durable queues in one write."""
    data = b"".join(method(1, "queue.declare", queue=f"q{number}", durable=True) for number in range(10_000))
    yield
    client.do(data)


@stall
def exclusive_queues(client: Client) -> Iterator[None]:
    """connection.close with 10,000 exclusive queues of 100 messages each."""
    for number in range(10_000):
        client.send(
            method(1, "queue.declare", queue=f"q{number}", exclusive=True, nowait=True),
            publish(1, "", f"q{number}", b"m") * 100,
        )
    client.do()
    yield
    client.push(method(0, "connection.close", reply_code=200), method(0, "connection.close-ok"))


@stall
def auto_delete_queues(client: Client) -> Iterator[None]:
    """channel.close that takes 10,000 auto-delete queues of 20 unacknowledged messages each with it."""
    client.open_channel(2)
    for number in range(10_000):
        client.send(
            method(1, "queue.declare", queue=f"q{number}", auto_delete=True, nowait=True),
            publish(1, "", f"q{number}", b"m") * 20,
        )
    client.do()
    client.do(consumes(10_000, 2, "q{}"), 2)
    yield
    client.push(method(2, "channel.close", reply_code=200), method(2, "channel.close-ok"))


@stall
def cancel_many(client: Client) -> Iterator[None]:
    """basic.cancel of 10,000 consumers of one queue in one write."""
    client.queue("q")
    client.do(consumes(10_000))
    data = b"".join(method(1, "basic.cancel", consumer_tag=f"c{number}", nowait=True) for number in range(10_000))
    yield
    client.do(data)


def consume_by_priority(client: Client) -> None:
    """5,000 consumers of queue `q`, each with an x-priority of its own and room for one message."""
    client.queue("q")
    client.ask(1, "basic.qos", prefetch_count=1)
    client.push(
        b"".join(
            method(
                1, "basic.consume", queue="q", consumer_tag=f"c{number}", nowait=True, arguments={"x-priority": number}
            )
            for number in range(5_000)
        )
        + method(1, "queue.declare", queue="marker"),
        b"marker",
    )


@stall
def consumer_priorities(client: Client) -> Iterator[None]:
    """50,000 messages for 5,000 consumers of different x-priority, acknowledged all at once ten times."""
    consume_by_priority(client)
    data = publish(1, "", "q", b"m") * 50_000 + method(1, "basic.ack", delivery_tag=0, multiple=True) * 10
    yield
    client.do(data)


@stall
def consumers_lost(client: Client) -> Iterator[None]:
    """A connection breaks that has 5,000 consumers of different x-priority on a queue where 20,000 messages wait."""
    consume_by_priority(client)
    client.do(publish(1, "", "q", b"m") * 20_000)
    return lose(client, 20_000)


@stall
def channels_one_queue(client: Client) -> Iterator[None]:
    """2,000 channels that consume one queue, then 200,000 messages."""
    client.queue("q")
    for channel in range(2, 2002):
        client.send(method(channel, "channel.open"))
        client.do(method(channel, "basic.consume", queue="q", consumer_tag="c", no_ack=True, nowait=True), channel)
    data = publish(1, "", "q", b"m") * 200_000
    yield
    client.do(data)


@stall
def connection_lost(client: Client) -> Iterator[None]:
    """A connection breaks that has 2,000 channels with a consumer and 100 unacknowledged messages each."""
    client.queue("q")
    for channel in range(2, 2002):
        client.send(method(channel, "channel.open"), method(channel, "basic.qos", prefetch_count=100))
        client.push(
            method(channel, "basic.consume", queue="q", consumer_tag="c", nowait=True)
            + method(channel, "confirm.select"),
            method(channel, "confirm.select-ok"),
        )
    client.fill("q", 200_000)
    return lose(client, 200_000)


@stall
def priority_levels(client: Client) -> Iterator[None]:
    """A queue of 255 priorities: 510,000 messages are delivered, one in two of them requeued."""
    client.queue("q", x_max_priority=255)
    levels = b"".join(publish(1, "", "q", b"m", properties={"priority": level}) for level in range(255))
    for _ in range(20):
        client.do(levels * 100)
    client.do(publish(1, "", "q", LAST, properties={"priority": 0}))
    yield
    client.push(method(1, "basic.consume", queue="q", consumer_tag="c", nowait=True), LAST)
    client.cancel()
    client.do(method(1, "basic.nack", delivery_tag=255_000, multiple=True, requeue=True))
    client.await_count("q", 255_000)


@stall
def purge_levels(client: Client) -> Iterator[None]:
    """queue.purge of a million durable messages of 10 priorities."""
    client.queue("q", durable=True, x_max_priority=10)
    levels = b"".join(
        publish(1, "", "q", b"m", properties={"priority": level, "delivery_mode": 2}) for level in range(10)
    )
    for _ in range(1_000_000 // CHUNK):
        client.do(levels * (CHUNK // 10))
    yield
    client.ask(1, "queue.purge", queue="q")


@stall
def open_and_close(client: Client) -> Iterator[None]:
    """20,000 channels opened and closed in one write."""
    data = (method(2, "channel.open") + method(2, "channel.close", reply_code=200)) * 20_000
    yield
    client.do(data)
