"""x-expires: a queue that nobody uses goes (RabbitMQ docs, Time-To-Live and Expiration, Queue TTL)."""

from __future__ import annotations

from tests.support.memory import Broker, Client


def leased(broker: Broker, expires_ms: int = 1000, arguments: dict[str, object] | None = None) -> Client:
    client = broker.open()
    client.ask("queue.declare", queue="q", arguments={"x-expires": expires_ms, **(arguments or {})})
    return client


def alive(broker: Broker) -> bool:
    return "q" in broker.vhost.queues


def test_an_unused_queue_goes_after_its_time() -> None:
    broker = Broker()
    leased(broker)
    broker.advance(999)
    assert alive(broker)
    broker.advance(2)
    assert not alive(broker)


def test_publishing_is_no_use() -> None:
    """RabbitMQ docs, Time-To-Live, Queue TTL."""
    broker = Broker()
    client = leased(broker)
    broker.advance(900)
    client.publish("q", b"x")
    broker.advance(101)
    assert not alive(broker)


def test_get_is_use() -> None:
    """RabbitMQ docs, Time-To-Live, Queue TTL."""
    broker = Broker()
    client = leased(broker)
    broker.advance(900)
    client.get("q")
    broker.advance(900)
    assert alive(broker)
    broker.advance(101)
    assert not alive(broker)


def test_declaring_is_use() -> None:
    """RabbitMQ docs, Time-To-Live, Queue TTL."""
    broker = Broker()
    client = leased(broker)
    broker.advance(900)
    client.ask("queue.declare", queue="q", arguments={"x-expires": 1000})
    broker.advance(900)
    assert alive(broker)
    client.ask("queue.declare", queue="q", passive=True)
    broker.advance(900)
    assert alive(broker)


def test_a_consumer_is_use() -> None:
    """The time begins when the last consumer has gone."""
    broker = Broker()
    client, other = leased(broker), broker.open()
    client.consume("q", "c")
    broker.advance(5000)
    assert alive(broker)
    other.consume("q", "c")
    client.ask("basic.cancel", consumer_tag="c")
    broker.advance(5000)
    assert alive(broker)
    other.drop()
    broker.advance(999)
    assert alive(broker)
    broker.advance(2)
    assert not alive(broker)


def test_messages_go_with_it_and_are_not_dead_lettered() -> None:
    """RabbitMQ docs, Dead Letter Exchanges."""
    broker = Broker()
    client = leased(broker, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
    client.ask("queue.declare", queue="dead")
    client.publish("q", b"x")
    broker.advance(2000)
    assert not alive(broker)
    assert broker.depth("dead") == (0, 0)


def test_a_queue_deleted_and_declared_anew_has_a_new_lease() -> None:
    broker = Broker()
    client = leased(broker)
    broker.advance(900)
    client.ask("queue.delete", queue="q")
    client.ask("queue.declare", queue="q", arguments={"x-expires": 1000})
    broker.advance(900)
    assert alive(broker)
    broker.advance(200)
    assert not alive(broker)


def test_its_name_is_free_afterwards() -> None:
    broker = Broker()
    client = leased(broker, 1)
    broker.advance(5)
    assert client.ask("queue.declare", queue="q").arguments == {"queue": "q", "message_count": 0, "consumer_count": 0}
    assert client.ask_error(404, "basic.get", queue="missing")
