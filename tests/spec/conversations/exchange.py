"""Exchanges: declare, delete, bind, unbind, and routing (AMQP 0-9-1 class exchange; RabbitMQ docs, Exchanges, Alternate
Exchanges)."""

from __future__ import annotations

import re

from tests.spec.talk import Departure, Talk, add, conversation
from tests.support.wire import Typed, publish

DECLARE = "AMQP 0-9-1 exchange.declare"
EQUIVALENT = "AMQP 0-9-1 exchange.declare, rule equivalent"
DELETE = "AMQP 0-9-1 exchange.delete"
BIND = "RabbitMQ docs, Exchange to Exchange Bindings"
ALTERNATE = "RabbitMQ docs, Alternate Exchanges"


def declares(
    name: str, rule: str, source: str, *declarations: dict[str, object], leveret: Departure | None = None
) -> None:
    """Registers exchange.declare methods, one after the other."""

    def start(talk: Talk) -> None:
        client = talk.client()
        for arguments in declarations:
            client.ask(1, "exchange.declare", **arguments)

    add("exchange", name, rule, source, start, leveret)


X: dict[str, object] = {"exchange": "x", "type": "direct"}
for kind in ("direct", "fanout", "topic", "headers"):
    declares(f"declare: {kind}", "the four standard types exist", DECLARE, {"exchange": "x", "type": kind})
declares("declare: again", "declaring an equal exchange again changes nothing", EQUIVALENT, X, X)
declares("declare: type differs", "type has to be equal", EQUIVALENT, X, X | {"type": "topic"})
declares("declare: durable differs", "durable has to be equal", EQUIVALENT, X, X | {"durable": True})
declares("declare: durable is not transient", "durable has to be equal", EQUIVALENT, X | {"durable": True}, X)
declares("declare: auto_delete differs", "auto_delete has to be equal", EQUIVALENT, X, X | {"auto_delete": True})
declares("declare: internal differs", "internal has to be equal", EQUIVALENT, X, X | {"internal": True})
declares(
    "declare: several differ",
    "the first difference is told: type, durable, auto_delete, internal, arguments",
    EQUIVALENT,
    X,
    X | {"internal": True, "auto_delete": True, "durable": True},
)
declares(
    "declare: type and durable differ",
    "the first difference is told",
    EQUIVALENT,
    X,
    X | {"type": "fanout", "durable": True},
)
declares(
    "declare: other arguments differ",
    "only alternate-exchange is compared",
    EQUIVALENT,
    X | {"arguments": {"x-a": 1}},
    X | {"arguments": {"x-b": "2"}},
)
AE: dict[str, object] = {"arguments": {"alternate-exchange": "ae"}}
declares("declare: alternate-exchange added", "alternate-exchange has to be equal", EQUIVALENT, X, X | AE)
declares("declare: alternate-exchange left out", "alternate-exchange has to be equal", EQUIVALENT, X | AE, X)
declares(
    "declare: alternate-exchange differs",
    "alternate-exchange has to be equal",
    EQUIVALENT,
    X | AE,
    X | {"arguments": {"alternate-exchange": "other"}},
)
declares("declare: alternate-exchange again", "alternate-exchange has to be equal", EQUIVALENT, X | AE, X | AE)
declares(
    "declare: alternate-exchange is a number",
    "an alternate exchange is a name",
    ALTERNATE,
    X | {"arguments": {"alternate-exchange": 5}},
)
declares(
    "declare: alternate-exchange does not exist",
    "the alternate exchange need not exist",
    ALTERNATE,
    X | {"arguments": {"alternate-exchange": "never"}},
)
declares(
    "declare: x-alternate-exchange", "the argument has no x-", ALTERNATE, X | {"arguments": {"x-alternate-exchange": 5}}
)


def unknown_type(kind: str, *before: str) -> Departure:
    """RabbitMQ 3.13's answer to an unknown type."""
    text = f"PRECONDITION_FAILED - unknown exchange type '{kind}'"
    close = f"< a1 channel.close reply_code=406 reply_text={text!r} class_id=40 method_id=10"
    return Departure("RabbitMQ 3.13 and later close the channel only", (*before, close))


