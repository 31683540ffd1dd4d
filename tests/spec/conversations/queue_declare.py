"""queue.declare: flags, names, equivalence (AMQP 0-9-1 class queue; RabbitMQ docs, Queues)."""

from __future__ import annotations

from tests.spec.talk import Departure, Talk, add, conversation
from tests.support.wire import Typed, method, publish

DECLARE = "AMQP 0-9-1 queue.declare"
EQUIVALENT = "AMQP 0-9-1 queue.declare, rule equivalent; RabbitMQ docs, Queues, Declaration and Property Equivalence"
NAMES = "AMQP 0-9-1 queue.declare, queue; RabbitMQ docs, Queues, Names"
EXCLUSIVE = "AMQP 0-9-1 queue.declare, exclusive; RabbitMQ docs, Queues, Exclusive Queues"


def declares(
    name: str, rule: str, source: str, *declarations: dict[str, object], leveret: Departure | None = None
) -> None:
    """Registers queue.declare methods, one after the other."""

    def start(talk: Talk) -> None:
        client = talk.client()
        for arguments in declarations:
            said = client.ask(1, "queue.declare", **arguments)
            if said is None or said.method.name != "queue.declare-ok":
                return

    add("queue_declare", name, rule, source, start, leveret)


Q: dict[str, object] = {"queue": "q"}
for flags in (
    (),
    ("durable",),
    ("exclusive",),
    ("auto_delete",),
    ("durable", "exclusive"),
    ("durable", "auto_delete"),
    ("durable", "exclusive", "auto_delete"),
):
    declares(
        f"queue: {' '.join(flags) or 'no flags'}",
        "every combination of flags can be declared, and again",
        DECLARE,
        Q | dict.fromkeys(flags, True),
        Q | dict.fromkeys(flags, True),
    )
declares("queue: durable differs", "durable has to be equal", EQUIVALENT, Q, Q | {"durable": True})
declares("queue: durable is not transient", "durable has to be equal", EQUIVALENT, Q | {"durable": True}, Q)
declares("queue: auto_delete differs", "auto_delete has to be equal", EQUIVALENT, Q, Q | {"auto_delete": True})
declares("queue: exclusive is not shared", "exclusive has to be equal", EXCLUSIVE, Q | {"exclusive": True}, Q)
declares("queue: shared is not exclusive", "exclusive has to be equal", EXCLUSIVE, Q, Q | {"exclusive": True})
declares(
    "queue: durable exclusive and transient exclusive",
    "exclusive queues are never durable",
    EXCLUSIVE,
    Q | {"exclusive": True, "durable": True},
    Q | {"exclusive": True},
)
declares(
    "queue: exclusive differs before durable",
    "exclusive is looked at first",
    EQUIVALENT,
    Q,
    Q | {"exclusive": True, "durable": True, "auto_delete": True},
)
declares(
    "queue: durable differs before auto_delete",
    "durable comes before auto_delete",
    EQUIVALENT,
    Q,
    Q | {"durable": True, "auto_delete": True},
)
declares(
    "queue: auto_delete differs before arguments",
    "flags come before arguments",
    EQUIVALENT,
    Q,
    Q | {"auto_delete": True, "arguments": {"x-max-length": 1}},
)


def with_arguments(**arguments: object) -> dict[str, object]:
    """A declaration of q; underscores stand for dashes."""
    return Q | {"arguments": {name.replace("_", "-"): value for name, value in arguments.items()}}


