"""Message TTL: x-message-ttl and the expiration property (RabbitMQ docs, Time-To-Live and Expiration)."""

from __future__ import annotations

import pytest

from tests.support.fake_clock import FakeClock
from tests.support.memory import Broker, Client
from tests.support.wire import method, plain, publish

TO_DEAD: dict[str, object] = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}


def expiring(broker: Broker, ttl_ms: int | None = None) -> Client:
    """A client with a queue `q`, with a TTL when one is given, and dead letters in `dead`."""
    client = broker.open()
    client.ask("queue.declare", queue="dead")
    client.ask("queue.declare", queue="q", arguments=TO_DEAD if ttl_ms is None else TO_DEAD | {"x-message-ttl": ttl_ms})
    return client


@pytest.mark.parametrize("by_message", [True, False])
def test_a_message_lives_as_long_as_it_was_given(by_message: bool) -> None:
    """RabbitMQ 3.10 and 3.13 (rabbit_amqqueue_process, drop_expired_msgs): it is gone once now >= expiry."""
    broker = Broker()
    client = expiring(broker, None if by_message else 100)
    client.publish("q", b"x", properties={"expiration": "100"} if by_message else None)
    broker.advance(99)
    assert broker.depth("q") == (1, 0)
    broker.advance(1)
    assert broker.depth("q") == (0, 0)
    assert client.drain("dead") == [b"x"]


class FineClock(FakeClock):
    """With microseconds."""

    def __init__(self) -> None:
        self.us = 900
        super().__init__()

    def monotonic_us(self) -> int:
        return self.time_ms * 1000 + self.us


def test_a_deadline_is_told_in_microseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """RabbitMQ 3.10 and 3.13 (rabbit_amqqueue_process) do so: with whole milliseconds it would expire too early, or
    live too long."""
    monkeypatch.setattr(Broker, "clock_type", FineClock)
    broker = Broker()
    clock = broker.clock
    assert isinstance(clock, FineClock)
    client = expiring(broker, 1)
    client.publish("q", b"x")
    clock.time_ms += 1
    clock.us = 899
    client.get("q")
    client.tell("basic.reject", delivery_tag=1, requeue=True)
    assert broker.depth("q") == (1, 0)
    clock.us = 900
    assert client.get("q") is None
    assert client.drain("dead") == [b"x"]


@pytest.mark.parametrize(("queue", "message", "lives_ms"), [(100, 50, 50), (50, 100, 50), (50, 50, 50)])
def test_the_smaller_of_both_counts(queue: int, message: int, lives_ms: int) -> None:
    """RabbitMQ docs, Time-To-Live: Per-Message TTL in Publishers."""
    broker = Broker()
    client = expiring(broker, queue)
    client.publish("q", b"x", properties={"expiration": str(message)})
    broker.advance(lives_ms - 1)
    assert broker.depth("q") == (1, 0)
    broker.advance(1)
    assert broker.depth("q") == (0, 0)


def test_it_expires_by_itself() -> None:
    """Nobody has to look at the queue: a timer takes it to the dead letter exchange."""
    broker = Broker()
    client = expiring(broker, 100)
    client.consume("dead", no_ack=True)
    client.publish("q", b"x")
    broker.advance(99)
    client.expect_nothing()
    broker.advance(1)
    assert client.bodies() == [b"x"]


def test_expired_messages_are_never_got() -> None:
    """RabbitMQ docs, Time-To-Live: also when no timer has run yet."""
    broker = Broker()
    client = expiring(broker, 100)
    client.publish("q", b"x")
    broker.clock.time_ms += 101
    assert client.get("q") is None


def test_expired_messages_are_never_delivered() -> None:
    broker = Broker()
    client = expiring(broker, 100)
    client.publish("q", b"x")
    broker.clock.time_ms += 101
    client.consume("q")
    client.expect_nothing()


def test_expired_messages_are_not_counted() -> None:
    broker = Broker()
    client = expiring(broker, 100)
    client.publish("q", b"x")
    broker.clock.time_ms += 101
    assert client.ask("queue.declare", queue="q", passive=True)["message_count"] == 0


