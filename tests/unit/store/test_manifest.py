"""broker/store/manifest.py: a log of edits, folded when it has grown. docs/durability-format.md, "What outlives the
write-ahead log"."""

from __future__ import annotations

import errno
import itertools

import pytest

from broker.store.batch import BLOCK, HEADER_SIZE
from broker.store.batch_writer import BatchWriter
from broker.store.datadir import DataDir
from broker.store.disk_error import DiskError
from broker.store.manifest import Manifest
from broker.store.manifest_file import open_file
from broker.store.manifest_records import COVERS, FRAGMENT, STATE_BATCH_SIZE, Edit, ManifestState, state_of
from broker.store.records import DELETE, PUT
from broker.store.wal_file import START, FileHeader
from tests.support.faulty_disk import Directory, Fault, FaultyDisk


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
    manifest.append(
        Edit(
            states=[(7, -1, b"old", b""), (8, 5, b"kept", b"")],
            journal=[put(b"a", b"1"), put(b"b", b"2")],
            covers=10,
            next_log=9,
        )
    )
    manifest.append(
        Edit(
            states=[(7, 3, b"new", b"")],
            journal=[put(b"b", b"3"), (DELETE, b"a")],
            covers=20,
            next_log=9,
            next_segment=4,
        )
    )
    manifest.append(Edit(dropped_logs=[8]))
    for found in (disk.restarted(), next(disk.crash_states(3, 1))):
        again, state = opened(found)
        assert said(state) == {b"b": b"3"}
        assert {number: state_of(body) for number, body in state.logs.items()} == {7: (3, b"new")}
        assert (state.covers, state.next_log, state.next_segment) == (20, 9, 4)
        assert not again.findings
        assert not again.cut


def test_it_is_replaced_when_it_has_grown() -> None:
    """Not before it has its least size and twice what a new one needs; then one pair is left, and it says the same."""
    disk = FaultyDisk()
    manifest, _ = opened(disk, START + 4 * BLOCK)
    for number in range(20):
        manifest.append(Edit(journal=[put(b"%d" % (number % 3), b"%d" % number)]))
    assert len(names(disk)) == 2
    assert names(disk)[0] != "0000000000000001.a.manifest"
    assert names(disk)[1] == names(disk)[0].replace(".a.", ".b.")
    assert len(disk.content(f"/data/manifest/{names(disk)[0]}")) < 2 * (START + 4 * BLOCK)
    assert said(opened(disk.restarted())[1]) == {b"0": b"18", b"1": b"19", b"2": b"17"}


def test_both_files_say_the_same_under_salts_of_their_own() -> None:
    disk = FaultyDisk()
    manifest, _ = opened(disk)
    for number in range(3):
        manifest.append(Edit(journal=[put(b"%d" % number, b"")]))
    one, other = (
        open_file(disk, f"/data/manifest/{name}", 1, copy) for name, copy in zip(names(disk), "ab", strict=True)
    )
    assert one is not None
    assert other is not None
    assert one.header.salt != other.header.salt
    assert [found.data[HEADER_SIZE:] for found in one.batches.values()] == [
        found.data[HEADER_SIZE:] for found in other.batches.values()
    ]
    assert len(one.batches) == 3


def test_the_state_stands_under_checksums_of_16_kib() -> None:
    """Also what is larger than that in itself: segments of many logs, logs with many settled ranges, long arguments."""
    disk = FaultyDisk()
    manifest, _ = opened(disk, START)
    states = [(number, -1, b"%d" % number * 40, b"") for number in range(1000)] + [(5000, 7, b"r" * 100_000, b"")]
    manifest.append(Edit(states=states, journal=[put(b"k", b"v" * 30_000), put(b"l", b"w" * 16_330)]))
    manifest.append(Edit(covers=4))
    found = open_file(disk, f"/data/manifest/{names(disk)[0]}", 1, "a")
    assert found is not None
    assert len(found.batches) > 10
    assert max(len(each.data) for each in found.batches.values()) == STATE_BATCH_SIZE
    again, state = opened(disk.restarted())
    assert {number: state_of(body) for number, body in state.logs.items()} == {
        number: (mark, body) for number, mark, body, _ in states
    }
    assert said(state) == {b"k": b"v" * 30_000, b"l": b"w" * 16_330}
    assert (state.covers, state.declared) == (4, 4)
    assert not again.repaired