EXAMPLES: dict[str, tuple[object, object]] = {
    "x-expires": (60000, 70000), "x-message-ttl": (1000, 2000), "x-dead-letter-exchange": ("dlx", "other"),
    "x-max-length": (10, 20), "x-max-length-bytes": (1000, 2000), "x-overflow": ("drop-head", "reject-publish"),
    "x-max-priority": (5, 6), "x-single-active-consumer": (True, False), "x-queue-mode": ("default", "lazy"),
    "x-queue-version": (1, 2), "x-queue-master-locator": ("client-local", "random"),
}  # fmt: skip
NOT_COMPARED = {"x-queue-master-locator", "x-queue-version"}
AGAIN = ("< a1 queue.declare-ok queue='q' message_count=0 consumer_count=0",) * 2
for label, (value, other) in EXAMPLES.items():
    ignored = Departure("the argument is accepted and ignored", AGAIN) if label in NOT_COMPARED else None
    key = label.replace("-", "_")
    declares(
        f"queue: {label} again",
        "an equal argument is accepted",
        EQUIVALENT,
        with_arguments(**{key: value}),
        with_arguments(**{key: value}),
    )
    declares(
        f"queue: {label} left out",
        "an argument that the queue has and the declaration has not",
        EQUIVALENT,
        with_arguments(**{key: value}),
        Q,
        leveret=ignored,
    )
    declares(
        f"queue: {label} added",
        "an argument that the declaration has and the queue has not",
        EQUIVALENT,
        Q,
        with_arguments(**{key: value}),
        leveret=ignored,
    )
    declares(
        f"queue: {label} differs",
        "an argument with another value",
        EQUIVALENT,
        with_arguments(**{key: value}),
        with_arguments(**{key: other}),
        leveret=ignored,
    )
DLX = {"x_dead_letter_exchange": "dlx"}
declares(
    "queue: x-dead-letter-routing-key left out",
    "the routing key is compared like other arguments",
    EQUIVALENT,
    with_arguments(**DLX, x_dead_letter_routing_key="k"),
    with_arguments(**DLX),
)
declares(
    "queue: x-dead-letter-routing-key differs",
    "the routing key is compared like other arguments",
    EQUIVALENT,
    with_arguments(**DLX, x_dead_letter_routing_key="k"),
    with_arguments(**DLX, x_dead_letter_routing_key="l"),
)
for tag in "bBsuIil":
    declares(
        f"queue: x-max-length of 100 as {tag}",
        "integers of any width are equal when their values are",
        EQUIVALENT,
        with_arguments(x_max_length=100),
        with_arguments(x_max_length=Typed(tag, 100)),
    )
declares(
    "queue: x-queue-type classic left out",
    "classic is what a queue is without the argument",
    EQUIVALENT,
    with_arguments(x_queue_type="classic"),
    Q,
)
declares(
    "queue: x-queue-type classic added",
    "classic is what a queue is without the argument",
    EQUIVALENT,
    Q,
    with_arguments(x_queue_type="classic"),
)
declares(
    "queue: x-queue-type differs",
    "the type has to be equal",
    EQUIVALENT,
    Q | {"durable": True},
    with_arguments(x_queue_type="quorum") | {"durable": True},
)
declares(
    "queue: unknown arguments",
    "unknown arguments are accepted and not compared",
    EQUIVALENT,
    with_arguments(x_mine=1, other="a"),
    with_arguments(x_mine="b"),
)
declares(
    "queue: two arguments differ",
    "the first difference is told",
    EQUIVALENT,
    with_arguments(x_max_length=1, x_message_ttl=1),
    with_arguments(x_max_length=2, x_message_ttl=2),
)
declares(
    "queue: two arguments differ, the other way round",
    "the order of comparison is the broker's",
    EQUIVALENT,
    with_arguments(x_message_ttl=1, x_max_length=1, x_expires=5000),
    with_arguments(x_message_ttl=2, x_max_length=2, x_expires=6000),
)

declares("queue: passive and missing", "passive asks whether it exists", DECLARE, Q | {"passive": True})
declares(
    "queue: passive, everything differs",
    "passive looks at the name alone",
    DECLARE,
    Q,
    with_arguments(x_max_length="nonsense") | {"passive": True, "durable": True, "auto_delete": True},
)
declares(
    "queue: passive and exclusive of the same connection",
    "the owner may ask",
    EXCLUSIVE,
    Q | {"exclusive": True},
    Q | {"passive": True},
)

