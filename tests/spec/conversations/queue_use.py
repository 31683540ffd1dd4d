"""queue.bind, unbind, purge and delete (AMQP 0-9-1 class queue)."""

from __future__ import annotations

from tests.spec.talk import Talk, add, conversation
from tests.support.wire import publish

BIND = "AMQP 0-9-1 queue.bind"
UNBIND = "AMQP 0-9-1 queue.unbind"
PURGE = "AMQP 0-9-1 queue.purge"
DELETE = "AMQP 0-9-1 queue.delete"


def asks(name: str, rule: str, source: str, method_name: str, **arguments: object) -> None:
    """Registers one method, with a queue q that exists."""

    def start(talk: Talk) -> None:
        client = talk.client()
        client.ask(1, "queue.declare", queue="q")
        client.ask(1, method_name, **arguments)

    add("queue_use", name, rule, source, start)


asks(
    "bind: missing exchange",
    "queue and exchange exist",
    BIND,
    "queue.bind",
    queue="q",
    exchange="missing",
    routing_key="k",
)
asks(
    "bind: missing queue",
    "queue and exchange exist",
    BIND,
    "queue.bind",
    queue="missing",
    exchange="amq.direct",
    routing_key="k",
)
asks(
    "bind: both missing, queue",
    "which one is told first",
    BIND,
    "queue.bind",
    queue="missing1",
    exchange="missing2",
    routing_key="k",
)
asks(
    "bind queue: the default exchange",
    "the default exchange has its own bindings only",
    BIND,
    "queue.bind",
    queue="q",
    exchange="",
    routing_key="k",
)
asks(
    "bind: the default exchange and a missing queue",
    "the default exchange has its own bindings only",
    BIND,
    "queue.bind",
    queue="missing",
    exchange="",
    routing_key="k",
)
asks(
    "bind: an internal exchange",
    "internal exchanges take bindings",
    BIND,
    "queue.bind",
    queue="q",
    exchange="amq.rabbitmq.trace",
    routing_key="#",
)
asks(
    "bind queue: bad x-match",
    "x-match is all, any, all-with-x or any-with-x",
    BIND,
    "queue.bind",
    queue="q",
    exchange="amq.headers",
    arguments={"x-match": "none"},
)
asks(
    "bind: any arguments",
    "arguments are part of the binding, whatever they are",
    BIND,
    "queue.bind",
    queue="q",
    exchange="amq.direct",
    routing_key="k",
    arguments={"a": [1, None, {"b": "c"}]},
)
asks(
    "bind: line ends in the names",
    "CR and LF are taken out of names",
    "RabbitMQ behaviour",
    "queue.bind",
    queue="q\r\n",
    exchange="amq.\ndirect",
    routing_key="k\r\n",
)
asks(
    "unbind: missing exchange",
    "unbinding what is not bound succeeds",
    UNBIND,
    "queue.unbind",
    queue="q",
    exchange="missing",
    routing_key="k",
)
asks(
    "unbind: missing queue",
    "unbinding what is not bound succeeds",
    UNBIND,
    "queue.unbind",
    queue="missing",
    exchange="amq.direct",
    routing_key="k",
)
asks(
    "unbind: both missing, queue",
    "unbinding what is not bound succeeds",
    UNBIND,
    "queue.unbind",
    queue="missing1",
    exchange="missing2",
    routing_key="k",
)
asks(
    "unbind queue: the default exchange",
    "the default exchange has its own bindings only",
    UNBIND,
    "queue.unbind",
    queue="q",
    exchange="",
    routing_key="q",
)
asks(
    "unbind: never bound",
    "unbinding what is not bound succeeds",
    UNBIND,
    "queue.unbind",
    queue="q",
    exchange="amq.direct",
    routing_key="never",
)
asks("purge: empty", "purge-ok counts what was thrown away", PURGE, "queue.purge", queue="q")
asks("purge: missing", "the queue exists", PURGE, "queue.purge", queue="missing")
asks("delete: empty queue", "delete-ok counts what was thrown away", DELETE, "queue.delete", queue="q")
asks("delete: missing queue", "deleting what is not there succeeds", DELETE, "queue.delete", queue="missing")
asks(
    "delete: missing queue, if_unused and if_empty",
    "deleting what is not there succeeds",
    DELETE,
    "queue.delete",
    queue="missing",
    if_unused=True,
    if_empty=True,
)
asks(
    "delete: if_unused and if_empty",
    "an unused and empty queue goes",
    DELETE,
    "queue.delete",
    queue="q",
    if_unused=True,
    if_empty=True,
)
asks(
    "delete: line ends in the name",
    "CR and LF are taken out of names",
    "RabbitMQ behaviour",
    "queue.delete",
    queue="q\r\n",
)


