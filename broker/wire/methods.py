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
    walk = _Walk(data, start + 4, end)
    if not walk.is_whole(_layout(index)):
        raise undecodable(index, data[start + 4 : end])
    arguments = table.EMPTY
    payload = data[start + 4 : end]
    if walk.table_at >= 0:
        try:
            arguments = table.decode(data, walk.table_at, walk.table_end)
        except ConnectionException as malformed:
            raise undecodable(index, payload) from malformed
        payload = data[start + 4 : walk.table_at - 4] + b"\x00\x00\x00\x00" + data[walk.table_end : end]
    fields = _blank(index)
    try:
        fields.unmarshal(payload)
    except ValueError as no_utf8:
        if not any_octets:
            raise ConnectionException(FRAME_ERROR, "Malformed UTF-8 in shortstr") from no_utf8
        _set_fields(fields, payload)
    return Method(index, fields, arguments)


@final
class _Walk:
    """The fields of a method in ``data[at:end]``, before anybody decodes them."""

    def __init__(self, data: bytes, at: i64, end: i64) -> None:
        self.table_at: i64 = -1
        """Where the content of its field table begins; -1 if it has none. No method has two."""
        self.table_end: i64 = -1
        self._data = data
        self._at: i64 = at
        self._end: i64 = end

    def is_whole(self, layout: list[tuple[int, int]]) -> bool:
        """Whether these fields are there, and nothing else."""
        bits: i64 = 0
        for kind, width in layout:
            if kind == _BIT:
                if bits % 8 == 0:
                    self._at += 1
                bits += 1
            else:
                bits = 0
                if kind == 0:
                    self._at += width
                elif not self._pass_string(kind):
                    return False
            if self._at > self._end:
                return False
        return self._at == self._end

    def _pass_string(self, kind: int) -> bool:
        """A short or long string, or a table; False if its size is not there. It may run past the end."""
        data = self._data
        at = self._at
        if kind == _SHORTSTR:
            if at >= self._end:
                return False
            self._at = at + 1 + i64(data[at])
            return True
        if at + 4 > self._end:
            return False
        self._at = at + 4 + (i64(read_i32_be(data, at)) & 0xFFFFFFFF)
        if kind == _TABLE:
            self.table_at = at + 4
            self.table_end = self._at
        return True


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
