"""What comes back to its queue: its place, and the flag redelivered (RabbitMQ docs, Consumer Acknowledgements, Negative
Acknowledgement).

"When a message is requeued, it will be placed to its original position in its queue, if possible."
"""

from __future__ import annotations

import pytest

from tests.support.memory import Broker, Client
from tests.support.wire import Said, publish

Seen = list[tuple[int, bool]]


def publish_numbers(client: Client, start: int, end: int, **properties: object) -> None:
    client.send(*(publish(1, "", "q", b"%d" % number, properties=properties) for number in range(start, end)))


def broker_with(count: int, **arguments: object) -> tuple[Broker, Client]:
    """A queue with so many messages, and a client."""
    broker = Broker()
    client = broker.open()
    fields = {name.replace("_", "-"): value for name, value in arguments.items()}
    client.ask("queue.declare", queue="q", arguments=fields)
    publish_numbers(client, 0, count)
    return broker, client


def consumer(broker: Broker, prefetch: int = 0) -> Client:
    client = broker.open()
    client.ask("basic.qos", prefetch_count=prefetch)
    client.consume("q", "c")
    return client


def seen(said: list[Said]) -> Seen:
    return [(int(each.body), bool(each.method["redelivered"])) for each in said]


def numbers(start: int, end: int, again: bool, step: int = 1) -> Seen:
    return [(number, again) for number in range(start, end, step)]


def waiting(broker: Broker) -> Seen:
    """Everything that waits, as basic.get finds it."""
    client = broker.open()
    found = []
    while (said := client.get("q", no_ack=True)) is not None:
        found.append(said)
    return seen(found)


@pytest.mark.parametrize("how", ["nack", "recover", "close", "drop"])
def test_many_come_back_before_what_was_never_delivered(how: str) -> None:
    broker, client = broker_with(3000)
    reader = consumer(broker, 2500)
    assert seen(reader.deliveries()) == numbers(0, 2500, False)
    reader.tell("basic.cancel", consumer_tag="c")
    if how == "nack":
        reader.tell("basic.nack", delivery_tag=0, multiple=True, requeue=True)
    elif how == "recover":
        reader.tell("basic.recover", requeue=True)
    elif how == "close":
        reader.tell("channel.close", reply_code=200)
    else:
        reader.drop()
    publish_numbers(client, 3000, 3010)
    assert broker.depth("q") == (3010, 0)
    heard = seen(consumer(broker).deliveries())
    assert heard == numbers(0, 2500, True) + numbers(2500, 3010, False)
    assert broker.counters.messages_redelivered == 2500


def test_what_several_consumers_give_back_is_in_order_again() -> None:
    broker, _ = broker_with(0)
    readers = [consumer(broker) for _ in range(4)]
    publish_numbers(readers[0], 0, 400)
    for which, reader in enumerate(readers):
        assert seen(reader.deliveries()) == numbers(which, 400, False, 4)
    for reader in readers:
        reader.tell("basic.cancel", consumer_tag="c")
    readers[1].tell("basic.ack", delivery_tag=0, multiple=True)
    for which in (2, 0, 3):
        readers[which].tell("basic.nack", delivery_tag=0, multiple=True, requeue=True)
    assert seen(consumer(broker).deliveries()) == [pair for pair in numbers(0, 400, True) if pair[0] % 4 != 1]


def test_what_came_back_goes_to_several_consumers_in_turns() -> None:
    broker, _ = broker_with(1000)
    first = consumer(broker)
    assert len(first.deliveries()) == 1000
    first.tell("basic.cancel", consumer_tag="c")
    readers = [consumer(broker) for _ in range(3)]
    first.tell("basic.nack", delivery_tag=900, multiple=True, requeue=True)
    heard = [seen(reader.deliveries()) for reader in readers]
    assert heard == [numbers(which, 900, True, 3) for which in range(3)]
    for reader in readers:
        reader.tell("basic.ack", delivery_tag=0, multiple=True)
    assert broker.depth("q") == (0, 100)