declares("queue name: reserved", "names that start with amq. are the broker's", NAMES, {"queue": "amq.mine"})
declares("queue name: amq. alone", "names that start with amq. are the broker's", NAMES, {"queue": "amq."})
declares(
    "queue name: amq.gen- chosen by a client",
    "names that start with amq. are the broker's",
    NAMES,
    {"queue": "amq.gen-mine"},
)
declares(
    "queue name: amq. passive and missing",
    "a reserved name may be asked for",
    NAMES,
    {"queue": "amq.mine", "passive": True},
)
declares("queue name: amq without dot", "only amq. is reserved", NAMES, {"queue": "amqmine"})
declares(
    "queue name: line ends",
    "CR and LF are taken out of names",
    "RabbitMQ behaviour",
    {"queue": "q\r\nr"},
    {"queue": "qr", "passive": True},
)
declares("queue name: only line ends", "CR and LF are taken out of names", "RabbitMQ behaviour", {"queue": "\r\n"})
declares(
    "queue name: 255 octets",
    "a name may fill a short string",
    NAMES,
    {"queue": "q" * 255},
    {"queue": "q" * 255, "passive": True},
)
declares(
    "queue name: odd characters",
    "RabbitMQ takes any UTF-8",
    NAMES,
    {"queue": " /%\t\x00'\"\\"},
    {"queue": " /%\t\x00'\"\\", "passive": True},
)
declares(
    "queue name: chosen by the server",
    "an empty name asks for a name that is new",
    NAMES,
    {"queue": "", "exclusive": True},
    {"queue": "", "exclusive": True},
)
declares(
    "queue name: empty and passive",
    "an empty name is the last queue declared on the channel",
    NAMES,
    {"queue": "", "passive": True},
)
declares(
    "queue name: empty and passive after a declare",
    "an empty name is the last queue declared on the channel",
    NAMES,
    Q,
    {"queue": "", "passive": True},
)


@conversation(
    "queue name: the server's name declared again",
    "a name given by the server starts with amq. and cannot be declared again",
    NAMES,
)
def server_name_again(talk: Talk) -> None:
    """Passively it can be asked for."""
    client = talk.client(channels=(1, 2))
    said = client.ask(1, "queue.declare", queue="", exclusive=True)
    name = said.method.text("queue") if said else ""
    client.ask(1, "queue.declare", queue=name, exclusive=True)
    client.ask(2, "queue.declare", queue=name, passive=True)
    client.ask(2, "queue.delete", queue=name)


def last_declared(name: str, method_name: str, **arguments: object) -> None:
    """Registers a method with an empty queue name, first without and then after a declare on the channel."""

    def start(talk: Talk) -> None:
        client = talk.client(channels=(1, 2))
        client.ask(1, "queue.declare", queue="q")
        client.ask(1, method_name, **arguments)
        client.ask(2, method_name, **arguments)

    add(
        "queue_declare",
        f"queue name: empty in {name}",
        "an empty name is the last queue declared on the channel",
        NAMES,
        start,
    )


last_declared("queue.bind", "queue.bind", exchange="amq.direct", routing_key="k")
last_declared("queue.unbind", "queue.unbind", exchange="amq.direct", routing_key="k")
last_declared("queue.purge", "queue.purge")
last_declared("queue.delete", "queue.delete")
last_declared("basic.consume", "basic.consume", consumer_tag="c")
last_declared("basic.get", "basic.get")


@conversation(
    "queue name: empty after the queue is gone", "the last declared name is kept when its queue is deleted", NAMES
)
def last_declared_deleted(talk: Talk) -> None:
    """404 names the queue."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q")
    client.ask(1, "queue.delete", queue="q")
    client.ask(1, "basic.get", queue="")


@conversation("queue name: empty after a declare with nowait", "nowait declares count", NAMES)
def last_declared_nowait(talk: Talk) -> None:
    """The name is the server's and never told."""
    client = talk.client()
    client.tell(1, "queue.declare", queue="", exclusive=True, nowait=True)
    client.quiet()
    client.ask(1, "basic.get", queue="")


