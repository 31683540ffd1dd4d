"""Heartbeats against a real node that stands still for a while. Rule: AMQP 0-9-1 §4.2.7; RabbitMQ docs, Heartbeats."""

from __future__ import annotations

import os
import signal
import threading
from typing import Final

from tests.support import wait
from tests.support.node import Node
from tests.support.wire import WireClient, heartbeat

HEARTBEAT_S: Final = 1
PAUSE_S: Final = 3.5


def connect(node: Node, name: str) -> WireClient:
    """A client with short heartbeats."""
    client = WireClient(node.host, node.port)
    client.handshake(heartbeat_s=HEARTBEAT_S, properties={"connection_name": name})
    client.open_channel()
    return client


def test_a_node_that_was_stopped_keeps_the_clients_that_went_on() -> None:
    """SIGSTOP for longer than three intervals: their heartbeats wait in the sockets. One that was silent all the time
    is closed."""
    with Node() as node:
        clients = [connect(node, f"lively {number}") for number in range(20)]
        silent = connect(node, "silent")
        ended = threading.Event()

        def go_on() -> None:
            while not ended.wait(0.2):
                for client in clients:
                    client.send(heartbeat())

        beating = threading.Thread(target=go_on, daemon=True)
        beating.start()
        try:
            for _ in range(2):
                os.kill(node.pid, signal.SIGSTOP)
                ended.wait(PAUSE_S)
                os.kill(node.pid, signal.SIGCONT)
                wait.until(lambda: "Heartbeats missed" in node.output(), 10_000, "the silent client is judged")
                for client in clients:
                    client.ask(1, "basic.qos", prefetch_count=1)
        finally:
            os.kill(node.pid, signal.SIGCONT)
            ended.set()
            beating.join()
        lines = [line for line in node.output().splitlines() if "Heartbeats missed" in line]
        assert len(lines) == 1, node.output()
        assert "warning" in lines[0]
        assert "client=silent" in lines[0]
        assert "user=guest" in lines[0]
        assert f"timeout_s={HEARTBEAT_S}" in lines[0]
        for client in [*clients, silent]:
            client.close()