TYPES = "RabbitMQ docs, Exchanges, Exchange Types"
CHANNEL_ERROR = "an unknown type is an error of the channel"
declares(
    "declare: unknown type", CHANNEL_ERROR, TYPES, {"exchange": "x", "type": "nosuch"}, leveret=unknown_type("nosuch")
)
declares("declare: empty type", CHANNEL_ERROR, TYPES, {"exchange": "x", "type": ""}, leveret=unknown_type(""))
declares(
    "declare: unknown type of an existing exchange",
    "the type is looked at before the exchange",
    EQUIVALENT,
    X,
    X | {"type": "nosuch"},
    leveret=unknown_type("nosuch", "< a1 exchange.declare-ok"),
)
declares(
    "declare: reserved name",
    "names that start with amq. are the broker's",
    DECLARE,
    {"exchange": "amq.mine", "type": "direct"},
)
declares(
    "declare: amq. alone",
    "names that start with amq. are the broker's",
    DECLARE,
    {"exchange": "amq.", "type": "direct"},
)
declares("declare: amq without dot", "only amq. is reserved", DECLARE, {"exchange": "amqmine", "type": "direct"})
declares(
    "declare: amq.direct as it is",
    "the standard exchanges may be declared as they are",
    DECLARE,
    {"exchange": "amq.direct", "type": "direct", "durable": True},
)
declares(
    "declare: amq.direct as topic",
    "the standard exchanges have their type",
    DECLARE,
    {"exchange": "amq.direct", "type": "topic", "durable": True},
)
declares(
    "declare: amq.direct transient",
    "the standard exchanges are durable",
    DECLARE,
    {"exchange": "amq.direct", "type": "direct"},
)
for standard in (
    "amq.direct",
    "amq.fanout",
    "amq.topic",
    "amq.headers",
    "amq.match",
    "amq.rabbitmq.trace",
    "amq.rabbitmq.log",
    "amq.rabbitmq.event",
):
    declares(
        f"declare: passive {standard}", "the standard exchanges exist", DECLARE, {"exchange": standard, "passive": True}
    )
declares(
    "declare: amq.rabbitmq.trace as it is",
    "the firehose's exchange is an internal topic",
    "RabbitMQ docs, Firehose",
    {"exchange": "amq.rabbitmq.trace", "type": "topic", "durable": True, "internal": True},
)
declares(
    "declare: the default exchange",
    "the default exchange is not declared",
    DECLARE,
    {"exchange": "", "type": "direct", "durable": True},
)
declares(
    "declare: the default exchange passively",
    "the default exchange is not declared",
    DECLARE,
    {"exchange": "", "passive": True},
)
declares(
    "declare: passive and missing", "passive asks whether it exists", DECLARE, {"exchange": "missing", "passive": True}
)
declares(
    "declare: passive, everything differs",
    "passive looks at the name alone",
    DECLARE,
    X,
    X | {"passive": True, "type": "nosuch", "durable": True, "internal": True},
)
declares(
    "declare: line ends in the name",
    "CR and LF are taken out of names",
    "RabbitMQ behaviour",
    {"exchange": "x\r\ny", "type": "direct"},
    {"exchange": "xy", "passive": True},
)
declares(
    "declare: name of 255 octets",
    "a name may fill a short string",
    DECLARE,
    {"exchange": "x" * 255, "type": "direct"},
    {"exchange": "x" * 255, "passive": True},
)
declares(
    "declare: blanks in the name",
    "RabbitMQ takes any octet in names",
    DECLARE,
    {"exchange": " x/y:z ", "type": "direct"},
)


@conversation("declare: nowait", "with nowait nothing is answered", DECLARE)
def declare_nowait(talk: Talk) -> None:
    """The exchange is there all the same."""
    client = talk.client()
    client.tell(1, "exchange.declare", exchange="x", type="direct", nowait=True)
    client.quiet()
    client.ask(1, "exchange.declare", exchange="x", passive=True)


@conversation("declare: nowait and an error", "errors are told even with nowait", DECLARE)
def declare_nowait_error(talk: Talk) -> None:
    """Another type."""
    client = talk.client()
    client.ask(1, "exchange.declare", exchange="x", type="direct")
    client.tell(1, "exchange.declare", exchange="x", type="topic", nowait=True)
    client.hear()


# delete


@conversation("delete", "a deleted exchange is gone", DELETE)
def delete(talk: Talk) -> None:
    """Asked for passively."""
    client = talk.client()
    client.ask(1, "exchange.declare", exchange="x", type="direct")
    client.ask(1, "exchange.delete", exchange="x")
    client.ask(1, "exchange.declare", exchange="x", passive=True)


