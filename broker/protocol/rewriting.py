"""Messages whose properties a broker changes: BCC is taken out of the headers, and reply-to names the requester's
address (RabbitMQ docs, Sender-selected Distribution; Direct Reply-to)."""

from __future__ import annotations

from broker import hidden_keys
from broker.message import Message
from broker.native import i64
from broker.queues.dead_letter import keys_in
from broker.wire import properties, table
from broker.wire.properties import CONTENT_PROPERTIES_AT, headers_of
from broker.wire.writer import make_content


def without_bcc(message: Message) -> Message:
    """``message`` without its BCC header, whose keys are kept where consumers do not see them."""
    headers = headers_of(message).raw
    kept = [pair for pair in table.split(headers, 0, len(headers)) if pair[0] != b"BCC"]
    tail = hidden_keys.with_keys(message.tail, keys_in(headers, b"BCC"))
    return _with(message, _changed(message, table.join(kept), None), tail)


def with_reply_to(message: Message, address: str) -> Message:
    """``message`` with that address to reply to."""
    return _with(message, _changed(message, None, address.encode()), message.tail)


def _changed(message: Message, headers: bytes | None, reply_to: bytes | None) -> bytes:
    at: i64 = CONTENT_PROPERTIES_AT
    end: i64 = message.header_size - 1
    return properties.rewrite(message.content, at, end, headers, False, reply_to)


def _with(message: Message, changed: bytes, tail: bytes) -> Message:
    content = message.content
    header, size = make_content(message.channel, changed, b"", 1)
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
