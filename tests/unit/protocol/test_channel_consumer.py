"""The consumer that writes to a channel (broker/protocol/channel_consumer.py): room, tags, frames."""

from __future__ import annotations

from broker.protocol.channel_consumer import ChannelConsumer
from tests.support.memory import Broker, Client
from tests.support.wire import publish

UNLIMITED = 1 << 30


def made(broker: Broker, **arguments: object) -> tuple[Client, ChannelConsumer]:
    client = broker.open()
    client.ask("queue.declare", queue="q")
    client.tell("basic.consume", 1, queue="q", consumer_tag="c", **arguments)
    client.expect("basic.consume-ok")
    consumer = broker.queue("q").consumers.all[0]
    assert isinstance(consumer, ChannelConsumer)
    return client, consumer


def test_room_is_the_smallest_of_all_windows() -> None:
    """RabbitMQ docs, Consumer Prefetch."""
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q")
    client.ask("basic.qos", prefetch_count=5)
    client.consume("q", "c")
    consumer = broker.queue("q").consumers.all[0]
    assert consumer.credit() == 5
    client.send(publish(1, "", "q", b"x"), publish(1, "", "q", b"x"))
    assert consumer.credit() == 3
    client.ask("basic.qos", prefetch_count=4, **{"global": True})
    assert consumer.credit() == 2
    client.ask("basic.qos", prefetch_count=0, **{"global": True})
    assert consumer.credit() == 3


def test_without_windows_there_is_no_end_of_it() -> None:
    _, consumer = made(Broker())
    assert consumer.credit() >= UNLIMITED


def test_without_acknowledgements_windows_do_not_count() -> None:
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q")
    client.ask("basic.qos", prefetch_count=1)
    client.ask("basic.qos", prefetch_count=1, **{"global": True})
    client.consume("q", "c", no_ack=True)
    assert broker.queue("q").consumers.all[0].credit() >= UNLIMITED


def test_a_full_outbox_is_no_room() -> None:
    broker = Broker()
    client, consumer = made(broker)
    client.opened.writable(False)
    assert not consumer.has_room()
    assert consumer.credit() >= UNLIMITED, "that is another matter"
    assert client.opened.session.waiting_for_outbox == [(consumer, broker.queue("q"))]
    client.opened.writable(True)
    broker.run_turn()
    assert client.opened.session.waiting_for_outbox == []
    assert consumer.has_room()


def test_routes_of_different_length_share_a_consumer() -> None:
    """The prepared start of a deliver depends on the length of exchange and routing key."""
    broker = Broker()
    client, _ = made(broker, no_ack=True)
    keys = ["q", "a.longer.key", "q", "k" * 255, "", "a.longer.key"]
    client.ask("queue.bind", queue="q", exchange="amq.fanout")
    client.send(*(publish(1, "amq.fanout", key, key.encode()) for key in keys))
    got = client.deliveries()
    assert [said.method["routing_key"] for said in got] == keys
    assert [said.body.decode() for said in got] == keys
    assert [said.method["delivery_tag"] for said in got] == list(range(1, 7))


def test_small_and_large_messages_keep_their_order() -> None:
    """They take different ways through the outbox."""
    broker = Broker()
    client, _ = made(broker)
    sizes = [10, 9000, 10, 20_000, 20_000, 10, 0, 8192]
    client.send(*(publish(1, "", "q", b"x" * size) for size in sizes))
    assert [len(said.body) for said in client.deliveries()] == sizes


def test_an_idle_consumer_is_not_in_anyones_way() -> None:
    broker = Broker()
    client, consumer = made(broker)
    client.ask("basic.cancel", consumer_tag="c")
    assert not consumer.registered
    assert client.opened.channels[1].consumers == {}