def deletes(name: str, rule: str, **arguments: object) -> None:
    """Registers one exchange.delete."""

    def start(talk: Talk) -> None:
        client = talk.client()
        client.ask(1, "exchange.delete", **arguments)

    add("exchange", name, rule, DELETE, start)


deletes("delete: missing", "deleting what is not there succeeds", exchange="missing")
deletes("delete: missing, if_unused", "deleting what is not there succeeds", exchange="missing", if_unused=True)
deletes("delete: the default exchange", "the default exchange cannot be deleted", exchange="")
deletes("delete: amq.direct", "the standard exchanges cannot be deleted", exchange="amq.direct")
deletes("delete: amq. and missing", "the name is judged before it is looked for", exchange="amq.missing")


@conversation("delete: if_unused and bound", "if_unused refuses while the exchange has bindings", DELETE)
def delete_used(talk: Talk) -> None:
    """One queue is bound."""
    client = talk.client()
    client.ask(1, "exchange.declare", exchange="x", type="direct")
    client.ask(1, "queue.declare", queue="q")
    client.ask(1, "queue.bind", queue="q", exchange="x", routing_key="k")
    client.ask(1, "exchange.delete", exchange="x", if_unused=True)


@conversation("delete: if_unused and only a destination", "being bound to another exchange is no use", DELETE)
def delete_destination(talk: Talk) -> None:
    """Bindings where the exchange is the source count."""
    client = talk.client()
    client.ask(1, "exchange.declare", exchange="x", type="direct")
    client.ask(1, "exchange.bind", destination="x", source="amq.direct", routing_key="k")
    client.ask(1, "exchange.delete", exchange="x", if_unused=True)


@conversation("delete: bindings go too", "an exchange declared again has no bindings", DELETE)
def delete_with_bindings(talk: Talk) -> None:
    """A mandatory publish comes back."""
    client = talk.client()
    client.ask(1, "exchange.declare", exchange="x", type="fanout")
    client.ask(1, "queue.declare", queue="q")
    client.ask(1, "queue.bind", queue="q", exchange="x")
    client.ask(1, "exchange.delete", exchange="x")
    client.ask(1, "exchange.declare", exchange="x", type="fanout")
    client.say(publish(1, "x", "k", b"hi", mandatory=True))
    client.hear()


@conversation("delete: nowait", "with nowait nothing is answered", DELETE)
def delete_nowait(talk: Talk) -> None:
    """Gone all the same."""
    client = talk.client()
    client.ask(1, "exchange.declare", exchange="x", type="direct")
    client.tell(1, "exchange.delete", exchange="x", nowait=True)
    client.ask(1, "exchange.declare", exchange="x", passive=True)


@conversation(
    "auto-delete: last binding goes",
    "an auto-delete exchange goes with its last binding",
    "AMQP 0-9-1 exchange.declare auto-delete (AMQP 0-9); RabbitMQ docs, Exchanges",
)
def auto_delete(talk: Talk) -> None:
    """Two bindings of one queue."""
    client = talk.client()
    client.ask(1, "exchange.declare", exchange="x", type="direct", auto_delete=True)
    client.ask(1, "queue.declare", queue="q")
    client.ask(1, "queue.bind", queue="q", exchange="x", routing_key="1")
    client.ask(1, "queue.bind", queue="q", exchange="x", routing_key="2")
    client.ask(1, "queue.unbind", queue="q", exchange="x", routing_key="1")
    client.ask(1, "exchange.declare", exchange="x", passive=True)
    client.ask(1, "queue.unbind", queue="q", exchange="x", routing_key="2")
    client.ask(1, "exchange.declare", exchange="x", passive=True)


@conversation(
    "auto-delete: never bound", "an auto-delete exchange that never had a binding stays", "RabbitMQ docs, Exchanges"
)
def auto_delete_unbound(talk: Talk) -> None:
    """Unbinding what is not bound is no last binding."""
    client = talk.client()
    client.ask(1, "exchange.declare", exchange="x", type="direct", auto_delete=True)
    client.ask(1, "queue.declare", queue="q")
    client.ask(1, "queue.unbind", queue="q", exchange="x", routing_key="1")
    client.ask(1, "exchange.declare", exchange="x", passive=True)


