"""x-max-priority (RabbitMQ docs, Classic Queues Support Priorities)."""

from __future__ import annotations

from tests.support.memory import Broker, Client
from tests.support.wire import publish


def prioritised(highest: int = 5) -> Client:
    client = Broker().open()
    client.ask("queue.declare", queue="q", arguments={"x-max-priority": highest})
    return client


def send(client: Client, *priorities: int | None) -> None:
    """One message for each; its body is its priority and its place."""
    for place, priority in enumerate(priorities):
        client.publish(
            "q", f"{priority}#{place}".encode(), properties=None if priority is None else {"priority": priority}
        )


def test_higher_ones_first_and_equal_ones_in_their_order() -> None:
    client = prioritised()
    send(client, 1, 5, 3, 5, 1, 0)
    assert client.drain("q") == [b"5#1", b"5#3", b"3#2", b"1#0", b"1#4", b"0#5"]


def test_no_priority_is_zero() -> None:
    """RabbitMQ docs, Priority Queues."""
    client = prioritised()
    send(client, None, 0, None, 1)
    assert client.drain("q") == [b"1#3", b"None#0", b"0#1", b"None#2"]


def test_what_is_above_the_highest_is_the_highest() -> None:
    """RabbitMQ docs, Priority Queues; the property itself is not changed."""
    client = prioritised()
    send(client, 5, 255, 6, 4)
    said = client.get("q", no_ack=True)
    assert said is not None
    assert said.body == b"5#0"
    said = client.get("q", no_ack=True)
    assert said is not None
    assert (said.body, said.properties) == (b"255#1", {"priority": 255})
    assert client.drain("q") == [b"6#2", b"4#3"]


def test_without_the_argument_priorities_do_not_matter() -> None:
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    send(client, 1, 9, 5)
    assert client.drain("q") == [b"1#0", b"9#1", b"5#2"]


def test_a_single_priority_is_a_plain_queue() -> None:
    client = prioritised(0)
    send(client, 1, 9, None)
    assert client.drain("q") == [b"1#0", b"9#1", b"None#2"]


def test_255_priorities() -> None:
    client = prioritised(255)
    send(client, *range(0, 256, 5))
    assert [int(body.split(b"#")[0]) for body in client.drain("q")] == list(range(255, -1, -5))


def test_consumers_get_the_highest_there_is() -> None:
    client = prioritised()
    client.ask("basic.qos", prefetch_count=1)
    client.consume("q")
    send(client, 1, 2, 5, 3)
    got = client.bodies()
    for tag in range(1, 4):
        client.tell("basic.ack", delivery_tag=tag)
        got += client.bodies()
    assert got == [b"1#0", b"5#2", b"3#3", b"2#1"]


def test_requeued_messages_go_back_to_their_place_in_their_priority() -> None:
    client = prioritised()
    send(client, 5, 1, 5, 1)
    for _ in range(4):
        client.get("q")
    send(client, 5, 1)
    client.tell("basic.nack", delivery_tag=0, multiple=True, requeue=True)
    assert client.drain("q") == [b"5#0", b"5#2", b"5#0", b"1#1", b"1#3", b"1#1"]


def test_several_priorities_in_one_read() -> None:
    client = prioritised()
    client.send(*(publish(1, "", "q", b"%d" % priority, properties={"priority": priority}) for priority in (1, 3, 5)))
    client.consume("q", no_ack=True)
    assert client.bodies() == [b"5", b"3", b"1"]


def test_purge_and_counts_cover_all_priorities() -> None:
    client = prioritised()
    send(client, 1, 2, 3)
    assert client.ask("queue.declare", queue="q", passive=True)["message_count"] == 3
    assert client.ask("queue.purge", queue="q")["message_count"] == 3
