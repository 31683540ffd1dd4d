"""What must be in a data directory: messages and declarations as values that can be kept as JSON and compared.

Field values keep the tag they had on the wire: ["S", "text"], ["F", {...}], ["A", [...]]. A body is its size and a
hash. The time of an x-death entry is "while written", or "later" if the message died after the writing node had ended.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from tests.support.wire import PROPERTIES, Said, Typed, typed

WHILE_WRITTEN: Final = "while written"
LATER: Final = "later"
DEATH_FIELDS: Final = {"count", "reason", "queue", "time", "exchange", "routing-keys"}

Json = Any


def tagged(value: object) -> Json:
    """A field value with its tag, all the way down."""
    tag, content = typed(value)
    if isinstance(content, Mapping):
        return [tag, {name: tagged(item) for name, item in content.items()}]
    if tag == "A":
        assert isinstance(content, list | tuple)
        return [tag, [tagged(item) for item in content]]
    if isinstance(content, bytes):
        return [tag, content.hex()]
    return [tag, list(content) if isinstance(content, tuple) else content]


def tagged_properties(properties: Mapping[str, object]) -> dict[str, Json]:
    """The properties of a message, in their own order."""
    found: dict[str, Json] = {}
    for name, kind in PROPERTIES:
        if name in properties:
            value = properties[name]
            found[name] = tagged(Typed("F", value))[1] if kind == "table" else value
    return found


@dataclass
class Message:
    """A message in a queue. ``redelivered`` is None where either is promised. Without ``counts`` in its headers."""

    size: int
    sha256: str
    exchange: str
    routing_key: str
    redelivered: bool | None
    properties: dict[str, Json] = field(default_factory=dict)
    counts: list[int] | None = None
    """In a quorum queue, once it has come back: how often it was acquired, how many deliveries have failed."""

    @property
    def priority(self) -> int:
        """The property; 0 if it is not set."""
        return int(self.properties.get("priority", 0))

    def delivered(self) -> Message:
        """The same, once somebody has had it."""
        return Message(self.size, self.sha256, self.exchange, self.routing_key, True, self.properties)

    def returned(self, *, failed: bool) -> Message:
        """The same in a quorum queue, once it has come back; whether that counts as a failed delivery."""
        acquired, failures = self.counts or [0, 0]
        counts = [acquired + 1, failures + failed]
        return replace(self, redelivered=True, counts=counts)

    def deaths(self) -> list[Json]:
        """The entries of x-death, without their tag."""
        header = self.properties.get("headers", {}).get("x-death", ["A", []])
        return [entry[1] for entry in header[1]]

    def died(
        self, queue: str, reason: str, exchange: str, key: str | None, when: str, *, partial: bool = False
    ) -> Message:
        """What arrives at a dead letter exchange; ``key`` is x-dead-letter-routing-key.

        ``partial``: entries of x-death that lack something stay, as a publisher has sent them.
        RabbitMQ docs, Dead Letter Exchanges: one entry for each queue and reason, the newest first.
        """
        properties = copy.deepcopy(self.properties)
        headers = properties.setdefault("headers", {})
        header = headers.pop("x-death", ["A", []])
        earlier = [entry[1] for entry in header[1] if entry[0] == "F" and (partial or entry[1].keys() >= DEATH_FIELDS)]
        keys = [["S", self.routing_key], *headers.get("CC", ["A", []])[1]]
        entry = {
            "count": ["l", 1],
            "reason": ["S", reason],
            "queue": ["S", queue],
            "time": ["T", when],
            "exchange": ["S", self.exchange],
            "routing-keys": ["A", keys],
        }
        if "expiration" in properties:
            entry["original-expiration"] = ["S", properties.pop("expiration")]
        for known in earlier:
            if (known["queue"], known.get("reason")) == (entry["queue"], entry["reason"]):
                entry = known | {"count": ["l", known["count"][1] + 1]}
        rest = [
            known for known in earlier if (known["queue"], known.get("reason")) != (entry["queue"], entry["reason"])
        ]
        headers["x-death"] = ["A", [["F", known] for known in (entry, *rest)]]
        for name, value in (("exchange", self.exchange), ("queue", queue), ("reason", reason)):
            headers[f"x-last-death-{name}"] = ["S", value]
            headers.setdefault(f"x-first-death-{name}", ["S", value])
        if key is not None:
            headers.pop("CC", None)
        new_key = self.routing_key if key is None else key
        return Message(self.size, self.sha256, exchange, new_key, False, properties)


def sent(data: bytes, exchange: str, routing_key: str, properties: Mapping[str, object]) -> Message:
    """A message as its publisher knows it."""
    return Message(len(data), digest(data), exchange, routing_key, False, tagged_properties(properties))


def digest(data: bytes) -> str:
    """The start of the body's SHA-256."""
    return hashlib.sha256(data).hexdigest()[:16]


