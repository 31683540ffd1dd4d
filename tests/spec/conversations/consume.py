"""basic.consume, cancel, get, qos (AMQP 0-9-1 class basic; RabbitMQ docs, Consumers, Consumer Prefetch, Consumer
Cancellation)."""

from __future__ import annotations

from tests.spec.talk import Talk, add, conversation
from tests.support.wire import Typed, publish

CONSUME = "AMQP 0-9-1 basic.consume"
CANCEL = "AMQP 0-9-1 basic.cancel"
QOS = "AMQP 0-9-1 basic.qos; RabbitMQ docs, Consumer Prefetch"
GET = "AMQP 0-9-1 basic.get"
EXCLUSIVE = "AMQP 0-9-1 basic.consume, exclusive; RabbitMQ docs, Consumers, Exclusivity"
SINGLE = "RabbitMQ docs, Consumers, Single Active Consumer"
NOTIFY = "RabbitMQ docs, Consumer Cancel Notification"


@conversation("consume: tag given", "consume-ok comes first, then deliveries", CONSUME)
def consume(talk: Talk) -> None:
    """Messages were waiting."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q")
    client.say(publish(1, "", "q", b"1"), publish(1, "", "q", b"2"))
    client.until_ready("q", 2)
    client.ask(1, "basic.consume", queue="q", consumer_tag="c")
    client.hear(2)


@conversation("consume: tag chosen by the server", "an empty tag asks for a new one", CONSUME)
def server_tag(talk: Talk) -> None:
    """Two consumers."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q")
    client.ask(1, "basic.consume", queue="q")
    client.ask(1, "basic.consume", queue="q")


@conversation("consume: tag used twice", "a consumer tag is used once on a channel", CONSUME)
def tag_twice(talk: Talk) -> None:
    """Ends the connection."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q")
    client.ask(1, "basic.consume", queue="q", consumer_tag="c")
    client.ask(1, "basic.consume", queue="q", consumer_tag="c")


@conversation("consume: tag on two channels", "consumer tags belong to a channel", CONSUME)
def tag_on_two_channels(talk: Talk) -> None:
    """The same tag, no error."""
    client = talk.client(channels=(1, 2))
    client.ask(1, "queue.declare", queue="q")
    client.ask(1, "basic.consume", queue="q", consumer_tag="c")
    client.ask(2, "basic.consume", queue="q", consumer_tag="c")


@conversation("consume: tag free again after cancel", "a cancelled tag may be used again", CONSUME)
def tag_again(talk: Talk) -> None:
    """Cancel, then consume."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q")
    client.ask(1, "basic.consume", queue="q", consumer_tag="c")
    client.ask(1, "basic.cancel", consumer_tag="c")
    client.ask(1, "basic.consume", queue="q", consumer_tag="c")


def consumes(name: str, rule: str, source: str, **arguments: object) -> None:
    """Registers one basic.consume, with a queue q that exists."""

    def start(talk: Talk) -> None:
        client = talk.client()
        client.ask(1, "queue.declare", queue="q")
        client.ask(1, "basic.consume", consumer_tag="c", **arguments)

    add("consume", f"consume: {name}", rule, source, start)


consumes("missing queue", "the queue exists", CONSUME, queue="missing")
consumes("missing queue with nowait", "errors are told even with nowait", CONSUME, queue="missing", nowait=True)
consumes(
    "no_local", "no_local is ignored", "RabbitMQ docs, Specification, basic.consume no-local", queue="q", no_local=True
)
consumes("line ends in the name", "names are taken as they are in basic.consume", "RabbitMQ behaviour", queue="q\r\n")
consumes("unknown argument", "unknown arguments are accepted", CONSUME, queue="q", arguments={"x-mine": [1]})
for label, value in {"a string": "5", "a float": 1.5, "void": None, "true": True, "a table": {}}.items():
    consumes(
        f"x-priority is {label}",
        "a consumer priority is an integer",
        "RabbitMQ docs, Consumer Priorities",
        queue="q",
        arguments={"x-priority": value},
    )
consumes(
    "x-priority negative",
    "a consumer priority is any integer",
    "RabbitMQ docs, Consumer Priorities",
    queue="q",
    arguments={"x-priority": -5},
)
consumes(
    "x-priority of 64 bits",
    "a consumer priority is any integer",
    "RabbitMQ docs, Consumer Priorities",
    queue="q",
    arguments={"x-priority": Typed("l", 2**40)},
)
consumes(
    "x-stream-offset on a classic queue",
    "a stream's argument on another queue",
    "RabbitMQ docs, Streams",
    queue="q",
    arguments={"x-stream-offset": "first"},
)
consumes(
    "x-cancel-on-ha-failover",
    "an argument of mirrored queues is accepted",
    "RabbitMQ docs, Mirroring",
    queue="q",
    arguments={"x-cancel-on-ha-failover": True},
)
consumes(
    "x-cancel-on-ha-failover is a string",
    "it is a boolean",
    "RabbitMQ docs, Mirroring",
    queue="q",
    arguments={"x-cancel-on-ha-failover": "yes"},
)


