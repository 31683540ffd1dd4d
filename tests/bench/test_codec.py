"""The codec: splitting a read into frames, looking at a content header, decoding a cold method."""

from __future__ import annotations

from broker.wire import properties, table
from broker.wire.frames import FrameReader
from broker.wire.methods import decode
from tests.bench.timing import ceiling, microseconds
from tests.support.wire import method, publish


def payload_of(frame: bytes) -> bytes:
    """A single frame's payload."""
    return frame[7:-1]


def test_frames_of_small_publishes() -> None:
    read = publish(1, "", "queue", b"x" * 24) * 2000
    frames = 0

    def run() -> None:
        nonlocal frames
        reader = FrameReader(131072)
        reader.feed(read)
        frames = 0
        while reader.next():
            frames += 1

    each = microseconds("frames.next", 6000, run)
    assert frames == 6000
    assert each < ceiling(1.0, 10.0)


def test_summary_of_a_header_with_headers() -> None:
    headers = table.encode({"tenant": "acme", "attempt": 3})
    raw = b"\xb0\x80" + b"\x10application/json" + len(headers).to_bytes(4, "big") + headers + b"\x02" + b"\x06id-123"
    end = len(raw)

    def run() -> None:
        for _ in range(20_000):
            properties.summarize(raw, 0, end)

    each = microseconds("properties.summarize", 20_000, run)
    assert properties.summarize(raw, 0, end).delivery_mode == 2
    assert each < ceiling(2.0, 30.0)


def test_decoding_a_declare() -> None:
    payload = payload_of(method(1, "queue.declare", queue="q", durable=True, arguments={"x-max-length": 1000}))

    def run() -> None:
        for _ in range(2_000):
            decode(payload, 0, len(payload))

    each = microseconds("methods.decode queue.declare", 2_000, run)
    assert decode(payload, 0, len(payload)).arguments.values == {"x-max-length": 1000}
    assert each < ceiling(100.0, 300.0)
