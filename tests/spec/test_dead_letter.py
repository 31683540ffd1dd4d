"""Dead letter exchanges (RabbitMQ docs, Dead Letter Exchanges)."""

from __future__ import annotations

import pytest

from tests.support.durable import DurableBroker
from tests.support.fake_clock import WALL_STARTS_AT_S
from tests.support.memory import Broker, Client
from tests.support.wire import Said, Typed, plain, publish

TO_DEAD: dict[str, object] = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}


def burying(broker: Broker, **arguments: object) -> Client:
    """A client with a queue `q` whose dead letters go to the queue `dead`."""
    client = broker.open()
    client.ask("queue.declare", queue="dead")
    client.ask(
        "queue.declare",
        queue="q",
        arguments=TO_DEAD | {name.replace("_", "-"): value for name, value in arguments.items()},
    )
    return client


def taken(client: Client, queue: str = "dead") -> Said:
    said = client.get(queue, no_ack=True)
    assert said is not None, f"nothing in {queue}"
    return said


def headers_of(said: Said) -> dict[str, object]:
    headers = plain(said.properties.get("headers", {}))
    assert isinstance(headers, dict)
    return headers


@pytest.mark.parametrize("name", ["basic.reject", "basic.nack"])
def test_rejected(name: str) -> None:
    """RabbitMQ docs, Dead Letter Exchanges."""
    client = burying(Broker())
    client.publish("q", b"x")
    client.get("q")
    client.tell(name, delivery_tag=1)
    said = taken(client)
    assert said.body == b"x"
    assert (said.method["exchange"], said.method["routing_key"], said.method["redelivered"]) == ("", "dead", False)
    assert headers_of(said)["x-first-death-reason"] == "rejected"


def test_an_ack_or_a_requeue_is_no_death() -> None:
    broker = Broker()
    client = burying(broker)
    client.publish("q", b"x")
    client.get("q")
    client.tell("basic.nack", delivery_tag=1, requeue=True)
    client.get("q")
    client.tell("basic.ack", delivery_tag=2)
    assert broker.depth("dead") == (0, 0)


def test_many_rejected_at_once_keep_their_order() -> None:
    client = burying(Broker())
    client.send(*(publish(1, "", "q", b"%d" % number) for number in range(20)))
    client.consume("q")
    client.deliveries()
    client.tell("basic.nack", delivery_tag=0, multiple=True)
    assert client.drain("dead") == [b"%d" % number for number in range(20)]


def test_the_record_of_a_death() -> None:
    """RabbitMQ docs, Dead Letter Exchanges: every field with its type."""
    client = burying(Broker())
    client.ask("queue.bind", queue="q", exchange="amq.direct", routing_key="key")
    client.publish("key", b"x", exchange="amq.direct", properties={"headers": {"mine": 1}, "message_id": "m"})
    client.get("q")
    client.tell("basic.reject", delivery_tag=1)
    said = taken(client)
    assert said.properties["message_id"] == "m"
    headers = said.properties["headers"]
    assert isinstance(headers, dict)
    assert headers["mine"] == Typed("I", 1)
    for when in ("first", "last"):
        assert headers[f"x-{when}-death-exchange"] == Typed("S", "amq.direct")
        assert headers[f"x-{when}-death-queue"] == Typed("S", "q")
        assert headers[f"x-{when}-death-reason"] == Typed("S", "rejected")
    assert headers["x-death"].tag == "A"
    assert [each.tag for each in headers["x-death"].value] == ["F"]
    assert headers["x-death"].value[0].value == {
        "count": Typed("l", 1),
        "reason": Typed("S", "rejected"),
        "queue": Typed("S", "q"),
        "time": Typed("T", WALL_STARTS_AT_S),
        "exchange": Typed("S", "amq.direct"),
        "routing-keys": Typed("A", [Typed("S", "key")]),
    }