@conversation("consume: nowait", "with nowait nothing is answered, deliveries come all the same", CONSUME)
def consume_nowait(talk: Talk) -> None:
    """One message waits."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q")
    client.say(publish(1, "", "q", b"1"))
    client.until_ready("q", 1)
    client.tell(1, "basic.consume", queue="q", consumer_tag="c", nowait=True)
    client.hear()


@conversation("consume: nowait and no tag", "the server's tag is told by the first delivery", CONSUME)
def consume_nowait_server_tag(talk: Talk) -> None:
    """Nothing else tells it."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q")
    client.say(publish(1, "", "q", b"1"))
    client.until_ready("q", 1)
    client.tell(1, "basic.consume", queue="q", nowait=True)
    client.hear()


@conversation("exclusive consumer: second consumer", "an exclusive consumer is alone", EXCLUSIVE)
def exclusive_first(talk: Talk) -> None:
    """Another channel, not exclusive."""
    client = talk.client(channels=(1, 2))
    client.ask(1, "queue.declare", queue="q")
    client.ask(1, "basic.consume", queue="q", consumer_tag="c", exclusive=True)
    client.ask(2, "basic.consume", queue="q", consumer_tag="d")


@conversation("exclusive consumer: others are there", "exclusive is refused while there are consumers", EXCLUSIVE)
def exclusive_second(talk: Talk) -> None:
    """A shared consumer came first."""
    client = talk.client(channels=(1, 2))
    client.ask(1, "queue.declare", queue="q")
    client.ask(1, "basic.consume", queue="q", consumer_tag="c")
    client.ask(2, "basic.consume", queue="q", consumer_tag="d", exclusive=True)


@conversation("exclusive consumer: cancelled", "after it has gone others may consume", EXCLUSIVE)
def exclusive_gone(talk: Talk) -> None:
    """Cancel, then the other."""
    client = talk.client(channels=(1, 2))
    client.ask(1, "queue.declare", queue="q")
    client.ask(1, "basic.consume", queue="q", consumer_tag="c", exclusive=True)
    client.ask(1, "basic.cancel", consumer_tag="c")
    client.ask(2, "basic.consume", queue="q", consumer_tag="d", exclusive=True)


@conversation("exclusive consumer: basic.get", "basic.get is no consumer", EXCLUSIVE)
def exclusive_and_get(talk: Talk) -> None:
    """Another channel gets."""
    client = talk.client(channels=(1, 2))
    client.ask(1, "queue.declare", queue="q")
    client.ask(1, "basic.consume", queue="q", consumer_tag="c", exclusive=True)
    client.ask(2, "basic.get", queue="q")


@conversation("cancel: unknown tag", "cancelling what is not there succeeds", CANCEL)
def cancel_unknown(talk: Talk) -> None:
    """cancel-ok repeats the tag."""
    client = talk.client()
    client.ask(1, "basic.cancel", consumer_tag="never")


@conversation("cancel: nowait", "with nowait nothing is answered", CANCEL)
def cancel_nowait(talk: Talk) -> None:
    """The consumer is gone all the same."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q")
    client.ask(1, "basic.consume", queue="q", consumer_tag="c")
    client.tell(1, "basic.cancel", consumer_tag="c", nowait=True)
    client.quiet()
    client.ask(1, "queue.declare", queue="q", passive=True)


@conversation("cancel: deliveries stay to be acknowledged", "cancelling does not touch what was delivered", CANCEL)
def cancel_keeps_unacked(talk: Talk) -> None:
    """Acknowledged after cancel-ok; nothing is left."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q")
    client.say(publish(1, "", "q", b"1"))
    client.until_ready("q", 1)
    client.ask(1, "basic.consume", queue="q", consumer_tag="c")
    client.hear()
    client.ask(1, "basic.cancel", consumer_tag="c")
    client.ask(1, "basic.get", queue="q")
    client.tell(1, "basic.ack", delivery_tag=1)
    client.quiet(queue="q")
    client.ask(1, "channel.close", reply_code=200)
    client.ask(1, "channel.open")
    client.ask(1, "basic.get", queue="q")


@conversation("cancelled by the server: queue deleted", "a client that says it understands gets basic.cancel", NOTIFY)
def cancel_notify(talk: Talk) -> None:
    """Deleted by another connection."""
    client = talk.client("a")
    client.ask(1, "queue.declare", queue="q")
    client.ask(1, "basic.consume", queue="q", consumer_tag="c")
    other = talk.client("b")
    other.ask(1, "queue.delete", queue="q")
    client.hear()


