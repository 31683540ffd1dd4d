"""Opening, closing and reusing channels, channel.flow and access.request (AMQP 0-9-1 class channel)."""

from __future__ import annotations

from tests.spec.talk import Talk, conversation
from tests.support.wire import content, method, publish

CLOSE = "AMQP 0-9-1 channel.close"


@conversation("channel.open", "channel.open is answered with open-ok", "AMQP 0-9-1 channel.open")
def opens(talk: Talk) -> None:
    """Two channels, the higher first."""
    client = talk.client(channels=())
    client.ask(2047, "channel.open")
    client.ask(1, "channel.open", out_of_band="ignored")


@conversation("channel.close by the client", "close is answered with close-ok; the number is free again", CLOSE)
def closes(talk: Talk) -> None:
    """Opened again at once."""
    client = talk.client()
    client.ask(1, "channel.close", reply_code=200)
    client.ask(1, "channel.open")
    client.ask(1, "basic.qos")


@conversation(
    "channel.close: other channels go on", "an error of a channel touches no other", "AMQP 0-9-1 §2.2.5, soft errors"
)
def others_go_on(talk: Talk) -> None:
    """404 on channel 1."""
    client = talk.client(channels=(1, 2))
    client.ask(1, "queue.declare", queue="missing", passive=True)
    client.ask(2, "basic.qos")


@conversation(
    "channel error: frames before close-ok are dropped",
    "between the broker's close and close-ok frames of the channel are dropped",
    CLOSE,
)
def dropped_until_close_ok(talk: Talk) -> None:
    """A declare and a whole publish; then close-ok and the number is open again."""
    client = talk.client()
    client.answers_close = False
    client.ask(1, "queue.declare", queue="missing", passive=True)
    client.tell(1, "queue.declare", queue="channel.late")
    client.say(publish(1, routing_key="channel.late", data=b"hi"))
    client.say(method(1, "channel.close-ok"), method(1, "channel.open"))
    client.hear()
    client.answers_close = True
    client.ask(1, "queue.declare", queue="channel.late", passive=True)


@conversation(
    "channel error: methods already under way are dropped", "what was sent before the close arrived is dropped", CLOSE
)
def pipelined_after_error(talk: Talk) -> None:
    """Three methods in one write, the first fails."""
    client = talk.client()
    client.say(
        method(1, "queue.declare", queue="missing", passive=True),
        method(1, "queue.declare", queue="channel.piped"),
        method(1, "basic.qos"),
    )
    client.hear()
    client.ask(1, "channel.open")
    client.ask(1, "queue.declare", queue="channel.piped", passive=True)


@conversation(
    "channel error: the client's own close crosses it", "both sides may close at once; each answers the other", CLOSE
)
def crossing_closes(talk: Talk) -> None:
    """The client's close arrives while the broker waits for close-ok."""
    client = talk.client()
    client.answers_close = False
    client.say(method(1, "queue.declare", queue="missing", passive=True), method(1, "channel.close", reply_code=200))
    client.hear(2)
    client.say(method(1, "channel.close-ok"), method(1, "channel.open"))
    client.hear()


@conversation(
    "channel error: half a content before close-ok", "content frames of a closing channel are dropped too", CLOSE
)
def half_content_before_close_ok(talk: Talk) -> None:
    """The header of a publish arrives after the close, its body never."""
    client = talk.client(channels=(1, 2))
    client.answers_close = False
    client.ask(1, "queue.declare", queue="missing", passive=True)
    client.say(method(1, "basic.publish", routing_key="q"), content(1, b"", {})[:-1] + b"\xce")
    client.say(method(1, "channel.close-ok"), method(1, "channel.open"))
    client.hear()
    client.quiet(2)


@conversation("channel.close with a reply code", "the client's reason is not looked at", CLOSE)
def closes_with_reason(talk: Talk) -> None:
    """541, as if the client had failed."""
    client = talk.client()
    client.ask(1, "channel.close", reply_code=541, reply_text="INTERNAL_ERROR", class_id=60, method_id=40)


@conversation("channel.flow active", "flow(true) is confirmed", "AMQP 0-9-1 channel.flow")
def flow_on(talk: Talk) -> None:
    """A channel is active already."""
    client = talk.client()
    client.ask(1, "channel.flow", active=True)


@conversation(
    "channel.flow inactive",
    "a client cannot stop deliveries by channel.flow",
    "RabbitMQ docs, Specification, channel.flow",
)
def flow_off(talk: Talk) -> None:
    """basic.qos is the way."""
    client = talk.client()
    client.ask(1, "channel.flow", active=False)


@conversation(
    "access.request",
    "access tickets of AMQP 0-8 are granted without a look",
    "RabbitMQ behaviour; access.request of AMQP 0-8",
)
def access_request(talk: Talk) -> None:
    """The ticket is 1."""
    client = talk.client()
    client.ask(1, "access.request", realm="/data", active=True, read=True, write=True)


@conversation("tickets are ignored", "the ticket argument is reserved and not looked at", "AMQP 0-9-1 domain reserved")
def tickets(talk: Talk) -> None:
    """A ticket nobody handed out."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="channel.ticket", ticket=101)
