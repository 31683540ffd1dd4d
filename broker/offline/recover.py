"""`leveret data recover`: the messages in files that a start has put aside, as lines of JSON."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import TextIO

from broker.message import Message, exchange_of, routing_key_of
from broker.metadata.changes import DurableQueue
from broker.metadata.journal import declared, replay
from broker.offline.opening import open_store
from broker.offline.overlay import Overlay
from broker.queues import registry as queue_types
from broker.queues.options import QueueOptions
from broker.queues.stored import enqueued_ms, read_message
from broker.store.batch import location_at, read_header, records
from broker.store.datadir import KEPT
from broker.store.records import MESSAGE, TRANSIENT
from broker.store.segment import number_of, read_batch
from broker.store.store import Store
from broker.store.survey import survey
from broker.wire.table import FieldTable

_POSITION_SIZE = 8


def recover(path: str, output: TextIO) -> tuple[int, list[str]]:
    """Write every message of the ``.lost`` files of this data directory; how many, and what could not be read.

    Raises: DataDirError, DiskError if it cannot be opened at all
    """
    store = open_store(path)
    try:
        queues = _queues(store)
        untouched = Overlay()
        problems: list[str] = []
        count = 0
        for name in untouched.names("segment.list", f"{path}/segments"):
            number = number_of(name)
            if number is None or not name.endswith(KEPT):
                continue
            for log, position, kind, body in _records(untouched, f"{path}/segments/{name}", number, problems):
                vhost, queue = queues.get(log, (None, None))
                head = {
                    "file": name,
                    "log": log,
                    "position": position,
                    "vhost": vhost,
                    "queue": queue,
                    "persistent": kind == MESSAGE,
                }
                output.write(json.dumps(head | _described(body)) + "\n")
                count += 1
    finally:
        store.close()
    return count, problems


def _queues(store: Store) -> dict[int, tuple[str | None, str | None]]:
    """Log -> virtual host and queue, of those that are declared."""
    found: dict[int, tuple[str | None, str | None]] = {}
    for each in declared(replay(store.changes)):
        if isinstance(each, DurableQueue):
            for level in range(_logs_of(FieldTable(each.arguments))):
                found[each.log_number + level] = (each.vhost, each.name)
    return found


def _logs_of(arguments: FieldTable) -> int:
    return queue_types.recovered(arguments).logs(QueueOptions(arguments))


def _records(filesystem: Overlay, path: str, number: int, problems: list[str]) -> Iterator[tuple[int, int, int, bytes]]:
    """Log, position, kind and body of every record that can be read in a segment."""
    file = filesystem.open("segment.read", path)
    found = survey(file, number)
    if found is None or not found.parts:
        problems.append(f"{path}: nothing in it can be read")
        return
    offsets = sorted({(run.offset, run.size) for part in found.parts for run in part.runs})
    for offset, size in offsets:
        data = read_batch(file, location_at(number, offset, size))
        header = read_header(data) if data is not None else None
        if data is None or header is None:
            problems.append(f"{path}: {size} bytes at {offset} cannot be read")
            continue
        for _, log, kind, body in records(header, data):
            if kind in (MESSAGE, TRANSIENT):
                yield log, int.from_bytes(body[:_POSITION_SIZE], "big"), kind, body[_POSITION_SIZE:]


def _described(body: bytes) -> dict[str, object]:
    """A stored message (queues/stored.py) for other programs; what is none, as it is."""
    try:
        message = read_message(body, 0, len(body), b"")
        raw_properties, content = _content_of(message)
        exchange, routing_key = exchange_of(message.tail), routing_key_of(message.tail)
    except (IndexError, ValueError):
        return {"raw": _encoded(body)}
    return {
        "exchange": exchange.decode("utf-8", "surrogateescape"),
        "routing_key": routing_key.decode("utf-8", "surrogateescape"),
        "enqueued_ms": int(enqueued_ms(body, 0)),
        "properties": _encoded(raw_properties),
        "body": _encoded(content),
    }


def _content_of(message: Message) -> tuple[bytes, bytes]:
    """Flags and values of the properties as in the header frame (AMQP 0-9-1 §4.2.6.1), and the body.

    Raises: ValueError if it is not made of frames
    """
    content = message.content
    size = int(message.header_size)
    at = size
    parts: list[bytes] = []
    while at < len(content):
        end = at + 7 + int.from_bytes(content[at + 3 : at + 7], "big")
        parts.append(content[at + 7 : end])
        at = end + 1
    body = b"".join(parts)
    if size < 20 or at != len(content) or len(body) != message.body_size:
        raise ValueError("no message")
    return content[7 + 12 : size - 1], body


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()
