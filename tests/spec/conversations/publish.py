"""basic.publish and basic.return (AMQP 0-9-1 class basic; RabbitMQ docs, Publishers, TTL, Validated User-ID)."""

from __future__ import annotations

from tests.spec.talk import Departure, Talk, add, conversation
from tests.support.wire import Typed, body, header, method, publish

RETURN = "AMQP 0-9-1 basic.publish, mandatory; RabbitMQ docs, Publishers"
EXPIRATION = "RabbitMQ docs, TTL, Per-message TTL in Publishers"
SIZE = "RabbitMQ docs, Configuration, max_message_size"


@conversation("publish: missing exchange", "the channel is closed", "AMQP 0-9-1 basic.publish, exchange")
def missing_exchange(talk: Talk) -> None:
    """Told although publish has no answer."""
    client = talk.client()
    client.say(publish(1, "missing", "k", b"hi"))
    client.hear()


@conversation(
    "publish: missing exchange in confirm mode",
    "later publishes on the channel are dropped, nothing is confirmed",
    "RabbitMQ docs, Publishers, Unroutable Messages",
)
def missing_exchange_confirm(talk: Talk) -> None:
    """The second publish would have been routed; the first has no confirm."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q")
    client.ask(1, "confirm.select")
    client.say(publish(1, "missing", "k", b"1"), publish(1, "", "q", b"2"))
    client.hear()
    client.ask(1, "channel.open")
    client.ask(1, "queue.declare", queue="q", passive=True)


@conversation(
    "publish: the default exchange is there", "the default exchange routes by queue name", "AMQP 0-9-1 §3.1.3.1"
)
def default_exchange(talk: Talk) -> None:
    """No binding was made."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q")
    client.say(publish(1, "", "q", b"hi"))
    client.until_ready("q", 1)
    client.ask(1, "basic.get", queue="q", no_ack=True)


@conversation("publish: routed nowhere", "without mandatory nothing is said", RETURN)
def dropped(talk: Talk) -> None:
    """The message is gone."""
    client = talk.client()
    client.say(publish(1, "", "nowhere", b"hi"))
    client.quiet()


@conversation("mandatory: routed nowhere", "a mandatory message that reaches no queue comes back whole", RETURN)
def returned(talk: Talk) -> None:
    """Properties and body too."""
    client = talk.client()
    client.say(
        publish(
            1,
            "amq.direct",
            "nowhere",
            b"hi",
            mandatory=True,
            properties={"content_type": "text/plain", "headers": {"a": 1}},
        )
    )
    client.hear()


