"""Which messages of which publishers were accepted: after a change of leader publishers send again what was not
confirmed, and what was accepted before must not be accepted twice.

A publisher's session numbers its messages to this queue upwards, without gaps unless one was refused, so what is known
of it is one range almost always. Forgetting makes a message come twice, never be lost: beyond the limits here the
lowest ranges of a session, and the session that was silent the longest, are forgotten.
"""

from __future__ import annotations

from typing import Final, final

from librt.strings import BytesWriter

from broker.native import i64
from broker.store.ranges import Ranges
from broker.store.run_map import POSITION_MAX
from broker.store.varint import VarintReader, write_varint

SESSIONS_MAX: Final[i64] = 4096
"""Sessions that are remembered."""
RANGES_MAX: Final[i64] = 64
"""Ranges of numbers that are remembered of one."""


@final
class Sessions:
    """Sessions, and the numbers that were accepted of each."""

    def __init__(self) -> None:
        self._known: dict[int, Ranges] = {}
        """By session; the one that was silent the longest first."""

    def count(self) -> i64:
        """How many are remembered."""
        return len(self._known)

    def end_of(self, session: i64, number: i64) -> i64:
        """The last number of the accepted ones around this one; -1 if it was not accepted."""
        known = self._known.get(int(session))
        return -1 if known is None else known.end_of(number)

    def repeats(self, session: i64, first: i64, count: i64) -> i64:
        """How many of ``count`` numbers from ``first`` on were accepted before."""
        known = self._known.get(int(session))
        return 0 if known is None else known.count_between(first, first + count)

    def add(self, session: i64, first: i64, count: i64) -> None:
        """They are accepted."""
        known = self._known.pop(int(session), None)
        if known is None:
            known = Ranges()
            if len(self._known) >= SESSIONS_MAX:
                del self._known[next(iter(self._known))]
        self._known[int(session)] = known
        known.add(first, first + count - 1)
        if known.count() > RANGES_MAX:
            known.remove_through(known.pairs()[0][1])

    def forget(self, session: i64) -> bool:
        """Nothing of it will come again; whether it was known."""
        return self._known.pop(int(session), None) is not None

    def write(self, writer: BytesWriter) -> None:
        """How many; of each its id, how many ranges, and of each range how far it is from the one before and its
        length."""
        write_varint(writer, len(self._known))
        for session, known in self._known.items():
            write_varint(writer, session)
            pairs = known.pairs()
            write_varint(writer, len(pairs))
            at: i64 = 0
            for first, last in pairs:
                write_varint(writer, first - at)
                write_varint(writer, last - first + 1)
                at = last + 2  # two ranges never touch

    def read(self, reader: VarintReader) -> None:
        """What ``write`` has written.

        Raises: ValueError if it is something else
        """
        count = reader.number()
        if count > SESSIONS_MAX:
            raise ValueError("too many sessions")
        while count > 0:
            session = reader.number()
            ranges = reader.number()
            if int(session) in self._known or ranges == 0 or ranges > RANGES_MAX:
                raise ValueError("not a session")
            known = Ranges()
            self._known[int(session)] = known
            at: i64 = 0
            while ranges > 0:
                first = reader.number()
                length = reader.number()
                if first > POSITION_MAX - at or length == 0 or length > POSITION_MAX - at - first:
                    raise ValueError("not a range")
                first += at
                known.add(first, first + length - 1)
                at = first + length + 1
                ranges -= 1
            count -= 1
