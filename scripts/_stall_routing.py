"""What one ordinary client can ask of a node that is much work at once, about routes: inputs of
`scripts/soak stalls`."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from scripts._stall_client import CHUNK, Client, nack, stall
from tests.support.wire import method, publish


def bind_patterns(client: Client, words: str, most: int, dice: random.Random) -> None:
    """A topic exchange `t` with 10,000 bindings to queue `q`: up to so many of these words each."""
    patterns: set[str] = set()
    while len(patterns) < 10_000:
        patterns.add(".".join(dice.choices(words, k=dice.randint(1, most))))
    client.exchange("t", "topic")
    client.queue("q")
    client.bind("q", "t", sorted(patterns))


def bind_widely(client: Client) -> None:
    """A fanout exchange `f` to 100,000 queues."""
    client.exchange("f", "fanout")
    for start in range(0, 100_000, CHUNK):
        names = [f"q{number}" for number in range(start, start + CHUNK)]
        client.do(
            b"".join(
                method(1, "queue.declare", queue=name, nowait=True)
                + method(1, "queue.bind", queue=name, exchange="f", nowait=True)
                for name in names
            )
        )


@stall
def topic_random(client: Client) -> Iterator[None]:
    """1,500 distinct keys of 127 words against 10,000 random patterns of # and *."""
    dice = random.Random(1)
    bind_patterns(client, "#*", 16, dice)
    keys = [".".join(dice.choices("abcdefghijklmnop", k=127)) for _ in range(1500)]
    yield
    client.do(b"".join(publish(1, "t", key, b"m") for key in keys))


@stall
def topic_words(client: Client) -> Iterator[None]:
    """100 such keys against patterns of words too, so that what was matched before helps little."""
    dice = random.Random(2)
    bind_patterns(client, "##*ab", 20, dice)
    keys = [".".join(dice.choices("ab", k=127)) for _ in range(100)]
    yield
    client.do(b"".join(publish(1, "t", key, b"m") for key in keys))


@stall
def topic_rebound(client: Client) -> Iterator[None]:
    """The same where each publish follows a bind or an unbind, so that nothing which was found out stays true."""
    dice = random.Random(2)
    bind_patterns(client, "##*ab", 20, dice)
    keys = [".".join(dice.choices("ab", k=127)) for _ in range(100)]
    yield
    changes = [
        method(1, f"queue.{what}", queue="q", exchange="t", routing_key="a.#.x.#.b") for what in ("bind", "unbind")
    ]
    client.do(b"".join(changes[number % 2] + publish(1, "t", key, b"m") for number, key in enumerate(keys)))


def headers_input(
    client: Client, arguments: Callable[[int], dict[str, object]], headers: dict[str, object]
) -> Iterator[None]:
    """300 publishes to a headers exchange with 5,000 bindings."""
    client.exchange("h", "headers")
    client.queue("q")
    binds = [
        method(1, "queue.bind", queue="q", exchange="h", nowait=True, arguments=arguments(number))
        for number in range(5000)
    ]
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
    bind_widely(client)
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


# Dead letters


@stall
def dead_letter_fanout(client: Client) -> Iterator[None]:
    """basic.nack of 5 deliveries whose dead letters go to 100,000 queues each."""
    bind_widely(client)
    client.queue("dying", x_dead_letter_exchange="f")
    client.backlog("dying", 5)
    yield
    client.do(nack(requeue=False))
    client.await_count("q99999", 5)


@stall
def dead_letter_topic(client: Client) -> Iterator[None]:
    """basic.nack of 100 deliveries whose dead letters go through 10,000 patterns that are long to match."""
    dice = random.Random(2)
    bind_patterns(client, "##*ab", 20, dice)
    key = ".".join(dice.choices("ab", k=127))
    client.queue("dying", x_dead_letter_exchange="t", x_dead_letter_routing_key=key)
    client.backlog("dying", 100)
    yield
    client.do(nack(requeue=False))
    client.await_count("q", 100)


@stall
def expire_to_fanout(client: Client) -> Iterator[None]:
    """5 messages that expire at one moment, and go to 100,000 queues each."""
    bind_widely(client)
    client.queue("dying", x_dead_letter_exchange="f", x_message_ttl=500)
    yield
    client.fill("dying", 5)
    client.await_count("q99999", 5)


@stall
def alternate_chain(client: Client) -> Iterator[None]:
    """1,000 messages that no exchange of a chain of 5,000 alternate exchanges can route."""
    declares = [
        method(
            1,
            "exchange.declare",
            exchange=f"e{number}",
            type="direct",
            nowait=True,
            arguments={"alternate-exchange": f"e{number + 1}"},
        )
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
