"""broker/storelog.py: what the disk has to say is told once, in words."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from broker.storelog import LOOK_MS, StoreLog, tell_findings
from tests.support.durable import DATA_DIR, DurableBroker
from tests.support.faulty_disk import FaultyDisk
from tests.support.wire import publish


class Later:
    """Stands where the event loop stands."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def __call__(self, seconds: float, call: Callable[[], None]) -> None:
        assert seconds == LOOK_MS / 1000
        self.calls.append(call)


def filled() -> DurableBroker:
    """A node with a few hundred messages on its disk, in several batches."""
    broker = DurableBroker()
    client = broker.open()
    client.ask("queue.declare", queue="q", durable=True)
    for _ in range(10):
        client.send(*(publish(1, "", "q", b"x" * 500, properties={"delivery_mode": 2}) for _ in range(20)))
    return broker.settled()


def test_a_sound_disk_is_one_line() -> None:
    with structlog.testing.capture_logs() as logs:
        tell_findings(filled().killed().store)
    assert [entry["event"] for entry in logs] == ["Data recovered"]


def test_damage_is_told() -> None:
    broker = filled()
    disk = broker.disk
    assert isinstance(disk, FaultyDisk)
    disk.damage(f"{DATA_DIR}/wal/0000000000000001.wal", 5 * 4096 + 200, b"?")
    with structlog.testing.capture_logs() as logs:
        tell_findings(broker.killed().store)
    errors = [entry for entry in logs if entry["log_level"] == "error"]
    assert errors
    assert all("lost" in str(entry) for entry in errors)


def test_what_cannot_be_read_is_told_once() -> None:
    broker = filled().killed()
    disk = broker.disk
    assert isinstance(disk, FaultyDisk)
    later = Later()
    log = StoreLog(broker.store)
    with structlog.testing.capture_logs() as logs:
        log.start(later)
        assert logs == []
        disk.damage(f"{DATA_DIR}/wal/0000000000000001.wal", 5 * 4096 + 200, b"?")
        assert len(broker.open().drain("q")) < 200
        for _ in range(3):
            later.calls.pop()()
        assert [entry["event"] for entry in logs] == ["Messages cannot be read back: they are lost"]
        broker.settled()
        assert ["cannot be read back" in loss.what for loss in broker.store.damage.unconfirmed()] == [True]
        log.stop()
        later.calls.pop()()
    assert later.calls == []
    assert any("cannot be read back" in loss.what for loss in broker.killed().store.damage.unconfirmed())


def test_damage_that_loses_nothing_is_a_warning() -> None:
    broker = filled()
    broker.advance(500)
    disk = broker.disk
    assert isinstance(disk, FaultyDisk)
    disk.damage(f"{DATA_DIR}/manifest/0000000000000001.a.manifest", 2 * 4096 + 70, b"?")
    with structlog.testing.capture_logs() as logs:
        tell_findings(broker.killed().store)
    assert [entry["log_level"] for entry in logs] == ["warning", "info"]
    assert "nothing is lost" in logs[0]["event"]