@conversation("cancelled by the server: client without the capability", "others hear nothing", NOTIFY)
def cancel_without_notify(talk: Talk) -> None:
    """No capabilities at all."""
    client = talk.client("a", capabilities=None)
    client.ask(1, "queue.declare", queue="q")
    client.ask(1, "basic.consume", queue="q", consumer_tag="c")
    client.ask(1, "queue.delete", queue="q")
    client.quiet()


@conversation(
    "cancelled by the server: own delete", "who deletes the queue is told too, after delete-ok or before", NOTIFY
)
def cancel_notify_own(talk: Talk) -> None:
    """The two may cross."""
    client = talk.client(channels=(1, 2))
    client.ask(1, "queue.declare", queue="q")
    client.ask(1, "basic.consume", queue="q", consumer_tag="c")
    client.tell(1, "queue.delete", queue="q")
    client.hear_all("queue.delete-ok", "basic.cancel")


# basic.get


@conversation("get: empty", "get-empty when nothing is ready", GET)
def get_empty(talk: Talk) -> None:
    """Also when everything is unacknowledged."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q")
    client.ask(1, "basic.get", queue="q")
    client.say(publish(1, "", "q", b"1"))
    client.until_ready("q", 1)
    client.ask(1, "basic.get", queue="q")
    client.ask(1, "basic.get", queue="q")


@conversation("get: counts", "get-ok counts what is left", GET)
def get_counts(talk: Talk) -> None:
    """Three, two, one; with and without acknowledgement the tags go on."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q")
    client.say(*[publish(1, "", "q", text) for text in (b"1", b"2", b"3")])
    client.until_ready("q", 3)
    client.ask(1, "basic.get", queue="q")
    client.ask(1, "basic.get", queue="q", no_ack=True)
    client.ask(1, "basic.get", queue="q")


@conversation("get: missing queue", "the queue exists", GET)
def get_missing(talk: Talk) -> None:
    """404."""
    client = talk.client()
    client.ask(1, "basic.get", queue="missing")


@conversation("get: single active consumer", "basic.get works on a classic queue with a single active consumer", SINGLE)
def get_single_active(talk: Talk) -> None:
    """Quorum queues refuse it."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q", arguments={"x-single-active-consumer": True})
    client.ask(1, "basic.get", queue="q")


@conversation(
    "single active consumer: one at a time", "one consumer gets everything; when it goes the next takes over", SINGLE
)
def single_active(talk: Talk) -> None:
    """Two consumers on two channels."""
    client = talk.client(channels=(1, 2))
    client.ask(1, "queue.declare", queue="q", arguments={"x-single-active-consumer": True})
    client.ask(1, "basic.consume", queue="q", consumer_tag="c")
    client.ask(2, "basic.consume", queue="q", consumer_tag="d")
    client.say(publish(1, "", "q", b"1"), publish(1, "", "q", b"2"))
    client.hear(2)
    client.tell(1, "basic.ack", delivery_tag=2, multiple=True)
    client.ask(1, "basic.cancel", consumer_tag="c")
    client.say(publish(1, "", "q", b"3"))
    client.hear()


@conversation("single active consumer: exclusive consumer", "an exclusive consumer is refused", SINGLE)
def single_active_exclusive(talk: Talk) -> None:
    """403."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q", arguments={"x-single-active-consumer": True})
    client.ask(1, "basic.consume", queue="q", consumer_tag="c", exclusive=True)


# prefetch


def qos(name: str, rule: str, **arguments: object) -> None:
    """Registers one basic.qos."""

    def start(talk: Talk) -> None:
        client = talk.client()
        client.ask(1, "basic.qos", **arguments)

    add("consume", f"qos: {name}", rule, QOS, start)


QOS_GLOBAL: dict[str, object] = {"global": True}
qos("prefetch_size", "prefetch_size is not implemented", prefetch_size=1)
qos("count 0", "0 means no limit", prefetch_count=0)
qos("count 65535", "the largest count", prefetch_count=65535)
qos("global", "global is for the channel", prefetch_count=10, **QOS_GLOBAL)


