"""A client that reads nothing, against a real node. Rule: RabbitMQ docs, Networking (send_timeout);
docs/protocol.md."""

from __future__ import annotations

import time
from contextlib import closing

from tests.support import wait
from tests.support.node import Node
from tests.support.wire import WireClient, heartbeat, publish


def test_a_consumer_that_reads_nothing_but_sends_heartbeats_is_closed() -> None:
    """More waits for it than the system's buffers hold. One that reads, slowly, stays."""
    with (
        Node(settings=["tcp_listen_options.send_timeout = 1500"]) as node,
        closing(WireClient(node.host, node.port)) as publisher,
    ):
        publisher.handshake()
        publisher.open_channel()
        began = time.monotonic()
        clients = []
        for name in ("deaf", "slow"):
            client = WireClient(node.host, node.port)
            clients.append(client)
            client.handshake(heartbeat_s=2, properties={"connection_name": name})
            client.open_channel()
            client.ask(1, "queue.declare", queue=name)
            client.ask(1, "basic.consume", queue=name, no_ack=True)
            publisher.send(*(publish(1, "", name, b"x" * 100_000) for _ in range(400)))
        deaf, slow = clients

        def is_told() -> bool:
            deaf.send(heartbeat())
            slow.send(heartbeat())
            slow.read_bytes(20_000)
            return "Client does not read" in node.output()

        wait.until(is_told, 20_000, "the client is closed")
        assert time.monotonic() - began > 1.5
        (line,) = [line for line in node.output().splitlines() if "Client does not read" in line]
        assert "client=deaf" in line
        assert len(slow.read_bytes(1_000_000)) == 1_000_000
        for client in clients:
            client.close()
