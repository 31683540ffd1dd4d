"""broker/store/records.py: layouts that several modules share, byte by byte."""

from __future__ import annotations

import pytest

from broker.store.records import BODY_BYTES_MASK, DELETE, FLAGS_SHIFT, PUT, key_of, put_body, value_of


@pytest.mark.parametrize(
    ("key", "value"), [(b"key", b"value"), (b"key", b""), (b"", b"value"), (b"k" * 300, b"\0\0\0\1")]
)
def test_a_put_is_the_size_of_its_key_its_key_and_its_value(key: bytes, value: bytes) -> None:
    body = put_body(key, value)
    assert body == len(key).to_bytes(4, "big") + key + value
    assert (key_of(PUT, body), value_of(body)) == (key, value)


def test_a_delete_is_its_key() -> None:
    assert key_of(DELETE, b"\0\0\0\1key") == b"\0\0\0\1key"


def test_flags_are_two_bytes_and_the_weight_is_six() -> None:
    packed = int.from_bytes(b"\x01\x02" + b"\xff" * 6, "big")
    assert (packed >> FLAGS_SHIFT, packed & BODY_BYTES_MASK) == (0x0102, (1 << 48) - 1)