def test_a_record_in_fragments_of_which_one_is_missing_is_missing() -> None:
    state = ManifestState()
    state.logs[7] = b"x" * 40_000
    fragments = [record for group in state.batches() for record in group]
    assert [kind for _, kind, _ in fragments] == [FRAGMENT] * 3 + [COVERS]
    for missing in range(3):
        found = ManifestState()
        for index, record in enumerate(fragments):
            if index != missing:
                found.apply(*record)
        assert not found.logs


def torn(disk: FaultyDisk, copy: int, edit: int) -> None:
    """Damage the first block of an edit, each of which takes one; edit 0 is the state at the beginning."""
    disk.damage(f"/data/manifest/{names(disk)[copy]}", START + edit * BLOCK + 70, b"\xff")


def with_edits(count: int) -> FaultyDisk:
    disk = FaultyDisk()
    manifest, _ = opened(disk)
    for number in range(count):
        manifest.append(Edit(journal=[put(b"%d" % number, b"")]))
    return disk


def test_an_edit_that_is_torn_in_both_files_is_cut_and_told() -> None:
    disk = with_edits(3)
    torn(disk, 0, 2)
    torn(disk, 1, 2)
    again, state = opened(disk.restarted())
    assert set(state.journal) == {b"0", b"1"}
    assert len(again.cut) == 2
    assert not again.damaged
    assert not again.findings
    assert not again.repaired
    again.append(Edit(journal=[put(b"3", b"")]))


