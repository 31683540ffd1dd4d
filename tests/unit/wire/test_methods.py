"""Methods that are not hot (broker/wire/methods.py): every method of the protocol, checked before pamqp sees it, and
against pamqp."""

from __future__ import annotations

import random
from typing import Any

import pytest
from pamqp import commands, frame

from broker.errors import COMMAND_INVALID, FRAME_ERROR, ConnectionException
from broker.wire import spec, table
from broker.wire.methods import decode, method_frame, method_name, split_publish
from tests.support.wire import METHODS, MethodSpec, method_payload, plain, read_method, split_frames

SAMPLES: dict[str, object] = {
    "bit": True, "octet": 200, "short": 40_000, "long": 3_000_000_000, "longlong": (1 << 63) - 1, "shortstr": "nämë",
    "longstr": b"long \x00",
    "table": {"a": 1, "b": {"c": ["d", None]}},
}  # fmt: skip
CLIENT_SAYS = [
    each
    for each in METHODS.values()
    if not each.name.endswith("-ok") or each.name in ("connection.start-ok", "connection.tune-ok", "channel.close-ok")
]


def filled(each: MethodSpec) -> bytes:
    return method_payload(each.name, **{label: SAMPLES[kind] for label, kind in each.fields})


@pytest.mark.parametrize("each", CLIENT_SAYS, ids=lambda each: each.name)
def test_every_method_is_decoded(each: MethodSpec) -> None:
    """AMQP 0-9-1 §1.3 and on, with RabbitMQ's additions: id and arguments, wherever the payload lies."""
    payload = filled(each)
    method = decode(b"before" + payload + b"after", 6, 6 + len(payload))
    assert method.index == each.class_id << 16 | each.method_id
    if any(kind == "table" for _, kind in each.fields):
        assert method.arguments.values == SAMPLES["table"]
    else:
        assert method.arguments.values == {}


@pytest.mark.parametrize("each", CLIENT_SAYS, ids=lambda each: each.name)
def test_arguments_are_those_that_pamqp_reads(each: MethodSpec) -> None:
    """Tables excepted, which never reach pamqp."""
    index = each.class_id << 16 | each.method_id
    if index == spec.ACCESS_REQUEST:
        return  # pamqp does not know it
    payload = filled(each)
    kind: Any = commands.INDEX_MAPPING[index]
    expected = kind.__new__(kind)  # a constructor may warn that its method is deprecated
    expected.unmarshal(payload[4:])
    fields = decode(payload, 0, len(payload)).fields
    for name in expected.attributes():
        if expected.amqp_type(name) != "table":
            assert getattr(fields, name) == getattr(expected, name), name


@pytest.mark.parametrize("each", CLIENT_SAYS, ids=lambda each: each.name)
def test_a_method_cut_short_is_refused(each: MethodSpec) -> None:
    """AMQP 0-9-1 §4.2.5: at every octet; nothing behind the payload is read."""
    payload = filled(each)
    for size in range(len(payload)):
        with pytest.raises(ConnectionException) as raised:
            decode(payload + b"\xff" * 300, 0, size)
        assert raised.value.code == FRAME_ERROR, size


@pytest.mark.parametrize("each", CLIENT_SAYS, ids=lambda each: each.name)
def test_octets_behind_the_arguments_are_refused(each: MethodSpec) -> None:
    payload = filled(each) + b"\x00"
    with pytest.raises(ConnectionException) as raised:
        decode(payload, 0, len(payload))
    assert raised.value.code == FRAME_ERROR


@pytest.mark.parametrize("index", [0, 0x003C_0001, 0x0050_000A, 0xFFFF_FFFF, 0x8000_0000])
def test_an_unknown_method(index: int) -> None:
    """AMQP 0-9-1 §1.1, command-invalid: 503, naming the ids it came with."""
    with pytest.raises(ConnectionException) as raised:
        decode(index.to_bytes(4, "big"), 0, 4)
    assert (raised.value.code, raised.value.class_id, raised.value.method_id) == (
        COMMAND_INVALID,
        index >> 16,
        index & 0xFFFF,
    )


def test_random_octets_are_decoded_or_refused() -> None:
    """No other exception than our own."""
    chance = random.Random(7)
    names = list(METHODS.values())
    accepted = 0
    refused: set[int] = set()
    for _ in range(20_000):
        payload = bytearray(filled(chance.choice(names)))
        for _ in range(chance.randrange(1, 4)):
            payload[chance.randrange(4, len(payload)) if len(payload) > 4 else 0] = chance.randrange(256)
        try:
            decode(bytes(payload), 0, len(payload))
        except ConnectionException as error:
            refused.add(error.code)
        else:
            accepted += 1
    assert FRAME_ERROR in refused <= {FRAME_ERROR, COMMAND_INVALID}
    assert accepted > 1000


