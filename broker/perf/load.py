"""Producers and consumers of the load generator, without sockets: bytes in, bytes out, compiled like the broker.

Every message carries the time at which it was due, its producer's number and its sequence number, so end-to-end latency
is free of coordinated omission and lost, doubled and reordered messages are counted.
"""

from __future__ import annotations

from typing import Final, final

from librt.strings import BytesWriter, read_i16_be, read_i32_be, read_i64_be, write_i64_be

from broker.native import i64
from broker.perf.histogram import Histogram
from broker.wire import spec
from broker.wire.frames import FrameReader
from broker.wire.writer import make_content

STAMP_SIZE: Final = 24
"""Bodies smaller than this cannot carry due time, producer and sequence number."""


@final
class Broken(Exception):
    """The broker closed the channel or connection, or sent something that cannot be."""


@final
class Tally:
    """What all clients of one run count together."""

    def __init__(self, producers: int, queues: int) -> None:
        self.measuring = False
        self.measure_from: i64 = 0
        self.published: i64 = 0
        self.confirmed: i64 = 0
        self.consumed: i64 = 0
        self.total_published: i64 = 0
        self.total_consumed: i64 = 0
        self.total_confirmed: i64 = 0
        self.nacked: i64 = 0
        self.doubled: i64 = 0
        self.skipped: i64 = 0
        self.latency = Histogram()
        self.confirm_latency = Histogram()
        self._producers = producers
        self.copies = 1
        """Deliveries that one message leads to."""
        self._next: list[int] = [0] * (producers * queues)

    def backlog(self) -> i64:
        """Messages published and not consumed yet."""
        return self.total_published - self.total_consumed // self.copies

    def saw(self, queue: i64, producer: i64, sequence: i64) -> None:
        """A message arrived through ``queue``: later than its successor it is doubled or reordered, too early one is
        missing."""
        at = queue * self._producers + producer
        expected = self._next[at]
        if sequence < expected:
            self.doubled += 1
            return
        self.skipped += sequence - expected
        self._next[at] = int(sequence) + 1


@final
class Sent:
    """What a producer publishes."""

    def __init__(self, arguments: bytes, body_size: int, persistent: bool, window: int, payload_max: int) -> None:
        self.arguments = arguments
        """Of basic.publish, as they stand in the frame."""
        self.body_size = body_size
        self.persistent = persistent
        self.window = window
        """Unconfirmed messages allowed; 0: no confirms."""
        self.payload_max = payload_max


@final
class Producer:
    """One publishing channel: channel 1 of its connection."""

    def __init__(self, number: int, tally: Tally, sent: Sent) -> None:
        self.tally = tally
        self.window: i64 = sent.window
        """Unconfirmed messages allowed; 0: no confirms."""
        self.sent: i64 = 0
        self.confirmed: i64 = 0
        self._number: i64 = number
        self._reader = FrameReader(0)
        flags = b"\x80\x00\x18application/octet-stream"
        if sent.persistent:
            flags = b"\x90\x00\x18application/octet-stream\x02"
        body = bytes(97 + at % 26 for at in range(sent.body_size))
        content, header_size = make_content(1, flags, body, sent.payload_max)
        method = b"\x00\x3c\x00\x28" + sent.arguments
        head = b"\x01\x00\x01" + len(method).to_bytes(4, "big") + method + b"\xce"
        whole = head + content
        stamp = len(head) + header_size + 7 if sent.body_size else len(whole)
        self._before = whole[:stamp]
        self._after = whole[stamp + STAMP_SIZE :]
        self._sent_at: list[int] = [0] * max(1, sent.window)

    def room(self) -> i64:
        """How many messages the window allows now."""
        if self.window == 0:
            return 1 << 30
        return self.window - (self.sent - self.confirmed)

    def produce(self, count: i64, due_ns: i64, step_ns: i64) -> bytes:
        """``count`` publishes as bytes; the first was due at ``due_ns``, each next ``step_ns`` later."""
        out = BytesWriter()
        before = self._before
        after = self._after
        made: i64 = 0
        while made < count:
            out.write(before)
            write_i64_be(out, due_ns)
            write_i64_be(out, self._number)
            write_i64_be(out, self.sent)
            out.write(after)
            if self.window:
                self._sent_at[self.sent % self.window] = int(due_ns)
            self.sent += 1
            due_ns += step_ns
            made += 1
        tally = self.tally
        tally.total_published += count
        if tally.measuring:
            tally.published += count
        return out.getvalue()

    def receive(self, data: bytes, now_ns: i64) -> None:
        """Confirms. Raises Broken when the broker closes."""
        reader = self._reader
        reader.feed(data)
        while reader.next():
            if reader.frame_type != 1:
                continue
            method = i64(read_i32_be(reader.data, reader.start)) & 0xFFFFFFFF
            if method == spec.BASIC_ACK or method == spec.BASIC_NACK:
                tag = read_i64_be(reader.data, reader.start + 4)
                first = self.confirmed + 1 if reader.data[reader.start + 12] & 1 else tag
                self._resolved(first, tag, method == spec.BASIC_NACK, now_ns)
            else:
                refuse_close(reader, method)

    def _resolved(self, first: i64, last: i64, nack: bool, now_ns: i64) -> None:
        tally = self.tally
        count = last - first + 1
        self.confirmed += count
        tally.total_confirmed += count
        if nack:
            tally.nacked += count
        if not tally.measuring:
            return
        tally.confirmed += count
        at = first
        while at <= last:
            sent_at: i64 = self._sent_at[(at - 1) % self.window]
            if sent_at >= tally.measure_from:
                tally.confirm_latency.add(now_ns - sent_at)
            at += 1


