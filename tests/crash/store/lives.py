"""Random lives of a whole store, logs and all, on a disk that fails; and what must hold at every moment of them.

What a life does (append, settle, declare, drop) is written down with the number of the record that tells the disk of
it. Whatever a crash leaves, the store opens with the effects of all records up to some number, of every promised one at
least, and of nothing else: which positions of each log are live, what they hold, what is declared, what may have been
delivered. That files of the write-ahead log were emptied meanwhile, segments written, rewritten and removed, must not
show. In some lives there are members of Raft groups too (members.py). docs/durability-format.md, "Promises".
"""

from __future__ import annotations

import errno
import random
from collections import Counter
from collections.abc import Callable, Sequence

from broker.metadata.journal import replay
from broker.queues.redelivery_mark import RedeliveryMark
from broker.store.batch import BLOCK
from broker.store.compactor_options import CompactorOptions
from broker.store.disk_error import DiskError
from broker.store.log import Log
from broker.store.records import DELETE, HEAD_SIZE, JOURNAL, MESSAGE, PUT, TRANSIENT, put_body
from broker.store.store import Store, StoreOptions, StoreOwner, Threads
from broker.store.wal_file import START
from broker.store.wal_writer import WalOptions
from broker.turn import Turn
from tests.crash.store.members import LOGS, Member
from tests.crash.store.past import ALONE, SEVERAL, Operation, Past
from tests.crash.store.search import Search, Violation, new_disk
from tests.support.fake_clock import FakeClock
from tests.support.faulty_disk import Fault, FaultyDisk, PowerLoss
from tests.support.hand_runner import HandRunner, StrictFaults
from tests.support.store import Collected

FILE_SIZE = START + 6 * BLOCK
FAULT_SITES = (
    *(
        "",
        "",
        "segment.write",
        "segment.sync",
        "segment.publish",
        "segment.publish.directory",
        "segment.create",
        "segment.remove",
    ),
    *(
        "manifest.write",
        "manifest.sync",
        "manifest.publish.directory",
        "manifest.create",
        "manifest.allocate",
        "manifest.sync",
    ),
    *("wal.write", "wal.sync", "wal.recycle", "wal.remove", "wal.retire.directory", "move.open"),
)
BUSY_SITES = frozenset(site for site in FAULT_SITES if site) | {"manifest.remove", "segment.discard"}


def compactor_options(chance: random.Random) -> CompactorOptions:
    return CompactorOptions(
        files_kept=chance.choice((0, 1)),
        own_size=chance.choice((3000, 1 << 20)),
        block_size=(block_size := chance.choice((100, 3000, 20_000))),
        own_block_size=block_size,
        segment_size=chance.choice((9000, 40_000)),
        small_size=chance.choice((0, 20_000)),
        small_count=2,
        garbage_share=0.1,
        garbage_size=chance.choice((4000, 30_000)),
        rate=0,
        chunk_size=chance.choice((1, 9000)),
        records_per_slice=chance.choice((1, 3, 50)),
        logs_per_slice=chance.choice((1, 3)),
        new_salt=lambda: chance.getrandbits(63),
        manifest_size=chance.choice((START + BLOCK, START + 4 * BLOCK)),
    )


class Build:
    """The program under test; planted bugs replace parts of it."""

    forgotten: frozenset[str] = frozenset()
    fault_sites: Sequence[str] = FAULT_SITES
    """Where something fails; "" for anywhere."""
    groups = 0.0
    """How many of the histories have Raft groups."""
    member: type[Member] = Member
    """Who uses the logs of a group."""


