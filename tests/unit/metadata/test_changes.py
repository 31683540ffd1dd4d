"""What is declared, as bytes (broker/metadata/changes.py): the key names it, key and value give it back, whatever the
names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.metadata.changes import Declared, DurableBinding, DurableExchange, DurableQueue, decode
from broker.wire import table

EMPTY = b""
TTL = table.encode({"x-message-ttl": 5000})
TWO = table.encode({"a": 1, "b": "x"})
TWO_REVERSED = table.encode({"b": "x", "a": 1})
ODD_NAMES = [
    "", "q", "/", "q" * 255, "ü" * 127, "\N{GRINNING FACE}" * 63, "\x00", "a\x00b", "\n", "x", "b", "\udcff",
    "\udc80" * 255, "a\udce4b",
]  # fmt: skip
"""Names are octets to AMQP: what is not UTF-8 comes as surrogates."""

any_octets = st.binary(max_size=255).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
any_value = st.integers(-(2**31), 2**31 - 1) | st.booleans() | st.text(max_size=9)
any_table = st.dictionaries(st.text("abcxyz-", max_size=12), any_value, max_size=4).map(table.encode)


def again(declared: Declared) -> Declared:
    return decode(declared.key(), declared.value())


@given(any_octets, any_octets, any_octets, st.booleans(), st.booleans(), any_table)
def test_exchanges_come_back(
    vhost: str, name: str, type_name: str, auto_delete: bool, internal: bool, arguments: bytes
) -> None:
    declared = DurableExchange(vhost, name, type_name, auto_delete, internal, arguments)
    assert again(declared) == declared


@given(any_octets, any_octets, st.booleans(), st.integers(0, 2**64 - 1), any_table)
def test_queues_come_back(vhost: str, name: str, auto_delete: bool, log_number: int, arguments: bytes) -> None:
    declared = DurableQueue(vhost, name, auto_delete, log_number, arguments)
    assert again(declared) == declared


@given(any_octets, any_octets, st.booleans(), any_octets, any_octets, any_table)
def test_bindings_come_back(
    vhost: str, source: str, to_exchange: bool, destination: str, key: str, arguments: bytes
) -> None:
    declared = DurableBinding(vhost, source, to_exchange, destination, key, arguments)
    assert again(declared) == declared


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names(name: str) -> None:
    """AMQP 0-9-1 §4.2.5.3: a short string is up to 255 octets of any kind."""
    for declared in (
        DurableExchange(name, name, "topic", True, False, TTL),
        DurableQueue(name, name, False, 7, TTL),
        DurableBinding(name, name, False, name, name, TTL),
    ):
        assert again(declared) == declared


def test_keys_differ_wherever_names_do() -> None:
    """Names are told apart by their lengths: no name can be made to look like two others."""
    keys = [
        each.key()
        for each in (
            DurableExchange("v", "n"),
            DurableQueue("v", "n"),
            DurableQueue("vn", ""),
            DurableQueue("", "vn"),
            DurableBinding("v", "s", False, "n", "k"),
            DurableBinding("v", "s", True, "n", "k"),
            DurableBinding("v", "s", False, "nk", ""),
            DurableBinding("v", "s", False, "", "nk"),
            DurableBinding("v", "sx", False, "n", "k"),
            DurableBinding("v", "s", False, "n", "k", TTL),
            DurableBinding("v", "s", False, "n", "k", TWO),
        )
    ]
    assert len(set(keys)) == len(keys)


def test_the_same_object_declared_otherwise_has_the_same_key() -> None:
    """Deleting needs the names alone; declaring anew replaces."""
    assert DurableQueue("v", "q", True, 9, TTL).key() == DurableQueue("v", "q").key()
    assert DurableExchange("v", "x", "topic", True, True, TTL).key() == DurableExchange("v", "x").key()


def test_bindings_are_the_same_whatever_the_order_of_their_arguments() -> None:
    """AMQP 0-9-1 queue.bind: the same arguments are the same binding; what is given back is what was given."""
    one = DurableBinding("v", "s", False, "q", "k", TWO)
    other = DurableBinding("v", "s", False, "q", "k", TWO_REVERSED)
    assert TWO != TWO_REVERSED
    assert one.key() == other.key()
    assert decode(other.key(), other.value()) == other


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"", b""),
        (b"z\x00\x01v\x00\x01n", b"\x00\x00\x00"),
        (b"q", b""),
        (b"q\x00\x01v\x00", b"\x00" * 9),
        (b"q\x00\x01v\x00\x05n", b"\x00" * 9),
        (b"q\x00\x01v\x00\x01n", b"\x00" * 8),
        (b"x\x00\x01v\x00\x01n", b""),
        (b"x\x00\x01v\x00\x01n", b"\x00\x00\x05dir"),
        (b"b\x00\x01v\x00\x01s", b""),
        (b"b\x00\x01v\x00\x01sq\x00\x01d\x00", b""),
    ],
)
def test_what_makes_no_sense_is_refused(key: bytes, value: bytes) -> None:
    with pytest.raises(ValueError, match=r"a key of kind|cut off|without a log"):
        decode(key, value)


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_bytes_are_something_or_refused(key: bytes, value: bytes) -> None:
    """No other exception: a node that meets such a record says so, and does not end with a traceback."""
    try:
        decode(b"xqb"[len(key) % 3 : len(key) % 3 + 1] + key, value)
    except ValueError:
        return