def test_without_a_routing_key_the_messages_own_keys_are_used() -> None:
    client = Broker().open()
    client.ask("queue.declare", queue="other")
    client.ask("queue.declare", queue="q", arguments={"x-dead-letter-exchange": "amq.topic"})
    client.ask("queue.bind", queue="other", exchange="amq.topic", routing_key="q")
    client.publish("q", b"x")
    client.get("q")
    client.tell("basic.reject", delivery_tag=1)
    said = taken(client, "other")
    assert (said.method["exchange"], said.method["routing_key"]) == ("amq.topic", "q")


def test_a_missing_exchange_drops() -> None:
    """RabbitMQ docs, Dead Letter Exchanges."""
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q", arguments={"x-dead-letter-exchange": "missing"})
    client.publish("q", b"x")
    client.get("q")
    client.tell("basic.reject", delivery_tag=1)
    client.expect_nothing()
    client.ask("exchange.declare", exchange="missing", type="fanout")
    client.ask("queue.declare", queue="dead")
    client.ask("queue.bind", queue="dead", exchange="missing")
    client.publish("q", b"y")
    client.get("q")
    client.tell("basic.reject", delivery_tag=2)
    assert taken(client).body == b"y"


def test_expired() -> None:
    """RabbitMQ docs, Dead Letter Exchanges: the expiration is taken out and remembered, so that it does not expire
    again at once."""
    broker = Broker()
    client = burying(broker)
    client.publish("q", b"x", properties={"expiration": "100", "priority": 3})
    broker.advance(102)
    said = taken(client)
    assert said.properties.keys() == {"headers", "priority"}
    death = headers_of(said)["x-death"]
    assert isinstance(death, list)
    assert (death[0]["reason"], death[0]["original-expiration"]) == ("expired", "100")


def test_too_many() -> None:
    """RabbitMQ docs, Dead Letter Exchanges; RabbitMQ docs, Queue Length Limit: the oldest goes."""
    client = burying(Broker(), x_max_length=2)
    for number in range(4):
        client.publish("q", b"%d" % number)
    first, second = taken(client), taken(client)
    assert (first.body, second.body) == (b"0", b"1")
    assert headers_of(first)["x-last-death-reason"] == "maxlen"
    assert client.drain("q") == [b"2", b"3"]


def test_reject_publish_dlx() -> None:
    """RabbitMQ docs, Queue Length Limit: what is refused is dead-lettered too."""
    broker = Broker()
    client = burying(broker, x_max_length=1, x_overflow="reject-publish-dlx")
    client.ask("confirm.select")
    client.publish("q", b"1")
    client.publish("q", b"2")
    assert client.names() == ["basic.ack", "basic.nack"]
    assert taken(client).body == b"2"


def test_reject_publish_does_not_dead_letter() -> None:
    broker = Broker()
    client = burying(broker, x_max_length=1, x_overflow="reject-publish")
    client.publish("q", b"1")
    client.publish("q", b"2")
    assert broker.depth("dead") == (0, 0)


def test_the_same_death_again_is_counted() -> None:
    """RabbitMQ docs, Dead Letter Exchanges: one table for each queue and reason; the count rises and it moves to the
    front."""
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="a", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "b"})
    client.ask("queue.declare", queue="b", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "a"})
    client.publish("a", b"x")
    for tag, queue in enumerate(("a", "b", "a"), 1):
        assert client.get(queue) is not None
        broker.advance(1000)
        client.tell("basic.reject", delivery_tag=tag)
    headers = headers_of(taken(client, "b"))
    deaths = headers["x-death"]
    assert isinstance(deaths, list)
    assert [(death["queue"], death["count"]) for death in deaths] == [("a", 2), ("b", 1)]
    assert deaths[0]["time"] == WALL_STARTS_AT_S + 1, (
        "RabbitMQ docs, Dead Letter Exchanges: the time of the first death"
    )
    assert (headers["x-first-death-queue"], headers["x-last-death-queue"]) == ("a", "a")