class Life:
    """One run of the store on a disk."""

    def __init__(self, build: Build, disk: FaultyDisk, past: Past, chance: random.Random) -> None:
        self.disk = disk
        self.member = build.member
        self.past = past
        self.chance = chance
        self.failures: list[Exception] = []
        self.marks: dict[int, RedeliveryMark] = {}
        self.transient: dict[int, dict[int, bytes]] = {}
        """Log -> position -> body, of what does not outlive this run."""
        self.reads_slowly = chance.random() < 0.3
        self.clock = FakeClock()
        self.clock.faults = StrictFaults()
        self.turn = Turn(self.clock)
        self.runners = [HandRunner(self.clock.faults) for _ in Threads._fields]
        self.store = Store.open(
            disk,
            "/data",
            StoreOwner(self.clock, lambda call: None, self.failures.append),
            StoreOptions(
                WalOptions(FILE_SIZE, chance.randrange(2), lambda: chance.getrandbits(63), 2500),
                compactor_options(chance),
                Threads(*self.runners),
            ),
        )
        self.logs = self.store.logs
        self.store.log_recovery.settle_missing()
        self.through = self.store.report.next_sequence - 1
        if self.through < past.durable_through:
            raise Violation(f"promised through {past.durable_through}, found {self.through}")
        self.world = past.world(self.through)
        self.check_declared()
        self.members: dict[int, Member] = {}
        for number, group in self.world.groups.items():
            self.members[number] = build.member(self.logs, number, group.is_alone, self.note)
            self.members[number].recover(group)
        self.store.begin(self.world.logs(), self.turn)
        self.check_logs()
        past.found(self.through)

    # What was found

    def check_declared(self) -> None:
        found = replay(self.store.changes)
        if found != self.world.declared:
            raise Violation(f"declared: {sorted(found)} instead of {sorted(self.world.declared)}")

    def check_logs(self) -> None:
        store = self.store
        failed = any(fault.seen for fault in self.disk.faults)
        repaired = store.repaired
        if self.past.has_failed:  # the first pair of a directory may have been given up, and then the next interrupted
            repaired = [text for text in repaired if not text.endswith("one of its two files is gone")]
        if store.findings or store.report.damaged or (repaired and not failed):
            raise Violation(
                f"damage was told where there is none: {store.findings} {store.report.damaged} {store.repaired}"
            )
        for number in self.world.live:
            self.check_log(self.logs.open(number), self.world.live[number])
        for number, member in self.members.items():
            self.check_extents(member.log.log)
            self.check_log(member.contents, member.live_contents(self.world.groups[number]))

    def check_log(self, log: Log, live: dict[int, bytes]) -> None:
        found = {
            position for position in range(log.positions.first, log.positions.next) if log.positions.is_live(position)
        }
        if found != set(live):
            raise Violation(f"log {log.number}: live are {sorted(found)} instead of {sorted(live)}")
        self.check_extents(log)
        delivered = [position for position in live if (int(log.number), position) in self.past.delivered]
        if any(position > log.note.value for position in delivered):
            raise Violation(f"log {log.number}: {delivered} were delivered, and the mark is {log.note.value}")

    def check_extents(self, log: Log) -> None:
        in_wal = log.extents.wal[log.extents.head :]
        if (
            sum(segment_extent.live for segment_extent in log.extents.segments)
            + sum(log.positions.live_between(each.first, each.first + each.count) for each in in_wal)
            != log.positions.live()
        ):
            raise Violation(f"log {log.number}: pieces and stretches do not add up")

    def check_content(self) -> None:
        """Read everything back."""
        for number, live in self.world.live.items():
            self.check_records(self.logs.open(number), live | self.transient.get(number, {}))
        self.logs.settle()
        for number, member in self.members.items():
            group = self.world.groups[number]
            self.check_records(member.contents, member.live_contents(group))
            entries = [record[HEAD_SIZE:] for record in read_all(self.logs.read_now, member.log.log).values()]
            if entries != member.live_entries(group):
                raise Violation(f"group {number}: the {len(entries)} entries that are read back are not the right ones")
        if self.logs.lost:
            raise Violation(f"lost: {self.logs.lost}")

    def check_records(self, log: Log, live: dict[int, bytes]) -> None:
        found = read_all(self.logs.read_now, log)
        if found != live:
            wrong = sorted(position for position in {*found, *live} if found.get(position) != live.get(position))
            raise Violation(
                f"log {log.number}: what is read back at {wrong} is not what was written; lost: {self.logs.lost}"
            )

    def check_segments(self) -> None:
        live: Counter[int] = Counter()
        for log in self.logs.logs.values():
            for segment_extent in log.extents.segments:
                if segment_extent.live <= 0 or segment_extent.live != log.positions.live_between(
                    segment_extent.first, segment_extent.last + 1
                ):
                    raise Violation(f"log {log.number}: a piece counts {segment_extent.live}")
                live[int(segment_extent.segment.number)] += int(segment_extent.live)
        for number, segment in self.logs.segments.by_number.items():
            if segment.live != live[number] or segment.live > segment.count:
                raise Violation(f"segment {number}: counts {segment.live} of {live[number]} live records")

    # What is done

    def note(self, kind: str, log: int, first: int = 0, last: int = 0, body: bytes = b"") -> None:
        """It is in the open batch now."""
        operation = Operation(int(self.logs.batch.next_sequence) - 1, kind, log, first, last, body)
        self.past.operations.append(operation)
        self.world.apply(operation)

    def some_log(self) -> Log | None:
        return self.logs.open(self.chance.choice(list(self.world.live))) if self.world.live else None

    def declare(self) -> None:
        if len(self.world.live) > 4:
            return
        number = int(self.logs.create())
        key, value = b"%d" % number, self.chance.randbytes(5)
        self.tell(int(PUT), put_body(key, value))
        self.logs.open(number)
        self.note("declare", number, body=value)

    def found(self) -> None:
        """A group."""
        number = int(self.logs.create(LOGS))
        value = self.chance.choice((ALONE, SEVERAL))
        self.tell(int(PUT), put_body(b"%d" % number, value))
        self.note("found", number, body=value)
        self.members[number] = self.member(self.logs, number, value == ALONE, self.note)

    def lead(self) -> None:
        """A group does something, perhaps with a message that another log has too."""
        if len(self.members) < self.chance.choice((1, 1, 2)):
            self.found()
        number = self.chance.choice(list(self.members))
        member = self.members[number]
        chance = self.chance.random()
        if chance < 0.01:
            self.tell(int(DELETE), b"%d" % number)
            self.members.pop(number).close()
            self.note("drop", number)
        elif chance < 0.4:
            self.publish_to(member)
        else:
            member.act(self.chance)

    def publish_to(self, member: Member) -> None:
        token, body = object(), self.some_body()
        member.accept(body, token)
        log = self.some_log() if self.chance.random() < 0.2 else None
        if log is not None:
            position = int(log.positions.next)
            if log.append(position, MESSAGE, len(body), token):
                self.logs.batch.write(body)
                self.logs.batch.end()
            self.note("append", int(log.number), position, position, body)

    def some_body(self) -> bytes:
        size = self.chance.choice((0, 10, 300, 700, 3000, 9000))
        return self.chance.randrange(1 << 50).to_bytes(8, "big") + bytes([self.chance.randrange(256)]) * size

    def tell(self, kind: int, body: bytes) -> None:
        """As the journal does it."""
        self.logs.batch.append(JOURNAL, kind, body)
        self.store.compactor.edits.declarations.add(kind, body)

    def drop(self) -> None:
        log = self.some_log()
        if log is not None and self.chance.random() < 0.1:
            self.tell(int(DELETE), b"%d" % log.number)
            self.logs.drop(log)
            self.note("drop", int(log.number))

    def publish(self) -> None:
        """A message or several for one log or several."""
        targets = [log for log in (self.some_log() for _ in range(self.chance.choice((1, 1, 2)))) if log is not None]
        for _ in range(self.chance.choice((1, 1, 4))):
            token = object()
            body = self.some_body()
            kind = MESSAGE if self.chance.random() < 0.8 else TRANSIENT
            for log in dict.fromkeys(targets):
                position = int(log.positions.next) + self.chance.choice((0, 0, 0, 2))
                if self.chance.random() < 0.3:
                    self.mark_of(log).cover(log, position)
                if log.append(position, kind, len(body), token):
                    self.logs.batch.write(body)
                    self.logs.batch.end()
                if kind == MESSAGE:
                    self.note("append", int(log.number), position, position, body)
                else:
                    self.transient.setdefault(int(log.number), {})[position] = body

    def settle(self) -> None:
        log = self.some_log()
        if log is None or not log.positions.live():
            return
        first = int(log.positions.next_live(self.chance.choice((0, 0, self.chance.randrange(int(log.positions.next))))))
        count = self.chance.choice((1, 1, 2, 5, 30))
        stride = self.chance.choice((1, 1, 2))
        top = int(log.positions.next)
        if first >= top:
            return
        count = min(count, (top - 1 - first) // stride + 1)
        log.settle(first, count, stride)
        self.logs.settle()
        for index in range(count):
            self.transient.get(int(log.number), {}).pop(first + index * stride, None)
            self.note("settle", int(log.number), first + index * stride, first + index * stride)

    def mark_of(self, log: Log) -> RedeliveryMark:
        return self.marks.setdefault(int(log.number), RedeliveryMark())

    def deliver(self) -> None:
        log = self.some_log()
        if log is not None and log.positions.live():
            position = int(log.positions.first)
            if self.mark_of(log).allowance(log, position) > 0:
                self.past.delivered.add((int(log.number), position))

    def read(self) -> None:
        """Somebody reads a part, later."""
        log = self.some_log()
        if log is not None and log.positions.live():
            log.user = Collected()
            start = self.chance.randrange(int(log.positions.next))
            self.logs.read(log, start, log.positions.next, 5000)

    def step(self) -> None:
        """Let a thread do one job."""
        ready = [runner for runner in self.runners if runner.jobs]
        if self.reads_slowly and len(ready) > 1 and self.chance.random() < 0.98:
            ready = [runner for runner in ready if runner is not self.runners[1]]
        if ready:
            self.chance.choice(ready).step()
            self.past.durable_through = max(self.past.durable_through, int(self.logs.batch.durable_through))

    def act(self) -> None:
        """Something, and the end of the turn."""
        actions: tuple[Callable[[], None], ...] = (
            *(
                self.declare,
                self.drop,
                self.publish,
                self.publish,
                self.publish,
                self.settle,
                self.settle,
                self.deliver,
                self.read,
            ),
            *(self.step, self.step, self.step, self.step, self.step, self.step, self.step, self.step),
        )
        if self.past.has_groups:
            actions += (self.lead,) * 5 + (self.step,) * 8
        for _ in range(self.chance.choice((1, 1, 1, 3))):
            self.chance.choice(actions)()
        self.turn.drain()
        if self.chance.random() < 0.1:
            self.clock.advance(1000)

    def rest(self, steps: int = 10_000) -> None:
        """Until nothing is left to do."""
        for _ in range(steps):
            if not any(runner.jobs for runner in self.runners):
                if not self.store.compactor.busy:
                    return
                self.clock.advance(1000)
            self.turn.drain()
            self.step()


def read_all(read_now: Callable[[Log, int, int, int], None], log: Log) -> dict[int, bytes]:
    """Everything live in a log, as it is read back."""
    user = Collected()
    before, log.user = log.user, user
    while user.through < log.positions.next:
        at = user.through
        read_now(log, at, log.positions.next, 4000)
        if user.through <= at:
            raise Violation(f"log {log.number}: reading does not go on at {at}")
    log.user = before
    if list(user.records) != sorted(user.records):
        raise Violation(f"log {log.number}: read out of order: {list(user.records)}")
    return user.records


class Lives(Search):
    """Runs lives until a number of states was looked at."""

    noun = "life"

    def __init__(self, budget: int, build: Build | None = None, seed: int = 0) -> None:
        super().__init__(budget, seed)
        self.build = build or Build()

    def history(self, chance: random.Random) -> None:
        disk = new_disk(self.build.forgotten)
        past = Past(random.Random(self.seed).random() < self.build.groups)
        for _ in range(chance.choice((2, 3, 4))):
            self.life(disk, past, chance)
            disk = disk.restarted() if chance.random() < 0.5 else next(disk.crash_states(chance.getrandbits(32), 1))

    def life(self, disk: FaultyDisk, past: Past, chance: random.Random) -> None:
        if chance.random() < 0.7:
            kind = chance.choice(("error", "error", "error", "crash"))
            fault = Fault(
                kind,
                chance.choice(self.build.fault_sites),
                chance.randrange(6),
                chance.choice((errno.EIO, errno.ENOSPC)),
            )
            if not fault.site:
                fault.skip = chance.randrange(400)
            disk.faults.append(fault)
        disk.observer = lambda where, site: self.look(where, site, past, chance)
        try:
            life = Life(self.build, disk, past, chance)
            for _ in range(chance.randrange(600 if past.has_groups else 250)):
                if life.failures:
                    self.failures += 1
                    break
                life.act()
                if life.logs.lost and not any(fault.seen for fault in disk.faults):
                    raise Violation(f"lost while it was read: {life.logs.lost}")
                if chance.random() < 0.03:
                    life.check_segments()
            if not life.failures and chance.random() < 0.3:
                life.rest()
                if not life.failures:
                    life.check_content()
                    life.check_segments()
        except PowerLoss:
            return
        except DiskError:
            if not any(fault.seen for fault in disk.faults):
                raise
        finally:
            disk.observer = None
            past.has_failed = past.has_failed or any(fault.seen for fault in disk.faults)

    def look(self, disk: FaultyDisk, site: str, past: Past, chance: random.Random) -> None:
        """The states that a crash at this moment can leave."""
        odds = 0.15 if site in BUSY_SITES and not site.startswith("wal.") else 0.01
        if any(fault.seen for fault in disk.faults):
            odds *= 4
        if past.has_groups:
            odds /= 5  # these lives are longer: more of them are worth more
        if chance.random() < odds:
            past = past.copied()
            past.has_failed = past.has_failed or any(fault.seen for fault in disk.faults)
            state = disk.restarted() if chance.random() < 0.2 else next(disk.crash_states(chance.getrandbits(48), 1))
            self.check_state(state, past, chance.getrandbits(48))

    def check_state(self, state: FaultyDisk, past: Past, seed: int) -> None:
        """Open the store as it is found, let it work a little, crash, and open it again."""
        chance = random.Random(seed)
        if chance.random() < 0.1:
            self.crash_while_opening(state.restarted(), past.copied(), seed)
        life = Life(self.build, state, past, chance)
        self.count(life)
        if chance.random() < 0.3:
            life.check_content()
            life.check_segments()
        for _ in range(chance.choice((0, 0, 5, 40))):
            life.turn.drain()
            life.step()
        again = Life(self.build, next(state.crash_states(seed, 1)), past, chance)
        self.count(again)
        if chance.random() < 0.1:
            again.rest()
            again.check_content()
            again.check_segments()

    def crash_while_opening(self, state: FaultyDisk, past: Past, seed: int) -> None:
        chance = random.Random(seed)

        def open_again(disk: FaultyDisk, site: str) -> None:
            if chance.random() < 0.3:
                self.met["crashes while opening"] += 1
                self.count(Life(self.build, next(disk.crash_states(chance.getrandbits(48), 1)), past.copied(), chance))

        state.observer = open_again
        Life(self.build, state, past.copied(), random.Random(seed))
        state.observer = None

    def count(self, life: Life) -> None:
        logs = life.logs
        self.met["live records"] += any(life.world.live.values())
        self.met["segments"] += bool(logs.segments.by_number)
        self.met["several segments"] += len(logs.segments.by_number) > 2
        self.met["a log in pieces and in the write-ahead log"] += any(
            log.extents.segments and log.extents.wal for log in logs.logs.values()
        )
        self.met["records that move"] += any(
            segment_extent.live < segment_extent.count
            for log in logs.logs.values()
            for segment_extent in log.extents.segments
        )
        for number, member in life.members.items():
            self.met["groups with a snapshot and entries behind it"] += (
                0 < member.log.snapshot_index < member.log.last_index()
            )
            self.met["groups with entries in segments"] += bool(member.log.log.extents.segments)
            self.met["groups with contents in segments"] += bool(member.contents.extents.segments)
            self.met["groups with entries that were replaced"] += life.world.groups[number].replaced > 0
            self.met["groups that have voted for others"] += life.world.groups[number].vote > 1
        self.count_state()
