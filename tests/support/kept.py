"""What a start has put aside for people, read as a person would."""

from __future__ import annotations

from broker.store.batch import location_at, read_header
from broker.store.batch import records as records_of
from broker.store.segment import number_of, read_batch
from broker.store.survey import survey
from tests.support.store import Running


def kept(running: Running) -> dict[int, dict[int, bytes]]:
    """Log -> position -> body, of everything in ``.lost`` segments."""
    found: dict[int, dict[int, bytes]] = {}
    for name in running.files("segments"):
        number = number_of(name)
        if not name.endswith(".lost") or number is None:
            continue
        file = running.disk.open("segment.read", f"/data/segments/{name}")
        surveyed = survey(file, number)
        assert surveyed is not None
        for part in surveyed.parts:
            for run in part.runs:
                batch = read_batch(file, location_at(number, run.offset, run.size))
                assert batch is not None
                header = read_header(batch)
                assert header is not None
                for _, log, _, body in records_of(header, batch):
                    found.setdefault(log, {})[int.from_bytes(body[:8], "big")] = body[8:]
    return found
