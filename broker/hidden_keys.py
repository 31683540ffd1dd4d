"""The keys of a BCC header, which is taken out of its message: nobody is to see them, but a dead letter follows them
again.

They belong to a message as its exchange and routing key do, and seldom is there one that has any. So they go with its
``tail``, which is of this class then, and ``Message.hides_keys`` says so: no other message pays for them.
"""

from __future__ import annotations

from typing import Final, cast

SIZE_MAX: Final = 60_000
"""Bytes of keys; more are not kept: where a message is stored, there is no room for them."""


class TailWithKeys(bytes):
    """A tail (message.py), and the hidden keys of its message."""

    keys: list[str]


def with_keys(tail: bytes, keys: list[str]) -> bytes:
    """The tail of a message that hides these keys; as it was if there are none, or too many."""
    if not keys or sum(4 + len(_encoded(key)) for key in keys) > SIZE_MAX:
        return bytes(tail)
    made = TailWithKeys(tail)
    made.keys = keys
    return made


def keys_of(tail: bytes) -> list[str]:
    """The keys that a message with this tail hides, where it hides some."""
    return cast(TailWithKeys, tail).keys


def stored(tail: bytes) -> bytes:
    """Such a tail and, behind it, the keys: size (4) and bytes of each."""
    keys = [_encoded(key) for key in keys_of(tail)]
    return b"".join([tail, *(len(key).to_bytes(4, "big") + key for key in keys)])


def read(data: bytes) -> bytes:
    """The tail that was ``stored``."""
    at = 2 + data[1]
    at += 2 + data[at]
    tail, keys = data[:at], []
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        keys.append(data[at + 4 : end].decode("utf-8", "surrogateescape"))
        at = end
    return with_keys(tail, keys)


def _encoded(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")
