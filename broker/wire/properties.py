"""The properties in a content header: a word of flags, then the fields it announces, in a fixed order (AMQP 0-9-1
§4.2.6.1).

    content-type content-encoding headers delivery-mode priority correlation-id reply-to
    expiration message-id timestamp type user-id app-id cluster-id

Messages keep these bytes as they came. ``summarize`` walks them once and notes numbers only, for what every publish
must know; ``decode`` makes values for the features that ask; ``rewrite`` makes the bytes of a message that was
dead-lettered or sent through a header-changing feature, leaving every other field as it was; ``encode`` makes those of
the server's own messages. Everything here speaks of ``data[start:end]``: from the flags on to the end of the header
frame's payload.
"""

from typing import Final, final

from librt.strings import read_i16_be, read_i32_be, read_i64_be
from mypy_extensions import mypyc_attr

from broker.errors import SYNTAX_ERROR, ConnectionException
from broker.message import Message
from broker.native import i64
from broker.wire import table
from broker.wire.spec import (
    APP_ID,
    CLUSTER_ID,
    CONTENT_ENCODING,
    CONTENT_TYPE,
    CORRELATION_ID,
    DELIVERY_MODE,
    EXPIRATION,
    FLAGS_CONTINUE,
    HEADERS,
    MESSAGE_ID,
    PRIORITY,
    REPLY_TO,
    SHORTSTR_MAX,
    TIMESTAMP,
    TYPE,
    USER_ID,
)
from broker.wire.table import FieldTable

CONTENT_PROPERTIES_AT: Final = 19
"""Where the properties begin in a content: behind the frame header (7), the class (2), the weight (2) and the body size
(8)."""
_TAIL: Final = MESSAGE_ID | TIMESTAMP | TYPE | USER_ID | APP_ID | CLUSTER_ID


def _fault(text: str) -> ConnectionException:
    return ConnectionException(SYNTAX_ERROR, f"malformed content header: {text}")


@final
@mypyc_attr(acyclic=True)
class HeaderSummary:
    """What a publish needs to know of a content header, as numbers. Offsets count from the flags; -1 means the field is
    absent."""

    __slots__ = (
        "delivery_mode",
        "end",
        "expiration_end",
        "expiration_start",
        "flags",
        "headers_end",
        "headers_start",
        "priority",
        "reply_to_end",
        "reply_to_start",
        "user_id_end",
        "user_id_start",
    )

    def __init__(self, flags: i64, end: i64) -> None:
        self.flags: i64 = flags
        self.delivery_mode: i64 = 0
        """1 transient, 2 persistent, 0 absent."""
        self.priority: i64 = -1
        self.headers_start: i64 = -1
        """The content of the headers table, after its length."""
        self.headers_end: i64 = -1
        self.reply_to_start: i64 = -1
        self.reply_to_end: i64 = -1
        self.expiration_start: i64 = -1
        self.expiration_end: i64 = -1
        self.user_id_start: i64 = -1
        self.user_id_end: i64 = -1
        self.end: i64 = end
        """Size of all property bytes."""


def _flags(data: bytes, start: i64, end: i64) -> i64:
    if start < 0 or end > len(data) or end - start < 2:
        raise _fault("no property flags")
    flags = i64(read_i16_be(data, start)) & 0xFFFF
    if flags & FLAGS_CONTINUE:
        raise _fault("unknown property flags")
    return flags


def _shortstr(data: bytes, at: i64, end: i64) -> i64:
    """Where the short string at ``at`` ends."""
    if at >= end:
        raise _fault("a property runs past the end")
    at += 1 + i64(data[at])
    if at > end:
        raise _fault("a property runs past the end")
    return at


def _fixed(at: i64, size: i64, end: i64) -> i64:
    """Where the field of ``size`` bytes at ``at`` ends."""
    if end - at < size:
        raise _fault("a property runs past the end")
    return at + size


