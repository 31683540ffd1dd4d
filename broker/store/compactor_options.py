"""How the compactor uses the disk, and which segments that makes worth rewriting."""

import secrets
from collections.abc import Callable
from typing import NamedTuple

from broker.store.logs import Logs
from broker.store.manifest import SIZE_MIN
from broker.store.segment_extent import Segment


class CompactorOptions(NamedTuple):
    """How the compactor uses the disk."""

    files_kept: int = 2
    """So many full files stay in the write-ahead log: most of what is in them is settled before they are looked at."""
    own_size: int = 1 << 20
    """A log with so many live bytes in a file of the write-ahead log gets a segment of its own."""
    block_size: int = 1 << 18
    """A block of records is closed at this size: what has to be read to get at one of them. In segments that logs
    share, ..."""
    own_block_size: int = 1 << 20
    """... and in one of a log's own, which is read from front to end."""
    segment_size: int = 80 << 20
    """A segment ends when it has so many bytes."""
    manifest_size: int = SIZE_MIN
    """A manifest is not replaced before it has so many bytes."""
    small_size: int = 4 << 20
    """Segments below this size are merged ..."""
    small_count: int = 32
    """... when there are more than so many of them."""
    garbage_share: float = 0.15
    """So much of what is live may be dead besides, and ..."""
    garbage_size: int = 16 << 20
    """... so many bytes more."""
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


def worth_rewriting(logs: Logs, options: CompactorOptions, now_ms: int) -> list[Segment]:
    """Segments, or page files, to be rewritten now."""
    segments = [segment for segment in logs.segments.by_number.values() if segment.live > 0 and not segment.leaving]
    chosen = _sparse(segments, options)
    if chosen is None:
        small = sorted(
            (segment for segment in segments if segment.size < options.small_size), key=lambda each: each.number
        )
        chosen = small[: options.small_count] if len(small) > options.small_count else []
    if not chosen:
        chosen = _sparse(logs.pages.still_files(now_ms), options)
    return chosen or []


def _sparse(segments: list[Segment], options: CompactorOptions) -> list[Segment] | None:
    """Those that are best rewritten, if too much of all these is dead; None if it is not."""
    live = sum(int(segment.live_size()) for segment in segments)
    garbage = sum(int(segment.size) for segment in segments) - live
    allowed = int(options.garbage_share * live) + options.garbage_size
    chosen: list[Segment] = []
    if garbage > allowed:
        size = 0
        for segment in sorted(segments, key=_live_share):
            if segment.live == segment.count or garbage <= allowed // 2 or size >= options.segment_size:
                break
            chosen.append(segment)
            size += segment.live_size()
            garbage -= segment.size - segment.live_size()
        return chosen
    return None


def _live_share(segment: Segment) -> float:
    return int(segment.live) / int(segment.count)
