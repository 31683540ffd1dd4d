"""x-delayed-retry-type, -min and -max of quorum queues (RabbitMQ 4.3, Quorum Queues, Delayed Retry); what is expected
here was compared with a RabbitMQ 4.3."""

from __future__ import annotations

import random

import pytest

from tests.spec.test_quorum import after, opened, put, seen, waiting
from tests.support.durable import DurableBroker
from tests.support.memory import Broker, Client

ENDS = ["killed", "lost power", "stopped"]


def queue(broker: DurableBroker, kind: str = "all", least: int = 300, most: int = 700, **arguments: object) -> Client:
    """A client with a queue that delays."""
    given = {"x-delayed-retry-type": kind, "x-delayed-retry-min": least, "x-delayed-retry-max": most}
    return opened(broker, given | {name.replace("_", "-"): value for name, value in arguments.items()})


def gone_on(broker: DurableBroker, end: str, seed: int = 0) -> DurableBroker:
    """The next node, at the time when this one has ended."""
    ended_ms = broker.clock.wall_ms
    following = after(broker, end, seed)
    following.advance(int(ended_ms - following.clock.wall_ms))
    return following


def got(client: Client) -> int | None:
    """The delivery tag of what basic.get brings."""
    said = client.get("q")
    return None if said is None else said.method.number("delivery_tag")


def ready(client: Client) -> int:
    return client.ask("queue.declare", queue="q", passive=True).number("message_count")


def give_back(client: Client, how: str, tag: int) -> None:
    client.tell(f"basic.{how}", delivery_tag=tag, requeue=True)


def delay_of(broker: Broker, client: Client) -> tuple[int, int]:
    """How many milliseconds pass until there is something to get, to 20; and its delivery tag."""
    for passed in range(0, 2000, 20):
        tag = got(client)
        if tag is not None:
            return passed, tag
        broker.advance(20)
    raise AssertionError("nothing comes")


@pytest.mark.parametrize(
    ("kind", "delays"),
    [
        ("all", [300, 300, 600, 700, 700]),
        ("failed", [0, 300, 600, 700, 0]),
        ("returned", [300, 0, 0, 0, 700]),
    ],
)
def test_a_delay_grows_with_the_failures(kind: str, delays: list[int]) -> None:
    broker = DurableBroker()
    client = queue(broker, kind)
    put(client, b"1")
    client.hear()
    tag = got(client)
    assert tag is not None
    for how, expected in zip(("nack", "reject", "reject", "reject", "nack"), delays, strict=True):
        give_back(client, how, tag)
        passed, tag = delay_of(broker, client)
        assert expected <= passed <= expected + 20


@pytest.mark.parametrize(
    "arguments",
    [
        {"x-delayed-retry-type": "all"},
        {"x-delayed-retry-min": 100},
        {"x-delayed-retry-type": "bogus", "x-delayed-retry-min": 100},
        {"x-delayed-retry-type": 5, "x-delayed-retry-min": 100},
        {"x-delayed-retry-type": "all", "x-delayed-retry-min": "100"},
        {"x-delayed-retry-type": "all", "x-delayed-retry-min": -1},
        {"x-delayed-retry-type": "all", "x-delayed-retry-min": 0},
        {"x-delayed-retry-type": "disabled", "x-delayed-retry-min": 100},
    ],
)
def test_what_makes_no_sense_is_taken_and_delays_nothing(arguments: dict[str, object]) -> None:
    broker = DurableBroker()
    client = opened(broker, arguments)
    put(client, b"1")
    client.hear()
    tag = got(client)
    assert tag is not None
    give_back(client, "reject", tag)
    assert got(client) is not None


def test_what_is_delayed_is_not_ready_and_counts_towards_the_length() -> None:
    broker = DurableBroker()
    client = queue(broker, x_max_length=1, x_dead_letter_exchange="", x_dead_letter_routing_key="dead")
    client.ask("queue.declare", queue="dead")
    put(client, b"1")
    client.hear()
    tag = got(client)
    assert tag is not None
    give_back(client, "nack", tag)
    broker.run_turn()
    assert ready(client) == 0
    assert broker.vhost.queues["q"].delayed == 1
    put(client, b"2")
    client.hear()
    assert ready(client) == 0
    assert waiting(broker, "dead")[0][0] == b"2"
    assert delay_of(broker, client)[0] >= 280


def test_a_consumer_gets_it_when_it_is_due() -> None:
    broker = DurableBroker()
    client = queue(broker)
    client.ask("basic.qos", prefetch_count=1)
    client.ask("basic.consume", queue="q", consumer_tag="c")
    put(client, b"1", b"2")
    heard = [said.body for said in client.hear() if said.method.name == "basic.deliver"]
    assert heard == [b"1"]
    give_back(client, "reject", 1)
    broker.run_turn()
    heard = [said.body for said in client.hear() if said.method.name == "basic.deliver"]
    assert heard == [b"2"]
    client.tell("basic.ack", delivery_tag=2)
    broker.advance(280)
    assert not [said for said in client.hear() if said.method.name == "basic.deliver"]
    broker.advance(40)
    said = client.hear()[-1]
    assert seen(said) == (b"1", True, {"delivery": 1, "acquired": 1})


