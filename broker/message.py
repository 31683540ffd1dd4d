"""One published message as every queue shares it, and what a queue answers that is given one.

A message stays in its wire form: ``content`` holds the header frame and the body frames exactly as they were received.
Properties are decoded only by features that ask for them.
"""

from typing import Final, final

from mypy_extensions import mypyc_attr

from broker.native import i64

ACCEPTED: Final = 0
"""The queue took the message; nothing further will be heard of it."""
REJECTED: Final = 1
"""The queue refused the message (x-overflow reject-publish)."""
PENDING: Final = 2
"""The queue took it and has told its source of promises (``MessageTarget.promises``): the publisher may be promised it
when that has kept what it gathers now."""


@final
@mypyc_attr(acyclic=True)
class Message:
    """Immutable; shared by all queues it reached; bytes and numbers only.

    Acyclic on purpose: the cyclic collector would otherwise walk every queued message again and again (measured: half
    of all CPU). So nothing that could point back to a queue may ever be stored here.
    """

    __slots__ = (
        "content",
        "tail",
        "body_size",
        "expiration_ms",
        "header_size",
        "payload_max",
        "channel",
        "priority",
        "persistent",
        "hides_keys",
        "was_dead_lettered",
    )

    def __init__(
        self,
        content: bytes,
        tail: bytes,
        channel: i64,
        header_size: i64,
        body_size: i64,
        payload_max: i64,
        persistent: bool,
        priority: i64,
        expiration_ms: i64,
    ) -> None:
        self.content: bytes = content
        """Header frame and body frames, as received."""
        self.tail: bytes = tail
        """The end of its basic.deliver: redelivered = 0, exchange, routing key, frame end."""
        self.body_size: i64 = body_size
        self.expiration_ms: i64 = expiration_ms
        """The expiration property in milliseconds; -1 when not set."""
        self.header_size: i64 = header_size
        """Size of the whole header frame: the offset of the first body frame in ``content``."""
        self.payload_max: i64 = payload_max
        """Largest body frame payload in ``content``."""
        self.channel: i64 = channel
        """The channel number in ``content``'s frames."""
        self.priority: i64 = priority
        """The priority property; -1 when not set."""
        self.persistent: bool = persistent
        self.hides_keys: bool = False
        """``tail`` has the keys of a BCC header as well (hidden_keys.py)."""
        self.was_dead_lettered: bool = False
        """Its x-death was written here (queues/dead_letter.py), not by a publisher. Not kept on the disk: it only saves
        looking."""


ON_DISK: Final = Message(b"", b"", 0, 0, 0, 0, False, -1, -1)
"""Stands for a message that a consumer has, and whose content is on the disk only (queues/reload.py)."""


def exchange_of(tail: bytes) -> bytes:
    """The exchange name in a message's ``tail``."""
    size = tail[1]
    return tail[2 : 2 + size]


def routing_key_of(tail: bytes) -> bytes:
    """The routing key in a message's ``tail``."""
    at = 2 + tail[1]
    size = tail[at]
    return tail[at + 1 : at + 1 + size]


def make_tail(exchange: bytes, routing_key: bytes) -> bytes:
    """The end of a basic.deliver for this exchange and routing key (each at most 255 bytes)."""
    return b"\x00" + bytes([len(exchange)]) + exchange + bytes([len(routing_key)]) + routing_key + b"\xce"
