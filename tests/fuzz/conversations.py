"""What a client may say, as lists of frames: the raw material that the fuzzer bends. Every conversation is valid when
it is not bent."""

from __future__ import annotations

from typing import Final

from tests.support.wire import Typed, body, content, header, heartbeat, method, publish

TYPES: Final[dict[str, object]] = {
    "t": True, "b": Typed("b", -5), "B": Typed("B", 250), "s": Typed("s", -300), "u": Typed("u", 60000), "I": -70000,
    "i": Typed("i", 1 << 31),
    "l": 1 << 40, "L": Typed("L", 1 << 50), "f": Typed("f", 1.5), "d": 2.5, "D": Typed("D", (2, 314)), "S": "text",
    "x": b"\x00\xff", "T": Typed("T", 1_700_000_000), "V": None, "A": [1, "two", [3, {"four": 5}]],
    "F": {"a": {"b": {"c": True}}},
}  # fmt: skip
PROPERTIES: Final[dict[str, object]] = {
    "content_type": "text/plain", "content_encoding": "utf-8", "headers": TYPES, "delivery_mode": 2, "priority": 7,
    "correlation_id": "c", "reply_to": "answers", "expiration": "60000", "message_id": "m", "timestamp": 1_700_000_000,
    "type": "t", "user_id": "guest", "app_id": "a", "cluster_id": "x",
}  # fmt: skip


def channels(*numbers: int) -> list[bytes]:
    return [method(number, "channel.open") for number in numbers]


def declaring() -> list[bytes]:
    return [
        *channels(1),
        method(1, "exchange.declare", exchange="e", type="topic", arguments={"alternate-exchange": "amq.fanout"}),
        method(1, "exchange.declare", exchange="f", type="headers", durable=True, auto_delete=True),
        method(1, "exchange.bind", source="e", destination="f", routing_key="a.#"),
        method(
            1,
            "queue.declare",
            queue="q",
            durable=True,
            arguments={"x-max-length": 10, "x-overflow": "reject-publish", "mine": TYPES},
        ),
        method(
            1,
            "queue.declare",
            queue="r",
            arguments={"x-message-ttl": 60000, "x-dead-letter-exchange": "e", "x-expires": 100000},
        ),
        method(1, "queue.bind", queue="q", exchange="e", routing_key="a.*.b"),
        method(1, "queue.bind", queue="r", exchange="f", arguments={"x-match": "any", "a": 1, "b": "two"}),
        method(1, "queue.declare", queue="q", passive=True),
        method(1, "queue.unbind", queue="q", exchange="e", routing_key="a.*.b"),
        method(1, "exchange.unbind", source="e", destination="f", routing_key="a.#"),
        method(1, "queue.purge", queue="q"),
        method(1, "queue.delete", queue="r", if_unused=True, if_empty=True),
        method(1, "exchange.delete", exchange="e", if_unused=True),
        method(1, "queue.delete", queue="q", nowait=True),
        method(1, "channel.close", reply_code=200),
    ]


def publishing() -> list[bytes]:
    return [
        *channels(1, 2),
        method(1, "queue.declare", queue="q", arguments={"x-max-priority": 5}),
        method(1, "queue.bind", queue="q", exchange="amq.headers", arguments={"x-match": "all", "t": True}),
        method(1, "confirm.select"),
        publish(1, "", "q", b"hello"),
        publish(1, "", "q", b"", properties=PROPERTIES),
        method(1, "basic.publish", routing_key="q"),
        header(1, 5, {"headers": {"CC": ["q", "other"], "BCC": ["hidden"]}}),
        body(1, b"he"),
        body(1, b"llo"),
        publish(2, "amq.headers", "", b"x" * 300, properties={"headers": TYPES}),
        publish(1, "", "nowhere", b"lost", mandatory=True),
        method(1, "basic.get", queue="q"),
        method(1, "basic.get", queue="q", no_ack=True),
        heartbeat(),
        publish(2, "amq.fanout", "key", b"y" * 20),
        method(1, "queue.delete", queue="q"),
    ]