@pytest.mark.parametrize("prefetch", [1, 3])
def test_windows_hold_for_what_came_back(prefetch: int) -> None:
    broker, _ = broker_with(50)
    first = consumer(broker, 20)
    assert len(first.deliveries()) == 20
    first.drop()
    reader = consumer(broker, prefetch)
    got: Seen = []
    while heard := reader.deliveries():
        assert len(heard) == prefetch or len(got) + len(heard) == 50
        got += seen(heard)
        reader.tell("basic.ack", delivery_tag=len(got), multiple=True)
    assert got == numbers(0, 20, True) + numbers(20, 50, False)


def test_one_by_one_the_latest_first() -> None:
    broker, _ = broker_with(300)
    reader = consumer(broker)
    assert len(reader.deliveries()) == 300
    reader.tell("basic.cancel", consumer_tag="c")
    for tag in range(300, 0, -1):
        reader.tell("basic.nack", delivery_tag=tag, requeue=tag % 3 > 0)
    expected = [pair for pair in numbers(0, 300, True) if (pair[0] + 1) % 3]
    assert broker.depth("q") == (len(expected), 0)
    assert waiting(broker) == expected


def test_priorities_come_back_to_their_levels() -> None:
    broker, client = broker_with(0, x_max_priority=3)
    for priority in (1, 3, 2):
        publish_numbers(client, priority * 100, priority * 100 + 50, priority=priority)
    reader = consumer(broker, 120)
    assert [number for number, _ in seen(reader.deliveries())] == [*range(300, 350), *range(200, 250), *range(100, 120)]
    reader.tell("basic.cancel", consumer_tag="c")
    reader.tell("basic.nack", delivery_tag=0, multiple=True, requeue=True)
    heard = seen(consumer(broker).deliveries())
    assert heard == numbers(300, 350, True) + numbers(200, 250, True) + numbers(100, 120, True) + numbers(
        120, 150, False
    )


def test_deadlines_come_back_too() -> None:
    """RabbitMQ docs, Time-To-Live: the original deadline, after a requeue as well."""
    broker, client = broker_with(0, x_dead_letter_exchange="", x_dead_letter_routing_key="dead")
    client.ask("queue.declare", queue="dead")
    for number in range(30):
        client.publish("q", b"%d" % number, properties={"expiration": "1000"} if number < 20 else {})
    reader = consumer(broker)
    assert len(reader.deliveries()) == 30
    reader.tell("basic.cancel", consumer_tag="c")
    broker.advance(500)
    reader.tell("basic.nack", delivery_tag=0, multiple=True, requeue=True)
    assert broker.depth("q") == (30, 0)
    broker.advance(501)
    assert broker.depth("q") == (10, 0)
    assert client.drain("dead") == [b"%d" % number for number in range(20)]
    assert waiting(broker) == numbers(20, 30, True)


@pytest.mark.parametrize("limit", ["x_max_length", "x_max_length_bytes"])
@pytest.mark.parametrize("tags", [(40, 0), (0,), (0, 40)])
def test_a_limit_drops_the_oldest_of_what_came_back(limit: str, tags: tuple[int, ...]) -> None:
    """RabbitMQ docs, Queue Length Limit: from the head, which is where requeued messages go."""
    per_message = 1 if limit == "x_max_length" else 3
    broker, client = broker_with(
        0, **{limit: 50 * per_message}, x_dead_letter_exchange="", x_dead_letter_routing_key="dead"
    )
    client.ask("queue.declare", queue="dead")
    reader = consumer(broker)
    publish_numbers(client, 100, 150)
    publish_numbers(client, 150, 180)
    assert len(reader.deliveries()) == 80
    reader.tell("basic.cancel", consumer_tag="c")
    publish_numbers(client, 180, 200)
    for tag in tags:
        if broker.queue("q").unacked:
            reader.tell("basic.nack", delivery_tag=tag, multiple=True, requeue=True)
    assert broker.depth("q") == (50, 0)
    assert client.drain("dead") == [b"%d" % number for number in range(100, 150)]
    assert waiting(broker) == numbers(150, 180, True) + numbers(180, 200, False)