@conversation("queue name: empty after a passive declare", "passive declares count", NAMES)
def last_declared_passive(talk: Talk) -> None:
    """Two queues; the second is asked for passively last."""
    client = talk.client()
    for queue in ("q1", "q2"):
        client.ask(1, "queue.declare", queue=queue)
    client.ask(1, "queue.declare", queue="q1", passive=True)
    client.ask(1, "basic.consume", queue="", consumer_tag="c")
    client.ask(1, "queue.declare", queue="q1", passive=True)


@conversation(
    "queue.bind: empty queue and empty key",
    "both empty: the key is the name of the last declared queue",
    "AMQP 0-9-1 queue.bind, routing-key",
)
def bind_last_declared(talk: Talk) -> None:
    """The message finds its way by the queue's name; with an empty key it does not."""
    client = talk.client()
    client.ask(1, "exchange.declare", exchange="x", type="direct")
    client.ask(1, "queue.declare", queue="q")
    client.ask(1, "queue.bind", exchange="x")
    client.say(publish(1, "x", "q", b"1", mandatory=True), publish(1, "x", "", b"2", mandatory=True))
    client.hear()
    client.until_ready("q", 1)


@conversation("queue: nowait", "with nowait nothing is answered", DECLARE)
def declare_nowait(talk: Talk) -> None:
    """The queue is there all the same."""
    client = talk.client()
    client.tell(1, "queue.declare", queue="q", nowait=True)
    client.quiet()
    client.ask(1, "queue.declare", queue="q", passive=True)


