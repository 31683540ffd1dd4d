"""Every operation on the disk fails once, in every way it can: what was promised stays, the failure is told, the next
start works.

Reliability, section 2: the first error of a sync ends the log; a short write is continued; a full disk must not keep a
node from starting.
"""

from __future__ import annotations

import errno
import random

import pytest

from broker.store.batch import BLOCK
from broker.store.batch_writer import BatchWriter
from broker.store.datadir import DataDir, DataDirError
from broker.store.disk_error import SITES, DiskError
from broker.store.wal_file import file_name
from tests.crash.store.histories import FILE_SIZE, Build, Expected, Session, recover
from tests.support.faulty_disk import Fault, FaultyDisk

ERRORS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC}


def new_disk() -> FaultyDisk:
    disk = FaultyDisk()
    disk.do_make_directory("datadir.create", "/data")
    disk.do_sync_directory("datadir.create.directory", "/")
    return disk


class Life:
    """The same life every time: it comes past every site of the store. Ends early when the disk refuses something."""

    def __init__(self) -> None:
        self.disk = new_disk()
        self.disk.sites.clear()
        self.expected = Expected()
        self.failures: list[Exception] = []
        self.refused: list[DiskError] = []

    def run(self, fault: Fault | None = None) -> None:
        if fault is not None:
            self.disk.faults.append(fault)
        try:
            self.first_session()
            if not self.failures:
                self.leave_traces_of_a_crash()
                self.second_session()
        except DiskError as error:
            self.refused.append(error)

    def session(self, seed: int) -> Session:
        session = Session(Build(), self.disk, self.expected, random.Random(seed), 1)
        self.failures = session.failures
        return session

    def turn(self, running: Session) -> None:
        running.append()
        running.sync()
        running.log.idle()
        running.runner.drain()
        running.note_files()

    def first_session(self) -> None:
        running = self.session(4)
        for _ in range(24):
            self.turn(running)
            if self.failures:
                return
            if len(running.log.files) > 3:
                running.retire(2)
                running.runner.drain()
                running.note_files()
        while running.log._writer.position + 2 * BLOCK > FILE_SIZE:
            self.turn(running)
            if self.failures:
                return
        with pytest.raises(DataDirError, match="in use"):
            DataDir.open(self.disk, "/data")
        running.data_dir.close()

    def leave_traces_of_a_crash(self) -> None:
        """A batch that was begun at the end of the log; spare files of another size and one too many. No fault strikes
        here."""
        disk = self.disk
        _, _, recovery = recover(Build(), disk.restarted())
        end = recovery.finish()
        assert end.continues is not None
        writer = BatchWriter(end.next_sequence)
        writer.append(1, 1, b"x" * 6000)
        begun = b"".join(writer.take_batch().seal(end.continues.generation, end.continues.salt))[:BLOCK]
        faults, disk.faults, disk.sites, sites = disk.faults, [], [], disk.sites
        path = f"/data/wal/{file_name(end.continues.generation)}"
        assert end.position + 2 * BLOCK <= len(disk.content(path)), "the life ends where a file ends: take another seed"
        disk.damage(path, end.position, begun)
        for name, size in (("77", 5), ("79", FILE_SIZE), ("80", FILE_SIZE)):
            disk.create("wal.create", f"/data/wal/{name}.spare").allocate("wal.allocate", size)
        disk.faults, disk.sites = faults, sites

    def second_session(self) -> None:
        running = self.session(9)
        self.turn(running)
        if not self.failures:
            running.close()


def sites_of_a_life() -> list[str]:
    life = Life()
    life.run()
    assert not life.failures
    assert not life.refused
    return life.disk.sites


def test_the_life_comes_past_every_site() -> None:
    """Every one of the log, but for what only an interrupted replacement leaves to do, which tests/unit/store has."""
    # test_store_faults.py, spec/test_pages.py.
    elsewhere = ("segment.", "manifest.", "move.", "log.", "damage.", "page.")
    here = {site for site in SITES if not site.startswith(elsewhere)}
    assert here - set(sites_of_a_life()) == {"datadir.format.clean", "quarantine.clean"}


def outcome(fault: Fault) -> Life:
    life = Life()
    life.run(fault)
    return life


def check_the_next_start(life: Life, what: str) -> None:
    """After a kill and after a power failure: it opens, and all that was promised is there."""
    for number, disk in enumerate([life.disk.restarted(), *life.disk.crash_states(1, 3)]):
        try:
            Session(Build(), disk, life.expected.copied(), random.Random(number))
        except AssertionError as error:
            raise AssertionError(f"{what}, disk {number}: {error}") from error


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_anywhere_ends_the_log_and_loses_nothing(name: str) -> None:
    survived = set()
    for index, site in enumerate(sites_of_a_life()):
        life = outcome(Fault("error", skip=index, arg=ERRORS[name]))
        what = f"{name} at operation {index}, {site}"
        assert len(life.failures) <= 1, what
        for error in [*life.failures, *life.refused]:
            assert isinstance(error, DiskError), what
            assert error.site == site, what
            assert SITES[site] in str(error), what
        if not life.failures and not life.refused:
            survived.add(site)
        check_the_next_start(life, what)
    # Only what nothing depends on may fail without consequences: what is for people, and files that are made ready in
    # advance.
    allowed = {"datadir.lock.write", "wal.read", *(site for site in SITES if site.startswith("quarantine."))}
    if name == "EIO":
        allowed.add("datadir.format.read")  # the copy tells
    if name == "ENOSPC":
        allowed |= {"wal.create", "wal.allocate", "wal.fill", "wal.fill.sync"}
    assert survived <= allowed, survived - allowed


@pytest.mark.parametrize("kind", ["interrupted", "short"])
def test_an_interrupted_call_or_a_short_write_is_not_even_noticed(kind: str) -> None:
    for index, site in enumerate(sites_of_a_life()):
        life = outcome(Fault(kind, skip=index, arg=100))
        assert not life.failures, site
        assert not life.refused, site
        check_the_next_start(life, f"{kind} at operation {index}, {site}")


def test_a_full_disk_stops_the_log_after_its_spare_file_and_not_the_next_start() -> None:
    """The log goes on into its spare file and says that it is short of space; the next start needs no new space."""
    disk = new_disk()
    expected = Expected()
    running = Session(Build(), disk, expected, random.Random(4), 1)
    running.log.idle()
    running.runner.drain()
    disk.free = 0
    warned = 0
    while not running.failures:
        running.append()
        running.sync()
        running.runner.drain()
        running.note_files()
        warned += running.log.short_of_space
        assert len(expected.promised) < 200
    (error,) = running.failures
    assert isinstance(error, DiskError)
    assert error.is_full
    assert warned > 0
    assert len(running.log.files) > 1
    assert expected.promised
    again = disk.restarted()
    assert again.free == 0
    found, _, recovery = recover(Build(), again)
    expected.check(found)
    recovery.finish()
    Session(Build(), disk.restarted(), expected, random.Random(1))
