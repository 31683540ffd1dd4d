"""Dead lettering, length limits, expiry and priorities (RabbitMQ docs, Dead Letter Exchanges, Queue Length, TTL,
Priority)."""

from __future__ import annotations

import re

from tests.spec.talk import Departure, Speaker, Talk, conversation
from tests.support.wire import publish

DLX = "RabbitMQ docs, Dead Letter Exchanges"
LENGTH = "RabbitMQ docs, Queue Length"
TTL = "RabbitMQ docs, TTL"
PRIORITY = "RabbitMQ docs, Priority"


FIRST_DEATH = re.compile(r"x-death=A:\[F:\{count=[^,]*, (exchange=S:'[^']*'), .*?(queue=S:'[^']*'), (reason=S:'[^']*')")


def last_death(line: str) -> str:
    """The line with the x-last-death headers, which tell of the newest death, in their place."""
    newest = FIRST_DEATH.search(line)
    if newest is None:
        return line
    added = ", ".join(f"x-last-death-{field}" for field in newest.groups())
    return re.sub(r"(x-first-death-reason=S:'[^']*')", rf"\1, {added}", line)


def all_deaths(line: str) -> str:
    """The line with the x-first-death and x-last-death headers, which both tell of the only death."""
    only = FIRST_DEATH.search(line)
    if only is None:
        return line
    added = [f"x-{place}-death-{field}" for place in ("first", "last") for field in only.groups()]
    return line.replace("}]} | b'1'", "}], " + ", ".join(added) + "} | b'1'")


LAST_DEATH = Departure("RabbitMQ 3.13 adds x-last-death-exchange, -queue and -reason", rewrite=last_death)


def with_dead_letters(talk: Talk, **arguments: object) -> Speaker:
    """A client with queue q, whose dead letters go through exchange dlx (fanout) to queue dead, which is consumed on
    channel 2."""
    client = talk.client(channels=(1, 2))
    client.ask(1, "exchange.declare", exchange="dlx", type="fanout")
    client.ask(1, "queue.declare", queue="dead")
    client.ask(1, "queue.bind", queue="dead", exchange="dlx")
    given = {name.replace("_", "-"): value for name, value in arguments.items()}
    client.ask(1, "queue.declare", queue="q", arguments={"x-dead-letter-exchange": "dlx"} | given)
    client.ask(2, "basic.consume", queue="dead", consumer_tag="d", no_ack=True)
    return client


@conversation(
    "dead letter: rejected",
    "a rejected message goes to the dead letter exchange with its history",
    DLX,
    leveret=LAST_DEATH,
)
def rejected(talk: Talk) -> None:
    """All of x-death, x-first-death and x-last-death."""
    client = with_dead_letters(talk)
    client.say(
        publish(1, "", "q", b"1", properties={"content_type": "text/plain", "headers": {"mine": 1}, "delivery_mode": 2})
    )
    client.until_ready("q", 1)
    client.ask(1, "basic.get", queue="q")
    client.tell(1, "basic.reject", delivery_tag=1)
    client.hear()


@conversation(
    "dead letter: nacked, several", "nack(multiple) dead-letters in the order of delivery", DLX, leveret=LAST_DEATH
)
def nacked(talk: Talk) -> None:
    """Three at once."""
    client = with_dead_letters(talk)
    client.say(*[publish(1, "", "q", text) for text in (b"1", b"2", b"3")])
    client.until_ready("q", 3)
    for _ in range(3):
        client.ask(1, "basic.get", queue="q")
    client.tell(1, "basic.nack", delivery_tag=0, multiple=True)
    client.hear(3)


@conversation(
    "dead letter: expired by the queue", "a message older than x-message-ttl is dead-lettered", DLX, leveret=LAST_DEATH
)
def expired_queue(talk: Talk) -> None:
    """No original-expiration."""
    client = with_dead_letters(talk, x_message_ttl=1)
    client.say(publish(1, "", "q", b"1"))
    client.hear()


@conversation(
    "dead letter: expired by the message",
    "the expiration property is taken away and kept in x-death",
    DLX,
    leveret=LAST_DEATH,
)
def expired_message(talk: Talk) -> None:
    """original-expiration."""
    client = with_dead_letters(talk)
    client.say(publish(1, "", "q", b"1", properties={"expiration": "1"}))
    client.hear()


