"""Bodies on their way count as memory: a real node and real sockets (docs/alarms.md, "Bodies on their way")."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from pathlib import Path

import pika
import pytest

from broker.watermarks import UNKNOWN, resident_bytes
from tests.support import wait
from tests.support.memory import opening
from tests.support.node import Node
from tests.support.wire import body, header, method

MEGABYTE = 1_000_000
WATERMARK = 100 * MEGABYTE
BODY_SIZE = 20 * MEGABYTE
PUBLISHERS = 30
FRAME = bytes(131_064)
HEARTBEAT_S = 2
"""A blocked client that dies is noticed by the heartbeats sent to it: the end of its stream lies behind what is not
read."""

needs_proc = pytest.mark.skipif(
    resident_bytes() == UNKNOWN, reason="this system does not tell how much memory a process uses"
)


def message() -> bytes:
    """A persistent message for the queue, in frames of the size that is negotiated."""
    whole, rest = divmod(BODY_SIZE, len(FRAME))
    frames = [body(1, FRAME)] * whole + [body(1, bytes(rest))]
    return (
        method(1, "basic.publish", routing_key="bodies") + header(1, BODY_SIZE, {"delivery_mode": 2}) + b"".join(frames)
    )


class Publisher:
    """A client that sends one message as fast as it is taken."""

    def __init__(self, node: Node) -> None:
        self.socket = socket.create_connection((node.host, node.port), 10)
        self.socket.sendall(opening(heartbeat_s=HEARTBEAT_S) + method(1, "channel.open") + method(1, "confirm.select"))
        self.socket.setblocking(False)
        self.left = memoryview(message())
        self.said = b""

    def push(self) -> bool:
        """Sends what the socket takes and reads what was said; whether anything went."""
        with contextlib.suppress(BlockingIOError):
            self.said += self.socket.recv(65536)
        if not self.left:
            return False
        try:
            self.left = self.left[self.socket.send(self.left[:1_000_000]) :]
        except BlockingIOError:
            return False
        return True


def push_all(publishers: list[Publisher], quiet_s: float = 1.0, deadline_s: float = 30.0) -> None:
    """Every publisher sends until no socket has taken anything for so long."""
    started = last = time.monotonic()
    while time.monotonic() - last < quiet_s and time.monotonic() - started < deadline_s:
        pushed = [publisher.push() for publisher in publishers]
        if any(pushed):
            last = time.monotonic()
        else:
            select.select([], [publisher.socket for publisher in publishers if publisher.left], [], 0.01)


def peak(node: Node) -> int:
    """The most memory that the node ever had."""
    lines = Path(f"/proc/{node.pid}/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


@needs_proc
def test_thirty_bodies_at_once_stop_where_the_alarm_stands() -> None:
    """Peak: the watermark, 64 KiB a connection and one body. Consumers go on; when some give up, the others are taken
    whole."""
    settings = [f"vm_memory_high_watermark.absolute = {WATERMARK}"]
    with Node(settings=settings) as node, contextlib.ExitStack() as stack:
        channel = stack.enter_context(
            pika.BlockingConnection(pika.ConnectionParameters(node.host, node.port))
        ).channel()
        channel.queue_declare("bodies", durable=True)
        publishers = [Publisher(node) for _ in range(PUBLISHERS)]
        push_all(publishers)
        assert all(publisher.left for publisher in publishers), "nobody was stopped"
        allowed = WATERMARK + PUBLISHERS * 65536 + BODY_SIZE
        assert peak(node) <= allowed, f"{peak(node):,} of {allowed:,} bytes"
        assert all(b"low on memory" in publisher.said for publisher in publishers)
        assert channel.queue_declare("bodies", passive=True).method.message_count == 0
        for publisher in publishers[2:]:
            publisher.socket.close()
        waiting = publishers[:2]

        def taken() -> bool:
            push_all(waiting, 0.05, 1.0)
            return bool(channel.queue_declare("bodies", passive=True).method.message_count == 2)

        wait.until(taken, 30_000, "the other two are taken")
        assert peak(node) <= allowed, f"{peak(node):,} of {allowed:,} bytes"
        for publisher in waiting:
            publisher.socket.close()


@needs_proc
def test_half_a_body_goes_with_its_client_though_nobody_reads_it() -> None:
    """Without heartbeats: the loop does not see the end of a stream that it does not read."""
    with Node(settings=["vm_memory_high_watermark.relative = 0"]) as node:
        with socket.create_connection((node.host, node.port), 10) as client:
            client.sendall(
                opening()
                + method(1, "channel.open")
                + method(1, "basic.publish", routing_key="q")
                + header(1, BODY_SIZE)
            )
            client.settimeout(10)
            said = b""
            while b"low on memory" not in said:
                said += client.recv(65536)
            client.sendall(body(1, FRAME[:1000]))
            assert "Connection closed" not in node.output()
        wait.until(lambda: "Connection closed" in node.output(), 10_000, "the client is seen to have gone")
