"""Batches that were read and verified, kept for a while: queues whose messages share a batch come for it one by one."""

import threading
from typing import Final

from broker.store.batch import BatchLocation, StoredBatch

CACHE_SIZE: Final = 32 << 20
"""Bytes of batches that are kept."""

Key = tuple[bool, int, int]


def key_of(is_segment: bool, location: BatchLocation) -> Key:
    """Names a batch for good: neither generations nor numbers of segments are used twice."""
    return is_segment, location.generation, location.offset


class BatchCache:
    """The batches asked for last. Used by the owner's thread and by the one that reads."""

    def __init__(self, size_max: int = CACHE_SIZE) -> None:
        self.size = 0
        """Bytes in it."""
        self._size_max = size_max
        self._batches: dict[Key, StoredBatch] = {}  # the one asked for last stands last
        self._lock = threading.Lock()

    def get(self, key: Key) -> StoredBatch | None:
        """The whole batch, if it is there."""
        with self._lock:
            batch = self._batches.pop(key, None)
            if batch is not None:
                self._batches[key] = batch
            return batch

    def put(self, key: Key, batch: StoredBatch) -> None:
        """Keep it, at the cost of those that nobody has asked for longest."""
        with self._lock:
            before = self._batches.pop(key, None)
            self.size += batch.size() - (0 if before is None else before.size())
            self._batches[key] = batch
            while self.size > self._size_max:
                oldest = next(iter(self._batches))
                self.size -= self._batches.pop(oldest).size()

    def drop(self, key: Key) -> None:
        """Nobody will ask for it again."""
        with self._lock:
            batch = self._batches.pop(key, None)
            if batch is not None:
                self.size -= batch.size()

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._batches = {}
            self.size = 0
