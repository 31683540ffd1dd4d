"""What quorum queues and streams refuse or answer otherwise than classic queues (RabbitMQ docs, Quorum Queues,
Streams)."""

from __future__ import annotations

from tests.spec.conversations.dead_letter import last_death
from tests.spec.talk import Departure, Talk, add, conversation
from tests.support.wire import publish

QUORUM = "RabbitMQ docs, Quorum Queues, Feature Matrix"
STREAM = "RabbitMQ docs, Streams"


DECLARED = "< a1 queue.declare-ok queue='q' message_count=0 consumer_count=0"
QOS = "< a1 basic.qos-ok"


def acquired(line: str) -> str:
    """What is said of a message that came back for the first time, as RabbitMQ 4.3 does."""
    return last_death(line).replace(
        "headers={x-delivery-count=l:1}", "headers={x-acquired-count=l:1, x-delivery-count=l:1}"
    )


ACQUIRED = Departure(
    "RabbitMQ 3.13 adds x-last-death-exchange, -queue and -reason, RabbitMQ 4.3 x-acquired-count", rewrite=acquired
)
MAX_PRIORITY = Departure("RabbitMQ 4.3 takes it: quorum queues know 32 priorities", (DECLARED,))


def declares(
    name: str,
    queue_type: str,
    arguments: dict[str, object] | None = None,
    *,
    leveret: Departure | None = None,
    **flags: object,
) -> None:
    """Registers a declare of a quorum queue or stream."""

    def start(talk: Talk) -> None:
        client = talk.client()
        options: dict[str, object] = {"queue": "q", "durable": True} | flags
        client.ask(1, "queue.declare", arguments={"x-queue-type": queue_type} | (arguments or {}), **options)

    add(
        "replicated",
        f"{queue_type}: {name}",
        "what does not go with the type is refused",
        QUORUM if queue_type == "quorum" else STREAM,
        start,
        leveret,
    )


for kind in ("quorum", "stream"):
    declares("declare", kind)
    declares("not durable", kind, durable=False)
    declares("exclusive", kind, exclusive=True)
    declares("auto-delete", kind, auto_delete=True)
    declares("server-named", kind, queue="")
    for label, value in {
        "x-max-priority": 5,
        "x-queue-mode": "lazy",
        "x-message-ttl": 1000,
        "x-expires": 60000,
        "x-max-length": 5,
        "x-max-length-bytes": 5000,
        "x-single-active-consumer": True,
        "x-queue-version": 2,
    }.items():
        takes_it = kind == "quorum" and label == "x-max-priority"
        declares(f"with {label}", kind, {label: value}, leveret=MAX_PRIORITY if takes_it else None)
declares("x-delivery-limit is a string", "quorum", {"x-delivery-limit": "5"})
declares("x-delivery-limit is -1", "quorum", {"x-delivery-limit": -1})
declares("x-overflow reject-publish-dlx", "quorum", {"x-overflow": "reject-publish-dlx"})
declares("x-dead-letter-strategy junk", "quorum", {"x-dead-letter-strategy": "junk"})
declares("x-quorum-initial-group-size 0", "quorum", {"x-quorum-initial-group-size": 0})
declares("x-queue-leader-locator junk", "quorum", {"x-queue-leader-locator": "junk"})
declares("x-max-age", "stream", {"x-max-age": "7D"})
BAD_AGE = Departure(
    "RabbitMQ ends with an internal error when the value does not start with a digit",
    (
        "< a1 channel.close reply_code=406 reply_text=\"PRECONDITION_FAILED - invalid arg 'x-max-age' for queue 'q' in"
        " vhost '/': invalid_max_age\" class_id=50 method_id=10",
    ),
)  # fmt: skip
for text in ("", "junk", "7", "D", "0s", "-1s", "1x", "1.5h"):
    declares(f"x-max-age {text!r}", "stream", {"x-max-age": text}, leveret=None if text[:1].isdigit() else BAD_AGE)
declares("x-max-age is a number", "stream", {"x-max-age": 5})
declares("x-stream-max-segment-size-bytes too big", "stream", {"x-stream-max-segment-size-bytes": 3000000001})
declares("x-initial-cluster-size 0", "stream", {"x-initial-cluster-size": 0})
declares("x-dead-letter-exchange", "stream", {"x-dead-letter-exchange": "dlx"})


def uses(
    name: str, queue_type: str, rule: str, method_name: str, prefetch: int = 0, everywhere: bool = False,
    leveret: Departure | None = None, **arguments: object,
) -> None:  # fmt: skip
    """Registers one method on a quorum queue or stream, after basic.qos when a prefetch is given."""

    def start(talk: Talk) -> None:
        client = talk.client()
        client.ask(1, "queue.declare", queue="q", durable=True, arguments={"x-queue-type": queue_type})
        if prefetch:
            client.ask(1, "basic.qos", **{"prefetch_count": prefetch, "global": everywhere})
        client.ask(1, method_name, **arguments)

    add("replicated", f"{queue_type}: {name}", rule, QUORUM if queue_type == "quorum" else STREAM, start, leveret)