def test_an_expired_message_behind_one_that_lives_waits() -> None:
    """RabbitMQ docs, Time-To-Live: only the head of the line is looked at; it expires when it becomes the head."""
    broker = Broker()
    client = expiring(broker)
    client.publish("q", b"long", properties={"expiration": "1000"})
    client.publish("q", b"short", properties={"expiration": "10"})
    client.publish("q", b"for ever")
    broker.advance(100)
    assert broker.queue("q").ready_count() == 3
    said = client.get("q", no_ack=True)
    assert said is not None
    assert said.body == b"long"
    assert client.drain("dead") == [b"short"]
    assert client.drain("q") == [b"for ever"]


@pytest.mark.parametrize("no_ack", [True, False])
@pytest.mark.parametrize("prefetch", [0, 1, 3, 100])
def test_what_has_expired_behind_others_is_never_delivered(no_ack: bool, prefetch: int) -> None:
    """RabbitMQ docs, Time-To-Live: whatever a consumer may take at once, each message is looked at when it comes to the
    head."""
    broker = Broker()
    client = expiring(broker)
    client.publish("q", b"long", properties={"expiration": "60000"})
    for number in range(5):
        client.publish("q", b"%d" % number, properties={"expiration": "100"})
    client.publish("q", b"for ever")
    client.publish("q", b"5", properties={"expiration": "100"})
    broker.advance(500)
    assert broker.queue("q").ready_count() == 8
    client.ask("basic.qos", prefetch_count=prefetch)
    client.consume("q", no_ack=no_ack)
    got = client.bodies()
    other = broker.open()
    if prefetch == 1 and not no_ack:
        assert got == [b"long"]
        assert other.drain("dead") == [b"0", b"1", b"2", b"3", b"4"]
        client.tell("basic.ack", delivery_tag=1)
        assert client.bodies() == [b"for ever"]
        assert other.drain("dead") == [b"5"]
    else:
        assert got == [b"long", b"for ever"]
        assert other.drain("dead") == [b"0", b"1", b"2", b"3", b"4", b"5"]


def test_what_has_expired_behind_others_is_dropped_without_a_dead_letter_exchange() -> None:
    """RabbitMQ docs, Time-To-Live. It takes many turns: nothing is delivered before, nor out of order."""
    broker = Broker()
    client = broker.open(1, 2)
    client.ask("queue.declare", queue="q")
    for number in range(20):
        client.publish("q", b"%d" % number)
        client.send(*(publish(1, "", "q", b"short", properties={"expiration": "100"}) for _ in range(50)))
    broker.advance(500)
    client.consume("q", on=1)
    assert client.bodies() == [b"%d" % number for number in range(20)]
    assert broker.depth("q") == (0, 20)


def test_several_consumers_never_get_what_has_expired() -> None:
    """RabbitMQ docs, Time-To-Live: also where consumers take turns, and what was delivered before comes back between
    others."""
    broker = Broker()
    client = expiring(broker)
    client.ask("basic.qos", prefetch_count=4)
    client.consume("q", "first")
    for number in range(4):
        client.publish("q", b"%d" % number, properties={"expiration": "100"} if number % 2 else None)
    client.hear()
    for number in range(4, 12):
        client.publish("q", b"%d" % number, properties={"expiration": "100"} if number % 2 else None)
    broker.advance(500)
    client.ask("basic.cancel", consumer_tag="first")
    client.ask("basic.qos", prefetch_count=2)
    for tag in ("a", "b", "c"):
        client.consume("q", tag)
    client.hear()
    client.tell("basic.nack", delivery_tag=0, multiple=True, requeue=True)
    assert sorted(client.bodies(), key=int) == [b"0", b"2", b"4", b"6", b"8", b"10"]
    assert broker.depth("q") == (0, 6)
    assert sorted(broker.open().drain("dead"), key=int) == [b"1", b"3", b"5", b"7", b"9", b"11"]


def test_what_a_limit_drops_past_its_time_has_expired() -> None:
    """It is dead-lettered for the reason that came first, also when no timer has run yet."""
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="dead")
    client.ask("queue.declare", queue="q", arguments=TO_DEAD | {"x-max-length-bytes": 40})
    for number in range(4):
        client.publish("q", b"%d" % number * 10, properties={"expiration": "100"} if number else None)
    broker.clock.time_ms += 500
    client.publish("q", b"4" * 20)
    assert client.drain("q") == [b"4" * 20]
    dead: list[tuple[bytes, object]] = []
    while (said := client.get("dead", no_ack=True)) is not None:
        headers = plain(said.properties["headers"])
        assert isinstance(headers, dict)
        dead.append((said.body[:1], headers["x-first-death-reason"]))
    assert dead == [(b"0", "maxlen"), (b"1", "expired"), (b"2", "expired"), (b"3", "expired")]