@conversation(
    "auto-delete: with the queue", "deleting the last bound queue deletes the exchange", "RabbitMQ docs, Exchanges"
)
def auto_delete_with_queue(talk: Talk) -> None:
    """The queue is deleted."""
    client = talk.client()
    client.ask(1, "exchange.declare", exchange="x", type="direct", auto_delete=True)
    client.ask(1, "queue.declare", queue="q")
    client.ask(1, "queue.bind", queue="q", exchange="x", routing_key="1")
    client.ask(1, "queue.delete", queue="q")
    client.ask(1, "exchange.declare", exchange="x", passive=True)


# bind and unbind


@conversation(
    "bind: messages take both steps", "a message goes through bound exchanges, each queue gets one copy", BIND
)
def bind(talk: Talk) -> None:
    """Two ways lead to the same queue; a cycle leads back."""
    client = talk.client()
    for exchange in ("x1", "x2"):
        client.ask(1, "exchange.declare", exchange=exchange, type="fanout")
    client.ask(1, "queue.declare", queue="q")
    client.ask(1, "exchange.bind", destination="x2", source="x1")
    client.ask(1, "exchange.bind", destination="x1", source="x2")
    client.ask(1, "queue.bind", queue="q", exchange="x1")
    client.ask(1, "queue.bind", queue="q", exchange="x2")
    client.say(publish(1, "x1", "k", b"hi"))
    client.until_ready("q", 1)
    client.ask(1, "basic.get", queue="q", no_ack=True)
    client.ask(1, "basic.get", queue="q", no_ack=True)


def binds(name: str, rule: str, method_name: str, read_at: str, **arguments: object) -> None:
    """Registers one exchange.bind or unbind."""

    def start(talk: Talk) -> None:
        client = talk.client()
        client.ask(1, method_name, **arguments)

    add("exchange", name, rule, read_at, start)


for verb in ("bind", "unbind"):
    binds(
        f"{verb}: missing source",
        "both exchanges exist",
        f"exchange.{verb}",
        BIND,
        destination="amq.direct",
        source="missing",
        routing_key="k",
    )
    binds(
        f"{verb}: missing destination",
        "both exchanges exist",
        f"exchange.{verb}",
        BIND,
        destination="missing",
        source="amq.direct",
        routing_key="k",
    )
    binds(
        f"{verb}: both missing",
        "both exchanges exist",
        f"exchange.{verb}",
        BIND,
        destination="missing2",
        source="missing1",
        routing_key="k",
    )
    binds(
        f"{verb}: the default exchange as source",
        "the default exchange has its own bindings only",
        f"exchange.{verb}",
        BIND,
        destination="amq.direct",
        source="",
        routing_key="k",
    )
    binds(
        f"{verb}: the default exchange as destination",
        "the default exchange has its own bindings only",
        f"exchange.{verb}",
        BIND,
        destination="",
        source="amq.direct",
        routing_key="k",
    )


@conversation("bind: to itself", "an exchange may be bound to itself", BIND)
def bind_to_itself(talk: Talk) -> None:
    """A message goes round once."""
    client = talk.client()
    client.ask(1, "exchange.declare", exchange="x", type="fanout")
    client.ask(1, "exchange.bind", destination="x", source="x")
    client.ask(1, "queue.declare", queue="q")
    client.ask(1, "queue.bind", queue="q", exchange="x")
    client.say(publish(1, "x", "k", b"hi"))
    client.until_ready("q", 1)


@conversation("bind: an internal exchange as source", "internal exchanges take bindings", BIND)
def bind_internal(talk: Talk) -> None:
    """The firehose's exchange."""
    client = talk.client()
    client.ask(1, "exchange.declare", exchange="x", type="fanout")
    client.ask(1, "exchange.bind", destination="x", source="amq.rabbitmq.trace", routing_key="#")


binds(
    "unbind: no such binding",
    "unbinding what is not bound succeeds",
    "exchange.unbind",
    BIND,
    destination="amq.fanout",
    source="amq.direct",
    routing_key="never",
)
binds(
    "bind: bad x-match",
    "x-match is all, any, all-with-x or any-with-x",
    "exchange.bind",
    "RabbitMQ docs, headers exchange",
    destination="amq.fanout",
    source="amq.headers",
    arguments={"x-match": "some"},
)
binds(
    "bind: x-match is a number",
    "x-match is a string",
    "exchange.bind",
    "RabbitMQ docs, headers exchange",
    destination="amq.fanout",
    source="amq.headers",
    arguments={"x-match": 1},
)


