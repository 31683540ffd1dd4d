"""Publisher confirms and transactions (RabbitMQ docs, Publisher Confirms; AMQP 0-9-1 class tx)."""

from __future__ import annotations

from tests.spec.talk import Talk, conversation
from tests.support.wire import method, publish

CONFIRM = "RabbitMQ docs, Publisher Confirms"
TX = "AMQP 0-9-1 class tx; RabbitMQ docs, Broker Semantics"


@conversation("confirm.select", "confirm.select may come again", CONFIRM)
def select(talk: Talk) -> None:
    """Twice, then a confirm numbered 1."""
    client = talk.client()
    client.ask(1, "confirm.select")
    client.ask(1, "confirm.select")
    client.say(publish(1, "", "nowhere", b"1"))
    client.hear()


@conversation("confirm.select: nowait", "with nowait nothing is answered", CONFIRM)
def select_nowait(talk: Talk) -> None:
    """The confirm comes all the same."""
    client = talk.client()
    client.tell(1, "confirm.select", nowait=True)
    client.quiet()
    client.say(publish(1, "", "nowhere", b"1"))
    client.hear()


@conversation("confirm: numbered per channel", "publish sequence numbers start at 1 on each channel", CONFIRM)
def per_channel(talk: Talk) -> None:
    """One channel after the other."""
    client = talk.client(channels=(1, 2))
    for channel in (1, 2):
        client.ask(channel, "confirm.select")
        for text in (b"1", b"2"):
            client.say(publish(channel, "", "nowhere", text))
            client.hear()


@conversation("confirm: numbering starts at select", "messages published before confirm.select have no number", CONFIRM)
def before_select(talk: Talk) -> None:
    """Two before, one after."""
    client = talk.client()
    client.say(publish(1, "", "nowhere", b"1"), publish(1, "", "nowhere", b"2"))
    client.ask(1, "confirm.select")
    client.say(publish(1, "", "nowhere", b"3"))
    client.hear()


@conversation("confirm: routed", "a message is confirmed when every queue has it", CONFIRM)
def routed(talk: Talk) -> None:
    """Two queues, one persistent message."""
    client = talk.client()
    client.ask(1, "exchange.declare", exchange="x", type="fanout")
    for queue in ("q1", "q2"):
        client.ask(1, "queue.declare", queue=queue, durable=True)
        client.ask(1, "queue.bind", queue=queue, exchange="x")
    client.ask(1, "confirm.select")
    client.say(publish(1, "x", "", b"1", properties={"delivery_mode": 2}))
    client.hear()
    client.ask(1, "queue.declare", queue="q1", passive=True)
    client.ask(1, "queue.declare", queue="q2", passive=True)


@conversation("confirm: on a channel opened again", "a new channel is not in confirm mode", CONFIRM)
def channel_again(talk: Talk) -> None:
    """The number of a closed channel starts from nothing."""
    client = talk.client()
    client.ask(1, "confirm.select")
    client.ask(1, "channel.close", reply_code=200)
    client.ask(1, "channel.open")
    client.say(publish(1, "", "nowhere", b"1"))
    client.quiet()
    client.ask(1, "tx.select")