@conversation("dead letter: expired, both limits", "the smaller of the two limits counts", DLX, leveret=LAST_DEATH)
def expired_both(talk: Talk) -> None:
    """The queue's is smaller; the message's is remembered all the same."""
    client = with_dead_letters(talk, x_message_ttl=1)
    client.say(publish(1, "", "q", b"1", properties={"expiration": "60000"}))
    client.hear()


@conversation("dead letter: maxlen", "the oldest message makes room and is dead-lettered", DLX, leveret=LAST_DEATH)
def maxlen(talk: Talk) -> None:
    """Three into two."""
    client = with_dead_letters(talk, x_max_length=2)
    client.say(*[publish(1, "", "q", text) for text in (b"1", b"2", b"3")])
    client.hear()
    client.ask(1, "basic.get", queue="q", no_ack=True)


@conversation(
    "dead letter: max-length-bytes", "bodies are counted; the reason is maxlen as well", DLX, leveret=LAST_DEATH
)
def maxlen_bytes(talk: Talk) -> None:
    """Ten octets fit."""
    client = with_dead_letters(talk, x_max_length_bytes=10)
    client.say(publish(1, "", "q", b"1234"), publish(1, "", "q", b"5678"), publish(1, "", "q", b"abcdef"))
    client.hear()
    client.ask(1, "basic.get", queue="q", no_ack=True)


@conversation(
    "dead letter: max-length 0",
    "a queue that holds nothing dead-letters everything without a consumer",
    DLX,
    leveret=LAST_DEATH,
)
def maxlen_zero(talk: Talk) -> None:
    """At once."""
    client = with_dead_letters(talk, x_max_length=0)
    client.say(publish(1, "", "q", b"1"))
    client.hear()


@conversation(
    "dead letter: routing key",
    "x-dead-letter-routing-key replaces the routing keys, and CC goes",
    DLX,
    leveret=LAST_DEATH,
)
def routing_key(talk: Talk) -> None:
    """The old ones stand in x-death."""
    client = with_dead_letters(talk, x_dead_letter_routing_key="new")
    client.say(publish(1, "", "q", b"1", properties={"headers": {"CC": ["cc"], "BCC": ["bcc"]}}))
    client.until_ready("q", 1)
    client.ask(1, "basic.get", queue="q")
    client.tell(1, "basic.reject", delivery_tag=1)
    client.hear()


@conversation("dead letter: CC is kept", "without a new key the CC header stays and routes", DLX, leveret=LAST_DEATH)
def cc_kept(talk: Talk) -> None:
    """routing-keys of x-death holds CC and not BCC."""
    client = with_dead_letters(talk)
    client.say(publish(1, "", "q", b"1", properties={"headers": {"CC": ["cc1", "cc2"], "BCC": ["bcc"]}}))
    client.until_ready("q", 1)
    client.ask(1, "basic.get", queue="q")
    client.tell(1, "basic.reject", delivery_tag=1)
    client.hear()


@conversation(
    "dead letter: twice by the same queue and reason",
    "the count is raised, the table stays one",
    DLX,
    leveret=LAST_DEATH,
)
def counted(talk: Talk) -> None:
    """The dead letter is published again to the queue, with its headers."""
    client = with_dead_letters(talk)
    client.say(publish(1, "", "q", b"1"))
    client.until_ready("q", 1)
    client.ask(1, "basic.get", queue="q")
    client.tell(1, "basic.reject", delivery_tag=1)
    dead = client.hear()
    client.say(publish(1, "", "q", b"1", properties=dead.properties if dead else None))
    client.until_ready("q", 1)
    client.ask(1, "basic.get", queue="q")
    client.tell(1, "basic.reject", delivery_tag=2)
    client.hear()