@final
class Receiver:
    """One consuming channel: channel 1 of its connection."""

    def __init__(self, queue: int, tally: Tally, ack_every: int, verify: bool) -> None:
        self.tally = tally
        self.ack_every: i64 = ack_every
        """0: automatic acknowledgement."""
        self._queue: i64 = queue
        self._verify = verify
        self._reader = FrameReader(0)
        self._tag: i64 = 0
        self._unacked: i64 = 0
        self._left: i64 = 0
        self._first = False

    def receive(self, data: bytes, now_ns: i64) -> bytes:
        """Deliveries; returns the acknowledgements to send. Raises Broken when the broker closes."""
        reader = self._reader
        reader.feed(data)
        acks = b""
        while reader.next():
            kind = reader.frame_type
            if kind == 1:
                method = i64(read_i32_be(reader.data, reader.start)) & 0xFFFFFFFF
                if method == spec.BASIC_DELIVER:
                    self._tag = read_i64_be(reader.data, reader.start + 5 + i64(reader.data[reader.start + 4]))
                else:
                    refuse_close(reader, method)
            elif kind == 2:
                self._left = read_i64_be(reader.data, reader.start + 4)
                self._first = True
                if self._left == 0:
                    acks += self._message()
            elif kind == 3:
                size = reader.end - reader.start
                if self._first:
                    self._first = False
                    if size >= STAMP_SIZE:
                        self._stamp(reader.data, reader.start, now_ns)
                self._left -= size
                if self._left == 0:
                    acks += self._message()
        return acks

    def _stamp(self, data: bytes, at: i64, now_ns: i64) -> None:
        tally = self.tally
        if tally.measuring:
            due = read_i64_be(data, at)
            if due >= tally.measure_from and due <= now_ns:
                tally.latency.add(now_ns - due)
        if self._verify:
            tally.saw(self._queue, read_i64_be(data, at + 8), read_i64_be(data, at + 16))

    def _message(self) -> bytes:
        tally = self.tally
        tally.total_consumed += 1
        if tally.measuring:
            tally.consumed += 1
        if self.ack_every == 0:
            return b""
        self._unacked += 1
        if self._unacked < self.ack_every:
            return b""
        self._unacked = 0
        out = BytesWriter()
        out.write(b"\x01\x00\x01\x00\x00\x00\x0d\x00\x3c\x00\x50")
        write_i64_be(out, self._tag)
        out.append(1 if self.ack_every > 1 else 0)
        out.append(0xCE)
        return out.getvalue()


def refuse_close(reader: FrameReader, method: i64) -> None:
    """Raises Broken if the frame is a connection.close, channel.close or basic.cancel."""
    if method == spec.CONNECTION_CLOSE or method == spec.CHANNEL_CLOSE:
        at = reader.start + 7
        code = i64(read_i16_be(reader.data, reader.start + 4)) & 0xFFFF
        text = reader.data[at : at + i64(reader.data[at - 1])].decode("utf-8", "replace")
        raise Broken(f"the broker closed: {code} {text}")
    if method == spec.BASIC_CANCEL:
        raise Broken("the broker cancelled a consumer")
