"""ack, nack, reject and recover; redelivery and its order (AMQP 0-9-1 class basic; RabbitMQ docs, Consumer
Acknowledgements)."""

from __future__ import annotations

from tests.spec.talk import Speaker, Talk, add, conversation
from tests.support.wire import publish

ACK = "AMQP 0-9-1 basic.ack; RabbitMQ docs, Consumer Acknowledgements"
NACK = "RabbitMQ docs, Negative Acknowledgements"
RECOVER = "AMQP 0-9-1 basic.recover"
ORDER = "RabbitMQ docs, Queues, Message Ordering; Consumer Acknowledgements, requeue"


def got(talk: Talk, count: int, *, no_ack: bool = False) -> Speaker:
    """A client that holds `count` messages of queue q, got one by one; none of that is written down."""
    client = talk.client(channels=(1, 2))
    client.client.ask(1, "queue.declare", queue="q")
    talk.queues.add("q")
    client.client.send(*[publish(1, "", "q", str(number).encode()) for number in range(1, count + 1)])
    client.until_ready("q", count)
    for _ in range(count):
        client.client.get(1, "q", no_ack=no_ack)
    return client


def settles(
    name: str,
    rule: str,
    method_name: str,
    count: int = 2,
    *,
    channel: int = 1,
    no_ack: bool = False,
    **arguments: object,
) -> None:
    """Registers one settlement by a client that holds `count` messages, and what is ready in the queue afterwards."""

    def start(talk: Talk) -> None:
        client = got(talk, count, no_ack=no_ack)
        talk.write(f"= a has got {count} messages" + (" without acknowledgement" if no_ack else ""))
        client.tell(channel, method_name, **arguments)
        client.quiet(channel)
        if "channel.close" in talk.lines[-1]:
            client.until_ready("q", 0 if no_ack or channel == 2 else count, 3 - channel)
        else:
            client.ask(3 - channel, "queue.declare", queue="q", passive=True)

    add("settle", name, rule, NACK if method_name == "basic.nack" else ACK, start)


UNKNOWN = "a delivery tag is the channel's and is used once"
for verb in ("basic.ack", "basic.nack", "basic.reject"):
    settles(f"{verb}: known tag", "the message is settled in silence", verb, delivery_tag=1)
    settles(f"{verb}: unknown tag", UNKNOWN, verb, delivery_tag=3)
    settles(f"{verb}: unknown tag without any delivery", UNKNOWN, verb, 0, delivery_tag=1)
    settles(f"{verb}: tag 0", "0 stands for everything with multiple only", verb, delivery_tag=0)
    settles(f"{verb}: tag of another channel", UNKNOWN, verb, channel=2, delivery_tag=1)
    settles(f"{verb}: delivered without acknowledgement", UNKNOWN, verb, no_ack=True, delivery_tag=1)
    settles(f"{verb}: tag of 64 bits", UNKNOWN, verb, delivery_tag=2**64 - 1)
for verb in ("basic.ack", "basic.nack"):
    settles(
        f"{verb}: multiple up to a tag",
        "multiple takes everything up to the tag",
        verb,
        3,
        delivery_tag=2,
        multiple=True,
    )
    settles(f"{verb}: multiple and tag 0", "0 and multiple is everything", verb, 3, delivery_tag=0, multiple=True)
    settles(
        f"{verb}: multiple and tag 0 with nothing to settle",
        "0 and multiple may be nothing",
        verb,
        0,
        delivery_tag=0,
        multiple=True,
    )
    settles(f"{verb}: multiple beyond the last tag", UNKNOWN, verb, 3, delivery_tag=4, multiple=True)
settles("basic.nack: requeue", "requeued messages are ready again", "basic.nack", delivery_tag=1, requeue=True)
settles(
    "basic.nack: requeue everything",
    "requeued messages are ready again",
    "basic.nack",
    delivery_tag=0,
    multiple=True,
    requeue=True,
)
settles("basic.reject: requeue", "requeued messages are ready again", "basic.reject", delivery_tag=2, requeue=True)


def twice(verb: str) -> None:
    """Registers a tag that is settled twice."""

    def start(talk: Talk) -> None:
        client = got(talk, 1)
        talk.write("= a has got 1 message")
        client.tell(1, verb, delivery_tag=1)
        client.tell(1, verb, delivery_tag=1)
        client.hear()

    add("settle", f"{verb}: twice", UNKNOWN, ACK, start)


for verb in ("basic.ack", "basic.nack", "basic.reject"):
    twice(verb)


@conversation("ack: multiple after single", "multiple skips what is settled already", ACK)
def multiple_after_single(talk: Talk) -> None:
    """The middle one first, then all up to the third; then the first again."""
    client = got(talk, 3)
    talk.write("= a has got 3 messages")
    client.tell(1, "basic.ack", delivery_tag=2)
    client.tell(1, "basic.ack", delivery_tag=3, multiple=True)
    client.quiet()
    client.tell(1, "basic.ack", delivery_tag=1, multiple=True)
    client.hear()


@conversation("ack: multiple up to a settled tag", "the tag named by multiple must be unsettled", ACK)
def multiple_to_settled(talk: Talk) -> None:
    """The second is settled; multiple up to it."""
    client = got(talk, 3)
    talk.write("= a has got 3 messages")
    client.tell(1, "basic.ack", delivery_tag=2)
    client.tell(1, "basic.ack", delivery_tag=2, multiple=True)
    client.quiet()


