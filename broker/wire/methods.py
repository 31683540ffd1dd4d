"""Method payloads that are not hot: decoded and encoded by pamqp, behind a bounded walk of our own.

The walk checks every string and table against the frame before pamqp sees it, and keeps field tables away from it:
pamqp gets the method with an empty table (hostile tables overflow its stack or stall the loop), the table itself is
decoded by ``wire/table.py``, which keeps the type of every field. Publish, deliver, ack, nack, reject and get-ok are
written by hand in ``protocol/channel.py`` and ``wire/writer.py``; pamqp is their oracle in the tests.
"""

import re
from typing import Final, final

from librt.strings import read_i32_be
from pamqp import commands, encode
from pamqp.base import Frame
from pamqp.decode import by_type

from broker.errors import COMMAND_INVALID, FRAME_ERROR, INTERNAL_ERROR, ConnectionException
from broker.native import i64
from broker.wire import table
from broker.wire.erlang import frame, octets
from broker.wire.spec import ACCESS_REQUEST, BASIC_PUBLISH, BASIC_RECOVER_ASYNC
from broker.wire.table import FieldTable

_BIT: Final = 1
_SHORTSTR: Final = 2
_LONGSTR: Final = 3
_TABLE: Final = 4
_FIXED: Final[dict[str, int]] = {"octet": 1, "short": 2, "long": 4, "longlong": 8, "timestamp": 8}

_KINDS: Final[dict[str, int]] = {"bit": _BIT, "shortstr": _SHORTSTR, "longstr": _LONGSTR, "table": _TABLE}
_layouts: Final[dict[int, list[tuple[int, int]]]] = {
    # AMQP 0-8's class access, which RabbitMQ still answers and pamqp does not know: realm and five bits
    ACCESS_REQUEST: [(_SHORTSTR, 0), (_BIT, 0), (_BIT, 0), (_BIT, 0), (_BIT, 0), (_BIT, 0)],
}


@final
class Method:
    """A decoded method: ``fields`` is pamqp's object, ``arguments`` its field table (empty when it has none)."""

    def __init__(self, index: int, fields: Frame, arguments: FieldTable) -> None:
        self.index = index
        """Class id * 65536 + method id."""
        self.fields = fields
        self.arguments = arguments


def _layout(index: int) -> list[tuple[int, int]]:
    known = _layouts.get(index)
    if known is not None:
        return known
    cls: type[Frame] = commands.INDEX_MAPPING[index]
    result: list[tuple[int, int]] = []
    for name in cls.attributes():
        kind = cls.amqp_type(name)
        result.append((_KINDS.get(kind, 0), _FIXED.get(kind, 0)))
    _layouts[index] = result
    return result


def method_name(class_id: int, method_id: int) -> str:
    """The name that the specification gives a method, such as ``queue.declare-ok``; its numbers where it has none, ''
    for 0 and 0."""
    index = class_id << 16 | method_id
    if index == 0:
        return ""
    if index == ACCESS_REQUEST:
        return "access.request"
    known: type[Frame] | None = commands.INDEX_MAPPING.get(index)
    if known is None:
        return f"{class_id}.{method_id}"
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", str(known.name)).lower()


def undecodable(index: int, arguments: bytes) -> ConnectionException:
    """RabbitMQ's answer to a method or content header whose fields do not fit their frame (FRAME_ERROR, 501)."""
    return ConnectionException(FRAME_ERROR, f"cannot decode {octets(arguments[:100])}", index >> 16, index & 0xFFFF)


