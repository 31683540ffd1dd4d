"""Slow readers and alarms: dispatch stops where nobody takes the octets, publishers stop when the node says so."""

from __future__ import annotations

import pytest

from broker.alarms import DISK, MEMORY
from broker.protocol.outbox import BACKLOG_MAX, HIGH_WATER
from tests.support.memory import Broker, Client
from tests.support.wire import heartbeat, method, publish

KIB = 1024


def loaded(broker: Broker, count: int, size: int) -> Client:
    """A publisher that filled the queue `q` with so many messages."""
    client = broker.open()
    client.ask("queue.declare", queue="q")
    for number in range(count):
        client.publish("q", b"%06d" % number + b"x" * (size - 6))
    return client


@pytest.mark.parametrize("size", [100 * KIB, 10 * KIB, 500])
def test_a_socket_that_is_full_gets_nothing_more(size: int) -> None:
    """What waits for one connection is bounded, whatever its prefetch."""
    broker = Broker()
    count = 6 * 1024 * KIB // size
    loaded(broker, count, size)
    consumer = broker.open()
    consumer.opened.writable(False)
    consumer.tell("basic.consume", queue="q", no_ack=True)
    consumer.expect_nothing()
    assert broker.depth("q") == (count, 0)
    consumer.opened.writable(True)
    broker.run_turn()
    consumer.expect("basic.consume-ok")
    assert [body[:6] for body in consumer.bodies()] == [b"%06d" % number for number in range(count)]


@pytest.mark.parametrize("size", [100 * KIB, 10 * KIB, 500, 10])
def test_one_write_is_about_the_high_water(size: int) -> None:
    """Dispatch goes on in the next turn, after what was written: no consumer of a large backlog takes the memory or the
    time of all."""
    broker = Broker()
    count = 6 * 1024 * KIB // max(size, 100)
    loaded(broker, count, size)
    consumer = broker.open()
    consumer.sink.writes.clear()
    consumer.consume("q", no_ack=True)
    assert len(consumer.bodies()) == count
    assert max(consumer.sink.writes) <= HIGH_WATER + size + 64 * KIB + 1024 * 200


def test_a_socket_that_fills_while_it_is_written_to() -> None:
    """The transport says so between two turns; the rest comes when it has drained, nothing twice, nothing lost."""
    broker = Broker()
    loaded(broker, 100, 50 * KIB)
    consumer = broker.open()
    consumer.auto = False
    consumer.tell("basic.consume", queue="q", no_ack=True)
    broker.turn.run()
    consumer.opened.writable(False)
    broker.run_turn()
    consumer.expect("basic.consume-ok")
    first = consumer.bodies()
    assert 10 <= len(first) < 100
    for _ in range(5):
        broker.run_turn()
    consumer.expect_nothing()
    consumer.opened.writable(True)
    broker.run_turn()
    assert [body[:6] for body in first + consumer.bodies()] == [b"%06d" % number for number in range(100)]


def test_a_full_socket_does_not_hold_up_the_others() -> None:
    """Equal consumers of one queue: one does not read, the other gets everything."""
    broker = Broker()
    publisher = loaded(broker, 0, 10)
    slow, quick = broker.open(), broker.open()
    slow.consume("q", "c", no_ack=True)
    quick.consume("q", "c", no_ack=True)
    slow.opened.writable(False)
    publisher.send(*(publish(1, "", "q", b"%d" % number) for number in range(20)))
    assert quick.bodies() == [b"%d" % number for number in range(20)]
    slow.expect_nothing()
    slow.opened.writable(True)
    broker.run_turn()
    publisher.send(*(publish(1, "", "q", b"%d" % number) for number in range(20)))
    assert (len(slow.bodies()), len(quick.bodies())) == (10, 10)


def test_a_client_that_does_not_read_its_answers_is_not_read() -> None:
    """What waits for one connection is bounded, answers included; nothing is lost when it reads again."""
    broker = Broker()
    loaded(broker, 1, 100 * KIB)
    client = broker.open()
    client.opened.writable(False)
    gets = method(1, "basic.get", queue="q"), method(1, "basic.nack", delivery_tag=0, multiple=True, requeue=True)
    asked = 0
    while client.sink.reading:
        client.send(*gets)
        asked += 1
        assert asked < 1000
    assert BACKLOG_MAX < client.outbox.size() < BACKLOG_MAX + 200 * KIB
    client.send(*gets)
    client.expect_nothing()
    client.opened.writable(True)
    broker.run_turn()
    assert client.names() == ["basic.get-ok"] * (asked + 1)


def test_a_consumer_that_waits_for_the_outbox_may_leave() -> None:
    broker = Broker()
    loaded(broker, 100, 50 * KIB)
    consumer = broker.open()
    consumer.opened.writable(False)
    consumer.tell("basic.consume", queue="q", consumer_tag="c")
    consumer.tell("basic.cancel", consumer_tag="c")
    consumer.opened.writable(True)
    broker.run_turn()
    assert consumer.names() == ["basic.consume-ok", "basic.cancel-ok"]
    consumer.opened.writable(False)
    consumer.tell("basic.consume", queue="q", consumer_tag="c")
    consumer.drop()
    assert broker.depth("q") == (100, 0)


