"""A client beside the fuzz, in a thread of its own: its messages are never touched, and it never waits for long."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Final

from tests.fuzz.in_memory import KEPT
from tests.support.node import Node
from tests.support.wire import WireClient, method, publish

PAUSE_S: Final = 0.002
ROUND_TRIP_CAP_S: Final = 10.0
"""However busy the machine is."""
ROUND_TRIP_MAX_S: Final = 1.0
"""`scripts/soak stalls` wants 5 ms above a quiet node at the 99th percentile and 20 ms at the maximum, of an
undisturbed machine; here the fuzz takes all processors, and its own process holds up this thread. The time in which the
node or this process were ready to run, and had no processor, is taken off."""
BODIES: Final = (b"outstanding", b"first", b"second", b"third")


def kept_waiting_s(*pids: int) -> float:
    """How long the main threads of these processes have waited for a processor, since they began."""
    return sum(int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[1]) for pid in pids) / 1e9


class Bystander:
    """One connection with a durable queue, of which the head is held unacknowledged, and a queue for round trips.

    What it finds wrong is raised by `check`.
    """

    def __init__(self) -> None:
        self.slowest_s = 0.0
        self.late = 0
        """Round trips of more than 5 ms."""
        self.round_trips = 0
        self._failure: Exception | None = None
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._client: WireClient | None = None
        self._has_queue = False
        self._pid = 0

    def join(self, node: Node) -> None:
        """Connects; after a restart of the node its confirmed messages are there, in their order."""
        self._pid = node.pid
        client = self._client = WireClient(node.host, node.port)
        client.handshake()
        client.open_channel(1)
        client.open_channel(2)
        if not self._has_queue:
            client.ask(1, "queue.declare", queue=KEPT, durable=True)
            client.ask(1, "confirm.select")
            for number, body in enumerate(BODIES, 1):
                client.send(publish(1, "", KEPT, body, properties={"delivery_mode": 2}))
                assert client.expect("basic.ack")["delivery_tag"] == number
            self._has_queue = True
        found = [client.get(1, KEPT).body for _ in BODIES]
        assert found == list(BODIES), found
        client.send(*(method(1, "basic.reject", delivery_tag=tag, requeue=True) for tag in range(2, len(BODIES) + 1)))
        queue = client.ask(2, "queue.declare", exclusive=True).text("queue")
        client.ask(2, "basic.consume", queue="", consumer_tag="c", no_ack=True)
        self._ending.clear()
        self._thread = threading.Thread(target=self._run, args=(client, queue), name="bystander", daemon=True)
        self._thread.start()

    def leave(self) -> None:
        """Ends; the node may be gone already."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._client is not None:
            self._client.close()
            self._client = None

    def check(self) -> None:
        """Raises what went wrong, AssertionError if a round trip took too long."""
        if self._failure is not None:
            raise self._failure

    def _run(self, client: WireClient, queue: str) -> None:
        try:
            while not self._ending.wait(PAUSE_S):
                self._round_trip(client, queue)
                if self.round_trips % 50 == 0:
                    declared = client.ask(1, "queue.declare", queue=KEPT, passive=True)
                    assert declared["message_count"] == len(BODIES) - 1, declared
        except Exception as error:
            # of a node that was killed nothing is expected
            if not self._ending.is_set():
                self._failure = error

    def _round_trip(self, client: WireClient, queue: str) -> None:
        body = b"%d" % self.round_trips
        waited = kept_waiting_s(self._pid, os.getpid())
        began = time.monotonic()
        client.send(publish(2, "", queue, body))
        said = client.expect_said("basic.deliver", 2)
        took = time.monotonic() - began
        assert said.body == body, said
        if self._ending.is_set():
            return
        self.round_trips += 1
        self.slowest_s = max(self.slowest_s, took)
        self.late += took > 0.005
        if took > ROUND_TRIP_MAX_S:
            waited = kept_waiting_s(self._pid, os.getpid()) - waited
            assert took - waited < ROUND_TRIP_MAX_S and took < ROUND_TRIP_CAP_S, (  # noqa: PT018
                f"a message of somebody else took {took:.3f} s, {waited:.3f} of them without a processor"
            )