@conversation("dead letter: two queues", "the newest death stands first", DLX, leveret=LAST_DEATH)
def two_deaths(talk: Talk) -> None:
    """Rejected in q, then expired in q2; first-death stays, last-death moves on."""
    client = talk.client(channels=(1, 2))
    client.ask(1, "queue.declare", queue="dead")
    client.ask(
        1,
        "queue.declare",
        queue="q2",
        arguments={"x-message-ttl": 1, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"},
    )
    client.ask(
        1, "queue.declare", queue="q", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q2"}
    )
    client.ask(2, "basic.consume", queue="dead", consumer_tag="d", no_ack=True)
    client.say(publish(1, "amq.fanout", "q", b"0"), publish(1, "", "q", b"1"))
    client.until_ready("q", 1)
    client.ask(1, "basic.get", queue="q")
    client.tell(1, "basic.reject", delivery_tag=1)
    client.hear()


@conversation(
    "dead letter: automatic cycle",
    "a message that would come back to a queue without having been rejected is dropped",
    DLX,
)
def cycle(talk: Talk) -> None:
    """A queue whose expired messages go back to itself: the message is gone after its first round."""
    client = talk.client()
    client.ask(1, "confirm.select")
    arguments: dict[str, object] = {"x-message-ttl": 1, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q"}
    client.ask(1, "queue.declare", queue="q", arguments=arguments)
    client.say(publish(1, "", "q", b"1"))
    client.hear()
    client.wait_ms(50)
    client.until_ready("q", 0)
    client.ask(1, "basic.get", queue="q")


@conversation("dead letter: cycle with a reject", "a cycle with a rejection goes on", DLX, leveret=LAST_DEATH)
def cycle_rejected(talk: Talk) -> None:
    """A queue whose rejected messages go back to itself, twice."""
    client = talk.client()
    client.ask(
        1, "queue.declare", queue="q", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q"}
    )
    client.ask(1, "basic.consume", queue="q", consumer_tag="c")
    client.say(publish(1, "", "q", b"1"))
    client.hear()
    client.tell(1, "basic.reject", delivery_tag=1)
    client.hear()
    client.tell(1, "basic.reject", delivery_tag=2)
    client.hear()


@conversation("dead letter: missing exchange", "without the exchange the message is gone", DLX)
def missing_dlx(talk: Talk) -> None:
    """No error anywhere."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q", arguments={"x-dead-letter-exchange": "missing"})
    client.say(publish(1, "", "q", b"1"))
    client.until_ready("q", 1)
    client.ask(1, "basic.get", queue="q")
    client.tell(1, "basic.reject", delivery_tag=1)
    client.quiet(queue="q")
    client.ask(1, "queue.declare", queue="q", passive=True)


@conversation(
    "dead letter: purge and delete", "purged messages and those of a deleted queue are not dead-lettered", DLX
)
def no_dead_letters(talk: Talk) -> None:
    """The consumer of dead letters hears nothing."""
    client = with_dead_letters(talk)
    client.say(publish(1, "", "q", b"1"))
    client.until_ready("q", 1)
    client.ask(1, "queue.purge", queue="q")
    client.say(publish(1, "", "q", b"2"))
    client.until_ready("q", 1)
    client.ask(1, "queue.delete", queue="q")
    client.quiet(2, queue="dead")


@conversation(
    "dead letter: client's x-death that is no array",
    "a bad x-death header is replaced",
    DLX,
    leveret=Departure("RabbitMQ 3.13 counts the death as the message's first", rewrite=all_deaths),
)
def bad_x_death(talk: Talk) -> None:
    """A string."""
    client = with_dead_letters(talk)
    client.say(publish(1, "", "q", b"1", properties={"headers": {"x-death": "none"}}))
    client.until_ready("q", 1)
    client.ask(1, "basic.get", queue="q")
    client.tell(1, "basic.reject", delivery_tag=1)
    client.hear()


@conversation("dead letter: to a full queue", "dead letters are counted by the next queue's limit like others", DLX)
def dead_letter_full(talk: Talk) -> None:
    """The dead letter queue keeps the last one."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="dead", arguments={"x-max-length": 1})
    client.ask(
        1, "queue.declare", queue="q", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    )
    client.say(publish(1, "", "q", b"1"), publish(1, "", "q", b"2"))
    client.until_ready("q", 2)
    client.ask(1, "basic.get", queue="q")
    client.ask(1, "basic.get", queue="q")
    client.tell(1, "basic.nack", delivery_tag=0, multiple=True)
    client.until_ready("dead", 1)
    client.ask(1, "queue.declare", queue="dead", passive=True)


# length limits


@conversation("length: drop-head", "the oldest messages make room", LENGTH)
def drop_head(talk: Talk) -> None:
    """All are confirmed; the last two are kept."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q", arguments={"x-max-length": 2})
    client.ask(1, "confirm.select")
    for text in (b"1", b"2", b"3"):
        client.say(publish(1, "", "q", text))
        client.hear()
    client.ask(1, "basic.get", queue="q", no_ack=True)
    client.ask(1, "basic.get", queue="q", no_ack=True)


@conversation("length: reject-publish", "a full queue refuses, and the publisher is told by nack", LENGTH)
def reject_publish(talk: Talk) -> None:
    """After a get there is room again."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    client.ask(1, "confirm.select")
    for text in (b"1", b"2"):
        client.say(publish(1, "", "q", text))
        client.hear()
    client.ask(1, "basic.get", queue="q", no_ack=True)
    client.say(publish(1, "", "q", b"3"))
    client.hear()


@conversation("length: reject-publish and mandatory", "a refused message was routed: it does not come back", LENGTH)
def reject_mandatory(talk: Talk) -> None:
    """Only the nack."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q", arguments={"x-max-length": 0, "x-overflow": "reject-publish"})
    client.ask(1, "confirm.select")
    client.say(publish(1, "", "q", b"1", mandatory=True))
    client.hear()
    client.quiet(queue="q")


@conversation(
    "length: one of two queues refuses", "one refusal is enough for a nack; the other queue keeps its copy", LENGTH
)
def one_rejects(talk: Talk) -> None:
    """A full queue and one without a limit."""
    client = talk.client()
    client.ask(1, "exchange.declare", exchange="x", type="fanout")
    client.ask(1, "queue.declare", queue="q1", arguments={"x-max-length": 0, "x-overflow": "reject-publish"})
    client.ask(1, "queue.declare", queue="q2")
    for queue in ("q1", "q2"):
        client.ask(1, "queue.bind", queue=queue, exchange="x")
    client.ask(1, "confirm.select")
    client.say(publish(1, "x", "", b"1"))
    client.hear()
    client.until_ready("q2", 1)


@conversation(
    "length: reject-publish-dlx", "what is refused is dead-lettered as maxlen, and nacked", LENGTH, leveret=LAST_DEATH
)
def reject_publish_dlx(talk: Talk) -> None:
    """Two into one."""
    client = with_dead_letters(talk, x_max_length=1, x_overflow="reject-publish-dlx")
    client.ask(1, "confirm.select")
    client.say(publish(1, "", "q", b"1"))
    client.hear()
    client.say(publish(1, "", "q", b"2"))
    client.hear_all("basic.nack", "basic.deliver")


@conversation("length: unacknowledged messages do not count", "only ready messages count", LENGTH)
def unacked_do_not_count(talk: Talk) -> None:
    """One is held, one is ready, one more pushes the ready one out."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q", arguments={"x-max-length": 1})
    client.say(publish(1, "", "q", b"1"))
    client.until_ready("q", 1)
    client.ask(1, "basic.get", queue="q")
    client.say(publish(1, "", "q", b"2"))
    client.until_ready("q", 1)
    client.say(publish(1, "", "q", b"3"))
    client.quiet(queue="q")
    client.ask(1, "basic.get", queue="q")


@conversation("length: 0 with a consumer", "a consumer with room gets messages of a queue that holds none", LENGTH)
def zero_with_consumer(talk: Talk) -> None:
    """Delivered, not dropped."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q", arguments={"x-max-length": 0})
    client.ask(1, "basic.consume", queue="q", consumer_tag="c")
    client.say(publish(1, "", "q", b"1"))
    client.hear()


# expiry


@conversation("ttl: 0 without a consumer", "a message that may not wait is gone", TTL)
def ttl_zero(talk: Talk) -> None:
    """Confirmed, not kept."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q", arguments={"x-message-ttl": 0})
    client.ask(1, "confirm.select")
    client.say(publish(1, "", "q", b"1"))
    client.hear()
    client.until_ready("q", 0)
    client.ask(1, "basic.get", queue="q")


