"""What the broker says while messages flow, written by hand: deliver, get-ok, return, ack, nack, content.

Every function appends to a ``BytesWriter``; nothing is formatted per message that can be prepared per consumer or per
route. basic.deliver is start + delivery tag + tail: the start depends on the consumer and the tail's length, the tail
on the route.
"""

from typing import Final

from librt.strings import BytesWriter, read_i32_be, write_i32_be, write_i64_be

from broker.message import Message
from broker.native import i32, i64, u8
from broker.wire.spec import FRAME_OVERHEAD

HEARTBEAT: Final = b"\x08\x00\x00\x00\x00\x00\x00\xce"
_ACK: Final = 0x003C0050
_NACK: Final = 0x003C0078
_ACK_PAYLOAD: Final = 13


def deliver_start(channel: int, consumer_tag: bytes, tail_size: int) -> bytes:
    """The beginning of a basic.deliver frame up to the delivery tag, for tails of ``tail_size`` bytes."""
    size = 4 + 1 + len(consumer_tag) + 8 + tail_size - 1
    return (
        b"\x01"
        + channel.to_bytes(2, "big")
        + size.to_bytes(4, "big")
        + b"\x00\x3c\x00\x3c"
        + bytes([len(consumer_tag)])
        + consumer_tag
    )


def _write_short(out: BytesWriter, value: i64) -> None:
    # two octets, not write_i16_be: it is signed, and what wraps compiled is an error interpreted
    out.append(int(value >> 8) & 0xFF)
    out.append(int(value) & 0xFF)


def write_get_ok(
    out: BytesWriter, channel: i64, delivery_tag: i64, redelivered: bool, tail: bytes, message_count: i64
) -> None:
    """basic.get-ok: like deliver without a consumer tag, with the number of messages left in the queue."""
    size: i64 = 4 + 8 + i64(len(tail)) - 1 + 4
    out.append(1)
    _write_short(out, channel)
    write_i32_be(out, i32(size))
    write_i32_be(out, 0x003C0047)
    write_i64_be(out, delivery_tag)
    out.append(1 if redelivered else 0)
    out.write(tail[1:-1])
    write_i32_be(out, i32(message_count))
    out.append(0xCE)


def write_return(out: BytesWriter, channel: i64, code: i64, text: bytes, tail: bytes) -> None:
    """basic.return with reply code and text; the content follows separately."""
    size: i64 = 4 + 2 + 1 + i64(len(text)) + i64(len(tail)) - 2
    out.append(1)
    _write_short(out, channel)
    write_i32_be(out, i32(size))
    write_i32_be(out, 0x003C0032)
    _write_short(out, code)
    out.append(len(text))
    out.write(text)
    out.write(tail[1:])


def _write_settlement(out: BytesWriter, channel: i64, method: i64, tag: i64, bits: i64) -> None:
    out.append(1)
    _write_short(out, channel)
    write_i32_be(out, _ACK_PAYLOAD)
    write_i32_be(out, i32(method))
    write_i64_be(out, tag)
    out.append(int(bits))
    out.append(0xCE)


def write_ack(out: BytesWriter, channel: i64, sequence: i64, multiple: bool) -> None:
    """basic.ack to a publisher."""
    _write_settlement(out, channel, _ACK, sequence, 1 if multiple else 0)


def write_nack(out: BytesWriter, channel: i64, sequence: i64, multiple: bool) -> None:
    """basic.nack to a publisher; requeue has no meaning in this direction and is sent as 0."""
    _write_settlement(out, channel, _NACK, sequence, 1 if multiple else 0)


def write_content(out: BytesWriter, message: Message, channel: i64, payload_max: i64) -> None:
    """The header and body frames of ``message`` on ``channel``, no frame's payload larger than ``payload_max`` (0: no
    limit)."""
    if payload_max and message.payload_max > payload_max:
        _write_reframed(out, message, channel, payload_max)
        return
    at: i64 = len(out)
    content = message.content
    out.write(content)
    if message.channel != channel:
        renumber(out, at, content, channel)


def renumber(out: BytesWriter, at: i64, content: bytes, channel: i64) -> None:
    """Overwrite the channel number in the frames of ``content``, which starts at ``at`` in ``out``."""
    high = u8((channel >> 8) & 0xFF)
    low = u8(channel & 0xFF)
    position: i64 = 0
    size: i64 = len(content)
    while position < size:
        out[at + position + 1] = high
        out[at + position + 2] = low
        position += (i64(read_i32_be(content, position + 3)) & 0xFFFFFFFF) + FRAME_OVERHEAD


def body_of(message: Message) -> bytes:
    """The body without its frames."""
    content = message.content
    size: i64 = len(content)
    at: i64 = message.header_size
    parts: list[bytes] = []
    while at < size:
        length = i64(read_i32_be(content, at + 3)) & 0xFFFFFFFF
        parts.append(content[at + 7 : at + 7 + length])
        at += length + FRAME_OVERHEAD
    if len(parts) == 1:
        return parts[0]
    return b"".join(parts)


def _write_reframed(out: BytesWriter, message: Message, channel: i64, payload_max: i64) -> None:
    # a consumer negotiated smaller frames than the publisher: the header fits (properties are bounded by the smallest
    # frame-max a client may ask for only on its own side, so a larger header still has to go out whole), the body is
    # cut anew
    header = message.content[: message.header_size]
    at: i64 = len(out)
    out.write(header)
    renumber(out, at, header, channel)
    _write_cut(out, 3, channel, body_of(message), payload_max)


def _write_cut(out: BytesWriter, kind: u8, channel: i64, payload: bytes, payload_max: i64) -> None:
    """Frames of this kind that have parts of ``payload`` as theirs: at least one, which may be empty."""
    at: i64 = 0
    end: i64 = len(payload)
    while True:
        length = end - at
        if length > payload_max:
            length = payload_max
        out.append(kind)
        _write_short(out, channel)
        write_i32_be(out, i32(length))
        out.write(payload[at : at + length])
        out.append(0xCE)
        at += length
        if at >= end:
            return


def write_frames(out: BytesWriter, message: Message, at: i64, size: i64, channel: i64, payload_max: i64) -> i64:
    """The frames of ``message`` from offset ``at`` on, each cut where it is too large, until they are ``size`` bytes or
    more.

    Returns the offset of the first one that is left; the length of the content when there is none.
    """
    content = message.content
    limit: i64 = len(content)
    first: i64 = len(out)
    while at < limit and len(out) - first < size:
        length = i64(read_i32_be(content, at + 3)) & 0xFFFFFFFF
        end = at + 7 + length
        most = payload_max if payload_max and at > 0 else length  # a header goes out whole
        _write_cut(out, content[at], channel, content[at + 7 : end], most)
        at = end + 1
    return at


def make_content(channel: i64, properties: bytes, body: bytes, payload_max: i64) -> tuple[bytes, int]:
    """Header and body frames for ``properties`` (flags onward) and ``body``, and the size of the header frame."""
    header = b"\x00\x3c\x00\x00" + len(body).to_bytes(8, "big") + properties
    number = int(channel).to_bytes(2, "big")
    parts = [b"\x02", number, len(header).to_bytes(4, "big"), header, b"\xce"]
    at: i64 = 0
    while at < len(body):
        piece = body[at : at + payload_max]
        parts += [b"\x03", number, len(piece).to_bytes(4, "big"), piece, b"\xce"]
        at += len(piece)
    return b"".join(parts), len(header) + 8
