"""What is declared and must survive: frozen values, and their bytes as key and value of the journal.

    key     kind (1: x, q, b), then names: size (2), UTF-8; the same thing declared again has the same key
    value   what may differ; empty where the key says it all

    x   vhost, name                                  flags (1), type as a name, arguments as a field table's content
    q   vhost, name                                  flags (1), number of its first log (8), arguments
    b   vhost, source, x or q, destination, key, arguments in canonical order        arguments as they came

Flags: 1 auto-delete, 2 internal.
"""

from typing import NamedTuple

from broker.wire.table import FieldTable

AUTO_DELETE = 1
INTERNAL = 2


class DurableExchange(NamedTuple):
    """A durable exchange."""

    vhost: str
    name: str
    type_name: str = ""
    auto_delete: bool = False
    internal: bool = False
    arguments: bytes = b""

    def key(self) -> bytes:
        """What it is known by."""
        return b"x" + _text(self.vhost) + _text(self.name)

    def value(self) -> bytes:
        """The rest."""
        flags = (AUTO_DELETE if self.auto_delete else 0) | (INTERNAL if self.internal else 0)
        return bytes([flags]) + _text(self.type_name) + self.arguments


class DurableQueue(NamedTuple):
    """A durable queue."""

    vhost: str
    name: str
    auto_delete: bool = False
    log_number: int = 0
    arguments: bytes = b""

    def key(self) -> bytes:
        """What it is known by."""
        return b"q" + _text(self.vhost) + _text(self.name)

    def value(self) -> bytes:
        """The rest."""
        return bytes([AUTO_DELETE if self.auto_delete else 0]) + self.log_number.to_bytes(8, "big") + self.arguments


class DurableBinding(NamedTuple):
    """A binding between a durable exchange and a durable queue or exchange."""

    vhost: str
    source: str
    to_exchange: bool
    destination: str
    binding_key: str
    arguments: bytes = b""

    def key(self) -> bytes:
        """What it is known by."""
        kind = b"x" if self.to_exchange else b"q"
        names = _text(self.vhost) + _text(self.source) + kind + _text(self.destination) + _text(self.binding_key)
        return b"b" + names + FieldTable(self.arguments).canonical

    def value(self) -> bytes:
        """The rest."""
        return self.arguments


Declared = DurableExchange | DurableQueue | DurableBinding


def decode(key: bytes, value: bytes) -> Declared:
    """What was declared under this key.

    Raises: ValueError if it is none of the three
    """
    kind = key[:1]
    if kind not in (b"x", b"q", b"b"):
        raise ValueError(f"a key of kind {kind!r}")
    vhost, at = _read_text(key, 1)
    name, at = _read_text(key, at)
    if kind == b"x":
        type_name, value_at = _read_text(value, 1)
        flags = value[0]
        return DurableExchange(
            vhost, name, type_name, bool(flags & AUTO_DELETE), bool(flags & INTERNAL), value[value_at:]
        )
    if kind == b"q":
        if len(value) < 9:
            raise ValueError("a queue without a log")
        return DurableQueue(vhost, name, bool(value[0] & AUTO_DELETE), int.from_bytes(value[1:9], "big"), value[9:])
    to_exchange = key[at : at + 1] == b"x"
    destination, at = _read_text(key, at + 1)
    binding_key, at = _read_text(key, at)
    return DurableBinding(vhost, name, to_exchange, destination, binding_key, value)


def _text(name: str) -> bytes:
    raw = name.encode("utf-8", "surrogateescape")
    return len(raw).to_bytes(2, "big") + raw


def _read_text(data: bytes, at: int) -> tuple[str, int]:
    size = int.from_bytes(data[at : at + 2], "big")
    end = at + 2 + size
    if end > len(data) or at + 2 > len(data):
        raise ValueError("a name that is cut off")
    return data[at + 2 : end].decode("utf-8", "surrogateescape"), end
