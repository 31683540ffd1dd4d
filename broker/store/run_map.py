"""A map from positions to numbers in which neighbours mostly have the same one: it is kept as runs of equal values.

What is kept of a run is where it begins and its value, 16 bytes; it ends where the next one begins. A position that is
not in the map has the value 0, so gaps are runs too, and neighbouring runs always differ. They stand in blocks of
bounded length, so that a change in the middle of a million runs does not move half of them. A million runs take 17 to
18 MB: 16 bytes each, and at most 56 for each block.
"""

from __future__ import annotations

from typing import Final, final

from librt.strings import BytesWriter, read_i64_le, write_i64_le

from broker.native import i64
from broker.store.varint import VARINT_MAX, VarintReader, write_varint

RUN_SIZE: Final[i64] = 16
"""Bytes of a run: where it begins (8) and its value (8)."""
BLOCK_SIZE: Final[i64] = 128 * 16
"""Bytes of the largest block; what is larger is cut into equal pieces."""
POSITION_MAX: Final[i64] = VARINT_MAX - 1
"""The largest position; so values up to ``VARINT_MAX`` and the end of any run have an encoding."""


@final
class RunMap:
    """Positions and their values. Change them through ``assign`` and ``remove``, or run by run with a ``RunEdit``."""

    def __init__(self) -> None:
        self.size: i64 = 0
        """How many positions have a value, that is, one other than 0."""
        self.blocks: list[bytes] = []
        """The runs; no block is empty. The first of all has a value, the last of all has none."""

    # ---- where things stand ------------------------------------------------------------------------------------------

    def block_of(self, position: i64) -> i64:
        """The last block that begins at or before ``position``; 0 if none does."""
        blocks = self.blocks
        low: i64 = 1
        high: i64 = len(blocks)
        while low < high:
            middle = (low + high) >> 1
            if read_i64_le(blocks[middle], 0) <= position:
                low = middle + 1
            else:
                high = middle
        return low - 1

    def value_at(self, position: i64) -> i64:
        """The value there; 0 if it has none."""
        if not self.blocks:
            return 0
        data = self.blocks[self.block_of(position)]
        at = offset_of(data, position + 1) - RUN_SIZE
        return read_i64_le(data, at + 8) if at >= 0 else 0

    def first(self) -> i64:
        """The smallest position with a value; -1 if there is none."""
        return read_i64_le(self.blocks[0], 0) if self.blocks else -1

    def last(self) -> i64:
        """The largest position with a value; -1 if there is none."""
        if not self.blocks:
            return -1
        data = self.blocks[-1]
        return read_i64_le(data, len(data) - RUN_SIZE) - 1

    def runs(self) -> i64:
        """How many runs there are, gaps between two others included."""
        size: i64 = 0
        for data in self.blocks:
            size += len(data)
        return size // RUN_SIZE

    def memory_bytes(self) -> i64:
        """About what it takes."""
        size: i64 = 0
        for data in self.blocks:
            size += len(data) + 48
        return size

    # ---- changes -----------------------------------------------------------------------------------------------------

    def assign(self, first: i64, last: i64, value: i64) -> None:
        """All positions from ``first`` to ``last``, both included, have this value, 0 to ``VARINT_MAX``."""
        edit = RunEdit(self)
        edit.open(first, last)
        while edit.step():
            edit.put(edit.end, value)
        edit.close()

    def assign_each(self, first: i64, count: i64, stride: i64, value: i64) -> None:
        """The same of ``count`` positions from ``first`` on, ``stride`` apart."""
        if stride == 1:
            self.assign(first, first + count - 1, value)
            return
        while count > 0:
            self.assign(first, first, value)
            first += stride
            count -= 1

    def remove(self, first: i64, last: i64) -> None:
        """None of the positions from ``first`` to ``last``, both included, has a value."""
        self.assign(first, last, 0)

    def replace(self, low: i64, low_at: i64, high: i64, high_at: i64, middle: bytes) -> None:
        """Put ``middle`` in the place of the bytes from ``low_at`` in block ``low`` up to ``high_at`` in block
        ``high``."""
        blocks = self.blocks
        if not blocks:
            if middle:
                self._put_pieces(0, middle)
            return
        data = blocks[low][:low_at] + middle + blocks[high][high_at:]
        if high > low:
            del blocks[low + 1 : high + 1]
        size: i64 = len(data)
        if size == 0:
            del blocks[low]
        elif size > BLOCK_SIZE:
            del blocks[low]
            self._put_pieces(low, data)
        else:
            blocks[low] = data
            if size < BLOCK_SIZE // 4 and len(blocks) > 1:
                self._join(low)

    def _put_pieces(self, block: i64, data: bytes) -> None:
        """Insert blocks of about the same length there."""
        runs: i64 = len(data) // RUN_SIZE
        pieces: i64 = (len(data) + BLOCK_SIZE - 1) // BLOCK_SIZE
        made: list[bytes] = []
        at: i64 = 0
        number: i64 = 1
        while number <= pieces:
            end = runs * number // pieces * RUN_SIZE
            made.append(data[at:end])
            at = end
            number += 1
        self.blocks[block:block] = made

    def _join(self, block: i64) -> None:
        """A block has become small: make one of it and a neighbour, if both have room enough in half a block."""
        blocks = self.blocks
        low = block
        while low >= 0 and low >= block - 1:
            if low + 1 < len(blocks):
                size: i64 = len(blocks[low]) + len(blocks[low + 1])
                if size <= BLOCK_SIZE // 2:
                    blocks[low] += blocks[low + 1]
                    del blocks[low + 1]
                    return
            low -= 1

    def clear(self) -> None:
        """No position has a value."""
        self.size = 0
        self.blocks = []

    # ---- bytes -------------------------------------------------------------------------------------------------------

    def write(self, writer: BytesWriter) -> None:
        """How many runs there are and where the first begins, then value and length of each, all as varints; the last
        one has no end and is left out. The same for all maps with the same values. No object is made for any run."""
        count = self.runs()
        write_varint(writer, count)
        if count == 0:
            return
        start = read_i64_le(self.blocks[0], 0)
        write_varint(writer, start)
        value = read_i64_le(self.blocks[0], 8)
        block: i64 = 0
        at = RUN_SIZE
        while block < len(self.blocks):
            data = self.blocks[block]
            size: i64 = len(data)
            while at < size:
                end = read_i64_le(data, at)
                write_varint(writer, value)
                write_varint(writer, end - start)
                start = end
                value = read_i64_le(data, at + 8)
                at += RUN_SIZE
            at = 0
            block += 1


