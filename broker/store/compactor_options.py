"""How the compactor uses the disk."""

import secrets
from collections.abc import Callable
from typing import NamedTuple

from broker.store.manifest import SIZE_MIN


class CompactorOptions(NamedTuple):
    """Sizes, rates and slices of the compactor."""

    files_kept: int = 4
    """So many full files stay in the write-ahead log: most of what is in them is settled before they are looked at."""
    own_size: int = 1 << 20
    """A log with so many live bytes in a file of the write-ahead log gets a segment of its own."""
    block_size: int = 1 << 18
    """A block of records, which has to be read to get at one of them, is closed at this size in segments that logs
    share."""
    own_block_size: int = 1 << 20
    """The same in a segment of a log's own, which is read from front to end."""
    segment_size: int = 80 << 20
    """A segment ends when it has so many bytes."""
    manifest_size: int = SIZE_MIN
    """A manifest is not replaced before it has so many bytes."""
    small_size: int = 4 << 20
    """A segment below this size is small."""
    small_count: int = 32
    """Small segments are merged when there are more than so many of them."""
    garbage_share: float = 0.15
    """Segments are rewritten when they hold more dead bytes than this share of the live ones and ``garbage_size``."""
    garbage_size: int = 16 << 20
    """Dead bytes that are left alone in any case."""
    rate: int = 100 << 20
    """Bytes per second that are read, at most; 0 for no limit. Nor is there one while the log grows faster than
    that."""
    chunk_size: int = 2 << 20
    """Bytes read at a time."""
    records_per_slice: int = 5000
    """Records that are looked at before others run: less than half a millisecond."""
    logs_per_slice: int = 1000
    new_salt: Callable[[], int] = lambda: secrets.randbits(63)
    """A number that no client can guess."""