def consuming() -> list[bytes]:
    return [
        *channels(1, 2),
        method(
            1, "queue.declare", queue="q", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
        ),
        method(1, "queue.declare", queue="dead"),
        *(
            publish(1, "", "q", b"%d" % number, properties={"expiration": "1000"} if number % 3 else PROPERTIES)
            for number in range(6)
        ),
        method(2, "basic.qos", prefetch_count=2),
        method(2, "basic.qos", prefetch_count=4, **{"global": True}),
        method(2, "basic.consume", queue="q", consumer_tag="c", arguments={"x-priority": 5}),
        method(2, "basic.consume", queue="dead", consumer_tag="d", no_ack=True),
        method(1, "basic.consume", queue="q", consumer_tag="c"),
        method(2, "queue.declare", queue="q", passive=True),
        method(2, "basic.ack", delivery_tag=1),
        method(2, "basic.nack", delivery_tag=2, requeue=True),
        method(1, "basic.reject", delivery_tag=1),
        method(1, "basic.nack", delivery_tag=0, multiple=True),
        method(2, "basic.cancel", consumer_tag="c"),
        method(2, "basic.recover", requeue=True),
        method(2, "basic.ack", delivery_tag=0, multiple=True),
        method(2, "channel.close", reply_code=200),
        method(2, "channel.open"),
        method(2, "channel.flow", active=True),
    ]


def transacting() -> list[bytes]:
    return [
        *channels(1, 3),
        method(1, "queue.declare", queue="q"),
        publish(3, "", "q", b"1"),
        publish(3, "", "q", b"2"),
        method(1, "tx.select"),
        method(1, "basic.get", queue="q"),
        method(1, "basic.get", queue="q"),
        publish(1, "", "q", b"3"),
        method(1, "basic.ack", delivery_tag=2),
        method(1, "basic.ack", delivery_tag=1, multiple=True),
        method(1, "tx.rollback"),
        method(1, "basic.reject", delivery_tag=2, requeue=True),
        publish(1, "", "q", b"4"),
        method(1, "tx.commit"),
        method(1, "basic.nack", delivery_tag=0, multiple=True, requeue=True),
        method(1, "tx.commit"),
        method(1, "queue.purge", queue="q"),
    ]


def asking() -> list[bytes]:
    return [
        *channels(1),
        method(1, "basic.consume", queue="amq.rabbitmq.reply-to", consumer_tag="r", no_ack=True),
        method(1, "queue.declare", queue="rpc", exclusive=True, auto_delete=True),
        publish(1, "", "rpc", b"question", properties={"reply_to": "amq.rabbitmq.reply-to", "correlation_id": "1"}),
        method(1, "basic.get", queue="rpc", no_ack=True),
        publish(1, "", "amq.rabbitmq.reply-to.forged", b"answer"),
        method(1, "queue.declare", queue="amq.rabbitmq.reply-to", passive=True),
        method(1, "basic.cancel", consumer_tag="r"),
        method(1, "queue.declare"),
        method(1, "basic.consume", arguments={"x-priority": -1}),
        method(1, "queue.declare", queue="single", arguments={"x-single-active-consumer": True}),
        method(1, "basic.consume", queue="single", consumer_tag="s1"),
        method(1, "basic.consume", queue="single", consumer_tag="s2", exclusive=True),
        publish(1, "", "single", b"x"),
        method(1, "access.request", realm="/data"),
        method(1, "basic.recover-async", requeue=True),
        method(0, "connection.update-secret", new_secret=b"s", reason="r"),
        heartbeat(),
        method(0, "connection.close", reply_code=200),
    ]


