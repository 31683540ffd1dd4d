"""broker/store/log_writer.py: equal contents are written once, settlements go within their time."""

from __future__ import annotations

from broker.store.batch import read_header, records
from broker.store.log import Log
from broker.store.log_writer import SETTLE_DELAY_MS, LogWriter
from broker.store.records import MESSAGE, REFERENCE, SETTLED
from broker.store.segments import Segments
from tests.support.fake_clock import FakeClock


class Setting:
    """Two logs of one writer."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.writer = LogWriter(self.clock)
        segments = Segments()
        self.first, self.second = (Log(number, self.writer, segments) for number in (1, 2))

    def append(self, log: Log, token: object, kind: int = int(MESSAGE)) -> bool:
        written = log.append(log.positions.next, kind, 8, token)
        if written:
            self.writer.batch.write(bytes(8))
            self.writer.batch.end()
        return written

    def taken(self) -> list[tuple[int, int]]:
        """Log and kind of each record, once the group is taken."""
        (batch,) = self.writer.batch.take_batches()
        data = b"".join(batch.seal(1, 2))
        header = read_header(data)
        assert header is not None
        return [(log, kind) for _, log, kind, _ in records(header, data)]


def test_the_same_content_for_another_log_is_a_reference() -> None:
    setting = Setting()
    token = object()
    assert setting.append(setting.first, token)
    assert not setting.append(setting.second, token)
    assert setting.append(setting.first, object())
    assert setting.append(setting.second, token), "only what came directly before is referred to"
    assert setting.writer.end_group() == [setting.first, setting.second]
    assert setting.taken() == [(1, MESSAGE), (2, REFERENCE), (1, MESSAGE), (2, MESSAGE)]


def test_nothing_refers_to_another_group() -> None:
    setting = Setting()
    token = object()
    setting.append(setting.first, token)
    setting.writer.end_group()
    setting.taken()
    assert setting.append(setting.second, token)


def test_settlements_go_with_the_next_group_or_by_themselves_after_a_while() -> None:
    setting = Setting()
    for _ in range(3):
        setting.append(setting.first, object())
    setting.taken()
    setting.first.settle(0, 1, 1)
    setting.clock.advance(int(SETTLE_DELAY_MS) - 1)
    assert setting.writer.batch.record_count == 0
    setting.clock.advance(1)
    assert setting.writer.batch.record_count == 1
    assert setting.writer.batch.urgent, "nobody else takes them along"
    setting.taken()
    setting.first.settle(1, 1, 1)
    setting.writer.end_group()
    assert setting.taken() == [(1, SETTLED)]


def test_a_group_without_records_keeps_nobody_waiting() -> None:
    setting = Setting()
    assert setting.writer.end_group() == []
