"""What is counted for queues, exchanges and channels. Names and meanings: ``message_stats`` of RabbitMQ's
management."""

from __future__ import annotations

from broker.stats import CHANNEL_NAMES, EXCHANGE_NAMES, QUEUE_NAMES, Figures
from tests.support.memory import Broker, Client
from tests.support.wire import publish


def counted(names: tuple[str, ...], figures: Figures | None) -> dict[str, int]:
    """What is not zero."""
    if figures is None:
        return {}
    return {name: count for name, count in zip(names, figures.counts(), strict=True) if count}


def of_queue(broker: Broker, name: str = "q") -> dict[str, int]:
    found = counted(QUEUE_NAMES, broker.vhost.queues[name].figures)
    return {name: count for name, count in found.items() if not name.startswith("messages")}


def of_exchange(broker: Broker, name: str = "") -> dict[str, int]:
    return counted(EXCHANGE_NAMES, broker.vhost.exchanges[name].figures)


def of_channel(client: Client, number: int = 1) -> dict[str, int]:
    return counted(CHANNEL_NAMES, client.opened.channels[number].figures)


def start(arguments: dict[str, object] | None = None) -> tuple[Broker, Client]:
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q", arguments=arguments or {})
    return broker, client


def test_where_nothing_happens_there_are_none() -> None:
    """Memory: 10,000 idle queues and channels with a consumer each must not pay for it."""
    broker, client = start()
    client.consume("q")
    assert broker.vhost.queues["q"].figures is None
    assert broker.vhost.exchanges["amq.topic"].figures is None
    assert client.opened.channels[1].figures is None


def test_published_and_confirmed() -> None:
    broker, client = start()
    client.ask("confirm.select")
    client.send(*(publish(1, "", "q", b"x") for _ in range(3)))
    client.hear()
    assert of_queue(broker) == {"publish": 3}
    assert of_exchange(broker) == {"publish_in": 3, "publish_out": 3}
    assert of_channel(client) == {"publish": 3, "confirm": 3}