def test_an_edit_that_has_come_to_the_first_file_alone_counts() -> None:
    """So a crash between the two leaves it: it is made durable in both, and nothing is told."""
    for broken in range(4):
        disk = with_edits(3)
        disk.faults.append(Fault("error", ("manifest.write", "manifest.sync")[broken // 2], skip=broken % 2))
        manifest, _ = opened(disk)
        with pytest.raises(DiskError):
            manifest.append(Edit(journal=[put(b"new", b"")]))
        for state_of_disk in (disk.restarted(), *disk.crash_states(broken, 10)):
            again, state = opened(state_of_disk)
            assert {b"0", b"1", b"2"} <= set(state.journal)
            assert not again.repaired
            assert not again.damaged
            assert not state_of_disk.names("quarantine.list", "/data/quarantine") or again.cut
            for later in state_of_disk.crash_states(1, 5):
                assert opened(later)[1].journal == state.journal


@pytest.mark.parametrize("copy", [0, 1])
@pytest.mark.parametrize("edit", [0, 1, 2])
def test_damage_to_one_file_loses_nothing_is_told_and_repaired(copy: int, edit: int) -> None:
    disk = with_edits(3)
    torn(disk, copy, edit)
    found = disk.restarted()
    again, state = opened(found)
    assert set(state.journal) == {b"0", b"1", b"2"}
    assert not again.findings
    assert not again.damaged
    if (copy, edit) == (1, 2):
        # It looks like an edit that a crash has kept from the second file, and is written again as such.
        assert names(found)[0] == "0000000000000001.a.manifest"
    else:
        assert len(again.repaired) == 1
        assert found.names("quarantine.list", "/data/quarantine")
        assert names(found) == ["0000000000000002.a.manifest", "0000000000000002.b.manifest"]
    again.append(Edit(journal=[put(b"3", b"")]))
    third, state = opened(found.restarted())
    assert set(state.journal) == {b"0", b"1", b"2", b"3"}
    assert not third.repaired


@pytest.mark.parametrize("copy", [0, 1])
def test_damage_to_the_state_is_none_of_an_edit_on_its_way(copy: int) -> None:
    """Where there is no edit behind it: it was whole when the file got its name."""
    disk = with_edits(1)
    torn(disk, copy, 0)
    found = disk.restarted()
    again, state = opened(found)
    assert set(state.journal) == {b"0"}
    assert again.repaired
    assert names(found)[0] == "0000000000000002.a.manifest"


@pytest.mark.parametrize("copy", [0, 1])
@pytest.mark.parametrize("how", ["gone", "a directory", "empty", "no header", "half"])
def test_one_file_that_is_no_file_any_more_does_not_matter(copy: int, how: str) -> None:
    disk = with_edits(4)
    name = names(disk)[copy]
    path = f"/data/manifest/{name}"
    directory = disk.directory("/data/manifest")
    if how == "no header":
        disk.damage(path, 0, bytes(2 * BLOCK))
    elif how in ("empty", "half"):
        for content in (disk.inode(path).cache, disk.inode(path).durable):
            del content[0 if how == "empty" else START + 2 * BLOCK :]
    else:
        for entries in (directory.cache, directory.durable):
            del entries[name]
            if how == "a directory":
                entries[name] = Directory()
    found = disk.restarted()
    again, state = opened(found)
    assert set(state.journal) == {b"0", b"1", b"2", b"3"}
    assert again.exists
    assert len(again.repaired) == 1
    assert not again.findings
    kept = ["0000000000000001." + "ab"[copy] + ".manifest.lost"] if how == "a directory" else []
    assert names(found) == [*kept, "0000000000000002.a.manifest", "0000000000000002.b.manifest"]
    third, state = opened(found.restarted())
    assert len(state.journal) == 4
    assert not third.repaired


def test_damage_to_both_files_is_told_and_nothing_is_written_over_it() -> None:
    """Different edits may be damaged in each; what is lost is what no file has. Somebody puts it together and says so
    with ``replace``."""
    disk = with_edits(5)
    torn(disk, 0, 1)
    torn(disk, 1, 3)
    assert len(opened(disk.restarted())[1].journal) == 5
    torn(disk, 1, 1)
    found = disk.restarted()
    for _ in range(2):
        again, state = opened(found)
        assert set(state.journal) == {b"0", b"2", b"3", b"4"}
        assert again.damaged
        assert len(again.findings) == 1
        assert [name for name in names(found) if name.endswith(".manifest")] == names(disk)
        found = found.restarted()
    state.apply(0, *put(b"1", b"again"))
    again, _ = opened(found)
    again.replace(state)
    third, state = opened(found.restarted())
    assert len(state.journal) == 5
    assert not third.damaged
    assert not third.findings


def test_without_any_space_a_damaged_file_is_made_up_for_later() -> None:
    disk = with_edits(3)
    torn(disk, 0, 1)
    found = disk.restarted()
    found.free = 0
    again, state = opened(found)
    assert len(state.journal) == 3
    again.append(Edit(journal=[put(b"3", b"")]))
    for later in (found.restarted(), *found.crash_states(1, 3)):
        later.free = 1 << 20
        third, state = opened(later)
        assert len(state.journal) == 4
        assert third.repaired
        assert "0000000000000001.a.manifest" not in names(later)


def test_the_only_file_of_format_1_is_read_and_replaced_by_two() -> None:
    """Of each edit it says, S is what D is since. So it goes after a crash anywhere, too."""
    disk = with_edits(0)
    writer = BatchWriter(1)
    data = FileHeader(9, 5, 1).encode()
    for number in range(3):
        writer.append(0, *put(b"%d" % number, b""))
        writer.append(0, COVERS, (100 + number).to_bytes(8, "big") + bytes(7) + b"\5" + bytes(7) + b"\6")
        data += b"".join(writer.take_batch().seal(9, 5))
    file = disk.create("manifest.create", "/data/manifest/0000000000000009.manifest")
    file.write("manifest.write", 0, [data])
    file.sync("manifest.sync")
    disk.sync_directory("manifest.publish.directory", "/data/manifest")
    states: list[FaultyDisk] = []
    upgraded = disk.restarted()
    upgraded.observer = lambda now, site: states.extend((now.restarted(), next(now.crash_states(len(states), 1))))
    opened(upgraded)
    upgraded.observer = None
    assert names(upgraded) == ["000000000000000a.a.manifest", "000000000000000a.b.manifest"]
    for found in (upgraded, *states):
        again, state = opened(found.restarted())
        assert said(state) == {b"0": b"", b"1": b"", b"2": b""}
        assert (state.covers, state.declared, state.next_log, state.next_segment) == (102, 102, 5, 6)
        assert not again.repaired
        assert not again.findings


@pytest.mark.parametrize(
    "site", ["manifest.write", "manifest.sync", "manifest.allocate", "manifest.create", "manifest.publish.directory"]
)
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
                    assert (
                        {b"k%d" % each for each in range(value)}
                        <= found
                        <= {b"k%d" % each for each in range(value + 1)}
                    )
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
    """The space is taken ahead; an edit for which there is none fails before anything is written, and may be tried
    again."""
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
