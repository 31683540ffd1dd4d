"""Bytes waiting for one socket, written once per turn; high and low water.

Small frames are copied into one growing buffer; a large content goes as a piece of its own and is never copied (measured: at
64 KiB a copy costs more than the system call it saves).
"""

from typing import Final, final

from librt.strings import BytesWriter
from mypy_extensions import mypyc_attr

from broker.message import Message
from broker.native import i64
from broker.wire.writer import write_content

HIGH_WATER: Final[i64] = 1 << 20
"""Dispatch to a connection stops when this many bytes wait for its next write."""
BACKLOG_MAX: Final[i64] = 8 << 20
"""A client that asks without reading the answers is not read any more when so many bytes wait for it."""
PIECE_SIZE_MIN: Final[i64] = 8192
"""Contents of this size and more are written as pieces of their own."""
_KEEP: Final[i64] = 1 << 16


@mypyc_attr(allow_interpreted_subclasses=True)
class Sink:
    """Where the bytes go: the socket, or a test. It may buffer; it says so through ``Outbox.paused``."""

    def write(self, data: bytes) -> None:
        """Write one buffer."""
        raise NotImplementedError

    def write_pieces(self, pieces: list[bytes]) -> None:
        """Write several buffers, in order."""
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
        self._pieces: list[bytes] = []
        self._pieces_size: i64 = 0

    def size(self) -> i64:
        """Bytes waiting for the next flush."""
        return len(self.writer) + self._pieces_size

    def room(self) -> i64:
        """How many bytes dispatch may add in this turn; 0 or less: none."""
        if self.paused or self.closed:
            return 0
        return HIGH_WATER - len(self.writer) - self._pieces_size

    def write(self, data: bytes) -> None:
        """Append a whole frame."""
        self.writer.write(data)

    def write_content(self, message: Message, channel: i64, payload_max: i64) -> None:
        """Append header and body frames; large ones without copying them if their channel number fits."""
        if (
            len(message.content) >= PIECE_SIZE_MIN
            and message.channel == channel
            and (payload_max == 0 or message.payload_max <= payload_max)
        ):
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

    def discard(self) -> None:
        """Forget what waits."""
        self._pieces = []
        self._pieces_size = 0
        self.writer = BytesWriter()
