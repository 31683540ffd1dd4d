"""What a channel waits for: frames that are kept meanwhile, the answer that is due afterwards, and who tells that the
wait is over.

A channel that waits is ``held``. It waits for promises (broker/promises.py), for a queue that has its next message on
the disk, or for work that takes more than one turn (sliced.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from librt.strings import BytesWriter

from broker.errors import ChannelException
from broker.faults import FaultOwner
from broker.promises import Promise, PromiseSource, PromiseWaiter
from broker.queues.queue import Queue
from broker.turn import Deferred

if TYPE_CHECKING:
    from broker.protocol.channel import Channel


@final
class HeldAnswer:
    """An answer that leaves when everything it promises is kept."""

    def __init__(self, answer: bytes, promises: list[Promise], refusal: ChannelException | None) -> None:
        self.answer = answer
        self.promises = promises
        self.refusal = refusal
        """What is answered instead if one of them is lost."""


@final
class Holding:
    """What is kept for one channel while it waits: from the first time on."""

    def __init__(self) -> None:
        self.answer: HeldAnswer | None = None
        self._frames: BytesWriter | None = None

    def keep(self, frames: bytes) -> None:
        """Keep a whole frame, or several, until the wait is over."""
        writer = self._frames
        if writer is None:
            writer = BytesWriter()
            self._frames = writer
        writer.write(frames)

    def take(self) -> bytes:
        """The frames that were kept, one behind the other; they are not kept any more."""
        writer = self._frames
        if writer is None:
            return b""
        self._frames = None
        return writer.getvalue()


@final
class GetWaiter(Deferred):
    """Tells a channel that a queue may have what its basic.get waits for. One for each channel."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.queue: Queue | None = None
        """Which queue, while it waits."""

    def give_up(self) -> None:
        """The channel ends."""
        queue = self.queue
        if queue is not None:
            self.queue = None
            queue.give_up(self)

    def resume(self) -> None:
        if not self.channel.closing:
            self.channel.session.release(self.channel)

    def fault_owner(self) -> FaultOwner | None:
        return self.channel.session.owner


@final
class _Kept(PromiseWaiter):
    """Tells a channel that what it waits for is kept."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    def kept(self, source: PromiseSource) -> None:
        channel = self.channel
        if channel.closing:
            return
        confirms = channel.confirms
        if confirms is not None:
            confirms.kept(source)
            channel.mark_dirty()
        held = _held_answer(channel)
        if held is not None:
            held.promises = [promise for promise in held.promises if not promise.is_kept()]
            if not held.promises:
                _answer(channel, held)

    def lost(self, source: PromiseSource) -> None:
        channel = self.channel
        if channel.closing:
            return
        confirms = channel.confirms
        if confirms is not None:
            confirms.lost(source)
            channel.mark_dirty()
        held = _held_answer(channel)
        if held is not None and source in [promise.source for promise in held.promises]:
            assert held.refusal is not None
            end_hold(channel)
            channel.retry = _Refusal(channel, held.refusal)
            channel.session.release(channel)

    def fault_owner(self) -> FaultOwner | None:
        return self.channel.session.owner


@final
class _Refusal(Deferred):
    """What the client hears instead of the answer that it waits for."""

    def __init__(self, channel: Channel, refusal: ChannelException) -> None:
        self.channel = channel
        self.refusal = refusal

    def resume(self) -> None:
        raise self.refusal

    def fault_owner(self) -> FaultOwner | None:
        return self.channel.session.owner


def ask(channel: Channel, promises: list[Promise]) -> None:
    """The channel hears when these are kept, or lost."""
    for promise in promises:
        promise.source.when(promise.ticket, _Kept(channel))


def answer_when(
    channel: Channel, promises: list[Promise], answer: bytes, refusal: ChannelException | None = None
) -> None:
    """Send ``answer`` when all of these are kept, ``refusal`` if one of them is lost; until then the channel's frames
    wait."""
    promises = [promise for promise in promises if not promise.is_kept()]
    if not promises:
        if answer:
            channel.session.send(answer)
        return
    channel.held = True
    channel.keeping().answer = HeldAnswer(answer, promises, refusal)
    channel.session.answers_held += 1
    ask(channel, promises)


def answer_when_durable(
    channel: Channel, answer: bytes, sources: list[PromiseSource], refusal: ChannelException | None = None
) -> None:
    """Send ``answer`` when these have kept everything they were told so far, settlements included."""
    answer_when(channel, [Promise(source, source.full_ticket()) for source in sources], answer, refusal)


def answer_when_declared(channel: Channel, answer: bytes, durable: bool) -> None:
    """Send ``answer``; if it is about something ``durable``, when everything that was declared so far is kept."""
    last = channel.session.vhost.last_change() if durable else None
    answer_when(channel, [] if last is None else [last], answer)


def may_get(channel: Channel, queue: Queue, retry: Deferred) -> bool:
    """Whether something can be got from ``queue`` now, if there is something; otherwise wait for that, then ``retry``
    and go on."""
    waiter = channel.get_waiter
    if waiter is None:
        channel.get_waiter = waiter = GetWaiter(channel)
    if queue.can_get(waiter):
        waiter.queue = None
        return True
    waiter.queue = queue
    channel.held = True
    channel.retry = retry
    return False


def _held_answer(channel: Channel) -> HeldAnswer | None:
    """What the channel is to answer when its promises are kept."""
    holding = channel.holding
    return None if holding is None else holding.answer


def end_hold(channel: Channel) -> None:
    """No answer is waited for any more, if one was."""
    holding = channel.holding
    if holding is not None and holding.answer is not None:
        holding.answer = None
        channel.session.answers_held -= 1


def _answer(channel: Channel, held: HeldAnswer) -> None:
    end_hold(channel)
    session = channel.session
    if held.answer:
        session.send(held.answer)
    session.schedule_flush()  # notices may have waited for this answer
    session.release(channel)