def test_what_becomes_the_head_by_a_delivery_expires_in_time() -> None:
    """The timer is set for a head that came up when the one before it was delivered."""
    broker = Broker()
    client = expiring(broker)
    client.ask("basic.qos", prefetch_count=1)
    client.publish("q", b"1")
    client.publish("q", b"2", properties={"expiration": "100"})
    client.consume("q")
    assert client.bodies() == [b"1"]
    broker.advance(102)
    other = broker.open()
    assert other.drain("dead") == [b"2"]


def test_what_becomes_the_head_by_an_ack_expires_in_time() -> None:
    broker = Broker()
    client = expiring(broker)
    client.ask("basic.qos", prefetch_count=2)
    for number in (1, 2):
        client.publish("q", b"%d" % number)
    client.publish("q", b"3", properties={"expiration": "100"})
    client.publish("q", b"4", properties={"expiration": "200"})
    client.consume("q")
    client.tell("basic.ack", delivery_tag=1)
    assert client.bodies() == [b"1", b"2", b"3"]
    broker.advance(202)
    assert broker.open().drain("dead") == [b"4"]


def test_a_ttl_of_zero_is_for_consumers_that_wait() -> None:
    """RabbitMQ docs, Time-To-Live: delivered if one has room, gone at once otherwise."""
    broker = Broker()
    client = expiring(broker, 0)
    client.publish("q", b"1")
    assert client.drain("dead") == [b"1"]
    client.consume("q", no_ack=True)
    client.publish("q", b"2")
    assert client.bodies() == [b"2"]
    assert broker.depth("dead") == (0, 0)


def test_an_expiration_of_zero() -> None:
    broker = Broker()
    client = expiring(broker)
    client.ask("basic.qos", prefetch_count=1)
    client.consume("q")
    for number in range(3):
        client.publish("q", b"%d" % number, properties={"expiration": "0"})
    assert client.bodies() == [b"0"]
    assert client.drain("dead") == [b"1", b"2"]


def test_a_ttl_of_zero_in_one_read_with_others() -> None:
    """Each message meets the consumers as they are when it comes."""
    broker = Broker()
    client = expiring(broker, 0)
    client.ask("basic.qos", prefetch_count=2)
    client.consume("q")
    client.send(*(publish(1, "", "q", b"%d" % number) for number in range(4)))
    assert client.bodies() == [b"0", b"1"]
    assert client.drain("dead") == [b"2", b"3"]


@pytest.mark.parametrize("by_message", [True, False])
@pytest.mark.parametrize("back", ["reject", "nack", "recover", "cancel and close"])
def test_a_ttl_of_zero_never_comes_back(by_message: bool, back: str) -> None:
    """RabbitMQ 3.10 and 3.13 (rabbit_amqqueue_process, requeue_and_run): expired messages go before any consumer is
    asked, and its time was over when it came; no time passes here."""
    broker = Broker()
    client = expiring(broker, None if by_message else 0)
    client.ask("channel.open", on=2)
    client.consume("q", on=2)
    client.publish("q", b"x", properties={"expiration": "0"} if by_message else None)
    assert client.bodies() == [b"x"]
    if back == "reject":
        client.tell("basic.reject", 2, delivery_tag=1, requeue=True)
    elif back == "nack":
        client.tell("basic.nack", 2, delivery_tag=0, multiple=True, requeue=True)
    elif back == "recover":
        client.ask("basic.recover", on=2, requeue=True)
    else:
        client.consume("q", "other")
        client.ask("channel.close", on=2)
    client.expect_nothing()
    assert broker.depth("q") == (0, 0)
    assert client.drain("dead") == [b"x"]


