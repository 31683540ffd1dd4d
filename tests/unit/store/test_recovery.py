"""broker/store/recovery.py and wal_file.py: what is read back, what is cut, what is damage. Random damage:
tests/crash/store."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from broker.store.batch import BLOCK
from broker.store.batch_writer import BatchWriter
from broker.store.datadir import DataDir
from broker.store.disk_error import DiskError
from broker.store.quarantine import QUARANTINE_COUNT_MAX
from broker.store.recovery import Finding, Recovery, Report
from broker.store.runner import Job, Runner
from broker.store.wal import WriteAheadLog
from broker.store.wal_file import START, FileHeader, file_name, generation_of, read_file_header
from broker.store.wal_writer import FILE_SIZE_MAX, LogEnd, WalOptions
from tests.support.faulty_disk import Fault, FaultyDisk

FILE_SIZE = START + 4 * BLOCK
BATCH_SIZE = 20_000
SALT = 0x1234_5678_9ABC_DEF0
FIRST = "/data/wal/0000000000000001.wal"
SECOND = "/data/wal/0000000000000002.wal"


class AtOnce(Runner):
    def submit(self, job: Job) -> None:
        job.run()
        job.finished()

    def drain(self) -> None:
        pass


def fail(error: Exception) -> None:
    raise error


def opened(disk: FaultyDisk) -> tuple[list[bytes], WriteAheadLog, Report]:
    data_dir = DataDir.open(disk, "/data")
    recovery = Recovery(data_dir)
    bodies = [record[3] for record in recovery.records()]
    log = WriteAheadLog.open(data_dir, recovery, AtOnce(), fail, WalOptions(FILE_SIZE, 0, lambda: SALT, BATCH_SIZE))
    return bodies, log, recovery.report


def disk_with(*sizes: int, letters: str = "abcdefgh") -> FaultyDisk:
    """A disk whose log has one batch of one record for each size, interrupted after the last sync."""
    disk = FaultyDisk()
    _, log, _ = opened(disk)
    for letter, size in zip(letters, sizes, strict=False):
        log.batch.append(1, 1, letter.encode() * size)
        log.sync()
    return disk.restarted()


def read(disk: FaultyDisk) -> tuple[list[bytes], LogEnd, Report]:
    recovery = Recovery(DataDir.open(disk, "/data"))
    bodies = [record[3] for record in recovery.records()]
    end = recovery.finish()
    return bodies, end, recovery.report


def test_a_new_log_is_empty() -> None:
    disk = FaultyDisk()
    bodies, end, report = read(disk)
    assert bodies == []
    assert end == LogEnd([], 1, 1, None, 0, None, 0, [])
    assert report == Report(0, 0, 0, 1, False, (), ())


def test_the_end_of_the_log_is_told() -> None:
    bodies, end, report = read(disk_with(10, 5000, 20))
    assert bodies == [b"a" * 10, b"b" * 5000, b"c" * 20]
    assert (end.next_generation, end.next_sequence, end.position, end.last_group_at) == (
        2,
        4,
        START + 4 * BLOCK,
        START + 3 * BLOCK,
    )
    assert end.continues == FileHeader(1, SALT, 1)
    assert end.last_group is not None
    assert (end.last_group.first_sequence(), end.last_group.through()) == (3, 3)
    assert report == Report(1, 3, 3, 4, False, (), ())


def test_the_last_batch_is_written_again_before_anything_is_promised() -> None:
    """docs/durability-format.md: make what was replayed durable (after a failed fsync, by rewriting it) before the
    first promise."""
    disk = disk_with(10, 10)
    assert disk.content(FIRST).count(b"LEVB") == 2
    opened(disk)
    assert disk.content(FIRST).count(b"LEVB") == 3
    assert disk.sites[-2:] == ["wal.rewrite", "wal.rewrite.sync"]
    bodies, end, report = read(disk.restarted())
    assert bodies == [b"a" * 10, b"b" * 10], "twice on the disk, once in the log"
    assert (end.next_sequence, report.batch_count) == (3, 2)


def test_in_a_full_file_it_goes_to_a_new_one() -> None:
    disk = disk_with(10, 10, 10, 10)
    opened(disk)
    assert disk.content(SECOND).count(b"LEVB") == 1
    assert read_file_header(disk.open("wal.open", SECOND), 2) == FileHeader(2, SALT, 4)
    assert [len(body) for body in read(disk.restarted())[0]] == [10] * 4


def test_on_a_full_disk_it_is_written_over_itself() -> None:
    """Reliability, section 2: restart works with 0 bytes free."""
    disk = disk_with(10, 10, 10, 10)
    disk.free = 0
    before = bytes(disk.content(FIRST))
    opened(disk)
    assert disk.sites[-2:] == ["wal.rewrite", "wal.rewrite.sync"]
    assert disk.content(FIRST) == before
    assert disk.names("wal.list", "/data/wal") == ["0000000000000001.wal"]


def tear(disk: FaultyDisk, at: int, size: int) -> bytes:
    """The end of the last batch as a write that stopped after ``size`` bytes; what is there then."""
    content = disk.content(FIRST)
    rest = bytes(len(content) - at - size)
    disk.damage(FIRST, at + size, rest)
    return bytes(content[at : at + 2 * BLOCK])


@pytest.mark.parametrize("size", [56, 512, 4096, 4608])
def test_a_torn_last_batch_is_cut_and_kept(size: int) -> None:
    """LavinMQ 384, RabbitMQ 2249: a torn tail is an ordinary end; its bytes are evidence."""
    disk = disk_with(10, 5000)
    torn = tear(disk, START + BLOCK, size)
    bodies, end, report = read(disk)
    assert bodies == [b"a" * 10]
    assert (end.position, end.next_sequence) == (START + BLOCK, 2)
    (cut,) = report.cut
    assert (cut.generation, cut.offset, cut.size, cut.lost_count) == (1, START + BLOCK, 2 * BLOCK, 0)
    assert cut.copy.startswith("/data/quarantine/0000000000000001-3000-")
    assert disk.content(cut.copy) == torn
    assert "8192 bytes at 12288 are no batch: nothing promised is lost; the bytes are in /data/quarantine/" in str(cut)
    assert disk.content(FIRST)[START + BLOCK : START + 2 * BLOCK] == bytes(BLOCK)
    assert read(disk.restarted())[2].cut == (), "what was cut is not cut again"


def test_a_torn_tail_of_which_nothing_is_left_is_just_the_end() -> None:
    disk = disk_with(10, 5000)
    tear(disk, START + BLOCK, 0)
    bodies, _, report = read(disk)
    assert bodies == [b"a" * 10]
    assert report.cut == report.damaged == ()


def test_a_bad_batch_before_a_good_one_is_damage() -> None:
    """docs/durability-format.md: quarantined, reported, and the node still starts."""
    disk = disk_with(10, 5000, 30)
    disk.damage(FIRST, START + BLOCK + 700, b"X")
    bodies, log, report = opened(disk)
    assert bodies == [b"a" * 10, b"c" * 30]
    (damage,) = report.damaged
    assert damage._replace(copy="") == Finding(1, START + BLOCK, 2 * BLOCK, 2, 1)
    assert disk.content(damage.copy) == disk.content(FIRST)[START + BLOCK : START + 3 * BLOCK]
    assert "records 2 to 2 are lost" in str(damage)
    assert log.batch.append(1, 1, b"next") == 4
    log.sync()
    assert [file.generation for file in log.files] == [1, 2], "nothing is added to a damaged file"
    bodies, _, again = read(disk.restarted())
    assert bodies == [b"a" * 10, b"c" * 30, b"next"]
    assert again.damaged == report.damaged, "as long as the file is there"


def test_a_lost_end_of_a_file_is_told_by_the_next_one() -> None:
    disk = disk_with(10, 10, 10, 10, 10)
    disk.damage(FIRST, START + 2 * BLOCK, bytes(2 * BLOCK))
    bodies, _, report = read(disk)
    assert bodies == [b"a" * 10, b"b" * 10, b"e" * 10]
    assert [(found.first_lost, found.lost_count) for found in report.damaged] == [(3, 2)]


def test_a_file_whose_header_is_gone_is_damage_as_a_whole() -> None:
    disk = disk_with(10, 10, 10, 10, 10, 10, 10, 10, 10, letters="abcdefghi")
    disk.damage(SECOND, 0, bytes(START))
    bodies, _, report = read(disk)
    assert [body[:1] for body in bodies] == [b"a", b"b", b"c", b"d", b"i"]
    (damage,) = report.damaged
    assert damage._replace(copy="") == Finding(2, 0, FILE_SIZE, 5, 4)


@pytest.mark.parametrize("block", [0, BLOCK])
def test_one_of_the_two_headers_is_enough(block: int) -> None:
    disk = disk_with(10)
    disk.damage(FIRST, block, bytes(BLOCK))
    bodies, _, report = read(disk)
    assert bodies == [b"a" * 10]
    assert report.damaged == ()


def test_numbers_of_an_unreadable_last_file_are_never_given_away_again() -> None:
    """Somebody may have been promised them."""
    disk = disk_with(10, 10, 10, 10, 10)
    disk.damage(SECOND, 0, bytes(START))
    bodies, log, report = opened(disk)
    assert len(bodies) == 4
    (damage,) = report.damaged
    assert (damage.first_lost, damage.lost_count, damage.is_guess) == (5, FILE_SIZE_MAX // 13, True)
    assert str(damage).split("; ")[0].endswith("are lost, if there were so many")
    number = log.batch.append(1, 1, b"next")
    assert number == 5 + damage.lost_count
    log.sync()
    bodies, _, again = read(disk.restarted())
    assert bodies[-1] == b"next"
    assert [(found.generation, found.first_lost, found.lost_count) for found in again.damaged] == [
        (2, 5, damage.lost_count)
    ]


def test_an_unreadable_oldest_file_is_told_too() -> None:
    disk = disk_with(10, 10, 10, 10, 10)
    disk.damage(FIRST, 0, bytes(START))
    bodies, _, report = read(disk)
    assert bodies == [b"e" * 10]
    assert [(found.first_lost, found.lost_count, found.is_guess) for found in report.damaged] == [(1, 4, True)]


def test_a_batch_inside_a_message_is_never_taken_for_one() -> None:
    """A client that knows the format may send whole batches as bodies, aligned to blocks; it cannot know the salt."""
    disk = FaultyDisk()
    _, log, _ = opened(disk)
    writer = BatchWriter(2)
    writer.append(9, 9, b"planted")
    planted = b"".join(writer.take_batch().seal(1, SALT ^ 1))
    head_size = BLOCK - 56 - 13
    log.batch.append(1, 1, bytes(head_size), planted)
    log.sync()
    disk = disk.restarted()
    assert disk.content(FIRST)[START + BLOCK : START + BLOCK + 4] == b"LEVB", "it stands where a batch could"
    disk.damage(FIRST, START, b"X")
    bodies, _, report = read(disk)
    assert bodies == []
    assert report.cut


def test_blocks_that_cannot_be_read_are_bad_blocks() -> None:
    """A sector the drive has lost must not keep the node from starting."""
    disk = disk_with(10, 5000, 30)
    reads = disk.operations
    read(disk)
    count = disk.operations - reads
    for index in range(count):
        state = disk.restarted()
        state.faults.append(Fault("error", "wal.read", skip=index, arg=errno.EIO))
        bodies, _, report = read(state)
        assert len(bodies) == 3 or report.damaged or report.cut


def test_the_quarantine_does_not_grow_for_ever() -> None:
    disk = disk_with(10, 5000)
    for number in range(QUARANTINE_COUNT_MAX):
        disk.create("wal.create", f"/data/quarantine/{number}")
    tear(disk, START + BLOCK, 600)
    (cut,) = read(disk)[2].cut
    assert cut.copy == ""


def test_an_interrupted_copy_is_made_again() -> None:
    disk = disk_with(10, 5000)
    tear(disk, START + BLOCK, 600)
    name = read(disk.restarted())[2].cut[0].copy
    disk.create("wal.create", f"{name}.part").write("wal.write", 0, [b"half"])
    (cut,) = read(disk)[2].cut
    assert cut.copy == name
    assert len(disk.content(name)) == 2 * BLOCK
    assert disk.names("wal.list", "/data/quarantine") == [name.rpartition("/")[2]]


@pytest.mark.parametrize(
    "site", ["quarantine.create", "quarantine.write", "quarantine.sync", "quarantine.rename", "quarantine.directory"]
)
def test_a_copy_that_cannot_be_made_stops_nothing(site: str) -> None:
    disk = disk_with(10, 5000)
    tear(disk, START + BLOCK, 600)
    disk.faults.append(Fault("error", site, arg=errno.ENOSPC))
    bodies, _, report = read(disk)
    assert bodies == [b"a" * 10]
    assert report.cut[0].copy == ""


def test_a_disk_that_takes_no_writes_is_told() -> None:
    disk = disk_with(10)
    disk.faults.append(Fault("error", "wal.rewrite.sync"))
    with pytest.raises(DiskError, match="cannot sync that"):
        opened(disk)


def test_names_of_files() -> None:
    assert file_name(255) == "00000000000000ff.wal"
    assert generation_of("00000000000000ff.wal") == 255
    for name in (
        "00000000000000FF.wal",
        "ff.wal",
        "00000000000000ff",
        "00000000000000ff.wal.old",
        "-0000000000000ff.wal",
        "x.spare",
        "",
    ):
        assert generation_of(name) is None


def test_foreign_files_are_left_alone() -> None:
    disk = disk_with(10)
    for name in ("lost+found", "notes.txt", "x.spare", "1.spare.wal"):
        disk.create("wal.create", f"/data/wal/{name}")
    assert opened(disk)[0] == [b"a" * 10]
    assert {"lost+found", "notes.txt", "x.spare", "1.spare.wal"} <= set(disk.names("wal.list", "/data/wal"))


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header._replace(generation=2),
        lambda header: header._replace(salt=1),
        lambda header: header._replace(first_sequence=9),
    ],
)
def test_a_header_of_another_file_vouches_for_nothing(change: Callable[[FileHeader], FileHeader]) -> None:
    disk = disk_with(10)
    disk.damage(FIRST, 0, change(FileHeader(1, SALT, 1)).encode())
    bodies, _, report = read(disk)
    assert bodies == [] or report.damaged


# Commit groups of several batches

GROUP_FILE = START + 16 * BLOCK


def opened_small(disk: FaultyDisk) -> tuple[list[bytes], WriteAheadLog, Report]:
    """A log whose batches hold one record each."""
    data_dir = DataDir.open(disk, "/data")
    recovery = Recovery(data_dir)
    bodies = [record[3] for record in recovery.records()]
    log = WriteAheadLog.open(data_dir, recovery, AtOnce(), fail, WalOptions(GROUP_FILE, 0, lambda: SALT, 10))
    return bodies, log, recovery.report


def write_group(log: WriteAheadLog, letters: bytes) -> None:
    for letter in letters:
        log.batch.append(1, 1, bytes([letter]) * 20)
    log.sync()


def disk_with_groups(*groups: bytes) -> FaultyDisk:
    """A batch of one block for every letter, a commit group for each string."""
    disk = FaultyDisk()
    _, log, _ = opened_small(disk)
    for letters in groups:
        write_group(log, letters)
    return disk.restarted()


def letters_of(bodies: list[bytes]) -> bytes:
    assert all(body == body[:1] * 20 for body in bodies)
    return b"".join(body[:1] for body in bodies)


def zero_block(disk: FaultyDisk, number: int) -> None:
    disk.damage(FIRST, START + number * BLOCK, bytes(BLOCK))


def test_a_group_is_recovered_whole() -> None:
    disk = disk_with_groups(b"ab", b"cde")
    bodies, end, report = read(disk)
    assert letters_of(bodies) == b"abcde"
    assert (report.batch_count, end.next_sequence, end.position, end.last_group_at) == (
        5,
        6,
        START + 5 * BLOCK,
        START + 2 * BLOCK,
    )
    assert end.last_group is not None
    assert (end.last_group.first_sequence(), end.last_group.through(), len(end.last_group.batches)) == (3, 5, 3)


def test_the_last_group_is_written_again_whole() -> None:
    disk = disk_with_groups(b"ab", b"cde")
    opened_small(disk)
    assert disk.content(FIRST).count(b"LEVB") == 8
    bodies, end, _ = read(disk.restarted())
    assert letters_of(bodies) == b"abcde"
    assert end.last_group_at == START + 5 * BLOCK, "the copy is what would be written over itself"
    again = disk.restarted()
    opened_small(again)
    assert letters_of(read(again.restarted())[0]) == b"abcde"


@pytest.mark.parametrize("blocks", [(4,), (3,), (2,), (2, 3), (3, 4), (2, 4)], ids=str)
def test_of_the_last_group_nothing_counts_when_a_batch_is_missing(blocks: tuple[int, ...]) -> None:
    """No sync has covered it: the disk may have written its parts in any order."""
    disk = disk_with_groups(b"ab", b"cde")
    for number in blocks:
        zero_block(disk, number)
    bodies, end, report = read(disk)
    assert letters_of(bodies) == b"ab"
    assert report.damaged == ()
    assert [(cut.offset, cut.lost_count) for cut in report.cut] == [(START + 2 * BLOCK, 0)]
    assert (end.next_sequence, end.position) == (3, START + 2 * BLOCK)
    bodies, _, report = opened_small(disk.restarted())
    assert (letters_of(bodies), report.cut, report.damaged) == (b"ab", (), ())


def test_nothing_of_a_group_that_was_cut_comes_back() -> None:
    """A batch of it would fit behind the first batch of the group that is written in its place."""
    disk = disk_with_groups(b"ab", b"cd")
    zero_block(disk, 2)
    bodies, log, _ = opened_small(disk)  # cuts "cd", and writes "ab" again in its place
    assert letters_of(bodies) == b"ab"
    write_group(log, b"ef")
    assert letters_of(read(disk.restarted())[0]) == b"abef"
    fresh = disk_with_groups(b"ab", b"cd")
    zero_block(fresh, 2)
    read(fresh)
    assert fresh.content(FIRST)[START + 2 * BLOCK :].count(b"LEVB") == 0


@pytest.mark.parametrize("block", [2, 3, 4])
def test_a_batch_missing_in_a_group_with_another_one_behind_it_is_damage(block: int) -> None:
    """The other one was written after the sync of this one: it was promised. What is left of it counts."""
    disk = disk_with_groups(b"ab", b"cde", b"f")
    zero_block(disk, block)
    bodies, end, report = read(disk)
    assert letters_of(bodies) == b"abcdef".replace(b"cde"[block - 2 : block - 1], b"")
    assert [(lost.first_lost, lost.lost_count) for lost in report.damaged] == [(block + 1, 1)]
    assert end.next_sequence == 7


def test_a_hole_over_the_end_of_one_group_and_the_beginning_of_the_last_is_damage() -> None:
    disk = disk_with_groups(b"ab", b"cde")
    zero_block(disk, 1)
    zero_block(disk, 2)
    bodies, _, report = read(disk)
    assert letters_of(bodies) == b"a"
    assert [(lost.offset, lost.first_lost, lost.lost_count) for lost in report.damaged] == [(START + BLOCK, 2, 1)]
    assert [cut.offset for cut in report.cut] == [START + 3 * BLOCK]


def test_a_group_that_does_not_fit_goes_to_the_next_file_as_a_whole() -> None:
    disk = FaultyDisk()
    _, log, _ = opened_small(disk)
    write_group(log, b"x" * 14)
    write_group(log, b"cde")
    assert disk.content(FIRST).count(b"LEVB") == 14
    assert disk.content(SECOND).count(b"LEVB") == 3
    torn = disk.restarted()
    torn.damage(SECOND, START + BLOCK, bytes(BLOCK))
    assert letters_of(read(torn)[0]) == b"x" * 14


def test_a_group_cut_in_one_file_and_gone_on_in_another_is_not_damage() -> None:
    """On a file with damage before the torn group, the log goes on in a new one."""
    disk = disk_with_groups(b"ab", b"c", b"def")
    zero_block(disk, 2)
    zero_block(disk, 4)
    bodies, log, report = opened_small(disk)
    assert letters_of(bodies) == b"ab"
    assert [(lost.first_lost, lost.lost_count) for lost in report.damaged] == [(3, 1)]
    write_group(log, b"gh")
    bodies, _, report = read(disk.restarted())
    assert letters_of(bodies) == b"abgh"
    assert [(lost.first_lost, lost.lost_count) for lost in report.damaged] == [(3, 1)]
