"""queue.delete and queue.purge (AMQP 0-9-1; RabbitMQ docs, Consumers: cancel notification)."""

from __future__ import annotations

from tests.support.memory import Broker
from tests.support.wire import method


def test_delete_tells_how_many_ready_messages_went() -> None:
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q")
    for _ in range(3):
        client.publish("q", b"x")
    client.get("q")
    assert client.ask("queue.delete", queue="q")["message_count"] == 2
    assert "q" not in broker.vhost.queues
    assert client.ask("queue.delete", queue="q")["message_count"] == 0, "a missing queue counts as deleted"


def test_delete_if_unused() -> None:
    """AMQP 0-9-1 queue.delete."""
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    client.consume("q", "c")
    assert (
        client.ask_error(406, "queue.delete", queue="q", if_unused=True)
        == "PRECONDITION_FAILED - queue 'q' in vhost '/' in use"
    )
    client.ask("queue.delete", queue="q", if_unused=True)


def test_delete_if_empty() -> None:
    """AMQP 0-9-1 queue.delete: ready messages count; unacknowledged ones do not keep a queue."""
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    client.publish("q", b"x")
    assert (
        client.ask_error(406, "queue.delete", queue="q", if_empty=True)
        == "PRECONDITION_FAILED - queue 'q' in vhost '/' not empty"
    )
    client.get("q")
    assert client.ask("queue.delete", queue="q", if_empty=True)["message_count"] == 0


def test_consumers_of_a_deleted_queue_are_told() -> None:
    """RabbitMQ docs, Consumer Cancellation Notification: basic.cancel from the server, with no-wait."""
    broker = Broker()
    owner, consumer = broker.open(), broker.open()
    owner.ask("queue.declare", queue="q")
    consumer.consume("q", "c")
    owner.ask("queue.delete", queue="q")
    broker.run_turn()
    assert consumer.expect("basic.cancel", 1).arguments == {"consumer_tag": "c", "nowait": True}
    consumer.ask("queue.declare", queue="q")
    consumer.consume("q", "c")


def test_consumers_that_do_not_understand_it_are_not_told() -> None:
    """The capability consumer_cancel_notify."""
    broker = Broker()
    owner, consumer = broker.open(), broker.open(capabilities={})
    owner.ask("queue.declare", queue="q")
    consumer.consume("q", "c")
    owner.ask("queue.delete", queue="q")
    consumer.expect_nothing()


def test_the_cancel_of_ones_own_consumer_follows_delete_ok() -> None:
    """A client library that waits for delete-ok would not expect anything before it."""
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    client.consume("q", "c")
    client.tell("queue.delete", queue="q")
    assert client.names() == ["queue.delete-ok", "basic.cancel"]


def test_deliveries_of_a_deleted_queue_can_still_be_settled() -> None:
    """The channel knows its tags, whatever became of the queue."""
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    for _ in range(4):
        client.publish("q", b"x")
    client.consume("q")
    assert len(client.deliveries()) == 4
    client.ask("queue.delete", queue="q")
    client.names()
    client.tell("basic.ack", delivery_tag=1)
    client.tell("basic.nack", delivery_tag=2, requeue=True)
    client.tell("basic.reject", delivery_tag=3)
    client.expect_nothing()
    client.ask("queue.declare", queue="q")
    assert client.get("q") is None, "nothing comes back into a queue of the same name"
    client.ask("channel.close")


def test_its_bindings_go_with_a_queue() -> None:
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    client.ask("queue.bind", queue="q", exchange="amq.fanout")
    client.ask("queue.delete", queue="q")
    client.publish("", b"x", exchange="amq.fanout", mandatory=True)
    assert client.names() == ["basic.return"]
    client.ask("queue.declare", queue="q")
    client.publish("", b"x", exchange="amq.fanout", mandatory=True)
    assert client.names() == ["basic.return"]


def test_purge() -> None:
    """Ready messages go, unacknowledged ones stay; purging is not dead-lettering (RabbitMQ docs, Dead Letter
    Exchanges)."""
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="dead")
    client.ask(
        "queue.declare", queue="q", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    )
    for _ in range(3):
        client.publish("q", b"x")
    client.get("q")
    assert client.ask("queue.purge", queue="q")["message_count"] == 2
    assert broker.depth("q") == (0, 1)
    assert client.ask("queue.purge", queue="q")["message_count"] == 0
    assert broker.depth("dead") == (0, 0)
    assert client.ask_error(404, "queue.purge", queue="missing") == "NOT_FOUND - no queue 'missing' in vhost '/'"


def test_a_purged_queue_takes_returned_messages_back() -> None:
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    for number in range(3):
        client.publish("q", b"%d" % number)
    client.get("q")
    client.ask("queue.purge", queue="q")
    client.publish("q", b"new")
    client.tell("basic.nack", delivery_tag=1, requeue=True)
    assert client.drain("q") == [b"0", b"new"]


def test_without_answers() -> None:
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q")
    client.tell("queue.purge", queue="q", nowait=True)
    client.tell("queue.delete", queue="q", nowait=True)
    client.expect_nothing()
    assert "q" not in broker.vhost.queues


def test_what_a_consumer_could_have_had_is_not_counted() -> None:
    """A publish and a purge in one read: the consumer with room gets the message first, as it would message by
    message."""
    from tests.support.wire import publish

    client = Broker().open()
    client.ask("queue.declare", queue="q")
    client.consume("q", no_ack=True)
    client.send(publish(1, "", "q", b"x"), method(1, "queue.purge", queue="q"))
    assert client.names() == ["basic.deliver", "queue.purge-ok"]