@dataclass
class World:
    """All that a data directory holds, and what is known of how it was written."""

    release: str
    """A version or commit."""
    format: int
    end: str
    """``stopped`` or ``killed``"""
    keeps_hidden_keys: bool
    """Dead letters follow the keys of a BCC header again: they stand beside the message."""
    started_ms: int = 0
    ended_ms: int = 0
    exchanges: list[Json] = field(default_factory=list)
    queues: list[Json] = field(default_factory=list)
    bindings: list[Json] = field(default_factory=list)
    messages: dict[str, list[Message]] = field(default_factory=dict)

    @property
    def has_quorum_queues(self) -> bool:
        """Releases know them since format 3."""
        return self.format >= 3

    def seen(self, said: Said) -> Message:
        """A message that a node has delivered or answered with."""
        properties = tagged_properties(said.properties)
        for name, value in properties.get("headers", {}).items():
            if name == "x-death":
                for entry in value[1]:
                    if entry[0] == "F" and entry[1].get("time", "?")[0] == "T":
                        entry[1]["time"] = ["T", self.when(int(entry[1]["time"][1]))]
        exchange, key = said.method.text("exchange"), said.method.text("routing_key")
        redelivered = bool(said.method["redelivered"])
        return Message(len(said.body), digest(said.body), exchange, key, redelivered, properties, _counts(properties))

    def when(self, time_s: int) -> str:
        """What a time in an x-death entry means. The clock may have been set back: what is later may be smaller."""
        return WHILE_WRITTEN if self.started_ms // 1000 <= time_s <= self.ended_ms // 1000 else LATER

    def save(self, path: Path) -> None:
        """Write it: one line a declaration or message."""
        content = asdict(self)
        lines = []
        for name, value in content.items():
            if isinstance(value, list):
                lines.append(f" {json.dumps(name)}: [\n" + ",\n".join(f"  {_line(item)}" for item in value) + "\n ]")
            elif isinstance(value, dict):
                queues = [
                    f"  {json.dumps(queue)}: [" + ",".join(f"\n   {_line(item)}" for item in items) + "]"
                    for queue, items in value.items()
                ]
                lines.append(f" {json.dumps(name)}: {{\n" + ",\n".join(queues) + "\n }")
            else:
                lines.append(f" {json.dumps(name)}: {json.dumps(value)}")
        path.write_text("{\n" + ",\n".join(lines) + "\n}\n")

    @classmethod
    def load(cls, path: Path) -> World:
        """Read what was saved."""
        content = json.loads(path.read_text())
        content["messages"] = {
            queue: [Message(**item) for item in items] for queue, items in content["messages"].items()
        }
        return cls(**content)


def _counts(properties: dict[str, Json]) -> list[int] | None:
    """What a quorum queue says of a message that has come back, taken out of its headers."""
    headers = properties.get("headers", {})
    if "x-acquired-count" not in headers:
        return None
    counts = [int(headers.pop(f"x-{name}-count")[1]) for name in ("acquired", "delivery")]
    if not headers:
        del properties["headers"]
    return counts


def _line(value: Json) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def in_order(rows: list[Json]) -> list[str]:
    """Declarations, however they were listed, for a comparison."""
    return sorted(_line(row) for row in rows)
