"""Inputs of `scripts/soak stalls`: many consumers of one queue, transactions that are given up, messages that die again
and again."""

from __future__ import annotations

from collections.abc import Iterator

from scripts._stall_client import CHUNK, Client, stall
from tests.support.wire import method, publish


def consume_often(client: Client, count: int, prefetch: int, limit: int | None = None) -> None:
    """So many consumers of queue `q` on channel 1, with room for `prefetch` messages each."""
    if limit is None:
        client.queue("q")
    else:
        client.queue("q", x_max_length=limit)
    client.ask(1, "basic.qos", prefetch_count=prefetch)
    for start in range(0, count, CHUNK):
        tags = range(start, min(count, start + CHUNK))
        consumes = [method(1, "basic.consume", queue="q", consumer_tag=f"c{number}", nowait=True) for number in tags]
        client.do(b"".join(consumes))


@stall
def delete_consumed_queue(client: Client) -> Iterator[None]:
    """queue.delete with 50,000 consumers."""
    consume_often(client, 50_000, 1)
    yield
    client.push(method(1, "queue.delete", queue="q"), method(1, "queue.delete-ok", message_count=0))


@stall
def crowded_queue(client: Client) -> Iterator[None]:
    """20,000 messages for 20,000 consumers with room for one each, acknowledged all at once ten times."""
    consume_often(client, 20_000, 1)
    data = (publish(1, "", "q", b"m") * 20_000 + method(1, "basic.ack", delivery_tag=0, multiple=True)) * 10
    yield
    client.do(data)


@stall
def crowded_full_queue(client: Client) -> Iterator[None]:
    """20,000 consumers of a queue at its length limit acknowledge all at once, and the next message comes directly
    behind; ten times."""
    consume_often(client, 20_000, 1, limit=20_000)
    client.fill("q", 40_000)
    data = (method(1, "basic.ack", delivery_tag=0, multiple=True) + publish(1, "", "q", b"m") * 20_000) * 10
    yield
    client.do(data)


@stall
def global_prefetch(client: Client) -> Iterator[None]:
    """20,000 consumers share a prefetch of one message; 200 messages, each acknowledged when it was delivered."""
    client.queue("q")
    client.ask(1, "basic.qos", prefetch_count=1, **{"global": True})
    consumes = [
        method(1, "basic.consume", queue="q", consumer_tag=f"c{number}", nowait=True) for number in range(20_000)
    ]
    client.do(b"".join(consumes))
    client.do(publish(1, "", "q", b"m") * 200)
    delivered = method(1, "queue.declare", queue="q", passive=True)  # what is ready is dispatched before it is counted
    data = (method(1, "basic.ack", delivery_tag=0, multiple=True) + delivered) * 200
    yield
    client.do(data)


@stall
def tx_rollback(client: Client) -> Iterator[None]:
    """tx.rollback of 300,000 publishes and of 300,000 acknowledgements."""
    client.queue("q")
    client.backlog("q", 300_000)
    client.ask(1, "tx.select")
    client.do(b"".join(method(1, "basic.ack", delivery_tag=tag) for tag in range(2, 300_000, 2)))
    client.fill("q", 300_000)
    yield
    client.ask(1, "tx.rollback")


@stall
def tx_abandoned(client: Client) -> Iterator[None]:
    """channel.close with 300,000 publishes that were not committed."""
    client.queue("q")
    client.open_channel(2)
    client.ask(2, "tx.select")
    one = publish(2, "", "q", b"m")
    for _ in range(30):
        client.do(one * CHUNK, 2)
    yield
    client.push(method(2, "channel.close", reply_code=200), method(2, "channel.close-ok"))


@stall
def expired_get(client: Client) -> Iterator[None]:
    """basic.get from a queue whose 500,000 messages have expired behind one that had not."""
    client.queue("q")
    client.fill("q", 1, expiration="600000")
    client.fill("q", 500_000, expiration="1")
    yield
    client.do(method(1, "basic.get", queue="q", no_ack=True) * 2)


@stall
def cycle_of_dead_letters(client: Client) -> Iterator[None]:
    """100,000 messages that 100 queues hand on to each other each time that they expire, until all are gone."""
    for number in range(100):
        client.queue(
            f"q{number}", x_message_ttl=1, x_dead_letter_exchange="", x_dead_letter_routing_key=f"q{number + 1}"
        )
    client.queue("q100")
    data = publish(1, "", "q0", b"m") * 2000
    yield
    client.do(data)
    client.await_count("q100", 2000)
