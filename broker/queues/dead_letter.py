"""Dead-lettering: the headers that tell a message's history, and the rule that ends automatic cycles.

RabbitMQ docs, Dead Letter Exchanges: ``x-death`` has one table per (queue, reason), newest first; ``x-first-death-*`` is written
once, ``x-last-death-*`` every time. All other header fields keep their bytes.
"""

from __future__ import annotations

from typing import Final, final

from broker.message import Message, exchange_of, make_tail, routing_key_of
from broker.wire import properties, table
from broker.wire.table import FieldTable, Timestamp
from broker.wire.writer import body_of, make_content

_PROPERTIES_AT: Final = 19  # frame header 7, class 2, weight 2, body size 8
_REPLACED: Final = (
    b"x-death",
    b"x-last-death-exchange",
    b"x-last-death-queue",
    b"x-last-death-reason",
)


@final
class Death:
    """A dead-lettered message, ready to be routed."""

    def __init__(self, message: Message, routing_keys: list[str], deaths: list[dict[str, object]]) -> None:
        self.message = message
        self.routing_keys = routing_keys
        self.deaths = deaths


def headers_of(message: Message) -> FieldTable:
    """The headers table of a message; empty when it has none."""
    content = message.content
    summary = properties.summarize(content, _PROPERTIES_AT, message.header_size - 1, True)
    if summary.headers_start < 0:
        return table.EMPTY
    return FieldTable(content[_PROPERTIES_AT + summary.headers_start : _PROPERTIES_AT + summary.headers_end])


def _expiration_of(message: Message) -> str:
    content = message.content
    summary = properties.summarize(content, _PROPERTIES_AT, message.header_size - 1, True)
    start = _PROPERTIES_AT + summary.expiration_start
    return content[start : _PROPERTIES_AT + summary.expiration_end].decode("ascii", "replace")


def _carbon_copies(headers: FieldTable) -> list[str]:
    found = headers.values.get("CC")
    if isinstance(found, list):
        return [key for key in found if isinstance(key, str)]
    return []


def _previous_deaths(headers: FieldTable) -> list[dict[str, object]]:
    found = headers.values.get("x-death")
    if isinstance(found, list):
        return [death for death in found if isinstance(death, dict)]
    return []


def bury(message: Message, queue: str, reason: str, exchange: str, routing_key: str | None, wall_s: int) -> Death:
    """The message that goes to dead letter exchange ``exchange`` because it died in ``queue`` for ``reason``.

    ``routing_key`` is the queue's x-dead-letter-routing-key; None keeps the message's own keys.
    """
    headers = headers_of(message)
    came_from = exchange_of(message.tail).decode("utf-8", "surrogateescape")
    own_key = routing_key_of(message.tail).decode("utf-8", "surrogateescape")
    keys = [own_key, *_carbon_copies(headers)]
    deaths: list[dict[str, object]] = []
    entry: dict[str, object] | None = None
    for death in _previous_deaths(headers):
        if entry is None and death.get("queue") == queue and death.get("reason") == reason:
            count = death.get("count")
            entry = dict(death)
            entry["count"] = (count if isinstance(count, int) else 0) + 1
        else:
            deaths.append(death)
    if entry is None:
        entry = {
            "count": 1,
            "reason": reason,
            "queue": queue,
            "time": Timestamp(wall_s),
            "exchange": came_from,
            "routing-keys": keys,
        }
        if message.expiration_ms >= 0:
            entry["original-expiration"] = _expiration_of(message)
    deaths.insert(0, entry)
    added: dict[str, object] = {
        "x-death": deaths,
        "x-last-death-exchange": came_from,
        "x-last-death-queue": queue,
        "x-last-death-reason": reason,
    }
    if "x-first-death-reason" not in headers.values:
        added["x-first-death-exchange"] = came_from
        added["x-first-death-queue"] = queue
        added["x-first-death-reason"] = reason
    kept = [
        (key, raw)
        for key, raw in table.split(headers.raw, 0, len(headers.raw))
        if key not in _REPLACED and not (key == b"CC" and routing_key is not None)
    ]
    addition = table.encode(added)
    content = table.join(kept + table.split(addition, 0, len(addition)))
    changed = properties.rewrite(message.content, _PROPERTIES_AT, message.header_size - 1, content, True, None)
    keys = keys if routing_key is None else [routing_key]
    body = body_of(message)
    payload_max = message.payload_max if message.payload_max > 0 else 1
    frames, header_size = make_content(message.channel, changed, body, payload_max)
    tail = make_tail(exchange.encode("utf-8", "surrogateescape"), keys[0].encode("utf-8", "surrogateescape"))
    fresh = Message(
        frames,
        tail,
        message.channel,
        header_size,
        message.body_size,
        message.payload_max,
        message.persistent,
        message.priority,
        -1,
    )
    return Death(fresh, keys, deaths)


def is_cycle(queue: str, deaths: list[dict[str, object]]) -> bool:
    """Whether the message comes back to ``queue`` without a client having rejected it on the way: then it is dropped."""
    for death in deaths:
        if death.get("reason") == "rejected":
            return False
        if death.get("queue") == queue:
            return True
    return False