@conversation("bind: nowait and twice", "binding twice is binding once", BIND)
def bind_twice(talk: Talk) -> None:
    """The second unbind finds nothing and succeeds."""
    client = talk.client()
    client.ask(1, "exchange.declare", exchange="x", type="fanout")
    client.tell(1, "exchange.bind", destination="x", source="amq.fanout", nowait=True)
    client.ask(1, "exchange.bind", destination="x", source="amq.fanout")
    client.ask(1, "exchange.unbind", destination="x", source="amq.fanout")
    client.ask(1, "exchange.unbind", destination="x", source="amq.fanout")


@conversation(
    "internal exchange: publish",
    "clients do not publish to internal exchanges",
    "RabbitMQ docs, Exchange to Exchange Bindings",
)
def publish_internal(talk: Talk) -> None:
    """Reached through another exchange only."""
    client = talk.client()
    client.ask(1, "exchange.declare", exchange="x", type="fanout", internal=True)
    client.say(publish(1, "x", "k", b"hi"))
    client.hear()


# routing


@conversation(
    "topic: words and wildcards", "* is one word, # any number of words, words are split by dots", "AMQP 0-9-1 §3.1.3.3"
)
def topic(talk: Talk) -> None:
    """Each binding key is tried with each routing key."""
    client = talk.client()
    client.ask(1, "exchange.declare", exchange="x", type="topic")
    keys = ("", ".", "a", "a.b", "a.b.c", "a..b", ".a", "a.", "b.a")
    for pattern in (
        "#",
        "*",
        "",
        "a",
        "*.b",
        "a.#",
        "#.a",
        "a.*.b",
        "#.b.#",
        "a.#.c",
        "**",
        "a*",
        ".#",
        "#.#",
        "*.*",
        "*.#",
    ):
        client.client.ask(1, "queue.declare", queue="q")
        client.client.ask(1, "queue.bind", queue="q", exchange="x", routing_key=pattern)
        client.client.ask(1, "confirm.select")
        matched = []
        for key in keys:
            client.client.send(publish(1, "x", key, b"", mandatory=True))
            came_back = client.client.read().method.name == "basic.return"
            if came_back:
                client.client.expect("basic.ack", 1)
            else:
                matched.append(key)
        client.client.ask(1, "queue.delete", queue="q")
        talk.write(f"= binding key {pattern!r} takes {matched}")


def doubles_differ(line: str) -> str:
    """The line without a double among the integers."""
    return line.replace("'a=1.0', ", "") if re.match(r"= binding [^[]*a=1[^[]*\[", line) else line


@conversation(
    "headers: matching",
    "all or any of the binding's headers, by type and value; x- names and void values are special",
    "RabbitMQ docs, headers exchange",
    leveret=Departure("RabbitMQ 3.13 tells the double 1.0 from the integer 1", rewrite=doubles_differ),
)
def headers(talk: Talk) -> None:
    """Each binding is tried with each set of headers."""
    client = talk.client()
    client.ask(1, "exchange.declare", exchange="x", type="headers")
    messages: dict[str, dict[str, object] | None] = {
        "no headers property": None, "empty": {}, "a=1": {"a": 1}, "a=2": {"a": 2}, "a='1'": {"a": "1"},
        "a=1 as 64 bits": {"a": Typed("l", 1)}, "a=1 as 8 bits": {"a": Typed("b", 1)},
        "a=1 as unsigned 16": {"a": Typed("u", 1)}, "a=1.0": {"a": 1.0}, "a=1 b=2": {"a": 1, "b": 2},
        "a=void": {"a": None}, "a=true": {"a": True}, "x-c=3": {"x-c": 3}, "a=1 x-c=3": {"a": 1, "x-c": 3},
    }  # fmt: skip
    bindings: dict[str, dict[str, object]] = {
        "none": {}, "any of none": {"x-match": "any"}, "all a=1": {"x-match": "all", "a": 1},
        "default a=1 b=2": {"a": 1, "b": 2}, "any a=1 b=2": {"x-match": "any", "a": 1, "b": 2},
        "all a=void": {"a": None}, "all a=1 as 64 bits": {"a": Typed("l", 1)}, "all x-c=4": {"x-c": 4},
        "any x-c=3": {"x-match": "any", "x-c": 3},
    }  # fmt: skip
    for label, arguments in bindings.items():
        client.client.ask(1, "queue.declare", queue="q")
        client.client.ask(1, "queue.bind", queue="q", exchange="x", arguments=arguments)
        client.client.ask(1, "confirm.select")
        matched = []
        for name, fields in messages.items():
            client.client.send(
                publish(1, "x", "k", b"", mandatory=True, properties={} if fields is None else {"headers": fields})
            )
            if client.client.read().method.name == "basic.return":
                client.client.expect("basic.ack", 1)
            else:
                matched.append(name)
        client.client.ask(1, "queue.delete", queue="q")
        talk.write(f"= binding {label} takes {matched}")


