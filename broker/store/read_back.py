"""What the logs ask of whoever reads files: batches, by their places. Knows no files itself (reading.py does)."""

from __future__ import annotations

from typing import Final, final

from mypy_extensions import mypyc_attr

from broker.native import i64
from broker.store.batch import LARGE, Place, StoredBatch, place_at
from broker.store.log import Log, LogUser
from broker.store.piece import Piece, Stretch, reaching

COUNT_MAX: Final[i64] = 4096
"""Positions that one read tells at the most: a turn must not be long because of it."""
BATCHES_SIZE_MAX: Final[i64] = 4 << 20
"""A read that has chosen batches of so many bytes ends with them."""


def index_place(piece: Piece) -> Place:
    """Where its stretches are told."""
    return place_at(piece.segment.number, piece.index_offset, piece.index_size)


@final
class Read:
    """Records of one log on their way back from the disk."""

    def __init__(self, log: Log, start: i64, end: i64, budget: i64, user: LogUser | None, count: i64 = COUNT_MAX) -> None:
        self.log = log
        self.user = user
        """Who is told; None for the log's own user."""
        self.start: i64 = start
        """The first position that is wanted."""
        self.end: i64 = end
        """Behind the last one that is wanted."""
        self.budget: i64 = budget
        """Bytes of records to tell, about."""
        self.count: i64 = count
        """Positions to tell at the most."""
        self.stretches: list[Stretch] = []
        self.batches: dict[Place, StoredBatch | None] = {}
        """Their batches; None for one that is damaged."""
        self.piece: Piece | None = None
        """Where they are, if they are not in the write-ahead log."""
        self.index: list[Stretch] | None = None
        """All stretches of that piece; None if they could not be read."""

    def add(self, stretches: list[Stretch], index: i64) -> None:
        """Choose what to read, from the stretch of this index on."""
        size: i64 = 0
        budget = self.budget
        count = self.count
        while index < len(stretches):
            stretch = stretches[index]
            place = stretch.place
            if stretch.first >= self.end or place.generation < 0:
                return
            if place not in self.batches:
                if size >= BATCHES_SIZE_MAX or (size > 0 and place.size > LARGE):
                    return
                self.batches[place] = None
                size += place.size
            self.stretches.append(stretch)
            first = stretch.first if stretch.first > self.start else self.start
            taken = stretch.first + stretch.count - first
            record_size = (stretch.end - stretch.start) // stretch.count
            if taken > count:
                taken = count
            if taken * record_size > budget:
                taken = budget // record_size + 1
            count -= taken
            budget -= taken * record_size
            if count <= 0 or budget <= 0:
                if first + taken < self.end:
                    self.end = first + taken
                return
            index += 1

    def choose(self) -> None:
        """Choose from the stretches of the piece, which are known now."""
        index = self.index
        if index is not None:
            self.add(index, reaching(index, 0, self.start))

    def is_large(self) -> bool:
        """Whether it takes long: nobody should wait for it. It is if what it needs is not known yet."""
        if self.piece is not None and self.index is None:
            return True
        for place in self.batches:
            if place.size > LARGE:
                return True
        return False

    def through(self) -> i64:
        """Behind the last position that it reads."""
        end = self.end
        piece = self.piece
        if piece is not None and piece.last < end:
            end = piece.last + 1
        if self.stretches:
            last = self.stretches[-1]
            index = self.index
            if (index is None or index[-1] is not last) and last.first + last.count < end:
                end = last.first + last.count
        return end


@mypyc_attr(allow_interpreted_subclasses=True)
class LogReader:
    """Fetches batches from files."""

    def fetch(self, read: Read) -> bool:
        """Fill in ``batches``: True if that is done, otherwise ``Logs.fetched`` is called later."""
        raise NotImplementedError

    def fetch_now(self, read: Read) -> None:
        """Fill in ``batches`` before returning.

        Raises: DiskError if there is no descriptor for it
        """
        raise NotImplementedError
