"""Bytes waiting for one socket, written once per turn; high and low water.

Small frames are copied into one growing buffer; a large content goes as a piece of its own and is never copied
(measured: at 64 KiB a copy costs more than the system call it saves). What is very large leaves a part at a time, one
in each turn: the system copies 128 MiB in 10 ms, and takes 100 ms where the frames have to be made anew.
"""

from typing import Final, final

from librt.strings import BytesWriter
from mypy_extensions import mypyc_attr

from broker.message import Message
from broker.native import i64
from broker.wire.writer import write_content, write_frames

HIGH_WATER: Final[i64] = 1 << 20
"""Dispatch to a connection stops when this many bytes wait for its next write."""
BACKLOG_MAX: Final[i64] = 8 << 20
"""A client that asks without reading the answers is not read any more when so many bytes wait for it."""
PIECE_SIZE_MIN: Final[i64] = 8192
"""Contents of this size and more are written as pieces of their own."""
PART_SIZE: Final[i64] = 1 << 20
"""About so much is written at once, ..."""
WHOLE_MAX: Final[i64] = 2 << 20
"""... unless all that waits is not more than this. A content that is larger and needs other frames gets them as it
leaves."""
_KEEP: Final[i64] = 1 << 16


Piece = bytes | memoryview


@mypyc_attr(allow_interpreted_subclasses=True)
class Sink:
    """Where the bytes go: the socket, or a test. It may buffer; it says so through ``Outbox.paused``."""

    def write(self, data: bytes) -> None:
        """Write one buffer."""
        raise NotImplementedError

    def write_pieces(self, pieces: list[Piece]) -> None:
        """Write several buffers, in order."""
        raise NotImplementedError

    def unsent(self) -> int:
        """Bytes that were written and that the system has not accepted yet."""
        raise NotImplementedError

    def pause_reading(self) -> None:
        """Take no more input from the client until ``resume_reading``."""
        raise NotImplementedError

    def resume_reading(self) -> None:
        """Take input again."""
        raise NotImplementedError

    def close(self) -> None:
        """End the stream when everything written has left."""
        raise NotImplementedError

    def await_close(self) -> None:
        """Leave closing to the client, for a while."""
        raise NotImplementedError

    def abort(self) -> None:
        """Close at once; what is buffered is lost."""
        raise NotImplementedError


def _fits(message: Message, channel: i64, payload_max: i64) -> bool:
    """Whether the frames of a content can go out as they are."""
    return message.channel == channel and (payload_max == 0 or message.payload_max <= payload_max)


@final
class _Large:
    """A content that leaves in parts."""

    def __init__(self, message: Message, channel: i64, payload_max: i64) -> None:
        self.message = message
        self.channel: i64 = channel
        self.payload_max: i64 = payload_max
        self.as_it_is = _fits(message, channel, payload_max)
        """Its frames need no change."""
        self.at: i64 = 0
        """What stands before it in the content has left."""

    def part(self) -> Piece:
        """The next part."""
        content = self.message.content
        at = self.at
        end: i64 = len(content)
        if self.as_it_is:
            if end > at + PART_SIZE:
                end = at + PART_SIZE
            self.at = end
            return memoryview(content)[at:end]
        writer = BytesWriter()
        self.at = write_frames(writer, self.message, at, PART_SIZE, self.channel, self.payload_max)
        return writer.getvalue()

    def left(self) -> i64:
        """Bytes that have not left; about, if they get other frames."""
        return len(self.message.content) - self.at


@final
class Outbox:
    """What waits for the next flush of one connection. Owned by the connection; channels write to it."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.writer = BytesWriter()
        self.paused = False
        """The socket's own buffer is full: nothing may be dispatched to this connection."""
        self.closed = False
        self.bytes_written: i64 = 0
        self.reserved: i64 = 0
        """Bytes of deliveries that are decided and will be written soon."""
        self._pieces: list[Piece] = []
        self._pieces_size: i64 = 0
        self._large: list[_Large] | None = None
        """Those that have not left yet; b"" stands for each of them among the pieces. None for most clients."""

    def size(self) -> i64:
        """Bytes waiting for the next flush."""
        return len(self.writer) + self._pieces_size

    def room(self) -> i64:
        """How many bytes dispatch may add in this turn; 0 or less: none."""
        if self.paused or self.closed:
            return 0
        return HIGH_WATER - len(self.writer) - self._pieces_size - self.reserved

    def write(self, data: bytes) -> None:
        """Append a whole frame."""
        self.writer.write(data)

    def write_content(self, message: Message, channel: i64, payload_max: i64) -> None:
        """Append header and body frames; large ones without copying them if their channel number fits."""
        if len(message.content) > WHOLE_MAX:
            self._cut()
            self._pieces.append(b"")
            large = self._large
            if large is None:
                large = []
                self._large = large
            large.append(_Large(message, channel, payload_max))
            self._pieces_size += len(message.content)
        elif len(message.content) >= PIECE_SIZE_MIN and _fits(message, channel, payload_max):
            self._cut()
            self._pieces.append(message.content)
            self._pieces_size += len(message.content)
        else:
            write_content(self.writer, message, channel, payload_max)

    def _cut(self) -> None:
        if len(self.writer):
            data = self.writer.getvalue()
            self._pieces.append(data)
            self._pieces_size += len(data)
            self._renew()

    def _renew(self) -> None:
        if len(self.writer) > _KEEP:
            self.writer = BytesWriter()  # one burst must not keep its memory for ever
        else:
            self.writer.truncate(0)

    def flush(self) -> None:
        """Hand everything to the sink."""
        if self.closed:
            self.discard()
            return
        if self.paused:
            return  # the socket's buffer is full: what waits stays here, where it is counted
        if self._pieces:
            self._cut()
            if self._large or self._pieces_size > WHOLE_MAX:
                self._flush_part()
                return
            self.bytes_written += self._pieces_size
            pieces = self._pieces
            self._pieces = []
            self._pieces_size = 0
            self.sink.write_pieces(pieces)
        elif len(self.writer):
            data = self.writer.getvalue()
            self._renew()
            self.bytes_written += len(data)
            self.sink.write(data)

    def finish(self) -> None:
        """The same with all that waits, however much it is, and even to a socket whose buffer is full: nothing is
        written after it."""
        self.paused = False
        self.flush()
        while self._pieces and not self.closed:
            self._flush_part()
        self.closed = True

    def close(self) -> None:
        """Nothing is written any more."""
        self.closed = True
        self.discard()

    def _flush_part(self) -> None:
        """Hand the first of the pieces to the sink, or the next part of a large one."""
        pieces = self._pieces
        chosen: list[Piece] = []
        size: i64 = 0
        count: i64 = 0
        while count < len(pieces) and size < PART_SIZE:
            piece = pieces[count]
            if len(piece) == 0:
                waiting = self._large
                assert waiting is not None
                large = waiting[0]
                before = large.left()
                piece = large.part()
                after = large.left()
                self._pieces_size -= before - after
                if after > 0:
                    count -= 1
                else:
                    del waiting[0]
            else:
                self._pieces_size -= len(piece)
            chosen.append(piece)
            size += len(piece)
            count += 1
        del pieces[:count]
        self.bytes_written += size
        self.sink.write_pieces(chosen)

    def discard(self) -> None:
        """Forget what waits."""
        self._pieces = []
        self._large = None
        self._pieces_size = 0
        self.writer = BytesWriter()
