"""`leveret perf` against a real node: what it reports must be true before anything is measured with it
(docs/benchmarks.md)."""

from __future__ import annotations

import json
import subprocess
import sys

import pika
import pytest

from tests.support.node import Node


def perf(node: Node, *options: str) -> dict[str, object]:
    """A short run."""
    command = [
        sys.executable,
        "-P",
        "-m",
        "broker",
        "perf",
        "--port",
        str(node.port),
        "--warmup",
        "0",
        "--seconds",
        "0.5",
    ]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=60, check=True)
    report: dict[str, object] = json.loads(done.stdout)
    return report


def waiting(node: Node) -> int:
    """Ready messages of its queue."""
    connection = pika.BlockingConnection(pika.ConnectionParameters(node.host, node.port))
    try:
        return int(connection.channel().queue_declare("leveret-perf", passive=True).method.message_count)
    finally:
        connection.close()


@pytest.mark.parametrize("durable", [[], ["--durable", "--persistent"]], ids=["transient", "durable"])
def test_a_backlog_is_kept_and_consumed(node: Node, durable: list[str]) -> None:
    """What --keep has left waits; consumers get all of it, also what comes right behind consume-ok."""
    perf(node, "--verify", "--consumers", "0", "--confirm", "500", "--rate", "8000", "--keep", *durable)
    count = waiting(node)
    assert 1000 < count < 8000
    for _ in range(3):
        perf(node, "--producers", "0", "--ack", "1", "--keep", *durable)
        if not waiting(node):
            break
    assert waiting(node) == 0
    report = perf(node, "--verify", "--rate", "100", *durable)
    assert (report["lost"], report["doubled_or_reordered"]) == (0, 0)
