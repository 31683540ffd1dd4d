"""What the properties of a message mean for the broker (broker/protocol/traits.py)."""

from __future__ import annotations

import pytest

from broker.errors import ConnectionException
from broker.protocol.traits import read_traits
from broker.wire import properties, table
from broker.wire.properties import Properties


def raw(**fields: object) -> bytes:
    return properties.encode(Properties(**fields))  # type: ignore[arg-type]


def test_no_properties() -> None:
    traits = read_traits(raw())
    assert (traits.persistent, traits.priority, traits.expiration_ms, traits.fault) == (False, -1, -1, "")
    assert (traits.user_id, traits.copies, traits.direct_reply) == (None, False, False)


@pytest.mark.parametrize(("mode", "persistent"), [(0, False), (1, False), (2, True), (3, False), (255, False)])
def test_delivery_mode_2_is_persistent(mode: int, persistent: bool) -> None:
    """AMQP 0-9-1 basic, delivery-mode."""
    assert read_traits(raw(delivery_mode=mode)).persistent is persistent


@pytest.mark.parametrize("priority", [0, 1, 127, 128, 255])
def test_priority(priority: int) -> None:
    assert read_traits(raw(priority=priority)).priority == priority


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("1", 1),
        ("60000", 60000),
        ("007", 7),
        ("315360000000", 315_360_000_000),
        ("+5", 5),
        ("-0", 0),
        ("-00", 0),
        ("+0", 0),
    ],
)
def test_expiration(text: str, value: int) -> None:
    """RabbitMQ docs, Time-To-Live, Per-Message TTL."""
    traits = read_traits(raw(expiration=text))
    assert (traits.expiration_ms, traits.fault) == (value, "")


@pytest.mark.parametrize(
    "text",
    ["", "x", "-1", "1x", "1.0", " 1", "1 ", "315360000001", "+315360000001", "9" * 255, "-", "--0", "-0x", "٣", "½"],
)
def test_a_bad_expiration_is_a_fault(text: str) -> None:
    assert read_traits(raw(expiration=text)).fault.startswith(f"invalid expiration '{text}'")


def test_user_id_copies_and_direct_reply() -> None:
    traits = read_traits(raw(user_id="someone", reply_to="amq.rabbitmq.reply-to", headers=table.make({"CC": ["a"]})))
    assert (traits.user_id, traits.direct_reply, traits.copies) == ("someone", True, True)
    assert read_traits(raw(headers=table.make({"BCC": ["a"]}))).copies
    assert not read_traits(raw(headers=table.make({"cc": ["a"], "X": {"CC": ["a"]}}))).copies
    assert not read_traits(raw(reply_to="amq.rabbitmq.reply-to.g1h2")).direct_reply


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x80\x00", b"\x20\x00\x00\x00\x00\x05", b"\x00\x00?"])
def test_malformed_properties_are_a_hard_error(data: bytes) -> None:
    with pytest.raises(ConnectionException):
        read_traits(data)
