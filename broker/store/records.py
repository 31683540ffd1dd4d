"""The kinds of records in the write-ahead log and in segments, and what their bodies mean.

    kind           body                                        means
    1 MESSAGE      position (8), flags (2), body bytes (6), rest   a record; promised with the batch. All behind the
                                                               position is the user's: a head (queues/stored.py), and a
                                                               content that may be large
    2 TRANSIENT    the same                                    a record that need not survive a restart: it was too
                                                               much for the memory
    3 REFERENCE    position (8), offset in the payload (8)     the record at that offset of the same batch once more,
                                                               for another log
    4 SETTLED      first (8) and last (8) position, repeated   these are not needed any more
    5 NOTE         a number (8)                                the user's (log_note.py), unless it is larger already; of
                                                               a classic queue, its redelivery mark
    6 NOTE_REPLACED  a number (8)                              the same, also if it was larger; at a clean end
    7 HARD_STATE   term (8), vote (8), commit (8)              of a Raft group (group_state.py)
    16 PUT         size of the key (4), key, value             log 0 only: what is declared (metadata/journal.py)
    17 DELETE      key                                         log 0 only

Flags and body bytes are one number of 8 bytes; what they mean is the user's business, the log only sums them up. But
for the highest flag, ENTRY: the record is an entry of a Raft group, which a start hands to the group as it finds it.
"""

from typing import Final

from librt.strings import read_i16_be

from broker.native import i64
from broker.store.batch import RECORD_HEADER_SIZE

JOURNAL: Final[i64] = 0
"""The log id of what is declared."""
MESSAGE: Final[i64] = 1
TRANSIENT: Final[i64] = 2
REFERENCE: Final[i64] = 3
SETTLED: Final[i64] = 4
NOTE: Final[i64] = 5
NOTE_REPLACED: Final[i64] = 6
HARD_STATE: Final[i64] = 7
PUT: Final[i64] = 16
DELETE: Final[i64] = 17

BODY_AT: Final[i64] = RECORD_HEADER_SIZE + 8
"""Where the user's part of a MESSAGE begins in its record."""
FLAGS_SHIFT: Final[i64] = 48
"""The flags of a MESSAGE stand above the body bytes in their common number."""
ENTRY: Final[i64] = 1 << 14
"""Flag of an entry of a Raft group."""
BODY_BYTES_MASK: Final[i64] = (1 << FLAGS_SHIFT) - 1
HEAD_SIZE: Final[i64] = 40
"""Bytes before a content, besides the one part of it whose size differs."""
TAIL_SIZE_AT: Final[i64] = 36
"""Where the size of that part stands, in two bytes."""

_KEY_AT: Final[i64] = 4


def content_at(data: bytes, start: i64) -> i64:
    """Where the content of a MESSAGE begins whose user's part begins at ``start``; ``data`` has its head."""
    return start + HEAD_SIZE + (i64(read_i16_be(data, start + TAIL_SIZE_AT)) & 0xFFFF)


def put_body(key: bytes, value: bytes) -> bytes:
    """The body of a PUT."""
    return len(key).to_bytes(4, "big") + key + value


def key_of(kind: i64, body: bytes) -> bytes:
    """What a PUT or a DELETE is about."""
    return body[_KEY_AT : _value_at(body)] if kind == PUT else body


def value_of(body: bytes) -> bytes:
    """The value in the body of a PUT."""
    return body[_value_at(body) :]


def _value_at(body: bytes) -> i64:
    return _KEY_AT + int.from_bytes(body[:_KEY_AT], "big")
