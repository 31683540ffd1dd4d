"""A probe of a node's responsiveness, as a process of its own: _stall_probe.py HOST PORT publish|ask.

Once a millisecond it publishes one message of 8 bytes to a transient queue of its own, from which a consumer on the
same connection gets it back; with `ask`, it sends a basic.qos instead, which is answered. It is paced by the clock and
never waits for an answer, so a node that stands still for a second shows up as a thousand late round trips and not as
one. When its standard input ends it waits for the answers that are missing and prints a JSON list of [when sent,
microseconds until it was back], the first in nanoseconds of CLOCK_MONOTONIC, which all processes share.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from pathlib import Path
from typing import Final

sys.path.append(str(Path(__file__).resolve().parent.parent))

from tests.support.wire import WireClient, method, publish

PERIOD_NS: Final = 1_000_000
LAST_ANSWERS_S: Final = 60.0
QUEUE: Final = "stall-probe"


class Probe:
    """The connection, what was sent, and what has come back."""

    def __init__(self, host: str, port: int, publishes: bool = True) -> None:
        """Connects and consumes; nothing is published yet."""
        client = WireClient(host, port)
        client.handshake(capabilities={})  # none: a memory alarm must not be announced in between
        client.open_channel()
        client.ask(1, "queue.declare", queue=QUEUE, exclusive=True)
        client.ask(1, "basic.consume", queue=QUEUE, consumer_tag="p", no_ack=True)
        if publishes:
            self.message = publish(1, "", QUEUE, b"probe...")
            client.send(self.message)
            said = client.expect_said("basic.deliver")
            assert said.body == b"probe..."
            deliver = method(1, "basic.deliver", consumer_tag="p", delivery_tag=1, routing_key=QUEUE)
            self.delivery_size = len(deliver) + len(self.message) - len(method(1, "basic.publish", routing_key=QUEUE))
        else:
            self.message = method(1, "basic.qos")
            self.delivery_size = len(method(1, "basic.qos-ok"))
        self.socket = client.socket
        self.socket.setblocking(False)
        self.unsent = b""
        self.received = 0
        self.sent_ns: list[int] = []
        self.latencies_us: list[int] = []

    def publish(self) -> None:
        """One message; what the socket does not take now leaves with the next one."""
        self.sent_ns.append(time.monotonic_ns())
        data = self.unsent + self.message
        try:
            self.unsent = data[self.socket.send(data) :]
        except BlockingIOError:
            self.unsent = data

    def collect(self) -> None:
        """Takes the deliveries that have come: all are of one size, in the order of publishing."""
        piece = self.socket.recv(1 << 20)
        now = time.monotonic_ns()
        if not piece:
            raise SystemExit("the node has closed the probe's connection")
        self.received += len(piece)
        while (len(self.latencies_us) + 1) * self.delivery_size <= self.received:
            self.latencies_us.append((now - self.sent_ns[len(self.latencies_us)]) // 1000)

    def run(self) -> None:
        """Publishes once a millisecond until standard input ends, then waits for the rest."""
        due = time.monotonic_ns()
        while True:
            wait = max(0, due - time.monotonic_ns()) / 1e9
            ready, _, _ = select.select([self.socket, sys.stdin], [], [], wait)
            if self.socket in ready:
                self.collect()
            if sys.stdin in ready:
                break
            if time.monotonic_ns() >= due:
                self.publish()
                due += PERIOD_NS
        deadline = time.monotonic() + LAST_ANSWERS_S
        while len(self.latencies_us) < len(self.sent_ns) and time.monotonic() < deadline:
            sending = [self.socket] if self.unsent else []
            ready, writable, _ = select.select([self.socket], sending, [], 1.0)
            if writable:
                self.unsent = self.unsent[self.socket.send(self.unsent) :]
            if ready:
                self.collect()

    def samples(self) -> list[tuple[int, int]]:
        """What was measured; a message that never came back counts with the time it has been away."""
        now = time.monotonic_ns()
        missing = [(now - sent) // 1000 for sent in self.sent_ns[len(self.latencies_us) :]]
        return list(zip(self.sent_ns, self.latencies_us + missing, strict=True))


def main() -> None:
    """Measures until standard input ends."""
    probe = Probe(sys.argv[1], int(sys.argv[2]), sys.argv[3] == "publish")
    try:
        # What is measured is the node, not when this process gets a core.
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except (AttributeError, OSError):
        pass  # not allowed here: the baseline has the same share of it
    print("ready", flush=True)
    probe.run()
    print(json.dumps(probe.samples()))


if __name__ == "__main__":
    main()