@conversation("mandatory: routed", "a mandatory message that reaches a queue does not come back", RETURN)
def mandatory_routed(talk: Talk) -> None:
    """One queue."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q")
    client.say(publish(1, "", "q", b"hi", mandatory=True))
    client.quiet(queue="q")


@conversation(
    "mandatory: return comes before the confirm",
    "basic.return comes before the message's basic.ack",
    "RabbitMQ docs, Publisher Confirms, mandatory",
)
def return_before_ack(talk: Talk) -> None:
    """Two messages, both unroutable."""
    client = talk.client()
    client.ask(1, "confirm.select")
    client.say(publish(1, "", "nowhere", b"1", mandatory=True))
    client.hear(2)
    client.say(publish(1, "", "nowhere", b"2", mandatory=True))
    client.hear(2)


@conversation("mandatory: empty body", "a returned content may be empty", RETURN)
def returned_empty(talk: Talk) -> None:
    """No body frame either way."""
    client = talk.client()
    client.say(publish(1, "", "nowhere", b"", mandatory=True))
    client.hear()


def kept_frames(line: str) -> str:
    """The line with the body frames as they were published."""
    return line.replace("4088, 4088, 1824", "2500, 2500, 2500, 2500")


@conversation(
    "mandatory: large body",
    "a returned body is cut to frame_max",
    RETURN,
    leveret=Departure("body frames that fit the reader's frame_max go on as they were received", rewrite=kept_frames),
)
def returned_large(talk: Talk) -> None:
    """Ten thousand octets in frames of 4096."""
    client = talk.client(frame_max=4096)
    client.say(
        method(1, "basic.publish", routing_key="nowhere", mandatory=True), header(1, 10000), *[body(1, bytes(2500))] * 4
    )
    client.hear()


@conversation("immediate", "immediate is not implemented", "RabbitMQ docs, Specification, basic.publish immediate")
def immediate(talk: Talk) -> None:
    """Ends the connection."""
    client = talk.client()
    client.say(publish(1, "", "nowhere", b"hi", immediate=True))
    client.hear()


def properties(name: str, rule: str, source: str, given: dict[str, object], leveret: Departure | None = None) -> None:
    """Registers a publish with these properties in confirm mode."""

    def start(talk: Talk) -> None:
        client = talk.client()
        client.ask(1, "confirm.select")
        client.say(publish(1, "", "nowhere", b"hi", properties=given))
        client.hear()

    add("publish", name, rule, source, start, leveret)


for text in ("0", "1", "60000", "4294967295", "4294967296", "315360000000"):
    properties(f"expiration: {text}", "a whole number of milliseconds", EXPIRATION, {"expiration": text})
for text in (
    "",
    "abc",
    "-1",
    "1.5",
    "1e3",
    " 5",
    "5 ",
    "+5",
    "0x10",
    "1_000",
    "315360000001",
    "99999999999999999999",
    "٣",
):
    properties(
        f"expiration: {text!r}",
        "anything but a whole number of milliseconds is refused",
        EXPIRATION,
        {"expiration": text},
    )
properties(
    "user-id: the user's own", "user-id is the user's name", "RabbitMQ docs, Validated User-ID", {"user_id": "guest"}
)
properties("user-id: another", "user-id is the user's name", "RabbitMQ docs, Validated User-ID", {"user_id": "nobody"})
properties("user-id: empty", "user-id is the user's name", "RabbitMQ docs, Validated User-ID", {"user_id": ""})
ANY_MODE = Departure(
    "RabbitMQ 3.13 and later take any delivery mode", ("< a1 confirm.select-ok", "< a1 basic.ack delivery_tag=1")
)
properties(
    "delivery mode 0",
    "only 2 is persistent; other values are taken",
    "AMQP 0-9-1 basic, delivery-mode",
    {"delivery_mode": 0},
    ANY_MODE,
)
properties(
    "delivery mode 3",
    "only 2 is persistent; other values are taken",
    "AMQP 0-9-1 basic, delivery-mode",
    {"delivery_mode": 3},
    ANY_MODE,
)
properties("priority 255", "any octet is a priority", "RabbitMQ docs, Priority", {"priority": 255})
properties("timestamp of 64 bits", "a timestamp is 64 bits of seconds", "AMQP 0-9-1 §4.2.5.4", {"timestamp": 2**64 - 1})
properties(
    "header x-death that is no array",
    "client headers may hold anything",
    "RabbitMQ docs, Dead Letter Exchanges",
    {"headers": {"x-death": "none"}},
)
properties(
    "headers of every kind",
    "client headers may hold anything",
    "AMQP 0-9-1 §4.2.5.5",
    {"headers": {"": Typed("b", 1), "n" * 255: None}},
)
properties(
    "reply-to: any name", "reply-to is for the applications", "AMQP 0-9-1 basic, reply-to", {"reply_to": "somebody"}
)


@conversation("expiration and user-id both bad", "user-id is looked at before expiration", EXPIRATION)
def two_bad_properties(talk: Talk) -> None:
    """One of them is told."""
    client = talk.client()
    client.say(publish(1, "", "nowhere", b"hi", properties={"expiration": "x", "user_id": "nobody"}))
    client.hear()


@conversation("missing exchange and bad expiration", "the exchange is looked at before the properties", EXPIRATION)
def missing_exchange_bad_properties(talk: Talk) -> None:
    """404."""
    client = talk.client()
    client.say(publish(1, "missing", "k", b"hi", properties={"expiration": "x"}))
    client.hear()


@conversation("size: at the limit", "a message of exactly max_message_size is taken", SIZE)
def at_the_limit(talk: Talk) -> None:
    """1 MiB is configured here."""
    client = talk.client()
    client.ask(1, "confirm.select")
    client.say(publish(1, "", "nowhere", bytes(1048576)))
    client.hear()


@conversation("size: above the limit", "a message larger than max_message_size closes the channel", SIZE)
def above_the_limit(talk: Talk) -> None:
    """One octet more; what follows on the channel is dropped, another channel goes on."""
    client = talk.client(channels=(1, 2))
    client.say(publish(1, "", "nowhere", bytes(1048577)))
    client.hear()
    client.ask(2, "basic.qos")
    client.ask(1, "channel.open")


@conversation("size: above the limit to a missing exchange", "the size is looked at first", SIZE)
def above_the_limit_missing(talk: Talk) -> None:
    """Not 404."""
    client = talk.client()
    client.say(publish(1, "missing", "nowhere", bytes(1048577)))
    client.hear()


@conversation("size: headers do not count", "only the body counts for max_message_size", SIZE)
def headers_do_not_count(talk: Talk) -> None:
    """100,000 octets of headers on a full body."""
    client = talk.client()
    client.ask(1, "confirm.select")
    client.say(publish(1, "", "nowhere", bytes(1048576), properties={"headers": {"a": "x" * 100000}}))
    client.hear()


@conversation("publish: names with line ends", "names are taken as they are in basic.publish", "RabbitMQ behaviour")
def line_ends(talk: Talk) -> None:
    """Unlike in declarations, CR and LF stay."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q")
    client.say(publish(1, "amq.\r\nfanout", "k\r\n", b"hi", mandatory=True))
    client.hear()


@conversation("order: one publisher, one queue, one consumer", "messages keep their order", "AMQP 0-9-1 §4.7")
def order(talk: Talk) -> None:
    """Five messages, different in size."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q")
    client.say(*[publish(1, "", "q", str(number).encode() * number) for number in range(1, 6)])
    client.until_ready("q", 5)
    client.ask(1, "basic.consume", queue="q", consumer_tag="c", no_ack=True)
    client.hear(5)
