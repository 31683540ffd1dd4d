"""Direct reply-to (RabbitMQ docs, Direct Reply-to)."""

from __future__ import annotations

from tests.spec.talk import Departure, Speaker, Talk, add, conversation
from tests.support.wire import publish

SOURCE = "RabbitMQ docs, Direct Reply-to"
REPLY_TO = "amq.rabbitmq.reply-to"


def asked(talk: Talk) -> tuple[Speaker, Speaker, str]:
    """A requester a (reply consumer on channel 1) and a responder b that holds its request; gives both and the reply-to
    it received."""
    requester = talk.client("a", channels=(1, 2))
    responder = talk.client("b")
    responder.ask(1, "queue.declare", queue="q")
    requester.ask(1, "basic.consume", queue=REPLY_TO, consumer_tag="r", no_ack=True)
    requester.say(publish(1, "", "q", b"question", properties={"reply_to": REPLY_TO, "correlation_id": "7"}))
    responder.until_ready("q", 1)
    request = responder.ask(1, "basic.get", queue="q", no_ack=True)
    return requester, responder, str(request.properties["reply_to"]) if request else ""


def own_tags(line: str) -> str:
    """The line of the second reply with a delivery tag of its own."""
    return line.replace("delivery_tag=1", "delivery_tag=2") if line.endswith("b'2'") else line


@conversation(
    "reply-to: question and answer",
    "the broker puts an opaque name into reply-to; publishing to it reaches the requester",
    SOURCE,
    leveret=Departure("each delivery has a delivery tag of its own (AMQP 0-9-1 §1.1, delivery-tag)", rewrite=own_tags),
)
def round_trip(talk: Talk) -> None:
    """Twice."""
    requester, responder, name = asked(talk)
    for text in (b"1", b"2"):
        responder.say(publish(1, "", name, text, properties={"correlation_id": "7"}))
        requester.hear()
    responder.quiet()


@conversation(
    "reply-to: mandatory answer", "a reply is no message in a queue: a mandatory one is delivered and comes back too",
    SOURCE,
    leveret=Departure(
        "as in RabbitMQ 4.2 and later a reply that was delivered does not come back",
        (
            "< b1 queue.declare-ok queue='q' message_count=0 consumer_count=0",
            "< a1 basic.consume-ok consumer_tag='r'",
            "< b1 basic.get-ok delivery_tag=1 redelivered=False exchange='' routing_key='q' message_count=0"
            " | correlation_id='7' reply_to='amq.rabbitmq.reply-to.#1' | b'question'",
            "< b1 confirm.select-ok",
            "< b1 basic.ack delivery_tag=1",
            "< a1 basic.deliver consumer_tag='r' delivery_tag=1 redelivered=False exchange=''"
            " routing_key='amq.rabbitmq.reply-to.#1' | | b'1'",
        ),
    ),
)  # fmt: skip
def mandatory_reply(talk: Talk) -> None:
    """Confirmed as well."""
    requester, responder, name = asked(talk)
    responder.ask(1, "confirm.select")
    responder.say(publish(1, "", name, b"1", mandatory=True))
    responder.hear_to("basic.ack")
    requester.hear()


@conversation("reply-to: confirmed", "a reply is confirmed like any other message", SOURCE)
def confirmed(talk: Talk) -> None:
    """In confirm mode."""
    requester, responder, name = asked(talk)
    responder.ask(1, "confirm.select")
    responder.say(publish(1, "", name, b"1"))
    responder.hear()
    requester.hear()


@conversation("reply-to: through another exchange", "only the default exchange knows the name", SOURCE)
def other_exchange(talk: Talk) -> None:
    """amq.direct routes it nowhere."""
    _, responder, name = asked(talk)
    responder.say(publish(1, "amq.direct", name, b"1", mandatory=True))
    responder.hear()


@conversation(
    "reply-to: requester asks whether it is there", "declaring the name tells whether the requester is there", SOURCE
)
def declare_alive(talk: Talk) -> None:
    """Active and passive."""
    _, responder, name = asked(talk)
    responder.ask(1, "queue.declare", queue=name)
    responder.ask(1, "queue.declare", queue=name, passive=True)


@conversation("reply-to: requester gone", "a requester that is gone is not found; replies to it are lost", SOURCE)
def requester_gone(talk: Talk) -> None:
    """Its channel was closed."""
    requester, responder, name = asked(talk)
    requester.ask(1, "channel.close", reply_code=200)
    responder.say(publish(1, "", name, b"1"))
    responder.quiet()
    responder.ask(1, "queue.declare", queue=name, passive=True)


@conversation("reply-to: cancelled", "a cancelled reply consumer hears nothing more", SOURCE)
def cancelled(talk: Talk) -> None:
    """Then another one may come, with another name."""
    requester, responder, name = asked(talk)
    requester.ask(1, "basic.cancel", consumer_tag="r")
    responder.say(publish(1, "", name, b"1"))
    responder.quiet()
    requester.quiet()
    requester.ask(1, "basic.consume", queue=REPLY_TO, consumer_tag="r", no_ack=True)


