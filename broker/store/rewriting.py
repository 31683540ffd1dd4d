"""Everything that the logs say now, for a manifest that replaces a damaged one. On the thread that owns the logs, in
slices."""

from collections.abc import Generator

from broker.store.log import states
from broker.store.logs import Logs
from broker.store.manifest_records import ManifestState, SegmentPart, segment_body, state_body


def whole_state(logs: Logs, journal: dict[bytes, bytes], logs_per_slice: int) -> Generator[int, object, ManifestState]:
    """Yields 0 behind each slice. ``journal`` is what is declared: key -> body of the PUT."""
    state = ManifestState()
    state.journal = dict(journal)
    parts: dict[int, list[SegmentPart]] = {}
    known = list(logs.logs.values())
    for index in range(0, len(known), logs_per_slice):
        for number, note, positions, group in states(known, index, index + logs_per_slice):
            state.logs[number] = state_body(note, positions)
            if group:
                state.groups[number] = group
        for log in known[index : index + logs_per_slice]:
            for segment_extent in [
                segment_extent for segment_extent in log.extents.segments if not segment_extent.segment.on_pages
            ]:
                span = (
                    log.number,
                    segment_extent.first,
                    segment_extent.last,
                    segment_extent.count,
                    segment_extent.messages,
                    segment_extent.body_bytes,
                    log.flags,
                )
                parts.setdefault(int(segment_extent.segment.number), []).append(
                    (*span, segment_extent.index_offset, segment_extent.index_size)
                )
        yield 0
    segments = logs.segments.by_number
    state.segments = {number: segment_body(int(segments[number].size), found) for number, found in parts.items()}
    return state