uses(
    "delete if_unused",
    "quorum",
    "quorum queues are deleted without conditions",
    "queue.delete",
    queue="q",
    if_unused=True,
)
uses(
    "delete if_empty",
    "quorum",
    "quorum queues are deleted without conditions",
    "queue.delete",
    queue="q",
    if_empty=True,
)
uses(
    "global prefetch", "quorum", "a global prefetch does not go with quorum queues", "basic.consume", prefetch=5,
    everywhere=True,
    leveret=Departure("a global prefetch works on every queue type",
                      (DECLARED, QOS, "< a1 basic.consume-ok consumer_tag='c'")),
    queue="q", consumer_tag="c",
)  # fmt: skip
uses("get of an empty queue", "quorum", "basic.get works", "basic.get", queue="q")
uses("exclusive consumer", "quorum", "the flag is taken", "basic.consume", queue="q", consumer_tag="c", exclusive=True)
uses("purge", "quorum", "quorum queues are purged", "queue.purge", queue="q")
uses("consume without prefetch", "stream", "streams need a prefetch", "basic.consume", queue="q", consumer_tag="c")
uses("consume", "stream", "streams need a prefetch", "basic.consume", prefetch=5, queue="q", consumer_tag="c")
uses(
    "consume without acknowledgement",
    "stream",
    "streams need acknowledgements",
    "basic.consume",
    prefetch=5,
    queue="q",
    consumer_tag="c",
    no_ack=True,
)
uses(
    "global prefetch",
    "stream",
    "a global prefetch does not go with streams",
    "basic.consume",
    prefetch=5,
    everywhere=True,
    queue="q",
    consumer_tag="c",
)
uses("get", "stream", "basic.get does not go with streams", "basic.get", queue="q")
uses("purge", "stream", "streams are not purged", "queue.purge", queue="q")
uses(
    "bad offset", "stream", "an offset is first, last, next, a number, a time or an interval", "basic.consume",
    prefetch=5,
    leveret=Departure(
        "RabbitMQ 3.10 ends with an internal error; later versions say what is wrong",
        (
            DECLARED, QOS,
            "< a1 channel.close reply_code=406 reply_text='PRECONDITION_FAILED - invalid arg \\'x-stream-offset\\'"
            " for queue \\'q\\' in vhost \\'/\\': {invalid_stream_offset_arg,{longstr,<<\"junk\">>}}' class_id=60"
            " method_id=20",
        ),
    ),
    queue="q", consumer_tag="c", arguments={"x-stream-offset": "junk"},
)  # fmt: skip


@conversation("quorum: single active consumer and get", "basic.get does not go with a single active consumer", QUORUM)
def quorum_single_active(talk: Talk) -> None:
    """405."""
    client = talk.client()
    client.ask(
        1,
        "queue.declare",
        queue="q",
        durable=True,
        arguments={"x-queue-type": "quorum", "x-single-active-consumer": True},
    )
    client.ask(1, "basic.get", queue="q")


@conversation(
    "quorum: delivery limit",
    "a message beyond x-delivery-limit is dead-lettered; redeliveries are counted in x-delivery-count",
    QUORUM, leveret=ACQUIRED,
)  # fmt: skip
def delivery_limit(talk: Talk) -> None:
    """One redelivery is allowed."""
    client = talk.client(channels=(1, 2))
    client.ask(1, "queue.declare", queue="dead")
    arguments: dict[str, object] = {
        "x-queue-type": "quorum",
        "x-delivery-limit": 1,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "dead",
    }
    client.ask(1, "queue.declare", queue="q", durable=True, arguments=arguments)
    client.ask(2, "basic.consume", queue="dead", consumer_tag="d", no_ack=True)
    client.ask(1, "confirm.select")
    client.say(publish(1, "", "q", b"1"))
    client.hear()
    client.ask(1, "basic.consume", queue="q", consumer_tag="c")
    client.hear()
    client.tell(1, "basic.reject", delivery_tag=1, requeue=True)
    client.hear()
    client.tell(1, "basic.reject", delivery_tag=2, requeue=True)
    client.hear()


@conversation(
    "quorum: publish, consume, acknowledge", "a quorum queue delivers in order and forgets what is acknowledged", QUORUM
)
def quorum_basics(talk: Talk) -> None:
    """Two messages."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q", durable=True, arguments={"x-queue-type": "quorum"})
    client.ask(1, "confirm.select")
    for text in (b"1", b"2"):
        client.say(publish(1, "", "q", text))
        client.hear()
    client.ask(1, "basic.consume", queue="q", consumer_tag="c")
    client.hear(2)
    client.tell(1, "basic.ack", delivery_tag=2, multiple=True)
    client.quiet()


@conversation(
    "stream: publish and read from the start", "a stream is read from an offset, which each delivery carries", STREAM
)
def stream_basics(talk: Talk) -> None:
    """Two messages, published one by one."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q", durable=True, arguments={"x-queue-type": "stream"})
    client.ask(1, "confirm.select")
    for text in (b"1", b"2"):
        client.say(publish(1, "", "q", text))
        client.hear()
    client.ask(1, "basic.qos", prefetch_count=10)
    client.ask(1, "basic.consume", queue="q", consumer_tag="c", arguments={"x-stream-offset": "first"})
    client.hear(2)
