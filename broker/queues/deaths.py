"""The header ``x-death`` as the bytes it is: an array with one table for each (queue, reason), the newest first.

A message that has died in a hundred queues has a hundred tables. To make objects of all of them, and tables of those again, would take
0.4 ms at each further death, and 4 ms with a thousand; so the array stays bytes, and is looked through only if the queue is in it at all.
Deaths are what stands in the array, one element behind the other; what is no table is left out.
"""

from __future__ import annotations

from typing import Final

from broker.native import i64
from broker.wire import table

_COUNT_MAX: Final = (1 << 63) - 1


def deaths_of(headers: bytes) -> bytes:
    """The deaths in a headers table; b"" if there are none."""
    at: i64 = table.find(headers, 0, len(headers), b"x-death")
    if at < 0 or headers[at] != table.ARRAY:
        return b""
    start = at + 5
    end = table.after_value(headers, at)
    at = start
    while at < end and headers[at] == table.TABLE:
        at = table.after_value(headers, at)
    if at == end:
        return headers[start:end]
    tables = [headers[start:at]]
    while at < end:
        after = table.after_value(headers, at)
        if headers[at] == table.TABLE:
            tables.append(headers[at:after])
        at = after
    return b"".join(tables)


def with_death(deaths: bytes, queue: str, reason: str, first: dict[str, object]) -> bytes:
    """The array, type tag and value, after one more death: counted where it stands, which comes to the front, or ``first`` before all."""
    wanted_queue = table.encode_value(queue)
    wanted_reason = table.encode_value(reason)
    at: i64 = 0
    end: i64 = len(deaths) if wanted_queue in deaths else 0
    while at < end:
        after = table.after_value(deaths, at)
        if _has(deaths, at, after, b"queue", wanted_queue) and _has(deaths, at, after, b"reason", wanted_reason):
            return _array([_counted(deaths[at + 5 : after]), deaths[:at], deaths[after:]])
        at = after
    return _array([table.encode_value(first), deaths])


def is_cycle(queue: str, deaths: bytes) -> bool:
    """Whether the message comes back to ``queue`` without a client having rejected it on the way: then it is dropped."""
    wanted = table.encode_value(queue)
    if wanted not in deaths:
        return False
    rejected = table.encode_value("rejected")
    at: i64 = 0
    end: i64 = len(deaths)
    while at < end:
        after = table.after_value(deaths, at)
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
    fields: list[tuple[bytes, bytes]] = []
    is_counted = False
    for key, value in table.split(death, 0, len(death)):
        if key != b"count":
            fields.append((key, value))
        elif not is_counted:
            is_counted = True
            fields.append((key, table.encode_value(_following(value))))
    if not is_counted:
        fields.append((b"count", table.encode_value(1)))
    return table.encode_value(table.FieldTable(table.join(fields)))


def _following(value: bytes) -> int:
    count = table.read_value(value)
    if not isinstance(count, int):
        return 1
    return count + 1 if count < _COUNT_MAX else _COUNT_MAX


def _array(elements: list[bytes]) -> bytes:
    content = b"".join(elements)
    return b"A" + len(content).to_bytes(4, "big") + content
