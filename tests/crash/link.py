"""Many AMQP connections in one thread, without waiting: what keeps a node busy while it is killed.

A `Link` is a connection with one channel (number 1). It is opened with blocking calls (`tests.support.wire`), and
afterwards reads and writes only when its socket is ready; a `Crowd` runs all of them. Whoever owns the link is told
what it received and writes to `out`.
"""

from __future__ import annotations

import contextlib
import selectors
import struct
import time
from collections.abc import Callable
from typing import Final

from tests.support.wire import METHOD, Method, WireClient, WireError, method, read_method

CHANNEL: Final = 1
ACK: Final = struct.pack(">HH", 60, 80)
NACK: Final = struct.pack(">HH", 60, 120)
DELIVER: Final = struct.pack(">HH", 60, 60)
RETURN: Final = struct.pack(">HH", 60, 50)
FRAME_MAX: Final = 131072
READ_SIZE: Final = 1 << 18


def content(number_header: bytes, body: bytes) -> bytes:
    """Header and body frames, from the payload of the header frame."""
    room = FRAME_MAX - 8
    frames = [struct.pack(">BHI", 2, CHANNEL, len(number_header)), number_header, b"\xce"]
    for start in range(0, len(body), room):
        piece = body[start : start + room]
        frames += (struct.pack(">BHI", 3, CHANNEL, len(piece)), piece, b"\xce")
    return b"".join(frames)


class Owner:
    """Whoever uses a link."""

    def on_answer(self, tag: int, multiple: bool, nack: bool) -> None:
        """basic.ack or basic.nack for what was published."""
        raise WireError(f"{self}: an answer to {tag} that nobody waits for")

    def on_deliver(
        self, tag: int, redelivered: bool, exchange: str, routing_key: str, header: bytes, body: bytes
    ) -> None:
        """basic.deliver; the header is the payload of its frame."""
        raise WireError(f"{self}: a delivery that nobody asked for")

    def on_return(self, body: bytes) -> None:
        """basic.return"""
        raise WireError(f"{self}: a message came back: {body[:40]!r}")

    def on_method(self, said: Method) -> None:
        """Anything else."""
        raise WireError(f"{self}: the node said {said}")

    def pump(self) -> None:
        """Write what may be written now; called between reads."""


