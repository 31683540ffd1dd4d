"""A content on its way: basic.publish has come, its header and body are not there yet (AMQP 0-9-1 §4.2.6).

Where all of them lie in one read, which is the rule, none of this is needed (``Publisher.receive``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from librt.strings import read_i16_be, read_i64_be

from broker.errors import FRAME_ERROR, PRECONDITION_FAILED, UNEXPECTED_FRAME, ChannelException, ConnectionException
from broker.native import i64
from broker.protocol.content import Content
from broker.vhost.publishing import immediate
from broker.wire.erlang import frame
from broker.wire.frames import FrameReader

if TYPE_CHECKING:
    from broker.protocol.channel import Channel


def check_size(channel: Channel, arguments: bytes, body_size: i64) -> None:
    """Raises: PRECONDITION_FAILED (406) if a body of that size is too large; NOT_IMPLEMENTED (540) instead if the
    message is published with immediate=true."""
    limit = channel.session.limits.message_size_max
    if body_size < 0 or (limit and body_size > limit):
        if arguments[-1:] and arguments[-1] & 2:
            raise immediate()  # RabbitMQ looks at this flag first
        shown = int(body_size) & 0xFFFFFFFFFFFFFFFF
        raise ChannelException(
            PRECONDITION_FAILED, f"message size {shown} is larger than configured max size {limit}", 60, 40
        )


def unasked() -> ConnectionException:
    """The answer to a header or body frame where none was expected."""
    return ConnectionException(UNEXPECTED_FRAME, "expected method frame, got non method frame instead")


@final
class Assembly:
    """Of one channel: there is one from a basic.publish to the end of its content."""

    def __init__(self, arguments: bytes) -> None:
        self._arguments = arguments
        """Of the basic.publish."""
        self._content: Content | None = None
        """Once its header has come."""

    def receive_header(self, channel: Channel, reader: FrameReader) -> None:
        """A content header frame.

        Raises: UNEXPECTED_FRAME (505) if there was one already or it is of another class, FRAME_ERROR (501) if it is
        too short, and whatever the publish raises.
        """
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
        check_size(channel, self._arguments, body_size)
        header = data[reader.start - 7 : reader.end + 1]
        if body_size == 0:
            channel.assembly = None
            channel.publishing().complete(channel, self._arguments, header, len(header), 0, 0)
            return
        self._content = Content(header, body_size)
        channel.session.begin_content()

    def receive_body(self, channel: Channel, reader: FrameReader) -> None:
        """A content body frame.

        Raises: UNEXPECTED_FRAME (505) if no header precedes it, FRAME_ERROR (501) if there is more than was announced,
        and whatever the publish raises.
        """
        content = self._content
        if content is None:
            raise self.unexpected_method()
        size = reader.end - reader.start
        if size > content.missing:
            raise ConnectionException(FRAME_ERROR, "content body frame exceeds remaining content size", 60, 40)
        if size == 0:
            return
        content.add(reader.data, reader.start, reader.end)
        if content.missing > 0:
            channel.session.receive_part(size)
            return
        self.end(channel)
        joined = content.joined()
        publisher = channel.publishing()
        publisher.complete(
            channel, self._arguments, joined, content.header_size, content.body_size, content.payload_max
        )

    def missing(self) -> i64:
        """Bytes of the body that have not come yet."""
        content = self._content
        return 0 if content is None else content.missing

    def end(self, channel: Channel) -> None:
        """What has come makes a message, or is forgotten: its frames are not counted any more."""
        channel.assembly = None
        content = self._content
        if content is not None:
            session = channel.session
            session.end_content()
            session.alarms.received(-content.received)

    def unexpected_method(self) -> ConnectionException:
        """The answer to a method frame where content was expected."""
        if self._content is None:
            text = "expected content header for class 60, got non content header frame instead"
        else:
            text = "expected content body, got non content body frame instead"
        return ConnectionException(UNEXPECTED_FRAME, text, 60, 40)
