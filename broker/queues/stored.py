"""A message as its queue's log keeps it: everything that a consumer or a dead letter exchange may ask for later.

 0   flags            2    1: it expires by itself. Flags and size come first: the log sums them up without knowing
                           what they mean
 2   body size        6
 8   enqueued         8    wall time in milliseconds: TTLs go on while the node is down
16   expiration       8    the property in milliseconds, -1 when not set
24   header size      4    of the header frame in the content
28   payload max      4    of the body frames in the content
32   channel          2    of the frames in the content
34   priority         2    -1 when not set
36   tail size        2    with the hidden keys
38   persistent       2    1 or 0; 2 more: there are hidden keys
40   tail                  end of the basic.deliver, and hidden keys (hidden_keys.py)
     content               header frame and body frames, as received
"""

from __future__ import annotations

from typing import Final

from librt.strings import read_i16_be, read_i32_be, read_i64_be, write_i64_be

from broker import hidden_keys
from broker.message import Message
from broker.native import i64
from broker.store.batch_writer import BatchWriter
from broker.store.records import BODY_BYTES_MASK, FLAGS_SHIFT, HEAD_SIZE, content_at

EXPIRES: Final[i64] = 1
"""Flag: the message has an expiration of its own."""
_PERSISTENT: Final[i64] = 1
_HAS_KEYS: Final[i64] = 2


def stored_size(message: Message) -> i64:
    """Bytes that ``write_message`` will write."""
    tail = message.tail
    if message.hides_keys:
        tail = hidden_keys.stored(tail)
    return HEAD_SIZE + len(tail) + len(message.content)


def write_message(batch: BatchWriter, message: Message, wall_ms: i64) -> None:
    """Write the body of the record that was begun, and end it."""
    writer = batch.writer
    tail = message.tail
    marks = _PERSISTENT if message.persistent else 0
    if message.hides_keys:
        tail = hidden_keys.stored(tail)
        marks |= _HAS_KEYS
    write_i64_be(
        writer, message.body_size if message.expiration_ms < 0 else message.body_size | (EXPIRES << FLAGS_SHIFT)
    )
    write_i64_be(writer, wall_ms)
    write_i64_be(writer, message.expiration_ms)
    # Several fields in one number: each call costs more than what it writes.
    write_i64_be(writer, message.header_size << 32 | message.payload_max)
    channel = message.channel if message.channel < 0x8000 else message.channel - 0x10000
    write_i64_be(writer, channel << 48 | (message.priority & 0xFFFF) << 32 | len(tail) << 16 | marks)
    writer.write(tail)
    batch.write(message.content)
    batch.end()


def read_message(data: bytes, start: i64, end: i64, tail: bytes) -> Message:
    """The message that stands in ``data[start:end]``. ``tail`` is one that it may share, most likely its
    neighbour's."""
    return read_head(data, start, data[content_at(data, start) : end], tail)


def read_head(data: bytes, start: i64, content: bytes, tail: bytes) -> Message:
    """The message with this content, of which ``data`` has what stands before it, from ``start`` on. ``tail`` as
    above."""
    marks = i64(read_i16_be(data, start + 38))
    tail_at = start + HEAD_SIZE
    tail_end = content_at(data, start)
    if marks >= _HAS_KEYS:
        tail = hidden_keys.read(data[tail_at:tail_end])
    elif tail_end - tail_at != len(tail) or not _stands_at(data, tail_at, tail):
        tail = data[tail_at:tail_end]
    message = Message(
        content,
        tail,
        i64(read_i16_be(data, start + 32)) & 0xFFFF,
        i64(read_i32_be(data, start + 24)),
        read_i64_be(data, start) & BODY_BYTES_MASK,
        i64(read_i32_be(data, start + 28)),
        marks & _PERSISTENT != 0,
        i64(read_i16_be(data, start + 34)),
        read_i64_be(data, start + 16),
    )
    message.hides_keys = marks >= _HAS_KEYS
    return message


def _stands_at(data: bytes, at: i64, tail: bytes) -> bool:
    """Whether ``tail`` stands in ``data`` there, both being long enough. In words: to compare a slice that was just
    made takes 40 ns."""
    last: i64 = len(tail) - 8
    if last < 0:
        return data[at : at + len(tail)] == tail
    index: i64 = 0
    while index < last:
        if read_i64_be(data, at + index) != read_i64_be(tail, index):
            return False
        index += 8
    return read_i64_be(data, at + last) == read_i64_be(tail, last)


def enqueued_ms(data: bytes, start: i64) -> i64:
    """Wall time in milliseconds at which that message came."""
    return read_i64_be(data, start + 8)
