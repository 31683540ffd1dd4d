"""Values of queue arguments that are refused or taken (RabbitMQ docs: Queues, TTL, Queue Length, DLX, Priority, Quorum
Queues, Streams)."""

from __future__ import annotations

from tests.spec.talk import Departure, Talk, add, conversation
from tests.support.wire import Typed

SOURCE = "AMQP 0-9-1 queue.declare, arguments; RabbitMQ docs, Queues, Optional Arguments"
RULE = "a bad value of a known argument is refused, with the argument's name"


def argument(label: str, arguments: dict[str, object], *, leveret: Departure | None = None, **flags: object) -> None:
    """Registers a declare with these arguments."""

    def start(talk: Talk) -> None:
        client = talk.client()
        client.ask(1, "queue.declare", queue="q", arguments=arguments, **flags)

    add("queue_arguments", f"argument: {label}", RULE, SOURCE, start, leveret)


ACCEPTED = ("< a1 queue.declare-ok queue='q' message_count=0 consumer_count=0",)
IGNORED = Departure(
    "the argument is accepted and ignored; over a bad value RabbitMQ ends with an internal error", ACCEPTED
)
INTEGERS = ("x-expires", "x-message-ttl", "x-max-length", "x-max-length-bytes", "x-max-priority", "x-queue-version")
for name in INTEGERS:
    argument(f"{name} is a string", {name: "1000"})
    argument(f"{name} is a string that is no number", {name: "abc"})
    argument(f"{name} is a float", {name: 1.0})
    argument(f"{name} is true", {name: True})
    argument(f"{name} is void", {name: None})
    argument(f"{name} is -1", {name: -1})
    argument(f"{name} is 0", {name: 0})
    argument(f"{name} is 1", {name: 1})
    argument(f"{name} is 255", {name: 255})
    argument(f"{name} is 256", {name: 256})
    argument(f"{name} is 2^32-1", {name: 2**32 - 1})
    argument(f"{name} is 2^32", {name: 2**32})
    argument(f"{name} is 2^63-1", {name: 2**63 - 1})
    argument(f"{name} is of type octet", {name: Typed("B", 2)})
    argument(f"{name} is a timestamp", {name: Typed("T", 1000)})
argument("x-expires is ten years", {"x-expires": 315360000000})
argument("x-message-ttl is ten years", {"x-message-ttl": 315360000000})
argument("x-message-ttl is ten years and a bit", {"x-message-ttl": 315360000001})
argument("x-expires is ten years and a bit", {"x-expires": 315360000001})
for name in (
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-overflow",
    "x-queue-mode",
    "x-queue-type",
    "x-queue-master-locator",
    "x-queue-leader-locator",
):
    more: dict[str, object] = {"x-dead-letter-exchange": "dlx"} if name.endswith("routing-key") else {}
    departure = IGNORED if name == "x-queue-master-locator" else None
    values: dict[str, object] = {
        "a number": 5,
        "void": None,
        "empty": "",
        "junk": "junk",
        "binary": b"junk",
        "a boolean": True,
    }
    for label, value in values.items():
        argument(f"{name} is {label}", {name: value} | more, leveret=departure)
argument("x-dead-letter-exchange is an array", {"x-dead-letter-exchange": ["dlx"]})
argument("x-dead-letter-exchange is a table", {"x-dead-letter-exchange": {"a": 1}})
argument("x-dead-letter-routing-key without exchange", {"x-dead-letter-routing-key": "k"})
for text in ("drop-head", "reject-publish", "reject-publish-dlx", "DROP-HEAD"):
    argument(f"x-overflow is {text}", {"x-overflow": text})
for text in ("default", "lazy", "LAZY"):
    argument(f"x-queue-mode is {text}", {"x-queue-mode": text})
for text in ("classic", "Classic", "rabbit_classic_queue"):
    argument(f"x-queue-type is {text}", {"x-queue-type": text}, durable=True)
argument("x-queue-version is 2", {"x-queue-version": 2})
argument("x-queue-version is 3", {"x-queue-version": 3})
for text in ("min-masters", "client-local", "random", "balanced", "least-leaders"):
    argument(f"x-queue-master-locator is {text}", {"x-queue-master-locator": text}, leveret=IGNORED)
    argument(f"x-queue-leader-locator is {text}", {"x-queue-leader-locator": text})
for bad in ("true", 1, None):
    argument(f"x-single-active-consumer is {bad!r}", {"x-single-active-consumer": bad})
for known in (
    "x-delivery-limit",
    "x-quorum-initial-group-size",
    "x-max-in-memory-length",
    "x-max-in-memory-bytes",
    "x-initial-cluster-size",
    "x-stream-max-segment-size-bytes",
):
    argument(f"{known} on a classic queue", {known: 5})
argument("x-max-age on a classic queue", {"x-max-age": "1D"})
argument("x-max-age junk on a classic queue", {"x-max-age": "junk"})
argument(
    "x-dead-letter-strategy on a classic queue",
    {"x-dead-letter-strategy": "at-least-once", "x-dead-letter-exchange": "dlx"},
)
argument("x-consumer-timeout on a classic queue", {"x-consumer-timeout": 1000})
argument("x-delivery-limit is a string on a classic queue", {"x-delivery-limit": "5"})
argument("two bad values", {"x-overflow": "junk", "x-expires": -1})
argument("two bad values, the other way round", {"x-message-ttl": "a", "x-dead-letter-exchange": 5})
argument("alternate-exchange on a queue", {"alternate-exchange": 5})


@conversation(
    "argument: a bad value on an existing queue",
    "an existing queue is compared first; values are judged when a queue is created",
    SOURCE,
)
def bad_value_existing(talk: Talk) -> None:
    """Told as a difference."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q")
    client.ask(1, "queue.declare", queue="q", arguments={"x-max-length": -5})


@conversation(
    "argument: another type's argument on an existing queue",
    "an existing queue is compared first; arguments of other types are not compared",
    SOURCE,
)
def other_type_existing(talk: Talk) -> None:
    """x-delivery-limit belongs to quorum queues."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q")
    client.ask(1, "queue.declare", queue="q", arguments={"x-delivery-limit": 5})


argument("names in capitals", {"X-Message-TTL": "junk"})