@conversation("ttl: 0 with a consumer", "a consumer with room gets it", TTL)
def ttl_zero_consumer(talk: Talk) -> None:
    """By the queue's limit and by the message's."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q", arguments={"x-message-ttl": 0})
    client.ask(1, "basic.consume", queue="q", consumer_tag="c")
    client.say(publish(1, "", "q", b"1"))
    client.hear()
    client.say(publish(1, "", "q", b"2", properties={"expiration": "0"}))
    client.hear()


@conversation("ttl: behind a longer one", "messages expire at the head of the queue", TTL)
def ttl_behind(talk: Talk) -> None:
    """A short-lived message behind one that lives on: counted until its turn, then skipped."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q")
    client.say(publish(1, "", "q", b"long"), publish(1, "", "q", b"short", properties={"expiration": "1"}))
    client.until_ready("q", 2)
    client.wait_ms(50)
    client.ask(1, "queue.declare", queue="q", passive=True)
    client.ask(1, "basic.get", queue="q")
    client.ask(1, "basic.get", queue="q")


@conversation("ttl: kept by the message", "a message that expired at its head is never delivered", TTL)
def ttl_head(talk: Talk) -> None:
    """The one behind it is."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q")
    client.say(publish(1, "", "q", b"short", properties={"expiration": "20"}), publish(1, "", "q", b"long"))
    client.until_ready("q", 1)
    client.ask(1, "basic.get", queue="q")


@conversation("ttl: expiration is delivered", "the property stays on a message that did not expire", TTL)
def ttl_delivered(talk: Talk) -> None:
    """As it was sent."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q")
    client.say(publish(1, "", "q", b"1", properties={"expiration": "0060000"}))
    client.until_ready("q", 1)
    client.ask(1, "basic.get", queue="q")