@conversation("queue: nowait and an error", "errors are told even with nowait", DECLARE)
def declare_nowait_error(talk: Talk) -> None:
    """Not equivalent."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q")
    client.tell(1, "queue.declare", queue="q", durable=True, nowait=True)
    client.hear()


@conversation("queue: counts in declare-ok", "declare-ok tells ready messages and consumers", DECLARE)
def counts(talk: Talk) -> None:
    """Three messages, one of them unacknowledged, then a consumer that takes the rest."""
    client = talk.client(channels=(1, 2))
    client.ask(1, "queue.declare", queue="q")
    client.say(*[publish(1, "", "q", text) for text in (b"1", b"2", b"3")])
    client.until_ready("q", 3)
    client.ask(2, "basic.get", queue="q")
    client.ask(1, "queue.declare", queue="q")
    client.ask(2, "basic.consume", queue="q", consumer_tag="c")
    client.hear(2)
    client.ask(1, "queue.declare", queue="q")


def locked(name: str, rule: str, method_name: str, **arguments: object) -> None:
    """Registers a method of another connection on an exclusive queue."""

    def start(talk: Talk) -> None:
        owner = talk.client("a")
        owner.ask(1, "queue.declare", queue="q", exclusive=True)
        other = talk.client("b")
        other.ask(1, method_name, **arguments)

    add("queue_declare", f"exclusive: {name} by another connection", rule, EXCLUSIVE, start)


LOCKED = "an exclusive queue is its connection's alone"
locked("queue.declare", LOCKED, "queue.declare", queue="q", exclusive=True)
locked("queue.declare not exclusive", LOCKED, "queue.declare", queue="q")
locked("queue.declare with other flags", LOCKED, "queue.declare", queue="q", durable=True, auto_delete=True)
locked("passive queue.declare", LOCKED, "queue.declare", queue="q", passive=True)
locked("queue.bind", LOCKED, "queue.bind", queue="q", exchange="amq.direct", routing_key="k")
locked("queue.unbind", LOCKED, "queue.unbind", queue="q", exchange="amq.direct", routing_key="k")
locked("queue.purge", LOCKED, "queue.purge", queue="q")
locked("queue.delete", LOCKED, "queue.delete", queue="q")
locked("basic.consume", LOCKED, "basic.consume", queue="q")
locked("basic.get", LOCKED, "basic.get", queue="q")


@conversation(
    "exclusive: queue.unbind of a binding by another connection",
    "an exclusive queue is its connection's alone",
    EXCLUSIVE,
)
def unbind_exclusive(talk: Talk) -> None:
    """The binding exists."""
    owner = talk.client("a")
    owner.ask(1, "queue.declare", queue="q", exclusive=True)
    owner.ask(1, "queue.bind", queue="q", exchange="amq.direct", routing_key="k")
    other = talk.client("b")
    other.ask(1, "queue.unbind", queue="q", exchange="amq.direct", routing_key="k")


@conversation("exclusive: publish by another connection", "anybody may publish to an exclusive queue", EXCLUSIVE)
def publish_exclusive(talk: Talk) -> None:
    """Through the default exchange."""
    owner = talk.client("a")
    owner.ask(1, "queue.declare", queue="q", exclusive=True)
    other = talk.client("b")
    other.ask(1, "confirm.select")
    other.say(publish(1, "", "q", b"hi", mandatory=True))
    other.hear()
    owner.ask(1, "basic.get", queue="q", no_ack=True)


@conversation("exclusive: gone with its connection", "an exclusive queue goes when its connection does", EXCLUSIVE)
def exclusive_goes(talk: Talk) -> None:
    """The connection is closed in order."""
    owner = talk.client("a")
    owner.ask(1, "queue.declare", queue="q", exclusive=True)
    owner.shut()
    other = talk.client("b")
    other.ask(1, "queue.declare", queue="q", passive=True)


@conversation(
    "exclusive: stays when its channel closes",
    "an exclusive queue belongs to the connection, not to the channel",
    EXCLUSIVE,
)
def exclusive_stays(talk: Talk) -> None:
    """Declared on channel 1, used on channel 2."""
    client = talk.client(channels=(1, 2))
    client.ask(1, "queue.declare", queue="q", exclusive=True)
    client.ask(1, "channel.close", reply_code=200)
    client.ask(2, "queue.declare", queue="q", passive=True)


AUTO_DELETE = "AMQP 0-9-1 queue.declare, auto-delete; RabbitMQ docs, Queues"


@conversation("auto-delete: last consumer cancels", "an auto-delete queue goes with its last consumer", AUTO_DELETE)
def auto_delete_cancel(talk: Talk) -> None:
    """Two consumers."""
    client = talk.client(channels=(1, 2))
    client.ask(1, "queue.declare", queue="q", auto_delete=True)
    for tag in ("c1", "c2"):
        client.ask(1, "basic.consume", queue="q", consumer_tag=tag)
    client.ask(1, "basic.cancel", consumer_tag="c1")
    client.ask(2, "queue.declare", queue="q", passive=True)
    client.ask(1, "basic.cancel", consumer_tag="c2")
    client.ask(2, "queue.declare", queue="q", passive=True)


@conversation("auto-delete: last channel closes", "closing a channel cancels its consumers", AUTO_DELETE)
def auto_delete_channel(talk: Talk) -> None:
    """The other channel finds nothing."""
    client = talk.client(channels=(1, 2))
    client.ask(1, "queue.declare", queue="q", auto_delete=True)
    client.ask(1, "basic.consume", queue="q", consumer_tag="c")
    client.ask(1, "channel.close", reply_code=200)
    client.ask(2, "queue.declare", queue="q", passive=True)


@conversation(
    "auto-delete: never consumed",
    "an auto-delete queue without a consumer stays; basic.get does not count",
    AUTO_DELETE,
)
def auto_delete_unused(talk: Talk) -> None:
    """Got from and asked for over another connection."""
    client = talk.client("a")
    client.ask(1, "queue.declare", queue="q", auto_delete=True)
    client.ask(1, "basic.get", queue="q")
    client.shut()
    other = talk.client("b")
    other.ask(1, "queue.declare", queue="q", passive=True)


@conversation(
    "pipelined declares", "methods of one channel are done in order, answers come in order", "AMQP 0-9-1 §2.2.5, §4.7"
)
def pipelined(talk: Talk) -> None:
    """Five methods in one write."""
    client = talk.client()
    client.say(
        method(1, "queue.declare", queue="q"),
        method(1, "queue.bind", queue="q", exchange="amq.direct", routing_key="q"), publish(1, "amq.direct", "q", b"1"),
        method(1, "queue.unbind", queue="q", exchange="amq.direct", routing_key="q"),
        method(1, "queue.delete", queue="q"),
    )  # fmt: skip
    client.hear(4)