def test_what_a_publisher_says_of_deaths() -> None:
    """RabbitMQ 3.13: deaths in a header that the publisher has set count on (clients that publish again what they have
    got), if they lack nothing; what lacks its count or its time is passed over."""
    client = burying(Broker())
    whole = {
        "count": 3,
        "reason": "rejected",
        "queue": "q",
        "time": Typed("T", 7),
        "exchange": "e",
        "routing-keys": ["k"],
    }
    made_up: list[object] = [
        {"queue": "q", "reason": "rejected"},
        {"queue": "q", "reason": "expired", "count": 2},
        "death",
    ]
    for given, expected in (([*made_up, whole], 4), (made_up, 1)):
        client.publish("q", b"x", properties={"headers": {"x-death": given}})
        got = client.get("q")
        assert got is not None
        client.tell("basic.reject", delivery_tag=got.method["delivery_tag"])
        deaths = headers_of(taken(client))["x-death"]
        assert isinstance(deaths, list)
        assert [(death["queue"], death["reason"], death["count"]) for death in deaths] == [("q", "rejected", expected)]


def test_carbon_copies() -> None:
    """Without a routing key of the queue's own CC is a key of the dead letter too; with one it is taken out."""
    for own_key in (False, True):
        client = Broker().open()
        for queue in ("copy", "hidden", "dead"):
            client.ask("queue.declare", queue=queue)
        arguments = dict(TO_DEAD) if own_key else {"x-dead-letter-exchange": "amq.direct"}
        client.ask("queue.declare", queue="q", arguments=arguments)
        for key in ("q", "copy", "hidden"):
            client.ask("queue.bind", queue="dead", exchange="amq.direct", routing_key=key)
        client.publish("q", b"x", properties={"headers": {"CC": ["copy"], "BCC": ["hidden"]}})
        client.get("q")
        client.tell("basic.reject", delivery_tag=1)
        headers = headers_of(taken(client))
        assert ("CC" in headers) is not own_key
        assert "BCC" not in headers
        deaths = headers["x-death"]
        assert isinstance(deaths, list)
        assert deaths[0]["routing-keys"] == ["q", "copy"]


def with_bcc(broker: Broker, durable: bool = False, **arguments: object) -> Client:
    """Queue q, in which a message with `BCC: [audit, more]` waits; the dead letter exchange is the default one."""
    client = broker.open()
    for name in ("audit", "more", "second"):
        client.ask("queue.declare", queue=name, durable=durable)
    given = {name.replace("_", "-"): value for name, value in arguments.items()}
    client.ask("queue.declare", queue="q", durable=durable, arguments={"x-dead-letter-exchange": "dlx"} | given)
    client.ask("exchange.declare", exchange="dlx", type="direct", durable=durable)
    for name in ("audit", "more"):
        client.ask("queue.bind", queue=name, exchange="dlx", routing_key=name)
    client.ask("exchange.declare", exchange="in", type="direct", durable=durable)
    client.ask("queue.bind", queue="q", exchange="in", routing_key="key")
    headers = {"BCC": ["audit", "more"], "kept": 1}
    client.publish("key", b"x", exchange="in", properties={"headers": headers, "delivery_mode": 2})
    return client


def reject(client: Client, queue: str) -> None:
    got = client.get(queue)
    assert got is not None
    client.tell("basic.reject", delivery_tag=got.method["delivery_tag"])


def seen(client: Client, queue: str) -> dict[str, object]:
    """Headers of the one message there."""
    got = client.get(queue, no_ack=True)
    assert got is not None
    return headers_of(got)


def test_dead_letters_follow_hidden_keys() -> None:
    """rabbitmq-server, rabbit_dead_letter: the routing keys of the message, BCC included; x-death does not name
    those."""
    client = with_bcc(Broker())
    reject(client, "q")
    for queue in ("audit", "more"):
        headers = seen(client, queue)
        assert "BCC" not in headers
        assert headers["kept"] == 1
        assert isinstance(headers["x-death"], list)
        assert headers["x-death"][0]["routing-keys"] == ["key"]


def test_a_key_of_the_queue_replaces_hidden_keys_too() -> None:
    client = with_bcc(Broker(), x_dead_letter_routing_key="more")
    reject(client, "q")
    assert client.get("audit", no_ack=True) is None
    seen(client, "more")