def _table(data: bytes, at: i64, end: i64, trusted: bool) -> i64:
    """Where the table at ``at`` ends; its content is checked, unless it is the server's own."""
    if end - at < 4:
        raise _fault("a property runs past the end")
    size = i64(read_i32_be(data, at)) & 0xFFFFFFFF
    at += 4
    if size > end - at:
        raise _fault("a property runs past the end")
    if not trusted:
        table.check(data, at, at + size)
    return at + size


def summarize(data: bytes, start: i64, end: i64, trusted: bool = False) -> HeaderSummary:
    """Walk the whole content header once and note where things are.

    ``trusted``: the message was taken before, and what the server added to its headers may have carried them over the
    limits that hold for clients.

    Raises: SYNTAX_ERROR (502) if a field runs past the end, bytes are left over, the headers table is malformed
    (``table.check``), or the flags announce more flags.
    """
    flags = _flags(data, start, end)
    summary = HeaderSummary(flags, end - start)
    at = start + 2
    if flags & CONTENT_TYPE:
        at = _shortstr(data, at, end)
    if flags & CONTENT_ENCODING:
        at = _shortstr(data, at, end)
    if flags & HEADERS:
        summary.headers_start = at + 4 - start
        at = _table(data, at, end, trusted)
        summary.headers_end = at - start
    if flags & DELIVERY_MODE:
        at = _fixed(at, 1, end)
        summary.delivery_mode = i64(data[at - 1])
    if flags & PRIORITY:
        at = _fixed(at, 1, end)
        summary.priority = i64(data[at - 1])
    if flags & CORRELATION_ID:
        at = _shortstr(data, at, end)
    if flags & REPLY_TO:
        summary.reply_to_start = at + 1 - start
        at = _shortstr(data, at, end)
        summary.reply_to_end = at - start
    if flags & EXPIRATION:
        summary.expiration_start = at + 1 - start
        at = _shortstr(data, at, end)
        summary.expiration_end = at - start
    if flags & _TAIL:
        at = _summarize_tail(summary, data, start, at, end)
    if at != end:
        raise _fault("bytes left over after the last property")
    return summary


def _summarize_tail(summary: HeaderSummary, data: bytes, start: i64, at: i64, end: i64) -> i64:
    """The properties behind expiration; returns where they end."""
    flags = summary.flags
    if flags & MESSAGE_ID:
        at = _shortstr(data, at, end)
    if flags & TIMESTAMP:
        at = _fixed(at, 8, end)
    if flags & TYPE:
        at = _shortstr(data, at, end)
    if flags & USER_ID:
        summary.user_id_start = at + 1 - start
        at = _shortstr(data, at, end)
        summary.user_id_end = at - start
    if flags & APP_ID:
        at = _shortstr(data, at, end)
    if flags & CLUSTER_ID:
        at = _shortstr(data, at, end)
    return at


@final
class Properties:
    """The 14 basic properties as values; None where the header does not set one. An empty string or table is set.

    They are arguments one by one, in the order of the specification, because that is what they are for whoever makes a
    message: any of them, by name.
    """

    __slots__ = (
        "app_id",
        "cluster_id",
        "content_encoding",
        "content_type",
        "correlation_id",
        "delivery_mode",
        "expiration",
        "headers",
        "message_id",
        "priority",
        "reply_to",
        "timestamp",
        "type",
        "user_id",
    )

    def __init__(
        self,
        content_type: str | None = None,
        content_encoding: str | None = None,
        headers: FieldTable | None = None,
        delivery_mode: int | None = None,
        priority: int | None = None,
        correlation_id: str | None = None,
        reply_to: str | None = None,
        expiration: str | None = None,
        message_id: str | None = None,
        timestamp: int | None = None,
        type: str | None = None,
        user_id: str | None = None,
        app_id: str | None = None,
        cluster_id: str | None = None,
    ) -> None:
        self.content_type = content_type
        self.content_encoding = content_encoding
        self.headers = headers
        self.delivery_mode = delivery_mode
        self.priority = priority
        self.correlation_id = correlation_id
        self.reply_to = reply_to
        self.expiration = expiration
        self.message_id = message_id
        self.timestamp = timestamp
        """Seconds since 1970; some clients send milliseconds."""
        self.type = type
        self.user_id = user_id
        self.app_id = app_id
        self.cluster_id = cluster_id


