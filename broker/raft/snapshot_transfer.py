"""Snapshots on their way between two members, in slices (dissertation, section 5.3: InstallSnapshot with offsets).

The core hands a SNAPSHOT message out whole, takes it whole, and asks to be told what became of it
(``RawNode.report_snapshot``). Between the two the sender has one slice on its way to each member; the answer says up to
where the receiver has everything, and what to send next follows from that. So slices may be lost, doubled and
reordered, both sides may start again in the middle, and neither handles more than a slice at a time.

    sender.begin(message)          for each SNAPSHOT message of a ready
    sender.take()                  slices to be sent, after begin, answered and tick
    receiver.take(slice)           the message for ``RawNode.step`` once it is whole; and always an answer
    sender.answered(answer)
    sender.take_fates()            what to tell ``RawNode.report_snapshot``
"""

from __future__ import annotations

from typing import Final, final

from broker.native import i64
from broker.raft.configuration import Configuration
from broker.raft.message import SNAPSHOT, Message, Snapshot

SLICE_BYTES: Final[i64] = 1 << 20


@final
class SnapshotId:
    """Which snapshot of which leader."""

    def __init__(self, sender: i64, term: i64, index: i64, log_term: i64) -> None:
        self.sender: i64 = sender
        self.term: i64 = term
        """The sender's, in which it leads."""
        self.index: i64 = index
        """The last entry that the snapshot stands for,"""
        self.log_term: i64 = log_term
        """and its term."""

    def is_older(self, other: SnapshotId) -> bool:
        """Whether the other one is of a later term, or stands for more in this one."""
        return self.term < other.term or (self.term == other.term and self.index < other.index)

    def is_that(self, other: SnapshotId) -> bool:
        """Whether they are the same."""
        return (
            self.sender == other.sender
            and self.term == other.term
            and self.index == other.index
            and self.log_term == other.log_term
        )


@final
class SnapshotSlice:
    """Some bytes of a snapshot."""

    def __init__(
        self, of: SnapshotId, to: i64, configuration: Configuration, offset: i64, data: bytes, size: i64
    ) -> None:
        self.of = of
        self.to: i64 = to
        self.configuration = configuration
        self.offset: i64 = offset
        self.data = data
        self.size: i64 = size
        """Of the whole."""


@final
class SliceAnswer:
    """Up to where a member has a snapshot."""

    def __init__(self, of: SnapshotId, sender: i64, offset: i64) -> None:
        self.of = of
        self.sender: i64 = sender
        self.offset: i64 = offset
        """Bytes; all of them: it is taken."""


@final
class _Outgoing:
    """One snapshot on its way to one member."""

    def __init__(self, of: SnapshotId, to: i64, configuration: Configuration, data: bytes) -> None:
        self.of = of
        self.to: i64 = to
        self.configuration = configuration
        self.data = data
        self.offset: i64 = 0
        """Where the slice begins that is on its way."""
        self.waited: i64 = 0
        """Ticks since anything was heard of it that is new."""
        self.resend_in: i64 = 0

    def slice(self, slice_bytes: i64, resend_in: i64) -> SnapshotSlice:
        self.resend_in = resend_in
        data = self.data
        part = data[self.offset : self.offset + slice_bytes]
        return SnapshotSlice(self.of, self.to, self.configuration, self.offset, part, len(data))


@final
class SnapshotSender:
    """The snapshots that one member sends."""

    def __init__(self, resend_ticks: i64, patience_ticks: i64, slice_bytes: i64 = SLICE_BYTES) -> None:
        self._resend_ticks: i64 = resend_ticks
        """Without an answer for so long the slice is sent again,"""
        self._patience_ticks: i64 = patience_ticks
        """and after so long without any progress the snapshot is given up."""
        self._slice_bytes: i64 = slice_bytes
        self._under_way: dict[int, _Outgoing] = {}
        """By the member it goes to."""
        self._slices: list[SnapshotSlice] = []
        self._fates: list[tuple[int, bool]] = []

    def begin(self, message: Message) -> None:
        """A SNAPSHOT message is to be sent, instead of another one that may be on its way to the same member."""
        snapshot = message.snapshot
        assert snapshot is not None
        data = snapshot.data
        assert isinstance(data, bytes)
        of = SnapshotId(message.sender, message.term, snapshot.index, snapshot.term)
        outgoing = _Outgoing(of, message.to, snapshot.configuration, data)
        self._under_way[int(message.to)] = outgoing
        self._send(outgoing)

    def _send(self, outgoing: _Outgoing) -> None:
        self._slices.append(outgoing.slice(self._slice_bytes, self._resend_ticks))

    def answered(self, answer: SliceAnswer) -> None:
        """A member says what it has."""
        outgoing = self._under_way.get(int(answer.sender))
        if outgoing is None or not outgoing.of.is_that(answer.of):
            return
        if answer.offset >= len(outgoing.data):
            self._end(outgoing, False)
        elif answer.offset != outgoing.offset:
            if answer.offset > outgoing.offset:
                outgoing.waited = 0
            outgoing.offset = answer.offset  # less than we thought: it has started again
            self._send(outgoing)

    def _end(self, outgoing: _Outgoing, failed: bool) -> None:
        del self._under_way[int(outgoing.to)]
        self._fates.append((int(outgoing.to), failed))

    def tick(self) -> None:
        """A tick of time has passed."""
        for outgoing in list(self._under_way.values()):
            outgoing.waited += 1
            outgoing.resend_in -= 1
            if outgoing.waited >= self._patience_ticks:
                self._end(outgoing, True)
            elif outgoing.resend_in <= 0:
                self._send(outgoing)

    def stop(self, term: i64) -> None:
        """We do not lead any more, or in this term: what belongs to others ends, and nobody wants to know how."""
        for outgoing in list(self._under_way.values()):
            if outgoing.of.term != term:
                del self._under_way[int(outgoing.to)]

    def take(self) -> list[SnapshotSlice]:
        """What is to be sent now."""
        slices = self._slices
        if slices:
            self._slices = []
        return slices

    def take_fates(self) -> list[tuple[int, bool]]:
        """Members, and whether the snapshot that was sent there has failed."""
        fates = self._fates
        if fates:
            self._fates = []
        return fates


@final
class SnapshotReceiver:
    """The snapshot that one member is being sent."""

    def __init__(self, member: i64, size_max: i64) -> None:
        self._member: i64 = member
        self._size_max: i64 = size_max
        """A larger one is not begun."""
        self._of: SnapshotId | None = None
        self._parts: list[bytes] = []
        self._received: i64 = 0
        self._is_whole = False

    def take(self, part: SnapshotSlice) -> tuple[Message | None, SliceAnswer | None]:
        """A slice has come: the message, if it is whole now, and the answer. None: another one has taken its
        place, or it is more than we take."""
        of = self._of
        if of is None or not of.is_that(part.of):
            if (of is not None and part.of.is_older(of)) or part.size > self._size_max:
                return None, None
            self._of = part.of
            self._parts = []
            self._received = 0
            self._is_whole = False
        message: Message | None = None
        if part.offset == self._received and not self._is_whole:
            self._parts.append(part.data)
            self._received += len(part.data)
            if self._received >= part.size:
                message = self._whole(part)
        return message, SliceAnswer(part.of, self._member, self._received)

    def _whole(self, part: SnapshotSlice) -> Message:
        data = b"".join(self._parts)
        self._parts = []
        self._is_whole = True
        message = Message(SNAPSHOT, part.to, part.of.sender, part.of.term)
        message.snapshot = Snapshot(part.of.index, part.of.log_term, part.configuration, data)
        return message