def test_they_are_followed_by_each_death() -> None:
    """A dead letter that dies again, beside one of the same kind that hides nothing."""
    broker = Broker()
    client = with_bcc(broker)
    client.ask("queue.declare", queue="again", arguments={"x-dead-letter-exchange": "", "x-message-ttl": 10})
    client.ask("queue.bind", queue="again", exchange="dlx", routing_key="key")
    client.publish("key", b"y", exchange="in", properties={"headers": {"kept": 1}, "delivery_mode": 2})
    reject(client, "q")
    reject(client, "q")
    assert broker.depth("again") == (2, 0)
    broker.advance(20)
    assert [broker.depth(name)[0] for name in ("audit", "more", "again")] == [2, 2, 0]


def test_hidden_keys_survive() -> None:
    broker = DurableBroker()
    client = with_bcc(broker, durable=True)
    client.publish("key", b"y", exchange="in", properties={"headers": {"kept": 1}, "delivery_mode": 2})
    broker.settled()
    client = broker.killed().open()
    reject(client, "q")
    assert "BCC" not in seen(client, "audit")
    seen(client, "more")
    reject(client, "q")
    assert client.get("audit", no_ack=True) is None


def test_an_automatic_cycle_is_cut() -> None:
    """RabbitMQ docs, Dead Letter Exchanges: a message that comes back to a queue without having been rejected on the
    way is dropped."""
    broker = Broker()
    client = broker.open()
    client.ask(
        "queue.declare",
        queue="a",
        arguments={"x-message-ttl": 10, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "b"},
    )
    client.ask(
        "queue.declare",
        queue="b",
        arguments={"x-message-ttl": 10, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "a"},
    )
    client.publish("a", b"x")
    broker.advance(15)
    assert broker.depth("b") == (1, 0)
    broker.advance(1000)
    assert (broker.depth("a"), broker.depth("b")) == ((0, 0), (0, 0))


def test_a_queue_that_is_its_own_dead_letter_queue() -> None:
    """RabbitMQ docs, Dead Letter Exchanges."""
    broker = Broker()
    client = broker.open()
    client.ask(
        "queue.declare",
        queue="q",
        arguments={"x-message-ttl": 10, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q"},
    )
    client.publish("q", b"x")
    broker.advance(100)
    assert broker.depth("q") == (0, 0)


def test_a_cycle_with_a_rejection_is_a_retry() -> None:
    """The usual retry loop of work queue and waiting queue goes round as often as the client rejects."""
    broker = Broker()
    client = broker.open()
    client.ask(
        "queue.declare", queue="work", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "wait"}
    )
    client.ask(
        "queue.declare",
        queue="wait",
        arguments={"x-message-ttl": 100, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "work"},
    )
    client.publish("work", b"x")
    for attempt in range(1, 6):
        said = client.get("work")
        assert said is not None, f"attempt {attempt}"
        deaths = headers_of(said).get("x-death", [])
        assert isinstance(deaths, list)
        assert [death["count"] for death in deaths] == [attempt - 1] * 2 if attempt > 1 else deaths == []
        client.tell("basic.reject", delivery_tag=attempt)
        assert broker.depth("work") == (0, 0)
        broker.advance(102)


def test_the_queue_may_be_gone_when_its_dead_letter_arrives() -> None:
    broker = Broker()
    client = burying(broker, x_message_ttl=50)
    client.publish("q", b"x")
    client.ask("queue.delete", queue="dead")
    broker.advance(100)
    assert broker.depth("q") == (0, 0)


def test_a_large_body_is_dead_lettered_whole() -> None:
    broker = Broker()
    client, small = burying(broker), broker.open(frame_max=4096)
    data = bytes(range(256)) * 1200
    client.publish("q", data)
    client.get("q")
    client.tell("basic.reject", delivery_tag=1)
    said = taken(small)
    assert said.body == data
    assert max(said.body_frames) <= 4088


def test_an_empty_body_is_dead_lettered() -> None:
    client = burying(Broker())
    client.publish("q", b"")
    client.get("q")
    client.tell("basic.reject", delivery_tag=1)
    assert taken(client).body == b""