@conversation("bind: twice", "binding twice is binding once", BIND)
def bind_twice(talk: Talk) -> None:
    """One copy arrives; one unbind is enough."""
    client = talk.client()
    client.ask(1, "exchange.declare", exchange="x", type="direct")
    client.ask(1, "queue.declare", queue="q")
    client.ask(1, "queue.bind", queue="q", exchange="x", routing_key="k")
    client.ask(1, "queue.bind", queue="q", exchange="x", routing_key="k")
    client.say(publish(1, "x", "k", b"hi"))
    client.until_ready("q", 1)
    client.ask(1, "queue.unbind", queue="q", exchange="x", routing_key="k")
    client.say(publish(1, "x", "k", b"hi", mandatory=True))
    client.hear()


@conversation("bind: arguments tell bindings apart", "a binding is source, destination, key and arguments", BIND)
def bind_arguments(talk: Talk) -> None:
    """The first is taken away, the second still routes."""
    client = talk.client()
    client.ask(1, "exchange.declare", exchange="x", type="direct")
    client.ask(1, "queue.declare", queue="q")
    client.ask(1, "queue.bind", queue="q", exchange="x", routing_key="k", arguments={"a": 1})
    client.ask(1, "queue.bind", queue="q", exchange="x", routing_key="k", arguments={"a": 2})
    client.ask(1, "queue.unbind", queue="q", exchange="x", routing_key="k", arguments={"a": 1})
    client.say(publish(1, "x", "k", b"hi", mandatory=True))
    client.until_ready("q", 1)
    client.ask(1, "queue.unbind", queue="q", exchange="x", routing_key="k", arguments={"a": 2})
    client.say(publish(1, "x", "k", b"hi", mandatory=True))
    client.hear()


@conversation("bind: nowait", "with nowait nothing is answered", BIND)
def bind_nowait(talk: Talk) -> None:
    """The binding is there all the same."""
    client = talk.client()
    client.ask(1, "exchange.declare", exchange="x", type="direct")
    client.ask(1, "queue.declare", queue="q")
    client.tell(1, "queue.bind", queue="q", exchange="x", routing_key="k", nowait=True)
    client.quiet()
    client.ask(1, "exchange.delete", exchange="x", if_unused=True)


@conversation(
    "bind: several keys of one queue match", "each queue gets one copy", "AMQP 0-9-1 §3.1.1; RabbitMQ docs, Exchanges"
)
def one_copy(talk: Talk) -> None:
    """Three topic patterns match."""
    client = talk.client()
    client.ask(1, "exchange.declare", exchange="x", type="topic")
    client.ask(1, "queue.declare", queue="q")
    for key in ("a.*", "*.b", "#"):
        client.ask(1, "queue.bind", queue="q", exchange="x", routing_key=key)
    client.say(publish(1, "x", "a.b", b"hi"))
    client.until_ready("q", 1)


