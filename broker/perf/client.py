"""Sockets of the load generator: handshake, declarations, and the asyncio side of producers and consumers."""

from __future__ import annotations

import asyncio
import struct
import time
from typing import TYPE_CHECKING, Final, cast

from broker.perf.load import Broken, Producer, Receiver, refuse_close
from broker.wire import spec, table
from broker.wire.frames import FrameReader
from broker.wire.methods import method_frame

if TYPE_CHECKING:
    from collections.abc import Callable

_FRAME_MAX: Final = 131072
_BATCH: Final = 64
_BUFFER_MAX: Final = 256 * 1024


class Control:
    """One connection while it is being set up: requests one after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self._frames = FrameReader(0)

    async def expect(self, index: int) -> bytes:
        """The payload of the next method frame, which must be ``index``. Raises Broken."""
        while True:
            while self._frames.next():
                if self._frames.frame_type != 1:
                    continue
                payload = self._frames.data[self._frames.start : self._frames.end]
                found = int.from_bytes(payload[:4], "big")
                if found == index:
                    return payload
                refuse_close(self._frames, found)
                raise Broken(f"expected method {index:#x}, got {found:#x}")
            data = await self._reader.read(65536)
            if not data:
                raise Broken("the broker closed the socket")
            self._frames.feed(data)

    async def call(self, channel: int, index: int, values: list[tuple[str, object]], answer: int) -> bytes:
        """Send a method and await its answer. Raises Broken."""
        self.writer.write(method_frame(channel, index, values))
        return await self.expect(answer)

    async def hand_over(self, protocol: asyncio.Protocol) -> bytes:
        """Let ``protocol`` have what comes from now on; what has come already and was not asked for: deliveries behind
        consume-ok."""
        transport = cast("asyncio.Transport", self.writer.transport)
        transport.set_protocol(protocol)
        self._reader.feed_eof()
        return self._frames.rest() + await self._reader.read()

    async def handshake(self, user: str, password: str, vhost: str) -> None:
        """From the protocol header to an open channel 1. Raises Broken."""
        self.writer.write(spec.PROTOCOL_HEADER)
        await self.expect(spec.CONNECTION_START)
        response = f"\0{user}\0{password}"
        start_ok: list[tuple[str, object]] = [
            ("rawtable", table.encode({"product": "leveret perf"})),
            ("shortstr", "PLAIN"),
            ("longstr", response),
            ("shortstr", "en_US"),
        ]
        tune = await self.call(0, spec.CONNECTION_START_OK, start_ok, spec.CONNECTION_TUNE)
        channel_max, frame_max = struct.unpack(">HI", tune[4:10])
        frame_max = min(frame_max or _FRAME_MAX, _FRAME_MAX)
        self.writer.write(
            method_frame(0, spec.CONNECTION_TUNE_OK, [("short", channel_max), ("long", frame_max), ("short", 0)])
        )
        await self.call(
            0, spec.CONNECTION_OPEN, [("shortstr", vhost), ("shortstr", ""), ("octet", 0)], spec.CONNECTION_OPEN_OK
        )
        await self.call(1, spec.CHANNEL_OPEN, [("shortstr", "")], spec.CHANNEL_OPEN_OK)


async def connect(host: str, port: int, user: str, password: str, vhost: str) -> Control:
    """An open connection with channel 1. Raises Broken, OSError."""
    reader, writer = await asyncio.open_connection(host, port)
    control = Control(reader, writer)
    await control.handshake(user, password, vhost)
    return control


class ProducerSocket(asyncio.Protocol):
    """Takes over a connection and publishes as fast as window, rate and socket allow."""

    def __init__(self, producer: Producer, rate: float, on_broken: Callable[[str], None]) -> None:
        self.producer = producer
        self._rate = rate
        self._on_broken = on_broken
        self._transport: asyncio.Transport | None = None
        self._control: Control | None = None
        self._writable = True
        self._scheduled = False
        self._running = False
        self._started_ns = 0
        self.backlog_max = 1 << 62
        """Publish only while fewer messages than this wait for their consumers."""

    async def attach(self, control: Control) -> None:
        """Become the protocol of a connection that is set up."""
        self._control = control  # its stream writer would close the socket when it is collected
        self._transport = cast("asyncio.Transport", control.writer.transport)
        self._transport.set_write_buffer_limits(high=_BUFFER_MAX)
        early = await control.hand_over(self)
        if early:
            self.data_received(early)

    def start(self) -> None:
        """Begin to publish."""
        self._running = True
        self._started_ns = time.monotonic_ns()
        self._pump()

    def stop(self) -> None:
        """Publish no more."""
        self._running = False

    def _pump(self) -> None:
        self._scheduled = False
        if not self._running or not self._writable or self._transport is None:
            return
        producer = self.producer
        count = min(_BATCH, int(producer.room()))
        if producer.tally.backlog() > self.backlog_max:
            self._again(0.001)
            return
        now = time.monotonic_ns()
        due, step = now, 0
        if self._rate:
            step = int(1e9 / self._rate)
            due = self._started_ns + int(producer.sent) * step
            count = min(count, max(0, (now - due) // step + 1))
        if count > 0:
            self._transport.write(producer.produce(count, due, step))
            if not self._rate:
                self._again(0)
        if self._rate and self._running:
            following = self._started_ns + int(producer.sent) * step
            self._again(max(0.0, (following - time.monotonic_ns()) / 1e9))

    def _again(self, delay: float) -> None:
        if not self._scheduled:
            self._scheduled = True
            loop = asyncio.get_running_loop()
            if delay:
                loop.call_later(delay, self._pump)
            else:
                loop.call_soon(self._pump)

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        if not self._scheduled:
            self._pump()

    def data_received(self, data: bytes) -> None:
        try:
            self.producer.receive(data, time.monotonic_ns())
        except Broken as error:
            self._running = False
            self._on_broken(str(error))
            return
        if not self._scheduled:
            self._pump()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._running:
            self._running = False
            self._on_broken("a producer lost its connection")


class ReceiverSocket(asyncio.Protocol):
    """Takes over a connection and consumes."""

    def __init__(self, receiver: Receiver, on_broken: Callable[[str], None]) -> None:
        self.receiver = receiver
        self._on_broken = on_broken
        self._transport: asyncio.Transport | None = None
        self._control: Control | None = None
        self.closing = False

    async def attach(self, control: Control) -> None:
        """Become the protocol of a connection that is set up."""
        self._control = control  # its stream writer would close the socket when it is collected
        self._transport = cast("asyncio.Transport", control.writer.transport)
        early = await control.hand_over(self)
        if early:
            self.data_received(early)

    def data_received(self, data: bytes) -> None:
        try:
            acks = self.receiver.receive(data, time.monotonic_ns())
        except Broken as error:
            self._on_broken(str(error))
            return
        if acks and self._transport is not None:
            self._transport.write(acks)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closing:
            self._on_broken("a consumer lost its connection")