def test_the_delivery_limit_comes_before_the_delay() -> None:
    broker = DurableBroker()
    client = queue(broker, x_delivery_limit=1, x_dead_letter_exchange="", x_dead_letter_routing_key="dead")
    client.ask("queue.declare", queue="dead")
    put(client, b"1")
    client.hear()
    tag = got(client)
    assert tag is not None
    give_back(client, "reject", tag)
    tag = delay_of(broker, client)[1]
    give_back(client, "reject", tag)
    broker.run_turn()
    assert [body for body, *_ in waiting(broker, "dead")] == [b"1"]
    assert broker.vhost.queues["q"].delayed == 0


@pytest.mark.parametrize("restarted", [False, True])
def test_a_purge_takes_what_is_delayed(restarted: bool) -> None:
    broker = DurableBroker()
    client = queue(broker)
    put(client, b"1", b"2", b"3")
    client.hear()
    for _ in range(2):
        tag = got(client)
        assert tag is not None
        give_back(client, "nack", tag)
    broker.settled()
    if restarted:
        broker = broker.killed()
        client = broker.open()
        assert ready(client) == 1
    assert client.ask("queue.purge", queue="q")["message_count"] == 3
    assert broker.vhost.queues["q"].delayed == 0
    broker.advance(1000)
    assert got(client) is None
    broker = gone_on(broker, "killed")
    broker.advance(1000)
    assert waiting(broker) == []


@pytest.mark.parametrize("no_ack", [False, True])
@pytest.mark.parametrize("end", ENDS)
def test_delays_survive(end: str, no_ack: bool) -> None:
    broker = DurableBroker()
    client = queue(broker)
    put(client, b"1", b"2", b"3")
    client.hear()
    for how in ("reject", "nack"):
        tag = got(client)
        assert tag is not None
        give_back(client, how, tag)
    broker.settled()  # 20 ms
    broker = gone_on(broker, end)
    client = broker.open()
    assert broker.vhost.queues["q"].delayed == 2
    assert ready(client) == 1
    client.ask("basic.consume", queue="q", consumer_tag="c", no_ack=no_ack)
    broker.run_turn()
    deliveries = [seen(said) for said in client.hear() if said.method.name == "basic.deliver"]
    assert deliveries == [(b"3", False, {})]
    broker.advance(250)
    assert client.hear() == []
    broker.advance(60)
    deliveries = [seen(said) for said in client.hear() if said.method.name == "basic.deliver"]
    assert deliveries == [
        (b"1", True, {"delivery": 1, "acquired": 1}),
        (b"2", True, {"delivery": 0, "acquired": 1}),
    ]
    assert broker.vhost.queues["q"].delayed == 0


def test_what_comes_due_in_its_place_after_a_start_is_delivered_once() -> None:
    broker = DurableBroker()
    client = queue(broker)
    put(client, b"1", b"2", b"3")
    client.hear()
    tag = got(client)
    assert tag is not None
    give_back(client, "reject", tag)
    broker.settled()
    broker = gone_on(broker, "killed")
    broker.advance(400)
    assert [body for body, *_ in waiting(broker)] == [b"1", b"2", b"3"]
    assert broker.vhost.queues["q"].delayed == 0


@pytest.mark.parametrize("seed", range(40))
def test_random_lives(seed: int) -> None:
    """Messages that are given back, delayed, dropped for the length, settled, and ends of the node: nothing comes twice
    at a time, nothing is lost, and nothing comes before its time."""
    chance = random.Random(seed)
    broker = DurableBroker()
    delay = 200
    client = queue(broker, "all", delay, delay)
    there: set[bytes] = set()
    held: dict[int, bytes] = {}
    until: dict[bytes, int] = {}
    now = number = 0
    for _ in range(150):
        what = chance.choice(("put", "get", "get", "back", "back", "ack", "wait", "end"))
        if what == "put":
            bodies = [b"%d" % (number + more) for more in range(chance.randint(1, 4))]
            number += len(bodies)
            put(client, *bodies)
            client.hear()
            there.update(bodies)
        elif what == "get":
            said = client.get("q")
            if said is None:
                assert there == set(held.values()) | set(until)
            else:
                assert said.body in there
                assert said.body not in held.values()
                assert until.pop(said.body, 0) <= now
                held[said.method.number("delivery_tag")] = said.body
        elif what == "back" and held:
            tag = chance.choice(list(held))
            give_back(client, chance.choice(("nack", "reject")), tag)
            until[held.pop(tag)] = now + delay
        elif what == "ack" and held:
            tag = chance.choice(list(held))
            client.tell("basic.ack", delivery_tag=tag)
            there.remove(held.pop(tag))
        elif what == "wait":
            passed = chance.choice((5, 50, 150))
            broker.advance(passed)
            now += passed
        elif what == "end" and chance.random() < 0.4:
            broker.settled()
            now += 20
            end = chance.choice(ENDS)
            broker = gone_on(broker, end, seed)
            if end == "stopped":  # their channels have ended before the node has
                until |= dict.fromkeys(held.values(), now + delay)
            client = broker.open()
            client.ask("confirm.select")
            held = {}
        for body in [body for body, at in until.items() if at <= now]:
            del until[body]
    broker.settled()
    broker = gone_on(broker, "killed")
    broker.advance(300)
    assert sorted(body for body, *_ in waiting(broker)) == sorted(there)
    assert broker.vhost.queues["q"].delayed == 0
