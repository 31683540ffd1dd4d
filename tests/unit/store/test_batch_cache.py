"""broker/store/batch_cache.py: what was read last is there, and no more than so much of it."""

from __future__ import annotations

from broker.store.batch import StoredBatch, location_at
from broker.store.batch_cache import BatchCache, key_of


def test_those_asked_for_last_are_kept() -> None:
    cache = BatchCache(100)
    batches = [StoredBatch(bytes(40 - index), b"content"[:index]) for index in range(3)]
    keys = [key_of(False, location_at(1, 4096 * index)) for index in range(4)]
    for index in range(3):
        cache.put(keys[index], batches[index])
        assert cache.get(keys[0]) is batches[0]
    assert (cache.get(keys[1]), cache.get(keys[2])) == (None, batches[2])
    assert cache.size == 80
    other = StoredBatch(b"other")
    cache.put(keys[0], other)
    assert (cache.get(keys[0]), cache.size) == (other, 45)
    cache.put(keys[3], StoredBatch(bytes(50), bytes(51)))
    assert cache.size == 0, "what is larger than all of it is not kept"
    cache.put(keys[1], StoredBatch(b"a"))
    cache.clear()
    assert (cache.get(keys[1]), cache.size) == (None, 0)


def test_segments_and_files_of_the_log_have_numbers_of_their_own() -> None:
    location = location_at(7, 4096)
    assert key_of(True, location) != key_of(False, location)
