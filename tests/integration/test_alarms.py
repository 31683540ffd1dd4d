"""Alarms of a real node, seen by pika, Prometheus and health checks (RabbitMQ docs, Blocked Connections;
docs/alarms.md)."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pika
import pytest
from pika.exceptions import AMQPConnectionError

from broker.watermarks import UNKNOWN, resident_bytes
from tests.support import wait
from tests.support.node import Node

MEGABYTE = 1_000_000
ROOM = 30 * MEGABYTE
"""What a node may use beyond what it has when it is idle; less than a transient queue keeps in memory."""
BODY = 200_000
MESSAGES_MAX = 60

needs_proc = pytest.mark.skipif(
    resident_bytes() == UNKNOWN, reason="this system does not tell how much memory a process uses"
)


def ask(node: Node, path: str) -> tuple[int, Any]:
    """Status and JSON of a request to the management API."""
    request = urllib.request.Request(f"http://{node.host}:{node.ports['management']}{path}")
    request.add_header("Authorization", "Basic " + base64.b64encode(b"guest:guest").decode())
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def metrics(node: Node) -> dict[str, float]:
    """The page's values by their names."""
    with urllib.request.urlopen(f"http://{node.host}:{node.ports['prometheus']}/metrics", timeout=10) as page:
        lines = page.read().decode().splitlines()
    return {
        line.split("{")[0].split(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")
    }


class Publisher:
    """A connection that publishes, and what it is told."""

    def __init__(self, node: Node) -> None:
        self.connection = pika.BlockingConnection(
            pika.ConnectionParameters(node.host, node.port, blocked_connection_timeout=60)
        )
        self.channel: Any = self.connection.channel()
        self.blocked: list[str] = []
        self.unblocked = 0
        self.connection.add_on_connection_blocked_callback(lambda _, frame: self.blocked.append(frame.method.reason))
        self.connection.add_on_connection_unblocked_callback(lambda _, __: self._on_unblocked())

    def _on_unblocked(self) -> None:
        self.unblocked += 1

    def until(self, condition: Callable[[], bool], what: str) -> None:
        def asked() -> bool:
            self.connection.process_data_events(0.01)
            return condition()

        wait.until(asked, 10_000, what)


@needs_proc
def test_a_full_memory_stops_publishers_until_consumers_have_made_room() -> None:
    with Node() as node:
        base = int(Path(f"/proc/{node.pid}/statm").read_text().split()[1]) * 4096
        node.stop()
        node.settings = [
            f"vm_memory_high_watermark.absolute = {base + ROOM}",
            "memory_monitor_interval = 50",
            # Otherwise queues leave so much to the disk that there is no alarm.
            "vm_memory_high_watermark_paging_ratio = 1",
        ]
        node.start()
        publisher = Publisher(node)
        queues = [f"transient{number}" for number in range(8)]
        for queue in queues:
            publisher.channel.queue_declare(queue)
        assert ask(node, "/api/health/checks/alarms") == (200, {"status": "ok"})
        sent = 0
        while ask(node, "/api/health/checks/local-alarms")[0] == 200:
            # Without confirms: the last one may wait in the socket.
            publisher.channel.basic_publish("", queues[sent % 8], bytes(BODY))
            sent += 1
            assert sent * BODY < MESSAGES_MAX * MEGABYTE, f"no alarm after {sent} messages\n{node.output()}"
        # what waits in the socket is in the last one of them
        queues = [queues[(sent + number) % 8] for number in range(8)]
        publisher.channel.basic_publish("", queues[-1], b"last")
        publisher.until(lambda: publisher.blocked == ["low on memory"], "connection.blocked")
        (row,) = ask(node, "/api/nodes")[1]
        assert (row["mem_alarm"], row["disk_free_alarm"], row["mem_limit"]) == (True, False, base + ROOM)
        assert row["mem_used"] > base
        assert metrics(node)["rabbitmq_alarms_memory_used_watermark"] == 1
        assert publisher.unblocked == 0

        with pika.BlockingConnection(pika.ConnectionParameters(node.host, node.port)) as consuming:
            channel: Any = consuming.channel()
            channel.queue_declare("declared during the alarm")
            taken = 0
            for number, queue in enumerate(queues):
                left = (sent + number) // 8 + (number == 7)
                for _, _, body in channel.consume(queue, auto_ack=True, inactivity_timeout=10):
                    assert body is not None, f"{taken} of {sent} messages\n{node.output()}"
                    taken += 1
                    left -= 1
                    if left == 0:
                        assert body == (b"last" if number == 7 else bytes(BODY))
                        break
                channel.cancel()
            assert taken == sent + 1
        publisher.until(lambda: publisher.unblocked == 1, "connection.unblocked")
        assert ask(node, "/api/health/checks/alarms") == (200, {"status": "ok"})
        assert metrics(node)["rabbitmq_alarms_memory_used_watermark"] == 0
        publisher.channel.basic_publish("", queues[0], b"and on")
        publisher.connection.close()
        assert node.output().count("Alarm raised") == node.output().count("Alarm cleared") == 1, node.output()


@needs_proc
def test_both_alarms_at_once() -> None:
    """A node that may use no memory and wants more disk than there is: nothing can be published, all else works."""
    with Node(settings=["vm_memory_high_watermark.relative = 0", "disk_free_limit.absolute = 1000000TB"]) as node:
        publisher = Publisher(node)
        publisher.channel.queue_declare("q", durable=True)
        publisher.channel.basic_publish("", "q", b"taken before the broker stopped reading")
        publisher.until(lambda: bool(publisher.blocked), "connection.blocked")
        assert publisher.blocked == ["low on memory & low on disk"]
        with pika.BlockingConnection(pika.ConnectionParameters(node.host, node.port)) as other:
            channel: Any = other.channel()
            # its frames are taken if they have come in one read with the one that stopped the publisher
            assert channel.basic_get("q", auto_ack=True)[2] in (None, b"taken before the broker stopped reading")
        alarms = [{"node": ask(node, "/api/overview")[1]["node"], "resource": name} for name in ("memory", "disk")]
        assert ask(node, "/api/health/checks/alarms") == (
            503,
            {"status": "failed", "reason": "There are alarms in effect in the cluster", "alarms": alarms},
        )
        assert ask(node, "/api/health/checks/local-alarms")[1]["reason"] == "There are alarms in effect on the node"
        found = metrics(node)
        assert (found["rabbitmq_alarms_memory_used_watermark"], found["rabbitmq_alarms_free_disk_space_watermark"]) == (
            1,
            1,
        )
        assert found["rabbitmq_disk_space_available_limit_bytes"] == 1e18
        assert 0 < found["rabbitmq_disk_space_available_bytes"] < 1e18
        assert found["rabbitmq_process_resident_memory_bytes"] > MEGABYTE
        node.kill()  # a blocked connection is not read, so it cannot be closed in good order either
        with pytest.raises(AMQPConnectionError):
            publisher.until(lambda: False, "the end of the connection")


def test_a_node_with_its_defaults_has_no_alarm() -> None:
    with Node() as node:
        assert ask(node, "/api/health/checks/alarms") == (200, {"status": "ok"})
        (row,) = ask(node, "/api/nodes")[1]
        assert row == ask(node, f"/api/nodes/{row['name']}")[1] | {
            key: row[key] for key in ("uptime", "mem_used", "fd_used", "disk_free")
        }
        assert (row["mem_alarm"], row["disk_free_alarm"], row["disk_free_limit"]) == (False, False, 50_000_000)
        assert row["mem_limit"] > row["mem_used"] > 0
        assert row["disk_free"] > 50_000_000
        assert ask(node, "/api/nodes/other@host")[0] == 404