def decode(data: bytes, start: i64, end: i64, any_octets: bool = False) -> Method:
    """The method in the payload ``data[start:end]`` of a method frame.

    With ``any_octets`` a short string may hold any: those that are not UTF-8 become surrogates, as in the broker's own
    names.

    Raises: FRAME_ERROR (501) if a field runs past the payload, a table is malformed, octets are left over, or a short
    string is not UTF-8 (the specification has SYNTAX_ERROR for it); COMMAND_INVALID (503) if AMQP 0-9-1 has no such
    method.
    """
    if end - start < 4:
        raise ConnectionException(FRAME_ERROR, f"{frame(1, data[start:end])}: unknown_frame")
    index = int(i64(read_i32_be(data, start)) & 0xFFFFFFFF)
    if index not in commands.INDEX_MAPPING and index not in _layouts:
        raise ConnectionException(COMMAND_INVALID, "unimplemented method", index >> 16, index & 0xFFFF)
    at: i64 = start + 4
    bits: i64 = 0
    arguments = table.EMPTY
    table_at: i64 = -1
    table_end: i64 = -1
    for kind, width in _layout(index):
        if kind == _BIT:
            if bits % 8 == 0:
                at += 1
            bits += 1
            if at > end:
                raise undecodable(index, data[start + 4 : end])
            continue
        bits = 0
        if kind == 0:
            at += width
        elif kind == _SHORTSTR:
            if at >= end:
                raise undecodable(index, data[start + 4 : end])
            at += 1 + i64(data[at])
        else:
            if at + 4 > end:
                raise undecodable(index, data[start + 4 : end])
            size = i64(read_i32_be(data, at)) & 0xFFFFFFFF
            at += 4
            if size > end - at:
                raise undecodable(index, data[start + 4 : end])
            if kind == _TABLE:
                arguments = _arguments(data, at, at + size, index, start + 4, end)
                table_at = at
                table_end = at + size
            at += size
        if at > end:
            raise undecodable(index, data[start + 4 : end])
    if at != end:
        raise undecodable(index, data[start + 4 : end])
    payload = data[start + 4 : end]
    if table_at >= 0:
        payload = data[start + 4 : table_at - 4] + b"\x00\x00\x00\x00" + data[table_end:end]
    fields = _blank(index)
    try:
        fields.unmarshal(payload)
    except ValueError as error:
        if not any_octets:
            raise ConnectionException(FRAME_ERROR, "Malformed UTF-8 in shortstr") from error
        _set_fields(fields, payload)
    return Method(index, fields, arguments)


def _set_fields(fields: Frame, payload: bytes) -> None:
    """What pamqp's ``unmarshal`` does, for short strings of any octets. The walk has seen that all of it is there."""
    at = 0
    bit = 8
    for name in fields.attributes():
        kind = fields.amqp_type(name)
        if kind == "bit":
            if bit == 8:
                bit = 0
                at += 1
            setattr(fields, name, payload[at - 1] >> bit & 1 == 1)
            bit += 1
            continue
        bit = 8
        if kind == "shortstr":
            size = payload[at]
            setattr(fields, name, payload[at + 1 : at + 1 + size].decode("utf-8", "surrogateescape"))
            at += 1 + size
        else:
            consumed, value = by_type(payload[at:], kind)
            setattr(fields, name, value)
            at += consumed


def _blank(index: int) -> Frame:
    if index == ACCESS_REQUEST:
        return Frame()
    if index == BASIC_RECOVER_ASYNC:
        # pamqp's constructor warns that the method is deprecated: for clients, not for a server that is asked for it
        fields: Frame = commands.Basic.RecoverAsync.__new__(commands.Basic.RecoverAsync)
        return fields
    made: Frame = commands.INDEX_MAPPING[index]()
    return made


def _arguments(data: bytes, start: i64, end: i64, index: int, fields_start: i64, fields_end: i64) -> FieldTable:
    try:
        return table.decode(data, start, end)
    except ConnectionException as error:
        raise undecodable(index, data[fields_start:fields_end]) from error


def split_publish(arguments: bytes) -> tuple[bytes, bytes, int]:
    """Exchange, routing key and bits of a basic.publish, whose arguments these are (ticket onward).

    Raises: FRAME_ERROR (501) if they do not fill the frame exactly.
    """
    size: i64 = len(arguments)
    if size >= 5:
        at: i64 = 3 + i64(arguments[2])
        if at < size:
            end = at + 1 + i64(arguments[at])
            if end + 1 == size:
                return arguments[3:at], arguments[at + 1 : end], int(arguments[end])
    raise undecodable(BASIC_PUBLISH, arguments)


def method_frame(channel: int, index: int, values: list[tuple[str, object]]) -> bytes:
    """A whole method frame for ``channel``; ``values`` are (AMQP type, value) in the order of the specification.

    Bits must be packed into an octet by the caller; a table is given as its encoded content (type ``rawtable``).
    pamqp's own ``marshal`` is not used because it refuses names that RabbitMQ accepts.
    """
    parts = [index.to_bytes(4, "big")]
    for kind, value in values:
        if kind == "shortstr":
            text = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
            text = text[:255]
            parts.append(bytes([len(text)]) + text)
        elif kind == "rawtable":
            assert isinstance(value, bytes)
            parts.append(len(value).to_bytes(4, "big") + value)
        else:
            parts.append(encode.by_type(value, kind))  # type: ignore[arg-type]  # pamqp's union of field types
    payload = b"".join(parts)
    if channel > 0xFFFF:
        raise ConnectionException(INTERNAL_ERROR, "channel number out of range")
    return b"\x01" + channel.to_bytes(2, "big") + len(payload).to_bytes(4, "big") + payload + b"\xce"
