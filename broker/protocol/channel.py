"""The hot half of a channel: publishing and settling; what arrives on one channel, in order.

States: open -> closing (the server sent channel.close and ignores everything but close-ok) -> gone. A publish is three
kinds of frames: method, header, body (AMQP 0-9-1 §4.2.6); when all of them lie in one read, which is the rule, the
message is a single slice of it. Every other method is cold: ``protocol/dispatch.py`` knows them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from librt.strings import BytesWriter, read_i16_be, read_i32_be, read_i64_be

from broker import hidden_keys
from broker.destination import MessageTarget
from broker.discard import discard
from broker.errors import (
    COMMAND_INVALID,
    FRAME_ERROR,
    NO_ROUTE,
    PRECONDITION_FAILED,
    UNEXPECTED_FRAME,
    ChannelException,
    ConnectionException,
)
from broker.faults import FaultOwner
from broker.message import Message
from broker.native import i64
from broker.protocol.confirms import Confirms
from broker.protocol.content import Content
from broker.protocol.session import Session
from broker.protocol.settling import Acknowledging, Rollback, Taking
from broker.protocol.shared_window import SharedWindow
from broker.protocol.sliced import AT_ONCE, ChannelEnd, ChannelWork, Publishing, Settling
from broker.protocol.traits import Traits, read_traits
from broker.protocol.transaction import Pending, Settlement
from broker.protocol.unacked import Run, Unacked
from broker.queues.consumer import Consumer
from broker.queues.dead_letter import keys_in
from broker.queues.queue import Queue
from broker.routing.routed import Routed
from broker.stats import ChannelFigures
from broker.store.batch import Listener
from broker.turn import Deferred, Flushable, SlicedWork
from broker.vhost.publishing import IN_LOG, REFUSED, immediate, publish
from broker.vhost.routes import Route
from broker.wire import properties, spec, table
from broker.wire.erlang import frame
from broker.wire.frames import FrameReader
from broker.wire.methods import split_publish, undecodable
from broker.wire.properties import CONTENT_PROPERTIES_AT, headers_of
from broker.wire.writer import make_content, write_return

if TYPE_CHECKING:
    from broker.protocol.direct_reply import ReplyTarget

_HEADER_FRAME_MIN: Final[i64] = 7 + 14 + 1


@final
class _Waiter(Deferred):
    """Tells a channel that a queue may have what it waits for."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    def resume(self) -> None:
        if not self.channel.closing:
            self.channel.session.release(self.channel)

    def fault_owner(self) -> FaultOwner | None:
        return self.channel.session.owner


