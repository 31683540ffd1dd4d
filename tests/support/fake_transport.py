"""Stand-ins for a socket: a sink for an outbox, and a transport for the asyncio side."""

from __future__ import annotations

import asyncio

from broker.protocol.outbox import Piece, Sink


class FakeSink(Sink):
    """Keeps what an outbox writes; says how often, and whether it was told to close."""

    def __init__(self) -> None:
        self.data = bytearray()
        """Everything written and not taken yet."""
        self.writes: list[int] = []
        """The size of each write, in order."""
        self.pieces: list[list[int]] = []
        """The sizes in each write of several buffers."""
        self.pauses = 0
        """So many reasons there are not to take input from this client, as net/transport.py counts them."""
        self.closed = False
        self.awaits_close = False
        """It was left to the client to close first."""
        self.aborted = False
        self.accepts = True
        """The client's socket takes what is written."""
        self.waiting = 0
        """Bytes that it has not taken."""
        self.broken = ""
        """The method that raises when it is called next."""

    def _check(self, method: str) -> None:
        if method == self.broken:
            self.broken = ""
            raise ZeroDivisionError(method)

    def write(self, data: bytes) -> None:
        self._check("write")
        assert not self.closed, "written after close"
        assert not self.aborted, "written after abort"
        self.writes.append(len(data))
        self.data += data
        if not self.accepts:
            self.waiting += len(data)

    def write_pieces(self, pieces: list[Piece]) -> None:
        sizes = [len(piece) for piece in pieces]
        self.pieces.append(sizes)
        self.write(b"".join(pieces))

    def unsent(self) -> int:
        return self.waiting

    def pause_reading(self) -> None:
        self._check("pause_reading")
        self.pauses += 1

    def resume_reading(self) -> None:
        self._check("resume_reading")
        assert self.pauses > 0, "resumed more often than paused"
        self.pauses -= 1

    def close(self) -> None:
        self._check("close")
        self.closed = True

    def await_close(self) -> None:
        self.closed = self.awaits_close = True

    def abort(self) -> None:
        self._check("abort")
        self.aborted = True

    @property
    def reading(self) -> bool:
        """False while the broker takes no input from this client."""
        return self.pauses == 0

    @property
    def ended(self) -> bool:
        """Whether the broker has given the socket up."""
        return self.closed or self.aborted

    def take(self) -> bytes:
        """Everything written since the last call."""
        data = bytes(self.data)
        self.data.clear()
        return data


class FakeTransport(asyncio.Transport):
    """asyncio's half of a connected socket, without a loop: what the protocol asked of it can be read afterwards."""

    def __init__(
        self, peer: tuple[str, int] | None = ("127.0.0.1", 50000), own: tuple[str, int] = ("127.0.0.1", 5672)
    ) -> None:
        super().__init__({"peername": peer, "sockname": own})
        self.data = bytearray()
        self.reading = True
        self.closing = False
        self.aborted = False
        self.eof_written = False
        self.limits: tuple[int | None, int | None] = (None, None)
        self.unwritten = 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.limits = (high, low)

    def get_write_buffer_size(self) -> int:
        return self.unwritten

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.data += data

    def writelines(self, list_of_data: object) -> None:
        assert isinstance(list_of_data, list)
        self.data += b"".join(list_of_data)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.eof_written = True

    def is_closing(self) -> bool:
        return self.closing

    def is_reading(self) -> bool:
        return self.reading

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True
        self.aborted = True