@conversation("headers: with x", "all-with-x and any-with-x look at x- names too", "RabbitMQ docs, headers exchange")
def headers_with_x(talk: Talk) -> None:
    """Newer than RabbitMQ 3.9."""
    client = talk.client()
    client.ask(1, "exchange.declare", exchange="x", type="headers")
    client.ask(1, "queue.declare", queue="q")
    client.ask(1, "queue.bind", queue="q", exchange="x", arguments={"x-match": "all-with-x", "x-c": 3})
    client.say(publish(1, "x", "k", b"", mandatory=True, properties={"headers": {"x-c": 4}}))
    client.hear()


@conversation("alternate exchange", "what an exchange cannot route goes to its alternate exchange", ALTERNATE)
def alternate(talk: Talk) -> None:
    """Not returned, though mandatory; the exchange on the delivery is the first one."""
    client = talk.client()
    client.ask(1, "exchange.declare", exchange="ae", type="fanout")
    client.ask(1, "exchange.declare", exchange="x", type="direct", arguments={"alternate-exchange": "ae"})
    client.ask(1, "queue.declare", queue="q")
    client.ask(1, "queue.bind", queue="q", exchange="ae")
    client.say(publish(1, "x", "lost", b"hi", mandatory=True))
    client.until_ready("q", 1)
    client.ask(1, "basic.get", queue="q", no_ack=True)


@conversation(
    "alternate exchange: routes nothing either",
    "a mandatory message comes back when no exchange of the chain routes it",
    ALTERNATE,
)
def alternate_unroutable(talk: Talk) -> None:
    """Two exchanges that are each other's alternate."""
    client = talk.client()
    client.ask(1, "exchange.declare", exchange="ae", type="fanout", arguments={"alternate-exchange": "x"})
    client.ask(1, "exchange.declare", exchange="x", type="direct", arguments={"alternate-exchange": "ae"})
    client.say(publish(1, "x", "lost", b"hi", mandatory=True))
    client.hear()


@conversation("alternate exchange: missing", "a missing alternate exchange routes nothing", ALTERNATE)
def alternate_missing(talk: Talk) -> None:
    """Mandatory, so it comes back."""
    client = talk.client()
    client.ask(1, "exchange.declare", exchange="x", type="direct", arguments={"alternate-exchange": "missing"})
    client.say(publish(1, "x", "lost", b"hi", mandatory=True))
    client.hear()


@conversation(
    "CC and BCC",
    "CC and BCC headers are more routing keys; BCC is taken out before delivery",
    "RabbitMQ docs, Sender-selected Distribution",
)
def carbon_copies(talk: Talk) -> None:
    """One queue is named twice and gets one copy; the delivery's routing key is the publish's."""
    client = talk.client()
    for queue in ("q1", "q2", "q3"):
        client.ask(1, "queue.declare", queue=queue)
    client.say(publish(1, "", "q1", b"hi", properties={"headers": {"CC": ["q2", "q1"], "BCC": ["q3"], "other": 1}}))
    for queue in ("q1", "q2", "q3"):
        client.until_ready(queue, 1)
        client.ask(1, "basic.get", queue=queue, no_ack=True)


def carbon(name: str, headers_sent: dict[str, object]) -> None:
    """Registers a publish with CC or BCC of a wrong type."""

    def start(talk: Talk) -> None:
        client = talk.client()
        client.say(publish(1, "", "nowhere", b"hi", properties={"headers": headers_sent}))
        client.quiet()

    add(
        "exchange",
        f"CC: {name}",
        "CC and BCC are arrays of strings",
        "RabbitMQ docs, Sender-selected Distribution",
        start,
    )


carbon("a string", {"CC": "q"})
carbon("an array of numbers", {"CC": [1]})
carbon("an array of mixed values", {"CC": ["q", 1]})
carbon("BCC a string", {"BCC": "q"})
carbon("void", {"CC": None})
carbon("an empty array", {"CC": []})
carbon("lower case", {"cc": "q"})