def test_a_limit_looks_at_consumers_first_when_messages_come_back() -> None:
    """Several runs come back in one nack: none is dropped that a consumer takes, and the order is kept."""
    broker, _ = broker_with(0, x_max_length=5)
    readers = [consumer(broker), consumer(broker)]
    for number in range(40):
        publish_numbers(readers[0], number, number + 1)
    readers[1].tell("basic.cancel", consumer_tag="c")
    assert len(readers[0].deliveries()) == 20
    readers[1].tell("basic.nack", delivery_tag=0, multiple=True, requeue=True)
    assert seen(readers[0].deliveries()) == numbers(1, 40, True, 2)


def test_requeued_messages_are_rejected_and_purged_like_others() -> None:
    broker, client = broker_with(100, x_dead_letter_exchange="", x_dead_letter_routing_key="dead")
    client.ask("queue.declare", queue="dead")
    consumer(broker).drop()
    reader = consumer(broker, 30)
    assert seen(reader.deliveries()) == numbers(0, 30, True)
    reader.tell("basic.cancel", consumer_tag="c")
    reader.tell("basic.nack", delivery_tag=10, multiple=True, requeue=False)
    assert client.drain("dead") == [b"%d" % number for number in range(10)]
    reader.tell("basic.nack", delivery_tag=0, multiple=True, requeue=True)
    assert broker.depth("q") == (90, 0)
    assert client.ask("queue.purge", queue="q")["message_count"] == 90
    assert broker.depth("q") == (0, 0)


def test_what_was_got_comes_back() -> None:
    broker, client = broker_with(5)
    for _ in range(3):
        assert client.get("q") is not None
    client.tell("basic.nack", delivery_tag=2, requeue=True)
    again = client.get("q")
    assert again is not None
    assert seen([again]) == [(1, True)]
    client.tell("basic.recover", requeue=True)
    client.expect("basic.recover-ok")
    assert waiting(broker) == numbers(0, 3, True) + numbers(3, 5, False)


def test_a_rolled_back_requeue_is_none() -> None:
    broker, _ = broker_with(100)
    reader = broker.open()
    reader.ask("tx.select")
    reader.consume("q", "c")
    assert len(reader.deliveries()) == 100
    reader.tell("basic.cancel", consumer_tag="c")
    reader.tell("basic.nack", delivery_tag=60, multiple=True, requeue=True)
    reader.hear()
    reader.ask("tx.rollback")
    assert broker.depth("q") == (0, 100)
    reader.tell("basic.ack", delivery_tag=30, multiple=True)
    reader.tell("basic.nack", delivery_tag=70, multiple=True, requeue=True)
    reader.ask("tx.commit")
    assert broker.depth("q") == (40, 30)
    assert waiting(broker) == numbers(30, 70, True)


def test_a_line_that_is_held_is_not_overtaken() -> None:
    """What comes back in several slices must not be overtaken: neither by what stands behind it nor by lower
    priorities."""
    broker, client = broker_with(0, x_max_priority=2)
    publish_numbers(client, 0, 5, priority=2)
    publish_numbers(client, 5, 8, priority=1)
    queue = broker.queue("q")
    queue.hold(2)
    queue.hold(2)
    reader = consumer(broker)
    getter = broker.open()
    getter.tell("basic.get", queue="q", no_ack=True)
    queue.release(2)
    broker.run_turn()
    reader.expect_nothing()
    getter.expect_nothing()
    assert broker.depth("q") == (8, 0)
    queue.release(2)
    broker.run_turn()
    heard = seen(reader.deliveries())
    got = seen([getter.expect_said("basic.get-ok")]) if len(heard) < 8 else []
    assert sorted(heard + got) == numbers(0, 8, False)