@conversation(
    "qos: two unacknowledged at most", "no more than prefetch_count messages wait for their acknowledgement", QOS
)
def prefetch(talk: Talk) -> None:
    """Each ack brings one more."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q")
    client.say(*[publish(1, "", "q", text) for text in (b"1", b"2", b"3", b"4")])
    client.until_ready("q", 4)
    client.ask(1, "basic.qos", prefetch_count=2)
    client.ask(1, "basic.consume", queue="q", consumer_tag="c")
    client.hear(2)
    client.ask(1, "queue.declare", queue="q", passive=True)
    client.tell(1, "basic.ack", delivery_tag=1)
    client.hear()
    client.tell(1, "basic.nack", delivery_tag=3)
    client.hear()
    client.quiet(queue="q")


@conversation("qos: counts for later consumers", "a new count counts for consumers started after it", QOS)
def prefetch_later(talk: Talk) -> None:
    """One unlimited, one with a window of one: the second gets one."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q1")
    client.ask(1, "queue.declare", queue="q2")
    client.say(*[publish(1, "", queue, text) for queue in ("q1", "q2") for text in (b"1", b"2", b"3")])
    client.until_ready("q1", 3)
    client.until_ready("q2", 3)
    client.ask(1, "basic.consume", queue="q1", consumer_tag="c1")
    client.hear(3)
    client.ask(1, "basic.qos", prefetch_count=1)
    client.ask(1, "basic.consume", queue="q2", consumer_tag="c2")
    client.hear()
    client.ask(1, "basic.qos", prefetch_count=3)
    client.ask(1, "queue.declare", queue="q2", passive=True)


@conversation("qos: each consumer has its window", "prefetch_count is per consumer", QOS)
def prefetch_each(talk: Talk) -> None:
    """Two consumers of two queues, one each."""
    client = talk.client()
    for queue in ("q1", "q2"):
        client.ask(1, "queue.declare", queue=queue)
        client.say(publish(1, "", queue, b"1"), publish(1, "", queue, b"2"))
        client.until_ready(queue, 2)
    client.ask(1, "basic.qos", prefetch_count=1)
    for queue in ("q1", "q2"):
        client.ask(1, "basic.consume", queue=queue, consumer_tag=queue)
        client.hear()
    client.tell(1, "basic.ack", delivery_tag=2)
    client.hear()


@conversation(
    "qos: global window", "with global the whole channel has one window, which can be changed while consuming", QOS
)
def prefetch_global(talk: Talk) -> None:
    """Two consumers share two; then the window grows to three."""
    client = talk.client()
    for queue in ("q1", "q2"):
        client.ask(1, "queue.declare", queue=queue)
        client.say(*[publish(1, "", queue, text) for text in (b"1", b"2", b"3")])
        client.until_ready(queue, 3)
    client.ask(1, "basic.qos", prefetch_count=2, **QOS_GLOBAL)
    client.ask(1, "basic.consume", queue="q1", consumer_tag="c1")
    client.hear(2)
    client.ask(1, "basic.consume", queue="q2", consumer_tag="c2")
    client.ask(1, "queue.declare", queue="q2", passive=True)
    client.ask(1, "basic.cancel", consumer_tag="c1")
    client.ask(1, "basic.qos", prefetch_count=3, **QOS_GLOBAL)
    client.hear()
    client.tell(1, "basic.ack", delivery_tag=3)
    client.hear()


@conversation("qos: no_ack does not count", "deliveries without acknowledgement and basic.get ignore the window", QOS)
def prefetch_no_ack(talk: Talk) -> None:
    """A window of one; three deliveries, one get."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q")
    client.say(*[publish(1, "", "q", text) for text in (b"1", b"2", b"3", b"4")])
    client.until_ready("q", 4)
    client.ask(1, "basic.qos", prefetch_count=1, **QOS_GLOBAL)
    client.ask(1, "basic.get", queue="q")
    client.ask(1, "basic.consume", queue="q", consumer_tag="c", no_ack=True)
    client.hear(3)


# who gets what


@conversation("round robin", "consumers with room take turns", "RabbitMQ docs, Consumers")
def round_robin(talk: Talk) -> None:
    """Two consumers, window of one each; the first goes to whoever came first."""
    client = talk.client(channels=(1, 2))
    client.ask(1, "queue.declare", queue="q")
    for channel, tag in ((1, "c"), (2, "d")):
        client.ask(channel, "basic.qos", prefetch_count=1)
        client.ask(channel, "basic.consume", queue="q", consumer_tag=tag)
    client.say(publish(1, "", "q", b"1"))
    client.hear()
    client.say(publish(1, "", "q", b"2"))
    client.hear()


@conversation(
    "consumer priority",
    "a consumer of lower priority gets messages when those above have no room",
    "RabbitMQ docs, Consumer Priorities",
)
def consumer_priority(talk: Talk) -> None:
    """The later consumer has the higher priority and a window of one."""
    client = talk.client(channels=(1, 2))
    client.ask(1, "queue.declare", queue="q")
    client.ask(1, "basic.consume", queue="q", consumer_tag="low")
    client.ask(2, "basic.qos", prefetch_count=1)
    client.ask(2, "basic.consume", queue="q", consumer_tag="high", arguments={"x-priority": 10})
    client.say(publish(1, "", "q", b"1"))
    client.hear()
    client.say(publish(1, "", "q", b"2"))
    client.hear()
    client.tell(2, "basic.ack", delivery_tag=1)
    client.quiet(2, queue="q")
    client.say(publish(1, "", "q", b"3"))
    client.hear()