def test_a_refused_message_is_published_and_not_confirmed() -> None:
    """x-overflow reject-publish: RabbitMQ counts what it hands to the queue, and confirms by what is acknowledged."""
    broker, client = start(arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    client.ask("confirm.select")
    client.send(publish(1, "", "q", b"x"), publish(1, "", "q", b"x"))
    assert of_queue(broker) == {"publish": 2}
    assert of_channel(client) == {"publish": 2, "confirm": 1}
    assert broker.counters.messages_confirmed == 1


def test_unroutable_is_returned_or_dropped() -> None:
    broker, client = start()
    client.publish("nobody", b"x", mandatory=True)
    client.publish("nobody", b"x")
    client.publish("nobody", b"x")
    assert of_exchange(broker) == {"publish_in": 3, "return_unroutable": 1, "drop_unroutable": 2}
    assert of_channel(client) == {"publish": 3, "return_unroutable": 1, "drop_unroutable": 2}


def test_got_with_and_without_acknowledgement() -> None:
    broker, client = start()
    for _ in range(3):
        client.publish("q", b"x")
    client.get("q")
    client.get("q", no_ack=True)
    client.get("q", no_ack=True)
    client.get("q")
    client.tell("basic.ack", delivery_tag=1)
    expected = {"publish": 3, "get": 1, "get_no_ack": 2, "get_empty": 1, "ack": 1}
    assert of_queue(broker) == expected
    assert of_channel(client) == expected


def test_delivered_in_batches() -> None:
    """Two consumers that take turns, and one without acknowledgements."""
    broker, client = start()
    reader = broker.open(1, 2, 3)
    client.send(*(publish(1, "", "q", b"x") for _ in range(100)))
    reader.consume("q", "a", on=1)
    assert of_queue(broker) == {"publish": 100, "deliver": 100}
    reader.consume("q", "b", on=2)
    client.send(*(publish(1, "", "q", b"x") for _ in range(10)))
    assert of_channel(reader, 1) == {"deliver": 105}
    assert of_channel(reader, 2) == {"deliver": 5}
    reader.ask("basic.cancel", on=1, consumer_tag="a")
    reader.ask("basic.cancel", on=2, consumer_tag="b")
    reader.consume("q", "c", on=3, no_ack=True)
    client.publish("q", b"x")
    assert of_channel(reader, 3) == {"deliver_no_ack": 1}
    assert of_queue(broker) == {"publish": 111, "deliver": 110, "deliver_no_ack": 1}


def test_acknowledged_one_by_one_and_many() -> None:
    """With a gap: what was acknowledged before is not counted again."""
    broker, client = start()
    client.send(*(publish(1, "", "q", b"x") for _ in range(10)))
    client.consume("q", "a")
    client.tell("basic.ack", delivery_tag=3)
    client.tell("basic.ack", delivery_tag=5, multiple=True)
    assert of_queue(broker)["ack"] == of_channel(client)["ack"] == 5
    client.tell("basic.ack", delivery_tag=0, multiple=True)
    assert of_queue(broker)["ack"] == of_channel(client)["ack"] == 10


def test_refused_is_no_acknowledgement_and_comes_again() -> None:
    broker, client = start()
    client.send(publish(1, "", "q", b"x"), publish(1, "", "q", b"y"))
    client.consume("q", "a")
    client.tell("basic.nack", delivery_tag=1, requeue=True)
    client.tell("basic.reject", delivery_tag=2, requeue=False)
    expected = {"publish": 2, "deliver": 3, "redeliver": 1}
    assert of_queue(broker) == of_channel(client) == expected


def test_what_comes_back_and_is_got_is_redelivered() -> None:
    broker, client = start()
    client.publish("q", b"x")
    client.get("q")
    client.tell("basic.nack", delivery_tag=1, requeue=True)
    client.get("q")
    assert of_queue(broker) == {"publish": 1, "get": 2, "redeliver": 1}


def test_dead_letters_are_published_to_their_exchange() -> None:
    """Not by the channel: nobody sent them."""
    broker, client = start(arguments={"x-dead-letter-exchange": "amq.fanout"})
    for name in ("one", "two"):
        client.ask("queue.declare", queue=name)
        client.ask("queue.bind", queue=name, exchange="amq.fanout")
    client.publish("q", b"x")
    client.get("q")
    client.tell("basic.reject", delivery_tag=1, requeue=False)
    assert of_exchange(broker, "amq.fanout") == {"publish_in": 1, "publish_out": 2}
    assert of_queue(broker, "one") == of_queue(broker, "two") == {"publish": 1}
    assert of_channel(client) == {"publish": 1, "get": 1}


def test_dead_letters_that_take_long_are_counted_alike() -> None:
    """More queues than one dead letter may reach at once."""
    broker, client = start(arguments={"x-dead-letter-exchange": "amq.fanout"})
    for number in range(100):
        client.ask("queue.declare", queue=str(number))
        client.ask("queue.bind", queue=str(number), exchange="amq.fanout")
    client.send(publish(1, "", "q", b"x"), publish(1, "", "q", b"x"))
    client.consume("q", "a")
    client.tell("basic.nack", delivery_tag=2, multiple=True, requeue=False)
    assert of_exchange(broker, "amq.fanout") == {"publish_in": 2, "publish_out": 200}
    assert of_queue(broker, "99") == {"publish": 2}


def test_transactions_are_counted_when_they_commit() -> None:
    """RabbitMQ: ``deliver_to_queues`` counts, which a transaction calls at its commit; acknowledgements likewise."""
    broker, client = start()
    client.publish("q", b"x")
    client.get("q")
    client.ask("tx.select")
    client.publish("q", b"x")
    client.publish("nobody", b"x")
    client.tell("basic.ack", delivery_tag=1)
    assert of_channel(client) == {"publish": 1, "get": 1}
    client.ask("tx.commit")
    assert of_channel(client) == {"publish": 3, "get": 1, "ack": 1, "drop_unroutable": 1}
    assert of_queue(broker) == {"publish": 2, "get": 1, "ack": 1}
    client.publish("q", b"x")
    client.ask("tx.rollback")
    assert of_channel(client)["publish"] == 3
    assert of_exchange(broker) == {"publish_in": 3, "publish_out": 2, "drop_unroutable": 1}


def test_an_exchange_that_is_bound_to_another_has_no_part_in_it() -> None:
    """RabbitMQ counts for the exchange that the client named."""
    broker, client = start()
    client.ask("exchange.bind", source="amq.topic", destination="amq.fanout", routing_key="#")
    client.ask("queue.bind", queue="q", exchange="amq.fanout")
    client.publish("a.b", b"x", exchange="amq.topic")
    assert of_exchange(broker, "amq.topic") == {"publish_in": 1, "publish_out": 1}
    assert broker.vhost.exchanges["amq.fanout"].figures is None
    assert of_queue(broker) == {"publish": 1}


def test_headers_and_copies() -> None:
    """What each message's own properties decide about."""
    broker, client = start()
    client.ask("queue.declare", queue="other")
    client.ask("queue.bind", queue="q", exchange="amq.headers", arguments={"a": 1})
    client.publish("", b"x", exchange="amq.headers", properties={"headers": {"a": 1}})
    client.publish("", b"x", exchange="amq.headers", properties={"headers": {"a": 2}})
    client.publish("q", b"x", properties={"headers": {"CC": ["other"]}})
    assert of_exchange(broker, "amq.headers") == {"publish_in": 2, "publish_out": 1, "drop_unroutable": 1}
    assert of_exchange(broker) == {"publish_in": 1, "publish_out": 2}
    assert of_queue(broker) == {"publish": 2}
    assert of_queue(broker, "other") == {"publish": 1}


def test_a_message_for_very_many_queues_is_one() -> None:
    """It is published in slices."""
    broker, client = start()
    for number in range(300):
        client.ask("queue.declare", queue=str(number))
        client.ask("queue.bind", queue=str(number), exchange="amq.fanout")
    client.ask("confirm.select")
    client.publish("", b"x", exchange="amq.fanout")
    assert of_exchange(broker, "amq.fanout") == {"publish_in": 1, "publish_out": 300}
    assert of_channel(client) == {"publish": 1, "confirm": 1}


def test_routes_that_are_forgotten_take_nothing_with_them() -> None:
    broker, client = start()
    client.publish("", b"x", exchange="amq.fanout")
    client.ask("queue.bind", queue="q", exchange="amq.fanout")
    client.publish("", b"x", exchange="amq.fanout")
    assert of_exchange(broker, "amq.fanout") == {"publish_in": 2, "publish_out": 1, "drop_unroutable": 1}


def test_direct_replies_are_delivered_without_acknowledgement() -> None:
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q")
    client.consume("amq.rabbitmq.reply-to", "r", no_ack=True)
    client.publish("q", b"x", properties={"reply_to": "amq.rabbitmq.reply-to"})
    request = client.get("q", no_ack=True)
    assert request is not None
    broker.open().publish(str(request.properties["reply_to"]), b"y")
    assert of_channel(client) == {"publish": 1, "get_no_ack": 1, "deliver_no_ack": 1}


def test_a_sample_and_a_look_dispatch_nothing() -> None:
    """Messages and consumers with room wait for the end of the turn: whoever counts does not hand them over."""
    broker, client = start()
    client.ask("basic.qos", prefetch_count=1)
    client.consume("q", "a")
    client.auto = False
    client.publish("q", b"x")
    queue = broker.queue("q")
    assert (int(queue.ready_count()), queue.delivered) == (1, 0)
    broker.clock.time_ms += 5000
    broker.clock.run_due()
    assert of_queue(broker) == {"publish": 1}
    assert (int(queue.ready_count()), queue.delivered) == (1, 0)
    broker.run_turn()
    assert queue.delivered == 1