def read_run_map(reader: VarintReader) -> RunMap:
    """What ``RunMap.write`` has written.

    Raises: ValueError if it is something else
    """
    runs = RunMap()
    count = reader.number()
    if count == 0:
        return runs
    if count < 2 or count > reader.end:
        raise ValueError("no runs")
    writer = BytesWriter()
    start = reader.number()
    before: i64 = 0
    while count > 1:
        value = reader.number()
        length = reader.number()
        if value == before or length == 0 or length > POSITION_MAX - start + 1:
            raise ValueError("no runs")
        write_i64_le(writer, start)
        write_i64_le(writer, value)
        if value != 0:
            runs.size += length
        start += length
        before = value
        count -= 1
    if before == 0:
        raise ValueError("no runs")
    write_i64_le(writer, start)
    write_i64_le(writer, 0)
    runs.replace(0, 0, 0, 0, writer.getvalue())
    return runs


def offset_of(data: bytes, position: i64) -> i64:
    """Where in a block the first run stands that begins at or behind ``position``; its length if none does."""
    low: i64 = 0
    high: i64 = len(data) // RUN_SIZE
    while low < high:
        middle = (low + high) >> 1
        if read_i64_le(data, middle * RUN_SIZE) < position:
            low = middle + 1
        else:
            high = middle
    return low * RUN_SIZE


@final
class RunCursor:
    """Goes through the runs of a map, from some position on. The map must not change meanwhile."""

    def __init__(self, runs: RunMap) -> None:
        self.start: i64 = 0
        """Where this run begins, or where the cursor was set to if that is within it."""
        self.end: i64 = -1
        """Its last position; ``POSITION_MAX`` behind all others."""
        self.value: i64 = 0
        """Its value; 0 for a gap."""
        self._runs = runs
        self._block: i64 = 0
        self._at: i64 = 0

    def seek(self, position: i64) -> None:
        """``step`` goes to the run of this position."""
        self.end = position - 1
        self.value = 0
        self._block = 0
        self._at = 0
        blocks = self._runs.blocks
        if not blocks:
            return
        self._block = self._runs.block_of(position)
        data = blocks[self._block]
        self._at = offset_of(data, position + 1)
        if self._at > 0:
            self.value = read_i64_le(data, self._at - 8)

    def step(self) -> bool:
        """Go to the next run; False behind ``POSITION_MAX``."""
        start = self.end + 1
        if start > POSITION_MAX:
            return False
        blocks = self._runs.blocks
        block = self._block
        while block < len(blocks):
            data = blocks[block]
            if self._at < len(data):
                begin = read_i64_le(data, self._at)
                if begin > start:
                    self._block = block
                    self.start = start
                    self.end = begin - 1
                    return True
                self.value = read_i64_le(data, self._at + 8)
                self._at += RUN_SIZE
                continue
            block += 1
            self._at = 0
        self._block = block
        self.start = start
        self.end = POSITION_MAX
        return True


