"""The publishing half of a channel: three frames become one message, which goes where its route leads, and is
confirmed.

A publish is three kinds of frames: method, header, body (AMQP 0-9-1 §4.2.6); when all of them lie in one read, which is
the rule, the message is a single slice of it. Otherwise they are waited for (assembly.py). What is the same as in the
message before, route and properties, is not looked at again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from librt.strings import read_i16_be, read_i32_be, read_i64_be

from broker.destination import MessageTarget
from broker.errors import NO_ROUTE, PRECONDITION_FAILED, ChannelException
from broker.message import Message
from broker.native import i64
from broker.promises import Promise, PromiseSources
from broker.protocol.assembly import Assembly, check_size
from broker.protocol.confirms import Confirms
from broker.protocol.holding import ask
from broker.protocol.rewriting import with_reply_to, without_bcc
from broker.protocol.sliced import AT_ONCE, Publishing
from broker.protocol.traits import Traits, read_traits
from broker.protocol.transaction import Pending
from broker.routing.routed import Routed
from broker.vhost.publishing import PENDING_ELSEWHERE, PENDING_USUALLY, REFUSED, publish
from broker.vhost.routes import Route
from broker.wire import spec
from broker.wire.frames import FrameReader
from broker.wire.methods import split_publish
from broker.wire.properties import CONTENT_PROPERTIES_AT
from broker.wire.writer import write_return

if TYPE_CHECKING:
    from broker.protocol.channel import Channel

_HEADER_FRAME_MIN: Final[i64] = 7 + 14 + 1


@final
class Publisher:
    """Of one channel, from its first basic.publish or confirm.select on. It is handed its channel with every call, and
    does not refer to it."""

    def __init__(self) -> None:
        self.confirms: Confirms | None = None
        """Once the client has asked for them."""
        self.route: Route | None = None
        """Of the last message; None while there was none."""
        self._arguments = b""
        """Those of its basic.publish."""
        self._traits: Traits | None = None

    # ---- frames ------------------------------------------------------------------------------------------------------

    def receive(self, channel: Channel, reader: FrameReader) -> None:
        """A basic.publish, with its content if that lies behind it. Raises: whatever a publish raises."""
        data = reader.data
        arguments = data[reader.start + 4 : reader.end]
        # header and body usually follow in the same read: then the whole content is one slice
        at = reader.end + 1
        limit = reader.limit
        if (
            limit - at >= _HEADER_FRAME_MIN
            and data[at] == 2
            and (i64(read_i16_be(data, at + 1)) & 0xFFFF) == channel.number
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
                    self.complete(channel, arguments, data[at:body_at], size + 8, 0, 0)
                    return
                if (
                    limit - body_at >= 8 + body_size
                    and body_size > 0
                    and (largest == 0 or body_size <= largest)
                    and data[body_at] == 3
                    and (i64(read_i16_be(data, body_at + 1)) & 0xFFFF) == channel.number
                    and (i64(read_i32_be(data, body_at + 3)) & 0xFFFFFFFF) == body_size
                    and data[body_at + 7 + body_size] == 0xCE
                ):
                    check_size(channel, arguments, body_size)
                    end = body_at + 8 + body_size
                    reader.skip_to(end)
                    self.complete(channel, arguments, data[at:end], size + 8, body_size, body_size)
                    return
        split_publish(arguments)  # told with the method frame, not when its content has come
        channel.assembly = Assembly(arguments)

    def complete(
        self, channel: Channel, arguments: bytes, content: bytes, header_size: i64, body_size: i64, payload_max: i64
    ) -> None:
        """A whole message: header and body frames one behind the other, the largest body frame has ``payload_max``.

        Raises: what ``Publishing.route`` says, PRECONDITION_FAILED (406) for what its properties ask for.
        """
        route = self.route
        if route is None or route.stale or arguments != self._arguments:
            route = self._find_route(channel, arguments)
        raw = content[CONTENT_PROPERTIES_AT : header_size - 1]
        traits = self._traits
        if traits is None or raw != traits.raw:
            traits = self._read_traits(channel, raw)
        message = Message(
            content,
            route.tail,
            channel.number,
            header_size,
            body_size,
            payload_max,
            traits.persistent,
            traits.priority,
            traits.expiration_ms,
        )
        targets = route.targets
        if targets is None or traits.changes_message or route.by_message:
            self._publish_itself(channel, traits, message)
        elif len(targets) > AT_ONCE or channel.session.vhost.dead_letters.crowded:
            self._publish_in_slices(channel, targets, message, route)
        else:
            self.publish_to(channel, targets, message, route)

    def _find_route(self, channel: Channel, arguments: bytes) -> Route:
        session = channel.session
        try:
            route = session.vhost.publishing.route(arguments, session.access)
        except ChannelException as error:
            error.name_method(spec.BASIC_PUBLISH)
            raise
        session.turn.costly = True
        self.route = route
        self._arguments = arguments
        return route

    def _read_traits(self, channel: Channel, raw: bytes) -> Traits:
        """What these properties mean, and whether the client may set them: it need not be asked again while the next
        message has the same."""
        traits = read_traits(raw)
        if traits.direct_reply:
            _address_of(channel)
        user = channel.session.user
        if traits.user_id is not None and traits.user_id != user:
            raise ChannelException(
                PRECONDITION_FAILED,
                f"user_id property set to '{traits.user_id}' but authenticated user was '{user}'",
                60,
                40,
            )
        if traits.fault:
            raise ChannelException(PRECONDITION_FAILED, traits.fault, 60, 40)
        self._traits = traits
        return traits

    def _publish_itself(self, channel: Channel, traits: Traits, message: Message) -> None:
        """Its targets depend on the message, or take long to find; or the message is not what was received."""
        session = channel.session
        route = self.route
        assert route is not None
        address = _address_of(channel) if traits.direct_reply else ""
        targets = route.targets
        routed: Routed | None = None
        if route.by_message or traits.copies:
            session.turn.costly = True
            routed = Routed(message, session.clock)
            try:
                targets = session.vhost.publishing.targets_for(route, routed)
            except ChannelException as error:
                error.name_method(spec.BASIC_PUBLISH)
                raise
            if traits.copies:
                message = without_bcc(message)
        if address:
            message = with_reply_to(message, address)
        if targets is not None:
            self._publish_in_slices(channel, targets, message, route)
            return
        if routed is None:
            routed = Routed(message, session.clock)
        routing = session.vhost.publishing.begin(route, routed, traits.copies)
        channel.carry_out(Publishing(channel, route, message, None, routing))

    def _publish_in_slices(
        self, channel: Channel, targets: list[MessageTarget], message: Message, route: Route
    ) -> None:
        """In slices if that may take long; a transaction publishes nothing yet."""
        crowded = channel.session.vhost.dead_letters.crowded
        if (len(targets) > AT_ONCE or crowded) and channel.transaction is None:
            channel.carry_out(Publishing(channel, route, message, targets, None))
        else:
            self.publish_to(channel, targets, message, route)

    # ---- messages ----------------------------------------------------------------------------------------------------

    def publish_to(self, channel: Channel, targets: list[MessageTarget], message: Message, route: Route) -> None:
        """Put a message where it goes, and promise it when that is asked for; in a transaction keep it until the
        commit."""
        sequence = self.begin(channel, route)
        if sequence == 0:
            transaction = channel.transaction
            if transaction is not None:
                transaction.pending.append(Pending(targets, message, route))
                return
            if not targets:
                _unroutable(channel, message, route)
                return
            publish(route.figures, targets, message, None)
            return
        if targets:
            self.promise(channel, sequence, publish(route.figures, targets, message, self.confirms))
            return
        _unroutable(channel, message, route)
        self.promise(channel, sequence, 0)

    def begin(self, channel: Channel, route: Route) -> i64:
        """Count a message that is published: its publish sequence number, 0 without confirms."""
        session = channel.session
        confirms = self.confirms
        session.counters.messages_received += 1
        if session.alarms.reason and not session.blocked:
            session.block()
        if channel.transaction is None:
            _count_publish(channel, route)
        if confirms is None:
            return 0
        session.counters.messages_received_confirm += 1
        confirms.published += 1
        return confirms.published

    def carry_out(self, channel: Channel, pending: Pending, promised_by: PromiseSources) -> bool:
        """One publish of a transaction that commits, which is promised when all of ``promised_by`` have kept it; False
        if a queue refused the message."""
        route = pending.route
        _count_publish(channel, route)
        if not pending.targets:
            _unroutable(channel, pending.message, route)
            return True
        return publish(route.figures, pending.targets, pending.message, promised_by) & REFUSED == 0

    # ---- confirms ----------------------------------------------------------------------------------------------------

    def promise(self, channel: Channel, sequence: i64, outcome: i64) -> None:
        """Confirm message ``sequence``, now or when those who have to promise it have done so, as ``publish`` has
        said."""
        confirms = self.confirms
        if confirms is None:
            return
        if outcome == PENDING_USUALLY:
            usual = confirms.usual
            if usual is not None and confirms.joins(sequence, usual.ticket()):
                return
        refused = outcome & REFUSED != 0
        if outcome > REFUSED:
            promises = _open_promises(confirms, outcome)
            if promises and not refused:
                ask(channel, confirms.wait(sequence, promises))
                return
        confirms.decided(sequence, refused, channel.session.outbox, channel.number)
        channel.mark_dirty()

    def write_confirms(self, channel: Channel) -> None:
        """Those that are due."""
        confirms = self.confirms
        if confirms is None:
            return
        session = channel.session
        confirms.flush(session.outbox, channel.number)
        figures = channel.figures
        if figures is not None and confirms.confirmed > figures.confirm:
            figures.stir()
            session.counters.messages_confirmed += confirms.confirmed - figures.confirm
            figures.confirm = confirms.confirmed


def _open_promises(sources: PromiseSources, outcome: i64) -> list[Promise]:
    """What one message has to wait for, as ``publish`` has said. Where that is a single source, it is the usual one
    from now on."""
    asked = sources.take_others() if outcome & PENDING_ELSEWHERE else []
    if outcome & PENDING_USUALLY:
        if sources.usual is not None:
            asked.append(sources.usual)
    elif len(asked) == 1:
        sources.usual = asked[0]
    promises = [Promise(source, source.ticket()) for source in asked]
    return [promise for promise in promises if not promise.is_kept()]


def _address_of(channel: Channel) -> str:
    """Where replies to the channel go. Raises: PRECONDITION_FAILED (406) if it does not consume any."""
    reply = channel.reply
    if reply is None:
        raise ChannelException(PRECONDITION_FAILED, "fast reply consumer does not exist", 60, 40)
    return reply.address


def _count_publish(channel: Channel, route: Route) -> None:
    """On the channel and on the exchange. What a transaction publishes is counted when it commits, as RabbitMQ does."""
    figures = channel.figures
    if figures is None or figures.resting:
        figures = channel.stirred()
    figures.publish += 1
    source = route.figures
    if source.resting:
        source.stir()
    source.publish_in += 1


def _unroutable(channel: Channel, message: Message, route: Route) -> None:
    session = channel.session
    figures = channel.stirred()
    if not route.mandatory:
        session.counters.messages_unroutable_dropped += 1
        figures.drop_unroutable += 1
        route.figures.drop_unroutable += 1
        return
    session.counters.messages_unroutable_returned += 1
    figures.return_unroutable += 1
    route.figures.return_unroutable += 1
    write_return(session.outbox.writer, channel.number, NO_ROUTE, b"NO_ROUTE", message.tail)
    session.outbox.write_content(message, channel.number, session.payload_max)
    session.schedule_flush()
