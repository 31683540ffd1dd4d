"""Classes tx and confirm: the two modes a channel can be put into, never both (AMQP 0-9-1 §1.6.6; RabbitMQ docs,
Confirms)."""

from typing import final

from pamqp import commands

from broker.errors import PRECONDITION_FAILED, ChannelException
from broker.faults import FaultOwner
from broker.protocol.channel import Channel, not_transactional
from broker.protocol.confirms import Confirms
from broker.protocol.exchange_methods import Reply, reply
from broker.protocol.holding import answer_when_durable
from broker.protocol.settlement import rollback
from broker.protocol.sliced import Commit
from broker.protocol.transaction import Transaction
from broker.turn import Deferred
from broker.wire import spec
from broker.wire.methods import Method, method_frame


def confirm_select(channel: Channel, method: Method) -> None:
    """confirm.select; again is no change. Raises: 406 on a transactional channel."""
    fields = method.fields
    assert isinstance(fields, commands.Confirm.Select)
    if channel.transaction is not None:
        raise ChannelException(PRECONDITION_FAILED, "cannot switch from tx to confirm mode")
    publisher = channel.publishing()
    if publisher.confirms is None:
        publisher.confirms = Confirms()
    reply(channel, fields.nowait, spec.CONFIRM_SELECT_OK)


def tx_select(channel: Channel, method: Method) -> None:
    """tx.select; again is no change. Raises: 406 on a channel in confirm mode."""
    if channel.confirms is not None:
        raise ChannelException(PRECONDITION_FAILED, "cannot switch from confirm to tx mode")
    if channel.transaction is None:
        channel.transaction = Transaction()
    reply(channel, False, spec.TX_SELECT_OK)


def tx_commit(channel: Channel, method: Method) -> None:
    """tx.commit: publishes first, then settlements.

    Raises: PRECONDITION_FAILED (406) without tx.select, and ``partial tx completion`` if a queue refused a message.
    """
    transaction = channel.transaction
    if transaction is None:
        raise not_transactional()
    commit = Commit(channel, transaction)
    channel.carry_out(commit, _Committed(channel, commit))


@final
class _Committed(Deferred):
    """A transaction was carried out."""

    def __init__(self, channel: Channel, commit: Commit) -> None:
        self.channel = channel
        self.commit = commit

    def resume(self) -> None:
        channel = self.channel
        partial = ChannelException(
            PRECONDITION_FAILED, "partial tx completion", spec.TX_COMMIT >> 16, spec.TX_COMMIT & 0xFFFF
        )
        if not self.commit.accepted:
            raise partial
        sources = self.commit.promised_by
        logs = channel.session.logs
        if logs is not None:
            sources.add(logs.promises)  # for what was settled
        answer = method_frame(int(channel.number), spec.TX_COMMIT_OK, [])
        answer_when_durable(channel, answer, sources.take_others(), partial)

    def fault_owner(self) -> FaultOwner | None:
        return self.channel.session.owner


def tx_rollback(channel: Channel, method: Method) -> None:
    """tx.rollback: deliveries stay unacknowledged, nothing is redelivered. Raises: 406 without tx.select."""
    if channel.transaction is None:
        raise not_transactional()
    rollback(channel, channel.transaction, Reply(channel, spec.TX_ROLLBACK_OK))