@final
class _Promise(Listener):
    """Tells a channel that the disk has what it waits for."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    def durable(self, through: i64) -> None:
        self.channel.durable(through)

    def fault_owner(self) -> FaultOwner | None:
        return self.channel.session.owner


@final
class Channel(Flushable):
    """One open channel. Created by channel.open, owned by its connection."""

    def __init__(self, number: i64, session: Session) -> None:
        self.number: i64 = number
        self.session = session
        self.unacked = Unacked(session.turn)
        self.consumers: dict[str, Consumer] = {}
        self.queue_of: dict[str, Queue] = {}
        """Consumer tag -> the queue it consumes from."""
        self.closing = False
        self.awaits_close_ok = False
        """The server's channel.close has been sent."""
        self.flow_active = True
        self.transactional = False  # beside other flags, as those below: each that stands alone takes eight bytes
        self.last_queue = ""
        """The queue declared last on this channel: what an empty queue name means."""
        self.window: SharedWindow | None = None
        """Once basic.qos with global=true has asked for one: most channels have none, and idle ones should cost
        little."""
        self.prefetch_new: i64 = session.limits.prefetch_default
        """basic.qos with global=false: the window of consumers that start after it."""
        self.confirms: Confirms | None = None
        self.pending: list[Pending] = []
        self.settlements: list[Settlement] = []
        self.reply: ReplyTarget | None = None
        self.figures: ChannelFigures | None = None
        """What was counted; None while nothing has happened."""
        self.published = False
        """It has published: a publisher, in the metrics."""
        self.held = False
        """It waits for the disk, or for a message from it: its frames are kept (``hold_frame``) until that is there."""
        self._dirty = False
        self._held_frames: BytesWriter | None = None
        self.working: i64 = 0
        """Pieces of work that were begun (``carry_out``) and are not done: the channel does not end before."""
        self.retry: Deferred | None = None
        """What to do again when the wait is over, before the frames that were kept."""
        self._held_for: i64 = 0
        self._held_answer = b""
        self._promised_group: i64 = 0
        self._route: Route | None = None
        self._route_arguments = b""
        self._traits: Traits | None = None
        # a content whose frames did not arrive in one read
        self._arguments: bytes | None = None
        self._content: Content | None = None
        """Once its header has come."""

    # ---- frames ------------------------------------------------------------------------------------------------------

    @property
    def expects_content(self) -> bool:
        """A publish has begun: only its header or body frames may follow."""
        return self._arguments is not None

    def receive_hot(self, reader: FrameReader, method: i64) -> bool:
        """Handle a publish, ack, nack or reject frame; False if the method is another one.

        Raises: whatever the method raises.
        """
        if method == spec.BASIC_PUBLISH:
            self._publish(reader)
            return True
        if method != spec.BASIC_ACK and method != spec.BASIC_NACK and method != spec.BASIC_REJECT:
            return False
        data = reader.data
        if reader.end - reader.start != 13:
            raise undecodable(int(method), data[reader.start + 4 : reader.end])
        tag = read_i64_be(data, reader.start + 4)
        bits: i64 = data[reader.start + 12]
        try:
            if method == spec.BASIC_ACK:
                self._ack(tag, bits & 1 != 0)
            elif method == spec.BASIC_NACK:
                self._refuse(tag, bits & 1 != 0, bits & 2 != 0)
            else:
                self._refuse(tag, False, bits & 1 != 0)
        except ChannelException as error:
            error.class_id = spec.BASIC
            error.method_id = int(method & 0xFFFF)
            raise
        return True

    def _publish(self, reader: FrameReader) -> None:
        data = reader.data
        arguments = data[reader.start + 4 : reader.end]
        # header and body usually follow in the same read: then the whole content is one slice
        at = reader.end + 1
        limit = reader.limit
        if (
            limit - at >= _HEADER_FRAME_MIN
            and data[at] == 2
            and (i64(read_i16_be(data, at + 1)) & 0xFFFF) == self.number
        ):
            size = i64(read_i32_be(data, at + 3)) & 0xFFFFFFFF
            body_at = at + 8 + size
            largest = reader.payload_max
            if (
                size >= 14
                and body_at <= limit
                and (largest == 0 or size <= largest)
                and data[body_at - 1] == 0xCE
                and read_i32_be(data, at + 7) == 0x003C0000
            ):
                body_size = read_i64_be(data, at + 11)
                if body_size == 0:
                    reader.skip_to(body_at)
                    self._complete(arguments, data[at:body_at], size + 8, 0, 0)
                    return
                if (
                    limit - body_at >= 8 + body_size
                    and body_size > 0
                    and (largest == 0 or body_size <= largest)
                    and data[body_at] == 3
                    and (i64(read_i16_be(data, body_at + 1)) & 0xFFFF) == self.number
                    and (i64(read_i32_be(data, body_at + 3)) & 0xFFFFFFFF) == body_size
                    and data[body_at + 7 + body_size] == 0xCE
                ):
                    self._check_size(arguments, body_size)
                    end = body_at + 8 + body_size
                    reader.skip_to(end)
                    self._complete(arguments, data[at:end], size + 8, body_size, body_size)
                    return
        split_publish(arguments)  # told with the method frame, not when its content has come
        self._arguments = arguments

    def receive_header(self, reader: FrameReader) -> None:
        """A content header frame.

        Raises: UNEXPECTED_FRAME (505) if no publish precedes it or it is of another class, FRAME_ERROR (501) if it is
        too short.
        """
        arguments = self._arguments
        if arguments is None:
            raise ConnectionException(UNEXPECTED_FRAME, "expected method frame, got non method frame instead")
        if self._content is not None:
            raise self.unexpected_method()
        data = reader.data
        size = reader.end - reader.start
        if size < 12:
            raise ConnectionException(FRAME_ERROR, f"{frame(2, data[reader.start : reader.end])}: unknown_frame")
        class_id = i64(read_i16_be(data, reader.start)) & 0xFFFF
        if class_id != 60:
            raise ConnectionException(
                UNEXPECTED_FRAME, f"expected content header for class 60, got one for class {class_id} instead", 60, 40
            )
        if read_i16_be(data, reader.start + 2):  # weight, unused by the specification: must be zero
            raise self.unexpected_method()
        body_size = read_i64_be(data, reader.start + 4)
        # Now, not when all of it has arrived: an announced body is never kept just to be refused.
        self._check_size(arguments, body_size)
        header = data[reader.start - 7 : reader.end + 1]
        if body_size == 0:
            self._arguments = None
            self._complete(arguments, header, len(header), 0, 0)
            return
        self._content = Content(header, body_size)
        self.session.begin_content()

    def receive_body(self, reader: FrameReader) -> None:
        """A content body frame.

        Raises: UNEXPECTED_FRAME (505) if no header precedes it, FRAME_ERROR (501) if there is more than was announced.
        """
        if self._arguments is None:
            raise ConnectionException(UNEXPECTED_FRAME, "expected method frame, got non method frame instead")
        content = self._content
        if content is None:
            raise self.unexpected_method()
        size = reader.end - reader.start
        if size > content.missing:
            raise ConnectionException(FRAME_ERROR, "content body frame exceeds remaining content size", 60, 40)
        if size:
            content.add(reader.data, reader.start, reader.end)
            if content.missing == 0:
                self._assembled(content)
            else:
                self.session.receive_part(size)

    @property
    def missing(self) -> int:
        """Bytes of the content that is on its way; 0 if there is none."""
        content = self._content
        return 0 if content is None else int(content.missing)

    def _end_content(self) -> None:
        """What was begun to come makes a message, or is forgotten: its frames are not counted any more."""
        content = self._content
        self._arguments = None
        if content is not None:
            self._content = None
            session = self.session
            session.end_content()
            session.alarms.received(-content.received)

    def _assembled(self, content: Content) -> None:
        arguments = self._arguments
        assert arguments is not None
        self._end_content()
        joined = content.joined()
        self._complete(arguments, joined, content.header_size, content.body_size, content.payload_max)

    def unexpected_method(self) -> ConnectionException:
        """The answer to a method frame where content was expected."""
        if self._content is None:
            text = "expected content header for class 60, got non content header frame instead"
        else:
            text = "expected content body, got non content body frame instead"
        return ConnectionException(UNEXPECTED_FRAME, text, 60, 40)

    def _check_size(self, arguments: bytes, body_size: i64) -> None:
        limit = self.session.limits.message_size_max
        if body_size < 0 or (limit and body_size > limit):
            if arguments[-1:] and arguments[-1] & 2:
                raise immediate()  # RabbitMQ looks at this flag first
            shown = int(body_size) & 0xFFFFFFFFFFFFFFFF
            raise ChannelException(
                PRECONDITION_FAILED, f"message size {shown} is larger than configured max size {limit}", 60, 40
            )

    # ---- publish -----------------------------------------------------------------------------------------------------

    def _complete(self, arguments: bytes, content: bytes, header_size: i64, body_size: i64, payload_max: i64) -> None:
        session = self.session
        vhost = session.vhost
        route = self._route
        if route is None or route.stale or arguments != self._route_arguments:
            route = vhost.publishing.route(arguments)
            session.turn.costly = True
            self.published = True
            self._route = route
            self._route_arguments = arguments
        raw = content[CONTENT_PROPERTIES_AT : header_size - 1]
        traits = self._traits
        if traits is None or raw != traits.raw:
            traits = read_traits(raw)
            self._traits = traits
        if traits.direct_reply and self.reply is None:
            raise ChannelException(PRECONDITION_FAILED, "fast reply consumer does not exist", 60, 40)
        if traits.user_id is not None and traits.user_id != session.user:
            raise ChannelException(
                PRECONDITION_FAILED,
                f"user_id property set to '{traits.user_id}' but authenticated user was '{session.user}'",
                60,
                40,
            )
        if traits.fault:
            raise ChannelException(PRECONDITION_FAILED, traits.fault, 60, 40)
        message = Message(
            content,
            route.tail,
            self.number,
            header_size,
            body_size,
            payload_max,
            traits.persistent,
            traits.priority,
            traits.expiration_ms,
        )
        targets = route.targets
        routed: Routed | None = None
        if route.by_message or traits.copies:
            session.turn.costly = True
            routed = Routed(message, session.clock)
            try:
                targets = vhost.publishing.targets_for(route, routed)
            except ChannelException as error:
                error.class_id = spec.BASIC
                error.method_id = spec.BASIC_PUBLISH & 0xFFFF
                raise
            if traits.copies:
                message = self._rewritten(message, True)
        if traits.direct_reply:
            message = self._rewritten(message, False)
        if targets is None:
            routing = vhost.publishing.begin(
                route, Routed(message, session.clock) if routed is None else routed, traits.copies
            )
            self.carry_out(Publishing(self, route, message, None, routing))
        elif (len(targets) > AT_ONCE or vhost.dead_letters.crowded) and not self.transactional:
            self.carry_out(Publishing(self, route, message, targets, None))
        else:
            self.publish_to(targets, message, route)

    def publish_to(self, targets: list[MessageTarget], message: Message, route: Route) -> None:
        """Put a message where it goes, and promise it when that is asked for; in a transaction keep it until the
        commit."""
        sequence = self.begin_publish(route)
        if sequence == 0:
            if self.transactional:
                self.pending.append(Pending(targets, message, route))
                return
            if not targets:
                self._unroutable(message, route)
                return
            publish(route.figures, targets, message, None, 0)
            return
        if targets:
            self.promise(sequence, publish(route.figures, targets, message, self.confirms, sequence))
            return
        self._unroutable(message, route)
        self.promise(sequence, 0)

    def begin_publish(self, route: Route) -> i64:
        """Count a message that is published: its publish sequence number, 0 without confirms."""
        session = self.session
        confirms = self.confirms
        session.counters.messages_received += 1
        if session.alarms.reason and not session.blocked:
            session.block()
        if not self.transactional:
            self._count_publish(route)
        if confirms is None:
            return 0
        session.counters.messages_received_confirm += 1
        confirms.published += 1
        return confirms.published

    def _count_publish(self, route: Route) -> None:
        """On the channel and on the exchange. What a transaction publishes is counted when it commits, as RabbitMQ
        does."""
        figures = self.figures
        if figures is None or figures.resting:
            figures = self.stirred()
        figures.publish += 1
        source = route.figures
        if source.resting:
            source.stir()
        source.publish_in += 1

    def stirred(self) -> ChannelFigures:
        """Its figures, now that something happens."""
        figures = self.figures
        if figures is None:
            figures = ChannelFigures(self.session.vhost.sampler)
            self.figures = figures
        figures.stir()
        return figures

    def promise(self, sequence: i64, outcome: i64) -> None:
        """Confirm message ``sequence``, now or when those who have to promise it have done so, as ``publish`` has
        said."""
        confirms = self.confirms
        if confirms is None:
            return
        refused = outcome & REFUSED != 0
        deferred = outcome >> 2
        if outcome & IN_LOG and not refused:
            logs = self.session.logs
            assert logs is not None
            group = logs.batch.group
            if group != self._promised_group:
                self._promised_group = group
                logs.batch.listen(_Promise(self))
            confirms.logged(sequence, group, deferred)
            return
        if deferred:
            confirms.defer(sequence, int(deferred))
            if refused:
                confirms.refuse(sequence)
            return
        confirms.decided(sequence, refused, self.session.outbox, self.number)
        if not self._dirty:
            self.mark_dirty()

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

    def _rewritten(self, message: Message, copies: bool) -> Message:
        """``message`` without its BCC header, or with reply-to rewritten for direct reply-to."""
        content = message.content
        at: i64 = CONTENT_PROPERTIES_AT
        end: i64 = message.header_size - 1
        tail = message.tail
        if copies:
            headers = headers_of(message).raw
            tail = hidden_keys.with_keys(tail, keys_in(headers, b"BCC"))
            kept = [pair for pair in table.split(headers, 0, len(headers)) if pair[0] != b"BCC"]
            changed = properties.rewrite(content, at, end, table.join(kept), False, None)
        else:
            assert self.reply is not None
            changed = properties.rewrite(content, at, end, None, False, self.reply.address.encode())
        header, size = make_content(self.number, changed, b"", 1)
        # the size of the body stands in the header: take it over
        header = header[:11] + content[11:19] + header[19:]
        fresh = Message(
            b"".join([header, memoryview(content)[message.header_size :]]),  # a large body is copied once
            tail,
            message.channel,
            size,
            message.body_size,
            message.payload_max,
            message.persistent,
            message.priority,
            message.expiration_ms,
        )
        fresh.hides_keys = isinstance(tail, hidden_keys.TailWithKeys)
        return fresh

    def _unroutable(self, message: Message, route: Route) -> None:
        session = self.session
        figures = self.stirred()
        if not route.mandatory:
            session.counters.messages_unroutable_dropped += 1
            figures.drop_unroutable += 1
            route.figures.drop_unroutable += 1
            return
        session.counters.messages_unroutable_returned += 1
        figures.return_unroutable += 1
        route.figures.return_unroutable += 1
        write_return(session.outbox.writer, self.number, NO_ROUTE, b"NO_ROUTE", message.tail)
        session.outbox.write_content(message, self.number, session.payload_max)
        session.schedule_flush()

    def carry_out_publish(self, pending: Pending) -> bool:
        """One publish of a transaction that commits; False if a queue refused the message."""
        route = pending.route
        self._count_publish(route)
        if not pending.targets:
            self._unroutable(pending.message, route)
            return True
        return publish(route.figures, pending.targets, pending.message, None, 0) & REFUSED == 0

    def carry_out_acks(self, runs: list[Run]) -> None:
        """One acknowledgement of a transaction that commits."""
        for run in runs:
            run.settle(len(run.items))
            self.count_acks(run.live)
            consumer = run.consumer
            if consumer is not None:
                consumer.settled(run.live)
        discard(self.session.turn, [run.items for run in runs])

    # ---- promises ----------------------------------------------------------------------------------------------------

    def answer_when(self, sequence: i64, answer: bytes) -> None:
        """Send ``answer`` when record number ``sequence`` of the log is on the disk; until then the channel's frames
        wait."""
        logs = self.session.logs
        if logs is None or sequence <= logs.batch.durable_through:
            if answer:
                self.session.send(answer)
            return
        self.held = True
        self._held_for = sequence
        self._held_answer = answer
        self.session.answers_held += 1
        logs.batch.listen(_Promise(self))

    def answer_when_durable(self, answer: bytes) -> None:
        """Send ``answer`` when everything that was appended to the log so far, settlements included, is on the disk."""
        logs = self.session.logs
        if logs is None:
            self.session.send(answer)
            return
        logs.settle()
        self.answer_when(logs.batch.next_sequence - 1, answer)

    def answer_when_declared(self, answer: bytes, durable: bool) -> None:
        """Send ``answer``; if it is about something ``durable``, when everything that was declared so far is on the
        disk."""
        self.answer_when(self.session.vhost.last_change() if durable else 0, answer)

    def durable(self, through: i64) -> None:
        """The log is on the disk up to record number ``through``."""
        if self.closing:
            return
        session = self.session
        confirms = self.confirms
        logs = session.logs
        if confirms is not None and logs is not None:
            confirms.durable(logs.batch.durable_group, session.outbox, self.number)
            self.mark_dirty()
        if self._held_for and self._held_for <= through:
            self._held_for = 0
            session.answers_held -= 1
            if self._held_answer:
                session.send(self._held_answer)
                self._held_answer = b""
            session.schedule_flush()  # notices may have waited for this answer
            session.release(self)

    def hold_for(self, queue: Queue, retry: Deferred) -> None:
        """Wait until ``queue`` has something to get, then ``retry`` and go on."""
        self.held = True
        self.retry = retry
        queue.wait(_Waiter(self))

    def hold_frame(self, frame: bytes) -> None:
        """Keep a whole frame, or several, until the wait is over."""
        frames = self._held_frames
        if frames is None:
            frames = BytesWriter()
            self._held_frames = frames
        frames.write(frame)

    def take_held(self) -> bytes:
        """The frames that were kept, one behind the other; they are not kept any more."""
        frames = self._held_frames
        if frames is None:
            return b""
        self._held_frames = None
        return frames.getvalue()

    def mark_dirty(self) -> None:
        """There are confirms to write at the end of this turn."""
        if not self._dirty:
            self._dirty = True
            self.session.dirty.append(self)
            self.session.schedule_flush()

    def flush(self) -> None:
        """Write the confirms that are due."""
        self._dirty = False
        if not self.closing:
            self._write_confirms()

    def _write_confirms(self) -> None:
        confirms = self.confirms
        if confirms is not None:
            confirms.flush(self.session.outbox, self.number)
            figures = self.figures
            if figures is not None and confirms.confirmed > figures.confirm:
                figures.stir()
                self.session.counters.messages_confirmed += confirms.confirmed - figures.confirm
                figures.confirm = confirms.confirmed

    # ---- settle ------------------------------------------------------------------------------------------------------

    def _ack(self, tag: i64, multiple: bool) -> None:
        unacked = self.unacked
        if self.transactional:
            self._settle_at_commit(tag, multiple, Settlement([], False, True))
        elif multiple and unacked.is_much(tag):
            self.carry_out(Acknowledging(self, unacked.through(tag)))
        else:
            self.count_acks(unacked.ack(tag, multiple))
            self.unblock()

    def count_acks(self, count: i64) -> None:
        """So many deliveries were acknowledged; their queues have counted them already."""
        figures = self.figures
        if figures is None or figures.resting:
            figures = self.stirred()
        figures.ack += count
        self.session.counters.messages_acked += count

    def _refuse(self, tag: i64, multiple: bool, requeue: bool) -> None:
        if self.transactional:
            self._settle_at_commit(tag, multiple, Settlement([], requeue, False))
        elif multiple:
            self.carry_out(Settling(self, [], requeue, self.unacked.through(tag)))
        else:
            self.carry_out(Settling(self, [self.unacked.take(tag)], requeue))

    def _settle_at_commit(self, tag: i64, multiple: bool, settlement: Settlement) -> None:
        unacked = self.unacked
        if multiple:
            taking = Taking(self, settlement, unacked.through(tag))
            self.settlements.append(settlement)
            self.carry_out(taking)
            return
        settlement.runs = [unacked.take(tag)]
        unacked.hold(settlement.runs)
        self.settlements.append(settlement)

    def rollback(self, then: Deferred | None) -> None:
        """Forget the transaction's publishes; its settlements become unacknowledged deliveries again."""
        self.carry_out(Rollback(self), then)

    def requeue_through(self, tag: i64, then: Deferred | None) -> None:
        """Everything unacknowledged up to this tag goes back to its queue (basic.recover)."""
        self.carry_out(Settling(self, [], True, tag), then)

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

    def end(self, then: Deferred | None) -> ChannelEnd:
        """The channel is gone: what it held goes back; consumers leave first, then deliveries, in order
        (redelivered)."""
        self.closing = True
        return ChannelEnd(self, then)

    def leave(self) -> tuple[dict[str, Consumer], dict[str, Queue]]:
        """The consumers that have to leave their queues, and these, by their tags: the channel forgets them. Confirms
        that are due go out before the close."""
        self.session.clock.faults.run("confirms of a channel that ends", None, self._write_confirms)
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
        self._end_content()
        self.held = False
        self._held_frames = None
        self.retry = None
        if self._held_for:
            self._held_for = 0
            self.session.answers_held -= 1
        self._held_answer = b""


def not_transactional() -> ChannelException:
    """The answer to tx.commit and tx.rollback without tx.select."""
    return ChannelException(PRECONDITION_FAILED, "channel is not transactional")


def unimplemented(index: int) -> ConnectionException:
    """The answer to methods that a server does not take."""
    return ConnectionException(COMMAND_INVALID, "unimplemented method", index >> 16, index & 0xFFFF)
