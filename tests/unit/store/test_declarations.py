"""broker/store/declarations.py: what is declared stands in the manifest soon after. docs/durability-format.md, "What
outlives the log"."""

from __future__ import annotations

from itertools import pairwise

from broker.store.batch import RECORD_HEADER_SIZE
from broker.store.declarations import DELAY_MS, Declarations
from broker.store.manifest import Manifest
from broker.store.records import DELETE, PUT, put_body
from tests.support.fake_clock import FakeClock
from tests.support.faulty_disk import FaultyDisk
from tests.support.store import Running, options


def in_the_manifest(running: Running) -> set[bytes]:
    """The keys that the manifest on this disk knows by itself."""
    disk = running.disk
    assert isinstance(disk, FaultyDisk)
    return set(Manifest(running.store._data_dir, lambda: 1).recover().journal)


def wait(running: Running) -> None:
    running.clock.advance(DELAY_MS)
    running.sync()
    running.move_thread.drain()


def test_what_is_declared_is_in_the_manifest_soon_after_in_one_edit() -> None:
    running = Running()
    disk = running.disk
    assert isinstance(disk, FaultyDisk)
    for number in range(50):
        running.put(b"%d" % number, b"")
    running.tell(17, b"7")
    running.sync()
    assert running.logs.batch.is_durable()  # nobody waits for the manifest
    assert not running.move_thread.jobs
    disk.sites.clear()
    wait(running)
    assert disk.sites.count("manifest.create") == 2
    assert "manifest.write" in disk.sites
    assert in_the_manifest(running) == {b"%d" % number for number in range(50)} - {b"7"}
    disk.sites.clear()
    running.put(b"more", b"")
    running.sync()
    wait(running)
    assert disk.sites.count("manifest.sync") == 2


def test_an_edit_waits_until_the_log_has_what_it_says() -> None:
    running = Running()
    running.put(b"1", b"")
    disk = running.disk
    assert isinstance(disk, FaultyDisk)
    running.clock.advance(DELAY_MS)
    running.move_thread.drain()
    assert "manifest.create" not in disk.sites
    running.sync()
    running.move_thread.drain()
    assert "manifest.create" in disk.sites


def test_a_start_writes_what_only_the_log_knows() -> None:
    running = Running()
    running.put(b"1", b"")
    running.put(b"2", b"")
    running.tell(17, b"1")
    running.sync()
    assert in_the_manifest(running) == set()
    again = running.killed()
    wait(again)
    assert in_the_manifest(again) == {b"2"}
    third = again.killed()
    third.clock.advance(10 * DELAY_MS)
    assert not third.move_thread.jobs
    assert set(third.declared) == {b"2"}


def test_neither_a_declaration_nor_a_deletion_is_lost_with_its_batch_of_the_log() -> None:
    running = Running()
    disk = running.disk
    assert isinstance(disk, FaultyDisk)
    log = running.declare()
    running.put(b"100", b"gone")
    running.sync()
    running.tell(17, b"100")
    running.put(b"101", b"")
    running.sync()
    wait(running)
    running.fill(log, 2, 10)
    path = f"/data/wal/{running.files('wal')[-1]}"
    for block in range(8):
        state = disk.restarted()
        state.damage(path, block * 4096, bytes(4096))
        again = Running(state)
        assert set(again.declared) == {b"%d" % log.number, b"101"}


def test_moving_does_not_bring_back_what_was_deleted_since() -> None:
    """A file of the log may say that something was declared, and a later one that it is gone."""
    running = Running()
    log = running.declare()
    for number in range(100, 106):
        running.put(b"%d" % number, b"")
        running.fill(log, 4)
        running.tell(17, b"%d" % number)
        wait(running)
        running.fill(log, 2)
    running.rest()
    assert set(running.killed().declared) == {b"%d" % log.number}


def test_without_space_it_waits_and_leaves_what_there_is_to_others() -> None:
    """Edits that give back files and segments must go on."""
    running = Running(moving=options(manifest_size=160 << 10), spares=3)
    disk = running.disk
    assert isinstance(disk, FaultyDisk)
    log = running.declare()
    running.fill(log, 8)
    running.rest()
    running.store.wal.idle()
    running.log_thread.drain()
    free, disk.free = disk.free, 0
    for number in range(100, 109):
        running.put(b"%d" % number, b"")
        running.sync()
        wait(running)
        running.clock.advance(1000)
    assert not running.failures
    known = in_the_manifest(running.killed())
    assert b"100" in known
    assert b"108" not in known
    count = len(running.files("segments"))
    running.settle(log, 0, 7)
    running.rest()
    assert len(running.files("segments")) < count
    disk.free = free
    running.rest()
    assert in_the_manifest(running) >= {b"%d" % number for number in range(100, 109)}


def test_it_does_not_disturb_a_task_that_pauses() -> None:
    running = Running(moving=options()._replace(rate=1))
    log = running.declare()
    running.fill(log, 16)
    while running.step():
        pass
    assert running.compactor.busy
    assert running.compactor._pausing
    running.put(b"7", b"")
    running.sync()
    running.clock.advance(DELAY_MS)
    assert running.compactor._pausing


def test_the_last_record_of_each_key_is_kept() -> None:
    waiting = Declarations(FakeClock(), lambda: None)
    for kind, body in (
        (PUT, put_body(b"a", b"1")),
        (PUT, put_body(b"b", b"")),
        (PUT, put_body(b"a", b"2")),
        (DELETE, b"b"),
    ):
        waiting.add(int(kind), body)
    assert waiting.size() >= len(put_body(b"a", b"2")) + len(b"b") + 2 * int(RECORD_HEADER_SIZE)
    assert list(waiting.take().values()) == [(PUT, put_body(b"a", b"2")), (DELETE, b"b")]
    assert (waiting.size(), waiting.take()) == (0, {})


def test_what_was_taken_is_let_go_a_slice_at_a_time() -> None:
    """100,000 records at once held up the loop for some milliseconds."""
    running = Running()
    taken: list[dict[bytes, tuple[int, bytes]]] = []
    take = running.compactor.edits.declarations.take

    def remembered() -> dict[bytes, tuple[int, bytes]]:
        taken.append(take())
        return taken[-1]

    running.compactor.edits.declarations.take = remembered  # type: ignore[method-assign]
    for number in range(9):
        running.put(b"%d" % number, b"")
    running.sync()
    running.clock.advance(DELAY_MS)
    running.sync()
    sizes: list[int] = []
    while running.move_thread.jobs:
        running.move_thread.step()
        sizes.append(len(taken[0]) if taken else 9)
    assert sizes[-1] == 0
    assert max(before - after for before, after in pairwise(sizes)) == options().logs_per_slice