def test_a_ttl_of_zero_behind_others_expires_at_the_head() -> None:
    """RabbitMQ docs, Time-To-Live: a consumer that has room later is too late."""
    broker = Broker()
    client = expiring(broker)
    client.publish("q", b"1")
    client.publish("q", b"2", properties={"expiration": "0"})
    client.publish("q", b"3")
    assert broker.depth("q") == (3, 0)
    client.consume("q")
    assert client.bodies() == [b"1", b"3"]
    assert broker.open().drain("dead") == [b"2"]


def test_a_ttl_of_zero_behind_another_one_of_the_same_moment() -> None:
    """What a consumer had no room for when it came is not kept until the next one comes, though that finds room."""
    broker = Broker()
    client = expiring(broker)
    client.ask("basic.qos", prefetch_count=1)
    client.consume("q")
    zero = {"expiration": "0"}
    client.send(publish(1, "", "q", b"1"), publish(1, "", "q", b"2"), publish(1, "", "q", b"3", properties=zero))
    assert client.bodies() == [b"1"]
    client.send(method(1, "basic.ack", delivery_tag=1), publish(1, "", "q", b"4", properties=zero))
    assert client.bodies() == [b"2"]
    client.send(method(1, "basic.ack", delivery_tag=2), publish(1, "", "q", b"5", properties=zero))
    assert client.bodies() == [b"5"]
    assert broker.open().drain("dead") == [b"3", b"4"]


def test_a_requeued_message_keeps_its_deadline() -> None:
    """RabbitMQ docs, Time-To-Live: the original expiry is kept when a message is requeued."""
    broker = Broker()
    client = expiring(broker, 100)
    client.publish("q", b"x")
    client.get("q")
    broker.advance(60)
    client.tell("basic.nack", delivery_tag=1, requeue=True)
    assert broker.depth("q") == (1, 0)
    broker.advance(39)
    assert broker.depth("q") == (1, 0)
    broker.advance(1)
    assert client.drain("dead") == [b"x"]


def test_a_message_may_come_back_too_late() -> None:
    broker = Broker()
    client = expiring(broker, 100)
    client.publish("q", b"x")
    client.get("q")
    broker.advance(500)
    assert broker.depth("q") == (0, 1), "an unacknowledged message does not expire"
    client.tell("basic.nack", delivery_tag=1, requeue=True)
    assert client.drain("dead") == [b"x"]
    assert client.get("q") is None


def test_an_unacknowledged_message_can_be_acked_after_its_time() -> None:
    broker = Broker()
    client = expiring(broker, 100)
    client.publish("q", b"x")
    client.get("q")
    broker.advance(500)
    client.tell("basic.ack", delivery_tag=1)
    assert (broker.depth("q"), broker.depth("dead")) == ((0, 0), (0, 0))


def test_many_expire_in_their_order() -> None:
    broker = Broker()
    client = expiring(broker, 100)
    for number in range(50):
        client.publish("q", b"%d" % number)
        broker.advance(1)
    broker.advance(74)
    assert client.drain("dead") == [b"%d" % number for number in range(25)]
    broker.advance(200)
    assert client.drain("dead") == [b"%d" % number for number in range(25, 50)]


def test_expiring_and_lasting_messages_are_delivered_in_order() -> None:
    broker = Broker()
    client = expiring(broker)
    for number in range(20):
        client.publish("q", b"%d" % number, properties={"expiration": "1000"} if number % 3 == 0 else None)
    client.consume("q", no_ack=True)
    assert client.bodies() == [b"%d" % number for number in range(20)]


def test_the_longest_expiration_does_not_overflow() -> None:
    """RabbitMQ docs, Time-To-Live, Per-Message TTL: ten years."""
    broker = Broker()
    client = expiring(broker)
    client.publish("q", b"x", properties={"expiration": "315360000000"})
    broker.advance(86_400_000)
    assert broker.depth("q") == (1, 0)


def test_each_priority_has_its_own_head() -> None:
    """A message that lives longer in another priority does not keep one from expiring."""
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="dead")
    client.ask("queue.declare", queue="q", arguments=TO_DEAD | {"x-max-priority": 5})
    client.publish("q", b"high", properties={"priority": 5})
    client.publish("q", b"low", properties={"priority": 1, "expiration": "50"})
    broker.advance(52)
    assert client.drain("dead") == [b"low"]
    assert client.drain("q") == [b"high"]
