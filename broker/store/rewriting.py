"""Everything that the logs say now, for a manifest that replaces a damaged one. On the thread that owns the logs, in slices."""

from collections.abc import Generator

from broker.store.logs import Logs
from broker.store.manifest_records import ManifestState, Part, segment_body, state_body
from broker.store.moving import states


def whole_state(logs: Logs, journal: dict[bytes, bytes], logs_per_slice: int) -> Generator[int, object, ManifestState]:
    """Yields 0 behind each slice. ``journal`` is what is declared: key -> body of the PUT."""
    state = ManifestState()
    state.journal = dict(journal)
    parts: dict[int, list[Part]] = {}
    known = list(logs.logs.values())
    for index in range(0, len(known), logs_per_slice):
        for number, mark, positions in states(known, index, index + logs_per_slice):
            state.logs[number] = state_body(mark, positions)
        for log in known[index : index + logs_per_slice]:
            for piece in [piece for piece in log.pieces if not piece.segment.on_pages]:
                span = (log.number, piece.first, piece.last, piece.count, piece.messages, piece.weight, log.flags)
                parts.setdefault(int(piece.segment.number), []).append((*span, piece.index_offset, piece.index_size))
        yield 0
    state.segments = {number: segment_body(int(logs.segments[number].size), found) for number, found in parts.items()}
    return state