@pytest.mark.parametrize(
    "fake", [5, "text", {"a": 1}, [1, "two", None], [{"queue": 5, "count": "x", "reason": None}], [{}]]
)
def test_an_x_death_that_the_client_made_up_does_no_harm(fake: object) -> None:
    """A header is the client's to write: whatever it is, the message is dead-lettered."""
    client = burying(Broker())
    client.publish("q", b"x", properties={"headers": {"x-death": fake, "x-first-death-reason": 5}})
    client.get("q")
    client.tell("basic.reject", delivery_tag=1)
    deaths = headers_of(taken(client))["x-death"]
    assert isinstance(deaths, list)
    assert (deaths[0]["queue"], deaths[0]["count"]) == ("q", 1)


@pytest.mark.parametrize("tag", list("tbBsuIilLfdSxATVD"))
def test_other_headers_keep_their_octets(tag: str) -> None:
    """The headers of a dead letter are the message's own and the records, nothing else changed."""
    values: dict[str, object] = {
        "t": True,
        "S": b"\xff",
        "x": b"\x00",
        "A": [1],
        "V": None,
        "D": (1, 15),
        "f": 1.5,
        "d": 2.5,
    }
    client = burying(Broker())
    client.publish("q", b"x", properties={"headers": {"mine": Typed(tag, values.get(tag, 7))}})
    client.get("q")
    client.tell("basic.reject", delivery_tag=1)
    headers = taken(client).properties["headers"]
    assert isinstance(headers, dict)
    assert headers["mine"].tag == tag


def test_dead_letters_are_counted() -> None:
    broker = Broker()
    client = burying(broker)
    client.publish("q", b"x")
    client.get("q")
    client.tell("basic.reject", delivery_tag=1)
    assert (broker.counters.dead_lettered_rejected, broker.counters.dead_lettered_expired) == (1, 0)


@pytest.mark.parametrize("reason", ["rejected", "expired", "maxlen"])
@pytest.mark.parametrize("headers", ["elements", "levels"])
def test_headers_as_large_as_allowed_can_die_again_and_again(headers: str, reason: str) -> None:
    """The records are added to a table that is at its limit already; whatever becomes of the message, the node goes
    on."""
    broker = Broker()
    client = broker.open()
    limits: dict[str, object] = {"expired": {"x-message-ttl": 10}, "maxlen": {"x-max-length": 0}}
    for number in range(3):
        target = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": f"q{number + 1}"}
        extra = limits.get(reason, {})
        assert isinstance(extra, dict)
        client.ask("queue.declare", queue=f"q{number}", arguments=target | extra)
    client.ask("queue.declare", queue="q3")
    large: object = [None] * 9_998
    if headers == "levels":
        large = {"end": 1}
        for _ in range(29):
            large = {"deeper": large}
    client.publish("q0", b"x", properties={"headers": {"mine": large}})
    for number in range(3):
        if reason == "rejected":
            assert client.get(f"q{number}") is not None, number
            client.tell("basic.reject", delivery_tag=number + 1)
        broker.advance(100)
    client.expect_nothing()
    said = taken(client, "q3")
    assert headers_of(said)["mine"] == plain(large)
    deaths = headers_of(said)["x-death"]
    assert isinstance(deaths, list)
    assert [death["queue"] for death in deaths] == ["q2", "q1", "q0"]
    client.ask("basic.qos")


def test_an_x_death_at_the_bottom_of_the_allowed_depth() -> None:
    """What a client wrote into x-death is kept inside the new records, one level and all."""
    broker = Broker()
    client = burying(broker)
    deep: object = 1
    for _ in range(29):
        deep = {"deeper": deep}
    client.publish(
        "q", b"x", properties={"headers": {"x-death": [{"queue": "other", "reason": "rejected", "deep": deep}]}}
    )
    client.get("q")
    client.tell("basic.reject", delivery_tag=1)
    client.expect_nothing()
    deaths = headers_of(taken(client))["x-death"]
    assert isinstance(deaths, list)
    assert len(deaths) in (1, 2)