def _text(data: bytes, at: i64, after: i64) -> str:
    return data[at + 1 : after].decode("utf-8", "surrogateescape")


def decode(data: bytes, start: i64, end: i64, trusted: bool = False) -> Properties:
    """All properties as values; bytes that are not UTF-8 become surrogates. Raises: SYNTAX_ERROR (502) as ``summarize``
    does."""
    summarize(data, start, end, trusted)
    flags = i64(read_i16_be(data, start)) & 0xFFFF
    found = Properties()
    at = start + 2
    if flags & CONTENT_TYPE:
        after = _shortstr(data, at, end)
        found.content_type = _text(data, at, after)
        at = after
    if flags & CONTENT_ENCODING:
        after = _shortstr(data, at, end)
        found.content_encoding = _text(data, at, after)
        at = after
    if flags & HEADERS:
        after = at + 4 + (i64(read_i32_be(data, at)) & 0xFFFFFFFF)
        found.headers = FieldTable(data[at + 4 : after])
        at = after
    if flags & DELIVERY_MODE:
        found.delivery_mode = int(data[at])
        at += 1
    if flags & PRIORITY:
        found.priority = int(data[at])
        at += 1
    if flags & CORRELATION_ID:
        after = _shortstr(data, at, end)
        found.correlation_id = _text(data, at, after)
        at = after
    if flags & REPLY_TO:
        after = _shortstr(data, at, end)
        found.reply_to = _text(data, at, after)
        at = after
    if flags & EXPIRATION:
        after = _shortstr(data, at, end)
        found.expiration = _text(data, at, after)
        at = after
    if flags & _TAIL:
        _decode_tail(found, data, at, end, flags)
    return found


def _decode_tail(found: Properties, data: bytes, at: i64, end: i64, flags: i64) -> None:
    """The properties behind expiration."""
    if flags & MESSAGE_ID:
        after = _shortstr(data, at, end)
        found.message_id = _text(data, at, after)
        at = after
    if flags & TIMESTAMP:
        found.timestamp = int(read_i64_be(data, at)) & 0xFFFFFFFFFFFFFFFF
        at += 8
    if flags & TYPE:
        after = _shortstr(data, at, end)
        found.type = _text(data, at, after)
        at = after
    if flags & USER_ID:
        after = _shortstr(data, at, end)
        found.user_id = _text(data, at, after)
        at = after
    if flags & APP_ID:
        after = _shortstr(data, at, end)
        found.app_id = _text(data, at, after)
        at = after
    if flags & CLUSTER_ID:
        after = _shortstr(data, at, end)
        found.cluster_id = _text(data, at, after)


def rewrite(
    data: bytes, start: i64, end: i64, headers_content: bytes | None, drop_expiration: bool, reply_to: bytes | None
) -> bytes:
    """New property bytes with up to three fields changed and every other byte as it was.

    ``headers_content`` (checked or server-made table content) and ``reply_to`` replace the field or add it; None leaves
    it alone. Raises: SYNTAX_ERROR (502) as ``summarize`` does; ValueError if ``reply_to`` is longer than 255 bytes.
    """
    summary = summarize(data, start, end, True)
    flags = summary.flags
    parts: list[bytes] = [b""]  # the flags, once they are known
    kept = start + 2  # copied up to here
    at = start + 2
    if flags & CONTENT_TYPE:
        at = _shortstr(data, at, end)
    if flags & CONTENT_ENCODING:
        at = _shortstr(data, at, end)
    after = start + summary.headers_end if flags & HEADERS else at
    if headers_content is not None:
        parts.append(data[kept:at])
        parts.append(len(headers_content).to_bytes(4, "big"))
        parts.append(headers_content)
        kept = after
        flags |= HEADERS
    at = after
    if flags & DELIVERY_MODE:
        at += 1
    if flags & PRIORITY:
        at += 1
    if flags & CORRELATION_ID:
        at = _shortstr(data, at, end)
    after = start + summary.reply_to_end if flags & REPLY_TO else at
    if reply_to is not None:
        parts.append(data[kept:at])
        parts.append(_short(reply_to))
        kept = after
        flags |= REPLY_TO
    at = after
    if drop_expiration and flags & EXPIRATION:
        parts.append(data[kept:at])
        kept = start + summary.expiration_end
        flags &= ~EXPIRATION
    parts.append(data[kept:end])
    parts[0] = int(flags).to_bytes(2, "big")
    return b"".join(parts)


