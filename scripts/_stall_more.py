"""Further inputs of `scripts/soak stalls`: many consumers, transactions that are given up, long ways through exchanges."""

from __future__ import annotations

import json
import random
import urllib.request
from collections.abc import Iterator

from scripts._stall_inputs import CHUNK, SILENCE_S, Client, headers_input, stall
from tests.support.wire import method, publish


def consume_often(client: Client, count: int, prefetch: int) -> None:
    """So many consumers of queue `q` on channel 1, with room for `prefetch` messages each."""
    client.queue("q")
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
def global_prefetch(client: Client) -> Iterator[None]:
    """20,000 consumers share a prefetch of one message; 200 messages, each acknowledged when it was delivered."""
    client.queue("q")
    client.ask(1, "basic.qos", prefetch_count=1, **{"global": True})
    consumes = [method(1, "basic.consume", queue="q", consumer_tag=f"c{number}", nowait=True) for number in range(20_000)]
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
def alternate_chain(client: Client) -> Iterator[None]:
    """1,000 messages that no exchange of a chain of 5,000 alternate exchanges can route."""
    declares = [
        method(1, "exchange.declare", exchange=f"e{number}", type="direct", nowait=True, arguments={"alternate-exchange": f"e{number + 1}"})
        for number in range(5000)
    ]
    client.do(b"".join(declares))
    yield
    client.do(b"".join(publish(1, "e0", f"k{number}", b"m") for number in range(1000)))


@stall
def exchange_web(client: Client) -> Iterator[None]:
    """1,000 messages into 300 fanout exchanges that are all bound to each other."""
    names = [f"f{number}" for number in range(300)]
    for name in names:
        client.exchange(name, "fanout")
    client.queue("q")
    for name in names:
        binds = [method(1, "exchange.bind", source=name, destination=other, nowait=True) for other in names]
        client.do(b"".join(binds) + method(1, "queue.bind", queue="q", exchange=name, nowait=True))
    yield
    client.do(b"".join(publish(1, "f0", f"k{number}", b"m") for number in range(1000)))


@stall
def headers_any(client: Client) -> Iterator[None]:
    """300 messages with 1,000 header fields, to 5,000 bindings with x-match any of 20 keys each."""
    dice = random.Random(4)
    return headers_input(
        client,
        lambda number: {f"key-{dice.randrange(1000):03}": dice.randrange(50) for _ in range(20)} | {"x-match": "any"},
        {f"key-{place:03}": place % 50 for place in range(1000)},
    )


@stall
def unrouted_mandatory(client: Client) -> Iterator[None]:
    """50,000 mandatory messages that come back."""
    one = publish(1, "amq.direct", "nobody", b"m", mandatory=True)
    yield
    client.do(one * 50_000)


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
        client.queue(f"q{number}", x_message_ttl=1, x_dead_letter_exchange="", x_dead_letter_routing_key=f"q{number + 1}")
    client.queue("q100")
    data = publish(1, "", "q0", b"m") * 2000
    yield
    client.do(data)
    client.await_count("q100", 2000)


# Management


def request(client: Client, http_method: str, path: str, data: bytes | None = None) -> bytes:
    """What the HTTP API answers."""
    url = f"http://{client.node.host}:{client.node.ports['management']}/api/{path}"
    asked = urllib.request.Request(url, data, {"Authorization": "Basic Z3Vlc3Q6Z3Vlc3Q="}, method=http_method)
    with urllib.request.urlopen(asked, timeout=SILENCE_S) as answered:
        answer: bytes = answered.read()
    return answer


@stall
def list_queues(client: Client) -> Iterator[None]:
    """GET of 50,000 queues, in the order of their lengths."""
    client.do(b"".join(method(1, "queue.declare", queue=f"q{number}", nowait=True) for number in range(50_000)))
    request(client, "GET", "overview")
    yield
    assert request(client, "GET", "queues?sort=messages").count(b'"name":"q') == 50_000


@stall
def list_bindings(client: Client) -> Iterator[None]:
    """GET of 50,000 bindings."""
    client.exchange("t", "topic")
    client.queue("q")
    client.bind("q", "t", [f"key.{number}" for number in range(50_000)])
    request(client, "GET", "overview")
    yield
    assert request(client, "GET", "bindings").count(b'"source":"t"') == 50_000


@stall
def http_get(client: Client) -> Iterator[None]:
    """10,000 messages of 800 bytes in one HTTP get, put back."""
    client.queue("q")
    client.fill("q", 10_000, b"x" * 800)
    request(client, "GET", "overview")
    asked = json.dumps({"count": 10_000, "ackmode": "ack_requeue_true", "encoding": "auto"}).encode()
    yield
    assert request(client, "POST", "queues/%2F/q/get", asked).count(b'"payload"') == 10_000


@stall
def http_delete(client: Client) -> Iterator[None]:
    """DELETE of a queue with 100,000 bindings and a million messages."""
    client.exchange("t", "topic")
    client.queue("q")
    client.bind("q", "t", [f"key.{number}" for number in range(100_000)])
    client.fill("q", 1_000_000)
    request(client, "GET", "overview")
    yield
    request(client, "DELETE", "queues/%2F/q")
