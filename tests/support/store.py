"""A whole store on a disk in memory, its threads in the test's hands: what the tests of moving and of recovery build
on."""

from __future__ import annotations

from broker.metadata.journal import replay
from broker.store.compactor_options import CompactorOptions
from broker.store.filesystem import FileSystem
from broker.store.log import Log, LogUser
from broker.store.records import DELETE, JOURNAL, MESSAGE, PUT, put_body
from broker.store.store import Store, StoreOptions, StoreOwner, Threads
from broker.store.wal_file import START
from broker.store.wal_writer import WalOptions
from broker.turn import Turn
from tests.support.fake_clock import FakeClock
from tests.support.faulty_disk import FaultyDisk
from tests.support.hand_runner import HandRunner

WAL_FILE_SIZE = START + 4 * 4096
SALT = 0x5EED


class Collected(LogUser):
    """What a log has told of itself."""

    def __init__(self) -> None:
        self.records: dict[int, bytes] = {}
        self.through = 0

    def durable(self) -> None:
        """Not waited for."""

    def record(self, position: int, data: bytes, start: int, end: int) -> None:
        self.records[position] = data[start:end]

    def loaded(self, through: int) -> None:
        self.through = through


def options(
    *,
    own_size: int = 1 << 20,
    garbage_size: int = 1 << 20,
    small_count: int = 1000,
    small_size: int = 4 << 20,
    manifest_size: int = 64 << 10,
) -> CompactorOptions:
    """Small files; nothing is merged or rewritten unless a test asks for it."""
    return CompactorOptions(
        files_kept=0,
        own_size=own_size,
        block_size=5000,
        own_block_size=5000,
        segment_size=1 << 20,
        small_size=small_size,
        small_count=small_count,
        garbage_size=garbage_size,
        rate=0,
        chunk_size=9000,
        records_per_slice=3,
        logs_per_slice=2,
        new_salt=lambda: SALT,
        manifest_size=manifest_size,
    )


def weighed(text: bytes, size: int = 0) -> bytes:
    """A body as the logs want it: flags and body_bytes first."""
    return len(text).to_bytes(8, "big") + text.ljust(size, b".")


class Running:
    """A store that was opened on a disk."""

    def __init__(self, disk: FileSystem | None = None, moving: CompactorOptions | None = None, spares: int = 0) -> None:
        self.disk = FaultyDisk() if disk is None else disk
        self.clock = FakeClock()
        self.turn = Turn(self.clock)
        self.failures: list[Exception] = []
        self.log_thread, self.read_thread, self.move_thread, self.page_thread = (HandRunner() for _ in Threads._fields)
        salts = iter(range(SALT, SALT + 1000))
        self.store = Store.open(
            self.disk,
            "/data",
            StoreOwner(self.clock, lambda call: None, self.failures.append),
            StoreOptions(
                WalOptions(WAL_FILE_SIZE, spares, lambda: next(salts)),
                options() if moving is None else moving,
                Threads(self.log_thread, self.read_thread, self.move_thread, self.page_thread),
            ),
        )
        self.logs = self.store.logs
        self.compactor = self.store.compactor
        self.store.log_recovery.settle_missing()
        self.declared = replay(self.store.changes)
        self.store.begin({int(key) for key in self.declared}, self.turn)

    def declare(self) -> Log:
        """A log that belongs to something."""
        number = int(self.logs.create())
        self.put(b"%d" % number, b"")
        return self.logs.open(number)

    def put(self, key: bytes, value: bytes) -> None:
        self.tell(int(PUT), put_body(key, value))

    def drop(self, log: Log) -> None:
        self.tell(int(DELETE), b"%d" % log.number)
        self.logs.drop(log)

    def tell(self, kind: int, body: bytes) -> None:
        """As the journal does it."""
        self.logs.batch.append(JOURNAL, kind, body)
        self.compactor.edits.declarations.add(kind, body)

    def append(self, log: Log, body: bytes, kind: int = MESSAGE, token: object = None) -> int:
        position = int(log.positions.next)
        if log.append(position, kind, len(body), token or object()):
            self.logs.batch.write(body)
            self.logs.batch.end()
        return position

    def fill(self, log: Log, count: int, size: int = 1000, kind: int = MESSAGE) -> list[int]:
        """So many records, a turn for each."""
        positions = []
        for _ in range(count):
            positions.append(self.append(log, weighed(b"%d of %d" % (log.positions.next, log.number), size), kind))
            self.sync()
        return positions

    def sync(self) -> None:
        """The turn ends, and the log is on the disk."""
        self.logs.settle()
        self.turn.drain()
        self.log_thread.drain()

    def settle(self, log: Log, first: int, last: int) -> None:
        log.settle(first, last - first + 1, 1)
        self.sync()

    def step(self) -> bool:
        """One job of the compactor; whether there was one."""
        if not self.move_thread.jobs:
            return False
        self.move_thread.step()
        self.turn.drain()
        self.log_thread.drain()
        return True

    def rest(self) -> None:
        """Until the compactor has nothing to do, now and when it looks again."""
        self.sync()
        for _ in range(4):
            while self.step():
                pass
            self.clock.advance(1000)
            self.sync()

    def read(self, log: Log, start: int = 0, end: int | None = None) -> dict[int, bytes]:
        """Everything live in a log, read back."""
        user = Collected()
        user.through = start
        log.user, before = user, log.user
        end = int(log.positions.next) if end is None else end
        while user.through < end:
            at = user.through
            self.logs.read_now(log, at, end, 3000)
            assert user.through > at, "reading does not go on"
        log.user = before
        return user.records

    def files(self, directory: str) -> list[str]:
        return self.disk.names("wal.list", f"/data/{directory}")

    def killed(self, moving: CompactorOptions | None = None) -> Running:
        """The store that opens after the process was killed."""
        assert isinstance(self.disk, FaultyDisk)
        return Running(self.disk.restarted(), moving)