@conversation("reply-to: consume with acknowledgements", "replies cannot be acknowledged", SOURCE)
def needs_no_ack(talk: Talk) -> None:
    """406."""
    client = talk.client()
    client.ask(1, "basic.consume", queue=REPLY_TO, consumer_tag="r")


@conversation("reply-to: consume twice", "a channel has one reply consumer", SOURCE)
def consume_twice(talk: Talk) -> None:
    """Another tag."""
    client = talk.client()
    client.ask(1, "basic.consume", queue=REPLY_TO, consumer_tag="r", no_ack=True)
    client.ask(1, "basic.consume", queue=REPLY_TO, consumer_tag="s", no_ack=True)


@conversation("reply-to: tag in use", "a consumer tag is used once on a channel", SOURCE)
def tag_in_use(talk: Talk) -> None:
    """By a consumer of a queue."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q")
    client.ask(1, "basic.consume", queue="q", consumer_tag="r")
    client.ask(1, "basic.consume", queue=REPLY_TO, consumer_tag="r", no_ack=True)


@conversation("reply-to: server's tag", "an empty tag asks for a new one", SOURCE)
def server_tag(talk: Talk) -> None:
    """Exclusive and no_local are ignored."""
    client = talk.client()
    client.ask(1, "basic.consume", queue=REPLY_TO, no_ack=True, exclusive=True, no_local=True)


@conversation("reply-to: nowait", "with nowait nothing is answered", SOURCE)
def consume_nowait(talk: Talk) -> None:
    """A publish with the name works then."""
    client = talk.client()
    client.tell(1, "basic.consume", queue=REPLY_TO, consumer_tag="r", no_ack=True, nowait=True)
    client.say(publish(1, "", "nowhere", b"1", properties={"reply_to": REPLY_TO}))
    client.quiet()


@conversation("reply-to: publish without a reply consumer", "the same channel must consume replies", SOURCE)
def publish_without(talk: Talk) -> None:
    """406."""
    client = talk.client()
    client.say(publish(1, "", "nowhere", b"1", properties={"reply_to": REPLY_TO}))
    client.hear()


@conversation("reply-to: publish on another channel", "the same channel must consume replies", SOURCE)
def publish_elsewhere(talk: Talk) -> None:
    """406 on channel 2."""
    client = talk.client(channels=(1, 2))
    client.ask(1, "basic.consume", queue=REPLY_TO, consumer_tag="r", no_ack=True)
    client.say(publish(2, "", "nowhere", b"1", properties={"reply_to": REPLY_TO}))
    client.hear()


def asks(name: str, rule: str, method_name: str, **arguments: object) -> None:
    """Registers one method on the name, without a reply consumer."""

    def start(talk: Talk) -> None:
        client = talk.client()
        client.ask(1, method_name, **arguments)

    add("direct_reply", f"reply-to: {name}", rule, SOURCE, start)


BAD = REPLY_TO + ".nonsense"
asks("declare the bare name", "the name is no queue", "queue.declare", queue=REPLY_TO)
asks("declare the bare name passively", "the name is no queue", "queue.declare", queue=REPLY_TO, passive=True)
asks("declare a bad name", "a name that was not given out is not found", "queue.declare", queue=BAD)
asks(
    "declare a bad name passively",
    "a name that was not given out is not found",
    "queue.declare",
    queue=BAD,
    passive=True,
)
asks("get", "the name is no queue", "basic.get", queue=REPLY_TO)
asks("bind", "the name is no queue", "queue.bind", queue=REPLY_TO, exchange="amq.direct", routing_key="k")
asks("delete", "deleting what is not there succeeds", "queue.delete", queue=REPLY_TO)
asks("purge", "the name is no queue", "queue.purge", queue=REPLY_TO)
asks("consume a bad name", "a name that was not given out is not found", "basic.consume", queue=BAD, no_ack=True)


def publishes(label: str, name: str, leveret: Departure | None = None) -> None:
    """Registers a mandatory publish to a name that was not given out, in confirm mode."""

    def start(talk: Talk) -> None:
        client = talk.client()
        client.ask(1, "confirm.select")
        client.say(publish(1, "", name, b"1", mandatory=True))
        client.hear(2)

    add(
        "direct_reply",
        f"reply-to: publish to {label}",
        "a name that was not given out routes nowhere",
        SOURCE,
        start,
        leveret,
    )


ODD = BAD + "==.++"
publishes("a bad name", BAD)
publishes("the bare name", REPLY_TO)
publishes(
    "a name that cannot be decoded", ODD,
    Departure(
        "RabbitMQ ends with an internal error",
        (
            "< a1 confirm.select-ok",
            f"< a1 basic.return reply_code=312 reply_text='NO_ROUTE' exchange='' routing_key='{ODD}' | | b'1'",
            "< a1 basic.ack delivery_tag=1",
        ),
    ),
)  # fmt: skip