def large() -> list[bytes]:
    return [
        *channels(1),
        method(1, "queue.declare", queue="q", arguments={"x-max-length-bytes": 100_000}),
        method(1, "basic.publish", routing_key="q"),
        content(1, bytes(range(256)) * 40, {"message_id": "m"}, frame_max=4096),
        method(1, "basic.consume", queue="q", consumer_tag="c", no_ack=True),
        publish(1, "", "q", b"z" * 4000),
    ]


def keeping() -> list[bytes]:
    """What must survive a crash: durable exchanges, queues and bindings, persistent messages with confirms and in a
    transaction."""
    kept = {"delivery_mode": 2}
    return [
        *channels(1, 2),
        method(
            1, "exchange.declare", exchange="de", type="direct", durable=True, arguments={"alternate-exchange": "df"}
        ),
        method(1, "exchange.declare", exchange="df", type="fanout", durable=True, internal=True),
        method(1, "exchange.declare", exchange="dh", type="headers", durable=True),
        method(1, "queue.declare", queue="dq", durable=True, arguments={"x-max-length": 20, "x-overflow": "drop-head"}),
        method(1, "queue.declare", queue="dp", durable=True, arguments={"x-max-priority": 9, "x-queue-mode": "lazy"}),
        method(1, "queue.bind", queue="dq", exchange="de", routing_key="k", arguments={"mine": TYPES}),
        method(1, "queue.bind", queue="dp", exchange="dh", arguments={"x-match": "any-with-x", "x-a": 1, "b": "two"}),
        method(1, "exchange.bind", source="de", destination="dh", routing_key="k", arguments={"note": "n"}),
        method(1, "queue.bind", queue="dp", exchange="df", nowait=True),
        method(1, "confirm.select"),
        *(
            publish(1, "de", "k", b"%d" % number, properties=kept | {"priority": number, "headers": {"x-a": 1}})
            for number in range(4)
        ),
        publish(1, "de", "elsewhere", b"alternate", properties=kept),
        method(2, "tx.select"),
        publish(2, "", "dq", b"both", properties=kept | {"headers": {"CC": ["dp"]}}),
        method(2, "basic.get", queue="dq"),
        method(2, "basic.ack", delivery_tag=1),
        method(2, "tx.commit"),
        method(1, "basic.get", queue="dp"),
        method(1, "basic.reject", delivery_tag=1, requeue=True),
        method(1, "queue.purge", queue="dq", nowait=True),
        method(1, "queue.unbind", queue="dq", exchange="de", routing_key="k", arguments={"mine": TYPES}),
        method(1, "exchange.unbind", source="de", destination="dh", routing_key="k", arguments={"note": "n"}),
        method(1, "exchange.delete", exchange="df", nowait=True),
        method(1, "queue.delete", queue="dp"),
    ]


def dying() -> list[bytes]:
    """Ways to a dead letter: rejected, expired, too many; with a history that the publisher made up, and hidden
    keys."""
    deaths = [
        {
            "queue": "dl",
            "reason": "rejected",
            "count": 3,
            "time": Typed("T", 1_700_000_000),
            "exchange": "",
            "routing-keys": ["dl"],
        },
        {"queue": "dl", "reason": "expired"},
        {"queue": 5, "count": "many"},
        "no table",
    ]
    to_dl = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dl"}
    history = {
        "x-death": deaths,
        "x-first-death-queue": "dl",
        "x-first-death-reason": "rejected",
        "x-first-death-exchange": "",
    }
    return [
        *channels(1),
        method(1, "exchange.declare", exchange="dx", type="direct"),
        method(
            1,
            "queue.declare",
            queue="audit",
            arguments={"x-max-length": 5, "x-dead-letter-exchange": "dx", "x-overflow": "drop-head"},
        ),
        method(
            1,
            "queue.declare",
            queue="dl",
            durable=True,
            arguments={"x-dead-letter-exchange": "dx", "x-message-ttl": 50},
        ),
        method(1, "queue.declare", queue="at-once", arguments={**to_dl, "x-message-ttl": 0}),
        method(1, "queue.bind", queue="audit", exchange="dx", routing_key="dl"),
        method(1, "queue.bind", queue="dl", exchange="dx", routing_key="dl"),
        publish(1, "", "dl", b"known", properties={"headers": history, "delivery_mode": 2}),
        publish(
            1, "", "dl", b"hidden", properties={"headers": {"BCC": ["audit"], "CC": ["dl", "audit"]}, "expiration": "0"}
        ),
        *(publish(1, "", "at-once", b"x", properties={"expiration": each}) for each in ("60000", "-0", "0", "1")),
        *(
            publish(1, "", "audit", b"%d" % number, properties={"expiration": "60000" if number else "1"})
            for number in range(7)
        ),
        method(1, "basic.get", queue="dl"),
        method(1, "basic.reject", delivery_tag=1),
        method(1, "basic.consume", queue="dl", consumer_tag="c"),
        publish(1, "", "dl", b"again", properties={"headers": history}),
        method(1, "basic.nack", delivery_tag=0, multiple=True, requeue=True),
        method(1, "basic.cancel", consumer_tag="c"),
        method(1, "basic.nack", delivery_tag=0, multiple=True),
        method(1, "queue.delete", queue="audit"),
        method(1, "exchange.delete", exchange="dx"),
    ]