@conversation("ttl: requeue keeps the deadline", "a message requeued after its time expires at once", TTL)
def ttl_requeued(talk: Talk) -> None:
    """Held beyond its time, then requeued."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q", arguments={"x-message-ttl": 300})
    client.say(publish(1, "", "q", b"1"))
    client.until_ready("q", 1)
    client.ask(1, "basic.get", queue="q")
    client.wait_ms(400)
    client.tell(1, "basic.reject", delivery_tag=1, requeue=True)
    client.until_ready("q", 0)
    client.ask(1, "basic.get", queue="q")


# priorities


@conversation(
    "priority: order", "higher priorities come first, equal ones in order; none is 0, too high is the highest", PRIORITY
)
def priority_order(talk: Talk) -> None:
    """Six messages."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q", arguments={"x-max-priority": 5})
    given = (None, 5, 0, 3, 200, 3)
    client.say(
        *[
            publish(1, "", "q", str(place).encode(), properties={} if level is None else {"priority": level})
            for place, level in enumerate(given)
        ]
    )
    client.until_ready("q", 6)
    for _ in range(6):
        client.ask(1, "basic.get", queue="q", no_ack=True)


@conversation("priority: requeue", "a requeued message goes back to its priority", PRIORITY)
def priority_requeue(talk: Talk) -> None:
    """A low one that was got first is passed by a high one that came later."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q", arguments={"x-max-priority": 5})
    client.say(publish(1, "", "q", b"low"))
    client.until_ready("q", 1)
    client.ask(1, "basic.get", queue="q")
    client.say(publish(1, "", "q", b"high", properties={"priority": 1}))
    client.until_ready("q", 1)
    client.tell(1, "basic.reject", delivery_tag=1, requeue=True)
    client.until_ready("q", 2)
    client.ask(1, "basic.get", queue="q")
    client.ask(1, "basic.get", queue="q")


@conversation(
    "priority: length limit",
    "the message next in line makes room, whatever its priority",
    "RabbitMQ docs, Priority; Queue Length",
)
def priority_limit(talk: Talk) -> None:
    """The highest priority is dropped."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q", arguments={"x-max-priority": 5, "x-max-length": 2})
    client.say(*[publish(1, "", "q", str(level).encode(), properties={"priority": level}) for level in (5, 1, 3)])
    client.quiet(queue="q")
    client.until_ready("q", 2)
    client.ask(1, "basic.get", queue="q")
    client.ask(1, "basic.get", queue="q")


@conversation("priority: without x-max-priority", "priorities count in priority queues only", PRIORITY)
def no_priority(talk: Talk) -> None:
    """In order."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q")
    client.say(*[publish(1, "", "q", str(level).encode(), properties={"priority": level}) for level in (1, 5)])
    client.until_ready("q", 2)
    client.ask(1, "basic.get", queue="q")
