"""The header ``x-death`` as the bytes it is: an array with one table for each (queue, reason), the newest first.

A message that has died in a hundred queues has a hundred tables. To make objects of all of them, and tables of those
again, would take 0.4 ms at each further death, and 4 ms with a thousand; so the array stays bytes, and is looked
through only if the queue is in it at all. Deaths are what stands in the array, one element behind the other.

A publisher may send the header, too: a client that publishes again what it has got does. Of that only deaths that are
whole are taken, and of several with the same queue and reason the first, as in RabbitMQ 3.13 (mc_amqpl, recover_deaths)
and before (one table for each).
"""

from __future__ import annotations

from typing import Final

from broker.native import i64
from broker.wire import table
from broker.wire.field_types import ARRAY, TABLE, after_value
from broker.wire.field_values import read_value

_COUNT_MAX: Final = (1 << 63) - 1
_WHOLE: Final = 63
_FIELDS: Final[dict[bytes, tuple[int, bytes]]] = {
    b"count": (1, b"bBsuIilL"),
    b"reason": (2, b"S"),
    b"queue": (4, b"S"),
    b"time": (8, b"TbBsuIilL"),
    b"exchange": (16, b"S"),
    b"routing-keys": (32, b"A"),
}
"""What a death has: a bit for each field, and the types that it may be of."""


def deaths_of(headers: bytes) -> bytes:
    """The deaths in a headers table that was written here; b"" if there are none."""
    at: i64 = table.find(headers, 0, len(headers), b"x-death")
    if at < 0 or headers[at] != ARRAY:
        return b""
    start = at + 5
    end = after_value(headers, at)
    return headers[start:end]


def whole_deaths_of(headers: bytes) -> bytes:
    """The deaths in a headers table that a publisher may have written: one for each queue and reason, those that lack
    nothing."""
    deaths = deaths_of(headers)
    tables: list[bytes] = []
    seen: set[bytes] = set()
    at: i64 = 0
    end: i64 = len(deaths)
    while at < end:
        after = after_value(deaths, at)
        if deaths[at] == TABLE and _is_whole(deaths, at + 5, after):
            key = _value_of(deaths, at, after, b"queue") + _value_of(deaths, at, after, b"reason")
            if key not in seen:
                seen.add(key)
                tables.append(deaths[at:after])
        at = after
    return b"".join(tables)


def _is_whole(deaths: bytes, start: i64, end: i64) -> bool:
    """Whether the fields from ``start`` to ``end`` tell all that is told of a death, each in a type that can be told
    again."""
    found = 0
    for key, value in table.split(deaths, start, end):
        field = _FIELDS.get(key)
        if field is not None and not found & field[0]:
            if value[0] not in field[1]:
                return False
            found |= field[0]
    return found == _WHOLE


def _value_of(deaths: bytes, start: i64, end: i64, field: bytes) -> bytes:
    at = table.find(deaths, start + 5, end, field)
    return deaths[at : after_value(deaths, at)]


def with_death(deaths: bytes, queue: str, reason: str, first: dict[str, object]) -> bytes:
    """The array, type tag and value, after one more death: counted where it stands, which comes to the front, or
    ``first`` before all."""
    wanted_queue = table.encode_value(queue)
    wanted_reason = table.encode_value(reason)
    at: i64 = 0
    end: i64 = len(deaths) if wanted_queue in deaths else 0
    while at < end:
        after = after_value(deaths, at)
        if _has(deaths, at, after, b"queue", wanted_queue) and _has(deaths, at, after, b"reason", wanted_reason):
            return _array([_counted(deaths[at + 5 : after]), deaths[:at], deaths[after:]])
        at = after
    return _array([table.encode_value(first), deaths])


def is_cycle(queue: str, deaths: bytes) -> bool:
    """Whether the message comes back to ``queue`` without a client having rejected it on the way: then it is
    dropped."""
    wanted = table.encode_value(queue)
    if wanted not in deaths:
        return False
    rejected = table.encode_value("rejected")
    at: i64 = 0
    end: i64 = len(deaths)
    while at < end:
        after = after_value(deaths, at)
        if _has(deaths, at, after, b"reason", rejected):
            return False
        if _has(deaths, at, after, b"queue", wanted):
            return True
        at = after
    return False


def _has(deaths: bytes, start: i64, end: i64, field: bytes, value: bytes) -> bool:
    """Whether the table at ``start`` has this field with this value."""
    at = table.find(deaths, start + 5, end, field)
    return at >= 0 and deaths[at : at + len(value)] == value


def _counted(death: bytes) -> bytes:
    """A death, without tag and size, as an element of the array in which it is counted once more."""
    fields = table.split(death, 0, len(death))
    for i in range(len(fields)):
        key, value = fields[i]
        if key == b"count":
            fields[i] = (key, table.encode_value(_following(value)))
            break
    return table.encode_value(table.FieldTable(table.join(fields)))


def _following(value: bytes) -> int:
    count = read_value(value)
    assert isinstance(count, int)
    return count + 1 if count < _COUNT_MAX else _COUNT_MAX


def _array(elements: list[bytes]) -> bytes:
    content = b"".join(elements)
    return b"A" + len(content).to_bytes(4, "big") + content
