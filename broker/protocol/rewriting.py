"""Messages whose properties a broker changes: BCC is taken out of the headers, and reply-to names the requester's
address (RabbitMQ docs, Sender-selected Distribution; Direct Reply-to)."""

from __future__ import annotations

from broker import hidden_keys
from broker.message import Message
from broker.queues.changed_message import changed
from broker.queues.dead_letter import keys_in
from broker.wire import table
from broker.wire.properties import headers_of


def without_bcc(message: Message) -> Message:
    """``message`` without its BCC header, whose keys are kept where consumers do not see them."""
    headers = headers_of(message).raw
    kept = [pair for pair in table.split(headers, 0, len(headers)) if pair[0] != b"BCC"]
    tail = hidden_keys.with_keys(message.tail, keys_in(headers, b"BCC"))
    return changed(message, table.join(kept), None, tail)


def with_reply_to(message: Message, address: str) -> Message:
    """``message`` with that address to reply to."""
    return changed(message, None, address.encode(), message.tail)
