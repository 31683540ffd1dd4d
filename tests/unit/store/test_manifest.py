"""broker/store/manifest.py: a log of edits, folded when it has grown. docs/durability-format.md, "What outlives the write-ahead log"."""

from __future__ import annotations

import errno
import itertools

import pytest

from broker.store.batch import BLOCK
from broker.store.datadir import DataDir
from broker.store.filesystem import DiskError
from broker.store.manifest import Edit, Manifest, ManifestState, state_of
from broker.store.records import DELETE, PUT
from broker.store.wal_file import START
from tests.support.faulty_disk import Fault, FaultyDisk


def put(key: bytes, value: bytes) -> tuple[int, bytes]:
    return PUT, len(key).to_bytes(4, "big") + key + value


def opened(disk: FaultyDisk, size_min: int = 64 << 10) -> tuple[Manifest, ManifestState]:
    salts = itertools.count(0x5EED)
    disk.locks.clear()
    manifest = Manifest(DataDir.open(disk, "/data"), lambda: next(salts), size_min)
    return manifest, manifest.recover()


def said(state: ManifestState) -> dict[bytes, bytes]:
    return {key: body[4 + len(key) :] for key, body in state.journal.items()}


def names(disk: FaultyDisk) -> list[str]:
    return sorted(disk.directory("/data/manifest").cache)


def test_what_edits_say_is_there_again() -> None:
    disk = FaultyDisk()
    manifest, state = opened(disk)
    assert not manifest.exists
    assert (state.covers, state.next_log, state.next_segment) == (0, 1, 1)
    manifest.append(Edit(states=[(7, -1, b"old"), (8, 5, b"kept")], journal=[put(b"a", b"1"), put(b"b", b"2")], covers=10, next_log=9))
    manifest.append(Edit(states=[(7, 3, b"new")], journal=[put(b"b", b"3"), (DELETE, b"a")], covers=20, next_log=9, next_segment=4))
    manifest.append(Edit(dropped_logs=[8]))
    for found in (disk.restarted(), next(disk.crash_states(3, 1))):
        again, state = opened(found)
        assert said(state) == {b"b": b"3"}
        assert {number: state_of(body) for number, body in state.logs.items()} == {7: (3, b"new")}
        assert (state.covers, state.next_log, state.next_segment) == (20, 9, 4)
        assert not again.findings
        assert not again.cut


def test_it_is_replaced_when_it_has_grown() -> None:
    """Not before it has its least size and twice what a new one needs; then one file is left, and it says the same."""
    disk = FaultyDisk()
    manifest, _ = opened(disk, START + 4 * BLOCK)
    for number in range(20):
        manifest.append(Edit(journal=[put(b"%d" % (number % 3), b"%d" % number)]))
    assert len(names(disk)) == 1
    assert names(disk) != ["0000000000000001.manifest"]
    assert len(disk.content(f"/data/manifest/{names(disk)[0]}")) < 2 * (START + 4 * BLOCK)
    assert said(opened(disk.restarted())[1]) == {b"0": b"18", b"1": b"19", b"2": b"17"}


def test_a_torn_edit_is_cut_and_told() -> None:
    disk = FaultyDisk()
    manifest, _ = opened(disk)
    for number in range(3):
        manifest.append(Edit(journal=[put(b"%d" % number, b"." * 3000), put(b"x%d" % number, b"." * 3000)]))
    path = f"/data/manifest/{names(disk)[0]}"
    disk.damage(path, START + 4 * BLOCK + BLOCK + 10, b"\1")
    again, state = opened(disk.restarted())
    assert set(state.journal) == {b"0", b"x0", b"1", b"x1"}
    assert again.cut
    assert not again.damaged
    again.append(Edit(journal=[put(b"3", b"")]))


def test_damage_inside_is_told_and_a_new_file_is_begun() -> None:
    disk = FaultyDisk()
    manifest, _ = opened(disk)
    for number in range(3):
        manifest.append(Edit(journal=[put(b"%d" % number, b"")]))
    disk.damage(f"/data/manifest/{names(disk)[0]}", START + BLOCK + 70, b"\xff")
    found = disk.restarted()
    again, state = opened(found)
    assert set(state.journal) == {b"0", b"2"}
    assert again.damaged
    assert len(again.findings) == 1
    assert found.names("quarantine.list", "/data/quarantine")
    again.append(Edit(journal=[put(b"3", b"")]))
    assert names(found) == ["0000000000000002.manifest"]
    third, state = opened(found.restarted())
    assert set(state.journal) == {b"0", b"2", b"3"}
    assert not third.findings


@pytest.mark.parametrize("site", ["manifest.write", "manifest.sync", "manifest.allocate", "manifest.create", "manifest.publish.directory"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_an_edit_can_be_tried_again_after_any_error(site: str, number: int) -> None:
    disk = FaultyDisk()
    manifest, _ = opened(disk, START + 2 * BLOCK)
    disk.faults.append(Fault("error", site, skip=1, arg=number))
    for value in range(12):
        edit = Edit(journal=[put(b"k%d" % value, b"")])
        for _ in range(3):
            try:
                manifest.append(edit)
                break
            except DiskError:
                for state in (disk.restarted(), *disk.crash_states(value, 3)):
                    found = set(opened(state)[1].journal)
                    assert {b"k%d" % each for each in range(value)} <= found <= {b"k%d" % each for each in range(value + 1)}
        else:
            raise AssertionError("it never succeeds")
    assert disk.faults[0].seen
    for state in (disk.restarted(), *disk.crash_states(1, 3)):
        again, found_state = opened(state)
        assert set(found_state.journal) == {b"k%d" % each for each in range(12)}
        assert not again.findings


def test_it_exists_when_its_name_is_on_the_disk() -> None:
    """Whoever asks goes on to segments, and one without a manifest would be taken for a loss after a crash."""
    disk = FaultyDisk()
    manifest, _ = opened(disk)
    assert not manifest.exists
    disk.faults.append(Fault("error", "manifest.publish.directory", arg=errno.ENOSPC))
    with pytest.raises(DiskError):
        manifest.append(Edit())
    assert not manifest.exists
    manifest.append(Edit())
    assert manifest.exists
    for state in disk.crash_states(1, 20):
        assert opened(state)[0].exists


def test_edits_go_on_for_a_while_without_any_space() -> None:
    """The space is taken ahead; an edit for which there is none fails before anything is written, and may be tried again."""
    disk = FaultyDisk()
    manifest, _ = opened(disk)
    manifest.append(Edit())
    manifest.append(Edit())
    disk.free = 0
    count = 0
    error: DiskError | None = None
    while error is None and count < 100:
        try:
            manifest.append(Edit(covers=count + 1))
            count += 1
        except DiskError as raised:
            error = raised
    assert error is not None
    assert error.is_full
    assert count >= 2
    disk.free = 1 << 20
    manifest.append(Edit(covers=count + 1))
    assert opened(disk.restarted())[1].covers == count + 1


def test_many_starts_do_not_lose_the_last_edit() -> None:
    disk = FaultyDisk()
    manifest, _ = opened(disk)
    manifest.append(Edit(covers=1))
    manifest.append(Edit(covers=2, journal=[put(b"a", b"b")]))
    for _ in range(5):
        disk = disk.restarted()
        again, state = opened(disk)
        assert (state.covers, said(state)) == (2, {b"a": b"b"})
        assert not again.findings
    again.append(Edit(covers=3))
    assert opened(disk.restarted())[1].covers == 3