class Link:
    """One connection."""

    def __init__(self, host: str, port: int, owner: Owner) -> None:
        self.client = WireClient(host, port)
        self.client.handshake(frame_max=FRAME_MAX)
        self.client.open_channel(CHANNEL)
        self.owner = owner
        self.out = bytearray()
        self.ended = False
        """The socket is at its end: everything the node has sent was read."""
        self.blocked = False
        """The node has said connection.blocked."""
        self.closing = False
        """The node has closed the connection: close-ok goes out, and nothing behind it."""
        self._in = bytearray()
        self._content: tuple[bytes, bytes, list[bytes], int] | None = None

    def say(self, name: str, **arguments: object) -> None:
        """Write a method."""
        self.out += method(CHANNEL, name, **arguments)

    def publish(self, exchange: str, routing_key: str, header: bytes, body: bytes, mandatory: bool = False) -> None:
        """Write a basic.publish."""
        names = b"".join(bytes([len(name)]) + name for name in (exchange.encode(), routing_key.encode()))
        payload = struct.pack(">HHH", 60, 40, 0) + names + (b"\x01" if mandatory else b"\x00")
        self.out += struct.pack(">BHI", METHOD, CHANNEL, len(payload)) + payload + b"\xce" + content(header, body)

    # what the crowd calls

    def start(self) -> None:
        """From now on nothing waits."""
        self.client.socket.setblocking(False)
        self._in += self.client.received
        self.client.received.clear()

    def write(self) -> None:
        """As much as the socket takes."""
        if not self.out:
            return
        try:
            sent = self.client.socket.send(self.out[: 1 << 18])
        except BlockingIOError:
            return
        except OSError:
            self.out.clear()  # the end of the socket is for reading to find
            return
        del self.out[:sent]

    def leave(self) -> None:
        """Close the socket."""
        self.ended = True
        self.client.close()

    def read(self) -> None:
        """What is there; the owner is told everything that is whole."""
        try:
            piece = self.client.socket.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            self.leave()
            return
        self._in += piece
        self._take()

    def _take(self) -> None:
        data = bytes(self._in)
        at, end = 0, len(data)
        while end - at >= 8:
            kind, channel, size = struct.unpack_from(">BHI", data, at)
            if end - at < size + 8:
                break
            payload = data[at + 7 : at + 7 + size]
            if data[at + 7 + size] != 0xCE:
                raise WireError(f"no frame end behind {payload[:40]!r}")
            at += size + 8
            if kind == METHOD:
                self._method(channel, payload)
            elif channel:
                self._part(payload)
        del self._in[:at]

    def _method(self, channel: int, payload: bytes) -> None:
        start = payload[:4]
        if start in (ACK, NACK):
            tag, bits = struct.unpack_from(">QB", payload, 4)
            self.owner.on_answer(tag, bool(bits & 1), start == NACK)
        elif start in (DELIVER, RETURN):
            self._content = (payload, b"", [], -1)
        elif channel:
            self.owner.on_method(read_method(payload))
        else:
            self._connection_method(read_method(payload))

    def _connection_method(self, said: Method) -> None:
        if said.name in ("connection.blocked", "connection.unblocked"):
            self.blocked = said.name == "connection.blocked"
        elif said.name == "connection.close" and said["reply_code"] == 320:  # CONNECTION_FORCED: the node stops
            self.out += method(0, "connection.close-ok")
            self.closing = True
        else:
            raise WireError(f"{self.owner}: the node said {said}")

    def _part(self, payload: bytes) -> None:
        assert self._content is not None, "content without a method"
        start, header, pieces, left = self._content
        if left < 0:
            header, left = payload, struct.unpack_from(">Q", payload, 4)[0]
        else:
            pieces.append(payload)
            left -= len(payload)
        if left:
            self._content = (start, header, pieces, left)
            return
        self._content = None
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if start[:4] == RETURN:
            self.owner.on_return(body)
            return
        at = 5 + start[4]
        tag, redelivered = struct.unpack_from(">QB", start, at)
        at += 9
        exchange = start[at + 1 : at + 1 + start[at]].decode()
        at += 1 + start[at]
        routing_key = start[at + 1 : at + 1 + start[at]].decode()
        self.owner.on_deliver(tag, bool(redelivered), exchange, routing_key, header, body)


class Crowd:
    """Links, run together."""

    def __init__(self, links: list[Link]) -> None:
        self.links = links
        self.closed = False
        self._selector = selectors.DefaultSelector()
        for link in links:
            link.start()
            self._selector.register(link.client.socket, selectors.EVENT_READ, link)

    def run(self, done: Callable[[], bool], deadline: float) -> bool:
        """Read and write until `done()`, every link has ended, or the deadline of the monotonic clock passes; whether
        it is done."""
        while not done():
            left = deadline - time.monotonic()
            if left <= 0 or not self._selector.get_map():
                return done()
            self._turn(min(left, 0.002), True)
        return True

    def read_to_end(self, deadline_s: float = 5.0) -> None:
        """The node is dead: what it had sent before is read, nothing is written any more.

        Raises: AssertionError if a socket does not end in time
        """
        deadline = time.monotonic() + deadline_s
        while self._selector.get_map():
            assert time.monotonic() < deadline, "a socket of a dead node did not end"
            self._turn(0.1, False)

    def _turn(self, wait_s: float, write: bool) -> None:
        if write:
            for link in self.links:
                if link.ended:
                    continue
                if not link.closing:
                    link.owner.pump()
                link.write()
                if link.closing and not link.out:
                    self._selector.unregister(link.client.socket)
                    link.leave()
        for key, _ in self._selector.select(wait_s):
            link = key.data
            socket = link.client.socket
            link.read()
            if link.ended:
                self._selector.unregister(socket)

    def close(self) -> None:
        """Leave without a word."""
        if self.closed:
            return
        self.closed = True
        for link in self.links:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(link.client.socket)
            link.client.close()
        self._selector.close()
