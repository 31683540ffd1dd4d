"""Payloads of batches that were read and verified, kept for a while: queues whose messages share a batch come for it one by one."""

import threading
from typing import Final

from broker.store.batch import Place

CACHE_SIZE: Final = 32 << 20
"""Bytes of payloads that are kept."""

Key = tuple[bool, int, int]


def key_of(is_segment: bool, place: Place) -> Key:
    """Names a batch for good: neither generations nor numbers of segments are used twice."""
    return is_segment, place.generation, place.offset


class PayloadCache:
    """The payloads asked for last. Used by the owner's thread and by the one that reads."""

    def __init__(self, size_max: int = CACHE_SIZE) -> None:
        self.size = 0
        """Bytes in it."""
        self._size_max = size_max
        self._payloads: dict[Key, bytes] = {}  # the one asked for last stands last
        self._lock = threading.Lock()

    def get(self, key: Key) -> bytes | None:
        """The payload of that batch, if it is there."""
        with self._lock:
            payload = self._payloads.pop(key, None)
            if payload is not None:
                self._payloads[key] = payload
            return payload

    def put(self, key: Key, payload: bytes) -> None:
        """Keep it, at the cost of those that nobody has asked for longest."""
        with self._lock:
            before = self._payloads.pop(key, None)
            self.size += len(payload) - (0 if before is None else len(before))
            self._payloads[key] = payload
            while self.size > self._size_max:
                oldest = next(iter(self._payloads))
                self.size -= len(self._payloads.pop(oldest))

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._payloads = {}
            self.size = 0
