"""The consuming half of a channel: what a client acknowledges, refuses or gives back, in a transaction at its
commit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from librt.strings import read_i64_be

from broker.native import i64
from broker.protocol.settling import Acknowledging, Rollback, Taking
from broker.protocol.sliced import Settling
from broker.protocol.transaction import Settlement, Transaction
from broker.queues.refusal import DISCARDED, GIVEN_BACK, REJECTED
from broker.turn import Deferred
from broker.wire import spec
from broker.wire.frames import FrameReader
from broker.wire.methods import undecodable

if TYPE_CHECKING:
    from broker.protocol.channel import Channel


def receive(channel: Channel, reader: FrameReader, method: i64) -> None:
    """A basic.ack, basic.nack or basic.reject. Raises: PRECONDITION_FAILED (406) for an unknown delivery tag."""
    data = reader.data
    if reader.end - reader.start != 13:
        raise undecodable(int(method), data[reader.start + 4 : reader.end])
    tag = read_i64_be(data, reader.start + 4)
    bits: i64 = data[reader.start + 12]
    if method == spec.BASIC_ACK:
        _ack(channel, tag, bits & 1 != 0)
    elif method == spec.BASIC_NACK:
        _refuse(channel, tag, bits & 1 != 0, GIVEN_BACK if bits & 2 else DISCARDED)
    else:
        _refuse(channel, tag, False, REJECTED if bits & 1 else DISCARDED)


def _ack(channel: Channel, tag: i64, multiple: bool) -> None:
    unacked = channel.unacked
    transaction = channel.transaction
    if transaction is not None:
        _settle_at_commit(channel, transaction, tag, multiple, Settlement([], DISCARDED, True))
    elif not multiple:
        unacked.ack_one(tag)
        channel.count_acks(1)
        channel.unblock()
    elif unacked.is_much(tag):
        channel.carry_out(Acknowledging(channel, unacked.through(tag)))
    else:
        channel.count_acks(unacked.ack_up_to(tag))
        channel.unblock()


def _refuse(channel: Channel, tag: i64, multiple: bool, refusal: i64) -> None:
    unacked = channel.unacked
    transaction = channel.transaction
    if transaction is not None:
        _settle_at_commit(channel, transaction, tag, multiple, Settlement([], refusal, False))
    elif multiple:
        channel.carry_out(Settling(channel, [], refusal, unacked.through(tag)))
    else:
        channel.carry_out(Settling(channel, [unacked.take(tag)], refusal))


def _settle_at_commit(
    channel: Channel, transaction: Transaction, tag: i64, multiple: bool, settlement: Settlement
) -> None:
    unacked = channel.unacked
    if multiple:
        taking = Taking(channel, settlement, unacked.through(tag))
        transaction.settlements.append(settlement)
        channel.carry_out(taking)
        return
    settlement.runs = [unacked.take(tag)]
    unacked.hold(settlement.runs)
    transaction.settlements.append(settlement)


def rollback(channel: Channel, transaction: Transaction, then: Deferred | None) -> None:
    """Forget the transaction's publishes; its settlements become unacknowledged deliveries again."""
    channel.carry_out(Rollback(channel, transaction), then)


def requeue_through(channel: Channel, tag: i64, then: Deferred | None) -> None:
    """Everything unacknowledged up to this tag goes back to its queue (basic.recover)."""
    channel.carry_out(Settling(channel, [], GIVEN_BACK, tag), then)