@conversation("confirm: publishing to a queue that is deleted", "a deleted queue holds no confirm back", CONFIRM)
def deleted_queue(talk: Talk) -> None:
    """The confirm or its place in the order is not promised; it comes."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="q", durable=True)
    client.ask(1, "confirm.select")
    client.say(
        publish(1, "", "q", b"1", properties={"delivery_mode": 2}), method(1, "queue.delete", queue="q", nowait=True)
    )
    client.hear()


@conversation("confirm, then tx", "a channel is in one mode", CONFIRM)
def confirm_then_tx(talk: Talk) -> None:
    """406."""
    client = talk.client()
    client.ask(1, "confirm.select")
    client.ask(1, "tx.select")


@conversation("tx, then confirm", "a channel is in one mode", CONFIRM)
def tx_then_confirm(talk: Talk) -> None:
    """406."""
    client = talk.client()
    client.ask(1, "tx.select")
    client.ask(1, "confirm.select")


@conversation("tx, then confirm with nowait", "errors are told even with nowait", CONFIRM)
def tx_then_confirm_nowait(talk: Talk) -> None:
    """406."""
    client = talk.client()
    client.ask(1, "tx.select")
    client.tell(1, "confirm.select", nowait=True)
    client.hear()


@conversation("tx.commit without select", "commit needs a transaction", TX)
def commit_without_select(talk: Talk) -> None:
    """406."""
    client = talk.client()
    client.ask(1, "tx.commit")


@conversation("tx.rollback without select", "rollback needs a transaction", TX)
def rollback_without_select(talk: Talk) -> None:
    """406."""
    client = talk.client()
    client.ask(1, "tx.rollback")


@conversation("tx.select twice", "tx.select may come again", TX)
def select_twice(talk: Talk) -> None:
    """What was published in between stays in the transaction."""
    client = talk.client(channels=(1, 2))
    client.ask(1, "queue.declare", queue="q")
    client.ask(1, "tx.select")
    client.say(publish(1, "", "q", b"1"))
    client.ask(1, "tx.select")
    client.ask(1, "tx.commit")
    client.ask(2, "basic.get", queue="q", no_ack=True)


@conversation("tx.commit: nothing to commit", "an empty transaction commits", TX)
def empty_commit(talk: Talk) -> None:
    """Also twice, also rolled back."""
    client = talk.client()
    client.ask(1, "tx.select")
    client.ask(1, "tx.commit")
    client.ask(1, "tx.commit")
    client.ask(1, "tx.rollback")


@conversation("tx: publish", "a message is there after commit, not before", TX)
def tx_publish(talk: Talk) -> None:
    """Another channel looks."""
    client = talk.client(channels=(1, 2))
    client.ask(1, "queue.declare", queue="q")
    client.ask(1, "tx.select")
    client.say(publish(1, "", "q", b"1"), publish(1, "", "q", b"2"))
    client.quiet()
    client.ask(2, "queue.declare", queue="q", passive=True)
    client.ask(1, "tx.commit")
    client.until_ready("q", 2, 2)
    client.ask(2, "basic.get", queue="q", no_ack=True)


@conversation("tx: publish rolled back", "a message rolled back is gone", TX)
def tx_rollback(talk: Talk) -> None:
    """The next commit does not bring it."""
    client = talk.client(channels=(1, 2))
    client.ask(1, "queue.declare", queue="q")
    client.ask(1, "tx.select")
    client.say(publish(1, "", "q", b"1"))
    client.ask(1, "tx.rollback")
    client.ask(1, "tx.commit")
    client.ask(2, "queue.declare", queue="q", passive=True)


@conversation("tx: acknowledgement", "an ack counts at commit", TX)
def tx_ack(talk: Talk) -> None:
    """Rolled back, then acknowledged again and committed; rollback redelivers nothing."""
    client = talk.client(channels=(1, 2))
    client.ask(1, "queue.declare", queue="q")
    client.say(publish(1, "", "q", b"1"))
    client.until_ready("q", 1)
    client.ask(1, "tx.select")
    client.ask(1, "basic.get", queue="q")
    client.tell(1, "basic.ack", delivery_tag=1)
    client.ask(1, "tx.rollback")
    client.ask(2, "queue.declare", queue="q", passive=True)
    client.tell(1, "basic.ack", delivery_tag=1)
    client.ask(1, "tx.commit")
    client.ask(1, "channel.close", reply_code=200)
    client.ask(2, "basic.get", queue="q")


@conversation("tx: unacknowledged when the channel closes", "acks that were not committed are forgotten", TX)
def tx_close(talk: Talk) -> None:
    """The message comes back, redelivered."""
    client = talk.client(channels=(1, 2))
    client.ask(1, "queue.declare", queue="q")
    client.say(publish(1, "", "q", b"1"))
    client.until_ready("q", 1)
    client.ask(1, "tx.select")
    client.ask(1, "basic.get", queue="q")
    client.tell(1, "basic.ack", delivery_tag=1)
    client.ask(1, "channel.close", reply_code=200)
    client.until_ready("q", 1, 2)
    client.ask(2, "basic.get", queue="q")


@conversation("tx: reject with requeue", "a reject counts at commit", TX)
def tx_reject(talk: Talk) -> None:
    """Ready after commit."""
    client = talk.client(channels=(1, 2))
    client.ask(1, "queue.declare", queue="q")
    client.say(publish(1, "", "q", b"1"))
    client.until_ready("q", 1)
    client.ask(1, "tx.select")
    client.ask(1, "basic.get", queue="q")
    client.tell(1, "basic.reject", delivery_tag=1, requeue=True)
    client.quiet()
    client.ask(2, "queue.declare", queue="q", passive=True)
    client.ask(1, "tx.commit")
    client.until_ready("q", 1, 2)


@conversation("tx: mandatory", "a mandatory message comes back at commit, before commit-ok", TX)
def tx_mandatory(talk: Talk) -> None:
    """Nothing before."""
    client = talk.client()
    client.ask(1, "tx.select")
    client.say(publish(1, "", "nowhere", b"1", mandatory=True))
    client.quiet()
    client.tell(1, "tx.commit")
    client.hear(2)


@conversation("tx: missing exchange", "the exchange is looked at when the message is published", TX)
def tx_missing_exchange(talk: Talk) -> None:
    """Not at commit."""
    client = talk.client()
    client.ask(1, "tx.select")
    client.say(publish(1, "missing", "k", b"1"))
    client.hear()


@conversation("tx: unknown delivery tag", "the tag is looked at when it is settled", TX)
def tx_unknown_tag(talk: Talk) -> None:
    """Not at commit."""
    client = talk.client()
    client.ask(1, "tx.select")
    client.tell(1, "basic.ack", delivery_tag=5)
    client.hear()


@conversation(
    "tx: overflow rejects",
    "a message that a full queue refuses fails the commit",
    "RabbitMQ docs, Queue Length; class tx",
)
def tx_overflow(talk: Talk) -> None:
    """The first of two fits."""
    client = talk.client(channels=(1, 2))
    client.ask(1, "queue.declare", queue="q", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    client.ask(1, "tx.select")
    client.say(publish(1, "", "q", b"1"))
    client.ask(1, "tx.commit")
    client.say(publish(1, "", "q", b"2"))
    client.ask(1, "tx.commit")
    client.ask(2, "queue.declare", queue="q", passive=True)
