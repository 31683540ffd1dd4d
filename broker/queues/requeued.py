"""Delivered messages that wait in their backlog again: they come out in the order of their positions, in batches.

    run   | 4 5 6 7 |        | 20 23 26 |        taken from one consumer: one list, positions at equal distances
    run          | 9 . 11 |     | 21 24 27 |     what was settled meanwhile is missing

What a channel gives back is a run, which costs the same whatever it holds; nothing is made for a single message. Runs
stand in a heap by the position that comes next in them. Where runs interleave (consumers that took turns), the next
messages are put together into a run of their own before they are taken. Single messages that come back one by one
gather in blocks, so that a million of them are not a million runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from broker.discard import discard
from broker.message import ON_DISK, Message
from broker.native import i64
from broker.queues.entry import Entry
from broker.queues.returned_run import ReturnedRun, RunHeap, body_size, is_missing
from broker.turn import SlicedWork, Turn

if TYPE_CHECKING:
    from broker.queues.message_backlog import MessageBacklog
    from broker.store.logs import GroupHold

BATCH_MAX: Final[i64] = 1024
"""Taken at once, at the most."""
_MERGE_BELOW: Final[i64] = 32
"""A run that another one interrupts earlier than this is put together with it."""
_BLOCK_BITS: Final[i64] = 6
_BLOCK_SIZE: Final[i64] = 1 << _BLOCK_BITS
"""Positions in a block of single messages."""
_FEW: Final[i64] = 8
"""Runs of at most so many messages are taken apart, ..."""
_MANY: Final[i64] = 16
"""... once there are so many runs."""
_PER_LOOK: Final[i64] = 512
"""Messages that are settled between two looks at the clock."""
_REACH: Final[i64] = 4096
"""What is read back in one go lies within so many positions."""


@final
class _Dropping(SlicedWork):
    """Settles what was dropped of a backlog, and lets go of it. It is one commit group: purge-ok says that all of it is
    on the disk."""

    def __init__(self, turn: Turn | None, backlog: MessageBacklog, runs: list[ReturnedRun], hold: GroupHold) -> None:
        self._turn = turn
        self._backlog = backlog
        self._runs = runs
        self._hold = hold

    def step(self) -> bool:
        done = True
        try:
            done = self._go_on()
        finally:
            self._hold.set(not done)
        return done

    def _go_on(self) -> bool:
        runs = self._runs
        turn = self._turn
        left = _PER_LOOK
        while runs:
            left -= self._drop(runs[-1])
            if runs[-1].live == 0:
                runs.pop()
            if left <= 0:
                left = _PER_LOOK
                if turn is not None and turn.out_of_time():
                    return not runs
        return True

    def _drop(self, run: ReturnedRun) -> i64:
        """Some of a run; how much work that was."""
        size: i64 = len(run.items)
        if run.live == size - run.offset:
            run.settle(self._backlog, size)
            run.live = 0
            discard(self._turn, [run.items])
            return size if size < _PER_LOOK else _PER_LOOK
        end = run.offset + _PER_LOOK
        if end > size:
            end = size
        run.settle(self._backlog, end)
        run.drop(end)
        return _PER_LOOK


def _at_hand(item: Message | Entry | None) -> bool:
    """Whether it can be taken without a look: no deadline, and its content is in memory."""
    return isinstance(item, Message) and item is not ON_DISK


@final
class Requeued:
    """The messages of one backlog that were delivered before."""

    def __init__(self) -> None:
        self.count: i64 = 0
        """Messages."""
        self.expiring: i64 = 0
        """Runs in which some may have a deadline."""
        self.counts_bodies = False
        """The sum of the bodies' sizes will be asked for: what comes back is counted at once, and not all of it
        later."""
        self._heap = RunHeap()
        self._plain: i64 = 0
        """So many of the first run's are next and can be taken at once; 0 if nobody has looked."""
        self._plain_end: i64 = 0
        """The position behind them."""
        self._blocks: dict[int, ReturnedRun] = {}
        self._body_bytes: i64 = 0
        self._uncounted: i64 = 0
        """Runs whose bodies are not in that sum yet."""
        self._sample_bytes: i64 = 0

    # ---- in ----------------------------------------------------------------------------------------------------------

    def push(self, run: ReturnedRun, message_bytes: i64) -> None:
        """Take a run back; ``message_bytes`` is about what one of its messages costs in memory."""
        if run.live == 0:
            return
        self._sample_bytes = message_bytes if self.count == 0 else (self._sample_bytes * 7 + message_bytes) // 8
        self.count += run.live
        run.skip_missing()
        if run.live <= _FEW and len(self._heap.runs) >= _MANY:
            self._gather(run)
        else:
            run.key = run.next_position()
            self._uncounted += 1
            if self.counts_bodies:
                self._count_bodies(run)
            if run.expiring:
                self.expiring += 1
            self._insert(run)

    def _insert(self, run: ReturnedRun) -> None:
        if run.key < self._plain_end:
            self._forget_plain()
        self._heap.insert(run)

    def _gather(self, run: ReturnedRun) -> None:
        """Put its messages into the blocks they belong to."""
        index = run.offset
        size: i64 = len(run.items)
        while index < size:
            item = run.items[index]
            if item is not None:
                self._put(item, run.first_position + index * run.stride)
            index += 1

    def _put(self, item: Message | Entry, position: i64) -> None:
        number = position >> _BLOCK_BITS
        block = self._blocks.get(int(number))
        if block is None:
            block = ReturnedRun([None] * int(_BLOCK_SIZE), number << _BLOCK_BITS, 1, _BLOCK_SIZE, 0, False)
            block.block = number
            block.body_bytes = 0
            # Less than its next position, so that it may stay where it stands in the heap.
            block.key = block.first_position
            self._blocks[int(number)] = block
            self._insert(block)
        elif position < self._plain_end:
            self._forget_plain()
        index = position - block.first_position
        block.items[index] = item
        block.live += 1
        if index < block.offset:
            block.offset = index
        if isinstance(item, Entry) and not block.expiring:
            block.expiring = True
            self.expiring += 1
        size = body_size(item)
        block.body_bytes += size
        self._body_bytes += size

    def _forget_plain(self) -> None:
        self._plain = 0
        self._plain_end = 0

    # ---- what comes next ---------------------------------------------------------------------------------------------

    def _first(self) -> ReturnedRun:
        """The run whose next message comes first of all. There must be one."""
        heap = self._heap
        while True:
            run = heap.runs[0]
            if run.live == 0:
                self._remove_first()
                continue
            position = run.next_position()
            if position == run.key:
                return run
            self._seal(run)
            run.key = position
            self._heap.sink_first()

    def _seal(self, run: ReturnedRun) -> None:
        if run.block >= 0:
            del self._blocks[int(run.block)]
            run.block = -1

    def _remove_first(self) -> None:
        run = self._heap.remove_first()
        self._seal(run)
        run.items = []  # whoever took them owns them
        if run.expiring:
            self.expiring -= 1
        if run.body_bytes < 0:
            self._uncounted -= 1

    def next_item(self) -> Message | Entry | None:
        """The next message as it came; None if there is none."""
        if self.count == 0:
            return None
        run = self._first()
        return run.items[run.offset]

    def next_position(self) -> i64:
        """The position of the first message that ``take`` would return."""
        return self._first().key

    def next_stride(self) -> i64:
        """The distance between the positions of those that ``take`` returns after ``plain``."""
        return self._first().stride

    def plain(self) -> i64:
        """How many ``take`` may take at once, at equal distances; 0 if the next one needs a look."""
        if self._plain == 0 and self.count > 0:
            self._look()
        return self._plain

    def _look(self) -> None:
        """Find out how many of the first run's can be taken before those of another one; put both together if they are
        too few."""
        run = self._first()
        items = run.items
        start = run.offset
        if not _at_hand(items[start]):
            return
        limit = self._heap.second_key()
        stride = run.stride
        position = run.key
        index = start
        size: i64 = len(items)
        end = size if size < start + BATCH_MAX else start + BATCH_MAX
        while index < end and position < limit and _at_hand(items[index]):
            index += 1
            position += stride
        if position >= limit and index < size and index - start < _MERGE_BELOW:
            run = self._merge()
            self._plain = run.live
            self._plain_end = run.key + run.live
        else:
            self._plain = index - start
            self._plain_end = position - stride + 1

    def _merge(self) -> ReturnedRun:
        """Put what comes next together, from whichever runs it is in, as far as there is no gap."""
        first = self._first().key
        position = first
        size: i64 = 0
        items: list[Message | Entry | None] = []
        while self._heap.runs and len(items) < BATCH_MAX:
            run = self._first()
            if run.key != position or not _at_hand(run.items[run.offset]):
                break
            item = run.items[run.offset]
            size += body_size(item)
            items.append(item)
            self._remove(run, 1)
            position += 1
        merged = ReturnedRun(items, first, 1, 0, len(items), False)
        merged.key = first
        merged.body_bytes = size
        self._body_bytes += size
        self._insert(merged)
        return merged

    # ---- out ---------------------------------------------------------------------------------------------------------

    def take(self, count: i64) -> list[Message | Entry | None]:
        """Remove and return the next ``count`` messages; at most ``plain()``."""
        run = self._first()
        self.count -= count
        self._plain -= count
        if self._plain == 0:
            self._plain_end = 0
        return self._remove(run, count)

    def pop(self) -> Entry:
        """Remove and return the next message, as an entry; its content may be on disk only."""
        run = self._first()
        position = run.key
        self._forget_plain()
        self.count -= 1
        item = self._remove(run, 1)[0]
        if isinstance(item, Entry):
            entry = item
        else:
            assert item is not None
            entry = Entry(item, position, 0)
        entry.redelivered = True
        return entry

    def _remove(self, run: ReturnedRun, count: i64) -> list[Message | Entry | None]:
        """Take the next ``count``, which are there, out of the first run."""
        items = run.items
        start = run.offset
        end = start + count
        if start == 0 and end == len(items):
            taken = items
        else:
            taken = items[start:end]
            index = start
            while index < end:
                items[index] = None
                index += 1
        run.live -= count
        if run.body_bytes >= 0:
            size: i64 = 0
            for item in taken:
                size += body_size(item)
            run.body_bytes -= size
            self._body_bytes -= size
        if run.live == 0:
            self._remove_first()
        else:
            run.offset = end
            run.skip_missing()
            self._seal(run)
            run.key = run.next_position()
            self._heap.sink_first()
        return taken

    def clear(self, backlog: MessageBacklog, dropped: list[list[Message | Entry | None]]) -> None:
        """Drop all and tell the backlog so, soon: very many may be settled one by one. ``dropped`` gets what is not
        needed for that."""
        disk = backlog.disk
        settled: list[ReturnedRun] = []
        for run in self._heap.runs:
            if disk is not None and disk.log is not None:
                settled.append(run.taken())
            else:
                dropped.append(run.items)
            run.items = []  # a read that is on its way must not find them
        if settled and disk is not None:
            turn = disk.turn()
            work = _Dropping(turn, backlog, settled, disk.group_hold())
            if turn is not None:
                turn.start(work)
            else:
                work.step()
        self._heap = RunHeap()
        self._blocks = {}
        self._forget_plain()
        self.count = 0
        self.expiring = 0
        self._body_bytes = 0
        self._uncounted = 0

    # ---- how much ----------------------------------------------------------------------------------------------------

    def is_counted(self) -> bool:
        """Whether ``body_bytes`` need not add anything up."""
        return self._uncounted == 0

    def body_bytes(self) -> i64:
        """Sum of the bodies' sizes, as far as their content is in memory. Who asks for the first time waits for the
        sum."""
        if self._uncounted:
            for run in self._heap.runs:
                if run.body_bytes < 0:
                    self._count_bodies(run)
        return self._body_bytes

    def _count_bodies(self, run: ReturnedRun) -> None:
        size: i64 = 0
        for item in run.items:
            size += body_size(item)
        run.body_bytes = size
        self._body_bytes += size
        self._uncounted -= 1

    def memory_bytes(self) -> i64:
        """About what they cost in memory."""
        return self.count * self._sample_bytes

    # ---- content that is on disk only --------------------------------------------------------------------------------

    def missing(self) -> dict[int, ReturnedRun]:
        """Those of the next ones whose content is on disk only, by position, and the runs they are in."""
        found: dict[int, ReturnedRun] = {}
        if self.count == 0:
            return found
        end = self._first().key + _REACH
        runs = self._heap.runs
        places: list[int] = [0]
        while places:
            at: i64 = places.pop()
            if at >= len(runs) or runs[at].key >= end:
                continue
            run = runs[at]
            index = run.offset
            position = run.next_position()
            while index < len(run.items) and position < end:
                if is_missing(run.items[index]):
                    found[int(position)] = run
                index += 1
                position += run.stride
            places.append(int(2 * at + 1))
            places.append(int(2 * at + 2))
        return found

    def reloaded(self, run: ReturnedRun, position: i64, message: Message) -> None:
        """The content of a message was read, if it still waits."""
        index = (position - run.first_position) // run.stride
        if index < run.offset or index >= len(run.items) or not is_missing(run.items[index]):
            return
        item = run.items[index]
        if isinstance(item, Entry):
            item.message = message
        else:
            run.items[index] = message
        if run.body_bytes >= 0:
            run.body_bytes += message.body_size
            self._body_bytes += message.body_size

    def lose(self, run: ReturnedRun, position: i64) -> None:
        """The content of a message, if it still waits, cannot be read."""
        index = (position - run.first_position) // run.stride
        if index < run.offset or index >= len(run.items) or not is_missing(run.items[index]):
            return
        run.items[index] = None
        run.live -= 1
        self.count -= 1
        if run.live > 0:
            run.skip_missing()
