"""Messages of which a property is changed; the body stays as it is."""

from __future__ import annotations

from broker import hidden_keys
from broker.message import Message
from broker.native import i64
from broker.wire import properties
from broker.wire.properties import CONTENT_PROPERTIES_AT
from broker.wire.writer import make_content


def changed(message: Message, headers: bytes | None, reply_to: bytes | None, tail: bytes) -> Message:
    """``message`` with this content of its headers and with this address to reply to, each unless it is None, and with
    this end of its basic.deliver."""
    at: i64 = CONTENT_PROPERTIES_AT
    end: i64 = message.header_size - 1
    content = message.content
    header, size = make_content(message.channel, properties.rewrite(content, at, end, headers, False, reply_to), b"", 1)
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