def test_unused_bits_are_ignored() -> None:
    """AMQP 0-9-1 §4.2.5.2: bits are packed from the low end; the others mean nothing."""
    payload = method_payload("confirm.select", nowait=True)
    assert decode(payload[:-1] + b"\xff", 0, len(payload)).fields.nowait is True  # type: ignore[attr-defined]
    assert decode(payload[:-1] + b"\xfe", 0, len(payload)).fields.nowait is False  # type: ignore[attr-defined]


# frames


def test_a_method_frame_is_what_pamqp_writes() -> None:
    made = method_frame(7, spec.QUEUE_DECLARE_OK, [("shortstr", "q"), ("long", 5), ("long", 3_000_000_000)])
    assert made == frame.marshal(commands.Queue.DeclareOk("q", 5, 3_000_000_000), 7)


@pytest.mark.parametrize("channel", [0, 1, 255, 256, 0x7FFF, 0x8000, 0xFFFF])
def test_method_frames_of_every_channel(channel: int) -> None:
    each = split_frames(method_frame(channel, spec.BASIC_QOS_OK, []))[0]
    assert (each.kind, each.channel, each.payload) == (1, channel, b"\x00\x3c\x00\x0b")


def test_tables_are_written_as_they_are_given() -> None:
    content = table.encode({"a": 1, "b": "two"})
    made = method_frame(
        0,
        spec.CONNECTION_START,
        [("octet", 0), ("octet", 9), ("rawtable", content), ("longstr", "PLAIN"), ("longstr", "en_US")],
    )
    said = read_method(split_frames(made)[0].payload)
    assert plain(said["server_properties"]) == {"a": 1, "b": "two"}
    assert (said["mechanisms"], said["locales"]) == (b"PLAIN", b"en_US")


@pytest.mark.parametrize("text", ["a" * 300, "é" * 200, "€" * 100, "a" + "é" * 127, "𝄞" * 64, "a𝄞" * 52])
def test_a_short_string_never_outgrows_its_length(text: str) -> None:
    """RabbitMQ advisory c5pq: a length that does not fit its octet would be frame injection."""
    made = split_frames(method_frame(1, spec.BASIC_CANCEL_OK, [("shortstr", text)]))[0]
    size = made.payload[4]
    assert len(made.payload) == 5 + size
    assert text.encode().startswith(made.payload[5:])
    assert 252 <= size <= 255


def test_octets_that_are_no_utf_8_are_written_as_they_came() -> None:
    name = b"\xff\xfe".decode("utf-8", "surrogateescape")
    made = split_frames(method_frame(1, spec.BASIC_CANCEL_OK, [("shortstr", name)]))[0]
    assert made.payload[4:] == b"\x02\xff\xfe"


# publish


@pytest.mark.parametrize("bits", [0, 1, 2, 3])
def test_publish_arguments_are_split(bits: int) -> None:
    for exchange, key in (("", ""), ("e", "k"), ("x" * 255, "y" * 255)):
        payload = method_payload(
            "basic.publish", exchange=exchange, routing_key=key, mandatory=bits & 1, immediate=bits & 2
        )
        expected: Any = commands.Basic.Publish()
        expected.unmarshal(payload[4:])
        assert split_publish(payload[4:]) == (exchange.encode(), key.encode(), bits)
        assert (expected.exchange, expected.routing_key, expected.mandatory) == (exchange, key, bool(bits & 1))


def test_a_publish_cut_or_too_long_is_refused() -> None:
    arguments = method_payload("basic.publish", exchange="exchange", routing_key="key")[4:]
    for wrong in [arguments[:size] for size in range(len(arguments))] + [
        arguments + b"\x00",
        b"\x00\x00\xff" + arguments,
    ]:
        with pytest.raises(ConnectionException) as raised:
            split_publish(wrong)
        assert raised.value.code == FRAME_ERROR, wrong


def test_methods_have_the_names_of_the_specification() -> None:
    """Without the relics of 0-8 that a server only sends."""
    for each in METHODS.values():
        if each.name != "access.request-ok":
            assert method_name(each.class_id, each.method_id) == each.name
    assert method_name(0, 0) == ""
    assert method_name(60, 255) == "60.255"