def sharing() -> list[bytes]:
    """A prefetch window that the consumers of a channel share, changed while it is used."""
    names = ("s1", "s2", "s3")
    return [
        *channels(1, 2),
        *(method(1, "queue.declare", queue=name) for name in names),
        *(publish(1, "", name, b"%d" % number) for number in range(5) for name in names),
        method(2, "basic.qos", prefetch_count=1, **{"global": True}),
        *(method(2, "basic.consume", queue=name, consumer_tag=name) for name in names),
        method(2, "basic.consume", queue="s1", consumer_tag="again", arguments={"x-priority": 9}),
        method(2, "basic.consume", queue="s2", consumer_tag="free", no_ack=True),
        method(2, "basic.reject", delivery_tag=1, requeue=True),
        method(2, "basic.ack", delivery_tag=2),
        method(2, "basic.qos", prefetch_count=3, **{"global": True}),
        method(2, "basic.nack", delivery_tag=3, requeue=True),
        method(2, "basic.cancel", consumer_tag="s2", nowait=True),
        method(2, "channel.flow", active=True),
        method(2, "basic.ack", delivery_tag=0, multiple=True),
        method(2, "basic.qos", prefetch_count=0, **{"global": True}),
        method(2, "basic.recover", requeue=True),
        method(1, "queue.delete", queue="s1"),
        method(2, "channel.close", reply_code=200),
        method(1, "queue.purge", queue="s3"),
    ]


def closing() -> list[bytes]:
    """Frames that follow a close: what a client had under way when the server closed its channel, and what it says
    behind its own close."""
    return [
        *channels(1, 2),
        method(1, "queue.declare", queue="cl"),
        method(2, "queue.declare", queue="there is none", passive=True),  # closes the channel
        publish(2, "", "cl", b"under way"),
        method(2, "basic.get", queue="cl"),
        method(2, "basic.publish", routing_key="cl"),
        header(2, 5),
        method(2, "channel.close-ok"),
        method(2, "channel.open"),
        method(2, "basic.consume", queue="cl", consumer_tag="c"),
        publish(1, "", "cl", b"x"),
        method(2, "queue.declare", queue="", passive=True),
        method(2, "channel.close", reply_code=200),  # both sides close
        method(1, "queue.delete", queue="cl"),
        method(0, "connection.close", reply_code=200),
        publish(1, "", "cl", b"too late"),
        header(1, 1 << 40),
        method(0, "connection.close", reply_code=200),
        body(1, b"x"),
        method(0, "connection.close-ok"),
    ]


ALL: Final = [declaring, publishing, consuming, transacting, asking, large, keeping, dying, sharing, closing]