@conversation("purge: ready messages only", "what is unacknowledged is not purged", PURGE)
def purge(talk: Talk) -> None:
    """Two of three; the third comes back afterwards."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q")
    client.say(*[publish(1, "", "q", text) for text in (b"1", b"2", b"3")])
    client.until_ready("q", 3)
    client.ask(1, "basic.get", queue="q")
    client.ask(1, "queue.purge", queue="q")
    client.tell(1, "basic.reject", delivery_tag=1, requeue=True)
    client.until_ready("q", 1)
    client.ask(1, "basic.get", queue="q")


@conversation("purge: nowait", "with nowait nothing is answered", PURGE)
def purge_nowait(talk: Talk) -> None:
    """Empty all the same."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q")
    client.say(publish(1, "", "q", b"1"))
    client.until_ready("q", 1)
    client.tell(1, "queue.purge", queue="q", nowait=True)
    client.quiet()
    client.ask(1, "queue.declare", queue="q", passive=True)


@conversation("delete: counts", "delete-ok counts ready messages", DELETE)
def delete_counts(talk: Talk) -> None:
    """Two ready and one unacknowledged."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q")
    client.say(*[publish(1, "", "q", text) for text in (b"1", b"2", b"3")])
    client.until_ready("q", 3)
    client.ask(1, "basic.get", queue="q")
    client.ask(1, "queue.delete", queue="q")


@conversation("delete: if_empty and messages", "if_empty refuses while messages are ready", DELETE)
def delete_not_empty(talk: Talk) -> None:
    """One message."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q")
    client.say(publish(1, "", "q", b"1"))
    client.until_ready("q", 1)
    client.ask(1, "queue.delete", queue="q", if_empty=True)


@conversation("delete: if_empty and unacknowledged messages", "unacknowledged messages do not keep a queue", DELETE)
def delete_unacked(talk: Talk) -> None:
    """The only message was got."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q")
    client.say(publish(1, "", "q", b"1"))
    client.until_ready("q", 1)
    client.ask(1, "basic.get", queue="q")
    client.ask(1, "queue.delete", queue="q", if_empty=True)


@conversation("delete: if_unused and a consumer", "if_unused refuses while there are consumers", DELETE)
def delete_in_use(talk: Talk) -> None:
    """One consumer."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q")
    client.ask(1, "basic.consume", queue="q", consumer_tag="c")
    client.ask(1, "queue.delete", queue="q", if_unused=True)


@conversation("delete: if_unused, if_empty, used and full", "emptiness is looked at first", DELETE)
def delete_used_and_full(talk: Talk) -> None:
    """A consumer with a prefetch of one, two messages."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q")
    client.say(publish(1, "", "q", b"1"), publish(1, "", "q", b"2"))
    client.until_ready("q", 2)
    client.ask(1, "basic.qos", prefetch_count=1)
    client.ask(1, "basic.consume", queue="q", consumer_tag="c")
    client.hear()
    client.ask(1, "queue.delete", queue="q", if_unused=True, if_empty=True)


@conversation("delete queue: nowait", "with nowait nothing is answered", DELETE)
def delete_nowait(talk: Talk) -> None:
    """Gone all the same."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q")
    client.tell(1, "queue.delete", queue="q", nowait=True)
    client.quiet()
    client.ask(1, "queue.declare", queue="q", passive=True)


@conversation("delete: bindings go with the queue", "a queue declared again has no bindings", DELETE)
def delete_bindings(talk: Talk) -> None:
    """A mandatory message comes back."""
    client = talk.client()
    client.ask(1, "exchange.declare", exchange="x", type="fanout")
    client.ask(1, "queue.declare", queue="q")
    client.ask(1, "queue.bind", queue="q", exchange="x")
    client.ask(1, "queue.delete", queue="q")
    client.ask(1, "queue.declare", queue="q")
    client.say(publish(1, "x", "", b"1", mandatory=True))
    client.hear()


@conversation("x-expires", "a queue that nobody uses goes after its expiry time", "RabbitMQ docs, TTL, Queue TTL")
def expires(talk: Talk) -> None:
    """Messages do not keep it, a consumer does: first used, then left."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q", arguments={"x-expires": 200})
    client.say(publish(1, "", "q", b"1"))
    client.until_gone("q")
    client.ask(1, "queue.declare", queue="q", passive=True)
