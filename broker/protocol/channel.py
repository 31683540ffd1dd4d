"""A channel: what arrives on it, in order, and the parts that deal with it.

    publisher.py     basic.publish and its content; confirms
    assembly.py      a content whose frames do not come in one read
    settlement.py    basic.ack, basic.nack, basic.reject
    holding.py       what is kept while the channel waits: frames, an answer
    transaction.py   what waits for tx.commit

A part is made when it is needed first, since most channels never need most of them, and is handed the channel with each
call: none refers to it. Every other method is cold: ``protocol/dispatch.py`` knows them.

States: open -> closing (the server sent channel.close and ignores everything but close-ok) -> gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from broker.errors import COMMAND_INVALID, PRECONDITION_FAILED, ChannelException, ConnectionException
from broker.native import i64
from broker.protocol import settlement
from broker.protocol.assembly import Assembly, unasked
from broker.protocol.confirms import Confirms
from broker.protocol.delivery_run import Run
from broker.protocol.ending import ChannelEnd
from broker.protocol.holding import GetWaiter, Holding, end_hold
from broker.protocol.publisher import Publisher
from broker.protocol.session import Session
from broker.protocol.shared_window import SharedWindow
from broker.protocol.sliced import ChannelWork
from broker.protocol.transaction import Transaction
from broker.protocol.unacked import Unacked
from broker.queues.consumer import Consumer
from broker.queues.queue import Queue
from broker.stats import ChannelFigures
from broker.turn import Deferred, Flushable, SlicedWork
from broker.wire import spec
from broker.wire.frames import FrameReader

if TYPE_CHECKING:
    from broker.protocol.direct_reply import ReplyTarget


@final
class Channel(Flushable):
    """One open channel. Created by channel.open, owned by its connection."""

    def __init__(self, number: i64, session: Session) -> None:
        self.number: i64 = number
        self.session = session
        self.unacked = Unacked(session.clock)
        self.consumers: dict[str, Consumer] = {}
        self.queue_of: dict[str, Queue] = {}
        """Consumer tag -> the queue it consumes from."""
        self.last_queue = ""
        """The queue declared last on this channel: what an empty queue name means."""
        self.prefetch_new: i64 = session.limits.prefetch_default
        """basic.qos with global=false: the window of consumers that start after it."""
        self.window: SharedWindow | None = None
        """Once basic.qos with global=true has asked for one."""
        self.publisher: Publisher | None = None
        self.assembly: Assembly | None = None
        """While a publish has begun whose content is not there: only its header or body frames may follow."""
        self.transaction: Transaction | None = None
        """Since tx.select."""
        self.reply: ReplyTarget | None = None
        """While it consumes direct replies."""
        self.figures: ChannelFigures | None = None
        """What was counted; None while nothing has happened."""
        self.holding: Holding | None = None
        self.get_waiter: GetWaiter | None = None
        """Once a basic.get has asked a queue."""
        self.retry: Deferred | None = None
        """What to do again when the wait is over, before the frames that were kept."""
        self.working: i64 = 0
        """Pieces of work that were begun (``carry_out``) and are not done: the channel does not end before."""
        self.closing = False  # flags stand together: each that stands alone takes eight bytes
        self.awaits_close_ok = False
        """The server's channel.close has been sent."""
        self.flow_active = True
        self.held = False
        """It waits (holding.py): its frames are kept until that is over."""
        self._dirty = False

    # ---- frames ------------------------------------------------------------------------------------------------------

    @property
    def expects_content(self) -> bool:
        """A publish has begun: only its header or body frames may follow."""
        return self.assembly is not None

    def receive_hot(self, reader: FrameReader, method: i64) -> bool:
        """Handle a publish, ack, nack or reject frame; False if the method is another one.

        Raises: whatever the method raises.
        """
        if method == spec.BASIC_PUBLISH:
            publisher = self.publisher
            if publisher is None:
                publisher = self.publishing()
            publisher.receive(self, reader)
            return True
        if method != spec.BASIC_ACK and method != spec.BASIC_NACK and method != spec.BASIC_REJECT:
            return False
        try:
            settlement.receive(self, reader, method)
        except ChannelException as error:
            error.name_method(int(method))
            raise
        return True

    def receive_header(self, reader: FrameReader) -> None:
        """A content header frame. Raises: UNEXPECTED_FRAME (505) if none is expected, and as ``Assembly`` says."""
        assembly = self.assembly
        if assembly is None:
            raise unasked()
        assembly.receive_header(self, reader)

    def receive_body(self, reader: FrameReader) -> None:
        """A content body frame. Raises: UNEXPECTED_FRAME (505) if none is expected, and as ``Assembly`` says."""
        assembly = self.assembly
        if assembly is None:
            raise unasked()
        assembly.receive_body(self, reader)

    def unexpected_method(self) -> ConnectionException:
        """The answer to a method frame where content was expected."""
        assembly = self.assembly
        assert assembly is not None
        return assembly.unexpected_method()

    @property
    def missing(self) -> int:
        """Bytes of the content that is on its way; 0 if there is none."""
        assembly = self.assembly
        return 0 if assembly is None else int(assembly.missing())

    # ---- parts -------------------------------------------------------------------------------------------------------

    def publishing(self) -> Publisher:
        """Its publisher, now that it needs one."""
        publisher = self.publisher
        if publisher is None:
            publisher = Publisher()
            self.publisher = publisher
        return publisher

    @property
    def confirms(self) -> Confirms | None:
        """Once the client has asked for them (confirm.select)."""
        publisher = self.publisher
        return None if publisher is None else publisher.confirms

    @property
    def is_publisher(self) -> bool:
        """It has published."""
        publisher = self.publisher
        return publisher is not None and publisher.route is not None

    def keeping(self) -> Holding:
        """What it keeps while it waits, now that there is something."""
        holding = self.holding
        if holding is None:
            holding = Holding()
            self.holding = holding
        return holding

    def hold_frame(self, frame: bytes) -> None:
        """Keep a whole frame, or several, until the wait is over."""
        self.keeping().keep(frame)

    def take_held(self) -> bytes:
        """The frames that were kept, one behind the other; they are not kept any more."""
        holding = self.holding
        return b"" if holding is None else holding.take()

    # ---- work --------------------------------------------------------------------------------------------------------

    def stirred(self) -> ChannelFigures:
        """Its figures, now that something happens."""
        figures = self.figures
        if figures is None:
            figures = ChannelFigures(self.session.vhost.sampler)
            self.figures = figures
        figures.stir()
        self.session.stir()
        return figures

    def count_acks(self, count: i64) -> None:
        """So many deliveries were acknowledged; their queues have counted them already."""
        figures = self.figures
        if figures is None or figures.resting:
            figures = self.stirred()
        figures.ack += count
        self.session.counters.messages_acked += count

    def carry_out(self, work: SlicedWork, then: Deferred | None = None) -> None:
        """Do work that may take longer than a turn, and then ``then``; until that is done the channel's later frames
        wait."""
        turn = self.session.turn
        turn.costly = True
        if work.step():
            if then is not None:
                then.resume()
            return
        self.held = True
        self.working += 1
        turn.begin(ChannelWork(self, work, then))

    def carry_out_acks(self, runs: list[Run]) -> None:
        """One acknowledgement of a transaction that commits."""
        for run in runs:
            run.settle(run.size)
            self.count_acks(run.live)
            consumer = run.consumer
            if consumer is not None:
                consumer.settled(run.live)

    def mark_dirty(self) -> None:
        """There are confirms to write at the end of this turn."""
        if not self._dirty:
            self._dirty = True
            self.session.dirty.append(self)
            self.session.schedule_flush()

    def flush(self) -> None:
        """Write the confirms that are due."""
        self._dirty = False
        if not self.closing and self.publisher is not None:
            self.publisher.write_confirms(self)

    # ---- consumers ---------------------------------------------------------------------------------------------------

    def consumed_queues(self) -> list[Queue]:
        """The queues of its consumers, once for each."""
        return list(self.queue_of.values())

    def unblock(self) -> None:
        """Deliveries were settled: others may have room now."""
        # only a window for all of them couples consumers: without one each was told by ``settled``
        window = self.window
        if window is not None and window.size > 0:
            window.mark()

    def share_window(self, size: int) -> None:
        """All consumers share a window of so many deliveries; 0 for no limit."""
        window = self.window
        if window is None:
            window = SharedWindow(self.session.turn, self.unacked)
            self.window = window
        window.size = size
        window.mark()

    # ---- end ---------------------------------------------------------------------------------------------------------

    def end(self, then: Deferred | None) -> ChannelEnd:
        """The channel is gone: what it held goes back; consumers leave first, then deliveries, in order
        (redelivered)."""
        self.closing = True
        return ChannelEnd(self, then)

    def leave(self) -> tuple[dict[str, Consumer], dict[str, Queue]]:
        """The consumers that have to leave their queues, and these, by their tags: the channel forgets them. Confirms
        that are due go out before the close."""
        publisher = self.publisher
        if publisher is not None:
            try:
                publisher.write_confirms(self)
            except Exception as error:  # its consumers, and their messages, must not stay behind
                self.session.clock.faults.caught("confirms of a channel that ends", None, error)
        if self.window is not None:
            self.window.end()
        leaving = (self.consumers, self.queue_of)
        self.consumers = {}
        self.queue_of = {}
        return leaving

    def let_go(self) -> None:
        """Everything that was delivered has gone back: forget the rest."""
        reply = self.reply
        if reply is not None:
            self.reply = None
            self.session.vhost.publishing.remove_reply_target(reply.token)
            reply.close()
        if self.assembly is not None:
            self.assembly.end(self)
        self.held = False
        self.retry = None
        if self.get_waiter is not None:
            self.get_waiter.give_up()
            self.get_waiter = None
        end_hold(self)
        self.holding = None
        watch = self.unacked.watch
        if watch is not None:
            self.unacked.watch = None
            watch.stop()


def not_transactional() -> ChannelException:
    """The answer to tx.commit and tx.rollback without tx.select."""
    return ChannelException(PRECONDITION_FAILED, "channel is not transactional")


def unimplemented(index: int) -> ConnectionException:
    """The answer to methods that a server does not take."""
    return ConnectionException(COMMAND_INVALID, "unimplemented method", index >> 16, index & 0xFFFF)