@conversation("redelivery: channel closed", "what was unacknowledged comes back in its order, redelivered", ORDER)
def channel_closed(talk: Talk) -> None:
    """Three were held, a fourth was ready."""
    client = got(talk, 3)
    talk.write("= a has got 3 messages")
    client.say(publish(2, "", "q", b"4"))
    client.until_ready("q", 1, 2)
    client.ask(1, "channel.close", reply_code=200)
    client.until_ready("q", 4, 2)
    client.ask(2, "basic.consume", queue="q", consumer_tag="c")
    client.hear(4)


@conversation("redelivery: connection dropped", "what was unacknowledged comes back in its order, redelivered", ORDER)
def connection_dropped(talk: Talk) -> None:
    """The socket closes without a word."""
    client = got(talk, 2)
    talk.write("= a has got 2 messages")
    client.drop()
    other = talk.client("b")
    other.until_ready("q", 2)
    other.ask(1, "basic.consume", queue="q", consumer_tag="c")
    other.hear(2)


@conversation(
    "redelivery: requeue to the same consumer", "a requeued message comes back to its place, redelivered", ORDER
)
def requeue_same(talk: Talk) -> None:
    """A window of one, three messages; the first is rejected."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q")
    client.say(*[publish(1, "", "q", text) for text in (b"1", b"2", b"3")])
    client.until_ready("q", 3)
    client.ask(1, "basic.qos", prefetch_count=1)
    client.ask(1, "basic.consume", queue="q", consumer_tag="c")
    client.hear()
    client.tell(1, "basic.reject", delivery_tag=1, requeue=True)
    client.hear()
    client.tell(1, "basic.ack", delivery_tag=2)
    client.hear()


@conversation("redelivery: requeue from the middle", "requeued messages go back to their places", ORDER)
def requeue_middle(talk: Talk) -> None:
    """The third and the first of three are requeued, in that order; the fourth was never delivered."""
    client = got(talk, 3)
    talk.write("= a has got 3 messages")
    client.say(publish(1, "", "q", b"4"))
    client.until_ready("q", 1)
    client.tell(1, "basic.nack", delivery_tag=3, requeue=True)
    client.tell(1, "basic.nack", delivery_tag=1, requeue=True)
    client.until_ready("q", 3)
    client.ask(1, "basic.consume", queue="q", consumer_tag="c", no_ack=True)
    client.hear(3)


@conversation("redelivery: never delivered", "a message that was only ready is not redelivered", ORDER)
def not_redelivered(talk: Talk) -> None:
    """A consumer came and went without taking it: the window was full."""
    client = talk.client(channels=(1, 2))
    client.ask(1, "queue.declare", queue="q")
    client.say(publish(1, "", "q", b"1"), publish(1, "", "q", b"2"))
    client.until_ready("q", 2)
    client.ask(1, "basic.qos", prefetch_count=1)
    client.ask(1, "basic.consume", queue="q", consumer_tag="c")
    client.hear()
    client.ask(1, "channel.close", reply_code=200)
    client.until_ready("q", 2, 2)
    client.ask(2, "basic.get", queue="q")
    client.ask(2, "basic.get", queue="q")


@conversation("redelivery: got without acknowledgement", "what was delivered without acknowledgement is gone", ACK)
def no_ack_gone(talk: Talk) -> None:
    """The channel closes; the queue stays empty."""
    client = got(talk, 1, no_ack=True)
    talk.write("= a has got 1 message without acknowledgement")
    client.ask(1, "channel.close", reply_code=200)
    client.ask(2, "queue.declare", queue="q", passive=True)


@conversation("recover: requeue", "recover(requeue) is answered and everything unacknowledged comes back", RECOVER)
def recover(talk: Talk) -> None:
    """Got, recovered, got again."""
    client = got(talk, 2)
    talk.write("= a has got 2 messages")
    client.ask(1, "basic.recover", requeue=True)
    client.until_ready("q", 2)
    client.ask(1, "basic.get", queue="q")
    client.ask(1, "basic.get", queue="q")
    client.tell(1, "basic.ack", delivery_tag=1)
    client.hear()


@conversation("recover: to a consumer", "recovered messages are delivered again with new tags", RECOVER)
def recover_consumer(talk: Talk) -> None:
    """The consumer stays."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q")
    client.ask(1, "basic.consume", queue="q", consumer_tag="c")
    client.say(publish(1, "", "q", b"1"))
    client.hear()
    client.tell(1, "basic.recover", requeue=True)
    client.hear_all("basic.recover-ok", "basic.deliver")


@conversation("recover: without requeue", "recover without requeue is not implemented", RECOVER)
def recover_same(talk: Talk) -> None:
    """Ends the connection."""
    client = got(talk, 1)
    talk.write("= a has got 1 message")
    client.ask(1, "basic.recover", requeue=False)


@conversation("recover: nothing to recover", "recover is answered all the same", RECOVER)
def recover_nothing(talk: Talk) -> None:
    """No delivery yet."""
    client = talk.client()
    client.ask(1, "basic.recover", requeue=True)


@conversation("recover-async: requeue", "recover-async has no answer", RECOVER)
def recover_async(talk: Talk) -> None:
    """The message is ready again."""
    client = got(talk, 1)
    talk.write("= a has got 1 message")
    client.tell(1, "basic.recover-async", requeue=True)
    client.quiet()
    client.until_ready("q", 1)


@conversation("recover-async: without requeue", "recover-async without requeue is not implemented", RECOVER)
def recover_async_same(talk: Talk) -> None:
    """Ends the connection."""
    client = got(talk, 1)
    talk.write("= a has got 1 message")
    client.tell(1, "basic.recover-async", requeue=False)
    client.hear()