def test_the_queue_of_a_consumer_that_waits_for_the_outbox_may_go() -> None:
    broker = Broker()
    publisher = loaded(broker, 100, 50 * KIB)
    consumer = broker.open()
    consumer.opened.writable(False)
    consumer.tell("basic.consume", queue="q", consumer_tag="c")
    publisher.ask("queue.delete", queue="q")
    consumer.opened.writable(True)
    broker.run_turn()
    assert consumer.names() == ["basic.consume-ok", "basic.cancel"]


def test_many_consumers_of_one_connection_share_its_room() -> None:
    """They all stop and all go on; every message is delivered once."""
    broker = Broker()
    client = broker.open(*range(1, 9))
    client.ask("queue.declare", queue="q")
    for channel in range(1, 9):
        client.consume("q", f"c{channel}", on=channel, no_ack=True)
    client.opened.writable(False)
    publisher = broker.open()
    for number in range(200):
        publisher.publish("q", b"%06d" % number + b"x" * 20_000)
    client.expect_nothing()
    client.opened.writable(True)
    broker.run_turn()
    assert sorted(body[:6] for body in client.bodies()) == [b"%06d" % number for number in range(200)]


def test_a_turn_writes_once() -> None:
    """each touched connection is written once a turn."""
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q")
    client.ask("confirm.select")
    client.consume("q", no_ack=True)
    client.sink.writes.clear()
    client.send(*(publish(1, "", "q", b"x") for _ in range(50)))
    assert len(client.sink.writes) == 1


# alarms


def test_an_alarm_blocks_at_the_first_publish() -> None:
    """RabbitMQ docs, Blocked Connections: connection.blocked, once, and the socket is not read any more."""
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q")
    broker.server.alarms.set(MEMORY, True)
    client.expect_nothing()
    client.ask("basic.qos")
    client.publish("q", b"1")
    assert client.expect("connection.blocked", 0)["reason"] == "low on memory"
    assert not client.sink.reading
    client.publish("q", b"2")
    client.tell("basic.qos")
    client.expect_nothing()
    broker.server.alarms.set(MEMORY, False)
    broker.run_turn()
    assert client.names() == ["connection.unblocked", "basic.qos-ok"]
    assert client.drain("q") == [b"1", b"2"]


def test_consumers_go_on_during_an_alarm() -> None:
    """RabbitMQ docs, Blocked Connections: that is how the node gets its memory back."""
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q")
    client.publish("q", b"x")
    broker.server.alarms.set(DISK, True)
    client.consume("q")
    assert client.bodies() == [b"x"]
    client.tell("basic.ack", delivery_tag=1)
    assert broker.depth("q") == (0, 0)


def test_both_alarms() -> None:
    """RabbitMQ docs, Blocked Connections: joined by ` & `; unblocked when all are clear."""
    broker = Broker()
    client = broker.open()
    broker.server.alarms.set(MEMORY, True)
    broker.server.alarms.set(DISK, True)
    client.publish("q", b"x")
    assert client.expect("connection.blocked", 0)["reason"] == "low on memory & low on disk"
    broker.server.alarms.set(MEMORY, False)
    broker.run_turn()
    client.expect_nothing()
    broker.server.alarms.set(DISK, False)
    broker.run_turn()
    client.expect("connection.unblocked", 0)


def test_a_client_that_does_not_know_the_notice_is_only_stopped() -> None:
    """The capability connection.blocked."""
    broker = Broker()
    client = broker.open(capabilities={})
    broker.server.alarms.set(MEMORY, True)
    client.publish("q", b"x")
    client.expect_nothing()
    assert not client.sink.reading
    broker.server.alarms.set(MEMORY, False)
    broker.run_turn()
    client.expect_nothing()
    assert client.sink.reading


def test_a_blocked_clients_heartbeats_are_not_missed() -> None:
    """RabbitMQ docs, Blocked Connections: it cannot be heard, so it is not cut off for its silence."""
    broker = Broker()
    client = broker.connect(heartbeat_s=10)
    client.ask("channel.open")
    broker.server.alarms.set(MEMORY, True)
    client.publish("q", b"x")
    client.expect("connection.blocked", 0)
    broker.advance(200_000)
    assert not client.sink.ended
    broker.server.alarms.set(MEMORY, False)
    broker.run_turn()
    broker.advance(9_000)
    client.send(heartbeat())
    assert not client.sink.ended
    broker.advance(60_000)
    assert client.sink.aborted, "afterwards it is heard, and missed, again"


def test_a_blocked_client_may_vanish() -> None:
    broker = Broker()
    client = broker.open()
    broker.server.alarms.set(MEMORY, True)
    client.publish("q", b"x")
    client.drop()
    broker.server.alarms.set(MEMORY, False)
    broker.run_turn()
    assert broker.server.connections == {}


def test_what_came_with_the_first_publish_in_one_read() -> None:
    """It was read already, so it is carried out; what comes later waits."""
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q")
    broker.server.alarms.set(MEMORY, True)
    client.send(publish(1, "", "q", b"1"), publish(1, "", "q", b"2"), method(1, "basic.qos"))
    assert sorted(client.names()) == ["basic.qos-ok", "connection.blocked"]
    broker.server.alarms.set(MEMORY, False)
    broker.run_turn()
    client.hear()
    assert client.drain("q") == [b"1", b"2"]