@final
class RunEdit:
    """Changes the values of a range, run by run: ``open``; for each ``step``, ``put`` until all of the run has its new
    values; ``close``. Between ``open`` and ``close`` nobody else may touch the map. It can be used again."""

    def __init__(self, runs: RunMap) -> None:
        self.start: i64 = 0
        """Where this run, or what is left of it, begins."""
        self.end: i64 = 0
        """Its last position in the range."""
        self.value: i64 = 0
        """Its value; 0 for a gap."""
        self._runs = runs
        self._last: i64 = 0
        self._low: i64 = 0
        self._low_at: i64 = 0
        self._block: i64 = 0
        self._at: i64 = 0
        """Where the next run begins."""
        self._next: i64 = 0
        """The value of the last run that was read."""
        self._put: i64 = 0
        """The value of the position before ``start``, as it is to be."""
        self._changed = False
        self._writer = BytesWriter()

    def turn_to(self, runs: RunMap) -> None:
        """Another map is changed from now on."""
        self._runs = runs

    def open(self, first: i64, last: i64) -> None:
        """The range: from ``first`` to ``last``, both included, at most ``POSITION_MAX``."""
        runs = self._runs
        self._last = last
        self.end = first - 1
        self._next = 0
        self._low = 0
        self._low_at = 0
        if runs.blocks:
            block = runs.block_of(first - 1)
            data = runs.blocks[block]
            at = offset_of(data, first)
            self._low = block
            self._low_at = at
            if at > 0:
                self._next = read_i64_le(data, at - 8)
        self._put = self._next
        self._block = self._low
        self._at = self._low_at
        self._changed = False
        if len(self._writer) > 0:
            self._writer.truncate(0)

    def step(self) -> bool:
        """Go to the next run of the range; False if there is none."""
        start = self.end + 1
        if start > self._last:
            return False
        self.start = start
        self._read(start)
        self.value = self._next
        end = self._last
        block = self._block
        if block < len(self._runs.blocks):
            begin = read_i64_le(self._runs.blocks[block], self._at)
            if begin <= end:
                end = begin - 1
        self.end = end
        return True

    def _read(self, position: i64) -> None:
        """Go on to the first run that begins behind ``position``; there is at most one before it."""
        blocks = self._runs.blocks
        block = self._block
        if block < len(blocks) and self._at >= len(blocks[block]):
            block += 1
            self._at = 0
        if block < len(blocks) and read_i64_le(blocks[block], self._at) <= position:
            self._next = read_i64_le(blocks[block], self._at + 8)
            self._at += RUN_SIZE
            if self._at >= len(blocks[block]):
                block += 1
                self._at = 0
        self._block = block

    def put(self, end: i64, value: i64) -> None:
        """The positions from ``start`` to ``end``, which is in this run, have this value; ``start`` goes behind
        them."""
        start = self.start
        if value != self._put:
            write_i64_le(self._writer, start)
            write_i64_le(self._writer, value)
            self._put = value
        if value != self.value:
            self._changed = True
            if value == 0:
                self._runs.size -= end - start + 1
            elif self.value == 0:
                self._runs.size += end - start + 1
        self.start = end + 1

    def close(self) -> None:
        """The range has its new values; all of its runs must have been gone through."""
        if not self._changed:
            return
        end = self._last + 1
        self._read(end)
        if self._next != self._put:
            write_i64_le(self._writer, end)
            write_i64_le(self._writer, self._next)
        block = self._block
        at = self._at
        if block > self._low and at == 0:
            block -= 1
            at = len(self._runs.blocks[block])
        self._runs.replace(self._low, self._low_at, block, at, self._writer.getvalue())
        if len(self._writer) > BLOCK_SIZE:
            self._writer = BytesWriter()
