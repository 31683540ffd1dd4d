"""A message keeps its wire form (broker/message.py)."""

from __future__ import annotations

import gc

import pytest

from broker.message import Message, exchange_of, make_tail, routing_key_of
from tests.support.fakes import make_message
from tests.support.wire import read_header, split_frames

NAMES = [b"", b"a", "exchänge".encode(), b"\xff\xfe", b"x" * 255]


@pytest.mark.parametrize("exchange", NAMES)
@pytest.mark.parametrize("key", NAMES)
def test_the_tail_tells_exchange_and_routing_key(exchange: bytes, key: bytes) -> None:
    """AMQP 0-9-1 basic.deliver from its third argument on: redelivered, exchange, routing-key, then the frame's end."""
    tail = make_tail(exchange, key)
    assert (exchange_of(tail), routing_key_of(tail)) == (exchange, key)
    assert tail == b"\x00" + bytes([len(exchange)]) + exchange + bytes([len(key)]) + key + b"\xce"


def test_content_is_header_and_body_frames() -> None:
    message = make_message(b"x" * 250, payload_max=100, priority=3, persistent=True, expiration_ms=500)
    header, *bodies = split_frames(message.content)
    size, properties = read_header(header.payload)
    assert (size, properties) == (250, {"delivery_mode": 2, "priority": 3, "expiration": "500"})
    assert [len(body.payload) for body in bodies] == [100, 100, 50]
    assert message.header_size == len(header.payload) + 8
    assert (message.body_size, message.payload_max) == (250, 100)


def test_what_is_not_set_is_minus_one() -> None:
    message = make_message(b"x")
    assert (message.priority, message.expiration_ms, message.persistent) == (-1, -1, False)


def test_the_cyclic_collector_does_not_walk_messages() -> None:
    """ARCHITECTURE, hot path: acyclic, so that a long queue costs the collector nothing. Interpreted there is no such
    flag."""
    message = make_message(b"x")
    assert isinstance(message, Message)
    if "__mypyc_attrs__" in vars(Message):
        assert not gc.is_tracked(message)