def _short(value: bytes) -> bytes:
    if len(value) > SHORTSTR_MAX:
        raise ValueError(f"{len(value)} bytes do not fit a short string")
    return bytes([len(value)]) + value


def _put(parts: list[bytes], flag: int, value: str | None) -> int:
    """Append a short string if there is one; returns the flag that announces it, or 0."""
    if value is None:
        return 0
    parts.append(_short(value.encode("utf-8", "surrogateescape")))
    return flag


def encode(properties: Properties) -> bytes:
    """Property bytes, flags first. Raises ValueError if a string is longer than 255 bytes or a number does not fit its
    field."""
    parts: list[bytes] = [b""]
    flags = _put(parts, CONTENT_TYPE, properties.content_type)
    flags |= _put(parts, CONTENT_ENCODING, properties.content_encoding)
    headers = properties.headers
    if headers is not None:
        parts.append(len(headers.raw).to_bytes(4, "big"))
        parts.append(headers.raw)
        flags |= HEADERS
    if properties.delivery_mode is not None:
        parts.append(bytes([properties.delivery_mode]))
        flags |= DELIVERY_MODE
    if properties.priority is not None:
        parts.append(bytes([properties.priority]))
        flags |= PRIORITY
    flags |= _put(parts, CORRELATION_ID, properties.correlation_id)
    flags |= _put(parts, REPLY_TO, properties.reply_to)
    flags |= _put(parts, EXPIRATION, properties.expiration)
    flags |= _put(parts, MESSAGE_ID, properties.message_id)
    timestamp = properties.timestamp
    if timestamp is not None:
        if timestamp < 0 or timestamp > 0xFFFFFFFFFFFFFFFF:
            raise ValueError(f"{timestamp} does not fit a timestamp")
        parts.append(timestamp.to_bytes(8, "big"))
        flags |= TIMESTAMP
    flags |= _put(parts, TYPE, properties.type)
    flags |= _put(parts, USER_ID, properties.user_id)
    flags |= _put(parts, APP_ID, properties.app_id)
    flags |= _put(parts, CLUSTER_ID, properties.cluster_id)
    parts[0] = flags.to_bytes(2, "big")
    return b"".join(parts)


def timestamp_of(message: Message) -> int | None:
    """The timestamp property of a message, in seconds since 1970 if the client keeps to the rule; None when it has
    none."""
    content = message.content
    end = message.header_size - 1
    if _flags(content, CONTENT_PROPERTIES_AT, end) & TIMESTAMP == 0:
        return None
    return decode(content, CONTENT_PROPERTIES_AT, end, True).timestamp


def headers_of(message: Message) -> FieldTable:
    """The headers table of a message; empty when it has none."""
    content = message.content
    summary = summarize(content, CONTENT_PROPERTIES_AT, message.header_size - 1, True)
    if summary.headers_start < 0:
        return table.EMPTY
    return FieldTable(
        content[CONTENT_PROPERTIES_AT + summary.headers_start : CONTENT_PROPERTIES_AT + summary.headers_end]
    )
